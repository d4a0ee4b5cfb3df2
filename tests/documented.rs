//! The documents and the help at their word: every command line that they show is run, made small where it would take long, and every
//! exit code of the table is produced.

#![cfg(target_os = "linux")]

mod common;
#[path = "../src/cli/shown.rs"]
mod shown;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use common::{Dir, Ran, eventually, fio, ran};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How a line is run that isn't run as it stands, to end with 0.
#[derive(Clone, Copy)]
enum Way {
    /// With these flags, in the place of the same ones in the line: what it measures is less, and the control may be too coarse.
    Small(&'static str),
    /// It ends with this code.
    Ends(i32),
    /// Not in this test, and why.
    Not(&'static str),
}
use Way::{Ends, Not, Small};

/// Of runs that name no environment and no workload.
const LEAST: &str = "--env bare --workload control/syscall --blocks 1";
const CUT: &str = "--cuts 1 --items 2 --workload append";
const EMULATED: &str = "boots emulated machines for minutes; tests/qemu.rs boots them";
const FOLLOWED: &str = "tests/own_work.rs follows the page's example from its first line to its last";
/// A name in prose, of a command that takes more than its name.
const NAME_ALONE: Way = Ends(2);

/// Every line that isn't run as it stands, without the program's name.
const OTHERS: &[(&str, Way)] = &[
    ("agent", NAME_ALONE),
    ("compare", NAME_ALONE),
    ("gate", NAME_ALONE),
    ("prove durability", NAME_ALONE),
    ("calibrate", Small("my-suite.toml --budget 9s")),
    ("calibrate --format json", Small("my-suite.toml --budget 9s")),
    ("calibrate standard --workload disk/fsync --budget 10m", Not("the same as `calibrate`, for ten minutes")),
    ("explain ENVIRONMENT", Small("--workload control/syscall:burst=1ms --blocks 1 --only data")),
    ("explain gvisor", Small("--workload control/syscall:burst=1ms --blocks 1 --only platform")),
    (
        "explain gvisor --only platform,overlay --workload disk/fsync",
        Small("--only platform --workload disk/fsync:burst=1ms --blocks 1"),
    ),
    ("explain gvisor --workload disk/fsync", Small("--only overlay --workload disk/fsync:burst=1ms --blocks 1")),
    ("explain qemu:disk.format=qcow2,net=user --order net --budget 10m --report why.html", Not(EMULATED)),
    ("explain qemu:disk.format=qcow2,disk.cache=writeback,net=user --report why.html", Not(EMULATED)),
    (
        "explain runc:seccomp=containers,data=overlay",
        Small("--workload control/syscall:burst=1ms --blocks 1 --only seccomp"),
    ),
    ("explain vmware-server-2009", Not(EMULATED)),
    ("prove durability bare gvisor --format markdown", Small(CUT)),
    ("prove durability bare runc:data=overlay gvisor --format markdown", Small(CUT)),
    ("prove durability podman", Small(CUT)),
    ("prove durability podman:data=layer --mode kill", Small(CUT)),
    ("prove durability qemu qemu:disk.cache=unsafe --workload append,sqlite-wal-full", Not(EMULATED)),
    ("prove durability qemu:disk.cache=unsafe --workload append", Not(EMULATED)),
    ("prove durability runc", Small(CUT)),
    ("run", Small(LEAST)),
    (
        "run --env namespaces --env bubblewrap --env runc --env gvisor --workload git=command/run:exec=lib/ld-linux-x86-64.so.2 --library-path lib ./git -C repo status,copy=/tmp/weigh",
        Not(FOLLOWED),
    ),
    (
        "run --env namespaces --env bubblewrap --env runc --env gvisor --workload queries=sqlite/replay:database=/tmp/weigh/app.db,statements=/tmp/weigh/app.sql",
        Not(FOLLOWED),
    ),
    (
        "run --env runc --env gvisor --workload sqlite/commit --workload net/rr",
        Small("--workload net/rr:burst=1ms --blocks 1"),
    ),
    ("run --resume latest --blocks 24", Small("--blocks 2")),
    ("run --tune", Not("changes the settings of the machine under the other tests; tests/trouble.rs tunes one")),
    ("run --workload command/run:exec=COMMAND", Small("--env bare --blocks 1")),
    (
        "run --workload disk/randread:engine=io_uring,depth=32 --workload sqlite/commit:jobs=4",
        Small(
            "--workload disk/randread:engine=io_uring,depth=32,size=1MiB --workload sqlite/commit:jobs=4,burst=1ms --env bare --blocks 1",
        ),
    ),
    (
        "run --workload sqlite/lookup:size=2x,cache=cold",
        Not("makes a database of twice the box's memory, which takes most of a minute"),
    ),
    (
        "run --workload sqlite/mailbox:rate=50",
        Small("--workload sqlite/mailbox:rate=50,operations=5 --env bare --blocks 1"),
    ),
    (
        "run --workload sqlite/replay:database=/PATH/TO/app.db,statements=/PATH/TO/app.sql",
        Small("--env bare --blocks 1"),
    ),
    ("run boxes", Small(LEAST)),
    ("run boxes --report boxes.html", Small(LEAST)),
    ("run my-suite.toml --blocks 30 --data-dir /mnt/nvme", Small("--blocks 1")),
    ("run my-suite.toml --gate gate.toml --fail-on regressed,invalid", Small("--blocks 6")),
    ("run my-suite.toml --gate gate.toml --label commit=$COMMIT", Small("--blocks 6")),
    (
        "run my-suite.toml --label commit=$COMMIT --env head=podman:binary=/opt/head/podman --env base=podman:binary=/opt/base/podman",
        Small("--blocks 1"),
    ),
    (
        "run quick --env head=runc:binary=/opt/head/runc --env base=runc:binary=/opt/base/runc",
        Small("--workload control/syscall --blocks 1"),
    ),
    (
        "run quick --env runc --env gvisor:platform=ptrace --workload sqlite/commit --blocks 12",
        Small("--workload control/syscall --blocks 1"),
    ),
    ("run quick --env runc --env qemu:accel=tcg --workload sqlite/commit", Not(EMULATED)),
    ("run quick --until 3% --budget 20m", Small(LEAST)),
    (
        "run standard --budget 10m --report report.html --label host=rack7",
        Small("--env bare --workload control/syscall:burst=1ms --blocks 1"),
    ),
    (
        "run standard --report report.html --report report.json",
        Small("--env bare --workload control/syscall:burst=1ms --blocks 1"),
    ),
    ("run story", Small(LEAST)),
    ("run story --report story.html", Small(LEAST)),
    ("verify", Small("--env bare --workload control/syscall")),
    ("verify standard --env qemu", Not(EMULATED)),
];

/// Signs for the reader to put something of theirs in, and names that only a reader's store and disk have.
const PLACES: &[(&str, &str)] = &[
    ("/PATH/TO/", "$DIR/"),
    ("/mnt/nvme", "$DIR"),
    ("/opt/head/", "$BIN/"),
    ("/opt/base/", "$BIN/"),
    ("$COMMIT", "1e21665"),
    ("COMMAND", "true"),
    ("ENVIRONMENT", "namespaces"),
    ("RUN", "latest"),
    ("TEXT", "as it should be"),
    ("DIR", "."),
    ("...", "json"),
    ("artifacts/*.db", "artifacts/run.db"),
    ("tp34jzs3", "$FIRST"),
    ("tp34k2y2", "$SECOND"),
];

/// Environments of the runs that were made elsewhere, and how long they take.
const BOXES: [(&str, f64); 6] =
    [("bare", 1.0), ("control", 1.0), ("base", 1.2), ("head", 1.2), ("runsc-old", 2.0), ("runsc-new", 2.0)];

/// Imports so many blocks of the boxes, in which `head` takes `factor` times as long as it does.
fn import(dir: &Dir, factor: f64, blocks: usize) {
    let mut words = vec!["import".to_string(), "fio".into()];
    for block in 0..blocks {
        for (nth, (name, times)) in BOXES.into_iter().enumerate() {
            let noise = 1.0 + 0.01 * ((block * 7 + nth * 5) % 5) as f64 + 0.001 * block as f64;
            let file = dir.at(&format!("{name}-{}.json", block + 1));
            let times = if name == "head" { times * factor } else { times };
            fs::write(&file, fio(times * noise).to_string()).expect("written");
            words.push(format!("{name}={name}-{}.json", block + 1));
        }
    }
    dir.run(&words.iter().map(String::as_str).collect::<Vec<_>>()).ends_with(0);
}

fn ids(dir: &Dir) -> Vec<String> {
    let runs = dir.run(&["list", "runs", "--json"]).ends_with(0).stdout;
    let runs: serde_json::Value = serde_json::from_str(&runs).expect("JSON");
    runs.as_array().expect("a list").iter().map(|run| run["id"].as_str().expect("an id").to_string()).collect()
}

/// Changes a store behind the program's back.
fn change(dir: &Dir, statement: &str) {
    let store = rusqlite::Connection::open(dir.at("tarebench.db")).expect("a store");
    store.execute_batch(statement).expect("written");
}

/// What the pages call the outputs of other programs, without their ending.
const OUTPUTS: [&str; 6] = ["bare", "bare-1", "bare-2", "runc", "runc-1", "runc-2"];

/// Lines that are run at the same time.
const WORKERS: usize = 6;

const SUITE: &str = r#"
description = "a reader's own"
baseline = "bare"
blocks = 1
rounds = 1
burst = "1ms"
[environments.bare]
[environments.boxed]
runner = "namespaces"
[workloads."control/syscall"]
"#;

/// It judges imported runs as well as those of the suite.
const GATE: &str = "[[rule]]\nbudget = 100.0\n";

/// What a reader has who comes to a page: a folder with the files that it names, a store with runs of two commits and hosts, and
/// one with a run of this machine.
struct Readers {
    imported: Dir,
    measured: Dir,
    ids: Vec<String>,
}

impl Readers {
    fn new() -> Self {
        let (imported, measured) = (Dir::new(), Dir::new());
        import(&imported, 1.0, 12);
        import(&imported, 1.01, 12);
        let ids = ids(&imported);
        for (id, labels) in ids.iter().zip([
            r#"{"commit": "1e21665", "host": "rack7"}"#,
            r#"{"commit": "0a1b2c3", "host": "rack8", "name": "release"}"#,
        ]) {
            change(&imported, &format!("UPDATE run SET labels = '{labels}' WHERE id = '{id}'"));
        }
        write(&measured, "my-suite.toml", SUITE);
        measured.run(&["run", "my-suite.toml", "--env", "bare"]).ends_with_any(&[0, 4]);
        let readers = Self { imported, measured, ids };
        for dir in [&readers.imported, &readers.measured] {
            readers.furnish(dir);
        }
        readers
    }

    fn furnish(&self, dir: &Dir) {
        write(dir, "my-suite.toml", SUITE);
        write(dir, "gate.toml", GATE);
        write(dir, "app.sql", "SELECT 1;\n");
        for (nth, name) in OUTPUTS.iter().enumerate() {
            write(dir, &format!("{name}.json"), &fio(1.0 + nth as f64 / 100.0).to_string());
        }
        fs::create_dir(dir.at("artifacts")).expect("made");
        for name in ["artifacts/run.db", "history.db", "results.db", "run.db"] {
            fs::copy(self.imported.at("tarebench.db"), dir.at(name)).expect("copied");
        }
        let app = rusqlite::Connection::open(dir.at("app.db")).expect("a database");
        app.execute_batch("CREATE TABLE visit (page TEXT)").expect("a table");
    }

    /// A folder of its own for this line.
    fn folder(&self, words: &[String]) -> Dir {
        let dir = Dir::new();
        let from = if words[0] == "run" { &self.measured } else { &self.imported };
        copy(from.root(), dir.root());
        // Outputs of other programs, one a block.
        let other = match words.get(1).map(String::as_str).filter(|_| words[0] == "import") {
            Some("iperf3") => Some(("json", include_str!("import/iperf3.json"))),
            Some("sockperf") => Some(("csv", include_str!("import/sockperf.txt"))),
            Some("hdr") => Some(("hlog", include_str!("import/replies.hlog"))),
            _ => None,
        };
        for ((ending, text), name) in other.iter().flat_map(|all| OUTPUTS.map(|name| (all, name))) {
            write(&dir, &format!("{name}.{ending}"), text);
        }
        // An export makes its file.
        if words[0] == "export" {
            fs::remove_file(dir.at("run.db")).expect("it was there");
        }
        dir
    }
}

fn write(dir: &Dir, name: &str, text: &str) {
    fs::write(dir.at(name), text).expect("written");
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("readable").map(|entry| entry.expect("an entry")) {
        let to = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            fs::create_dir(&to).expect("made");
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("copied");
        }
    }
}

/// Every line that the documents and the helps show, once, without the program's name.
fn shown() -> BTreeSet<Vec<String>> {
    let documents = shown::documents(Path::new(env!("CARGO_MANIFEST_DIR")));
    let mut lines: Vec<String> = documents.iter().flat_map(|(_, text)| shown::lines_of(text)).collect();
    lines.extend(helps(&Dir::new(), &[]));
    // A bar within a table of Markdown is escaped, and no word of the line.
    let words = lines.iter().flat_map(|line| shown::ours(&line.replace("\\|", "|")));
    words.map(|words| words[1..].to_vec()).collect()
}

/// The lines of the help of a command and of all below it.
fn helps(dir: &Dir, command: &[&str]) -> Vec<String> {
    let mut ask = dir.command(&[command, &["--help"]].concat());
    // Wide enough for every example to be one line.
    let help = ran(ask.env("COLUMNS", "1000").output().expect("the program starts")).ends_with(0).stdout;
    let mut lines: Vec<String> = help.lines().map(String::from).collect();
    let below = help.split("\nCommands:\n").nth(1).unwrap_or_default().lines().take_while(|line| !line.is_empty());
    for name in below.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help") {
        lines.extend(helps(dir, &[command, &[name]].concat()));
    }
    lines
}

