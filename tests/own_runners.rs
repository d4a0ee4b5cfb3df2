//! The runners that need no engine, for real: the agent answers from inside, over their own link, within the limits.

#![cfg(target_os = "linux")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::{Dir, has_nft, must_run, shared};
use runners::Network;
use runners::host::Resources;
use runners::probe::{Verdict, probe};
use runners::session::Session;
use runners::stage::Stage;
use runners::stage::disk::Disk;
use workloads::settings::Settings;

#[test]
fn the_agent_answers_from_inside_and_nothing_is_left() {
    let id = format!("o{:x}", std::process::id() % 0xff_ffff);
    let shared = shared(&id, Resources::new(1, 256 << 20));
    let data = tempfile::tempdir_in("/var/tmp").unwrap();
    for name in ["bare", "chroot", "namespaces"] {
        let runner = runners::registry::find(name).unwrap();
        let settings = Settings::of(runner.settings(), &[]);
        let answer = probe(runner, &settings, &shared, data.path());
        if name == "chroot" && !shared.host.privileged {
            assert_eq!(answer.verdict, Verdict::Absent);
            continue;
        }
        assert_eq!(answer.verdict, Verdict::Works, "{name}: {answer:?}");
        let mut stage = Stage::new(Arc::clone(&shared), name, data.path()).unwrap();
        let launch = stage.launch(runner, &settings).unwrap();
        assert_eq!(launch.path.network, if shared.host.privileged { Network::Veth } else { Network::Loopback });
        let mut session = Session::start(launch, Duration::from_secs(10)).unwrap();
        for _ in 0..5 {
            session.ping(Duration::from_secs(5)).unwrap();
            std::thread::sleep(Duration::from_millis(30));
        }
        let identity = session.identify(Duration::from_secs(20)).unwrap();
        assert_eq!(identity.binary_sha256, shared.host.binary_sha256);
        assert_eq!(identity.file_system, runners::stage::disk::Disk::under(data.path()).unwrap().file_system, "{name}");
        assert!(session.memory().unwrap() > 0);
        let before = std::time::Instant::now();
        drop(session);
        // Who doesn't go within 3 s is killed.
        assert!(before.elapsed() < Duration::from_millis(2900), "{name}: ends when told, in {:?}", before.elapsed());
    }
    drop(shared);
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0);
    assert!(!Path::new("/tmp").join(format!("tarebench-{id}")).exists());
}

