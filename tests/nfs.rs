//! Data on NFS from the host, for real: a guest mounts what a server in user space exports, does its work there, and nothing
//! is left of either, not even after the harness was killed.

#![cfg(target_os = "linux")]

mod common;

use std::process::Command;
use std::time::Duration;

use common::{Bench, eventually, must_run, traces};
use nix::unistd::geteuid;

fn available() -> bool {
    let there = Command::new("ganesha.nfsd").arg("-v").output().is_ok() && geteuid().is_root();
    assert!(there || !must_run("nfs"), "nfs-ganesha must be installed here");
    if !there {
        eprintln!("SKIPPED: needs root and nfs-ganesha; apt install nfs-ganesha nfs-ganesha-vfs");
    }
    there
}

/// Servers whose settings are below the scratch directory of a run.
fn servers(id: &str) -> usize {
    traces(id).iter().filter(|t| t.contains("ganesha.nfsd")).count()
}

#[test]
fn a_guest_works_on_an_export_of_the_host() {
    if !available() {
        return;
    }
    let b = Bench::new();
    let words = ["verify", "--env", "qemu:data=nfs", "--workload", "sqlite/commit", "--workload", "disk/fsync"];
    b.run(&words).ends_with(0).says("qemu-nfs");
    b.run(&["plan", "--env", "qemu:data=floppy"]).ends_with(2).says("one of disk, nfs");
    b.run(&["run", "--env", "qemu:data=nfs,net=user", "--workload", "control/syscall", "--blocks", "1"])
        .says("net=tap");
    b.holds_only(&["tarebench.db"]);
}

#[test]
fn the_server_goes_with_a_killed_harness() {
    if !available() {
        return;
    }
    let b = Bench::new();
    let mut harness = b.start(&["run", "--env", "qemu:data=nfs", "--workload", "disk/fsync", "--blocks", "200"]);
    let mut id = String::new();
    eventually("a burst is in the store", Duration::from_secs(120), || {
        let list: serde_json::Value =
            serde_json::from_str(&b.run(&["list", "runs", "--json"]).stdout).unwrap_or_default();
        id = list[0]["id"].as_str().unwrap_or_default().to_string();
        list[0]["bursts"].as_u64().is_some_and(|n| n >= 1) && servers(&id) == 1
    });
    harness.kill().expect("ours");
    harness.wait().expect("reaped");
    b.run(&["doctor", "--clean"]).ends_with(0);
    eventually("no trace is left", Duration::from_secs(5), || traces(&id).is_empty());
    b.holds_only(&["tarebench.db"]);
}
