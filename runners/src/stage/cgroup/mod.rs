//! Equal CPUs and memory for every environment, the baseline included: a cgroup (v1, v2 or hybrid) that the engine's
//! command is in before it is executed.

mod io;
pub(crate) mod leaf;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::host::journal::Made;
use crate::host::{Host, Resources};
use crate::machine::listed;
use crate::names::safe_name;
use crate::stage::disk::Disk;
use crate::stage::evidence::TICK_NS;
use io::Throttle;

/// Where an environment's limits are, and what the kernel counts there.
#[derive(Debug)]
pub struct Cgroup {
    /// `tarebench-<id>/<environment>`, below the root of each hierarchy.
    name: String,
    /// Directories that hold limits and counters.
    directories: Vec<PathBuf>,
    /// Directories that the front process enters: the same, but a leaf in v2, where inner nodes may hold no process.
    entries: Vec<PathBuf>,
    throttle: Option<Throttle>,
    unequal: Option<String>,
}

impl Cgroup {
    /// Makes the group with the host's limits, those of I/O for the disk. Where that can't be done, [`Cgroup::unequal`] says
    /// why.
    pub(crate) fn make(host: &Host, environment: &str, disk: Option<&Disk>) -> Self {
        let name = format!("tarebench-{}/{}", host.id, safe_name(environment));
        let mut group = Self { name, directories: Vec::new(), entries: Vec::new(), throttle: None, unequal: None };
        if !host.privileged {
            group.unequal = Some("CPUs and memory are not limited: not root; CPU affinity is still set".into());
            return group;
        }
        if let Err(e) = group.create(host, disk) {
            group.unequal = Some(format!("CPUs and memory are not limited: {e:#}; CPU affinity is still set"));
            // Of a group that was half made nothing stays, and nobody enters it.
            remove(&group.name);
            (group.directories, group.entries, group.throttle) = (Vec::new(), Vec::new(), None);
        }
        group
    }

    fn create(&mut self, host: &Host, disk: Option<&Disk>) -> anyhow::Result<()> {
        let mounts = mounts();
        self.throttle = Throttle::of(host.resources.io, disk)?;
        // The first are v1's, the last is v2's name.
        let io: &[&str] = if self.throttle.is_some() { &["blkio", "io"] } else { &[] };
        let wanted = [&["cpu", "cpuacct", "cpuset", "memory"], io].concat();
        // A hybrid host mounts an empty v2 tree beside v1; what counts is where the controllers are.
        let v2 = !mounts.iter().any(|m| m.controllers.iter().any(|c| wanted.contains(&c.as_str())));
        if mounts.is_empty() {
            anyhow::bail!("no cgroup file system is mounted");
        }
        let top = self.name.split('/').next().expect("split gives at least one part").to_string();
        let base = mounts.iter().find(|m| m.v2).map(|m| &m.point);
        // Until the group stands: a run that ends would take back what is handed down for it.
        let alone = base.filter(|_| v2).and_then(|point| leaf::alone(point));
        // Before the group is noted: what is made later is removed sooner, and this goes last.
        if let Some(point) = base.filter(|_| v2) {
            leaf::make_room(host, point, &wanted)?;
        }
        host.journal.note(&Made::Cgroup(top))?;
        if v2 {
            if let Some(point) = base {
                make_v2(point, &self.name, &wanted)?;
            }
            self.directories = base.map(|point| point.join(&self.name)).into_iter().collect();
            self.entries = self.directories.iter().map(|d| d.join("front")).collect();
        } else {
            make_v1(&mounts, &self.name, &wanted)?;
            for mount in mounts.iter().filter(|m| m.controllers.iter().any(|c| wanted.contains(&c.as_str()))) {
                self.directories.push(mount.point.join(&self.name));
            }
            self.directories.retain(|d| d.is_dir());
            self.entries = self.directories.clone();
        }
        drop(alone);
        let mut missing = Vec::new();
        if let Err(e) = self.limit_cpus(host) {
            missing.push(format!("CPUs: {e:#}"));
        }
        if let Err(e) = self.limit_memory(host.resources.memory_bytes) {
            missing.push(format!("memory: {e:#}"));
        }
        if let Err(e) = self.hold_io() {
            missing.push(format!("I/O: {e:#}"));
        }
        if !missing.is_empty() {
            self.unequal = Some(format!("not limited: {}", missing.join("; ")));
        } else if let Err(e) = self.read_back(host) {
            self.unequal = Some(format!("{e:#}"));
        }
        Ok(())
    }

    fn limit_cpus(&self, host: &Host) -> anyhow::Result<()> {
        let set = || {
            let file = self.file("cpuset.cpus").context("there is no cpuset controller")?;
            let list: Vec<String> = host.pinning.work.iter().map(usize::to_string).collect();
            fs::write(file, list.join(",")).context("can't set cpuset.cpus")
        };
        // A quota as large as the CPU set would only add spurious throttling, so it is the second choice.
        set().or_else(|e| {
            log::debug!("{e:#}; a quota instead");
            self.limit_cpu_time(host.resources.cpus)
        })
    }

