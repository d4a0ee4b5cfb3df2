//! Every format of a gate on the made-up run, and on one that wants to break out.

use super::*;
use crate::comparison::{Metric, compare};
use crate::gate::{Judgement, LeftOut, Mode, Policy, judge, method};

const ALL: [Verdict; 4] = [Verdict::Regressed, Verdict::Inconclusive, Verdict::Invalid, Verdict::NoBaseline];

fn example() -> Gate {
    let policy = "head = \"qemu\"\nbase = \"gvisor\"\n[[except]]\nworkload = \"net/rr\"\nreason = \"a busy switch\"\n";
    let policy = Policy::parse("gate.toml", policy).unwrap();
    judge(&compare(&crate::example::stored(), method()), &policy, &[]).unwrap()
}

fn judgement(verdict: Verdict, workload: &str, because: &str) -> Judgement {
    Judgement {
        workload: workload.into(),
        environment: "box".into(),
        metric: Metric::P50,
        mode: Mode::Paired,
        against: "old".into(),
        limit: 1.05,
        floor_ns: 2000.0,
        ratio: None,
        difference_ns: None,
        blocks: 0,
        p: None,
        verdict,
        because: because.into(),
        enough: Some("14 more blocks".into()),
        notes: Vec::new(),
    }
}

fn gate(judgements: Vec<Judgement>) -> Gate {
    let left = LeftOut {
        workload: "w".into(),
        environment: "box".into(),
        metric: Metric::P99,
        reason: "noisy, <it> & \"that\"".into(),
    };
    Gate {
        run: "r1".into(),
        suite: "quick".into(),
        confirmed_by: None,
        same: None,
        judgements,
        left_out: vec![left],
        notes: Vec::new(),
    }
}

fn text(format: &str, gate: &Gate, failing: &[Verdict]) -> String {
    let format = FORMATS.iter().find(|f| f.name == format).unwrap();
    String::from_utf8(format.renderer.render(gate, failing).unwrap()).unwrap()
}

#[test]
fn every_format_says_what_is_regressed_and_what_was_left_out_and_is_the_same_every_time() {
    let gate = example();
    for format in &FORMATS {
        let once = text(format.name, &gate, &ALL);
        assert_eq!(once, text(format.name, &gate, &ALL), "{}", format.name);
        assert!(once.contains("regressed") && once.contains("sqlite/commit"), "{}: {once}", format.name);
        assert!(format.name == "github" || once.contains("a busy switch"), "{}: {once}", format.name);
    }
    assert!(summary(&gate).contains("a busy switch"));
}

#[test]
fn the_text_begins_with_what_is_worst() {
    let gate = gate(vec![
        judgement(Verdict::Pass, "first", ""),
        judgement(Verdict::Regressed, "second", "it is worse"),
        judgement(Verdict::Inconclusive, "third", "who knows"),
    ]);
    let text = text("text", &gate, &ALL);
    let at = |word: &str| text.find(word).unwrap_or_else(|| panic!("{word}: {text}"));
    assert!(text.starts_with("quick: regressed (1 regressed, 1 inconclusive, 1 pass)\n"), "{text}");
    assert!(at("second p50 in box against old") < at("third p50") && at("third p50") < at("first p50"), "{text}");
    assert!(text.contains("who knows; enough would be 14 more blocks"), "{text}");
}

#[test]
fn the_text_says_why_something_passes_that_is_beyond_the_margin() {
    let pass = |workload, because| Judgement { enough: None, ..judgement(Verdict::Pass, workload, because) };
    let by_floor = pass("second", "it takes less than 2.00 µs more for an operation: the floor");
    let gate = gate(vec![pass("first", "1.05× is excluded"), by_floor]);
    let text = text("text", &gate, &ALL);
    assert!(text.contains("µs more for an operation: the floor\n") && !text.contains("is excluded"), "{text}");
}

#[test]
fn the_json_has_numbers_and_verdicts() {
    let json: serde_json::Value = serde_json::from_str(&text("json", &example(), &ALL)).unwrap();
    assert_eq!((&json["schema"], &json["verdict"]), (&SCHEMA.into(), &"regressed".into()));
    assert_eq!(json["failed"], true);
    let judged = json["judgements"].as_array().unwrap();
    let commit = judged.iter().find(|j| j["workload"] == "sqlite/commit" && j["metric"] == "throughput").unwrap();
    assert!(commit["low"].as_f64() < commit["ratio"].as_f64() && commit["ratio"].as_f64() < commit["high"].as_f64());
    assert_eq!((&commit["mode"], &commit["against"]), (&"paired".into(), &"gvisor".into()));
    let nothing: serde_json::Value =
        serde_json::from_str(&text("json", &gate(vec![judgement(Verdict::NoBaseline, "w", "")]), &[])).unwrap();
    assert_eq!((&nothing["verdict"], &nothing["failed"]), (&"no-baseline".into(), &false.into()));
}

#[test]
fn junit_fails_what_is_to_fail_and_skips_but_never_passes_the_rest() {
    let gate = gate(vec![
        judgement(Verdict::Pass, "a", ""),
        judgement(Verdict::Regressed, "b", "1 < 2 & \"3\" ]]> \u{1b}[31m"),
        judgement(Verdict::Invalid, "c", ""),
    ]);
    let all = text("junit", &gate, &ALL);
    assert!(all.contains("tests=\"4\" failures=\"1\" errors=\"1\" skipped=\"1\""), "{all}");
    assert!(all.contains("1 &lt; 2 &amp; &quot;3&quot; ]]&gt; ·[31m"), "{all}");
    let none = text("junit", &gate, &[]);
    assert!(none.contains("failures=\"0\" errors=\"0\" skipped=\"3\""), "{none}");
    // Every element is closed, and in order.
    let mut open = Vec::new();
    for tag in all.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()) {
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name.to_string())),
            None if tag.starts_with('?') || tag.ends_with('/') => {}
            None => open.push(tag.split(' ').next().unwrap().to_string()),
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn github_gets_ten_annotations_the_gravest_first_and_no_command_from_elsewhere() {
    let hostile = "::error::\n::set-output name=x::y 100% ";
    let mut judgements: Vec<_> =
        (0..30).map(|i| judgement(Verdict::Inconclusive, &format!("w{i}"), "who knows")).collect();
    judgements.push(judgement(Verdict::Regressed, "a:b,c", hostile));
    let text = text("github", &gate(judgements), &[Verdict::Regressed]);
    let commands: Vec<&str> = text.lines().filter(|line| line.starts_with("::")).collect();
    assert_eq!(commands.len(), 10, "{text}");
    assert!(commands[0].starts_with("::error title=regressed a%3Ab%2Cc in box::"), "{text}");
    assert!(commands[0].contains("100%25"), "{text}");
    assert!(commands[1].starts_with("::warning ") && commands[9].contains("and 22 more"), "{text}");
}

#[test]
fn a_summary_stays_within_a_mebibyte_and_says_what_does_not_fit() {
    let long = "x".repeat(2000);
    let mut judgements: Vec<_> = (0..2000).map(|_| judgement(Verdict::Inconclusive, "w", &long)).collect();
    judgements.push(judgement(Verdict::Regressed, "the one", "a | b"));
    let text = summary(&gate(judgements));
    assert!(text.len() < 1 << 20, "{}", text.len());
    assert!(text.contains("| **regressed** | the one p50 |") && text.contains("a \\| b"));
    assert!(text.contains("more rows don't fit here"), "{}", &text[text.len() - 200..]);
}
