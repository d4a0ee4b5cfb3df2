//! `tarebench enter` where there are no Linux namespaces to enter.

use std::convert::Infallible;
use std::ffi::OsString;

/// Refuses: only runners that need Linux call it.
///
/// # Errors
/// Always.
pub fn enter(_args: impl IntoIterator<Item = OsString>) -> anyhow::Result<Infallible> {
    anyhow::bail!("`enter` serves the runners chroot and namespaces, which need Linux")
}
