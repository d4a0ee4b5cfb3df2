//! Tables of the documents and the suite `full` say what the registries say. `TAREBENCH_WRITE=1 cargo test --test docs` rewrites
//! what is stale.
//!
//! A table stands between `<!-- begin: NAME -->` and `<!-- end -->` in any Markdown file; the names are those of [`TABLES`], or
//! `file PATH` for the text of a file.

#![cfg(target_os = "linux")]

mod common;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use common::Dir;
use runners::quota::Quota;
use runners::registry::RUNNERS;
use workloads::load::Common;
use workloads::registry::WORKLOADS;
use workloads::settings::Setting;

const WRITE: &str = "TAREBENCH_WRITE=1 cargo test --test docs";

/// A table from its old text: what people wrote into it stays.
type Table = fn(&str) -> String;

const TABLES: &[(&str, Table)] = &[
    ("runners", runners),
    ("runner settings", runner_settings),
    ("verified", verified),
    ("workloads", workloads),
    ("operations", operations),
    ("workload settings", workload_settings),
    ("suites", suites),
    ("formats", formats),
    ("hints", hints),
    ("words", words),
    ("exit codes", exit_codes),
];

/// The suite that has everything, less what can't be there.
const FULL: &str = "suites/full.toml";

/// Runners of which nothing can be said without a setting: they enter, or are, what the user names.
const NAMED_BY_THE_USER: &[&str] = &["oci", "exec", "ssh"];

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Holds a file against what it should be, or makes it so.
fn check(path: &Path, old: &str, new: &str) {
    if old == new {
        return;
    }
    let name = path.strip_prefix(top()).expect("a file of the tree").display();
    if std::env::var_os("TAREBENCH_WRITE").is_some() {
        fs::write(path, new).unwrap_or_else(|e| panic!("can't write {name}: {e}"));
        println!("{name} is written");
        return;
    }
    let missing: Vec<&str> = new.lines().filter(|line| !old.lines().any(|l| l == *line)).collect();
    panic!("{name} is stale: {WRITE} writes it. It lacks:\n{}", missing.join("\n"));
}

#[test]
fn tables_say_what_the_registries_say() {
    let mut seen = Vec::new();
    for path in documents() {
        let old = fs::read_to_string(&path).expect("readable");
        let new = rewritten(&old, &path.display().to_string(), &mut seen);
        check(&path, &old, &new);
    }
    for (name, _) in TABLES {
        assert!(seen.iter().any(|s| s == name), "no document has the table `{name}`");
    }
}

/// Every Markdown file of the tree.
fn documents() -> Vec<PathBuf> {
    let folders = ["", "docs", "workloads", "runners", "reports"].map(|folder| top().join(folder));
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("a folder").flatten());
    let mut files: Vec<_> = files.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "md")).collect();
    files.sort();
    files
}

/// A document with all its tables as they should be.
fn rewritten(document: &str, path: &str, seen: &mut Vec<String>) -> String {
    const BEGIN: &str = "<!-- begin: ";
    const END: &str = "<!-- end -->";
    let (mut new, mut rest) = (String::new(), document);
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let (name, after) = after.split_once(" -->\n").expect("a marker is a line of its own");
        let (old, after) = after.split_once(END).unwrap_or_else(|| panic!("{path}: `{name}` has no end"));
        let text = match name.strip_prefix("file ") {
            Some(file) => {
                format!("```rust\n{}```\n", fs::read_to_string(top().join(file)).expect("a file of the tree"))
            }
            None => TABLES
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, table)| table(old))
                .unwrap_or_else(|| panic!("{path}: there is no table `{name}`")),
        };
        write!(new, "{before}{BEGIN}{name} -->\n{text}{END}").expect("to a string");
        seen.push(name.to_string());
        rest = after;
    }
    new + rest
}

/// Rows below a head, in Markdown. A bar within a cell would end it.
fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = row(head.iter().map(|h| h.to_string()).collect());
    text.push_str(&format!("|{}\n", "---|".repeat(head.len())));
    rows.into_iter().for_each(|cells| text.push_str(&row(cells.iter().map(|c| c.replace('|', "\\|")).collect())));
    text
}

fn code(name: &str) -> String {
    format!("`{name}`")
}

fn runners(_: &str) -> String {
    table(&["runner", "about"], RUNNERS.iter().map(|r| vec![code(r.name()), r.about().into()]))
}

fn workloads(_: &str) -> String {
    table(&["workload", "about"], WORKLOADS.iter().map(|w| vec![code(w.name()), w.about().into()]))
}

fn runner_settings(_: &str) -> String {
    let without = RUNNERS.iter().filter(|r| !r.in_cgroup()).map(|r| code(r.name())).collect::<Vec<_>>().join(", ");
    let common = Quota::TABLE.iter().map(|s| setting(format!("every runner but {without}"), s));
    let rows = common.chain(RUNNERS.iter().flat_map(|r| settings(r.name(), r.settings())));
    table(&["runner", "setting", "default", "values", "about"], rows)
}

fn workload_settings(_: &str) -> String {
    let own = WORKLOADS.iter().flat_map(|w| settings(w.name(), w.settings()));
    let rows = Common::TABLE.iter().map(|s| setting("every workload".into(), s)).chain(own);
    table(&["workload", "setting", "default", "values", "about"], rows)
}

fn settings(of: &'static str, all: &'static [Setting]) -> impl Iterator<Item = Vec<String>> {
    all.iter().map(move |s| setting(code(of), s))
}

