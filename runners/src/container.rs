//! Whether this host is itself a container, or runs its programs in namespaces: then some boxes can't be made in it, and what is
//! measured is a box in a box.

use std::fmt;
use std::fs;
use std::path::Path;

use workloads::mounts;

/// The kernel's number of the first PID namespace (`PROC_PID_INIT_INO` in include/linux/proc_ns.h).
const FIRST_PIDS: &str = "pid:[4026531836]";

/// Of groups that engines make for their containers: a part of the name, and whose it is.
const GROUPS: &[(&str, &str)] = &[
    ("/kubepods", "kubernetes"),
    ("/docker", "docker"),
    ("/libpod", "podman"),
    ("/lxc", "lxc"),
    ("/machine.slice/systemd-nspawn", "systemd-nspawn"),
    ("/containerd", "containerd"),
];

/// The container that this host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Whose it is: `podman`, `docker`, or `namespaces` where nobody says.
    pub kind: String,
    /// The signs.
    pub evidence: String,
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.evidence)
    }
}

/// Looks for it; `None` where nothing says that there is one.
pub fn around() -> Option<Container> {
    let read =
        |path: &str| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let link = fs::read_link("/proc/self/ns/pid").ok();
    let mounts = mounts::all().unwrap_or_default();
    Signs {
        docker: Path::new("/.dockerenv").exists(),
        podman: Path::new("/run/.containerenv").exists(),
        kubernetes: std::env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
        layers: mounts::holding(&mounts, Path::new("/")).is_some_and(|root| root.file_system == "overlay"),
        environment: read("/proc/1/environ"),
        systemd: read("/run/systemd/container"),
        groups: read("/proc/1/cgroup"),
        users: read("/proc/self/uid_map"),
        pids: link.map(|link| link.to_string_lossy().into_owned()),
    }
    .container()
}

/// All that is looked at.
#[derive(Debug, Default)]
struct Signs {
    docker: bool,
    podman: bool,
    kubernetes: bool,
    /// The root is made of layers, as images are.
    layers: bool,
    environment: String,
    systemd: String,
    groups: String,
    users: String,
    pids: Option<String>,
}

impl Signs {
    /// Marks say whose it is, and alone they prove nothing: a virtual machine whose root was made of an image has them too.
    fn container(&self) -> Option<Container> {
        let mut marks = Vec::new();
        let mut mark = |is: bool, kind, evidence| marks.extend(is.then(|| (kind, String::from(evidence))));
        mark(self.kubernetes, "kubernetes", "KUBERNETES_SERVICE_HOST is set");
        mark(self.podman, "podman", "/run/.containerenv is there");
        mark(self.docker, "docker", "/.dockerenv is there");
        let proofs = self.proofs();
        let image = self.layers || self.pids.is_none();
        let signs = if proofs.is_empty() && !image { Vec::new() } else { [marks, proofs].concat() };
        let kind = signs.first()?.0.to_string();
        let evidence: Vec<String> = signs.into_iter().map(|(_, evidence)| evidence).collect();
        Some(Container { kind, evidence: evidence.join("; ") })
    }

    /// Who says so most plainly comes first.
    fn proofs(&self) -> Vec<(&str, String)> {
        let told = self.environment.split('\0').find_map(|word| word.strip_prefix("container="));
        let told = [told, Some(self.systemd.trim())].into_iter().flatten().find(|kind| is_word(kind));
        let mut proofs: Vec<_> =
            told.iter().map(|kind| (*kind, format!("the first process has container={kind}"))).collect();
        for (part, kind) in GROUPS.iter().filter(|(part, _)| self.groups.contains(part)) {
            proofs.push((kind, format!("the first process is in a cgroup `{part}`")));
        }
        if self.users_are_mapped() {
            proofs.push((NAMESPACES, "in a user namespace".into()));
        }
        if self.pids.as_deref().is_some_and(|pids| pids != FIRST_PIDS) {
            proofs.push((NAMESPACES, "in a PID namespace".into()));
        }
        proofs
    }

    /// The first namespace maps all ids to themselves.
    fn users_are_mapped(&self) -> bool {
        let words: Vec<&str> = self.users.split_whitespace().collect();
        !words.is_empty() && words != ["0", "0", "4294967295"]
    }
}

/// The kind where no engine says that it was there.
const NAMESPACES: &str = "namespaces";

/// A name that somebody else wrote, fit to be shown.
fn is_word(kind: &str) -> bool {
    !kind.is_empty() && kind.len() <= 40 && kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "         0          0 4294967295\n";

    fn host() -> Signs {
        Signs {
            users: WHOLE.into(),
            pids: Some(FIRST_PIDS.into()),
            groups: "0::/init.scope\n".into(),
            ..Signs::default()
        }
    }

    fn seen(signs: Signs) -> String {
        signs.container().map_or_else(|| "none".into(), |c| c.to_string())
    }

    #[test]
    fn a_host_is_no_container_and_neither_is_a_system_that_says_nothing() {
        assert_eq!(seen(host()), "none");
        assert_eq!(seen(Signs::default()), "none");
    }

    #[test]
    fn whose_container_it_is_is_told_by_its_marks() {
        let podman = Signs { podman: true, environment: "A=b\0container=podman\0".into(), ..host() };
        assert_eq!(seen(podman), "podman: /run/.containerenv is there; the first process has container=podman");
        let inside = || Signs { pids: Some("pid:[4026532281]".into()), ..host() };
        assert_eq!(seen(Signs { docker: true, ..inside() }), "docker: /.dockerenv is there; in a PID namespace");
        let pod = Signs { kubernetes: true, docker: true, ..inside() };
        assert!(seen(pod).starts_with("kubernetes: "));
        let nspawn = Signs { systemd: "systemd-nspawn\n".into(), ..host() };
        assert_eq!(seen(nspawn), "systemd-nspawn: the first process has container=systemd-nspawn");
        let lxc = Signs { environment: "container=lxc\0HOME=/\0".into(), ..host() };
        assert!(seen(lxc).starts_with("lxc: "));
        let v1 = Signs { groups: "4:memory:/docker/0123abcd\n".into(), ..host() };
        assert_eq!(seen(v1), "docker: the first process is in a cgroup `/docker`");
        let pod = Signs { groups: "0::/kubepods.slice/kubepods-burstable.slice/x\n".into(), ..host() };
        assert!(seen(pod).starts_with("kubernetes: "));
        let odd = Signs { environment: "container=\x1b[31m\0".into(), ..host() };
        assert_eq!(seen(odd), "none", "nobody's words reach the terminal");
    }

    /// A machine of a CI service was met that has both marks, of the image that its root was made of, and is no container.
    #[test]
    fn marks_alone_prove_nothing_where_the_root_is_no_image() {
        let marked = || Signs { docker: true, podman: true, ..host() };
        assert_eq!(seen(marked()), "none");
        let with_the_hosts_processes = Signs { layers: true, ..marked() };
        assert_eq!(seen(with_the_hosts_processes), "podman: /run/.containerenv is there; /.dockerenv is there");
    }

    #[test]
    fn namespaces_of_nobody_in_particular_are_told_too() {
        let users = Signs { users: "0 1000 1\n".into(), ..host() };
        assert_eq!(seen(users), "namespaces: in a user namespace");
        let pids = Signs { pids: Some("pid:[4026532281]".into()), ..host() };
        assert_eq!(seen(pids), "namespaces: in a PID namespace");
    }
}
