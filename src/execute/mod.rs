//! Carries out a plan: blocks with fresh starts, rounds in random order, every record in the store as soon as it exists.

mod believe;
mod block;
mod decide;
mod execution;
mod progress;
mod round;
mod seat;
pub mod set_up;
#[cfg(test)]
mod tests;

use std::time::Instant;

use reports::record::{Ending, Run, Stored};
use reports::store::Store;

use crate::exit::{Exit, OrExit};
use crate::interrupt::Interrupt;
use crate::plan::Plan;
use block::Block;
use execution::{Execution, Rows};
use progress::Progress;
use seat::Site;
pub use set_up::Options;

/// Measures, and gives back the rows as they stand in the store. After an interruption they are what was finished.
///
/// # Errors
/// When the host does not allow it, the baseline can't run, or the store can't be written; with the exit code.
pub fn measure(plan: &Plan, options: Options, store: &Store, interrupt: &Interrupt) -> anyhow::Result<Stored> {
    let began = Instant::now();
    let (run, site) = set_up::set_up(plan, options, interrupt)?;
    record(plan, &run, store, site, Progress::on_terminal(), began)
}

/// Carries out a plan and keeps it in the store as `run`, however it ends.
fn record(
    plan: &Plan,
    run: &Run,
    store: &Store,
    site: impl Site,
    progress: Progress,
    began: Instant,
) -> anyhow::Result<Stored> {
    store.begin(run).or_exit(Exit::Store)?;
    let ending = carry_out(plan, Rows::of(&run.id, store), site, progress);
    // Even after an error the rows that exist are a run: say how it ended, then report the error.
    let ended =
        store.finish(&run.id, *ending.as_ref().unwrap_or(&Ending::Interrupted), None, began.elapsed().as_secs_f64());
    ending?;
    ended.or_exit(Exit::Store)?;
    store.load(&run.id).or_exit(Exit::Store)
}

/// All blocks, or as many as there was time for.
///
/// # Errors
/// When the store can't be written. What fails in an environment is a row, not an error.
fn carry_out(plan: &Plan, rows: Rows, site: impl Site, progress: Progress) -> anyhow::Result<Ending> {
    let mut execution = Execution::new(plan, rows, site, progress);
    for block in 0..plan.suite.blocks {
        if execution.site.interrupted() || (block > 0 && execution.over_budget()) {
            return Ok(Ending::Interrupted);
        }
        Block::carry_out(&mut execution, block)?;
    }
    Ok(if execution.site.interrupted() { Ending::Interrupted } else { Ending::Complete })
}