/// The words as the test types them: the flags in their places, and what is the reader's own.
fn typed(words: &[String], flags: &str, readers: &Readers, dir: &Dir) -> Vec<String> {
    let flags: Vec<&str> = flags.split_whitespace().collect();
    let mut typed = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if flags.contains(&word.as_str()) && word.starts_with("--") {
            rest.next();
        } else {
            typed.push(word.clone());
        }
    }
    typed.extend(flags.iter().map(|word| word.to_string()));
    let ids = &readers.ids;
    let here = [("$DIR", dir.root().to_str().expect("text")), ("$FIRST", &ids[0]), ("$SECOND", &ids[1])];
    for word in &mut typed {
        for (sign, place) in PLACES.iter().chain(&here) {
            // A word of capitals is one of prose within others.
            if word == sign || word.ends_with(&format!("={sign}")) || sign.contains(['/', '$']) {
                *word = word.replace(sign, place);
            }
        }
        if let Some((before, engine)) = word.rsplit_once("$BIN/") {
            *word = format!("{before}{}", found(engine).unwrap_or_else(|| format!("/opt/{engine}")));
        }
    }
    typed
}

/// The full path of a program.
fn found(program: &str) -> Option<String> {
    let places = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    places.iter().map(|place| format!("{place}/{program}")).find(|path| Path::new(path).exists())
}