    fn limit_cpu_time(&self, cpus: u32) -> anyhow::Result<()> {
        let period = 100_000;
        self.set_cpu_time((u64::from(cpus) * period, period))
    }

    /// Sets a quota and its period, microseconds.
    fn set_cpu_time(&self, (quota, period): (u64, u64)) -> anyhow::Result<()> {
        let set = |file: &Path, text: String| fs::write(file, text).context("can't set the CPU quota");
        if let Some(file) = self.file("cpu.max") {
            return set(&file, format!("{quota} {period}"));
        }
        let file = self.file("cpu.cfs_quota_us").context("there is no cpu controller")?;
        // One after the other: without a quota any period will do.
        set(&file, "-1".into())?;
        set(&file.with_file_name("cpu.cfs_period_us"), period.to_string())?;
        set(&file, quota.to_string())
    }

    /// Holds the group to a quota of CPU time within a period, microseconds, and reads both back.
    ///
    /// # Errors
    /// When there is no group, or the kernel refuses or says something else.
    pub(crate) fn hold_cpu_time(&self, wanted: (u64, u64)) -> anyhow::Result<()> {
        if self.directories.is_empty() {
            let why = self.unequal.as_deref().unwrap_or("there is no cgroup");
            anyhow::bail!("a quota of CPU time needs a cgroup: {why}; run tarebench as root, or leave cpu.share away");
        }
        self.set_cpu_time(wanted).context("cpu.share can't be held")?;
        let found = self.cpu_time();
        anyhow::ensure!(found == Some(wanted), "the CPU quota reads back as {found:?}, not {wanted:?} (microseconds)");
        Ok(())
    }

    /// Quota and period, microseconds; `None` without a quota.
    fn cpu_time(&self) -> Option<(u64, u64)> {
        if let Some(file) = self.file("cpu.max") {
            let text = fs::read_to_string(file).ok()?;
            let (quota, period) = text.trim().split_once(' ')?;
            return Some((quota.parse().ok()?, period.parse().ok()?));
        }
        Some((self.number(&["cpu.cfs_quota_us"])?, self.number(&["cpu.cfs_period_us"])?))
    }

    /// Sets the memory limit: the suite's, and on top what a VM monitor needs besides the guest's memory.
    pub(crate) fn limit_memory(&self, bytes: u64) -> anyhow::Result<()> {
        if self.directories.is_empty() {
            return Ok(());
        }
        // cgroup v1 refuses a limit above the one of memory and swap together, which an earlier call may have set.
        let with_swap = self.file("memory.memsw.limit_in_bytes");
        if let Some(file) = &with_swap
            && let Err(e) = fs::write(file, "-1")
        {
            log::debug!("memory and swap together: {e}");
        }
        let file = self.file("memory.max").or_else(|| self.file("memory.limit_in_bytes"));
        let file = file.context("there is no memory controller")?;
        let cant = || format!("can't set the memory limit of {} to {bytes}", self.name);
        fs::write(file, bytes.to_string()).with_context(cant)?;
        // Swap would let one environment have more than another. Where swap isn't accounted there is nothing to set.
        if let Some(file) = with_swap {
            if let Err(e) = fs::write(file, bytes.to_string()) {
                log::debug!("memory and swap together: {e}");
            }
        } else if let Some(file) = self.file("memory.swap.max")
            && let Err(e) = fs::write(&file, "0")
        {
            log::debug!("{}: {e}", file.display());
        }
        Ok(())
    }

    /// Holds this group to the limits of I/O, in cgroup v1 also those that an engine has made below it by now: v1 lets a group
    /// have what its parent may not.
    ///
    /// # Errors
    /// When the kernel refuses, or says another limit than was set.
    pub(crate) fn hold_io(&self) -> anyhow::Result<()> {
        let Some(throttle) = &self.throttle else { return Ok(()) };
        let place = mounts().into_iter().find(|m| {
            m.controllers.iter().any(|c| c == "blkio") || (m.v2 && m.point.join(&self.name).join("io.max").exists())
        });
        let Mount { point, v2, .. } = place.context("no hierarchy with an I/O controller is mounted")?;
        let own = point.join(&self.name);
        for directory in if v2 { vec![own] } else { below(&own) } {
            let name = directory.strip_prefix(&point).expect("it is below").to_string_lossy().into_owned();
            throttle.hold(&directory).with_context(|| format!("can't limit the I/O of cgroup {name}"))?;
        }
        Ok(())
    }

