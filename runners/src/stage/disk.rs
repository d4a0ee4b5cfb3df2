//! The disk under a directory: file system, mount options, and the whole disk that takes the flushes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, bail};
use nix::sys::statvfs::statvfs;
use workloads::mounts;

/// Less than this is not enough for any suite, bytes.
const LEAST_FREE: u64 = 256 << 20;

/// Mount options with which a file system answers a flush and sends none: overlayfs's for containers that are thrown away, in
/// its older and its newer spelling, and those of file systems that are told to leave barriers out.
const FORGETFUL: &[&str] = &["volatile", "fsync=volatile", "nobarrier", "barrier=0", "barrier=none"];

/// Block devices that are made of memory, or of nothing, but for their number.
const IN_MEMORY: &[&str] = &["ram", "zram", "nullb"];

/// Loop devices on files on loop devices are looked through so far.
const DEEPEST: u32 = 4;

/// The file system under a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// `ext4`, `tmpfs`, ...
    pub file_system: String,
    /// Mount and file system options.
    pub options: String,
    /// Name of the whole disk below, where there is one: `vda` for a partition `vda1` or a mapping on it.
    pub device: Option<String>,
}

impl Disk {
    /// Looks under a path.
    ///
    /// # Errors
    /// When the path or the mount table can't be read.
    pub fn under(path: &Path) -> anyhow::Result<Self> {
        let path = path.canonicalize().with_context(|| format!("can't find {}", path.display()))?;
        if cfg!(not(target_os = "linux")) {
            return by_kernel(&path);
        }
        let mounts = mounts::all().context("can't read the mount table")?;
        let mount = mounts::holding(&mounts, &path).with_context(|| format!("no mount holds {}", path.display()))?;
        log::debug!("{} is below {}", path.display(), mount.point.display());
        let numbered = fs::canonicalize(format!("/sys/dev/block/{}", mount.number)).ok().and_then(|d| whole(&d));
        let device = numbered.or_else(|| by_source(Path::new(&mount.source)));
        Ok(Self { file_system: mount.file_system.clone(), options: mount.options.clone(), device })
    }

    /// Whether it is memory and not a disk.
    pub fn is_memory(&self) -> bool {
        matches!(self.file_system.as_str(), "tmpfs" | "ramfs" | "hugetlbfs")
    }

    /// Why nothing that is flushed here outlives a loss of power, whatever the file system answers; `None` where nothing says so.
    pub fn forgets(&self) -> Option<String> {
        self.forgets_within(DEEPEST)
    }

    fn forgets_within(&self, files_below: u32) -> Option<String> {
        let kind = &self.file_system;
        if self.is_memory() {
            return Some(format!("{kind} is memory"));
        }
        if let Some(option) = self.options.split(',').find(|o| FORGETFUL.contains(o)) {
            return Some(format!("{kind} is mounted `{option}`"));
        }
        let device = self.device.as_deref()?;
        if IN_MEMORY.iter().any(|name| device.strip_prefix(name).is_some_and(|n| n.parse::<u32>().is_ok())) {
            return Some(format!("{device} is memory"));
        }
        let file = self.attribute("loop/backing_file").filter(|_| files_below > 0)?;
        let below = Self::under(Path::new(&file)).ok()?.forgets_within(files_below - 1)?;
        Some(format!("{device} is the file {file}, and {below}"))
    }

    /// A file of the disk in /sys: `queue/write_cache`.
    pub fn attribute(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(Path::new("/sys/block").join(self.device.as_ref()?).join(name)).ok()?;
        Some(text.trim().to_string()).filter(|t| !t.is_empty())
    }
}

impl std::fmt::Display for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.device {
            Some(device) => write!(f, "{} on {device}", self.file_system),
            None => f.write_str(&self.file_system),
        }
    }
}

/// The disk that a file system names as its source. btrfs has a number of its own, which is no device's; of several devices it names
/// one. An overlay and a ZFS pool name none.
fn by_source(source: &Path) -> Option<String> {
    let device = source.starts_with("/dev").then(|| source.canonicalize().ok()).flatten()?;
    whole_named(device.file_name()?.to_str()?)
}

/// The kernel's answer, where there is no mount table to read.
#[cfg(not(target_os = "linux"))]
fn by_kernel(path: &Path) -> anyhow::Result<Disk> {
    let about = nix::sys::statfs::statfs(path).with_context(|| format!("can't look under {}", path.display()))?;
    let options = format!("{:?}", about.flags());
    Ok(Disk { file_system: about.filesystem_type_name().to_string(), options, device: None })
}

