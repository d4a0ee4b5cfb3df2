//! The agent as PID 1 of a virtual machine: it mounts what it needs, loads the modules that the initramfs carries, brings
//! up the network, mounts the data disk, serves on a virtio port or a serial line, and powers off.
//!
//! The runner that builds the guest and this file share [`Orders`] and the names below: whatever one writes, the other reads.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::net::{AddrParseError, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module, init_module};
use nix::mount::{MsFlags, mount, umount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::reboot::{RebootMode, reboot};

use crate::protocol::{Envelope, Response, write_frame};

/// Name of the virtio port that carries the protocol.
pub const PORT: &str = "tarebench";
/// Folder of the initramfs with the kernel modules.
pub const MODULES: &str = "/modules";
/// File in [`MODULES`] that names them one per line, dependencies first.
pub const MODULE_ORDER: &str = "order";
/// Where the data disk is mounted in the guest.
pub const DATA: &str = "/data";

/// Name of the first network device of most drivers on Linux.
pub const LINK: &str = "eth0";

/// Tag of the host's directory that the monitor shares with the guest by 9p or virtiofs.
pub const SHARE: &str = "tarebench";

/// How long a device may take to show up after its driver is loaded. Drivers probe within `finit_module`, NVMe and SCSI
/// behind it; under emulation on a busy machine that has taken 0.3 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// The guest's part of the kernel command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orders {
    /// The data disk, as the guest names it: `/dev/vda`. `None`: the data lies on the initramfs, good for a probe only.
    pub disk: Option<PathBuf>,
    /// The server of an NFS export `/data` that takes the place of the data disk.
    pub nfs: Option<Ipv4Addr>,
    /// How a directory [`SHARE`], shared by 9p in the place of the data disk, is cached: `none`, `mmap`, `loose`.
    pub p9: Option<String>,
    /// Bytes of the largest message of that 9p.
    pub msize: Option<u64>,
    /// Whether a directory [`SHARE`], shared by virtiofs, takes the place of the data disk.
    pub virtiofs: bool,
    /// Address of the network device, with the length of its prefix.
    pub address: Option<(Ipv4Addr, u8)>,
    /// The same in IPv6.
    pub address6: Option<(Ipv6Addr, u8)>,
    /// Its largest packet, where it is not the driver's own choice.
    pub mtu: Option<u32>,
    /// Name of that device, where it is not [`LINK`].
    pub link: Option<String>,
    /// A directory of the host that holds the data, for a kernel with hostfs (User-mode Linux).
    pub hostfs: Option<PathBuf>,
    /// The serial line that carries the protocol, where it is not the virtio port [`PORT`].
    pub tty: Option<PathBuf>,
    /// The machine is reset at the end: its monitor has no power off, and takes a reset for the end.
    pub reset: bool,
    /// Words for the kernel, which stand before all orders: were the line too long, an order would be missed, and not one of these.
    pub append: Vec<String>,
}

impl fmt::Display for Orders {
    /// As words for the kernel command line. A dot in a name keeps the kernel from passing it to PID 1 as an argument.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disk = self.disk.as_ref().map(|d| format!("tarebench.disk={}", d.display()));
        let address = self.address.map(|(ip, prefix)| format!("tarebench.address={ip}/{prefix}"));
        let nfs = self.nfs.map(|server| format!("tarebench.nfs={server}"));
        let address6 = self.address6.map(|(ip, prefix)| format!("tarebench.address6={ip}/{prefix}"));
        let link = self.link.as_ref().map(|name| format!("tarebench.link={name}"));
        let hostfs = self.hostfs.as_ref().map(|d| format!("tarebench.hostfs={}", d.display()));
        let tty = self.tty.as_ref().map(|t| format!("tarebench.tty={}", t.display()));
        let p9 = self.p9.as_ref().map(|cache| format!("tarebench.9p={cache}"));
        let virtiofs = self.virtiofs.then(|| format!("tarebench.virtiofs={SHARE}"));
        let end = self.reset.then(|| "tarebench.end=reset".to_string());
        let msize = self.msize.map(|bytes| format!("tarebench.msize={bytes}"));
        let mtu = self.mtu.map(|bytes| format!("tarebench.mtu={bytes}"));
        let words = [disk, nfs, p9, msize, virtiofs, address, address6, mtu, link, hostfs, tty, end];
        let words = self.append.iter().cloned().chain(words.into_iter().flatten());
        f.write_str(&words.collect::<Vec<_>>().join(" "))
    }
}

