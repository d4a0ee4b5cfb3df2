//! The controls that only show what they are worth in the program itself, which they start again.

mod common;

use common::Dir;

#[test]
fn the_word_of_spawn_ends_the_program_before_anything_else() {
    let b = Dir::new();
    for (words, code) in [(["exit", "42"].as_slice(), 42), (&["exit", "0"], 0), (&["exit"], 127)] {
        let ran = b.run(words).ends_with(code);
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
    }
    b.run(&["exits"]).ends_with(2).says("exits");
}

#[test]
fn a_calibration_too_short_says_so_and_is_cited_by_later_runs() {
    let b = Dir::new();
    let words = ["calibrate", "--workload", "control/syscall", "--budget", "2s", "--blocks", "2"];
    let ran = b.run(&words).ends_with(0);
    for words in [
        "control/syscall          too short to say: 2 of at least 6 blocks",
        "too short to say whether it has two speeds",
        "monotonic ",
    ] {
        assert!(ran.stdout.contains(words), "{words}: {}", ran.stdout);
    }
    let json = b.run(&[words.as_slice(), &["--format", "json"]].concat()).ends_with(0);
    let document: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!((&document["schema"], &document["blocks"]), (&"tarebench.calibration/1".into(), &2.into()));
    assert_eq!(document["workloads"][0]["sees"], serde_json::json!([]));
    assert!(!b.run(&["list", "runs"]).ends_with(0).stdout.contains("quick"), "it is no run");
    b.run(&["run", "--env", "bare", "--workload", "control/syscall", "--blocks", "1"])
        .ends_with(0)
        .says("calibrated on 20");
    b.holds_only(&["tarebench.db"]);
}

#[test]
fn all_controls_are_verified_on_bare_metal() {
    let b = Dir::new();
    let workloads = ["switch", "spawn", "fault", "memory", "bandwidth", "cpu", "timer"];
    let tables: String = workloads.iter().map(|name| format!("[workloads.\"control/{name}\"]\n")).collect();
    let s = b.suite(&format!("[environments.bare]\n{tables}"));
    b.run(&["verify", &s]).ends_with(0).says("control/timer");
    b.holds_only(&["suite.toml"]);
}
