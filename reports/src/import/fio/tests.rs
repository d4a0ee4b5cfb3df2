//! Outputs made by hand: whole, damaged and impossible.

use hdrhistogram::Histogram;
use proptest::prelude::*;
use workloads::protocol::Sample;

use super::*;
use crate::comparison::Stated;

fn parse(bytes: &[u8]) -> anyhow::Result<Output> {
    let mut all = outputs(&text::decode(bytes.to_vec())?, JobNames::Whole)?;
    assert_eq!(all.len(), 1, "one run");
    Ok(all.remove(0))
}

/// A file of one job that reads, with this latency.
fn file(latency: &str) -> String {
    format!(
        r#"{{"fio version": "fio-3.33", "jobs": [{{"jobname": "j", "error": 0, "elapsed": 2, "job options": {{"rw": "randread"}},
        "read": {{"total_ios": 1000, "io_bytes": 4096000, "runtime": 1000, "clat_ns": {latency}}}}}]}}"#
    )
}

const PERCENTILES: &str = r#"{"min": 100, "max": 9000, "mean": 1000.0, "N": 1000,
    "percentile": {"1.000000": 110, "50.000000": 800, "99.000000": 4000}}"#;

fn one(latency: &str) -> Part {
    parse(file(latency).as_bytes()).expect("reads").parts.remove(0)
}

/// Names of the flags that the file raises.
fn doubts(part: &Part) -> Vec<&str> {
    part.facts.keys().map(String::as_str).filter(|name| !name.starts_with("stated: ")).collect()
}

fn stated(part: &Part) -> Stated {
    Stated::of(&part.facts).expect("it says something of its latencies")
}

/// A job of so many operations of 1 ms within a second, with these fields beside them.
fn job(name: &str, operations: u64, fields: &str) -> String {
    format!(
        r#"{{"jobname": "{name}", "job options": {{"rw": "randread"}}, {fields}
        "read": {{"total_ios": {operations}, "io_bytes": 4096, "runtime": 1000, "clat_ns": {{"min": 900000, "max": 1000000,
        "mean": 1000000.0, "N": {operations}, "percentile": {{"50.000000": 1000000}}}}}}}}"#
    )
}