impl Orders {
    /// Whether something is to be mounted on [`DATA`].
    fn has_data(&self) -> bool {
        self.disk.is_some() || self.nfs.is_some() || self.p9.is_some() || self.virtiofs || self.hostfs.is_some()
    }

    /// Finds the orders among the other words of a kernel command line.
    ///
    /// # Errors
    /// For an order that can't be understood: host and guest are then not the same version.
    pub fn parse(command_line: &str) -> anyhow::Result<Self> {
        let mut orders = Self::default();
        for word in command_line.split_whitespace() {
            let Some((name, value)) = word.strip_prefix("tarebench.").and_then(|w| w.split_once('=')) else { continue };
            match name {
                "disk" => orders.disk = Some(PathBuf::from(value)),
                "nfs" => orders.nfs = Some(value.parse().with_context(|| format!("bad address in `{word}`"))?),
                "9p" => orders.p9 = Some(value.to_string()),
                "msize" => orders.msize = Some(value.parse().with_context(|| format!("bad size in `{word}`"))?),
                "mtu" => orders.mtu = Some(value.parse().with_context(|| format!("bad size in `{word}`"))?),
                "virtiofs" => orders.virtiofs = value == SHARE,
                "address" => orders.address = Some(parse_address(word, value, 32)?),
                "address6" => orders.address6 = Some(parse_address(word, value, 128)?),
                "link" => orders.link = Some(value.to_string()),
                "hostfs" => orders.hostfs = Some(PathBuf::from(value)),
                "tty" => orders.tty = Some(PathBuf::from(value)),
                "end" => orders.reset = value == "reset",
                _ => bail!("unknown order `{word}` on the kernel command line"),
            }
        }
        Ok(orders)
    }
}

/// Address and length of its prefix, at most `longest`; `word` is what they stand in.
fn parse_address<A: FromStr<Err = AddrParseError>>(word: &str, value: &str, longest: u8) -> anyhow::Result<(A, u8)> {
    let (ip, prefix) = value.split_once('/').with_context(|| format!("no prefix length in `{word}`"))?;
    let prefix: u8 = prefix.parse().with_context(|| format!("bad prefix length in `{word}`"))?;
    if prefix > longest {
        bail!("bad prefix length in `{word}`");
    }
    Ok((ip.parse().with_context(|| format!("bad address in `{word}`"))?, prefix))
}

/// Runs the guest from its first instruction in user space to power off. A failure goes to the console in words, which
/// the host quotes: the exit status of a VM says nothing.
pub fn main() -> ! {
    let orders = orders();
    if let Err(e) = run(&orders) {
        eprintln!("tarebench init: {e:#}");
        // Where the channel is the only line, that nobody has seen.
        if let Ok(Orders { tty: Some(line), .. }) = &orders
            && let Err(e) = confess(line, &format!("the guest's init failed: {e:#}"))
        {
            eprintln!("tarebench init: {e:#}");
        }
    }
    // The console is a UART behind a buffer in the kernel, and power off does not wait for it.
    if let Err(e) = nix::sys::termios::tcdrain(std::io::stderr()) {
        eprintln!("tarebench init: can't drain the console: {e}");
    }
    // SAFETY: sync has no arguments and can't fail.
    unsafe { libc::sync() };
    let reset = orders.is_ok_and(|orders| orders.reset);
    let Err(e) = reboot(if reset { RebootMode::RB_AUTOBOOT } else { RebootMode::RB_POWER_OFF });
    eprintln!("tarebench init: can't power off: {e}");
    // Leaving PID 1 makes the kernel panic, and `panic=-1` makes that a reboot, which QEMU takes for its end.
    std::process::exit(1)
}

/// The file systems that the kernel shows itself in, and its command line in one of them.
fn orders() -> anyhow::Result<Orders> {
    for (source, target) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/tmp")] {
        fs::create_dir_all(target).with_context(|| format!("can't make {target}"))?;
        match mount(Some(source), target, Some(source), MsFlags::empty(), None::<&str>) {
            // Some kernels have mounted /dev themselves.
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(e) => return Err(e).with_context(|| format!("can't mount {source} on {target}")),
        }
    }
    Orders::parse(&fs::read_to_string("/proc/cmdline").context("can't read the kernel command line")?)
}

