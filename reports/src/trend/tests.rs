//! A year of nights, made up.

use std::path::Path;
use std::time::Instant;

use super::*;
use crate::example::Example;
use crate::render::html::trend::page;
use crate::store::{Figure, Store};

/// Nights of a run whose box becomes a fifth dearer on one of them.
fn nights(store: &Store, count: usize, dearer_from: usize) {
    let mut stored = Example { blocks: 6, rounds: 1, seed: 9 }.build();
    stored.run.id = "n000".into();
    store.import(&stored).expect("a run");
    let figures = store.figures("n000").expect("figures");
    stored.records.truncate(4);
    (stored.starts, stored.voids, stored.checks) = (Vec::new(), Vec::new(), Vec::new());
    let mut dice = 7u64;
    let mut noise = || {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        1.0 + ((dice >> 33) as f64 / f64::from(1u32 << 31) - 0.5) * 0.04
    };
    for night in 1..count {
        stored.run.id = format!("n{night:03}");
        stored.run.started = format!("2026-{:02}-{:02}T03:00:00Z", night / 31 + 1, night % 31 + 1);
        stored.run.labels.insert("commit".into(), format!("c{night:03}"));
        store.import(&stored).expect("a run");
        let of = |f: &Figure| {
            let dearer = f.environment == "gvisor" && f.workload == "sqlite/commit" && night >= dearer_from;
            let factor = noise() * if dearer { 1.2 } else { 1.0 };
            Figure { overhead: f.overhead.map(|v| v * factor), ..f.clone() }
        };
        let all: Vec<Figure> = figures.iter().map(of).collect();
        store.keep_figures(&stored.run.id, &all).expect("figures");
    }
}

fn trend(store: &Store) -> Trend {
    let id = store.find("latest").expect("a run");
    store.trend(&id).expect("a trend")
}

#[test]
fn what_confirms_a_run_is_no_point_of_its_own_and_gates_of_equal_code_are_counted() {
    use crate::gate::{Gate, Verdict};
    let store = Store::open(Path::new(":memory:")).expect("a store");
    nights(&store, 6, 99);
    let mut second = store.load("n005").expect("a run");
    second.run.id = "second".into();
    second.run.labels.insert("confirms".into(), "n005".into());
    store.import(&second).expect("a run");
    let points = |id: &str| store.trend(id).expect("a trend").runs.iter().map(|n| n.run.clone()).collect::<Vec<_>>();
    assert_eq!(points("n000"), ["n000", "n001", "n002", "n003", "n004", "n005"]);
    assert_eq!(points("second"), points("n000"), "it belongs to what it confirms");
    assert!(!text(&trend(&store)).contains("A/A"));
    let comparison = crate::comparison::compare(&second, crate::gate::method());
    let policy = crate::gate::Policy { head: Some("qemu".into()), base: Some("gvisor".into()), ..Default::default() };
    let judged = crate::gate::judge(&comparison, &policy, &[]).expect("the policy fits");
    let keep = |run: &str, verdict: Verdict, same: bool| {
        let mut judgement = judged.judgements[0].clone();
        judgement.verdict = verdict;
        let same = same.then(|| "the same".to_string());
        store.keep_gate(&Gate { run: run.into(), same, judgements: vec![judgement], ..judged.clone() }).expect("kept");
    };
    keep("n001", Verdict::Regressed, false);
    keep("n002", Verdict::Pass, true);
    assert!(text(&trend(&store)).contains("1 A/A gate, of head and base with the same code; 0 red"));
    keep("n003", Verdict::Regressed, true);
    keep("n004", Verdict::Regressed, true);
    keep("n004", Verdict::Inconclusive, true);
    let words = "3 A/A gates, of head and base with the same code; 1 red (regressed)";
    assert!(text(&trend(&store)).contains(words), "{}", text(&trend(&store)));
    assert!(String::from_utf8(page(&trend(&store)).expect("a page")).expect("text").contains(words));
    let run = store.load("n003").expect("a run").run;
    store.resume(&run).expect("opened again");
    store.finish("n003", crate::record::Ending::Complete, None, 1.0).expect("the end");
    assert!(text(&trend(&store)).contains("2 A/A gates"), "of a run that went on the gate is another");
}

#[test]
fn a_change_is_said_with_the_commits_around_it_and_nothing_else_is() {
    let store = Store::open(Path::new(":memory:")).expect("a store");
    nights(&store, 40, 25);
    store.accept("n030", "2026-03-01T00:00:00Z", "known", true).expect("accepted");
    let t = trend(&store);
    assert_eq!(t.runs.len(), 40);
    let changed: Vec<&Series> = t.series.iter().filter(|s| !s.changes.is_empty()).collect();
    let [series] = changed.as_slice() else { panic!("{changed:?}") };
    assert_eq!((series.workload.as_str(), series.environment.as_str()), ("sqlite/commit", "gvisor"));
    let change = series.changes[0];
    assert_eq!((change.last, change.first, series.changes.len()), (24, 25, 1));
    assert!((change.after / change.before - 1.2).abs() < 0.02, "{change:?}");
    let text = text(&t);
    assert!(
        text.contains("more since 2026-01-26 (run n025, commit c025); before: 2026-01-25 (run n024, commit c024)"),
        "{text}"
    );
    assert!(text.contains("accepted: 2026-01-31 (run n030, commit c030): known"), "{text}");
    assert!(
        !t.series.iter().any(|s| s.environment == "qemu-unsafe" && s.workload == "sqlite/commit"),
        "invalid cells are no figures"
    );
    let page = String::from_utf8(page(&t).expect("a page")).expect("text");
    assert!(
        page.contains("commit c025") && page.contains("<svg") && !page.contains("http://")
            || page.contains("www.w3.org")
    );
}

#[test]
fn what_names_say_is_not_for_the_terminal_nor_the_browser() {
    let store = Store::open(Path::new(":memory:")).expect("a store");
    let mut stored = Example { blocks: 6, rounds: 1, seed: 9 }.build();
    stored.run.labels.insert("commit".into(), "\u{1b}[2J<script>".into());
    store.import(&stored).expect("a run");
    let t = trend(&store);
    assert!(!text(&t).contains('\u{1b}'));
    assert!(!String::from_utf8(page(&t).expect("a page")).expect("text").contains("<script>"));
}

/// It took 0.6 s and, with the making of the year, 109 MiB, not optimized for speed and beside others who built. The bound is for a
/// slow machine.
#[test]
fn a_year_of_nights_is_opened_listed_and_drawn() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("t.db");
    let store = Store::open(&path).expect("a store");
    store.unsynced();
    nights(&store, 365, 200);
    drop(store);
    let began = Instant::now();
    let store = Store::open_existing(&path).expect("the store");
    assert_eq!(store.runs().expect("runs").len(), 365);
    let t = trend(&store);
    assert_eq!(t.runs.len(), 365);
    assert!(!text(&t).is_empty() && !page(&t).expect("a page").is_empty());
    let took = began.elapsed();
    println!("{took:?}");
    assert!(took.as_secs() < 20, "{took:?}");
}
