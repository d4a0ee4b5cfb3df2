//! Reading the store: which runs there are, and all rows of one.

use rusqlite::Row;
use serde::de::DeserializeOwned;
use workloads::Check;
use workloads::evidence::Canary;
use workloads::protocol::Sample;

use super::{Store, StoreError};
use crate::record::{Checked, Ending, Failure, Record, Run, Start, Step, Stored, Void};

/// A run in one line.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Its id.
    pub id: String,
    /// UTC, RFC 3339.
    pub started: String,
    /// Its suite.
    pub suite: String,
    /// Its labels as `key=value`.
    pub labels: Vec<String>,
    /// How it ended.
    pub ending: Ending,
    /// Wall time, seconds.
    pub seconds: Option<f64>,
    /// Bursts stored, void and failed ones included.
    pub bursts: u64,
}

/// Rows come back as this; the error tells SQLite's from that of a value.
type Result<T, E = StoreError> = std::result::Result<T, E>;

impl Store {
    /// All runs, oldest first.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn runs(&self) -> Result<Vec<Summary>> {
        self.query(
            "SELECT id, started, suite, labels, ending, seconds,
             (SELECT count(*) FROM burst WHERE burst.run = run.id) FROM run ORDER BY started, rowid",
            [],
            |r| {
                let labels: std::collections::BTreeMap<String, String> = json(r, 3)?;
                Ok(Summary {
                    id: r.get(0)?,
                    started: r.get(1)?,
                    suite: r.get(2)?,
                    labels: labels.into_iter().map(|(k, v)| format!("{k}={v}")).collect(),
                    ending: ending(r, 4)?,
                    seconds: r.get(5)?,
                    bursts: r.get::<_, i64>(6)? as u64,
                })
            },
        )
    }

    /// The id of the run that is meant: `latest`, an id, the beginning of exactly one id, or a label (`key=value` or
    /// only the value; of several runs with it the latest).
    ///
    /// # Errors
    /// When none or, for the beginning of an id, several are meant, or the store can't be read.
    pub fn find(&self, wanted: &str) -> Result<String> {
        let runs = self.runs()?;
        if wanted == "latest"
            && let Some(last) = runs.last()
        {
            return Ok(last.id.clone());
        }
        if let Some(run) = runs.iter().find(|r| r.id == wanted) {
            return Ok(run.id.clone());
        }
        let labelled = |l: &String| l == wanted || l.split_once('=').is_some_and(|(_, value)| value == wanted);
        if let Some(run) = runs.iter().rev().find(|r| r.labels.iter().any(labelled)) {
            return Ok(run.id.clone());
        }
        let begun: Vec<&str> = runs.iter().map(|r| r.id.as_str()).filter(|id| id.starts_with(wanted)).collect();
        match begun.as_slice() {
            [id] if !wanted.is_empty() => Ok(id.to_string()),
            [_, ..] if !wanted.is_empty() => {
                Err(StoreError::Ambiguous { wanted: wanted.into(), candidates: begun.join(", ") })
            }
            _ => {
                let hint = match runs.last() {
                    Some(last) => format!("there are {}, the latest is {}", runs.len(), last.id),
                    None => "it holds no run yet".into(),
                };
                Err(StoreError::NoRun { path: self.path.clone(), wanted: wanted.into(), hint })
            }
        }
    }

    /// A run with all its rows, each list in the order of writing.
    ///
    /// # Errors
    /// When there is no run of this id, or the store can't be read.
    pub fn load(&self, id: &str) -> Result<Stored> {
        // One snapshot, though another process may be writing.
        let _snapshot =
            self.db.unchecked_transaction().map_err(|e| StoreError::from_sqlite(&self.path, "read a run", e))?;
        let runs =
            self.query("SELECT * FROM run WHERE id = ?1", [id], |r| Ok((run(r)?, ending(r, 17)?, r.get(18)?)))?;
        let Some((run, ending, seconds)) = runs.into_iter().next() else {
            let hint = "`tarebench list runs` shows what there is".into();
            return Err(StoreError::NoRun { path: self.path.clone(), wanted: id.into(), hint });
        };
        Ok(Stored {
            run,
            ending,
            seconds,
            starts: self.query("SELECT * FROM start WHERE run = ?1 ORDER BY nth", [id], start)?,
            records: self.query("SELECT * FROM burst WHERE run = ?1 ORDER BY nth", [id], record)?,
            voids: self.query("SELECT * FROM void WHERE run = ?1 ORDER BY nth", [id], |r| {
                Ok(Void { block: r.get(2)?, round: r.get(3)?, workload: r.get(4)?, reason: r.get(5)? })
            })?,
            checks: self.query("SELECT * FROM checked WHERE run = ?1 ORDER BY nth", [id], checked)?,
        })
    }

    fn query<T>(
        &self,
        sql: &str,
        params: impl rusqlite::Params,
        row: impl Fn(&Row) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let rows = self.db.prepare(sql).and_then(|mut s| s.query_map(params, |r| row(r))?.collect());
        rows.map_err(|e| match e {
            rusqlite::Error::FromSqlConversionFailure(_, _, source) => {
                StoreError::Row { path: self.path.clone(), what: "a row", source }
            }
            e => StoreError::from_sqlite(&self.path, "read a run", e),
        })
    }
}