/// Says to the host in a frame why there will be no hello.
fn confess(line: &Path, message: &str) -> anyhow::Result<()> {
    let mut line = open_line(line)?;
    let body = Response::Failed { message: message.to_string() };
    write_frame(&mut line, &Envelope { id: 0, received_ns: 0, sent_ns: 0, body })
        .context("can't write to the channel")?;
    nix::sys::termios::tcdrain(&line).context("can't drain the channel")
}

fn run(orders: &anyhow::Result<Orders>) -> anyhow::Result<()> {
    // Orphans become children of PID 1; ignoring SIGCHLD makes the kernel reap them.
    // SAFETY: SIG_IGN is no handler, and no other thread exists yet.
    unsafe { nix::sys::signal::signal(nix::sys::signal::Signal::SIGCHLD, nix::sys::signal::SigHandler::SigIgn) }
        .context("can't ignore SIGCHLD")?;
    let orders = orders.as_ref().map_err(|e| anyhow::anyhow!("{e:#}"))?;
    // No initramfs, no modules: the kernel has what it needs.
    if Path::new(MODULES).exists() {
        load_modules(Path::new(MODULES))?;
    }
    set_up_link("lo", Some((Ipv4Addr::LOCALHOST, 8)), None)?;
    if orders.address.is_some() {
        let link = orders.link.as_deref().unwrap_or(LINK);
        wait_for(&Path::new("/sys/class/net").join(link), "a network device")?;
        // Before the device is up: it would ask for routers and for others with its address while something is timed.
        let ipv6 = orders.address6.filter(|_| keep_ipv6_quiet(link));
        set_up_link(link, orders.address, orders.mtu)?;
        if let Some((ip, prefix)) = ipv6 {
            add_address6(link, ip, prefix)?;
        }
    }
    fs::create_dir_all(DATA).with_context(|| format!("can't make {DATA}"))?;
    if let Some(disk) = &orders.disk {
        wait_for(disk, "the data disk")?;
        // No options: what distributions mount an ext4 with, as on the host.
        mount(Some(disk), DATA, Some("ext4"), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("can't mount {} on {DATA} as ext4", disk.display()))?;
    }
    if let Some(server) = orders.nfs {
        mount_nfs(server, orders.address)?;
    }
    if let Some(cache) = &orders.p9 {
        let msize = orders.msize.map(|bytes| format!(",msize={bytes}")).unwrap_or_default();
        mount_share("9p", Some(&format!("trans=virtio,version=9p2000.L,cache={cache}{msize}")))?;
        if let Some(wanted) = orders.msize {
            check_msize(&fs::read_to_string("/proc/mounts").context("can't read the mounts")?, wanted)?;
        }
    }
    if orders.virtiofs {
        mount_share("virtiofs", None)?;
    }
    if let Some(folder) = &orders.hostfs {
        mount(Some("none"), DATA, Some("hostfs"), MsFlags::empty(), Some(folder))
            .with_context(|| format!("can't mount the host's {} on {DATA} as hostfs", folder.display()))?;
    }
    let served = match &orders.tty {
        Some(line) => serve_on_line(line),
        None => serve(&find_port()?),
    };
    if orders.has_data() {
        umount(DATA).with_context(|| format!("can't unmount {DATA}"))?;
    }
    served
}

/// By system call, with the options that mount.nfs would find out (nfs(5)); the protocol's newest version is agreed upon.
fn mount_nfs(server: Ipv4Addr, own: Option<(Ipv4Addr, u8)>) -> anyhow::Result<()> {
    let (own, _) = own.context("data on NFS needs a network device")?;
    let options = format!("vers=4.2,addr={server},clientaddr={own}");
    let source = format!("{server}:/data");
    mount(Some(source.as_str()), DATA, Some("nfs4"), MsFlags::empty(), Some(options.as_str()))
        .with_context(|| format!("can't mount {source} on {DATA} as nfs4 with {options}"))
}

/// A directory that the monitor hands on through a virtio device, whose driver finds it by its tag.
fn mount_share(kind: &str, options: Option<&str>) -> anyhow::Result<()> {
    mount(Some(SHARE), DATA, Some(kind), MsFlags::empty(), options)
        .with_context(|| format!("can't mount the host's directory on {DATA} as {kind} with {options:?}"))
}

