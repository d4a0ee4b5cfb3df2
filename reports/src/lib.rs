//! What it means: the store, the statistics, the comparison, the flags and the renderers.
//!
//! Everything here is a pure function of stored rows; nothing touches the host. Runners and engines are only names to this crate.

pub mod comparison;
#[doc(hidden)]
pub mod example;
pub(crate) mod flags;
pub mod record;
pub mod render;
pub mod statistics;
pub mod store;
