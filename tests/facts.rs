//! Reports judge by facts: which runner it was and how another crate words a fact decides nothing in them.

use std::path::{Path, PathBuf};

use workloads::facts::Network;

/// Methods that look for their literal in another text.
const LOOKS_FOR: [&str; 7] =
    ["contains(", "starts_with(", "ends_with(", "strip_prefix(", "strip_suffix(", "find(", "split_once("];

/// Files of reports that only tests use: there, runners are named to be tried.
const FIXTURES: [&str; 3] = ["example.rs", "sample.rs", "tests.rs"];

/// The names of all runners, and the words of all networks.
fn names() -> Vec<String> {
    let runners = runners::registry::RUNNERS.iter().map(|r| r.name().to_string());
    runners.chain(Network::ALL.iter().map(Network::to_string)).collect()
}

/// A literal, what stands before it and its line.
struct Literal {
    text: String,
    before: String,
    line: usize,
}

/// The literals of a source file, comments and the module of tests at its end left out.
fn literals(source: &str) -> Vec<Literal> {
    let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
        let (mut text, mut inside, mut begun) = (String::new(), false, 0);
        let mut characters = line.char_indices();
        while let Some((at, c)) = characters.next() {
            match c {
                '\\' if inside => text.extend(characters.next().map(|(_, c)| c)),
                // A quote as a character is no literal of ours.
                '"' if !inside && line[..at].ends_with('\'') => {}
                '"' if inside => {
                    let before = line[..begun].to_string();
                    found.push(Literal { text: std::mem::take(&mut text), before, line: number + 1 });
                    inside = false;
                }
                '"' => (inside, begun) = (true, at),
                c if inside => text.push(c),
                _ => {}
            }
        }
    }
    found
}

/// Where a source file asks for one of the names, or looks for a part of one.
fn matched(source: &str, names: &[String]) -> Vec<String> {
    let asks = |l: &Literal| {
        let whole = names.contains(&l.text);
        let sought = LOOKS_FOR.iter().any(|method| l.before.ends_with(method));
        let part =
            l.text.len() > 2 && names.iter().any(|name| name.contains(&l.text) || l.text.contains(name.as_str()));
        whole || (sought && part)
    };
    literals(source).into_iter().filter(asks).map(|l| format!("line {}: \"{}\"", l.line, l.text)).collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder of sources").flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") && !FIXTURES.iter().any(|f| path.ends_with(f)) {
            all.push(path);
        }
    }
    all
}

#[test]
fn reports_ask_for_no_runner_and_no_network_by_name() {
    let names = names();
    let all = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("reports/src"));
    assert!(all.len() > 20, "{} files", all.len());
    let found: Vec<String> = all
        .iter()
        .flat_map(|path| {
            let source = std::fs::read_to_string(path).expect("a source file");
            matched(&source, &names).into_iter().map(|what| format!("{}, {what}", path.display())).collect::<Vec<_>>()
        })
        .collect();
    assert!(found.is_empty(), "state a fact (workloads/src/facts.rs) and judge that:\n{}", found.join("\n"));
}

#[test]
fn a_name_that_is_asked_for_is_found() {
    for line in [
        r#"let sandboxed = plan.runner == "gvisor";"#,
        r#"matches!(e.runner.as_str(), "runc" | "other")"#,
        r#"let through = network.contains("user");"#,
        r#"("loopback", other) => true,"#,
    ] {
        assert_eq!(matched(line, &names()).len(), 1, "{line}");
    }
    for line in [
        r#"// as in "gvisor""#,
        r#"fact("the peer is reached over loopback: no device is involved");"#,
        "if '\"' == c { x(\"ru\") }",
        "#[cfg(test)]\nmod tests {\n    let name = \"gvisor\";",
    ] {
        assert_eq!(matched(line, &names()), Vec::<String>::new(), "{line}");
    }
}
