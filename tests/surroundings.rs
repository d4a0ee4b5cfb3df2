//! Hosts that are arranged in unusual ways: odd mounts, odd places, odd names. What can run there runs.

#![cfg(target_os = "linux")]

mod common;

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Dir, ran};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Does something in a mount namespace of its own, which goes with the last process in it. Only root can.
fn in_own_mounts(act: impl FnOnce() + Send) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root mounts");
        return;
    }
    let act = || {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).expect("private");
        act();
    };
    std::thread::scope(|scope| scope.spawn(act).join().unwrap_or_else(|e| std::panic::resume_unwind(e)));
}

/// An empty tmpfs on a directory that is made for it.
fn tmpfs(at: &Path, flags: MsFlags) {
    fs::create_dir_all(at).expect("made");
    mount(Some("none"), at, Some("tmpfs"), flags, Some("size=300m")).expect("mounted");
}

/// Work that no neighbour on the disk makes void.
const SHORT: [&str; 9] =
    ["run", "--env", "namespaces", "--workload", "control/syscall", "--workload", "control/cpu", "--blocks", "1"];

#[test]
fn a_mount_whose_name_is_no_text_hides_no_other() {
    in_own_mounts(|| {
        let b = Dir::new();
        tmpfs(&b.root().join(OsStr::from_bytes(b"odd \xff\xfe\n\t\\ #")), MsFlags::empty());
        b.run(&SHORT).ends_with(0).says("control/cpu");
    });
}

#[test]
fn a_store_where_nothing_can_be_written_is_read() {
    in_own_mounts(|| {
        let b = Dir::new();
        tmpfs(&b.at("m"), MsFlags::empty());
        let file = format!("bare={}/tests/fio/read-plus.json", env!("CARGO_MANIFEST_DIR"));
        b.run(&["import", "fio", &file, "--store", "m/s.db"]).ends_with(0);
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, &b.at("m"), None::<&str>, flags, None::<&str>).expect("remounted");
        assert!(fs::write(b.at("m/x"), "").is_err(), "nothing can be written");
        b.run(&["report", "--store", "m/s.db"]).ends_with(0).says("fio/rr-read");
        b.run(&["list", "runs", "--store", "m/s.db"]).ends_with(0).says("fio/rr-read in bare");
        b.run(&["import", "fio", &file, "--store", "m/s.db"]).ends_with(5);
    });
}

#[test]
fn what_only_looks_like_ours_is_left_alone_and_never_called_nothing() {
    let places = ["/tmp", "/var/tmp", "/dev/shm"];
    if places.iter().any(|place| Path::new(env!("CARGO_TARGET_TMPDIR")).starts_with(place)) {
        eprintln!("SKIPPED: what is built lies in a place for scratch, which is hidden here");
        return;
    }
    in_own_mounts(|| {
        let b = Dir::new();
        for place in places {
            tmpfs(Path::new(place), MsFlags::empty());
        }
        let clean = || b.command(&["doctor", "--clean"]);
        for stray in [Path::new("/tmp/tarebench-zz9-bare"), &b.at("tarebench-zz9-bare")] {
            fs::create_dir(stray).expect("made");
            let cleaned = ran(clean().env_remove("TMPDIR").output().expect("starts")).ends_with(0);
            let told = cleaned.stdout.lines().any(|line| line.starts_with("left alone") && line.contains("zz9-bare"));
            assert!(told && !cleaned.stdout.contains("nothing of ours"), "{}", cleaned.stdout);
            assert!(stray.exists(), "it stays");
            fs::remove_dir(stray).expect("removed");
        }
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
        ran(clean().stdout(full).output().expect("starts")).ends_with(6).says("can't write to stdout");
    });
}

#[test]
fn a_place_for_scratch_that_does_not_fit_is_passed_over() {
    in_own_mounts(|| {
        let b = Dir::new();
        tmpfs(&b.at("n"), MsFlags::MS_NOEXEC);
        let long = b.at(&"long".repeat(25));
        fs::create_dir(&long).expect("made");
        for place in [b.at("n"), long, b.at("missing")] {
            let mut command = b.command(&SHORT);
            ran(command.env("TMPDIR", &place).output().expect("starts")).ends_with(0).says("control/cpu");
        }
    });
}

