//! A visit to a box which was there before us (`exec`, `ssh`): the names of what a visit leaves there,
//! the agent's command line, how it is taken away again, and a peer that such a box can reach.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use sha2::{Digest, Sha256};
use workloads::facts::Network;
use workloads::settings;
use workloads::settings::SettingError;
use workloads::visit::MARK;

use crate::launch::Launch;
use crate::names::hex;
use crate::path::PathToPeer;
use crate::stage::Stage;
use crate::stage::data::DataPath;

settings! {
    /// The settings that all runners of such boxes have.
    pub(crate) struct Options {
        /// A directory inside the box; the agent works in a folder that it makes there and removes at the end
        data: Option<PathBuf> = "/var/tmp",
        /// A tarebench on this host for the box's kind of machine; by default our own
        agent: Option<PathBuf> = "",
        /// This host's address as the box sees it: a peer listens there; without one there is no network work
        peer: Option<IpAddr> = "",
    }
}

impl Options {
    /// Refuses a data directory that depends on where one is.
    pub(crate) fn check(&self) -> Result<(), SettingError> {
        check_inside(Path::new(&self.below()))
    }

    /// The data directory without a slash at its end; the root directory is no text at all.
    fn below(&self) -> String {
        let data = self.data.as_deref().unwrap_or(Path::new("")).to_string_lossy();
        data.trim_end_matches('/').to_string()
    }

    /// A path in the data directory that nothing else has and nobody can tell beforehand.
    fn unguessable(&self, stage: &Stage) -> anyhow::Result<String> {
        let mut random = [0; 8];
        File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random)).context("can't draw a name")?;
        Ok(format!("{}/{}-{}", self.below(), stage.next_id(), hex(&random)))
    }

    /// The agent's binary on this host.
    fn binary(&self, stage: &Stage) -> anyhow::Result<PathBuf> {
        let binary = self.agent.clone().unwrap_or_else(|| stage.host.binary.clone());
        if binary == stage.host.binary {
            stage.host.require_static()?;
        }
        Ok(binary)
    }
}

/// Refuses a path inside the box that depends on where one is.
pub(crate) fn check_inside(path: &Path) -> Result<(), SettingError> {
    if path.has_root() || path.as_os_str().is_empty() {
        return Ok(());
    }
    Err(SettingError::Conflict(format!("`{}` is not an absolute path inside the box", path.display())))
}

/// One start of an agent in somebody's box.
#[derive(Debug, Clone)]
pub(crate) struct Visit {
    /// The agent's folder inside.
    pub(crate) folder: String,
    /// The agent's binary inside.
    pub(crate) agent: String,
    /// The path that was brought for this visit and goes with it: the binary, or the folder around it.
    pub(crate) brought: Option<String>,
    /// The binary on this host.
    pub(crate) binary: PathBuf,
}

impl Visit {
    /// `installed` is the path of an agent that is there already.
    pub(crate) fn new(options: &Options, stage: &Stage, installed: Option<&Path>) -> anyhow::Result<Self> {
        let folder = options.unguessable(stage)?;
        let agent = installed.map_or_else(|| format!("{folder}-agent"), |path| path.display().to_string());
        let brought = installed.is_none().then(|| agent.clone());
        Ok(Self { folder, agent, brought, binary: options.binary(stage)? })
    }

    /// All of it in one folder, which has to be made first, and for its owner alone: in a directory that everybody may write
    /// to, nobody else can put a file or a link where the agent is about to be copied.
    pub(crate) fn in_own_folder(options: &Options, stage: &Stage) -> anyhow::Result<(Self, String)> {
        let own = options.unguessable(stage)?;
        let [folder, agent] = ["data", "agent"].map(|name| format!("{own}/{MARK}{name}"));
        let visit = Self { folder, agent, brought: Some(own.clone()), binary: options.binary(stage)? };
        Ok((visit, own))
    }

    /// The agent's words.
    pub(crate) fn run(&self) -> Vec<String> {
        let mut words: Vec<String> =
            [&*self.agent, "agent", "--data", &*self.folder, "--visit"].map(String::from).to_vec();
        if let Some(brought) = &self.brought {
            words.extend(["--copy".to_string(), brought.clone()]);
        }
        words
    }

    /// The words that take away what an agent that was killed has left.
    pub(crate) fn leave(&self) -> Vec<String> {
        let mut words = vec![self.agent.clone(), "leave".into(), self.folder.clone()];
        words.extend(self.brought.clone());
        words
    }

    /// The launch with what every one into such a box states; `peer` is this host's address as the box sees it.
    pub(crate) fn finish(&self, launch: Launch, peer: Option<IpAddr>, stage: &mut Stage) -> anyhow::Result<Launch> {
        let path = match peer {
            None => PathToPeer::none(),
            Some(peer) => {
                let port = Some(stage.peer_on(peer)?);
                PathToPeer { network: Network::Own, peer: Some(peer), port, ..PathToPeer::none() }
            }
        };
        Ok(Launch {
            binary_sha256: Some(sha256(&self.binary)?),
            unequal: Some(
                "CPUs and memory are the box's own: it was there before us, and no limit of ours holds inside".into(),
            ),
            ..launch.over(path).data(DataPath::unknown("a directory of the box's own"))
        })
    }
}

fn sha256(file: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(file).with_context(|| format!("can't read the binary {}", file.display()))?;
    Ok(hex(&Sha256::digest(&bytes)))
}
