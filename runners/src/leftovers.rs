//! The remains of killed runs, found by their journals and removed: a SIGKILL lets nobody clean up after themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;

use crate::host::journal::{JOURNAL, Made, entries, open_ours};
use crate::host::{mark, scratch};
use crate::names::is_epair_of;
use crate::process::{find as find_program, is_our_directory, kill_left, remove_tree, unmount_below};
use crate::stage::{cgroup, loopback, network};

/// How long a run may take from its first directory to its first line in the journal. Until then nobody can tell one that is starting from
/// one that was killed while it did.
const STARTING: Duration = Duration::from_secs(10);

/// How long an engine's own removal may take. `xl destroy` took 19 s in an emulated dom0 on a busy machine.
const ENGINE: Duration = Duration::from_secs(60);

/// The remains of one killed run.
#[derive(Debug)]
pub struct Leftover {
    /// The run's scratch directory, or its mark in a data directory, or a link to a scratch directory that is gone.
    pub scratch: PathBuf,
    /// Everything that it had noted down, oldest first.
    pub made: Vec<Made>,
    /// Held so that nobody else cleans the same.
    lock: Option<Flock<File>>,
    /// What the run's processes are known by, where the lock is the run's own: a mark's is not, since a copy of it has none.
    run: Option<String>,
}

impl std::fmt::Display for Leftover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} and {} more things of a run that was killed", self.scratch.display(), self.made.len())
    }
}

/// Every scratch directory of ours whose owner is gone, wherever it lies, and every mark in this data directory. A live run holds a
/// lock on its journals; another user's are not ours.
pub fn find(data_dir: &Path) -> Vec<Leftover> {
    let mut found: Vec<Leftover> = scratch::places().iter().flat_map(|folder| find_in(folder)).collect();
    // What is removed goes by its full path.
    let data_dir = data_dir.canonicalize().unwrap_or_else(|_| data_dir.to_path_buf());
    // After the journals, which know more.
    let dead: BTreeSet<String> = found.iter().filter_map(|l| l.run.clone()).collect();
    let entries = fs::read_dir(data_dir).into_iter().flatten().flatten();
    found.extend(entries.filter_map(|e| examine_mark(&e.path(), &dead)));
    found
}

