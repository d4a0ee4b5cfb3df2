//! When in a burst which latencies came: counts by time slice and by size, what a heat map is drawn from.
//!
//! The histogram of a burst says how long operations took and not when. A stall of 20 ms and a burst that was slow
//! throughout look alike there, and here they don't.

/// Width of a slice, nanoseconds.
pub const SLICE_NS: u64 = 5_000_000;

/// Size classes of an octave: their bounds are a factor of about 1.19 apart.
const PER_OCTAVE: u32 = 4;

/// Size classes in all: a minute is just below 2^36 ns.
pub const CLASSES: usize = 37 * PER_OCTAVE as usize;

/// Entries kept at most; what comes after is not in the timeline, and the histogram has it still. A burst of a minute
/// whose latencies fall into five classes has room.
const CAPACITY: usize = 1 << 16;

/// So many latencies of one class ended in one slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Number of the slice, from 0: it begins so many [`SLICE_NS`] after the measured part.
    pub slice: u32,
    /// The size class: see [`bounds`].
    pub class: u8,
    /// How many.
    pub count: u32,
}

/// The class of a latency, nanoseconds: its octave and two more bits.
#[inline]
pub fn class(ns: u64) -> u8 {
    // Below 4 ns there are not yet two bits behind the first; nothing that is measured is so short.
    let ns = ns.max(4);
    let octave = ns.ilog2();
    let class = octave * PER_OCTAVE + ((ns >> (octave - 2)) & 3) as u32;
    class.min(CLASSES as u32 - 1) as u8
}

/// The latencies of a class, nanoseconds: from the first, included, to the second, not included.
pub fn bounds(class: u8) -> (u64, u64) {
    let start = |class: u32| {
        let (octave, part) = (class / PER_OCTAVE, class % PER_OCTAVE);
        (1_u64 << octave) + ((u64::from(part) << octave) >> 2)
    };
    (start(class.into()), start(u32::from(class) + 1))
}

/// Counts the latencies of one burst. Allocates when made, never while counting.
#[derive(Debug)]
pub struct Timeline {
    row: [u32; CLASSES],
    slice: u32,
    entries: Vec<Entry>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self::new()
    }
}

impl Timeline {
    /// An empty one, with room for all entries.
    pub fn new() -> Self {
        Self { row: [0; CLASSES], slice: 0, entries: Vec::with_capacity(CAPACITY) }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.row = [0; CLASSES];
        self.slice = 0;
        self.entries.clear();
    }

    /// Counts a latency that ended `at` nanoseconds after the start.
    #[inline]
    pub fn count(&mut self, at: u64, latency: u64) {
        let slice = (at / SLICE_NS) as u32;
        if slice != self.slice {
            self.turn(slice);
        }
        self.row[usize::from(class(latency))] += 1;
    }

    /// Once a slice: from the row that counts to the entries that stay.
    #[cold]
    fn turn(&mut self, slice: u32) {
        for (class, count) in self.row.iter_mut().enumerate().filter(|(_, count)| **count > 0) {
            if self.entries.len() < CAPACITY {
                self.entries.push(Entry { slice: self.slice, class: class as u8, count: *count });
            }
            *count = 0;
        }
        self.slice = slice;
    }

    /// All that was counted, in order of time and size. Ends the counting.
    pub fn finish(&mut self) -> &[Entry] {
        self.turn(self.slice);
        &self.entries
    }
}

/// The counts of several jobs that began together, added slot by slot: no longer than that of one.
pub fn sum<'a>(jobs: impl IntoIterator<Item = &'a [Entry]>) -> Vec<Entry> {
    let mut all: Vec<Entry> = jobs.into_iter().flatten().copied().collect();
    all.sort_unstable();
    all.dedup_by(|next, kept| {
        let same = (next.slice, next.class) == (kept.slice, kept.class);
        if same {
            kept.count = kept.count.saturating_add(next.count);
        }
        same
    });
    all.truncate(CAPACITY);
    all
}

/// As it is kept: for each entry the distance to the slice before, the class and the count, as LEB128 numbers.
pub fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * 3);
    let mut last = 0;
    for entry in entries {
        for mut number in [entry.slice - last, entry.class.into(), entry.count] {
            while number >= 0x80 {
                bytes.push(number as u8 | 0x80);
                number >>= 7;
            }
            bytes.push(number as u8);
        }
        last = entry.slice;
    }
    bytes
}

/// Inverse of [`encode`]; `None` for anything else.
pub fn decode(bytes: &[u8]) -> Option<Vec<Entry>> {
    let mut bytes = bytes.iter();
    let mut number = || -> Option<u32> {
        let mut number = 0_u64;
        for shift in (0..35).step_by(7) {
            let byte = *bytes.next()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(number).ok();
            }
        }
        None
    };
    let mut entries = Vec::new();
    let mut slice = 0_u32;
    while let Some(distance) = number() {
        slice = slice.checked_add(distance)?;
        let class = u8::try_from(number()?).ok().filter(|c| usize::from(*c) < CLASSES)?;
        entries.push(Entry { slice, class, count: number()? });
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counts_are_kept_by_slice_and_class() {
        let mut timeline = Timeline::new();
        for (at, latency) in [(0, 1000), (1, 1010), (4_999_999, 2000), (5_000_000, 1000), (30_000_000, 1)] {
            timeline.count(at, latency);
        }
        let found: Vec<_> = timeline.finish().iter().map(|e| (e.slice, bounds(e.class), e.count)).collect();
        assert_eq!(found, [(0, (896, 1024), 2), (0, (1792, 2048), 1), (1, (896, 1024), 1), (6, (4, 5), 1)]);
    }

    #[test]
    fn jobs_are_added_slot_by_slot() {
        let entry = |slice, class, count| Entry { slice, class, count };
        let (one, two) =
            ([entry(0, 40, 3), entry(2, 41, 1)], [entry(0, 40, 4), entry(0, 44, 1), entry(2, 41, u32::MAX)]);
        let both = sum([&one[..], &two[..], &[]]);
        assert_eq!(both, [entry(0, 40, 7), entry(0, 44, 1), entry(2, 41, u32::MAX)]);
        let many: Vec<Entry> = (0..2 * CAPACITY as u32).map(|slice| entry(slice, 40, 1)).collect();
        assert_eq!(sum([&many[..], &many[..]]).len(), CAPACITY);
    }

    #[test]
    fn a_burst_that_never_ends_fills_no_memory() {
        let mut timeline = Timeline::new();
        for slice in 0..2 * CAPACITY as u64 {
            timeline.count(slice * SLICE_NS, 1000);
        }
        assert_eq!(timeline.finish().len(), CAPACITY);
        assert_eq!(timeline.entries.capacity(), CAPACITY);
    }

    proptest! {
        #[test]
        fn a_latency_lies_within_the_bounds_of_its_class(ns in 4_u64..60_000_000_000) {
            let (from, to) = bounds(class(ns));
            prop_assert!(from <= ns && ns < to, "{ns} is not in {from}..{to}");
        }

        #[test]
        fn what_is_encoded_is_decoded(mut entries in prop::collection::vec((0_u32..1 << 30, 0..CLASSES as u8, any::<u32>()), 0..50)) {
            entries.sort_unstable();
            let entries: Vec<_> = entries.into_iter().map(|(slice, class, count)| Entry { slice, class, count }).collect();
            prop_assert_eq!(decode(&encode(&entries)), Some(entries));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode(&bytes);
        }
    }
}
