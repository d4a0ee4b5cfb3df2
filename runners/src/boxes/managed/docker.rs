//! `docker`: a container by a Docker daemon that runs already: the one that the client would talk to, or the one at `host`.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use workloads::facts::Network;
use workloads::settings;
use workloads::settings::{Setting, Settings, Value as _};

use crate::boxes::managed::Seccomp;
use crate::boxes::sandbox;
use crate::host::{Host, Resources};
use crate::launch::{Launch, Runner};
use crate::names;
use crate::path::PathToPeer;
use crate::process::{self, BINARY, Program};
use crate::stage::Stage;
use crate::stage::data::{Data, DataPath};
use crate::stage::network::Net;
use crate::unavailable::Unavailable;

/// Docker's client, daemon, containerd and runtime. Every container, image and volume that we make is removed again.
#[derive(Debug)]
pub struct Docker;

const PROGRAM: Program = Program::of("docker", "docker.io");

/// For handing the image over, which is as large as our binary.
const IMPORT: Duration = Duration::from_secs(60);

/// Where data lies, for a client of this command line.
pub(crate) const DATA: Setting =
    Setting::new("data", Data::KIND).with_words(&["bind", "named", "layer", "tmpfs"]).with_default("bind").with_about(
        "Where data lies: a bind mount of the data directory, a volume that the daemon keeps, the container's writable layer, or memory",
    );

settings! {
    /// The settings of a container by Docker.
    struct Options {
        /// Full path of Docker's client, for another release or build than the installed one; by default the one in PATH
        binary: Option<PathBuf> as BINARY,
        /// The daemon, as in unix:///run/docker.sock; by default the client's own choice (DOCKER_HOST, context)
        host: Option<String> = "",
        /// Path to the peer: Docker's default bridge to this host, this host's loopback, or none
        network: Net = "bridge" of ["bridge", "host", "none"],
        data: Data as DATA,
        seccomp: Seccomp as sandbox::SECCOMP,
        /// A runtime that the daemon knows by this name (runc, runsc, kata); by default the daemon's choice
        runtime: Option<String> = "",
        /// The storage driver (overlay2, vfs, btrfs, ...), which is the daemon's: another than this one is refused; by default any
        storage: Option<String> = "",
    }
}

impl Options {
    /// The settings of the container itself.
    fn wanted(self) -> Wanted {
        Wanted { network: self.network, data: self.data, seccomp: self.seccomp, runtime: self.runtime }
    }
}

/// The settings of one container, for clients with this command line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) network: Net,
    pub(crate) data: Data,
    pub(crate) seccomp: Seccomp,
    pub(crate) runtime: Option<String>,
}

impl Runner for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn about(&self) -> &'static str {
        "A container by the Docker daemon, with containerd and an OCI runtime below"
    }

    fn simpler(&self) -> &'static [&'static str] {
        &["namespaces", "runc"]
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn version(&self, _host: &Host, settings: &Settings) -> Result<String, Unavailable> {
        let version = PROGRAM.version(Options::read(settings).binary.as_deref());
        version.map(|v| v.trim_end_matches(',').to_string()).map_err(|no| client_beside(no, process::find("dockerd")))
    }

    fn program(&self) -> Option<Program> {
        Some(PROGRAM)
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let options = Options::read(settings);
        let client = Client {
            name: "docker",
            program: PROGRAM.require(options.binary.as_deref())?,
            options: options.host.iter().flat_map(|host| ["--host".into(), host.clone()]).collect(),
        };
        let daemon = daemon(&client, options.storage.as_deref())?;
        client.launch(&options.wanted(), stage, &daemon)
    }
}

/// Debian 13 has the client in a package of its own, which its daemon's only recommends.
fn client_beside(no: Unavailable, daemon: Option<PathBuf>) -> Unavailable {
    match daemon {
        Some(daemon) if !no.broken => Unavailable {
            because: format!("{}, only the daemon {} is there", no.because, daemon.display()),
            fix: "apt install docker-cli".into(),
            ..no
        },
        _ => no,
    }
}

/// What helps a client that reaches no daemon, by its own words. One whose socket is closed to us runs already.
fn fix_of(words: &str) -> &'static str {
    if words.to_lowercase().contains("permission denied while trying to connect to") {
        return "run as root, or `sudo usermod -aG docker $USER` and log in again (`newgrp docker` for this shell alone)";
    }
    "systemctl start docker (or: service docker start), or name a daemon that runs: host=unix:///PATH, or DOCKER_HOST"
}

