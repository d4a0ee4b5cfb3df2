//! A calibration to try things with.

use super::regime::Watched;
use super::{Calibration, Clocks, Floor, SCHEMA, Seen, host};
use crate::example::stored;

/// Of the machine of the example's run: a rough disk, a network of which too little is known, and a quiet database.
pub(crate) fn example() -> Calibration {
    let of = |name: &str, spread: Option<f64>| {
        let half_width = spread.map(|spread| 0.3 * spread);
        let seen = Seen { blocks: if spread.is_some() { 40 } else { 4 }, spread, half_width };
        Floor {
            workload: name.into(),
            metric: "throughput".into(),
            blocks: seen.blocks,
            spread,
            half_width,
            sees: seen.sees(3.0),
        }
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
        unknown: vec!["net/rr".into()],
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
