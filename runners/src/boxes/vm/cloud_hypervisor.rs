//! `cloud-hypervisor`: a virtual machine under Cloud Hypervisor, reached over a virtio console.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use workloads::facts::Flushes;
use workloads::settings;
use workloads::settings::{Setting, SettingError, Settings};

use crate::boxes::vm::arch::Arch;
use crate::boxes::vm::{self, Guest, GuestOptions};
use crate::host::Host;
use crate::launch::{Launch, Runner};
use crate::process::{self, BINARY, Program};
use crate::stage::Stage;
use crate::stage::data::DataPath;
use crate::unavailable::Unavailable;

/// A virtual machine under Cloud Hypervisor.
#[derive(Debug)]
pub struct CloudHypervisor;

const PROGRAM: Program = Program::of("cloud-hypervisor", "cloud-hypervisor").or_fix(
    "download `cloud-hypervisor-static` from https://github.com/cloud-hypervisor/cloud-hypervisor/releases and put it into PATH \
     as `cloud-hypervisor`",
);

const DRIVERS: &[&str] = &["virtio_pci", "virtio_console", "ext4", "virtio_blk", "virtio_net"];

/// Memory of the program besides the guest's, bytes.
const MONITOR_BYTES: u64 = 64 << 20;

settings! {
    /// The settings of a machine.
    struct Options {
        binary: Option<PathBuf> as BINARY,
        /// Whether the disk's file is opened with O_DIRECT, past the host's page cache
        direct ("disk.direct"): bool = true,
        /// Whether the disk's requests may be done by io_uring, else by Linux AIO
        io_uring ("disk.io_uring"): bool = true,
        guest: GuestOptions,
    }
}

impl Runner for CloudHypervisor {
    fn name(&self) -> &'static str {
        "cloud-hypervisor"
    }

    fn about(&self) -> &'static str {
        "A virtual machine under Cloud Hypervisor, a monitor for cloud workloads; needs KVM"
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn check(&self, settings: &Settings) -> Result<(), SettingError> {
        vm::check_append(&Options::read(settings).guest.append)
    }

    fn version(&self, _host: &Host, settings: &Settings) -> Result<String, Unavailable> {
        vm::version_under_kvm(PROGRAM, Options::read(settings).binary.as_deref())
    }

    fn program(&self) -> Option<Program> {
        Some(PROGRAM)
    }

    fn start_deadline(&self) -> Duration {
        vm::start_deadline()
    }

    fn when_silent(&self) -> Option<&'static str> {
        Some(vm::NO_KVM)
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let options = Options::read(settings);
        let program = PROGRAM.require(options.binary.as_deref())?;
        let says_raw = knows_image_types(&program)?;
        let machine = Machine { guest: Guest::make(&options.guest, stage, DRIVERS, "/dev/hvc0")?, options, says_raw };
        let mut command = Command::new(&program);
        command.args(machine.arguments());
        let how = if machine.options.direct { "O_DIRECT" } else { "through the host's page cache" };
        let by = if machine.options.io_uring { "io_uring" } else { "aio" };
        let words = format!("ext4 on virtio-blk, raw (full), {how}, {by}, on {}", stage.data_file_system());
        let mut launch = Launch::new(command).data(DataPath::on_image(stage, words, Flushes::Passed));
        launch.memory_beside = MONITOR_BYTES;
        // It reads its console only where that is one (seen with 53.0; `isatty` in its device manager since 20.0).
        launch.terminal = true;
        Ok(launch.on(&program).booting(&machine.guest.kernel).over(machine.guest.path))
    }
}

/// The machine that Cloud Hypervisor is told to make.
#[derive(Debug)]
struct Machine {
    guest: Guest,
    options: Options,
    /// Whether it is told that the image is raw.
    says_raw: bool,
}

