//! The tables as they are stored: one list of columns for each, which the statements and the reading by name are made from.
//!
//! A row is apart from the record that it stores: it has the run's id, a failure is a step and a message where the numbers would
//! be, and what isn't searched for is JSON.

use std::collections::BTreeMap;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, Type, ValueRef};
use rusqlite::{Connection, Row};
use serde::Serialize;
use serde::de::DeserializeOwned;
use workloads::Check;
use workloads::evidence::{Canary, ClockFit, Evidence};
use workloads::protocol::{Hello, Identity, Sample};

use super::figures::Figure;
use super::key::Key;
use crate::comparison::{Method, Metric, Verdict};
use crate::record::{Checked, Ending, EnvironmentPlan, Failure, Record, Run, Start, Step, Stored, Void, WorkloadPlan};
use crate::statistics::{Estimate, Interval};

/// A row of a table.
pub(super) trait Table: Sized {
    /// Name in the schema.
    const NAME: &str;
    /// All columns but for `nth`, which SQLite numbers.
    const COLUMNS: &[&str];

    /// Writes it.
    fn insert(&self, db: &Connection) -> rusqlite::Result<usize>;

    /// Reads it from a query that [`select`] began.
    fn read(row: &Row) -> rusqlite::Result<Self>;
}

/// The beginning of a query for whole rows.
pub(super) fn select<T: Table>() -> String {
    format!("SELECT {} FROM {}", T::COLUMNS.join(", "), T::NAME)
}

fn insert<T: Table>() -> String {
    let places = vec!["?"; T::COLUMNS.len()].join(", ");
    format!("INSERT INTO {} ({}) VALUES ({places})", T::NAME, T::COLUMNS.join(", "))
}

