//! Hints: what in an environment's surroundings may be why its work costs what it costs, each with its evidence and with the
//! setting that would change it.
//!
//! A hint is no judgement: verdicts are made of flags alone. What couldn't be seen gives none, in either direction, and which
//! runner it was decides nothing.

#[cfg(test)]
mod tests;

use workloads::Resource;
use workloads::facts::{Flushes, Network};
use workloads::inside::Link;
use workloads::protocol::Identity;

use super::{Environment, Flag, Severity, flags};
use crate::record::{CONTROL, EnvironmentPlan, Record, Run, Stored, WorkloadPlan};
use crate::render::units::{bytes, duration};
use crate::statistics::Estimate;

/// A reason that follows from evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// `clock-call`, `throttled`, ...: stable, for programs.
    pub name: &'static str,
    /// The reason, in a few words.
    pub what: &'static str,
    /// The workloads of the run in which its evidence stands.
    pub workloads: Vec<String>,
    /// Whether bursts of those workloads show it; else it is in their surroundings, where it can be felt.
    pub felt: bool,
    /// The observation, with numbers, in one line.
    pub evidence: String,
    /// What would change it, with the settings as they are and, where one is known, with values to try.
    pub change: String,
}

/// What stands before values to try in [`Hint::change`].
const TRY: &str = "try";

impl Hint {
    /// The values that it says to try: `disk.bus=virtio`, ...
    pub fn to_try(&self) -> impl Iterator<Item = &str> {
        let values = self.change.split_once(&format!("; {TRY} ")).map_or("", |(_, values)| values);
        values.split(", ").filter(|value| !value.is_empty())
    }
}

/// A kind of hint: what all hints of a name have in common.
#[derive(Debug)]
pub struct Kind {
    /// As in [`Hint::name`].
    pub name: &'static str,
    /// As in [`Hint::what`].
    pub what: &'static str,
    /// When there is one, for the documents.
    pub when: &'static str,
    /// What would change it, for the documents and for hints.
    pub change: &'static str,
    /// Settings of runners that it hangs on, as far as a runner has them.
    settings: &'static [&'static str],
    concerns: Concerns,
    /// Its evidence is what bursts did; else it is of the surroundings of them all.
    of_bursts: bool,
    /// Said of the baseline it needn't be said of all others: it is the host's.
    of_host: bool,
    /// Why no test provokes it in a real environment, where none does: then the rule alone is tested.
    pub unprovoked: Option<&'static str>,
    judge: fn(&Place) -> Option<String>,
}

/// The workloads in which a kind of hint can be felt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Concerns {
    All,
    /// Those whose operations call the kernel.
    Calls,
    Disk,
    /// Those that promise durability.
    Durable,
    Network,
    /// None of them: it is felt before and after.
    Around,
}

/// Workloads whose operations stay outside the kernel: what system calls cost isn't felt there.
const OUTSIDE_KERNEL: [&str; 4] = ["control/clock", "control/memory", "control/bandwidth", "control/cpu"];

impl Concerns {
    fn has(self, workload: &WorkloadPlan) -> bool {
        match self {
            Self::All => true,
            Self::Calls => !OUTSIDE_KERNEL.contains(&workload.kind()),
            Self::Disk => workload.resource == Resource::Disk,
            Self::Durable => workload.durable,
            Self::Network => workload.resource == Resource::Network,
            Self::Around => false,
        }
    }
}

