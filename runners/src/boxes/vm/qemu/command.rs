//! QEMU's command line: the machine, its devices and what the kernel is told.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

use workloads::init::{Orders, PORT};

use super::accel::Accelerator;
use super::memory::Backing;
use super::options::{Bus, DiskOptions, MachineType, Model, Overcommit};
use super::share::Share;
use super::tsc;
use super::value::value;
use crate::boxes::vm::arch::Arch;
use crate::boxes::vm::initramfs::Boot;

/// The emulator.
pub const PROGRAM: &str = match Arch::HERE {
    Arch::X86 => "qemu-system-x86_64",
    Arch::Arm => "qemu-system-aarch64",
    Arch::RiscV => "qemu-system-riscv64",
};

/// Translated code that QEMU keeps, MiB. Its own default of 1 GiB would count against the memory of the host; kernel and
/// agent need less than this, so nothing is translated twice.
pub const TRANSLATION_MIB: u64 = 128;

/// A firmware that does nothing but start a kernel; comes with QEMU in most distributions.
const QBOOT: &str = "/usr/share/qemu/qboot.rom";

/// Drivers of the smallest guest that says hello.
pub const DRIVERS: &[&str] = &["virtio_pci", "virtio_console", "ext4"];

/// The data disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk<'a> {
    /// The image.
    pub image: &'a Path,
    /// How the guest sees it, and how QEMU serves it.
    pub options: DiskOptions,
}

/// Device node of the one disk in the guest.
pub fn name_in_guest(bus: Bus) -> &'static Path {
    Path::new(match bus {
        Bus::Virtio => "/dev/vda",
        Bus::Nvme => "/dev/nvme0n1",
        Bus::Scsi | Bus::Ide => "/dev/sda",
    })
}

/// The network device's end on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Netdev {
    /// None at all.
    None,
    /// QEMU's own address translation, for which it needs no privileges.
    User {
        /// The guest's port that the loopback of QEMU's namespace forwards to.
        published: Option<u16>,
    },
    /// An existing tap device.
    Tap {
        /// The interface on the host.
        device: String,
        /// Whether the host's kernel passes its packets on.
        vhost: bool,
    },
    /// A passt that listens here.
    Passt(PathBuf),
}

/// The guest's address in QEMU's user-mode network, with the length of its prefix.
pub const USER_GUEST: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 0, 2, 15), 24);
/// The address there that leads to the host's loopback.
pub const USER_PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// As [`USER_GUEST`], in IPv6.
pub const USER_GUEST6: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0x15), 64);
/// As [`USER_PEER`], in IPv6.
pub const USER_PEER6: Ipv6Addr = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 2);

/// A whole machine.
#[derive(Debug)]
pub struct Machine<'a> {
    /// QEMU itself.
    pub program: &'a Path,
    /// Shown in the list of processes.
    pub name: &'a str,
    /// The processor's architecture.
    pub arch: Arch,
    /// QEMU's machine type.
    pub kind: MachineType,
    /// KVM or emulation.
    pub accelerator: &'a Accelerator,
    /// Number of virtual CPUs.
    pub cpus: u32,
    /// Memory of the guest.
    pub memory: Backing,
    /// Kernel and initramfs.
    pub boot: &'a Boot,
    /// Orders to the guest's init, on the kernel command line.
    pub orders: Orders,
    /// The data disk, where there is one.
    pub disk: Option<Disk<'a>>,
    /// The directory, where data lies in one.
    pub share: Option<Share>,
    /// The network device.
    pub model: Model,
    /// Its end on the host.
    pub netdev: Netdev,
    /// Whether it has a balloon that reports freed pages.
    pub balloon: bool,
    /// Resources that it doesn't share with the rest of the host.
    pub overcommit: Overcommit,
}

/// The plainest CPU that has what guests want: with RDRAND random numbers are ready at once, for which others get a seed from QEMU.
/// Of Arm's the default would be one of 32 bits.
fn emulated_cpu(arch: Arch) -> &'static str {
    match arch {
        Arch::X86 => "qemu64,+rdrand",
        Arch::Arm => "cortex-a72",
        Arch::RiscV => "rv64",
    }
}