/// Waits as long as there is something that a run may just have begun with, which is left alone meanwhile: what was killed right then is
/// found after that.
pub fn wait_for_starting(data_dir: &Path) {
    let until = Instant::now() + STARTING;
    let mut said = false;
    while let Some(path) = starting(&scratch::places(), data_dir)
        && Instant::now() < until
    {
        if !std::mem::replace(&mut said, true) {
            log::warn!("{} may be of a run that is just starting: waiting, 10 seconds at most", path.display());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The first scratch directory in these places, or mark in the data directory, that is fresh and says nothing yet.
fn starting(places: &[PathBuf], data_dir: &Path) -> Option<PathBuf> {
    let entries_of = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let is = |path: &PathBuf, end: &str, journal: &dyn Fn(&Path) -> PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("tarebench-"));
        let named = name.and_then(|rest| rest.strip_suffix(end)).is_some_and(is_id);
        let about = fs::symlink_metadata(path).ok().filter(|about| named && about.uid() == geteuid().as_raw());
        about.is_some_and(|about| !about.is_symlink() && says_nothing_yet(&about, &journal(path)))
    };
    // With anything else in it and no journal it is somebody's.
    let begun = |dir: &Path| dir.join(JOURNAL).exists() || fs::read_dir(dir).is_ok_and(|mut all| all.next().is_none());
    let scratch = |path: &PathBuf| is(path, "", &|dir| dir.join(JOURNAL)) && begun(path);
    let mark = |path: &PathBuf| is(path, ".journal", &Path::to_path_buf);
    let mut scratches = places.iter().flat_map(|place| entries_of(place)).filter(scratch);
    scratches.next().or_else(|| entries_of(data_dir).find(mark))
}

/// Whether the journal of this directory, or this journal, may be one that its run has made and not locked yet.
fn says_nothing_yet(about: &fs::Metadata, journal: &Path) -> bool {
    let fresh = about.modified().is_ok_and(|then| then.elapsed().is_ok_and(|age| age < STARTING));
    fresh && fs::metadata(journal).map_or(0, |m| m.len()) == 0
}

/// What carries our name although no journal says whose it is, each with the command that removes it: nobody knows that it isn't
/// needed any more, so it is only named.
pub fn unknown(data_dir: &Path) -> Vec<String> {
    let owners = scratch::places().into_iter().map(|place| (place, "")).chain([(data_dir.to_path_buf(), ".journal")]);
    let owners: Vec<(PathBuf, &str)> = owners.collect();
    let owned = |id: &str| {
        owners.iter().any(|(place, end)| place.join(format!("tarebench-{id}{end}")).symlink_metadata().is_ok())
    };
    let groups = cgroup::mounts().into_iter().map(|mount| (mount.point, "find DIR -depth -type d -exec rmdir {} +"));
    let netns = ["/run/netns", "/var/run/netns"].map(|dir| (PathBuf::from(dir), "ip netns delete NAME"));
    let directories = owners.iter().map(|(place, _)| (place.clone(), "rm -r DIR"));
    let places = groups.chain(netns).chain(directories);
    let mut found = BTreeMap::new();
    for (place, removal) in places {
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            let path = entry.path();
            let Some((name, id)) = path.file_name().and_then(|n| n.to_str()).and_then(|n| Some((n, run_of(n)?))) else {
                continue;
            };
            let ours = fs::symlink_metadata(&path).is_ok_and(|about| about.uid() == geteuid().as_raw());
            if ours && !owned(id) {
                // /var/run is /run, and a tree may be mounted twice.
                let quoted = |text: &str| shell_words::quote(text).into_owned();
                let word = |word: &str| match word {
                    "DIR" => quoted(&path.to_string_lossy()),
                    "NAME" => quoted(name),
                    other => other.to_string(),
                };
                let removal = if name == cgroup::leaf::name(id) && path.join("cgroup.procs").exists() {
                    cgroup::leaf::removal(&path)
                } else {
                    removal.split(' ').map(word).collect::<Vec<_>>().join(" ")
                };
                found.insert(path.canonicalize().unwrap_or(path), removal);
            }
        }
    }
    found.into_iter().map(|(path, removal)| format!("{}: `{removal}`", path.display())).collect()
}

/// The id of the run whose name this is the beginning of.
fn run_of(name: &str) -> Option<&str> {
    let id = name.strip_prefix("tarebench-")?.split('-').next()?;
    is_id(id).then_some(id)
}

fn is_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= 8 && id.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn find_in(folder: &Path) -> Vec<Leftover> {
    let entries_of = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<Leftover> = entries_of(folder).filter_map(|e| examine(&e.path())).collect();
    found.sort_by(|a, b| a.scratch.cmp(&b.scratch));
    found
}

fn examine(scratch: &Path) -> Option<Leftover> {
    let name = scratch.file_name()?;
    let id = name.to_str()?.strip_prefix("tarebench-").filter(|id| is_id(id))?;
    // In a folder that everybody may write, a stranger's link or directory could name things that aren't ours.
    let about = fs::symlink_metadata(scratch).ok().filter(|about| about.uid() == geteuid().as_raw())?;
    if about.is_symlink() {
        let to = fs::read_link(scratch).ok().filter(|to| to.file_name() == Some(name))?;
        return match fs::symlink_metadata(&to) {
            // What it pointed at was removed by somebody else, with its journal.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Some(Leftover { scratch: scratch.to_path_buf(), made: Vec::new(), lock: None, run: None })
            }
            Ok(about) if about.is_dir() => examine(&to),
            _ => None,
        };
    }
    if !about.is_dir() {
        return None;
    }
    if about.mode() & 0o022 != 0 {
        log::warn!("left alone: others may write to {}", scratch.display());
        return None;
    }
    let journal = scratch.join(JOURNAL);
    if says_nothing_yet(&about, &journal) {
        return None;
    }
    let scratch = scratch.to_path_buf();
    match open_told(&journal)? {
        Some(file) => {
            let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()?;
            // A copy of a live run's is not locked.
            if is_live(id, &lock, &scratch::places()) {
                return None;
            }
            let made = entries(&lock).into_iter().filter(|m| is_ours(m, id)).collect();
            Some(Leftover { scratch, made, lock: Some(lock), run: Some(id.to_string()) })
        }
        // Killed before the journal was there, so nothing else is: a directory with anything in it is somebody's.
        None if fs::read_dir(&scratch).ok()?.next().is_none() => {
            Some(Leftover { scratch, made: Vec::new(), lock: None, run: None })
        }
        None => None,
    }
}

