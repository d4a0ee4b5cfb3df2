//! `firecracker`: a virtual machine under Firecracker, configured by one file and reached over its serial line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use workloads::facts::Flushes;
use workloads::settings::{Setting, SettingError, Settings};
use workloads::{settings, words};

use crate::boxes::vm::initramfs::Boot;
use crate::boxes::vm::{self, Guest, GuestOptions};
use crate::host::Host;
use crate::launch::{Launch, Runner};
use crate::process::{self, BINARY, Program};
use crate::stage::Stage;
use crate::stage::data::DataPath;
use crate::unavailable::Unavailable;

/// A virtual machine under Firecracker.
#[derive(Debug)]
pub struct Firecracker;

const FIX: &str = "download a release of 1.8 or later from https://github.com/firecracker-microvm/firecracker/releases and put \
                   `firecracker` (for launch=jailer `jailer` too) into PATH";

const PROGRAM: Program = Program::of("firecracker", "firecracker").or_fix(FIX);
const JAILER: Program = Program::of("jailer", "firecracker").or_fix(FIX);

/// Its devices are virtio-mmio, which it announces by ACPI since 1.8; drivers that are modules find them so only.
const DRIVERS: &[&str] = &["virtio_mmio", "ext4", "virtio_blk", "virtio_net"];

/// More than this its interface refuses.
const MOST_CPUS: u32 = 32;

/// Memory of the program besides the guest's, bytes. Its makers promise 5 MiB; page tables come on top.
const MONITOR_BYTES: u64 = 32 << 20;

words! {
    /// How the disk's requests are done.
    pub enum IoEngine {
        /// One after the other, in the device's thread.
        Sync = "sync",
        /// io_uring.
        Async = "async",
    }
}

words! {
    /// Whether the guest's flushes reach the disk.
    pub enum CacheType {
        /// Nothing: the guest is not even offered them.
        Unsafe = "unsafe",
        /// They reach the host's disk.
        Writeback = "writeback",
    }
}

impl CacheType {
    fn flushes(self) -> Flushes {
        match self {
            Self::Unsafe => Flushes::Forgotten,
            Self::Writeback => Flushes::Passed,
        }
    }
}

words! {
    /// Who starts it.
    pub enum Starter {
        /// We do.
        Direct = "direct",
        /// Its jailer, in a root directory of its own.
        Jailer = "jailer",
    }
}

settings! {
    /// The settings of a machine.
    struct Options {
        binary: Option<PathBuf> as BINARY,
        /// What starts it: we do, or its jailer, which needs root
        launch: Starter = "direct",
        /// Full path of the jailer, for launch=jailer; by default the one in PATH
        jailer ("jailer.binary"): Option<PathBuf> as BINARY,
        /// How the disk's requests are done: one after the other, or by io_uring (Firecracker's io_engine)
        engine ("disk.engine"): IoEngine = "sync",
        // Firecracker's own default is Unsafe, under which nothing is ever durable.
        /// Whether the guest's flushes reach the host's disk (Firecracker's cache_type, there unsafe by default)
        cache ("disk.cache"): CacheType = "writeback",
        guest: GuestOptions,
    }
}

