//! Whether a runner works here: known only once a trivial agent has really answered from inside it, under a deadline.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use workloads::settings::Settings;

use crate::advice;
use crate::cache;
use crate::host::{Host, Resources};
use crate::launch::Runner;
use crate::names::hex;
use crate::process;
use crate::session::{Session, SessionError};
use crate::stage::Stage;
use crate::stage::shared::Shared;
use crate::unavailable::Unavailable;

/// More answers than this are not kept: the oldest boots and builds have long been useless.
const KEPT: usize = 200;

/// Programs besides the engines' own that runners start, or that an engine starts for them: what works may be another thing
/// once one of them is there, gone or another.
const HELPERS: &[&str] = &[
    "aardvark-dns",
    "catatonit",
    "conmon",
    "containerd",
    "crun",
    "fuse-overlayfs",
    "ganesha.nfsd",
    "ip",
    "jailer",
    "losetup",
    "mkfs.ext4",
    "netavark",
    "newgidmap",
    "newuidmap",
    "nft",
    "passt",
    "pasta",
    "qemu-img",
    "runc",
    "runsc",
    "slirp4netns",
    "ssh",
    "tc",
    "virtiofsd",
];

/// Where some of them are, out of PATH.
const BESIDE_PATH: &[&str] = &["/usr/libexec", "/usr/libexec/podman", "/usr/lib/podman", "/usr/lib/qemu", "/usr/lib"];

/// The answer, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// An agent answered.
    Works,
    /// An agent answered, on a CPU emulated in software.
    Emulated,
    /// The engine is there, but no agent answered.
    Broken,
    /// There is no such engine here, or it can't be used by this user.
    Absent,
    /// It enters, or is, what the user names, and no setting names it yet.
    Unset,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Verdict::Works => "works",
            Verdict::Emulated => "emulated",
            Verdict::Broken => "broken",
            Verdict::Absent => "absent",
            Verdict::Unset => "unset",
        })
    }
}

/// The finding of a probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// In one word.
    pub verdict: Verdict,
    /// The engine's version, in its own words.
    pub version: Option<String>,
    /// Why it is not [`Verdict::Works`], in the engine's own words where it has any; for an emulated CPU the reason.
    pub because: Option<String>,
    /// The way to change that.
    pub fix: Option<String>,
    /// How long the question took.
    pub seconds: f64,
}

impl Probe {
    /// Whether sessions can be started.
    pub fn usable(&self) -> bool {
        matches!(self.verdict, Verdict::Works | Verdict::Emulated)
    }
}

/// Starts a trivial agent and ends it again. `data_dir` must be writable; nothing is left in it.
pub fn probe(runner: &dyn Runner, settings: &Settings, shared: &Arc<Shared>, data_dir: &Path) -> Probe {
    let began = Instant::now();
    let mut probe = ask(runner, settings, shared, data_dir);
    probe.seconds = began.elapsed().as_secs_f64();
    if probe.usable()
        && let Some(file) = cache_file()
        && let Err(e) =
            remember(&file, &key(runner, settings, &shared.host, &probe, [&std::env::temp_dir(), data_dir]), &probe)
    {
        log::debug!("can't remember the probe in {}: {e:#}", file.display());
    }
    probe
}

/// The remembered answer, where engine, helpers, kernel, boot, binary, user, rights, limits, places and settings are the same; else asks. Only successes are
/// remembered: what is missing may be installed a moment later.
pub fn probe_cached(runner: &dyn Runner, settings: &Settings, shared: &Arc<Shared>, data_dir: &Path) -> Probe {
    let began = Instant::now();
    if let (Some(file), Ok(version)) = (cache_file(), runner.version(&shared.host, settings)) {
        let blank = Probe { verdict: Verdict::Works, version: Some(version), because: None, fix: None, seconds: 0.0 };
        if let Some(mut known) =
            recall(&file).remove(&key(runner, settings, &shared.host, &blank, [&std::env::temp_dir(), data_dir]))
        {
            known.seconds = began.elapsed().as_secs_f64();
            return known;
        }
    }
    probe(runner, settings, shared, data_dir)
}

fn verdict(no: &Unavailable) -> Verdict {
    match no {
        no if no.broken => Verdict::Broken,
        no if no.wants_setting() => Verdict::Unset,
        _ => Verdict::Absent,
    }
}

