//! Documents can't rot: links lead somewhere, paths and commands exist, suites can be planned, numbers are those of the registry.

mod common;

use std::path::{Component, Path, PathBuf};

use common::Dir;

/// Columns and lines of README.md.
const README: (usize, usize) = (100, 145);
/// Folders of the tree that a path in backticks may begin with.
const FOLDERS: &[&str] =
    &["src/", "program/", "workloads/", "runners/", "reports/", "scripts/", "tests/", "docs/", "suites/", ".github/"];

/// A document with its path from the root of the tree.
struct Document {
    path: PathBuf,
    text: String,
}

/// A fenced block of a document.
struct Fenced {
    language: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every document that people read: those at the root, in docs/ and in the crates' folders.
fn documents() -> Vec<Document> {
    let mut found = Vec::new();
    for folder in ["", "docs", "workloads", "runners", "reports"] {
        for entry in std::fs::read_dir(root().join(folder)).expect("a folder") {
            let path = Path::new(folder).join(entry.expect("an entry").file_name());
            if path.extension().is_some_and(|e| e == "md") {
                let text = std::fs::read_to_string(root().join(&path)).expect("text");
                found.push(Document { path, text });
            }
        }
    }
    assert!(found.len() > 15, "documents are missing");
    found
}

impl Document {
    /// The fenced blocks, and the text without them.
    fn parts(&self) -> (Vec<Fenced>, String) {
        let (mut blocks, mut prose) = (Vec::new(), String::new());
        let mut open: Option<Fenced> = None;
        for line in self.text.lines() {
            match (line.trim_start().strip_prefix("```"), &mut open) {
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(language), None) => open = Some(Fenced { language: language.into(), text: String::new() }),
                (None, Some(block)) => block.text.extend([line, "\n"]),
                (None, None) => prose.extend([line, "\n"]),
            }
        }
        assert!(open.is_none(), "{}: a fence isn't closed", self.path.display());
        (blocks, prose)
    }

    /// What stands in backticks outside of fenced blocks.
    fn spans(&self) -> Vec<String> {
        let (_, prose) = self.parts();
        prose.split('`').skip(1).step_by(2).map(str::to_string).collect()
    }

    /// Targets of links and pictures.
    fn links(&self) -> Vec<String> {
        let (_, prose) = self.parts();
        prose.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.into()).collect()
    }

    /// The anchors that its headings give, as forges make them.
    fn anchors(&self) -> Vec<String> {
        let (_, prose) = self.parts();
        let headings = prose.lines().filter(|l| l.starts_with('#')).map(|l| l.trim_start_matches('#').trim());
        let slug = |heading: &str| -> String {
            let kept = heading.to_lowercase();
            kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
        };
        headings.map(slug).collect()
    }
}

