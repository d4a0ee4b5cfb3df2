//! `tarebench prove durability`: whether what a box acknowledges is there after the power was cut.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use runners::durability::{self, Asked, Outcome, Subject};
use runners::host::Resources;
use runners::probe;
use runners::stage::shared::Shared;
use serde::Serialize;
use workloads::durability::{Promise, Way};
use workloads::settings::Value as _;

use crate::cli::{self, Mode, ProofFormat};
use crate::commands::{explain, print, quoted};
use crate::execute::set_up::{clean_leftovers, open_host, why_not};
use crate::exit::{Coded, Exit, OrExit};
use crate::interrupt::Interrupt;
use crate::plan::{self, Environment};
use crate::suite::LONGEST_NAME;

/// Cuts of the power through each workload, where nobody says how many.
const CUTS: u32 = 200;

/// Kills for each workload: a box has to be started for each.
const KILLS: u32 = 5;

/// Memory of a box, bytes.
const MEMORY: u64 = 512 << 20;

/// The name and version of the document: `docs/durability.schema.json`.
const SCHEMA: &str = "tarebench.durability/1";

/// What was found out, for programs.
#[derive(Debug, Serialize)]
struct Proof {
    schema: &'static str,
    mode: Mode,
    seed: u64,
    environments: Vec<Proved>,
}

/// What was found out about one box.
#[derive(Debug, Serialize)]
struct Proved {
    name: String,
    /// Why nothing was.
    skipped: Option<String>,
    outcomes: Vec<Outcome>,
}

impl Proved {
    fn broken(&self) -> bool {
        self.outcomes.iter().any(|outcome| outcome.broken > 0)
    }

    /// The sentence that tells of it all.
    fn verdict(&self) -> String {
        let Self { name, skipped, outcomes } = self;
        if let Some(because) = skipped {
            return format!("{name}: not proved: {because}");
        }
        let cuts: u32 = outcomes.iter().map(|outcome| outcome.cuts).sum();
        let broken: u32 = outcomes.iter().map(|outcome| outcome.broken).sum();
        match broken {
            0 => format!("{name}: kept every promise in {cuts} cuts"),
            _ => format!("{name}: BROKE a promise in {broken} of {cuts} cuts"),
        }
    }
}

/// Every environment in turn, on a disk of its own.
pub fn durability(args: cli::Durability) -> anyhow::Result<Exit> {
    let environments = environments(&args.environments).or_exit(Exit::Usage)?;
    let seed = args.seed.unwrap_or_else(plan::fresh_seed);
    let ways = ways(&args.workloads);
    let cuts = args.cuts.unwrap_or(if args.mode == Mode::Power { CUTS } else { KILLS });
    let asked = Asked { ways: &ways, cuts, items: args.items, seed };
    let interrupt = Interrupt::listen()?;
    let data_dir = args.data_dir.canonicalize();
    let data_dir = data_dir.with_context(|| format!("can't use --data-dir {}", args.data_dir.display()));
    let data_dir = data_dir.or_exit(Exit::Host)?;
    clean_leftovers(&data_dir);
    let mut proof = Proof { schema: SCHEMA, mode: args.mode, seed, environments: Vec::new() };
    let mut ended = None;
    for environment in &environments {
        // A host of its own: what one box left in its scratch directory is not the next one's.
        let shared = open_host(Resources::new(1, MEMORY), &interrupt)?;
        if args.mode == Mode::Power {
            durability::possible(&shared).or_exit(Exit::Host)?;
        }
        let proved = prove(&shared, environment, &asked, args.mode, &data_dir);
        ended = interrupt.exit();
        if let Some(exit) = ended {
            let words = format!("ended before {} was proved", environment.name);
            if proof.environments.is_empty() {
                return Err(Coded { exit, error: anyhow::anyhow!(words) }.into());
            }
            tell!("{words}; what follows is of those before it");
            break;
        }
        proof.environments.push(proved);
    }
    print(&match args.format {
        ProofFormat::Text => text(&proof),
        ProofFormat::Markdown => markdown(&proof),
        ProofFormat::Json => serde_json::to_string_pretty(&proof)? + "\n",
    })?;
    if proof.environments.iter().any(|proved| proved.skipped.is_none()) {
        tell!("`{}` proves the same again", again(&args, seed));
    }
    Ok(ended.unwrap_or_else(|| exit(&proof.environments)))
}