/// Declares a row: every column is named here and nowhere else, by its field.
macro_rules! table {
    ($(#[$about:meta])* $row:ident in $table:literal { $($column:ident: $kind:ty,)* }) => {
        $(#[$about])*
        pub(super) struct $row {
            $($column: $kind,)*
        }

        impl Table for $row {
            const NAME: &str = $table;
            const COLUMNS: &[&str] = &[$(stringify!($column),)*];

            fn insert(&self, db: &Connection) -> rusqlite::Result<usize> {
                // Preparing a statement takes tens of microseconds, when a round is over: not worth a cache.
                db.execute(&insert::<Self>(), rusqlite::params![$(self.$column,)*])
            }

            fn read(row: &Row) -> rusqlite::Result<Self> {
                Ok(Self { $($column: row.get(stringify!($column))?,)* })
            }
        }
    };
}

table! {
    /// A run, which has no end yet when it is first stored.
    RunRow in "run" {
        id: String,
        started: String,
        suite: String,
        suite_toml: String,
        seed: Bits,
        blocks: u32,
        rounds: u32,
        baseline: String,
        command: String,
        binary_sha256: String,
        version: String,
        labels: Json<BTreeMap<String, String>>,
        host: Json<Vec<(String, String)>>,
        nested: Option<String>,
        workloads: Json<Vec<WorkloadPlan>>,
        environments: Json<Vec<EnvironmentPlan>>,
        pinning: String,
        ending: Ending,
        seconds: Option<f64>,
        stopped: Option<String>,
        key: Option<Json<Key>>,
        bursts: Option<Bits>,
        figured: Option<u32>,
        pruned: Option<String>,
    }
}

impl RunRow {
    pub(super) fn new(run: &Run) -> Self {
        let key = Some(Json(Key::of(run)));
        let run = run.clone();
        Self {
            id: run.id,
            started: run.started,
            suite: run.suite,
            suite_toml: run.suite_toml,
            seed: Bits(run.seed),
            blocks: run.blocks,
            rounds: run.rounds,
            baseline: run.baseline,
            command: run.command,
            binary_sha256: run.binary_sha256,
            version: run.version,
            labels: Json(run.labels),
            host: Json(run.host),
            nested: run.nested,
            workloads: Json(run.workloads),
            environments: Json(run.environments),
            pinning: run.pinning,
            ending: Ending::Unfinished,
            seconds: None,
            stopped: None,
            key,
            bursts: None,
            figured: None,
            pruned: None,
        }
    }

    /// The run and how it ended, without its rows.
    pub(super) fn into_run(self) -> Stored {
        let run = Run {
            id: self.id,
            started: self.started,
            suite: self.suite,
            suite_toml: self.suite_toml,
            seed: self.seed.0,
            blocks: self.blocks,
            rounds: self.rounds,
            baseline: self.baseline,
            command: self.command,
            binary_sha256: self.binary_sha256,
            version: self.version,
            labels: self.labels.0,
            host: self.host.0,
            nested: self.nested,
            workloads: self.workloads.0,
            environments: self.environments.0,
            pinning: self.pinning,
        };
        Stored {
            run,
            ending: self.ending,
            seconds: self.seconds,
            stopped: self.stopped,
            starts: Vec::new(),
            records: Vec::new(),
            voids: Vec::new(),
            checks: Vec::new(),
        }
    }
}

table! {
    /// A start.
    StartRow in "start" {
        run: String,
        block: u32,
        environment: String,
        start_ns: Option<Bits>,
        step: Option<Step>,
        message: Option<String>,
        memory_bytes: Option<Bits>,
        hello: Option<Json<Hello>>,
        identity: Option<Json<Identity>>,
        clock: Option<Json<ClockFit>>,
        stop_ns: Option<Bits>,
    }
}

impl StartRow {
    pub(super) fn new(run: &str, start: &Start) -> Self {
        let (step, message) = failed(&start.outcome);
        Self {
            run: run.into(),
            block: start.block,
            environment: start.environment.clone(),
            start_ns: start.outcome.as_ref().ok().copied().map(Bits),
            step,
            message,
            memory_bytes: start.memory_bytes.map(Bits),
            hello: start.hello.clone().map(Json),
            identity: start.identity.clone().map(Json),
            clock: start.clock.map(Json),
            stop_ns: start.stop_ns.map(Bits),
        }
    }

    pub(super) fn into_start(self) -> rusqlite::Result<Start> {
        Ok(Start {
            block: self.block,
            environment: self.environment,
            outcome: match failure(self.step, self.message)? {
                Some(failure) => Err(failure),
                None => Ok(there("start_ns", self.start_ns)?.0),
            },
            memory_bytes: self.memory_bytes.map(|b| b.0),
            hello: self.hello.map(|h| h.0),
            identity: self.identity.map(|i| i.0),
            clock: self.clock.map(|c| c.0),
            stop_ns: self.stop_ns.map(|ns| ns.0),
        })
    }
}

table! {
    /// A burst. Rows of version 1 have nothing in the columns that came later.
    BurstRow in "burst" {
        run: String,
        block: u32,
        round: u32,
        position: u32,
        workload: String,
        environment: String,
        operations: Option<Bits>,
        bytes: Option<Bits>,
        elapsed_ns: Option<Bits>,
        warmup_operations: Option<Bits>,
        warmup_ns: Option<Bits>,
        batch: Option<u32>,
        cut_short: Option<bool>,
        histogram: Option<Vec<u8>>,
        step: Option<Step>,
        message: Option<String>,
        canary_before_ns: Bits,
        canary_after_ns: Bits,
        evidence: Json<Evidence>,
        response: Option<Vec<u8>>,
        lateness: Option<Vec<u8>>,
        timeline: Option<Vec<u8>>,
        concurrency: u32,
        counters: Option<Json<BTreeMap<String, u64>>>,
        drawn: Option<Bits>,
        durable_writes: Option<Bits>,
    }
}

impl BurstRow {
    pub(super) fn new(run: &str, record: &Record) -> Self {
        let (step, message) = failed(&record.outcome);
        let sample = record.outcome.as_ref().ok();
        let count = |of: fn(&Sample) -> u64| sample.map(of).map(Bits);
        Self {
            run: run.into(),
            block: record.block,
            round: record.round,
            position: record.position,
            workload: record.workload.clone(),
            environment: record.environment.clone(),
            operations: count(|s| s.operations),
            bytes: count(|s| s.bytes),
            elapsed_ns: count(|s| s.elapsed_ns),
            warmup_operations: count(|s| s.warmup_operations),
            warmup_ns: count(|s| s.warmup_ns),
            batch: sample.map(|s| s.batch),
            cut_short: sample.map(|s| s.cut_short),
            histogram: sample.map(|s| s.histogram.clone()),
            step,
            message,
            canary_before_ns: Bits(record.canary.before_ns),
            canary_after_ns: Bits(record.canary.after_ns),
            evidence: Json(record.evidence.clone()),
            response: sample.and_then(|s| s.response.clone()),
            lateness: sample.and_then(|s| s.lateness.clone()),
            timeline: sample.map(|s| s.timeline.clone()),
            concurrency: sample.map_or(1, |s| s.concurrency),
            counters: sample.map(|s| Json(s.counters.clone())),
            drawn: sample.and_then(|s| s.drawn).map(Bits),
            durable_writes: sample.and_then(|s| s.durable_writes).map(Bits),
        }
    }

    pub(super) fn into_record(self) -> rusqlite::Result<Record> {
        let outcome = match failure(self.step, self.message)? {
            Some(failure) => Err(failure),
            None => Ok(Sample {
                operations: there("operations", self.operations)?.0,
                bytes: there("bytes", self.bytes)?.0,
                elapsed_ns: there("elapsed_ns", self.elapsed_ns)?.0,
                warmup_operations: there("warmup_operations", self.warmup_operations)?.0,
                warmup_ns: there("warmup_ns", self.warmup_ns)?.0,
                batch: there("batch", self.batch)?,
                cut_short: there("cut_short", self.cut_short)?,
                histogram: there("histogram", self.histogram)?,
                response: self.response,
                lateness: self.lateness,
                timeline: self.timeline.unwrap_or_default(),
                concurrency: self.concurrency,
                counters: self.counters.map(|c| c.0).unwrap_or_default(),
                drawn: self.drawn.map(|d| d.0),
                durable_writes: self.durable_writes.map(|w| w.0),
            }),
        };
        Ok(Record {
            block: self.block,
            round: self.round,
            position: self.position,
            workload: self.workload,
            environment: self.environment,
            outcome,
            canary: Canary { before_ns: self.canary_before_ns.0, after_ns: self.canary_after_ns.0 },
            evidence: self.evidence.0,
        })
    }
}

table! {
    /// A round that does not count.
    VoidRow in "void" {
        run: String,
        block: u32,
        round: u32,
        workload: String,
        reason: String,
    }
}

impl VoidRow {
    pub(super) fn new(run: &str, void: &Void) -> Self {
        let Void { block, round, workload, reason } = void.clone();
        Self { run: run.into(), block, round, workload, reason }
    }

    pub(super) fn into_void(self) -> Void {
        Void { block: self.block, round: self.round, workload: self.workload, reason: self.reason }
    }
}

table! {
    /// A check.
    CheckedRow in "checked" {
        run: String,
        block: u32,
        workload: String,
        environment: String,
        value: Option<String>,
        detail: Option<String>,
        step: Option<Step>,
        message: Option<String>,
        facts: Json<BTreeMap<String, String>>,
    }
}

impl CheckedRow {
    pub(super) fn new(run: &str, checked: &Checked) -> Self {
        let (step, message) = failed(&checked.outcome);
        let check = checked.outcome.as_ref().ok();
        Self {
            run: run.into(),
            block: checked.block,
            workload: checked.workload.clone(),
            environment: checked.environment.clone(),
            value: check.map(|c| c.value.clone()),
            detail: check.map(|c| c.detail.clone()),
            step,
            message,
            facts: Json(checked.facts.clone()),
        }
    }

    pub(super) fn into_checked(self) -> rusqlite::Result<Checked> {
        Ok(Checked {
            block: self.block,
            workload: self.workload,
            environment: self.environment,
            outcome: match failure(self.step, self.message)? {
                Some(failure) => Err(failure),
                None => Ok(Check { value: there("value", self.value)?, detail: there("detail", self.detail)? }),
            },
            facts: self.facts.0,
        })
    }
}

table! {
    /// A metric of a workload in an environment, made from the rows of the run.
    FigureRow in "figure" {
        run: String,
        workload: String,
        environment: String,
        metric: Metric,
        net: f64,
        gross: f64,
        overhead: f64,
        low: Option<f64>,
        high: Option<f64>,
        difference_ns: f64,
        ratios: Ratios,
        verdict: Verdict,
    }
}

impl FigureRow {
    pub(super) fn new(run: &str, figure: &Figure) -> Self {
        let (low, high) = figure.overhead.interval.map(|i| (i.low, i.high)).unzip();
        let Figure { workload, environment, metric, net, gross, overhead, difference_ns, ratios, verdict } =
            figure.clone();
        let (overhead, ratios) = (overhead.value, Ratios(ratios));
        Self {
            run: run.into(),
            workload,
            environment,
            metric,
            net,
            gross,
            overhead,
            low,
            high,
            difference_ns,
            ratios,
            verdict,
        }
    }

    pub(super) fn into_figure(self) -> Figure {
        let confidence = Method::default().confidence;
        let interval = self.low.zip(self.high).map(|(low, high)| Interval { low, high, confidence });
        Figure {
            workload: self.workload,
            environment: self.environment,
            metric: self.metric,
            net: self.net,
            gross: self.gross,
            overhead: Estimate { value: self.overhead, interval },
            difference_ns: self.difference_ns,
            ratios: self.ratios.0,
            verdict: self.verdict,
        }
    }
}

fn failed<T>(outcome: &Result<T, Failure>) -> (Option<Step>, Option<String>) {
    outcome.as_ref().err().map(|f| (f.step, f.message.clone())).unzip()
}

fn failure(step: Option<Step>, message: Option<String>) -> rusqlite::Result<Option<Failure>> {
    step.map(|step| Ok(Failure { step, message: there("message", message)? })).transpose()
}

/// A value that a row without a failure must have.
fn there<T>(column: &str, value: Option<T>) -> rusqlite::Result<T> {
    value.ok_or_else(|| rusqlite::Error::InvalidColumnType(0, column.into(), Type::Null))
}

/// An unsigned number, stored by its bits: SQLite's are signed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bits(pub u64);

impl ToSql for Bits {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok((self.0 as i64).into())
    }
}

impl FromSql for Bits {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_i64().map(|bits| Self(bits as u64))
    }
}

