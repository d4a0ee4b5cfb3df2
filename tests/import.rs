//! fio's output in the store: what fio says is what the report says, and what can't be understood leaves nothing behind.

mod common;

use std::path::Path;
use std::process::Command;

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
        .says("fio/rr-read in bins: 34\u{202f}724 operations, ")
        .says("p50 35.6");
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

/// Blocks of one name: the file with its first job's runtime longer by a millisecond each time.
fn blocks(b: &Dir, name: &str, output: &Value) -> Vec<String> {
    let one = |i: u64| {
        let (mut output, file) = (output.clone(), format!("{name}-{i}.json"));
        for direction in ["read", "write"] {
            if let Some(runtime) = output["jobs"][0].get_mut(direction).and_then(|d| d.get_mut("runtime")) {
                *runtime = runtime.as_u64().map_or(0, |ms| if ms > 0 { ms + i } else { 0 }).into();
            }
        }
        std::fs::write(b.at(&file), output.to_string()).expect("written");
        format!("{name}={file}")
    };
    (0..6).map(one).collect()
}

fn import(b: &Dir, files: &[String]) -> common::Ran {
    let command: Vec<&str> = ["import", "fio"].into_iter().chain(files.iter().map(String::as_str)).collect();
    b.run(&command)
}

#[test]
fn the_same_name_again_is_the_next_block_and_the_first_is_the_baseline() {
    let b = Dir::new();
    let read = fio("read-plus.json");
    let files = [blocks(&b, "bare", &read), blocks(&b, "runc", &read)].concat();
    import(&b, &files).ends_with(0).says("import fio over bare");
    let report = report(&b);
    assert_eq!((report["run"]["blocks"].as_u64(), report["run"]["baseline"].as_str()), (Some(6), Some("bare")));
    let cell = report["cells"].as_array().expect("cells").iter().find(|c| c["metric"] == "p99").expect("a cell");
    assert_eq!(
        (cell["overhead"].as_f64(), cell["low"].as_f64()),
        (Some(1.0), Some(1.0)),
        "the same latencies on both sides"
    );
}

#[test]
fn a_file_that_is_given_six_times_is_one_block() {
    let b = Dir::new();
    let read = file("read-plus.json");
    std::fs::copy(&read, b.at("copy.json")).expect("copied");
    let files: Vec<String> =
        ["bare", "box"].iter().flat_map(|name| [format!("{name}={read}"), format!("{name}=copy.json")]).collect();
    import(&b, &files).ends_with(0).says("copy.json is block 1 of bare again: left out").says("no finite interval");
    assert_eq!(report(&b)["run"]["blocks"], 1);
}

/// A run of one job of 4 KiB operations at this rate, with these options and, beside them, flushes.
fn written(rate: u64, options: Value, sync: Value) -> Value {
    let ns = 1_000_000_000 / rate;
    serde_json::json!({"fio version": "fio-3.36", "jobs": [{"jobname": "w", "job options": options, "job_runtime": 1000,
        "write": {"total_ios": rate, "io_bytes": 4096 * rate, "runtime": 1000, "clat_ns": {
            "min": ns / 2, "max": 2 * ns, "mean": ns, "percentile": {"50.000000": ns, "99.000000": 2 * ns}}},
        "sync": sync}]})
}

