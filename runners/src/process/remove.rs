//! Remains of an environment or an engine: processes out of reach of a process group, mounts, directories.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use workloads::mounts;

use super::table;

/// Kills every process that has one of these marks in an argument, and waits until they are gone. For what an engine puts
/// into sessions of its own (sandboxes, monitors), out of reach of a process group; the marks are names that only we give.
pub(crate) fn kill_marked(marks: &[&str]) {
    let until = Instant::now() + Duration::from_secs(3);
    loop {
        let found = marked(marks);
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

/// Removes a directory with all that is in it, where there is one. Where something is mounted in it nothing is removed: that
/// may be anybody's, and it would go first.
///
/// # Errors
/// When something could not be removed, or is mounted there.
pub(crate) fn remove_tree(dir: &Path) -> anyhow::Result<()> {
    if let Some(point) = mounted_below(&[dir])?.first() {
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
    if let Err(e) = fs::set_permissions(dir, fs::Permissions::from_mode(0o700)) {
        log::debug!("{}: {e}", dir.display());
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            open_up(&entry.path());
        }
    }
}

/// Kills what runs from, in or on files below the folders of the killed run: what is left where there was no cgroup.
pub(crate) fn kill_below(folders: &[&Path]) {
    let until = Instant::now() + Duration::from_secs(2);
    loop {
        let uses = |pid: &u32| *pid != std::process::id() && uses_below(*pid, folders);
        let users: Vec<u32> = table::pids().into_iter().filter(uses).collect();
        if users.is_empty() || Instant::now() > until {
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

fn uses_below(pid: u32, folders: &[&Path]) -> bool {
    let below = |path: &Path| folders.iter().any(|f| path.starts_with(f));
    let links = ["exe", "root", "cwd"];
    if links.iter().any(|l| fs::read_link(format!("/proc/{pid}/{l}")).is_ok_and(|p| below(&p))) {
        return true;
    }
    // A whole argument of the agent's: a path that merely occurs in a shell's history or an editor is no reason to kill.
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut arguments = arguments.split(|b| *b == 0).map(String::from_utf8_lossy);
    let ours = arguments.next().is_some_and(|program| program.contains("tarebench"));
    ours && arguments.any(|a| below(Path::new(&*a)))
}

/// Deepest first. Most mounts have gone with the mount namespaces of the dead; an engine may have made some in ours.
pub(crate) fn unmount_below(folders: &[&Path]) {
    // What stays mounted, for whatever reason, keeps its folder: see `remove_tree`.
    for point in mounted_below(folders).inspect_err(|e| log::warn!("{e:#}")).unwrap_or_default() {
        match detach(&point) {
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(e) => log::warn!("can't unmount {}: {e}", point.display()),
        }
    }
}

/// The mount points in our namespace that lie in these folders or are one of them, deepest first.
fn mounted_below(folders: &[&Path]) -> anyhow::Result<Vec<PathBuf>> {
    // The table has the paths that links lead to.
    let folders: Vec<PathBuf> = folders.iter().filter_map(|f| f.canonicalize().ok()).collect();
    let mounts = mounts::all().context("can't read the mount table")?;
    let points = mounts.into_iter().map(|mount| mount.point);
    let mut points: Vec<PathBuf> = points.filter(|p| folders.iter().any(|folder| p.starts_with(folder))).collect();
    points.sort_by_key(|p| std::cmp::Reverse(p.components().count()));
    Ok(points)
}

#[cfg(target_os = "linux")]
fn detach(point: &Path) -> nix::Result<()> {
    nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH)
}

#[cfg(not(target_os = "linux"))]
fn detach(point: &Path) -> nix::Result<()> {
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

    #[test]
    fn marked_processes_are_killed_and_others_are_not() {
        let mut ours = Command::new("sleep").args(["100", "5"]).spawn().expect("sleep starts");
        kill_marked(&["no process on this host has this as an argument"]);
        assert!(ours.try_wait().expect("wait").is_none());
        ours.kill().expect("kill");
        ours.wait().expect("reap");
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
