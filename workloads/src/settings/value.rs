//! Values as types: what a setting's text means to the code that asks for it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::setting::Kind;

/// A type that a setting can have. The enums of [`crate::words!`] are such types too.
pub trait Value: Sized {
    /// Values that are accepted; a declaration narrows them.
    const KIND: Kind;

    /// From the canonical notation that resolving makes.
    ///
    /// # Panics
    /// For text that didn't come from there: a mistake in the code that asks.
    fn parse(text: &str) -> Self;
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// A size in bytes or as a multiple of the environment's memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// So many bytes.
    Bytes(u64),
    /// So many times the memory.
    Times(f64),
}

impl Amount {
    /// Bytes, where the environment has `memory` bytes.
    pub fn of(self, memory: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Times(times) => (times * memory as f64) as u64,
        }
    }
}

/// A command in which names in braces stand for something: its words, by the quoting rules of a POSIX shell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    text: String,
    words: Vec<String>,
}

impl CommandLine {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// As it was written, for a shell.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The words as they were written, names in braces included.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The first word that only a shell would understand: a bar, a redirection, a variable, a pattern. One in quotes is an argument.
    pub fn meant_for_a_shell(&self) -> Option<&str> {
        const MARK: char = '\u{1}';
        let marked = |word: &str| {
            let begins = if is_of_shells(word) { format!("{MARK}{word}") } else { word.to_string() };
            let end = begins.trim_end().len();
            let (word, space) = begins.split_at(end);
            if word.ends_with(';') && !word.ends_with("\\;") { format!("{word}{MARK}{space}") } else { begins }
        };
        let text: String = self.text.split_inclusive(char::is_whitespace).map(marked).collect();
        // Within quotes a mark may stand anywhere but at the beginning of a word, and at its end.
        let words = shell_words::split(&text).unwrap_or_default();
        let at = words.iter().position(|word| word.starts_with(MARK) || word.ends_with(MARK))?;
        self.words.get(at).map(String::as_str)
    }

    /// Whether `{name}` stands anywhere in it.
    pub fn mentions(&self, name: &str) -> bool {
        let name = format!("{{{name}}}");
        self.words.iter().any(|word| word.contains(&name))
    }

    /// The words with everything filled in. A name that is a word by itself becomes all its words, within a word they are
    /// joined by spaces.
    pub fn filled(&self, values: &[(&str, &[String])]) -> Vec<String> {
        let mut all = Vec::new();
        for word in &self.words {
            match values.iter().find(|(name, _)| *word == format!("{{{name}}}")) {
                Some((_, values)) => all.extend(values.iter().cloned()),
                None => all.push(fill(word, values)),
            }
        }
        all
    }
}

/// Whether a word begins with what a shell doesn't hand on. What needs no space around it, as in `a;b`, is left alone: addresses have
/// such signs too.
fn is_of_shells(word: &str) -> bool {
    let word = word.trim_end();
    let after_digits = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let variable =
        word.strip_prefix('$').is_some_and(|name| name.starts_with(|c: char| c.is_alphabetic() || "_({".contains(c)));
    after_digits.starts_with(['<', '>'])
        || word.starts_with(['|', '&', ';', '`', '*'])
        || word.starts_with("~/")
        || variable
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

impl Value for u64 {
    const KIND: Kind = Kind::Number { min: 0, max: u64::MAX };

    fn parse(text: &str) -> Self {
        text.parse().expect("numbers were checked by resolve")
    }
}

impl Value for u32 {
    const KIND: Kind = Kind::Number { min: 0, max: u32::MAX as u64 };

    fn parse(text: &str) -> Self {
        text.parse().expect("numbers were checked by resolve, and a declaration can't allow more than the type holds")
    }
}

impl Value for Bytes {
    const KIND: Kind = Kind::Bytes { min: 0, max: u64::MAX };

    fn parse(text: &str) -> Self {
        Self(text.parse().expect("sizes were checked by resolve"))
    }
}

impl Value for Amount {
    const KIND: Kind = Kind::Amount { min: 0, max: u64::MAX };

    fn parse(text: &str) -> Self {
        match text.strip_suffix('x') {
            Some(times) => Self::Times(times.parse().expect("multiples were checked by resolve")),
            None => Self::Bytes(text.parse().expect("sizes were checked by resolve")),
        }
    }
}

impl Value for Duration {
    const KIND: Kind = Kind::Duration { min: 0, max: u64::MAX };

    fn parse(text: &str) -> Self {
        humantime::parse_duration(text).expect("durations were checked by resolve")
    }
}

impl Value for bool {
    const KIND: Kind = Kind::Switch;

    fn parse(text: &str) -> Self {
        text == "true"
    }
}

impl Value for CommandLine {
    const KIND: Kind = Kind::Command(&[]);

    fn parse(text: &str) -> Self {
        let words = shell_words::split(text).expect("commands were checked by resolve");
        Self { text: text.to_string(), words }
    }
}

impl Value for Option<PathBuf> {
    const KIND: Kind = Kind::Path;

    fn parse(text: &str) -> Self {
        (!text.is_empty()).then(|| text.into())
    }
}

impl Value for Option<String> {
    const KIND: Kind = Kind::Word;

    fn parse(text: &str) -> Self {
        (!text.is_empty()).then(|| text.into())
    }
}

impl Value for Option<IpAddr> {
    const KIND: Kind = Kind::Address;

    fn parse(text: &str) -> Self {
        (!text.is_empty()).then(|| text.parse().expect("addresses were checked by resolve"))
    }
}
