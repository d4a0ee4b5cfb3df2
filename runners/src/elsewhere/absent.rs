//! Runners that need Linux, on a host that isn't: known by name, so that suites name the same environments everywhere, and absent.

use workloads::settings::Settings;

use crate::host::Host;
use crate::stage::Stage;
use crate::{Launch, Unavailable};

/// Stands in for the runner of this name.
#[derive(Debug)]
pub(crate) struct NeedsLinux(pub(crate) &'static str);

impl crate::Runner for NeedsLinux {
    fn name(&self) -> &'static str {
        self.0
    }

    fn about(&self) -> &'static str {
        "Needs Linux"
    }

    fn version(&self, host: &Host) -> Result<String, Unavailable> {
        Err(Unavailable {
            because: format!("needs Linux; this is {} {}", host.system, host.kernel),
            fix: "run tarebench on a Linux host".into(),
            broken: false,
        })
    }

    fn launch(&self, _settings: &Settings, _stage: &mut Stage) -> anyhow::Result<Launch> {
        anyhow::bail!("`{}` needs Linux", self.0)
    }
}
