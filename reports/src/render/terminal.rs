//! The report for a terminal: a sentence per environment, how far to trust it, then a small table per workload.

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};

use super::escape::one_line;
use super::words::{self, Tone, beside, why};
use super::{Render, units};
use crate::comparison::{Cell, Comparison, Metric, Role, Verdict, Withheld};
use crate::explain::{Explanation, explain};
use crate::record::{CALIBRATED, CONTROL, TUNED};

/// Columns of text where nobody says how many there are.
pub const WIDTH: usize = 100;
/// Fewer columns than these have no room for a table.
pub const NARROWEST: usize = 60;
/// With fewer columns than these a table has room for the cost alone, and flags stand below their line.
const ROOMY: usize = 90;
/// Longest name of an environment that the tables make room for.
const NAME: usize = 24;
/// Longest change of a ladder that its table makes room for.
const RUNG: usize = 40;
/// Room for less of a sentence isn't worth having.
const SOME_WORDS: usize = 10;

/// The format `terminal`.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    /// Whether to write ANSI colours. The caller knows about terminals and `NO_COLOR`.
    pub colour: bool,
    /// Columns of text, at least [`NARROWEST`]; whatever wraps, wraps there.
    pub width: usize,
}

#[derive(Debug, Clone, Copy)]
enum Style {
    Bold,
    Dim,
    Green,
    Yellow,
    Red,
}

/// Facts of the host that the heading shows.
const HOST: &[&str] = &["os", "kernel", "cpu", "cpus", "memory", "data file system", "data device", CALIBRATED, TUNED];

impl Terminal {
    fn paint(self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Green => "32",
            Style::Yellow => "33",
            Style::Red => "31",
        };
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn narrow(self) -> bool {
        self.width < ROOMY
    }

    /// Longest name of an environment that a table has room for.
    fn name(self) -> usize {
        if self.narrow() { NAME / 2 + 2 } else { NAME }
    }

    fn heading(self, c: &Comparison, out: &mut String) {
        let run = &c.run;
        for line in words::not_durable(c).iter().flat_map(|words| wrapped(words, self.width)) {
            say!(out, "{}", self.paint(Style::Red, &line));
        }
        let title = fit(&format!("{} over {}", one_line(&run.suite), one_line(&run.baseline)), self.width - 2 - NAME);
        say!(out, "{}  {}", self.paint(Style::Bold, &title), self.paint(Style::Dim, &fit(&one_line(&run.id), NAME)));
        // What names the machine; the page and the JSON have the rest.
        let named = |(name, _): &&(String, String)| HOST.contains(&name.as_str());
        let host = run.host.iter().filter(named).map(|(name, value)| format!("{name} {}", one_line(value)));
        for line in wrapped(&host.collect::<Vec<_>>().join(", "), self.width) {
            say!(out, "{}", self.paint(Style::Dim, &line));
        }
        for reason in &c.invalid {
            for line in wrapped(&format!("invalid: {}", one_line(reason)), self.width) {
                say!(out, "{}", self.paint(Style::Red, &line));
            }
        }
        out.push('\n');
    }

