//! `command/run` with commands that do what no command should.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use workloads::parcel::{Brought, Parcel};
use workloads::protocol::BurstPlan;
use workloads::stopwatch::Stopwatch;
use workloads::{Place, Prepared, Workload as _, command::run::Run, registry};

/// A job's directory, and what is prepared in it.
struct Job {
    directory: tempfile::TempDir,
}

impl Job {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory") }
    }

    fn prepare(&self, given: &[(&str, &str)]) -> anyhow::Result<Box<dyn Prepared>> {
        let given = given.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let settings = registry::find("command/run").expect("registered").resolve(&given)?;
        let parcel = Parcel::pack(&Run.brings(&settings))?;
        let archive = self.directory.path().join("parcel");
        fs::write(&archive, parcel.pieces().flat_map(|(_, piece)| piece.to_vec()).collect::<Vec<u8>>())?;
        let directory = self.directory.path().join("work");
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir(&directory)?;
        let place = Place { parcel: Some(archive), ..Place::alone(directory, settings) };
        Run.prepare(&place)
    }

    fn refused(&self, given: &[(&str, &str)]) -> String {
        match self.prepare(given) {
            Ok(_) => panic!("{given:?} should be refused"),
            Err(e) => format!("{e:#}"),
        }
    }

    fn home(&self) -> PathBuf {
        self.directory.path().join("work/home")
    }
}

fn burst(prepared: &mut dyn Prepared, operations: u64) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut watch = Stopwatch::new();
    watch.arm(BurstPlan { operations, warmup: 0, batch: 1, limit_ns: u64::MAX, number: 0 });
    prepared.burst(&mut watch)?;
    Ok(prepared.counters())
}

/// Processes whose command line has this text.
fn alive(text: &str) -> usize {
    let entries = fs::read_dir("/proc").expect("mounted").flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(text)).count()
}

#[test]
fn a_command_runs_where_its_files_are_and_its_time_is_counted() {
    let (job, files) = (Job::new(), tempfile::tempdir().expect("a directory"));
    fs::write(files.path().join("add"), "test -f data && test ! -t 0 && echo x >> done\n").expect("written");
    fs::write(files.path().join("data"), "1").expect("written");
    let copy = files.path().to_str().expect("text");
    let mut prepared = job.prepare(&[("exec", "sh ./add"), ("copy", copy)]).expect("prepared");
    let counters = burst(prepared.as_mut(), 10).expect("done");
    assert_eq!(counters.keys().collect::<Vec<_>>(), ["system_us", "user_us"], "nothing was left behind");
    assert!(counters.values().sum::<u64>() > 0, "ten shells take some time: {counters:?}");
    // One execution to see that it can be done, and ten of the burst.
    assert_eq!(fs::read_to_string(job.home().join("done")).expect("written"), "x\n".repeat(11));
    let check = prepared.verify().expect("verified");
    assert_eq!(check.detail, "2 executions ended with status 0");
    assert!(!files.path().join("done").exists(), "it worked on its copy");
}

#[test]
fn a_line_is_for_a_shell_only_where_that_is_asked_for() {
    let job = Job::new();
    let line = "echo one | cat > out; echo {two} >> out; awk 'BEGIN { exit 3 }'";
    let mut prepared = job.prepare(&[("exec", line), ("shell", "true"), ("status", "3")]).expect("prepared");
    burst(prepared.as_mut(), 1).expect("done");
    assert_eq!(fs::read_to_string(job.home().join("out")).expect("written"), "one\n{two}\n");
    for (line, word) in [
        ("test a = a | cat", "`|`"),
        ("echo one > out", "`>`"),
        ("echo one 2>/dev/null", "`2>/dev/null`"),
        ("cd x && ls", "`&&`"),
        ("cd x; ls", "`x;`"),
        ("ls *.txt", "`*.txt`"),
        ("ls $HOME", "`$HOME`"),
        ("ls ~/x", "`~/x`"),
        ("grep '|' one | cat", "`|`"),
    ] {
        let words = job.refused(&[("exec", line)]);
        assert!(words.contains(&format!("{word} in exec is for a shell")) && words.contains("shell=true"), "{words}");
    }
    // Quoted they are arguments.
    for line in [
        "echo '|' \">\" \\; '*'",
        "sh -c 'echo a | cat; echo b >/dev/null && true'",
        "sh -c 'true;'",
        "sh -c '\n  true | cat\n  # > \n'",
        "echo a>b http://host/?a=1&b=2 $ 5 {} x=*",
    ] {
        job.prepare(&[("exec", line)]).map(drop).unwrap_or_else(|e| panic!("{line}: {e:#}"));
    }
}

