//! One live environment with an agent in it: started, asked, and on drop told, killed, reaped and removed.

pub mod clock;
mod error;
#[cfg_attr(not(target_os = "linux"), path = "../elsewhere/terminal.rs")]
mod terminal;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use workloads::Check;
use workloads::durability::Way;
use workloads::evidence::ClockFit;
use workloads::parcel::Parcel;
use workloads::protocol::{
    self, BurstPlan, Envelope, FrameError, Hello, Identity, PROTOCOL, Piece, Request, Response, Sample, Task,
};

use crate::launch::{Cleanup, Launch};
use crate::process::{RUN, confine, table};
use crate::stage::cgroup::Cgroup;
use clock::Stamps;
pub use error::{SessionError, Tail};

/// How much of stderr and console is kept for an error message, bytes.
const TAIL: usize = 4096;

/// Characters of a line of it.
const LONGEST_LINE: usize = 300;

/// How often a wait looks whether the run is being interrupted.
const POLL: Duration = Duration::from_millis(40);

/// How long an environment may take to go by itself once told: a VM writes back and powers off.
const PATIENCE: Duration = Duration::from_secs(3);

/// The same when somebody waits for Ctrl-C to work.
const PATIENCE_INTERRUPTED: Duration = Duration::from_millis(300);

type Incoming = Result<(Envelope<Response>, u64), FrameError>;

/// One live environment.
#[derive(Debug)]
pub struct Session {
    child: Child,
    stdin: Option<File>,
    /// Whether that is one.
    terminal: bool,
    /// Taken away at the end, so that a reader that waits for room gives up.
    incoming: Option<Receiver<Incoming>>,
    threads: Vec<JoinHandle<()>>,
    tail: Arc<Mutex<VecDeque<u8>>>,
    cleanup: Cleanup,
    cgroup: Option<Arc<Cgroup>>,
    interrupt: Arc<AtomicBool>,
    binary_sha256: Option<String>,
    console: Option<PathBuf>,
    epoch: Instant,
    next: u64,
    over: bool,
    stamps: Vec<Stamps>,
    /// How much later than asked for we woke up while we waited for the last answer.
    pub overslept: Duration,
    /// The agent's first words.
    pub hello: Hello,
    /// From launch to the first frame.
    pub start: Duration,
}

