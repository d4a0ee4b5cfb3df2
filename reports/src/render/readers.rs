//! Reports opened by programs that aren't ours: `reports/tests/readers.py`, with what `scripts/readers` installs.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{formats, sample};

/// Where `scripts/readers` puts things.
fn readers() -> Option<PathBuf> {
    let cache = match std::env::var_os("XDG_CACHE_HOME") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".cache"),
    };
    let readers = cache.join("tarebench/readers");
    let xmllint = Command::new("xmllint").arg("--version").output().is_ok();
    (xmllint && readers.join("complete").exists()).then_some(readers)
}

#[test]
fn programs_that_are_not_ours_read_every_format() {
    let Some(readers) = readers() else {
        let must = std::env::var("TAREBENCH_MUST_RUN").is_ok_and(|list| list.split(',').any(|n| n.trim() == "readers"));
        assert!(!must, "what opens the formats must be installed here: scripts/readers");
        eprintln!("SKIPPED: nothing to open the formats with; scripts/readers installs it");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let example = crate::comparison::compare(&crate::example::stored(), crate::comparison::Method::default());
    // What is invalid is left out for most of them.
    let mut valid = sample::hostile();
    valid.invalid.clear();
    let samples = [
        ("example", example),
        ("sample", sample::comparison()),
        ("hostile", sample::hostile()),
        ("hostile-valid", valid),
    ];
    for (name, c) in samples {
        for format in formats() {
            let path = folder.path().join(format!("{name}.{}", format.name));
            std::fs::write(path, format.renderer.render(&c).unwrap()).unwrap();
        }
    }
    let out = Command::new(readers.join("bin/python3"))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/readers.py"))
        .arg(folder.path())
        .arg(readers.join("junit-10.xsd"))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/report.schema.json"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}\n{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(said, "read example\nread hostile-valid\nread hostile\nread sample\n");
}
