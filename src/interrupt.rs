//! Ctrl-C and SIGTERM: the first asks for a clean end, the second ends at once and leaves the rest to the next run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::exit::Exit;

/// Which signal came, if any.
#[derive(Debug, Clone)]
pub struct Interrupt {
    /// Set by the first signal; waits look at it.
    pub flag: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Starts listening.
    ///
    /// # Errors
    /// When the handlers can't be installed.
    pub fn listen() -> anyhow::Result<Self> {
        let this = Self { flag: Arc::default(), signal: Arc::default() };
        for (signal, code) in [(SIGINT, Exit::Interrupted), (SIGTERM, Exit::Terminated)] {
            let context = || format!("can't listen for signal {signal}");
            flag::register_conditional_shutdown(signal, code as i32, Arc::clone(&this.flag)).with_context(context)?;
            flag::register(signal, Arc::clone(&this.flag)).with_context(context)?;
            flag::register_usize(signal, Arc::clone(&this.signal), signal as usize).with_context(context)?;
        }
        Ok(this)
    }

    /// The exit code that tells of the signal, where one came.
    pub fn exit(&self) -> Option<Exit> {
        match self.signal.load(Ordering::Relaxed) as i32 {
            SIGINT => Some(Exit::Interrupted),
            SIGTERM => Some(Exit::Terminated),
            _ => None,
        }
    }
}
