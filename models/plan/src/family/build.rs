//! From a family's row and the numbers of a configuration to one concrete architecture.

use super::keys::{self, Keys};
use super::{Bias, Family, Precision, Window, experts, refusal, rotary};
use crate::fault::Result;
use crate::spec::{GateActivation, LayerSpec, ModelSpec, ModuleSpec, Part};

pub(super) fn build(family: &Family, architecture: String, keys: &Keys, precision: Precision) -> Result<ModelSpec> {
    use keys::{HEAD_DIM, HEADS, LAYERS, POSITIONS, VOCABULARY, WIDTH};
    let defaults = &family.defaults;
    let hidden_size = keys.count("hidden_size", WIDTH, defaults.hidden_size)?;
    let intermediate_size = keys.count("intermediate_size", WIDTH, defaults.intermediate_size)?;
    let n_layers = keys.count("num_hidden_layers", LAYERS, defaults.layers)?;
    let n_heads = keys.count("num_attention_heads", HEADS, defaults.heads)?;
    let n_kv_heads = match keys.nullable_count("num_key_value_heads", HEADS, defaults.kv_heads)? {
        Some(n) => n,
        None => n_heads,
    };
    if n_heads % n_kv_heads != 0 {
        return Err(keys::impossible(format!(
            "`num_attention_heads` ({n_heads}) is not a multiple of `num_key_value_heads` ({n_kv_heads})"
        )));
    }
    let head_dim = match keys.nullable_count("head_dim", HEAD_DIM, defaults.head_dim)? {
        Some(n) => n,
        None if hidden_size % n_heads == 0 => hidden_size / n_heads,
        None => {
            return Err(keys::impossible(format!(
                "`hidden_size` ({hidden_size}) is not a multiple of `num_attention_heads` ({n_heads}), and there is no `head_dim`"
            )));
        }
    };
    // Both factors are below 2^13, so the product cannot overflow.
    if head_dim > HEAD_DIM || n_heads * head_dim > WIDTH {
        return Err(keys::impossible(format!("{n_heads} heads of {head_dim} columns are more than {WIDTH} columns")));
    }
    let max_positions = keys.count("max_position_embeddings", POSITIONS, Some(defaults.max_positions))?;
    if keys.flag("use_bidirectional_attention", false)? {
        return Err(refusal::operation(
            &architecture,
            "attention to later words (`use_bidirectional_attention`), which embedding models use",
        ));
    }
    let rotating = rotating_layers(family, keys, n_layers)?;
    let (windowed, window) = windowed_layers(family, keys, &rotating, &architecture)?;
    let any_windowed = windowed.contains(&true);
    let rotary = rotary::read(family, keys, &architecture, head_dim, max_positions, any_windowed)?;
    let multiplier = |key: &str| if family.multipliers { keys.positive(key, 1.0) } else { Ok(1.0) };
    let attention_scale = match family.query_scalar {
        Some(default) => keys.positive("query_pre_attn_scalar", default)?.powf(-0.5),
        None if family.multipliers => multiplier("attention_multiplier")?,
        None => (head_dim as f64).powf(-0.5),
    };
    let embedding_scale = if family.embedding_scaled {
        precision.round((hidden_size as f64).sqrt())
    } else {
        multiplier("embedding_multiplier")?
    };
    let soft_cap = |key: &str, default: Option<f64>| {
        if family.soft_caps { keys.nullable_positive(key, default) } else { Ok(None) }
    };
    let bias = |bias: Bias| match bias {
        Bias::Never => Ok(false),
        Bias::Always => Ok(true),
        Bias::Key(key) => keys.flag(key, false),
        Bias::Unless(key) => keys.flag(key, true),
    };
    let (qkv_bias, o_bias, mlp_bias) = (bias(family.qkv_bias)?, bias(family.o_bias)?, bias(family.mlp_bias)?);
    let (experts, sparse) = match &family.experts {
        Some(row) => experts::read(row, keys, n_layers, &architecture).map(|(spec, sparse)| (Some(spec), sparse))?,
        None => (None, vec![false; n_layers]),
    };
    let dense = sparse.contains(&false);
    let of_mlp = |part: &Part| matches!(part, Part::Gate | Part::Up | Part::Down);
    let modules = family
        .modules
        .iter()
        .filter(|module| dense || !of_mlp(&module.parts[0]))
        .map(|module| {
            let (q, kv) = (n_heads * head_dim, n_kv_heads * head_dim);
            let rows = |part: &Part| match part {
                Part::Q => q,
                Part::K | Part::V => kv,
                Part::O | Part::Down => hidden_size,
                Part::Gate | Part::Up => intermediate_size,
            };
            let (in_features, bias) = match module.parts[0] {
                Part::Q | Part::K | Part::V => (hidden_size, qkv_bias),
                Part::O => (q, o_bias),
                Part::Gate | Part::Up => (hidden_size, mlp_bias),
                Part::Down => (intermediate_size, mlp_bias),
            };
            ModuleSpec {
                name: module.name.to_owned(),
                parts: module.parts.to_vec(),
                bias,
                out_features: module.parts.iter().map(rows).sum(),
                in_features,
            }
        })
        .collect();
    Ok(ModelSpec {
        family: family.name.to_owned(),
        vocab_size: keys.count("vocab_size", VOCABULARY, defaults.vocab_size)?,
        hidden_size,
        intermediate_size,
        n_heads,
        n_kv_heads,
        head_dim,
        rotary_dim: rotary.dim,
        max_positions,
        norm_eps: keys.positive("rms_norm_eps", defaults.norm_eps)?,
        norm_offset: family.norm_offset,
        placement: family.placement,
        qk_norm: family.qk_norm,
        sinks: family.sinks,
        activation: activation(family, keys, &architecture)?,
        experts,
        embedding_scale,
        residual_scale: not_one(multiplier("residual_multiplier")?),
        logit_scale: not_one(1.0 / multiplier("logits_scaling")?),
        attention_scale,
        attention_softcap: soft_cap("attn_logit_softcapping", defaults.attention_softcap)?,
        logit_softcap: soft_cap("final_logit_softcapping", defaults.logit_softcap)?,
        tied: keys.flag("tie_word_embeddings", defaults.tied)?,
        ropes: rotary.ropes,
        layers: (0..n_layers)
            .map(|i| {
                let (window, rope) = if windowed[i] { (window, rotary.windowed) } else { (None, 0) };
                LayerSpec { window, rope: rotating[i].then_some(rope), sparse: sparse[i] }
            })
            .collect(),
        modules,
        architecture,
    })
}

