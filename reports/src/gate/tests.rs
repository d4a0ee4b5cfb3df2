//! Verdicts on the made-up run, and on copies of it that were tampered with.

use std::sync::LazyLock;

use super::*;
use crate::comparison::{Cell, ControlState, compare};
use crate::example::stored;
use crate::record::EnvironmentPlan;

fn example() -> Comparison {
    static ONCE: LazyLock<Comparison> = LazyLock::new(|| compare(&stored(), method()));
    ONCE.clone()
}

fn pair(head: &str, base: &str) -> Policy {
    Policy { head: Some(head.into()), base: Some(base.into()), ..Policy::default() }
}

fn read(text: &str) -> Policy {
    Policy::parse("gate.toml", text).expect("a policy")
}

#[track_caller]
fn refused(text: &str, says: &[&str]) {
    let error = Policy::parse("gate.toml", text).map(|p| judge(&example(), &p, &[]));
    let error = match error {
        Err(error) | Ok(Err(error)) => error.to_string(),
        Ok(Ok(gate)) => panic!("{text} was judged: {:?}", gate.verdict()),
    };
    assert!(says.iter().all(|word| error.contains(word)), "{text}: {error}");
}

#[track_caller]
fn judged<'a>(gate: &'a Gate, workload: &str, metric: Metric) -> &'a Judgement {
    let here = |j: &&Judgement| j.workload == workload && j.metric == metric;
    gate.judgements.iter().find(here).unwrap_or_else(|| panic!("nothing is said of {workload}: {gate:?}"))
}

/// The same ratio in every block but for a little noise, in all figures of a workload in an environment.
fn set(c: &mut Comparison, workload: &str, environment: &str, ratio: f64) {
    for cell in c.cells.iter_mut().filter(|cell| cell.workload == workload && cell.environment == environment) {
        if let Ok(finding) = &mut cell.finding {
            for ((block, own), (_, cost)) in finding.ratios.iter_mut().zip(&mut finding.costs) {
                *own = ratio * (1.0 + 0.002 * (f64::from(*block % 4) - 1.5));
                *cost = 100_000.0 * *own;
            }
        }
    }
}

/// A control that scatters by so much to either side, in a workload.
fn noisy(c: &mut Comparison, workload: &str, noise: f64) {
    for r in c.resolution.iter_mut().filter(|r| r.workload == workload) {
        let interval = crate::statistics::Interval { low: 1.0 / (1.0 + noise), high: 1.0 + noise, confidence: 0.95 };
        (r.control, r.noise_floor) = (Some(Estimate { value: 1.0, interval: Some(interval) }), Some(noise));
    }
}

fn cells<'a>(c: &'a mut Comparison, workload: &'a str) -> impl Iterator<Item = &'a mut Cell> {
    c.cells.iter_mut().filter(move |cell| cell.workload == workload)
}

#[test]
fn a_policy_that_is_not_understood_names_the_line_and_the_nearest_name() {
    refused(
        "head = \"runc\"\nbase = \"gvisor\"\nmargn = 0.1\n",
        &["gate.toml", "line 3", "margn", "did you mean `margin`?"],
    );
    refused("modes = [\"pared\"]\n", &["gate.toml", "line 1", "did you mean `paired`?"]);
    refused("[[rule]]\nmetric = \"p98\"\n", &["no metric `p98`", "did you mean `p9"]);
    refused("head = \"runc\"\n", &["give both"]);
    refused("margin = 5\nmargin = 6\n", &["line 2"]);
    refused("margin = 0.00001\n", &["0.05 is 5 %"]);
    refused("margin = \"5000%\"\n", &["0.05 is 5 %"]);
    refused("margin = 5\n", &["line 1", "margin = 5 is 500 %: write 0.05 or \"5%\""]);
    refused("\n[[rule]]\nmargin = 5.0\n", &["line 3", "margin = 5 is 500 %"]);
    refused("margin = \"5\"\n", &["line 1", "write 0.05 or \"5%\""]);
    refused("margin = true\n", &["line 1", "\"5%\""]);
    refused("budget = 0.9\n", &["`budget` is 0.9"]);
    refused("floor = \"two\"\n", &["`floor` is not a time", "2us"]);
    refused("modes = []\n", &["`modes` is empty"]);
    refused("[[except]]\nworkload = \"disk/fsync\"\n", &["line 1", "reason"]);
    refused("[[except]]\nworkload = \"disk/fsync\"\nreason = \" \"\n", &["needs a reason"]);
    refused("[[except]]\nreason = \"why not\"\n", &["leaves everything out"]);
}

