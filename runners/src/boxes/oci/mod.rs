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
use workloads::settings::{Bytes, Setting, SettingError, Settings};
use workloads::{settings, words};

use crate::host::Host;
use crate::launch::{Launch, Runner};
use crate::names;
use crate::process::{self, BINARY, Program};
use crate::stage::Stage;
use crate::stage::data::{Data, Layers};
use crate::stage::network::Net;
use crate::stage::network::links::{self, NETWORK, TRANSLATOR};
use crate::unavailable::Unavailable;
use bundle::{Bundle, NetworkNamespace, Source};

/// Any runtime with runc's command line.
#[derive(Debug)]
pub struct Oci;

words! {
    /// The filter of system calls.
    pub enum Seccomp {
        /// None, as the runtime by itself has it.
        None = "none",
        /// The one that containers-common installs.
        Containers = "containers",
    }
}

settings! {
    /// The settings of a container by a runtime with runc's command line.
    pub(crate) struct ContainerOptions {
        network: Net as NETWORK,
        translator: Option<PathBuf> as TRANSLATOR,
        /// Where data lies: a bind mount of the data directory, the container's own root directory beside it, an overlay whose
        /// upper layer is there, or memory
        data: Data = "bind" of ["bind", "root", "overlay", "tmpfs"],
        /// No filter of system calls, as the runtime by itself has it, or the one of the installed containers-common (Podman's,
        /// made from Docker's)
        seccomp: Seccomp = "none",
        limits: Limits,
    }
}

settings! {
    /// Limits of the process inside.
    pub(crate) struct Limits {
        /// Files that may be open at a time (RLIMIT_NOFILE); 0 is the harness's own limit
        open_files ("open-files"): u64 = 0 in 0..=1 << 20,
        /// Processes that the user inside may have (RLIMIT_NPROC); 0 is the harness's own limit
        processes: u64 = 0 in 0..=1 << 22,
        /// Memory that may be locked (RLIMIT_MEMLOCK; older kernels charge io_uring to it); 0 is the harness's own limit
        locked_memory ("locked-memory"): Bytes = 0 in 0..=1 << 40,
    }
}

impl Limits {
    /// Those that are set, by the name that a bundle has for them.
    fn set(&self) -> Vec<(&'static str, u64)> {
        let all = [
            ("RLIMIT_NOFILE", self.open_files),
            ("RLIMIT_NPROC", self.processes),
            ("RLIMIT_MEMLOCK", self.locked_memory.0),
        ];
        all.into_iter().filter(|(_, most)| *most > 0).collect()
    }
}

impl ContainerOptions {
    fn check(&self) -> Result<(), SettingError> {
        links::check_translator(self.network, self.translator.as_deref())
    }
}

settings! {
    /// The settings of a container by a runtime that is installed.
    pub(crate) struct Installed {
        binary: Option<PathBuf> as BINARY,
        container: ContainerOptions,
    }
}

settings! {
    /// The settings of any runtime.
    struct Options {
        /// Path of the runtime: /usr/local/bin/youki, for one
        runtime ("runtime"): Option<PathBuf> as BINARY,
        container: ContainerOptions,
    }
}

impl Runner for Oci {
    fn name(&self) -> &'static str {
        "oci"
    }

    fn about(&self) -> &'static str {
        "An OCI container by the runtime at a path: youki, kata-runtime or another runc"
    }

    fn simpler(&self) -> &'static [&'static str] {
        &["namespaces"]
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn check(&self, settings: &Settings) -> Result<(), SettingError> {
        Options::read(settings).container.check()
    }

    fn version(&self, _host: &Host, settings: &Settings) -> Result<String, Unavailable> {
        match Options::read(settings).runtime {
            Some(path) => PROGRAM.version(Some(&path)).map(|version| format!("{} {version}", name(&path))),
            None => Ok("OCI runtime specification 1.0.2".into()),
        }
    }

    fn engine(&self, settings: &Settings) -> Option<PathBuf> {
        Options::read(settings).runtime.as_deref().and_then(|path| PROGRAM.find(Some(path)))
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let options = Options::read(settings);
        let Some(path) = options.runtime else {
            let because = "needs setting `runtime`: no runtime is set".into();
            let fix = "set runtime = PATH, the full path of an OCI runtime".into();
            return Err(Unavailable { because, fix, broken: false }.into());
        };
        let program = PROGRAM.require(Some(&path))?;
        let version = PROGRAM.version(Some(&path))?;
        let launch = Runtime { program, options: &[], without: None }.launch(&options.container, stage)?;
        let version = launch.version.as_deref().unwrap_or(&version);
        Ok(Launch { version: Some(format!("{} {version}", name(&path))), ..launch })
    }
}

/// Whichever is set: nobody can say what it would be called in PATH.
const PROGRAM: Program = Program::of("OCI runtime", "runc");

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// One runtime.
#[derive(Debug, Clone)]
pub(crate) struct Runtime {
    pub(crate) program: PathBuf,
    /// Options before its command.
    pub(crate) options: &'static [&'static str],
    /// A mount that it must not see.
    pub(crate) without: Option<&'static CStr>,
}

impl Runtime {
    /// A container from a bundle of our own.
    pub(crate) fn launch(self, options: &ContainerOptions, stage: &mut Stage) -> anyhow::Result<Launch> {
        let id = stage.next_id();
        let state = stage.scratch().join("oci");
        let bundle = stage.scratch().join(&id);
        let ContainerOptions { network, ref translator, data, seccomp, ref limits } = *options;
        let root = if data == Data::Root { stage.root_beside_data()? } else { stage.root()?.to_path_buf() };
        // runc refuses a root that is reached through a symbolic link.
        let root = root.canonicalize().with_context(|| format!("can't find {}", root.display()))?;
        let layers = (data == Data::Overlay).then(|| Layers::make(stage)).transpose()?;
        if let Some(layers) = &layers {
            names::plain(&layers.upper, "overlayfs", &[',', ':', '\\'])?;
        }
        let filter = (seccomp == Seccomp::Containers).then(|| profile::containers(&stage.host)).transpose()?;
        let path = stage.path_by(network, translator.as_deref())?;
        let user = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let cgroup = cgroup_below(stage, &id);
        Bundle {
            root: &root,
            writable: data == Data::Root,
            data: match (data, &layers) {
                (Data::Root, _) => Source::Root,
                (Data::Tmpfs, _) => Source::Memory,
                (_, Some(layers)) => Source::Overlay(layers),
                _ => Source::Bind(stage.data()),
            },
            network: if network == Net::None { NetworkNamespace::Empty } else { NetworkNamespace::Inherited },
            cgroup,
            mapped: (!stage.host.privileged).then_some(user),
            seccomp: filter.as_ref().map(|f| f.rules.clone()),
            limits: limits.set(),
        }
        .write(&bundle)?;

        let mut command = self.command(&state);
        command.arg("run").arg("--bundle").arg(&bundle).arg(&id);
        stage.note(&[&process::mark(&self.program), "--root", &process::mark(&state), "delete", "--force", &id])?;
        let version = match filter {
            Some(filter) => Some(format!("{}, {}", PROGRAM.version(Some(&self.program))?, filter.name)),
            None => None,
        };
        // Some make a folder in /run although they are told to use another.
        let made = Path::new("/run").join(self.program.file_name().unwrap_or_default());
        let made = Some(made).filter(|m| !m.exists());
        let launch = Launch::new(command).on(&self.program).over(path).data(data.on(stage)).cleanup(move || {
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
        process::kill_marked(&[id, &process::mark(bundle)], &self.program, &[]);
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
