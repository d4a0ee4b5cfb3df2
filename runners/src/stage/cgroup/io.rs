//! I/O limits of a group: the block layer's throttling of one device, `blkio.throttle.*` in cgroup v1 and `io.max` in v2.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::host::IoLimits;
use crate::stage::disk::Disk;

/// The limits of a whole disk.
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

    /// Sets the limits of the group that has this directory, and reads them back.
    pub(super) fn hold(&self, directory: &Path) -> anyhow::Result<()> {
        for (key, limit) in self.limits.set() {
            let (file, line) = self.line(directory, key, limit);
            fs::write(&file, &line).with_context(|| format!("can't write `{line}` to {}", file.display()))?;
            let text = fs::read_to_string(&file)?;
            if !says(&text, &self.number, key, limit) {
                bail!("the limit {key}={limit} on device {} reads back as `{}`", self.number, text.trim());
            }
        }
        Ok(())
    }

    /// The file that takes a limit, and how.
    fn line(&self, directory: &Path, key: &str, limit: u64) -> (PathBuf, String) {
        let v2 = directory.join("io.max");
        if v2.exists() {
            return (v2, format!("{} {key}={limit}", self.number));
        }
        let file = match key {
            "rbps" => "read_bps",
            "wbps" => "write_bps",
            "riops" => "read_iops",
            _ => "write_iops",
        };
        (directory.join(format!("blkio.throttle.{file}_device")), format!("{} {limit}", self.number))
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
    fn a_limit_is_set_in_both_versions_and_read_back() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let limits = IoLimits { rbps: Some(1000), ..IoLimits::default() };
        let throttle = Throttle { number: "8:0".into(), limits };
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect("readable");
        throttle.hold(folder.path()).expect("held");
        assert_eq!(read("blkio.throttle.read_bps_device"), "8:0 1000");
        fs::write(folder.path().join("io.max"), "").expect("written");
        throttle.hold(folder.path()).expect("held");
        assert_eq!(read("io.max"), "8:0 rbps=1000");
    }

    #[test]
    fn nothing_to_limit_needs_no_disk_and_a_limit_does() {
        assert_eq!(Throttle::of(IoLimits::default(), None).unwrap(), None);
        let limits = IoLimits { wiops: Some(100), ..IoLimits::default() };
        assert!(Throttle::of(limits, None).is_err());
    }
}
