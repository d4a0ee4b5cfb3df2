//! Processes of the host, from /proc: who descends from whom, and what they hold.

use std::fs;

/// A process as `/proc/<pid>/stat` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: u32,
    parent: u32,
    group: u32,
}

/// Resident memory of a process, its group and its descendants, bytes. Pages they share count more than once.
pub(crate) fn resident_below(front: u32) -> Option<u64> {
    let all = list();
    let mut ours: Vec<u32> = all.iter().filter(|p| p.pid == front || p.group == front).map(|p| p.pid).collect();
    let mut seen = 0;
    while seen < ours.len() {
        let parent = ours[seen];
        for child in all.iter().filter(|p| p.parent == parent) {
            if !ours.contains(&child.pid) {
                ours.push(child.pid);
            }
        }
        seen += 1;
    }
    let total: u64 = ours.iter().filter_map(|pid| resident(*pid)).sum();
    (total > 0).then_some(total)
}

/// Process ids of everything that runs.
pub(crate) fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// The value of a variable in the environment that a process was started with; `None` also where it can't be read.
pub(crate) fn variable(pid: u32, name: &str) -> Option<Vec<u8>> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut entries = environment.split(|b| *b == 0);
    entries.find_map(|e| e.strip_prefix(name.as_bytes())?.strip_prefix(b"=")).map(<[u8]>::to_vec)
}

/// The names that a process goes by: of the file that it runs, where that may be known, and as it calls itself.
pub(crate) fn names(pid: u32) -> Vec<String> {
    let file = fs::read_link(format!("/proc/{pid}/exe")).ok();
    let file = file.and_then(|path| path.file_name()?.to_str().map(String::from));
    let file = file.map(|name| name.trim_end_matches(" (deleted)").to_string());
    let own = fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim_end().to_string());
    file.into_iter().chain(own).collect()
}

/// One of them, to be shown.
pub(crate) fn name(pid: u32) -> String {
    names(pid).into_iter().next().unwrap_or_else(|| "gone".into())
}

fn list() -> Vec<Process> {
    pids().into_iter().filter_map(|pid| parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)).collect()
}

/// The name in parentheses may hold anything, spaces and parentheses included.
fn parse(stat: &str) -> Option<Process> {
    let (before, after) = stat.split_once(" (")?;
    let mut rest = after.rsplit_once(") ")?.1.split(' ').skip(1);
    let pid = before.parse().ok()?;
    Some(Process { pid, parent: rest.next()?.parse().ok()?, group: rest.next()?.parse().ok()? })
}

fn resident(pid: u32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    // SAFETY: sysconf has no preconditions.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Some(pages * u64::try_from(page).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_is_no_trap() {
        assert_eq!(parse("12 (a) b) S 3 4 5 0"), Some(Process { pid: 12, parent: 3, group: 4 }));
        assert_eq!(parse("garbage"), None);
    }

    #[test]
    fn we_hold_memory() {
        assert!(resident_below(std::process::id()).is_some_and(|b| b > 100_000));
        assert_eq!(resident_below(u32::MAX), None);
    }
}
