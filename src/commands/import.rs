//! `tarebench import`: measurements of other programs, put into the store as if they were our own runs.

use reports::comparison::{Comparison, Distribution, Method, compare};
use reports::import::{self, Imported, JobNames, Named, Program, Unit};
use reports::render::{escape::one_line, units};
use reports::store::Store;

use crate::cli;
use crate::commands::{print, report, typed};
use crate::exit::{Exit, OrExit};
use crate::run_id::{new_id, now};

/// Reads every file before the store is opened, and stores all rows or none.
pub fn run(args: cli::Import) -> anyhow::Result<Exit> {
    let (program, args) = match args.source {
        cli::Source::Fio(args) => {
            let names = if args.short_names { JobNames::Short } else { JobNames::Whole };
            (Program::Fio(names), args.files)
        }
        cli::Source::Sockperf(args) => (Program::Sockperf, args),
        cli::Source::Iperf3(args) => (Program::Iperf3, args),
        cli::Source::Hdr(args) => (Program::Hdr(args.unit.map(unit)), args.files),
    };
    let files =
        args.files.iter().map(|text| Named::parse(text)).collect::<anyhow::Result<Vec<_>>>().or_exit(Exit::Usage)?;
    let words = import::words(program, &files);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let command = typed(&words, &args.store.store) + import::gone(&files);
    let Imported { stored, remarks } =
        import::import(program, &files, new_id(), now(), command).or_exit(Exit::Usage)?;
    let store = Store::open(&args.store.store).or_exit(Exit::Store)?;
    store.import(&stored).or_exit(Exit::Store)?;
    let stored = store.load(&stored.run.id).or_exit(Exit::Store)?;
    let comparison = compare(&stored, Method::default());
    for remark in &remarks {
        tell!("{}", one_line(remark));
    }
    print(&summary(&comparison))?;
    report::print_for_terminal(&comparison)?;
    let (id, store) = (&stored.run.id, &args.store.store);
    let draws = typed(&["tarebench", "report", id, "--format", "html", "-o", "report.html"], store);
    tell!("run {id} is in {}; `{draws}` draws it", store.display());
    Ok(if stored.records.iter().any(|r| r.outcome.is_err()) { Exit::SomeFailed } else { Exit::Done })
}

fn unit(unit: cli::ValueUnit) -> Unit {
    match unit {
        cli::ValueUnit::Ns => Unit::Ns,
        cli::ValueUnit::Us => Unit::Us,
        cli::ValueUnit::Ms => Unit::Ms,
    }
}

/// How much was done in a second, where that is known.
fn rate(c: &Comparison, d: &Distribution) -> String {
    let streams = c.run.workloads.iter().any(|w| w.name == d.workload && w.streams);
    match d.operations_per_second {
        0.0 => format!("{} op/s", units::NONE),
        _ if streams => units::bytes_per_second(d.bytes_per_second),
        rate => format!("{} op/s", units::three(rate)),
    }
}

/// A line for each workload and environment: the report compares, and one environment alone has nothing to be compared with.
fn summary(c: &Comparison) -> String {
    let line = |d: &Distribution| {
        let at = |q: f64| d.service_quantile(q).map_or_else(|| units::NONE.into(), units::duration);
        let flags: Vec<&str> = d.flags.iter().map(|f| f.name).collect();
        let flags = if flags.is_empty() { String::new() } else { format!("  ({})", flags.join(", ")) };
        format!(
            "{} in {}: {} operations, {}, p50 {}, p99 {}{flags}\n",
            one_line(&d.workload),
            one_line(&d.environment),
            units::count(d.operations),
            rate(c, d),
            at(0.5),
            at(0.99)
        )
    };
    c.distributions.iter().map(line).collect::<String>() + "\n"
}
