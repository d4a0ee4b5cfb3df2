//! What the tests of the program share: a directory on a real disk, the program run in it, and words to say what is expected.

#![expect(dead_code, reason = "each test binary uses its own part")]

#[cfg(target_os = "linux")]
pub mod boxes;
#[cfg(target_os = "linux")]
pub mod emulated;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use runners::host::{Host, Resources};
use runners::session::{Session, SessionError};
use runners::stage::shared::Shared;
use tempfile::TempDir;
use workloads::protocol::{BurstPlan, Task};

/// Runs a program that has to end well. Where a test has failed already, what is cleared away behind it fails no second time.
#[track_caller]
pub fn shell(program: &str, words: &[&str]) {
    let status = Command::new(program).args(words).status().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(status.success() || std::thread::panicking(), "{program} {words:?}");
}

/// A directory of its own for one test, on the disk that holds the checkout and not on a tmpfs.
pub struct Dir(TempDir);

/// What a command printed and how it ended.
pub struct Ran {
    pub stdout: String,
    pub stderr: String,
    pub code: i32,
}

impl Dir {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("test-").tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        Self(dir.expect("a directory"))
    }

    pub fn root(&self) -> &Path {
        self.0.path()
    }

    /// A file in it.
    pub fn at(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tarebench"));
        command.args(words).current_dir(self.root()).stdin(Stdio::null());
        // Tests run beside each other.
        command.env("TAREBENCH_BESIDE", "1");
        command.env_remove("TAREBENCH_STORE").env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
        command
    }

    /// A few rounds are soon all void where the hypervisor takes CPU time away: a run that was spoiled so is done again.
    pub fn run(&self, words: &[&str]) -> Ran {
        const AGAIN: u32 = 3;
        let run = || ran(self.command(words).output().expect("the program starts"));
        let mut ran = run();
        for _ in 0..AGAIN {
            if words.first() != Some(&"run") || !ran.was_restless() {
                break;
            }
            eprintln!("RUN AGAIN, this machine was too restless:\n{}", ran.stderr);
            std::thread::sleep(Duration::from_secs(2));
            ran = run();
        }
        ran
    }

    pub fn start(&self, words: &[&str]) -> Child {
        self.command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
    }

    pub fn suite(&self, text: &str) -> String {
        std::fs::write(self.at("suite.toml"), text).expect("written");
        "suite.toml".into()
    }

    /// Fails when anything but the named files is in the directory: nothing of a run stays behind in its data directory.
    pub fn holds_only(&self, names: &[&str]) {
        let mut found: Vec<String> = std::fs::read_dir(self.root())
            .expect("readable")
            .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned())
            .collect();
        found.retain(|f| !names.iter().any(|n| f == n || f.starts_with(&format!("{n}-"))));
        assert!(found.is_empty(), "left behind: {found:?}");
    }
}

pub fn ran(output: Output) -> Ran {
    Ran {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    }
}

/// What a report says of an environment that has no round which counts.
pub const ALL_VOID: &str = "all of its rounds are void";

impl Ran {
    /// Whether it was a run of which too many rounds are void.
    fn was_restless(&self) -> bool {
        ["too restless", ALL_VOID].iter().any(|words| self.stdout.contains(words))
    }

