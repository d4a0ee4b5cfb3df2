//! The schemas of our JSON, which are published in `docs/` as they follow from the types that write it.

use std::path::Path;

use schemars::Schema;

/// Holds the schema against the published one, and writes that where `TAREBENCH_WRITE` is set.
pub(crate) fn hold(mut schema: Schema, title: &str, file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(file);
    schema.insert("title".into(), title.into());
    let new = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    if std::env::var_os("TAREBENCH_WRITE").is_some() {
        std::fs::write(&path, &new).unwrap();
    }
    let old = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(old == new, "docs/{file} is stale: TAREBENCH_WRITE=1 cargo test -p tarebench-reports schema");
}
