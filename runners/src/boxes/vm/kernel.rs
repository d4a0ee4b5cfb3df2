//! The guest's kernel: found among those that the host or its distribution has installed, with the modules that the guest
//! needs, and unpacked where that is possible.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use super::arch::Arch;

/// Where distributions keep kernels: Debian and Ubuntu in `/boot`, Fedora and Arch beside the modules.
const PLACES: &[(&str, &str)] = &[("/boot", "vmlinuz"), ("/lib/modules", "vmlinuz"), ("/usr/lib/modules", "vmlinuz")];

/// Where modules are, one folder per kernel.
const MODULE_PLACES: &[&str] = &["/lib/modules", "/usr/lib/modules"];

/// A kernel that can be booted, with the folder of its modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// A bzImage, an Image or an ELF file.
    pub path: PathBuf,
    /// `uname -r` of it.
    pub release: String,
    /// `modules.dep` is in here; `None` where the kernel came without modules.
    pub modules: Option<PathBuf>,
}

impl Kernel {
    /// The kernel at `path`.
    ///
    /// # Errors
    /// When it can't be read, or is no Linux kernel for this machine.
    pub fn at(path: &Path) -> anyhow::Result<Self> {
        let image = fs::read(path).with_context(|| format!("can't read the kernel {}", path.display()))?;
        let image = unwrapped(&image);
        if let Some(other) = Arch::of_kernel(&image).filter(|arch| *arch != Arch::HERE) {
            bail!(
                "{} is a kernel for {other}, and a guest here is {}; give one for {1}, or none for the best that is installed",
                path.display(),
                Arch::HERE
            );
        }
        let release = release(&image).with_context(|| {
            format!(
                "{} is not a Linux kernel: neither a bzImage, an Image nor an ELF file that names its version",
                path.display()
            )
        })?;
        let modules =
            MODULE_PLACES.iter().map(|p| Path::new(p).join(&release)).find(|p| p.join("modules.dep").exists());
        Ok(Self { path: path.to_path_buf(), release, modules })
    }

    /// The best of the installed kernels that have every driver in `needed`: one made for clouds before others, because it
    /// boots in half the time; then the one that the host runs; then the newest.
    ///
    /// # Errors
    /// When there is none, with what was looked at and why each was no good.
    pub fn find(running: &str, needed: &[&str]) -> Result<Self, String> {
        let mut rejected = Vec::new();
        let mut good = Vec::new();
        for path in installed() {
            let verdict = Self::at(&path).and_then(|kernel| kernel.modules(needed).map(|_| kernel));
            match verdict {
                Ok(kernel) => good.push(kernel),
                Err(e) => rejected.push(format!("{}: {e:#}", path.display())),
            }
        }
        good.sort_by_key(|k| rank(&k.release, running));
        good.pop().ok_or_else(|| {
            let places = PLACES.iter().map(|(p, _)| *p).collect::<Vec<_>>().join(", ");
            match rejected.is_empty() {
                true => format!("no kernel for the guest: there is no vmlinuz in {places}"),
                false => format!("no kernel for the guest: {}", rejected.join("; ")),
            }
        })
    }

    /// Files of the modules that bring `needed`, dependencies first. What is built in needs none.
    ///
    /// # Errors
    /// When a driver is neither built in nor a module.
    pub fn modules(&self, needed: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
        // Without a module tree all may be built in: a kernel someone made for the purpose. The guest says what it lacks.
        let Some(folder) = &self.modules else { return Ok(Vec::new()) };
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))
        };
        let ordered = order(&read("modules.dep")?, &read("modules.builtin")?, needed)
            .with_context(|| format!("the kernel {} can't be the guest's", self.release))?;
        Ok(ordered.into_iter().map(|file| folder.join(file)).collect())
    }
}

fn installed() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (place, stem) in PLACES {
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            let beside_modules = entry.path().join(stem);
            if beside_modules.is_file() {
                found.push(beside_modules);
            } else if entry.file_name().to_string_lossy().starts_with(stem) && !entry.path().is_dir() {
                found.push(entry.path());
            }
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|path| seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())));
    found
}

/// Sorts kernels; the greatest is taken. Numbers in a release compare as numbers: 6.10 is after 6.9.
fn rank(release: &str, running: &str) -> (bool, bool, Vec<u64>) {
    let cloud = ["cloud", "-kvm", "-virtual"].iter().any(|word| release.contains(word));
    let numbers = release.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    (cloud, release == running, numbers)
}

