//! The question that `sqlite/chatty` and `sqlite/set` both answer: what an order is worth, by its items and the prices of their products.
//!
//! Same database, same orders in the same sequence, same answers, and therefore the same check value.

use std::collections::BTreeMap;

use anyhow::Context as _;
use rusqlite::params;

use super::database::Database;
use super::options::{CACHE_SIZE, Journal, SAFE_JOURNAL};
use crate::content::{self, Digest, mix};
use crate::settings::{Bytes, Settings};
use crate::workload::{Needs, Place};

const ORDERS: u64 = 100;
const PRODUCTS: u64 = 1000;
/// Bytes that are counted for an item: its product, quantity and price.
pub(super) const ITEM: u64 = 24;
/// Orders that the check value covers.
pub(super) const CHECKED: u64 = 32;
const STREAM: u64 = 0x5150_4c36;

crate::settings! {
    /// The settings of both.
    pub(super) struct Options {
        /// Items of an order: rows that are joined for an answer
        rows: u64 = 100 in 1..=10_000,
        cache_size: Bytes as CACHE_SIZE = "8MiB",
        journal: Journal as SAFE_JOURNAL,
    }
}

/// Disk and memory of a database with these settings.
pub(super) fn needs(settings: &Settings) -> Needs {
    let Options { rows, cache_size, .. } = Options::read(settings);
    Needs { disk: ORDERS * rows * 48 + (1 << 20), memory: cache_size.0 }
}

/// The database, and what is right.
pub(super) struct Orders {
    pub database: Database,
    seed: u64,
    /// Items of an order.
    pub items: u64,
    /// The worth of each order.
    worth: Vec<i64>,
}

/// Orders in a sequence of their own for each burst.
pub(super) struct Choice<'a> {
    random: rand_pcg::Pcg64Mcg,
    worth: &'a [i64],
}

impl Choice<'_> {
    /// The next order, and what it is worth.
    #[inline]
    pub fn next(&mut self) -> (i64, i64) {
        let order = content::below(&mut self.random, ORDERS);
        (order as i64, self.worth[order as usize])
    }

    /// See [`crate::Prepared::drawn`].
    pub fn drawn(&self) -> u64 {
        content::state(&self.random)
    }
}

impl Orders {
    /// Lays the database out.
    pub fn create(place: &Place, file: &str) -> anyhow::Result<Self> {
        let Options { rows: items, cache_size, journal } = Options::read(&place.settings);
        let database = Database::open(&place.directory.join(file))?;
        let worth = lay_out(&database, place.seed, items)
            .map_err(|e| database.explain(e))
            .with_context(|| format!("can't fill the database {}", database.path().display()))?;
        database.journal(journal)?;
        database.cache(cache_size)?;
        database.checkpoint()?;
        database.flush()?;
        Ok(Self { database, seed: place.seed, items, worth })
    }

    /// The orders that a burst asks for; those of 0 are the check's.
    pub fn choice(&self, burst: u64) -> Choice<'_> {
        Choice { random: content::generator(self.seed, STREAM, burst), worth: &self.worth }
    }

    /// A digest to which the answers are to be added; the same for both workloads.
    pub fn digest(&self) -> Digest {
        let mut digest = Digest::new("sqlite/join", self.seed);
        digest.add(&self.items.to_le_bytes());
        digest
    }

    /// Compares all rows with what the seed says. Gives words for it.
    pub fn compare(&self) -> anyhow::Result<String> {
        self.database.check_integrity()?;
        let mut select = self.database.db.prepare("SELECT id, purchase, product, quantity FROM item ORDER BY id")?;
        let mut rows = select.query([])?;
        let mut expected = 0;
        while let Some(row) = rows.next().map_err(|e| self.database.explain(e)).context("can't read the items back")? {
            let found: [i64; 4] = [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?];
            let (order, product, quantity) = item(self.seed, expected);
            let right = [expected as i64, order as i64, product as i64, quantity];
            anyhow::ensure!(found == right, "item {expected} is {found:?}, and {right:?} is right");
            expected += 1;
        }
        let count = ORDERS * self.items;
        anyhow::ensure!(expected == count, "there should be {count} items and there are {expected}");
        let mut select = self.database.db.prepare("SELECT id, price FROM product ORDER BY id")?;
        let found = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let found = found.collect::<rusqlite::Result<Vec<(i64, i64)>>>()?;
        let right: Vec<_> = (0..PRODUCTS).map(|p| (p as i64, price(self.seed, p))).collect();
        anyhow::ensure!(found == right, "the products are not those that were inserted");
        Ok(format!("integrity_check ok, {count} items and {PRODUCTS} products compared"))
    }

    /// PRAGMAs and sizes.
    pub fn facts(&self) -> BTreeMap<String, String> {
        let mut facts = self.database.facts(&["locking_mode"]);
        facts.insert("items".into(), (ORDERS * self.items).to_string());
        facts
    }
}

/// Order, product and quantity of an item. The items of an order don't lie together.
fn item(seed: u64, item: u64) -> (u64, u64, i64) {
    let word = mix(item ^ mix(seed ^ STREAM));
    (item % ORDERS, word % PRODUCTS, 1 + (word >> 32 & 15) as i64)
}

/// Cents.
fn price(seed: u64, product: u64) -> i64 {
    1 + (mix(product ^ mix(seed ^ (STREAM + 1))) >> 50) as i64
}

fn lay_out(database: &Database, seed: u64, items: u64) -> rusqlite::Result<Vec<i64>> {
    let db = &database.db;
    db.execute_batch(
        "PRAGMA journal_mode = OFF;
         PRAGMA synchronous = OFF;
         BEGIN;
         CREATE TABLE product (id INTEGER PRIMARY KEY, price INTEGER NOT NULL);
         CREATE TABLE item (id INTEGER PRIMARY KEY, purchase INTEGER NOT NULL, product INTEGER NOT NULL, quantity INTEGER NOT NULL);",
    )?;
    let mut insert = db.prepare("INSERT INTO product (id, price) VALUES (?1, ?2)")?;
    for product in 0..PRODUCTS {
        insert.execute(params![product as i64, price(seed, product)])?;
    }
    let mut insert = db.prepare("INSERT INTO item (id, purchase, product, quantity) VALUES (?1, ?2, ?3, ?4)")?;
    let mut worth = vec![0; ORDERS as usize];
    for number in 0..ORDERS * items {
        let (order, product, quantity) = item(seed, number);
        insert.execute(params![number as i64, order as i64, product as i64, quantity])?;
        worth[order as usize] += quantity * price(seed, product);
    }
    db.execute_batch("CREATE INDEX item_purchase ON item (purchase); COMMIT; PRAGMA synchronous = FULL;")?;
    Ok(worth)
}
