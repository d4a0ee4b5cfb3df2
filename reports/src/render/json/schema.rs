//! The fields of `tarebench.report/1`, with units as `FORMATS.md` gives them.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::record;

#[derive(Serialize)]
pub(super) struct Report<'a> {
    pub(super) schema: &'static str,
    pub(super) run: Run<'a>,
    pub(super) method: Method,
    pub(super) environments: Vec<Environment<'a>>,
    pub(super) workloads: Vec<Workload<'a>>,
    pub(super) cells: Vec<Cell<'a>>,
    pub(super) control: Vec<Cell<'a>>,
    pub(super) resolution: Vec<Resolution<'a>>,
    pub(super) distributions: Vec<Distribution<'a>>,
    pub(super) insertions: Vec<Insertions<'a>>,
    pub(super) voids: Vec<Void<'a>>,
    pub(super) failures: Vec<Failure<'a>>,
    pub(super) not_durable: Option<&'a str>,
    pub(super) invalid: &'a [String],
    pub(super) remarks: &'a [String],
}

#[derive(Serialize)]
pub(super) struct Run<'a> {
    pub(super) id: &'a str,
    pub(super) started: &'a str,
    pub(super) suite: &'a str,
    pub(super) seed: u64,
    pub(super) blocks: u32,
    pub(super) blocks_planned: u32,
    pub(super) rounds: u32,
    pub(super) rounds_begun: u64,
    pub(super) baseline: &'a str,
    pub(super) command: &'a str,
    pub(super) binary_sha256: &'a str,
    pub(super) version: &'a str,
    pub(super) ending: record::Ending,
    pub(super) seconds: Option<f64>,
    pub(super) labels: &'a BTreeMap<String, String>,
    pub(super) pinning: &'a str,
    pub(super) nested: Option<&'a str>,
    pub(super) host: Pairs<'a>,
    pub(super) suite_toml: &'a str,
}

/// Facts in the order to show them. A name that comes twice keeps its last value.
pub(super) struct Pairs<'a>(pub(super) &'a [(String, String)]);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let last = |i: usize, name: &str| !self.0[i + 1..].iter().any(|(other, _)| other == name);
        let once = self.0.iter().enumerate().filter(|(i, (name, _))| last(*i, name));
        s.collect_map(once.map(|(_, (name, value))| (name, value)))
    }
}

#[derive(Serialize)]
pub(super) struct Method {
    pub(super) confidence: f64,
    pub(super) margin: f64,
    pub(super) void_limit: f64,
    pub(super) operations_beyond_a_percentile: u64,
    pub(super) stall_factor: f64,
}

#[derive(Serialize)]
pub(super) struct Environment<'a> {
    pub(super) name: &'a str,
    pub(super) runner: &'a str,
    pub(super) version: Option<&'a str>,
    pub(super) settings: &'a BTreeMap<String, String>,
    pub(super) role: &'static str,
    pub(super) start_ms: Option<f64>,
    pub(super) start_ms_low: Option<f64>,
    pub(super) start_ms_high: Option<f64>,
    pub(super) starts_ms: &'a [f64],
    pub(super) memory_bytes: Option<u64>,
    pub(super) clock_ns: Option<f64>,
    pub(super) network: workloads::facts::Network,
    pub(super) data_path: &'a str,
    pub(super) programs: &'a [workloads::facts::Program],
    pub(super) outcome: &'static str,
    pub(super) because: Option<&'a str>,
    pub(super) sentence: String,
    pub(super) facts: Pairs<'a>,
    pub(super) flags: Vec<Flag<'a>>,
}

#[derive(Serialize)]
pub(super) struct Workload<'a> {
    pub(super) name: &'a str,
    pub(super) kind: &'a str,
    pub(super) about: &'a str,
    pub(super) settings: &'a BTreeMap<String, String>,
    pub(super) durable: bool,
    pub(super) direct: bool,
    pub(super) primary: &'static str,
    pub(super) latency: &'static str,
    pub(super) rate: Option<u64>,
}

