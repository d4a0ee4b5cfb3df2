//! Everything below the first screen: curves, all cells with their flags, environments, trouble, method and settings.

use anyhow::Result;
use workloads::facts::Program;

use crate::comparison::{Cell, Comparison, Environment, Finding, Flag, Metric, Outcome, Role, Verdict, Withheld};
use crate::record::WorkloadPlan;
use crate::render::markup::{Markup, add, markup};
use crate::render::plots::{Place, curves, heat, insertions};
use crate::render::words::{beside, seen};
use crate::render::{units, words};
use crate::statistics::Estimate;

const METHOD: &str = include_str!("method.html");
/// What holds where another program measured.
const IMPORTED: &str = include_str!("imported.html");

pub(super) fn write(c: &Comparison, out: &mut Markup) -> Result<()> {
    add!(out, "<h2>Workloads</h2>\n");
    for (at, plan) in c.run.workloads.iter().enumerate() {
        workload(c, plan, &anchor(at), out)?;
    }
    environments(c, out);
    trouble(c, out);
    resolution(c, out);
    add!(
        out,
        "<h2 id=\"method\">Method</h2>\n<div class=\"below\">\n{}</div>\n",
        Markup::file(if c.run.is_imported() { IMPORTED } else { METHOD })
    );
    glossary(out);
    settings(c, out);
    Ok(())
}

/// The words of the page that a stranger may not know.
fn glossary(out: &mut Markup) {
    let used = words::glossary::used(out.as_str());
    let words: Markup =
        used.iter().map(|entry| markup!("<dt>{}</dt><dd>{}</dd>\n", entry.word, entry.meaning)).collect();
    add!(out, "<h2 id=\"words\">Words</h2>\n<dl class=\"facts\">{}</dl>\n", words);
}

/// The place of a workload, by its number: a name may have anything in it.
pub(super) fn anchor(at: usize) -> String {
    format!("workload-{}", at + 1)
}

fn workload(c: &Comparison, plan: &WorkloadPlan, anchor: &str, out: &mut Markup) -> Result<()> {
    add!(
        out,
        "<h3 id=\"{}\">{}</h3>\n<p>{} <small>{}</small></p>\n",
        anchor,
        &plan.name,
        &plan.about,
        words::set(&c.run, "workloads", &plan.name, &plan.settings)
    );
    if let Some(schedule) = beside::schedule(plan) {
        add!(
            out,
            "<p>Open loop, {}: latencies are <b>response times</b>, from the moment at which an operation should have begun.</p>\n",
            &schedule
        );
    }
    let by_percentile = format!("{} by percentile", beside::latency(plan));
    let with_intervals = format!("by percentile, with {}", words::intervals(c));
    let pictures = [
        ("Latency", by_percentile.as_str(), curves::latencies(Place::Page, c, &plan.name)?),
        ("Overhead", with_intervals.as_str(), curves::overheads(Place::Page, c, &plan.name)?),
    ];
    if pictures.iter().any(|(.., picture)| picture.is_some()) {
        add!(out, "<div class=\"curves\">\n");
        for (title, caption, picture) in pictures {
            let Some(picture) = picture else { continue };
            add!(out, "<figure><figcaption>{} <span>{}</span></figcaption>\n{}</figure>\n", title, caption, picture);
        }
        add!(out, "</div>\n");
    }
    primary_table(c, plan, out);
    open_loop(c, plan, out);
    counted(c, plan, out);
    for text in beside::connections(c, &plan.name).into_iter().chain(beside::counters(c, &plan.name)) {
        add!(out, "<p>{}</p>\n", &text);
    }
    insertion_test(c, plan, out)?;
    heat_map(c, plan, out);
    all_metrics(c, plan, out);
    Ok(())
}

/// Opens a table that may be wider than the page: then it scrolls, by keys too, under a name of its own.
pub(super) fn scrolling(name: &str, out: &mut Markup) {
    add!(out, "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{}\"><table>\n", name);
}