/// The command that does the same again: what was typed, with the seed.
fn again(args: &cli::Durability, seed: u64) -> String {
    let mut words: Vec<String> = ["tarebench", "prove", "durability"].map(String::from).into();
    words.extend(args.environments.iter().cloned());
    let mut option = |name: &str, value: String| words.extend([name.to_string(), value]);
    args.workloads.iter().for_each(|workload| option("--workload", workload.clone()));
    if args.mode == Mode::Kill {
        option("--mode", "kill".into());
    }
    args.cuts.iter().for_each(|cuts| option("--cuts", cuts.to_string()));
    option("--items", args.items.to_string());
    option("--seed", seed.to_string());
    if args.data_dir != Path::new(".") {
        option("--data-dir", args.data_dir.display().to_string());
    }
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// The end of a proof: what was found counts more than what couldn't be looked at.
fn exit(proved: &[Proved]) -> Exit {
    if proved.iter().all(|proved| proved.skipped.is_some()) {
        return Exit::NothingMeasured;
    }
    let good = proved.iter().all(|proved| proved.skipped.is_none() && !proved.broken());
    if good { Exit::Done } else { Exit::SomeFailed }
}

/// Those that are named, each once; all where none is.
fn ways(typed: &[String]) -> Vec<Way> {
    let mut ways = Vec::new();
    let all = || Way::WORDS.iter().map(|word| Way::parse(word)).collect();
    for way in typed.iter().map(|word| Way::parse(word)) {
        if !ways.contains(&way) {
            ways.push(way);
        }
    }
    if ways.is_empty() { all() } else { ways }
}

fn environments(typed: &[String]) -> anyhow::Result<Vec<Environment>> {
    let (named, mut chosen) = (explain::built_in(), Vec::new());
    for text in typed {
        chosen.push(plan::choose(text, &named, &chosen, LONGEST_NAME)?);
    }
    let environments = chosen.iter().map(plan::environment).collect::<anyhow::Result<Vec<_>>>()?;
    plan::all_differ(&environments)?;
    Ok(environments)
}

fn prove(shared: &Arc<Shared>, environment: &Environment, asked: &Asked, mode: Mode, data_dir: &Path) -> Proved {
    let Environment { name, runner, settings, .. } = environment;
    tell!("looking whether {name} works here");
    let probe = probe::probe_cached(*runner, settings, shared, data_dir);
    let subject = Subject { name, runner: *runner, settings };
    let tell = |way: Way| tell!("{name}: {way}");
    let outcomes = match (probe.usable(), mode) {
        (false, _) => Err(anyhow::anyhow!(why_not(&probe))),
        (true, Mode::Power) => durability::cut_power(shared, subject, asked, tell),
        (true, Mode::Kill) => durability::kill_box(shared, subject, asked, data_dir, tell),
    };
    let (outcomes, skipped) = match outcomes {
        Ok(outcomes) => (outcomes, None),
        Err(e) => (Vec::new(), Some(format!("{e:#}"))),
    };
    Proved { name: name.clone(), skipped, outcomes }
}

const COLUMNS: [&str; 9] =
    ["workload", "promise", "cuts", "lost some", "most lost", "torn", "reordered", "corrupt", "unclean"];

fn cells(outcome: &Outcome) -> [String; 9] {
    let promise = match outcome.promise {
        Promise::Durable => "durable",
        Promise::Whole => "whole",
        Promise::Nothing => "nothing",
    };
    let most = format!("{} of {}", outcome.most_lost, outcome.acknowledged);
    let counts = [outcome.torn, outcome.reordered, outcome.corrupt, outcome.unclean].map(|count| count.to_string());
    let [torn, reordered, corrupt, unclean] = counts;
    let [cuts, losing] = [outcome.cuts, outcome.losing].map(|count| count.to_string());
    [outcome.workload.into(), promise.into(), cuts, losing, most, torn, reordered, corrupt, unclean]
}

fn text(proof: &Proof) -> String {
    let mut text = String::new();
    let line = |cells: [&str; 9]| {
        let [workload, promise, rest @ ..] = cells;
        rest.iter().fold(format!("  {workload:<21}{promise:<9}"), |line, cell| format!("{line}{cell:>11}")) + "\n"
    };
    for proved in &proof.environments {
        text.push_str(&format!("{}\n", proved.verdict()));
        if !proved.outcomes.is_empty() {
            text.push_str(&line(COLUMNS));
        }
        for outcome in &proved.outcomes {
            text.push_str(&line(cells(outcome).each_ref().map(String::as_str)));
        }
        for outcome in proved.outcomes.iter().filter(|outcome| outcome.broken > 0) {
            text.push_str(&format!("  {}: {}\n", outcome.workload, outcome.example.as_deref().unwrap_or("broken")));
        }
        text.push('\n');
    }
    // Where nothing was done, nothing was cut.
    let any = proof.environments.iter().any(|proved| proved.skipped.is_none());
    text + "seed " + &proof.seed.to_string() + if any { shows(proof.mode) } else { "\n" }
}

/// What it shows, and what it doesn't.
fn shows(mode: Mode) -> &'static str {
    match mode {
        Mode::Kill => {
            "; the box alone was killed: what the host's kernel holds of it is still there, and would not be after a loss of power\n"
        }
        Mode::Power => "; the power was cut below the box: its host's kernel, and what it held, was gone too\n",
    }
}

