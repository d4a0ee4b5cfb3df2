//! The settings of a machine, and which of them exclude each other.

use std::path::PathBuf;

use anyhow::bail;
use workloads::facts::Flushes;
use workloads::settings::{Bytes, CommandLine, Setting, SettingError, Settings, Value as _};
use workloads::{settings, words};

use crate::boxes::vm;
use crate::boxes::vm::arch::Arch;
use crate::boxes::vm::image::{Allocation, Format};
use crate::process::BINARY;
use crate::unavailable::Unavailable;

words! {
    /// The accelerator that is asked for.
    pub enum Accel {
        /// KVM where a guest really boots under it, else TCG.
        Auto = "auto",
        /// The host's CPU.
        Kvm = "kvm",
        /// QEMU's emulation.
        Tcg = "tcg",
    }
}

words! {
    /// QEMU's machine type.
    pub enum MachineType {
        /// No PCI, no legacy devices; its devices are virtio-mmio.
        Microvm = "microvm",
        /// PCI Express and AHCI.
        Q35 = "q35",
        /// PCI and IDE as of 1996.
        Pc = "pc",
        /// That of Arm and RISC-V: PCI Express, and nothing of before.
        Virt = "virt",
    }
}

impl MachineType {
    /// The one for disks and networks of all kinds.
    pub const fn usual(arch: Arch) -> Self {
        match arch {
            Arch::X86 => Self::Q35,
            Arch::Arm | Arch::RiscV => Self::Virt,
        }
    }

    fn is_of(self, arch: Arch) -> bool {
        (self == Self::Virt) == (arch != Arch::X86)
    }
}

/// QEMU's machine type; the default is [`MachineType::usual`].
const MACHINE: Setting = Setting::new("machine", MachineType::KIND)
    .with_about(
        "QEMU's machine type; microvm has no PCI, so no nvme, no ide and no e1000; on Arm and RISC-V virt is the only one, and \
         what is taken",
    )
    .with_default(match MachineType::usual(Arch::HERE) {
        MachineType::Virt => "virt",
        _ => "q35",
    });

words! {
    /// Where the guest's data lies.
    pub enum Data {
        /// On an ext4 in a disk image.
        Disk = "disk",
        /// In the host's directory, exported by NFS.
        Nfs = "nfs",
        /// In the host's directory, served by QEMU itself.
        P9 = "9p",
        /// In the host's directory, served by virtiofsd.
        Virtiofs = "virtiofs",
    }
}

words! {
    /// Whose the guest's files are on the host, with 9p.
    pub enum Security {
        /// QEMU's user's; that owners can't be changed is nobody's concern.
        None = "none",
        /// The guest's users', which takes root.
        Passthrough = "passthrough",
        /// QEMU's user's; the guest's owners and modes are extended attributes.
        MappedXattr = "mapped-xattr",
        /// QEMU's user's; the guest's owners and modes are in files beside them.
        MappedFile = "mapped-file",
    }
}

impl Security {
    /// The same, where this user may have it.
    ///
    /// # Errors
    /// For what takes root.
    pub fn allowed(self, privileged: bool) -> anyhow::Result<Self> {
        if self == Self::Passthrough && !privileged {
            bail!("9p.security=passthrough needs root; set 9p.security=none or mapped-xattr");
        }
        Ok(self)
    }
}

words! {
    /// Caching in the guest of files that it has by 9p.
    pub enum P9Cache {
        /// Nothing, so files can't be mapped for writing; what Linux does unless told otherwise.
        None = "none",
        /// Mapped files.
        Mmap = "mmap",
        /// All, and never looks whether the host has changed it.
        Loose = "loose",
    }
}

words! {
    /// Caching in the guest of files that it has by virtiofs.
    pub enum VirtiofsCache {
        /// Nothing.
        None = "none",
        /// Data until a file is opened again, attributes for a second.
        Auto = "auto",
        /// All, and never looks whether the host has changed it.
        Always = "always",
    }
}

