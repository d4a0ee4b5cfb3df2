//! Stands in for io_uring on other systems than Linux: a queue that can't be made.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::time::Duration;

/// A queue that nobody ever has.
pub struct Queue<T> {
    pub setup: &'static str,
    pub kept: Vec<T>,
    never: Infallible,
}

impl<T> Queue<T> {
    /// Says that there is none.
    pub fn new(_depth: u32) -> anyhow::Result<Self> {
        anyhow::bail!("io_uring is Linux's, and this is another system; set engine = psync for all environments")
    }

    /// # Safety
    /// Never called.
    pub unsafe fn read(&mut self, _file: &File, _tag: usize, _buffer: *mut u8, _length: usize, _offset: u64) {
        match self.never {}
    }

    /// # Safety
    /// Never called.
    pub unsafe fn write(&mut self, _file: &File, _tag: usize, _buffer: *const u8, _length: usize, _offset: u64) {
        match self.never {}
    }

    pub fn ready(&mut self) -> bool {
        match self.never {}
    }

    pub fn submit(&mut self) -> io::Result<()> {
        match self.never {}
    }

    pub fn wait(&mut self) -> io::Result<()> {
        match self.never {}
    }

    pub fn next(&mut self) -> Option<(usize, i32)> {
        match self.never {}
    }

    pub fn drain(&mut self, _limit: Duration, _done: impl FnMut(&mut T, i32)) -> anyhow::Result<()> {
        match self.never {}
    }

    pub fn give_back(&mut self) -> Vec<T> {
        match self.never {}
    }
}

/// The system's own words.
pub fn explain(error: io::Error) -> anyhow::Error {
    error.into()
}
