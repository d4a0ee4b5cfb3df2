//! `tarebench compare`: two runs of one suite, on one machine or on two.

use std::path::Path;

use anyhow::{Context, anyhow};
use reports::between::between;
use reports::comparison::{Comparison, Method, compare};
use reports::render::between::{FORMATS, Format};
use reports::store::Store;
use workloads::settings::did_you_mean;

use crate::cli;
use crate::commands::{hand_out, is_stdout};
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
    match (&args.format, &args.output) {
        (Some(name), _) => by_name(name),
        (None, Some(path)) if !is_stdout(path) => by_ending(path),
        (None, _) => by_name("text"),
    }
}

fn by_name(name: &str) -> anyhow::Result<&'static Format> {
    FORMATS.iter().find(|f| f.name == name).with_context(|| {
        format!("`compare` has no format `{name}`; {}", did_you_mean(name, FORMATS.iter().map(|f| f.name)))
    })
}

/// What isn't known is refused: a file of Markdown with something else in it helps nobody.
fn by_ending(path: &Path) -> anyhow::Result<&'static Format> {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or("");
    FORMATS.iter().find(|f| f.extension == ending).with_context(|| {
        let endings: Vec<String> = FORMATS.iter().map(|f| format!(".{}", f.extension)).collect();
        let endings = endings.join(", ");
        format!(
            "the ending of {} says no format of `compare`; the endings are {endings}; or say --format",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_says_the_format_and_an_unknown_one_what_there_is() {
        for (file, name) in [("x.txt", "text"), ("a/x.json", "json"), ("x.y.html", "html")] {
            assert_eq!(by_ending(Path::new(file)).expect(file).name, name);
        }
        for file in ["x.md", "x", "html"] {
            let error = by_ending(Path::new(file)).expect_err(file).to_string();
            assert!(error.contains(".txt, .json, .html; or say --format"), "{error}");
        }
    }
}
