use super::*;
use crate::comparison::{Claim, Finding, Flag, Unit};
use crate::render::{self, sample};

const WORKLOAD: &str = "disk/fsync";
const BLOCKS: u32 = 8;
/// The baseline's time of an operation over all blocks: another figure than the middle of its blocks.
const NET: f64 = 1130.0;

/// Weather that all environments of a block share, and a little of their own.
fn in_block(block: u32, cost: f64, own: u32) -> f64 {
    let weather = [0.0, 900.0, -300.0, 400.0, 100.0, -600.0, 200.0, 50.0][block as usize % 8];
    cost + weather + f64::from((block * 7 + own * 3) % 5) - 2.0
}

/// Name, settings and cost.
type Made<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

/// A run of environments of one runner, each with its settings and its cost; the baseline costs 1000.
fn run(environments: &[Made], rungs: &[&str], alternatives: &[&str]) -> Comparison {
    let mut c = sample::comparison();
    let list = |names: &[&str]| names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    c.run.suite_toml = format!(
        "[explains]\nrungs = [\"bare\", {}]\nalternatives = [{}]\nleft_out = [\"a=b: no\"]\n",
        list(rungs),
        list(alternatives)
    );
    c.run.workloads.retain(|w| w.name == WORKLOAD);
    let (mut environment, mut cell) = (
        c.environments.iter().find(|e| e.plan.name == "qemu").expect("in the sample").clone(),
        c.cell(WORKLOAD, "qemu", Metric::Throughput).expect("in the sample").clone(),
    );
    c.environments.retain(|e| e.role != Role::Compared);
    c.cells.clear();
    for (own, (name, settings, cost)) in environments.iter().enumerate() {
        environment.plan.name = (*name).into();
        environment.plan.settings = [("bus", "virtio"), ("format", "raw")]
            .iter()
            .chain(*settings)
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        environment.outcome = Outcome::Measured;
        c.environments.push(environment.clone());
        let costs: Vec<(u32, f64)> = (0..BLOCKS).map(|b| (b, in_block(b, *cost, own as u32))).collect();
        let ratios = costs.iter().map(|(b, cost)| (*b, cost / in_block(*b, 1000.0, 9))).collect();
        let one = Estimate { value: 1.0, interval: None };
        let finding = Finding {
            net: 1e9 / NET,
            gross: 1.0,
            overhead: one,
            difference: one,
            geometric: one,
            ratio_of_means: 1.0,
            ratios,
            costs,
        };
        cell = Cell {
            environment: (*name).into(),
            unit: Unit::OperationsPerSecond,
            finding: Ok(finding),
            claim: Claim::None,
            verdict: Verdict::Trusted,
            flags: Vec::new(),
            ..cell
        };
        c.cells.push(cell.clone());
    }
    c
}

const IDE: (&str, &str) = ("bus", "ide");
const QCOW2: (&str, &str) = ("format", "qcow2");

/// The engine costs 500, the bus 3000, the format 1500, and both together 700 more.
pub(crate) fn both() -> Comparison {
    run(
        &[
            ("vm", &[], 1500.0),
            ("vm-ide", &[IDE], 4500.0),
            ("slow", &[IDE, QCOW2], 6700.0),
            ("but-virtio", &[QCOW2], 3000.0),
        ],
        &["vm", "vm-ide", "slow"],
        &["but-virtio", "vm-ide"],
    )
}

fn only(c: &Comparison) -> Ladder {
    explain(c).expect("a ladder").ladders.remove(0)
}

fn near(value: f64, wanted: f64) {
    assert!((value - wanted).abs() < 6.0, "{value}, not {wanted}");
}

#[test]
fn the_steps_add_up_and_each_says_what_it_is() {
    let ladder = only(&both());
    let changes: Vec<&str> = ladder.rungs.iter().map(|r| r.change.as_str()).collect();
    assert_eq!(changes, ["bare", "vm", "bus=ide", "format=qcow2"]);
    let whole = ladder.whole.expect("known");
    near(whole.value, 5700.0);
    // The weather is a hundred times what is left of it in the difference.
    assert!(told(&whole) && whole.interval.is_some_and(|i| i.high - i.low < 10.0), "{whole:?}");
    near(ladder.sum(), whole.value);
    let steps: Vec<f64> = ladder.rungs.iter().filter_map(|r| Some(r.step?.value)).collect();
    [500.0, 3000.0, 2200.0].iter().zip(&steps).for_each(|(wanted, step)| near(*step, *wanted));
    let shares: f64 = ladder.rungs.iter().filter_map(|r| r.share).sum();
    assert!((shares - 1.0).abs() < 0.01 && ladder.doubted() == 0.0);
    assert_eq!(ladder.blocks, BLOCKS);
}

#[test]
fn what_is_below_the_noise_floor_has_no_shares_and_is_not_told() {
    let mut c = both();
    c.resolution.iter_mut().for_each(|r| r.noise_floor = Some(6.0));
    let ladder = only(&c);
    let whole = ladder.whole.expect("known");
    assert!(told(&whole) && !ladder.clear(&whole), "its own interval is close: {whole:?} {:?}", ladder.floor);
    assert!(ladder.rungs.iter().all(|rung| rung.share.is_none()), "{:?}", ladder.rungs);
    assert!(ladder.alternatives.iter().all(|alternative| alternative.share.is_none()), "{:?}", ladder.alternatives);
}