/// A run of these jobs, with fields of the run before them.
fn run(fields: &str, jobs: &[String]) -> String {
    format!(r#"{{"fio version": "fio-3.33", {fields} "jobs": [{}]}}"#, jobs.join(", "))
}

fn all(text: &str) -> Vec<Output> {
    outputs(text, JobNames::Whole).expect("reads")
}

fn sample(output: &Output) -> &Sample {
    output.parts[0].outcome.as_ref().expect("a sample")
}

fn histogram(part: &Part) -> Histogram<u64> {
    let sample = part.outcome.as_ref().expect("a sample");
    let mut bytes = sample.histogram.as_slice();
    hdrhistogram::serialization::Deserializer::new().deserialize(&mut bytes).expect("reads back")
}

fn refused(text: &str) -> String {
    format!("{:#}", parse(text.as_bytes()).expect_err("refused"))
}

#[test]
fn percentiles_come_back_as_they_were() {
    let part = one(PERCENTILES);
    let histogram = histogram(&part);
    assert_eq!(histogram.len(), 1000);
    for (quantile, value) in [(0.01, 110), (0.5, 800), (0.99, 4000), (1.0, 9000)] {
        assert!(histogram.equivalent(histogram.value_at_quantile(quantile), value), "{quantile}");
    }
    let stated = Stated::of(&part.facts).expect("it says more than the histogram");
    assert_eq!(
        (stated.mean(), stated.max()),
        (Some(1000.0), Some(9000)),
        "fio's own, though the histogram has another mean"
    );
    assert!(stated.has(0.5) && stated.has(0.99) && !stated.has(0.9), "what fio doesn't print isn't there");
    assert_eq!(doubts(&part), ["from-percentiles"]);
}

#[test]
fn bins_are_exact_and_so_are_both_ends() {
    let part =
        one(r#"{"min": 101, "max": 8999, "mean": 1000.0, "N": 1000, "bins": {"102": 900, "4000": 90, "9000": 10}}"#);
    let histogram = histogram(&part);
    assert_eq!((histogram.len(), histogram.min()), (1000, 101));
    assert!(
        histogram.equivalent(histogram.max(), 8999) && histogram.equivalent(histogram.value_at_quantile(0.95), 4000)
    );
    assert!(doubts(&part).is_empty(), "{:?}", part.facts);
    assert!(Stated::of(&part.facts).expect("exact").has(0.123), "bins tell all percentiles");
}

#[test]
fn the_impossible_is_imported_and_named() {
    let falling = one(&PERCENTILES.replace("4000", "700"));
    assert_eq!(falling.facts["percentiles-not-monotonic"], "p50 is 800 ns and p99 is 700 ns");
    let zero = one(r#"{"min": 0, "max": 90, "mean": 9.0, "N": 1000, "bins": {"0": 900, "90": 100}}"#);
    assert_eq!(zero.facts["zero-latency"], "900 of 1000 operations took 0 ns");
    let jump =
        one(r#"{"min": 10, "max": 7000000000, "mean": 500000.0, "N": 1000, "bins": {"10": 999, "7000000000": 1}}"#);
    assert_eq!(jump.facts["clock-jump"], "an operation of 7.000 s in a job of 1.001 s");
    let sum = one(r#"{"min": 10, "max": 5000000, "mean": 4000000.0, "N": 1000, "bins": {"4000000": 1000}}"#);
    assert!(sum.facts["latency-sum"].starts_with("the latencies add up to 4.000 s within 1.001 s"), "{:?}", sum.facts);
}

#[test]
fn what_is_damaged_is_refused_with_the_place() {
    let good = file(PERCENTILES);
    assert!(refused("fio: nothing").contains("no JSON"));
    assert!(refused(&good[..good.len() / 2]).contains("cut off"));
    assert!(refused("{\"a\": ]}").contains("not JSON"));
    assert!(refused(r#"{"a": 1}"#).contains("not fio's"));
    assert!(refused(r#"{"fio version": "fio-3.33", "jobs": []}"#).contains("no jobs"));
    assert!(refused(&good.replace("\"jobname\"", "\"name\"")).contains("job 1 has no `jobname`"));
    assert!(
        refused(&good.replace("total_ios\": 1000", "total_ios\": -5")).contains("job `j`: `read`: `total_ios` is -5")
    );
    assert!(refused(&good.replace("\"total_ios\": 1000,", "")).contains("`total_ios` is missing"));
    assert!(refused(&good.replace("\"mean\": 1000.0", "\"mean\": -1.0")).contains("`clat_ns`: `mean` is -1.0"));
    assert!(refused(&good.replace("\"800\"", "x").replace(": 800", ": \"x\"")).contains("percentile.50.000000"));
    assert!(refused(&good.replace("clat_ns", "clat")).contains("`clat_ns` is missing"));
    let old = refused(&good.replace("fio-3.33", "fio-2.1.4").replace("total_ios", "ios"));
    assert!(old.contains("fio-2.1.4 is older than 3.0"), "by its version, whatever it lacks: {old}");
    assert!(refused(&good.replace("total_ios\": 1000", "total_ios\": 0")).contains("they did no I/O"));
    assert!(refused(&good.replace("runtime\": 1000", "runtime\": 0")).contains("0 ms"));
}

#[test]
fn words_around_the_json_and_reports_in_between_do_no_harm() {
    let good = file(PERCENTILES);
    let early = good.replace("total_ios\": 1000", "total_ios\": 400");
    let early = early.replace("runtime\": 1000", "runtime\": 400");
    let text = format!("fio: {{odd}} words\n{early}\nfio: terminating on signal 2\n{good}\n{{\"event\": \"end\"}}\n");
    let part = parse(text.as_bytes()).expect("reads").parts.remove(0);
    assert_eq!(part.outcome.expect("a sample").operations, 1000);
}

#[test]
fn jobs_of_a_name_are_one_and_a_failed_one_is_a_failure() {
    let good = file(PERCENTILES);
    let job = good[good.find("[{").expect("jobs") + 1..good.len() - 2].to_string();
    let two = good.replace(&job, &format!("{job}, {job}"));
    let part = parse(two.as_bytes()).expect("reads").parts.remove(0);
    assert_eq!(histogram(&part).len(), 2000);
    let sample = part.outcome.expect("a sample");
    assert_eq!((sample.operations, sample.concurrency, sample.elapsed_ns), (2000, 2, 1_000_000_000));
    let failed = parse(good.replace("\"error\": 0", "\"error\": 28").as_bytes()).expect("reads").parts.remove(0);
    assert!(failed.outcome.expect_err("a failure").message.contains("No space left"));
}

#[test]
fn several_documents_are_reports_of_one_run_or_several_runs() {
    let (early, late) = (job("j", 400, "").replace("1000,", "400,"), job("j", 1000, ""));
    let report = |jobs: &str, time: u64| run(&format!(r#""timestamp_ms": {time},"#), &[jobs.to_string()]);
    // Within the time that the later one took: the same run further on, in an array too.
    let one = all(&format!("[\n{},\n{}\n]", report(&early, 5000), report(&late, 5600)));
    assert_eq!((one.len(), sample(&one[0]).operations), (1, 1000));
    // As much later as the later one took in all, or more done in no more time, or less: another run.
    assert_eq!(all(&format!("{}{}", report(&early, 5000), report(&late, 6000))).len(), 2);
    let runs = all(&format!("{}\n{}", run("", &[job("j", 500, "")]), run("", &[job("j", 1000, "")])));
    assert_eq!(runs.iter().map(|r| sample(r).operations).collect::<Vec<_>>(), [500, 1000]);
    assert_eq!(all(&format!("{} {}", run("", std::slice::from_ref(&late)), run("", &[early]))).len(), 2);
    assert_eq!(all(&format!("{} {}", run("", std::slice::from_ref(&late)), run("", &[job("k", 1000, "")]))).len(), 2);
    // The same report twice is no second run.
    assert_eq!(all(&run("", &[late]).repeat(2)).len(), 1);
}

#[test]
fn directions_that_fio_adds_up_and_unknown_ones_are_seen() {
    let mixed = file(PERCENTILES).replace("\"read\":", "\"mixed\":");
    assert_eq!(parse(mixed.as_bytes()).expect("reads").parts[0].workload, "fio/j-mixed");
    let zoned = file(PERCENTILES).replace("\"read\":", "\"append\":");
    let why = refused(&zoned);
    assert!(why.contains("1000 operations of `append`") && !why.contains("no I/O"), "{why}");
    let beside = parse(run("", &[job("a", 10, ""), job("b", 10, "").replace("\"read\":", "\"append\":")]).as_bytes());
    let beside = beside.expect("reads");
    assert_eq!((beside.parts.len(), beside.left_out.len()), (1, 1));
}

#[test]
fn operations_in_flight_are_what_the_file_says_or_unknown() {
    let flight = |fields: &str, job: String| sample(&all(&run(fields, &[job]))[0]).concurrency;
    let depth = |job: String| job.replace("\"rw\": \"randread\"", "\"iodepth\": \"16\"");
    assert_eq!(flight("", depth(job("j", 9, ""))), 16);
    assert_eq!(flight("", depth(job("j", 9, r#""job_runtime": 5990,"#))), 96, "a group of six");
    assert_eq!(flight("", job("j", 9, r#""job_runtime": 1000,"#)), 1);
    // 0 is unknown: a group, jobs that nobody counted, options that nobody printed.
    assert_eq!(flight(r#""global options": {"group_reporting": ""},"#, job("j", 9, "")), 0);
    assert_eq!(flight(r#""global options": {"numjobs": "4"},"#, job("j", 9, "")), 0);
    assert_eq!(flight("", job("j", 9, "").replace("job options", "other")), 0);
    let old = run("", &[job("j", 9, "")]).replace("fio-3.33", "fio-3.1");
    assert_eq!(sample(&all(&old)[0]).concurrency, 0);
    // A synchronous engine has one at a time, whatever the depth it was given; fio counts what there was.
    let counted = |first: &str| format!(r#""iodepth_level": {{"1": {first}, "2": 0.0, ">=64": 0.0}},"#);
    assert_eq!(flight("", depth(job("j", 9, &counted("100.000000")))), 1);
    assert_eq!(flight("", depth(job("j", 9, &counted("0.100000")))), 16, "while the queue fills");
    // The latencies of 9000 operations of 1 ms are more than a second: too much for one in flight, and of unknown nobody knows.
    assert!(doubts(&all(&run("", &[job("j", 9000, "")]))[0].parts[0]).contains(&"latency-sum"));
    let group = run(r#""global options": {"group_reporting": ""},"#, &[job("j", 9000, "")]);
    assert!(!doubts(&all(&group)[0].parts[0]).contains(&"latency-sum"));
}

#[test]
fn what_the_names_of_all_jobs_begin_with_can_be_left_away() {
    let named = |names: &[&str]| {
        let jobs: Vec<_> = names.iter().map(|name| job(name, 9, "")).collect();
        let mut all = outputs(&run("", &jobs), JobNames::Short).expect("reads");
        all.remove(0).parts.into_iter().map(|part| part.workload).collect::<Vec<_>>()
    };
    assert_eq!(named(&["bw-host-7f3-read", "bw-host-7f3-write"]), ["fio/read-read", "fio/write-read"]);
    assert_eq!(named(&["vm_a_rand", "vm_a_mix_rand", "vm_a_rand"]), ["fio/rand-read", "fio/mix_rand-read"]);
    assert_eq!(named(&["read", "readmix"]), ["fio/read-read", "fio/readmix-read"], "whole words only");
    assert_eq!(named(&["a-", "a-b"]), ["fio/a--read", "fio/a-b-read"], "something stays of each");
    assert_eq!(named(&["a-read"]), ["fio/a-read-read"], "one job has nothing in common with others");
    assert_eq!(named(&["é-1", "é-2"]), ["fio/1-read", "fio/2-read"]);
    // Names that print alike, and one that looks like what is printed for another.
    let unprintable = ["bw-\\u0001", "bw-\\u0002", "bw-\\\\u{1}", "bw-a", "bw-a "];
    assert_eq!(
        named(&unprintable),
        [r"fio/\u{1}-read", r"fio/\u{2}-read", r"fio/\\u{1}-read", "fio/a-read", "fio/a -read"]
    );
}

#[test]
fn jobs_of_a_name_that_waited_for_each_other_are_not_side_by_side() {
    let two = |first: &str, second: &str| {
        let all = all(&run("", &[job("j", 900, first), job("j", 900, second)]));
        let sample = sample(&all[0]);
        (sample.operations, sample.elapsed_ns / 1_000_000, sample.concurrency)
    };
    assert_eq!(two(r#""groupid": 0,"#, r#""groupid": 0,"#), (1800, 1000, 2));
    assert_eq!(two(r#""groupid": 0, "elapsed": 3,"#, r#""groupid": 1, "elapsed": 3,"#), (1800, 2000, 1));
    assert_eq!(
        two(r#""groupid": 0, "elapsed": 1,"#, r#""groupid": 1, "elapsed": 1,"#),
        (1800, 1000, 2),
        "`new_group` alone"
    );
    let started = |at: u64| (r#""groupid": 0, "job_start": 5000,"#, format!(r#""groupid": 1, "job_start": {at},"#));
    let (first, second) = started(6010);
    assert_eq!(two(first, &second), (1800, 2000, 1));
    let (first, second) = started(5010);
    assert_eq!(two(first, &second), (1800, 1000, 2));
}

#[test]
fn jobs_of_a_name_with_other_options_are_told() {
    let other = job("j", 9, "").replace("randread", "read");
    let output = all(&run("", &[job("j", 9, ""), other])).remove(0);
    assert!(output.parts[0].facts["mixed-options"].ends_with("rw randread, read"), "{:?}", output.parts[0].facts);
}

#[test]
fn what_has_no_latencies_has_throughput() {
    let none = one(r#"{"min": 0, "max": 0, "mean": 0.0, "N": 0}"#);
    let sample = none.outcome.as_ref().expect("a sample");
    assert_eq!((sample.operations, sample.elapsed_ns, histogram(&none).len()), (1000, 1_000_000_000, 0));
    assert!(none.facts["no-latencies"].contains("gtod_reduce"), "{:?}", none.facts);
    assert_eq!((stated(&none).mean(), stated(&none).has(0.5)), (None, false));
    // Neither bins nor percentiles: the mean is known, and no percentile is.
    let moments = one(r#"{"min": 100, "max": 9000, "mean": 1000.0, "N": 1000}"#);
    assert_eq!(
        (stated(&moments).mean(), stated(&moments).max(), stated(&moments).has(0.5)),
        (Some(1000.0), Some(9000), false)
    );
    assert!(doubts(&moments).is_empty());
}

#[test]
fn percentiles_of_total_latencies_are_taken_where_there_are_no_others() {
    let total = format!(r#"{{"min": 1, "max": 2, "mean": 1.5, "N": 1000}}, "lat_ns": {PERCENTILES}"#);
    let part = one(&total);
    assert!(histogram(&part).equivalent(histogram(&part).value_at_quantile(0.5), 800));
    assert_eq!(doubts(&part), ["from-percentiles", "total-latency"]);
    assert_eq!(doubts(&one(&format!(r#"{PERCENTILES}, "lat_ns": {{}}"#))), ["from-percentiles"]);
}

#[test]
fn parts_that_took_no_time_and_jobs_that_failed_leave_the_others_alone() {
    let short = job("tiny", 4, "").replace("runtime\": 1000", "runtime\": 0");
    let output = all(&run("", &[short.clone(), job("big", 10, "")])).remove(0);
    assert_eq!(output.parts.iter().map(|p| p.workload.as_str()).collect::<Vec<_>>(), ["fio/big-read"]);
    assert!(output.left_out[0].contains("read of job `tiny`") && output.left_out[0].contains("0 ms"), "{output:?}");
    let failed = short.replace("\"job options\"", "\"error\": 5, \"job options\"");
    let output = all(&run("", &[failed, job("big", 10, "")])).remove(0);
    assert!(output.parts[0].outcome.as_ref().is_err_and(|f| f.message.contains("error 5")), "{output:?}");
    assert!(output.parts[1].outcome.is_ok());
}

#[test]
fn percentiles_that_can_not_be_are_named_and_fillers_are_not_percentiles() {
    let filled = one(&PERCENTILES.replace("\"1.000000\"", "\"0.00\": 0, \"0.00\": 0, \"1.000000\""));
    assert_eq!(
        (histogram(&filled).min(), doubts(&filled)),
        (100, vec!["from-percentiles"]),
        "the filler is no latency"
    );
    let below = one(&PERCENTILES.replace("\"min\": 100", "\"min\": 500"));
    assert_eq!(below.facts["percentiles-not-monotonic"], "p1 is 110 ns and the smallest latency is 500 ns");
    assert!(histogram(&below).equivalent(histogram(&below).value_at_quantile(0.5), 800), "as fio has it all the same");
    let zero =
        one(r#"{"min": 0, "max": 900, "mean": 80.0, "N": 1000, "percentile": {"20.000000": 0, "30.000000": 100}}"#);
    assert_eq!(zero.facts["zero-latency"], "200 of 1000 operations took 0 ns");
    let short = one(r#"{"min": 10, "max": 90, "mean": 20.0, "N": 1000, "bins": {"10": 250, "20": 250}}"#);
    assert_eq!(short.facts["bins-incomplete"], "the bins hold 500 of 1000 latencies");
    let long = one(&PERCENTILES.replace("9000", "90000000000"));
    assert!(long.facts["saturated"].contains("90.000 s"), "{:?}", long.facts);
    assert_eq!(stated(&long).max(), Some(90_000_000_000));
}

#[test]
fn names_and_options_of_others_are_one_visible_line() {
    let odd = job("x\\u001b[31mred\\nline", 10, r#""hostname": "h\u0007","#).replace("randread", "rand\\u001bread");
    let output = all(&run(r#""time": "now\r\nlater","#, &[odd])).remove(0);
    assert_eq!(output.parts[0].workload, r"fio/x\u{1b}[31mred\nline-read");
    // The backslashes of the name are written twice here.
    assert!(!format!("{output:?}").replace(r"\\u{", "").contains(r"\u{"), "{output:?}");
    let long = run("", &[job(&"n".repeat(5000), 10, "")]);
    assert!(refused(&long).contains("5000 characters"));
}

#[test]
fn clients_of_a_server_are_added_up_and_their_sum_is_not() {
    let clients =
        [job("j", 300, r#""hostname": "a","#), job("j", 500, r#""hostname": "b","#), job("All clients", 800, "")];
    let output = all(&run("", &clients).replace("\"jobs\"", "\"client_stats\"")).remove(0);
    assert_eq!((output.hosts.join(","), output.parts.len()), ("a,b".into(), 1));
    assert_eq!((sample(&output).operations, sample(&output).concurrency), (800, 2));
}

#[test]
fn promises_follow_from_the_options() {
    let of = |options: &str| {
        let part = one(PERCENTILES);
        let text = file(PERCENTILES).replace("\"rw\": \"randread\"", options).replace("\"read\"", "\"write\"");
        assert!(!part.direct && !part.durable);
        let part = parse(text.as_bytes()).expect("reads").parts.remove(0);
        (part.direct, part.durable)
    };
    assert_eq!(of(r#""direct": "1""#), (true, false));
    assert_eq!(of(r#""buffered": "0", "sync": "dsync""#), (true, true));
    assert_eq!(of(r#""direct": "0", "sync": "none""#), (false, false));
    assert_eq!(of(r#""fsync": "1""#), (false, false), "its flushes are a workload of their own");
}

#[test]
fn ten_thousand_jobs_are_read_in_no_more_than_their_share_of_time() {
    let seconds = |jobs: usize| {
        let text = run("", &(0..jobs).map(|i| job(&format!("j{i}"), 10, "")).collect::<Vec<_>>());
        let begun = std::time::Instant::now();
        assert_eq!(all(&text)[0].parts.len(), jobs);
        begun.elapsed().as_secs_f64()
    };
    let (few, many) = (seconds(500), seconds(5000));
    assert!(many < 40.0 * few + 0.5, "{few} s, {many} s");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = text::decode(bytes).and_then(|text| outputs(&text, JobNames::Short));
    }

    #[test]
    fn no_change_of_a_byte_makes_it_panic(at in 0_usize..300, byte in any::<u8>()) {
        let mut bytes = file(PERCENTILES).into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = text::decode(bytes).and_then(|text| outputs(&text, JobNames::Short));
    }
}
