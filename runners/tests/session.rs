//! Sessions with agents that misbehave: each ends in an error that says what happened, in time, with nothing left running.
//!
//! The fake agents are this test binary itself, started with `TAREBENCH_FAKE` saying how to misbehave.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use runners::host::{Host, Resources};
use runners::session::{Session, SessionError};
use runners::stage::Stage;
use runners::stage::shared::Shared;
use runners::{Launch, Runner, Unavailable};
use workloads::protocol::{self, Envelope, Hello, Identity, PROTOCOL, Request, Response};
use workloads::settings::Settings;

const FAKE: &str = "TAREBENCH_FAKE";

/// Not a test: what a fake agent does, in the process that [`start`] made.
#[test]
#[expect(clippy::zombie_processes, reason = "leaving a process behind is what one of them is for")]
#[ignore = "the body of the fake agents"]
fn fake_agent() {
    let Ok(how) = std::env::var(FAKE) else { return };
    let mut out = std::io::stdout().lock();
    let hello = |protocol| Hello { protocol, version: "fake".into(), ..Hello::default() };
    let say = |out: &mut std::io::StdoutLock<'_>, id, body| {
        protocol::write_frame(out, &Envelope { id, received_ns: 1, sent_ns: 2, body }).unwrap();
    };
    match how.as_str() {
        "hang" => std::thread::sleep(Duration::from_secs(60)),
        "die" => {
            eprintln!("engine: no such image");
            std::process::exit(7);
        }
        "garbage" => {
            out.write_all(b"\x1e00000000 {\"this\": \"is not it\"}\n").unwrap();
            out.flush().unwrap();
            std::thread::sleep(Duration::from_secs(60));
        }
        "flood" => loop {
            out.write_all(&[b'x'; 65536]).unwrap();
        },
        "frame without end" => {
            out.write_all(b"\x1e").unwrap();
            loop {
                out.write_all(&[b'x'; 65536]).unwrap();
            }
        }
        "stderr flood" => loop {
            eprintln!("{}", "noise ".repeat(1000));
        },
        "many hellos" => loop {
            say(&mut out, 0, Response::Hello(hello(PROTOCOL)));
        },
        "old protocol" => say(&mut out, 0, Response::Hello(hello(PROTOCOL + 1))),
        "orphan" => {
            // A grandchild in the process group that outlives its parent and holds the pipes.
            Command::new("sleep").arg("61").spawn().unwrap();
        }
        "wrong hash" | "hang when asked" => {
            say(&mut out, 0, Response::Hello(hello(PROTOCOL)));
            let request: Envelope<Request> = protocol::read_frame(&mut std::io::stdin().lock()).unwrap();
            if how == "hang when asked" {
                std::thread::sleep(Duration::from_secs(60));
            }
            let identity = Identity { binary_sha256: "beef".into(), ..Identity::default() };
            say(&mut out, request.id, Response::Identity(Box::new(identity)));
            std::thread::sleep(Duration::from_secs(60));
        }
        "confess" => {
            out.write_all(b"Linux version 6.1\r\n").unwrap();
            let message = "the guest's init failed: can't mount /dev/vda on /data as ext4: EINVAL".into();
            say(&mut out, 0, Response::Failed { message });
            std::thread::sleep(Duration::from_secs(60));
        }
        "panic on the line" => {
            out.write_all(b"[    1.2] Kernel panic - not syncing: No working init found.\r\n").unwrap();
        }
        "terminal" => {
            assert!(std::io::stdin().is_terminal(), "its stdin is none");
            assert!(std::env::var_os("RUST_BACKTRACE").is_none(), "backtraces push last words away");
            say(&mut out, 0, Response::Hello(hello(PROTOCOL)));
            let mut input = std::io::stdin().lock();
            loop {
                let request: Envelope<Request> = protocol::read_frame(&mut input).unwrap();
                match request.body {
                    Request::Ping => say(&mut out, request.id, Response::Pong),
                    _ => break,
                }
                // A guest that is slow to read still gets its last order.
                std::thread::sleep(Duration::from_millis(200));
            }
            std::fs::write(last_order(std::os::unix::process::parent_id()), "").unwrap();
        }
        other => panic!("no fake agent does `{other}`"),
    }
}

/// The file by which a fake agent says that it got its last order.
fn last_order(harness: u32) -> std::path::PathBuf {
    std::env::temp_dir().join(format!("tarebench-test-last-order-{harness}"))
}

#[derive(Debug)]
struct Fake(&'static str, Arc<AtomicBool>);

impl Runner for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }
    fn about(&self) -> &'static str {
        "An agent that misbehaves"
    }
    fn version(&self, _: &Host, _: &Settings) -> Result<String, Unavailable> {
        Ok("1".into())
    }
    fn launch(&self, _: &Settings, _: &mut Stage) -> anyhow::Result<Launch> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--exact", "fake_agent", "--ignored", "--nocapture"]).env(FAKE, self.0);
        let cleaned = Arc::clone(&self.1);
        let mut launch = Launch::new(command).cleanup(move || cleaned.store(true, Ordering::Relaxed));
        launch.terminal = self.0 == "terminal";
        Ok(launch)
    }
}

struct Place {
    shared: Arc<Shared>,
    data: tempfile::TempDir,
    cleaned: Arc<AtomicBool>,
}

fn place() -> Place {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let id = format!("f{:x}{:x}", NEXT.fetch_add(1, Ordering::Relaxed), std::process::id() % 0xff_ffff);
    let resources = Resources::new(1, 256 << 20);
    let host = Host::new(&id, Path::new("/proc/self/exe"), resources).unwrap();
    let shared = Shared::new(Arc::new(host));
    Place { shared, data: tempfile::tempdir_in("/var/tmp").unwrap(), cleaned: Arc::default() }
}

