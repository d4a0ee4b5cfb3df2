//! The examples of docs/own-work.md as a reader types them, and a command that doesn't end when it should.

#![cfg(target_os = "linux")]

mod common;

use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Dir, Ran, eventually, ran};

/// A run is done where the machine was too restless for its figures, too.
const QUIET_OR_NOT: &[i32] = &[0, 4];

/// What a page has in the fenced block below this mark.
fn example(mark: &str) -> String {
    let page = include_str!("../docs/own-work.md");
    let (_, from) = page.split_once(&format!("<!-- tested: {mark} -->\n```sh\n")).expect("the page has the example");
    from.split_once("```").expect("it ends").0.to_string()
}

/// The lines of a page, in a folder of the test's own, in one block and with the boxes that are here.
fn follow(dir: &Dir, text: &str) -> Ran {
    let found = |engine: &str| Command::new(engine).arg("--version").output().is_ok_and(|o| o.status.success());
    let mut text = text.replace("/tmp/weigh", dir.at("weigh").to_str().expect("text"));
    for (environment, engine) in [("bubblewrap", "bwrap"), ("runc", "runc"), ("gvisor", "runsc")] {
        if !found(engine) {
            eprintln!("SKIPPED: {environment} is not here");
            text = text.replace(&format!(" --env {environment}"), "");
        }
    }
    let text = text.replace("tarebench run", "tarebench run --blocks 1 --beside");
    let program = dir.at("bin");
    std::fs::create_dir(&program).expect("made");
    symlink(env!("CARGO_BIN_EXE_tarebench"), program.join("tarebench")).expect("linked");
    let path = format!("{}:{}", program.display(), std::env::var("PATH").expect("set"));
    let store = dir.at("store.db");
    let mut shell = Command::new("sh");
    shell.args(["-euc", &text]).env("PATH", path).env("TAREBENCH_STORE", store).stdin(Stdio::null());
    ran(shell.current_dir(dir.root()).output().expect("a shell"))
}

#[test]
fn git_status_is_weighed_as_the_page_says() {
    if Command::new("git").arg("--version").output().is_err() || cfg!(not(target_arch = "x86_64")) {
        return eprintln!("SKIPPED: no git, or another loader than the page's");
    }
    let dir = Dir::new();
    let author = "-c user.name=a -c user.email=a@example.org";
    let repository = format!("git init -q . && echo x > file && git add file && git {author} commit -qm first\n");
    let ran = follow(&dir, &(repository + &example("git")))
        .ends_with_any(QUIET_OR_NOT)
        .says("git")
        .says("CPU time of its processes");
    for environment in ["bare", "namespaces"] {
        assert!(ran.stdout.contains(environment), "{}", ran.stdout);
    }
    assert!(!ran.stderr.contains("failed"), "{}", ran.stderr);
}

#[test]
fn a_database_is_weighed_as_the_page_says() {
    if Command::new("sqlite3").arg("--version").output().is_err() {
        return eprintln!("SKIPPED: no sqlite3");
    }
    let dir = Dir::new();
    let ran = follow(&dir, &example("replay")).ends_with_any(QUIET_OR_NOT).says("queries");
    assert!(!ran.stderr.contains("failed"), "{}", ran.stderr);
    let store = std::fs::read(dir.at("store.db")).expect("the run is stored");
    let kept = |text: &str| store.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(kept("app.sql") && !kept("visit") && !kept("/help"), "no statement and no value is stored");
}

#[test]
fn a_burst_of_statements_is_all_of_the_file() {
    let dir = Dir::new();
    let app = rusqlite::Connection::open(dir.at("app.db")).expect("a database");
    app.execute_batch("CREATE TABLE visit (page INTEGER); INSERT INTO visit VALUES (1)").expect("a table");
    drop(app);
    let statements = (0..30).map(|nth| format!("UPDATE visit SET page = {nth};\n"));
    std::fs::write(dir.at("app.sql"), statements.collect::<String>()).expect("written");
    let at = |name: &str| dir.at(name).to_str().expect("text").to_string();
    let suite = format!(
        "baseline = \"bare\"\nblocks = 1\nrounds = 1\nburst = \"1ms\"\n[environments.bare]\n[workloads.\"sqlite/replay\"]\n\
         database = \"{}\"\nstatements = \"{}\"\nsynchronous = \"off\"\n",
        at("app.db"),
        at("app.sql")
    );
    let ran = dir.run(&["run", &dir.suite(&suite)]).ends_with_any(QUIET_OR_NOT);
    assert!(!ran.stdout.contains("that there are"), "{}", ran.stdout);
    let operations = |dir: &Dir| -> Vec<i64> {
        let store = rusqlite::Connection::open(dir.at("tarebench.db")).expect("a store");
        let mut all = store.prepare("SELECT operations FROM burst ORDER BY nth").expect("bursts");
        all.query_map([], |row| row.get(0)).expect("rows").map(|row| row.expect("a number")).collect()
    };
    assert!(operations(&dir).iter().all(|done| *done > 0 && done % 30 == 0), "{:?}", operations(&dir));
    let part = dir.suite(&format!("{suite}operations = 7\n"));
    dir.run(&["run", &part]).ends_with_any(QUIET_OR_NOT).says("bursts of 7 of the 30 operations");
}

#[test]
fn a_command_that_fails_in_each_block_is_warned_of_once() {
    let dir = Dir::new();
    let suite =
        "baseline = \"bare\"\nblocks = 3\n[environments.bare]\n[workloads.\"command/run\"]\nexec = \"./gone\"\n";
    let ran = dir.run(&["run", &dir.suite(suite)]);
    for environment in ["bare", "control"] {
        let line = format!("warning: command/run in {environment} failed");
        assert_eq!(ran.stderr.matches(&line).count(), 1, "{}", ran.stderr);
    }
}

fn alive(text: &str) -> usize {
    let entries = std::fs::read_dir("/proc").expect("mounted").flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).starts_with(text)).count()
}

/// In a box without a PID namespace nothing but we can end what a command has started.
#[test]
fn nothing_of_a_command_outlives_an_interrupted_run() {
    let dir = Dir::new();
    let number = format!("{}.5", 900_000 + std::process::id());
    let line = format!("sh -c 'setsid sleep {number} & sleep {number} & sleep {number}'");
    let suite = format!(
        "description = \"stays\"\nbaseline = \"bare\"\n[environments.bare]\n[workloads.\"command/run\"]\nexec = \"{line}\"\n"
    );
    let suite = dir.suite(&suite);
    let mut harness = dir.start(&["run", &suite]);
    let sleeper = format!("sleep\0{number}");
    // In the baseline and its control, which prepare side by side.
    eventually("three sleep", Duration::from_secs(60), || alive(&sleeper) >= 3);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(harness.id() as i32), nix::sys::signal::Signal::SIGINT)
        .expect("it is ours");
    harness.wait().expect("it ends");
    eventually("all are gone", Duration::from_secs(5), || alive(&sleeper) == 0);
}
