//! The report as one page that needs no network and no script: what each box costs, then all that stands behind it.
//!
//! This file is the page and its first screen; `detail` is everything below. Style sheet and fixed prose are files of their own.

mod detail;

use std::fmt::Write as _;

use anyhow::Result;

use super::escape::html as safe;
use super::plots::{self, Place, forest};
use super::words::{self, Piece, Tone};
use super::{Render, units};
use crate::comparison::{Comparison, Outcome};

const STYLE: &str = include_str!("style.css");

/// The format `html`.
#[derive(Debug, Clone, Copy)]
pub struct Html;

impl Render for Html {
    fn render(&self, c: &Comparison) -> Result<Vec<u8>> {
        let mut out = String::with_capacity(512 * 1024);
        head(c, &mut out);
        first_screen(c, &mut out)?;
        detail::write(c, &mut out)?;
        let _ = write!(
            out,
            "<footer>tarebench {} · run {} · {} · binary {}</footer>\n</main>\n</body>\n</html>\n",
            safe(&c.run.version),
            safe(&c.run.id),
            safe(&c.run.started),
            safe(c.run.binary_sha256.get(..12).unwrap_or(&c.run.binary_sha256)),
        );
        Ok(out.into_bytes())
    }
}

fn head(c: &Comparison, out: &mut String) {
    let title = format!("{} over {}", safe(&c.run.suite), safe(&c.run.baseline));
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title} · tarebench</title>\n\
         <style>\n{}{STYLE}</style>\n</head>\n<body>\n<main>\n",
        plots::palette_css(),
    );
}

fn first_screen(c: &Comparison, out: &mut String) -> Result<()> {
    let names: Vec<String> =
        words::compared(c).filter(|e| !matches!(e.outcome, Outcome::Skipped(_))).map(|e| safe(&e.plan.name)).collect();
    let title = if names.len() <= 4 { names.join(", ") } else { format!("{} environments", names.len()) };
    let _ = writeln!(
        out,
        "<header><h1>{title} over {}</h1><span class=\"quiet\">suite {} · {}</span></header>",
        safe(&c.run.baseline),
        safe(&c.run.suite),
        safe(&c.run.started.replace('T', " ").replace('Z', " UTC")),
    );
    for reason in &c.invalid {
        let _ = writeln!(out, "<p class=\"alarm\" role=\"alert\"><b>Invalid run:</b> {}</p>", safe(reason));
    }
    sentences(c, out);
    trust(c, out);
    forest_plot(c, out)?;
    fingerprint(c, out);
    Ok(())
}

fn sentences(c: &Comparison, out: &mut String) {
    out.push_str("<ul class=\"costs\">\n");
    for environment in words::compared(c) {
        let class = if matches!(environment.outcome, Outcome::Skipped(_)) { " class=\"skipped\"" } else { "" };
        let name = safe(&environment.plan.name);
        let sentence: String = words::sentence(c, environment).iter().map(piece).collect();
        let _ = writeln!(out, "<li{class}><span class=\"name\">{name}</span> <span>{sentence}</span></li>");
    }
    out.push_str("</ul>\n");
}

fn piece(piece: &Piece) -> String {
    match piece {
        Piece::Plain(text) => safe(text),
        Piece::Strong(text) => format!("<b>{}</b>", safe(text)),
    }
}

fn trust(c: &Comparison, out: &mut String) {
    out.push_str("<dl class=\"trust\">\n");
    for trust in words::trust(c) {
        let (class, spoken) = match trust.tone {
            Tone::Good => ("good", "good"),
            Tone::Care => ("care", "take care"),
            Tone::Bad => ("bad", "bad"),
        };
        let _ = writeln!(
            out,
            "<div class=\"{class}\"><dt>{}</dt><dd><span class=\"value\"><span class=\"sign\" role=\"img\" aria-label=\"{spoken}\">{}</span> {}</span>\
             <small>{}</small></dd></div>",
            trust.label,
            trust.tone.sign(),
            safe(&trust.value),
            safe(&trust.detail),
        );
    }
    out.push_str("</dl>\n");
    if !c.remarks.is_empty() {
        let items: String = c.remarks.iter().map(|remark| format!("<li>{}</li>", safe(remark))).collect();
        let _ = writeln!(out, "<ul class=\"remarks\">{items}</ul>");
    }
}

