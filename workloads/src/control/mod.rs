//! Controls: what a clock reading and a system call cost by themselves, so that other figures can be judged.

pub mod clock;
pub mod syscall;
