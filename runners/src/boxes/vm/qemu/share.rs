//! A directory of the host in the guest: by 9p, which QEMU serves itself, or by virtiofs, which a process beside it serves out
//! of the guest's own memory.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use workloads::init::SHARE;

use super::options::{Security, VirtiofsOptions};
use super::value::value;
use crate::names;
use crate::process::{Beside, Program, confine};
use crate::stage::Stage;

/// Where distributions keep a program that no user calls: Debian 12 has the one that came with QEMU until 7.2, others the one
/// that replaced it.
const VIRTIOFSD: Program = Program::of("virtiofsd", "virtiofsd")
    .or_at(&["/usr/libexec/virtiofsd", "/usr/lib/virtiofsd", "/usr/lib/qemu/virtiofsd"])
    .or_fix("apt install virtiofsd (Debian 12: qemu-system-common), or set data=9p or data=disk");

/// A shared directory, ready to be used by one guest.
#[derive(Debug)]
pub enum Share {
    /// QEMU's own file server.
    P9 {
        /// The shared directory.
        folder: PathBuf,
        /// Whose the guest's files are on the host.
        security: Security,
    },
    /// The socket of a virtiofsd.
    Virtiofs(PathBuf),
}

impl Share {
    /// Adds it to QEMU; `way` is how virtio devices are attached.
    pub fn add_to(&self, q: &mut Command, way: &str) {
        match self {
            Self::P9 { folder, security } => {
                let path = value(folder);
                q.arg("-fsdev").arg(format!("local,id=share,path={path},security_model={security}"));
                q.arg("-device").arg(format!("virtio-9p-{way},fsdev=share,mount_tag={SHARE}"))
            }
            Self::Virtiofs(socket) => {
                q.arg("-chardev").arg(format!("socket,id=share,path={}", value(socket)));
                q.arg("-device").arg(format!("vhost-user-fs-{way},chardev=share,tag={SHARE}"))
            }
        };
    }
}

/// A virtiofsd that serves one guest, killed on drop. By itself it ends with its guest.
#[derive(Debug)]
pub struct Virtiofsd {
    _process: Beside,
    /// The program itself.
    pub program: PathBuf,
    /// Where QEMU finds it.
    pub socket: PathBuf,
    /// Its log, quoted when a guest doesn't start.
    pub log: PathBuf,
}

impl Virtiofsd {
    /// Starts it on the stage's data, under the limits of the environment that it belongs to.
    ///
    /// # Errors
    /// When there is none, or it can't be started.
    pub fn start(options: &VirtiofsOptions, stage: &mut Stage) -> anyhow::Result<Self> {
        if !stage.host.privileged {
            // The one in C can't, the one in Rust needs subordinate user ids.
            bail!("data=virtiofs needs root, as virtiofsd does; set data=9p or data=disk");
        }
        let program = VIRTIOFSD.require(options.binary.as_deref())?;
        let data = names::plain(stage.data(), "virtiofsd", &[','])?.to_string();
        let socket = stage.scratch().join("virtiofs.socket");
        let log = stage.scratch().join("virtiofsd.log");
        if socket.exists() {
            fs::remove_file(&socket).with_context(|| format!("can't remove {}", socket.display()))?;
        }
        // We listen and it inherits: no moment at which QEMU would find nothing, and no lock of its in /run.
        let listener = UnixListener::bind(&socket).with_context(|| format!("can't listen on {}", socket.display()))?;
        let mut command = Command::new(&program);
        command.arg("--fd=0").stdin(OwnedFd::from(listener));
        // The old notation of options is the one that all versions know.
        command.arg("-o").arg(format!("source={data}")).arg("-o").arg(format!("cache={}", options.cache));
        if options.direct {
            command.args(["-o", "allow_direct_io"]);
        }
        let stderr = File::create(&log).with_context(|| format!("can't make {}", log.display()))?;
        command.stdout(Stdio::null()).stderr(stderr).process_group(0);
        // Its directory marks it as ours, should the harness be killed.
        command.current_dir(stage.scratch());
        let entrances = stage.cgroup().entrances();
        confine(&mut command, None, &entrances, &stage.host.pinning.work).context("can't prepare virtiofsd")?;
        let process = Beside::start(&mut command, "virtiofsd")?;
        Ok(Self { _process: process, program, socket, log })
    }
}

impl Drop for Virtiofsd {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_file(&self.socket) {
            log::debug!("remove {}: {e}", self.socket.display());
        }
    }
}