    /// Compares the limits that were asked for with the kernel's: some write calls are accepted and rounded away.
    fn read_back(&self, host: &Host) -> anyhow::Result<()> {
        let Resources { memory_bytes, .. } = host.resources;
        let limit = self.number(&["memory.max", "memory.limit_in_bytes"]);
        // The kernel rounds down to pages.
        if limit.is_none_or(|l| l.abs_diff(memory_bytes) > 65_536) {
            anyhow::bail!("the memory limit reads back as {limit:?}, not {memory_bytes}");
        }
        if let Some(file) = self.file("cpuset.cpus") {
            let text = fs::read_to_string(&file)?;
            if listed(&text) != host.pinning.work {
                anyhow::bail!("the CPU set reads back as `{}`, not {:?}", text.trim(), host.pinning.work);
            }
        }
        Ok(())
    }

    /// Why the limits are not enforced; `None` where they are.
    pub fn unequal(&self) -> Option<&str> {
        self.unequal.as_deref()
    }

    /// The group that an engine may make its own groups in, as engines take it: `/tarebench-<id>/<environment>`.
    /// `None` where there is no group; leave the engine's option away then.
    pub fn parent_for_engine(&self) -> Option<String> {
        (!self.directories.is_empty()).then(|| format!("/{}", self.name))
    }

    /// Lets groups that an engine makes below this one begin with its CPUs (cgroup v1; in v2 they always do): a group without
    /// any can't be entered.
    pub(crate) fn hand_cpus_down(&self) {
        for dir in self.directories.iter().filter(|d| d.join("cpuset.cpus").exists()) {
            let file = dir.join("cgroup.clone_children");
            if file.exists()
                && let Err(e) = fs::write(&file, "1")
            {
                log::debug!("{}: {e}", file.display());
            }
        }
    }

    /// The files by which a process with one thread enters, writing `0`, in every hierarchy. In v1 that is `tasks`, which
    /// moves the thread that writes: the kernel then needn't keep all forks of the host away meanwhile, which `cgroup.procs`
    /// waits for (20 ms against 0.3 ms, medians of 15 on a busy host with Linux 6.18) and a start would be charged with.
    pub(crate) fn entrances(&self) -> Vec<PathBuf> {
        let entrance = |dir: &PathBuf| {
            let tasks = dir.join("tasks");
            if tasks.exists() { tasks } else { dir.join("cgroup.procs") }
        };
        self.entries.iter().map(entrance).collect()
    }

    /// CPU time used by everything that ever was in the group, nanoseconds.
    pub fn cpu_ns(&self) -> Option<u64> {
        self.number(&["cpuacct.usage"]).or_else(|| Some(self.stat("usage_usec")? * 1000))
    }

    /// The same outside the kernel and in it, nanoseconds, as the kernel's ticks found it.
    pub fn cpu_split(&self) -> Option<(u64, u64)> {
        let table = self.file("cpuacct.stat").and_then(|file| fs::read_to_string(file).ok());
        let in_ticks =
            table.and_then(|table| Some((keyed(&table, "user")? * TICK_NS, keyed(&table, "system")? * TICK_NS)));
        in_ticks.or_else(|| {
            let table = fs::read_to_string(self.file("cpu.stat")?).ok()?;
            Some((keyed(&table, "user_usec")? * 1000, keyed(&table, "system_usec")? * 1000))
        })
    }

    /// Time for which each process of the group and of those below it ran guests on the CPU itself, nanoseconds, by its number;
    /// `None` where they can't all be seen, or are too many to be looked at between two bursts.
    pub fn guests_ns(&self) -> Option<HashMap<u32, u64>> {
        self.each_in(&["cgroup.procs"], |process| guest_ns(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?))
    }

    /// How often quotas of CPU time have stopped the group, or one that an engine has made below it: such a quota counts there alone.
    pub fn quota(&self) -> Quota {
        let own = self.directories.iter().find(|d| d.join("cpu.stat").exists());
        let groups = own.map(|directory| below(directory)).unwrap_or_default();
        let tables = groups.iter().filter_map(|group| fs::read_to_string(group.join("cpu.stat")).ok());
        tables.map(|table| Quota::of(&table)).reduce(Quota::and).unwrap_or_default()
    }

    /// Threads of the group and of those below it, by number, with how often each was given a CPU; `None` where they can't all be
    /// seen, or are too many to be looked at between two bursts.
    pub fn switches(&self) -> Option<HashMap<u32, u64>> {
        self.each_in(&["tasks", "cgroup.threads"], given)
    }

    /// What is counted of each thread or process that one of these files lists, in the group and in those below it, by its number.
    fn each_in(&self, files: &[&str], count: impl Fn(u32) -> Option<u64>) -> Option<HashMap<u32, u64>> {
        let of = |directory| files.iter().map(move |file| (directory, *file));
        let (directory, file): (&PathBuf, &str) =
            self.directories.iter().flat_map(of).find(|(directory, file)| directory.join(file).exists())?;
        let mut all = HashMap::new();
        for group in below(directory) {
            for line in fs::read_to_string(group.join(file)).ok()?.lines() {
                // 0 stands for one that our pid namespace can't see.
                let number = line.parse().ok().filter(|number| *number > 0)?;
                if all.len() >= MANY_THREADS {
                    return None;
                }
                all.insert(number, count(number)?);
            }
        }
        (!all.is_empty()).then_some(all)
    }

