//! The text of an output, wherever it comes from, and the JSON documents in it.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde_json::{Map, Value};

/// Larger files are no output of one run: `json+` of a hundred jobs of fio has a few megabytes.
const LARGEST: u64 = 256 << 20;

/// So many braces that open and never close are looked at: each costs a look at all the rest.
const MOST_OPEN: usize = 32;

/// The text of a file, of a pipe, or of stdin (`-`).
///
/// # Errors
/// When it can't be read, is larger than an output can be, or is no text.
pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let mut up_to = |input: &mut dyn Read| input.take(LARGEST + 1).read_to_end(&mut bytes).context("it can't be read");
    if path == Path::new("-") {
        up_to(&mut std::io::stdin())?;
    } else {
        let about = std::fs::metadata(path).context("it can't be read")?;
        ensure!(!about.is_dir(), "it is not a file");
        ensure!(
            about.len() <= LARGEST,
            "it has {} MiB: more than {} MiB is not the output of one run",
            about.len() >> 20,
            LARGEST >> 20
        );
        up_to(&mut std::fs::File::open(path).context("it can't be read")?)?;
    }
    ensure!(bytes.len() as u64 <= LARGEST, "it has more than {} MiB: that is not the output of one run", LARGEST >> 20);
    ensure!(!bytes.is_empty(), "it is empty");
    decode(bytes)
}

/// UTF-8, or UTF-16 as Windows' shells write it.
pub(super) fn decode(bytes: Vec<u8>) -> anyhow::Result<String> {
    let wide = |of: fn([u8; 2]) -> u16| {
        let units = bytes[2..].chunks_exact(2).map(|two| of([two[0], two[1]]));
        char::decode_utf16(units).collect::<Result<String, _>>().context("it is not text: its UTF-16 is damaged")
    };
    match bytes.as_slice() {
        [0xff, 0xfe, ..] => wide(u16::from_le_bytes),
        [0xfe, 0xff, ..] => wide(u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, ..] => String::from_utf8(bytes[3..].to_vec()).context("it is not text"),
        _ => String::from_utf8(bytes).context("it is not text"),
    }
}

/// The JSON objects in a text that have a field of this name, in order; between them may stand whatever a program printed.
///
/// # Errors
/// When there is none, or one is cut off or damaged.
pub(super) fn documents(text: &str, field: &str, program: &str) -> anyhow::Result<Vec<Map<String, Value>>> {
    let (mut found, mut other, mut damage) = (Vec::new(), false, None);
    // How many open and never close, and how many documents were found before the last of them that could have been one.
    let (mut open, mut cut) = (0, None);
    let mark = format!("\"{field}\"");
    let mut at = 0;
    while let Some(start) = text[at..].find('{').map(|i| at + i).filter(|_| open < MOST_OPEN) {
        at = start + 1;
        let object = match Object::at(&text[start..]) {
            Extent::None => continue,
            Extent::Whole(object) => object,
            Extent::Open => {
                open += 1;
                if found.is_empty() || text[start..].contains(&mark) {
                    cut = Some(found.len());
                }
                continue;
            }
        };
        match serde_json::from_str::<Map<String, Value>>(&object.text) {
            Ok(map) if map.contains_key(field) => found.push(map),
            Ok(_) => other = true,
            Err(e) if object.text.contains(&mark) => {
                return Err(e).context("its JSON is damaged (line and column count from its first brace)");
            }
            Err(e) => {
                damage.get_or_insert(e);
                continue;
            }
        }
        at = start + object.length;
    }
    ensure!(cut != Some(found.len()), "it is cut off in the middle: the JSON doesn't end");
    if !found.is_empty() {
        return Ok(found);
    }
    if other {
        bail!("it has no `{field}`: it is JSON, but not {program}'s");
    }
    match damage {
        Some(e) => Err(e).context("it is not JSON (line and column count from its first brace)"),
        None => bail!("there is no JSON in it"),
    }
}

/// An object as it stands in a text.
#[derive(Debug)]
struct Object {
    /// With what some programs print and JSON doesn't know made into what it knows: control characters in strings, and
    /// numbers that are none (`-nan`).
    text: String,
    /// Bytes that it has in the text.
    length: usize,
}

enum Extent {
    /// No object begins here.
    None,
    Whole(Object),
    /// One begins and doesn't end.
    Open,
}

