//! The disk workloads by their settings: that these are honoured, that engines agree, that damage is found and trouble has words.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use workloads::protocol::{BurstPlan, Sample};
use workloads::settings::Settings;
use workloads::stopwatch::Stopwatch;
use workloads::{Place, Prepared, load, registry};

/// A directory on a disk, not on a tmpfs that `/tmp` may be.
fn disk() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

fn place(name: &str, given: &[(&str, &str)], directory: &Path) -> Place {
    let settings = Settings::of(&load::settings(registry::find(name).expect("registered").settings()), given);
    Place { memory: 64 << 20, ..Place::alone(directory, settings) }
}

fn prepare(name: &str, given: &[(&str, &str)], directory: &Path) -> anyhow::Result<Box<dyn Prepared>> {
    let (workload, place) = (registry::find(name).expect("registered"), place(name, given, directory));
    workload.check(&place.settings)?;
    workload.prepare(&place)
}

fn prepared(name: &str, given: &[(&str, &str)], directory: &Path) -> Box<dyn Prepared> {
    prepare(name, given, directory).unwrap_or_else(|e| panic!("{name} {given:?}: {e:#}"))
}

fn plan(operations: u64) -> BurstPlan {
    BurstPlan { operations, warmup: operations / 5, batch: 1, limit_ns: u64::MAX, number: 0 }
}

fn burst(work: &mut dyn Prepared, operations: u64) -> anyhow::Result<Sample> {
    let mut watch = Stopwatch::new();
    watch.arm(plan(operations));
    work.burst(&mut watch)?;
    watch.sample()
}

/// Whether io_uring can be tried here; a skip is loud.
fn uring(directory: &Path) -> bool {
    match prepare("disk/randread", &[("engine", "io_uring"), ("size", "1MiB")], directory) {
        Ok(_) => true,
        Err(e) => {
            eprintln!("SKIPPED: no io_uring here: {e:#}");
            false
        }
    }
}

const ACCESS: [&str; 5] = ["disk/randread", "disk/randwrite", "disk/randrw", "disk/seqread", "disk/seqwrite"];

#[test]
fn engines_and_depths_give_the_same_check_value() {
    let directory = disk();
    let uring = uring(directory.path());
    for name in ACCESS {
        let mut first = prepared(name, &[("size", "4MiB")], directory.path());
        burst(&mut *first, 100).expect("done");
        let expected = first.verify().expect("verified").value;
        if !uring {
            continue;
        }
        for (depth, direct) in [("1", "true"), ("7", "true"), ("16", "false"), ("32", "true")] {
            let given = [("size", "4MiB"), ("engine", "io_uring"), ("depth", depth), ("direct", direct)];
            let mut work = prepared(name, &given, directory.path());
            for operations in [5, 500, 37] {
                let sample = burst(&mut *work, operations).expect("done");
                assert_eq!((sample.operations, sample.warmup_operations), (operations, operations / 5));
                let check = work.verify().unwrap_or_else(|e| panic!("{name} {given:?}: {e:#}"));
                assert_eq!(check.value, expected, "{name} {given:?}");
            }
            let facts = work.facts();
            assert_eq!((facts["engine"].as_str(), facts["depth"].as_str()), ("io_uring", depth));
        }
    }
}

#[test]
fn a_whole_file_with_a_flush_at_its_end_is_one_operation() {
    let directory = disk();
    let given = [("size", "1MiB"), ("sync", "end"), ("direct", "false")];
    let mut work = prepared("disk/seqwrite", &given, directory.path());
    let expected = work.verify().expect("as it was filled").value;
    for operations in [1, 5, 3] {
        let sample = burst(&mut *work, operations).expect("done");
        assert_eq!((sample.operations, sample.bytes), (operations, operations << 20));
        assert_eq!(work.verify().expect("every block has its last version").value, expected);
    }
    assert_eq!(work.facts()["sync"], "end");
    let file = std::fs::OpenOptions::new().write(true).open(directory.path().join("seqwrite.dat")).expect("there");
    file.write_all_at(b"damage", 300_000).expect("written");
    assert!(work.verify().expect_err("damaged").to_string().contains("block 2 doesn't hold"));
    let workload = registry::find("disk/seqwrite").expect("registered");
    let durable = |given: &[(&str, &str)]| workload.durable(&place("disk/seqwrite", given, directory.path()).settings);
    assert!(durable(&given) && !durable(&[]), "its flush is to be seen on the device");
    for (more, words) in [(("direct", "true"), "set direct=false too"), (("engine", "io_uring"), "set engine=psync")] {
        let e = prepare("disk/seqwrite", &[&given[..2], &[("direct", "false"), more]].concat(), directory.path());
        assert!(e.err().expect("refused").to_string().contains(words), "{more:?}");
    }
}

