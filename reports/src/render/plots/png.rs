//! The forest plot in pixels, for where SVG isn't shown: mail, chat, slides.

use anyhow::{Context as _, Result};
use plotters::prelude::IntoDrawingArea as _;
use png::{BitDepth, ColorType, Encoder, Filter};

use super::Area;
use super::canvas::{Canvas, Pixels};
use super::forest::Forest;
use crate::comparison::Comparison;
use crate::render::Render;

/// Pixels for each of the picture's own: sharp on a screen of twice the density.
const DENSITY: f32 = 2.0;

/// No side is longer, however many workloads there are: viewers and memory have an end.
const LONGEST: f32 = 16_384.0;

/// The format `png`.
#[derive(Debug, Clone, Copy)]
pub struct Png;

impl Render for Png {
    fn render(&self, c: &Comparison) -> Result<Vec<u8>> {
        let forest = Forest::new(c);
        encoded(&pixels(forest.size(), |area| forest.draw(area))?).context("write the picture as PNG")
    }
}

fn pixels((width, height): (u32, u32), draw: impl FnOnce(&Area<Canvas<'_>>) -> Result<()>) -> Result<Pixels> {
    let density = DENSITY.min(LONGEST / width.max(height) as f32);
    let side = |length: u32| (length as f32 * density).ceil() as u32;
    let mut pixels = Pixels::new(side(width), side(height));
    draw(&Canvas::new(&mut pixels, (width, height), density).into_drawing_area()).context("draw the picture")?;
    Ok(pixels)
}

fn encoded(pixels: &Pixels) -> Result<Vec<u8>, png::EncodingError> {
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out, pixels.width, pixels.height);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    // Filters are for photographs: a plot, most of which is one colour, they make larger.
    encoder.set_filter(Filter::NoFilter);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels.bytes)?;
    writer.finish()?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;
    use std::io::Cursor;

    use png::Decoder;

    use super::super::{Anchor, Ink, LABEL, PALETTE, Type, bar, dot, line, rgb, write};
    use super::*;
    use crate::render::sample;

    /// How many pixels of `width` by `height` of a picture are no longer white.
    fn inked(size: (u32, u32), draw: impl FnOnce(&Area<Canvas<'_>>) -> Result<()>) -> usize {
        pixels(size, draw).unwrap().bytes.chunks_exact(3).filter(|pixel| *pixel != [255; 3]).count()
    }

    /// Ink on white, in whole pixels: half of it where a pixel is half covered.
    fn ink(size: (u32, u32), draw: impl FnOnce(&Area<Canvas<'_>>) -> Result<()>) -> f64 {
        let Ok(pixels) = pixels(size, draw) else { panic!("the drawing failed") };
        let (darkest, _, _) = rgb(PALETTE[Ink::Text.slot()].1).unwrap();
        let reds = pixels.bytes.iter().step_by(3).map(|red| f64::from(255 - red));
        reds.sum::<f64>() / f64::from(255 - darkest)
    }

    #[test]
    fn shapes_have_smooth_edges_and_their_size() {
        let size = (40, 40);
        let near = |is: f64, should: f64| assert!((is - should).abs() < should * 0.01, "{is} and not {should}");
        // Four pixels for each of a picture's own.
        near(ink(size, |area| bar(area, (10.0, 10.1), (20.3, 14.4), Ink::Text)), 10.3 * 4.3 * 4.0);
        near(ink(size, |area| line(area, (10.0, 20.0), (30.0, 20.0), Ink::Text, 1.5)), 20.0 * 1.5 * 4.0);
        near(ink(size, |area| line(area, (10.0, 10.0), (22.0, 26.0), Ink::Text, 1.5)), 20.0 * 1.5 * 4.0);
        near(ink(size, |area| dot(area, (20.0, 20.0), 8.0, Ink::Text, false)), PI * 64.0 * 4.0);
        near(ink(size, |area| dot(area, (20.0, 20.0), 8.0, Ink::Text, true)), PI * (64.0 - 6.5 * 6.5) * 4.0);
    }

    #[test]
    fn what_is_beyond_the_picture_is_cut_off() {
        let size = (20, 10);
        let quarter = ink(size, |area| dot(area, (20.0, 10.0), 8.0, Ink::Text, false));
        assert!((quarter - PI * 64.0).abs() < 3.0, "{quarter}");
        let words = |x: f64| ink(size, |area| write(area, (x, 5.0), Anchor::Start, LABEL, "iiiii"));
        assert!(words(16.0) > 0.0 && words(16.0) < words(2.0), "{} and {}", words(16.0), words(2.0));
    }

    #[test]
    fn words_are_drawn_in_our_own_font() {
        let of = |words: &str| {
            let kind = Type { size: 20.0, ..LABEL };
            inked((200, 40), |area| write(area, (10.0, 25.0), Anchor::Start, kind, words))
        };
        assert_eq!(of(""), 0);
        let one = of("overhead 1.02× µs");
        assert!(one > 500 && of("overhead overhead") > one / 2, "{one}");
    }

    #[test]
    fn a_picture_of_everything_has_an_end() {
        let mut c = sample::large();
        let workloads = c.run.workloads.clone();
        (0..40).for_each(|_| c.run.workloads.extend(workloads.clone()));
        let png = Png.render(&c).unwrap();
        let decoder = Decoder::new(Cursor::new(&png)).read_info().unwrap();
        let (width, height) = decoder.info().size();
        assert!(width.max(height) <= LONGEST as u32, "{width}x{height}");
    }
}
