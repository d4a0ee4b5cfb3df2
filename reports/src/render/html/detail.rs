//! What stands behind the first screen: curves, all cells with their flags, environments, trouble, method and settings.

use std::fmt::Write as _;

use anyhow::Result;

use super::safe;
use crate::comparison::{Cell, Comparison, Environment, Flag, Metric, Outcome, Role, Verdict, Withheld};
use crate::record::WorkloadPlan;
use crate::render::plots::{Place, curves, heat, insertions};
use crate::render::words::beside;
use crate::render::{units, words};

const METHOD: &str = include_str!("method.html");

pub(super) fn write(c: &Comparison, out: &mut String) -> Result<()> {
    out.push_str("<h2>Workloads</h2>\n");
    for plan in &c.run.workloads {
        workload(c, plan, out)?;
    }
    environments(c, out);
    trouble(c, out);
    resolution(c, out);
    let _ = writeln!(out, "<h2>Method</h2>\n<div class=\"below\">\n{METHOD}</div>");
    settings(c, out);
    Ok(())
}

fn workload(c: &Comparison, plan: &WorkloadPlan, out: &mut String) -> Result<()> {
    let _ = writeln!(out, "<h3>{}</h3>\n<p>{}{}</p>", safe(&plan.name), safe(&plan.about), set(plan));
    if let Some(schedule) = beside::schedule(plan) {
        let _ = writeln!(
            out,
            "<p>Open loop, {}: latencies are <b>response times</b>, from the moment at which an operation should have begun.</p>",
            safe(&schedule)
        );
    }
    let by_percentile = format!("{} by percentile", beside::latency(plan));
    let pictures = [
        ("Latency", by_percentile.as_str(), curves::latencies(Place::Page, c, &plan.name)?),
        ("Overhead", "by percentile, with intervals", curves::overheads(Place::Page, c, &plan.name)?),
    ];
    if pictures.iter().any(|(.., picture)| picture.is_some()) {
        out.push_str("<div class=\"curves\">\n");
        for (title, caption, picture) in pictures {
            let Some(picture) = picture else { continue };
            let _ =
                writeln!(out, "<figure><figcaption>{title} <span>{caption}</span></figcaption>\n{picture}</figure>");
        }
        out.push_str("</div>\n");
    }
    primary_table(c, plan, out);
    open_loop(c, plan, out);
    for text in beside::counters(c, &plan.name) {
        let _ = writeln!(out, "<p>{}</p>", safe(&text));
    }
    insertion_test(c, plan, out)?;
    heat_map(c, plan, out);
    all_metrics(c, plan, out);
    Ok(())
}

