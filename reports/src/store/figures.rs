//! What is left of a run when its rows are gone: its overheads, and which runs stand for how things should be.
//!
//! Figures are made from the rows by the comparison and kept beside them, so that a year of runs can be drawn without reading a
//! year of histograms.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{OptionalExtension, params};

use super::key::Key;
use super::load::WRITTEN;
use super::rows::{FigureRow, Json, RunRow};
use super::{Store, StoreError};
use crate::comparison::{Cell, Comparison, Finding, Method, Metric, Verdict, compare};
use crate::gate::{self, CONFIRMS, Gate};
use crate::record::{CONTROL, Ending, Run};
use crate::statistics::{Estimate, Interval};
use crate::trend::Trend;

/// Counted up when the comparison comes to other numbers from the same rows: figures of before are then made again.
const FIGURED: u32 = 2;

type Result<T, E = StoreError> = std::result::Result<T, E>;

/// A metric of a workload in an environment, against the baseline of its run.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Name of the workload.
    pub workload: String,
    /// Name of the environment; that of the second baseline is [`crate::record::CONTROL`].
    pub environment: String,
    /// Which metric.
    pub metric: Metric,
    /// The baseline's value in the metric's unit.
    pub net: f64,
    /// The environment's value.
    pub gross: f64,
    /// How many times worse the environment is; above 1 is worse, for throughput too.
    pub overhead: Estimate,
    /// Additional time of an operation, nanoseconds; above 0 is worse.
    pub difference_ns: f64,
    /// The ratio in each block that counted, with the block's number.
    pub ratios: Vec<(u32, f64)>,
    /// Whether to believe it.
    pub verdict: Verdict,
}

/// A run that stands for how things should be, with what it cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    /// Id of the run.
    pub run: String,
    /// When it was measured: UTC, RFC 3339.
    pub started: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When it was accepted: UTC, RFC 3339.
    pub at: String,
    /// Why.
    pub reason: String,
    /// Its figures.
    pub figures: Vec<Figure>,
}

/// A run of a history.
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    /// Its id.
    pub run: String,
    /// When it was measured: UTC, RFC 3339.
    pub started: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Why it was accepted, if it was.
    pub accepted: Option<String>,
    /// What the last gate over it came to, if there was one.
    pub gated: Option<Gated>,
    /// Its costs and medians.
    pub overheads: Vec<Overhead>,
}

/// What a gate came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gated {
    /// The worst of its verdicts.
    pub verdict: gate::Verdict,
    /// Whether head and base were the same code, so that all it could show was error.
    pub same_code: bool,
}

/// A figure without its blocks.
#[derive(Debug, Clone, PartialEq)]
pub struct Overhead {
    /// Name of the workload.
    pub workload: String,
    /// Name of the environment.
    pub environment: String,
    /// Which metric.
    pub metric: Metric,
    /// How many times worse the environment is.
    pub overhead: Estimate,
    /// Whether to believe it.
    pub verdict: Verdict,
}

impl Figure {
    /// The figures of a comparison that may stand in a history: what claims may be made about, the control's included.
    #[must_use]
    pub fn all(c: &Comparison) -> Vec<Figure> {
        let primary = |cell: &&Cell| {
            let of = |w: &crate::record::WorkloadPlan| {
                w.name == cell.workload && Metric::primaries(w).contains(&cell.metric)
            };
            c.run.workloads.iter().any(of)
        };
        let cells = c.cells.iter().chain(&c.control).filter(primary);
        let of = |cell| Some(Self::of(cell, cell.finding.as_ref().ok()?, c.verdict(cell)));
        cells.filter_map(of).filter(Self::is_sound).collect()
    }

    fn of(cell: &Cell, finding: &Finding, verdict: Verdict) -> Figure {
        Figure {
            workload: cell.workload.clone(),
            environment: cell.environment.clone(),
            metric: cell.metric,
            net: finding.net,
            gross: finding.gross,
            overhead: finding.overhead,
            difference_ns: finding.difference.value,
            ratios: finding.ratios.clone(),
            verdict,
        }
    }

