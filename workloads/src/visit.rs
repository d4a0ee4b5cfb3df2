//! The agent in a box that was there before us: it makes a folder of its own, and takes all of it away when it goes.
//!
//! Nobody there kills it when the harness is gone, so it watches its channel even while a burst is timed: by a thread that
//! sleeps in poll(2) until the channel hangs up.

use std::fs;
use std::io;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};

/// Every name that a visit leaves in a box begins with this; nothing else is ever removed.
pub const MARK: &str = "tarebench-";

/// How long an agent whose channel has hung up may take to go by itself.
const PATIENCE: Duration = Duration::from_millis(200);

/// A visit: the folder for the data, and the copy of the binary where one was brought. Dropping it removes both.
#[derive(Debug)]
pub struct Visit {
    paths: Vec<PathBuf>,
}

impl Visit {
    /// Makes the folder. `copy` is the binary that was brought for this visit.
    ///
    /// # Errors
    /// When a name is not of a visit, or the folder can't be made.
    pub fn begin(folder: &Path, copy: Option<&Path>) -> anyhow::Result<Self> {
        let paths: Vec<PathBuf> = [Some(folder), copy].into_iter().flatten().map(Path::to_path_buf).collect();
        paths.iter().try_for_each(|p| check(p))?;
        let visit = Self { paths };
        fs::create_dir(folder).with_context(|| {
            format!("can't make {}; is the folder above it there and writable for user {}?", folder.display(), uid())
        })?;
        Ok(visit)
    }

    /// Ends the process, and the visit with it, soon after its stdin hangs up: whatever it is doing then.
    ///
    /// # Errors
    /// When there can be no thread for it.
    pub fn end_with_channel(&self) -> io::Result<()> {
        let paths = self.paths.clone();
        let watch = move || {
            if wait_for_hangup(libc::STDIN_FILENO).is_ok() {
                std::thread::sleep(PATIENCE);
                crate::command::kill_all();
                // The work goes on meanwhile and may make a file where one was just removed.
                let removed = (0..20).any(|_| leave(&paths).is_ok());
                std::process::exit(i32::from(!removed));
            }
        };
        std::thread::Builder::new().name("channel".into()).spawn(watch).map(drop)
    }
}

/// Returns when nobody can write to the channel any more; what was written before may still be unread.
fn wait_for_hangup(fd: libc::c_int) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    const CLOSED: libc::c_short = libc::POLLRDHUP;
    #[cfg(not(target_os = "linux"))]
    const CLOSED: libc::c_short = 0;
    loop {
        let mut asked = libc::pollfd { fd, events: CLOSED, revents: 0 };
        // SAFETY: one entry of the right type, which lives through the call.
        if unsafe { libc::poll(&raw mut asked, 1, -1) } < 0 {
            let e = io::Error::last_os_error();
            if e.kind() != ErrorKind::Interrupted {
                return Err(e);
            }
        } else if asked.revents & libc::POLLNVAL != 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        } else if asked.revents != 0 {
            return Ok(());
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Err(e) = leave(&self.paths) {
            log::warn!("{e:#}");
        }
    }
}

/// Removes what an agent that was killed has left of its visit, itself included.
///
/// # Errors
/// When a name is not of a visit, before anything is removed; else what could not be removed, after the rest was.
pub fn leave(paths: &[PathBuf]) -> anyhow::Result<()> {
    paths.iter().try_for_each(|p| check(p))?;
    let mut outcome = Ok(());
    for path in paths {
        let is_folder = fs::symlink_metadata(path).is_ok_and(|m| m.is_dir());
        let removed = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        match removed {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                outcome = Err(e).with_context(|| format!("can't remove {}", path.display()));
            }
            _ => {}
        }
    }
    outcome
}

fn check(path: &Path) -> anyhow::Result<()> {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    if !path.is_absolute() || !name.starts_with(MARK) {
        bail!("{} is not of a visit: an absolute path whose last part begins with `{MARK}` is", path.display());
    }
    Ok(())
}

fn uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visit_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let (folder, copy) = (dir.path().join("tarebench-x"), dir.path().join("tarebench-x-agent"));
        fs::write(&copy, "").expect("written");
        let visit = Visit::begin(&folder, Some(&copy)).expect("begins");
        fs::write(folder.join("f"), "").expect("the folder is there");
        Visit::begin(&folder, None).map(std::mem::forget).expect_err("somebody else's");
        fs::create_dir_all(folder.join("g")).expect("made again");
        drop(visit);
        assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 0);
    }

    #[test]
    fn only_what_carries_the_name_is_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let (ours, other) = (dir.path().join("tarebench-y"), dir.path().join("y"));
        fs::write(&ours, "").expect("written");
        fs::write(&other, "").expect("written");
        leave(&[ours.clone(), other.clone()]).expect_err("refused");
        leave(&["tarebench-y".into()]).expect_err("relative");
        assert!(ours.exists() && other.exists(), "nothing is removed when something is wrong");
        leave(std::slice::from_ref(&ours)).expect("removed");
        leave(std::slice::from_ref(&ours)).expect("twice does no harm");
        assert!(!ours.exists());
    }

    #[test]
    fn a_channel_hangs_up_when_the_last_writer_goes_and_not_before() {
        let (reader, mut writer) = io::pipe().expect("a pipe");
        let fd = std::os::fd::AsRawFd::as_raw_fd(&reader);
        let waiting = std::thread::spawn(move || wait_for_hangup(fd));
        io::Write::write_all(&mut writer, b"unread").expect("written");
        std::thread::sleep(Duration::from_millis(50));
        assert!(!waiting.is_finished(), "what is unread is no end");
        drop(writer);
        waiting.join().expect("no panic").expect("hung up");
        wait_for_hangup(1 << 20).expect_err("a descriptor that is not open is no channel");
    }
}
