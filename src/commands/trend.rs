//! `tarebench trend`: what a suite cost from run to run.

use anyhow::Context;
use reports::render::html::trend::page;
use reports::store::Store;
use reports::trend::text;

use crate::cli;
use crate::commands::print;
use crate::exit::{Exit, OrExit};

/// Loads a history, and draws it on the terminal or as a page.
pub fn run(args: cli::Trend) -> anyhow::Result<Exit> {
    let store = Store::open_existing(&args.store.store).or_exit(Exit::Store)?;
    let id = store.find(&args.run).or_exit(Exit::Usage)?;
    let trend = store.trend(&id).or_exit(Exit::Store)?;
    match &args.output {
        None => print(&text(&trend))?,
        Some(path) => std::fs::write(path, page(&trend)?)
            .with_context(|| format!("can't write {}", path.display()))
            .or_exit(Exit::Host)?,
    }
    Ok(Exit::Done)
}