fn markdown(proof: &Proof) -> String {
    let row = |cells: &[&str]| format!("| {} |\n", cells.join(" | "));
    let mut text = row(&[&["environment"], &COLUMNS[..]].concat()) + &"|---".repeat(COLUMNS.len() + 1) + "|\n";
    for proved in &proof.environments {
        for outcome in &proved.outcomes {
            let cells = cells(outcome);
            let cells = std::iter::once(proved.name.as_str()).chain(cells.iter().map(String::as_str));
            text.push_str(&row(&cells.collect::<Vec<_>>()));
        }
        if let Some(because) = &proved.skipped {
            text.push_str(&row(&[proved.name.as_str(), &format!("not proved: {}", because.replace('|', r"\|"))]));
        }
    }
    text
}

/// `tarebench disk`, which a proof starts with the disk's descriptor as its stdin.
pub fn serve_disk(image: &Path, log: &Path) -> anyhow::Result<()> {
    let fuse = std::io::stdin().as_fd().try_clone_to_owned().context("can't use the disk's descriptor")?;
    durability::disk::serve(File::from(fuse), image, log)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Parser;

    use super::*;

    fn outcome(broken: u32) -> Outcome {
        Outcome {
            workload: Way::WalFull.word(),
            promise: Promise::Durable,
            acknowledged: 200,
            cuts: 200,
            losing: broken,
            most_lost: u64::from(broken),
            torn: 0,
            reordered: 0,
            corrupt: 0,
            unclean: 0,
            broken,
            example: (broken > 0).then(|| "after cut 1: of 9 acknowledged 3 lost".to_string()),
        }
    }

    fn proved(name: &str, outcomes: Vec<Outcome>, skipped: Option<&str>) -> Proved {
        Proved { name: name.into(), outcomes, skipped: skipped.map(str::to_string) }
    }

    #[test]
    fn the_end_tells_what_was_broken_and_what_was_not_looked_at() {
        let good = || proved("runc", vec![outcome(0)], None);
        let bad = || proved("qemu", vec![outcome(0), outcome(3)], None);
        let skipped = || proved("jail", Vec::new(), Some("there is none"));
        assert_eq!(exit(&[good()]), Exit::Done);
        assert_eq!(exit(&[good(), bad()]), Exit::SomeFailed);
        assert_eq!(exit(&[good(), skipped()]), Exit::SomeFailed);
        assert_eq!(exit(&[skipped()]), Exit::NothingMeasured);
        let verdicts = [good(), bad(), skipped()].map(|proved| proved.verdict()).join("\n");
        assert_eq!(
            verdicts,
            "runc: kept every promise in 200 cuts\nqemu: BROKE a promise in 3 of 400 cuts\njail: not proved: there is none"
        );
    }

    #[test]
    fn what_was_proved_can_be_proved_again() {
        let boxes = ["qemu:disk.cache=unsafe", "a=exec:command=docker exec -i x {run}"];
        let more = ["--workload", "append,rename", "--mode", "kill", "--cuts", "3", "--data-dir", "/srv"];
        let words = ["tarebench", "prove", "durability"].iter().chain(&boxes).chain(&more);
        let args = match cli::Cli::try_parse_from(words).expect("can be typed").command {
            cli::Command::Prove { promise: cli::Promise::Durability(args) } => args,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            again(&args, 7),
            "tarebench prove durability qemu:disk.cache=unsafe 'a=exec:command=docker exec -i x {run}' --workload append \
             --workload rename --mode kill --cuts 3 --items 200 --seed 7 --data-dir /srv"
        );
    }

    #[test]
    fn a_way_that_is_named_twice_is_done_once() {
        let typed = ["append", "rename", "append"].map(String::from);
        assert_eq!(ways(&typed), [Way::parse("append"), Way::parse("rename")]);
        assert_eq!(ways(&[]).len(), Way::WORDS.len());
    }

    #[test]
    fn of_a_box_that_was_not_proved_nothing_was_cut() {
        let environments = vec![proved("jail", Vec::new(), Some("there is none"))];
        let proof = Proof { schema: SCHEMA, mode: Mode::Power, seed: 1, environments };
        assert_eq!(text(&proof), "jail: not proved: there is none\n\nseed 1\n");
    }

    /// The same keys, all of them required, at every depth: `docs/durability.schema.json` is written by hand.
    fn hold(schema: &serde_json::Value, value: &serde_json::Value, at: &str) {
        match value {
            serde_json::Value::Object(fields) => {
                let keys = |value: &serde_json::Value| -> BTreeSet<String> {
                    value.as_object().expect("an object").keys().cloned().collect()
                };
                assert_eq!(keys(&schema["properties"]), keys(value), "{at}");
                let required = schema["required"].as_array().expect("a list").iter();
                let required: BTreeSet<String> = required.map(|name| name.as_str().expect("text").into()).collect();
                assert_eq!(required, keys(value), "{at}");
                fields.iter().for_each(|(key, value)| hold(&schema["properties"][key], value, &format!("{at}/{key}")));
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| hold(&schema["items"], item, at)),
            leaf => {
                let types = schema["type"].as_array().cloned().unwrap_or_else(|| vec![schema["type"].clone()]);
                let kind = match leaf {
                    serde_json::Value::Null => "null",
                    serde_json::Value::String(_) => "string",
                    _ => "integer",
                };
                assert!(types.contains(&kind.into()), "{at}: {leaf}");
                let words = schema["enum"].as_array();
                assert!(words.is_none_or(|words| words.contains(leaf)), "{at}: {leaf}");
                assert!(schema["description"].is_string(), "{at} says what it is");
            }
        }
    }

    #[test]
    fn the_published_schema_is_that_of_the_document() {
        let published = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/durability.schema.json");
        let text = std::fs::read_to_string(published).expect("published");
        let schema: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        for mode in [Mode::Power, Mode::Kill] {
            for promise in [Promise::Durable, Promise::Whole, Promise::Nothing] {
                let outcomes = vec![Outcome { promise, ..outcome(0) }, Outcome { promise, ..outcome(2) }];
                let environments = vec![proved("qemu", outcomes, None), proved("jail", Vec::new(), Some("none"))];
                let proof = Proof { schema: SCHEMA, mode, seed: 1, environments };
                hold(&schema, &serde_json::to_value(&proof).expect("JSON"), "");
            }
        }
    }

    #[test]
    fn a_table_has_a_row_for_each_workload_and_text_the_first_damage() {
        let proof = Proof {
            schema: SCHEMA,
            mode: Mode::Power,
            seed: 1,
            environments: vec![proved("qemu", vec![outcome(3)], None), proved("jail", Vec::new(), Some("a | b"))],
        };
        let table = markdown(&proof);
        assert!(
            table.contains("| qemu | sqlite-wal-full | durable | 200 | 3 | 3 of 200 | 0 | 0 | 0 | 0 |\n"),
            "{table}"
        );
        assert!(table.ends_with("| jail | not proved: a \\| b |\n"), "{table}");
        let text = text(&proof);
        assert!(text.contains("sqlite-wal-full: after cut 1: of 9 acknowledged 3 lost\n"), "{text}");
        assert!(
            text.ends_with(
                "seed 1; the power was cut below the box: its host's kernel, and what it held, was gone too\n"
            )
        );
    }
}
