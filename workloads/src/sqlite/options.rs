//! The settings that several workloads of this family share.

use crate::settings::{Bytes, Setting, Value as _};

crate::words! {
    /// SQLite's journal_mode.
    pub(super) enum Journal {
        /// A rollback journal, deleted at each commit.
        Delete = "delete",
        /// The same, shortened to nothing.
        Truncate = "truncate",
        /// The same, its head overwritten.
        Persist = "persist",
        /// A write-ahead log.
        Wal = "wal",
        /// A rollback journal in memory.
        Memory = "memory",
        /// None.
        Off = "off",
    }
}

crate::words! {
    /// SQLite's synchronous.
    pub(super) enum Synchronous {
        /// Nothing is flushed.
        Off = "off",
        /// As much is flushed as keeps the database whole.
        Normal = "normal",
        /// And every commit.
        Full = "full",
        /// And the directory of a journal that was deleted.
        Extra = "extra",
    }
}

impl Synchronous {
    /// As the PRAGMA gives it back.
    pub(super) fn number(self) -> &'static str {
        match self {
            Self::Off => "0",
            Self::Normal => "1",
            Self::Full => "2",
            Self::Extra => "3",
        }
    }
}

/// The setting `journal` of workloads that write.
pub(super) const JOURNAL: Setting = Setting::new("journal", Journal::KIND)
    .with_default("wal")
    .with_about("SQLite's journal_mode; with memory and off a crash can corrupt the database");

/// The modes that lose nothing.
pub(super) const SAFE_JOURNALS: &[&str] = &["wal", "delete", "truncate", "persist"];

/// The setting `journal` of workloads that mostly read.
pub(super) const SAFE_JOURNAL: Setting = JOURNAL
    .with_words(SAFE_JOURNALS)
    .with_about("SQLite's journal_mode; with all but wal every read also looks for a journal that was left behind");

/// The setting `synchronous`.
pub(super) const SYNCHRONOUS: Setting = Setting::new("synchronous", Synchronous::KIND)
    .with_default("full")
    .with_about("SQLite's synchronous; with off and normal a commit is not promised to survive a loss of power");

/// The setting `cache_size`.
pub(super) const CACHE_SIZE: Setting = Setting::new("cache_size", Bytes::KIND)
    .with_bounds(16 << 10..=1 << 40)
    .with_default("2000KiB")
    .with_about("Size of SQLite's own cache, bytes, a multiple of 1 KiB");

/// Whether a commit promises that its data survives a loss of power.
///
/// With memory or off as the journal, the data is flushed, but the next transaction that is interrupted may take all of it along. With normal a
/// WAL commit isn't flushed at all, and one with a rollback journal not against every loss of power.
pub(super) fn durable(journal: Journal, synchronous: Synchronous) -> bool {
    matches!(synchronous, Synchronous::Full | Synchronous::Extra) && !matches!(journal, Journal::Memory | Journal::Off)
}
