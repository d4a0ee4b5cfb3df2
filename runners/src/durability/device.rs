//! The disk of a proof, mounted: its files in a file system in memory, the kernel's ext4 over a loop device over it.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::log;
use super::replay;
use crate::host::Host;
use crate::process::{self, Beside, RUN};

/// Bytes of the disk. It takes up what is written to it.
const SIZE: u64 = 4 << 30;

/// How long somebody else may hold the disk after it was unmounted.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// The files of the proofs of a run. Removed on drop, with all that is mounted there.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes it below the run's scratch directory, where the journal finds it after a kill.
    ///
    /// # Errors
    /// When it can't be made.
    pub(crate) fn make(host: &Host) -> anyhow::Result<Self> {
        let path = host.scratch.join("durability");
        fs::create_dir(&path).with_context(|| format!("can't make {}", path.display()))?;
        Ok(Self(path))
    }

    /// Keeps its files in memory: what is replayed hundreds of times must not wait for a real disk.
    fn keep_in_memory(&self) -> anyhow::Result<()> {
        mount(Some("tarebench"), &self.0, Some("tmpfs"), MsFlags::empty(), Some("mode=755,size=80%"))
            .with_context(|| format!("can't mount a file system in memory on {}", self.0.display()))
    }

    /// A path in it.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Mounts the ext4 in a file; its words where the kernel finds none that it could use.
    ///
    /// # Errors
    /// When there is no loop device for it.
    pub(crate) fn mount(&self, image: &Path, name: &str) -> anyhow::Result<Result<Mounted, String>> {
        let point = self.at(name);
        fs::create_dir_all(&point).with_context(|| format!("can't make {}", point.display()))?;
        let mut command = Command::new("mount");
        command.args(["-t", "ext4", "-o", "loop,noatime"]).arg(image).arg(&point);
        match process::ask(command) {
            Ok(_) => Ok(Ok(Mounted(point))),
            Err(words) if words.contains("loop device") => {
                Err(anyhow!("{words}: a proof needs two free loop devices, and the module `loop`"))
            }
            Err(words) => Ok(Err(words)),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        process::unmount_below(&[&self.0]);
        if let Err(e) = process::remove_tree(&self.0) {
            ::log::warn!("{e:#}");
        }
    }
}

/// Does something in a mount namespace of its own. A namespace that somebody else makes meanwhile, with a container for one, has
/// copies of the mounts of ours that it began with: a file system among them would live on after we have unmounted it.
///
/// # Errors
/// When there can be none.
pub(crate) fn apart<T: Send>(work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    let alone = || {
        unshare(CloneFlags::CLONE_NEWNS).context("can't make a mount namespace")?;
        let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
        mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).context("can't keep mounts in a namespace")?;
        work()
    };
    let ended = std::thread::scope(|scope| scope.spawn(alone).join());
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A file system that is unmounted on drop. Its loop device goes with it.
#[derive(Debug)]
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    /// Where it is.
    pub(crate) fn point(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = umount2(&self.0, MntFlags::empty());
        if let Err(e) = unmounted.or_else(|_| umount2(&self.0, MntFlags::MNT_DETACH)) {
            ::log::warn!("can't unmount {}: {e}", self.0.display());
        }
    }
}

/// The process that serves a disk. It ends by itself when nobody uses the disk any more, which is waited for on drop.
#[derive(Debug)]
struct Server(Beside);

impl Drop for Server {
    fn drop(&mut self) {
        // A mount namespace that is ending lets go of the file system a while after it was unmounted here, and its last writes go to the
        // disk only then.
        let until = Instant::now() + LAST_WRITES;
        while matches!(self.0.ended(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        if matches!(self.0.ended(), Ok(None)) {
            ::log::debug!("the disk of the proof is still held by something, whose last writes to it fail now");
        }
    }
}

/// A mounted disk whose writes and flushes are logged.
#[derive(Debug)]
pub(crate) struct Device<'a> {
    host: &'a Host,
    file_system: Mounted,
    _disk: Mounted,
    // Ends last: until then the kernel writes back to it.
    _server: Server,
    log: File,
    /// The same disk before the first entry of its log.
    pub(crate) before: PathBuf,
    /// Its log.
    pub(crate) log_path: PathBuf,
}

impl Drop for Device<'_> {
    fn drop(&mut self) {
        self.host.forget_data(self.data_dir());
    }
}

