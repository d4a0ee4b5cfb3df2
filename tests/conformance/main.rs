//! Every runner of the registry does the same, for real (see [`examinations`]). The tests are made from the registry when this
//! program starts: a runner that is registered is a runner tested. It takes the words that any other test takes.

#[cfg(target_os = "linux")]
#[path = "../common/mod.rs"]
mod common;
#[cfg(target_os = "linux")]
mod examinations;

use clap::{ArgAction, CommandFactory as _, FromArgMatches as _};
use libtest_mimic::{Arguments, Trial};

fn main() {
    let (arguments, filters) = arguments();
    let chosen = |name: &str| {
        let fits = |filter: &String| if arguments.exact { name == filter } else { name.contains(filter.as_str()) };
        filters.is_empty() || filters.iter().any(fits)
    };
    let tests = all().into_iter().filter(|t| chosen(t.name())).collect();
    libtest_mimic::run(&arguments, tests).exit();
}

/// The command line, with any number of filters and the environment variable for the number of threads, as the harness of
/// `#[test]` has them and libtest-mimic has not.
fn arguments() -> (Arguments, Vec<String>) {
    let several = |command: clap::Command| command.mut_arg("filter", |a| a.action(ArgAction::Append).num_args(0..));
    let matches = several(Arguments::command()).get_matches();
    let filters = matches.get_many("filter").into_iter().flatten().cloned().collect();
    let mut arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    arguments.filter = None;
    let threads = std::env::var("RUST_TEST_THREADS").ok().and_then(|n| n.parse().ok());
    arguments.test_threads = arguments.test_threads.or(threads);
    (arguments, filters)
}

#[cfg(target_os = "linux")]
fn all() -> Vec<Trial> {
    examinations::all()
}

/// They look at `/proc`, `/sys` and network namespaces for what is left.
#[cfg(not(target_os = "linux"))]
fn all() -> Vec<Trial> {
    Vec::new()
}
