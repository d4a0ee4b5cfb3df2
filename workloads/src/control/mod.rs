//! Controls: what a clock reading, a system call, a switch, a process, a page fault, a load, arithmetic and a wake-up cost by
//! themselves, so that other figures can be judged and explained.

pub mod bandwidth;
pub mod clock;
pub mod cpu;
pub mod fault;
pub mod memory;
pub mod pages;
pub mod spawn;
pub mod switch;
pub mod syscall;
pub mod timer;
