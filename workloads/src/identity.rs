//! Who and where the agent is: what it says first, and the dearer facts it finds out when asked.
//!
//! A file of the kernel that isn't there is no error: sandboxes hide much, and what is hidden is `None`.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::content::hex;
use crate::inside::Inside;
use crate::mounts::Mount;
use crate::protocol::{Hello, Identity, PROTOCOL};
use crate::{hypervisor, mounts, sqlite, stopwatch};

/// Bit of the virtio block device's feature that says flushes are offered (VIRTIO_BLK_F_FLUSH, virtio 1.2, 5.2.3).
const VIRTIO_BLK_F_FLUSH: usize = 9;

/// Where Linux names the clock source it uses.
const CLOCK_SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/// How long a kernel may take to settle on a clock source. Linux compares the time stamp counter with another timer for a
/// second after boot, and begins again when it was disturbed (`tsc_refine_calibration_work`); until then it uses `tsc-early`.
const SETTLING: Duration = Duration::from_secs(10);

/// The agent's first words: only what costs next to nothing, because the time to them is the time to start.
pub fn hello() -> Hello {
    Hello {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").into(),
        kernel: nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned()).unwrap_or_default(),
        cpus: cpus(),
        memory_bytes: memory(),
        uid: nix::unistd::getuid().as_raw(),
        pid: std::process::id(),
    }
}

/// Finds out the rest.
///
/// # Errors
/// When the running binary can't be read: without its hash nothing measured here can be trusted.
pub fn identify(data: &Path) -> anyhow::Result<Identity> {
    // Before the clock is looked at: what it costs may change with its source.
    let clock_source = clock_source(Path::new(CLOCK_SOURCE));
    let clock = clock();
    let path = fs::canonicalize(data).unwrap_or_else(|_| data.to_path_buf());
    let mounts = mounts::all().unwrap_or_default();
    let mount = mounts::holding(&mounts, &path);
    let (file_system, device_name) = file_system_of(&path, mount);
    let device = device_name.as_deref();
    Ok(Identity {
        binary_sha256: binary()?,
        clock_source,
        clock_ns: clock.cost_ns,
        clock_step_ns: clock.step_ns,
        file_system,
        write_cache: device.and_then(|d| line(format!("/sys/class/block/{d}/queue/write_cache"))),
        virtio_flush: device.and_then(|d| flush_feature(&line(format!("/sys/class/block/{d}/device/features"))?)),
        device: device_name,
        hypervisor: hypervisor(),
        cpu_model: cpu_model(),
        // A container sees the host's.
        command_line: line("/proc/cmdline").filter(|line| line.contains("tarebench.")),
        sqlite: sqlite::version(),
        sqlite_options: sqlite::compile_options(),
        boot_id: boot_id(),
        inside: Inside::look(mount),
    })
}

/// The random number that Linux draws as it boots, which all its containers see.
pub fn boot_id() -> Option<String> {
    line("/proc/sys/kernel/random/boot_id")
}

/// A small text file without the white space around, where it can be read and says something.
fn line(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_string())
}

