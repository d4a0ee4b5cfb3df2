//! What goes wrong outside of us: signals, full disks, engines that die, hang, babble or lie. Nothing is lost, nothing stays.

#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Dir, Ran, eventually, must_run, ran, traces};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

fn runs(dir: &Dir) -> serde_json::Value {
    serde_json::from_str(&dir.run(&["list", "runs", "--json"]).stdout).unwrap_or_default()
}

fn signal_when_under_way(dir: &Dir, child: Child, signal: Signal) -> Ran {
    eventually("some bursts are in the store", Duration::from_secs(60), || {
        runs(dir)[0]["bursts"].as_u64().is_some_and(|n| n >= 6)
    });
    kill(Pid::from_raw(child.id() as i32), signal).expect("ours");
    let asked = Instant::now();
    let ran = ran(child.wait_with_output().expect("ends"));
    assert!(asked.elapsed() < Duration::from_secs(15), "it took {:?} to end", asked.elapsed());
    ran
}

fn nobody_else_changes_a_run_that_is_being_measured(dir: &Dir) {
    eventually("the run is in the store", Duration::from_secs(60), || runs(dir)[0]["id"].is_string());
    for words in [["remove", "latest"].as_slice(), &["run", "--resume", "latest", "--blocks", "600"]] {
        dir.run(words).ends_with(5).says("is still being measured");
    }
}

#[test]
fn a_signal_ends_cleanly_and_what_is_finished_is_reported() {
    // Who is started by nohup inherits that this one is ignored, and so would the runs.
    // SAFETY: no handler is replaced that somebody relies on.
    unsafe { nix::sys::signal::signal(Signal::SIGHUP, nix::sys::signal::SigHandler::SigDfl) }.expect("a signal");
    let signals = [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 143), (Signal::SIGQUIT, 143)];
    for (signal, code) in signals {
        let b = Dir::new();
        let child = b.start(&["run", "--env", "namespaces", "--workload", "disk/fsync", "--blocks", "500"]);
        if signal == Signal::SIGINT {
            nobody_else_changes_a_run_that_is_being_measured(&b);
        }
        let ran = signal_when_under_way(&b, child, signal).ends_with(code).says("disk/fsync").says("cleaning up ...");
        let list = runs(&b);
        assert_eq!(list[0]["ending"], "interrupted", "{}", ran.stderr);
        let id = list[0]["id"].as_str().expect("an id");
        assert_eq!(traces(id), Vec::<String>::new());
        b.run(&["report", id]).ends_with(0).says("interrupted");
        b.holds_only(&["tarebench.db"]);
    }
}

/// A run that is stopped for a second in its second round, and why rounds of it are void.
fn stopped_within_a_burst() -> (Dir, Vec<String>) {
    let b = Dir::new();
    let text = "baseline = \"bare\"\nblocks = 1\nrounds = 2\nburst = \"400ms\"\n[environments.bare]\n[workloads.\"control/syscall\"]\n";
    let child = b.start(&["run", &b.suite(text)]);
    eventually("a round is in the store", Duration::from_secs(60), || runs(&b)[0]["bursts"].as_u64() >= Some(2));
    // The next burst is under way, and takes longer than this.
    std::thread::sleep(Duration::from_millis(100));
    let pid = Pid::from_raw(child.id() as i32);
    kill(pid, Signal::SIGSTOP).expect("ours");
    std::thread::sleep(Duration::from_millis(1200));
    kill(pid, Signal::SIGCONT).expect("ours");
    ran(child.wait_with_output().expect("ends")).ends_with_any(&[0, 4]);
    let report = b.run(&["report", "--format", "json"]).ends_with(0).stdout;
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let voids = report["voids"].as_array().expect("voids");
    let reasons = voids.iter().map(|void| void["reason"].as_str().expect("a reason").to_string()).collect();
    (b, reasons)
}

#[test]
fn a_round_in_which_the_harness_was_stopped_is_void_and_says_so() {
    // On a busy machine it may be stopped between two bursts, which is another reason.
    let told = (0..3).any(|_| {
        let (b, reasons) = stopped_within_a_burst();
        eprintln!("{reasons:?}");
        b.holds_only(&["suite.toml", "tarebench.db"]);
        reasons.iter().any(|reason| reason.starts_with("the harness itself stood still for 1."))
    });
    assert!(told);
}

