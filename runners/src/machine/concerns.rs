//! What of this machine makes figures vary: each with the file that says so, and what to do about it.

use serde::Serialize;

use workloads::inside::chosen;

use super::{CPUS, KSM, Machine, NUMA, THP, governor_of, list, shown};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Concern {
    /// `governor`, `turbo`, `smt`, ...
    pub name: &'static str,
    /// Whether it is in the way.
    pub state: State,
    /// The file that was asked.
    pub file: String,
    /// What it says; `None` where it isn't there.
    pub says: Option<String>,
    /// Why that is in the way, and what to do; `None` where it isn't.
    pub warning: Option<String>,
}

/// How a machine stands in one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Good,
    /// In the way.
    Warns,
    /// The machine doesn't say.
    Unknown,
}

/// Clock sources whose reading leaves the process, or asks a device.
const BAD_CLOCKS: [&str; 7] = ["hpet", "acpi_pm", "pit", "jiffies", "refined-jiffies", "xen", "hyperv_clocksource_msr"];

impl Machine {
    /// All that is looked at, in the order to show it. Ask before anything of ours has run: the load is part of it.
    #[must_use]
    pub fn concerns(&self) -> Vec<Concern> {
        vec![
            self.governor(),
            self.turbo(),
            self.threads(),
            self.of("NUMA balancing", NUMA, |says| {
                (says != "0").then(|| "the kernel unmaps memory now and then to see which node uses it, and moves it: faults in the midst of the work. `sysctl kernel.numa_balancing=0`, or `run --tune`".into())
            }),
            self.of("KSM", KSM, |says| {
                (says == "1").then(|| "ksmd compares the memory of guests page by page: it takes CPU, and the next write to a page that it merged is a fault. `echo 0 > /sys/kernel/mm/ksm/run`, or `run --tune`".into())
            }),
            self.of("THP", THP, |says| {
                (chosen(says).as_deref() == Some("always")).then(|| "khugepaged gathers anybody's memory into huge pages while it is worked with: what a burst meets is chance. `echo madvise > /sys/kernel/mm/transparent_hugepage/enabled`, or `run --tune=thp`".into())
            }),
            self.of("swap", "proc/swaps", swapped),
            self.load(),
            self.clock(),
        ]
    }

    fn of(&self, name: &'static str, file: &str, warns: impl FnOnce(&str) -> Option<String>) -> Concern {
        concern(name, file, self.read(file), warns)
    }

    fn governor(&self) -> Concern {
        let all = self.numbered(CPUS, "cpu").into_iter();
        let set = all.filter_map(|cpu| Some((cpu, self.read(&governor_of(cpu))?)));
        let (steady, others): (Vec<_>, Vec<_>) = set.partition(|(_, governor)| governor == "performance");
        let Some((first, governor)) = others.first().or(steady.first()).cloned() else {
            return concern("governor", &governor_of(0), None, |_| None);
        };
        let cpus: Vec<usize> = others.iter().map(|(cpu, _)| *cpu).collect();
        concern("governor", &governor_of(first), Some(governor), |_| {
            (!cpus.is_empty()).then(|| {
                format!("CPU {} changes its clock rate with the load: a short burst meets a slow one. `cpupower frequency-set -g performance`, or `run --tune`", list(&cpus))
            })
        })
    }

    fn turbo(&self) -> Concern {
        let [intel, other] = super::tune::TURBO.map(|(file, _)| file);
        let (file, on) = if self.read(intel).is_some() { (intel, "0") } else { (other, "1") };
        self.of("turbo", file, |says| {
            (says == on).then(|| format!("the clock rate rises while there is heat and power to spare, and falls with what the other cores do. `echo {} > {}`, or `run --tune`", if on == "0" { "1" } else { "0" }, shown(file).display()))
        })
    }

    fn threads(&self) -> Concern {
        self.of("SMT", "sys/devices/system/cpu/smt/active", |says| {
            (says == "1").then(|| "two CPUs share a core, and what one does slows the other: keep the second ones idle (`tarebench calibrate` says which), or `echo off > /sys/devices/system/cpu/smt/control`".into())
        })
    }

