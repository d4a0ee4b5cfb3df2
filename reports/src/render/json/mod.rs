//! The report for programs: schema `tarebench.report/1`, described in `FORMATS.md` and, for programs too, in
//! `docs/report.schema.json`.
//!
//! These types are the format and nothing else; they are apart from the types of the comparison so that neither has to follow
//! the other. A field never changes its meaning or unit within a version of the schema; new fields may come.

mod explanation;
mod schema;

use anyhow::{Context as _, Result};

use super::words::beside;
use super::{Render, words};
use crate::comparison as think;
use crate::explain;
use crate::record;
use schema::{
    BesideNeighbour, BlockRatio, Cell, Distribution, Environment, Failure, Flag, Hint, Insertions, Lateness, Method,
    Neighbour, OverheadAt, Pairs, Report, Resolution, Run, Seen, Service, Void, Withheld, Workload,
};

/// The name and version of the format.
pub const SCHEMA: &str = "tarebench.report/1";

/// The format `json`.
#[derive(Debug, Clone, Copy)]
pub struct Json;

impl Render for Json {
    fn render(&self, c: &think::Comparison) -> Result<Vec<u8>> {
        let mut bytes =
            serde_json::to_vec(&report(c, explain::explain(c).as_ref())).context("write the report as JSON")?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

fn report<'a>(c: &'a think::Comparison, explained: Option<&'a explain::Explanation>) -> Report<'a> {
    Report {
        schema: SCHEMA,
        run: run(c),
        method: Method {
            confidence: c.method.confidence,
            margin: c.method.margin,
            void_limit: c.method.void_limit,
            operations_beyond_a_percentile: c.method.beyond,
            stall_factor: c.method.stall,
        },
        environments: c.environments.iter().map(|e| environment(c, e)).collect(),
        workloads: c.run.workloads.iter().map(workload).collect(),
        cells: c.cells.iter().map(|of| cell(of, c.verdict(of))).collect(),
        control: c.control.iter().map(|of| cell(of, c.verdict(of))).collect(),
        resolution: c.resolution.iter().map(resolution).collect(),
        distributions: c.distributions.iter().map(distribution).collect(),
        insertions: c.insertions.iter().map(insertions).collect(),
        explanation: explained.map(explanation::of),
        voids: c.voids.iter().map(void).collect(),
        failures: c.failures.iter().map(failure).collect(),
        not_durable: c.forgets.as_deref(),
        invalid: &c.invalid,
        remarks: &c.remarks,
    }
}

fn run(c: &think::Comparison) -> Run<'_> {
    let run = &c.run;
    Run {
        id: &run.id,
        started: &run.started,
        suite: &run.suite,
        seed: run.seed,
        blocks: c.blocks,
        blocks_planned: run.blocks,
        rounds: run.rounds,
        rounds_begun: c.rounds_begun,
        baseline: &run.baseline,
        command: &run.command,
        binary_sha256: &run.binary_sha256,
        version: &run.version,
        ending: c.ending,
        seconds: c.seconds,
        labels: &run.labels,
        pinning: &run.pinning,
        nested: run.nested.as_deref(),
        host: Pairs(&run.host),
        suite_toml: &run.suite_toml,
    }
}

fn environment<'a>(c: &think::Comparison, e: &'a think::Environment) -> Environment<'a> {
    let interval = e.start_ms.and_then(|start| start.interval);
    let stop = e.stop_ms.and_then(|stop| stop.interval);
    Environment {
        name: &e.plan.name,
        runner: &e.plan.runner,
        version: e.plan.version.as_deref(),
        settings: &e.plan.settings,
        role: role(e.role),
        start_ms: e.start_ms.map(|start| start.value),
        start_ms_low: interval.map(|i| i.low),
        start_ms_high: interval.map(|i| i.high),
        starts_ms: &e.starts_ms,
        stop_ms: e.stop_ms.map(|stop| stop.value),
        stop_ms_low: stop.map(|i| i.low),
        stop_ms_high: stop.map(|i| i.high),
        stops_ms: &e.stops_ms,
        memory_bytes: e.memory_bytes,
        clock_ns: e.clock_ns,
        network: e.plan.network,
        data_path: &e.plan.data_path,
        programs: &e.plan.programs,
        outcome: e.outcome.name(),
        because: e.outcome.because(),
        sentence: if e.role == think::Role::Compared { words::plain(&words::sentence(c, e)) } else { String::new() },
        facts: Pairs(&e.facts),
        flags: flags(&e.flags),
        hints: e.hints.iter().map(hint).collect(),
        neighbour: e.plan.neighbour.as_ref().map(|neighbour| self::neighbour(neighbour, e)),
    }
}

