//! `oci`: any OCI runtime by its path (youki, kata-runtime, a runc of one's own), and what `runc` and `crun` share with it:
//! the command line that all of them have from runc.

pub(crate) mod bundle;
pub mod crun;
pub mod gvisor;
mod profile;
pub mod runc;

use std::ffi::CStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use workloads::settings::{Kind, Setting, Settings};

use crate::host::Host;
use crate::launch::{Launch, Runner};
use crate::names;
use crate::process;
use crate::stage::Stage;
use crate::stage::data::{self as place, Layers};
use crate::stage::network::Net;
use crate::stage::network::links::NETWORK;
use crate::unavailable::Unavailable;
use bundle::{Bundle, Data, NetworkNamespace};

/// Any runtime with runc's command line.
#[derive(Debug)]
pub struct Oci;

/// Where data lies.
pub(crate) const DATA: Setting = Setting {
    name: "data",
    kind: Kind::Choice(&["bind", "root", "overlay", "tmpfs"]),
    default: "bind",
    about: "Where data lies: a bind mount of the data directory, the container's own root directory beside it, an overlay whose upper layer is there, or memory",
};

/// Which system calls are filtered.
pub(crate) const SECCOMP: Setting = Setting {
    name: "seccomp",
    kind: Kind::Choice(&["none", "containers"]),
    default: "none",
    about: "No filter of system calls, as the runtime by itself has it, or the one of the installed containers-common (Podman's, made from Docker's)",
};

/// Files that may be open.
pub(crate) const OPEN_FILES: Setting = Setting {
    name: "open-files",
    kind: Kind::Number { min: 0, max: 1 << 20 },
    default: "0",
    about: "Files that may be open at a time (RLIMIT_NOFILE); 0 is the harness's own limit",
};

/// Processes that may be.
pub(crate) const PROCESSES: Setting = Setting {
    name: "processes",
    kind: Kind::Number { min: 0, max: 1 << 22 },
    default: "0",
    about: "Processes that the user inside may have (RLIMIT_NPROC); 0 is the harness's own limit",
};

/// Memory that may be locked.
pub(crate) const LOCKED_MEMORY: Setting = Setting {
    name: "locked-memory",
    kind: Kind::Bytes { min: 0, max: 1 << 40 },
    default: "0",
    about: "Memory that may be locked (RLIMIT_MEMLOCK; older kernels charge io_uring to it); 0 is the harness's own limit",
};

/// Limits of a process, by setting.
const LIMITS: [(&str, &str); 3] =
    [("open-files", "RLIMIT_NOFILE"), ("processes", "RLIMIT_NPROC"), ("locked-memory", "RLIMIT_MEMLOCK")];

const SETTINGS: &[Setting] = &[
    Setting {
        name: "runtime",
        kind: Kind::Path,
        default: "",
        about: "Path of the runtime: /usr/local/bin/youki, for one",
    },
    NETWORK,
    DATA,
    SECCOMP,
    OPEN_FILES,
    PROCESSES,
    LOCKED_MEMORY,
];

impl Runner for Oci {
    fn name(&self) -> &'static str {
        "oci"
    }

    fn about(&self) -> &'static str {
        "An OCI container by the runtime at a path: youki, kata-runtime or another runc"
    }

    fn settings(&self) -> &'static [Setting] {
        SETTINGS
    }

    fn version(&self, _host: &Host) -> Result<String, Unavailable> {
        Ok("OCI runtime specification 1.0.2".into())
    }

    fn engine(&self, settings: &Settings) -> Option<PathBuf> {
        Some(settings.get("runtime")).filter(|path| !path.is_empty()).and_then(process::find)
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let path = settings.get("runtime");
        let unavailable = |because: String| Unavailable {
            because,
            fix: "set runtime = PATH, the full path of an OCI runtime".into(),
            broken: false,
        };
        if path.is_empty() {
            return Err(unavailable("needs setting `runtime`: no runtime is set".into()).into());
        }
        let program = Some(path).filter(|p| p.starts_with('/')).and_then(process::find);
        let program = program.ok_or_else(|| unavailable(format!("there is no program at `{path}`")))?;
        let version = process::version(path, path)?;
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let launch = Runtime { program, options: &[], without: None }.launch(settings, stage)?;
        Ok(Launch { version: Some(format!("{name} {}", launch.version.as_deref().unwrap_or(&version))), ..launch })
    }
}

