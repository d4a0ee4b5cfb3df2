//! Placeholder until the recorder exists.
fn main() {}