impl Runner for Firecracker {
    fn name(&self) -> &'static str {
        "firecracker"
    }

    fn about(&self) -> &'static str {
        "A virtual machine under Firecracker, the monitor of serverless platforms; needs KVM"
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn check(&self, settings: &Settings) -> Result<(), SettingError> {
        let options = Options::read(settings);
        vm::check_append(&options.guest.append)?;
        match options {
            Options { jailer: Some(path), launch: Starter::Direct, .. } => Err(SettingError::Conflict(format!(
                "jailer.binary={} has no effect with launch=direct; leave it away, or set launch=jailer",
                path.display()
            ))),
            _ => Ok(()),
        }
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
        if options.launch == Starter::Jailer && !stage.host.privileged {
            bail!("launch=jailer needs root; set launch=direct");
        }
        let Options { launch: starter, engine, cache, .. } = options;
        if starter == Starter::Jailer {
            jail_can_be_in(stage.disk().map_or("", |disk| &disk.options))?;
        }
        let mut guest = Guest::make(&options.guest, stage, DRIVERS, "/dev/ttyS0")?;
        // It has no power off, and a guest that asks for one halts for ever.
        guest.orders.reset = true;
        let machine = Machine { guest, engine, cache };
        let id = stage.next_id();
        let mut launch = match starter {
            Starter::Direct => {
                let config = stage.scratch().join("firecracker.json");
                // Where the device folder is bare, /dev/stderr would become a plain file.
                machine.write(&config, Some("/proc/self/fd/2"))?;
                let mut command = Command::new(&program);
                command.args(["--id", &short(&id)]).arg("--no-api").arg("--config-file").arg(config);
                Launch::new(command)
            }
            Starter::Jailer => {
                let jailer = JAILER.require(options.jailer.as_deref())?;
                jailed(&machine, &jailer, &program, &short(&id), stage.data())?.on(&jailer)
            }
        };
        let words = format!(
            "ext4 on virtio-blk, raw (full), cache_type={cache}, io_engine={engine}, through the host's page cache, on {}",
            stage.data_file_system()
        );
        launch = launch.data(DataPath::on_image(stage, words, cache.flushes()));
        launch.memory_beside = MONITOR_BYTES;
        Ok(launch.on(&program).booting(&machine.guest.kernel).over(machine.guest.path))
    }
}

/// The machine that Firecracker is told to make.
#[derive(Debug)]
struct Machine {
    guest: Guest,
    engine: IoEngine,
    cache: CacheType,
}

impl Machine {
    /// The file that `--config-file` takes: `FullVmConfiguration` of its interface. Without a `log` its words would stand between
    /// the frames.
    fn config(&self, log: Option<&str>) -> Value {
        let guest = &self.guest;
        let engine = match self.engine {
            IoEngine::Sync => "Sync",
            IoEngine::Async => "Async",
        };
        let cache = match self.cache {
            CacheType::Unsafe => "Unsafe",
            CacheType::Writeback => "Writeback",
        };
        let mut config = json!({
            "boot-source": {
                "kernel_image_path": guest.boot.kernel,
                "initrd_path": guest.boot.initramfs,
                // No console: the one serial line carries the frames, and its input and output are ours.
                "boot_args": format!("reboot=k panic=1 pci=off quiet cryptomgr.notests=1 {}", guest.orders),
            },
            "drives": [{
                "drive_id": "data",
                "path_on_host": guest.disk,
                "is_root_device": false,
                "is_read_only": false,
                "cache_type": cache,
                "io_engine": engine,
            }],
            "machine-config": { "vcpu_count": guest.cpus, "mem_size_mib": guest.memory_bytes >> 20 },
        });
        if let Some(path) = log {
            config["logger"] = json!({ "log_path": path, "level": "Error" });
        }
        if let Some(device) = &guest.path.device {
            config["network-interfaces"] = json!([{ "iface_id": "net", "host_dev_name": device }]);
        }
        config
    }

    fn write(&self, path: &Path, log: Option<&str>) -> anyhow::Result<()> {
        // An odd number is fine without SMT, which since 1.0 is off unless asked for.
        if !(1..=MOST_CPUS).contains(&self.guest.cpus) {
            bail!("Firecracker takes 1 to {MOST_CPUS} CPUs, not {}; change cpus in resources", self.guest.cpus);
        }
        let text = serde_json::to_string_pretty(&self.config(log)).expect("strings and numbers only");
        fs::write(path, text).with_context(|| format!("can't write {}", path.display()))
    }
}

