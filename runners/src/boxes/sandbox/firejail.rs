//! `firejail`: a SUID sandbox around a program of the host's own file system; works without root.

use std::path::{Path, PathBuf};
use std::process::Command;

use workloads::settings;
use workloads::settings::{Setting, Settings};

use crate::boxes::sandbox::{Filter, NETWORK, SECCOMP};
use crate::host::Host;
use crate::launch::{Launch, Runner};
use crate::names;
use crate::process::{self, BINARY, Program};
use crate::stage::Stage;
use crate::stage::data::{DATA, Data, DataPath};
use crate::stage::network::Net;
use crate::unavailable::Unavailable;

/// Namespaces, a read-only system and a filter of system calls around a process that sees the host's files.
#[derive(Debug)]
pub struct Firejail;

settings! {
    struct Options {
        binary: Option<PathBuf> as BINARY,
        network: Net as NETWORK,
        /// Where data lies: the data directory itself, or a tmpfs over it, which needs root
        data: Data as DATA = "bind" of ["bind", "tmpfs"],
        seccomp: Filter as SECCOMP,
    }
}

const PROGRAM: Program = Program::of("firejail", "firejail");

/// Plain `firecfg` adds the user too, but turns every program that it knows into a link to firejail besides.
const ADD_USER: &str = "sudo firecfg --add-users $USER (a line in /etc/firejail/firejail.users, and nothing else)";

impl Runner for Firejail {
    fn name(&self) -> &'static str {
        "firejail"
    }

    fn about(&self) -> &'static str {
        "Firejail: new namespaces and a filter of system calls around a program that sees the host's files"
    }

    fn simpler(&self) -> &'static [&'static str] {
        &["namespaces"]
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn version(&self, _host: &Host, settings: &Settings) -> Result<String, Unavailable> {
        PROGRAM.version(Options::read(settings).binary.as_deref()).map_err(|no| {
            // Even its version is only for those in a list of its own.
            let refused = no.because.contains("not allowed to use Firejail");
            if refused { Unavailable { fix: ADD_USER.into(), ..no } } else { no }
        })
    }

    fn program(&self) -> Option<Program> {
        Some(PROGRAM)
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let options = Options::read(settings);
        let program = PROGRAM.require(options.binary.as_deref())?;
        let mut command = Command::new(&program);
        if wants_no_shell(&PROGRAM.version(Some(&program))?) {
            command.arg("--shell=none");
        }
        if options.data == Data::Tmpfs && !stage.host.privileged {
            let because = "firejail mounts a tmpfs on the data directory for root only".into();
            let fix = "set data = bind, or run tarebench as root".into();
            return Err(Unavailable { because, fix, broken: false }.into());
        }
        let root = stage.root()?.to_path_buf();
        arguments(&mut command, &options, &root.join("tarebench"), stage.data())?;
        if stage.host.privileged {
            process::own_run_directory(&mut command, c"/run/firejail")?;
            // It remounts every mount of the host read-only, one after the other, and ends where one has gone meanwhile.
            process::freeze_mounts(&mut command);
        }
        let data = match options.data {
            Data::Bind => DataPath::on_host(stage, format!("the directory itself on {}", stage.data_file_system())),
            other => other.on(stage),
        };
        let path = stage.path(options.network)?;
        // It is SUID, and so doesn't die with us: whatever has our binary in its arguments is ours.
        Ok(Launch::new(command).on(&program).over(path).data(data).cleanup(move || {
            process::kill_marked(&[&process::mark(&root.join("tarebench"))], &program, &["tarebench"]);
        }))
    }
}

/// Until 0.9.72 it went through the user's shell unless told not to; since then it refuses to be told.
fn wants_no_shell(version: &str) -> bool {
    let parts: Vec<u32> = version.split(|c: char| !c.is_ascii_digit()).filter_map(|p| p.parse().ok()).collect();
    parts[..] < [0, 9, 72][..]
}

fn arguments(command: &mut Command, options: &Options, agent: &Path, data: &Path) -> anyhow::Result<()> {
    let data = names::plain(data, "firejail", &[',', '*', '?', '[', '$', '~'])?;
    command.args(["--quiet", "--noprofile", "--private-dev", "--ipc-namespace", "--caps.drop=all", "--nonewprivs"]);
    // Unless told otherwise it hides /var/tmp behind a tmpfs and makes all of /var read-only.
    command.arg("--keep-var-tmp").arg(format!("--read-write={data}"));
    if options.data == Data::Tmpfs {
        command.arg(format!("--tmpfs={data}"));
    }
    if options.seccomp == Filter::Default {
        command.arg("--seccomp");
    }
    if options.network == Net::None {
        command.arg("--net=none");
    }
    // Without `--`, behind which it would go through the user's shell.
    command.arg(agent).args(["agent", "--data", data]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(given: &[(&str, &str)], data: &str) -> anyhow::Result<String> {
        let options = Options::read(&Settings::of(Options::TABLE, given));
        let mut command = Command::new("firejail");
        arguments(&mut command, &options, Path::new("/a"), Path::new(data))?;
        Ok(command.get_args().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn each_setting_has_its_option() {
        let plain = line(&[], "/var/x").expect("a line");
        assert!(plain.contains("--read-write=/var/x") && plain.contains("--seccomp"), "{plain}");
        assert!(!plain.contains("--net=") && plain.ends_with("/a agent --data /var/x"), "{plain}");
        let other = line(&[("data", "tmpfs"), ("seccomp", "none"), ("network", "none")], "/x").expect("a line");
        assert!(
            other.contains("--tmpfs=/x") && other.contains("--net=none") && !other.contains("--seccomp"),
            "{other}"
        );
    }

    #[test]
    fn older_releases_are_told_to_leave_the_shell_away() {
        assert!(wants_no_shell("0.9.64.4") && wants_no_shell("0.9.70"));
        assert!(!wants_no_shell("0.9.72") && !wants_no_shell("0.9.74~rc1") && !wants_no_shell("1.0"));
    }

    #[test]
    fn a_path_that_it_would_read_as_a_pattern_is_refused() {
        assert!(line(&[], "/a,b").expect_err("refused").to_string().contains("','"));
        line(&[], "/a*").expect_err("refused");
    }
}