    #[track_caller]
    pub fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "\nstdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub fn ends_with_any(self, codes: &[i32]) -> Self {
        assert!(
            codes.contains(&self.code),
            "{} is none of {codes:?}\nstdout:\n{}\nstderr:\n{}",
            self.code,
            self.stdout,
            self.stderr
        );
        self
    }

    #[track_caller]
    pub fn says(self, words: &str) -> Self {
        assert!(
            self.stderr.contains(words) || self.stdout.contains(words),
            "`{words}` is not in\nstdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }
}

/// A host for a run of this id, with our own program as what it sends into boxes, and what the run's stages share there.
pub fn shared(id: &str, resources: Resources) -> Arc<Shared> {
    let host = Host::new(id, Path::new(env!("CARGO_BIN_EXE_tarebench")), resources).expect("a host");
    Shared::new(Arc::new(host))
}

/// A short burst of a workload, prepared, verified and released.
#[track_caller]
pub fn work(session: &mut Session, task: Task) {
    // Generous: CI machines are slow and shared, and a guest's CPU may be emulated.
    const PATIENCE: Duration = Duration::from_secs(120);
    let name = task.workload.clone();
    let attempt = || -> Result<(), SessionError> {
        session.prepare(task, PATIENCE)?;
        let sample = session
            .burst(BurstPlan { operations: 20, warmup: 4, batch: 1, limit_ns: u64::MAX, number: 0 }, PATIENCE)?;
        assert_eq!(sample.operations, 20);
        session.verify(PATIENCE)?;
        session.release(PATIENCE)
    };
    attempt().unwrap_or_else(|e| panic!("{name}: {e}"));
}

/// Waits for something to become true.
#[track_caller]
pub fn eventually(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + patience;
    while !holds() {
        assert!(Instant::now() < until, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a runner (or `chromium`) must run: then its absence is a failure, else a loud skip.
pub fn must_run(name: &str) -> bool {
    std::env::var("TAREBENCH_MUST_RUN").is_ok_and(|list| list.split(',').any(|n| n.trim() == name))
}

/// Runners that enter, or are, what is there already: a test makes it for them, see `boxes`.
pub const NEED_PREMISES: &[&str] = &["oci", "docker", "exec", "ssh"];

/// Whether nftables can be used, which `network=nat` needs; says so where it can't.
pub fn has_nft() -> bool {
    let there = Command::new("nft").arg("--version").stdout(Stdio::null()).status().is_ok_and(|s| s.success());
    assert!(there || !must_run("nftables"), "nftables must be installed here");
    if !there {
        eprintln!("SKIPPED: nft is not installed; apt install nftables");
    }
    there
}

/// Everything on this host that carries the marker of a run: namespaces, mounts, cgroups, processes, scratch, interfaces.
pub fn traces(id: &str) -> Vec<String> {
    let mut traces = Vec::new();
    let marker = format!("tarebench-{id}");
    for dir in ["/run/netns", "/var/run/netns", "/tmp"] {
        names(Path::new(dir), &marker, &mut traces);
    }
    if let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") {
        traces.extend(mounts.lines().filter(|l| l.contains(&marker)).map(|l| format!("mount {l}")));
    }
    for group in walk(Path::new("/sys/fs/cgroup"), 4) {
        if group.file_name().is_some_and(|n| n.to_string_lossy().contains(&marker)) {
            traces.push(format!("cgroup {}", group.display()));
        }
    }
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(&marker) {
            traces.push(format!("process {}", String::from_utf8_lossy(&line).replace('\0', " ")));
        }
    }
    names(Path::new("/sys/class/net"), &format!("tare{id}"), &mut traces);
    traces
}

fn names(dir: &Path, marker: &str, into: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(marker) {
            into.push(entry.path().display().to_string());
        }
    }
}

fn walk(dir: &Path, depth: usize) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            if depth > 0 {
                found.extend(walk(&entry.path(), depth - 1));
            }
            found.push(entry.path());
        }
    }
    found
}

/// What fio says of reads, with all times so many times as long.
pub fn fio(times: f64) -> serde_json::Value {
    let mut all: serde_json::Value = serde_json::from_str(include_str!("../fio/read-plus.json")).expect("JSON");
    let read = &mut all["jobs"][0]["read"];
    read["runtime"] = (read["runtime"].as_f64().expect("a number") * times).round().into();
    for key in ["min", "max", "mean"] {
        read["clat_ns"][key] = (read["clat_ns"][key].as_f64().expect("a number") * times).round().into();
    }
    let bins = read["clat_ns"]["bins"].as_object().expect("bins").clone();
    let scaled =
        bins.into_iter().map(|(ns, count)| ((ns.parse::<f64>().expect("a number") * times).round().to_string(), count));
    read["clat_ns"]["bins"] = serde_json::Value::Object(scaled.collect());
    all
}