/// Service times and lateness beside the response times of an open loop.
fn open_loop(c: &Comparison, plan: &WorkloadPlan, out: &mut Markup) {
    let rows = beside::beside(c, &plan.name);
    if rows.is_empty() {
        return;
    }
    let [_, headings @ ..] = beside::HEADINGS;
    let rows = rows.iter().map(|row| (row.fields[0].as_str(), &row.fields[1..]));
    figures(&format!("Service time and lateness of {}", plan.name), &Markup::default(), &headings, rows, out);
}

/// The host's counters beside the operations.
fn counted(c: &Comparison, plan: &WorkloadPlan, out: &mut Markup) {
    let Some(table) = seen::table(c, plan) else { return };
    let split = if table.headings.contains(&"user") {
        " user, system and guest are shares of the CPU time of all bursts;"
    } else {
        ""
    };
    let caption = markup!(
        "<caption>by operation, as the host counted, warm-ups included;{} page cache and memory as they are after a burst</caption>\n",
        split
    );
    let rows = table.rows.iter().map(|(name, figures)| (name.as_str(), figures.as_slice()));
    figures(&format!("The host's counters beside {}", plan.name), &caption, &table.headings, rows, out);
}

/// A table with a row of figures for each environment.
fn figures<'a>(
    name: &str,
    caption: &Markup,
    headings: &[&str],
    rows: impl Iterator<Item = (&'a str, &'a [String])>,
    out: &mut Markup,
) {
    scrolling(name, out);
    add!(out, "{}<thead><tr><th scope=\"col\">environment</th>", caption);
    for heading in headings {
        add!(out, "<th class=\"n\" scope=\"col\">{}</th>", *heading);
    }
    add!(out, "</tr></thead>\n<tbody>\n");
    for (environment, figures) in rows {
        add!(out, "<tr><th scope=\"row\">{}</th>", environment);
        for figure in figures {
            add!(out, "<td class=\"n\">{}</td>", figure);
        }
        add!(out, "</tr>\n");
    }
    add!(out, "</tbody></table></div>\n");
}

/// The place of every environment in the published insertion test.
fn insertion_test(c: &Comparison, plan: &WorkloadPlan, out: &mut Markup) -> Result<()> {
    let places: Vec<_> = c.insertions.iter().filter(|i| i.workload == plan.name).collect();
    let Some(first) = places.first() else { return Ok(()) };
    let picture = insertions::figure(Place::Page, &places)?;
    add!(
        out,
        "<figure class=\"insertions\"><figcaption>7500 inserts <span>{}</span></figcaption>\n{}</figure>\n<ul class=\"remarks\">\n",
        &beside::reckoned(first),
        picture
    );
    for i in &places {
        add!(out, "<li>{}: {}</li>\n", &i.environment, &beside::standing(i));
    }
    add!(out, "<li>{}</li>\n</ul>\n", &beside::population());
    Ok(())
}

/// When which latencies came.
fn heat_map(c: &Comparison, plan: &WorkloadPlan, out: &mut Markup) {
    let Some(heat) = heat::panels(c, &plan.name) else { return };
    add!(
        out,
        "<details open><summary>When which {}s came: from 1 {} to {} operations in one place</summary>\n<div class=\"heat\">\n",
        beside::latency(plan),
        heat::key(),
        units::count(heat.most)
    );
    for (name, length, picture) in &heat.panels {
        add!(out, "<figure><figcaption>{} <span>{} in all</span></figcaption>\n{}</figure>\n", name, length, picture);
    }
    add!(out, "</div></details>\n");
}

