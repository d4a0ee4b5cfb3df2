//! Words that all formats share: a sentence per environment, the trust strip, the text of a cell.

pub mod beside;
pub mod glossary;
mod marks;
mod neighbour;
mod reasons;
pub mod seen;
mod trust;
pub mod why;

use std::collections::{BTreeMap, BTreeSet};

pub use marks::{Told, marks, once};
pub use reasons::{Reason, reasons, scope};
pub use trust::{Tone, Trust, trust};

use super::units;
use crate::comparison::{
    Cell, Claim, Comparison, Environment, Finding, Metric, Outcome, Role, Severity, TWO_STORIES, Unit, Verdict,
    Withheld,
};
use crate::record::{CONTROL, Run, WorkloadPlan};
use crate::statistics::{Estimate, FEWEST_FOR_INTERVAL};

/// A piece of a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it is.
    Plain(String),
    /// The figures a reader looks for.
    Strong(String),
}

impl Piece {
    /// The words, without their weight.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Piece::Plain(text) | Piece::Strong(text) => text,
        }
    }
}

/// Why a run of the baseline alone has nothing to show, and what to do about it; `None` where there is something to compare, or
/// where what is missing failed.
#[must_use]
pub fn alone(c: &Comparison) -> Option<String> {
    let run = &c.run;
    if !c.failures.is_empty() || run.environments.iter().any(|e| e.name != run.baseline && e.name != CONTROL) {
        return None;
    }
    let how = match run.suite.strip_prefix("import ") {
        Some(program) => format!(
            "import a second one, as in `tarebench import {program} {}=FILE other=FILE`",
            super::escape::one_line(&run.baseline)
        ),
        None => "measure a second environment in the same run".into(),
    };
    Some(format!("nothing to compare with: {how}"))
}

/// The words of a sentence as one line.
#[must_use]
pub fn plain(pieces: &[Piece]) -> String {
    pieces.iter().map(Piece::text).collect()
}

/// The first line of a report whose baseline keeps nothing: what a disk figure is a figure of there.
#[must_use]
pub fn not_durable(c: &Comparison) -> Option<String> {
    let why = c.forgets.as_deref()?;
    Some(format!("nothing here is durable, {} included: {}", c.run.baseline, super::escape::one_line(why)))
}

/// A value in the unit of its cell.
#[must_use]
pub fn quantity(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Nanoseconds => units::duration(value),
        Unit::OperationsPerSecond => units::per_second(value),
        Unit::BytesPerSecond => units::bytes_per_second(value),
    }
}

/// An overhead: `3.1× (2.9–3.4)`, or without interval where there is none.
#[must_use]
pub fn overhead(estimate: &Estimate) -> String {
    match estimate.interval {
        Some(i) => {
            let both = (i.low, i.high);
            format!("{} ({})", units::ratio(estimate.value, Some(both)), units::interval(estimate.value, both))
        }
        None => format!("{} (no interval)", units::ratio(estimate.value, None)),
    }
}

/// Why an overhead has no interval.
#[must_use]
pub fn no_interval(blocks: u32) -> String {
    let plural = if blocks == 1 { "" } else { "s" };
    if blocks < FEWEST_FOR_INTERVAL {
        format!("no finite interval ({blocks} block{plural}; {FEWEST_FOR_INTERVAL} needed)")
    } else {
        format!("no finite interval ({blocks} block{plural})")
    }
}

/// The intervals that a picture shows: `95 % intervals`, or why there are none.
#[must_use]
pub fn intervals(c: &Comparison) -> String {
    if c.blocks < FEWEST_FOR_INTERVAL {
        format!("no intervals, which take {FEWEST_FOR_INTERVAL} blocks")
    } else {
        format!("{} intervals", units::percent(c.method.confidence))
    }
}

/// The difference per operation: `+310 µs`.
#[must_use]
pub fn difference(finding: &Finding) -> String {
    units::signed(units::duration(finding.difference.value))
}

/// The difference with its interval: `+310 µs (+290 µs to +340 µs)`.
#[must_use]
pub fn difference_interval(finding: &Finding) -> String {
    let end = |ns| units::signed(units::duration(ns));
    match finding.difference.interval {
        Some(i) => format!("{} ({} to {})", difference(finding), end(i.low), end(i.high)),
        None => difference(finding),
    }
}

