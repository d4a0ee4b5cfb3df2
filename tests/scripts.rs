//! The scripts that install things, on a system of made-up tools: nothing is installed.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use common::{Dir, Ran, eventually, ran};

/// A made-up program.
fn tool(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("executable");
}

/// A script in a home of its own, with the made-up tools before those of the machine.
fn script(b: &Dir, name: &str, path: &str) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name));
    command.env("PATH", format!("{}:{path}", b.at("tools").display())).env("HOME", b.at("home"));
    command
}

/// `scripts/engines --no-install` where nothing is installed yet: what it misses it would install.
fn missing(b: &Dir, words: &[&str]) -> Ran {
    let tools = b.at("tools");
    fs::create_dir_all(&tools).expect("made");
    for (name, text) in
        [("apt-get", "exit 0"), ("apt-cache", "exit 0"), ("dpkg-query", "exit 1"), ("cargo", "echo cargo 9.9.9")]
    {
        tool(&tools.join(name), text);
    }
    let path = std::env::var("PATH").expect("a path");
    ran(script(b, "engines", &path).arg("--no-install").args(words).output().expect("bash is there"))
}

#[test]
fn a_suite_asks_for_its_own_engines_alone() {
    let b = Dir::new();
    let quick = missing(&b, &["--for", "quick"])
        .ends_with(0)
        .says("not installed: gcc")
        .says(" bubblewrap runc runsc podman ")
        .says(" uidmap ");
    for other in ["docker.io", "firejail", "lxc", "openssh-server", "user-mode-linux", "systemd-container"] {
        assert!(!quick.stderr.contains(other), "{other}: {}", quick.stderr);
    }
    fs::write(b.at("own.toml"), "[environments.mine]\nrunner = \"lxc\"\n[environments.bare]\n").expect("written");
    let own = missing(&b, &["--for", b.at("own.toml").to_str().expect("text")]).ends_with(0);
    own.says("not installed: gcc libc6-dev ca-certificates iproute2 lxc\n");
    missing(&b, &["--for", "no-such-suite"]).ends_with(2).says("there is no suite no-such-suite");
    missing(&b, &[]).ends_with(0).says(" docker.io ").says(" openssh-server ");
}

#[test]
fn a_rust_of_rustup_is_found_where_the_path_does_not_lead_to_it() {
    let b = Dir::new();
    missing(&b, &[]);
    fs::remove_file(b.at("tools/cargo")).expect("there");
    let engines = || {
        let mut command = script(&b, "engines", "/usr/sbin:/usr/bin:/sbin:/bin");
        ran(command.args(["--no-install", "--for", "quick"]).output().expect("bash is there"))
    };
    if !["/usr/bin/cargo", "/bin/cargo"].iter().any(|cargo| Path::new(cargo).exists()) {
        engines().ends_with(1).says("cargo is missing");
    }
    fs::create_dir_all(b.at("home/.cargo/bin")).expect("made");
    // As rustup's installer leaves them.
    fs::write(b.at("home/.cargo/env"), "export PATH=\"$HOME/.cargo/bin:$PATH\"\n").expect("written");
    tool(&b.at("home/.cargo/bin/cargo"), "echo cargo 9.9.9");
    engines().ends_with(0);
    tool(&b.at("home/.cargo/bin/cargo"), "echo cargo 1.0.0");
    engines().ends_with(1).says("cargo is cargo 1.0.0");
}

#[test]
fn packages_are_those_of_the_machine() {
    let b = Dir::new();
    fs::create_dir(b.at("tools")).expect("made");
    tool(&b.at("tools/uname"), "echo x86_64");
    missing(&b, &[]).ends_with(0).says(" qemu-system-x86 ").says(" user-mode-linux ");
    tool(&b.at("tools/uname"), "echo aarch64");
    let arm = missing(&b, &[]).ends_with(0).says(" qemu-system-arm ");
    assert!(!arm.stderr.contains("user-mode-linux") && !arm.stderr.contains("x86"), "{}", arm.stderr);
}

