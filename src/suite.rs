//! Suites: what a TOML file may say, read with the line and the nearest known key in every error.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use runners::host::{IoLimits, LinkLimits, Resources};
use runners::names::hash;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use workloads::load::Load;
use workloads::settings::{Kind, nearest};

/// The suites that are compiled in: name and text.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("quick", include_str!("suites/quick.toml")),
    ("standard", include_str!("suites/standard.toml")),
    ("boxes", include_str!("suites/boxes.toml")),
    ("story", include_str!("suites/story.toml")),
    ("explain", include_str!("suites/explain.toml")),
    ("full", include_str!("suites/full.toml")),
];

/// Environments x workloads x how to measure, as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Suite {
    /// Built-in name or path.
    pub name: String,
    /// One sentence.
    pub description: String,
    /// The environment that the others are divided by.
    pub baseline: String,
    /// Fresh starts of every environment.
    pub blocks: u32,
    /// Bursts per block, workload and environment.
    pub rounds: u32,
    /// Length of a burst on the baseline.
    pub burst: Duration,
    /// A slow environment's burst ends after this and does fewer operations.
    pub burst_max: Duration,
    /// A fixed number of operations instead of a pilot.
    pub operations: Option<u64>,
    /// New blocks are not begun after this.
    pub budget: Option<Duration>,
    /// No more blocks than it takes until the intervals reach no further than this to either side.
    pub until: Option<Percent>,
    /// Limits for every environment.
    pub resources: Resources,
    /// How some of its environments lead from the baseline to another.
    pub explains: Option<Explains>,
    /// In the order of the file.
    pub environments: Vec<Entry>,
    /// In the order of the file.
    pub workloads: Vec<Entry>,
}

/// A ladder of environments, which a report then draws: `[explains]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Explains {
    /// Names of environments from the baseline to the one that is explained.
    pub rungs: Vec<String>,
    /// Names of environments that differ from that one in one setting each.
    pub alternatives: Vec<String>,
    /// What there is no environment for, and why, one line each.
    pub left_out: Vec<String>,
}

/// A share, as in `3%`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percent(f64);

impl Percent {
    /// 0.03 for 3 %.
    pub fn share(self) -> f64 {
        self.0 / 100.0
    }
}

impl std::str::FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').and_then(|n| n.trim().parse::<f64>().ok());
        let share = number.filter(|n| (0.1..=50.0).contains(n));
        share.map(Self).ok_or_else(|| format!("`{text}`, but must be from 0.1% to 50%, as in 3%"))
    }
}

impl std::fmt::Display for Percent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// A named environment or workload with what was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the suite.
    pub name: String,
    /// The runner or workload, where it is not the name.
    pub of: Option<String>,
    /// Settings as written; a table `disk = { cache = "none" }` is `disk.cache`.
    pub settings: BTreeMap<String, String>,
    /// Of an environment: who works beside it while it is measured.
    pub neighbour: Option<Neighbour>,
}

/// A tenant beside an environment: `neighbour = { environment = "runc", workload = "disk/fsync", rate = 500 }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// The environment of the suite that its box is like.
    pub environment: String,
    /// The workload that it does.
    pub workload: String,
    /// Settings of the workload as written.
    pub settings: BTreeMap<String, String>,
}

impl Entry {
    /// The runner or workload it is of.
    pub fn kind(&self) -> &str {
        self.of.as_deref().unwrap_or(&self.name)
    }

    /// From the command line: `NAME` or `KIND:key=value,key=value`, either with a name of one's own before it: `NAME=KIND:..`.
    ///
    /// # Errors
    /// When a part has no `=`, or a key comes twice.
    pub fn parse(text: &str) -> anyhow::Result<Typed> {
        let (before, rest) = text.split_once(':').unwrap_or((text, ""));
        let (given, kind) = before.split_once('=').map_or((None, before), |(name, kind)| (Some(name), kind));
        let mut settings = BTreeMap::new();
        for part in rest.split(',').filter(|p| !p.is_empty()) {
            let (key, value) = part.split_once('=').with_context(|| {
                let comma = if settings.is_empty() { "" } else { COMMA };
                format!("`{part}` in `{text}` is not key=value, as in `qemu:accel=tcg,disk.cache=none`{comma}")
            })?;
            if settings.insert(key.trim().to_string(), value.trim().to_string()).is_some() {
                bail!("`{key}` is set twice in `{text}`");
            }
        }
        let derived = given.is_none() && !settings.is_empty();
        let of = (derived || given.is_some()).then(|| kind.to_string());
        let name = match given {
            Some(name) => name.to_string(),
            None => {
                let values = settings.values().map(|v| plain(v));
                std::iter::once(kind.to_string()).chain(values).collect::<Vec<_>>().join("-")
            }
        };
        Ok(Typed { entry: Self { name, of, settings, neighbour: None }, derived })
    }
}

/// What helps whoever has a comma within a value.
const COMMA: &str = "; a comma separates settings, so a value that has one goes into a suite file (docs/own-work.md)";

