//! When in a run which latencies came: the timelines of all bursts, one after the other, coarse enough to be drawn.

use std::collections::BTreeMap;

use workloads::timeline::{self, SLICE_NS};

use crate::record::Record;

/// Columns at most, unless a run has more blocks.
const COLUMNS: u32 = 120;

/// Operations by time and by size. Time runs from left to right: every block of the run is equally wide, and within it the
/// bursts of this environment follow each other without a gap, so that what hit all environments in one block stands in
/// the same place for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeatMap {
    /// Blocks of the run.
    pub blocks: u32,
    /// Columns, a multiple of the blocks unless there are more blocks than can be drawn.
    pub columns: u32,
    /// Time of the bursts that are in it, nanoseconds, in whole slices.
    pub length_ns: u64,
    /// Operations by size class ([`timeline::bounds`]) and column; what isn't there is 0.
    pub counts: BTreeMap<(u8, u32), u64>,
}

/// Operations that ended in the bursts of a block so far: slice of the block, size class, operations.
type Ended = Vec<(u64, u8, u32)>;

impl HeatMap {
    /// Of the bursts of one workload in one environment, in order; `None` where none of them has a timeline.
    pub(crate) fn of<'a>(records: impl Iterator<Item = &'a Record>, blocks: u32) -> Option<Self> {
        let mut slices: BTreeMap<u32, (u64, Ended)> = BTreeMap::new();
        for record in records {
            let Ok(sample) = &record.outcome else { continue };
            let entries = timeline::decode(&sample.timeline).unwrap_or_default();
            let Some(last) = entries.last() else { continue };
            let (begun, all) = slices.entry(record.block).or_default();
            all.extend(entries.iter().map(|e| (*begun + u64::from(e.slice), e.class, e.count)));
            *begun += (u64::from(last.slice) + 1).max(sample.elapsed_ns.div_ceil(SLICE_NS));
        }
        let shortest = slices.values().map(|(length, _)| *length).min()?;
        // No column is narrower than a slice: it would be empty for no reason.
        let each = u64::from((COLUMNS / blocks.max(1)).max(1)).min(shortest.max(1));
        let columns = (u64::from(blocks) * each).min(u64::from(COLUMNS));
        let length_ns = slices.values().map(|(length, _)| length * SLICE_NS).sum();
        let mut counts = BTreeMap::new();
        for (block, (length, entries)) in slices {
            for (slice, class, count) in entries {
                let within = u64::from(block) * each + slice * each / length.max(1);
                let column = within * columns / (u64::from(blocks) * each).max(1);
                *counts.entry((class, column as u32)).or_default() += u64::from(count);
            }
        }
        Some(Self { blocks, columns: columns as u32, length_ns, counts })
    }

    /// The smallest and the largest size class with an operation.
    pub fn classes(&self) -> Option<(u8, u8)> {
        let (first, last) = (self.counts.first_key_value()?, self.counts.last_key_value()?);
        Some((first.0.0, last.0.0))
    }
}

#[cfg(test)]
mod tests {
    use workloads::timeline::{Entry, class, encode};

    use super::*;
    use crate::example::Example;

    fn any() -> Record {
        Example { blocks: 1, rounds: 1, seed: 1 }.build().records[0].clone()
    }

    fn record(any: &Record, block: u32, entries: &[(u32, u64, u32)], slices: u64) -> Record {
        let mut record = any.clone();
        record.block = block;
        let sample = record.outcome.as_mut().expect("the first of the example is a sample");
        let entries: Vec<Entry> =
            entries.iter().map(|&(slice, ns, count)| Entry { slice, class: class(ns), count }).collect();
        sample.timeline = encode(&entries);
        sample.elapsed_ns = slices * SLICE_NS;
        record
    }

    #[test]
    fn bursts_of_a_block_follow_each_other_and_blocks_are_equally_wide() {
        let records = [
            record(&any(), 0, &[(0, 1000, 5), (1, 1000, 7)], 2),
            record(&any(), 0, &[(1, 9000, 1)], 2),
            record(&any(), 1, &[(0, 1000, 3)], 8),
        ];
        let heat = HeatMap::of(records.iter(), 2).expect("there are timelines");
        assert_eq!((heat.blocks, heat.columns), (2, 8));
        let found: Vec<_> = heat.counts.iter().map(|((class, column), n)| (*class, *column, *n)).collect();
        let (fast, slow) = (class(1000), class(9000));
        assert_eq!(found, [(fast, 0, 5), (fast, 1, 7), (fast, 4, 3), (slow, 3, 1)]);
        assert_eq!(heat.classes(), Some((fast, slow)));
        assert_eq!(heat.length_ns, 12 * SLICE_NS);
    }

    #[test]
    fn no_operation_is_lost_however_many_blocks_there_are() {
        let any = any();
        for blocks in [1, 7, 120, 121, 1000] {
            let records: Vec<_> = (0..blocks).map(|b| record(&any, b, &[(0, 1000, 1), (399, 5000, 2)], 400)).collect();
            let heat = HeatMap::of(records.iter(), blocks).expect("there are timelines");
            assert!(heat.columns <= COLUMNS && heat.columns > 60.min(blocks), "{blocks}: {}", heat.columns);
            assert!(heat.counts.keys().all(|(_, column)| *column < heat.columns));
            assert_eq!(heat.counts.values().sum::<u64>(), 3 * u64::from(blocks));
        }
    }

    #[test]
    fn a_run_without_timelines_has_no_map() {
        assert_eq!(HeatMap::of([record(&any(), 0, &[], 4)].iter(), 1), None);
    }
}
