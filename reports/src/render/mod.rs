//! A comparison as bytes: for a terminal, a browser, a pull request, a program, a spreadsheet or a picture.
//!
//! A format is one file and its line in `formats`. The same comparison gives the same bytes for ever: no clock, no random
//! order, nothing of the machine that draws. Everything that came out of the store is text that somebody else wrote, and is escaped.

/// Adds a line to a string, which takes all that is written.
macro_rules! say {
    ($out:expr, $($text:tt)*) => {{
        $out.push_str(&format!($($text)*));
        $out.push('\n');
    }};
}

pub mod between;
pub mod csv;
pub mod escape;
mod formats;
pub mod gate;
pub mod html;
pub mod json;
pub mod markdown;
pub mod markup;
pub mod plots;
pub mod programs;
pub mod terminal;
pub mod units;
pub mod words;

#[cfg(test)]
pub(crate) mod published;
#[cfg(test)]
mod readers;
#[cfg(test)]
pub(crate) mod sample;

use anyhow::Result;
pub use formats::{by_extension, find, formats};

use crate::comparison::Comparison;

/// A way to show a comparison.
pub trait Render: Sync {
    /// The whole document.
    ///
    /// # Errors
    /// When the document can't be made; never because of what the comparison says.
    fn render(&self, c: &Comparison) -> Result<Vec<u8>>;
}

/// A format by its name.
pub struct Format {
    /// Value of `--format`.
    pub name: &'static str,
    /// Of files, without the dot; the first format with an extension is meant by it.
    pub extension: &'static str,
    /// One sentence, shown by `--help`.
    pub about: &'static str,
    /// How it is made.
    pub renderer: &'static dyn Render,
}

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Format").field("name", &self.name).finish_non_exhaustive()
    }
}
