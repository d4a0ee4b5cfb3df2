//! `qemu`: a virtual machine. A kernel that the host's distribution has installed boots from memory into our own binary as
//! its init; the data lies on a raw image on the host's file system. Nothing is downloaded.

mod accel;
mod command;
mod data;
mod link;
mod memory;
mod options;
mod share;
mod tsc;
mod value;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::utsname::uname;
use workloads::init::Orders;
use workloads::settings::{Setting, SettingError, Settings};

use crate::boxes::vm;
use crate::boxes::vm::arch::Arch;
use crate::boxes::vm::image;
use crate::boxes::vm::kernel::Kernel;
use crate::host::Host;
use crate::launch::{Launch, Runner};
use crate::process::Program;
use crate::stage::Stage;
use crate::unavailable::Unavailable;
use accel::Accelerator;
use command::{DRIVERS, Disk, Machine, Netdev, PROGRAM, TRANSLATION_MIB};
use data::Source;
use link::Link;
use memory::Backing;
use options::{Accel, MachineType, Model, Options, Overcommit};

/// A virtual machine under QEMU.
#[derive(Debug)]
pub struct Qemu;

const QEMU: Program = Program::of(PROGRAM, PACKAGE).or_fix(FIX);

const PACKAGE: &str = match Arch::HERE {
    Arch::X86 => "qemu-system-x86",
    Arch::Arm => "qemu-system-arm",
    Arch::RiscV => "qemu-system-misc",
};
const FIX: &str = match Arch::HERE {
    Arch::X86 => "apt install qemu-system-x86 linux-image-cloud-amd64 e2fsprogs",
    Arch::Arm => "apt install qemu-system-arm linux-image-cloud-arm64 e2fsprogs",
    Arch::RiscV => "apt install qemu-system-misc linux-image-riscv64 e2fsprogs",
};