/// Every kind, in the order of reports.
pub const KINDS: &[Kind] = &[
    Kind {
        name: "emulated-cpu",
        what: "its CPU is emulated in software",
        when: "its runner says so: every instruction is translated, and none of its times are those of a machine with the hardware's help",
        change: "a host with KVM that works",
        settings: &["accel"],
        concerns: Concerns::All,
        of_bursts: false,
        of_host: false,
        unprovoked: None,
        judge: emulated,
    },
    Kind {
        name: "slow-calls",
        what: "something catches each of its system calls",
        when: "an empty system call takes three times as long inside as beside the baseline, and 200 ns more, on a CPU that isn't emulated",
        change: "another way of catching them, where the sandbox has a choice",
        settings: &["platform", "accel"],
        concerns: Concerns::All,
        of_bursts: false,
        of_host: false,
        unprovoked: None,
        judge: slow_calls,
    },
    Kind {
        name: "clock-call",
        what: "reading the clock is a system call, or as slow as one",
        when: "a clock reading inside costs 70 % of an empty system call there or more, or 200 ns and four times the baseline's",
        change: "another clock source, by the kernel's command line (`clocksource=`) or in /sys/devices/system/clocksource; the evidence has those that are available",
        settings: &["machine", "accel", "platform"],
        concerns: Concerns::All,
        of_bursts: false,
        of_host: true,
        unprovoked: None,
        judge: clock,
    },
    Kind {
        name: "tsc-scaled",
        what: "its time stamp counter runs at another rate than the host's",
        when: "the counter's rate against the clock differs by more than 2 %, inside and beside the baseline: it is scaled or emulated",
        change: "a machine that passes the host's CPU on, or a host whose CPU scales the counter by itself",
        settings: &["accel"],
        concerns: Concerns::All,
        of_bursts: false,
        of_host: false,
        unprovoked: None,
        judge: counter,
    },
    Kind {
        name: "seccomp",
        what: "system calls pass through filters",
        when: "more seccomp filters are on the work's process than on the baseline's (Seccomp_filters in /proc/self/status)",
        change: "no filter, or a shorter one: the difference is what it costs",
        settings: &["seccomp"],
        concerns: Concerns::Calls,
        of_bursts: false,
        of_host: false,
        unprovoked: None,
        judge: filters,
    },
    Kind {
        name: "speculation",
        what: "speculation is held back in its processes",
        when: "Speculation_Store_Bypass or SpeculationIndirectBranch in /proc/self/status says mitigated or disabled, and beside the baseline it doesn't: kernels before 5.16 do so to everything with a seccomp filter",
        change: "the kernel's `spec_store_bypass_disable=prctl` and `spectre_v2_user=prctl`, or no filter",
        settings: &["seccomp"],
        concerns: Concerns::All,
        of_bursts: false,
        of_host: false,
        unprovoked: Some(
            "the CPU's microcode must offer to hold speculation back; those under the machines of our tests don't, and QEMU's emulated CPU neither",
        ),
        judge: speculation,
    },
    Kind {
        name: "mitigations",
        what: "its kernel has other mitigations of the CPU's vulnerabilities than the host's",
        when: "an entry of /sys/devices/system/cpu/vulnerabilities that both have begins otherwise",
        change: "the guest's kernel or CPU model; `mitigations=off` on its command line shows what they cost",
        settings: &["kernel", "append"],
        concerns: Concerns::All,
        of_bursts: false,
        of_host: false,
        unprovoked: None,
        judge: mitigations,
    },
    Kind {
        name: "throttled",
        what: "its quota of CPU time stopped it",
        when: "the quota of its cgroup, or of one that an engine made below it, stopped it for more than 1 % of the time of its bursts",
        change: "a larger quota or none, or a longer period; CPU sets stop nobody",
        settings: &["cpu.share", "cpu.period"],
        concerns: Concerns::All,
        of_bursts: true,
        of_host: false,
        unprovoked: None,
        judge: throttled,
    },
    Kind {
        name: "steal",
        what: "a hypervisor below takes CPU time away",
        when: "more than 0.5 % of the host's CPU time was stolen in the mean, and of a box so much more than beside the baseline",
        change: "a host of one's own, or fewer neighbours on it: no setting of an environment does",
        settings: &[],
        concerns: Concerns::All,
        of_bursts: true,
        of_host: true,
        unprovoked: Some("what a hypervisor below takes isn't in the hands of a test"),
        judge: steal,
    },
    Kind {
        name: "cpu-wait",
        what: "tasks wait for a CPU while it works",
        when: "it has no neighbour, and some task was ready and had no CPU for a fifth of the time of its bursts, and for a fifth more than beside the baseline (the kernel's pressure of CPUs)",
        change: "more CPUs than one (`cpus` of the suite's resources): with one the work takes turns with whatever else a box runs, its helpers for one",
        settings: &[],
        concerns: Concerns::All,
        of_bursts: true,
        of_host: false,
        unprovoked: Some("how long tasks wait is the machine's doing as much as the box's"),
        judge: cpu_wait,
    },
    Kind {
        name: "around",
        what: "its engine takes time and memory around the work",
        when: "a start or a stop of it takes 50 ms and three times as long as the baseline's, or it holds 4 MiB and three times as much: nothing of this is in the time of an operation",
        change: "a box that stays up for more work, or an engine with less around it",
        settings: &[],
        concerns: Concerns::Around,
        of_bursts: false,
        of_host: false,
        unprovoked: None,
        judge: around,
    },
    Kind {
        name: "huge-pages",
        what: "huge pages are given otherwise than on the host",
        when: "the word in brackets of /sys/kernel/mm/transparent_hugepage/enabled is `always` inside or beside the baseline, and not there and here",
        change: "`transparent_hugepage=` on the guest's command line, which Linux obeys where the guest has 512 MiB and more",
        settings: &["kernel", "append"],
        concerns: Concerns::All,
        of_bursts: false,
        of_host: false,
        unprovoked: None,
        judge: huge_pages,
    },
    Kind {
        name: "memory-in-file",
        what: "its memory is a file of the host",
        when: "its processes have 64 MiB more of files mapped than the baseline's, after a burst: what a guest writes to such memory, the host writes to the file",
        change: "memory that is no file",
        settings: &["memory"],
        concerns: Concerns::All,
        of_bursts: true,
        of_host: false,
        unprovoked: None,
        judge: memory_in_file,
    },
    Kind {
        name: "file-system",
        what: "its file system is another one than the baseline's",
        when: "the file system under the data, as seen inside, has another name than beside the baseline",
        change: "data in a directory of the host's own file system, where the environment can have that",
        settings: &["data", "storage"],
        concerns: Concerns::Disk,
        of_bursts: false,
        of_host: false,
        unprovoked: None,
        judge: file_system,
    },
    Kind {
        name: "file-server",
        what: "its sandbox gets at files for it",
        when: "its runner says that a sandbox of programs of its own serves the file system, and how it opens files and looks at names",
        change: "files that nobody else may change, which it may remember; files that it opens itself, where its release can",
        settings: &["file-access", "directfs"],
        concerns: Concerns::Disk,
        of_bursts: false,
        of_host: false,
        unprovoked: None,
        judge: file_server,
    },
    Kind {
        name: "disk",
        what: "its data lie on another disk than the baseline's",
        when: "the host's disk under its data is known, by its runner or by an agent on the host's kernel, and is not the one under the baseline's",
        change: "data on the same disk, or another `--data-dir`",
        settings: &["data"],
        concerns: Concerns::Disk,
        of_bursts: false,
        of_host: false,
        unprovoked: None,
        judge: disk,
    },
    Kind {
        name: "flush-lost",
        what: "its flushes never reach the disk, which is why it can be fast",
        when: "the flag `fsync-not-durable` is raised by what was counted, and not by time alone, or its runner states that flushes are answered and forgotten",
        change: "a path to the disk that passes flushes on",
        settings: &["disk.cache", "data", "rm", "storage"],
        concerns: Concerns::Durable,
        of_bursts: true,
        of_host: false,
        unprovoked: None,
        judge: flush,
    },
    Kind {
        name: "volatile",
        what: "its overlay is mounted volatile",
        when: "the options of the mount under the data have `volatile`, as overlayfs has it for containers that are thrown away",
        change: "an overlay that isn't mounted so, or data beside it",
        settings: &["data", "rm", "storage"],
        concerns: Concerns::Disk,
        of_bursts: false,
        of_host: false,
        unprovoked: None,
        judge: volatile,
    },
    Kind {
        name: "io-limit",
        what: "a limit of I/O is set, and its work doesn't feel it",
        when: "it moved more than 1.5 times the bytes, or did 1.5 times the operations, that the suite's limit allows in that time and 0.2 s more: the page cache took them, and in cgroup v1 no limit holds for what is written back later",
        change: "direct I/O or durable writes, which wait for the disk; or cgroup v2, where writing back is charged to who wrote",
        settings: &[],
        concerns: Concerns::Disk,
        of_bursts: true,
        of_host: true,
        unprovoked: None,
        judge: io_limit,
    },
    Kind {
        name: "own-stack",
        what: "its sandbox has a network stack of its own, in user space",
        when: "its runner says so: each packet passes a program before the host's kernel has it",
        change: "the host kernel's stack, which is less apart from the host",
        settings: &["network"],
        concerns: Concerns::Network,
        of_bursts: false,
        of_host: false,
        unprovoked: None,
        judge: own_stack,
    },
    Kind {
        name: "user-nat",
        what: "a program translates each of its packets",
        when: "the path to the peer goes through address translation in user space",
        change: "a path that the kernel carries: a link of its own, or the host's network",
        settings: &["network", "net"],
        concerns: Concerns::Network,
        of_bursts: false,
        of_host: false,
        unprovoked: None,
        judge: user_nat,
    },
    Kind {
        name: "no-vhost",
        what: "the machine's monitor passes each of its packets on",
        when: "a machine's tap device is served by its monitor and not by the host's kernel (vhost)",
        change: "vhost, which leaves packets to the host's kernel",
        settings: &["net", "network"],
        concerns: Concerns::Network,
        of_bursts: false,
        of_host: false,
        unprovoked: None,
        judge: no_vhost,
    },
    Kind {
        name: "link",
        what: "its link is set up otherwise than the baseline's",
        when: "both have one interface besides loopback, and its MTU, or a switch that both devices know (`ethtool -k`), differs",
        change: "the same MTU and the same offloads at both ends; another network device, where there is a choice",
        settings: &["network", "net", "net.model"],
        concerns: Concerns::Network,
        of_bursts: false,
        of_host: false,
        unprovoked: None,
        judge: link,
    },
    Kind {
        name: "congestion",
        what: "its TCP decides otherwise how fast to send",
        when: "a new TCP socket has another algorithm inside than beside the baseline, and an operation moves more than the ten segments that need no answer",
        change: "the same algorithm in both kernels, by /proc/sys/net/ipv4/tcp_congestion_control",
        settings: &["kernel", "network"],
        concerns: Concerns::Network,
        of_bursts: true,
        of_host: false,
        unprovoked: None,
        judge: congestion,
    },
];

