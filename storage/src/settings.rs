//! What people prefer: a value under a name, for every process that uses the data directory.

use crate::runs::json;
use crate::store::{Durability, Store};
use peft_plan::Result;
use rusqlite::{OptionalExtension, params};
use serde_json::Value;

impl Store {
    /// What was chosen for `key`; `None` where nobody chose.
    pub fn setting(&self, key: &str) -> Result<Option<Value>> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT value FROM settings WHERE key = ?1")?
                .query_row([key], |row| row.get::<_, String>(0))
                .optional()?
                .map(|text| json(&text))
                .transpose()
        })
    }

    /// Chooses `value` for `key`; `None` goes back to the default.
    pub fn choose(&self, key: &str, value: Option<&Value>) -> Result<()> {
        self.write(Durability::Committed, |transaction| {
            match value {
                Some(value) => transaction.execute(
                    "INSERT INTO settings (key, value) VALUES (?1, ?2)
                     ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                    params![key, value.to_string()],
                ),
                None => transaction.execute("DELETE FROM settings WHERE key = ?1", [key]),
            }
            .map(|_| ())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_holds_for_every_process_until_it_is_taken_back() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        assert_eq!(store.setting("a.b").expect("readable"), None);
        store.choose("a.b", Some(&Value::Bool(false))).expect("chosen");
        store.choose("a.b", Some(&Value::from("x"))).expect("chosen");
        assert_eq!(Store::open(home.path()).expect("a store").setting("a.b").expect("readable"), Some("x".into()));
        store.choose("a.b", None).expect("taken back");
        assert_eq!(store.setting("a.b").expect("readable"), None);
    }
}