#[cfg(target_os = "linux")]
fn by_kernel(path: &Path) -> anyhow::Result<Disk> {
    bail!("no mount table holds {}", path.display())
}

/// The whole disk behind a block device of this name; `None` where there is none.
pub(crate) fn whole_named(name: &str) -> Option<String> {
    let plain = !name.is_empty() && !name.contains('/') && !name.starts_with('.');
    plain.then(|| fs::canonicalize(Path::new("/sys/class/block").join(name)).ok()).flatten().and_then(|d| whole(&d))
}

/// From a block device's directory in /sys to the name of the disk that does the work: up from a partition, down through
/// mappings and arrays with a single member.
fn whole(directory: &Path) -> Option<String> {
    let mut at = directory.to_path_buf();
    // A mapping on a mapping on a partition is three steps; a loop would be the kernel's mistake.
    for _ in 0..8 {
        if at.join("partition").exists() {
            at = at.parent()?.to_path_buf();
        }
        let below: Vec<_> = fs::read_dir(at.join("slaves")).into_iter().flatten().flatten().collect();
        match below.as_slice() {
            [one] => at = one.path().canonicalize().ok()?,
            _ => break,
        }
    }
    at.file_name()?.to_str().map(String::from)
}

/// Whether data may lie here: an existing, writable directory with room, on a disk.
///
/// # Errors
/// When it may not, with what to do; memory is refused unless `allow_memory`.
pub fn check_data_dir(path: &Path, allow_memory: bool) -> anyhow::Result<Disk> {
    let shown = path.display();
    let about = match fs::metadata(path) {
        Ok(about) => about,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            bail!("the data directory {shown} does not exist; make it, or give another with --data-dir")
        }
        Err(e) => {
            return Err(e).with_context(|| format!("can't look at the data directory {shown}; check who may enter it"));
        }
    };
    if !about.is_dir() {
        bail!("the data directory {shown} is not a directory; give another with --data-dir");
    }
    // Only a real file shows it: permissions say nothing about read-only mounts, quotas or root.
    tempfile::tempfile_in(path).with_context(|| {
        format!("can't write in the data directory {shown} (user id {}); give another with --data-dir", about.uid())
    })?;
    let disk = Disk::under(path)?;
    if disk.is_memory() && !allow_memory {
        bail!(
            "the data directory {shown} is on {}: memory, on which disk and durability figures mean nothing; give one on \
             a disk with --data-dir, or insist with --allow-memory",
            disk.file_system
        );
    }
    let free = free(path)?;
    if free < LEAST_FREE {
        bail!(
            "the data directory {shown} has {} left, at least {} are needed; make room, or give another with --data-dir",
            bytesize::ByteSize(free),
            bytesize::ByteSize(LEAST_FREE)
        );
    }
    Ok(disk)
}

fn free(path: &Path) -> anyhow::Result<u64> {
    let space = statvfs(path).with_context(|| format!("can't see how much room {} has", path.display()))?;
    Ok(space.blocks_available().saturating_mul(space.fragment_size()))
}

