//! The power cut below real boxes: a bind mount keeps what it acknowledged, memory and a database that doesn't flush lose it.

#![cfg(target_os = "linux")]

mod common;

use common::{Dir, must_run};

/// Whether the disk can be made here; said where it can't.
fn can_cut() -> bool {
    let root = nix::unistd::geteuid().is_root();
    let can = root && std::path::Path::new("/dev/fuse").exists() && std::path::Path::new("/dev/loop-control").exists();
    if !can {
        assert!(!must_run("durability"), "the power has to be cut here: root, /dev/fuse and loop devices are needed");
        eprintln!("SKIPPED: cutting the power needs root, /dev/fuse and loop devices");
    }
    can
}

#[test]
fn a_bind_mount_keeps_its_promises_and_memory_breaks_them() {
    let dir = Dir::new();
    if !can_cut() {
        return;
    }
    let few = ["--cuts", "12", "--items", "12", "--seed", "1"];
    let prove = |words: &[&str]| dir.run(&[&["prove", "durability"], words, &few].concat());
    let ways = "append,maildir,rename,sqlite-wal-full,sqlite-wal-off";
    let ran = prove(&["bare", "--workload", ways, "--format", "json"]).ends_with(0);
    let told: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    for outcome in told["environments"][0]["outcomes"].as_array().expect("outcomes") {
        // What is never flushed is lost, by which the others' cuts are known to be real.
        let loses = outcome["workload"] == "sqlite-wal-off";
        assert_eq!(outcome["cuts"], 12);
        assert_eq!(outcome["losing"].as_u64() > Some(0), loses, "{outcome}");
        assert_eq!(outcome["broken"], 0, "{outcome}");
    }
    prove(&["namespaces:data=tmpfs", "--workload", "append"]).ends_with(7).says("BROKE a promise");
    prove(&["namespaces:data=tmpfs", "--workload", "append", "--mode", "kill"]).ends_with(7).says("alone was killed");
    prove(&["bare", "--workload", "append,sqlite-wal-off", "--mode", "kill"]).ends_with(0).says("kept every promise");
    dir.holds_only(&[]);
}

#[test]
fn what_can_not_be_proved_says_why() {
    let dir = Dir::new();
    let prove = |words: &[&str]| dir.run(&[&["prove", "durability"], words].concat());
    prove(&["nosuch"]).ends_with(2).says("there is no runner `nosuch`");
    prove(&["bare", "--workload", "appendix"]).ends_with(2).says("append");
    if can_cut() {
        prove(&["exec", "--cuts", "1"]).ends_with(3).says("needs setting");
    }
}
