//! Virtual machines. Their runners share the kernel and the initramfs that a guest boots, its data disk and its path to the
//! peer, with the settings for these.

pub(crate) mod arch;
pub mod cloud_hypervisor;
pub mod firecracker;
mod image;
mod initramfs;
pub(crate) mod kernel;
mod nfs;
pub mod qemu;
pub mod uml;
pub mod xen;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use sha2::{Digest, Sha256};
use workloads::init::Orders;
use workloads::settings::{Bytes, CommandLine, Kind, Setting, SettingError, Value as _};
use workloads::{settings, words};

use crate::fingerprint;
use crate::host::{Host, Resources};
use crate::path::PathToPeer;
use crate::process::Program;
use crate::stage::Stage;
use crate::unavailable::Unavailable;
use arch::Arch;
use image::{Allocation, Format};
use initramfs::Boot;
use kernel::Kernel;

/// How large the data disk is.
pub(crate) const DISK_SIZE: Setting = Setting::new("disk.size", Bytes::KIND)
    .with_about("Size of the data disk; all of it is written once before the first start")
    .with_bounds(32 << 20..=1 << 40)
    .with_default("512MiB");

/// The kernel that the guest boots.
pub(crate) const KERNEL: Setting = Setting::new("kernel", Kind::File).with_about(
    "The guest's kernel, a bzImage, an Image (Arm) or an ELF file; empty for the best that is installed, cloud kernels first",
);

/// More words for the guest's kernel.
pub(crate) const APPEND: Setting = Setting::new("append", CommandLine::KIND).with_about(
    "More words on the guest's kernel command line, as in mitigations=off; what our own init or the limits of the suite need is \
     refused",
);

/// Words of a kernel command line that are not for others to set: they lead to our init, to the lines that carry its words, or to CPUs
/// and memory, which the suite says.
const RESERVED: &[&str] = &[
    "init",
    "rdinit",
    "root",
    "rootfstype",
    "rootflags",
    "ro",
    "rw",
    "initrd",
    "noinitrd",
    "console",
    "panic",
    "reboot",
    "noreboot",
    "mem",
    "maxcpus",
    "nr_cpus",
    "nosmp",
    "con",
    "con0",
    "ssl",
    "ssl0",
    "uml_dir",
    "umid",
    "ubd0",
    "vec0",
];

/// The longest that all of them may be together: the kernel of x86 takes 2047 bytes, and cuts what is longer.
const LONGEST_APPEND: usize = 1024;

/// Refuses words that would keep the guest from starting, or give it what no other has.
///
/// # Errors
/// [`SettingError::Conflict`], which names the word.
pub(crate) fn check_append(append: &CommandLine) -> Result<(), SettingError> {
    let conflict = |words: String| Err(SettingError::Conflict(words));
    for word in append.words() {
        let name = word.split('=').next().unwrap_or_default();
        if word == "--" || name.starts_with("tarebench.") || RESERVED.contains(&name) {
            return conflict(format!("append can't have `{word}`: that word is tarebench's own; leave it away"));
        }
        if word.is_empty() || word.chars().any(|c| c.is_whitespace() || c.is_control() || c == '"') {
            return conflict(format!(
                "append can't have `{word}`: a word of a kernel command line has no spaces or quotes"
            ));
        }
    }
    if append.text().len() > LONGEST_APPEND {
        return conflict(format!("append has {} characters, and {LONGEST_APPEND} may be", append.text().len()));
    }
    Ok(())
}

/// How the guest reaches the peer, where the monitor has no network of its own.
pub(crate) const NET: Setting = Setting::new("net", Net::KIND)
    .with_about("How the guest reaches the peer; auto is a tap device as root, else nothing")
    .with_default("auto");

settings! {
    /// The guest of a monitor that has one kind of disk and no network of its own.
    pub(crate) struct GuestOptions {
        disk_size ("disk.size"): Bytes as DISK_SIZE,
        net: Net as NET,
        kernel: Option<PathBuf> as KERNEL,
        append: CommandLine as APPEND,
    }
}