/// In the jail the files have other names, and everything has to be on one file system with the disk, which is linked in.
fn jailed(machine: &Machine, jailer: &Path, program: &Path, id: &str, data: &Path) -> anyhow::Result<Launch> {
    let guest = &machine.guest;
    let base = data.join("jail");
    let name = program.file_name().context("firecracker has no name")?;
    let jail = base.join(name).join(id);
    let root = jail.join("root");
    fs::create_dir_all(&root).with_context(|| format!("can't make {}", root.display()))?;
    let naming = || format!("can't fill the jail {}", root.display());
    fs::copy(&guest.boot.kernel, root.join("kernel")).with_context(naming)?;
    fs::copy(&guest.boot.initramfs, root.join("initramfs")).with_context(naming)?;
    fs::hard_link(&guest.disk, root.join("disk")).with_context(naming)?;
    let boot = Boot { kernel: "/kernel".into(), initramfs: "/initramfs".into() };
    let inside = Machine { guest: Guest { boot, disk: "/disk".into(), ..guest.clone() }, ..*machine };
    // Without one it logs to its stdout, between our frames. It is a file outside too, which is there when the jail has gone.
    let log = data.join("firecracker.log");
    fs::write(&log, "").and_then(|()| fs::hard_link(&log, root.join("log"))).with_context(naming)?;
    inside.write(&root.join("config.json"), Some("/log"))?;
    let mut command = Command::new(jailer);
    // As root, since a tap without an owner can be opened by nobody else.
    command.args(["--id", id]).args(["--uid", "0"]).args(["--gid", "0"]);
    command.arg("--exec-file").arg(program).arg("--chroot-base-dir").arg(base);
    if let Some(netns) = &guest.path.netns {
        command.arg("--netns").arg(netns);
    }
    command.args(["--", "--no-api", "--config-file", "/config.json"]);
    let mut launch = Launch::new(command).cleanup(move || {
        if let Err(e) = process::remove_tree(&jail) {
            log::warn!("{e:#}");
        }
    });
    launch.console = Some(log);
    Ok(launch)
}

/// The jailer makes device nodes in the jail, which lies beside the data, and starts a copy of the program there.
fn jail_can_be_in(options: &str) -> anyhow::Result<()> {
    let Some(option) = options.split(',').find(|option| matches!(*option, "nodev" | "noexec")) else { return Ok(()) };
    bail!(
        "launch=jailer makes its jail in the data directory, whose file system is mounted {option}; set launch=direct, or another \
         directory with --data-dir"
    )
}

