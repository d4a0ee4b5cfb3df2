//! Every histogram of a run as a log of HdrHistogram: an interval per workload and environment, told apart by its tag.
//!
//! The format is that of `HistogramLogWriter`, version 1.3; values are nanoseconds.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::comparison::{Comparison, Distribution, Latency};
use crate::render::{Render, escape};

/// The format `hlog`.
#[derive(Debug, Clone, Copy)]
pub struct Hlog;

impl Render for Hlog {
    fn render(&self, c: &Comparison) -> Result<Vec<u8>> {
        let (mut out, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
        let mut builder = IntervalLogWriterBuilder::new();
        builder.add_comment("[Histogram log format version 1.3]");
        builder.add_comment(&escape::one_line(&format!("[tarebench run {}: latencies in nanoseconds]", c.run.id)));
        if let Ok(started) = humantime::parse_rfc3339_weak(&c.run.started) {
            // Nobody asks when before 1970 something was measured, and the writer can't say it.
            let started = started.max(SystemTime::UNIX_EPOCH);
            builder.with_start_time(started).with_base_time(started);
        }
        // The largest latency of an interval is for people, in milliseconds as everywhere.
        builder.with_max_value_divisor(1e6);
        let mut log = builder.begin_log_with(&mut out, &mut serializer).context("write the head of a histogram log")?;
        for distribution in &c.distributions {
            let length = measured(distribution);
            for (latency, histogram) in histograms(distribution) {
                let tag = tag(distribution, latency);
                log.write_histogram(&histogram, Duration::ZERO, length, Tag::new(&tag))
                    .with_context(|| format!("write the histogram {tag}"))?;
            }
        }
        Ok(out)
    }
}

/// A distribution's histograms with what their latencies are: in open loop there are two, and where another program printed a
/// few percentiles there is none.
pub(super) fn histograms(d: &Distribution) -> impl Iterator<Item = (Latency, Histogram<u64>)> {
    let service = d.open.as_ref().map(|open| (Latency::Service, &open.service));
    [Some((d.latency, &d.histogram)), service]
        .into_iter()
        .flatten()
        .filter(|(_, h)| d.is_whole() && !h.is_empty())
        .map(|(latency, h)| (latency, h.open()))
}

/// `sqlite/commit:runc:service`. A tag can't hold a comma, a blank or a line break.
fn tag(d: &Distribution, latency: Latency) -> String {
    let tag = format!("{}:{}:{}", escape::one_line(&d.workload), escape::one_line(&d.environment), latency.name());
    tag.replace(|c: char| c == ',' || c.is_whitespace(), "_")
}

/// The measured time, from what was done and how fast.
fn measured(d: &Distribution) -> Duration {
    Duration::try_from_secs_f64(d.operations as f64 / d.operations_per_second).unwrap_or_default()
}