    /// What each setting costs, workload by workload.
    fn explanation(self, explanation: &Explanation, out: &mut String) {
        for ladder in &explanation.ladders {
            let name = one_line(&ladder.workload);
            say!(out, "{}", self.paint(Style::Bold, &fit(&format!("why {name}"), self.width)));
            let sentence = one_line(&words::plain(&why::sentence(explanation, ladder)));
            wrapped(&sentence, self.width).iter().for_each(|line| say!(out, "{line}"));
            let (rungs, alternatives) = (why::rungs(ladder), why::alternatives(ladder));
            let mut table = plain_table(&why::HEADINGS, &[1, 2, 4]);
            for line in rungs.iter().chain(&alternatives) {
                let [name, figures @ ..] = line.fields.clone();
                table.add_row([fit(&one_line(&name), RUNG)].into_iter().chain(figures));
            }
            let mut lines = table.lines().map(|line| fit(line.trim_end(), self.width));
            say!(out, "{}", self.paint(Style::Dim, &lines.next().unwrap_or_default()));
            for (i, line) in rungs.iter().chain(&alternatives).enumerate() {
                if i == rungs.len() {
                    say!(out, "{}", self.paint(Style::Dim, why::ALONE));
                }
                let text = lines.next().unwrap_or_default();
                say!(out, "{}", if line.strong { text } else { self.paint(Style::Dim, &text) });
                let remark = Some(one_line(&line.remark)).filter(|remark| !remark.is_empty());
                for words in remark.iter().flat_map(|remark| wrapped(remark, self.width - 4)) {
                    say!(out, "    {}", self.paint(Style::Dim, &words));
                }
            }
            out.push('\n');
        }
        wrapped(why::READING, self.width).iter().for_each(|line| say!(out, "{}", self.paint(Style::Dim, line)));
        out.push('\n');
        explanation.left_out.iter().for_each(|line| self.item(units::NONE, line, out));
        if !explanation.left_out.is_empty() {
            out.push('\n');
        }
    }

    fn sentences(self, c: &Comparison, out: &mut String) {
        let width =
            words::compared(c).map(|e| one_line(c.label(&e.plan.name)).chars().count()).max().unwrap_or(0).min(NAME);
        for environment in words::compared(c) {
            let name = fit(&one_line(c.label(&environment.plan.name)), width);
            let sentence = one_line(&words::plain(&words::sentence(c, environment)));
            for (i, line) in wrapped(&sentence, self.width - width - 2).iter().enumerate() {
                let label = if i == 0 { self.paint(Style::Bold, &name) } else { String::new() };
                let pad = width - if i == 0 { name.chars().count() } else { 0 };
                say!(out, "{label}{:pad$}  {line}", "");
            }
        }
        out.push('\n');
    }

    fn trust(self, c: &Comparison, out: &mut String) {
        let strip = words::trust(c);
        let label = strip.iter().map(|t| t.label.chars().count()).max().unwrap_or(0);
        let value = strip.iter().map(|t| t.value.chars().count()).max().unwrap_or(0);
        for trust in strip {
            let style = match trust.tone {
                Tone::Good => Style::Green,
                Tone::Care => Style::Yellow,
                Tone::Bad => Style::Red,
            };
            let sign = self.paint(style, trust.tone.sign());
            if self.narrow() {
                say!(out, "{sign} {:label$}  {}", trust.label, trust.value);
                if !trust.detail.is_empty() {
                    self.item(" ", &trust.detail, out);
                }
                continue;
            }
            let room = self.width.saturating_sub(label + value + 6);
            let detail = self.paint(Style::Dim, &fit(&one_line(&trust.detail), room));
            say!(out, "{sign} {:label$}  {:value$}  {detail}", trust.label, trust.value);
        }
        for remark in &c.remarks {
            for (i, line) in wrapped(&one_line(remark), self.width - 2).iter().enumerate() {
                say!(out, "{} {line}", if i == 0 { "·" } else { " " });
            }
        }
        out.push('\n');
    }

    /// The baseline's own figures, where there is nothing to hold against them.
    fn alone(self, c: &Comparison, out: &mut String) {
        let Some(alone) = words::alone(c) else { return };
        wrapped(&alone, self.width).iter().for_each(|line| say!(out, "{line}"));
        let mut table = plain_table(&["workload", "p50", "p99", "throughput"], &[1, 2, 3]);
        for d in c.distributions.iter().filter(|d| d.environment == c.run.baseline) {
            let at = |q: f64| d.service_quantile(q).map_or_else(|| units::NONE.into(), units::duration);
            let streams = c.run.workloads.iter().any(|w| w.name == d.workload && w.streams);
            let rate = match d.operations_per_second {
                0.0 => units::NONE.into(),
                _ if streams => units::bytes_per_second(d.bytes_per_second),
                rate => units::per_second(rate),
            };
            table.add_row([fit(&one_line(&d.workload), NAME), at(0.5), at(0.99), rate]);
        }
        table.lines().for_each(|line| say!(out, "{}", fit(line.trim_end(), self.width)));
        out.push('\n');
    }

