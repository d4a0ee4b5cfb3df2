//! The page's reasons: the hints, and of an explained environment a sentence, the waterfall and the table for each workload.

use anyhow::Result;

use super::detail::scrolling;
use super::piece;
use crate::comparison::Comparison;
use crate::explain::{Explanation, Ladder, explain};
use crate::render::markup::{Markup, add, markup};
use crate::render::plots::{Place, waterfall};
use crate::render::words::{self, why};

/// The place of the hints.
pub(super) const HINTS: &str = "why";
/// The place of the explanation.
pub(super) const STEPS: &str = "steps";

/// What follows from evidence, with what would change it.
pub(super) fn hints(c: &Comparison, out: &mut Markup) {
    let all = words::reasons(c);
    if all.is_empty() {
        return;
    }
    add!(out, "<h2 id=\"{}\">Why</h2>\n", HINTS);
    scrolling("Why an environment may cost what it costs", out);
    add!(
        out,
        "<thead><tr><th scope=\"col\">environment</th><th scope=\"col\">why</th><th scope=\"col\">evidence</th>\
         <th scope=\"col\">what would change it</th><th scope=\"col\">where</th></tr></thead>\n<tbody>\n"
    );
    for reason in all {
        let hint = reason.hint;
        add!(
            out,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
            reason.of(c),
            hint.what,
            &hint.evidence,
            &reason.change,
            words::scope(hint, &c.run)
        );
    }
    add!(out, "</tbody></table></div>\n");
}

/// Nothing where the run explains nothing.
pub(super) fn write(c: &Comparison, out: &mut Markup) -> Result<()> {
    let Some(explanation) = explain(c) else { return Ok(()) };
    add!(out, "<h2 id=\"{}\">Why {} costs what it costs</h2>\n", STEPS, &explanation.environment);
    for ladder in &explanation.ladders {
        of_workload(&explanation, ladder, out)?;
    }
    if !explanation.left_out.is_empty() {
        let items: Markup = explanation.left_out.iter().map(|line| markup!("<li>{}</li>", line)).collect();
        add!(out, "<p>Left out:</p>\n<ul class=\"remarks\">{}</ul>\n", items);
    }
    add!(
        out,
        "<p class=\"quiet\"><small>Time of an operation. Every rung is an environment of this run, with one setting more than the rung \
         before it; a step is the difference of the two. {} Grey: it can't be told from noise, or its rungs are in \
         doubt.</small></p>\n",
        why::READING
    );
    Ok(())
}

fn of_workload(explanation: &Explanation, ladder: &Ladder, out: &mut Markup) -> Result<()> {
    let sentence: Markup = why::sentence(explanation, ladder).iter().map(piece).collect();
    add!(out, "<h3>Why in {}</h3>\n<p>{}</p>\n", &ladder.workload, sentence);
    if let Some(picture) = waterfall::waterfall(Place::Page, ladder)? {
        add!(out, "<figure>{}</figure>\n", picture);
    }
    scrolling(&format!("Steps in {}", ladder.workload), out);
    add!(out, "<thead><tr>");
    for heading in why::HEADINGS {
        add!(out, "<th scope=\"col\">{}</th>", heading);
    }
    add!(out, "<th scope=\"col\">remark</th></tr></thead>\n<tbody>\n");
    lines(&why::rungs(ladder), out);
    let alternatives = why::alternatives(ladder);
    if !alternatives.is_empty() {
        add!(out, "<tr><th colspan=\"6\">{}</th></tr>\n", why::ALONE);
        lines(&alternatives, out);
    }
    add!(out, "</tbody></table></div>\n");
    Ok(())
}

fn lines(lines: &[why::Line], out: &mut Markup) {
    for line in lines {
        let class = if line.strong { Markup::default() } else { markup!(" class=\"quiet\"") };
        let [name, figures @ ..] = &line.fields;
        let figures: Markup = figures.iter().map(|field| markup!("<td class=\"n\">{}</td>", field)).collect();
        add!(out, "<tr{}><td>{}</td>{}<td>{}</td></tr>\n", class, name, figures, &line.remark);
    }
}
