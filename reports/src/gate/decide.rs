//! From numbers to a verdict: all comparisons of a gate are one family.

use super::measure::{Chance, Measured, Unmeasured, measure};
use super::questions::Question;
use super::{Judgement, Mode, Past, SUPERIORITY, Verdict, words};
use crate::comparison::{Comparison, ControlState};
use crate::render::units;
use crate::statistics::{FEWEST_FOR_INTERVAL, blocks_needed, holm};

/// How likely a change that is there is to be found by as many blocks as are said to be enough.
const POWER: f64 = 0.8;

/// Standard deviations for a level of 5 % on one side and that power.
const LEVEL_AND_POWER: f64 = 1.645 + 0.842;

/// Judges all questions together.
pub(super) fn all(c: &Comparison, asked: &[Question], accepted: &[Past], alpha: f64) -> Vec<Judgement> {
    let measured: Vec<Result<Measured, Unmeasured>> = asked.iter().map(|q| measure(c, q, accepted)).collect();
    let size = measured.iter().flatten().count();
    let family = |side: fn(&Measured) -> Chance| {
        let p: Vec<f64> = measured.iter().flatten().map(|m| side(m).beside(size, alpha)).collect();
        holm(&p).into_iter()
    };
    let (mut worse, mut better) = (family(|m| m.worse), family(|m| m.better));
    let judged = asked.iter().zip(&measured).map(|(q, measured)| match measured {
        Err(why) => unjudged(c, q, why),
        Ok(m) => {
            let sides = [worse.next(), better.next()].map(|p| p.expect("one of each for everything that was measured"));
            judged(c, q, &Case { m, control: Control::of(c, q), worse: sides[0], better: sides[1], alpha, size })
        }
    });
    judged.collect()
}

/// Everything that decides about a comparison.
#[derive(Debug)]
pub(super) struct Case<'a> {
    pub m: &'a Measured,
    pub control: Control,
    /// Adjusted for the family.
    pub worse: f64,
    /// Likewise.
    pub better: f64,
    pub alpha: f64,
    /// Comparisons in the family.
    pub size: usize,
}

/// What two copies of the baseline say of the machine.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Control {
    /// Half the width of the control's interval, in log units; `None` where the control is unknown.
    pub noise: Option<f64>,
    /// How far from 1 the control's interval reaches, in log units.
    pub reach: f64,
    /// How the copies differ, where they do beyond chance.
    differs: Option<String>,
    /// Why it is unknown.
    unknown: Option<String>,
}

impl Control {
    fn of(c: &Comparison, q: &Question) -> Self {
        let resolution = c.resolution(&q.workload, q.metric);
        if let Some(ControlState::Unknown(why)) = resolution.map(|r| &r.state) {
            return Self::unknown(why.clone());
        }
        let Some((noise, control)) = resolution.and_then(|r| r.noise_floor.zip(r.control)) else {
            return Self::unknown("there is no control".into());
        };
        let differs = match resolution.map(|r| &r.state) {
            Some(ControlState::Failed(why)) => Some(why.clone()),
            _ => None,
        };
        let reach = control.interval.map_or(f64::INFINITY, |i| i.low.ln().abs().max(i.high.ln().abs()));
        Control { noise: Some(noise.ln_1p()), reach, differs, unknown: None }
    }

    fn unknown(why: String) -> Self {
        Control { noise: None, reach: f64::INFINITY, differs: None, unknown: Some(why) }
    }

    /// The furthest that its noise moves an operation of so many nanoseconds.
    fn noise_ns(&self, operation_ns: f64) -> f64 {
        operation_ns * self.noise.map_or(f64::INFINITY, |noise| noise.max(self.reach).exp_m1())
    }

    /// Whether the machine is too unquiet to see a change of this size, in log units.
    fn is_coarse(&self, margin: f64) -> bool {
        self.noise.is_some_and(|noise| noise > margin)
    }
}

