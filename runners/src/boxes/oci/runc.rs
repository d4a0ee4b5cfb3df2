//! `runc`: a container by the OCI reference runtime, straight from a bundle, without Docker or an image.

use std::path::PathBuf;

use workloads::settings::{Setting, Settings};

use crate::boxes::oci::{ContainerOptions, Runtime};
use crate::host::Host;
use crate::launch::{Launch, Runner};
use crate::process;
use crate::stage::Stage;
use crate::unavailable::Unavailable;

/// The runtime that Docker, Podman and containerd start their containers with.
#[derive(Debug)]
pub struct Runc;

impl Runner for Runc {
    fn name(&self) -> &'static str {
        "runc"
    }

    fn about(&self) -> &'static str {
        "An OCI container by runc, what Docker and Podman start theirs with"
    }

    fn settings(&self) -> &'static [Setting] {
        ContainerOptions::TABLE
    }

    fn version(&self, _host: &Host) -> Result<String, Unavailable> {
        process::version("runc", "runc")
    }

    fn engine(&self, _settings: &Settings) -> Option<PathBuf> {
        process::find("runc")
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let rootless = if stage.host.privileged { &[][..] } else { &["--rootless", "true"] };
        let program = process::require("runc", "runc")?;
        Runtime { program, options: rootless, without: None }.launch(&ContainerOptions::read(settings), stage)
    }
}
