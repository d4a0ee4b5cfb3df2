//! Hints are provoked in real environments, and stay away from bare metal beside them.

#![cfg(target_os = "linux")]

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::boxes::OwnDisk;
use common::{Dir, must_run, shell};
use reports::comparison::hints::to_try;
use workloads::settings::Kind;

/// The evidence of each hint by its name, by environment; without an entry for those that didn't run.
type Hints = BTreeMap<String, BTreeMap<String, String>>;

fn hints(b: &Dir, suite: &str) -> Hints {
    let suite = b.suite(suite);
    b.run(&["run", &suite, "--store", "t.db"]).ends_with_any(&[0, 4, 7]);
    let report = b.run(&["report", "latest", "--store", "t.db", "--format", "json"]).ends_with(0).stdout;
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_string();
    let all = report["environments"].as_array().expect("a list").iter();
    let ran = all.filter(|e| matches!(e["outcome"].as_str(), Some("measured" | "partial")));
    let hints = |e: &serde_json::Value| {
        let hints = e["hints"].as_array().expect("a list").iter();
        hints.map(|hint| (text(&hint["name"]), text(&hint["evidence"]))).collect()
    };
    ran.map(|e| (text(&e["name"]), hints(e))).collect()
}

/// That an environment has these hints and the baseline none of them. What isn't installed is skipped, loudly.
#[track_caller]
fn provoked(all: &Hints, environment: &str, runner: &str, names: &[&str]) {
    let Some(own) = all.get(environment) else {
        assert!(!must_run(runner), "{runner} must run here: {all:?}");
        eprintln!("SKIPPED: {runner} is not available");
        return;
    };
    for name in names {
        assert!(own.contains_key(*name), "{environment} has no hint `{name}`: {own:?}");
        for same in ["bare", "control"] {
            assert!(!all[same].contains_key(*name), "{same}: {:?}", all[same]);
        }
    }
}

/// That an environment, where it ran, has none of these hints.
#[track_caller]
fn silent(all: &Hints, environment: &str, names: &[&str]) {
    for name in names {
        assert!(!all.get(environment).is_some_and(|own| own.contains_key(*name)), "{environment}: {all:?}");
    }
}

#[test]
fn boxes_say_what_they_cost_and_bare_metal_says_nothing() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: without root there are no cgroups and no links");
        return;
    }
    let b = Dir::new();
    let all = hints(
        &b,
        "blocks = 1\nrounds = 1\nburst = \"20ms\"\n[environments.bare]\n\
             [environments.limited]\nrunner = \"runc\"\n\"cpu.share\" = 20\n\"cpu.period\" = \"10ms\"\n\
             [environments.boxed]\nrunner = \"namespaces\"\ndata = \"overlay\"\nseccomp = \"docker-like\"\n\
             [environments.far]\nrunner = \"namespaces\"\nnetwork = \"slirp4netns\"\n\
             [environments.layered]\nrunner = \"podman\"\ndata = \"layer\"\n[environments.gvisor]\n\
             [environments.on-host]\nrunner = \"gvisor\"\nnetwork = \"host\"\n\
             [workloads.\"control/syscall\"]\n[workloads.\"disk/fsync\"]\n[workloads.\"net/rr\"]\n",
    );
    provoked(&all, "limited", "runc", &["throttled"]);
    provoked(&all, "boxed", "namespaces", &["seccomp", "file-system"]);
    provoked(&all, "far", "slirp4netns", &["user-nat", "link"]);
    provoked(&all, "gvisor", "gvisor", &["slow-calls", "own-stack", "file-server"]);
    provoked(&all, "on-host", "gvisor", &["file-server"]);
    let elsewhere = all.iter().filter(|(name, _)| *name != "gvisor");
    assert!(elsewhere.clone().all(|(_, hints)| !hints.contains_key("own-stack")), "{all:?}");
    assert!(elsewhere.filter(|(name, _)| *name != "on-host").all(|(_, hints)| !hints.contains_key("file-server")));
    // What holds a container is there however slow the machine is.
    provoked(&all, "layered", "podman", &["volatile", "flush-lost", "around"]);
    b.run(&["report", "latest", "--store", "t.db", "--format", "markdown"]).ends_with(0).says("* Why **boxed**: ");
}