#[test]
fn a_margin_is_a_share_or_per_cents_with_their_sign() {
    for text in ["margin = 0.05\n", "margin = \"5%\"\n", "margin = \"5.0 %\"\n", "[[rule]]\nmargin = \"5%\"\n"] {
        let policy = read(text);
        let margin = policy.all.margin.or_else(|| policy.rules.first()?.terms.margin);
        assert_eq!(margin, Some(0.05), "{text}");
    }
    assert_eq!(read("margin = \"250%\"\n").all.margin, Some(2.5), "as it says");
    assert_eq!(read("margin = 1\n").all.margin, Some(1.0));
}

#[test]
fn a_name_that_the_run_does_not_have_is_refused_with_the_nearest() {
    refused("head = \"runcc\"\nbase = \"gvisor\"\n", &["no environment `runcc`", "did you mean `runc`?"]);
    refused(
        "[[rule]]\nworkload = \"sqlite/comit\"\nbudget = 2.0\n",
        &["`sqlite/comit`", "did you mean `sqlite/commit`?"],
    );
    refused("[[except]]\nenvironment = \"zzz\"\nreason = \"r\"\n", &["`zzz`", "there are runc"]);
    refused("head = \"runc\"\nbase = \"runc\"\n", &["the same environment"]);
    refused("head = \"bare\"\nbase = \"runc\"\n", &["`head` can't be `bare`", "the baseline", "`budget`"]);
    refused("head = \"control\"\nbase = \"runc\"\n", &["`head` can't be `control`", "a second time"]);
    refused("head = \"runc\"\nbase = \"control\"\n", &["`base` can't be `control`", "name `bare` as `base`"]);
    refused("[[rule]]\nenvironment = \"bare\"\nbudget = 2.0\n", &["can't be `bare`"]);
    assert!(judge(&example(), &pair("runc", "bare"), &[]).is_ok());
}

#[test]
fn the_name_that_reports_have_for_a_metric_is_one_for_a_policy() {
    let of = |name: &str| read(&format!("[[rule]]\nmetric = \"{name}\"\nbudget = 2.0\n")).rules[0].scope.metric;
    assert_eq!((of("cost"), of("throughput")), (Some(Metric::Throughput), Some(Metric::Throughput)));
    assert_eq!(of("p99.9"), Some(Metric::P999));
    refused("[[rule]]\nmetric = \"cots\"\n", &["did you mean `cost`?"]);
}

#[test]
fn a_policy_that_asks_for_nothing_is_refused() {
    refused("margin = 0.1\n", &["asks nothing"]);
    let both = "head = \"runc\"\nbase = \"qemu\"\n[[except]]\nreason = \"r\"\nenvironment = \"runc\"\n";
    refused(both, &["left out by [[except]]", "in runc"]);
    refused("modes = [\"paired\"]\n", &["name `head` and `base`"]);
    refused("modes = [\"budget\"]\n", &["none is set", "`budget = 1.1`", "[[rule]]"]);
}

#[test]
fn what_is_worse_is_regressed_and_seen_from_the_other_side_improved() {
    let c = example();
    let gate = judge(&c, &pair("qemu", "gvisor"), &[]).unwrap();
    assert_eq!(gate.verdict(), Verdict::Regressed);
    let commit = judged(&gate, "sqlite/commit", Metric::Throughput);
    assert_eq!(commit.verdict, Verdict::Regressed, "{commit:?}");
    assert!((1.2..1.4).contains(&commit.ratio.unwrap().value), "3.1 over 2.4: {commit:?}");
    assert!((100_000.0..400_000.0).contains(&commit.difference_ns.unwrap()), "{commit:?}");
    assert_eq!(commit.blocks, 8);
    let gate = judge(&c, &pair("gvisor", "qemu"), &[]).unwrap();
    assert_eq!(judged(&gate, "sqlite/commit", Metric::Throughput).verdict, Verdict::Improved);
    // One burst of gVisor was lost: its block counts on neither side.
    assert_eq!(judged(&gate, "net/stream", Metric::Throughput).blocks, 7);
}