/// Whether everything that a line names works on this machine. Asked only where it ended as if something did not.
fn can_be_done(words: &[String]) -> bool {
    static DOCTOR: OnceLock<serde_json::Value> = OnceLock::new();
    let doctor = DOCTOR.get_or_init(|| {
        let told = Dir::new().run(&["doctor", "--json"]).ends_with(0).stdout;
        serde_json::from_str(&told).expect("JSON")
    });
    let runners = doctor["runners"].as_array().expect("runners");
    let works = |word: &String| {
        let name = word.split(':').next().unwrap_or_default();
        let name = name.rsplit('=').next().unwrap_or_default();
        let of = runners.iter().find(|runner| runner["name"] == name);
        of.is_none_or(|runner| ["works", "emulated"].contains(&runner["verdict"].as_str().expect("text")))
    };
    let rings = !words.iter().any(|word| word.contains("io_uring")) || io_uring();
    let cut = words[0] != "prove" || words.iter().any(|word| word == "kill") || can_cut();
    words.iter().all(works) && rings && cut
}

/// Whether this process can make the disk whose power is cut.
fn can_cut() -> bool {
    let devices = ["/dev/fuse", "/dev/loop-control"].map(Path::new);
    nix::unistd::geteuid().is_root() && devices.iter().all(|device| device.exists())
}