/// The release (`uname -r`), from a bzImage's header or from the banner in an Image or an ELF file.
fn release(image: &[u8]) -> Option<String> {
    let text = if image.get(0x202..0x206) == Some(b"HdrS") {
        // Documentation/x86/boot.rst: `kernel_version` points, less 0x200, at a string that starts with the release.
        let offset = usize::from(u16::from_le_bytes(image.get(0x20E..0x210)?.try_into().ok()?)) + 0x200;
        image.get(offset..)?
    } else if image.starts_with(b"\x7fELF") || Arch::of_kernel(image).is_some() {
        const BANNER: &[u8] = b"Linux version ";
        let at = image.windows(BANNER.len()).position(|w| w == BANNER)?;
        &image[at + BANNER.len()..]
    } else {
        return None;
    };
    let word = text.iter().take(128).take_while(|b| b.is_ascii_graphic()).map(|b| char::from(*b)).collect::<String>();
    (!word.is_empty()).then_some(word)
}

/// Paths below the module folder, in the order in which they can be loaded.
fn order(dep: &str, builtin: &str, needed: &[&str]) -> anyhow::Result<Vec<String>> {
    let name_of = |path: &str| {
        let file = path.rsplit('/').next().unwrap_or(path);
        file.split(".ko").next().unwrap_or(file).replace('-', "_")
    };
    let mut files = BTreeMap::new();
    for line in dep.lines() {
        if let Some((file, before)) = line.split_once(':') {
            files.insert(name_of(file), (file, before));
        }
    }
    let built_in: Vec<String> = builtin.lines().map(name_of).collect();
    let mut order: Vec<String> = Vec::new();
    for name in needed {
        match files.get(&name.replace('-', "_")) {
            // modules.dep lists dependencies in the reverse of the order of loading.
            Some((file, before)) => {
                for one in before.split_whitespace().rev().chain([*file]) {
                    if !order.iter().any(|o| o == one) {
                        order.push(one.to_string());
                    }
                }
            }
            None if built_in.iter().any(|b| *b == name.replace('-', "_")) => {}
            None => bail!("it has no `{name}`, neither built in nor as a module"),
        }
    }
    Ok(order)
}

/// The image in what only packs it: gzip, as Ubuntu does on Arm, or the format by which UEFI starts a packed kernel. Others are
/// as they were; so is a bzImage, which unpacks itself.
pub fn unwrapped(image: &[u8]) -> Cow<'_, [u8]> {
    let inner = if image.starts_with(&[0x1F, 0x8B]) { unpack_by("gzip", image) } else { zboot(image) };
    inner.map_or(Cow::Borrowed(image), Cow::Owned)
}

/// `drivers/firmware/efi/libstub/zboot-header.S`: where the payload begins, how long it is, and what has packed it.
fn zboot(image: &[u8]) -> Option<Vec<u8>> {
    if image.get(..2)? != b"MZ" || image.get(4..8)? != b"zimg" {
        return None;
    }
    let word = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?) as usize);
    let (start, length) = (word(8)?, word(12)?);
    let payload = image.get(start..start.checked_add(length)?)?;
    // The names are those of the kernel's build: `zstd22` is zstd at its level 22, `xzkern` is xz.
    let name = image.get(24..0x38)?;
    let program = ["gzip", "zstd", "xz"].into_iter().find(|program| name.starts_with(program.as_bytes()))?;
    unpack_by(program, payload)
}