fn primary_table(c: &Comparison, plan: &WorkloadPlan, out: &mut Markup) {
    let metric = Metric::primary(plan);
    let rows: Vec<(&Environment, &Cell)> = words::tried(c)
        .filter(|e| e.role != Role::Baseline)
        .filter_map(|e| Some((e, c.cell(&plan.name, &e.plan.name, metric)?)))
        .collect();
    if rows.is_empty() {
        add!(out, "<p>No environment has a result.</p>\n");
        return;
    }
    let other =
        |cell: &Cell, metric: Metric| c.beside(cell, metric).map_or_else(|| markup!("{}", units::NONE), stacked);
    scrolling(&format!("Cost of {}", plan.name), out);
    add!(
        out,
        "<caption>{}</caption>\n<thead><tr><th scope=\"col\">environment</th><th class=\"n\" scope=\"col\">net</th>\
         <th class=\"n\" scope=\"col\">gross</th><th class=\"n\" scope=\"col\">tare<br/>({})</th>\
         <th class=\"n\" scope=\"col\">overhead</th><th class=\"n\" scope=\"col\">difference per operation</th>\
         <th class=\"n\" scope=\"col\">overhead p50</th><th class=\"n\" scope=\"col\">overhead p99</th>\
         <th class=\"n\" scope=\"col\">stalls per million</th>\
         <th class=\"n\" scope=\"col\">blocks</th><th class=\"n\" scope=\"col\">operations</th><th scope=\"col\">flags</th></tr></thead>\n<tbody>\n",
        beside::metric(plan),
        beside::plus(plan)
    );
    for (environment, cell) in rows {
        let class = row_class(environment, cell);
        let stalls = c.distribution(&plan.name, &cell.environment).and_then(|d| d.stalls_per_million);
        let stalls = stalls.map_or_else(|| units::NONE.to_owned(), units::three);
        add!(out, "<tr{}><th scope=\"row\">{}</th>", class, c.label(&cell.environment));
        numbers(cell, false, out);
        add!(
            out,
            "<td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>\n",
            other(cell, Metric::P50),
            other(cell, Metric::P99),
            stalls,
            cell.blocks,
            units::count(cell.operations),
            flags(&cell.flags, cell.verdict)
        );
    }
    add!(out, "</tbody></table></div>\n");
}

fn row_class(environment: &Environment, cell: &Cell) -> Markup {
    match (environment.role, cell.verdict) {
        (Role::Control, _) => markup!(" class=\"control\""),
        (_, Verdict::Invalid) => markup!(" class=\"invalid\""),
        _ => Markup::default(),
    }
}

/// Net, gross, tare, overhead and difference; one wide field of words where there are none.
fn numbers(cell: &Cell, one_line: bool, out: &mut Markup) {
    match &cell.finding {
        Ok(finding) => {
            let [net, gross, tare] = words::figures(cell, finding);
            let (overhead, difference) = if one_line {
                (overhead(cell), markup!("{}", words::difference(finding)))
            } else {
                (stacked(cell), difference(finding))
            };
            add!(
                out,
                "<td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n strong\">{}</td><td class=\"n\">{}</td>",
                net,
                gross,
                tare,
                overhead,
                difference
            );
        }
        Err(why) => {
            add!(out, "<td colspan=\"5\">{}</td>", &words::withheld(why));
        }
    }
}

/// The overhead of a cell with its interval below, which leaves the flags room.
fn stacked(cell: &Cell) -> Markup {
    match cell.overhead().and_then(|e| Some((e.value, e.interval?))) {
        Some((value, i)) => {
            let both = (i.low, i.high);
            let (ratio, interval) = (units::ratio(value, Some(both)), units::interval(value, both));
            markup!("{} <small class=\"ends\">{}</small>", ratio, interval)
        }
        None => overhead(cell),
    }
}

/// The difference per operation, likewise.
fn difference(finding: &Finding) -> Markup {
    let end = |ns| units::signed(units::duration(ns));
    let interval = finding.difference.interval;
    let ends = interval.map(|i| markup!(" <small class=\"ends\">{} to {}</small>", end(i.low), end(i.high)));
    markup!("{}{}", words::difference(finding), ends.unwrap_or_default())
}

/// The overhead of a cell, or why there is none.
fn overhead(cell: &Cell) -> Markup {
    match &cell.finding {
        Ok(finding) if finding.overhead.interval.is_some() => markup!("{}", words::overhead(&finding.overhead)),
        Ok(finding) => {
            // Why is said once, above: beside the number of blocks.
            markup!("{} <small class=\"ends\">no interval</small>", units::ratio(finding.overhead.value, None))
        }
        // In full in the table of all metrics.
        Err(Withheld::TooFewOperations { more, .. }) => {
            markup!("{} <small>({} more samples)</small>", units::NONE, units::count(*more))
        }
        Err(why) => markup!("<small>{}</small>", &words::withheld(why)),
    }
}