/// An entry of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Typed {
    /// The entry.
    pub entry: Entry,
    /// Its name was made of its settings: nobody minds if it becomes another.
    pub derived: bool,
}

/// The most characters that the name of an environment has.
pub const LONGEST_NAME: usize = 40;

/// A name that was made of values, cut to what a name may have and told from those that are taken.
pub fn fitted(name: &str, longest: usize, taken: impl Fn(&str) -> bool) -> String {
    let cut = |name: &str, end: &str| name.chars().take(longest - end.len()).collect::<String>() + end;
    let long = name.chars().count() > longest;
    let whole = if long { cut(name, &format!("-{:04x}", hash(name) & 0xffff)) } else { name.to_string() };
    let others = (2..).map(|number: u32| cut(&whole, &format!("-{number}")));
    std::iter::once(whole.clone()).chain(others).find(|name| !taken(name)).expect("numbers don't end")
}

/// Bytes a second that a link may be held to.
const RATES: (u64, u64) = (10_000, 100_000_000_000);

const KEYS: &[&str] = &[
    "description",
    "baseline",
    "blocks",
    "rounds",
    "burst",
    "burst_max",
    "operations",
    "budget",
    "until",
    "resources",
    "explains",
    "environments",
    "workloads",
];

impl Suite {
    /// A built-in suite by name, or a file.
    ///
    /// # Errors
    /// When there is neither, or when the text is not a suite.
    pub fn load(name: &str) -> anyhow::Result<Self> {
        if let Some((name, text)) = BUILT_IN.iter().find(|(n, _)| *n == name) {
            return Self::parse(name, text);
        }
        let path = Path::new(name);
        if !path.exists() {
            let names = BUILT_IN.iter().map(|(n, _)| *n);
            match nearest(name, names.clone()) {
                Some(near) => bail!("there is no suite `{name}`; did you mean `{near}`?"),
                None => bail!(
                    "there is no suite `{name}`: built in are {}; anything else is the path of a TOML file",
                    names.collect::<Vec<_>>().join(", ")
                ),
            }
        }
        let text = std::fs::read_to_string(path).with_context(|| format!("can't read the suite {name}"))?;
        Self::parse(name, &text)
    }

    /// Reads a suite from TOML.
    ///
    /// # Errors
    /// With the line, what is wrong there, and the nearest known key.
    pub fn parse(name: &str, text: &str) -> anyhow::Result<Self> {
        let source = Source { name, text };
        let table = DeTable::parse(text).map_err(|e| anyhow::anyhow!("{name}: {}", e.to_string().trim_end()))?;
        source.read(table.get_ref())
    }

    /// The suite as TOML; reading it gives the same suite.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        let quote = |s: &str| toml::Value::String(s.to_string()).to_string();
        let mut line = |key: &str, value: String| writeln!(out, "{key} = {value}").expect("strings take all");
        line("description", quote(&self.description));
        line("baseline", quote(&self.baseline));
        line("blocks", self.blocks.to_string());
        line("rounds", self.rounds.to_string());
        line("burst", quote(&humantime::format_duration(self.burst).to_string()));
        line("burst_max", quote(&humantime::format_duration(self.burst_max).to_string()));
        if let Some(n) = self.operations {
            line("operations", n.to_string());
        }
        if let Some(budget) = self.budget {
            line("budget", quote(&humantime::format_duration(budget).to_string()));
        }
        if let Some(until) = self.until {
            line("until", quote(&until.to_string()));
        }
        let Resources { cpus, memory_bytes, io, link: LinkLimits { delay, rate, mtu } } = self.resources;
        let io: String = io.set().map(|(name, limit)| format!(", io.{name} = {limit}")).collect();
        let delay = delay.map(|delay| format!(", link.delay = \"{}ns\"", delay.as_nanos()));
        let rate = rate.map(|rate| format!(", link.rate = {rate}"));
        let mtu = mtu.map(|mtu| format!(", link.mtu = {mtu}"));
        let link: String = [delay, rate, mtu].into_iter().flatten().collect();
        line("resources", format!("{{ cpus = {cpus}, memory = \"{memory_bytes}B\"{io}{link} }}"));
        if let Some(Explains { rungs, alternatives, left_out }) = &self.explains {
            out.push_str("\n[explains]\n");
            for (key, names) in [("rungs", rungs), ("alternatives", alternatives), ("left_out", left_out)] {
                let names: Vec<String> = names.iter().map(|name| quote(name)).collect();
                writeln!(out, "{key} = [{}]", names.join(", ")).expect("strings take all");
            }
        }
        for (section, key, entries) in
            [("environments", "runner", &self.environments), ("workloads", "workload", &self.workloads)]
        {
            for entry in entries {
                writeln!(out, "\n[{section}.{}]", quote(&entry.name)).expect("strings take all");
                if let Some(of) = &entry.of {
                    writeln!(out, "{key} = {}", quote(of)).expect("strings take all");
                }
                if let Some(Neighbour { environment, workload, settings }) = &entry.neighbour {
                    let own = [("environment", environment), ("workload", workload)].into_iter();
                    let all = own.chain(settings.iter().map(|(key, value)| (key.as_str(), value)));
                    let number = |key: &str, value: &str| if key == "rate" { value.to_string() } else { quote(value) };
                    let pair = |(key, value): (&str, &String)| format!("{} = {}", quote(key), number(key, value));
                    let pairs: Vec<_> = all.map(pair).collect();
                    writeln!(out, "neighbour = {{ {} }}", pairs.join(", ")).expect("strings take all");
                }
                for (k, v) in &entry.settings {
                    let dotted: Vec<_> = k.split('.').map(quote).collect();
                    writeln!(out, "{} = {}", dotted.join("."), quote(v)).expect("strings take all");
                }
            }
        }
        out
    }
}

