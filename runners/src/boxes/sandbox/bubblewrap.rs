//! `bubblewrap`: bwrap's new namespaces around a read-only root, no daemon and no image; works without privileges.

use std::path::{Path, PathBuf};
use std::process::Command;

use workloads::settings;
use workloads::settings::{Setting, SettingError, Settings};

use crate::boxes::own::seccomp::{self, Seccomp};
use crate::boxes::own::{self, overlay};
use crate::host::Host;
use crate::launch::{Launch, Runner};
use crate::process::{BINARY, Program};
use crate::stage::Stage;
use crate::stage::data::Data;
use crate::stage::network::Net;
use crate::unavailable::Unavailable;

/// The sandbox that Flatpak is built on.
#[derive(Debug)]
pub struct Bubblewrap;

settings! {
    struct Options {
        binary: Option<PathBuf> as BINARY,
        common: own::Options,
        /// A user namespace of its own even where root could do without
        user: bool = "false",
        /// A PID namespace of its own
        pid: bool = "true",
    }
}

const PROGRAM: Program = Program::of("bwrap", "bubblewrap");

impl Runner for Bubblewrap {
    fn name(&self) -> &'static str {
        "bubblewrap"
    }

    fn about(&self) -> &'static str {
        "bwrap: new namespaces around a read-only root, as under Flatpak"
    }

    fn simpler(&self) -> &'static [&'static str] {
        &["namespaces"]
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn check(&self, settings: &Settings) -> Result<(), SettingError> {
        Options::read(settings).common.check()
    }

    fn version(&self, _host: &Host, settings: &Settings) -> Result<String, Unavailable> {
        PROGRAM.version(Options::read(settings).binary.as_deref())
    }

    fn program(&self) -> Option<Program> {
        Some(PROGRAM)
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let options = Options::read(settings);
        let program = PROGRAM.require(options.binary.as_deref())?;
        let mut command = Command::new(&program);
        let place = options.common.data;
        if place == Data::Overlay {
            overlay::lay(stage)?;
        }
        let data = match place {
            Data::Overlay if !stage.host.privileged => anyhow::bail!(
                "data=overlay needs root here: bwrap before 0.11 makes no overlay, and only root can make one for it; set \
                 data=bind or tmpfs, or use `namespaces`, which needs no root for it"
            ),
            Data::Overlay => overlay::mount_before(&mut command, stage.data())?,
            _ => stage.data().to_path_buf(),
        };
        let filters = match options.common.seccomp {
            Seccomp::DockerLike => seccomp::pass_to(&mut command)?,
            Seccomp::None => Vec::new(),
        };
        arguments(&mut command, &options, stage.root()?, &data, &filters);
        let path = stage.path_by(options.common.network, options.common.translator.as_deref())?;
        Ok(Launch::new(command).on(&program).over(path).data(place.on(stage)))
    }
}

/// The network namespace, where there is one, is entered before bwrap starts: so it need not know of it.
fn arguments(command: &mut Command, options: &Options, root: &Path, data: &Path, filters: &[i32]) {
    command.args(["--die-with-parent", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]);
    if options.pid {
        command.arg("--unshare-pid");
    }
    for number in filters {
        command.args(["--add-seccomp-fd", &number.to_string()]);
    }
    if options.user {
        command.arg("--unshare-user");
    }
    if options.common.network == Net::None {
        command.arg("--unshare-net");
    }
    command.arg("--ro-bind").arg(root).arg("/");
    match options.common.data {
        Data::Tmpfs => command.args(["--tmpfs", "/data"]),
        _ => command.arg("--bind").arg(data).arg("/data"),
    };
    command
        .args(["--proc", "/proc"])
        .args(["--dev", "/dev"])
        .args(["--ro-bind", "/sys", "/sys"])
        .args(["--tmpfs", "/tmp"]);
    command.args(["--chdir", "/"]).args(["--hostname", "tarebench"]).arg("--clearenv");
    command.args(["--", "/tarebench", "agent", "--data", "/data"]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(given: &[(&str, &str)]) -> String {
        let options = Options::read(&Settings::of(Options::TABLE, given));
        let mut command = Command::new("bwrap");
        arguments(&mut command, &options, Path::new("/r"), Path::new("/d"), &[7, 8]);
        command.get_args().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn by_default_data_is_bound_and_the_network_is_the_callers() {
        let line = line(&[]);
        assert!(line.contains("--ro-bind /r / --bind /d /data"), "{line}");
        assert!(!line.contains("--unshare-net") && !line.contains("--unshare-user"), "{line}");
        assert!(line.ends_with("-- /tarebench agent --data /data"), "{line}");
    }

    #[test]
    fn namespaces_follow_the_settings() {
        assert!(line(&[("network", "none")]).contains("--unshare-net"));
        assert!(line(&[("user", "true")]).contains("--unshare-user"));
        assert!(line(&[]).contains("--unshare-pid") && !line(&[("pid", "false")]).contains("--unshare-pid"));
        assert!(line(&[("data", "tmpfs")]).contains("--tmpfs /data") && !line(&[("data", "tmpfs")]).contains("/d "));
        assert!(line(&[]).contains("--add-seccomp-fd 7 --add-seccomp-fd 8"));
    }
}
