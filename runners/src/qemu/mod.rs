//! `qemu`: a virtual machine. A kernel that the host's distribution has installed boots from memory into our own binary as
//! its init; the data lies on a raw image on the host's file system. Nothing is downloaded.

mod accel;
mod command;
pub(crate) mod image;
pub(crate) mod initramfs;
pub(crate) mod kernel;
mod link;
mod memory;
pub(crate) mod options;
mod tsc;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};
use workloads::init::Orders;
use workloads::settings::{Setting, Settings};

use crate::engine;
use crate::fingerprint;
use crate::host::Host;
use crate::nfs::Server;
use crate::stage::Stage;
use crate::{Launch, Network, Runner, Unavailable};
use accel::Accelerator;
use command::{DRIVERS, DRIVERS_WHERE_THERE, Disk, Machine, Netdev, PROGRAM, TRANSLATION_MIB};
use initramfs::Boot;
use kernel::Kernel;
use link::Link;
use memory::Backing;
use options::{Accel, Bus, Data, DiskOptions, MachineType, Model, Options, SETTINGS};

/// A virtual machine under QEMU.
#[derive(Debug)]
pub struct Qemu;

const FIX: &str = "apt install qemu-system-x86 linux-image-cloud-amd64 e2fsprogs";

/// What QEMU itself holds besides the guest's memory and translated code, bytes: 45 MiB for the program, twice the kernel
/// and the initramfs (60 MiB here) for a reboot that never comes, stacks and buffers of its threads, page tables.
const MONITOR_BYTES: u64 = 256 << 20;

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
        let options = Options::read(&defaults).expect("the defaults go together");
        let kernel = find_kernel(host, &options).map_err(|e| absent(format!("{e:#}")))?;
        let accelerator = choose(host, Accel::Auto, &kernel).map_err(|e| Unavailable {
            because: format!("{e:#}"),
            fix: FIX.into(),
            broken: true,
        })?;
        // Settings are not known here, so this can only say what accel=auto means.
        Ok(match accelerator {
            Accelerator::Kvm => format!("QEMU {version}, guest Linux {}, auto is KVM", kernel.release),
            Accelerator::Tcg { because } => {
                format!("QEMU {version}, guest Linux {}, auto is TCG (KVM: {because})", kernel.release)
            }
        })
    }

    fn engine(&self, _settings: &Settings) -> Option<PathBuf> {
        engine::find(PROGRAM)
    }

    fn start_deadline(&self) -> Duration {
        // A guest of an emulated guest boots in 14 s where nothing else runs.
        Duration::from_secs(if fingerprint::nested().is_some() { 120 } else { 30 })
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let options = Options::read(settings)?;
        if !stage.host.static_binary {
            bail!("the binary needs a dynamic loader, which the guest lacks; build tarebench with +crt-static");
        }
        let kernel = find_kernel(&stage.host, &options)?;
        let accelerator = choose(&stage.host, options.accel, &kernel)?;
        check_against(&accelerator, &options)?;
        let boot = boot_files(&stage.host, &kernel, &options.drivers())?;
        let memory = Backing::make(options.memory, stage.host.resources.memory_bytes, stage.data())?;
        let image = match options.data {
            Data::Disk => Some(data_disk(stage, &options.disk)?),
            Data::Nfs => None,
        };
        let link = Link::make(options.net, stage)?;
        let server = match options.data {
            Data::Disk => None,
            Data::Nfs => Some(nfs_server(stage, &link)?),
        };
        let machine = Machine {
            name: &format!("tarebench-{}-{}", stage.host.id, stage.environment),
            kind: options.machine,
            accelerator: &accelerator,
            cpus: stage.host.resources.cpus,
            memory: memory.clone(),
            boot: &boot,
            orders: Orders {
                disk: image.as_ref().map(|_| command::name_in_guest(options.disk.bus).into()),
                nfs: server.as_ref().map(|(address, _)| *address),
                address: link.address,
                address6: link.address6,
                ..Orders::default()
            },
            disk: image.as_ref().map(|image| Disk { image, options: options.disk }),
            model: options.model,
            netdev: link.netdev,
            balloon: options.balloon,
        };
        let below = stage.data_file_system();
        let mut launch = Launch::new(machine.command()).data_path(match options.data {
            Data::Disk => format!("{} on {below}", data_path(&options)),
            Data::Nfs => format!("NFSv4 over the guest's network, exported by nfs-ganesha from {below}"),
        });
        launch.netns = link.netns;
        launch.network = link.network;
        launch.peer = link.peer;
        launch.peer6 = link.peer6;
        launch.memory_beside = MONITOR_BYTES;
        if let Some((_, server)) = server {
            // The guest has unmounted or is dead by then.
            launch = launch.cleanup(move || drop(server));
        }
        if let Some(passt) = link.passt {
            launch = launch.cleanup(move || drop(passt));
        }
        if let Some(file) = memory.file {
            // As large as the guest's memory, and of no use once it is gone.
            launch = launch.cleanup(move || {
                if let Err(e) = std::fs::remove_file(&file) {
                    log::warn!("can't remove {}: {e}", file.display());
                }
            });
        }
        if let Accelerator::Tcg { because } = accelerator {
            launch.memory_beside += TRANSLATION_MIB << 20;
            launch.emulated = Some(format!("QEMU TCG: {because}"));
        }
        Ok(launch)
    }
}

