//! Each kind is raised by its evidence, in the environment that has it and nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use workloads::facts::{Network, Sandbox};
use workloads::inside::{Inside, Link};
use workloads::protocol::Identity;

use super::*;
use crate::comparison::{Method, compare};
use crate::example;

/// The environment of the example that is changed.
const CHANGED: &str = "runc";

fn surroundings() -> Inside {
    Inside {
        call_ns: Some(150.0),
        clock_sources: vec!["tsc".into(), "hpet".into()],
        tsc_khz: Some(2_000_000),
        filters: Some(0),
        store_bypass: Some("vulnerable".into()),
        indirect_branch: Some("always enabled".into()),
        mitigations: BTreeMap::from([("meltdown".into(), "Not affected".into())]),
        huge_pages: Some("madvise".into()),
        data_options: Some("rw,relatime".into()),
        links: vec![Link { name: "eth0".into(), mtu: Some(1500), offloads: BTreeMap::from([("tso".into(), true)]) }],
        congestion: Some("cubic".into()),
    }
}

/// The example with everything seen in all of its environments, and nothing that differs but by `change`.
fn changed(change: impl Fn(&mut Stored)) -> Vec<Environment> {
    let mut stored = example::Example { blocks: 2, rounds: 1, seed: 1 }.build();
    stored.run.environments.retain(|e| ["bare", CONTROL, CHANGED].contains(&e.name.as_str()));
    for identity in stored.starts.iter_mut().filter_map(|s| s.identity.as_mut()) {
        identity.inside = surroundings();
    }
    for start in &mut stored.starts {
        (start.outcome, start.stop_ns, start.memory_bytes) = (Ok(10_000_000), Some(2_000_000), Some(1 << 20));
    }
    // What an empty call takes is then what was seen at starts.
    let measured = stored.run.workloads.iter_mut().filter(|w| w.kind() == EMPTY_CALLS);
    measured.for_each(|w| w.kind = "control/switch".into());
    change(&mut stored);
    compare(&stored, Method::default()).environments
}

/// The identities of one environment.
fn identities(stored: &mut Stored, change: impl Fn(&mut Identity)) {
    let own = stored.starts.iter_mut().filter(|s| s.environment == CHANGED);
    own.filter_map(|s| s.identity.as_mut()).for_each(change);
}

fn plan(stored: &mut Stored) -> &mut EnvironmentPlan {
    stored.run.environments.iter_mut().find(|e| e.name == CHANGED).expect("in the example")
}

fn records(stored: &mut Stored, change: impl Fn(&mut Record)) {
    stored.records.iter_mut().filter(|r| r.environment == CHANGED).for_each(change);
}

/// The names of the hints of each environment.
fn names(environments: &[Environment]) -> Vec<(&str, Vec<&'static str>)> {
    environments.iter().map(|e| (e.plan.name.as_str(), e.hints.iter().map(|h| h.name).collect())).collect()
}

type Change = fn(&mut Stored);