/// Looks whether messages of 9p may be as large as they were to be. The kernel lowers what its transport can't carry without a word,
/// and names the size unless it is its default: 128 KiB since 5.15, 8 KiB before.
fn check_msize(mounts: &str, wanted: u64) -> anyhow::Result<()> {
    let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(DATA)).context("nothing is mounted there")?;
    let options = line.split(' ').nth(3).unwrap_or_default();
    let found = options.split(',').find_map(|option| option.strip_prefix("msize=")?.parse::<u64>().ok());
    let right = found.map_or(matches!(wanted, 8192 | 131_072), |found| found == wanted);
    if !right {
        let found = found.map_or("the kernel's default".into(), |bytes| bytes.to_string());
        bail!(
            "9p.msize={wanted} came out as {found}: its virtio transport carries no more; set 9p.msize to that or less"
        );
    }
    Ok(())
}

fn serve(path: &Path) -> anyhow::Result<()> {
    let port = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .with_context(|| format!("can't open the channel {}", path.display()))?;
    let mut output = Port(port.try_clone().context("can't clone the channel")?);
    crate::agent::serve(&mut BufReader::with_capacity(1 << 16, Port(port)), &mut output, Path::new(DATA))
}

/// A serial line is 8-bit clean and passes everything on at once only when told so.
fn open_line(path: &Path) -> anyhow::Result<File> {
    use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
    let line = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(path)
        .with_context(|| format!("can't open the channel {}", path.display()))?;
    let mut how = tcgetattr(&line).with_context(|| format!("{} is no serial line", path.display()))?;
    cfmakeraw(&mut how);
    tcsetattr(&line, SetArg::TCSANOW, &how).with_context(|| format!("can't make {} raw", path.display()))?;
    Ok(line)
}

fn serve_on_line(path: &Path) -> anyhow::Result<()> {
    let line = open_line(path)?;
    let mut output = line.try_clone().context("can't clone the channel")?;
    let served = crate::agent::serve(&mut BufReader::with_capacity(1 << 16, line), &mut output, Path::new(DATA));
    // Power off does not wait for what the line still holds. A host that has gone leaves a line that can't be drained.
    if let Err(e) = nix::sys::termios::tcdrain(&output) {
        eprintln!("tarebench init: can't drain the channel: {e}");
    }
    served
}

/// A virtio port that notices when the host has gone. The kernel lets a blocking write to such a port sleep for ever:
/// the answer to a `Bye` whose sender doesn't wait for it kept a guest from powering off.
struct Port(File);

impl Port {
    /// Sleeps until there is something to do; `false` when the host has closed its end.
    fn wait(&self, what: PollFlags) -> io::Result<bool> {
        let mut ports = [PollFd::new(self.0.as_fd(), what)];
        match poll(&mut ports, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {
                let gone = PollFlags::POLLHUP | PollFlags::POLLERR;
                Ok(!ports[0].revents().is_some_and(|seen| seen.intersects(gone)))
            }
            Err(e) => Err(e.into()),
        }
    }
}

impl Read for Port {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                // What the host sent before it went is still read; after that, reading finds the end.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => _ = self.wait(PollFlags::POLLIN)?,
                result => return result,
            }
        }
    }
}

impl Write for Port {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if !self.wait(PollFlags::POLLOUT)? {
                        return Err(io::ErrorKind::BrokenPipe.into());
                    }
                }
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Loads the modules of an initramfs in the order given there.
fn load_modules(folder: &Path) -> anyhow::Result<()> {
    let order = folder.join(MODULE_ORDER);
    let names = fs::read_to_string(&order).with_context(|| format!("can't read {}", order.display()))?;
    for name in names.lines() {
        let path = folder.join(name);
        if load_unsigned(&path) {
            continue;
        }
        let file = File::open(&path).with_context(|| format!("can't open the module {}", path.display()))?;
        // Linux 5.17 and later unpack what their own distribution packs; the runner unpacks for older ones.
        let packed = !name.ends_with(".ko");
        let flags = if packed {
            ModuleInitFlags::from_bits_retain(MODULE_INIT_COMPRESSED_FILE)
        } else {
            ModuleInitFlags::empty()
        };
        match finit_module(&file, c"", flags) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(e) => bail!("can't load the module {}: {e}", path.display()),
        }
    }
    Ok(())
}

