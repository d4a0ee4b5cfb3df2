//! The command line as it is typed: clap structs and nothing else. `plan` resolves them; nothing here touches the host.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PathBufValueParser, PossibleValuesParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{Arg, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use reports::gate::Verdict;
use runners::machine::tune::Knobs;
use workloads::durability::Way;

use crate::suite::Percent;
use crate::{commands, exit};

/// What does the box weigh? Runs identical SQLite, disk and network work on bare metal, in containers and in virtual
/// machines, and reports what each box costs, how sure that is, and why.
#[derive(Debug, Parser)]
#[command(name = "tarebench", version, after_help = exit::table(), subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
    /// Say more: -v tells what is done, -vv also every command that is run
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

impl Cli {
    /// Parses what was typed once more, for an answer whose usage has no option that only a variable has set: clap's own puts
    /// `--store` there wherever TAREBENCH_STORE is set, as if it were required. An agent has no time for that, and needs no answer.
    ///
    /// # Errors
    /// As clap has them: the help, the version, or what was typed wrong.
    pub fn parse_with_plain_usage() -> Result<Self, clap::Error> {
        let mut command = Self::command();
        command.build();
        let mut command = with_plain_usage(command);
        let matches = command.try_get_matches_from_mut(std::env::args_os())?;
        Self::from_arg_matches(&matches).map_err(|e| e.format(&mut command))
    }
}

