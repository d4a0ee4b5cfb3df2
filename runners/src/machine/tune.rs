//! Settings of the kernel that make a machine steadier, for the time of a run: noted in the journal before they are changed, read
//! back after, and put back at the end; after a kill by whoever cleans up.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use workloads::settings::Value as _;

use super::{CPUS, KSM, Machine, NUMA, THP, governor_of, list, shown};
use crate::host::journal::{Journal, Made};

/// What says whether the clock rate may rise, in which file, and the value that forbids it; of the first that is there.
pub(super) const TURBO: [(&str, &str); 2] =
    [("sys/devices/system/cpu/intel_pstate/no_turbo", "1"), ("sys/devices/system/cpu/cpufreq/boost", "0")];

/// Who chooses how a CPU sleeps that has nothing to do.
const IDLE_DRIVER: &str = "sys/devices/system/cpu/cpuidle/current_driver";

/// Whoever has it open gets the latency that is written to it, in microseconds, at most.
const LATENCY: &str = "dev/cpu_dma_latency";

const BOOT: &str = "proc/sys/kernel/random/boot_id";

/// A value that the kernel's files have: a word or a number.
const LONGEST_VALUE: usize = 32;

workloads::words! {
    /// One thing that can be tuned.
    pub enum Knob {
        /// Every CPU's governor to `performance`.
        Governor = "governor",
        /// No clock rate above the nominal one.
        Turbo = "turbo",
        /// No memory moved between nodes.
        NumaBalancing = "numa-balancing",
        /// No memory merged.
        Ksm = "ksm",
        /// Huge pages for those alone who ask.
        Thp = "thp",
        /// A CPU that has nothing to do waits instead of sleeping.
        Idle = "idle",
    }
}

impl Knob {
    /// Its files on a machine, and the value that each is to have.
    fn files(self, machine: &Machine) -> Vec<(String, &'static str)> {
        let there = |file: &str| machine.read(file).is_some();
        match self {
            Knob::Governor => {
                let all = machine.numbered(CPUS, "cpu").into_iter().map(governor_of);
                all.filter(|file| there(file)).map(|file| (file, "performance")).collect()
            }
            Knob::Turbo => TURBO.iter().find(|(file, _)| there(file)).map(own).into_iter().collect(),
            Knob::NumaBalancing => [(NUMA, "0")].iter().filter(|(file, _)| there(file)).map(own).collect(),
            Knob::Ksm => [(KSM, "0")].iter().filter(|(file, _)| there(file)).map(own).collect(),
            Knob::Thp => [(THP, "madvise")].iter().filter(|(file, _)| there(file)).map(own).collect(),
            // Nothing is changed that would have to be put back: see `Tuned::keep_awake`.
            Knob::Idle => Vec::new(),
        }
    }
}

fn own(of: &(&str, &'static str)) -> (String, &'static str) {
    (of.0.to_string(), of.1)
}

/// What is to be tuned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Knobs(Vec<Knob>);

impl Knobs {
    /// What is tuned where nothing is named: huge pages and sleep are left alone, since they decide how fast memory and waking up are, and
    /// not only how steady.
    pub const SAFE: &str = "governor,turbo,numa-balancing,ksm";
}

impl FromStr for Knobs {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let named = |name: &str| {
            let all = Knob::WORDS;
            ensure!(all.contains(&name), "nothing that can be tuned is called `{name}`; there are {}", all.join(", "));
            Ok(Knob::parse(name))
        };
        text.split(',').map(named).collect::<anyhow::Result<_>>().map(Self)
    }
}

impl fmt::Display for Knobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(|knob| knob.word()).collect::<Vec<_>>().join(","))
    }
}

/// One file that was changed, as the journal knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The machine's root: whoever puts it back may look at another one.
    pub root: PathBuf,
    /// Without the slash before `sys` or `proc`.
    pub file: String,
    /// Its value before.
    pub was: String,
    /// Its value while the run goes on.
    pub set: String,
    /// The boot in which it was changed: after another one the kernel has its own values again.
    pub boot: String,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", shown(&self.file).display(), self.was)
    }
}