#[test]
fn what_files_promise_and_how_they_differ_is_judged_by_their_own_options() {
    let b = Dir::new();
    let direct = || serde_json::json!({"rw": "randwrite", "direct": "1", "bs": "4k", "fsync": "32"});
    let flushed = serde_json::json!({"total_ios": 900, "lat_ns": {"min": 50, "max": 1200, "mean": 68,
        "percentile": {"50.000000": 68, "99.000000": 169}}});
    let base = || without_sync(written(20_000, direct(), Value::Null));
    let files = |other: Value| [blocks(&b, "bare", &base()), blocks(&b, "box", &other)].concat();
    // Twice as fast as the device, and flushed in no time.
    import(&b, &files(written(44_000, direct(), flushed))).ends_with(0);
    let report = |b: &Dir| report(b);
    assert_eq!(flags(distribution(&report(&b), "fio/w-write", "box")), ["implausible", "from-percentiles"]);
    assert_eq!(flags(distribution(&report(&b), "fio/w-sync", "box")), ["implausible", "from-percentiles"]);
    // A single file has no interval, and is as fast.
    let fast = without_sync(written(44_000, direct(), Value::Null));
    import(&b, &[files(fast.clone())[0].clone(), blocks(&b, "box", &fast)[0].clone()]).ends_with(0);
    assert_eq!(flags(distribution(&report(&b), "fio/w-write", "box")), ["implausible", "from-percentiles"]);
    // Another job under the same name: what differs is named, and what only says where isn't.
    let other = serde_json::json!({"rw": "randwrite", "bs": "128k", "iodepth": "64", "fsync": "32", "filename": "/x"});
    import(&b, &files(without_sync(written(44_000, other, Value::Null)))).ends_with(0);
    let report = report(&b);
    let d = distribution(&report, "fio/w-write", "box");
    assert_eq!(flags(d), ["unequal-options", "from-percentiles"]);
    let evidence = d["flags"][0]["evidence"].as_str().expect("evidence");
    assert_eq!(evidence, "bs 128k, 4k; direct 0, 1; iodepth 64, 1 (its own, the baseline's)");
}

fn without_sync(mut output: Value) -> Value {
    output["jobs"][0].as_object_mut().expect("a job").remove("sync");
    output
}

#[test]
fn what_a_file_does_not_say_no_report_says() {
    let b = Dir::new();
    let mut quick = fio("read-plus.json");
    quick["jobs"][0]["read"]["clat_ns"] = serde_json::json!({"min": 0, "max": 0, "mean": 0.0, "N": 0});
    let mut few = fio("read-plus.json");
    let clat = few["jobs"][0]["read"]["clat_ns"].as_object_mut().expect("an object");
    clat.remove("bins");
    clat.insert("percentile".into(), serde_json::json!({"50.000000": 35_000, "95.000000": 60_000}));
    let files = [blocks(&b, "few", &few), blocks(&b, "quick", &quick)].concat();
    import(&b, &files).ends_with(0).says("p50 -, p99 -").says("(no-latencies)").says("p50 35.0 µs, p99 -");
    let report = report(&b);
    let (few, quick) = (distribution(&report, "fio/rr-read", "few"), distribution(&report, "fio/rr-read", "quick"));
    assert_eq!((&few["service"]["p90"], &few["stalls_per_million"]), (&Value::Null, &Value::Null));
    assert_eq!((&quick["service"]["p50"], &quick["service"]["max"]), (&Value::Null, &Value::Null));
    assert!(quick["operations_per_second"].as_f64().is_some_and(|rate| rate > 17_000.0), "{quick}");
    for cell in report["cells"].as_array().expect("cells") {
        let told = cell["metric"] == "throughput";
        assert_eq!(cell["overhead"].is_number(), told, "{cell}");
        assert!(told || cell["withheld"]["reason"] == "not-stated", "{cell}");
    }
    // What never was ours to know: whether a host was disturbed, how it was reached, in which order what ran.
    for format in ["terminal", "markdown", "html"] {
        let text = b.run(&["report", "--format", format]).ends_with(0).stdout;
        for invented in
            ["void round", "none<", " none", "as planned", "1 round", "in an order drawn", "On this machine"]
        {
            assert!(!text.contains(invented), "{format} says `{invented}`: {text}");
        }
    }
    let environments = report["environments"].as_array().expect("environments");
    assert!(environments.iter().all(|e| e["network"] == "unknown"), "{environments:?}");
    for format in ["terminal", "html", "markdown", "csv", "svg", "junit", "bmf", "openmetrics", "hlog", "hgrm"] {
        let drawn = b.run(&["report", "--format", format, "-o", "drawn"]).ends_with(0);
        assert!(!drawn.stderr.contains("panicked"), "{format}");
    }
}

