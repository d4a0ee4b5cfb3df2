//! The agent as the harness drives it: every workload over a pair of sockets, against a real peer on loopback.

mod common;

use std::collections::BTreeMap;
use std::io::BufReader;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::JoinHandle;

use proptest::strategy::Strategy as _;
use workloads::peer::Listening;
use workloads::protocol::{self, BurstPlan, Envelope, Hello, Request, Response, Sample, Task};
use workloads::registry::{self, WORKLOADS};
use workloads::settings::Settings;
use workloads::{Check, agent, load};

/// An agent in a thread of its own, and the harness's end of its channel.
struct Driven {
    input: BufReader<UnixStream>,
    out: UnixStream,
    next: u64,
    hello: Hello,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Driven {
    fn start(data: &Path) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        ours.set_read_timeout(Some(std::time::Duration::from_secs(60))).expect("a deadline");
        let data = data.to_path_buf();
        let thread = std::thread::spawn(move || {
            let mut out = theirs.try_clone()?;
            agent::serve(&mut BufReader::new(theirs), &mut out, &data)
        });
        let mut input = BufReader::new(ours.try_clone().expect("cloned"));
        let first: Envelope<Response> = protocol::read_frame(&mut input).expect("the agent speaks first");
        let Response::Hello(hello) = first.body else { panic!("{first:?}") };
        Self { input, out: ours, next: 1, hello, thread: Some(thread) }
    }

    fn ask(&mut self, body: Request) -> Response {
        let id = self.next;
        self.next += 1;
        protocol::send(&mut self.out, id, 0, &body, || 0).expect("sent");
        let answer: Envelope<Response> = protocol::read_frame(&mut self.input).expect("answered");
        assert_eq!(answer.id, id);
        assert!(answer.sent_ns >= answer.received_ns && answer.received_ns > 0);
        answer.body
    }

    fn fails(&mut self, body: Request) -> String {
        match self.ask(body) {
            Response::Failed { message } => message,
            other => panic!("this should have failed: {other:?}"),
        }
    }

    fn prepare(&mut self, name: &str, given: &[(&str, &str)], seed: u64, peer: SocketAddr) -> BTreeMap<String, String> {
        let request = prepare(name, given, seed, Some(peer));
        match self.ask(request) {
            Response::Prepared(facts) => facts,
            other => panic!("{name}: {other:?}"),
        }
    }

    fn burst(&mut self, operations: u64) -> Sample {
        self.burst_of_number(0, operations)
    }

    fn burst_of_number(&mut self, number: u64, operations: u64) -> Sample {
        let plan = BurstPlan { operations, warmup: operations / 5, batch: 1, limit_ns: u64::MAX, number };
        match self.ask(Request::Burst(plan)) {
            Response::Sample(sample) => sample,
            other => panic!("{other:?}"),
        }
    }

    fn verify(&mut self) -> (Check, BTreeMap<String, String>) {
        match self.ask(Request::Verify) {
            Response::Verified { check, facts } => (check, facts),
            other => panic!("{other:?}"),
        }
    }

    fn bye(mut self) {
        assert!(matches!(self.ask(Request::Bye), Response::Bye));
        self.thread.take().expect("once").join().expect("no panic").expect("a clean end");
    }
}

fn prepare(name: &str, given: &[(&str, &str)], seed: u64, peer: Option<SocketAddr>) -> Request {
    let workload = registry::find(name).expect("registered");
    // Valid each by itself; whether they go together the agent says.
    let settings = Settings::of(&load::settings(workload.settings()), given);
    let peer = peer.map(Into::into);
    Request::Prepare(Task { settings, seed, peer, ..Task::of(name) })
}

/// A directory on a disk, not on a tmpfs that `/tmp` may be.
fn disk() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

fn peer() -> Listening {
    Listening::start(([127, 0, 0, 1], 0).into()).expect("listens")
}