#[test]
fn data_and_store_may_have_odd_names() {
    let b = Dir::new();
    for name in [&b"a b"[..], b"line\nbreak", b"\xff\xfe", b"'quoted' \"twice\" $HOME \\"] {
        let data = b.root().join(OsStr::from_bytes(name));
        fs::create_dir(&data).expect("made");
        let mut command = b.command(&SHORT);
        command.arg("--data-dir").arg(&data).arg("--store").arg(data.join("s.db"));
        ran(command.output().expect("starts")).ends_with(0).says("control/cpu");
        assert!(data.join("s.db").exists());
    }
}

/// The program in something that takes a command, with its own words after those of the other.
fn inside(around: &[&str], b: &Dir, words: &[&str]) -> common::Ran {
    let plain = b.command(words);
    let mut command = Command::new(around[0]);
    command.args(&around[1..]).arg(plain.get_program()).args(plain.get_args()).current_dir(b.root());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
    ran(command.output().expect("starts"))
}

#[test]
fn a_host_that_is_itself_a_container_is_said_to_be_one() {
    let b = Dir::new();
    let around = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"];
    if !Command::new(around[0]).args(&around[1..]).arg("true").status().is_ok_and(|s| s.success()) {
        eprintln!("SKIPPED: no namespaces can be made here");
        return;
    }
    let run = inside(&around, &b, &SHORT).ends_with_any(&[0, 4, 7]);
    let run = run.says("the host is itself a container").says("in a user namespace");
    let id = run.stderr.split("\nrun ").nth(1).and_then(|rest| rest.split(' ').next()).expect("it says its id");
    assert_eq!(common::traces(id), Vec::<String>::new());
    b.holds_only(&["tarebench.db"]);
}

#[test]
fn without_capabilities_root_is_told_which_one_is_missing() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root has capabilities to lose");
        return;
    }
    let b = Dir::new();
    let around = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"];
    let words = ["run", "--env", "chroot", "--workload", "control/cpu", "--blocks", "1"];
    let run = inside(&around, &b, &words).ends_with(3);
    run.says("skipping chroot").says("root without CAP_SYS_ADMIN").says("--privileged");
    b.holds_only(&["tarebench.db"]);
}

/// A little of everything that a limit may stand in the way of.
const LITTLE: &str = "baseline = \"bare\"\nblocks = 1\nrounds = 1\nburst = \"10ms\"\n[environments.bare]\n\
                      [environments.namespaces]\n[workloads.\"control/syscall\"]\n[workloads.\"net/rr\"]\n";

/// Programs of util-linux that start another one under a limit, whether only root may, and what a run says of it: nothing where it works.
const LIMITS: [(&[&str], bool, &str); 9] = [
    (&["prlimit", "--nofile=64"], false, ""),
    (&["prlimit", "--nofile=20"], false, "allow more open files: `ulimit -n`"),
    (&["prlimit", "--fsize=1000000"], false, "allow larger files: `ulimit -f`"),
    (&["prlimit", "--memlock=0", "--core=0"], false, ""),
    (&["setpriv", "--no-new-privs"], false, ""),
    (&["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"], true, ""),
    (&["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"], true, "root without CAP_SYS_ADMIN"),
    (&["unshare", "--net"], true, "`ip link set lo up`"),
    (&["taskset", "--cpu-list"], false, ""),
];

/// A little run under a limit works, or ends with the words of what limits it; in any case nothing of it stays.
fn limited(around: &[&str], words: &str) {
    if !Command::new(around[0]).args(&around[1..]).arg("true").status().is_ok_and(|s| s.success()) {
        eprintln!("SKIPPED: {around:?} can't be set here");
        return;
    }
    let b = Dir::new();
    let run = inside(around, &b, &["run", &b.suite(LITTLE)]);
    eprintln!("{around:?}: {}", run.code);
    // A busy machine may make it void.
    let codes: &[i32] = if words.is_empty() { &[0, 4] } else { &[0, 3, 4, 6] };
    run.ends_with_any(codes).says(words);
    b.holds_only(&["tarebench.db", "suite.toml"]);
}