impl Object {
    /// The object that begins with the first character.
    fn at(text: &str) -> Extent {
        if !matches!(text[1..].trim_start().chars().next(), Some('"' | '}') | None) {
            return Extent::None;
        }
        let (mut out, mut depth, mut quoted, mut escaped) = (String::new(), 0_u64, false, false);
        let mut rest = text.char_indices();
        while let Some((i, c)) = rest.next() {
            if quoted {
                match c {
                    _ if escaped => escaped = false,
                    '\\' => escaped = true,
                    '"' => quoted = false,
                    _ => {}
                }
                if c.is_ascii_control() {
                    out.push_str(&format!("\\u{:04x}", u32::from(c)));
                } else {
                    out.push(c);
                }
                continue;
            }
            if let Some(length) = no_number(&text[i..]) {
                out.push_str("null");
                // The characters of the word are ASCII, and the first of them has been taken.
                rest.nth(length - 2);
                continue;
            }
            match c {
                '"' => quoted = true,
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            out.push(c);
            if depth == 0 {
                return Extent::Whole(Object { text: out, length: i + 1 });
            }
        }
        Extent::Open
    }
}

/// How long a word is that C prints for a number that is none.
fn no_number(text: &str) -> Option<usize> {
    let words = ["-nan", "nan", "-inf", "inf", "-NaN", "NaN", "-Infinity", "Infinity"];
    let fits =
        |word: &&&str| text.starts_with(**word) && !text[word.len()..].starts_with(|c: char| c.is_ascii_alphanumeric());
    words.iter().find(fits).map(|word| word.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(text: &str) -> Vec<i64> {
        let all = documents(text, "id", "our").expect("documents");
        all.iter().map(|d| d["id"].as_i64().expect("a number")).collect()
    }

    fn refused(text: &str) -> String {
        format!("{:#}", documents(text, "id", "our").expect_err("refused"))
    }

    #[test]
    fn documents_stand_among_words_commas_and_other_json() {
        assert_eq!(ids(r#"{"id": 1}"#), [1]);
        assert_eq!(
            ids("eta: [r(1)]\r{\"id\": 1}\nfio: terminating on signal 2\n{\"id\": 2}{\"event\": \"end\"}"),
            [1, 2]
        );
        assert_eq!(ids("[\n{\"id\": 1, \"b\": {\"id\": 9}},\n{\"id\": 2}\n]"), [1, 2], "not what lies inside");
        assert_eq!(ids("a {odd} and {an open one\n{\"id\": 3, \"s\": \"} { \\\" \"} and { one more"), [3]);
    }

    #[test]
    fn what_json_does_not_know_and_programs_print_is_taken() {
        let all = documents("{\"id\": 1, \"s\": \"a\tb\nc\", \"dev\": -nan, \"x\": [inf,nan]}", "id", "our");
        let document = &all.expect("a document")[0];
        assert_eq!((document["s"].as_str(), document["dev"].is_null()), (Some("a\tb\nc"), true));
        assert_eq!(document["x"], serde_json::json!([null, null]));
    }

    #[test]
    fn what_is_no_document_says_why() {
        assert_eq!(refused("no brace at all"), "there is no JSON in it");
        assert_eq!(refused("{\"a\": 1}"), "it has no `id`: it is JSON, but not our's");
        assert!(refused("{\"id\": 1, \"a\": {\"b\"").contains("cut off"));
        assert!(refused("{\"id\": 1} {\"id\": 1, \"a\": {\"b\"").contains("cut off"));
        assert!(refused("{\"id\": 1,, }").contains("damaged"));
        assert!(refused("{\"a\": ]}").contains("not JSON"));
    }

    #[test]
    fn wide_text_and_marks_of_the_order_of_bytes_are_read() {
        let wide = |of: fn(u16) -> [u8; 2]| "\u{feff}{\"ä\"}".encode_utf16().flat_map(of).collect::<Vec<u8>>();
        for bytes in [wide(u16::to_le_bytes), wide(u16::to_be_bytes), "\u{feff}{\"ä\"}".into(), "{\"ä\"}".into()] {
            assert_eq!(decode(bytes).expect("text"), "{\"ä\"}");
        }
        assert!(decode(vec![0xff, 0xfe, 0, 0xd8]).is_err() && decode(vec![0x80]).is_err());
    }

    #[test]
    fn braces_that_never_close_cost_no_square_of_time() {
        let text = "{\"".repeat(1 << 20);
        assert!(documents(&text, "id", "our").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[{}\"\\\\a\\-nif\t ä:,]{0,60}") {
            let _ = documents(&text, "id", "our");
            let _ = decode(text.into_bytes());
        }
    }
}