    fn load(&self) -> Concern {
        let file = "proc/loadavg";
        // Elsewhere there is no such file, and the same figure.
        let elsewhere = || format!("{:.2}", sysinfo::System::load_average().one);
        let says = self.read(file).or_else(|| (!cfg!(target_os = "linux")).then(elsewhere));
        let there = self.numbered(CPUS, "cpu").len();
        let cpus = if there > 0 { there } else { std::thread::available_parallelism().map_or(1, usize::from) };
        concern("load", file, says, |says| {
            let load: f64 = says.split(' ').next()?.parse().ok()?;
            (load > 0.5 * cpus as f64).then(|| {
                format!(
                    "others work here, {load:.1} at a time on {cpus} CPUs: end what else runs, or expect wide intervals"
                )
            })
        })
    }

    fn clock(&self) -> Concern {
        let folder = "sys/devices/system/clocksource/clocksource0";
        let [_, available] = self.clock_sources();
        self.of("clock source", &format!("{folder}/current_clocksource"), |says| {
            BAD_CLOCKS.contains(&says).then(|| {
                let all = available.unwrap_or_default();
                let better: Vec<&str> =
                    all.split(' ').filter(|source| !source.is_empty() && !BAD_CLOCKS.contains(source)).collect();
                let what = "every reading of it is a system call or asks a device, up to a microsecond each";
                match better.first() {
                    Some(source) => format!("{what}. `echo {source} > /{folder}/current_clocksource`"),
                    None => {
                        format!("{what}, and the kernel offers no better one: see in its log why it gave up the TSC")
                    }
                }
            })
        })
    }
}

fn concern(
    name: &'static str,
    file: &str,
    says: Option<String>,
    warns: impl FnOnce(&str) -> Option<String>,
) -> Concern {
    let file = shown(file).display().to_string();
    let why = says.as_deref().map(warns);
    let state = match &why {
        None => State::Unknown,
        Some(None) => State::Good,
        Some(Some(_)) => State::Warns,
    };
    // Of a table a line is enough to know it by; the first one has the names of its columns.
    let line = says.as_deref().and_then(|text| text.lines().last()).unwrap_or_default();
    let warning = why.flatten().map(|why| format!("{name}: {file} says `{}`: {why}", words(line)));
    Concern { name, state, file, says: says.as_deref().map(words), warning }
}

/// With one space between words.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Of `/proc/swaps`: whether anything lies there.
fn swapped(table: &str) -> Option<String> {
    let used = |line: &str| line.split_whitespace().nth(3)?.parse::<u64>().ok();
    let kib: u64 = table.lines().skip(1).filter_map(used).sum();
    (kib > 0).then(|| {
        let size = bytesize::ByteSize(kib << 10);
        format!("{size} of memory lie on a disk, and whoever needs them waits for it in the midst of the work. Free memory, then `swapoff -a && swapon -a`")
    })
}

#[cfg(test)]
mod tests {
    use super::super::made_up::machine;
    use super::*;

    const CPU0: &str = "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
    const CPU1: &str = "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor";
    const SWAPS: &str = "Filename\tType\tSize\tUsed\tPriority";

    fn found(name: &str, files: &[(&str, &str)]) -> Concern {
        let (_folder, machine) = machine(files);
        machine.concerns().into_iter().find(|concern| concern.name == name).unwrap()
    }

    fn warns(name: &str, files: &[(&str, &str)], with: &[&str]) {
        let concern = found(name, files);
        assert_eq!(concern.state, State::Warns, "{concern:?}");
        let words = concern.warning.unwrap();
        assert!(words.contains(&concern.file), "{words}");
        for part in with {
            assert!(words.contains(part), "{part}: {words}");
        }
    }

    fn good(name: &str, files: &[(&str, &str)]) {
        let concern = found(name, files);
        assert_eq!((concern.state, concern.warning), (State::Good, None), "{name}");
    }