fn forest_plot(c: &Comparison, out: &mut String) -> Result<()> {
    let panels = forest::panels(c);
    if panels.is_empty() {
        out.push_str("<p>Nothing could be compared in this run: see the failures below.</p>\n");
        return Ok(());
    }
    let scale = forest::scale(&panels);
    out.push_str("<div class=\"forest\">\n");
    for panel in &panels {
        let (name, caption) = (safe(&panel.workload), safe(&panel.caption));
        let picture = forest::panel(Place::Page, panel, scale)?;
        let _ = writeln!(out, "<figure><figcaption>{name} <span>{caption}</span></figcaption>\n{picture}</figure>");
    }
    let _ = writeln!(
        out,
        "</div>\n<p class=\"quiet\"><small>Overhead over {} with {} intervals, on one logarithmic axis; 1× costs nothing, further right costs \
         more. Shaded: what the control cannot tell from 1×. A bar is the interval; a ring in it says: read the flags. Grey: the control, or not to be ranked.</small></p>",
        safe(&c.run.baseline),
        units::percent(c.method.confidence),
    );
    Ok(())
}

fn fingerprint(c: &Comparison, out: &mut String) {
    out.push_str("<h3>On this machine</h3>\n<dl class=\"facts wide\">\n");
    let mut fact = |name: &str, value: &str| {
        let _ = writeln!(out, "<div><dt>{}</dt><dd>{}</dd></div>", safe(name), safe(value));
    };
    for (name, value) in &c.run.host {
        fact(name, value);
    }
    if let Some(nested) = &c.run.nested {
        fact("itself a guest", nested);
    }
    fact("pinning", &c.run.pinning);
    for (name, value) in &c.run.labels {
        fact(&format!("label {name}"), value);
    }
    let _ = writeln!(out, "</dl>\n<h3>Again</h3>\n<pre>{}</pre>", safe(&c.run.command));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    fn page(c: &Comparison) -> String {
        String::from_utf8(Html.render(c).unwrap()).unwrap()
    }

    /// Every tag that is opened is closed, in order; panics with the place where it is not.
    fn assert_well_formed(page: &str) {
        const VOID: [&str; 2] = ["meta", "!DOCTYPE"];
        let mut open: Vec<&str> = Vec::new();
        let mut rest = page;
        while let Some(start) = rest.find('<') {
            rest = &rest[start + 1..];
            let end = rest.find('>').expect("a tag ends");
            let tag = &rest[..end];
            assert_eq!(tag.matches('"').count() % 2, 0, "quotes in <{tag}>");
            assert!(!tag.contains('<'), "<{tag}>");
            rest = &rest[end + 1..];
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "</{name}> before: {}", rest.chars().take(200).collect::<String>());
            } else if !tag.ends_with('/') && !VOID.contains(&name) {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "never closed: {open:?}");
    }

    #[test]
    fn the_page_is_well_formed() {
        for c in [sample::comparison(), sample::large(), sample::short(), sample::hostile()] {
            assert_well_formed(&page(&c));
        }
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let page = page(&sample::comparison()).replace("http://www.w3.org/2000/svg", "");
        for outside in ["http", "//", "url(", "@import", "<script", "<link", "<iframe", "src="] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn hostile_text_stays_text() {
        let page = page(&sample::hostile());
        assert!(!page.contains("<script"), "escaped everywhere");
        assert!(!page.contains('\u{1b}'));
    }

    #[test]
    fn the_first_screen_says_what_it_costs_before_anything_else() {
        let page = page(&sample::comparison());
        let position = |words: &str| page.find(words).unwrap_or_else(|| panic!("{words} is on the page"));
        assert!(position("class=\"costs\"") < position("class=\"trust\""));
        assert!(position("class=\"trust\"") < position("class=\"forest\""));
        assert!(position("class=\"forest\"") < position("tarebench run quick --seed"));
    }
}
