//! The scripts that install things, on a system of made-up tools: nothing is installed.

mod common;

use std::fs;
use std::io::{BufRead, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use common::{Dir, Ran, eventually, ran};

/// A made-up program.
fn tool(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("executable");
}

/// A script in a home of its own, with the made-up tools before those of the machine.
fn script(b: &Dir, name: &str, path: &str) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name));
    command.env("PATH", format!("{}:{path}", b.at("tools").display())).env("HOME", b.at("home"));
    command
}

/// `scripts/engines --no-install` where nothing is installed yet: what it misses it would install.
fn missing(b: &Dir, words: &[&str]) -> Ran {
    let tools = b.at("tools");
    fs::create_dir_all(&tools).expect("made");
    for (name, text) in
        [("apt-get", "exit 0"), ("apt-cache", "exit 0"), ("dpkg-query", "exit 1"), ("cargo", "echo cargo 9.9.9")]
    {
        tool(&tools.join(name), text);
    }
    let path = std::env::var("PATH").expect("a path");
    ran(script(b, "engines", &path).arg("--no-install").args(words).output().expect("bash is there"))
}

#[test]
fn a_suite_asks_for_its_own_engines_alone() {
    let b = Dir::new();
    let quick = missing(&b, &["--for", "quick"])
        .ends_with(0)
        .says("not installed: gcc")
        .says(" bubblewrap runc runsc podman ")
        .says(" uidmap ");
    for other in ["docker.io", "firejail", "lxc", "openssh-server", "user-mode-linux", "systemd-container"] {
        assert!(!quick.stderr.contains(other), "{other}: {}", quick.stderr);
    }
    fs::write(b.at("own.toml"), "[environments.mine]\nrunner = \"lxc\"\n[environments.bare]\n").expect("written");
    let own = missing(&b, &["--for", b.at("own.toml").to_str().expect("text")]).ends_with(0);
    own.says("not installed: gcc libc6-dev ca-certificates iproute2 lxc\n");
    missing(&b, &["--for", "no-such-suite"]).ends_with(2).says("there is no suite no-such-suite");
    missing(&b, &[]).ends_with(0).says(" docker.io ").says(" openssh-server ");
}

#[test]
fn a_rust_of_rustup_is_found_where_the_path_does_not_lead_to_it() {
    let b = Dir::new();
    missing(&b, &[]);
    fs::remove_file(b.at("tools/cargo")).expect("there");
    let engines = || {
        let mut command = script(&b, "engines", "/usr/sbin:/usr/bin:/sbin:/bin");
        ran(command.args(["--no-install", "--for", "quick"]).output().expect("bash is there"))
    };
    if !["/usr/bin/cargo", "/bin/cargo"].iter().any(|cargo| Path::new(cargo).exists()) {
        engines().ends_with(1).says("cargo is missing");
    }
    fs::create_dir_all(b.at("home/.cargo/bin")).expect("made");
    // As rustup's installer leaves them.
    fs::write(b.at("home/.cargo/env"), "export PATH=\"$HOME/.cargo/bin:$PATH\"\n").expect("written");
    tool(&b.at("home/.cargo/bin/cargo"), "echo cargo 9.9.9");
    engines().ends_with(0);
    tool(&b.at("home/.cargo/bin/cargo"), "echo cargo 1.0.0");
    engines().ends_with(1).says("cargo is cargo 1.0.0");
}

#[test]
fn a_test_that_is_to_install_nothing_asks_rustup_for_nothing() {
    let b = Dir::new();
    missing(&b, &[]);
    tool(&b.at("tools/cargo"), "case $1 in --version) echo cargo 9.9.9 ;; *) exit 101 ;; esac");
    tool(&b.at("tools/rustup"), "echo rustup was asked >&2");
    let mut command = script(&b, "test", &std::env::var("PATH").expect("a path"));
    let ran =
        ran(command.arg("--no-install").env_remove("XDG_CACHE_HOME").output().expect("bash is there")).ends_with(1);
    assert!(!ran.stderr.contains("rustup was asked"), "{}", ran.stderr);
    ran.says("rustfmt is missing: rustup component add rustfmt");
}

