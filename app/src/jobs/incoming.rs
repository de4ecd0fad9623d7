//! A file with settings, of this program or another, read and judged before anything is kept (S4.8.5, S1.27).

use super::presets::{self, Mismatch};
use crate::cli::config as foreign;
use peft_plan::import::{self, ImportedField, Outcome};
use peft_plan::preset::Preset;
use peft_plan::{Fault, Result};
use serde_json::Value;
use std::path::Path;

/// Settings that came in a file.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The settings as the file has them.
    pub preset: Preset,
    /// The program whose configuration it was; none: a preset or run file of ours.
    pub program: Option<&'static str>,
    /// Settings that mean the same here, of another program.
    pub mapped: usize,
    /// What was not understood or is only nearly so, and why.
    pub remarks: Vec<(String, String)>,
    /// What does not suit this computer or the model.
    pub mismatches: Vec<Mismatch>,
    /// The settings, changed so that as much as possible suits; none where nothing has to be changed.
    pub adapted: Option<Preset>,
    /// What does not suit even so.
    pub left: Vec<Mismatch>,
}

/// Read `path`.
///
/// # Errors
/// PS-PRE-001 for something that is neither; the faults of a preset from a newer version.
pub fn read(path: &Path) -> Result<Incoming> {
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    if path.is_dir() {
        return Err(Fault::new(
            "PS-PRE-001",
            format!("`{}` is a folder; a file with settings was expected", path.display()),
        ));
    }
    let document = foreign::read(path)?;
    let is_ours = document["schema"].as_str().is_some_and(|schema| schema.starts_with("peft-studio/"));
    let (preset, program, mapped, remarks) =
        if is_ours { ours(&document, &name)? } else { theirs(path, &document, name)? };
    let mismatches = presets::check(&preset.config);
    let mut config = preset.config.clone();
    let left = if mismatches.iter().any(|one| one.change.is_some()) {
        presets::adapt(&mut config)
    } else {
        mismatches.clone()
    };
    let adapted = (config != preset.config).then(|| Preset { config, ..preset.clone() });
    Ok(Incoming { preset, program, mapped, remarks, mismatches, adapted, left })
}

type Read = (Preset, Option<&'static str>, usize, Vec<(String, String)>);

fn ours(document: &Value, name: &str) -> Result<Read> {
    let read = Preset::from_value(document, name)?;
    Ok((read.preset, None, 0, read.left_out))
}

/// A configuration of another program; a run file without its schema is ours all the same.
fn theirs(path: &Path, document: &Value, name: String) -> Result<Read> {
    let imported = match import::import(document, None, foreign::dataset_info(path, document).as_ref()) {
        Ok(imported) => imported,
        Err(fault) => return ours(document, &name).map_err(|_| fault),
    };
    let remark = |field: &ImportedField| {
        let why = field.note.clone().unwrap_or_default();
        match (&field.outcome, &field.setting) {
            (Outcome::Mapped, _) => None,
            (Outcome::Approximated, Some(setting)) => Some((field.field.clone(), format!("nearly {setting}. {why}"))),
            _ => Some((field.field.clone(), format!("has no effect here. {why}"))),
        }
    };
    let remarks = imported.report.iter().filter_map(remark).collect();
    let mapped = imported.count(Outcome::Mapped);
    let program = Some(imported.program.name());
    let preset = Preset { name, description: String::new(), tags: Vec::new(), config: imported.config };
    Ok((preset, program, mapped, remarks))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, text: &str) -> Result<Incoming> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        read(&path)
    }

    #[test]
    fn presets_and_configurations_of_others_are_told_apart_and_judged_s4_8_5() {
        let ours = of(
            "mine.json",
            r#"{"schema":"peft-studio/preset","version":1,"name":"Mine","config":{"model":{"id":"starter"},
               "adapter":{"rank":4,"colour":"red"},"training":{"max_sequence_length":100000}}}"#,
        )
        .expect("a preset");
        assert_eq!((ours.preset.name.as_str(), ours.program), ("Mine", None));
        assert_eq!(ours.remarks[0].0, "adapter.colour", "{:?}", ours.remarks);
        assert!(!ours.mismatches.is_empty() && ours.left.is_empty(), "{ours:?}");
        assert!(ours.adapted.is_some_and(|preset| preset.config.training.max_sequence_length < Some(100_000)));
        let axolotl = of("ax.yml", "base_model: starter\nlora_r: 8\nlora_alpha: 16\nadapter: lora\ndatasets:\n  - path: a.jsonl\n    type: alpaca\nflash_attention: true\n")
            .expect("Axolotl's");
        assert_eq!((axolotl.program, axolotl.preset.config.adapter.rank), (Some("Axolotl"), Some(8)));
        assert!(
            axolotl.mapped >= 3 && axolotl.remarks.iter().any(|(field, _)| field == "flash_attention"),
            "{axolotl:?}"
        );
    }

    #[test]
    fn what_is_no_settings_and_what_a_newer_version_wrote_is_refused_s4_8_5() {
        let newer = r#"{"schema":"peft-studio/preset","version":99,"name":"x","config":{}}"#;
        for (name, text) in
            [("a.json", "{"), ("b.json", "[1,2]"), ("c.yml", "just words"), ("d.json", "\u{0}\u{1}"), ("e.json", newer)]
        {
            let fault = of(name, text).expect_err(name);
            assert!(fault.code.starts_with("PS-PRE") || fault.code.starts_with("PS-CFG"), "{name}: {fault:?}");
        }
        assert_eq!(read(Path::new("/")).expect_err("a folder").code, "PS-PRE-001");
    }
}
