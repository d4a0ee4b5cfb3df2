//! Content and choices drawn from the seed: the same bytes and the same operations in every environment, for ever.
//!
//! PCG64-MCG is value-stable and fast enough to fill files with data that no layer below can compress; its state is
//! set from our own mixing, so that no crate's seeding can change what a seed means.

use rand::Rng as _;
use rand_pcg::Pcg64Mcg;
use sha2::{Digest as _, Sha256};

/// Mixes all bits of a word into all bits (the finalizer of SplitMix64): a bijection, so distinct words stay distinct.
#[inline]
pub fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The generator for one purpose: `stream` tells uses apart, `number` the instances of one use (a block, a burst).
#[inline]
pub fn generator(seed: u64, stream: u64, number: u64) -> Pcg64Mcg {
    let high = mix(seed ^ mix(stream));
    let low = mix(high ^ mix(number));
    Pcg64Mcg::new((u128::from(high) << 64) | u128::from(low))
}

/// Where a generator stands: it tells how much was drawn from it, and from which seed. The generator stays as it is.
pub fn state(generator: &Pcg64Mcg) -> u64 {
    generator.clone().next_u64()
}

/// Fills `bytes` with what can't be compressed.
#[inline]
pub fn fill(generator: &mut Pcg64Mcg, bytes: &mut [u8]) {
    generator.fill_bytes(bytes);
}

/// A number below `bound`, by multiplication (Lemire): the bias is below `bound` / 2^64.
#[inline]
pub fn below(generator: &mut Pcg64Mcg, bound: u64) -> u64 {
    ((u128::from(generator.next_u64()) * u128::from(bound)) >> 64) as u64
}

/// SHA-256 as lowercase hex, of what is added piece by piece.
#[derive(Debug, Clone, Default)]
pub struct Digest(Sha256);

impl Digest {
    /// A digest that begins with the workload's name and the seed.
    pub fn new(name: &str, seed: u64) -> Self {
        let mut digest = Self::default();
        digest.add(name.as_bytes());
        digest.add(&seed.to_le_bytes());
        digest
    }

    /// Adds bytes; their length is added too, so that pieces can't run into each other.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// The first 32 hex digits: short enough to read, long enough to be no accident.
    pub fn value(self) -> String {
        let mut hex = hex(&self.0.finalize());
        hex.truncate(32);
        hex
    }
}

/// Lowercase hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string can't fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_are_pinned() {
        let mut g = generator(1, 2, 3);
        let words: Vec<u64> = (0..3).map(|_| g.next_u64()).collect();
        assert_eq!(words, PINNED);
    }

    const PINNED: [u64; 3] = [77385471305903207, 14766749428928790528, 10846512453140618709];

    #[test]
    fn numbers_stay_below_the_bound_and_reach_both_ends() {
        let mut g = generator(7, 0, 0);
        let drawn: std::collections::BTreeSet<u64> = (0..1000).map(|_| below(&mut g, 5)).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn pieces_do_not_run_into_each_other() {
        let of = |parts: &[&[u8]]| {
            let mut d = Digest::new("x", 1);
            parts.iter().for_each(|p| d.add(p));
            d.value()
        };
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
    }
}
