//! Known truth, the short form: a copy of bare behind a quota of known size. `scripts/bench --truth` is the long one, with
//! intervals; docs/truth.md has what it found. And work that is known to be the kernel's, or its own: so the host's counters have it.
//!
//! Beside a build a CPU is shared, and what bare takes from first to last is anything. What holds there all the same: the time
//! of a single operation (the median of bare), and that of all of them behind a quota far below the share that is left.

#![cfg(target_os = "linux")]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use common::Dir;
use nix::unistd::geteuid;
use serde_json::Value;

/// Of a CPU, anew every 100 ms.
const QUOTA: f64 = 0.1;

/// A run of bare and its copy behind the quota, as the runner `exec` has anybody's box. A burst is of so
/// many operations, not so long: beside a build a long one has little work in it, which the first period would let through.
fn suite(data: &Path) -> String {
    let behind = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/peers/behind.py");
    format!(
        r#"
baseline = "bare"
blocks = 7
rounds = 1
operations = 15000
burst_max = "10s"
[environments.bare]
[environments.held]
runner = "exec"
command = "python3 {} quota={QUOTA},100000 {{run}}"
copy = "cp {{binary}} {{agent}}"
data = "{}"
[workloads."control/cpu"]
"#,
        behind.display(),
        data.display()
    )
}

/// Whether there is a quota to be had, and what sets it; a loud skip where not.
fn can_limit() -> bool {
    let python = Command::new("python3").arg("--version").stdout(Stdio::null()).status().is_ok_and(|s| s.success());
    if !geteuid().is_root() || !python {
        eprintln!("SKIPPED: quotas of known size need root and python3");
    }
    geteuid().is_root() && python
}

/// A number of the only environment's cell of this metric.
fn figure(report: &Value, metric: &str, name: &str) -> f64 {
    let cells = report["cells"].as_array().expect("cells");
    let cell = cells.iter().find(|c| c["metric"] == metric).unwrap_or_else(|| panic!("no {metric} in {report}"));
    cell[name].as_f64().unwrap_or_else(|| panic!("no {name} in {cell}"))
}

#[test]
fn a_quota_of_known_size_is_found_and_said_first() {
    if !can_limit() {
        return;
    }
    let dir = Dir::new();
    let (suite_file, report) = (dir.at("truth.toml"), dir.at("truth.json"));
    std::fs::write(&suite_file, suite(dir.root())).expect("written");
    let words = ["run", "truth.toml", "--store", "truth.db", "--report", "truth.json"];
    // 4: beside a build no machine is calm enough for a verdict.
    let ran = dir.run(&words).ends_with_any(&[0, 4]);
    let report: Value = serde_json::from_slice(&std::fs::read(report).expect("a report")).expect("JSON");
    let (each, cost) = (figure(&report, "p50", "net"), 1e9 / figure(&report, "throughput", "gross"));
    let (found, truth) = (cost / each, 1.0 / QUOTA);
    assert!(
        (0.85 * truth..1.35 * truth).contains(&found),
        "behind the quota an operation of {each:.0} ns costs {cost:.0} ns, {found:.2} times as much\n{}",
        ran.stdout
    );
    let held = report["environments"].as_array().and_then(|all| all.iter().find(|e| e["name"] == "held"));
    let sentence = held.and_then(|e| e["sentence"].as_str());
    assert!(sentence.is_some_and(|s| s.starts_with("control/cpu does ")), "{sentence:?}\n{}", ran.stdout);
}

#[test]
fn the_kernels_time_is_told_from_that_of_the_work() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: without root there are no cgroups that count");
        return;
    }
    let dir = Dir::new();
    // Of so many operations, not so long: beside a build CPU time is less than time.
    let suite = "blocks = 1\nrounds = 1\nburst_max = \"30s\"\n[environments.bare]\n\
                 [workloads.\"control/cpu\"]\noperations = 320000\n\
                 [workloads.\"control/syscall\"]\noperations = 8000000\n";
    dir.run(&["run", &dir.suite(suite), "--store", "t.db", "--report", "t.json"]).ends_with_any(&[0, 4]);
    let report: Value = serde_json::from_slice(&std::fs::read(dir.at("t.json")).expect("a report")).expect("JSON");
    for (workload, of_kernel) in [("control/cpu", 0.0..=0.2), ("control/syscall", 0.3..=1.0)] {
        let of_bare = |d: &&Value| d["workload"] == workload && d["environment"] == "bare";
        let bare = report["distributions"].as_array().and_then(|all| all.iter().find(of_bare)).expect("it ran");
        let (number, seen) = (|v: &Value| v.as_f64().unwrap_or_else(|| panic!("no number in {bare}")), &bare["seen"]);
        let all_ns = number(&seen["cpu_ns"]) * (number(&bare["operations"]) + number(&bare["warmup_operations"]));
        println!("{workload}: {all_ns:.3e} ns, {seen}");
        // A machine so fast has too few ticks.
        if all_ns < 1.1e9 {
            assert!(all_ns > 0.9e9 || seen["cpu_system_share"].is_null(), "{bare}");
            continue;
        }
        let (user, system) = (number(&seen["cpu_user_share"]), number(&seen["cpu_system_share"]));
        assert!(of_kernel.contains(&system) && (user + system - 1.0).abs() < 1e-9, "{workload}: {seen}");
        assert_eq!(number(&seen["cpu_guest_share"]), 0.0, "{seen}");
        // It is the same time, counted by ticks.
        assert!((0.8..1.25).contains(&(number(&seen["cpu_split_ns"]) / all_ns)), "{all_ns}: {seen}");
    }
}