fn ask(runner: &dyn Runner, settings: &Settings, shared: &Arc<Shared>, data_dir: &Path) -> Probe {
    let version = match runner.version(&shared.host, settings) {
        Ok(version) => version,
        Err(no) => {
            let verdict = verdict(&no);
            return Probe { verdict, version: None, because: Some(no.because), fix: Some(no.fix), seconds: 0.0 };
        }
    };
    let answer = |verdict, because, fix| Probe { verdict, version: Some(version.clone()), because, fix, seconds: 0.0 };
    if cfg!(target_os = "linux") && !shared.host.static_binary && runner.name() != "bare" {
        let because = "this tarebench needs a dynamic loader, which other root file systems don't have";
        let fix = "build it statically: plain `cargo build --release` in its repository, with no RUSTFLAGS set";
        return answer(Verdict::Absent, Some(because.into()), Some(fix.into()));
    }
    match try_start(runner, settings, shared, data_dir) {
        Ok(Started { emulated, version }) => {
            let verdict = if emulated.is_some() { Verdict::Emulated } else { Verdict::Works };
            let mut probe = answer(verdict, emulated, None);
            probe.version = version.or(probe.version);
            probe
        }
        Err(e) => match e.downcast::<Unavailable>() {
            // What only the settings could tell.
            Ok(no) => answer(verdict(&no), Some(no.because), Some(no.fix)),
            Err(e) => {
                let because = format!("{e:#}");
                let fix = match (e.downcast_ref::<SessionError>(), runner.when_silent()) {
                    // A launch that is refused says itself what to set; only that it met a limit it does not know.
                    (None, _) => advice::on_limit(&because).map(String::from),
                    (Some(SessionError::Deadline { .. }), Some(words)) => Some(words.to_string()),
                    // One that was tried and died can only be looked at.
                    _ => Some(advice::on(&because).unwrap_or_else(|| what_to_try(runner, settings))),
                };
                answer(Verdict::Broken, Some(because), fix)
            }
        },
    }
}

/// Where the engine's words are all there is: without the settings it may work, and its command tells what was asked of it.
fn what_to_try(runner: &dyn Runner, settings: &Settings) -> String {
    let defaults = Settings::resolve(&runner.all_settings(), &BTreeMap::new()).unwrap_or_default();
    let default = |name: &str| defaults.iter().find(|(n, _)| *n == name).map(|(_, value)| value);
    let changed: Vec<String> =
        settings.iter().filter(|(name, v)| default(name) != Some(v)).map(|(name, v)| format!("{name}={v}")).collect();
    let name = runner.name();
    if changed.is_empty() {
        return format!(
            "`tarebench doctor -vv` shows the command that starts {name}; the files that it names are gone when doctor ends"
        );
    }
    let changed = changed.join(",");
    format!(
        "leave {changed} away; `tarebench -vv verify --env '{name}:{changed}'` shows the command that starts it, whose files are gone when it ends"
    )
}

/// The facts that are known once an agent has answered.
struct Started {
    /// Why the CPU counts as emulated.
    emulated: Option<String>,
    version: Option<String>,
}

fn try_start(
    runner: &dyn Runner,
    settings: &Settings,
    shared: &Arc<Shared>,
    data_dir: &Path,
) -> anyhow::Result<Started> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("probe{}-{}", NEXT.fetch_add(1, Ordering::Relaxed), runner.name());
    let mut stage = Stage::new(Arc::clone(shared), &name, data_dir)?;
    let launch = stage.launch(runner, settings)?;
    let started = Started { emulated: launch.emulated.clone(), version: launch.version.clone() };
    let mut session = Session::start(launch, runner.start_deadline())?;
    session.ping(Duration::from_secs(5))?;
    Ok(started)
}

/// Everything that could change the answer, hashed.
fn key(runner: &dyn Runner, settings: &Settings, host: &Host, probe: &Probe, [scratch, data]: [&Path; 2]) -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let engine = runner.engine(settings).map(|path| identity(&path));
    let uid = nix::unistd::geteuid();
    let Resources { cpus, memory_bytes, io, link } = host.resources;
    let all = format!(
        "{}|{:?}|{engine:?}|{}|{boot}|{}|{uid}|{settings}|{cpus}|{memory_bytes}|{io:?}|{link:?}|{}|{}|{}",
        runner.name(),
        probe.version,
        host.kernel,
        host.binary_sha256,
        standing(Path::new("/proc/self")),
        places(scratch, data),
        helpers(process::find, BESIDE_PATH)
    );
    format!("{}-{}", runner.name(), hex(&Sha256::digest(all.as_bytes())[..12]))
}

/// A program's file, as it is now.
fn identity(path: &Path) -> String {
    let (size, time) = fs::metadata(path).map_or((0, 0), |m| (m.len(), m.mtime()));
    format!("{} {size} {time}", path.display())
}

/// The [`HELPERS`] that are here.
fn helpers(find: impl Fn(&str) -> Option<PathBuf>, beside: &[&str]) -> String {
    let hidden = |name: &str| beside.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file());
    let here = HELPERS.iter().filter_map(|name| find(name).or_else(|| hidden(name)));
    here.map(|path| identity(&path)).collect::<Vec<_>>().join(" ")
}

/// What this process may do beside what its user may: the same root can be without capabilities, in a namespace, behind a filter or
/// under limits the next time. Empty where the kernel doesn't say.
fn standing(process: &Path) -> String {
    const RIGHTS: [&str; 4] = ["CapEff:", "CapBnd:", "NoNewPrivs:", "Seccomp:"];
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    let rights = status.lines().filter(|line| RIGHTS.iter().any(|right| line.starts_with(right)));
    let namespaces = ["user", "pid"].map(|kind| fs::read_link(process.join("ns").join(kind)).ok());
    let limits = fs::read_to_string(process.join("limits")).unwrap_or_default();
    format!("{} {namespaces:?} {limits}", rights.collect::<Vec<_>>().join(" "))
}

