//! Reading the store: which runs there are, and all rows of one.

use std::collections::BTreeMap;

use rusqlite::Row;
use serde::Deserialize;

use super::rows::{Bits, BurstRow, CheckedRow, Json, RunRow, StartRow, Table, VoidRow, select};
use super::{Store, StoreError};
use crate::record::{Ending, Stored};

/// The rows of a run, in the order of writing.
pub(super) const WRITTEN: &str = "WHERE run = ?1 ORDER BY nth";

/// A run in one line.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Id of the run.
    pub id: String,
    /// UTC, RFC 3339.
    pub started: String,
    /// Name of the suite.
    pub suite: String,
    /// Labels as `key=value`.
    pub labels: Vec<String>,
    /// How it ended.
    pub ending: Ending,
    /// Wall time, seconds.
    pub seconds: Option<f64>,
    /// Bursts stored, void and failed ones included.
    pub bursts: u64,
    /// Names of the workloads, in order.
    pub workloads: Vec<String>,
    /// Names of the environments, the baseline first and its control second.
    pub environments: Vec<String>,
    /// When all rows but the figures were removed: UTC, RFC 3339.
    pub pruned: Option<String>,
    /// Whether it stands for how things should be; one that another took the place of doesn't any more.
    pub accepted: bool,
}

/// Rows come back as this; the error tells SQLite's from that of a value.
type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Of a plan only its name.
#[derive(Deserialize)]
struct Named {
    name: String,
}

impl Store {
    /// All runs, in the order in which they came into the store: a clock may be set back.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn runs(&self) -> Result<Vec<Summary>> {
        self.query(
            "SELECT id, started, suite, labels, ending, seconds, workloads, environments, pruned,
             EXISTS (SELECT 1 FROM accepted WHERE accepted.run = run.id AND accepted.nth >=
                 (SELECT ifnull(max(nth), 0) FROM accepted AS last WHERE last.key = accepted.key AND last.moves)) AS accepted,
             iif(pruned IS NULL, ifnull(bursts, (SELECT count(*) FROM burst WHERE burst.run = run.id)), 0) AS bursts FROM run ORDER BY rowid",
            [],
            |r| {
                let Json::<BTreeMap<String, String>>(labels) = r.get("labels")?;
                let Json::<Vec<Named>>(workloads) = r.get("workloads")?;
                let Json::<Vec<Named>>(environments) = r.get("environments")?;
                let Bits(bursts) = r.get("bursts")?;
                let names = |all: Vec<Named>| all.into_iter().map(|named| named.name).collect();
                Ok(Summary {
                    id: r.get("id")?,
                    started: r.get("started")?,
                    suite: r.get("suite")?,
                    labels: labels.into_iter().map(|(k, v)| format!("{k}={v}")).collect(),
                    ending: r.get("ending")?,
                    seconds: r.get("seconds")?,
                    bursts,
                    workloads: names(workloads),
                    environments: names(environments),
                    pruned: r.get("pruned")?,
                    accepted: r.get("accepted")?,
                })
            },
        )
    }

    /// A run with all its rows, each list in the order of writing.
    ///
    /// # Errors
    /// When there is no run of this id, its rows were removed, or the store can't be read.
    pub fn load(&self, id: &str) -> Result<Stored> {
        if let Some(at) = self.pruned(id)? {
            return Err(StoreError::Pruned { run: id.into(), at });
        }
        // One snapshot, though another process may be writing; whoever writes here has one already.
        let snapshot = self.db.is_autocommit().then(|| self.db.unchecked_transaction()).transpose();
        let _snapshot = snapshot.map_err(|e| self.failed("read a run", e))?;
        let runs = self.rows("WHERE id = ?1", id, |row: RunRow| Ok(row.into_run()))?;
        let run = runs.into_iter().next().ok_or_else(|| self.no_run(id))?;
        Ok(Stored {
            starts: self.rows(WRITTEN, id, StartRow::into_start)?,
            records: self.rows(WRITTEN, id, BurstRow::into_record)?,
            voids: self.rows(WRITTEN, id, |row: VoidRow| Ok(row.into_void()))?,
            checks: self.rows(WRITTEN, id, CheckedRow::into_checked)?,
            ..run
        })
    }

    /// Says that there is no run of this id.
    pub(super) fn no_run(&self, id: &str) -> StoreError {
        let hint = "`tarebench list runs` shows what there is".into();
        StoreError::NoRun { path: self.path.clone(), wanted: id.into(), hint }
    }

    /// All rows of a table that `which` chooses of a run.
    pub(super) fn rows<R: Table, T>(
        &self,
        which: &str,
        run: &str,
        of: impl Fn(R) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        self.query(&format!("{} {which}", select::<R>()), [run], |row| of(R::read(row)?))
    }

    pub(super) fn query<T>(
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
            e => self.failed("read a run", e),
        })
    }
}
