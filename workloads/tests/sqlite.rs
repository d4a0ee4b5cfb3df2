//! SQLite's workloads as the harness drives them: settings read back, cold caches, contention, and disks that fill up.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::path::Path;
#[cfg(target_os = "linux")]
use std::path::PathBuf;
use std::thread::JoinHandle;

#[cfg(target_os = "linux")]
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use workloads::protocol::{self, BurstPlan, Envelope, Request, Response, Sample, Task};
use workloads::registry;
use workloads::settings::Settings;
use workloads::{Check, agent, load};

/// An agent in a thread of its own, and the harness's end of its channel.
struct Driven {
    input: BufReader<UnixStream>,
    out: UnixStream,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

type Facts = BTreeMap<String, String>;

impl Driven {
    fn start(data: &Path) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        ours.set_read_timeout(Some(std::time::Duration::from_secs(120))).expect("a deadline");
        let data = data.to_path_buf();
        let thread = std::thread::spawn(move || {
            let mut out = theirs.try_clone()?;
            agent::serve(&mut BufReader::new(theirs), &mut out, &data)
        });
        let mut input = BufReader::new(ours.try_clone().expect("cloned"));
        protocol::read_frame::<Envelope<Response>>(&mut input).expect("the agent speaks first");
        Self { input, out: ours, thread: Some(thread) }
    }

    fn ask(&mut self, body: Request) -> Response {
        protocol::send(&mut self.out, 1, 0, &body, || 0).expect("sent");
        protocol::read_frame::<Envelope<Response>>(&mut self.input).expect("answered").body
    }

    fn fails(&mut self, body: Request) -> String {
        match self.ask(body) {
            Response::Failed { message } => message,
            Response::Sample(sample) => panic!("this should have failed after {} operations", sample.operations),
            other => panic!("this should have failed: {other:?}"),
        }
    }

    fn prepare(&mut self, name: &str, given: &[(&str, &str)]) -> Facts {
        match self.ask(prepare(name, given)) {
            Response::Prepared(facts) => facts,
            other => panic!("{name} {given:?}: {other:?}"),
        }
    }

    fn burst(&mut self, operations: u64) -> Sample {
        match self.ask(burst(operations)) {
            Response::Sample(sample) => sample,
            other => panic!("{other:?}"),
        }
    }

