//! `sqlite/replay` with databases and statements of somebody's own.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use workloads::parcel::Parcel;
use workloads::protocol::BurstPlan;
use workloads::stopwatch::Stopwatch;
use workloads::{Check, Place, Prepared, registry};

struct Files(tempfile::TempDir);

impl Files {
    fn new(schema: &str, statements: &str) -> Self {
        let files = Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory"));
        Connection::open(files.at("own.db")).expect("opened").execute_batch(schema).expect("made");
        fs::write(files.at("own.sql"), statements).expect("written");
        files
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn prepare(&self, more: &[(&str, &str)]) -> anyhow::Result<Box<dyn Prepared>> {
        let text = |name: &str| self.at(name).to_str().expect("text").to_string();
        let mut given = std::collections::BTreeMap::from([
            ("database".into(), text("own.db")),
            ("statements".into(), text("own.sql")),
        ]);
        given.extend(more.iter().map(|(key, value)| (key.to_string(), value.to_string())));
        let replay = registry::find("sqlite/replay").expect("registered");
        let settings = replay.resolve(&given)?;
        let parcel = Parcel::pack(&replay.brings(&settings))?;
        let archive = self.at("parcel");
        fs::write(&archive, parcel.pieces().flat_map(|(_, piece)| piece.to_vec()).collect::<Vec<u8>>())?;
        let directory = self.at("work");
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir(&directory)?;
        let shared = directory.clone();
        let (peer, parcel) = (None, Some(archive));
        replay.prepare(&Place { shared, directory, job: 0, jobs: 1, seed: 1, settings, memory: 1 << 29, peer, parcel })
    }

    fn refused(&self, more: &[(&str, &str)]) -> String {
        match self.prepare(more) {
            Ok(_) => panic!("this should be refused"),
            Err(e) => format!("{e:#}"),
        }
    }
}

fn burst(prepared: &mut dyn Prepared, operations: u64) -> anyhow::Result<u64> {
    let mut watch = Stopwatch::new();
    watch.arm(BurstPlan { operations, warmup: 0, batch: 1, limit_ns: u64::MAX, number: 0 });
    prepared.burst(&mut watch)?;
    Ok(prepared.durable_writes(operations))
}

const SCHEMA: &str =
    "CREATE TABLE secret (id INTEGER PRIMARY KEY, value TEXT UNIQUE); INSERT INTO secret VALUES (1, 'hidden')";
const STATEMENTS: &str = "-- three operations\nBEGIN;\nINSERT INTO secret VALUES (2, 'a;b');\nUPDATE secret SET value = 'c' WHERE id = 1;\n\
    COMMIT;\nSELECT * FROM secret;\nDELETE FROM secret WHERE id = 2;\n";

#[test]
fn transactions_are_operations_and_the_end_is_the_same_whatever_was_done_before() {
    let files = Files::new(SCHEMA, STATEMENTS);
    let original = fs::read(files.at("own.db")).expect("read");
    let mut prepared = files.prepare(&[]).expect("prepared");
    let facts = prepared.facts();
    assert_eq!((facts["whole_operations"].as_str(), facts["synchronous"].as_str()), ("3", "2"));
    let Check { value, detail } = prepared.verify().expect("verified");
    assert_eq!(detail, "3 transactions, 1 rows at their end");
    // More than once through the file, which an insertion with a key of its own survives only on another copy.
    assert_eq!(burst(prepared.as_mut(), 8).expect("done"), 5, "two of three write");
    assert_eq!(prepared.verify().expect("verified").value, value);
    assert_eq!(fs::read(files.at("own.db")).expect("read"), original, "the original is nobody's to change");
    fs::write(files.at("own.sql"), STATEMENTS.replace("'c'", "'d'")).expect("written");
    assert_ne!(
        files.prepare(&[]).expect("prepared").verify().expect("verified").value,
        value,
        "the hash is of what is stored"
    );
}

#[test]
fn a_script_that_only_reads_goes_round_on_one_copy() {
    let files = Files::new(SCHEMA, "BEGIN; SELECT * FROM secret; COMMIT; SELECT 1;");
    let mut prepared = files.prepare(&[]).expect("prepared");
    assert_eq!(burst(prepared.as_mut(), 1000).expect("done"), 0);
    assert!(!files.at("work/copy1.db").exists());
}

#[test]
fn what_sqlite_refuses_is_told_by_its_line_and_without_its_words() {
    for (statements, said) in [
        ("SELECT 1;\n\nSELECT * FROM hidden_name;\n", &["own.sql, line 3", "SQL logic error"][..]),
        ("INSERT INTO secret VALUES (5, 'hidden');", &["own.sql, line 1", "error 2067"]),
        ("SELECT 1;\nBEGIN;\nSELECT hidden_name;", &["own.sql, line 3"]),
        ("SELECT 1;\nBEGIN;\nSELECT 2;", &["own.sql, line 2", "add COMMIT"]),
        ("SELECT 1;\n.tables\n", &["line 2 has no end"]),
        ("-- none\n", &["own.sql", "no statement"]),
    ] {
        let words = Files::new(SCHEMA, statements).refused(&[]);
        assert!(said.iter().all(|part| words.contains(part)), "{statements}: {words}");
        assert!(!words.contains("hidden") && !words.contains("secret"), "{words}");
    }
    let files = Files::new(SCHEMA, "SELECT 1;");
    fs::write(files.at("own.db"), "x".repeat(5000)).expect("written");
    let words = files.refused(&[]);
    assert!(words.contains("own.db can't be opened as a database"), "{words}");
}

#[test]
fn a_statement_that_never_ends_is_interrupted() {
    let endless = "SELECT 1;\nWITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n;";
    let begun = Instant::now();
    let words = Files::new(SCHEMA, endless).refused(&[("timeout", "200ms")]);
    assert!(words.contains("own.sql, line 2") && words.contains("longer than 200ms"), "{words}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn a_database_that_is_not_whole_is_refused() {
    let files = Files::new(SCHEMA, "SELECT 1;");
    fs::write(files.at("own.db-wal"), "log").expect("written");
    assert!(files.refused(&[]).contains("VACUUM INTO"), "{}", files.refused(&[]));
    fs::remove_file(files.at("own.db-wal")).expect("removed");
    assert!(files.refused(&[("database", "")]).contains("set both"));
    assert!(files.refused(&[("statements", "")]).contains("set both"));
}

#[test]
fn rows_that_differ_from_the_rehearsal_are_a_failure() {
    // It gives a row as often as not: a hundred times the same is not to be had.
    let files = Files::new(SCHEMA, "SELECT 1 WHERE random() % 2 = 0;");
    // The second rehearsal sees it as often as not.
    let done = files.prepare(&[]).and_then(|mut prepared| burst(prepared.as_mut(), 200));
    let words = format!("{:#}", done.expect_err("differs"));
    assert!(words.contains("own.sql, line 1") && words.contains("random()"), "{words}");
}

#[test]
fn what_durability_rests_on_and_other_files_are_refused_with_their_line() {
    let away = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let file = away.path().join("out.db");
    let file = file.display();
    for (statement, said) in [
        ("PRAGMA synchronous=OFF;".to_string(), "set the workload's synchronous"),
        ("PRAGMA main.\"Synchronous\"(0);".into(), "set the workload's synchronous"),
        ("PRAGMA journal_mode = MEMORY;".into(), "sets journal_mode"),
        ("PRAGMA LOCKING_MODE = EXCLUSIVE;".into(), "sets locking_mode"),
        ("PRAGMA fullfsync = 1;".into(), "sets fullfsync"),
        (format!("PRAGMA temp_store_directory = '{}';", away.path().display()), "names a folder"),
        (format!("ATTACH '{file}' AS other;"), "leave out ATTACH"),
        ("ATTACH '' AS other;".into(), "leave out ATTACH"),
        (format!("ATTACH '{file}' || '2' AS other;"), "leave out ATTACH"),
        ("DETACH other;".into(), "leave out ATTACH"),
        (format!("VACUUM INTO '{file}';"), "VACUUM INTO"),
        (format!("VACUUM main INTO '{file}' || '2';"), "VACUUM INTO"),
    ] {
        let words = Files::new(SCHEMA, &format!("SELECT 1;\n{statement}\nSELECT 1;\n")).refused(&[]);
        assert!(words.contains("own.sql, line 2: ") && words.contains(said), "{statement}: {words}");
        assert_eq!(fs::read_dir(away.path()).expect("read").count(), 0, "{statement}");
    }
    let harmless =
        "PRAGMA synchronous; PRAGMA journal_mode; PRAGMA cache_size = 100; VACUUM; SELECT * FROM pragma_synchronous;";
    burst(Files::new(SCHEMA, harmless).prepare(&[]).expect("prepared").as_mut(), 10).expect("done");
}

#[test]
fn what_gives_another_result_each_time_is_refused() {
    let schema = "CREATE TABLE seen (id INTEGER PRIMARY KEY, at TEXT DEFAULT CURRENT_TIMESTAMP, value)";
    for statement in [
        "INSERT INTO seen (at, value) VALUES (0, random());",
        "INSERT INTO seen (at, value) VALUES (0, datetime('now'));",
        "INSERT INTO seen (at, value) VALUES (0, strftime('%M'));",
        "INSERT INTO seen (value) VALUES (0);",
    ] {
        let words = Files::new(schema, statement).refused(&[]);
        assert!(words.contains("own.sql: the statements give another result each time"), "{statement}: {words}");
    }
    let same = "INSERT INTO seen VALUES (1, date('2026-01-01', '+1 day'), 1); SELECT random(), datetime('now');";
    Files::new(schema, same).prepare(&[]).expect("what is stored is the same");
}

#[test]
fn a_value_without_measure_is_refused_and_the_way_to_see_more_names_the_files() {
    let files = Files::new(SCHEMA, "SELECT 1;\nSELECT zeroblob(900000000);");
    let words = files.refused(&[]);
    assert!(words.contains("own.sql, line 2") && words.contains("error 18"), "{words}");
    let way = format!("cp {} COPY && sqlite3 COPY < {}", files.at("own.db").display(), files.at("own.sql").display());
    assert!(words.contains(&way), "{words}");
}
