//! The report for spreadsheets: one line per workload, environment and metric, units in columns of their own.
//!
//! Columns are added at the end, never renamed or moved; `FORMATS.md` describes them.

use anyhow::Result;

use super::{Render, escape, words};
use crate::comparison::{Cell, Comparison, Finding, Latency};
use crate::statistics::Interval;

/// The format `csv`: RFC 4180, UTF-8, lines end with CR LF.
#[derive(Debug, Clone, Copy)]
pub struct Csv;

/// Units stand in brackets; `[unit]` is that of the line's column `unit`.
const COLUMNS: [&str; 19] = [
    "run",
    "workload",
    "environment",
    "metric",
    "unit",
    "net [unit]",
    "gross [unit]",
    "tare [unit]",
    "overhead [ratio]",
    "overhead_low [ratio]",
    "overhead_high [ratio]",
    "confidence [share]",
    "difference [ns/op]",
    "difference_low [ns/op]",
    "difference_high [ns/op]",
    "blocks",
    "operations",
    "verdict",
    "flags",
];

/// Came after [`COLUMNS`].
const MORE: [&str; 2] = ["withheld", "latency"];

impl Render for Csv {
    fn render(&self, c: &Comparison) -> Result<Vec<u8>> {
        let mut out = COLUMNS.join(",") + "," + &MORE.join(",") + "\r\n";
        for cell in c.control.iter().chain(&c.cells) {
            let plan = c.run.workloads.iter().find(|w| w.name == cell.workload);
            let latency = plan.map_or(Latency::Service, Latency::of);
            out.push_str(&row(c, cell, latency).join(","));
            out.push_str("\r\n");
        }
        Ok(out.into_bytes())
    }
}

fn row(c: &Comparison, cell: &Cell, latency: Latency) -> Vec<String> {
    let finding = cell.finding.as_ref().ok();
    let number = |pick: fn(&Finding) -> f64| finding.map(pick).map_or_else(String::new, plain);
    let end = |interval: Option<Interval>, pick: fn(&Interval) -> f64| {
        interval.as_ref().map(pick).map_or_else(String::new, plain)
    };
    let overhead = finding.and_then(|f| f.overhead.interval);
    let difference = finding.and_then(|f| f.difference.interval);
    let flags = cell.flags.iter().map(|f| f.name).collect::<Vec<_>>().join(" ");
    vec![
        escape::csv(&c.run.id),
        escape::csv(&cell.workload),
        escape::csv(&cell.environment),
        cell.metric.name().to_owned(),
        cell.unit.name().to_owned(),
        number(|f| f.net),
        number(|f| f.gross),
        finding.map(|f| f.tare(cell.unit)).map_or_else(String::new, plain),
        number(|f| f.overhead.value),
        end(overhead, |i| i.low),
        end(overhead, |i| i.high),
        end(overhead, |i| i.confidence),
        number(|f| f.difference.value),
        end(difference, |i| i.low),
        end(difference, |i| i.high),
        cell.blocks.to_string(),
        cell.operations.to_string(),
        c.verdict(cell).name().to_owned(),
        escape::csv(&flags),
        escape::csv(&cell.finding.as_ref().err().map_or_else(String::new, words::because)),
        latency.name().to_owned(),
    ]
}

/// As many digits as it takes to come back to the same number; empty where there is none.
fn plain(x: f64) -> String {
    if x.is_finite() { x.to_string() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    /// Fields of every line, as a reader of RFC 4180 sees them.
    fn parse(text: &str) -> Vec<Vec<String>> {
        let (mut rows, mut row, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match (c, quoted) {
                ('"', true) if chars.peek() == Some(&'"') => field.push(chars.next().unwrap()),
                ('"', _) => quoted = !quoted,
                (',', false) => row.push(std::mem::take(&mut field)),
                ('\r', false) => {}
                ('\n', false) => {
                    row.push(std::mem::take(&mut field));
                    rows.push(std::mem::take(&mut row));
                }
                (c, _) => field.push(c),
            }
        }
        rows
    }

    #[test]
    fn every_line_has_every_column() {
        for c in [sample::comparison(), sample::hostile(), sample::short()] {
            let rows = parse(&String::from_utf8(Csv.render(&c).unwrap()).unwrap());
            assert_eq!(rows.len(), 1 + c.cells.len() + c.control.len());
            assert!(rows.iter().all(|r| r.len() == COLUMNS.len() + MORE.len()), "{rows:?}");
        }
    }

    #[test]
    fn a_line_reads_like_this() {
        let c = sample::comparison();
        let rows = parse(&String::from_utf8(Csv.render(&c).unwrap()).unwrap());
        let line = rows.iter().find(|r| r[2] == "runc" && r[3] == "p50").unwrap();
        assert_eq!(line[..6], ["20261123-014455-3fa9", "control/syscall", "runc", "p50", "ns", "142000"]);
        assert_eq!(line[11], "0.95");
        let tail = rows.iter().find(|r| r[1] == "disk/fsync" && r[3] == "p99.9").unwrap();
        assert_eq!(tail[5], "");
        assert_eq!(tail[20], "service");
        let paced = rows.iter().find(|r| r[1] == "net/paced").unwrap();
        assert_eq!(paced[20], "response");
        assert_eq!(tail[19], "49\u{202f}480 more samples per block needed");
    }

    #[test]
    fn no_field_of_text_is_a_formula() {
        let mut c = sample::comparison();
        c.run.id = "=cmd".into();
        assert!(row(&c, &c.cells[0], Latency::Service)[0].starts_with("\"'="));
    }
}
