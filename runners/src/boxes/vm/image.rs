//! The data disk of a guest: an image with an ext4 in it, made without mounting anything.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use workloads::words;

use crate::process;
use crate::unavailable::Unavailable;

const CHUNK: usize = 4 << 20;

words! {
    /// Format of the disk's file.
    pub enum Format {
        /// The disk's bytes and nothing else.
        Raw = "raw",
        /// QEMU's own format, with tables from guest to file.
        Qcow2 = "qcow2",
    }
}

words! {
    /// How much of the disk's file is there before the guest writes.
    pub enum Allocation {
        /// Nothing but what mkfs wrote.
        Sparse = "sparse",
        /// The tables of a qcow2, not the data.
        Metadata = "metadata",
        /// All of it, as unwritten extents of the host's file system.
        Falloc = "falloc",
        /// All of it, written.
        Full = "full",
    }
}

/// Writes an image of `bytes` bytes at `path` with an empty ext4 in it.
///
/// By default ([`Allocation::Full`]) every block is written once before anything is measured. A sparse or merely allocated
/// file makes the guest's first write to each block change the host's metadata too, and its first flushes pay for that; a
/// disk or a logical volume has no such first time. 512 MiB of zeros take about 0.2 s on a fast disk, once per run.
///
/// # Errors
/// When the disk is full, or there is no `mkfs.ext4`, or for a qcow2 no `qemu-img`.
pub fn make(path: &Path, format: Format, allocation: Allocation, bytes: u64) -> anyhow::Result<()> {
    match format {
        Format::Raw => raw(path, allocation, bytes)?,
        Format::Qcow2 => {
            // mkfs knows no qcow2, and mounting one needs root: the file system is made in a raw file and taken over.
            let raw_path = path.with_extension("raw-for-qcow2");
            raw(&raw_path, Allocation::Sparse, bytes)?;
            let made = convert(&raw_path, path, allocation);
            fs::remove_file(&raw_path).with_context(|| format!("can't remove {}", raw_path.display()))?;
            made?;
        }
    }
    // What was left in the host's page cache must not be written back later, beside a measurement.
    File::open(path)?.sync_all().with_context(|| format!("can't sync {}", path.display()))
}

fn raw(path: &Path, allocation: Allocation, bytes: u64) -> anyhow::Result<()> {
    let made = match allocation {
        Allocation::Full => write_zeros(path, bytes),
        Allocation::Falloc => reserve(path, bytes),
        // A raw image has no metadata; settings that ask for some are refused before.
        Allocation::Sparse | Allocation::Metadata => {
            create(path).and_then(|file| file.set_len(bytes)).map_err(Into::into)
        }
    };
    made.with_context(|| format!("can't write the data disk {} of {bytes} bytes", path.display()))?;
    // 4 KiB blocks as on the host: mkfs takes 1 KiB on small disks. Tables and journal are written now, or the guest's
    // kernel would write them in the background of the first measurement. The rest is what mkfs does by default.
    let mut command = Command::new(mkfs()?);
    command
        .args(["-q", "-F"])
        .args(["-b", "4096"])
        .args(["-I", "256"])
        .args(["-N", "4096"])
        .args(["-m", "0"])
        .args(["-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"])
        .arg(path);
    run(command)
}

/// Takes over what is in a raw image; blocks of zeros stay unwritten unless the allocation says otherwise.
fn convert(from: &Path, to: &Path, allocation: Allocation) -> anyhow::Result<()> {
    let preallocation = match allocation {
        Allocation::Sparse => "off",
        Allocation::Metadata => "metadata",
        Allocation::Falloc => "falloc",
        Allocation::Full => "full",
    };
    let mut command = Command::new(
        process::find("qemu-img")
            .context("disk.format=qcow2 needs qemu-img; apt install qemu-utils, or set disk.format=raw")?,
    );
    command
        .arg("convert")
        .args(["-f", "raw"])
        .args(["-O", "qcow2"])
        .arg("-o")
        .arg(format!("preallocation={preallocation}"))
        .arg(from)
        .arg(to);
    run(command)
}

fn run(mut command: Command) -> anyhow::Result<()> {
    command.stdin(Stdio::null());
    log::debug!("run: {command:?}");
    let output = command.output().with_context(|| format!("can't start {:?}", command.get_program()))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("`{command:?}` failed ({}): {}", output.status, words.trim());
    }
    Ok(())
}

fn create(path: &Path) -> std::io::Result<File> {
    fresh(path)?.open(path)
}

/// Options for a new file in the place of whatever is there: a box may have left a link in the directory, and what that leads
/// to is not written.
fn fresh(path: &Path) -> std::io::Result<OpenOptions> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    Ok(options)
}

