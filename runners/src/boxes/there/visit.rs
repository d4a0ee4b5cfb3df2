//! What the runners share that enter a box which was there before us (`exec`, `ssh`): the names of what a visit leaves there,
//! the agent's command line, how it is taken away again, and a peer that such a box can reach.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};
use workloads::facts::Network;
use workloads::settings::{Kind, Setting, Settings};

use crate::launch::Launch;
use crate::names::hex;
use crate::path::PathToPeer;
use crate::stage::Stage;
use crate::stage::data::DataPath;

/// Where the agent works inside.
pub(crate) const DATA: Setting = Setting {
    name: "data",
    kind: Kind::Path,
    default: "/var/tmp",
    about: "A directory inside the box; the agent works in a folder that it makes there and removes at the end",
};

/// Which binary goes in.
pub(crate) const AGENT: Setting = Setting {
    name: "agent",
    kind: Kind::Path,
    default: "",
    about: "A tarebench on this host for the box's kind of machine; by default our own",
};

/// How the box reaches us.
pub(crate) const PEER: Setting = Setting {
    name: "peer",
    kind: Kind::Address,
    default: "",
    about: "This host's address as the box sees it: a peer listens there; without one there is no network work",
};

/// One start of an agent in somebody's box.
#[derive(Debug, Clone)]
pub(crate) struct Visit {
    /// The agent's folder inside.
    pub(crate) folder: String,
    /// The agent's binary inside.
    pub(crate) agent: String,
    /// Whether it was brought for this visit.
    pub(crate) copied: bool,
    /// The binary on this host.
    pub(crate) binary: PathBuf,
}

impl Visit {
    /// `installed` is the path of an agent that is there already.
    pub(crate) fn new(settings: &Settings, stage: &Stage, installed: Option<&str>) -> anyhow::Result<Self> {
        let data = settings.get("data").trim_end_matches('/');
        for path in [Some(data), installed].into_iter().flatten() {
            if !path.starts_with('/') && !path.is_empty() {
                bail!("`{path}` is not an absolute path inside the box");
            }
        }
        let folder = format!("{data}/{}", stage.next_id());
        let agent = installed.map_or_else(|| format!("{folder}-agent"), String::from);
        let binary = match settings.get("agent") {
            "" => stage.host.binary.clone(),
            path => PathBuf::from(path),
        };
        if binary == stage.host.binary {
            stage.host.require_static()?;
        }
        Ok(Self { folder, agent, copied: installed.is_none(), binary })
    }

    /// The agent's words.
    pub(crate) fn run(&self) -> Vec<String> {
        let mut words: Vec<String> =
            [&*self.agent, "agent", "--data", &*self.folder, "--visit"].map(String::from).to_vec();
        if self.copied {
            words.extend(["--copy".to_string(), self.agent.clone()]);
        }
        words
    }

    /// The words that take away what an agent that was killed has left.
    pub(crate) fn leave(&self) -> Vec<String> {
        let mut words = vec![self.agent.clone(), "leave".into(), self.folder.clone()];
        if self.copied {
            words.push(self.agent.clone());
        }
        words
    }

    /// What every launch into such a box says of itself.
    pub(crate) fn finish(&self, launch: Launch, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let path = match settings.get("peer") {
            "" => PathToPeer::none(),
            text => {
                let peer = text.parse().expect("addresses were checked by resolve");
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