impl Case<'_> {
    /// The decision. To pass, a change that matters has to be excluded, and by a machine that would see it: with a control noisier
    /// than the margin only the floor can exclude it, that noise added. To be worse it has to
    /// be so beyond chance and by more than the floor, while the change that matters can't be excluded.
    pub fn verdict(&self, q: &Question) -> Verdict {
        if self.blind().is_some() {
            return Verdict::Inconclusive;
        }
        let m = self.m;
        let (Some(ratio), Some(difference)) = (m.ratio.interval, m.difference.interval) else {
            return Verdict::Inconclusive;
        };
        let (limit, null) = (q.limit.ln(), null(q));
        let coarse = self.control.is_coarse(limit);
        // Two that are the same work may differ as the copies of the baseline do. What is below the limit with that added has passed;
        // of everything else nobody knows whether it is that.
        if self.control.differs.is_some() {
            let excluded = !coarse && ratio.high + self.control.reach < limit;
            return if excluded { Verdict::Pass } else { Verdict::Invalid };
        }
        let small = ratio.high < limit || difference.high < q.floor_ns;
        let seen = !coarse || (m.ratio.value - null).abs() > self.control.reach;
        let new = m.superiority.is_none_or(|share| share >= SUPERIORITY);
        let improvement = -m.difference.value >= q.floor_ns && ratio.low <= -limit;
        if q.mode != Mode::Budget && self.better < self.alpha && improvement && seen && new {
            return Verdict::Improved;
        }
        // A machine too unquiet for the margin can still be quiet enough for the floor.
        if small && (!coarse || difference.high + self.control.noise_ns(m.dearest_ns) < q.floor_ns) {
            return Verdict::Pass;
        }
        if !small && self.worse < self.alpha && m.difference.value >= q.floor_ns && seen && new {
            return Verdict::Regressed;
        }
        Verdict::Inconclusive
    }

    /// Why nothing can be said, whatever the numbers are, and what would be enough: fewer blocks must never say more than more of
    /// them do.
    pub fn blind(&self) -> Option<(String, String)> {
        let (blocks, fewest) = (self.m.blocks as u64, u64::from(FEWEST_FOR_INTERVAL));
        if blocks < fewest {
            let more = fewest - blocks;
            let are = if blocks == 1 { "is" } else { "are" };
            let have = units::number_of(self.m.blocks, "block");
            let because = format!("{have} {are} too few to judge by: {fewest} are needed");
            return Some((because, format!("{} at least", units::number_of(more as usize, "more block"))));
        }
        let why = self.control.unknown.as_ref()?;
        let because = format!("nobody knows what this machine can tell apart: {why}");
        Some((because, format!("a run whose control has at least {fewest} blocks of this")))
    }

    /// Whether the control is what stands in the way.
    pub fn is_coarse(&self, q: &Question) -> bool {
        self.control.is_coarse(q.limit.ln())
    }

    /// How many more blocks would be enough, if everything stays as it looks; `None` where blocks don't help.
    pub fn more_blocks(&self, q: &Question) -> Option<u64> {
        let m = self.m;
        let (limit, null, at) = (q.limit.ln(), null(q), m.ratio.value);
        let needed = |delta: f64, margin: f64, alpha: f64| {
            let gap = delta - margin;
            // Of a history only a part of the error is the run's own, and more blocks make only that one smaller.
            let own = gap.powi(2) - (LEVEL_AND_POWER * m.between).powi(2);
            let gap = (gap > 0.0 && own > 0.0).then(|| own.sqrt())?;
            blocks_needed(m.sigma, gap.exp_m1(), 0.0, alpha, POWER)
        };
        let to_pass = needed(limit, at, super::ALPHA);
        let to_fail = needed(at, null, self.alpha / self.size as f64);
        let mut all = to_pass.into_iter().chain(to_fail).min()?;
        if let Some(noise) = self.control.noise.filter(|noise| *noise > limit) {
            all = all.max((m.blocks as f64 * (noise / limit).powi(2)).ceil() as u64);
        }
        let all = all.max(FEWEST_FOR_INTERVAL.into());
        Some(all.saturating_sub(m.blocks as u64).max(1))
    }
}

/// The ratio that it isn't worse than, as a logarithm.
fn null(q: &Question) -> f64 {
    if q.mode == Mode::Budget { q.limit.ln() } else { 0.0 }
}

fn judged(c: &Comparison, q: &Question, case: &Case) -> Judgement {
    let verdict = case.verdict(q);
    let differs = case.control.differs.as_ref();
    let said = match (case.blind(), differs) {
        (Some((because, enough)), _) => words::Said { because, enough: Some(enough) },
        (None, Some(why)) if verdict == Verdict::Invalid => {
            let enough = Some("a run whose two copies of the baseline agree".into());
            words::Said { because: why.clone(), enough }
        }
        (None, _) => words::judged(q, case, verdict),
    };
    let error = differs.filter(|_| verdict == Verdict::Pass).map(|why| format!("{why}, which is counted as error"));
    Judgement {
        ratio: Some(case.m.ratio.map(f64::exp)),
        difference_ns: Some(case.m.difference.value),
        blocks: case.m.blocks as u32,
        p: Some(if case.m.ratio.value < 0.0 && q.mode != Mode::Budget { case.better } else { case.worse }),
        verdict,
        because: said.because,
        enough: said.enough,
        notes: case.m.notes.iter().cloned().chain(error).collect(),
        ..empty(c, q)
    }
}

fn unjudged(c: &Comparison, q: &Question, why: &Unmeasured) -> Judgement {
    Judgement { verdict: why.verdict, because: why.because.clone(), enough: why.enough.clone(), ..empty(c, q) }
}

fn empty(c: &Comparison, q: &Question) -> Judgement {
    Judgement {
        workload: q.workload.clone(),
        environment: q.environment.clone(),
        metric: q.metric,
        mode: q.mode,
        against: match q.mode {
            Mode::Paired => q.base.clone().unwrap_or_else(|| c.run.baseline.clone()),
            Mode::Budget => c.run.baseline.clone(),
            Mode::History => "accepted runs".into(),
        },
        limit: q.limit,
        floor_ns: q.floor_ns,
        ratio: None,
        difference_ns: None,
        blocks: 0,
        p: None,
        verdict: Verdict::Invalid,
        because: String::new(),
        enough: None,
        notes: Vec::new(),
    }
}
