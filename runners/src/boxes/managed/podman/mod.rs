//! `podman`: a container by Podman from a directory instead of an image, with a store of its own and no registry.

mod store;

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit};
use workloads::facts::{Flushes, Keeper, Network};
use workloads::settings::{Setting, SettingError, Settings};
use workloads::{settings, words};

use crate::boxes::oci::{crun, gvisor};
use crate::host::Host;
use crate::launch::{Launch, Runner};
use crate::path::PathToPeer;
use crate::process::{self, BINARY, Program};
use crate::stage::Stage;
use crate::stage::data::{Data, DataPath};
use crate::stage::network::Net;
use crate::unavailable::Unavailable;
use store::{Driver, IMAGE, Store};

/// Podman with conmon and an OCI runtime below it.
#[derive(Debug)]
pub struct Podman;

const PROGRAM: Program = Program::of("podman", "podman");

words! {
    /// Podman's own filter of system calls.
    pub enum Seccomp {
        /// With it.
        Default = "default",
        /// Without.
        Unconfined = "unconfined",
    }
}

words! {
    /// The maker of the writable layer.
    pub enum Storage {
        /// The kernel's overlayfs.
        Overlay = "overlay",
        /// fuse-overlayfs, a process.
        FuseOverlayfs = "fuse-overlayfs",
        /// None: a plain copy.
        Vfs = "vfs",
    }
}

settings! {
    /// The settings of a container by Podman.
    struct Options {
        binary: Option<PathBuf> as BINARY,
        /// Path to the peer: a veth pair (without privileges the host's loopback), the host's own stack, podman's bridge and kernel
        /// NAT, NAT in user space by podman's slirp4netns or pasta, or none
        network: Net = "veth" of ["veth", "host", "bridge", "slirp4netns", "pasta", "none"],
        /// Whether podman publishes a port, by which the peer connects into the container (network=bridge or slirp4netns)
        publish: bool = false,
        /// Where data lies: a bind mount of the data directory, or beside it a named volume, the container's writable layer
        /// (overlay), or a root directory without layers
        data: Data = "bind" of ["bind", "named", "layer", "root"],
        /// Whether podman is told to remove the container itself (--rm); it then mounts the writable layer as volatile
        rm: bool = true,
        /// Podman's default filter of system calls, or none
        seccomp: Seccomp = "default",
        /// The OCI runtime below: a program in PATH (runc, crun, runsc, kata-runtime, youki) or its full path, with its own
        /// defaults
        runtime: Option<String> = "runc",
        /// What the writable layer (data=layer) is made of: the kernel's overlayfs, fuse-overlayfs, or a plain copy (vfs)
        storage: Storage = "overlay",
    }
}

impl Options {
    fn check(&self) -> Result<(), SettingError> {
        let Self { network, data, storage, .. } = *self;
        if data != Data::Layer && storage != Storage::Overlay {
            return Err(SettingError::Conflict(format!(
                "with data={data} nothing of the data lies in a layer, which storage={storage} is about; set data=layer, or \
                 leave storage away"
            )));
        }
        if self.publish && !matches!(network, Net::Bridge | Net::Slirp4netns) {
            return Err(SettingError::Conflict(format!(
                "publish=true is for network=bridge or slirp4netns, and with network={network} nothing of podman's leads into the \
                 container; set one of those, or leave publish away"
            )));
        }
        // runsc must not see what podman's bridge is switched on by (see [`gvisor::hide_sysctl`]).
        if network == Net::Bridge && self.runs_on("runsc") {
            return Err(SettingError::Conflict(
                "podman's bridge needs /proc/sys/net, and runsc takes every network namespace that has it for the host's; set \
                 network=veth or slirp4netns, or another runtime"
                    .into(),
            ));
        }
        Ok(())
    }

    /// Hides from podman and its runtime what misleads them, and from the host what they would leave there.
    fn keep_apart(&self, command: &mut Command, privileged: bool) -> anyhow::Result<()> {
        let network = self.network;
        if self.runs_on("runsc") {
            // Which stack it takes it must be told, or it looks for devices where there are none.
            if matches!(network, Net::Host | Net::None) {
                command.arg("--runtime-flag").arg(format!("network={network}"));
            }
            gvisor::hide_sysctl(command);
        }
        if network == Net::Bridge {
            // Its plugins write down every address that they ever gave.
            process::own_run_directory(command, c"/var/lib/cni")?;
        }
        if privileged && !matches!(network, Net::Veth | Net::Host) {
            // Podman names the namespaces that it makes there, by names of its own, and forgets them when it is killed.
            process::own_run_directory(command, c"/run/netns")?;
        }
        Ok(())
    }

