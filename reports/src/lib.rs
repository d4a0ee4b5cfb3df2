//! Records, the store of them, the statistics, the comparison with its flags, and the renderers.
//!
//! A report is a pure function of stored rows: but for the store, which is a file, nothing here touches the host. Runners are
//! known by the facts that they state, and their names are only shown.

pub mod comparison;
#[cfg(test)]
mod example;
pub mod record;
pub mod render;
pub mod statistics;
pub mod store;
