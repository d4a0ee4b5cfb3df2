//! Every mistake a user can type gets an error that says what, where and what to do, and its documented exit code.

mod common;

use common::Dir;

#[test]
fn unknown_names_are_answered_with_the_nearest() {
    let b = Dir::new();
    b.run(&["run", "quikc"]).ends_with(2).says("did you mean `quick`?");
    b.run(&["plan", "quick", "--env", "gviso"])
        .ends_with(2)
        .says("there is no runner `gviso`")
        .says("did you mean `gvisor`?");
    b.run(&["plan", "quick", "--workload", "sqlite/comit"]).ends_with(2).says("did you mean `sqlite/commit`?");
    b.run(&["plan", "quick", "--env", "qemu:acel=tcg"])
        .ends_with(2)
        .says("unknown setting `acel`; did you mean `accel`?");
    b.run(&["plan", "quick", "--env", "qemu:accel=xen"]).ends_with(2).says("`accel` can't be `xen`: one of");
    b.run(&["plan", "quick", "--env", "qemu:accel"]).ends_with(2).says("is not key=value");
    b.run(&["report", "--format", "htlm"]).ends_with(2).says("did you mean `html`?");
    b.run(&["run", "--report", "report.pdf"]).ends_with(2).says(".csv, .hgrm, .hlog, .html, .json, .md");
    let hint = b.run(&["report", "-o", "report.pdf"]).ends_with(2).says("says no format").stderr;
    assert!(hint.contains("--format"), "{hint}");
    let hint = b.run(&["run", "--report", "report.pdf"]).stderr;
    assert!(!hint.contains("--format"), "`run` has no such option: {hint}");
    b.run(&["frobnicate"]).ends_with(2).says("frobnicate");
    b.holds_only(&[]);
}

#[test]
fn a_suite_is_read_strictly() {
    let b = Dir::new();
    let s = b.suite("blocks = 2\nruonds = 1\n[environments.bare]\n[workloads.\"control/syscall\"]\n");
    b.run(&["plan", &s]).ends_with(2).says("suite.toml, line 2: unknown key `ruonds`; did you mean `rounds`?");
    let s = b.suite("burst = \"3 fortnights\"\n");
    b.run(&["plan", &s]).ends_with(2).says("line 1: `burst` is not a duration");
    let s = b.suite("burst = \"100ms\"\nburst_max = \"50ms\"\n[environments.bare]\n[workloads.\"control/syscall\"]\n");
    b.run(&["plan", &s]).ends_with(2).says("`burst_max` is shorter than `burst`");
    let s = b.suite("[environments.runc]\n[workloads.\"control/syscall\"]\n");
    b.run(&["plan", &s]).ends_with(2).says("the baseline `bare` is not among the environments");
    let s = b.suite("[environments.bare]\n");
    b.run(&["plan", &s]).ends_with(2).says("has no workloads");
    let s =
        b.suite("[environments.bare]\n[environments.control]\nrunner = \"bare\"\n[workloads.\"control/syscall\"]\n");
    b.run(&["plan", &s]).ends_with(2).says("the name `control` is taken");
    let s = b.suite("this is not toml");
    b.run(&["plan", &s]).ends_with(2).says("suite.toml");
}

#[test]
fn a_data_directory_must_be_a_directory_on_a_disk() {
    let b = Dir::new();
    let small = ["run", "--env", "bare", "--workload", "control/syscall", "--blocks", "1", "--data-dir"];
    let with = |dir: &str| b.run(&[&small[..], &[dir]].concat());
    with("missing").ends_with(6).says("missing");
    std::fs::write(b.at("file"), "").expect("written");
    with("file").ends_with(6).says("not a directory");
    if std::path::Path::new("/dev/shm").is_dir() {
        with("/dev/shm").ends_with(6).says("tmpfs").says("--allow-memory");
    }
}

#[test]
fn a_store_that_is_not_ours_is_left_alone() {
    let b = Dir::new();
    std::fs::write(
        b.at("notes.db"),
        "dear diary, this is not a database at all, and it is long enough to look like one",
    )
    .expect("written");
    b.run(&["report", "--store", "notes.db"]).ends_with(5).says("notes.db");
    b.run(&["list", "runs", "--store", "nowhere.db"]).ends_with(5).says("nowhere.db");
    let before = std::fs::read(b.at("notes.db")).expect("still there");
    assert!(before.starts_with(b"dear diary"));
    b.run(&["run", "--store", "no/such/folder/t.db"]).ends_with(5).says("no/such/folder");
}

#[test]
fn help_of_every_command_has_an_example() {
    let b = Dir::new();
    for command in ["run", "doctor", "list", "plan", "verify", "report", "import", "completions", "man"] {
        b.run(&[command, "--help"]).ends_with(0).says("Example").says(&format!("tarebench {command}"));
    }
    b.run(&["--help"]).ends_with(0).says("Exit codes:");
    b.run(&["completions", "bash"]).ends_with(0).says("complete -F");
    b.run(&["man"]).ends_with(0).says(".TH tarebench");
}
