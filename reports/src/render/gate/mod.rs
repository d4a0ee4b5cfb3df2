//! A gate as bytes: for a terminal, a program, or the pages of a CI system. The same gate gives the same bytes.

mod github;
mod json;
mod junit;
mod text;

use anyhow::Result;

pub use github::{Github, summary};
pub use json::{Json, SCHEMA};
pub use junit::Junit;
pub use text::Text;

use crate::gate::{Gate, Verdict};

/// A way to show a gate.
pub trait Render: Sync {
    /// The whole document; `failing` are the verdicts that end the program with an error.
    ///
    /// # Errors
    /// When the document can't be made; never because of what the gate says.
    fn render(&self, gate: &Gate, failing: &[Verdict]) -> Result<Vec<u8>>;
}

/// A format by its name.
pub struct Format {
    /// Value of `--format`.
    pub name: &'static str,
    /// One sentence.
    pub about: &'static str,
    /// How it is made.
    pub renderer: &'static dyn Render,
}

/// All formats, in the order to list them.
pub static FORMATS: [Format; 4] = [
    Format { name: "text", about: "a line for each comparison, and what would be enough", renderer: &Text },
    Format { name: "json", about: "for programs: schema tarebench.gate/1", renderer: &Json },
    Format {
        name: "junit",
        about: "for CI systems that list tests: a test case for each comparison",
        renderer: &Junit,
    },
    Format { name: "github", about: "annotations of GitHub Actions, at most 10, the gravest first", renderer: &Github },
];

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Format").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How many comparisons have which verdict, from bad to good: `1 regressed, 12 pass`.
fn counts(gate: &Gate) -> String {
    let some = Verdict::ALL.iter().rev().map(|v| (gate.of(*v).count(), v.name())).filter(|(n, _)| *n > 0);
    some.map(|(n, name)| format!("{n} {name}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
