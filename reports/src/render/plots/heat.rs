//! The heat map: when in a run which latencies came, a small panel per environment of a workload.
//!
//! Written by hand rather than with plotters: thousands of cells take a few bytes each as strokes of one path per shade, and
//! a page may have hundreds of panels.

use workloads::timeline;

use super::curves::round;
use super::{LogAxis, log_ticks};
use crate::comparison::{Comparison, Distribution, HeatMap};
use crate::render::markup::{Markup, add, markup};
use crate::render::{units, words};

const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 140.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 4.0;
const TOP: f64 = 5.0;
const BOTTOM: f64 = 18.0;
/// Rows at most and at least: more can't be told apart, and fewer would look like a bar chart.
const ROWS: (u32, u32) = (48, 12);
/// Cells of a panel at most: what exceeds it is noise, and is drawn in coarser rows. Seven bytes each: a page with nine environments
/// and thirty workloads, all of them noise, has 5 MB of them, and in measured runs a fifth of that.
const CELLS: usize = 2400;
/// Shades of the key, from one operation to the most.
pub const SHADES: usize = 6;
/// With more blocks than this, lines between them would be all there is.
const LINES: u32 = 40;

/// All panels of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heat<'a> {
    /// Name of the environment, length of all its bursts in words, and its panel.
    pub panels: Vec<(&'a str, String, Markup)>,
    /// Most operations of any cell: what the darkest shade is.
    pub most: u64,
}

/// Axes and shades, the same in all panels of a workload so that they can be compared at a glance.
#[derive(Debug, Clone, Copy)]
struct Scale {
    /// The lowest size class.
    first: u8,
    /// Size classes in a row.
    merged: u8,
    rows: u32,
    most: u64,
}

/// The panels of a workload, baseline first; `None` where no burst has a timeline.
#[must_use]
pub fn panels<'a>(c: &'a Comparison, workload: &str) -> Option<Heat<'a>> {
    let here: Vec<(&Distribution, &HeatMap)> = words::tried(c)
        .filter_map(|e| c.distribution(workload, &e.plan.name))
        .filter_map(|d| Some((d, d.heat.as_ref()?)))
        .collect();
    let ends: Vec<(u8, u8)> = here.iter().filter_map(|(_, heat)| heat.classes()).collect();
    let (first, last) = (ends.iter().map(|e| e.0).min()?, ends.iter().map(|e| e.1).max()?);
    let span = u32::from(last - first) + 1;
    let of = |merged: u32| {
        let rows = span.div_ceil(merged).max(ROWS.1);
        // The middle of the panel is where the work is.
        let first = u32::from(first).saturating_sub((rows * merged).saturating_sub(span) / 2) as u8;
        Scale { first, merged: merged as u8, rows, most: 1 }
    };
    let fits = |scale: &Scale| scale.rows <= ROWS.0 && here.iter().all(|(_, heat)| cells(heat, *scale).len() <= CELLS);
    let mut scale = [1, 2, 4].map(of).into_iter().find(fits).unwrap_or(of(8));
    scale.most = here.iter().flat_map(|(_, heat)| cells(heat, scale)).map(|cell| cell.2).max()?;
    let panel = |(d, heat): &(&'a Distribution, &HeatMap)| {
        let length = units::duration(heat.length_ns as f64);
        (c.label(&d.environment), length, panel(d, heat, scale))
    };
    Some(Heat { panels: here.iter().map(panel).collect(), most: scale.most })
}

/// Row from below, column and operations of every cell that has some, in this order.
fn cells(heat: &HeatMap, scale: Scale) -> Vec<(u32, u32, u64)> {
    let mut cells: Vec<(u32, u32, u64)> = Vec::new();
    let row = |class: u8| u32::from(class.saturating_sub(scale.first) / scale.merged);
    let mut all: Vec<_> = heat.counts.iter().map(|((class, column), n)| (row(*class), *column, *n)).collect();
    all.sort_unstable();
    for (row, column, count) in all {
        match cells.last_mut() {
            Some(last) if (last.0, last.1) == (row, column) => last.2 += count,
            _ => cells.push((row, column, count)),
        }
    }
    cells
}