fn with_plain_usage(command: clap::Command) -> clap::Command {
    let mut command = command.mut_subcommands(with_plain_usage);
    let usage = command.render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage).to_string();
    command.override_usage(usage)
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure: run a suite, keep every histogram in the store, and report
    #[command(
        after_help = "Examples:\n  tarebench run\n  tarebench run quick --env runc --env qemu:accel=tcg --workload sqlite/commit\n  tarebench run quick --env head=runc:binary=/opt/head/runc --env base=runc:binary=/opt/base/runc\n  tarebench run standard --budget 10m --report report.html --label host=rack7\n  tarebench run quick --until 3% --budget 20m\n  tarebench run --tune\n  tarebench run --resume latest --blocks 24\n  tarebench run my-suite.toml --blocks 30 --data-dir /mnt/nvme\n  tarebench run my-suite.toml --gate gate.toml --fail-on regressed,invalid"
    )]
    Run(Run),
    /// Say what can run here, what can't and how to fix it, and how quiet this machine is
    #[command(
        after_help = "Examples:\n  tarebench doctor\n  tarebench doctor --json | jq '.runners[] | select(.verdict != \"works\")'\n  tarebench doctor --clean"
    )]
    Doctor(Doctor),
    /// Find out what this machine can see: its noise in a suite's workloads, its regimes, its clocks, its CPUs
    #[command(
        after_help = "Examples:\n  tarebench calibrate\n  tarebench calibrate standard --workload disk/fsync --budget 10m\n  tarebench calibrate --format json | jq '.workloads[] | {workload, sees}'\n\nCopies of the baseline are measured against each other: docs/calibrate.md. Later runs on this machine cite it."
    )]
    Calibrate(Calibrate),
    /// List environments, workloads, suites or stored runs
    #[command(
        after_help = "Examples:\n  tarebench list workloads\n  tarebench list environments --json\n  tarebench list runs --store results.db"
    )]
    List(List),
    /// Say what `run` would do, in order, and about how long; does nothing
    #[command(
        after_help = "Examples:\n  tarebench plan\n  tarebench plan standard --env gvisor --workload disk/fsync\n  tarebench plan --until 3% --budget 10m"
    )]
    Plan(PlanArgs),
    /// Take a box apart: which of its settings costs what, in figures that add up
    #[command(
        after_help = "Examples:\n  tarebench explain runc:seccomp=containers,data=overlay\n  tarebench explain gvisor --only platform,overlay --workload disk/fsync\n  tarebench explain qemu:disk.format=qcow2,net=user --order net --budget 10m --report why.html\n  tarebench explain vmware-server-2009\n\nThe rungs from the baseline to ENVIRONMENT, simpler boxes first and then each with one setting more, and ENVIRONMENT with one setting changed, each, are environments of one run: docs/explain.md."
    )]
    Explain(Explain),
    /// Prove what a box promises
    Prove {
        /// The promise.
        #[command(subcommand)]
        promise: Promise,
    },
    /// Do every workload once in every available environment and compare the check values
    #[command(after_help = "Examples:\n  tarebench verify\n  tarebench verify standard --env qemu")]
    Verify(Verify),
    /// Draw a stored run again: same store, same bytes
    #[command(after_help = report_help())]
    Report(Report),
    /// Hold two runs of one suite against each other: what differs beside the overheads, and by how much they do
    #[command(
        after_help = "Examples:\n  tarebench compare host=rack7 host=rack8\n  tarebench compare commit=1e21665 latest -o both.html"
    )]
    Compare(Compare),
    /// Hold a stored run against a policy: pass, improved, regressed, inconclusive, invalid or no-baseline
    #[command(
        after_help = "Examples:\n  tarebench gate --policy gate.toml\n  tarebench gate --head runsc-new --base runsc-old\n  tarebench gate commit=1e21665 --policy gate.toml --format github --step-summary\n  tarebench gate --policy gate.toml --fail-on regressed --format junit > gate.xml"
    )]
    Gate(Gate),
    /// Put measurements of another program into the store
    #[command(after_help = "Example:\n  tarebench import fio bare=bare.json runc=runc.json")]
    Import(Import),
    /// Write runs into a store of their own: one file that travels
    #[command(
        after_help = "Examples:\n  tarebench export latest -o run.db\n  tarebench export commit=0a1b2c3 release -o both.db\n  tarebench report --store run.db"
    )]
    Export(Export),
    /// Take the runs of other stores into this one; merging twice changes nothing
    #[command(
        after_help = "Examples:\n  tarebench merge artifacts/*.db --store history.db\n\nA file is checked as a whole before anything of it is taken. What was accepted in it is not accepted here."
    )]
    Merge(Merge),
    /// Remove runs from the store, for good
    #[command(
        after_help = "Examples:\n  tarebench remove tp34jzs3\n  tarebench remove commit=0a1b2c3 --store history.db"
    )]
    Remove(Remove),
    /// Remove the bursts of runs and keep what they cost
    #[command(
        after_help = "Examples:\n  tarebench prune --keep 30\n  tarebench prune tp34jzs3 tp34k2y2 --shrink\n\nWhat stays can be listed, accepted, gated against and drawn by `trend`, and is a hundredth of the size. `report` can't draw it."
    )]
    Prune(Prune),
    /// Draw what a suite cost from run to run, and where that changed for good
    #[command(
        after_help = "Examples:\n  tarebench trend\n  tarebench trend latest --store history.db -o trend.html\n\nA history are all runs of the same suite, settings, boxes and class of hosts as RUN: see `accept`."
    )]
    Trend(Trend),
    /// Let a run stand for how things should be: later runs of the same suite, settings and class of hosts are judged by it
    #[command(
        after_help = "Examples:\n  tarebench accept latest --reason 'new runc, costs 3 % more, known'\n  tarebench accept latest --add --reason 'the gate passed'"
    )]
    Accept(Accept),
    /// Print shell completions
    #[command(after_help = "Example:\n  tarebench completions bash > /etc/bash_completion.d/tarebench")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page (roff), or write one page per command into a directory
    #[command(after_help = "Example:\n  tarebench man | man -l -")]
    Man {
        /// Write tarebench.1, tarebench-run.1, ... here instead of printing
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// The far side of a session: started by runners, not by people
    #[command(hide = true)]
    Agent {
        /// The data directory as seen inside
        #[arg(long)]
        data: PathBuf,
        /// Make that directory, and remove it at the end
        #[arg(long)]
        visit: bool,
        /// Remove this copy of the program at the end, too
        #[arg(long, requires = "visit")]
        copy: Option<PathBuf>,
    },
    /// Remove what an agent left in a box that is not ours: started by `run`, not by people
    #[command(hide = true)]
    Leave {
        /// The paths to remove; only what is called tarebench-...
        paths: Vec<PathBuf>,
    },
    /// The disk whose power is cut: started by `prove`, not by people
    #[command(hide = true)]
    Disk {
        /// Its content
        #[arg(long)]
        image: PathBuf,
        /// The log that is made of its writes and flushes
        #[arg(long)]
        log: PathBuf,
    },
    /// The far end of network workloads: started by `run`, not by people
    #[command(hide = true)]
    Peer {
        /// Address and port to listen on, TCP and UDP; port 0 for any, or for that of the address before
        #[arg(long, required = true)]
        listen: Vec<std::net::SocketAddr>,
    },
}