/// Whether the kernel gives rings to this process.
fn io_uring() -> bool {
    // SAFETY: without parameters nothing is made.
    unsafe { nix::libc::syscall(nix::libc::SYS_io_uring_setup, 1, std::ptr::null::<u8>()) };
    std::io::Error::last_os_error().raw_os_error() == Some(nix::libc::EFAULT)
}

/// Runs a line, and says how it went otherwise than it should.
fn run(readers: &Readers, words: &[String], way: Option<Way>) -> Option<String> {
    let (flags, codes): (_, &[i32]) = match &way {
        None => ("", &[0]),
        // A verdict on so few blocks is the machine's of this moment.
        Some(Small(flags)) if words.iter().any(|word| word == "--gate") => (*flags, &[0, 4, 8]),
        Some(Small(flags)) => (*flags, &[0, 4]),
        Some(Ends(code)) => ("", std::slice::from_ref(code)),
        Some(Not(why)) => {
            println!("not run: tarebench {}: {why}", words.join(" "));
            return None;
        }
    };
    let dir = readers.folder(words);
    let typed = typed(words, flags, readers, &dir);
    let mut command = dir.command(&typed.iter().map(String::as_str).collect::<Vec<_>>());
    command.env("GITHUB_STEP_SUMMARY", dir.at("summary.md"));
    if typed.iter().any(|word| word.ends_with("=-")) {
        command.stdin(fs::File::open(dir.at("bare.json")).expect("a file"));
    }
    let began = Instant::now();
    let Ran { stdout, stderr, code } = ran(command.output().expect("the program starts"));
    println!("{:>4} ms, ended with {code}: tarebench {}", began.elapsed().as_millis(), typed.join(" "));
    let well =
        codes.contains(&code) || matches!(code, 3 | 6 | 7) && matches!(way, Some(Small(_))) && !can_be_done(&typed);
    (!well).then(|| format!("tarebench {}\nended with {code}, not {codes:?}\n{stdout}{stderr}", typed.join(" ")))
}

