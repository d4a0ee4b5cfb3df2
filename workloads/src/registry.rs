//! All workloads. A new one is one new file and one line here.

use crate::Workload;

/// Every workload, in the order in which lists and reports show them.
pub static WORKLOADS: &[&dyn Workload] = &[];

/// The workload of this name.
pub fn find(name: &str) -> Option<&'static dyn Workload> {
    WORKLOADS.iter().copied().find(|w| w.name() == name)
}
