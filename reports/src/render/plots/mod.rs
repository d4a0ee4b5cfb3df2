//! Pictures: what plotters draws, dressed so that a page's style sheet decides the colours, in light and in dark.
//!
//! plotters knows one size in whole pixels and one set of colours. So everything is drawn at `SCALE` times its size, in
//! colours that only stand for an [`Ink`], and `finish` turns the result into a responsive, accessible picture.

mod axis;
mod canvas;
pub mod curves;
pub mod forest;
pub mod heat;
pub mod insertions;
pub mod png;
pub mod trend;
pub mod waterfall;

use std::fmt::Write as _;
use std::io;

use anyhow::{Context as _, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::escape;
use super::markup::{Markup, add, markup};
use axis::{LogAxis, log_ticks, spread};

/// plotters places things on whole pixels; ten times the size makes that tenths.
const SCALE: f64 = 10.0;

/// plotters' SVG divides a font's height by this to have CSS's size.
const CSS_SIZE: f64 = 1.24;

/// What a picture is drawn on: SVG or pixels.
trait Surface: DrawingBackend<ErrorType = io::Error> {}

impl<B: DrawingBackend<ErrorType = io::Error>> Surface for B {}

/// An area to draw on, [`SCALE`] times as large as it will be.
type Area<B> = DrawingArea<B, Shift>;

/// The role of a mark, which the style sheet gives a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// Words to read.
    Text,
    /// Words that explain.
    Muted,
    /// Grid lines.
    Grid,
    /// The range that the control can't tell from 1.
    Band,
    /// The line at 1, and the baseline's curve.
    Base,
    /// The ground, for hollow marks.
    Ground,
    /// Points and intervals of the forest plot.
    Mark,
    /// The environment of this position, colours and dashes repeating after [`SERIES`].
    Series(usize),
}

/// Colours of environments before they repeat with another dash.
pub const SERIES: usize = 8;

/// Class, colour on light and colour on dark, in the order of `Ink::slot`. The series are ordered so that neighbours differ
/// in lightness too, for eyes that can't tell red from green; the first four are drawn solid and the next four dashed.
const PALETTE: [(&str, &str, &str); 7 + SERIES] = [
    ("text", "#1b1f24", "#e8eaed"),
    ("muted", "#5c6570", "#9ea7b3"),
    ("grid", "#e3e6ea", "#30363d"),
    ("band", "#c9d1db", "#4a5460"),
    ("base", "#3f4750", "#c3cad3"),
    ("ground", "#ffffff", "#14171b"),
    ("mark", "#0b5cad", "#6cb6ff"),
    ("c0", "#0b5cad", "#6cb6ff"),
    ("c1", "#c24a00", "#ff9a5c"),
    ("c2", "#00785a", "#45d0a4"),
    ("c3", "#a12a78", "#f293cf"),
    ("c4", "#8a5a00", "#e5b94a"),
    ("c5", "#1580a6", "#7fd9f7"),
    ("c6", "#5a46c2", "#b1a4ff"),
    ("c7", "#6e4a34", "#cfa88c"),
];

impl Ink {
    fn slot(self) -> usize {
        match self {
            Self::Text => 0,
            Self::Muted => 1,
            Self::Grid => 2,
            Self::Band => 3,
            Self::Base => 4,
            Self::Ground => 5,
            Self::Mark => 6,
            Self::Series(n) => 7 + n % SERIES,
        }
    }

    /// A colour that stands for the ink until `finish`.
    fn token(self) -> RGBColor {
        RGBColor(1, 2, u8::try_from(self.slot()).expect("the palette has fewer than 256 inks"))
    }

    fn of_token(colour: Rgb) -> Option<&'static (&'static str, &'static str, &'static str)> {
        let (1, 2, slot) = colour else { return None };
        PALETTE.get(usize::from(slot))
    }

    /// The colour on light of the ink that a token stands for.
    fn light_of(token: Rgb) -> Option<Rgb> {
        Self::of_token(token).and_then(|(_, light, _)| rgb(light))
    }
}

/// Red, green and blue.
type Rgb = (u8, u8, u8);

/// A colour as `#1b1f24`.
fn rgb(hex: &str) -> Option<Rgb> {
    let digits = hex.strip_prefix('#').filter(|digits| digits.len() == 6)?;
    let [_, red, green, blue] = u32::from_str_radix(digits, 16).ok()?.to_be_bytes();
    Some((red, green, blue))
}

/// The style rules that colour all pictures.
#[must_use]
pub fn palette_css() -> Markup {
    let light: Markup = PALETTE.iter().map(|(name, light, _)| markup!("--{}:{};", name, light)).collect();
    let dark: Markup = PALETTE.iter().map(|(name, _, dark)| markup!("--{}:{};", name, dark)).collect();
    // Paper is white whatever the screen is.
    let mut css = markup!(":root{{{}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{}}}}}\n", light, dark);
    for (name, ..) in PALETTE {
        add!(css, ".f-{}{{fill:var(--{})}}.s-{}{{stroke:var(--{})}}", name, name, name, name);
    }
    for slot in 4..SERIES {
        add!(css, ".s-c{}{{stroke-dasharray:5 2}}", slot);
    }
    add!(css, "\n");
    css
}

