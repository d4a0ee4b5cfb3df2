//! The gate as tests: what fails the build is a failure or an error, what can't be said otherwise is skipped, and never a pass.

use anyhow::Result;

use super::super::markup::{Markup, add};
use super::{Render, counts};
use crate::gate::{Gate, Judgement, Verdict, words};

/// The format `junit`: the XML that CI systems have from Ant.
#[derive(Debug, Clone, Copy)]
pub struct Junit;

/// The element that tells of a verdict; `None` for a test that passed.
fn element(verdict: Verdict, failing: &[Verdict]) -> Option<&'static str> {
    match verdict {
        verdict if verdict.is_good() => None,
        Verdict::Regressed if failing.contains(&verdict) => Some("failure"),
        verdict if failing.contains(&verdict) => Some("error"),
        _ => Some("skipped"),
    }
}

impl Render for Junit {
    fn render(&self, gate: &Gate, failing: &[Verdict]) -> Result<Vec<u8>> {
        let count = |name: &str| {
            gate.judgements.iter().filter(|j| element(j.verdict, failing) == Some(name)).count().to_string()
        };
        let left = gate.left_out.len();
        let skipped = gate.judgements.iter().filter(|j| element(j.verdict, failing) == Some("skipped")).count() + left;
        let mut out = Markup::default();
        add!(
            out,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n\
             <testsuite name=\"tarebench gate {}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\">\n",
            &gate.suite,
            (gate.judgements.len() + left).to_string(),
            count("failure"),
            count("error"),
            skipped.to_string()
        );
        for j in &gate.judgements {
            case(j, failing, &mut out);
        }
        for l in &gate.left_out {
            let name = format!("{} {}", l.workload, words::metric(l.metric));
            add!(
                out,
                "<testcase classname=\"{}\" name=\"{}\">\n<skipped message=\"{}\"/>\n</testcase>\n",
                &l.environment,
                name,
                &l.reason
            );
        }
        let mut said = format!("run {}: {} ({})\n", gate.run, gate.verdict().name(), counts(gate));
        said.extend(gate.same.iter().chain(&gate.notes).map(|note| format!("{note}\n")));
        add!(out, "<system-out>{}</system-out>\n</testsuite>\n</testsuites>\n", said);
        Ok(out.into_bytes())
    }
}

fn case(j: &Judgement, failing: &[Verdict], out: &mut Markup) {
    let name = format!("{} {} {}", j.workload, words::metric(j.metric), j.mode.name());
    add!(out, "<testcase classname=\"{}\" name=\"{}\">\n", &j.environment, name);
    let message = format!("{}: {}", j.verdict.name(), words::sentence(j));
    match element(j.verdict, failing) {
        Some("failure") => add!(out, "<failure type=\"regressed\" message=\"{}\"/>\n", message),
        Some("error") => add!(out, "<error type=\"{}\" message=\"{}\"/>\n", j.verdict.name(), message),
        Some(_) => add!(out, "<skipped message=\"{}\"/>\n", message),
        None => {}
    }
    add!(out, "<system-out>{}</system-out>\n</testcase>\n", message);
}