fn reserve(path: &Path, bytes: u64) -> anyhow::Result<()> {
    match fallocate(create(path)?, FallocateFlags::empty(), 0, bytes as libc::off_t) {
        Ok(()) => Ok(()),
        Err(Errno::EOPNOTSUPP) => {
            bail!("the file system can't reserve blocks (fallocate); set disk.allocation=full or sparse")
        }
        Err(e) => Err(e.into()),
    }
}

fn write_zeros(path: &Path, bytes: u64) -> anyhow::Result<()> {
    let direct = fresh(path)?.custom_flags(libc::O_DIRECT).open(path);
    // Some file systems refuse O_DIRECT, after they have made the file; the zeros then go through the page cache.
    let mut file = direct.or_else(|_| create(path))?;
    let buffer = Aligned::new();
    let mut left = bytes;
    while left > 0 {
        let length = left.min(CHUNK as u64) as usize;
        file.write_all(&buffer.bytes()[..length])?;
        left -= length as u64;
    }
    file.sync_all()?;
    Ok(())
}

/// Zeros at an address that O_DIRECT accepts.
struct Aligned(Vec<u8>);

impl Aligned {
    const ALIGNMENT: usize = 4096;

    fn new() -> Self {
        Self(vec![0; CHUNK + Self::ALIGNMENT])
    }

    fn bytes(&self) -> &[u8] {
        let skip = self.0.as_ptr().align_offset(Self::ALIGNMENT);
        &self.0[skip..skip + CHUNK]
    }
}

/// `mkfs.ext4`, which is in `/sbin`, and that is not on everyone's PATH.
///
/// # Errors
/// When it is nowhere.
pub fn mkfs() -> Result<PathBuf, Unavailable> {
    process::find("mkfs.ext4").ok_or_else(|| Unavailable {
        because: "there is no mkfs.ext4 to make the guest's data disk with; install e2fsprogs".into(),
        fix: "apt install e2fsprogs".into(),
        broken: false,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn an_image_is_fully_allocated_and_holds_an_ext4() {
        // Not in /tmp, which may be a tmpfs.
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a temporary directory");
        let path = folder.path().join("disk");
        make(&path, Format::Raw, Allocation::Full, 64 << 20).expect("an image");
        let metadata = path.metadata().expect("it is there");
        assert_eq!(metadata.len(), 64 << 20);
        assert!(metadata.blocks() * 512 >= 64 << 20, "{} blocks", metadata.blocks());
        let bytes = std::fs::read(&path).expect("readable");
        assert_eq!(bytes[1024 + 0x38..1024 + 0x3A], [0x53, 0xEF], "the magic number of ext4");
        assert_eq!(bytes[1024 + 0x18..1024 + 0x1C], [2, 0, 0, 0], "blocks of 1024 << 2 bytes");
    }

    #[test]
    fn an_image_is_never_written_through_a_link() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a temporary directory");
        let (letter, path) = (folder.path().join("letter"), folder.path().join("disk"));
        for allocation in [Allocation::Sparse, Allocation::Full] {
            fs::write(&letter, "keep me").expect("written");
            std::os::unix::fs::symlink(&letter, &path).expect("planted");
            make(&path, Format::Raw, allocation, 64 << 20).expect("an image in the link's place");
            assert_eq!(fs::read_to_string(&letter).expect("there"), "keep me");
            fs::remove_file(&path).expect("the image");
        }
    }

    /// Bytes that a file takes on the host's disk.
    fn taken(path: &Path) -> u64 {
        path.metadata().expect("it is there").blocks() * 512
    }

    #[test]
    fn a_file_takes_what_its_allocation_says() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a temporary directory");
        let of = |format, allocation| {
            let path = folder.path().join(format!("{format}-{allocation}"));
            make(&path, format, allocation, 64 << 20).expect("an image");
            taken(&path) >> 20
        };
        // The journal of a disk of this size is 4 MiB, and mkfs writes it; zeros are not taken over into a qcow2.
        assert!((1..32).contains(&of(Format::Raw, Allocation::Sparse)));
        assert!(of(Format::Raw, Allocation::Falloc) >= 64);
        if process::find("qemu-img").is_none() {
            eprintln!("SKIPPED: there is no qemu-img to make a qcow2 with; apt install qemu-utils");
            return;
        }
        let (sparse, metadata) = (of(Format::Qcow2, Allocation::Sparse), of(Format::Qcow2, Allocation::Metadata));
        assert!(sparse <= 8 && metadata <= 8, "{sparse} and {metadata} MiB");
        assert!(of(Format::Qcow2, Allocation::Falloc) >= 64 && of(Format::Qcow2, Allocation::Full) >= 64);
        let left: Vec<_> = fs::read_dir(folder.path()).expect("readable").flatten().map(|e| e.file_name()).collect();
        assert_eq!(left.len(), 6, "only the images are left: {left:?}");
    }
}
