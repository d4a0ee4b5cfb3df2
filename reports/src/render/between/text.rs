//! Two runs for a terminal.

use anyhow::Result;
use comfy_table::{Table, presets};

use super::super::escape::one_line;
use super::{Render, cautions, overhead, said};
use crate::between::Between;
use crate::gate::words::metric;

/// The format `text`.
#[derive(Debug, Clone, Copy)]
pub struct Text;

impl Render for Text {
    fn render(&self, b: &Between) -> Result<Vec<u8>> {
        let mut out = String::new();
        let run =
            |c: &crate::comparison::Comparison| format!("{} ({}, {})", c.run.id, one_line(&c.run.suite), c.run.started);
        say!(out, "first   {}\nsecond  {}\n", run(&b.first), run(&b.second));
        for (which, c) in [("first", &b.first), ("second", &b.second)] {
            c.invalid.iter().for_each(|why| say!(out, "the {which} is invalid: {}", one_line(why)));
            cautions(c).iter().for_each(|why| say!(out, "take the {which} with care: {}", one_line(why)));
        }
        if b.differences.is_empty() {
            say!(out, "host, engines, settings and suite are the same");
        } else {
            out.push_str(&differences(b));
        }
        b.left_out.iter().for_each(|line| say!(out, "not compared: {}", one_line(line)));
        let mut table = plain(["work", "environment", "first", "second", "second over first", ""]);
        for row in &b.rows {
            let (ratio, word) = said(row);
            let work = format!("{} {}", one_line(&row.workload), metric(row.metric));
            let ends = [overhead(row.first.as_ref()), overhead(row.second.as_ref())];
            table.add_row([work, one_line(&row.environment), ends[0].clone(), ends[1].clone(), ratio, word.into()]);
        }
        say!(out, "\n{}", trimmed(&table));
        say!(
            out,
            "\nOverheads are over the baseline of their own run. A difference is one among all {} rows (Holm, 5 %).",
            b.rows.len()
        );
        Ok(out.into_bytes())
    }
}

fn differences(b: &Between) -> String {
    let mut table = plain(["differs", "", "first", "second"]);
    for d in &b.differences {
        let value = |text: &Option<String>| text.as_deref().map_or_else(|| "-".into(), one_line);
        table.add_row([d.part.name().to_string(), one_line(&d.name), value(&d.first), value(&d.second)]);
    }
    trimmed(&table) + "\n"
}

fn plain<const N: usize>(head: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(head);
    table
}

/// Without the spaces that fill its last column.
fn trimmed(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_string()).collect::<Vec<_>>().join("\n")
}
