//! The rotary embeddings of a configuration, in all the spellings in use.
//!
//! Older files have `rope_theta` beside `rope_scaling`; later ones have `rope_parameters`, for
//! some families one per kind of layer.

use super::keys::{self, Keys};
use super::{Family, refusal};
use crate::fault::Result;
use crate::spec::{RopeScaling, RopeSpec};
use serde_json::{Map, Value};

/// Largest stretching divisor or multiplier that is read.
const FACTOR: f64 = 1e6;

/// What [`read`] found.
pub(super) struct Rotary {
    /// Columns of a head that rotate.
    pub(super) dim: usize,
    /// Layers that see everything use the first.
    pub(super) ropes: Vec<RopeSpec>,
    /// The one that windowed layers use.
    pub(super) windowed: usize,
}

/// One group of rotary settings, and where to look for what it does not say.
struct Group<'a> {
    own: Option<&'a Map<String, Value>>,
    keys: &'a Keys,
    /// Settings beside the group count too (not so for one group per kind of layer).
    flat: bool,
    head_dim: usize,
    max_positions: usize,
    architecture: &'a str,
}

pub(super) fn read(
    family: &Family,
    keys: &Keys,
    architecture: &str,
    head_dim: usize,
    max_positions: usize,
    any_windowed: bool,
) -> Result<Rotary> {
    let group = |own, flat| Group { own, keys, flat, head_dim, max_positions, architecture };
    let object = |key: &str| match keys.get(key) {
        None => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map).filter(|m| !m.is_empty())),
        Some(_) => Err(keys::impossible(format!("`{key}` is not a group of settings"))),
    };
    let parameters = object("rope_parameters")?;
    let nested = |kind: &str| parameters.and_then(|p| p.get(kind)).and_then(Value::as_object);
    let per_kind = nested("full_attention").is_some() || nested("sliding_attention").is_some();
    let scaling = object("rope_scaling")?;
    let main = if per_kind { group(nested("full_attention"), false) } else { group(scaling.or(parameters), true) };
    if family.scaling_needed && main.own.is_none() {
        return Err(keys::missing("rope_scaling"));
    }
    let dim = main.rotary_dim(family)?;
    let mut ropes = vec![main.rope(family, "rope_theta", family.theta, dim)?];
    let mut windowed = 0;
    if any_windowed && (per_kind || family.local_theta.is_some()) {
        let local = group(nested("sliding_attention"), false);
        if local.rotary_dim(family)? != dim {
            return Err(refusal::operation(architecture, "a different number of rotating columns per layer"));
        }
        ropes.push(local.rope(family, "rope_local_base_freq", family.local_theta.unwrap_or(family.theta), dim)?);
        windowed = 1;
    }
    Ok(Rotary { dim, ropes, windowed })
}

