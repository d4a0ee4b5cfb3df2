//! An engine's program: the installed one, unless a setting names another release or build.

use std::path::{Path, PathBuf};

use workloads::settings::{Kind, Setting, SettingError, Settings};

use super::find::{executable, find_all, version_of};
use crate::advice;
use crate::unavailable::Unavailable;

/// The setting that names another build of an engine's program than the installed one.
pub(crate) const BINARY: Setting = Setting::new("binary", Kind::Program).with_about(
    "Full path of the engine's program, for another release or build than the installed one; by default the one in PATH",
);

/// What [`BINARY`] names, where it is among these settings and set.
pub(crate) fn binary(settings: &Settings) -> Option<&Path> {
    let (_, path) = settings.iter().find(|(name, path)| *name == BINARY.name && !path.is_empty())?;
    Some(Path::new(path))
}

/// A program of the host that a runner starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// As it is called in PATH.
    pub name: &'static str,
    /// Debian's package with it.
    package: &'static str,
    /// How to get it, where no package has it.
    fix: Option<&'static str>,
    /// Where distributions keep it besides PATH.
    places: &'static [&'static str],
}

impl Program {
    /// A program of a package.
    pub(crate) const fn of(name: &'static str, package: &'static str) -> Self {
        Self { name, package, fix: None, places: &[] }
    }

    /// With another way to get it than its package alone.
    pub(crate) const fn or_fix(self, fix: &'static str) -> Self {
        Self { fix: Some(fix), ..self }
    }

    /// With files that it may be besides those in PATH.
    pub(crate) const fn or_at(self, places: &'static [&'static str]) -> Self {
        Self { places, ..self }
    }

    /// Every one on this host, the one that is taken unless another is set first.
    pub fn all(&self) -> Vec<PathBuf> {
        let beside = self.places.iter().map(PathBuf::from).filter(|path| executable(path));
        let mut all: Vec<PathBuf> = Vec::new();
        for path in find_all(self.name).chain(beside) {
            // /bin is /usr/bin, and a link is no second program.
            let file = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
            if !all.iter().any(|known| file(known) == file(&path)) {
                all.push(path);
            }
        }
        all
    }

    /// The same with what each says of its version, where it says something.
    pub fn versions(&self) -> Vec<(PathBuf, Option<String>)> {
        self.all().into_iter().map(|path| (path.clone(), version_of(&path).ok())).collect()
    }

    /// The one that is `set`, else the installed one.
    pub(crate) fn find(&self, set: Option<&Path>) -> Option<PathBuf> {
        match set {
            Some(path) => Some(path.to_path_buf()).filter(|path| executable(path)),
            None => self.all().into_iter().next(),
        }
    }

    /// The same, or how to get it.
    ///
    /// # Errors
    /// When it isn't there.
    pub(crate) fn require(&self, set: Option<&Path>) -> Result<PathBuf, Unavailable> {
        let absent = |because, fix| Unavailable { because, fix, broken: false };
        let package = || self.fix.map_or_else(|| format!("apt install {}", self.package), String::from);
        self.find(set).ok_or_else(|| match set {
            Some(path) => {
                let fix = format!("set the full path of a {0}, or none for the `{0}` in PATH", self.name);
                absent(format!("{} is no program: {}", path.display(), flaw(path, true).unwrap_or("it is gone")), fix)
            }
            None => absent(format!("`{}` is not in PATH", self.name), package()),
        })
    }

    /// What it says of its version: `1.1.5+ds1`.
    ///
    /// # Errors
    /// When it isn't there, fails, or does not answer in time.
    pub(crate) fn version(&self, set: Option<&Path>) -> Result<String, Unavailable> {
        let path = self.require(set)?;
        let reinstall = || self.fix.map_or_else(|| format!("apt install --reinstall {}", self.package), String::from);
        version_of(&path).map_err(|because| {
            let another = || match set {
                Some(path) => format!(
                    "put a {0} for this machine at {1}, or set none for the `{0}` in PATH",
                    self.name,
                    path.display()
                ),
                None => reinstall(),
            };
            Unavailable { fix: advice::on(&because).unwrap_or_else(another), because, broken: true }
        })
    }
}