words! {
    /// How a guest reaches the peer.
    pub enum Net {
        /// A tap as root, else nothing.
        Auto = "auto",
        /// A tap device.
        Tap = "tap",
        /// Not at all.
        None = "none",
    }
}

/// Drivers that Linux needs and no `modules.dep` knows: ext4 asks for its checksum at mount time by name. Built in or gone
/// in some kernels. IPv6 is a module in some too.
const DRIVERS_WHERE_THERE: &[&str] = &["crc32c_generic", "ipv6"];

/// Drivers that kernels made for clouds lack.
const NOT_IN_CLOUDS: &[&str] = &["e1000", "ahci", "9p"];

/// The path to the peer that [`NET`] asks for.
///
/// # Errors
/// When a tap device is asked for and can't be had, with the reason and what to set instead.
pub(crate) fn path(wanted: Net, stage: &mut Stage) -> anyhow::Result<PathToPeer> {
    match wanted {
        Net::None => Ok(PathToPeer::none()),
        Net::Auto => Ok(stage.tap()?.unwrap_or_default()),
        Net::Tap => stage.tap()?.with_context(|| no_tap(wanted, stage, "none")),
    }
}

/// The guest's addresses among its orders.
pub(crate) fn orders(path: &PathToPeer) -> Orders {
    Orders { address: path.own, address6: path.own6, mtu: path.mtu, ..Orders::default() }
}

/// Why there is no tap device, and what to set `instead`.
pub(crate) fn no_tap(wanted: impl std::fmt::Display, stage: &Stage, instead: &str) -> String {
    let because = stage.peer_network().err().unwrap_or("there is none");
    format!("net={wanted} needs a tap device: {because}; set net={instead}")
}

/// The stage's data disk, made at its first start and kept for the next ones, as the data directories of others are.
///
/// # Errors
/// See [`image::make`].
pub(crate) fn data_disk(stage: &Stage, format: Format, allocation: Allocation, bytes: u64) -> anyhow::Result<PathBuf> {
    let path = stage.data().join(format!("disk.{format}"));
    if !path.exists() {
        // Under another name until complete: one that the disk had no room for must not be taken for a disk.
        let unfinished = stage.data().join("disk.unfinished");
        image::make(&unfinished, format, allocation, bytes)?;
        std::fs::rename(&unfinished, &path).with_context(|| format!("can't make {}", path.display()))?;
    }
    Ok(path)
}

/// A guest of a monitor that boots a kernel from a file and gives it one disk and at most a tap.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    pub(crate) boot: Boot,
    pub(crate) disk: PathBuf,
    pub(crate) cpus: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) orders: Orders,
    pub(crate) path: PathToPeer,
    pub(crate) kernel: Kernel,
}

impl Guest {
    /// Makes the files and the tap that `options` ask for. In the guest the disk is `/dev/vda` and the channel is `tty`.
    ///
    /// # Errors
    /// See [`boot_and_disk`] and [`path`].
    pub(crate) fn make(options: &GuestOptions, stage: &mut Stage, drivers: &[&str], tty: &str) -> anyhow::Result<Self> {
        let (kernel, boot, disk) = boot_and_disk(options.kernel.as_deref(), options.disk_size, stage, drivers)?;
        let path = path(options.net, stage)?;
        let append = options.append.words().to_vec();
        let orders = Orders { disk: Some("/dev/vda".into()), tty: Some(tty.into()), append, ..orders(&path) };
        let Resources { cpus, memory_bytes, .. } = stage.host.resources;
        Ok(Self { boot, disk, cpus, memory_bytes, orders, path, kernel })
    }
}

