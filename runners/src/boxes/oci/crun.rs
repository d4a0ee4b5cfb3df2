//! `crun`: the OCI runtime in C that Podman prefers, straight from a bundle.

use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use workloads::settings::{Setting, Settings};

use crate::boxes::oci::{self, Runtime};
use crate::host::Host;
use crate::launch::{Launch, Runner};
use crate::process;
use crate::stage::network::links::NETWORK;
use crate::stage::{Stage, cgroup};
use crate::unavailable::Unavailable;

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

const SETTINGS: &[Setting] = &[NETWORK, oci::DATA, oci::SECCOMP, oci::OPEN_FILES, oci::PROCESSES, oci::LOCKED_MEMORY];

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
        process::version("crun", "crun")
    }

    fn engine(&self, _settings: &Settings) -> Option<PathBuf> {
        process::find("crun")
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let without = without(stage.host.privileged);
        Runtime { program: process::require("crun", "crun")?, options: &[], without }.launch(settings, stage)
    }
}
