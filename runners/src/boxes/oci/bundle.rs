//! The OCI bundle that runc and gVisor start from: one process in namespaces of its own, with the few mounts that it needs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};

use crate::stage::data::Layers;

/// The container's network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkNamespace {
    /// The one that the engine is started in.
    Inherited,
    /// This one.
    At(PathBuf),
    /// A new one with nothing but a loopback device.
    Empty,
}

/// The source of `/data`.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// A directory of the root itself.
    Root,
    /// This directory of the host.
    Bind(&'a Path),
    /// An overlay of these.
    Overlay(&'a Layers),
    /// A tmpfs.
    Memory,
}

/// The parts of a `config.json` that differ.
#[derive(Debug)]
pub struct Bundle<'a> {
    /// Root file system: absolute, and not through a symbolic link.
    pub root: &'a Path,
    /// Whether the root may be written to.
    pub writable: bool,
    pub data: Source<'a>,
    pub network: NetworkNamespace,
    /// `linux.cgroupsPath`; `None` where the engine keeps its hands off cgroups.
    pub cgroup: Option<String>,
    /// User and group on the host that become root inside, for an engine without privileges.
    pub mapped: Option<(u32, u32)>,
    /// `linux.seccomp`: a filter of system calls.
    pub seccomp: Option<Value>,
    /// `process.rlimits`, name and value: `RLIMIT_NOFILE`. Others are the harness's own.
    pub limits: Vec<(&'static str, u64)>,
}

/// Capabilities of the process inside.
pub(crate) const CAPABILITIES: &[&str] = &["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

impl Bundle<'_> {
    /// Writes `config.json` into `directory`, which is made.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let file = directory.join("config.json");
        fs::create_dir_all(directory)
            .and_then(|()| fs::write(&file, self.config().to_string()))
            .with_context(|| format!("can't write {}", file.display()))
    }

    /// The configuration: what `runc spec` writes, with our process, our mounts and no terminal. It sets no rlimits unless
    /// told to, because those of the harness, which the baseline runs under too, are inherited.
    pub fn config(&self) -> Value {
        let capabilities = json!(CAPABILITIES);
        let mut linux = json!({
            "namespaces": self.namespaces(),
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        });
        if let Some(cgroup) = &self.cgroup {
            linux["cgroupsPath"] = json!(cgroup);
            linux["resources"] = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
        }
        if let Some((uid, gid)) = self.mapped {
            linux["uidMappings"] = json!([{ "containerID": 0, "hostID": uid, "size": 1 }]);
            linux["gidMappings"] = json!([{ "containerID": 0, "hostID": gid, "size": 1 }]);
        }
        if let Some(filter) = &self.seccomp {
            linux["seccomp"] = filter.clone();
        }
        let limit = |(name, most): &(&str, u64)| json!({ "type": name, "soft": most, "hard": most });
        let rlimits: Vec<Value> = self.limits.iter().map(limit).collect();
        json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": { "uid": 0, "gid": 0 },
                "args": ["/tarebench", "agent", "--data", "/data"],
                "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
                "cwd": "/",
                "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
                "noNewPrivileges": true,
                "rlimits": rlimits,
            },
            "root": { "path": self.root, "readonly": !self.writable },
            "hostname": "tarebench",
            "mounts": self.mounts(),
            "linux": linux,
        })
    }

    fn namespaces(&self) -> Vec<Value> {
        let mut all: Vec<Value> = ["pid", "ipc", "uts", "mount"].iter().map(|kind| json!({ "type": kind })).collect();
        match &self.network {
            NetworkNamespace::Inherited => {}
            NetworkNamespace::At(path) => all.push(json!({ "type": "network", "path": path })),
            NetworkNamespace::Empty => all.push(json!({ "type": "network" })),
        }
        if self.mapped.is_some() {
            all.push(json!({ "type": "user" }));
        }
        all
    }

    fn mounts(&self) -> Vec<Value> {
        let mut all = vec![
            json!({ "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] }),
            json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                    "options": ["nosuid", "strictatime", "mode=755", "size=64k"] }),
            json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"] }),
        ];
        // A fresh sysfs belongs to the owner of the network namespace: without privileges the host's is shown instead.
        all.push(if self.mapped.is_some() && self.network == NetworkNamespace::Inherited {
            json!({ "destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"] })
        } else {
            json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] })
        });
        match self.data {
            Source::Root => {}
            Source::Bind(data) => {
                all.push(json!({ "destination": "/data", "type": "bind", "source": data, "options": ["bind", "rw"] }));
            }
            Source::Overlay(layers) => {
                let layer = |name: &str, path: &Path| format!("{name}={}", path.display());
                let options = [
                    layer("lowerdir", &layers.lower),
                    layer("upperdir", &layers.upper),
                    layer("workdir", &layers.work),
                ];
                all.push(json!({ "destination": "/data", "type": "overlay", "source": "overlay", "options": options }));
            }
            Source::Memory => {
                all.push(json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev"] }));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle() -> Bundle<'static> {
        Bundle {
            root: Path::new("/scratch/root"),
            writable: false,
            data: Source::Bind(Path::new("/srv/data")),
            network: NetworkNamespace::At("/run/netns/x".into()),
            cgroup: Some("box".into()),
            mapped: None,
            seccomp: None,
            limits: Vec::new(),
        }
    }

    #[test]
    fn layers_become_an_overlay_and_a_limit_a_limit() {
        let layers = Layers { lower: "/d/l".into(), upper: "/d/u".into(), work: "/d/w".into() };
        let config =
            Bundle { data: Source::Overlay(&layers), limits: vec![("RLIMIT_NOFILE", 99)], ..bundle() }.config();
        let data = config["mounts"].as_array().expect("mounts").iter().find(|m| m["destination"] == "/data");
        let options = &data.expect("data is mounted")["options"];
        assert_eq!(options, &json!(["lowerdir=/d/l", "upperdir=/d/u", "workdir=/d/w"]));
        assert_eq!(config["process"]["rlimits"], json!([{ "type": "RLIMIT_NOFILE", "soft": 99, "hard": 99 }]));
        assert_eq!(bundle().config()["process"]["rlimits"], json!([]));
    }

    #[test]
    fn the_data_directory_is_bound_and_the_root_is_read_only() {
        let config = bundle().config();
        assert_eq!(config["root"], json!({ "path": "/scratch/root", "readonly": true }));
        let data = config["mounts"].as_array().expect("mounts").iter().find(|m| m["destination"] == "/data");
        assert_eq!(data.expect("data is mounted")["source"], "/srv/data");
        assert_eq!(config["process"]["args"], json!(["/tarebench", "agent", "--data", "/data"]));
        assert_eq!(config["process"]["terminal"], false);
    }

    #[test]
    fn each_kind_of_network_has_its_namespace_entry() {
        let entry = |network| {
            let config = Bundle { network, ..bundle() }.config();
            let all = config["linux"]["namespaces"].as_array().expect("namespaces").clone();
            all.into_iter().find(|n| n["type"] == "network")
        };
        assert_eq!(entry(NetworkNamespace::Inherited), None);
        assert_eq!(entry(NetworkNamespace::Empty), Some(json!({ "type": "network" })));
        let at = entry(NetworkNamespace::At("/run/netns/x".into()));
        assert_eq!(at, Some(json!({ "type": "network", "path": "/run/netns/x" })));
    }

    #[test]
    fn without_privileges_users_are_mapped_and_sysfs_is_the_hosts() {
        let b = Bundle { mapped: Some((1000, 100)), network: NetworkNamespace::Inherited, cgroup: None, ..bundle() };
        let config = b.config();
        assert_eq!(config["linux"]["uidMappings"], json!([{ "containerID": 0, "hostID": 1000, "size": 1 }]));
        assert!(config["linux"].get("cgroupsPath").is_none());
        assert!(config["mounts"].as_array().expect("mounts").iter().any(|m| m["source"] == "/sys"));
    }
}