/// Flags that open to their evidence; without a script, and open in print.
fn flags(flags: &[Flag], verdict: Verdict) -> Markup {
    let mut out = Markup::default();
    if verdict == Verdict::Invalid {
        add!(out, "<small>not ranked</small>");
    }
    for flag in flags {
        let class = flag.severity.name();
        add!(
            out,
            "<details class=\"flag {}\"><summary>{}</summary><p>{}</p></details>",
            class,
            flag.name,
            flag.evidence
        );
    }
    out
}

fn all_metrics(c: &Comparison, plan: &WorkloadPlan, out: &mut Markup) {
    let cells: Vec<&Cell> = c.control.iter().chain(&c.cells).filter(|cell| cell.workload == plan.name).collect();
    if cells.is_empty() {
        return;
    }
    add!(out, "<details><summary>All metrics</summary>\n");
    scrolling(&format!("All metrics of {}", plan.name), out);
    add!(
        out,
        "<thead><tr><th scope=\"col\">environment</th>\
         <th scope=\"col\">metric</th><th class=\"n\" scope=\"col\">net</th><th class=\"n\" scope=\"col\">gross</th>\
         <th class=\"n\" scope=\"col\">tare<br/>(+ is worse)</th><th class=\"n\" scope=\"col\">overhead</th>\
         <th class=\"n\" scope=\"col\">per operation</th><th class=\"n\" scope=\"col\">geometric mean</th>\
         <th class=\"n\" scope=\"col\">ratio of means</th><th scope=\"col\">verdict</th><th scope=\"col\">flags</th></tr></thead>\n<tbody>\n"
    );
    let mut last = "";
    for cell in cells {
        // The name once per environment: a column of repetitions hides where the next one begins.
        let first = cell.environment != last;
        last = &cell.environment;
        let (class, name) = if first { (markup!(" class=\"group\""), c.label(last)) } else { (Markup::default(), "") };
        add!(out, "<tr{}><th scope=\"row\">{}</th><td>{}</td>", class, name, beside::called(plan, cell.metric));
        numbers(cell, true, out);
        let (geometric, means) = cell.finding.as_ref().map_or_else(
            |_| (units::NONE.to_owned(), units::NONE.to_owned()),
            |f| (words::overhead(&f.geometric), units::ratio(f.ratio_of_means, None)),
        );
        add!(
            out,
            "<td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td><td><small>{}</small></td></tr>\n",
            geometric,
            means,
            words::verdict(cell),
            &words::flags(cell)
        );
    }
    add!(
        out,
        "</tbody></table></div>\n<p class=\"quiet\"><small>{} {}</small></p></details>\n",
        words::POOLED,
        words::OTHER_MEANS
    );
}

fn environments(c: &Comparison, out: &mut Markup) {
    add!(out, "<h2 id=\"environments\">Environments</h2>\n");
    scrolling("Environments", out);
    add!(
        out,
        "<thead><tr><th scope=\"col\">environment</th><th scope=\"col\">runner</th>\
         <th class=\"n\" scope=\"col\">start</th><th class=\"n\" scope=\"col\">starts</th><th class=\"n\" scope=\"col\">stop</th><th class=\"n\" scope=\"col\">memory held</th>\
         <th class=\"n\" scope=\"col\">clock read</th><th scope=\"col\">network</th><th scope=\"col\">data</th>\
         <th scope=\"col\">inside, and flags</th></tr></thead>\n<tbody>\n"
    );
    for e in words::tried(c) {
        add!(
            out,
            "<tr><th scope=\"row\">{}</th><td>{}{}{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td>{}</td><td>{}</td><td>{}{}</td></tr>\n",
            called(c, &e.plan.name),
            e.plan.version.as_deref().unwrap_or(&e.plan.runner),
            environment_settings(c, e),
            programs(&e.plan.programs),
            time(words::start(e), e.start_ms),
            e.starts_ms.len(),
            time(words::stop(e), e.stop_ms),
            words::memory(e),
            e.clock_ns.map_or_else(|| units::NONE.to_owned(), units::duration),
            e.plan.network.to_string(),
            &e.plan.data_path,
            facts(e),
            flags(&e.flags, Verdict::Trusted)
        );
    }
    add!(out, "</tbody></table></div>\n");
    let skipped: Vec<(&Environment, &str)> = c
        .environments
        .iter()
        .filter_map(|e| match &e.outcome {
            Outcome::Skipped(why) => Some((e, why.as_str())),
            _ => None,
        })
        .collect();
    if !skipped.is_empty() {
        add!(out, "<h3>Skipped</h3>\n<dl class=\"facts\">\n");
        for (e, why) in skipped {
            add!(out, "<dt>{}</dt><dd class=\"message\">{}</dd>\n", &e.plan.name, why);
        }
        add!(out, "</dl>\n");
    }
}

