//! `exec`: a box that is there already, entered by whatever command enters it: `docker exec`, `lxc-attach`, `jexec`, `zlogin`,
//! `kubectl exec`, ... EXEC.md has the settings for each.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow};
use workloads::settings;
use workloads::settings::{CommandLine, Setting, SettingError, Settings};

use crate::boxes::there::visit::{self, Visit};
use crate::host::Host;
use crate::launch::{Launch, Runner};
use crate::process;
use crate::stage::Stage;
use crate::unavailable::Unavailable;

/// Any command that runs another one somewhere else, with stdin and stdout passed through.
#[derive(Debug)]
pub struct Exec;

/// For copying the binary: a slow link, a slow daemon.
const COPY: Duration = Duration::from_secs(60);

settings! {
    struct Options {
        /// What runs a command inside; {run} stands for the agent's command line, {line} for the same quoted into one word
        command: CommandLine = "" of ["run", "line"],
        /// What copies {binary}, a file here, to {agent}, a path inside; the copy is removed at the end
        copy: CommandLine = "" of ["binary", "agent"],
        /// Path of a tarebench that is inside already, instead of `copy`; it stays
        installed: Option<PathBuf> = "",
        visit: visit::Options,
    }
}

impl Options {
    /// A setting that is missing is no conflict: by default all are, and the runner says at launch what it needs.
    fn check(&self) -> Result<(), SettingError> {
        let conflict = |words: &str| Err(SettingError::Conflict(words.into()));
        if !self.command.is_empty() && !["run", "line"].iter().any(|name| self.command.mentions(name)) {
            return conflict(
                "the command doesn't say where the agent's goes; put {run} where it does: \"nsenter -t PID -a {run}\"",
            );
        }
        for (name, line) in [("command", &self.command), ("copy", &self.copy)] {
            if let Some(word) = line.meant_for_a_shell() {
                return conflict(&format!(
                    "`{word}` in `{name}` is for a shell, and no shell runs this command; give it to one, as in sh -c '...', or put it \
                     in quotes within `{name}` where the command is to have it as it stands"
                ));
            }
        }
        if !self.copy.is_empty() && self.installed.is_some() {
            return conflict("both `copy` and `installed` are set; set `copy` or `installed`, not both");
        }
        self.visit.check()?;
        self.installed.as_deref().map_or(Ok(()), visit::check_inside)
    }
}

impl Runner for Exec {
    fn name(&self) -> &'static str {
        "exec"
    }

    fn about(&self) -> &'static str {
        "A box that is there already, entered by a command such as docker exec, lxc-attach, jexec or zlogin"
    }

    fn in_cgroup(&self) -> bool {
        false
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn check(&self, settings: &Settings) -> Result<(), SettingError> {
        Options::read(settings).check()
    }

    fn version(&self, host: &Host, _settings: &Settings) -> Result<String, Unavailable> {
        Ok(format!("{} {}", host.system, host.kernel))
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let options = Options::read(settings);
        if options.command.is_empty() {
            return Err(unset(
                "needs setting `command`: no command is set that enters a box",
                "command = \"docker exec -i BOX {run}\", for one",
            )
            .into());
        }
        if options.copy.is_empty() && options.installed.is_none() {
            let fix = "copy = \"docker cp {binary} BOX:{agent}\", for one; or install tarebench there and set installed = PATH";
            return Err(unset(
                "needs setting `copy` or `installed`: nothing says how the agent gets into the box",
                fix,
            )
            .into());
        }
        let visit = Visit::new(&options.visit, stage, options.installed.as_deref())?;
        let enter = |words: Vec<String>| {
            let line = [shell_words::join(&words)];
            options.command.filled(&[("run", &words), ("line", &line)])
        };
        let leave = enter(visit.leave());
        stage.note(&leave.iter().map(String::as_str).collect::<Vec<_>>())?;
        let launch = Launch::new(to_command(&enter(visit.run()))).cleanup(move || {
            // An agent that ended by itself has taken itself away, and can't be started again.
            if let Err(words) = process::ask(to_command(&leave)) {
                log::debug!("nothing was left in the box, or it stays: {words}");
            }
        });
        if visit.brought.is_some() {
            let binary = visit.binary.to_str().context("the path of our own binary is not text")?.to_string();
            let words = options.copy.filled(&[("binary", &[binary]), ("agent", std::slice::from_ref(&visit.agent))]);
            process::ask_patiently(to_command(&words), Stdio::null(), COPY)
                .map_err(|words| anyhow!("can't copy the agent into the box: {words}"))?;
        }
        visit.finish(launch, options.visit.peer, stage)
    }
}

