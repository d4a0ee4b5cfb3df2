//! `gvisor`: an OCI container whose system calls are answered by runsc's kernel in user space.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};
use workloads::facts::{Keeper, Sandbox};
use workloads::settings::{Setting, Settings};
use workloads::{settings, words};

use crate::boxes::oci::bundle::{Bundle, NetworkNamespace, Source};
use crate::boxes::vm;
use crate::host::Host;
use crate::launch::{Launch, Runner};
use crate::path::PathToPeer;
use crate::process::{self, BINARY, Program};
use crate::stage::Stage;
use crate::stage::data::{Data, DataPath};
use crate::unavailable::Unavailable;

/// runsc, old and new: what it can do is read from its own list of flags.
#[derive(Debug)]
pub struct Gvisor;

const PROGRAM: Program = Program::of("runsc", "runsc");

words! {
    /// How system calls are caught.
    pub enum Platform {
        /// The best that the release has.
        Auto = "auto",
        /// By seccomp traps.
        Systrap = "systrap",
        /// By ptrace.
        Ptrace = "ptrace",
        /// By running the application as a guest.
        Kvm = "kvm",
    }
}

words! {
    /// Whose network stack the sandbox has.
    pub enum Stack {
        /// Its own, without root the host's.
        Auto = "auto",
        /// Its own, on a veth pair.
        Netstack = "netstack",
        /// The host kernel's, on the same pair.
        Host = "host",
        /// None.
        None = "none",
    }
}

words! {
    /// The sandbox's overlay over files of the host.
    pub enum Overlay {
        /// None: writes reach the host.
        None = "none",
        /// Over the root, in memory.
        RootMemory = "root:memory",
        /// Over everything, in memory.
        AllMemory = "all:memory",
        /// Over the root, in a file of its own there.
        RootSelf = "root:self",
        /// Over everything, in files of its own there.
        AllSelf = "all:self",
    }
}

impl Overlay {
    /// Whether it lies over the data: in the sandbox's memory or in a file that it never flushes.
    fn covers(self, data: Data) -> bool {
        match self {
            Self::None => false,
            Self::RootMemory | Self::RootSelf => data == Data::Root,
            Self::AllMemory | Self::AllSelf => true,
        }
    }
}

words! {
    /// Who may change files behind the sandbox's back.
    pub enum FileAccess {
        /// As runsc chooses.
        Auto = "auto",
        /// Anybody.
        Shared = "shared",
        /// Nobody.
        Exclusive = "exclusive",
    }
}

words! {
    /// Who opens files.
    pub enum Directfs {
        /// As runsc chooses.
        Auto = "auto",
        /// The sandbox itself.
        On = "true",
        /// The gofer.
        Off = "false",
    }
}

settings! {
    /// The settings of a sandbox.
    struct Options {
        /// Full path of runsc, for another release or build than the installed one; by default the one in PATH
        runsc ("runsc"): Option<PathBuf> as BINARY,
        /// How system calls are caught: by seccomp traps (systrap, since 2023), ptrace or /dev/kvm; auto is systrap where this
        /// runsc has it, else ptrace
        platform: Platform = "auto",
        /// gVisor's own network stack on a veth pair, the host kernel's stack on the same pair, or none; auto is netstack, without
        /// root the host's loopback
        network: Stack = "auto",
        /// Where data lies: a bind mount of the data directory, or the sandbox's own root directory beside it
        data: Data = "bind" of ["bind", "root"],
        /// What writes go to instead of the host (overlay2): nothing, memory, or a file of the sandbox's own in the root (self,
        /// since 2023; the default of newer releases is root:self)
        overlay: Overlay = "none",
        /// Whether files may change behind the sandbox's back; auto is runsc's own choice
        file_access ("file-access"): FileAccess = "auto",
        /// Whether the sandbox opens files itself rather than through the gofer (since 2023); auto is runsc's own choice
        directfs: Directfs = "auto",
    }
}

impl Options {
    /// States where data lies, on a path that a place of this kind has by itself.
    fn state(&self, path: DataPath) -> DataPath {
        let Self { data, overlay, .. } = *self;
        let path = if data == Data::Root { path } else { path.noting(", by the sandbox's file server") };
        let path = if overlay.covers(data) { path.with_keeper(Keeper::Memory) } else { path };
        if overlay == Overlay::None { path } else { path.noting(&format!(", under a sandbox overlay ({overlay})")) }
    }
}

