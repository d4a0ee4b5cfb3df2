//! The report as one page that needs no network and no script: what each box costs, then all that stands behind it.
//!
//! This file is the page and its first screen; `detail` is everything below. Style sheet and fixed prose are files of their own.

mod detail;
pub mod trend;
mod why;

use anyhow::Result;

use super::Render;
use super::markup::{Markup, add, markup};
use super::plots::{self, Place, forest};
use super::words::{self, Piece, Tone};
use crate::comparison::{Comparison, Outcome};
use crate::explain::explain;
use crate::statistics::FEWEST_FOR_INTERVAL;

const STYLE: &str = include_str!("style.css");

/// The style sheet of every page.
fn style() -> Markup {
    Markup::file(STYLE)
}

/// The format `html`.
#[derive(Debug, Clone, Copy)]
pub struct Html;

impl Render for Html {
    fn render(&self, c: &Comparison) -> Result<Vec<u8>> {
        let mut out = Markup::default();
        head(&format!("{} over {}", c.run.suite, c.run.baseline), &mut out);
        first_screen(c, &mut out)?;
        detail::write(c, &mut out)?;
        add!(
            out,
            "<footer>tarebench {} · run {} · {} · binary {}</footer>\n</main>\n</body>\n</html>\n",
            &c.run.version,
            &c.run.id,
            &c.run.started,
            c.run.binary_sha256.get(..12).unwrap_or(&c.run.binary_sha256)
        );
        Ok(out.into_bytes())
    }
}

/// The page up to its first words.
pub(super) fn head(title: &str, out: &mut Markup) {
    add!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{} · tarebench</title>\n\
         <style>\n{}{}</style>\n</head>\n<body>\n<main>\n",
        title,
        plots::palette_css(),
        Markup::file(STYLE)
    );
}

fn first_screen(c: &Comparison, out: &mut Markup) -> Result<()> {
    let names: Vec<String> = words::compared(c)
        .filter(|e| !matches!(e.outcome, Outcome::Skipped(_)))
        .map(|e| c.label(&e.plan.name).to_string())
        .collect();
    if let Some(words) = words::not_durable(c) {
        add!(out, "<p class=\"alarm\" role=\"alert\">{}</p>\n", words);
    }
    let title = title(&names, words::compared(c).count());
    add!(
        out,
        "<header><h1>{} over {}</h1><span class=\"quiet\">suite {} · {}</span></header>\n",
        title,
        &c.run.baseline,
        &c.run.suite,
        &c.run.started.replace('T', " ").replace('Z', " UTC")
    );
    for reason in &c.invalid {
        add!(out, "<p class=\"alarm\" role=\"alert\"><b>Invalid run:</b> {}</p>\n", reason);
    }
    sentences(c, out);
    trust(c, out);
    contents(c, out);
    why::hints(c, out);
    why::write(c, out)?;
    forest_plot(c, out)?;
    fingerprint(c, out);
    Ok(())
}

/// The measured ones by name, or how many of all that are listed.
fn title(measured: &[String], all: usize) -> String {
    match measured.len() {
        0..=4 => measured.join(", "),
        n if n < all => format!("{n} of {all} environments"),
        n => format!("{n} environments"),
    }
}

/// Where everything is, in the order of the page.
fn contents(c: &Comparison, out: &mut Markup) {
    let has_hints = words::tried(c).any(|e| !e.hints.is_empty());
    let parts = [
        (has_hints, why::HINTS, "Why"),
        (explain(c).is_some(), why::STEPS, "Step by step"),
        (true, "environments", "Environments"),
        (!c.failures.is_empty(), "failures", "Failures"),
        (!c.voids.is_empty(), "voids", "Void rounds"),
        (true, "method", "Method"),
        (true, "words", "Words"),
        (true, "settings", "Settings"),
    ];
    let link = |id: &str, name: &str| markup!("<a href=\"#{}\">{}</a>\n", id, name);
    let (first, last) = parts.split_at(2);
    let of = |parts: &[(bool, &str, &str)]| -> Markup {
        parts.iter().filter(|(there, ..)| *there).map(|(_, id, name)| link(id, name)).collect()
    };
    let workloads: Markup =
        c.run.workloads.iter().enumerate().map(|(at, plan)| link(&detail::anchor(at), &plan.name)).collect();
    add!(out, "<nav class=\"contents\" aria-label=\"Contents\">\n{}{}{}</nav>\n", of(first), workloads, of(last));
}

