//! Containers for real: each engine is started through a session, asked, ended, killed, and leaves nothing.

#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runners::Network;
use runners::host::{Host, Resources};
use runners::registry;
use runners::session::Session;
use runners::stage::Stage;
use workloads::settings::Settings;

const DEADLINE: Duration = Duration::from_secs(30);
const MEMORY: u64 = 512 << 20;

fn id(test: &str) -> String {
    format!("{test}{:x}", std::process::id() & 0xff_ffff)
}

fn host(id: &str) -> Arc<Host> {
    let resources = Resources::new(1, MEMORY);
    Arc::new(Host::new(id, Path::new(env!("CARGO_BIN_EXE_tarebench")), resources).unwrap())
}

fn settings(runner: &str, given: &[(&str, &str)]) -> Settings {
    let given: BTreeMap<_, _> = given.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    Settings::resolve(registry::find(runner).unwrap().settings(), &given).unwrap()
}

/// The path, where this machine can walk it; loud where not.
fn start(runner: &str, given: &[(&str, &str)], stage: &mut Stage) -> (Session, Network) {
    let runner = registry::find(runner).unwrap();
    let launch = stage.launch(runner, &settings(runner.name(), given)).unwrap();
    let network = launch.network.clone();
    let session = Session::start(launch, DEADLINE).unwrap_or_else(|e| panic!("{} {given:?}: {e}", runner.name()));
    (session, network)
}

fn available(runner: &str, host: &Host) -> bool {
    match registry::find(runner).unwrap().version(host) {
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
    let host = host(&id);
    if !available(runner, &host) {
        return;
    }
    let before = run_state();
    let data = tempfile::tempdir_in("/var/tmp").unwrap();
    {
        let mut stage = Stage::new(Arc::clone(&host), "box", data.path()).unwrap();
        let mut starts = Vec::new();
        for _ in 0..3 {
            let (mut session, network) = start(runner, &[], &mut stage);
            starts.push(session.start.as_millis());
            session.ping(DEADLINE).unwrap();
            if host.privileged {
                assert_eq!(network, Network::Veth);
                assert_limits_hold(&id, &host);
            }
            let ended = Instant::now();
            drop(session);
            assert!(ended.elapsed() < Duration::from_secs(2), "{runner} takes {:?} to end", ended.elapsed());
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
    drop(host);
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
fn gvisor_starts_obeys_and_leaves_nothing() {
    conforms("gvisor", "eg");
}

#[test]
fn podman_starts_obeys_and_leaves_nothing() {
    conforms("podman", "ep");
}

#[test]
fn other_settings_start_too() {
    let id = id("es");
    let host = host(&id);
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
    ];
    for (n, (runner, given)) in all.iter().enumerate() {
        if !available(runner, &host) {
            continue;
        }
        let mut stage =
            Stage::new(Arc::clone(&host), &format!("an-environment-with-quite-a-long-name-{n}"), data.path()).unwrap();
        let (mut session, _) = start(runner, given, &mut stage);
        session.ping(DEADLINE).unwrap();
        drop(session);
        assert_session_left_nothing(&id, &format!("{runner} {given:?}"));
    }
}
