//! The comparison of the made-up run, and of runs that were cut off, damaged or proved wrong.

use workloads::Check;

use super::*;
use crate::comparison::quantile;
use crate::example::{Example, stored};
use crate::record::{Stored, Void};

fn comparison(stored: &Stored) -> Comparison {
    compare(stored, Method::default())
}

fn has(flags: &[Flag], name: &str) -> bool {
    flags.iter().any(|f| f.name == name)
}

#[test]
fn overheads_that_were_put_in_come_out() {
    let c = comparison(&stored());
    for (workload, environment, metric, truth) in [
        ("sqlite/commit", "gvisor", Metric::P50, 2.4),
        ("disk/fsync", "qemu", Metric::P50, 2.2),
        ("net/rr", "gvisor", Metric::P99, 3.4),
        ("net/stream", "qemu", Metric::Throughput, 11.0),
        ("sqlite/lookup", "runc", Metric::Mean, 1.01),
    ] {
        let cell = c.cell(workload, environment, metric).expect("a cell");
        let overhead = cell.overhead().expect("a value");
        assert!((overhead.value / truth - 1.0).abs() < 0.03, "{workload} {environment}: {overhead:?}");
        // Whether intervals hold the truth as often as they say is for the simulations to show: one run proves nothing.
        assert!(overhead.interval.expect("eight blocks").contains(overhead.value));
    }
    let stream = c.cell("net/stream", "qemu", Metric::Throughput).expect("a cell");
    let finding = stream.finding.as_ref().expect("numbers");
    assert_eq!(stream.unit.name(), "B/s");
    assert!(finding.gross < finding.net && finding.difference.value > 0.0, "worse is fewer bytes and more time");
    let [_, _, tare] = crate::render::words::figures(stream, finding);
    assert!(finding.tare(stream.unit) > 0.0 && tare.starts_with('+'), "and a plus is worse: {tare}");
    let slower = c.cell("sqlite/commit", "gvisor", Metric::P50).expect("a cell");
    assert!(slower.finding.as_ref().is_ok_and(|f| f.tare(slower.unit) > 0.0));
    assert_eq!(c.control.len(), 9 * Metric::ALL.len());
    assert!(c.invalid.is_empty(), "{:?}", c.invalid);
}

#[test]
fn in_open_loop_cells_are_of_response_times_and_service_times_stand_beside_them() {
    let c = comparison(&stored());
    let d = c.distribution("net/paced", "qemu").expect("a distribution");
    let open = d.open.as_ref().expect("its operations arrive by a schedule");
    let (response, service) = (quantile(&d.histogram.open(), 0.5), quantile(&open.service.open(), 0.5));
    assert_eq!(d.latency, Latency::Response);
    assert!((50e3..60e3).contains(&service), "2.6 times 21 us: {service}");
    assert!(response > 20.0 * service, "what can't be done in time waits: {response}");
    let finding = c.cell("net/paced", "qemu", Metric::P50).and_then(|c| c.finding.clone().ok()).expect("numbers");
    assert!((finding.gross / response - 1.0).abs() < 1e-9);
    assert!(open.done < 0.95 * open.rate && open.rate == 20_000.0, "{}", open.done);
    let closed = c.distribution("net/rr", "qemu").expect("a distribution");
    assert_eq!((closed.latency, &closed.open), (Latency::Service, &None));
    assert_eq!(closed.service(), &closed.histogram);
}

#[test]
fn response_times_that_were_not_kept_are_a_failure_and_no_service_times() {
    let mut lost = Example { blocks: 1, ..Example::default() }.build();
    for record in lost.records.iter_mut().filter(|r| r.workload == "net/paced" && r.environment == "runc") {
        record.outcome.as_mut().expect("a sample").response = None;
    }
    let c = comparison(&lost);
    assert!(c.distribution("net/paced", "runc").is_none());
    assert!(c.failures.iter().any(|f| f.message.contains("no response times were kept")), "{:?}", c.failures);
}

#[test]
fn counters_are_added_up_over_what_counts() {
    let c = comparison(&stored());
    let d = c.distribution("sqlite/writers", "runc").expect("a distribution");
    assert_eq!(d.counters["busy"], 9 * 2 * 8);
    assert_eq!((d.operations, d.warmup_operations), (240 * 2 * 8, 60 * 2 * 8));
    assert!((d.per_thousand(9 * 2 * 8) - 30.0).abs() < 1e-9);
}