/// The daemon that the client talks to, where its storage driver is the one that was asked for.
fn daemon(client: &Client, storage: Option<&str>) -> Result<Daemon, Unavailable> {
    let unavailable = |because: String| {
        let fix = fix_of(&because).into();
        Unavailable { because, fix, broken: true }
    };
    // `docker info` prints what it knows and succeeds even without a daemon; this doesn't.
    client.ask(&["version", "--format", "{{.Server.Version}}"]).map_err(unavailable)?;
    let daemon = client.daemon().map_err(unavailable)?;
    if let Some(storage) = storage
        && storage != daemon.storage
    {
        return Err(Unavailable {
            because: format!("the daemon's storage driver is {}, not {storage}", daemon.storage),
            fix: format!(
                "start the daemon with --storage-driver {storage} (or \"storage-driver\" in /etc/docker/daemon.json), or set \
                 storage={}",
                daemon.storage
            ),
            broken: false,
        });
    }
    Ok(daemon)
}

/// A daemon, by its own words.
pub(crate) struct Daemon {
    version: String,
    /// Of cgroups: `cgroupfs` or `systemd`.
    driver: String,
    /// Of images and layers: `overlay2`.
    storage: String,
    /// The directory that it keeps everything in, where it says.
    root: PathBuf,
}

/// Docker's client, or one with the same command line, talking to one daemon.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// As users call it.
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    /// Options before each command: which daemon, for one.
    pub(crate) options: Vec<String>,
}

impl Client {
    /// A container from an image of our own; everything that was made goes with the launch.
    pub(crate) fn launch(&self, wanted: &Wanted, stage: &mut Stage, daemon: &Daemon) -> anyhow::Result<Launch> {
        let id = stage.next_id();
        let volume = wanted.data == Data::Volume;
        // Undone from the last to the first: the container goes before what it stands on.
        self.note(stage, &["image", "rm", "--force", &id])?;
        if volume {
            self.note(stage, &["volume", "rm", "--force", &id])?;
        }
        self.note(stage, &["rm", "--force", "--volumes", &id])?;
        let mut launch = {
            let (client, id) = (self.clone(), id.clone());
            // Made before there is anything to remove: what fails half-way is removed, too.
            Launch::new(Command::new(&client.program)).on(&self.program).cleanup(move || client.remove(&id, volume))
        };
        self.import(stage, &id)?;
        let (option, path) = self.path(wanted.network, stage)?;
        let parent = match daemon.driver.as_str() {
            "cgroupfs" => stage.cgroup().parent_for_engine(),
            _ => None,
        };
        launch.command = self.command();
        let run = Run {
            id: &id,
            network: &option,
            data: stage.data(),
            parent: parent.as_deref(),
            limits: stage.host.resources,
            cpus: &stage.host.pinning.work,
        };
        run.arguments(&mut launch.command, self.name, wanted)?;
        launch.unequal = parent.is_none().then(|| {
            format!(
                "the cgroup driver of {} is {}: it holds CPUs and memory itself, and no counters of ours see it",
                self.name, daemon.driver
            )
        });
        launch.version = Some(format!("{} (daemon)", daemon.version));
        Ok(launch.over(path).data(match wanted.data {
            Data::Volume => DataPath::somewhere(&daemon.root, "a volume in the daemon's data directory"),
            Data::Layer => {
                DataPath::somewhere(&daemon.root, format!("the container's writable layer ({})", daemon.storage))
            }
            data => data.on(stage),
        }))
    }