words! {
    /// How the guest sees its data disk.
    pub enum Bus {
        /// virtio-blk.
        Virtio = "virtio",
        /// A disk on a virtio-scsi controller.
        Scsi = "scsi",
        /// An NVMe drive.
        Nvme = "nvme",
        /// A disk on the machine's own controller: IDE on `pc`, AHCI on `q35`.
        Ide = "ide",
    }
}

words! {
    /// QEMU's `cache=`.
    pub enum Cache {
        /// Past the host's page cache; flushes reach the disk.
        None = "none",
        /// Through the host's page cache; flushes reach the disk.
        Writeback = "writeback",
        /// Through the host's page cache; every write is flushed.
        Writethrough = "writethrough",
        /// Past the host's page cache; every write is flushed.
        Directsync = "directsync",
        /// Through the host's page cache; flushes go nowhere.
        Unsafe = "unsafe",
    }
}

impl Cache {
    /// Whether the file is opened with O_DIRECT.
    pub fn bypasses_page_cache(self) -> bool {
        matches!(self, Self::None | Self::Directsync)
    }

    /// How a guest's flushes end under it.
    pub fn flushes(self) -> Flushes {
        match self {
            Self::None | Self::Writeback => Flushes::Passed,
            Self::Writethrough | Self::Directsync => Flushes::WrittenThrough,
            Self::Unsafe => Flushes::Forgotten,
        }
    }
}

words! {
    /// How QEMU is asked to do the disk's I/O (`aio=`).
    pub enum Aio {
        /// `native` past the host's page cache, else `threads`.
        Auto = "auto",
        /// Linux AIO from QEMU's own thread.
        Native = "native",
        /// A pool of threads.
        Threads = "threads",
        /// io_uring.
        IoUring = "io_uring",
    }
}

words! {
    /// Backing of the guest's memory on the host.
    pub enum Memory {
        /// `anonymous`, but `tmpfs` where another process has to work in it.
        Auto = "auto",
        /// Private pages of QEMU.
        Anonymous = "anonymous",
        /// A file beside the data, mapped and shared: what the guest dirties, the host writes to disk.
        File = "file",
        /// Shared pages of the kernel's tmpfs.
        Tmpfs = "tmpfs",
        /// Huge pages that the host has set aside.
        Hugepages = "hugepages",
    }
}

words! {
    /// How the guest reaches the peer.
    pub enum Net {
        /// A tap as root, else user.
        Auto = "auto",
        /// Not at all.
        None = "none",
        /// QEMU's own address translation.
        User = "user",
        /// A tap device, its packets passed on by QEMU.
        Tap = "tap",
        /// A tap device, its packets passed on by the host's kernel.
        Vhost = "vhost",
        /// Address translation by the program passt.
        Passt = "passt",
    }
}

words! {
    /// The network device.
    pub enum Model {
        /// virtio-net.
        Virtio = "virtio",
        /// Intel's 82540EM, emulated.
        E1000 = "e1000",
    }
}

settings! {
    /// The data disk, as set.
    #[derive(Copy, Eq)]
    pub struct DiskOptions {
        /// How the guest sees its data disk; ide is AHCI on q35, which needs a kernel that has ahci
        bus ("disk.bus"): Bus = "virtio",
        /// What the disk's file holds: the disk's bytes, or QEMU's format for disks that grow
        format ("disk.format"): Format = "raw",
        /// How much of the disk's file is there at first: nothing, qcow2's tables, all of it reserved, all of it written
        allocation ("disk.allocation"): Allocation = "full",
        /// Whether the host's page cache is used, and whether the guest's flushes reach the host (unsafe: they don't)
        cache ("disk.cache"): Cache = "none",
        /// How QEMU does the disk's I/O; auto is native where the host's page cache is not used, else threads
        aio ("disk.aio"): Aio = "auto",
        /// Whether a thread of its own serves the disk, instead of QEMU's main loop; virtio and scsi only
        iothread ("disk.iothread"): bool = false,
        /// Size of the data disk; with disk.allocation=full all of it is written once before the first start
        size ("disk.size"): Bytes as vm::DISK_SIZE,
    }
}