/// A journal that only we can have written; `None` where it isn't, which is said.
fn open_told(journal: &Path) -> Option<Option<File>> {
    open_ours(journal).inspect_err(|e| log::warn!("left alone: {e:#}")).ok()
}

/// Whether a run of this id holds another journal than this one in any of these places.
fn is_live(id: &str, this: &File, places: &[PathBuf]) -> bool {
    let about = |file: &File| file.metadata().map(|about| (about.dev(), about.ino())).ok();
    journals(id, places).filter(|file| about(file) != about(this)).any(is_held)
}

/// Whether the run of this id goes on.
pub(crate) fn lives(id: &str) -> bool {
    journals(id, &scratch::places()).any(is_held)
}

fn journals(id: &str, places: &[PathBuf]) -> impl Iterator<Item = File> {
    let journals = places.iter().map(move |place| place.join(format!("tarebench-{id}")).join(JOURNAL));
    journals.filter_map(|path| open_ours(&path).ok().flatten())
}

fn is_held(journal: File) -> bool {
    Flock::lock(journal, FlockArg::LockSharedNonblock).is_err()
}

/// A mark whose run is gone, with the directories beside it that it names. `dead` are the runs whose own lock we have.
fn examine_mark(mark: &Path, dead: &BTreeSet<String>) -> Option<Leftover> {
    let id = mark.file_name()?.to_str()?.strip_prefix("tarebench-")?.strip_suffix(".journal").filter(|id| is_id(id))?;
    let about = fs::symlink_metadata(mark).ok()?;
    if !about.is_file() || about.uid() != geteuid().as_raw() {
        return None;
    }
    if says_nothing_yet(&about, mark) {
        return None;
    }
    let lock = Flock::lock(open_told(mark)??, FlockArg::LockExclusiveNonblock).ok()?;
    if !dead.contains(id) && is_live(id, &lock, &scratch::places()) {
        return None;
    }
    // The data directory may have been moved, or mounted elsewhere, since then.
    let here = |made: Made| match made {
        Made::Directory(dir) => Some(Made::Directory(mark.with_file_name(dir.file_name()?))),
        _ => None,
    };
    let made = entries(&lock).into_iter().filter_map(here).filter(|m| is_ours(m, id)).collect();
    Some(Leftover { scratch: mark.to_path_buf(), made, lock: Some(lock), run: None })
}

/// A journal may be damaged: only what carries the run's name is ever removed.
fn is_ours(made: &Made, id: &str) -> bool {
    let name = format!("tarebench-{id}");
    match made {
        Made::Netns(n) => n.starts_with(&format!("{name}-")) && !n.contains('/'),
        Made::Cgroup(c) => *c == name,
        Made::Leaf(l) => *l == cgroup::leaf::name(id),
        Made::Directory(d) => {
            d.is_absolute()
                && d.file_name().and_then(|f| f.to_str()).is_some_and(|f| f.starts_with(&format!("{name}-")))
        }
        Made::Engine(argv) => argv.len() > 1 && argv.iter().any(|a| a.contains(&name)),
        Made::Interface(i) => is_epair_of(id, i),
        Made::Alias(a) => *a == loopback::address(id),
        Made::Setting(setting) => setting.is_known(),
    }
}

/// Removes all of it, in the reverse order of making: processes first, then what the engines keep, mounts, directories.
/// The next run tries again what can't be removed.
///
/// # Errors
/// When something could not be removed, after everything else was.
pub fn clean(leftovers: &[Leftover]) -> anyhow::Result<()> {
    let mut problems = Vec::new();
    for leftover in leftovers {
        if let Err(e) = clean_one(leftover) {
            problems.push(format!("{}: {e:#}", leftover.scratch.display()));
        }
    }
    if problems.is_empty() { Ok(()) } else { anyhow::bail!("not everything could be removed: {}", problems.join("; ")) }
}