    /// Memory held, bytes: what goes with the processes. Pages of files and what the kernel remembers of them stay charged to
    /// the group after the starts of earlier blocks, and so would grow from block to block.
    pub fn memory_bytes(&self) -> Option<u64> {
        self.resident().memory
    }

    /// The same, with what it has in the page cache.
    pub fn resident(&self) -> Resident {
        let table = self.file("memory.stat").and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
        // In v1 they aren't in the table.
        let sockets = self.number(&["memory.kmem.tcp.usage_in_bytes"]).unwrap_or(0);
        let memory = held(&table).map(|held| held + sockets);
        Resident { memory, cache: of_files(&table, &["total_cache", "file"]), mapped: mapped(&table) }
    }

    /// CPU time used by the groups of all environments of the run, nanoseconds.
    pub fn run_cpu_ns(&self) -> Option<u64> {
        let above = |name: &str| {
            let files = self.directories.iter().filter_map(|d| Some(d.parent()?.join(name)));
            files.into_iter().find_map(|file| fs::read_to_string(file).ok())
        };
        let usage = above("cpuacct.usage").and_then(|text| text.trim().parse().ok());
        usage.or_else(|| Some(keyed(&above("cpu.stat")?, "usage_usec")? * 1000))
    }

    /// Share of time in which some task of the group waited, from its pressure file (`cpu`, `io`): microseconds in all.
    pub(crate) fn pressure_us(&self, what: &str) -> Option<u64> {
        pressure_total(&fs::read_to_string(self.file(&format!("{what}.pressure"))?).ok()?)
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        self.directories.iter().map(|d| d.join(name)).find(|p| p.exists())
    }

    fn number(&self, names: &[&str]) -> Option<u64> {
        let file = names.iter().find_map(|n| self.file(n))?;
        fs::read_to_string(file).ok()?.trim().parse().ok()
    }

    fn stat(&self, key: &str) -> Option<u64> {
        keyed(&fs::read_to_string(self.file("cpu.stat")?).ok()?, key)
    }

    /// Kills whatever is left in the group, children included, and waits until it is gone.
    pub(crate) fn kill(&self) {
        if !self.directories.is_empty() {
            kill_all(&self.name);
        }
    }

    /// Stops every process in it, so that none can act on another's end when they are killed.
    pub(crate) fn stop(&self) {
        if !self.directories.is_empty() {
            signal_all(&self.name, Signal::SIGSTOP);
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if !self.directories.is_empty() {
            remove(&self.name);
        }
    }
}

/// What a group's quotas of CPU time have done to it. Unknown is no zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// Periods that began with work to do; `None` where none did, as without a quota.
    pub periods: Option<u64>,
    /// In so many of them it used up its share.
    pub throttled: Option<u64>,
    /// For so long it was stopped until the next one, nanoseconds.
    pub stopped_ns: Option<u64>,
}

impl Quota {
    fn of(table: &str) -> Self {
        let periods = keyed(table, "nr_periods");
        let stopped_ns = keyed(table, "throttled_time").or_else(|| Some(keyed(table, "throttled_usec")? * 1000));
        Self { periods, throttled: keyed(table, "nr_throttled"), stopped_ns }
    }

    fn and(self, other: Self) -> Self {
        let sum = |a: Option<u64>, b: Option<u64>| Some(a?.saturating_add(b?));
        Self {
            periods: sum(self.periods, other.periods),
            throttled: sum(self.throttled, other.throttled),
            stopped_ns: sum(self.stopped_ns, other.stopped_ns),
        }
    }
}

/// Memory of a group, bytes. What the kernel doesn't say is unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resident {
    /// Held by its processes: it goes with them.
    pub memory: Option<u64>,
    /// Pages of files in the page cache that it was the first to use.
    pub cache: Option<u64>,
    /// Those of them that processes have mapped.
    pub mapped: Option<u64>,
}

/// More threads than these aren't looked at one by one: a look at each takes some microseconds.
const MANY_THREADS: usize = 256;

/// `guest_time` of proc_pid_stat(5), the 43rd field; the second is a name, which may have spaces.
fn guest_ns(stat: &str) -> Option<u64> {
    let (_, from_third) = stat.rsplit_once(')')?;
    Some(from_third.split_whitespace().nth(40)?.parse::<u64>().ok()? * TICK_NS)
}

/// How often a thread was given a CPU, from the last number of its `schedstat` (Documentation/scheduler/sched-stats.rst).
fn given(thread: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{thread}/schedstat")).ok()?;
    text.split_whitespace().nth(2)?.parse().ok()
}

