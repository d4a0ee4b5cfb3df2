//! The harness is killed with SIGKILL at moments drawn at random, in every kind of box that works here; `tarebench doctor --clean`
//! then leaves nothing of ours on the host, and everything that merely looks like ours.
//!
//! `TAREBENCH_KILLS=50` kills that often; by default as often as fits into a quarter of a minute. `TAREBENCH_SEED` draws again.

#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Dir, eventually, has_nft, ran, shell, traces};
use nix::unistd::geteuid;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

/// How long killing may go on where no number is asked for.
const PATIENCE: Duration = Duration::from_secs(15);

/// What is killed, and within how many seconds of its first trace: each kind of thing that can outlive a harness is made by
/// at least one, and most are made within that time.
const BOXES: &[(&str, f64)] = &[
    ("bare", 2.0),
    ("chroot:data=overlay", 2.0),
    ("namespaces:network=nat", 2.0),
    ("namespaces:network=bridge,data=overlay,seccomp=docker-like", 2.0),
    ("namespaces:user=false,pid=false,data=tmpfs", 2.0),
    ("bubblewrap:data=overlay,seccomp=docker-like", 2.0),
    ("firejail", 2.0),
    ("nspawn", 3.0),
    ("lxc:data=overlay", 3.0),
    ("runc", 3.0),
    ("gvisor", 3.0),
    ("podman", 4.0),
    ("podman:data=named,network=bridge", 4.0),
    ("qemu", 12.0),
    ("qemu:data=nfs", 12.0),
    ("uml", 8.0),
];

/// Things on the host with names like ours that belong to somebody else.
struct Decoys {
    folder: PathBuf,
    processes: Vec<Child>,
    root: bool,
    nft: bool,
}

const NETNS: &str = "tarebench-decoy-peer";

impl Decoys {
    /// `folder` is where scratch directories are.
    fn plant(folder: &Path) -> Self {
        let kept = folder.join("tarebench-notours");
        fs::create_dir(&kept).expect("made");
        fs::write(kept.join("letter"), "keep me").expect("written");
        fs::write(folder.join("tarebench-decoy.txt"), "keep me").expect("written");
        let reader =
            Command::new("tail").arg("-f").arg(kept.join("letter")).stdout(Stdio::null()).spawn().expect("starts");
        let dweller = Command::new("sleep").args(["1000"]).current_dir(&kept).spawn().expect("starts");
        let decoys = Self {
            folder: folder.to_path_buf(),
            processes: vec![reader, dweller],
            root: geteuid().is_root(),
            nft: has_nft(),
        };
        if decoys.root {
            shell("ip", &["netns", "add", NETNS]);
            shell("ip", &["-n", NETNS, "link", "add", "taredecoy00e", "type", "bridge"]);
            shell("ip", &["-n", NETNS, "link", "add", "taredecoy01e", "type", "veth", "peer", "name", "taredecoy01p"]);
            if decoys.nft {
                shell("ip", &["netns", "exec", NETNS, "nft", "add table ip tarebench_decoy"]);
            }
            fs::create_dir(kept.join("mounted")).expect("made");
            shell("mount", &["-t", "tmpfs", "tmpfs", kept.join("mounted").to_str().expect("UTF-8")]);
            for group in decoys.groups() {
                fs::create_dir(&group).unwrap_or_else(|e| panic!("{}: {e}", group.display()));
            }
        }
        decoys
    }

    /// One group in the first hierarchy that there is.
    fn groups(&self) -> Vec<PathBuf> {
        let places = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"];
        let place = places.iter().map(Path::new).find(|p| p.join("cgroup.procs").exists());
        place.map(|p| p.join(format!("tarebench-decoy{}", std::process::id()))).into_iter().collect()
    }

    fn survive(&mut self) {
        let kept = self.folder.join("tarebench-notours");
        assert_eq!(fs::read_to_string(kept.join("letter")).expect("still there"), "keep me");
        assert!(self.folder.join("tarebench-decoy.txt").exists());
        for process in &mut self.processes {
            assert!(process.try_wait().expect("ours").is_none(), "a process that isn't the run's was killed");
        }
        if self.root {
            let said = |words: &[&str]| {
                let output = Command::new("ip").args(words).output().expect("ip runs");
                String::from_utf8_lossy(&output.stdout).into_owned()
            };
            let links = said(&["-n", NETNS, "-br", "link"]);
            assert!(links.contains("taredecoy00e") && links.contains("taredecoy01e"), "{links}");
            let tables = said(&["netns", "exec", NETNS, "nft", "list", "tables"]);
            assert!(!self.nft || tables.contains("tarebench_decoy"), "{tables}");
            let mounts = fs::read_to_string("/proc/self/mountinfo").expect("readable");
            assert!(mounts.contains(kept.join("mounted").to_str().expect("UTF-8")));
            assert!(self.groups().iter().all(|g| g.exists()));
        }
    }
}

