//! Two runs as one page, with the plots of a report: every box twice.

use anyhow::Result;

use super::super::html::head;
use super::super::markup::{Markup, add};
use super::super::plots::{Place, forest};
use super::{Render, cautions, overhead, said};
use crate::between::{Between, Row};
use crate::comparison::{Metric, Verdict};
use crate::gate::words::metric;
use crate::statistics::Estimate;

/// The format `html`.
#[derive(Debug, Clone, Copy)]
pub struct Html;

impl Render for Html {
    fn render(&self, b: &Between) -> Result<Vec<u8>> {
        let (first, second) = (&b.first.run, &b.second.run);
        let mut out = Markup::default();
        head(&format!("{} and {}", first.id, second.id), &mut out);
        add!(out, "<header><h1>{} and {}</h1>", &first.id, &second.id);
        add!(
            out,
            "<span class=\"quiet\">suite {} · {} and {}</span></header>\n",
            &first.suite,
            &first.started,
            &second.started
        );
        for (which, c) in [("first", &b.first), ("second", &b.second)] {
            for why in &c.invalid {
                add!(out, "<p class=\"alarm\" role=\"alert\"><b>The {} is invalid:</b> {}</p>\n", which, why);
            }
            for why in cautions(c) {
                add!(out, "<p class=\"quiet\">Take the {} with care: {}</p>\n", which, &why);
            }
        }
        differences(b, &mut out);
        plots(b, &mut out)?;
        rows(b, &mut out);
        add!(out, "</main>\n</body>\n</html>\n");
        Ok(out.into_bytes())
    }
}

fn differences(b: &Between, out: &mut Markup) {
    add!(out, "<h2>What else differs</h2>\n");
    if b.differences.is_empty() {
        add!(out, "<p>Nothing: host, engines, settings and suite are the same.</p>\n");
    } else {
        add!(out, "<div class=\"scroll\"><table>\n<tr><th>of</th><th></th><th>first</th><th>second</th></tr>\n");
        for d in &b.differences {
            let value = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
            add!(
                out,
                "<tr><td>{}</td><td class=\"strong\">{}</td><td>{}</td><td>{}</td></tr>\n",
                d.part.name(),
                &d.name,
                value(&d.first),
                value(&d.second)
            );
        }
        add!(out, "</table></div>\n");
    }
    for line in &b.left_out {
        add!(out, "<p class=\"quiet\">Not compared: {}</p>\n", line);
    }
}

/// A panel for each workload with the figure to look at first, and every environment in both runs.
fn plots(b: &Between, out: &mut Markup) -> Result<()> {
    let mut panels = Vec::new();
    for plan in &b.first.run.workloads {
        let leading = Metric::primary(plan);
        let rows: Vec<&Row> = b.rows.iter().filter(|r| r.workload == plan.name && r.metric == leading).collect();
        let bars = |row: &&Row| {
            [("1", &row.first), ("2", &row.second)].map(|(which, own): (&str, &Option<Estimate>)| forest::Row {
                marked: row.verdict == Verdict::Invalid,
                name: format!("{} {which}", row.environment),
                overhead: own.ok_or_else(|| "no result".to_owned()),
                verdict: if row.verdict == Verdict::Invalid { Verdict::Invalid } else { Verdict::Trusted },
                control: false,
            })
        };
        if !rows.is_empty() {
            let caption = format!("{}, in the first run and in the second", metric(leading));
            let rows = rows.iter().flat_map(bars).collect();
            panels.push(forest::Panel { workload: plan.name.clone(), caption, band: None, rows });
        }
    }
    let scale = forest::scale(&panels);
    add!(out, "<h2>Overheads</h2>\n<div class=\"forest\">\n");
    for panel in &panels {
        let picture = forest::panel(Place::Page, panel, scale)?;
        add!(
            out,
            "<figure><figcaption>{} <span>{}</span></figcaption>\n{}</figure>\n",
            &panel.workload,
            &panel.caption,
            picture
        );
    }
    add!(
        out,
        "</div>\n<p class=\"quiet\"><small>Each over the baseline of its own run; absolute times are not compared.</small></p>\n"
    );
    Ok(())
}

fn rows(b: &Between, out: &mut Markup) {
    add!(
        out,
        "<h2>Second over first</h2>\n<div class=\"scroll\"><table>\n<tr><th>work</th><th>environment</th><th>first</th><th>second</th>\
         <th>ratio</th><th></th></tr>\n"
    );
    for row in &b.rows {
        let (ratio, word) = said(row);
        let work = format!("{} {}", row.workload, metric(row.metric));
        let class = if row.differs() { "strong" } else { "n" };
        add!(
            out,
            "<tr><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"{}\">{}</td><td>{}</td></tr>\n",
            work,
            &row.environment,
            overhead(row.first.as_ref()),
            overhead(row.second.as_ref()),
            class,
            ratio,
            word
        );
    }
    add!(
        out,
        "</table></div>\n<p class=\"quiet\"><small>Welch's 95 % intervals of the ratio of geometric means; a difference is one among all rows \
         (Holm, 5 %).</small></p>\n"
    );
}
