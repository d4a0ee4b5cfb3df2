//! Runs go and come back as they were, and strangers leave nothing behind.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use super::*;
use crate::comparison::{Method, compare};
use crate::example::Example;
use crate::record::{Ending, Stored};

/// Made up once: that takes longer than all that is done with it.
static SEVEN: LazyLock<Stored> = LazyLock::new(|| {
    let mut stored = Example { blocks: 7, rounds: 1, seed: 5 }.build();
    stored.records.retain(|r| r.workload == "sqlite/commit" || r.workload == "net/rr");
    stored
});

fn run(id: &str, blocks: u32) -> Stored {
    let mut stored = SEVEN.clone();
    stored.run.id = id.into();
    stored.starts.retain(|s| s.block < blocks);
    stored.records.retain(|r| r.block < blocks);
    stored.voids.retain(|v| v.block < blocks);
    stored.checks.retain(|c| c.block < blocks);
    stored
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn store(&self, name: &str, runs: &[Stored]) -> Store {
        let store = Store::open(&self.at(name)).expect("a store");
        runs.iter().for_each(|run| store.import(run).expect("a run"));
        store
    }

    /// A file with these runs, as it travels.
    fn file(&self, name: &str, runs: &[Stored]) -> PathBuf {
        let store = self.store(&format!("{name}.source"), runs);
        let ids: Vec<String> = runs.iter().map(|run| run.run.id.clone()).collect();
        store.export(&ids, &self.at(name)).expect("exported");
        self.at(name)
    }
}

fn ids(store: &Store) -> Vec<String> {
    store.runs().expect("runs").into_iter().map(|run| run.id).collect()
}

#[test]
fn a_run_comes_back_as_it_went_and_twice_is_once() {
    let place = Place::new();
    let (one, two) = (run("one", 2), run("two", 2));
    let file = place.file("out.db", &[one.clone(), two.clone()]);
    assert!(!place.at("out.db-wal").exists() && !place.at("out.db.part").exists(), "it is one file");
    let store = place.store("t.db", std::slice::from_ref(&two));
    let merged = store.merge(&file).expect("merged");
    assert_eq!(merged, Merged { added: vec!["one".into()], grown: vec![], known: vec!["two".into()] });
    assert!(store.load("one").expect("the run") == one, "something changed on the way");
    assert_eq!(store.merge(&file).expect("again").known, ["one", "two"]);
    assert_eq!(ids(&store), ["two", "one"], "the latest is what came last");
    assert_eq!(store.find("latest").expect("a run"), "one");
}

#[test]
fn nothing_is_exported_over_what_is_there() {
    let place = Place::new();
    let store = place.store("t.db", &[run("one", 1)]);
    fs::write(place.at("notes"), "mine").expect("written");
    let error = store.export(&["one".into()], &place.at("notes")).expect_err("it is there");
    assert!(matches!(error, StoreError::Exists(_)), "{error}");
    assert_eq!(fs::read(place.at("notes")).expect("read"), b"mine");
    assert!(matches!(store.export(&["none".into()], &place.at("x.db")), Err(StoreError::NoRun { .. })));
    assert!(!place.at("x.db").exists() && !place.at("x.db.part").exists());
}

#[test]
fn a_run_that_went_on_elsewhere_grows_and_stays_accepted() {
    let place = Place::new();
    let mut long = run("one", 7);
    long.run.host.push((crate::record::RESUMED.into(), "after 6 blocks".into()));
    let mut short = run("one", 6);
    (short.ending, short.seconds) = (Ending::Interrupted, Some(3.0));
    short.run.command = "tarebench run --blocks 6".into();
    let store = place.store("t.db", std::slice::from_ref(&short));
    store.accept("one", "2026-01-01T00:00:00Z", "the first", false).expect("accepted");
    let (long_file, short_file) =
        (place.file("long.db", std::slice::from_ref(&long)), place.file("short.db", &[short]));
    assert_eq!(store.merge(&long_file).expect("merged").grown, ["one"]);
    let found = store.load("one").expect("the run");
    assert!(found == long, "something changed on the way");
    assert_eq!(store.accepted(&store.key("one").expect("a key")).expect("accepted").len(), 1);
    assert_eq!(store.merge(&short_file).expect("an older state").known, ["one"]);
    assert!(store.load("one").expect("the run") == long, "the longer one stays");
}

