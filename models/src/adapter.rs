//! An adapter apart from any model: its settings, its values, where they come from.

use crate::checkpoint::names::ADAPTER_PREFIX;
use crate::decoder::{Decoder, initial_a};
use crate::fault::device;
use crate::peft_format::{self, AdapterFile};
use peft_kernels::Backend;
use peft_plan::{Fault, Result, TargetModules, TrainingPlan};
use std::collections::BTreeMap;

/// Settings of an adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterSpec {
    /// Rank.
    pub rank: usize,
    /// Numerator of the scaling.
    pub alpha: f64,
    /// Scale by `alpha / √rank`.
    pub use_rslora: bool,
    /// Dropout on the input of A while training.
    pub dropout: f64,
    /// Magnitude vectors (DoRA).
    pub dora: bool,
    /// Which modules carry one.
    pub targets: TargetModules,
    /// Learning rate of B over that of A.
    pub lora_plus_ratio: Option<f64>,
    /// Modules trained whole beside the adapters, by the ends of their paths.
    pub modules_to_save: Vec<String>,
}

impl AdapterSpec {
    /// The adapter that a plan asks for.
    pub fn of_plan(plan: &TrainingPlan) -> Self {
        Self {
            rank: plan.rank,
            alpha: plan.alpha,
            use_rslora: plan.use_rslora,
            dropout: plan.dropout,
            dora: plan.method.is_dora(),
            targets: plan.target_modules.clone(),
            lora_plus_ratio: plan.lora_plus_ratio,
            modules_to_save: plan.modules_to_save.clone(),
        }
    }

    /// Multiplies `B·A`.
    pub fn scaling(&self, rank: usize, alpha: f64) -> f64 {
        if self.use_rslora { alpha / (rank as f64).sqrt() } else { alpha / rank as f64 }
    }
}

/// Values of one module's adapter.
#[derive(Clone, Debug)]
pub struct LoraValues {
    /// Rank.
    pub rank: usize,
    /// `[rank, in]`
    pub a: Vec<f32>,
    /// `[out, rank]`
    pub b: Vec<f32>,
    /// `[out]`; `None`: the row norms of the weight.
    pub magnitude: Option<Vec<f32>>,
    /// Multiplies `B·A`.
    pub scaling: f64,
}

/// Where an adapter's values come from.
#[derive(Clone, Debug)]
pub enum AdapterSource<'a> {
    /// PEFT's initialisation from a seed.
    Fresh {
        /// Settings.
        spec: AdapterSpec,
        /// Seed of A.
        seed: u64,
    },
    /// A file; settings that only matter while training come with it.
    File {
        /// Settings.
        spec: AdapterSpec,
        /// The adapter.
        file: &'a AdapterFile,
    },
}

impl AdapterSource<'_> {
    /// Settings.
    pub fn spec(&self) -> &AdapterSpec {
        match self {
            Self::Fresh { spec, .. } | Self::File { spec, .. } => spec,
        }
    }

    /// Values for the module at `path`, or `None` when it carries no adapter.
    pub fn values(&self, path: &str, out: usize, inp: usize) -> Result<Option<LoraValues>> {
        match self {
            Self::Fresh { spec, seed } => {
                if !peft_format::matches(&spec.targets, path)? {
                    return Ok(None);
                }
                Ok(Some(LoraValues {
                    rank: spec.rank,
                    a: initial_a(spec.rank, inp, *seed, path),
                    b: vec![0.0; out * spec.rank],
                    magnitude: None,
                    scaling: spec.scaling(spec.rank, spec.alpha),
                }))
            }
            Self::File { spec, file } => {
                let get = |suffix: &str| file.tensors.get(&format!("base_model.model.{path}.{suffix}"));
                let (Some((shape_a, a)), Some((shape_b, b))) = (get("lora_A.weight"), get("lora_B.weight")) else {
                    return Ok(None);
                };
                let rank = shape_a.first().copied().unwrap_or(0);
                if shape_a != &[rank, inp] || shape_b != &[out, rank] || rank == 0 {
                    return Err(Fault::new(
                        "PS-MODEL-005",
                        format!(
                            "The adapter's tensors for `{path}` are {shape_a:?} and {shape_b:?}; the model needs [r, {inp}] and [{out}, r]"
                        ),
                    ));
                }
                let magnitude = match get("lora_magnitude_vector") {
                    Some((shape, m)) if shape == &[out] => Some(m.clone()),
                    Some((shape, _)) => {
                        return Err(Fault::new(
                            "PS-MODEL-005",
                            format!("The adapter's magnitude for `{path}` is {shape:?} instead of [{out}]"),
                        ));
                    }
                    None if spec.dora => {
                        return Err(Fault::new(
                            "PS-MODEL-005",
                            format!("The adapter is a DoRA adapter but has no magnitude for `{path}`"),
                        ));
                    }
                    None => None,
                };
                let alpha = file.config.alpha_for(path);
                Ok(Some(LoraValues { rank, a: a.clone(), b: b.clone(), magnitude, scaling: spec.scaling(rank, alpha) }))
            }
        }
    }
}

impl<'a> AdapterSource<'a> {
    /// What the module at `path` was trained to; `None`: it begins as the base has it.
    pub fn saved(&self, path: &str, shape: &[usize]) -> Result<Option<&'a [f32]>> {
        let Self::File { file, .. } = self else { return Ok(None) };
        match file.tensors.get(&format!("{ADAPTER_PREFIX}{path}.weight")) {
            None => Ok(None),
            Some((found, values)) if found == shape => Ok(Some(values)),
            Some((found, _)) => Err(Fault::new(
                "PS-MODEL-005",
                format!("The adapter's `{path}` is {found:?}; the model needs {shape:?}"),
            )),
        }
    }
}

/// Settings of an adapter that was read from disk.
pub fn spec_of_file(file: &AdapterFile) -> AdapterSpec {
    AdapterSpec {
        rank: file.config.r,
        alpha: file.config.lora_alpha,
        use_rslora: file.config.use_rslora,
        dropout: 0.0,
        dora: file.config.use_dora,
        targets: file.config.target_modules.clone(),
        lora_plus_ratio: None,
        modules_to_save: file.config.saved_names(),
    }
}

/// Name, shape and values of everything trained, in name order: what is written to `adapter_model.safetensors`.
pub type NamedTensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// The adapter's (or with `full` the model's) tensors.
pub fn tensors<B: Backend>(decoder: &mut Decoder<B>) -> Result<NamedTensors> {
    let be = decoder.be.clone();
    decoder
        .params_mut()
        .into_iter()
        .map(|p| Ok((p.name.clone(), (p.file_shape(), be.download(&p.value).map_err(device)?))))
        .collect()
}

/// A fault if the file holds tensors that found no place in the model.
pub fn check_all_used<B: Backend>(decoder: &mut Decoder<B>, file: &AdapterFile) -> Result<()> {
    let used: std::collections::BTreeSet<String> = decoder.params_mut().iter().map(|p| p.name.clone()).collect();
    let lost: Vec<&String> = file.tensors.keys().filter(|name| !used.contains(*name)).collect();
    match lost.first() {
        None => Ok(()),
        Some(first) => Err(Fault::new(
            "PS-MODEL-005",
            format!(
                "{} tensors of the adapter have no place in this model, the first is `{first}`; is it an adapter of another model?",
                lost.len()
            ),
        )),
    }
}
