//! Progress on a terminal: a bar with the time left that moves between bursts and never during one.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The bar. Without a terminal it prints nothing but warnings.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar over so many bursts. It has no timer of its own: a tick in the middle of a burst would be measured.
    pub fn new(bursts: u64) -> Self {
        let target =
            if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(bursts), target);
        let style = ProgressStyle::with_template("{bar:30.cyan/dim} {percent:>3} %  {eta:>4} left  {msg}")
            .expect("the template is a constant");
        bar.set_style(style.progress_chars("━━─"));
        bar.tick();
        Self { bar }
    }

    /// What is going on.
    pub fn say(&self, what: impl Into<String>) {
        self.bar.set_message(what.into());
        self.bar.tick();
    }

    /// Something the user should know now; it is in the report too.
    pub fn warn(&self, what: impl AsRef<str>) {
        let line = format!("warning: {}", what.as_ref());
        if self.bar.is_hidden() { eprintln!("{line}") } else { self.bar.println(line) }
    }

    /// One burst is done.
    pub fn advance(&self) {
        self.bar.inc(1);
    }

    /// Whatever failed or was repeated: after this workload of this block so much is behind us.
    pub fn skip_to(&self, block: u32, workload: usize, workloads: usize, bursts_each: u64) {
        self.bar.set_position((u64::from(block) * workloads as u64 + workload as u64 + 1) * bursts_each);
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
