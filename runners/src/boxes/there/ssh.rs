//! `ssh`: any host or guest that a key opens: the agent is copied over, runs there, and is removed again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow};
use workloads::settings;
use workloads::settings::{Setting, SettingError, Settings};

use crate::boxes::there::visit::{self, Visit};
use crate::host::Host;
use crate::launch::{Launch, Runner};
use crate::process;
use crate::stage::Stage;
use crate::unavailable::Unavailable;

/// OpenSSH's client, with the user's own configuration: aliases and jump hosts work.
#[derive(Debug)]
pub struct Ssh;

/// For copying the binary over a slow link.
const COPY: Duration = Duration::from_secs(120);

/// Never a question, never a wait without end, never an unknown host; nothing is forwarded and no connection is shared.
const OPTIONS: &[&str] = &[
    "BatchMode=yes",
    "ConnectTimeout=10",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=6",
    "StrictHostKeyChecking=yes",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ControlPath=none",
    "RequestTTY=no",
    "LogLevel=ERROR",
];

settings! {
    struct Options {
        /// Name or address, or an alias of ssh's configuration
        host: Option<String> = "",
        /// Port; 0 is ssh's own choice
        port: u64 = 0 in 0..=65535,
        /// User there; ssh's own choice where empty
        user: Option<String> = "",
        /// File of the private key; ssh's own choice where empty
        identity: Option<PathBuf> = "",
        /// File with the host's key, which is always checked; ssh's own where empty
        known_hosts: Option<PathBuf> = "",
        visit: visit::Options,
    }
}

impl Options {
    fn check(&self) -> Result<(), SettingError> {
        for (name, path) in [("identity", &self.identity), ("known_hosts", &self.known_hosts)] {
            let path = path.as_deref().unwrap_or(Path::new("")).to_string_lossy();
            // ssh would read more than a path into these.
            if path.contains(['"', '%', '$', '\n', '\\']) {
                return Err(SettingError::Conflict(format!(
                    "`{name}` can't be {path:?}: rename the file, ssh reads such characters in its own way"
                )));
            }
        }
        self.visit.check()
    }

    /// ssh's words up to and with the host.
    fn words(&self, host: &str) -> Vec<String> {
        let mut all: Vec<String> = OPTIONS.iter().flat_map(|o| ["-o".into(), o.to_string()]).collect();
        if self.port > 0 {
            all.extend(["-p".into(), self.port.to_string()]);
        }
        if let Some(user) = &self.user {
            all.extend(["-l".into(), user.clone()]);
        }
        for (option, path) in [("IdentityFile", &self.identity), ("UserKnownHostsFile", &self.known_hosts)] {
            if let Some(path) = path {
                all.extend(["-o".into(), format!("{option}=\"{}\"", path.display())]);
            }
        }
        if self.identity.is_some() {
            all.extend(["-o".into(), "IdentitiesOnly=yes".into()]);
        }
        all.extend(["--".into(), host.into()]);
        all
    }
}

impl Runner for Ssh {
    fn name(&self) -> &'static str {
        "ssh"
    }

    fn about(&self) -> &'static str {
        "Any host or guest reached by ssh; the agent is copied there and removed again"
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

    fn version(&self, _host: &Host, _settings: &Settings) -> Result<String, Unavailable> {
        let mut command = Command::new(process::require("ssh", "openssh-client")?);
        command.arg("-V");
        let text = process::ask_all(command).map_err(|because| Unavailable {
            because,
            fix: "apt install --reinstall openssh-client".into(),
            broken: true,
        })?;
        Ok(text.split([',', ' ']).next().unwrap_or_default().to_string())
    }

    fn engine(&self, _settings: &Settings) -> Option<PathBuf> {
        process::find("ssh")
    }

    fn start_deadline(&self) -> Duration {
        Duration::from_secs(30)
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let ssh = process::require("ssh", "openssh-client")?;
        let options = Options::read(settings);
        let Some(host) = options.host.clone() else {
            let fix = "set host = NAME, and user, port, identity where ssh's own configuration doesn't say them";
            return Err(Unavailable {
                because: "needs setting `host`: no host is set".into(),
                fix: fix.into(),
                broken: false,
            }
            .into());
        };
        let (visit, own) = Visit::in_own_folder(&options.visit, stage)?;
        let words = options.words(&host);
        let there = |line: &[String]| {
            let mut command = Command::new(&ssh);
            // What follows is for the shell over there, hence the quotes.
            command.args(&words).arg(shell_words::join(line));
            command
        };
        let remove = ["rm", "-rf", "--", &own].map(String::from);
        let mut noted = vec![process::mark(&ssh)];
        noted.extend(words.iter().cloned().chain([shell_words::join(&remove)]));
        stage.note(&noted.iter().map(String::as_str).collect::<Vec<_>>())?;
        // It fails where anything is there already, a link included: then nothing there is ours to remove.
        process::ask_patiently(there(&make_folder(&own)), Stdio::null(), COPY)
            .map_err(|words| anyhow!("can't make a folder for the agent on {host}: {words}"))?;
        let removal = there(&remove);
        let name = host.clone();
        let launch = Launch::new(there(&visit.run())).cleanup(move || {
            if let Err(words) = process::ask_patiently(removal, Stdio::null(), COPY) {
                log::warn!("can't remove the agent from {name}: {words}");
            }
        });
        let binary = File::open(&visit.binary).with_context(|| format!("can't read {}", visit.binary.display()))?;
        let mut copy = Command::new(&ssh);
        copy.args(&words).arg(take_over(&visit.agent));
        process::ask_patiently(copy, binary.into(), COPY)
            .map_err(|words| anyhow!("can't copy the agent to {host}: {words}"))?;
        visit.finish(launch, options.visit.peer, stage)
    }
}

