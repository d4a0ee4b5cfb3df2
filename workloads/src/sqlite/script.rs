//! A file of statements: where each begins and ends, by SQLite's own reckoning.
//!
//! `sqlite3_complete` says of a text whether it is whole, and reads all of it to say so. Asked at every semicolon it takes a minute for
//! a long file, so its rules are here again, in a form that goes through the file once. A test holds the two together.

use std::ops::Range;

use anyhow::{Context as _, ensure};

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
    ensure!(!text.contains('\0'), "there is a zero byte in it, which no statement has");
    let mut found = Vec::new();
    let (mut line, mut counted) = (1, 0);
    let mut at = skip(text, 0);
    while at < text.len() {
        line += text[counted..at].matches('\n').count();
        counted = at;
        let end =
            end_of(text, at).with_context(|| format!("the statement in line {line} has no end; add a semicolon"))?;
        found.push(Statement { at: at..end, line });
        at = skip(text, end);
    }
    ensure!(!found.is_empty(), "there is no statement in it");
    Ok(found)
}

/// About how many transactions a file has, by the words that its statements begin with: what they do is known once they are done.
pub(super) fn transactions(text: &str) -> Option<u64> {
    let (mut count, mut open) = (0, false);
    for statement in split(text).ok()? {
        let statement = &text[statement.at];
        let first = statement.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
        let is = |words: &[&str]| words.iter().any(|word| first.eq_ignore_ascii_case(word));
        open = (open || is(&["BEGIN", "SAVEPOINT"])) && !is(&["COMMIT", "END", "ROLLBACK", "RELEASE"]);
        count += u64::from(!open);
    }
    Some(count)
}

/// What tells SQLite where a statement ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Semicolon,
    Blank,
    Explain,
    Create,
    Temporary,
    Trigger,
    End,
    Other,
}

/// How far a statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Begins,
    /// One semicolon ends it.
    Plain,
    /// Whatever stands between it and `CREATE`, as `QUERY PLAN` does.
    Explain,
    Create,
    /// `; END ;` ends it, and here nothing of that is there yet.
    Trigger,
    TriggerSemicolon,
    TriggerEnd,
    Whole,
}

impl State {
    fn after(self, token: Token) -> Self {
        match (self, token) {
            (state, Token::Blank) => state,
            (Self::Trigger | Self::TriggerSemicolon, Token::Semicolon) => Self::TriggerSemicolon,
            (_, Token::Semicolon) => Self::Whole,
            (Self::TriggerSemicolon, Token::End) => Self::TriggerEnd,
            (Self::Trigger | Self::TriggerSemicolon | Self::TriggerEnd, _) => Self::Trigger,
            (Self::Begins, Token::Explain) => Self::Explain,
            (Self::Begins | Self::Explain, Token::Create) => Self::Create,
            (Self::Explain, Token::Other) => Self::Explain,
            (Self::Create, Token::Temporary) => Self::Create,
            (Self::Create, Token::Trigger) => Self::Trigger,
            _ => Self::Plain,
        }
    }
}

/// Behind the first semicolon that ends the statement: one in a text, a comment or the body of a trigger doesn't.
fn end_of(text: &str, from: usize) -> Option<usize> {
    let (mut state, mut at) = (State::Begins, from);
    while at < text.len() {
        let (token, length) = token(&text.as_bytes()[at..])?;
        state = state.after(token);
        at += length;
        if state == State::Whole {
            return Some(at);
        }
    }
    None
}

/// The first token of what isn't empty, and its bytes. Nothing where a comment or a quotation has no end.
fn token(rest: &[u8]) -> Option<(Token, usize)> {
    let until = |close: u8| rest[1..].iter().position(|&b| b == close).map(|inside| inside + 2);
    Some(match rest {
        [b';', ..] => (Token::Semicolon, 1),
        [b' ' | b'\r' | b'\t' | b'\n' | b'\x0c', ..] => (Token::Blank, 1),
        [b'-', b'-', ..] => (Token::Blank, until(b'\n')?),
        [b'/', b'*', ..] => (Token::Blank, rest[2..].windows(2).position(|two| two == b"*/")? + 4),
        [b'[', ..] => (Token::Other, until(b']')?),
        [quote @ (b'`' | b'"' | b'\''), ..] => (Token::Other, until(*quote)?),
        _ => {
            let in_word = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | 0x80..);
            let length = rest.iter().take_while(in_word).count();
            (word(&rest[..length]), length.max(1))
        }
    })
}

