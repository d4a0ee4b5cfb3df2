//! Asking a program of the host something under a deadline.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How long an engine may take for an answer that involves no container.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a command that should end by itself and soon; what it printed, or its own words when it failed.
///
/// # Errors
/// The failure, in the program's words where it had any.
pub(crate) fn ask(command: Command) -> Result<String, String> {
    ask_both(command, Stdio::null(), PATIENCE).map(|(stdout, _)| stdout)
}

/// As [`ask`], for something that takes its time, with `input` as its stdin.
///
/// # Errors
/// See [`ask`].
pub(crate) fn ask_patiently(command: Command, input: Stdio, patience: Duration) -> Result<String, String> {
    ask_both(command, input, patience).map(|(stdout, _)| stdout)
}

/// As [`ask`], with what went to stderr after what went to stdout.
///
/// # Errors
/// See [`ask`].
pub(crate) fn ask_all(command: Command) -> Result<String, String> {
    ask_both(command, Stdio::null(), PATIENCE).map(|(stdout, stderr)| stdout + &stderr)
}

fn ask_both(mut command: Command, input: Stdio, patience: Duration) -> Result<(String, String), String> {
    log::debug!("ask: {command:?}");
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    command.env_remove("RUST_BACKTRACE").env_remove("RUST_LIB_BACKTRACE");
    let mut child = command.spawn().map_err(|e| format!("can't start `{name}`: {e}"))?;
    let (sender, output) = channel();
    let read = |stream: Option<Box<dyn Read + Send>>, out: bool| {
        let sender = sender.clone();
        let read = move || {
            let mut bytes = Vec::new();
            if let Some(stream) = stream {
                // What came before an error still tells something.
                let _ = stream.take(1 << 20).read_to_end(&mut bytes);
            }
            // The receiver may have given up; then nobody wants it.
            let _ = sender.send((out, String::from_utf8_lossy(&bytes).into_owned()));
        };
        std::thread::Builder::new().spawn(read).map(drop)
    };
    let stdout = read(child.stdout.take().map(|s| Box::new(s) as Box<dyn Read + Send>), true);
    let stderr = read(child.stderr.take().map(|s| Box::new(s) as Box<dyn Read + Send>), false);
    if let Err(e) = stdout.and(stderr) {
        let ended = child.kill().and_then(|()| child.wait());
        return Err(format!("can't listen to `{name}`, since no thread can be made: {e} ({ended:?})"));
    }
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
    let lines = before_the_dump(&lines);
    let last = lines[lines.len().saturating_sub(4)..].join(" ");
    Err(format!("`{name}` failed ({status}): {last}"))
}

/// Without the stacks and registers that Go's runtime prints after its reason.
fn before_the_dump<'a, 'l>(lines: &'a [&'l str]) -> &'a [&'l str] {
    let reason = |line: &&str| line.starts_with("fatal error: ") || line.starts_with("SIGABRT: ");
    lines.iter().position(reason).map_or(lines, |at| &lines[..=at])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As runc 1.1.5 says it under a low `ulimit -u`.
    #[test]
    fn the_reason_of_a_program_in_go_stands_before_its_stacks() {
        let all = [
            "runtime: failed to create new OS thread (have 2 already; errno=11)",
            "runtime: may need to increase max user processes (ulimit -u)",
            "fatal error: newosproc",
            "runtime stack:",
            "runtime.throw({0x8a2b7d, 0x9})",
        ];
        assert_eq!(before_the_dump(&all), &all[..3]);
        assert_eq!(before_the_dump(&all[3..]), &all[3..]);
    }

    #[test]
    fn a_failure_is_told_in_the_programs_words() {
        let mut command = Command::new("ls");
        command.arg("/no/such/file");
        let words = ask(command).expect_err("fails");
        assert!(words.contains("No such file"), "{words}");
    }
}
