//! The agent's look at what surrounds it: clock, filters of system calls, mitigations, links, the mount under its data.
//!
//! None of it decides what is measured. It is what a difference is explained by, so all of it may be unknown: sandboxes hide much.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::mounts::Mount;
use crate::stopwatch;

/// Where Linux lists the clock sources that it could use.
const CLOCK_SOURCES: &str = "/sys/devices/system/clocksource/clocksource0/available_clocksource";

/// Where Linux says, in a file for each, what it does about faults of the CPU.
const MITIGATIONS: &str = "/sys/devices/system/cpu/vulnerabilities";

/// Where Linux says who gets huge pages; the word in brackets holds.
const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// The surroundings of an agent. What can't be seen is `None`, or an empty list: never a zero, never a no.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inside {
    /// Median cost of a system call that does nothing (`getppid`), nanoseconds.
    pub call_ns: Option<f64>,
    /// Clock sources that the kernel could use.
    pub clock_sources: Vec<String>,
    /// Ticks of the time stamp counter in a millisecond of the monotonic clock.
    pub tsc_khz: Option<u64>,
    /// Filters that every system call of the agent passes through (seccomp).
    pub filters: Option<u32>,
    /// The kernel's word for this process and speculative store bypass: `vulnerable`, `thread force mitigated`, ...
    pub store_bypass: Option<String>,
    /// The same of indirect branches: `always enabled`, `conditional force disabled`, ...
    pub indirect_branch: Option<String>,
    /// The kernel's answer to each fault of the CPU that it knows, without the details: `meltdown` is `Mitigation: PTI`.
    pub mitigations: BTreeMap<String, String>,
    /// Who gets huge pages: `always`, `madvise`, `never`.
    pub huge_pages: Option<String>,
    /// Options of the mount that holds the data, and of its file system.
    pub data_options: Option<String>,
    /// The network interfaces that are up, without loopback.
    pub links: Vec<Link>,
    /// How TCP decides how fast to send, where a program doesn't choose, as a new socket says: `cubic`, `bbr`.
    pub congestion: Option<String>,
}

/// A network interface as seen from inside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Link {
    /// `eth0`.
    pub name: String,
    /// The longest packet, bytes.
    pub mtu: Option<u32>,
    /// Work on packets that its device does, or says that it does, by name: `tso` is on.
    pub offloads: BTreeMap<String, bool>,
}

impl Inside {
    /// Looks around; `mount` holds the data.
    pub fn look(mount: Option<&Mount>) -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            call_ns: call_ns(),
            clock_sources: words(Path::new(CLOCK_SOURCES)),
            tsc_khz: tsc_khz(),
            filters: filters(&status),
            store_bypass: of(&status, "Speculation_Store_Bypass:"),
            indirect_branch: of(&status, "SpeculationIndirectBranch:"),
            mitigations: mitigations(Path::new(MITIGATIONS)),
            huge_pages: fs::read_to_string(HUGE_PAGES).ok().and_then(|text| chosen(&text)),
            data_options: mount.map(|mount| mount.options.clone()),
            links: links::all(),
            congestion: links::congestion(),
        }
    }
}

fn words(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().split_whitespace().map(String::from).collect()
}

/// A line of /proc/self/status.
fn of(status: &str, key: &str) -> Option<String> {
    let value = status.lines().find_map(|line| line.strip_prefix(key))?.trim();
    (!value.is_empty()).then(|| value.to_string())
}

/// Kernels before 5.9 don't count them, and say whether there are any.
fn filters(status: &str) -> Option<u32> {
    let number = |key| of(status, key)?.parse::<u32>().ok();
    number("Seccomp_filters:").or_else(|| Some(u32::from(number("Seccomp:")? > 0)))
}

/// The word in brackets: `always [madvise] never` has chosen `madvise`.
#[must_use]
pub fn chosen(text: &str) -> Option<String> {
    Some(text.split_once('[')?.1.split_once(']')?.0.to_string())
}

/// What stands behind the first semicolon is detail, such as the state of other processors.
fn mitigations(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let read = entries.filter_map(|entry| {
        let text = fs::read_to_string(entry.path()).ok()?;
        let word = text.split(';').next()?.trim().to_string();
        Some((entry.file_name().to_string_lossy().into_owned(), word))
    });
    read.collect()
}

