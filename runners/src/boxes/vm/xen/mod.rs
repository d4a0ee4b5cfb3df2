//! `xen`: a paravirtualised domain beside the one that we run in, made by `xl` and reached over its console. The domain we run in
//! (dom0) is itself a guest of the hypervisor, the baseline with it.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use workloads::facts::Flushes;
use workloads::init::Orders;
use workloads::settings::{Bytes, Setting, SettingError, Settings, Value as _};
use workloads::{settings, words};

use crate::boxes::vm::arch::Arch;
use crate::boxes::vm::{self, image};
use crate::fingerprint;
use crate::host::Host;
use crate::launch::{Launch, Runner};
use crate::path::PathToPeer;
use crate::process;
use crate::stage::Stage;
use crate::stage::data::DataPath;
use crate::stage::network::{PREFIX, PREFIX6};
use crate::unavailable::Unavailable;

mod config;

use config::{Disk, Domain};

/// A domain under Xen.
#[derive(Debug)]
pub struct Xen;

const PROGRAM: &str = "xl";
const PACKAGE: &str = if X86 { "xen-system-amd64" } else { "xen-system-arm64" };
const FIX: &str = if X86 {
    "apt install xen-system-amd64, reboot into Xen, and see that xenstored and xenconsoled run there"
} else {
    "apt install xen-system-arm64, reboot into Xen, and see that xenstored and xenconsoled run there"
};

/// Elsewhere there are no guests of the old kind.
const X86: bool = matches!(Arch::HERE, Arch::X86);

const DRIVERS: &[&str] = &["ext4", "xen_blkfront", "xen_netfront"];

/// Memory of `xl` while it builds a domain, bytes: the unpacked kernel, the initramfs and the domain's memory that they are
/// copied to (160 MiB seen). The domain's own memory is Xen's to give, and no part of the group's.
const TOOL_BYTES: u64 = 256 << 20;

/// Makes the domain and becomes its console. `xl create -c` would do both, but its console reads nothing from a pipe.
const FRONT: &str = r#""$1" create "$2" </dev/null >&2 && exec "$3" --interactive "$("$1" domid "$4")""#;

/// `xenconsole` is not for users, and so in nobody's PATH: Debian keeps one for every version, Fedora follows GNU.
const CONSOLES: &[&str] = &["/usr/lib/xen/bin", "/usr/libexec/xen/bin", "/usr/local/lib/xen/bin"];

/// How long a domain may take to be taken apart: its memory is given back page by page, which took 19 s on an emulated machine.
const DESTRUCTION: Duration = Duration::from_secs(60);

/// Where `xl` keeps a log for every domain it has made.
const LOGS: &str = "/var/log/xen";

words! {
    /// How far the guest knows that it is one.
    pub enum Type {
        /// Its kernel asks the hypervisor for what it would otherwise do itself; works on any CPU.
        Pv = "pv",
        /// The CPU runs it as hardware would, with devices as in PV.
        Pvh = "pvh",
    }
}

words! {
    /// The disk's back end.
    pub enum Backend {
        /// The kernel (blkback), on a loop device.
        Phy = "phy",
        /// QEMU.
        Qdisk = "qdisk",
    }
}

words! {
    /// How the guest reaches the peer.
    pub enum Net {
        /// An interface as root, else nothing.
        Auto = "auto",
        /// An interface.
        Vif = "vif",
        /// Not at all.
        None = "none",
    }
}

const TYPE: Setting = Setting::new("type", Type::KIND)
    .with_about("A guest that knows it is one (pv; x86 only), or one that hardware virtualisation runs, with the same devices (pvh)")
    .with_default(if X86 { "pv" } else { "pvh" });