impl Setting {
    /// Whether it is one of those that we tune, with values of theirs: a journal may be damaged.
    pub(crate) fn is_known(&self) -> bool {
        let cpu = self.file.strip_prefix(CPUS).and_then(|rest| rest.strip_prefix("/cpu"));
        let number = cpu.and_then(|rest| rest.strip_suffix("/cpufreq/scaling_governor"));
        let governor = number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        let others = TURBO.map(|(file, _)| file);
        let known = self.root.is_absolute()
            && (governor || others.into_iter().chain([NUMA, KSM, THP]).any(|file| file == self.file));
        let word = |value: &str| {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b);
            !value.is_empty() && value.len() <= LONGEST_VALUE && value.bytes().all(plain)
        };
        known && word(&self.was) && word(&self.set)
    }

    /// Puts it back, unless somebody has given it another value since, or the machine was booted.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) fn put_back(&self) -> anyhow::Result<()> {
        let machine = Machine::at(&self.root);
        let now = machine.value(&self.file);
        if boot(&machine) != self.boot || now.is_none() || now.as_deref() == Some(&self.was) {
            return Ok(());
        }
        if now.as_deref() != Some(&self.set) {
            log::warn!(
                "{} is `{}` now, which is neither ours nor what it was: left alone",
                shown(&self.file).display(),
                now.unwrap_or_default()
            );
            return Ok(());
        }
        write(&machine, &self.file, &self.was).with_context(|| format!("can't put back {self}"))
    }
}

/// A machine that is tuned until this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Tuned {
    machine: Machine,
    settings: Vec<Setting>,
    /// Keeps CPUs awake while it is open: the kernel takes it back by itself, also after a kill.
    awake: Option<File>,
    words: Vec<String>,
}

impl Tuned {
    /// Tunes what is there and can be put back. What can't is left alone, and said.
    ///
    /// # Errors
    /// When the journal can't be written, with nothing changed; when a value isn't taken, or nothing can be tuned, with
    /// everything put back.
    pub fn begin(machine: Machine, journal: &Journal, knobs: &Knobs) -> anyhow::Result<Self> {
        let mut tuned = Self { machine, settings: Vec::new(), awake: None, words: Vec::new() };
        let mut wanted = Vec::new();
        let mut held = false;
        for knob in &knobs.0 {
            let planned = match knob {
                Knob::Idle => tuned.keep_awake().map(|words| (Vec::new(), words)),
                _ => tuned.planned(*knob),
            };
            match planned {
                Ok((settings, words)) => {
                    held = true;
                    wanted.extend(settings);
                    tuned.words.push(format!("{} {words}", knob.word()));
                }
                Err(why) => tuned.words.push(format!("{} left alone: {why:#}", knob.word())),
            }
        }
        ensure!(held, "nothing here can be tuned: {}; go without --tune", tuned.words.join("; "));
        for setting in &wanted {
            journal.note(&Made::Setting(setting.clone())).context("nothing was tuned")?;
        }
        for setting in wanted {
            // Before it is changed: a value that isn't taken whole is put back, too.
            tuned.settings.push(setting);
            let Setting { file, set, .. } = &tuned.settings[tuned.settings.len() - 1];
            write(&tuned.machine, file, set)
                .context("can't tune, and everything is put back; name what can be, as in --tune=ksm")?;
        }
        Ok(tuned)
    }

    /// What there is to change, and how it is then; why it is left alone where it can't be changed and put back.
    fn planned(&self, knob: Knob) -> anyhow::Result<(Vec<Setting>, String)> {
        let files = knob.files(&self.machine);
        let Some((_, set)) = files.first() else { bail!("there is no such file here") };
        let boot = boot(&self.machine);
        let mut settings = Vec::new();
        for (file, set) in &files {
            let was = self.machine.value(file).unwrap_or_default();
            if was == *set {
                continue;
            }
            let setting = Setting {
                root: self.machine.root.clone(),
                file: file.clone(),
                was,
                set: (*set).into(),
                boot: boot.clone(),
            };
            ensure!(
                setting.is_known(),
                "{} is `{}`, which is no value that we know",
                shown(file).display(),
                setting.was
            );
            // 2 unmerges all that was merged; with it the memory would have to be there.
            ensure!(knob != Knob::Ksm || setting.was == "1", "/{KSM} is {}", setting.was);
            let writable = fs::OpenOptions::new().write(true).open(self.machine.path(file));
            writable.with_context(|| format!("{} can't be written", shown(file).display()))?;
            settings.push(setting);
        }
        let words = match (knob, settings.first()) {
            (Knob::Governor, _) => self.governors(set),
            (_, None) => format!("{set} already"),
            (_, Some(first)) => format!("{set} (was {})", first.was),
        };
        Ok((settings, words))
    }

    /// Has CPUs wait where they would sleep.
    fn keep_awake(&mut self) -> anyhow::Result<String> {
        let driver = self.machine.value(IDLE_DRIVER).filter(|driver| driver != "none");
        let driver = driver.context("the kernel does not choose here how a CPU sleeps")?;
        let ask = || {
            let mut file = fs::OpenOptions::new().write(true).open(self.machine.path(LATENCY))?;
            file.write_all(&0_i32.to_ne_bytes())?;
            std::io::Result::Ok(file)
        };
        self.awake = Some(ask().with_context(|| format!("/{LATENCY} can't be written"))?);
        Ok(format!("awake (was {driver}'s choice)"))
    }

