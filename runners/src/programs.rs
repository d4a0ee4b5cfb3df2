//! Which programs of the host a session ran on: each file is read once in a run, before anything is timed, and every later start
//! must find it as it was.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};
use workloads::facts::Program;

use crate::names::hex;
use crate::process;

/// A program that a launch stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// Where it lies.
    pub path: PathBuf,
    /// How its version is known.
    pub version: Version,
}

/// How the version of a program is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// It says so when it is asked with `--version`.
    Asked,
    /// Somebody has looked already.
    Known(String),
    /// Not at all: nobody knows what the program would do with `--version`.
    Unknown,
}

/// Everything by which a file is known to be the one that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Mark {
    fn of(path: &Path) -> anyhow::Result<Self> {
        let about = fs::metadata(path).with_context(|| format!("can't look at {}", path.display()))?;
        let modified = (about.mtime(), about.mtime_nsec());
        Ok(Self { device: about.dev(), inode: about.ino(), size: about.len(), modified })
    }
}

/// The programs of one run.
#[derive(Debug, Default)]
pub struct Programs(BTreeMap<PathBuf, (Mark, Program)>);

impl Programs {
    /// Their versions and hashes; a file that was looked at before is not read again.
    ///
    /// # Errors
    /// When one isn't there any more, or is another than it was.
    pub fn look_at(&mut self, used: &[Used]) -> anyhow::Result<Vec<Program>> {
        for Used { path, version } in used {
            if !self.0.contains_key(path) {
                self.0.insert(path.clone(), (Mark::of(path)?, read(path, version)));
            }
        }
        self.unchanged(used)?;
        Ok(used.iter().map(|one| self.0[&one.path].1.clone()).collect())
    }

    /// Refuses programs that are not those that were looked at: a record would name others than ran.
    ///
    /// # Errors
    /// See above.
    pub fn unchanged(&self, used: &[Used]) -> anyhow::Result<()> {
        for Used { path, .. } in used {
            let now = Mark::of(path)?;
            if self.0.get(path).is_none_or(|(then, _)| *then != now) {
                bail!("{} is another file than when the run began; let it be while a run goes on", path.display());
            }
        }
        Ok(())
    }
}

fn read(path: &Path, version: &Version) -> Program {
    let version = match version {
        Version::Known(version) => Some(version.clone()),
        Version::Asked => process::version_of(path).inspect_err(|words| log::debug!("{words}")).ok(),
        Version::Unknown => None,
    };
    let seen = |e: &std::io::Error| log::debug!("can't read {}: {e}", path.display());
    let sha256 = hash(path).inspect_err(seen).ok();
    let script = is_script(path).inspect_err(seen).ok();
    Program { path: path.display().to_string(), version, sha256, script }
}

/// Whether the kernel hands the file to another program, which does what it says.
fn is_script(path: &Path) -> std::io::Result<bool> {
    let mut begin = Vec::new();
    File::open(path)?.take(2).read_to_end(&mut begin)?;
    Ok(begin == b"#!")
}

fn hash(path: &Path) -> std::io::Result<String> {
    let (mut file, mut hash, mut buffer) = (File::open(path)?, Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            bytes => hash.update(&buffer[..bytes]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(path: &Path, version: Version) -> [Used; 1] {
        [Used { path: path.to_path_buf(), version }]
    }

    #[test]
    fn a_program_is_known_by_its_version_and_its_bytes() {
        let folder = tempfile::tempdir().expect("a directory");
        let [one, copy] = ["one", "copy"].map(|name| folder.path().join(name));
        for path in [&one, &copy] {
            process::write_program(path, "#!/bin/sh\necho engine version 1.2-rc3\n");
        }
        let mut programs = Programs::default();
        let [first] = &programs.look_at(&used(&one, Version::Asked)).expect("there")[..] else { panic!("one") };
        assert_eq!(first.version.as_deref(), Some("1.2-rc3"));
        let expected = hex(&Sha256::digest(fs::read(&one).expect("readable")));
        assert_eq!(first.sha256.as_ref(), Some(&expected));
        let [second] = &programs.look_at(&used(&copy, Version::Unknown)).expect("there")[..] else { panic!("one") };
        assert_eq!((second.version.as_ref(), second.sha256.as_ref()), (None, Some(&expected)));
        assert_eq!(second.script, Some(true));
        fs::write(&one, "\u{7f}ELF and so on").expect("written");
        assert!(!is_script(&one).expect("readable"));
    }

    #[test]
    fn a_file_is_read_once_and_one_that_was_replaced_is_refused() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("engine");
        process::write_program(&path, "#!/bin/sh\necho asked >> \"$0.log\"; echo 1.0\n");
        let mut programs = Programs::default();
        let used = used(&path, Version::Asked);
        let before = programs.look_at(&used).expect("there");
        assert_eq!(programs.look_at(&used).expect("still there"), before);
        programs.unchanged(&used).expect("nobody touched it");
        let asked = fs::read_to_string(folder.path().join("engine.log")).expect("it was asked");
        assert_eq!(asked.lines().count(), 1);
        // An upgrade puts another file in its place.
        let other = folder.path().join("other");
        process::write_program(&other, "#!/bin/sh\necho 2.0\n");
        fs::rename(&other, &path).expect("renamed");
        let words = programs.look_at(&used).expect_err("another file").to_string();
        assert!(words.contains("engine is another file than when the run began"), "{words}");
        fs::remove_file(&path).expect("removed");
        programs.unchanged(&used).expect_err("gone");
    }
}
