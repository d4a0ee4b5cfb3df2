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
fn a_calibration_too_short_says_so_and_is_not_kept() {
    let b = Dir::new();
    let words = ["calibrate", "--workload", "control/syscall", "--budget", "10s", "--blocks", "2"];
    let ran = b.run(&words).ends_with(3).says("nothing is kept in tarebench.db: no workload has 6 blocks that count");
    for words in [
        "control/syscall          too short to say: 2 of at least 6 blocks",
        "too short to say whether it has two speeds",
        "monotonic ",
    ] {
        assert!(ran.stdout.contains(words), "{words}: {}", ran.stdout);
    }
    let run = ["run", "--env", "bare", "--workload", "control/syscall", "--blocks", "1"];
    assert!(!b.run(&run).ends_with(0).stdout.contains("calibrated on"), "nothing was kept");
    b.run(&["calibrate", "--budget", "0s"]).ends_with(2).says("leaves no time for a block");
}

#[test]
fn a_calibration_of_one_workload_is_cited_for_it_alone() {
    let b = Dir::new();
    let words = ["calibrate", "--workload", "control/syscall", "--budget", "8s", "--blocks", "1", "--format", "json"];
    let json = b.run(&words).ends_with(3);
    let mut document: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!((&document["schema"], &document["blocks"]), (&"tarebench.calibration/1".into(), &1.into()));
    let floor = &mut document["workloads"][0];
    assert_eq!(floor["sees"], serde_json::json!([]));
    assert!(!b.run(&["list", "runs"]).ends_with(0).stdout.contains("quick"), "it is no run");
    // What the machine would see, had there been the time.
    let sight =
        |seconds: u32| serde_json::json!({ "seconds": seconds, "blocks": 9, "half_width": 0.02, "change": 0.03 });
    floor["sees"] = [60, 300, 1800].map(sight).to_vec().into();
    let db = rusqlite::Connection::open(b.at("tarebench.db")).expect("a store");
    let host = document["host"].as_str().expect("text");
    let insert = "INSERT INTO calibration (host, suite, document) VALUES (?1, 'quick', ?2)";
    db.execute(insert, [host, &document.to_string()]).expect("written");
    drop(db);
    let run = |workloads: &str| {
        let words = ["run", "--env", "bare", "--workload", workloads, "--blocks", "1"];
        b.run(&words).ends_with_any(&[0, 4]).stdout
    };
    let both = run("control/syscall,control/clock");
    assert!(both.contains(" with quick, of control/syscall alone: sees 3.0 % in 5 minutes here"), "{both}");
    assert!(!run("control/clock").contains("calibrated on"), "it knows nothing of that");
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
