//! Proof that what a box acknowledges survives: a writer in the box, a cut of the power below it, and a look at what is left.
//!
//! The box's data lies on a disk of ours that logs every write and every flush ([`disk`]). The writer's acknowledgement of an item is
//! tied to the length of the log at the moment it arrives: no later write can have helped it. The log is then replayed to many
//! cuts ([`replay`](self)), each image is mounted, looked through and checked, and what was acknowledged before the cut must be there.

mod device;
pub mod disk;
mod log;
mod look;
mod replay;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use serde::Serialize;
use workloads::content;
use workloads::durability::{Damage, Promise, Way};
use workloads::facts::Keeper;
use workloads::settings::Settings;

use crate::launch::{Launch, Runner};
use crate::process;
use crate::session::Session;
use crate::stage::Stage;
use crate::stage::shared::Shared;
use device::{Device, Folder};
use log::Log;
use look::Seen;
use replay::Replay;

/// How long a start may take at least.
const START: Duration = Duration::from_secs(10);

/// How long an acknowledgement may take: a guest under emulation on a busy disk.
const ACKNOWLEDGEMENT: Duration = Duration::from_secs(60);

/// Tells this use of the seed from others.
const STREAM: u64 = 0x6d6f_6d65;

/// What a proof is made of.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// How it is written.
    pub ways: &'a [Way],
    /// Cuts for each way.
    pub cuts: u32,
    /// Items that are acknowledged, for each way.
    pub items: u64,
    /// Of all choices.
    pub seed: u64,
}

/// The outcome of all cuts through one way to write in one environment.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The way.
    pub workload: &'static str,
    /// Its promise.
    pub promise: Promise,
    /// Items that were acknowledged.
    pub acknowledged: u64,
    /// Cuts made.
    pub cuts: u32,
    /// Cuts after which something acknowledged was missing.
    pub losing: u32,
    /// Most that were missing after one cut.
    pub most_lost: u64,
    /// Cuts after which an item was torn.
    pub torn: u32,
    /// Cuts after which a later item was there and an earlier one was not.
    pub reordered: u32,
    /// Cuts after which the database or the directory couldn't be read, or SQLite's integrity_check found fault.
    pub corrupt: u32,
    /// Cuts after which a file system couldn't be mounted, or e2fsck found fault with it.
    pub unclean: u32,
    /// Cuts after which the promise was broken.
    pub broken: u32,
    /// What was seen after the first cut that broke the promise; where none did, after the first that did some damage.
    pub example: Option<String>,
}

impl Outcome {
    fn new(way: Way, acknowledged: u64) -> Self {
        Self {
            workload: way.word(),
            promise: way.promise(),
            acknowledged,
            cuts: 0,
            losing: 0,
            most_lost: 0,
            torn: 0,
            reordered: 0,
            corrupt: 0,
            unclean: 0,
            broken: 0,
            example: None,
        }
    }

    /// Counts what is left after a cut before which so many items had been acknowledged.
    fn count(&mut self, way: Way, acknowledged: u64, seen: Seen) {
        let Seen { found, unclean } = seen;
        let damage = Damage::of(way, acknowledged, &found.unwrap_or_default());
        self.cuts += 1;
        self.losing += u32::from(damage.lost > 0);
        self.most_lost = self.most_lost.max(damage.lost);
        self.torn += u32::from(damage.torn > 0);
        self.reordered += u32::from(damage.reordered > 0);
        self.corrupt += u32::from(damage.corrupt.is_some());
        self.unclean += u32::from(unclean.is_some());
        let broken = damage.breaks(self.promise) || (unclean.is_some() && self.promise != Promise::Nothing);
        self.broken += u32::from(broken);
        let damaged = damage != Damage::default() || unclean.is_some();
        if (damaged && self.example.is_none()) || (broken && self.broken == 1) {
            let Damage { lost, torn, reordered, corrupt } = damage;
            let more = corrupt.or(unclean).map(|words| format!("; {words}")).unwrap_or_default();
            self.example = Some(format!(
                "after cut {}: of {acknowledged} acknowledged {lost} lost, {torn} torn, {reordered} reordered{more}",
                self.cuts
            ));
        }
    }
}

/// The box whose durability is to be proved.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its name.
    pub name: &'a str,
    /// The way it is isolated.
    pub runner: &'static dyn Runner,
    /// Complete and checked.
    pub settings: &'a Settings,
}

/// Why a box can't be proved on this host at all.
///
/// # Errors
/// With what is missing and how to get it.
pub fn possible(shared: &Shared) -> anyhow::Result<()> {
    if !shared.host.privileged {
        bail!("only root can mount the disk whose power is cut; run tarebench as root, or prove less with --mode kill");
    }
    for (program, package) in [("mkfs.ext4", "e2fsprogs"), ("e2fsck", "e2fsprogs"), ("mount", "mount")] {
        process::require(program, package).map_err(|no| anyhow!("{no}; to change that: {}", no.fix))?;
    }
    Ok(())
}

