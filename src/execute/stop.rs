//! When a run is over: after its blocks, when its budget is spent, or when its intervals are narrow enough.

use std::time::Duration;

use reports::comparison::precision::{self, IN_A_ROW, Widest};
use reports::comparison::{Method, compare};
use reports::record::{Ending, NOT_SURE};

use super::execution::Rows;
use crate::plan::Plan;
use crate::suite::Percent;

/// How a run ended, and why where that wasn't by plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Over {
    /// How.
    pub ending: Ending,
    /// Why.
    pub stopped: Option<String>,
}

impl Over {
    /// By a signal.
    pub const INTERRUPTED: Over = Over { ending: Ending::Interrupted, stopped: None };
}

/// The looks at a run that goes on until it is sure enough. It looks at widths only: see [`precision`].
#[derive(Debug)]
pub struct Looks {
    until: Option<Percent>,
    in_a_row: u32,
    widest: Option<Widest>,
}

impl Looks {
    /// Those that a plan asks for.
    pub fn of(plan: &Plan) -> Self {
        Self { until: plan.suite.until, in_a_row: 0, widest: None }
    }

    /// Looks, where there is a look after so many blocks, and says whether the run is sure enough.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn enough(&mut self, rows: &Rows, blocks: u32) -> anyhow::Result<Option<Over>> {
        let Some(until) = self.until.filter(|_| precision::is_look(blocks)) else { return Ok(None) };
        self.widest = precision::widest(&compare(&rows.load()?, Method::default()));
        let narrow = self.widest.as_ref().is_some_and(|widest| widest.half_width < until.share());
        self.in_a_row = if narrow { self.in_a_row + 1 } else { 0 };
        if self.in_a_row < IN_A_ROW {
            return Ok(None);
        }
        let widest = self.words();
        let stopped = format!("stopped after {blocks} blocks: sure to {until}; {widest}, at {IN_A_ROW} looks in a row");
        Ok(Some(Over { ending: Ending::Complete, stopped: Some(stopped) }))
    }

    /// The end after all blocks: by plan, unless they were to make it surer.
    pub fn all_done(&self, blocks: u32) -> Over {
        let stopped =
            self.until.map(|until| format!("all {blocks} blocks are done, and {NOT_SURE} {until}; {}", self.words()));
        Over { ending: Ending::Complete, stopped }
    }

    /// The end of a budget.
    pub fn spent(&self, budget: Duration, blocks: u32, planned: u32) -> Over {
        let budget = humantime::format_duration(budget);
        let sure = self.until.map_or(String::new(), |until| format!(", and {NOT_SURE} {until}; {}", self.words()));
        let stopped = format!("interrupted: the budget of {budget} was spent after {blocks} of {planned} blocks{sure}");
        Over { ending: Ending::Interrupted, stopped: Some(stopped) }
    }

    fn words(&self) -> String {
        match &self.widest {
            None => "no interval was looked at".into(),
            Some(w) if w.half_width.is_infinite() => format!("{} in {} has no interval", w.workload, w.environment),
            Some(w) => format!(
                "the widest interval is {:.1} % to either side ({} in {})",
                100.0 * w.half_width,
                w.workload,
                w.environment
            ),
        }
    }
}
