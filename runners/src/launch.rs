//! A runner, and what it turns the agent's command line into.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use workloads::facts::Sandbox;
use workloads::settings::{Setting, SettingError, Settings};

use crate::host::Host;
use crate::path::PathToPeer;
use crate::process::{self, Program};
use crate::programs::{Used, Version};
use crate::quota::Quota;
use crate::stage::Stage;
use crate::stage::cgroup::Cgroup;
use crate::stage::data::DataPath;
use crate::unavailable::Unavailable;

/// A way to isolate a process: it turns the agent's command line into one that runs it elsewhere, with stdin and stdout
/// still ours.
pub trait Runner: Sync + Debug {
    /// As in `--env` and in suites: `runc`.
    fn name(&self) -> &'static str;
    /// One sentence, shown by `list` and in reports.
    fn about(&self) -> &'static str;
    /// Runners whose boxes have a part of what this one's have, each more than those before: what lies between bare metal and it.
    fn simpler(&self) -> &'static [&'static str] {
        &[]
    }
    /// Settings with their defaults.
    fn settings(&self) -> &'static [Setting] {
        &[]
    }
    /// Whether all that works in it is in the stage's cgroup, so that a quota there holds it.
    fn in_cgroup(&self) -> bool {
        cfg!(target_os = "linux")
    }
    /// Its settings, and those that every runner of its kind has.
    fn all_settings(&self) -> Vec<Setting> {
        [self.settings(), if self.in_cgroup() { Quota::TABLE } else { &[] }].concat()
    }
    /// Refuses settings that exclude each other, before anything is started.
    ///
    /// # Errors
    /// [`SettingError::Conflict`], with what to set instead.
    fn check(&self, _settings: &Settings) -> Result<(), SettingError> {
        Ok(())
    }
    /// The settings that are given and the defaults of the others, all checked.
    ///
    /// # Errors
    /// See [`Settings::resolve`] and [`Runner::check`].
    fn resolve(&self, given: &BTreeMap<String, String>) -> Result<Settings, SettingError> {
        let settings = Settings::resolve(&self.all_settings(), given)?;
        process::check_files(self.settings(), &settings)?;
        Quota::check(&settings)?;
        self.check(&settings)?;
        Ok(settings)
    }
    /// The version of the engine that these settings stand for, found without starting anything in it. That it works is shown by
    /// [`crate::probe::probe`], which starts a trivial agent through the same [`Runner::launch`] as every measurement.
    ///
    /// # Errors
    /// When something is missing, with how to get it.
    fn version(&self, host: &Host, settings: &Settings) -> Result<String, Unavailable>;
    /// What settings that leave a choice to the runner come to here, as far as that is known without starting anything: for whoever
    /// plans other values of them. A setting that isn't among these may come to anything.
    ///
    /// # Errors
    /// When these settings are known not to work here.
    fn settled(&self, _settings: &Settings, _privileged: bool) -> anyhow::Result<Vec<(&'static str, String)>> {
        Ok(Vec::new())
    }
    /// Prepares the stage and says how the agent is started there. Called once per start; what it needs again and again
    /// (root file system, image, network) the stage keeps.
    ///
    /// # Errors
    /// When the stage can't be made, or these settings can't work on this host.
    fn launch(&self, settings: &Settings, stage: &mut Stage) -> anyhow::Result<Launch>;
    /// The engine's program by its name, where it has one: of which there may be several on a host.
    fn program(&self) -> Option<Program> {
        None
    }
    /// The engine's program that these settings stand for, where there is one: a remembered probe holds as long as this file is
    /// the same. By default the [`program`](Runner::program), or what the setting `binary` names in its place.
    fn engine(&self, settings: &Settings) -> Option<PathBuf> {
        self.program()?.find(process::binary(settings))
    }
    /// What to try where an agent never answered, where that says more than the settings do.
    fn when_silent(&self) -> Option<&'static str> {
        None
    }
    /// How long a start may take before it counts as failed: a VM needs longer than a container.
    fn start_deadline(&self) -> Duration {
        Duration::from_secs(10)
    }
}

/// How to start the agent in an environment. [`crate::session::Session::start`] adds the pipes, the process group, the cgroup,
/// the CPU affinity and the parent-death signal.
pub struct Launch {
    /// Ends up running `tarebench agent --data DIR` inside, its stdin and stdout passed through.
    pub command: Command,
    /// How the peer is reached, and the network namespace that the command is started in.
    pub path: PathToPeer,
    /// How data is reached.
    pub data: DataPath,
    /// The engine's version, where [`Runner::version`] can't know it without the settings.
    pub version: Option<String>,
    /// Programs of the host that it runs on, the engine's own first.
    pub programs: Vec<Used>,
    /// SHA-256 of the binary inside, where it is not the harness's own: one for another kind of machine.
    pub binary_sha256: Option<String>,
    /// Why the limits of the suite don't hold inside, where they can't.
    pub unequal: Option<String>,
    /// The quota on its CPU time that was asked for, in words.
    pub quota: Option<String>,
    /// Why its CPU counts as emulated, where it does: `QEMU TCG: ...`.
    pub emulated: Option<String>,
    /// What it does by programs of its own, where it is a sandbox that does.
    pub sandbox: Sandbox,
    /// Memory that a VM monitor needs besides the guest's, bytes: on top of the cgroup's limit.
    pub memory_beside: u64,
    /// Its stdin is a terminal that passes every byte on as it is: some read their console from nothing else.
    pub terminal: bool,
    /// A file that the environment's console is written to; its last lines are quoted when a session dies.
    pub console: Option<PathBuf>,
    /// Run in order once the command's process group and everything in its cgroup are gone: `runc delete`, unmounts, ...
    /// Also when the launch is dropped without being started.
    pub cleanup: Cleanup,
    /// Set by [`Stage::launch`].
    pub(crate) confinement: Confinement,
}

