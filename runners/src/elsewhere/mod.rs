//! Stand-ins for everything that needs Linux, on a host that isn't: runners known by name, so that suites name the same
//! environments everywhere, and absent; no boxes to enter. `cgroup` and `confine` stand in for the files of these names.

use std::convert::Infallible;
use std::ffi::OsString;

use workloads::settings::Settings;

use crate::host::Host;
use crate::launch::{self, Launch};
use crate::stage::Stage;
use crate::unavailable::Unavailable;

/// Stands in for the runner of this name.
#[derive(Debug)]
pub(crate) struct NeedsLinux(pub(crate) &'static str);

// Written out, because it is none of the runners that the table is checked against.
impl launch::Runner for NeedsLinux {
    fn name(&self) -> &'static str {
        self.0
    }

    fn about(&self) -> &'static str {
        "Needs Linux"
    }

    fn version(&self, host: &Host, _settings: &Settings) -> Result<String, Unavailable> {
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

/// `tarebench enter` where there are no Linux namespaces to enter.
///
/// # Errors
/// Always.
pub fn enter(_args: impl IntoIterator<Item = OsString>) -> anyhow::Result<Infallible> {
    anyhow::bail!("`enter` serves the runners chroot and namespaces, which need Linux")
}
