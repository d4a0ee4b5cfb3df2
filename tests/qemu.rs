//! The VM for real: it boots, answers, makes the host's disk durable, and leaves nothing behind, however it ends.

#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{shared, work};
use runners::boxes::vm::qemu::Qemu;
use runners::host::{Host, Resources};
use runners::session::{Session, SessionError};
use runners::stage::Stage;
use runners::stage::peer::PeerProcess;
use runners::stage::shared::Shared;
use runners::{Network, Runner};
use workloads::protocol::{BurstPlan, Task};
use workloads::settings::{Kind, Settings};

/// Generous: CI machines are slow and shared. What a start takes is printed, and measured elsewhere.
const PATIENCE: Duration = Duration::from_secs(120);

/// A host and a stage that are gone with the test.
struct Scene {
    // Dropped in this order.
    stage: Stage,
    shared: Arc<Shared>,
    data: tempfile::TempDir,
}

impl Scene {
    fn new(name: &str) -> Self {
        let id = format!("{name}{}", std::process::id() % 10_000);
        let shared = shared(&id, Resources::new(1, 256 << 20));
        // Beside the binary: /tmp may be a tmpfs, where nothing is durable.
        let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a data directory");
        let stage = Stage::new(Arc::clone(&shared), "vm", data.path()).expect("a stage");
        Self { stage, shared, data }
    }

    fn start(&mut self, settings: &[(&str, &str)], deadline: Duration) -> Result<Session, SessionError> {
        let launch = self.stage.launch(&Qemu, &resolve(settings)).expect("a launch");
        Session::start(launch, deadline)
    }
}

fn resolve(settings: &[(&str, &str)]) -> Settings {
    Settings::of(Qemu.settings(), &[&[("accel", "tcg"), ("disk.size", "64MiB")], settings].concat())
}

/// QEMU processes of this scene, found by the name that it gives them.
fn machines(host: &Host) -> Vec<PathBuf> {
    let name = format!("tarebench-{}-", host.id);
    let processes = fs::read_dir("/proc").expect("/proc").flatten().map(|e| e.path());
    let is_ours = |process: &PathBuf| {
        fs::read_to_string(process.join("cmdline")).is_ok_and(|line| {
            let program = line.split('\0').next().and_then(|word| word.rsplit('/').next());
            program.is_some_and(|p| p.starts_with("qemu")) && line.contains(&name)
        })
    };
    processes.filter(is_ours).collect()
}

#[test]
fn it_boots_answers_and_powers_off() {
    let mut scene = Scene::new("ba");
    // Twice: the second start finds the disk of the first.
    for _ in 0..2 {
        let mut session = scene.start(&[], PATIENCE).unwrap_or_else(|e| panic!("{e}"));
        println!("launch to hello: {:?}", session.start);
        assert_eq!(machines(&scene.shared.host).len(), 1);
        session.ping(PATIENCE).unwrap_or_else(|e| panic!("{e}"));
        let begun = Instant::now();
        drop(session);
        assert!(begun.elapsed() < Duration::from_millis(2900), "it had to be killed: {:?}", begun.elapsed());
        assert_eq!(machines(&scene.shared.host), Vec::<PathBuf>::new());
    }
}

/// One boot: what is set, and what must be seen from inside and outside.
struct Boot {
    settings: &'static [(&'static str, &'static str)],
    /// The disk as the guest names it; without one, what the data lies on is a directory of the host.
    device: Option<&'static str>,
    /// The path down to the host's file system, as reports have it.
    data_path: &'static str,
    network: Network,
    /// A word in the memory map of QEMU, where the memory is none of its own.
    mapped: Option<&'static str>,
}