/// The check values of seed 1 with default settings. They change only with the meaning of a workload, and then
/// runs of before can't be compared with runs of after.
const PINNED: &[(&str, &str)] = &[
    ("control/clock", "a737ad2e46cdd653427eb991228f6ada"),
    ("control/syscall", "49695a06262549b06ea86930db0b6b27"),
    ("control/switch", "937b51bd145bd45424fb1b3ec9618f18"),
    ("control/spawn", "5c8356b93d5318017035abc2b402c8d1"),
    ("control/fault", "51cd258db73d7b1a61fde3a80ad503a9"),
    ("control/memory", "d47d66f46a60378e954021455e9ef78e"),
    ("control/bandwidth", "2a5bf5c5339efef1a0b88521214f1b1e"),
    ("control/cpu", "13129566ff49aa36b7992b4addde505b"),
    ("control/timer", "0091c997d3dee5c7cbd36bf03eca6c46"),
    ("sqlite/commit", "197951529dcbe8eaaeada4e72b54334e"),
    ("sqlite/lookup", "800ca29192df984da16c65ffdf7002a9"),
    ("sqlite/scan", "554b939c2442719ad9c15a4de46a1049"),
    ("sqlite/mixed", "c7b91d3a2b35d5a873ec3cc5c49cf661"),
    ("sqlite/mailbox", "161731deee8b89187dc3ef68a0e4054c"),
    ("sqlite/chatty", "4fc705593621a5bc2977ad01a410b28d"),
    ("sqlite/set", "4fc705593621a5bc2977ad01a410b28d"),
    ("sqlite/insertions", "f85c91990235dcdefb2eeb952bf9e7f7"),
    ("sqlite/writers", "bb7ebcc0157465c52e6769aaac4ba8cc"),
    ("sqlite/replay", "25e969cbbc28ce762e8f20966ff885c7"),
    ("disk/fsync", "0d3d43762cfd4d3fb9c6d81e8894cdc5"),
    ("disk/randread", "1e21c8a04bf9bd7c82e2c02c14598da7"),
    ("disk/randwrite", "5c8321742b8aab4733d4483248806829"),
    ("disk/randrw", "1af307ddc1a78a2b733bbba780ba581a"),
    ("disk/seqread", "fbd3373886bcdf1e6f700bcb6e030bce"),
    ("disk/seqwrite", "05fd950d41709e79e181dba072518263"),
    ("disk/maildir", "a2ae9dd39b8dbf664e44fe4257cd59da"),
    ("disk/metadata", "ac118e5d42fafb537a45e71eeb8478e4"),
    ("net/rr", "92319ef0bd76b713bdc7bdc75f8254c3"),
    ("net/crr", "7df275c8e036054987a6dc3e24fca7dd"),
    ("net/stream", "01132464efe67b50f67ca28a71111429"),
    ("net/loaded-rr", "9b0e84f971220003d314d717b1f954cf"),
    ("net/imap", "66cb42e17a9d74c00de90d3865c5a37c"),
    ("net/chatty", "6eb49ba06ac4fcc4a03d6aa9e6862389"),
    ("command/run", "07614dd3fec7a62bd7e5a1f7ffd84390"),
];

fn pinned(name: &str) -> &'static str {
    PINNED.iter().find(|(pinned, _)| *pinned == name).expect("pinned").1
}

#[test]
fn every_workload_runs_and_its_check_depends_on_the_seed_alone() {
    let (data, peer) = (disk(), peer());
    let mut agent = Driven::start(data.path());
    assert_eq!(agent.hello.protocol, protocol::PROTOCOL);
    let mut found = Vec::new();
    for workload in WORKLOADS {
        let name = workload.name();
        agent.prepare(name, &[], 1, peer.address());
        let (before, _) = agent.verify();
        for operations in [7, 40] {
            let sample = agent.burst(operations);
            let jobs =
                load::settings(workload.settings()).iter().find(|s| s.name == "jobs").map(|s| s.default.parse::<u64>());
            let jobs = jobs.expect("every workload has it").expect("a number");
            let shared = |operations: u64| operations.div_ceil(jobs) * jobs;
            let expected = (shared(operations), shared(operations / 5));
            assert_eq!((sample.operations, sample.warmup_operations), expected, "{name}");
            assert!(sample.elapsed_ns > 0 && !sample.cut_short, "{name}: {sample:?}");
            let (check, facts) = agent.verify();
            assert_eq!(check.value, before.value, "{name} after {operations} operations");
            assert!(!facts.values().any(String::is_empty), "{name}: {facts:?}");
            assert!(facts["clock_ns"].parse::<f64>().is_ok_and(|ns| ns > 0.0), "{name}: {facts:?}");
        }
        agent.prepare(name, &[], 2, peer.address());
        agent.burst(12);
        assert_ne!(agent.verify().0.value, before.value, "{name} with another seed");
        found.push((name, before.value));
    }
    assert!(matches!(agent.ask(Request::Release), Response::Released));
    assert_eq!(std::fs::read_dir(data.path()).expect("readable").count(), 0, "Release leaves nothing behind");
    agent.bye();
    let found: Vec<_> = found.iter().map(|(name, value)| (*name, value.as_str())).collect();
    for (name, value) in &found {
        let known = PINNED.iter().any(|(pinned, _)| pinned == name);
        assert!(
            known,
            "PINNED lacks a workload; in the order of the registry, add the line\n    (\"{name}\", \"{value}\"),"
        );
    }
    assert_eq!(found, PINNED);
}

