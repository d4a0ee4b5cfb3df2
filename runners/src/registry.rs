//! All runners. A new one is one new file and one line here.

use crate::Runner;
use crate::bare::Bare;
use crate::qemu::Qemu;

/// Every runner, in the order in which lists and reports show them.
pub static RUNNERS: &[&dyn Runner] = &[&Bare, &Qemu];

/// The runner of this name.
pub fn find(name: &str) -> Option<&'static dyn Runner> {
    RUNNERS.iter().copied().find(|r| r.name() == name)
}
