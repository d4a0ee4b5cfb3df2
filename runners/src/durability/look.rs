//! Looking for what a writer left: in directories, and in the disk images of guests that are found there.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, anyhow, bail};
use workloads::durability::{Found, Way, read_back};

use super::device::Folder;
use crate::process;

/// An image in an image is as deep as it goes.
const DEEPEST: u32 = 2;

/// Smaller files are no disk of a guest, bytes.
const LEAST: u64 = 1 << 20;

/// All that was seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// What is left of the items; `None` where there is nothing of their writer.
    pub(crate) found: Option<Found>,
    /// What is the matter with a file system: the kernel can't mount it, or e2fsck finds fault with it.
    pub(crate) unclean: Option<String>,
}

/// Mounts the ext4 in an image, which replays its journal, looks in it, and has e2fsck look at it afterwards.
///
/// # Errors
/// When it can't be looked at; what is broken in it is a finding.
pub(crate) fn in_image(image: &Path, way: Way, folder: &Folder, depth: u32) -> anyhow::Result<Seen> {
    let mounted = match folder.mount(image, &format!("look{depth}"))? {
        Ok(mounted) => mounted,
        Err(words) => return Ok(Seen { found: None, unclean: Some(words) }),
    };
    let mut seen = in_directories(&[mounted.point()], way, folder, depth)?;
    drop(mounted);
    let mut check = super::program("e2fsck");
    check.arg("-fn").arg(image);
    if let Err(words) = process::ask(check) {
        log::debug!("{}: {words}", image.display());
        seen.unclean.get_or_insert(words);
    }
    Ok(seen)
}

/// Looks for the writer's directory, wherever a box has put it, and where there is none in all images of disks.
///
/// # Errors
/// See [`in_image`].
pub(crate) fn in_directories(places: &[&Path], way: Way, folder: &Folder, depth: u32) -> anyhow::Result<Seen> {
    let (mut directory, mut images) = (None, Vec::new());
    for place in places {
        walk(place, &way.directory(), &mut directory, &mut images);
    }
    if let Some(directory) = directory {
        let broken = |e: anyhow::Error| Found { corrupt: Some(format!("{e:#}")), ..Found::default() };
        return Ok(Seen { found: Some(read_back(way, &directory).unwrap_or_else(broken)), unclean: None });
    }
    let mut seen = Seen::default();
    for (image, format) in images.into_iter().filter(|_| depth < DEEPEST) {
        let image = match format {
            Format::Raw => image,
            Format::Qcow2 => match converted(&image, folder)? {
                Ok(raw) => raw,
                Err(words) => return Ok(Seen { found: None, unclean: Some(words) }),
            },
            Format::Cow => bail!(
                "{} is a copy-on-write file of User-mode Linux, which can't be read from outside; prove data=ubd or data=ubd-sync",
                image.display()
            ),
        };
        let inside = in_image(&image, way, folder, depth + 1)?;
        seen.unclean = seen.unclean.or(inside.unclean);
        if inside.found.is_some() {
            return Ok(Seen { found: inside.found, ..seen });
        }
    }
    Ok(seen)
}

/// The formats that guests' disks have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Raw,
    Qcow2,
    Cow,
}

/// Notes the first directory of this name, and every file that looks like a disk. What can't be read on a broken file system is
/// as good as missing.
fn walk(place: &Path, name: &str, directory: &mut Option<PathBuf>, images: &mut Vec<(PathBuf, Format)>) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
        if kind.is_dir() && entry.file_name() == name {
            directory.get_or_insert(path);
        } else if kind.is_dir() {
            walk(&path, name, directory, images);
        } else if kind.is_file()
            && let Some(format) = format_of(&path)
        {
            images.push((path, format));
        }
    }
}

fn format_of(path: &Path) -> Option<Format> {
    if path.metadata().ok()?.len() < LEAST && path.extension()? != "qcow2" {
        return None;
    }
    let file = File::open(path).ok()?;
    let mut magic = [0; 4];
    file.read_exact_at(&mut magic, 0).ok()?;
    match &magic {
        b"QFI\xfb" => return Some(Format::Qcow2),
        b"MOOO" | b"OOOM" => return Some(Format::Cow),
        _ => {}
    }
    // ext4's, in its superblock.
    file.read_exact_at(&mut magic[..2], 1080).ok()?;
    (magic[..2] == [0x53, 0xef]).then_some(Format::Raw)
}

/// The same disk without a format; its words where qemu-img can't make sense of it.
fn converted(image: &Path, folder: &Folder) -> anyhow::Result<Result<PathBuf, String>> {
    process::require("qemu-img", "qemu-utils").map_err(|no| anyhow!("{no}; to change that: {}", no.fix))?;
    let raw = folder.at("converted.img");
    // A loop device that is still there must not be taken for that of the new one.
    if let Err(e) = fs::remove_file(&raw)
        && e.kind() != std::io::ErrorKind::NotFound
    {
        return Err(e).with_context(|| format!("can't remove {}", raw.display()));
    }
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-f", "qcow2", "-O", "raw"]).arg(image).arg(&raw);
    Ok(process::ask(convert).map(|_| raw))
}
