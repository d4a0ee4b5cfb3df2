//! What machines can see, as `tarebench calibrate` found it. It stays in the store that it came into: it says nothing of others.

use rusqlite::params;

use super::{Store, StoreError};
use crate::calibration::{Calibration, Cited};

impl Store {
    /// Keeps one.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn calibrated(&self, calibration: &Calibration) -> Result<(), StoreError> {
        let document = serde_json::to_string(calibration).expect("texts, numbers and lists of them");
        let sql = "INSERT INTO calibration (host, suite, document) VALUES (?1, ?2, ?3)";
        let values = params![calibration.host, calibration.suite, document];
        self.written("store a calibration", self.db.execute(sql, values))
    }

    /// Those of a machine, the newest first.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn calibrations(&self, host: &str) -> Result<Vec<Cited>, StoreError> {
        let failed = |e| self.failed("read the calibrations", e);
        let mut select =
            self.db.prepare("SELECT document FROM calibration WHERE host = ?1 ORDER BY nth DESC").map_err(failed)?;
        let documents = select.query_map([host], |row| row.get::<_, String>(0)).map_err(failed)?;
        let documents: Vec<String> = documents.collect::<rusqlite::Result<_>>().map_err(failed)?;
        Ok(documents.iter().filter_map(|document| serde_json::from_str(document).ok()).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::calibration::example::example;

    #[test]
    fn the_newest_of_a_machine_comes_first_and_those_of_others_do_not() {
        let store = Store::open(Path::new(":memory:")).expect("a store");
        let first = example();
        let second = Calibration { at: "2026-12-01T08:00:00Z".into(), ..first.clone() };
        let other = Calibration { host: "another".into(), ..first.clone() };
        [&first, &other, &second].iter().for_each(|calibration| store.calibrated(calibration).expect("kept"));
        let read = store.calibrations(&first.host).expect("read");
        let days: Vec<&str> = read.iter().map(|calibration| calibration.at.as_str()).collect();
        assert_eq!(days, [second.at, first.at]);
        assert_eq!((&read[1].suite, &read[1].cited), (&first.suite, &first.cited));
        assert!(store.calibrations("a third").expect("read").is_empty());
    }
}
