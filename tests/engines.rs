//! Containers for real: each engine is started through a session, asked, ended, killed, and leaves nothing.

#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::boxes::Premises;
use common::{Dir, has_nft, must_run};
use runners::host::{Host, Resources};
use runners::probe::{Verdict, probe};
use runners::registry;
use runners::session::Session;
use runners::stage::Stage;
use runners::stage::peer::PeerProcess;
use runners::stage::shared::Shared;
use runners::{Network, Unavailable};
use workloads::protocol::{BurstPlan, Task};
use workloads::settings::Settings;

const DEADLINE: Duration = Duration::from_secs(30);
const MEMORY: u64 = 512 << 20;

fn id(test: &str) -> String {
    format!("{test}{:x}", std::process::id() & 0xff_ffff)
}

fn shared(id: &str) -> Arc<Shared> {
    common::shared(id, Resources::new(1, MEMORY))
}

fn settings(runner: &str, given: &[(&str, &str)]) -> Settings {
    Settings::of(registry::find(runner).unwrap().settings(), given)
}

/// The path, where this machine can walk it; loud where not.
fn start(runner: &str, given: &[(&str, &str)], stage: &mut Stage) -> (Session, Network) {
    let runner = registry::find(runner).unwrap();
    let launch = stage.launch(runner, &settings(runner.name(), given)).unwrap();
    let network = launch.path.network;
    let session = Session::start(launch, DEADLINE).unwrap_or_else(|e| panic!("{} {given:?}: {e}", runner.name()));
    (session, network)
}

fn available(runner: &str, host: &Host) -> bool {
    match registry::find(runner).unwrap().version(host, &settings(runner, &[])) {
        Ok(version) => {
            eprintln!("{runner} {version}");
            true
        }
        Err(e) => {
            eprintln!("SKIPPED: {runner}: {e} ({})", e.fix);
            false
        }
    }
}

/// Processes that name the run in an argument, or stand in a cgroup of it.
fn processes(id: &str) -> Vec<String> {
    let mark = format!("tarebench-{id}");
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with(|c: char| c.is_ascii_digit()) || name == own {
            continue;
        }
        let read =
            |file: &str| String::from_utf8_lossy(&fs::read(entry.path().join(file)).unwrap_or_default()).into_owned();
        let line = read("cmdline");
        if line.contains(&mark) || (!line.is_empty() && read("cgroup").contains(&mark)) {
            found.push(format!("{name} {}", line.replace('\0', " ")));
        }
    }
    found
}

fn mounts(id: &str) -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    // The namespaces of the links are the stage's, and go with it.
    text.lines().filter(|l| l.contains(&format!("tarebench-{id}")) && !l.contains("netns")).map(String::from).collect()
}

fn cgroups(id: &str) -> Vec<String> {
    fn walk(dir: &Path, name: &str, found: &mut Vec<String>, depth: u32) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.path().is_dir() && depth < 4 {
                if entry.file_name().to_string_lossy().contains(name) {
                    found.push(entry.path().display().to_string());
                }
                walk(&entry.path(), name, found, depth + 1);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), &format!("tarebench-{id}"), &mut found, 0);
    found
}

/// Below the stage's cgroup nothing may be left after a session; `netns` and the group itself are the stage's.
fn assert_session_left_nothing(id: &str, what: &str) {
    assert_eq!(processes(id), [] as [String; 0], "{what}: processes");
    assert_eq!(mounts(id), [] as [String; 0], "{what}: mounts");
    let below: Vec<_> = cgroups(id).into_iter().filter(|c| c.matches("tarebench-").count() > 1).collect();
    assert_eq!(below, [] as [String; 0], "{what}: cgroups of the engine");
}

fn run_state() -> Vec<String> {
    let list = |dir: &str| fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path().display().to_string());
    let mut all: Vec<String> =
        ["/run", "/run/runc", "/dev/shm", "/etc/cni/net.d"].iter().flat_map(|d| list(d)).collect();
    all.sort();
    all
}