/// What the hints of an environment follow from.
#[derive(Clone)]
struct Place<'a> {
    run: &'a Run,
    /// Those that are looked at: the records and flags are theirs.
    workloads: Vec<&'a WorkloadPlan>,
    plan: &'a EnvironmentPlan,
    /// `None` where this is the baseline: then nothing can differ from it.
    base: Option<&'a EnvironmentPlan>,
    identity: Option<&'a Identity>,
    base_identity: Option<&'a Identity>,
    /// Median cost of a clock reading beside the bursts, nanoseconds.
    clock_ns: Option<f64>,
    base_clock_ns: Option<f64>,
    /// An empty system call.
    call: Option<Call>,
    base_call: Option<Call>,
    /// Its starts, stops and memory, and the baseline's.
    environment: &'a Environment,
    base_environment: Option<&'a Environment>,
    records: Vec<&'a Record>,
    base_records: Vec<&'a Record>,
    flags: Vec<(&'a str, &'a Flag)>,
}

/// The work that measures empty system calls.
const EMPTY_CALLS: &str = "control/syscall";

/// What an empty system call costs, nanoseconds: as the run measured it in blocks, or where it did not, as it was once after each start,
/// which is rougher by far.
#[derive(Debug, Clone, Copy)]
struct Call {
    ns: f64,
    /// The cheapest and the dearest start, and how many there were; `None` where the run measured it.
    starts: Option<(f64, f64, usize)>,
}