fn setting(of: String, s: &Setting) -> Vec<String> {
    let values = s.values();
    let values = match s.type_name() {
        "choice" | "switch" => values.join(", "),
        "path" => "a path".into(),
        "word" => "a name".into(),
        "address" => "an IP address".into(),
        "command" if values.is_empty() => "a command".into(),
        "command" => format!("a command with {}", values.join(", ")),
        kind => format!("{kind}, {} to {}", values[0], values[1]),
    };
    let default = if s.default.is_empty() { String::new() } else { code(s.default) };
    vec![of, code(s.name), default, values, s.about.into()]
}

/// How a runner was verified is written by who saw it; of a new one there is nothing to write.
fn verified(old: &str) -> String {
    kept(old, RUNNERS.iter().map(|r| (r.name(), vec![r.about(), "not at all", "not at all"])))
}

/// An operation and its bytes are told in more words than a list has room for; of a new workload in those.
fn operations(old: &str) -> String {
    kept(old, WORKLOADS.iter().map(|w| (w.name(), vec![w.about(), ""])))
}

/// A table with a line for each name: the one that is there, else a new one of these cells.
fn kept<'a>(old: &str, all: impl Iterator<Item = (&'a str, Vec<&'a str>)>) -> String {
    let begins = |line: &str, name: &str| line.starts_with(&format!("| `{name}` |"));
    let mut text: String = old.lines().take_while(|l| !l.starts_with("| `")).map(|l| format!("{l}\n")).collect();
    for (name, cells) in all {
        let lines: Vec<&str> = old.lines().filter(|line| begins(line, name)).collect();
        assert!(lines.len() < 2, "{name} has several lines in a table");
        let new = || format!("| `{name}` | {} |", cells.join(" | "));
        writeln!(text, "{}", lines.first().map_or_else(new, |line| line.to_string())).expect("to a string");
    }
    text
}

fn suites(_: &str) -> String {
    let list = Dir::new().run(&["list", "suites", "--json"]).ends_with(0).stdout;
    let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    let rows = list.as_array().expect("suites").iter().map(|suite| {
        let text = |key: &str| suite[key].as_str().expect("text").to_string();
        let suite: toml::Table = text("toml").parse().expect("TOML");
        let names = |key: &str| {
            let names = suite[key].as_table().expect("a table").keys().map(|name| code(name));
            names.collect::<Vec<_>>().join(", ")
        };
        let size = format!("{} x {}", suite["blocks"], suite["rounds"]);
        vec![code(&text("name")), text("description"), names("environments"), names("workloads"), size]
    });
    table(&["suite", "about", "environments", "workloads", "blocks x rounds"], rows.collect::<Vec<_>>())
}

fn formats(_: &str) -> String {
    let rows = reports::render::formats().iter().map(|f| vec![code(f.name), code(f.extension), f.about.into()]);
    table(&["format", "ending", "what it is"], rows)
}

fn hints(_: &str) -> String {
    let rows = reports::comparison::hints::KINDS.iter().map(|kind| {
        let provoked = kind.unprovoked.map_or_else(|| "yes".into(), |why| format!("no: {why}"));
        vec![code(kind.name), kind.what.into(), kind.when.into(), kind.change.into(), provoked]
    });
    table(&["hint", "says", "when", "what would change it", "provoked in a test"], rows)
}

fn words(_: &str) -> String {
    let rows = reports::render::words::glossary::WORDS.iter();
    table(&["word", "meaning"], rows.map(|entry| vec![entry.word.into(), entry.meaning.into()]))
}

fn exit_codes(_: &str) -> String {
    let help = Dir::new().run(&["--help"]).ends_with(0).stdout;
    let (_, codes) = help.split_once("Exit codes:\n").expect("`--help` has them");
    let mut rows: Vec<Vec<String>> = Vec::new();
    for line in codes.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match (line.split_once("  "), rows.last_mut()) {
            (Some((code, meaning)), _) => rows.push(vec![code.into(), meaning.into()]),
            // The rest of a line that was too long.
            (None, Some(row)) => row[1] += &format!(" {line}"),
            (None, None) => panic!("no code begins {line}"),
        }
    }
    table(&["code", "meaning"], rows)
}

#[test]
fn the_suite_full_has_every_runner_and_every_workload() {
    let path = top().join(FULL);
    let old = fs::read_to_string(&path).expect("readable");
    let runners = RUNNERS.iter().map(|r| r.name()).filter(|name| !NAMED_BY_THE_USER.contains(name));
    let runners = runners.map(|name| (format!("[environments.{name}]"), "[environments."));
    let workloads = WORKLOADS.iter().map(|w| (format!("[workloads.\"{}\"]", w.name()), "[workloads."));
    let (head, parts) = parts(&old);
    let mut new = head;
    for (header, family) in runners.chain(workloads) {
        if family == "[workloads." && !new.contains(family) {
            new.push('\n');
        }
        match parts.iter().find(|part| part.lines().any(|line| line == header)) {
            Some(part) => new.push_str(part),
            None => writeln!(new, "{header}").expect("to a string"),
        }
    }
    check(&path, &old, &new);
}

/// A suite's lines before its first table, and its tables with the comments above each.
fn parts(suite: &str) -> (String, Vec<String>) {
    let (mut head, mut parts, mut comments) = (String::new(), Vec::<String>::new(), String::new());
    for line in suite.lines().map(|line| format!("{line}\n")) {
        match &line[..1] {
            "#" => comments.push_str(&line),
            "[" => parts.push(std::mem::take(&mut comments) + &line),
            _ => match parts.last_mut() {
                None => head.push_str(&(std::mem::take(&mut comments) + &line)),
                Some(part) if line.trim().is_empty() => assert!(comments.is_empty(), "a comment above nothing: {part}"),
                Some(part) => part.push_str(&(std::mem::take(&mut comments) + &line)),
            },
        }
    }
    (head, parts)
}