    /// The value of `--network`, and how the container reaches the peer by it. The client itself stays outside.
    fn path(&self, network: Net, stage: &mut Stage) -> anyhow::Result<(String, PathToPeer)> {
        let through = |network, peer, port| PathToPeer { network, peer, port, ..PathToPeer::none() };
        let option = network.to_string();
        Ok(match network {
            Net::Veth => {
                let path = stage.path_to_peer()?;
                let Some(netns) = &path.netns else {
                    bail!("network=veth needs root; set network=none, or run tarebench as root");
                };
                (format!("ns:{}", netns.display()), path.from_outside())
            }
            Net::Host => {
                let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
                (option, through(Network::Loopback, Some(peer), Some(stage.peer_on(peer)?)))
            }
            Net::Bridge => {
                let peer = self.gateway()?;
                (option, through(Network::Bridge, Some(peer), Some(stage.peer_on(peer)?)))
            }
            _ => (option, PathToPeer::none()),
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.options);
        command
    }

    pub(crate) fn ask(&self, words: &[&str]) -> Result<String, String> {
        let mut command = self.command();
        command.args(words);
        process::ask(command).map(|text| text.trim().to_string())
    }

    fn note(&self, stage: &Stage, words: &[&str]) -> anyhow::Result<()> {
        let program = process::mark(&self.program);
        let options = self.options.iter().map(String::as_str);
        let all: Vec<&str> = std::iter::once(&*program).chain(options).chain(words.iter().copied()).collect();
        stage.note(&all)
    }

    /// Asks the daemon.
    ///
    /// # Errors
    /// The client's words, where it finds none.
    pub(crate) fn daemon(&self) -> Result<Daemon, String> {
        // What a client's template doesn't know ends it.
        let root = if self.name == "docker" { " {{.DockerRootDir}}" } else { "" };
        let format = format!("{{{{.ServerVersion}}}} {{{{.CgroupDriver}}}} {{{{.Driver}}}}{root}");
        let about = self.ask(&["info", "--format", &format])?;
        let mut words = about.splitn(4, ' ').map(String::from);
        let mut next = || words.next().unwrap_or_default();
        Ok(Daemon { version: next(), driver: next(), storage: next(), root: next().into() })
    }

    /// This host's address on the default bridge.
    fn gateway(&self) -> anyhow::Result<IpAddr> {
        let format = "{{range .IPAM.Config}}{{.Gateway}},{{.Subnet}} {{end}}";
        let words = self
            .ask(&["network", "inspect", "bridge", "--format", format])
            .map_err(|words| anyhow!("{} has no default bridge: {words}; set network = host or none", self.name))?;
        gateway_of(&words)
            .with_context(|| format!("the default bridge has no address in `{words}`; set network = host or none"))
    }

    /// An image with our binary and nothing else, under the container's name.
    fn import(&self, stage: &mut Stage, id: &str) -> anyhow::Result<()> {
        let archive = stage.scratch().join("image.tar");
        if !archive.exists() {
            pack(stage.root()?, &archive).with_context(|| format!("can't write {}", archive.display()))?;
        }
        let file = File::open(&archive).with_context(|| format!("can't read {}", archive.display()))?;
        let mut command = self.command();
        command.args(["import", "-", id]);
        process::ask_patiently(command, Stdio::from(file), IMPORT)
            .map(drop)
            .map_err(|words| anyhow!("{} takes no image from us: {words}", self.name))
    }

    fn remove(&self, id: &str, volume: bool) {
        let gone = |words: &str| words.to_lowercase().contains("no such");
        let mut steps = vec![["rm", "--force", "--volumes", id], ["image", "rm", "--force", id]];
        if volume {
            steps.push(["volume", "rm", "--force", id]);
        }
        for step in steps {
            if let Err(words) = self.ask(&step)
                && !gone(&words)
            {
                log::warn!("`{} {}`: {words}", self.name, step.join(" "));
            }
        }
    }
}

/// One container.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    /// The name of the container, of its image and of its volume.
    pub(crate) id: &'a str,
    /// The value of `--network`.
    pub(crate) network: &'a str,
    /// The data directory.
    pub(crate) data: &'a Path,
    /// The cgroup above the container's, with the limits; without one the daemon is told them.
    pub(crate) parent: Option<&'a str>,
    pub(crate) limits: Resources,
    pub(crate) cpus: &'a [usize],
}

impl Run<'_> {
    /// The command behind the client's own options.
    pub(crate) fn arguments(&self, command: &mut Command, client: &str, wanted: &Wanted) -> anyhow::Result<()> {
        command.args(["run", "--interactive", "--name", self.id, "--network", self.network]);
        // Nobody else's image of this name; and no copy of every frame into a log file.
        command.args(["--pull", "never"]).args(["--log-driver", "none"]);
        match self.parent {
            Some(parent) => command.args(["--cgroup-parent", parent]),
            None => {
                let list: Vec<String> = self.cpus.iter().map(usize::to_string).collect();
                let memory = self.limits.memory_bytes.to_string();
                command.args(["--cpuset-cpus", &list.join(",")]).args(["--memory", &memory, "--memory-swap", &memory])
            }
        };
        match wanted.data {
            Data::Bind => {
                let source = names::plain(self.data, client, &[',', '"', '\n'])?;
                command.args(["--mount", &format!("type=bind,source={source},target=/data")]);
            }
            Data::Volume => {
                command.args(["--mount", &format!("type=volume,source={},target=/data", self.id)]);
            }
            Data::Tmpfs => {
                command.args(["--mount", "type=tmpfs,target=/data"]);
            }
            _ => {}
        }
        if wanted.seccomp == Seccomp::None {
            command.args(["--security-opt", "seccomp=unconfined"]);
        }
        if let Some(runtime) = &wanted.runtime {
            command.args(["--runtime", runtime]);
        }
        command.args([self.id, "/tarebench", "agent", "--data", "/data"]);
        Ok(())
    }
}