/// Steps that are run on drop, in order.
#[derive(Default)]
pub struct Cleanup(Vec<Box<dyn FnOnce() + Send>>);

impl Drop for Cleanup {
    fn drop(&mut self) {
        for step in self.0.drain(..) {
            step();
        }
    }
}

impl Debug for Cleanup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} steps", self.0.len())
    }
}

/// The bounds that hold the command from before it is executed.
#[derive(Debug, Default)]
pub(crate) struct Confinement {
    pub(crate) cgroup: Option<Arc<Cgroup>>,
    pub(crate) cpus: Vec<usize>,
    pub(crate) interrupt: Arc<AtomicBool>,
    /// The run's id.
    pub(crate) run: String,
    /// The one that [`crate::session::Session::identify`] compares with.
    pub(crate) binary_sha256: Option<String>,
}

impl Launch {
    /// A launch without a network; runners set the public fields that differ.
    pub fn new(command: Command) -> Self {
        Self {
            command,
            path: PathToPeer::none(),
            data: DataPath::default(),
            version: None,
            programs: Vec::new(),
            binary_sha256: None,
            unequal: None,
            quota: None,
            emulated: None,
            sandbox: Sandbox::default(),
            memory_beside: 0,
            terminal: false,
            console: None,
            cleanup: Cleanup::default(),
            confinement: Confinement::default(),
        }
    }

    /// Reaches the peer this way, with the command started in the path's network namespace.
    #[must_use]
    pub fn over(mut self, path: PathToPeer) -> Self {
        if let Some(translator) = &path.translator {
            self = self.on(translator);
        }
        self.path = path;
        self
    }

    /// Names a program that it runs on and that says its version when it is asked.
    #[must_use]
    pub fn on(mut self, program: &Path) -> Self {
        self.programs.push(Used { path: program.to_path_buf(), version: Version::Asked });
        self
    }

    /// Names the kernel that it boots.
    #[cfg(target_os = "linux")]
    #[must_use]
    pub(crate) fn booting(mut self, kernel: &crate::boxes::vm::kernel::Kernel) -> Self {
        let version = Version::Known(kernel.release.clone());
        self.programs.push(Used { path: kernel.path.clone(), version });
        self
    }

    /// Says how data is reached.
    #[must_use]
    pub fn data(mut self, data: DataPath) -> Self {
        self.data = data;
        self
    }

    /// Adds a step that runs once the environment is gone.
    #[must_use]
    pub fn cleanup(mut self, step: impl FnOnce() + Send + 'static) -> Self {
        self.cleanup.0.push(Box::new(step));
        self
    }
}

impl Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch").field("command", &self.command).field("path", &self.path).finish_non_exhaustive()
    }
}

impl Stage {
    /// Why the limits of links don't hold on a path, where they don't.
    fn unlimited_link(&self, path: &PathToPeer) -> Option<String> {
        let limits = self.host.resources.link;
        let free = limits.is_set() && path.peer.is_some() && !path.ours;
        free.then(|| {
            format!("{limits}: not here, where the peer is reached over {}, which is no link of ours", path.network)
        })
    }

    /// Puts the program that is started first before the others that a launch names, unless it is our own.
    fn name_front(&self, launch: &mut Launch) {
        let found = launch.command.get_program().to_str().and_then(process::find);
        let mark = format!("tarebench-{}", self.host.id);
        // Where nothing leads into a box but a copy, the agent is started first: a new copy each time.
        let copied = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&mark));
        let ours = |path: &Path| path == self.host.binary || path.starts_with(&self.host.scratch) || copied(path);
        let Some(path) = found.filter(|path| !ours(path)) else { return };
        let named = launch.programs.iter().position(|used| used.path == path);
        let front = named.map(|at| launch.programs.remove(at));
        launch.programs.insert(0, front.unwrap_or(Used { path, version: Version::Unknown }));
    }

    /// The runner's launch, held to this stage's cgroup, CPUs and signals: what a session is to be started from.
    ///
    /// # Errors
    /// See [`Runner::launch`].
    pub fn launch(&mut self, runner: &dyn Runner, settings: &Settings) -> anyhow::Result<Launch> {
        let cgroup = self.cgroup();
        let quota = Quota::of(settings);
        // Before an engine makes groups of its own below.
        if let Some(quota) = quota {
            cgroup.hold_cpu_time(quota.microseconds(self.host.resources.cpus)?)?;
        }
        let mut launch = runner.launch(settings, self)?;
        launch.quota = quota.map(|quota| quota.words(self.host.resources.cpus));
        launch.unequal = launch.unequal.or_else(|| self.unlimited_link(&launch.path));
        self.name_front(&mut launch);
        if launch.memory_beside > 0 {
            cgroup.limit_memory(self.host.resources.memory_bytes + launch.memory_beside)?;
        }
        launch.confinement = Confinement {
            cgroup: Some(cgroup),
            cpus: self.host.pinning.work.clone(),
            interrupt: Arc::clone(&self.host.interrupt),
            run: self.host.id.clone(),
            binary_sha256: Some(launch.binary_sha256.clone().unwrap_or_else(|| self.host.binary_sha256.clone())),
        };
        Ok(launch)
    }
}