#[test]
fn every_line_that_is_shown_is_run_or_says_why_it_is_not() {
    let shown = shown();
    let way = |words: &Vec<String>| OTHERS.iter().find(|(line, _)| *line == words.join(" ")).map(|(_, way)| *way);
    let lines: Vec<String> = shown.iter().map(|words| words.join(" ")).collect();
    for (line, _) in OTHERS {
        assert!(lines.iter().any(|shown| shown == line), "no document and no help shows `tarebench {line}` any more");
    }
    let readers = Readers::new();
    // Looking whether a box works is mostly waiting, and takes longest.
    let (doctor, others): (Vec<_>, Vec<_>) = shown.iter().partition(|words| words[0] == "doctor");
    let todo = Mutex::new(doctor.into_iter().chain(others));
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let next = todo.lock().expect("nobody panicked").next();
                    let Some(words) = next else { break };
                    let told = run(&readers, words, way(words));
                    wrong.lock().expect("nobody panicked").extend(told);
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("nobody panicked");
    assert!(wrong.is_empty(), "{} of {} are not as they are shown:\n{}", wrong.len(), lines.len(), wrong.join("\n\n"));
}

/// A line for every exit code, in the folder of [`ending`]. Those of signals are sent by the test.
const ENDINGS: &[(i32, &str)] = &[
    (0, "report"),
    (1, "gate --head head --base base"),
    (2, "report no-such-run"),
    (3, "run my-suite.toml --env exec --store other.db"),
    (4, "gate --head head --base base --store few.db"),
    (5, "report --store gone.db"),
    (6, "report -o gone/report.html"),
    (7, "import fio failed.json --store failed.db"),
    (8, "gate --policy unmeasured.toml"),
    (9, "gate --policy history.toml"),
    (70, "enter"),
];

/// A folder with a store in which `head` is worse, one with too few blocks to say so, and files that end badly.
fn ending() -> Dir {
    let (dir, few) = (Dir::new(), Dir::new());
    import(&dir, 1.3, 12);
    import(&few, 1.1, 3);
    fs::copy(few.at("tarebench.db"), dir.at("few.db")).expect("copied");
    let mut failed = fio(1.0);
    failed["jobs"][0]["error"] = 28.into();
    write(&dir, "failed.json", &failed.to_string());
    write(&dir, "my-suite.toml", SUITE);
    write(&dir, "unmeasured.toml", "head = \"runsc-new\"\nbase = \"runsc-old\"\n[[rule]]\nmetric = \"p99.9\"\n");
    write(&dir, "history.toml", "modes = [\"history\"]\n");
    dir
}

#[test]
fn every_exit_code_of_the_table_is_produced() {
    let dir = ending();
    let help = dir.run(&["--help"]).ends_with(0).stdout;
    let (_, table) = help.split_once("Exit codes:\n").expect("`--help` has the table");
    let numbers = table.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse::<i32>().ok());
    let told: BTreeSet<i32> = numbers.collect();
    let mut seen = BTreeSet::new();
    for (code, line) in ENDINGS {
        dir.run(&line.split(' ').collect::<Vec<_>>()).ends_with(*code);
        seen.insert(*code);
    }
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let dir = Dir::new();
        let suite = dir.suite(SUITE);
        let child = dir.start(&["run", &suite, "--env", "bare", "--blocks", "1000"]);
        eventually("a run is begun", Duration::from_secs(60), || {
            dir.at("tarebench.db").exists() && dir.run(&["report"]).code == 0
        });
        kill(Pid::from_raw(child.id() as i32), signal).expect("ours");
        ran(child.wait_with_output().expect("ends")).ends_with(code);
        seen.insert(code);
    }
    assert_eq!(told, seen, "codes of the table, and those that this test produces");
}