    fn verify(&mut self) -> (Check, Facts) {
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

fn prepare(name: &str, given: &[(&str, &str)]) -> Request {
    let workload = registry::find(name).expect("registered");
    // Valid each by itself; whether they go together the agent says.
    let settings = Settings::of(&load::settings(workload.settings()), given);
    Request::Prepare(Task { settings, seed: 1, memory: 1 << 29, ..Task::of(name) })
}

fn burst(operations: u64) -> Request {
    Request::Burst(BurstPlan { operations, warmup: operations / 5, batch: 1, limit_ns: u64::MAX, number: 0 })
}

/// A directory on a disk, not on a tmpfs that `/tmp` may be.
fn disk() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

#[test]
fn settings_are_honoured_read_back_and_change_no_content() {
    let data = disk();
    let mut agent = Driven::start(data.path());
    let usual = |agent: &mut Driven, name: &str| {
        agent.prepare(name, &[]);
        agent.verify().0.value
    };
    let numbers = BTreeMap::from([("off", "0"), ("normal", "1"), ("full", "2"), ("extra", "3")]);
    for name in ["sqlite/commit", "sqlite/mailbox", "sqlite/insertions"] {
        let check = usual(&mut agent, name);
        for (journal, synchronous) in [
            ("delete", "extra"),
            ("truncate", "full"),
            ("persist", "normal"),
            ("wal", "off"),
            ("memory", "normal"),
            ("off", "full"),
        ] {
            agent.prepare(name, &[("journal", journal), ("synchronous", synchronous)]);
            agent.burst(10);
            let (found, facts) = agent.verify();
            assert_eq!(
                (facts["journal_mode"].as_str(), facts["synchronous"].as_str()),
                (journal, numbers[synchronous])
            );
            assert_eq!(
                found.value, check,
                "{name} with {journal} and {synchronous}: the same rows, however they get there"
            );
        }
    }
    for name in ["sqlite/lookup", "sqlite/scan", "sqlite/mixed", "sqlite/chatty", "sqlite/set", "sqlite/writers"] {
        let check = usual(&mut agent, name);
        let writes = matches!(name, "sqlite/writers");
        for journal in ["delete", "truncate", "persist"] {
            let cache = [("journal", journal), ("cache_size", "1MiB")];
            agent.prepare(name, if writes { &cache[..1] } else { &cache });
            agent.burst(10);
            let (found, facts) = agent.verify();
            assert_eq!((facts["journal_mode"].as_str(), found.value), (journal, check.clone()), "{name}");
            assert!(writes || facts["cache_size"] == "-1024", "{name}: {facts:?}");
        }
    }
    let facts = agent.prepare("sqlite/commit", &[("page_size", "512"), ("cache_size", "1MiB")]);
    assert_eq!((facts["page_size"].as_str(), facts["cache_size"].as_str()), ("512", "-1024"));
    for (auto_vacuum, number) in [("none", "0"), ("full", "1"), ("incremental", "2")] {
        let facts = agent.prepare("sqlite/mailbox", &[("auto_vacuum", auto_vacuum), ("indexes", "5")]);
        assert_eq!((facts["auto_vacuum"].as_str(), facts["indexes"].as_str()), (number, "5"));
    }
    let message = agent.fails(prepare("sqlite/commit", &[("page_size", "5000")]));
    assert!(
        message.contains("SQLite refused page_size = 5000") && message.contains("set page_size = 4096"),
        "{message}"
    );
    let message = agent.fails(prepare("sqlite/scan", &[("rows", "1000000")]));
    assert!(message.contains("set a larger size or fewer rows"), "{message}");
    agent.bye();
}

#[test]
fn a_transaction_has_the_rows_and_the_bytes_that_were_set() {
    let data = disk();
    let mut agent = Driven::start(data.path());
    for (rows, row) in [(7, 1000), (100, 10), (2, 70_000)] {
        agent.prepare("sqlite/commit", &[("rows", &rows.to_string()), ("row", &row.to_string())]);
        let sample = agent.burst(10);
        assert_eq!((sample.operations, sample.bytes), (10, 10 * rows * row));
        let (check, _) = agent.verify();
        let before = 1000.min((8 << 20) / row);
        assert!(check.detail.contains(&format!("{} rows as inserted", before + 12 * rows)), "{}", check.detail);
    }
    let message = agent.fails(prepare("sqlite/commit", &[("rows", "100000"), ("row", "1MiB")]));
    assert!(message.contains("set fewer rows or a smaller row") || message.contains("set a smaller size"), "{message}");
    agent.bye();
}

#[test]
fn cold_reads_come_from_the_disk_and_find_the_same() {
    let data = disk();
    let mut agent = Driven::start(data.path());
    for name in ["sqlite/lookup", "sqlite/scan", "sqlite/mixed"] {
        let size = ("size", "16MiB");
        let facts = agent.prepare(name, &[size]);
        let ratio: f64 = facts["memory_ratio"].parse().expect("a number");
        assert!((0.03..0.0325).contains(&ratio), "16 MiB of 512: {ratio}");
        let resident: f64 = facts["resident"].parse().expect("a number");
        assert!(resident > 0.9, "{name}: what was written and read is in memory: {resident}");
        agent.burst(30);
        let warm = agent.verify().0.value;
        let facts = agent.prepare(name, &[size, ("cache", "cold")]);
        assert_eq!(facts["resident"], "0.0000", "{name}");
        for _ in 0..2 {
            agent.burst(30);
        }
        let (check, _) = agent.verify();
        assert_eq!(check.value, warm, "{name}");
    }
    agent.bye();
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_system_that_keeps_its_pages_is_no_place_for_cold_reads() {
    let Some(place) = Mounted::tmpfs("16m") else { return };
    let mut agent = Driven::start(&place.0);
    let message = agent.fails(prepare("sqlite/lookup", &[("cache", "cold")]));
    assert!(message.contains("stay in the page cache") && message.contains("set cache = warm"), "{message}");
    agent.prepare("sqlite/lookup", &[("size", "1MiB")]);
    agent.burst(100);
    agent.verify();
    agent.bye();
}

#[test]
fn reads_and_writes_have_the_share_that_was_set() {
    let data = disk();
    let mut agent = Driven::start(data.path());
    for (reads, writes) in [("100", 0..=0), ("0", 120..=120), ("50", 40..=80)] {
        agent.prepare("sqlite/mixed", &[("reads", reads)]);
        let before = agent.verify().0.value;
        let sample = agent.burst(100);
        assert!(writes.contains(&sample.counters["writes"]), "{reads} percent: {:?}", sample.counters);
        // All rows are compared, each in the version that was written last; then they are as they were laid out.
        assert_eq!(agent.verify().0.value, before);
        agent.burst(100);
        assert_eq!(agent.verify().0.value, before);
    }
    agent.bye();
}

#[test]
fn a_chatty_client_and_one_query_find_the_same() {
    let data = disk();
    let mut agent = Driven::start(data.path());
    for rows in ["1", "100", "300"] {
        let mut values = Vec::new();
        for (name, queries) in [("sqlite/chatty", rows.parse::<u64>().expect("a number") + 1), ("sqlite/set", 1)] {
            let facts = agent.prepare(name, &[("rows", rows)]);
            assert_eq!(facts["queries_per_operation"], queries.to_string());
            agent.burst(50);
            values.push(agent.verify().0.value);
        }
        assert_eq!(values[0], values[1], "{rows} rows");
    }
    agent.bye();
}

#[test]
fn writers_that_wait_for_each_other_are_counted() {
    let data = disk();
    let mut agent = Driven::start(data.path());
    for (journal, busy) in [("wal", "backoff"), ("delete", "poll"), ("wal", "yield")] {
        let facts = agent.prepare("sqlite/writers", &[("journal", journal), ("busy", busy)]);
        assert_eq!(facts["jobs"], "4");
        let sample = agent.burst(200);
        assert_eq!((sample.operations, sample.concurrency), (200, 4));
        let count = |name: &str| sample.counters[name];
        assert!(
            count("busy") >= count("busy_operations") && count("busy_operations") > 0,
            "{journal}: {:?}",
            sample.counters
        );
        assert!(count("busy_ns") > 0, "{journal}: {:?}", sample.counters);
        let (check, _) = agent.verify();
        assert!(check.detail.contains("60 rows of each writer"), "{}", check.detail);
    }
    agent.prepare("sqlite/writers", &[("jobs", "1")]);
    assert_eq!(agent.burst(50).counters["busy"], 0, "one alone waits for nobody");
    agent.bye();
}

#[test]
fn the_insertions_begin_with_an_empty_table() {
    let data = disk();
    let mut agent = Driven::start(data.path());
    agent.prepare("sqlite/insertions", &[("synchronous", "off"), ("journal", "memory")]);
    for operations in [7500, 10] {
        assert_eq!(agent.burst(operations).operations, operations);
        let (check, facts) = agent.verify();
        assert!(check.detail.contains(&format!("{} rows", operations / 5 * 6)), "{}", check.detail);
        assert_eq!(facts["rows"], "8", "those of the check");
    }
    agent.bye();
}

#[test]
fn a_database_too_large_for_the_disk_is_refused_before_it_is_made() {
    let data = disk();
    let mut agent = Driven::start(data.path());
    let message = agent.fails(prepare("sqlite/scan", &[("size", "1000x")]));
    assert!(message.contains("would write") && message.contains("free"), "{message}");
    agent.bye();
}

/// A file system of our own, taken away when dropped.
#[cfg(target_os = "linux")]
struct Mounted(PathBuf, #[expect(dead_code, reason = "removed when dropped")] tempfile::TempDir);

#[cfg(target_os = "linux")]
impl Mounted {
    /// A small one in memory; `None`, said aloud, for who may not mount.
    fn tmpfs(size: &str) -> Option<Self> {
        let directory = disk();
        let options = format!("size={size}");
        let at = directory.path().to_path_buf();
        match mount(Some("tarebench"), &at, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())) {
            Ok(()) => Some(Self(at, directory)),
            Err(e) => {
                eprintln!("SKIPPED: can't mount a tmpfs on {}: {e}; run the tests as root", at.display());
                None
            }
        }
    }
}

#[cfg(target_os = "linux")]
impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(e) = umount2(&self.0, MntFlags::MNT_DETACH) {
            eprintln!("can't unmount {}: {e}", self.0.display());
        }
    }
}

/// Takes up all room of a file system but 1 MiB, until it's dropped.
#[cfg(target_os = "linux")]
struct Ballast(PathBuf);

#[cfg(target_os = "linux")]
impl Ballast {
    fn load(place: &Path) -> Self {
        let room = nix::sys::statvfs::statvfs(place).expect("asked");
        let free = room.blocks_available() as u64 * room.fragment_size() as u64;
        let path = place.join("ballast");
        std::fs::write(&path, vec![1; free.saturating_sub(1 << 20) as usize]).expect("there is room");
        Self(path)
    }
}

#[cfg(target_os = "linux")]
impl Drop for Ballast {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_file(&self.0) {
            eprintln!("can't remove {}: {e}", self.0.display());
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_disk_that_fills_up_is_a_failure_with_advice_and_not_the_end() {
    let Some(place) = Mounted::tmpfs("48m") else { return };
    let mut agent = Driven::start(&place.0);
    let full = |message: &str| {
        assert!(message.contains("is full; make room"), "{message}");
        assert!(message.contains(place.0.to_str().expect("text")), "{message}");
        assert!(message.contains("(SQLite's error"), "{message}");
    };
    for (name, given, operations) in [
        ("sqlite/commit", &[("row", "4KiB"), ("journal", "delete")][..], 5000),
        ("sqlite/commit", &[("rows", "10"), ("row", "1000"), ("journal", "off")], 5000),
        ("sqlite/commit", &[("row", "2000")], 50_000),
        ("sqlite/insertions", &[("journal", "truncate")], 100_000),
        ("sqlite/writers", &[("row", "1KiB"), ("journal", "persist")], 5000),
    ] {
        agent.prepare(name, given);
        agent.burst(5);
        let ballast = Ballast::load(&place.0);
        full(&agent.fails(burst(operations)));
        drop(ballast);
        if given.contains(&("journal", "off")) {
            // There was nothing to take out again with what had been written.
            agent.prepare(name, given);
        }
        // Once there is room again, the next burst begins as the first did.
        agent.burst(10);
        agent.verify();
    }
    // Where there is no room for the database itself.
    assert!(matches!(agent.ask(Request::Release), Response::Released));
    let ballast = Ballast::load(&place.0);
    for (name, given) in [("sqlite/lookup", ("size", "2MiB")), ("sqlite/mailbox", ("messages", "200"))] {
        full(&agent.fails(prepare(name, &[given])));
    }
    assert!(matches!(agent.ask(Request::Ping), Response::Pong));
    drop(ballast);
    agent.bye();
}