/// Each kind by itself, with a part of what its evidence must say.
const RAISED: &[(&str, &str, Change)] = &[
    ("clock-call", "the baseline's 24 ns; clock source hpet, available: tsc, hpet", |s| {
        identities(s, |i| (i.clock_ns, i.clock_source) = (140.0, Some("hpet".into())));
    }),
    ("clock-call", "a reading costs 900 ns, an empty system call 340 ns", |s| {
        identities(s, |i| (i.clock_ns, i.inside.call_ns) = (900.0, Some(340.0)));
    }),
    ("tsc-scaled", "2600 MHz inside, 2000 MHz beside", |s| identities(s, |i| i.inside.tsc_khz = Some(2_600_000))),
    ("seccomp", "filters on its process: 2, on the baseline's: 0", |s| identities(s, |i| i.inside.filters = Some(2))),
    ("speculation", "Speculation_Store_Bypass: thread force mitigated, the baseline's vulnerable", |s| {
        identities(s, |i| i.inside.store_bypass = Some("thread force mitigated".into()));
    }),
    ("mitigations", "meltdown: Mitigation: PTI, the host Not affected", |s| {
        identities(s, |i| i.inside.mitigations = BTreeMap::from([("meltdown".into(), "Mitigation: PTI".into())]));
    }),
    ("throttled", " periods, for ", |s| {
        records(s, |r| {
            let e = &mut r.evidence;
            (e.throttled, e.quota_periods, e.throttled_ns) = (Some(1), Some(2), e.wall_ns.map(|wall| wall / 2));
        });
    }),
    ("steal", "2.0 % of the host's CPU time", |s| records(s, |r| r.evidence.steal = Some(0.02))),
    ("emulated-cpu", "QEMU TCG: no KVM", |s| plan(s).emulated = Some("QEMU TCG: no KVM".into())),
    ("cpu-wait", "tasks waited for a CPU for 79 % of the time of its bursts, 1 % beside the baseline", |s| {
        records(s, |r| r.evidence.pressure_cpu = Some(0.79))
    }),
    (
        "around",
        "start 87.5 ms, the baseline 10.0 ms; stop 231 ms, the baseline 2.00 ms; memory held when idle 9.00 MiB, the baseline 1.00 MiB",
        |s| {
            for start in s.starts.iter_mut().filter(|start| start.environment == CHANGED) {
                (start.outcome, start.stop_ns, start.memory_bytes) = (Ok(87_500_000), Some(231_000_000), Some(9 << 20));
            }
        },
    ),
    (
        "slow-calls",
        "2.00 µs right after a start, when it may take longer than later (median of 2: 2.00 µs to 2.00 µs; the workload control/syscall measures it), beside the baseline 150 ns",
        |s| {
            identities(s, |i| i.inside.call_ns = Some(2000.0));
        },
    ),
    ("slow-calls", "beside the baseline 150 ns; caught by platform ptrace", |s| {
        identities(s, |i| i.inside.call_ns = Some(2000.0));
        plan(s).sandbox.calls = Some("platform ptrace".into());
    }),
    ("file-server", "a program opens files", |s| plan(s).sandbox.files = Some("a program opens files".into())),
    ("own-stack", "a stack; behind it the peer is reached over veth", |s| {
        plan(s).sandbox.stack = Some("a stack".into());
    }),
    ("huge-pages", "`always` inside, `madvise` on the host", |s| {
        identities(s, |i| i.inside.huge_pages = Some("always".into()));
    }),
    ("memory-in-file", "256 MiB of files mapped, the baseline 0 B", |s| {
        records(s, |r| r.evidence.mapped_bytes = Some(256 << 20));
    }),
    ("file-system", "9p as seen inside (bind mount of ext4 on vda), the baseline's ext4", |s| {
        identities(s, |i| i.file_system = "9p".into());
    }),
    ("disk", "vdb, the baseline's on vda", |s| plan(s).data.device = Some("vdb".into())),
    // A box that was there before us: its runner knows nothing, its agent knows its disk.
    ("disk", "sdb, the baseline's on vda", |s| {
        plan(s).data = Default::default();
        identities(s, |i| i.device = Some("sdb".into()));
    }),
    ("flush-lost", "flushes are answered and forgotten there", |s| plan(s).data.flushes = Flushes::Forgotten),
    ("volatile", "the ext4 under its data is mounted `volatile`", |s| {
        identities(s, |i| i.inside.data_options = Some("rw,volatile,redirect_dir=on".into()));
    }),
    ("user-nat", "the peer is reached over user NAT, the baseline's over veth", |s| plan(s).network = Network::UserNat),
    ("no-vhost", "over a tap device without vhost", |s| plan(s).network = Network::Tap),
    ("link", "MTU 9000, the baseline's 1500; tso off, the baseline's on", |s| {
        identities(s, |i| {
            i.inside.links[0].mtu = Some(9000);
            i.inside.links[0].offloads.insert("tso".into(), false);
        });
    }),
    ("congestion", "bbr inside, cubic beside the baseline", |s| {
        identities(s, |i| i.inside.congestion = Some("bbr".into()));
    }),
];

