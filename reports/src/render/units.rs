//! Numbers as people read them: three significant digits, a unit, and ratios as precise as their interval allows.

/// Stands where there is no number.
pub const NONE: &str = "-";

/// A limit, a divisor and a unit: a number below the limit is told in the unit.
type Step = (f64, f64, &'static str);

const TIMES: [Step; 4] = [(999.5, 1.0, "ns"), (999.5e3, 1e3, "µs"), (999.5e6, 1e6, "ms"), (f64::INFINITY, 1e9, "s")];

const KIB: f64 = 1024.0;
const BYTES: [Step; 5] = [
    (KIB, 1.0, "B"),
    (999.5 * KIB, KIB, "KiB"),
    (999.5 * KIB * KIB, KIB * KIB, "MiB"),
    (999.5 * KIB * KIB * KIB, KIB * KIB * KIB, "GiB"),
    (f64::INFINITY, KIB * KIB * KIB * KIB, "TiB"),
];

/// Whether a word is a unit of a [`duration`] or of [`bytes`].
#[must_use]
pub fn is_unit(word: &str) -> bool {
    TIMES.iter().chain(&BYTES).any(|(.., unit)| *unit == word)
}

/// Three significant digits, without exponent: `1.23`, `12.3`, `123`, `1234`.
#[must_use]
pub fn three(x: f64) -> String {
    let size = x.abs();
    // The limits are where rounding would add a digit: 9.996 is `10.0`, not `10.00`.
    let decimals = if size < 9.995 {
        2
    } else if size < 99.95 {
        1
    } else {
        0
    };
    minus(format!("{x:.decimals$}"))
}

/// Without the sign of a negative zero, and with a real minus sign for everything below.
fn minus(text: String) -> String {
    match text.strip_prefix('-') {
        Some(digits) if digits.chars().all(|c| c == '0' || c == '.') => digits.to_owned(),
        Some(digits) => format!("\u{2212}{digits}"),
        None => text,
    }
}

/// `value` in the first of `steps` it is under; the last one has no limit.
fn scaled(value: f64, steps: &[Step]) -> String {
    let fits = steps.iter().find(|(limit, ..)| value.abs() < *limit).or(steps.last());
    fits.map_or_else(|| NONE.to_owned(), |(_, divisor, unit)| format!("{} {unit}", three(value / divisor)))
}

/// Nanoseconds: `812 ns`, `14.2 µs`, `3.10 ms`, `1.25 s`.
#[must_use]
pub fn duration(ns: f64) -> String {
    if !ns.is_finite() {
        return NONE.to_owned();
    }
    // A histogram counts whole nanoseconds: below a microsecond decimals would be invented, except in a mean of few.
    if ns.abs() < 999.5 && (ns.abs() >= 10.0 || ns.fract() == 0.0) {
        return format!("{} ns", minus(format!("{ns:.0}")));
    }
    scaled(ns, &TIMES)
}

/// Bytes, in powers of 1024: `512 B`, `3.20 MiB`.
#[must_use]
pub fn bytes(n: f64) -> String {
    if !n.is_finite() {
        return NONE.to_owned();
    }
    if n.abs() < KIB {
        return format!("{} B", minus(format!("{n:.0}")));
    }
    scaled(n, &BYTES)
}

/// Bytes per second, in powers of 1000, as disks and networks are sold: `812 MB/s`.
#[must_use]
pub fn bytes_per_second(n: f64) -> String {
    if !n.is_finite() {
        return NONE.to_owned();
    }
    scaled(n, &[(999.5, 1.0, "B/s"), (999.5e3, 1e3, "kB/s"), (999.5e6, 1e6, "MB/s"), (f64::INFINITY, 1e9, "GB/s")])
}

/// Operations per second: `812 op/s`, `14.2 kop/s`, `3.10 Mop/s`.
#[must_use]
pub fn per_second(n: f64) -> String {
    if !n.is_finite() {
        return NONE.to_owned();
    }
    scaled(n, &[(999.5, 1.0, "op/s"), (999.5e3, 1e3, "kop/s"), (999.5e6, 1e6, "Mop/s"), (f64::INFINITY, 1e9, "Gop/s")])
}

/// A formatted number with a plus sign unless it is negative, zero or absent: `+310 µs`.
#[must_use]
pub fn signed(text: String) -> String {
    let positive = text.chars().any(|c| c.is_ascii_digit() && c != '0');
    if positive && !text.starts_with('\u{2212}') { format!("+{text}") } else { text }
}

/// A share as a percentage: `0.031` is `3.1 %`.
#[must_use]
pub fn percent(share: f64) -> String {
    if !share.is_finite() {
        return NONE.to_owned();
    }
    let value = share * 100.0;
    let decimals = usize::from(value.abs() < 9.95);
    format!("{} %", minus(format!("{value:.decimals$}")))
}

/// A bound as a percentage, rounded up so that it still holds: `0.031` is `4 %`, and nothing is bounded by less than `1 %`.
#[must_use]
pub fn percent_above(share: f64) -> String {
    // What rounding makes of 0.04 must not become 5 %.
    percent((share * 100.0 - 1e-9).ceil().max(1.0) / 100.0).replace(".0 ", " ")
}

/// A whole number in groups of three: `1 234 567`, with narrow no-break spaces.
#[must_use]
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3 * 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// So many of something that an s makes several of: `1 block`, `2 blocks`.
pub fn number_of(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// How many decimals a ratio deserves: one significant digit of its interval's half-width, two of itself, three at most.
fn ratio_decimals(value: f64, interval: Option<(f64, f64)>) -> usize {
    // Near 1 the side that an end is on must show.
    let of_itself = if value.abs() < 1.995 {
        2
    } else if value.abs() < 9.95 {
        1
    } else {
        0
    };
    match interval {
        Some((low, high)) if (high - low).is_finite() => {
            let half = ((high - low) / 2.0).max(1e-3);
            // Between 0 and 3 by the bound above and the clamp.
            let decimals = (-half.log10().floor()).clamp(0.0, 3.0) as usize;
            decimals.max(of_itself)
        }
        _ if value.abs() < 9.95 => 2,
        _ if value.abs() < 99.5 => 1,
        _ => 0,
    }
}

/// A ratio: `3.12×`, as precise as the interval allows.
#[must_use]
pub fn ratio(value: f64, interval: Option<(f64, f64)>) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    format!("{value:.*}×", ratio_decimals(value, interval))
}

/// The interval of a ratio, in the decimals of [`ratio`]: `2.94–3.36`.
#[must_use]
pub fn interval(value: f64, (low, high): (f64, f64)) -> String {
    let decimals = ratio_decimals(value, Some((low, high)));
    format!("{low:.decimals$}–{high:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_change_unit_where_rounding_would_need_a_fourth_digit() {
        let cases = [
            (0.0, "0 ns"),
            (24.0, "24 ns"),
            (3.5, "3.50 ns"),
            (999.4, "999 ns"),
            (999.6, "1.00 µs"),
            (14_234.0, "14.2 µs"),
            (999_600.0, "1.00 ms"),
            (8.0e6, "8.00 ms"),
            (-310_000.0, "−310 µs"),
            (1.25e9, "1.25 s"),
            (61e9, "61.0 s"),
            (f64::NAN, "-"),
        ];
        for (ns, text) in cases {
            assert_eq!(duration(ns), text);
        }
    }

    #[test]
    fn rates_and_sizes_carry_their_unit() {
        assert_eq!(bytes_per_second(812.4e6), "812 MB/s");
        assert_eq!(per_second(14_200.0), "14.2 kop/s");
        assert_eq!(per_second(95.25), "95.2 op/s");
        assert_eq!(bytes(512.0 * 1024.0 * 1024.0), "512 MiB");
        assert_eq!(bytes(17.0), "17 B");
        assert_eq!(percent(0.0312), "3.1 %");
        assert_eq!(percent(0.25), "25 %");
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(count(42), "42");
    }

    #[test]
    fn signs_are_shown_where_there_is_a_change() {
        assert_eq!(signed(duration(310_000.0)), "+310 µs");
        assert_eq!(signed(duration(-310_000.0)), "−310 µs");
        assert_eq!(signed(duration(0.0)), "0 ns");
        assert_eq!(signed(duration(-0.2)), "−0.20 ns");
        assert_eq!(signed(NONE.to_owned()), "-");
    }

    #[test]
    fn a_ratio_is_as_precise_as_its_interval() {
        let both = |v, i| format!("{} ({})", ratio(v, Some(i)), interval(v, i));
        assert_eq!(both(3.1234, (2.94, 3.36)), "3.1× (2.9–3.4)");
        assert_eq!(both(1.0041, (1.0012, 1.0068)), "1.004× (1.001–1.007)");
        assert_eq!(both(31.2, (26.0, 36.0)), "31× (26–36)");
        assert_eq!(both(1.024, (0.98, 1.06)), "1.02× (0.98–1.06)");
        assert_eq!(both(1.1, (0.99, 1.21)), "1.10× (0.99–1.21)");
        assert_eq!(ratio(3.1234, None), "3.12×");
        assert_eq!(ratio(412.7, None), "413×");
        assert_eq!(ratio(f64::INFINITY, None), "-");
    }
}