    fn workloads(self, c: &Comparison, out: &mut String) {
        let names: Vec<&str> =
            words::tried(c).filter(|e| e.role != Role::Baseline).map(|e| e.plan.name.as_str()).collect();
        let groups: Vec<(&str, Vec<&Cell>)> = c
            .run
            .workloads
            .iter()
            .map(|w| (w.name.as_str(), names.iter().filter_map(|name| words::primary(c, &w.name, name)).collect()))
            .filter(|(_, cells): &(_, Vec<_>)| !cells.is_empty())
            .collect();
        // One table for all, so that its columns stand under each other; its lines are then told apart again.
        let columns = if self.narrow() { COST } else { COLUMNS.len() };
        let right: Vec<usize> = [1, 2, 4, 5].into_iter().filter(|column| *column < columns).collect();
        let mut table = plain_table(&COLUMNS[..columns], &right);
        for cell in groups.iter().flat_map(|(_, cells)| cells) {
            table.add_row(row(c, cell, self.name()).into_iter().take(columns));
        }
        let mut lines = table.lines().map(|line| fit(line.trim_end(), self.width));
        let header = lines.next().unwrap_or_default();
        for (workload, cells) in groups {
            let plan = c.run.workloads.iter().find(|w| w.name == workload);
            let primary = plan.map_or_else(String::new, beside::metric);
            let about = plan.map_or("", |w| w.about.as_str());
            // The control's own net is one copy of the baseline; everybody else's is both.
            let both = |cell: &&&Cell| cell.environment != CONTROL || cells.len() == 1;
            let net =
                cells.iter().filter(both).find_map(|cell| Some(words::figures(cell, cell.finding.as_ref().ok()?)));
            let net =
                net.map_or_else(String::new, |[net, ..]| format!(", net {net}; {}", plan.map_or("", beside::plus)));
            self.title(workload, &format!("{primary}{net}"), about, out);
            say!(out, "{}", self.paint(Style::Dim, &header));
            for cell in cells {
                let line = lines.next().unwrap_or_default();
                let control = c.environment(&cell.environment).is_some_and(|e| e.role == Role::Control);
                let quiet = control || cell.verdict == Verdict::Invalid;
                say!(out, "{}", if quiet { self.paint(Style::Dim, &line) } else { line });
                let flags = flagged(cell);
                if self.narrow() && !flags.is_empty() {
                    self.item(" ⚑", &flags, out);
                }
            }
            self.beside(c, workload, out);
            self.insertions(c, workload, out);
            out.push('\n');
        }
    }

    /// The name of a workload, its figure, and what it does, on one line where there is room.
    fn title(self, workload: &str, figure: &str, about: &str, out: &mut String) {
        let room = self.width.saturating_sub(2 + figure.chars().count());
        let name = fit(&one_line(workload), room.min(self.width / 2));
        let room = room.saturating_sub(2 + name.chars().count());
        let name = self.paint(Style::Bold, &name);
        if self.narrow() || room < SOME_WORDS {
            say!(out, "{name}  {figure}");
            self.item(" ", about, out);
        } else {
            say!(out, "{name}  {figure}  {}", self.paint(Style::Dim, &fit(&one_line(about), room)));
        }
    }

    /// Service time and lateness of an open loop, and what was counted.
    fn beside(self, c: &Comparison, workload: &str, out: &mut String) {
        let rows = beside::beside(c, workload);
        if self.narrow() {
            for row in &rows {
                let [name, figures @ ..] = &row.fields;
                let told =
                    beside::HEADINGS[1..].iter().zip(figures).map(|(heading, figure)| format!("{heading} {figure}"));
                self.item("·", &format!("{name}: {}", told.collect::<Vec<_>>().join(", ")), out);
            }
        } else if !rows.is_empty() {
            let mut table = plain_table(&beside::HEADINGS, &[1, 2, 3, 4, 5, 6]);
            for row in rows {
                let mut fields = row.fields;
                fields[0] = fit(&one_line(&fields[0]), NAME);
                table.add_row(fields);
            }
            self.table(&table, out);
        }
        for text in beside::connections(c, workload).into_iter().chain(beside::counters(c, workload)) {
            self.item("·", &text, out);
        }
    }

