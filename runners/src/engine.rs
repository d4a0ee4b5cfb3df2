//! What runners with an external engine share: finding the program, asking it something under a deadline, and removing
//! what it may have left.

#[cfg(target_os = "linux")]
use std::ffi::{CStr, OsStr};
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use workloads::settings::{Kind, Setting, Settings};

use crate::Unavailable;
#[cfg(target_os = "linux")]
use crate::confine;
use crate::host::Host;
use crate::network::safe_name;
use crate::stage::Stage;

/// The network of a runner that can be given a namespace to start in, or none.
pub(crate) const NETWORK: Setting = Setting {
    name: "network",
    kind: Kind::Choice(&["veth", "none"]),
    default: "veth",
    about: "Path to the peer: a veth pair (without privileges the host's loopback), or none",
};

/// Where data lies in a runner that can show a directory in several ways.
pub(crate) const DATA: Setting = Setting {
    name: "data",
    kind: Kind::Choice(&["bind", "overlay", "tmpfs"]),
    default: "bind",
    about: "Where data lies: a bind mount of the data directory, an overlay whose upper layer is there, or memory",
};

/// A filter of system calls, where the engine has one that can be left away.
pub(crate) const SECCOMP: Setting = Setting {
    name: "seccomp",
    kind: Kind::Choice(&["default", "none"]),
    default: "default",
    about: "The engine's own filter of system calls, or none",
};

/// Searched after PATH: engines are often installed where an ordinary user's PATH does not look.
const MORE_PLACES: &[&str] = &["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// How long an engine may take for an answer that involves no container.
const PATIENCE: Duration = Duration::from_secs(10);

/// The program of this name, or at this path.
pub fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|p| executable(p));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .chain(MORE_PLACES.iter().map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|p| executable(p))
}

fn executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// The program of this name, or how to get it.
///
/// # Errors
/// When it is neither in PATH nor in the usual places.
pub fn require(program: &str, package: &str) -> Result<PathBuf, Unavailable> {
    find(program).ok_or_else(|| Unavailable {
        because: format!("`{program}` is not in PATH"),
        fix: format!("apt install {package}"),
        broken: false,
    })
}

/// Gives the engine a run-time directory of its own in place of the one that all its instances share: what it forgets there
/// when it is killed goes with its last process.
///
/// # Errors
/// When there is no such directory and it can't be made.
#[cfg(target_os = "linux")]
pub fn own_run_directory(command: &mut Command, directory: &'static CStr) -> anyhow::Result<()> {
    let path = Path::new(OsStr::from_bytes(directory.to_bytes()));
    fs::create_dir_all(path).with_context(|| format!("can't make {}", path.display()))?;
    confine::hide(command, directory, false);
    Ok(())
}

/// Refuses an engine that only root can use.
///
/// # Errors
/// Without privileges.
pub fn require_root(host: &Host, engine: &str) -> Result<(), Unavailable> {
    if host.privileged {
        return Ok(());
    }
    Err(Unavailable {
        because: format!("{engine} needs root"),
        fix: "run tarebench as root, or use `namespaces` or `bubblewrap`, which don't need it".into(),
        broken: false,
    })
}

/// The two directories of an overlay over an empty one, below the data directory: the upper layer and overlayfs's own.
///
/// # Errors
/// When they can't be made.
pub fn layers(stage: &Stage) -> anyhow::Result<Layers> {
    let at = |name: &str| stage.data().join(name);
    let layers = Layers { lower: at("lower"), upper: at("upper"), work: at("work") };
    for layer in [&layers.lower, &layers.upper, &layers.work] {
        fs::create_dir_all(layer).with_context(|| format!("can't make {}", layer.display()))?;
    }
    Ok(layers)
}

/// What an overlay is made of.
#[derive(Debug)]
pub struct Layers {
    /// Empty.
    pub lower: PathBuf,
    /// What is written goes here.
    pub upper: PathBuf,
    /// overlayfs's own.
    pub work: PathBuf,
}

