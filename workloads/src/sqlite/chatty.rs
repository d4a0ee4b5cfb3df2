//! `sqlite/chatty`: an operation is a join done by the client, with a query for each row; [`super::set`] gets the same answer from one query.
//!
//! It is what a program does that goes through objects one by one: it asks for the items of an order, and then for the price of each
//! item's product. Every query is a transaction of its own.

use std::collections::BTreeMap;

use super::join::{CHECKED, ITEM, Options, Orders, needs};
use crate::settings::{Setting, Settings};
use crate::stopwatch::Stopwatch;
use crate::workload::{Check, Needs, Place, Prepared, Resource, Workload};

const ITEMS: &str = "SELECT product, quantity FROM item WHERE purchase = ?1";
const PRICE: &str = "SELECT price FROM product WHERE id = ?1";

/// The workload.
#[derive(Debug)]
pub struct Chatty;

impl Workload for Chatty {
    fn name(&self) -> &'static str {
        "sqlite/chatty"
    }

    fn about(&self) -> &'static str {
        "Adds up an order of 100 items with a query for each item; sqlite/set gets the same answer with one query"
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
        Ok(Box::new(Asking { orders: Orders::create(place, "chatty.db")?, drawn: 0 }))
    }
}

struct Asking {
    orders: Orders,
    /// See [`Prepared::drawn`].
    drawn: u64,
}

impl Asking {
    fn work(&self, watch: &mut Stopwatch, burst: u64, mut answered: impl FnMut(i64)) -> anyhow::Result<u64> {
        let database = &self.orders.database;
        let mut items = database.db.prepare(ITEMS)?;
        let mut price = database.db.prepare(PRICE)?;
        let mut choice = self.orders.choice(burst);
        let mut fetched: Vec<(i64, i64)> = Vec::with_capacity(self.orders.items as usize);
        let bytes = self.orders.items * ITEM;
        let failed = |e| database.explain(e).context(format!("can't query {}", database.path().display()));
        watch.start();
        while watch.running() {
            let (order, right) = choice.next();
            fetched.clear();
            let mut rows = items.query([order]).map_err(failed)?;
            while let Some(row) = rows.next().map_err(failed)? {
                fetched.push((row.get(0)?, row.get(1)?));
            }
            drop(rows);
            let mut worth = 0;
            for (product, quantity) in &fetched {
                let price: i64 = price.query_row([product], |row| row.get(0)).map_err(failed)?;
                worth += quantity * price;
            }
            anyhow::ensure!(worth == right, "order {order} is said to be worth {worth}, and {right} is right");
            answered(worth);
            watch.lap(bytes);
        }
        Ok(choice.drawn())
    }
}

impl Prepared for Asking {
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
        facts.insert("queries_per_operation".into(), (1 + self.orders.items).to_string());
        facts
    }
}