impl Session {
    /// Starts the environment and waits for the agent's first frame. The environment dies with the calling thread, so that
    /// nothing outlives a harness that is killed: call it from one that lives as long as the session.
    ///
    /// # Errors
    /// When it can't be started, dies, or says nothing sensible before the deadline; nothing of it is left then.
    pub fn start(launch: Launch, deadline: Duration) -> Result<Self, SessionError> {
        let Launch { mut command, cleanup, path, confinement, console, terminal, .. } = launch;
        let program = command.get_program().to_string_lossy().into_owned();
        let spawn_error = |reason| SessionError::Spawn { program: program.clone(), reason };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        // An engine's own last words would be pushed out of those that are kept.
        command.env_remove("RUST_BACKTRACE").env_remove("RUST_LIB_BACKTRACE");
        let mut line = None;
        if terminal {
            let made = terminal::raw();
            let (ours, theirs) = made.map_err(|reason| SessionError::Terminal { program: program.clone(), reason })?;
            command.stdin(theirs);
            line = Some(ours);
        }
        let entrances = confinement.cgroup.as_ref().map(|c| c.entrances()).unwrap_or_default();
        confine(&mut command, path.netns.as_deref(), &entrances, &confinement.cpus).map_err(spawn_error)?;
        command.env(RUN, &confinement.run);
        log::debug!("start: {command:?}");
        let epoch = Instant::now();
        let mut child = command.spawn().map_err(spawn_error)?;
        let tail = Arc::new(Mutex::new(VecDeque::with_capacity(TAIL)));
        let (sender, incoming) = sync_channel(4);
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let overheard = Overheard { stream: stdout, within: false, tail: Arc::clone(&tail) };
        // Held by the command too, a terminal would not end with its process.
        drop(command);
        let stdin = child.stdin.take().map(|pipe| File::from(OwnedFd::from(pipe))).or(line);
        let mut session = Self {
            child,
            stdin,
            terminal,
            incoming: Some(incoming),
            threads: Vec::new(),
            tail: Arc::clone(&tail),
            cleanup,
            cgroup: confinement.cgroup,
            interrupt: confinement.interrupt,
            binary_sha256: confinement.binary_sha256,
            console,
            epoch,
            next: 1,
            over: false,
            stamps: Vec::new(),
            overslept: Duration::ZERO,
            hello: Hello::default(),
            start: Duration::ZERO,
        };
        // From here on whatever fails ends what was started.
        session.listen(move || read_frames(overheard, epoch, &sender)).map_err(spawn_error)?;
        session.listen(move || keep_tail(stderr, &tail)).map_err(spawn_error)?;
        let (envelope, at) = session.receive("the agent's hello", deadline)?;
        session.start = Duration::from_nanos(at);
        match envelope.body {
            Response::Hello(hello) if hello.protocol == PROTOCOL => session.hello = hello,
            Response::Hello(hello) => {
                return Err(
                    session.garbage("hello", format!("it speaks protocol {}, we speak {PROTOCOL}", hello.protocol))
                );
            }
            // A guest whose init got no further has no other way to say so.
            Response::Failed { message } => {
                session.end(Duration::ZERO);
                return Err(SessionError::Refused(message));
            }
            other => return Err(session.garbage("hello", format!("{other:?}"))),
        }
        // Only now are all groups there that the engine makes of its own.
        if let Some(cgroup) = &session.cgroup {
            cgroup.hold_io().map_err(|e| SessionError::Unlimited(format!("{e:#}")))?;
        }
        Ok(session)
    }

    /// Has a thread of its own read what comes from the environment.
    fn listen(&mut self, read: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        self.threads.push(std::thread::Builder::new().spawn(read)?);
        Ok(())
    }

    /// Process id of the engine's front process, which is also the id of its process group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How the environment's clock runs against ours, from all exchanges so far.
    pub fn clock(&self) -> ClockFit {
        clock::fit(&self.stamps)
    }

    /// Memory held, bytes: charged to the environment's cgroup, else resident in its processes.
    pub fn memory(&self) -> Option<u64> {
        let charged = self.cgroup.as_ref().and_then(|c| c.memory_bytes());
        charged.or_else(|| table::resident_below(self.pid()))
    }