/// Every way that a session ends, with what must hold while it is up.
fn conforms(runner: &str, test: &str) {
    let id = id(test);
    let shared = shared(&id);
    if !available(runner, &shared.host) {
        return;
    }
    let before = run_state();
    let data = tempfile::tempdir_in("/var/tmp").unwrap();
    {
        let mut stage = Stage::new(Arc::clone(&shared), "box", data.path()).unwrap();
        let mut starts = Vec::new();
        for _ in 0..3 {
            let (mut session, network) = start(runner, &[], &mut stage);
            starts.push(session.start.as_millis());
            session.ping(DEADLINE).unwrap();
            if shared.host.privileged {
                assert_eq!(network, Network::Veth);
                assert_limits_hold(&id, &shared.host);
            }
            let ended = Instant::now();
            drop(session);
            // Who doesn't go within 3 s is killed.
            assert!(ended.elapsed() < Duration::from_millis(2900), "{runner} takes {:?} to end", ended.elapsed());
            assert_session_left_nothing(&id, runner);
        }
        eprintln!("{runner}: launch to hello {starts:?} ms");

        // As a deadline or a signal does in the middle of a burst.
        let (session, _) = start(runner, &[], &mut stage);
        nix::sys::signal::killpg(nix::unistd::Pid::from_raw(session.pid() as i32), nix::sys::signal::Signal::SIGKILL)
            .unwrap();
        drop(session);
        assert_session_left_nothing(&id, &format!("{runner}, killed"));

        let (mut session, _) = start(runner, &[], &mut stage);
        session.ping(DEADLINE).unwrap();
        drop(session);

        let (mut session, network) = start(runner, &[("network", "none")], &mut stage);
        session.ping(DEADLINE).unwrap();
        assert_eq!(network, Network::None);
    }
    drop(shared);
    assert_session_left_nothing(&id, runner);
    assert_eq!(cgroups(&id), [] as [String; 0]);
    assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0, "{runner}: the data directory is empty again");
    assert_eq!(run_state(), before);
}

/// Read from the host: the agent's process, wherever the engine has put it, is under our limits.
fn assert_limits_hold(id: &str, host: &Host) {
    let agents = processes(id);
    assert!(!agents.is_empty());
    let inside = fs::read_dir("/proc").unwrap().flatten().filter(|e| {
        fs::read_to_string(e.path().join("cgroup")).is_ok_and(|c| c.contains(&format!("tarebench-{id}/box")))
    });
    let mut seen = 0;
    for process in inside {
        let status = fs::read_to_string(process.path().join("status")).unwrap_or_default();
        let Some(allowed) = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:")) else { continue };
        let work: Vec<String> = host.pinning.work.iter().map(usize::to_string).collect();
        assert_eq!(allowed.trim(), work.join(","), "{status}");
        let cgroup = fs::read_to_string(process.path().join("cgroup")).unwrap_or_default();
        for line in
            cgroup.lines().filter(|l| l.contains(":memory:") || l.contains(":cpuset:") || l.starts_with("0::/tare"))
        {
            assert!(line.contains(&format!("tarebench-{id}/box")), "{line} is outside of our limits");
        }
        seen += 1;
    }
    assert!(seen > 0, "no process of the session is in our cgroup");
}

/// Mounts and unmounts in a directory that shares its mounts with the namespaces made from this one, as `/run/netns` does,
/// until told to stop.
fn mounts_that_come_and_go(at: &Path, stop: &AtomicBool) {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let none = None::<&str>;
    mount(Some(at), at, none, MsFlags::MS_BIND, none).unwrap();
    mount(none, at, none, MsFlags::MS_SHARED, none).unwrap();
    let points: Vec<PathBuf> = (0..16).map(|n| at.join(n.to_string())).collect();
    points.iter().for_each(|point| fs::write(point, "").unwrap());
    while !stop.load(Ordering::Relaxed) {
        for point in &points {
            mount(Some("/proc/self/ns/net"), point, none, MsFlags::MS_BIND, none).unwrap();
        }
        std::thread::sleep(Duration::from_millis(1));
        points.iter().for_each(|point| umount2(point, MntFlags::MNT_DETACH).unwrap());
    }
    umount2(at, MntFlags::MNT_DETACH).unwrap();
}

