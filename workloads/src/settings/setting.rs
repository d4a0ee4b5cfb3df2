//! One setting: what values it takes, and its text in canonical notation.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::error::SettingError;

/// Values that a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number within these bounds, both included.
    Number {
        /// Smallest allowed.
        min: u64,
        /// Largest allowed.
        max: u64,
    },
    /// A number of bytes, written `4096`, `4KiB` or `16MiB`, within these bounds.
    Bytes {
        /// Smallest allowed, bytes.
        min: u64,
        /// Largest allowed, bytes.
        max: u64,
    },
    /// A size: bytes as for [`Kind::Bytes`], or a multiple of the environment's memory, written `0.25x` or `2x`.
    Amount {
        /// Smallest allowed where it is written in bytes.
        min: u64,
        /// Largest allowed where it is written in bytes.
        max: u64,
    },
    /// A time, written `500us`, `100ms` or `2s`, within these bounds of nanoseconds.
    Duration {
        /// Shortest allowed, nanoseconds.
        min: u64,
        /// Longest allowed, nanoseconds.
        max: u64,
    },
    /// `true` or `false`.
    Switch,
    /// A path on the host, or empty for the runner's own choice.
    Path,
    /// The full path of a program of the host, which must be there, or empty for the runner's own choice.
    Program,
    /// The full path of a file of the host, which must be there, or empty for the runner's own choice.
    File,
    /// The full path of a file or a folder of the host, which must be there, or empty for none.
    Tree,
    /// A command, split into words by the quoting rules of a POSIX shell but never given to one, in which these names in
    /// braces stand for something: `docker exec -i box {run}`. Without names braces are the command's own. Empty for none.
    Command(&'static [&'static str]),
    /// A name or an address that goes into a command line: letters, digits and `._:%@/-`, not beginning with `-`. Empty for
    /// none.
    Word,
    /// An IPv4 or IPv6 address, or empty for none.
    Address,
}

/// One setting: its name, type, default and meaning.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// As in a suite file; `disk.cache` for a key in a table.
    pub name: &'static str,
    /// The values it takes.
    pub kind: Kind,
    /// In the notation of a suite file.
    pub default: &'static str,
    /// One sentence, with the unit.
    pub about: &'static str,
}

/// Smallest and largest multiple of the environment's memory.
const MULTIPLES: (f64, f64) = (0.001, 1000.0);

fn bytes(text: &str, min: u64, max: u64) -> Option<String> {
    let size = text.parse::<bytesize::ByteSize>().ok()?.as_u64();
    (min..=max).contains(&size).then(|| size.to_string())
}

fn amount(text: &str, min: u64, max: u64) -> Option<String> {
    let Some(times) = text.strip_suffix('x') else { return bytes(text, min, max) };
    let times: f64 = times.parse().ok()?;
    (MULTIPLES.0..=MULTIPLES.1).contains(&times).then(|| format!("{times}x"))
}

/// The fault of a command, where it has one. Braces around anything but a small word are the command's own.
fn command_problem(text: &str, names: &[&str]) -> Option<String> {
    let words = match shell_words::split(text) {
        Ok(words) => words,
        Err(e) => return Some(format!("a command whose quotes are closed ({e})")),
    };
    if names.is_empty() {
        return None;
    }
    let in_braces = words.iter().flat_map(|w| w.split('{').skip(1)).filter_map(|t| t.split_once('}')).map(|(t, _)| t);
    let unknown = in_braces
        .into_iter()
        .find(|t| t.chars().all(|c| c.is_ascii_lowercase()) && !t.is_empty() && !names.contains(t));
    let known: Vec<String> = names.iter().map(|n| format!("{{{n}}}")).collect();
    unknown.map(|t| format!("{{{t}}} stands for nothing; there are {}", known.join(", ")))
}

fn is_word(text: &str) -> bool {
    !text.starts_with('-') && text.chars().all(|c| c.is_ascii_alphanumeric() || "._:%@/-".contains(c))
}

fn span(min: u64, max: u64) -> String {
    format!("a size from {} to {}", bytesize::ByteSize(min), bytesize::ByteSize(max))
}

