//! What the window remembers: `window.json` in the data directory.

use super::theme::ThemeChoice;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What is remembered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The look.
    pub theme: ThemeChoice,
    /// Size of everything.
    pub scale: f32,
    /// The folder where files were found last.
    pub folder: Option<String>,
    /// The rail shows words beside its icons.
    pub wide_rail: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { theme: ThemeChoice::System, scale: 1.0, folder: None, wide_rail: true }
    }
}

/// Smallest and largest size.
pub const SCALES: std::ops::RangeInclusive<f32> = 0.75..=3.0;

impl Settings {
    /// What was remembered; what cannot be read is as if there were nothing.
    pub fn load(data_dir: &Path) -> Self {
        let text = std::fs::read_to_string(data_dir.join("window.json")).unwrap_or_default();
        let mut settings: Self = serde_json::from_str(&text).unwrap_or_default();
        settings.scale =
            if settings.scale.is_finite() { settings.scale.clamp(*SCALES.start(), *SCALES.end()) } else { 1.0 };
        settings
    }

    /// Remember. What cannot be written is forgotten with the window.
    pub fn save(&self, data_dir: &Path) {
        let text = serde_json::to_vec_pretty(self).expect("settings are plain data");
        let _written = durable::create_directories(data_dir)
            .and_then(|()| durable::write_file(&data_dir.join("window.json"), &text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_settings_are_the_usual_ones() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Settings::load(folder.path()), Settings::default());
        let settings = Settings { theme: ThemeChoice::Light, scale: 1.5, ..Settings::default() };
        settings.save(folder.path());
        assert_eq!(Settings::load(folder.path()), settings);
        for text in ["{", "[]", r#"{"scale":1e9}"#, r#"{"scale":-3}"#, r#"{"theme":"pink"}"#] {
            std::fs::write(folder.path().join("window.json"), text).expect("written");
            assert!(SCALES.contains(&Settings::load(folder.path()).scale), "{text}");
        }
    }
}