impl Machine<'_> {
    /// QEMU with all that as arguments: the channel on stdin and stdout, the guest's console on stderr.
    pub fn command(&self) -> Command {
        let mut q = Command::new(self.program);
        // Threads by their names show whose time it is that the host counts.
        q.arg("-name").arg(format!("{},debug-threads=on", self.name.replace(',', ",,")));
        q.args(["-nodefaults", "-no-user-config", "-no-reboot"]).args(["-display", "none"]);
        let memory = self.memory.add_to(&mut q);
        // Left to choose, it takes the interrupt controller of 2008, which has room for 8 CPUs.
        let interrupts = if self.arch == Arch::Arm { ",gic-version=max" } else { "" };
        q.arg("-machine").arg(format!("{}{interrupts}{memory}", self.kind));
        // SeaBIOS looks for disks to boot from, which here costs 0.2 s of emulated time and finds nothing.
        if self.arch == Arch::X86 && Path::new(QBOOT).exists() {
            q.args(["-bios", QBOOT]);
        }
        match self.accelerator {
            Accelerator::Kvm => q.args(["-accel", "kvm"]).args(["-cpu", "host"]),
            // QEMU's default CPU, and not `max`: what `max` adds are instructions dear to emulate, which libc then prefers.
            Accelerator::Tcg { .. } => {
                q.arg("-accel").arg(format!("tcg,tb-size={TRANSLATION_MIB}")).args(["-cpu", emulated_cpu(self.arch)])
            }
        };
        q.arg("-smp").arg(self.cpus.to_string());
        q.arg("-m").arg(format!("{}k", self.memory.bytes / 1024));
        q.arg("-kernel").arg(&self.boot.kernel).arg("-initrd").arg(&self.boot.initramfs);
        q.arg("-append").arg(self.kernel_arguments());
        q.args(["-chardev", "stdio,id=channel,signal=off"]);
        // How virtio devices are attached.
        let way = if self.kind == MachineType::Microvm { "device" } else { "pci" };
        q.arg("-device").arg(format!("virtio-serial-{way}"));
        q.arg("-device").arg(format!("virtserialport,chardev=channel,name={PORT}"));
        // What the guest's kernel says before it dies is what an error quotes. A pipe that is always read can't fill up.
        q.args(["-chardev", "file,id=console,path=/dev/stderr"]).args(["-serial", "chardev:console"]);
        if let Some(disk) = &self.disk {
            disk.add_to(&mut q, way);
        }
        if let Some(share) = &self.share {
            if self.kind == MachineType::Microvm && matches!(share, Share::Virtiofs(_)) {
                // Its devices are those of before virtio 1.0 unless told otherwise, and virtiofsd hangs up on such.
                q.args(["-global", "virtio-mmio.force-legacy=false"]);
            }
            share.add_to(&mut q, way);
        }
        self.add_network(&mut q, way);
        if self.overcommit.mem_lock {
            q.args(["-overcommit", "mem-lock=on"]);
        }
        if self.overcommit.cpu_pm {
            q.args(["-overcommit", "cpu-pm=on"]);
        }
        if self.balloon {
            q.arg("-device").arg(format!("virtio-balloon-{way},free-page-reporting=on"));
        }
        q
    }

    fn add_network(&self, q: &mut Command, way: &str) {
        let netdev = match &self.netdev {
            Netdev::None => return,
            Netdev::User { published } => {
                let six = if self.orders.address6.is_some() { "" } else { ",ipv6=off" };
                let forward = published.map(|port| format!(",hostfwd=tcp:127.0.0.1:{port}-:{port}"));
                format!("user,id=net{six}{}", forward.unwrap_or_default())
            }
            Netdev::Tap { device, vhost } => {
                let vhost = if *vhost { ",vhost=on" } else { "" };
                format!("tap,id=net,ifname={device},script=no,downscript=no{vhost}")
            }
            Netdev::Passt(socket) => {
                format!("stream,id=net,server=off,addr.type=unix,addr.path={}", value(socket))
            }
        };
        q.arg("-netdev").arg(netdev);
        // No boot ROM: nothing boots from this.
        match (self.model, self.kind) {
            (Model::E1000, _) => q.args(["-device", "e1000,netdev=net,romfile="]),
            (Model::Virtio, MachineType::Microvm) => q.args(["-device", "virtio-net-device,netdev=net"]),
            (Model::Virtio, _) => q.arg("-device").arg(format!("virtio-net-{way},netdev=net,romfile=")),
        };
    }

    /// `quiet` because an emulated UART costs an exit per byte; the kernel's self tests of its ciphers, a third of a second
    /// under emulation, have no part in any workload. A panic ends the machine, which `-no-reboot` turns into QEMU's end.
    ///
    /// The frequency of the clock is left for the guest to find, but for an emulated microvm: that has no timer to compare
    /// with that the emulation serves in time, and its kernel never gets beyond the comparison (0 of 4 starts). Told the rate
    /// alone it checks the counter against timer ticks, of which an emulated machine loses many, and then takes those for
    /// its clock: steps of 4 ms, 28 % slow.
    fn kernel_arguments(&self) -> String {
        let mut words = format!("console={} quiet panic=-1 cryptomgr.notests=1", self.arch.serial());
        if self.kind == MachineType::Microvm && *self.accelerator != Accelerator::Kvm {
            words += &format!(" tsc_early_khz={} tsc=reliable no_timer_check", tsc::khz());
        }
        format!("{words} {}", self.orders).trim_end().to_string()
    }
}

