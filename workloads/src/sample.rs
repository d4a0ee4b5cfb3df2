//! Length and outcome of a burst.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::histogram;
use crate::timeline::{self, SLICE_NS};

/// How long a burst is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BurstPlan {
    /// Operations measured.
    pub operations: u64,
    /// Operations before them that are done, counted and discarded.
    pub warmup: u64,
    /// Operations per clock reading, at least 1.
    pub batch: u32,
    /// When the measured part ends early, nanoseconds of the environment's own clock; the warm-up does after half of that.
    pub limit_ns: u64,
    /// Which burst of the block it is. Operations are drawn from the seed and this number and from nothing else, so that a
    /// round's are the same in every environment, whatever each of them did before. Passes that only size a burst count from
    /// [`PILOTS`].
    pub number: u64,
}

/// The first number of passes that are not measured: further than any round.
pub const PILOTS: u64 = 1 << 20;

/// Measurements of one burst.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Operations measured (not the warm-up's).
    pub operations: u64,
    /// Bytes moved by them.
    pub bytes: u64,
    /// Wall time of the measured part, nanoseconds of the environment's clock.
    pub elapsed_ns: u64,
    /// Operations discarded as warm-up.
    pub warmup_operations: u64,
    /// Wall time of the warm-up, nanoseconds.
    pub warmup_ns: u64,
    /// Operations per clock reading; above 1 a histogram entry is the mean of so many.
    pub batch: u32,
    /// Whether the limit ended the burst before all operations were done; of a warm-up its operations tell.
    pub cut_short: bool,
    /// Service times in nanoseconds, HdrHistogram V2 with deflate.
    #[serde(with = "base64_bytes")]
    pub histogram: Vec<u8>,
    /// In open loop: response times, from the intended start, likewise.
    #[serde(with = "base64_maybe")]
    pub response: Option<Vec<u8>>,
    /// In open loop: how late the generator began the operations that no operation before them held up, likewise.
    #[serde(with = "base64_maybe")]
    pub lateness: Option<Vec<u8>>,
    /// When which latencies came, as [`crate::timeline::encode`] has it; response times in open loop, else service times.
    #[serde(with = "base64_bytes")]
    pub timeline: Vec<u8>,
    /// Operations that were in flight at a time: jobs times depth.
    pub concurrency: u32,
    /// Counters of the workload beside operations, warm-up included: `busy` (timeouts), ...
    pub counters: BTreeMap<String, u64>,
    /// A digest of what was drawn, warm-up included: equal where the same operations were done. 0 where nothing is drawn; `None`
    /// in bursts that were stored before it was kept, and in those of other programs.
    #[serde(default)]
    pub drawn: Option<u64>,
    /// Operations that promised that their data survives a loss of power, warm-up included; `None` where the workload promises
    /// nothing, in bursts that were stored before it was kept, and in those of other programs.
    #[serde(default)]
    pub durable_writes: Option<u64>,
}

/// Figures of one burst are not beyond: some 2^48 operations, a few days, an exabyte. Sums over many bursts then don't overflow.
const MOST_OPERATIONS: u64 = 1 << 48;
const LONGEST_NS: u64 = 1 << 50;
const MOST_BYTES: u64 = 1 << 60;
/// Bytes of a timeline: no frame has room for more.
const LONGEST_TIMELINE: usize = crate::protocol::MAX_FRAME;

/// The histograms of a sample, read.
#[derive(Debug, Clone, PartialEq)]
pub struct Latencies {
    /// Service times.
    pub service: Histogram<u64>,
    /// In open loop: response times.
    pub response: Option<Histogram<u64>>,
    /// In open loop: how late the generator was.
    pub lateness: Option<Histogram<u64>>,
}

impl Sample {
    /// Its histograms, where everything in it can be read and can be of a burst at all: samples come out of boxes and out of
    /// other people's stores.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    pub fn latencies(&self) -> Result<Latencies, String> {
        for (what, number, most) in [
            ("operations", self.operations, MOST_OPERATIONS),
            ("operations in the warm-up", self.warmup_operations, MOST_OPERATIONS),
            ("nanoseconds", self.elapsed_ns, LONGEST_NS),
            ("nanoseconds of the warm-up", self.warmup_ns, LONGEST_NS),
            ("bytes", self.bytes, MOST_BYTES),
            ("durable writes", self.durable_writes.unwrap_or(0), 2 * MOST_OPERATIONS),
        ] {
            if number > most {
                return Err(format!("it says {number} {what}, which no burst has"));
            }
        }
        self.check_timeline()?;
        let read = |what: &str, bytes: &[u8]| {
            let histogram = histogram::read(bytes).map_err(|e| format!("its {what} can't be read: {e}"))?;
            if histogram.len() > MOST_OPERATIONS {
                return Err(format!("its {what} has {} entries, which no burst has", histogram.len()));
            }
            Ok(histogram)
        };
        Ok(Latencies {
            service: read("histogram", &self.histogram)?,
            response: self.response.as_deref().map(|bytes| read("response times", bytes)).transpose()?,
            lateness: self.lateness.as_deref().map(|bytes| read("lateness", bytes)).transpose()?,
        })
    }

    fn check_timeline(&self) -> Result<(), String> {
        if self.timeline.len() > LONGEST_TIMELINE {
            return Err(format!(
                "its timeline has {} bytes, no more than {LONGEST_TIMELINE} can be",
                self.timeline.len()
            ));
        }
        let entries = timeline::decode(&self.timeline).ok_or("its timeline can't be read")?;
        match entries.last() {
            Some(last) if u64::from(last.slice) > LONGEST_NS / SLICE_NS => {
                Err("its timeline is longer than a burst can be".into())
            }
            _ => Ok(()),
        }
    }
}

pub(crate) mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

mod base64_maybe {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Bytes(#[serde(with = "super::base64_bytes")] Vec<u8>);

    pub fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, s: S) -> Result<S::Ok, S::Error> {
        bytes.clone().map(Bytes).serialize(s)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<u8>>, D::Error> {
        Ok(Option::<Bytes>::deserialize(d)?.map(|bytes| bytes.0))
    }
}