/// A value that is stored as JSON.
#[derive(Debug)]
pub(super) struct Json<T>(pub T);

impl<T: Serialize> ToSql for Json<T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let text = serde_json::to_string(&self.0).expect("rows are maps with string keys, lists and numbers");
        Ok(text.into())
    }
}

impl<T: DeserializeOwned> FromSql for Json<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        serde_json::from_str(value.as_str()?).map(Self).map_err(FromSqlError::other)
    }
}

/// A block's number and its ratio, for each block: as bytes, since JSON gives back a number that may be off in its last bit.
#[derive(Debug)]
pub(super) struct Ratios(Vec<(u32, f64)>);

/// Bytes of a block.
const RATIO: usize = size_of::<u32>() + size_of::<f64>();

impl ToSql for Ratios {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let one = |(block, ratio): &(u32, f64)| [&block.to_le_bytes()[..], &ratio.to_le_bytes()].concat();
        Ok(self.0.iter().flat_map(one).collect::<Vec<u8>>().into())
    }
}

impl FromSql for Ratios {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let (ratios, rest) = value.as_blob()?.as_chunks::<RATIO>();
        if !rest.is_empty() {
            return Err(FromSqlError::Other("the ratios are cut off".into()));
        }
        let one = |bytes: &[u8; RATIO]| {
            let (block, ratio) = bytes.split_first_chunk().expect("a ratio is longer than its block's number");
            (u32::from_le_bytes(*block), f64::from_le_bytes(ratio.try_into().expect("what is left of it is an f64")))
        };
        Ok(Self(ratios.iter().map(one).collect()))
    }
}

/// Stores one of a few by its name.
macro_rules! named {
    ($($kind:ident, $none:literal;)*) => {
        $(
            impl ToSql for $kind {
                fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                    Ok(self.name().into())
                }
            }

            impl FromSql for $kind {
                fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                    let name = value.as_str()?;
                    let found = $kind::ALL.into_iter().find(|one| one.name() == name);
                    found.ok_or_else(|| FromSqlError::Other(format!(concat!($none, " `{}`"), name).into()))
                }
            }
        )*
    };
}

named! {
    Step, "there is no step";
    Ending, "no run ends";
    Metric, "there is no metric";
    Verdict, "there is no verdict";
}
