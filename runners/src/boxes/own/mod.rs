//! Boxes of our own making, by system calls alone: no engine, no program of anybody else's.

pub mod chroot;
pub(crate) mod enter;
pub mod namespaces;
pub(crate) mod overlay;
pub(crate) mod seccomp;

use std::path::PathBuf;
use std::process::Command;

use workloads::settings;
use workloads::settings::{Setting, SettingError};

use crate::launch::Launch;
use crate::stage::Stage;
use crate::stage::data::{self, Data};
use crate::stage::network::Net;
use crate::stage::network::links::{self, NETWORK, TRANSLATOR};
use enter::How;
use seccomp::{SECCOMP, Seccomp};

/// Where data lies in a box whose mounts are ours.
pub(crate) const DATA: Setting = data::DATA
    .with_about("The host's directory bound in, an overlay whose upper layer lies in that directory, or memory");

settings! {
    /// The settings that all boxes of our own making have.
    pub(crate) struct Options {
        network: Net as NETWORK,
        translator: Option<PathBuf> as TRANSLATOR,
        data: Data as DATA,
        seccomp: Seccomp as SECCOMP,
    }
}

impl Options {
    pub(crate) fn check(&self) -> Result<(), SettingError> {
        links::check_translator(self.network, self.translator.as_deref())
    }
}

/// A launch in which our own binary enters the root and executes its copy there.
pub(crate) fn launch(how: How, without: &[&str], options: &Options, stage: &mut Stage) -> anyhow::Result<Launch> {
    let mut command = Command::new(&stage.host.binary);
    let root = stage.root()?.to_path_buf();
    command.arg(enter::COMMAND).args(["--how", how.word()]);
    command.arg("--root").arg(root).arg("--data").arg(stage.data());
    let Options { network, ref translator, data, seccomp } = *options;
    if data == Data::Overlay {
        overlay::lay(stage)?;
    }
    command.args(["--layer", data.word()]).args(["--seccomp", seccomp.word()]);
    for namespace in without {
        command.args(["--without", namespace]);
    }
    if network == Net::None {
        command.args(["--network", "none"]);
    }
    command.args(["--", "/tarebench", "agent", "--data", "/data"]);
    Ok(Launch::new(command).over(stage.path_by(network, translator.as_deref())?).data(data.on(stage)))
}
