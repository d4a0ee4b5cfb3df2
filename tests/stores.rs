//! Runs that travel, as their users move them.

#![cfg(target_os = "linux")]

mod common;

use common::{Dir, Ran, ran};

fn runs(dir: &Dir, store: &str) -> Vec<serde_json::Value> {
    let list = dir.run(&["list", "runs", "--json", "--store", store]).ends_with(0).stdout;
    serde_json::from_str::<serde_json::Value>(&list).expect("JSON").as_array().expect("a list").clone()
}

fn measured(dir: &Dir, commit: &str) -> Ran {
    let words = ["run", "--env", "bare", "--workload", "control/syscall", "--blocks", "1"];
    let mut command = dir.command(&words);
    command.env("GITHUB_SHA", commit).env("GITHUB_HEAD_REF", "").env("GITHUB_REF_NAME", "main");
    ran(command.output().expect("the program starts"))
}

#[test]
fn a_run_goes_into_a_file_and_comes_back() {
    let b = Dir::new();
    let began = std::time::Instant::now();
    measured(&b, "abc").ends_with(0);
    let longest = began.elapsed().as_secs_f64();
    measured(&b, "def").ends_with(0);
    let first = &runs(&b, "tarebench.db")[0];
    assert_eq!(first["labels"], serde_json::json!(["branch=main", "commit=abc"]));
    let seconds = first["seconds"].as_f64().expect("a number");
    assert!(seconds > 0.0 && seconds <= longest, "{seconds} s of {longest} s");
    assert_eq!(first["environments"], serde_json::json!(["bare", "control"]));
    assert_eq!(first["workloads"], serde_json::json!(["control/syscall"]));
    b.run(&["export", "commit=abc", "-o", "abc.db"]).ends_with(0).says("1 run in abc.db");
    b.run(&["export", "latest", "-o", "abc.db"]).ends_with(5).says("there is something at abc.db already");
    b.run(&["report", "--store", "abc.db"]).ends_with(0).says("control/syscall");
    let drawn = b.run(&["report", "commit=abc"]).stdout;
    b.run(&["remove", "commit=abc"]).ends_with(0).says("1 run removed");
    b.run(&["report", "commit=abc"]).ends_with(2).says("no run in tarebench.db is called `commit=abc`");
    b.run(&["merge", "abc.db"]).ends_with(0).says("abc.db: 1 run added, 0 went on, 0 known already");
    b.run(&["merge", "abc.db", "abc.db"]).ends_with(0).says("0 runs added, 0 went on, 1 known already");
    assert_eq!(b.run(&["report", "commit=abc"]).stdout, drawn, "the same rows draw the same bytes");
    assert_eq!(runs(&b, "tarebench.db").len(), 2);
    // What came last is the latest, though it was measured before.
    assert_eq!(b.run(&["report", "latest"]).stdout, drawn);
    std::fs::write(b.at("notes.db"), "these are notes, and no store of runs at all").expect("written");
    b.run(&["merge", "notes.db"]).ends_with(5).says("notes.db is not a database");
    b.run(&["accept", "latest", "--reason", " "]).ends_with(2).says("--reason");
    b.run(&["accept", "latest", "--reason", "why not"]).ends_with(5).says("takes 6 blocks");
    b.run(&["prune", "--keep", "0", "--shrink"]).ends_with(0).says("2 runs pruned: what they cost stays");
    b.run(&["report"]).ends_with(5).says("were removed on").says("tarebench trend");
    b.run(&["prune"]).ends_with(2);
    b.run(&["trend"]).ends_with(0).says("quick on ").says("2 runs");
    b.run(&["trend", "-o", "trend.html"]).ends_with(0);
    b.run(&["trend", "-o", "trend.svg"]).ends_with(2).says("has to end in .html");
    b.run(&["merge", "nothing.db"]).ends_with(5).says("there is no file nothing.db");
    assert!(std::fs::read_to_string(b.at("trend.html")).expect("a page").contains("tarebench trend"));
    b.run(&["trend", "nothing"]).ends_with(2).says("no run in tarebench.db is called `nothing`");
    let list = b.run(&["list", "runs"]).ends_with(0).says("pruned").says("control/syscall in bare").stdout;
    assert_eq!(list.lines().count(), 2);
}