settings! {
    /// The settings of a domain.
    struct Options {
        kind: Type as TYPE,
        /// What serves the disk: the kernel, on a loop device (phy), or QEMU (qdisk)
        disk: Backend = "phy",
        /// Whether the disk's file is opened with O_DIRECT, past the host's page cache (direct-io-safe for qdisk)
        direct ("disk.direct"): bool = true,
        disk_size ("disk.size"): Bytes as vm::DISK_SIZE,
        /// How the guest reaches the peer; auto is an interface of Xen's (vif) as root, else nothing
        net: Net = "auto",
        kernel: Option<PathBuf> as vm::KERNEL,
    }
}

impl Runner for Xen {
    fn name(&self) -> &'static str {
        "xen"
    }

    fn about(&self) -> &'static str {
        "A Xen domain (PV or PVH) made by xl, beside the privileged one that we run in"
    }

    fn in_cgroup(&self) -> bool {
        false
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn check(&self, settings: &Settings) -> Result<(), SettingError> {
        if !X86 && Options::read(settings).kind == Type::Pv {
            return Err(SettingError::Conflict("type=pv exists on x86 only; set type=pvh, or leave it away".into()));
        }
        Ok(())
    }

    fn version(&self, host: &Host, _settings: &Settings) -> Result<String, Unavailable> {
        process::require(PROGRAM, PACKAGE).map_err(|e| Unavailable { fix: FIX.into(), ..e })?;
        host.require_root("xl")?;
        image::mkfs()?;
        Ok(Hypervisor::ask()?.version)
    }

    fn engine(&self, _settings: &Settings) -> Option<PathBuf> {
        process::find(PROGRAM)
    }

    fn start_deadline(&self) -> Duration {
        // Where the hypervisor's own machine is emulated, a PV guest has taken two minutes on a busy one.
        let emulated = fingerprint::nested().is_some_and(|evidence| evidence.contains("QEMU"));
        Duration::from_secs(if emulated { 600 } else { 60 })
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let program = process::require(PROGRAM, PACKAGE).map_err(|e| anyhow!("{e}; {FIX}"))?;
        stage.host.require_root("xl").map_err(|e| anyhow!("{e}; {}", e.fix))?;
        let Options { kind, disk: backend, direct, disk_size, net, kernel } = Options::read(settings);
        Hypervisor::ask().map_err(|e| anyhow!("{e}; {}", e.fix))?.check(kind)?;
        let (guest, boot, image) = vm::boot_and_disk(kernel.as_deref(), disk_size, stage, DRIVERS)?;
        let link = path(net, stage)?;
        let name = stage.next_id();
        let logs = [format!("{LOGS}/xl-{name}.log"), format!("{LOGS}/qemu-dm-{name}.log")];
        stage.note(&["rm", "-f", &logs[0], &logs[1]])?;
        stage.note(&[&process::mark(&program), "destroy", &name])?;
        let script = match (&link.device, stage.peer_network()) {
            (Some(device), Ok(network)) => {
                Some(write_script(stage.scratch(), &script(&link, device, network.netns().name()))?)
            }
            _ => None,
        };
        let attached = match backend {
            Backend::Phy => Some(Loop::attach(&image, direct)?),
            Backend::Qdisk => None,
        };
        let domain = Domain {
            name: &name,
            kind,
            kernel: &boot.kernel,
            ramdisk: &boot.initramfs,
            cpus: stage.host.resources.cpus,
            memory_bytes: stage.host.resources.memory_bytes,
            disk: Disk { backend, direct, target: attached.as_ref().map_or(&image, |one| &one.path) },
            script: script.as_deref(),
            orders: Orders { disk: Some("/dev/xvda".into()), tty: Some("/dev/hvc0".into()), ..vm::orders(&link) },
        };
        let file = stage.scratch().join("domain.cfg");
        fs::write(&file, domain.config()?).with_context(|| format!("can't write {}", file.display()))?;
        let mut command = Command::new("sh");
        command.args(["-c", FRONT, PROGRAM]).arg(&program).arg(file).arg(console()?).arg(&name);
        let below = stage.data_file_system();
        let data = DataPath::on_image(stage, data_path(backend, direct, &below), Flushes::Passed);
        let mut launch = Launch::new(command).on(&program).booting(&guest).over(link).data(data);
        launch.unequal = Some(
            "Xen holds the domain's CPUs and memory itself: its virtual CPUs run where Xen puts them, and no counters of ours \
             see them"
                .into(),
        );
        launch.memory_beside = TOOL_BYTES;
        Ok(launch.cleanup(move || destroy(&program, &name, &logs)).cleanup(move || drop(attached)))
    }
}