    /// The place in the published insertion test.
    fn insertions(self, c: &Comparison, workload: &str, out: &mut String) {
        let places: Vec<_> = c.insertions.iter().filter(|i| i.workload == workload).collect();
        let Some(first) = places.first() else { return };
        let mut table = plain_table(&["environment", "7500 inserts", "", ""], &[1]);
        for i in &places {
            let name = fit(&one_line(&i.environment), NAME);
            let (seconds, interval) = split(&beside::inserts(i));
            table.add_row([name, seconds, interval, beside::standing(i)]);
        }
        self.table(&table, out);
        self.item("·", &format!("{}; {}", beside::population(), beside::reckoned(first)), out);
    }

    fn table(self, table: &Table, out: &mut String) {
        for (i, line) in table.lines().map(|line| fit(line.trim_end(), self.width)).enumerate() {
            say!(out, "{}", if i == 0 { self.paint(Style::Dim, &line) } else { line });
        }
    }

    fn environments(self, c: &Comparison, out: &mut String) {
        if self.narrow() {
            for e in words::tried(c) {
                let clock = e.clock_ns.map_or_else(|| units::NONE.to_owned(), units::duration);
                let version = e.plan.version.as_deref().unwrap_or(&e.plan.runner);
                let (name, start, stop, memory) =
                    (c.label(&e.plan.name), words::start(e), words::stop(e), words::memory(e));
                let text = format!(
                    "{name}: start {start}, stop {stop}, memory {memory}, clock read {clock}, {version}, {}",
                    e.plan.network
                );
                self.item("·", &text, out);
            }
            out.push('\n');
            return;
        }
        let mut table =
            plain_table(&["environment", "start", "stop", "memory", "clock read", "runner", "network"], &[1, 2, 3, 4]);
        for e in words::tried(c) {
            let clock = e.clock_ns.map_or_else(|| units::NONE.to_owned(), units::duration);
            let version = e.plan.version.as_deref().unwrap_or(&e.plan.runner);
            let name = fit(&one_line(c.label(&e.plan.name)), NAME);
            table.add_row([
                name,
                words::start(e),
                words::stop(e),
                words::memory(e),
                clock,
                fit(&one_line(version), 32),
                one_line(&e.plan.network.to_string()),
            ]);
        }
        self.table(&table, out);
        out.push('\n');
    }

    /// What follows from evidence, environment by environment.
    fn hints(self, c: &Comparison, out: &mut String) {
        let reasons = words::reasons(c);
        for reason in &reasons {
            self.item("?", &format!("why {}: {}", reason.of(c), reason.sentence(&c.run)), out);
        }
        if !reasons.is_empty() {
            out.push('\n');
        }
    }

    fn flags(self, c: &Comparison, out: &mut String) {
        for told in words::marks(c) {
            self.item("⚑", &format!("{}, {}: {}", told.name, told.place(), told.evidence()), out);
        }
        if let Some(notes) = words::notes(c) {
            self.item("·", &notes, out);
        }
        for failure in &c.failures {
            let place = failure.workload.as_deref().unwrap_or("start");
            let text = format!(
                "{} failed in {place}, block {}, at {}: {}",
                failure.environment,
                failure.block,
                failure.step.name(),
                failure.message
            );
            self.item("✗", &text, out);
        }
        for text in withheld(c) {
            self.item(units::NONE, &text, out);
        }
        out.push('\n');
    }

    fn item(self, sign: &str, text: &str, out: &mut String) {
        for (i, line) in wrapped(&one_line(text), self.width - 2).iter().enumerate() {
            say!(out, "{} {}", if i == 0 { sign } else { " " }, self.paint(Style::Dim, line));
        }
    }
}

