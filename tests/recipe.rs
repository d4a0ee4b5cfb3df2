//! The worked examples of CONTRIBUTING.md, which shows the two files in `tests/recipe` as they are (`tests/docs.rs` sees to it): they
//! compile here as they would in their crates, and do what every runner and every workload has to do.

#![cfg(target_os = "linux")]

mod common;
#[path = "recipe/nice.rs"]
mod nice;
#[path = "recipe/rename.rs"]
mod rename;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

// What the examples find in the crate that they are written for.
use runners::{Launch, Runner, Unavailable, host, stage};
use workloads::{Check, Place, Prepared, Resource, Workload, content, settings, stopwatch};

use common::{Dir, eventually, traces, work};
use workloads::protocol::{BurstPlan, Task};
use workloads::settings::Settings;

use crate::nice::Nice;
use crate::rename::Rename;

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn the_runner_is_probed_and_works_and_leaves_nothing() {
    let dir = Dir::new();
    let id = format!("n{}", std::process::id() % 100_000);
    let shared = common::shared(&id, host::Resources::new(1, 512 << 20));
    let settings = Settings::of(Nice.settings(), &[("adjustment", "7")]);
    let probe = runners::probe::probe(&Nice, &settings, &shared, dir.root());
    assert!(probe.usable(), "{probe:?}");
    let mut stage = stage::Stage::new(Arc::clone(&shared), Nice.name(), dir.root()).expect("a stage");
    for _ in 0..2 {
        let launch = stage.launch(&Nice, &settings).expect("launches");
        let mut session = runners::session::Session::start(launch, PATIENCE).expect("starts");
        assert_eq!(session.identify(PATIENCE).expect("says who it is").binary_sha256, shared.host.binary_sha256);
        let priority = fs::read_to_string(format!("/proc/{}/stat", session.pid())).expect("it lives");
        let fields: Vec<&str> = priority.rsplit_once(") ").expect("behind its name").1.split(' ').collect();
        assert_eq!(fields[16], "7", "`nice` is executed into the agent, at its priority: {priority}");
        work(&mut session, Task::of("sqlite/commit"));
    }
    drop(stage);
    drop(shared);
    eventually("no trace is left", Duration::from_secs(5), || traces(&id).is_empty());
    dir.holds_only(&[]);
}

#[test]
fn the_workload_does_the_same_for_the_same_seed() {
    let dir = Dir::new();
    let values = ["one", "two", "other"].map(|name| {
        let directory = dir.at(name);
        fs::create_dir(&directory).expect("made");
        let seed = if name == "other" { 2 } else { 1 };
        let settings = Rename.resolve(&Default::default()).expect("defaults");
        let place = Place {
            shared: directory.clone(),
            directory,
            job: 0,
            jobs: 1,
            seed,
            settings,
            memory: 0,
            peer: None,
            parcel: None,
        };
        let mut prepared = Rename.prepare(&place).expect("prepares");
        let before = prepared.verify().expect("verifies").value;
        for operations in [7, 40] {
            let mut watch = stopwatch::Stopwatch::new();
            watch.arm(BurstPlan { operations, warmup: 2, batch: 1, limit_ns: u64::MAX, number: 0 });
            prepared.burst(&mut watch).expect("bursts");
            assert_eq!(watch.sample().expect("a sample").operations, operations);
            assert_eq!(prepared.verify().expect("verifies").value, before);
        }
        fs::remove_file(dir.at(name).join("there"))
            .or_else(|_| fs::remove_file(dir.at(name).join("here")))
            .expect("one");
        assert!(prepared.verify().is_err(), "a file that is gone is seen");
        before
    });
    assert_eq!(values[0], values[1]);
    let pin = format!("(\"disk/rename\", \"{}\"),", values[0]);
    assert!(include_str!("../CONTRIBUTING.md").contains(&pin), "CONTRIBUTING.md should pin {pin}");
    assert_ne!(values[0], values[2]);
}

/// One edit of CONTRIBUTING.md: a file of the tree, and the lines with what is new among them.
struct Edit {
    file: PathBuf,
    old: String,
    new: String,
}

