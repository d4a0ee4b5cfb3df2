//! Settings with their values, as suites, wire and store keep them: complete, valid, text.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::{SettingError, nearest};
use super::setting::Setting;
use super::value::Value;

/// The values of all settings of one workload or runner: complete, valid, in their canonical notation (bytes as plain digits).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// The same, with another value for one that is there already.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        if let Some(old) = self.0.get_mut(name) {
            *old = value.to_string();
        }
        self
    }

    /// Checks `given` against `known` and fills in the defaults.
    ///
    /// # Errors
    /// For an unknown name, a value of the wrong type, or one out of bounds.
    pub fn resolve(known: &[Setting], given: &BTreeMap<String, String>) -> Result<Self, SettingError> {
        for name in given.keys() {
            if !known.iter().any(|s| s.name == name) {
                let names: Vec<_> = known.iter().map(|s| s.name).collect();
                return Err(SettingError::Unknown {
                    name: name.clone(),
                    nearest: nearest(name, names.iter().copied()),
                    known: names,
                });
            }
        }
        let mut values = BTreeMap::new();
        for setting in known {
            let text = given.get(setting.name).map_or(setting.default, String::as_str);
            values.insert(setting.name.to_string(), setting.canonical(text)?);
        }
        Ok(Self(values))
    }

    /// The same from pairs that are known to be right, for tests.
    ///
    /// # Panics
    /// When they are not.
    pub fn of(known: &[Setting], given: &[(&str, &str)]) -> Self {
        let given = given.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Self::resolve(known, &given).unwrap_or_else(|e| panic!("{e}"))
    }

    /// The value of one of the settings that these were resolved against; [`crate::settings!`] calls it for every field.
    ///
    /// # Panics
    /// When it isn't among those: a mistake in the code that asks.
    pub fn read<T: Value>(&self, setting: &Setting) -> T {
        T::parse(self.get(setting.name))
    }

    /// The value of a setting, in canonical notation. Private, so that nothing but a declaration looks a setting up by its name:
    /// a name that is mistyped, or a word of another type, doesn't compile.
    fn get(&self, name: &str) -> &str {
        self.0.get(name).unwrap_or_else(|| panic!("setting `{name}` was not declared"))
    }

    /// Name and value of each setting, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }
}

impl fmt::Display for Settings {
    /// `key=value,key=value`, as `--env` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (k, v)) in self.0.iter().enumerate() {
            write!(f, "{}{k}={v}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{CommandLine, Kind};

    const KNOWN: &[Setting] = &[
        Setting { name: "journal", kind: Kind::Choice(&["wal", "delete"]), default: "wal", about: "" },
        Setting { name: "size", kind: Kind::Bytes { min: 4096, max: 1 << 30 }, default: "16MiB", about: "" },
    ];

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn defaults_are_filled_in_and_bytes_are_canonical() {
        let s = Settings::resolve(KNOWN, &given(&[])).expect("defaults resolve");
        assert_eq!(s.to_string(), "journal=wal,size=16777216");
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest() {
        let e = Settings::resolve(KNOWN, &given(&[("jornal", "wal")])).expect_err("unknown");
        assert_eq!(e.to_string(), "unknown setting `jornal`; did you mean `journal`?");
    }

    #[test]
    fn the_examples_of_a_time_are_among_those_that_it_may_be() {
        let refused = |min, max| {
            let known = [Setting { name: "period", kind: Kind::Duration { min, max }, default: "1ms", about: "" }];
            Settings::resolve(&known, &given(&[("period", "1h")])).expect_err("too long").to_string()
        };
        assert_eq!(refused(1_000_000, 1_000_000_000), "`period` can't be `1h`: a time from 1ms to 1s, as in 100ms");
        assert_eq!(
            refused(0, 60_000_000_000),
            "`period` can't be `1h`: a time from 0s to 1m, as in 500us, 100ms or 2s"
        );
        assert_eq!(refused(1_000, 2_000), "`period` can't be `1h`: a time from 1us to 2us");
    }

    #[test]
    fn a_value_out_of_bounds_says_the_bounds() {
        let e = Settings::resolve(KNOWN, &given(&[("size", "1")])).expect_err("too small");
        assert!(e.to_string().starts_with("`size` can't be `1`: a size from 4"), "{e}");
    }

    const BOX: &[Setting] = &[
        Setting { name: "command", kind: Kind::Command(&["run", "id"]), default: "", about: "" },
        Setting { name: "host", kind: Kind::Word, default: "", about: "" },
        Setting { name: "peer", kind: Kind::Address, default: "", about: "" },
    ];

    #[test]
    fn a_command_is_split_by_quotes_and_filled_in() {
        let words = |text: &str| {
            let s = Settings::resolve(BOX, &given(&[("command", text)])).expect("a command");
            let line = CommandLine::parse(s.get("command"));
            line.filled(&[("run", &["/a b".into(), "agent".into()]), ("id", &["x{run}".into()])])
        };
        assert_eq!(words("enter 'my box' {run}"), ["enter", "my box", "/a b", "agent"]);
        assert_eq!(words("sh -c '{run}; $(rm {id})'"), ["sh", "-c", "/a b agent; $(rm x{run})"]);
        assert_eq!(
            words("docker inspect --format '{{.State}}' {id}"),
            ["docker", "inspect", "--format", "{{.State}}", "x{run}"]
        );
        assert!(words("").is_empty());
    }

    #[test]
    fn a_command_that_names_nothing_known_is_refused() {
        let e = |text: &str| Settings::resolve(BOX, &given(&[("command", text)])).expect_err("refused").to_string();
        assert!(
            e("enter {runn}").contains("{runn} stands for nothing; there are {run}, {id}"),
            "{}",
            e("enter {runn}")
        );
        assert!(e("enter 'box").contains("quotes"), "{}", e("enter 'box"));
    }

    #[test]
    fn a_word_can_be_no_option_and_an_address_is_one() {
        let refused = |k: &str, v: &str| Settings::resolve(BOX, &given(&[(k, v)])).is_err();
        assert!(refused("host", "-oProxyCommand=x") && refused("host", "a b") && refused("host", "$(x)"));
        assert!(!refused("host", "me@fe80::1%eth0") && !refused("host", ""));
        assert!(refused("peer", "localhost") && !refused("peer", "2001:2::1") && !refused("peer", ""));
    }
}
