//! Which run is meant: by an id, a label, or as the latest; and which runs belong together.
//!
//! A run that confirms another one has only what that one couldn't clear. Both are one answer: the first stands for them where a run
//! is asked for, and they are moved and given up together.

use std::collections::BTreeSet;

use super::load::Summary;
use super::{Store, StoreError};
use crate::gate::CONFIRMS;
use crate::record::Ending;
use crate::render::escape::one_line;

/// The label whose value may be cut short: CI gives all 40 digits, and nobody types them.
const COMMIT: &str = "commit=";

/// So much of a commit has to be there: a shorter word is more likely something else.
const LEAST_DIGITS: usize = 4;

type Result<T, E = StoreError> = std::result::Result<T, E>;

impl Summary {
    /// The run that this one confirms.
    #[must_use]
    pub fn confirms(&self) -> Option<&str> {
        self.label(CONFIRMS)
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find_map(|label| label.split_once('=').filter(|(k, _)| *k == key).map(|(_, value)| value))
    }

    fn is_labelled(&self, wanted: &str) -> bool {
        self.labels.iter().any(|l| l == wanted || l.split_once('=').is_some_and(|(_, value)| value == wanted))
    }
}

impl Store {
    /// The id of the run that is meant: `latest`, an id, the beginning of exactly one id, a label (`key=value` or only the
    /// value; of several runs with it the latest), or the beginning of exactly one commit. One that confirms another run is
    /// meant only where no other one can be.
    ///
    /// # Errors
    /// When none or, for a beginning, several are meant, or the store can't be read.
    pub fn find(&self, wanted: &str) -> Result<String> {
        let runs = self.runs()?;
        let latest = || newest(&runs, |_| true).filter(|_| wanted == "latest");
        let exact = || runs.iter().find(|r| r.id == wanted);
        let labelled = || newest(&runs, |r| r.is_labelled(wanted));
        if let Some(run) = latest().or_else(exact).or_else(labelled) {
            return Ok(run.id.clone());
        }
        let begun = begun(&runs, wanted);
        let ids: BTreeSet<&str> = begun.iter().map(|(_, id)| *id).collect();
        match ids.iter().collect::<Vec<_>>().as_slice() {
            [id] => Ok(id.to_string()),
            [] => {
                let hint = match newest(&runs, |_| true) {
                    Some(last) => format!("there are {}, the latest is {}", runs.len(), last.id),
                    None => "it holds no run yet".into(),
                };
                Err(StoreError::NoRun { path: self.path.clone(), wanted: wanted.into(), hint })
            }
            _ => {
                // Labels may come from elsewhere.
                let names: Vec<String> = begun.iter().map(|(name, _)| one_line(name)).collect();
                Err(StoreError::Ambiguous { wanted: wanted.into(), candidates: names.join(", ") })
            }
        }
    }

    /// These runs, each with the one that it confirms before it and those that confirm it behind.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn with_pairs(&self, ids: &[String]) -> Result<Vec<String>> {
        let runs = self.runs()?;
        let mut all: Vec<String> = Vec::new();
        for id in ids {
            let first = runs.iter().find(|r| r.id == *id).map_or(id.as_str(), first_of);
            for run in runs.iter().filter(|r| r.id == first).chain(runs.iter().filter(|r| r.confirms() == Some(first)))
            {
                if !all.contains(&run.id) {
                    all.push(run.id.clone());
                }
            }
        }
        Ok(all)
    }

    /// All runs but the last so many; a run and those that confirm it count as one. What has not ended is left alone.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn older(&self, keep: usize) -> Result<Vec<String>> {
        let runs = self.runs()?;
        let mut firsts: Vec<&str> = Vec::new();
        for run in &runs {
            if !firsts.contains(&first_of(run)) {
                firsts.push(first_of(run));
            }
        }
        let old = &firsts[..firsts.len().saturating_sub(keep)];
        let measured = |first: &str| runs.iter().any(|r| first_of(r) == first && r.ending == Ending::Unfinished);
        let given_up: BTreeSet<&str> = old.iter().copied().filter(|first| !measured(first)).collect();
        Ok(runs.iter().filter(|r| given_up.contains(first_of(r))).map(|r| r.id.clone()).collect())
    }
}

/// The run that it confirms, or itself.
fn first_of(run: &Summary) -> &str {
    run.confirms().unwrap_or(&run.id)
}

fn newest(runs: &[Summary], is: impl Fn(&Summary) -> bool) -> Option<&Summary> {
    let of = |confirming: bool| runs.iter().rev().find(|r| r.confirms().is_some() == confirming && is(r));
    of(false).or_else(|| of(true))
}

