//! A run as JUnit's XML, for the test tab of a CI system: a suite per workload, a case per environment.
//!
//! A report has no policy, so no overhead is a failure. What fails is what can't be believed: an invalid cell, and a control
//! that differs from the baseline. What broke is an error, what wasn't measured is skipped, and neither passes.
//! The elements and attributes are those of Jenkins' `junit-10.xsd`, which other systems read too.

use anyhow::Result;

use crate::comparison::{Cell, Comparison, ControlState, Environment, Metric, Outcome, Role, Verdict, Withheld};
use crate::record::WorkloadPlan;
use crate::render::markup::{Markup, add, markup};
use crate::render::{Render, words};

/// The format `junit`.
#[derive(Debug, Clone, Copy)]
pub struct Junit;

/// How a case came out.
enum Case {
    Passed,
    Failure(&'static str, String),
    Error(String),
    Skipped(String),
}

impl Render for Junit {
    fn render(&self, c: &Comparison) -> Result<Vec<u8>> {
        let mut xml = markup!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"{}\">\n", c.run.suite);
        c.run.workloads.iter().for_each(|plan| suite(c, plan, &mut xml));
        add!(xml, "</testsuites>\n");
        Ok(xml.into_bytes())
    }
}

fn suite(c: &Comparison, plan: &WorkloadPlan, xml: &mut Markup) {
    let cases: Vec<_> = c
        .environments
        .iter()
        .filter(|e| e.role != Role::Baseline)
        .map(|e| (e, words::primary(c, &plan.name, &e.plan.name)))
        .map(|(e, cell)| (e, cell, judged(c, plan, e, cell)))
        .collect();
    let count = |is: fn(&Case) -> bool| cases.iter().filter(|(.., case)| is(case)).count();
    add!(
        xml,
        "<testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" timestamp=\"{}\">\n",
        plan.name,
        cases.len(),
        count(|case| matches!(case, Case::Failure(..))),
        count(|case| matches!(case, Case::Error(_))),
        count(|case| matches!(case, Case::Skipped(_))),
        c.run.started,
    );
    let run = [("run", &c.run.id), ("baseline", &c.run.baseline), ("command", &c.run.command)];
    add!(xml, "<properties>\n");
    run.iter().for_each(|(name, value)| add!(xml, "<property name=\"{}\" value=\"{}\"/>\n", name, value));
    add!(xml, "</properties>\n");
    cases.iter().for_each(|(environment, cell, case)| write(c, plan, environment, *cell, case, xml));
    add!(xml, "</testsuite>\n");
}

fn judged(c: &Comparison, plan: &WorkloadPlan, environment: &Environment, cell: Option<&Cell>) -> Case {
    match &environment.outcome {
        Outcome::Skipped(why) => return Case::Skipped(why.clone()),
        Outcome::Failed(why) => return Case::Error(why.clone()),
        Outcome::Measured | Outcome::Partial(_) => {}
    }
    let Some(cell) = cell else { return Case::Skipped("not measured".to_owned()) };
    if let Err(why) = &cell.finding {
        let message = words::because(why);
        return if matches!(why, Withheld::Failed(_)) { Case::Error(message) } else { Case::Skipped(message) };
    }
    let control = c.resolution(&plan.name, Metric::primary(plan)).map(|r| &r.state);
    match (environment.role, control) {
        (Role::Control, Some(ControlState::Failed(why))) => return Case::Failure("control-failed", why.clone()),
        (Role::Control, Some(ControlState::Unknown(why))) => return Case::Skipped(why.clone()),
        _ => {}
    }
    if let Some(why) = c.invalid.first() {
        return Case::Failure("invalid", why.clone());
    }
    match cell.flags.first() {
        Some(flag) if cell.verdict == Verdict::Invalid => {
            Case::Failure(flag.name, format!("{}: {}", flag.name, flag.evidence))
        }
        _ => Case::Passed,
    }
}

fn write(c: &Comparison, plan: &WorkloadPlan, e: &Environment, cell: Option<&Cell>, case: &Case, xml: &mut Markup) {
    add!(xml, "<testcase classname=\"{}\" name=\"{}\">\n", plan.name, e.plan.name);
    match case {
        Case::Passed => {}
        Case::Failure(kind, why) => add!(xml, "<failure type=\"{}\" message=\"{}\"/>\n", kind, why),
        Case::Error(why) => add!(xml, "<error type=\"failed\" message=\"{}\"/>\n", why),
        Case::Skipped(why) => add!(xml, "<skipped message=\"{}\"/>\n", why),
    }
    if let Some((cell, finding)) = cell.and_then(|cell| Some((cell, cell.finding.as_ref().ok()?))) {
        let [net, gross, tare] = words::figures(cell, finding);
        let overhead = words::overhead(&finding.overhead);
        let flags = words::flags(cell);
        let baseline = &c.run.baseline;
        add!(xml, "<system-out>overhead {}, net {} on {}, gross {}, tare {}", overhead, net, baseline, gross, tare);
        if !flags.is_empty() {
            add!(xml, "; {}: {}", c.verdict(cell).name(), flags);
        }
        add!(xml, "</system-out>\n");
    }
    add!(xml, "</testcase>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn what_was_not_measured_or_cannot_be_believed_does_not_pass() {
        let c = sample::comparison();
        let xml = String::from_utf8(Junit.render(&c).unwrap()).unwrap();
        let case = |workload: &str, environment: &str| {
            let head = format!("<testcase classname=\"{workload}\" name=\"{environment}\">\n");
            xml.split_once(&head).unwrap().1.split_once("</testcase>").unwrap().0.to_owned()
        };
        assert!(case("sqlite/commit", "runc").starts_with("<system-out>overhead "), "{xml}");
        assert!(case("sqlite/commit", "qemu-unsafe").starts_with("<failure type=\"fsync-not-durable\""), "{xml}");
        let failed = c.failures[0].clone();
        assert!(case(&failed.workload.unwrap(), &failed.environment).starts_with("<error "), "{xml}");
        let skipped = c.environments.iter().find(|e| matches!(e.outcome, Outcome::Skipped(_))).unwrap();
        assert!(case("sqlite/commit", &skipped.plan.name).starts_with("<skipped "), "{xml}");
    }

    #[test]
    fn a_control_that_differs_fails_and_one_that_says_nothing_is_skipped() {
        let of = |state: ControlState| {
            let mut c = sample::comparison();
            c.resolution.iter_mut().for_each(|r| r.state = state.clone());
            let xml = String::from_utf8(Junit.render(&c).unwrap()).unwrap();
            xml.split("name=\"control\">\n").nth(1).unwrap().lines().next().unwrap().to_owned()
        };
        assert!(of(ControlState::Failed("1.3".into())).starts_with("<failure type=\"control-failed\" message=\"1.3\""));
        assert!(of(ControlState::Unknown("5 blocks".into())).starts_with("<skipped message=\"5 blocks\""));
        assert!(of(ControlState::Sound).starts_with("<system-out>"));
    }
}