/// Logarithmic: one stall and a thousand fast operations are both to be seen.
fn shade(count: u64, most: u64) -> usize {
    if most <= 1 {
        return SHADES - 1;
    }
    let share = (count as f64).ln() / (most as f64).ln();
    ((share * SHADES as f64) as usize).min(SHADES - 1)
}

fn panel(d: &Distribution, heat: &HeatMap, scale: Scale) -> Markup {
    let (width, height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
    let row = height / f64::from(scale.rows);
    // One path per shade; cells of the same shade beside each other are one stroke.
    let mut paths = vec![Markup::default(); SHADES];
    let mut run: Option<(usize, u32, u32, u32)> = None;
    let mut flush = |run: Option<(usize, u32, u32, u32)>| {
        if let Some((shade, row, from, to)) = run {
            add!(paths[shade], "M{} {}h{}", from, scale.rows - 1 - row.min(scale.rows - 1), to - from);
        }
    };
    for (row, column, count) in cells(heat, scale) {
        let own = shade(count, scale.most);
        run = match run {
            Some((shade, same, from, to)) if (shade, same, to) == (own, row, column) => Some((own, row, from, to + 1)),
            last => {
                flush(last);
                Some((own, row, column, column + 1))
            }
        };
    }
    flush(run);
    let mut out = Markup::default();
    add!(
        out,
        "<svg viewBox=\"0 0 {} {}\" role=\"img\">\n<title>{}</title>\n<desc>{}</desc>\n",
        WIDTH,
        HEIGHT,
        format!("When which latencies came in {} on {}", d.workload, d.environment),
        describe(d, heat)
    );
    frame(heat, scale, &mut out);
    let columns = f64::from(heat.columns.max(1));
    add!(out, "<g transform=\"translate({} {:.2})scale({:.4} {:.4})\">\n", LEFT, TOP + row / 2.0, width / columns, row);
    for (shade, path) in paths.iter().enumerate().filter(|(_, path)| !path.as_str().is_empty()) {
        add!(out, "<path class=\"h{}\" d=\"{}\"/>\n", shade + 1, path);
    }
    add!(out, "</g>\n</svg>\n");
    out
}

/// For those who listen.
fn describe(d: &Distribution, heat: &HeatMap) -> String {
    let Some((low, high)) = heat.classes() else { return String::new() };
    let (low, high) = (timeline::bounds(low).0 as f64, timeline::bounds(high).1 as f64);
    let blocks = if heat.blocks == 1 { "1 block".to_owned() } else { format!("{} blocks", heat.blocks) };
    let median = if d.histogram.is_empty() {
        String::new()
    } else {
        format!(", half of them up to {}", units::duration(crate::comparison::quantile(&d.histogram.open(), 0.5)))
    };
    format!(
        "Time from left to right over {blocks}, latency from {} to {} from below{median}; darker where more operations ended.",
        units::duration(low),
        units::duration(high)
    )
}

/// Axes and the lines between blocks.
fn frame(heat: &HeatMap, scale: Scale, out: &mut Markup) {
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    let low = timeline::bounds(scale.first).0 as f64;
    // Four classes are an octave.
    let high = low * 2f64.powf(f64::from(scale.rows * u32::from(scale.merged)) / 4.0);
    let axis = LogAxis { low, high, from: bottom, to: TOP };
    let mut lines = Markup::default();
    for tick in log_ticks(low, high, 4) {
        let y = axis.at(tick);
        add!(lines, "M{} {:.1}H{}", LEFT, y, right);
        let label = round(&units::duration(tick));
        add!(
            out,
            "<text class=\"f-muted\" x=\"{}\" y=\"{:.1}\" font-size=\"10\" text-anchor=\"end\">{}</text>\n",
            LEFT - 5.0,
            (y + 3.5).clamp(TOP + 6.0, bottom),
            label
        );
    }
    if heat.blocks <= LINES {
        for block in 0..=heat.blocks {
            let x = LEFT + (right - LEFT) * f64::from(block) / f64::from(heat.blocks.max(1));
            add!(lines, "M{:.1} {}V{}", x, TOP, bottom);
        }
    }
    add!(out, "<path class=\"s-grid grid\" d=\"{}\"/>\n", lines);
    let y = HEIGHT - 5.0;
    add!(out, "<text class=\"f-muted\" x=\"{}\" y=\"{}\" font-size=\"10\">block 1</text>\n", LEFT, y);
    if heat.blocks > 1 {
        add!(
            out,
            "<text class=\"f-muted\" x=\"{}\" y=\"{}\" font-size=\"10\" text-anchor=\"end\">{}</text>\n",
            right,
            y,
            heat.blocks
        );
    }
}

/// The key to the shades, as an inline picture.
#[must_use]
pub fn key() -> Markup {
    let mut out = markup!("<svg class=\"key\" viewBox=\"0 0 {} 10\" aria-hidden=\"true\">", 14 * SHADES);
    for shade in 0..SHADES {
        add!(out, "<path class=\"h{} swatch\" d=\"M{} 5h13\"/>", shade + 1, 14 * shade);
    }
    add!(out, "</svg>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn every_environment_that_ran_has_a_panel_on_the_same_axes() {
        let c = sample::comparison();
        let heat = panels(&c, "sqlite/commit").unwrap();
        let names: Vec<&str> = heat.panels.iter().map(|p| p.0).collect();
        assert_eq!(names, ["bare", "control", "runc", "gvisor", "qemu", "qemu-unsafe"]);
        let labels = |svg: &str| -> Vec<String> {
            svg.lines().filter(|l| l.contains("text-anchor=\"end\"")).map(str::to_owned).collect()
        };
        assert!(heat.panels.iter().all(|p| labels(p.2.as_str()) == labels(heat.panels[0].2.as_str())));
        assert_eq!(heat.panels[0].1, "1.60 s");
        assert!(panels(&c, "no/such").is_none());
    }

    #[test]
    fn every_cell_is_drawn_once_and_neighbours_share_a_stroke() {
        let c = sample::comparison();
        let heat = c.distribution("sqlite/commit", "runc").unwrap().heat.as_ref().unwrap();
        let svg = &panels(&c, "sqlite/commit").unwrap().panels[2].2;
        let svg = svg.as_str();
        let strokes = svg.split("class=\"h").skip(1).flat_map(|p| p.split('"').nth(2).unwrap().split('M').skip(1));
        let lengths: Vec<u64> = strokes.map(|s| s.split('h').nth(1).unwrap().parse().unwrap()).collect();
        assert_eq!(lengths.iter().sum::<u64>(), heat.counts.len() as u64);
        assert!(lengths.len() < heat.counts.len() / 3, "{} strokes", lengths.len());
    }

    #[test]
    fn shades_are_logarithmic_and_never_off_the_key() {
        assert_eq!([shade(1, 1), shade(1, 1000), shade(1000, 1000)], [SHADES - 1, 0, SHADES - 1]);
        assert_eq!(shade(32, 1000), SHADES / 2);
    }

    #[test]
    fn a_panel_of_noise_stays_small() {
        // The worst case: 120 columns, every size class of three decades, no two neighbours alike.
        let mut c = sample::comparison();
        let d = c.distributions.iter_mut().find(|d| d.workload == "net/rr").unwrap();
        let counts = (0..120_u32).flat_map(|column| (60..100_u8).map(move |class| (class, column)));
        let counts =
            counts.map(|(class, column)| ((class, column), 1 + u64::from((column * 31 + u32::from(class) * 17) % 900)));
        d.heat = Some(HeatMap { blocks: 8, columns: 120, length_ns: 1, counts: counts.collect() });
        let heat = panels(&c, "net/rr").unwrap();
        let size = heat.panels.iter().map(|p| p.2.as_str().len()).max().unwrap();
        assert!(size < 20_000, "{size} bytes");
    }

    #[test]
    fn it_can_be_listened_to() {
        let c = sample::comparison();
        let svg = &panels(&c, "net/paced").unwrap().panels[0].2;
        let svg = svg.as_str();
        assert!(svg.contains("<title>When which latencies came in net/paced on bare</title>"), "{svg}");
        assert!(svg.contains("<desc>Time from left to right over 8 blocks, latency from"), "{svg}");
    }
}
