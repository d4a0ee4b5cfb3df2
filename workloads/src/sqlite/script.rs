//! A file of statements: where each begins and ends, by SQLite's own reckoning.

use std::ffi::CString;
use std::ops::Range;

use anyhow::{Context as _, ensure};
use rusqlite::ffi;

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    /// Its bytes in the file, the semicolon included.
    pub at: Range<usize>,
    /// The line in which it begins, from 1.
    pub line: usize,
}

/// The statements of a file. What comes after the last semicolon has to be blank or a comment.
pub(super) fn split(text: &str) -> anyhow::Result<Vec<Statement>> {
    let mut found = Vec::new();
    let mut at = skip(text, 0);
    while at < text.len() {
        let line = text[..at].matches('\n').count() + 1;
        let end =
            end_of(text, at)?.with_context(|| format!("the statement in line {line} has no end; add a semicolon"))?;
        found.push(Statement { at: at..end, line });
        at = skip(text, end);
    }
    ensure!(!found.is_empty(), "there is no statement in it");
    Ok(found)
}

/// Behind the first semicolon that ends the statement: one in a text, a comment or the body of a trigger doesn't.
fn end_of(text: &str, from: usize) -> anyhow::Result<Option<usize>> {
    for (semicolon, _) in text[from..].match_indices(';') {
        let end = from + semicolon + 1;
        let statement = CString::new(&text[from..end]).context("there is a zero byte in it, which no statement has")?;
        // SAFETY: a string that ends in a zero, which the call only reads.
        if unsafe { ffi::sqlite3_complete(statement.as_ptr()) } == 1 {
            return Ok(Some(end));
        }
    }
    Ok(None)
}

/// Over blanks, comments and empty statements.
fn skip(text: &str, mut at: usize) -> usize {
    loop {
        let rest = &text[at..];
        let blank =
            rest.len() - rest.trim_start_matches(|c: char| c.is_whitespace() || c == ';' || c == '\u{feff}').len();
        let comment = match &rest[blank..] {
            line if line.starts_with("--") => line.find('\n').unwrap_or(line.len()),
            block if block.starts_with("/*") => block.find("*/").map_or(block.len(), |end| end + 2),
            _ => 0,
        };
        if blank + comment == 0 {
            return at;
        }
        at += blank + comment;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_where_sqlite_says() {
        let text = "-- first; not this\n\nSELECT ';' AS a;; /* ; */\nCREATE TRIGGER t AFTER INSERT ON a BEGIN\n  SELECT 1;\nEND;\nSELECT 2\n ;-- end";
        let found = split(text).expect("whole");
        let seen: Vec<(usize, &str)> = found.iter().map(|s| (s.line, &text[s.at.clone()])).collect();
        let trigger = "CREATE TRIGGER t AFTER INSERT ON a BEGIN\n  SELECT 1;\nEND;";
        assert_eq!(seen, [(3, "SELECT ';' AS a;"), (4, trigger), (7, "SELECT 2\n ;")]);
    }

    #[test]
    fn what_is_not_whole_is_refused_with_its_line() {
        assert!(split("SELECT 1;\nSELECT 'a;").expect_err("open").to_string().contains("line 2 has no end"));
        assert!(split(" -- nothing\n").expect_err("empty").to_string().contains("no statement"));
        assert!(split("SELECT '\0';").expect_err("zero").to_string().contains("zero byte"));
    }
}
