//! `jail`: FreeBSD's jails, by parameters on jail(8)'s command line: no jail.conf, no file of the system's is touched.
//!
//! The commands are built, and tested against the manual, on every platform; they run on FreeBSD only. The agent is the jail's
//! `command`, so that jail(8) executes it directly: the root needs no shell. A binary with a dynamic loader works too,
//! because the host's libraries are mounted read-only.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;
use workloads::facts::Network;
use workloads::settings::{Kind, Setting, Settings};

use crate::host::{Host, Resources};
use crate::launch::{Launch, Runner};
use crate::names::hash;
use crate::path::PathToPeer;
use crate::process;
use crate::stage::data::DataPath;
use crate::stage::{Stage, loopback};
use crate::unavailable::Unavailable;

/// FreeBSD's own boxes.
#[derive(Debug)]
pub struct Jail;

const SETTINGS: &[Setting] = &[
    Setting {
        name: "network",
        kind: Kind::Choice(&["shared", "vnet", "none"]),
        default: "shared",
        about: "The host's addresses, a network stack of its own on an epair (FreeBSD 14 or newer), or no IP at all",
    },
    Setting {
        name: "data",
        kind: Kind::Choice(&["nullfs", "root"]),
        default: "nullfs",
        about: "The data directory mounted into the jail by nullfs, or a directory of the jail's root beside it",
    },
    Setting {
        name: "limits",
        kind: Kind::Switch,
        default: "false",
        about: "The suite's CPUs and memory by rctl (kern.racct.enable=1 at boot); the baseline has no such limits",
    },
];

/// The host's directories that a program with a dynamic loader needs.
const LIBRARIES: &[&str] = &["lib", "libexec", "usr/lib"];