/// A path without its `..`, which may lead through folders that aren't there.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut path, part| {
        match part {
            Component::ParentDir => drop(path.pop()),
            part => path.push(part),
        }
        path
    })
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_are_there() {
    let documents = documents();
    let mut broken = Vec::new();
    for document in &documents {
        for link in document.links().iter().filter(|l| !l.starts_with("http")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let folder = document.path.parent().expect("a folder");
            let target = if file.is_empty() { document.path.clone() } else { plain(&folder.join(file)) };
            let there = root().join(&target).exists();
            let heads =
                || documents.iter().find(|d| d.path == target).is_some_and(|d| d.anchors().contains(&anchor.into()));
            if !there || !(anchor.is_empty() || heads()) {
                broken.push(format!("{}: {link}", document.path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "these links lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn every_page_is_reached_from_the_table_of_contents() {
    let contents = Document {
        path: "docs/README.md".into(),
        text: std::fs::read_to_string(root().join("docs/README.md")).expect("text"),
    };
    let links = contents.links();
    for document in documents().iter().filter(|d| d.path.starts_with("docs") && d.path != contents.path) {
        let name = document.path.file_name().expect("a name").to_string_lossy();
        assert!(links.iter().any(|l| l.split('#').next() == Some(&name)), "docs/README.md doesn't lead to {name}");
    }
}

#[test]
fn every_path_in_backticks_is_there() {
    let mut missing = Vec::new();
    for document in documents() {
        for span in document.spans() {
            let path = span.split_whitespace().next().unwrap_or("").trim_start_matches("./");
            let of_the_tree = FOLDERS.iter().any(|folder| path.starts_with(folder)) && !path.contains(['*', '<', '{']);
            let folder = document.path.parent().expect("a folder");
            // A file that a recipe tells to make: a test compiles it from there.
            let recipe = Path::new("tests/recipe").join(Path::new(path).file_name().unwrap_or_default());
            let places = [PathBuf::from(path), folder.join(path), recipe];
            if of_the_tree && !places.iter().any(|place| root().join(place).exists()) {
                missing.push(format!("{}: {path}", document.path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "these files don't exist:\n{}", missing.join("\n"));
}

#[test]
fn the_front_page_is_short() {
    let text = std::fs::read_to_string(root().join("README.md")).expect("text");
    let (columns, lines) = README;
    assert!(text.lines().count() <= lines, "README.md has {} lines", text.lines().count());
    for line in text.lines() {
        assert!(line.chars().count() <= columns, "README.md: over {columns} columns: {line}");
    }
}

/// Every command of a document, as words: in blocks for shells with their pipes and comments, and in backticks.
fn typed(document: &Document) -> Vec<Vec<String>> {
    let (blocks, _) = document.parts();
    let shells = blocks.iter().filter(|b| ["sh", "console", "bash"].contains(&b.language.as_str()));
    let lines: Vec<String> = shells
        .flat_map(|b| b.text.replace("\\\n", " ").replace("|\n", "| ").lines().map(str::to_string).collect::<Vec<_>>())
        .chain(document.spans())
        .collect();
    let mut found = Vec::new();
    for line in lines {
        let line = line.split(" #").next().unwrap_or("").to_string();
        for part in line.split(['|', ';', '&']) {
            // Where a quote goes on beyond what parts commands, words are told apart by spaces.
            let by_spaces = || part.split_whitespace().map(|w| w.trim_matches(['"', '\'']).to_string()).collect();
            let words: Vec<String> = shell_words::split(part).unwrap_or_else(|_| by_spaces());
            found.push(words.into_iter().skip_while(|w| ["$", "sudo"].contains(&w.as_str())).collect());
        }
    }
    found
}

/// Every `tarebench ...` of a document.
fn commands(document: &Document) -> Vec<Vec<String>> {
    let ours = |words: &Vec<String>| words.len() > 1 && words[0] == "tarebench";
    typed(document).into_iter().filter(ours).collect()
}

/// A script that words start, by its name, and what it is given. The front page says `quickstart` for scripts/quickstart.
fn of_script(words: &[String]) -> Option<(&str, &[String])> {
    let begins = words.iter().position(|w| w.trim_start_matches("./").starts_with("scripts/")).unwrap_or(0);
    let name = words.get(begins)?.trim_start_matches("./").trim_start_matches("scripts/");
    let named = !name.is_empty() && !name.contains('/') && root().join("scripts").join(name).is_file();
    named.then(|| (name, &words[begins + 1..]))
}

/// Whether a script takes a flag: one that its parser is told of (Python), or a pattern of its `case` (shell).
fn takes(script: &str, flag: &str) -> bool {
    let pattern = |line: &str| {
        line.split_once(')')
            .is_some_and(|(words, _)| words.split('|').any(|w| w.split_whitespace().last() == Some(flag)))
    };
    let by_parser = |line: &str| line.contains("add_argument(") && line.contains(&format!("\"{flag}\""));
    // argparse has it by itself.
    (flag == "--help" && script.contains("ArgumentParser(")) || script.lines().any(|l| pattern(l) || by_parser(l))
}

#[test]
fn every_flag_of_a_script_is_one_that_it_takes() {
    let (mut unknown, mut seen) = (Vec::new(), 0);
    for document in documents() {
        for words in typed(&document) {
            let Some((name, given)) = of_script(&words) else { continue };
            let script = std::fs::read_to_string(root().join("scripts").join(name)).expect("text");
            for flag in given.iter().filter(|w| w.starts_with("--")) {
                let flag = flag.split('=').next().unwrap_or(flag);
                seen += 1;
                if !takes(&script, flag) {
                    unknown.push(format!("{}: scripts/{name} {flag}", document.path.display()));
                }
            }
        }
    }
    assert!(unknown.is_empty(), "these flags don't exist:\n{}", unknown.join("\n"));
    assert!(seen > 10, "only {seen} flags were found");
}

/// A word with what is there in place of the files that it names.
fn named(word: &str) -> String {
    let made_up = |value: &str| ["/tmp/weigh", "/PATH/"].iter().any(|folder| value.starts_with(folder));
    let there = |part: &str| match part.rsplit_once('=') {
        Some((key, value)) if made_up(value) => format!("{key}=/etc/passwd"),
        _ => part.to_string(),
    };
    word.split(',').map(there).collect::<Vec<_>>().join(",")
}

/// Whether `plan` knows an option of `run`: how much is measured of what, and not where it is kept.
fn selects(flag: &str) -> bool {
    ["--env", "--workload", "--blocks", "--seed", "--data-dir"].contains(&flag)
}

#[test]
fn every_command_line_can_be_typed() {
    let b = Dir::new();
    let suite = first_suite();
    std::fs::write(b.at("my-suite.toml"), suite).expect("written");
    let mut seen = 0;
    for document in documents() {
        for words in commands(&document) {
            // `tarebench COMMAND --help` and the like stand for many.
            if words.iter().any(|w| w.contains(['<', '[']) || w.contains("...") || *w == "COMMAND") {
                continue;
            }
            seen += 1;
            let line = format!("{}: {}", document.path.display(), words.join(" "));
            let command: Vec<&str> =
                words[1..].iter().map(String::as_str).take_while(|w| !w.starts_with('-')).take(1).collect();
            let nested = match command[..] {
                ["import"] => vec!["import", words.get(2).map_or("fio", String::as_str)],
                ["prove"] => vec!["prove", words.get(2).map_or("durability", String::as_str)],
                _ => command.clone(),
            };
            let help = b.run(&[&nested[..], &["--help"]].concat());
            assert_eq!(help.code, 0, "{line}: there is no such command");
            for flag in words.iter().filter(|w| w.starts_with('-')) {
                assert!(help.stdout.contains(flag.as_str()), "{line}: there is no {flag}");
            }
            if command.first().is_some_and(|command| ["run", "plan", "verify"].contains(command)) {
                // What is named must be there: any program, folder or file will do for a plan.
                let there = words[2..].iter().map(|word| match word.split_once(":binary=/opt/") {
                    Some((runner, _)) => format!("{runner}:binary=/bin/sh"),
                    None => named(word),
                });
                let words: Vec<String> = there.collect();
                let ran = b.run(&planned(&words));
                assert_eq!(ran.code, 0, "{line}: can't be planned: {}", ran.stderr);
            }
            if command == ["list"] {
                assert!(words.get(2).is_none_or(|what| help.stdout.contains(what.as_str())), "{line}: nothing to list");
            }
        }
    }
    assert!(seen > 25, "only {seen} command lines were found");
}

/// The words of a `run` as those of a `plan`.
fn planned(words: &[String]) -> Vec<&str> {
    let mut kept = vec!["plan"];
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        if word.starts_with("--") {
            let value = words.next();
            if selects(word) {
                kept.push(word);
                kept.extend(value);
            }
        } else {
            kept.push(word);
        }
    }
    kept
}

/// The suites of a document, made whole where only a part is shown.
fn suites(document: &Document) -> Vec<String> {
    let (blocks, _) = document.parts();
    let of_suites =
        |b: &&Fenced| b.language == "toml" && (b.text.contains("[environments.") || b.text.contains("[workloads."));
    let whole = |b: &Fenced| {
        let mut text = b.text.clone();
        for (part, rest) in [("[environments.bare]", "\n"), ("[workloads.", "\"control/syscall\"]\n")] {
            if !text.contains(part) {
                text.extend([part, rest]);
            }
        }
        text
    };
    blocks.iter().filter(of_suites).map(whole).collect()
}

fn first_suite() -> String {
    let readme = documents().into_iter().find(|d| d.path == Path::new("README.md")).expect("a front page");
    suites(&readme).into_iter().next().expect("the front page shows a suite")
}

#[test]
fn every_suite_that_is_shown_can_be_planned() {
    let b = Dir::new();
    let mut seen = 0;
    for document in documents() {
        for text in suites(&document) {
            // Builds of the reader's own: a plan wants them to be programs.
            let own = text.replace("/opt/runsc-old", "/bin/true").replace("/opt/runsc-new", "/bin/true");
            let ran = b.run(&["plan", &b.suite(&own)]);
            assert_eq!(ran.code, 0, "{}:\n{text}\n{}", document.path.display(), ran.stderr);
            seen += 1;
        }
    }
    assert!(seen >= 4, "only {seen} suites were found");
}

/// Names in the tables of a suite below a key.
fn names<'a>(suite: &'a toml::Table, key: &str) -> Vec<&'a str> {
    let table = suite.get(key).and_then(toml::Value::as_table).expect("a table");
    table.keys().map(String::as_str).collect()
}

/// What a document's `gate --head NAME --base NAME` has beside it: names of its suites, and of `--env NAME=...`.
fn beside(document: &Document) -> Vec<String> {
    let tables = suites(document).into_iter().map(|text| text.parse::<toml::Table>().expect("TOML"));
    let in_suites = tables.flat_map(|t| names(&t, "environments").into_iter().map(String::from).collect::<Vec<_>>());
    let words: Vec<String> = commands(document).concat();
    let given = words.windows(2).filter(|pair| pair[0] == "--env").filter_map(|pair| pair[1].split_once('='));
    in_suites.chain(given.map(|(name, _)| name.to_string())).collect()
}

#[test]
fn every_gate_that_is_shown_fits_the_suite_beside_it() {
    let (mut policies, mut pairs) = (0, 0);
    for document in documents() {
        let page = document.path.display();
        let (blocks, _) = document.parts();
        let is_policy = |b: &&Fenced| {
            let begins = |line: &str| ["[[rule]]", "[[except]]", "head ="].iter().any(|start| line.starts_with(start));
            b.language == "toml" && b.text.lines().any(begins)
        };
        for block in blocks.iter().filter(is_policy) {
            let policy =
                reports::gate::Policy::parse("a policy", &block.text).unwrap_or_else(|e| panic!("{page}: {e}"));
            let suite = suites(&document).first().unwrap_or_else(|| panic!("{page}: no suite")).clone();
            let suite: toml::Table = suite.parse().expect("TOML");
            let mut compared = names(&suite, "environments");
            compared.retain(|name| *name != "bare");
            let fits = policy.check(&names(&suite, "workloads"), &compared, "bare");
            fits.unwrap_or_else(|e| panic!("{page}: its policy doesn't fit its suite: {e}"));
            policies += 1;
        }
        for words in commands(&document).iter().filter(|words| words[1] == "gate") {
            let named = words.windows(2).filter(|pair| ["--head", "--base"].contains(&pair[0].as_str()));
            for pair in named.filter(|pair| !pair[1].starts_with('-')) {
                assert!(beside(&document).contains(&pair[1]), "{page}: {}: nothing measures it", words.join(" "));
                pairs += 1;
            }
        }
    }
    assert!(policies >= 1 && pairs >= 2, "{policies} policies and {pairs} names of environments were found");
}

/// How many entries a list for programs has, with their names.
fn listed(what: &str) -> Vec<String> {
    let ran = Dir::new().run(&["list", what, "--json"]).ends_with(0);
    let entries: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let entries = entries.as_array().expect("a list");
    entries.iter().map(|e| e["name"].as_str().expect("a name").to_string()).collect()
}

#[test]
fn what_the_front_page_counts_is_so() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).expect("text");
    let (front, runners) =
        (read("README.md").split_whitespace().collect::<Vec<_>>().join(" "), read("docs/runners.md"));
    let names = listed("environments");
    assert!(front.contains(&format!("There are {} [runners]", names.len())), "{} runners", names.len());
    let workloads = listed("workloads").len();
    assert!(front.contains(&format!("and {workloads} [workloads]")), "{workloads} workloads");

    let mut real = 0;
    for name in &names {
        let row = runners.lines().find(|l| l.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/runners.md doesn't say how {name} was verified"));
        let verified = row.split(" | ").nth(2).expect("a column");
        real += usize::from(verified.starts_with("real hardware"));
    }
    assert!(front.contains(&format!("{real} runners ran as their users run them")), "{real} ran");
}

#[test]
fn every_workload_and_suite_has_its_place() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).expect("text");
    let (workloads, suites) = (read("docs/workloads.md"), read("docs/suites.md"));
    for name in listed("workloads") {
        let (family, short) = name.split_once('/').expect("family/name");
        let row = workloads.lines().find(|l| l.starts_with(&format!("| `{family}/` |"))).expect("a row of the family");
        assert!(row.contains(&format!("`{short}`")), "docs/workloads.md has no {name}");
    }
    for name in listed("suites") {
        assert!(suites.contains(&format!("| `{name}` |")), "docs/suites.md has no {name}");
    }
}

/// Names in `flag("NAME"` of all code below a folder.
fn raised(folder: &Path, names: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            raised(&path, names);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).expect("text");
            names.extend(text.split("flag(\"").skip(1).filter_map(|t| Some(t.split_once('"')?.0.to_string())));
        }
    }
}

#[test]
fn every_flag_that_is_raised_is_explained() {
    let text = std::fs::read_to_string(root().join("docs/reports.md")).expect("text");
    let mut names = Vec::new();
    raised(&root().join("reports/src/comparison/flags"), &mut names);
    assert!(names.len() > 20, "flags are raised elsewhere now: {names:?}");
    for name in names {
        assert!(text.contains(&format!("| `{name}` |")), "docs/reports.md doesn't explain {name}");
    }
}

#[test]
fn what_scripts_write_has_its_place() {
    for (path, part) in [
        ("README.md", "quick caption"),
        ("README.md", "terminal"),
        ("docs/story.md", "story caption"),
        ("docs/instrument.md", "peers"),
        ("docs/instrument.md", "plain"),
        ("docs/instrument.md", "starts"),
        ("docs/instrument.md", "observing"),
        ("docs/truth.md", "truths"),
        ("docs/durability.md", "durability"),
    ] {
        let text = std::fs::read_to_string(root().join(path)).expect("text");
        let (begin, end) = (format!("<!-- {part}: "), format!("<!-- end of {part} -->\n"));
        assert!(text.matches(&begin).count() == 1 && text.matches(&end).count() == 1, "{path}: {part}");
    }
}
