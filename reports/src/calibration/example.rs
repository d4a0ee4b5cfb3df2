//! A calibration to try things with.

use super::regime::Watched;
use super::{Calibration, Clocks, Floor, SCHEMA, Sight, TIMES, host};
use crate::example::stored;

/// Of the machine of the example's run: a rough disk, a network of which too little is known, and a quiet database.
pub(crate) fn example() -> Calibration {
    let of = |name: &str, spread: Option<f64>| Floor {
        workload: name.into(),
        metric: "throughput".into(),
        blocks: if spread.is_some() { 40 } else { 4 },
        spread,
        sees: spread.map(|s| TIMES.map(|time| Sight::of(s, 3.0, time)).to_vec()).unwrap_or_default(),
    };
    Calibration {
        schema: SCHEMA.into(),
        at: "2026-11-26T08:00:00Z".into(),
        host: host(&stored().run.host),
        suite: "quick".into(),
        command: "tarebench calibrate quick --budget 3m --seed 7".into(),
        version: "0.1.0".into(),
        pinning: "work on CPU 0; harness and peer on CPU 1".into(),
        doubts: Vec::new(),
        blocks: 40,
        seconds_a_block: Some(3.0),
        workloads: vec![of("disk/fsync", Some(0.1)), of("net/rr", None), of("sqlite/commit", Some(0.02))],
        watched: vec![Watched::of("processor", 0.1, &[5e3; 100])],
        clocks: Clocks {
            source: Some("tsc".into()),
            available: Some("tsc hpet".into()),
            reading_ns: vec![("monotonic".into(), 23.0)],
        },
        pinning_advice: Vec::new(),
        cited: "on 2026-11-26 with quick: sees 2.6 % in 5 minutes here".into(),
    }
}
