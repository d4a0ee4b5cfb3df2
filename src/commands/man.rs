//! `tarebench man`: manual pages made from the command line's own definition.

use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;

use crate::cli::Cli;
use crate::commands::print_bytes;
use crate::exit::Exit;

/// Prints the page, or writes all pages into `dir`.
pub fn run(dir: Option<&Path>) -> anyhow::Result<Exit> {
    match dir {
        Some(dir) => clap_mangen::generate_to(Cli::command(), dir)
            .with_context(|| format!("can't write manual pages into {}", dir.display()))?,
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page).context("can't write the manual page")?;
            print_bytes(&page)?;
        }
    }
    Ok(Exit::Done)
}