/// Loads a module without the signature that its distribution has put behind it, which under emulation takes a third of the
/// time. The module came with this program and can't be less genuine than it. `false` where the kernel insists on signatures,
/// or where there is none.
fn load_unsigned(path: &Path) -> bool {
    let load = || {
        let bytes = fs::read(path).ok()?;
        init_module(unsigned(&bytes)?, c"").ok()
    };
    load().is_some()
}

/// A module without its signature, where it has one: signature, then [`SIGNATURE_TRAILER`] bytes that end in its length, then
/// [`SIGNED`] (`linux/module_signature.h`).
fn unsigned(module: &[u8]) -> Option<&[u8]> {
    let (module, trailer) = module.strip_suffix(SIGNED)?.split_last_chunk::<SIGNATURE_TRAILER>()?;
    let [.., a, b, c, d] = *trailer;
    module.get(..module.len().checked_sub(u32::from_be_bytes([a, b, c, d]) as usize)?)
}

/// The last bytes of a signed module.
const SIGNED: &[u8] = b"~Module signature appended~\n";
/// Size of `struct module_signature`, bytes.
const SIGNATURE_TRAILER: usize = 12;

/// From `linux/module.h`; nix has no name for it.
const MODULE_INIT_COMPRESSED_FILE: libc::c_uint = 4;