fn report_help() -> String {
    let examples = [
        "tarebench report",
        "tarebench report latest --format html -o report.html",
        "tarebench report host=rack7 --format json",
        "tarebench report --format bmf -o for-bencher.json",
    ];
    format!("Formats:\n{}\n\nExamples:\n  {}", commands::report::table(), examples.join("\n  "))
}

/// The parts of a run; shared by `run`, `plan` and `verify`.
#[derive(Debug, Args)]
pub struct Selection {
    /// A built-in suite (`tarebench list suites`) or the path of a TOML file
    #[arg(default_value = "quick")]
    pub suite: String,
    /// Only these environments (and the baseline): a name in the suite, a runner, or [NAME=]RUNNER:key=value,...
    #[arg(long = "env", value_name = "ENV")]
    pub environments: Vec<String>,
    /// What is done in them, and where.
    #[command(flatten)]
    pub scope: Scope,
}

/// What is done and where, whichever the environments are.
#[derive(Debug, Clone, Args)]
pub struct Scope {
    /// Only these workloads: names in the suite or workloads, as in disk/fsync,net/rr, or WORKLOAD:key=value,...
    #[arg(long = "workload", value_name = "NAME")]
    pub workloads: Vec<String>,
    /// Fresh starts of every environment; 6 is the least that gives a finite interval
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub blocks: Option<u32>,
    /// Seed of all random order and all content; default: a new one each time
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Where all environments keep their data: a directory on the disk to be measured [default: the folder of the store]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Accept a data directory in memory (tmpfs, ramfs); the report flags it
    #[arg(long)]
    pub allow_memory: bool,
}

/// The store where none is named.
pub const STORE: &str = "tarebench.db";

/// The path of a store. A variable that is empty is as one that isn't set, as CI leaves those that it knows nothing for; an empty word
/// on the command line is a mistake.
#[derive(Debug, Clone)]
struct StoreFile;

impl TypedValueParser for StoreFile {
    type Value = PathBuf;

    fn parse_ref(&self, command: &clap::Command, arg: Option<&Arg>, value: &OsStr) -> Result<PathBuf, clap::Error> {
        PathBufValueParser::new().parse_ref(command, arg, value)
    }

    fn parse_ref_(
        &self,
        command: &clap::Command,
        arg: Option<&Arg>,
        value: &OsStr,
        source: ValueSource,
    ) -> Result<PathBuf, clap::Error> {
        let unset = value.is_empty() && source == ValueSource::EnvVariable;
        self.parse_ref(command, arg, if unset { OsStr::new(STORE) } else { value })
    }
}

/// Where results are kept.
#[derive(Debug, Args)]
pub struct StoreArg {
    /// The SQLite file that keeps all runs
    #[arg(long, value_name = "FILE", env = "TAREBENCH_STORE", default_value = STORE, value_parser = StoreFile)]
    pub store: PathBuf,
}

