//! I/O limits of a group: the block layer's throttling of one device, `blkio.throttle.*` in cgroup v1 and `io.max` in v2.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use cgroups_rs::fs::Cgroup;
use cgroups_rs::fs::blkio::BlkIoController;
use cgroups_rs::fs::hierarchies;

use crate::host::IoLimits;
use crate::stage::disk::Disk;

/// What holds for a whole disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Throttle {
    /// `major:minor`.
    number: String,
    limits: IoLimits,
}

impl Throttle {
    /// For the disk under the data; `None` where nothing is to be limited.
    ///
    /// # Errors
    /// When there is no disk that could be limited.
    pub(super) fn of(limits: IoLimits, disk: Option<&Disk>) -> anyhow::Result<Option<Self>> {
        if limits == IoLimits::default() {
            return Ok(None);
        }
        let number = disk.and_then(|d| d.attribute("dev"));
        let number = number.context("no disk is known under the data directory that I/O limits could hold for")?;
        Ok(Some(Self { number, limits }))
    }

    /// Sets the limits of the group, and reads them back from its directory.
    pub(super) fn hold(&self, name: &str, directory: &Path) -> anyhow::Result<()> {
        let (major, minor) = self.number.split_once(':').context("a device number is major:minor")?;
        let (major, minor) = (major.parse()?, minor.parse()?);
        let group = Cgroup::load(hierarchies::auto(), name);
        let io: &BlkIoController = group.controller_of().context("there is no I/O controller")?;
        for (key, limit) in self.limits.set() {
            let (set, file): (fn(&_, _, _, _) -> _, _) = match key {
                "rbps" => (BlkIoController::throttle_read_bps_for_device, "read_bps"),
                "wbps" => (BlkIoController::throttle_write_bps_for_device, "write_bps"),
                "riops" => (BlkIoController::throttle_read_iops_for_device, "read_iops"),
                _ => (BlkIoController::throttle_write_iops_for_device, "write_iops"),
            };
            set(io, major, minor, limit)?;
            let old = fs::read_to_string(directory.join(format!("blkio.throttle.{file}_device")));
            let text = old.or_else(|_| fs::read_to_string(directory.join("io.max")))?;
            if !says(&text, &self.number, key, limit) {
                bail!("the limit {key}={limit} on device {} reads back as `{}`", self.number, text.trim());
            }
        }
        Ok(())
    }
}

/// Whether a line `8:0 1000` (v1) or `8:0 rbps=1000 wbps=max` (v2) holds the limit.
fn says(text: &str, number: &str, key: &str, limit: u64) -> bool {
    let own = text.lines().filter_map(|line| line.strip_prefix(number)?.strip_prefix(' '));
    own.flat_map(str::split_whitespace).any(|word| word == limit.to_string() || word == format!("{key}={limit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_found_in_both_versions() {
        assert!(says("254:0 500\n254:16 100\n", "254:16", "wiops", 100));
        assert!(!says("254:16 100\n", "254:1", "wiops", 100));
        assert!(says("8:0 rbps=max wbps=1000 riops=max wiops=max\n", "8:0", "wbps", 1000));
        assert!(!says("8:0 rbps=1000 wbps=max riops=max wiops=max\n", "8:0", "wbps", 1000));
    }

    #[test]
    fn nothing_to_limit_needs_no_disk_and_a_limit_does() {
        assert_eq!(Throttle::of(IoLimits::default(), None).unwrap(), None);
        let limits = IoLimits { wiops: Some(100), ..IoLimits::default() };
        assert!(Throttle::of(limits, None).is_err());
    }
}