fn clean_one(leftover: &Leftover) -> anyhow::Result<()> {
    log::info!("removing {leftover}");
    for made in &leftover.made {
        if let Made::Cgroup(name) = made {
            cgroup::kill_all(name);
        }
    }
    let name = leftover.scratch.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut result = Ok(());
    let mut keep = |r: anyhow::Result<()>| {
        if let Err(e) = r {
            log::debug!("{e:#}");
            result = Err(e);
        }
    };
    let mut folders = Vec::new();
    for made in &leftover.made {
        if let Made::Directory(dir) = made {
            match is_our_directory(dir) {
                Ok(true) => folders.push(dir.as_path()),
                Ok(false) => {}
                Err(e) => keep(Err(e)),
            }
        }
    }
    // A mark or a link is a file, in which nothing can be.
    let scratch = Some(leftover.scratch.as_path()).filter(|dir| is_our_directory(dir).unwrap_or(false));
    folders.extend(scratch);
    kill_left(leftover.run.as_deref(), &folders);
    for made in leftover.made.iter().rev() {
        if let Some(argv) = made.removal() {
            // An engine answers "no such container" with a failure too, so its exit code says nothing.
            keep(run(&argv));
        }
    }
    unmount_below(&folders);
    for made in leftover.made.iter().rev() {
        match made {
            Made::Netns(name) => keep(network::delete_netns(name)),
            Made::Cgroup(name) => cgroup::remove(name),
            Made::Leaf(name) => keep(cgroup::leaf::undo(name)),
            Made::Directory(dir) if folders.contains(&dir.as_path()) => keep(remove_tree(dir)),
            Made::Directory(_) => {}
            Made::Setting(setting) => keep(setting.put_back()),
            Made::Engine(_) | Made::Interface(_) | Made::Alias(_) => {}
        }
    }
    // Last and only then: as long as it stands, the journal in it says what is left to do.
    if result.is_ok() {
        remove_marks(leftover);
        if scratch.is_some() {
            result = remove_tree(&leftover.scratch);
        } else {
            mark::remove(&leftover.scratch);
        }
    }
    for link in scratch::fixed().map(|place| place.join(name)) {
        if result.is_ok() && fs::read_link(&link).is_ok_and(|to| to == leftover.scratch) {
            mark::remove(&link);
        }
    }
    debug_assert!(leftover.lock.is_some() || leftover.made.is_empty(), "a journal with entries was locked");
    result
}

/// Removes the run's marks beside the data that is gone: the data directory may be one that nobody looks into again.
fn remove_marks(leftover: &Leftover) {
    let Some(run) = &leftover.run else { return };
    for made in &leftover.made {
        let Made::Directory(dir) = made else { continue };
        let path = dir.with_file_name(mark::name(run));
        // One that is locked is being cleaned, or another run's.
        if let Ok(Some(file)) = open_ours(&path)
            && let Ok(_lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock)
        {
            mark::remove(&path);
        }
    }
}

/// The program of an engine, where nobody but root and us can have put it there.
fn trusted_program(name: &str) -> anyhow::Result<PathBuf> {
    let path = find_program(name).with_context(|| format!("there is no program `{name}`"))?;
    // The file, and the folder where its name is: either may be behind links.
    for end in [Some(path.as_path()), path.parent()].into_iter().flatten() {
        let real = end.canonicalize().with_context(|| format!("can't find {}", end.display()))?;
        for part in real.ancestors() {
            let about = fs::metadata(part).with_context(|| format!("can't look at {}", part.display()))?;
            // In a sticky folder everybody changes only what is theirs.
            let open = about.mode() & 0o002 != 0 && !(about.is_dir() && about.mode() & 0o1000 != 0);
            if open || ![0, geteuid().as_raw()].contains(&about.uid()) {
                bail!("{} is not started: {} is not root's alone", path.display(), part.display());
            }
        }
    }
    Ok(path)
}