    /// The governor that all CPUs get, and that of each before.
    fn governors(&self, set: &str) -> String {
        let mut before: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for cpu in self.machine.numbered(CPUS, "cpu") {
            if let Some(was) = self.machine.value(&governor_of(cpu)) {
                before.entry(was).or_default().push(cpu);
            }
        }
        let all = |(was, cpus): (&String, &Vec<usize>)| format!("{was} on CPU {}", list(cpus));
        match before.first_key_value() {
            Some((was, cpus)) if before.len() == 1 && was == set => format!("{set} already on CPU {}", list(cpus)),
            Some((was, cpus)) if before.len() == 1 => format!("{set} (was {was}) on CPU {}", list(cpus)),
            _ => format!("{set} (was {})", before.iter().map(all).collect::<Vec<_>>().join(", ")),
        }
    }

    /// What was tuned and what was left alone, for the report.
    #[must_use]
    pub fn words(&self) -> String {
        self.words.join("; ")
    }
}

impl Drop for Tuned {
    fn drop(&mut self) {
        for setting in self.settings.iter().rev() {
            if let Err(e) = setting.put_back() {
                log::error!("{e:#}; `echo {} > {}` does", setting.was, shown(&setting.file).display());
            }
        }
    }
}

fn boot(machine: &Machine) -> String {
    machine.read(BOOT).unwrap_or_default()
}