#[test]
fn every_kind_is_raised_by_its_evidence_and_nowhere_else() {
    assert_eq!(names(&changed(|_| ())), [("bare", vec![]), (CONTROL, vec![]), (CHANGED, vec![])], "nothing differs");
    for (name, evidence, change) in RAISED {
        let environments = changed(change);
        assert_eq!(
            names(&environments),
            [("bare", vec![]), (CONTROL, vec![]), (CHANGED, vec![*name])],
            "{name}: {:?}",
            environments[2].hints
        );
        let hint = &environments[2].hints[0];
        assert!(hint.evidence.contains(evidence), "{hint:?}");
        assert!((*name == "around" || !hint.workloads.is_empty()) && !hint.change.is_empty(), "{hint:?}");
    }
    let raised: BTreeSet<&str> = RAISED.iter().map(|(name, ..)| *name).chain(["io-limit"]).collect();
    assert_eq!(raised, KINDS.iter().map(|kind| kind.name).collect(), "each kind has its test");
}

#[test]
fn what_was_not_seen_gives_no_hint() {
    let unseen: Change = |s| {
        for start in &mut s.starts {
            let identity = start.identity.as_mut().expect("the example has them");
            identity.inside = Inside::default();
        }
        for record in &mut s.records {
            let e = &mut record.evidence;
            (e.throttled_ns, e.steal, e.mapped_bytes) = (None, None, None);
        }
        // Only one side is known, or says that it doesn't know.
        identities(s, |i| i.inside = Inside { filters: Some(2), tsc_khz: Some(1), ..surroundings() });
        plan(s).data.device = None;
    };
    assert!(names(&changed(unseen)).iter().all(|(_, hints)| hints.is_empty()));
    let none: Change = |s| s.starts.iter_mut().for_each(|start| start.identity = None);
    assert!(names(&changed(none)).iter().all(|(_, hints)| hints.is_empty()));
}

#[test]
fn a_kernel_that_knows_nothing_of_speculation_holds_nothing_back() {
    let elsewhere: Change = |s| {
        identities(s, |i| {
            i.inside.store_bypass = Some("unknown".into());
            i.inside.indirect_branch = Some("unsupported".into());
        });
    };
    assert!(names(&changed(elsewhere)).iter().all(|(_, hints)| hints.is_empty()));
}

#[test]
fn a_limit_that_holds_for_all_is_said_of_the_baseline_once() {
    let limited = |wbps: u64| {
        changed(|s| s.run.suite_toml = format!("resources = {{ cpus = 1, memory = \"1B\", io.wbps = {wbps} }}\n"))
    };
    let found = limited(1_000_000);
    assert_eq!(names(&found), [("bare", vec!["io-limit"]), (CONTROL, vec![]), (CHANGED, vec![])]);
    let evidence = &found[0].hints[0].evidence;
    assert!(evidence.contains("disk/fsync: ") && evidence.contains("MB/s, allowed 1.0"), "{evidence}");
    assert!(!evidence.contains("net/"), "{evidence}");
    assert!(limited(1_000_000_000).iter().all(|e| e.hints.is_empty()), "nobody came near it");
}

#[test]
fn what_the_baseline_felt_elsewhere_is_still_said_of_others() {
    let stolen = |environment: &'static str, workloads: &'static [&str]| {
        move |s: &mut Stored| {
            let own = s.records.iter_mut().filter(|r| r.environment == environment);
            own.filter(|r| workloads.contains(&&*r.workload)).for_each(|r| r.evidence.steal = Some(0.02));
        }
    };
    let environments = changed(|s| {
        stolen("bare", &["control/syscall"])(s);
        stolen(CHANGED, &["control/syscall", "net/rr"])(s);
    });
    assert_eq!(names(&environments), [("bare", vec!["steal"]), (CONTROL, vec![]), (CHANGED, vec!["steal"])]);
    assert_eq!(environments[2].hints[0].workloads, ["net/rr"], "the other is the host's");
}

#[test]
fn steal_just_above_the_line_is_the_hosts_where_the_baseline_is_just_below_it() {
    let of = |base: f64, own: f64| {
        changed(move |s| {
            for record in &mut s.records {
                record.evidence.steal = Some(if record.environment == CHANGED { own } else { base });
            }
        })
    };
    assert_eq!(names(&of(0.004, 0.006)), [("bare", vec![]), (CONTROL, vec![]), (CHANGED, vec![])]);
    let more = of(0.004, 0.02);
    assert_eq!(names(&more), [("bare", vec![]), (CONTROL, vec![]), (CHANGED, vec!["steal"])]);
    assert_eq!(more[2].hints[0].evidence, "2.0 % of the host's CPU time on average, 0.4 % beside the baseline");
}

