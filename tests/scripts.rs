//! The scripts that install things, on a system of made-up tools: nothing is installed.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use common::{Dir, Ran, ran};

/// `scripts/engines --no-install` where nothing is installed yet: what it misses it would install.
fn missing(b: &Dir, words: &[&str]) -> Ran {
    let tools = b.at("tools");
    fs::create_dir_all(&tools).expect("made");
    for (name, text) in
        [("apt-get", "exit 0"), ("apt-cache", "exit 0"), ("dpkg-query", "exit 1"), ("cargo", "echo cargo 9.9.9")]
    {
        let path = tools.join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/engines");
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").expect("a path"));
    let mut command = Command::new(script);
    ran(command.arg("--no-install").args(words).env("PATH", path).output().expect("bash is there"))
}

#[test]
fn a_suite_asks_for_its_own_engines_alone() {
    let b = Dir::new();
    let quick =
        missing(&b, &["--for", "quick"]).ends_with(0).says("not installed: gcc").says(" bubblewrap runc runsc podman ");
    for other in ["docker.io", "firejail", "lxc", "openssh-server", "user-mode-linux", "systemd-container"] {
        assert!(!quick.stderr.contains(other), "{other}: {}", quick.stderr);
    }
    fs::write(b.at("own.toml"), "[environments.mine]\nrunner = \"lxc\"\n[environments.bare]\n").expect("written");
    let own = missing(&b, &["--for", b.at("own.toml").to_str().expect("text")]).ends_with(0);
    own.says("not installed: gcc libc6-dev ca-certificates iproute2 lxc\n");
    missing(&b, &["--for", "no-such-suite"]).ends_with(2).says("there is no suite no-such-suite");
    missing(&b, &[]).ends_with(0).says(" docker.io ").says(" openssh-server ");
}
