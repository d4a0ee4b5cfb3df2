//! Which CPUs share what: threads of a core, nodes of memory, fast and slow cores; and where work and harness are best kept.

use std::collections::BTreeSet;

use super::{CPUS, Machine, list, listed, shown};
use crate::host::Pinning;

/// A CPU and what it shares.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cpu {
    number: usize,
    /// The CPUs of its core, itself included.
    core: Vec<usize>,
    /// The node of memory that it is next to; 0 where there is one.
    node: usize,
    /// How fast it is, in a measure of the kernel's; equal for all where the kernel doesn't say.
    speed: u64,
}

/// The CPUs that may be used.
#[derive(Debug, Clone)]
pub struct Topology {
    cpus: Vec<Cpu>,
    /// Kept free by the kernel's command line.
    isolated: Vec<usize>,
    /// The file that tells speeds apart.
    speeds: Option<&'static str>,
}

/// Files of a CPU that say how fast it is against the others.
const SPEEDS: [&str; 2] = ["cpu_capacity", "cpufreq/cpuinfo_max_freq"];

impl Machine {
    /// Of the CPUs that may be used.
    #[must_use]
    pub fn topology(&self, allowed: &[usize]) -> Topology {
        let of = |cpu: usize, file: &str| self.read(&format!("{CPUS}/cpu{cpu}/{file}"));
        let speeds = SPEEDS.into_iter().find(|file| allowed.iter().all(|cpu| of(*cpu, file).is_some()));
        let nodes: Vec<(usize, Vec<usize>)> = self
            .numbered("sys/devices/system/node", "node")
            .into_iter()
            .filter_map(|node| {
                Some((node, listed(&self.read(&format!("sys/devices/system/node/node{node}/cpulist"))?)))
            })
            .collect();
        let cpu = |number: usize| {
            let core = of(number, "topology/thread_siblings_list").map(|text| listed(&text)).unwrap_or_default();
            Cpu {
                number,
                core: if core.is_empty() { vec![number] } else { core },
                node: nodes.iter().find(|(_, cpus)| cpus.contains(&number)).map_or(0, |(node, _)| *node),
                speed: speeds.and_then(|file| of(number, file)?.parse().ok()).unwrap_or(0),
            }
        };
        let isolated = self.read(&format!("{CPUS}/isolated")).map(|text| listed(&text)).unwrap_or_default();
        Topology { cpus: allowed.iter().map(|number| cpu(*number)).collect(), isolated, speeds }
    }
}

impl Topology {
    /// What is wrong with where work and harness would be, with the evidence, and the command that would do better.
    #[must_use]
    pub fn advice(&self, pinning: &Pinning) -> Vec<String> {
        let mut found = self.shared_cores(pinning);
        found.extend(self.slow_cores(pinning));
        found.extend(self.far_memory(pinning));
        let kept: Vec<usize> = self
            .isolated
            .iter()
            .copied()
            .filter(|cpu| !pinning.work.contains(cpu) && !pinning.harness.contains(cpu))
            .collect();
        if !kept.is_empty() {
            let file = shown(&format!("{CPUS}/isolated"));
            found.push(format!(
                "CPU {} is kept free of all else ({} says so): `taskset -c {0}` before the command measures there",
                list(&kept),
                file.display()
            ));
        }
        if found.is_empty() || !kept.is_empty() {
            return found;
        }
        if let Some(better) = self.better(pinning.work.len()) {
            found.push(format!("`taskset -c {}` before the command keeps work and harness to these", list(&better)));
        }
        found
    }

    fn of(&self, number: usize) -> Option<&Cpu> {
        self.cpus.iter().find(|cpu| cpu.number == number)
    }

    fn shared_cores(&self, pinning: &Pinning) -> Vec<String> {
        let mut found = Vec::new();
        for cpu in pinning.work.iter().filter_map(|number| self.of(*number)) {
            let others = |of: &[usize]| -> Vec<usize> {
                cpu.core.iter().copied().filter(|other| *other != cpu.number && of.contains(other)).collect()
            };
            let file = shown(&format!("{CPUS}/cpu{}/topology/thread_siblings_list", cpu.number));
            let says = format!("{} says {}", file.display(), list(&cpu.core));
            let (harness, work) = (others(&pinning.harness), others(&pinning.work));
            if pinning.harness != pinning.work && !harness.is_empty() {
                found.push(format!(
                    "the work on CPU {} shares its core with CPU {}, where harness and peer are ({says})",
                    cpu.number,
                    list(&harness)
                ));
            }
            if work.first().is_some_and(|other| *other > cpu.number) {
                found.push(format!("the work has CPU {} and {}, which are one core ({says})", cpu.number, list(&work)));
            }
        }
        found
    }

    fn slow_cores(&self, pinning: &Pinning) -> Option<String> {
        let fastest = self.cpus.iter().map(|cpu| cpu.speed).max()?;
        let slow: Vec<&Cpu> =
            pinning.work.iter().filter_map(|number| self.of(*number)).filter(|cpu| cpu.speed < fastest).collect();
        let first = slow.first()?;
        let file = shown(&format!("{CPUS}/cpu{}/{}", first.number, self.speeds?));
        let numbers: Vec<usize> = slow.iter().map(|cpu| cpu.number).collect();
        let kinds = if slow.len() < pinning.work.len() { ", and the work's CPUs are not alike" } else { "" };
        Some(format!(
            "the work on CPU {} is on a slow core: {} says {}, and the fastest has {fastest}{kinds}",
            list(&numbers),
            file.display(),
            first.speed
        ))
    }