#[test]
fn to_pass_the_margin_has_to_be_excluded() {
    let mut c = example();
    set(&mut c, "sqlite/commit", "runc", 1.02);
    set(&mut c, "sqlite/commit", "qemu", 1.00);
    let verdict = |c: &Comparison, margin: f64| {
        let policy = Policy { all: Terms { margin: Some(margin), ..Terms::default() }, ..pair("runc", "qemu") };
        judged(&judge(c, &policy, &[]).unwrap(), "sqlite/commit", Metric::P50).clone()
    };
    // 2 % are beyond chance, and don't matter; 6 % do, and where 20 % matter they don't.
    assert_eq!(verdict(&c, 0.05).verdict, Verdict::Pass);
    set(&mut c, "sqlite/commit", "runc", 1.06);
    assert_eq!(verdict(&c, 0.05).verdict, Verdict::Regressed);
    assert_eq!(verdict(&c, 0.2).verdict, Verdict::Pass);
}

#[test]
fn less_than_the_floor_does_not_matter_whatever_its_share_is() {
    let mut c = example();
    set(&mut c, "sqlite/lookup", "runc", 1.5);
    set(&mut c, "sqlite/lookup", "qemu", 1.0);
    let verdict = |floor| {
        let policy = Policy { all: Terms { floor_ns: Some(floor), ..Terms::default() }, ..pair("runc", "qemu") };
        judged(&judge(&c, &policy, &[]).unwrap(), "sqlite/lookup", Metric::P50).verdict
    };
    assert_eq!((verdict(40_000.0), verdict(60_000.0)), (Verdict::Regressed, Verdict::Pass));
    // With a control noisier than the margin its noise counts as well: 20 % of the 150 us that an operation takes at most.
    noisy(&mut c, "sqlite/lookup", 0.2);
    let policy = |floor| Policy { all: Terms { floor_ns: Some(floor), ..Terms::default() }, ..pair("runc", "qemu") };
    let noisy = |floor| judged(&judge(&c, &policy(floor), &[]).unwrap(), "sqlite/lookup", Metric::P50).clone();
    assert_eq!(noisy(60_000.0).verdict, Verdict::Inconclusive);
    let passed = noisy(90_000.0);
    assert!(passed.verdict == Verdict::Pass && passed.because.contains("noise included: the floor"), "{passed:?}");
}

#[test]
fn a_budget_is_held_against_the_baseline() {
    let gate = |budget: &str| judge(&example(), &read(budget), &[]).unwrap();
    let of = |budget: &str| judged(&gate(budget), "sqlite/commit", Metric::Throughput).clone();
    let rule = "[[rule]]\nworkload = \"sqlite/commit\"\nenvironment = \"gvisor\"\n";
    assert_eq!(of(&format!("{rule}budget = 2.0\n")).verdict, Verdict::Regressed);
    let within = of(&format!("{rule}budget = 3.0\n"));
    assert_eq!((within.verdict, within.against.as_str(), within.limit), (Verdict::Pass, "bare", 3.0));
    let all = gate(&format!("budget = 100.0\n{rule}budget = 3.0\nmargin = 0.01\n"));
    assert!(
        all.judgements
            .iter()
            .filter(|j| j.environment == "gvisor" && j.workload == "sqlite/commit")
            .all(|j| j.limit == 3.0)
    );
    assert!(all.judgements.iter().any(|j| j.environment == "runc" && j.limit == 100.0));
}

#[test]
fn what_was_not_measured_is_invalid_and_says_why() {
    let gate = judge(&example(), &pair("crun", "runc"), &[]).unwrap();
    assert!(
        gate.judgements.iter().all(|j| j.verdict == Verdict::Invalid && j.because.contains("hybrid mode")),
        "{gate:?}"
    );
    let gate = judge(&example(), &pair("runc", "crun"), &[]).unwrap();
    assert_eq!(gate.verdict(), Verdict::Invalid);
}