/// Of each block ` ```diff `, whose first line names the file.
fn edits() -> Vec<Edit> {
    let text = include_str!("../CONTRIBUTING.md");
    let blocks = text.split("```diff\n").skip(1).map(|rest| rest.split("```").next().expect("a first part"));
    blocks
        .map(|block| {
            let (file, lines) = block.split_once('\n').expect("a file's name");
            let file = file.strip_prefix("+++ ").expect("a file's name").into();
            let kept = lines.lines().filter_map(|l| l.strip_prefix(' ')).map(|l| format!("{l}\n")).collect();
            let all = lines.lines().map(|l| format!("{}\n", &l[1..])).collect();
            Edit { file, old: kept, new: all }
        })
        .collect()
}

#[test]
fn the_edits_fit_the_tree_and_are_all_there_are() {
    let edits = edits();
    let files: Vec<_> = edits.iter().map(|e| e.file.display().to_string()).collect();
    assert_eq!(files.len(), 5, "a `mod` line and a line of the registry each, and a check value: {files:?}");
    for edit in edits {
        let text =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&edit.file)).expect("a file of the tree");
        assert!(text.contains(&edit.old), "{}: these lines are not there:\n{}", edit.file.display(), edit.old);
        assert_eq!(edit.new.lines().count(), edit.old.lines().count() + 1, "{}: one line", edit.file.display());
    }
}

/// The promise in full: a copy of the tree gets the two files and the edits, is built, and everything knows both.
#[test]
#[ignore = "builds a copy of the tree, which takes minutes: cargo test --test recipe -- --ignored"]
fn a_tree_with_both_added_tests_lists_and_measures_them() {
    let copy = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cargo = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO"));
        command.args(args).current_dir(copy.path()).env("CARGO_TARGET_DIR", copy.path().join("target"));
        command.env("TAREBENCH_WRITE", "1");
        let output = command.output().expect("cargo starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cargo {args:?}:\n{said}");
        said
    };
    for entry in fs::read_dir(top).expect("readable").map(|e| e.expect("an entry")) {
        if !["target", ".git"].iter().any(|name| entry.file_name() == *name) {
            let status = Command::new("cp").arg("-a").arg(entry.path()).arg(copy.path()).status().expect("cp starts");
            assert!(status.success());
        }
    }
    for edit in edits() {
        let path = copy.path().join(&edit.file);
        let text = fs::read_to_string(&path).expect("readable");
        fs::write(&path, text.replacen(&edit.old, &edit.new, 1)).expect("written");
    }
    for (from, to) in added() {
        fs::copy(top.join(from), copy.path().join(to)).expect("copied");
    }
    let said = cargo(&["test", "-p", "tarebench-workloads", "--test", "agent", "every_workload_runs"]);
    assert!(said.contains("1 passed"), "{said}");
    cargo(&["test", "-p", "tarebench", "--test", "docs"]);
    let said = cargo(&["test", "-p", "tarebench", "--test", "conformance", "nice::"]);
    assert!(said.contains("4 passed"), "{said}");
    let said = cargo(&["run", "--", "verify", "full", "--env", "nice", "--workload", "disk/rename"]);
    assert!(said.contains("nice") && said.contains(" 0 failed"), "{said}");
    let reference = fs::read_to_string(copy.path().join("docs/reference.md")).expect("written");
    assert!(reference.contains("| `nice` |") && reference.contains("| `disk/rename` |"));
}

/// The files of the examples, and where CONTRIBUTING.md says that they go.
fn added() -> Vec<(&'static str, &'static str)> {
    let text = include_str!("../CONTRIBUTING.md");
    let all = vec![
        ("tests/recipe/nice.rs", "runners/src/boxes/nice.rs"),
        ("tests/recipe/rename.rs", "workloads/src/disk/rename.rs"),
    ];
    for (_, to) in &all {
        assert!(text.contains(&format!("`{to}`")), "CONTRIBUTING.md doesn't name {to}");
    }
    all
}
