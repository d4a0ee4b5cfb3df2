//! `qemu`: a virtual machine. A kernel that the host's distribution has installed boots from memory into our own binary as
//! its init; the data lies on a raw image on the host's file system. Nothing is downloaded.

mod accel;
mod command;
mod image;
mod initramfs;
mod kernel;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};
use workloads::init::Orders;
use workloads::settings::{Kind, Setting, Settings};

use crate::engine;
use crate::host::Host;
use crate::network;
use crate::nfs::Server;
use crate::stage::Stage;
use crate::{Launch, Network, Runner, Unavailable};
use accel::Accelerator;
use command::{
    DRIVERS, DRIVERS_WHERE_THERE, Disk, Machine, Net, PROGRAM, TRANSLATION_MIB, USER_GUEST, USER_GUEST6, USER_PEER,
    USER_PEER6,
};
use initramfs::Boot;
use kernel::Kernel;

/// A virtual machine under QEMU.
#[derive(Debug)]
pub struct Qemu;

const FIX: &str = "apt install qemu-system-x86 linux-image-cloud-amd64 e2fsprogs";

/// What QEMU itself holds besides the guest's memory and translated code, bytes: 45 MiB for the program, twice the kernel
/// and the initramfs (60 MiB here) for a reboot that never comes, stacks and buffers of its threads, page tables.
const MONITOR_BYTES: u64 = 256 << 20;

const SETTINGS: &[Setting] = &[
    Setting {
        name: "accel",
        kind: Kind::Choice(&["auto", "kvm", "tcg"]),
        default: "auto",
        about: "What runs the guest's instructions; auto is KVM where a guest really boots under it, else emulation (TCG)",
    },
    Setting {
        name: "machine",
        // No microvm: with PCI devices its guest never said hello under TCG, 2 of 2 starts.
        kind: Kind::Choice(&["q35", "pc"]),
        default: "q35",
        about: "QEMU's machine type",
    },
    Setting {
        name: "data",
        kind: Kind::Choice(&["disk", "nfs"]),
        default: "disk",
        about: "An ext4 on a disk image, or an NFSv4 export of the host's directory (nfs-ganesha, over the guest's tap device)",
    },
    Setting {
        name: "disk.bus",
        kind: Kind::Choice(&["virtio", "virtio-scsi", "nvme", "ide"]),
        default: "virtio",
        about: "How the guest sees its data disk",
    },
    Setting {
        name: "disk.cache",
        kind: Kind::Choice(&["none", "writeback", "writethrough", "directsync", "unsafe"]),
        default: "none",
        about: "Whether the host's page cache is used, and whether the guest's flushes reach the host (unsafe: they don't)",
    },
    Setting {
        name: "disk.aio",
        kind: Kind::Choice(&["auto", "native", "threads", "io_uring"]),
        default: "auto",
        about: "How QEMU does the disk's I/O; auto is native where the host's page cache is not used, else threads",
    },
    Setting {
        name: "disk.size",
        kind: Kind::Bytes { min: 32 << 20, max: 1 << 40 },
        default: "512MiB",
        about: "Size of the data disk; all of it is written once before the first start",
    },
    Setting {
        name: "net",
        kind: Kind::Choice(&["auto", "tap", "user", "none"]),
        default: "auto",
        about: "How the guest reaches the peer; auto is a tap device as root, else QEMU's user-mode address translation",
    },
    Setting {
        name: "kernel",
        kind: Kind::Path,
        default: "",
        about: "The guest's kernel, a bzImage or an ELF file; empty for the best that is installed, cloud kernels first",
    },
];