/// How data is reached by [`DATA`], in words.
pub fn data_path(settings: &Settings, stage: &Stage) -> String {
    match settings.get("data") {
        "tmpfs" => "tmpfs: memory".into(),
        "overlay" => format!("overlay with its upper layer on {}", stage.data_file_system()),
        _ => format!("bind mount of {}", stage.data_file_system()),
    }
}

/// A path as text without the characters that the engine would read otherwise.
///
/// # Errors
/// When it has one.
pub fn plain<'a>(path: &'a Path, engine: &str, special: &[char]) -> anyhow::Result<&'a str> {
    let text = path.to_str().with_context(|| format!("{} is not a path that {engine} can take", path.display()))?;
    match text.chars().find(|c| special.contains(c)) {
        Some(c) => {
            anyhow::bail!("{engine} can't take {text}: there is a {c:?} in its path; give another with --data-dir")
        }
        None => Ok(text),
    }
}

/// First line of `program --version` with the words before the number taken off: `1.1.5+ds1`.
///
/// # Errors
/// When the program is absent, fails, or does not answer in time.
pub fn version(program: &str, package: &str) -> Result<String, Unavailable> {
    let path = require(program, package)?;
    let mut command = Command::new(&path);
    command.arg("--version");
    let text = ask(command).map_err(|words| Unavailable {
        because: words,
        fix: format!("apt install --reinstall {package}"),
        broken: true,
    })?;
    let line = text.lines().next().unwrap_or_default().trim();
    Ok(line.split_whitespace().find(|w| w.starts_with(|c: char| c.is_ascii_digit())).unwrap_or(line).to_string())
}

/// Runs a command that should end by itself and soon; what it printed, or its own words when it failed.
///
/// # Errors
/// What went wrong, in the program's words where it had any.
pub fn ask(command: Command) -> Result<String, String> {
    ask_both(command, Stdio::null(), PATIENCE).map(|(stdout, _)| stdout)
}

/// As [`ask`], for something that takes its time, with `input` as its stdin.
///
/// # Errors
/// See [`ask`].
pub fn ask_patiently(command: Command, input: Stdio, patience: Duration) -> Result<String, String> {
    ask_both(command, input, patience).map(|(stdout, _)| stdout)
}

/// As [`ask`], with what went to stderr after what went to stdout.
///
/// # Errors
/// See [`ask`].
pub fn ask_all(command: Command) -> Result<String, String> {
    ask_both(command, Stdio::null(), PATIENCE).map(|(stdout, stderr)| stdout + &stderr)
}

fn ask_both(mut command: Command, input: Stdio, patience: Duration) -> Result<(String, String), String> {
    log::debug!("ask: {command:?}");
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(|e| format!("can't start `{name}`: {e}"))?;
    let (sender, output) = channel();
    let read = |stream: Option<Box<dyn Read + Send>>, out: bool| {
        let sender = sender.clone();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(stream) = stream {
                // What came before an error still tells something.
                let _ = stream.take(1 << 20).read_to_end(&mut bytes);
            }
            // The receiver may have given up; then nobody wants it.
            let _ = sender.send((out, String::from_utf8_lossy(&bytes).into_owned()));
        });
    };
    read(child.stdout.take().map(|s| Box::new(s) as Box<dyn Read + Send>), true);
    read(child.stderr.take().map(|s| Box::new(s) as Box<dyn Read + Send>), false);
    let until = Instant::now() + patience;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
            other => {
                if let Err(e) = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL) {
                    log::debug!("kill `{name}`: {e}");
                }
                let reaped = child.wait();
                return Err(format!("no answer from `{name}` within {patience:?} ({other:?}, {reaped:?})"));
            }
        }
    };
    let (mut stdout, mut stderr) = (String::new(), String::new());
    for _ in 0..2 {
        // A process that the engine left in the background may hold a pipe open: not a reason to hang.
        match output.recv_timeout(Duration::from_millis(500)) {
            Ok((true, text)) => stdout = text,
            Ok((false, text)) => stderr = text,
            Err(_) => break,
        }
    }
    if status.success() {
        return Ok((stdout, stderr));
    }
    let words = [stderr.trim(), stdout.trim()].into_iter().find(|t| !t.is_empty()).unwrap_or("it said nothing");
    // Some say what is wrong and then what to do, others print their whole usage before what is wrong.
    let lines: Vec<&str> = words.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(4)..].join(" ");
    Err(format!("`{name}` failed ({status}): {last}"))
}

