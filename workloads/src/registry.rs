//! All workloads. A new one is one new file and one line here.

use crate::{Workload, control, disk, network, sqlite};

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
    &disk::fsync::Fsync,
    &disk::randread::RandRead,
    &disk::randwrite::RandWrite,
    &disk::randrw::RandRw,
    &disk::seqread::SeqRead,
    &disk::seqwrite::SeqWrite,
    &disk::maildir::Maildir,
    &disk::metadata::Metadata,
    &network::rr::RequestResponse,
    &network::crr::ConnectRequestResponse,
    &network::stream::Stream,
    &network::loaded_rr::LoadedRequestResponse,
    &network::imap::Imap,
    &network::chatty::Chatty,
];

/// The workload of this name.
pub fn find(name: &str) -> Option<&'static dyn Workload> {
    WORKLOADS.iter().copied().find(|w| w.name() == name)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_file_with_a_workload_is_registered() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut found = 0;
        for (folder, family) in [("control", "control"), ("sqlite", "sqlite"), ("disk", "disk"), ("network", "net")] {
            for entry in std::fs::read_dir(source.join(folder)).expect("the family's folder") {
                let path = entry.expect("an entry").path();
                let text = std::fs::read_to_string(&path).expect("source");
                if text.contains("impl Workload for") {
                    let stem = path.file_stem().and_then(|s| s.to_str()).expect("a name");
                    let stem = stem.replace('_', "-");
                    assert!(find(&format!("{family}/{stem}")).is_some(), "{} is not in the registry", path.display());
                    found += 1;
                }
            }
        }
        assert_eq!(found, WORKLOADS.len(), "a family's folder is missing from this test");
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