/// Refuses settings that name a program or a file of the host that isn't there: nothing is begun that can't be ended.
///
/// # Errors
/// [`SettingError::Value`] with what is there instead, and what to do.
pub(crate) fn check_files(known: &[Setting], settings: &Settings) -> Result<(), SettingError> {
    for setting in known.iter().filter(|s| matches!(s.kind, Kind::Program | Kind::File)) {
        let program = setting.kind == Kind::Program;
        let value = settings.iter().find(|(name, _)| *name == setting.name).map_or("", |(_, value)| value);
        let Some(flaw) = Some(value).filter(|v| !v.is_empty()).and_then(|v| flaw(Path::new(v), program)) else {
            continue;
        };
        let wanted = if program { "a program" } else { "a file" };
        return Err(SettingError::Value {
            name: setting.name,
            value: value.to_string(),
            expected: format!("{flaw}; give the full path of {wanted}, or leave it away for the installed one"),
        });
    }
    Ok(())
}

/// Why a path is no program, or no file, of the host.
fn flaw(path: &Path, program: bool) -> Option<&'static str> {
    match path.metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => Some("it can't be reached by this user"),
        Err(_) => Some("there is no such file"),
        Ok(about) if about.is_dir() => Some("it is a directory"),
        Ok(about) if !about.is_file() => Some("it is no ordinary file"),
        Ok(_) if program && !executable(path) => Some("it isn't executable (chmod +x makes it so)"),
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SHELL: Program = Program::of("sh", "dash");

    #[test]
    fn the_one_that_is_set_is_taken_and_none_in_its_place() {
        let folder = tempfile::tempdir().expect("a directory");
        let own = folder.path().join("my-shell");
        super::super::write_program(&own, "#!/bin/sh\necho shell 7.1\n");
        assert_eq!(SHELL.require(Some(&own)).expect("there"), own);
        assert_eq!(SHELL.version(Some(&own)).expect("it answers"), "7.1");
        assert!(SHELL.require(None).expect("everybody has one").ends_with("sh"));
        let gone = folder.path().join("gone");
        let no = SHELL.require(Some(&gone)).expect_err("not there");
        assert!(no.because.contains("gone is no program: there is no such file") && !no.broken, "{no:?}");
        assert!(no.fix.contains("full path of a sh"), "{no:?}");
        let no = Program::of("no-such-engine", "some-package").require(None).expect_err("not there");
        assert_eq!(
            (no.because.as_str(), no.fix.as_str()),
            ("`no-such-engine` is not in PATH", "apt install some-package")
        );
        super::super::write_program(&own, "#!/bin/sh\nexit 3\n");
        let no = SHELL.version(Some(&own)).expect_err("it fails");
        assert!(no.broken && no.fix.contains(&own.display().to_string()), "{no:?}");
    }

    #[test]
    fn one_that_can_not_be_started_is_refused_with_the_reason() {
        const KNOWN: &[Setting] = &[BINARY, Setting::new("kernel", Kind::File)];
        let folder = tempfile::tempdir().expect("a directory");
        let text = folder.path().join("text");
        fs::write(&text, "no program").expect("written");
        let refused = |name: &str, path: &Path| {
            let settings = Settings::of(KNOWN, &[(name, path.to_str().expect("text"))]);
            check_files(KNOWN, &settings).err().map(|e| e.to_string())
        };
        for (path, words) in [
            (folder.path().join("gone"), "there is no such file"),
            (folder.path().to_path_buf(), "it is a directory"),
            (text.clone(), "isn't executable"),
            ("/dev/null".into(), "no ordinary file"),
        ] {
            let error = refused("binary", &path).expect("refused");
            assert!(error.starts_with(&format!("`binary` can't be `{}`: ", path.display())), "{error}");
            assert!(error.contains(words) && error.contains("leave it away"), "{error}");
        }
        assert_eq!(refused("kernel", &text), None, "a kernel is not executed");
        assert!(refused("kernel", folder.path()).is_some());
        assert_eq!(refused("binary", Path::new("/bin/sh")), None);
    }

    #[test]
    fn all_of_a_name_are_found_once() {
        let all = SHELL.all();
        let files: Vec<PathBuf> = all.iter().map(|p| p.canonicalize().expect("there")).collect();
        assert!(!all.is_empty() && (1..files.len()).all(|i| !files[..i].contains(&files[i])), "{all:?}");
        let hidden = Program::of("no-such-engine", "p").or_at(&["/no/such/place", "/bin/sh"]);
        assert_eq!(hidden.all(), [Path::new("/bin/sh")]);
        assert_eq!(hidden.find(None).as_deref(), Some(Path::new("/bin/sh")));
    }
}