/// The program that stands between a domain's console and us.
fn console() -> anyhow::Result<PathBuf> {
    let version = fs::read_to_string("/sys/hypervisor/version/major").and_then(|major| {
        let minor = fs::read_to_string("/sys/hypervisor/version/minor")?;
        Ok(format!("/usr/lib/xen-{}.{}/bin", major.trim(), minor.trim()))
    });
    let places: Vec<String> = version.into_iter().chain(CONSOLES.iter().map(|c| c.to_string())).collect();
    let found = places.iter().find_map(|place| process::find(&format!("{place}/xenconsole")));
    found.with_context(|| format!("there is no xenconsole in {}; {FIX}", places.join(", ")))
}

/// The path from the guest's file system down to the image, as the report has it.
fn data_path(backend: Backend, direct: bool, below: &str) -> String {
    let how = if direct { "O_DIRECT" } else { "through dom0's page cache" };
    let by = match backend {
        Backend::Phy => "blkback on a loop device",
        Backend::Qdisk => "QEMU (qdisk)",
    };
    format!("ext4 on xen-blkfront, raw (full) behind {by}, {how}, on {below}")
}

fn path(wanted: Net, stage: &mut Stage) -> anyhow::Result<PathToPeer> {
    let path = if wanted == Net::None { None } else { stage.vif()? };
    if wanted == Net::Vif && path.is_none() {
        let because = stage.peer_network().err().unwrap_or("there is none").to_string();
        bail!("net=vif needs the peer's network namespace: {because}; set net=none");
    }
    Ok(path.unwrap_or_default())
}

/// The hypervisor, in the words of `xl info`.
#[derive(Debug, PartialEq, Eq)]
struct Hypervisor {
    version: String,
    /// Kinds of guests that it can run here: `pv hvm hap ...`.
    abilities: String,
}

impl Hypervisor {
    fn ask() -> Result<Self, Unavailable> {
        let mut command = Command::new(process::require(PROGRAM, PACKAGE)?);
        command.arg("info");
        let broken = |because| Unavailable { because, fix: FIX.into(), broken: true };
        let text = process::ask(command).map_err(broken)?;
        Self::parse(&text).ok_or_else(|| broken("`xl info` names no xen_version and virt_caps".into()))
    }

    fn parse(info: &str) -> Option<Self> {
        let field = |name: &str| {
            let (_, value) = info.lines().filter_map(|l| l.split_once(':')).find(|(key, _)| key.trim() == name)?;
            Some(value.trim().to_string())
        };
        Some(Self { version: field("xen_version")?, abilities: field("virt_caps")? })
    }

    fn check(&self, kind: Type) -> anyhow::Result<()> {
        let (needed, other) = match kind {
            Type::Pv => ("pv", Type::Pvh),
            Type::Pvh => ("hvm", Type::Pv),
        };
        if !self.abilities.split(' ').any(|word| word == needed) {
            let abilities = &self.abilities;
            bail!(
                "type={kind} needs `{needed}` in the virt_caps of `xl info`, which has `{abilities}`; set type={other}"
            );
        }
        Ok(())
    }
}

/// An image as a block device. The kernel lets go of it when its last user does: us, and the domain.
#[derive(Debug)]
struct Loop {
    path: PathBuf,
    _held: File,
}

