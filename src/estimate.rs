//! How long a plan will take, before anything is known of the machine: bursts, and what lies beside them.

use std::time::Duration;

use crate::execute::{PASS, as_a_whole, whole_limit};
use crate::plan::{Environment, Length, Plan, PlannedWorkload};

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

/// An operation of work that has an end, whose length in time nobody knows yet: one that promises to be durable, and another one. On a
/// virtual disk a file of 4096 commits took 0.1 ms each (2026-11-26).
const DURABLE: Duration = Duration::from_micros(100);
const OTHER: Duration = Duration::from_micros(30);

/// Times that all of it is done beside the bursts: rehearsed twice, checked once.
const PASSES: u32 = 3;

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
            let passes = whole(workload).map_or(Duration::ZERO, |all| all * PASSES);
            let untimed = |e: &&Environment| (STEPS + data + passes).mul_f64(slow(e));
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

/// How long all of a workload takes once, where it has an end.
fn whole(workload: &PlannedWorkload) -> Option<Duration> {
    let each = if workload.workload.durable(&workload.settings) { DURABLE } else { OTHER };
    workload.whole.map(|operations| each.mul_f64(operations as f64))
}

/// A burst with its warm-up.
fn burst(environment: &Environment, workload: &PlannedWorkload) -> Duration {
    let mut length = workload.length;
    if let Some(all) = whole(workload).filter(|all| !all.is_zero() && as_a_whole(*all, length)) {
        let times = (length.burst.as_nanos() / all.as_nanos()).max(1) as u32;
        length = Length { burst: all * times, burst_max: length.burst_max.max(whole_limit(all)), ..length };
    }
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
    fn a_file_of_statements_is_done_as_a_whole_and_three_times_beside_the_bursts() {
        let folder = tempfile::tempdir().expect("a directory");
        let [database, statements] = ["app.db", "app.sql"].map(|name| folder.path().join(name));
        std::fs::write(&database, "").expect("written");
        let of = |count: usize, rest: &str| {
            std::fs::write(&statements, "BEGIN; SELECT 1; COMMIT; -- END\nSELECT 2;\n".repeat(count / 2))
                .expect("written");
            let files = format!("database = '{}'\nstatements = '{}'\n", database.display(), statements.display());
            let head = "rounds = 8\nburst = \"7ms\"\n[environments.bare]\n[workloads.\"sqlite/replay\"]\n";
            estimate(&format!("{head}{files}{rest}"))
        };
        let (short, long, longer) = (of(10, ""), of(500, ""), of(5000, ""));
        // Of 10 a burst of 7 ms has all seven times; 500 take 50 ms; 5000 are more than a burst may be, and are still rehearsed.
        let times = |a: &Estimate, b: &Estimate| a.timed.as_secs_f64() / b.timed.as_secs_f64();
        assert!((7.1..7.2).contains(&times(&long, &short)), "{long:?} {short:?}");
        assert!((0.99..1.01).contains(&times(&longer, &short)), "{longer:?} {short:?}");
        assert!(
            longer.block() > Duration::from_secs(3),
            "bare and its control do half a second three times: {longer:?}"
        );
        let part = of(500, "operations = 7\n");
        assert!(times(&part, &short) < 1.01, "{part:?}");
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
