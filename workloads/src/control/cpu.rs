//! `control/cpu`: an operation is a fixed amount of arithmetic in registers, or the hash of a block: what the processor does
//! without the kernel, and what emulation, a lower clock or a missing instruction makes of it.

use std::collections::BTreeMap;
use std::hint::black_box;

use sha2::{Digest as _, Sha256};

use crate::content::{self, Digest, mix};
use crate::settings::Setting;
use crate::stopwatch::Stopwatch;
use crate::workload::{Check, Place, Prepared, Resource, Workload};

/// Rounds of integer work in an operation. Each needs the result of the one before: three multiplications, four
/// exclusive-ors or additions, three shifts.
const ROUNDS: u64 = 1000;
/// Bytes that are hashed in an operation.
const BLOCK: usize = 4096;
/// Operations that the check value covers.
const CHECKED: u64 = 16;
const STREAM: u64 = 0x4350_5531;

crate::words! {
    enum Work { Integer = "integer", Sha256 = "sha256" }
}

crate::settings! {
    struct Options {
        /// Arithmetic in registers, or SHA-256, with the processor's instructions for it where it has them
        work: Work = "integer",
    }
}

/// The workload.
#[derive(Debug)]
pub struct Cpu;

impl Workload for Cpu {
    fn name(&self) -> &'static str {
        "control/cpu"
    }

    fn about(&self) -> &'static str {
        "Does 1000 rounds of integer arithmetic, or hashes 4 KiB with SHA-256: the processor alone"
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn resource(&self) -> Resource {
        Resource::Processor
    }

    fn batchable(&self) -> bool {
        true
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        Ok(match Options::read(&place.settings).work {
            Work::Sha256 => {
                let mut block = [0; BLOCK];
                content::fill(&mut content::generator(place.seed, STREAM, 0), &mut block);
                Box::new(Hashing { seed: place.seed, block, last: None })
            }
            Work::Integer => Box::new(Counting { seed: place.seed, last: None }),
        })
    }
}

struct Counting {
    seed: u64,
    /// Number and result of the last operation.
    last: Option<(u64, u64)>,
}

#[inline]
fn rounds(start: u64) -> u64 {
    (0..ROUNDS).fold(start, |state, round| mix(state ^ round))
}

impl Prepared for Counting {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        let (mut operation, mut result) = (0, 0);
        watch.start();
        while watch.running() {
            result = black_box(rounds(black_box(self.seed ^ operation)));
            operation += 1;
            watch.lap(0);
        }
        self.last = operation.checked_sub(1).map(|last| (last, result));
        Ok(())
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        if let Some((operation, found)) = self.last {
            let wanted = rounds(self.seed ^ operation);
            anyhow::ensure!(found == wanted, "operation {operation} gave {found:x} at first and {wanted:x} later");
        }
        let mut digest = Digest::new("control/cpu", self.seed);
        for operation in 0..CHECKED {
            digest.add(&rounds(self.seed ^ operation).to_le_bytes());
        }
        Ok(Check { value: digest.value(), detail: format!("{CHECKED} results as they must be") })
    }
}

struct Hashing {
    seed: u64,
    block: [u8; BLOCK],
    last: Option<(u64, [u8; 32])>,
}

impl Hashing {
    /// The block with the operation's number at its start.
    #[inline]
    fn hash(&mut self, operation: u64) -> [u8; 32] {
        self.block[..8].copy_from_slice(&operation.to_le_bytes());
        Sha256::digest(self.block).into()
    }
}

impl Prepared for Hashing {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        let (mut operation, mut result) = (0, [0; 32]);
        watch.start();
        while watch.running() {
            result = black_box(self.hash(operation));
            operation += 1;
            watch.lap(BLOCK as u64);
        }
        self.last = operation.checked_sub(1).map(|last| (last, result));
        Ok(())
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        if let Some((operation, found)) = self.last {
            let wanted = self.hash(operation);
            anyhow::ensure!(found == wanted, "the hash of block {operation} was another one at first");
        }
        let mut digest = Digest::new("control/cpu", self.seed);
        for operation in 0..CHECKED {
            digest.add(&self.hash(operation));
        }
        Ok(Check { value: digest.value(), detail: format!("{CHECKED} hashes as they must be") })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        BTreeMap::from([("sha_instructions".into(), sha_instructions().into())])
    }
}

/// Whether the processor, as seen inside, hashes by instructions of its own. A hypervisor may hide them.
fn sha_instructions() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    return if std::arch::is_x86_feature_detected!("sha") { "true" } else { "false" };
    #[cfg(target_arch = "aarch64")]
    return if std::arch::is_aarch64_feature_detected!("sha2") { "true" } else { "false" };
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    "unknown"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_what_it_always_was() {
        // By an independent implementation of SplitMix64's finalizer.
        assert_eq!(rounds(1), PINNED);
        // The hash of 4096 zeros: `head -c 4096 /dev/zero | sha256sum`.
        let mut hashing = Hashing { seed: 0, block: [0; BLOCK], last: None };
        assert_eq!(content::hex(&hashing.hash(0)), "ad7facb2586fc6e966c004d7d1d16b024f5805ff7cb47c7a85dabd8b48892ca7");
    }

    const PINNED: u64 = 0xe023_c185_d8a8_a629;
}