fn word(word: &[u8]) -> Token {
    let words: [(&[u8], Token); 6] = [
        (b"explain", Token::Explain),
        (b"create", Token::Create),
        (b"temp", Token::Temporary),
        (b"temporary", Token::Temporary),
        (b"trigger", Token::Trigger),
        (b"end", Token::End),
    ];
    words.iter().find(|(known, _)| word.eq_ignore_ascii_case(known)).map_or(Token::Other, |(_, token)| *token)
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
    use std::ffi::CString;
    use std::time::Instant;

    use proptest::prelude::*;
    use rusqlite::ffi;

    use super::*;

    /// The end as SQLite has it, asked at every semicolon.
    fn end_by_sqlite(text: &str) -> Option<usize> {
        text.match_indices(';').map(|(at, _)| at + 1).find(|end| {
            let so_far = CString::new(&text[..*end]).expect("no zero byte");
            // SAFETY: a string that ends in a zero, which the call only reads.
            unsafe { ffi::sqlite3_complete(so_far.as_ptr()) == 1 }
        })
    }

    const PIECES: &[&str] = &[
        ";",
        ";",
        "; ",
        "END",
        "end;",
        " ",
        "\n",
        "--",
        "/*",
        "*/",
        "/",
        "-",
        "'",
        "\"",
        "`",
        "[",
        "]",
        "a",
        "\u{e9}",
        "_",
        "$1",
        "CREATE ",
        "create",
        "TEMP ",
        "temporary ",
        "TRIGGER ",
        "EXPLAIN ",
        "query plan ",
        "(",
        ")",
        "BEGIN ",
        "CREATE TRIGGER a BEGIN SELECT 1;",
        "\t",
        "\x0b",
        "\x0c",
        "\r",
    ];

    proptest! {
        #[test]
        fn a_statement_is_as_long_as_sqlite_says(pieces in prop::collection::vec(prop::sample::select(PIECES), 1..20)) {
            let text = pieces.concat();
            prop_assert_eq!(end_of(&text, 0), end_by_sqlite(&text), "{}", text);
        }
    }

    /// Seconds that a file takes which has so many of a piece between a head and a tail.
    fn takes(count: usize, [head, piece, tail]: [&str; 3], statements: usize) -> f64 {
        let text = [head, &piece.repeat(count), tail].concat();
        let begun = Instant::now();
        let found = split(&text).expect("whole");
        assert_eq!((found.len(), found[found.len() - 1].line <= count), (statements, true));
        begun.elapsed().as_secs_f64()
    }

    #[test]
    fn a_file_is_read_once_however_many_semicolons_it_has() {
        for (pieces, statements) in [
            (["", "SELECT 12345678 AS a_column_of_some_length;\n", ""], 100_000),
            (["SELECT '", ";\n", "';"], 1),
            (["CREATE TRIGGER t AFTER INSERT ON a BEGIN\n", "SELECT 1;\n", "END;"], 1),
        ] {
            // A quadratic way takes minutes.
            let seconds = takes(100_000, pieces, statements);
            assert!(seconds < 20.0, "{pieces:?}: {seconds} s");
        }
    }

    /// Every four words before the body of a trigger, and not only those that chance tries.
    #[test]
    fn a_body_is_told_from_a_list_whatever_stands_before_it() {
        let words = ["", "EXPLAIN", "QUERY", "*/", "CREATE", "TEMP", "TRIGGER", "END", ";"];
        for number in 0..words.len().pow(4) {
            let before: Vec<&str> = (0..4).map(|digit| words[number / words.len().pow(digit) % words.len()]).collect();
            let text = format!("{} CREATE TRIGGER t BEGIN SELECT 1; END;", before.join(" "));
            assert_eq!(end_of(&text, 0), end_by_sqlite(&text), "{text}");
        }
    }

    #[test]
    fn statements_end_where_sqlite_says() {
        let text = "-- first; not this\n\nSELECT ';' AS a;; /* ; */\nCREATE TRIGGER t AFTER INSERT ON a BEGIN\n  SELECT 1;\nEND;\nSELECT 2\n ;-- end";
        let found = split(text).expect("whole");
        let seen: Vec<(usize, &str)> = found.iter().map(|s| (s.line, &text[s.at.clone()])).collect();
        let trigger = "CREATE TRIGGER t AFTER INSERT ON a BEGIN\n  SELECT 1;\nEND;";
        assert_eq!(seen, [(3, "SELECT ';' AS a;"), (4, trigger), (7, "SELECT 2\n ;")]);
    }

    #[test]
    fn transactions_are_counted_before_they_are_done() {
        let text = "begin immediate; SELECT 1; SELECT 2; end;\n-- COMMIT;\nSELECT 3; SAVEPOINT a; DELETE FROM t; RELEASE a; UPDATE t SET a = 1;";
        assert_eq!(transactions(text), Some(4));
        assert_eq!(transactions("SELECT"), None);
    }

    #[test]
    fn what_is_not_whole_is_refused_with_its_line() {
        assert!(split("SELECT 1;\nSELECT 'a;").expect_err("open").to_string().contains("line 2 has no end"));
        assert!(split(" -- nothing\n").expect_err("empty").to_string().contains("no statement"));
        assert!(split("SELECT '\0';").expect_err("zero").to_string().contains("zero byte"));
    }
}