#[test]
fn under_a_limit_it_works_or_says_what_limits_it() {
    let root = nix::unistd::geteuid().is_root();
    let allowed = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).expect("a set of CPUs");
    let last = (0..nix::sched::CpuSet::count()).rev().find(|cpu| allowed.is_set(*cpu).expect("in range"));
    let last = last.expect("a CPU").to_string();
    std::thread::scope(|scope| {
        for (around, _, words) in LIMITS.iter().filter(|(_, by_root, _)| root || !by_root) {
            let of_taskset = (around[0] == "taskset").then_some(last.as_str());
            let around: Vec<&str> = around.iter().copied().chain(of_taskset).collect();
            scope.spawn(move || limited(&around, words));
        }
    });
    if !root {
        eprintln!("SKIPPED: only root has capabilities and a network to lose");
    }
}

#[test]
fn where_nothing_but_the_data_can_be_written_it_works() {
    in_own_mounts(|| {
        let b = Dir::new();
        // For scratch.
        let short = Path::new("/var/tmp");
        tmpfs(short, MsFlags::empty());
        let own = MsFlags::MS_BIND;
        mount(Some(b.root()), b.root(), None::<&str>, own | MsFlags::MS_REC, None::<&str>).expect("a mount of its own");
        let read_only = own | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, "/", None::<&str>, read_only, None::<&str>).expect("read-only");
        assert!(fs::write("/tarebench-writes", "").is_err(), "the root is read-only");
        let mut command = b.command(&["run", &b.suite(LITTLE)]);
        ran(command.env("TMPDIR", short).output().expect("starts")).ends_with_any(&[0, 4]).says("net/rr");
    });
}

#[test]
fn ground_that_forgets_is_said_by_doctor_and_by_a_report_before_all_else() {
    in_own_mounts(|| {
        let b = Dir::new();
        tmpfs(&b.at("t"), MsFlags::empty());
        let [lower, upper, work, at] = ["t/lower", "t/upper", "t/work", "m"].map(|name| b.at(name));
        [&lower, &upper, &work, &at].into_iter().for_each(|at| fs::create_dir(at).expect("made"));
        let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        // Linux 5.10 has it, and overlays without it; in a container that itself lies on an overlay it works on the tmpfs.
        let options = format!("{options},volatile");
        if let Err(e) = mount(Some("none"), &at, Some("overlay"), MsFlags::empty(), Some(&*options)) {
            eprintln!("SKIPPED: no volatile overlay can be mounted here: {e}");
            return;
        }
        // Kernels word the option differently.
        let why = |text: &str| {
            text.contains("durable") && text.contains("overlay is mounted `") && text.contains("volatile`")
        };
        let told = b.run(&["doctor", "--data-dir", "m"]).ends_with(0);
        let warning = told.stdout.lines().find(|line| why(line)).unwrap_or_else(|| panic!("{}", told.stdout));
        assert!(warning.trim_start().starts_with("nothing in the data directory is durable: "), "{warning}");
        assert!(warning.ends_with("`; give one on a disk with --data-dir"), "{warning}");
        let words = on_disk(&b, "disk/fsync", "");
        let run = b.run(&words.iter().map(String::as_str).collect::<Vec<_>>()).ends_with_any(&[0, 4]);
        let first = run.stdout.lines().next().unwrap_or_default();
        assert!(first.starts_with("nothing here is durable, bare included: ") && why(first), "{}", run.stdout);
        run.says("warning: nothing in the data directory is durable");
    });
}

/// A user that nobody is, and no other test: limits on users count its processes alone.
fn nobody_else() -> u32 {
    1_000_000 + std::process::id()
}

/// As another user, who can neither read this directory nor the program in it unless it is shown elsewhere; `None` where only
/// root can be another user.
fn in_a_users_hands(user: u32) -> Option<(tempfile::TempDir, PathBuf)> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root runs something as another user");
        return None;
    }
    let home =
        tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir_in("/var/tmp").expect("made");
    let program = home.path().join("tarebench");
    // By a child: what this process has open for writing, another test's child has open too, and nobody can start it then.
    let mut copy = Command::new("cp");
    copy.arg(env!("CARGO_BIN_EXE_tarebench")).arg(&program);
    assert!(copy.status().expect("cp starts").success());
    std::os::unix::fs::chown(home.path(), Some(user), Some(user)).expect("given away");
    Some((home, program))
}

