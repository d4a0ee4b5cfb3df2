//! `tarebench prove` on systems whose disks we can't cut the power of.

use std::path::Path;

use crate::cli;
use crate::exit::{Exit, OrExit};

/// Says where it can be done.
pub fn durability(_: cli::Durability) -> anyhow::Result<Exit> {
    unknown().or_exit(Exit::Host)
}

/// Nobody starts it.
pub fn serve_disk(_: &Path, _: &Path) -> anyhow::Result<()> {
    unknown().map(drop)
}

fn unknown() -> anyhow::Result<Exit> {
    anyhow::bail!("the disk whose power is cut is made of Linux's FUSE and loop devices; run it on Linux")
}
