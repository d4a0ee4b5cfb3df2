//! In which order environments are asked for what is done side by side.

use super::script::Script;
use super::{ONE, plan, rows};

#[test]
fn who_is_slow_to_start_is_asked_first_and_checked_as_everybody_is() {
    let script = Script::default();
    rows(&plan(1, ONE), &script);
    assert_eq!(script.prepared(), ["bare", "control", "box"]);
    // What the baseline did is still what the others are held to.
    let script = Script::default().starts_slowly("box").does_other_work("box");
    let stored = rows(&plan(1, ONE), &script);
    assert_eq!(script.prepared(), ["box", "bare", "control"]);
    let failed = stored.checks.iter().filter(|check| check.outcome.is_err()).map(|check| check.environment.as_str());
    assert_eq!(failed.collect::<Vec<_>>(), ["box"]);
}
