//! Names and texts: what things of ours are called on a host, and what an engine can take.

use std::path::Path;

use anyhow::Context;

/// `name` reduced to at most 40 characters of `[a-z0-9-]`, with a checksum where that lost something.
pub(crate) fn safe_name(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    // `peer` is taken: by the namespace of the peer.
    if !name.is_empty() && name.len() <= 40 && name.chars().all(plain) && name != "peer" {
        return name.to_string();
    }
    let short: String = name.to_ascii_lowercase().chars().filter(|c| plain(*c)).take(31).collect();
    let sum = hash(name);
    format!("{short}-{sum:08x}")
}

/// `tare`, the run's id, two digits of base 36, and the end: at most 15 characters, unique within a run.
pub(crate) fn device_name(id: &str, number: u32, end: char) -> String {
    let digit = |n: u32| char::from_digit(n % 36, 36).expect("below 36");
    let id: String = id.chars().take(8).collect();
    format!("tare{id}{}{}{end}", digit(number / 36), digit(number))
}

/// An end of an epair: as [`device_name`], but with two decimal digits.
pub(crate) fn epair_name(id: &str, number: u32, end: char) -> String {
    let id: String = id.chars().take(8).collect();
    format!("tare{id}{:02}{end}", number % 100)
}

/// Whether it is the host's end of an epair that only the run of this id has.
pub(crate) fn is_epair_of(id: &str, name: &str) -> bool {
    name.strip_prefix("tare")
        .and_then(|rest| rest.strip_prefix(id))
        .is_some_and(|rest| rest.len() == 3 && rest[..2].bytes().all(|b| b.is_ascii_digit()) && rest.ends_with('p'))
}

/// FNV-1a, 32 bits: tells long names apart that are cut short.
pub fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

/// Lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A path as text without the characters that the engine would read otherwise.
///
/// # Errors
/// When it has one.
pub(crate) fn plain<'a>(path: &'a Path, engine: &str, special: &[char]) -> anyhow::Result<&'a str> {
    let text = path.to_str().with_context(|| format!("{} is not a path that {engine} can take", path.display()))?;
    match text.chars().find(|c| special.contains(c)) {
        Some(c) => {
            anyhow::bail!("{engine} can't take {text}: there is a {c:?} in its path; give another with --data-dir")
        }
        None => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_different() {
        assert_eq!(device_name("0123abcd", 37, 'e'), "tare0123abcd11e");
        assert!(device_name("0123456789", 1295, 'p').len() <= 15);
        assert_eq!(safe_name("qemu-virtio-raw"), "qemu-virtio-raw");
        assert_ne!(safe_name("Größe/x"), safe_name("Grösse/x"));
        assert_ne!(safe_name("peer"), "peer");
        assert!(safe_name(&"x".repeat(500)).len() <= 40);
    }
}
