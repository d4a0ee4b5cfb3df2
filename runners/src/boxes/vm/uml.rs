//! `uml`: User-mode Linux. A Linux kernel that is an ordinary program of the host: its processes are processes of the host
//! whose every system call is caught, its disk is a file or a directory, its network a tap.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use workloads::facts::Flushes;
use workloads::init::Orders;
use workloads::settings::{Bytes, CommandLine, Setting, SettingError, Settings};
use workloads::{settings, words};

use crate::boxes::vm::arch::Arch;
use crate::boxes::vm::image::{self, Allocation, Format};
use crate::boxes::vm::{self, Net};
use crate::host::Host;
use crate::launch::{Launch, Runner};
use crate::process::{BINARY, Program};
use crate::stage::Stage;
use crate::stage::data::DataPath;
use crate::unavailable::Unavailable;

/// A kernel that is a process.
#[derive(Debug)]
pub struct Uml;

/// The kernel's program.
const PROGRAM: Program = Program::of("linux.uml", "user-mode-linux");

/// Carries the channel in the guest. The console is no choice: the kernel's own words would stand between the frames,
/// and nobody could quote them.
///
/// Input of the guest must come there in pieces below 4096 bytes, or it waits for ever (seen with 6.1: 4095 bytes
/// arrive, 4096 don't). Requests are far smaller; output may be of any size (200 kB seen).
const LINE: &str = "/dev/ttyS0";

/// The first device of the kernel's vector driver, which moves many packets per system call.
const LINK: &str = "vec0";

/// Memory of the program besides the guest's, bytes: its text and data (20 MiB), a stack and page tables for
/// every process in it.
const MONITOR_BYTES: u64 = 96 << 20;

words! {
    /// Where the data lies.
    ///
    /// A flush of the guest's does nothing on any of the block devices: the driver makes it a request of no parts, and its I/O
    /// thread works on the parts (`ubd_submit_request`, `io_thread`); Linux 6.1 was seen to call no fsync, fdatasync or
    /// sync_file_range at all. What is durable is what is written with O_SYNC. On hostfs every fdatasync of the
    /// guest is one on the host.
    pub enum Data {
        /// An image, written through the host's page cache.
        Ubd = "ubd",
        /// The same, every write synchronous.
        UbdSync = "ubd-sync",
        /// A file that takes the writes, over an image that is only read.
        Cow = "cow",
        /// A directory of the host.
        Hostfs = "hostfs",
    }
}

impl Data {
    fn flushes(self) -> Flushes {
        match self {
            Self::Ubd | Self::Cow => Flushes::Forgotten,
            Self::UbdSync => Flushes::WrittenThrough,
            Self::Hostfs => Flushes::Passed,
        }
    }

    /// The path to it, where the host's file system is `below`.
    fn describe(self, below: &str) -> String {
        match self {
            Self::Ubd => format!("ext4 on ubd, raw (full), through the host's page cache, on {below}"),
            Self::UbdSync => format!("ext4 on ubd, raw (full), O_SYNC, on {below}"),
            Self::Cow => {
                format!("ext4 on ubd, a copy-on-write file over raw, through the host's page cache, on {below}")
            }
            Self::Hostfs => format!("hostfs of {below}"),
        }
    }

    fn on(self, stage: &Stage) -> DataPath {
        let words = self.describe(&stage.data_file_system());
        match self {
            Self::Hostfs => DataPath::on_host(stage, words),
            Self::Ubd | Self::UbdSync | Self::Cow => DataPath::on_image(stage, words, self.flushes()),
        }
    }
}

settings! {
    /// The settings of a machine.
    struct Options {
        /// Full path of a kernel built for User-mode Linux; by default linux.uml in PATH
        binary: Option<PathBuf> as BINARY,
        /// An ext4 on a file as a block device, that with synchronous writes, that with a copy-on-write file over it,
        /// or the host's directory; flushes of ubd and cow reach no disk (Linux 6.1), ubd-sync needs none
        data: Data = "ubd",
        disk_size ("disk.size"): Bytes as vm::DISK_SIZE,
        net: Net as vm::NET,
        append: CommandLine as vm::APPEND,
    }
}

