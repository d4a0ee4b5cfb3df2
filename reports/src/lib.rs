//! Records, the store of them, the statistics, the comparison with its flags, and the renderers.
//!
//! A report is a pure function of stored rows: nothing here touches the host but for the files that the store and imports are. Runners are
//! known by the facts that they state, and their names are only shown.

pub mod between;
pub mod calibration;
pub mod comparison;
#[cfg(test)]
mod example;
pub mod explain;
pub mod gate;
pub mod import;
pub mod record;
pub mod render;
pub mod statistics;
pub mod store;
pub mod trend;
