//! Named configurations, kept until they are deleted (S4.8.1-S4.8.3).

use crate::runs::json;
use crate::store::{Durability, Store, now};
use peft_plan::preset::Preset;
use peft_plan::{Fault, Result, RunConfig};
use rusqlite::types::Type;
use rusqlite::{OptionalExtension, Row, params};
use serde::Serialize;

/// A preset of this user.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StoredPreset {
    /// Name, description, tags and settings.
    #[serde(flatten)]
    pub preset: Preset,
    /// Unix seconds.
    pub created: i64,
    /// Unix seconds.
    pub updated: i64,
}

impl StoredPreset {
    fn from_row(row: &Row) -> rusqlite::Result<Self> {
        let tags = json(&row.get::<_, String>("tags")?)?;
        let tags = tags.as_array().into_iter().flatten().filter_map(|t| t.as_str().map(str::to_owned)).collect();
        let config = RunConfig::from_value(json(&row.get::<_, String>("config")?)?)
            .map_err(|fault| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, fault.detail.into()))?;
        Ok(Self {
            preset: Preset { name: row.get("name")?, description: row.get("description")?, tags, config },
            created: row.get("created")?,
            updated: row.get("updated")?,
        })
    }
}

impl Store {
    /// Keep a preset. One of the same name is only replaced where `replace` says so.
    ///
    /// # Errors
    /// PS-CFG-001 where the name is taken.
    pub fn save_preset(&self, preset: &Preset, replace: bool) -> Result<()> {
        let Preset { name, description, tags, config } = preset;
        let tags = serde_json::to_string(tags).expect("a list of words");
        let config = config.to_value().to_string();
        let saved = self.write(Durability::Committed, |transaction| {
            transaction.execute(
                "INSERT INTO presets (name, description, tags, config, created, updated) VALUES (?1, ?2, ?3, ?4, ?5, ?5)
                 ON CONFLICT (name) DO UPDATE SET name = ?1, description = ?2, tags = ?3, config = ?4, updated = ?5
                 WHERE ?6",
                params![name, description, tags, config, now(), replace],
            )
        })?;
        if saved == 0 {
            return Err(Fault::new("PS-CFG-001", format!("There is a preset called `{name}` already"))
                .action("Replace it", Some("--replace".to_owned()))
                .action("Use another name", Some("--name NAME".to_owned())));
        }
        Ok(())
    }

    /// The preset of this name, whatever its case.
    pub fn find_preset(&self, name: &str) -> Result<Option<StoredPreset>> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT * FROM presets WHERE name = ?1")?
                .query_row([name], StoredPreset::from_row)
                .optional()
        })
    }

    /// All presets in the order of the alphabet.
    pub fn presets(&self) -> Result<Vec<StoredPreset>> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT * FROM presets ORDER BY name")?
                .query_map([], StoredPreset::from_row)?
                .collect()
        })
    }

    /// Forget a preset; whether there was one.
    pub fn delete_preset(&self, name: &str) -> Result<bool> {
        self.write(Durability::Committed, |transaction| {
            transaction.execute("DELETE FROM presets WHERE name = ?1", [name]).map(|n| n > 0)
        })
    }
}