/// The stage's data directory, exported at the host's end of the guest's link.
fn nfs_server(stage: &Stage, link: &Link) -> anyhow::Result<(Ipv4Addr, Server)> {
    let (Network::Tap | Network::Vhost, Some(IpAddr::V4(address))) = (&link.network, link.peer) else {
        let because = stage.host.peer_network().err().unwrap_or("the link has no IPv4 address");
        bail!("data=nfs needs a tap device: {because}; set data=disk");
    };
    Ok((address, Server::start(&stage.host, address.into(), stage.data(), stage.scratch())?))
}

/// What can't be together with what runs the guest.
fn check_against(accelerator: &Accelerator, options: &Options) -> anyhow::Result<()> {
    if let Accelerator::Tcg { because } = accelerator
        && options.machine == MachineType::Microvm
        && options.disk.iothread
    {
        // QEMU's virtio-mmio has the notifiers that a thread waits for under KVM only.
        bail!("disk.iothread=true on machine=microvm needs KVM ({because}); set machine=q35, or disk.iothread=false");
    }
    Ok(())
}

/// The path from the guest's file system down to the image, as the report has it; the host's file system comes after it.
fn data_path(options: &Options) -> String {
    let DiskOptions { bus, format, allocation, cache, aio, iothread, .. } = options.disk;
    let bus = match (bus, options.machine) {
        (Bus::Virtio, _) => "virtio-blk",
        (Bus::Scsi, _) => "virtio-scsi",
        (Bus::Nvme, _) => "NVMe",
        (Bus::Ide, MachineType::Q35) => "AHCI",
        (Bus::Ide, _) => "IDE",
    };
    let iothread = if iothread { " in an I/O thread" } else { "" };
    format!("ext4 on {bus}, {format} ({allocation}), cache={cache}, aio={aio}{iothread},")
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

fn find_kernel(host: &Host, options: &Options) -> anyhow::Result<Kernel> {
    let needed = options.drivers();
    // Kernels for clouds lack the drivers of real hardware.
    let fix = match needed.iter().find(|driver| matches!(**driver, "e1000" | "ahci")) {
        Some(driver) => {
            format!("apt install linux-image-amd64 (or another kernel with {driver}), or set another device")
        }
        None => FIX.into(),
    };
    match &options.kernel {
        None => Kernel::find(&host.kernel, &needed).map_err(|e| anyhow::anyhow!("{e}; {fix}")),
        Some(path) => {
            let kernel = Kernel::at(path)?;
            kernel.modules(&needed).map_err(|e| e.context(format!("kernel={} won't do", path.display())))?;
            Ok(kernel)
        }
    }
}

fn choose(host: &Host, wanted: Accel, kernel: &Kernel) -> anyhow::Result<Accelerator> {
    match wanted {
        Accel::Kvm => Ok(Accelerator::Kvm),
        Accel::Tcg => Ok(Accelerator::Tcg { because: "emulation was asked for".into() }),
        Accel::Auto => {
            let version = qemu_version()?;
            let path = kernel.path.to_string_lossy();
            accel::choose(host, &[&version, &path, &kernel.release], || {
                let boot = boot_files(host, kernel, DRIVERS)?;
                let machine = Machine {
                    name: &format!("tarebench-{}-trial", host.id),
                    kind: MachineType::Q35,
                    accelerator: &Accelerator::Kvm,
                    cpus: 1,
                    memory: Backing::anonymous(256 << 20),
                    boot: &boot,
                    orders: Orders::default(),
                    disk: None,
                    model: Model::Virtio,
                    netdev: Netdev::None,
                    balloon: false,
                };
                Ok(Launch::new(machine.command()))
            })
        }
    }
}

/// Kernel and initramfs in the run's scratch, one pair per kernel and set of drivers.
pub(crate) fn boot_files(host: &Host, kernel: &Kernel, drivers: &[&str]) -> anyhow::Result<Boot> {
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
fn data_disk(stage: &Stage, options: &DiskOptions) -> anyhow::Result<PathBuf> {
    let path = stage.data().join(format!("disk.{}", options.format));
    if !path.exists() {
        // Under another name until complete: one that the disk had no room for must not be taken for a disk.
        let unfinished = stage.data().join("disk.unfinished");
        image::make(&unfinished, options.format, options.allocation, options.size)?;
        std::fs::rename(&unfinished, &path).with_context(|| format!("can't make {}", path.display()))?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        let given = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Options::read(&Settings::resolve(SETTINGS, &given).expect("valid one by one")).expect("possible together")
    }

    #[test]
    fn the_path_of_the_data_names_every_layer() {
        let qcow2 = [("disk.format", "qcow2"), ("disk.allocation", "sparse"), ("disk.cache", "writeback")];
        assert_eq!(data_path(&options(&qcow2)), "ext4 on virtio-blk, qcow2 (sparse), cache=writeback, aio=threads,");
        assert_eq!(
            data_path(&options(&[("disk.bus", "scsi"), ("disk.iothread", "true")])),
            "ext4 on virtio-scsi, raw (full), cache=none, aio=native in an I/O thread,"
        );
        assert!(data_path(&options(&[("disk.bus", "ide")])).starts_with("ext4 on AHCI,"));
        assert!(data_path(&options(&[("disk.bus", "ide"), ("machine", "pc")])).starts_with("ext4 on IDE,"));
    }

    #[test]
    fn an_io_thread_on_a_microvm_is_for_kvm_only() {
        let both = options(&[("machine", "microvm"), ("disk.iothread", "true")]);
        check_against(&Accelerator::Kvm, &both).expect("fine");
        let error = check_against(&Accelerator::Tcg { because: "no KVM".into() }, &both).expect_err("no").to_string();
        assert!(error.contains("no KVM") && error.contains("machine=q35"), "{error}");
    }
}