impl Group<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.own.and_then(|own| own.get(key)).filter(|value| !value.is_null())
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match keys::positive(key, value)? {
                x if x <= FACTOR => Ok(Some(x)),
                _ => Err(keys::impossible(format!("`{key}` is {value}, above {FACTOR}"))),
            },
        }
    }

    fn needed(&self, key: &str) -> Result<f64> {
        self.number(key)?.ok_or_else(|| keys::missing(key))
    }

    /// Columns that rotate. Only families that rotate a part read the fraction; the reference
    /// ignores it elsewhere.
    fn rotary_dim(&self, family: &Family) -> Result<usize> {
        let outer = self.keys.get("partial_rotary_factor");
        let fraction = match self.get("partial_rotary_factor").or(outer) {
            Some(value) if family.partial_rotary => keys::positive("partial_rotary_factor", value)?,
            _ => 1.0,
        };
        if fraction > 1.0 {
            return Err(keys::impossible(format!("`partial_rotary_factor` is {fraction}, above 1")));
        }
        let dim = (self.head_dim as f64 * fraction) as usize;
        if dim == 0 || !dim.is_multiple_of(2) {
            return Err(keys::impossible(format!(
                "{dim} columns of a head rotate, which is not an even number above zero"
            )));
        }
        Ok(dim)
    }

    fn rope(&self, family: &Family, outer_theta: &str, default_theta: f64, dim: usize) -> Result<RopeSpec> {
        let theta = match self.get("rope_theta") {
            Some(value) => keys::positive("rope_theta", value)?,
            None => self.keys.positive(outer_theta, default_theta)?,
        };
        if theta <= 1.0 {
            return Err(keys::impossible(format!("the rotary base is {theta}, not above 1")));
        }
        Ok(RopeSpec { theta, scaling: self.scaling(family, dim)? })
    }

    fn scaling(&self, family: &Family, dim: usize) -> Result<RopeScaling> {
        if self.get("llama_4_scaling_beta").is_some() {
            let lacking = "queries that are scaled by their position (`llama_4_scaling_beta`)";
            return Err(refusal::operation(self.architecture, lacking));
        }
        let named = self.get("rope_type").or_else(|| self.get("type"));
        let written = match named {
            None => "default",
            Some(value) => value.as_str().ok_or_else(|| keys::impossible(format!("`rope_type` is {value}")))?,
        };
        let kind = family.scaling_aliases.iter().find(|(old, _)| *old == written).map_or(written, |(_, kind)| kind);
        match kind {
            // Stretching by length starts beyond `max_position_embeddings`, and so does our refusal.
            "default" | "none" | "dynamic" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor: self.needed("factor")? }),
            "llama3" => self.llama3(family),
            "yarn" => self.yarn(family),
            "longrope" => self.long_rope(family, dim),
            other => Err(refusal::operation(self.architecture, &format!("the rotary embedding `{other}`"))),
        }
    }

    /// Context of the original training. A copy at the top level wins over the group's.
    fn original(&self, family: &Family) -> Result<usize> {
        let key = "original_max_position_embeddings";
        let outer = if self.flat { self.keys.get(key) } else { None };
        match (outer, family.defaults.original_positions, self.get(key)) {
            (Some(value), _, _) | (None, None, Some(value)) => keys::whole(key, value, 2, keys::POSITIONS),
            (None, Some(default), _) => Ok(default),
            (None, None, None) => Ok(self.max_positions),
        }
    }

    /// The divisor; when absent, how far the context was stretched.
    fn factor(&self, original: usize) -> Result<f64> {
        Ok(self.number("factor")?.unwrap_or(self.max_positions as f64 / original as f64))
    }

    fn llama3(&self, family: &Family) -> Result<RopeScaling> {
        let (low, high) = (self.needed("low_freq_factor")?, self.needed("high_freq_factor")?);
        if low >= high {
            return Err(keys::impossible(format!(
                "`low_freq_factor` ({low}) is not below `high_freq_factor` ({high})"
            )));
        }
        Ok(RopeScaling::Llama3 {
            factor: self.needed("factor")?,
            low_freq_factor: low,
            high_freq_factor: high,
            original: self.original(family)?,
        })
    }

    fn yarn(&self, family: &Family) -> Result<RopeScaling> {
        let original = self.original(family)?;
        let factor = self.factor(original)?;
        let mscale = |scale: f64| {
            if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 }
        };
        // Zero counts as absent here.
        let weight = |key: &str| match self.get(key).and_then(Value::as_f64) {
            Some(0.0) => Ok(None),
            _ => self.number(key),
        };
        let attention_factor = match (self.number("attention_factor")?, weight("mscale")?, weight("mscale_all_dim")?) {
            (Some(given), _, _) => given,
            (None, Some(some), Some(all)) => mscale(some) / mscale(all),
            (None, _, _) => mscale(1.0),
        };
        let truncate = match self.get("truncate") {
            None => true,
            Some(value) => value.as_bool().ok_or_else(|| keys::impossible(format!("`truncate` is {value}")))?,
        };
        Ok(RopeScaling::Yarn {
            factor,
            original,
            beta_fast: weight("beta_fast")?.unwrap_or(32.0),
            beta_slow: weight("beta_slow")?.unwrap_or(1.0),
            attention_factor,
            truncate,
        })
    }

    fn long_rope(&self, family: &Family, dim: usize) -> Result<RopeScaling> {
        let original = self.original(family)?;
        let factor = self.factor(original)?;
        let usual = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original as f64).ln()).sqrt() };
        Ok(RopeScaling::LongRope {
            short: self.divisors("short_factor", dim / 2)?,
            long: self.divisors("long_factor", dim / 2)?,
            original,
            attention_factor: self.number("attention_factor")?.unwrap_or(usual),
        })
    }

    fn divisors(&self, key: &str, expected: usize) -> Result<Vec<f64>> {
        let values = match self.get(key) {
            Some(Value::Array(values)) => values,
            Some(_) => {
                return Err(keys::impossible(format!("`{key}` is not a list of numbers")));
            }
            None => return Err(keys::missing(key)),
        };
        if values.len() != expected {
            return Err(keys::impossible(format!("`{key}` lists {} numbers, not {expected}", values.len())));
        }
        values.iter().map(|value| keys::positive(key, value)).collect()
    }
}