/// Where scratch and data lie: not everything starts from everywhere. Data is in another directory often, so of that only the mount
/// counts.
fn places(scratch: &Path, data: &Path) -> String {
    let mount = |directory: &Path| {
        let device = fs::metadata(directory).map(|about| about.dev()).ok();
        (device, statvfs(directory).map(|about| about.flags().bits()).ok())
    };
    format!("{} {:?} {:?}", scratch.display(), mount(scratch), mount(data))
}

fn cache_file() -> Option<PathBuf> {
    Some(cache::folder()?.join("probes.json"))
}

/// A cache that can't be read is an empty one.
fn recall(file: &Path) -> BTreeMap<String, Probe> {
    fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn remember(file: &Path, key: &str, probe: &Probe) -> anyhow::Result<()> {
    let mut all = recall(file);
    if all.len() >= KEPT {
        all.clear();
    }
    all.insert(key.to_string(), probe.clone());
    let folder = file.parent().expect("the file has a folder");
    fs::create_dir_all(folder)?;
    // Renamed into place: another run may read it at this moment.
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer_pretty(&mut new, &all)?;
    new.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_does_not_start_is_named() {
        let bare = crate::registry::find("bare").expect("registered");
        assert!(what_to_try(bare, &Settings::default()).starts_with("`tarebench doctor -vv` shows"));
        let exec = crate::registry::find("exec").expect("registered");
        let given = BTreeMap::from([("data".to_string(), "/srv".to_string())]);
        let settings = Settings::resolve(exec.settings(), &given).expect("valid");
        let fix = what_to_try(exec, &settings);
        assert!(fix.starts_with("leave data=/srv away") && fix.contains("--env 'exec:data=/srv'"), "{fix}");
    }

    #[test]
    fn what_works_with_all_rights_is_asked_again_with_fewer() {
        let process = |capabilities: &str, files: &str| {
            let dir = tempfile::tempdir().unwrap();
            let status = format!("Name:\tx\nVmRSS:\t{}\nCapEff:\t{capabilities}\nSeccomp:\t0\n", capabilities.len());
            fs::write(dir.path().join("status"), status).unwrap();
            fs::write(dir.path().join("limits"), format!("Max open files {files} {files} files\n")).unwrap();
            standing(dir.path())
        };
        let whole = process("000001ffffffffff", "1024");
        assert_eq!(whole, process("000001ffffffffff", "1024"));
        assert_ne!(whole, process("000001ffffdfffff", "1024"), "without CAP_SYS_ADMIN");
        assert_ne!(whole, process("000001ffffffffff", "64"));
        assert!(!whole.contains("VmRSS"), "what changes from moment to moment is left out: {whole}");
    }

    #[test]
    fn what_works_in_one_place_is_asked_again_in_another() {
        let [one, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let of = |scratch: &Path, data: &Path| {
            let bare = crate::registry::find("bare").expect("registered");
            let host = Host::new("ab", Path::new("/proc/self/exe"), Resources::new(1, 1 << 29)).expect("a host");
            let probe =
                Probe { verdict: Verdict::Works, version: Some("1".into()), because: None, fix: None, seconds: 0.0 };
            key(bare, &Settings::default(), &host, &probe, [scratch, data])
        };
        let known = of(one.path(), one.path());
        assert_eq!(known, of(one.path(), other.path()), "data in another directory of the same mount");
        assert_ne!(known, of(other.path(), one.path()), "another TMPDIR");
        assert_ne!(known, of(one.path(), Path::new("/proc")), "data on another mount");
    }

    #[test]
    fn what_works_is_asked_again_when_a_helper_comes_goes_or_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let (path, hidden) = (dir.path().join("slirp4netns"), dir.path().join("libexec"));
        fs::create_dir(&hidden).unwrap();
        let beside = [hidden.to_str().unwrap()];
        let now = || helpers(|name| Some(dir.path().join(name)).filter(|path| path.exists()), &beside);
        let without = now();
        assert_eq!(without, "");
        fs::write(&path, "1.2").unwrap();
        let installed = now();
        assert_ne!(installed, without);
        fs::write(&path, "1.3.0").unwrap();
        assert_ne!(now(), installed, "a newer one");
        fs::remove_file(&path).unwrap();
        assert_eq!(now(), without);
        fs::write(hidden.join("virtiofsd"), "").unwrap();
        assert_ne!(now(), without, "out of PATH");
    }

    #[test]
    fn answers_are_kept_and_rubbish_is_an_empty_cache() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tarebench/probes.json");
        let probe =
            Probe { verdict: Verdict::Emulated, version: Some("1".into()), because: None, fix: None, seconds: 1.5 };
        remember(&file, "k", &probe).unwrap();
        assert_eq!(recall(&file).get("k"), Some(&probe));
        fs::write(&file, "{").unwrap();
        assert!(recall(&file).is_empty());
    }
}
