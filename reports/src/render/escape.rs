//! Text from the store made harmless: names, engine messages and flags are whatever an environment said.

/// For one cell of a table, or one paragraph, of GitHub's Markdown: on one line, with nothing left that means something there.
#[must_use]
pub fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in one_line(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // A mention or a reference would notify people and link pull requests.
            '@' => out.push_str("&#64;"),
            '#' => out.push_str("&#35;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '!' | '$' => {
                out.push('\\');
                out.push(c);
            }
            other => out.push(other),
        }
    }
    // Bare addresses become links of their own accord.
    out.replace("://", ":&#47;&#47;")
}

/// One field of RFC 4180. A leading `=`, `+`, `-` or `@` of text is kept from being a formula by an apostrophe.
#[must_use]
pub fn csv(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains(['"', ',', '\n', '\r']) || formula { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// For a terminal and for anything else that is one line: line breaks are ` / `, escape sequences and other control characters are `·`.
#[must_use]
pub fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join(" / ").chars().map(|c| if c == '\t' { ' ' } else { visible(c) }).collect()
}

/// The same of words for a terminal that may have several lines, which stay.
#[must_use]
pub fn lines(text: &str) -> String {
    text.chars().map(visible).collect()
}

/// `·` for what has no width, reorders its neighbours or drives a terminal.
pub(super) fn visible(c: char) -> char {
    match c {
        '\n' | '\t' => c,
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => '·',
        '\u{fffe}' | '\u{ffff}' => '·',
        c if c.is_control() => '·',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_stays_in_its_cell() {
        assert_eq!(markdown("a|b\nc"), "a\\|b / c");
        assert_eq!(markdown("<img src=x> `x` @you #1"), "&lt;img src=x&gt; \\`x\\` &#64;you &#35;1");
        assert_eq!(markdown("see http://example.org"), "see http:&#47;&#47;example.org");
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        assert_eq!(csv("plain"), "plain");
        assert_eq!(csv("a,b"), "\"a,b\"");
        assert_eq!(csv("say \"hi\"\n"), "\"say \"\"hi\"\"\n\"");
        assert_eq!(csv("=1+2"), "\"'=1+2\"");
    }

    #[test]
    fn a_terminal_gets_no_escape_sequences() {
        assert_eq!(one_line("one\r\n\x1b]0;title\x07two\n\n"), "one / ·]0;title·two");
        assert_eq!(lines("one\n\tt\x1b[2Jwo\r\n"), "one\n\tt·[2Jwo·\n");
    }
}
