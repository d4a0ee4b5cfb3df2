//! A job as fio wrote it, and which jobs of a name ran side by side.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::DIRECTIONS;

/// A job, or with `group_reporting` all jobs of a group, under the first one's name and with the last one's options.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) fields: Map<String, Value>,
    pub(super) options: BTreeMap<String, String>,
    /// Whether the file says how many jobs there are: fio before 3.4 doesn't print `numjobs`, and some files have no options.
    tells_jobs: bool,
}

impl Job {
    pub(super) fn new(fields: Map<String, Value>, options: BTreeMap<String, String>, tells_jobs: bool) -> Self {
        Self { fields, options, tells_jobs }
    }

    fn option(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.options.get(*name)).map(String::as_str)
    }

    /// fio's error, where it ended with one.
    pub(super) fn error(&self) -> Option<i64> {
        self.fields.get("error")?.as_i64().filter(|error| *error != 0)
    }

    /// Operations in a direction, as far as they can be read.
    pub(super) fn operations(&self, direction: &str) -> u64 {
        self.fields.get(direction).and_then(|f| f.get("total_ios")?.as_u64()).unwrap_or(0)
    }

    /// Operations in directions that nobody here knows.
    pub(super) fn others(&self) -> impl Iterator<Item = (&str, u64)> {
        let unknown = self.fields.keys().filter(|key| !DIRECTIONS.contains(&key.as_str()));
        unknown.map(|key| (key.as_str(), self.operations(key))).filter(|(_, operations)| *operations > 0)
    }

    /// How long it ran in any direction, milliseconds; 0 where that isn't said.
    pub(super) fn longest_ms(&self) -> u64 {
        let of = |direction: &&str| self.fields.get(*direction).and_then(|f| f.get("runtime")?.as_u64());
        DIRECTIONS.iter().filter_map(of).max().unwrap_or(0)
    }

    /// Whether it was to work in this direction.
    pub(super) fn asks(&self, direction: &str) -> bool {
        let rw = self.option(&["rw", "readwrite"]).unwrap_or("read");
        match direction {
            "read" => rw.contains("read") || rw.contains("rw"),
            "write" => rw.contains("write") || rw.contains("rw"),
            _ => rw.contains(direction),
        }
    }

    /// Whether it was to go round the page cache.
    pub(super) fn direct(&self) -> bool {
        crate::comparison::is_direct(&self.options)
    }

    /// Whether a write of it was to be on the device when it ended.
    pub(super) fn synchronous(&self) -> bool {
        self.option(&["sync"]).is_some_and(|v| matches!(v, "" | "1" | "sync" | "dsync"))
    }

    /// Operations in flight, where the file says it. With `group_reporting` one entry stands for all jobs of the group: then the
    /// time that they ran in all tells how many there were.
    pub(super) fn in_flight(&self) -> Option<u64> {
        let depth = match self.option(&["iodepth"]) {
            Some(_) if self.one_at_a_time() => 1,
            Some(depth) => depth.parse().ok()?,
            None if self.options.is_empty() => return None,
            None => 1,
        };
        let all = self.fields.get("job_runtime").and_then(Value::as_f64).filter(|ms| *ms > 0.0);
        let jobs = match (all, self.longest_ms()) {
            (Some(all), longest) if longest > 0 => ((all / longest as f64).round() as u64).max(1),
            _ if !self.tells_jobs || self.options.contains_key("group_reporting") => return None,
            _ if self.option(&["numjobs"]).is_some_and(|n| n != "1") => return None,
            _ => 1,
        };
        Some(jobs.saturating_mul(depth))
    }

    /// Whether fio saw no more than one in flight. The default engine and others are synchronous and have no queue, however deep it
    /// was to be.
    fn one_at_a_time(&self) -> bool {
        self.fields
            .get("iodepth_level")
            .and_then(|levels| levels.get("1")?.as_f64())
            .is_some_and(|percent| percent >= 100.0)
    }

    fn group(&self) -> i64 {
        self.fields.get("groupid").and_then(Value::as_i64).unwrap_or(0)
    }

    /// When it began, milliseconds; newer fio says it.
    fn start(&self) -> Option<u64> {
        self.fields.get("job_start")?.as_u64()
    }
}

/// Jobs of one name by when they ran: those within a phase side by side, the phases one after the other.
///
/// A job that waits for those before it (`stonewall`) begins a group of its own, but so does `new_group`, which doesn't wait. When a
/// job began tells, where fio says it; else whether there was time for one group after the other.
pub(super) fn phases(jobs: &[Job]) -> Vec<Vec<&Job>> {
    let mut phases: Vec<(i64, Vec<&Job>)> = Vec::new();
    for job in jobs {
        match phases.iter_mut().rev().find(|(group, _)| *group == job.group()) {
            Some((_, phase)) => phase.push(job),
            None => phases.push((job.group(), vec![job])),
        }
    }
    let phases: Vec<Vec<&Job>> = phases.into_iter().map(|(_, phase)| phase).collect();
    if phases.len() < 2 || one_after_the_other(&phases) { phases } else { vec![phases.concat()] }
}

/// Two groups may overlap by so much where one waits for the other: times are of other moments than waits.
const SLACK_MS: u64 = 500;

fn one_after_the_other(phases: &[Vec<&Job>]) -> bool {
    let longest = |phase: &Vec<&Job>| phase.iter().map(|job| job.longest_ms()).max().unwrap_or(0);
    let start = |phase: &Vec<&Job>| phase.iter().map(|job| job.start()).min().flatten();
    let known: Option<Vec<(u64, u64)>> = phases.iter().map(|p| Some((start(p)?, longest(p)))).collect();
    if let Some(known) = known {
        return known.windows(2).all(|two| two[1].0 + SLACK_MS >= two[0].0.saturating_add(two[0].1));
    }
    let all: u64 = phases.iter().map(longest).sum();
    // In whole seconds, begun ones too.
    let elapsed = phases.iter().flatten().filter_map(|job| job.fields.get("elapsed")?.as_u64()).max();
    elapsed.is_some_and(|seconds| seconds.saturating_mul(1000) >= all)
}