/// The text under the reader's eyes, for errors that name the line.
struct Source<'a> {
    name: &'a str,
    text: &'a str,
}

type Key<'i> = Spanned<std::borrow::Cow<'i, str>>;

impl Source<'_> {
    fn line(&self, at: usize) -> usize {
        self.text[..at.min(self.text.len())].matches('\n').count() + 1
    }

    fn error<T>(&self, at: &Spanned<T>, problem: impl std::fmt::Display) -> anyhow::Error {
        anyhow::anyhow!("{}, line {}: {problem}", self.name, self.line(at.span().start))
    }

    fn unknown(&self, key: &Key, known: &[&str]) -> anyhow::Error {
        let hint = match nearest(key.get_ref(), known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known are {}", known.join(", ")),
        };
        self.error(key, format!("unknown key `{}`; {hint}", key.get_ref()))
    }

    fn read(&self, table: &DeTable) -> anyhow::Result<Suite> {
        let mut suite = Suite {
            name: self.name.to_string(),
            description: String::new(),
            baseline: "bare".into(),
            blocks: 12,
            rounds: 10,
            burst: Duration::from_millis(100),
            burst_max: Duration::ZERO,
            operations: None,
            budget: None,
            until: None,
            resources: Resources::new(1, 512 << 20),
            explains: None,
            environments: Vec::new(),
            workloads: Vec::new(),
        };
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "description" => suite.description = self.text_of(key, value)?,
                "baseline" => suite.baseline = self.text_of(key, value)?,
                "blocks" => suite.blocks = self.number(key, value, 1, 1000)? as u32,
                "rounds" => suite.rounds = self.number(key, value, 1, 1000)? as u32,
                "operations" => suite.operations = Some(self.number(key, value, 1, 100_000_000)?),
                "burst" => suite.burst = self.duration(key, value)?,
                "burst_max" => suite.burst_max = self.duration(key, value)?,
                "budget" => suite.budget = Some(self.duration(key, value)?),
                "until" => suite.until = Some(self.percent(key, value)?),
                "resources" => suite.resources = self.resources(key, value)?,
                "explains" => suite.explains = Some(self.explains(key, value)?),
                "environments" => suite.environments = self.entries(key, value, "runner")?,
                "workloads" => suite.workloads = self.entries(key, value, "workload")?,
                _ => return Err(self.unknown(key, KEYS)),
            }
        }
        if suite.burst_max.is_zero() {
            suite.burst_max = suite.burst * 4;
        }
        if suite.burst_max < suite.burst {
            bail!("{}: `burst_max` is shorter than `burst`; leave it out for four times the burst", self.name);
        }
        if !(Duration::from_millis(1)..=Duration::from_secs(60)).contains(&suite.burst) {
            bail!("{}: `burst` must be from 1ms to 60s", self.name);
        }
        Ok(suite)
    }

    fn text_of(&self, key: &Key, value: &Spanned<DeValue>) -> anyhow::Result<String> {
        value.get_ref().as_str().map(str::to_string).ok_or_else(|| self.expected(key, value, "a string"))
    }

    fn expected(&self, key: &Key, value: &Spanned<DeValue>, what: &str) -> anyhow::Error {
        self.error(
            value,
            format!(
                "`{}` must be {what}, not {} {}",
                key.get_ref(),
                article(value.get_ref().type_str()),
                value.get_ref().type_str()
            ),
        )
    }

    fn number(&self, key: &Key, value: &Spanned<DeValue>, min: u64, max: u64) -> anyhow::Result<u64> {
        let number = value.get_ref().as_integer().and_then(|i| i.as_str().replace('_', "").parse::<u64>().ok());
        match number {
            Some(n) if (min..=max).contains(&n) => Ok(n),
            Some(n) => Err(self.error(value, format!("`{}` is {n}, but must be from {min} to {max}", key.get_ref()))),
            // Below 0, or longer than any limit: of the right type all the same.
            None => match value.get_ref().as_integer() {
                Some(i) => Err(self
                    .error(value, format!("`{}` is {}, but must be from {min} to {max}", key.get_ref(), i.as_str()))),
                None => Err(self.expected(key, value, &format!("a whole number from {min} to {max}"))),
            },
        }
    }

    fn duration(&self, key: &Key, value: &Spanned<DeValue>) -> anyhow::Result<Duration> {
        let text = value
            .get_ref()
            .as_str()
            .ok_or_else(|| self.expected(key, value, "a duration in quotes, as in \"100ms\""))?;
        humantime::parse_duration(text).map_err(|e| {
            self.error(
                value,
                format!("`{}` is not a duration: {e} in \"{text}\"; write it as in \"100ms\", \"5m\"", key.get_ref()),
            )
        })
    }

    fn percent(&self, key: &Key, value: &Spanned<DeValue>) -> anyhow::Result<Percent> {
        let text = self.text_of(key, value)?;
        text.parse().map_err(|e| self.error(value, format!("`{}` is {e}", key.get_ref())))
    }

    fn resources(&self, key: &Key, value: &Spanned<DeValue>) -> anyhow::Result<Resources> {
        let table = value
            .get_ref()
            .as_table()
            .ok_or_else(|| self.expected(key, value, "a table, as in { cpus = 1, memory = \"512MiB\" }"))?;
        let mut resources = Resources::new(1, 512 << 20);
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "cpus" => resources.cpus = self.number(key, value, 1, 4096)? as u32,
                "memory" => {
                    let text = self.text_of(key, value)?;
                    let bytes = self.size(key, value, &text)?;
                    if bytes < 64 << 20 {
                        let shown = bytesize::ByteSize(bytes);
                        return Err(self.error(value, format!("`memory` is {shown}, but a guest needs at least 64MiB")));
                    }
                    resources.memory_bytes = bytes;
                }
                "io" => resources.io = self.io_limits(key, value)?,
                "link" => resources.link = self.link_limits(key, value)?,
                _ => return Err(self.unknown(key, &["cpus", "memory", "io", "link"])),
            }
        }
        Ok(resources)
    }

    /// `io = { wbps = "20MB", riops = 500 }`: what may be read and written per second.
    fn io_limits(&self, key: &Key, value: &Spanned<DeValue>) -> anyhow::Result<IoLimits> {
        let what = "a table, as in { wbps = \"20MB\", riops = 500 }";
        let table = value.get_ref().as_table().ok_or_else(|| self.expected(key, value, what))?;
        let mut limits = IoLimits::default();
        for (key, value) in table {
            let limit = match key.get_ref().as_ref() {
                "rbps" => &mut limits.rbps,
                "wbps" => &mut limits.wbps,
                "riops" => &mut limits.riops,
                "wiops" => &mut limits.wiops,
                _ => return Err(self.unknown(key, &["rbps", "wbps", "riops", "wiops"])),
            };
            *limit = Some(match value.get_ref().as_str() {
                Some(text) if key.get_ref().ends_with("bps") => match self.size(key, value, text)? {
                    0 => return Err(self.error(value, format!("`{}` is 0, but must be from 1", key.get_ref()))),
                    bytes => bytes,
                },
                _ => self.number(key, value, 1, u64::MAX)?,
            });
        }
        Ok(limits)
    }

    /// `link = { delay = "1ms", rate = "12MB", mtu = 1400 }`: the peer's end of every link to it.
    fn link_limits(&self, key: &Key, value: &Spanned<DeValue>) -> anyhow::Result<LinkLimits> {
        let what = "a table, as in { delay = \"1ms\", rate = \"12MB\", mtu = 1400 }";
        let table = value.get_ref().as_table().ok_or_else(|| self.expected(key, value, what))?;
        let mut limits = LinkLimits::default();
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "delay" => {
                    let delay = self.duration(key, value)?;
                    if !(Duration::from_micros(1)..=Duration::from_secs(1)).contains(&delay) {
                        return Err(self.error(value, "`delay` must be from 1us to 1s"));
                    }
                    limits.delay = Some(delay);
                }
                "rate" => {
                    limits.rate = Some(match value.get_ref().as_str() {
                        Some(text) => self.size(key, value, text)?,
                        None => self.number(key, value, RATES.0, RATES.1)?,
                    })
                    .filter(|rate| (RATES.0..=RATES.1).contains(rate));
                    if limits.rate.is_none() {
                        return Err(self.error(value, "`rate` must be from 10kB to 100GB, bytes a second"));
                    }
                }
                // Below it there is no IPv6.
                "mtu" => limits.mtu = Some(self.number(key, value, 1280, 65_535)? as u32),
                _ => return Err(self.unknown(key, &["delay", "rate", "mtu"])),
            }
        }
        Ok(limits)
    }

    fn size(&self, key: &Key, value: &Spanned<DeValue>, text: &str) -> anyhow::Result<u64> {
        let size: Result<bytesize::ByteSize, _> = text.parse();
        let problem = |e| format!("`{}` is not a size: {e}; write it as in \"512MiB\"", key.get_ref());
        size.map(|bytes| bytes.as_u64()).map_err(|e| self.error(value, problem(e)))
    }

    /// `[explains]`: lists of names.
    fn explains(&self, key: &Key, value: &Spanned<DeValue>) -> anyhow::Result<Explains> {
        let wanted = "a table, as in [explains]";
        let table = value.get_ref().as_table().ok_or_else(|| self.expected(key, value, wanted))?;
        let mut explains = Explains::default();
        for (key, value) in table {
            let names = match key.get_ref().as_ref() {
                "rungs" => &mut explains.rungs,
                "alternatives" => &mut explains.alternatives,
                "left_out" => &mut explains.left_out,
                _ => return Err(self.unknown(key, &["rungs", "alternatives", "left_out"])),
            };
            let list = value.get_ref().as_array().ok_or_else(|| self.expected(key, value, "a list of names"))?;
            for name in list {
                names.push(self.text_of(key, name)?);
            }
        }
        Ok(explains)
    }

    fn entries(&self, key: &Key, value: &Spanned<DeValue>, of_key: &str) -> anyhow::Result<Vec<Entry>> {
        let table = value
            .get_ref()
            .as_table()
            .ok_or_else(|| self.expected(key, value, &format!("a table, as in [{}.NAME]", key.get_ref())))?;
        let mut entries = Vec::new();
        for (name, value) in table {
            let inner = value.get_ref().as_table().ok_or_else(|| self.expected(name, value, "a table of settings"))?;
            let name_of = name.get_ref().to_string();
            let mut entry = Entry { name: name_of, of: None, settings: BTreeMap::new(), neighbour: None };
            let mut axes = Vec::new();
            for (key, value) in inner {
                if key.get_ref() == of_key {
                    entry.of = Some(self.text_of(key, value)?);
                } else if key.get_ref() == MATRIX {
                    axes = self.matrix(key, value)?;
                } else if key.get_ref() == NEIGHBOUR && of_key == "runner" {
                    entry.neighbour = Some(self.neighbour(key, value)?);
                } else if of_key == "runner" && is_neighbour(value) {
                    return Err(self.unknown(key, &[NEIGHBOUR]));
                } else {
                    self.flatten(key.get_ref(), value, &mut entry.settings)?;
                }
            }
            let longest = if of_key == "runner" { LONGEST_NAME } else { usize::MAX };
            entries.push((name.span().start, spread(entry, &axes, longest)));
        }
        entries.sort_by_key(|(at, _)| *at);
        Ok(entries.into_iter().flat_map(|(_, entries)| entries).collect())
    }

    /// `neighbour = { environment = "runc", workload = "disk/fsync", rate = 500 }`.
    fn neighbour(&self, key: &Key, value: &Spanned<DeValue>) -> anyhow::Result<Neighbour> {
        let wanted = "a table, as in { environment = \"runc\", workload = \"disk/fsync\" }";
        let table = value.get_ref().as_table().ok_or_else(|| self.expected(key, value, wanted))?;
        let (mut own, mut settings) = (BTreeMap::new(), BTreeMap::new());
        for (key, value) in table {
            match key.get_ref().as_ref() {
                name @ ("environment" | "workload") => drop(own.insert(name.to_string(), self.text_of(key, value)?)),
                "rate" => {
                    let advice = "leave it out for one operation after the other";
                    let rate =
                        self.number(key, value, 1, most_arrivals()).map_err(|e| anyhow::anyhow!("{e}; {advice}"))?;
                    settings.insert("rate".to_string(), rate.to_string());
                }
                name => self.flatten(name, value, &mut settings)?,
            }
        }
        let mut take = |name: &str| {
            own.remove(name).ok_or_else(|| self.error(value, format!("`neighbour` has no `{name}`: it takes {wanted}")))
        };
        Ok(Neighbour { environment: take("environment")?, workload: take("workload")?, settings })
    }

    /// `matrix = { "disk.cache" = ["none", "unsafe"] }`: the settings that take several values, with the values.
    fn matrix(&self, key: &Key, value: &Spanned<DeValue>) -> anyhow::Result<Vec<(String, Vec<String>)>> {
        let wanted = "a table of lists, as in { \"disk.cache\" = [\"none\", \"unsafe\"] }";
        let table = value.get_ref().as_table().ok_or_else(|| self.expected(key, value, wanted))?;
        let mut axes = Vec::new();
        for (key, value) in table {
            let list = value.get_ref().as_array().filter(|list| !list.is_empty());
            let list = list.ok_or_else(|| self.expected(key, value, "a list of at least one value"))?;
            let mut values = Vec::new();
            for value in list {
                let mut one = BTreeMap::new();
                self.flatten(key.get_ref(), value, &mut one)?;
                values.extend(one.into_values());
            }
            axes.push((key.span().start, (key.get_ref().to_string(), values)));
        }
        axes.sort_by_key(|(at, _)| *at);
        Ok(axes.into_iter().map(|(_, axis)| axis).collect())
    }

    fn flatten(&self, name: &str, value: &Spanned<DeValue>, into: &mut BTreeMap<String, String>) -> anyhow::Result<()> {
        let text = match value.get_ref() {
            DeValue::String(s) => s.to_string(),
            DeValue::Integer(i) => i.as_str().replace('_', ""),
            DeValue::Boolean(b) => b.to_string(),
            DeValue::Table(table) => {
                for (key, value) in table {
                    self.flatten(&format!("{name}.{}", key.get_ref()), value, into)?;
                }
                return Ok(());
            }
            other => {
                return Err(
                    self.error(value, format!("`{name}` can't be {} {}", article(other.type_str()), other.type_str()))
                );
            }
        };
        into.insert(name.to_string(), text);
        Ok(())
    }
}

