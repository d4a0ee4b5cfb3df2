//! The trend as a page: a plot for each workload, a list of the changes, no network and no script.

use anyhow::Result;

use super::style;
use crate::render::markup::{Markup, add, markup};
use crate::render::plots::{self, Place, trend};
use crate::render::units::ratio;
use crate::trend::{Change, Series, Trend};

/// Above the plots.
const ABOUT: &str = "Overheads of the runs of one history: the same suite, settings and class of hosts. Above 1 is worse than the \
baseline. A vertical line is a change for good, found by ED-PELT; a triangle below is a run that was accepted. Runs stand in the order \
in which they came into the store.";

/// The page.
///
/// # Errors
/// When plotters fails.
pub fn page(t: &Trend) -> Result<Vec<u8>> {
    let title = format!("{}: {} on {}", t.suite, t.count(), t.key.host_class());
    let mut out = markup!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{} · tarebench trend</title>\n\
         <style>\n{}{}</style>\n</head>\n<body>\n<main>\n<h1>{}</h1>\n<p>{}</p>\n",
        title,
        plots::palette_css(),
        style(),
        title,
        ABOUT
    );
    if let Some(words) = t.same_code() {
        add!(out, "<p>{}.</p>\n", words);
    }
    for workload in t.workloads() {
        let series: Vec<&Series> = t.of_workload(workload).collect();
        add!(out, "<h2>{}</h2>\n<figure>{}</figure>\n", workload, trend::plot(Place::Page, t, workload, &series)?);
        let changes: Markup = series.iter().flat_map(|s| s.changes.iter().map(|c| item(t, s, c))).collect();
        if !changes.as_str().is_empty() {
            add!(out, "<ul>\n{}</ul>\n", changes);
        }
        let now: Vec<String> = series.iter().map(|s| format!("{} {}", s.environment, ratio(s.now(), None))).collect();
        add!(out, "<p>Now: {}.</p>\n", now.join(", "));
    }
    add!(out, "</main>\n</body>\n</html>\n");
    Ok(out.into_bytes())
}

fn item(t: &Trend, series: &Series, change: &Change) -> Markup {
    let (first, last) = (t.runs[change.first].words(), t.runs[change.last].words());
    markup!("<li>{}: {} since {}; before: {}</li>\n", series.environment, change.words(), first, last)
}