/// From `GATEWAY,SUBNET` pairs: the daemon doesn't say the gateway of a bridge that it has just made, and takes the subnet's
/// first address then.
fn gateway_of(pairs: &str) -> Option<IpAddr> {
    let (gateway, subnet) = pairs.split_whitespace().next()?.split_once(',')?;
    if let Ok(address) = gateway.parse() {
        return Some(address);
    }
    let first: Ipv4Addr = subnet.split('/').next()?.parse().ok()?;
    Some(Ipv4Addr::from(u32::from(first) | 1).into())
}

/// The stage's root as a tar archive, which is what images are made of.
pub(crate) fn pack(root: &Path, archive: &Path) -> std::io::Result<()> {
    let unfinished = archive.with_extension("part");
    let mut tar = tar::Builder::new(File::create(&unfinished)?);
    tar.mode(tar::HeaderMode::Deterministic);
    tar.append_dir_all(".", root)?;
    tar.into_inner()?;
    fs::rename(unfinished, archive)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(given: &[(&str, &str)], parent: Option<&str>) -> String {
        let wanted = Options::read(&Settings::of(Options::TABLE, given)).wanted();
        let mut command = Command::new("docker");
        let limits = Resources::new(1, 1 << 29);
        let run =
            Run { id: "box-1", network: wanted.network.word(), data: Path::new("/d"), parent, limits, cpus: &[0, 2] };
        run.arguments(&mut command, "docker", &wanted).expect("a line");
        command.get_args().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_daemon_without_its_client_asks_for_the_client() {
        let missing = |broken| Unavailable { because: "`docker` is not in PATH".into(), fix: "all".into(), broken };
        let daemon = || Some(PathBuf::from("/usr/sbin/dockerd"));
        assert_eq!(client_beside(missing(false), None).fix, "all");
        assert_eq!(client_beside(missing(true), daemon()).fix, "all");
        let no = client_beside(missing(false), daemon());
        assert_eq!(no.fix, "apt install docker-cli");
        assert!(no.because.ends_with("only the daemon /usr/sbin/dockerd is there"), "{no:?}");
    }

    #[test]
    fn a_socket_that_is_closed_to_us_asks_for_the_group_and_not_for_a_daemon() {
        for closed in [
            "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: Get \
             \"http://%2Fvar%2Frun%2Fdocker.sock/v1.50/version\": dial unix /var/run/docker.sock: connect: permission denied",
            "Got permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
            "permission denied while trying to connect to the docker API at unix:///var/run/docker.sock",
        ] {
            let fix = fix_of(closed);
            assert!(
                fix.contains("usermod -aG docker") && fix.contains("log in again") && fix.contains("newgrp docker")
            );
        }
        for other in [
            "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
            "error during connect: command [ssh -l me there] has exited with exit status 255: Permission denied (publickey).",
        ] {
            assert!(fix_of(other).starts_with("systemctl start docker"), "{other}");
        }
    }

    #[test]
    fn each_setting_has_its_option() {
        let plain = line(&[], Some("/tarebench-x/box"));
        assert!(plain.contains("--network bridge") && plain.contains("type=bind,source=/d,target=/data"), "{plain}");
        assert!(plain.contains("--cgroup-parent /tarebench-x/box") && !plain.contains("--memory"), "{plain}");
        assert!(plain.ends_with("box-1 /tarebench agent --data /data"), "{plain}");
        let layer = line(&[("data", "layer"), ("seccomp", "none"), ("runtime", "runsc")], None);
        assert!(!layer.contains("--mount") && layer.contains("seccomp=unconfined"), "{layer}");
        assert!(layer.contains("--runtime runsc") && layer.contains("--cpuset-cpus 0,2 --memory 536870912"), "{layer}");
        assert!(line(&[("data", "named")], None).contains("type=volume,source=box-1,target=/data"));
    }

    #[test]
    fn the_bridges_address_is_what_the_daemon_says_or_the_subnets_first() {
        let of = |text: &str| gateway_of(text).map(|a| a.to_string());
        assert_eq!(of("172.18.0.9,172.18.0.0/16 ,fd00::/64").as_deref(), Some("172.18.0.9"));
        assert_eq!(of(",172.17.0.0/16").as_deref(), Some("172.17.0.1"));
        assert_eq!(of(""), None);
    }

    #[test]
    fn an_image_is_packed_once_and_the_same_every_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("data")).expect("made");
        fs::write(root.join("tarebench"), "x").expect("written");
        let [a, b] = ["a.tar", "b.tar"].map(|name| dir.path().join(name));
        pack(&root, &a).expect("packed");
        pack(&root, &b).expect("packed");
        assert!(fs::read(&a).expect("readable").len() > 512);
        assert_eq!(fs::read(&a).expect("readable"), fs::read(&b).expect("readable"));
    }
}
