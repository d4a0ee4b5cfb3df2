//! `podman`: a container by Podman from a directory instead of an image, with a store of its own and no registry.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit};
use workloads::settings::{Kind, Setting, Settings};

use crate::host::Host;
use crate::leftovers::unmount_below;
use crate::oci;
use crate::stage::Stage;
use crate::{Launch, Runner, Unavailable, engine};

/// Podman with conmon and an OCI runtime below it.
#[derive(Debug)]
pub struct Podman;

const SETTINGS: &[Setting] = &[
    engine::NETWORK,
    Setting {
        name: "data",
        kind: Kind::Choice(&["bind", "root"]),
        default: "bind",
        about: "Where data lies: a volume (bind mount of the data directory), or the container's own root directory beside it",
    },
    Setting {
        name: "seccomp",
        kind: Kind::Choice(&["default", "unconfined"]),
        default: "default",
        about: "Podman's default filter of system calls, or none",
    },
    Setting { name: "runtime", kind: Kind::Choice(&["runc", "crun"]), default: "runc", about: "The OCI runtime below" },
];

/// Locks in files of the store rather than in `/dev/shm`, where they would outlive us. Nothing of the host's own
/// configuration applies, so that the same command means the same everywhere.
const CONFIGURATION: &str = "[engine]\nlock_type = \"file\"\n";

impl Runner for Podman {
    fn name(&self) -> &'static str {
        "podman"
    }

    fn about(&self) -> &'static str {
        "A container by Podman, with conmon and runc below"
    }

    fn settings(&self) -> &'static [Setting] {
        SETTINGS
    }

    fn version(&self, _host: &Host) -> Result<String, Unavailable> {
        let version = engine::version("podman", "podman")?;
        engine::require("conmon", "conmon")?;
        Ok(version)
    }

    fn engine(&self, _settings: &Settings) -> Option<PathBuf> {
        engine::find("podman")
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let runtime = engine::require(settings.get("runtime"), settings.get("runtime"))?;
        let id = engine::container_id(stage);
        let store = Store::new(engine::require("podman", "podman")?, runtime, stage);
        store.make()?;
        let in_root = settings.get("data") == "root";
        let root = if in_root { oci::root_beside_data(stage)? } else { stage.root()?.to_path_buf() };
        let none = settings.get("network") == "none";
        let path = if none { None } else { Some(stage.path_to_peer()?) };
        let cgroup = if stage.host.privileged { stage.cgroup().parent_for_engine() } else { None };

        let mut command = store.command();
        command.args(["run", "--interactive", "--rm"]).args(["--name", &id]);
        command.arg("--cidfile").arg(store.cidfile(&id));
        // Straight to the pipes of the session: no log file, no copying by conmon.
        command.args(["--log-driver", "passthrough"]);
        command.args(["--network", &network(path.as_ref().map(|p| p.netns.as_deref()))]).arg("--no-hosts");
        if let Some(parent) = cgroup {
            // conmon stays in the stage's group, the container gets one below it.
            command.args(["--cgroup-parent", &parent]).args(["--cgroups", "no-conmon"]);
        }
        command.args(limits()?);
        if settings.get("seccomp") == "unconfined" {
            command.args(["--security-opt", "seccomp=unconfined"]);
        }
        if !in_root {
            command.arg("--volume").arg(volume(stage.data())?);
        }
        command.arg("--rootfs").arg(&root).args(["/tarebench", "agent", "--data", "/data"]);
        // `ns:` tells podman which namespace to enter; podman itself stays outside.
        let launch = Launch::new(command).data_path(oci::data_path(stage, in_root)).cleanup(move || store.remove(&id));
        Ok(match path {
            Some(path) => Launch { netns: None, ..launch.over(path) },
            None => launch,
        })
    }
}

