//! `chroot`: another root directory and nothing else: the oldest jail.

use workloads::settings::{Setting, Settings};

use crate::host::Host;
use crate::layers::{DATA, Layer};
use crate::network::links::NETWORK_GIVEN;
use crate::rooted::{self, How};
use crate::seccomp::SECCOMP;
use crate::stage::Stage;
use crate::{Launch, Runner, Unavailable};

/// A change of the root directory, with the data bound into it.
#[derive(Debug)]
pub struct Chroot;

impl Runner for Chroot {
    fn name(&self) -> &'static str {
        "chroot"
    }

    fn about(&self) -> &'static str {
        "A process with another root directory"
    }

    fn version(&self, host: &Host) -> Result<String, Unavailable> {
        if host.privileged {
            return Ok(format!("Linux {}", host.kernel));
        }
        Err(Unavailable {
            because: "chroot needs root".into(),
            fix: "run tarebench as root, or use `namespaces`, which doesn't need it".into(),
            broken: false,
        })
    }

    fn settings(&self) -> &'static [Setting] {
        &[NETWORK_GIVEN, DATA, SECCOMP]
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        launch(How::Chroot, &[], settings, stage)
    }
}

/// What both runners without an engine share: our own binary enters the root and executes its copy there.
pub(crate) fn launch(how: How, without: &[&str], settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
    let mut command = std::process::Command::new(&stage.host.binary);
    let root = stage.root()?.to_path_buf();
    command.arg(rooted::COMMAND).args(["--how", how.word()]);
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
