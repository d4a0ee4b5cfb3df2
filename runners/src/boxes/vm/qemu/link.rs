//! The guest's path to the peer.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use workloads::facts::Network;

use super::command::{Netdev, USER_GUEST, USER_GUEST6, USER_PEER, USER_PEER6};
use super::options::{Net, Options};
use crate::boxes::vm;
use crate::path::PathToPeer;
use crate::process::{Beside, Program, confine};
use crate::stage::{Stage, network};

/// The kernel's side of a tap whose packets don't pass through QEMU.
const VHOST: &str = "/dev/vhost-net";

/// A locally administered address: the gateway that the guest sees.
const PASST_MAC: &str = "02:00:00:00:00:01";

const PASST: Program = Program::of("passt", "passt").or_fix("apt install passt, or set net=user");

/// How long passt may take to listen.
const PATIENCE: Duration = Duration::from_secs(5);

/// The guest's path to the peer, ready to be used.
pub struct Link {
    /// Addresses and where QEMU is started.
    pub path: PathToPeer,
    /// QEMU's end.
    pub netdev: Netdev,
    /// The process that translates addresses, where it isn't QEMU.
    pub passt: Option<Passt>,
}

impl Link {
    /// Makes the path that was asked for.
    ///
    /// # Errors
    /// When it can't be had here, with the reason and what to set instead.
    pub fn make(options: &Options, stage: &mut Stage) -> anyhow::Result<Self> {
        let (wanted, set) = (options.net, options.passt.as_deref());
        let published = if options.publish { Some(stage.port_to_publish()?) } else { None };
        match wanted {
            Net::None => Ok(Self { path: PathToPeer::none(), netdev: Netdev::None, passt: None }),
            Net::User => Ok(Self::by_qemu(stage, published)),
            Net::Auto => match Self::tap(stage, false)? {
                Some(link) => Ok(link),
                None => Ok(Self::by_qemu(stage, None)),
            },
            Net::Tap => Self::tap(stage, false)?.with_context(|| vm::no_tap(wanted, stage, "user")),
            Net::Vhost => {
                vhost(Path::new(VHOST))?;
                Self::tap(stage, true)?.with_context(|| vm::no_tap(wanted, stage, "user"))
            }
            Net::Passt => {
                let passt = Passt::start(set, published, stage)?;
                let translator = Some(passt.program.clone());
                let path = PathToPeer { translator, published, ..Self::translated(stage, Network::Passt) };
                Ok(Self { path, netdev: Netdev::Passt(passt.socket.clone()), passt: Some(passt) })
            }
        }
    }

    /// `None` without privileges.
    fn tap(stage: &mut Stage, vhost: bool) -> anyhow::Result<Option<Self>> {
        let Some(mut path) = stage.tap()? else { return Ok(None) };
        if vhost {
            path.network = Network::Vhost;
        }
        let device = path.device.clone().expect("a tap has a device");
        Ok(Some(Self { path, netdev: Netdev::Tap { device, vhost }, passt: None }))
    }

    /// Both translators forward to the loopback of the namespace they run in, and that has to be where the peer listens.
    /// [`Passt`] is told to offer IPv4 only.
    fn translated(stage: &Stage, network: Network) -> PathToPeer {
        PathToPeer {
            network,
            own: Some(USER_GUEST),
            peer: Some(USER_PEER.into()),
            netns: stage.peer_network().ok().map(|network| network.netns().path()),
            ..PathToPeer::none()
        }
    }

    fn by_qemu(stage: &Stage, published: Option<u16>) -> Self {
        let mut path = Self::translated(stage, Network::UserNat);
        let ipv6 = match stage.peer_network() {
            Ok(network) => network.ipv6(),
            Err(_) => network::loopback_has_ipv6(),
        };
        if ipv6 {
            (path.own6, path.peer6) = (Some(USER_GUEST6), Some(USER_PEER6));
        }
        path.published = published;
        Self { path, netdev: Netdev::User { published }, passt: None }
    }
}

fn vhost(device: &Path) -> anyhow::Result<()> {
    OpenOptions::new().read(true).write(true).open(device).map(drop).with_context(|| {
        format!(
            "net=vhost needs {}, which can't be opened; `modprobe vhost_net` as root brings it, or set net=tap",
            device.display()
        )
    })
}

/// A passt that serves one guest, killed on drop.
#[derive(Debug)]
pub struct Passt {
    process: Beside,
    program: PathBuf,
    socket: PathBuf,
}

impl Passt {
    /// Starts it where the peer's loopback is, under the limits of the environment that it belongs to.
    fn start(set: Option<&Path>, published: Option<u16>, stage: &mut Stage) -> anyhow::Result<Self> {
        let program = PASST.require(set)?;
        let socket = stage.scratch().join("passt.socket");
        let log = stage.scratch().join("passt.log");
        if socket.exists() {
            fs::remove_file(&socket).with_context(|| format!("can't remove {}", socket.display()))?;
        }
        let mut command = Command::new(&program);
        // The interface and its address only give it a reason to offer IPv4 at all: the namespace has no default route that it
        // could take for a model. What the guest is told comes from the other options.
        command.args(["--foreground", "--one-off", "--stderr", "--ipv4-only"]);
        command.args(["--interface", "lo"]).args(["--mac-addr", PASST_MAC]);
        if stage.host.privileged {
            // Else it becomes `nobody`, who may not make a socket in our directory. It drops its capabilities all the same.
            command.args(["--runas", "0:0"]);
        }
        command.arg("--address").arg(USER_GUEST.0.to_string()).arg("--netmask").arg(USER_GUEST.1.to_string());
        command.arg("--gateway").arg(USER_PEER.to_string());
        command.arg("--socket").arg(&socket);
        if let Some(port) = published {
            command.args(["--tcp-ports", &format!("127.0.0.1/{port}")]);
        }
        let stderr = File::create(&log).with_context(|| format!("can't make {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).process_group(0);
        let netns = stage.peer_network().ok().map(|network| network.netns().path());
        let entrances = stage.cgroup().entrances();
        confine(&mut command, netns.as_deref(), &entrances, &stage.host.pinning.work).context("can't prepare passt")?;
        let mut passt = Self { process: Beside::start(&mut command, "passt")?, program, socket };
        let until = Instant::now() + PATIENCE;
        while !passt.socket.exists() {
            if passt.process.ended()?.is_some() || Instant::now() > until {
                let words = fs::read_to_string(&log).unwrap_or_default();
                // It complains of a missing system log after every line.
                let telling = |l: &&str| !l.trim().is_empty() && !l.starts_with("Failed to send");
                let said = words.lines().rev().find(telling).unwrap_or("it said nothing");
                bail!("passt does not listen on {}: {}; set net=user", passt.socket.display(), said.trim());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(passt)
    }
}

impl Drop for Passt {
    fn drop(&mut self) {
        // It removes its socket only when it ends by itself.
        if let Err(e) = fs::remove_file(&self.socket) {
            log::debug!("remove {}: {e}", self.socket.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vhost_without_its_device_says_how_to_get_it() {
        let error = format!("{:#}", vhost(Path::new("/no/such/device")).expect_err("not there"));
        for words in ["/no/such/device", "modprobe vhost_net", "net=tap", "No such file"] {
            assert!(error.contains(words), "no `{words}` in `{error}`");
        }
        vhost(Path::new("/dev/null")).expect("what opens is taken");
    }
}
