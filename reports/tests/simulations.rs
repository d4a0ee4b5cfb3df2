//! Whether the statistics keep their promises on made-up machines with drift, noisy starts and heavy tails.
//!
//! Seeds are fixed, so these are tests of the method and not of luck.

mod dice;

use dice::Dice;
use reports::comparison::precision;
use reports::statistics::{
    Interval, critical_rank, hodges_lehmann, holm, p_above, p_mean_above, smallest_visible, student_mean,
    walsh_averages,
};

const RUNS: usize = 4000;

/// In which order two environments take their bursts.
#[derive(Clone, Copy)]
enum Order {
    /// Drawn in every round.
    Random,
    /// All of one, then all of the other.
    OneAfterTheOther,
}

/// A machine: everything in log units.
#[derive(Clone, Copy)]
struct Machine {
    blocks: usize,
    rounds: usize,
    /// Standard deviation of what a start costs or gains for its life.
    start: f64,
    /// Standard deviation of a burst.
    burst: f64,
    /// Standard deviation of a step of the machine's own random walk, per burst.
    walk: f64,
    order: Order,
}

const MACHINE: Machine = Machine { blocks: 12, rounds: 4, start: 0.03, burst: 0.04, walk: 0.02, order: Order::Random };

impl Machine {
    /// One run of two environments, the second worse by `effect`: the difference of each block.
    fn run(self, effect: f64, dice: &mut Dice) -> Vec<f64> {
        let bursts = 2 * self.blocks * self.rounds;
        let mut state = 0.0;
        let weather: Vec<f64> = (0..bursts)
            .map(|_| {
                state += self.walk * dice.normal();
                state
            })
            .collect();
        (0..self.blocks)
            .map(|block| {
                let offset = self.start * (dice.normal() - dice.normal());
                let rounds = (0..self.rounds).map(|round| {
                    let nth = block * self.rounds + round;
                    let (a, b) = match self.order {
                        Order::Random if dice.uniform() < 0.5 => (2 * nth, 2 * nth + 1),
                        Order::Random => (2 * nth + 1, 2 * nth),
                        Order::OneAfterTheOther => (nth, bursts / 2 + nth),
                    };
                    weather[b] - weather[a] + self.burst * (dice.normal() - dice.normal())
                });
                effect + offset + rounds.sum::<f64>() / self.rounds as f64
            })
            .collect()
    }

    /// The share of runs whose interval does not contain the effect.
    fn misses(self, effect: f64, seed: u64) -> f64 {
        let mut dice = Dice::new(seed);
        let missed = (0..RUNS).filter(|_| !interval(&self.run(effect, &mut dice)).contains(effect));
        missed.count() as f64 / RUNS as f64
    }
}

fn interval(d: &[f64]) -> Interval {
    hodges_lehmann(d, 0.95).and_then(|e| e.interval).expect("enough blocks for an interval")
}

#[test]
fn equal_environments_differ_in_one_run_of_twenty() {
    for (blocks, seed) in [(8, 1), (12, 2), (20, 3), (30, 4)] {
        let share = Machine { blocks, ..MACHINE }.misses(0.0, seed);
        assert!((0.03..=0.06).contains(&share), "{blocks} blocks: {share}");
    }
}

#[test]
fn the_interval_holds_the_truth_in_nineteen_runs_of_twenty() {
    let share = MACHINE.misses(0.25, 5);
    assert!((0.03..=0.06).contains(&share), "{share}");
}

#[test]
fn one_after_the_other_would_be_wrong_most_of_the_time() {
    let share = Machine { order: Order::OneAfterTheOther, ..MACHINE }.misses(0.0, 6);
    assert!(share > 0.4, "drift no longer fools the wrong order ({share}): the other tests show nothing");
}

#[test]
fn counting_bursts_instead_of_starts_would_be_wrong_often() {
    // One start with many bursts: its offset looks like a difference between the environments.
    let mut dice = Dice::new(7);
    let alarms = (0..RUNS).filter(|_| {
        let offset = 0.03 * (dice.normal() - dice.normal());
        let bursts: Vec<f64> = (0..48).map(|_| offset + 0.04 * (dice.normal() - dice.normal())).collect();
        !interval(&bursts).contains(0.0)
    });
    let share = alarms.count() as f64 / RUNS as f64;
    assert!(share > 0.5, "{share}");
}

#[test]
fn heavy_tails_do_not_spoil_the_interval() {
    let mut dice = Dice::new(8);
    let missed = (0..RUNS).filter(|_| {
        let d: Vec<f64> = (0..12).map(|_| 0.1 + 0.05 * dice.heavy()).collect();
        !interval(&d).contains(0.1)
    });
    let share = missed.count() as f64 / RUNS as f64;
    assert!((0.03..=0.06).contains(&share), "{share}");
}

#[test]
fn with_heavy_tails_ranks_see_more_than_means() {
    let mut dice = Dice::new(9);
    let (mut ranks, mut means) = (0.0, 0.0);
    for _ in 0..RUNS {
        let d: Vec<f64> = (0..12).map(|_| 0.05 * dice.heavy()).collect();
        let t = student_mean(&d, 0.95).and_then(|e| e.interval).expect("twelve values");
        ranks += interval(&d).high - interval(&d).low;
        means += t.high - t.low;
    }
    assert!(ranks < means, "{ranks} {means}");
}

