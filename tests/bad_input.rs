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
fn environments_that_are_typed_have_names_of_their_own() {
    let b = Dir::new();
    let plan = |environments: &[&str]| {
        let mut words = vec!["plan", "quick"];
        words.extend(environments.iter().flat_map(|e| ["--env", e]));
        b.run(&words)
    };
    plan(&["head=runc", "base=runc:data=tmpfs"]).ends_with(0).says("  head ").says("  base ");
    // Both were called the same, and one was measured.
    let both = plan(&["bubblewrap:user=true", "bubblewrap:pid=true"]).ends_with(0);
    both.says("  bubblewrap-true ").says("  bubblewrap-true-2 ");
    let once = plan(&["bubblewrap:user=true", "bubblewrap:user=true"]).ends_with(0);
    assert!(!once.stdout.contains("bubblewrap-true-2"), "{}", once.stdout);
    plan(&["qemu:accel=tcg,disk.bus=nvme,disk.cache=writethrough,disk.format=qcow2"])
        .ends_with(0)
        .says("  qemu-tcg-nvme-writethrough-qcow2 ");
    let long = plan(&["qemu:accel=tcg,disk.bus=nvme,disk.cache=writethrough,disk.format=qcow2,machine=q35,net=user"]);
    long.ends_with(0).says("  qemu-tcg-nvme-writethrough-qcow2-q3");
    plan(&["x=runc", "x=crun"]).ends_with(2).says("two environments are called `x`");
    plan(&["bare=runc"]).ends_with(2).says("two environments are called `bare`");
    plan(&["a b=runc"]).ends_with(2).says("can't name an environment");
    // A name of the suite's own stands for what the suite says.
    let s = b.suite("[environments.bare]\n[environments.qemu-none]\nrunner = \"qemu\"\nmachine = \"pc\"\n[workloads.\"control/syscall\"]\n");
    b.run(&["plan", &s, "--env", "qemu-none"]).ends_with(0).says("machine=pc");
    // What is at its default isn't listed.
    let plan = b.run(&["plan", &s, "--env", "qemu:net=none"]).ends_with(0).says(" net=none\n");
    assert!(!plan.stdout.contains("machine="), "{}", plan.stdout);
    // What bounds a run is planned with.
    let bounded = ["plan", "--env", "bare", "--until", "3%", "--budget", "10m"];
    b.run(&bounded).ends_with(0).says("at most 100 blocks").says("within 3%").says("no new block after 10m");
    let longest = ["plan", "--env", "bare", "--budget", "18446744073709551615s"];
    b.run(&longest).ends_with(0).says("no new block after ");
    // What a stranger's suite says of itself does nothing to a terminal.
    let painted =
        b.suite("description = \"\\u001b[31mred\\u202e\"\n[environments.bare]\n[workloads.\"control/syscall\"]\n");
    b.run(&["plan", &painted]).ends_with(0).says(": ·[31mred·\n");
    // A suite that says nothing of itself is called by its name alone.
    assert!(plan.stdout.lines().next().is_some_and(|line| line.ends_with(".toml")), "{}", plan.stdout);
}

#[test]
fn what_was_asked_for_and_is_not_here_is_no_success() {
    let b = Dir::new();
    let mut gone = vec!["--env", "gone=exec:command=/no/such/program {run},copy=/no/such/program {binary} {agent}"];
    let rest = ["--workload", "control/syscall", "--blocks", "1"];
    let with = |verb: &str, environments: &[&str]| b.run(&[&[verb], environments, &rest].concat());
    for verb in ["run", "verify"] {
        with(verb, &gone).ends_with(3).says("skipping gone");
    }
    gone.extend(["--env", "bare"]);
    for verb in ["run", "verify"] {
        with(verb, &gone).ends_with(7).says("skipping gone");
    }
    // A suite takes what there is.
    let s = b.suite("blocks = 1\nrounds = 1\nburst = \"5ms\"\n[environments.bare]\n[environments.exec]\n[workloads.\"control/syscall\"]\n");
    b.run(&["run", &s]).ends_with_any(&[0, 4]).says("skipping exec");
}

