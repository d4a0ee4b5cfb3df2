//! `tarebench export`, `merge`, `remove`, `prune` and `accept`: runs that travel between stores, are given up, or stand for how things
//! should be.

use anyhow::{Context, bail};
use reports::gate::FEWEST_ACCEPTED;
use reports::render::escape::one_line;
use reports::store::Store;

use crate::cli;
use crate::commands::{hand_out, is_stdout, print, typed};
use crate::exit::{Exit, OrExit};
use crate::live::Live;
use crate::run_id::now;

/// Writes runs into a store of their own.
pub fn export(args: cli::Export) -> anyhow::Result<Exit> {
    let store = Store::open_existing(&args.store.store).or_exit(Exit::Store)?;
    let ids = find(&store, &args.runs)?;
    if is_stdout(&args.output) {
        return export_to_stdout(&store, &ids);
    }
    store.export(&ids, &args.output).or_exit(Exit::Store)?;
    print(&format!("{} in {}\n", runs(ids.len()), args.output.display()))?;
    Ok(Exit::Done)
}

/// By way of a file, since SQLite writes into nothing else.
fn export_to_stdout(store: &Store, ids: &[String]) -> anyhow::Result<Exit> {
    let folder = tempfile::tempdir().context("can't make a folder for the export").or_exit(Exit::Host)?;
    let file = folder.path().join("runs.db");
    store.export(ids, &file).or_exit(Exit::Store)?;
    let bytes = std::fs::read(&file).context("can't read the export").or_exit(Exit::Host)?;
    hand_out(&bytes, None)?;
    Ok(Exit::Done)
}

/// Takes the runs of other stores into this one.
pub fn merge(args: cli::Merge) -> anyhow::Result<Exit> {
    let store = Store::open(&args.store.store).or_exit(Exit::Store)?;
    for file in &args.files {
        let merged = store.merge(file).or_exit(Exit::Store)?;
        let (added, grown, known) = (merged.added.len(), merged.grown.len(), merged.known.len());
        print(&format!("{}: {} added, {grown} went on, {known} known already\n", file.display(), runs(added)))?;
    }
    Ok(Exit::Done)
}

/// Removes runs.
pub fn remove(args: cli::Remove) -> anyhow::Result<Exit> {
    let store = Store::open_existing(&args.store.store).or_exit(Exit::Store)?;
    let ids = find(&store, &args.runs)?;
    // A run that is being measured would lose its rows under its hands; one that was killed may go.
    let _live = ids.iter().map(|id| Live::take(id)).collect::<anyhow::Result<Vec<_>>>()?;
    store.remove(&ids).or_exit(Exit::Store)?;
    print(&format!("{} removed: {}\n", runs(ids.len()), ids.join(" ")))?;
    Ok(Exit::Done)
}

/// Removes all rows of runs but for their figures.
pub fn prune(args: cli::Prune) -> anyhow::Result<Exit> {
    let store = Store::open_existing(&args.store.store).or_exit(Exit::Store)?;
    let ids = match args.keep {
        Some(keep) => store.older(keep).or_exit(Exit::Store)?,
        None => find(&store, &args.runs)?,
    };
    let mut pruned = 0;
    for id in ids {
        pruned += usize::from(store.prune(&id, &now()).or_exit(Exit::Store)?);
    }
    if args.shrink {
        store.shrink().or_exit(Exit::Store)?;
    }
    print(&format!(
        "{} pruned: what they cost stays in `list`, `trend`, `accept` and gates; `report` can't draw them any more\n",
        runs(pruned)
    ))?;
    Ok(Exit::Done)
}

/// Lets a run stand for how things should be.
pub fn accept(args: cli::Accept) -> anyhow::Result<Exit> {
    if args.reason.trim().is_empty() {
        return Err(anyhow::anyhow!("why is it accepted? --reason is what others will read")).or_exit(Exit::Usage);
    }
    let store = Store::open_existing(&args.store.store).or_exit(Exit::Store)?;
    let id = store.find(&args.run).or_exit(Exit::Usage)?;
    let before = store.key(&id).and_then(|key| store.accepted(&key)).or_exit(Exit::Store)?;
    let before = before.iter().filter(|other| other.run != id).count();
    let key = store.accept(&id, &now(), args.reason.trim(), !args.add).or_exit(Exit::Store)?;
    let count = store.accepted(&key).or_exit(Exit::Store)?.len();
    print(&format!("run {id} is accepted for {}: {}\n", one_line(key.host_class()), stands(count, before, &args)))?;
    Ok(Exit::Done)
}

/// What an accepted run is among `count` that count now, of `before` others; and how more come to it, where a history wants more.
fn stands(count: usize, before: usize, args: &cli::Accept) -> String {
    let alone = if before > 0 && count == 1 {
        format!("it is the baseline now, in place of {}", runs(before))
    } else {
        "it is the baseline now".into()
    };
    let is = if count == 1 { alone } else { format!("it is one of {count} now") };
    if count >= FEWEST_ACCEPTED {
        return is;
    }
    let adds = typed(&["tarebench", "accept", "RUN", "--add", "--reason", "TEXT"], &args.store.store);
    format!("{is}; a gate by history needs {FEWEST_ACCEPTED}, and `{adds}` adds one")
}

/// The ids of what was named and of what belongs to it, each once.
fn find(store: &Store, wanted: &[String]) -> anyhow::Result<Vec<String>> {
    let ids: Vec<String> = wanted.iter().map(|name| store.find(name)).collect::<Result<_, _>>().or_exit(Exit::Usage)?;
    if ids.is_empty() {
        let none = || -> anyhow::Result<()> { bail!("no run is named: `tarebench list runs` shows what there is") };
        none().or_exit(Exit::Usage)?;
    }
    store.with_pairs(&ids).or_exit(Exit::Store)
}

fn runs(count: usize) -> String {
    if count == 1 { "1 run".into() } else { format!("{count} runs") }
}
