//! The commands, against what the manual documents.

use std::process::Command;

use super::*;
use crate::names::is_epair_of;
use crate::stage::loopback;

/// Parameters of jail(8), FreeBSD 12.2 to 14: those of the kernel and the pseudo-parameters that matter to us.
const PARAMETERS: &[&str] = &[
    "name",
    "path",
    "host.hostname",
    "enforce_statfs",
    "devfs_ruleset",
    "persist",
    "ip4",
    "ip4.addr",
    "ip6",
    "ip6.addr",
    "vnet",
    "vnet.interface",
    "mount",
    "mount.devfs",
    "mount.fstab",
    "exec.created",
    "exec.start",
    "exec.clean",
    "command",
];

/// Resources of rctl(8) that a rule may deny: of the others the manual says that it is not supported.
const DENIABLE: &[&str] = &["memoryuse", "vmemoryuse", "swapuse", "maxproc", "openfiles", "nthr", "pcpu"];

fn order(given: &[(&str, &str)]) -> Order {
    let options = Options::read(&Settings::of(Options::TABLE, given));
    let loopback = loopback::address("ab12").into();
    let (path, host_end) = match options.network {
        Net::Vnet => {
            let (path, end) = epair("ab12", 7, loopback);
            (path, Some(end))
        }
        Net::None => (PathToPeer::none(), None),
        Net::Shared => (PathToPeer { network: Network::Loopback, peer: Some(loopback), ..PathToPeer::none() }, None),
    };
    Order {
        name: "tarebench-ab12-jail-0".into(),
        root: "/s/root".into(),
        data: (options.data == Data::Nullfs).then(|| "/d/my data".into()),
        libraries: true,
        fstab: "/s/fstab".into(),
        path,
        host_end,
        limits: options.limits.then_some(Resources::new(2, 512 << 20)),
    }
}

/// Every combination of settings.
fn all() -> Vec<Order> {
    let mut all = Vec::new();
    for network in ["shared", "vnet", "none"] {
        for data in ["nullfs", "root"] {
            for limits in ["true", "false"] {
                all.push(order(&[("network", network), ("data", data), ("limits", limits)]));
            }
        }
    }
    all
}

/// Names of the parameters on a line; all after `command` is the agent's.
fn parameters(line: &[String]) -> Vec<&str> {
    assert_eq!(line[..3], ["jail", "-q", "-c"]);
    let mut names = Vec::new();
    for word in &line[3..] {
        let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
        names.push(name);
        if name == "command" {
            break;
        }
    }
    names
}

#[test]
fn by_default_the_agent_is_the_jails_command_over_the_hosts_addresses() {
    let order = order(&[]);
    assert_eq!(
        order.creation().join(" "),
        "jail -q -c name=tarebench-ab12-jail-0 path=/s/root host.hostname=tarebench enforce_statfs=1 mount.devfs \
         devfs_ruleset=4 mount.fstab=/s/fstab ip4=inherit ip6=inherit command=/tarebench agent --data /data"
    );
    assert!(order.preparation().is_empty());
    assert!(order.table().ends_with("/d/my\\040data /s/root/data nullfs rw 0 0\n"), "{}", order.table());
    assert!(order.table().contains("/lib /s/root/lib nullfs ro 0 0\n"));
}

#[test]
fn each_setting_changes_its_own_part() {
    let none = order(&[("network", "none")]).creation().join(" ");
    assert!(none.contains("ip4=disable ip6=disable"), "{none}");
    let vnet = order(&[("network", "vnet")]);
    let line = vnet.creation().join(" ");
    assert!(
        line.contains("vnet vnet.interface=tareab1207e exec.created=ifconfig -j tarebench-ab12-jail-0 lo0"),
        "{line}"
    );
    assert!(!line.contains("ip4="), "a network stack of its own has all of its addresses: {line}");
    assert!(vnet.preparation()[0][2].contains("ifconfig epair create"));
    let root = order(&[("data", "root")]);
    assert!(!root.table().contains("/data"), "{}", root.table());
    let limited = order(&[("limits", "true")]).preparation();
    assert_eq!(limited[0].join(" "), "rctl -a jail:tarebench-ab12-jail-0:memoryuse:deny=536870912");
    assert_eq!(limited[1].join(" "), "rctl -a jail:tarebench-ab12-jail-0:pcpu:deny=200");
}

