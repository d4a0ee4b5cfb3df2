//! `nice`: the agent as a process that lets others go first, by coreutils' `nice`, and nothing around it.

use std::process::Command;

use workloads::settings::{Setting, Settings};

use crate::host::Host;
use crate::stage::Stage;
use crate::stage::data::DataPath;
use crate::{Launch, Runner, Unavailable};

workloads::settings! {
    struct Options {
        /// How far the process steps back, as `nice -n` takes it
        adjustment: u64 = 10 in 0..=19,
    }
}

/// A lower priority.
#[derive(Debug)]
pub struct Nice;

impl Runner for Nice {
    fn name(&self) -> &'static str {
        "nice"
    }

    fn about(&self) -> &'static str {
        "A process at a lower priority: nothing isolated, only less of the processor where it is short"
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    // Finds the engine and starts nothing in it. That it works is shown by a probe, which launches a small agent as below.
    fn version(&self, _host: &Host, _settings: &Settings) -> Result<String, Unavailable> {
        let output = Command::new("nice").arg("--version").output().map_err(|e| Unavailable {
            because: format!("can't run `nice --version`: {e}"),
            fix: "apt install coreutils".into(),
            broken: false,
        })?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or("nice").to_string())
    }

    // Says how the agent is started. The session adds pipes, cgroup, CPU set and the end of everything.
    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let options = Options::read(settings);
        let mut command = Command::new("nice");
        command.args(["-n", &options.adjustment.to_string()]);
        command.arg(stage.root()?.join("tarebench"));
        command.arg("agent").arg("--data").arg(stage.data());
        let path = stage.path_to_peer()?;
        let data = DataPath::on_host(stage, format!("directory on {}", stage.data_file_system()));
        Ok(Launch::new(command).over(path).data(data))
    }
}