    /// Whether it can be computed with.
    pub(super) fn is_sound(&self) -> bool {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let ends = self.overhead.interval.is_none_or(|i| positive(i.low) && positive(i.high) && i.low <= i.high);
        ends && positive(self.overhead.value)
            && self.ratios.iter().all(|(_, ratio)| positive(*ratio))
            && [self.net, self.gross, self.difference_ns].iter().all(|x| x.is_finite())
    }
}

impl Store {
    /// The overheads of a run: as they are kept, or made from its rows and kept.
    ///
    /// # Errors
    /// When there is no run of this id, or the store can't be read or written.
    pub fn figures(&self, id: &str) -> Result<Vec<Figure>> {
        self.figures_and(id, |figures| self.where_possible(|| self.keep_figures(id, figures)))
    }

    /// The same, and they are kept, or it is said why not.
    pub(super) fn kept_figures(&self, id: &str) -> Result<Vec<Figure>> {
        self.figures_and(id, |figures| if self.refused.is_some() { Ok(()) } else { self.keep_figures(id, figures) })
    }

    fn figures_and(&self, id: &str, keep: impl FnOnce(&[Figure]) -> Result<()>) -> Result<Vec<Figure>> {
        if !self.is_figured(id)? {
            let comparison = compare(&self.load(id)?, Method::default());
            let figures = Figure::all(&comparison);
            // A run that goes on will have others.
            if comparison.ending != Ending::Unfinished {
                keep(&figures)?;
            }
            return Ok(figures);
        }
        self.rows(WRITTEN, id, |row: FigureRow| Ok(row.into_figure()))
    }

    /// Whether a run has figures that needn't be made again; those of a run without rows can't be.
    pub(super) fn is_figured(&self, id: &str) -> Result<bool> {
        let sql = "SELECT figured IS ?2 OR pruned IS NOT NULL FROM run WHERE id = ?1";
        let found = self.db.query_row(sql, params![id, FIGURED], |r| r.get(0)).optional();
        Ok(found.map_err(|e| self.failed("read a run", e))?.unwrap_or(false))
    }

    pub(crate) fn keep_figures(&self, id: &str, figures: &[Figure]) -> Result<()> {
        let failed = |e| self.failed("store the figures of a run", e);
        let transaction = self.db.unchecked_transaction().map_err(failed)?;
        let sql = "UPDATE run SET figured = ?2, bursts = (SELECT count(*) FROM burst WHERE run = ?1) WHERE id = ?1";
        transaction.execute(sql, params![id, FIGURED]).map_err(failed)?;
        self.write_figures(id, figures)?;
        transaction.commit().map_err(failed)
    }

    /// In place of those there are.
    pub(super) fn write_figures(&self, id: &str, figures: &[Figure]) -> Result<()> {
        let failed = |e| self.failed("store the figures of a run", e);
        self.db.execute("DELETE FROM figure WHERE run = ?1", [id]).map_err(failed)?;
        figures.iter().try_for_each(|figure| self.insert("store the figures of a run", &FigureRow::new(id, figure)))
    }

    /// The key of a run's history.
    ///
    /// # Errors
    /// When there is no run of this id, or the store can't be read.
    pub fn key(&self, id: &str) -> Result<Key> {
        Ok(Key::of(&self.run(id)?))
    }

    /// The history that a run belongs to: every run of its key that has ended, in the order in which they came into the store. One
    /// that confirms another is a part of that one, and no point of its own.
    ///
    /// # Errors
    /// When there is no run of this id, or the store can't be read.
    pub fn trend(&self, id: &str) -> Result<Trend> {
        let asked = self.run(id)?;
        let first = asked.labels.get(CONFIRMS).and_then(|first| self.run(first).ok());
        let run = first.unwrap_or(asked);
        let key = Key::of(&run);
        self.complete(&key)?;
        let boxes = run.environments.iter().filter(|e| e.name != run.baseline && e.name != CONTROL);
        let names: Vec<String> = boxes.map(|e| e.name.clone()).collect();
        let past = self.history(&key)?;
        Ok(Trend::of(key, &run.suite, &past, &run.workloads, &names))
    }

