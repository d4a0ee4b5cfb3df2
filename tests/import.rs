//! fio's output in the store: what fio says is what the report says, and what can't be understood leaves nothing behind.

mod common;

use std::path::Path;

use common::Dir;
use serde_json::Value;

fn file(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fio").join(name).display().to_string()
}

/// fio's own JSON, without what it prints before.
fn fio(name: &str) -> Value {
    let text = std::fs::read_to_string(file(name)).expect("the file is in the repository");
    serde_json::from_str(&text[text.find('{').expect("JSON")..]).expect("JSON")
}

fn report(b: &Dir) -> Value {
    serde_json::from_str(&b.run(&["report", "--format", "json"]).ends_with(0).stdout).expect("JSON")
}

fn distribution<'a>(report: &'a Value, workload: &str, environment: &str) -> &'a Value {
    let all = report["distributions"].as_array().expect("distributions");
    let here = |d: &&Value| d["workload"] == workload && d["environment"] == environment;
    all.iter().find(here).unwrap_or_else(|| panic!("{workload} in {environment} is not in the report"))
}

fn flags(distribution: &Value) -> Vec<&str> {
    distribution["flags"].as_array().expect("flags").iter().map(|f| f["name"].as_str().expect("a name")).collect()
}

/// fio's percentiles are middles of bins that are 1.6 % wide, ours of buckets of 0.1 %: they differ by less than one of ours.
fn same(ours: &Value, fios: &Value) {
    let (ours, fios) = (ours.as_f64().expect("carried"), fios.as_f64().expect("a number"));
    assert!((ours / fios - 1.0).abs() < 0.001, "{ours} where fio has {fios}");
}

#[test]
fn percentiles_are_those_of_fio_with_bins_and_without() {
    let b = Dir::new();
    let (bins, percentiles) = (file("read-plus.json"), b.at("read.json"));
    // The same run as `json` would have printed it.
    let mut plain = fio("read-plus.json");
    plain["jobs"][0]["read"]["clat_ns"].as_object_mut().expect("an object").remove("bins").expect("it had bins");
    std::fs::write(&percentiles, plain.to_string()).expect("written");
    b.run(&["import", "fio", &format!("bins={bins}"), &format!("plain={}", percentiles.display())])
        .ends_with(0)
        .says("fio/rr-read in bins: 34\u{202f}724 operations, p50 35.6");
    let (report, clat) = (report(&b), &plain["jobs"][0]["read"]["clat_ns"]);
    for environment in ["bins", "plain"] {
        let d = distribution(&report, "fio/rr-read", environment);
        same(&d["service"]["p50"], &clat["percentile"]["50.000000"]);
        same(&d["service"]["p90"], &clat["percentile"]["90.000000"]);
        same(&d["service"]["p99"], &clat["percentile"]["99.000000"]);
        same(&d["service"]["max"], &clat["max"]);
        assert_eq!(d["operations"], plain["jobs"][0]["read"]["total_ios"]);
        assert_eq!(d["bytes"], plain["jobs"][0]["read"]["io_bytes"]);
        same(&d["operations_per_second"], &plain["jobs"][0]["read"]["iops"]);
    }
    assert!(flags(distribution(&report, "fio/rr-read", "bins")).is_empty());
    assert_eq!(flags(distribution(&report, "fio/rr-read", "plain")), ["from-percentiles"]);
    let run = &report["run"];
    assert_eq!((run["suite"].as_str(), run["baseline"].as_str()), (Some("import fio"), Some("bins")));
    assert!(run["host"]["bins block 1: options"].as_str().is_some_and(|o| o.contains("--rw=randread")), "{run}");
    b.run(&["report", "--format", "html"]).ends_with(0).says("fio/rr-read");
    b.holds_only(&["tarebench.db", "read.json"]);
}

#[test]
fn jobs_of_a_name_are_added_up_and_directions_are_workloads() {
    let b = Dir::new();
    let (separate, grouped) = (file("log-plus.json"), file("log-group.json"));
    b.run(&["import", "fio", &format!("separate={separate}"), &format!("grouped={grouped}")]).ends_with(0);
    let report = report(&b);
    for (direction, operations) in [("read", 288), ("write", 312), ("sync", 66)] {
        for environment in ["separate", "grouped"] {
            let d = distribution(&report, &format!("fio/log-{direction}"), environment);
            assert_eq!(d["operations"], operations, "{direction} in {environment}");
            assert!(!flags(d).contains(&"latency-sum"), "two jobs have two walls of time: {d}");
        }
    }
    assert_eq!(report["workloads"][0]["kind"], "fio");
}