/// A value of every setting of our own runners and bubblewrap, in one run; what is said of each is what the agent saw inside.
#[test]
fn every_setting_does_what_its_name_says() {
    let dir = Dir::new();
    let root = nix::unistd::geteuid().is_root();
    let mut suite = String::from(
        "description = \"settings\"\nbaseline = \"bare\"\nblocks = 1\nrounds = 1\nburst = \"20ms\"\n\
         resources = { cpus = 1, memory = \"256MiB\" }\n[workloads.\"disk/fsync\"]\n[workloads.\"net/rr\"]\n[environments.bare]\n",
    );
    // Name, runner, settings; then the network, the file system of the data as seen inside, and whether it takes root.
    let host = Disk::under(dir.root()).unwrap().file_system;
    let veth = if root { "veth" } else { "loopback" };
    let cases: &[(&str, &str, &str, &str, &str, bool)] = &[
        ("n-plain", "namespaces", "", veth, &host, false),
        ("n-overlay", "namespaces", "data = \"overlay\"", veth, "overlay", false),
        ("n-tmpfs", "namespaces", "data = \"tmpfs\"", veth, "tmpfs", false),
        ("n-filter", "namespaces", "seccomp = \"docker-like\"", veth, &host, false),
        ("n-user", "namespaces", "user = false", veth, &host, true),
        ("n-pid", "namespaces", "pid = false", veth, &host, false),
        ("n-neither", "namespaces", "pid = false\nuser = false", veth, &host, true),
        ("n-bridge", "namespaces", "network = \"bridge\"", "bridge", &host, true),
        ("n-nat", "namespaces", "network = \"nat\"", "kernel NAT", &host, true),
        ("n-pasta", "namespaces", "network = \"pasta\"", "user NAT (passt)", &host, true),
        ("n-none", "namespaces", "network = \"none\"", "none", &host, false),
        ("c-overlay", "chroot", "data = \"overlay\"", "veth", "overlay", true),
        ("c-tmpfs", "chroot", "data = \"tmpfs\"", "veth", "tmpfs", true),
        ("c-filter", "chroot", "seccomp = \"docker-like\"", "veth", &host, true),
        ("c-nat", "chroot", "network = \"nat\"", "kernel NAT", &host, true),
        ("b-overlay", "bubblewrap", "data = \"overlay\"", "veth", "overlay", true),
        ("b-tmpfs", "bubblewrap", "data = \"tmpfs\"", veth, "tmpfs", false),
        ("b-filter", "bubblewrap", "seccomp = \"docker-like\"", veth, &host, false),
        ("b-pid", "bubblewrap", "pid = false", veth, &host, false),
        ("b-bridge", "bubblewrap", "network = \"bridge\"", "bridge", &host, true),
    ];
    let bwrap = runners::registry::find("bubblewrap").unwrap();
    let available =
        |runner: &str| runner != "bubblewrap" || bwrap.engine(&Settings::of(bwrap.settings(), &[])).is_some();
    let pasta = Path::new("/usr/bin/pasta").exists();
    assert!(pasta || !must_run("pasta"), "pasta must be installed here");
    let nft = has_nft();
    let possible = |c: &&_| {
        let &&(_, runner, _, network, _, takes_root): &&(&str, &str, &str, &str, &str, bool) = c;
        (root || !takes_root)
            && (nft || network != "kernel NAT")
            && (pasta || network != "user NAT (passt)")
            && available(runner)
    };
    let cases: Vec<_> = cases.iter().filter(possible).collect();
    for (name, runner, settings, ..) in &cases {
        suite.push_str(&format!("[environments.{name}]\nrunner = \"{runner}\"\n{settings}\n"));
    }
    let file = dir.suite(&suite);
    dir.run(&["run", &file]).ends_with_any(&[0, 4, 7]);
    let report: serde_json::Value = serde_json::from_str(&dir.run(&["report", "--format", "json"]).stdout).unwrap();
    let flagged = |name: &str, workload: &str, flag: &str| {
        let all = |of: &serde_json::Value| of["flags"].as_array().is_some_and(|f| f.iter().any(|f| f["name"] == flag));
        let cells = report["cells"].as_array().expect("cells");
        cells.iter().any(|c| c["environment"] == name && c["workload"] == workload && all(c))
    };
    for (name, _, _, network, file_system, _) in &cases {
        let environments = report["environments"].as_array().expect("environments");
        let environment =
            environments.iter().find(|e| e["name"] == **name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(environment["network"], **network, "{name}: {environment:#}");
        // A round that this machine disturbed is void, which is no failure. Without a network the network's work fails, alone.
        assert_ne!(environment["outcome"], "skipped", "{name}: {environment:#}");
        let failures = report["failures"].as_array().expect("failures").iter().filter(|f| f["environment"] == **name);
        let failed: Vec<_> = failures.map(|f| f["workload"].as_str().unwrap_or_default()).collect();
        let expected = if *network == "none" { vec!["net/rr"] } else { vec![] };
        assert_eq!(failed, expected, "{name}: {:#}", report["failures"]);
        let seen = environment["facts"].to_string();
        assert!(seen.contains(&format!("\"{file_system}\"")), "{name} should have its data on {file_system}: {seen}");
        assert_eq!(flagged(name, "disk/fsync", "memory-disk"), *file_system == "tmpfs", "{name}");
        if *network != "none" {
            assert_eq!(flagged(name, "net/rr", "topology"), *network != "veth", "{name} over {network}");
        }
    }
    dir.holds_only(&["tarebench.db", "suite.toml"]);
}

#[test]
fn what_can_not_be_is_refused_with_the_reason_and_the_way_out() {
    let dir = Dir::new();
    for (spec, words) in [
        ("chroot:network=none", "one of veth, bridge, nat, slirp4netns, pasta, host"),
        ("namespaces:data=zfs", "one of bind, overlay, tmpfs"),
        ("namespaces:seccomp=all", "docker-like"),
        ("jail:network=bridge", "one of shared, vnet, none"),
    ] {
        dir.run(&["plan", "--env", spec]).ends_with(2).says(words);
    }
    dir.run(&["run", "--env", "jail", "--workload", "control/syscall", "--blocks", "1"]).says("needs FreeBSD");
}

/// A short one: what its rungs are, that its steps add up, and that it is drawn again. Six blocks are the least for an interval.
#[test]
fn a_box_of_two_settings_is_taken_apart() {
    let b = Dir::new();
    let work = ["--workload", "control/syscall:burst=2ms", "--blocks", "6", "--seed", "3"];
    let b_of = |words: &[&str]| b.run(&[&["explain"], words, &work].concat());
    let ran = b_of(&["namespaces:seccomp=docker-like,pid=false"]).ends_with_any(&[0, 4]);
    for words in
        ["the ladder: bare, namespaces, namespaces-dockerlike, namespaces-false-dockerlike", "+ pid=false", "whole"]
    {
        assert!(ran.stdout.contains(words) || ran.stderr.contains(words), "{words}\n{}\n{}", ran.stdout, ran.stderr);
    }
    let json = b.run(&["report", "--format", "json"]).ends_with(0).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let ladder = &json["explanation"]["ladders"][0];
    let costs: Vec<f64> =
        ladder["rungs"].as_array().expect("rungs").iter().map(|r| r["cost"].as_f64().expect("a cost")).collect();
    assert_eq!((costs.len(), ladder["blocks"].as_u64()), (4, Some(6)), "{ladder}");
    assert!(ladder["interaction"]["value"].is_f64(), "{ladder}");
    assert_eq!(ladder["alternatives"].as_array().map(Vec::len), Some(2));
    let (whole, sum) = (ladder["whole"]["value"].as_f64().expect("known"), ladder["sum"].as_f64().expect("known"));
    // Medians of six blocks beside a build: apart by less than the dearest rung costs.
    assert!((whole - sum).abs() <= costs.iter().copied().fold(0.0, f64::max), "{ladder}");
    b.run(&["report"]).ends_with(0).says("sum of the steps");
    b.holds_only(&["tarebench.db"]);
}

#[test]
fn what_can_not_be_taken_apart_says_why_before_anything_is_touched() {
    let b = Dir::new();
    b.run(&["explain", "bare"]).ends_with(2).says("there is nothing to explain");
    b.run(&["explain", "qemu", "--only", "kernel"]).ends_with(2).says("can't be taken apart");
    b.run(&["explain", "qemu", "--order", "net"]).ends_with(2).says("has at its default");
    b.run(&["explain", "nosuch"]).ends_with(2).says("there is no runner `nosuch`");
    b.holds_only(&[]);
}
