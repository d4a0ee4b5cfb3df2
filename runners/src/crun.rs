//! `crun`: the OCI runtime in C that Podman prefers, straight from a bundle.

use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use workloads::settings::{Setting, Settings};

use crate::host::Host;
use crate::network::links::NETWORK;
use crate::runtime::{self, Runtime};
use crate::stage::Stage;
use crate::{Launch, Runner, Unavailable, cgroup, engine};

/// What Podman starts its containers with where it is installed. It refuses hosts where cgroup v1 and v2 are mixed; as root it is
/// shown v1 alone, where all limits are.
#[derive(Debug)]
pub struct Crun;

/// Where v2 is mounted beside v1, with few controllers or none.
const BESIDE: &CStr = c"/sys/fs/cgroup/unified";

/// What crun must not see to start.
pub(crate) fn without(privileged: bool) -> Option<&'static CStr> {
    let mixed = cgroup::mounts().iter().any(|m| m.v2 && m.point.as_os_str().as_bytes() == BESIDE.to_bytes());
    Some(BESIDE).filter(|_| mixed && privileged)
}

const SETTINGS: &[Setting] =
    &[NETWORK, runtime::DATA, runtime::SECCOMP, runtime::OPEN_FILES, runtime::PROCESSES, runtime::LOCKED_MEMORY];

impl Runner for Crun {
    fn name(&self) -> &'static str {
        "crun"
    }

    fn about(&self) -> &'static str {
        "An OCI container by crun, the runtime that Podman prefers"
    }

    fn settings(&self) -> &'static [Setting] {
        SETTINGS
    }

    fn version(&self, _host: &Host) -> Result<String, Unavailable> {
        engine::version("crun", "crun")
    }

    fn engine(&self, _settings: &Settings) -> Option<PathBuf> {
        engine::find("crun")
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let without = without(stage.host.privileged);
        Runtime { program: engine::require("crun", "crun")?, options: &[], without }.launch(settings, stage)
    }
}
