//! The two macros that declare settings.

use super::setting::{Setting, equal};

/// Declares an enum with the words that a suite writes for its values.
///
/// Beside the enum there are its `WORDS`, `word` and `Display`, and it can be the type of a field of [`crate::settings!`].
///
/// ```
/// workloads::words! {
///     /// When SQLite flushes.
///     pub enum Synchronous {
///         /// Never.
///         Off = "off",
///         /// At every commit.
///         Full = "full",
///     }
/// }
///
/// assert_eq!(Synchronous::WORDS, ["off", "full"]);
/// assert_eq!(Synchronous::Full.to_string(), "full");
/// ```
#[macro_export]
macro_rules! words {
    ($(#[$about:meta])* $vis:vis enum $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis enum $name { $($(#[$doc])* $variant),+ }

        impl $name {
            /// As a suite writes them.
            $vis const WORDS: &'static [&'static str] = &[$($word),+];

            /// As a suite writes it.
            $vis const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl $crate::settings::Value for $name {
            const KIND: $crate::settings::Kind = $crate::settings::Kind::Choice(Self::WORDS);

            fn parse(text: &str) -> Self {
                match text {
                    $($word => Self::$variant,)+
                    other => unreachable!("`{other}` is none of {:?}, and resolving had to refuse it", Self::WORDS),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.word())
            }
        }
    };
}

/// Declares settings: a struct, its `TABLE` of [`crate::settings::Setting`]s and `read`, which makes the struct of resolved
/// [`crate::settings::Settings`].
///
/// A field is one of
///
/// * `/// about` `name: Type = default`, with the default as a suite writes it. The doc comment, its lines joined, is the
///   sentence that `tarebench list` shows. Behind the default may stand `of ["word", ..]` (some words of an enum; what a command
///   may name in braces) or `in min..=max` (bounds of a number, of bytes, of nanoseconds). `name ("key"): ..` gives the setting
///   another name than the field, as in `disk.cache` and `open-files`.
/// * `name: Type as SHARED`, where `SHARED` is a [`crate::settings::Setting`] that several declarations have in common. A doc
///   comment and `= default ..` change it for this one.
/// * `name: Group`, where `Group` is declared by this macro too: all of its settings at this place.
///
/// Types are `u64` and `u32` (numbers), [`crate::settings::Bytes`], [`crate::settings::Amount`], [`std::time::Duration`], `bool`,
/// [`crate::settings::CommandLine`], `Option<PathBuf>`, `Option<String>` (a word of a command line), `Option<IpAddr>`, and every
/// enum of [`crate::words!`]. A default or a subset with a word that the enum lacks, a shared setting of another type and a name
/// that stands twice don't compile.
///
/// ```
/// use workloads::settings::{Bytes, SettingError, Settings, Setting, Value as _};
///
/// workloads::words! {
///     /// How the peer is reached.
///     #[derive(Hash)]
///     pub enum Network { Veth = "veth", Host = "host", None = "none" }
/// }
///
/// const NETWORK: Setting = Setting::new("network", Network::KIND).with_default("veth").with_about("Path to the peer");
///
/// workloads::settings! {
///     /// The data disk.
///     pub struct Disk {
///         /// Size of the data disk
///         size ("disk.size"): Bytes = "512MiB" in 32 << 20..=1 << 40,
///     }
/// }
///
/// workloads::settings! {
///     /// The settings of a runner.
///     pub struct Options {
///         network: Network as NETWORK = "veth" of ["veth", "none"],
///         /// Files that may be open at a time;
///         /// 0 is the harness's own limit
///         open_files ("open-files"): u64 = 0 in 0..=1 << 20,
///         disk: Disk,
///     }
/// }
///
/// // Settings that exclude each other: `Runner::check` and `Workload::check` ask here, before anything is started.
/// impl Options {
///     fn check(&self) -> Result<(), SettingError> {
///         match self.network {
///             Network::None if self.open_files == 1 => {
///                 Err(SettingError::Conflict("open-files=1 leaves none for network=none; set more".into()))
///             }
///             _ => Ok(()),
///         }
///     }
/// }
///
/// let options = Options::read(&Settings::of(Options::TABLE, &[("open-files", "64"), ("disk.size", "1GiB")]));
/// assert_eq!((options.network, options.open_files, options.disk.size), (Network::Veth, 64, Bytes(1 << 30)));
/// assert_eq!(Options::TABLE[1].about, "Files that may be open at a time; 0 is the harness's own limit");
/// assert_eq!(Options::TABLE[0].values(), ["veth", "none"]);
/// assert!(options.check().is_ok());
/// ```
///
/// A name that stands twice:
///
/// ```compile_fail
/// workloads::settings! {
///     struct Twice {
///         /// One
///         size: u64 = 1,
///         /// Another
///         other ("size"): u64 = 1,
///     }
/// }
/// println!("{:?}", Twice::TABLE);
/// ```
///
/// A default that is none of the words:
///
/// ```compile_fail
/// workloads::words! { enum Cache { Warm = "warm", Cold = "cold" } }
/// workloads::settings! {
///     struct Options {
///         /// What a burst finds in memory
///         cache: Cache = "hot",
///     }
/// }
/// println!("{:?}", Options::TABLE);
/// ```
#[macro_export]
macro_rules! settings {
    // One setting: a new one or a shared one, then what is said about it.
    (@setting ($field:ident) $type:ty, () ($($said:tt)*) $about:expr) => {
        $crate::settings!(@said $crate::settings::Setting::new(stringify!($field), <$type as $crate::settings::Value>::KIND),
            ($($said)*) $about)
    };
    (@setting ($field:ident $key:literal) $type:ty, () ($($said:tt)*) $about:expr) => {
        $crate::settings!(@said $crate::settings::Setting::new($key, <$type as $crate::settings::Value>::KIND),
            ($($said)*) $about)
    };
    (@setting ($field:ident) $type:ty, ($shared:path) ($($said:tt)*) $about:expr) => {
        $crate::settings!(@said $shared.read_as(<$type as $crate::settings::Value>::KIND), ($($said)*) $about)
    };
    (@setting ($field:ident $key:literal) $type:ty, ($shared:path) ($($said:tt)*) $about:expr) => {
        $crate::settings!(@said $shared.with_name($key).read_as(<$type as $crate::settings::Value>::KIND), ($($said)*) $about)
    };
    (@said $setting:expr, ($($default:literal $(of [$($word:literal),+])? $(in $bounds:expr)?)?) $about:expr) => {
        $setting
            .with_about($about)
            $($(.with_words(&[$($word),+]))? $(.with_bounds($bounds))? .with_default(concat!($default)))?
    };

    // A field in the table, and as it is read: a group has neither a shared setting nor a default.
    (@table ($field:ident) $type:ty, () () $about:expr) => { <$type>::TABLE };
    (@table $($one:tt)+) => { &[$crate::settings!(@setting $($one)+)] };
    (@read $settings:ident ($field:ident) $type:ty, () () $about:expr) => { <$type>::read($settings) };
    (@read $settings:ident $($one:tt)+) => { $settings.read(const { &$crate::settings!(@setting $($one)+) }) };

    ($(#[$meta:meta])* $vis:vis struct $name:ident { $(
        $(#[doc = $doc:literal])*
        $field:ident $(($key:literal))? : $type:ty
            $(as $shared:path)? $(= $default:literal $(of [$($word:literal),+ $(,)?])? $(in $bounds:expr)?)?
    ),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        $vis struct $name { $(
            $(#[doc = $doc])*
            $(#[doc = concat!("\n\nAs in `", stringify!($shared), "`.")])?
            $vis $field: $type
        ),* }

        impl $name {
            /// The settings, in the order in which they are declared.
            $vis const TABLE: &'static [$crate::settings::Setting] = {
                const PARTS: &[&[$crate::settings::Setting]] = &[$($crate::settings!(@table
                    ($field $($key)?) $type, ($($shared)?) ($($default $(of [$($word),+])? $(in $bounds)?)?) concat!($($doc),*)
                )),*];
                &$crate::settings::joined::<{ $crate::settings::count(PARTS) }>(PARTS)
            };

            /// The values of settings that were resolved against a table which has all of [`Self::TABLE`].
            $vis fn read(settings: &$crate::settings::Settings) -> Self {
                Self { $($field: $crate::settings!(@read settings
                    ($field $($key)?) $type, ($($shared)?) ($($default $(of [$($word),+])? $(in $bounds)?)?) concat!($($doc),*)
                )),* }
            }
        }
    };
}

/// Settings in all parts of a declaration.
pub const fn count(parts: &[&[Setting]]) -> usize {
    let (mut total, mut i) = (0, 0);
    while i < parts.len() {
        total += parts[i].len();
        i += 1;
    }
    total
}

/// The parts of a declaration as one table.
///
/// # Panics
/// When compiling a declaration in which a name stands twice.
pub const fn joined<const N: usize>(parts: &[&[Setting]]) -> [Setting; N] {
    let mut all = [Setting::new("", super::setting::Kind::Switch); N];
    let (mut part, mut done) = (0, 0);
    while part < parts.len() {
        let mut i = 0;
        while i < parts[part].len() {
            let mut before = 0;
            while before < done {
                assert!(!equal(all[before].name, parts[part][i].name), "two settings have the same name");
                before += 1;
            }
            all[done] = parts[part][i];
            done += 1;
            i += 1;
        }
        part += 1;
    }
    all
}

/// A table in which one setting has another default.
///
/// # Panics
/// When compiling, where the table has no setting of this name.
pub const fn with_default<const N: usize>(table: &[Setting], name: &str, default: &'static str) -> [Setting; N] {
    let mut all = joined::<N>(&[table]);
    let mut i = 0;
    while !equal(all[i].name, name) {
        i += 1;
    }
    all[i] = all[i].with_default(default);
    all
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::path::PathBuf;
    use std::time::Duration;

    use crate::settings::{Amount, Bytes, CommandLine, Kind, Setting, Settings, Value as _};

    crate::words! {
        /// A journal.
        enum Journal {
            /// A log.
            Wal = "wal",
            /// A file that is deleted.
            Delete = "delete",
            /// None.
            Off = "off",
        }
    }

    const JOURNAL: Setting = Setting::new("journal", Journal::KIND).with_default("wal").with_about("A journal");

    crate::settings! {
        /// Two in a table of a suite.
        struct Disk {
            /// Bytes of the disk
            size ("disk.size"): Bytes = "1MiB" in 4096..=1 << 30,
            /// Whether a thread serves it
            thread ("disk.io-thread"): bool = false,
        }
    }

    crate::settings! {
        /// One of each.
        struct All {
            /// Some rows,
            /// no more
            rows: u64 = 1_0 in 1..=100,
            jobs: u32 = 1 in 1..=64,
            journal: Journal as JOURNAL,
            /// A safe journal
            safe ("safe-journal"): Journal as JOURNAL = "delete" of ["delete", "wal"],
            disk: Disk,
            size: Amount = "0.5x" in 4096..=1 << 40,
            pause: Duration = "2ms" in 0..=1_000_000_000,
            enter: CommandLine = "" of ["run", "id"],
            kernel: Option<PathBuf> = "",
            host: Option<String> = "",
            peer: Option<IpAddr> = "",
        }
    }

    #[test]
    fn a_declaration_is_a_table() {
        let names: Vec<_> = All::TABLE.iter().map(|s| s.name).collect();
        let first =
            ["rows", "jobs", "journal", "safe-journal", "disk.size", "disk.io-thread", "size", "pause", "enter"];
        assert_eq!(names, [&first[..], &["kernel", "host", "peer"]].concat());
        let of = |name: &str| *All::TABLE.iter().find(|s| s.name == name).expect("declared");
        assert_eq!((of("rows").about, of("rows").default), ("Some rows, no more", "10"));
        assert_eq!(
            (of("rows").kind, of("jobs").kind),
            (Kind::Number { min: 1, max: 100 }, Kind::Number { min: 1, max: 64 })
        );
        assert_eq!(
            (of("journal").about, of("journal").values()),
            ("A journal", vec!["wal".into(), "delete".into(), "off".into()])
        );
        let safe = of("safe-journal");
        assert_eq!(
            (safe.about, safe.default, safe.kind),
            ("A safe journal", "delete", Kind::Choice(&["delete", "wal"]))
        );
        const LARGER: &[Setting] =
            &crate::settings::with_default::<{ Disk::TABLE.len() }>(Disk::TABLE, "disk.size", "2MiB");
        assert_eq!(LARGER.iter().map(|s| s.default).collect::<Vec<_>>(), ["2MiB", "false"]);
        assert_eq!((of("disk.io-thread").default, of("enter").kind), ("false", Kind::Command(&["run", "id"])));
    }

    #[test]
    fn defaults_are_read_as_what_they_mean() {
        let read = All::read(&Settings::of(All::TABLE, &[]));
        let defaults = All {
            rows: 10,
            jobs: 1,
            journal: Journal::Wal,
            safe: Journal::Delete,
            disk: Disk { size: Bytes(1 << 20), thread: false },
            size: Amount::Times(0.5),
            pause: Duration::from_millis(2),
            enter: CommandLine::default(),
            kernel: None,
            host: None,
            peer: None,
        };
        assert_eq!(read, defaults);
        assert_eq!(read.size.of(1 << 20), 1 << 19);
    }

    #[test]
    fn what_is_set_is_read() {
        let given = [
            ("journal", "off"),
            ("disk.io-thread", "true"),
            ("size", "8KiB"),
            ("enter", "enter 'a b' {run}"),
            ("kernel", "/boot/k"),
            ("host", "me@there"),
            ("peer", "2001:2:0::1"),
        ];
        let read = All::read(&Settings::of(All::TABLE, &given));
        assert_eq!((read.journal, read.disk.thread, read.size), (Journal::Off, true, Amount::Bytes(8192)));
        assert!(read.enter.mentions("run") && !read.enter.mentions("id") && !read.enter.is_empty());
        assert_eq!(read.enter.filled(&[("run", &["x".into(), "y".into()])]), ["enter", "a b", "x", "y"]);
        assert_eq!((read.kernel, read.host.as_deref()), (Some("/boot/k".into()), Some("me@there")));
        assert_eq!(read.peer, Some("2001:2::1".parse().expect("an address")));
    }

    #[test]
    fn a_subset_takes_no_other_word_and_bounds_hold() {
        let refused = |name: &str, value: &str| {
            let given = [(name.to_string(), value.to_string())].into();
            Settings::resolve(All::TABLE, &given).expect_err("refused").to_string()
        };
        assert_eq!(refused("safe-journal", "off"), "`safe-journal` can't be `off`: one of delete, wal");
        assert_eq!(refused("rows", "101"), "`rows` can't be `101`: a whole number from 1 to 100");
        assert!(refused("enter", "{line}").contains("there are {run}, {id}"));
    }
}