#[test]
fn a_hint_names_the_workloads_in_which_it_can_be_felt_and_the_settings_as_they_are() {
    let environments = changed(|s| {
        plan(s).network = Network::UserNat;
        plan(s).settings = BTreeMap::from([("network".into(), "pasta".into()), ("data".into(), "bind".into())]);
    });
    let hint = &environments[2].hints[0];
    assert_eq!(hint.workloads, ["net/rr", "net/stream", "net/paced"]);
    assert!(hint.change.ends_with("; now network=pasta; try network=veth"), "{}", hint.change);
    // Who publishes a port can't have the other network.
    let environments = changed(|s| {
        plan(s).network = Network::UserNat;
        plan(s).settings = BTreeMap::from([("net".into(), "user".into()), ("net.publish".into(), "true".into())]);
    });
    assert!(environments[2].hints[0].change.ends_with("; now net=user"), "{}", environments[2].hints[0].change);
    let environments = changed(|s| {
        plan(s).network = Network::UserNat;
        let own = [("network", "slirp4netns"), ("publish", "false"), ("translator.binary", "/opt/slirp4netns")];
        plan(s).settings = own.map(|(name, value)| (name.into(), value.into())).into();
    });
    assert!(environments[2].hints[0].change.ends_with("; now network=slirp4netns"), "nor who has a translator");
    // Its runner knows better than a rule for all.
    for (settings, instead, ends) in [
        ([("network", "own")], [("network", "host")], "; now network=own; try network=host"),
        ([("network", "own")], [("platform", "kvm")], "; now network=own"),
        ([("network", "pasta")], [("network", "host")], "; now network=pasta; try network=host"),
    ] {
        let words = |all: [(&str, &str); 1]| all.map(|(name, value)| (name.to_string(), value.to_string())).into();
        let environments = changed(|s| {
            let sandbox = Sandbox { stack: Some("a stack".into()), instead: words(instead), ..Sandbox::default() };
            (plan(s).settings, plan(s).sandbox) = (words(settings), sandbox);
        });
        assert!(environments[2].hints[0].change.ends_with(ends), "{}", environments[2].hints[0].change);
    }
    // A run without such work has nothing to feel it in.
    let none = changed(|s| {
        plan(s).network = Network::UserNat;
        s.run.workloads.retain(|w| w.resource != Resource::Network);
        s.records.retain(|r| !r.workload.starts_with("net/"));
    });
    assert!(none[2].hints.is_empty());
}

#[test]
fn a_hint_of_bursts_names_those_workloads_alone_whose_bursts_show_it() {
    let evidence: Change = |s| {
        for record in s.records.iter_mut().filter(|r| r.environment == CHANGED) {
            let felt = record.workload == "control/syscall" || record.workload == "net/rr";
            let e = &mut record.evidence;
            let stopped = e.wall_ns.map(|wall| if felt { wall / 2 } else { wall / 1000 });
            (e.throttled, e.quota_periods, e.throttled_ns) = (Some(felt.into()), Some(2), stopped);
            e.mapped_bytes = Some(if record.workload == "disk/fsync" { 256 << 20 } else { 0 });
        }
    };
    let environments = changed(evidence);
    let scope =
        |name| environments[2].hints.iter().find(|hint| hint.name == name).map(|hint| hint.workloads.as_slice());
    assert_eq!(scope("throttled").expect("it was"), ["control/syscall", "net/rr"]);
    assert_eq!(scope("memory-in-file").expect("it was"), ["disk/fsync"]);
    // The figures are of the same bursts as the names.
    let hint = environments[2].hints.iter().find(|hint| hint.name == "throttled").expect("it was");
    assert!(hint.evidence.starts_with("stopped in 4 of 8 periods"), "{hint:?}");
}

#[test]
fn lost_flushes_are_said_of_the_workload_whose_flushes_were_lost() {
    let environments = changed(|s| {
        s.run.workloads.iter_mut().find(|w| w.name == "sqlite/commit").expect("in the example").durable = true;
        records(s, |r| {
            r.evidence.device_flushes = Some(if r.workload == "disk/fsync" { 0 } else { 10_000 });
        });
        let base = s.records.iter_mut().filter(|r| r.environment == "bare");
        base.for_each(|r| r.evidence.device_flushes = Some(10_000));
    });
    let hint = environments[2].hints.iter().find(|hint| hint.name == "flush-lost").expect("they were");
    assert_eq!(hint.workloads, ["disk/fsync"], "{hint:?}");
}

