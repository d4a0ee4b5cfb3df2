//! `nerdctl`: a container by containerd alone, through the client whose command line is Docker's.

use std::path::PathBuf;

use workloads::settings;
use workloads::settings::{Setting, Settings};

use crate::boxes::managed::Seccomp;
use crate::boxes::managed::docker::{self, Client, Wanted};
use crate::boxes::sandbox;
use crate::host::Host;
use crate::launch::{Launch, Runner};
use crate::process::{BINARY, Program};
use crate::stage::Stage;
use crate::stage::data::Data;
use crate::stage::network::Net;
use crate::unavailable::Unavailable;

/// nerdctl, containerd and an OCI runtime. Every container, image and volume that we make is removed again. Nobody has run it:
/// the options are those of its command reference.
#[derive(Debug)]
pub struct Nerdctl;

settings! {
    /// The settings of a container by nerdctl.
    struct Options {
        binary: Option<PathBuf> as BINARY,
        /// The socket of containerd, as in unix:///run/containerd/containerd.sock; by default nerdctl's own choice
        address: Option<String> = "",
        /// Path to the peer: a veth pair (needs root), nerdctl's default bridge to this host, this host's loopback, or none
        network: Net = "veth" of ["veth", "bridge", "host", "none"],
        data: Data as docker::DATA,
        seccomp: Seccomp as sandbox::SECCOMP,
        /// A runtime by its name for containerd (io.containerd.runsc.v1) or its program (crun); by default containerd's choice
        runtime: Option<String> = "",
        /// The snapshotter of containerd (overlayfs, native, btrfs, ...); by default nerdctl's choice
        storage: Option<String> = "",
    }
}

impl Options {
    /// Options before each command.
    fn global(&self) -> Vec<String> {
        let all = [("--address", &self.address), ("--snapshotter", &self.storage)];
        all.into_iter().filter_map(|(option, value)| Some([option.into(), value.clone()?])).flatten().collect()
    }

    /// The settings of the container itself.
    fn wanted(self) -> Wanted {
        Wanted { network: self.network, data: self.data, seccomp: self.seccomp, runtime: self.runtime }
    }
}

impl Runner for Nerdctl {
    fn name(&self) -> &'static str {
        "nerdctl"
    }

    fn about(&self) -> &'static str {
        "A container by containerd without Docker's daemon, through nerdctl"
    }

    fn simpler(&self) -> &'static [&'static str] {
        &["namespaces", "runc"]
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn version(&self, _host: &Host, settings: &Settings) -> Result<String, Unavailable> {
        PROGRAM.version(Options::read(settings).binary.as_deref())
    }

    fn program(&self) -> Option<Program> {
        Some(PROGRAM)
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let options = Options::read(settings);
        let program = PROGRAM.require(options.binary.as_deref())?;
        let client = Client { name: "nerdctl", program, options: options.global() };
        let daemon = client.daemon().map_err(|because| Unavailable {
            because,
            fix: "systemctl start containerd (or run `containerd`), or name its socket: address=unix:///PATH".into(),
            broken: true,
        })?;
        client.launch(&options.wanted(), stage, &daemon)
    }
}

const PROGRAM: Program = Program::of("nerdctl", "nerdctl").or_fix(
    "unpack nerdctl-full from https://github.com/containerd/nerdctl/releases into /usr/local and start containerd",
);

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;
    use crate::boxes::managed::docker::Run;
    use crate::host::Resources;

    fn options(given: &[(&str, &str)]) -> Options {
        Options::read(&Settings::of(Options::TABLE, given))
    }

    #[test]
    fn socket_and_snapshotter_come_before_the_command() {
        assert_eq!(options(&[]).global(), [""; 0]);
        let given = options(&[("address", "unix:///run/k3s/containerd.sock"), ("storage", "native")]);
        assert_eq!(given.global().join(" "), "--address unix:///run/k3s/containerd.sock --snapshotter native");
    }

    #[test]
    fn a_container_is_run_as_by_docker_but_in_a_namespace_of_ours() {
        let given = options(&[("data", "layer"), ("seccomp", "none"), ("runtime", "io.containerd.runsc.v1")]);
        let mut command = Command::new("nerdctl");
        let limits = Resources::new(1, 1 << 29);
        let (network, data) = ("ns:/run/netns/tarebench-x-box", Path::new("/d"));
        let run = Run { id: "box-1", network, data, parent: Some("/tarebench-x/box"), limits, cpus: &[0] };
        run.arguments(&mut command, "nerdctl", &given.wanted()).expect("a line");
        let line = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
        let expected = "run --interactive --name box-1 --network ns:/run/netns/tarebench-x-box --pull never --log-driver none \
                        --cgroup-parent /tarebench-x/box --security-opt seccomp=unconfined --runtime io.containerd.runsc.v1 \
                        box-1 /tarebench agent --data /data";
        assert_eq!(line, expected);
    }

    #[test]
    fn where_it_is_absent_the_fix_says_how_to_get_it_and_its_daemon() {
        if PROGRAM.find(None).is_none() {
            let no = PROGRAM.require(None).expect_err("absent");
            assert!(no.fix.contains("releases") && no.fix.contains("containerd") && !no.broken, "{no:?}");
        }
    }
}