impl Call {
    fn of(stored: &Stored, environment: &str) -> Option<Self> {
        let empty = |name: &str| stored.run.workloads.iter().any(|w| w.name == name && w.kind() == EMPTY_CALLS);
        let own = stored.records.iter().filter(|r| r.environment == environment && empty(&r.workload));
        // Of several at a time wall time by operations is no call's.
        let samples: Vec<_> = own.filter_map(|r| r.outcome.as_ref().ok()).filter(|s| s.concurrency == 1).collect();
        let (ns, calls) = samples
            .iter()
            .fold((0.0, 0.0), |(ns, calls), sample| (ns + sample.elapsed_ns as f64, calls + sample.operations as f64));
        if calls > 0.0 {
            return Some(Self { ns: ns / calls, starts: None });
        }
        let starts = stored.starts.iter().filter(|s| s.environment == environment);
        let mut each: Vec<f64> = starts.filter_map(|s| s.identity.as_ref()?.inside.call_ns).collect();
        each.sort_by(f64::total_cmp);
        let (low, high) = (*each.first()?, *each.last()?);
        Some(Self { ns: each[each.len() / 2], starts: Some((low, high, each.len())) })
    }
}

/// What a reading of a clock or a call takes: parts of a nanosecond say nothing of it.
fn whole_ns(ns: f64) -> String {
    duration(ns.round())
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let took = whole_ns(self.ns);
        match self.starts {
            Some((low, high, n)) if n > 1 => {
                let (low, high) = (whole_ns(low), whole_ns(high));
                write!(
                    f,
                    "{took} right after a start, when it may take longer than later (median of {n}: {low} to {high}; the workload {EMPTY_CALLS} measures it)"
                )
            }
            Some(_) => write!(f, "{took} right after the start"),
            None => write!(f, "{took} as {EMPTY_CALLS} measured it"),
        }
    }
}

impl<'a> Place<'a> {
    /// No more of it than what these workloads show.
    fn of(&self, workloads: &[&'a WorkloadPlan]) -> Self {
        let own = |name: &str| workloads.iter().any(|workload| workload.name == name);
        let records = |all: &[&'a Record]| all.iter().filter(|r| own(&r.workload)).copied().collect();
        Self {
            workloads: workloads.to_vec(),
            records: records(&self.records),
            base_records: records(&self.base_records),
            flags: self.flags.iter().filter(|(workload, _)| own(workload)).copied().collect(),
            ..self.clone()
        }
    }

    /// The same fact of both, where it is known of both.
    fn both<T: ?Sized>(&self, fact: impl Fn(&'a Identity) -> Option<&'a T>) -> Option<(&'a T, &'a T)> {
        Some((fact(self.identity?)?, fact(self.base_identity?)?))
    }
}

/// The hints of every environment, in their order. `flags` are those of an environment's workloads, with their names.
pub(super) fn of<'a>(
    stored: &'a Stored,
    environments: &'a [Environment],
    flags: impl Fn(&str) -> Vec<(&'a str, &'a Flag)>,
) -> Vec<Vec<Hint>> {
    let run = &stored.run;
    let identity =
        |name: &str| stored.starts.iter().filter(|s| s.environment == name).find_map(|s| s.identity.as_ref());
    let records = |name: &str| stored.records.iter().filter(|r| r.environment == name).collect::<Vec<_>>();
    let base = environments.iter().find(|e| e.plan.name == run.baseline);
    let place = |e: &'a Environment| {
        let plan = run.environments.iter().find(|plan| plan.name == e.plan.name)?;
        let other = base.filter(|base| base.plan.name != plan.name);
        let base_plan = other.and_then(|_| run.environments.iter().find(|plan| plan.name == run.baseline));
        Some(Place {
            run,
            workloads: measured(run, &records(&plan.name)),
            plan,
            base: base_plan,
            identity: identity(&plan.name),
            base_identity: base_plan.and_then(|base| identity(&base.name)),
            clock_ns: e.clock_ns,
            base_clock_ns: other.and_then(|base| base.clock_ns),
            call: Call::of(stored, &plan.name),
            base_call: base_plan.and_then(|base| Call::of(stored, &base.name)),
            environment: e,
            base_environment: other,
            records: records(&plan.name),
            base_records: base_plan.map_or_else(Vec::new, |base| records(&base.name)),
            flags: flags(&plan.name),
        })
    };
    // What is said of the host where the baseline is needn't be said of the others, as far as the baseline felt it.
    let of_base = base.and_then(place).map(|place| of_place(&place, &[])).unwrap_or_default();
    let of_host = |hint: &&Hint| KINDS.iter().any(|kind| kind.name == hint.name && kind.of_host);
    let said: Vec<&Hint> = of_base.iter().filter(of_host).collect();
    let hints = |e: &'a Environment| match place(e) {
        // A copy of the baseline has nothing that is not the host's or the moment's.
        Some(_) if e.plan.name == CONTROL => Vec::new(),
        Some(place) if place.base.is_some() => of_place(&place, &said),
        Some(place) => of_place(&place, &[]),
        None => Vec::new(),
    };
    environments.iter().map(hints).collect()
}