/// The commands of docs/importing.md, as they stand there and in the help.
#[test]
fn a_file_whose_jobs_are_boxes_is_parted_as_the_documents_say() {
    let docs = include_str!("../docs/importing.md");
    let parts: Vec<&str> = docs.lines().map(str::trim).filter(|line| line.starts_with("jq ")).collect();
    assert_eq!(parts.len(), 2, "the documents say how");
    let b = Dir::new();
    let help = b.run(&["import", "fio", "--help"]).ends_with(0).stdout;
    assert!(parts.iter().all(|line| help.contains(line)), "{help}");
    if !Command::new("jq").arg("--version").output().is_ok_and(|ran| ran.status.success()) {
        eprintln!("SKIPPED: needs jq");
        return;
    }
    let mut whole = fio("read-plus.json");
    let job = |name: &str| {
        let mut job = whole["jobs"][0].clone();
        job["jobname"] = name.into();
        job
    };
    whole["jobs"] = serde_json::json!([job("bare"), job("runc")]);
    std::fs::write(b.at("all.json"), whole.to_string()).expect("written");
    let parted = Command::new("sh").args(["-ec", &parts.join("\n")]).current_dir(b.at("")).output().expect("sh starts");
    assert!(parted.status.success(), "{}", String::from_utf8_lossy(&parted.stderr));
    let files = ["bare.json".to_string(), "runc.json".to_string()];
    import(&b, &files).ends_with(0).says("fio/log-read in bare: ").says("fio/log-read in runc: ");
    let report = report(&b);
    assert!(report["cells"].as_array().expect("cells").iter().any(|cell| cell["environment"] == "runc"), "{report}");
}

#[test]
fn names_of_jobs_drive_no_terminal() {
    let b = Dir::new();
    let mut odd = fio("read-plus.json");
    odd["jobs"][0]["jobname"] = "4k \u{1b}[31mred\nline <b>".into();
    std::fs::write(b.at("odd.json"), odd.to_string()).expect("written");
    let ran = b.run(&["import", "fio", "odd.json"]).ends_with(0).says(r"fio/4k \u{1b}[31mred\nline <b>-read in odd: ");
    assert!(!ran.stdout.contains('\u{1b}') && !ran.stderr.contains('\u{1b}'), "{}", ran.stdout);
}

