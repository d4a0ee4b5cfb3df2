//! Two runs held against each other, as bytes: what differs beside the overheads comes first.

mod html;
mod json;
mod text;

use anyhow::Result;

pub use html::Html;
pub use json::{Json, SCHEMA};
pub use text::Text;

use super::{units, words};
use crate::between::{Between, Row};
use crate::comparison::Comparison;
use crate::statistics::Estimate;

/// A way to show two runs.
pub trait Render: Sync {
    /// The whole document.
    ///
    /// # Errors
    /// When the document can't be made; never because of what the runs say.
    fn render(&self, b: &Between) -> Result<Vec<u8>>;
}

/// A format by its name.
pub struct Format {
    /// Value of `--format`.
    pub name: &'static str,
    /// Of files, without the dot.
    pub extension: &'static str,
    /// How it is made.
    pub renderer: &'static dyn Render,
}

/// All formats, in the order to list them.
pub static FORMATS: [Format; 3] = [
    Format { name: "text", extension: "txt", renderer: &Text },
    Format { name: "json", extension: "json", renderer: &Json },
    Format { name: "html", extension: "html", renderer: &Html },
];

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Format").field("name", &self.name).finish_non_exhaustive()
    }
}

/// An overhead that may be missing.
fn overhead(estimate: Option<&Estimate>) -> String {
    estimate.map_or_else(|| units::NONE.to_owned(), words::overhead)
}

/// What of a run is to be taken with care, one line each, without a name of the run.
fn cautions(c: &Comparison) -> Vec<String> {
    let doubtful = words::trust(c).into_iter().filter(|trust| trust.tone != words::Tone::Good);
    let line = |trust: words::Trust| {
        let detail = if trust.detail.is_empty() { String::new() } else { format!(", {}", trust.detail) };
        format!("{} {}{detail}", trust.label, trust.value)
    };
    doubtful.map(line).collect()
}

/// The ratio of a row, and whether it is more than chance.
fn said(row: &Row) -> (String, &'static str) {
    let ratio = match &row.ratio {
        Ok(ratio) => words::overhead(ratio),
        Err(why) => super::escape::one_line(why),
    };
    let word = match &row.ratio {
        Ok(ratio) if row.differs() && ratio.value > 1.0 => "worse in the second",
        Ok(_) if row.differs() => "better in the second",
        Ok(ratio) if ratio.interval.is_none() => "too few blocks",
        Ok(_) => "no difference seen",
        Err(_) => "",
    };
    (ratio, word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::between::between;
    use crate::comparison::{ControlState, Method, Metric, compare};
    use crate::example::Example;

    fn example() -> Between {
        let run = |id: &str, seed| {
            let mut stored = Example { seed, ..Example::default() }.build();
            stored.run.id = id.into();
            stored.run.host[1].1 = format!("a CPU <of> {id}");
            compare(&stored, Method::default())
        };
        between(run("first-run", 1), run("second-run", 2)).unwrap()
    }

    #[test]
    fn every_format_says_which_run_was_noisy() {
        let mut b = example();
        let headline = b.second.resolution.iter_mut().find(|r| r.metric == Metric::primary(&b.second.run.workloads[0]));
        headline.expect("has a control").state = ControlState::Failed("1.2 (1.1 to 1.3)".into());
        for format in &FORMATS {
            let text = String::from_utf8(format.renderer.render(&b).unwrap()).unwrap();
            assert!(text.contains("baselines differ in 1 of"), "{}: {text}", format.name);
        }
        let text = String::from_utf8(Text.render(&b).unwrap()).unwrap();
        assert!(text.contains("take the second with care: control "), "{text}");
        assert!(!text.contains("take the first with care: control "), "{text}");
    }

    #[test]
    fn every_format_says_what_differs_before_it_says_by_how_much() {
        let b = example();
        for format in &FORMATS {
            let bytes = format.renderer.render(&b).unwrap();
            assert!(bytes == format.renderer.render(&b).unwrap(), "{} isn't the same again", format.name);
            let text = String::from_utf8(bytes).unwrap();
            let host = text.rfind("a CPU").unwrap_or_else(|| panic!("{}: no host", format.name));
            assert!(text.find("sqlite/commit").is_some_and(|work| host < work), "{}: {text}", format.name);
            assert!(text.contains("gvisor"), "{}", format.name);
        }
        let html = String::from_utf8(Html.render(&b).unwrap()).unwrap();
        assert!(html.contains("a CPU &lt;of&gt; first-run") && html.contains("<svg"));
        let json: serde_json::Value = serde_json::from_slice(&Json.render(&b).unwrap()).unwrap();
        assert_eq!((&json["schema"], &json["differences"][0]["part"]), (&SCHEMA.into(), &"host".into()));
        assert_eq!(json["cautions"]["first"], serde_json::json!(["failures 1, in gvisor"]));
        let row = &json["rows"][0];
        assert!(row["low"].as_f64() < row["ratio"].as_f64() && row["ratio"].as_f64() < row["high"].as_f64());
    }
}