impl Runner for Gvisor {
    fn name(&self) -> &'static str {
        "gvisor"
    }

    fn about(&self) -> &'static str {
        "An OCI container under gVisor (runsc), which answers system calls by a kernel in user space"
    }

    fn simpler(&self) -> &'static [&'static str] {
        &["namespaces", "runc"]
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn version(&self, _host: &Host, settings: &Settings) -> Result<String, Unavailable> {
        Release::of(Options::read(settings).runsc.as_deref()).map(|release| release.in_words())
    }

    fn program(&self) -> Option<Program> {
        Some(PROGRAM)
    }

    fn engine(&self, settings: &Settings) -> Option<PathBuf> {
        PROGRAM.find(Options::read(settings).runsc.as_deref())
    }

    fn settled(&self, settings: &Settings, privileged: bool) -> anyhow::Result<Vec<(&'static str, String)>> {
        let wanted = Options::read(settings);
        let settled = Release::of(wanted.runsc.as_deref())?.settled(&wanted, privileged)?;
        Ok(settled.into_iter().map(|(name, word)| (name, word.to_string())).collect())
    }

    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let wanted = Options::read(settings);
        let release = Release::of(wanted.runsc.as_deref())?;
        let id = stage.next_id();
        let privileged = stage.host.privileged;
        let stack = stack(wanted.network, privileged)?;
        let platform = release.platform(wanted.platform)?;
        let options = release.options(&wanted, platform, stack)?;
        let state = stage.scratch().join("runsc");
        let bundle = stage.scratch().join(&id);
        let in_root = wanted.data == Data::Root;
        let root = if in_root { stage.root_beside_data()? } else { stage.root()?.to_path_buf() };
        let path = if stack == Stack::None { PathToPeer::none() } else { stage.path_to_peer()? };
        Bundle {
            root: &root.canonicalize().with_context(|| format!("can't find {}", root.display()))?,
            writable: in_root,
            data: if in_root { Source::Root } else { Source::Bind(stage.data()) },
            network: match path.netns.clone() {
                // runsc makes an empty one of its own unless the bundle names one.
                Some(netns) => NetworkNamespace::At(netns),
                None if stack == Stack::None => NetworkNamespace::Empty,
                None => NetworkNamespace::Inherited,
            },
            cgroup: None,
            mapped: None,
            seccomp: None,
            limits: Vec::new(),
        }
        .write(&bundle)?;

        let mut command = Command::new(&release.runsc);
        command.arg(joined("--root=", &state)).args(&options);
        if !privileged {
            command.arg("--rootless");
        }
        command.arg("run").arg(joined("--bundle=", &bundle)).arg(&id);
        if stack == Stack::Netstack {
            hide_sysctl(&mut command);
        }
        let data = wanted.state(wanted.data.on(stage));
        let sandbox = release.sandbox(&wanted, platform, stack, kvm_can_work());
        let version = format!("{} (platform {platform})", release.version);
        let launch = Launch::new(command).on(&release.runsc).over(path).data(data);
        let launch = launch.cleanup(move || remove(&release.runsc, &state, &id, &bundle));
        Ok(Launch { version: Some(version), sandbox, ..launch })
    }
}

/// Whether the CPU can run guests and we may use it: on some hosts without that, `/dev/kvm` opens too, and no guest ever runs.
fn kvm_can_work() -> bool {
    let opens = vm::require_kvm("platform=kvm").is_ok();
    let cpu = || fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    opens && (cfg!(not(target_arch = "x86_64")) || cpu().split_whitespace().any(|flag| matches!(flag, "vmx" | "svm")))
}

/// The stack that there will be: never [`Stack::Auto`].
fn stack(wanted: Stack, privileged: bool) -> anyhow::Result<Stack> {
    match wanted {
        Stack::Auto if privileged => Ok(Stack::Netstack),
        Stack::Auto => Ok(Stack::Host),
        Stack::Netstack if !privileged => bail!(
            "gVisor's network stack needs a network namespace that only root can make: run as root, or set network=host"
        ),
        possible => Ok(possible),
    }
}

