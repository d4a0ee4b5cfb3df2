//! The far end of network workloads: one process outside every environment, in the peer's network namespace.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::confine::confine;
use crate::host::Host;

/// Longest first line that is waited for: an address and no flood.
const LINE: u64 = 256;

/// A live peer, ended on drop.
#[derive(Debug)]
pub struct PeerProcess {
    child: Child,
    /// Its port; which of its addresses an environment sees, [`crate::Launch::peer`] says.
    pub port: u16,
}

impl PeerProcess {
    /// Starts `tarebench peer --listen ADDRESS:0` in the peer's namespace, on the harness's CPUs; without privileges on
    /// the host's loopback. It must print the address it is bound to and go when its stdin closes.
    ///
    /// # Errors
    /// When it can't be started, or does not say its address before the deadline.
    pub fn start(host: &Host, deadline: Duration) -> anyhow::Result<Self> {
        let (netns, listen) = match host.peer_network() {
            Ok(network) => (Some(network.netns().path()), "0.0.0.0:0"),
            Err(_) => (None, "127.0.0.1:0"),
        };
        let mut command = Command::new(&host.binary);
        command.arg("peer").args(["--listen", listen]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        confine(&mut command, netns.as_deref(), &[], &host.pinning.harness).context("can't prepare the peer")?;
        log::debug!("peer: {command:?}");
        let mut child = command.spawn().with_context(|| format!("can't start {}", host.binary.display()))?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut peer = Self { child, port: 0 };
        let (sender, receiver) = sync_channel(1);
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(stdout.take(LINE)).read_line(&mut line);
            // Nobody listens any more where the deadline has passed.
            drop(sender.send(read.map(|_| line)));
        });
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
        let until = Instant::now() + Duration::from_millis(300);
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