fn run(r: &Row) -> rusqlite::Result<Run> {
    Ok(Run {
        id: r.get(0)?,
        started: r.get(1)?,
        suite: r.get(2)?,
        suite_toml: r.get(3)?,
        seed: r.get::<_, i64>(4)? as u64,
        blocks: r.get(5)?,
        rounds: r.get(6)?,
        baseline: r.get(7)?,
        command: r.get(8)?,
        binary_sha256: r.get(9)?,
        version: r.get(10)?,
        labels: json(r, 11)?,
        host: json(r, 12)?,
        nested: r.get(13)?,
        workloads: json(r, 14)?,
        environments: json(r, 15)?,
        pinning: r.get(16)?,
    })
}

fn start(r: &Row) -> rusqlite::Result<Start> {
    Ok(Start {
        block: r.get(2)?,
        environment: r.get(3)?,
        outcome: match failure(r, 5)? {
            Some(failure) => Err(failure),
            None => Ok(r.get::<_, i64>(4)? as u64),
        },
        memory_bytes: r.get::<_, Option<i64>>(7)?.map(|b| b as u64),
        hello: maybe_json(r, 8)?,
        identity: maybe_json(r, 9)?,
        clock: maybe_json(r, 10)?,
    })
}

fn record(r: &Row) -> rusqlite::Result<Record> {
    let number = |column: usize| Ok::<_, rusqlite::Error>(r.get::<_, i64>(column)? as u64);
    let outcome = match failure(r, 15)? {
        Some(failure) => Err(failure),
        None => Ok(Sample {
            operations: number(7)?,
            bytes: number(8)?,
            elapsed_ns: number(9)?,
            warmup_operations: number(10)?,
            warmup_ns: number(11)?,
            batch: r.get(12)?,
            cut_short: r.get(13)?,
            histogram: r.get(14)?,
            response: r.get(20)?,
            lateness: r.get(21)?,
            timeline: r.get::<_, Option<_>>(22)?.unwrap_or_default(),
            concurrency: r.get(23)?,
            counters: maybe_json(r, 24)?.unwrap_or_default(),
        }),
    };
    Ok(Record {
        block: r.get(2)?,
        round: r.get(3)?,
        position: r.get(4)?,
        workload: r.get(5)?,
        environment: r.get(6)?,
        outcome,
        canary: Canary { before_ns: number(17)?, after_ns: number(18)? },
        evidence: json(r, 19)?,
    })
}

fn checked(r: &Row) -> rusqlite::Result<Checked> {
    Ok(Checked {
        block: r.get(2)?,
        workload: r.get(3)?,
        environment: r.get(4)?,
        outcome: match failure(r, 7)? {
            Some(failure) => Err(failure),
            None => Ok(Check { value: r.get(5)?, detail: r.get(6)? }),
        },
        facts: json(r, 9)?,
    })
}

fn failure(r: &Row, column: usize) -> rusqlite::Result<Option<Failure>> {
    let Some(step) = r.get::<_, Option<String>>(column)? else { return Ok(None) };
    let step = match step.as_str() {
        "start" => Step::Start,
        "prepare" => Step::Prepare,
        "burst" => Step::Burst,
        "verify" => Step::Verify,
        other => return Err(unknown(column, format!("there is no step `{other}`"))),
    };
    Ok(Some(Failure { step, message: r.get(column + 1)? }))
}

fn ending(r: &Row, column: usize) -> rusqlite::Result<Ending> {
    match r.get::<_, String>(column)?.as_str() {
        "unfinished" => Ok(Ending::Unfinished),
        "complete" => Ok(Ending::Complete),
        "interrupted" => Ok(Ending::Interrupted),
        other => Err(unknown(column, format!("no run ends `{other}`"))),
    }
}

fn maybe_json<T: DeserializeOwned>(r: &Row, column: usize) -> rusqlite::Result<Option<T>> {
    r.get::<_, Option<String>>(column)?.map(|text| parse(column, &text)).transpose()
}

fn json<T: DeserializeOwned>(r: &Row, column: usize) -> rusqlite::Result<T> {
    parse(column, &r.get::<_, String>(column)?)
}

fn parse<T: DeserializeOwned>(column: usize, text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|e| unknown(column, e))
}

fn unknown(column: usize, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, why.into())
}
