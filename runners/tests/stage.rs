//! The host's side for real: links, cgroups, and nothing left of them.

#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use runners::Network;
use runners::host::{Host, Resources};
use runners::stage::Stage;
use runners::stage::shared::Shared;

fn shared(id: &str) -> Arc<Shared> {
    let resources = Resources::new(1, 256 << 20);
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
