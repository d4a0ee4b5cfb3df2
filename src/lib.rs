//! The thin command line over the workloads, the runners and the reports.

#[macro_use]
mod tell;

mod cli;
mod commands;
mod estimate;
mod execute;
mod exit;
mod interrupt;
mod ladder;
mod live;
mod plan;
mod run_id;
mod suite;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use clap::{CommandFactory, Parser};
use cli::{Cli, Command};
use exit::Exit;
use workloads::visit::Visit;

/// The command line of this process: parsed, carried out, and its end told by the exit code.
pub fn main() -> ExitCode {
    // The step into a root file system must come before anything that could start a thread.
    if std::env::args_os().nth(1).is_some_and(|word| word == "enter") {
        return enter();
    }
    let cli = match Cli::try_parse().or_else(|_| Cli::parse_with_plain_usage()) {
        Ok(cli) => cli,
        // Help is an answer: it goes to stdout, and whoever can't have it is told.
        Err(e) if !e.use_stderr() => return ended(commands::print_bytes(styled(&e).as_bytes()).map(|()| Exit::Done)),
        Err(e) => e.exit(),
    };
    start_log(cli.verbose);
    outlive_large_files();
    ended(caught(|| dispatch(cli.command)))
}

/// What panics is a mistake of ours, and ends as one; where and why has been said by then.
fn caught(work: impl FnOnce() -> anyhow::Result<Exit>) -> anyhow::Result<Exit> {
    let panicked = |_| Err(anyhow::anyhow!("this is a mistake in tarebench: what is said above shows where"));
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(panicked)
}

/// A file that grows beyond `ulimit -f` is an error of whoever writes it, as other limits are: by default the signal ends the process,
/// and what it made stays. What we start has the signal as it was, for a handler ends with exec.
fn outlive_large_files() {
    if let Err(e) = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::default()) {
        log::debug!("a file beyond `ulimit -f` will end us: {e}");
    }
}

/// The help or the version, in colours where a person looks at it.
fn styled(answer: &clap::Error) -> String {
    let text = answer.render();
    if std::io::stdout().is_terminal() { text.ansi().to_string() } else { text.to_string() }
}

fn ended(result: anyhow::Result<Exit>) -> ExitCode {
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            tell!("error: {error:#}");
            exit::code_of(&error).into()
        }
    }
}

/// `tarebench enter`, which runners call: it becomes another program, or fails.
fn enter() -> ExitCode {
    let Err(error) = runners::enter(std::env::args_os().skip(2));
    tell!("tarebench enter: {error:#}");
    Exit::Internal.into()
}

fn dispatch(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Run(args) => commands::run::run(args),
        Command::Calibrate(args) => commands::calibrate::run(args),
        Command::Doctor(args) => commands::doctor::run(args),
        Command::List(args) => commands::list::run(args),
        Command::Plan(args) => commands::plan::run(args),
        Command::Explain(args) => commands::explain::run(args),
        Command::Prove { promise: cli::Promise::Durability(args) } => commands::prove::durability(args),
        Command::Verify(args) => commands::verify::run(args),
        Command::Report(args) => commands::report::run(args),
        Command::Compare(args) => commands::compare::run(args),
        Command::Gate(args) => commands::gate::run(args),
        Command::Import(args) => commands::import::run(args),
        Command::Export(args) => commands::stores::export(args),
        Command::Merge(args) => commands::stores::merge(args),
        Command::Remove(args) => commands::stores::remove(args),
        Command::Prune(args) => commands::stores::prune(args),
        Command::Trend(args) => commands::trend::run(args),
        Command::Accept(args) => commands::stores::accept(args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "tarebench", &mut script);
            commands::print_bytes(&script)?;
            Ok(Exit::Done)
        }
        Command::Man { dir } => commands::man::run(dir.as_deref()),
        Command::Agent { data, visit, copy } => {
            let visit = visit.then(|| Visit::begin(&data, copy.as_deref())).transpose()?;
            visit.as_ref().map(Visit::end_with_channel).transpose()?;
            let served = workloads::agent::serve(&mut std::io::stdin().lock(), &mut std::io::stdout().lock(), &data);
            served.or_else(|error| if is_broken_pipe(&error) { Ok(()) } else { Err(error) })?;
            Ok(Exit::Done)
        }
        Command::Leave { paths } => {
            workloads::visit::leave(&paths)?;
            Ok(Exit::Done)
        }
        Command::Disk { image, log } => {
            commands::prove::serve_disk(&image, &log)?;
            Ok(Exit::Done)
        }
        Command::Peer { listen } => {
            workloads::peer::serve(&listen)?;
            Ok(Exit::Done)
        }
    }
}

fn start_log(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    env_logger::Builder::from_env(env_logger::Env::new().filter_or("TAREBENCH_LOG", level))
        .format(|out, record| {
            let time = humantime::format_rfc3339_millis(SystemTime::now());
            let words = reports::render::escape::lines(&record.args().to_string()).replace('\n', "\n    ");
            writeln!(out, "[{time} {:<5} {}] {words}", record.level(), record.target())
        })
        .init();
}

/// Whether nobody is there any more to answer: an agent then has no words for it.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    causes.any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_as_an_internal_error() {
        let error = caught(|| panic!("on purpose")).expect_err("it panicked");
        assert_eq!(exit::code_of(&error) as u8, 70);
        assert!(error.to_string().contains("a mistake in tarebench"), "{error}");
        assert_eq!(caught(|| Ok(Exit::Regressed)).expect("it ended"), Exit::Regressed);
    }
}
