//! `tarebench report`: draws a stored run again.

use std::io::IsTerminal;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use reports::comparison::{Comparison, Method, compare};
use reports::render::{self, Format, Render};
use reports::store::Store;

use crate::cli;
use crate::exit::{Exit, OrExit};

/// Loads the run, compares, renders.
pub fn run(args: cli::Report) -> anyhow::Result<Exit> {
    let format = match (&args.format, &args.output) {
        (Some(name), _) => by_name(name),
        (None, Some(path)) => by_ending(path).map_err(|e| anyhow!("{e}; or say --format")),
        (None, None) => by_name("terminal"),
    }
    .or_exit(Exit::Usage)?;
    let store = Store::open_existing(&args.store.store).or_exit(Exit::Store)?;
    let id = store.find(&args.run).or_exit(Exit::Usage)?;
    let stored = store.load(&id).or_exit(Exit::Store)?;
    let bytes = bytes(&compare(&stored, Method::default()), format)?;
    match &args.output {
        Some(path) => std::fs::write(path, bytes)
            .with_context(|| format!("can't write {}", path.display()))
            .or_exit(Exit::Host)?,
        None => std::io::Write::write_all(&mut std::io::stdout(), &bytes).context("can't write to stdout")?,
    }
    Ok(Exit::Done)
}

/// Renders; the terminal format has colours where a person looks at it.
pub fn bytes(comparison: &Comparison, format: &Format) -> anyhow::Result<Vec<u8>> {
    if format.name == "terminal" {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        return render::terminal::Terminal { colour }.render(comparison).context("can't render the terminal's report");
    }
    format.renderer.render(comparison).with_context(|| format!("can't render {}", format.name))
}

fn by_name(name: &str) -> anyhow::Result<&'static Format> {
    let names = || render::formats().iter().map(|f| f.name);
    render::find(name).with_context(|| match workloads::settings::nearest(name, names()) {
        Some(near) => format!("there is no format `{name}`; did you mean `{near}`?"),
        None => format!("there is no format `{name}`; there are {}", names().collect::<Vec<_>>().join(", ")),
    })
}

/// The format that a file's ending stands for.
///
/// # Errors
/// When no format has it.
pub fn by_ending(path: &Path) -> anyhow::Result<&'static Format> {
    let ending = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    match render::by_extension(ending) {
        Some(format) => Ok(format),
        None => {
            let mut endings: Vec<_> = render::formats().iter().map(|f| format!(".{}", f.extension)).collect();
            endings.sort();
            endings.dedup();
            bail!("the ending of {} says no format; the endings are {}", path.display(), endings.join(", "))
        }
    }
}

/// Name, ending and meaning of every format, for `--help` and the documents.
pub fn table() -> String {
    let width = render::formats().iter().map(|f| f.name.len()).max().unwrap_or(0);
    let line = |f: &Format| format!("  {:width$}  .{:5}  {}", f.name, f.extension, f.about);
    render::formats().iter().map(line).collect::<Vec<_>>().join("\n")
}
