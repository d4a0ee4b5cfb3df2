//! Whether a run is sure enough to stop: by the width of its intervals, and never by what they say.
//!
//! A run that is looked at again and again until something differs finds a difference where there is none in one run of six.
//! The width of an interval says almost nothing of where it lies, so a run may be ended by it; what is left of the effect, that an
//! interval is narrow because its values happen to lie close, is met by asking twice: the blocks between the two looks were chosen
//! by nobody. `reports/tests/simulations.rs` counts the false alarms of both rules.

use super::{Cell, Comparison, Metric, Verdict};
use crate::statistics::noise_floor;

/// No look before so many blocks.
pub const LEAST: u32 = 12;

/// Blocks from one look to the next.
pub const EVERY: u32 = 4;

/// Looks in a row at which all intervals have to be narrow enough.
pub const IN_A_ROW: u32 = 2;

/// Whether there is a look after so many blocks.
#[must_use]
pub fn is_look(blocks: u32) -> bool {
    blocks >= LEAST && (blocks - LEAST).is_multiple_of(EVERY)
}

/// The comparison that a run is least sure of.
#[derive(Debug, Clone, PartialEq)]
pub struct Widest {
    /// Name of the workload.
    pub workload: String,
    /// Name of the environment.
    pub environment: String,
    /// Half the width of its interval, relative: 0.03 for 3 %; infinite where there is none.
    pub half_width: f64,
}

/// The widest interval of all figures to look at first; that of the control where nothing else is compared. `None` where nothing
/// was measured. A cell that doesn't measure what it says, or has nothing, isn't waited for.
#[must_use]
pub fn widest(c: &Comparison) -> Option<Widest> {
    let cells = if c.cells.is_empty() { &c.control } else { &c.cells };
    let primary =
        |cell: &&Cell| c.run.workloads.iter().any(|w| w.name == cell.workload && Metric::primary(w) == cell.metric);
    let of = |cell: &Cell| {
        let half_width = cell.overhead()?.interval.map_or(f64::INFINITY, |i| noise_floor(&i));
        Some(Widest { workload: cell.workload.clone(), environment: cell.environment.clone(), half_width })
    };
    let all = cells.iter().filter(primary).filter(|cell| cell.verdict != Verdict::Invalid).filter_map(of);
    all.max_by(|a, b| a.half_width.total_cmp(&b.half_width))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::{Method, compare};
    use crate::example::{Example, stored};

    #[test]
    fn looks_begin_at_twelve_blocks_and_come_every_four() {
        let looks: Vec<u32> = (0..26).filter(|blocks| is_look(*blocks)).collect();
        assert_eq!(looks, [12, 16, 20, 24]);
    }

    #[test]
    fn the_widest_is_a_figure_to_look_at_first_and_no_cell_has_a_wider() {
        let c = compare(&stored(), Method::default());
        let widest = widest(&c).expect("it was measured");
        let workload = c.run.workloads.iter().find(|w| w.name == widest.workload).expect("a workload");
        let cell = c.cell(&widest.workload, &widest.environment, Metric::primary(workload)).expect("its cell");
        let interval = cell.overhead().and_then(|o| o.interval).expect("an interval");
        assert!(widest.half_width > 0.0 && widest.half_width == noise_floor(&interval));
        for cell in c.cells.iter().filter(|cell| cell.verdict != Verdict::Invalid) {
            let w = c.run.workloads.iter().find(|w| w.name == cell.workload).expect("a workload");
            let half = cell.overhead().and_then(|o| o.interval).map_or(0.0, |i| noise_floor(&i));
            assert!(Metric::primary(w) != cell.metric || half <= widest.half_width, "{cell:?}");
        }
    }

    #[test]
    fn without_enough_blocks_nothing_is_sure() {
        let c = compare(&Example { blocks: 3, ..Example::default() }.build(), Method::default());
        assert_eq!(widest(&c).map(|w| w.half_width), Some(f64::INFINITY));
    }
}
