//! What a box's data directory is: the host's directory itself, an overlay over an empty one, or memory.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use workloads::settings::{Kind, Setting, Settings};

use crate::stage::Stage;

/// For runners whose mounts are ours.
pub(crate) const DATA: Setting = Setting {
    name: "data",
    kind: Kind::Choice(&["bind", "overlay", "tmpfs"]),
    default: "bind",
    about: "The host's directory bound in, an overlay whose upper layer lies in that directory, or memory",
};

/// One of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    Bind,
    Overlay,
    Tmpfs,
}

impl Layer {
    pub(crate) fn of(settings: &Settings) -> Self {
        match settings.get("data") {
            "overlay" => Self::Overlay,
            "tmpfs" => Self::Tmpfs,
            _ => Self::Bind,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Overlay => "overlay",
            Self::Tmpfs => "tmpfs",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        [Self::Bind, Self::Overlay, Self::Tmpfs].into_iter().find(|l| l.word() == word)
    }

    /// Makes what the mount needs on the host.
    ///
    /// # Errors
    /// When the path can't be an option of overlayfs, or a directory can't be made.
    pub(crate) fn lay(self, stage: &Stage) -> anyhow::Result<()> {
        if self == Self::Overlay {
            options(stage.data(), false)?;
            for part in ["lower", "upper", "work", "merged"] {
                let place = stage.data().join(part);
                fs::create_dir_all(&place).with_context(|| format!("can't make {}", place.display()))?;
            }
        }
        Ok(())
    }

    /// How data is reached, in words.
    pub(crate) fn describe(self, stage: &Stage) -> String {
        let below = stage.data_file_system();
        match self {
            Self::Bind => format!("bind mount of {below}"),
            Self::Overlay => format!("overlay with its upper layer on {below}"),
            Self::Tmpfs => "tmpfs: memory".into(),
        }
    }
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

/// The two directories of an overlay over an empty one, below the data directory: the upper layer and overlayfs's own.
///
/// # Errors
/// When they can't be made.
pub fn layers(stage: &Stage) -> anyhow::Result<Layers> {
    let at = |name: &str| stage.data().join(name);
    let layers = Layers { lower: at("lower"), upper: at("upper"), work: at("work") };
    for layer in [&layers.lower, &layers.upper, &layers.work] {
        fs::create_dir_all(layer).with_context(|| format!("can't make {}", layer.display()))?;
    }
    Ok(layers)
}

/// What an overlay is made of.
#[derive(Debug)]
pub struct Layers {
    /// Empty.
    pub lower: PathBuf,
    /// What is written goes here.
    pub upper: PathBuf,
    /// overlayfs's own.
    pub work: PathBuf,
}

/// How data is reached by [`DATA`], in words.
pub fn data_path(settings: &Settings, stage: &Stage) -> String {
    match settings.get("data") {
        "tmpfs" => "tmpfs: memory".into(),
        "overlay" => format!("overlay with its upper layer on {}", stage.data_file_system()),
        _ => format!("bind mount of {}", stage.data_file_system()),
    }
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

    #[test]
    fn words_come_back() {
        for layer in [Layer::Bind, Layer::Overlay, Layer::Tmpfs] {
            assert_eq!(Layer::parse(layer.word()), Some(layer));
        }
        assert_eq!(Layer::parse("zfs"), None);
    }
}