#[test]
fn another_run_of_the_same_id_is_refused_and_nothing_is_taken() {
    let place = Place::new();
    let mut other = run("two", 2);
    other.run.seed += 1;
    let file = place.file("out.db", &[run("one", 2), other]);
    let store = place.store("t.db", &[run("two", 2)]);
    assert!(matches!(store.merge(&file), Err(StoreError::OtherRun { run }) if run == "two"));
    assert_eq!(ids(&store), ["two"]);
    let mut changed = run("two", 2);
    changed.records[0].position = 77;
    assert!(matches!(store.merge(&place.file("b.db", &[changed])), Err(StoreError::OtherRun { .. })));
}

#[test]
fn two_that_merge_at_once_take_every_run_once() {
    let place = Place::new();
    let runs: Vec<Stored> = (0..4).map(|n| run(&format!("r{n}"), 1)).collect();
    let file = place.file("out.db", &runs);
    drop(place.store("t.db", &[]));
    let merged: Vec<Merged> = std::thread::scope(|scope| {
        let merge = || Store::open(&place.at("t.db")).expect("a store").merge(&file).expect("merged");
        let threads = [scope.spawn(merge), scope.spawn(merge)];
        threads.into_iter().map(|t| t.join().expect("no panic")).collect()
    });
    assert_eq!(merged.iter().map(|m| m.added.len()).sum::<usize>(), 4, "{merged:?}");
    let store = Store::open(&place.at("t.db")).expect("a store");
    assert_eq!(ids(&store), ["r0", "r1", "r2", "r3"]);
    for run in runs {
        assert!(store.load(&run.run.id).expect("the run") == run);
    }
}

/// Whether a file that was changed by `sql` is refused with these words, and leaves nothing behind.
#[track_caller]
fn refused(sql: &str, words: &str) {
    let place = Place::new();
    let file = place.file("out.db", &[run("one", 1)]);
    Connection::open(&file).expect("opens").execute_batch(sql).expect(sql);
    let store = place.store("t.db", &[]);
    let error = store.merge(&file).expect_err(sql).to_string();
    assert!(error.contains(words), "{sql}: {error}");
    assert!(ids(&store).is_empty(), "{sql}: something was taken");
}

#[test]
fn strangers_are_refused_before_anything_is_taken() {
    refused("PRAGMA user_version = 99", "has schema version 99 and this program knows up to");
    refused("PRAGMA application_id = 7", "is a database of another program");
    refused("CREATE VIEW sneaky AS SELECT 1", "its view `sneaky` is not as tarebench makes it");
    refused("CREATE TRIGGER t AFTER INSERT ON run BEGIN DELETE FROM burst; END", "its trigger `t` is not");
    refused("ALTER TABLE burst ADD COLUMN more TEXT", "its table `burst` is not");
    refused("DROP TABLE figure", "its index `figure_run` is not");
    refused(
        "PRAGMA foreign_keys = off; UPDATE run SET id = '../../etc/passwd'",
        "`../../etc/passwd` is no id of a run",
    );
    refused("PRAGMA foreign_keys = off; UPDATE run SET id = 'latest'", "`latest` is no id of a run");
    refused("PRAGMA foreign_keys = off; UPDATE run SET id = char(27) || '[2J'", "is no id of a run");
    refused("UPDATE burst SET histogram = zeroblob(9000000) WHERE nth = 1", "larger than any of tarebench's");
    refused("UPDATE run SET labels = 'no JSON'", "can't understand");
    refused(
        "UPDATE run SET pruned = 'x'; INSERT INTO figure VALUES (9999, 'one', 'w', 'e', 'p50', 1, 1, -1, NULL, NULL, 0, x'', 'trusted')",
        "is no number",
    );
    refused(
        "UPDATE run SET pruned = 'x'; INSERT INTO figure VALUES (9999, 'one', 'w', 'e', 'p50', 1, 1, 1, NULL, NULL, 0, x'01', 'trusted')",
        "can't understand",
    );
}

