//! The peer's address where it has no network namespace: on Linux 127.0.0.1. On FreeBSD as root an alias of lo0, which a
//! jail with a network stack of its own can reach over its epair too, while nobody beyond this host can.

use std::net::Ipv4Addr;

use crate::host::Host;
use crate::host::journal::Made;
use crate::names::hash;
use crate::process;

/// Where the peer listens without a namespace; removed on drop.
#[derive(Debug)]
pub(crate) struct Loopback {
    pub(crate) address: Ipv4Addr,
    alias: bool,
}

impl Loopback {
    pub(crate) fn make(host: &Host) -> Self {
        let plain = Self { address: Ipv4Addr::LOCALHOST, alias: false };
        if cfg!(not(target_os = "freebsd")) || !host.privileged {
            return plain;
        }
        let address = address(&host.id);
        let made = host.journal.note(&Made::Alias(address)).and_then(|()| run(&addition(address)));
        match made {
            Ok(()) => Self { address, alias: true },
            Err(e) => {
                log::warn!("the peer is out of reach of jails with a network stack of their own: {e:#}");
                plain
            }
        }
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        if self.alias
            && let Some(removal) = Made::Alias(self.address).removal()
            && let Err(e) = run(&removal)
        {
            log::warn!("{e:#}");
        }
    }
}

/// One of the upper half of 198.18.0.0/15, by the run's id: two runs at the same time rarely meet.
pub(crate) fn address(id: &str) -> Ipv4Addr {
    let [_, _, a, b] = hash(id).to_be_bytes();
    Ipv4Addr::new(198, 19, a, b.clamp(1, 254))
}

fn addition(address: Ipv4Addr) -> Vec<String> {
    ["ifconfig", "lo0", "inet", &format!("{address}/32"), "alias"].map(String::from).to_vec()
}

fn run(argv: &[String]) -> anyhow::Result<()> {
    let mut command = std::process::Command::new(&argv[0]);
    command.args(&argv[1..]);
    process::ask(command).map(drop).map_err(anyhow::Error::msg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_is_in_the_benchmark_range_and_follows_the_id() {
        for id in ["a", "zz", "0123abcd", "k1"] {
            let [a, b, _, d] = address(id).octets();
            assert_eq!((a, b), (198, 19));
            assert!((1..=254).contains(&d));
        }
        assert_ne!(address("a1"), address("a2"));
        assert_eq!(addition(Ipv4Addr::new(198, 19, 1, 2)).join(" "), "ifconfig lo0 inet 198.19.1.2/32 alias");
    }
}
