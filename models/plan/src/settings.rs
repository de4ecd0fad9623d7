//! What every setting of a run means, in plain words with an example (S4.1.3): one data file for window and
//! documentation, complete by a test.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// What a setting means.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Meaning {
    /// One or two plain sentences.
    pub what: String,
    /// A value, or what one does.
    pub example: String,
}

/// All settings by their path in a run file, as `adapter.rank`.
pub fn all() -> &'static BTreeMap<String, Meaning> {
    static ALL: OnceLock<BTreeMap<String, Meaning>> = OnceLock::new();
    ALL.get_or_init(|| {
        serde_json::from_str(include_str!("../settings.json")).expect("settings.json is checked by a test")
    })
}

/// What the setting at `path` means, if there is one.
pub fn meaning(path: &str) -> Option<&'static Meaning> {
    all().get(path)
}

#[cfg(test)]
mod tests {
    use super::all;
    use crate::config::RunConfig;
    use serde_json::Value;
    use std::collections::BTreeSet;

    fn leaves(value: &Value, path: &str, into: &mut BTreeSet<String>) {
        match value {
            Value::Object(object) => {
                for (key, inner) in object {
                    let here = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    leaves(inner, &here, into);
                }
            }
            _ => drop(into.insert(path.to_owned())),
        }
    }

    /// S4.1.3: no setting without an explanation, and no explanation of something that is not a setting.
    #[test]
    fn every_setting_is_explained_s4_1_3() {
        let mut there = BTreeSet::new();
        leaves(&serde_json::to_value(RunConfig::default()).expect("plain data"), "", &mut there);
        // What the file itself is, not what the run does.
        there.retain(|path| path != "schema" && path != "version");
        let explained: BTreeSet<String> = all().keys().cloned().collect();
        assert_eq!(there, explained);
        for (path, meaning) in all() {
            assert!(meaning.what.ends_with('.') && meaning.what.len() > 20, "{path}");
            assert!(!meaning.example.is_empty(), "{path}");
        }
    }
}