/// Net, gross and the difference with its sign, for a table: a plus is worse. How much is done a second is turned into the time that
/// an operation costs; of bytes a second it is what there are less.
#[must_use]
pub fn figures(cell: &Cell, finding: &Finding) -> [String; 3] {
    let (unit, turn): (Unit, fn(f64) -> f64) = match cell.unit {
        Unit::OperationsPerSecond => (Unit::Nanoseconds, |per_second| 1e9 / per_second),
        unit => (unit, |value| value),
    };
    let (net, gross) = (turn(finding.net), turn(finding.gross));
    let tare = if unit == Unit::BytesPerSecond { net - gross } else { gross - net };
    [quantity(unit, net), quantity(unit, gross), units::signed(quantity(unit, tare))]
}

/// The settings that the suite sets, as `key=value`, or `defaults`; of a run without a suite, an import, all that are known.
/// `section` is `environments` or `workloads`.
#[must_use]
pub fn set(run: &Run, section: &str, name: &str, all: &BTreeMap<String, String>) -> String {
    let told = |pairs: Vec<(&String, &String)>| {
        let pairs: Vec<_> = pairs.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        pairs.join(", ")
    };
    let suite = run.suite_toml.parse::<toml::Table>().unwrap_or_default();
    // The control is the baseline under another name.
    let name = if name == CONTROL { &run.baseline } else { name };
    let Some(own) = suite.get(section).and_then(|entries| entries.get(name)) else {
        return told(all.iter().collect());
    };
    let is_set = |key: &str| key.split('.').try_fold(own, |table, part| table.get(part)).is_some();
    let set = told(all.iter().filter(|(key, _)| is_set(key)).collect());
    if set.is_empty() && !all.is_empty() { "defaults".to_owned() } else { set }
}

/// Why a cell has no numbers, in words for a table.
#[must_use]
pub fn withheld(why: &Withheld) -> String {
    match why {
        Withheld::TooFewOperations { .. } | Withheld::Batched { .. } | Withheld::NotStated => {
            format!("{} ({})", units::NONE, because(why))
        }
        Withheld::NoCommonBlock | Withheld::Failed(_) => because(why),
    }
}

/// Why a cell has no numbers, in full.
#[must_use]
pub fn because(why: &Withheld) -> String {
    match why {
        Withheld::TooFewOperations { more, .. } => {
            let plural = if *more == 1 { "" } else { "s" };
            format!("{} more sample{plural} per block needed", units::count(*more))
        }
        Withheld::Batched { batch } => {
            format!("no tail: an entry is the mean of {} operations", units::count(u64::from(*batch)))
        }
        Withheld::NotStated => "not in what was imported".to_owned(),
        Withheld::NoCommonBlock => "no block in common with the baseline".to_owned(),
        Withheld::Failed(message) => format!("failed: {}", super::escape::one_line(message)),
    }
}

/// Names of the flags that weigh more than a note, gravest first.
#[must_use]
pub fn doubts(cell: &Cell) -> Vec<&'static str> {
    cell.flags.iter().filter(|f| f.severity > Severity::Note).map(|f| f.name).collect()
}

/// Names of a cell's flags: those that weigh first, notes in brackets.
#[must_use]
pub fn flags(cell: &Cell) -> String {
    let name = |f: &crate::comparison::Flag| match f.severity {
        Severity::Note => format!("({})", f.name),
        Severity::Doubt | Severity::Fatal => f.name.to_owned(),
    };
    let (notes, doubts): (Vec<_>, Vec<_>) = cell.flags.iter().partition(|f| f.severity == Severity::Note);
    doubts.into_iter().chain(notes).map(name).collect::<Vec<_>>().join(", ")
}

/// The environments that a reader wants to know the cost of, in the order of the suite.
pub fn compared(c: &Comparison) -> impl Iterator<Item = &Environment> {
    c.environments.iter().filter(|e| e.role == Role::Compared)
}

/// The environments that ran or tried to: all but the skipped.
pub fn tried(c: &Comparison) -> impl Iterator<Item = &Environment> {
    c.environments.iter().filter(|e| !matches!(e.outcome, Outcome::Skipped(_)))
}

/// How net and gross are to be read beside an overhead; of a report that has one.
#[must_use]
pub fn pooled(c: &Comparison) -> Option<&'static str> {
    c.cells.iter().any(|cell| cell.finding.is_ok()).then_some(POOLED)
}

/// The same, whatever there is.
pub const POOLED: &str = "Net and gross are pooled over all blocks; an overhead is the middle of the blocks' ratios. Where blocks \
                          differ much, gross by net is another figure.";

/// How the other figures of a metric are to be read beside its overhead.
pub const OTHER_MEANS: &str = "The overhead is the figure that this report goes by. Beside it: the geometric mean of the same ratios, \
                               and the mean of the blocks' values over the baseline's, both of which a few blocks far out pull; p50, \
                               mean and max are of single operations, without the time between them.";