#[test]
fn the_costs_begin_at_the_net_of_the_cell_and_differ_by_the_steps() {
    let ladder = only(&both());
    let mut reached = NET;
    for rung in &ladder.rungs {
        reached += rung.step.map_or(0.0, |step| step.value);
        assert!((rung.cost.as_ref().expect("known") - reached).abs() < 1e-6, "{rung:?} is not at {reached}");
    }
    assert!((reached - NET - ladder.sum()).abs() < 1e-6);
}

#[test]
fn what_changes_one_by_one_do_not_give_back_is_interaction() {
    let ladder = only(&both());
    let gains: Vec<(&str, f64)> =
        ladder.alternatives.iter().map(|a| (a.change.as_str(), a.gain.as_ref().expect("known").value)).collect();
    assert_eq!((gains[0].0, gains[1].0), ("bus=virtio", "format=raw"));
    near(gains[0].1, 3700.0);
    near(gains[1].1, 2200.0);
    // Either gives back what both have in common: it is counted twice.
    near(ladder.interaction.expect("known").value, -700.0);
    let mut c = both();
    c.environments.retain(|e| e.plan.name != "but-virtio");
    let ladder = only(&c);
    assert!(ladder.interaction.is_none() && ladder.alternatives[0].gain.is_err(), "{ladder:?}");
}

#[test]
fn a_rung_that_can_not_run_is_left_out_and_the_next_step_holds_both() {
    let mut c = both();
    c.environments.iter_mut().find(|e| e.plan.name == "vm-ide").expect("there").outcome =
        Outcome::Skipped("no ide here".into());
    let ladder = only(&c);
    assert_eq!(ladder.rungs[2].cost, Err("no ide here".into()));
    assert!(ladder.rungs[2].step.is_none());
    assert_eq!(ladder.rungs[3].change, "bus=ide and format=qcow2");
    near(ladder.rungs[3].step.expect("known").value, 5200.0);
    near(ladder.sum(), 5700.0);
}

#[test]
fn a_rung_with_few_blocks_takes_none_from_the_others() {
    let mut c = both();
    let few = c.cells.iter_mut().find(|cell| cell.environment == "vm-ide").expect("there");
    few.finding.as_mut().expect("numbers").costs.truncate(3);
    let ladder = only(&c);
    assert_eq!(ladder.rungs[2].cost, Err("it has 3 of 8 blocks".into()));
    assert_eq!(ladder.blocks, BLOCKS);
}

#[test]
fn a_doubt_about_a_rung_is_one_about_both_its_steps() {
    let mut c = both();
    let doubted = c.cells.iter_mut().find(|cell| cell.environment == "vm-ide").expect("there");
    doubted.verdict = Verdict::Invalid;
    doubted.flags = vec![Flag { name: "memory-disk", severity: Severity::Fatal, evidence: String::new() }];
    let ladder = only(&c);
    let verdicts: Vec<Verdict> = ladder.rungs.iter().map(|r| r.verdict).collect();
    assert_eq!(verdicts, [Verdict::Trusted, Verdict::Trusted, Verdict::Invalid, Verdict::Invalid]);
    assert_eq!(ladder.rungs[2].doubts, ["memory-disk"]);
    near(ladder.doubted(), 5200.0);
}

#[test]
fn noise_is_said_to_be_noise() {
    let c = run(&[("vm", &[], 1000.0), ("slow", &[IDE], 1000.0)], &["vm", "slow"], &["vm"]);
    let ladder = only(&c);
    assert!(!told(&ladder.whole.expect("known")));
    assert!(ladder.rungs.iter().all(|r| r.share.is_none() && !r.step.as_ref().is_some_and(told)), "{ladder:?}");
}

#[test]
fn in_lists_an_environment_of_a_ladder_is_called_by_what_changes_there() {
    let mut c = both();
    c.labels = labels(&c);
    let called = |name: &'static str| c.label(name).to_string();
    assert_eq!(["vm-ide", "but-virtio"].map(called), ["+ bus=ide", "but bus=virtio"], "the first is a rung too");
    // Another engine, and who is explained.
    assert_eq!(["bare", "vm", "slow"].map(called), ["bare", "vm", "slow"]);
    for format in ["terminal", "markdown", "html", "svg"] {
        let text = render::find(format).expect("there").renderer.render(&c).expect("rendered");
        let text = String::from_utf8(text).expect("text");
        assert!(text.contains("+ bus=ide") && text.contains("but bus=virtio"), "{format}: {text}");
    }
    assert_eq!(labels(&sample::comparison()), BTreeMap::new());
}

#[test]
fn a_run_without_a_ladder_explains_nothing() {
    assert_eq!(explain(&sample::comparison()), None);
    assert_eq!(explain(&sample::hostile()), None);
    let explanation = explain(&both()).expect("a ladder");
    assert_eq!((explanation.environment.as_str(), explanation.left_out.len()), ("slow", 1));
}