#[test]
fn a_folder_is_no_database() {
    let b = Dir::new();
    let given = format!("sqlite/replay:database={0},statements={0}", b.root().display());
    b.run(&["plan", "--env", "bare", "--workload", &given])
        .ends_with(2)
        .says("`database` takes one file")
        .says("is a folder");
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
fn help_is_an_answer() {
    let b = Dir::new();
    for words in [&["gate"][..], &["prove", "durability"], &["import", "fio"]] {
        let shown = format!("  tarebench {}", words.join(" "));
        b.run(&[words, &["--help"]].concat()).ends_with(0).says("Example").says(&shown);
    }
    b.run(&["--help"]).ends_with(0).says("Exit codes:");
    b.run(&["completions", "bash"]).ends_with(0).says("complete -F");
    b.run(&["man"]).ends_with(0).says(".TH tarebench");
}

#[test]
fn a_directory_is_no_store() {
    let b = Dir::new();
    for words in [["report", "--store", "."], ["run", "--store", "."]] {
        b.run(&words).ends_with(5).says(". is a directory: name the file in it, as in --store ./tarebench.db");
    }
    b.holds_only(&[]);
}

/// An output of fio as a block of an environment.
fn imported(environment: &str) -> String {
    format!("{environment}={}/tests/fio/read-plus.json", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_full_disk_behind_stdout_is_an_error_and_a_closed_pipe_is_none() {
    let b = Dir::new();
    let (bare, head) = (imported("bare"), imported("head"));
    for _ in 0..2 {
        b.run(&["import", "fio", &bare, &head]).ends_with(0);
    }
    let runs = b.run(&["list", "runs", "--json"]).ends_with(0).stdout;
    let runs: serde_json::Value = serde_json::from_str(&runs).expect("JSON");
    let [first, second] = [0, 1].map(|at| runs[at]["id"].as_str().expect("an id").to_string());
    let commands: [&[&str]; 14] = [
        &["completions", "bash"],
        &["man"],
        &["--help"],
        &["report", "--help"],
        &["list", "workloads"],
        &["plan"],
        &["list", "suites", "--json"],
        &["list", "runs"],
        &["explain", "--help"],
        &["report"],
        &["report", "--format", "json"],
        &["trend"],
        &["compare", &first, &second],
        &["gate", "--head", "head", "--base", "bare", "--format", "json", "--fail-on", "regressed"],
    ];
    for words in commands {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
        let output = b.command(words).stdout(full).output().expect("the program starts");
        common::ran(output).ends_with(6).says("can't write to stdout");
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = b.command(words).stdout(writer).output().expect("the program starts");
        assert_eq!(common::ran(output).ends_with(0).stderr, "", "{words:?}");
        // No stdin and no stdout at all, as some daemons start programs.
        let program = env!("CARGO_BIN_EXE_tarebench");
        let closed = format!("exec {program} {} <&- >&-", words.join(" "));
        let mut shell = std::process::Command::new("sh");
        let output = shell.args(["-c", &closed]).current_dir(b.root()).output().expect("a shell");
        common::ran(output).ends_with(0);
    }
}

#[test]
fn a_full_disk_behind_stderr_changes_no_exit_code() {
    let b = Dir::new();
    let commands: [(&[&str], i32); 4] = [
        (&["report", "nosuch"], 5),
        (&["run", "nosuch"], 2),
        (&["run", "--env", "namespaces", "--workload", "control/syscall", "--blocks", "1", "-v"], 0),
        (&["import", "fio", "missing.json"], 2),
    ];
    for (words, code) in commands {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
        let output = b.command(words).stderr(full).output().expect("the program starts");
        assert_eq!(output.status.code(), Some(code), "{words:?}");
    }
}

#[test]
fn no_usage_asks_for_a_store_that_a_variable_names() {
    let b = Dir::new();
    let usage = |words: &[&str]| {
        let ran = common::ran(b.command(words).env("TAREBENCH_STORE", "own.db").output().expect("it starts"));
        let text = ran.stdout + &ran.stderr;
        text.lines()
            .find_map(|line| line.strip_prefix("Usage: "))
            .unwrap_or_else(|| panic!("{words:?}: {text}"))
            .to_string()
    };
    for (words, expected) in [
        (&["import", "fio", "--nonsense"][..], "tarebench import fio [OPTIONS] <[NAME=]FILE>..."),
        (&["import", "hdr", "--help"], "tarebench import hdr [OPTIONS] <[NAME=]FILE>..."),
        (&["prove", "durability"], "tarebench prove durability [OPTIONS] <ENVIRONMENT>..."),
        (&["explain"], "tarebench explain [OPTIONS] <ENVIRONMENT>"),
        (&["gate", "--nonsense"], "tarebench gate [OPTIONS] [RUN]"),
        (&["remove"], "tarebench remove [OPTIONS] <RUN>..."),
    ] {
        assert_eq!(usage(words), expected, "{words:?}");
    }
}
