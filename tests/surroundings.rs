//! Hosts that are arranged in unusual ways: odd mounts, odd places, odd names. What can run there runs.

#![cfg(target_os = "linux")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use common::{Dir, ran};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Does something in a mount namespace of its own, which goes with the last process in it. Only root can.
fn in_own_mounts(act: impl FnOnce() + Send) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root mounts");
        return;
    }
    let act = || {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).expect("private");
        act();
    };
    std::thread::scope(|scope| scope.spawn(act).join().unwrap_or_else(|e| std::panic::resume_unwind(e)));
}

/// An empty tmpfs on a directory that is made for it.
fn tmpfs(at: &Path, flags: MsFlags) {
    fs::create_dir_all(at).expect("made");
    mount(Some("none"), at, Some("tmpfs"), flags, Some("size=300m")).expect("mounted");
}

/// Work that no neighbour on the disk makes void.
const SHORT: [&str; 9] =
    ["run", "--env", "namespaces", "--workload", "control/syscall", "--workload", "control/cpu", "--blocks", "1"];

#[test]
fn a_mount_whose_name_is_no_text_hides_no_other() {
    in_own_mounts(|| {
        let b = Dir::new();
        tmpfs(&b.root().join(OsStr::from_bytes(b"odd \xff\xfe\n\t\\ #")), MsFlags::empty());
        b.run(&SHORT).ends_with(0).says("control/cpu");
    });
}

#[test]
fn a_place_for_scratch_that_does_not_fit_is_passed_over() {
    in_own_mounts(|| {
        let b = Dir::new();
        tmpfs(&b.at("n"), MsFlags::MS_NOEXEC);
        let long = b.at(&"long".repeat(25));
        fs::create_dir(&long).expect("made");
        for place in [b.at("n"), long, b.at("missing")] {
            let mut command = b.command(&SHORT);
            ran(command.env("TMPDIR", &place).output().expect("starts")).ends_with(0).says("control/cpu");
        }
    });
}

#[test]
fn data_and_store_may_have_odd_names() {
    let b = Dir::new();
    for name in [&b"a b"[..], b"line\nbreak", b"\xff\xfe", b"'quoted' \"twice\" $HOME \\"] {
        let data = b.root().join(OsStr::from_bytes(name));
        fs::create_dir(&data).expect("made");
        let mut command = b.command(&SHORT);
        command.arg("--data-dir").arg(&data).arg("--store").arg(data.join("s.db"));
        ran(command.output().expect("starts")).ends_with(0).says("control/cpu");
        assert!(data.join("s.db").exists());
    }
}