impl Runner for Jail {
    fn name(&self) -> &'static str {
        "jail"
    }

    fn about(&self) -> &'static str {
        "A FreeBSD jail with nothing in it but the agent"
    }

    fn settings(&self) -> &'static [Setting] {
        SETTINGS
    }

    fn version(&self, host: &Host) -> Result<String, Unavailable> {
        let unavailable = |because: String, fix: &str| Unavailable { because, fix: fix.into(), broken: false };
        if cfg!(not(target_os = "freebsd")) {
            let because = format!("needs FreeBSD; this is {} {}", host.system, host.kernel);
            return Err(unavailable(because, "run tarebench on a FreeBSD host"));
        }
        if !host.privileged {
            return Err(unavailable("only root can make a jail".into(), "run tarebench as root"));
        }
        if process::find("jail").is_none() {
            return Err(unavailable("`jail` is not in PATH".into(), "install FreeBSD's base system"));
        }
        Ok(format!("{} {}", host.system, host.kernel))
    }

    fn engine(&self, _settings: &Settings) -> Option<PathBuf> {
        process::find("jail")
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let order = Order::of(settings, stage)?;
        order.lay_out()?;
        // The last note is the first to be carried out: the jail, then mounts, then the rest.
        for removal in order.removals().iter().rev() {
            stage.note(&removal.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        for step in order.preparation() {
            if let Err(words) = process::ask(command(&step)) {
                order.remove();
                let hint = if step[0] == "rctl" {
                    "; rctl needs kern.racct.enable=1 in /boot/loader.conf and a reboot, or set limits=false"
                } else {
                    ""
                };
                anyhow::bail!("can't prepare the jail: `{}`: {words}{hint}", step.join(" "));
            }
        }
        let mut front = command(&order.creation());
        // Nothing of the harness's environment is the agent's business.
        front.env_clear().env("PATH", "/sbin:/bin:/usr/sbin:/usr/bin");
        let below = stage.data_file_system();
        let words = match settings.get("data") {
            "root" => format!("the jail's root directory on {below}"),
            _ => format!("nullfs mount of {below}"),
        };
        let path = match &order.network {
            Link::Shared => stage.path_to_peer()?,
            Link::Epair(Epair { peer, .. }) => {
                PathToPeer { network: Network::Epair, peer: Some((*peer).into()), ..PathToPeer::none() }
            }
            Link::None => PathToPeer::none(),
        };
        Ok(Launch::new(front).over(path).data(DataPath::on_host(stage, words)).cleanup(move || order.remove()))
    }
}

/// Everything that one start of a jail takes.
#[derive(Debug, Clone)]
struct Order {
    /// Of the jail, and in every rule and command about it.
    name: String,
    root: PathBuf,
    /// Host directory for nullfs; `None` where data lies in the root.
    data: Option<PathBuf>,
    /// Whether the host's libraries are mounted.
    libraries: bool,
    fstab: PathBuf,
    network: Link,
    limits: Option<Resources>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Link {
    Shared,
    Epair(Epair),
    None,
}

/// A pair of Ethernet interfaces, one end on the host and one given to the jail.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Epair {
    near: String,
    far: String,
    /// The host's end.
    router: Ipv4Addr,
    own: Ipv4Addr,
    /// Where the peer listens, on the host's loopback.
    peer: Ipv4Addr,
}

impl Epair {
    /// Names and a /30 in the lower half of 198.18.0.0/15, by the run's id: the host's end lies in the host's own stack.
    fn new(id: &str, number: u32, peer: Ipv4Addr) -> Self {
        let base = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + 4 * (hash(id).wrapping_add(number) % (1 << 14));
        let device = |end| format!("tare{}{:02}{end}", id.chars().take(8).collect::<String>(), number % 100);
        let [router, own] = [base + 1, base + 2].map(Ipv4Addr::from);
        Self { near: device('e'), far: device('p'), router, own, peer }
    }
}

impl Order {
    fn of(settings: &Settings, stage: &mut Stage) -> anyhow::Result<Self> {
        static EPAIRS: AtomicU32 = AtomicU32::new(0);
        let in_root = settings.get("data") == "root";
        let root = if in_root { stage.root_beside_data()? } else { stage.root()?.to_path_buf() };
        let network = match settings.get("network") {
            "vnet" => {
                let peer = stage.loopback();
                Link::Epair(Epair::new(&stage.host.id, EPAIRS.fetch_add(1, Ordering::Relaxed), peer))
            }
            "none" => Link::None,
            _ => Link::Shared,
        };
        Ok(Self {
            name: stage.next_id(),
            root,
            data: (!in_root).then(|| stage.data().to_path_buf()),
            libraries: !stage.host.static_binary,
            fstab: stage.scratch().join("fstab"),
            network,
            limits: settings.switch("limits").then_some(stage.host.resources),
        })
    }

    /// Mount points and the table of what jail(8) mounts.
    fn lay_out(&self) -> anyhow::Result<()> {
        for (_, place, _, _) in self.mounts() {
            fs::create_dir_all(&place).with_context(|| format!("can't make {}", place.display()))?;
        }
        fs::write(&self.fstab, self.table()).with_context(|| format!("can't write {}", self.fstab.display()))
    }

    /// Source, place, type and options, in the order of mounting.
    fn mounts(&self) -> Vec<(PathBuf, PathBuf, &'static str, &'static str)> {
        let mut all = vec![("tmpfs".into(), self.root.join("tmp"), "tmpfs", "rw,mode=1777")];
        if self.libraries {
            all.extend(LIBRARIES.iter().map(|l| (Path::new("/").join(l), self.root.join(l), "nullfs", "ro")));
        }
        all.extend(self.data.iter().map(|data| (data.clone(), self.root.join("data"), "nullfs", "rw")));
        all
    }

    /// In the notation of fstab(5).
    fn table(&self) -> String {
        let word = |path: &Path| path.to_string_lossy().replace(' ', "\\040").replace('\t', "\\011");
        let line = |(source, place, kind, options): &(PathBuf, PathBuf, &str, &str)| {
            format!("{} {} {kind} {options} 0 0\n", word(source), word(place))
        };
        self.mounts().iter().map(line).collect()
    }

    /// What is run before the jail is made: neither is part of the time a start takes.
    fn preparation(&self) -> Vec<Vec<String>> {
        let mut steps = Vec::new();
        if let Some(Resources { cpus, memory_bytes, .. }) = self.limits {
            // Of a single CPU's time, in percent.
            let rules = [format!("memoryuse:deny={memory_bytes}"), format!("pcpu:deny={}", 100 * cpus)];
            steps.extend(rules.map(|rule| words(&["rctl", "-a", &format!("jail:{}:{rule}", self.name)])));
        }
        if let Link::Epair(Epair { near, far, router, .. }) = &self.network {
            // `create` names the pair itself; a shell picks the name up and gives ours.
            let script = "a=$(ifconfig epair create) && ifconfig \"$a\" name \"$0\" && ifconfig \"${a%a}b\" name \"$1\" && \
                          ifconfig \"$0\" inet \"$2\" up";
            steps.push(words(&["sh", "-c", script, far, near, &format!("{router}/30")]));
        }
        steps
    }

    /// jail(8)'s command line. The CPU affinity is inherited: an attached process keeps its own within the jail's set.
    fn creation(&self) -> Vec<String> {
        let mut line = words(&["jail", "-q", "-c"]);
        line.push(format!("name={}", self.name));
        line.push(format!("path={}", self.root.display()));
        line.push("host.hostname=tarebench".into());
        // The agent asks for the file system of its data directory: it may see the mounts below its root.
        line.push("enforce_statfs=1".into());
        line.extend(words(&["mount.devfs", "devfs_ruleset=4"]));
        line.push(format!("mount.fstab={}", self.fstab.display()));
        match &self.network {
            Link::Shared => line.extend(words(&["ip4=inherit", "ip6=inherit"])),
            Link::None => line.extend(words(&["ip4=disable", "ip6=disable"])),
            Link::Epair(Epair { near, router, own, peer, .. }) => {
                let n = &self.name;
                line.extend(["vnet".into(), format!("vnet.interface={near}")]);
                line.push(format!(
                    "exec.created=ifconfig -j {n} lo0 inet 127.0.0.1/8 up && ifconfig -j {n} {near} inet {own}/30 up && \
                     route -j {n} -q add -host {peer} {router}"
                ));
            }
        }
        line.extend(words(&["command=/tarebench", "agent", "--data", "/data"]));
        line
    }

    /// In the order in which they are to be run. Each does no harm where there is nothing to remove.
    fn removals(&self) -> Vec<Vec<String>> {
        let mut steps = vec![words(&["jail", "-q", "-R", &self.name])];
        let places = self.mounts().into_iter().map(|m| m.1).rev();
        for place in std::iter::once(self.root.join("dev")).chain(places) {
            steps.push(words(&["umount", "-f", &place.to_string_lossy()]));
        }
        if self.limits.is_some() {
            steps.push(words(&["rctl", "-r", &format!("jail:{}", self.name)]));
        }
        if let Link::Epair(epair) = &self.network {
            steps.push(words(&["ifconfig", &epair.far, "destroy"]));
        }
        steps
    }

    fn remove(&self) {
        for step in self.removals() {
            // A jail goes with its last process, and takes its rules along: then there is nothing to remove.
            if let Err(words) = process::ask(command(&step)) {
                log::debug!("{words}");
            }
        }
    }
}

/// Whether a removal from a journal names an interface or an address that only the run of this id has: what carries the
/// run's name in full needs no such rule.
pub(crate) fn is_ours(removal: &[String], id: &str) -> bool {
    let words: Vec<&str> = removal.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["ifconfig", device, "destroy"] => {
            device.strip_prefix("tare").and_then(|rest| rest.strip_prefix(id)).is_some_and(|rest| {
                rest.len() == 3 && rest[..2].bytes().all(|b| b.is_ascii_digit()) && rest.ends_with('p')
            })
        }
        ["ifconfig", "lo0", "inet", address, "-alias"] => *address == format!("{}/32", loopback::address(id)),
        _ => false,
    }
}

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|w| w.to_string()).collect()
}

fn command(line: &[String]) -> Command {
    let mut command = Command::new(&line[0]);
    command.args(&line[1..]);
    command
}

#[cfg(test)]
mod tests;