    /// States where data lies, on a path that a place of this kind has by itself.
    fn state(&self, path: DataPath) -> DataPath {
        let path = match self.data {
            // Such an overlay answers flushes by itself.
            Data::Layer if self.rm && self.storage == Storage::Overlay => {
                path.noting(", overlay mounted volatile").with_flushes(Flushes::Forgotten)
            }
            Data::Layer => path.noting(&format!(", {}", self.storage)),
            _ => path,
        };
        // Newer releases of runsc lay an overlay of their own over the root, which they never flush; older ones don't.
        if self.runs_on("runsc") && matches!(self.data, Data::Layer | Data::Root) {
            return path.with_keeper(Keeper::Unknown);
        }
        path
    }

    /// Whether the runtime below is this one, wherever it lies.
    fn runs_on(&self, runtime: &str) -> bool {
        self.runtime.as_ref().and_then(|set| Path::new(set).file_name()).is_some_and(|name| name == runtime)
    }
}

impl Runner for Podman {
    fn name(&self) -> &'static str {
        "podman"
    }

    fn about(&self) -> &'static str {
        "A container by Podman, with conmon and runc below"
    }

    fn simpler(&self) -> &'static [&'static str] {
        &["namespaces", "runc"]
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn check(&self, settings: &Settings) -> Result<(), SettingError> {
        Options::read(settings).check()
    }

    fn version(&self, _host: &Host, settings: &Settings) -> Result<String, Unavailable> {
        let version = PROGRAM.version(Options::read(settings).binary.as_deref())?;
        process::require("conmon", "conmon")?;
        Ok(version)
    }

    fn program(&self) -> Option<Program> {
        Some(PROGRAM)
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let options = Options::read(settings);
        let Options { network, data, storage, .. } = options;
        let runtime = runtime(options.runtime.as_deref().unwrap_or_default())?;
        let podman = PROGRAM.require(options.binary.as_deref())?;
        check_network(network, &podman, stage.host.privileged)?;
        let conmon = process::require("conmon", "conmon")?;
        let driver = Driver::of(data, storage)?;
        let id = stage.next_id();
        let programs = [podman.clone(), conmon, runtime.clone()];
        let mut store = Store::new(podman, runtime, driver, data, stage);
        store.without = if options.runs_on("crun") { crun::without(stage.host.privileged) } else { None };
        store.make()?;
        let root = match data {
            Data::Layer => {
                store.import(stage)?;
                None
            }
            Data::Root => Some(stage.root_beside_data()?),
            _ => Some(stage.root()?.to_path_buf()),
        };
        let mut path = match network {
            Net::None => PathToPeer::none(),
            Net::Host => stage.path(Net::Host)?,
            _ => stage.path_to_peer()?,
        };
        if options.publish {
            path.published = Some(stage.port_to_publish()?);
        }
        let cgroup = if stage.host.privileged { stage.cgroup().parent_for_engine() } else { None };

        let mut command = store.command();
        options.keep_apart(&mut command, stage.host.privileged)?;
        command.args(["run", "--interactive"]).args(["--name", &id]);
        if options.rm {
            command.arg("--rm");
        }
        command.arg("--cidfile").arg(store.cidfile(&id));
        // Straight to the pipes of the session: no log file, no copying by conmon.
        command.args(["--log-driver", "passthrough"]);
        command.args(["--network", &network_option(network, path.netns.as_deref())]).arg("--no-hosts");
        if let Some(port) = path.published {
            // In a namespace of ours at any address, else where nobody from outside comes.
            let at = if path.netns.is_some() { "" } else { "127.0.0.1:" };
            command.args(["--publish", &format!("{at}{port}:{port}")]);
        }
        if let Some(parent) = cgroup {
            // conmon stays in the stage's group, the container gets one below it.
            command.args(["--cgroup-parent", &parent]).args(["--cgroups", "no-conmon"]);
        }
        command.args(limits()?);
        if options.seccomp == Seccomp::Unconfined {
            command.args(["--security-opt", "seccomp=unconfined"]);
        }
        match data {
            Data::Bind => command.arg("--volume").arg(volume(stage.data())?),
            Data::Volume => command.args(["--volume", &format!("{id}:/data")]),
            _ => &mut command,
        };
        match &root {
            Some(root) => command.arg("--rootfs").arg(root),
            None => command.arg(IMAGE),
        };
        command.args(["/tarebench", "agent", "--data", "/data"]);
        let launch = programs.iter().fold(Launch::new(command), |launch, program| launch.on(program));
        let launch = launch.data(options.state(data.on(stage))).cleanup(move || store.remove(&id));
        Ok(launch.over(seen_from_inside(network, path)))
    }
}

