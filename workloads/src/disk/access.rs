//! `disk/rand*` and `disk/seq*`: an operation reads or writes one block of a file, past the page cache, without a flush.
//!
//! At random it is any block; in sequence the one behind the last, and behind the end of the file comes its beginning.

use super::transfer::{self, Extent, Manner, Pattern, Transfer};
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
    settings: SEQUENTIAL,
};

crate::settings! {
    /// For operations that all read, or all write.
    struct Options {
        extent: Extent,
        manner: Manner,
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

impl Access {
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
        Manner::read(settings).check()
    }

    fn resource(&self) -> Resource {
        Resource::Disk
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
        Ok(Box::new(Transfer::prepare(pattern, &extent, &manner, place)?))
    }
}