fn sentences(c: &Comparison, out: &mut Markup) {
    add!(out, "<ul class=\"costs\">\n");
    for environment in words::compared(c) {
        let class = if matches!(environment.outcome, Outcome::Skipped(_)) {
            markup!(" class=\"skipped\"")
        } else {
            Markup::default()
        };
        let sentence: Markup = words::sentence(c, environment).iter().map(piece).collect();
        let tried = !matches!(environment.outcome, Outcome::Skipped(_));
        let why = if tried && !environment.hints.is_empty() {
            markup!(" <a href=\"#{}\">why</a>", why::HINTS)
        } else {
            Markup::default()
        };
        add!(
            out,
            "<li{}><span class=\"name\">{}</span> <span>{}{}</span></li>\n",
            class,
            c.label(&environment.plan.name),
            sentence,
            why
        );
    }
    add!(out, "</ul>\n");
}

fn piece(piece: &Piece) -> Markup {
    match piece {
        Piece::Plain(text) => markup!("{}", text),
        Piece::Strong(text) => markup!("<b>{}</b>", text),
    }
}

fn trust(c: &Comparison, out: &mut Markup) {
    add!(out, "<dl class=\"trust\">\n");
    for trust in words::trust(c) {
        let (class, spoken) = match trust.tone {
            Tone::Good => ("good", "good"),
            Tone::Care => ("care", "take care"),
            Tone::Bad => ("bad", "bad"),
        };
        add!(
            out,
            "<div class=\"{}\"><dt>{}</dt><dd><span class=\"value\"><span class=\"sign\" role=\"img\" aria-label=\"{}\">{}</span> {}</span>\
             <small>{}</small></dd></div>\n",
            class,
            trust.label,
            spoken,
            trust.tone.sign(),
            &trust.value,
            &trust.detail
        );
    }
    add!(out, "</dl>\n");
    if !c.remarks.is_empty() {
        let items: Markup = c.remarks.iter().map(|remark| markup!("<li>{}</li>", remark)).collect();
        add!(out, "<ul class=\"remarks\">{}</ul>\n", items);
    }
}

fn forest_plot(c: &Comparison, out: &mut Markup) -> Result<()> {
    let panels = forest::panels(c);
    if panels.is_empty() {
        match words::alone(c) {
            Some(alone) => add!(out, "<p>{}</p>\n", &alone),
            None => add!(out, "<p>Nothing could be compared in this run: see the failures below.</p>\n"),
        }
        return Ok(());
    }
    let scale = forest::scale(&panels);
    add!(out, "<div class=\"forest\">\n");
    for panel in &panels {
        let picture = forest::panel(Place::Page, panel, scale)?;
        add!(
            out,
            "<figure><figcaption>{} <span>{}</span></figcaption>\n{}</figure>\n",
            panel.workload,
            panel.caption,
            picture
        );
    }
    let bars = if c.blocks < FEWEST_FOR_INTERVAL {
        ""
    } else {
        " Shaded: what the control cannot tell from 1×. A bar is the interval."
    };
    add!(
        out,
        "</div>\n<p class=\"quiet\"><small>Overhead over {} with {}, on one logarithmic axis; 1× costs nothing, further right costs \
         more.{} A ring says: read its flags in the table. Grey: the control, or not to be ranked.</small></p>\n",
        &c.run.baseline,
        &words::intervals(c),
        bars
    );
    Ok(())
}

