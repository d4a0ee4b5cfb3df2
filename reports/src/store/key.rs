//! What runs of one history have in common: the same work, in the same boxes, on the same class of hosts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::record::{Neighbour, Run};

/// The label that says on which class of hosts a run was measured.
pub const HOST_CLASS: &str = "host-class";

/// Facts of a host that stand for its class where nobody named one. A clock rate, a load or a kernel's version would make a new
/// history of every night.
const STABLE: [&str; 4] = ["architecture", "cpu", "cpus", "device model"];

/// Keys at the head of a suite that say how much is measured and not what, and those that the run has itself.
const LEFT_OUT: [&str; 6] = ["description", "blocks", "budget", "until", "baseline", "rounds"];

/// The key of a history. Runs with equal keys may be compared over time: versions of engines, kernels and tarebench itself are no
/// part of it, since their changes are what a history is to show.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key(BTreeMap<String, String>);

impl Key {
    /// The key of a run.
    #[must_use]
    pub fn of(run: &Run) -> Self {
        let mut fields = BTreeMap::new();
        let mut add = |name: String, value: String| drop(fields.insert(name, value));
        add("suite".into(), last(&run.suite).trim_end_matches(".toml").into());
        add("baseline".into(), run.baseline.clone());
        add("rounds".into(), run.rounds.to_string());
        for (name, value) in head(&run.suite_toml) {
            add(name.into(), value.into());
        }
        add(HOST_CLASS.into(), host_class(run));
        for e in &run.environments {
            add(format!("environment {}", e.name), kind_and_settings(&e.runner, &e.settings));
            if let Some(Neighbour { like, workload, settings, .. }) = &e.neighbour {
                let work = kind_and_settings(workload, settings);
                add(format!("neighbour of {}", e.name), format!("{work} in {like}"));
            }
        }
        for w in &run.workloads {
            add(format!("workload {}", w.name), kind_and_settings(w.kind(), &w.settings));
        }
        Self(fields)
    }

    /// The fields in which two keys differ: name, ours, theirs.
    pub fn differences<'a>(
        &'a self,
        other: &'a Key,
    ) -> impl Iterator<Item = (&'a str, Option<&'a str>, Option<&'a str>)> {
        let names: std::collections::BTreeSet<&String> = self.0.keys().chain(other.0.keys()).collect();
        let of = |key: &'a Key, name: &str| key.0.get(name).map(String::as_str);
        names
            .into_iter()
            .map(move |n| (n.as_str(), of(self, n), of(other, n)))
            .filter(|(_, ours, theirs)| ours != theirs)
    }

    /// The class of hosts, for people.
    #[must_use]
    pub fn host_class(&self) -> &str {
        self.0.get(HOST_CLASS).map_or("", String::as_str)
    }
}

/// The lines before the first table of a suite that was written in full, as name and value.
fn head(toml: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = toml.lines().take_while(|line| !line.starts_with('['));
    lines.filter_map(|line| line.split_once(" = ")).filter(|(name, _)| !LEFT_OUT.contains(name))
}

/// As it was named, else what doesn't change from boot to boot.
fn host_class(run: &Run) -> String {
    let named = run.labels.get(HOST_CLASS).cloned();
    named.unwrap_or_else(|| {
        let facts = run.host.iter().filter(|(name, _)| STABLE.contains(&name.as_str()));
        facts.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(", ")
    })
}

/// Of a path only the last part: where a build was put says nothing of what it is.
fn kind_and_settings(kind: &str, settings: &BTreeMap<String, String>) -> String {
    settings.iter().fold(kind.to_string(), |text, (name, value)| format!("{text} {name}={}", last(value)))
}

fn last(value: &str) -> &str {
    let path = value.starts_with('/') || value.ends_with(".toml");
    if path { value.trim_end_matches('/').rsplit('/').next().unwrap_or(value) } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::stored;

    #[test]
    fn a_history_goes_on_through_new_versions_seeds_and_more_blocks() {
        let run = stored().run;
        let mut next = run.clone();
        (next.id, next.seed, next.blocks) = ("other".into(), 8, 99);
        next.suite_toml = "description = \"new words\"\nblocks = 99\nuntil = \"3%\"\n\n[environments.bare]\n".into();
        let same =
            Run { suite_toml: "description = \"words\"\nblocks = 8\n\n[environments.bare]\n".into(), ..run.clone() };
        next.environments[2].version = Some("runc 2.0".into());
        next.labels.insert("commit".into(), "abc".into());
        next.host.push(("load".into(), "3.1".into()));
        next.suite = format!("/somewhere/else/{}", run.suite);
        assert_eq!(Key::of(&next), Key::of(&same));
    }

    #[test]
    fn other_work_other_boxes_and_other_hosts_are_another_history() {
        let run = stored().run;
        let key = Key::of(&run);
        let changed = |change: fn(&mut Run)| {
            let mut other = run.clone();
            change(&mut other);
            let other = Key::of(&other);
            key.differences(&other).map(|(name, ..)| name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(changed(|r| r.rounds += 1), ["rounds"]);
        assert_eq!(changed(|r| r.suite = "full".into()), ["suite"]);
        assert_eq!(changed(|r| r.suite_toml = "burst = \"9ms\"\n".into()), ["burst"]);
        assert_eq!(changed(|r| drop(r.labels.insert(HOST_CLASS.into(), "rack7".into()))), [HOST_CLASS]);
        assert_eq!(changed(|r| drop(r.environments[2].settings.insert("x".into(), "1".into()))), ["environment runc"]);
        assert_eq!(changed(|r| drop(r.workloads.pop())).len(), 1);
        let path =
            |at: &'static str| move |r: &mut Run| drop(r.environments[2].settings.insert("binary".into(), at.into()));
        let of = |change: &dyn Fn(&mut Run)| {
            let mut other = run.clone();
            change(&mut other);
            Key::of(&other)
        };
        assert_eq!(of(&path("/build/1/runc")), of(&path("/build/2/runc")), "a build's place is no part of it");
        assert_ne!(of(&path("/build/1/runc")), of(&path("/build/1/crun")));
    }
}
