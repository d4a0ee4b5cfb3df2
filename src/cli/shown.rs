//! The command lines of tarebench that documents and help show, found as readers find them. The tests that parse them and the one that
//! runs them have it in common.

use std::path::Path;

/// Where the documents are.
const FOLDERS: [&str; 5] = ["", "docs", "workloads", "runners", "reports"];

/// Every document below the tree's root that people read, by its path and with its text.
pub fn documents(root: &Path) -> Vec<(String, String)> {
    let paths = FOLDERS.iter().flat_map(|folder| std::fs::read_dir(root.join(folder)).expect("a folder"));
    let paths =
        paths.map(|entry| entry.expect("an entry").path()).filter(|path| path.extension().is_some_and(|e| e == "md"));
    paths.map(|path| (path.display().to_string(), std::fs::read_to_string(&path).expect("text"))).collect()
}

/// What shells are given in a document: the lines of its blocks for them, and what stands in backticks.
pub fn lines_of(text: &str) -> Vec<String> {
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
pub fn ours(line: &str) -> Vec<Vec<String>> {
    let before = |word: &String| ["$", "sudo", "env"].contains(&word.as_str()) || word.contains('=');
    let commands = split(line).into_iter().map(|words| words.into_iter().skip_while(before).collect::<Vec<_>>());
    let program = |words: &Vec<String>| words.first().is_some_and(|word| word.rsplit('/').next() == Some("tarebench"));
    commands.filter(|words| words.len() > 1 && program(words)).collect()
}