/// What begins so: names for people, and ids.
fn begun<'a>(runs: &'a [Summary], wanted: &str) -> Vec<(String, &'a str)> {
    if wanted.is_empty() {
        return Vec::new();
    }
    let ids = runs.iter().filter(|r| r.id.starts_with(wanted)).map(|r| (r.id.clone(), r.id.as_str()));
    let digits = wanted.strip_prefix(COMMIT).unwrap_or(wanted);
    let is = |commit: &&str| digits.chars().count() >= LEAST_DIGITS && commit.starts_with(digits);
    let commits: BTreeSet<&str> = runs.iter().filter_map(|r| r.label("commit")).filter(is).collect();
    let newest = |commit: &str| newest(runs, |r| r.label("commit") == Some(commit));
    let commits = commits.into_iter().filter_map(|c| Some((format!("{COMMIT}{c}"), newest(c)?.id.as_str())));
    ids.chain(commits).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::example::Example;

    fn store(runs: &[(&str, &[(&str, &str)])]) -> Store {
        let store = Store::open(Path::new(":memory:")).expect("a store");
        let mut run = Example { blocks: 1, rounds: 1, seed: 1 }.build().run;
        for (id, labels) in runs {
            run.id = (*id).into();
            run.labels = labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            store.begin(&run).expect("a run");
        }
        store
    }

    fn end(store: &Store, ids: &[&str]) {
        ids.iter().for_each(|id| store.finish(id, Ending::Complete, None, 1.0).expect("the end"));
    }

    fn owned(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| id.to_string()).collect()
    }

    const ONE: &str = "0123456789abcdef0123456789abcdef01234567";
    const TWO: &str = "0123999989abcdef0123456789abcdef01234567";

    #[test]
    fn the_beginning_of_a_commit_is_enough_where_it_is_the_only_one() {
        let s = store(&[
            ("a", &[("commit", ONE)]),
            ("b", &[("commit", TWO)]),
            ("c", &[("commit", ONE)]),
            ("d", &[("branch", "0123456-mend")]),
        ]);
        for (wanted, id) in
            [("commit=0123456", "c"), ("01234567", "c"), ("commit=0123999989ab", "b"), (ONE, "c"), ("01239", "b")]
        {
            assert_eq!(s.find(wanted).expect(wanted), id);
        }
        let error = s.find("commit=0123").expect_err("two commits").to_string();
        assert!(error.contains(&format!("commit={ONE}, commit={TWO}")), "{error}");
        assert!(matches!(s.find("commit=012"), Err(StoreError::NoRun { .. })), "too short");
        assert!(matches!(s.find("branch=0123456"), Err(StoreError::NoRun { .. })), "only commits are cut short");
    }

    #[test]
    fn what_begins_an_id_and_a_commit_is_either() {
        let s = store(&[("0123x", &[]), ("b", &[("commit", ONE)]), ("c", &[("commit", "bad\u{1b}[2J1")])]);
        let error = s.find("0123").expect_err("either").to_string();
        assert!(error.contains(&format!("0123x, commit={ONE}")), "{error}");
        assert_eq!(s.find("0123x").expect("an id"), "0123x");
        let own = store(&[("0123x", &[("commit", ONE)])]);
        assert_eq!(own.find("0123").expect("both say the same"), "0123x");
        let bad = store(&[("a", &[("commit", "bad0\u{1b}[2J1")]), ("b", &[("commit", "bad0\u{1b}[2J2")])]);
        let error = bad.find("bad0").expect_err("two").to_string();
        assert!(!error.contains('\u{1b}'), "{error}");
    }

    #[test]
    fn a_run_that_confirms_another_is_meant_where_it_is_named_and_else_never() {
        let labels: &[(&str, &str)] = &[("commit", ONE)];
        let s = store(&[("a", labels), ("b", labels), ("b2", &[("commit", ONE), ("confirms", "b")])]);
        for (wanted, id) in [("latest", "b"), (ONE, "b"), ("commit=01234", "b"), ("b2", "b2"), ("confirms=b", "b2")] {
            assert_eq!(s.find(wanted).expect(wanted), id);
        }
        let error = s.find("nothing").expect_err("none").to_string();
        assert!(error.contains("there are 3, the latest is b"), "{error}");
        let alone = store(&[("b2", &[("confirms", "b")])]);
        assert_eq!(alone.find("latest").expect("there is no other"), "b2");
    }

    #[test]
    fn a_run_takes_those_that_belong_to_it_along() {
        let s = store(&[("a", &[]), ("b", &[]), ("b2", &[("confirms", "b")]), ("x2", &[("confirms", "gone")])]);
        let with = |ids: &[&str]| s.with_pairs(&owned(ids)).expect("read");
        assert_eq!(with(&["b"]), ["b", "b2"]);
        assert_eq!(with(&["b2", "a", "b"]), ["b", "b2", "a"]);
        assert_eq!(with(&["x2"]), ["x2"]);
    }

    #[test]
    fn what_belongs_together_is_kept_or_given_up_together() {
        let s =
            store(&[("a", &[]), ("a2", &[("confirms", "a")]), ("b", &[]), ("c", &[]), ("c2", &[("confirms", "c")])]);
        end(&s, &["a", "a2", "b", "c"]);
        let older = |keep| s.older(keep).expect("read");
        assert_eq!(older(0), ["a", "a2", "b"], "c is being confirmed");
        end(&s, &["c2"]);
        assert_eq!(older(0), ["a", "a2", "b", "c", "c2"]);
        assert_eq!(older(1), ["a", "a2", "b"]);
        assert_eq!(older(2), ["a", "a2"]);
        assert!(older(3).is_empty() && older(9).is_empty());
    }
}