#[test]
fn several_in_flight_take_longer_each_and_not_together() {
    let directory = disk();
    if !uring(directory.path()) {
        return;
    }
    let given = [("engine", "io_uring"), ("depth", "8")];
    let sample = burst(&mut *prepared("disk/randread", &given, directory.path()), 2000).expect("done");
    let mut bytes = sample.histogram.as_slice();
    let histogram: hdrhistogram::Histogram<u64> =
        hdrhistogram::serialization::Deserializer::new().deserialize(&mut bytes).expect("reads back");
    // Little's law: mean latency = in flight / operations per second.
    let in_flight = histogram.mean() * sample.operations as f64 / sample.elapsed_ns as f64;
    assert!((7.0..8.2).contains(&in_flight), "{in_flight} in flight");
}

#[test]
fn a_small_file_with_a_deep_queue_keeps_its_content() {
    let directory = disk();
    if !uring(directory.path()) {
        return;
    }
    // As many blocks as slots: in sequence a write often meets one to the same block.
    for name in ["disk/randwrite", "disk/randrw", "disk/seqwrite"] {
        let given = [("size", "64KiB"), ("block", "4KiB"), ("engine", "io_uring"), ("depth", "16")];
        let mut work = prepared(name, &given, directory.path());
        burst(&mut *work, 3000).expect("done");
        work.verify().unwrap_or_else(|e| panic!("{name}: {e:#}"));
        let deeper = [("size", "64KiB"), ("block", "4KiB"), ("engine", "io_uring"), ("depth", "17")];
        let error = prepare(name, &deeper, directory.path()).err().expect("too deep");
        assert!(error.to_string().contains("fewer blocks of 4096 than the 17"), "{error:#}");
    }
}

#[test]
fn a_depth_without_a_queue_is_refused() {
    let directory = disk();
    for name in ACCESS {
        let error = prepare(name, &[("depth", "2")], directory.path()).err().expect("refused");
        assert!(error.to_string().contains("set depth = 1 and more jobs, or engine = io_uring"), "{error:#}");
        let place = place(name, &[("depth", "32"), ("engine", "io_uring")], directory.path());
        assert_eq!(registry::find(name).expect("registered").in_flight(&place.settings), 32);
    }
}

#[test]
fn sizes_are_multiples_of_the_memory_and_told_beforehand() {
    let directory = disk();
    let facts = prepared("disk/seqread", &[("size", "0.25x")], directory.path()).facts();
    assert_eq!((facts["blocks"].as_str(), facts["block_bytes"].as_str()), ("128", "131072"));
    for (name, setting, least) in [
        ("disk/randrw", ("size", "8GiB"), 8 << 30),
        ("disk/seqwrite", ("size", "2x"), 128 << 20),
        ("disk/maildir", ("messages", "100000"), 1 << 30),
        ("disk/metadata", ("files", "1000000"), 4 << 30),
    ] {
        let settings = place(name, &[setting], directory.path()).settings;
        let needs = registry::find(name).expect("registered").needs(&settings, 64 << 20);
        assert!(needs.disk >= least, "{name}: {needs:?}");
    }
    let overwrite = place("disk/fsync", &[("pattern", "overwrite"), ("size", "1GiB")], directory.path()).settings;
    let fsync = registry::find("disk/fsync").expect("registered");
    assert_eq!(fsync.needs(&overwrite, 0).disk, 1 << 30);
}

#[test]
fn fsync_waits_in_three_ways_and_writes_in_two() {
    let directory = disk();
    let mut values = Vec::new();
    for sync in ["fdatasync", "fsync", "dsync"] {
        for pattern in ["append", "overwrite"] {
            let given = [("sync", sync), ("pattern", pattern), ("size", "64KiB")];
            let mut work = prepared("disk/fsync", &given, directory.path());
            for operations in [5, 40] {
                assert_eq!(burst(&mut *work, operations).expect("done").bytes, operations * 4096);
                let check = work.verify().unwrap_or_else(|e| panic!("{given:?}: {e:#}"));
                values.push(check.value);
            }
            let facts = work.facts();
            assert_eq!((facts["sync"].as_str(), facts["pattern"].as_str()), (sync, pattern));
            let length = std::fs::metadata(directory.path().join("fsync.dat")).expect("there").len();
            assert_eq!(length, if pattern == "append" { 8 * 4096 } else { 64 << 10 });
        }
    }
    assert!(values.iter().all(|v| *v == values[0]), "the blocks are the same, however they get there: {values:?}");
}

