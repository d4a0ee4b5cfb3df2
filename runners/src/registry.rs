//! All runners. A new one is one new file and one line here.

use crate::Runner;
#[cfg(not(target_os = "linux"))]
use crate::absent::NeedsLinux;
use crate::bare::Bare;
use crate::exec::Exec;
use crate::jail::Jail;
use crate::ssh::Ssh;
#[cfg(target_os = "linux")]
use crate::{
    bubblewrap::Bubblewrap, chroot::Chroot, cloud_hypervisor::CloudHypervisor, crun::Crun, docker::Docker,
    firecracker::Firecracker, firejail::Firejail, gvisor::Gvisor, lxc::Lxc, namespaces::Namespaces, nerdctl::Nerdctl,
    nspawn::Nspawn, podman::Podman, qemu::Qemu, runc::Runc, runtime::Oci, uml::Uml, xen::Xen,
};

/// Every runner, in the order in which lists and reports show them.
#[cfg(target_os = "linux")]
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
    &Nerdctl,
    &Qemu,
    &Uml,
    &Firecracker,
    &CloudHypervisor,
    &Xen,
    &Exec,
    &Ssh,
    &Jail,
];

/// The same names where the kernel isn't Linux; most are absent there.
#[cfg(not(target_os = "linux"))]
pub static RUNNERS: &[&dyn Runner] = &[
    &Bare,
    &NeedsLinux("chroot"),
    &NeedsLinux("namespaces"),
    &NeedsLinux("bubblewrap"),
    &NeedsLinux("firejail"),
    &NeedsLinux("nspawn"),
    &NeedsLinux("lxc"),
    &NeedsLinux("runc"),
    &NeedsLinux("crun"),
    &NeedsLinux("oci"),
    &NeedsLinux("gvisor"),
    &NeedsLinux("podman"),
    &NeedsLinux("docker"),
    &NeedsLinux("nerdctl"),
    &NeedsLinux("qemu"),
    &NeedsLinux("uml"),
    &NeedsLinux("firecracker"),
    &NeedsLinux("cloud-hypervisor"),
    &NeedsLinux("xen"),
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
}
