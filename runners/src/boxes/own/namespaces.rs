//! `namespaces`: user, mount, PID, network, IPC and UTS namespaces and pivot_root, with no external program. What every
//! container engine on Linux builds on, and nothing of what they add.

use workloads::settings;
use workloads::settings::{Setting, SettingError, Settings};

use crate::boxes::own;
use crate::boxes::own::enter::How;
use crate::host::Host;
use crate::launch::{Launch, Runner};
use crate::stage::Stage;
use crate::unavailable::Unavailable;

/// Namespaces of our own making. Without privileges the network namespace is the host's, and the report says loopback.
#[derive(Debug)]
pub struct Namespaces;

settings! {
    struct Options {
        common: own::Options,
        /// A user namespace of its own; only root can do without
        user: bool = "true",
        /// A PID namespace of its own, with an init of ours as PID 1
        pid: bool = "true",
    }
}

impl Runner for Namespaces {
    fn name(&self) -> &'static str {
        "namespaces"
    }

    fn about(&self) -> &'static str {
        "Kernel namespaces made by tarebench itself: the bare bones of a container"
    }

    fn version(&self, host: &Host, _settings: &Settings) -> Result<String, Unavailable> {
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

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn check(&self, settings: &Settings) -> Result<(), SettingError> {
        Options::read(settings).common.check()
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let Options { common, user, pid } = Options::read(settings);
        if !user && !stage.host.privileged {
            anyhow::bail!("user=false needs root: without a user namespace nobody else may make the other namespaces");
        }
        let without: Vec<&str> =
            [("user", user), ("pid", pid)].into_iter().filter_map(|(name, own)| (!own).then_some(name)).collect();
        own::launch(How::Namespaces, &without, &common, stage)
    }
}

#[cfg(test)]
mod tests {
    use workloads::facts::{Flushes, Keeper, Kernel};

    use super::*;

    #[test]
    fn a_launch_states_where_its_data_lies() {
        let (_data, mut stage) = Stage::of_a_test("na");
        let mut stated = |data: &str| {
            let settings = Settings::of(Options::TABLE, &[("network", "none"), ("data", data)]);
            Namespaces.launch(&settings, &mut stage).expect("a launch").data
        };
        let memory = stated("tmpfs");
        assert_eq!((memory.facts.keeper, memory.facts.flushes), (Keeper::Memory, Flushes::Forgotten), "{memory:?}");
        let bound = stated("bind");
        assert_eq!((bound.facts.kernel, bound.facts.flushes), (Kernel::Host, Flushes::Passed), "{bound:?}");
        assert_eq!(stated("overlay").facts, bound.facts, "an overlay is on the same disk and passes flushes on");
    }
}