#[test]
fn a_second_signal_ends_at_once_and_says_what_is_left_and_how_to_remove_it() {
    let b = Dir::new();
    // Nothing can be interrupted more slowly than a start that waits for an answer.
    let path = with_engine(&b, "bwrap", "exec sleep 600");
    let mut command = b.command(&["run", "--env", "bubblewrap", "--workload", "control/syscall", "--blocks", "1"]);
    command.env("PATH", path).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut lines = lines.map(|line| line.expect("text"));
    lines.find(|line| line.contains("whether bubblewrap works")).expect("it is asked");
    eventually("its data directory is there", Duration::from_secs(10), || {
        let mut names = fs::read_dir(b.root()).expect("readable").flatten().map(|entry| entry.file_name());
        names.any(|name| name.to_string_lossy().starts_with("tarebench-"))
    });
    // Both at once: the second comes before the first has ended anything.
    let pid = Pid::from_raw(child.id() as i32);
    kill(pid, Signal::SIGSTOP).expect("ours");
    kill(pid, Signal::SIGTERM).expect("ours");
    kill(pid, Signal::SIGINT).expect("ours");
    kill(pid, Signal::SIGCONT).expect("ours");
    let said: Vec<String> = lines.collect();
    let code = child.wait().expect("ends").code();
    let last = said.iter().rev().find(|line| !line.is_empty()).cloned().unwrap_or_default();
    assert!(last.contains("is left on this host; `tarebench doctor --clean` removes it"), "{said:?}");
    assert!(matches!(code, Some(130 | 143)), "{code:?}");
    let id = last.split("tarebench-").nth(1).and_then(|rest| rest.split(' ').next()).expect("its id").to_string();
    eventually("nothing is left", Duration::from_secs(30), || {
        b.run(&["doctor", "--clean"]).ends_with(0);
        traces(&id).is_empty()
    });
}

/// A machine of two CPUs that was made up: each file with what it says.
const TUNABLE: [(&str, &str); 5] = [
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave"),
    ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave"),
    ("sys/devices/system/cpu/cpufreq/boost", "1"),
    ("sys/kernel/mm/ksm/run", "1"),
    ("proc/sys/kernel/numa_balancing", "1"),
];

/// What the files of that machine say.
fn tunable(dir: &Dir) -> Vec<String> {
    let read = |(file, _): &(&str, &str)| fs::read_to_string(dir.at("machine").join(file)).expect("there");
    TUNABLE.iter().map(|entry| read(entry).trim().to_string()).collect()
}

/// A run that tunes it and would go on for long, once it is tuned.
fn tuned_run(dir: &Dir) -> Child {
    for (file, text) in TUNABLE {
        let path = dir.at("machine").join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }
    let words = ["run", "--env", "bare", "--workload", "control/syscall", "--blocks", "500", "--tune"];
    let mut command = dir.command(&words);
    // A lock of its own: whoever has not the only turn must not tune.
    command.env("TAREBENCH_MACHINE", dir.at("machine")).env("TAREBENCH_LOCK", dir.at("lock"));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let tuned = ["performance", "performance", "0", "0", "0"];
    eventually("it is tuned", Duration::from_secs(60), || tunable(dir) == tuned);
    child
}

#[test]
fn a_tuned_machine_is_put_back_at_the_end_and_after_a_kill() {
    let was = TUNABLE.map(|(_, text)| text);
    let b = Dir::new();
    let child = tuned_run(&b);
    signal_when_under_way(&b, child, Signal::SIGTERM).ends_with(143).says("tuned until the end of the run: governor");
    assert_eq!(tunable(&b), was);
    b.run(&["report"]).ends_with(0).says("tuned governor performance (was powersave) on CPU 0-1; turbo 0 (was 1);");
    let mut child = tuned_run(&b);
    kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL).expect("ours");
    child.wait().expect("ends");
    // A run of another test may be the first to find what it left.
    eventually("it is put back", Duration::from_secs(30), || {
        b.run(&["doctor", "--clean"]).ends_with(0);
        tunable(&b) == was
    });
}