/// Makes a group of cgroup v2 that has the wanted controllers as far as they are there, and `front` below it for processes.
///
/// # Errors
/// When that can't be, or processes could not enter it; see [`hands_down`].
fn make_v2(point: &Path, name: &str, wanted: &[&str]) -> anyhow::Result<()> {
    let there = fs::read_to_string(point.join("cgroup.controllers")).context("can't read cgroup.controllers")?;
    let there: Vec<&str> = there.split_whitespace().collect();
    hands_down(point, wanted.iter().filter(|c| there.contains(c)))?;
    let mut directory = point.to_path_buf();
    for part in name.split('/').chain(["front"]) {
        let file = directory.join("cgroup.subtree_control");
        // One at a time: where the kernel refuses one, the others are still handed down.
        for controller in wanted.iter().filter(|c| there.contains(c)) {
            if let Err(e) = fs::write(&file, format!("+{controller}")) {
                log::debug!("{controller} in {}: {e}", file.display());
            }
        }
        directory.push(part);
        fs::create_dir_all(&directory).with_context(|| format!("can't make cgroup {name}"))?;
    }
    // Whoever made the group above threaded meanwhile: the kernel would let nothing be started in it.
    let kind = fs::read_to_string(directory.join("cgroup.type")).unwrap_or_default();
    anyhow::ensure!(!kind.contains("invalid"), "cgroup {name} is `{}`, which nothing can enter", kind.trim());
    Ok(())
}

/// Whether groups below the topmost one that we see may have these controllers. A container's own is a group like any other, where
/// processes and controllers that are handed down exclude each other (cgroups(7), "no internal processes"). The kernel
/// refuses some controllers there. Others it grants by making the whole group threaded, and then no process can be started in any
/// group below, so nothing is written to such a one.
///
/// # Errors
/// When it has processes and doesn't hand them down yet.
fn hands_down<'a>(point: &Path, wanted: impl Iterator<Item = &'a &'a str>) -> anyhow::Result<()> {
    // The root of all groups has no type, and is exempt.
    let Ok(kind) = fs::read_to_string(point.join("cgroup.type")) else { return Ok(()) };
    let handed = fs::read_to_string(point.join("cgroup.subtree_control")).unwrap_or_default();
    let missing: Vec<&str> = wanted.copied().filter(|c| !handed.split_whitespace().any(|h| h == *c)).collect();
    let held = fs::read_to_string(point.join("cgroup.procs")).map_or(true, |procs| !procs.trim().is_empty());
    if kind.trim() == "domain" && (missing.is_empty() || !held) {
        return Ok(());
    }
    let shown = point.display();
    anyhow::bail!(
        "this container's own cgroup is `{}` and has processes in it, so groups below it can't have {}; to change that, move \
         them to a leaf first: mkdir {shown}/leaf; for p in $(cat {shown}/cgroup.procs); do echo $p > {shown}/leaf/cgroup.procs; done",
        kind.trim(),
        if missing.is_empty() { "limits".into() } else { missing.join(", ") },
    )
}

/// Makes a group in each hierarchy of cgroup v1 that has a wanted controller.
fn make_v1(mounts: &[Mount], name: &str, wanted: &[&str]) -> anyhow::Result<()> {
    for controller in wanted {
        let Some(mount) = mounts.iter().find(|m| m.controllers.iter().any(|c| c == controller)) else { continue };
        let directory = mount.point.join(name);
        fs::create_dir_all(&directory).with_context(|| format!("can't make cgroup {name}"))?;
        if *controller == "cpuset" {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Err(e) = inherit(&directory, file) {
                    log::error!("can't set {file} of cgroup {name}: {e:#}");
                }
            }
        }
    }
    Ok(())
}

/// Gives a group, and those above it that have none, the CPUs or memory nodes of the next one above that has some: cgroup v1
/// begins without any, and lets nothing enter such a group.
fn inherit(directory: &Path, file: &str) -> anyhow::Result<String> {
    let own = directory.join(file);
    let text = fs::read_to_string(&own)?;
    if !text.trim().is_empty() {
        return Ok(text.trim().to_string());
    }
    let above = inherit(directory.parent().context("no group above has any")?, file)?;
    fs::write(own, &above)?;
    Ok(above)
}

/// A mounted cgroup hierarchy.
#[derive(Debug)]
pub(crate) struct Mount {
    pub(crate) point: PathBuf,
    pub(crate) controllers: Vec<String>,
    pub(crate) v2: bool,
}

/// Every mounted hierarchy.
pub(crate) fn mounts() -> Vec<Mount> {
    hierarchies(&workloads::mounts::all().unwrap_or_default())
}

/// One that is mounted in a second place has the same number, and is the same.
fn hierarchies(mounts: &[workloads::mounts::Mount]) -> Vec<Mount> {
    let mut seen = HashSet::new();
    mounts.iter().filter(|mount| seen.insert(&mount.number)).filter_map(hierarchy).collect()
}

fn hierarchy(mount: &workloads::mounts::Mount) -> Option<Mount> {
    let (controllers, v2) = match mount.file_system.as_str() {
        "cgroup" => (mount.options.split(',').map(String::from).collect(), false),
        "cgroup2" => (Vec::new(), true),
        _ => return None,
    };
    Some(Mount { point: mount.point.clone(), controllers, v2 })
}

