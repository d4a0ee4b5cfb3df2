//! Set-up of a test binary, which has no `main` of ours.

/// `control/spawn` starts our own binary, which in tests is the test: it must exit before it takes that for a call to run
/// tests. This does, before `main`, what tarebench does as the first thing in it.
#[used]
#[unsafe(link_section = ".init_array")]
static EXIT_IF_TOLD: extern "C" fn() = exit_if_told;

extern "C" fn exit_if_told() {
    use std::os::unix::ffi::OsStringExt as _;
    // Before `main` the standard library need not know the arguments yet.
    let words = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    let arguments = words.split(|byte| *byte == 0).map(|word| std::ffi::OsString::from_vec(word.to_vec()));
    workloads::control::spawn::exit_if_told(arguments);
}
