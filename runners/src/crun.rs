//! `crun`: the OCI runtime in C that Podman prefers, straight from a bundle.

use std::path::PathBuf;

use workloads::settings::{Setting, Settings};

use crate::host::Host;
use crate::runtime::{self, Runtime};
use crate::stage::Stage;
use crate::{Launch, Runner, Unavailable, engine};

/// What Podman starts its containers with where it is installed. It refuses hosts where cgroup v1 and v2 are mixed.
#[derive(Debug)]
pub struct Crun;

const SETTINGS: &[Setting] = &[engine::NETWORK, runtime::DATA, runtime::SECCOMP, runtime::OPEN_FILES];

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
        Runtime { program: engine::require("crun", "crun")?, options: &[] }.launch(settings, stage)
    }
}
