//! Words with which kernels and engines refuse, and what would change their mind. Engines are asked for nothing here: whatever was
//! tried has failed already.

use std::fs;

use crate::container::{self, Container};

/// CAP_SYS_ADMIN, as capabilities(7) counts.
const SYS_ADMIN: u32 = 21;

/// No further process or thread may be made.
const NO_THREADS: &[&str] = &[
    "Resource temporarily unavailable",
    "EAGAIN",
    "no thread can be made",
    "failed to create new OS thread",
    "pthread_create failed",
    "can't start new thread",
];

/// No further memory, or addresses for it.
const NO_MEMORY: &[&str] = &["annot allocate memory", "ENOMEM", "failed to reserve page summary memory"];

const NO_FILES: &[&str] = &["Too many open files", "EMFILE"];

const NO_LARGE_FILES: &[&str] = &["File too large", "EFBIG"];

/// The steps in which Ubuntu's AppArmor stops who has made a user namespace and has no profile for it: it may be made, and is worth
/// nothing.
const CONFINED: &[&str] = &[
    "setting up uid map",
    "can't map our",
    "uid_map",
    "newuidmap",
    "Failed RTM_NEWADDR",
    "namespace failed",
    "can't make user, mount",
    "cannot clone",
    "unshare",
    // Of a program in Go that starts itself in one.
    "fork/exec /proc/self/exe",
];

/// The helpers that give a user's container the ids which /etc/subuid says are the user's; distributions pack them by themselves.
const NO_HELPERS: &[&str] = &["\"newuidmap\": executable file not found", "\"newgidmap\": executable file not found"];

/// The kernel forbids it for what a file or a process is labelled as, or for its mode; a missing right has other words.
const DENIED: &[&str] = &["ermission denied", "EACCES"];

/// The kernel forbids it.
const FORBIDDEN: &[&str] = &["peration not permitted", "ermission denied", "EPERM", "EACCES"];

/// The facts that tell which of several causes such words have here.
#[derive(Debug, Clone, Default)]
struct Ground {
    root: bool,
    sys_admin: bool,
    container: Option<Container>,
    /// Ubuntu's restriction of user namespaces is on.
    confined: bool,
    /// SELinux is there and enforces.
    enforcing: bool,
}

/// What to do about a refusal with these words; `None` where they are nobody's that we know.
pub(crate) fn on(words: &str) -> Option<String> {
    let restricted = fs::read_to_string("/proc/sys/kernel/apparmor_restrict_unprivileged_userns");
    let enforcing = fs::read_to_string("/sys/fs/selinux/enforce");
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ground = Ground {
        root: nix::unistd::geteuid().is_root(),
        sys_admin: has(&status, SYS_ADMIN),
        container: container::around(),
        confined: restricted.is_ok_and(|text| text.trim() == "1"),
        enforcing: enforcing.is_ok_and(|text| text.trim() == "1"),
    };
    ground.advice(words)
}

/// What to do about a limit on what one may have of something, where these words are of one.
pub fn on_limit(words: &str) -> Option<&'static str> {
    let limits = [
        (
            NO_THREADS,
            "allow more processes and threads: `ulimit -u`, pids.max of the cgroup that we are in, --pids-limit of a container",
        ),
        (NO_MEMORY, "allow more memory: `ulimit -v`, memory.max of the cgroup that we are in"),
        (NO_FILES, "allow more open files: `ulimit -n`"),
        (NO_LARGE_FILES, "allow larger files: `ulimit -f`"),
    ];
    limits.into_iter().find(|(of, _)| of.iter().any(|part| words.contains(part))).map(|(_, advice)| advice)
}

/// Whether a process with this `/proc/self/status` has a capability in effect.
fn has(status: &str, capability: u32) -> bool {
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> capability & 1 == 1)
}

