//! `tarebench trend`: what a suite cost from run to run.

use reports::render::html::trend::page;
use reports::store::Store;
use reports::trend::text;

use crate::cli;
use crate::commands::hand_out;
use crate::exit::{Exit, OrExit};

/// Loads a history, and draws it on the terminal or as a page.
pub fn run(args: cli::Trend) -> anyhow::Result<Exit> {
    let store = Store::open_existing(&args.store.store).or_exit(Exit::Store)?;
    let id = store.find(&args.run).or_exit(Exit::Usage)?;
    let trend = store.trend(&id).or_exit(Exit::Store)?;
    let drawn = if args.output.is_some() { page(&trend)? } else { text(&trend).into_bytes() };
    hand_out(&drawn, args.output.as_deref())?;
    Ok(Exit::Done)
}