/// Another environment's network namespace, or a stranger's container, is mounted and unmounted while an engine goes over the
/// host's mounts. In a mount namespace of the test's own, so that no other test is troubled.
#[test]
fn engines_start_beside_mounts_that_come_and_go() {
    let id = id("em");
    let shared = shared(&id);
    if !shared.host.privileged {
        eprintln!("SKIPPED: only root mounts");
        return;
    }
    let (here, stop) = (tempfile::tempdir_in("/var/tmp").unwrap(), AtomicBool::new(false));
    let data = tempfile::tempdir_in("/var/tmp").unwrap();
    let mut stage = Stage::new(Arc::clone(&shared), "box", data.path()).unwrap();
    std::thread::scope(|scope| {
        let starts = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            scope.spawn(|| mounts_that_come_and_go(here.path(), &stop));
            for runner in ["firejail", "bubblewrap", "nspawn", "lxc", "namespaces", "runc"] {
                if available(runner, &shared.host) {
                    for _ in 0..if runner == "firejail" { 40 } else { 8 } {
                        start(runner, &[], &mut stage).0.ping(DEADLINE).unwrap();
                    }
                }
            }
        });
        let result = starts.join();
        stop.store(true, Ordering::Relaxed);
        result.unwrap();
    });
}

#[test]
fn bubblewrap_starts_obeys_and_leaves_nothing() {
    conforms("bubblewrap", "eb");
}

#[test]
fn firejail_starts_obeys_and_leaves_nothing() {
    conforms("firejail", "ef");
}

#[test]
fn nspawn_starts_obeys_and_leaves_nothing() {
    conforms("nspawn", "en");
}

#[test]
fn lxc_starts_obeys_and_leaves_nothing() {
    conforms("lxc", "el");
}

#[test]
fn runc_starts_obeys_and_leaves_nothing() {
    conforms("runc", "er");
}

#[test]
fn crun_starts_obeys_and_leaves_nothing() {
    // Root shows it one version of cgroups alone; nobody else can.
    let hybrid = Path::new("/sys/fs/cgroup/unified").exists();
    if hybrid && !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: crun refuses a cgroup v1 with a v2 beside it, and only root can hide the v2");
        return;
    }
    conforms("crun", "ec");
}

#[test]
fn gvisor_starts_obeys_and_leaves_nothing() {
    conforms("gvisor", "eg");
}

/// Whether this is an ordinary user to whom `/etc/subuid` gives more ids than one. The files are read: the C library would bring the
/// modules of its name service in, and one of them (libnss_systemd of Debian 12) crashes now and then where threads start meanwhile.
fn owns_other_ids() -> bool {
    let uid = nix::unistd::geteuid();
    let [users, given] = ["/etc/passwd", "/etc/subuid"].map(|file| fs::read_to_string(file).unwrap_or_default());
    let has_id = |line: &&str| line.split(':').nth(2) == Some(uid.to_string().as_str());
    let name = users.lines().find(has_id).and_then(|line| line.split(':').next());
    !uid.is_root() && name.is_some_and(|name| given.lines().any(|line| line.split(':').next() == Some(name)))
}

fn in_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

#[test]
fn podman_starts_obeys_and_leaves_nothing() {
    if owns_other_ids() && !in_path("newuidmap") {
        eprintln!("SKIPPED: podman gives a user's container the user's ids of /etc/subuid: apt install uidmap");
        return;
    }
    conforms("podman", "ep");
}

