//! Histograms as samples carry them, read with suspicion: they come out of a box, or out of a stranger's store.

use std::io::Read as _;

use flate2::read::ZlibDecoder;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;

use crate::stopwatch::HIGHEST_NS;

/// Before the deflated part: the cookie of HdrHistogram's V2 with deflate, and a length.
const COVER: usize = 8;
const COVER_COOKIE: u32 = 0x1c84_9314;

/// Before the counts: the cookie of V2, their length, an offset, digits, bounds and a ratio.
const HEADER: usize = 40;
const COOKIE: u32 = 0x1c84_9313;

/// No histogram of ours is longer inflated, bytes: 27 octaves of at most 1024 counts of at most 9 bytes.
const LONGEST: usize = HEADER + 28 * 1024 * 9;

/// Reads one with the bounds and digits that all of ours have. Nothing is allocated by what it says of itself: the decoder
/// takes the lengths in the header for true, and 60 bytes can name 4 GiB.
///
/// # Errors
/// In words, what is wrong with it.
pub fn read(bytes: &[u8]) -> Result<Histogram<u64>, String> {
    let number =
        |bytes: &[u8], at: usize| bytes.get(at..at + 4).map(|b| u32::from_be_bytes(b.try_into().expect("four")));
    if number(bytes, 0) != Some(COVER_COOKIE) || bytes.len() < COVER {
        return Err("it doesn't begin as one".into());
    }
    let mut plain = Vec::new();
    let inflated = ZlibDecoder::new(&bytes[COVER..]).take(LONGEST as u64 + 1).read_to_end(&mut plain);
    inflated.map_err(|e| format!("it can't be inflated: {e}"))?;
    if plain.len() > LONGEST {
        return Err(format!("it is longer than {LONGEST} bytes"));
    }
    if plain.len() < HEADER || number(&plain, 0) != Some(COOKIE) {
        return Err("its header is damaged".into());
    }
    let counts = number(&plain, 4).unwrap_or_default() as usize;
    if counts != plain.len() - HEADER {
        return Err(format!("it says {counts} bytes of counts and has {}", plain.len() - HEADER));
    }
    let ours = [&[0, 0, 0, 0, 0, 0, 0, 3], &1_u64.to_be_bytes()[..], &HIGHEST_NS.to_be_bytes()].concat();
    if plain[8..32] != ours[..] {
        return Err(format!("its bounds aren't 1 to {HIGHEST_NS} with three digits"));
    }
    Deserializer::new().deserialize(&mut &plain[..]).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;
    use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};
    use proptest::prelude::*;

    use super::*;

    fn written(histogram: &Histogram<u64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(histogram, &mut bytes).expect("serializes");
        bytes
    }

    /// With a header that says so, and as many zeros behind it.
    fn forged(counts: u32, digits: u32, high: u64, zeros: usize) -> Vec<u8> {
        let mut plain = COOKIE.to_be_bytes().to_vec();
        for word in [counts, 0, digits] {
            plain.extend(word.to_be_bytes());
        }
        plain.extend(1_u64.to_be_bytes());
        plain.extend(high.to_be_bytes());
        plain.extend(1_f64.to_be_bytes());
        plain.resize(plain.len() + zeros, 0);
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&plain).expect("in memory");
        let deflated = encoder.finish().expect("in memory");
        [&COVER_COOKIE.to_be_bytes()[..], &(deflated.len() as u32).to_be_bytes(), &deflated].concat()
    }

    #[test]
    fn what_was_written_is_read() {
        let mut histogram = Histogram::new_with_bounds(1, HIGHEST_NS, 3).expect("bounds that fit");
        assert_eq!(read(&written(&histogram)), Ok(histogram.clone()));
        for value in (0..60_000_u64).map(|n| 1 + n * 1_000_000) {
            histogram.record_n(value, u64::MAX >> 20).expect("within the bounds");
        }
        assert_eq!(read(&written(&histogram)), Ok(histogram), "the longest too");
    }

    #[test]
    fn what_a_header_claims_is_not_believed() {
        for (bytes, words) in [
            (forged(u32::MAX, 3, HIGHEST_NS, 0), "says 4294967295 bytes of counts and has 0"),
            (forged(1 << 30, 3, HIGHEST_NS, 1 << 30), "longer than"),
            (forged(0, 5, u64::MAX, 0), "bounds"),
            (forged(0, 3, HIGHEST_NS - 1, 0), "bounds"),
            (b"nonsense and more of it".to_vec(), "doesn't begin as one"),
            (Vec::new(), "doesn't begin as one"),
        ] {
            let error = read(&bytes).expect_err(words);
            assert!(error.contains(words), "{error}");
        }
        assert!(forged(u32::MAX, 3, HIGHEST_NS, 0).len() < 60, "that is all it takes");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), flip in 0..200_usize) {
            let _ = read(&bytes);
            let mut whole = forged(60, 3, HIGHEST_NS, 60);
            let at = flip % whole.len();
            whole[at] ^= 1 << (flip % 8);
            let _ = read(&whole);
        }
    }
}
