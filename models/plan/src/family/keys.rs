//! Reading numbers out of a `config.json` that may say anything.
//!
//! Every number has a largest value that is read: far above any published model, and far below
//! what could overflow an index or ask for a senseless allocation.

use crate::fault::{Fault, Result};
use serde_json::{Map, Value};

/// Most decoder layers.
pub(super) const LAYERS: usize = 512;
/// Widest residual stream, MLP or row of heads.
pub(super) const WIDTH: usize = 1 << 17;
/// Most attention heads.
pub(super) const HEADS: usize = 1 << 12;
/// Widest head.
pub(super) const HEAD_DIM: usize = 1 << 12;
/// Most rows of the embedding matrix.
pub(super) const VOCABULARY: usize = 1 << 21;
/// Longest context.
pub(super) const POSITIONS: usize = 1 << 27;

/// A configuration that no model can have.
pub(super) fn impossible(what: impl std::fmt::Display) -> Fault {
    Fault::new("PS-MODEL-005", format!("config.json does not describe a possible model: {what}."))
}

pub(super) fn missing(key: &str) -> Fault {
    Fault::new(
        "PS-MODEL-003",
        format!("config.json does not say `{key}`, and this kind of model has no usual value for it."),
    )
}

/// The keys of a configuration, with those of a nested text model over the outer ones.
pub(super) struct Keys {
    map: Map<String, Value>,
    nested: bool,
}

impl Keys {
    pub(super) fn new(config: &Value) -> Result<Self> {
        let Some(outer) = config.as_object() else {
            return Err(impossible("it is not a JSON object"));
        };
        let mut map = outer.clone();
        let text = outer.get("text_config").and_then(Value::as_object);
        if let Some(text) = text {
            map.extend(text.iter().filter(|(key, _)| *key != "architectures").map(|(k, v)| (k.clone(), v.clone())));
        }
        Ok(Self { map, nested: text.is_some_and(|text| text.contains_key("model_type")) })
    }

    /// The value, absent and `null` being the same.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// Type of a nested text model that says its own.
    pub(super) fn text_model(&self) -> Option<&str> {
        if self.nested { self.text("model_type") } else { None }
    }

    /// First class name of `architectures`.
    pub(super) fn architecture(&self) -> Option<&str> {
        self.get("architectures")?.as_array()?.first()?.as_str()
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| impossible(format!("`{key}` is {value}, not true or false"))),
        }
    }

    pub(super) fn list(&self, key: &str) -> Result<Option<&Vec<Value>>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items)),
            Some(value) => Err(impossible(format!("`{key}` is {value}, not a list"))),
        }
    }

    /// A whole number from 1 to `most`.
    pub(super) fn count(&self, key: &str, most: usize, default: Option<usize>) -> Result<usize> {
        match self.get(key) {
            Some(value) => whole(key, value, 1, most),
            None => default.ok_or_else(|| missing(key)),
        }
    }

    /// A whole number from 0 to `most`.
    pub(super) fn count_from_zero(&self, key: &str, most: usize, default: usize) -> Result<usize> {
        self.get(key).map_or(Ok(default), |value| whole(key, value, 0, most))
    }

    /// A whole number where `null` means none and an absent key means `default`.
    pub(super) fn nullable_count(&self, key: &str, most: usize, default: Option<usize>) -> Result<Option<usize>> {
        match self.map.get(key) {
            None => Ok(default),
            Some(Value::Null) => Ok(None),
            Some(value) => whole(key, value, 1, most).map(Some),
        }
    }

    /// A finite number above zero.
    pub(super) fn positive(&self, key: &str, default: f64) -> Result<f64> {
        self.get(key).map_or(Ok(default), |value| positive(key, value))
    }

    /// The same where `null` means none and an absent key means `default`.
    pub(super) fn nullable_positive(&self, key: &str, default: Option<f64>) -> Result<Option<f64>> {
        match self.map.get(key) {
            None => Ok(default),
            Some(Value::Null) => Ok(None),
            Some(value) => positive(key, value).map(Some),
        }
    }
}

/// `value` as a whole number from `least` to `most`; some writers print whole numbers as floats.
pub(super) fn whole(key: &str, value: &Value, least: usize, most: usize) -> Result<usize> {
    let number = value.as_u64().or_else(|| {
        let float = value.as_f64()?;
        (float.fract() == 0.0 && (0.0..=most as f64).contains(&float)).then_some(float as u64)
    });
    match number.and_then(|n| usize::try_from(n).ok()) {
        Some(n) if (least..=most).contains(&n) => Ok(n),
        _ => Err(impossible(format!("`{key}` is {}, not a whole number from {least} to {most}", shown(value)))),
    }
}

/// `value` as a finite number above zero, also once it is an f32.
pub(super) fn positive(key: &str, value: &Value) -> Result<f64> {
    value
        .as_f64()
        .filter(|x| *x as f32 > 0.0 && (*x as f32).is_finite())
        .ok_or_else(|| impossible(format!("`{key}` is {}, not a number above zero", shown(value))))
}

/// A value short enough for a message.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 40 { text } else { text.chars().take(40).chain(['…']).collect() }
}