/// The program with its words, as that user with so many processes and threads at most.
fn with_threads(limit: u32, program: &Path, home: &Path) -> Command {
    let mut command = Command::new("prlimit");
    // What asks an engine for its version needs threads too.
    command.arg(format!("--nproc={limit}")).arg(program).args(SHORT).args(["--env", "runc", "--store", "s.db"]);
    command.uid(nobody_else()).gid(nobody_else()).current_dir(home).env("HOME", home);
    command.env("TAREBENCH_BESIDE", "1").env_remove("XDG_CACHE_HOME").stdin(Stdio::null());
    command
}

#[test]
fn where_no_more_threads_can_be_made_that_is_said_and_nothing_stays() {
    let Some((home, program)) = in_a_users_hands(nobody_else()) else { return };
    for limit in [1, 4, 7] {
        let run = ran(with_threads(limit, &program, home.path()).output().expect("prlimit starts"));
        run.ends_with_any(&[0, 3, 4, 6, 7]).says(if limit < 5 { "allow more processes and threads" } else { "" });
        for place in [home.path(), Path::new("/tmp")] {
            let ours = |entry: &fs::DirEntry| {
                let user = entry.metadata().is_ok_and(|about| about.uid() == nobody_else());
                user && entry.file_name().to_string_lossy().starts_with("tarebench-")
            };
            let left: Vec<_> = fs::read_dir(place).expect("readable").flatten().filter(ours).collect();
            assert!(left.is_empty(), "{limit}: {left:?}");
        }
    }
}

/// What this user owns of processes and in directories that everybody may write to.
fn belongings(user: u32, home: &Path) -> Vec<String> {
    let owned = |path: &Path| fs::symlink_metadata(path).is_ok_and(|about| about.uid() == user);
    let mut found = Vec::new();
    for place in ["/proc", "/tmp", "/var/tmp", "/dev/shm", "/run"] {
        let entries = fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.path());
        for path in entries.filter(|path| path != home && owned(path)) {
            let line = fs::read(path.join("cmdline")).unwrap_or_default();
            // Who has ended has none, and waits for its parent to see it.
            if place != "/proc" || !line.is_empty() {
                found.push(format!("{} {}", path.display(), String::from_utf8_lossy(&line)));
            }
        }
    }
    found
}

#[test]
fn what_podman_keeps_running_for_a_user_goes_with_the_run() {
    // Another one than that of the test beside this one.
    let user = nobody_else() + 5_000_000;
    let Some((home, program)) = in_a_users_hands(user) else { return };
    if Command::new("podman").arg("--version").output().is_err() {
        eprintln!("SKIPPED: podman is not installed");
        return;
    }
    let mut command = Command::new(program);
    command.args(["run", "--env", "podman", "--workload", "control/cpu", "--blocks", "1", "--store", "s.db"]);
    command.uid(user).gid(user).current_dir(home.path()).env("HOME", home.path());
    command.env("TAREBENCH_BESIDE", "1").env_remove("XDG_CACHE_HOME").env_remove("XDG_RUNTIME_DIR");
    let run = ran(command.stdin(Stdio::null()).output().expect("starts")).ends_with_any(&[0, 3, 4]);
    if run.code == 3 {
        eprintln!("SKIPPED: {}", run.stderr);
    }
    assert_eq!(belongings(user, home.path()), Vec::<String>::new(), "{}", run.stderr);
}

/// A file as a block device, with a file system on it that is mounted; both go with it.
struct Loop {
    device: String,
    at: PathBuf,
}

impl Loop {
    /// `None` where something that it takes is missing, which is said.
    fn mount(b: &Dir, options: &[&str], mkfs: &[&str]) -> Option<Self> {
        let (image, at) = (b.at("image"), b.at("m"));
        fs::File::create(&image).and_then(|file| file.set_len(400 << 20)).expect("made");
        let asked = |command: &mut Command| match command.output() {
            Ok(output) if output.status.success() => Some(String::from_utf8_lossy(&output.stdout).trim().to_string()),
            other => {
                eprintln!("SKIPPED: {command:?}: {other:?}");
                None
            }
        };
        let device = asked(Command::new("losetup").args(["--find", "--show"]).args(options).arg(&image))?;
        let this = Self { device, at };
        asked(Command::new(mkfs[0]).args(&mkfs[1..]).arg(&this.device))?;
        fs::create_dir(&this.at).expect("made");
        asked(Command::new("mount").arg(&this.device).arg(&this.at)).map(|_| this)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Where it was never mounted there is nothing to unmount.
        let _ = Command::new("umount").arg(&self.at).stderr(Stdio::null()).status();
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
    }
}

