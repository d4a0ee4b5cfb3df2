//! Gates as their users run them, on runs that were put into the store by `import`: every verdict with its exit code.

mod common;

use common::{Dir, Ran, fio};
use serde_json::Value;

/// Blocks of the made-up runs.
const BLOCKS: usize = 12;

/// A store with a run of `bare`, `control`, `base` and `head` in which head takes `factor` times as long as base, give or take the noise of a block.
fn measured(factor: f64) -> Dir {
    let b = Dir::new();
    add(&b, factor);
    b
}

fn add(b: &Dir, factor: f64) {
    add_blocks(b, factor, BLOCKS);
}

fn add_blocks(b: &Dir, factor: f64, blocks: usize) {
    let mut words = vec!["import".to_string(), "fio".into()];
    for block in 0..blocks {
        for (nth, (name, times)) in
            [("bare", 1.0), ("control", 1.0), ("base", 1.2), ("head", 1.2 * factor)].into_iter().enumerate()
        {
            // And the weather of the block: the same file twice would be one block.
            let noise = 1.0 + 0.01 * ((block * 7 + nth * 5) % 5) as f64 + 0.001 * block as f64;
            let file = b.at(&format!("{name}-{block}.json"));
            std::fs::write(&file, fio(times * noise).to_string()).expect("written");
            words.push(format!("{name}={}", file.display()));
        }
    }
    b.run(&words.iter().map(String::as_str).collect::<Vec<_>>()).ends_with(0);
}

fn gate(b: &Dir, words: &[&str]) -> Ran {
    b.run(&[&["gate", "--head", "head", "--base", "base"], words].concat())
}

#[test]
fn two_runs_are_compared_by_their_overheads_and_what_differs_is_said_first() {
    let b = measured(1.0);
    add(&b, 1.3);
    let runs: Value = serde_json::from_str(&b.run(&["list", "runs", "--json"]).ends_with(0).stdout).expect("JSON");
    let id = |at: usize| runs[at]["id"].as_str().expect("an id").to_string();
    let compare = |words: &[&str]| b.run(&[&["compare", &id(0), &id(1)], words].concat());
    compare(&[])
        .ends_with(0)
        .says("worse in the second")
        .says("no difference seen")
        .says("Overheads are over the baseline");
    let json: Value = serde_json::from_str(&compare(&["--format", "json"]).ends_with(0).stdout).expect("JSON");
    let rows = json["rows"].as_array().expect("rows");
    let of = |environment: &str| {
        let here = |r: &&Value| r["environment"] == environment && r["metric"] == "throughput";
        rows.iter().find(here).expect("a row")
    };
    assert!((of("head")["ratio"].as_f64().expect("a number") - 1.3).abs() < 0.02, "{json}");
    assert_eq!((&of("head")["differs"], &of("base")["differs"]), (&true.into(), &false.into()));
    compare(&["-o", "both.html"]).ends_with(0);
    assert!(std::fs::read_to_string(b.at("both.html")).expect("a page").contains("<svg"));
    b.run(&["compare", &id(0), &id(0)]).ends_with(2).says("both are run");
    compare(&["--format", "htlm"]).ends_with(2).says("did you mean `html`?");
    compare(&["-o", "gone/both.html"]).ends_with(6);
    // `-` is stdout, and no file of that name.
    assert_eq!(compare(&["-o", "-"]).ends_with(0).stdout, compare(&[]).stdout);
    let page = |words: &[&str]| b.run(words).ends_with(0).stdout.contains("<svg");
    assert!(page(&["compare", &id(0), &id(1), "--format", "html", "-o", "-"]) && page(&["trend", "-o", "-"]));
    assert_eq!(b.run(&["report", "-o", "-"]).ends_with(0).stdout, b.run(&["report"]).stdout);
    let json = b.run(&["report", "--format", "json", "-o", "-"]).ends_with(0).stdout;
    assert!(serde_json::from_str::<Value>(&json).is_ok() && !b.at("-").exists());
    let output = b.command(&["export", "latest", "-o", "-"]).output().expect("the program starts");
    std::fs::write(b.at("piped.db"), output.stdout).expect("written");
    b.run(&["report", "--store", "piped.db"]).ends_with(0);
    b.run(&["compare", &id(0), "nothing-like-it"]).ends_with(2).says("no run");
}

