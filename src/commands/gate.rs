//! `tarebench gate`: holds a stored run against a policy.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use reports::comparison::compare;
use reports::gate::{self, Gate, Mode, Past, Policy, Verdict};
use reports::record::{Run, Stored};
use reports::render::gate::{FORMATS, Format, summary};
use reports::store::{Key, Store, Summary};
use workloads::settings::did_you_mean;

use crate::cli;
use crate::commands::{gated, print, writable};
use crate::exit::{Exit, OrExit};

/// The file that GitHub Actions shows as the summary of a step.
const SUMMARY: &str = "GITHUB_STEP_SUMMARY";

/// Loads the run, judges, shows.
pub fn run(args: cli::Gate) -> anyhow::Result<Exit> {
    let policy = policy(args.policy.as_deref(), args.head, args.base).or_exit(Exit::Usage)?;
    let summary = step_summary(&args.shown)?;
    let store = Store::open_existing(&args.store.store).or_exit(Exit::Store)?;
    let id = store.find(&args.run).or_exit(Exit::Usage)?;
    let gate = judge(&store, &id, &policy)?;
    let told = show(&gate, &args.shown, summary.as_deref()).and(store.keep_gate(&gate).or_exit(Exit::Store));
    exit(&gate, &args.shown.failing()).or_untold(told)
}

/// A stored run, together with the one that confirms it, whichever of them is asked for.
fn judge(store: &Store, id: &str, policy: &Policy) -> anyhow::Result<Gate> {
    let asked = store.load(id).or_exit(Exit::Store)?;
    let first = match gated::confirms(&asked.run) {
        Some(first) => {
            let first = store.load(first).or_exit(Exit::Store)?;
            if let Err(why) = gated::fits(&first.run, &asked.run) {
                let error = anyhow::anyhow!("run {id} says that it confirms {}, and can't: {why}", first.run.id);
                return Err(error).or_exit(Exit::Invalid);
            }
            first
        }
        None => asked,
    };
    let (seconds, others) = seconds(store, &first.run)?;
    let accepted = accepted(store, &first.run).or_exit(Exit::Store)?;
    let of = |stored: &Stored| compare(stored, gate::method());
    let mut screen = gate::judge(&of(&first), policy, &accepted).or_exit(Exit::Usage)?;
    screen.notes.extend(others);
    screen.notes.extend(itself(store, &first.run, policy)?);
    match seconds.as_slice() {
        [] => Ok(screen),
        [second] => gate::confirm(&of(second), policy, &accepted, &screen).or_exit(Exit::Usage),
        several => {
            let ids: Vec<&str> = several.iter().map(|stored| stored.run.id.as_str()).collect();
            Ok(gate::disputed(&screen, &ids))
        }
    }
}

/// The runs that confirm this one, and why others that say so don't: a label is anybody's word.
fn seconds(store: &Store, first: &Run) -> anyhow::Result<(Vec<Stored>, Vec<String>)> {
    let (mut fitting, mut others) = (Vec::new(), Vec::new());
    let says_so = |run: &Summary| run.confirms() == Some(&first.id);
    for summary in store.runs().or_exit(Exit::Store)?.into_iter().filter(says_so) {
        let stored = store.load(&summary.id).or_exit(Exit::Store)?;
        match gated::fits(first, &stored.run) {
            Ok(()) => fitting.push(stored),
            Err(why) => {
                others.push(format!("run {} says that it confirms this one, and counts for nothing: {why}", summary.id))
            }
        }
    }
    Ok((fitting, others))
}

/// The policy of a file, with the environments that were named beside it.
///
/// # Errors
/// When the file can't be read, or is no policy, or there is nothing to judge by.
pub fn policy(file: Option<&Path>, head: Option<String>, base: Option<String>) -> anyhow::Result<Policy> {
    let mut policy = match file {
        Some(path) => {
            let name = path.display().to_string();
            let text = read(path).with_context(|| format!("can't read the policy {name}"))?;
            Policy::parse(&name, &text)?
        }
        None if head.is_none() => bail!("a gate needs --policy FILE, or --head ENV and --base ENV"),
        None => Policy::default(),
    };
    policy.head = head.or(policy.head);
    policy.base = base.or(policy.base);
    Ok(policy)
}

/// The text of a policy: all of it, unless it has no end.
fn read(path: &Path) -> anyhow::Result<String> {
    const LONGEST: u64 = 1 << 20;
    let mut text = String::new();
    std::fs::File::open(path)?.take(LONGEST + 1).read_to_string(&mut text)?;
    ensure!(text.len() as u64 <= LONGEST, "it is longer than 1 MiB, which no policy is");
    Ok(text)
}

