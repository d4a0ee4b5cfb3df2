//! Progress on a terminal: a bar with the time left that moves between bursts and never during one.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The bar. Without a terminal it prints nothing but warnings.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
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
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{bar:30.cyan/dim} {percent:>3} %  {eta:>4} left  {msg}")
            .expect("the template is a constant");
        bar.set_style(style.progress_chars("━━─"));
        Self { bar }
    }

    /// So many bursts are ahead.
    pub fn begin(&self, bursts: u64) {
        self.bar.set_length(bursts);
        self.bar.tick();
    }

    /// Shows the step that is under way.
    pub fn say(&self, step: impl Into<String>) {
        self.bar.set_message(step.into());
        self.bar.tick();
    }

    /// Something the user should know now; it is in the report too.
    pub fn warn(&self, warning: impl AsRef<str>) {
        let line = format!("warning: {}", warning.as_ref());
        if self.bar.is_hidden() { eprintln!("{line}") } else { self.bar.println(line) }
    }

    /// So many bursts are done.
    pub fn advance(&self, bursts: u64) {
        self.bar.inc(bursts);
    }

    /// Whatever failed or was repeated: after this workload of this block so much is behind us.
    pub fn skip_to(&self, block: u32, workload: usize, workloads: usize, bursts_each: u64) {
        self.bar.set_position((u64::from(block) * workloads as u64 + workload as u64 + 1) * bursts_each);
    }
}

/// Removes the bar: an error must not be written into it.
impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