impl Runner for Qemu {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn about(&self) -> &'static str {
        "A virtual machine under QEMU, with the hardware's help (KVM) where that works, else emulated (TCG)"
    }

    fn settings(&self) -> &'static [Setting] {
        SETTINGS
    }

    fn version(&self, host: &Host) -> Result<String, Unavailable> {
        let version = qemu_version()?;
        let absent = |because: String| Unavailable { because, fix: FIX.into(), broken: false };
        image::mkfs().map_err(|e| absent(e.to_string()))?;
        let defaults = Settings::resolve(SETTINGS, &Default::default()).expect("the defaults are valid");
        let kernel = find_kernel(host, &defaults).map_err(|e| absent(format!("{e:#}")))?;
        let accelerator = choose(host, "auto", &kernel).map_err(|e| Unavailable {
            because: format!("{e:#}"),
            fix: FIX.into(),
            broken: true,
        })?;
        Ok(match accelerator {
            Accelerator::Kvm => format!("QEMU {version}, KVM, guest Linux {}", kernel.release),
            Accelerator::Tcg { because } => {
                format!("QEMU {version}, TCG, guest Linux {} (KVM: {because})", kernel.release)
            }
        })
    }

    fn engine(&self, _settings: &Settings) -> Option<PathBuf> {
        engine::find(PROGRAM)
    }

    fn start_deadline(&self) -> Duration {
        // As long as a run waits: what it would accept a probe must not refuse.
        Duration::from_secs(30)
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        check(settings)?;
        if !stage.host.static_binary {
            bail!("the binary needs a dynamic loader, which the guest lacks; build tarebench with +crt-static");
        }
        let kernel = find_kernel(&stage.host, settings)?;
        let accelerator = choose(&stage.host, settings.get("accel"), &kernel)?;
        let boot = boot_files(&stage.host, &kernel, &drivers(settings))?;
        let bus = settings.get("disk.bus");
        let on_nfs = settings.get("data") == "nfs";
        let image = if on_nfs { None } else { Some(data_disk(stage, settings.number("disk.size"))?) };
        let link = Link::make(settings.get("net"), stage)?;
        let server = if on_nfs { Some(nfs_server(stage, &link)?) } else { None };
        let cache = settings.get("disk.cache");
        let machine = Machine {
            name: &format!("tarebench-{}-{}", stage.host.id, stage.environment),
            kind: settings.get("machine"),
            accelerator: &accelerator,
            cpus: stage.host.resources.cpus,
            memory_bytes: stage.host.resources.memory_bytes,
            boot: &boot,
            orders: Orders {
                disk: image.as_ref().map(|_| Disk::in_guest(bus).0.into()),
                nfs: server.as_ref().map(|(address, _)| *address),
                address: link.address,
                address6: link.address6,
            },
            disk: image.as_ref().map(|image| Disk { image, bus, cache, aio: aio(settings.get("disk.aio"), cache) }),
            net: link.net,
        };
        let below = stage.data_file_system();
        let mut launch = Launch::new(machine.command()).data_path(match &server {
            Some(_) => format!("NFSv4 over the guest's network, exported by nfs-ganesha from {below}"),
            None => format!("ext4 in the guest on {bus}, cache={cache}, a raw image on {below}"),
        });
        if let Some((_, server)) = server {
            // The guest has unmounted or is dead by then.
            launch = launch.cleanup(move || drop(server));
        }
        launch.netns = link.netns;
        launch.network = link.network;
        launch.peer = link.peer;
        launch.peer6 = link.peer6;
        launch.memory_beside = MONITOR_BYTES;
        if let Accelerator::Tcg { because } = accelerator {
            launch.memory_beside += TRANSLATION_MIB << 20;
            launch.emulated = Some(format!("QEMU TCG: {because}"));
        }
        Ok(launch)
    }
}

/// Settings that can't be together.
fn check(settings: &Settings) -> anyhow::Result<()> {
    let (machine, bus) = (settings.get("machine"), settings.get("disk.bus"));
    if bus == "ide" && machine != "pc" {
        bail!("disk.bus=ide is on machine=pc only, not on {machine}: kernels for clouds have no driver for its AHCI");
    }
    if settings.get("data") == "nfs" && matches!(settings.get("net"), "none" | "user") {
        bail!(
            "data=nfs needs net=tap: the export is reached over the guest's tap device, not with net={}",
            settings.get("net")
        );
    }
    let (aio, cache) = (settings.get("disk.aio"), settings.get("disk.cache"));
    if aio == "native" && !bypasses_page_cache(cache) {
        bail!("disk.aio=native needs disk.cache=none or directsync, not {cache}; try disk.aio=threads");
    }
    Ok(())
}