#[test]
fn damage_is_found_whatever_the_workload() {
    let directory = disk();
    let overwrite = ("pattern", "overwrite");
    for (name, given, file) in [
        ("disk/randrw", vec![], "randrw.dat"),
        ("disk/seqread", vec![], "seqread.dat"),
        ("disk/seqwrite", vec![], "seqwrite.dat"),
        ("disk/fsync", vec![overwrite], "fsync.dat"),
    ] {
        let mut work = prepared(name, &given, directory.path());
        burst(&mut *work, 20).expect("done");
        work.verify().expect("as it should be");
        let file = std::fs::File::options().write(true).open(directory.path().join(file)).expect("opened");
        file.write_all_at(b"?", 5000).expect("changed");
        file.sync_all().expect("flushed");
        let error = work.verify().expect_err("changed");
        assert!(error.to_string().contains("doesn't hold what was written"), "{name}: {error:#}");
    }
}

/// The first file of a directory, by name.
fn first(directory: PathBuf) -> PathBuf {
    let entries = std::fs::read_dir(&directory).expect("listed").map(|e| e.expect("an entry").path());
    entries.min().expect("it is not empty")
}

#[test]
fn a_folder_with_a_wrong_message_is_not_verified() {
    for kind in ["mix", "deliver", "read", "list"] {
        let directory = disk();
        let given = [("messages", "50"), ("kind", kind), ("fsync", "false")];
        let mut work = prepared("disk/maildir", &given, directory.path());
        let before = work.verify().expect("verified").value;
        burst(&mut *work, 100).expect("done");
        assert_eq!(work.verify().expect("verified").value, before, "{kind}");
        burst(&mut *work, 30).expect("done");
        let folder = directory.path().join("maildir/new");
        let message = first(folder.clone());
        let whole = std::fs::read(&message).expect("read");
        std::fs::write(&message, &whole[1..]).expect("changed");
        let error = work.verify().expect_err("a message lost a byte");
        assert!(error.to_string().contains("doesn't hold what was delivered"), "{error:#}");
        std::fs::write(&message, &whole).expect("put back");
        std::fs::write(folder.join("stray"), "").expect("added");
        let error = work.verify().expect_err("one too many");
        assert!(error.to_string().contains("lists stray"), "{error:#}");
        std::fs::remove_file(folder.join("stray")).expect("removed");
        std::fs::remove_file(&message).expect("removed");
        let error = work.verify().expect_err("one too few");
        assert!(error.to_string().contains("doesn't list the message"), "{error:#}");
    }
}