/// Our own workloads of which there is a sample among these records.
fn measured<'a>(run: &'a Run, records: &[&Record]) -> Vec<&'a WorkloadPlan> {
    let sampled = |name: &str| records.iter().any(|r| r.workload == name && r.outcome.is_ok());
    run.workloads.iter().filter(|workload| !workload.is_imported() && sampled(&workload.name)).collect()
}

/// The hints of a place, without the workloads in which they are said of the baseline.
fn of_place(place: &Place, said: &[&Hint]) -> Vec<Hint> {
    let hint = |kind: &Kind| {
        let shows = |workload: &&WorkloadPlan| !kind.of_bursts || (kind.judge)(&place.of(&[*workload])).is_some();
        let known: Vec<&String> = said.iter().filter(|h| h.name == kind.name).flat_map(|h| &h.workloads).collect();
        let concerned = place.workloads.iter().copied();
        let concerned = concerned.filter(|workload| kind.concerns.has(workload) && !known.contains(&&workload.name));
        let felt: Vec<&WorkloadPlan> = concerned.filter(shows).collect();
        // What is felt around the work is felt where no work is.
        let anywhere = !felt.is_empty() || kind.concerns == Concerns::Around && !place.workloads.is_empty();
        let evidence = if anywhere { (kind.judge)(&place.of(&felt)) } else { None }?;
        let workloads = felt.iter().map(|workload| workload.name.clone()).collect();
        let change = change(kind, place.plan);
        Some(Hint { name: kind.name, what: kind.what, workloads, felt: kind.of_bursts, evidence, change })
    };
    KINDS.iter().filter_map(hint).collect()
}

/// What would change it, with those of the environment's settings that it hangs on, as they are and as they could be.
fn change(kind: &Kind, plan: &EnvironmentPlan) -> String {
    let set = |name: &str| plan.settings.get(name).filter(|value| !value.is_empty());
    let all: Vec<(&str, &String)> = kind.settings.iter().filter_map(|name| Some((*name, set(name)?))).collect();
    let now: Vec<String> = all.iter().map(|(name, value)| format!("{name}={value}")).collect();
    // Where another setting hangs on this value, the one alone would be refused.
    let hangs = |other, idle| set(other).is_some_and(|value| value != idle);
    let free = |name: &str| !HANG_ON.iter().any(|(on, other, idle)| *on == name && hangs(other, idle));
    let others = all.iter().filter(|(name, _)| free(name));
    // Its runner knows what this engine takes on this machine.
    let known = |name: &str| plan.sandbox.instead.get(name).map(String::as_str);
    let others =
        others.filter_map(|(name, value)| Some(format!("{name}={}", known(name).or_else(|| to_try(name, value))?)));
    let others: Vec<String> = others.collect();
    let mut words = kind.change.to_string();
    for (what, settings) in [("now", now), (TRY, others)] {
        if !settings.is_empty() {
            words.push_str(&format!("; {what} {}", settings.join(", ")));
        }
    }
    words
}

/// Settings, others that have a say only beside their present values, and what those are where they have none.
const HANG_ON: [(&str, &str, &str); 7] = [
    ("network", "publish", "false"),
    ("network", "translator.binary", ""),
    ("net", "net.publish", "false"),
    ("net", "passt.binary", ""),
    ("cpu.share", "cpu.period", "100ms"),
    ("data", "storage", "overlay"),
    ("rm", "storage", "overlay"),
];

