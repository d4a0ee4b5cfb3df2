//! Reports judge by facts: which runner it was and how another crate words a fact decides nothing in them.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use common::Dir;
use reports::comparison::{Method, Severity, compare};
use reports::record::{Checked, Ending, EnvironmentPlan, Record, Run, Start, Stored, WorkloadPlan};
use reports::store::Store;
use runners::host::{Host, Resources};
use runners::session::Session;
use runners::stage::Stage;
use runners::stage::data::DataPath;
use runners::stage::shared::Shared;
use runners::{Launch, Runner, Unavailable};
use workloads::facts::{Keeper, Network};
use workloads::protocol::{BurstPlan, Task};
use workloads::settings::Settings;

/// Methods that look for their literal in another text.
const LOOKS_FOR: [&str; 7] =
    ["contains(", "starts_with(", "ends_with(", "strip_prefix(", "strip_suffix(", "find(", "split_once("];

/// Files of reports that only tests use: there, runners are named to be tried.
const FIXTURES: [&str; 3] = ["example.rs", "sample.rs", "tests.rs"];

/// The names of all runners, and the words of all networks.
fn names() -> Vec<String> {
    let runners = runners::registry::RUNNERS.iter().map(|r| r.name().to_string());
    runners.chain(Network::ALL.iter().map(Network::to_string)).collect()
}

/// A literal, what stands before it and its line.
struct Literal {
    text: String,
    before: String,
    line: usize,
}

/// The literals of a source file, comments and the module of tests at its end left out.
fn literals(source: &str) -> Vec<Literal> {
    let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
        let (mut text, mut inside, mut begun) = (String::new(), false, 0);
        let mut characters = line.char_indices();
        while let Some((at, c)) = characters.next() {
            match c {
                '\\' if inside => text.extend(characters.next().map(|(_, c)| c)),
                // A quote as a character is no literal of ours.
                '"' if !inside && line[..at].ends_with('\'') => {}
                '"' if inside => {
                    let before = line[..begun].to_string();
                    found.push(Literal { text: std::mem::take(&mut text), before, line: number + 1 });
                    inside = false;
                }
                '"' => (inside, begun) = (true, at),
                c if inside => text.push(c),
                _ => {}
            }
        }
    }
    found
}

/// Where a source file asks for one of the names, or looks for a part of one.
fn matched(source: &str, names: &[String]) -> Vec<String> {
    let asks = |l: &Literal| {
        // What stands behind an arrow is what a match gives, not what it asks for.
        let whole = names.contains(&l.text) && !l.before.trim_end().ends_with("=>");
        let sought = LOOKS_FOR.iter().any(|method| l.before.ends_with(method));
        let part =
            l.text.len() > 2 && names.iter().any(|name| name.contains(&l.text) || l.text.contains(name.as_str()));
        whole || (sought && part)
    };
    literals(source).into_iter().filter(asks).map(|l| format!("line {}: \"{}\"", l.line, l.text)).collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder of sources").flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") && !FIXTURES.iter().any(|f| path.ends_with(f)) {
            all.push(path);
        }
    }
    all
}

#[test]
fn reports_ask_for_no_runner_and_no_network_by_name() {
    let names = names();
    let all = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("reports/src"));
    assert!(all.len() > 20, "{} files", all.len());
    let found: Vec<String> = all
        .iter()
        .flat_map(|path| {
            let source = std::fs::read_to_string(path).expect("a source file");
            matched(&source, &names).into_iter().map(|what| format!("{}, {what}", path.display())).collect::<Vec<_>>()
        })
        .collect();
    assert!(found.is_empty(), "state a fact (workloads/src/facts.rs) and judge that:\n{}", found.join("\n"));
}

#[test]
fn a_name_that_is_asked_for_is_found() {
    for line in [
        r#"let sandboxed = plan.runner == "gvisor";"#,
        r#"matches!(e.runner.as_str(), "runc" | "other")"#,
        r#"let through = network.contains("user");"#,
        r#"("loopback", other) => true,"#,
    ] {
        assert_eq!(matched(line, &names()).len(), 1, "{line}");
    }
    for line in [
        r#"// as in "gvisor""#,
        r#"Claim::None => "none","#,
        r#"fact("the peer is reached over loopback: no device is involved");"#,
        "if '\"' == c { x(\"ru\") }",
        "#[cfg(test)]\nmod tests {\n    let name = \"gvisor\";",
    ] {
        assert_eq!(matched(line, &names()), Vec::<String>::new(), "{line}");
    }
}

/// A sandbox that exists in this test alone. Its root is in memory, under a file system of the host's as seen inside: nothing but
/// what it states can give that away.
#[derive(Debug)]
struct Hammock {
    keeper: Keeper,
}