/// How a setting is declared: each of these fails to compile where a declaration contradicts itself.
impl Setting {
    /// A setting of this name that takes these values.
    pub const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, default: "", about: "" }
    }

    /// The same, once it is certain that code which expects a value of this kind can read it.
    #[must_use]
    pub const fn read_as(self, kind: Kind) -> Self {
        match (self.kind, kind) {
            (Kind::Choice(words), Kind::Choice(known)) => {
                assert!(all_among(words, known), "a word that the type lacks")
            }
            (Kind::Number { max, .. }, Kind::Number { max: held, .. }) => {
                assert!(max <= held, "more than the type holds")
            }
            (Kind::Bytes { .. }, Kind::Bytes { .. })
            | (Kind::Amount { .. }, Kind::Amount { .. })
            | (Kind::Duration { .. }, Kind::Duration { .. })
            | (Kind::Switch, Kind::Switch)
            | (Kind::Path | Kind::Program | Kind::File | Kind::Tree, Kind::Path)
            | (Kind::Command(_), Kind::Command(_))
            | (Kind::Word, Kind::Word)
            | (Kind::Address, Kind::Address) => {}
            _ => panic!("the type of a field is another than that of its setting"),
        }
        self
    }

    /// With another name.
    #[must_use]
    pub const fn with_name(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// With another default, in the notation of a suite file.
    #[must_use]
    pub const fn with_default(self, default: &'static str) -> Self {
        if let Kind::Choice(words) = self.kind {
            assert!(all_among(&[default], words), "the default is none of the words");
        }
        Self { default, ..self }
    }

    /// With a description, unless it is empty.
    #[must_use]
    pub const fn with_about(self, about: &'static str) -> Self {
        let about = about.trim_ascii_start();
        if about.is_empty() { self } else { Self { about, ..self } }
    }

    /// With these words alone: of a choice, or what a command may name.
    #[must_use]
    pub const fn with_words(self, words: &'static [&'static str]) -> Self {
        let kind = match self.kind {
            Kind::Choice(known) => {
                assert!(all_among(words, known), "a word that the type lacks");
                Kind::Choice(words)
            }
            Kind::Command(_) => Kind::Command(words),
            _ => panic!("only a choice and a command have words"),
        };
        Self { kind, ..self }
    }

    /// With these bounds: of a number, of bytes (for an amount too), or of nanoseconds.
    #[must_use]
    pub const fn with_bounds(self, bounds: RangeInclusive<u64>) -> Self {
        let (min, max) = (*bounds.start(), *bounds.end());
        let kind = match self.kind {
            Kind::Number { max: held, .. } => {
                assert!(max <= held, "more than the type holds");
                Kind::Number { min, max }
            }
            Kind::Bytes { .. } => Kind::Bytes { min, max },
            Kind::Amount { .. } => Kind::Amount { min, max },
            Kind::Duration { .. } => Kind::Duration { min, max },
            _ => panic!("only what is counted has bounds"),
        };
        Self { kind, ..self }
    }
}

const fn all_among(words: &[&str], known: &[&str]) -> bool {
    let mut i = 0;
    while i < words.len() {
        let mut k = 0;
        while k < known.len() && !equal(words[i], known[k]) {
            k += 1;
        }
        if k == known.len() {
            return false;
        }
        i += 1;
    }
    true
}

/// `==`, which is no constant function for text yet.
pub(super) const fn equal(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut i = 0;
    while i < one.len() && i < other.len() && one[i] == other[i] {
        i += 1;
    }
    i == one.len() && i == other.len()
}

/// Times as they are written, of those that are allowed.
fn examples(min: u64, max: u64) -> String {
    let all = [("500us", 500_000), ("100ms", 100_000_000), ("2s", 2_000_000_000)];
    let fit: Vec<&str> = all.iter().filter(|(_, ns)| (min..=max).contains(ns)).map(|(text, _)| *text).collect();
    match fit.split_last() {
        None => String::new(),
        Some((only, [])) => format!(", as in {only}"),
        Some((last, before)) => format!(", as in {} or {last}", before.join(", ")),
    }
}