/// The files of a guest: the kernel `asked` for, or the best that is installed, and a raw data disk that is written in full.
///
/// # Errors
/// See [`kernel`], [`boot_files`] and [`data_disk`].
pub(crate) fn boot_and_disk(
    asked: Option<&Path>,
    disk_size: Bytes,
    stage: &Stage,
    drivers: &[&str],
) -> anyhow::Result<(Kernel, Boot, PathBuf)> {
    let kernel = kernel(asked, &stage.host.kernel, drivers)?;
    let boot = boot_files(&stage.host, &kernel, drivers)?;
    let disk = data_disk(stage, Format::Raw, Allocation::Full, disk_size.0)?;
    Ok((kernel, boot, disk))
}

/// The kernel that was asked for, or the best that is installed and has all of `drivers`, beside the one that the host is running.
///
/// # Errors
/// When it lacks one, or there is none, with the package that brings it.
pub(crate) fn kernel(path: Option<&Path>, running: &str, drivers: &[&str]) -> anyhow::Result<Kernel> {
    match path {
        None => Kernel::find(running, drivers).map_err(|e| anyhow::anyhow!("{e}; {}", fix(drivers))),
        Some(path) => {
            let kernel = Kernel::at(path)?;
            let missing = || format!("kernel={} won't do", path.display());
            kernel.modules(drivers).with_context(missing)?;
            Ok(kernel)
        }
    }
}

/// How to get a kernel with these drivers.
fn fix(drivers: &[&str]) -> String {
    let (cloud, all) = Arch::HERE.kernels();
    match drivers.iter().find(|driver| NOT_IN_CLOUDS.contains(driver)) {
        Some(driver) => {
            format!("apt install {all} (or another kernel with {driver}), or do without the setting that needs it")
        }
        None => format!("apt install {cloud}"),
    }
}

/// Kernel and initramfs in the run's scratch, one pair per kernel and set of drivers.
///
/// # Errors
/// When they can't be written, or the kernel lacks a driver.
pub(crate) fn boot_files(host: &Host, kernel: &Kernel, drivers: &[&str]) -> anyhow::Result<Boot> {
    let mut drivers = drivers.to_vec();
    drivers.extend(DRIVERS_WHERE_THERE.iter().filter(|one| kernel.modules(&[one]).is_ok()));
    let mut hash = Sha256::new();
    for part in [&*kernel.path.to_string_lossy()].iter().chain(&drivers) {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let key: String = hash.finalize().iter().take(6).map(|b| format!("{b:02x}")).collect();
    initramfs::make(&host.scratch.join(format!("guest.{key}")), kernel, &drivers, &host.binary)
        .context("can't make what the guest boots")
}

/// What to try where a guest under KVM never answers.
pub(crate) const NO_KVM: &str = "see whether any guest boots under KVM here: `tarebench doctor` says of qemu what `auto` is and why; \
                                 on some hosts that are guests themselves KVM is there and boots none, and another host is needed";

/// How long a guest may take to say hello: one of an emulated guest boots in 14 s where nothing else runs.
pub(crate) fn start_deadline() -> Duration {
    Duration::from_secs(if fingerprint::nested().is_some() { 120 } else { 30 })
}

/// Version of a monitor that needs KVM.
///
/// # Errors
/// When it or KVM isn't there.
pub(crate) fn version_under_kvm(program: Program, set: Option<&Path>) -> Result<String, Unavailable> {
    let version = program.version(set)?;
    require_kvm(program.name)?;
    Ok(version)
}

/// Refuses what can't be without KVM, where this user can't open it.
///
/// # Errors
/// When `/dev/kvm` doesn't open.
pub(crate) fn require_kvm(what: &str) -> Result<(), Unavailable> {
    let kvm = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    kvm.map(drop).map_err(|e| without_kvm(what, &e))
}

fn without_kvm(what: &str, refused: &std::io::Error) -> Unavailable {
    Unavailable {
        because: format!("{what} needs KVM: can't open /dev/kvm: {refused}"),
        fix: kvm_opens_when(refused).into(),
        broken: false,
    }
}

/// What opens `/dev/kvm`, where it did not.
pub(crate) fn kvm_opens_when(refused: &std::io::Error) -> &'static str {
    if refused.kind() == std::io::ErrorKind::PermissionDenied {
        // Of systemd's rules for devices, which Debian, Ubuntu and Fedora take as they are.
        return "run as root, or `sudo usermod -aG kvm $USER` and log in again (`newgrp kvm` for this shell alone)";
    }
    "use a machine whose CPU has virtualisation turned on"
}