impl<'a> Device<'a> {
    /// Makes an empty one.
    ///
    /// # Errors
    /// When it can't be made or mounted, with what is missing.
    pub(crate) fn make(host: &'a Host, folder: &Folder) -> anyhow::Result<Self> {
        folder.keep_in_memory()?;
        let [before, image, log_path] = ["before.img", "disk.img", "disk.log"].map(|name| folder.at(name));
        let file = File::create(&before).and_then(|file| file.set_len(SIZE).map(|()| file));
        drop(file.with_context(|| format!("can't make {}", before.display()))?);
        let mut format = super::program("mkfs.ext4");
        // Nothing is left for the kernel to fill in later, beside what is proved.
        format.args([
            "-q",
            "-F",
            "-N",
            "8192",
            "-J",
            "size=16",
            "-E",
            "nodiscard,lazy_itable_init=0,lazy_journal_init=0",
        ]);
        format.arg(&before);
        process::ask(format).map_err(|words| anyhow!("can't make a file system in {}: {words}", before.display()))?;
        let naming = || format!("can't copy {}", before.display());
        replay::copy(&File::open(&before).with_context(naming)?, &image).with_context(naming)?;
        let (server, disk) = serve(host, folder, &image, &log_path)?;
        let file_system = folder.mount(&folder.at("disk"), "mnt")?;
        let file_system = file_system.map_err(|words| anyhow!("can't mount the disk of the proof: {words}"))?;
        let log = File::open(&log_path).with_context(|| format!("can't open {}", log_path.display()))?;
        Ok(Self { host, file_system, _disk: disk, _server: server, log, before, log_path })
    }

    /// The directory in which data goes to the disk.
    pub(crate) fn data_dir(&self) -> &Path {
        self.file_system.point()
    }

    /// Writes back all that the kernel holds for it, as it does by itself when time passes.
    ///
    /// # Errors
    /// When that fails.
    pub(crate) fn settle(&self) -> anyhow::Result<()> {
        let settled = File::open(self.data_dir()).and_then(|folder| Ok(nix::unistd::syncfs(&folder)?));
        settled.context("can't write back the disk of the proof")
    }

    /// How many writes and flushes have reached it.
    ///
    /// # Errors
    /// When its log can't be read.
    pub(crate) fn entries(&self) -> anyhow::Result<u64> {
        log::count(&self.log).context("can't read the disk's log")
    }
}

/// Mounts the one file of the disk on a file, and starts the process that serves it.
fn serve(host: &Host, folder: &Folder, image: &Path, log: &Path) -> anyhow::Result<(Server, Mounted)> {
    let fuse = File::options().read(true).write(true).open("/dev/fuse");
    let fuse = fuse.context(
        "can't open /dev/fuse, of which the disk of the proof is made; `modprobe fuse` may be what is missing",
    )?;
    let point = folder.at("disk");
    File::create(&point).with_context(|| format!("can't make {}", point.display()))?;
    let options = format!("fd={},rootmode=100600,user_id=0,group_id=0,allow_other", fuse.as_raw_fd());
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tarebench"), &point, Some("fuse"), flags, Some(options.as_str()))
        .with_context(|| format!("can't mount the disk of the proof on {}", point.display()))?;
    let mounted = Mounted(point);
    let mut command = Command::new(&host.binary);
    command.arg("disk").arg("--image").arg(image).arg("--log").arg(log);
    command.stdin(Stdio::from(fuse)).stdout(Stdio::null()).env(RUN, &host.id);
    process::confine(&mut command, None, &[], &[]).context("can't prepare the disk of the proof")?;
    Ok((Server(Beside::start(&mut command, "the disk of the proof")?), mounted))
}
