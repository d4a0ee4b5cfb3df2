//! Data that a process beside the guest serves, for real: what a server of NFS in user space exports, or a virtiofsd. The guest
//! does its work there, and nothing is left of either, not even after the harness was killed.

#![cfg(target_os = "linux")]

mod common;

use std::process::Command;
use std::time::Duration;

use common::{Dir, eventually, must_run, traces};
use nix::unistd::geteuid;

fn available() -> bool {
    let there = Command::new("ganesha.nfsd").arg("-v").output().is_ok() && geteuid().is_root();
    assert!(there || !must_run("nfs"), "nfs-ganesha must be installed here");
    if !there {
        eprintln!("SKIPPED: needs root and nfs-ganesha; apt install nfs-ganesha nfs-ganesha-vfs");
    }
    there
}

#[test]
fn a_guest_works_on_an_export_of_the_host() {
    if !available() {
        return;
    }
    let b = Dir::new();
    let words = ["verify", "--env", "qemu:data=nfs", "--workload", "sqlite/commit", "--workload", "disk/fsync"];
    b.run(&words).ends_with(0).says("qemu-nfs");
    b.run(&["plan", "--env", "qemu:data=floppy"]).ends_with(2).says("one of disk, nfs, 9p, virtiofs");
    b.run(&["run", "--env", "qemu:data=nfs,net=user", "--workload", "control/syscall", "--blocks", "1"])
        .says("net=tap");
    b.holds_only(&["tarebench.db"]);
}

#[test]
fn a_server_of_nfs_goes_with_a_killed_harness() {
    if available() {
        goes_with_a_killed_harness("nfs", "ganesha.nfsd");
    }
}

#[test]
fn a_virtiofsd_goes_with_a_killed_harness() {
    let hidden = ["/usr/libexec/virtiofsd", "/usr/lib/virtiofsd", "/usr/lib/qemu/virtiofsd"];
    if geteuid().is_root() && hidden.iter().any(|path| std::path::Path::new(path).exists()) {
        goes_with_a_killed_harness("virtiofs", "virtiofsd");
    } else {
        eprintln!("SKIPPED: needs root and virtiofsd");
    }
}

fn goes_with_a_killed_harness(data: &str, server: &str) {
    let b = Dir::new();
    let vm = format!("qemu:data={data},accel=tcg");
    let mut harness = b.start(&["run", "--env", &vm, "--workload", "disk/fsync", "--blocks", "200"]);
    let mut id = String::new();
    // A virtiofsd is two processes: one waits outside its sandbox.
    let serves = |id: &str| traces(id).iter().any(|t| t.starts_with("process") && t.contains(server));
    eventually("a burst is in the store", Duration::from_secs(120), || {
        let list: serde_json::Value =
            serde_json::from_str(&b.run(&["list", "runs", "--json"]).stdout).unwrap_or_default();
        id = list[0]["id"].as_str().unwrap_or_default().to_string();
        list[0]["bursts"].as_u64().is_some_and(|n| n >= 1) && serves(&id)
    });
    harness.kill().expect("ours");
    harness.wait().expect("reaped");
    b.run(&["doctor", "--clean"]).ends_with(0);
    eventually("no trace is left", Duration::from_secs(5), || traces(&id).is_empty());
    b.holds_only(&["tarebench.db"]);
}