/// How long a run may take, and what is kept of it.
#[derive(Debug, Args)]
pub struct Keeping {
    /// Begin no new block after this time, as in 5m; at least one block is done. Waiting for another run isn't counted
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub budget: Option<Duration>,
    /// Where results are kept.
    #[command(flatten)]
    pub store: StoreArg,
    /// Also write a report here; the ending says the format: .html, .md, .json, ... (`tarebench report --help` has all)
    #[arg(long, value_name = "FILE")]
    pub report: Vec<PathBuf>,
    /// Don't wait for another run that is measuring on this host; the report flags it
    #[arg(long, env = "TAREBENCH_BESIDE", value_parser = clap::builder::FalseyValueParser::new())]
    pub beside: bool,
    /// Make the machine steadier until the run ends, and put it back then: governor, turbo, numa-balancing, ksm; or what is named of
    /// these, thp and idle, as in --tune=ksm,thp
    #[arg(long, value_name = "WHAT", num_args = 0..=1, require_equals = true, default_missing_value = Knobs::SAFE)]
    pub tune: Option<Knobs>,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The parts of the run.
    #[command(flatten)]
    pub selection: Selection,
    /// How long it may take, and what is kept of it.
    #[command(flatten)]
    pub keeping: Keeping,
    /// Go on until the intervals reach no further than this to either side, as in 3%; --blocks (100 unless given) and --budget
    /// bound it
    #[arg(long, value_name = "WIDTH")]
    pub until: Option<Percent>,
    /// Add blocks to this run, as it was planned, on the same host and with the same engines; --blocks says how many it is to
    /// have in all
    #[arg(long, value_name = "RUN", conflicts_with_all = ["suite", "environments", "workloads", "seed", "label"])]
    pub resume: Option<String>,
    /// A name for the run, as in host-class=rack7 or release; commit and branch are taken from CI's own variables, host-class from
    /// TAREBENCH_HOST_CLASS
    #[arg(long, value_name = "K=V")]
    pub label: Vec<String>,
    /// Hold it against this policy: 12 blocks (or --blocks), and where those can't clear something twice as many fresh ones of
    /// that alone, which decide
    #[arg(long, value_name = "POLICY", conflicts_with_all = ["until", "resume"])]
    pub gate: Option<PathBuf>,
    /// How the gate is shown.
    #[command(flatten)]
    pub shown: Shown,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// The box to take apart: a runner, [NAME=]RUNNER:key=value,..., or the name of an environment of a built-in suite
    pub environment: String,
    /// The suite with the baseline, the workloads and how to measure: built in or a TOML file
    #[arg(long, default_value = "explain")]
    pub suite: String,
    /// Take only these settings apart; the others stay as they are
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Add these settings first, in this order; the others follow as `list environments` has them
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    pub order: Vec<String>,
    /// What is done in the rungs, and where.
    #[command(flatten)]
    pub scope: Scope,
    /// How long it may take, and what is kept of it.
    #[command(flatten)]
    pub keeping: Keeping,
    /// A name for the run, as in host-class=rack7 or release
    #[arg(long, value_name = "K=V")]
    pub label: Vec<String>,
}

/// Arguments of `calibrate`.
#[derive(Debug, Args)]
pub struct Calibrate {
    /// The suite whose workloads are done: built in or a TOML file
    #[arg(default_value = "quick")]
    pub suite: String,
    /// What is done, and where.
    #[command(flatten)]
    pub scope: Scope,
    /// How long it may take: no block begins that isn't expected to end by then; a quarter, and a minute at most, is spent on keeping processor and disk busy
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "3m")]
    pub budget: Duration,
    /// Where the result is kept.
    #[command(flatten)]
    pub store: StoreArg,
    /// Don't wait for another run that is measuring on this host; the result says so
    #[arg(long, env = "TAREBENCH_BESIDE", value_parser = clap::builder::FalseyValueParser::new())]
    pub beside: bool,
    /// How it is printed
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: CalibrateFormat,
}

/// A time, and how one is written where it isn't one.
fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|e| format!("{e}; write a time as in 90s, 10m or 1h30m"))
}

/// How a calibration is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CalibrateFormat {
    /// For people
    Text,
    /// For programs
    Json,
}

/// What can be proved of a box.
#[derive(Debug, Subcommand)]
pub enum Promise {
    /// Cut the power below boxes, hundreds of times, and look whether what was acknowledged is there
    ///
    /// A writer in the box acknowledges each item when its flush has returned. The box's data lies on a disk of ours that logs
    /// every write and every flush. The log is replayed to random moments as a disk would have it that loses its volatile cache,
    /// and each image is mounted, checked, and looked through.
    #[command(
        after_help = "Examples:\n  tarebench prove durability runc\n  tarebench prove durability qemu:disk.cache=unsafe --workload append\n  tarebench prove durability bare runc:data=overlay gvisor --format markdown\n  tarebench prove durability podman:data=layer --mode kill\n\nEnds with 7 where a promise was broken. SQLite promises nothing with synchronous = off, and may lose the last commits,\nbut nothing else, with normal, and with full and a rollback journal: docs/durability.md."
    )]
    Durability(Durability),
}

/// Arguments of `prove durability`.
#[derive(Debug, Args)]
pub struct Durability {
    /// The boxes: a runner, [NAME=]RUNNER:key=value,..., or the name of an environment of a built-in suite
    #[arg(required = true, value_name = "ENVIRONMENT")]
    pub environments: Vec<String>,
    /// How it is written
    #[arg(long = "workload", value_name = "NAME", value_delimiter = ',', value_parser = PossibleValuesParser::new(Way::WORDS))]
    pub workloads: Vec<String>,
    /// Cut the power below the box, or kill the box alone, which shows less: what the host's kernel holds is there after that
    #[arg(long, default_value = "power")]
    pub mode: Mode,
    /// Cuts through each workload [default: 200, and 5 with --mode kill]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub cuts: Option<u32>,
    /// Items that are acknowledged, of each workload
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub items: u64,
    /// Seed of all choices; default: a new one each time
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// How it is shown
    #[arg(long, default_value = "text")]
    pub format: ProofFormat,
    /// The directory of the boxes that are killed; the power is cut below a disk of ours, in memory
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub data_dir: PathBuf,
}

