//! `nspawn`: systemd-nspawn, a container from a directory by systemd's own tool, without machined or a bus.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use workloads::settings::{Setting, Settings};

use crate::boxes::sandbox::{Filter, Options};
use crate::host::Host;
use crate::launch::{Launch, Runner};
use crate::names;
use crate::process::{self, Program};
use crate::stage::Stage;
use crate::stage::data::{Data, Layers};
use crate::stage::network::Net;
use crate::unavailable::Unavailable;

/// systemd's container tool.
#[derive(Debug)]
pub struct Nspawn;

const PROGRAM: Program = Program::of("systemd-nspawn", "systemd-container");

impl Runner for Nspawn {
    fn name(&self) -> &'static str {
        "nspawn"
    }

    fn about(&self) -> &'static str {
        "A container by systemd-nspawn, with its filter of system calls and without a systemd inside"
    }

    fn simpler(&self) -> &'static [&'static str] {
        &["namespaces"]
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn version(&self, host: &Host, settings: &Settings) -> Result<String, Unavailable> {
        let version = PROGRAM.version(Options::read(settings).binary.as_deref())?;
        host.require_root("systemd-nspawn")?;
        Ok(version)
    }

    fn program(&self) -> Option<Program> {
        Some(PROGRAM)
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let options = Options::read(settings);
        let program = PROGRAM.require(options.binary.as_deref())?;
        let mut command = Command::new(&program);
        let id = stage.next_id();
        let layers = (options.data == Data::Overlay).then(|| Layers::make(stage)).transpose()?;
        let data = stage.data().to_path_buf();
        let root = stage.root()?;
        // It takes a directory without /usr for no operating system at all.
        fs::create_dir_all(root.join("usr")).with_context(|| format!("can't make /usr in {}", root.display()))?;
        arguments(&mut command, &options, &id, root, &data, layers.as_ref())?;
        process::own_run_directory(&mut command, c"/run/systemd/nspawn")?;
        let path = stage.path(options.network)?;
        let launch = Launch::new(command).on(&program).over(path).data(options.data.on(stage));
        Ok(launch.cleanup(move || process::kill_marked(&[&id], &program, &[])))
    }
}

/// The network namespace, where there is one, is entered before nspawn starts: so it need not know of it.
fn arguments(
    command: &mut Command,
    options: &Options,
    id: &str,
    root: &Path,
    data: &Path,
    layers: Option<&Layers>,
) -> anyhow::Result<()> {
    // Its own switch, from systemd's ENVIRONMENT.md: without it the filter can't be left away.
    command.env("SYSTEMD_SECCOMP", if options.seccomp == Filter::None { "0" } else { "1" });
    command.arg("--quiet").arg("--directory").arg(root).args(["--machine", id]);
    // Neither machined nor a unit of its own: there may be no systemd, and the limits are the stage's.
    command.args(["--settings=no", "--register=no", "--keep-unit", "--as-pid2", "--pipe"]);
    command.args(["--resolv-conf=off", "--timezone=off", "--link-journal=no"]);
    if options.network == Net::None {
        command.arg("--private-network");
    }
    let quoted =
        |path: &Path| anyhow::Ok(names::plain(path, "systemd-nspawn", &[])?.replace('\\', "\\\\").replace(':', "\\:"));
    match (options.data, layers) {
        (Data::Tmpfs, _) => command.arg("--tmpfs=/data"),
        (_, Some(layers)) => {
            command.arg(format!("--overlay={}:{}:/data", quoted(&layers.lower)?, quoted(&layers.upper)?))
        }
        _ => command.arg(format!("--bind={}:/data", quoted(data)?)),
    };
    command.args(["--", "/tarebench", "agent", "--data", "/data"]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(given: &[(&str, &str)], data: &str) -> String {
        let options = Options::of(given);
        let layers = Layers { lower: "/d/l".into(), upper: "/d/u".into(), work: "/d/w".into() };
        let layers = (options.data == Data::Overlay).then_some(&layers);
        let mut command = Command::new("systemd-nspawn");
        arguments(&mut command, &options, "box-1", Path::new("/r"), Path::new(data), layers).expect("a line");
        command.get_args().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_setting_has_its_option() {
        assert!(line(&[], "/d").contains("--bind=/d:/data") && !line(&[], "/d").contains("--private-network"));
        assert!(line(&[], "/a:b").contains("--bind=/a\\:b:/data"), "{}", line(&[], "/a:b"));
        assert!(line(&[("data", "tmpfs")], "/d").contains("--tmpfs=/data"));
        assert!(line(&[("data", "overlay")], "/d").contains("--overlay=/d/l:/d/u:/data"));
        assert!(line(&[("network", "none")], "/d").contains("--private-network"));
    }
}