#[test]
fn cpus_are_awake_until_a_run_ends_even_by_a_kill() {
    // What the kernel holds itself to now, in microseconds.
    let latency = || fs::read("/dev/cpu_dma_latency").ok()?.try_into().ok().map(i32::from_ne_bytes);
    let driver = fs::read_to_string("/sys/devices/system/cpu/cpuidle/current_driver").unwrap_or_default();
    if ["", "none"].contains(&driver.trim()) || latency().is_none_or(|most| most == 0) {
        return eprintln!("SKIPPED: no CPU sleeps here, or we may not say how");
    }
    let b = Dir::new();
    // It ends by itself, soon, should this test fail before it ends it.
    let words = ["run", "--env", "bare", "--workload", "control/syscall", "--budget", "20s", "--tune=idle"];
    let mut command = b.command(&words);
    command.env("TAREBENCH_LOCK", b.at("lock")).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("starts");
    let held = format!("/proc/{}/fd", child.id());
    let holds = || {
        let mut open = fs::read_dir(&held).into_iter().flatten().flatten();
        open.any(|entry| fs::read_link(entry.path()).is_ok_and(|file| file == Path::new("/dev/cpu_dma_latency")))
    };
    eventually("it has asked for that", Duration::from_secs(15), || holds() && latency() == Some(0));
    kill(Pid::from_raw(child.id() as i32), Signal::SIGKILL).expect("ours");
    child.wait().expect("ends");
    // Nobody else asks here, but a bench that somebody started meanwhile might.
    eventually("they may sleep", Duration::from_secs(30), || latency() != Some(0));
    b.run(&["doctor", "--clean"]).ends_with(0);
}

#[test]
fn a_run_waits_for_another_one_or_is_flagged() {
    let b = Dir::new();
    // A lock of its own: runs of other tests have the host's.
    let lock = b.at("lock");
    let turn = runners::host::turn::Turn::take_at(&lock).expect("nobody has it");
    let words = ["run", "--env", "bare", "--workload", "control/syscall", "--blocks", "1", "--report", "r.json"];
    let mut command = b.command(&words);
    command.env_remove("TAREBENCH_BESIDE").env("TAREBENCH_LOCK", &lock).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut lines = lines.map(|line| line.expect("text"));
    let mine = format!("another run (process {}) is measuring on this host; waiting until it ends", std::process::id());
    lines.find(|line| line.contains(&mine)).expect("it says for whom it waits");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("ours");
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    assert!(rest.iter().any(|line| line.contains("ended while it waited")), "{rest:?}");
    let beside = b.command(&words).env("TAREBENCH_LOCK", &lock).output().expect("the program starts");
    ran(beside).ends_with_any(&[0, 4]).says("control/syscall");
    drop(turn);
    let report = fs::read_to_string(b.at("r.json")).expect("a report");
    assert!(report.contains("was measuring on this host when this one began"), "who goes on is flagged: {report}");
}

#[test]
fn a_clean_removes_the_lock_of_who_was_killed_and_of_nobody_else() {
    let b = Dir::new();
    let clean = || {
        ran(b.command(&["doctor", "--clean"]).env("TAREBENCH_LOCK", b.at("lock")).output().expect("starts"))
            .ends_with(0)
    };
    fs::write(b.at("lock"), "").expect("written");
    let turn = runners::host::turn::Turn::take_at(&b.at("lock")).expect("nobody has it");
    clean();
    assert!(b.at("lock").exists(), "it is held");
    // As a killed process leaves it: the kernel has taken the lock back.
    drop(turn);
    fs::write(b.at("lock"), "").expect("written");
    clean();
    b.holds_only(&[]);
}

#[test]
fn a_budget_ends_a_run_after_whole_blocks() {
    let b = Dir::new();
    b.run(&["run", "--env", "bare", "--workload", "control/syscall", "--blocks", "1000", "--budget", "2s"])
        .ends_with_any(&[0, 4])
        .says("control/syscall");
    assert_eq!(runs(&b)[0]["ending"], "interrupted");
}