#[test]
fn packages_are_those_of_the_machine() {
    let b = Dir::new();
    fs::create_dir(b.at("tools")).expect("made");
    tool(&b.at("tools/uname"), "echo x86_64");
    missing(&b, &[]).ends_with(0).says(" qemu-system-x86 ").says(" user-mode-linux ");
    tool(&b.at("tools/uname"), "echo aarch64");
    let arm = missing(&b, &[]).ends_with(0).says(" qemu-system-arm ");
    assert!(!arm.stderr.contains("user-mode-linux") && !arm.stderr.contains("x86"), "{}", arm.stderr);
}

/// A release's folder with a program that does this, and its checksum.
fn release(b: &Dir, text: &str) {
    let folder = b.at("release");
    fs::create_dir_all(&folder).expect("made");
    tool(&folder.join("tarebench-x86_64-linux"), text);
    let mut command = Command::new("sha256sum");
    let output = command.arg("tarebench-x86_64-linux").current_dir(&folder).output().expect("coreutils are there");
    fs::write(folder.join("SHA256SUMS"), output.stdout).expect("written");
}

#[test]
fn a_released_program_is_started_when_its_checksum_is_right_and_needs_no_compiler() {
    let b = Dir::new();
    missing(&b, &[]);
    // A compiler would be asked for, and a build would be seen.
    tool(&b.at("tools/cargo"), "echo cargo 1.0.0; echo built >&2");
    fs::create_dir(b.at("release")).expect("made");
    let program = b.at("release/tarebench-x86_64-linux");
    tool(&program, "echo \"started with $*\" >&2");
    let quickstart = |words: &[&str]| {
        let mut command = script(&b, "quickstart", &std::env::var("PATH").expect("a path"));
        command.args(["--no-install", "--binary"]).args(words).current_dir(b.at("release"));
        ran(command.output().expect("bash is there"))
    };
    let full = program.to_str().expect("text");
    quickstart(&["gone"]).ends_with(2).says("there is no file ");
    let none = quickstart(&[full]).ends_with(2).says("SHA256SUMS into the same folder");
    assert!(!none.stderr.contains("started with"), "{}", none.stderr);
    fs::write(b.at("release/SHA256SUMS"), "00  another\n").expect("written");
    quickstart(&[full]).ends_with(2).says("has no line for tarebench-x86_64-linux");
    release(&b, "echo \"started with $*\" >&2");
    let own = b.at("own.toml");
    fs::write(&own, "[environments.bare]\n").expect("written");
    let words = ["tarebench-x86_64-linux", own.to_str().expect("text"), "--blocks", "1"];
    let fine = quickstart(&words).ends_with(0);
    let fine = fine.says(&format!("started with run {} --blocks 1 --store ", own.display())).says("try: ");
    assert!(!fine.stderr.contains("built") && !fine.stderr.contains("gcc"), "{}", fine.stderr);
    tool(&program, "echo \"started with $* and something else\" >&2");
    let other = quickstart(&words).ends_with(2).says("is not the file of that release");
    assert!(!other.stderr.contains("started with"), "{}", other.stderr);
    // An unquiet machine and a workload that failed have a report all the same; whoever calls is to know of them.
    for code in [4, 7] {
        release(&b, &format!("exit {code}"));
        quickstart(&words).ends_with(code).says("the report is ");
    }
    release(&b, "exit 1");
    let none = quickstart(&words).ends_with(1);
    assert!(!none.stderr.contains("the report is"), "{}", none.stderr);
}

