//! QEMU's command line: the machine, its devices and what the kernel is told.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Command;

use workloads::init::{Orders, PORT};

use super::accel::Accelerator;
use super::initramfs::Boot;

/// The emulator.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// Translated code that QEMU keeps, MiB. Its own default of 1 GiB would count against the memory of the host; kernel and
/// agent need less than this, so nothing is translated twice.
pub const TRANSLATION_MIB: u64 = 128;

/// A firmware that does nothing but start a kernel; comes with QEMU in most distributions.
const QBOOT: &str = "/usr/share/qemu/qboot.rom";

/// Drivers of every guest: the bus, the channel, the file system.
pub const DRIVERS: &[&str] = &["virtio_pci", "virtio_console", "ext4"];

/// What ext4 asks for at mount time by name, which no `modules.dep` knows. Built in or gone in some kernels.
/// IPv6 is a module in some too.
pub const DRIVERS_WHERE_THERE: &[&str] = &["crc32c_generic", "ipv6"];

/// The data disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk<'a> {
    /// The raw image.
    pub image: &'a Path,
    /// `virtio`, `virtio-scsi`, `nvme` or `ide`.
    pub bus: &'a str,
    /// QEMU's `cache=`.
    pub cache: &'a str,
    /// QEMU's `aio=`.
    pub aio: &'a str,
}

impl Disk<'_> {
    /// What the guest calls it, and the drivers it needs.
    pub fn in_guest(bus: &str) -> (&'static str, &'static [&'static str]) {
        match bus {
            "nvme" => ("/dev/nvme0n1", &["nvme"]),
            "virtio-scsi" => ("/dev/sda", &["virtio_scsi", "sd_mod"]),
            "ide" => ("/dev/sda", &["ata_piix", "sd_mod"]),
            _ => ("/dev/vda", &["virtio_blk"]),
        }
    }
}

/// The network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Net {
    /// None at all.
    None,
    /// QEMU's own address translation, for which it needs no privileges.
    User,
    /// An existing tap device.
    Tap(String),
}

/// Addresses of QEMU's user-mode network: the guest's with its prefix, and the one that leads to the host's loopback.
pub const USER_GUEST: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 0, 2, 15), 24);
/// See [`USER_GUEST`].
pub const USER_PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// The same in IPv6.
pub const USER_GUEST6: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0x15), 64);
/// See [`USER_GUEST6`].
pub const USER_PEER6: Ipv6Addr = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 2);

/// A whole machine.
#[derive(Debug)]
pub struct Machine<'a> {
    /// Shown in the list of processes.
    pub name: &'a str,
    /// `q35` or `pc`.
    pub kind: &'a str,
    /// What runs its instructions.
    pub accelerator: &'a Accelerator,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory of the guest, bytes.
    pub memory_bytes: u64,
    /// Kernel and initramfs.
    pub boot: &'a Boot,
    /// What the guest's init is told.
    pub orders: Orders,
    /// The data disk, where there is one.
    pub disk: Option<Disk<'a>>,
    /// The network device.
    pub net: Net,
}