/// What a round compares: operations, bytes, what was drawn, and what was counted but for the environment's own doing.
fn work_of(sample: &Sample) -> (u64, u64, u64, Option<u64>, BTreeMap<String, u64>) {
    let mut counters = sample.counters.clone();
    // Timeouts, late wake-ups, CPU time and the stream beside are what an environment is measured by.
    let own = |name: &str| name.starts_with("busy") || name.starts_with("stream") || name.ends_with("_us");
    counters.retain(|name, _| !own(name) && name != "overruns");
    (sample.operations, sample.bytes, sample.drawn.expect("the agent always says"), sample.durable_writes, counters)
}

#[test]
fn a_burst_says_how_much_of_it_promised_to_last() {
    let (data, peer) = (disk(), peer());
    let mut agent = Driven::start(data.path());
    let most = |operations: u64| (operations / 2)..operations;
    for (name, given, expected) in [
        ("disk/fsync", &[("jobs", "2")][..], Some(48..49)),
        ("sqlite/commit", &[], Some(48..49)),
        ("sqlite/mixed", &[("reads", "0")], Some(48..49)),
        ("sqlite/mixed", &[("reads", "95")], Some(1..10)),
        ("sqlite/mixed", &[("reads", "100")], None),
        ("sqlite/mailbox", &[], Some(most(48))),
        ("sqlite/mailbox", &[("journal", "memory")], None),
        ("disk/maildir", &[("messages", "100")], Some(most(48))),
        ("disk/maildir", &[("messages", "100"), ("kind", "deliver")], Some(48..49)),
        ("disk/seqwrite", &[], None),
        ("net/rr", &[], None),
    ] {
        agent.prepare(name, given, 1, peer.address());
        for _ in 0..2 {
            let said = agent.burst(40).durable_writes;
            assert!(
                said.zip(expected.clone()).map_or(said.is_none() && expected.is_none(), |(said, e)| e.contains(&said)),
                "{name} {given:?}: {said:?}, {expected:?} is right"
            );
        }
    }
    agent.bye();
}

/// The baseline's pilot is a burst more than others have behind them: it must leave no trace in what is measured.
#[test]
fn a_burst_does_the_same_whatever_was_done_before() {
    let (first, second, peer) = (disk(), disk(), peer());
    let (mut plain, mut piloted) = (Driven::start(first.path()), Driven::start(second.path()));
    let loads = [("1", "0"), ("4", "0"), ("1", "4000"), ("4", "4000")];
    for (workload, jobs, rate) in WORKLOADS.iter().flat_map(|w| loads.map(|(jobs, rate)| (*w, jobs, rate))) {
        let name = workload.name();
        let mut given = vec![("jobs", jobs), ("rate", rate)];
        // Fewer files than by default: laying them out is most of the time.
        match name {
            "disk/maildir" => given.push(("messages", "100")),
            "disk/metadata" => given.push(("files", "100")),
            _ => {}
        }
        let (own, other) =
            (prepare(name, &given, 5, Some(peer.address())), prepare(name, &given, 6, Some(peer.address())));
        match plain.ask(own.clone()) {
            Response::Prepared(_) => {}
            // The wake-ups of a timer have a schedule of their own, and so on: the agent says so in words.
            Response::Failed { message } if rate != "0" => {
                assert!(message.contains("rate"), "{name}: {message}");
                continue;
            }
            answer => panic!("{name} with {jobs} jobs at {rate}: {answer:?}"),
        }
        assert!(matches!(piloted.ask(own), Response::Prepared(_)), "{name}");
        piloted.burst_of_number(protocol::PILOTS, 7);
        let mut drawn = Vec::new();
        for number in 0..2 {
            let (one, two) = (plain.burst_of_number(number, 10), piloted.burst_of_number(number, 10));
            assert_eq!(work_of(&one), work_of(&two), "{name} with {jobs} jobs at {rate}, burst {number}");
            drawn.push(one.drawn.expect("the agent always says"));
        }
        assert!(drawn[0] != drawn[1] || drawn[0] == 0, "{name}: two rounds drew the same");
        if jobs == "1" && rate == "0" && drawn[0] != 0 {
            assert!(matches!(plain.ask(other), Response::Prepared(_)), "{name}");
            assert_ne!(plain.burst_of_number(0, 10).drawn, Some(drawn[0]), "{name}: two seeds drew the same");
        }
    }
    plain.bye();
    piloted.bye();
}