impl Ground {
    fn advice(&self, words: &str) -> Option<String> {
        let any = |of: &[&str]| of.iter().any(|part| words.contains(part));
        if let Some(advice) = on_limit(words) {
            return Some(advice.into());
        }
        if any(NO_HELPERS) {
            return Some("apt install uidmap".into());
        }
        if !any(FORBIDDEN) {
            return None;
        }
        let in_what =
            self.container.as_ref().map_or_else(String::new, |c| format!(" (this host is itself a container: {c})"));
        if self.confined && !self.root && any(CONFINED) {
            return Some(
                "AppArmor keeps user namespaces from programs without a profile: `sudo sysctl \
                 kernel.apparmor_restrict_unprivileged_userns=0`, or a profile with `userns,` in /etc/apparmor.d"
                    .into(),
            );
        }
        if self.enforcing && any(DENIED) {
            return Some(
                "SELinux is enforcing, and a container may use only what has its label, which we set on nothing: `ausearch -m avc \
                 -ts recent` says whether it was that; then `chcon -Rt container_file_t` on the data directory and on an empty \
                 directory that TMPDIR names"
                    .into(),
            );
        }
        if self.root && !self.sys_admin {
            return Some(format!(
                "we are root without CAP_SYS_ADMIN{in_what}: start the container with --privileged (in Kubernetes \
                 securityContext.privileged)"
            ));
        }
        if self.container.is_some() {
            return Some(format!(
                "start the container with --privileged, so that file systems may be mounted in it, or run on its host{in_what}"
            ));
        }
        (!self.root && any(CONFINED)).then(|| {
            "allow user namespaces: `sudo sysctl user.max_user_namespaces=15000`, on Debian and Arch also \
             kernel.unprivileged_userns_clone=1; or run as root"
                .into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words that are as Ubuntu 24.04 prints them were read in reports of others: no such machine is here.
    const UBUNTU: [&str; 6] = [
        "bwrap: setting up uid map: Permission denied",
        "bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted",
        "tarebench enter: can't map our user id: EPERM: Operation not permitted",
        "Error: cannot clone: Operation not permitted",
        "unshare: write failed /proc/self/uid_map: Operation not permitted",
        "running sandbox: cannot start: fork/exec /proc/self/exe: permission denied",
    ];

    fn advice(ground: Ground, words: &str) -> String {
        ground.advice(words).unwrap_or_default()
    }

    #[test]
    fn apparmor_is_named_where_its_restriction_is_on() {
        for words in UBUNTU {
            let confined = Ground { confined: true, ..Ground::default() };
            assert!(advice(confined, words).contains("kernel.apparmor_restrict_unprivileged_userns=0"), "{words}");
        }
        assert!(advice(Ground::default(), UBUNTU[0]).contains("user.max_user_namespaces"));
    }

    /// These words are as the engines print a denial by a file's mode: no machine here has SELinux.
    #[test]
    fn selinux_is_named_where_it_enforces_and_access_was_denied() {
        let root = Ground { root: true, sys_admin: true, ..Ground::default() };
        let enforcing = Ground { enforcing: true, ..root.clone() };
        for words in [
            "Error: crun: open executable: Permission denied: OCI permission denied",
            "runc create failed: unable to start container process: exec: \"/tarebench\": permission denied",
            "tarebench agent: can't make /data/x: EACCES: Permission denied",
        ] {
            let told = advice(enforcing.clone(), words);
            assert!(told.contains("SELinux") && told.contains("chcon -Rt container_file_t"), "{words}: {told}");
            assert_eq!(root.advice(words), None, "nothing is known of it");
        }
        assert_eq!(enforcing.advice("mount: Operation not permitted"), None, "a right is missing, not a label");
    }

    #[test]
    fn a_container_without_capabilities_is_told_from_a_user_without_them() {
        let podman = Container { kind: "podman".into(), evidence: "/run/.containerenv is there".into() };
        let root = Ground { root: true, container: Some(podman.clone()), ..Ground::default() };
        let words = "bwrap: Creating new namespace failed: Operation not permitted";
        let told = advice(root, words);
        assert!(told.contains("CAP_SYS_ADMIN") && told.contains("podman") && told.contains("--privileged"), "{told}");
        let inside = Ground { root: true, sys_admin: true, container: Some(podman), ..Ground::default() };
        let told = advice(inside, "tarebench enter: can't mount /proc: EPERM: Operation not permitted");
        assert!(told.contains("--privileged") && !told.contains("CAP_SYS_ADMIN"), "{told}");
        let host = Ground { root: true, sys_admin: true, ..Ground::default() };
        assert_eq!(host.advice(words), None, "nothing is known of it");
    }

    #[test]
    fn a_helper_that_is_a_package_of_its_own_is_named() {
        // podman 4.3 of a user whom /etc/subuid gives ids, on Debian 12 without recommended packages.
        let words = "Error: command required for rootless mode with multiple IDs: exec: \"newuidmap\": executable file not found in $PATH";
        assert_eq!(advice(Ground::default(), words), "apt install uidmap");
    }

    #[test]
    fn limits_are_named() {
        let host = || Ground { root: true, sys_admin: true, ..Ground::default() };
        for (words, limit) in [
            ("can't start `/usr/bin/runc`: Resource temporarily unavailable (os error 11)", "ulimit -u"),
            ("runtime: failed to create new OS thread (have 2 already; errno=11)", "ulimit -u"),
            ("`runc` failed (exit status: 2): fatal error: failed to reserve page summary memory", "ulimit -v"),
            ("qemu: cannot set up guest memory 'ram': Cannot allocate memory", "ulimit -v"),
            ("error: Too many open files", "ulimit -n"),
            ("can't copy the binary: File too large (os error 27)", "ulimit -f"),
        ] {
            assert!(advice(host(), words).contains(limit), "{words}");
        }
        assert_eq!(host().advice("exec format error"), None);
    }

    #[test]
    fn capabilities_are_read_from_their_mask() {
        let status = |mask: &str| format!("Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t{mask}\n");
        assert!(has(&status("000001fffeffffff"), SYS_ADMIN));
        assert!(!has(&status("00000000a80425fb"), SYS_ADMIN), "a container's");
        assert!(!has("", SYS_ADMIN));
    }
}
