//! The runners that need no engine, for real: the agent answers from inside, over their own link, within the limits.

#![cfg(target_os = "linux")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use runners::Network;
use runners::host::{Host, Resources};
use runners::probe::{Verdict, probe};
use runners::session::Session;
use runners::stage::Stage;
use workloads::settings::Settings;

#[test]
fn the_agent_answers_from_inside_and_nothing_is_left() {
    let id = format!("o{:x}", std::process::id() % 0xff_ffff);
    let resources = Resources { cpus: 1, memory_bytes: 256 << 20 };
    let host = Arc::new(Host::new(&id, Path::new(env!("CARGO_BIN_EXE_tarebench")), resources).unwrap());
    let data = tempfile::tempdir_in("/var/tmp").unwrap();
    for name in ["bare", "chroot", "namespaces"] {
        let runner = runners::registry::find(name).unwrap();
        let settings = Settings::default();
        let answer = probe(runner, &settings, &host, data.path());
        if name == "chroot" && !host.privileged {
            assert_eq!(answer.verdict, Verdict::Absent);
            continue;
        }
        assert_eq!(answer.verdict, Verdict::Works, "{name}: {answer:?}");
        let mut stage = Stage::new(Arc::clone(&host), name, data.path()).unwrap();
        let launch = stage.launch(runner, &settings).unwrap();
        assert_eq!(launch.network, if host.privileged { Network::Veth } else { Network::Loopback });
        let mut session = Session::start(launch, Duration::from_secs(10)).unwrap();
        for _ in 0..5 {
            session.ping(Duration::from_secs(5)).unwrap();
            std::thread::sleep(Duration::from_millis(30));
        }
        let identity = session.identify(Duration::from_secs(20)).unwrap();
        assert_eq!(identity.binary_sha256, host.binary_sha256);
        assert_eq!(identity.file_system, runners::disk::Disk::under(data.path()).unwrap().file_system, "{name}");
        assert!(session.memory().unwrap() > 0);
        let before = std::time::Instant::now();
        drop(session);
        assert!(before.elapsed() < Duration::from_millis(500), "{name}: ends when told, in {:?}", before.elapsed());
    }
    drop(host);
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0);
    assert!(!Path::new("/tmp").join(format!("tarebench-{id}")).exists());
}