#[test]
fn a_run_that_can_not_be_believed_is_invalid() {
    let mut c = example();
    c.ending = Ending::Unfinished;
    let gate = judge(&c, &pair("runc", "qemu"), &[]).unwrap();
    assert!(gate.judgements.iter().all(|j| j.verdict == Verdict::Invalid && j.because.contains("not at its end")));
    c.ending = Ending::Interrupted;
    let gate = judge(&c, &pair("runc", "qemu"), &[]).unwrap();
    assert!(gate.notes[0].contains("ended early") && gate.verdict() != Verdict::Invalid, "{gate:?}");
    c.invalid.push("40 of 100 rounds are void".into());
    let gate = judge(&c, &pair("runc", "qemu"), &[]).unwrap();
    assert!(gate.judgements.iter().all(|j| j.verdict == Verdict::Invalid && j.because.contains("void")));
    assert!(gate.judgements.iter().all(|j| j.enough.as_ref().is_some_and(|e| e.contains("run --resume"))), "{gate:?}");
}

#[test]
fn a_control_that_failed_makes_its_figure_invalid_and_no_other() {
    let gate = judge(&failing(1.02, 1.06), &pair("qemu", "runc"), &[]).unwrap();
    let rr = judged(&gate, "net/rr", Metric::P50);
    assert_eq!((rr.verdict, rr.because.as_str()), (Verdict::Invalid, "the copies differ"));
    assert_ne!(judged(&gate, "net/rr", Metric::Throughput).verdict, Verdict::Invalid);
}

/// The example with a control of net/rr's median that failed, and whose interval has these ends.
fn failing(low: f64, high: f64) -> Comparison {
    let mut c = example();
    let failed = |r: &&mut crate::comparison::Resolution| r.workload == "net/rr" && r.metric == Metric::P50;
    let resolution = c.resolution.iter_mut().find(failed).unwrap();
    resolution.state = ControlState::Failed("the copies differ".into());
    let control = resolution.control.as_mut().unwrap();
    control.value = (low * high).sqrt();
    let interval = control.interval.as_mut().unwrap();
    (interval.low, interval.high) = (low, high);
    c
}

#[test]
fn what_passes_with_the_difference_of_the_copies_added_has_passed() {
    let of = |c: &Comparison| {
        let gate = judge(c, &pair("qemu", "runc"), &[]).unwrap();
        judged(&gate, "net/rr", Metric::P50).clone()
    };
    let (sound, differing) = (of(&example()), of(&failing(1.001, 1.010)));
    assert_eq!((sound.verdict, differing.verdict), (Verdict::Regressed, Verdict::Invalid), "nobody knows");
    assert_eq!(differing.because, "the copies differ");
    // It may be what keeps the upper end below the limit.
    let Some(interval) = sound.ratio.and_then(|ratio| ratio.interval) else { panic!("an interval") };
    let all = Terms { margin: Some(interval.high * 1.02 - 1.0), floor_ns: Some(0.0), ..Terms::default() };
    let policy = Policy { all, ..pair("qemu", "runc") };
    let of = |c: &Comparison| {
        let gate = judge(c, &policy, &[]).unwrap();
        judged(&gate, "net/rr", Metric::P50).clone()
    };
    let passed = of(&failing(1.001, 1.010));
    assert_eq!((of(&example()).verdict, passed.verdict), (Verdict::Pass, Verdict::Pass));
    assert!(passed.notes.iter().any(|note| note == "the copies differ, which is counted as error"), "{passed:?}");
    assert_eq!(of(&failing(1.0, 1.03)).verdict, Verdict::Invalid);
}