/// Where an environment has another name in lists, both.
fn called(c: &Comparison, name: &str) -> Markup {
    let label = c.label(name);
    if label == name { markup!("{}", name) } else { markup!("{}<br/><small>{}</small>", label, name) }
}

/// Where each lies and which it was, by the start of its hash.
fn programs(programs: &[Program]) -> Markup {
    let mut out = Markup::default();
    for Program { path, version, sha256, script } in programs {
        let hash: String = sha256.as_deref().unwrap_or("can't be read").chars().take(16).collect();
        let version = version.as_deref().map_or_else(String::new, |v| format!(" {v}"));
        let kind = if *script == Some(true) { ", a script" } else { "" };
        add!(&mut out, "<br/><small>{}{}{}, SHA-256 {}</small>", path, version, kind, hash);
    }
    out
}

/// That of a start or a stop, with its interval.
fn time(words: String, ms: Option<Estimate>) -> Markup {
    match ms.and_then(|ms| ms.interval) {
        Some(i) => {
            let (low, high) = (units::duration(i.low * 1e6), units::duration(i.high * 1e6));
            markup!("{}<br/><small>{} to {}</small>", words, low, high)
        }
        None => markup!("{}", words),
    }
}

fn environment_settings(c: &Comparison, e: &Environment) -> Markup {
    let set = words::set(&c.run, "environments", &e.plan.name, &e.plan.settings);
    if set.is_empty() { Markup::default() } else { markup!("<br/><small>{}</small>", set) }
}

fn facts(e: &Environment) -> Markup {
    if e.facts.is_empty() {
        return Markup::default();
    }
    let facts = e.facts.iter().map(|(name, value)| markup!("<dt>{}</dt><dd>{}</dd>", name, value));
    markup!(
        "<details><summary>{} facts</summary><dl class=\"facts\">{}</dl></details>",
        e.facts.len(),
        facts.collect::<Markup>()
    )
}

/// The number of a block or a round, for people and as the pictures have it: the first is 1.
fn from_one(at: u32) -> u32 {
    at.saturating_add(1)
}

fn trouble(c: &Comparison, out: &mut Markup) {
    if !c.failures.is_empty() {
        add!(out, "<h2 id=\"failures\">Failures</h2>\n");
        scrolling("Failures", out);
        add!(
            out,
            "<thead><tr><th scope=\"col\">environment</th><th scope=\"col\">workload</th>\
             <th class=\"n\" scope=\"col\">block</th><th class=\"n\" scope=\"col\">round</th><th scope=\"col\">step</th>\
             <th scope=\"col\">message</th></tr></thead>\n<tbody>\n"
        );
        for f in &c.failures {
            add!(
                out,
                "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td>\
                 <td class=\"message\">{}</td></tr>\n",
                &f.environment,
                f.workload.as_deref().unwrap_or(units::NONE),
                from_one(f.block),
                f.round.map_or_else(|| units::NONE.to_owned(), |round| from_one(round).to_string()),
                f.step.name(),
                &f.message
            );
        }
        add!(out, "</tbody></table></div>\n");
    }
    if !c.voids.is_empty() {
        add!(
            out,
            "<h2 id=\"voids\">Void rounds</h2>\n<p>{} of {} rounds were dropped for all environments and replaced.</p>\n",
            c.voids.len(),
            units::count(c.rounds_begun)
        );
        scrolling("Void rounds", out);
        add!(
            out,
            "<thead><tr><th scope=\"col\">workload</th><th class=\"n\" scope=\"col\">block</th><th class=\"n\" scope=\"col\">round</th>\
             <th scope=\"col\">reason</th></tr></thead>\n<tbody>\n"
        );
        for v in &c.voids {
            add!(
                out,
                "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>\n",
                v.workload,
                from_one(v.block),
                from_one(v.round),
                v.reason
            );
        }
        add!(out, "</tbody></table></div>\n");
    }
}