impl Loop {
    fn attach(image: &Path, direct: bool) -> anyhow::Result<Self> {
        let losetup = process::require("losetup", "mount").map_err(|e| anyhow!("disk=phy: {e}; {}", e.fix))?;
        let mut attach = Command::new(&losetup);
        attach.args(["--find", "--show"]).arg(format!("--direct-io={}", if direct { "on" } else { "off" })).arg(image);
        let attempted = || format!("can't make a loop device of {}; set disk=qdisk", image.display());
        let path = PathBuf::from(process::ask(attach).map_err(anyhow::Error::msg).with_context(attempted)?.trim());
        let held = File::open(&path).with_context(|| format!("can't open {}", path.display()));
        // As long as somebody has it open, this only tells the kernel to detach it once nobody has.
        let mut detach = Command::new(losetup);
        detach.arg("--detach").arg(&path);
        process::ask(detach).map_err(anyhow::Error::msg).with_context(attempted)?;
        Ok(Self { path, _held: held? })
    }
}

/// The hotplug script: `xl` runs it when the domain's interface comes. Xen makes that in the host's own network namespace, and
/// it belongs into the peer's. The file is ours alone; all words in it are names and addresses that we made.
fn script(path: &PathToPeer, device: &str, netns: &str) -> String {
    let four = path.peer.map(|ip| format!("ip -n {netns} addr add {ip}/{PREFIX} dev {device}\n")).unwrap_or_default();
    let six =
        path.peer6.map(|ip| format!("ip -n {netns} addr add {ip}/{PREFIX6} dev {device} nodad\n")).unwrap_or_default();
    format!(
        "#!/bin/sh -e\n\
         # Written by tarebench. The interface goes with the domain, wherever it is.\n\
         test \"$1\" = online || exit 0\n\
         PATH=$PATH:/usr/sbin:/usr/bin:/sbin:/bin\n\
         ip link set dev \"$vif\" netns {netns} name {device}\n\
         ip -n {netns} link set dev {device} addrgenmode none\n\
         {four}{six}\
         ip -n {netns} link set dev {device} up\n\
         xenstore-write \"$XENBUS_PATH/hotplug-status\" connected\n"
    )
}

fn write_script(folder: &Path, text: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join("vif");
    let written = File::options().write(true).create(true).truncate(true).mode(0o700).open(&path);
    let written = written.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    written.with_context(|| format!("can't write {}", path.display()))?;
    Ok(path)
}