/// Every value of every setting at least once; [`every_value_is_booted`] holds it against the runner's settings.
const BOOTS: &[Boot] = &[
    Boot {
        settings: &[
            ("machine", "microvm"),
            ("disk.bus", "virtio"),
            ("disk.allocation", "falloc"),
            ("memory", "tmpfs"),
            ("net", "tap"),
            ("balloon", "true"),
        ],
        device: Some("vda"),
        data_path: "ext4 on virtio-blk, raw (falloc), cache=none, aio=native, on ",
        network: Network::Tap,
        mapped: Some("/memfd:memory-backend-memfd"),
    },
    Boot {
        settings: &[
            ("machine", "q35"),
            ("disk.bus", "scsi"),
            ("disk.format", "qcow2"),
            ("disk.allocation", "sparse"),
            ("disk.cache", "writeback"),
            ("disk.aio", "threads"),
            ("disk.iothread", "true"),
            ("memory", "file"),
            ("net", "user"),
            ("net.publish", "true"),
        ],
        device: Some("sda"),
        data_path: "ext4 on virtio-scsi, qcow2 (sparse), cache=writeback, aio=threads in an I/O thread, on ",
        network: Network::UserNat,
        mapped: Some("/memory"),
    },
    Boot {
        settings: &[
            ("disk.bus", "nvme"),
            ("disk.format", "qcow2"),
            ("disk.allocation", "metadata"),
            ("disk.cache", "directsync"),
            ("disk.aio", "native"),
            ("net", "none"),
            ("overcommit.mem-lock", "true"),
        ],
        device: Some("nvme0n1"),
        data_path: "ext4 on NVMe, qcow2 (metadata), cache=directsync, aio=native, on ",
        network: Network::None,
        mapped: None,
    },
    Boot {
        settings: &[
            ("machine", "pc"),
            ("disk.bus", "ide"),
            ("disk.format", "qcow2"),
            ("disk.allocation", "full"),
            ("disk.cache", "writethrough"),
            ("disk.aio", "io_uring"),
            ("memory", "anonymous"),
        ],
        device: Some("sda"),
        data_path: "ext4 on IDE, qcow2 (full), cache=writethrough, aio=io_uring, on ",
        network: Network::Tap,
        mapped: None,
    },
    Boot {
        settings: &[
            ("disk.format", "raw"),
            ("disk.allocation", "sparse"),
            ("disk.cache", "unsafe"),
            ("disk.iothread", "true"),
            ("net", "passt"),
            ("net.publish", "true"),
        ],
        device: Some("vda"),
        data_path: "ext4 on virtio-blk, raw (sparse), cache=unsafe, aio=threads in an I/O thread, on ",
        network: Network::Passt,
        mapped: None,
    },
    Boot {
        settings: &[("machine", "microvm"), ("disk.bus", "scsi"), ("memory", "hugepages")],
        device: Some("sda"),
        data_path: "ext4 on virtio-scsi, raw (full), cache=none, aio=native, on ",
        network: Network::Tap,
        mapped: Some("hugetlb"),
    },
    Boot {
        settings: &[("disk.bus", "ide"), ("net.model", "e1000")],
        device: Some("sda"),
        data_path: "ext4 on AHCI, raw (full), cache=none, aio=native, on ",
        network: Network::Tap,
        mapped: None,
    },
    Boot {
        settings: &[("net", "vhost")],
        device: Some("vda"),
        data_path: "ext4 on virtio-blk, raw (full), cache=none, aio=native, on ",
        network: Network::Vhost,
        mapped: None,
    },
    Boot {
        settings: &[("overcommit.cpu-pm", "true")],
        device: Some("vda"),
        data_path: "ext4 on virtio-blk, raw (full), cache=none, aio=native, on ",
        network: Network::Tap,
        mapped: None,
    },
    Boot {
        settings: &[("data", "virtiofs"), ("net", "none")],
        device: None,
        data_path: "virtiofs by virtiofsd, cache=auto, through the host's page cache, on ",
        network: Network::None,
        mapped: Some("/memfd:memory-backend-memfd"),
    },
    Boot {
        settings: &[
            ("data", "virtiofs"),
            ("virtiofs.cache", "always"),
            ("machine", "microvm"),
            ("memory", "file"),
            ("net", "none"),
        ],
        device: None,
        data_path: "virtiofs by virtiofsd, cache=always, through the host's page cache, on ",
        network: Network::None,
        mapped: Some("/memory"),
    },
    Boot {
        settings: &[("data", "virtiofs"), ("virtiofs.cache", "none"), ("virtiofs.direct", "true"), ("net", "none")],
        device: None,
        data_path: "virtiofs by virtiofsd, cache=none, O_DIRECT allowed, on ",
        network: Network::None,
        mapped: Some("/memfd:memory-backend-memfd"),
    },
    Boot {
        settings: &[("data", "9p"), ("net", "none")],
        device: None,
        data_path: "9p by QEMU, cache=mmap, msize=128.0 KiB, security_model=none, through the host's page cache, on ",
        network: Network::None,
        mapped: None,
    },
    Boot {
        settings: &[
            ("data", "9p"),
            ("9p.cache", "loose"),
            ("9p.security", "passthrough"),
            ("machine", "microvm"),
            ("net", "none"),
        ],
        device: None,
        data_path: "9p by QEMU, cache=loose, msize=128.0 KiB, security_model=passthrough, through the host's page cache, on ",
        network: Network::None,
        mapped: None,
    },
    Boot {
        settings: &[("data", "9p"), ("9p.cache", "none"), ("9p.security", "mapped-xattr"), ("net", "none")],
        device: None,
        data_path: "9p by QEMU, cache=none, msize=128.0 KiB, security_model=mapped-xattr, through the host's page cache, on ",
        network: Network::None,
        mapped: None,
    },
    Boot {
        settings: &[("data", "9p"), ("9p.security", "mapped-file"), ("machine", "microvm"), ("net", "none")],
        device: None,
        data_path: "9p by QEMU, cache=mmap, msize=128.0 KiB, security_model=mapped-file, through the host's page cache, on ",
        network: Network::None,
        mapped: None,
    },
];

