//! When a run will be over: from the plan at first, and then from the blocks that are done.

use std::time::Duration;

use crate::estimate::Estimate;

/// Of a block: before so much of it is behind us, how fast it goes tells nothing.
const TELLS: f64 = 0.1;

/// What is known of a run's time. All moments are counted from the run's begin.
#[derive(Debug)]
pub struct Forecast {
    /// How long each step of a block takes.
    steps: Vec<f64>,
    /// Blocks that are to be done.
    blocks: u32,
    /// Blocks that are done, and the time of each step in them.
    done: u32,
    sums: Vec<f64>,
    /// The block under way: the ends of its steps, its begin before them.
    marks: Vec<f64>,
}

impl Forecast {
    /// Of so many blocks. The last step of a block is what remains after its workloads.
    pub fn new(estimate: &Estimate, blocks: u32) -> Self {
        let mut steps: Vec<f64> = estimate.steps.iter().map(Duration::as_secs_f64).collect();
        steps.push(0.0);
        Self { sums: vec![0.0; steps.len()], steps, blocks, done: 0, marks: Vec::new() }
    }

    /// A block begins.
    pub fn begin(&mut self, now: Duration) {
        self.marks = vec![now.as_secs_f64()];
    }

    /// A step of the block is over.
    pub fn step(&mut self, now: Duration) {
        self.marks.push(now.as_secs_f64());
    }

    /// The block is over. From now on a block is expected to take what those that are done took.
    pub fn end(&mut self, now: Duration) {
        self.step(now);
        // A block that was broken off says nothing of the others.
        if self.marks.len() == self.steps.len() + 1 {
            for (sum, ends) in self.sums.iter_mut().zip(self.marks.windows(2)) {
                *sum += ends[1] - ends[0];
            }
            self.done += 1;
            self.steps = self.sums.iter().map(|sum| sum / f64::from(self.done)).collect();
        }
        self.marks.clear();
    }

    /// How long it will still take, where so much of the step under way is done.
    pub fn left(&self, now: Duration, part: f64) -> Duration {
        let block: f64 = self.steps.iter().sum();
        let Some(begun) = self.marks.first() else {
            return Duration::from_secs_f64(block * f64::from(self.blocks.saturating_sub(self.done)));
        };
        let under_way = self.marks.len() - 1;
        let step = self.steps.get(under_way).map_or(0.0, |step| step * part);
        let expected = self.steps.iter().take(under_way).sum::<f64>() + step;
        let spent = now.as_secs_f64() - begun;
        // What is behind us of the first block says how fast this machine is.
        let pace = if self.done == 0 && expected > TELLS * block { spent / expected } else { 1.0 };
        let after = block * f64::from(self.blocks.saturating_sub(self.done + 1));
        Duration::from_secs_f64(pace * (after + block - expected).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays a run whose blocks take what `steps` says, and gives the errors of its forecast of the whole, from a tenth of it on.
    fn errors(planned: &[f64], steps: &[f64], blocks: u32) -> Vec<f64> {
        let estimate =
            Estimate { steps: planned.iter().map(|s| Duration::from_secs_f64(*s)).collect(), timed: Duration::ZERO };
        let mut forecast = Forecast::new(&estimate, blocks);
        let total = steps.iter().sum::<f64>() * f64::from(blocks);
        let (mut now, mut errors) = (0.0, Vec::new());
        let at = Duration::from_secs_f64;
        for block in 0..blocks {
            forecast.begin(at(now));
            for (number, step) in steps.iter().enumerate() {
                for tenth in 0..10 {
                    let part = f64::from(tenth) / 10.0;
                    let moment = now + step * part;
                    if moment > 0.1 * total {
                        let all = moment + forecast.left(at(moment), part).as_secs_f64();
                        errors.push((all / total - 1.0).abs());
                    }
                }
                now += step;
                if number + 1 < steps.len() {
                    forecast.step(at(now));
                } else {
                    forecast.end(at(now));
                }
            }
            assert!(block + 1 < blocks || forecast.left(at(now), 0.0).is_zero());
        }
        errors
    }

    #[test]
    fn from_a_tenth_of_the_run_on_its_end_is_known_within_15_percent() {
        // The machine is as planned, three times slower, and slower in other steps than planned.
        for steps in [[3.0, 1.0, 2.0, 1.0, 0.1], [9.0, 3.0, 6.0, 3.0, 0.3], [4.0, 3.0, 2.0, 2.0, 1.0]] {
            let errors = errors(&[3.0, 1.0, 2.0, 1.0], &steps, 8);
            assert!(errors.len() > 300);
            let worst = errors.iter().copied().fold(0.0, f64::max);
            assert!(worst < 0.15, "{steps:?}: {worst}");
        }
    }

    #[test]
    fn before_the_first_block_tells_the_plan_does() {
        let estimate = Estimate { steps: vec![Duration::from_secs(2), Duration::from_secs(8)], timed: Duration::ZERO };
        let mut forecast = Forecast::new(&estimate, 3);
        assert_eq!(forecast.left(Duration::ZERO, 0.0), Duration::from_secs(30));
        forecast.begin(Duration::from_secs(5));
        assert_eq!(forecast.left(Duration::from_secs(6), 0.0), Duration::from_secs(30));
        forecast.step(Duration::from_secs(9));
        // Half as fast as planned.
        assert_eq!(forecast.left(Duration::from_secs(9), 0.0), Duration::from_secs(56));
        // A block that was broken off says nothing of others.
        forecast.end(Duration::from_secs(25));
        assert_eq!(forecast.left(Duration::from_secs(25), 0.0), Duration::from_secs(30));
    }
}
