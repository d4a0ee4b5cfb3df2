//! `tarebench trend`: what a suite cost from run to run.

use std::path::Path;

use anyhow::bail;
use reports::render::html::trend::page;
use reports::store::Store;
use reports::trend::text;

use crate::cli;
use crate::commands::hand_out;
use crate::exit::{Exit, OrExit};

/// Loads a history, and draws it on the terminal or as a page.
pub fn run(args: cli::Trend) -> anyhow::Result<Exit> {
    args.output.as_deref().map_or(Ok(()), check_ending).or_exit(Exit::Usage)?;
    let store = Store::open_existing(&args.store.store).or_exit(Exit::Store)?;
    let id = store.find(&args.run).or_exit(Exit::Usage)?;
    let trend = store.trend(&id).or_exit(Exit::Store)?;
    let drawn = if args.output.is_some() { page(&trend)? } else { text(&trend).into_bytes() };
    hand_out(&drawn, args.output.as_deref())?;
    Ok(Exit::Done)
}

/// A page is all that is written: another ending promises something else. A file without one, as a pipe may be, promises nothing.
fn check_ending(path: &Path) -> anyhow::Result<()> {
    if path.extension().is_some_and(|ending| ending != "html") {
        bail!("`trend` writes a page: {} has to end in .html; without --output it prints text", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_page_is_written() {
        assert!(["x.html", "a.b/x.y.html", "/dev/stdout"].iter().all(|file| check_ending(Path::new(file)).is_ok()));
        let error = check_ending(Path::new("x.svg")).expect_err("a picture").to_string();
        assert!(error.contains("x.svg has to end in .html"), "{error}");
    }
}