#[test]
fn every_verdict_has_its_exit_code() {
    let equal = measured(1.0);
    gate(&equal, &[]).ends_with(0).says("import fio: pass");
    let worse = measured(1.1);
    gate(&worse, &[]).ends_with(1).says("import fio: regressed").says("cost in head against base");
    gate(&worse, &["--fail-on", "invalid,no-baseline"]).ends_with(0).says("regressed");
    gate(&measured(0.9), &[]).ends_with(0).says("import fio: improved");

    let few = Dir::new();
    add_blocks(&few, 1.1, 3);
    gate(&few, &[]).ends_with(4).says("import fio: inconclusive");
    gate(&few, &["--fail-on", "regressed"]).ends_with(0).says("inconclusive");

    // Whoever looks at the words only in part, as `head` does, has the verdict all the same.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let words = ["gate", "--head", "head", "--base", "base"];
    let output = worse.command(&words).stdout(writer).output().expect("the program starts");
    assert_eq!(common::ran(output).ends_with(1).stderr, "");

    let policy = |text: &str| {
        std::fs::write(worse.at("gate.toml"), text).expect("written");
        worse.run(&["gate", "--policy", "gate.toml"])
    };
    policy("modes = [\"history\"]\n")
        .ends_with(9)
        .says("no-baseline")
        .says("10 more accepted runs")
        .says("accept RUN --add --reason");
    policy("[[rule]]\nenvironment = \"head\"\nbudget = 1.2\n").ends_with(1).says("over the budget of 1.2×");
    policy("[[rule]]\nenvironment = \"head\"\nbudget = 1.5\n").ends_with(0).says("pass");
    policy("head = \"head\"\nbase = \"base\"\nmargin = 0.11\n").ends_with(0).says("pass");
    policy("head = \"head\"\nbase = \"base\"\nfloor = \"1ms\"\n[[rule]]\nmetric = \"p99.9\"\n")
        .ends_with(8)
        .says("no p99.9 of head");
    policy("head = \"head\"\nbase = \"base\"\nfloor = \"1ms\"\n").ends_with(0).says("pass");
}

#[test]
fn what_can_not_be_judged_is_an_error_that_says_what_to_do() {
    let b = measured(1.0);
    b.run(&["gate"]).ends_with(2).says("--policy FILE, or --head ENV and --base ENV");
    b.run(&["gate", "--head", "head"]).ends_with(2).says("--base");
    b.run(&["gate", "--policy", "gone.toml"]).ends_with(2).says("can't read the policy gone.toml");
    b.run(&["gate", "--policy", "/dev/zero"]).ends_with(2).says("it is longer than 1 MiB");
    let escaped = b.run(&["gate", "--head", "\u{1b}[2J-none", "--base", "base"]).ends_with(2).stderr;
    assert!(escaped.contains("·[2J-none") && !escaped.contains('\u{1b}'), "{escaped}");
    b.run(&["gate", "--head", "haed", "--base", "base"]).ends_with(2).says("did you mean `head`?");
    gate(&b, &["nothing-like-it"]).ends_with(2).says("no run");
    gate(&b, &["--format", "jnuit"]).ends_with(2).says("did you mean `junit`?");
    gate(&b, &["--fail-on", "pass"]).ends_with(2);
    gate(&b, &["--store", "gone.db"]).ends_with(5).says("no store");
    gate(&b, &["--step-summary"]).ends_with(2).says("GITHUB_STEP_SUMMARY");
    std::fs::write(b.at("gate.toml"), "head = \"head\"\nbase = \"base\"\nmargni = 0.1\n").expect("written");
    b.run(&["gate", "--policy", "gate.toml"]).ends_with(2).says("line 3").says("did you mean `margin`?");
    let db = rusqlite::Connection::open(b.at("tarebench.db")).expect("a store");
    db.pragma_update(None, "user_version", 99).expect("written");
    drop(db);
    gate(&b, &[]).ends_with(5).says("use the newer tarebench");
}

#[test]
fn a_run_that_was_killed_is_invalid_whatever_it_has() {
    let b = measured(1.0);
    let db = rusqlite::Connection::open(b.at("tarebench.db")).expect("a store");
    db.execute("UPDATE run SET ending = 'unfinished'", []).expect("written");
    drop(db);
    gate(&b, &[]).ends_with(8).says("not at its end");
}

#[test]
fn a_gate_is_told_to_people_programs_and_pages() {
    let b = measured(1.1);
    let json: Value = serde_json::from_str(&gate(&b, &["--format", "json"]).ends_with(1).stdout).expect("JSON");
    assert_eq!((&json["verdict"], &json["failed"]), (&"regressed".into(), &true.into()));
    gate(&b, &["--format", "junit"]).ends_with(1).says("<failure type=\"regressed\"");
    gate(&b, &["--format", "github"]).ends_with(1).says("::error title=regressed fio/rr-read in head::");
    let summary = b.at("summary.md");
    std::fs::write(&summary, "before\n").expect("written");
    let mut command = b.command(&["gate", "--head", "head", "--base", "base", "--step-summary"]);
    command.env("GITHUB_STEP_SUMMARY", &summary);
    common::ran(command.output().expect("it starts")).ends_with(1);
    let text = std::fs::read_to_string(&summary).expect("readable");
    assert!(text.starts_with("before\n## tarebench gate: regressed\n"), "{text}");
    // The same store and the same policy give the same bytes.
    assert_eq!(gate(&b, &[]).stdout, gate(&b, &[]).stdout);
}

#[test]
fn a_policy_that_asks_for_nothing_costs_no_run() {
    let b = Dir::new();
    let suite = b.suite("[environments.bare]\n[environments.copy]\nrunner = \"bare\"\n[workloads.\"control/cpu\"]\n");
    std::fs::write(b.at("gate.toml"), "margin = 0.1\n").expect("written");
    b.run(&["run", &suite, "--gate", "gate.toml"]).ends_with(2).says("the policy asks nothing of this run");
    // Before anything is measured.
    let few = b.run(&["run", &suite, "--gate", "gate.toml", "--blocks", "2"]).ends_with(2);
    few.says("--blocks 2 is too few to be judged").says("give --blocks 3 or more");
    assert!(!b.at("tarebench.db").exists(), "nothing was begun");
}
