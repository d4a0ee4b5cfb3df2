//! Remains of an environment or an engine: processes out of reach of a process group, mounts, directories.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use workloads::mounts;

use super::table;

/// The environment variable that everything started for a run has, with the run's id: it is inherited by what a process starts,
/// wherever that goes, and nobody else sets it. Engines may take it away from their own children.
pub(crate) use workloads::command::RUN;

/// Kills every process that has one of these marks in an argument, where it is of our making: it has our environment variable, or
/// it is the engine's program or one of those `others` of its. Waits until they are gone. For what an engine puts into sessions of its own (sandboxes,
/// monitors), out of reach of a process group; the marks are names that only we give, but an editor may have one in an argument.
pub(crate) fn kill_marked(marks: &[&str], program: &Path, others: &[&str]) {
    let program = file_name(program);
    let until = Instant::now() + Duration::from_secs(3);
    loop {
        let of_engine = |pid: &Pid| {
            let names = table::names(pid.as_raw() as u32);
            names.iter().any(|name| *name == program || others.contains(&name.as_str()))
        };
        let ours = |pid: &Pid| table::variable(pid.as_raw() as u32, RUN).is_some() || of_engine(pid);
        let found: Vec<Pid> = marked(marks).into_iter().filter(ours).collect();
        if found.is_empty() {
            return;
        }
        if Instant::now() > until {
            log::warn!("processes of {} outlive SIGKILL: {found:?}", marks.join(", "));
            return;
        }
        for pid in found {
            log::debug!("kill {pid}, which {} left", marks.join(", "));
            if let Err(e) = kill(pid, Signal::SIGKILL) {
                log::debug!("kill {pid}: {e}");
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn marked(marks: &[&str]) -> Vec<Pid> {
    let own = Pid::this();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok().map(Pid::from_raw)?, entry.path())))
        // A zombie has an empty command line: it is gone as far as we are concerned.
        .filter(|(pid, path)| *pid != own && fs::read(path.join("cmdline")).is_ok_and(|line| mentions(&line, marks)))
        .map(|(pid, _)| pid)
        .collect()
}

fn mentions(line: &[u8], marks: &[&str]) -> bool {
    // Whole arguments or whole path components: `...-runc-1` must not match `...-runc-12`.
    let ends = |byte: Option<&u8>| byte.is_none_or(|b| matches!(b, 0 | b'/' | b'=' | b':'));
    marks.iter().map(|m| m.as_bytes()).filter(|m| !m.is_empty()).any(|mark| {
        line.windows(mark.len()).enumerate().any(|(at, part)| {
            part == mark && ends(line.get(at + mark.len())) && ends(at.checked_sub(1).map(|b| &line[b]))
        })
    })
}

/// Marks for [`kill_marked`] must be text; our own paths are, unless the temporary directory is not.
pub(crate) fn mark(path: &Path) -> String {
    String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned()
}

/// The name of a program's file, links followed: as the table of processes has it.
fn file_name(program: &Path) -> String {
    let real = program.canonicalize().unwrap_or_else(|_| program.to_path_buf());
    real.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Removes a directory with all that is in it, where there is one. Where something is mounted in it nothing is removed: that
/// may be anybody's, and it would go first. Of a link only the link goes.
///
/// # Errors
/// When something could not be removed, or is mounted there.
pub(crate) fn remove_tree(dir: &Path) -> anyhow::Result<()> {
    if let Some((point, _)) = mounted_below(&[dir])?.first() {
        bail!("can't remove {}: something is mounted on {}", dir.display(), point.display());
    }
    let removed = match fs::remove_dir_all(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            // overlayfs shuts everybody out of its working directory, and only root can do without being let in.
            open_up(dir);
            fs::remove_dir_all(dir)
        }
        other => other,
    };
    match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("can't remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Removes a directory that the stage would remove later: it lives for many starts.
pub(crate) fn discard(directory: &Path) {
    if let Err(e) = remove_tree(directory) {
        log::debug!("{e:#}");
    }
}

/// Gives the owner all rights to every directory of a tree, links not followed.
fn open_up(dir: &Path) {
    if !fs::symlink_metadata(dir).is_ok_and(|about| about.is_dir()) {
        return;
    }
    if let Err(e) = fs::set_permissions(dir, fs::Permissions::from_mode(0o700)) {
        log::debug!("{}: {e}", dir.display());
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            open_up(&entry.path());
        }
    }
}

/// Whether this is a directory of ours, and no link to one; `false` where there is nothing. Whoever owns the folder around it can
/// put anything in its place.
///
/// # Errors
/// When it is something else.
pub(crate) fn is_our_directory(dir: &Path) -> anyhow::Result<bool> {
    let about = match fs::symlink_metadata(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        other => other.with_context(|| format!("can't look at {}", dir.display()))?,
    };
    let shown = dir.display();
    ensure!(
        about.is_dir(),
        "{shown} is left alone: it is {}",
        if about.is_symlink() { "a link" } else { "no directory" }
    );
    ensure!(about.uid() == geteuid().as_raw(), "{shown} is left alone: it belongs to user {}", about.uid());
    Ok(true)
}

/// Kills what is left of the killed run of this id where there was no cgroup: what has its environment variable, and what runs
/// from its folders or has one of them for its root. Others that merely work there are told of and left alone.
pub(crate) fn kill_left(run: Option<&str>, folders: &[&Path]) {
    let until = Instant::now() + Duration::from_secs(2);
    loop {
        let others = table::pids().into_iter().filter(|pid| *pid != std::process::id());
        let (users, others): (Vec<u32>, Vec<u32>) = others.partition(|pid| is_left(*pid, run, folders));
        if users.is_empty() || Instant::now() > until {
            for (pid, doing) in others.iter().filter_map(|pid| Some((pid, stranger_below(*pid, folders)?))) {
                log::warn!("left alone: process {pid} ({}) {doing}, but tarebench did not start it", table::name(*pid));
            }
            return;
        }
        for pid in users {
            if let Err(e) = kill(Pid::from_raw(pid as i32), Signal::SIGKILL) {
                log::debug!("kill {pid}: {e}");
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_left(pid: u32, run: Option<&str>, folders: &[&Path]) -> bool {
    let below = |link: &str| link_below(pid, link, folders).is_some();
    let of_run = || run.is_some_and(|run| table::variable(pid, RUN).as_deref() == Some(run.as_bytes()));
    below("exe") || below("root") || of_run()
}

fn link_below(pid: u32, link: &str, folders: &[&Path]) -> Option<PathBuf> {
    let path = fs::read_link(format!("/proc/{pid}/{link}")).ok()?;
    folders.iter().any(|f| path.starts_with(f)).then_some(path)
}

/// What somebody else's process has to do with these folders.
fn stranger_below(pid: u32, folders: &[&Path]) -> Option<String> {
    if let Some(directory) = link_below(pid, "cwd", folders) {
        return Some(format!("works in {}", directory.display()));
    }
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut arguments = line.split(|b| *b == 0).map(|a| Path::new(OsStr::from_bytes(a)));
    let named = arguments.find(|path| folders.iter().any(|folder| path.starts_with(folder)))?;
    Some(format!("was told of {}", named.display()))
}

/// Deepest first. Most mounts have gone with the mount namespaces of the dead; an engine may have made some in ours. In what is no
/// directory of ours nothing is unmounted.
pub(crate) fn unmount_below(folders: &[&Path]) {
    let ours = |folder: &&&Path| is_our_directory(folder).inspect_err(|e| log::warn!("{e:#}")).unwrap_or(false);
    let folders: Vec<&Path> = folders.iter().filter(ours).copied().collect();
    // What stays mounted, for whatever reason, keeps its folder: see `remove_tree`.
    for (point, folder) in mounted_below(&folders).inspect_err(|e| log::warn!("{e:#}")).unwrap_or_default() {
        match detach(&point, &folder) {
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(e) => log::warn!("can't unmount {}: {e}", point.display()),
        }
    }
}

/// The mount points in our namespace that lie in these folders or are one of them, deepest first, each with its folder. A folder
/// that is a link holds none: what it leads to is somebody else's.
fn mounted_below(folders: &[&Path]) -> anyhow::Result<Vec<(PathBuf, PathBuf)>> {
    // The table has the paths that links lead to.
    let folders: Vec<PathBuf> = folders.iter().filter_map(|f| real(f)).collect();
    let mounts = mounts::all().context("can't read the mount table")?;
    let below = |point: &PathBuf| folders.iter().find(|folder| point.starts_with(folder)).cloned();
    let mut points: Vec<(PathBuf, PathBuf)> =
        mounts.into_iter().filter_map(|mount| below(&mount.point).map(|folder| (mount.point, folder))).collect();
    points.sort_by_key(|(p, _)| std::cmp::Reverse(p.components().count()));
    Ok(points)
}

/// A folder's path with the links in it followed, but never its last part.
fn real(folder: &Path) -> Option<PathBuf> {
    Some(folder.parent()?.canonicalize().ok()?.join(folder.file_name()?))
}

/// Unmounts what lies in a folder of ours, which is held open: meanwhile a link may have taken its place.
#[cfg(target_os = "linux")]
fn detach(point: &Path, folder: &Path) -> nix::Result<()> {
    use std::os::fd::AsRawFd;

    use nix::fcntl::{OFlag, open};
    use nix::mount::{MntFlags, umount2};
    use nix::sys::stat::{Mode, fstat};

    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let held = open(folder, flags, Mode::empty())?;
    if fstat(&held)?.st_uid != geteuid().as_raw() {
        return Err(Errno::EPERM);
    }
    let here = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
    match point.strip_prefix(folder) {
        Ok(rest) if rest != Path::new("") => {
            umount2(&here.join(rest), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
        }
        // The folder itself, which what is held open leads to.
        _ => umount2(&here, MntFlags::MNT_DETACH),
    }
}

#[cfg(not(target_os = "linux"))]
fn detach(point: &Path, _folder: &Path) -> nix::Result<()> {
    nix::mount::unmount(point, nix::mount::MntFlags::MNT_FORCE)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_mark_matches_whole_names_only() {
        let line = b"runc\0--root=/tmp/t/state\0run\0box-1\0";
        assert!(mentions(line, &["box-1"]));
        assert!(mentions(line, &["/tmp/t/state"]));
        assert!(mentions(line, &["/tmp/t"]));
        assert!(!mentions(line, &["box"]));
        assert!(!mentions(b"runc\0box-12\0", &["box-1"]));
        assert!(!mentions(line, &[""]));
    }

    /// A process that waits for the end of its input, as an editor with this file does, and then nothing but ends.
    #[cfg(target_os = "linux")]
    fn waiting(mark: &Path, directory: &Path, run: Option<&str>) -> std::process::Child {
        let mut command = Command::new("sh");
        // A shell that has more to do waits for what it runs, and keeps its arguments.
        command.args(["-c", "cat; true"]).arg(mark).current_dir(directory).stdin(std::process::Stdio::piped());
        command.envs(run.map(|run| (RUN, run))).spawn().expect("a shell starts")
    }

    #[cfg(target_os = "linux")]
    fn ended(child: &mut std::process::Child) -> bool {
        child.try_wait().expect("ours").is_some()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_has_the_mark_is_killed_where_we_started_it_or_it_is_the_engines() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().to_string_lossy().into_owned();
        let mut editor = waiting(&folder.path().join("letter"), Path::new("/"), None);
        let mut monitor = waiting(&folder.path().join("letter"), Path::new("/"), Some("k1"));
        let shell = table::name(editor.id());
        kill_marked(&[&mark], Path::new("/an/engine"), &["another"]);
        assert!(!ended(&mut editor), "an editor that was told of a file of ours");
        assert!(ended(&mut monitor), "what an engine of ours put into a session of its own");
        kill_marked(&[&mark], Path::new(&shell), &[]);
        assert!(ended(&mut editor), "the engine's own program, which may have lost our variable");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_is_left_of_a_run_is_killed_and_who_merely_works_there_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (there, elsewhere) = (folder.path(), Path::new("/"));
        let mut shell = waiting(Path::new("x"), there, None);
        let mut editor = waiting(&there.join("letter"), elsewhere, None);
        let mut other_run = waiting(Path::new("x"), there, Some("k12"));
        let mut left = waiting(Path::new("x"), elsewhere, Some("k1"));
        kill_left(None, &[there]);
        assert!(!ended(&mut left), "without an id nothing goes by it");
        kill_left(Some("k1"), &[there]);
        assert!(ended(&mut left));
        for (child, words) in [(&mut shell, "works in "), (&mut editor, "was told of "), (&mut other_run, "works in ")]
        {
            assert!(!ended(child));
            let said = stranger_below(child.id(), &[there]).expect("it is told of");
            assert!(said.starts_with(words), "{said}");
            child.kill().and_then(|()| child.wait()).expect("ours");
        }
    }

    #[test]
    fn a_directory_that_shuts_its_owner_out_is_removed_too() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("tree/work/work");
        fs::create_dir_all(inner.join("index")).unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o000)).unwrap();
        remove_tree(&folder.path().join("tree")).unwrap();
        remove_tree(&folder.path().join("tree")).expect("what is not there needs no removal");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn nothing_is_unmounted_through_a_link_or_in_a_strangers_directory() {
        if !geteuid().is_root() {
            eprintln!("SKIPPED: only root can mount something to unmount");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let [victim, link, ours] = ["victim", "link", "ours"].map(|name| folder.path().join(name));
        for dir in [victim.join("a"), ours.join("sub")] {
            fs::create_dir_all(dir).unwrap();
        }
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        let ran = |command: &mut Command| assert!(command.status().expect("starts").success(), "{command:?}");
        let mount = |at: &Path| ran(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(at));
        let mounted = |at: &Path| mounts::all().unwrap().iter().any(|m| m.point == real(at).unwrap());
        mount(&victim);
        unmount_below(&[&link]);
        assert!(mounted(&victim), "what a link leads to");
        std::os::unix::fs::chown(&victim, Some(65534), None).unwrap();
        unmount_below(&[&victim]);
        assert!(mounted(&victim), "a directory of somebody else's");
        let refused = [&link, &victim].map(|dir| is_our_directory(dir).expect_err("not ours").to_string());
        assert!(refused[0].contains("a link") && refused[1].contains("user 65534"), "{refused:?}");
        remove_tree(&link).expect("the link alone goes");
        assert!(fs::symlink_metadata(&link).is_err() && mounted(&victim));
        ran(Command::new("umount").arg(&victim));
        // Twice on the folder itself, and in it.
        [&ours, &ours, &ours.join("sub")].iter().for_each(|at| {
            fs::create_dir_all(at).unwrap();
            mount(at);
        });
        unmount_below(&[&ours]);
        assert!(!mounted(&ours) && !mounted(&ours.join("sub")), "a directory of ours");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn nothing_is_removed_through_a_mount() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: only root can mount something to remove through");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (theirs, tree) = (folder.path().join("theirs"), folder.path().join("a tree"));
        let point = tree.join("on to");
        fs::create_dir_all(&point).unwrap();
        fs::create_dir(&theirs).unwrap();
        fs::write(theirs.join("letter"), "keep me").unwrap();
        let ran = |command: &mut Command| assert!(command.status().expect("starts").success(), "{command:?}");
        ran(Command::new("mount").arg("--bind").arg(&theirs).arg(&point));
        let refused = remove_tree(&tree);
        discard(&tree);
        ran(Command::new("umount").arg(&point));
        assert_eq!(fs::read_to_string(theirs.join("letter")).expect("still there"), "keep me");
        assert!(format!("{:#}", refused.expect_err("refused")).contains("is mounted"), "and says why");
        remove_tree(&tree).expect("it is a tree of ours again");
    }
}