impl Render for Terminal {
    fn render(&self, c: &Comparison) -> Result<Vec<u8>> {
        let mut out = String::new();
        self.heading(c, &mut out);
        if let Some(explanation) = explain(c) {
            self.explanation(&explanation, &mut out);
        }
        self.sentences(c, &mut out);
        self.trust(c, &mut out);
        self.alone(c, &mut out);
        self.workloads(c, &mut out);
        if let Some(pooled) = words::pooled(c) {
            wrapped(pooled, self.width).iter().for_each(|line| say!(out, "{}", self.paint(Style::Dim, line)));
            out.push('\n');
        }
        self.environments(c, &mut out);
        self.hints(c, &mut out);
        self.flags(c, &mut out);
        say!(out, "again: {}", one_line(&c.run.command));
        Ok(out.into_bytes())
    }
}

fn plain_table(header: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().copied());
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    for index in right {
        if let Some(column) = table.column_mut(*index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Of a table; the first few are all that a narrow one has room for.
const COLUMNS: [&str; 7] = ["environment", "gross", "tare", "overhead", "p50", "p99", "flags"];
const COST: usize = 4;

/// The doubts of a cell in words.
fn flagged(cell: &Cell) -> String {
    let not_ranked = if cell.finding.is_ok() && cell.verdict == Verdict::Invalid { "not ranked: " } else { "" };
    format!("{not_ranked}{}", cell.marks().map(|flag| flag.name).collect::<Vec<_>>().join(" "))
}

fn row(c: &Comparison, cell: &Cell, longest: usize) -> Vec<String> {
    let name = fit(&one_line(c.label(&cell.environment)), longest);
    let flags = flagged(cell);
    let none = || units::NONE.to_owned();
    match &cell.finding {
        Ok(finding) => {
            let ratio = |metric: Metric| {
                let other = c.beside(cell, metric).and_then(Cell::overhead);
                other.map_or_else(none, |e| units::ratio(e.value, e.interval.map(|i| (i.low, i.high))))
            };
            let [_, gross, tare] = words::figures(cell, finding);
            vec![name, gross, tare, words::overhead(&finding.overhead), ratio(Metric::P50), ratio(Metric::P99), flags]
        }
        Err(why) => vec![name, none(), none(), fit(&words::withheld(why), 19), none(), none(), flags],
    }
}

/// A figure and what stands in brackets behind it.
fn split(text: &str) -> (String, String) {
    let (figure, rest) = text.split_once(" (").unwrap_or((text, ""));
    (figure.to_owned(), if rest.is_empty() { String::new() } else { format!("({rest}") })
}

/// The percentiles that a report leaves out, and what they need: a line for each metric.
fn withheld(c: &Comparison) -> Vec<String> {
    let line = |metric: Metric| {
        let (mut workloads, mut most) = (Vec::new(), 0);
        for cell in c.cells.iter().filter(|cell| cell.metric == metric) {
            if let Err(Withheld::TooFewOperations { more, .. }) = cell.finding {
                words::once(&mut workloads, &cell.workload);
                most = most.max(more);
            }
        }
        let (metric, places) = (metric.name(), workloads.join(", "));
        let needs =
            format!("{metric} withheld in {places}: up to {} more samples per block needed", units::count(most));
        (!workloads.is_empty()).then_some(needs)
    };
    Metric::ALL.into_iter().filter_map(line).collect()
}

/// Cut with an ellipsis.
fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Lines of at most `width` characters, broken between words; a longer word has a line of its own, cut.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("there is always a line");
        let used = last.chars().count();
        if used > 0 && used + 1 + word.chars().count() > width {
            lines.push(fit(word, width));
        } else {
            if used > 0 {
                last.push(' ');
            }
            last.push_str(&fit(word, width));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn connections_that_came_into_a_box_are_said_of_their_workload() {
        let mut c = sample::comparison();
        let way = |words: &str| ("connection of net/rr".to_string(), words.to_string());
        assert!(!text(&c, false).contains("connections: "), "all were opened by the boxes");
        for e in &mut c.environments {
            let words = if e.plan.name == "qemu" { "inbound, by a published port" } else { "inbound, directly" };
            e.facts.push(way(words));
        }
        let drawn = text(&c, false).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(drawn.matches("connections: inbound, directly (bare, ").count(), 1, "{drawn}");
        assert!(drawn.contains("); inbound, by a published port (qemu)"), "{drawn}");
    }

    #[test]
    fn an_explanation_comes_before_all_else() {
        let text = text(&crate::explain::tests::both(), false);
        let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} in {text}"));
        assert!(at("why disk/fsync") < at("+ bus=ide") && at("+ bus=ide") < at("sum of the steps"));
        assert!(at("sum of the steps") < at(why::ALONE) && at(why::ALONE) < at("a=b: no"));
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    }

    fn text(c: &Comparison, colour: bool) -> String {
        String::from_utf8(Terminal { colour, width: WIDTH }.render(c).unwrap()).unwrap()
    }

    #[test]
    fn nothing_is_wider_than_the_terminal() {
        for c in [sample::comparison(), sample::large(), sample::short(), sample::hostile()] {
            for width in [NARROWEST, 75, 90, WIDTH, 140] {
                let text = String::from_utf8(Terminal { colour: false, width }.render(&c).unwrap()).unwrap();
                for line in text.lines().filter(|l| !l.starts_with("again: ")) {
                    assert!(line.chars().count() <= width, "{} columns of {width}: {line}", line.chars().count());
                }
            }
        }
    }

    #[test]
    fn a_narrow_terminal_has_every_cost_and_every_flag_whole() {
        let c = sample::comparison();
        let text = String::from_utf8(Terminal { colour: false, width: NARROWEST }.render(&c).unwrap()).unwrap();
        let expected = "\
environment      gross        tare  overhead
control         155 µs     +302 ns  1.00× (0.97–1.04)
runc            158 µs    +3.01 µs  1.02× (0.99–1.05)
gvisor          323 µs     +168 µs  2.09× (2.02–2.16)
qemu            665 µs     +510 µs  4.3× (4.2–4.4)
 ⚑ emulated-cpu
qemu-unsafe    86.8 µs    −68.2 µs  0.56× (0.54–0.58)
 ⚑ not ranked: fsync-not-durable emulated-cpu
";
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("· gvisor: start 74.0 ms, stop 7.40 ms, memory"), "{text}");
    }

    #[test]
    fn a_workload_reads_like_this() {
        let text = text(&sample::comparison(), false);
        let expected = "\
sqlite/commit  time per operation, net 155 µs; + is worse  Commits one durable row to SQLite.
environment      gross        tare  overhead               p50    p99  flags
control         155 µs     +302 ns  1.00× (0.97–1.04)    1.00×  1.00×
runc            158 µs    +3.01 µs  1.02× (0.99–1.05)    1.02×  1.02×
gvisor          323 µs     +168 µs  2.09× (2.02–2.16)    2.09×  2.09×
qemu            665 µs     +510 µs  4.3× (4.2–4.4)        4.3×   4.3×  emulated-cpu
qemu-unsafe    86.8 µs    −68.2 µs  0.56× (0.54–0.58)    0.56×  0.56×  not ranked: fsync-not-durabl…
";
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("gvisor       74.0 ms  7.40 ms  31.0 MiB"), "start and memory\n{text}");
    }

    #[test]
    fn colour_is_only_there_when_asked_for_and_adds_no_words() {
        let c = sample::comparison();
        let plain = text(&c, false);
        assert!(!plain.contains('\u{1b}'));
        let mut stripped = text(&c, true);
        for code in ["1", "2", "31", "32", "33", "0"] {
            stripped = stripped.replace(&format!("\u{1b}[{code}m"), "");
        }
        assert_eq!(stripped, plain);
    }

    #[test]
    fn an_engine_can_not_drive_the_terminal() {
        assert!(!text(&sample::hostile(), false).contains('\u{1b}'));
    }

    #[test]
    fn too_few_blocks_are_said() {
        assert!(text(&sample::short(), false).contains("no finite interval (5 blocks; 6 needed)"));
    }

    #[test]
    fn words_wrap_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("abcdefghij k", 5), ["abcd…", "k"]);
        assert_eq!(wrapped("", 5), [""]);
    }
}