#[test]
fn other_settings_start_too() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: most of these settings take root, and are refused without it");
        return;
    }
    let id = id("es");
    let shared = shared(&id);
    let data = tempfile::tempdir_in("/var/tmp").unwrap();
    let all: &[(&str, &[(&str, &str)])] = &[
        ("bubblewrap", &[("user", "true")]),
        ("firejail", &[("data", "tmpfs"), ("seccomp", "none")]),
        ("nspawn", &[("data", "overlay"), ("seccomp", "none")]),
        ("nspawn", &[("data", "tmpfs")]),
        ("lxc", &[("data", "overlay")]),
        ("lxc", &[("data", "tmpfs"), ("seccomp", "none")]),
        ("runc", &[("data", "root")]),
        ("runc", &[("data", "overlay"), ("seccomp", "containers")]),
        ("runc", &[("data", "tmpfs"), ("open-files", "512")]),
        ("gvisor", &[("network", "host")]),
        ("gvisor", &[("overlay", "root:memory"), ("data", "root")]),
        ("gvisor", &[("platform", "ptrace"), ("file-access", "exclusive"), ("directfs", "false")]),
        ("podman", &[("data", "root"), ("seccomp", "unconfined")]),
        ("podman", &[("data", "layer"), ("network", "slirp4netns")]),
        ("podman", &[("data", "named"), ("network", "bridge"), ("rm", "false")]),
        ("podman", &[("data", "layer"), ("network", "host"), ("rm", "false")]),
        ("podman", &[("data", "layer"), ("storage", "vfs"), ("runtime", "crun")]),
        ("podman", &[("data", "layer"), ("storage", "fuse-overlayfs")]),
        ("podman", &[("runtime", "runsc")]),
        ("podman", &[("runtime", "runsc"), ("network", "none")]),
    ];
    for (n, (runner, given)) in all.iter().enumerate() {
        let needs = given.iter().map(|(_, v)| *v).filter(|v| matches!(*v, "crun" | "runsc" | "fuse-overlayfs"));
        if !available(runner, &shared.host) || !needs.into_iter().all(installed) {
            continue;
        }
        let mut stage =
            Stage::new(Arc::clone(&shared), &format!("an-environment-with-quite-a-long-name-{n}"), data.path())
                .unwrap();
        let (mut session, _) = start(runner, given, &mut stage);
        session.ping(DEADLINE).unwrap();
        drop(session);
        assert_session_left_nothing(&id, &format!("{runner} {given:?}"));
    }
}

/// Whether this program is there; loud where not.
fn installed(program: &str) -> bool {
    let there =
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join(program).exists());
    assert!(there || !must_run(program), "{program} must be installed here");
    if !there {
        eprintln!("SKIPPED: {program} is not installed");
    }
    there
}

/// Network namespaces that an engine has named by itself (`netns-...`).
fn nameless_namespaces() -> Vec<String> {
    let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = names.map(|e| e.file_name().to_string_lossy().into_owned());
    let mut all: Vec<String> = names.filter(|name| name.starts_with("netns-")).collect();
    all.sort();
    all
}

/// Twenty requests to the peer, answered.
/// Over a connection that this side opens, and says what it says of it.
fn asks_the_peer(session: &mut Session, far: workloads::PeerAddress, connection: &str) -> Option<String> {
    let task = Task { peer: Some(far), ..Task::of("net/rr") };
    let task = Task { settings: task.settings.with("connection", connection), ..task };
    let mut facts = session.prepare(task, DEADLINE).unwrap_or_else(|e| panic!("{connection}: {e}"));
    let plan = BurstPlan { operations: 20, warmup: 2, batch: 1, limit_ns: 10_000_000_000, number: 0 };
    assert_eq!(session.burst(plan, DEADLINE).unwrap().operations, 20);
    session.verify(DEADLINE).unwrap();
    session.release(DEADLINE).unwrap();
    facts.remove("connection")
}

