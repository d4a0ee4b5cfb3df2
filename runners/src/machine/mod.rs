//! The machine as its kernel describes and lets itself be set, in files below `/proc` and `/sys`.

pub mod clocks;
pub mod concerns;
pub mod topology;
pub mod tune;

use std::fs::{self, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use workloads::inside::chosen;

/// The variable that names another folder than `/` to look for `proc` and `sys` in.
const VARIABLE: &str = "TAREBENCH_MACHINE";

/// No file of the kernel that we read is longer, bytes: what is, is none.
const LONGEST_FILE: u64 = 64 << 10;

/// No list of the kernel has more numbers.
const MOST_NUMBERS: usize = 1 << 16;

/// The folder that `proc` and `sys` are in: `/`, but for a machine that was made up.
#[derive(Debug, Clone)]
pub struct Machine {
    root: PathBuf,
}

impl Machine {
    /// The one that we run on, or the one that `TAREBENCH_MACHINE` names.
    #[must_use]
    pub fn here() -> Self {
        let named = std::env::var_os(VARIABLE).filter(|name| !name.is_empty());
        let root = named.map_or_else(|| PathBuf::from("/"), PathBuf::from);
        // What is noted down must hold wherever it is read.
        Self::at(root.canonicalize().unwrap_or(root))
    }

    /// The one whose files are below this folder.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The full path of a file, as in `sys/kernel/mm/ksm/run`.
    fn path(&self, file: &str) -> PathBuf {
        self.root.join(file)
    }

    /// Its content without the spaces around it; `None` where there is no such file, nothing in it, or more than the kernel has
    /// to say: a machine that was made up may have anything there.
    fn read(&self, file: &str) -> Option<String> {
        // Nobody needs to write into a pipe before we go on.
        let there = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(self.path(file)).ok()?;
        let mut text = String::new();
        there.take(LONGEST_FILE + 1).read_to_string(&mut text).ok()?;
        Some(text.trim()).filter(|trimmed| !trimmed.is_empty() && text.len() as u64 <= LONGEST_FILE).map(String::from)
    }

    /// The value that a file has: of several words the one in brackets.
    fn value(&self, file: &str) -> Option<String> {
        self.read(file).map(|text| chosen(&text).unwrap_or(text))
    }

    /// The numbers of what is called so in a folder, as 0 and 1 for `cpu0` and `cpu1`, in order.
    fn numbered(&self, folder: &str, name: &str) -> Vec<usize> {
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        let number = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_prefix(name)?.parse().ok();
        let mut found: Vec<usize> = entries.filter_map(number).collect();
        found.sort_unstable();
        found
    }
}

/// Files that say how the kernel moves memory between nodes, merges it, and gathers it into huge pages.
const NUMA: &str = "proc/sys/kernel/numa_balancing";
const KSM: &str = "sys/kernel/mm/ksm/run";
const THP: &str = "sys/kernel/mm/transparent_hugepage/enabled";

/// The file with the governor of a CPU's clock rate.
fn governor_of(cpu: usize) -> String {
    format!("{CPUS}/cpu{cpu}/cpufreq/scaling_governor")
}

/// Where the folder of all CPUs is.
const CPUS: &str = "sys/devices/system/cpu";

/// As the kernel writes numbers of CPUs: `0-2,5`.
fn list(numbers: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => ranges.push((*number, *number)),
        }
    }
    let words = ranges.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") });
    words.collect::<Vec<_>>().join(",")
}

/// The numbers in `0-2,5`; nothing where it isn't such a list.
pub(crate) fn listed(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    text.split(',').filter_map(range).flatten().take(MOST_NUMBERS).collect()
}

/// Where `proc` and `sys` are, in words for people: the path without the made-up root.
fn shown(file: &str) -> PathBuf {
    Path::new("/").join(file)
}

#[cfg(test)]
pub(crate) mod made_up {
    use super::*;

    /// A machine with these files and nothing else; it goes with the folder.
    pub(crate) fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        }
        let machine = Machine::at(folder.path());
        (folder, machine)
    }

    #[test]
    fn lists_are_read_and_written_as_the_kernel_does() {
        assert_eq!(listed("0-2,5"), [0, 1, 2, 5]);
        assert_eq!(listed(""), [] as [usize; 0]);
        assert_eq!(listed("0-18446744073709551615").len(), MOST_NUMBERS);
        assert_eq!(list(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
    }

    #[test]
    fn a_file_without_an_end_and_one_that_nobody_writes_have_no_content() {
        let (folder, machine) = machine(&[("sys/long", &"a".repeat(LONGEST_FILE as usize)), ("sys/a", "1")]);
        for file in ["zero", "urandom"] {
            std::os::unix::fs::symlink(Path::new("/dev").join(file), folder.path().join("sys").join(file)).unwrap();
            assert_eq!(machine.read(&format!("sys/{file}")), None, "{file}");
        }
        nix::unistd::mkfifo(&folder.path().join("sys/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!((machine.read("sys/pipe"), machine.read("sys/long")), (None, None));
        assert_eq!(machine.read("sys/a").as_deref(), Some("1"));
    }

    #[test]
    fn a_value_is_the_chosen_word() {
        let (_folder, machine) = machine(&[("sys/a", "always [madvise] never"), ("sys/b", "1"), ("sys/c", "")]);
        let value = |file| machine.value(file);
        assert_eq!(value("sys/a").as_deref(), Some("madvise"));
        assert_eq!(value("sys/b").as_deref(), Some("1"));
        assert_eq!((value("sys/c"), value("sys/d")), (None, None));
    }
}