impl Runner for Hammock {
    fn name(&self) -> &'static str {
        "hammock"
    }

    fn about(&self) -> &'static str {
        "A sandbox that nobody has heard of"
    }

    fn version(&self, _: &Host, _: &Settings) -> Result<String, Unavailable> {
        Ok("hammock 0.1".into())
    }

    fn launch(&self, _: &Settings, stage: &mut Stage) -> anyhow::Result<Launch> {
        let mut command = Command::new(&stage.host.binary);
        command.arg("agent").arg("--data").arg(stage.data());
        let words = format!("the hammock's own root over {}", stage.data_file_system());
        Ok(Launch::new(command).data(DataPath::on_host(stage, words).with_keeper(self.keeper)))
    }
}

const WORKLOAD: &str = "disk/fsync";

/// One block of the workload in an environment: what it stands on, and its rows.
fn measure(shared: &Arc<Shared>, data: &Path, name: &str, runner: &dyn Runner, stored: &mut Stored) {
    const PATIENCE: Duration = Duration::from_secs(60);
    let mut stage = Stage::new(Arc::clone(shared), name, data).expect("a stage");
    let launch = stage.launch(runner, &Settings::default()).expect("a launch");
    stored.run.environments.push(EnvironmentPlan {
        name: name.into(),
        runner: runner.name().into(),
        settings: BTreeMap::new(),
        version: None,
        skipped: None,
        network: launch.path.network,
        data: launch.data.facts.clone(),
        emulated: None,
        sandbox: Default::default(),
        unequal: None,
        quota: None,
        data_path: launch.data.words.clone(),
        programs: Vec::new(),
        neighbour: None,
    });
    let mut session = Session::start(launch, PATIENCE).expect("a session");
    let identity = session.identify(PATIENCE).expect("an identity");
    session.prepare(Task::of(WORKLOAD), PATIENCE).expect("ready");
    let burst = BurstPlan { operations: 20, warmup: 2, batch: 1, limit_ns: u64::MAX, number: 0 };
    let sample = session.burst(burst, PATIENCE).expect("a burst");
    let (check, facts) = session.verify(PATIENCE).expect("a check");
    stored.starts.push(Start {
        block: 0,
        environment: name.into(),
        outcome: Ok(session.start.as_nanos() as u64),
        memory_bytes: session.memory(),
        hello: Some(session.hello.clone()),
        identity: Some(identity),
        clock: None,
        stop_ns: None,
    });
    stored.records.push(Record {
        block: 0,
        round: 0,
        position: 0,
        workload: WORKLOAD.into(),
        environment: name.into(),
        outcome: Ok(sample),
        canary: Default::default(),
        evidence: Default::default(),
    });
    let (workload, environment) = (WORKLOAD.into(), name.into());
    stored.checks.push(Checked { block: 0, workload, environment, outcome: Ok(check), facts });
}

/// A run without rows yet.
fn run(id: &str) -> Stored {
    let workload = workloads::registry::find(WORKLOAD).expect("a workload");
    let settings = Task::of(WORKLOAD).settings;
    let plan = WorkloadPlan {
        name: WORKLOAD.into(),
        kind: WORKLOAD.into(),
        about: workload.about().into(),
        settings: BTreeMap::new(),
        resource: workload.resource(),
        durable: workload.durable(&settings),
        direct: workload.direct(&settings),
        streams: workload.streams(),
        paced: false,
    };
    let run = Run {
        id: id.into(),
        started: "2026-11-25T22:00:00Z".into(),
        suite: "facts".into(),
        suite_toml: String::new(),
        seed: 7,
        blocks: 1,
        rounds: 1,
        baseline: "bare".into(),
        command: String::new(),
        binary_sha256: String::new(),
        version: String::new(),
        labels: BTreeMap::new(),
        host: Vec::new(),
        nested: None,
        workloads: vec![plan],
        environments: Vec::new(),
        pinning: String::new(),
    };
    let (ending, seconds) = (Ending::Complete, Some(1.0));
    Stored { run, ending, seconds, stopped: None, starts: vec![], records: vec![], voids: vec![], checks: vec![] }
}

#[test]
fn a_new_sandbox_with_its_root_in_memory_is_judged_by_what_it_states() {
    let dir = Dir::new();
    let shared = common::shared("facts", Resources::new(1, 256 << 20));
    let mut stored = run("facts");
    let bare = runners::registry::find("bare").expect("the baseline");
    measure(&shared, dir.root(), "bare", bare, &mut stored);
    measure(&shared, dir.root(), "in-memory", &Hammock { keeper: Keeper::Memory }, &mut stored);
    measure(&shared, dir.root(), "on-disk", &Hammock { keeper: Keeper::Disk }, &mut stored);
    let store = Store::open(&dir.at("t.db")).expect("a store");
    store.import(&stored).expect("stored");
    let comparison = compare(&store.load("facts").expect("the run"), Method::default());
    let judged = |environment: &str| {
        let distribution = comparison.distribution(WORKLOAD, environment).expect("it ran");
        distribution.flags.iter().find(|f| f.name == "memory-disk").map(|f| f.severity)
    };
    assert_eq!(judged("in-memory"), Some(Severity::Fatal));
    assert_eq!(
        (judged("on-disk"), judged("bare")),
        (None, None),
        "the same file system, and nothing stated against it"
    );
}
