//! Where scratch directories go: roots, bundles, sockets and logs of a run. Never on the timed path.

use std::path::{Path, PathBuf};

use anyhow::bail;
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access};

/// The longest name of a directory for scratch, bytes. Podman's run directory below it may have 50, a socket 107.
const LONGEST: usize = 19;

/// Every directory in which scratch may lie, the first choice first.
pub(crate) fn places() -> Vec<PathBuf> {
    let own = std::env::temp_dir();
    let fixed = fixed().into_iter().filter(|place| *place != own);
    std::iter::once(own.clone()).chain(fixed).collect()
}

/// Those that are the same for every run of this user.
pub(crate) fn fixed() -> [PathBuf; 4] {
    let own = PathBuf::from(format!("/run/user/{}", nix::unistd::geteuid()));
    ["/tmp".into(), "/var/tmp".into(), own, "/dev/shm".into()]
}

/// The first directory of these in which scratch can lie.
///
/// # Errors
/// When there is none, with what is the matter with each.
pub(crate) fn choose(places: &[PathBuf]) -> anyhow::Result<&Path> {
    let mut refused = Vec::new();
    for place in places {
        match unfit(place) {
            None => {
                refused.iter().for_each(|why| log::info!("scratch goes to {}: {why}", place.display()));
                return Ok(place);
            }
            Some(why) => refused.push(why),
        }
    }
    bail!(
        "there is no place for scratch files: {}; set TMPDIR to a directory where programs may run",
        refused.join("; ")
    )
}

#[cfg(target_os = "linux")]
fn forbids_programs(flags: FsFlags) -> bool {
    flags.contains(FsFlags::ST_NOEXEC)
}

/// POSIX has no word for it, and FreeBSD's call none either.
#[cfg(not(target_os = "linux"))]
fn forbids_programs(_: FsFlags) -> bool {
    false
}

/// The reason why scratch can't lie there.
fn unfit(place: &Path) -> Option<String> {
    let shown = place.display();
    if place.as_os_str().len() > LONGEST {
        return Some(format!("{shown} is longer than {LONGEST} bytes, too long for sockets below it"));
    }
    if let Err(e) = access(place, AccessFlags::W_OK | AccessFlags::X_OK) {
        return Some(format!("{shown} can't be written to: {}", e.desc()));
    }
    match statvfs(place) {
        Err(e) => Some(format!("{shown}: {}", e.desc())),
        Ok(about) if forbids_programs(about.flags()) => Some(format!("{shown} is mounted noexec")),
        Ok(about) if about.flags().contains(FsFlags::ST_RDONLY) => Some(format!("{shown} is mounted read-only")),
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_does_not_fit_is_passed_over_with_its_reason() {
        let long = PathBuf::from("/tmp/a-name-that-is-far-too-long-for-sockets");
        let missing = PathBuf::from("/no such place");
        let all = [long.clone(), missing.clone(), PathBuf::from("/tmp")];
        assert_eq!(choose(&all).expect("the last one"), Path::new("/tmp"));
        let error = choose(&[long, missing]).expect_err("none fits").to_string();
        for words in ["longer than 19 bytes", "/no such place can't be written to", "set TMPDIR"] {
            assert!(error.contains(words), "{words}: {error}");
        }
    }

    #[test]
    fn the_first_choice_is_the_users() {
        assert_eq!(places()[0], std::env::temp_dir());
    }
}
