//! A command of the user's own as a workload.

mod child;
mod left;
pub mod run;

pub(crate) use left::kill_all;

/// The environment variable that everything started for a run has, with the run's id: it is inherited by what a process starts,
/// wherever that goes, and nobody else sets it. Engines may take it away from their own children.
pub const RUN: &str = "TAREBENCH_RUN";