    /// Gives keys and figures to runs that were stored before there were any.
    fn complete(&self, key: &Key) -> Result<()> {
        for id in self.query("SELECT id FROM run WHERE key IS NULL", [], |r| r.get::<_, String>(0))? {
            let own = self.key(&id)?;
            self.written(
                "store a key",
                self.db.execute("UPDATE run SET key = ?2 WHERE id = ?1", params![id, Json(own)]),
            )?;
        }
        let sql =
            "SELECT id FROM run WHERE key = ?1 AND ending != 'unfinished' AND pruned IS NULL AND figured IS NOT ?2
             AND json_valid(labels)";
        for id in self.query(sql, params![Json(key), FIGURED], |r| r.get::<_, String>(0))? {
            self.kept_figures(&id)?;
        }
        Ok(())
    }

    fn history(&self, key: &Key) -> Result<Vec<Past>> {
        // Of a row whose labels can't be read the costs still count: it must not take the others of its key along.
        let sql = "SELECT id, started, iif(json_valid(labels), labels, '{}') AS labels, gated, same_code,
                   (SELECT reason FROM accepted WHERE accepted.run = run.id) AS reason FROM run
                   WHERE key = ?1 AND ending != 'unfinished'
                   AND NOT EXISTS (SELECT 1 FROM run AS first WHERE first.id =
                       iif(json_valid(run.labels), json_extract(run.labels, ?2), NULL))
                   ORDER BY rowid";
        let mut past = self.query(sql, params![Json(key), format!("$.{CONFIRMS}")], |r| {
            let Json(labels) = r.get("labels")?;
            let (run, started, accepted) = (r.get("id")?, r.get("started")?, r.get("reason")?);
            let verdict = r.get::<_, Option<String>>("gated")?.and_then(|name| gate::Verdict::named(&name));
            let same_code = r.get::<_, Option<bool>>("same_code")? == Some(true);
            let gated = verdict.map(|verdict| Gated { verdict, same_code });
            Ok(Past { run, started, labels, accepted, gated, overheads: Vec::new() })
        })?;
        // One statement for all: a year has tens of thousands of figures.
        let sql = "SELECT run, workload, environment, metric, overhead, low, high, verdict FROM figure
                   WHERE run IN (SELECT id FROM run WHERE key = ?1) AND metric IN ('p50', 'throughput') ORDER BY nth";
        let rows = self.query(sql, [Json(key)], |r| {
            let ends: Option<(f64, f64)> = r.get::<_, Option<f64>>("low")?.zip(r.get("high")?);
            let interval = ends.map(|(low, high)| Interval { low, high, confidence: Method::default().confidence });
            let overhead = Overhead {
                workload: r.get("workload")?,
                environment: r.get("environment")?,
                metric: r.get("metric")?,
                overhead: Estimate { value: r.get("overhead")?, interval },
                verdict: r.get("verdict")?,
            };
            Ok((r.get::<_, String>("run")?, overhead))
        })?;
        let numbers: HashMap<String, usize> = past.iter().enumerate().map(|(n, p)| (p.run.clone(), n)).collect();
        for (run, overhead) in rows {
            if let Some(n) = numbers.get(&run) {
                past[*n].overheads.push(overhead);
            }
        }
        Ok(past)
    }

    /// Keeps what a gate over a run came to, in place of what one before did; where nothing can be written, nothing is kept.
    ///
    /// # Errors
    /// When the store can't be written though it could be.
    pub fn keep_gate(&self, gate: &Gate) -> Result<()> {
        let sql = "UPDATE run SET gated = ?2, same_code = ?3 WHERE id = ?1";
        let came_to = params![gate.run, gate.verdict().name(), gate.same.is_some()];
        self.where_possible(|| self.written("store what a gate came to", self.db.execute(sql, came_to)))
    }