/// What to try in the place of a setting's value, where it is known whatever has the setting: whoever takes the one takes the other.
pub fn to_try(setting: &str, now: &str) -> Option<&'static str> {
    Some(match (setting, now) {
        ("accel", "tcg") => "kvm",
        ("seccomp", "docker-like" | "containers") => "none",
        ("cpu.share", share) if share != "100" => "100",
        ("memory", "file") => "anonymous",
        ("data", "overlay" | "layer" | "named" | "tmpfs") => "bind",
        ("data", "ubd" | "cow") => "ubd-sync",
        ("disk.cache", "unsafe") => "writeback",
        ("rm", "true") => "false",
        ("network", "slirp4netns" | "pasta") => "veth",
        ("net", "user" | "passt") => "tap",
        _ => return None,
    })
}

/// A clock reading that costs so much of an empty system call is one.
const CALL_SHARE: f64 = 0.7;

/// A clock that answers within so many nanoseconds is no system call: none is as fast.
const FAST_CLOCK_NS: f64 = 50.0;

/// A clock reading that costs less than this is slow for nobody, nanoseconds.
const SLOW_CLOCK_NS: f64 = 200.0;

fn clock(place: &Place) -> Option<String> {
    let own = place.clock_ns?;
    let identity = place.identity?;
    let call = place.call.filter(|call| own >= CALL_SHARE * call.ns && own > FAST_CLOCK_NS);
    let slower = place.base_clock_ns.is_some_and(|base| own > SLOW_CLOCK_NS && own > 4.0 * base);
    if call.is_none() && !slower {
        return None;
    }
    let source = identity.clock_source.as_deref().unwrap_or("unknown");
    let sources = &identity.inside.clock_sources;
    let available = if sources.is_empty() { "not told".into() } else { sources.join(", ") };
    let call = place.call.map_or_else(String::new, |call| format!(", an empty system call {call}"));
    let base = place.base_clock_ns.map_or_else(String::new, |ns| format!(", the baseline's {}", whole_ns(ns)));
    let own = whole_ns(own);
    Some(format!("a reading costs {own}{call}{base}; clock source {source}, available: {available}"))
}

fn counter(place: &Place) -> Option<String> {
    let (own, base) = place.both(|i| i.inside.tsc_khz.as_ref())?;
    let mhz = |khz: u64| khz as f64 / 1e3;
    (own.abs_diff(*base) > base / 50)
        .then(|| format!("{:.0} MHz inside, {:.0} MHz beside the baseline", mhz(*own), mhz(*base)))
}

fn filters(place: &Place) -> Option<String> {
    let (own, base) = place.both(|i| i.inside.filters.as_ref())?;
    (own > base).then(|| format!("filters on its process: {own}, on the baseline's: {base}"))
}

fn speculation(place: &Place) -> Option<String> {
    // The words of the kernel's arch/x86/kernel/cpu/bugs.c and fs/proc/array.c; one that isn't vulnerable holds nothing back.
    let held = |word: &str| word.ends_with("mitigated") || word.ends_with("disabled");
    let differs = |what: &str, both: Option<(&String, &String)>| {
        let (own, base) = both.filter(|(own, base)| held(own) && !held(base))?;
        Some(format!("{what}: {own}, the baseline's {base}"))
    };
    joined([
        differs("Speculation_Store_Bypass", place.both(|i| i.inside.store_bypass.as_ref())),
        differs("SpeculationIndirectBranch", place.both(|i| i.inside.indirect_branch.as_ref())),
    ])
}

