//! The mount table of this process. Names of mounts are bytes, not text: one that isn't UTF-8 must not hide all the others.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A line of `/proc/self/mountinfo`, its escapes undone (proc_pid_mountinfo(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The device's number as the kernel prints it: `254:1`; file systems without a device have one of their own, `0:26`.
    pub number: String,
    /// The directory at which it is mounted.
    pub point: PathBuf,
    /// `ext4`, `overlay`, `cgroup2`.
    pub file_system: String,
    /// The device's path, or whatever the file system calls its source.
    pub source: OsString,
    /// The mount's own options, then those of the file system that don't repeat them, with commas between.
    pub options: String,
}

/// Every mount that this process sees, the oldest first. Empty where the system has no such table.
///
/// # Errors
/// When the table is there and can't be read.
pub fn all() -> io::Result<Vec<Mount>> {
    match fs::read("/proc/self/mountinfo") {
        Ok(table) => Ok(parse(&table)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// The mount that holds a path: the last of those with the longest mount point, which hides the others.
pub fn holding<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let holding = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    holding.max_by_key(|mount| mount.point.components().count())
}

/// A whole table. Lines that aren't of its form are left out.
fn parse(table: &[u8]) -> Vec<Mount> {
    table.split(|byte| *byte == b'\n').filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<Mount> {
    // id, parent, number, root, point, options, optional fields, a hyphen, type, source, options of the file system
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [_, _, number, _, point, own, rest @ ..] = fields.as_slice() else { return None };
    let hyphen = rest.iter().position(|field| *field == b"-")?;
    let [file_system, source, more, ..] = &rest[hyphen + 1..] else { return None };
    let own: Vec<&[u8]> = own.split(|byte| *byte == b',').collect();
    let more = more.split(|byte| *byte == b',').filter(|option| !own.contains(option));
    let options: Vec<String> = own.iter().copied().chain(more).map(text).collect();
    Some(Mount {
        number: text(number),
        point: unescape(point).into(),
        file_system: text(file_system),
        source: unescape(source),
        options: options.join(","),
    })
}

fn text(field: &[u8]) -> String {
    unescape(field).to_string_lossy().into_owned()
}

/// Spaces, tabs, ends of lines, backslashes and number signs stand in the table as `\` and three octal digits.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut at = 0;
    while at < field.len() {
        let digits = field.get(at + 1..at + 4).filter(|_| field[at] == b'\\');
        let octal = digits.and_then(|digits| u8::from_str_radix(OsStr::from_bytes(digits).to_str()?, 8).ok());
        bytes.push(octal.unwrap_or(field[at]));
        at += if octal.is_some() { 4 } else { 1 };
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"1 0 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,relatime,nobarrier\n\
        2 1 0:5 / /a\\040b rw - tmpfs t rw\n\
        3 2 0:6 /sub /a\\040b rw - xfs /dev/x\\134y rw,y\n\
        4 1 0:7 / /m\xff\xfe rw master:3 propagate_from:2 - tmpfs none rw\n\
        not a line of the table\n\
        5 1 0:8 / /end\\012\\011\\043 rw - tmpfs none rw\n\
        6 1 0:9 / /a\\9 rw - tmpfs none rw\n";

    #[test]
    fn the_topmost_mount_holds_a_path() {
        let mounts = parse(TABLE);
        let of = |path: &str| holding(&mounts, Path::new(path)).expect("a mount");
        let top = of("/a b/c");
        assert_eq!((top.number.as_str(), top.file_system.as_str(), top.options.as_str()), ("0:6", "xfs", "rw,y"));
        assert_eq!(top.source, r"/dev/x\y");
        assert_eq!(of("/abc").file_system, "ext4");
        assert_eq!(of("/").options, "rw,relatime,nobarrier");
        assert_eq!(holding(&[], Path::new("/")), None);
    }

    #[test]
    fn names_are_bytes_and_every_escape_is_undone() {
        let points: Vec<PathBuf> = parse(TABLE).into_iter().map(|mount| mount.point).collect();
        let expected: [&[u8]; 6] = [b"/", b"/a b", b"/a b", b"/m\xff\xfe", b"/end\n\t#", b"/a\\9"];
        assert_eq!(points, expected.map(|point| PathBuf::from(OsStr::from_bytes(point))));
    }
}