/// The stage's path with what podman puts between it and the container.
fn seen_from_inside(network: Net, path: PathToPeer) -> PathToPeer {
    let kind = match network {
        Net::None => return path,
        // `ns:` tells podman which namespace to enter; podman itself stays outside.
        Net::Veth => return path.from_outside(),
        // All others begin in the stage's namespace, so what podman builds there goes with it.
        Net::Bridge => Network::Nat,
        Net::Slirp4netns => Network::UserNat,
        Net::Pasta => Network::Passt,
        _ => path.network,
    };
    let loopback = path.netns.is_none() && network == Net::Slirp4netns;
    let peer = if loopback { Some(SLIRP_HOST) } else { path.peer };
    // What podman builds translates IPv4.
    let peer6 = path.peer6.filter(|_| network == Net::Host);
    PathToPeer { network: kind, peer, peer6, ..path }
}

/// This host's loopback as seen from behind slirp4netns.
const SLIRP_HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 2));

/// Networks that this podman doesn't know, or that need more than it would say.
fn check_network(network: Net, podman: &Path, privileged: bool) -> Result<(), Unavailable> {
    let refuse = |because: String, fix: &str| Err(Unavailable { because, fix: fix.into(), broken: false });
    match network {
        Net::Slirp4netns => process::require("slirp4netns", "slirp4netns").map(drop),
        Net::Pasta => {
            process::require("pasta", "passt")?;
            let version = PROGRAM.version(Some(podman))?;
            if !knows_pasta(&version) {
                let because = format!("podman {version} doesn't know pasta, which came with 4.4");
                return refuse(because, "set network = slirp4netns, or install a newer podman");
            }
            if privileged {
                return Ok(());
            }
            let because = "pasta leads to no address of this host's loopback, where the peer is without root";
            refuse(because.into(), "set network = slirp4netns, or run tarebench as root")
        }
        Net::Bridge if !privileged => refuse(
            "without root podman's bridge leads to no address that the peer could be on".into(),
            "set network = slirp4netns, or run tarebench as root",
        ),
        _ => Ok(()),
    }
}