#[test]
fn a_machine_that_can_not_see_the_margin_lets_nothing_pass_but_sees_what_is_beyond_its_noise() {
    let mut c = example();
    set(&mut c, "sqlite/commit", "qemu", 1.0);
    noisy(&mut c, "sqlite/commit", 0.11);
    let verdict = |c: &mut Comparison, ratio| {
        set(c, "sqlite/commit", "runc", ratio);
        judged(&judge(c, &pair("runc", "qemu"), &[]).unwrap(), "sqlite/commit", Metric::P50).clone()
    };
    let equal = verdict(&mut c, 1.0);
    assert_eq!(equal.verdict, Verdict::Inconclusive);
    assert!(equal.because.contains("can't see changes of 5") && equal.enough.unwrap().contains("more blocks"));
    assert_eq!(verdict(&mut c, 1.1).verdict, Verdict::Inconclusive, "within what two copies of the baseline differ by");
    assert_eq!(verdict(&mut c, 1.3).verdict, Verdict::Regressed);
}

#[test]
fn a_side_that_does_not_do_the_work_is_invalid_but_not_beside_its_like() {
    let gate = judge(&example(), &pair("qemu-unsafe", "qemu"), &[]).unwrap();
    let fsync = judged(&gate, "disk/fsync", Metric::P50);
    assert!(fsync.verdict == Verdict::Invalid && fsync.because.contains("fsync-not-durable"), "{fsync:?}");
    let mut c = example();
    for cell in cells(&mut c, "disk/fsync").filter(|cell| cell.environment == "qemu") {
        cell.flags.push(crate::comparison::Flag {
            name: "fsync-not-durable",
            severity: crate::comparison::Severity::Fatal,
            evidence: "no flush".into(),
        });
    }
    let gate = judge(&c, &pair("qemu-unsafe", "qemu"), &[]).unwrap();
    assert_eq!(judged(&gate, "disk/fsync", Metric::P50).verdict, Verdict::Improved);
    let budget = judge(&c, &read("[[rule]]\nenvironment = \"qemu-unsafe\"\nbudget = 9.0\n"), &[]).unwrap();
    assert_eq!(judged(&budget, "disk/fsync", Metric::P50).verdict, Verdict::Invalid, "the baseline does flush");
}

#[test]
fn a_tail_that_is_withheld_is_left_out_unless_the_policy_names_it() {
    let left = |gate: &Gate| gate.left_out.iter().filter(|l| l.metric == Metric::P99).count();
    let gate = judge(&example(), &pair("runc", "gvisor"), &[]).unwrap();
    assert!(left(&gate) > 0 && gate.left_out.iter().all(|l| l.reason.contains("needed")), "{gate:?}");
    let named = Policy { rules: read("[[rule]]\nmetric = \"p99\"\n").rules, ..pair("runc", "gvisor") };
    let gate = judge(&example(), &named, &[]).unwrap();
    assert_eq!(left(&gate), 0);
    let p99 = judged(&gate, "sqlite/commit", Metric::P99);
    assert!(p99.verdict == Verdict::Invalid && p99.because.contains("more sample"), "{p99:?}");
}

#[test]
fn a_tail_that_one_side_withholds_is_invalid() {
    let mut c = example();
    let other = c.cell("net/rr", "qemu", Metric::P50).unwrap().finding.clone();
    for cell in cells(&mut c, "net/rr").filter(|cell| cell.environment == "qemu" && cell.metric == Metric::P99) {
        cell.finding = other.clone();
    }
    let gate = judge(&c, &pair("runc", "qemu"), &[]).unwrap();
    let p99 = judged(&gate, "net/rr", Metric::P99);
    assert!(p99.verdict == Verdict::Invalid && p99.because.contains("no p99 of runc"), "{p99:?}");
}

#[test]
fn what_is_left_out_is_listed_with_its_reason() {
    let exceptions = read("[[except]]\nworkload = \"disk/fsync\"\nreason = \"two regimes\"\n").exceptions;
    let gate = judge(&example(), &Policy { exceptions, ..pair("qemu", "gvisor") }, &[]).unwrap();
    assert!(gate.judgements.iter().all(|j| j.workload != "disk/fsync"));
    assert!(gate.left_out.iter().any(|l| l.workload == "disk/fsync" && l.reason == "two regimes"));
}