impl Runner for Uml {
    fn name(&self) -> &'static str {
        "uml"
    }

    fn about(&self) -> &'static str {
        "User-mode Linux: a Linux kernel as an ordinary process, which catches every system call of its guests"
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn check(&self, settings: &Settings) -> Result<(), SettingError> {
        vm::check_append(&Options::read(settings).append)
    }

    fn version(&self, _host: &Host, settings: &Settings) -> Result<String, Unavailable> {
        exists_for(Arch::HERE)?;
        let version = PROGRAM.version(Options::read(settings).binary.as_deref())?;
        image::mkfs()?;
        Ok(format!("Linux {version}"))
    }

    fn program(&self) -> Option<Program> {
        Some(PROGRAM)
    }

    fn start_deadline(&self) -> Duration {
        Duration::from_secs(30)
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let Options { binary, data, disk_size, net, append } = Options::read(settings);
        let program = PROGRAM.require(binary.as_deref())?;
        let cpus = stage.host.resources.cpus;
        if cpus != 1 {
            bail!("User-mode Linux has one CPU, not {cpus}; set cpus = 1 in resources");
        }
        let root = root(stage)?;
        let mut path = vm::path(net, stage)?;
        // Debian's kernel has IPv6 as a module, and its root here has none.
        (path.own6, path.peer6) = (None, None);
        let mut orders = Orders { tty: Some(LINE.into()), append: append.words().to_vec(), ..vm::orders(&path) };
        let disk = match data {
            Data::Hostfs => {
                orders.hostfs = Some(stage.data().to_path_buf());
                None
            }
            Data::Ubd | Data::UbdSync | Data::Cow => {
                let image = vm::data_disk(stage, Format::Raw, Allocation::Full, disk_size.0)?;
                orders.disk = Some("/dev/ubda".into());
                Some(disk_argument(data, &image))
            }
        };
        if path.device.is_some() {
            orders.link = Some(LINK.into());
        }
        let mut command = Command::new(&program);
        command.args(["rootfstype=hostfs", "rw", "init=/init"]).arg(format!("rootflags={}", root.display()));
        command.arg(format!("mem={}M", stage.host.resources.memory_bytes >> 20));
        // Its sockets and its process id would otherwise lie in the user's home.
        command.arg(format!("uml_dir={}", stage.scratch().display()));
        command.arg(format!("umid={}", stage.next_id()));
        command.args(["con=null", "con0=null,fd:2", "ssl=null", "ssl0=fd:0,fd:1"]);
        command.args(["quiet", "panic=-1", "noreboot"]);
        command.args(disk);
        if let Some(device) = &path.device {
            command.arg(format!("{LINK}:transport=tap,ifname={device},depth=64,gro=1"));
        }
        command.args(orders.to_string().split(' '));
        // The guest's memory is a file without a name: here, unless this says otherwise, and never on a disk.
        command.env("TMPDIR", "/dev/shm");
        let mut launch = Launch::new(command).on(&program).over(path).data(data.on(stage));
        launch.memory_beside = MONITOR_BYTES;
        launch.emulated =
            Some("User-mode Linux: no hardware runs the guest's kernel, the host's traces every system call".into());
        Ok(launch)
    }
}

/// The root file system, in which our binary is the init by name.
fn root(stage: &mut Stage) -> anyhow::Result<PathBuf> {
    for path in [stage.data(), stage.scratch()] {
        // The kernel command line has no quotes, and its devices take these for separators.
        if path.to_string_lossy().contains([' ', '\t', '\n', ',', ':']) {
            bail!(
                "{} has a space, comma or colon, which User-mode Linux can't be told; use another directory",
                path.display()
            );
        }
    }
    let root = stage.root()?.to_path_buf();
    let init = root.join("init");
    if !init.exists() {
        std::os::unix::fs::symlink("tarebench", &init).with_context(|| format!("can't make {}", init.display()))?;
    }
    Ok(root)
}