/// The median over batches, as the clock's cost is found.
fn call_ns() -> Option<f64> {
    const BATCHES: usize = 9;
    const CALLS: u32 = 32;
    let mut costs = [0.0; BATCHES];
    for cost in &mut costs {
        let begun = stopwatch::now();
        for _ in 0..CALLS {
            std::hint::black_box(nix::unistd::getppid());
        }
        *cost = stopwatch::now().saturating_sub(begun) as f64 / f64::from(CALLS);
    }
    costs.sort_by(f64::total_cmp);
    Some(costs[BATCHES / 2]).filter(|cost| *cost > 0.0)
}

/// The counter against the clock, over some milliseconds: a hypervisor that scales it shows another rate than the host's.
#[cfg(target_arch = "x86_64")]
fn tsc_khz() -> Option<u64> {
    const SPAN: std::time::Duration = std::time::Duration::from_millis(5);
    // The closest pair of several: between the two readings of one the CPU may have been taken away.
    let look = || {
        let pair = || {
            let before = stopwatch::now();
            // SAFETY: reads a counter that every CPU of this kind has.
            let ticks = unsafe { core::arch::x86_64::_rdtsc() };
            let after = stopwatch::now();
            (after.saturating_sub(before), before.midpoint(after), ticks)
        };
        (0..16).map(|_| pair()).min_by_key(|(gap, ..)| *gap)
    };
    let (_, began, first) = look()?;
    std::thread::sleep(SPAN);
    let (_, ended, last) = look()?;
    let ns = ended.checked_sub(began).filter(|ns| *ns > 0)?;
    u64::try_from(u128::from(last.checked_sub(first)?) * 1_000_000 / u128::from(ns)).ok().filter(|khz| *khz > 0)
}

/// Only x86 has that counter.
#[cfg(not(target_arch = "x86_64"))]
fn tsc_khz() -> Option<u64> {
    None
}

#[cfg(target_os = "linux")]
mod links {
    //! Network interfaces by the calls that sandboxes answer too: /sys shows the interfaces of whoever mounted it.

    use std::collections::BTreeMap;
    use std::os::fd::{AsFd, AsRawFd};

    use nix::net::if_::{InterfaceFlags, if_nameindex};
    use nix::sys::socket::sockopt::TcpCongestion;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType};

    use super::Link;

    /// Commands of SIOCETHTOOL that ask for one switch each (linux/ethtool.h), and how it is called by ethtool.
    const OFFLOADS: [(&str, u32); 6] =
        [("rx-checksum", 0x14), ("tx-checksum", 0x16), ("tso", 0x1e), ("gso", 0x23), ("gro", 0x2b), ("sg", 0x18)];

    /// An answer of SIOCETHTOOL to such a question (`struct ethtool_value`).
    #[repr(C)]
    struct Answer {
        command: u32,
        data: u32,
    }

    /// Those that are up, without loopback.
    pub(super) fn all() -> Vec<Link> {
        let Ok(socket) = std::net::UdpSocket::bind(("0.0.0.0", 0)).or_else(|_| std::net::UdpSocket::bind(("::", 0)))
        else {
            return Vec::new();
        };
        let names = if_nameindex().map(|all| all.into_iter().map(|i| i.name().to_owned()).collect::<Vec<_>>());
        let looked = names.unwrap_or_default().into_iter().filter_map(|name| link(&socket, name.to_bytes()));
        looked.collect()
    }

    /// Of a socket that nobody has connected, since the kernel's file may be of another stack than the one that carries the packets.
    pub(super) fn congestion() -> Option<String> {
        let socket = nix::sys::socket::socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
        let name = nix::sys::socket::getsockopt(&socket.ok()?, TcpCongestion).ok()?;
        let name = name.to_string_lossy().trim_end_matches('\0').to_owned();
        (!name.is_empty()).then_some(name)
    }

    fn link(socket: &impl AsFd, name: &[u8]) -> Option<Link> {
        let up = InterfaceFlags::IFF_UP.bits();
        let loopback = InterfaceFlags::IFF_LOOPBACK.bits();
        let mut asked = request(name)?;
        ask(socket, libc::SIOCGIFFLAGS, &mut asked)?;
        // SAFETY: the kernel has just written the flags.
        let flags = i32::from(unsafe { asked.ifr_ifru.ifru_flags });
        if flags & up == 0 || flags & loopback != 0 {
            return None;
        }
        let mut asked = request(name)?;
        // SAFETY: the kernel has just written the MTU.
        let mtu = ask(socket, libc::SIOCGIFMTU, &mut asked).map(|()| unsafe { asked.ifr_ifru.ifru_mtu });
        let switch = |(what, command): &(&str, u32)| {
            let mut answer = Answer { command: *command, data: 0 };
            let mut asked = request(name)?;
            asked.ifr_ifru.ifru_data = (&raw mut answer).cast();
            ask(socket, libc::SIOCETHTOOL, &mut asked)?;
            Some(((*what).to_string(), answer.data != 0))
        };
        let offloads: BTreeMap<_, _> = OFFLOADS.iter().filter_map(switch).collect();
        let mtu = mtu.and_then(|mtu| u32::try_from(mtu).ok());
        Some(Link { name: String::from_utf8_lossy(name).into_owned(), mtu, offloads })
    }

    /// A question about the interface of this name.
    fn request(name: &[u8]) -> Option<libc::ifreq> {
        // SAFETY: numbers and bytes, for which zeros are values.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        let room = request.ifr_name.len() - 1;
        let target = request.ifr_name.get_mut(..name.len()).filter(|_| name.len() <= room)?;
        target.iter_mut().zip(name).for_each(|(to, from)| *to = *from as libc::c_char);
        Some(request)
    }

    /// `None` where the kernel doesn't answer it.
    fn ask(socket: &impl AsFd, question: libc::Ioctl, request: &mut libc::ifreq) -> Option<()> {
        // SAFETY: each of these questions reads and writes an `ifreq`, and what it points to, which outlive the call.
        (unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), question, &raw mut *request) } == 0).then_some(())
    }
}

