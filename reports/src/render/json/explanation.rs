//! An explanation as the format has it.

use super::schema::{Alternative, Explanation, Ladder, Part, Rung};
use super::words;
use crate::explain as think;
use crate::statistics::Estimate;

pub(super) fn of(explanation: &think::Explanation) -> Explanation<'_> {
    Explanation {
        environment: &explanation.environment,
        left_out: &explanation.left_out,
        ladders: explanation.ladders.iter().map(|l| ladder(explanation, l)).collect(),
    }
}

fn ladder<'a>(explanation: &think::Explanation, l: &'a think::Ladder) -> Ladder<'a> {
    Ladder {
        workload: &l.workload,
        sentence: words::plain(&words::why::sentence(explanation, l)),
        blocks: l.blocks,
        noise_floor_ns: l.floor.map(|floor| floor.ns),
        whole: l.whole.as_ref().map(|whole| part(l, whole)),
        sum: l.sum(),
        doubted: l.doubted(),
        rungs: l.rungs.iter().map(|r| rung(l, r)).collect(),
        alternatives: l.alternatives.iter().map(|a| alternative(l, a)).collect(),
        interaction: l.interaction.as_ref().map(|left| part(l, left)),
    }
}

fn rung<'a>(l: &think::Ladder, r: &'a think::Rung) -> Rung<'a> {
    Rung {
        environment: &r.environment,
        change: &r.change,
        cost: r.cost.as_ref().ok().copied(),
        step: r.step.as_ref().map(|step| part(l, step)),
        share: r.share,
        verdict: r.verdict.name(),
        doubts: &r.doubts,
        because: r.cost.as_ref().err().map(String::as_str),
    }
}

fn alternative<'a>(l: &think::Ladder, a: &'a think::Alternative) -> Alternative<'a> {
    Alternative {
        environment: &a.environment,
        change: &a.change,
        gain: a.gain.as_ref().ok().map(|gain| part(l, gain)),
        share: a.share,
        verdict: a.verdict.name(),
        doubts: &a.doubts,
        because: a.gain.as_ref().err().map(String::as_str),
    }
}

fn part(l: &think::Ladder, estimate: &Estimate) -> Part {
    Part {
        value: estimate.value,
        low: estimate.interval.map(|i| i.low),
        high: estimate.interval.map(|i| i.high),
        told: l.clear(estimate),
    }
}