/// Memory of QEMU itself besides the guest's and translated code, bytes: 45 MiB for the program, twice the kernel
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
        Options::TABLE
    }

    fn check(&self, settings: &Settings) -> Result<(), SettingError> {
        Options::read(settings).check(settings)
    }

    fn version(&self, host: &Host, settings: &Settings) -> Result<String, Unavailable> {
        let options = Options::read(settings);
        options.exists_for(Arch::HERE)?;
        let set = options.binary;
        let (program, version) = (QEMU.require(set.as_deref())?, QEMU.version(set.as_deref())?);
        if options.accel == Accel::Kvm {
            // QEMU's own words name no group.
            vm::require_kvm("accel=kvm")?;
        }
        let absent = |because: String| Unavailable { because, fix: FIX.into(), broken: false };
        image::mkfs().map_err(|e| absent(e.to_string()))?;
        let defaults = Settings::resolve(Options::TABLE, &Default::default()).expect("the defaults are valid");
        let kernel = vm::kernel(None, &host.kernel, &Options::read(&defaults).drivers())
            .map_err(|e| absent(format!("{e:#}")))?;
        let accelerator = choose(&program, host, Accel::Auto, &kernel).map_err(|e| Unavailable {
            because: format!("{e:#}"),
            fix: FIX.into(),
            broken: true,
        })?;
        // Of the other settings it knows nothing, so this can only say what accel=auto means.
        // Why it isn't KVM is said once, of the box that is emulated for it.
        let auto = if accelerator == Accelerator::Kvm { "KVM" } else { "TCG" };
        Ok(format!("QEMU {version}, guest Linux {}, auto is {auto}", kernel.release))
    }

    fn program(&self) -> Option<Program> {
        Some(QEMU)
    }

    fn start_deadline(&self) -> Duration {
        vm::start_deadline()
    }

    fn settled(&self, settings: &Settings, _privileged: bool) -> anyhow::Result<Vec<(&'static str, String)>> {
        let options = Options::read(settings);
        let running = uname()?.release().to_string_lossy().into_owned();
        let kernel = vm::kernel(options.kernel.as_deref(), &running, &options.drivers())?;
        Ok(vec![(vm::KERNEL.name, kernel.path.display().to_string())])
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let options = Options::read(settings);
        if !stage.host.static_binary {
            bail!("the binary needs a dynamic loader, which the guest lacks; build tarebench with +crt-static");
        }
        let program = QEMU.require(options.binary.as_deref())?;
        let kernel = vm::kernel(options.kernel.as_deref(), &stage.host.kernel, &options.drivers())?;
        let accelerator = choose(&program, &stage.host, options.accel, &kernel)?;
        check_against(&accelerator, &options)?;
        let memory_bytes = stage.host.resources.memory_bytes;
        if options.overcommit.mem_lock && !stage.host.privileged {
            let (limit, _) = getrlimit(Resource::RLIMIT_MEMLOCK).context("can't ask how much memory may be locked")?;
            memory::may_lock(memory_bytes + MONITOR_BYTES + (TRANSLATION_MIB << 20), limit)?;
        }
        let boot = vm::boot_files(&stage.host, &kernel, &options.drivers())?;
        let memory = Backing::make(options.effective_memory(), memory_bytes, stage.data())?;
        let link = Link::make(&options, stage)?;
        let source = Source::make(&options, &link, stage)?;
        let machine = Machine {
            program: &program,
            name: &format!("tarebench-{}-{}", stage.host.id, stage.environment),
            arch: Arch::HERE,
            kind: options.machine,
            accelerator: &accelerator,
            cpus: stage.host.resources.cpus,
            memory: memory.clone(),
            boot: &boot,
            orders: source.orders,
            disk: source.image.as_deref().map(|image| Disk { image, options: options.disk }),
            share: source.share,
            model: options.model,
            netdev: link.netdev,
            balloon: options.balloon,
            overcommit: options.overcommit,
        };
        let launch = Launch::new(machine.command()).on(&program).booting(&kernel).over(link.path);
        let launch = source.program.iter().fold(launch, |launch, server| launch.on(server));
        let mut launch = launch.data(data::path(&options, stage));
        launch.memory_beside = MONITOR_BYTES;
        launch.console = source.log;
        // The guest has unmounted or is dead by then.
        launch = launch.cleanup(move || drop((source.servers, link.passt)));
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

/// Refuses settings that only KVM can honour, where the guest is emulated.
fn check_against(accelerator: &Accelerator, options: &Options) -> anyhow::Result<()> {
    let Accelerator::Tcg { because } = accelerator else { return Ok(()) };
    if options.machine == MachineType::Microvm && options.disk.iothread {
        // QEMU's virtio-mmio has the notifiers that a thread waits for under KVM only.
        bail!("disk.iothread=true on machine=microvm needs KVM ({because}); set machine=q35, or disk.iothread=false");
    }
    if options.overcommit.cpu_pm {
        // QEMU takes it, and then an emulated CPU sleeps as ever.
        bail!("overcommit.cpu-pm=true needs KVM ({because}); set overcommit.cpu-pm=false");
    }
    Ok(())
}

fn choose(program: &Path, host: &Host, wanted: Accel, kernel: &Kernel) -> anyhow::Result<Accelerator> {
    match wanted {
        Accel::Kvm => Ok(Accelerator::Kvm),
        Accel::Tcg => Ok(Accelerator::Tcg { because: "emulation was asked for".into() }),
        Accel::Auto => {
            let version = QEMU.version(Some(program))?;
            let [qemu, path] = [program, &kernel.path].map(|p| p.to_string_lossy());
            accel::choose(host, &[&version, &qemu, &path, &kernel.release], || {
                let boot = vm::boot_files(host, kernel, DRIVERS)?;
                let machine = Machine {
                    program,
                    name: &format!("tarebench-{}-trial", host.id),
                    arch: Arch::HERE,
                    kind: MachineType::usual(Arch::HERE),
                    accelerator: &Accelerator::Kvm,
                    cpus: 1,
                    memory: Backing::anonymous(256 << 20),
                    boot: &boot,
                    orders: Orders::default(),
                    disk: None,
                    model: Model::Virtio,
                    netdev: Netdev::None,
                    balloon: false,
                    share: None,
                    overcommit: Overcommit::default(),
                };
                Ok(Launch::new(machine.command()))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        Options::read(&Settings::of(Options::TABLE, pairs))
    }

    #[test]
    fn a_cpu_is_kept_under_kvm_only() {
        let kept = options(&[("overcommit.cpu-pm", "true")]);
        check_against(&Accelerator::Kvm, &kept).expect("fine");
        let error = check_against(&Accelerator::Tcg { because: "no KVM".into() }, &kept).expect_err("no").to_string();
        assert!(error.contains("no KVM") && error.contains("cpu-pm=false"), "{error}");
    }

    #[test]
    fn an_io_thread_on_a_microvm_is_for_kvm_only() {
        let both = options(&[("machine", "microvm"), ("disk.iothread", "true")]);
        check_against(&Accelerator::Kvm, &both).expect("fine");
        let error = check_against(&Accelerator::Tcg { because: "no KVM".into() }, &both).expect_err("no").to_string();
        assert!(error.contains("no KVM") && error.contains("machine=q35"), "{error}");
    }
}
