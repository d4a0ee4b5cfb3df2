//! Which of the documents in a file are reports of the same run: with `--status-interval`, or when it gets a signal, fio prints
//! all there is so far, again and again.

use serde_json::{Map, Value};

use super::DIRECTIONS;

type Document = Map<String, Value>;

/// The last report of each run, in order.
pub(super) fn last_of_each(documents: Vec<Document>) -> Vec<Document> {
    let mut runs: Vec<Document> = Vec::new();
    for document in documents {
        match runs.last_mut() {
            Some(last) if goes_on(last, &document) => *last = document,
            _ => runs.push(document),
        }
    }
    runs
}

/// Whether the later document can be of the same run, further on: the same jobs, each of which did at least as much in at least as
/// much time, and less time gone by between both than the later one took in all.
fn goes_on(earlier: &Document, later: &Document) -> bool {
    let (before, after) = (jobs(earlier), jobs(later));
    let same = |name: &str| earlier.get(name) == later.get(name);
    same("fio version")
        && same("global options")
        && before.len() == after.len()
        && before.iter().zip(&after).all(|(a, b)| further(a, b))
        && !time_for_all(earlier, later, &after)
}

fn jobs(document: &Document) -> Vec<&Value> {
    let lists = ["jobs", "client_stats"].into_iter().filter_map(|key| document.get(key)?.as_array());
    lists.flatten().collect()
}

fn further(before: &Value, after: &Value) -> bool {
    let same = |name: &str| before.get(name) == after.get(name);
    if !["jobname", "groupid", "hostname", "job options", "job_start"].into_iter().all(same) {
        return false;
    }
    let number =
        |job: &Value, direction: &str, name: &str| job.get(direction).and_then(|d| d.get(name)?.as_u64()).unwrap_or(0);
    DIRECTIONS.into_iter().all(|direction| {
        let of = |name| (number(before, direction, name), number(after, direction, name));
        let (operations, runtime) = (of("total_ios"), of("runtime"));
        // Of what is flushed fio says no time.
        let stands = runtime.0 == runtime.1 && direction != "sync";
        operations.0 <= operations.1 && runtime.0 <= runtime.1 && (!stands || operations.0 == operations.1)
    })
}

/// Whether the later one could have begun after the earlier one had ended.
fn time_for_all(earlier: &Document, later: &Document, jobs: &[&Value]) -> bool {
    let at = |document: &Document| {
        let seconds = || Some(document.get("timestamp")?.as_u64()?.saturating_mul(1000));
        document.get("timestamp_ms").and_then(Value::as_u64).or_else(seconds)
    };
    let (Some(before), Some(after)) = (at(earlier), at(later)) else { return false };
    let passed = after.saturating_sub(before);
    let runtimes = jobs.iter().flat_map(|job| DIRECTIONS.map(|d| job.get(d).and_then(|d| d.get("runtime")?.as_u64())));
    let longest = runtimes.flatten().max().unwrap_or(0);
    // In whole seconds, begun ones too.
    let elapsed = jobs.iter().filter_map(|job| job.get("elapsed")?.as_u64()).max().unwrap_or(0);
    passed >= longest.max(elapsed.saturating_sub(1).saturating_mul(1000)) && passed > 0
}