impl DiskOptions {
    /// How QEMU does the disk's I/O; never [`Aio::Auto`].
    ///
    /// `native` submits from QEMU's own thread; `threads` hands every request to another thread, which where QEMU has one CPU
    /// is two context switches that no real disk has. Linux does native I/O only past the page cache.
    pub fn effective_aio(&self) -> Aio {
        match self.aio {
            Aio::Auto if self.cache.bypasses_page_cache() => Aio::Native,
            Aio::Auto => Aio::Threads,
            set => set,
        }
    }
}

settings! {
    /// A directory by 9p, as set.
    #[derive(Copy, Eq)]
    pub struct P9Options {
        /// What the guest keeps of files by 9p; with none, Linux' own default, SQLite can't map its write-ahead log
        cache ("9p.cache"): P9Cache = "mmap",
        /// Bytes of the largest message by 9p: what one request can read or write (read back in the guest)
        msize ("9p.msize"): Bytes = "128KiB" in 4096..=512 << 10,
        /// Whose the guest's files are on the host by 9p (QEMU's security_model); passthrough needs root
        security ("9p.security"): Security = "none",
    }
}

settings! {
    /// A directory by virtiofs, as set.
    #[derive(Eq)]
    pub struct VirtiofsOptions {
        /// Full path of virtiofsd, for another build than the installed one; by default the one in PATH, or where distributions
        /// hide it
        binary ("virtiofs.binary"): Option<PathBuf> as BINARY,
        /// What the guest keeps of files by virtiofs: nothing, data while a file is open, or all
        cache ("virtiofs.cache"): VirtiofsCache = "auto",
        /// Whether the guest's O_DIRECT is the host's too, past its page cache (virtiofsd's allow_direct_io)
        direct ("virtiofs.direct"): bool = false,
    }
}

settings! {
    /// Resources that QEMU doesn't share with the rest of the host.
    #[derive(Copy, Default, Eq)]
    pub struct Overcommit {
        /// Whether all of QEMU's memory is locked from the start, so that the host can't promise it twice or swap it out
        mem_lock ("overcommit.mem-lock"): bool = false,
        /// Whether an idle guest keeps its CPU instead of giving it back to the host; KVM only
        cpu_pm ("overcommit.cpu-pm"): bool = false,
    }
}

settings! {
    /// A machine, as set.
    #[derive(Eq)]
    pub struct Options {
        binary: Option<PathBuf> as BINARY,
        /// What runs the guest's instructions; auto is KVM where a guest really boots under it, else emulation (TCG)
        accel: Accel = "auto",
        machine: MachineType as MACHINE,
        /// An ext4 on a disk image, or the host's directory: by NFSv4 (nfs-ganesha, over the guest's tap device), 9p or
        /// virtiofs (as root)
        data: Data = "disk",
        disk: DiskOptions,
        p9: P9Options,
        virtiofs: VirtiofsOptions,
        /// What the guest's memory is: QEMU's own pages, a file on the data's disk, a tmpfs, or huge pages set aside;
        /// auto is anonymous, or tmpfs with data=virtiofs
        memory: Memory = "auto",
        /// How the guest reaches the peer; auto is a tap device as root, else QEMU's user-mode address translation
        net: Net = "auto",
        /// Whether the translator (net=user or passt) forwards a port, by which the peer connects into the guest (in a suite beside net: "net.publish" in quotes)
        publish ("net.publish"): bool = false,
        /// Full path of passt, for net=passt; by default the one in PATH
        passt ("passt.binary"): Option<PathBuf> as BINARY,
        /// The network device; e1000 needs a kernel that has its driver (in a suite beside net: "net.model" in quotes)
        model ("net.model"): Model = "virtio",
        /// Whether the guest gives pages that it has freed back to the host, through a virtio balloon
        balloon: bool = false,
        overcommit: Overcommit,
        kernel: Option<PathBuf> as vm::KERNEL,
        append: CommandLine as vm::APPEND,
    }
}

