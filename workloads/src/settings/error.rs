//! Why a setting can't have a value.

/// A value that can't be used, with what could be used instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// No setting has this name.
    #[error("unknown setting `{name}`{}", hint(.nearest, .known))]
    Unknown {
        /// The name as written.
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
        /// The value as written.
        value: String,
        /// Values that can be written.
        expected: String,
    },
    /// Each value is valid, but not beside the others; with what to set instead.
    #[error("{0}")]
    Conflict(String),
}

fn hint(nearest: &Option<String>, known: &[&'static str]) -> String {
    match nearest {
        Some(n) => format!("; did you mean `{n}`?"),
        None if known.is_empty() => "; there are none".into(),
        None => format!("; known are {}", known.join(", ")),
    }
}

/// What to say to a name that is none of these: the nearest, or all that there are.
pub fn did_you_mean<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match nearest(typed, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {}", known.join(", ")),
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
