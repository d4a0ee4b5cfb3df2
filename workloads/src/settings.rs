//! Typed settings: what a workload or a runner lets its user choose, checked before anything is touched.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What values a setting takes.
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

/// The values of all settings of one workload or runner: complete, valid, in their canonical notation (bytes as plain digits).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Settings(BTreeMap<String, String>);

/// A value that can't be used, with what could be used instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// No setting has this name.
    #[error("unknown setting `{name}`{}", hint(.nearest, .known))]
    Unknown {
        /// What was written.
        name: String,
        /// The closest known name, where one is close.
        nearest: Option<String>,
        /// All known names.
        known: Vec<&'static str>,
    },
    /// The value is of the wrong type or out of bounds.
    #[error("`{name}` can't be `{value}`: {expected}")]
    Value {
        /// The setting.
        name: &'static str,
        /// What was written.
        value: String,
        /// What can be written.
        expected: String,
    },
}

fn hint(nearest: &Option<String>, known: &[&'static str]) -> String {
    match nearest {
        Some(n) => format!("; did you mean `{n}`?"),
        None if known.is_empty() => "; there are none".into(),
        None => format!("; known are {}", known.join(", ")),
    }
}

/// The known name nearest to what was typed, where one is near enough to be meant.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    known
        .into_iter()
        .map(|k| (strsim::jaro_winkler(typed, k), k))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| k.to_string())
}

impl Settings {
    /// Checks `given` against `known` and fills in the defaults.
    ///
    /// # Errors
    /// For an unknown name, a value of the wrong type, or one out of bounds.
    pub fn resolve(known: &[Setting], given: &BTreeMap<String, String>) -> Result<Self, SettingError> {
        for name in given.keys() {
            if !known.iter().any(|s| s.name == name) {
                let names: Vec<_> = known.iter().map(|s| s.name).collect();
                return Err(SettingError::Unknown {
                    name: name.clone(),
                    nearest: nearest(name, names.iter().copied()),
                    known: names,
                });
            }
        }
        let mut values = BTreeMap::new();
        for setting in known {
            let text = given.get(setting.name).map_or(setting.default, String::as_str);
            values.insert(setting.name.to_string(), setting.canonical(text)?);
        }
        Ok(Self(values))
    }

    /// The value of a setting, in canonical notation.
    ///
    /// # Panics
    /// When the setting isn't among those resolved: a mistake in the code that asks.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).unwrap_or_else(|| panic!("setting `{name}` was not declared"))
    }

    /// The value of a [`Kind::Number`] or [`Kind::Bytes`] setting.
    pub fn number(&self, name: &str) -> u64 {
        self.get(name).parse().expect("numbers were checked by resolve")
    }

    /// The value of a [`Kind::Amount`] setting in bytes, where the environment has `memory` bytes.
    pub fn amount(&self, name: &str, memory: u64) -> u64 {
        let text = self.get(name);
        match text.strip_suffix('x') {
            Some(times) => (times.parse::<f64>().expect("multiples were checked by resolve") * memory as f64) as u64,
            None => text.parse().expect("sizes were checked by resolve"),
        }
    }

    /// The value of a [`Kind::Duration`] setting.
    pub fn duration(&self, name: &str) -> Duration {
        humantime::parse_duration(self.get(name)).expect("durations were checked by resolve")
    }

    /// The value of a [`Kind::Switch`] setting.
    pub fn switch(&self, name: &str) -> bool {
        self.get(name) == "true"
    }

    /// Name and value of each setting, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }
}

impl fmt::Display for Settings {
    /// `key=value,key=value`, as `--env` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (k, v)) in self.0.iter().enumerate() {
            write!(f, "{}{k}={v}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
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

fn span(min: u64, max: u64) -> String {
    format!("a size from {} to {}", bytesize::ByteSize(min), bytesize::ByteSize(max))
}

impl Setting {
    fn canonical(&self, text: &str) -> Result<String, SettingError> {
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
                    "a time from {} to {}, as in 500us, 100ms or 2s",
                    humantime::format_duration(Duration::from_nanos(min)),
                    humantime::format_duration(Duration::from_nanos(max))
                ))),
            },
            Kind::Switch if matches!(text, "true" | "false") => Ok(text.to_string()),
            Kind::Switch => Err(wrong("true or false".into())),
            Kind::Path => Ok(text.to_string()),
        }
    }

    /// `choice`, `number`, `bytes`, `amount`, `duration`, `switch` or `path`, for `list --json`.
    pub fn type_name(&self) -> &'static str {
        match self.kind {
            Kind::Choice(_) => "choice",
            Kind::Number { .. } => "number",
            Kind::Bytes { .. } => "bytes",
            Kind::Amount { .. } => "amount",
            Kind::Duration { .. } => "duration",
            Kind::Switch => "switch",
            Kind::Path => "path",
        }
    }

    /// The allowed values: the words of a choice, the bounds of a number; empty where anything goes.
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
            Kind::Path => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Setting] = &[
        Setting { name: "journal", kind: Kind::Choice(&["wal", "delete"]), default: "wal", about: "" },
        Setting { name: "size", kind: Kind::Bytes { min: 4096, max: 1 << 30 }, default: "16MiB", about: "" },
    ];

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn defaults_are_filled_in_and_bytes_are_canonical() {
        let s = Settings::resolve(KNOWN, &given(&[])).expect("defaults resolve");
        assert_eq!(s.to_string(), "journal=wal,size=16777216");
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        let e = Settings::resolve(KNOWN, &given(&[("jornal", "wal")])).expect_err("unknown");
        assert_eq!(e.to_string(), "unknown setting `jornal`; did you mean `journal`?");
    }

    #[test]
    fn a_value_out_of_bounds_says_the_bounds() {
        let e = Settings::resolve(KNOWN, &given(&[("size", "1")])).expect_err("too small");
        assert!(e.to_string().starts_with("`size` can't be `1`: a size from 4"), "{e}");
    }
}