impl Options {
    /// Backing of the guest's memory; never [`Memory::Auto`].
    pub fn effective_memory(&self) -> Memory {
        match (self.memory, self.data) {
            (Memory::Auto, Data::Virtiofs) => Memory::Tmpfs,
            (Memory::Auto, _) => Memory::Anonymous,
            (set, _) => set,
        }
    }

    /// Refuses what can't be together, and what `settings`, which this was read from, set for data that lies elsewhere.
    ///
    /// # Errors
    /// With the reason and what to set instead.
    pub fn check(&self, settings: &Settings) -> Result<(), SettingError> {
        vm::check_append(&self.append)?;
        match self.conflict().or_else(|| without_effect(settings, self.data)) {
            Some(words) => Err(SettingError::Conflict(words)),
            None => Ok(()),
        }
    }

    /// Refuses what no machine of the architecture has. Nothing in the settings contradicts another: a suite that has them for
    /// another architecture skips the box here.
    ///
    /// # Errors
    /// With the reason, and what to set instead.
    pub fn exists_for(&self, arch: Arch) -> Result<(), Unavailable> {
        if arch == Arch::X86 || self.disk.bus != Bus::Ide {
            return Ok(());
        }
        Err(Unavailable {
            because: format!("disk.bus=ide needs a controller that no machine of {arch} has"),
            fix: "set disk.bus=virtio, scsi or nvme".into(),
            broken: false,
        })
    }

    fn conflict(&self) -> Option<String> {
        self.machine_conflict(Arch::HERE)
            .or_else(|| self.disk_conflict())
            .or_else(|| self.data_conflict())
            .or_else(|| self.network_conflict())
    }

    fn machine_conflict(&self, arch: Arch) -> Option<String> {
        let bus = self.disk.bus;
        match self.machine {
            machine if !machine.is_of(arch) => Some(format!(
                "machine={machine} is none of {arch}, which this is; set machine={}, or leave it away",
                MachineType::usual(arch)
            )),
            MachineType::Microvm if matches!(bus, Bus::Nvme | Bus::Ide) => Some(format!(
                "disk.bus={bus} needs PCI, which machine=microvm lacks; set machine=q35, or disk.bus=virtio"
            )),
            MachineType::Microvm if self.model == Model::E1000 => Some(
                "net.model=e1000 needs PCI, which machine=microvm lacks; set machine=q35, or net.model=virtio".into(),
            ),
            _ => None,
        }
    }

    fn disk_conflict(&self) -> Option<String> {
        let DiskOptions { bus, format, allocation, cache, aio, iothread, .. } = self.disk;
        if format == Format::Raw && allocation == Allocation::Metadata {
            return Some(
                "disk.allocation=metadata is for disk.format=qcow2: a raw image has no tables; set disk.allocation=sparse \
                 or falloc"
                    .into(),
            );
        }
        if aio == Aio::Native && !cache.bypasses_page_cache() {
            return Some(format!(
                "disk.aio=native needs O_DIRECT, which is disk.cache=none or directsync and not {cache}; set \
                 disk.aio=threads or io_uring, or another cache"
            ));
        }
        if iothread && !matches!(bus, Bus::Virtio | Bus::Scsi) {
            return Some(format!(
                "disk.iothread=true works on disk.bus=virtio and scsi only, not on {bus}; set disk.iothread=false"
            ));
        }
        None
    }

