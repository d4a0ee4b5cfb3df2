//! Outputs made by hand: whole, damaged and impossible.

use hdrhistogram::Histogram;
use proptest::prelude::*;

use super::*;

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
    assert!(part.facts["from-percentiles"].contains("fio has 1.0 us"), "{:?}", part.facts);
    assert_eq!(part.facts.len(), 1);
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
    assert!(part.facts.is_empty(), "{:?}", part.facts);
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
    assert!(refused("{]").contains("not JSON"));
    assert!(refused(r#"{"a": 1}"#).contains("not fio's"));
    assert!(refused(r#"{"fio version": "fio-3.33", "jobs": []}"#).contains("no jobs"));
    assert!(refused(&good.replace("\"jobname\"", "\"name\"")).contains("job 1 has no `jobname`"));
    assert!(
        refused(&good.replace("total_ios\": 1000", "total_ios\": -5")).contains("job `j`: `read`: `total_ios` is -5")
    );
    assert!(refused(&good.replace("\"total_ios\": 1000,", "")).contains("`total_ios` is missing"));
    assert!(refused(&good.replace("\"mean\": 1000.0", "\"mean\": -1.0")).contains("`clat_ns`: `mean` is -1.0"));
    assert!(refused(&good.replace("\"800\"", "x").replace(": 800", ": \"x\"")).contains("percentile.50.000000"));
    assert!(refused(&good.replace("clat_ns", "clat")).contains("older than 3.0"));
    assert!(refused(&good.replace("total_ios\": 1000", "total_ios\": 0")).contains("none of its 1 jobs did any I/O"));
    assert!(refused(&good.replace("runtime\": 1000", "runtime\": 0")).contains("0 ms"));
}

#[test]
fn words_around_the_json_and_reports_in_between_do_no_harm() {
    let good = file(PERCENTILES);
    let early = good.replace("total_ios\": 1000", "total_ios\": 400");
    let text = format!("fio: {{odd}} words\n{early}\n{good}\nfio: that was all\n");
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

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_change_of_a_byte_makes_it_panic(at in 0_usize..300, byte in any::<u8>()) {
        let mut bytes = file(PERCENTILES).into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = parse(&bytes);
    }

    #[test]
    fn no_operation_is_lost_between_percentiles(n in 1_u64..100_000, values in prop::collection::vec(0_u64..1_000_000, 1..8)) {
        let list: Vec<(f64, u64)> = values.iter().enumerate().map(|(i, v)| (100.0 * (i + 1) as f64 / (values.len() + 1) as f64, *v)).collect();
        let mut sum = Sum::default();
        sum.percentiles(&list, n, 1, 1_000_000).expect("valid");
        prop_assert_eq!(sum.histogram.len(), n);
    }
}