/// The clock source, once it is no longer a provisional one: a change in the middle of a burst would be taken for a jump.
fn clock_source(path: &Path) -> Option<String> {
    let until = Instant::now() + SETTLING;
    loop {
        let source = line(path)?;
        if !source.ends_with("-early") || Instant::now() >= until {
            return Some(source);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// CPUs that the agent may run on, by its affinity: a quota of CPU time is not a CPU less.
#[cfg(target_os = "linux")]
fn cpus() -> u32 {
    use nix::sched::{CpuSet, sched_getaffinity};
    let allowed = sched_getaffinity(nix::unistd::Pid::from_raw(0));
    let count = |set: CpuSet| (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).count() as u32;
    allowed.map_or_else(|_| parallelism(), count)
}

/// CPUs that the agent may run on.
#[cfg(not(target_os = "linux"))]
fn cpus() -> u32 {
    parallelism()
}

fn parallelism() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u32)
}

fn memory() -> u64 {
    let from_proc = || {
        let text = fs::read_to_string("/proc/meminfo").ok()?;
        let total = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
        total.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
    };
    // Where /proc isn't mounted, the C library still knows.
    from_proc().unwrap_or_else(|| {
        // SAFETY: sysconf takes a number and touches no memory of ours.
        let (pages, page) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
        u64::try_from(pages).unwrap_or(0) * u64::try_from(page).unwrap_or(0)
    })
}

fn binary() -> anyhow::Result<String> {
    // Without /proc, the name it was started by, which for our runners is a full path.
    let started_as = || std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let own = PathBuf::from("/proc/self/exe");
    let path = if own.exists() { own } else { std::env::current_exe().unwrap_or_else(|_| started_as()) };
    let what = || format!("can't read the agent's own binary at {}", path.display());
    let mut file = fs::File::open(&path).with_context(what)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(n) => hash.update(&buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e).with_context(what),
        }
    }
}

/// Cost and resolution of the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clock {
    /// Median cost of a reading, nanoseconds.
    pub cost_ns: f64,
    /// Smallest step between two different readings, nanoseconds.
    pub step_ns: u64,
}

/// Looks at the clock: the median over 15 batches of 64 readings, under a millisecond on hardware, 50 ms where one costs 50 us.
///
/// To be asked again near what it is held against: in a sandbox that has just started (gVisor, until it has calibrated its
/// vDSO) a reading was seen to cost 50 us, and 33 ns a few seconds later.
pub fn clock() -> Clock {
    const BATCHES: usize = 15;
    const READINGS: u32 = 64;
    let mut costs = [0.0; BATCHES];
    let mut step_ns = u64::MAX;
    for cost in &mut costs {
        let begun = stopwatch::now();
        let mut last = begun;
        for _ in 0..READINGS {
            let now = stopwatch::now();
            if now > last {
                step_ns = step_ns.min(now - last);
            }
            last = now;
        }
        *cost = last.saturating_sub(begun) as f64 / f64::from(READINGS);
    }
    costs.sort_by(f64::total_cmp);
    // A clock so coarse that it never moved in all that time: wait for it, but not for ever.
    let begun = stopwatch::now();
    let mut tries = 0;
    while step_ns == u64::MAX && tries < 100_000_000 {
        let now = stopwatch::now();
        if now > begun {
            step_ns = now - begun;
        }
        tries += 1;
    }
    Clock { cost_ns: costs[BATCHES / 2], step_ns }
}

/// Type and, where there is one, device of the file system that holds the data directory.
fn file_system_of(path: &Path, found: Option<&Mount>) -> (String, Option<String>) {
    let number = fs::metadata(path).ok().map(|m| m.dev());
    let file_system = found.map_or_else(|| by_magic(path), |mount| mount.file_system.clone());
    // The kernel's own number for the device is right even where the table names /dev/root or a path of another namespace.
    let device = number.and_then(device_by_number).or_else(|| {
        let name = found?.source.to_str()?.strip_prefix("/dev/")?;
        Path::new("/sys/class/block").join(name).exists().then(|| name.to_string())
    });
    (file_system, device)
}

/// The whole disk behind a device number, as `/sys` names it: `vda` also for a partition `vda1`.
fn device_by_number(number: u64) -> Option<String> {
    let number = number as libc::dev_t;
    let link = format!("/sys/dev/block/{}:{}", libc::major(number), libc::minor(number));
    let folder = fs::canonicalize(link).ok()?;
    let disk = if folder.join("partition").exists() { folder.parent()? } else { &folder };
    Some(disk.file_name()?.to_str()?.to_string())
}