/// The block device as the kernel is told. Without `d` it would look into the file for the header of a copy-on-write file,
/// and what a guest wrote there is not ours to trust.
fn disk_argument(data: Data, image: &Path) -> String {
    match data {
        Data::UbdSync => format!("ubd0sd={}", image.display()),
        Data::Cow => format!("ubd0={},{}", image.with_extension("cow").display(), image.display()),
        Data::Ubd | Data::Hostfs => format!("ubd0d={}", image.display()),
    }
}

/// Linux itself has this architecture of its own for x86 alone.
fn exists_for(arch: Arch) -> Result<(), Unavailable> {
    match arch {
        Arch::X86 => Ok(()),
        Arch::Arm | Arch::RiscV => Err(Unavailable {
            because: format!("User-mode Linux exists for x86 only, and this is {arch}"),
            fix: "nothing here: for a kernel of its own take qemu, for caught system calls gvisor".into(),
            broken: false,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::{IpAddr, SocketAddr};

    use workloads::PeerAddress;
    use workloads::facts::Kernel;
    use workloads::protocol::{Envelope, Request, Task, write_frame};

    use super::*;

    #[test]
    fn where_it_does_not_exist_the_reason_is_told() {
        exists_for(Arch::X86).expect("there");
        let no = exists_for(Arch::Arm).expect_err("not there");
        assert!(no.because.contains("x86 only, and this is 64-bit Arm") && no.fix.contains("qemu"), "{no:?}");
    }

    #[test]
    fn the_disk_is_said_with_its_flags() {
        let said = |data| disk_argument(data, Path::new("/d/disk.raw"));
        assert_eq!(said(Data::Ubd), "ubd0d=/d/disk.raw");
        assert_eq!(said(Data::UbdSync), "ubd0sd=/d/disk.raw");
        assert_eq!(said(Data::Cow), "ubd0=/d/disk.cow,/d/disk.raw");
    }

    /// The driver of ubd drops flushes, see [`Data`].
    #[test]
    fn flushes_are_forgotten_on_block_devices_that_are_not_synchronous() {
        for data in [Data::Ubd, Data::Cow] {
            assert_eq!(data.flushes(), Flushes::Forgotten, "{data}");
        }
        assert_eq!(Data::UbdSync.flushes(), Flushes::WrittenThrough);
        assert_eq!(Data::Hostfs.flushes(), Flushes::Passed);
        let (_data, stage) = Stage::of_a_test("um");
        let stated = |data: Data| (data.on(&stage).facts.kernel, data.on(&stage).facts.flushes);
        assert_eq!(stated(Data::Ubd), (Kernel::Guest, Flushes::Forgotten));
        assert_eq!(stated(Data::UbdSync), (Kernel::Guest, Flushes::WrittenThrough));
        assert_eq!(stated(Data::Hostfs), (Kernel::Host, Flushes::Passed));
    }

    /// See [`LINE`]: a longer request would never arrive.
    #[test]
    fn every_request_fits_into_the_line() {
        for workload in workloads::registry::WORKLOADS {
            let known = workloads::load::settings(workload.settings());
            let settings = Settings::resolve(&known, &BTreeMap::new()).expect("defaults are valid");
            let at = |ip: IpAddr| Some(SocketAddr::new(ip, u16::MAX));
            let peer = Some(PeerAddress {
                v4: at(IpAddr::from([255; 4])),
                v6: at(IpAddr::from([0xffff; 8])),
                published: Some(u16::MAX),
            });
            let task = Task { settings, seed: u64::MAX, memory: u64::MAX, peer, ..Task::of(workload.name()) };
            let max = u64::MAX;
            let envelope = Envelope { id: max, received_ns: max, sent_ns: max, body: Request::Prepare(task) };
            let mut frame = Vec::new();
            write_frame(&mut frame, &envelope).expect("it can be written");
            // Half of the room is left for settings that a user makes longer.
            assert!(frame.len() < 2048, "{} takes a request of {} bytes", workload.name(), frame.len());
        }
    }
}