/// A directory and all below it, descendants before their parents.
fn below(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            all.extend(below(&entry.path()));
        }
    }
    all.push(directory.to_path_buf());
    all
}

/// Directories of a group in all hierarchies, its descendants before their parents.
fn tree(name: &str) -> Vec<PathBuf> {
    let groups = mounts().into_iter().map(|mount| mount.point.join(name)).filter(|dir| dir.is_dir());
    groups.flat_map(|dir| below(&dir)).collect()
}

/// Kills every process in a group of ours and waits up to two seconds until the kernel has let go of them.
pub(crate) fn kill_all(name: &str) {
    assert!(name.starts_with("tarebench-"), "only groups of ours are ever killed");
    let until = Instant::now() + Duration::from_secs(2);
    loop {
        if signal_all(name, Signal::SIGKILL) == 0 || Instant::now() > until {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal to every process in a group and below it; how many there were.
fn signal_all(name: &str, signal: Signal) -> usize {
    let mut alive = 0;
    for dir in tree(name) {
        for pid in fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().lines() {
            // 0 stands for a process that our pid namespace can't see.
            let Some(pid) = pid.parse::<i32>().ok().filter(|p| *p > 1) else { continue };
            if pid.unsigned_abs() == std::process::id() {
                continue;
            }
            alive += 1;
            if let Err(e) = kill(Pid::from_raw(pid), signal) {
                log::debug!("{signal} to {pid} in {}: {e}", dir.display());
            }
        }
    }
    alive
}

/// Kills what is left in a group of ours and removes it from every hierarchy, deepest first.
pub(crate) fn remove(name: &str) {
    kill_all(name);
    let until = Instant::now() + Duration::from_secs(1);
    for dir in tree(name) {
        // A group stays busy for a moment after its last process.
        while let Err(e) = fs::remove_dir(&dir) {
            if Instant::now() > until {
                log::warn!("can't remove cgroup {}: {e}", dir.display());
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Memory that a table `memory.stat` says is held by processes: anonymous and shared pages; in v2 also kernel stacks, page tables
/// and the buffers of sockets, which v1 doesn't tell apart from what the kernel remembers of files.
fn held(stat: &str) -> Option<u64> {
    if let (Some(anonymous), shared) = (keyed(stat, "total_rss"), keyed(stat, "total_shmem")) {
        return Some(anonymous + shared.unwrap_or(0));
    }
    let parts = ["shmem", "kernel_stack", "pagetables", "sock"];
    Some(keyed(stat, "anon")? + parts.iter().filter_map(|part| keyed(stat, part)).sum::<u64>())
}

/// Pages of files in a table `memory.stat`, by the name that v1 or v2 has for them. Both count those of tmpfs among them, which are
/// memory and are in [`held`].
fn of_files(stat: &str, names: &[&str]) -> Option<u64> {
    let pages = names.iter().find_map(|name| keyed(stat, name))?;
    let shared = keyed(stat, "total_shmem").or_else(|| keyed(stat, "shmem")).unwrap_or(0);
    Some(pages.saturating_sub(shared))
}

fn mapped(stat: &str) -> Option<u64> {
    of_files(stat, &["total_mapped_file", "file_mapped"])
}

/// `total=` of the `some` line of a pressure file, microseconds.
pub(crate) fn pressure_total(text: &str) -> Option<u64> {
    text.lines().find(|l| l.starts_with("some"))?.split("total=").nth(1)?.trim().parse().ok()
}

fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A group with this directory.
    fn group_of(directory: &Path) -> Cgroup {
        Cgroup {
            name: "tarebench-nosuch/x".into(),
            directories: vec![directory.to_path_buf()],
            entries: Vec::new(),
            throttle: None,
            unequal: None,
        }
    }

    #[test]
    fn lists_mounts_and_counters_are_read() {
        assert_eq!(listed("0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(listed("\n"), [] as [usize; 0]);
        assert_eq!(keyed("nr_periods 3\nnr_throttled 7\n", "nr_throttled"), Some(7));
        assert_eq!(pressure_total("some avg10=0.00 avg60=0.00 avg300=0.00 total=1234\nfull x total=9\n"), Some(1234));
    }

    #[test]
    fn a_hierarchy_that_is_mounted_twice_is_one() {
        let mount = |number: &str, point: &str, file_system: &str, options: &str| workloads::mounts::Mount {
            number: number.into(),
            point: point.into(),
            file_system: file_system.into(),
            source: "cgroup".into(),
            options: options.into(),
        };
        let mounts = [
            mount("254:0", "/", "ext4", "rw"),
            mount("0:30", "/sys/fs/cgroup/cpu", "cgroup", "rw,cpu,cpuacct"),
            mount("0:31", "/sys/fs/cgroup/unified", "cgroup2", "rw"),
            mount("0:30", "/mnt/cpu", "cgroup", "rw,cpu,cpuacct"),
        ];
        let [cpu, unified] = hierarchies(&mounts).try_into().expect("two");
        assert!(cpu.controllers.contains(&"cpuacct".to_string()) && !cpu.v2);
        assert_eq!(cpu.point, Path::new("/sys/fs/cgroup/cpu"));
        assert!(unified.controllers.is_empty() && unified.v2);
    }

    #[test]
    fn memory_held_is_that_of_the_processes_and_not_of_files() {
        let v2 =
            "anon 1000\nfile 900000\nkernel_stack 16\npagetables 40\nsock 4\nshmem 200\ninactive_file 7\nslab 5000\n";
        assert_eq!(held(v2), Some(1260));
        let v1 =
            "cache 5\nrss 1\nshmem 1\ntotal_cache 900000\ntotal_rss 1000\ntotal_shmem 200\ntotal_inactive_file 3\n";
        assert_eq!(held(v1), Some(1200));
        assert_eq!(held("cache 5\n"), None);
        assert_eq!((of_files(v2, &["total_cache", "file"]), mapped(v2)), (Some(899_800), None));
        assert_eq!(of_files(v1, &["total_cache", "file"]), Some(899_800));
        assert_eq!(mapped("total_mapped_file 500\ntotal_shmem 200\n"), Some(300));
    }

    #[test]
    fn quotas_are_read_in_both_versions_and_in_groups_that_an_engine_made() {
        let v1 = "nr_periods 5\nnr_throttled 3\nthrottled_time 7000\n";
        let v2 = "usage_usec 9\nnr_periods 5\nnr_throttled 3\nthrottled_usec 7\n";
        let read = Quota { periods: Some(5), throttled: Some(3), stopped_ns: Some(7000) };
        assert_eq!((Quota::of(v1), Quota::of(v2)), (read, read));
        let folder = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(folder.path().join("inner")).expect("made");
        fs::write(folder.path().join("cpu.stat"), v1).expect("written");
        fs::write(folder.path().join("inner/cpu.stat"), v1).expect("written");
        let group = group_of(folder.path());
        assert_eq!(group.quota().stopped_ns, Some(14_000));
        fs::write(folder.path().join("inner/cpu.stat"), "usage_usec 1\n").expect("written");
        assert_eq!(group.quota(), Quota::default(), "a sum with an unknown part is unknown");
    }

    #[test]
    fn a_thread_that_can_not_be_seen_leaves_the_number_unknown() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let group = group_of(folder.path());
        let tasks = |text: &str| fs::write(folder.path().join("tasks"), text).expect("written");
        assert_eq!(group.switches(), None);
        let own = std::process::id();
        tasks(&format!("{own}\n"));
        assert!(group.switches().is_some_and(|seen| seen.contains_key(&own)));
        tasks(&format!("{own}\n0\n"));
        assert_eq!(group.switches(), None);
        tasks(&(0..=MANY_THREADS).map(|_| format!("{own}\n")).collect::<String>());
        assert!(group.switches().is_some(), "one thread is one");
    }

    #[test]
    fn time_outside_the_kernel_and_in_it_is_read_from_both_kinds_of_groups() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let group = group_of(folder.path());
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
        assert_eq!((group.cpu_split(), group.guests_ns()), (None, None));
        write("cpu.stat", "nr_periods 0\n");
        assert_eq!(group.cpu_split(), None, "cgroup v1 has another file of this name");
        write("cpu.stat", "usage_usec 7\nuser_usec 3\nsystem_usec 4\n");
        assert_eq!(group.cpu_split(), Some((3000, 4000)));
        write("cpuacct.stat", "user 5\nsystem 1\n");
        assert_eq!(group.cpu_split(), Some((50_000_000, 10_000_000)));
        let own = std::process::id();
        write("cgroup.procs", &format!("{own}\n"));
        assert_eq!(group.guests_ns(), Some([(own, 0)].into()), "a test runs no guest");
        write("cgroup.procs", &format!("{own}\n0\n"));
        assert_eq!(group.guests_ns(), None, "0 is one that we can't see");
        let fields = (3..=52).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(guest_ns(&format!("1 (a) name) {fields}")), Some(430_000_000));
        assert_eq!(guest_ns("1 (short) R 1"), None);
    }

    #[test]
    fn the_time_of_all_environments_is_counted_in_the_group_above() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let [own, above] = ["tarebench-x/bare", "tarebench-x"].map(|name| folder.path().join(name));
        fs::create_dir_all(&own).expect("made");
        let directories = vec![own];
        let group = Cgroup {
            name: "tarebench-nosuch/bare".into(),
            directories,
            entries: Vec::new(),
            throttle: None,
            unequal: None,
        };
        assert_eq!(group.run_cpu_ns(), None);
        fs::write(above.join("cpu.stat"), "usage_usec 7\nuser_usec 1\n").expect("written");
        assert_eq!(group.run_cpu_ns(), Some(7000));
        fs::write(above.join("cpuacct.usage"), "123\n").expect("written");
        assert_eq!(group.run_cpu_ns(), Some(123));
    }

    #[test]
    fn a_quota_is_set_in_both_versions_and_read_back() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let group = |directories| Cgroup {
            name: "tarebench-nosuch/box".into(),
            directories,
            entries: Vec::new(),
            throttle: None,
            unequal: Some("not root".into()),
        };
        let own = group(vec![folder.path().to_path_buf()]);
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect("readable");
        for name in ["cpu.cfs_quota_us", "cpu.cfs_period_us"] {
            fs::write(folder.path().join(name), "-1\n").expect("written");
        }
        assert_eq!(own.cpu_time(), None, "without a limit it is -1");
        own.hold_cpu_time((20_000, 50_000)).expect("held");
        assert_eq!((read("cpu.cfs_quota_us").as_str(), read("cpu.cfs_period_us").as_str()), ("20000", "50000"));
        fs::write(folder.path().join("cpu.max"), "max 100000\n").expect("written");
        assert_eq!(own.cpu_time(), None);
        own.hold_cpu_time((5000, 10_000)).expect("held");
        assert_eq!(read("cpu.max"), "5000 10000");
        let why = group(Vec::new()).hold_cpu_time((5000, 10_000)).expect_err("no group").to_string();
        assert!(why.contains("not root") && why.contains("leave cpu.share away"), "{why}");
    }

    #[test]
    fn a_group_of_v2_is_made_with_the_controllers_that_are_there() {
        let root = tempfile::tempdir().expect("a temporary directory");
        fs::write(root.path().join("cgroup.controllers"), "cpuset memory pids\n").expect("written");
        make_v2(root.path(), "tarebench-x/bare", &["cpu", "memory"]).expect("made");
        let handed = |group: &str| fs::read_to_string(root.path().join(group).join("cgroup.subtree_control")).ok();
        for above in ["", "tarebench-x", "tarebench-x/bare"] {
            assert_eq!(handed(above).as_deref(), Some("+memory"));
        }
        assert_eq!(handed("tarebench-x/bare/front"), None, "processes and controllers to hand down exclude each other");
    }

    #[test]
    fn in_a_container_whose_own_group_has_processes_nothing_is_touched() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let write = |name: &str, text: &str| fs::write(root.path().join(name), text).expect("written");
        let handed = || fs::read_to_string(root.path().join("cgroup.subtree_control")).expect("there");
        let make = || make_v2(root.path(), "tarebench-x/bare", &["cpu", "memory"]).map_err(|e| e.to_string());
        write("cgroup.controllers", "cpu memory pids\n");
        write("cgroup.subtree_control", "");
        write("cgroup.type", "domain\n");
        write("cgroup.procs", "1\n0\n");
        let why = make().expect_err("no internal processes");
        assert!(why.contains("can't have cpu, memory") && why.contains("move them to a leaf"), "{why}");
        assert!(!root.path().join("tarebench-x").exists() && handed().is_empty(), "left as it was");
        write("cgroup.subtree_control", "cpu memory pids\n");
        make().expect("whoever is first there has handed them down already");
        fs::remove_dir_all(root.path().join("tarebench-x")).expect("removed");
        write("cgroup.type", "domain threaded\n");
        make().expect_err("nothing could be started");
        write("cgroup.type", "domain\n");
        write("cgroup.subtree_control", "");
        write("cgroup.procs", "");
        make().expect("they stand in a leaf");
        assert!(!handed().is_empty());
    }

    #[test]
    fn a_group_without_cpus_gets_those_of_the_next_above() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let groups = ["", "a", "a/b", "a/b/c"].map(|group| root.path().join(group));
        fs::create_dir_all(&groups[3]).expect("made");
        for (group, cpus) in groups.iter().zip(["0-7\n", "0-3\n", "\n", "\n"]) {
            fs::write(group.join("cpuset.cpus"), cpus).expect("written");
        }
        assert_eq!(inherit(&groups[3], "cpuset.cpus").expect("inherited"), "0-3");
        let now = groups.map(|group| fs::read_to_string(group.join("cpuset.cpus")).expect("readable"));
        assert_eq!(now, ["0-7\n", "0-3\n", "0-3", "0-3"]);
        assert!(inherit(root.path(), "cpuset.mems").is_err());
    }

    #[test]
    fn a_group_is_entered_by_one_thread_where_that_is_possible() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let [v1, v2] = ["v1", "v2"].map(|name| folder.path().join(name));
        fs::create_dir(&v1).and_then(|()| fs::write(v1.join("tasks"), "")).expect("made");
        let entries = vec![v1.clone(), v2.clone()];
        let group = Cgroup { name: String::new(), directories: Vec::new(), entries, throttle: None, unequal: None };
        assert_eq!(group.entrances(), [v1.join("tasks"), v2.join("cgroup.procs")]);
    }
}
