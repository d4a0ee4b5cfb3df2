//! `chroot`: another root directory and nothing else: the oldest jail.

use workloads::settings;
use workloads::settings::{Setting, Settings};

use super::DATA;
use crate::boxes::own;
use crate::boxes::own::enter::How;
use crate::boxes::own::seccomp::{SECCOMP, Seccomp};
use crate::host::Host;
use crate::launch::{Launch, Runner};
use crate::stage::Stage;
use crate::stage::data::Data;
use crate::stage::network::Net;
use crate::stage::network::links::NETWORK_GIVEN;
use crate::unavailable::Unavailable;

settings! {
    struct Options {
        network: Net as NETWORK_GIVEN,
        data: Data as DATA,
        seccomp: Seccomp as SECCOMP,
    }
}

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
        Options::TABLE
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let Options { network, data, seccomp } = Options::read(settings);
        own::launch(How::Chroot, &[], &own::Options { network, data, seccomp }, stage)
    }
}
