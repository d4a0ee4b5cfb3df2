//! The host as the harness finds it: who we are, which binary is copied, where scratch files go.

pub mod journal;
mod limits;
pub(crate) mod mark;
pub(crate) mod scratch;
pub mod turn;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, bail};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};

use crate::names::hex;
use crate::process::remove_tree;
use crate::unavailable::Unavailable;
use journal::{Journal, Made};
use mark::{Marks, Pointer};

pub use limits::{IoLimits, LinkLimits, Pinning, Resources};

/// Facts and limits that hold for all environments of a run, and its journal. Dropping it removes the scratch directory.
#[derive(Debug)]
pub struct Host {
    /// Short id of the run, at most 8 characters of `[0-9a-z]`: part of the name of everything we make.
    pub id: String,
    /// The binary that is copied into every environment.
    pub binary: PathBuf,
    /// Its SHA-256, hex.
    pub binary_sha256: String,
    /// Whether it runs without a dynamic loader.
    pub static_binary: bool,
    /// Effective user id 0.
    pub privileged: bool,
    /// `uname -s`: `Linux`, `FreeBSD`.
    pub system: String,
    /// `uname -r`.
    pub kernel: String,
    /// `tarebench-<id>` in TMPDIR, or in `/tmp` where that doesn't fit: roots, bundles, sockets, logs. Never on the timed path.
    pub scratch: PathBuf,
    /// Where work and harness run.
    pub pinning: Pinning,
    /// Limits for every environment.
    pub resources: Resources,
    /// Set by a signal handler: every wait of every session then ends within 50 ms.
    pub interrupt: Arc<AtomicBool>,
    /// The list of all that was made on the host, for the case that we are killed.
    pub journal: Journal,
    /// The same in every data directory, of what is in it.
    marks: Marks,
    _pointer: Option<Pointer>,
}

impl Host {
    /// Looks at the host and makes the scratch directory.
    ///
    /// # Errors
    /// When the binary can't be read or the scratch directory can't be made.
    pub fn new(id: &str, binary: &Path, resources: Resources) -> anyhow::Result<Self> {
        let bytes = std::fs::read(binary).with_context(|| format!("can't read our own binary {}", binary.display()))?;
        if id.is_empty() || id.len() > 8 || !id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            bail!("a run's id is 1 to 8 characters of [0-9a-z], not `{id}`");
        }
        let scratch = scratch::choose(&scratch::places())?.join(format!("tarebench-{id}"));
        // Others may look, since an engine may run as another user, but not put anything in.
        DirBuilder::new().mode(0o755).create(&scratch).with_context(|| format!("can't make {}", scratch.display()))?;
        let journal = Journal::open(&scratch)?;
        let pointer = Pointer::to(&scratch);
        let allowed = allowed_cpus().context("can't see which CPUs we may use")?;
        Ok(Self {
            id: id.to_string(),
            binary: binary.to_path_buf(),
            binary_sha256: hex(&Sha256::digest(&bytes)),
            static_binary: is_static(&bytes),
            privileged: nix::unistd::geteuid().is_root(),
            system: nix::sys::utsname::uname()?.sysname().to_string_lossy().into_owned(),
            kernel: nix::sys::utsname::uname()?.release().to_string_lossy().into_owned(),
            scratch,
            pinning: Pinning::split(&allowed, resources.cpus),
            resources,
            interrupt: Arc::new(AtomicBool::new(false)),
            journal,
            marks: Marks::default(),
            _pointer: pointer,
        })
    }

    /// Writes down a directory that is about to be made in a data directory.
    ///
    /// # Errors
    /// When the journal can't be written; it should then not be made.
    pub(crate) fn note_data(&self, data_dir: &Path, directory: &Path) -> anyhow::Result<()> {
        self.journal.note(&Made::Directory(directory.to_path_buf()))?;
        self.marks.note(&self.id, data_dir, directory);
        Ok(())
    }

    /// Lets go of a data directory whose file system ends before the run does.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only the disks of proofs on Linux end so"))]
    pub(crate) fn forget_data(&self, data_dir: &Path) {
        self.marks.forget(&self.id, data_dir);
    }

    /// Keeps the calling thread, and every thread it starts from now on, to the harness's CPUs, as long as what is given back lives.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn pin_harness(&self) -> anyhow::Result<Pinned> {
        let before = sched_getaffinity(Pid::from_raw(0)).context("can't see which CPUs we may use")?;
        self.to_harness()?;
        Ok(Pinned { before })
    }

    fn to_harness(&self) -> anyhow::Result<()> {
        pin(&self.pinning.harness).context("can't pin the harness")
    }

    /// Does something of the harness's own on the CPUs of the work, to see what work would meet there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn on_cpus_of_work<T>(&self, look: impl FnOnce() -> T) -> anyhow::Result<T> {
        pin(&self.pinning.work).context("can't go to the CPUs of the work")?;
        let seen = look();
        self.to_harness()?;
        Ok(seen)
    }

    /// Refuses a binary that would not start in another root file system.
    ///
    /// # Errors
    /// When it needs a dynamic loader.
    pub fn require_static(&self) -> anyhow::Result<()> {
        if !self.static_binary {
            bail!(
                "{} needs a dynamic loader and would not start in another root file system; build it with plain `cargo \
                 build --release`, with no RUSTFLAGS set, or measure `bare` alone",
                self.binary.display()
            );
        }
        Ok(())
    }

    /// Refuses an engine that only root can use.
    ///
    /// # Errors
    /// Without privileges.
    pub fn require_root(&self, engine: &str) -> Result<(), Unavailable> {
        if self.privileged {
            return Ok(());
        }
        Err(Unavailable {
            because: format!("{engine} needs root"),
            fix: "run tarebench as root, or use `namespaces` or `bubblewrap`, which don't need it".into(),
            broken: false,
        })
    }
}