impl Disk<'_> {
    fn add_to(&self, q: &mut Command, way: &str) {
        let file = value(self.image);
        let DiskOptions { bus, format, cache, iothread, .. } = self.options;
        let aio = self.options.effective_aio();
        q.arg("-drive").arg(format!("file={file},if=none,id=data,format={format},cache={cache},aio={aio}"));
        if iothread {
            q.args(["-object", "iothread,id=disk"]);
        }
        let thread = if iothread { ",iothread=disk" } else { "" };
        match bus {
            Bus::Virtio => q.arg("-device").arg(format!("virtio-blk-{way},drive=data{thread}")),
            Bus::Scsi => {
                q.arg("-device").arg(format!("virtio-scsi-{way}{thread}")).args(["-device", "scsi-hd,drive=data"])
            }
            Bus::Nvme => q.args(["-device", "nvme,drive=data,serial=tarebench"]),
            Bus::Ide => q.args(["-device", "ide-hd,drive=data"]),
        };
    }
}

#[cfg(test)]
mod tests {
    use workloads::settings::Settings;

    use super::super::options::{Memory, Security};
    use super::*;

    fn line(change: impl FnOnce(&mut Machine)) -> String {
        let boot = Boot { kernel: "/k".into(), initramfs: "/i".into() };
        let mut machine = Machine {
            program: Path::new("qemu"),
            name: "tarebench-x",
            arch: Arch::X86,
            kind: MachineType::Q35,
            accelerator: &Accelerator::Kvm,
            cpus: 2,
            memory: Backing::anonymous(512 << 20),
            boot: &boot,
            orders: Orders {
                disk: Some("/dev/vda".into()),
                address: Some(USER_GUEST),
                address6: Some(USER_GUEST6),
                ..Orders::default()
            },
            disk: Some(Disk { image: Path::new("/a,b"), options: options(&[]) }),
            model: Model::Virtio,
            netdev: Netdev::Tap { device: "tare0".into(), vhost: false },
            balloon: false,
            share: None,
            overcommit: Overcommit::default(),
        };
        change(&mut machine);
        let command = machine.command();
        let words: Vec<_> = command.get_args().map(|a| a.to_string_lossy()).collect();
        words.join(" ")
    }

    fn options(pairs: &[(&str, &str)]) -> DiskOptions {
        DiskOptions::read(&Settings::of(DiskOptions::TABLE, pairs))
    }

    fn holds(line: &str, parts: &[&str]) {
        for part in parts {
            assert!(line.contains(part), "no `{part}` in `{line}`");
        }
    }

    #[test]
    fn the_command_line_reads_like_the_shell() {
        let parts = [
            "-machine q35 ",
            "-accel kvm -cpu host -smp 2 -m 524288k -kernel /k -initrd /i",
            "panic=-1 cryptomgr.notests=1 tarebench.disk=/dev/vda tarebench.address=10.0.2.15/24 tarebench.address6=fec0::15/64",
            "-drive file=/a,,b,if=none,id=data,format=raw,cache=none,aio=native -device virtio-blk-pci,drive=data",
            "-netdev tap,id=net,ifname=tare0,script=no,downscript=no -device virtio-net-pci,netdev=net,romfile=",
        ];
        holds(&line(|_| {}), &parts);
    }

