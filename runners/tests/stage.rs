//! The host's side for real: links, cgroups, and nothing left of them.

#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use runners::Network;
use runners::host::{Host, LinkLimits, Resources};
use runners::registry;
use runners::stage::Stage;
use runners::stage::shared::Shared;

fn shared(id: &str) -> Arc<Shared> {
    shared_with(id, LinkLimits::default())
}

fn shared_with(id: &str, link: LinkLimits) -> Arc<Shared> {
    let resources = Resources { link, ..Resources::new(1, 256 << 20) };
    Shared::new(Arc::new(Host::new(id, Path::new("/proc/self/exe"), resources).unwrap()))
}

fn in_netns(netns: &Path, args: &[&str]) -> bool {
    let netns = format!("--net={}", netns.display());
    Command::new("nsenter").arg(netns).args(args).status().unwrap().success()
}

#[test]
fn an_environment_has_a_link_to_the_peer_and_a_cgroup_and_both_go() {
    let shared = shared(&format!("st{:x}", std::process::id() % 0xff_ffff));
    if !shared.host.privileged {
        eprintln!("SKIPPED: needs root");
        return;
    }
    let data = tempfile::tempdir_in("/var/tmp").unwrap();
    let mut stage = Stage::new(Arc::clone(&shared), "env", data.path()).unwrap();
    let path = stage.path_to_peer().unwrap();
    assert_eq!(path.network, Network::Veth, "{:?}", shared.peer_network().err());
    let netns = path.netns.unwrap();
    let device = path.device.unwrap();
    let (own, own6) = (path.own.unwrap().0, path.own6.unwrap().0);
    assert!(device.len() <= 15 && device.starts_with("tare"));
    let peer_ns = shared.peer_network().unwrap().netns().path();
    // What gVisor does to the device.
    assert!(in_netns(&netns, &["ip", "addr", "flush", "dev", &device]));
    stage.path_to_peer().unwrap();
    let listener = std::thread::spawn(move || {
        let script = "import socket;s=socket.create_server(('::',7000),family=socket.AF_INET6,dualstack_ipv6=True)\n\
             for _ in range(2):c,a=s.accept();c.sendall(a[0].removeprefix('::ffff:').encode());c.close()";
        assert!(in_netns(&peer_ns, &["timeout", "10", "python3", "-c", script]));
    });
    std::thread::sleep(Duration::from_millis(500));
    for (peer, own) in
        [(path.peer.unwrap().to_string(), own.to_string()), (path.peer6.unwrap().to_string(), own6.to_string())]
    {
        let script =
            format!("import socket;s=socket.create_connection(('{peer}',7000),5);assert s.recv(99).decode()=='{own}'");
        assert!(in_netns(&netns, &["python3", "-c", &script]));
    }
    listener.join().unwrap();

    let tap = stage.tap().unwrap().unwrap();
    let (netns, device) = (tap.netns.unwrap(), tap.device.unwrap());
    assert!(in_netns(&netns, &["ip", "link", "show", &device]));

    let cgroup = stage.cgroup();
    assert_eq!(cgroup.unequal(), None);
    assert!(cgroup.memory_bytes().is_some() && cgroup.cpu_ns().is_some());
    let parent = cgroup.parent_for_engine().unwrap();
    drop(cgroup);
    let id = shared.host.id.clone();
    drop(stage);
    drop(shared);
    let left = Command::new("sh").args(["-c", "ip netns; find /sys/fs/cgroup -maxdepth 3; ls /tmp"]).output().unwrap();
    let left = String::from_utf8_lossy(&left.stdout).into_owned();
    assert!(!left.contains(&format!("tarebench-{id}")), "{parent} or a namespace is left:\n{left}");
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0);
}

#[test]
fn a_quota_that_is_asked_for_is_in_the_kernels_own_files() {
    let shared = shared(&format!("sq{:x}", std::process::id() % 0xff_ffff));
    if !shared.host.privileged {
        eprintln!("SKIPPED: needs root");
        return;
    }
    let data = tempfile::tempdir_in("/var/tmp").unwrap();
    let mut stage = Stage::new(Arc::clone(&shared), "env", data.path()).unwrap();
    let bare = registry::find("bare").unwrap();
    let given = [("cpu.share", "30"), ("cpu.period", "20ms")].map(|(k, v)| (k.to_string(), v.to_string()));
    let launch = stage.launch(bare, &bare.resolve(&given.into()).unwrap()).unwrap();
    assert_eq!(launch.quota.as_deref(), Some("30 % of its CPU, 6ms in every 20ms"));
    assert_eq!(launch.unequal, None, "it was asked for");
    let parent = stage.cgroup().parent_for_engine().unwrap();
    let find = format!("cd /sys/fs/cgroup; cat .{parent}/cpu.max cpu*{parent}/cpu.cfs_[qp]*_us");
    let found = Command::new("sh").args(["-c", &find]).output().unwrap();
    let mut found: Vec<u64> =
        String::from_utf8_lossy(&found.stdout).split_whitespace().map(|word| word.parse().unwrap()).collect();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, [6000, 20_000], "{find}");
    let plain = stage.launch(bare, &bare.resolve(&Default::default()).unwrap()).unwrap();
    assert_eq!(plain.quota, None);
}

#[test]
fn a_link_is_held_to_its_limits_at_both_ends_and_the_harness_s_own_is_not() {
    let link = LinkLimits { delay: None, rate: Some(1_000_000), mtu: Some(1400) };
    let shared = shared_with(&format!("sl{:x}", std::process::id() % 0xff_ffff), link);
    if !shared.host.privileged {
        eprintln!("SKIPPED: needs root");
        return;
    }
    if let Err(e) = shared.check_link_limits() {
        assert!(format!("{e:#}").contains("modprobe sch_tbf"), "{e:#}");
        eprintln!("SKIPPED: {e:#}");
        return;
    }
    let data = tempfile::tempdir_in("/var/tmp").unwrap();
    let mut stage = Stage::new(Arc::clone(&shared), "env", data.path()).unwrap();
    let path = stage.path_to_peer().unwrap();
    assert!(path.ours && path.mtu == Some(1400));
    let peer_ns = shared.peer_network().unwrap().netns().path();
    let said = |netns: &Path, words: &[&str]| {
        let netns = format!("--net={}", netns.display());
        let output = Command::new("nsenter").arg(netns).args(words).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let device = path.device.unwrap();
    assert!(said(path.netns.as_deref().unwrap(), &["ip", "link", "show", &device]).contains("mtu 1400"));
    let queues = said(&peer_ns, &["tc", "qdisc", "show"]);
    assert_eq!(queues.matches("tbf").count(), 1, "{queues}");
    assert!(queues.contains("rate 8Mbit"), "{queues}");
    let _own = shared.own_link().unwrap().unwrap();
    assert_eq!(said(&peer_ns, &["tc", "qdisc", "show"]).matches("tbf").count(), 1, "of the canaries");
    let delayed = LinkLimits { delay: Some(Duration::from_millis(1)), ..LinkLimits::default() };
    let other = shared_with(&format!("sn{:x}", std::process::id() % 0xff_ffff), delayed);
    // Some kernels lack it; then it is refused before anything is measured, and never left away.
    if let Err(e) = other.check_link_limits() {
        let words = format!("{e:#}");
        assert!(words.contains("modprobe sch_netem") && words.contains("leave link.delay away"), "{words}");
    }
}
