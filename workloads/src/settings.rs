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
    /// A command, split into words by the quoting rules of a POSIX shell but never given to one, in which these names in
    /// braces stand for something: `docker exec -i box {run}`. Empty for none.
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

    /// The words of a [`Kind::Command`] setting with everything filled in; empty where it is. A name that is a word by itself
    /// becomes all its words, within a word they are joined by spaces.
    pub fn command(&self, name: &str, filled: &[(&str, &[String])]) -> Vec<String> {
        let words = shell_words::split(self.get(name)).expect("commands were checked by resolve");
        let mut all = Vec::new();
        for word in words {
            match filled.iter().find(|(name, _)| word == format!("{{{name}}}")) {
                Some((_, values)) => all.extend(values.iter().cloned()),
                None => all.push(fill(&word, filled)),
            }
        }
        all
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

/// Fills in names within a word, from left to right: what was filled in is not looked at again.
fn fill(word: &str, filled: &[(&str, &[String])]) -> String {
    let (mut done, mut rest) = (String::new(), word);
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        done.push_str(before);
        let found = filled.iter().find_map(|(name, values)| {
            let after = from[1..].strip_prefix(name)?.strip_prefix('}')?;
            Some((values.join(" "), after))
        });
        let (text, after) = found.unwrap_or_else(|| ("{".into(), &from[1..]));
        done.push_str(&text);
        rest = after;
    }
    done + rest
}

/// What is wrong with a command, where something is. Braces around anything but a small word are the command's own.
fn command_problem(text: &str, names: &[&str]) -> Option<String> {
    let words = match shell_words::split(text) {
        Ok(words) => words,
        Err(e) => return Some(format!("a command whose quotes are closed ({e})")),
    };
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
            Kind::Path => "path",
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
            Kind::Path | Kind::Word | Kind::Address => Vec::new(),
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

    const BOX: &[Setting] = &[
        Setting { name: "command", kind: Kind::Command(&["run", "id"]), default: "", about: "" },
        Setting { name: "host", kind: Kind::Word, default: "", about: "" },
        Setting { name: "peer", kind: Kind::Address, default: "", about: "" },
    ];

    #[test]
    fn a_command_is_split_by_quotes_and_filled_in() {
        let words = |text: &str| {
            let s = Settings::resolve(BOX, &given(&[("command", text)])).expect("a command");
            s.command("command", &[("run", &["/a b".into(), "agent".into()]), ("id", &["x{run}".into()])])
        };
        assert_eq!(words("enter 'my box' {run}"), ["enter", "my box", "/a b", "agent"]);
        assert_eq!(words("sh -c '{run}; $(rm {id})'"), ["sh", "-c", "/a b agent; $(rm x{run})"]);
        assert_eq!(
            words("docker inspect --format '{{.State}}' {id}"),
            ["docker", "inspect", "--format", "{{.State}}", "x{run}"]
        );
        assert!(words("").is_empty());
    }

    #[test]
    fn a_command_that_names_nothing_known_is_refused() {
        let e = |text: &str| Settings::resolve(BOX, &given(&[("command", text)])).expect_err("refused").to_string();
        assert!(
            e("enter {runn}").contains("{runn} stands for nothing; there are {run}, {id}"),
            "{}",
            e("enter {runn}")
        );
        assert!(e("enter 'box").contains("quotes"), "{}", e("enter 'box"));
    }

    #[test]
    fn a_word_can_be_no_option_and_an_address_is_one() {
        let refused = |k: &str, v: &str| Settings::resolve(BOX, &given(&[(k, v)])).is_err();
        assert!(refused("host", "-oProxyCommand=x") && refused("host", "a b") && refused("host", "$(x)"));
        assert!(!refused("host", "me@fe80::1%eth0") && !refused("host", ""));
        assert!(refused("peer", "localhost") && !refused("peer", "2001:2::1") && !refused("peer", ""));
    }
}
