//! A quota on CPU time: how much of the CPUs that all environments have one of them may use.
//!
//! The CPU set stays the same for all, and a quota comes on top of it where it is asked for: it is what most containers are
//! limited by, and it stops whoever has used it up until its period ends.

use std::time::Duration;

use workloads::settings;
use workloads::settings::{Setting, SettingError, Settings};

/// The shortest time that the kernel takes for a quota or a period, microseconds (`min_cfs_quota_period`).
const SHORTEST_US: u64 = 1000;

settings! {
    /// The settings of every environment whose processes are in a cgroup of ours.
    #[derive(Copy, Eq)]
    pub struct Quota {
        /// Percent of the time of its CPUs that the environment may use, by a quota on its cgroup (as root); 100 is no quota
        share ("cpu.share"): u64 = 100 in 1..=100,
        /// The period over which cpu.share holds: who has used up its share stands still for the rest of it
        period ("cpu.period"): Duration = "100ms" in 1_000_000..=1_000_000_000,
    }
}

impl Quota {
    /// The quota that is asked for; `None` where none is, or where the settings are of a box that can't have one.
    pub fn of(settings: &Settings) -> Option<Self> {
        let has = |setting: &Setting| settings.iter().any(|(name, _)| name == setting.name);
        let quota = Self::TABLE.iter().all(has).then(|| Self::read(settings))?;
        (quota.share < 100).then_some(quota)
    }

    /// Refuses what would have no effect.
    ///
    /// # Errors
    /// [`SettingError::Conflict`], with what to set instead.
    pub(crate) fn check(settings: &Settings) -> Result<(), SettingError> {
        let default = Settings::resolve(Self::TABLE, &Default::default()).expect("the defaults are valid");
        let period =
            |all: &Settings| all.iter().find(|(name, _)| *name == Self::TABLE[1].name).map(|s| s.1.to_string());
        match period(settings) {
            Some(set) if Self::of(settings).is_none() && Some(&set) != period(&default).as_ref() => {
                Err(SettingError::Conflict(format!(
                    "cpu.period={set} has no effect without a quota; set cpu.share below 100, or leave it away"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Quota and period as the kernel takes them, microseconds, of so many CPUs.
    ///
    /// # Errors
    /// When the share is shorter than the kernel can hold anybody to.
    pub(crate) fn microseconds(self, cpus: u32) -> anyhow::Result<(u64, u64)> {
        let period = self.period.as_micros() as u64;
        let quota = period * u64::from(cpus) * self.share / 100;
        anyhow::ensure!(
            quota >= SHORTEST_US,
            "cpu.share={} of cpu.period={} is {quota} µs, and no quota is below {SHORTEST_US} µs; set a longer period or a \
             larger share",
            self.share,
            humantime::format_duration(self.period)
        );
        Ok((quota, period))
    }

    /// In words, of so many CPUs: `50 % of its CPU, 50ms in every 100ms`.
    pub fn words(self, cpus: u32) -> String {
        let time = Duration::from_nanos(self.period.as_nanos() as u64 * u64::from(cpus) * self.share / 100);
        let [time, period] = [time, self.period].map(|t| humantime::format_duration(t).to_string());
        let its = if cpus == 1 { "its CPU".to_string() } else { format!("its {cpus} CPUs") };
        format!("{} % of {its}, {time} in every {period}", self.share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry;

    fn resolved(runner: &str, given: &[(&str, &str)]) -> Result<Settings, String> {
        let given = given.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        registry::find(runner).expect("registered").resolve(&given).map_err(|e| e.to_string())
    }

    #[test]
    fn a_quota_is_a_share_of_all_cpus_in_a_period() {
        let of = |share, ms| Quota { share, period: Duration::from_millis(ms) };
        assert_eq!(of(50, 100).microseconds(1).expect("can be"), (50_000, 100_000));
        assert_eq!(of(25, 20).microseconds(4).expect("can be"), (20_000, 20_000));
        assert_eq!(of(50, 100).words(1), "50 % of its CPU, 50ms in every 100ms");
        assert_eq!(of(10, 20).words(2), "10 % of its 2 CPUs, 4ms in every 20ms");
        let e = of(5, 10).microseconds(1).expect_err("half a millisecond").to_string();
        assert!(e.contains("is 500 µs") && e.contains("a longer period"), "{e}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn every_box_in_a_cgroup_of_ours_can_have_one_and_no_other() {
        for runner in registry::RUNNERS {
            let has = runner.all_settings().iter().any(|s| s.name == "cpu.share");
            assert_eq!(has, !["exec", "ssh", "jail", "xen"].contains(&runner.name()), "{}", runner.name());
        }
        let set = resolved("bare", &[("cpu.share", "30"), ("cpu.period", "20ms")]).expect("valid");
        assert_eq!(Quota::of(&set), Some(Quota { share: 30, period: Duration::from_millis(20) }));
        assert_eq!(Quota::of(&resolved("runc", &[]).expect("valid")), None);
        assert_eq!(Quota::of(&Settings::default()), None, "of a box that has no such setting");
        let e = resolved("runc", &[("cpu.period", "20ms")]).expect_err("no effect");
        assert!(e.contains("has no effect without a quota") && e.contains("cpu.share below 100"), "{e}");
        let e = resolved("runc", &[("cpu.share", "0")]).expect_err("nothing at all");
        assert!(e.contains("from 1 to 100"), "{e}");
        assert!(resolved("exec", &[("cpu.share", "50")]).expect_err("not ours").contains("unknown setting"));
    }
}