#[test]
fn a_run_goes_on_where_it_stopped_and_nowhere_else() {
    let b = Dir::new();
    b.run(&["run", "--env", "bare", "--workload", "control/syscall", "--blocks", "1", "--seed", "3"]).ends_with(0);
    let id = runs(&b)[0]["id"].as_str().expect("an id").to_string();
    b.run(&["run", "--resume", &id]).ends_with(2).says("has 1 whole blocks already").says("--blocks");
    b.run(&["run", "--resume", &id, "--blocks", "2"]).ends_with(0).says("2 of 2").says(&id);
    b.run(&["run", "--resume", "nothing"]).ends_with(2).says("no run in tarebench.db is called `nothing`");
    b.run(&["run", "--resume", &id, "--seed", "4"]).ends_with(2).says("--seed");
    // As if another program had measured before.
    let store = rusqlite::Connection::open(b.at("tarebench.db")).expect("a store");
    store.execute_batch("UPDATE run SET binary_sha256 = 'abc'").expect("written");
    drop(store);
    let refused = b.run(&["run", "--resume", &id, "--blocks", "3"]).ends_with(6);
    refused.says("was begun on other ground").says("tarebench (SHA-256): abc then, ");
    assert_eq!((runs(&b).as_array().map(Vec::len), runs(&b)[0]["ending"].as_str()), (Some(1), Some("complete")));
    b.holds_only(&["tarebench.db"]);
}

/// A directory with an engine that misbehaves, first in PATH.
fn with_engine(dir: &Dir, name: &str, script: &str) -> String {
    let dir = dir.at("engines");
    fs::create_dir_all(&dir).expect("made");
    let file = dir.join(name);
    fs::write(
        &file,
        format!("#!/bin/sh\nif [ \"$1\" = --version ]; then echo '{name} version 9.9.9'; exit 0; fi\n{script}\n"),
    )
    .expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("executable");
    format!("{}:{}", dir.display(), std::env::var("PATH").unwrap_or_default())
}

#[test]
fn an_engine_that_misbehaves_is_skipped_in_its_own_words() {
    let cases = [
        ("echo 'kernel too silly for containers' >&2; exit 3", "kernel too silly for containers"),
        ("echo 'Hello? I am not tarebench'; exit 0", "ended"),
        ("exec sleep 600", "the agent's hello did not come within"),
        ("exec yes", "the agent's hello did not come within"),
        ("printf '\\036deadbeef {\"id\":0}\\n'; exec sleep 600", "garbage"),
    ];
    for (script, words) in cases {
        let b = Dir::new();
        let path = with_engine(&b, "bwrap", script);
        let mut command = b.command(&["run", "--env", "bubblewrap", "--workload", "control/syscall", "--blocks", "1"]);
        let ran = ran(command.env("PATH", path).output().expect("starts"));
        let ran = ran.ends_with(3).says("skipping bubblewrap").says(words);
        assert!(ran.stdout.contains("bubblewrap"), "a skipped environment is in the report\n{}", ran.stdout);
    }
}

#[test]
fn without_root_it_works_as_far_as_it_can_and_says_so() {
    if !geteuid().is_root() {
        return; // Then every other test is this test.
    }
    let b = Dir::new();
    let nobody = 65534;
    std::os::unix::fs::chown(b.root(), Some(nobody), Some(nobody)).expect("chown");
    let binary = b.at("tarebench");
    fs::copy(env!("CARGO_BIN_EXE_tarebench"), &binary).expect("copied");
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).expect("executable");
    let mut command = Command::new(&binary);
    command.args([
        "run",
        "--env",
        "namespaces",
        "--env",
        "runc",
        "--env",
        "qemu:accel=tcg,disk.size=64MiB",
        "--workload",
        "net/rr",
        "--workload",
        "disk/fsync",
        "--blocks",
        "1",
    ]);
    command.current_dir(b.root()).uid(nobody).gid(nobody).env("XDG_CACHE_HOME", b.at("cache")).env("HOME", b.root());
    // One block and a restless disk: whether it was conclusive is not what is asked here.
    let ran = ran(command.stdin(Stdio::null()).output().expect("starts")).ends_with_any(&[0, 4]);
    let ran = ran.says("disk/fsync").says("loopback").says("unequal-resources");
    if must_run("qemu") {
        assert!(!ran.stderr.contains("skipping qemu"), "{}", ran.stderr);
        ran.says("user NAT");
    }
    // Where nobody may look it isn't said that there is nothing.
    let closed = b.at("closed");
    fs::create_dir(&closed).expect("made");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("root's own");
    let mut list = Command::new(&binary);
    list.args(["list", "runs", "--store", "closed/x.db"]).current_dir(b.root()).uid(nobody).gid(nobody);
    self::ran(list.output().expect("starts")).ends_with(5).says("may not read and write closed/x.db");
    fs::remove_dir(&closed).expect("removed");
    b.holds_only(&["tarebench", "tarebench.db", "cache"]);
}

