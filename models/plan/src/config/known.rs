//! Which fields a run file may have, and what is said of one that it may not.

use super::{RunConfig, SourceRef};
use crate::fault::{Fault, Result};
use serde_json::Value;

/// A document that has every known field.
pub(super) fn template() -> Value {
    let mut config = RunConfig::default();
    config.dataset.sources.push(SourceRef::default());
    serde_json::to_value(config).expect("a configuration is plain data")
}

/// Refuse the first field of `value` that `known` does not have.
pub(super) fn check_known(value: &Value, known: &Value, path: &str) -> Result<()> {
    match (value, known) {
        (Value::Object(object), Value::Object(fields)) => {
            for (key, inner) in object {
                let here = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match fields.get(key) {
                    Some(field) => check_known(inner, field, &here)?,
                    None => return Err(unknown_field(&here, key, known)),
                }
            }
            Ok(())
        }
        (Value::Array(items), Value::Array(kinds)) => {
            let Some(kind) = kinds.first() else {
                return Ok(());
            };
            items.iter().enumerate().try_for_each(|(i, item)| check_known(item, kind, &format!("{path}[{i}]")))
        }
        // A list would be taken for a section with nothing set in it.
        (Value::Array(_) | Value::String(_) | Value::Number(_) | Value::Bool(_), Value::Object(_))
            if value != "auto" =>
        {
            let place = if path.is_empty() { "A run file".to_owned() } else { format!("`{path}`") };
            Err(Fault::new(
                "PS-CFG-001",
                format!("{place} is a section of settings, written {{\"name\": value}}; here it is {value}"),
            ))
        }
        _ => Ok(()),
    }
}

/// What other programs, and our own command line, call settings.
const OTHER_NAMES: [(&str, &str); 15] = [
    ("lora_rank", "adapter.rank"),
    ("lora_r", "adapter.rank"),
    ("r", "adapter.rank"),
    ("lora_alpha", "adapter.alpha"),
    ("lora_dropout", "adapter.dropout"),
    ("batch_size", "training.micro_batch_size"),
    ("per_device_train_batch_size", "training.micro_batch_size"),
    ("gradient_accumulation_steps", "training.gradient_accumulation"),
    ("lr", "training.learning_rate"),
    ("num_train_epochs", "training.epochs"),
    ("num_epochs", "training.epochs"),
    ("max_seq_length", "training.max_sequence_length"),
    ("max_length", "training.max_sequence_length"),
    ("sequence_len", "training.max_sequence_length"),
    ("lr_scheduler_type", "training.scheduler"),
];

fn unknown_field(path: &str, key: &str, siblings: &Value) -> Fault {
    if let Some((_, near)) = OTHER_NAMES.iter().find(|(other, _)| *other == key) {
        return not_a_setting(path, near);
    }
    let mut names = Vec::new();
    all_paths(&template(), "", &mut names);
    let direct = siblings.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let best = |candidates: &[String], tail: bool| {
        candidates
            .iter()
            .map(|c| {
                let name = if tail { c.rsplit('.').next().unwrap_or(c) } else { c };
                (strsim::jaro_winkler(key, name), c.clone())
            })
            .max_by(|a, b| a.0.total_cmp(&b.0))
    };
    let near = match (best(&direct, false), best(&names, true)) {
        (Some((d, name)), Some((a, _))) if d + 0.05 >= a => {
            path.rsplit_once('.').map_or(name.clone(), |(parent, _)| format!("{parent}.{name}"))
        }
        (_, Some((_, name))) => name,
        _ => String::new(),
    };
    not_a_setting(path, &near)
}

fn not_a_setting(path: &str, near: &str) -> Fault {
    Fault::new("PS-CFG-002", format!("There is no setting `{path}`. Did you mean `{near}`?"))
        .action(format!("Use `{near}`"), None)
}

fn all_paths(value: &Value, path: &str, names: &mut Vec<String>) {
    if let Value::Object(object) = value {
        for (key, inner) in object {
            let here = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            all_paths(inner, &here, names);
            names.push(here);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_other_programs_lead_to_ours() {
        let named = |assignment: &str| RunConfig::default().set(assignment).expect_err("unknown").detail;
        assert!(named("adapter.lora_rank=8").contains("`adapter.rank`"), "{}", named("adapter.lora_rank=8"));
        assert!(named("training.lr=1").contains("`training.learning_rate`"));
        for (_, name) in OTHER_NAMES {
            let mut names = Vec::new();
            all_paths(&template(), "", &mut names);
            assert!(names.iter().any(|known| known == name), "{name}");
        }
    }

    #[test]
    fn unknown_field_names_the_nearest() {
        let fault = RunConfig::from_json(r#"{"training":{"learnin_rate":1e-4}}"#).expect_err("unknown");
        assert_eq!(fault.code, "PS-CFG-002");
        assert!(fault.detail.contains("training.learning_rate"), "{}", fault.detail);
        let fault = RunConfig::from_json(r#"{"learning_rate":1e-4}"#).expect_err("unknown");
        assert!(fault.detail.contains("training.learning_rate"), "{}", fault.detail);
    }
}