#[test]
fn the_heat_map_has_every_operation_that_counts() {
    let c = comparison(&stored());
    for (workload, environment) in [("sqlite/commit", "runc"), ("net/stream", "gvisor"), ("net/paced", "bare")] {
        let d = c.distribution(workload, environment).expect("a distribution");
        let heat = d.heat.as_ref().expect("the example has timelines");
        assert_eq!(heat.counts.values().sum::<u64>(), d.operations, "{workload}");
        assert_eq!(heat.blocks, 8);
    }
    let gap = c.distribution("net/stream", "gvisor").and_then(|d| d.heat.clone()).expect("it has one");
    let width = gap.columns / gap.blocks;
    assert!(gap.counts.keys().all(|(_, column)| column / width != 3), "block 3 lost a burst and doesn't count");
}

#[test]
fn the_control_says_what_can_be_seen() {
    let c = comparison(&stored());
    let r = c.resolution("sqlite/lookup", Metric::P50).expect("a resolution");
    assert!(r.control.and_then(|e| e.interval).is_some_and(|i| i.contains(1.0)), "{r:?}");
    assert!(r.noise_floor.is_some_and(|f| (0.002..0.05).contains(&f)), "{r:?}");
    assert!(r.smallest_visible.is_some_and(|f| (0.002..0.08).contains(&f)), "{r:?}");
    assert_eq!(r.state, ControlState::Sound);
    let tail = c.resolution("disk/fsync", Metric::P999).expect("a resolution");
    assert!(matches!(tail.state, ControlState::Unknown(_)));
}

#[test]
fn a_void_round_counts_for_nobody() {
    let c = comparison(&stored());
    for environment in ["bare", "control", "runc", "qemu"] {
        let d = c.distribution("sqlite/commit", environment).expect("a distribution");
        assert_eq!((d.operations, d.blocks), (260 * 2 * 8, 8), "{environment}");
        assert_eq!(d.histogram.len(), d.operations);
    }
    assert_eq!((c.voids.len(), c.rounds_begun), (1, 9 * 8 * 2 + 1));
}

#[test]
fn a_block_with_a_lost_burst_is_not_paired() {
    let c = comparison(&stored());
    let cell = c.cell("net/stream", "gvisor", Metric::Throughput).expect("a cell");
    assert_eq!(cell.blocks, 7);
    assert!(cell.finding.as_ref().is_ok_and(|f| f.ratios.iter().all(|(block, _)| *block != 3)));
    assert_eq!(c.failures.len(), 1);
    assert_eq!(c.environment("gvisor").expect("it").outcome.name(), "partial");
    assert_eq!(c.environment("runc").expect("it").outcome, Outcome::Measured);
    assert_eq!(c.environment("crun").expect("it").outcome.name(), "skipped");
}

#[test]
fn a_percentile_without_enough_operations_is_withheld() {
    let c = comparison(&stored());
    let find = |metric| c.cell("net/rr", "runc", metric).expect("a cell").finding.clone();
    assert!(find(Metric::P99).is_ok());
    assert_eq!(find(Metric::P999), Err(Withheld::TooFewOperations { have: 5200, more: 44_800 }));
    assert!(c.cell("control/syscall", "runc", Metric::P999).expect("a cell").finding.is_ok());
    let curve = &c.distribution("net/rr", "runc").expect("a distribution").overhead;
    assert!(curve.last().is_some_and(|p| p.quantile == 0.99) && curve.first().is_some_and(|p| p.quantile == 0.01));
}

#[test]
fn a_disk_that_does_not_flush_makes_its_durable_cells_invalid_and_no_others() {
    let c = comparison(&stored());
    let cell = |workload| c.cell(workload, "qemu-unsafe", Metric::P50).expect("a cell");
    for workload in ["sqlite/commit", "disk/fsync"] {
        assert!(has(&cell(workload).flags, "fsync-not-durable") && cell(workload).verdict == Verdict::Invalid);
    }
    assert_eq!(cell("net/rr").verdict, Verdict::Trusted, "{:?}", cell("net/rr").flags);
    assert_eq!(c.cell("disk/fsync", "qemu", Metric::P50).expect("a cell").verdict, Verdict::Trusted);
}

#[test]
fn an_interrupted_run_says_what_its_blocks_carry() {
    let c = comparison(&Example { blocks: 3, ..Example::default() }.build());
    let overhead = c.cell("net/rr", "gvisor", Metric::P50).and_then(Cell::overhead).expect("a value");
    assert!(overhead.interval.is_none() && (overhead.value - 3.4).abs() < 0.2);
    assert_eq!(
        c.remarks[..2],
        [
            "3 blocks give no finite interval: 6 are needed".to_string(),
            "interrupted: 3 of 8 blocks have bursts".to_string(),
        ]
    );
    let mut killed = stored();
    killed.records.truncate(killed.records.len() - 3);
    let c = comparison(&killed);
    let paired = c.run.environments.iter().filter_map(|e| c.cell("net/stream", &e.name, Metric::Throughput));
    assert!(paired.clone().any(|cell| cell.blocks == 7) && paired.clone().all(|cell| cell.blocks >= 6));
}