/// An ext4 file system of its own on a loop device.
struct SmallDisk {
    mounted: std::path::PathBuf,
}

impl SmallDisk {
    fn new(dir: &Dir, megabytes: u64) -> Option<Self> {
        if !geteuid().is_root() {
            eprintln!("SKIPPED: mounting a small disk needs root");
            return None;
        }
        let (image, mounted) = (dir.at("image"), dir.at("disk"));
        fs::File::create(&image).expect("made").set_len(megabytes << 20).expect("sized");
        fs::create_dir(&mounted).expect("made");
        let run = |program: &str, words: &[&str]| {
            let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
            let status = Command::new(program)
                .args(words)
                .env("PATH", path)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .expect("starts");
            assert!(status.success(), "{program} {words:?}");
        };
        run("mkfs.ext4", &["-q", "-F", image.to_str().expect("UTF-8")]);
        run("mount", &["-o", "loop", image.to_str().expect("UTF-8"), mounted.to_str().expect("UTF-8")]);
        Some(Self { mounted })
    }

    /// Takes all the room that is left, by blocks of this size.
    fn fill(&self, block: &str) {
        // dd stops with an error when the disk is full: that is the point.
        Command::new("dd")
            .args(["if=/dev/zero", "oflag=append", "conv=notrunc"])
            .arg(format!("bs={block}"))
            .arg(format!("of={}", self.mounted.join("ballast").display()))
            .stderr(Stdio::null())
            .status()
            .expect("starts");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(&self.mounted).status();
        assert!(status.is_ok_and(|s| s.success()), "umount {}", self.mounted.display());
    }
}

#[test]
fn a_disk_with_too_little_room_is_refused_before_anything_starts() {
    let b = Dir::new();
    let Some(disk) = SmallDisk::new(&b, 60) else { return };
    let words = ["run", "--env", "bare", "--workload", "control/syscall", "--data-dir", "disk"];
    b.run(&words).ends_with(6).says("left, at least 256").says("--data-dir");
    drop(disk);
}

#[test]
fn a_full_disk_is_a_failure_with_its_reason() {
    let b = Dir::new();
    let Some(disk) = SmallDisk::new(&b, 400) else { return };
    let child = b.start(&[
        "run",
        "--env",
        "chroot",
        "--workload",
        "disk/fsync",
        "--workload",
        "control/syscall",
        "--blocks",
        "400",
        "--data-dir",
        "disk",
    ]);
    eventually("a burst is in the store", Duration::from_secs(60), || {
        runs(&b)[0]["bursts"].as_u64().is_some_and(|n| n >= 2)
    });
    disk.fill("1M");
    eventually("the run notices", Duration::from_secs(60), || {
        // What sessions held while it was filled they give back, and short bursts need little: that is filled too.
        disk.fill("4k");
        b.run(&["report", "--format", "json"]).stdout.contains("No space left on device")
    });
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("ours");
    let ran = ran(child.wait_with_output().expect("ends")).ends_with(130);
    ran.says("No space left on device").says("control/syscall");
    drop(disk);
}

#[test]
fn on_a_full_disk_what_is_there_can_be_read_and_stays() {
    let b = Dir::new();
    let Some(disk) = SmallDisk::new(&b, 60) else { return };
    let store = ["--store", "disk/s.db"];
    let of_store = |words: &[&str]| b.run(&[words, &store].concat());
    let measured = ["run", "--env", "bare", "--workload", "control/syscall", "--blocks", "1", "--data-dir", "."];
    of_store(&measured).ends_with_any(&[0, 4]);
    // The one that is to take its place is longer by far.
    of_store(&["report", "--format", "csv", "-o", "disk/report.html"]).ends_with(0);
    let old = fs::read(b.at("disk/report.html")).expect("written");
    disk.fill("1M");
    disk.fill("1k");
    of_store(&["report"]).ends_with(0).says("control/syscall");
    of_store(&["list", "runs"]).ends_with(0).says("complete");
    of_store(&["remove", "latest"]).ends_with(5).says("is full: make room");
    of_store(&["report", "-o", "disk/report.html"]).ends_with(6).says("No space left on device");
    assert_eq!(fs::read(b.at("disk/report.html")).expect("still there"), old);
    drop(disk);
}