    #[test]
    fn every_setting_finds_its_way_to_qemu() {
        let memory = Backing { kind: Memory::File, bytes: 1 << 20, file: Some("/m,n".into()) };
        let scsi =
            [("disk.bus", "scsi"), ("disk.format", "qcow2"), ("disk.iothread", "true"), ("disk.aio", "io_uring")];
        let words = line(|m| {
            m.kind = MachineType::Microvm;
            m.memory = memory;
            m.disk.as_mut().expect("there is one").options = options(&scsi);
            m.balloon = true;
            m.netdev = Netdev::Passt("/p,q".into());
        });
        let parts = [
            "-object memory-backend-file,id=memory,size=1048576,share=on,mem-path=/m,,n",
            "-machine microvm,memory-backend=memory ",
            "cryptomgr.notests=1 tarebench.disk",
            "virtio-serial-device",
            "format=qcow2,cache=none,aio=io_uring -object iothread,id=disk -device virtio-scsi-device,iothread=disk",
            "-netdev stream,id=net,server=off,addr.type=unix,addr.path=/p,,q -device virtio-net-device,netdev=net",
            "-device virtio-balloon-device,free-page-reporting=on",
        ];
        holds(&words, &parts);
        let words = line(|m| {
            m.model = Model::E1000;
            m.disk.as_mut().expect("there is one").options = options(&[("disk.bus", "nvme"), ("disk.cache", "unsafe")]);
        });
        holds(&words, &["-device e1000,netdev=net,romfile=", "cache=unsafe,aio=threads -device nvme,drive=data"]);
        let words = line(|m| {
            m.share = Some(Share::P9 { folder: "/a,b".into(), security: Security::MappedXattr });
            m.overcommit = Overcommit { mem_lock: true, cpu_pm: true };
        });
        let parts = [
            "-fsdev local,id=share,path=/a,,b,security_model=mapped-xattr -device virtio-9p-pci,fsdev=share,mount_tag=tarebench",
            "-overcommit mem-lock=on -overcommit cpu-pm=on",
        ];
        holds(&words, &parts);
        let words = line(|m| (m.kind, m.share) = (MachineType::Microvm, Some(Share::Virtiofs("/s".into()))));
        let parts = [
            "-global virtio-mmio.force-legacy=false ",
            "-chardev socket,id=share,path=/s -device vhost-user-fs-device,chardev=share,tag=tarebench",
        ];
        holds(&words, &parts);
        let words = line(|m| m.netdev = Netdev::Tap { device: "t".into(), vhost: true });
        holds(&words, &["ifname=t,script=no,downscript=no,vhost=on"]);
        holds(&line(|m| m.netdev = Netdev::User { published: None }), &["-netdev user,id=net -device"]);
        let words = line(|m| (m.netdev, m.orders.address6) = (Netdev::User { published: Some(4000) }, None));
        holds(&words, &["-netdev user,id=net,ipv6=off,hostfwd=tcp:127.0.0.1:4000-:4000 -device"]);
        let words = line(|m| (m.arch, m.kind) = (Arch::Arm, MachineType::Virt));
        holds(
            &words,
            &["-machine virt,gic-version=max -accel kvm -cpu host", "console=ttyAMA0 quiet", "virtio-blk-pci"],
        );
        assert!(!words.contains("-bios"), "that is x86's firmware: {words}");
        let emulated: &Accelerator = Box::leak(Box::new(Accelerator::Tcg { because: "no KVM".into() }));
        let words = line(|m| (m.arch, m.kind, m.accelerator) = (Arch::Arm, MachineType::Virt, emulated));
        holds(&words, &[" -cpu cortex-a72 "]);
        let words = line(|m| (m.kind, m.accelerator) = (MachineType::Microvm, emulated));
        holds(&words, &[&format!("cryptomgr.notests=1 tsc_early_khz={} tsc=reliable no_timer_check tare", tsc::khz())]);
    }
}