    fn data_conflict(&self) -> Option<String> {
        match self.data {
            Data::Nfs if matches!(self.net, Net::None | Net::User | Net::Passt) => Some(format!(
                "data=nfs needs a tap device, over which the export is reached, and net={} makes none; set net=tap, or \
                 data=disk",
                self.net
            )),
            Data::Virtiofs if self.memory == Memory::Anonymous => Some(
                "data=virtiofs is served by a process that works in the guest's memory, and memory=anonymous is QEMU's alone; \
                 set memory=auto, or data=9p"
                    .into(),
            ),
            _ => None,
        }
    }

    fn network_conflict(&self) -> Option<String> {
        if let Some(path) = self.passt.as_ref().filter(|_| self.net != Net::Passt) {
            return Some(format!(
                "passt.binary={} has no effect with net={}; leave it away, or set net=passt",
                path.display(),
                self.net
            ));
        }
        if self.publish && !matches!(self.net, Net::User | Net::Passt) {
            return Some(format!(
                "net.publish=true is for a translator, and with net={} there may be none; set net=user or net=passt, or leave it away",
                self.net
            ));
        }
        let words = match (self.model, self.net) {
            (Model::E1000, Net::None) => {
                "net.model=e1000 without a network (net=none) is no device at all; set net=tap or net=user"
            }
            (Model::E1000, Net::Vhost) => {
                "net=vhost is for virtio-net, not for net.model=e1000; set net.model=virtio, or net=tap"
            }
            _ => return None,
        };
        Some(words.into())
    }

    /// All drivers that a guest with these settings needs.
    pub fn drivers(&self) -> Vec<&'static str> {
        let transport = match self.machine {
            MachineType::Microvm => "virtio_mmio",
            MachineType::Q35 | MachineType::Pc | MachineType::Virt => "virtio_pci",
        };
        let mut drivers = vec![transport, "virtio_console", "ext4"];
        drivers.extend_from_slice(match (self.data, self.disk.bus, self.machine) {
            (Data::Nfs, ..) => &["nfsv4"][..],
            (Data::P9, ..) => &["9p", "9pnet_virtio"],
            (Data::Virtiofs, ..) => &["virtiofs"],
            (Data::Disk, Bus::Virtio, _) => &["virtio_blk"],
            (Data::Disk, Bus::Scsi, _) => &["virtio_scsi", "sd_mod"],
            (Data::Disk, Bus::Nvme, _) => &["nvme"],
            (Data::Disk, Bus::Ide, MachineType::Q35) => &["ahci", "sd_mod"],
            (Data::Disk, Bus::Ide, _) => &["ata_piix", "sd_mod"],
        });
        match (self.net, self.model) {
            (Net::None, _) => {}
            (_, Model::Virtio) => drivers.push("virtio_net"),
            (_, Model::E1000) => drivers.push("e1000"),
        }
        if self.balloon {
            drivers.push("virtio_balloon");
        }
        drivers
    }
}

