//! `chroot`: another root directory and nothing else: the oldest jail.

use workloads::settings::{Setting, Settings};

use super::DATA;
use crate::boxes::own;
use crate::boxes::own::enter::How;
use crate::boxes::own::seccomp::SECCOMP;
use crate::host::Host;
use crate::launch::{Launch, Runner};
use crate::stage::Stage;
use crate::stage::network::links::NETWORK_GIVEN;
use crate::unavailable::Unavailable;

/// A change of the root directory, with the data bound into it.
#[derive(Debug)]
pub struct Chroot;

impl Runner for Chroot {
    fn name(&self) -> &'static str {
        "chroot"
    }

    fn about(&self) -> &'static str {
        "A process with another root directory"
    }

    fn version(&self, host: &Host) -> Result<String, Unavailable> {
        if host.privileged {
            return Ok(format!("Linux {}", host.kernel));
        }
        Err(Unavailable {
            because: "chroot needs root".into(),
            fix: "run tarebench as root, or use `namespaces`, which doesn't need it".into(),
            broken: false,
        })
    }

    fn settings(&self) -> &'static [Setting] {
        &[NETWORK_GIVEN, DATA, SECCOMP]
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        own::launch(How::Chroot, &[], settings, stage)
    }
}
