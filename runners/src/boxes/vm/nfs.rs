//! The data directory as an NFS export from the host: nfs-ganesha, a server in user space, in the peer's network namespace,
//! because not every kernel has a server of its own. The database server of old, whose files were on another machine.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::process;
use crate::process::{Beside, confine};
use crate::stage::Stage;

const PROGRAM: &str = "ganesha.nfsd";
const PACKAGES: &str = "nfs-ganesha nfs-ganesha-vfs";

/// How long the server may take until it says that it serves; here it takes 1 s.
const PATIENCE: Duration = Duration::from_secs(15);

/// In its log as soon as it serves.
const READY: &str = "NFS SERVER INITIALIZED";

/// A live server of one directory, ended on drop.
#[derive(Debug)]
pub(crate) struct Server {
    process: Beside,
}

impl Server {
    /// Exports the stage's data as `/data` at `address`, an address of the peer's namespace, to `guest` alone: every other box of
    /// the run reaches that address too. What the server keeps goes below the stage's scratch directory.
    ///
    /// # Errors
    /// When it isn't installed, can't export this directory, or isn't ready in time: in its own words.
    pub(crate) fn start(stage: &Stage, address: Ipv4Addr, guest: Ipv4Addr) -> anyhow::Result<Self> {
        let program = process::require(PROGRAM, PACKAGES).map_err(|e| anyhow::anyhow!("data=nfs: {e}; {}", e.fix))?;
        let netns =
            stage.peer_network().map_err(|because| anyhow::anyhow!("data=nfs needs root: {because}"))?.netns().path();
        let (data, folder) = (stage.data(), stage.scratch().join("nfs"));
        let recovery = folder.join("recovery");
        fs::create_dir_all(&recovery).with_context(|| format!("can't make {}", recovery.display()))?;
        let (settings, log) = (folder.join("ganesha.conf"), folder.join("log"));
        fs::write(&settings, configuration(address, guest, data, &recovery)?)
            .and_then(|()| fs::write(&log, ""))
            .with_context(|| format!("can't write {}", settings.display()))?;
        let mut command = Command::new(program);
        command.arg("-F").arg("-f").arg(&settings).arg("-L").arg(&log).arg("-p").arg(folder.join("pid"));
        // Its directory marks it as ours, should the harness be killed.
        command.current_dir(&folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        confine(&mut command, Some(&netns), &[], &stage.host.pinning.harness)
            .context("can't prepare the NFS server")?;
        let mut server = Self { process: Beside::start(&mut command, "the NFS server")? };
        let until = Instant::now() + PATIENCE;
        loop {
            let said = fs::read_to_string(&log).unwrap_or_default();
            // It serves nothing, and says so, rather than give up.
            if let Some(problem) = problem(&said) {
                bail!("`{PROGRAM}` can't export {}: {problem}", data.display());
            }
            if said.contains(READY) {
                return Ok(server);
            }
            if let Some(status) = server.process.ended()? {
                bail!("`{PROGRAM}` ended ({status}): {}", said.lines().last().unwrap_or("it said nothing"));
            }
            if Instant::now() > until {
                bail!(
                    "`{PROGRAM}` did not serve within {PATIENCE:?}: {}",
                    said.lines().last().unwrap_or("it said nothing")
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// NFSv4 alone, which needs no portmapper; no grace period, since nobody can have state from before; clients' root is root,
/// as the guest's agent is. Nobody but the guest is a client: an export without a type of access gives none.
fn configuration(address: Ipv4Addr, guest: Ipv4Addr, data: &Path, recovery: &Path) -> anyhow::Result<String> {
    let text = |path: &Path| -> anyhow::Result<String> {
        let text = path.to_str().filter(|t| !t.contains(['"', '\\', '\n']));
        let text = text.with_context(|| format!("{} can't be named in the NFS server's settings", path.display()))?;
        Ok(text.to_string())
    };
    let (data, recovery) = (text(data)?, text(recovery)?);
    Ok(format!(
        "NFS_CORE_PARAM {{ Protocols = 4; NFS_Port = 2049; Bind_addr = {address}; Enable_NLM = false; Enable_RQUOTA = false; }}\n\
         NFSv4 {{ Graceless = true; RecoveryBackend = fs; RecoveryRoot = \"{recovery}\"; Only_Numeric_Owners = true; }}\n\
         NFS_KRB5 {{ Active_krb5 = false; }}\n\
         EXPORT {{ Export_Id = 1; Path = \"{data}\"; Pseudo = \"/data\"; Access_Type = None; Squash = No_Root_Squash; \
         SecType = sys; Protocols = 4; Transports = TCP; FSAL {{ Name = VFS; }} \
         CLIENT {{ Clients = {guest}; Access_Type = RW; Squash = No_Root_Squash; }} }}\n\
         LOG {{ Default_Log_Level = EVENT; }}\n"
    ))
}

/// The line of a log that says why nothing is exported.
fn problem(log: &str) -> Option<&str> {
    log.lines().find(|l| {
        l.contains("No export entries") || l.contains("Failed to load FSAL") || l.contains("Could not export")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_name_the_directory_and_hold_no_surprise() {
        let [address, guest] = [1, 2].map(|last| Ipv4Addr::new(198, 18, 0, last));
        let text = configuration(address, guest, Path::new("/d/my data"), Path::new("/s")).expect("fine");
        assert!(text.contains("Path = \"/d/my data\"; Pseudo = \"/data\"") && text.contains("Bind_addr = 198.18.0.1;"));
        configuration(address, guest, Path::new("/d\"; }"), Path::new("/s")).expect_err("a quotation mark");
    }

    #[test]
    fn nobody_but_the_guest_is_let_in() {
        let [address, guest] = [5, 6].map(|last| Ipv4Addr::new(198, 18, 0, last));
        let text = configuration(address, guest, Path::new("/d"), Path::new("/s")).expect("fine");
        let (all, client) = text.split_once("CLIENT {").expect("a client");
        assert!(all.contains("Access_Type = None;") && !all.contains("RW"), "{text}");
        assert!(client.starts_with(" Clients = 198.18.0.6; Access_Type = RW;"), "{text}");
    }

    #[test]
    fn a_server_that_serves_nothing_is_found_out() {
        assert_eq!(
            problem("a\nx :WARN :No export entries found in configuration file !!!\nb"),
            Some("x :WARN :No export entries found in configuration file !!!")
        );
        assert_eq!(problem(READY), None);
    }
}