/// A network namespace joined to the host, made by hand: its TCP can have an algorithm of its own.
struct Apart(String);

impl Apart {
    /// Of TEST-NET-2: tarebench's own links are elsewhere.
    const OUTSIDE: &str = "198.51.100.1";

    fn new(algorithm: &str) -> Self {
        let apart = Self(format!("tarebench-hint-{}", std::process::id()));
        let (name, own, outside) = (&apart.0, "tarhint0", "tarhint1");
        ip(&format!("netns add {name}"));
        ip(&format!("link add {outside} type veth peer name {own} netns {name}"));
        ip(&format!("addr add {}/30 dev {outside}", Self::OUTSIDE));
        ip(&format!("link set {outside} up"));
        ip(&format!("-n {name} addr add 198.51.100.2/30 dev {own}"));
        ip(&format!("-n {name} link set {own} up"));
        // Of the namespace of whoever writes it.
        let set = format!("echo {algorithm} > /proc/sys/net/ipv4/tcp_congestion_control");
        shell("ip", &["netns", "exec", name, "sh", "-c", &set]);
        apart
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        ip(&format!("netns delete {}", self.0));
    }
}

fn ip(words: &str) {
    shell("ip", &words.split(' ').collect::<Vec<_>>());
}

#[test]
fn another_way_of_sending_is_said() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: without root there are no links");
        return;
    }
    let b = Dir::new();
    let of_host = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").expect("Linux");
    fs::create_dir(b.at("paced")).expect("created");
    // Both are in every kernel: the second wherever nobody has left it out.
    let apart = Apart::new(if of_host.trim() == "reno" { "cubic" } else { "reno" });
    let all = hints(
        &b,
        &format!(
            "blocks = 1\nrounds = 1\nburst = \"20ms\"\n[environments.bare]\n\
             [environments.paced]\nrunner = \"exec\"\ncommand = \"nsenter --net=/run/netns/{} {{run}}\"\n\
             copy = \"cp {{binary}} {{agent}}\"\ndata = \"{}\"\npeer = \"{}\"\n[workloads.\"net/stream\"]\n",
            apart.0,
            b.at("paced").display(),
            Apart::OUTSIDE
        ),
    );
    provoked(&all, "paced", "exec", &["congestion"]);
}

#[test]
fn a_clock_that_is_a_system_call_and_a_limit_that_nobody_feels_are_said() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: without root there are no limits");
        return;
    }
    let b = Dir::new();
    let run = |direct: bool, burst: &str, environments: &str| {
        hints(
            &b,
            &format!(
                "blocks = 1\nrounds = 1\nburst = \"{burst}\"\nresources = {{ io = {{ wbps = \"4MB\" }} }}\n\
                 [environments.bare]\n{environments}\
                 [workloads.\"disk/seqwrite\"]\nsize = \"1MiB\"\ndirect = {direct}\n"
            ),
        )
    };
    let all = run(false, "50ms", "[environments.uml]\ndata = \"hostfs\"\n");
    assert!(all["bare"].contains_key("io-limit"), "the page cache takes what is written: {all:?}");
    provoked(&all, "uml", "uml", &["clock-call"]);
    assert!(!all.get("uml").is_some_and(|own| own.contains_key("io-limit")), "it is said once: {all:?}");
    let direct = run(true, "100ms", "");
    assert!(!direct["bare"].contains_key("io-limit"), "what waits for the disk feels it: {direct:?}");
}

/// A QEMU whose CPU counts instructions, so that its time stamp counter is one of 1 GHz. A nanosecond of the guest's is an
/// instruction: its clock is the slower one, and no sample of its seems to have taken longer than its burst.
#[cfg(target_arch = "x86_64")]
fn counting_qemu(b: &Dir) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = b.at("qemu");
    fs::write(&path, "#!/bin/sh\nexec qemu-system-x86_64 \"$@\" -icount shift=0\n").expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
    path.display().to_string()
}

/// What a hint may say of a guest's machine.
#[cfg(target_arch = "x86_64")]
const OF_MACHINE: [&str; 4] = ["tsc-scaled", "huge-pages", "memory-in-file", "no-vhost"];

