//! Two builds of one engine in one run: each environment may name its engine's program, and the record says which it was.

#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{Dir, must_run};
use serde_json::Value;

/// The suite that all of these use: one burst of little.
const REST: &str = "blocks = 1\nrounds = 1\nburst = \"5ms\"\n[workloads.\"control/syscall\"]\n[environments.bare]\n";

/// An engine whose program can be copied, and where it is; loud where there is none.
fn engine() -> Option<(&'static str, String)> {
    for (runner, program) in [("runc", "runc"), ("bubblewrap", "bwrap")] {
        let found = Command::new("sh").args(["-c", "command -v \"$0\"", program]).output().expect("sh starts");
        let path = String::from_utf8(found.stdout).expect("text").trim().to_string();
        if found.status.success() {
            return Some((runner, path));
        }
        assert!(!must_run(runner), "{program} must be installed here");
    }
    eprintln!("SKIPPED: neither runc nor bubblewrap is installed");
    None
}

fn named(b: &Dir, name: &str, runner: &str, binary: &Path) -> String {
    format!("[environments.{name}]\nrunner = \"{runner}\"\nbinary = \"{}\"\n", b.at("").join(binary).display())
}

#[test]
fn two_copies_and_two_wrappers_are_four_environments_of_one_run() {
    let Some((runner, installed)) = engine() else { return };
    let b = Dir::new();
    let text = format!("#!/bin/sh\nexec {installed} \"$@\"\n");
    // A child writes them: what this process has open for writing may be open in a child of another test, and is started by nobody.
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        "cp \"$0\" head && cp \"$0\" base && printf %s \"$1\" > wrapped && chmod 755 wrapped && cp wrapped twice",
    ]);
    assert!(shell.arg(&installed).arg(text).current_dir(b.root()).status().expect("sh starts").success());
    let environments: String =
        ["head", "base", "wrapped", "twice"].map(|n| named(&b, n, runner, Path::new(n))).concat();
    let s = b.suite(&format!("{REST}{environments}"));
    b.run(&["run", &s, "--report", "r.json"]).ends_with_any(&[0, 4]);
    let report: Value = serde_json::from_slice(&fs::read(b.at("r.json")).expect("a report")).expect("JSON");
    let of = |name: &str| {
        let environments = report["environments"].as_array().expect("a list");
        environments.iter().find(|e| e["name"] == name).expect(name)
    };
    let program = |name: &str| of(name)["programs"][0].clone();
    for name in ["head", "base", "wrapped", "twice"] {
        assert_eq!(of(name)["outcome"], "measured", "{name}");
        assert_eq!(program(name)["path"], b.at(name).display().to_string());
        assert!(program(name)["version"].as_str().is_some_and(|v| v.starts_with(|c: char| c.is_ascii_digit())));
    }
    assert_eq!(program("head")["sha256"], program("base")["sha256"], "the same bytes");
    assert_ne!(program("head")["sha256"], program("wrapped")["sha256"]);
    let scripts = ["head", "base", "wrapped", "twice"].map(|name| program(name)["script"].as_bool());
    assert_eq!(scripts, [Some(false), Some(false), Some(true), Some(true)]);
    // A gate claims nothing of what a script starts.
    let gate = |head: &str, base: &str| {
        let gate =
            b.run(&["gate", "--head", head, "--base", base, "--format", "json"]).ends_with_any(&[0, 4, 8]).stdout;
        serde_json::from_str::<Value>(&gate).expect("JSON")
    };
    let same = gate("head", "base")["same_engine"].as_str().expect("the same").to_string();
    assert!(same.contains("A/A run"), "{same}");
    let wrapped = gate("wrapped", "twice");
    assert_eq!(wrapped["same_engine"], Value::Null);
    let notes = wrapped["notes"].to_string();
    assert!(notes.contains("isn't known") && notes.contains("wrapped is a script"), "{notes}");
    let other = gate("head", "wrapped");
    assert!(other["same_engine"].is_null() && !other["notes"].to_string().contains("same code"), "{other}");
    assert_eq!(of("bare")["programs"], Value::Array(Vec::new()), "our own binary has its own hash");
    // The page shows it to people.
    let page = String::from_utf8(b.run(&["report", "--format", "html"]).ends_with(0).stdout.into()).expect("text");
    assert!(page.contains(&b.at("wrapped").display().to_string()));
}

#[test]
fn a_program_that_is_none_is_refused_before_anything_starts() {
    let b = Dir::new();
    fs::write(b.at("text"), "no program").expect("written");
    for (binary, words) in
        [("gone", "there is no such file"), (".", "it is a directory"), ("text", "isn't executable (chmod +x")]
    {
        let s = b.suite(&format!("{REST}{}", named(&b, "head", "runc", Path::new(binary))));
        let ran = b.run(&["run", &s]).ends_with(2).says("environment `head` (runner runc)").says("`binary` can't be");
        ran.says(words).says("give the full path of a program, or leave it away");
    }
    let s = b.suite(&format!("{REST}[environments.head]\nrunner = \"runc\"\nbinary = \"runc\"\n"));
    b.run(&["run", &s]).ends_with(2).says("`binary` can't be `runc`: the full path of a program");
    let s = b.suite(&format!("{REST}[environments.vm]\nrunner = \"qemu\"\nkernel = \"/no/such/kernel\"\n"));
    b.run(&["run", &s]).ends_with(2).says("`kernel` can't be `/no/such/kernel`: there is no such file");
    b.holds_only(&["suite.toml", "text"]);
}
