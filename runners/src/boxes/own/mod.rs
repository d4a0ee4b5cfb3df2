//! Boxes of our own making, by system calls alone: no engine, no program of anybody else's.

pub mod chroot;
pub(crate) mod enter;
pub mod namespaces;
pub(crate) mod seccomp;

use std::process::Command;

use workloads::settings::Settings;

use crate::launch::Launch;
use crate::stage::Stage;
use crate::stage::data::Layer;
use enter::How;

/// A launch in which our own binary enters the root and executes its copy there.
pub(crate) fn launch(how: How, without: &[&str], settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
    let mut command = Command::new(&stage.host.binary);
    let root = stage.root()?.to_path_buf();
    command.arg(enter::COMMAND).args(["--how", how.word()]);
    command.arg("--root").arg(root).arg("--data").arg(stage.data());
    let layer = Layer::of(settings);
    layer.lay(stage)?;
    command.args(["--layer", layer.word()]).args(["--seccomp", settings.get("seccomp")]);
    for namespace in without {
        command.args(["--without", namespace]);
    }
    let network = settings.get("network");
    if network == "none" {
        command.args(["--network", "none"]);
    }
    command.args(["--", "/tarebench", "agent", "--data", "/data"]);
    let launch = Launch::new(command).data_path(layer.describe(stage));
    Ok(if network == "none" { launch } else { launch.over(stage.path_over(network)?) })
}