/// Service times and lateness beside the response times of an open loop.
fn open_loop(c: &Comparison, plan: &WorkloadPlan, out: &mut String) {
    let rows = beside::beside(c, &plan.name);
    if rows.is_empty() {
        return;
    }
    let [first, figures @ ..] = beside::HEADINGS;
    let _ = write!(out, "<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">{first}</th>");
    for heading in figures {
        let _ = write!(out, "<th class=\"n\" scope=\"col\">{heading}</th>");
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in rows {
        let [name, figures @ ..] = &row.fields;
        let _ = write!(out, "<tr><th scope=\"row\">{}</th>", safe(name));
        for figure in figures {
            let _ = write!(out, "<td class=\"n\">{}</td>", safe(figure));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
}

/// The place of every environment in the published insertion test.
fn insertion_test(c: &Comparison, plan: &WorkloadPlan, out: &mut String) -> Result<()> {
    let places: Vec<_> = c.insertions.iter().filter(|i| i.workload == plan.name).collect();
    let Some(first) = places.first() else { return Ok(()) };
    let picture = insertions::figure(Place::Page, &places)?;
    let _ = writeln!(
        out,
        "<figure class=\"insertions\"><figcaption>7500 inserts <span>{}</span></figcaption>\n{picture}</figure>\n<ul class=\"remarks\">",
        safe(&beside::reckoned(first))
    );
    for i in &places {
        let _ = writeln!(out, "<li>{}: {}</li>", safe(&i.environment), safe(&beside::standing(i)));
    }
    let _ = writeln!(out, "<li>{}</li>\n</ul>", safe(&beside::population()));
    Ok(())
}

/// When which latencies came.
fn heat_map(c: &Comparison, plan: &WorkloadPlan, out: &mut String) {
    let Some(heat) = heat::panels(c, &plan.name) else { return };
    let _ = writeln!(
        out,
        "<details open><summary>When which {}s came: from 1 {} to {} operations in one place</summary>\n<div class=\"heat\">",
        beside::latency(plan),
        heat::key(),
        units::count(heat.most)
    );
    for (name, length, picture) in &heat.panels {
        let name = safe(name);
        let _ = writeln!(
            out,
            "<figure><figcaption>{name} <span>bursts of {length}</span></figcaption>\n{picture}</figure>"
        );
    }
    out.push_str("</div></details>\n");
}

/// The settings of a workload after its sentence.
fn set(plan: &WorkloadPlan) -> String {
    let pairs: Vec<String> = plan.settings.iter().map(|(k, v)| format!("{}={}", safe(k), safe(v))).collect();
    if pairs.is_empty() { String::new() } else { format!(" <small>{}</small>", pairs.join(", ")) }
}

fn primary_table(c: &Comparison, plan: &WorkloadPlan, out: &mut String) {
    let metric = Metric::primary(plan);
    let rows: Vec<(&Environment, &Cell)> = words::tried(c)
        .filter(|e| e.role != Role::Baseline)
        .filter_map(|e| Some((e, c.cell(&plan.name, &e.plan.name, metric)?)))
        .collect();
    if rows.is_empty() {
        out.push_str("<p>No environment has a result.</p>\n");
        return;
    }
    let second = if metric == Metric::P50 { Metric::P99 } else { Metric::P50 };
    let _ = writeln!(
        out,
        "<div class=\"scroll\"><table>\n<caption>{metric}</caption>\n<thead><tr><th scope=\"col\">environment</th><th class=\"n\" scope=\"col\">net</th>\
         <th class=\"n\" scope=\"col\">gross</th><th class=\"n\" scope=\"col\">tare</th>\
         <th class=\"n\" scope=\"col\">overhead</th><th class=\"n\" scope=\"col\">difference per operation</th>\
         <th class=\"n\" scope=\"col\">overhead {second}</th><th class=\"n\" scope=\"col\">stalls per million</th>\
         <th class=\"n\" scope=\"col\">blocks</th><th class=\"n\" scope=\"col\">operations</th><th scope=\"col\">flags</th></tr></thead>\n<tbody>",
        metric = beside::metric(plan),
        second = second.name(),
    );
    for (environment, cell) in rows {
        let class = row_class(environment, cell);
        let name = safe(&cell.environment);
        let stalls = c.distribution(&plan.name, &cell.environment).map(|d| d.stalls_per_million);
        let stalls = stalls.map_or_else(|| units::NONE.to_owned(), units::three);
        let tail = c.cell(&plan.name, &cell.environment, second);
        let _ = write!(out, "<tr{class}><th scope=\"row\">{name}</th>");
        numbers(cell, false, out);
        let _ = writeln!(
            out,
            "<td class=\"n\">{}</td><td class=\"n\">{stalls}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
            tail.map_or_else(|| units::NONE.to_owned(), overhead),
            cell.blocks,
            units::count(cell.operations),
            flags(&cell.flags, cell.verdict),
        );
    }
    out.push_str("</tbody></table></div>\n");
}

fn row_class(environment: &Environment, cell: &Cell) -> &'static str {
    match (environment.role, cell.verdict) {
        (Role::Control, _) => " class=\"control\"",
        (_, Verdict::Invalid) => " class=\"invalid\"",
        _ => "",
    }
}

/// Net, gross, tare, overhead and difference; one wide field of words where there are none.
fn numbers(cell: &Cell, unit_of_difference: bool, out: &mut String) {
    match &cell.finding {
        Ok(finding) => {
            let difference =
                if unit_of_difference { words::difference(finding) } else { words::difference_interval(finding) };
            let _ = write!(
                out,
                "<td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n strong\">{}</td><td class=\"n\">{}</td>",
                words::quantity(cell.unit, finding.net),
                words::quantity(cell.unit, finding.gross),
                words::tare(cell, finding),
                overhead(cell),
                safe(&difference),
            );
        }
        Err(why) => {
            let _ = write!(out, "<td colspan=\"5\">{}</td>", safe(&words::withheld(why)));
        }
    }
}

/// The overhead of a cell, or why there is none.
fn overhead(cell: &Cell) -> String {
    match &cell.finding {
        Ok(finding) if finding.overhead.interval.is_some() => safe(&words::overhead(&finding.overhead)),
        Ok(finding) => {
            let ratio = units::ratio(finding.overhead.value, None);
            format!("{ratio} <small>{}</small>", words::no_interval(cell.blocks))
        }
        // In full in the table of all metrics.
        Err(Withheld::TooFewOperations { more, .. }) => {
            format!("{} <small>({} more samples)</small>", units::NONE, units::count(*more))
        }
        Err(why) => format!("<small>{}</small>", safe(&words::withheld(why))),
    }
}

/// Flags that open to their evidence; without a script, and open in print.
fn flags(flags: &[Flag], verdict: Verdict) -> String {
    let mut out = String::new();
    if verdict == Verdict::Invalid {
        out.push_str("<small>not ranked</small>");
    }
    for flag in flags {
        let class = flag.severity.name();
        let (name, evidence) = (safe(flag.name), safe(&flag.evidence));
        let _ = write!(out, "<details class=\"flag {class}\"><summary>{name}</summary><p>{evidence}</p></details>");
    }
    out
}

fn all_metrics(c: &Comparison, plan: &WorkloadPlan, out: &mut String) {
    let cells: Vec<&Cell> = c.control.iter().chain(&c.cells).filter(|cell| cell.workload == plan.name).collect();
    if cells.is_empty() {
        return;
    }
    out.push_str(
        "<details><summary>All metrics</summary>\n<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">environment</th>\
         <th scope=\"col\">metric</th><th class=\"n\" scope=\"col\">net</th><th class=\"n\" scope=\"col\">gross</th>\
         <th class=\"n\" scope=\"col\">tare</th><th class=\"n\" scope=\"col\">overhead</th>\
         <th class=\"n\" scope=\"col\">per operation</th><th class=\"n\" scope=\"col\">geometric mean</th>\
         <th class=\"n\" scope=\"col\">ratio of means</th><th scope=\"col\">verdict</th><th scope=\"col\">flags</th></tr></thead>\n<tbody>\n",
    );
    let mut last = "";
    for cell in cells {
        // The name once per environment: a column of repetitions hides where the next one begins.
        let first = cell.environment != last;
        last = &cell.environment;
        let (class, name) = if first { (" class=\"group\"", safe(last)) } else { ("", String::new()) };
        let _ = write!(out, "<tr{class}><th scope=\"row\">{name}</th><td>{}</td>", cell.metric.name());
        numbers(cell, true, out);
        let (geometric, means) = cell.finding.as_ref().map_or_else(
            |_| (units::NONE.to_owned(), units::NONE.to_owned()),
            |f| (safe(&words::overhead(&f.geometric)), units::ratio(f.ratio_of_means, None)),
        );
        let _ = writeln!(
            out,
            "<td class=\"n\">{geometric}</td><td class=\"n\">{means}</td><td>{}</td><td><small>{}</small></td></tr>",
            cell.verdict.name(),
            safe(&words::flags(cell)),
        );
    }
    out.push_str("</tbody></table></div></details>\n");
}

fn environments(c: &Comparison, out: &mut String) {
    out.push_str(
        "<h2>Environments</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">environment</th><th scope=\"col\">runner</th>\
         <th class=\"n\" scope=\"col\">start</th><th class=\"n\" scope=\"col\">starts</th><th class=\"n\" scope=\"col\">memory held</th>\
         <th class=\"n\" scope=\"col\">clock read</th><th scope=\"col\">network</th><th scope=\"col\">data</th>\
         <th scope=\"col\">inside, and flags</th></tr></thead>\n<tbody>\n",
    );
    for e in words::tried(c) {
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{}</th><td>{}{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td>{}</td><td>{}</td><td>{}{}</td></tr>",
            safe(&e.plan.name),
            safe(e.plan.version.as_deref().unwrap_or(&e.plan.runner)),
            environment_settings(e),
            start(e),
            e.starts_ms.len(),
            words::memory(e),
            e.clock_ns.map_or_else(|| units::NONE.to_owned(), units::duration),
            safe(&e.plan.network.to_string()),
            safe(&e.plan.data_path),
            facts(e),
            flags(&e.flags, Verdict::Trusted),
        );
    }
    out.push_str("</tbody></table></div>\n");
    let skipped: Vec<(&Environment, &str)> = c
        .environments
        .iter()
        .filter_map(|e| match &e.outcome {
            Outcome::Skipped(why) => Some((e, why.as_str())),
            _ => None,
        })
        .collect();
    if !skipped.is_empty() {
        out.push_str("<h3>Skipped</h3>\n<dl class=\"facts\">\n");
        for (e, why) in skipped {
            let _ = writeln!(out, "<dt>{}</dt><dd class=\"message\">{}</dd>", safe(&e.plan.name), safe(why));
        }
        out.push_str("</dl>\n");
    }
}

fn start(e: &Environment) -> String {
    match e.start_ms.and_then(|start| start.interval) {
        Some(i) => {
            let (low, high) = (units::duration(i.low * 1e6), units::duration(i.high * 1e6));
            format!("{}<br/><small>{low} to {high}</small>", words::start(e))
        }
        None => words::start(e),
    }
}

fn environment_settings(e: &Environment) -> String {
    let pairs: Vec<String> = e.plan.settings.iter().map(|(k, v)| format!("{}={}", safe(k), safe(v))).collect();
    if pairs.is_empty() { String::new() } else { format!("<br/><small>{}</small>", pairs.join(", ")) }
}

fn facts(e: &Environment) -> String {
    if e.facts.is_empty() {
        return String::new();
    }
    let facts = e.facts.iter().map(|(name, value)| format!("<dt>{}</dt><dd>{}</dd>", safe(name), safe(value)));
    format!(
        "<details><summary>{} facts</summary><dl class=\"facts\">{}</dl></details>",
        e.facts.len(),
        facts.collect::<String>()
    )
}

fn trouble(c: &Comparison, out: &mut String) {
    if !c.failures.is_empty() {
        out.push_str(
            "<h2>Failures</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">environment</th><th scope=\"col\">workload</th>\
             <th class=\"n\" scope=\"col\">block</th><th class=\"n\" scope=\"col\">round</th><th scope=\"col\">step</th>\
             <th scope=\"col\">message</th></tr></thead>\n<tbody>\n",
        );
        for f in &c.failures {
            let _ = writeln!(
                out,
                "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td>\
                 <td class=\"message\">{}</td></tr>",
                safe(&f.environment),
                safe(f.workload.as_deref().unwrap_or(units::NONE)),
                f.block,
                f.round.map_or_else(|| units::NONE.to_owned(), |round| round.to_string()),
                f.step.name(),
                safe(&f.message),
            );
        }
        out.push_str("</tbody></table></div>\n");
    }
    if !c.voids.is_empty() {
        let _ = writeln!(
            out,
            "<h2>Void rounds</h2>\n<p>{} of {} rounds were dropped for all environments and replaced.</p>\n<div class=\"scroll\"><table>\n\
             <thead><tr><th scope=\"col\">workload</th><th class=\"n\" scope=\"col\">block</th><th class=\"n\" scope=\"col\">round</th>\
             <th scope=\"col\">reason</th></tr></thead>\n<tbody>",
            c.voids.len(),
            units::count(c.rounds_begun),
        );
        for v in &c.voids {
            let (workload, reason) = (safe(&v.workload), safe(&v.reason));
            let _ = writeln!(
                out,
                "<tr><th scope=\"row\">{workload}</th><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{reason}</td></tr>",
                v.block, v.round
            );
        }
        out.push_str("</tbody></table></div>\n");
    }
}

fn resolution(c: &Comparison, out: &mut String) {
    use crate::comparison::ControlState as State;
    let rows: Vec<_> = c.run.workloads.iter().filter_map(|w| c.resolution(&w.name, Metric::primary(w))).collect();
    if rows.is_empty() {
        return;
    }
    out.push_str(
        "<h2>What this run could see</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">workload</th>\
         <th scope=\"col\">metric</th><th class=\"n\" scope=\"col\">control</th><th class=\"n\" scope=\"col\">noise floor</th>\
         <th class=\"n\" scope=\"col\">smallest visible change</th><th scope=\"col\">verdict</th></tr></thead>\n<tbody>\n",
    );
    for r in rows {
        let share = |share: Option<f64>| share.map_or_else(|| units::NONE.to_owned(), units::percent);
        let state = match &r.state {
            State::Sound => "sound".to_owned(),
            State::Coarse(why) => format!("coarse: {why}"),
            State::Failed(why) => format!("failed: {why}"),
            State::Unknown(why) => format!("unknown: {why}"),
        };
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
            safe(&r.workload),
            r.metric.name(),
            r.control.map_or_else(|| units::NONE.to_owned(), |e| safe(&words::overhead(&e))),
            share(r.noise_floor),
            share(r.smallest_visible),
            safe(&state),
        );
    }
    out.push_str("</tbody></table></div>\n");
}

fn settings(c: &Comparison, out: &mut String) {
    let _ = writeln!(
        out,
        "<h2>Settings</h2>\n<dl class=\"facts\"><dt>seed</dt><dd>{}</dd><dt>blocks, rounds</dt><dd>{}, {}</dd>\
         <dt>binary</dt><dd><code>{}</code></dd></dl>\n<details><summary>Suite in full</summary><pre>{}</pre></details>",
        c.run.seed,
        c.run.blocks,
        c.run.rounds,
        safe(&c.run.binary_sha256),
        safe(&c.run.suite_toml),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::Severity;
    use crate::render::sample;

    fn written(c: &Comparison) -> String {
        let mut out = String::new();
        write(c, &mut out).unwrap();
        out
    }

    #[test]
    fn every_flag_has_its_evidence_beside_it() {
        let page = written(&sample::comparison());
        assert!(page.contains("<summary>fsync-not-durable</summary><p>guest flushed 520 times"), "{page}");
        assert!(page.contains("<small>not ranked</small>"), "{page}");
    }

    #[test]
    fn nothing_is_dropped_silently() {
        let page = written(&sample::comparison());
        for words in
            ["Skipped", "cgroups in hybrid mode", "Failures", "reset by the guest", "Void rounds", "canary 3.4 ms"]
        {
            assert!(page.contains(words), "{words}");
        }
        assert!(page.contains("more samples per block needed"), "{page}");
        assert!(written(&sample::short()).contains("no finite interval (5 blocks; 6 needed)"));
    }

    #[test]
    fn notes_weigh_less_than_doubts() {
        let flag = |severity| Flag { name: "nested", severity, evidence: "x".into() };
        assert!(flags(&[flag(Severity::Note)], Verdict::Trusted).contains("flag note"));
        assert!(flags(&[flag(Severity::Fatal)], Verdict::Invalid).contains("flag fatal"));
    }
}