/// A fresh system whose root can do nothing: of what is to be done as root, `env` logs all and starts the made-up apt-get alone.
/// Installing brings a service, and firejail doesn't stand beside something else.
fn fresh_system(b: &Dir) {
    let tools = b.at("tools");
    fs::create_dir_all(&tools).expect("made");
    let (log, done) = (b.at("log").display().to_string(), b.at("done").display().to_string());
    let apt = format!(
        "case \" $* \" in *' --assume-no '*) echo '0 upgraded, 2 newly installed, 0 to remove.'\n\
         echo 'Need to get 12.3 MB of archives.'; echo 'After this operation, 45.6 MB will be used.'; exit 1 ;;\n\
         *' -s '*' firejail '*) echo 'Remv precious [1.0]' ;;\n\
         *' -y '*) echo \" $* \" >>'{done}' ;;\nesac"
    );
    for (name, text) in [
        ("id", "echo 0".to_string()),
        ("env", format!("shift 2; echo \"$*\" >>'{log}'; [ \"$1\" = apt-get ] || exit 0; export TOLD=1; exec \"$@\"")),
        ("apt-get", format!("[ -n \"$TOLD\" ] || echo \"user: apt-get $*\" >>'{log}'\n{apt}")),
        ("apt-cache", "exit 0".into()),
        ("dpkg-query", format!("grep -q \" $4 \" '{done}' 2>/dev/null && echo ii")),
        ("find", format!("[ ! -e '{done}' ] || echo made-up.service")),
        ("systemctl", "exit 1".into()),
    ] {
        tool(&tools.join(name), &text);
    }
    fs::write(b.at("own.toml"), "[environments.lxc]\n[environments.firejail]\n").expect("written");
}

/// On a terminal where somebody has typed this.
fn on_a_terminal(mut command: Command, typed: &str) -> Ran {
    let terminal = nix::pty::openpty(None, None).expect("a terminal");
    let screen = terminal.slave.try_clone().expect("a descriptor");
    command.stdin(terminal.slave).stderr(screen).stdout(Stdio::null());
    let mut child = command.spawn().expect("bash is there");
    // It has the terminal's other end, which has to be closed for ours to end.
    drop(command);
    let mut master = fs::File::from(terminal.master);
    master.write_all(typed.as_bytes()).expect("typed");
    let mut shown = Vec::new();
    // Its end is an error on Linux.
    let _ended = master.read_to_end(&mut shown);
    let code = child.wait().expect("ours").code().unwrap_or(-1);
    Ran { stdout: String::new(), stderr: String::from_utf8_lossy(&shown).into_owned(), code }
}

/// What was asked of apt-get and of root, in order.
fn asked(b: &Dir) -> Vec<String> {
    fs::read_to_string(b.at("log")).expect("a log").lines().map(str::to_string).collect()
}

#[test]
fn what_would_be_installed_is_tried_said_and_asked_for_on_a_terminal() {
    let b = Dir::new();
    fresh_system(&b);
    release(&b, "echo started >&2");
    let mut command = script(&b, "quickstart", &std::env::var("PATH").expect("a path"));
    command.arg("--binary").arg(b.at("release/tarebench-x86_64-linux")).arg(b.at("own.toml"));
    on_a_terminal(command, "n\n")
        .ends_with(0)
        .says("installing with apt-get: iproute2 lxc\r")
        .says("Need to get 12.3 MB of archives. After this operation, 45.6 MB will be used.")
        .says("install them? [Y/n] ")
        .says("going on with what is installed")
        .says("not installed: iproute2 lxc firejail")
        .says("started");
    let asked = asked(&b);
    let simulate = "user: apt-get -s -qq install --no-install-recommends --allow-downgrades ";
    assert_eq!(asked[0], "apt-get update -qq");
    assert_eq!(asked[1], format!("{simulate}iproute2 lxc firejail"));
    assert!(asked[2..asked.len() - 1].iter().all(|line| line.starts_with(simulate)), "{asked:#?}");
    let last = "apt-get install --no-install-recommends --no-remove --assume-no iproute2 lxc";
    assert_eq!(asked[asked.len() - 1], last, "{asked:#?}");
    assert!(!b.at("done").exists(), "somebody said no");
}

