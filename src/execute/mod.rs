//! Carries out a plan: blocks with fresh starts, rounds in random order, every record in the store as soon as it exists.

mod believe;
mod block;
mod decide;
mod execution;
mod forecast;
mod progress;
pub mod resume;
mod round;
mod seat;
pub mod set_up;
mod stop;
mod tenant;
#[cfg(test)]
mod tests;

use std::time::Instant;

use reports::calibration;
use reports::record::{CALIBRATED, Run, Stored};
use reports::store::Store;

use crate::exit::{Exit, OrExit};
use crate::interrupt::Interrupt;
use crate::live::Live;
use crate::plan::Plan;
use block::Block;
pub use decide::{as_a_whole, whole_limit};
use execution::{Execution, Rows};
use progress::Progress;
use resume::Before;
use seat::Site;
pub use set_up::Options;
use stop::{Looks, Over};
pub use tenant::PASS;

/// Measures, and gives back the rows as they stand in the store. After an interruption they are what was finished.
///
/// # Errors
/// When the host does not allow it, the baseline can't run, or the store can't be written; with the exit code.
pub fn measure(plan: &Plan, options: Options, store: &Store, interrupt: &Interrupt) -> anyhow::Result<Stored> {
    let (mut run, site) = set_up::set_up(plan, options, interrupt)?;
    run.host.extend(calibrated(&run, store)?);
    let _live = Live::take(&run.id)?;
    record(plan, &run, store, site, Progress::on_terminal())
}

/// The fact of the host that it was calibrated before, as far as workloads of this run were.
fn calibrated(run: &Run, store: &Store) -> anyhow::Result<Option<(String, String)>> {
    let all = store.calibrations(&calibration::host(&run.host)).or_exit(Exit::Store)?;
    let workloads: Vec<&str> = run.workloads.iter().map(|workload| workload.name.as_str()).collect();
    Ok(calibration::of_run(&all, &run.suite, &workloads).map(|words| (CALIBRATED.to_string(), words)))
}

/// Carries out a plan and keeps it in the store as `run`, however it ends.
fn record(plan: &Plan, run: &Run, store: &Store, site: impl Site, progress: Progress) -> anyhow::Result<Stored> {
    store.begin(run).or_exit(Exit::Store)?;
    finish(plan, Rows::of(&run.id, store), Before::default(), site, progress)
}

/// Carries out what is left of a run that the store knows, and keeps how it ended.
fn finish(plan: &Plan, rows: Rows, before: Before, site: impl Site, progress: Progress) -> anyhow::Result<Stored> {
    let (began, so_far) = (Instant::now(), before.seconds);
    let over = carry_out(plan, rows, before, site, progress);
    // Even after an error the rows that exist are a run: say how it ended, then report the error.
    let ended = rows.finish(over.as_ref().unwrap_or(&Over::INTERRUPTED), so_far + began.elapsed().as_secs_f64());
    over?;
    ended?;
    rows.load()
}

/// All blocks, or as many as it takes to be sure enough, or as many as there was time for.
///
/// # Errors
/// When the store can't be written. What fails in an environment is a row, not an error.
fn carry_out(plan: &Plan, rows: Rows, before: Before, site: impl Site, progress: Progress) -> anyhow::Result<Over> {
    let first = before.blocks;
    let mut execution = Execution::new(plan, rows, before, site, progress);
    let over = blocks(&mut execution, first);
    execution.tell_voids();
    over
}

fn blocks<S: Site>(execution: &mut Execution<'_, S>, first: u32) -> anyhow::Result<Over> {
    let last = execution.plan.suite.blocks;
    let mut looks = Looks::of(execution.plan);
    for block in first..last {
        if execution.site.interrupted() {
            return Ok(Over::INTERRUPTED);
        }
        if let Some(budget) = execution.spent().filter(|_| block > first) {
            return Ok(looks.spent(budget, block, last));
        }
        Block::carry_out(execution, block)?;
        if let Some(over) = looks.enough(&execution.rows, block + 1)?.filter(|_| !execution.site.interrupted()) {
            return Ok(over);
        }
    }
    Ok(if execution.site.interrupted() { Over::INTERRUPTED } else { looks.all_done(last) })
}