/// One after the other; `None` where there is none.
fn joined(parts: impl IntoIterator<Item = Option<String>>) -> Option<String> {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn mitigations(place: &Place) -> Option<String> {
    let (own, base) = place.both(|i| Some(&i.inside.mitigations))?;
    let differs = |(fault, own): (&String, &String)| {
        let base = base.get(fault).filter(|base| *base != own)?;
        Some(format!("{fault}: {own}, the host {base}"))
    };
    joined(own.iter().map(differs))
}

/// Less of the time a quota may stop somebody without a word.
const STOPPED: f64 = 0.01;

fn throttled(place: &Place) -> Option<String> {
    let (mut stopped, mut periods, mut hit, mut wall) = (0, 0, 0, 0);
    for evidence in place.records.iter().map(|r| &r.evidence) {
        let (Some(ns), Some(of)) = (evidence.throttled_ns, evidence.wall_ns) else { continue };
        (stopped, wall) = (stopped + ns, wall + of);
        periods += evidence.quota_periods.unwrap_or(0);
        hit += evidence.throttled.unwrap_or(0);
    }
    let share = if wall == 0 { 0.0 } else { stopped as f64 / wall as f64 };
    (share > STOPPED).then(|| {
        let (stopped, wall) = (duration(stopped as f64), duration(wall as f64));
        format!("stopped in {hit} of {periods} periods, for {stopped} of the {wall} of its bursts")
    })
}

fn steal(place: &Place) -> Option<String> {
    let mean = |records| flags::mean(records, |r: &Record| r.evidence.steal);
    let (own, base) = (mean(&place.records)?, mean(&place.base_records));
    // What is taken from the baseline as well is the host's.
    let more = own - base.unwrap_or(0.0) > flags::STEAL;
    let beside = base.map_or_else(String::new, |base| format!(", {:.1} % beside the baseline", 100.0 * base));
    more.then(|| format!("{:.1} % of the host's CPU time on average{beside}", 100.0 * own))
}

fn huge_pages(place: &Place) -> Option<String> {
    let (own, base) = place.both(|i| i.inside.huge_pages.as_ref())?;
    // The work asks for none, so the two other words are the same to it.
    let given = |word: &str| word == "always";
    (given(own) != given(base)).then(|| format!("`{own}` inside, `{base}` on the host"))
}

/// So much more of files than the baseline is no program's text.
const MAPPED: f64 = (64 << 20) as f64;

fn memory_in_file(place: &Place) -> Option<String> {
    let mapped = |records: &[&Record]| flags::mean(records, |r| r.evidence.mapped_bytes.map(|bytes| bytes as f64));
    let (own, base) = (mapped(&place.records)?, mapped(&place.base_records)?);
    (own > base + MAPPED).then(|| format!("{} of files mapped, the baseline {}", bytes(own), bytes(base)))
}

fn file_system(place: &Place) -> Option<String> {
    let (own, base) = place.both(|i| Some(&i.file_system))?;
    (own != base).then(|| format!("{own} as seen inside ({}), the baseline's {base}", place.plan.data_path))
}

fn disk(place: &Place) -> Option<String> {
    let own = flags::disk::below(place.plan, place.identity.into_iter(), &place.records)?;
    let base = place.base?.data.device.as_deref()?;
    (own != base).then(|| format!("{own}, the baseline's on {base}"))
}

fn flush(place: &Place) -> Option<String> {
    let counted = |flag: &Flag| flag.name == "fsync-not-durable" && flag.severity == Severity::Fatal;
    let seen = place.flags.iter().find(|(_, flag)| counted(flag));
    let seen = seen.map(|(_, flag)| flag.evidence.clone());
    let stated = place.plan.data.flushes == Flushes::Forgotten;
    seen.or_else(|| stated.then(|| format!("flushes are answered and forgotten there: {}", place.plan.data_path)))
}

fn volatile(place: &Place) -> Option<String> {
    let identity = place.identity?;
    let options = identity.inside.data_options.as_deref()?;
    let option = options.split(',').find(|option| matches!(*option, "volatile" | "fsync=volatile"))?;
    Some(format!("the {} under its data is mounted `{option}`", identity.file_system))
}

/// A limit that is overrun so many times over isn't felt.
const BEYOND: f64 = 1.5;

/// What a limit allows in so long, who has rested gets at once, seconds: the block layer counts in slices of a tenth.
const RESERVE: f64 = 0.2;

fn io_limit(place: &Place) -> Option<String> {
    let suite = place.run.suite_toml.parse::<toml::Table>().ok()?;
    let limits = suite.get("resources")?.get("io")?.as_table()?;
    let limit = |name: &str| limits.get(name).and_then(toml::Value::as_integer).map(|n| n as f64);
    joined(place.workloads.iter().map(|workload| {
        let done = Done::of(place, workload);
        // Of a workload that does both nobody knows here how much of which.
        let (writes, reads) = (workload.durable || workload.kind().contains("write"), workload.kind().contains("read"));
        let either = |write: &str, read: &str| match (writes, reads) {
            (true, false) => limit(write),
            (false, true) => limit(read),
            _ => Some(limit(write)? + limit(read)?),
        };
        let told = |did: f64, may: Option<f64>, unit: &str, scale: f64| {
            let may = may.filter(|may| did > BEYOND * may * (done.seconds + RESERVE * done.bursts))?;
            Some(format!("{}: {:.1} {unit}, allowed {:.1}", workload.name, did / done.seconds / scale, may / scale))
        };
        told(done.bytes, either("wbps", "rbps"), "MB/s", 1e6)
            .or_else(|| told(done.operations, either("wiops", "riops"), "operations/s", 1.0))
    }))
}

/// All that a workload's bursts did, and how long that took.
#[derive(Debug, Default)]
struct Done {
    bursts: f64,
    bytes: f64,
    operations: f64,
    seconds: f64,
}

impl Done {
    fn of(place: &Place, workload: &WorkloadPlan) -> Self {
        let own = place.records.iter().filter(|r| r.workload == workload.name).filter_map(|r| r.outcome.as_ref().ok());
        own.fold(Self::default(), |sum, sample| Self {
            bursts: sum.bursts + 1.0,
            bytes: sum.bytes + sample.bytes as f64,
            operations: sum.operations + sample.operations as f64,
            seconds: sum.seconds + sample.elapsed_ns as f64 / 1e9,
        })
    }
}

fn file_server(place: &Place) -> Option<String> {
    place.base?;
    place.plan.sandbox.files.clone()
}

fn own_stack(place: &Place) -> Option<String> {
    let base = place.base?;
    let stack = place.plan.sandbox.stack.as_ref().filter(|_| base.sandbox.stack.is_none())?;
    Some(format!("{stack}; behind it the peer is reached over {}", place.plan.network))
}

fn user_nat(place: &Place) -> Option<String> {
    let (own, base) = (place.plan.network, place.base?.network);
    (own.is_user_mode() && !base.is_user_mode())
        .then(|| format!("the peer is reached over {own}, the baseline's over {base}"))
}

fn no_vhost(place: &Place) -> Option<String> {
    let (own, base) = (place.plan.network, place.base?.network);
    (own == Network::Tap && base != Network::Tap)
        .then(|| format!("the peer is reached over a {own} device without vhost"))
}

fn link(place: &Place) -> Option<String> {
    let only = |identity: &'_ Identity| match identity.inside.links.as_slice() {
        [link] => Some(link.clone()),
        _ => None,
    };
    let (own, base): (Link, Link) = (only(place.identity?)?, only(place.base_identity?)?);
    let mtu = own.mtu.zip(base.mtu).filter(|(own, base)| own != base);
    let mtu = mtu.map(|(own, base)| format!("MTU {own}, the baseline's {base}"));
    let word = |on: bool| if on { "on" } else { "off" };
    let switches = own.offloads.iter().map(|(name, own)| {
        let base = base.offloads.get(name).filter(|base| *base != own)?;
        Some(format!("{name} {}, the baseline's {}", word(*own), word(*base)))
    });
    joined(std::iter::once(mtu).chain(switches))
}

