//! `bare`: the agent as a plain process on the host, under the same limits as everything else.

use std::process::Command;

use workloads::settings::Settings;

use crate::host::Host;
use crate::launch::{Launch, Runner};
use crate::stage::Stage;
use crate::stage::data::DataPath;
use crate::unavailable::Unavailable;

/// No isolation: what the others are divided by.
#[derive(Debug)]
pub struct Bare;

impl Runner for Bare {
    fn name(&self) -> &'static str {
        "bare"
    }

    fn about(&self) -> &'static str {
        "A plain process on the host: the baseline"
    }

    fn version(&self, host: &Host, _settings: &Settings) -> Result<String, Unavailable> {
        Ok(format!("{} {}", host.system, host.kernel))
    }

    fn launch(&self, _settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        // A copy like everyone's: the same bytes in files that were written differently have run 3 % faster or slower.
        // A dynamic binary can only run where its loader is.
        let binary = if stage.host.static_binary { stage.root()?.join("tarebench") } else { stage.host.binary.clone() };
        let mut command = Command::new(binary);
        command.arg("agent").arg("--data").arg(stage.data());
        let path = stage.path_to_peer()?;
        let words = format!("directory on {}", stage.data_file_system());
        Ok(Launch::new(command).over(path).data(DataPath::on_host(stage, words)))
    }
}
