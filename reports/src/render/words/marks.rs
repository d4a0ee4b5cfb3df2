//! Flags for readers of text: those that differ in one figure of their evidence alone are one, with the least and the most.

use super::NAMED;
use crate::comparison::Comparison;
use crate::render::units;

/// A flag, and where it was raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told<'a> {
    /// Its name.
    pub name: &'static str,
    /// Environments, by the names that a reader knows, in the order of the report.
    environments: Vec<&'a str>,
    /// Workloads, in the same order.
    workloads: Vec<&'a str>,
    /// All that was said of it, without repetitions: they differ in one figure at most.
    evidence: Vec<&'a str>,
}

impl Told<'_> {
    /// Whether this is where such a flag is told.
    #[must_use]
    pub fn tells(&self, name: &str, evidence: &str) -> bool {
        self.name == name && self.evidence.contains(&evidence)
    }

    /// What was seen: where a figure differs, from the least to the most.
    #[must_use]
    pub fn evidence(&self) -> String {
        let all: Vec<Vec<Part>> = self.evidence.iter().map(|text| parts(text)).collect();
        let part = |at: usize| {
            let of = all.iter().map(|parts| parts[at]);
            let (least, most) = (of.clone().min_by(Part::compare)?, of.max_by(Part::compare)?);
            let range = || format!("{} to {}", least.text(), most.text());
            Some(if least.text() == most.text() { least.text().into() } else { range() })
        };
        (0..all[0].len()).filter_map(part).collect()
    }

    /// Where: the environments, and the workload if it is one.
    #[must_use]
    pub fn place(&self) -> String {
        let environments = match self.environments.len() {
            n if n > NAMED => format!("{n} environments"),
            _ => self.environments.join(", "),
        };
        if let [workload] = self.workloads[..] { format!("{environments} in {workload}") } else { environments }
    }

    fn fits(&self, name: &str, evidence: &str) -> bool {
        let all: Vec<&str> = self.evidence.iter().copied().chain([evidence]).collect();
        self.name == name && differ_in_one(&all)
    }
}

/// The flags that cast a doubt on a cell, by name.
#[must_use]
pub fn marks(c: &Comparison) -> Vec<Told<'_>> {
    let mut all: Vec<Told> = Vec::new();
    for cell in c.control.iter().chain(&c.cells) {
        for flag in cell.marks() {
            let at = all.iter().position(|told| told.fits(flag.name, &flag.evidence)).unwrap_or_else(|| {
                all.push(Told { name: flag.name, environments: vec![], workloads: vec![], evidence: vec![] });
                all.len() - 1
            });
            once(&mut all[at].environments, c.label(&cell.environment));
            once(&mut all[at].workloads, &cell.workload);
            once(&mut all[at].evidence, &flag.evidence);
        }
    }
    all.sort_by_key(|told| told.name);
    all
}

/// Adds what a list hasn't yet.
pub fn once<'a>(list: &mut Vec<&'a str>, item: &'a str) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// A piece of evidence.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part<'a> {
    Words(&'a str),
    Figure(&'a str, f64),
}

impl<'a> Part<'a> {
    fn text(&self) -> &'a str {
        match self {
            Self::Words(text) | Self::Figure(text, _) => text,
        }
    }

    fn compare(one: &Self, other: &Self) -> std::cmp::Ordering {
        let value = |part: &Self| if let Self::Figure(_, value) = part { *value } else { 0.0 };
        value(one).total_cmp(&value(other))
    }
}

/// Words and figures. A figure stands alone: digits of a name are words.
fn parts(text: &str) -> Vec<Part<'_>> {
    text.split_inclusive(' ')
        .flat_map(|word| {
            let before = word.len() - word.trim_start_matches('(').len();
            let figure = word[before..].trim_end_matches(|c: char| !c.is_ascii_digit());
            let (open, close) = (&word[..before], &word[before + figure.len()..]);
            match figure.parse().ok().filter(|_| figure.starts_with(|c: char| c.is_ascii_digit())) {
                Some(value) if !close.contains(char::is_alphanumeric) => {
                    [Some(Part::Words(open)), Some(Part::Figure(figure, value)), Some(Part::Words(close))]
                }
                _ => [Some(Part::Words(word)), None, None],
            }
        })
        .flatten()
        .collect()
}

/// What a text says, whatever its figures are, and so their units.
pub fn without_figures(text: &str) -> Vec<&str> {
    let words =
        parts(text).into_iter().filter_map(|part| if let Part::Words(words) = part { Some(words) } else { None });
    words.filter(|words| !units::is_unit(words.trim_end_matches(|c: char| !c.is_alphanumeric()))).collect()
}

/// Whether texts have the same words, and the same figures but for one.
fn differ_in_one(texts: &[&str]) -> bool {
    let all: Vec<Vec<Part>> = texts.iter().map(|text| parts(text)).collect();
    let first = &all[0];
    let same = |one: &Part, other: &Part| match (one, other) {
        (Part::Words(one), Part::Words(other)) => one == other,
        (Part::Figure(..), Part::Figure(..)) => true,
        _ => false,
    };
    let alike = |parts: &Vec<Part>| parts.len() == first.len() && first.iter().zip(parts).all(|(a, b)| same(a, b));
    let differs = |at: &usize| all.iter().any(|parts| parts[*at].text() != first[*at].text());
    all.iter().all(alike) && (0..first.len()).filter(differs).count() <= 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::{Flag, Severity};
    use crate::render::sample;

    fn told(evidence: &[&str]) -> Vec<String> {
        let mut c = sample::comparison();
        c.control.clear();
        c.cells.truncate(evidence.len());
        for (cell, evidence) in c.cells.iter_mut().zip(evidence) {
            cell.flags = vec![Flag { name: "steal", severity: Severity::Doubt, evidence: (*evidence).into() }];
        }
        marks(&c).iter().map(Told::evidence).collect()
    }

    #[test]
    fn flags_that_differ_in_one_figure_are_one_with_the_least_and_the_most() {
        let steal = ["9.5 % of the host's CPU time on average", "10.5 % of the host's CPU time on average"];
        assert_eq!(told(&steal), ["9.5 to 10.5 % of the host's CPU time on average"]);
        assert_eq!(told(&[steal[0], steal[0]]), [steal[0]]);
        assert_eq!(told(&["3 of 64 ended (4), soon", "3 of 64 ended (12), soon"]), ["3 of 64 ended (4 to 12), soon"]);
    }

    #[test]
    fn others_are_told_one_by_one() {
        for evidence in [
            ["2 of 3 bursts", "4 of 5 bursts"],       // which 2 belongs to which 3 would be lost
            ["data on vda1", "data on vda2"],         // a name
            ["it took 5 ms", "it took 5 s"],          // another unit
            ["reached over 10.0.0.1", "over 10.0.0"], // other words
            ["10.0.0.1 answers", "10.0.0.2 answers"], // no figure
            ["5ms between two", "6ms between two"],   // no figure that stands alone
        ] {
            assert_eq!(told(&evidence), evidence);
        }
    }

    #[test]
    fn a_long_list_of_environments_is_counted() {
        let c = sample::comparison();
        let mut told = marks(&c).remove(0);
        (told.environments, told.workloads) = (vec!["a", "b"], vec!["w"]);
        assert_eq!(told.place(), "a, b in w");
        told.environments = vec!["a"; NAMED + 1];
        told.workloads.push("x");
        assert_eq!(told.place(), format!("{} environments", NAMED + 1));
    }
}