/// The type of a file system where no mount table says it, by statfs's magic number (statfs(2)).
#[cfg(target_os = "linux")]
fn by_magic(path: &Path) -> String {
    let Ok(found) = nix::sys::statfs::statfs(path) else { return "unknown".into() };
    let magic = found.filesystem_type().0 as u32;
    let known: &[(u32, &str)] = &[
        (0xEF53, "ext4"),
        (0x0102_1994, "tmpfs"),
        (0x8584_58F6, "ramfs"),
        (0x794C_7630, "overlay"),
        (0x0102_1997, "9p"),
        (0x5846_5342, "xfs"),
        (0x9123_683E, "btrfs"),
        (0x2FC1_2FC1, "zfs"),
        (0x6573_5546, "fuse"),
        (0x6969, "nfs"),
        (0x00C0_FFEE, "hostfs"),
        (0x6A65_6A63, "virtiofs"),
    ];
    known.iter().find(|(m, _)| *m == magic).map_or_else(|| format!("{magic:#x}"), |(_, name)| name.to_string())
}

/// The type of a file system, as the kernel names it.
#[cfg(not(target_os = "linux"))]
fn by_magic(path: &Path) -> String {
    nix::sys::statfs::statfs(path).map_or_else(|_| "unknown".into(), |s| s.filesystem_type_name().to_string())
}

/// From `/sys/block/vda/device/features`: one digit per feature bit, the first is bit 0.
fn flush_feature(bits: &str) -> Option<bool> {
    match bits.as_bytes().get(VIRTIO_BLK_F_FLUSH)? {
        b'1' => Some(true),
        b'0' => Some(false),
        _ => None,
    }
}

/// A value of the first processor in /proc/cpuinfo.
fn cpuinfo(key: &str) -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let found = text.lines().find_map(|l| {
        let (name, value) = l.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_string())
    });
    found.filter(|v| !v.is_empty())
}

fn cpu_model() -> String {
    hypervisor::cpu_model(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default())
        .unwrap_or_else(|| std::env::consts::ARCH.into())
}

fn hypervisor() -> Option<String> {
    if cpuinfo("vendor_id").as_deref() == Some("User Mode Linux") {
        return Some("User Mode Linux".into());
    }
    let flagged = cpuinfo("flags").is_some_and(|flags| flags.split(' ').any(|f| f == "hypervisor"));
    let kind = line("/sys/hypervisor/type");
    let told = hypervisor::told_by_firmware(Path::new("/sys"));
    if !flagged && kind.is_none() && told.is_none() {
        return None;
    }
    let vendor = line("/sys/class/dmi/id/sys_vendor");
    let product = line("/sys/class/dmi/id/product_name");
    let said: Vec<String> = [hypervisor::signature(), kind, told, vendor, product].into_iter().flatten().collect();
    Some(if said.is_empty() { "hypervisor flag, no vendor".into() } else { said.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provisional_clock_source_is_waited_out() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("current_clocksource");
        assert_eq!(clock_source(&path), None, "hidden in some sandboxes");
        fs::write(&path, "tsc-early\n").expect("written");
        let began = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                fs::write(directory.path().join("next"), "tsc\n").expect("written");
                fs::rename(directory.path().join("next"), &path).expect("renamed");
            });
            assert_eq!(clock_source(&path).as_deref(), Some("tsc"));
        });
        assert!(began.elapsed() >= Duration::from_millis(50));
    }

    #[test]
    fn the_flush_bit_is_the_tenth_digit() {
        assert_eq!(flush_feature("0010101001110000"), Some(true));
        assert_eq!(flush_feature("0010101000110000"), Some(false));
        assert_eq!(flush_feature("001"), None);
    }

    #[test]
    fn this_machine_is_described() {
        let hello = hello();
        assert!(hello.cpus > 0 && hello.memory_bytes > 0 && !hello.kernel.is_empty(), "{hello:?}");
        let identity = identify(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("identified");
        assert_eq!(identity.binary_sha256.len(), 64);
        assert!(identity.clock_ns > 0.0 && identity.clock_step_ns < u64::MAX, "{identity:?}");
        assert!(identity.sqlite.starts_with("3."), "{identity:?}");
    }
}
