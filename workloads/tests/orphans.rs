//! A command that gets away from its process group and from its environment. Whose child it becomes is the process's: hence a file of
//! its own.

#![cfg(target_os = "linux")]

use std::fs;

use nix::sys::prctl::get_child_subreaper;
use workloads::protocol::BurstPlan;
use workloads::stopwatch::Stopwatch;
use workloads::{Place, registry};

/// Processes, zombies among them, whose parent is this one.
fn children() -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("mounted").flatten();
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let us = std::process::id().to_string();
    let is_ours =
        |stat: &String| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.split(' ').nth(1) == Some(us.as_str()));
    stats.filter(is_ours).collect()
}

#[test]
fn what_forgets_its_environment_and_its_parents_is_killed_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let line = "sh -c 'setsid sh -c \"env -i sleep 983.25 & env -i true &\" >/dev/null 2>&1'";
    let workload = registry::find("command/run").expect("registered");
    let settings = workload.resolve(&[("exec".to_string(), line.to_string())].into()).expect("valid");
    // A child that another has started before is nobody's orphan.
    let mut own = std::process::Command::new("sleep").arg("984.25").spawn().expect("started");
    let mut prepared = workload.prepare(&Place::alone(directory.path(), settings)).expect("prepared");
    assert_eq!(children().len(), 1, "when it is tried");
    let mut watch = Stopwatch::new();
    watch.arm(BurstPlan { operations: 5, warmup: 0, batch: 1, limit_ns: u64::MAX, number: 0 });
    prepared.burst(&mut watch).expect("done");
    let left = prepared.counters().get("left_behind").copied().unwrap_or(0);
    assert!(left >= 5, "{left}");
    assert_eq!(children().len(), 1, "after a burst: {:?}", children());
    drop(prepared);
    assert_eq!(get_child_subreaper(), Ok(false), "orphans are others' again");
    assert!(own.try_wait().expect("it is ours").is_none(), "it was left alone");
    own.kill().and_then(|()| own.wait()).expect("killed");
}