#[test]
fn what_is_installed_removes_nothing_and_starts_no_service() {
    let b = Dir::new();
    fresh_system(&b);
    let mut command = script(&b, "engines", &std::env::var("PATH").expect("a path"));
    command.args(["--yes", "--no-build", "--for"]).arg(b.at("own.toml"));
    let ran = on_a_terminal(command, "n\n")
        .ends_with(0)
        .says("firejail is left out, for it these would have to go: precious; by hand: apt-get install firejail")
        .says("neither started nor enabled at boot: made-up.service")
        .says("not installed: firejail\r");
    assert!(!ran.stderr.contains("[Y/n]"), "{}", ran.stderr);
    let mut asked = asked(&b);
    asked.retain(|line| !line.starts_with("user: apt-get -s "));
    let policy = "/usr/sbin/policy-rc.d";
    let install = "apt-get install --no-install-recommends --no-remove";
    let (forbid, allow) = (format!("sh -c cat >{policy} && chmod 755 {policy}"), format!("rm -f {policy}"));
    let mut wanted = vec!["apt-get update -qq".to_string(), format!("{install} --assume-no iproute2 lxc"), forbid];
    wanted.extend([
        format!("{install} -y -qq iproute2 lxc"),
        allow,
        "systemctl --quiet disable made-up.service".into(),
    ]);
    // One that is there already is somebody's, and stays as it is.
    let theirs = Path::new(policy).exists();
    wanted.retain(|line| !(theirs && line.contains(policy)));
    assert_eq!(asked, wanted);
}

/// Python that sees what lies below scripts/.
fn with_peers(program: &str) -> Command {
    let mut python = Command::new("python3");
    python.args(["-c", program]).env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts"));
    python
}

/// Parts of `scripts/bench`, with a link and a group of its own and a program that needs time to tidy up.
const BENCH: &str = r#"
import os, sys
sys.dont_write_bytecode = True
from peers import groups, remains, shared, truth
os.chdir(sys.argv[1])
remains.clear(".")
link, there = truth.Link(1, 1_000_000, 2000), groups.mounts()
group = there["cpu" if "cpu" in there else ""] / f"tarebench-bench-{os.getpid()}"
group.mkdir()
shared.listen()
try:
    link.make()
    folder = remains.own_folder(".")
    folder.__enter__()
    program = "trap 'sleep 0.3; echo tidy >> said; exit' TERM; echo $1 > made; while :; do sleep 0.05; done"
    shared.run(["sh", "-c", program, "sh", os.getpid()], preexec_fn=lambda: (group / "cgroup.procs").write_text("0"))
finally:
    link.remove()
    group.rmdir()
    folder.__exit__(None, None, None)
"#;

