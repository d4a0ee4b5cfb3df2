//! Every command line that the documents and the help show, parsed as it would be if it were typed.

use std::path::Path;

use super::shown::{documents, lines_of, ours};
use super::*;

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
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tree");
    let mut pages: Vec<_> = documents(root).into_iter().map(|(path, text)| (path, lines_of(&text))).collect();
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