fn neighbour<'a>(neighbour: &'a record::Neighbour, e: &'a think::Environment) -> Neighbour<'a> {
    let beside = |beside: &'a think::BesideNeighbour| {
        let interval = beside.overhead.and_then(|overhead| overhead.interval);
        BesideNeighbour {
            workload: &beside.workload,
            overhead: beside.overhead.map(|overhead| overhead.value),
            low: interval.map(|i| i.low),
            high: interval.map(|i| i.high),
            claim: beside.claim.name(),
            rate: beside.rate,
            cpus: beside.cpus,
        }
    };
    let record::Neighbour { like, workload, settings, without } = neighbour;
    Neighbour { like, workload, settings, without, beside: e.beside.iter().map(beside).collect() }
}

fn hint(hint: &think::Hint) -> Hint<'_> {
    let think::Hint { name, what, workloads, felt, evidence, change } = hint;
    Hint { name, what, workloads, felt: *felt, evidence, change }
}

fn role(role: think::Role) -> &'static str {
    match role {
        think::Role::Baseline => "baseline",
        think::Role::Control => "control",
        think::Role::Compared => "compared",
    }
}

fn workload(w: &record::WorkloadPlan) -> Workload<'_> {
    Workload {
        name: &w.name,
        kind: w.kind(),
        about: &w.about,
        settings: &w.settings,
        durable: w.durable,
        direct: w.direct,
        primary: think::Metric::primary(w).name(),
        latency: think::Latency::of(w).name(),
        rate: w.rate(),
    }
}

fn cell(c: &think::Cell, verdict: think::Verdict) -> Cell<'_> {
    let finding = c.finding.as_ref().ok();
    let interval = finding.and_then(|f| f.overhead.interval);
    let difference = finding.and_then(|f| f.difference.interval);
    let geometric = finding.and_then(|f| f.geometric.interval);
    Cell {
        workload: &c.workload,
        environment: &c.environment,
        metric: c.metric.name(),
        unit: c.unit.name(),
        net: finding.map(|f| f.net),
        gross: finding.map(|f| f.gross),
        tare: finding.map(|f| f.tare(c.unit)),
        overhead: finding.map(|f| f.overhead.value),
        low: interval.map(|i| i.low),
        high: interval.map(|i| i.high),
        confidence: interval.map(|i| i.confidence),
        difference: finding.map(|f| f.difference.value),
        difference_unit: think::Unit::Nanoseconds.name(),
        difference_low: difference.map(|i| i.low),
        difference_high: difference.map(|i| i.high),
        geometric_mean: finding.map(|f| f.geometric.value),
        geometric_low: geometric.map(|i| i.low),
        geometric_high: geometric.map(|i| i.high),
        ratio_of_means: finding.map(|f| f.ratio_of_means),
        ratios: finding
            .map_or_else(Vec::new, |f| f.ratios.iter().map(|&(block, ratio)| BlockRatio { block, ratio }).collect()),
        blocks: c.blocks,
        operations: c.operations,
        claim: if verdict == think::Verdict::Invalid { think::Claim::None } else { c.claim }.name(),
        verdict: verdict.name(),
        ranked: finding.is_some() && verdict != think::Verdict::Invalid,
        withheld: c.finding.as_ref().err().map(withheld),
        flags: flags(&c.flags),
    }
}

fn withheld(why: &think::Withheld) -> Withheld<'_> {
    let message = words::withheld(why);
    match why {
        think::Withheld::TooFewOperations { have, more } => {
            Withheld { reason: "too-few-operations", message, have: Some(*have), more: Some(*more), failure: None }
        }
        think::Withheld::Batched { .. } => {
            Withheld { reason: "batched", message, have: None, more: None, failure: None }
        }
        think::Withheld::NotStated => Withheld { reason: "not-stated", message, have: None, more: None, failure: None },
        think::Withheld::NoCommonBlock => {
            Withheld { reason: "no-common-block", message, have: None, more: None, failure: None }
        }
        think::Withheld::Failed(failure) => {
            Withheld { reason: "failed", message, have: None, more: None, failure: Some(failure) }
        }
    }
}

