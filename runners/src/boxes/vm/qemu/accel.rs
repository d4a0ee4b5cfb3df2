//! The accelerator: KVM where a guest really boots under it, else QEMU's emulation (TCG).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::boxes::vm::kvm_opens_when;
use crate::cache;
use crate::host::Host;
use crate::launch::Launch;
use crate::session::{Session, SessionError};

/// How long a guest may take to say hello under KVM. A real one needs well under a second; some hosts open `/dev/kvm`, make
/// a virtual machine, and never get a guest through its boot.
const DEADLINE: Duration = Duration::from_secs(6);

/// What the trial showed, before the words of QEMU under KVM: the reader sees those behind the name of the emulation.
const NO_GUEST: &str = "no guest boots under KVM";

/// KVM or not, and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accelerator {
    /// The host's CPU.
    Kvm,
    /// Emulation.
    Tcg {
        /// Why not KVM: what was seen, or that emulation was asked for.
        because: String,
    },
}

/// KVM if a guest boots under it. The first answer on a host is remembered until it boots anew or kernel, QEMU or tarebench
/// change; `identity` names those. `trial` is the smallest guest, under KVM.
pub fn choose(
    host: &Host,
    identity: &[&str],
    trial: impl FnOnce() -> anyhow::Result<Launch>,
) -> anyhow::Result<Accelerator> {
    if let Err(e) = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        return Ok(Accelerator::Tcg { because: closed(&e) });
    }
    let remembered = memory_of(host, identity);
    if let Some(answer) = fs::read_to_string(&remembered).ok().as_deref().and_then(recall) {
        return Ok(answer);
    }
    log::info!("trying whether a guest boots under KVM; this is done once");
    let answer = finding(Session::start(trial()?, DEADLINE))?;
    if let Err(e) = remember(&remembered, &answer) {
        log::warn!("can't remember in {} whether KVM works: {e}", remembered.display());
    }
    Ok(answer)
}

/// Why KVM does not open. Most hosts without it have none to give: only who may not open it is told how.
fn closed(refused: &std::io::Error) -> String {
    let mut because = format!("can't open /dev/kvm: {refused}");
    if refused.kind() == std::io::ErrorKind::PermissionDenied {
        because += "; ";
        because += kvm_opens_when(refused);
    }
    because
}

/// What the trial says of KVM. One that the user has ended says nothing, and would be remembered until the next boot.
fn finding<T>(trial: Result<T, SessionError>) -> Result<Accelerator, SessionError> {
    match trial {
        Ok(_) => Ok(Accelerator::Kvm),
        Err(SessionError::Interrupted) => Err(SessionError::Interrupted),
        Err(e) => Ok(Accelerator::Tcg { because: format!("{NO_GUEST}: {}", one_line(&e.to_string())) }),
    }
}

/// The answer's file: in the user's cache directory; without one, in the run's scratch.
fn memory_of(host: &Host, identity: &[&str]) -> PathBuf {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let mut hash = Sha256::new();
    for part in identity.iter().chain(&[boot.trim(), env!("CARGO_PKG_VERSION")]) {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let key: String = hash.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect();
    cache::folder().unwrap_or_else(|| host.scratch.clone()).join(format!("kvm-{key}"))
}

fn remember(path: &Path, answer: &Accelerator) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
        // One answer is enough: those of other boots and versions are never asked for again.
        for old in fs::read_dir(folder)?.flatten().filter(|e| e.file_name().to_string_lossy().starts_with("kvm-")) {
            let age = old.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
            if age.is_some_and(|age| age > Duration::from_secs(30 * 86_400)) {
                fs::remove_file(old.path())?;
            }
        }
    }
    fs::write(
        path,
        match answer {
            Accelerator::Kvm => "works\n".to_string(),
            Accelerator::Tcg { because } => format!("no: {because}\n"),
        },
    )
}

/// An answer that doesn't say what was seen is none: earlier ones have QEMU's words alone, and the trial is done again.
fn recall(text: &str) -> Option<Accelerator> {
    match text.trim_end() {
        "works" => Some(Accelerator::Kvm),
        other => {
            let because = other.strip_prefix("no: ").filter(|because| because.starts_with(NO_GUEST))?;
            Some(Accelerator::Tcg { because: because.to_string() })
        }
    }
}

/// An error and the last words it quotes, short enough for a table.
fn one_line(text: &str) -> String {
    let line = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" | ");
    match line.char_indices().nth(300) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_remembered_as_it_was() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("new/kvm-1");
        for answer in [Accelerator::Kvm, Accelerator::Tcg { because: format!("{NO_GUEST}: it hangs: 6 s") }] {
            remember(&path, &answer).expect("written");
            assert_eq!(recall(&fs::read_to_string(&path).expect("read")), Some(answer));
        }
        assert_eq!(recall("half an answ"), None);
        assert_eq!(recall("no: it hangs: 6 s\n"), None, "of an earlier release, without what was tried");
    }

    #[test]
    fn only_who_may_not_open_kvm_is_told_how() {
        let words = |code: i32| closed(&std::io::Error::from_raw_os_error(code));
        assert!(words(libc::EACCES).contains("usermod -aG kvm"));
        assert_eq!(words(libc::ENOENT), "can't open /dev/kvm: No such file or directory (os error 2)");
    }

    #[test]
    fn a_trial_that_was_interrupted_says_nothing_of_kvm() {
        assert!(finding(Err::<(), _>(SessionError::Interrupted)).is_err());
        assert_eq!(finding(Ok(())).expect("an answer"), Accelerator::Kvm);
        let refused = finding(Err::<(), _>(SessionError::Refused("it hangs".into()))).expect("an answer");
        assert_eq!(refused, Accelerator::Tcg { because: "no guest boots under KVM: it hangs".into() });
    }

    #[test]
    fn last_words_become_one_line() {
        assert_eq!(one_line("died; its last words:\n  a\n\nb\n"), "died; its last words: | a | b");
    }
}
