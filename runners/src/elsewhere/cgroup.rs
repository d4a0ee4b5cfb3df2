//! Stands in for cgroups where there are none: nothing is limited or counted, and every report says so.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::host::Host;
use crate::stage::disk::Disk;

/// No group: a jail's limits are its own (rctl), and other environments have the CPU affinity alone.
#[derive(Debug)]
pub struct Cgroup;

impl Cgroup {
    pub(crate) fn make(_host: &Host, _environment: &str, _disk: Option<&Disk>) -> Self {
        Self
    }

    pub(crate) fn limit_memory(&self, _bytes: u64) -> anyhow::Result<()> {
        Ok(())
    }

    pub(crate) fn hold_cpu_time(&self, _quota: (u64, u64)) -> anyhow::Result<()> {
        anyhow::bail!("a quota of CPU time needs a cgroup, which this kernel has none of; leave cpu.share away")
    }

    pub(crate) fn hold_io(&self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Why the limits are not enforced.
    pub fn unequal(&self) -> Option<&str> {
        Some("CPUs and memory are not limited: this kernel has no cgroups; CPU affinity is still set")
    }

    /// The group that an engine may make its own groups in: there is none.
    pub fn parent_for_engine(&self) -> Option<String> {
        None
    }

    pub(crate) fn entrances(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// CPU time used, nanoseconds: not counted.
    pub fn cpu_ns(&self) -> Option<u64> {
        None
    }

    /// The same outside the kernel and in it: not counted.
    pub fn cpu_split(&self) -> Option<(u64, u64)> {
        None
    }

    /// Time of guests: not counted.
    pub fn guests_ns(&self) -> Option<HashMap<u32, u64>> {
        None
    }

    /// CPU time of all environments of the run, nanoseconds: not counted.
    pub fn run_cpu_ns(&self) -> Option<u64> {
        None
    }

    /// What quotas did to the group: not counted.
    pub fn quota(&self) -> Quota {
        Quota::default()
    }

    /// Its threads: not counted.
    pub fn switches(&self) -> Option<HashMap<u32, u64>> {
        None
    }

    /// Memory and page cache: not counted.
    pub fn resident(&self) -> Resident {
        Resident::default()
    }

    /// Memory held, bytes: not counted.
    pub fn memory_bytes(&self) -> Option<u64> {
        None
    }

    pub(crate) fn pressure_us(&self, _what: &str) -> Option<u64> {
        None
    }

    pub(crate) fn kill(&self) {}

    pub(crate) fn stop(&self) {}
}

/// What quotas did to a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// Periods that began with work to do.
    pub periods: Option<u64>,
    /// In so many of them it used up its share.
    pub throttled: Option<u64>,
    /// For so long it was stopped until the next one, nanoseconds.
    pub stopped_ns: Option<u64>,
}

/// Memory of a group, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resident {
    /// Held by its processes.
    pub memory: Option<u64>,
    /// Pages of files in the page cache.
    pub cache: Option<u64>,
    /// Those of them that processes have mapped.
    pub mapped: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Mount {
    pub(crate) point: PathBuf,
    pub(crate) v2: bool,
}

pub(crate) fn mounts() -> Vec<Mount> {
    Vec::new()
}

pub(crate) mod leaf {
    pub(crate) fn name(id: &str) -> String {
        format!("tarebench-{id}-leaf")
    }

    pub(crate) fn undo(_name: &str) -> anyhow::Result<()> {
        Ok(())
    }

    pub(crate) fn undo_of_the_gone(_live: impl Fn(&str) -> bool) {}

    pub(crate) fn others_are_here(_live: impl Fn(&str) -> bool) -> bool {
        false
    }

    pub(crate) fn removal(_leaf: &std::path::Path) -> String {
        String::new()
    }
}

pub(crate) fn kill_all(_name: &str) {}

pub(crate) fn remove(_name: &str) {}

pub(crate) fn pressure_total(_text: &str) -> Option<u64> {
    None
}