/// The key of a table that says who works beside an environment.
const NEIGHBOUR: &str = "neighbour";

/// Whether what stands under another key can only be meant as a neighbour: no setting of a runner is called so.
fn is_neighbour(value: &Spanned<DeValue>) -> bool {
    let has =
        |table: &DeTable| table.iter().any(|(key, _)| ["environment", "workload"].contains(&key.get_ref().as_ref()));
    value.get_ref().as_table().is_some_and(has)
}

/// The most operations that may arrive a second, as the setting of all workloads says.
fn most_arrivals() -> u64 {
    let rate = Load::TABLE.iter().find(|setting| setting.name == "rate").map(|setting| setting.kind);
    if let Some(Kind::Number { max, .. }) = rate { max } else { u64::MAX }
}

/// The key of a table of settings that makes an entry of every combination of the values it lists.
const MATRIX: &str = "matrix";

/// An entry for every combination of values, named by them; the entry itself where there are none.
fn spread(entry: Entry, axes: &[(String, Vec<String>)], longest: usize) -> Vec<Entry> {
    let kind = entry.kind().to_string();
    let mut all = axes.iter().fold(vec![entry], |entries, (setting, values)| {
        let with = |entry: &Entry, value: &String| {
            let mut entry = Entry { of: Some(kind.clone()), ..entry.clone() };
            entry.name = format!("{}-{}", entry.name, plain(value));
            entry.settings.insert(setting.clone(), value.clone());
            entry
        };
        entries.iter().flat_map(|entry| values.iter().map(move |value| with(entry, value))).collect()
    });
    for at in (0..all.len()).filter(|_| !axes.is_empty()) {
        all[at].name = fitted(&all[at].name, longest, |name| all[..at].iter().any(|before| before.name == name));
    }
    all
}