fn wait_for(path: &Path, what: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    while !path.exists() {
        if begun.elapsed() > PATIENCE {
            bail!(
                "{what} did not appear as {} within {} s: the kernel has no driver for it, or the machine lacks it",
                path.display(),
                PATIENCE.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn find_port() -> anyhow::Result<PathBuf> {
    let begun = Instant::now();
    let class = Path::new("/sys/class/virtio-ports");
    loop {
        // The host announces the name of a port after the port itself, so a missing one may still come.
        for port in fs::read_dir(class).into_iter().flatten().flatten() {
            let name = fs::read_to_string(port.path().join("name")).unwrap_or_default();
            if name.trim() == PORT {
                return Ok(Path::new("/dev").join(port.file_name()));
            }
        }
        if begun.elapsed() > PATIENCE {
            bail!("no virtio port named `{PORT}` within {} s in {}", PATIENCE.as_secs(), class.display());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Gives a device its address and its largest packet, and turns it on.
fn set_up_link(device: &str, address: Option<(Ipv4Addr, u8)>, mtu: Option<u32>) -> anyhow::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("can't open a socket to set up links")?;
    let ask = |request: libc::Ioctl, what: &str, fill: &dyn Fn(&mut libc::ifreq)| {
        // SAFETY: all-zero bytes are a valid ifreq: integers, and unions of integers and pointers never followed here.
        let mut ifreq: libc::ifreq = unsafe { std::mem::zeroed() };
        for (slot, byte) in ifreq.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(device.bytes()) {
            *slot = byte as libc::c_char;
        }
        fill(&mut ifreq);
        // SAFETY: the requests used here read and write one ifreq, which outlives the call.
        let result = unsafe { libc::ioctl(socket.as_raw_fd(), request, &mut ifreq) };
        Errno::result(result).with_context(|| format!("can't set the {what} of {device}"))
    };
    if let Some((ip, prefix)) = address {
        ask(libc::SIOCSIFADDR, "address", &|r| r.ifr_ifru.ifru_addr = sockaddr(ip))?;
        let mask = Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0));
        ask(libc::SIOCSIFNETMASK, "netmask", &|r| r.ifr_ifru.ifru_netmask = sockaddr(mask))?;
    }
    if let Some(mtu) = mtu {
        ask(libc::SIOCSIFMTU, "MTU", &|r| r.ifr_ifru.ifru_mtu = mtu as libc::c_int)?;
    }
    let up = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    ask(libc::SIOCSIFFLAGS, "flags", &|r| r.ifr_ifru.ifru_flags = up)?;
    Ok(())
}

/// Keeps a device from making addresses of its own, asking for routers and looking for duplicates. `false` where the
/// kernel has no IPv6: what needs it fails then, and says so.
fn keep_ipv6_quiet(device: &str) -> bool {
    let settings = Path::new("/proc/sys/net/ipv6/conf").join(device);
    for (name, value) in [("disable_ipv6", "0"), ("accept_ra", "0"), ("accept_dad", "0"), ("addr_gen_mode", "1")] {
        let file = settings.join(name);
        if let Err(e) = fs::write(&file, value) {
            eprintln!("tarebench init: no IPv6: can't write {}: {e}", file.display());
            return false;
        }
    }
    true
}

/// Gives a device an IPv6 address.
fn add_address6(device: &str, ip: Ipv6Addr, prefix: u8) -> anyhow::Result<()> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).context("can't open a socket to set up IPv6")?;
    let index = nix::net::if_::if_nametoindex(device).with_context(|| format!("there is no device {device}"))?;
    let request = libc::in6_ifreq {
        ifr6_addr: libc::in6_addr { s6_addr: ip.octets() },
        ifr6_prefixlen: prefix.into(),
        ifr6_ifindex: index as libc::c_int,
    };
    // SAFETY: on a socket of this family the request reads one in6_ifreq, which outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFADDR, &raw const request) };
    Errno::result(result).with_context(|| format!("can't give {device} the address {ip}"))?;
    Ok(())
}

fn sockaddr(ip: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    for (slot, byte) in data[2..6].iter_mut().zip(ip.octets()) {
        *slot = byte as libc::c_char;
    }
    libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: data }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_survive_the_kernel_command_line() {
        let orders = Orders {
            disk: Some("/dev/vda".into()),
            nfs: Some([198, 18, 0, 1].into()),
            p9: Some("mmap".into()),
            msize: Some(262_144),
            mtu: Some(1400),
            virtiofs: true,
            address: Some(([198, 18, 0, 2].into(), 30)),
            address6: Some((Ipv6Addr::new(0x2001, 2, 0, 1, 0, 0, 0, 2), 64)),
            link: Some("vec0".into()),
            hostfs: Some("/var/tmp/data".into()),
            tty: Some("/dev/ttyS0".into()),
            reset: true,
            append: Vec::new(),
        };
        let line = format!("console=ttyS0 quiet {orders} panic=-1\n");
        assert_eq!(Orders::parse(&line).expect("our own words"), orders);
        assert_eq!(Orders::parse("quiet panic=-1").expect("no orders"), Orders::default());
        assert_eq!(Orders::default().to_string(), "");
        let more = Orders { append: vec!["mitigations=off".into()], ..orders.clone() };
        assert_eq!(more.to_string(), format!("mitigations=off {orders}"));
    }

    #[test]
    fn the_size_of_messages_is_read_back() {
        let mounts =
            |options: &str| format!("proc /proc proc rw 0 0\ntarebench /data 9p rw,{options}access=client 0 0\n");
        assert!(check_msize(&mounts("msize=262144,"), 262_144).is_ok());
        assert!(check_msize(&mounts(""), 131_072).is_ok(), "its default isn't said");
        let e = check_msize(&mounts("msize=507904,"), 1 << 20).expect_err("lowered").to_string();
        assert!(e.contains("9p.msize=1048576 came out as 507904"), "{e}");
        check_msize(&mounts(""), 1 << 20).expect_err("not taken");
        check_msize("proc /proc proc rw 0 0\n", 8192).expect_err("not mounted");
    }

    #[test]
    fn an_order_that_makes_no_sense_is_named() {
        for bad in [
            "tarebench.address=198.18.0.2",
            "tarebench.address=198.18.0.2/33",
            "tarebench.address6=198.18.0.2/30",
            "tarebench.address6=2001:2::2/129",
            "tarebench.frob=1",
        ] {
            let e = Orders::parse(bad).expect_err("not an order");
            assert!(format!("{e:#}").contains(bad), "{e:#}");
        }
    }

    #[test]
    fn a_module_is_told_from_its_signature() {
        let signed = |length: u32| [b"module", &[7; 5][..], &[0; 8], &length.to_be_bytes(), SIGNED].concat();
        assert_eq!(unsigned(&signed(5)), Some(&b"module"[..]));
        assert_eq!(unsigned(&signed(12)), None, "longer than the file");
        assert_eq!(unsigned(b"module"), None);
        assert_eq!(unsigned(SIGNED), None);
    }

    #[test]
    fn a_socket_address_has_the_bytes_in_network_order() {
        let raw = sockaddr([198, 18, 0, 2].into());
        assert_eq!(raw.sa_data[..6], [0, 0, 198_u8 as libc::c_char, 18, 0, 2]);
    }
}
