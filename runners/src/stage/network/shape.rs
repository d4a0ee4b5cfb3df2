//! The peer's end of a link made slower, longer or narrower, by iproute2's `tc` and `ip`: the same for every environment, in front of
//! whatever its own network does.
//!
//! A queue holds what its device sends. So a rate holds for what comes from the peer, and a delay is added once to each exchange.

use std::process::Command;

use anyhow::Context;

use super::ip;
use crate::host::LinkLimits;
use crate::process;

/// Bytes of the smallest bucket: a packet as a device hands it on before it is cut up.
const BUCKET: u64 = 64 << 10;

/// Packets that a delayed link has on its way at most: 100 ms of 10 Gbit/s in packets of 1500 bytes.
const ON_THE_WAY: &str = "limit 100000";

impl LinkLimits {
    /// The queue that `tc` is told to put at the root of a device; `None` where it may keep its own.
    fn queue(&self) -> Option<String> {
        let rate = self.rate.map(|bytes| format!("rate {bytes}bps"));
        match (self.delay, rate) {
            (Some(delay), rate) => {
                let delay = format!("netem delay {}us {ON_THE_WAY}", delay.as_micros());
                Some(rate.map_or(delay.clone(), |rate| format!("{delay} {rate}")))
            }
            // As much at once as a tick of the kernel's slowest clock brings.
            (None, Some(rate)) => {
                let bucket = (self.rate.unwrap_or(0) / 100).max(BUCKET);
                Some(format!("tbf {rate} burst {bucket} latency 50ms"))
            }
            (None, None) => None,
        }
    }

    /// Shapes a device of a namespace that is the peer's end of a link.
    ///
    /// # Errors
    /// When the kernel can't, with what to do.
    pub(super) fn shape(&self, netns: &str, device: &str) -> anyhow::Result<()> {
        self.narrow(&["-n", netns], device)?;
        let Some(queue) = self.queue() else { return Ok(()) };
        let words: Vec<&str> =
            ["-n", netns, "qdisc", "replace", "dev", device, "root"].into_iter().chain(queue.split(' ')).collect();
        let mut tc = Command::new("tc");
        tc.args(&words);
        log::debug!("{tc:?}");
        process::ask(tc)
            .map(drop)
            .map_err(|said| anyhow::anyhow!("`tc {}` failed: {said}{}", words.join(" "), self.advice()))
    }

    /// Sets the largest packet of a device, which `place` leads to, and looks whether it is set.
    pub(super) fn narrow(&self, place: &[&str], device: &str) -> anyhow::Result<()> {
        let Some(mtu) = self.mtu else { return Ok(()) };
        ip(&[place, &["link", "set", "dev", device, "mtu", &mtu.to_string()]].concat())?;
        let mut look = Command::new("ip");
        look.args(place).args(["-o", "link", "show", "dev", device]);
        let said = process::ask(look).map_err(|said| anyhow::anyhow!("can't look at {device}: {said}"))?;
        let found = said.split_once(" mtu ").and_then(|(_, rest)| rest.split_whitespace().next());
        anyhow::ensure!(found == Some(&*mtu.to_string()), "the MTU of {device} reads back as {found:?}, not {mtu}");
        Ok(())
    }

    /// The part of the kernel that may be missing, and what to do then.
    fn advice(&self) -> &'static str {
        if self.delay.is_some() {
            "; a delay needs the module sch_netem: `modprobe sch_netem`, on Debian in a kernel that isn't made for clouds \
             (linux-image-amd64); or leave link.delay away in resources"
        } else {
            "; a rate needs the module sch_tbf: `modprobe sch_tbf`; or leave link.rate away in resources"
        }
    }

    /// Tries them on a device that nobody uses.
    ///
    /// # Errors
    /// See [`LinkLimits::shape`].
    pub(super) fn try_on(&self, netns: &str) -> anyhow::Result<()> {
        if self.queue().is_none() {
            return Ok(());
        }
        let queue_only = Self { mtu: None, ..*self };
        queue_only.shape(netns, "lo").context("links can't be as resources.link says")?;
        let mut tc = Command::new("tc");
        tc.args(["-n", netns, "qdisc", "del", "dev", "lo", "root"]);
        process::ask(tc).map(drop).map_err(|said| anyhow::anyhow!("can't take the queue off again: {said}"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_delay_takes_one_kind_of_queue_and_a_rate_alone_another() {
        let of = |delay: Option<u64>, rate| {
            LinkLimits { delay: delay.map(Duration::from_micros), rate, mtu: None }.queue().unwrap_or_default()
        };
        assert_eq!(of(None, None), "");
        assert_eq!(of(Some(1500), None), "netem delay 1500us limit 100000");
        assert_eq!(of(Some(1500), Some(12_500_000)), "netem delay 1500us limit 100000 rate 12500000bps");
        assert_eq!(of(None, Some(1_000_000)), "tbf rate 1000000bps burst 65536 latency 50ms");
        assert_eq!(of(None, Some(125_000_000)), "tbf rate 125000000bps burst 1250000 latency 50ms");
    }
}
