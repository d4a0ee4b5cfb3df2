//! `disk/rand*` and `disk/seq*`: an operation reads or writes one block of a file, past the page cache, without a flush.
//!
//! At random it is any block; in sequence the one behind the last, and behind the end of the file comes its beginning. `disk/seqwrite`
//! can take the whole file for one operation, with a flush at its end: `whole`.

use super::transfer::{self, Engine, Extent, Manner, Pattern, Transfer};
use super::whole::Whole;
use crate::settings::{self, Setting, SettingError, Settings};
use crate::workload::{Needs, Place, Prepared, Resource, Workload};

/// A workload that moves blocks of a file.
#[derive(Debug)]
pub struct Access {
    about: &'static str,
    pattern: Pattern,
    /// [`Options::TABLE`], or one that [`Options`] can be read of.
    settings: &'static [Setting],
}

/// `disk/randread`.
pub static RAND_READ: Access = Access {
    about: "Reads 4 KiB at a random place of a file, past the page cache",
    pattern: Pattern { name: "disk/randread", stream: 0x5244, sequential: false, reads: 100 },
    settings: Options::TABLE,
};

/// `disk/randwrite`.
pub static RAND_WRITE: Access = Access {
    about: "Writes 4 KiB at a random place of a file, past the page cache, without waiting for a flush",
    pattern: Pattern { name: "disk/randwrite", stream: 0x5752, sequential: false, reads: 0 },
    settings: Options::TABLE,
};

/// `disk/randrw`.
pub static RAND_RW: Access = Access {
    about: "Reads (70 %) or writes 4 KiB at a random place of a file, past the page cache, without waiting for a flush",
    pattern: Pattern { name: "disk/randrw", stream: 0x5256, sequential: false, reads: 70 },
    settings: Shared::TABLE,
};

/// `disk/seqread`.
pub static SEQ_READ: Access = Access {
    about: "Reads a file from one end to the other and again, 128 KiB at a time, past the page cache",
    pattern: Pattern { name: "disk/seqread", stream: 0x5351, sequential: true, reads: 100 },
    settings: SEQUENTIAL,
};

/// `disk/seqwrite`.
pub static SEQ_WRITE: Access = Access {
    about: "Writes a file over from one end to the other and again, 128 KiB at a time, past the page cache",
    pattern: Pattern { name: "disk/seqwrite", stream: 0x5357, sequential: true, reads: 0 },
    settings: SEQUENTIAL_WRITE,
};

crate::settings! {
    /// For operations that all read, or all write.
    struct Options {
        extent: Extent,
        manner: Manner,
    }
}

crate::words! {
    /// When written blocks are flushed.
    enum Sync {
        /// Never within an operation.
        None = "none",
        /// Once, behind the whole file, which is one operation.
        End = "end",
    }
}

crate::settings! {
    /// For blocks that are written in sequence.
    struct Writing {
        options: Options,
        /// An operation writes a block and doesn't wait; or (end) it writes the whole file through the page cache and flushes it
        /// once, which takes direct=false
        sync: Sync = "none",
    }
}

crate::settings! {
    /// For operations of both kinds.
    struct Shared {
        extent: Extent,
        /// Operations in a hundred that read; the others write
        reads: u64 = 70 in 1..=99,
        manner: Manner,
    }
}

/// In sequence blocks are larger.
const SEQUENTIAL: &[Setting] = &settings::with_default::<{ Options::TABLE.len() }>(Options::TABLE, "block", "128KiB");

/// The same with [`Sync`].
const SEQUENTIAL_WRITE: &[Setting] =
    &settings::with_default::<{ Writing::TABLE.len() }>(Writing::TABLE, "block", "128KiB");

impl Access {
    /// Whether the file is one operation, with a flush at its end.
    fn syncs_at_end(&self, settings: &Settings) -> bool {
        self.pattern.sequential && self.pattern.reads == 0 && Writing::read(settings).sync == Sync::End
    }

    /// Pattern and options by the settings.
    fn read(&self, settings: &Settings) -> (Pattern, Options) {
        match self.pattern.reads {
            0 | 100 => (self.pattern, Options::read(settings)),
            _ => {
                let Shared { extent, reads, manner } = Shared::read(settings);
                (Pattern { reads, ..self.pattern }, Options { extent, manner })
            }
        }
    }
}

impl Workload for Access {
    fn name(&self) -> &'static str {
        self.pattern.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn settings(&self) -> &'static [Setting] {
        self.settings
    }

    fn check(&self, settings: &Settings) -> Result<(), SettingError> {
        let manner = Manner::read(settings);
        manner.check()?;
        if self.syncs_at_end(settings) {
            let conflict = |words: &str| Err(SettingError::Conflict(words.into()));
            if manner.direct {
                return conflict("sync=end writes through the page cache and flushes it: set direct=false too");
            }
            if manner.engine != Engine::Psync {
                return conflict("sync=end writes one block after the other: set engine=psync and depth=1");
            }
        }
        Ok(())
    }

    fn resource(&self) -> Resource {
        Resource::Disk
    }

    fn durable(&self, settings: &Settings) -> bool {
        self.syncs_at_end(settings)
    }

    fn direct(&self, settings: &Settings) -> bool {
        Manner::read(settings).direct
    }

    fn streams(&self) -> bool {
        self.pattern.sequential
    }

    fn needs(&self, settings: &Settings, memory: u64) -> Needs {
        let (pattern, Options { extent, manner }) = self.read(settings);
        transfer::needs(pattern, &extent, &manner, memory)
    }

    fn in_flight(&self, settings: &Settings) -> u32 {
        Manner::read(settings).depth
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let (pattern, Options { extent, manner }) = self.read(&place.settings);
        if self.syncs_at_end(&place.settings) {
            return Ok(Box::new(Whole::prepare(pattern, &extent, place)?));
        }
        Ok(Box::new(Transfer::prepare(pattern, &extent, &manner, place)?))
    }
}