#[test]
fn every_path_leads_to_the_peer() {
    let id = id("ew");
    let shared = shared(&id);
    if !shared.host.privileged {
        eprintln!("SKIPPED: paths of our own take root");
        return;
    }
    let peer = PeerProcess::start(&shared, DEADLINE).unwrap();
    let data = tempfile::tempdir_in("/var/tmp").unwrap();
    let before = nameless_namespaces();
    let all: &[(&str, &str, Network, &str)] = &[
        ("runc", "veth", Network::Veth, "runc"),
        ("runc", "bridge", Network::Bridge, "runc"),
        ("runc", "nat", Network::Nat, "nft"),
        ("runc", "slirp4netns", Network::UserNat, "slirp4netns"),
        ("runc", "pasta", Network::Passt, "pasta"),
        ("runc", "host", Network::Host, "runc"),
        ("crun", "pasta", Network::Passt, "pasta"),
        ("podman", "bridge", Network::Nat, "podman"),
        ("podman", "slirp4netns", Network::UserNat, "slirp4netns"),
        ("podman", "host", Network::Host, "podman"),
        ("gvisor", "netstack", Network::Veth, "runsc"),
        ("gvisor", "host", Network::Veth, "runsc"),
    ];
    for (runner, word, expected, needs) in all {
        if !available(runner, &shared.host) || !installed(needs) || (*needs == "nft" && !has_nft()) {
            continue;
        }
        let mut stage = Stage::new(Arc::clone(&shared), &format!("{runner}-{word}"), data.path()).unwrap();
        let mut given = vec![("network", *word)];
        // By the port that podman publishes, or to an address of the box's own.
        let inbound = match (*runner, *word) {
            ("podman", "bridge" | "slirp4netns") => {
                given.push(("publish", "true"));
                Some("inbound, by a published port")
            }
            (_, "veth" | "bridge" | "netstack") => Some("inbound, directly"),
            _ => None,
        };
        let runner = registry::find(runner).unwrap();
        // Twice: a path is kept from block to block. The second is killed, as a deadline does it.
        for start in 0..2 {
            let launch = stage.launch(runner, &settings(runner.name(), &given)).unwrap();
            assert_eq!(launch.path.network, *expected, "{} {word}", runner.name());
            let far = launch.path.peer_address(Some(peer.port)).unwrap();
            let started = Session::start(launch, DEADLINE);
            let mut session = started.unwrap_or_else(|e| panic!("{} {word}: {e}", runner.name()));
            assert_eq!(asks_the_peer(&mut session, far, "outbound"), None);
            if inbound.is_some() {
                assert_eq!(asks_the_peer(&mut session, far, "inbound").as_deref(), inbound, "{} {word}", runner.name());
            }
            if start == 1 {
                let group = nix::unistd::Pid::from_raw(session.pid() as i32);
                nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).unwrap();
            }
        }
        drop(stage);
        assert_session_left_nothing(&id, &format!("{} {word}", runner.name()));
        assert_eq!(nameless_namespaces(), before, "{} {word}", runner.name());
    }
    drop(peer);
    drop(shared);
    assert_eq!(common::traces(&id), [] as [String; 0]);
}

#[test]
fn limits_of_processes_are_those_that_were_set() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: the agents are told by their cgroups, which only root makes");
        return;
    }
    let id = id("eu");
    let shared = shared(&id);
    let data = tempfile::tempdir_in("/var/tmp").unwrap();
    for runner in ["runc", "crun"] {
        if !available(runner, &shared.host) {
            continue;
        }
        let mut stage = Stage::new(Arc::clone(&shared), runner, data.path()).unwrap();
        let given = [("open-files", "321"), ("processes", "123"), ("locked-memory", "64KiB"), ("network", "none")];
        let (session, _) = start(runner, &given, &mut stage);
        let agents: Vec<String> = fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter(|p| fs::read(p.path().join("cmdline")).is_ok_and(|line| line.starts_with(b"/tarebench\0agent\0")))
            .filter(|p| {
                fs::read_to_string(p.path().join("cgroup")).is_ok_and(|c| c.contains(&format!("tarebench-{id}")))
            })
            .map(|p| fs::read_to_string(p.path().join("limits")).unwrap())
            .collect();
        let [limits] = &agents[..] else { panic!("{runner}: one agent, and not {}", agents.len()) };
        for (name, value) in [("Max open files", "321"), ("Max processes", "123"), ("Max locked memory", "65536")] {
            let line = limits.lines().find(|l| l.starts_with(name)).unwrap();
            let numbers: Vec<&str> = line[name.len()..].split_whitespace().take(2).collect();
            assert_eq!(numbers, [value, value], "{runner}: {line}");
        }
        drop(session);
    }
}

/// The releases of runsc that are here: the installed one, and the newer one of Debian's backports.
fn releases() -> Vec<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let newer = cache.map(|c| c.join("tarebench/engines/runsc-backports/usr/bin/runsc")).filter(|p| p.exists());
    assert!(
        newer.is_some() || !must_run("gvisor-backports"),
        "the newer runsc must be here: scripts/engines --releases"
    );
    if newer.is_none() {
        eprintln!("SKIPPED: a second release of gVisor: scripts/engines --releases fetches it on Debian 12");
    }
    let installed = Path::new("/usr/bin/runsc");
    Some(installed).filter(|p| p.exists()).map(Path::to_path_buf).into_iter().chain(newer).collect()
}