/// A program that [`possible`] has found, perhaps in `/sbin`, which isn't on everyone's PATH.
fn program(name: &str) -> Command {
    Command::new(process::find(name).unwrap_or_else(|| name.into()))
}

/// Cuts the power below the box. `tell` hears of each way before it is written.
///
/// # Errors
/// When the box or the disk can't be made, or the box fails to write: nothing is proved then.
pub fn cut_power(
    shared: &Arc<Shared>,
    subject: Subject,
    asked: &Asked,
    mut tell: impl FnMut(Way),
) -> anyhow::Result<Vec<Outcome>> {
    let host = &shared.host;
    let folder = Folder::make(host)?;
    let device = Device::make(host, &folder)?;
    let mut stage = Stage::new(Arc::clone(shared), subject.name, device.data_dir())?;
    let launch = stage.launch(subject.runner, subject.settings)?;
    ensure_below(&launch, &stage)?;
    let mut session = Session::start(launch, START.max(subject.runner.start_deadline()))?;
    let mut moments = Vec::new();
    for way in asked.ways {
        tell(*way);
        moments.push(write(&mut session, &device, *way, asked.items)?);
    }
    session.kill();
    drop(session);
    drop(stage);
    let log = Log::open(&device.log_path)?;
    let before = folder.at("medium.img");
    let naming = || format!("can't copy {}", device.before.display());
    replay::copy(&File::open(&device.before).with_context(naming)?, &before).with_context(naming)?;
    let replay = Replay::new(&log, &before)?;
    device::apart(|| look_after_cuts(shared, asked, &moments, replay, &folder))
}

/// Makes every cut, one after the other, and looks at what it left.
fn look_after_cuts(
    shared: &Shared,
    asked: &Asked,
    moments: &[Vec<u64>],
    mut replay: Replay,
    folder: &Folder,
) -> anyhow::Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for (number, (way, moments)) in asked.ways.iter().zip(moments).enumerate() {
        let mut outcome = Outcome::new(*way, asked.items);
        let seed = content::mix(asked.seed ^ number as u64);
        for (at, cut) in cuts(moments, asked.cuts, seed).into_iter().enumerate() {
            ensure!(!shared.host.interrupt.load(Ordering::Relaxed), "interrupted");
            let image = folder.at(&format!("cut-{number}-{at}.img"));
            replay.cut(cut.entries as usize, seed, at as u64, &image)?;
            outcome.count(*way, cut.acknowledged, look::in_image(&image, *way, folder, 0)?);
            fs::remove_file(&image).with_context(|| format!("can't remove {}", image.display()))?;
        }
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// Refuses a box whose data lies where no cut of ours reaches it.
fn ensure_below(launch: &Launch, stage: &Stage) -> anyhow::Result<()> {
    let facts = &launch.data.facts;
    let ours = stage.disk().and_then(|disk| disk.device.as_ref());
    let below = facts.keeper == Keeper::Memory || (facts.device.is_some() && facts.device.as_ref() == ours);
    ensure!(
        below,
        "its data ({}) is not on the disk whose power is cut; choose a setting of `data` that lies in the data directory",
        launch.data.words
    );
    Ok(())
}

/// The length of the log before the first item, and when each acknowledgement came.
fn write(session: &mut Session, device: &Device<'_>, way: Way, items: u64) -> anyhow::Result<Vec<u64>> {
    session.write(way, 0, ACKNOWLEDGEMENT).with_context(|| format!("{way} can't be written"))?;
    // The box has been there for a while: what was before the first item is on the disk.
    device.settle()?;
    let mut moments = vec![device.entries()?];
    for number in 1..=items {
        session.write(way, number, ACKNOWLEDGEMENT).with_context(|| format!("{way} can't be written"))?;
        moments.push(device.entries()?);
    }
    Ok(moments)
}

/// A moment at which the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cut {
    /// Writes and flushes that reached the disk before it.
    entries: u64,
    /// Items that had been acknowledged before it.
    acknowledged: u64,
}

/// Draws cuts in order: half of them right after an acknowledgement, when its promise is youngest, the others anywhere between it
/// and the next.
fn cuts(moments: &[u64], number: u32, seed: u64) -> Vec<Cut> {
    let mut random = content::generator(seed, STREAM, 0);
    let mut draw = |at: u32| {
        let acknowledged = content::below(&mut random, moments.len() as u64);
        let here = moments[acknowledged as usize];
        let next = moments.get(acknowledged as usize + 1).copied().unwrap_or(here);
        let later = if at.is_multiple_of(2) { 0 } else { content::below(&mut random, next - here + 1) };
        Cut { entries: here + later, acknowledged }
    };
    let mut cuts: Vec<Cut> = (0..number).map(&mut draw).collect();
    cuts.sort();
    cuts
}

