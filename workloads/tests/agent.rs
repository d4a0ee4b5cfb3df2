//! The agent as the harness drives it: every workload over a pair of sockets, against a real peer on loopback.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::JoinHandle;

use workloads::peer::Listening;
use workloads::protocol::{self, BurstPlan, Envelope, Hello, Request, Response, Sample};
use workloads::registry::{self, WORKLOADS};
use workloads::settings::Settings;
use workloads::{Check, agent};

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
        match self.ask(Request::Burst(BurstPlan { operations, warmup: operations / 5, batch: 1, limit_ns: u64::MAX })) {
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
    let given = given.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let workload = registry::find(name).expect("registered");
    let settings = Settings::resolve(workload.settings(), &given).expect("valid");
    Request::Prepare { workload: name.into(), settings, seed, peer }
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
    ("sqlite/commit", "197951529dcbe8eaaeada4e72b54334e"),
    ("sqlite/lookup", "46830dddd3463eb3d73e360eaf9ac2f6"),
    ("disk/fsync", "0d3d43762cfd4d3fb9c6d81e8894cdc5"),
    ("disk/randread", "1e21c8a04bf9bd7c82e2c02c14598da7"),
    ("disk/randwrite", "5c8321742b8aab4733d4483248806829"),
    ("net/rr", "92319ef0bd76b713bdc7bdc75f8254c3"),
    ("net/stream", "01132464efe67b50f67ca28a71111429"),
];

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
            assert_eq!((sample.operations, sample.warmup_operations), (operations, operations / 5), "{name}");
            assert!(sample.elapsed_ns > 0 && !sample.cut_short, "{name}: {sample:?}");
            let (check, facts) = agent.verify();
            assert_eq!(check.value, before.value, "{name} after {operations} operations");
            assert!(!facts.values().any(String::is_empty), "{name}: {facts:?}");
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
    assert_eq!(found, PINNED);
}