#[test]
fn a_run_without_rows_is_invalid_and_no_accident() {
    let mut nothing = Example { blocks: 0, ..Example::default() }.build();
    let c = comparison(&nothing);
    assert_eq!(c.invalid.len(), 1, "{:?}", c.invalid);
    assert!(c.cells.iter().all(|cell| cell.finding == Err(Withheld::NoCommonBlock)));
    nothing.run.environments.clear();
    nothing.run.workloads.clear();
    assert!(comparison(&nothing).cells.is_empty());
}

#[test]
fn work_that_was_not_the_same_is_invalid() {
    let mut wrong = stored();
    for checked in wrong.checks.iter_mut().filter(|c| c.environment == "runc" && c.workload == "net/rr") {
        checked.outcome = Ok(Check { value: "other".into(), detail: "9 rows".into() });
    }
    let c = comparison(&wrong);
    let cell = c.cell("net/rr", "runc", Metric::P50).expect("a cell");
    assert_eq!(cell.verdict, Verdict::Invalid);
    assert!(has(&cell.flags, "check-failed"));
    assert!(matches!(&cell.finding, Err(Withheld::Failed(why)) if why.contains("did not do the same work")));
    assert_eq!(c.failures.iter().filter(|f| f.environment == "runc").count(), 8);
    assert_eq!(c.cell("sqlite/lookup", "runc", Metric::P50).expect("a cell").verdict, Verdict::Trusted);
}

#[test]
fn a_burst_that_did_only_the_beginning_of_the_work_is_remarked_on() {
    let remark = |whole: Option<u64>| {
        let mut stored = stored();
        for checked in stored.checks.iter_mut().filter(|c| c.workload == "sqlite/lookup") {
            checked.facts.extend(whole.map(|whole| (WHOLE.to_string(), whole.to_string())));
        }
        let bursts = stored.records.iter().filter(|r| r.workload == "sqlite/lookup");
        let bursts = bursts.filter_map(|r| r.outcome.as_ref().ok()).filter(|sample| !sample.cut_short);
        let least = bursts.map(|sample| sample.operations).min().expect("bursts");
        let c = comparison(&stored);
        (least, c.remarks.iter().find(|remark| remark.contains("that there are")).cloned())
    };
    let (least, none) = remark(None);
    assert_eq!(none, None);
    assert_eq!(remark(Some(least)).1, None, "all of it");
    let whole = least + 1;
    let wanted = format!(
        "sqlite/lookup: bursts of {least} of the {whole} operations that there are say nothing of the rest; set operations={whole} to \
         have all of them in each"
    );
    assert_eq!(remark(Some(whole)).1, Some(wanted));
}