/// Two bursts on a disk of the test's own.
fn on_disk(b: &Dir, workload: &str, settings: &str) -> Vec<String> {
    let text = format!(
        "baseline = \"bare\"\nblocks = 1\nrounds = 1\nburst = \"50ms\"\n[environments.bare]\n[workloads.\"{workload}\"]\n{settings}\n"
    );
    let words = ["run", &b.suite(&text), "--data-dir", "m", "--store", "s.db"];
    words.map(String::from).into()
}

#[test]
fn a_disk_of_large_sectors_says_which_block_it_takes() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root makes loop devices");
        return;
    }
    let b = Dir::new();
    let Some(_disk) = Loop::mount(&b, &["--sector-size", "4096"], &["mkfs.ext4", "-q"]) else { return };
    let run = |block: &str| {
        let words = on_disk(&b, "disk/randwrite", &format!("size = \"1MiB\"\nblock = \"{block}\""));
        b.run(&words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    run("512").ends_with(3).says("sectors of 4096 bytes, and block is 512; set block = 4096");
    // A busy machine may make it void.
    run("4096").ends_with_any(&[0, 4]).says("disk/randwrite");
}

#[test]
fn on_other_file_systems_the_disk_below_is_watched() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root makes loop devices");
        return;
    }
    // btrfs has a number that is no device's, and is known by its source.
    for kind in ["btrfs", "xfs"] {
        let b = Dir::new();
        let Some(disk) = Loop::mount(&b, &[], &[&format!("mkfs.{kind}"), "-q"]) else { continue };
        let words = on_disk(&b, "disk/fsync", "");
        let run = b.run(&words.iter().map(String::as_str).collect::<Vec<_>>()).ends_with_any(&[0, 4]);
        let device = disk.device.trim_start_matches("/dev/");
        let lines = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(lines.contains(&format!("data file system {kind}")), "{lines}");
        assert!(lines.contains(&format!("data device {device}")) && !lines.contains("unwatched-disk"), "{lines}");
    }
}

/// That of btrfs binds root too, and every kernel that has btrfs has it; ext4's takes a part of the kernel that is often left out.
#[test]
fn a_disk_that_is_bound_by_a_quota_is_not_said_to_be_full() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root makes loop devices");
        return;
    }
    let b = Dir::new();
    let Some(disk) = Loop::mount(&b, &[], &["mkfs.btrfs", "-q"]) else { return };
    for words in [&["quota", "enable"][..], &["qgroup", "limit", "16M"]] {
        assert!(Command::new("btrfs").args(words).arg(&disk.at).status().expect("btrfs starts").success());
    }
    for (workload, settings) in
        [("disk/seqwrite", "size = \"64MiB\""), ("sqlite/commit", "rows = 20000\nrow = \"1KiB\"")]
    {
        let words = on_disk(&b, workload, settings);
        let run = b.run(&words.iter().map(String::as_str).collect::<Vec<_>>()).ends_with_any(&[3, 7]);
        run.says("quota").says("raise it");
    }
    let left = fs::read_dir(&disk.at).expect("readable").flatten();
    assert!(left.into_iter().all(|e| !e.file_name().to_string_lossy().starts_with("tarebench")), "nothing stays");
}

#[test]
fn without_room_for_a_file_nothing_is_begun() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root makes loop devices");
        return;
    }
    let b = Dir::new();
    let Some(disk) = Loop::mount(&b, &[], &["mkfs.ext4", "-q", "-N", "16"]) else { return };
    let mut files = (0..).map_while(|n| fs::File::create(disk.at.join(format!("f{n}"))).ok());
    let count = files.by_ref().take(100_000).count();
    assert!(count < 100_000, "the inodes end");
    let words = on_disk(&b, "disk/metadata", "");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    b.run(&words).ends_with(6).says("can't write in the data directory").says("No space left");
    (0..10).for_each(|n| fs::remove_file(disk.at.join(format!("f{n}"))).expect("removed"));
    b.run(&words).ends_with_any(&[3, 6, 7]).says("inodes free");
    let left = fs::read_dir(&disk.at).expect("readable").flatten();
    assert!(left.into_iter().all(|e| !e.file_name().to_string_lossy().starts_with("tarebench")), "nothing stays");
}