/// Hints of a guest of these settings beside bare metal and a container, about huge pages told as this host has them or otherwise.
#[cfg(target_arch = "x86_64")]
fn hints_of_guest(b: &Dir, name: &str, settings: &str, as_host: bool) -> Option<Hints> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: without root there are no taps");
        return None;
    }
    let of_host = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let of_host = workloads::inside::chosen(&of_host).unwrap_or_else(|| "never".into());
    let other = if of_host == "always" { "never" } else { "always" };
    let pages = if as_host { &of_host } else { other };
    // Linux gives no huge pages where a guest has less than 512 MiB, whatever its command line says.
    Some(hints(
        b,
        &format!(
            "blocks = 1\nrounds = 1\nburst = \"20ms\"\nresources = {{ memory = \"704MiB\" }}\n[environments.bare]\n\
             [environments.{name}]\nrunner = \"qemu\"\naccel = \"tcg\"\n\"disk.size\" = \"64MiB\"\n{}\n\
             [environments.container]\nrunner = \"namespaces\"\n[workloads.\"control/syscall\"]\n[workloads.\"net/rr\"]\n",
            settings.replace("PAGES", &format!("transparent_hugepage={pages}")),
        ),
    ))
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_guest_says_what_its_machine_is_made_of() {
    let b = Dir::new();
    let settings = format!(
        "binary = \"{}\"\nmemory = \"file\"\nnet = \"tap\"\nappend = \"mitigations=off PAGES\"",
        counting_qemu(&b)
    );
    let Some(all) = hints_of_guest(&b, "odd", &settings, false) else { return };
    provoked(&all, "odd", "qemu", &OF_MACHINE);
    provoked(&all, "odd", "qemu", &["emulated-cpu", "mitigations"]);
    silent(&all, "container", &OF_MACHINE);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_guest_as_its_host_is_says_no_more_than_that_it_is_emulated() {
    let b = Dir::new();
    let settings = "memory = \"anonymous\"\nnet = \"user\"\nappend = \"PAGES\"";
    let Some(all) = hints_of_guest(&b, "plain", settings, true) else { return };
    provoked(&all, "plain", "qemu", &["emulated-cpu"]);
    silent(&all, "plain", &OF_MACHINE);
    silent(&all, "container", &OF_MACHINE);
    silent(&all, "container", &["emulated-cpu", "mitigations", "speculation", "disk"]);
}

#[test]
fn another_disk_is_said() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: without root there are no loop devices");
        return;
    }
    let b = Dir::new();
    let Some(_disk) = OwnDisk::at(&b, "own") else {
        assert!(!must_run("loop"), "a loop disk must be there");
        eprintln!("SKIPPED: no disk can be made of a file here");
        return;
    };
    fs::create_dir(b.at("shared")).expect("a directory");
    let at = |name: &str| {
        format!(
            "[environments.on-{name}]\nrunner = \"exec\"\ncommand = \"env {{run}}\"\n\
             copy = \"cp {{binary}} {{agent}}\"\ndata = \"{}\"\n",
            b.at(name).display()
        )
    };
    let all = hints(
        &b,
        &format!(
            "blocks = 1\nrounds = 1\nburst = \"20ms\"\n[environments.bare]\n{}{}[workloads.\"disk/fsync\"]\n",
            at("own"),
            at("shared")
        ),
    );
    assert!(all.contains_key("on-own") && all.contains_key("on-shared"), "{all:?}");
    provoked(&all, "on-own", "exec", &["disk"]);
    silent(&all, "on-shared", &["disk", "file-system"]);
}

#[test]
fn every_value_that_a_hint_says_to_try_is_one_of_the_runner() {
    let mut tried = 0;
    for runner in runners::registry::RUNNERS {
        for setting in runner.all_settings() {
            let Kind::Choice(words) = setting.kind else { continue };
            for (now, other) in words.iter().filter_map(|now| Some((now, to_try(setting.name, now)?))) {
                assert!(words.contains(&other), "{}: {}={now}, and {other} is none", runner.name(), setting.name);
                tried += 1;
            }
        }
    }
    assert!(tried > 30, "{tried}");
}
