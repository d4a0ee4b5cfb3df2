//! Backing of the guest's memory on the host.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use super::options::Memory;
use super::value::value;

/// QEMU rounds the memory of a machine up to this, bytes, and then refuses an object of any other size.
const GRANULE: u64 = 8192;

/// Where the kernel counts its huge pages of 2 MiB: the size that every x86 has.
const HUGE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";
const HUGE_BYTES: u64 = 2 << 20;

/// The guest's memory, ready to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backing {
    /// The kind of pages.
    pub kind: Memory,
    /// Size in bytes, as QEMU takes it.
    pub bytes: u64,
    /// The file, where it is one.
    pub file: Option<PathBuf>,
}

impl Backing {
    /// Private pages of QEMU.
    pub fn anonymous(bytes: u64) -> Self {
        Self { kind: Memory::Anonymous, bytes: bytes - bytes % GRANULE, file: None }
    }

    /// Makes what `kind` needs; a file goes into `folder`, which is removed with all that is in it.
    ///
    /// # Errors
    /// When there is not enough room, or not enough huge pages.
    pub fn make(kind: Memory, bytes: u64, folder: &Path) -> anyhow::Result<Self> {
        let mut backing = Self { kind, ..Self::anonymous(bytes) };
        match kind {
            Memory::Auto | Memory::Anonymous | Memory::Tmpfs => {}
            Memory::File => backing.file = Some(new_file(folder.join("memory"), backing.bytes)?),
            Memory::Hugepages => enough_huge_pages(backing.bytes, huge_pages(Path::new(HUGE))?)?,
        }
        Ok(backing)
    }

    /// Adds the object `memory`, where there is one, and says what the machine is to be told of it.
    pub fn add_to(&self, q: &mut Command) -> &'static str {
        let bytes = self.bytes;
        let object = match (self.kind, &self.file) {
            (Memory::Auto | Memory::Anonymous, _) => return "",
            // Without a name in any file system: nothing of it can be left behind.
            (Memory::Tmpfs, _) => format!("memory-backend-memfd,id=memory,size={bytes}"),
            (Memory::Hugepages, _) => {
                format!("memory-backend-memfd,id=memory,size={bytes},hugetlb=on,hugetlbsize={HUGE_BYTES}")
            }
            (Memory::File, file) => {
                let path = value(file.as_deref().unwrap_or(Path::new("memory")));
                format!("memory-backend-file,id=memory,size={bytes},share=on,mem-path={path}")
            }
        };
        q.arg("-object").arg(object);
        ",memory-backend=memory"
    }
}

/// An empty file of that many bytes. Its blocks are reserved: a guest whose memory finds no room on the disk dies of it.
fn new_file(path: PathBuf, bytes: u64) -> anyhow::Result<PathBuf> {
    let make = || -> anyhow::Result<()> {
        // The last guest's memory is none of the next one's business.
        if path.exists() {
            fs::remove_file(&path)?;
        }
        let file = File::options().write(true).create_new(true).open(&path)?;
        file.set_len(bytes)?;
        match fallocate(&file, FallocateFlags::empty(), 0, bytes as libc::off_t) {
            Ok(()) | Err(Errno::EOPNOTSUPP) => Ok(()),
            Err(e) => Err(e.into()),
        }
    };
    make().with_context(|| format!("can't make {} of {bytes} bytes for the guest's memory", path.display()))?;
    Ok(path)
}

/// Huge pages of 2 MiB that nobody has claimed.
fn huge_pages(folder: &Path) -> anyhow::Result<u64> {
    let count = |name: &str| -> anyhow::Result<u64> {
        let path = folder.join(name);
        let text = fs::read_to_string(&path).with_context(|| {
            format!(
                "memory=hugepages can't be: no {} (does this kernel have huge pages?); set memory=anonymous",
                path.display()
            )
        })?;
        text.trim().parse().with_context(|| format!("{} is not a number: `{}`", path.display(), text.trim()))
    };
    let free = count("free_hugepages")?.saturating_sub(count("resv_hugepages")?);
    // What the kernel may make when asked, less what it has made so.
    Ok(free + count("nr_overcommit_hugepages")?.saturating_sub(count("surplus_hugepages")?))
}

/// Refuses what QEMU would end with: memory that this user may not lock.
///
/// # Errors
/// When the limit is too low, with what it has to be.
pub fn may_lock(bytes: u64, limit: u64) -> anyhow::Result<()> {
    if bytes > limit {
        bail!(
            "overcommit.mem-lock=true locks all of {} KiB and this user may lock {} KiB; raise the limit (`ulimit -l {}` as \
             root), or set overcommit.mem-lock=false",
            bytes >> 10,
            limit >> 10,
            bytes >> 10
        );
    }
    Ok(())
}

fn enough_huge_pages(bytes: u64, free: u64) -> anyhow::Result<()> {
    if !bytes.is_multiple_of(HUGE_BYTES) {
        bail!("memory=hugepages needs memory in multiples of 2 MiB, not {bytes} bytes; change it in resources");
    }
    let needed = bytes / HUGE_BYTES;
    if free < needed {
        bail!(
            "memory=hugepages needs {needed} huge pages of 2 MiB and the host has {free} to give; `sysctl \
             vm.nr_hugepages={needed}` as root sets them aside, or set memory=anonymous"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_file_is_new_and_has_its_blocks() {
        // Not in /tmp, which may be a tmpfs.
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a temporary directory");
        fs::write(folder.path().join("memory"), "of the last guest").expect("written");
        let backing = Backing::make(Memory::File, 1 << 20, folder.path()).expect("there is room");
        let path = backing.file.expect("it is a file");
        let about = path.metadata().expect("it is there");
        assert_eq!((about.len(), about.blocks() * 512 >= 1 << 20), (1 << 20, true));
        assert!(fs::read(path).expect("readable").iter().all(|byte| *byte == 0));
        let error = Backing::make(Memory::File, 1 << 60, folder.path()).expect_err("no disk is as large");
        assert!(error.to_string().contains("for the guest's memory"), "{error}");
    }

    #[test]
    fn too_few_huge_pages_are_refused_with_the_number_that_is_needed() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        for (name, text) in [
            ("free_hugepages", "100\n"),
            ("resv_hugepages", "40\n"),
            ("nr_overcommit_hugepages", "10\n"),
            ("surplus_hugepages", "4\n"),
        ] {
            fs::write(folder.path().join(name), text).expect("written");
        }
        assert_eq!(huge_pages(folder.path()).expect("all there"), 66);
        enough_huge_pages(132 << 20, 66).expect("just enough");
        let error = enough_huge_pages(134 << 20, 66).expect_err("one too few").to_string();
        assert!(error.contains("67 huge pages") && error.contains("vm.nr_hugepages=67"), "{error}");
        assert!(enough_huge_pages(8192, 66).is_err(), "less than a page");
        let error = huge_pages(Path::new("/no/such/folder")).expect_err("not there").to_string();
        assert!(error.contains("memory=anonymous"), "{error}");
    }

    #[test]
    fn memory_that_may_not_be_locked_is_refused_with_the_limit_that_is_needed() {
        may_lock(8 << 20, 8 << 20).expect("just enough");
        let error = may_lock(512 << 20, 8 << 20).expect_err("too much").to_string();
        assert!(error.contains("ulimit -l 524288") && error.contains("may lock 8192 KiB"), "{error}");
    }

    #[test]
    fn sizes_are_what_qemu_takes() {
        assert_eq!(Backing::anonymous((256 << 20) + 8191).bytes, 256 << 20);
    }
}