/// Nothing of a sandbox is outside its processes and the state directory: it keeps its hands off cgroups, and its mounts
/// are in its own namespace. `runsc delete --force` on a dead sandbox waits more than a second for it to die.
fn remove(runsc: &Path, state: &Path, id: &str, bundle: &Path) {
    process::kill_marked(&[id, &process::mark(bundle)], runsc, &[]);
    for entry in fs::read_dir(state).into_iter().flatten().flatten() {
        // `<id>_sandbox:<id>.state`, `.lock`, or a directory in old releases.
        if !entry.file_name().to_string_lossy().starts_with(id) {
            continue;
        }
        let gone = match entry.file_type() {
            Ok(kind) if kind.is_dir() => fs::remove_dir_all(entry.path()),
            _ => fs::remove_file(entry.path()),
        };
        if let Err(e) = gone {
            log::debug!("remove {}: {e}", entry.path().display());
        }
    }
    process::discard(bundle);
}

fn joined(option: &str, path: &Path) -> std::ffi::OsString {
    let mut text = std::ffi::OsString::from(option);
    text.push(path);
    text
}

/// One release of runsc and what it can do.
#[derive(Debug)]
struct Release {
    runsc: PathBuf,
    version: String,
    flags: Flags,
}

impl Release {
    /// Asks it once; the answers hold as long as we run.
    fn of(set: Option<&Path>) -> Result<Arc<Self>, Unavailable> {
        let runsc = PROGRAM.require(set)?;
        static KNOWN: Mutex<BTreeMap<PathBuf, Arc<Release>>> = Mutex::new(BTreeMap::new());
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(release) = known.get(&runsc) {
            return Ok(Arc::clone(release));
        }
        let fix = match runsc.starts_with("/usr/bin") || runsc.starts_with("/usr/sbin") {
            true => "apt install --reinstall runsc".into(),
            false => format!("put a runsc for this machine at {}, or leave the setting runsc away", runsc.display()),
        };
        let broken = |because| Unavailable { because, fix, broken: true };
        let version = PROGRAM.version(set)?;
        let mut command = Command::new(&runsc);
        // It prints them to stderr, or to stdout, depending on the release.
        command.arg("flags");
        let flags = Flags(process::ask_all(command).map_err(broken)?);
        let release = Arc::new(Self { runsc: runsc.clone(), version, flags });
        known.insert(runsc, Arc::clone(&release));
        Ok(release)
    }

    fn in_words(&self) -> String {
        format!("{} (platform {} by default)", self.version, self.flags.best_platform())
    }

    /// What is left to us or to it, as it will be.
    fn settled(&self, wanted: &Options, privileged: bool) -> anyhow::Result<Vec<(&'static str, &'static str)>> {
        let stack = stack(wanted.network, privileged)?;
        let platform = self.platform(wanted.platform)?;
        self.options(wanted, platform, stack)?;
        let mut settled = vec![("platform", platform.word()), ("network", stack.word())];
        if !self.flags.has("directfs") {
            settled.push(("directfs", Directfs::Off.word()));
        }
        Ok(settled)
    }

    /// The platform that there will be, where this release has it: never [`Platform::Auto`].
    fn platform(&self, wanted: Platform) -> Result<Platform, Unavailable> {
        let best = self.flags.best_platform();
        let refuse = |because, fix| Err(Unavailable { because, fix, broken: false });
        match wanted {
            Platform::Auto => Ok(best),
            wanted if !self.flags.about("platform").contains(wanted.word()) => refuse(
                format!("runsc {} has no platform {wanted}", self.version),
                format!("set platform={best}, or runsc to the path of another release (systrap came in 2023)"),
            ),
            Platform::Kvm if !Path::new("/dev/kvm").exists() => refuse(
                "platform=kvm needs /dev/kvm, which is not there".into(),
                format!("load kvm_intel or kvm_amd (modprobe), or set platform={best}"),
            ),
            wanted => Ok(wanted),
        }
    }