/// Accepted runs in which a workload cost so much in `runc`.
fn past(overheads: &[f64]) -> Vec<Past> {
    let one = |overhead: &f64| Past {
        workload: "sqlite/commit".into(),
        environment: "runc".into(),
        metric: Metric::Throughput,
        overhead: Known { value: overhead.ln(), error: 0.002 },
        blocks: 12,
    };
    overheads.iter().map(one).collect()
}

fn against_history(ratio: f64, accepted: &[f64]) -> Judgement {
    let mut c = example();
    set(&mut c, "sqlite/commit", "runc", ratio);
    let policy = "[[rule]]\nworkload = \"sqlite/commit\"\nenvironment = \"runc\"\nmodes = [\"history\"]\n";
    judged(&judge(&c, &read(policy), &past(accepted)).unwrap(), "sqlite/commit", Metric::Throughput).clone()
}

#[test]
fn a_history_of_fewer_than_ten_runs_is_no_baseline() {
    let j = against_history(1.0, &[1.0; 7]);
    assert_eq!(j.verdict, Verdict::NoBaseline);
    let enough = j.enough.expect("what would be enough");
    assert!(enough.starts_with("3 more accepted runs") && enough.contains("accept RUN --add --reason"), "{enough}");
    let one = against_history(1.0, &[1.0; 1]);
    assert!(one.because.starts_with("1 accepted run of"), "{one:?}");
}

#[test]
fn a_run_is_held_against_its_history_and_the_scatter_of_that() {
    let steady: Vec<f64> = (0..12).map(|i| 1.1 + 0.004 * f64::from(i % 3)).collect();
    assert_eq!(against_history(1.1, &steady).verdict, Verdict::Pass);
    let worse = against_history(1.25, &steady);
    assert_eq!(worse.verdict, Verdict::Regressed, "{worse:?}");
    assert_eq!(worse.against, "accepted runs");
    assert_eq!(against_history(0.98, &steady).verdict, Verdict::Improved);
    // The same step in a history that wanders by as much shows nothing.
    let wandering: Vec<f64> = (0..12).map(|i| 1.1 + 0.05 * f64::from(i % 4)).collect();
    assert_eq!(against_history(1.25, &wandering).verdict, Verdict::Inconclusive);
}

#[test]
fn the_upper_level_of_a_history_of_two_levels_is_nothing_new() {
    let two: Vec<f64> = (0..20).map(|i| if i < 2 { 1.3 } else { 1.1 }).collect();
    assert_eq!(against_history(1.29, &two).verdict, Verdict::Inconclusive);
    assert_eq!(against_history(1.9, &two).verdict, Verdict::Regressed);
}

#[test]
fn a_second_run_decides_about_what_the_first_could_not_clear_and_about_nothing_else() {
    let mut first = example();
    set(&mut first, "sqlite/commit", "qemu", 1.0);
    set(&mut first, "sqlite/commit", "runc", 1.2);
    set(&mut first, "net/rr", "qemu", 1.0);
    set(&mut first, "net/rr", "runc", 1.0);
    let screen = judge(&first, &pair("runc", "qemu"), &[]).unwrap();
    assert_eq!(judged(&screen, "sqlite/commit", Metric::P50).verdict, Verdict::Regressed);
    assert_eq!(judged(&screen, "net/rr", Metric::P50).verdict, Verdict::Pass);
    let mut second = first.clone();
    second.run.id = "second".into();
    set(&mut second, "sqlite/commit", "runc", 1.0);
    set(&mut second, "net/rr", "runc", 1.2);
    let gate = confirm(&second, &pair("runc", "qemu"), &[], &screen).unwrap();
    assert_eq!(gate.confirmed_by.as_deref(), Some("second"));
    assert_eq!(judged(&gate, "sqlite/commit", Metric::P50).verdict, Verdict::Pass, "not confirmed");
    assert_eq!(judged(&gate, "net/rr", Metric::P50).verdict, Verdict::Pass, "it was cleared, and is not asked again");
    assert_eq!(gate.judgements.len(), screen.judgements.len());
    // A second run that says nothing of a suspicion leaves it open, and never red or green.
    for cell in cells(&mut second, "sqlite/commit") {
        cell.finding = Err(crate::comparison::Withheld::TooFewOperations { have: 1, more: 9 });
    }
    let gate = confirm(&second, &pair("runc", "qemu"), &[], &screen).unwrap();
    assert_eq!(judged(&gate, "sqlite/commit", Metric::P50).verdict, Verdict::Inconclusive);
    // Nor does one that lacks what another policy asks for, and which no further blocks can be added to.
    second.run.workloads.retain(|w| w.name != "sqlite/commit");
    let gate = confirm(&second, &pair("runc", "qemu"), &[], &screen).unwrap();
    let commit = judged(&gate, "sqlite/commit", Metric::P50);
    assert!(commit.verdict == Verdict::Inconclusive && commit.because.contains("says nothing of it"), "{commit:?}");
    assert_eq!(commit.enough.as_deref(), Some("both runs anew under this policy"));
}

