//! Disk: one block at a time, written through to the device or read past the page cache.

pub mod fsync;
pub mod randread;
pub mod randwrite;

mod blocks;