#[cfg(target_os = "linux")]
#[test]
fn a_bench_that_is_ended_removes_what_it_made_and_the_next_one_what_a_killed_one_did() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: links and groups need root");
        return;
    }
    let b = Dir::new();
    let left = |pid: &str| {
        let find = "ls -d /run/netns/tarebench-truth-$1-* /sys/fs/cgroup/tarebench-bench-$1 /sys/fs/cgroup/*/tarebench-bench-$1 \
                    \"$2\"/tarebench-bench-$1-* 2>/dev/null";
        let found = Command::new("sh").args(["-c", find, "sh", pid]).arg(b.root()).output().expect("sh");
        String::from_utf8_lossy(&found.stdout).into_owned()
    };
    let run = |signal: Signal| {
        let mut bench = with_peers(BENCH);
        let mut bench = bench.arg(b.root()).stderr(Stdio::null()).spawn().expect("python3");
        let began = || fs::read_to_string(b.at("made")).is_ok_and(|text| text.ends_with('\n'));
        eventually("its program runs", Duration::from_secs(30), began);
        let pid = fs::read_to_string(b.at("made")).expect("there").trim().to_string();
        fs::remove_file(b.at("made")).expect("there");
        assert_eq!(left(&pid).lines().count(), 3, "{}", left(&pid));
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(bench.id() as i32), signal).expect("there");
        bench.wait().expect("ours");
        pid
    };
    // Others may call theirs almost so.
    let others = ["tarebench-bench-2026-11-26", "tarebench-bench-notes", "tarebench-truth-9999999"];
    others.iter().for_each(|name| fs::create_dir(b.at(name)).expect("made"));
    fs::write(b.at("tarebench-bench-9999999-abcdefgh"), "no folder").expect("written");
    std::os::unix::fs::symlink("/nonexistent", b.at("tarebench-bench-9999999-abcdefgi")).expect("linked");
    let killed = run(Signal::SIGKILL);
    assert_eq!(left(&killed).lines().count(), 3, "nobody could remove it");
    let ended = run(Signal::SIGTERM);
    assert_eq!(left(&killed), "", "the next one does");
    assert!(others.iter().all(|name| b.at(name).is_dir()), "what isn't ours stays");
    assert_eq!(left("9999999").lines().count(), 2, "a file and a link too");
    assert_eq!(left(&ended), "");
    assert_eq!(
        fs::read_to_string(b.at("said")).expect("said"),
        "tidy\n",
        "its program had its time; the other's was killed"
    );
}

/// An agent that `scripts/bench` asks itself, without a harness.
const AGENT: &str = r#"
import sys
sys.dont_write_bytecode = True
from peers.agent import Agent, histogram
from peers.shared import Failed
task = {"workload": "control/syscall", "settings": {}, "seed": 1, "memory": 1 << 20, "peer": None}
def tried(what):
    try:
        print(what())
    except Failed as why:
        print("failed:", why)
with Agent([sys.argv[1], "agent", "--data", sys.argv[2]]) as agent:
    tried(lambda: agent.ask({"Prepare": task | {"workload": "no/such"}}))
    agent.ask({"Prepare": task})
    sample = agent.burst(500, 20, 1)
    seen = histogram(sample["histogram"])
    mean, total = sum(ns * count for ns, count in seen.items()) / 500, sum(seen.values())
    print(sample["operations"], sample["warmup_operations"], total, abs(mean * 500 / sample["elapsed_ns"] - 1) < 0.02)
    agent.process.kill()
    tried(lambda: agent.ask("Verify"))
"#;

#[test]
fn the_bench_asks_an_agent_as_a_run_does() {
    let b = Dir::new();
    let ran = with_peers(AGENT).arg(env!("CARGO_BIN_EXE_tarebench")).arg(b.root()).output().expect("python3");
    let (said, errors) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    let lines: Vec<_> = said.lines().collect();
    assert!(lines.len() == 3, "{said}{errors}");
    assert!(lines[0].starts_with("failed: ") && lines[0].contains("no/such"), "{said}");
    assert_eq!(lines[1], "500 20 500 True", "what the histogram holds is all that was timed");
    assert!(lines[2].starts_with("failed: the agent has ended"), "{said}");
}

/// A burst of so many blocks of 4 KiB, after so many that don't count.
const PLAIN: (usize, usize) = (200, 20);