#[test]
#[cfg(unix)]
fn pipes_are_read_as_files_are() {
    use std::io::Write as _;
    use std::process::Stdio;
    let b = Dir::new();
    let text = std::fs::read(file("read-plus.json")).expect("readable");
    let mut command = b.command(&["import", "fio", "runc=-"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    child.stdin.take().expect("a pipe").write_all(&text).expect("it reads all of it");
    common::ran(child.wait_with_output().expect("it ends")).ends_with(0).says("fio/rr-read in runc: ");
    let made = std::process::Command::new("mkfifo").arg(b.at("pipe")).status();
    assert!(made.is_ok_and(|status| status.success()), "mkfifo");
    let (pipe, writer) = (b.at("pipe"), text.clone());
    let writer = std::thread::spawn(move || std::fs::write(pipe, writer));
    b.run(&["import", "fio", "pipe"]).ends_with(0).says("fio/rr-read in pipe: ");
    writer.join().expect("no panic").expect("written");
    b.run(&["import", "fio", "/dev/null"]).ends_with(2).says("it is empty");
}

#[test]
fn what_is_left_out_is_said_and_two_runs_in_a_file_are_two_blocks() {
    let b = Dir::new();
    let (one, mut two) = (fio("read-plus.json"), fio("read-plus.json"));
    let mut short = two["jobs"][0].clone();
    (short["jobname"], short["read"]["runtime"]) = ("tiny".into(), 0.into());
    two["jobs"][0]["read"]["runtime"] = 1999.into();
    two["jobs"].as_array_mut().expect("jobs").push(short);
    std::fs::write(b.at("both.json"), format!("fio: words\n{one}\n{two}\n")).expect("written");
    b.run(&["import", "fio", "both.json"])
        .ends_with(0)
        .says("both.json has 2 runs: each is a block of both")
        .says("read of job `tiny` is left out: 34724 operations in a `runtime` of 0 ms");
    assert_eq!(report(&b)["run"]["blocks"], 2);
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
        read["clat_ns"]["N"] = (34_724 + 500).into();
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

/// With so many MiB of addresses, of which a program may use fewer.
fn within(b: &Dir, mib: u32, words: &[&str]) -> common::Ran {
    let plain = b.command(words);
    let mut command = std::process::Command::new("sh");
    let limited = format!("ulimit -v {} && exec \"$0\" \"$@\"", mib << 10);
    command.args(["-c", &limited]).arg(plain.get_program()).args(plain.get_args()).current_dir(b.root());
    common::ran(command.stdin(std::process::Stdio::null()).output().expect("a shell"))
}

#[test]
fn what_is_long_or_has_no_end_takes_no_more_memory_than_there_is() {
    let b = Dir::new();
    let mut many = fio("read-plus.json");
    let job = &many["jobs"][0];
    let few = job["read"]["clat_ns"]["bins"].as_object().expect("bins").iter().take(20);
    let few: serde_json::Map<String, Value> = few.map(|(ns, count)| (ns.clone(), count.clone())).collect();
    let mut job = job.clone();
    job["read"]["clat_ns"]["bins"] = few.into();
    many["jobs"] = vec![job; 10_000].into();
    std::fs::write(b.at("many.json"), many.to_string()).expect("written");
    within(&b, 1024, &["import", "fio", "many.json"]).ends_with(0).says("fio/rr-read in many");
    std::fs::remove_file(b.at("tarebench.db")).expect("a store");
    within(&b, 1024, &["import", "fio", "endless=/dev/zero"]).ends_with(2).says("more than 256 MiB");
    b.holds_only(&["many.json"]);
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

/// An output of another program, made by it.
fn other(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(name).display().to_string()
}

#[test]
fn summaries_of_sockperf_have_what_it_prints() {
    let b = Dir::new();
    let file = other("sockperf.txt");
    b.run(&["import", "sockperf", &format!("bare={file}")])
        .ends_with(0)
        .says("sockperf/latency in bare: 67\u{202f}469 operations, ")
        .says("p50 5.26 µs, p99 7.77 µs  (from-percentiles)");
    let d = &report(&b)["distributions"][0];
    assert_eq!(d["service"]["max"], 5_438_248);
    b.run(&["import", "sockperf", &other("iperf3.json")]).ends_with(2).says("no results of sockperf's client");
    b.run(&["import", "sockperf", "--help"]).ends_with(0).says("Example:");
}

#[test]
fn outputs_of_iperf3_have_throughput_and_no_latency() {
    let b = Dir::new();
    let file = other("iperf3.json");
    b.run(&["import", "iperf3", &format!("bare={file}")])
        .ends_with(0)
        .says("iperf3/tcp in bare: ")
        .says("746 MB/s, p50 -, p99 -  (no-latencies)");
    let d = report(&b)["distributions"][0].clone();
    assert_eq!((&d["bytes"], &d["service"]["p50"]), (&1_492_254_720_u64.into(), &Value::Null));
    b.run(&["import", "iperf3", &other("sockperf.txt")]).ends_with(2).says("use iperf3's -J");
    b.run(&["import", "iperf3", "--help"]).ends_with(0).says("Example:");
}

#[test]
fn files_of_hdr_histogram_have_a_unit_that_is_told() {
    let b = Dir::new();
    let (log, table) = (other("replies.hlog"), other("replies.hgrm"));
    b.run(&["import", "hdr", &log]).ends_with(2).says("say --unit ns, us or ms");
    // 6000 latencies in 3 s; the library that wrote them says p50 402, p99 1254, largest 2519.
    b.run(&["import", "hdr", "--unit", "us", &format!("bare={log}")])
        .ends_with(0)
        .says("hdr/latency in bare: 6\u{202f}000 operations, 2000 op/s, p50 402 µs, p99 1.25 ms\n");
    let d = report(&b)["distributions"][0].clone();
    same(&d["service"]["max"], &2_519_000.into());
    // The same as a table, in milliseconds: it has no time, and no line at the median.
    b.run(&["import", "hdr", "--unit", "ms", &format!("bare={table}")])
        .ends_with(0)
        .says("hdr/latency in bare: 6\u{202f}000 operations, - op/s, p50 -, p99 ")
        .says("(from-percentiles)");
    let d = report(&b)["distributions"][0].clone();
    assert_eq!((&d["operations_per_second"], &d["service"]["max"]), (&Value::Null, &2_519_000.into()));
    b.run(&["import", "hdr", "--help"]).ends_with(0).says("Example:");
}
