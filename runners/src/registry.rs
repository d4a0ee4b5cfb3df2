//! All runners. A new one is one new file and one line here.

use crate::Runner;
use crate::bare::Bare;
use crate::bubblewrap::Bubblewrap;
use crate::chroot::Chroot;
use crate::crun::Crun;
use crate::docker::Docker;
use crate::exec::Exec;
use crate::firejail::Firejail;
use crate::gvisor::Gvisor;
use crate::lxc::Lxc;
use crate::namespaces::Namespaces;
use crate::nspawn::Nspawn;
use crate::podman::Podman;
use crate::qemu::Qemu;
use crate::runc::Runc;
use crate::runtime::Oci;
use crate::ssh::Ssh;

/// Every runner, in the order in which lists and reports show them.
pub static RUNNERS: &[&dyn Runner] = &[
    &Bare,
    &Chroot,
    &Namespaces,
    &Bubblewrap,
    &Firejail,
    &Nspawn,
    &Lxc,
    &Runc,
    &Crun,
    &Oci,
    &Gvisor,
    &Podman,
    &Docker,
    &Qemu,
    &Exec,
    &Ssh,
];

/// The runner of this name.
pub fn find(name: &str) -> Option<&'static dyn Runner> {
    RUNNERS.iter().copied().find(|r| r.name() == name)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Every source file of this crate, folders included.
    fn sources(folder: &Path) -> Vec<String> {
        let mut all = Vec::new();
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                all.extend(sources(&entry.path()));
            } else {
                all.push(fs::read_to_string(entry.path()).unwrap());
            }
        }
        all
    }

    #[test]
    fn every_runner_is_registered_once() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        // Put together here, so that this file doesn't count.
        let mark = format!("\nimpl Runner {} ", "for");
        let written: usize = sources(&folder).iter().map(|s| s.matches(&mark).count()).sum();
        assert_eq!(written, RUNNERS.len(), "a runner is written but not in RUNNERS, or the other way round");
        for runner in RUNNERS {
            assert_eq!(find(runner.name()).unwrap().name(), runner.name());
            assert_eq!(RUNNERS.iter().filter(|r| r.name() == runner.name()).count(), 1);
            assert!(!runner.about().is_empty() && !runner.about().ends_with('.'));
        }
    }
}