/// The value of `--network`: a namespace of the stage's, the host's, or none.
fn network(path: Option<Option<&Path>>) -> String {
    match path {
        Some(Some(netns)) => format!("ns:{}", netns.display()),
        Some(None) => "host".into(),
        None => "none".into(),
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

/// Storage, state and locks of one stage's containers: kept over its starts, gone with its scratch directory.
#[derive(Debug)]
struct Store {
    podman: PathBuf,
    runtime: PathBuf,
    /// A folder in `/run` that the runtime makes although it is told to use another, where it was not there before us.
    made: Option<PathBuf>,
    directory: PathBuf,
    /// Podman refuses run-time directories of more than 50 characters, so these are not below `directory`.
    run: PathBuf,
}

impl Store {
    fn new(podman: PathBuf, runtime: PathBuf, stage: &Stage) -> Self {
        let sum = stage.environment.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
        let made = Path::new("/run").join(runtime.file_name().unwrap_or_default());
        Self {
            podman,
            runtime,
            made: Some(made).filter(|m| !m.exists()),
            directory: stage.scratch().join("podman"),
            run: stage.host.scratch.join(format!("p{sum:08x}")),
        }
    }

    fn make(&self) -> anyhow::Result<()> {
        let file = self.directory.join("containers.conf");
        fs::create_dir_all(self.directory.join("networks"))
            .and_then(|()| fs::create_dir_all(&self.run))
            .and_then(|()| fs::write(&file, CONFIGURATION))
            .with_context(|| format!("can't write {}", file.display()))
    }

    fn cidfile(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.cid"))
    }

    /// Podman with all its global options.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.podman);
        command.env("CONTAINERS_CONF", self.directory.join("containers.conf"));
        // conmon leaves a file named `oom` in its working directory when the container runs out of memory.
        command.current_dir(&self.directory);
        command.arg("--root").arg(self.directory.join("storage"));
        command.arg("--network-config-dir").arg(self.directory.join("networks"));
        command.arg("--runroot").arg(self.run.join("r")).arg("--tmpdir").arg(self.run.join("t"));
        // The root is a directory, not an image: the storage driver holds nothing, and this one needs no probing.
        command.args(["--storage-driver", "vfs"]).args(["--cgroup-manager", "cgroupfs"]);
        command.args(["--events-backend", "none"]).arg("--runtime").arg(&self.runtime);
        // Below our own folder, so that nothing of a killed run is left anywhere else.
        command.arg("--runtime-flag").arg(format!("root={}", self.state().display()));
        command
    }

    /// Podman removes a container that ends by itself. One that was killed together with its conmon it can't: the runtime
    /// is then asked first, and podman refuses once before it sees that the container is gone.
    fn remove(&self, id: &str) {
        let cidfile = self.cidfile(id);
        let cid = fs::read_to_string(&cidfile).unwrap_or_default().trim().to_string();
        engine::kill_marked(&[id, &engine::mark(&self.directory)]);
        if !cid.is_empty() {
            self.remove_from_runtime(&cid);
            if self.directory.join("storage/vfs-containers").join(&cid).exists() {
                let ask = || {
                    let mut command = self.command();
                    command.args(["rm", "--force", "--time", "0"]).arg(id);
                    engine::ask(command)
                };
                if let Err(words) = ask().or_else(|_| ask()) {
                    log::warn!("can't remove container {id}: {words}");
                }
            }
        }
        unmount_below(&[&self.directory, &self.run]);
        if let Err(e) = fs::remove_file(&cidfile) {
            log::debug!("remove {}: {e}", cidfile.display());
        }
    }

    fn state(&self) -> PathBuf {
        self.run.join("s")
    }

    /// Podman's clean-up process asks the runtime for its default folder, so it never finds the container and leaves its
    /// cgroup behind.
    fn remove_from_runtime(&self, cid: &str) {
        if self.state().join(cid).exists() {
            let mut command = Command::new(&self.runtime);
            command.arg("--root").arg(self.state()).arg("delete").arg("--force").arg(cid);
            if let Err(words) = engine::ask(command) {
                log::warn!("can't remove container {cid}: {words}");
            }
        }
        if let Some(made) = &self.made
            && let Err(e) = fs::remove_dir(made)
        {
            log::debug!("{} stays: {e}", made.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_to_the_peer_has_its_network() {
        assert_eq!(network(Some(Some(Path::new("/run/netns/x")))), "ns:/run/netns/x");
        assert_eq!(network(Some(None)), "host");
        assert_eq!(network(None), "none");
    }

    #[test]
    fn nothing_of_the_users_own_store_is_touched() {
        let store = Store {
            podman: "podman".into(),
            runtime: "/usr/sbin/runc".into(),
            made: None,
            directory: "/s".into(),
            run: "/r".into(),
        };
        let line = format!("{:?}", store.command());
        for option in [r#""--root" "/s/storage""#, r#""--runroot" "/r/r""#, r#""--tmpdir" "/r/t""#] {
            assert!(line.contains(option), "{line}");
        }
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