/// One runtime.
#[derive(Debug, Clone)]
pub(crate) struct Runtime {
    /// Its program.
    pub(crate) program: PathBuf,
    /// What it must be told besides.
    pub(crate) options: &'static [&'static str],
    /// A mount that it must not see.
    pub(crate) without: Option<&'static CStr>,
}

impl Runtime {
    /// A container from a bundle of our own.
    pub(crate) fn launch(self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let id = stage.next_id();
        let state = stage.scratch().join("oci");
        let bundle = stage.scratch().join(&id);
        let data = settings.get("data");
        let root = if data == "root" { stage.root_beside_data()? } else { stage.root()?.to_path_buf() };
        // runc refuses a root that is reached through a symbolic link.
        let root = root.canonicalize().with_context(|| format!("can't find {}", root.display()))?;
        let layers = (data == "overlay").then(|| Layers::make(stage)).transpose()?;
        if let Some(layers) = &layers {
            names::plain(&layers.upper, "overlayfs", &[',', ':', '\\'])?;
        }
        let filter = (settings.get("seccomp") == "containers").then(|| profile::containers(&stage.host)).transpose()?;
        let network = settings.choice::<Net>("network");
        let path = stage.path(network)?;
        let limits =
            LIMITS.iter().map(|(setting, name)| (*name, settings.number(setting))).filter(|(_, most)| *most > 0);
        let user = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let cgroup = cgroup_below(stage, &id);
        Bundle {
            root: &root,
            writable: data == "root",
            data: match (data, &layers) {
                ("root", _) => Data::Root,
                ("tmpfs", _) => Data::Memory,
                (_, Some(layers)) => Data::Overlay(layers),
                _ => Data::Bind(stage.data()),
            },
            network: if network == Net::None { NetworkNamespace::Empty } else { NetworkNamespace::Inherited },
            cgroup,
            mapped: (!stage.host.privileged).then_some(user),
            seccomp: filter.as_ref().map(|f| f.rules.clone()),
            limits: limits.collect(),
        }
        .write(&bundle)?;

        let mut command = self.command(&state);
        command.arg("run").arg("--bundle").arg(&bundle).arg(&id);
        stage.note(&[&process::mark(&self.program), "--root", &process::mark(&state), "delete", "--force", &id])?;
        let version = match filter {
            Some(filter) => {
                Some(format!("{}, {}", process::version(&process::mark(&self.program), "runc")?, filter.name))
            }
            None => None,
        };
        // Some make a folder in /run although they are told to use another.
        let made = Path::new("/run").join(self.program.file_name().unwrap_or_default());
        let made = Some(made).filter(|m| !m.exists());
        let data = settings.choice::<place::Data>("data").on(stage);
        let launch = Launch::new(command).over(path).data(data).cleanup(move || {
            self.remove(&state, &id, &bundle);
            if let Some(made) = made
                && let Err(e) = fs::remove_dir(&made)
            {
                log::debug!("{} stays: {e}", made.display());
            }
        });
        Ok(Launch { version, ..launch })
    }

    fn command(&self, state: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(state).args(self.options);
        if let Some(point) = self.without {
            process::unmount(&mut command, point);
        }
        command
    }

    fn remove(&self, state: &Path, id: &str, bundle: &Path) {
        // `run` removes its container when it ends by itself; asking again costs 15 ms.
        if state.join(id).exists() {
            let mut command = self.command(state);
            command.arg("delete").arg("--force").arg(id);
            if let Err(words) = process::ask(command) {
                log::warn!("can't remove container {id}: {words}");
            }
        }
        process::kill_marked(&[id, &process::mark(bundle)]);
        process::discard(bundle);
    }
}

/// A group for the container below the stage's own, whose limits hold for it then.
fn cgroup_below(stage: &mut Stage, id: &str) -> Option<String> {
    if !stage.host.privileged {
        return None;
    }
    Some(format!("{}/{id}", stage.cgroup().parent_for_engine()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_runtime_must_be_told_comes_before_its_command() {
        let line = |options| {
            format!("{:?}", Runtime { program: "runc".into(), options, without: None }.command(Path::new("/s")))
        };
        assert_eq!(line(&[]), r#""runc" "--root" "/s""#);
        assert_eq!(line(&["--rootless", "true"]), r#""runc" "--root" "/s" "--rootless" "true""#);
    }
}