#[test]
fn numbers_that_no_run_has_are_refused() {
    let last =
        |table: &str, what: &str| format!("UPDATE {table} SET {what} WHERE nth = (SELECT max(nth) FROM {table})");
    for (table, row) in [("start", "a start"), ("burst", "a burst"), ("checked", "a check")] {
        refused(&last(table, "block = 4294967295"), &format!("run one: {row} has block 4294967295, and there are"));
    }
    refused(&last("burst", "round = 1000000"), "a burst has round 1000000");
    refused(&last("burst", "batch = 0"), "has no operation for a clock reading");
    refused(&last("checked", "block = 7"), "a check is of block 7, which was never begun");
    refused("UPDATE run SET seconds = 9e999", "it says that it took inf seconds");
    refused("UPDATE run SET seconds = -1", "it says that it took -1 seconds");
    refused("UPDATE run SET rounds = 4294967295", "it has rounds 4294967295");
    refused("UPDATE run SET baseline = 'none'", "its baseline `none` is none of its environments");
}

#[test]
fn an_export_leaves_what_is_beside_it_alone() {
    let place = Place::new();
    let store = place.store("t.db", &[run("one", 1)]);
    fs::write(place.at("x.db.part"), "mine").expect("written");
    store.export(&["one".into()], &place.at("x.db")).expect("exported");
    assert_eq!(fs::read(place.at("x.db.part")).expect("read"), b"mine");
    let hidden = fs::read_dir(place.at(".")).expect("a directory").flatten();
    assert!(hidden.map(|e| e.file_name()).all(|name| !name.to_string_lossy().starts_with('.')), "something is left");
}

#[test]
fn what_is_no_store_at_all_is_refused() {
    let place = Place::new();
    let store = place.store("t.db", &[]);
    assert!(matches!(store.merge(&place.at("nothing")), Err(StoreError::NoSource(_))));
    fs::write(place.at("text"), "not a database at all, and longer than the header of one, as it has to be.".repeat(9))
        .expect("written");
    assert!(matches!(store.merge(&place.at("text")), Err(StoreError::NotDatabase(_))));
    let file = place.file("out.db", &[run("one", 1)]);
    assert!(matches!(store.merge(Path::new("/dev/null")), Err(StoreError::NoFile(_))));
    fs::write(place.at("empty"), "").expect("written");
    assert!(matches!(store.merge(&place.at("empty")), Err(StoreError::Empty(_))));
    let whole = fs::read(&file).expect("the file");
    fs::write(&file, &whole[..whole.len() / 2]).expect("half of it");
    assert!(matches!(store.merge(&file), Err(StoreError::Corrupt { .. })));
    assert!(ids(&store).is_empty());
}

#[test]
fn a_store_of_the_first_version_can_be_merged() {
    let place = Place::new();
    let path = place.at("old.db");
    let mut example = Example { blocks: 1, ..Example::default() }.build();
    example.run.id = "old1".into();
    super::super::tests::of_version_1(&path, &example);
    let before = fs::read(&path).expect("the file");
    let store = place.store("t.db", &[]);
    assert_eq!(store.merge(&path).expect("merged").added, ["old1"]);
    assert!(store.load("old1").is_ok());
    assert_eq!(fs::read(&path).expect("the file"), before, "what is merged is left as it was");
}