fn knows_pasta(version: &str) -> bool {
    let mut parts = version.split(|c: char| !c.is_ascii_digit()).map(|p| p.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (4, 4)
}

/// The value of `--network`; `netns` is the stage's namespace, where it has one.
fn network_option(network: Net, netns: Option<&Path>) -> String {
    match (network, netns) {
        (Net::Veth, Some(netns)) => format!("ns:{}", netns.display()),
        (Net::Veth, None) => "host".into(),
        (Net::Slirp4netns, None) => "slirp4netns:allow_host_loopback=true".into(),
        (network, _) => network.to_string(),
    }
}

/// Podman would raise some limits beyond what the harness may do; ours are what the baseline runs under too.
fn limits() -> anyhow::Result<Vec<String>> {
    let one = |name: &str, resource, most: u64| -> anyhow::Result<String> {
        let (soft, hard) = getrlimit(resource).context("can't read our own limits")?;
        let number = |n: u64| if n == libc::RLIM_INFINITY { "-1".to_string() } else { n.to_string() };
        Ok(format!("--ulimit={name}={}:{}", number(soft.min(most)), number(hard.min(most))))
    };
    let all = libc::RLIM_INFINITY;
    // Podman lowers its own limit of processes to this before it starts anything, and could not raise it again.
    let pids = fs::read_to_string("/proc/sys/kernel/pid_max").ok().and_then(|t| t.trim().parse().ok()).unwrap_or(all);
    Ok(vec![one("nofile", Resource::RLIMIT_NOFILE, all)?, one("nproc", Resource::RLIMIT_NPROC, pids)?])
}

fn volume(data: &Path) -> anyhow::Result<String> {
    let text = data.to_str().with_context(|| format!("{} is not a path that podman can take", data.display()))?;
    anyhow::ensure!(!text.contains(':'), "podman can't mount {text}: its path has a colon");
    Ok(format!("{text}:/data"))
}

fn runtime(word: &str) -> Result<PathBuf, Unavailable> {
    let package = matches!(word, "runc" | "crun" | "runsc").then_some(word);
    process::require(word, word).map_err(|no| Unavailable {
        because: format!("there is no OCI runtime `{word}`"),
        fix: package
            .map_or("set runtime to the full path of one, or runtime=runc".into(), |p| format!("apt install {p}")),
        ..no
    })
}

#[cfg(test)]
mod tests {
    use workloads::facts::DataFacts;

    use super::*;

    fn checked(given: &[(&str, &str)]) -> Result<(), SettingError> {
        Podman.check(&Settings::of(Options::TABLE, given))
    }

    #[test]
    fn each_path_to_the_peer_has_its_network() {
        let netns = Path::new("/run/netns/x");
        assert_eq!(network_option(Net::Veth, Some(netns)), "ns:/run/netns/x");
        assert_eq!(network_option(Net::Veth, None), "host");
        assert_eq!(network_option(Net::None, None), "none");
        assert_eq!(network_option(Net::Bridge, Some(netns)), "bridge");
        assert_eq!(network_option(Net::Slirp4netns, None), "slirp4netns:allow_host_loopback=true");
    }

    #[test]
    fn a_network_that_can_not_be_is_refused_with_the_reason() {
        assert!(!knows_pasta("4.3.1") && knows_pasta("4.4.0") && knows_pasta("5.4.2+ds1"));
        let no = check_network(Net::Bridge, Path::new("podman"), false).expect_err("refused");
        assert!(no.because.contains("without root") && no.fix.contains("slirp4netns") && !no.broken, "{no:?}");
        check_network(Net::Host, Path::new("podman"), false).expect("anybody may");
        let on_runsc = |network| checked(&[("runtime", "/opt/runsc"), ("network", network)]);
        assert!(on_runsc("bridge").expect_err("refused").to_string().contains("network=veth"));
        on_runsc("veth").expect("works");
        checked(&[("network", "bridge")]).expect("runc may");
        checked(&[("network", "bridge"), ("publish", "true")]).expect("what it is for");
        let no = checked(&[("publish", "true")]).expect_err("refused").to_string();
        assert!(no.contains("network=veth") && no.contains("network=bridge or slirp4netns"), "{no}");
    }

    #[test]
    fn a_layer_that_podman_removes_itself_forgets_flushes() {
        let stated = |given: &[(&str, &str)]| {
            let on_disk = DataFacts { keeper: Keeper::Disk, flushes: Flushes::Passed, ..DataFacts::default() };
            let path = DataPath { words: "there".into(), facts: on_disk };
            let DataPath { words, facts } = Options::read(&Settings::of(Options::TABLE, given)).state(path);
            (words, facts.keeper, facts.flushes)
        };
        let (disk, passed) = (Keeper::Disk, Flushes::Passed);
        assert_eq!(stated(&[]), ("there".into(), disk, passed));
        assert_eq!(stated(&[("data", "named")]), ("there".into(), disk, passed));
        let volatile = ("there, overlay mounted volatile".into(), disk, Flushes::Forgotten);
        assert_eq!(stated(&[("data", "layer")]), volatile);
        assert_eq!(stated(&[("data", "layer"), ("rm", "false")]), ("there, overlay".into(), disk, passed));
        assert_eq!(stated(&[("data", "layer"), ("storage", "vfs")]), ("there, vfs".into(), disk, passed));
        assert_eq!(stated(&[("data", "root"), ("runtime", "runsc")]).1, Keeper::Unknown);
    }

    #[test]
    fn storage_is_for_the_layer_alone() {
        let no = checked(&[("data", "named"), ("storage", "vfs")]).expect_err("refused").to_string();
        assert!(no.contains("data=named") && no.contains("data=layer"), "{no}");
        checked(&[("data", "layer"), ("storage", "vfs")]).expect("what it is for");
        checked(&[("data", "named")]).expect("the default means nothing there");
    }

    #[test]
    fn limits_are_our_own() {
        let limits = limits().expect("limits can be read");
        assert!(limits[0].starts_with("--ulimit=nofile=") && limits[1].starts_with("--ulimit=nproc="), "{limits:?}");
    }

    #[test]
    fn a_colon_in_the_data_directory_is_refused_with_the_reason() {
        assert!(volume(Path::new("/a:b")).expect_err("refused").to_string().contains("colon"));
        assert_eq!(volume(Path::new("/a b")).expect("fine"), "/a b:/data");
    }
}