impl Boot {
    fn has(&self, name: &str, value: &str) -> bool {
        self.settings.contains(&(name, value))
    }

    /// Its settings; files are served by the virtiofsd that `VIRTIOFSD` names, where it names one.
    fn given<'a>(&self, virtiofsd: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
        let named = virtiofsd.filter(|_| self.has("data", "virtiofs")).map(|path| ("virtiofs.binary", path));
        self.settings.iter().copied().chain(named).collect()
    }

    /// What the guest must say it has its data on.
    fn file_system(&self) -> &'static str {
        match self.settings.iter().find(|(name, _)| *name == "data") {
            Some((_, "9p")) => "9p",
            Some((_, "virtiofs")) => "virtiofs",
            _ => "ext4",
        }
    }

    /// Whether files can be mapped for writing, which SQLite's write-ahead log takes.
    fn maps_files(&self) -> bool {
        !self.has("9p.cache", "none") && !self.has("virtiofs.cache", "none")
    }
}

/// What a host may lack, the words of the refusal, and how to see whether this one has it.
fn may_be_missing(settings: &[(&str, &str)]) -> Option<&'static str> {
    let lacks = [
        (("memory", "hugepages"), "vm.nr_hugepages="),
        (("net", "vhost"), "modprobe vhost_net"),
        (("net", "passt"), "apt install passt"),
        (("net.model", "e1000"), "linux-image-amd64"),
        (("data", "9p"), "linux-image-amd64"),
        (("data", "virtiofs"), "apt install virtiofsd"),
        (("overcommit.cpu-pm", "true"), "needs KVM"),
    ];
    lacks.into_iter().find(|(setting, _)| settings.contains(setting)).map(|(_, words)| words)
}

