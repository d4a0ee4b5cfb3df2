//! `tarebench list`: what there is to run, and what has been run.

use std::fmt::Write;
use std::time::Duration;

use reports::record::CONTROL;
use reports::render::escape::one_line;
use reports::store::{Store, Summary};
use serde_json::{Value, json};
use workloads::load;
use workloads::settings::Setting;

use crate::cli::{self, Listed};
use crate::commands::print;
use crate::exit::{Exit, OrExit};
use crate::suite::{BUILT_IN, Suite};

/// Prints a list for people or for programs.
pub fn run(args: cli::List) -> anyhow::Result<Exit> {
    let (text, value) = match args.what {
        Listed::Environments => environments(),
        Listed::Workloads => workloads(),
        Listed::Suites => suites()?,
        Listed::Runs => runs(&args.store)?,
    };
    print(&if args.json { serde_json::to_string_pretty(&value)? + "\n" } else { text })?;
    Ok(Exit::Done)
}

fn settings_json(settings: &[Setting]) -> Value {
    settings
        .iter()
        .map(|s| json!({"name": s.name, "type": s.type_name(), "default": s.default, "values": s.values(), "about": s.about}))
        .collect()
}

fn settings_text(out: &mut String, settings: &[Setting]) {
    for s in settings {
        let values = s.values();
        let values = match s.type_name() {
            "choice" | "switch" => values.join(" | "),
            "path" => "a path".into(),
            "word" => "a name".into(),
            "address" => "an IP address".into(),
            "command" if values.is_empty() => "a command".into(),
            "command" => format!("a command with {}", values.join(", ")),
            _ => format!("{} to {}", values[0], values[1]),
        };
        let default = if s.default.is_empty() { "\"\"" } else { s.default };
        out.push_str(&format!("    {} = {default}    ({values})\n        {}\n", s.name, s.about));
    }
}

fn entries<'a>(all: impl Iterator<Item = (&'a str, &'a str, Vec<Setting>)>) -> (String, Value) {
    let mut text = String::new();
    let mut list = Vec::new();
    for (name, about, settings) in all {
        text.push_str(&format!("{name:<16} {about}\n"));
        settings_text(&mut text, &settings);
        list.push(json!({"name": name, "about": about, "settings": settings_json(&settings)}));
    }
    (text, Value::Array(list))
}

fn environments() -> (String, Value) {
    entries(runners::registry::RUNNERS.iter().map(|r| (r.name(), r.about(), r.all_settings())))
}

fn workloads() -> (String, Value) {
    entries(workloads::registry::WORKLOADS.iter().map(|w| (w.name(), w.about(), load::settings(w.settings()))))
}

fn suites() -> anyhow::Result<(String, Value)> {
    let mut text = String::new();
    let mut list = Vec::new();
    for (name, source) in BUILT_IN {
        let suite = Suite::parse(name, source)?;
        writeln!(text, "{name:<10} {}", suite.description)?;
        list.push(json!({"name": name, "description": suite.description, "toml": source}));
    }
    Ok((text, Value::Array(list)))
}

fn runs(store: &cli::StoreArg) -> anyhow::Result<(String, Value)> {
    let store = Store::open_existing(&store.store).or_exit(Exit::Store)?;
    let mut text = String::new();
    let mut list = Vec::new();
    for run in store.runs().or_exit(Exit::Store)? {
        writeln!(text, "{}", line(&run))?;
        list.push(json!({"id": run.id, "started": run.started, "suite": run.suite, "ending": run.ending,
            "seconds": run.seconds, "bursts": run.bursts, "labels": run.labels, "workloads": run.workloads,
            "environments": run.environments, "pruned": run.pruned, "accepted": run.accepted}));
    }
    Ok((text, Value::Array(list)))
}

/// A run for people. Names and labels may be anybody's words: nothing in them is for the terminal.
fn line(run: &Summary) -> String {
    let took = run
        .seconds
        .map_or("-".into(), |s| humantime::format_duration(Duration::from_secs(s.ceil() as u64)).to_string());
    let bursts = if run.pruned.is_some() { "pruned".into() } else { format!("{:>5} bursts", run.bursts) };
    let workloads = match run.workloads.as_slice() {
        few @ ([] | [_] | [_, _]) => few.join(", "),
        many => format!("{} workloads", many.len()),
    };
    let boxes: Vec<&str> = run.environments.iter().map(String::as_str).filter(|name| *name != CONTROL).collect();
    let accepted = if run.accepted { "accepted  " } else { "" };
    let line = format!(
        "{}  {}  {:<14} {:<12} {took:>9}  {bursts:>12}  {workloads} in {}  {accepted}{}",
        run.id,
        run.started,
        run.suite,
        run.ending.name(),
        boxes.join(", "),
        run.labels.join(" ")
    );
    one_line(&line).trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use reports::record::Ending;

    use super::*;

    #[test]
    fn a_run_says_how_long_it_took() {
        let took = |seconds| {
            line(&Summary {
                id: "abc".into(),
                started: "2026-01-01T00:00:00Z".into(),
                suite: "quick".into(),
                labels: vec!["commit=1".into()],
                ending: Ending::Complete,
                seconds,
                bursts: 12,
                workloads: vec!["disk/fsync".into()],
                environments: vec!["bare".into(), CONTROL.into()],
                pruned: None,
                accepted: false,
            })
        };
        let whole = "abc  2026-01-01T00:00:00Z  quick          complete         1m 2s     12 bursts  disk/fsync in bare  commit=1";
        assert_eq!(took(Some(61.2)), whole);
        assert_eq!(took(None), whole.replace("    1m 2s", "        -"));
    }
}
