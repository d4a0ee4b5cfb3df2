//! The host's counters of a workload as a table: CPU time and work of the device by operation.

use workloads::Resource;

use super::super::units;
use crate::comparison::{Comparison, Distribution};
use crate::record::WorkloadPlan;

/// A table of words, with a column only for what some environment has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Of the figures; the environment's name stands before them.
    pub headings: Vec<&'static str>,
    /// The environment and its figures.
    pub rows: Vec<(String, Vec<String>)>,
}

type Figure = fn(&Distribution, &WorkloadPlan) -> Option<f64>;
type Column = (&'static str, Figure, fn(f64) -> String);

const CPU: &str = "CPU time";

const COLUMNS: [Column; 14] = [
    (CPU, |d, _| d.seen.cpu_ns, units::duration),
    ("user", |d, _| d.seen.split.map(|s| s.user), units::percent),
    ("system", |d, _| d.seen.split.map(|s| s.system), units::percent),
    ("guest", |d, _| d.seen.split?.guest, units::percent),
    ("reads", |d, plan| device(plan, d.seen.reads), units::three),
    ("bytes read", |d, plan| device(plan, d.seen.bytes_read), units::bytes),
    ("writes", |d, plan| device(plan, d.seen.writes), units::three),
    ("bytes written", |d, plan| device(plan, d.seen.bytes_written), units::bytes),
    ("written by byte", amplification, units::three),
    ("flushes", |d, plan| device(plan, d.seen.flushes), units::three),
    ("packets", |d, plan| d.seen.packets.filter(|_| plan.resource == Resource::Network), units::three),
    ("switches", |d, _| d.seen.switches, units::three),
    ("page cache after", |d, plan| device(plan, d.seen.cache_bytes), units::bytes),
    ("memory after", |d, _| d.seen.memory_bytes, units::bytes),
];

/// Beside work that needs no disk the device's counters are others' work.
fn device(plan: &WorkloadPlan, count: Option<f64>) -> Option<f64> {
    count.filter(|_| plan.resource == Resource::Disk)
}

/// Bytes that reached the device for each that the work made durable.
fn amplification(d: &Distribution, plan: &WorkloadPlan) -> Option<f64> {
    let own = d.bytes as f64 / d.operations.max(1) as f64;
    device(plan, d.seen.bytes_written).filter(|_| plan.durable && own > 0.0).map(|written| written / own)
}

/// The counters of a workload, the baseline's first; `None` where nothing was counted.
#[must_use]
pub fn table(c: &Comparison, plan: &WorkloadPlan) -> Option<Table> {
    let here: Vec<&Distribution> = super::tried(c).filter_map(|e| c.distribution(&plan.name, &e.plan.name)).collect();
    let shown = |column: &Column| here.iter().any(|d| column.1(d, plan).is_some_and(|figure| figure > 0.0));
    let columns: Vec<&Column> = COLUMNS.iter().filter(|column| shown(column)).collect();
    let compared = here.iter().any(|d| d.seen.cpu.is_some());
    if columns.is_empty() {
        return None;
    }
    let mut headings: Vec<&str> = columns.iter().map(|(heading, ..)| *heading).collect();
    let at = usize::from(headings.first() == Some(&CPU));
    if compared {
        headings.insert(at, "to the baseline's");
    }
    let row = |d: &&Distribution| {
        let figure = |(_, figure, unit): &&Column| figure(d, plan).map_or_else(|| units::NONE.into(), unit);
        let mut figures: Vec<String> = columns.iter().map(figure).collect();
        if compared {
            figures.insert(at, d.seen.cpu.map_or_else(|| units::NONE.into(), |cpu| super::overhead(&cpu)));
        }
        (c.label(&d.environment).to_string(), figures)
    };
    Some(Table { headings, rows: here.iter().map(row).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comparison::Split;
    use crate::render::{self, sample};

    fn of(c: &Comparison, workload: &str) -> Table {
        let plan = c.run.workloads.iter().find(|w| w.name == workload).unwrap();
        table(c, plan).unwrap()
    }

    #[test]
    fn a_durable_workload_has_the_devices_work_and_another_has_not() {
        let c = sample::comparison();
        let durable = of(&c, "sqlite/commit");
        assert_eq!(
            durable.headings,
            ["CPU time", "to the baseline's", "writes", "bytes written", "written by byte", "flushes"]
        );
        assert_eq!(of(&c, "net/rr").headings, ["CPU time", "to the baseline's"]);
        let (name, figures) = &durable.rows[0];
        assert_eq!((name.as_str(), figures[0].as_str(), figures[1].as_str()), ("bare", "38.0 µs", units::NONE));
        assert_eq!((figures[3].as_str(), figures[4].as_str()), ("12.0 KiB", "3.00"));
    }

    #[test]
    fn packets_are_of_the_network_and_what_is_held_of_all() {
        let mut c = sample::comparison();
        for d in &mut c.distributions {
            (d.seen.packets, d.seen.switches) = (Some(2.1), Some(1.5));
            (d.seen.cache_bytes, d.seen.memory_bytes) = (Some(4096.0), Some(f64::from(3 << 20)));
        }
        assert_eq!(of(&c, "net/rr").headings, ["CPU time", "to the baseline's", "packets", "switches", "memory after"]);
        assert_eq!(of(&c, "net/rr").rows[0].1[2..], ["2.10", "1.50", "3.00 MiB"]);
        let disk = of(&c, "sqlite/commit");
        assert_eq!(disk.headings[6..], ["switches", "page cache after", "memory after"]);
    }

    #[test]
    fn all_that_the_host_saw_is_on_the_page_in_the_text_and_in_the_json() {
        let mut c = sample::comparison();
        for d in &mut c.distributions {
            let seen = &mut d.seen;
            (seen.reads, seen.bytes_read, seen.packets) = (Some(0.25), Some(1024.0), Some(2.1));
            seen.split = Some(Split { user: 0.22, system: 0.61, guest: Some(0.17), of_ns: 2_000_000_000 });
            (seen.switches, seen.looks) = (Some(1.5), Some(0.002));
            (seen.cache_bytes, seen.memory_bytes) = (Some(4096.0), Some(f64::from(3 << 20)));
        }
        let text = |format: &str| {
            let bytes = render::find(format).expect("there").renderer.render(&c).expect("rendered");
            String::from_utf8(bytes).expect("text")
        };
        let (page, markdown) = (text("html"), text("markdown"));
        let disk = of(&c, "sqlite/commit");
        assert_eq!(disk.headings[2..5], ["user", "system", "guest"]);
        assert_eq!(disk.rows[0].1[2..5], ["22 %", "61 %", "17 %"]);
        let headings = COLUMNS.map(|(heading, ..)| heading);
        // Of a box before and after its work: what it holds, and what it takes to begin and to end it.
        for word in headings.into_iter().chain(["to the baseline's", "memory", "start", "stop"]) {
            let shown = |text: &str| text.contains(word) || text.contains(&word.replace('\'', "&#39;"));
            assert!(shown(&page), "no `{word}` on the page");
            assert!(shown(&markdown), "no `{word}` in the text: {markdown}");
        }
        let json: serde_json::Value = serde_json::from_str(&text("json")).expect("JSON");
        let of = |list: &str, at: &str| {
            json[list].as_array().and_then(|all| all.iter().find_map(|e| e.pointer(at)?.as_f64()))
        };
        for key in [
            "cpu_ns",
            "cpu_ratio",
            "cpu_user_share",
            "cpu_system_share",
            "cpu_guest_share",
            "cpu_split_ns",
            "device_reads",
            "device_bytes_read",
            "device_writes",
            "device_bytes_written",
            "device_flushes",
            "context_switches",
            "packets",
            "cache_bytes",
            "memory_bytes",
            "looks",
        ] {
            assert!(of("distributions", &format!("/seen/{key}")).is_some(), "no {key}: {json}");
        }
        for key in ["start_ms", "stop_ms", "memory_bytes"] {
            assert!(of("environments", &format!("/{key}")).is_some(), "no {key}: {json}");
        }
    }

    #[test]
    fn a_counter_that_nobody_read_is_no_zero() {
        let c = sample::comparison();
        let table = of(&c, "sqlite/commit");
        let emulated = c.environments.iter().find(|e| e.plan.emulated.is_some()).unwrap();
        let (_, figures) = table.rows.iter().find(|(name, _)| *name == emulated.plan.name).unwrap();
        assert_eq!(figures[5], units::NONE, "{figures:?}");
    }
}
