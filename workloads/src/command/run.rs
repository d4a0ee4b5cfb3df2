//! `command/run`: an operation is one execution of a command of the user's own, from its start to its end.
//!
//! Timed: clone and execve (see `child.rs` beside it), wait4, and one kill of the process group, which finds nobody unless the command has
//! left somebody. What the command says goes to /dev/null. Strings, stack and descriptors are made before.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::sys::wait::WaitStatus;

use super::RUN;
use super::child::{self, Ended, Program};
use super::left::{Executing, Mark};
use crate::content::Digest;
use crate::control::spawn::{self, Children};
use crate::deadline::Deadline;
use crate::parcel::{self, Brought};
use crate::settings::{CommandLine, Kind, Setting, SettingError, Settings};
use crate::stopwatch::Stopwatch;
use crate::workload::{Check, Place, Prepared, Resource, Workload};

/// Executions in `verify`.
const CHECKED: u64 = 2;

/// Searched for programs where the environment says nothing.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The working directory of the command, within that of the job.
const HOME: &str = "home";

/// How much of what a command says on stderr stands in an error.
const WORDS: usize = 300;

/// What helps where a shell is asked for and there is none.
const NO_SHELL: &str = "shell=true needs /bin/sh in this environment; bring a shell along instead, as in \
    exec=\"./busybox sh script\",copy=FOLDER without shell=true (docs/own-work.md)";

const COPY: Setting = Setting::new("copy", Kind::Tree).with_about(
    "Full path of a file or a folder of the host, up to 64 MiB, that is copied into the command's working directory in every \
     environment; of a folder what is in it",
);

crate::settings! {
    struct Options {
        /// The command: words as a POSIX shell would split them, without a shell. Its program is looked for in the PATH of the environment, or
        /// from the working directory where it has a slash. Empty: our own program, which exits at once
        exec: CommandLine = "",
        /// Whether /bin/sh of the environment is given the command as it stands
        shell: bool = false,
        copy: Option<PathBuf> as COPY,
        /// Exit status that is right; any other is a failure
        status: u32 = 0 in 0..=255,
        /// An execution that takes longer is killed with all of its process group, and is a failure
        timeout: Duration = "30s" in 100_000_000..=50_000_000_000,
    }
}

/// The workload.
#[derive(Debug)]
pub struct Run;