    /// What the sandbox does by itself, and the settings that would have it otherwise here.
    fn sandbox(&self, wanted: &Options, platform: Platform, stack: Stack, kvm: bool) -> Sandbox {
        let best = self.flags.best_platform();
        let old = if best == Platform::Systrap { "" } else { "; this runsc has no systrap, which came in 2023" };
        let faster = match platform {
            Platform::Ptrace if best == Platform::Systrap => Some(best),
            Platform::Kvm => None,
            _ => kvm.then_some(Platform::Kvm),
        };
        let direct = self.flags.has("directfs") && wanted.directfs != Directfs::Off;
        // By itself it takes the root for its own, and what is mounted for anybody's.
        let alone = match wanted.file_access {
            FileAccess::Auto => wanted.data == Data::Root,
            set => set == FileAccess::Exclusive,
        };
        let opened =
            if direct { "the sandbox opens them itself (directfs)" } else { "another process opens them (the gofer)" };
        let kept = match alone {
            true => "nobody else may change them, so that names and sizes can be remembered (exclusive)",
            false => "others may change them, so that names and sizes are looked at anew (shared)",
        };
        let instead = [
            ("platform", faster.map(Platform::word)),
            ("network", (stack == Stack::Netstack).then_some(Stack::Host.word())),
            ("file-access", (!alone).then_some(FileAccess::Exclusive.word())),
            ("directfs", (!direct && self.flags.has("directfs")).then_some(Directfs::On.word())),
        ];
        let instead = instead.into_iter().filter_map(|(name, word)| Some((name.to_string(), word?.to_string())));
        Sandbox {
            calls: Some(format!("platform {platform}{old}")),
            stack: (stack == Stack::Netstack).then(|| "connections are served by gVisor's netstack".into()),
            files: Some(format!("{opened}, and {kept}")),
            instead: instead.collect(),
        }
    }

    fn options(&self, wanted: &Options, platform: Platform, stack: Stack) -> Result<Vec<String>, Unavailable> {
        let refuse = |lacks: &str, set: &str| {
            let because = format!("runsc {} {lacks}", self.version);
            Err(Unavailable { because, fix: format!("set {set}"), broken: false })
        };
        let flags = &self.flags;
        let network = if stack == Stack::Netstack { "sandbox" } else { stack.word() };
        let mut options = vec![format!("--platform={platform}"), format!("--network={network}")];
        // The processes of the sandbox stay in the group that they are started in, and so under its limits.
        options.push("--ignore-cgroups".into());
        let overlay = wanted.overlay;
        if flags.has("overlay2") {
            if matches!(overlay, Overlay::RootSelf | Overlay::AllSelf) && !flags.about("overlay2").contains("self") {
                let set = "overlay=none, root:memory or all:memory, or runsc to a release of 2023 or later";
                return refuse("knows no overlay on a file of its own", set);
            }
            options.push(format!("--overlay2={overlay}"));
        } else if overlay == Overlay::AllMemory {
            options.push("--overlay=true".into());
        } else if overlay != Overlay::None {
            return refuse("has no flag overlay2", "overlay=none or all:memory");
        }
        let access = wanted.file_access;
        if access != FileAccess::Auto {
            options.push(format!("--file-access={access}"));
            if flags.has("file-access-mounts") {
                options.push(format!("--file-access-mounts={access}"));
            }
        }
        match wanted.directfs {
            Directfs::Auto => {}
            directfs if flags.has("directfs") => options.push(format!("--directfs={directfs}")),
            // Without the flag everything goes through the gofer.
            Directfs::Off => {}
            Directfs::On => return refuse("has no directfs", "directfs=auto, or runsc to a release of 2023 or later"),
        }
        Ok(options)
    }
}

/// The list of `runsc flags`: the only reliable word on what a release can do.
#[derive(Debug)]
struct Flags(String);

impl Flags {
    fn has(&self, flag: &str) -> bool {
        self.0.lines().filter_map(|l| l.trim().strip_prefix('-')).any(|l| l.split_whitespace().next() == Some(flag))
    }

    /// The line that explains a flag.
    fn about(&self, flag: &str) -> &str {
        let named = |l: &str| l.trim().strip_prefix('-').and_then(|l| l.split_whitespace().next()) == Some(flag);
        self.0.lines().skip_while(|l| !named(l)).nth(1).unwrap_or_default()
    }

