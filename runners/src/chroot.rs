//! `chroot`: another root directory and nothing else: the oldest jail.

use workloads::settings::Settings;

use crate::host::Host;
use crate::rooted::{self, How};
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

    fn launch(&self, _settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        launch(How::Chroot, stage)
    }
}

/// What both runners without an engine share: our own binary enters the root and executes its copy there.
pub(crate) fn launch(how: How, stage: &mut Stage) -> anyhow::Result<Launch> {
    let mut command = std::process::Command::new(&stage.host.binary);
    let root = stage.root()?.to_path_buf();
    command.arg(rooted::COMMAND).args(["--how", how.word()]);
    command.arg("--root").arg(root).arg("--data").arg(stage.data());
    command.args(["--", "/tarebench", "agent", "--data", "/data"]);
    let path = stage.path_to_peer()?;
    let words = format!("bind mount of {}", stage.data_file_system());
    Ok(Launch::new(command).over(path).data_path(words))
}