    fn far_memory(&self, pinning: &Pinning) -> Option<String> {
        let nodes = |of: &[usize]| -> BTreeSet<usize> {
            of.iter().filter_map(|number| self.of(*number)).map(|cpu| cpu.node).collect()
        };
        let (work, harness) = (nodes(&pinning.work), nodes(&pinning.harness));
        let all = work.union(&harness).count();
        let said = |nodes: BTreeSet<usize>| list(&nodes.into_iter().collect::<Vec<_>>());
        (all > 1).then(|| {
            format!(
                "the work is on node {} and harness and peer are on node {} (/sys/devices/system/node/node*/cpulist): what they exchange crosses between them",
                said(work),
                said(harness)
            )
        })
    }

    /// One CPU of each core, of the fastest kind and of one node where there are enough: those with the lowest numbers are the work's.
    fn better(&self, work: usize) -> Option<Vec<usize>> {
        let fastest = self.cpus.iter().map(|cpu| cpu.speed).max()?;
        let first = |cpu: &&Cpu| {
            let mut usable = cpu.core.iter().filter(|other| self.of(**other).is_some());
            usable.next() == Some(&cpu.number)
        };
        let whole: Vec<&Cpu> = self.cpus.iter().filter(first).collect();
        let fast = |cpu: &&&Cpu| cpu.speed == fastest;
        let nodes: BTreeSet<usize> = self.cpus.iter().map(|cpu| cpu.node).collect();
        let on = |node: usize| whole.iter().filter(fast).filter(|cpu| cpu.node == node).map(|cpu| cpu.number).collect();
        let candidates = nodes.into_iter().map(on).chain([whole.iter().filter(fast).map(|cpu| cpu.number).collect()]);
        candidates.into_iter().find(|cpus: &Vec<usize>| cpus.len() > work)
    }
}

#[cfg(test)]
mod tests {
    use super::super::made_up::machine;
    use super::*;

    fn advice(files: &[(String, String)], allowed: &[usize], cpus: u32) -> Vec<String> {
        let files: Vec<(&str, &str)> = files.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
        let (_folder, machine) = machine(&files);
        machine.topology(allowed).advice(&Pinning::split(allowed, cpus))
    }

    fn cpu(number: usize, siblings: &str) -> (String, String) {
        (format!("{CPUS}/cpu{number}/topology/thread_siblings_list"), siblings.into())
    }

    fn capacity(number: usize, of: u32) -> (String, String) {
        (format!("{CPUS}/cpu{number}/cpu_capacity"), of.to_string())
    }

    fn node(number: usize, cpus: &str) -> (String, String) {
        (format!("sys/devices/system/node/node{number}/cpulist"), cpus.into())
    }

    #[test]
    fn two_whole_cores_of_one_kind_need_no_advice() {
        let files = [cpu(0, "0"), cpu(1, "1"), capacity(0, 1024), capacity(1, 1024), node(0, "0-1")];
        assert!(advice(&files, &[0, 1], 1).is_empty());
        assert!(advice(&[], &[0, 1], 1).is_empty(), "a machine that says nothing");
        assert!(advice(&[], &[0], 1).is_empty());
    }

    #[test]
    fn threads_of_one_core_are_told_and_taken_apart() {
        // As most desktops count: the neighbours are one core.
        let files: Vec<_> = (0..4).map(|n| cpu(n, if n < 2 { "0-1" } else { "2-3" })).collect();
        let words = advice(&files, &[0, 1, 2, 3], 1);
        assert!(
            words[0].contains("CPU 0 shares its core with CPU 1") && words[0].contains("thread_siblings_list says 0-1"),
            "{words:?}"
        );
        assert!(words[1].contains("`taskset -c 0,2`"), "{words:?}");
        // As most servers do.
        let files: Vec<_> = (0..4).map(|n| cpu(n, if n % 2 == 0 { "0,2" } else { "1,3" })).collect();
        assert!(advice(&files, &[0, 1, 2, 3], 1)[1].contains("`taskset -c 0-1`"));
        let two = advice(&[cpu(0, "0-1"), cpu(1, "0-1")], &[0, 1], 1);
        assert_eq!(two.len(), 1, "there is no second core: {two:?}");
        let both = advice(&files, &[0, 2, 1, 3], 2);
        assert!(both[0].contains("CPU 0 and 2, which are one core"), "{both:?}");
    }

    #[test]
    fn work_on_a_slow_core_is_told_with_both_figures() {
        let files: Vec<_> = (0..4).map(|n| capacity(n, if n < 2 { 446 } else { 1024 })).collect();
        let words = advice(&files, &[0, 1, 2, 3], 1);
        assert!(
            words[0].contains("CPU 0 is on a slow core") && words[0].contains("says 446, and the fastest has 1024"),
            "{words:?}"
        );
        assert!(words[1].contains("`taskset -c 2-3`"), "{words:?}");
        let mixed = advice(&files, &[1, 2, 3], 2);
        assert!(mixed[0].contains("not alike"), "{mixed:?}");
    }

    #[test]
    fn work_and_harness_on_two_nodes_are_brought_together() {
        let files = [node(0, "0,2"), node(1, "1,3")];
        let words = advice(&files, &[0, 1, 2, 3], 1);
        assert!(words[0].contains("node 0 and harness and peer are on node 0-1"), "{words:?}");
        assert!(words[1].contains("`taskset -c 0,2`"), "{words:?}");
    }

    #[test]
    fn cpus_that_the_kernel_keeps_free_are_the_first_choice() {
        let files = [(format!("{CPUS}/isolated"), "2-3".to_string())];
        let words = advice(&files, &[0, 1], 1);
        assert!(words[0].contains("`taskset -c 2-3`") && words.len() == 1, "{words:?}");
        assert!(advice(&files, &[2, 3], 1).is_empty());
    }
}
