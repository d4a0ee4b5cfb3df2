//! Neighbours in real boxes: one that takes the CPU doubles the time of work, one that hardly does anything doesn't.

#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::boxes::OwnDisk;
use common::{ALL_VOID, Dir, Ran, must_run};

/// One test at a time measures: two and their neighbours together are more than the CPUs of a small machine, and of a guest that wants
/// all of its CPUs the hypervisor takes time away, which makes rounds void.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A neighbour keeps the CPUs busy, so a hypervisor that has none to spare may take time in every round: then nothing counts, as the
/// program says, and there is nothing to compare. Where a single round counts there is.
fn nothing_counts(ran: &Ran) -> bool {
    let nothing = ran.stdout.contains(ALL_VOID);
    if nothing {
        eprintln!("SKIPPED: in the last of four runs all rounds were void:\n{}", ran.stderr);
    }
    nothing
}

/// Of an environment: the ratio with its neighbour to that without, and the operations a second of the neighbour.
fn beside(report: &serde_json::Value, name: &str) -> (f64, f64) {
    let all = report["environments"].as_array().expect("a list");
    let environment = all.iter().find(|e| e["name"] == name).expect("it is in the report");
    let beside = &environment["neighbour"]["beside"][0];
    assert_eq!(environment["outcome"], "measured", "{environment}");
    assert!(environment["sentence"].as_str().is_some_and(|s| s.contains("in bare without it")), "{environment}");
    let number = |key: &str| beside[key].as_f64().unwrap_or_else(|| panic!("no {key}: {beside}"));
    (number("overhead"), number("rate"))
}

#[test]
fn a_shared_file_system_and_one_of_its_own_are_both_measured_and_told_apart() {
    let (_turn, b) = (alone(), Dir::new());
    let disk = if nix::unistd::geteuid().is_root() { OwnDisk::at(&b, "own") } else { None };
    let Some(_disk) = disk else {
        assert!(!must_run("loop"), "a loop disk must be there");
        eprintln!("SKIPPED: no disk can be made of a file here");
        return;
    };
    fs::create_dir(b.at("shared")).expect("a directory");
    let at = |name: &str| {
        let data = b.at(name);
        format!(
            "[environments.on-{name}]\nrunner = \"exec\"\ncommand = \"env {{run}}\"\ncopy = \"cp {{binary}} {{agent}}\"\ndata = \"{}\"\n\
             [environments.beside-{name}]\nrunner = \"bare\"\nneighbour = {{ environment = \"on-{name}\", workload = \"disk/fsync\" }}\n",
            data.display()
        )
    };
    let suite = format!(
        "blocks = 1\nrounds = 6\nburst = \"30ms\"\n[environments.bare]\n{}{}[workloads.\"disk/fsync\"]\n",
        at("shared"),
        at("own")
    );
    let ran = b.run(&["run", &b.suite(&suite), "--store", "t.db"]).ends_with_any(&[0, 4]);
    if nothing_counts(&ran) {
        return;
    }
    let report = |format| b.run(&["report", "latest", "--store", "t.db", "--format", format]).ends_with(0).stdout;
    let (text, json) = (report("terminal"), report("json"));
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let found = |name: &str| {
        let all = json["environments"].as_array().expect("a list");
        all.iter().find(|e| e["name"] == name).unwrap_or_else(|| panic!("no {name}")).clone()
    };
    for name in ["shared", "own"] {
        let (overhead, rate) = beside(&json, &format!("beside-{name}"));
        assert!(overhead > 0.0 && rate > 1.0, "{name}: {overhead} beside {rate} operations a second");
        assert_eq!(found(&format!("beside-{name}"))["neighbour"]["like"], format!("on-{name}"));
        assert!(text.contains(&format!("beside disk/fsync in on-{name}")), "{text}");
    }
    // Which disk it was the box itself has seen.
    let device = |name: &str| found(name)["facts"]["device"].as_str().unwrap_or_default().to_string();
    assert!(device("on-own").starts_with("loop") && device("on-shared") != device("on-own"), "{json}");
}

#[test]
fn a_neighbour_that_would_fill_the_disk_is_left_out_before_anything_is_measured() {
    let b = Dir::new();
    let suite = b.suite(
        "blocks = 1\nrounds = 1\nburst = \"5ms\"\n[environments.bare]\n[environments.full]\nrunner = \"bare\"\n\
         neighbour = { environment = \"bare\", workload = \"disk/seqread\", size = \"1TiB\", jobs = 16 }\n[workloads.\"control/cpu\"]\n",
    );
    let said = b.run(&["run", &suite, "--store", "t.db"]).ends_with_any(&[0, 4]).stderr;
    for words in ["skipping full: its neighbour can't work here", "would hold 16.0 TiB in ", "set a smaller size"] {
        assert!(said.contains(words), "no `{words}` in `{said}`");
    }
    b.holds_only(&["suite.toml", "t.db", "t.db-shm", "t.db-wal"]);
}

#[test]
fn who_takes_the_same_cpu_takes_half_of_it_and_who_comes_seldom_does_not() {
    let (_turn, b) = (alone(), Dir::new());
    let suite = b.suite(
        "blocks = 4\nrounds = 2\nburst = \"40ms\"\n[environments.bare]\n\
         [environments.crowded]\nrunner = \"bare\"\nneighbour = { environment = \"bare\", workload = \"control/cpu\" }\n\
         [environments.calm]\nrunner = \"bare\"\nneighbour = { environment = \"bare\", workload = \"control/cpu\", rate = 100 }\n\
         [workloads.\"control/cpu\"]\n",
    );
    let ran = b.run(&["run", &suite, "--store", "t.db"]).ends_with_any(&[0, 4]);
    if nothing_counts(&ran) {
        return;
    }
    let report = b.run(&["report", "latest", "--store", "t.db", "--format", "json"]).ends_with(0).stdout;
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let ((crowded, busy), (calm, seldom)) = (beside(&report, "crowded"), beside(&report, "calm"));
    // Whatever else the machine does, it does to all of them.
    assert!(crowded > 1.2 && crowded > 1.1 * calm, "crowded {crowded}, calm {calm}");
    assert!(busy > 1000.0 && (60.0..140.0).contains(&seldom), "{busy} and {seldom} operations a second");
    b.holds_only(&["suite.toml", "t.db", "t.db-shm", "t.db-wal"]);
}