    /// Keeps what can be made again: not where nothing can be written, and no full disk is in the way of what was asked for.
    fn where_possible(&self, keep: impl FnOnce() -> Result<()>) -> Result<()> {
        if self.refused.is_some() {
            return Ok(());
        }
        match keep() {
            Err(StoreError::Full(_)) => Ok(()),
            kept => kept,
        }
    }

    /// No waiting for the disk, for tests that make many runs up.
    #[cfg(test)]
    pub(crate) fn unsynced(&self) {
        self.db.pragma_update(None, "synchronous", "off").expect("a setting");
    }

    /// The row of a run alone.
    fn run(&self, id: &str) -> Result<Run> {
        let runs = self.rows("WHERE id = ?1", id, |row: RunRow| Ok(row.into_run().run))?;
        runs.into_iter().next().ok_or_else(|| self.no_run(id))
    }

    /// Lets a run stand for how things should be: `moves` says that what was accepted before doesn't count any more.
    ///
    /// # Errors
    /// When the run has not ended, or has nothing to stand for, or the store can't be written.
    pub fn accept(&self, id: &str, at: &str, reason: &str, moves: bool) -> Result<Key> {
        self.writable()?;
        let key = self.key(id)?;
        let figures = self.kept_figures(id)?;
        let stands = |f: &Figure| f.overhead.interval.is_some() && f.verdict != Verdict::Invalid;
        if !self.is_figured(id)? || !figures.iter().any(stands) {
            return Err(StoreError::NothingToAccept { run: id.into() });
        }
        let failed = |e| self.failed("accept a run", e);
        let transaction = self.db.unchecked_transaction().map_err(failed)?;
        let again = "DELETE FROM accepted WHERE run = ?1";
        transaction.execute(again, [id]).map_err(failed)?;
        let sql = "INSERT INTO accepted (run, key, at, reason, moves) VALUES (?1, ?2, ?3, ?4, ?5)";
        transaction.execute(sql, params![id, Json(&key), at, reason, moves]).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        Ok(key)
    }

    /// The accepted runs of a history, in the order in which they were accepted, from the last that moved the baseline on.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn accepted(&self, key: &Key) -> Result<Vec<Accepted>> {
        let sql = "SELECT id, started, labels, at, reason FROM accepted JOIN run ON id = accepted.run WHERE accepted.key = ?1
                   AND accepted.nth >= (SELECT ifnull(max(nth), 0) FROM accepted WHERE key = ?1 AND moves) ORDER BY accepted.nth";
        let accepted = self.query(sql, [Json(key)], |r| {
            let Json(labels) = r.get("labels")?;
            let (run, started, at, reason) = (r.get("id")?, r.get("started")?, r.get("at")?, r.get("reason")?);
            Ok(Accepted { run, started, labels, at, reason, figures: Vec::new() })
        })?;
        accepted.into_iter().map(|a| Ok(Accepted { figures: self.figures(&a.run)?, ..a })).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::example::Example;
    use crate::record::{CONTROL, Stored};

    fn run(id: &str, blocks: u32) -> Stored {
        let mut stored = Example { blocks, ..Example::default() }.build();
        stored.run.id = id.into();
        stored
    }

    fn filled(ids: &[&str]) -> Store {
        let store = Store::open(Path::new(":memory:")).expect("a store");
        ids.iter().for_each(|id| store.import(&run(id, 6)).expect("a run"));
        store
    }

