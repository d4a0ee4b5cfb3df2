//! `namespaces`: user, mount, PID, network, IPC and UTS namespaces and pivot_root, with no external program. What every
//! container engine on Linux builds on, and nothing of what they add.

use workloads::settings::Settings;

use crate::host::Host;
use crate::rooted::How;
use crate::stage::Stage;
use crate::{Launch, Runner, Unavailable, chroot};

/// Namespaces of our own making. Without privileges the network namespace is the host's, and the report says loopback.
#[derive(Debug)]
pub struct Namespaces;

impl Runner for Namespaces {
    fn name(&self) -> &'static str {
        "namespaces"
    }

    fn about(&self) -> &'static str {
        "Kernel namespaces made by tarebench itself: the bare bones of a container"
    }

    fn version(&self, host: &Host) -> Result<String, Unavailable> {
        let allowed = std::fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
        if allowed.trim() == "0" {
            return Err(Unavailable {
                because: "user namespaces are switched off (user.max_user_namespaces is 0)".into(),
                fix: "sysctl -w user.max_user_namespaces=10000".into(),
                broken: false,
            });
        }
        Ok(format!("Linux {}", host.kernel))
    }

    fn launch(&self, _settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        chroot::launch(How::Namespaces, stage)
    }
}