#[test]
fn the_folder_is_the_same_before_each_burst() {
    let directory = disk();
    let mut work = prepared("disk/maildir", &[("messages", "40"), ("fsync_directory", "true")], directory.path());
    let names = || {
        let entries = std::fs::read_dir(directory.path().join("maildir/new")).expect("listed");
        let mut names: Vec<_> = entries.map(|e| e.expect("an entry").file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    assert_eq!(before.len(), 40);
    let bytes = burst(&mut *work, 200).expect("done").bytes;
    assert!(bytes > 0 && names() != before);
    work.verify().expect("verified");
    assert_eq!(names(), before);
    // A folder of one is emptied and filled again.
    let directory = disk();
    let mut work = prepared("disk/maildir", &[("messages", "1"), ("fsync", "false")], directory.path());
    for _ in 0..20 {
        burst(&mut *work, 20).expect("done");
    }
    work.verify().expect("verified");
}

#[test]
fn a_directory_with_a_wrong_file_is_not_verified() {
    for kind in ["mix", "stat", "open", "create"] {
        let directory = disk();
        let mut work = prepared("disk/metadata", &[("files", "30"), ("kind", kind)], directory.path());
        let before = work.verify().expect("verified").value;
        burst(&mut *work, 200).expect("done");
        assert_eq!(work.verify().expect("verified").value, before, "{kind}");
        let file = first(directory.path().join("metadata"));
        std::fs::write(&file, "short").expect("changed");
        if kind == "stat" {
            let error = burst(&mut *work, 500).expect_err("another size");
            assert!(error.to_string().contains("has another size"), "{error:#}");
        }
        let error = work.verify().expect_err("changed");
        assert!(error.to_string().contains("doesn't hold what was written"), "{error:#}");
        std::fs::remove_file(&file).expect("removed");
        let error = work.verify().expect_err("one too few");
        assert!(error.to_string().contains("doesn't list"), "{error:#}");
    }
}

/// A file system of a few MiB that is gone on drop.
struct Small(tempfile::TempDir);

impl Small {
    /// `None`, said aloud, where it can't be mounted.
    fn mount(options: &str) -> Option<Self> {
        let directory = disk();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs"])
            .args(["-o", options])
            .arg("tarebench")
            .arg(directory.path())
            .output()
            .is_ok_and(|o| o.status.success());
        if !mounted {
            eprintln!("SKIPPED: a tmpfs can't be mounted here (needs root)");
        }
        // Made only where it is mounted: dropped, it is unmounted.
        mounted.then(|| Self(directory))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let done = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(done.is_ok_and(|s| s.success()), "{} is still mounted", self.0.path().display());
    }
}

#[test]
fn a_full_disk_is_a_failure_with_the_path_and_what_to_do() {
    let Some(small) = Small::mount("size=2m,nr_inodes=300") else { return };
    let full = |name: &str, error: anyhow::Error| {
        let text = format!("{error:#}");
        let words =
            [small.0.path().to_str().expect("UTF-8"), "the file system is full; free room there", "No space left"];
        assert!(words.iter().all(|w| text.contains(w)), "{name}: {text}");
    };
    for name in ACCESS {
        full(name, prepare(name, &[], small.0.path()).err().expect("16 MiB don't fit"));
        for entry in std::fs::read_dir(small.0.path()).expect("listed") {
            std::fs::remove_file(entry.expect("an entry").path()).expect("removed");
        }
    }
    let mut work = prepared("disk/fsync", &[], small.0.path());
    full("disk/fsync", burst(&mut *work, 1000).expect_err("4 MiB don't fit"));
    // The next burst starts from an empty file; a tmpfs may be late to count what that has freed (once in twenty runs here).
    let again = (0..50).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        burst(&mut *work, 100).is_ok()
    });
    assert!(again, "there is room again");
    work.verify().expect("verified");
    drop(work);
    std::fs::remove_file(small.0.path().join("fsync.dat")).expect("removed");

    let given = [("messages", "20"), ("kind", "deliver"), ("fsync", "false")];
    let mut work = prepared("disk/maildir", &given, small.0.path());
    full("disk/maildir", burst(&mut *work, 1000).expect_err("10 MB don't fit"));
    work.verify().expect("what was delivered before is there, and what was begun is cleared away");
    burst(&mut *work, 20).expect("done");
    drop(work);
    std::fs::remove_dir_all(small.0.path().join("maildir")).expect("removed");
    let error = prepare("disk/metadata", &[("files", "1000")], small.0.path()).err().expect("300 inodes");
    assert!(error.to_string().contains("inodes free; set fewer"), "{error:#}");
}

#[test]
fn a_queue_meets_the_end_of_the_disk_too() {
    let Some(small) = Small::mount("size=8m") else { return };
    if !uring(small.0.path()) {
        return;
    }
    std::fs::remove_file(small.0.path().join("randread.dat")).expect("removed");
    let given = [("size", "4MiB"), ("engine", "io_uring"), ("depth", "8"), ("direct", "false")];
    let mut work = prepared("disk/randwrite", &given, small.0.path());
    // A hole in the file needs room again, and other files have taken it.
    let file = std::fs::File::options().write(true).open(small.0.path().join("randwrite.dat")).expect("opened");
    file.set_len(0).expect("emptied");
    file.set_len(4 << 20).expect("a hole");
    let _ = std::fs::write(small.0.path().join("rest"), vec![1; 16 << 20]);
    let text = format!("{:#}", burst(&mut *work, 500).expect_err("no room"));
    assert!(text.contains("the file system is full") && text.contains("randwrite.dat"), "{text}");
}

#[test]
fn facts_say_what_came_to_be() {
    let directory = disk();
    let of = |name, given: &[(&str, &str)]| -> BTreeMap<String, String> {
        let mut work = prepared(name, given, directory.path());
        burst(&mut *work, 50).expect("done");
        work.facts()
    };
    for name in ACCESS {
        let facts = of(name, &[]);
        assert_eq!((facts["engine"].as_str(), facts["depth"].as_str()), ("psync", "1"));
        assert_eq!((facts["direct"].as_str(), facts["resident"].as_str()), ("true", "0.0000"), "{name}");
    }
    let facts = of("disk/seqread", &[("direct", "false"), ("size", "1MiB")]);
    assert_eq!(facts["resident"], "1.0000");
    let facts = of("disk/maildir", &[("messages", "100"), ("fsync", "false")]);
    assert_eq!((facts["messages"].as_str(), facts["fsync"].as_str()), ("100", "false"));
}