#[test]
fn head_and_base_of_the_same_bytes_are_an_a_a_run() {
    let mut c = example();
    assert_eq!(judge(&c, &pair("runc", "gvisor"), &[]).unwrap().same, None);
    let runc = c.environment("runc").unwrap().plan.clone();
    assert!(runc.programs.iter().any(|p| p.sha256.is_some()), "{runc:?}");
    let other = c.environments.iter_mut().find(|e| e.plan.name == "gvisor").unwrap();
    other.plan = EnvironmentPlan { name: "gvisor".into(), ..runc };
    let same = judge(&c, &pair("runc", "gvisor"), &[]).unwrap().same.unwrap();
    assert!(same.contains("A/A run"), "{same}");
    // Of a script the hash says nothing of what it starts.
    for environment in c.environments.iter_mut().filter(|e| ["runc", "gvisor"].contains(&e.plan.name.as_str())) {
        environment.plan.programs[0].script = Some(true);
    }
    let gate = judge(&c, &pair("runc", "gvisor"), &[]).unwrap();
    assert_eq!(gate.same, None);
    let unknown = |note: &&String| note.contains("isn't known") && note.contains("/usr/bin/runc is a script");
    assert_eq!(gate.notes.iter().filter(unknown).count(), 1, "{:?}", gate.notes);
}

#[test]
fn a_run_of_the_baseline_alone_has_nothing_to_judge() {
    let error = pair("head", "base").check(&["net/rr"], &[], "bare").unwrap_err().to_string();
    assert!(error.contains("no environment `head` to judge, nor any other"), "{error}");
}

#[test]
fn a_run_that_was_gone_on_with_says_so() {
    let mut c = example();
    let note = |c: &Comparison| judge(c, &pair("qemu", "gvisor"), &[]).unwrap().notes.join("\n");
    assert!(!note(&c).contains("gone on"));
    c.run.host.push((crate::record::RESUMED.into(), "at 2026-01-02T03:04:05Z, after 6 blocks".into()));
    assert!(note(&c).contains("gone on with at 2026-01-02T03:04:05Z, after 6 blocks"), "{}", note(&c));
}

#[test]
fn nothing_judged_is_nothing_passed() {
    let mut gate = judge(&example(), &pair("qemu", "gvisor"), &[]).unwrap();
    gate.judgements.clear();
    assert_eq!(gate.verdict(), Verdict::Invalid);
}

#[test]
fn five_blocks_are_inconclusive_and_say_how_many_are_missing() {
    let mut c = example();
    for cell in &mut c.cells {
        if let Ok(finding) = &mut cell.finding {
            finding.ratios.truncate(4);
            finding.costs.truncate(4);
        }
    }
    let gate = judge(&c, &pair("qemu", "gvisor"), &[]).unwrap();
    let commit = judged(&gate, "sqlite/commit", Metric::P50);
    assert_eq!(commit.verdict, Verdict::Inconclusive, "{commit:?}");
    assert!(
        commit.because.contains("too few") && commit.enough.as_ref().unwrap().contains("2 more blocks"),
        "{commit:?}"
    );
}