impl Machine {
    fn arguments(&self) -> Vec<String> {
        let Self { guest, options, says_raw } = self;
        let switch = |on: bool| if on { "on" } else { "off" };
        // The console of virtio carries the frames, the serial line what the kernel says before it dies.
        let mut words: Vec<String> = ["--console", "tty", "--serial", "file=/proc/self/fd/2"].map(String::from).into();
        let mut add = |flag: &str, value: String| words.extend([flag.to_string(), value]);
        add("--cpus", format!("boot={}", guest.cpus));
        add("--memory", format!("size={}M", guest.memory_bytes >> 20));
        add("--kernel", guest.boot.kernel.display().to_string());
        add("--initramfs", guest.boot.initramfs.display().to_string());
        add(
            "--cmdline",
            format!("console={} quiet panic=-1 cryptomgr.notests=1 {}", Arch::HERE.serial(), guest.orders),
        );
        // Where io_uring is not to be had it takes AIO by itself, so there is a switch for `off` only.
        let unless = if options.io_uring { "" } else { ",_disable_io_uring=on" };
        let kind = if *says_raw { ",image_type=raw" } else { "" };
        let file = guest.disk.display();
        add("--disk", format!("path={file},direct={}{unless}{kind}", switch(options.direct)));
        if let Some(device) = &guest.path.device {
            add("--net", format!("tap={device}"));
        }
        words
    }
}

/// Whether it can be told the kind of an image. Releases since 50.1 can, and left to guess they refuse writes to the first
/// sector, in which an ext4 keeps its superblock's block; older ones refuse the word.
fn knows_image_types(program: &Path) -> anyhow::Result<bool> {
    let mut command = Command::new(program);
    command.arg("--help");
    let help = process::ask_all(command).map_err(|e| anyhow::anyhow!("`{} --help`: {e}", program.display()))?;
    Ok(help.contains("image_type="))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys that each option takes (`SYNTAX` in `vmm/src/config.rs` of 53.0, read in November 2026); others are refused.
    const OPTIONS: &[(&str, &[&str])] = &[
        ("--console", &[]),
        ("--serial", &["file"]),
        ("--cpus", &["boot", "max", "topology", "kvm_hyperv", "max_phys_bits", "nested", "affinity", "features"]),
        ("--memory", &["size", "mergeable", "shared", "hugepages", "hugepage_size", "prefault", "thp"]),
        ("--kernel", &[]),
        ("--initramfs", &[]),
        ("--cmdline", &[]),
        (
            "--disk",
            &[
                "path",
                "readonly",
                "direct",
                "num_queues",
                "queue_size",
                "id",
                "sparse",
                "image_type",
                "_disable_io_uring",
                "_disable_aio",
            ],
        ),
        ("--net", &["tap", "ip", "mask", "mac", "num_queues", "queue_size", "id"]),
    ];

    fn machine(settings: &[(&str, &str)], says_raw: bool) -> Machine {
        let options = Options::read(&Settings::of(Options::TABLE, settings));
        Machine { guest: vm::tests::guest("/dev/hvc0"), options, says_raw }
    }

    const NEITHER: &[(&str, &str)] = &[("disk.direct", "false"), ("disk.io_uring", "false")];

    #[test]
    fn every_option_and_key_is_published() {
        let words = machine(NEITHER, true).arguments();
        for pair in words.chunks(2) {
            let (_, keys) = OPTIONS.iter().find(|(flag, _)| *flag == pair[0]).expect("a known option");
            for part in pair[1].split(',').filter(|_| !keys.is_empty()) {
                let (key, value) = part.split_once('=').expect("key=value");
                assert!(keys.contains(&key) && !value.is_empty(), "{pair:?}");
            }
        }
    }

    #[test]
    fn settings_find_their_way() {
        let line = |machine: Machine| machine.arguments().join(" ");
        let both = line(machine(&[], true));
        assert!(
            both.contains("--disk path=/d,direct=on,image_type=raw ") && both.ends_with("--net tap=tare0"),
            "{both}"
        );
        assert!(both.contains("tarebench.tty=/dev/hvc0 --disk"), "{both}");
        let mut alone = machine(NEITHER, false);
        alone.guest.path.device = None;
        let neither = line(alone);
        assert!(neither.ends_with("--disk path=/d,direct=off,_disable_io_uring=on"), "{neither}");
    }

    #[test]
    fn its_own_help_says_whether_it_knows_the_kinds_of_images() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        for (help, knows) in
            [("sparse=on|off,image_type=<raw,qcow2,vhd,vhdx>", true), ("path=<path>,readonly=on|off", false)]
        {
            let program = folder.path().join("monitor");
            process::write_program(&program, &format!("#!/bin/sh\necho '{help}'\n"));
            assert_eq!(knows_image_types(&program).expect("it answers"), knows);
        }
    }
}
