//! The data disk of a guest: a raw image with an ext4 in it, made without mounting anything.

use crate::engine;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

const CHUNK: usize = 4 << 20;

/// Writes an image of `bytes` bytes at `path` with an empty ext4 in it.
///
/// Every block is written once before anything is measured. A sparse or merely allocated file would make the guest's first
/// write to each block change the host's metadata too, and its first flushes pay for that; a disk or a logical volume has
/// no such first time. 512 MiB of zeros take about 0.2 s on a fast disk, once per run.
///
/// # Errors
/// When the disk is full, or there is no `mkfs.ext4`.
pub fn make(path: &Path, bytes: u64) -> anyhow::Result<()> {
    write_zeros(path, bytes)
        .with_context(|| format!("can't write the data disk {} of {bytes} bytes", path.display()))?;
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
        .arg(path)
        .stdin(Stdio::null());
    log::debug!("run: {command:?}");
    let output = command.output().with_context(|| format!("can't start {:?}", command.get_program()))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("mkfs.ext4 on {} failed ({}): {}", path.display(), output.status, words.trim());
    }
    // What mkfs left in the host's page cache must not be written back later, beside a measurement.
    File::open(path)?.sync_all().with_context(|| format!("can't sync {}", path.display()))
}

fn write_zeros(path: &Path, bytes: u64) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let direct = options.clone().custom_flags(libc::O_DIRECT).open(path);
    // Some file systems refuse O_DIRECT; the zeros then go through the page cache.
    let mut file = direct.or_else(|_| options.open(path))?;
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
pub fn mkfs() -> anyhow::Result<PathBuf> {
    engine::find("mkfs.ext4").context("there is no mkfs.ext4 to make the guest's data disk with; install e2fsprogs")
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
        make(&path, 64 << 20).expect("an image");
        let metadata = path.metadata().expect("it is there");
        assert_eq!(metadata.len(), 64 << 20);
        assert!(metadata.blocks() * 512 >= 64 << 20, "{} blocks", metadata.blocks());
        let bytes = std::fs::read(&path).expect("readable");
        assert_eq!(bytes[1024 + 0x38..1024 + 0x3A], [0x53, 0xEF], "the magic number of ext4");
        assert_eq!(bytes[1024 + 0x18..1024 + 0x1C], [2, 0, 0, 0], "blocks of 1024 << 2 bytes");
    }
}