/// The folder is its owner's alone from its first moment.
fn make_folder(path: &str) -> [String; 5] {
    ["mkdir", "-m", "700", "--", path].map(String::from)
}

/// The line that makes a program of what comes in. The path is one word to the shell over there, whatever is in it.
fn take_over(agent: &str) -> String {
    let agent = shell_words::quote(agent);
    format!("umask 077 && cat > {agent} && chmod 700 {agent}")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::host::Resources;
    use crate::stage::shared::Shared;

    fn line(given: &[(&str, &str)]) -> anyhow::Result<String> {
        let given = given.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let options = Options::read(&Ssh.resolve(&given)?);
        Ok(options.words(options.host.as_deref().expect("a host")).join(" "))
    }

    #[test]
    fn it_never_asks_and_always_checks_the_host() {
        let line = line(&[("host", "box"), ("port", "2222"), ("user", "me"), ("identity", "/k e/y")]).expect("words");
        for part in ["-o BatchMode=yes", "-o StrictHostKeyChecking=yes", "-p 2222", "-l me", "IdentityFile=\"/k e/y\""]
        {
            assert!(line.contains(part), "{line}");
        }
        assert!(line.ends_with(" -- box"), "{line}");
    }

    #[test]
    fn the_agent_goes_into_a_fresh_folder_of_its_own() {
        let there = tempfile::tempdir().expect("a directory");
        let stage_of = |test: &str| {
            let id = format!("{test}{:x}", std::process::id() & 0xff_ffff);
            let host = Host::new(&id, Path::new("/proc/self/exe"), Resources::new(1, 1 << 28)).expect("made");
            Stage::new(Shared::new(Arc::new(host)), "box", there.path()).expect("made")
        };
        let odd = there.path().join("$(touch odd); 'x");
        std::fs::create_dir(&odd).expect("made");
        let given = [("data".to_string(), odd.to_str().expect("text").to_string())].into();
        let options = Options::read(&Ssh.resolve(&given).expect("valid")).visit;
        let stage = stage_of("sf");
        let (visit, own) = Visit::in_own_folder(&options, &stage).expect("named");
        let (other, _) = Visit::in_own_folder(&options, &stage).expect("named");
        assert_ne!(visit.agent, other.agent);
        assert!(visit.agent.starts_with(&own) && visit.folder.starts_with(&own), "{visit:?}");
        let shell = |line: &str| {
            let mut command = Command::new("sh");
            command.arg("-c").arg(line).current_dir(there.path()).stdin(Stdio::null()).status().expect("starts")
        };
        let make = shell_words::join(make_folder(&own));
        assert!(shell(&make).success(), "{make}");
        let mode = std::fs::metadata(&own).expect("made").permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
        assert!(!shell(&make).success(), "what is there already is not ours");
        assert!(shell(&take_over(&visit.agent)).success());
        assert!(Path::new(&visit.agent).is_file() && !there.path().join("odd").exists());
        let link = there.path().join("planted");
        std::os::unix::fs::symlink(&odd, &link).expect("planted");
        assert!(!shell(&shell_words::join(make_folder(link.to_str().expect("text")))).success(), "nor is a link");
    }

    #[test]
    fn nothing_that_ssh_would_read_otherwise_gets_in() {
        line(&[("host", "-oProxyCommand=x")]).expect_err("an option");
        line(&[("host", "box"), ("user", "a;b")]).expect_err("a shell's word");
        line(&[("host", "box"), ("known_hosts", "/tmp/%d")]).expect_err("a token");
        line(&[("host", "box"), ("identity", "/a\" ProxyCommand=\"x")]).expect_err("quotes");
    }
}