fn fingerprint(c: &Comparison, out: &mut Markup) {
    let title = if c.run.is_imported() { "What the files say" } else { "On this machine" };
    add!(out, "<h2 class=\"minor\">{}</h2>\n<dl class=\"facts wide\">\n", title);
    let mut fact = |name: &str, value: &str| {
        add!(out, "<div><dt>{}</dt><dd>{}</dd></div>\n", name, value);
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
    add!(out, "</dl>\n<h2 class=\"minor\">Again</h2>\n<pre>{}</pre>\n", &c.run.command);
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
        let explained = crate::explain::tests::both();
        for c in [sample::comparison(), sample::large(), sample::short(), sample::hostile(), explained] {
            assert_well_formed(&page(&c));
        }
    }

    #[test]
    fn whoever_listens_or_types_gets_everywhere() {
        let page = page(&sample::comparison());
        let levels: Vec<u32> =
            page.match_indices("<h").filter_map(|(at, _)| page[at + 2..].chars().next()?.to_digit(10)).collect();
        assert_eq!(levels[0], 1);
        assert!(levels.windows(2).all(|pair| pair[1] <= pair[0] + 1), "a level is left out: {levels:?}");
        let regions: Vec<&str> =
            page.match_indices("<div class=\"scroll\"").map(|(at, _)| page[at..].split('>').next().unwrap()).collect();
        assert!(regions.len() > 10, "{regions:?}");
        for region in &regions {
            assert!(region.contains("role=\"region\"") && region.contains("tabindex=\"0\""), "{region}");
            assert_eq!(regions.iter().filter(|other| *other == region).count(), 1, "two of one name: {region}");
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
    fn the_table_of_environments_says_which_program_each_ran_on() {
        let c = sample::comparison();
        let plan = c.environments.iter().map(|e| &e.plan).find(|p| p.runner == "qemu").expect("in the sample");
        let program = &plan.programs[0];
        let (path, version) = (&program.path, program.version.as_deref().expect("known"));
        let hash = &program.sha256.as_deref().expect("known")[..16];
        assert!(page(&c).contains(&format!("{path} {version}, SHA-256 {hash}")));
    }

    #[test]
    fn an_explanation_has_a_sentence_a_picture_and_a_table() {
        let page = page(&crate::explain::tests::both());
        for part in
            ["Why slow costs what it costs", "bus=virtio</", "Cost from rung to rung in disk/fsync", "+ bus=ide"]
        {
            assert!(page.contains(part), "{part}");
        }
        assert!(page.contains("<li>a=b: no</li>"));
        assert!(!super::Html.render(&sample::comparison()).unwrap().windows(9).any(|w| w == b"Left out:"));
    }

    #[test]
    fn every_link_has_its_place_and_the_reasons_come_before_the_workloads() {
        for c in [sample::comparison(), sample::short(), crate::explain::tests::both()] {
            let page = page(&c);
            let places: Vec<&str> = page.split(" href=\"#").skip(1).filter_map(|rest| rest.split('"').next()).collect();
            assert!(places.len() > 4, "{places:?}");
            for place in places {
                assert_eq!(page.matches(&format!(" id=\"{place}\"")).count(), 1, "{place}");
            }
        }
        let page = page(&sample::comparison());
        let at = |words: &str| page.find(words).unwrap_or_else(|| panic!("{words} is on the page"));
        assert!(at("class=\"trust\"") < at("id=\"why\"") && at("id=\"why\"") < at("class=\"forest\""));
    }

    #[test]
    fn the_title_counts_what_is_listed() {
        let names: Vec<String> = ["a", "b", "c", "d", "e"].map(String::from).into();
        assert_eq!(title(&names[..2], 3), "a, b");
        assert_eq!(title(&names, 5), "5 environments");
        assert_eq!(title(&names, 7), "5 of 7 environments");
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
        let bars = "A bar is the interval";
        assert!(page.contains(bars) && !self::page(&sample::short()).contains(bars), "no bars, no words for them");
    }
}