impl Machine<'_> {
    /// QEMU with all that as arguments: the channel on stdin and stdout, the guest's console on stderr.
    pub fn command(&self) -> Command {
        let mut q = Command::new(PROGRAM);
        q.args(["-name", self.name]).args(["-nodefaults", "-no-user-config", "-no-reboot"]).args(["-display", "none"]);
        q.args(["-machine", self.kind]);
        // SeaBIOS looks for disks to boot from, which here costs 0.2 s of emulated time and finds nothing.
        if Path::new(QBOOT).exists() {
            q.args(["-bios", QBOOT]);
        }
        match self.accelerator {
            Accelerator::Kvm => q.args(["-accel", "kvm"]).args(["-cpu", "host"]),
            // QEMU's default CPU, and not `max`: what `max` adds are instructions dear to emulate, which libc then prefers.
            // With RDRAND the guest's random numbers are ready at once.
            Accelerator::Tcg { .. } => {
                q.arg("-accel").arg(format!("tcg,tb-size={TRANSLATION_MIB}")).args(["-cpu", "qemu64,+rdrand"])
            }
        };
        q.arg("-smp").arg(self.cpus.to_string());
        q.arg("-m").arg(format!("{}k", self.memory_bytes / 1024));
        q.arg("-kernel").arg(&self.boot.kernel).arg("-initrd").arg(&self.boot.initramfs);
        q.arg("-append").arg(self.kernel_arguments());
        q.args(["-chardev", "stdio,id=channel,signal=off"]);
        q.args(["-device", "virtio-serial-pci"]);
        q.arg("-device").arg(format!("virtserialport,chardev=channel,name={PORT}"));
        // What the guest's kernel says before it dies is what an error quotes. A pipe that is always read can't fill up.
        q.args(["-chardev", "file,id=console,path=/dev/stderr"]).args(["-serial", "chardev:console"]);
        if let Some(disk) = &self.disk {
            disk.add_to(&mut q);
        }
        match &self.net {
            Net::None => {}
            Net::User if self.orders.address6.is_some() => _ = q.args(["-netdev", "user,id=net"]),
            Net::User => _ = q.args(["-netdev", "user,id=net,ipv6=off"]),
            Net::Tap(device) => {
                _ = q.arg("-netdev").arg(format!("tap,id=net,ifname={device},script=no,downscript=no"));
            }
        }
        if self.net != Net::None {
            // No boot ROM: nothing boots from this.
            q.args(["-device", "virtio-net-pci,netdev=net,romfile="]);
        }
        q
    }

    /// `quiet` because an emulated UART costs an exit per byte; the kernel's self tests of its ciphers, a third of a second
    /// under emulation, have no part in any workload. A panic ends the machine, which `-no-reboot` turns into QEMU's end.
    ///
    /// The frequency of the clock is left for the guest to find: a wrong `tsc_early_khz` saves 0.1 s and makes its clock run
    /// at the wrong rate.
    fn kernel_arguments(&self) -> String {
        format!("console=ttyS0 quiet panic=-1 cryptomgr.notests=1 {}", self.orders).trim_end().to_string()
    }
}

impl Disk<'_> {
    fn add_to(&self, q: &mut Command) {
        // A comma in a path is doubled, or QEMU takes it for the end of the value.
        let file = self.image.to_string_lossy().replace(',', ",,");
        let Self { cache, aio, .. } = self;
        q.arg("-drive").arg(format!("file={file},if=none,id=data,format=raw,cache={cache},aio={aio}"));
        match self.bus {
            "nvme" => q.args(["-device", "nvme,drive=data,serial=tarebench"]),
            "virtio-scsi" => q.args(["-device", "virtio-scsi-pci"]).args(["-device", "scsi-hd,drive=data"]),
            "ide" => q.args(["-device", "ide-hd,drive=data"]),
            _ => q.args(["-device", "virtio-blk-pci,drive=data"]),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_reads_like_the_shell() {
        let boot = Boot { kernel: "/k".into(), initramfs: "/i".into() };
        let machine = Machine {
            name: "tarebench-x",
            kind: "q35",
            accelerator: &Accelerator::Kvm,
            cpus: 2,
            memory_bytes: 512 << 20,
            boot: &boot,
            orders: Orders {
                disk: Some("/dev/vda".into()),
                address: Some(USER_GUEST),
                address6: Some(USER_GUEST6),
                ..Orders::default()
            },
            disk: Some(Disk { image: Path::new("/a,b"), bus: "virtio", cache: "none", aio: "native" }),
            net: Net::Tap("tare0".into()),
        };
        let command = machine.command();
        let words: Vec<_> = command.get_args().map(|a| a.to_string_lossy()).collect();
        let line = words.join(" ");
        for part in [
            "-machine q35 ",
            "-accel kvm -cpu host -smp 2 -m 524288k -kernel /k -initrd /i",
            "panic=-1 cryptomgr.notests=1 tarebench.disk=/dev/vda tarebench.address=10.0.2.15/24 tarebench.address6=fec0::15/64",
            "-drive file=/a,,b,if=none,id=data,format=raw,cache=none,aio=native -device virtio-blk-pci,drive=data",
            "-netdev tap,id=net,ifname=tare0,script=no,downscript=no -device virtio-net-pci,netdev=net,romfile=",
        ] {
            assert!(line.contains(part), "no `{part}` in `{line}`");
        }
    }
}
