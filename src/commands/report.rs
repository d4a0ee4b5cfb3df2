//! `tarebench report`: draws a stored run again.

use std::path::Path;

use anyhow::{Context, anyhow, bail};
use reports::comparison::{Comparison, Method, compare};
use reports::render::terminal::{self, Terminal};
use reports::render::{self, Format, Render};
use reports::store::Store;
use terminal_size::Width;
use workloads::settings::did_you_mean;

use crate::cli;
use crate::commands::{hand_out, is_stdout, print};
use crate::exit::{Exit, OrExit};

/// Loads the run, compares, renders.
pub fn run(args: cli::Report) -> anyhow::Result<Exit> {
    let file = args.output.as_deref().filter(|file| !is_stdout(file));
    let format = match (&args.format, file) {
        (Some(name), _) => by_name(name),
        (None, Some(path)) => by_ending(path).map_err(|e| anyhow!("{e}; or say --format")),
        (None, None) => by_name("terminal"),
    }
    .or_exit(Exit::Usage)?;
    let store = Store::open_existing(&args.store.store).or_exit(Exit::Store)?;
    let id = store.find(&args.run).or_exit(Exit::Usage)?;
    let stored = store.load(&id).or_exit(Exit::Store)?;
    let comparison = compare(&stored, Method::default());
    if file.is_none() && format.name == "terminal" {
        print_for_terminal(&comparison)?;
        return Ok(Exit::Done);
    }
    let bytes = bytes(&comparison, format)?;
    hand_out(&bytes, file)?;
    Ok(Exit::Done)
}

/// Renders for a file.
pub fn bytes(comparison: &Comparison, format: &Format) -> anyhow::Result<Vec<u8>> {
    format.renderer.render(comparison).with_context(|| format!("can't render {}", format.name))
}

/// Prints the report for a terminal: as wide as it is, and with colours where a person looks at it who wants them.
pub fn print_for_terminal(comparison: &Comparison) -> anyhow::Result<()> {
    print(&String::from_utf8_lossy(&looked_at().render(comparison).context("can't render the terminal's report")?))
}

fn looked_at() -> Terminal {
    const WIDEST: u16 = 140;
    let set = |name: &str| std::env::var(name).is_ok_and(|value| !value.is_empty());
    let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
    let Some((Width(width), _)) = terminal_size::terminal_size_of(std::io::stdout()) else {
        return Terminal { colour: false, width: terminal::WIDTH };
    };
    // One that doesn't know its size says 0.
    let width = if width == 0 { terminal::WIDTH } else { usize::from(width.min(WIDEST)).max(terminal::NARROWEST) };
    Terminal { colour: !set("NO_COLOR") && !dumb, width }
}

fn by_name(name: &str) -> anyhow::Result<&'static Format> {
    render::find(name).with_context(|| {
        format!("there is no format `{name}`; {}", did_you_mean(name, render::formats().iter().map(|f| f.name)))
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
