//! A fresh Debian 13 in a folder, as nobody has touched it: `scripts/quickstart` installs what it takes there and measures, everything
//! is verified, and nothing of ours stays. Only the compiler is a stand-in that gives out the program of this test.

#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Ran, ran};

/// What runs its words in the folder, which becomes the root of a mount namespace and a PID namespace of its own. A plain chroot
/// may make no user namespaces.
const ENTER: &str = r#"
set -e
root=$1; shift
mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"; mkdir -p old; pivot_root . old
mount -t proc proc /proc; mount --rbind /old/sys /sys; mount --rbind /old/dev /dev
mount -t tmpfs tmpfs /tmp; mount -t tmpfs tmpfs /run
cp /old/etc/resolv.conf /etc/resolv.conf
umount -l /old
cd /tree
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TAREBENCH_BESIDE=1 "$@"
"#;

const CARGO: &str = r#"#!/bin/sh
case "$1" in
  --version) echo "cargo 9.9.9" ;;
  build) mkdir -p target/release && cp /given target/release/tarebench ;;
esac
"#;

/// Runners that must work on any machine where this is root; virtual machines may be emulated.
const WORKING: &[&str] =
    &["bare", "chroot", "namespaces", "bubblewrap", "firejail", "lxc", "runc", "gvisor", "podman", "qemu", "uml"];

fn inside(root: &Path, words: &[&str]) -> Ran {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "sh", "-c", ENTER, "sh"]).arg(root).args(words).stdin(Stdio::null());
    let ran = ran(command.output().expect("unshare starts"));
    println!("{words:?} ends with {}\n{}{}", ran.code, ran.stdout, ran.stderr);
    ran
}

#[test]
#[ignore = "downloads and installs a Debian 13 and what is measured in it, some 2 GB, as root with debootstrap (10 minutes and \
            more): cargo test --test debian13 -- --ignored --nocapture"]
fn from_nothing_to_a_report() {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a directory");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    let root = folder.path().join("root");
    let mirror = std::env::var("DEBIAN_MIRROR").unwrap_or_else(|_| "http://deb.debian.org/debian".into());
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", "--include=ca-certificates", "trixie"]).arg(&root).arg(mirror);
    assert!(debootstrap.status().expect("apt install debootstrap").success());
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::create_dir(root.join("tree")).expect("made");
    for part in ["scripts", "suites"] {
        let copied = Command::new("cp").arg("-a").arg(tree.join(part)).arg(root.join("tree")).status();
        assert!(copied.expect("cp starts").success());
    }
    fs::copy(env!("CARGO_BIN_EXE_tarebench"), root.join("given")).expect("copied");
    fs::write(root.join("usr/local/bin/cargo"), CARGO).expect("written");
    fs::set_permissions(root.join("usr/local/bin/cargo"), fs::Permissions::from_mode(0o755)).expect("ours");

    // A busy machine may make its rounds void.
    inside(&root, &["scripts/quickstart", "--yes"]).ends_with_any(&[0, 4]).says("the report is /tree/report.html");
    let program = "target/release/tarebench";
    inside(&root, &[program, "verify", "quick"]).ends_with(0);
    inside(&root, &["scripts/engines", "--yes", "--for", "boxes"]).ends_with(0);
    let doctor = inside(&root, &[program, "doctor"]).ends_with(0);
    for runner in WORKING {
        let line = doctor.stdout.lines().find(|line| line.split_whitespace().next() == Some(runner)).unwrap_or("");
        assert!(line.contains(" works") || line.contains(" emulated"), "{runner}: {line}");
    }
    let log = fs::read_to_string(root.join("var/log/dpkg.log")).expect("dpkg writes it");
    assert!(!log.lines().any(|line| line.split(' ').nth(2) == Some("remove")), "nothing is removed: {log}");
    inside(&root, &[program, "doctor", "--clean"]).ends_with(0).says("nothing of ours is left behind");
    let left: Vec<_> = fs::read_dir(root.join("tree")).expect("there").flatten().map(|e| e.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("tarebench-")), "{left:?}");
}
