//! Every histogram of a run as HdrHistogram's table of percentiles, which its plotters read: one table after the other, each
//! below a line that names it.
//!
//! The format is that of `outputPercentileDistribution` with five lines to each halving of the rest; values are milliseconds, with
//! as many digits as show a nanosecond.

use anyhow::Result;
use hdrhistogram::Histogram;

use super::hlog::histograms;
use crate::comparison::Comparison;
use crate::render::{Render, escape};

/// The format `hgrm`.
#[derive(Debug, Clone, Copy)]
pub struct Hgrm;

/// Nanoseconds to milliseconds.
const SCALE: f64 = 1e6;

impl Render for Hgrm {
    fn render(&self, c: &Comparison) -> Result<Vec<u8>> {
        let mut out = String::new();
        for d in &c.distributions {
            for (latency, histogram) in histograms(d) {
                let (workload, environment) = (escape::one_line(&d.workload), escape::one_line(&d.environment));
                say!(out, "# {workload} on {environment}: {} time in milliseconds", latency.name());
                table(&histogram, &mut out);
            }
        }
        Ok(out.into_bytes())
    }
}

fn table(h: &Histogram<u64>, out: &mut String) {
    say!(out, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut total = 0;
    for point in h.iter_quantiles(5) {
        total += point.count_since_last_iteration();
        let (value, at) = (point.value_iterated_to() as f64 / SCALE, point.quantile_iterated_to());
        // The last line is at 1, whose rest can't be divided by.
        let rest = if at < 1.0 { format!(" {:>14.2}", 1.0 / (1.0 - at)) } else { String::new() };
        say!(out, "{value:>12.6} {at:>14.12} {total:>10}{rest}");
    }
    let sub = 2 * h.distinct_values() / (usize::from(h.buckets()) + 1);
    say!(out, "#[Mean    = {:>12.6}, StdDeviation   = {:>12.6}]", h.mean() / SCALE, h.stdev() / SCALE);
    say!(out, "#[Max     = {:>12.6}, Total count    = {:>12}]", h.max() as f64 / SCALE, h.len());
    say!(out, "#[Buckets = {:>12}, SubBuckets     = {sub:>12}]", h.buckets());
}