/// What is done to a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The power of its disk is cut
    Power,
    /// It is killed
    Kill,
}

/// Formats of a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProofFormat {
    /// For people
    Text,
    /// For programs
    Json,
    /// A table for a document
    Markdown,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// For programs
    #[arg(long)]
    pub json: bool,
    /// Remove what killed runs left behind (mounts, namespaces, cgroups, containers, processes, files: ours only)
    #[arg(long)]
    pub clean: bool,
    /// The directory whose disk is looked at
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub data_dir: PathBuf,
    /// Where calibrations of this machine are looked for.
    #[command(flatten)]
    pub store: StoreArg,
}

/// The lists there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Listed {
    /// Runners and their settings
    Environments,
    /// Workloads and their settings
    Workloads,
    /// Built-in suites
    Suites,
    /// Runs in the store
    Runs,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct List {
    /// The list to print
    #[arg(value_name = "environments|workloads|suites|runs")]
    pub what: Listed,
    /// For programs
    #[arg(long)]
    pub json: bool,
    /// Where results are kept.
    #[command(flatten)]
    pub store: StoreArg,
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The parts of the run.
    #[command(flatten)]
    pub selection: Selection,
    /// Begin no new block after this time, as in 5m; at least one block is done
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub budget: Option<Duration>,
    /// Go on until the intervals reach no further than this to either side, as in 3%; --blocks (100 unless given) and --budget
    /// bound it
    #[arg(long, value_name = "WIDTH")]
    pub until: Option<Percent>,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// The parts of the run.
    #[command(flatten)]
    pub selection: Selection,
}

/// Arguments of `report`.
#[derive(Debug, Args)]
pub struct Report {
    /// An id or a commit, the beginning of one, `latest`, or a label
    #[arg(default_value = "latest")]
    pub run: String,
    /// One of the formats below [default: by the ending of --output, else terminal]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Write to this file instead of stdout, which `-` names
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Where results are kept.
    #[command(flatten)]
    pub store: StoreArg,
}

/// Arguments of `compare`.
#[derive(Debug, Args)]
pub struct Compare {
    /// The run to start from: an id or a commit, the beginning of one, `latest`, or a label
    #[arg(value_name = "RUN")]
    pub first: String,
    /// The run that is held against it
    #[arg(value_name = "RUN")]
    pub second: String,
    /// text, json or html [default: by the ending of --output, else text]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Write to this file instead of stdout, which `-` names
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Where results are kept.
    #[command(flatten)]
    pub store: StoreArg,
}

/// Arguments of `gate`.
#[derive(Debug, Args)]
pub struct Gate {
    /// An id or a commit, the beginning of one, `latest`, or a label
    #[arg(default_value = "latest")]
    pub run: String,
    /// A TOML file that says what is compared and which change matters; default: 5 % and 2 µs an operation
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// The environment that may have become worse
    #[arg(long, value_name = "ENV", requires = "base")]
    pub head: Option<String>,
    /// The one that it is held against
    #[arg(long, value_name = "ENV", requires = "head")]
    pub base: Option<String>,
    /// How it is shown.
    #[command(flatten)]
    pub shown: Shown,
    /// Where results are kept.
    #[command(flatten)]
    pub store: StoreArg,
}

/// How a gate is shown, and which of its verdicts end the program with an error.
#[derive(Debug, Args)]
pub struct Shown {
    /// Format of the gate: text, json, junit or github [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Verdicts of the gate that end with their exit code instead of 0 [default: all but pass and improved]
    #[arg(long, value_name = "VERDICT,...", value_delimiter = ',')]
    pub fail_on: Vec<FailOn>,
    /// Also write a summary of the gate into the file that $GITHUB_STEP_SUMMARY names
    #[arg(long)]
    pub step_summary: bool,
}

impl Shown {
    /// The verdicts that are to fail.
    pub fn failing(&self) -> Vec<Verdict> {
        let verdict = |on: &FailOn| match on {
            FailOn::Regressed => Verdict::Regressed,
            FailOn::Inconclusive => Verdict::Inconclusive,
            FailOn::Invalid => Verdict::Invalid,
            FailOn::NoBaseline => Verdict::NoBaseline,
        };
        if self.fail_on.is_empty() {
            return Verdict::ALL.into_iter().filter(|verdict| !verdict.is_good()).collect();
        }
        self.fail_on.iter().map(verdict).collect()
    }