#[test]
fn whatever_is_made_is_removed_jail_first_and_after_a_kill_too() {
    for order in all() {
        let removals = order.removals();
        assert_eq!(removals[0], ["jail", "-q", "-R", "tarebench-ab12-jail-0"]);
        let unmounted: Vec<&str> = removals.iter().filter(|r| r[0] == "umount").map(|r| r[2].as_str()).collect();
        let mounted = order.mounts().len() + 1;
        assert_eq!(unmounted.len(), mounted, "{unmounted:?}");
        assert_eq!(unmounted[0], "/s/root/dev");
        for step in order.preparation() {
            match step[0].as_str() {
                "rctl" => assert!(removals.iter().any(|r| r.join(" ") == "rctl -r jail:tarebench-ab12-jail-0")),
                "sh" => assert!(removals.iter().any(|r| r.join(" ") == "ifconfig tareab1207p destroy")),
                other => panic!("{other} has no removal"),
            }
        }
        // The paths of a real stage carry the run's name; these are the ones that don't.
        for made in order.made() {
            if let Made::Interface(name) = &made {
                assert!(is_epair_of("ab12", name) && !is_epair_of("ab", name) && !is_epair_of("ab1", name), "{name}");
            }
        }
        assert!(removals.iter().all(|r| r[0] != "ifconfig" || r[2] == "destroy"), "{removals:?}");
    }
}

#[test]
fn names_and_addresses_fit() {
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let (longest, end) = epair("0123abcd", 199, peer);
    let near = longest.device.expect("a device");
    assert!(near.len() <= 15 && near != end.device, "{near} {end:?}");
    let own = |path: &PathToPeer| path.own.expect("an address").0;
    let ((one, end), (other, _)) = (epair("a", 0, peer), epair("a", 1, peer));
    assert_ne!(own(&one), own(&other));
    assert_eq!(u32::from(own(&one)) - u32::from(end.address), 1);
    assert_eq!(own(&one).octets()[..2], [198, 18], "the upper half holds the peers");
}

#[test]
fn every_parameter_is_documented() {
    for order in all() {
        for name in parameters(&order.creation()) {
            assert!(PARAMETERS.contains(&name), "jail(8) has no parameter `{name}`");
        }
        for step in order.preparation().iter().filter(|s| s[0] == "rctl") {
            // subject:subject-id:resource:action=amount
            let parts: Vec<&str> = step[2].split(':').collect();
            assert_eq!((step[1].as_str(), parts.len(), parts[0]), ("-a", 4, "jail"));
            assert!(DENIABLE.contains(&parts[2]) && parts[3].starts_with("deny="), "{step:?}");
        }
    }
}

/// A page of FreeBSD's manual, from FreeBSD itself or from Debian's `freebsd-manpages`, which has no section 8.
fn page(section: u32, name: &str) -> Option<String> {
    let folder = format!("/usr/share/man/man{section}");
    let files = [format!("{folder}/{name}.{section}freebsd.gz"), format!("{folder}/{name}.{section}.gz")];
    let file =
        files.iter().find(|f| (cfg!(target_os = "freebsd") || f.contains("freebsd")) && Path::new(f).exists())?;
    let output = Command::new("gzip").args(["-dc", file]).output().expect("gzip runs");
    assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn the_installed_manual_knows_what_is_used() {
    let must = std::env::var("TAREBENCH_MUST_RUN").is_ok_and(|list| list.split(',').any(|n| n == "freebsd-manpages"));
    let Some(jail2) = page(2, "jail") else {
        assert!(!must, "freebsd-manpages must be installed here");
        eprintln!("SKIPPED: no manual of FreeBSD here; apt install freebsd-manpages");
        return;
    };
    // jail_set(2) names the parameters that the older jail(2) had members for.
    for name in ["name", "path", "host.hostname"] {
        assert!(jail2.contains(&format!(".Va {name}")), "jail(2) doesn't know `{name}`");
    }
    let has = |section, name: &str, word: &str| {
        let text = page(section, name).unwrap_or_else(|| panic!("{name}({section}) is missing"));
        assert!(text.contains(word), "{name}({section}) says nothing of {word}");
    };
    has(4, "rctl", "kern.racct.enable");
    has(4, "epair", "epair<n>[ab]");
    has(2, "procctl", "PROC_PDEATHSIG_CTL");
    let Some(jail8) = page(8, "jail") else {
        eprintln!("SKIPPED: this manual has no section 8: jail(8), rctl(8) and jexec(8) are only compared on FreeBSD");
        return;
    };
    for name in PARAMETERS {
        let known = jail8
            .lines()
            .any(|l| l.starts_with(".It Va") && l.trim_start_matches(".It Va").split([' ', ',']).any(|w| w == *name));
        assert!(known, "jail(8) has no parameter `{name}`");
    }
    for option in ["c", "q", "R"] {
        assert!(jail8.contains(&format!(".It Fl {option}")), "jail(8) has no -{option}");
    }
    for resource in ["memoryuse", "pcpu"] {
        has(8, "rctl", resource);
    }
    for option in ["a", "r"] {
        has(8, "rctl", &format!(".Fl {option}"));
    }
}