    /// Asks who is there, and that it is the binary that the harness runs.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn identify(&mut self, deadline: Duration) -> Result<Identity, SessionError> {
        match self.ask(Request::Identify, "an identity", deadline)? {
            Response::Identity(identity) => match &self.binary_sha256 {
                Some(ours) if *ours != identity.binary_sha256 => {
                    let inside: String = identity.binary_sha256.chars().take(64).collect();
                    let ours = ours.clone();
                    self.end(Duration::ZERO);
                    Err(SessionError::WrongBinary { inside, ours })
                }
                _ => Ok(*identity),
            },
            other => Err(self.garbage("an identity", format!("{other:?}"))),
        }
    }

    /// Exchanges stamps.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn ping(&mut self, deadline: Duration) -> Result<(), SessionError> {
        match self.ask(Request::Ping, "a pong", deadline)? {
            Response::Pong => Ok(()),
            other => Err(self.garbage("a pong", format!("{other:?}"))),
        }
    }

    /// Sends files of the host for the workload that is prepared next.
    ///
    /// # Errors
    /// See [`SessionError`]; the deadline is that of all pieces.
    pub fn bring(&mut self, parcel: &Parcel, deadline: Duration) -> Result<(), SessionError> {
        let until = Instant::now() + deadline;
        for (offset, bytes) in parcel.pieces() {
            let left = until.saturating_duration_since(Instant::now());
            let piece = Piece { offset, bytes: bytes.to_vec() };
            match self.ask(Request::Bring(piece), "a receipt for the files", left)? {
                Response::Kept => {}
                other => return Err(self.garbage("a receipt for the files", format!("{other:?}"))),
            }
        }
        Ok(())
    }

    /// Makes a workload ready.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn prepare(&mut self, task: Task, deadline: Duration) -> Result<BTreeMap<String, String>, SessionError> {
        match self.ask(Request::Prepare(task), "a prepared workload", deadline)? {
            Response::Prepared(facts) => Ok(facts),
            other => Err(self.garbage("a prepared workload", format!("{other:?}"))),
        }
    }

    /// One timed pass; the channel is silent meanwhile.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn burst(&mut self, plan: BurstPlan, deadline: Duration) -> Result<Sample, SessionError> {
        match self.ask(Request::Burst(plan), "a sample", deadline)? {
            Response::Sample(sample) => Ok(sample),
            other => Err(self.garbage("a sample", format!("{other:?}"))),
        }
    }

    /// Checks what the bursts left behind.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn verify(&mut self, deadline: Duration) -> Result<(Check, BTreeMap<String, String>), SessionError> {
        match self.ask(Request::Verify, "a check", deadline)? {
            Response::Verified { check, facts } => Ok((check, facts)),
            other => Err(self.garbage("a check", format!("{other:?}"))),
        }
    }

    /// Ends the prepared workload and removes its files.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn release(&mut self, deadline: Duration) -> Result<(), SessionError> {
        match self.ask(Request::Release, "a release", deadline)? {
            Response::Released => Ok(()),
            other => Err(self.garbage("a release", format!("{other:?}"))),
        }
    }

    /// Has an item written whose answer says that it is durable; number 0 makes ready for the first.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn write(&mut self, way: Way, number: u64, deadline: Duration) -> Result<(), SessionError> {
        match self.ask(Request::Write { way, number }, "an acknowledgement", deadline)? {
            Response::Written => Ok(()),
            other => Err(self.garbage("an acknowledgement", format!("{other:?}"))),
        }
    }

    /// Ends the environment without a word to anybody in it: SIGKILL to all of its processes. What it left is removed on drop.
    pub fn kill(&mut self) {
        // An agent would tidy up when the engine between us dies first and its channel is closed.
        if let Some(cgroup) = &self.cgroup {
            cgroup.stop();
        }
        let group = Pid::from_raw(self.child.id() as i32);
        if let Err(e) = killpg(group, Signal::SIGKILL) {
            log::debug!("kill process group {group}: {e}");
        }
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
        self.exited(PATIENCE);
    }

    fn ask(&mut self, body: Request, what: &'static str, deadline: Duration) -> Result<Response, SessionError> {
        let id = self.next;
        self.next += 1;
        let sent = self.epoch.elapsed().as_nanos() as u64;
        let envelope = Envelope { id, received_ns: 0, sent_ns: sent, body };
        let written = match &mut self.stdin {
            Some(stdin) => protocol::write_frame(stdin, &envelope),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        };
        if written.is_err() {
            return Err(self.died(what));
        }
        let (answer, received) = self.receive(what, deadline)?;
        if answer.id != id {
            return Err(self.garbage(what, format!("an answer to request {} while {id} was asked", answer.id)));
        }
        self.stamps.push([sent, answer.received_ns, answer.sent_ns, received]);
        match answer.body {
            Response::Failed { message } => Err(SessionError::Refused(message)),
            body => Ok(body),
        }
    }

    fn receive(&mut self, what: &'static str, after: Duration) -> Result<(Envelope<Response>, u64), SessionError> {
        let mut until = Instant::now() + after;
        self.overslept = Duration::ZERO;
        loop {
            if self.interrupt.load(Ordering::Relaxed) {
                self.end(PATIENCE_INTERRUPTED);
                return Err(SessionError::Interrupted);
            }
            let Some(incoming) = &self.incoming else { return Err(self.died(what)) };
            // Stamps are taken by the reader, so waking up now and then costs no accuracy.
            let asleep = Instant::now();
            let left = until.saturating_duration_since(asleep);
            let received = incoming.recv_timeout(left.min(POLL));
            // While everything is stopped nobody can answer, and no deadline runs.
            let late = asleep.elapsed().saturating_sub(left.min(POLL));
            if late > POLL {
                self.overslept += late;
                until += late;
            }
            match received {
                Ok(Ok(message)) => return Ok(message),
                Ok(Err(FrameError::Closed)) | Err(RecvTimeoutError::Disconnected) => return Err(self.died(what)),
                Ok(Err(problem)) => return Err(self.garbage(what, problem.to_string())),
                // The front process is gone but somebody it left holds the channel open; its last frames are read by now.
                Err(RecvTimeoutError::Timeout) if self.exited(Duration::ZERO) => return Err(self.died(what)),
                Err(RecvTimeoutError::Timeout) if left > POLL => {}
                Err(RecvTimeoutError::Timeout) => {
                    self.end(Duration::ZERO);
                    return Err(SessionError::Deadline { what, after, tail: self.tail() });
                }
            }
        }
    }

    fn died(&mut self, what: &'static str) -> SessionError {
        let exited = self.exited(Duration::from_millis(500));
        let status = self.end(Duration::ZERO);
        let status = match status {
            Some(status) if exited => status.to_string(),
            _ => "its channel was closed".into(),
        };
        SessionError::Died { what, status, tail: self.tail() }
    }

    fn garbage(&mut self, what: &'static str, problem: String) -> SessionError {
        self.end(Duration::ZERO);
        SessionError::Garbage { what, problem: problem.chars().take(400).collect(), tail: self.tail() }
    }

    fn tail(&self) -> Tail {
        let mut bytes: Vec<u8> = self.tail.lock().map(|t| t.iter().copied().collect()).unwrap_or_default();
        if let Some(console) = &self.console {
            bytes.push(b'\n');
            bytes.extend(last_bytes(console).unwrap_or_default());
        }
        let text = String::from_utf8_lossy(&bytes);
        // A console may hold escape sequences; they must not reach the user's terminal.
        let clean = |l: &str| {
            l.chars().filter(|c| !c.is_control()).take(LONGEST_LINE).collect::<String>().trim_end().to_string()
        };
        let lines: Vec<String> = text.lines().map(clean).filter(|l| !l.is_empty()).collect();
        Tail(lines[lines.len().saturating_sub(12)..].join("\n"))
    }

    /// Waits for the front process to exit, without reaping it: until then nobody else can have its id.
    fn exited(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        loop {
            match waitid(Id::Pid(Pid::from_raw(self.child.id() as i32)), flags) {
                Ok(WaitStatus::StillAlive) if Instant::now() < until => std::thread::sleep(Duration::from_millis(2)),
                Ok(WaitStatus::StillAlive) => return false,
                _ => return true,
            }
        }
    }

    /// Ends the environment: waits `patience` for it to go by itself, kills the process group and whatever else is in the
    /// cgroup, reaps, cleans up. `None` where the front process can't be reaped.
    fn end(&mut self, patience: Duration) -> Option<ExitStatus> {
        // The end of a pipe is an order to go. Of a terminal it would throw away what is unread, the order itself included.
        let line = self.stdin.take().filter(|_| self.terminal);
        if self.over {
            return None;
        }
        self.over = true;
        self.exited(patience);
        drop(line);
        let group = Pid::from_raw(self.child.id() as i32);
        // Also where the front process is gone: what it left in its group must go too.
        if let Err(e) = killpg(group, Signal::SIGKILL) {
            log::debug!("kill process group {group}: {e}");
        }
        let status = self.child.wait().inspect_err(|e| log::warn!("can't reap {group}: {e}")).ok();
        if let Some(cgroup) = &self.cgroup {
            cgroup.kill();
        }
        drop(std::mem::take(&mut self.cleanup));
        self.incoming = None;
        let until = Instant::now() + Duration::from_millis(300);
        for thread in self.threads.drain(..) {
            while !thread.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
            if !thread.is_finished() {
                // Somebody who escaped the group holds the pipe; the thread ends with it.
                log::warn!("a process of the environment with front process {group} still holds its output");
            } else if thread.join().is_err() {
                log::warn!("a reader thread panicked");
            }
        }
        status
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.stdin.is_some() {
            // An answer is welcome but not awaited: what matters is that the process goes.
            let bye = Envelope { id: self.next, received_ns: 0, sent_ns: 0, body: Request::Bye };
            if let Some(stdin) = &mut self.stdin
                && let Err(e) = protocol::write_frame(stdin, &bye)
            {
                log::debug!("bye: {e}");
            }
            let interrupted = self.interrupt.load(Ordering::Relaxed);
            self.end(if interrupted { PATIENCE_INTERRUPTED } else { PATIENCE });
        }
    }
}

