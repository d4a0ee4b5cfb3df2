//! A harness that is killed with SIGKILL in the middle of a session: the next run finds and removes everything.
//!
//! The harness to be killed is this test binary itself.

#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use runners::host::{Host, Resources};
use runners::session::Session;
use runners::stage::Stage;
use runners::stage::shared::Shared;
use runners::{Launch, Runner, Unavailable, leftovers};
use workloads::protocol::{self, Envelope, Hello, PROTOCOL, Response};
use workloads::settings::Settings;

const ROLE: &str = "TAREBENCH_ROLE";
const ID: &str = "TAREBENCH_TEST_ID";
const DATA: &str = "TAREBENCH_TEST_DATA";

#[derive(Debug)]
struct Sleeper;

impl Runner for Sleeper {
    fn name(&self) -> &'static str {
        "sleeper"
    }
    fn about(&self) -> &'static str {
        "An agent that says hello and leaves a process behind"
    }
    fn version(&self, _: &Host, _: &Settings) -> Result<String, Unavailable> {
        Ok("1".into())
    }
    fn launch(&self, _: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let removed =
            stage.data().parent().expect("data has a parent").join(format!("removed-tarebench-{}", stage.host.id));
        stage.note(&["touch", removed.to_str().expect("UTF-8")])?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--exact", "agent", "--ignored", "--nocapture"]).current_dir(stage.data());
        Ok(Launch::new(command).over(stage.path_to_peer()?))
    }
}

/// Not a test: the agent.
#[test]
#[ignore = "the body of an agent"]
#[expect(clippy::zombie_processes, reason = "leaving a process behind is what it is for")]
fn agent() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    // Escapes the process group and the parent-death signal, as the daemons of engines do.
    Command::new("setsid").args(["sleep", "300"]).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let hello = Hello { protocol: PROTOCOL, ..Hello::default() };
    let frame = Envelope { id: 0, received_ns: 0, sent_ns: 0, body: Response::Hello(hello) };
    protocol::write_frame(&mut std::io::stdout().lock(), &frame).unwrap();
    std::thread::sleep(Duration::from_secs(300));
}

/// Not a test: the harness that is killed.
#[test]
#[ignore = "the body of a harness"]
fn harness() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let (id, data) = (std::env::var(ID).unwrap(), PathBuf::from(std::env::var_os(DATA).unwrap()));
    let resources = Resources::new(1, 256 << 20);
    let host = Arc::new(Host::new(&id, Path::new("/proc/self/exe"), resources).unwrap());
    let mut stage = Stage::new(Shared::new(host), "env", &data).unwrap();
    let launch = stage.launch(&Sleeper, &Settings::default()).unwrap();
    let session = Session::start(launch, Duration::from_secs(10)).unwrap();
    println!("started {}", session.pid());
    std::io::stdout().flush().unwrap();
    std::thread::sleep(Duration::from_secs(300));
}

#[test]
fn nothing_is_left_of_a_killed_run_after_cleaning() {
    let id = format!("k{:x}", std::process::id() % 0xff_ffff);
    let data = tempfile::tempdir_in("/var/tmp").unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "harness", "--ignored", "--nocapture"])
        .envs([(ROLE, "harness"), (ID, &id)])
        .env(DATA, data.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.map(|l| l.unwrap()).find(|l| l.contains("started")).expect("the session started");
    let pid = line.rsplit(' ').next().unwrap().to_string();
    let mine = |l: &leftovers::Leftover| l.scratch.ends_with(format!("tarebench-{id}"));
    assert!(!leftovers::find(Path::new("/")).iter().any(mine), "the harness lives, so nothing is left over");
    child.kill().unwrap();
    child.wait().unwrap();
    let until = Instant::now() + Duration::from_secs(5);
    while Path::new("/proc").join(&pid).join("exe").exists() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    let found: Vec<_> = leftovers::find(Path::new("/")).into_iter().filter(mine).collect();
    assert_eq!(found.len(), 1, "the scratch directory of the dead is found");
    leftovers::clean(&found).unwrap();

    assert!(data.path().join(format!("removed-tarebench-{id}")).exists(), "the engine's own removal was run");
    let name = format!("tarebench-{id}");
    let mut left = String::new();
    for (program, args) in
        [("ip", &["netns"][..]), ("find", &["/sys/fs/cgroup", "/tmp", "-maxdepth", "3", "-name", &name])]
    {
        let output = Command::new(program).args(args).stderr(Stdio::null()).output().unwrap();
        left.push_str(&String::from_utf8_lossy(&output.stdout));
    }
    assert!(!left.contains(&name), "left:\n{left}");
    let still = std::fs::read_dir(data.path()).unwrap().flatten().filter(|e| e.path().is_dir()).count();
    assert_eq!(still, 0, "the data directory is gone");
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let mut environment = Vec::new();
        let read = std::fs::File::open(entry.path().join("environ")).and_then(|mut f| f.read_to_end(&mut environment));
        let ours = read.is_ok() && String::from_utf8_lossy(&environment).contains(&format!("{ID}={id}"));
        assert!(!ours, "{} is still running", entry.path().display());
    }
}