/// A thread that is kept to the harness's CPUs. Dropped by it, it may run where it did before: the next run of the same process must
/// find all CPUs again.
#[derive(Debug)]
#[must_use]
pub struct Pinned {
    before: CpuSet,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Err(e) = sched_setaffinity(Pid::from_raw(0), &self.before) {
            log::warn!("can't go back to the CPUs of before: {e}");
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Err(e) = remove_tree(&self.scratch) {
            log::warn!("{e:#}");
        }
    }
}

/// The CPUs that this process may run on.
///
/// # Errors
/// When the kernel doesn't say.
pub fn allowed_cpus() -> nix::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|c| set.is_set(*c).unwrap_or(false)).collect())
}

/// Keeps the calling thread to these CPUs.
fn pin(cpus: &[usize]) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu).with_context(|| format!("CPU {cpu} is beyond what can be pinned to"))?;
    }
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Whether an ELF file asks for no interpreter: no program header of type PT_INTERP (3). Offsets are those of ELF-64 in
/// the machine's byte order; anything else could not be running here.
fn is_static(elf: &[u8]) -> bool {
    let number = |at: usize, size: usize| -> Option<usize> {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(elf.get(at..at.checked_add(size)?)?);
        usize::try_from(u64::from_le_bytes(bytes)).ok()
    };
    let interpreter = || -> Option<bool> {
        if elf.get(..5)? != b"\x7fELF\x02" {
            return None;
        }
        let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        for entry in 0..count {
            if number(table.checked_add(entry * size)?, 4)? == 3 {
                return Some(true);
            }
        }
        Some(false)
    };
    interpreter() == Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint;

    #[test]
    fn a_dynamic_program_is_told_from_a_static_one() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(is_static(&own), cfg!(target_feature = "crt-static"));
        assert!(!is_static(&std::fs::read("/bin/ls").unwrap()), "every distribution's ls is dynamic");
        assert!(!is_static(b"\x7fELF\x02"));
        assert!(!is_static(b"#!/bin/sh"));
    }

    #[test]
    fn a_look_is_taken_where_the_work_is() {
        let id = format!("lk{:x}", std::process::id() & 0xff_ffff);
        let host = Host::new(&id, Path::new("/proc/self/exe"), Resources::new(1, 1 << 28)).unwrap();
        let mine = || allowed_cpus().unwrap();
        std::thread::scope(|scope| {
            // A thread of its own: the affinity is the thread's.
            scope.spawn(|| {
                assert_eq!(host.on_cpus_of_work(mine).unwrap(), host.pinning.work);
                assert_eq!(mine(), host.pinning.harness, "and then it is back");
            });
        });
    }

    #[test]
    fn a_second_run_of_one_process_finds_what_the_first_did() {
        let run = |number: u32| {
            let id = format!("p{number}{:x}", std::process::id() & 0xff_ffff);
            let host = Host::new(&id, Path::new("/proc/self/exe"), Resources::new(1, 1 << 28)).unwrap();
            let cpus = fingerprint::facts(&host.scratch).into_iter().find(|(name, _)| name == "cpus");
            let pinned = host.pin_harness().unwrap();
            assert_eq!(allowed_cpus().unwrap(), host.pinning.harness);
            drop(pinned);
            (host.pinning.clone(), cpus, allowed_cpus().unwrap())
        };
        // A thread of its own: the affinity is the thread's.
        let (first, second) = std::thread::scope(|scope| scope.spawn(|| (run(1), run(2))).join().unwrap());
        assert_eq!(first, second);
    }

    #[test]
    fn an_id_that_does_not_fit_names_is_refused() {
        let resources = Resources::new(1, 1 << 28);
        for id in ["", "123456789", "../x", "AB"] {
            assert!(Host::new(id, Path::new("/proc/self/exe"), resources).is_err(), "{id}");
        }
    }
}