    fn best_platform(&self) -> Platform {
        if self.about("platform").contains("systrap") { Platform::Systrap } else { Platform::Ptrace }
    }
}

/// Older releases of runsc take every network namespace in which `/proc/sys/net/core/dev_weight` exists for the host's and
/// refuse their own stack there; newer kernels show that file in all of them. So runsc sees an empty directory instead, in
/// a mount namespace of its own. `/proc/sys/net` itself is the same directory in every network namespace, hence this works
/// before the right one is entered.
pub(crate) fn hide_sysctl(command: &mut Command) {
    process::hide(command, c"/proc/sys/net", true);
}

#[cfg(test)]
mod tests {
    use workloads::facts::DataFacts;

    use super::*;

    const OLD: &str = "  -overlay2 value\n    \twrap mounts. 'medium' can be 'memory' or existing directory path\n  \
                       -file-access-mounts value\n    \tx\n  -platform string\n    \tspecifies which platform to use: ptrace (default), kvm.\n";
    const NEW: &str = "  -overlay2 value\n    \twrap mounts. 'memory', 'self' or 'dir=/abs/dir/path'\n  -directfs\n    \tdirectly\n  \
                       -platform string\n    \tspecifies which platform to use: systrap (default), ptrace, kvm.\n";

    fn wanted(given: &[(&str, &str)]) -> Options {
        Options::read(&Settings::of(Options::TABLE, given))
    }

    fn options(flags: &str, given: &[(&str, &str)]) -> Result<String, Unavailable> {
        let wanted = wanted(given);
        let release = Release { runsc: "runsc".into(), version: "1".into(), flags: Flags(flags.into()) };
        let stack = stack(wanted.network, true).expect("root may all");
        Ok(release.options(&wanted, release.platform(wanted.platform)?, stack)?.join(" "))
    }

    #[test]
    fn without_root_the_hosts_network_is_what_auto_has() {
        let of = |given: &[(&str, &str)], root| stack(wanted(given).network, root);
        assert_eq!(of(&[], true).expect("works"), Stack::Netstack);
        assert_eq!(of(&[], false).expect("works"), Stack::Host);
        assert!(of(&[("network", "netstack")], false).expect_err("refused").to_string().ends_with("set network=host"));
    }

    #[test]
    fn what_auto_comes_to_is_known_before_anything_is_started() {
        let of = |flags: &str, given: &[(&str, &str)]| {
            let release = Release { runsc: "runsc".into(), version: "1".into(), flags: Flags(flags.into()) };
            release.settled(&wanted(given), true)
        };
        let old = of(OLD, &[]).expect("defaults work");
        assert_eq!(old, [("platform", "ptrace"), ("network", "netstack"), ("directfs", "false")]);
        assert_eq!(of(NEW, &[]).expect("defaults work"), [("platform", "systrap"), ("network", "netstack")]);
        for lacking in [("platform", "systrap"), ("directfs", "true"), ("overlay", "root:self")] {
            assert!(of(OLD, &[lacking]).is_err(), "{lacking:?}");
        }
    }

    #[test]
    fn by_default_writes_reach_the_host_and_cgroups_are_left_alone() {
        let old = options(OLD, &[]).expect("defaults work");
        assert_eq!(old, "--platform=ptrace --network=sandbox --ignore-cgroups --overlay2=none");
        let new = options(NEW, &[]).expect("defaults work");
        assert_eq!(new, "--platform=systrap --network=sandbox --ignore-cgroups --overlay2=none");
    }

    #[test]
    fn what_a_release_lacks_is_refused_with_the_way_out() {
        let refused = |given| {
            let no = options(OLD, given).expect_err("refused");
            assert!(!no.broken && no.because.starts_with("runsc 1 "), "{no:?}");
            no.fix
        };
        assert!(refused(&[("platform", "systrap")]).contains("platform=ptrace"));
        assert!(refused(&[("overlay", "root:self")]).contains("root:memory"));
        assert!(refused(&[("directfs", "true")]).contains("directfs=auto"));
        assert!(options(OLD, &[("directfs", "false")]).is_ok());
        assert!(
            options(NEW, &[("directfs", "true"), ("overlay", "root:self")]).expect("new").contains("--directfs=true")
        );
    }