#[test]
fn every_value_of_every_setting_boots_and_is_what_it_says() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: taps take root, and are refused without it");
        return;
    }
    let mut booted = 0;
    let virtiofsd = std::env::var("VIRTIOFSD").ok();
    for (n, boot) in BOOTS.iter().enumerate() {
        let mut scene = Scene::new(&format!("b{n}"));
        let launch = match scene.stage.launch(&Qemu, &resolve(&boot.given(virtiofsd.as_deref()))) {
            Ok(launch) => launch,
            Err(e) => {
                // Refused before anything was started, with the way out, or it is a mistake of ours.
                let (words, text) = (may_be_missing(boot.settings), format!("{e:#}"));
                assert!(words.is_some_and(|w| text.contains(w)), "{:?}: {text}", boot.settings);
                eprintln!("SKIPPED: {:?}: {text}", boot.settings);
                continue;
            }
        };
        assert!(launch.data.words.starts_with(boot.data_path), "{} is not {}...", launch.data.words, boot.data_path);
        assert_eq!(launch.path.network, boot.network);
        let peer = launch.path.peer.map(|_| PeerProcess::start(&scene.shared, PATIENCE).expect("a peer"));
        let far = launch.path.peer_address(peer.as_ref().map(|peer| peer.port));
        assert_eq!(far.is_some_and(|far| far.published.is_some()), boot.has("net.publish", "true"));
        let mut session = Session::start(launch, PATIENCE).unwrap_or_else(|e| panic!("{:?}: {e}", boot.settings));
        println!("{:?}: launch to hello: {:?}", boot.settings, session.start);
        let identity = session.identify(PATIENCE).unwrap_or_else(|e| panic!("{:?}: {e}", boot.settings));
        assert_eq!(identity.device.as_deref(), boot.device, "{:?}", boot.settings);
        assert_eq!(identity.file_system, boot.file_system());
        assert_eq!(identity.clock_source.as_deref(), Some("tsc"), "{:?}", boot.settings);
        check_from_outside(boot, session.pid());
        work(&mut session, Task { peer: None, ..Task::of("disk/fsync") });
        if boot.device.is_none() {
            work_on_a_directory(boot, &scene, &mut session);
        }
        if far.is_some() {
            // Over a connection that the guest opens, and over one that comes into it: all of these paths lead there.
            let task = Task { peer: far, ..Task::of("net/rr") };
            work(&mut session, task.clone());
            work(&mut session, Task { settings: task.settings.with("connection", "inbound"), ..task });
        }
        drop(session);
        assert_eq!(machines(&scene.shared.host), Vec::<PathBuf>::new());
        booted += 1;
    }
    println!("{booted} of {} booted", BOOTS.len());
    assert!(booted >= 4, "what every host with QEMU has must boot");
}

/// SQLite's commits, where its log can be mapped, else the words for it; and the guest's files are the host's.
fn work_on_a_directory(boot: &Boot, scene: &Scene, session: &mut Session) {
    session.prepare(Task::of("disk/fsync"), PATIENCE).unwrap_or_else(|e| panic!("{:?}: {e}", boot.settings));
    let files = fs::read_dir(scene.stage.data().join("work")).expect("the guest's directory").count();
    assert!(files > 0, "{:?}: the guest's files are not here", boot.settings);
    session.release(PATIENCE).unwrap_or_else(|e| panic!("{:?}: {e}", boot.settings));
    if boot.maps_files() {
        work(session, Task::of("sqlite/commit"));
    } else {
        let error = session.prepare(Task::of("sqlite/commit"), PATIENCE).expect_err("no shared memory").to_string();
        assert!(error.contains("journal = delete"), "{error}");
    }
}

/// What the host sees of a running QEMU.
fn check_from_outside(boot: &Boot, pid: u32) {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let maps = fs::read_to_string(process.join("smaps")).expect("it runs");
    match boot.mapped {
        Some("hugetlb") => assert!(maps.contains("KernelPageSize:     2048 kB"), "no huge pages are mapped"),
        Some(word) => assert!(maps.lines().any(|l| l.contains("rw-s") && l.contains(word)), "no {word} is mapped"),
        None => assert!(!maps.contains("/memfd:memory") && !maps.contains("KernelPageSize:     2048 kB")),
    }
    let threads = fs::read_dir(process.join("task")).expect("it runs").flatten();
    let names: Vec<_> = threads.map(|t| fs::read_to_string(t.path().join("comm")).unwrap_or_default()).collect();
    let wanted = boot.has("disk.iothread", "true");
    assert_eq!(names.iter().any(|n| n.contains("IO disk")), wanted, "{:?}: {names:?}", boot.settings);
    let locked = fs::read_to_string(process.join("status")).expect("it runs");
    let locked = locked.lines().find_map(|l| l.strip_prefix("VmLck:")?.trim().strip_suffix(" kB")?.trim().parse().ok());
    let whole = locked.is_some_and(|kilobytes: u64| kilobytes >= 256 << 10);
    assert_eq!(whole, boot.has("overcommit.mem-lock", "true"), "{:?}: {locked:?} kB are locked", boot.settings);
}