/// An id has at most 64 characters: those at the end are what makes it the only one.
fn short(id: &str) -> String {
    id.chars().rev().take(64).collect::<Vec<_>>().into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that a property takes.
    enum Type {
        Text,
        Bool,
        Number(u64, u64),
        Word(&'static [&'static str]),
    }
    use Type::*;

    impl Type {
        fn takes(&self, value: &Value) -> bool {
            match self {
                Text => value.is_string(),
                Bool => value.is_boolean(),
                Number(min, max) => value.as_u64().is_some_and(|n| (*min..=*max).contains(&n)),
                Word(words) => value.as_str().is_some_and(|w| words.contains(&w)),
            }
        }
    }

    type Properties = &'static [(&'static str, Type)];

    /// `FullVmConfiguration` of `src/firecracker/swagger/firecracker.yaml` (1.17, read in November 2026), by section: the
    /// properties that are neither objects nor deprecated, and which are required. Firecracker refuses others.
    const SCHEMA: &[(&str, Properties, &[&str])] = &[
        (
            "boot-source",
            &[("boot_args", Text), ("initrd_path", Text), ("kernel_image_path", Text)],
            &["kernel_image_path"],
        ),
        (
            "drives",
            &[
                ("drive_id", Text),
                ("partuuid", Text),
                ("is_root_device", Bool),
                ("cache_type", Word(&["Unsafe", "Writeback"])),
                ("is_read_only", Bool),
                ("path_on_host", Text),
                ("io_engine", Word(&["Sync", "Async"])),
                ("socket", Text),
            ],
            &["drive_id", "is_root_device"],
        ),
        (
            "machine-config",
            &[
                ("smt", Bool),
                ("mem_size_mib", Number(0, u64::MAX)),
                ("track_dirty_pages", Bool),
                ("vcpu_count", Number(1, 32)),
                ("huge_pages", Word(&["None", "Transparent", "2M"])),
            ],
            &["mem_size_mib", "vcpu_count"],
        ),
        (
            "network-interfaces",
            &[("guest_mac", Text), ("host_dev_name", Text), ("iface_id", Text), ("mtu", Number(68, 65535))],
            &["host_dev_name", "iface_id"],
        ),
        (
            "logger",
            &[
                ("level", Word(&["Error", "Warning", "Info", "Debug", "Trace", "Off"])),
                ("log_path", Text),
                ("show_level", Bool),
                ("show_log_origin", Bool),
                ("module", Text),
            ],
            &[],
        ),
    ];

    /// Violations of the schema by a configuration.
    fn objections(config: &Value) -> Vec<String> {
        let mut objections = Vec::new();
        for (section, content) in config.as_object().expect("an object") {
            let Some((_, known, required)) = SCHEMA.iter().find(|(name, ..)| name == section) else {
                objections.push(format!("no section {section}"));
                continue;
            };
            let list = matches!(section.as_str(), "drives" | "network-interfaces");
            if content.is_array() != list {
                objections.push(format!("{section} is a list or isn't"));
            }
            for one in content.as_array().map_or_else(|| vec![content], |list| list.iter().collect()) {
                let one = one.as_object().expect("an object");
                let lacking = required.iter().filter(|name| !one.contains_key(**name));
                objections.extend(lacking.map(|name| format!("{section} lacks {name}")));
                for (name, value) in one {
                    match known.iter().find(|(known, _)| known == name) {
                        Some((_, kind)) if kind.takes(value) => {}
                        Some(_) => objections.push(format!("{section}: {name} can't be {value}")),
                        None => objections.push(format!("{section} has no {name}")),
                    }
                }
            }
        }
        objections
    }

    fn machine() -> Machine {
        let mut guest = vm::tests::guest("/dev/ttyS0");
        guest.orders.reset = true;
        Machine { guest, engine: IoEngine::Async, cache: CacheType::Writeback }
    }

    #[test]
    fn the_configuration_is_what_the_published_schema_takes() {
        let config = machine().config(Some("/dev/stderr"));
        assert_eq!(objections(&config), Vec::<String>::new());
        let drive = &config["drives"][0];
        assert_eq!((drive["io_engine"].as_str(), drive["cache_type"].as_str()), (Some("Async"), Some("Writeback")));
        assert_eq!(config["machine-config"]["mem_size_mib"], 512);
        let arguments = config["boot-source"]["boot_args"].as_str().expect("text");
        assert!(!arguments.contains("console=") && arguments.contains("reboot=k"), "{arguments}");
        assert!(arguments.ends_with("tarebench.tty=/dev/ttyS0 tarebench.end=reset"), "{arguments}");
        let mut other = Machine { engine: IoEngine::Sync, cache: CacheType::Unsafe, ..machine() };
        other.guest.path.device = None;
        let other = other.config(None);
        assert_eq!(objections(&other), Vec::<String>::new());
        assert_eq!(other["drives"][0]["io_engine"], "Sync");
        assert_eq!(other["drives"][0]["cache_type"], "Unsafe");
        assert!(other.get("network-interfaces").is_none() && other.get("logger").is_none());
    }

    #[test]
    fn a_jail_is_not_made_where_it_can_not_be() {
        jail_can_be_in("rw,relatime,data=ordered").expect("it can");
        for option in ["nodev", "noexec"] {
            let words = jail_can_be_in(&format!("rw,{option},relatime")).expect_err("it can't").to_string();
            assert!(
                words.contains(option) && words.contains("launch=direct") && words.contains("--data-dir"),
                "{words}"
            );
        }
    }

    #[test]
    fn what_the_schema_refuses_is_noticed() {
        let mut config = machine().config(None);
        config["drives"][0]["io_engine"] = json!("async");
        config["drives"][0]["speed"] = json!(1);
        config["machine-config"] = json!({ "vcpu_count": 33 });
        let expected = [
            "drives: io_engine can't be \"async\"",
            "drives has no speed",
            "machine-config lacks mem_size_mib",
            "machine-config: vcpu_count can't be 33",
        ];
        assert_eq!(objections(&config), expected);
    }

    #[test]
    fn a_number_of_cpus_that_it_refuses_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        for (cpus, fine) in [(0, false), (1, true), (3, true), (32, true), (33, false)] {
            let mut machine = machine();
            machine.guest.cpus = cpus;
            let written = machine.write(&folder.path().join("config"), None);
            assert_eq!(written.is_ok(), fine, "{cpus}");
        }
    }

    #[test]
    fn an_id_is_never_too_long() {
        assert_eq!(short("tarebench-x-1"), "tarebench-x-1");
        assert_eq!(short(&format!("{}-7", "x".repeat(80))).len(), 64);
    }
}
