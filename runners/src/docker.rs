//! `docker`: a container by a Docker daemon that runs already: the one that the client would talk to, or the one at `host`.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow};
use workloads::settings::{Kind, Setting, Settings};

use crate::host::{Host, Resources};
use crate::stage::Stage;
use crate::{Launch, Network, Runner, Unavailable, engine};

/// Docker's client, daemon, containerd and runtime. Every container, image and volume that we make is removed again.
#[derive(Debug)]
pub struct Docker;

/// For handing the image over, which is as large as our binary.
const IMPORT: Duration = Duration::from_secs(60);

const SETTINGS: &[Setting] = &[
    Setting {
        name: "host",
        kind: Kind::Word,
        default: "",
        about: "The daemon, as in unix:///run/docker.sock; by default the client's own choice (DOCKER_HOST, context)",
    },
    Setting {
        name: "network",
        kind: Kind::Choice(&["bridge", "host", "none"]),
        default: "bridge",
        about: "Path to the peer: Docker's default bridge to this host, this host's loopback, or none",
    },
    Setting {
        name: "data",
        kind: Kind::Choice(&["bind", "named", "layer", "tmpfs"]),
        default: "bind",
        about: "Where data lies: a bind mount of the data directory, a volume of Docker's, the container's writable layer, or memory",
    },
    engine::SECCOMP,
    Setting {
        name: "runtime",
        kind: Kind::Word,
        default: "",
        about: "A runtime that the daemon knows by this name (runc, runsc, kata); by default the daemon's choice",
    },
];

impl Runner for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn about(&self) -> &'static str {
        "A container by the Docker daemon, with containerd and an OCI runtime below"
    }

    fn settings(&self) -> &'static [Setting] {
        SETTINGS
    }

    fn version(&self, _host: &Host) -> Result<String, Unavailable> {
        engine::version("docker", "docker.io").map(|v| v.trim_end_matches(',').to_string())
    }

    fn engine(&self, _settings: &Settings) -> Option<PathBuf> {
        engine::find("docker")
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let client = Client { program: engine::require("docker", "docker.io")?, host: settings.get("host").into() };
        let daemon = client.daemon()?;
        let id = engine::container_id(stage);
        let data = settings.get("data");
        let network = settings.get("network");
        // Undone from the last to the first: the container goes before what it stands on.
        client.note(stage, &["image", "rm", "--force", &id])?;
        if data == "named" {
            client.note(stage, &["volume", "rm", "--force", &id])?;
        }
        client.note(stage, &["rm", "--force", "--volumes", &id])?;
        let mut launch = {
            let (client, id) = (client.clone(), id.clone());
            let volume = data == "named";
            // Made before there is anything to remove: what fails half-way is removed, too.
            Launch::new(Command::new(&client.program)).cleanup(move || client.remove(&id, volume))
        };
        client.import(stage, &id)?;
        let (peer, port) = match network {
            "host" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            "bridge" => Some(client.gateway()?),
            _ => None,
        }
        .map(|address| anyhow::Ok((address, stage.peer_on(address)?)))
        .transpose()?
        .unzip();
        let parent = match daemon.driver.as_str() {
            "cgroupfs" => stage.cgroup().parent_for_engine(),
            _ => None,
        };
        launch.command = client.command();
        let source = stage.data().to_path_buf();
        let limits = stage.host.resources;
        arguments(&mut launch.command, settings, &id, &source, parent.as_deref(), limits, &stage.host.pinning.work)?;
        launch.unequal = parent.is_none().then(|| {
            format!(
                "the daemon's cgroup driver is {}: Docker holds CPUs and memory itself, and no counters of ours see it",
                daemon.driver
            )
        });
        launch.data_path = match data {
            "tmpfs" => "tmpfs: memory".into(),
            "named" => "a volume in Docker's data directory".into(),
            "layer" => format!("the container's writable layer ({})", daemon.storage),
            _ => format!("bind mount of {}", stage.data_file_system()),
        };
        launch.version = Some(format!("{} (daemon)", daemon.version));
        launch.network = match network {
            "host" => Network::Loopback,
            "bridge" => Network::Bridge,
            _ => Network::None,
        };
        (launch.peer, launch.peer_port) = (peer, port);
        Ok(launch)
    }
}