/// Settings; the file system of the data as seen inside; and what an old release says to set where it can't do that.
type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, Option<&'a str>);

/// Every setting on every release: it works, or is refused with the reason and what to set instead.
#[test]
fn gvisor_does_what_its_release_can_and_says_what_it_can_not() {
    const NEW: &str = "of 2023 or later";
    let id = id("ev");
    let shared = shared(&id);
    if !available("gvisor", &shared.host) {
        return;
    }
    let root = shared.host.privileged;
    let network = if root { "netstack" } else { "host" };
    let peer = PeerProcess::start(&shared, DEADLINE).unwrap();
    let data = tempfile::tempdir_in("/var/tmp").unwrap();
    let all: &[Case] = &[
        (&[], "9p", None),
        (&[("platform", "ptrace"), ("network", "host")], "9p", None),
        (&[("platform", "systrap")], "9p", Some("set platform=ptrace")),
        (&[("network", "none"), ("file-access", "exclusive")], "9p", None),
        (&[("file-access", "shared"), ("directfs", "false")], "9p", None),
        (&[("directfs", "true")], "9p", Some(NEW)),
        (&[("data", "root"), ("overlay", "root:memory")], "overlay", None),
        (&[("overlay", "all:memory")], "overlay", None),
        (&[("data", "root"), ("overlay", "root:self")], "overlay", Some(NEW)),
        (&[("overlay", "all:self")], "overlay", Some(NEW)),
    ];
    for runsc in releases() {
        let old = runsc.starts_with("/usr") && !systrap(&runsc);
        for (n, (given, file_system, refusal)) in all.iter().enumerate() {
            let path = runsc.to_str().unwrap();
            let given: Vec<_> = [("runsc", path), ("network", network)].iter().chain(*given).copied().collect();
            let mut stage = Stage::new(Arc::clone(&shared), &format!("{n}-{old}"), data.path()).unwrap();
            let launch = stage.launch(registry::find("gvisor").unwrap(), &settings("gvisor", &given));
            if let Some(words) = refusal.filter(|_| old) {
                let no = launch.expect_err("refused").downcast::<Unavailable>().expect("not a failure of the box");
                assert!(no.fix.contains(words) && !no.broken, "{given:?}: {no:?}");
                continue;
            }
            let launch = launch.unwrap();
            let far = launch.path.peer_address(Some(peer.port));
            let version = launch.version.clone().unwrap();
            let mut session = Session::start(launch, DEADLINE).unwrap_or_else(|e| panic!("{given:?}: {e}"));
            let identity = session.identify(DEADLINE).unwrap();
            eprintln!("{version} {:?}: {:?} to hello, clock {} ns", &given[2..], session.start, identity.clock_ns);
            assert_eq!(identity.file_system, *file_system, "{given:?}");
            if let Some(far) = far {
                asks_the_peer(&mut session, far, "outbound");
            }
            drop(session);
            assert_session_left_nothing(&id, &format!("{given:?}"));
        }
        // It may work on a machine of one's own. Where it doesn't, that is said in time, and nothing is left.
        let began = Instant::now();
        let given = [("runsc", runsc.to_str().unwrap()), ("platform", "kvm"), ("network", network)];
        let answer = probe(registry::find("gvisor").unwrap(), &settings("gvisor", &given), &shared, data.path());
        eprintln!("{} on kvm: {answer:?}", runsc.display());
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        assert!(answer.verdict == Verdict::Works || (answer.because.is_some() && answer.fix.is_some()), "{answer:?}");
        assert_session_left_nothing(&id, "platform=kvm");
    }
}

fn systrap(runsc: &Path) -> bool {
    let output = std::process::Command::new(runsc).arg("flags").output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).contains("systrap (default)")
}

