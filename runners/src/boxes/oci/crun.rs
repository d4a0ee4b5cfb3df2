//! `crun`: the OCI runtime in C that Podman prefers, straight from a bundle.

use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt;

use workloads::settings::{Setting, SettingError, Settings};

use crate::boxes::oci::{Installed as Options, Runtime};
use crate::host::Host;
use crate::launch::{Launch, Runner};
use crate::process::Program;
use crate::stage::{Stage, cgroup};
use crate::unavailable::Unavailable;

/// The runtime that Podman prefers where it is installed. It refuses hosts where cgroup v1 and v2 are mixed; as root it is
/// shown v1 alone, where all limits are.
#[derive(Debug)]
pub struct Crun;

const PROGRAM: Program = Program::of("crun", "crun");

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

    fn simpler(&self) -> &'static [&'static str] {
        &["namespaces"]
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn check(&self, settings: &Settings) -> Result<(), SettingError> {
        Options::read(settings).container.check()
    }

    fn version(&self, _host: &Host, settings: &Settings) -> Result<String, Unavailable> {
        PROGRAM.version(Options::read(settings).binary.as_deref())
    }

    fn program(&self) -> Option<Program> {
        Some(PROGRAM)
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let without = without(stage.host.privileged);
        let options = Options::read(settings);
        let program = PROGRAM.require(options.binary.as_deref())?;
        Runtime { program, options: &[], without }.launch(&options.container, stage)
    }
}