    /// Whether any of it was said.
    pub fn is_given(&self) -> bool {
        self.format.is_some() || self.step_summary || !self.fail_on.is_empty()
    }
}

/// Verdicts that a build can be failed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// Worse, beyond chance and by enough to matter
    Regressed,
    /// Neither that nor its absence is shown
    Inconclusive,
    /// Not measured, or not soundly
    Invalid,
    /// Too few accepted runs
    NoBaseline,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct Export {
    /// Ids or commits, the beginnings of those, `latest`, or labels
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<String>,
    /// The file, of which there must be none yet, or `-` for stdout
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Where results are kept.
    #[command(flatten)]
    pub store: StoreArg,
}

/// Arguments of `merge`.
#[derive(Debug, Args)]
pub struct Merge {
    /// Stores, exported or not
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Where results are kept.
    #[command(flatten)]
    pub store: StoreArg,
}

/// Arguments of `remove`.
#[derive(Debug, Args)]
pub struct Remove {
    /// Ids or commits, the beginnings of those, `latest`, or labels
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<String>,
    /// Where results are kept.
    #[command(flatten)]
    pub store: StoreArg,
}

/// Arguments of `prune`.
#[derive(Debug, Args)]
pub struct Prune {
    /// Ids or commits, the beginnings of those, `latest`, or labels
    #[arg(required_unless_present = "keep", value_name = "RUN")]
    pub runs: Vec<String>,
    /// All runs but the last N that came into the store
    #[arg(long, value_name = "N", conflicts_with = "runs")]
    pub keep: Option<usize>,
    /// Give the space back to the disk, where it else waits for the next runs; nothing may be measured meanwhile
    #[arg(long)]
    pub shrink: bool,
    /// Where results are kept.
    #[command(flatten)]
    pub store: StoreArg,
}

/// Arguments of `accept`.
#[derive(Debug, Args)]
pub struct Accept {
    /// An id or a commit, the beginning of one, `latest`, or a label
    pub run: String,
    /// Why: others will read it
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Beside what was accepted before, instead of in its place: the run is as those were
    #[arg(long)]
    pub add: bool,
    /// Where results are kept.
    #[command(flatten)]
    pub store: StoreArg,
}

/// Arguments of `trend`.
#[derive(Debug, Args)]
pub struct Trend {
    /// A run of the history: an id or a commit, the beginning of one, `latest`, or a label
    #[arg(default_value = "latest")]
    pub run: String,
    /// Write a page (HTML) to this file, or to stdout with `-`, instead of text to stdout
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Where results are kept.
    #[command(flatten)]
    pub store: StoreArg,
}

/// Arguments of `import`.
#[derive(Debug, Args)]
pub struct Import {
    /// Whose measurements.
    #[command(subcommand)]
    pub source: Source,
}

