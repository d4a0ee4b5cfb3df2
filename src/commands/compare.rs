//! `tarebench compare`: two runs of one suite, on one machine or on two.

use anyhow::{Context, anyhow};
use reports::between::between;
use reports::comparison::{Comparison, Method, compare};
use reports::render::between::{FORMATS, Format};
use reports::store::Store;
use workloads::settings::did_you_mean;

use crate::cli;
use crate::commands::hand_out;
use crate::exit::{Exit, OrExit};

/// Loads both, holds them against each other, renders.
pub fn run(args: cli::Compare) -> anyhow::Result<Exit> {
    let format = format(&args).or_exit(Exit::Usage)?;
    let store = Store::open_existing(&args.store.store).or_exit(Exit::Store)?;
    let (first, second) = (load(&store, &args.first)?, load(&store, &args.second)?);
    let both = between(first, second).map_err(|problem| anyhow!(problem)).or_exit(Exit::Usage)?;
    let bytes = format.renderer.render(&both).with_context(|| format!("can't render {}", format.name))?;
    hand_out(&bytes, args.output.as_deref())?;
    Ok(Exit::Done)
}

fn load(store: &Store, wanted: &str) -> anyhow::Result<Comparison> {
    let id = store.find(wanted).or_exit(Exit::Usage)?;
    Ok(compare(&store.load(&id).or_exit(Exit::Store)?, Method::default()))
}

/// As it was named, else by the ending of the file, else text.
fn format(args: &cli::Compare) -> anyhow::Result<&'static Format> {
    let ending = args.output.as_ref().and_then(|path| path.extension()).and_then(|ending| ending.to_str());
    let of_file = ending.filter(|ending| FORMATS.iter().any(|f| f.name == *ending));
    let name = args.format.as_deref().or(of_file).unwrap_or("text");
    FORMATS.iter().find(|f| f.name == name).with_context(|| {
        format!("`compare` has no format `{name}`; {}", did_you_mean(name, FORMATS.iter().map(|f| f.name)))
    })
}