#[derive(Serialize)]
pub(super) struct Cell<'a> {
    pub(super) workload: &'a str,
    pub(super) environment: &'a str,
    pub(super) metric: &'static str,
    pub(super) unit: &'static str,
    pub(super) net: Option<f64>,
    pub(super) gross: Option<f64>,
    pub(super) tare: Option<f64>,
    pub(super) overhead: Option<f64>,
    pub(super) low: Option<f64>,
    pub(super) high: Option<f64>,
    pub(super) confidence: Option<f64>,
    pub(super) difference: Option<f64>,
    pub(super) difference_unit: &'static str,
    pub(super) difference_low: Option<f64>,
    pub(super) difference_high: Option<f64>,
    pub(super) geometric_mean: Option<f64>,
    pub(super) geometric_low: Option<f64>,
    pub(super) geometric_high: Option<f64>,
    pub(super) ratio_of_means: Option<f64>,
    pub(super) ratios: Vec<BlockRatio>,
    pub(super) blocks: u32,
    pub(super) operations: u64,
    pub(super) claim: &'static str,
    pub(super) verdict: &'static str,
    pub(super) ranked: bool,
    pub(super) withheld: Option<Withheld<'a>>,
    pub(super) flags: Vec<Flag<'a>>,
}

#[derive(Serialize)]
pub(super) struct BlockRatio {
    pub(super) block: u32,
    pub(super) ratio: f64,
}

#[derive(Serialize)]
pub(super) struct Withheld<'a> {
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) have: Option<u64>,
    pub(super) more: Option<u64>,
    pub(super) failure: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct Flag<'a> {
    pub(super) name: &'static str,
    pub(super) severity: &'static str,
    pub(super) evidence: &'a str,
}

#[derive(Serialize)]
pub(super) struct Resolution<'a> {
    pub(super) workload: &'a str,
    pub(super) metric: &'static str,
    pub(super) control: Option<f64>,
    pub(super) low: Option<f64>,
    pub(super) high: Option<f64>,
    pub(super) noise_floor: Option<f64>,
    pub(super) smallest_visible: Option<f64>,
    pub(super) state: &'static str,
    pub(super) because: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct Distribution<'a> {
    pub(super) workload: &'a str,
    pub(super) environment: &'a str,
    pub(super) latency: &'static str,
    pub(super) service: Service,
    pub(super) lateness: Option<Lateness>,
    pub(super) operations_asked_per_second: Option<f64>,
    pub(super) counters: &'a BTreeMap<String, u64>,
    pub(super) warmup_operations: u64,
    pub(super) operations: u64,
    pub(super) bytes: u64,
    pub(super) operations_per_second: f64,
    pub(super) bytes_per_second: f64,
    pub(super) batch: u32,
    pub(super) blocks: u32,
    pub(super) stalls_per_million: f64,
    pub(super) carried_quantile: f64,
    pub(super) overhead: Vec<OverheadAt>,
    pub(super) flags: Vec<Flag<'a>>,
}

#[derive(Serialize)]
pub(super) struct Service {
    pub(super) p50: Option<f64>,
    pub(super) p90: Option<f64>,
    pub(super) p99: Option<f64>,
    pub(super) max: Option<u64>,
}

#[derive(Serialize)]
pub(super) struct Lateness {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) max: u64,
}

#[derive(Serialize)]
pub(super) struct Insertions<'a> {
    pub(super) workload: &'a str,
    pub(super) environment: &'a str,
    pub(super) seconds: f64,
    pub(super) low: Option<f64>,
    pub(super) high: Option<f64>,
    pub(super) operations_done: u64,
    pub(super) scaled: bool,
    pub(super) standing: &'static str,
    pub(super) disqualified: &'a [&'static str],
}

#[derive(Serialize)]
pub(super) struct OverheadAt {
    pub(super) quantile: f64,
    pub(super) overhead: f64,
    pub(super) low: Option<f64>,
    pub(super) high: Option<f64>,
}

#[derive(Serialize)]
pub(super) struct Void<'a> {
    pub(super) workload: &'a str,
    pub(super) block: u32,
    pub(super) round: u32,
    pub(super) reason: &'a str,
}

#[derive(Serialize)]
pub(super) struct Failure<'a> {
    pub(super) environment: &'a str,
    pub(super) workload: Option<&'a str>,
    pub(super) block: u32,
    pub(super) round: Option<u32>,
    pub(super) step: &'static str,
    pub(super) message: &'a str,
}