#[test]
fn a_released_program_is_started_when_its_checksum_is_right_and_needs_no_compiler() {
    let b = Dir::new();
    missing(&b, &[]);
    // A compiler would be asked for, and a build would be seen.
    tool(&b.at("tools/cargo"), "echo cargo 1.0.0; echo built >&2");
    fs::create_dir(b.at("release")).expect("made");
    let program = b.at("release/tarebench-x86_64-linux");
    tool(&program, "echo \"started with $*\" >&2");
    let quickstart = |words: &[&str]| {
        let mut command = script(&b, "quickstart", &std::env::var("PATH").expect("a path"));
        command.args(["--no-install", "--binary"]).args(words).current_dir(b.at("release"));
        ran(command.output().expect("bash is there"))
    };
    let full = program.to_str().expect("text");
    quickstart(&["gone"]).ends_with(2).says("there is no file ");
    let none = quickstart(&[full]).ends_with(2).says("SHA256SUMS into the same folder");
    assert!(!none.stderr.contains("started with"), "{}", none.stderr);
    let sums = |program: &str| {
        let mut command = Command::new("sha256sum");
        let output = command.arg(program).current_dir(b.at("release")).output().expect("coreutils are there");
        String::from_utf8(output.stdout).expect("text")
    };
    fs::write(b.at("release/SHA256SUMS"), "00  another\n").expect("written");
    quickstart(&[full]).ends_with(2).says("has no line for tarebench-x86_64-linux");
    fs::write(b.at("release/SHA256SUMS"), sums("tarebench-x86_64-linux")).expect("written");
    let own = b.at("own.toml");
    fs::write(&own, "[environments.bare]\n").expect("written");
    let words = ["tarebench-x86_64-linux", own.to_str().expect("text"), "--blocks", "1"];
    let fine = quickstart(&words).ends_with(0);
    let fine = fine.says(&format!("started with run {} --blocks 1 --store ", own.display())).says("try: ");
    assert!(!fine.stderr.contains("built") && !fine.stderr.contains("gcc"), "{}", fine.stderr);
    tool(&program, "echo \"started with $* and something else\" >&2");
    let other = quickstart(&words).ends_with(2).says("is not the file of that release");
    assert!(!other.stderr.contains("started with"), "{}", other.stderr);
}

/// Parts of `scripts/bench`, with a link and a group of its own and a program that needs time to tidy up.
const BENCH: &str = r#"
import os, sys
sys.dont_write_bytecode = True
from peers import groups, remains, shared, truth
os.chdir(sys.argv[1])
remains.clear(".")
link, group = truth.Link(1, 1_000_000), groups.Nest()
shared.listen()
try:
    link.make()
    os.mkdir(f"tarebench-bench-{os.getpid()}-x")
    program = "trap 'sleep 0.3; echo tidy >> said; exit' TERM; echo $1 > made; while :; do sleep 0.05; done"
    shared.run(["sh", "-c", program, "sh", os.getpid()], preexec_fn=group.enter)
finally:
    link.remove()
    group.remove()
    os.rmdir(f"tarebench-bench-{os.getpid()}-x")
"#;

#[cfg(target_os = "linux")]
#[test]
fn a_bench_that_is_ended_removes_what_it_made_and_the_next_one_what_a_killed_one_did() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: links and groups need root");
        return;
    }
    let b = Dir::new();
    let left = |pid: &str| {
        let find = "ls -d /run/netns/tarebench-truth-$1-* /sys/fs/cgroup/tarebench-bench-$1 /sys/fs/cgroup/*/tarebench-bench-$1 \
                    \"$2\"/tarebench-bench-$1-* 2>/dev/null";
        let found = Command::new("sh").args(["-c", find, "sh", pid]).arg(b.root()).output().expect("sh");
        String::from_utf8_lossy(&found.stdout).into_owned()
    };
    let run = |signal: Signal| {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
        let mut bench = Command::new("python3");
        let bench = bench.args(["-c", BENCH]).arg(b.root()).env("PYTHONPATH", scripts);
        let mut bench = bench.stderr(Stdio::null()).spawn().expect("python3");
        let began = || fs::read_to_string(b.at("made")).is_ok_and(|text| text.ends_with('\n'));
        eventually("its program runs", Duration::from_secs(30), began);
        let pid = fs::read_to_string(b.at("made")).expect("there").trim().to_string();
        fs::remove_file(b.at("made")).expect("there");
        assert_eq!(left(&pid).lines().count(), 3, "{}", left(&pid));
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(bench.id() as i32), signal).expect("there");
        bench.wait().expect("ours");
        pid
    };
    let killed = run(Signal::SIGKILL);
    assert_eq!(left(&killed).lines().count(), 3, "nobody could remove it");
    let ended = run(Signal::SIGTERM);
    assert_eq!(left(&killed), "", "the next one does");
    assert_eq!(left(&ended), "");
    assert_eq!(
        fs::read_to_string(b.at("said")).expect("said"),
        "tidy\n",
        "its program had its time; the other's was killed"
    );
}

#[test]
fn every_package_has_its_licences_and_the_files_that_it_lists() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(tree.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let manifest: toml::Table = read("Cargo.toml").parse().expect("TOML");
    let licences = ["LICENSE-MIT", "LICENSE-APACHE"];
    // A crate is packed without what lies above it.
    for member in manifest["workspace"]["members"].as_array().expect("members") {
        for name in licences {
            assert_eq!(read(&format!("{}/{name}", member.as_str().expect("a folder"))), read(name), "{member}");
        }
    }
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array().expect("assets");
    let sources: Vec<&str> = assets.iter().filter_map(|asset| asset[0].as_str()).collect();
    for source in sources.iter().filter(|source| !source.starts_with("target/")) {
        assert!(tree.join(source).is_file(), "the Debian package is to have {source}");
    }
    for name in licences {
        assert!(read("LICENSE").contains(name) && sources.contains(&name), "the Debian package has no {name}");
    }
}