/// The verdict of a cell, for a table of metrics.
#[must_use]
pub fn verdict(cell: &Cell) -> &'static str {
    match (cell.metric, cell.verdict) {
        // No test stands behind the interval of a single value.
        (Metric::Max, Verdict::Trusted) if cell.finding.is_ok() => "one value",
        (_, verdict) => verdict.name(),
    }
}

/// The flags that no table marks, by name; the page has what they rest on.
#[must_use]
pub fn notes(c: &Comparison) -> Option<String> {
    let unmarked = |cell: &'_ Cell| -> Vec<&'static str> {
        cell.flags.iter().filter(|flag| !cell.marks().any(|mark| mark == *flag)).map(|flag| flag.name).collect()
    };
    let names: BTreeSet<&str> = c.control.iter().chain(&c.cells).flat_map(unmarked).collect();
    let names: Vec<&str> = names.into_iter().collect();
    (!names.is_empty()).then(|| format!("worth knowing, in full in the HTML report: {}", names.join(", ")))
}

/// The cell of a workload's primary metric.
#[must_use]
pub fn primary<'a>(c: &'a Comparison, workload: &str, environment: &str) -> Option<&'a Cell> {
    let plan = c.run.workloads.iter().find(|w| w.name == workload)?;
    c.cell(workload, environment, Metric::primary(plan))
}

/// The cost of an environment in one sentence, without its name.
#[must_use]
pub fn sentence(c: &Comparison, environment: &Environment) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut say = |text: String| pieces.push(Piece::Plain(text));
    match &environment.outcome {
        Outcome::Skipped(why) => {
            say(format!("not measured: {}", super::escape::one_line(why)));
            return pieces;
        }
        Outcome::Failed(why) => {
            say(format!("failed: {}", super::escape::one_line(why)));
            return pieces;
        }
        Outcome::Measured | Outcome::Partial(_) => {}
    }
    let mut sorted = Sorted::of(c, environment);
    let mut clauses = neighbour::clauses(c, environment);
    clauses.extend(worse(&sorted.worse, &c.run.baseline));
    clauses.extend(better(&sorted.better, &format!("faster than {} in ", c.run.baseline)));
    clauses.extend(better(&sorted.doubtful, "looks faster, but read its flags, in "));
    clauses.extend(better(&sorted.unsure, "too few blocks to be sure of "));
    let mut clause = |text: String| clauses.push(vec![Piece::Plain(text)]);
    sorted.equal.sort_by(|a, b| b.1.total_cmp(&a.1));
    if let Some((where_to, most)) = sorted.equal.first() {
        let next = sorted.equal.get(1).map_or(*most, |(_, next)| *next);
        let (apart, next) = (*most > APART * next, units::percent_above(next));
        let most = units::percent_above(*most);
        match sorted.equal.len() {
            n if apart && n > 3 => {
                clause(format!("costs no more than {next} in {} workloads, and than {most} in {where_to}", n - 1))
            }
            n if n > 3 && n == c.run.workloads.len() => {
                clause(format!("costs no more than {most} in any of {n} workloads ({where_to} can't be told closer)"))
            }
            n if n > 4 => {
                clause(format!("costs no more than {most} in {n} workloads ({where_to} can't be told closer)"))
            }
            _ => {
                let names: Vec<&str> = sorted.equal.iter().map(|(name, _)| *name).collect();
                clause(format!("costs no more than {most} in {}", names.join(", ")));
            }
        }
    }
    // In an invalid run all of them may be here.
    let told = if c.invalid.is_empty() { sorted.open.len() } else { NAMED };
    for (i, (cell, finding)) in sorted.open.iter().take(told).enumerate() {
        let can = if i == 0 { "can't be told from noise in " } else { "" };
        clause(format!("{can}{} {}", cell.workload, overhead(&finding.overhead)));
    }
    if let Some(more) = sorted.open.get(told..).filter(|more| !more.is_empty()) {
        clause(format!("nor in {}", units::number_of(more.len(), "other")));
    }
    for (why, workloads) in &sorted.invalid {
        clause(format!("not comparable in {} ({why})", workloads.join(", ")));
    }
    if !sorted.missing.is_empty() {
        clause(format!("no result for {}", sorted.missing.join(", ")));
    }
    if !sorted.flags.is_empty() {
        let names: Vec<&str> = sorted.flags.iter().copied().collect();
        clause(format!("flagged {}", names.join(", ")));
    }
    if environment.plan.emulated.is_some() {
        clause("its CPU was emulated in software, which says nothing about hardware".to_owned());
    }
    if clauses.is_empty() {
        clauses.push(vec![Piece::Plain("nothing to compare".to_owned())]);
    }
    for (i, clause) in clauses.into_iter().enumerate() {
        if i > 0 {
            pieces.push(Piece::Plain("; ".to_owned()));
        }
        pieces.extend(clause);
    }
    pieces
}