impl Drop for Decoys {
    fn drop(&mut self) {
        for process in &mut self.processes {
            process.kill().and_then(|()| process.wait()).expect("ours");
        }
        if self.root {
            // As far as they were planted; what fails here was reported by the test.
            let mounted = self.folder.join("tarebench-notours/mounted");
            for (program, words) in
                [("ip", ["netns", "delete", NETNS].as_slice()), ("umount", &[mounted.to_str().expect("UTF-8")])]
            {
                if let Err(e) = Command::new(program).args(words).stderr(Stdio::null()).status() {
                    eprintln!("{program}: {e}");
                }
            }
            for group in self.groups() {
                if let Err(e) = fs::remove_dir(&group) {
                    eprintln!("{}: {e}", group.display());
                }
            }
        }
    }
}

/// Ids of runs whose scratch directories are in this folder.
fn runs_in(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).expect("readable").flatten().filter_map(|e| e.file_name().into_string().ok());
    names
        .filter_map(|n| n.strip_prefix("tarebench-").map(String::from))
        .filter(|id| id != "notours" && !id.starts_with("decoy"))
        .collect()
}

/// Whether its scratch directory can be found where everybody's runs look.
fn is_linked(id: &str) -> bool {
    fs::symlink_metadata(format!("/tmp/tarebench-{id}")).is_ok()
}

/// Everything of a run, loop devices included: those show the file that backs them.
fn everything_of(id: &str) -> Vec<String> {
    let mut all = traces(id);
    for device in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let backing = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
        if backing.contains(&format!("tarebench-{id}")) {
            all.push(format!("{} on {backing}", device.path().display()));
        }
    }
    all
}

#[test]
fn whenever_it_is_killed_nothing_of_ours_stays_and_nothing_else_goes() {
    let number = |name: &str| std::env::var(name).ok().map(|v| v.parse::<u64>().expect("a number"));
    let (wanted, seed) = (number("TAREBENCH_KILLS"), number("TAREBENCH_SEED").unwrap_or(20091122));
    eprintln!("seed {seed}");
    let mut random = Pcg64::seed_from_u64(seed);
    // Sockets of engines lie in it, whose paths must be short.
    let folder = tempfile::Builder::new().prefix("tk").tempdir_in("/tmp").expect("a directory");
    let mut decoys = Decoys::plant(folder.path());
    let mut turns = Vec::new();
    let (began, mut kills, mut live, mut blind, mut latest) = (Instant::now(), 0, 0, 0, Duration::ZERO);
    while wanted.map_or(began.elapsed() < PATIENCE, |n| kills < n) {
        let dir = Dir::new();
        // All boxes have their turn, in an order drawn anew each time round.
        if turns.is_empty() {
            turns = BOXES.to_vec();
            turns.shuffle(&mut random);
        }
        let (spec, longest) = turns.pop().expect("just filled");
        // One in five dies before or while it makes its first directory.
        let early = random.random_range(0..5) == 0;
        let delay = Duration::from_secs_f64(random.random::<f64>() * if early { 0.1 } else { longest });
        let words = ["run", "--env", spec, "--workload", "disk/fsync", "--workload", "net/rr", "--blocks", "200"];
        let mut command = dir.command(&words);
        command.env("TMPDIR", folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut harness = command.spawn().expect("starts");
        let until = Instant::now() + Duration::from_secs(20);
        while !early && runs_in(folder.path()).is_empty() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(delay);
        let ids = runs_in(folder.path());
        let alive = harness.try_wait().expect("ours").is_none();
        harness.kill().expect("ours");
        harness.wait().expect("reaped");
        let ids = if ids.is_empty() { runs_in(folder.path()) } else { ids };
        let made: usize = ids.iter().map(|id| everything_of(id).len()).sum();
        kills += 1;
        live += u64::from(alive && !ids.is_empty());
        eprintln!(
            "{kills}: {spec} after {delay:?}: {} {ids:?}, {made} things left",
            if alive { "alive" } else { "over" }
        );
        let cleaning = Instant::now();
        // A directory whose journal is still empty counts as that of a run that is just starting, for ten seconds.
        // Every second time by somebody who knows nothing of that TMPDIR; who dies before he has left a link is found only there.
        let elsewhere = kills % 2 == 0 && ids.iter().all(|id| is_linked(id));
        blind += u64::from(elsewhere && !ids.is_empty());
        eventually("a clean removes the run", Duration::from_secs(30), || {
            let mut command = dir.command(&["doctor", "--clean"]);
            match elsewhere {
                true => command.env_remove("TMPDIR"),
                false => command.env("TMPDIR", folder.path()),
            };
            ran(command.output().expect("starts")).ends_with(0);
            runs_in(folder.path()).is_empty()
        });
        latest = latest.max(cleaning.elapsed());
        for id in &ids {
            eventually("no trace is left", Duration::from_secs(5), || everything_of(id).is_empty());
        }
        dir.holds_only(&["tarebench.db"]);
        decoys.survive();
    }
    eprintln!(
        "{kills} kills, {live} of them of a harness that had begun to make things, {blind} cleaned from another TMPDIR; the longest \
         clean-up took {latest:?}"
    );
    assert!(live * 2 >= kills, "too many died too early to show anything: {live} of {kills}");
    drop(decoys);
}