fn flags(flags: &[think::Flag]) -> Vec<Flag<'_>> {
    flags.iter().map(|f| Flag { name: f.name, severity: f.severity.name(), evidence: &f.evidence }).collect()
}

fn resolution(r: &think::Resolution) -> Resolution<'_> {
    let interval = r.control.and_then(|e| e.interval);
    let (state, because) = match &r.state {
        think::ControlState::Sound => ("sound", None),
        think::ControlState::Coarse(why) => ("coarse", Some(why.as_str())),
        think::ControlState::Failed(why) => ("failed", Some(why.as_str())),
        think::ControlState::Unknown(why) => ("unknown", Some(why.as_str())),
    };
    Resolution {
        workload: &r.workload,
        metric: r.metric.name(),
        control: r.control.map(|e| e.value),
        low: interval.map(|i| i.low),
        high: interval.map(|i| i.high),
        noise_floor: r.noise_floor,
        smallest_visible: r.smallest_visible,
        state,
        because,
    }
}

fn distribution(d: &think::Distribution) -> Distribution<'_> {
    // Only a program that isn't ours doesn't say how long it took.
    let timed = |rate: f64| (d.operations_per_second > 0.0).then_some(rate);
    let at = |o: &think::OverheadAt| OverheadAt {
        quantile: o.quantile,
        overhead: o.overhead.value,
        low: o.overhead.interval.map(|i| i.low),
        high: o.overhead.interval.map(|i| i.high),
    };
    Distribution {
        workload: &d.workload,
        environment: &d.environment,
        latency: d.latency.name(),
        service: Service {
            p50: beside::service(d, 0.5),
            p90: beside::service(d, 0.9),
            p99: beside::service(d, 0.99),
            max: d.service_max(),
        },
        lateness: d.open.as_ref().map(|open| &open.lateness).filter(|l| !l.is_empty()).map(|l| Lateness {
            p50: think::quantile(l, 0.5),
            p99: think::quantile(l, 0.99),
            max: l.max(),
        }),
        operations_asked_per_second: d.open.as_ref().map(|open| open.rate),
        counters: &d.counters,
        warmup_operations: d.warmup_operations,
        operations: d.operations,
        bytes: d.bytes,
        operations_per_second: timed(d.operations_per_second),
        bytes_per_second: timed(d.bytes_per_second),
        batch: d.batch,
        blocks: d.blocks,
        stalls_per_million: d.stalls_per_million,
        carried_quantile: d.carried,
        overhead: d.overhead.iter().map(at).collect(),
        seen: seen(&d.seen),
        flags: flags(&d.flags),
    }
}

fn seen(seen: &think::Seen) -> Seen {
    let interval = seen.cpu.and_then(|cpu| cpu.interval);
    Seen {
        cpu_ns: seen.cpu_ns,
        cpu_ratio: seen.cpu.map(|cpu| cpu.value),
        cpu_ratio_low: interval.map(|i| i.low),
        cpu_ratio_high: interval.map(|i| i.high),
        cpu_user_share: seen.split.map(|s| s.user),
        cpu_system_share: seen.split.map(|s| s.system),
        cpu_guest_share: seen.split.and_then(|s| s.guest),
        cpu_split_ns: seen.split.map(|s| s.of_ns),
        device_reads: seen.reads,
        device_bytes_read: seen.bytes_read,
        device_writes: seen.writes,
        device_bytes_written: seen.bytes_written,
        device_flushes: seen.flushes,
        context_switches: seen.switches,
        packets: seen.packets,
        cache_bytes: seen.cache_bytes,
        memory_bytes: seen.memory_bytes,
        looks: seen.looks,
    }
}

fn insertions(i: &think::Insertions) -> Insertions<'_> {
    Insertions {
        workload: &i.workload,
        environment: &i.environment,
        seconds: i.seconds.value,
        low: i.seconds.interval.map(|i| i.low),
        high: i.seconds.interval.map(|i| i.high),
        operations_done: i.operations,
        scaled: i.scaled,
        standing: i.standing().name(),
        disqualified: &i.disqualified,
    }
}

fn void(v: &record::Void) -> Void<'_> {
    Void { workload: &v.workload, block: v.block, round: v.round, reason: &v.reason }
}

