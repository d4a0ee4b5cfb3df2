//! How long a plan will take, before anything is known of the machine: bursts, and what lies beside them.

use std::time::Duration;

use crate::execute::PASS;
use crate::plan::{Environment, Plan, PlannedWorkload};

/// Before the first block: the host is looked at, and every environment gets its ground.
pub const SET_UP: Duration = Duration::from_secs(2);

/// A start that may take longer than this boots a kernel.
const CONTAINER: Duration = Duration::from_secs(10);

/// How long a start takes: of a kernel, this part of its deadline.
const CONTAINER_START: Duration = Duration::from_millis(100);
const GUEST_START: u32 = 40;

/// Burst and warm-up of a box that shares the host's kernel, in bursts: some of them are slower than bare metal.
const LENGTHS: f64 = 1.25 * 1.1;

/// The same where a kernel boots; a burst ends at its longest.
const LENGTHS_OF_A_GUEST: f64 = 1.25 * 3.0;

/// Making a workload ready and checking it: a few requests, and its data at so many bytes a second.
const STEPS: Duration = Duration::from_millis(5);
const BYTES_PER_SECOND: f64 = 1e9;

/// So many times as long it takes where a kernel boots, for each time that it is given longer to start than a container: without
/// help from a hypervisor it is given longer still.
const SLOW: f64 = 4.0;

/// Beside a burst: a look at the host, counters, and two frames.
const BESIDE: Duration = Duration::from_micros(1500);

/// What is timed is so much of a burst and its warm-up.
const MEASURED: f64 = 0.8;

/// How long a block of a plan will take.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// The steps of a block: every environment's start, and then each workload.
    pub steps: Vec<Duration>,
    /// Of all that, measured.
    pub timed: Duration,
}

impl Estimate {
    /// Of a block with these environments.
    pub fn of(plan: &Plan, environments: &[usize]) -> Self {
        let environments: Vec<&Environment> = environments.iter().map(|at| &plan.environments[*at]).collect();
        let bursts = |workload: &PlannedWorkload| environments.iter().map(|e| burst(e, workload)).sum::<Duration>();
        let mut steps = vec![environments.iter().map(|e| start(e)).sum()];
        steps.extend(plan.workloads.iter().map(|workload| {
            let needs = workload.workload.needs(&workload.settings, plan.suite.resources.memory_bytes);
            let data = Duration::from_secs_f64((needs.disk + needs.memory) as f64 / BYTES_PER_SECOND);
            let untimed = |e: &&Environment| (STEPS + data).mul_f64(slow(e));
            let pilots = bursts(workload) / 3;
            let rounds = (bursts(workload) + BESIDE * environments.len() as u32) * plan.suite.rounds;
            environments.iter().map(untimed).sum::<Duration>() + pilots + rounds
        }));
        let timed = plan.workloads.iter().map(bursts).sum::<Duration>() * plan.suite.rounds;
        Self { steps, timed: timed.mul_f64(MEASURED) }
    }

    /// A block.
    pub fn block(&self) -> Duration {
        self.steps.iter().sum()
    }

    /// A run of so many blocks.
    pub fn run(&self, blocks: u32) -> Duration {
        SET_UP + self.block() * blocks
    }

    /// The measured share of a block's time.
    pub fn share_timed(&self) -> f64 {
        self.timed.as_secs_f64() / self.block().as_secs_f64()
    }
}

fn boots(environment: &Environment) -> bool {
    environment.runner.start_deadline() > CONTAINER
}

fn slow(environment: &Environment) -> f64 {
    let allowed = environment.runner.start_deadline().as_secs_f64() / CONTAINER.as_secs_f64();
    if boots(environment) { SLOW * allowed } else { 1.0 }
}

fn start(environment: &Environment) -> Duration {
    if boots(environment) { environment.runner.start_deadline() / GUEST_START } else { CONTAINER_START }
}

/// A burst with its warm-up.
fn burst(environment: &Environment, workload: &PlannedWorkload) -> Duration {
    let length = workload.length;
    let once = |lengths: f64| length.burst.mul_f64(lengths).min(length.burst_max.mul_f64(1.0 / MEASURED));
    // A neighbour begins before and ends after, a pass each.
    let beside = if environment.neighbour.is_some() { 2 * PASS } else { Duration::ZERO };
    once(if boots(environment) { LENGTHS_OF_A_GUEST } else { LENGTHS }) + beside
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::Suite;

    fn estimate(suite: &str) -> Estimate {
        let plan = Plan::of(Suite::parse("a suite", suite).expect("reads"), 1).expect("resolves");
        let all: Vec<usize> = (0..plan.environments.len()).collect();
        Estimate::of(&plan, &all)
    }

    /// On 2026-11-25 and the machine of the README's picture, where the guest was emulated.
    #[test]
    fn runs_take_about_what_they_took() {
        let suite = |rest: &str, environments: &[&str], workloads: &[&str]| {
            let mut suite = String::from(rest);
            suite.extend(environments.iter().map(|runner| format!("[environments.{runner}]\n")));
            suite.extend(workloads.iter().enumerate().map(|(n, w)| format!("[workloads.w{n}]\nworkload = \"{w}\"\n")));
            estimate(&suite).run(8).as_secs_f64()
        };
        let quick = "rounds = 8\nburst = \"7ms\"\nburst_max = \"40ms\"\n";
        let four = suite(quick, &["bare", "runc", "gvisor"], &["sqlite/commit", "net/rr"]);
        // A fifth: gVisor under ptrace starts slower than `CONTAINER_START` and has longer bursts than `LENGTHS`.
        assert!((11.2..16.8).contains(&four), "{four} s, it took 14");
        let workloads = [
            "control/syscall",
            "sqlite/commit",
            "sqlite/lookup",
            "disk/fsync",
            "disk/randread",
            "disk/randwrite",
            "net/rr",
            "net/stream",
        ];
        let own = ["bare", "chroot", "namespaces", "bubblewrap", "runc", "gvisor", "podman", "crun"];
        let copies = suite(quick, &own, &workloads);
        // From what it took to that and 30 %: boxes are thought to be a quarter slower (`LENGTHS`), and copies of bare metal aren't.
        assert!((57.0..74.1).contains(&copies), "{copies} s, eight copies of bare metal took 57");
        let guest = suite(quick, &["bare", "qemu"], &workloads) - suite(quick, &["bare"], &workloads);
        // 15 % on a machine as that one, itself a guest. On another a guest is given less time to start, and none was recorded.
        let bounds = if runners::fingerprint::nested().is_some() { 68.0..92.0 } else { 15.0..68.0 };
        assert!(bounds.contains(&guest), "{guest} s, it took 80 in a guest");
    }

    #[test]
    fn short_bursts_have_more_beside_them_and_boxes_that_boot_take_longer() {
        let suite = |rounds: u32, burst: &str, runner: &str| {
            let measure = format!("rounds = {rounds}\nburst = \"{burst}\"\n");
            let names = format!("[environments.bare]\n[environments.{runner}]\n[workloads.\"disk/fsync\"]\n");
            estimate(&(measure + &names))
        };
        let (long, short) = (suite(2, "60ms", "runc"), suite(20, "6ms", "runc"));
        assert_eq!(long.timed, short.timed);
        assert!(long.share_timed() > short.share_timed() && short.share_timed() > 0.3, "{short:?}");
        assert!(suite(2, "60ms", "uml").block() > long.block());
        assert_eq!(long.steps.len(), 2);
        assert_eq!(long.block(), long.steps.iter().sum());
    }
}