#[cfg(target_os = "linux")]
#[test]
fn the_plain_calls_in_c_do_what_a_row_asks_for() {
    let b = Dir::new();
    let (program, file) = (b.at("disk"), b.at("file"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/peers/disk.c");
    let compiled = Command::new("cc").args(["-O1", "-o"]).arg(&program).arg(source).output().expect("cc");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let fresh = vec![7; 64 << 12];
    let bursts = |work: &str, depth: &str| {
        fs::write(&file, &fresh).expect("written");
        let mut peer = Command::new(&program);
        peer.arg(work).arg(&file).args(["4096", depth, &PLAIN.0.to_string(), &PLAIN.1.to_string()]);
        let mut peer =
            peer.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it is there");
        let (mut asked, mut said) = (peer.stdin.take().expect("piped"), String::new());
        let mut answers = std::io::BufReader::new(peer.stdout.take().expect("piped"));
        for burst in 0..2 {
            let _ = asked.write_all(b"\n");
            let lines = if burst == 0 { 2 } else { 1 };
            (0..lines).for_each(|_| drop(answers.read_line(&mut said)));
            if burst == 0 && work.starts_with(['a', 'd']) {
                // What the next one has to empty.
                let file = fs::OpenOptions::new().write(true).open(&file).expect("there");
                file.set_len(300 << 12).expect("resized");
            }
        }
        drop(asked);
        Ran { stdout: said, ..ran(peer.wait_with_output().expect("ours")) }
    };
    for (work, depth) in [
        ("append", 1),
        ("dsync", 1),
        ("randread", 1),
        ("randwrite", 1),
        ("seqread", 1),
        ("seqwrite", 1),
        ("randread", 16),
        ("randwrite", 16),
        ("seqwrite", 16),
    ] {
        let ran = bursts(work, &depth.to_string());
        if depth > 1 && ran.stderr.contains("no io_uring: ") {
            eprintln!("SKIPPED: {}", ran.stderr);
            continue;
        }
        let ran = ran.ends_with(0);
        let lines: Vec<_> = ran.stdout.lines().collect();
        assert!(lines.len() == 3 && lines[0] == "ready", "{work}: {}", ran.stdout);
        for line in &lines[1..] {
            let took: Vec<u64> = line.split(' ').map(|word| word.parse().expect("a number")).collect();
            assert_eq!(took.len(), 1 + PLAIN.0, "{work}");
            let each: u64 = took[1..].iter().sum();
            // Several at a time overlap; of one at a time nothing lies between.
            assert!(if depth == 1 { each == took[0] } else { each > 2 * took[0] }, "{work}: {each} of {}", took[0]);
        }
        let now = fs::read(&file).expect("there");
        let changed = now.chunks(4096).zip(fresh.chunks(4096)).filter(|(now, before)| now != before).count();
        match work {
            "append" | "dsync" => assert_eq!(now.len(), (PLAIN.0 + PLAIN.1) << 12, "each burst begins anew"),
            "randwrite" => assert!(changed > 48, "{changed} of 64 blocks in 440 writes"),
            // Each block has the number of the last operation there: 440 follow each other, numbered from 0 in either burst.
            "seqwrite" if depth == 1 => (0..64).for_each(|block| {
                let last = (0..440).rfind(|nth| nth % 64 == block).expect("several") % 220;
                let stamp = u64::from_le_bytes(now[block << 12..][..8].try_into().expect("eight bytes"));
                assert_eq!(stamp, last as u64, "block {block}");
            }),
            "seqwrite" => assert_eq!(changed, 64),
            _ => assert_eq!(changed, 0),
        }
    }
    bursts("bogus", "1").ends_with(2).says("bogus is no work");
    bursts("append", "2").ends_with(2).says("append waits for each");
    bursts("randread", "65").ends_with(1).says("has fewer than 65 blocks");
}

/// Runs of `scripts/bench --truth` whose findings are made up, kept in the file `kept` of the folder that is given: so many of them.
const KEPT: &str = r#"
import os, pathlib, sys
sys.dont_write_bytecode = True
from peers import truth
os.chdir(sys.argv[1])
place = truth.Place(pathlib.Path("/bin/echo"), pathlib.Path("."), [])
put_in = truth.Truth("a cost", "costly", [], None)
suite = truth.Suite("made up", "control/cpu", {}, {}, [put_in])
asked = []
def truths_of(place, suite):
    asked.append(suite.name)
    if len(asked) == int(sys.argv[3]):
        raise truth.Failed("as it was asked to")
    return [(put_in, truth.Found(2.0, 0.0, 2.0, 1.9, 2.1, None, False))]
def nothing(place):
    asked.append("nothing")
    return truth.Nothing([], {"net/rr": 0.1}, 60.0, [])
truth.truths_of, truth.nothing = truths_of, nothing
try:
    book = truth.Book("kept", place)
except truth.Failed as why:
    sys.exit(str(why))
seen, copies, failed, whole = truth.go_through(place, [suite], True, int(sys.argv[2]), None, book)
print("asked", len(asked), "seen", len(seen["costly"]), "copies", len(copies), "failed", len(failed))
"#;

#[test]
fn truths_that_were_found_are_not_measured_again() {
    let b = Dir::new();
    let go = |runs: u32, fails: u32| {
        let ran = with_peers(KEPT).arg(b.root()).args([runs.to_string(), fails.to_string()]).output().expect("python3");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&ran.stdout).lines().last().unwrap_or_default().to_string(), text(&ran.stderr))
    };
    let kept = || fs::read_to_string(b.at("kept")).expect("kept");
    assert_eq!(go(2, 3).0, "asked 4 seen 1 copies 2 failed 1");
    assert_eq!(kept().lines().count(), 3, "what failed is not kept: {}", kept());
    assert_eq!(go(3, 0).0, "asked 3 seen 3 copies 3 failed 0", "the one that failed and the third of both");
    assert_eq!(go(3, 0).0, "asked 0 seen 3 copies 3 failed 0");
    let other = kept().replacen("\"machine\": \"", "\"machine\": \"another ", 1);
    fs::write(b.at("kept"), other).expect("written");
    let (said, why) = go(3, 0);
    assert!(
        said.is_empty() && why.contains("kept, line 1, is of another ") && why.contains("give another file"),
        "{why}"
    );
    fs::write(b.at("kept"), "{\"run\": 1}\n").expect("written");
    let (said, why) = go(3, 0);
    assert!(said.is_empty() && why.contains("kept, line 1, is none that --resume wrote (KeyError"), "{why}");
}