/// The run with so many blocks of everything, and a control that is unknown for a reason.
fn cut(blocks: usize, control: Option<&str>) -> Comparison {
    let mut c = example();
    for (environment, ratio) in [("qemu", 1.0), ("gvisor", 1.0), ("runc", 1.0)] {
        set(&mut c, "sqlite/commit", environment, ratio);
    }
    for cell in &mut c.cells {
        if let Ok(finding) = &mut cell.finding {
            finding.ratios.truncate(blocks);
            finding.costs.truncate(blocks);
        }
    }
    for r in c.resolution.iter_mut().filter(|_| control.is_some()) {
        (r.control, r.noise_floor) = (None, None);
        r.state = ControlState::Unknown(control.unwrap_or_default().into());
    }
    c
}

#[test]
fn what_an_unknown_control_or_too_few_blocks_leave_open_never_passes_nor_is_it_better_or_worse() {
    let budget = read("[[rule]]\nworkload = \"sqlite/commit\"\nenvironment = \"qemu\"\nbudget = 1.3\n");
    let all = |c: &Comparison| {
        [&pair("qemu", "gvisor"), &budget]
            .map(|p| judged(&judge(c, p, &[]).unwrap(), "sqlite/commit", Metric::P50).clone())
    };
    assert!(all(&cut(8, None)).iter().all(|j| j.verdict == Verdict::Pass));
    for j in all(&cut(8, Some("the control has no value here"))) {
        assert_eq!(j.verdict, Verdict::Inconclusive, "{j:?}");
        assert!(j.because.contains("no value here") && j.enough.unwrap().contains("control"));
    }
    for blocks in 2..6 {
        for control in [None, Some("no interval")] {
            for j in all(&cut(blocks, control)) {
                assert_eq!(j.verdict, Verdict::Inconclusive, "{blocks} blocks: {j:?}");
                assert!(j.enough.unwrap().starts_with(&format!("{} more block", 6 - blocks)));
            }
        }
    }
    let mut none = cut(8, None);
    none.resolution.clear();
    assert!(all(&none).iter().all(|j| j.verdict == Verdict::Inconclusive && j.because.contains("no control")));
    // Twice the time, or half of it, by so few blocks says no more.
    for factor in [2.0, 0.5] {
        let mut few = cut(5, Some("no interval"));
        set(&mut few, "sqlite/commit", "qemu", factor);
        assert!(all(&few).iter().all(|j| j.verdict == Verdict::Inconclusive));
    }
}

#[test]
fn a_history_wants_six_blocks_of_this_run_and_of_each_that_it_is_held_against() {
    let policy = read("[[rule]]\nworkload = \"sqlite/commit\"\nenvironment = \"runc\"\nmodes = [\"history\"]\n");
    let of = |blocks: usize, accepted: &[Past]| {
        let gate = judge(&cut(blocks, None), &policy, accepted).unwrap();
        judged(&gate, "sqlite/commit", Metric::Throughput).clone()
    };
    let mut accepted = past(&[1.4; 12]);
    assert_eq!(of(8, &accepted).verdict, Verdict::Improved);
    let few = of(2, &accepted);
    assert_eq!(
        (few.verdict, few.enough.as_deref()),
        (Verdict::Inconclusive, Some("4 more blocks at least")),
        "{few:?}"
    );
    accepted[0].blocks = 2;
    assert_eq!(of(8, &accepted).verdict, Verdict::Improved, "eleven others are enough");
    accepted.iter_mut().for_each(|p| p.blocks = 5);
    let short = of(8, &accepted);
    assert_eq!(short.verdict, Verdict::Inconclusive);
    assert!(short.because.contains("fewer than 6 blocks") && short.enough.unwrap().starts_with("10 more"));
}

#[test]
fn where_several_runs_say_that_they_confirm_none_of_them_does() {
    let screen = judge(&example(), &pair("qemu", "gvisor"), &[]).unwrap();
    assert_eq!(screen.verdict(), Verdict::Regressed);
    let gate = disputed(&screen, &["one", "two"]);
    assert_eq!(gate.verdict(), Verdict::Invalid);
    assert_eq!(gate.of(Verdict::Invalid).count(), screen.suspects().count() + screen.of(Verdict::Invalid).count());
    assert!(gate.notes.iter().any(|note| note.contains("one, two")) && gate.suspects().next().is_none());
}
