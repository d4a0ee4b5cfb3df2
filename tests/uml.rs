//! User-mode Linux for real: every place that data can lie in, and the network.

#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::work;
use nix::fcntl::OFlag;
use runners::boxes::vm::uml::Uml;
use runners::host::Resources;
use runners::session::Session;
use runners::stage::Stage;
use runners::stage::peer::PeerProcess;
use runners::stage::shared::Shared;
use runners::{Network, Runner};
use workloads::PeerAddress;
use workloads::protocol::Task;
use workloads::settings::{Kind, Settings};

const PATIENCE: Duration = Duration::from_secs(120);

fn settings(pairs: &[(&str, &str)]) -> Settings {
    Settings::of(Uml.settings(), &[pairs, &[("disk.size", "64MiB")]].concat())
}

fn shared(name: &str, cpus: u32) -> Arc<Shared> {
    let id = format!("{name}{}", std::process::id() % 10_000);
    common::shared(&id, Resources::new(cpus, 256 << 20))
}

#[test]
fn data_lies_where_it_is_said_and_the_peer_is_reached() {
    let shared = shared("um", 1);
    if let Err(e) = Uml.version(&shared.host, &settings(&[])) {
        assert!(!std::env::var("TAREBENCH_MUST_RUN").is_ok_and(|m| m.split(',').any(|n| n == "uml")), "{e}; {}", e.fix);
        eprintln!("SKIPPED: {e}; {}", e.fix);
        return;
    }
    let cases = [
        ("ubd", "ext4", "ext4 on ubd, raw (full), through the host's page cache, on "),
        ("ubd-sync", "ext4", "ext4 on ubd, raw (full), O_SYNC, on "),
        ("cow", "ext4", "ext4 on ubd, a copy-on-write file over raw, through the host's page cache, on "),
        ("hostfs", "hostfs", "hostfs of "),
    ];
    let known = Uml.settings().iter().find(|s| s.name == "data").expect("it has data").kind;
    assert_eq!(known, Kind::Choice(&["ubd", "ubd-sync", "cow", "hostfs"]), "a new one needs a case");
    // Not in /tmp, which may be a tmpfs.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a data directory");
    let peer = PeerProcess::start(&shared, PATIENCE).expect("a peer");
    for (data, file_system, data_path) in cases {
        let mut stage = Stage::new(Arc::clone(&shared), data, folder.path()).expect("a stage");
        // Twice: the second start finds the disk of the first, and its copy-on-write file.
        for _ in 0..2 {
            let launch = stage.launch(&Uml, &settings(&[("data", data)])).expect("a launch");
            assert!(launch.data.words.starts_with(data_path), "{}", launch.data.words);
            assert!(launch.emulated.is_some());
            let (network, address) = (launch.path.network, launch.path.peer);
            let mut session = Session::start(launch, PATIENCE).unwrap_or_else(|e| panic!("{data}: {e}"));
            println!("{data}: launch to hello: {:?}", session.start);
            let identity = session.identify(PATIENCE).unwrap_or_else(|e| panic!("{data}: {e}"));
            assert_eq!(identity.file_system, file_system);
            assert_eq!(synchronous(session.pid()), data == "ubd-sync", "{data}");
            work(&mut session, Task::of("sqlite/commit"));
            work(&mut session, Task::of("disk/fsync"));
            if let Some(address) = address {
                assert_eq!(network, Network::Tap);
                let far = PeerAddress::from(SocketAddr::new(address, peer.port));
                work(&mut session, Task { peer: Some(far), ..Task::of("net/rr") });
            }
        }
        let names: Vec<_> = fs::read_dir(stage.data()).expect("readable").flatten().map(|e| e.file_name()).collect();
        assert_eq!(names.contains(&"disk.cow".into()), data == "cow", "{names:?}");
        if data == "cow" {
            let copied = fs::metadata(stage.data().join("disk.cow")).expect("it is there");
            let written = std::os::unix::fs::MetadataExt::blocks(&copied) * 512;
            assert!(written > 100_000, "the guest's writes went elsewhere: {written} bytes");
        }
    }
    // The mark of the run stays as long as the run does.
    drop((peer, shared));
    assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 0, "the stages leave nothing");
}

/// Whether the kernel's process has its disk open with O_SYNC. Its flushes do nothing (see the README), so that is all there is.
fn synchronous(pid: u32) -> bool {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").flatten();
    let disk = open.filter(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().contains("/disk.")));
    let flags = disk.map(|fd| {
        let about =
            fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", fd.file_name().to_string_lossy())).expect("open");
        let flags = about.lines().find_map(|l| l.strip_prefix("flags:")).expect("flags").trim();
        i32::from_str_radix(flags, 8).expect("octal")
    });
    flags.collect::<Vec<_>>().iter().any(|flags| OFlag::from_bits_retain(*flags).contains(OFlag::O_SYNC))
}

#[test]
fn what_it_can_not_do_is_refused_with_a_way_out() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a data directory");
    let two = shared("uc", 2);
    if Uml.version(&two.host, &settings(&[])).is_err() {
        eprintln!("SKIPPED: there is no User-mode Linux");
        return;
    }
    let refused = |shared: &Arc<Shared>, folder: &Path| {
        let mut stage = Stage::new(Arc::clone(shared), "uml", folder).expect("a stage");
        format!("{:#}", stage.launch(&Uml, &settings(&[])).expect_err("it can't be"))
    };
    let text = refused(&two, folder.path());
    assert!(text.contains("cpus = 1"), "{text}");
    let spaced = folder.path().join("a b");
    fs::create_dir(&spaced).expect("made");
    let text = refused(&shared("us", 1), &spaced);
    assert!(text.contains("space, comma or colon"), "{text}");
}