#[test]
fn how_connections_came_in_is_a_fact_of_the_environment() {
    let mut stored = stored();
    for checked in stored.checks.iter_mut().filter(|c| c.environment == "runc" && c.workload == "net/rr") {
        checked.facts.insert(CONNECTION.into(), "inbound, directly".into());
    }
    let c = comparison(&stored);
    let of = |name: &str| {
        let facts = &c.environments.iter().find(|e| e.plan.name == name).expect("it is there").facts;
        facts
            .iter()
            .filter(|(fact, _)| fact == "connection of net/rr")
            .map(|(_, words)| words.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(of("runc"), ["inbound, directly"], "once, however many blocks there are");
    assert_eq!(of("bare"), [""; 0]);
}

#[test]
fn a_round_of_other_operations_is_flagged_and_one_that_was_cut_short_is_not() {
    let flags = |change: fn(&mut workloads::protocol::Sample)| {
        let mut other = stored();
        let bursts = other.records.iter_mut().filter(|r| r.environment == "runc" && r.workload == "net/rr");
        bursts.filter_map(|r| r.outcome.as_mut().ok()).for_each(change);
        comparison(&other).cell("net/rr", "runc", Metric::P50).expect("a cell").flags.clone()
    };
    let evidence = |flags: &[Flag]| flags.iter().find(|f| f.name == "other-work").map(|f| f.evidence.clone());
    assert_eq!(evidence(&flags(|_| ())), None);
    // As the baseline's were before the harness said which burst it is: the draws aren't known, but the bytes are.
    let bytes = evidence(&flags(|s| (s.bytes, s.drawn) = (s.bytes - 8, None))).expect("flagged");
    assert!(bytes.starts_with("in 16 of 16 rounds it did other work than the baseline: "), "{bytes}");
    assert!(evidence(&flags(|s| s.drawn = s.drawn.map(|d| d + 1))).expect("flagged").ends_with("; other draws"));
    assert_eq!(evidence(&flags(|s| (s.operations, s.cut_short) = (s.operations / 2, true))), None);
}

#[test]
fn a_run_that_does_not_say_what_it_drew_says_that() {
    let mut old = stored();
    old.records.iter_mut().filter_map(|r| r.outcome.as_mut().ok()).for_each(|s| s.drawn = None);
    let said = |c: &Comparison| c.remarks.iter().any(|r| r.contains("drew other operations"));
    assert!(said(&comparison(&old)) && !said(&comparison(&stored())));
}

#[test]
fn a_host_that_is_itself_a_container_says_whose() {
    let mut inside = stored();
    inside.run.host.push(("container".into(), "podman: /run/.containerenv is there; in a PID namespace".into()));
    let said = |c: &Comparison| c.remarks.iter().find(|r| r.contains("a container")).cloned();
    let words = "the host is itself a container (podman): /run/.containerenv is there; in a PID namespace";
    assert_eq!(said(&comparison(&inside)).as_deref(), Some(words));
    assert_eq!(said(&comparison(&stored())), None);
}

#[test]
fn a_control_without_an_interval_makes_no_claim_easier() {
    let mut short = stored();
    short.records.retain(|r| r.environment != CONTROL || r.block < 5);
    let c = comparison(&short);
    assert!(c.cells.iter().all(|cell| cell.claim == Claim::None), "nobody knows what the machine differs by");
    short.records.retain(|r| r.environment != CONTROL);
    short.run.environments.retain(|e| e.name != CONTROL);
    let c = comparison(&short);
    assert!(c.cells.iter().any(|cell| cell.claim == Claim::Worse), "a run that never had one stands on its own");
}

/// A histogram whose header says that 4 GiB of counts follow, and none do.
const FORGED: [u8; 39] = [
    0x1c, 0x84, 0x93, 0x14, 0x00, 0x00, 0x00, 0x1f, 0x78, 0xda, 0x93, 0x69, 0x99, 0x2c, 0xfc, 0x1f, 0x08, 0x18, 0x20,
    0x80, 0x19, 0x4a, 0x33, 0x02, 0x31, 0xef, 0x0f, 0xf7, 0x08, 0x06, 0xfb, 0x0f, 0x10, 0x01, 0x00, 0xd6, 0x55, 0x08,
    0x1a,
];

#[test]
fn a_forged_histogram_is_a_failure_row_and_no_report_falls_over_it() {
    let mut forged = stored();
    let of_qemu = |r: &&mut Record| r.environment == "qemu" && r.workload == "net/rr";
    for (i, record) in forged.records.iter_mut().filter(of_qemu).enumerate() {
        let Ok(sample) = &mut record.outcome else { continue };
        match i % 3 {
            0 => sample.histogram = FORGED.to_vec(),
            1 => sample.operations = u64::MAX,
            _ => sample.timeline = vec![0, 0xff, 1, 1],
        }
    }
    let c = comparison(&forged);
    let failed: Vec<_> = c.failures.iter().filter(|f| f.environment == "qemu").map(|f| f.message.as_str()).collect();
    for words in ["4294967295 bytes of counts", "which no burst has", "its timeline can't be read"] {
        assert!(failed.iter().any(|message| message.contains(words)), "{words}: {failed:?}");
    }
    assert!(c.cell("net/rr", "qemu", Metric::P50).expect("a cell").finding.is_err());
    assert!(c.cell("net/rr", "runc", Metric::P50).expect("a cell").finding.is_ok());
    for format in crate::render::formats() {
        format.renderer.render(&c).expect(format.name);
    }
}

#[test]
fn a_damaged_histogram_is_a_failure_of_its_burst() {
    let mut damaged = stored();
    let burst = damaged.records.iter_mut().find(|r| r.environment == "qemu" && r.workload == "net/rr").expect("one");
    if let Ok(sample) = &mut burst.outcome {
        sample.histogram.truncate(20);
    }
    let c = comparison(&damaged);
    assert!(c.failures.iter().any(|f| f.environment == "qemu" && f.message.contains("histogram")));
    assert_eq!(c.cell("net/rr", "qemu", Metric::P50).expect("a cell").blocks, 7);
}

#[test]
fn too_many_void_rounds_spoil_the_run() {
    let mut restless = stored();
    for block in 0..8 {
        for workload in restless.run.workloads.clone() {
            if !restless.voids.iter().any(|v| v.block == block && v.workload == workload.name && v.round == 0) {
                let reason = "steal 9 %".into();
                restless.voids.push(Void { block, round: 0, workload: workload.name, reason });
            }
        }
    }
    let c = comparison(&restless);
    assert!(c.invalid.len() == 1 && c.invalid[0].contains("72 of 145 rounds are void"), "{:?}", c.invalid);
}

#[test]
fn an_environment_of_which_every_round_is_void_says_so_and_one_without_a_round_that_it_had_none() {
    let mut restless = stored();
    restless.run.environments.retain(|e| ["bare", "control", "runc"].contains(&e.name.as_str()));
    restless.records.retain(|r| r.environment != "runc" || (r.block == 2 && r.workload == "net/rr"));
    let left: Vec<u32> = restless.records.iter().filter(|r| r.environment == "runc").map(|r| r.round).collect();
    for round in &left {
        let reason = format!("{round} of the CPU time were stolen");
        restless.voids.push(Void { block: 2, round: *round, workload: "net/rr".into(), reason });
    }
    let says = |stored: &Stored| comparison(stored).environment("runc").expect("it").outcome.clone();
    let (count, last) = (left.len(), left.last().expect("rounds"));
    let void =
        format!("all of its rounds are void ({count} of them), the last because {last} of the CPU time were stolen");
    assert_eq!(says(&restless), Outcome::Failed(void));
    restless.records.retain(|r| r.environment != "runc");
    assert_eq!(says(&restless), Outcome::Failed("the run ended before it had a turn".into()));
}

/// The example with a control that is slower than the baseline in one workload.
fn with_a_bad_control() -> Comparison {
    let mut bad = stored();
    // `runc` costs 6 % in `net/rr`: exchange its name with the control's.
    for record in bad.records.iter_mut().filter(|r| r.workload == "net/rr") {
        match record.environment.as_str() {
            "runc" => record.environment = CONTROL.into(),
            CONTROL => record.environment = "runc".into(),
            _ => {}
        }
    }
    comparison(&bad)
}

#[test]
fn a_control_that_differs_spoils_what_it_could_explain() {
    let c = with_a_bad_control();
    let resolution = c.resolution("net/rr", Metric::P50).expect("a resolution");
    assert!(matches!(resolution.state, ControlState::Failed(_)), "{resolution:?}");
    let failed: Vec<_> = c.failed_controls().map(|r| (r.workload.as_str(), r.metric)).collect();
    assert_eq!(failed, [("net/rr", Metric::Throughput)], "the figure to look at first: the run ends with 4");
    let near = c.cell("net/rr", "runc", Metric::P50).expect("a cell");
    let far = c.cell("net/rr", "qemu", Metric::P50).expect("a cell");
    assert_eq!((near.verdict, far.verdict), (Verdict::Invalid, Verdict::Suspect));
}

#[test]
fn every_environment_that_ran_has_a_headline_per_workload() {
    let c = comparison(&stored());
    for environment in &c.environments {
        let expected = match environment.role {
            Role::Baseline => 0,
            _ if environment.plan.skipped.is_some() => 0,
            _ => 9,
        };
        assert_eq!(environment.headlines.len(), expected, "{}", environment.plan.name);
    }
    let runc = c.environment("runc").expect("it");
    assert!(runc.start_ms.is_some_and(|s| (s.value - 74.0).abs() < 5.0));
    assert!(runc.stop_ms.is_some_and(|s| (s.value - 7.4).abs() < 0.5), "{:?}", runc.stop_ms);
    assert_eq!(runc.memory_bytes, Some(9 << 20));
}

/// A hundred operations of 1 µs and a hundred of 9: a tenth of their time went into the faster half.
#[test]
fn the_time_of_the_slower_half_is_counted_and_not_reckoned_from_the_median() {
    let mut histogram =
        hdrhistogram::Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).expect("constants that fit");
    histogram.record_n(1000, 100).expect("fits");
    histogram.record_n(9000, 100).expect("fits");
    let share = |elapsed_ns| super::beyond_half(&histogram, 1, elapsed_ns);
    assert!((share(1_000_000).expect("known") - 0.9).abs() < 0.01, "{:?}", share(1_000_000));
    assert!(
        (share(2_000_000).expect("known") - 0.95).abs() < 0.01,
        "what passes between them is no operation's of that half"
    );
    assert_eq!(share(500_000), None, "two at a time");
    assert!((super::beyond_half(&histogram, 10, 10_000_000).expect("known") - 0.9).abs() < 0.01);
}
