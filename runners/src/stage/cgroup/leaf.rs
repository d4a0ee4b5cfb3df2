//! Room for limits in a container: the processes of its topmost group of cgroup v2 go to a leaf, as container engines have it, and
//! come back at the end. Where they may be anybody's nothing is moved.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::{hands_down, mounts};
use crate::host::Host;
use crate::host::journal::Made;

/// How long the topmost group may go on forking while it is emptied.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long another run may have the topmost group to itself: longer than it goes on forking.
const TURN: Duration = Duration::from_secs(10);

/// The name of a run's leaf, directly below the topmost group. It isn't below the run's own group, in which everything is killed
/// at the end.
pub(crate) fn name(id: &str) -> String {
    format!("tarebench-{id}-leaf")
}

/// Keeps others of us from moving what is in the topmost group, and from making groups below it, as long as what is given back lives:
/// what is handed down for the group that one run is about to make, another one that ends would take back. The group itself is
/// locked, which all who see it share, whatever their TMPDIR is.
pub(super) fn alone(point: &Path) -> Option<Flock<File>> {
    alone_within(point, TURN)
}

fn alone_within(point: &Path, patience: Duration) -> Option<Flock<File>> {
    let mut group = File::open(point).inspect_err(|e| log::debug!("can't lock {}: {e}", point.display())).ok()?;
    let until = Instant::now() + patience;
    loop {
        match Flock::lock(group, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Some(lock),
            // Anybody may lock it, so nobody is waited for without end.
            Err((file, Errno::EWOULDBLOCK)) if Instant::now() < until => group = file,
            Err((_, e)) => {
                log::warn!("{} is not ours alone: {e}", point.display());
                return None;
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Lets groups below the topmost one have these controllers, where that takes no more than moving the container's own processes. The
/// caller has the topmost group [`alone`]: environments are made side by side, and the first one moves for all.
///
/// # Errors
/// When it has processes that we don't move, or can't, with the reason; nothing has changed then.
pub(super) fn make_room(host: &Host, point: &Path, wanted: &[&str]) -> anyhow::Result<()> {
    let Err(held) = hands_down(point, wanted.iter()) else { return Ok(()) };
    if let Some(why) = obstacle(point, &fs::read_to_string("/proc/1/cgroup").unwrap_or_default()) {
        bail!("{held:#}; that isn't done for you, since {why}");
    }
    let name = name(&host.id);
    host.journal.note(&Made::Leaf(name.clone()))?;
    let leaf = point.join(name);
    let moved = fs::create_dir(&leaf).with_context(|| format!("can't make {}", leaf.display()));
    let moved = moved.and_then(|()| move_all(point, &leaf)).and_then(|()| hands_down(point, wanted.iter()));
    if let Err(e) = moved {
        if let Err(e) = leave(point, &leaf) {
            log::warn!("{e:#}");
        }
        bail!("{held:#}; it was tried for you: {e:#}");
    }
    log::info!("the processes of this container's own cgroup are in {} until the run ends", leaf.display());
    Ok(())
}

/// Why the processes of the topmost group are not ours to move. `first` is what the kernel says of the groups of process 1.
fn obstacle(point: &Path, first: &str) -> Option<&'static str> {
    let read = |name: &str| fs::read_to_string(point.join(name)).unwrap_or_default();
    if read("cgroup.type").trim() != "domain" {
        return Some("it would not help");
    }
    // Who only made a cgroup namespace is among the processes of a session or a service of the host.
    let within = first.lines().find_map(|line| line.strip_prefix("0::")).is_some_and(|path| !path.starts_with("/.."));
    if !within {
        return Some("process 1 is outside of that group, so it may not be a container's");
    }
    // Those of other PID namespaces have no number here.
    read("cgroup.procs").lines().any(|pid| pid.trim() == "0").then_some("processes of others are in it too")
}

/// Moves every process from one group to another, and whatever they start meanwhile.
fn move_all(from: &Path, to: &Path) -> anyhow::Result<()> {
    let (from, to) = (from.join("cgroup.procs"), to.join("cgroup.procs"));
    let until = Instant::now() + PATIENCE;
    loop {
        let pids = fs::read_to_string(&from).with_context(|| format!("can't read {}", from.display()))?;
        if pids.trim().is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < until, "{} never gets empty", from.display());
        for pid in pids.lines() {
            match fs::write(&to, pid) {
                // It has ended.
                Err(e) if e.raw_os_error() == Some(Errno::ESRCH as i32) => {}
                other => other.with_context(|| format!("can't move process {pid} to {}", to.display()))?,
            }
        }
    }
}

/// Moves the processes of a leaf of this name back and removes it. The topmost group then hands nothing down, as before: it had
/// processes, and handed nothing down.
///
/// # Errors
/// When other groups make use of what it hands down, or the kernel refuses, with what is left to do.
pub(crate) fn undo(name: &str) -> anyhow::Result<()> {
    let mut points = mounts().into_iter().filter(|mount| mount.v2).map(|mount| mount.point);
    points.try_for_each(|point| undo_below(&point, name))
}

fn undo_below(point: &Path, name: &str) -> anyhow::Result<()> {
    let leaf = point.join(name);
    // Others wait for the topmost group as long as somebody has it.
    if !leaf.is_dir() {
        return Ok(());
    }
    let _alone = alone(point);
    leave(point, &leaf).with_context(|| format!("left to you: `{}`", removal(&leaf)))
}

/// Undoes the leaves of runs that ended while others had their groups here, which nobody could then, and those of runs that are
/// about to end: of several that end at once, each sees the others alive. It is left as it is where somebody still has groups.
pub(crate) fn undo_of_the_gone(live: impl Fn(&str) -> bool) {
    for point in mounts().into_iter().filter(|mount| mount.v2).map(|mount| mount.point) {
        undo_of_the_gone_below(&point, &live);
    }
}

fn undo_of_the_gone_below(point: &Path, live: &impl Fn(&str) -> bool) {
    // Whoever makes a leaf from here on is alive, and undoes it at its own end.
    if of_the_gone(point, |_| false).is_empty() {
        return;
    }
    let _alone = alone(point);
    for leaf in of_the_gone(point, live) {
        if let Err(e) = leave(point, &leaf) {
            log::info!("{} stays: {e:#}", leaf.display());
        }
    }
}

/// The leaves below this group whose runs are no more, or have removed their own group: it is made together with the leaf, and
/// removed first at the end.
fn of_the_gone(point: &Path, live: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let below = fs::read_dir(point).into_iter().flatten().flatten().map(|entry| entry.path());
    let run = |path: &Path| {
        let id = path.file_name()?.to_str()?.strip_prefix("tarebench-")?.strip_suffix("-leaf")?;
        Some(id.to_string())
    };
    let ended = |id: &str| !live(id) || !point.join(format!("tarebench-{id}")).is_dir();
    below.filter(|path| run(path).is_some_and(|id| ended(&id))).collect()
}

/// Whether another run that lives has groups where ours were: the last one brings everybody back.
pub(crate) fn others_are_here(live: impl Fn(&str) -> bool) -> bool {
    let v2 = mounts().into_iter().filter(|mount| mount.v2);
    let mut names = v2.flat_map(|mount| fs::read_dir(mount.point).into_iter().flatten().flatten());
    names.any(|entry| entry.file_name().to_str().and_then(|name| name.strip_prefix("tarebench-")).is_some_and(&live))
}

fn leave(point: &Path, leaf: &Path) -> anyhow::Result<()> {
    if !leaf.is_dir() {
        return Ok(());
    }
    let control = point.join("cgroup.subtree_control");
    let handed = fs::read_to_string(&control).with_context(|| format!("can't read {}", control.display()))?;
    let without: Vec<String> = handed.split_whitespace().map(|c| format!("-{c}")).collect();
    if !without.is_empty() {
        // In one piece: the kernel takes all of them or none.
        fs::write(&control, without.join(" "))
            .with_context(|| format!("groups below {} still use {}", point.display(), handed.trim()))?;
    }
    move_all(leaf, point)?;
    fs::remove_dir(leaf).with_context(|| format!("can't remove {}", leaf.display()))
}

/// The command that does what [`undo`] does.
pub(crate) fn removal(leaf: &Path) -> String {
    let quoted = |path: PathBuf| shell_words::quote(&path.to_string_lossy()).into_owned();
    let [top, leaf] = [leaf.with_file_name(""), leaf.to_path_buf()].map(quoted);
    let top = top.trim_end_matches('/');
    format!(
        "sed 's/[a-z][a-z]*/-&/g' {top}/cgroup.subtree_control > {top}/cgroup.subtree_control; for p in $(cat {leaf}/cgroup.procs); do \
         echo $p > {top}/cgroup.procs; done; rmdir {leaf}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(kind: &str, procs: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary directory");
        fs::write(root.path().join("cgroup.type"), kind).expect("written");
        fs::write(root.path().join("cgroup.procs"), procs).expect("written");
        root
    }

    #[test]
    fn only_the_processes_of_a_container_of_its_own_are_moved() {
        let why = |kind: &str, procs: &str, first: &str| obstacle(group(kind, procs).path(), first);
        assert_eq!(why("domain\n", "1\n17\n", "0::/\n"), None);
        assert_eq!(why("domain\n", "17\n", "1:name=systemd:/\n0::/init\n"), None, "process 1 is in a group below");
        assert!(why("domain\n", "1\n0\n", "0::/\n").is_some_and(|w| w.contains("others")));
        for outside in ["0::/../../init.scope\n", "0::/..\n", "", "4:memory:/\n"] {
            assert!(why("domain\n", "17\n", outside).is_some_and(|w| w.contains("outside")), "{outside}");
        }
        assert!(why("domain threaded\n", "1\n", "0::/\n").is_some());
    }

    #[test]
    fn the_command_that_undoes_it_names_both_groups() {
        let words = removal(Path::new("/sys/fs/cgroup/tarebench-ab-leaf"));
        assert!(
            words.starts_with("sed 's/[a-z][a-z]*/-&/g' /sys/fs/cgroup/cgroup.subtree_control > /sys/fs/"),
            "{words}"
        );
        assert!(
            words.ends_with("> /sys/fs/cgroup/cgroup.procs; done; rmdir /sys/fs/cgroup/tarebench-ab-leaf"),
            "{words}"
        );
    }

    #[test]
    fn the_leaf_of_a_run_that_still_measures_is_no_ones_but_its_own() {
        let root = group("domain\n", "");
        for name in ["tarebench-ab-leaf", "tarebench-ab", "tarebench-cd-leaf", "tarebench-cd", "leaf", "tarebench-ef"] {
            fs::create_dir(root.path().join(name)).expect("made");
        }
        let gone = |live: &[&str]| of_the_gone(root.path(), |id| live.contains(&id));
        assert_eq!(gone(&["cd", "ef"]), [root.path().join("tarebench-ab-leaf")]);
        assert!(gone(&["ab", "cd"]).is_empty());
    }

    #[test]
    fn of_two_runs_that_end_at_once_the_last_takes_both_leaves() {
        let root = group("domain\n", "");
        for name in ["tarebench-ab-leaf", "tarebench-cd-leaf", "tarebench-cd"] {
            fs::create_dir(root.path().join(name)).expect("made");
        }
        // Both have their journals locked still.
        let gone = || of_the_gone(root.path(), |_| true);
        assert_eq!(
            gone(),
            [root.path().join("tarebench-ab-leaf")],
            "it has removed its group, and waits for the other's"
        );
        fs::remove_dir(root.path().join("tarebench-cd")).expect("removed");
        assert_eq!(gone().len(), 2);
    }

    #[test]
    fn the_topmost_group_is_one_runs_at_a_time_and_nobody_is_waited_for_without_end() {
        let root = group("domain\n", "");
        let short = Duration::from_millis(30);
        let first = alone(root.path()).expect("free");
        assert!(alone_within(root.path(), short).is_none());
        std::thread::scope(|scope| {
            let second = scope.spawn(|| alone(root.path()).is_some());
            std::thread::sleep(short);
            assert!(!second.is_finished(), "it waits");
            drop(first);
            assert!(second.join().expect("it ends"), "and then has it");
        });
        assert!(alone_within(&root.path().join("gone"), short).is_none());
    }

    #[test]
    fn where_there_is_no_leaf_nobody_waits_for_the_topmost_group() {
        let root = group("domain\n", "1\n");
        fs::create_dir(root.path().join("tarebench-cd")).expect("made");
        let _of_another = alone(root.path()).expect("free");
        let began = Instant::now();
        undo_of_the_gone_below(root.path(), &|_| false);
        undo_below(root.path(), &name("ab")).expect("nothing to do");
        assert!(began.elapsed() < TURN / 2, "it waited for {:?}", began.elapsed());
    }

    #[test]
    fn a_group_that_is_not_there_is_left() {
        let root = group("domain\n", "1\n");
        leave(root.path(), &root.path().join(name("ab"))).expect("nothing to do");
        assert_eq!(fs::read_to_string(root.path().join("cgroup.procs")).expect("there"), "1\n");
    }
}