/// A name for one start of one environment that nothing else on this host has: `tarebench-<run>-<environment>-<n>`.
pub fn container_id(stage: &Stage) -> String {
    static STARTS: AtomicU32 = AtomicU32::new(0);
    let n = STARTS.fetch_add(1, Ordering::Relaxed);
    let environment = safe_name(&stage.environment);
    format!("tarebench-{}-{environment}-{n}", stage.host.id)
}

/// Kills every process that has one of these marks in an argument, and waits until they are gone. For what an engine puts
/// into sessions of its own (sandboxes, monitors), out of reach of a process group; the marks are names that only we give.
pub fn kill_marked(marks: &[&str]) {
    let until = Instant::now() + Duration::from_secs(3);
    loop {
        let found = marked(marks);
        if found.is_empty() {
            return;
        }
        if Instant::now() > until {
            log::warn!("processes of {} outlive SIGKILL: {found:?}", marks.join(", "));
            return;
        }
        for pid in found {
            log::debug!("kill {pid}, which {} left", marks.join(", "));
            if let Err(e) = kill(pid, Signal::SIGKILL) {
                log::debug!("kill {pid}: {e}");
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn marked(marks: &[&str]) -> Vec<Pid> {
    let own = Pid::this();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok().map(Pid::from_raw)?, entry.path())))
        // A zombie has an empty command line: it is gone as far as we are concerned.
        .filter(|(pid, path)| *pid != own && fs::read(path.join("cmdline")).is_ok_and(|line| mentions(&line, marks)))
        .map(|(pid, _)| pid)
        .collect()
}

fn mentions(line: &[u8], marks: &[&str]) -> bool {
    // Whole arguments or whole path components: `...-runc-1` must not match `...-runc-12`.
    let ends = |byte: Option<&u8>| byte.is_none_or(|b| matches!(b, 0 | b'/' | b'=' | b':'));
    marks.iter().map(|m| m.as_bytes()).filter(|m| !m.is_empty()).any(|mark| {
        line.windows(mark.len()).enumerate().any(|(at, part)| {
            part == mark && ends(line.get(at + mark.len())) && ends(at.checked_sub(1).map(|b| &line[b]))
        })
    })
}

/// Marks for [`kill_marked`] must be text; our own paths are, unless the temporary directory is not.
pub fn mark(path: &Path) -> String {
    String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_engine_says_how_to_get_it() {
        let e = version("no-such-engine", "some-package").expect_err("not there");
        assert_eq!(e.because, "`no-such-engine` is not in PATH");
        assert_eq!((e.fix.as_str(), e.broken), ("apt install some-package", false));
    }

    #[test]
    fn a_failure_is_told_in_the_programs_words() {
        let mut command = Command::new("ls");
        command.arg("/no/such/file");
        let words = ask(command).expect_err("fails");
        assert!(words.contains("No such file"), "{words}");
    }

    #[test]
    fn a_mark_matches_whole_names_only() {
        let line = b"runc\0--root=/tmp/t/state\0run\0box-1\0";
        assert!(mentions(line, &["box-1"]));
        assert!(mentions(line, &["/tmp/t/state"]));
        assert!(mentions(line, &["/tmp/t"]));
        assert!(!mentions(line, &["box"]));
        assert!(!mentions(b"runc\0box-12\0", &["box-1"]));
        assert!(!mentions(line, &[""]));
    }

    #[test]
    fn marked_processes_are_killed_and_others_are_not() {
        let mut ours = Command::new("sleep").args(["100", "5"]).spawn().expect("sleep starts");
        kill_marked(&["no process on this host has this as an argument"]);
        assert!(ours.try_wait().expect("wait").is_none());
        ours.kill().expect("kill");
        ours.wait().expect("reap");
    }
}
