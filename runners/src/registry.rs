//! All runners. A new one is one new file and one line here.

use crate::Runner;
use crate::bare::Bare;
use crate::bubblewrap::Bubblewrap;
use crate::gvisor::Gvisor;
use crate::podman::Podman;
use crate::qemu::Qemu;
use crate::runc::Runc;

/// Every runner, in the order in which lists and reports show them.
pub static RUNNERS: &[&dyn Runner] = &[&Bare, &Bubblewrap, &Runc, &Gvisor, &Podman, &Qemu];

/// The runner of this name.
pub fn find(name: &str) -> Option<&'static dyn Runner> {
    RUNNERS.iter().copied().find(|r| r.name() == name)
}
