//! Every command line that the documents and the help show, parsed as it would be if it were typed.

use std::path::Path;

use super::*;

/// Where the documents are.
const FOLDERS: [&str; 5] = ["", "docs", "workloads", "runners", "reports"];

/// Every document that people read, by its path and with its text.
fn documents() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tree");
    let paths = FOLDERS.iter().flat_map(|folder| std::fs::read_dir(root.join(folder)).expect("a folder"));
    let paths =
        paths.map(|entry| entry.expect("an entry").path()).filter(|path| path.extension().is_some_and(|e| e == "md"));
    paths.map(|path| (path.display().to_string(), std::fs::read_to_string(&path).expect("text"))).collect()
}

/// What shells are given in a document: the lines of its blocks for them, and what stands in backticks.
fn lines_of(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for (nth, part) in text.split("```").enumerate() {
        if nth % 2 == 0 {
            lines.extend(part.split('`').skip(1).step_by(2).map(|span| span.replace('\n', " ")));
            continue;
        }
        let (language, block) = part.split_once('\n').unwrap_or(("", part));
        if ["sh", "console", "bash"].contains(&language) {
            lines.extend(block.replace("\\\n", " ").lines().map(String::from));
        }
    }
    lines
}

/// A command and all below it that people type, by the words that lead there.
fn all(command: &clap::Command, way: &str, found: &mut Vec<(String, clap::Command)>) {
    let way = format!("{way}{}", command.get_name());
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        all(below, &format!("{way} "), found);
    }
    found.push((way, command.clone()));
}

fn every_command() -> Vec<(String, clap::Command)> {
    let mut found = Vec::new();
    all(&Cli::command(), "", &mut found);
    found
}

fn after_help(command: &clap::Command) -> String {
    command.get_after_help().map(ToString::to_string).unwrap_or_default()
}

/// The commands in a line for a shell, as words, each up to its pipe, `>` or comment.
fn split(line: &str) -> Vec<Vec<String>> {
    let (mut all, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let mut quote = None;
    for c in line.chars().chain(['\n']) {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, c) if c.is_whitespace() || "|;&>".contains(c) => {
                words.extend(word.take());
                if !c.is_whitespace() {
                    all.push(std::mem::take(&mut words));
                }
            }
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    all.push(words);
    all
}

/// Those that are ours, without what stands before the program. Its name alone is no command line.
fn ours(line: &str) -> Vec<Vec<String>> {
    let before = |word: &String| ["$", "sudo", "env"].contains(&word.as_str()) || word.contains('=');
    let commands = split(line).into_iter().map(|words| words.into_iter().skip_while(before).collect::<Vec<_>>());
    let program = |words: &Vec<String>| words.first().is_some_and(|word| word.rsplit('/').next() == Some("tarebench"));
    commands.filter(|words| words.len() > 1 && program(words)).collect()
}

/// Whether a line can be typed. In prose a command's name stands for the command, whatever else that takes.
fn can_be_typed(words: &[String], named: &[String]) -> Result<(), String> {
    use clap::error::ErrorKind::{DisplayHelp, DisplayVersion, MissingRequiredArgument};
    match Cli::try_parse_from(words).map_err(|e| (e.kind(), e)) {
        Ok(_) | Err((DisplayHelp | DisplayVersion, _)) => Ok(()),
        Err((MissingRequiredArgument, _)) if named.contains(&words.join(" ")) => Ok(()),
        Err((_, e)) => Err(format!("{}: {}", words.join(" "), e.to_string().lines().collect::<Vec<_>>().join(" "))),
    }
}

#[test]
fn a_line_is_taken_apart_as_a_shell_does_it() {
    let line = "$ A=1 sudo tarebench list runs --json | jq '.[] | x' > out.txt # tarebench frobnicate";
    assert_eq!(ours(line), [["tarebench", "list", "runs", "--json"]]);
    let line = "ssh host 'fio job.fio | cat' | ./tarebench accept latest --reason 'new #1'; tarebench";
    assert_eq!(ours(line), [["./tarebench", "accept", "latest", "--reason", "new #1"]]);
    assert_eq!(ours("cargo test -p tarebench --test docs"), Vec::<Vec<String>>::new());
}

#[test]
fn every_command_line_that_is_shown_can_be_typed() {
    let mut pages: Vec<_> = documents().into_iter().map(|(path, text)| (path, lines_of(&text))).collect();
    let helps = every_command();
    // The hidden ones are named in the documents of those who change them.
    let hidden = Cli::command().get_subcommands().map(|c| format!("tarebench {}", c.get_name())).collect::<Vec<_>>();
    let named: Vec<String> = helps.iter().map(|(way, _)| way.clone()).chain(hidden).collect();
    pages.extend(helps.iter().map(|(way, c)| (way.clone(), after_help(c).lines().map(String::from).collect())));
    let (mut seen, mut wrong) = (0, Vec::new());
    for (page, lines) in pages {
        for words in lines.iter().flat_map(|line| ours(line)) {
            wrong.extend(can_be_typed(&words, &named).err().map(|why| format!("{page}: {why}")));
            seen += 1;
        }
    }
    assert!(wrong.is_empty(), "these can't be typed:\n{}", wrong.join("\n"));
    assert!(seen > 140, "only {seen} command lines were found");
}

#[test]
fn help_of_every_command_has_an_example() {
    // What only leads on to others has none: theirs do.
    let leaves = every_command().into_iter().filter(|(_, command)| !command.has_subcommands());
    for (way, command) in leaves {
        let help = after_help(&command);
        let shown = help.lines().flat_map(ours).any(|words| words.join(" ").starts_with(&way));
        assert!(help.contains("Example") && shown, "`{way} --help` shows no `{way}`");
    }
}
