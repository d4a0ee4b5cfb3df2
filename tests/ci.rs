//! The recipes for CI as their systems run them: every step by a real shell with the variables that are set there, on a store with
//! a history, with an engine that got slower and with one that didn't.

#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{Dir, Ran, ran};
use serde_json::Value;

/// Two builds of an engine, which is our own program entered by a command: the margin is so wide that a machine with other work
/// doesn't matter.
fn suite(b: &Dir, head: &str) {
    let program = env!("CARGO_BIN_EXE_tarebench");
    let engine = |name: &str, by: &str| {
        format!(
            "[environments.{name}]\nrunner = \"exec\"\ncommand = \"{by} {{run}}\"\ninstalled = \"{program}\"\ndata = \"{}\"\n",
            b.root().display()
        )
    };
    let throttled = format!("python3 {}", b.at("throttle.py").display());
    let head = if head == "slower" { throttled.as_str() } else { "env" };
    let engines = engine("base", "env") + &engine("head", head);
    let suite = format!("rounds = 1\nburst = \"3ms\"\n[environments.bare]\n{engines}[workloads.\"control/syscall\"]\n");
    fs::write(b.at("suite.toml"), suite).expect("written");
    fs::write(b.at("gate.toml"), "head = \"head\"\nbase = \"base\"\nmargin = 0.9\nfloor = \"1ns\"\n").expect("written");
    fs::write(b.at("throttle.py"), THROTTLE).expect("written");
}

/// A box that gets two of six milliseconds.
const THROTTLE: &str = "\
import os, signal, subprocess, sys, time
box = subprocess.Popen(sys.argv[1:])
while box.poll() is None:
    box.send_signal(signal.SIGSTOP)
    time.sleep(0.004)
    box.send_signal(signal.SIGCONT)
    time.sleep(0.002)
sys.exit(box.returncode)
";

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The steps of the action: each is a shell of its own, and after one that fails there is no next.
fn github(b: &Dir) -> Ran {
    let action = fs::read_to_string(top().join("action.yml")).expect("readable");
    let steps: Vec<&str> =
        action.lines().filter_map(|line| line.trim().strip_prefix("run: '")?.strip_suffix('\'')).collect();
    assert_eq!(steps.len(), 4, "{action}");
    let mut last = None;
    for step in steps {
        let mut shell = Command::new("bash");
        shell.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", step]);
        shell.env("GITHUB_ACTIONS", "true").env("GITHUB_ACTION_PATH", top());
        shell.env("GITHUB_SHA", "0123456789abcdef0123456789abcdef01234567").env("GITHUB_REF_NAME", "main");
        shell.env("GITHUB_STEP_SUMMARY", b.at("summary.md"));
        let ran = job(b, shell);
        let ended = ran.code != 0;
        last = Some(ran);
        if ended {
            break;
        }
    }
    last.expect("there are steps")
}

/// The lines of a job of GitLab: one shell, which ends at the first that fails.
fn gitlab(b: &Dir) -> Ran {
    let job = fs::read_to_string(top().join("scripts/gitlab-ci.yml")).expect("readable");
    let lines: Vec<&str> = job.lines().filter_map(|line| line.strip_prefix("    - ")).collect();
    assert_eq!(lines.len(), 4, "{job}");
    let mut shell = Command::new("bash");
    shell.args(["-eo", "pipefail", "-c", &lines.join("\n")]);
    shell.env("TAREBENCH", top()).env("GITLAB_CI", "true").env("CI", "true");
    shell.env("CI_COMMIT_SHA", "fedcba9876543210fedcba9876543210fedcba98").env("CI_COMMIT_REF_NAME", "main");
    self::job(b, shell)
}

/// The block of the page, in a shell that ends at the first line that fails.
fn shell(b: &Dir) -> Ran {
    let page = fs::read_to_string(top().join("docs/ci.md")).expect("readable");
    let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split_once("```").map(|(block, _)| block));
    let block = blocks.into_iter().find(|block| block.contains("scripts/ci\" get")).expect("a recipe");
    let mut shell = Command::new("sh");
    shell.args(["-e", "-c", block]).env("TAREBENCH", top()).env("TAREBENCH_DIR", b.at(".tarebench"));
    job(b, shell)
}

fn job(b: &Dir, mut shell: Command) -> Ran {
    shell.env("TAREBENCH_SUITE", "suite.toml").env("TAREBENCH_POLICY", "gate.toml");
    shell.env("TAREBENCH_BINARY", env!("CARGO_BIN_EXE_tarebench")).env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    for system in ["GITHUB_ACTIONS", "GITHUB_SHA", "GITHUB_REF_NAME", "GITHUB_STEP_SUMMARY", "CI_COMMIT_SHA", "CI"] {
        if !shell.get_envs().any(|(name, _)| name == system) {
            shell.env_remove(system);
        }
    }
    ran(shell.current_dir(b.root()).output().expect("bash starts"))
}