fn to_command(words: &[String]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

fn unset(because: &str, fix: &str) -> Unavailable {
    Unavailable { because: because.into(), fix: format!("set {fix}"), broken: false }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn launch(test: &str, given: &[(&str, &str)]) -> anyhow::Result<Launch> {
        let given: BTreeMap<_, _> = given.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let settings = Exec.resolve(&given)?;
        let (_data, mut stage) = Stage::of_a_test(test);
        Exec.launch(&settings, &mut stage)
    }

    #[test]
    fn what_is_missing_is_told_with_what_to_set() {
        for (given, words) in [
            (vec![], "no command is set"),
            (vec![("command", "docker exec -i box {run}")], "how the agent gets into the box"),
        ] {
            let error = launch("ex", &given).expect_err(words);
            let no = error.downcast_ref::<Unavailable>().expect("it can't run, which is no failure of the box");
            assert!(no.because.contains(words) && !no.fix.is_empty() && !no.broken, "{no:?}");
        }
    }

    #[test]
    fn settings_that_exclude_each_other_are_refused_before_anything_is_started() {
        for (given, words, fix) in [
            (vec![("command", "docker exec -i box")], "where the agent's goes", "put {run} where it does"),
            (vec![("command", "enter {run} 2>/dev/null")], "`2>/dev/null` in `command` is for a shell", "sh -c"),
            (vec![("copy", "cat {binary} | into {agent}")], "`|` in `copy` is for a shell", "sh -c"),
            (vec![("copy", "echo \"one two\"; cp {binary} {agent}")], "`one two;` in `copy` is for a shell", "sh -c"),
            (
                vec![("command", "x {run}"), ("copy", "y {binary} {agent}"), ("installed", "/usr/bin/tarebench")],
                "both `copy` and `installed` are set",
                "not both",
            ),
        ] {
            let given = given.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            let error = Exec.resolve(&given).expect_err(words).to_string();
            assert!(error.contains(words) && error.contains(fix), "{error}");
        }
    }

    #[test]
    fn a_tool_that_takes_one_line_gets_it_quoted() {
        let given = [("command", "vzctl exec 101 {line}"), ("installed", "/opt/my tools/tarebench"), ("data", "/srv/")];
        let launch = launch("ey", &given).expect("launches");
        let words: Vec<_> = launch.command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
        assert_eq!(words[..2], ["exec", "101"]);
        assert!(words[2].starts_with("'/opt/my tools/tarebench' agent --data /srv/tarebench-ey"), "{words:?}");
        assert!(launch.unequal.is_some(), "no limit of ours holds in a box that was there before us");
    }

    #[test]
    fn a_copy_of_our_own_is_no_program_of_the_hosts() {
        let directory = tempfile::tempdir().expect("a directory");
        let data = directory.path().to_str().expect("text");
        let programs = |command: &str| {
            let given = [("command", command), ("copy", "cp {binary} {agent}"), ("data", data)];
            let given: BTreeMap<_, _> = given.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            let (_data, mut stage) = Stage::of_a_test("eu");
            stage.launch(&Exec, &Exec.resolve(&given).expect("resolves")).expect("launches").programs
        };
        assert_eq!(
            programs("{run}"),
            [],
            "the next start has another copy, which isn't the one that the run began with"
        );
        let beside = programs("env {run}");
        assert!(beside.iter().any(|used| used.path.ends_with("env")), "{beside:?}");
    }

    #[test]
    fn a_path_that_depends_on_where_one_is_is_refused() {
        let given = [("command", "x {run}"), ("installed", "tarebench")];
        assert!(launch("ez", &given).expect_err("relative").to_string().contains("not an absolute path"));
    }
}
