//! A histogram as it is kept: an open one has 216 KiB, whatever is in it, and a comparison may have thousands.

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};

/// A histogram, without the room for what isn't in it.
#[derive(Clone, PartialEq)]
pub struct Packed {
    bytes: Vec<u8>,
    entries: u64,
}

impl Packed {
    /// Packs it.
    pub fn new(histogram: &Histogram<u64>) -> Self {
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(histogram, &mut bytes).expect("a histogram of ours fits into memory");
        Self { bytes, entries: histogram.len() }
    }

    /// The histogram as it was.
    pub fn open(&self) -> Histogram<u64> {
        Deserializer::new().deserialize(&mut self.bytes.as_slice()).expect("it was packed from one")
    }

    /// How many entries it has.
    pub fn len(&self) -> u64 {
        self.entries
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packed({} entries, {} bytes)", self.entries, self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use workloads::stopwatch::HIGHEST_NS;

    use super::*;

    #[test]
    fn it_comes_back_as_it_was_and_is_small() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, HIGHEST_NS, 3).expect("bounds that fit");
        assert!(Packed::new(&histogram).is_empty());
        for ns in [1, 900, 1_000_000, 1_001_000, HIGHEST_NS] {
            histogram.record_n(ns, ns).expect("within the bounds");
        }
        let packed = Packed::new(&histogram);
        assert_eq!((packed.open(), packed.len()), (histogram.clone(), histogram.len()));
        assert!(packed.bytes.len() < 200, "{packed:?}");
    }
}