#[test]
fn an_empty_call_has_one_figure_and_says_where_it_is_from() {
    let raise = |s: &mut Stored| {
        let mut each = [14_254.0, 86_172.0].into_iter().cycle();
        let own = s.starts.iter_mut().filter(|start| start.environment == CHANGED);
        own.filter_map(|start| start.identity.as_mut()).for_each(|i| i.inside.call_ns = each.next());
    };
    let told = |change: &dyn Fn(&mut Stored)| {
        let environments = changed(change);
        let hint = environments[2].hints.iter().find(|hint| hint.name == "slow-calls").cloned();
        hint.expect("it is slow").evidence
    };
    let starts = told(&|s| raise(s));
    assert!(starts.contains("86.2 µs right after a start, when it may take longer than later (median of 2: 14.3 µs to 86.2 µs; the workload control/syscall measures it), beside"), "{starts}");
    // Where the run measured it, that is the figure, and what it was after a start says nothing.
    let measured = told(&|s| {
        raise(s);
        s.run.workloads.iter_mut().find(|w| w.name == EMPTY_CALLS).expect("in the example").kind = EMPTY_CALLS.into();
        for sample in s.records.iter_mut().filter(|r| r.workload == EMPTY_CALLS).filter_map(|r| r.outcome.as_mut().ok())
        {
            sample.elapsed_ns = 120 * sample.operations;
        }
        records(s, |r| {
            if let Ok(sample) = &mut r.outcome
                && r.workload == EMPTY_CALLS
            {
                sample.elapsed_ns = 13_500 * sample.operations;
            }
        });
    });
    let expected = "an empty system call: 13.5 µs as control/syscall measured it, beside the baseline 120 ns";
    assert_eq!(measured, expected);
    // Of several at a time wall time by operations is no call's.
    let several = told(&|s| {
        raise(s);
        s.run.workloads.iter_mut().find(|w| w.name == EMPTY_CALLS).expect("in the example").kind = EMPTY_CALLS.into();
        s.records.iter_mut().filter_map(|r| r.outcome.as_mut().ok()).for_each(|sample| sample.concurrency = 4);
    });
    assert!(several.contains("right after a start"), "{several}");
}

/// Where all that is known is how long tasks of the whole machine waited, it may be the neighbour's.
#[test]
fn beside_a_neighbour_nobody_knows_who_waits_for_a_cpu() {
    let waits = |neighbour: bool| {
        let environments = changed(|s: &mut Stored| {
            records(s, |r| r.evidence.pressure_cpu = Some(0.79));
            let neighbour = neighbour.then(|| crate::record::Neighbour {
                like: "bare".into(),
                workload: "control/cpu".into(),
                settings: Default::default(),
                without: "bare".into(),
            });
            plan(s).neighbour = neighbour;
        });
        environments[2].hints.iter().any(|hint| hint.name == "cpu-wait")
    };
    assert!(waits(false) && !waits(true));
}

#[test]
fn what_is_felt_around_the_work_is_felt_in_no_workload() {
    let slow = |s: &mut Stored| {
        s.starts
            .iter_mut()
            .filter(|start| start.environment == CHANGED)
            .for_each(|start| start.stop_ns = Some(231_000_000));
    };
    let environments = changed(slow);
    let [hint] = environments[2].hints.as_slice() else { panic!("{:?}", environments[2].hints) };
    assert!(hint.name == "around" && hint.workloads.is_empty() && !hint.felt, "{hint:?}");
}

#[test]
fn filters_are_felt_by_work_that_calls_the_kernel() {
    let environments = changed(|s| {
        identities(s, |i| i.inside.filters = Some(2));
        s.run.workloads.iter_mut().find(|w| w.name == "net/rr").expect("in the example").kind = "control/cpu".into();
    });
    let hint = &environments[2].hints[0];
    assert!(hint.name == "seccomp" && !hint.workloads.contains(&"net/rr".to_string()), "{hint:?}");
    assert!(hint.workloads.contains(&"control/syscall".to_string()), "{hint:?}");
}