/// The stage's data directory, exported at the host's end of the guest's link.
fn nfs_server(stage: &Stage, link: &Link) -> anyhow::Result<(Ipv4Addr, Server)> {
    let (Network::Tap, Some(IpAddr::V4(address))) = (&link.network, link.peer) else {
        let because = stage.host.peer_network().err().unwrap_or("the link has no IPv4 address");
        bail!("data=nfs needs a tap device: {because}; set data=disk");
    };
    Ok((address, Server::start(&stage.host, address.into(), stage.data(), stage.scratch())?))
}

fn bypasses_page_cache(cache: &str) -> bool {
    matches!(cache, "none" | "directsync")
}

/// `native` submits from QEMU's own thread; `threads` hands every request to another thread, which where QEMU has one CPU
/// is two context switches that no real disk has. Linux does native I/O only past the page cache.
fn aio<'a>(wanted: &'a str, cache: &str) -> &'a str {
    match wanted {
        "auto" if bypasses_page_cache(cache) => "native",
        "auto" => "threads",
        other => other,
    }
}

fn qemu_version() -> Result<String, Unavailable> {
    let mut command = Command::new(PROGRAM);
    let output = command.arg("--version").stdin(Stdio::null()).output().map_err(|e| Unavailable {
        because: match e.kind() {
            std::io::ErrorKind::NotFound => format!("{PROGRAM} is not installed"),
            _ => format!("can't start {PROGRAM}: {e}"),
        },
        fix: FIX.into(),
        broken: e.kind() != std::io::ErrorKind::NotFound,
    })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().skip_while(|w| *w != "version").nth(1);
    version.map(|v| v.trim_end_matches(',').to_string()).ok_or_else(|| Unavailable {
        because: format!("`{PROGRAM} --version` says no version: {}", String::from_utf8_lossy(&output.stderr).trim()),
        fix: FIX.into(),
        broken: true,
    })
}

/// All drivers that a guest with these settings needs.
fn drivers(settings: &Settings) -> Vec<&'static str> {
    let disk = if settings.get("data") == "nfs" { &["nfsv4"] } else { Disk::in_guest(settings.get("disk.bus")).1 };
    let net: &[_] = if settings.get("net") == "none" { &[] } else { &["virtio_net"] };
    [DRIVERS, disk, net].concat()
}

fn find_kernel(host: &Host, settings: &Settings) -> anyhow::Result<Kernel> {
    let needed = drivers(settings);
    match settings.get("kernel") {
        "" => Kernel::find(&host.kernel, &needed).map_err(|e| anyhow::anyhow!("{e}; {FIX}")),
        path => {
            let kernel = Kernel::at(Path::new(path))?;
            kernel.modules(&needed)?;
            Ok(kernel)
        }
    }
}

fn choose(host: &Host, wanted: &str, kernel: &Kernel) -> anyhow::Result<Accelerator> {
    match wanted {
        "kvm" => Ok(Accelerator::Kvm),
        "tcg" => Ok(Accelerator::Tcg { because: "emulation was asked for".into() }),
        _ => {
            let version = qemu_version()?;
            let path = kernel.path.to_string_lossy();
            accel::choose(host, &[&version, &path, &kernel.release], || {
                let boot = boot_files(host, kernel, DRIVERS)?;
                let machine = Machine {
                    name: &format!("tarebench-{}-trial", host.id),
                    kind: "q35",
                    accelerator: &Accelerator::Kvm,
                    cpus: 1,
                    memory_bytes: 256 << 20,
                    boot: &boot,
                    orders: Orders::default(),
                    disk: None,
                    net: Net::None,
                };
                Ok(Launch::new(machine.command()))
            })
        }
    }
}