impl Workload for Run {
    fn name(&self) -> &'static str {
        "command/run"
    }

    fn about(&self) -> &'static str {
        "Executes a command of your own: from its start to its end, with the CPU time that it took"
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn check(&self, settings: &Settings) -> Result<(), SettingError> {
        let options = Options::read(settings);
        let conflict = |words: &str| Err(SettingError::Conflict(words.into()));
        match options.exec.is_empty() {
            true if options.shell => conflict("shell=true needs a command; set exec"),
            true if options.copy.is_some() => conflict("copy needs a command that uses what is copied; set exec"),
            _ if options.exec.text().contains('\0') => conflict("exec has a zero byte, which no command line can have"),
            false if !options.shell => match options.exec.meant_for_a_shell() {
                Some(word) => conflict(&format!(
                    "`{word}` in exec is for a shell, and no shell runs this command; set shell=true, or put it in quotes within \
                     exec where the command is to have it as it stands"
                )),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn resource(&self) -> Resource {
        Resource::Processor
    }

    fn brings(&self, settings: &Settings) -> Vec<Brought> {
        let copied = |path: PathBuf| {
            let name = path.file_name().map(PathBuf::from).unwrap_or_default();
            Brought { setting: COPY.name, path, name }
        };
        Options::read(settings).copy.map(copied).into_iter().collect()
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        let options = Options::read(&place.settings);
        let home = place.directory.join(HOME);
        fs::create_dir(&home).with_context(|| format!("can't make {}", home.display()))?;
        if let Some(parcel) = &place.parcel {
            parcel::unpack(parcel, &home)?;
        }
        let mark = Mark::new();
        let mut running = Running {
            program: program(&options, &home, &mark)?,
            _children: Children::awaited()?,
            deadline: Deadline::start(options.timeout, child::kill).context("can't start a thread for the deadline")?,
            mark,
            seed: place.seed,
            spent: Spent::default(),
            options,
        };
        // What can't be run is said now, in its own words, and not in a burst.
        running.once_aloud()?;
        Ok(Box::new(running))
    }
}

/// The command line of the settings, for this environment.
fn program(options: &Options, home: &Path, mark: &Mark) -> anyhow::Result<Program> {
    let text = |bytes: &[u8]| CString::new(bytes).context("a name has a zero byte");
    let path = std::env::var_os("PATH").filter(|path| !path.is_empty()).unwrap_or_else(|| OsString::from(PATH));
    let (file, arguments) = if options.exec.is_empty() {
        let words = ["tarebench".to_string(), spawn::WORD.to_string(), options.status.to_string()];
        (spawn::program()?, words.to_vec())
    } else if options.shell {
        let words = ["sh".to_string(), "-c".to_string(), options.exec.text().to_string()];
        let shell = find("/bin/sh", &path, home).ok().context(NO_SHELL)?;
        (text(shell.as_os_str().as_bytes())?, words.to_vec())
    } else {
        let words = options.exec.words().to_vec();
        (text(find(&words[0], &path, home)?.as_os_str().as_bytes())?, words)
    };
    let variable = |name: &str, value: &OsStr| {
        let mut whole = OsString::from(format!("{name}="));
        whole.push(value);
        whole.into_vec()
    };
    // The same variables everywhere: what boxes have set besides differs, and nobody has asked for that.
    let mut variables = vec![
        variable("PATH", &path),
        variable("HOME", home.as_os_str()),
        variable("LC_ALL", OsStr::new("C")),
        mark.variable().as_bytes().to_vec(),
    ];
    variables.extend(std::env::var_os(RUN).map(|run| variable(RUN, &run)));
    let all = |lists: Vec<Vec<u8>>| lists.iter().map(|bytes| text(bytes)).collect::<anyhow::Result<Vec<_>>>();
    let arguments = all(arguments.into_iter().map(String::into_bytes).collect())?;
    Program::new(file, arguments, all(variables)?, text(home.as_os_str().as_bytes())?).context("can't open /dev/null")
}

/// The file of a program, as execvp(3) would find it from the working directory.
fn find(name: &str, path: &OsStr, home: &Path) -> anyhow::Result<PathBuf> {
    let executable = |file: &PathBuf| file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    let advice = "name one that is there, or bring it along with copy";
    if name.contains('/') {
        let file = home.join(name);
        return match file.metadata() {
            Ok(_) if executable(&file) => Ok(file),
            Ok(_) => bail!(
                "{} can't be executed in this environment: it is no file with that permission (chmod +x)",
                file.display()
            ),
            Err(e) => bail!("the command {} isn't there in this environment ({e}); {advice}", file.display()),
        };
    }
    let found = std::env::split_paths(path).map(|folder| home.join(folder).join(name)).find(executable);
    found.with_context(|| {
        format!(
            "the command `{name}` isn't there in this environment; {advice}; its PATH is {}",
            path.to_string_lossy()
        )
    })
}

/// What the executions of a burst took besides time.
#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    user: Duration,
    system: Duration,
    left: u64,
}

struct Running {
    // Dropped in this order: what runs too long is killed as long as somebody may wait for it.
    program: Program,
    mark: Mark,
    deadline: Deadline,
    _children: Children,
    seed: u64,
    spent: Spent,
    options: Options,
}

impl Running {
    /// One execution.
    #[inline]
    fn once(&mut self, stderr: Option<BorrowedFd<'_>>) -> anyhow::Result<()> {
        let child = match self.program.start(stderr) {
            Ok(child) => child,
            Err(e) => return Err(self.not_started(e)),
        };
        self.deadline.begin(child.as_raw());
        let ended = child::wait(child);
        self.deadline.end();
        self.spent.left += u64::from(child::kill_group(child));
        match ended {
            Ok(ended @ Ended { status: WaitStatus::Exited(_, code), .. }) if code as u32 == self.options.status => {
                self.spent.user += ended.user;
                self.spent.system += ended.system;
                Ok(())
            }
            Ok(ended) => Err(self.wrong(ended.status)),
            Err(e) => Err(e).context("can't wait for the command"),
        }
    }

    #[cold]
    fn not_started(&self, error: Errno) -> anyhow::Error {
        let file = self.program.path().to_string_lossy();
        let advice = match error {
            Errno::ENOENT => {
                ": the interpreter or loader that it names isn't there in this environment; a static binary needs none"
            }
            Errno::ENOEXEC => {
                ": it is no program for this machine; a script says in its first line what runs it (#!/bin/sh)"
            }
            Errno::EACCES => ": no permission; the data directory may be mounted noexec here",
            _ => "",
        };
        anyhow::anyhow!("{}", error.desc()).context(format!("can't execute {file}{advice}"))
    }

    #[cold]
    fn wrong(&self, status: WaitStatus) -> anyhow::Error {
        let Options { status: right, timeout, .. } = self.options;
        if self.deadline.passed() {
            let timeout = humantime::format_duration(timeout);
            return anyhow::anyhow!(
                "the command ran longer than {timeout} and was killed with its process group; set a longer timeout, or one that ends"
            );
        }
        match status {
            WaitStatus::Exited(_, code) => {
                anyhow::anyhow!(
                    "the command exited with status {code}, and {right} is right; set status={code} if that is"
                )
            }
            WaitStatus::Signaled(_, signal, _) => anyhow::anyhow!("the command was ended by {signal}"),
            other => anyhow::anyhow!("the command ended as no command should: {other:?}"),
        }
    }

    /// One execution whose words are in the error where it fails.
    fn once_aloud(&mut self) -> anyhow::Result<()> {
        let (done, said) = self.once_heard()?;
        let Err(error) = done else { return Ok(()) };
        if said.is_empty() { Err(error) } else { bail!("{error:#}; it said: {said}") }
    }

    /// The failure of an execution that nobody listened to, and what the command says when it is executed once more.
    #[cold]
    fn explained(&mut self, error: anyhow::Error) -> anyhow::Error {
        // It would take as long again.
        if self.deadline.passed() {
            return error;
        }
        match self.once_heard() {
            Ok((Ok(()), _)) => anyhow::anyhow!("{error:#}; executed once more it went well"),
            Ok((Err(_), said)) if !said.is_empty() => {
                anyhow::anyhow!("{error:#}; executed once more it failed too, and said: {said}")
            }
            _ => error,
        }
    }

    /// One execution, and the first of what it said where it failed.
    fn once_heard(&mut self) -> anyhow::Result<(anyhow::Result<()>, String)> {
        let (mut reader, writer) = io::pipe().context("can't make a pipe")?;
        let (sender, said) = sync_channel(1);
        let read = move || {
            let mut first = Vec::new();
            let kept = reader.by_ref().take(WORDS as u64).read_to_end(&mut first);
            // Nobody waits for it where the command went well, and what comes after the first words only has to go somewhere.
            let _ = sender.send(first);
            kept.and_then(|_| io::copy(&mut reader, &mut io::sink()))
        };
        std::thread::Builder::new().name("stderr".into()).spawn(read).context("can't start a thread")?;
        let executing = Executing::begin();
        let done = self.once(Some(writer.as_fd()));
        drop(writer);
        self.sweep(executing);
        let said =
            if done.is_err() { said.recv_timeout(Duration::from_millis(500)).unwrap_or_default() } else { Vec::new() };
        Ok((done, first_lines(&said)))
    }

    /// Kills what got away from its process group.
    fn sweep(&mut self, executing: Executing) {
        self.spent.left += self.mark.kill(executing);
    }
}

/// Text that is safe to show, on one line.
fn first_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let clean = |line: &str| line.chars().filter(|c| !c.is_control()).collect::<String>();
    let lines: Vec<String> =
        text.lines().map(|line| clean(line.trim())).filter(|line| !line.is_empty()).take(3).collect();
    lines.join(" / ")
}

impl Prepared for Running {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        self.spent = Spent::default();
        let executing = Executing::begin();
        watch.start();
        let mut done = Ok(());
        while done.is_ok() && watch.running() {
            done = self.once(None);
            watch.lap(0);
        }
        self.sweep(executing);
        done.map_err(|e| self.explained(e))
    }

    fn counters(&mut self) -> BTreeMap<String, u64> {
        let Spent { user, system, left } = self.spent;
        let mut counters = BTreeMap::from([
            ("user_us".to_string(), user.as_micros() as u64),
            ("system_us".to_string(), system.as_micros() as u64),
        ]);
        if left > 0 {
            counters.insert("left_behind".into(), left);
        }
        counters
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        (0..CHECKED).try_for_each(|_| self.once_aloud())?;
        let mut digest = Digest::new("command/run", self.seed);
        digest.add(self.options.exec.text().as_bytes());
        digest.add(&self.options.status.to_le_bytes());
        let detail = format!("{CHECKED} executions ended with status {}", self.options.status);
        Ok(Check { value: digest.value(), detail })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        BTreeMap::from([("program".to_string(), self.program.path().to_string_lossy().into_owned())])
    }
}
