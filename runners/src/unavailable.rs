//! Why something can't run on this host, and what would change that.

/// Why a runner can't run here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{because}")]
pub struct Unavailable {
    /// The engine's own words where it has any.
    pub because: String,
    /// The command or the step that would change it.
    pub fix: String,
    /// The engine is there but does not work, as opposed to not being there.
    pub broken: bool,
}

impl Unavailable {
    /// Whether nothing is missing but a setting: those that enter what is there begin their reason with these words.
    pub fn wants_setting(&self) -> bool {
        self.because.starts_with("needs setting ")
    }
}