#[test]
fn every_value_is_booted() {
    for setting in Qemu.settings() {
        // `auto` is one of the others; what runs the guest is chosen by the host; paths and sizes have no values to list.
        if setting.name == "accel" || !matches!(setting.kind, Kind::Choice(_) | Kind::Switch) {
            continue;
        }
        // tests/nfs.rs boots what has its data on NFS; virt is a machine of other processors than this one.
        let elsewhere =
            |value: &str| value == "auto" || [("data", "nfs"), ("machine", "virt")].contains(&(setting.name, value));
        for value in setting.values().iter().filter(|v| !elsewhere(v)) {
            let tried = BOOTS.iter().any(|b| match b.settings.iter().find(|(name, _)| *name == setting.name) {
                Some((_, set)) => set == value,
                None => setting.default == value,
            });
            assert!(tried, "no boot has {}={value}", setting.name);
        }
    }
}

#[test]
fn a_file_that_is_no_kernel_is_refused_at_once() {
    let mut scene = Scene::new("ga");
    let garbage = scene.data.path().join("garbage");
    fs::write(&garbage, [7; 100_000]).expect("written");
    let settings = resolve(&[("kernel", &garbage.to_string_lossy())]);
    let error = scene.stage.launch(&Qemu, &settings).expect_err("no kernel");
    let text = format!("{error:#}");
    assert!(text.contains("garbage is not a Linux kernel"), "{text}");
}

#[test]
fn a_guest_that_dies_is_quoted() {
    let mut scene = Scene::new("di");
    // The guest finds a disk that is no ext4 and says so on its console before it powers off.
    fs::write(scene.stage.data().join("disk.raw"), vec![0; 64 << 20]).expect("written");
    let error = scene.start(&[], PATIENCE).expect_err("no ext4");
    let text = error.to_string();
    assert!(text.contains("tarebench init: can't mount /dev/vda on /data as ext4"), "{text}");
    assert_eq!(machines(&scene.shared.host), Vec::<PathBuf>::new());
}

