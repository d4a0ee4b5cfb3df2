//! The programs that translate addresses in user space for any runner, slirp4netns and pasta: between the environment's network
//! namespace and one that a veth pair joins to the peer's.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use workloads::facts::Network;

use super::Netns;
use crate::process;
use crate::process::{Beside, Program, confine};

/// The device in the environment's namespace.
pub(super) const DEVICE: &str = "tap0";

/// How long a program may take to bring that up.
const PATIENCE: Duration = Duration::from_secs(5);

/// A program that passes on in user space what comes out of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Translator {
    Slirp4netns,
    Pasta,
}

impl Translator {
    fn name(self) -> &'static str {
        match self {
            Translator::Slirp4netns => "slirp4netns",
            Translator::Pasta => "pasta",
        }
    }

    /// The program itself.
    pub(super) fn program(self) -> Program {
        match self {
            Translator::Slirp4netns => Program::of("slirp4netns", "slirp4netns"),
            Translator::Pasta => Program::of("pasta", "passt"),
        }
    }

    pub(super) fn network(self) -> Network {
        match self {
            Translator::Slirp4netns => Network::UserNat,
            Translator::Pasta => Network::Passt,
        }
    }

    /// Told to serve `netns`, whose device is ready when it has its address, and to forward no ports.
    fn arguments(self, netns: &Path) -> Vec<String> {
        let netns = netns.display().to_string();
        let words: Vec<&str> = match self {
            // With the MTU that podman gives it.
            Translator::Slirp4netns => {
                vec!["--configure", "--mtu=65520", "--disable-dns", "--netns-type=path", &netns, DEVICE]
            }
            // As nobody, which it would become, it may not enter a namespace of ours.
            Translator::Pasta => vec![
                "--foreground",
                "--quiet",
                "--runas",
                "0",
                "--ipv4-only",
                "--config-net",
                "--no-map-gw",
                "--tcp-ports",
                "none",
                "--udp-ports",
                "none",
                "--tcp-ns",
                "none",
                "--udp-ns",
                "none",
                "--ns-ifname",
                DEVICE,
                "--netns",
                &netns,
            ],
        };
        words.into_iter().map(String::from).collect()
    }
}

/// Starts it between the two namespaces, and waits until the environment's has a device with an address.
pub(super) fn start(
    found: &Path,
    program: Translator,
    gate: &Netns,
    own: &Netns,
    cpus: &[usize],
) -> anyhow::Result<Beside> {
    let mut command = Command::new(found);
    command.args(program.arguments(&own.path()));
    let mut words = tempfile::tempfile().context("can't make a temporary file")?;
    let copy = || words.try_clone().context("can't copy a file descriptor");
    command.stdin(Stdio::null()).stdout(copy()?).stderr(copy()?);
    confine(&mut command, Some(&gate.path()), &[], cpus)
        .with_context(|| format!("can't prepare {}", program.name()))?;
    let mut translator = Beside::start(&mut command, program.name())?;
    let until = Instant::now() + PATIENCE;
    while !has_address(own) {
        if let Some(status) = translator.ended()? {
            bail!("{} ended ({status}): {}", program.name(), last_words(&mut words));
        }
        if Instant::now() > until {
            bail!("{} brought no device up within {PATIENCE:?}: {}", program.name(), last_words(&mut words));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(translator)
}

fn has_address(netns: &Netns) -> bool {
    let mut ask = Command::new("ip");
    ask.args(["-n", netns.name(), "-4", "route", "show", "default", "dev", DEVICE]);
    process::ask(ask).is_ok_and(|text| !text.trim().is_empty())
}

fn last_words(file: &mut File) -> String {
    let mut text = String::new();
    // What can't be read is not worth another error.
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut text));
    log::debug!("{read:?}");
    // Without a system logger pasta complains about that after every line.
    let said: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty() && !l.contains("to syslog")).collect();
    let tail = said.len().saturating_sub(3);
    if said.is_empty() { "it said nothing".into() } else { said[tail..].join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_serve_the_namespace_that_they_are_given_and_forward_nothing() {
        let netns = Path::new("/run/netns/x");
        let slirp = Translator::Slirp4netns.arguments(netns).join(" ");
        assert!(slirp.ends_with("--netns-type=path /run/netns/x tap0"), "{slirp}");
        let pasta = Translator::Pasta.arguments(netns).join(" ");
        assert!(pasta.ends_with("--ns-ifname tap0 --netns /run/netns/x"), "{pasta}");
        assert!(pasta.contains("--tcp-ports none --udp-ports none"), "{pasta}");
    }

    #[test]
    fn the_last_words_are_the_programs_own() {
        let mut file = tempfile::tempfile().expect("made");
        std::io::Write::write_all(&mut file, b"Failed to send 3 bytes to syslog\nno interface\n\n").expect("written");
        assert_eq!(last_words(&mut file), "no interface");
    }
}