/// What a start comes to; the place must outlive the session.
fn start(place: &Place, how: &'static str, deadline: Duration) -> (Result<Session, SessionError>, Stage) {
    let mut stage = Stage::new(Arc::clone(&place.shared), "fake", place.data.path()).unwrap();
    let launch = stage.launch(&Fake(how, Arc::clone(&place.cleaned)), &Settings::default()).unwrap();
    (Session::start(launch, deadline), stage)
}

/// The error, and how long it took to get it.
fn fails(how: &'static str, deadline: Duration) -> (SessionError, Duration) {
    let place = place();
    let began = Instant::now();
    let (outcome, _stage) = start(&place, how, deadline);
    let took = began.elapsed();
    assert!(place.cleaned.load(Ordering::Relaxed), "{how}: the clean-up must have run");
    (outcome.expect_err(how), took)
}

#[test]
fn silence_ends_at_the_deadline() {
    for how in ["hang", "flood", "stderr flood"] {
        let (error, took) = fails(how, Duration::from_millis(700));
        assert!(matches!(error, SessionError::Deadline { .. }), "{how}: {error}");
        assert!(took < Duration::from_secs(3), "{how}: {took:?}");
        assert!(error.to_string().len() < 8192, "{how}: the tail is bounded");
    }
}

#[test]
fn a_guest_that_fails_says_why_and_is_believed() {
    let (error, took) = fails("confess", Duration::from_secs(10));
    assert!(matches!(error, SessionError::Refused(_)), "{error}");
    assert_eq!(error.to_string(), "the guest's init failed: can't mount /dev/vda on /data as ext4: EINVAL");
    assert!(took < Duration::from_secs(5), "{took:?}");
    // On some channels the kernel's own words come between the frames.
    let (error, _) = fails("panic on the line", Duration::from_secs(10));
    assert!(error.to_string().contains("Kernel panic - not syncing: No working init found."), "{error}");
}

#[test]
fn an_engine_that_wants_a_terminal_gets_one_and_its_last_order_by_it() {
    let place = place();
    let (outcome, _stage) = start(&place, "terminal", Duration::from_secs(10));
    let mut session = outcome.expect("it starts");
    session.ping(Duration::from_secs(5)).expect("it is heard and answers");
    let told = last_order(std::process::id());
    assert!(!told.exists());
    drop(session);
    assert!(told.exists(), "it was killed before it had read its last order");
    std::fs::remove_file(told).expect("removed");
}

#[test]
fn an_early_death_is_told_with_its_last_words() {
    let (error, took) = fails("die", Duration::from_secs(10));
    let text = error.to_string();
    assert!(text.contains("exit status: 7") && text.contains("engine: no such image"), "{text}");
    assert!(took < Duration::from_secs(5));
}

#[test]
fn what_an_environment_leaves_in_its_group_is_killed() {
    let (error, took) = fails("orphan", Duration::from_secs(10));
    assert!(matches!(error, SessionError::Died { .. }), "{error}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn garbage_is_an_error_that_quotes_it() {
    for how in ["garbage", "frame without end", "old protocol"] {
        let (error, took) = fails(how, Duration::from_secs(10));
        assert!(matches!(error, SessionError::Garbage { .. }), "{how}: {error}");
        assert!(took < Duration::from_secs(5), "{how}: {took:?}");
    }
}

#[test]
fn the_wrong_binary_is_named() {
    let place = place();
    let (outcome, _stage) = start(&place, "wrong hash", Duration::from_secs(10));
    let error = outcome.unwrap().identify(Duration::from_secs(5)).expect_err("wrong hash");
    assert!(matches!(&error, SessionError::WrongBinary { inside, ours } if inside == "beef" && ours.len() == 64));
}

#[test]
fn an_answer_nobody_asked_for_is_garbage_and_a_full_queue_does_not_block_the_end() {
    let place = place();
    let (outcome, _stage) = start(&place, "many hellos", Duration::from_secs(10));
    let error = outcome.unwrap().ping(Duration::from_secs(5)).expect_err("a hello is no pong");
    assert!(matches!(error, SessionError::Garbage { .. }), "{error}");
}

#[test]
fn an_interrupt_ends_a_wait_at_once() {
    let place = place();
    let (outcome, _stage) = start(&place, "hang when asked", Duration::from_secs(10));
    let mut session = outcome.unwrap();
    assert!(session.memory().is_some_and(|b| b > 0));
    let of = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", session.pid())).unwrap();
    let cpus: Vec<String> = place.shared.host.pinning.work.iter().map(usize::to_string).collect();
    assert!(of("status").contains(&format!("Cpus_allowed_list:\t{}\n", cpus.join(","))), "pinned");
    if place.shared.host.privileged {
        let group = format!(":/tarebench-{}/fake", place.shared.host.id);
        assert!(of("cgroup").lines().filter(|l| l.contains(&group)).count() >= 1, "{}", of("cgroup"));
    }
    let flag = Arc::clone(&place.shared.host.interrupt);
    let setter = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        flag.store(true, Ordering::Relaxed);
        Instant::now()
    });
    let error = session.ping(Duration::from_secs(30)).expect_err("interrupted");
    let set = setter.join().unwrap();
    assert!(matches!(error, SessionError::Interrupted), "{error}");
    // Who isn't interrupted is given 3 s.
    assert!(set.elapsed() < Duration::from_millis(2900), "{:?}", set.elapsed());
    assert!(place.cleaned.load(Ordering::Relaxed));
}