/// What follows the client's own options.
fn arguments(
    command: &mut Command,
    settings: &Settings,
    id: &str,
    data: &Path,
    parent: Option<&str>,
    limits: Resources,
    cpus: &[usize],
) -> anyhow::Result<()> {
    command.args(["run", "--interactive", "--name", id, "--network", settings.get("network")]);
    // No copy of every frame into a log file.
    command.args(["--log-driver", "none"]);
    match parent {
        Some(parent) => command.args(["--cgroup-parent", parent]),
        None => {
            let list: Vec<String> = cpus.iter().map(usize::to_string).collect();
            let memory = limits.memory_bytes.to_string();
            command.args(["--cpuset-cpus", &list.join(",")]).args(["--memory", &memory, "--memory-swap", &memory])
        }
    };
    match settings.get("data") {
        "bind" => {
            let source = engine::plain(data, "docker", &[',', '"', '\n'])?;
            command.args(["--mount", &format!("type=bind,source={source},target=/data")]);
        }
        "named" => {
            command.args(["--mount", &format!("type=volume,source={id},target=/data")]);
        }
        "tmpfs" => {
            command.args(["--mount", "type=tmpfs,target=/data"]);
        }
        _ => {}
    }
    if settings.get("seccomp") == "none" {
        command.args(["--security-opt", "seccomp=unconfined"]);
    }
    if !settings.get("runtime").is_empty() {
        command.args(["--runtime", settings.get("runtime")]);
    }
    command.args([id, "/tarebench", "agent", "--data", "/data"]);
    Ok(())
}

/// What the daemon says of itself.
struct Daemon {
    version: String,
    /// Of cgroups: `cgroupfs` or `systemd`.
    driver: String,
    /// Of images and layers: `overlay2`.
    storage: String,
}

/// Docker's client, talking to one daemon.
#[derive(Debug, Clone)]
struct Client {
    program: PathBuf,
    /// Empty for the client's own choice.
    host: String,
}

impl Client {
    fn words(&self) -> Vec<&str> {
        if self.host.is_empty() { Vec::new() } else { vec!["--host", &self.host] }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(self.words());
        command
    }

    fn ask(&self, words: &[&str]) -> Result<String, String> {
        let mut command = self.command();
        command.args(words);
        engine::ask(command).map(|text| text.trim().to_string())
    }

    fn note(&self, stage: &Stage, words: &[&str]) -> anyhow::Result<()> {
        let program = engine::mark(&self.program);
        let all: Vec<&str> = std::iter::once(&*program).chain(self.words()).chain(words.iter().copied()).collect();
        stage.note(&all)
    }

    fn daemon(&self) -> Result<Daemon, Unavailable> {
        let unavailable = |because| Unavailable {
            because,
            fix: "start the daemon (systemctl start docker), or name it: host = unix:///PATH, or DOCKER_HOST".into(),
            broken: true,
        };
        // `docker info` prints what it knows and succeeds even without a daemon; this doesn't.
        let version = self.ask(&["version", "--format", "{{.Server.Version}}"]).map_err(unavailable)?;
        let about = self.ask(&["info", "--format", "{{.CgroupDriver}} {{.Driver}}"]).map_err(unavailable)?;
        let (driver, storage) = about.split_once(' ').unwrap_or((&about, ""));
        Ok(Daemon { version, driver: driver.into(), storage: storage.into() })
    }

    /// This host's address on Docker's default bridge.
    fn gateway(&self) -> anyhow::Result<IpAddr> {
        let format = "{{range .IPAM.Config}}{{.Gateway}},{{.Subnet}} {{end}}";
        let words = self
            .ask(&["network", "inspect", "bridge", "--format", format])
            .map_err(|words| anyhow!("the daemon has no default bridge: {words}; set network = host or none"))?;
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
        engine::ask_patiently(command, Stdio::from(file), IMPORT)
            .map(drop)
            .map_err(|words| anyhow!("docker takes no image from us: {words}"))
    }

    fn remove(&self, id: &str, volume: bool) {
        let gone = |words: &str| words.contains("No such");
        let mut steps = vec![["rm", "--force", "--volumes", id], ["image", "rm", "--force", id]];
        if volume {
            steps.push(["volume", "rm", "--force", id]);
        }
        for step in steps {
            if let Err(words) = self.ask(&step)
                && !gone(&words)
            {
                log::warn!("`docker {}`: {words}", step.join(" "));
            }
        }
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
    use std::collections::BTreeMap;

    use super::*;

    fn line(given: &[(&str, &str)], parent: Option<&str>) -> String {
        let given: BTreeMap<_, _> = given.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let settings = Settings::resolve(SETTINGS, &given).expect("valid");
        let mut command = Command::new("docker");
        let limits = Resources::new(1, 1 << 29);
        arguments(&mut command, &settings, "box-1", Path::new("/d"), parent, limits, &[0, 2]).expect("a line");
        command.get_args().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
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
