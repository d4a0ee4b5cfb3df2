//! All workloads. A new one is one new file and one line here.

use crate::protocol::Task;
use crate::workload::Workload;
use crate::{command, control, disk, network, sqlite};

/// Every workload, in the order in which lists and reports show them.
pub static WORKLOADS: &[&dyn Workload] = &[
    &control::clock::Clock,
    &control::syscall::Syscall,
    &control::switch::Switch,
    &control::spawn::Spawn,
    &control::fault::Fault,
    &control::memory::Memory,
    &control::bandwidth::Bandwidth,
    &control::cpu::Cpu,
    &control::timer::Timer,
    &sqlite::commit::Commit,
    &sqlite::lookup::Lookup,
    &sqlite::scan::Scan,
    &sqlite::mixed::Mixed,
    &sqlite::mailbox::Mailbox,
    &sqlite::chatty::Chatty,
    &sqlite::set::Set,
    &sqlite::insertions::Insertions,
    &sqlite::writers::Writers,
    &sqlite::replay::Replay,
    &disk::fsync::Fsync,
    &disk::access::RAND_READ,
    &disk::access::RAND_WRITE,
    &disk::access::RAND_RW,
    &disk::access::SEQ_READ,
    &disk::access::SEQ_WRITE,
    &disk::maildir::Maildir,
    &disk::metadata::Metadata,
    &network::rr::RequestResponse,
    &network::crr::ConnectRequestResponse,
    &network::stream::Stream,
    &network::loaded_rr::LoadedRequestResponse,
    &network::imap::Imap,
    &network::chatty::Chatty,
    &command::run::Run,
];

/// The workload of this name.
pub fn find(name: &str) -> Option<&'static dyn Workload> {
    WORKLOADS.iter().copied().find(|w| w.name() == name)
}

impl Task {
    /// A workload with its defaults, in an environment with 512 MiB and without a peer: for tests and probes.
    ///
    /// # Panics
    /// When the registry has no workload of this name.
    pub fn of(workload: &str) -> Self {
        let known = find(workload).unwrap_or_else(|| panic!("no workload is called `{workload}`"));
        let settings = known.resolve(&Default::default()).expect("defaults are valid");
        Self { workload: workload.into(), settings, seed: 7, memory: 512 << 20, peer: None }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Source files below a folder, with the paths of their modules.
    fn modules(folder: &Path, path: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder).expect("a folder of the source") {
            let entry = entry.expect("an entry").path();
            let name = entry.file_stem().and_then(|s| s.to_str()).expect("a name");
            let module = format!("{path}{name}");
            if entry.is_dir() {
                found.extend(modules(&entry, &format!("{module}::")));
            } else {
                found.push((module, std::fs::read_to_string(&entry).expect("source")));
            }
        }
        found
    }

    /// Names for registry lines: the types that are workloads, or the statics of such a type.
    fn workloads_in(source: &str) -> Vec<String> {
        let types = source.lines().filter_map(|line| line.strip_prefix("impl Workload for ")?.strip_suffix(" {"));
        let names = |of: &str| {
            let statics = source.lines().filter_map(|line| line.strip_prefix("pub static ")?.split_once(": "));
            let statics: Vec<_> = statics.filter(|(_, rest)| rest.split(' ').next() == Some(of)).collect();
            match source.contains(&format!("\npub struct {of};")) {
                true => vec![of.to_string()],
                false => statics.into_iter().map(|(name, _)| name.to_string()).collect(),
            }
        };
        types.flat_map(names).collect()
    }

    #[test]
    fn every_file_with_a_workload_is_registered() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let registered = include_str!("registry.rs");
        let mut found = 0;
        for (module, text) in modules(&source, "") {
            let names = workloads_in(&text);
            assert!(
                text.contains("\nimpl Workload for ") != names.is_empty(),
                "no workload can be registered of {module}"
            );
            for name in names {
                let line = format!("    &{module}::{name},\n");
                assert!(registered.contains(&line), "src/registry.rs lacks the line `{}`", line.trim());
                found += 1;
            }
        }
        assert_eq!(found, WORKLOADS.len(), "something is registered that this test doesn't find");
    }

    #[test]
    fn names_are_distinct_and_defaults_are_valid() {
        for (i, workload) in WORKLOADS.iter().enumerate() {
            assert!(WORKLOADS[..i].iter().all(|w| w.name() != workload.name()), "{}", workload.name());
            workload.resolve(&Default::default()).expect("defaults resolve");
            assert!(!workload.about().ends_with('.'), "{}", workload.about());
        }
    }
}