fn run(argv: &[String]) -> anyhow::Result<()> {
    let program = trusted_program(&argv[0]).with_context(|| format!("left to you: `{}`", shell_words::join(argv)))?;
    let mut command = Command::new(program);
    command.args(&argv[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    log::debug!("{command:?}");
    let mut child = command.spawn().with_context(|| format!("can't run `{}`", argv.join(" ")))?;
    let until = Instant::now() + ENGINE;
    while child.try_wait()?.is_none() {
        if Instant::now() > until {
            child.kill().and_then(|()| child.wait()).context("can't end the engine's removal")?;
            anyhow::bail!("`{}` did not end within {ENGINE:?}", argv.join(" "));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::DirBuilderExt;

    use super::*;
    use crate::host::journal::Journal;

    /// As a run makes it, whatever the umask.
    fn make(scratch: &Path) {
        fs::DirBuilder::new().mode(0o755).create(scratch).unwrap();
    }

    #[test]
    fn only_what_carries_the_name_is_ours() {
        assert!(is_ours(&Made::Netns("tarebench-ab-peer".into()), "ab"));
        assert!(!is_ours(&Made::Netns("tarebench-abc-peer".into()), "ab"));
        assert!(!is_ours(&Made::Cgroup("user.slice".into()), "ab"));
        assert!(is_ours(&Made::Leaf("tarebench-ab-leaf".into()), "ab"));
        assert!(!is_ours(&Made::Leaf("tarebench-ab".into()), "ab"));
        assert!(!is_ours(&Made::Directory("/home/me".into()), "ab"));
        assert!(!is_ours(&Made::Directory("/home/tarebench-ab-x/..".into()), "ab"));
        assert!(!is_ours(&Made::Engine(vec!["rm".into(), "-rf".into(), "/".into()]), "ab"));
    }

    #[test]
    fn an_interface_and_an_alias_are_those_of_one_id() {
        let epair = Made::Interface("tareab1207p".into());
        assert!(is_ours(&epair, "ab12") && !is_ours(&epair, "ab") && !is_ours(&epair, "ab1"));
        assert!(!is_ours(&Made::Interface("em0".into()), "em"));
        let alias = Made::Alias(loopback::address("ab12"));
        assert!(is_ours(&alias, "ab12") && !is_ours(&alias, "ab"));
        assert!(!is_ours(&Made::Alias(std::net::Ipv4Addr::LOCALHOST), "ab12"));
        let removal = |words: &[&str]| Made::Engine(words.iter().map(|w| w.to_string()).collect());
        assert!(!is_ours(&removal(&["ifconfig", "em0", "destroy"]), "em"));
        assert!(!is_ours(&removal(&["ifconfig", "lo0", "inet", "127.0.0.1/32", "-alias"]), "ab12"));
    }

    #[test]
    fn a_directory_with_our_name_and_no_journal_is_ours_only_while_it_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = folder.path().join("tarebench-notours");
        make(&scratch);
        let old = std::time::SystemTime::now() - Duration::from_secs(60);
        fs::write(scratch.join("letter"), "keep me").unwrap();
        File::open(&scratch).unwrap().set_modified(old).unwrap();
        assert!(find_in(folder.path()).is_empty(), "somebody keeps a file there");
        fs::remove_file(scratch.join("letter")).unwrap();
        File::open(&scratch).unwrap().set_modified(old).unwrap();
        assert_eq!(find_in(folder.path()).len(), 1, "what a run leaves that is killed between the two");
    }

    #[test]
    fn what_was_killed_while_it_began_is_waited_for_and_then_found() {
        let [places, data] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let begun = || starting(&[places.path().to_path_buf()], data.path());
        let old = std::time::SystemTime::now() - Duration::from_secs(60);
        let scratch = places.path().join("tarebench-b1");
        make(&scratch);
        assert_eq!(begun().as_ref(), Some(&scratch), "no journal yet");
        fs::write(scratch.join("letter"), "").unwrap();
        assert_eq!(begun(), None, "somebody keeps a file there");
        fs::remove_file(scratch.join("letter")).unwrap();
        drop(Journal::open(&scratch).unwrap());
        assert_eq!(begun().as_ref(), Some(&scratch), "nothing in it yet");
        assert!(find_in(places.path()).is_empty());
        File::open(&scratch).unwrap().set_modified(old).unwrap();
        assert_eq!(begun(), None);
        assert_eq!(find_in(places.path()).len(), 1);
        fs::write(data.path().join("tarebench-letter.txt"), "").unwrap();
        assert_eq!(begun(), None, "somebody's file");
        let mark = data.path().join(mark::name("b1"));
        drop(Journal::at(&mark).unwrap());
        assert_eq!(begun().as_ref(), Some(&mark));
        fs::write(&mark, "{}\n").unwrap();
        assert_eq!(begun(), None, "it can be told by its lock now");
    }

    #[test]
    fn data_is_found_by_the_mark_beside_it_when_the_journal_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let [ours, other] = ["tarebench-m1-bare", "other"].map(|name| folder.path().join(name));
        [&ours, &other].iter().for_each(|dir| fs::create_dir(dir).unwrap());
        let mark = folder.path().join(mark::name("m1"));
        let journal = Journal::at(&mark).unwrap();
        journal.note(&Made::Directory("/where/it/was/mounted/tarebench-m1-bare".into())).unwrap();
        journal.note(&Made::Directory(other.clone())).unwrap();
        assert!(examine_mark(&mark, &BTreeSet::new()).is_none(), "its run lives");
        drop(journal);
        let found = examine_mark(&mark, &BTreeSet::new()).expect("its run is gone");
        assert_eq!(found.made, [Made::Directory(ours.clone())]);
        clean(&[found]).unwrap();
        assert!(!ours.exists() && !mark.exists() && other.exists());
    }

    #[test]
    fn scratch_in_another_place_is_found_by_its_link_and_no_strangers_is() {
        let [place, elsewhere] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let scratch = elsewhere.path().join("tarebench-l1");
        let [link, odd, dangling] = ["l1", "l2", "l3"].map(|id| place.path().join(format!("tarebench-{id}")));
        make(&scratch);
        drop(Journal::open(&scratch).unwrap());
        fs::write(scratch.join(JOURNAL), "{}\n").unwrap();
        std::os::unix::fs::symlink(&scratch, &link).unwrap();
        std::os::unix::fs::symlink(&scratch, &odd).unwrap();
        std::os::unix::fs::symlink(place.path().join("gone/tarebench-l3"), &dangling).unwrap();
        let found = find_in(place.path());
        let names: Vec<&Path> = found.iter().map(|l| l.scratch.as_path()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(names.contains(&scratch.as_path()) && names.contains(&dangling.as_path()), "{names:?}");
        clean(&found).unwrap();
        assert!(!scratch.exists() && fs::symlink_metadata(&dangling).is_err() && fs::symlink_metadata(&odd).is_ok());
    }

    #[test]
    fn what_no_journal_knows_is_named_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["tarebench-zz9-bare", "tarebench-", "tarebench-muchtoolong-x", "mine", "tarebench-zz8-a;b 'c"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let here: Vec<String> =
            unknown(folder.path()).into_iter().filter(|t| t.contains(folder.path().to_str().unwrap())).collect();
        assert_eq!(here.len(), 2, "{here:?}");
        assert!(here.iter().any(|t| t.contains("tarebench-zz9-bare: `rm -r ")), "{here:?}");
        let odd = here.iter().find(|t| t.contains("zz8")).expect("named");
        let (_, command) = odd.trim_end_matches('`').split_once(": `").expect("with its command");
        let words = shell_words::split(command).expect("a shell takes it");
        let path = folder.path().join("tarebench-zz8-a;b 'c");
        assert_eq!(words, ["rm", "-r", path.to_str().unwrap()], "{odd}");
        drop(Journal::at(&folder.path().join(mark::name("zz9"))).unwrap());
        assert_eq!(unknown(folder.path()).iter().filter(|t| t.contains("zz9")).count(), 0, "its mark is there");
    }

    /// The remains of a run of this id in a place for scratch whose journal names this.
    fn remains(place: &Path, id: &str, made: &[Made]) -> PathBuf {
        let scratch = place.join(format!("tarebench-{id}"));
        make(&scratch);
        let journal = Journal::open(&scratch).unwrap();
        made.iter().for_each(|m| journal.note(m).unwrap());
        scratch
    }

    #[test]
    fn a_link_in_the_place_of_data_is_left_alone_with_what_it_leads_to() {
        let [place, data] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [theirs, link] = ["theirs", "tarebench-k1-bare"].map(|name| data.path().join(name));
        fs::create_dir(&theirs).unwrap();
        std::os::unix::fs::symlink(&theirs, &link).unwrap();
        let scratch = remains(place.path(), "k1", &[Made::Directory(link.clone())]);
        let refused = clean(&find_in(place.path())).expect_err("it is said").to_string();
        assert!(refused.contains("tarebench-k1-bare is left alone: it is a link"), "{refused}");
        assert!(theirs.exists() && fs::symlink_metadata(&link).is_ok() && scratch.exists());
        fs::remove_file(&link).unwrap();
        clean(&find_in(place.path())).expect("then it goes on");
        assert!(!scratch.exists());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn by_its_id_a_run_is_killed_with_its_own_lock_alone() {
        let [place, copied, data] = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let id = format!("w{:x}", std::process::id() & 0xff_ffff);
        let mut started = Command::new("cat");
        started.env(crate::process::RUN, &id).stdin(Stdio::piped());
        let mut child = started.spawn().expect("starts");
        // What a copy of a live run's mark is.
        let mark = data.path().join(mark::name(&id));
        drop(Journal::at(&mark).unwrap());
        fs::write(&mark, "{}\n").unwrap();
        clean(&[examine_mark(&mark, &BTreeSet::new()).expect("nobody holds it")]).unwrap();
        assert!(!mark.exists() && child.try_wait().unwrap().is_none(), "a mark kills nobody");
        let scratch = remains(place.path(), &id, &[]);
        let live = Journal::open(&scratch).unwrap();
        let copy = File::open(remains(copied.path(), &id, &[]).join(JOURNAL)).unwrap();
        let places = [place.path().to_path_buf(), copied.path().to_path_buf()];
        assert!(is_live(&id, &copy, &places), "the other one is locked");
        drop(live);
        assert!(!is_live(&id, &copy, &places));
        fs::write(scratch.join(JOURNAL), "{}\n").unwrap();
        clean(&find_in(place.path())).unwrap();
        assert!(child.wait().is_ok_and(|status| !status.success()), "its own lock was got");
    }

    #[test]
    fn the_mark_beside_data_elsewhere_goes_with_the_journal() {
        let [place, data] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let (dir, mark) = (data.path().join("tarebench-e1-bare"), data.path().join(mark::name("e1")));
        let held = Journal::at(&mark).unwrap();
        held.note(&Made::Directory(dir.clone())).unwrap();
        let leave = || remains(place.path(), "e1", &[Made::Directory(dir.clone())]);
        leave();
        clean(&find_in(place.path())).unwrap();
        assert!(mark.exists(), "somebody holds it");
        drop(held);
        leave();
        clean(&find_in(place.path())).unwrap();
        assert!(!mark.exists());
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_no_runs() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let scratch = remains(folder.path(), "o1", &[Made::Cgroup("tarebench-o1".into())]);
        fs::set_permissions(&scratch, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(find_in(folder.path()).is_empty());
        fs::set_permissions(&scratch, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(scratch.join(JOURNAL), fs::Permissions::from_mode(0o666)).unwrap();
        assert!(find_in(folder.path()).is_empty());
    }

    #[test]
    fn a_program_that_others_can_replace_is_not_started() {
        use std::os::unix::fs::PermissionsExt;
        assert!(trusted_program("sh").is_ok());
        assert!(trusted_program("no such engine").is_err());
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("open");
        fs::create_dir(&open).unwrap();
        let program = open.join("engine");
        fs::write(&program, "").unwrap();
        for (folder_mode, mode, trusted) in [(0o755, 0o755, true), (0o755, 0o757, false), (0o777, 0o755, false)] {
            fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
            fs::set_permissions(&open, fs::Permissions::from_mode(folder_mode)).unwrap();
            assert_eq!(trusted_program(program.to_str().unwrap()).is_ok(), trusted, "{folder_mode:o} {mode:o}");
        }
        let refused = run(&[program.to_string_lossy().into_owned(), "rm".into(), "a b".into()]).expect_err("refused");
        let words = format!("{refused:#}");
        assert!(words.contains("rm 'a b'`") && words.contains("is not root's alone"), "{words}");
    }

    #[test]
    fn the_living_are_left_alone_and_the_dead_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = folder.path().join("tarebench-t1");
        make(&scratch);
        let journal = Journal::open(&scratch).unwrap();
        let data = folder.path().join("tarebench-t1-bare");
        fs::create_dir(&data).unwrap();
        journal.note(&Made::Directory(data.clone())).unwrap();
        assert!(find_in(folder.path()).is_empty(), "its owner lives");
        drop(journal);
        let found = find_in(folder.path());
        assert_eq!(found.len(), 1);
        assert!(find_in(folder.path()).is_empty(), "somebody is cleaning already");
        clean(&found).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