/// A workload that can be told so many times less closely than all others doesn't speak for them.
const APART: f64 = 1.5;

/// Cells named one by one; of further ones only the range is said, except of a single one, which takes no more room with its name.
const NAMED: usize = 3;

/// How many of so many are named.
fn named(all: usize) -> usize {
    if all == NAMED + 1 { all } else { NAMED }
}

fn worse(cells: &[Cost], baseline: &str) -> Vec<Vec<Piece>> {
    let mut clauses = Vec::new();
    for (i, cost) in cells.iter().take(named(cells.len())).enumerate() {
        let (cell, finding) = cost.told;
        let plain = |text: &str| Piece::Plain(text.to_owned());
        let value = Piece::Strong(overhead(&finding.overhead));
        let on = if i == 0 { format!(" as long as on {baseline}") } else { String::new() };
        let mut clause = match cell.metric {
            Metric::P50 if cost.median.is_none() && cost.by_the_slow => {
                vec![plain(&format!("half of the operations of {} take ", cell.workload)), value, Piece::Plain(on)]
            }
            Metric::P99 => {
                vec![plain(&format!("the slowest 1 % of {} take ", cell.workload)), value, Piece::Plain(on)]
            }
            _ if cost.median.is_some() => {
                let than = if i == 0 { format!(" less per second than {baseline}") } else { " less per second".into() };
                vec![plain(&format!("{} does ", cell.workload)), value, Piece::Plain(than)]
            }
            // Said of the same as the clause before, it needs no verb.
            _ => {
                let takes = if i > 0 && cells[i - 1].is_time() { "" } else { "takes " };
                vec![plain(&format!("{} {takes}", cell.workload)), value, Piece::Plain(on)]
            }
        };
        if i == 0 && cell.unit != Unit::BytesPerSecond {
            clause.push(plain(", "));
            clause.push(Piece::Strong(difference(finding)));
            clause.push(plain(" per operation"));
        }
        if let Some(median) = cost.median {
            let longer = match units::ratio(median, None) {
                _ if median < 1.05 => "no longer".to_owned(),
                ratio => format!("only {ratio}"),
            };
            let share = units::percent(1.0 - median.max(1.0) / finding.overhead.value);
            let where_to = match cost.beyond_half {
                _ if cost.stopped => format!("it is stopped in between, {share} of the time"),
                Some(share) => format!("{} of the time goes into the others, or between them", units::percent(share)),
                None => "the time goes into the others, or between them".to_owned(),
            };
            let cut = match cost.cut_short {
                (cut, all) if 2 * cut >= all && cut > 0 => format!(" (the time limit ended {cut} of its {all} bursts)"),
                _ => String::new(),
            };
            clause.push(Piece::Plain(format!(", though half of its operations take {longer}: {where_to}{cut}")));
        }
        clauses.push(clause);
    }
    let told: Vec<_> = cells.iter().map(|cost| cost.told).collect();
    clauses.extend(rest(&told));
    clauses
}

fn better(cells: &[(&Cell, &Finding)], words: &str) -> Vec<Vec<Piece>> {
    let mut clauses = Vec::new();
    for (i, (cell, finding)) in cells.iter().take(named(cells.len())).enumerate() {
        let faster = if i == 0 { words } else { "" };
        clauses.push(vec![
            Piece::Plain(format!("{faster}{} ", cell.workload)),
            Piece::Strong(overhead(&finding.overhead)),
        ]);
    }
    clauses.extend(rest(cells));
    clauses
}

/// `5 more at 1.1× to 1.9×`.
fn rest(cells: &[(&Cell, &Finding)]) -> Option<Vec<Piece>> {
    let rest = cells.get(named(cells.len())..).filter(|rest| !rest.is_empty())?;
    let low = rest.iter().map(|(_, f)| f.overhead.value).fold(f64::INFINITY, f64::min);
    let high = rest.iter().map(|(_, f)| f.overhead.value).fold(0.0, f64::max);
    let (low, high) = (units::ratio(low, None), units::ratio(high, None));
    let range = if low == high { low } else { format!("{low} to {high}") };
    Some(vec![Piece::Plain(format!("{} more at {range}", rest.len()))])
}