/// Programs whose measurements can be imported.
#[derive(Debug, Subcommand)]
pub enum Source {
    /// The output of fio --output-format=json+ (or json, which has percentiles only)
    ///
    /// Each run of fio is a block of the environment NAME. The same NAME again is its next block; the first NAME is the
    /// baseline. Each job and direction is a workload `fio/JOB-DIRECTION`; jobs of the same name in one file are added up. What a
    /// file doesn't say is withheld. All files are imported, or none.
    ///
    /// A file is of one environment. Where the jobs of one file are the boxes, part it first, and give the jobs one name.
    #[command(
        after_help = "Example:\n  fio --name=log --rw=write --bs=4k --fsync=1 --size=64m --output-format=json+ --output=bare-1.json\n  tarebench import fio bare=bare-1.json bare=bare-2.json runc=runc-1.json runc=runc-2.json\n  ssh host 'fio job.fio --output-format=json+' | tarebench import fio host=-\n\nOne file whose jobs are boxes, as a file for each:\n  jq '.jobs |= map(select(.jobname == \"bare\") | .jobname = \"log\")' all.json > bare.json\n  jq '.jobs |= map(select(.jobname == \"runc\") | .jobname = \"log\")' all.json > runc.json\n  tarebench import fio bare.json runc.json\n\nExit codes: 2 when a file can't be read or understood (nothing is stored), 5 when the store can't be written,\n7 when fio says that a job failed (it is stored as a failure)."
    )]
    Fio(ImportFio),
    /// What sockperf's client prints, or its --full-log, which has every message
    ///
    /// Each run is a block of the environment NAME, and the workload `sockperf/latency`, `sockperf/round-trip` or
    /// `sockperf/throughput`. Percentiles that sockperf doesn't print are withheld. All files are imported, or none.
    #[command(
        after_help = "Example:\n  sockperf ping-pong -i 192.0.2.1 -t 10 --full-log bare-1.csv\n  tarebench import sockperf bare=bare-1.csv bare=bare-2.csv runc=runc-1.csv runc=runc-2.csv\n\nExit codes: 2 when a file can't be read or understood (nothing is stored), 5 when the store can't be written."
    )]
    Sockperf(ImportFiles),
    /// The output of iperf3 -J: throughput, and no latencies
    ///
    /// Each run is a block of the environment NAME, and the workload `iperf3/tcp` or `iperf3/udp`: what arrived, in the time that it
    /// took. All files are imported, or none.
    #[command(
        after_help = "Example:\n  iperf3 -c 192.0.2.1 -t 10 -J > bare-1.json\n  tarebench import iperf3 bare=bare-1.json bare=bare-2.json runc=runc-1.json runc=runc-2.json\n\nExit codes: 2 when a file can't be read or understood (nothing is stored), 5 when the store can't be written,\n7 when iperf3 says that it failed (it is stored as a failure)."
    )]
    Iperf3(ImportFiles),
    /// Files of HdrHistogram: logs of intervals (.hlog) and tables of percentiles (.hgrm)
    ///
    /// Each file is a block of the environment NAME. Each tag of a log is a workload `hdr/TAG`; the intervals of a tag are added up. A
    /// table has the percentiles of its lines and doesn't say how long it took. All files are imported, or none.
    #[command(
        after_help = "Example:\n  tarebench import hdr --unit us bare=bare-1.hlog bare=bare-2.hlog runc=runc-1.hlog runc=runc-2.hlog\n\nExit codes: 2 when a file can't be read or understood or has no unit (nothing is stored), 5 when the store\ncan't be written."
    )]
    Hdr(ImportHdr),
}

/// Arguments of `import fio`.
#[derive(Debug, Args)]
pub struct ImportFio {
    /// Leave away what the names of all jobs of a file begin with: for names that hold the environment's, as in bare-7f3-read
    #[arg(long)]
    pub short_names: bool,
    /// What every import takes.
    #[command(flatten)]
    pub files: ImportFiles,
}

/// Arguments of `import hdr`.
#[derive(Debug, Args)]
pub struct ImportHdr {
    /// Unit of the values, where no comment in the files has a word for it
    #[arg(long, value_name = "UNIT")]
    pub unit: Option<ValueUnit>,
    /// What every import takes.
    #[command(flatten)]
    pub files: ImportFiles,
}

/// Units that values may have.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ValueUnit {
    /// Nanoseconds
    Ns,
    /// Microseconds
    Us,
    /// Milliseconds
    Ms,
}

/// What every import takes.
#[derive(Debug, Args)]
pub struct ImportFiles {
    /// FILE or NAME=FILE, a pipe too, `-` for stdin; without NAME, the name of the file without its ending
    #[arg(required = true, value_name = "[NAME=]FILE")]
    pub files: Vec<String>,
    /// Where results are kept.
    #[command(flatten)]
    pub store: StoreArg,
}

#[cfg(test)]
mod documented;
#[cfg(test)]
mod shown;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_time_is_told_how_one_is_written() {
        let e = Cli::try_parse_from(["tarebench", "run", "--budget", "foo"]).expect_err("no time").to_string();
        assert!(e.contains("'foo'") && e.contains("write a time as in 90s, 10m or 1h30m"), "{e}");
    }

    #[test]
    fn a_variable_that_is_empty_names_no_store_and_an_empty_word_is_a_mistake() {
        let command = Cli::command();
        let of = |value: &str, source| StoreFile.parse_ref_(&command, None, OsStr::new(value), source).ok();
        assert_eq!(of("", ValueSource::EnvVariable), Some(STORE.into()));
        assert_eq!(of("a.db", ValueSource::EnvVariable), Some("a.db".into()));
        assert_eq!(of("", ValueSource::CommandLine), None);
    }
}