#[test]
fn pruning_keeps_what_it_cost_and_says_what_can_not_be_drawn() {
    let place = Place::new();
    let store = place.store("t.db", &[run("one", 6), run("two", 6)]);
    let figures = store.figures("one").expect("figures");
    assert!(store.prune("one", "2026-02-01T00:00:00Z").expect("pruned"));
    assert!(!store.prune("one", "2026-02-02T00:00:00Z").expect("again"));
    assert!(store.figures("one").expect("figures") == figures);
    store.accept("one", "2026-01-01T00:00:00Z", "the first", false).expect("what is left can be accepted");
    let error = store.load("one").expect_err("there is nothing to draw").to_string();
    assert!(error.contains("removed on 2026-02-01") && error.contains("tarebench trend one"), "{error}");
    let listed = &store.runs().expect("runs")[0];
    assert!(listed.pruned.is_some() && listed.accepted && listed.bursts == 0, "{listed:?}");
    store.shrink().expect("shrunk");
    assert_eq!(ids(&store), ["one", "two"], "the order of coming is kept");
    // It travels as it is.
    store.export(&["one".into(), "two".into()], &place.at("out.db")).expect("exported");
    let other = place.store("u.db", &[]);
    assert_eq!(other.merge(&place.at("out.db")).expect("merged").added, ["one", "two"]);
    assert!(other.figures("one").expect("figures") == figures);
    assert!(
        other.accepted(&other.key("one").expect("a key")).expect("accepted").is_empty(),
        "that is for each store to say"
    );
}

#[test]
fn a_run_that_has_not_ended_is_not_pruned() {
    let place = Place::new();
    let store = place.store("t.db", &[]);
    store.begin(&run("one", 1).run).expect("a run");
    assert!(matches!(store.prune("one", "2026-02-01T00:00:00Z"), Err(StoreError::NotEnded { .. })));
}

#[test]
fn removing_is_all_or_nothing_and_leaves_no_rows() {
    let place = Place::new();
    let store = place.store("t.db", &[run("one", 6), run("two", 1)]);
    store.accept("one", "2026-01-01T00:00:00Z", "the first", false).expect("accepted");
    assert!(matches!(store.remove(&["one".into(), "none".into()]), Err(StoreError::NoRun { .. })));
    assert_eq!(ids(&store).len(), 2);
    store.remove(&["one".into()]).expect("removed");
    assert_eq!(ids(&store), ["two"]);
    for table in ["start", "burst", "void", "checked", "figure", "accepted"] {
        let sql = format!("SELECT count(*) FROM {table} WHERE run = 'one'");
        assert_eq!(store.db.query_row(&sql, [], |r| r.get::<_, i64>(0)).expect(table), 0, "{table}");
    }
}

#[test]
fn the_latest_is_what_came_last_whatever_the_clock_said() {
    let place = Place::new();
    let (first, mut second) = (run("one", 1), run("two", 1));
    second.run.started = "1999-12-31T23:59:59Z".into();
    let store = place.store("t.db", &[first, second]);
    assert_eq!(store.find("latest").expect("a run"), "two");
    assert_eq!(ids(&store), ["one", "two"]);
}

#[test]
fn a_store_that_can_not_be_written_is_read_and_drawn() {
    let place = Place::new();
    let file = place.file("out%3f#.db", &[run("one", 6)]);
    let old = place.at("old.db");
    super::super::tests::of_version_1(&old, &Example { blocks: 1, ..Example::default() }.build());
    for path in [file, old] {
        let before = fs::read(&path).expect("the file");
        let store = Store::open_to_read(&path, StoreError::Denied).expect("it can be read");
        let id = store.find("latest").expect("a run");
        let comparison = compare(&store.load(&id).expect("the run"), Method::default());
        assert!(!comparison.cells.is_empty());
        store.figures(&id).expect("figures are made and not kept");
        assert!(matches!(
            store.accept(&id, "x", "y", false),
            Err(StoreError::Denied(_) | StoreError::NothingToAccept { .. })
        ));
        // One of an older version is a copy here, which could be written and is nobody's.
        assert!(matches!(store.remove(std::slice::from_ref(&id)), Err(StoreError::Denied(_))));
        assert!(matches!(store.shrink(), Err(StoreError::Denied(_))));
        assert_eq!(store.find("latest").expect("still there"), id);
        drop(store);
        assert_eq!(fs::read(&path).expect("the file"), before);
    }
    assert_eq!(fs::read_dir(place.0.path()).expect("files").count(), 3, "nothing is left beside them");
}