/// The part of a value that may stand in a name: its letters and digits; of a long one the end of the path, and a checksum.
pub fn plain(value: &str) -> String {
    const LONG: usize = 16;
    let plain = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
    let all = plain(value);
    if all.len() <= LONG {
        return all;
    }
    let end: String = plain(value.rsplit('/').next().unwrap_or(value)).chars().take(LONG - 6).collect();
    format!("{end}-{:04x}", hash(value) & 0xffff)
}

fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Suite::parse("s.toml", text).expect_err("must not parse").to_string()
    }

    #[test]
    fn every_built_in_suite_reads_and_survives_a_round_trip() {
        for (name, text) in BUILT_IN {
            let suite = Suite::parse(name, text).expect("built-in suites read");
            assert_eq!(Suite::parse(name, &suite.to_toml()).expect("our own TOML reads"), suite);
        }
    }

    #[test]
    fn a_neighbour_is_read_and_survives_a_round_trip() {
        let neighbour =
            |table: &str| format!("[environments.bare]\n[environments.box]\nrunner = \"bare\"\nneighbour = {table}\n");
        let text = neighbour("{ environment = \"bare\", workload = \"disk/fsync\", rate = 500, jobs = 2 }");
        let suite = Suite::parse("s.toml", &text).expect("reads");
        let read = suite.environments[1].neighbour.clone().expect("it has one");
        assert_eq!((read.environment.as_str(), read.workload.as_str()), ("bare", "disk/fsync"));
        assert_eq!((read.settings["rate"].as_str(), read.settings["jobs"].as_str()), ("500", "2"));
        assert_eq!(Suite::parse("s.toml", &suite.to_toml()).expect("our own TOML reads"), suite);
        let rate = error(&neighbour("{ environment = \"bare\", workload = \"disk/fsync\", rate = 0 }"));
        assert!(rate.contains("line 4: `rate` is 0") && rate.contains("leave it out"), "{rate}");
        let below = error(&neighbour("{ environment = \"bare\", workload = \"disk/fsync\", rate = -3 }"));
        assert!(below.contains("line 4: `rate` is -3, but must be from 1 to 1000000"), "{below}");
        let american = text.replace("neighbour =", "neighbor =");
        let expected = "s.toml, line 4: unknown key `neighbor`; did you mean `neighbour`?";
        assert_eq!(error(&american), expected);
        let lacks = error(&neighbour("{ environment = \"bare\" }"));
        assert!(lacks.contains("line 4: `neighbour` has no `workload`"), "{lacks}");
        assert!(error(&neighbour("\"bare\"")).contains("a table, as in { environment"), "no table");
    }

    #[test]
    fn full_has_every_workload() {
        let suite = Suite::load("full").expect("built in");
        let named: Vec<_> = suite.workloads.iter().map(|w| w.name.as_str()).collect();
        let known: Vec<_> = workloads::registry::WORKLOADS.iter().map(|w| w.name()).collect();
        assert_eq!(named, known);
    }

    #[test]
    fn a_ladder_is_read_and_survives_a_round_trip() {
        let text = "[explains]\nrungs = [\"bare\", \"runc\"]\nleft_out = [\"a: \\\"b\\\"\"]\n[environments.bare]\n";
        let suite = Suite::parse("s", text).expect("reads");
        let ladder = suite.explains.as_ref().expect("there");
        assert_eq!((ladder.rungs.join(" "), ladder.left_out[0].as_str()), ("bare runc".into(), "a: \"b\""));
        assert_eq!(Suite::parse("s", &suite.to_toml()).expect("our own TOML reads"), suite);
        assert!(error("[explains]\nrung = []\n").ends_with("did you mean `rungs`?"));
        assert!(error("[explains]\nrungs = 3\n").contains("`rungs` must be a list of names"));
    }

    #[test]
    fn how_sure_a_run_is_to_be_is_a_share() {
        let suite = Suite::parse("s", "until = \"2.5%\"\n").expect("reads");
        assert_eq!(suite.until.map(Percent::share), Some(0.025));
        assert_eq!(Suite::parse("s", &suite.to_toml()).expect("our own TOML reads"), suite);
        for wrong in ["3", "0.01%", "90%", "many%", "NaN%", "%"] {
            let e = error(&format!("until = \"{wrong}\"\n"));
            assert_eq!(e, format!("s.toml, line 1: `until` is `{wrong}`, but must be from 0.1% to 50%, as in 3%"));
        }
    }

    #[test]
    fn an_unknown_key_names_its_line_and_the_nearest() {
        assert_eq!(error("blocks = 3\nruonds = 2\n"), "s.toml, line 2: unknown key `ruonds`; did you mean `rounds`?");
    }

    #[test]
    fn a_unit_that_does_not_exist_is_named() {
        let e = error("burst = \"100 parsecs\"");
        assert!(e.starts_with("s.toml, line 1: `burst` is not a duration"), "{e}");
    }

    #[test]
    fn a_wrong_type_says_what_it_must_be() {
        assert_eq!(
            error("blocks = \"many\""),
            "s.toml, line 1: `blocks` must be a whole number from 1 to 1000, not a string"
        );
    }

    #[test]
    fn tables_of_settings_are_flattened_in_file_order() {
        let s = Suite::parse(
            "s",
            "[environments.z]\nrunner=\"qemu\"\ndisk={bus=\"ide\",format=\"raw\"}\n[environments.a]\n",
        )
        .expect("reads");
        assert_eq!(s.environments[0].name, "z");
        assert_eq!(s.environments[0].kind(), "qemu");
        assert_eq!(s.environments[0].settings["disk.bus"], "ide");
        assert_eq!(s.environments[1].name, "a");
    }

    #[test]
    fn limits_of_io_are_read_with_their_units() {
        let text = "resources = { cpus = 2, io = { wbps = \"2MiB\", riops = 500 } }\n";
        let suite = Suite::parse("s", text).expect("reads");
        let wanted = IoLimits { wbps: Some(2 << 20), riops: Some(500), ..IoLimits::default() };
        assert_eq!(suite.resources, Resources { io: wanted, ..Resources::new(2, 512 << 20) });
        assert_eq!(Suite::parse("s", &suite.to_toml()).expect("our own TOML reads"), suite);
        assert!(error("resources = { io = { wbsp = 1 } }").contains("did you mean `wbps`?"));
        assert!(error("resources = { io = { riops = \"fast\" } }").contains("must be a whole number"));
        assert!(error("resources = { io = { rbps = \"fast\" } }").contains("is not a size"));
        assert!(error("resources = { io = { wiops = 0 } }").contains("must be from 1"));
        assert!(error("resources = { io = { rbps = \"0B\" } }").contains("must be from 1"));
    }

    #[test]
    fn limits_of_links_are_read_with_their_units() {
        let text = "resources = { link = { delay = \"1500us\", rate = \"12MB\", mtu = 1400 } }\n";
        let suite = Suite::parse("s", text).expect("reads");
        let LinkLimits { delay, rate, mtu } = suite.resources.link;
        assert_eq!((delay, rate, mtu), (Some(Duration::from_micros(1500)), Some(12_000_000), Some(1400)));
        assert_eq!(Suite::parse("s", &suite.to_toml()).expect("our own TOML reads"), suite);
        assert!(error("resources = { link = { dealy = 1 } }").contains("did you mean `delay`?"));
        assert!(error("resources = { link = { delay = \"2s\" } }").contains("from 1us to 1s"));
        assert!(error("resources = { link = { rate = \"1B\" } }").contains("from 10kB to 100GB"));
        assert!(error("resources = { link = { mtu = 500 } }").contains("from 1280 to 65535"));
        assert!(error("resources = { link = 5 }").contains("must be a table, as in"));
    }

    #[test]
    fn a_matrix_makes_an_environment_of_every_combination() {
        let text = "[environments.vm]\nrunner = \"qemu\"\naccel = \"tcg\"\n\
                    matrix = { \"disk.cache\" = [\"none\", \"unsafe\"], \"disk.bus\" = [\"virtio\", \"nvme\"] }\n\
                    [environments.qemu]\nmatrix = { kernel = [1] }\n";
        let suite = Suite::parse("s", text).expect("reads");
        let names: Vec<_> = suite.environments.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["vm-none-virtio", "vm-none-nvme", "vm-unsafe-virtio", "vm-unsafe-nvme", "qemu-1"]);
        let last = &suite.environments[3];
        assert_eq!((last.kind(), last.settings["disk.cache"].as_str()), ("qemu", "unsafe"));
        assert_eq!((last.settings["disk.bus"].as_str(), last.settings["accel"].as_str()), ("nvme", "tcg"));
        assert_eq!(suite.environments[4].kind(), "qemu");
        assert_eq!(Suite::parse("s", &suite.to_toml()).expect("our own TOML reads"), suite);
    }

    #[test]
    fn a_matrix_that_is_none_says_how_one_looks() {
        let e = error("[environments.vm]\nmatrix = { cache = \"none\" }\n");
        assert_eq!(e, "s.toml, line 2: `cache` must be a list of at least one value, not a string");
        assert!(error("[environments.vm]\nmatrix = 3\n").contains("a table of lists, as in {"));
    }

    #[test]
    fn an_entry_of_the_command_line_is_named_by_its_values() {
        let e = Entry::parse("qemu:accel=tcg,disk.cache=none").expect("reads").entry;
        assert_eq!((e.name.as_str(), e.kind()), ("qemu-tcg-none", "qemu"));
        let flaw = |text: &str| Entry::parse(text).expect_err("no setting").to_string();
        assert!(!flaw("qemu:accel").contains("comma"));
        let comma = flaw("command/run:exec=echo a,b");
        assert!(comma.contains("`b`") && comma.contains("a comma separates settings"), "{comma}");
        let name = |spec: &str| Entry::parse(spec).expect("reads").entry.name;
        let [one, other] =
            ["new", "old"].map(|folder| name(&format!("gvisor:runsc=/opt/a/long/path/to/{folder}/bin/runsc")));
        assert!(one.starts_with("gvisor-runsc-") && one.len() < 20, "{one}");
        assert_ne!(one, other);
    }

    #[test]
    fn a_name_of_ones_own_stands_before_the_runner() {
        let typed = |text: &str| Entry::parse(text).expect("reads");
        let head = typed("head=runc:binary=/opt/x=1/runc");
        assert_eq!((head.entry.name.as_str(), head.entry.kind(), head.derived), ("head", "runc", false));
        assert_eq!(head.entry.settings["binary"], "/opt/x=1/runc");
        let other = typed("other=bare");
        assert_eq!((other.entry.name.as_str(), other.entry.of.as_deref()), ("other", Some("bare")));
        let plain = typed("runc");
        assert_eq!((plain.entry.of, plain.derived), (None, false));
        assert!(typed("qemu:accel=tcg").derived);
    }

    #[test]
    fn a_name_that_was_made_fits_and_is_the_only_one() {
        let long = "docker-unixrundocker-a2b1-overlay2-runsc-named";
        let one = fitted(long, LONGEST_NAME, |_| false);
        assert!(one.len() == LONGEST_NAME && one.starts_with("docker-unixrundocker-a2b1-overlay2-"), "{one}");
        assert_ne!(one, fitted(&format!("{long}-veth"), LONGEST_NAME, |_| false));
        let second = fitted(long, LONGEST_NAME, |name| name == one);
        assert!(second.len() == LONGEST_NAME && second.ends_with("-2"), "{second}");
        assert_eq!(fitted("vm-false", LONGEST_NAME, |name| name == "vm-false" || name == "vm-false-2"), "vm-false-3");
        let text = format!(
            "[environments.{}]\nrunner = \"qemu\"\nmatrix = {{ \"disk.cache\" = [\"none\", \"unsafe\"] }}\n",
            "x".repeat(38)
        );
        let names: Vec<_> = Suite::parse("s", &text).expect("reads").environments.into_iter().map(|e| e.name).collect();
        assert!(names[0] != names[1] && names.iter().all(|name| name.len() == LONGEST_NAME), "{names:?}");
    }
}
