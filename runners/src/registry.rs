//! All runners. A new one is one new file, its `mod` line and one line here.

use crate::boxes::bare::Bare;
use crate::boxes::jail::Jail;
use crate::boxes::there::exec::Exec;
use crate::boxes::there::ssh::Ssh;
#[cfg(target_os = "linux")]
use crate::boxes::{managed, oci, own, sandbox, vm};
#[cfg(not(target_os = "linux"))]
use crate::elsewhere::NeedsLinux;
use crate::launch::Runner;

/// A runner that needs Linux: on other systems its name alone is known, and it is absent.
#[cfg(target_os = "linux")]
macro_rules! linux {
    ($name:literal, $runner:path) => {
        &$runner
    };
}
#[cfg(not(target_os = "linux"))]
macro_rules! linux {
    ($name:literal, $runner:path) => {
        &NeedsLinux($name)
    };
}

/// Every runner, in the order in which lists and reports show them.
pub static RUNNERS: &[&dyn Runner] = &[
    &Bare,
    linux!("chroot", own::chroot::Chroot),
    linux!("namespaces", own::namespaces::Namespaces),
    linux!("bubblewrap", sandbox::bubblewrap::Bubblewrap),
    linux!("firejail", sandbox::firejail::Firejail),
    linux!("nspawn", sandbox::nspawn::Nspawn),
    linux!("lxc", sandbox::lxc::Lxc),
    linux!("runc", oci::runc::Runc),
    linux!("crun", oci::crun::Crun),
    linux!("oci", oci::Oci),
    linux!("gvisor", oci::gvisor::Gvisor),
    linux!("podman", managed::podman::Podman),
    linux!("docker", managed::docker::Docker),
    linux!("nerdctl", managed::nerdctl::Nerdctl),
    linux!("qemu", vm::qemu::Qemu),
    linux!("uml", vm::uml::Uml),
    linux!("firecracker", vm::firecracker::Firecracker),
    linux!("cloud-hypervisor", vm::cloud_hypervisor::CloudHypervisor),
    linux!("xen", vm::xen::Xen),
    &Exec,
    &Ssh,
    &Jail,
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

    /// The name stands in for the runner on other systems, which are not compiled here.
    #[test]
    fn a_runner_has_the_same_name_on_every_system() {
        let text = include_str!("registry.rs");
        let lines = text.lines().filter_map(|l| l.trim().strip_prefix("linux!(\"")?.split_once("\", "));
        let written: Vec<(&str, &str)> = lines.collect();
        assert!(written.len() > 10, "the lines of the table are read");
        for (name, kind) in written {
            let kind = kind.rsplit("::").next().and_then(|k| k.strip_suffix("),")).expect("a path ends the line");
            assert_eq!(format!("{:?}", find(name).expect(name)), kind, "the line of {name} names another runner");
        }
    }
}
