//! `crun`: the OCI runtime in C that Podman prefers, straight from a bundle.

use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use workloads::settings::{Setting, Settings};

use crate::boxes::oci::{ContainerOptions, Runtime};
use crate::host::Host;
use crate::launch::{Launch, Runner};
use crate::process;
use crate::stage::{Stage, cgroup};
use crate::unavailable::Unavailable;

/// The runtime that Podman prefers where it is installed. It refuses hosts where cgroup v1 and v2 are mixed; as root it is
/// shown v1 alone, where all limits are.
#[derive(Debug)]
pub struct Crun;

/// The mount of v2 beside v1, with few controllers or none.
const BESIDE: &CStr = c"/sys/fs/cgroup/unified";

/// The mount that crun must not see, or it refuses to start.
pub(crate) fn without(privileged: bool) -> Option<&'static CStr> {
    let mixed = cgroup::mounts().iter().any(|m| m.v2 && m.point.as_os_str().as_bytes() == BESIDE.to_bytes());
    Some(BESIDE).filter(|_| mixed && privileged)
}

impl Runner for Crun {
    fn name(&self) -> &'static str {
        "crun"
    }

    fn about(&self) -> &'static str {
        "An OCI container by crun, the runtime that Podman prefers"
    }

    fn settings(&self) -> &'static [Setting] {
        ContainerOptions::TABLE
    }

    fn version(&self, _host: &Host) -> Result<String, Unavailable> {
        process::version("crun", "crun")
    }

    fn engine(&self, _settings: &Settings) -> Option<PathBuf> {
        process::find("crun")
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let without = without(stage.host.privileged);
        let program = process::require("crun", "crun")?;
        Runtime { program, options: &[], without }.launch(&ContainerOptions::read(settings), stage)
    }
}