/// Kernel and initramfs in the run's scratch, one pair per kernel and set of drivers.
fn boot_files(host: &Host, kernel: &Kernel, drivers: &[&str]) -> anyhow::Result<Boot> {
    let mut drivers = drivers.to_vec();
    drivers.extend(DRIVERS_WHERE_THERE.iter().filter(|one| kernel.modules(&[one]).is_ok()));
    let mut hash = Sha256::new();
    for part in [&*kernel.path.to_string_lossy()].iter().chain(&drivers) {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let key: String = hash.finalize().iter().take(6).map(|b| format!("{b:02x}")).collect();
    initramfs::make(&host.scratch.join(format!("guest.{key}")), kernel, &drivers, &host.binary)
        .context("can't make what the guest boots")
}

/// The stage's data disk, made at its first start and kept for the next ones, as the data directories of others are.
fn data_disk(stage: &Stage, bytes: u64) -> anyhow::Result<PathBuf> {
    let path = stage.data().join("disk.raw");
    if !path.exists() {
        // Under another name until complete: one that the disk had no room for must not be taken for a disk.
        let unfinished = stage.data().join("disk.unfinished");
        image::make(&unfinished, bytes)?;
        std::fs::rename(&unfinished, &path).with_context(|| format!("can't make {}", path.display()))?;
    }
    Ok(path)
}

/// The guest's path to the peer.
struct Link {
    net: Net,
    network: Network,
    address: Option<(Ipv4Addr, u8)>,
    address6: Option<(Ipv6Addr, u8)>,
    peer: Option<IpAddr>,
    peer6: Option<Ipv6Addr>,
    netns: Option<PathBuf>,
}

impl Link {
    fn make(wanted: &str, stage: &mut Stage) -> anyhow::Result<Self> {
        if wanted == "none" {
            return Ok(Self {
                net: Net::None,
                network: Network::None,
                address: None,
                address6: None,
                peer: None,
                peer6: None,
                netns: None,
            });
        }
        let tap = if wanted == "user" { None } else { stage.tap()? };
        match tap {
            Some(tap) => {
                let IpAddr::V4(guest) = tap.guest else { bail!("the guest can't be given the address {}", tap.guest) };
                Ok(Self {
                    net: Net::Tap(tap.device),
                    network: Network::Tap,
                    address: Some((guest, tap.prefix)),
                    address6: tap.guest6,
                    peer: Some(tap.peer),
                    peer6: tap.peer6,
                    netns: Some(tap.netns),
                })
            }
            None if wanted == "tap" => {
                let because = stage.host.peer_network().err().unwrap_or("there is none").to_string();
                bail!("net=tap needs a tap device: {because}; try net=user")
            }
            // QEMU forwards to the loopback of the namespace it runs in, and that has to be where the peer listens.
            None => {
                let (netns, ipv6) = match stage.host.peer_network() {
                    Ok(network) => (Some(network.netns().path()), network.ipv6()),
                    Err(_) => (None, network::loopback_has_ipv6()),
                };
                Ok(Self {
                    net: Net::User,
                    network: Network::UserNat,
                    address: Some(USER_GUEST),
                    address6: ipv6.then_some(USER_GUEST6),
                    peer: Some(USER_PEER.into()),
                    peer6: ipv6.then_some(USER_PEER6),
                    netns,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Settings {
        let given = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Settings::resolve(SETTINGS, &given).expect("valid one by one")
    }

    #[test]
    fn settings_that_can_not_be_together_are_refused_with_a_way_out() {
        let ide = check(&with(&[("disk.bus", "ide")])).expect_err("q35 has no IDE").to_string();
        assert!(ide.contains("machine=pc"), "{ide}");
        let aio =
            check(&with(&[("disk.aio", "native"), ("disk.cache", "unsafe")])).expect_err("not direct").to_string();
        assert!(aio.contains("disk.aio=threads"), "{aio}");
        let nfs = check(&with(&[("data", "nfs"), ("net", "user")])).expect_err("not over slirp").to_string();
        assert!(nfs.contains("net=tap"), "{nfs}");
        check(&with(&[("disk.bus", "ide"), ("machine", "pc"), ("disk.cache", "writeback")]))
            .expect("these go together");
    }

    #[test]
    fn drivers_follow_the_settings() {
        assert_eq!(
            drivers(&with(&[("net", "none"), ("disk.bus", "nvme")])),
            ["virtio_pci", "virtio_console", "ext4", "nvme"]
        );
        assert!(drivers(&with(&[])).contains(&"virtio_net"));
    }
}