#[test]
fn a_guest_that_never_boots_ends_at_its_deadline() {
    let mut scene = Scene::new("ne");
    // A kernel with all its code overwritten by jumps to themselves, behind a header that still looks right.
    let kernel = scene.data.path().join("vmlinuz-hangs");
    fs::write(&kernel, hanging_kernel()).expect("written");
    let deadline = Duration::from_secs(3);
    let launch = scene.stage.launch(&Qemu, &resolve(&[("kernel", &kernel.to_string_lossy())])).expect("a launch");
    let begun = Instant::now();
    let error = Session::start(launch, deadline).expect_err("it hangs");
    assert!(matches!(error, SessionError::Deadline { .. }), "{error}");
    assert!(error.to_string().contains("the agent's hello did not come within 3s"), "{error}");
    assert!(begun.elapsed() < deadline + Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(machines(&scene.shared.host), Vec::<PathBuf>::new());
}

/// A bzImage whose payload is nothing we can unpack and whose code is an endless loop, from its first instruction on.
fn hanging_kernel() -> Vec<u8> {
    let mut image = vec![0; 64 << 10];
    for pair in image.chunks_exact_mut(2) {
        pair.copy_from_slice(&[0xEB, 0xFE]);
    }
    image[0x1F1] = 4;
    image[0x1FE..0x200].copy_from_slice(&[0x55, 0xAA]);
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&0x20F_u16.to_le_bytes());
    image[0x20E..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
    image[0x211] = 1;
    image[0x214..0x218].copy_from_slice(&0x10_0000_u32.to_le_bytes());
    image[0x218..0x220].copy_from_slice(&[0; 8]);
    image[0x22C..0x230].copy_from_slice(&0x7FFF_FFFF_u32.to_le_bytes());
    image[0x238..0x23C].copy_from_slice(&2047_u32.to_le_bytes());
    image[0x248..0x250].copy_from_slice(&[0, 0, 0, 0, 16, 0, 0, 0]);
    image[0x300..0x30C].copy_from_slice(b"9.9.9-hangs\0");
    image
}

#[test]
fn killed_in_the_middle_it_leaves_nothing() {
    let (scratch, data);
    {
        let mut scene = Scene::new("ki");
        (scratch, data) = (scene.shared.host.scratch.clone(), scene.stage.data().to_path_buf());
        let session = scene.start(&[], PATIENCE).unwrap_or_else(|e| panic!("{e}"));
        let pid = nix::unistd::Pid::from_raw(session.pid() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("it lives");
        drop(session);
        assert_eq!(machines(&scene.shared.host), Vec::<PathBuf>::new());
        // The file system of a killed guest is recovered by the next one.
        scene.start(&[], PATIENCE).unwrap_or_else(|e| panic!("after a kill: {e}"));
    }
    assert!(!scratch.exists() && !data.exists(), "{} or {} is still there", scratch.display(), data.display());
}

#[test]
fn version_names_the_guest_and_what_it_runs_on() {
    let scene = Scene::new("ve");
    let version = Qemu.version(&scene.shared.host, &resolve(&[])).unwrap_or_else(|e| panic!("{e}; {}", e.fix));
    println!("{version}");
    assert!(version.starts_with("QEMU ") && version.contains("guest Linux"), "{version}");
    let begun = Instant::now();
    assert_eq!(Qemu.version(&scene.shared.host, &resolve(&[])).expect("as before"), version);
    assert!(begun.elapsed() < Duration::from_secs(1), "the answer was not remembered: {:?}", begun.elapsed());
}

#[test]
fn a_flush_in_the_guest_reaches_the_disk_of_the_host() {
    let mut scene = Scene::new("fl");
    let mut session = scene.start(&[], PATIENCE).unwrap_or_else(|e| panic!("{e}"));
    let identity = session.identify(PATIENCE).unwrap_or_else(|e| panic!("{e}"));
    println!("{identity:?}");
    assert_eq!(identity.file_system, "ext4");
    assert_eq!(identity.device.as_deref(), Some("vda"));
    assert_eq!(identity.write_cache.as_deref(), Some("write back"));
    assert_eq!(identity.virtio_flush, Some(true));

    session.prepare(Task::of("disk/fsync"), PATIENCE).unwrap_or_else(|e| panic!("{e}"));
    let plan = BurstPlan { operations: 40, warmup: 0, batch: 1, limit_ns: u64::MAX, number: 0 };
    let before = flushes_of_the_host();
    let sample = session.burst(plan, PATIENCE).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(sample.operations, 40);
    let flushes = flushes_of_the_host() - before;
    // Others may flush too, so this is a lower bound; on a host whose disks count no flushes there is nothing to see.
    println!("{flushes} flushes on the host for 40 in the guest");
    assert!(before == 0 || flushes >= 40, "{flushes} flushes on the host for 40 in the guest");
    session.verify(PATIENCE).unwrap_or_else(|e| panic!("{e}"));
}

/// Flush requests completed by all disks of the host since it booted.
fn flushes_of_the_host() -> u64 {
    let stats = fs::read_to_string("/proc/diskstats").expect("/proc/diskstats");
    // The 19th field of a line (Documentation/admin-guide/iostats.rst), since Linux 5.5.
    stats.lines().filter_map(|l| l.split_whitespace().nth(18)?.parse::<u64>().ok()).sum()
}