/// An overhead that isn't told from 1 more closely than this is told from nothing.
const TELLING: f64 = 0.25;

/// A workload that costs more in an environment.
#[derive(Debug)]
struct Cost<'a> {
    /// The cell that the claim is of: the cost where it is claimed, else the median, else the slowest.
    told: (&'a Cell, &'a Finding),
    /// The median's ratio, where half of the operations know little of the cost.
    median: Option<f64>,
    /// Nor do the slowest know of it, so that it lies between the operations. Where writes are dear and reads are not, or where
    /// there are too few operations to tell, nobody says that the box is stopped.
    stopped: bool,
    /// The claim is of less than the whole cost.
    by_the_slow: bool,
    /// Bursts that the time limit ended, and all of them.
    cut_short: (usize, usize),
    /// See [`crate::comparison::Distribution::beyond_half`].
    beyond_half: Option<f64>,
}

impl Cost<'_> {
    /// Whether it is told as "takes so many times as long".
    fn is_time(&self) -> bool {
        let of_half = self.told.0.metric == Metric::P50 && self.by_the_slow;
        self.median.is_none() && !of_half && self.told.0.metric != Metric::P99
    }
}

/// The workloads of an environment by what can be said of them.
#[derive(Debug, Default)]
struct Sorted<'a> {
    /// Worst first.
    worse: Vec<Cost<'a>>,
    /// Best first.
    better: Vec<(&'a Cell, &'a Finding)>,
    /// As good, but something speaks against it: nobody is praised for work that may not have been done.
    doubtful: Vec<(&'a Cell, &'a Finding)>,
    /// Without an interval nobody knows which of these they are; worst first.
    unsure: Vec<(&'a Cell, &'a Finding)>,
    /// No claim, with the share of cost that is excluded.
    equal: Vec<(&'a str, f64)>,
    /// No claim, and not much excluded either.
    open: Vec<(&'a Cell, &'a Finding)>,
    /// By the flags that make them so, in order of appearance.
    invalid: Vec<(String, Vec<&'a str>)>,
    missing: Vec<&'a str>,
    /// Doubts of the cells that count.
    flags: BTreeSet<&'static str>,
}

impl<'a> Sorted<'a> {
    fn of(c: &'a Comparison, environment: &Environment) -> Self {
        let mut sorted = Self::default();
        for plan in &c.run.workloads {
            sorted.sort(c, plan, environment);
        }
        let by_value = |a: &(&Cell, &Finding), b: &(&Cell, &Finding)| a.1.overhead.value.total_cmp(&b.1.overhead.value);
        sorted.worse.sort_by(|a, b| by_value(&b.told, &a.told));
        sorted.unsure.sort_by(|a, b| by_value(b, a));
        // What explains the rest is not the headline.
        sorted.worse.sort_by_key(|cost| cost.told.0.workload.starts_with("control/"));
        sorted.better.sort_by(by_value);
        sorted.doubtful.sort_by(by_value);
        sorted
    }

    fn sort(&mut self, c: &'a Comparison, plan: &WorkloadPlan, environment: &Environment) {
        let cell = |metric: Metric| c.cell(&plan.name, &environment.plan.name, metric);
        let Some(headline) = cell(Metric::primary(plan)) else { return };
        let Ok(finding) = &headline.finding else {
            self.missing.push(&headline.workload);
            return;
        };
        if headline.verdict == Verdict::Invalid {
            let fatal = headline.flags.iter().filter(|f| f.severity == Severity::Fatal).map(|f| f.name);
            let why = fatal.collect::<Vec<_>>().join(", ");
            let why = if why.is_empty() { "invalid".to_owned() } else { why };
            match self.invalid.iter_mut().find(|(other, _)| *other == why) {
                Some((_, workloads)) => workloads.push(&headline.workload),
                None => self.invalid.push((why, vec![&headline.workload])),
            }
            return;
        }
        self.flags.extend(doubts(headline));
        let claimed = |claim| {
            let cells = Metric::primaries(plan).iter().filter_map(|metric| cell(*metric));
            cells.filter(move |c| c.claim == claim).find_map(|c| Some((c, c.finding.as_ref().ok()?)))
        };
        if finding.overhead.interval.is_none() {
            self.unsure.push((headline, finding));
        } else if let Some(told) = claimed(Claim::Worse) {
            let cost = told.0.metric == headline.metric;
            let median = cell(Metric::P50).filter(|m| cost && m.metric != headline.metric).and_then(Cell::overhead);
            let median = median.map(|m| m.value).filter(|m| finding.overhead.value > TWO_STORIES * m.max(1.0));
            let slowest = cell(Metric::P99).and_then(Cell::overhead).map(|slowest| slowest.value);
            let stopped = median.zip(slowest).is_some_and(|(m, slowest)| slowest <= TWO_STORIES * m.max(1.0));
            let seen = c.distribution(&plan.name, &environment.plan.name);
            let cut_short = seen.map_or((0, 0), |seen| seen.cut_short);
            let beyond_half = seen.and_then(|seen| seen.beyond_half);
            self.worse.push(Cost { told, median, stopped, by_the_slow: !cost, cut_short, beyond_half });
        } else if headline.claim == Claim::Better && headline.verdict == Verdict::Suspect {
            self.doubtful.push((headline, finding));
        } else if headline.claim == Claim::Better {
            self.better.push((headline, finding));
        } else {
            // What the headline leaves open the median can't close.
            match c.excluded(&headline.workload, headline.metric, finding.overhead) {
                Some(excluded) if excluded <= TELLING => self.equal.push((&headline.workload, excluded)),
                _ => self.open.push((headline, finding)),
            }
        }
    }
}

/// The start of an environment: `151 ms`.
#[must_use]
pub fn start(environment: &Environment) -> String {
    milliseconds(environment.start_ms)
}

/// The end of an environment: `12.1 ms`.
#[must_use]
pub fn stop(environment: &Environment) -> String {
    milliseconds(environment.stop_ms)
}

fn milliseconds(estimate: Option<Estimate>) -> String {
    estimate.map_or_else(|| units::NONE.to_owned(), |e| units::duration(e.value * 1e6))
}

/// The memory an environment holds when idle: `31.2 MiB`.
#[must_use]
pub fn memory(environment: &Environment) -> String {
    // Sizes in memory are far below 2^53.
    environment.memory_bytes.map_or_else(|| units::NONE.to_owned(), |b| units::bytes(b as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    fn said(c: &Comparison, name: &str) -> String {
        plain(&sentence(c, c.environment(name).unwrap()))
    }

    #[test]
    fn only_what_was_set_is_shown() {
        let mut run = sample::comparison().run;
        let all = [("accel", "tcg"), ("disk.cache", "none"), ("memory", "512"), ("rate", "0")];
        let all = all.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        run.suite_toml = "[environments.qemu]\naccel = \"tcg\"\ndisk.cache = \"none\"\n[workloads.\"net/rr\"]\n[environments.bare]\n".into();
        assert_eq!(set(&run, "environments", "qemu", &all), "accel=tcg, disk.cache=none");
        assert_eq!(set(&run, "workloads", "net/rr", &all), "defaults");
        assert_eq!(set(&run, "environments", CONTROL, &all), "defaults");
        assert_eq!(set(&run, "environments", "bare", &BTreeMap::new()), "");
        assert_eq!(set(&run, "environments", "other", &all), "accel=tcg, disk.cache=none, memory=512, rate=0");
        run.suite_toml = "not a suite".into();
        assert_eq!(set(&run, "environments", "qemu", &all), "accel=tcg, disk.cache=none, memory=512, rate=0");
    }

    #[test]
    fn a_sentence_starts_with_what_costs_most() {
        let c = sample::comparison();
        let all = "costs no more than 20 % in any of 9 workloads (sqlite/inserts can't be told closer)";
        assert_eq!(said(&c, "runc"), all);
        let said = said(&c, "gvisor");
        assert!(said.starts_with("sqlite/inserts takes 15"), "{said}");
        assert!(said.contains(" as long as on bare, +") && said.contains("; sqlite/writers 11"), "{said}");
        assert!(said.ends_with("; net/paced 8.6× (7.9–9.3); 6 more at 1.57× to 6.47×"), "{said}");
    }

    #[test]
    fn a_single_further_one_is_named() {
        let c = sample::comparison();
        let cells: Vec<_> =
            c.cells.iter().filter_map(|cell| Some((cell, cell.finding.as_ref().ok()?))).take(5).collect();
        let told = |n: usize| better(&cells[..n], "faster in ").iter().map(|clause| plain(clause)).collect::<Vec<_>>();
        assert_eq!((told(3).len(), told(4).len(), told(5).len()), (3, 4, 4));
        assert!(told(4)[3].starts_with(&cells[3].0.workload), "{:?}", told(4));
        assert!(told(5)[3].starts_with("2 more at "), "{:?}", told(5));
    }

    /// The sample with one workload of `runc` in which cost and median are these times the baseline's.
    fn two_stories(cost: f64, median: f64) -> Comparison {
        let mut c = sample::comparison();
        let cells = c.cells.iter_mut().filter(|cell| cell.environment == "runc" && cell.workload == "disk/fsync");
        for cell in cells {
            let factor = match cell.metric {
                Metric::Throughput => cost,
                Metric::P50 => median,
                _ => 1.0,
            };
            if let Ok(finding) = &mut cell.finding {
                let now = finding.overhead.value;
                finding.overhead = finding.overhead.map(|x| x / now * factor);
                finding.ratios.iter_mut().for_each(|(_, ratio)| *ratio *= factor / now);
            }
        }
        crate::comparison::claim(&mut c);
        c
    }

    #[test]
    fn a_box_that_is_stopped_between_operations_is_told_from_a_slow_one() {
        // A CPU quota of one half: the median sees nothing of it.
        let stopped = said(&two_stories(2.017, 1.0), "runc");
        let expected = "disk/fsync does 2.0× (1.9–2.1) less per second than bare, +";
        assert!(stopped.starts_with(expected), "{stopped}");
        let story = "though half of its operations take no longer: it is stopped in between, 50 % of the time; ";
        assert!(stopped.contains(story), "{stopped}");
        let slow = said(&two_stories(2.017, 2.0), "runc");
        assert!(slow.starts_with("disk/fsync takes 2.0× (1.9–2.1) as long as on bare, "), "{slow}");
        let median = said(&two_stories(1.0, 1.4), "runc");
        assert!(median.starts_with("half of the operations of disk/fsync take 1.40×"), "{median}");
    }

    /// Reads and writes in turn, of which the writes are the dear ones: nobody stops such a box.
    #[test]
    fn a_box_in_which_some_operations_are_slow_is_not_said_to_be_stopped() {
        let slow = |tail: Option<f64>| {
            let mut c = two_stories(2.017, 1.0);
            let tails = |cell: &&mut Cell| {
                (cell.environment.as_str(), cell.workload.as_str(), cell.metric) == ("runc", "disk/fsync", Metric::P99)
            };
            let cell = c.cells.iter_mut().find(tails).expect("it has a p99");
            match (tail, &mut cell.finding) {
                (Some(factor), Ok(finding)) => finding.overhead = finding.overhead.map(|x| x * factor),
                (_, finding) => *finding = Err(Withheld::TooFewOperations { have: 40, more: 4960 }),
            }
            said(&c, "runc")
        };
        for said in [slow(Some(4.0)), slow(None)] {
            let expected =
                "though half of its operations take no longer: 63 % of the time goes into the others, or between them";
            assert!(said.contains(expected) && !said.contains("stopped"), "{said}");
        }
    }

    /// The words behind "the slowest 1 %" would be read as said of the slowest too.
    #[test]
    fn a_clause_says_what_it_is_of_where_the_one_before_was_of_something_else() {
        let mut c = sample::comparison();
        for cell in c.cells.iter_mut().filter(|cell| cell.environment == "gvisor" && cell.workload == "net/rr") {
            cell.claim = if cell.metric == Metric::P99 { Claim::Worse } else { Claim::None };
            if let Ok(finding) = &mut cell.finding {
                finding.overhead = finding.overhead.map(|x| 100.0 * x);
            }
        }
        let said = said(&c, "gvisor");
        assert!(said.starts_with("the slowest 1 % of net/rr take "), "{said}");
        assert!(said.contains("; sqlite/inserts takes 15") && said.contains("; sqlite/writers 11"), "{said}");
    }

    #[test]
    fn what_is_not_claimed_is_said_as_what_was_excluded_or_left_open() {
        let mut c = sample::comparison();
        let wide = c.cells.iter_mut().filter(|cell| cell.environment == "runc" && cell.workload == "disk/fsync");
        for finding in wide.filter_map(|cell| cell.finding.as_mut().ok()) {
            finding.overhead.interval =
                finding.overhead.interval.map(|i| crate::statistics::Interval { high: 1.9, ..i });
        }
        let said = said(&c, "runc");
        assert!(
            said.contains("costs no more than 20 % in 8 workloads (sqlite/inserts can't be told closer); can't be told from noise in disk/fsync "),
            "{said}"
        );
    }

    #[test]
    fn nothing_is_excluded_that_the_run_could_not_tell() {
        let mut c = sample::comparison();
        let all = "costs no more than 20 % in any of 9 workloads (sqlite/inserts can't be told closer)";
        assert_eq!(said(&c, "runc"), all);
        let fsync = |r: &&mut crate::comparison::Resolution| {
            r.workload == "disk/fsync" && matches!(r.metric, Metric::Throughput | Metric::P50)
        };
        c.resolution.iter_mut().filter(fsync).for_each(|r| r.smallest_visible = Some(0.24));
        assert_eq!(said(&c, "runc"), "costs no more than 24 % in any of 9 workloads (disk/fsync can't be told closer)");
        let reach = |low, high| {
            Some(Estimate { value: 0.83, interval: Some(crate::statistics::Interval { low, high, confidence: 0.95 }) })
        };
        c.resolution.iter_mut().filter(fsync).for_each(|r| r.control = reach(0.09, 1.05));
        let rest = "costs no more than 20 % in 8 workloads (sqlite/inserts can't be told closer); can't be told from noise in disk/fsync ";
        assert!(said(&c, "runc").starts_with(rest), "{}", said(&c, "runc"));
        // One that can be told less closely doesn't speak for the others.
        let mut apart = sample::comparison();
        let close = |i| crate::statistics::Interval { low: 0.97, high: 1.09, ..i };
        for resolution in &mut apart.resolution {
            resolution.smallest_visible = resolution.smallest_visible.map(|_| 0.05);
            resolution.control = resolution.control.map(|e| Estimate { interval: e.interval.map(close), ..e });
        }
        for finding in apart.cells.iter_mut().filter_map(|cell| cell.finding.as_mut().ok()) {
            finding.overhead.interval = finding.overhead.interval.map(close);
        }
        apart.resolution.iter_mut().filter(fsync).for_each(|r| r.smallest_visible = Some(0.24));
        let words = said(&apart, "runc");
        assert!(
            words.starts_with("costs no more than 9")
                && words.ends_with(" % in 8 workloads, and than 24 % in disk/fsync"),
            "{words}"
        );
        c.invalid.push("61 of 100 rounds are void".into());
        let invalid = said(&c, "runc");
        assert!(invalid.starts_with("can't be told from noise in ") && !invalid.contains("no more than"), "{invalid}");
    }

    #[test]
    fn what_does_not_measure_what_it_says_is_not_ranked() {
        let said = said(&sample::comparison(), "qemu-unsafe");
        assert!(said.starts_with("looks faster, but read its flags, in net/paced 0.18× (0.17–0.20); "), "{said}");
        assert!(
            said.contains(
                "; not comparable in sqlite/commit, disk/fsync, sqlite/writers, sqlite/inserts (fsync-not-durable); "
            ),
            "{said}"
        );
        assert!(said.contains("; flagged emulated-cpu"), "{said}");
    }

    #[test]
    fn the_largest_value_is_not_trusted_as_an_interval() {
        let c = sample::comparison();
        let mut cell = c.cell("net/rr", "runc", Metric::P50).expect("there").clone();
        assert_eq!(verdict(&cell), "trusted");
        cell.metric = Metric::Max;
        assert_eq!(verdict(&cell), "one value");
    }

    #[test]
    fn a_stream_that_is_stopped_says_so_with_the_bursts_that_were_cut() {
        let mut c = two_stories(51.0, 1.57);
        c.run.workloads.iter_mut().filter(|w| w.name == "disk/fsync").for_each(|w| w.streams = true);
        for cell in c.cells.iter_mut().filter(|cell| cell.workload == "disk/fsync" && cell.metric == Metric::P99) {
            cell.finding = Err(Withheld::TooFewOperations { have: 1, more: 1 });
        }
        let own = c.distributions.iter_mut().filter(|d| d.workload == "disk/fsync" && d.environment == "runc");
        own.for_each(|d| (d.cut_short, d.beyond_half) = ((39, 64), Some(0.98)));
        let said = said(&c, "runc");
        let expected = "though half of its operations take only 1.57×: 98 % of the time goes into the others, or between them \
                        (the time limit ended 39 of its 64 bursts)";
        assert!(said.contains(expected), "{said}");
    }

    #[test]
    fn too_few_blocks_are_no_claim() {
        let mut c = sample::comparison();
        for cell in c.cells.iter_mut().filter(|cell| cell.environment == "gvisor") {
            if let Ok(finding) = &mut cell.finding {
                finding.overhead.interval = None;
            }
        }
        let said = said(&c, "gvisor");
        assert!(said.starts_with("too few blocks to be sure of sqlite/inserts 15"), "{said}");
        assert!(!said.contains("as long as on bare") && !said.contains("faster"), "{said}");
    }

    #[test]
    fn skipped_and_failed_environments_say_why() {
        let c = sample::comparison();
        assert!(said(&c, "crun").starts_with("not measured: crun 1.8: cgroups in hybrid mode"));
        assert!(said(&c, "qemu").contains("no result for net/rr"));
    }
}