/// The overheads of all accepted runs of the same key, but for the run itself.
pub fn accepted(store: &Store, run: &Run) -> anyhow::Result<Vec<Past>> {
    let mut accepted = store.accepted(&Key::of(run))?;
    accepted.retain(|other| other.run != run.id);
    Ok(Past::of(&accepted))
}

/// Where a run is among the accepted ones that it is held against: that these are one fewer than whoever accepted them counts.
fn itself(store: &Store, run: &Run, policy: &Policy) -> anyhow::Result<Option<String>> {
    let terms = std::iter::once(&policy.all).chain(policy.rules.iter().map(|rule| &rule.terms));
    if !terms.flat_map(|terms| &terms.modes).flatten().any(|mode| *mode == Mode::History) {
        return Ok(None);
    }
    let accepted = store.accepted(&Key::of(run)).or_exit(Exit::Store)?;
    let note =
        format!("run {} is among the accepted ones itself, and isn't counted: none is held against itself", run.id);
    Ok(accepted.iter().any(|other| other.run == run.id).then_some(note))
}

/// The file of the summary where one is asked for, found out and tried before anything is measured or judged.
///
/// # Errors
/// When none is named, or it can't be written.
pub fn step_summary(shown: &cli::Shown) -> anyhow::Result<Option<PathBuf>> {
    summary_file(shown, std::env::var_os(SUMMARY))
}

fn summary_file(shown: &cli::Shown, named: Option<OsString>) -> anyhow::Result<Option<PathBuf>> {
    if !shown.step_summary {
        return Ok(None);
    }
    let path = named
        .filter(|name| !name.is_empty())
        .map(PathBuf::from)
        .with_context(|| format!("--step-summary writes to the file in ${SUMMARY}, which isn't set here"))
        .or_exit(Exit::Usage)?;
    writable(&path).with_context(|| unwritten(&path)).or_exit(Exit::Host)?;
    Ok(Some(path))
}

fn unwritten(path: &Path) -> String {
    format!("can't write the summary {}", path.display())
}

/// Prints the gate, and writes the summary where it is asked for.
///
/// # Errors
/// When one of them can't be written; the other is written all the same.
pub fn show(gate: &Gate, shown: &cli::Shown, file: Option<&Path>) -> anyhow::Result<()> {
    let bytes = format(shown)?.renderer.render(gate, &shown.failing())?;
    let printed = print(&String::from_utf8_lossy(&bytes));
    file.map_or(Ok(()), |path| append(path, &summary(gate))).and(printed)
}

fn append(path: &Path, text: &str) -> anyhow::Result<()> {
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).with_context(|| unwritten(path)).or_exit(Exit::Host)
}

/// The format that was asked for.
///
/// # Errors
/// When there is none of this name.
pub fn format(shown: &cli::Shown) -> anyhow::Result<&'static Format> {
    shown.format.as_deref().map_or(Ok(&FORMATS[0]), by_name).or_exit(Exit::Usage)
}

fn by_name(name: &str) -> anyhow::Result<&'static Format> {
    FORMATS.iter().find(|f| f.name == name).with_context(|| {
        format!("a gate has no format `{name}`; {}", did_you_mean(name, FORMATS.iter().map(|f| f.name)))
    })
}

/// The exit code: that of the worst verdict which is to fail.
pub fn exit(gate: &Gate, failing: &[Verdict]) -> Exit {
    match gate.worst_of(failing) {
        None | Some(Verdict::Pass | Verdict::Improved) => Exit::Done,
        Some(Verdict::Regressed) => Exit::Regressed,
        Some(Verdict::Inconclusive) => Exit::Inconclusive,
        Some(Verdict::Invalid) => Exit::Invalid,
        Some(Verdict::NoBaseline) => Exit::NoBaseline,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_that_can_not_be_written_is_found_out_before_anything_is_done() {
        let of = |step_summary: bool, named: Option<&Path>| {
            let shown = cli::Shown { format: None, fail_on: Vec::new(), step_summary };
            summary_file(&shown, named.map(OsString::from)).map_err(|error| crate::exit::code_of(&error))
        };
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("summary.md");
        assert_eq!(of(false, None), Ok(None));
        assert_eq!(of(true, None), Err(Exit::Usage));
        assert_eq!(of(true, Some(Path::new(""))), Err(Exit::Usage));
        assert_eq!(of(true, Some(dir.path())), Err(Exit::Host));
        assert_eq!(of(true, Some(&dir.path().join("gone/summary.md"))), Err(Exit::Host));
        assert_eq!(of(true, Some(&file)), Ok(Some(file.clone())));
        assert!(!file.exists(), "nothing stands there until there is a summary");
    }
}
