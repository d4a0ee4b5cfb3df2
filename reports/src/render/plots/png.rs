//! The forest plot in pixels, for where SVG isn't shown: mail, chat, slides.

use anyhow::{Context as _, Result};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};

use super::Place;
use super::forest::forest_svg;
use crate::comparison::Comparison;
use crate::render::Render;

/// Pixels for each of the picture's own: sharp on a screen of twice the density.
const DENSITY: f32 = 2.0;

/// No side is longer, however many workloads there are: viewers and memory have an end.
const LONGEST: f32 = 16_384.0;

/// Ours, so that the same run has the same picture on every machine, and on one without fonts.
const FONTS: [&[u8]; 2] = [include_bytes!("fonts/roboto-regular.ttf"), include_bytes!("fonts/roboto-bold.ttf")];

/// The format `png`.
#[derive(Debug, Clone, Copy)]
pub struct Png;

impl Render for Png {
    fn render(&self, c: &Comparison) -> Result<Vec<u8>> {
        pixels(forest_svg(Place::Pixels, c)?.as_str())
    }
}

fn pixels(svg: &str) -> Result<Vec<u8>> {
    let mut options = Options::default();
    let fonts = options.fontdb_mut();
    FONTS.iter().for_each(|font| fonts.load_font_data(font.to_vec()));
    fonts.set_sans_serif_family("Roboto");
    let tree = Tree::from_str(svg, &options).context("read our own picture")?;
    let size = tree.size();
    let density = DENSITY.min(LONGEST / size.width().max(size.height()));
    let side = |length: f32| (length * density).ceil() as u32;
    let mut pixmap = Pixmap::new(side(size.width()), side(size.height())).context("a picture of this size")?;
    resvg::render(&tree, Transform::from_scale(density, density), &mut pixmap.as_mut());
    pixmap.encode_png().context("write the picture as PNG")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn words_are_drawn_in_our_own_font() {
        let of = |words: &str| {
            let text = format!("<text x=\"10\" y=\"30\" font-family=\"sans-serif\" font-size=\"20\">{words}</text>");
            let svg = format!("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"200\" height=\"40\">{text}</svg>");
            let png = pixels(&svg).unwrap();
            let pixmap = Pixmap::decode_png(&png).unwrap();
            pixmap.pixels().iter().filter(|p| p.alpha() > 0).count()
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
        let pixmap = Pixmap::decode_png(&png).unwrap();
        assert!(pixmap.width().max(pixmap.height()) <= LONGEST as u32, "{}x{}", pixmap.width(), pixmap.height());
    }
}
