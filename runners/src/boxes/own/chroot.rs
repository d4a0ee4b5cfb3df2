//! `chroot`: another root directory and nothing else: the oldest jail.

use std::path::PathBuf;

use workloads::settings;
use workloads::settings::{Setting, SettingError, Settings};

use super::DATA;
use crate::boxes::own;
use crate::boxes::own::enter::How;
use crate::boxes::own::seccomp::{SECCOMP, Seccomp};
use crate::host::Host;
use crate::launch::{Launch, Runner};
use crate::stage::Stage;
use crate::stage::data::Data;
use crate::stage::network::Net;
use crate::stage::network::links::{NETWORK_GIVEN, TRANSLATOR};
use crate::unavailable::Unavailable;

settings! {
    struct Options {
        network: Net as NETWORK_GIVEN,
        translator: Option<PathBuf> as TRANSLATOR,
        data: Data as DATA,
        seccomp: Seccomp as SECCOMP,
    }
}

impl Options {
    fn common(self) -> own::Options {
        let Self { network, translator, data, seccomp } = self;
        own::Options { network, translator, data, seccomp }
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

    fn version(&self, host: &Host, _settings: &Settings) -> Result<String, Unavailable> {
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

    fn check(&self, settings: &Settings) -> Result<(), SettingError> {
        Options::read(settings).common().check()
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        own::launch(How::Chroot, &[], &Options::read(settings).common(), stage)
    }
}