/// The ELF file inside a bzImage, where QEMU can enter it directly (PVH): the guest then doesn't have to unpack itself,
/// which under emulation takes half a second. `None` where it has to be booted as it is.
pub fn unpack(image: &[u8]) -> Option<Vec<u8>> {
    if image.starts_with(b"\x7fELF") {
        return Some(image.to_vec());
    }
    let word = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?) as usize);
    // Protocol 2.08 brought payload_offset and payload_length (Documentation/x86/boot.rst).
    if image.get(0x202..0x206)? != b"HdrS" || u16::from_le_bytes(image.get(0x206..0x208)?.try_into().ok()?) < 0x208 {
        return None;
    }
    let setup_sectors = match image[0x1F1] {
        0 => 4,
        n => usize::from(n),
    };
    let start = (setup_sectors + 1) * 512 + word(0x248)?;
    // The build appends the unpacked size to what the compressor wrote.
    let payload = image.get(start..start.checked_add(word(0x24C)?)?)?;
    let (payload, size) = payload.split_at(payload.len().checked_sub(4)?);
    let size = u32::from_le_bytes(size.try_into().ok()?) as usize;
    let elf = match payload.get(..4)? {
        [0x02, 0x21, 0x4C, 0x18] => unpack_lz4(&payload[4..], size)?,
        [0x28, 0xB5, 0x2F, 0xFD] => unpack_by("zstd", payload)?,
        [0xFD, b'7', b'z', b'X'] => unpack_by("xz", payload)?,
        [0x1F, 0x8B, ..] => unpack_by("gzip", payload)?,
        magic => {
            log::debug!("kernel payload starts with {magic:02x?}, which we can't unpack");
            return None;
        }
    };
    has_pvh_entry(&elf).then_some(elf)
}

/// The legacy frames of lz4: blocks of at most 8 MiB unpacked, each after its packed size.
fn unpack_lz4(mut packed: &[u8], size: usize) -> Option<Vec<u8>> {
    const BLOCK: usize = 8 << 20;
    if size > 1 << 30 {
        return None;
    }
    let mut out = vec![0; size];
    let mut done = 0;
    while packed.len() > 4 && done < size {
        let (head, rest) = packed.split_at(4);
        let length = u32::from_le_bytes(head.try_into().ok()?) as usize;
        let end = size.min(done + BLOCK);
        done += lz4_flex::block::decompress_into(rest.get(..length)?, &mut out[done..end]).ok()?;
        packed = &rest[length..];
    }
    (done == size).then_some(out)
}

