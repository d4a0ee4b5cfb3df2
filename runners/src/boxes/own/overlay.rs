//! An overlay whose layers are directories of the data, mounted by ourselves.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::stage::Stage;

/// Makes the directories that an overlay in the stage's data is mounted from and on.
///
/// # Errors
/// When the path can't be an option of overlayfs, or a directory can't be made.
pub(crate) fn lay(stage: &Stage) -> anyhow::Result<()> {
    options(stage.data(), false)?;
    for part in ["lower", "upper", "work", "merged"] {
        let place = stage.data().join(part);
        fs::create_dir_all(&place).with_context(|| format!("can't make {}", place.display()))?;
    }
    Ok(())
}

/// Options of an overlay whose layers are directories in `data`.
///
/// # Errors
/// When the path holds what overlayfs takes for punctuation.
pub(crate) fn options(data: &Path, in_user_namespace: bool) -> anyhow::Result<String> {
    let text = data.to_str().filter(|t| !t.contains([',', ':', '\\', '"']));
    let Some(text) = text else {
        bail!(
            "an overlay can't be made in {}: its path may not hold a comma, a colon, a backslash or a quotation mark; set \
             data=bind, or give another --data-dir",
            data.display()
        );
    };
    let attributes = if in_user_namespace { ",userxattr" } else { "" };
    Ok(format!("lowerdir={text}/lower,upperdir={text}/upper,workdir={text}/work{attributes}"))
}

/// Makes the command mount the overlay on `merged`, in a mount namespace of its own, before it is executed.
///
/// # Errors
/// See [`options`].
pub(crate) fn mount_before(command: &mut Command, data: &Path) -> anyhow::Result<PathBuf> {
    let merged = data.join("merged");
    let text = |bytes: &[u8]| CString::new(bytes).context("a path holds a NUL");
    let (options, place) = (text(options(data, false)?.as_bytes())?, text(merged.as_os_str().as_bytes())?);
    let between = move || {
        let check = |result: libc::c_int| if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) };
        // SAFETY: no pointers are involved.
        check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
        let none = std::ptr::null();
        // SAFETY: all strings end in a zero and outlive the call; the kernel takes null for the others.
        check(unsafe { libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()) })?;
        let overlay = c"overlay".as_ptr();
        // SAFETY: as above.
        check(unsafe { libc::mount(overlay, place.as_ptr(), overlay, 0, options.as_ptr().cast()) })
    };
    // SAFETY: the closure only makes async-signal-safe system calls and allocates nothing.
    unsafe { command.pre_exec(between) };
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn punctuation_in_the_path_is_refused_with_the_way_out() {
        assert_eq!(
            options(Path::new("/d/x"), true).expect("fine"),
            "lowerdir=/d/x/lower,upperdir=/d/x/upper,workdir=/d/x/work,userxattr"
        );
        for path in ["/a,b", "/a:b", "/a\\b"] {
            let words = options(Path::new(path), false).expect_err(path).to_string();
            assert!(words.contains("data=bind"), "{words}");
        }
    }
}
