//! Where a guest's data lies: on a disk image of its own, or in the stage's directory, which reaches it by NFS, 9p or virtiofs.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::bail;
use workloads::facts::Network;
use workloads::init::Orders;

use super::command::name_in_guest;
use super::link::Link;
use super::options::{Bus, Data, DiskOptions, MachineType, Options};
use super::share::{Share, Virtiofsd};
use crate::boxes::vm;
use crate::boxes::vm::nfs::Server;
use crate::stage::Stage;
use crate::stage::data::DataPath;

/// A guest's data, ready to be used.
pub struct Source {
    /// The disk's file, where it is a disk.
    pub image: Option<PathBuf>,
    /// The directory that QEMU hands on, where it does.
    pub share: Option<Share>,
    /// Orders to the guest's init, its addresses included.
    pub orders: Orders,
    /// Log of the server, where it is a process of its own.
    pub log: Option<PathBuf>,
    /// The program of that one.
    pub program: Option<PathBuf>,
    /// Its servers, which live as long as the guest.
    pub servers: Servers,
}

/// Processes that serve a guest's data, ended on drop.
#[derive(Debug, Default)]
pub struct Servers {
    _nfs: Option<Server>,
    _virtiofs: Option<Virtiofsd>,
}

impl Source {
    /// Makes the disk, or starts what serves the directory.
    ///
    /// # Errors
    /// When it can't be made or served, with what to set instead.
    pub fn make(options: &Options, link: &Link, stage: &mut Stage) -> anyhow::Result<Self> {
        let orders = Orders { append: options.append.words().to_vec(), ..vm::orders(&link.path) };
        let mut source =
            Self { image: None, share: None, orders, log: None, program: None, servers: Servers::default() };
        match options.data {
            Data::Disk => {
                let DiskOptions { bus, format, allocation, size, .. } = options.disk;
                source.image = Some(vm::data_disk(stage, format, allocation, size.0)?);
                source.orders.disk = Some(name_in_guest(bus).into());
            }
            Data::Nfs => {
                let (Network::Tap | Network::Vhost, Some(IpAddr::V4(address)), Some((guest, _))) =
                    (&link.path.network, link.path.peer, link.path.own)
                else {
                    let because = stage.peer_network().err().unwrap_or("the link has no IPv4 address");
                    bail!("data=nfs needs a tap device: {because}; set data=disk");
                };
                source.servers._nfs = Some(Server::start(stage, address, guest)?);
                source.orders.nfs = Some(address);
            }
            Data::P9 => {
                let security = options.p9.security.allowed(stage.host.privileged)?;
                source.share = Some(Share::P9 { folder: stage.data().to_path_buf(), security });
                source.orders.p9 = Some(options.p9.cache.to_string());
                source.orders.msize = Some(options.p9.msize.0);
            }
            Data::Virtiofs => {
                let server = Virtiofsd::start(&options.virtiofs, stage)?;
                source.share = Some(Share::Virtiofs(server.socket.clone()));
                source.orders.virtiofs = true;
                source.log = Some(server.log.clone());
                source.program = Some(server.program.clone());
                source.servers._virtiofs = Some(server);
            }
        }
        Ok(source)
    }
}

/// The path of the data from inside the guest down to the host's file system.
pub fn path(options: &Options, stage: &Stage) -> DataPath {
    let words = describe(options, &stage.data_file_system());
    match options.data {
        Data::Disk => DataPath::on_image(stage, words, options.disk.cache.flushes()),
        // The guest has no disk then: flushes reach the host's kernel as requests of the protocol.
        Data::Nfs | Data::P9 | Data::Virtiofs => DataPath::on_host(stage, words),
    }
}

/// The same in words, for the report; `below` is the host's file system.
fn describe(options: &Options, below: &str) -> String {
    match options.data {
        Data::Disk => format!("{} on {below}", disk_path(options)),
        Data::Nfs => format!("NFSv4 over the guest's network, exported by nfs-ganesha from {below}"),
        Data::P9 => {
            let (cache, security, msize) =
                (options.p9.cache, options.p9.security, bytesize::ByteSize(options.p9.msize.0));
            // It takes the guest's O_DIRECT for a hint and does without.
            format!(
                "9p by QEMU, cache={cache}, msize={msize}, security_model={security}, through the host's page cache, on {below}"
            )
        }
        Data::Virtiofs => {
            let how = if options.virtiofs.direct { "O_DIRECT allowed" } else { "through the host's page cache" };
            format!("virtiofs by virtiofsd, cache={}, {how}, on {below}", options.virtiofs.cache)
        }
    }
}

fn disk_path(options: &Options) -> String {
    let DiskOptions { bus, format, allocation, cache, iothread, .. } = options.disk;
    let aio = options.disk.effective_aio();
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

#[cfg(test)]
mod tests {
    use workloads::facts::{Flushes, Kernel};
    use workloads::settings::Settings;

    use super::*;

    fn said(pairs: &[(&str, &str)]) -> String {
        describe(&Options::read(&Settings::of(Options::TABLE, pairs)), "xfs on sda")
    }

    #[test]
    fn the_path_of_the_data_names_every_layer() {
        let qcow2 = [("disk.format", "qcow2"), ("disk.allocation", "sparse"), ("disk.cache", "writeback")];
        assert_eq!(said(&qcow2), "ext4 on virtio-blk, qcow2 (sparse), cache=writeback, aio=threads, on xfs on sda");
        assert_eq!(
            said(&[("disk.bus", "scsi"), ("disk.iothread", "true")]),
            "ext4 on virtio-scsi, raw (full), cache=none, aio=native in an I/O thread, on xfs on sda"
        );
        assert!(said(&[("disk.bus", "ide")]).starts_with("ext4 on AHCI,"));
        assert!(said(&[("disk.bus", "ide"), ("machine", "pc")]).starts_with("ext4 on IDE,"));
    }

    #[test]
    fn a_disk_is_the_guests_and_its_cache_decides_what_becomes_of_flushes() {
        let (_data, stage) = Stage::of_a_test("qd");
        let stated = |pairs: &[(&str, &str)]| {
            let facts = path(&Options::read(&Settings::of(Options::TABLE, pairs)), &stage).facts;
            (facts.kernel, facts.flushes)
        };
        for (cache, flushes) in [
            ("none", Flushes::Passed),
            ("writeback", Flushes::Passed),
            ("writethrough", Flushes::WrittenThrough),
            ("directsync", Flushes::WrittenThrough),
            ("unsafe", Flushes::Forgotten),
        ] {
            assert_eq!(stated(&[("disk.cache", cache)]), (Kernel::Guest, flushes), "{cache}");
        }
        assert_eq!(stated(&[("data", "9p")]), (Kernel::Host, Flushes::Passed), "the guest has no disk then");
    }

    #[test]
    fn the_path_of_a_directory_names_who_serves_it_and_what_is_cached() {
        assert_eq!(
            said(&[("data", "9p"), ("9p.cache", "loose"), ("9p.security", "mapped-xattr")]),
            "9p by QEMU, cache=loose, msize=128.0 KiB, security_model=mapped-xattr, through the host's page cache, on xfs on sda"
        );
        assert_eq!(
            said(&[("data", "virtiofs"), ("virtiofs.cache", "always")]),
            "virtiofs by virtiofsd, cache=always, through the host's page cache, on xfs on sda"
        );
        assert!(said(&[("data", "virtiofs"), ("virtiofs.direct", "true")]).contains("O_DIRECT allowed"));
        assert!(said(&[("data", "nfs")]).ends_with("exported by nfs-ganesha from xfs on sda"));
    }
}