/// Kills the box alone, again and again, at a random item of each way, and looks from outside. `data_dir` is where it lies.
///
/// # Errors
/// When the box can't be made, fails to write, or lies where nobody can look.
pub fn kill_box(
    shared: &Arc<Shared>,
    subject: Subject,
    asked: &Asked,
    data_dir: &std::path::Path,
    mut tell: impl FnMut(Way),
) -> anyhow::Result<Vec<Outcome>> {
    let folder = Folder::make(&shared.host)?;
    let mut stage = Stage::new(Arc::clone(shared), subject.name, data_dir)?;
    let mut random = content::generator(asked.seed, STREAM, 1);
    let mut outcomes = Vec::new();
    for way in asked.ways {
        tell(*way);
        let mut outcome = Outcome::new(*way, asked.items);
        for _ in 0..asked.cuts {
            let launch = stage.launch(subject.runner, subject.settings)?;
            ensure_below(&launch, &stage)?;
            let mut session = Session::start(launch, START.max(subject.runner.start_deadline()))?;
            let items = 1 + content::below(&mut random, asked.items);
            for number in 0..=items {
                session.write(*way, number, ACKNOWLEDGEMENT).with_context(|| format!("{way} can't be written"))?;
            }
            session.kill();
            // Before an engine is asked to remove what is left of the box.
            let places: BTreeSet<_> = [stage.data(), stage.scratch()].into();
            let places: Vec<_> = places.into_iter().collect();
            outcome.count(*way, items, look::in_directories(&places, *way, &folder, 0)?);
        }
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

#[cfg(test)]
mod tests {
    use workloads::durability::Found;

    use super::*;

    #[test]
    fn cuts_are_in_order_and_never_before_what_they_hold_to_account() {
        let moments = [10, 14, 14, 20];
        let drawn = cuts(&moments, 200, 7);
        assert_eq!(drawn.len(), 200);
        assert!(drawn.is_sorted());
        for Cut { entries, acknowledged } in &drawn {
            assert!(moments[*acknowledged as usize] <= *entries && *entries <= 20, "{entries} {acknowledged}");
        }
        assert!(drawn.iter().any(|cut| (15..20).contains(&cut.entries)), "between two, too");
        assert!((0..4).all(|acknowledged| drawn.iter().any(|cut| cut.acknowledged == acknowledged)));
        assert_eq!(drawn, cuts(&moments, 200, 7));
    }

    #[test]
    fn a_loss_breaks_only_the_promise_that_was_given() {
        let of = |way: Way, acknowledged: u64, items: &[u64]| {
            let mut outcome = Outcome::new(way, acknowledged);
            let found = Found { items: items.iter().copied().collect(), ..Found::default() };
            outcome.count(way, acknowledged, Seen { found: Some(found), unclean: None });
            (outcome.losing, outcome.most_lost, outcome.reordered, outcome.broken)
        };
        assert_eq!(of(Way::WalFull, 3, &[1, 2, 3]), (0, 0, 0, 0));
        assert_eq!(of(Way::WalFull, 3, &[1, 2]), (1, 1, 0, 1));
        assert_eq!(of(Way::WalNormal, 3, &[1]), (1, 2, 0, 0));
        assert_eq!(of(Way::WalNormal, 3, &[1, 3]), (1, 1, 1, 1), "a hole is no lost end");
        assert_eq!(of(Way::WalOff, 3, &[1, 3]), (1, 1, 1, 0));
    }

    #[test]
    fn a_broken_file_system_breaks_every_promise() {
        let mut outcome = Outcome::new(Way::WalNormal, 2);
        outcome.count(Way::WalNormal, 0, Seen { found: None, unclean: Some("bad superblock".into()) });
        assert_eq!((outcome.unclean, outcome.broken), (1, 1));
        let words = outcome.example.expect("an example");
        assert_eq!(words, "after cut 1: of 0 acknowledged 0 lost, 0 torn, 0 reordered; bad superblock");
    }

    #[test]
    fn the_example_is_of_a_broken_promise_where_one_was_broken() {
        let mut outcome = Outcome::new(Way::WalNormal, 2);
        for unclean in [None, Some("bad superblock"), Some("worse")] {
            outcome.count(Way::WalNormal, 2, Seen { found: None, unclean: unclean.map(str::to_string) });
        }
        let words = outcome.example.expect("an example");
        assert_eq!(words, "after cut 2: of 2 acknowledged 2 lost, 0 torn, 0 reordered; bad superblock");
    }
}