/// Ends the domain if it has not ended, and removes what `xl` wrote about it.
fn destroy(program: &Path, name: &str, logs: &[String]) {
    let mut command = Command::new(program);
    command.args(["destroy", name]);
    if let Err(words) = process::ask_patiently(command, Stdio::null(), DESTRUCTION)
        && !words.contains("invalid domain identifier")
    {
        log::warn!("can't destroy the domain {name}: {words}; `xl destroy {name}` does it by hand");
    }
    for log in logs {
        match fs::remove_file(log) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => log::warn!("can't remove {log}: {e}"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// As `xl info` of Xen 4.17 on Debian 12 prints it, in part.
    const INFO: &str = "host                   : (none)\n\
        hw_caps                : 1fcbf3fd:f6d8320b:ec500800:00000077\n\
        virt_caps              : pv hvm hap gnttab-v1 gnttab-v2\n\
        xen_major              : 4\n\
        xen_version            : 4.17.7\n\
        xen_commandline        : console=com1 dom0_mem=1536M,max:1536M\n";

    #[test]
    fn the_hypervisors_words_are_understood() {
        let xen = Hypervisor::parse(INFO).expect("both are there");
        assert_eq!(xen.version, "4.17.7");
        xen.check(Type::Pv).expect("it can");
        xen.check(Type::Pvh).expect("it can");
        assert_eq!(Hypervisor::parse("xen_version : 4.17.7\n"), None);
    }

    #[test]
    fn a_type_that_the_hypervisor_has_not_is_refused_with_the_other() {
        let xen = |abilities: &str| Hypervisor { version: "4.17.7".into(), abilities: abilities.into() };
        let words = xen("pv gnttab-v1").check(Type::Pvh).expect_err("no hardware virtualisation").to_string();
        assert!(words.contains("`pv gnttab-v1`") && words.ends_with("set type=pv"), "{words}");
        let words = xen("hvm hap").check(Type::Pv).expect_err("built without PV").to_string();
        assert!(words.ends_with("set type=pvh"), "{words}");
    }

    #[test]
    fn the_path_of_the_data_names_every_layer() {
        assert_eq!(
            data_path(Backend::Phy, true, "ext4 on sda1"),
            "ext4 on xen-blkfront, raw (full) behind blkback on a loop device, O_DIRECT, on ext4 on sda1"
        );
        assert!(data_path(Backend::Qdisk, false, "xfs").contains("QEMU (qdisk), through dom0's page cache"));
    }

    #[test]
    fn a_loop_device_goes_with_its_last_user() {
        if !nix::unistd::geteuid().is_root() || process::find("losetup").is_none() {
            eprintln!("SKIPPED: loop devices take root and losetup");
            return;
        }
        // Not in /tmp, which may be a tmpfs: no direct I/O there.
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
        let image = folder.path().join("disk");
        File::create(&image).and_then(|file| file.set_len(32 << 20)).expect("made");
        let listed = || {
            let mut command = Command::new("losetup");
            command.args(["--noheadings", "--output", "AUTOCLEAR,DIO,BACK-FILE"]);
            let all = process::ask(command).expect("it lists");
            all.lines().find(|l| l.ends_with(&process::mark(&image))).map(|l| l.replace(' ', ""))
        };
        let (first, user) = {
            let attached = Loop::attach(&image, true).expect("attached");
            let user = File::open(&attached.path).expect("a second user");
            (listed().expect("it is there"), user)
        };
        assert!(first.starts_with("11"), "to be dropped, and direct: {first}");
        assert!(listed().is_some(), "somebody has it open");
        drop(user);
        // A child that another test is just forking has it open too, until it executes its program.
        let until = Instant::now() + Duration::from_secs(2);
        while listed().is_some() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(listed(), None);
    }

    /// Run by a shell whose `ip` and `xenstore-write` only say what they were asked.
    #[test]
    fn the_script_moves_the_interface_and_only_when_it_comes() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = PathToPeer {
            own: Some(([198, 18, 0, 2].into(), PREFIX)),
            peer: Some(std::net::IpAddr::from([198, 18, 0, 1])),
            peer6: Some("2001:2::1".parse().expect("an address")),
            ..PathToPeer::none()
        };
        let text = script(&path, "tareab00v", "tarebench-ab-peer");
        let script = write_script(folder.path(), &text).expect("written");
        for program in ["ip", "xenstore-write"] {
            let fake = folder.path().join(program);
            let mut file = File::options().write(true).create_new(true).mode(0o755).open(fake).expect("made");
            std::io::Write::write_all(&mut file, b"#!/bin/sh\necho \"${0##*/} $*\"\n").expect("written");
        }
        let said = |what: &str| {
            let mut command = Command::new(&script);
            command.arg(what).arg("type_if=vif").env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()));
            command.env("vif", "vif3.0").env("XENBUS_PATH", "backend/vif/3/0");
            process::ask(command).expect("it ends well")
        };
        assert_eq!(said("offline"), "");
        let expected = "ip link set dev vif3.0 netns tarebench-ab-peer name tareab00v\n\
            ip -n tarebench-ab-peer link set dev tareab00v addrgenmode none\n\
            ip -n tarebench-ab-peer addr add 198.18.0.1/30 dev tareab00v\n\
            ip -n tarebench-ab-peer addr add 2001:2::1/64 dev tareab00v nodad\n\
            ip -n tarebench-ab-peer link set dev tareab00v up\n\
            xenstore-write backend/vif/3/0/hotplug-status connected\n";
        assert_eq!(said("online"), expected);
    }
}
