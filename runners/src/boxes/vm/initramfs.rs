//! The files that a guest boots from: the unpacked kernel, and an initramfs made of our own binary and the modules it loads.
//! Built once per run and shared by all stages, so that a start costs only the monitor's start.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cpio::newc::{Builder, ModeFileType, trailer};
use workloads::init::{MODULE_ORDER, MODULES};

use super::kernel::{self, Kernel};

/// The two files that a monitor is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// The kernel; unpacked where it could be.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
}

/// The files in `folder` for this kernel; made when first asked for. The folder is removed with its parent, the run's scratch.
///
/// # Errors
/// When something can't be read or written, or a module can't be unpacked.
pub fn make(folder: &Path, kernel: &Kernel, drivers: &[&str], binary: &Path) -> anyhow::Result<Boot> {
    let boot = Boot { kernel: folder.join("kernel"), initramfs: folder.join("initramfs") };
    if folder.exists() {
        return Ok(boot);
    }
    // Under another name until complete: an interrupted build must not look finished.
    let parent = folder.parent().with_context(|| format!("{} has no parent", folder.display()))?;
    let unfinished = tempfile::Builder::new()
        .prefix("guest-")
        .tempdir_in(parent)
        .with_context(|| format!("can't make a folder for the guest's files in {}", parent.display()))?;
    let image = fs::read(&kernel.path).with_context(|| format!("can't read the kernel {}", kernel.path.display()))?;
    let image = kernel::unwrapped(&image);
    let image = kernel::unpack(&image).unwrap_or_else(|| image.into_owned());
    fs::write(unfinished.path().join("kernel"), image).context("can't write the guest's kernel")?;
    write_archive(&unfinished.path().join("initramfs"), &kernel.modules(drivers)?, binary)
        .context("can't write the guest's initramfs")?;
    fs::rename(unfinished.keep(), folder).with_context(|| format!("can't make {}", folder.display()))?;
    Ok(boot)
}

fn write_archive(path: &Path, modules: &[PathBuf], binary: &Path) -> anyhow::Result<()> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("can't read {}", path.display()));
    let modules_below = MODULES.trim_start_matches('/');
    let mut order = String::new();
    let mut out = Archive { out: BufWriter::new(File::create(path)?), entries: 0 };
    out.file("init", 0o755, &read(binary)?)?;
    out.directory(modules_below)?;
    for module in modules {
        let (name, bytes) = unpack_module(module, read(module)?)?;
        out.file(&format!("{modules_below}/{name}"), 0o644, &bytes)?;
        order += &format!("{name}\n");
    }
    out.file(&format!("{modules_below}/{MODULE_ORDER}"), 0o644, order.as_bytes())?;
    trailer(&mut out.out)?;
    out.out.flush()?;
    Ok(())
}

/// Name and content as the guest loads it. The host unpacks: kernels before 5.17 can't, and emulated unpacking is slow.
fn unpack_module(path: &Path, bytes: Vec<u8>) -> anyhow::Result<(String, Vec<u8>)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (stem, program) = match name.rsplit_once('.') {
        Some((stem, "xz")) => (stem, "xz"),
        Some((stem, "zst")) => (stem, "zstd"),
        Some((stem, "gz")) => (stem, "gzip"),
        Some((_, "ko")) => return Ok((name, bytes)),
        _ => bail!("{} is no kernel module", path.display()),
    };
    match kernel::unpack_by(program, &bytes) {
        Some(unpacked) => Ok((stem.to_string(), unpacked)),
        None => {
            log::debug!("{} goes to the guest packed", path.display());
            Ok((name, bytes))
        }
    }
}

/// A newc archive, the one format that kernels unpack.
struct Archive {
    out: BufWriter<File>,
    entries: u32,
}

impl Archive {
    fn file(&mut self, name: &str, mode: u32, bytes: &[u8]) -> anyhow::Result<()> {
        self.entry(name, mode, ModeFileType::Regular, bytes)
    }

    fn directory(&mut self, name: &str) -> anyhow::Result<()> {
        self.entry(name, 0o755, ModeFileType::Directory, &[])
    }

    fn entry(&mut self, name: &str, mode: u32, kind: ModeFileType, bytes: &[u8]) -> anyhow::Result<()> {
        self.entries += 1;
        let size = u32::try_from(bytes.len()).with_context(|| format!("{name} is too large for an initramfs"))?;
        let header = Builder::new(name).ino(self.entries).mode(mode).set_mode_file_type(kind);
        let mut writer = header.write(&mut self.out, size);
        writer.write_all(bytes)?;
        writer.finish()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_holds_the_binary_and_the_modules_in_order() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| folder.path().join(name);
        for (name, text) in [("binary", "me"), ("b.ko", "bee"), ("a.ko", "ay")] {
            fs::write(at(name), text).expect("written");
        }
        write_archive(&at("out"), &[at("b.ko"), at("a.ko")], &at("binary")).expect("an archive");
        let mut file = File::open(at("out")).expect("it is there");
        let mut seen = Vec::new();
        loop {
            let mut reader = cpio::newc::Reader::new(file).expect("a header");
            if reader.entry().is_trailer() {
                break;
            }
            let mut text = String::new();
            std::io::Read::read_to_string(&mut reader, &mut text).expect("content");
            seen.push((reader.entry().name().to_string(), reader.entry().mode(), text));
            file = reader.finish().expect("an end");
        }
        let expected = [
            ("init", 0o100_755, "me"),
            ("modules", 0o040_755, ""),
            ("modules/b.ko", 0o100_644, "bee"),
            ("modules/a.ko", 0o100_644, "ay"),
            ("modules/order", 0o100_644, "b.ko\na.ko\n"),
        ];
        assert_eq!(seen, expected.map(|(n, m, t)| (n.to_string(), m, t.to_string())));
    }
}
