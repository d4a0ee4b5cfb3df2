//! Progress on a terminal: a bar with the time left that moves between bursts and never during one.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Steps of the bar.
const STEPS: u64 = 1000;

/// The bar. Without a terminal it prints nothing but warnings.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    /// Warnings that were given.
    given: RefCell<BTreeSet<String>>,
}

impl Progress {
    /// On stderr, where that is a terminal. The bar has no timer of its own: a tick in the middle of a burst would be measured.
    pub fn on_terminal() -> Self {
        if std::io::stderr().is_terminal() { Self::on(ProgressDrawTarget::stderr()) } else { Self::hidden() }
    }

    /// No bar, only warnings.
    pub fn hidden() -> Self {
        Self::on(ProgressDrawTarget::hidden())
    }

    fn on(target: ProgressDrawTarget) -> Self {
        let bar = ProgressBar::with_draw_target(Some(STEPS), target);
        let style = ProgressStyle::with_template("{bar:30.cyan/dim} {percent:>3} %  {prefix}  {msg}")
            .expect("the template is a constant");
        bar.set_style(style.progress_chars("━━─"));
        Self { bar, given: RefCell::default() }
    }

    /// Shows the step that is under way, after so much of a run that will take so long still.
    pub fn show(&self, step: impl Into<String>, spent: Duration, left: Duration) {
        let share = spent.as_secs_f64() / (spent + left).as_secs_f64().max(1e-9);
        self.bar.set_position((share * STEPS as f64) as u64);
        let seconds = left.as_secs_f64().round() as u64;
        self.bar.set_prefix(match seconds {
            0..60 => format!("{seconds} s left"),
            _ => format!("{} min {:02} s left", seconds / 60, seconds % 60),
        });
        self.bar.set_message(step.into());
        self.bar.tick();
    }

    /// Something the user should know now; it is in the report too. What fails in each block alike is news once.
    pub fn warn(&self, warning: impl AsRef<str>) {
        let line = format!("warning: {}", warning.as_ref());
        if !self.given.borrow_mut().insert(line.clone()) {
            return;
        }
        if self.bar.is_hidden() { tell!("{line}") } else { self.bar.println(line) }
    }
}

/// Removes the bar: an error must not be written into it.
impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