/// Unpacks with the program of that name; distributions that pack kernels so have it installed for their own initramfs.
pub(super) fn unpack_by(program: &str, packed: &[u8]) -> Option<Vec<u8>> {
    let attempt = || -> anyhow::Result<Vec<u8>> {
        let mut file = tempfile::tempfile()?;
        std::io::Write::write_all(&mut file, packed)?;
        std::io::Seek::rewind(&mut file)?;
        let output = Command::new(program).arg("-dc").stdin(file).output()?;
        if !output.status.success() {
            bail!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(output.stdout)
    };
    attempt().map_err(|e| log::debug!("can't unpack with {program}: {e:#}")).ok()
}

/// Whether an ELF file has the note by which QEMU finds its 32-bit entry (`XEN_ELFNOTE_PHYS32_ENTRY`).
fn has_pvh_entry(elf: &[u8]) -> bool {
    let number = |at: usize, bytes: usize| -> Option<usize> {
        let slice = elf.get(at..at.checked_add(bytes)?)?;
        Some(slice.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    };
    let search = || -> Option<bool> {
        // ELF64, little endian: e_phoff, e_phentsize, e_phnum; p_type, p_offset, p_filesz.
        let (table, each, count) = (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?);
        for header in (0..count).map(|i| table + i * each) {
            const PT_NOTE: usize = 4;
            if number(header, 4)? != PT_NOTE {
                continue;
            }
            let mut at = number(header + 8, 8)?;
            let end = at + number(header + 32, 8)?;
            while at + 12 <= end {
                let (name, data, kind) = (number(at, 4)?, number(at + 4, 4)?, number(at + 8, 4)?);
                if kind == 18 && elf.get(at + 12..at + 15) == Some(b"Xen") {
                    return Some(true);
                }
                at += 12 + name.next_multiple_of(4) + data.next_multiple_of(4);
            }
        }
        Some(false)
    };
    elf.starts_with(b"\x7fELF") && search().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::super::arch::tests::header;
    use super::*;

    const DEP: &str = "kernel/a/virtio-ring.ko.zst:\n\
        kernel/a/virtio.ko.zst: kernel/a/virtio-ring.ko.zst\n\
        kernel/b/virtio_blk.ko.zst: kernel/a/virtio.ko.zst kernel/a/virtio-ring.ko.zst\n";

    #[test]
    fn modules_come_after_what_they_depend_on_and_only_once() {
        let order = order(DEP, "kernel/fs/ext4/ext4.ko\n", &["virtio_blk", "ext4", "virtio"]).expect("all there");
        assert_eq!(order, ["kernel/a/virtio-ring.ko.zst", "kernel/a/virtio.ko.zst", "kernel/b/virtio_blk.ko.zst"]);
    }

    #[test]
    fn a_missing_driver_is_named() {
        let e = order(DEP, "", &["virtio_blk", "ahci"]).expect_err("no ahci");
        assert!(e.to_string().contains("`ahci`"), "{e}");
    }

    #[test]
    fn cloud_kernels_come_first_then_the_running_one_then_the_newest() {
        let mut all = ["6.9.0-generic", "6.1.0-cloud", "5.10.0-generic", "6.10.0-generic", "6.1.0-9-cloud"];
        all.sort_by_key(|r| rank(r, "5.10.0-generic"));
        assert_eq!(all, ["6.9.0-generic", "6.10.0-generic", "5.10.0-generic", "6.1.0-cloud", "6.1.0-9-cloud"]);
    }

    #[test]
    fn garbage_is_no_kernel() {
        for garbage in [&b""[..], b"\x7fELF", &[0; 0x300], b"#!/bin/sh\n"] {
            assert_eq!(release(garbage), None);
            assert!(unpack(garbage).is_none_or(|elf| !has_pvh_entry(&elf)));
        }
    }

    #[test]
    fn a_kernel_for_another_machine_is_refused_with_both_named() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("Image");
        let with_banner = |arch| [&header(arch)[..], b"Linux version 6.12.9-arm64 (maker)"].concat();
        for arch in [Arch::X86, Arch::Arm, Arch::RiscV].into_iter().filter(|arch| *arch != Arch::HERE) {
            fs::write(&path, with_banner(arch)).expect("written");
            let error = Kernel::at(&path).expect_err("of another machine").to_string();
            let words = format!("is a kernel for {arch}, and a guest here is {}", Arch::HERE);
            assert!(error.contains(&words), "{error}");
        }
        assert_eq!(release(&with_banner(Arch::Arm)).as_deref(), Some("6.12.9-arm64"));
    }

    #[test]
    fn an_image_is_found_in_what_packs_it() {
        let image = [&header(Arch::Arm)[..], b"Linux version 6.12.9-arm64 (maker)"].concat();
        let mut gzip = Command::new("gzip");
        let folder = tempfile::tempdir().expect("a directory");
        fs::write(folder.path().join("plain"), &image).expect("written");
        let packed = gzip.arg("-c").arg(folder.path().join("plain")).output().expect("gzip runs").stdout;
        assert!(packed.starts_with(&[0x1F, 0x8B]), "it is packed");
        assert_eq!(unwrapped(&packed), image);
        let mut zboot = [&b"MZ\0\0zimg"[..], &64u32.to_le_bytes(), &(packed.len() as u32).to_le_bytes()].concat();
        zboot.resize(24, 0);
        zboot.extend(b"gzip");
        zboot.resize(64, 0);
        zboot.extend(&packed);
        assert_eq!(unwrapped(&zboot), image);
        assert_eq!(unwrapped(&zboot[..zboot.len() - 1]), &zboot[..zboot.len() - 1], "cut short: as it was");
        assert_eq!(unwrapped(&image), image);
    }

    #[test]
    fn lz4_legacy_frames_are_unpacked_block_by_block() {
        let text: Vec<u8> = (0..9_000_000_u32).map(|i| (i / 1000) as u8).collect();
        let mut packed = Vec::new();
        for block in text.chunks(8 << 20) {
            let bytes = lz4_flex::block::compress(block);
            packed.extend((bytes.len() as u32).to_le_bytes());
            packed.extend(bytes);
        }
        assert!(unpack_lz4(&packed, text.len()).expect("well formed") == text);
        assert!(unpack_lz4(&packed[..packed.len() - 1], text.len()).is_none());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..2048)) {
            let _ = (release(&bytes), unpack(&bytes), has_pvh_entry(&bytes), zboot(&bytes));
            if bytes.len() > 0x210 {
                bytes[0x202..0x206].copy_from_slice(b"HdrS");
                let _ = (release(&bytes), unpack(&bytes));
                bytes[..4].copy_from_slice(b"\x7fELF");
                let _ = (release(&bytes), has_pvh_entry(&bytes));
            }
        }
    }
}