#[test]
fn a_change_of_the_smallest_visible_size_is_seen_four_times_in_five() {
    for (blocks, seed) in [(8, 13), (12, 10), (24, 11)] {
        let mut dice = Dice::new(seed);
        let effect = smallest_visible(0.05, blocks).ln_1p();
        let seen = (0..RUNS).filter(|_| {
            let d: Vec<f64> = (0..blocks).map(|_| effect + 0.05 * dice.normal()).collect();
            p_above(&d, 0.0) < 0.05
        });
        let share = seen.count() as f64 / RUNS as f64;
        assert!((0.76..=0.86).contains(&share), "{blocks} blocks: {share}");
    }
}

#[test]
fn no_change_is_called_worse_in_one_run_of_twenty_at_most() {
    let mut dice = Dice::new(12);
    let alarms = (0..RUNS).filter(|_| p_above(&MACHINE.run(0.0, &mut dice), 0.0) < 0.05);
    let share = alarms.count() as f64 / RUNS as f64;
    assert!((0.03..=0.06).contains(&share), "{share}");
}

/// Boxes and workloads of a run of the default suite.
const BOXES: usize = 7;
const WORKLOADS: usize = 8;

/// Whether a run in which every box is a copy of the baseline, but the last by `effect`, makes a claim of the last, and of any
/// other: both copies of the baseline are the denominator, the margin is 5 %, and all of the run is one family.
fn claims(blocks: usize, noise: f64, effect: f64, dice: &mut Dice) -> (bool, bool) {
    let mut p = Vec::new();
    for _ in 0..WORKLOADS {
        let noisy = |dice: &mut Dice| noise * (0.7 * dice.normal() + 0.3 * dice.heavy());
        let base: Vec<f64> = (0..blocks).map(|_| (noisy(dice) + noisy(dice)) / 2.0).collect();
        for which in 0..BOXES {
            let own = if which + 1 == BOXES { effect } else { 0.0 };
            let worse: Vec<f64> = base.iter().map(|base| own + noisy(dice) - base).collect();
            let better: Vec<f64> = worse.iter().map(|d| -d).collect();
            let margin = 0.05f64.ln_1p();
            p.push((2.0 * p_mean_above(&worse, margin).min(p_mean_above(&better, margin))).min(1.0));
        }
    }
    let adjusted = holm(&p);
    let claimed = |last: bool| (0..p.len()).any(|i| adjusted[i] < 0.05 && ((i + 1) % BOXES == 0) == last);
    (claimed(true), claimed(false))
}

#[test]
fn of_twenty_runs_in_which_nothing_differs_at_most_one_makes_a_claim() {
    let mut dice = Dice::new(11);
    for noise in [0.01, 0.03, 0.10, 0.30] {
        const RUNS: usize = 400;
        let made = (0..RUNS).map(|_| claims(8, noise, 0.0, &mut dice)).filter(|(a, b)| *a || *b).count();
        assert!(made * 20 <= RUNS, "{made} of {RUNS} runs at a noise of {noise}");
    }
}

#[test]
fn a_box_at_half_speed_is_claimed_in_eight_blocks_and_the_others_are_not() {
    let mut dice = Dice::new(12);
    let runs: Vec<_> = (0..200).map(|_| claims(8, 0.05, 2f64.ln(), &mut dice)).collect();
    let (found, false_claims) = (runs.iter().filter(|r| r.0).count(), runs.iter().filter(|r| r.1).count());
    assert!(found == 200 && false_claims <= 10, "{found} found, {false_claims} false claims");
}

/// When a run of one comparison is over.
#[derive(Clone, Copy)]
enum Stop {
    /// When the interval was narrower than this to either side at as many looks in a row as `run --until` wants: by width.
    Narrow(f64),
    /// When the interval doesn't hold 0: by significance.
    Different,
}

/// The share of runs in which nothing differs whose interval says otherwise. Looks are those of `run --until`: after 12 blocks,
/// and every 4 from then on; there are at most 40.
fn stopped(stop: Stop, heavy: bool, seed: u64) -> f64 {
    const RUNS: usize = 1200;
    const MOST: usize = 40;
    let ranks: Vec<usize> = (0..=MOST).map(|n| critical_rank(n, 0.95)).collect();
    let mut dice = Dice::new(seed);
    let mut alarms = 0;
    for _ in 0..RUNS {
        let (mut d, mut narrow): (Vec<f64>, u32) = (Vec::new(), 0);
        let holds_zero = loop {
            d.push(if heavy { dice.heavy() / 3f64.sqrt() } else { dice.normal() });
            if !precision::is_look(d.len() as u32) {
                continue;
            }
            let averages = walsh_averages(&d);
            let (low, high) = (averages[ranks[d.len()] - 1], averages[averages.len() - ranks[d.len()]]);
            let holds_zero = low <= 0.0 && 0.0 <= high;
            let over = match stop {
                Stop::Narrow(half) => {
                    narrow = if (high - low) / 2.0 < half { narrow + 1 } else { 0 };
                    narrow >= precision::IN_A_ROW
                }
                Stop::Different => !holds_zero,
            };
            if over || d.len() == MOST {
                break holds_zero;
            }
        };
        alarms += usize::from(!holds_zero);
    }
    alarms as f64 / RUNS as f64
}

#[test]
fn stopping_by_width_keeps_its_promise_and_stopping_by_significance_does_not() {
    let share =
        |stop| [(false, 31), (true, 32), (false, 33), (true, 34)].map(|(heavy, seed)| stopped(stop, heavy, seed));
    let mean = |stop| share(stop).iter().sum::<f64>() / 4.0;
    for half in [0.4, 0.5, 0.6] {
        let alarms = mean(Stop::Narrow(half));
        assert!((0.04..=0.06).contains(&alarms), "{half}: {alarms}");
    }
    let peeking = mean(Stop::Different);
    assert!(peeking > 0.12, "{peeking}: looks no longer fool the wrong rule, the other test shows nothing");
}
