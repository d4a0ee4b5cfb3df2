//! `runc`: a container by the OCI reference runtime, straight from a bundle, without Docker or an image.

use workloads::settings::{Setting, SettingError, Settings};

use crate::boxes::oci::{Installed as Options, Runtime};
use crate::host::Host;
use crate::launch::{Launch, Runner};
use crate::process::Program;
use crate::stage::Stage;
use crate::unavailable::Unavailable;

/// The runtime that Docker, Podman and containerd start their containers with.
#[derive(Debug)]
pub struct Runc;

const PROGRAM: Program = Program::of("runc", "runc");

impl Runner for Runc {
    fn name(&self) -> &'static str {
        "runc"
    }

    fn about(&self) -> &'static str {
        "An OCI container by runc, what Docker and Podman start theirs with"
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
        let rootless = if stage.host.privileged { &[][..] } else { &["--rootless", "true"] };
        let options = Options::read(settings);
        let program = PROGRAM.require(options.binary.as_deref())?;
        Runtime { program, options: rootless, without: None }.launch(&options.container, stage)
    }
}
