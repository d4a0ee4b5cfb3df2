//! `jail`: FreeBSD's jails, by parameters on jail(8)'s command line: no jail.conf, no file of the system's is touched.
//!
//! The commands are built, and tested against the manual, on every platform; they run on FreeBSD only. The agent is the jail's
//! `command`, so that jail(8) executes it directly: the root needs no shell. A binary with a dynamic loader works too,
//! because the host's libraries are mounted read-only.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;
use workloads::facts::Network;
use workloads::settings::{Setting, Settings};
use workloads::{settings, words};

use crate::host::journal::Made;
use crate::host::{Host, Resources};
use crate::launch::{Launch, Runner};
use crate::names::{epair_name, hash};
use crate::path::PathToPeer;
use crate::process;
use crate::stage::Stage;
use crate::stage::data::DataPath;
use crate::stage::network::PREFIX;
use crate::unavailable::Unavailable;

/// FreeBSD's own boxes.
#[derive(Debug)]
pub struct Jail;

words! {
    /// The network that a jail gets.
    enum Net {
        /// The host's addresses.
        Shared = "shared",
        /// A network stack of its own.
        Vnet = "vnet",
        /// No IP at all.
        None = "none",
    }
}

words! {
    /// Where a jail's data lies.
    enum Data {
        /// The data directory, mounted by nullfs.
        Nullfs = "nullfs",
        /// A directory of the jail's root.
        Root = "root",
    }
}

settings! {
    struct Options {
        /// The host's addresses, a network stack of its own on an epair (FreeBSD 14 or newer), or no IP at all
        network: Net = "shared",
        /// The data directory mounted into the jail by nullfs, or a directory of the jail's root beside it
        data: Data = "nullfs",
        /// The suite's CPUs and memory by rctl (kern.racct.enable=1 at boot); the baseline has no such limits
        limits: bool = false,
    }
}

/// The host's directories that a program with a dynamic loader needs.
const LIBRARIES: &[&str] = &["lib", "libexec", "usr/lib"];

impl Runner for Jail {
    fn name(&self) -> &'static str {
        "jail"
    }

    fn about(&self) -> &'static str {
        "A FreeBSD jail with nothing in it but the agent"
    }

    fn in_cgroup(&self) -> bool {
        false
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn version(&self, host: &Host, _settings: &Settings) -> Result<String, Unavailable> {
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
        let options = Options::read(settings);
        let order = Order::of(&options, stage)?;
        order.lay_out()?;
        // The last note is the first to be carried out: the jail, then mounts, then the rest.
        for made in order.made().iter().rev() {
            stage.host.journal.note(made)?;
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
        let words = match options.data {
            Data::Root => format!("the jail's root directory on {below}"),
            Data::Nullfs => format!("nullfs mount of {below}"),
        };
        let path = order.path.clone();
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
    path: PathToPeer,
    /// Where the path is an epair.
    host_end: Option<HostEnd>,
    limits: Option<Resources>,
}

/// The host's end of a pair of Ethernet interfaces whose other end is the jail's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HostEnd {
    device: String,
    address: Ipv4Addr,
}

/// Names and a /30 in the lower half of 198.18.0.0/15, by the run's id: the host's end lies in the host's own stack. `peer`
/// listens on the host's loopback.
fn epair(id: &str, number: u32, peer: IpAddr) -> (PathToPeer, HostEnd) {
    let base = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + 4 * (hash(id).wrapping_add(number) % (1 << 14));
    let device = |end| epair_name(id, number, end);
    let path = PathToPeer {
        network: Network::Epair,
        device: Some(device('e')),
        own: Some((Ipv4Addr::from(base + 2), PREFIX)),
        peer: Some(peer),
        ..PathToPeer::none()
    };
    (path, HostEnd { device: device('p'), address: Ipv4Addr::from(base + 1) })
}

impl Order {
    fn of(options: &Options, stage: &mut Stage) -> anyhow::Result<Self> {
        static EPAIRS: AtomicU32 = AtomicU32::new(0);
        let in_root = options.data == Data::Root;
        let root = if in_root { stage.root_beside_data()? } else { stage.root()?.to_path_buf() };
        let (path, host_end) = match options.network {
            Net::Vnet => {
                let peer = stage.loopback().into();
                let (path, end) = epair(&stage.host.id, EPAIRS.fetch_add(1, Ordering::Relaxed), peer);
                (path, Some(end))
            }
            Net::None => (PathToPeer::none(), None),
            Net::Shared => (stage.path_to_peer()?, None),
        };
        Ok(Self {
            name: stage.next_id(),
            root,
            data: (!in_root).then(|| stage.data().to_path_buf()),
            libraries: !stage.host.static_binary,
            fstab: stage.scratch().join("fstab"),
            path,
            host_end,
            limits: options.limits.then_some(stage.host.resources),
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

    /// Commands that are run before the jail is made: neither is part of the time a start takes.
    fn preparation(&self) -> Vec<Vec<String>> {
        let mut steps = Vec::new();
        if let Some(Resources { cpus, memory_bytes, .. }) = self.limits {
            // Of a single CPU's time, in percent.
            let rules = [format!("memoryuse:deny={memory_bytes}"), format!("pcpu:deny={}", 100 * cpus)];
            steps.extend(rules.map(|rule| words(&["rctl", "-a", &format!("jail:{}:{rule}", self.name)])));
        }
        if let (Some(end), Some(near)) = (&self.host_end, &self.path.device) {
            // `create` names the pair itself; a shell picks the name up and gives ours.
            let script = "a=$(ifconfig epair create) && ifconfig \"$a\" name \"$0\" && ifconfig \"${a%a}b\" name \"$1\" && \
                          ifconfig \"$0\" inet \"$2\" up";
            steps.push(words(&["sh", "-c", script, &end.device, near, &format!("{}/{PREFIX}", end.address)]));
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
        match (&self.host_end, &self.path) {
            (Some(end), PathToPeer { device: Some(near), own: Some((own, prefix)), peer: Some(peer), .. }) => {
                let (n, router) = (&self.name, end.address);
                line.extend(["vnet".into(), format!("vnet.interface={near}")]);
                line.push(format!(
                    "exec.created=ifconfig -j {n} lo0 inet 127.0.0.1/8 up && ifconfig -j {n} {near} inet {own}/{prefix} up && \
                     route -j {n} -q add -host {peer} {router}"
                ));
            }
            (_, PathToPeer { network: Network::None, .. }) => line.extend(words(&["ip4=disable", "ip6=disable"])),
            _ => line.extend(words(&["ip4=inherit", "ip6=inherit"])),
        }
        line.extend(words(&["command=/tarebench", "agent", "--data", "/data"]));
        line
    }

    /// In the order in which it is to be removed. That does no harm where there is nothing to remove.
    fn made(&self) -> Vec<Made> {
        let mut all = vec![Made::Engine(words(&["jail", "-q", "-R", &self.name]))];
        let places = self.mounts().into_iter().map(|m| m.1).rev();
        for place in std::iter::once(self.root.join("dev")).chain(places) {
            all.push(Made::Engine(words(&["umount", "-f", &place.to_string_lossy()])));
        }
        if self.limits.is_some() {
            all.push(Made::Engine(words(&["rctl", "-r", &format!("jail:{}", self.name)])));
        }
        if let Some(end) = &self.host_end {
            all.push(Made::Interface(end.device.clone()));
        }
        all
    }

    /// The commands that do so.
    fn removals(&self) -> Vec<Vec<String>> {
        self.made().iter().filter_map(Made::removal).collect()
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
