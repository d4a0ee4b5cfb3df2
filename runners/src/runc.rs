//! `runc`: a container by the OCI reference runtime, straight from a bundle, without Docker or an image.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use workloads::settings::{Kind, Setting, Settings};

use crate::host::Host;
use crate::oci::{self, Bundle, NetworkNamespace};
use crate::stage::Stage;
use crate::{Launch, Runner, Unavailable, engine};

/// What Docker, Podman and containerd start their containers with.
#[derive(Debug)]
pub struct Runc;

const SETTINGS: &[Setting] = &[
    engine::NETWORK,
    Setting {
        name: "data",
        kind: Kind::Choice(&["bind", "root"]),
        default: "bind",
        about: "Where data lies: a bind mount of the data directory, or the container's own root directory beside it",
    },
];

impl Runner for Runc {
    fn name(&self) -> &'static str {
        "runc"
    }

    fn about(&self) -> &'static str {
        "An OCI container by runc, what Docker and Podman start theirs with"
    }

    fn settings(&self) -> &'static [Setting] {
        SETTINGS
    }

    fn version(&self, _host: &Host) -> Result<String, Unavailable> {
        engine::version("runc", "runc")
    }

    fn engine(&self, _settings: &Settings) -> Option<PathBuf> {
        engine::find("runc")
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let runc = engine::require("runc", "runc")?;
        let id = engine::container_id(stage);
        let state = stage.scratch().join("runc");
        let bundle = stage.scratch().join(&id);
        let in_root = settings.get("data") == "root";
        let root = if in_root { oci::root_beside_data(stage)? } else { stage.root()?.to_path_buf() };
        // runc refuses a root that is reached through a symbolic link.
        let root = root.canonicalize().with_context(|| format!("can't find {}", root.display()))?;
        let privileged = stage.host.privileged;
        let none = settings.get("network") == "none";
        let cgroup = cgroup_below(stage, &id);
        Bundle {
            root: &root,
            writable: in_root,
            data: (!in_root).then(|| stage.data()),
            network: if none { NetworkNamespace::Empty } else { NetworkNamespace::Inherited },
            cgroup,
            mapped: (!privileged).then(|| (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())),
        }
        .write(&bundle)?;

        let mut command = base(&runc, &state, privileged);
        command.arg("run").arg("--bundle").arg(&bundle).arg(&id);
        stage.note(&[&engine::mark(&runc), "--root", &engine::mark(&state), "delete", "--force", &id])?;
        let launch = Launch::new(command)
            .data_path(oci::data_path(stage, in_root))
            .cleanup(move || remove(&runc, &state, privileged, &id, &bundle));
        Ok(if none { launch } else { launch.over(stage.path_to_peer()?) })
    }
}

/// A group for the container below the stage's own, whose limits hold for it then.
fn cgroup_below(stage: &mut Stage, id: &str) -> Option<String> {
    if !stage.host.privileged {
        return None;
    }
    Some(format!("{}/{id}", stage.cgroup().parent_for_engine()?))
}

fn base(runc: &Path, state: &Path, privileged: bool) -> Command {
    let mut command = Command::new(runc);
    command.arg("--root").arg(state);
    if !privileged {
        command.args(["--rootless", "true"]);
    }
    command
}

fn remove(runc: &Path, state: &Path, privileged: bool, id: &str, bundle: &Path) {
    // `runc run` removes its container when it ends by itself; asking again costs 15 ms.
    if state.join(id).exists() {
        let mut command = base(runc, state, privileged);
        command.arg("delete").arg("--force").arg(id);
        if let Err(words) = engine::ask(command) {
            log::warn!("can't remove container {id}: {words}");
        }
    }
    engine::kill_marked(&[id, &engine::mark(bundle)]);
    oci::remove(bundle);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_privileges_runc_is_told_so() {
        let line = |privileged| format!("{:?}", base(Path::new("runc"), Path::new("/s"), privileged));
        assert_eq!(line(true), r#""runc" "--root" "/s""#);
        assert_eq!(line(false), r#""runc" "--root" "/s" "--rootless" "true""#);
    }
}