/// Refuses as many bytes of environments and their neighbours as would fill the disk for all: what either writes stays for a whole
/// block.
///
/// # Errors
/// When the data directory has no room for them, with what to set.
pub fn room_for_neighbours(path: &Path, bytes: u64) -> anyhow::Result<()> {
    let room = free(path)?.saturating_sub(LEAST_FREE);
    anyhow::ensure!(
        bytes <= room,
        "the environments and their neighbours up to this one would hold {} in {}, which has room for {}; set a smaller size, or give \
         another with --data-dir",
        bytesize::ByteSize(bytes),
        path.display(),
        bytesize::ByteSize(room)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_have_what_is_free_but_for_the_least() {
        let here = std::env::temp_dir();
        room_for_neighbours(&here, 0).expect("nothing fits anywhere");
        let error = room_for_neighbours(&here, 1 << 60).expect_err("no disk is so large").to_string();
        assert!(error.contains("1.0 EiB") && error.contains("--data-dir"), "{error}");
    }

    #[test]
    fn what_answers_a_flush_and_sends_none_is_known_by_its_options_and_its_device() {
        let forgets = |kind: &str, options: &str, device: Option<&str>| {
            Disk { file_system: kind.into(), options: options.into(), device: device.map(Into::into) }.forgets()
        };
        assert_eq!(forgets("ext4", "rw,relatime", Some("no such disk")), None);
        assert_eq!(forgets("overlay", "rw,lowerdir=/volatile,upperdir=/u", None), None);
        assert_eq!(
            forgets("overlay", "rw,upperdir=/u,volatile", None).as_deref(),
            Some("overlay is mounted `volatile`")
        );
        assert_eq!(
            forgets("overlay", "rw,fsync=volatile", None).as_deref(),
            Some("overlay is mounted `fsync=volatile`")
        );
        assert_eq!(forgets("ext4", "rw,nobarrier", Some("vda")).as_deref(), Some("ext4 is mounted `nobarrier`"));
        assert_eq!(forgets("tmpfs", "rw", None).as_deref(), Some("tmpfs is memory"));
        assert_eq!(forgets("ext4", "rw", Some("zram0")).as_deref(), Some("zram0 is memory"));
        assert_eq!(forgets("ext4", "rw", Some("ramses")), None);
    }

    /// Three kinds of ground that look like a disk, as they are met: a container's layer, a careless mount, an image in memory.
    #[test]
    #[cfg(target_os = "linux")]
    fn ground_that_forgets_is_known_where_it_is_mounted() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: only root can mount a file system");
            return;
        }
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["lower", "upper", "work", "overlay", "careless", "memory", "image"] {
            fs::create_dir(at(name)).unwrap();
        }
        let run = |words: &str| {
            let words = words.replace("{}", folder.path().to_str().unwrap());
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", &words]);
            crate::process::ask(shell)
        };
        let seen = |name: &str| Disk::under(&at(name)).unwrap().forgets();
        let cases = [
            (
                "overlay",
                "mount -t overlay overlay -o lowerdir={}/lower,upperdir={}/upper,workdir={}/work,volatile {}/overlay",
                "volatile`",
            ),
            (
                "careless",
                "truncate -s 8M {}/disk && mkfs.ext4 -q {}/disk && mount -o loop,nobarrier {}/disk {}/careless",
                "ext4 is mounted `nobarrier`",
            ),
            (
                "image",
                "mount -t tmpfs tmpfs {}/memory && truncate -s 8M {}/memory/disk && mkfs.ext4 -q {}/memory/disk && mount -o loop {}/memory/disk {}/image",
                "/memory/disk, and tmpfs is memory",
            ),
        ];
        let mut wrong = Vec::new();
        for (name, mount, words) in cases {
            // Before it is mounted the directory is on the disk that the test runs on.
            let before = seen(name);
            match run(mount) {
                Err(why) => eprintln!("SKIPPED: {name} can't be mounted here: {why}"),
                Ok(_) if seen(name).is_some_and(|why| why.contains(words)) => {}
                Ok(_) => wrong.push((name, before, seen(name))),
            }
        }
        for name in ["image", "memory", "careless", "overlay"] {
            // Where it was not mounted there is nothing to unmount.
            let _ = run(&format!("umount {{}}/{name}"));
        }
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_system_without_a_number_of_its_disk_names_it_as_its_source() {
        let disks = fs::read_dir("/sys/block").expect("readable").flatten();
        let mut disks = disks.filter_map(|disk| disk.file_name().into_string().ok());
        let Some(disk) = disks.find(|disk| Path::new("/dev").join(disk).exists()) else {
            eprintln!("SKIPPED: there is no disk here");
            return;
        };
        assert_eq!(by_source(&Path::new("/dev").join(&disk)), Some(disk));
        for source in ["overlay", "tank/data", "/dev", "/dev/null", "/etc/passwd", "none", ""] {
            assert_eq!(by_source(Path::new(source)), None, "{source}");
        }
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let missing = check_data_dir(&dir.path().join("x"), false).unwrap_err().to_string();
        assert!(missing.contains("does not exist") && missing.contains("--data-dir"), "{missing}");
        let file = dir.path().join("f");
        fs::write(&file, "").unwrap();
        assert!(check_data_dir(&file, false).unwrap_err().to_string().contains("not a directory"));
        if Disk::under(Path::new("/dev/shm")).is_ok_and(|d| d.is_memory()) {
            assert!(check_data_dir(Path::new("/dev/shm"), false).unwrap_err().to_string().contains("memory"));
        }
    }
}