/// What a connection sends before it waits for the first answer (RFC 6928): ten segments of 1460 bytes.
const INITIAL_WINDOW: u64 = 10 * 1460;

fn congestion(place: &Place) -> Option<String> {
    let (own, base) = place.both(|i| i.inside.congestion.as_ref())?;
    let samples = place.records.iter().filter_map(|r| r.outcome.as_ref().ok());
    let large = samples.map(|sample| sample.bytes / sample.operations.max(1)).any(|bytes| bytes > INITIAL_WINDOW);
    (own != base && large).then(|| format!("{own} inside, {base} beside the baseline"))
}

fn emulated(place: &Place) -> Option<String> {
    place.base?;
    place.plan.emulated.clone()
}

fn slow_calls(place: &Place) -> Option<String> {
    let (own, base) = place.call.zip(place.base_call)?;
    let slow = own.ns >= 3.0 * base.ns && own.ns >= base.ns + 200.0 && place.plan.emulated.is_none();
    let caught = place.plan.sandbox.calls.as_ref().map_or_else(String::new, |how| format!("; caught by {how}"));
    let beside = whole_ns(base.ns);
    slow.then(|| format!("an empty system call: {own}, beside the baseline {beside}{caught}"))
}

/// Tasks that wait for less than this share of the time, or for so little more than beside the baseline, are nobody's reason.
const WAITED: f64 = 0.2;

fn cpu_wait(place: &Place) -> Option<String> {
    place.base?;
    if place.plan.neighbour.is_some() {
        return None;
    }
    let mean = |records| flags::mean(records, |r: &Record| r.evidence.pressure_cpu);
    let (own, base) = (mean(&place.records)?, mean(&place.base_records)?);
    (own > WAITED + base).then(|| {
        format!(
            "tasks waited for a CPU for {:.0} % of the time of its bursts, {:.0} % beside the baseline",
            100.0 * own,
            100.0 * base
        )
    })
}

/// So many times what the baseline takes before and after the work is worth a word, from so many nanoseconds on.
const TIMES_AROUND: f64 = 3.0;
const AROUND_NS: f64 = 50e6;
/// And from so many bytes on.
const AROUND_BYTES: f64 = (4 << 20) as f64;

fn around(place: &Place) -> Option<String> {
    let (own, base) = (place.environment, place.base_environment?);
    let more = |what: &str, own: Option<f64>, base: Option<f64>, least: f64, say: fn(f64) -> String| {
        let (own, base) = own.zip(base).filter(|(own, base)| *own >= least && *own >= TIMES_AROUND * base)?;
        Some(format!("{what} {}, the baseline {}", say(own), say(base)))
    };
    let ns = |estimate: Option<Estimate>| estimate.map(|e| 1e6 * e.value);
    let held = |e: &Environment| e.memory_bytes.map(|bytes| bytes as f64);
    joined([
        more("start", ns(own.start_ms), ns(base.start_ms), AROUND_NS, duration),
        more("stop", ns(own.stop_ms), ns(base.stop_ms), AROUND_NS, duration),
        more("memory held when idle", held(own), held(base), AROUND_BYTES, bytes),
    ])
}