#[cfg(not(target_os = "linux"))]
mod links {
    /// Nobody asks here.
    pub(super) fn all() -> Vec<super::Link> {
        Vec::new()
    }

    /// Nor for this.
    pub(super) fn congestion() -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_counted_or_at_least_seen() {
        assert_eq!(filters("Seccomp:\t2\nSeccomp_filters:\t3\n"), Some(3));
        assert_eq!((filters("Seccomp:\t2\n"), filters("Seccomp:\t0\n")), (Some(1), Some(0)));
        assert_eq!(filters("Name:\tx\n"), None, "hidden is not none");
    }

    #[test]
    fn words_of_the_kernel_are_read() {
        assert_eq!(chosen("always [madvise] never\n").as_deref(), Some("madvise"));
        assert_eq!(chosen("always\n"), None);
        let status = "Seccomp:\t0\nSpeculation_Store_Bypass:\tthread force mitigated\n";
        assert_eq!(of(status, "Speculation_Store_Bypass:").as_deref(), Some("thread force mitigated"));
        assert_eq!(of(status, "SpeculationIndirectBranch:"), None);
        let folder = tempfile::tempdir().expect("a directory");
        assert!(mitigations(&folder.path().join("none")).is_empty());
        fs::write(folder.path().join("spectre_v2"), "Mitigation: Retpolines; STIBP: disabled\n").expect("written");
        assert_eq!(mitigations(folder.path())["spectre_v2"], "Mitigation: Retpolines");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_is_looked_at() {
        let inside = Inside::look(None);
        assert!(inside.call_ns.is_some_and(|ns| ns > 1.0), "{inside:?}");
        assert!(inside.links.iter().all(|l| l.name != "lo"), "{inside:?}");
        // What a store of before doesn't have is unknown.
        assert_eq!(serde_json::from_str::<Inside>("{}").expect("nothing"), Inside::default());
        let text = serde_json::to_string(&inside).expect("JSON");
        assert_eq!(serde_json::from_str::<Inside>(&text).expect("the same").links, inside.links);
    }

    #[test]
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    fn the_counter_has_one_rate() {
        let (Some(one), Some(two)) = (tsc_khz(), tsc_khz()) else { panic!("x86 has that counter") };
        assert!(one.abs_diff(two) < one / 20, "{one} and {two} kHz");
    }
}