#[cfg(test)]
pub(crate) mod tests {
    use workloads::facts::Network;

    use super::*;

    #[test]
    fn the_package_of_a_missing_driver_is_named() {
        let (cloud, all) = Arch::HERE.kernels();
        assert!(fix(&["ext4", "virtio_blk"]).contains(cloud));
        for driver in NOT_IN_CLOUDS {
            let fix = fix(&["ext4", driver]);
            assert!(fix.contains(all) && fix.contains(driver), "{fix}");
        }
    }

    #[test]
    fn what_needs_kvm_says_so_and_how_to_open_it() {
        let told = without_kvm("accel=kvm", &std::io::Error::from_raw_os_error(libc::EACCES));
        assert_eq!(told.because, "accel=kvm needs KVM: can't open /dev/kvm: Permission denied (os error 13)");
        assert!(told.fix.contains("usermod -aG kvm") && !told.broken, "{told:?}");
    }

    #[test]
    fn a_guest_is_told_its_address() {
        let path = PathToPeer {
            network: Network::Tap,
            device: Some("tare0".into()),
            own: Some(([198, 18, 0, 2].into(), 30)),
            ..PathToPeer::none()
        };
        assert_eq!(orders(&path).to_string(), "tarebench.address=198.18.0.2/30");
    }

    #[test]
    fn words_that_our_own_init_needs_can_not_be_appended() {
        for monitor in ["qemu", "uml", "firecracker", "cloud-hypervisor"] {
            let resolve = |text: &str| {
                let given = [("append".to_string(), text.to_string())].into();
                crate::registry::find(monitor).expect("registered").resolve(&given).map_err(|e| e.to_string())
            };
            resolve("mitigations=off nokaslr loglevel=3").expect("the guest's own affair");
            for own in ["init=/bin/sh", "quiet tarebench.tty=/dev/ttyS1", "console=ttyS1", "mem=4G", "--", "panic=0"] {
                let e = resolve(own).expect_err(own);
                assert!(e.contains("tarebench's own"), "{monitor}: {e}");
            }
            assert!(resolve("'a b'").expect_err("a space").contains("no spaces or quotes"));
            assert!(resolve(&"a ".repeat(600)).expect_err("long").contains("1024 may be"));
        }
    }

    /// A guest as tests of monitors give it.
    pub(crate) fn guest(tty: &str) -> Guest {
        Guest {
            boot: Boot { kernel: "/k".into(), initramfs: "/i".into() },
            disk: "/d".into(),
            cpus: 2,
            memory_bytes: 512 << 20,
            orders: Orders { tty: Some(tty.into()), ..Orders::default() },
            path: PathToPeer { device: Some("tare0".into()), ..PathToPeer::none() },
            kernel: Kernel { path: "/k".into(), release: "6.1".into(), modules: None },
        }
    }

    #[test]
    fn who_may_not_open_kvm_is_told_of_its_group() {
        let fix = |code: i32| kvm_opens_when(&std::io::Error::from_raw_os_error(code));
        assert!(fix(libc::EACCES).contains("usermod -aG kvm") && fix(libc::EACCES).contains("log in again"));
        for other in [libc::ENOENT, libc::ENXIO, libc::ENODEV] {
            assert_eq!(fix(other), "use a machine whose CPU has virtualisation turned on");
        }
    }

    #[test]
    fn without_the_program_the_way_to_it_is_told() {
        let program = Program::of("no-such-monitor", "none").or_fix("download one of its releases");
        let e = version_under_kvm(program, None).expect_err("not there");
        assert!(!e.broken && e.fix.contains("releases"), "{e:?}");
    }
}