fn failure(f: &think::FailureRow) -> Failure<'_> {
    Failure {
        environment: &f.environment,
        workload: f.workload.as_deref(),
        block: f.block,
        round: f.round,
        step: f.step.name(),
        message: &f.message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::{published, sample};
    use serde_json::Value;

    fn parsed(c: &think::Comparison) -> Value {
        serde_json::from_slice(&Json.render(c).unwrap()).unwrap()
    }

    fn assert_fields(value: &Value, fields: &[&str]) {
        for field in fields {
            assert!(value.get(field).is_some(), "no field {field:?} in {value}");
        }
    }

    #[test]
    fn the_published_schema_is_that_of_the_types() {
        published::hold(schemars::schema_for!(Report<'_>), SCHEMA, "report.schema.json");
    }

    #[test]
    fn every_promised_field_is_there() {
        let report = parsed(&sample::comparison());
        assert_eq!(report["schema"], "tarebench.report/1");
        assert_fields(&report, &["run", "environments", "cells", "control", "voids", "failures"]);
        assert_fields(
            &report["run"],
            &["id", "started", "suite", "seed", "blocks", "command", "binary_sha256", "host"],
        );
        let environment = ["name", "runner", "settings", "start_ms", "memory_bytes", "outcome", "because"];
        report["environments"].as_array().unwrap().iter().for_each(|e| assert_fields(e, &environment));
        let cell = [
            "workload",
            "environment",
            "metric",
            "unit",
            "net",
            "gross",
            "overhead",
            "low",
            "high",
            "confidence",
            "difference",
            "blocks",
            "operations",
            "verdict",
            "flags",
        ];
        for list in ["cells", "control"] {
            let cells = report[list].as_array().unwrap();
            assert!(!cells.is_empty(), "{list}");
            cells.iter().for_each(|c| assert_fields(c, &cell));
        }
        let flagged = report["cells"].as_array().unwrap().iter().find(|c| c["flags"].get(0).is_some()).unwrap();
        assert_fields(&flagged["flags"][0], &["name", "evidence"]);
        let ran = report["environments"].as_array().unwrap().iter().find(|e| e["programs"].get(0).is_some()).unwrap();
        assert_fields(&ran["programs"][0], &["path", "version", "sha256"]);
    }

    #[test]
    fn open_loop_has_service_and_lateness_beside_it_and_closed_loop_has_not() {
        let report = parsed(&sample::comparison());
        let of = |workload: &str| {
            let all = report["distributions"].as_array().unwrap();
            all.iter().find(|d| d["workload"] == workload && d["environment"] == "runc").unwrap().clone()
        };
        let (open, closed) = (of("net/paced"), of("net/rr"));
        assert_eq!((&open["latency"], &closed["latency"]), (&"response".into(), &"service".into()));
        assert!(closed["lateness"].is_null() && closed["operations_asked_per_second"].is_null(), "{closed}");
        assert_fields(&open["lateness"], &["p50", "p99", "max"]);
        assert_fields(&open["service"], &["p50", "p90", "p99", "max"]);
        assert_eq!(open["operations_asked_per_second"], 20_000.0);
        assert_eq!(of("sqlite/writers")["counters"]["busy"], 21);
    }

    #[test]
    fn the_insertion_test_has_every_environment_with_its_interval() {
        let report = parsed(&sample::comparison());
        let places = report["insertions"].as_array().unwrap();
        assert_eq!(places.len(), 5, "the baseline and four others");
        let fields = ["environment", "seconds", "low", "high", "operations_done", "scaled", "standing"];
        places.iter().for_each(|p| assert_fields(p, &fields));
        assert_eq!(places[0]["standing"], "faster-half");
        assert_eq!(places[4]["standing"], "nowhere");
        let workload = report["workloads"].as_array().unwrap().iter().find(|w| w["name"] == "sqlite/inserts").unwrap();
        assert_eq!(workload["kind"], "sqlite/insertions");
    }

    #[test]
    fn what_is_withheld_is_null_with_a_reason() {
        let report = parsed(&sample::comparison());
        let tail = report["cells"]
            .as_array()
            .unwrap()
            .iter()
            .find(|c| c["withheld"]["reason"] == "too-few-operations")
            .unwrap();
        assert!(tail["overhead"].is_null() && tail["net"].is_null());
        assert_eq!(tail["withheld"]["more"], 49_480);
        let report = parsed(&sample::short());
        let cell = &report["cells"][0];
        assert!(cell["overhead"].is_f64() && cell["low"].is_null(), "{cell}");
    }

    #[test]
    fn hostile_text_comes_back_as_it_was() {
        let c = sample::hostile();
        assert_eq!(parsed(&c)["run"]["command"], c.run.command.as_str());
    }
}
