//! `sqlite/set`: an operation is a join done by the database, in one query; [`super::chatty`] gets the same answer row by row.

use std::collections::BTreeMap;

use super::join::{CHECKED, ITEM, Options, Orders, needs};
use crate::settings::{Setting, Settings};
use crate::stopwatch::Stopwatch;
use crate::workload::{Check, Needs, Place, Prepared, Resource, Workload};

const WORTH: &str =
    "SELECT sum(quantity * price) FROM item CROSS JOIN product ON product.id = item.product WHERE purchase = ?1";

/// The workload.
#[derive(Debug)]
pub struct Set;

impl Workload for Set {
    fn name(&self) -> &'static str {
        "sqlite/set"
    }

    fn about(&self) -> &'static str {
        "Adds up an order of 100 items with one query; sqlite/chatty gets the same answer with a query for each item"
    }

    fn settings(&self) -> &'static [Setting] {
        Options::TABLE
    }

    fn resource(&self) -> Resource {
        Resource::Processor
    }

    fn batchable(&self) -> bool {
        true
    }

    fn needs(&self, settings: &Settings, _memory: u64) -> Needs {
        needs(settings)
    }

    fn prepare(&self, place: &Place) -> anyhow::Result<Box<dyn Prepared>> {
        Ok(Box::new(Joining { orders: Orders::create(place, "set.db")?, drawn: 0 }))
    }
}

struct Joining {
    orders: Orders,
    /// See [`Prepared::drawn`].
    drawn: u64,
}

impl Joining {
    fn work(&self, watch: &mut Stopwatch, burst: u64, mut answered: impl FnMut(i64)) -> anyhow::Result<u64> {
        let database = &self.orders.database;
        // The order of the tables is the client's of `sqlite/chatty`, so that what differs is who goes through the rows.
        let mut query = database.db.prepare(WORTH)?;
        let mut choice = self.orders.choice(burst);
        let bytes = self.orders.items * ITEM;
        let failed = |e| database.explain(e).context(format!("can't query {}", database.path().display()));
        watch.start();
        while watch.running() {
            let (order, right) = choice.next();
            let worth: i64 = query.query_row([order], |row| row.get(0)).map_err(failed)?;
            anyhow::ensure!(worth == right, "order {order} is said to be worth {worth}, and {right} is right");
            answered(worth);
            watch.lap(bytes);
        }
        Ok(choice.drawn())
    }
}

impl Prepared for Joining {
    fn burst(&mut self, watch: &mut Stopwatch) -> anyhow::Result<()> {
        self.drawn = self.work(watch, watch.number() + 1, |_| ())?;
        Ok(())
    }

    fn drawn(&self) -> u64 {
        self.drawn
    }

    fn verify(&mut self) -> anyhow::Result<Check> {
        let detail = self.orders.compare()?;
        let mut digest = self.orders.digest();
        self.work(&mut super::untimed(CHECKED), 0, |worth| digest.add(&worth.to_le_bytes()))?;
        Ok(Check { value: digest.value(), detail })
    }

    fn facts(&mut self) -> BTreeMap<String, String> {
        let mut facts = self.orders.facts();
        facts.insert("queries_per_operation".into(), "1".into());
        facts
    }
}