/// The end of a console log.
fn last_bytes(path: &std::path::Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL as u64)))?;
    let mut bytes = Vec::new();
    file.take(TAIL as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn read_frames(stdout: impl Read, epoch: Instant, sender: &SyncSender<Incoming>) {
    let mut reader = BufReader::with_capacity(1 << 16, stdout);
    loop {
        let frame = protocol::read_frame(&mut reader);
        let at = epoch.elapsed().as_nanos() as u64;
        let over = matches!(frame, Err(FrameError::Closed | FrameError::Io(_) | FrameError::TooLong));
        if sender.send(frame.map(|f| (f, at))).is_err() || over {
            return;
        }
    }
}

fn keep_tail(mut stderr: impl Read, tail: &Mutex<VecDeque<u8>>) {
    let mut buffer = [0; 1024];
    while let Ok(n @ 1..) = stderr.read(&mut buffer) {
        keep(&buffer[..n], tail);
    }
}

fn keep(words: &[u8], tail: &Mutex<VecDeque<u8>>) {
    if let Ok(mut tail) = tail.lock() {
        tail.extend(words);
        let over = tail.len().saturating_sub(TAIL);
        tail.drain(..over);
    }
}

/// A channel whose words that are no frame are kept: on some it is the console, and a kernel that panics says so there.
struct Overheard<R> {
    stream: R,
    /// Whether the last byte was within a frame.
    within: bool,
    tail: Arc<Mutex<VecDeque<u8>>>,
}

impl<R: Read> Read for Overheard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.stream.read(buffer)?;
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            let ends = if self.within { b'\n' } else { protocol::SEPARATOR };
            let found = rest.iter().position(|byte| *byte == ends);
            let (part, after) = rest.split_at(found.map_or(rest.len(), |at| at + 1));
            if !self.within {
                keep(part, &self.tail);
            }
            self.within ^= found.is_some();
            rest = after;
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_frame_is_overheard_wherever_it_is_cut() {
        let text = b"Linux version 6.1\n\x1e01234567 {\"id\":0}\nKernel panic\r\n\x1ehalf a frame";
        for size in [1, 7, text.len()] {
            let tail = Arc::new(Mutex::new(VecDeque::new()));
            let mut overheard = Overheard { stream: &text[..], within: false, tail: Arc::clone(&tail) };
            let mut buffer = vec![0; size];
            while overheard.read(&mut buffer).expect("readable") > 0 {}
            let kept: Vec<u8> = tail.lock().expect("whole").iter().copied().collect();
            assert_eq!(String::from_utf8_lossy(&kept), "Linux version 6.1\n\u{1e}Kernel panic\r\n\u{1e}");
        }
    }
}