/// A multiplier that multiplies.
fn not_one(x: f64) -> Option<f64> {
    Some(x).filter(|x| x.total_cmp(&1.0).is_ne())
}

fn activation(family: &Family, keys: &Keys, architecture: &str) -> Result<GateActivation> {
    match keys.text(family.activation_key).unwrap_or(family.defaults.activation) {
        "silu" | "swish" => Ok(GateActivation::Silu),
        "gelu_pytorch_tanh" | "gelu_new" => Ok(GateActivation::GeluTanh),
        "gelu" if family.gelu_means_tanh => Ok(GateActivation::GeluTanh),
        other => Err(refusal::operation(architecture, &format!("the activation `{other}`"))),
    }
}

/// Which layers rotate queries and keys.
fn rotating_layers(family: &Family, keys: &Keys, layers: usize) -> Result<Vec<bool>> {
    if !family.unrotated {
        return Ok(vec![true; layers]);
    }
    // In spite of the key's name, 1 means that the layer rotates.
    let Some(flags) = keys.list("no_rope_layers")? else {
        let interval = keys.count("no_rope_layer_interval", keys::LAYERS, Some(4))?;
        return Ok((1..=layers).map(|i| !i.is_multiple_of(interval)).collect());
    };
    if flags.len() < layers {
        return Err(keys::impossible(format!("`no_rope_layers` lists {} of {layers} layers", flags.len())));
    }
    let flag = |value| keys::whole("no_rope_layers", value, 0, 1).map(|flag| flag == 1);
    flags.iter().take(layers).map(flag).collect()
}

/// Which layers are windowed, and the window (`None` in odd files that set it to `null`).
fn windowed_layers(
    family: &Family,
    keys: &Keys,
    rotating: &[bool],
    architecture: &str,
) -> Result<(Vec<bool>, Option<usize>)> {
    let layers = rotating.len();
    let enabled = match family.window {
        Window::Never => false,
        Window::UpperLayers | Window::Flagged | Window::Unrotated => keys.flag("use_sliding_window", false)?,
        Window::Every | Window::AllButEvery(_) => true,
    };
    if !enabled {
        return Ok((vec![false; layers], None));
    }
    let window = keys.nullable_count("sliding_window", keys::POSITIONS, family.defaults.sliding_window)?;
    let listed =
        if matches!(family.window, Window::Every | Window::Flagged) { None } else { keys.list("layer_types")? };
    let windowed = match (listed, family.window) {
        (Some(types), _) if types.len() != layers => {
            return Err(keys::impossible(format!(
                "`layer_types` lists {} layers and `num_hidden_layers` says {layers}",
                types.len()
            )));
        }
        (Some(types), _) => types
            .iter()
            .map(|kind| match kind.as_str() {
                Some("full_attention") => Ok(false),
                Some("sliding_attention") => Ok(true),
                _ => Err(refusal::operation(architecture, &format!("layers of type {kind}"))),
            })
            .collect::<Result<_>>()?,
        (None, Window::AllButEvery(n)) => {
            let written =
                if family.pattern_key { keys.count("sliding_window_pattern", keys::LAYERS, Some(n))? } else { n };
            (1..=layers).map(|i| i % written != 0).collect()
        }
        (None, Window::Unrotated) => rotating.iter().map(|rotates| !rotates).collect(),
        (None, _) => {
            let first = match family.window {
                Window::UpperLayers => keys.count_from_zero("max_window_layers", keys::LAYERS, 28)?,
                _ => 0,
            };
            (0..layers).map(|i| i >= first).collect()
        }
    };
    Ok((windowed, window))
}