fn gate(b: &Dir) -> Value {
    let text = fs::read_to_string(b.at(".tarebench/reports/gate.json")).expect("the gate for programs");
    serde_json::from_str(&text).expect("JSON")
}

/// On a machine with other work a gate may say that it can't tell, and then it isn't green.
#[test]
fn what_got_slower_is_red_and_what_did_not_is_not() {
    let b = Dir::new();
    suite(&b, "equal");
    let equal = github(&b).ends_with_any(&[0, 4, 8]);
    assert!(!equal.stderr.contains("regressed"), "{}", equal.stderr);
    let summary = fs::read_to_string(b.at("summary.md")).expect("a summary");
    assert!(summary.contains("control/syscall"), "{summary}");

    suite(&b, "slower");
    gitlab(&b).ends_with_any(&[1, 4, 8]);
    let told = gate(&b).to_string();
    assert!(told.contains("\"head\"") && told.contains("control/syscall"), "{told}");
    for file in ["report.html", "report.json", "report.md", "gate.xml"] {
        assert!(fs::metadata(b.at(".tarebench/reports").join(file)).is_ok_and(|file| file.len() > 0), "{file}");
    }
    // Both runs are in one store, each with its commit.
    let runs = b.run(&["list", "runs", "--store", ".tarebench/tarebench.db"]).ends_with(0).stdout;
    assert!(runs.contains("commit=0123456789abcdef") && runs.contains("commit=fedcba9876543210"), "{runs}");
}

/// The labels that the script gives to a run where these are all of CI's variables.
fn labels_given(b: &Dir, set: &[(&str, &str)]) -> Vec<String> {
    let mut script = Command::new("bash");
    script.arg("-c").arg(format!("'{0}' get && '{0}' run", top().join("scripts/ci").display()));
    script.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path))).envs(set.iter().copied());
    // A repository around the directory of tests is none of theirs.
    script.env("GIT_CEILING_DIRECTORIES", b.root().parent().expect("a parent"));
    script.env("TAREBENCH_SUITE", "s").env("TAREBENCH_POLICY", "p").env("TAREBENCH_BINARY", b.at("words"));
    let told = ran(script.current_dir(b.root()).output().expect("bash starts")).ends_with(0).stdout;
    let words: Vec<&str> = told.split_whitespace().collect();
    words.windows(2).filter(|two| two[0] == "--label").map(|two| two[1].to_string()).collect()
}

#[test]
fn git_is_asked_only_for_what_ci_does_not_say() {
    let b = Dir::new();
    let shell = |line: &str| {
        let git = Command::new("bash").args(["-ec", line]).current_dir(b.root()).output().expect("bash starts");
        ran(git).ends_with(0).stdout.trim().to_string()
    };
    shell("printf '#!/bin/sh\\necho \"$@\"\\n' > words; chmod +x words");
    assert!(labels_given(&b, &[]).is_empty(), "there is nothing to ask");
    let made = "git init -q -b mend . && git -c user.name=x -c user.email=x@y commit -q --allow-empty -m x && git rev-parse HEAD";
    let commit = format!("commit={}", shell(made));
    assert_eq!(labels_given(&b, &[]), [commit.as_str(), "branch=mend"]);
    assert_eq!(labels_given(&b, &[("GIT_COMMIT", "abc"), ("GIT_BRANCH", "")]), ["branch=mend"]);
    shell("git checkout -q --detach");
    assert_eq!(labels_given(&b, &[]), [commit.as_str()], "a detached checkout is on no branch");
    assert!(
        labels_given(&b, &[("GITHUB_SHA", "abc"), ("GITHUB_HEAD_REF", "mend")]).is_empty(),
        "the program sees them"
    );
}

#[test]
fn a_job_that_measured_nothing_is_red_at_once() {
    let b = Dir::new();
    suite(&b, "equal");
    fs::write(b.at("suite.toml"), "blocks = \"many\"\n").expect("written");
    shell(&b).ends_with(2).says("blocks");
    github(&b).ends_with(2).says("blocks");
    assert!(!b.at(".tarebench/reports").exists(), "there is nothing to show");
}

#[test]
fn the_script_asks_git_only_where_no_variable_is_set_that_the_program_takes() {
    let read = |path: &str| fs::read_to_string(top().join(path)).expect("there");
    let (script, documented) = (read("scripts/ci"), read("docs/stores.md"));
    let source: String = read("src/commands/run.rs").split_whitespace().collect();
    for label in ["commit", "branch"] {
        let row = documented.lines().find_map(|line| line.strip_prefix(&format!("| `{label}` | `"))).expect("a row");
        let names: Vec<&str> = row.trim_end_matches("` |").split("`, `").collect();
        assert!(names.len() > 4, "{row}");
        assert!(script.contains(&format!("set_any {} ||", names.join(" "))), "{label}");
        assert!(source.contains(&format!("(\"{label}\",&[\"{}\"", names.join("\",\""))), "{label}");
    }
}