    #[test]
    fn figures_are_those_of_the_comparison_and_are_read_as_they_were_made() {
        let store = filled(&["a"]);
        let made = store.figures("a").expect("made");
        let comparison = compare(&run("a", 6), Method::default());
        let cell = comparison.cell("sqlite/commit", "gvisor", Metric::Throughput).expect("a cell");
        let here =
            |f: &&Figure| (&f.workload, &f.environment, f.metric) == (&cell.workload, &cell.environment, cell.metric);
        let kept = made.iter().find(here);
        let (kept, finding) = (kept.expect("a figure"), cell.finding.as_ref().expect("a finding"));
        assert_eq!((kept.overhead, &kept.ratios), (finding.overhead, &finding.ratios));
        assert!(made.iter().any(|f| f.environment == CONTROL), "the control's are there too");
        store.db.execute_batch("DELETE FROM burst").expect("the rows are gone");
        assert!(store.figures("a").expect("kept") == made, "something changed on the way");
    }

    #[test]
    fn figures_of_another_method_are_made_again() {
        let store = filled(&["a"]);
        let made = store.figures("a").expect("made");
        store.db.execute_batch("UPDATE figure SET overhead = 7; UPDATE run SET figured = 0").expect("old figures");
        assert!(store.figures("a").expect("made again") == made, "the old ones are still there");
    }

    #[test]
    fn the_baseline_of_a_key_grows_and_moves() {
        let store = filled(&["a", "b", "c", "d"]);
        let key = store.key("a").expect("a key");
        let ids = || store.accepted(&key).expect("accepted").into_iter().map(|a| a.run).collect::<Vec<_>>();
        assert!(ids().is_empty());
        store.accept("a", "2026-01-01T00:00:00Z", "the first", false).expect("accepted");
        store.accept("b", "2026-01-02T00:00:00Z", "as before", false).expect("accepted");
        assert_eq!(ids(), ["a", "b"]);
        store.accept("c", "2026-01-03T00:00:00Z", "a new kernel", true).expect("accepted");
        store.accept("d", "2026-01-04T00:00:00Z", "as before", false).expect("accepted");
        assert_eq!(ids(), ["c", "d"]);
        let listed = store.runs().expect("runs").into_iter().filter(|r| r.accepted).map(|r| r.id).collect::<Vec<_>>();
        assert_eq!(listed, ["c", "d"], "what no longer counts isn't listed as accepted");
        let accepted = store.accepted(&key).expect("accepted");
        assert_eq!((accepted[0].reason.as_str(), accepted[0].at.as_str()), ("a new kernel", "2026-01-03T00:00:00Z"));
        assert!(accepted[0].figures == store.figures("c").expect("figures"));
    }

    #[test]
    fn a_run_of_another_key_is_no_part_of_a_history() {
        let store = filled(&["a"]);
        let mut other = run("b", 6);
        other.run.labels.insert(super::super::HOST_CLASS.into(), "rack7".into());
        store.import(&other).expect("a run");
        store.accept("b", "2026-01-01T00:00:00Z", "elsewhere", false).expect("accepted");
        assert!(store.accepted(&store.key("a").expect("a key")).expect("accepted").is_empty());
        assert_eq!(store.key("b").expect("a key").host_class(), "rack7");
    }

    #[test]
    fn a_run_whose_labels_are_no_json_does_not_stop_the_trend_of_the_others() {
        let store = filled(&["a", "b"]);
        store.db.execute_batch("UPDATE run SET labels = '{\"commit' WHERE id = 'b'").expect("damaged");
        let runs: Vec<String> = store.trend("a").expect("a trend").runs.into_iter().map(|night| night.run).collect();
        assert_eq!(runs, ["a", "b"]);
    }

    #[test]
    fn what_has_no_interval_can_not_be_accepted() {
        let store = filled(&[]);
        store.import(&run("short", 2)).expect("a run");
        let error = store.accept("short", "2026-01-01T00:00:00Z", "why not", false).expect_err("too short");
        assert!(error.to_string().contains("6 blocks"), "{error}");
        assert!(store.accept("nothing", "2026-01-01T00:00:00Z", "why not", false).is_err());
    }
}
