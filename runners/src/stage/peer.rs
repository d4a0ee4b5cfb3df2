//! The far end of network workloads: one process outside every environment, in the peer's network namespace.

use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::host::Host;
use crate::process::{RUN, confine};
use crate::stage::network;
use crate::stage::shared::Shared;

/// Longest first line that is waited for: an address and no flood.
const LINE: u64 = 256;

/// A peer that is told to end, and doesn't, is killed after so long.
const GRACE: Duration = Duration::from_secs(1);

/// A live peer, ended on drop.
#[derive(Debug)]
pub struct PeerProcess {
    child: Child,
    /// Its port; which of its addresses an environment sees, [`crate::Launch::path`] says.
    pub port: u16,
}

impl PeerProcess {
    /// Starts `tarebench peer --listen ADDRESS:0` in the peer's namespace, on the harness's CPUs; without privileges on
    /// the host's loopback. IPv4 and IPv6, as far as the host has both. It must print the address it is bound to and go when
    /// its stdin closes.
    ///
    /// # Errors
    /// When it can't be started, or does not say its address before the deadline.
    pub fn start(shared: &Shared, deadline: Duration) -> anyhow::Result<Self> {
        let host = &shared.host;
        match shared.peer_network() {
            Ok(network) => {
                let any = if network.ipv6() { "[::]:0" } else { "0.0.0.0:0" };
                Self::start_in(host, Some(&network.netns().path()), &[any.into()], deadline)
            }
            Err(_) => {
                let six = network::loopback_has_ipv6().then(|| "[::1]:0".to_string());
                let listen: Vec<_> = std::iter::once(format!("{}:0", shared.loopback())).chain(six).collect();
                Self::start_in(host, None, &listen, deadline)
            }
        }
    }

    /// Starts one that listens on an address of the harness's own network namespace, for a box that was there before us.
    ///
    /// # Errors
    /// See [`PeerProcess::start`].
    pub(crate) fn start_on(host: &Host, address: IpAddr, deadline: Duration) -> anyhow::Result<Self> {
        Self::start_in(host, None, &[SocketAddr::new(address, 0).to_string()], deadline)
    }

    fn start_in(host: &Host, netns: Option<&Path>, listen: &[String], deadline: Duration) -> anyhow::Result<Self> {
        let mut command = Command::new(&host.binary);
        command.arg("peer").args(listen.iter().flat_map(|address| ["--listen", address]));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        // Out of the terminal's foreground group: Ctrl-C is for the harness, which still needs its peer while it ends.
        command.process_group(0).env(RUN, &host.id);
        confine(&mut command, netns, &[], &host.pinning.harness).context("can't prepare the peer")?;
        log::debug!("peer: {command:?}");
        let mut child = command.spawn().with_context(|| format!("can't start {}", host.binary.display()))?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut peer = Self { child, port: 0 };
        let (sender, receiver) = sync_channel(1);
        let read = move || {
            let mut line = String::new();
            let read = BufReader::new(stdout.take(LINE)).read_line(&mut line);
            // Nobody listens any more where the deadline has passed.
            drop(sender.send(read.map(|_| line)));
        };
        std::thread::Builder::new().spawn(read).context("can't listen to the peer, since no thread can be made")?;
        let line = receiver
            .recv_timeout(deadline)
            .with_context(|| format!("the peer did not say its address within {deadline:?}"))?
            .context("can't read from the peer")?;
        match line.trim().parse::<SocketAddr>() {
            Ok(address) => peer.port = address.port(),
            Err(_) => bail!("the peer said `{}` instead of its address", line.trim()),
        }
        Ok(peer)
    }
}

impl Drop for PeerProcess {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let until = Instant::now() + GRACE;
        while Instant::now() < until {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        if let Err(e) = self.child.kill().and_then(|()| self.child.wait()) {
            log::warn!("can't end the peer: {e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::host::Resources;

    /// On a host whose binary is this shell script.
    fn shared(id: &str, script: &str) -> (tempfile::TempDir, Arc<Shared>) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tarebench");
        crate::process::write_program(&file, &format!("#!/bin/sh\n{script}\n"));
        let id = format!("{id}{:x}", std::process::id() % 0xf_ffff);
        let host = Host::new(&id, &file, Resources::new(1, 1 << 28)).unwrap();
        (dir, Shared::new(Arc::new(host)))
    }

    #[test]
    fn the_peer_says_its_port_and_goes_when_told() {
        let (_dir, shared) = shared("p", "test $1 = peer && echo 0.0.0.0:4242; exec cat");
        let peer = PeerProcess::start(&shared, Duration::from_secs(5)).unwrap();
        assert_eq!(peer.port, 4242);
        let began = Instant::now();
        drop(peer);
        assert!(began.elapsed() < GRACE, "it goes by itself when stdin closes");
    }

    #[test]
    fn a_peer_that_says_nothing_or_nonsense_is_an_error() {
        let (_dir, mute) = shared("q", "exec sleep 60");
        let error = PeerProcess::start(&mute, Duration::from_millis(200)).unwrap_err();
        assert!(error.to_string().contains("did not say its address"), "{error}");
        let (_dir, mute) = shared("r", "echo hello; exec cat");
        let error = PeerProcess::start(&mute, Duration::from_secs(5)).unwrap_err();
        assert!(error.to_string().contains("said `hello`"), "{error}");
    }
}