impl Setting {
    pub(super) fn canonical(&self, text: &str) -> Result<String, SettingError> {
        let wrong = |expected: String| SettingError::Value { name: self.name, value: text.to_string(), expected };
        match self.kind {
            Kind::Choice(words) if words.contains(&text) => Ok(text.to_string()),
            Kind::Choice(words) => Err(wrong(format!("one of {}", words.join(", ")))),
            Kind::Number { min, max } => match text.parse::<u64>() {
                Ok(n) if (min..=max).contains(&n) => Ok(n.to_string()),
                _ => Err(wrong(format!("a whole number from {min} to {max}"))),
            },
            Kind::Bytes { min, max } => {
                bytes(text, min, max).ok_or_else(|| wrong(format!("{}, as in 4096, 4KiB or 16MiB", span(min, max))))
            }
            Kind::Amount { min, max } => amount(text, min, max).ok_or_else(|| {
                wrong(format!(
                    "{}, as in 16MiB, or from {}x to {}x of the environment's memory, as in 0.25x or 2x",
                    span(min, max),
                    MULTIPLES.0,
                    MULTIPLES.1
                ))
            }),
            Kind::Duration { min, max } => match humantime::parse_duration(text) {
                Ok(time) if (min..=max).contains(&(time.as_nanos() as u64)) => {
                    Ok(humantime::format_duration(time).to_string().replace(' ', ""))
                }
                _ => Err(wrong(format!(
                    "a time from {} to {}{}",
                    humantime::format_duration(Duration::from_nanos(min)),
                    humantime::format_duration(Duration::from_nanos(max)),
                    examples(min, max)
                ))),
            },
            Kind::Switch if matches!(text, "true" | "false") => Ok(text.to_string()),
            Kind::Switch => Err(wrong("true or false".into())),
            Kind::Path => Ok(text.to_string()),
            Kind::Program | Kind::File | Kind::Tree if text.is_empty() || text.starts_with('/') => Ok(text.to_string()),
            Kind::Program => Err(wrong("the full path of a program, as in /usr/local/bin/engine, or nothing".into())),
            Kind::File => Err(wrong("the full path of a file, as in /boot/vmlinuz, or nothing".into())),
            Kind::Tree => Err(wrong("the full path of a file or a folder, as in /home/me/tool, or nothing".into())),
            Kind::Command(names) => match command_problem(text, names) {
                None => Ok(text.to_string()),
                Some(problem) => Err(wrong(problem)),
            },
            Kind::Word if is_word(text) => Ok(text.to_string()),
            Kind::Word => Err(wrong("letters, digits and ._:%@/-, not beginning with -".into())),
            Kind::Address if text.is_empty() => Ok(String::new()),
            Kind::Address => match text.parse::<std::net::IpAddr>() {
                Ok(address) => Ok(address.to_string()),
                Err(_) => Err(wrong("an IPv4 or IPv6 address, or nothing".into())),
            },
        }
    }

    /// `choice`, `number`, `bytes`, `amount`, `duration`, `switch`, `path`, `command`, `word` or `address`, for `list --json`.
    pub fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Choice(_) => "choice",
            Kind::Number { .. } => "number",
            Kind::Bytes { .. } => "bytes",
            Kind::Amount { .. } => "amount",
            Kind::Duration { .. } => "duration",
            Kind::Switch => "switch",
            Kind::Path | Kind::Program | Kind::File | Kind::Tree => "path",
            Kind::Command(_) => "command",
            Kind::Word => "word",
            Kind::Address => "address",
        }
    }

    /// The allowed values: the words of a choice, the bounds of a number, what a command may name; empty where anything goes.
    pub fn values(&self) -> Vec<String> {
        match self.kind {
            Kind::Choice(words) => words.iter().map(|w| w.to_string()).collect(),
            Kind::Number { min, max } | Kind::Bytes { min, max } | Kind::Amount { min, max } => {
                vec![min.to_string(), max.to_string()]
            }
            Kind::Duration { min, max } => {
                let text = |ns| humantime::format_duration(Duration::from_nanos(ns)).to_string();
                vec![text(min), text(max)]
            }
            Kind::Switch => vec!["true".into(), "false".into()],
            Kind::Command(names) => names.iter().map(|n| format!("{{{n}}}")).collect(),
            Kind::Path | Kind::Program | Kind::File | Kind::Tree | Kind::Word | Kind::Address => Vec::new(),
        }
    }
}