/// Settings for data that lies elsewhere: a report would show them beside figures that they had no part in.
fn without_effect(settings: &Settings, data: Data) -> Option<String> {
    let groups =
        [(DiskOptions::TABLE, Data::Disk), (P9Options::TABLE, Data::P9), (VirtiofsOptions::TABLE, Data::Virtiofs)];
    let defaults = Settings::resolve(Options::TABLE, &Default::default()).expect("the defaults are valid");
    let default = |name: &str| defaults.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
    let mut changed = settings.iter().filter(|(name, value)| default(name).is_some_and(|default| default != *value));
    changed.find_map(|(name, value)| {
        let (_, needs) = groups.iter().find(|(table, _)| table.iter().any(|setting| setting.name == name))?;
        // A size alone claims nothing, and suites give it for all their environments.
        (*needs != data && name != vm::DISK_SIZE.name)
            .then(|| format!("{name}={value} has no effect with data={data}; leave it away, or set data={needs}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    fn read(pairs: Pairs) -> Result<Options, SettingError> {
        let settings = Settings::of(Options::TABLE, pairs);
        let options = Options::read(&settings);
        options.check(&settings).map(|()| options)
    }

    #[test]
    fn what_can_not_be_together_is_refused_with_a_way_out_that_works() {
        let refused: &[(Pairs, Pairs)] = &[
            (&[("machine", "microvm"), ("disk.bus", "nvme")], &[("machine", "q35")]),
            (&[("machine", "microvm"), ("disk.bus", "ide")], &[("disk.bus", "virtio")]),
            (&[("machine", "microvm"), ("net.model", "e1000")], &[("net.model", "virtio")]),
            (&[("disk.allocation", "metadata")], &[("disk.allocation", "sparse")]),
            (&[("disk.aio", "native"), ("disk.cache", "unsafe")], &[("disk.aio", "threads")]),
            (&[("disk.iothread", "true"), ("disk.bus", "ide")], &[("disk.iothread", "false")]),
            (&[("data", "nfs"), ("net", "user")], &[("net", "tap")]),
            (&[("data", "nfs"), ("net", "passt")], &[("data", "disk")]),
            (&[("data", "virtiofs"), ("memory", "anonymous")], &[("memory", "auto")]),
            (&[("data", "9p"), ("disk.cache", "unsafe")], &[("data", "disk")]),
            (&[("data", "disk"), ("9p.cache", "loose")], &[("data", "9p")]),
            (&[("data", "nfs"), ("virtiofs.direct", "true")], &[("data", "virtiofs")]),
            (&[("net.model", "e1000"), ("net", "none")], &[("net", "tap")]),
            (&[("net.model", "e1000"), ("net", "vhost")], &[("net.model", "virtio")]),
            (&[("net.publish", "true"), ("net", "tap")], &[("net", "user")]),
            (&[("net.publish", "true"), ("net", "auto")], &[("net", "passt")]),
            (&[("passt.binary", "/opt/passt"), ("net", "tap")], &[("net", "passt")]),
            (&[("virtiofs.binary", "/opt/virtiofsd"), ("data", "9p")], &[("data", "virtiofs")]),
        ];
        for (given, instead) in refused {
            let error = read(given).expect_err("can't be together").to_string();
            for (name, value) in given.iter().chain(*instead) {
                assert!(error.contains(name) && error.contains(value), "{given:?}: no {name}={value} in `{error}`");
            }
            read(&overriding(given, instead)).unwrap_or_else(|e| panic!("{instead:?} was said to help {given:?}: {e}"));
        }
    }

    fn overriding<'a>(given: &[(&'a str, &'a str)], instead: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let kept = given.iter().filter(|(name, _)| !instead.iter().any(|(other, _)| other == name));
        kept.chain(instead).copied().collect()
    }

    #[test]
    fn every_architecture_has_machines_of_its_own() {
        let conflict = |arch, machine: MachineType, bus: &str| {
            let mut options = read(&[("disk.bus", bus)]).expect("possible");
            options.machine = machine;
            options.machine_conflict(arch)
        };
        for arch in [Arch::X86, Arch::Arm, Arch::RiscV] {
            assert_eq!(conflict(arch, MachineType::usual(arch), "virtio"), None);
        }
        let words = conflict(Arch::Arm, MachineType::Q35, "virtio").expect("refused");
        assert!(words.contains("machine=q35 is none of 64-bit Arm") && words.contains("set machine=virt"), "{words}");
        let words = conflict(Arch::X86, MachineType::Virt, "virtio").expect("refused");
        assert!(words.contains("machine=virt is none of x86-64") && words.contains("set machine=q35"), "{words}");
    }

    #[test]
    fn a_bus_that_an_architecture_lacks_is_no_contradiction_but_is_not_there() {
        for arch in [Arch::X86, Arch::Arm, Arch::RiscV] {
            for bus in Bus::WORDS {
                let mut options = read(&[("disk.bus", bus)]).expect("possible");
                options.machine = MachineType::usual(arch);
                assert_eq!(options.machine_conflict(arch), None, "{bus} on {arch}");
                assert_eq!(options.exists_for(arch).is_ok(), *bus != "ide" || arch == Arch::X86, "{bus} on {arch}");
            }
        }
        let no = read(&[("disk.bus", "ide")]).expect("possible").exists_for(Arch::Arm).expect_err("not there");
        assert!(no.because.contains("no machine of 64-bit Arm has") && no.fix.contains("virtio"), "{no:?}");
        assert!(!no.broken);
    }

    #[test]
    fn aio_follows_the_cache_unless_it_is_set() {
        let aio = |pairs: &[(&str, &str)]| read(pairs).expect("possible").disk.effective_aio();
        assert_eq!(aio(&[]), Aio::Native);
        assert_eq!(aio(&[("disk.cache", "directsync")]), Aio::Native);
        assert_eq!(aio(&[("disk.cache", "writeback")]), Aio::Threads);
        assert_eq!(aio(&[("disk.cache", "writeback"), ("disk.aio", "io_uring")]), Aio::IoUring);
    }

    #[test]
    fn drivers_follow_the_settings() {
        let drivers = |pairs: &[(&str, &str)]| read(pairs).expect("possible").drivers().join(" ");
        assert_eq!(drivers(&[("net", "none"), ("disk.bus", "nvme")]), "virtio_pci virtio_console ext4 nvme");
        assert_eq!(drivers(&[("machine", "microvm")]), "virtio_mmio virtio_console ext4 virtio_blk virtio_net");
        assert_eq!(drivers(&[("data", "nfs")]), "virtio_pci virtio_console ext4 nfsv4 virtio_net");
        assert_eq!(drivers(&[("data", "9p")]), "virtio_pci virtio_console ext4 9p 9pnet_virtio virtio_net");
        assert_eq!(drivers(&[("data", "virtiofs")]), "virtio_pci virtio_console ext4 virtiofs virtio_net");
        assert!(drivers(&[("disk.bus", "ide")]).contains("ahci sd_mod"));
        assert!(drivers(&[("disk.bus", "ide"), ("machine", "pc")]).contains("ata_piix sd_mod"));
        assert!(drivers(&[("net.model", "e1000"), ("balloon", "true")]).ends_with("e1000 virtio_balloon"));
    }

    #[test]
    fn passing_owners_through_takes_root() {
        for word in Security::WORDS {
            let security = read(&[("data", "9p"), ("9p.security", word)]).expect("possible").p9.security;
            assert_eq!(security.allowed(true).expect("root may"), security);
            assert_eq!(security.allowed(false).is_err(), *word == "passthrough");
        }
    }

    #[test]
    fn memory_is_shared_where_another_process_serves_from_it() {
        let memory = |pairs: &[(&str, &str)]| read(pairs).expect("possible").effective_memory();
        assert_eq!(memory(&[]), Memory::Anonymous);
        assert_eq!(memory(&[("data", "virtiofs")]), Memory::Tmpfs);
        assert_eq!(memory(&[("data", "virtiofs"), ("memory", "file")]), Memory::File);
        read(&[("data", "9p"), ("disk.size", "64MiB")]).expect("a size claims nothing");
    }

    #[test]
    fn the_cache_decides_what_becomes_of_flushes() {
        let flushes = |cache: &str| Cache::parse(cache).flushes();
        assert_eq!((flushes("none"), flushes("writeback")), (Flushes::Passed, Flushes::Passed));
        assert_eq!(flushes("writethrough"), Flushes::WrittenThrough);
        assert_eq!(flushes("directsync"), Flushes::WrittenThrough);
        assert_eq!(flushes("unsafe"), Flushes::Forgotten);
    }

    #[test]
    fn words_and_values_are_the_same_both_ways() {
        for word in Cache::WORDS {
            let options = read(&[("disk.cache", word)]).expect("every cache goes with aio=auto");
            assert_eq!(options.disk.cache.to_string(), *word);
        }
    }
}