#[test]
fn the_same_name_again_is_the_next_block_and_the_first_is_the_baseline() {
    let b = Dir::new();
    let read = file("read-plus.json");
    let words: Vec<String> =
        ["bare", "runc"].iter().flat_map(|name| (0..6).map(move |_| *name)).map(|n| format!("{n}={read}")).collect();
    let mut command = vec!["import", "fio"];
    command.extend(words.iter().map(String::as_str));
    b.run(&command).ends_with(0).says("import fio over bare");
    let report = report(&b);
    assert_eq!((report["run"]["blocks"].as_u64(), report["run"]["baseline"].as_str()), (Some(6), Some("bare")));
    let cell = report["cells"].as_array().expect("cells").iter().find(|c| c["metric"] == "p99").expect("a cell");
    assert_eq!(
        (cell["overhead"].as_f64(), cell["low"].as_f64()),
        (Some(1.0), Some(1.0)),
        "the same file on both sides"
    );
}

#[test]
fn words_before_the_json_do_no_harm() {
    let b = Dir::new();
    assert!(std::fs::read_to_string(file("log.json")).expect("readable").starts_with("note:"));
    b.run(&["import", "fio", &file("log.json")])
        .ends_with(0)
        .says("fio/log-read in log: 288 operations")
        .says("from-percentiles");
}

#[test]
fn the_impossible_gets_its_flag() {
    let b = Dir::new();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut text = fio("read-plus.json");
        change(&mut text["jobs"][0]["read"]);
        std::fs::write(b.at("odd.json"), text.to_string()).expect("written");
        b.run(&["import", "fio", "odd.json"]).ends_with(0);
        let report = report(&b);
        flags(distribution(&report, "fio/rr-read", "odd")).into_iter().map(str::to_string).collect::<Vec<_>>()
    };
    let fall = with(&|read| {
        read["clat_ns"].as_object_mut().expect("an object").remove("bins");
        read["clat_ns"]["percentile"]["99.000000"] = 7.into();
    });
    assert_eq!(fall, ["percentiles-not-monotonic", "from-percentiles"]);
    let zero = with(&|read| {
        read["clat_ns"]["min"] = 0.into();
        read["clat_ns"]["bins"]["0"] = 500.into();
    });
    assert_eq!(zero, ["zero-latency"]);
    let jump = with(&|read| read["clat_ns"]["max"] = 9_000_000_000_u64.into());
    assert_eq!(jump, ["clock-jump"]);
    let sum = with(&|read| {
        read["clat_ns"]["mean"] = 900_000.0.into();
        read["clat_ns"]["max"] = 60_605_743.into();
    });
    assert_eq!(sum, ["latency-sum"]);
}

#[test]
fn what_can_not_be_understood_names_the_file_and_leaves_no_store() {
    let b = Dir::new();
    let good = std::fs::read_to_string(file("read-plus.json")).expect("readable");
    for (name, text, words) in [
        ("words.json", "fio: pid=0, err=2/file:filesetup.c\n".to_string(), "no JSON"),
        ("cut.json", good[..good.len() / 3].to_string(), "cut off in the middle"),
        ("other.json", "{\"results\": []}".to_string(), "not fio's"),
        ("idle.json", good.replace("\"jobs\": [", "\"jobs\": [], \"gone\": ["), "no jobs"),
        ("less.json", good.replace("\"total_ios\"", "\"total\""), "`total_ios` is missing"),
        ("negative.json", good.replace("\"total_ios\": 34724", "\"total_ios\": -34724"), "can't be below 0"),
    ] {
        std::fs::write(b.at(name), text).expect("written");
        // The good file comes first: it must not be stored either.
        let ran = b.run(&["import", "fio", &format!("good={}", file("read-plus.json")), name]);
        ran.ends_with(2).says(&format!("can't import {name}: ")).says(words);
        std::fs::remove_file(b.at(name)).expect("removed");
    }
    std::fs::File::create(b.at("huge.json")).and_then(|f| f.set_len(300 << 20)).expect("a sparse file");
    b.run(&["import", "fio", "huge.json"]).ends_with(2).says("huge.json").says("300 MiB");
    std::fs::remove_file(b.at("huge.json")).expect("removed");
    b.run(&["import", "fio", "nowhere.json"]).ends_with(2).says("nowhere.json");
    b.run(&["import", "fio", "."]).ends_with(2).says("write NAME=.");
    b.run(&["import", "fio", "here=."]).ends_with(2).says("not a file");
    b.run(&["import", "fio"]).ends_with(2).says("FILE");
    b.run(&["import", "fio", "--help"]).ends_with(0).says("Example:").says("tarebench import fio bare=bare-1.json");
    b.holds_only(&[]);
}

#[test]
fn a_job_that_failed_is_a_failure_and_not_a_number() {
    let b = Dir::new();
    let mut text = fio("read-plus.json");
    text["jobs"][0]["error"] = 28.into();
    std::fs::write(b.at("full.json"), text.to_string()).expect("written");
    b.run(&["import", "fio", "full.json"]).ends_with(7).says("fio ended this job with error 28");
    assert!(report(&b)["distributions"].as_array().is_some_and(Vec::is_empty));
}
