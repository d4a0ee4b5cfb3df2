//! The controls that only show what they are worth in the program itself, which they start again.

mod common;

use common::Dir;

#[test]
fn the_word_of_spawn_ends_the_program_before_anything_else() {
    let b = Dir::new();
    for (words, code) in [(["exit", "42"].as_slice(), 42), (&["exit", "0"], 0), (&["exit"], 127)] {
        let ran = b.run(words).ends_with(code);
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
    }
    b.run(&["exits"]).ends_with(2).says("exits");
}

#[test]
fn all_controls_are_verified_on_bare_metal() {
    let b = Dir::new();
    let workloads = ["switch", "spawn", "fault", "memory", "bandwidth", "cpu", "timer"];
    let tables: String = workloads.iter().map(|name| format!("[workloads.\"control/{name}\"]\n")).collect();
    let s = b.suite(&format!("[environments.bare]\n{tables}"));
    b.run(&["verify", &s]).ends_with(0).says("control/timer");
    b.holds_only(&["suite.toml"]);
}