/// A daemon of our own: each setting of docker, and `docker exec` into a container that was there before, over its own bridge.
#[test]
fn docker_takes_every_setting_and_reaches_the_peer() {
    let dir = Dir::new();
    let around = Premises::of("exec_docker", dir.root());
    if around.settings.is_empty() {
        assert!(!must_run("docker"), "docker must run here");
        eprintln!("SKIPPED: docker: it needs root and dockerd (apt install docker.io)");
        return;
    }
    let mut suite = String::from(
        "description = \"docker\"\nbaseline = \"bare\"\nblocks = 1\nrounds = 1\nburst = \"20ms\"\n\
         resources = { cpus = 1, memory = \"256MiB\" }\n[workloads.\"disk/fsync\"]\n[workloads.\"net/rr\"]\n[environments.bare]\n",
    );
    // Name and settings; the network, and the file system of the data as seen inside, where it is not the host's.
    let mut cases = vec![
        ("bridge", "storage = 'overlay2'", "bridge", ""),
        ("host", "network = 'host'\ndata = 'named'\nseccomp = 'none'", "loopback", ""),
        ("none", "network = 'none'\ndata = 'layer'\nruntime = 'runc'", "none", "overlay"),
    ];
    match installed("runsc") {
        true => cases.push(("runsc", "runtime = 'runsc'\ndata = 'tmpfs'", "bridge", "tmpfs")),
        false => cases.push(("tmpfs", "data = 'tmpfs'", "bridge", "tmpfs")),
    }
    let host = format!("host = '{}'", around.daemon());
    for (name, settings, ..) in &cases {
        suite.push_str(&format!("[environments.{name}]\nrunner = \"docker\"\n{host}\n{settings}\n"));
    }
    suite.push_str("[environments.shop]\nrunner = \"exec\"\n");
    for (key, value) in &around.settings {
        suite.push_str(&format!("{key} = '{value}'\n"));
    }
    cases.push(("shop", "", "the box's own", "overlay"));
    let file = dir.suite(&suite);
    let ran = dir.run(&["run", &file]);
    let talk = ran.stderr.clone();
    ran.ends_with_any(&[0, 4, 7]);
    let report: serde_json::Value = serde_json::from_str(&dir.run(&["report", "--format", "json"]).stdout).unwrap();
    let below = runners::stage::disk::Disk::under(dir.root()).unwrap().file_system;
    for (name, _, network, file_system) in cases {
        let environment = report["environments"].as_array().unwrap().iter().find(|e| e["name"] == name).unwrap();
        assert_ne!(environment["outcome"], "skipped", "{name}: {environment:#}\n{talk}");
        assert_eq!(environment["network"], network, "{name}");
        let failures = report["failures"].as_array().unwrap().iter().filter(|f| f["environment"] == name);
        let failed: Vec<_> = failures.map(|f| f["workload"].as_str().unwrap_or_default()).collect();
        let expected = if network == "none" { vec!["net/rr"] } else { vec![] };
        assert_eq!(failed, expected, "{name}: {:#}", report["failures"]);
        let (seen, expected) =
            (environment["facts"].to_string(), if file_system.is_empty() { &below } else { file_system });
        assert!(seen.contains(&format!("\"{expected}\"")), "{name} should have its data on {expected}: {seen}");
    }
    dir.holds_only(&["tarebench.db", "suite.toml"]);
}

/// The storage driver is the daemon's: what another is asked for is refused.
#[test]
fn docker_says_which_storage_driver_it_has() {
    let dir = Dir::new();
    let around = Premises::of("docker_vfs", dir.root());
    if around.settings.is_empty() {
        eprintln!("SKIPPED: docker: it needs root and dockerd (apt install docker.io)");
        return;
    }
    let verify = |storage: &str| {
        let host = around.daemon();
        let suite = dir.suite(&format!(
            "description = \"storage\"\nbaseline = \"bare\"\n[workloads.\"disk/fsync\"]\n[environments.bare]\n[environments.box]\n\
             runner = \"docker\"\nhost = '{host}'\nnetwork = 'none'\ndata = 'layer'\nstorage = '{storage}'\n"
        ));
        dir.run(&["verify", &suite])
    };
    verify("vfs").ends_with(0).says("3 passed, 0 failed");
    verify("overlay2").says("the daemon's storage driver is vfs").says("storage=vfs");
}