#[test]
fn what_cannot_be_run_is_refused_with_what_to_do() {
    let (job, files) = (Job::new(), tempfile::tempdir().expect("a directory"));
    fs::write(files.path().join("plain"), "echo").expect("written");
    let copy = files.path().to_str().expect("text");
    for (given, said) in [
        (
            &[("exec", "no-such-thing -v")][..],
            &["`no-such-thing` isn't there in this environment", "PATH is", "copy"][..],
        ),
        (&[("exec", "./plain")], &["home/./plain isn't there", "copy"]),
        (&[("exec", "./plain"), ("copy", copy)], &["can't be executed", "chmod +x"]),
        (
            &[("exec", "sh -c 'echo oh; echo no >&2; echo never >&2; exit 4'")],
            &["status 4", "status=4", "it said: no / never"],
        ),
        (&[("exec", "sh -c 'kill -9 $$'")], &["was ended by SIGKILL"]),
        (&[("exec", "true"), ("status", "1")], &["exited with status 0, and 1 is right"]),
        (&[("shell", "true")], &["set exec"]),
        (&[("copy", copy)], &["set exec"]),
        (&[("exec", "true"), ("copy", "/no/such/file")], &["`copy` can't be read: /no/such/file"]),
        (&[("exec", "sh 'x")], &["quotes"]),
    ] {
        let words = job.refused(given);
        assert!(said.iter().all(|part| words.contains(part)), "{given:?}: {words}");
        assert!(!words.contains("oh"), "{words}");
    }
}

#[test]
fn what_never_ends_is_killed_with_all_that_it_started() {
    let job = Job::new();
    let begun = Instant::now();
    let words = job.refused(&[("exec", "sh -c 'sleep 981.25 & sleep 981.25'"), ("timeout", "200ms")]);
    assert!(words.contains("ran longer than 200ms and was killed"), "{words}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(alive("981.25"), 0);
}

#[test]
fn what_stays_behind_is_killed_and_counted() {
    let job = Job::new();
    for (line, at_least) in [
        // In its process group, and in a session of its own.
        ("sh -c 'sleep 982.25 >/dev/null 2>&1 &'", 5),
        ("sh -c 'setsid sleep 982.25 >/dev/null 2>&1 &'", 5),
    ] {
        let mut prepared = job.prepare(&[("exec", line)]).expect("prepared");
        assert_eq!(alive("982.25"), 0, "{line} when it is tried");
        let counters = burst(prepared.as_mut(), 5).expect("done");
        assert!(counters.get("left_behind").is_some_and(|left| *left >= at_least), "{line}: {counters:?}");
        assert_eq!(alive("982.25"), 0, "{line} after a burst");
    }
}

#[test]
fn a_failure_in_the_middle_of_a_burst_is_one_of_the_burst() {
    let job = Job::new();
    let line = |test: &str| format!("sh -c 'echo x >> tries; n=$(wc -l < tries); echo try $n >&2; test $n {test}'");
    let tries = || fs::read_to_string(job.home().join("tries")).expect("written").lines().count();
    let failure = |line: &str, timeout: &str| {
        let mut prepared = job.prepare(&[("exec", line), ("timeout", timeout)]).expect("the first is right");
        burst(prepared.as_mut(), 10).expect_err("the fourth is not").to_string()
    };
    let words = failure(&line("-lt 4"), "30s");
    assert!(words.contains("exited with status 1, and 0 is right"), "{words}");
    // Nobody listened to the fourth.
    assert!(words.ends_with("; executed once more it failed too, and said: try 5"), "{words}");
    assert_eq!(tries(), 5);
    let words = failure(&line("-ne 4"), "30s");
    assert!(words.ends_with("; executed once more it went well"), "{words}");
    let words = failure(&line("-lt 4 || sleep 983.25"), "300ms");
    assert!(words.contains("ran longer than 300ms") && !words.contains("once more"), "{words}");
    assert_eq!(tries(), 4, "what never ends isn't tried again");
}

#[test]
fn a_single_file_keeps_its_name() {
    let files = tempfile::tempdir().expect("a directory");
    let path = files.path().join("tool");
    fs::write(&path, "").expect("written");
    let given =
        BTreeMap::from([("exec".into(), "./tool".into()), ("copy".into(), path.to_str().expect("text").into())]);
    let settings = registry::find("command/run").expect("registered").resolve(&given).expect("valid");
    assert_eq!(Run.brings(&settings), [Brought { setting: "copy", path, name: Path::new("tool").into() }]);
}
