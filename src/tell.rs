//! Words on standard error: for people, and no reason to end where nobody can be told (a full disk, a closed terminal).

use reports::render::escape::lines;

/// As `eprintln!`, which panics where the line can't be written.
macro_rules! tell {
    ($($words:tt)*) => {
        $crate::tell::line(format_args!($($words)*))
    };
}

/// Writes a line on standard error, or doesn't. Names may come from a store or a policy of others: none of them drives a terminal.
pub fn line(words: std::fmt::Arguments<'_>) {
    use std::io::Write as _;
    // There is no other place to say it.
    let _ = writeln!(std::io::stderr().lock(), "{}", lines(&words.to_string()));
}