fn resolution(c: &Comparison, out: &mut Markup) {
    use crate::comparison::ControlState as State;
    let rows: Vec<_> = c.run.workloads.iter().filter_map(|w| c.resolution(&w.name, Metric::primary(w))).collect();
    if rows.is_empty() {
        return;
    }
    add!(out, "<h2>What this run could see</h2>\n");
    scrolling("What this run could see", out);
    add!(
        out,
        "<thead><tr><th scope=\"col\">workload</th>\
         <th scope=\"col\">metric</th><th class=\"n\" scope=\"col\">control</th><th class=\"n\" scope=\"col\">noise floor</th>\
         <th class=\"n\" scope=\"col\">smallest visible change</th>\
         <th class=\"n\" scope=\"col\">nothing told below</th><th scope=\"col\">verdict</th></tr></thead>\n<tbody>\n"
    );
    for r in rows {
        let share = |share: Option<f64>| share.map_or_else(|| units::NONE.to_owned(), units::percent);
        let state = match &r.state {
            State::Sound => "sound".to_owned(),
            State::Coarse(why) => format!("coarse: {why}"),
            State::Failed(why) => format!("failed: {why}"),
            State::Unknown(why) => format!("unknown: {why}"),
        };
        add!(
            out,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td>{}</td></tr>\n",
            &r.workload,
            r.metric.name(),
            r.control.map_or_else(|| units::NONE.to_owned(), |e| words::overhead(&e)),
            share(r.noise_floor),
            share(r.smallest_visible),
            c.told(&r.workload, r.metric).map_or_else(|| units::NONE.to_owned(), units::percent_above),
            &state
        );
    }
    add!(out, "</tbody></table></div>\n");
}

fn settings(c: &Comparison, out: &mut Markup) {
    let known = |number: String| if c.run.is_imported() { units::NONE.to_owned() } else { number };
    add!(
        out,
        "<h2 id=\"settings\">Settings</h2>\n<dl class=\"facts\"><dt>seed</dt><dd>{}</dd><dt>blocks, rounds</dt><dd>{}, {}</dd>\
         <dt>binary</dt><dd><code>{}</code></dd></dl>\n<details><summary>Suite in full</summary><pre>{}</pre></details>\n",
        known(c.run.seed.to_string()),
        c.run.blocks,
        known(c.run.rounds.to_string()),
        &c.run.binary_sha256,
        &c.run.suite_toml
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::Severity;
    use crate::render::sample;

    fn written(c: &Comparison) -> String {
        let mut out = Markup::default();
        write(c, &mut out).unwrap();
        out.as_str().to_owned()
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
        let short = written(&sample::short());
        assert!(short.contains(">no interval</small>") && !short.contains("6 needed)</small>"));
        assert!(short.contains("with no intervals, which take 6 blocks") && !short.contains("with 95"), "{short}");
    }

    #[test]
    fn blocks_and_rounds_are_counted_from_one() {
        let mut c = sample::comparison();
        let void = &mut c.voids[0];
        (void.block, void.round) = (0, 4);
        let row = format!("<td class=\"n\">1</td><td class=\"n\">5</td><td>{}", void.reason);
        assert!(written(&c).contains(&row));
    }

    #[test]
    fn notes_weigh_less_than_doubts() {
        let flag = |severity| Flag { name: "nested", severity, evidence: "x".into() };
        assert!(flags(&[flag(Severity::Note)], Verdict::Trusted).as_str().contains("flag note"));
        assert!(flags(&[flag(Severity::Fatal)], Verdict::Invalid).as_str().contains("flag fatal"));
    }
}
