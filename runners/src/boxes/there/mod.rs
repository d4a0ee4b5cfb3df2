//! Boxes that were there before us: entered, visited, and left as they were.

pub mod exec;
pub mod ssh;
mod visit;
