//! Limits that hold for every environment: CPUs, memory, I/O, links.

use std::time::Duration;

/// CPUs for the work and for everything that watches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinning {
    /// CPUs of every environment.
    pub work: Vec<usize>,
    /// CPUs of the harness and the peer; the same as `work` where there are not enough.
    pub harness: Vec<usize>,
}

impl Pinning {
    /// The first CPUs for the work and the others for the harness. CPU 0 often takes the interrupts, but a measurement on
    /// few CPUs has no choice, and the same CPU for all is what counts.
    #[must_use]
    pub fn split(allowed: &[usize], cpus: u32) -> Self {
        let at = (cpus as usize).clamp(1, allowed.len().max(1)).min(allowed.len());
        let (work, rest) = allowed.split_at(at);
        Self { work: work.to_vec(), harness: if rest.is_empty() { work } else { rest }.to_vec() }
    }
}

impl std::fmt::Display for Pinning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |cpus: &[usize]| cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        if self.work == self.harness {
            return write!(f, "work, harness and peer all on CPU {}: there are no more", list(&self.work));
        }
        write!(f, "work on CPU {}; harness and peer on CPU {}", list(&self.work), list(&self.harness))
    }
}

/// Limits that hold for every environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// Number of CPUs.
    pub cpus: u32,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Of the disk under the data.
    pub io: IoLimits,
    /// Of every link to the peer.
    pub link: LinkLimits,
}

impl Resources {
    /// CPUs and memory (bytes), with no limits of I/O.
    pub const fn new(cpus: u32, memory_bytes: u64) -> Self {
        let io = IoLimits { rbps: None, wbps: None, riops: None, wiops: None };
        Self { cpus, memory_bytes, io, link: LinkLimits { delay: None, rate: None, mtu: None } }
    }
}

impl std::fmt::Display for Resources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cpus = if self.cpus == 1 { "CPU" } else { "CPUs" };
        write!(f, "{} {cpus}, {} of memory", self.cpus, bytesize::ByteSize(self.memory_bytes))?;
        for (name, limit) in self.io.set() {
            match name.strip_suffix("bps") {
                Some(_) => write!(f, ", {name} {}", bytesize::ByteSize(limit))?,
                None => write!(f, ", {name} {limit}")?,
            }
        }
        if self.link.is_set() {
            write!(f, ", {}", self.link)?;
        }
        Ok(())
    }
}

/// Bounds on what is read and written per second, as cgroup v2 names it in `io.max`; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IoLimits {
    /// Bytes read per second.
    pub rbps: Option<u64>,
    /// Bytes written per second.
    pub wbps: Option<u64>,
    /// Read operations per second.
    pub riops: Option<u64>,
    /// Write operations per second.
    pub wiops: Option<u64>,
}

impl IoLimits {
    /// Those that are set, by name.
    pub fn set(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = [("rbps", self.rbps), ("wbps", self.wbps), ("riops", self.riops), ("wiops", self.wiops)];
        all.into_iter().filter_map(|(name, limit)| Some((name, limit?)))
    }
}

/// The peer's end of every link to it; `None` is as the kernel makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkLimits {
    /// Added to what the peer sends.
    pub delay: Option<Duration>,
    /// Bytes per second that the peer sends at most.
    pub rate: Option<u64>,
    /// Bytes of the largest packet, either way.
    pub mtu: Option<u32>,
}

impl LinkLimits {
    /// Whether there are any.
    pub fn is_set(&self) -> bool {
        *self != Self::default()
    }
}

impl std::fmt::Display for LinkLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let delay = self.delay.map(|delay| format!("delay {}", humantime::format_duration(delay)));
        let rate = self.rate.map(|rate| format!("{} a second", bytesize::ByteSize(rate)));
        let mtu = self.mtu.map(|mtu| format!("MTU {mtu}"));
        let all: Vec<String> = [delay, rate, mtu].into_iter().flatten().collect();
        write!(f, "links with {}", all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_and_harness_are_apart_where_there_are_enough_cpus() {
        let of = |allowed: &[usize], cpus| Pinning::split(allowed, cpus);
        assert_eq!(of(&[0, 1], 1), Pinning { work: vec![0], harness: vec![1] });
        assert_eq!(of(&[3], 1), Pinning { work: vec![3], harness: vec![3] });
        assert_eq!(of(&[0, 1], 5), Pinning { work: vec![0, 1], harness: vec![0, 1] });
        assert_eq!(of(&[0, 1], 1).to_string(), "work on CPU 0; harness and peer on CPU 1");
    }

    #[test]
    fn limits_are_said_with_their_units() {
        assert_eq!(Resources::new(1, 512 << 20).to_string(), "1 CPU, 512.0 MiB of memory");
        let io = IoLimits { wbps: Some(2 << 20), riops: Some(500), ..IoLimits::default() };
        let all = Resources { io, ..Resources::new(2, 1 << 30) };
        assert_eq!(all.to_string(), "2 CPUs, 1.0 GiB of memory, wbps 2.0 MiB, riops 500");
        let link = LinkLimits { delay: Some(Duration::from_micros(1500)), rate: Some(1 << 20), mtu: Some(1400) };
        let all = Resources { link, ..Resources::new(1, 1 << 30) };
        assert!(all.to_string().ends_with("memory, links with delay 1ms 500us, 1.0 MiB a second, MTU 1400"), "{all}");
    }
}
