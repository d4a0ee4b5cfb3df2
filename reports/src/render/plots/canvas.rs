//! Pixels to draw a picture on, with smooth edges: what plotters' own pixels don't have.

use std::f32::consts::TAU;
use std::io;

use ab_glyph::{Font as _, FontRef, ScaleFont as _};
use ab_glyph_rasterizer::{Point, Rasterizer, point};
use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind, FontStyle, rasterizer,
};

use super::{CSS_SIZE, Ink, SCALE};

type Drawn = Result<(), DrawingErrorKind<io::Error>>;

/// Shades of an edge: the eye sees no more, and the file is much smaller than with all that there could be.
const SHADES: f32 = 16.0;

/// Corners of the polygon that stands for a circle: marks are some ten pixels wide.
const CORNERS: u16 = 48;

/// Ours, so that the same run has the same picture on every machine, and on one without fonts.
#[derive(Debug)]
struct Fonts {
    regular: FontRef<'static>,
    bold: FontRef<'static>,
}

impl Fonts {
    fn ours() -> Self {
        let font = |bytes| FontRef::try_from_slice(bytes).expect("a font that is part of the program can be read");
        Self {
            regular: font(include_bytes!("fonts/roboto-regular.ttf")),
            bold: font(include_bytes!("fonts/roboto-bold.ttf")),
        }
    }
}

/// Red, green and blue of every pixel.
#[derive(Debug)]
pub(super) struct Pixels {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) bytes: Vec<u8>,
}

impl Pixels {
    /// White all over.
    pub(super) fn new(width: u32, height: u32) -> Self {
        Self { width, height, bytes: vec![u8::MAX; width as usize * height as usize * 3] }
    }

    /// Lays `colour` over a pixel of which `share` is covered. Beyond the picture is nothing.
    fn cover(&mut self, x: i64, y: i64, colour: BackendColor, share: f32) {
        if !(0..i64::from(self.width)).contains(&x) || !(0..i64::from(self.height)).contains(&y) {
            return;
        }
        let first = (y as usize * self.width as usize + x as usize) * 3;
        let share = (share.min(1.0) * SHADES).round() / SHADES * colour.alpha as f32;
        let (red, green, blue) = colour.rgb;
        for (below, above) in self.bytes[first..first + 3].iter_mut().zip([red, green, blue]) {
            let mixed = f32::from(*below) * (1.0 - share) + f32::from(above) * share;
            *below = mixed.round() as u8;
        }
    }
}

/// What plotters draws on: the large drawing, `scale` pixels for each of its own.
pub(super) struct Canvas<'a> {
    pixels: &'a mut Pixels,
    /// Size of the large drawing.
    size: (u32, u32),
    scale: f32,
    fonts: Fonts,
}

impl<'a> Canvas<'a> {
    /// A picture of `width` by `height`, with `density` pixels for each of its own.
    pub(super) fn new(pixels: &'a mut Pixels, (width, height): (u32, u32), density: f32) -> Self {
        let large = SCALE as u32;
        Self { pixels, size: (width * large, height * large), scale: density / SCALE as f32, fonts: Fonts::ours() }
    }

    fn at(&self, (x, y): BackendCoord) -> Point {
        point(x as f32 * self.scale, y as f32 * self.scale)
    }

    /// Fills the polygon.
    fn fill(&mut self, corners: &[Point], colour: BackendColor) {
        let colour = coloured(colour);
        let edge = |of: fn(&Point) -> f32, end: u32| {
            let inside = move |x: f32| x.clamp(0.0, end as f32);
            let low = corners.iter().map(of).fold(f32::INFINITY, f32::min);
            let high = corners.iter().map(of).fold(f32::NEG_INFINITY, f32::max);
            (inside(low.floor()), inside(high.ceil()))
        };
        let (left, right) = edge(|p| p.x, self.pixels.width);
        let (top, bottom) = edge(|p| p.y, self.pixels.height);
        let mut shape = Rasterizer::new((right - left) as usize, (bottom - top) as usize);
        let within = |p: &Point| point(p.x.clamp(left, right) - left, p.y.clamp(top, bottom) - top);
        for (from, to) in corners.iter().zip(corners.iter().cycle().skip(1)) {
            shape.draw_line(within(from), within(to));
        }
        shape.for_each_pixel_2d(|x, y, share| {
            self.pixels.cover(left as i64 + i64::from(x), top as i64 + i64::from(y), colour, share);
        });
    }
}