/// The row of a truth that was measured itself, and of one that was calculated.
const ROWS: &str = r#"
import sys
sys.dont_write_bytecode = True
from peers import truth
put_in = truth.Truth("a cost", "costly", [], None)
for doubt in (0.1, 0.0):
    found = [truth.Found(2.0, doubt, value, 1.9, 2.2, None, False) for value in (2.0, 2.1, 2.12)]
    print(*(row.words() for row in truth.line_of(put_in, found)))
"#;

#[test]
fn a_truth_that_was_measured_itself_says_how_well() {
    let ran = with_peers(ROWS).output().expect("python3");
    let said = String::from_utf8_lossy(&ran.stdout);
    // e^0.1 is 1.105, and sqrt(2.2 / 1.9) 1.076.
    let row =
        |expected: &str| format!("['a cost', '{expected}', '2.100', '7.6%', '3 of 3 (29% to 100%)', '>= 95%', 'met']");
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        [row("2.000 ± 10.5%"), row("2.000")],
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

#[test]
fn every_package_has_its_licences_and_the_files_that_it_lists() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(tree.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let manifest: toml::Table = read("Cargo.toml").parse().expect("TOML");
    let licences = ["LICENSE-MIT", "LICENSE-APACHE"];
    // A crate is packed without what lies above it.
    for member in manifest["workspace"]["members"].as_array().expect("members") {
        for name in licences {
            assert_eq!(read(&format!("{}/{name}", member.as_str().expect("a folder"))), read(name), "{member}");
        }
    }
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array().expect("assets");
    let sources: Vec<&str> = assets.iter().filter_map(|asset| asset[0].as_str()).collect();
    for source in sources.iter().filter(|source| !source.starts_with("target/")) {
        assert!(tree.join(source).is_file(), "the Debian package is to have {source}");
    }
    for name in licences {
        assert!(read("LICENSE").contains(name) && sources.contains(&name), "the Debian package has no {name}");
    }
}