    #[test]
    fn a_machine_that_says_nothing_is_warned_of_nothing() {
        let (_folder, machine) = machine(&[]);
        let mut all = machine.concerns();
        if !cfg!(target_os = "linux") {
            all.retain(|concern| concern.name != "load");
        }
        assert!(all.iter().all(|c| c.state == State::Unknown && c.says.is_none() && c.warning.is_none()), "{all:?}");
        assert!(serde_json::to_string(&all).unwrap().contains("\"state\":\"unknown\""));
    }

    #[test]
    fn a_governor_that_saves_power_warns_with_its_cpus() {
        warns("governor", &[(CPU0, "performance"), (CPU1, "powersave")], &["CPU 1 changes", "`powersave`", "--tune"]);
        good("governor", &[(CPU0, "performance"), (CPU1, "performance")]);
    }

    #[test]
    fn turbo_warns_where_it_is_on_by_either_file() {
        let [intel, other] = super::super::tune::TURBO.map(|(file, _)| file);
        warns("turbo", &[(intel, "0")], &["echo 1 > /sys/devices/system/cpu/intel_pstate/no_turbo"]);
        warns("turbo", &[(other, "1")], &["echo 0 > /sys/devices/system/cpu/cpufreq/boost"]);
        good("turbo", &[(intel, "1"), (other, "1")]);
        good("turbo", &[(other, "0")]);
    }

    #[test]
    fn threads_that_share_a_core_warn() {
        warns("SMT", &[("sys/devices/system/cpu/smt/active", "1")], &["share a core", "calibrate"]);
        good("SMT", &[("sys/devices/system/cpu/smt/active", "0")]);
    }

    #[test]
    fn kernels_that_move_and_merge_memory_warn() {
        let (numa, ksm, thp) =
            ("proc/sys/kernel/numa_balancing", "sys/kernel/mm/ksm/run", "sys/kernel/mm/transparent_hugepage/enabled");
        warns("NUMA balancing", &[(numa, "1")], &["sysctl kernel.numa_balancing=0"]);
        warns("NUMA balancing", &[(numa, "2")], &["says `2`"]);
        good("NUMA balancing", &[(numa, "0")]);
        warns("KSM", &[(ksm, "1")], &["ksmd"]);
        good("KSM", &[(ksm, "0")]);
        warns("THP", &[(thp, "[always] madvise never")], &["khugepaged", "--tune=thp"]);
        good("THP", &[(thp, "always [madvise] never")]);
    }

    #[test]
    fn swap_warns_where_it_is_used_and_not_where_it_is_there() {
        let used = |kib: u32| format!("{SWAPS}\n/dev/sda2 partition 1048576 {kib} -2");
        warns("swap", &[("proc/swaps", &used(2048))], &["2.0 MiB", "/dev/sda2", "swapoff"]);
        good("swap", &[("proc/swaps", &used(0))]);
        good("swap", &[("proc/swaps", SWAPS)]);
    }

    #[test]
    fn a_load_warns_from_half_of_the_cpus_on() {
        let of = |load: &'static str| [("proc/loadavg", load), (CPU0, "performance"), (CPU1, "performance")];
        warns("load", &of("1.10 0.20 0.10 1/150 999"), &["1.1 at a time on 2 CPUs"]);
        good("load", &of("0.90 5.00 5.00 1/150 999"));
    }

    #[test]
    fn a_clock_that_asks_a_device_warns_and_names_a_better_one() {
        let [now, all] = ["current", "available"]
            .map(|which| format!("sys/devices/system/clocksource/clocksource0/{which}_clocksource"));
        warns("clock source", &[(&now, "hpet"), (&all, "tsc hpet acpi_pm")], &["echo tsc > /sys/"]);
        warns("clock source", &[(&now, "acpi_pm"), (&all, "acpi_pm")], &["no better one"]);
        good("clock source", &[(&now, "tsc"), (&all, "tsc hpet")]);
        good("clock source", &[(&now, "kvm-clock")]);
    }
}