#[test]
fn the_agent_says_who_it_is() {
    let data = disk();
    let mut agent = Driven::start(data.path());
    assert!(matches!(agent.ask(Request::Ping), Response::Pong));
    let Response::Identity(identity) = agent.ask(Request::Identify) else { panic!("no identity") };
    let own = std::fs::read(std::env::current_exe().expect("a path")).expect("readable");
    let hash: String = <sha2::Sha256 as sha2::Digest>::digest(own).iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(identity.binary_sha256, hash);
    assert!(!identity.file_system.is_empty() && !identity.cpu_model.is_empty(), "{identity:?}");
    agent.bye();
}

#[test]
fn no_request_ends_the_agent() {
    let data = disk();
    let mut agent = Driven::start(data.path());
    let plan = BurstPlan { operations: 10, warmup: 0, batch: 1, limit_ns: u64::MAX, number: 0 };
    assert!(agent.fails(Request::Burst(plan)).contains("no workload is prepared"));
    assert!(agent.fails(Request::Verify).contains("no workload is prepared"));
    assert!(matches!(agent.ask(Request::Release), Response::Released));

    let clock =
        |name: &str, settings| Request::Prepare(Task { workload: name.into(), settings, ..Task::of("control/clock") });
    assert!(agent.fails(clock("sqlite/comit", Settings::default())).contains("`sqlite/comit`"));
    let foreign = Settings::resolve(registry::find("net/rr").expect("there").settings(), &BTreeMap::new());
    assert!(agent.fails(clock("control/clock", foreign.expect("valid"))).contains("unknown setting `answer`"));
    // Settings come over the wire without having been checked.
    let wild: Settings = serde_json::from_str(r#"{"size": "18446744073709551616"}"#).expect("a map");
    assert!(agent.fails(clock("disk/randread", wild)).contains("can't be"));
    assert!(agent.fails(clock("net/rr", Settings::default())).contains("needs a peer"));
    let contradiction = [("size", "4096"), ("block", "8192")];
    assert!(agent.fails(prepare("disk/randread", &contradiction, 1, None)).contains("has no room for a block"));
    let unaligned = [("block", "1000")];
    assert!(agent.fails(prepare("disk/randwrite", &unaligned, 1, None)).contains("multiple of 512"));

    assert!(matches!(agent.ask(clock("control/clock", Settings::default())), Response::Prepared(_)));
    for bad in [
        BurstPlan { operations: 0, ..plan },
        BurstPlan { operations: u64::MAX, ..plan },
        BurstPlan { warmup: u64::MAX, ..plan },
        BurstPlan { batch: 0, ..plan },
        BurstPlan { batch: u32::MAX, ..plan },
    ] {
        agent.fails(Request::Burst(bad));
    }
    let short = BurstPlan { operations: 1 << 40, warmup: 1 << 40, limit_ns: 1_000_000, batch: 1, number: 0 };
    let Response::Sample(sample) = agent.ask(Request::Burst(short)) else { panic!("no sample") };
    assert!(sample.cut_short && sample.operations > 0, "{sample:?}");
    agent.bye();
}

#[test]
fn a_damaged_frame_is_answered_and_the_agent_goes_on() {
    use std::io::Write as _;
    let data = disk();
    let mut agent = Driven::start(data.path());
    for damage in ["\x1e00000000 {}\n", "\x1e\n", "garbage \x1e more garbage\n"] {
        agent.out.write_all(damage.as_bytes()).expect("sent");
        let answer: Envelope<Response> = protocol::read_frame(&mut agent.input).expect("answered");
        assert!(matches!(answer.body, Response::Failed { .. }) && answer.id == 0, "{answer:?}");
    }
    assert!(matches!(agent.ask(Request::Ping), Response::Pong));
    agent.bye();
}

#[test]
fn what_is_prepared_is_removed_when_the_channel_closes() {
    let data = disk();
    let peer = peer();
    let mut agent = Driven::start(data.path());
    agent.prepare("disk/fsync", &[], 1, peer.address());
    assert!(data.path().join("work/fsync.dat").exists());
    let thread = agent.thread.take().expect("once");
    drop(agent);
    thread.join().expect("no panic").expect("a closed channel is no error");
    assert_eq!(std::fs::read_dir(data.path()).expect("readable").count(), 0);
}

#[test]
fn what_a_killed_agent_left_behind_is_no_obstacle() {
    let data = disk();
    let peer = peer();
    std::fs::create_dir_all(data.path().join("work/deep")).expect("made");
    std::fs::write(data.path().join("work/commit.db"), "not a database").expect("written");
    let mut agent = Driven::start(data.path());
    agent.prepare("sqlite/commit", &[], 1, peer.address());
    agent.burst(5);
    agent.verify();
    agent.bye();
}

#[test]
fn settings_are_honoured_and_read_back() {
    let data = disk();
    let peer = peer();
    let mut agent = Driven::start(data.path());
    for (journal, synchronous, number) in [("wal", "normal", "1"), ("delete", "full", "2"), ("delete", "off", "0")] {
        agent.prepare("sqlite/commit", &[("journal", journal), ("synchronous", synchronous)], 1, peer.address());
        agent.burst(5);
        let (check, facts) = agent.verify();
        assert_eq!((facts["journal_mode"].as_str(), facts["synchronous"].as_str()), (journal, number));
        assert_eq!(check.value, pinned("sqlite/commit"), "the rows are the same, however they get there");
    }
    let facts = agent.prepare("disk/randread", &[("direct", "false"), ("size", "1MiB")], 1, peer.address());
    assert_eq!((facts["blocks"].as_str(), facts["direct"].as_str()), ("256", "false"));
    agent.burst(2000);
    let (_, facts) = agent.verify();
    assert_eq!(facts["resident"], "1.0000", "reads through the page cache stay in it");
    agent.prepare("disk/fsync", &[("sync", "fsync"), ("block", "512")], 1, peer.address());
    assert_eq!(agent.burst(5).bytes, 5 * 512);
    agent.verify();
    for (name, setting) in [("net/rr", ("size", "1000")), ("net/stream", ("block", "1MiB"))] {
        agent.prepare(name, &[setting], 1, peer.address());
        agent.burst(5);
        agent.verify();
    }
    agent.bye();
}

#[test]
fn controls_do_what_they_are_set_to() {
    let data = disk();
    let peer = peer();
    let mut agent = Driven::start(data.path());
    for (name, settings, same) in [
        ("control/switch", vec![("between", "threads")], true),
        ("control/spawn", vec![("call", "posix_spawn")], true),
        ("control/fault", vec![("size", "64KiB")], true),
        ("control/memory", vec![("size", "0.01x")], false),
        ("control/bandwidth", vec![("work", "read"), ("block", "64KiB"), ("size", "1MiB")], false),
        ("control/bandwidth", vec![("work", "write"), ("block", "4096"), ("size", "128KiB")], false),
        ("control/bandwidth", vec![("work", "copy"), ("block", "12288"), ("size", "1MiB")], false),
        ("control/cpu", vec![("work", "sha256")], false),
        ("control/timer", vec![("interval", "200us"), ("slack", "1us")], true),
        ("control/switch", vec![("jobs", "3")], false),
        ("control/spawn", vec![("jobs", "2")], false),
        ("control/memory", vec![("jobs", "2"), ("rate", "20000")], false),
    ] {
        agent.prepare(name, &settings, 1, peer.address());
        // Fewer operations than there are blocks, and then several times round.
        for operations in [3, 150] {
            agent.burst(operations);
            let (check, _) = agent.verify();
            assert_eq!(check.value == pinned(name), same, "{name} {settings:?}");
        }
    }
    let timer = [("rate", "100")];
    assert!(agent.fails(prepare("control/timer", &timer, 1, None)).contains("set interval instead"));
    let fault = [("size", "5000")];
    assert!(agent.fails(prepare("control/fault", &fault, 1, None)).contains("not a multiple of 4096"));
    let bandwidth = [("size", "1MiB")];
    assert!(agent.fails(prepare("control/bandwidth", &bandwidth, 1, None)).contains("no room for a block"));
    let memory = [("size", "2x")];
    assert!(agent.fails(prepare("control/memory", &memory, 1, None)).contains("would hold"));
    agent.bye();
}

#[test]
fn direct_reads_leave_nothing_in_the_page_cache() {
    let data = disk();
    let peer = peer();
    let mut agent = Driven::start(data.path());
    agent.prepare("disk/randread", &[], 1, peer.address());
    agent.burst(50);
    let (_, facts) = agent.verify();
    assert_eq!((facts["direct"].as_str(), facts["resident"].as_str()), ("true", "0.0000"));
    agent.bye();
}

#[test]
fn data_that_was_changed_behind_its_back_fails_verification() {
    use std::os::unix::fs::FileExt as _;
    let data = disk();
    let peer = peer();
    let mut agent = Driven::start(data.path());
    for (name, file) in
        [("disk/fsync", "fsync.dat"), ("disk/randread", "randread.dat"), ("disk/randwrite", "randwrite.dat")]
    {
        agent.prepare(name, &[], 1, peer.address());
        agent.burst(10);
        let file = std::fs::File::options().write(true).open(data.path().join("work").join(file)).expect("opened");
        file.write_all_at(b"?", 4096 + 2000).expect("changed");
        file.sync_all().expect("flushed");
        let message = agent.fails(Request::Verify);
        assert!(message.contains("block 1 doesn't hold"), "{name}: {message}");
    }
    agent.bye();
}

#[test]
fn a_peer_that_dies_is_a_failure_and_not_the_end() {
    let data = disk();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    let closer = std::thread::spawn(move || drop(listener.accept().expect("accepted")));
    let mut agent = Driven::start(data.path());
    agent.prepare("net/rr", &[], 1, address);
    closer.join().expect("closed");
    let plan = BurstPlan { operations: 10, warmup: 0, batch: 1, limit_ns: u64::MAX, number: 0 };
    let message = agent.fails(Request::Burst(plan));
    assert!(message.contains("peer") || message.contains("connection"), "{message}");
    assert!(matches!(agent.ask(Request::Ping), Response::Pong));
    assert!(agent.fails(prepare("net/rr", &[], 1, Some(address))).contains("can't reach the peer"));
    agent.bye();
}

#[test]
fn what_the_limit_cuts_short_is_whole_all_the_same() {
    let data = disk();
    let peer = peer();
    let mut agent = Driven::start(data.path());
    for workload in WORKLOADS {
        let name = workload.name();
        agent.prepare(name, &[], 1, peer.address());
        let plan = BurstPlan { operations: 1 << 30, warmup: 1 << 30, batch: 1, limit_ns: 5_000_000, number: 0 };
        match agent.ask(Request::Burst(plan)) {
            Response::Sample(s) => {
                assert!(s.cut_short && s.operations > 0 && s.elapsed_ns >= 5_000_000, "{name}: {s:?}")
            }
            other => panic!("{name}: {other:?}"),
        }
        let (check, _) = agent.verify();
        assert!(PINNED.contains(&(name, check.value.as_str())), "{name}");
    }
    agent.bye();
}

proptest::proptest! {
    #[test]
    fn no_bytes_end_the_agent(
        pieces in proptest::collection::vec(
            proptest::prop_oneof![
                proptest::collection::vec(proptest::num::u8::ANY, 0..40),
                // Frames whose checksum is right, around what may or may not be a request.
                "[{}\\[\\]\",:a-zA-Z0-9_]{0,40}".prop_map(|text| frame(&text)),
                proptest::sample::select(vec!["Ping", "Verify", "Release"])
                    .prop_map(|r| frame(&format!(r#"{{"id":1,"received_ns":0,"sent_ns":0,"body":"{r}"}}"#))),
            ],
            0..8,
        ),
    ) {
        let mut out = Vec::new();
        let input = pieces.concat();
        agent::serve(&mut input.as_slice(), &mut out, Path::new("/nonexistent")).expect("it ends with its channel");
        let mut answers = out.as_slice();
        while !answers.is_empty() {
            protocol::read_frame::<Envelope<Response>>(&mut answers).expect("every answer is whole");
        }
    }
}

fn frame(json: &str) -> Vec<u8> {
    format!("\x1e{:08x} {json}\n", crc32fast::hash(json.as_bytes())).into_bytes()
}