/// Where a picture will stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a page that has [`palette_css`] and sets the font.
    Page,
    /// On its own, as a file.
    Alone,
}

/// Draws a picture of `width` by `height`; `title` is what a screen reader says.
///
/// # Errors
/// When plotters does, which on a string it has no reason to.
pub fn picture(
    place: Place,
    title: &str,
    (width, height): (u32, u32),
    draw: impl FnOnce(&Area<SVGBackend<'_>>) -> Result<()>,
) -> Result<Markup> {
    let mut raw = String::new();
    {
        let scale = SCALE as u32;
        let area = SVGBackend::with_string(&mut raw, (width * scale, height * scale)).into_drawing_area();
        draw(&area).with_context(|| format!("draw the picture {title:?}"))?;
        area.present().with_context(|| format!("finish the picture {title:?}"))?;
    }
    finish(place, title, &raw)
}

/// Real coordinates, classes for colours, a title for those who listen, and no size of its own within a page.
fn finish(place: Place, title: &str, raw: &str) -> Result<Markup> {
    let mut out = String::with_capacity(raw.len());
    for piece in raw.split_inclusive('>') {
        let Some(start) = piece.find('<') else {
            out.push_str(piece);
            continue;
        };
        // Only text comes before a tag; plotters puts it, escaped, on a line of its own.
        out.push_str(piece[..start].trim());
        let tag = &piece[start..];
        if tag.starts_with("</") {
            out.push_str(tag);
            // A line for each element keeps differences between two reports readable.
            out.push('\n');
            continue;
        }
        let body = tag.trim_start_matches('<').trim_end_matches('>').trim_end_matches('/').trim_end();
        let closes = tag.ends_with("/>");
        let (name, attributes) = body.split_once(' ').unwrap_or((body, ""));
        out.push('<');
        out.push_str(name);
        let mut classes = Vec::new();
        for (key, value) in pairs(attributes) {
            attribute(place, name, key, value, &mut classes, &mut out)?;
        }
        if !classes.is_empty() {
            write!(out, " class=\"{}\"", classes.join(" "))?;
        }
        if name == "svg" {
            let style =
                if place == Place::Alone { markup!("\n<style>{}</style>", palette_css()) } else { Markup::default() };
            out.push_str(markup!(" role=\"img\">\n<title>{}</title>{}", title, style).as_str());
        } else {
            out.push_str(if closes { "/>" } else { ">" });
        }
        if closes || name == "svg" {
            out.push('\n');
        }
    }
    // What is left of plotters' text is as plotters escaped it.
    Ok(Markup::escaped_elsewhere(out))
}

/// `key="value"` pairs as plotters writes them.
fn pairs(attributes: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = attributes;
    std::iter::from_fn(move || {
        let (key, tail) = rest.split_once("=\"")?;
        let (value, tail) = tail.split_once('"')?;
        rest = tail;
        Some((key.trim(), value))
    })
}

fn attribute(
    place: Place,
    tag: &str,
    key: &str,
    value: &str,
    classes: &mut Vec<String>,
    out: &mut String,
) -> std::fmt::Result {
    match key {
        "fill" | "stroke" => {
            if let Some((name, light, _)) = rgb(value).and_then(Ink::of_token) {
                classes.push(format!("{}-{name}", &key[..1]));
                if place != Place::Page {
                    write!(out, " {key}=\"{light}\"")?;
                }
            } else if key == "fill" || value.starts_with('#') {
                // A stroke without a colour is none; a fill without one must be said.
                write!(out, " {key}=\"{value}\"")?;
            }
        }
        // plotters says everything, the obvious too.
        "opacity" if value == "1" => {}
        "stroke-width" if value == "0" => {}
        "font-family" if place == Place::Page => {}
        "width" | "height" if tag == "svg" && place == Place::Page => {}
        "x" | "y" | "x1" | "y1" | "x2" | "y2" | "cx" | "cy" | "r" | "width" | "height" | "stroke-width"
        | "font-size" | "points" | "viewBox" => {
            write!(out, " {key}=\"{}\"", smaller(value))?;
        }
        _ => write!(out, " {key}=\"{value}\"")?,
    }
    Ok(())
}

/// Every number of a list divided by [`SCALE`], to a tenth.
fn smaller(numbers: &str) -> String {
    let one = |number: &str| match number.parse::<f64>() {
        Ok(n) => ((n / SCALE * 10.0).round() / 10.0).to_string(),
        Err(_) => number.to_owned(),
    };
    let point = |point: &str| point.split(',').map(one).collect::<Vec<_>>().join(",");
    numbers.split_ascii_whitespace().map(point).collect::<Vec<_>>().join(" ")
}

/// A whole coordinate of the large drawing.
fn px(x: f64) -> i32 {
    // Pictures are thousands of pixels wide; `as` saturates beyond.
    (x * SCALE).round() as i32
}

/// How a piece of text stands at its point.
#[derive(Debug, Clone, Copy)]
enum Anchor {
    Start,
    Middle,
    End,
}

/// Size and weight of a piece of text.
#[derive(Debug, Clone, Copy)]
struct Type {
    size: f64,
    bold: bool,
    ink: Ink,
}

const LABEL: Type = Type { size: 12.0, bold: false, ink: Ink::Text };
const QUIET: Type = Type { size: 11.0, bold: false, ink: Ink::Muted };
const HEADING: Type = Type { size: 13.0, bold: true, ink: Ink::Text };

/// Writes `words` with its middle at height `y`.
fn write(area: &Area<impl Surface>, (x, y): (f64, f64), anchor: Anchor, kind: Type, words: &str) -> Result<()> {
    let h = match anchor {
        Anchor::Start => HPos::Left,
        Anchor::Middle => HPos::Center,
        Anchor::End => HPos::Right,
    };
    let font = ("sans-serif", kind.size * SCALE * CSS_SIZE).into_font();
    let font = if kind.bold { font.style(FontStyle::Bold) } else { font };
    let style = font.color(&kind.ink.token()).pos(Pos::new(h, VPos::Center));
    area.draw(&Text::new(escape_controls(words), (px(x), px(y)), style))?;
    Ok(())
}

/// plotters escapes what has a meaning in XML but passes on what XML can't hold.
fn escape_controls(words: &str) -> String {
    escape::one_line(words)
}

fn line(area: &Area<impl Surface>, from: (f64, f64), to: (f64, f64), ink: Ink, width: f64) -> Result<()> {
    let style = ink.token().stroke_width(px(width).unsigned_abs());
    area.draw(&PathElement::new(vec![(px(from.0), px(from.1)), (px(to.0), px(to.1))], style))?;
    Ok(())
}

fn bar(area: &Area<impl Surface>, from: (f64, f64), to: (f64, f64), ink: Ink) -> Result<()> {
    area.draw(&Rectangle::new([(px(from.0), px(from.1)), (px(to.0), px(to.1))], ink.token().filled()))?;
    Ok(())
}

/// A mark: filled where the cell is trusted, hollow where it is not.
fn dot(area: &Area<impl Surface>, (x, y): (f64, f64), radius: f64, ink: Ink, hollow: bool) -> Result<()> {
    let at = (px(x), px(y));
    area.draw(&Circle::new(at, px(radius), ink.token().filled()))?;
    if hollow {
        area.draw(&Circle::new(at, px(radius - 1.5), Ink::Ground.token().filled()))?;
    }
    Ok(())
}

/// About how wide a text is; sans-serif digits and lower case are a little over half as wide as they are high.
fn width_of(words: &str, size: f64) -> f64 {
    words.chars().map(|c| if "ijl.,:;|'()-1 ".contains(c) { 0.36 } else { 0.59 } * size).sum()
}

/// `words`, cut with an ellipsis to fit.
fn fitted(words: &str, size: f64, room: f64) -> String {
    if width_of(words, size) <= room {
        return words.to_owned();
    }
    let mut out = String::new();
    for c in words.chars() {
        out.push(c);
        if width_of(&out, size) + size * 0.8 > room {
            out.pop();
            break;
        }
    }
    out.trim_end().to_owned() + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_in_a_page_has_classes_and_no_colours_or_size() {
        let svg = picture(Place::Page, "a <title>", (100, 50), |area| {
            line(area, (1.0, 2.0), (30.5, 40.2), Ink::Base, 1.5)?;
            write(area, (5.0, 5.0), Anchor::Start, LABEL, "<b>\u{1b}")
        })
        .unwrap();
        let svg = svg.as_str();
        assert!(svg.contains("viewBox=\"0 0 100 50\""), "{svg}");
        assert!(svg.contains("<title>a &lt;title&gt;</title>"), "{svg}");
        assert!(svg.contains("points=\"1,2 30.5,40.2\""), "{svg}");
        assert!(svg.contains("class=\"s-base\""), "{svg}");
        assert!(svg.contains(">&lt;b&gt;·</text>"), "{svg}");
        assert!(svg.contains("font-size=\"12\""), "{svg}");
        assert!(!svg.contains("#0102"), "{svg}");
        assert!(!svg.contains(" width="), "{svg}");
    }

    #[test]
    fn a_picture_alone_brings_its_colours() {
        let svg = picture(Place::Alone, "t", (10, 10), |area| bar(area, (0.0, 0.0), (1.0, 1.0), Ink::Band)).unwrap();
        let svg = svg.as_str();
        assert!(svg.contains("fill=\"#c9d1db\""), "{svg}");
        assert!(svg.contains("<style>"), "{svg}");
        assert!(svg.contains("width=\"10\""), "{svg}");
    }

    #[test]
    fn long_names_are_cut_to_fit() {
        assert_eq!(fitted("runc", 12.0, 100.0), "runc");
        let cut = fitted("qemu-virtio-raw-with-a-very-long-name", 12.0, 100.0);
        assert!(cut.ends_with('…') && width_of(&cut, 12.0) <= 104.0, "{cut}");
    }
}
