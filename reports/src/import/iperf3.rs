//! iperf3's JSON (`-J`): how much arrived in how much time, and no latencies.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use serde_json::{Map, Value};
use workloads::Resource;
use workloads::protocol::Sample;

use super::spread::{Spread, pack};
use super::{Output, Part, text};
use crate::comparison::Stated;
use crate::record::{Failure, Step};
use crate::render::escape::one_line;

/// The runs in a text.
pub(super) fn outputs(text: &str) -> anyhow::Result<Vec<Output>> {
    let documents = text::documents(text, "intervals", "iperf3").context("use iperf3's -J")?;
    documents.iter().map(output).collect()
}

fn output(root: &Map<String, Value>) -> anyhow::Result<Output> {
    let start = root.get("start").context("`start` is missing")?;
    let word = |path: &str| start.pointer(path).and_then(Value::as_str).map(one_line);
    let error = root.get("error").and_then(Value::as_str).map(one_line);
    let options = options(start.get("test_start"));
    let Some(protocol) = options.get("protocol").map(|p| p.to_lowercase()) else {
        bail!("it has no test: {}", error.as_deref().unwrap_or("`test_start` is missing"));
    };
    let mut parts = Vec::new();
    let reverse = options.get("reverse").is_some_and(|v| v != "0");
    for (sum, direction) in
        [("sum_received", if reverse { "-reverse" } else { "" }), ("sum_received_bidir_reverse", "-back")]
    {
        let sum = root.get("end").and_then(|end| end.get(sum)).and_then(Value::as_object);
        let outcome = match (&error, sum) {
            (Some(error), _) => {
                Err(Failure { step: Step::Burst, message: format!("iperf3 ended with an error: {error}") })
            }
            (None, Some(sum)) => Ok(sample(sum, &options)?),
            (None, None) => continue,
        };
        parts.push(Part {
            workload: format!("iperf3/{protocol}{direction}"),
            about: format!(
                "Measured by iperf3: bytes that arrived over {protocol}; an operation is a block or a datagram"
            ),
            options: options.clone(),
            resource: Resource::Network,
            durable: false,
            direct: false,
            streams: true,
            paced: options.get("target_bitrate").is_some_and(|rate| rate != "0"),
            outcome,
            facts: no_latencies(),
        });
        if error.is_some() {
            break;
        }
    }
    ensure!(!parts.is_empty(), "`end` has no `sum_received`: nothing arrived");
    let seconds = parts.iter().filter_map(|p| p.outcome.as_ref().ok()).map(|s| s.elapsed_ns as f64 / 1e9);
    Ok(Output {
        version: word("/version").unwrap_or_else(|| "iperf3".into()),
        time: word("/timestamp/time"),
        hosts: word("/system_info").into_iter().collect(),
        place: word("/connecting_to/host"),
        command: Some(options.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ")),
        seconds: seconds.fold(0.0, f64::max),
        parts,
        left_out: Vec::new(),
    })
}

fn options(value: Option<&Value>) -> BTreeMap<String, String> {
    let text = |v: &Value| one_line(&v.as_str().map_or_else(|| v.to_string(), str::to_string));
    value.and_then(Value::as_object).into_iter().flatten().map(|(k, v)| (one_line(k), text(v))).collect()
}

/// What arrived. TCP has no messages: an operation is a block as they were written.
fn sample(sum: &Map<String, Value>, options: &BTreeMap<String, String>) -> anyhow::Result<Sample> {
    let number = |name: &str| sum.get(name).and_then(Value::as_f64).filter(|n| n.is_finite() && *n >= 0.0);
    let bytes = number("bytes").context("`bytes` of `sum_received` is no number from 0")?;
    let seconds = number("seconds").filter(|s| *s > 0.0).context("`seconds` of `sum_received` is no time")?;
    ensure!(bytes > 0.0, "nothing arrived");
    let lost = number("lost_packets").unwrap_or(0.0);
    let blocks = number("packets").map(|all| (all - lost).max(0.0));
    let block = options.get("blksize").and_then(|b| b.parse::<f64>().ok()).filter(|b| *b > 0.0);
    let operations = blocks.or_else(|| Some(bytes / block?)).context("`blksize` is missing")?;
    let counters = [("lost", lost), ("out of order", number("out_of_order").unwrap_or(0.0))];
    Ok(Sample {
        operations: (operations as u64).max(1),
        bytes: bytes as u64,
        elapsed_ns: (seconds * 1e9) as u64,
        batch: 1,
        histogram: pack(&Spread::default().histogram)?,
        counters: counters.into_iter().filter(|(_, n)| *n > 0.0).map(|(k, n)| (k.to_string(), n as u64)).collect(),
        ..Sample::default()
    })
}

fn no_latencies() -> BTreeMap<String, String> {
    let none = Stated { latencies: 0, sum_ns: 0.0, longest_ns: 0, percentiles: Some(Default::default()) };
    let mut facts = none.facts();
    facts.insert("no-latencies".into(), "iperf3 measures none".into());
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = r#"{"start": {"version": "iperf 3.12", "test_start": {"protocol": "TCP", "num_streams": 1, "blksize": 131072,
        "reverse": 0, "target_bitrate": 0}}, "intervals": [], "end": {
        "sum_sent": {"seconds": 2.0, "bytes": 1500000000}, "sum_received": {"seconds": 2.5, "bytes": 1310720000}}}"#;

    fn one(text: &str) -> Output {
        outputs(text).expect("reads").remove(0)
    }

    #[test]
    fn what_arrived_counts_and_not_what_was_sent() {
        let output = one(RUN);
        let part = &output.parts[0];
        let sample = part.outcome.as_ref().expect("a sample");
        assert_eq!((sample.bytes, sample.elapsed_ns, sample.operations), (1_310_720_000, 2_500_000_000, 10_000));
        assert_eq!((part.workload.as_str(), part.streams, part.paced), ("iperf3/tcp", true, false));
        assert_eq!(one(&RUN.replace("\"reverse\": 0", "\"reverse\": 1")).parts[0].workload, "iperf3/tcp-reverse");
        let udp = RUN
            .replace("TCP", "UDP")
            .replace("\"bytes\": 1310720000", "\"bytes\": 1000, \"packets\": 20, \"lost_packets\": 5");
        let part = one(&udp).parts.remove(0);
        let sample = part.outcome.expect("a sample");
        assert_eq!((part.workload.as_str(), sample.operations, sample.counters["lost"]), ("iperf3/udp", 15, 5));
        assert_eq!(outputs(&format!("{RUN}\n{RUN}")).expect("reads").len(), 2);
    }

    #[test]
    fn an_error_is_a_failure_and_damage_names_the_place() {
        let failed = one(&RUN.replacen('{', "{\"error\": \"server is busy\", ", 1));
        assert!(failed.parts[0].outcome.as_ref().is_err_and(|f| f.message.contains("server is busy")));
        let refused = |text: &str| format!("{:#}", outputs(text).expect_err("refused"));
        assert!(
            refused(r#"{"start": {}, "intervals": [], "end": {}, "error": "unable to connect"}"#).contains("unable")
        );
        assert!(refused(&RUN.replace("sum_received", "sum")).contains("sum_received"));
        assert!(refused(&RUN.replace("1310720000", "-5")).contains("`bytes`"));
        assert!(refused(&RUN.replace("2.5", "0")).contains("`seconds`"));
        assert!(refused("iperf3: error - unable to connect").contains("-J"));
    }
}