    #[test]
    fn a_release_is_named_by_its_full_path() {
        let of = |path: &str| Gvisor.engine(&Settings::of(Options::TABLE, &[("runsc", path)]));
        assert_eq!(of("/bin/sh").as_deref(), Some(Path::new("/bin/sh")));
        assert_eq!(of("/no/such/runsc"), None);
        let refused = |path: &str| {
            Gvisor.resolve(&[("runsc".to_string(), path.to_string())].into()).expect_err("refused").to_string()
        };
        assert!(refused("/no/such/runsc").contains("there is no such file"));
        assert!(refused("runsc").contains("the full path of a program"));
    }

    #[test]
    fn an_overlay_of_the_root_covers_data_that_lies_there_alone() {
        let keepers = |overlay| {
            ["bind", "root"].map(|data| {
                let facts = DataFacts { keeper: Keeper::Disk, ..DataFacts::default() };
                wanted(&[("overlay", overlay), ("data", data)])
                    .state(DataPath { facts, ..DataPath::default() })
                    .facts
                    .keeper
            })
        };
        assert_eq!(keepers("none"), [Keeper::Disk, Keeper::Disk]);
        for root in ["root:memory", "root:self"] {
            assert_eq!(keepers(root), [Keeper::Disk, Keeper::Memory]);
        }
        for all in ["all:memory", "all:self"] {
            assert_eq!(keepers(all), [Keeper::Memory, Keeper::Memory]);
        }
    }

    #[test]
    fn what_a_sandbox_does_by_itself_is_stated_with_what_can_be_had_instead() {
        let of = |flags: &str, given: &[(&str, &str)], kvm| {
            let wanted = wanted(given);
            let release = Release { runsc: "runsc".into(), version: "1".into(), flags: Flags(flags.into()) };
            let platform = release.platform(wanted.platform).expect("has it");
            let stack = stack(wanted.network, true).expect("root may all");
            let sandbox = release.sandbox(&wanted, platform, stack, kvm);
            for (name, word) in &sandbox.instead {
                let mut other: BTreeMap<&str, &str> = given.iter().copied().collect();
                other.insert(name, word);
                let other: Vec<_> = other.into_iter().collect();
                if (name.as_str(), word.as_str()) != ("platform", "kvm") {
                    options(flags, &other).expect("it takes that");
                }
            }
            sandbox
        };
        let instead = |sandbox: &Sandbox| {
            sandbox.instead.iter().map(|(name, word)| format!("{name}={word}")).collect::<Vec<_>>().join(" ")
        };
        let old = of(OLD, &[], false);
        assert_eq!(old.calls.as_deref(), Some("platform ptrace; this runsc has no systrap, which came in 2023"));
        assert!(old.stack.is_some_and(|words| words.contains("netstack")));
        assert!(old.files.as_deref().is_some_and(|words| words.contains("gofer") && words.contains("shared")));
        assert_eq!(instead(&of(OLD, &[], false)), "file-access=exclusive network=host");
        assert_eq!(instead(&of(OLD, &[], true)), "file-access=exclusive network=host platform=kvm");
        let slow = [("platform", "ptrace"), ("directfs", "false"), ("network", "host"), ("file-access", "exclusive")];
        let slow = of(NEW, &slow, true);
        assert_eq!((slow.calls.as_deref(), slow.stack.as_deref()), (Some("platform ptrace"), None));
        assert_eq!(instead(&slow), "directfs=true platform=systrap");
        let own = of(NEW, &[("data", "root"), ("network", "none")], false);
        assert!(own.files.as_deref().is_some_and(|words| words.contains("directfs") && words.contains("exclusive")));
        assert_eq!(instead(&own), "");
    }

    #[test]
    fn file_access_holds_for_root_and_mounts() {
        let line = options(OLD, &[("file-access", "exclusive"), ("network", "host")]).expect("works");
        assert!(line.contains("--file-access=exclusive --file-access-mounts=exclusive"), "{line}");
        assert!(line.contains("--network=host"), "{line}");
    }
}