/// Gives a file a value, and sees whether it has it.
fn write(machine: &Machine, file: &str, value: &str) -> anyhow::Result<()> {
    let path = machine.path(file);
    let shown = shown(file);
    fs::write(&path, value).with_context(|| format!("can't write `{value}` to {}", shown.display()))?;
    let now = machine.value(file).unwrap_or_default();
    ensure!(now == value, "{} is `{now}` after `{value}` was written", shown.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::made_up::machine;
    use super::*;

    const GOVERNOR: [&str; 2] = [
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
    ];

    fn safe() -> Knobs {
        Knobs::SAFE.parse().unwrap()
    }

    fn journal() -> (tempfile::TempDir, Journal) {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path()).unwrap();
        (folder, journal)
    }

    #[test]
    fn what_is_tuned_is_put_back_also_by_a_panic() {
        let files =
            [(GOVERNOR[0], "powersave"), (GOVERNOR[1], "schedutil"), (KSM, "1"), (TURBO[0].0, "0"), (THP, "always")];
        let (_folder, machine) = machine(&files);
        let (_place, journal) = journal();
        let value = |file: &str| machine.value(file).unwrap();
        let tuned = Tuned::begin(machine.clone(), &journal, &safe()).unwrap();
        assert_eq!((value(GOVERNOR[0]).as_str(), value(GOVERNOR[1]).as_str()), ("performance", "performance"));
        assert_eq!((value(KSM).as_str(), value(TURBO[0].0).as_str(), value(THP).as_str()), ("0", "1", "always"));
        let words = "governor performance (was powersave on CPU 0, schedutil on CPU 1); turbo 1 (was 0); numa-balancing left alone: there is no such file here; ksm 0 (was 1)";
        assert_eq!(tuned.words(), words);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _tuned = tuned;
            panic!("in the midst of it");
        }));
        assert!(panicked.is_err());
        for (file, was) in files {
            assert_eq!(value(file), was, "{file}");
        }
    }

    #[test]
    fn of_governors_it_is_said_which_cpu_had_which() {
        let (_place, journal) = journal();
        let says = |first: &str, second: &str| {
            let (_folder, machine) = machine(&[(GOVERNOR[0], first), (GOVERNOR[1], second)]);
            let tuned = Tuned::begin(machine.clone(), &journal, &"governor".parse().unwrap()).unwrap();
            let words = tuned.words();
            drop(tuned);
            let now = GOVERNOR.map(|file| machine.value(file).unwrap());
            assert_eq!(now, [first, second], "each is put back");
            words
        };
        assert_eq!(says("powersave", "powersave"), "governor performance (was powersave) on CPU 0-1");
        let mixed = "governor performance (was performance on CPU 0, powersave on CPU 1)";
        assert_eq!(says("performance", "powersave"), mixed);
        assert_eq!(says("performance", "performance"), "governor performance already on CPU 0-1");
    }

    #[test]
    fn without_a_journal_nothing_is_tuned() {
        let (_folder, machine) = machine(&[(KSM, "1")]);
        // Every write fails there.
        let full = Journal::at(std::path::Path::new("/dev/full"));
        let Ok(full) = full else { return eprintln!("SKIPPED: no /dev/full") };
        let e = Tuned::begin(machine.clone(), &full, &safe()).expect_err("refused");
        assert!(format!("{e:#}").contains("nothing was tuned"), "{e:#}");
        assert_eq!(machine.value(KSM).as_deref(), Some("1"));
    }

    #[test]
    fn what_can_not_be_put_back_is_left_alone() {
        let (_place, journal) = journal();
        // To 2 it could only be put back by doing it once more.
        let (folder, machine) = machine(&[(KSM, "2"), (NUMA, "1"), ("sys/x", "")]);
        let e =
            Tuned::begin(machine.clone(), &journal, &"ksm,turbo".parse().unwrap()).expect_err("refused").to_string();
        assert!(e.contains("ksm left alone: /sys/kernel/mm/ksm/run is 2") && e.contains("turbo left alone"), "{e}");
        let tuned = Tuned::begin(machine.clone(), &journal, &"ksm,numa-balancing".parse().unwrap()).unwrap();
        assert_eq!(machine.value(NUMA).as_deref(), Some("0"));
        drop(tuned);
        assert_eq!((machine.value(KSM).as_deref(), machine.value(NUMA).as_deref()), (Some("2"), Some("1")));
        drop(folder);
    }

    #[test]
    fn a_value_that_somebody_has_changed_since_and_one_of_another_boot_stay() {
        let (_folder, machine) = machine(&[(THP, "never"), (KSM, "0"), (BOOT, "second")]);
        let setting = |file: &str, was: &str, set: &str, boot: &str| Setting {
            root: machine.root.clone(),
            file: file.into(),
            was: was.into(),
            set: set.into(),
            boot: boot.into(),
        };
        setting(THP, "always", "madvise", "second").put_back().unwrap();
        assert_eq!(machine.value(THP).as_deref(), Some("never"), "somebody chose that");
        setting(KSM, "1", "0", "first").put_back().unwrap();
        assert_eq!(machine.value(KSM).as_deref(), Some("0"), "as it was booted");
        setting(KSM, "1", "0", "second").put_back().unwrap();
        assert_eq!(machine.value(KSM).as_deref(), Some("1"));
    }

    #[test]
    fn only_what_we_tune_is_ever_written() {
        let of = |file: &str, was: &str| Setting {
            root: "/".into(),
            file: file.into(),
            was: was.into(),
            set: "0".into(),
            boot: String::new(),
        };
        for file in [GOVERNOR[0], TURBO[1].0, KSM, NUMA, THP] {
            assert!(of(file, "1").is_known(), "{file}");
        }
        for file in
            ["etc/passwd", "sys/devices/system/cpu/cpu0/../../cpufreq/scaling_governor", "/sys/kernel/mm/ksm/run"]
        {
            assert!(!of(file, "1").is_known(), "{file}");
        }
        for was in ["", "1\n2", "root::0:0", &"a".repeat(33)] {
            assert!(!of(KSM, was).is_known(), "{was:?}");
        }
    }

    #[test]
    fn cpus_are_kept_awake_by_an_open_file_that_closes_with_it() {
        let (_place, journal) = journal();
        let (folder, machine) = machine(&[(LATENCY, "nobody"), (IDLE_DRIVER, "acpi_idle")]);
        let file = fs::canonicalize(folder.path().join(LATENCY)).unwrap();
        let open = || {
            let ours = fs::read_dir("/proc/self/fd").unwrap().flatten();
            ours.filter(|entry| fs::read_link(entry.path()).is_ok_and(|path| path == file)).count()
        };
        let tuned = Tuned::begin(machine.clone(), &journal, &"idle".parse().unwrap()).unwrap();
        assert_eq!(tuned.words(), "idle awake (was acpi_idle's choice)");
        assert_eq!((open(), &fs::read(&file).unwrap()[..4]), (1, &[0; 4][..]));
        drop(tuned);
        assert_eq!(open(), 0);
        fs::write(machine.path(IDLE_DRIVER), "none").unwrap();
        let e = Tuned::begin(machine, &journal, &"idle".parse().unwrap()).expect_err("refused").to_string();
        assert!(e.contains("idle left alone: the kernel does not choose here how a CPU sleeps"), "{e}");
    }

    #[test]
    fn names_are_read_and_a_wrong_one_is_told_with_all() {
        assert_eq!("ksm,thp".parse::<Knobs>().unwrap().to_string(), "ksm,thp");
        let e = "kms".parse::<Knobs>().expect_err("refused").to_string();
        assert!(e.contains("`kms`") && e.contains("governor, turbo, numa-balancing, ksm, thp, idle"), "{e}");
        assert!(!safe().0.contains(&Knob::Thp) && !safe().0.contains(&Knob::Idle));
    }
}