/// The style's colour, on light where a token stands for it.
fn coloured(colour: BackendColor) -> BackendColor {
    BackendColor { rgb: Ink::light_of(colour.rgb).unwrap_or(colour.rgb), ..colour }
}

/// What isn't drawn here plotters makes of what is.
impl DrawingBackend for Canvas<'_> {
    type ErrorType = io::Error;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, colour: BackendColor) -> Drawn {
        self.draw_rect((x, y), (x + 1, y + 1), &colour, true)
    }

    fn draw_rect<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S, fill: bool) -> Drawn {
        if !fill {
            return rasterizer::draw_rect(self, from, to, style, fill);
        }
        self.fill_polygon([from, (to.0, from.1), to, (from.0, to.1)], style)
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, corners: I, style: &S) -> Drawn {
        let corners = corners.into_iter().map(|corner| self.at(corner)).collect::<Vec<_>>();
        self.fill(&corners, style.color());
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(&mut self, centre: BackendCoord, radius: u32, style: &S, fill: bool) -> Drawn {
        if !fill {
            return rasterizer::draw_circle(self, centre, radius, style, fill);
        }
        let (centre, radius) = (self.at(centre), radius as f32 * self.scale);
        let corner = |n: u16| (f32::from(n) / f32::from(CORNERS) * TAU).sin_cos();
        let corners = (0..CORNERS).map(corner).map(|(sin, cos)| centre + point(cos * radius, sin * radius));
        self.fill(&corners.collect::<Vec<_>>(), style.color());
        Ok(())
    }

    /// Words stand as SVG's do; no picture turns them.
    fn draw_text<S: BackendTextStyle>(&mut self, words: &str, style: &S, at: BackendCoord) -> Drawn {
        let font = if matches!(style.style(), FontStyle::Bold) { &self.fonts.bold } else { &self.fonts.regular };
        let em = (style.size() / CSS_SIZE) as f32 * self.scale;
        let no_size = || DrawingErrorKind::FontError("our own font doesn't say how large it is".into());
        // A pixel is three quarters of a point.
        let font = font.as_scaled(font.pt_to_px_scale(em * 0.75).ok_or_else(no_size)?);
        let mut width = 0.0;
        let mut before = None;
        let mut glyphs = Vec::with_capacity(words.len());
        for glyph in words.chars().map(|c| font.glyph_id(c)) {
            width += before.map_or(0.0, |before| font.kern(before, glyph));
            glyphs.push((glyph, width));
            width += font.h_advance(glyph);
            before = Some(glyph);
        }
        let Point { x, y } = self.at(at);
        let left = match style.anchor().h_pos {
            HPos::Left => x,
            HPos::Center => x - width / 2.0,
            HPos::Right => x - width,
        };
        // An x is about half as high as an em.
        let baseline = match style.anchor().v_pos {
            VPos::Top => y + em * 0.76,
            VPos::Center => y + em * 0.25,
            VPos::Bottom => y - em * 0.25,
        };
        let colour = coloured(style.color());
        for (glyph, offset) in glyphs {
            let placed = glyph.with_scale_and_position(font.scale(), point(left + offset, baseline));
            // A space has no outline.
            let Some(outline) = font.outline_glyph(placed) else { continue };
            let corner = outline.px_bounds().min;
            outline.draw(|x, y, share| {
                self.pixels.cover(corner.x as i64 + i64::from(x), corner.y as i64 + i64::from(y), colour, share);
            });
        }
        Ok(())
    }
}
