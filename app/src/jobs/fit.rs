//! Whether a model can be trained on this machine, said before anything is downloaded.

use peft_plan::family::{FAMILIES, Precision, spec_from_config};
use peft_plan::{
    Adapters, Arithmetic, MemoryFacts, Method, ModelFacts, ModelSpec, Optimizer, Result, Rows, Targets, memory,
};
use serde::Serialize;
use serde_json::Value;

/// A usual `tokenizer.json`.
const TOKENIZER_BYTES: u64 = 7_000_000;
/// Rank of the adapter that the answer is about.
const RANK: usize = 16;
/// Tokens of a step that the answer is about, where the model can read so many.
const TOKENS: usize = 1024;
/// Tokens of the smallest step that makes sense.
const FEWEST_TOKENS: usize = 128;
/// Share of the memory that a run may use when nothing else was said.
pub const SHARE: f64 = 0.9;

/// What a method needs, and whether this machine has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Fit {
    /// `lora` or `qlora`.
    pub method: Method,
    /// Planned peak.
    pub memory_bytes: u64,
    /// It is within what a run may use.
    pub fits: bool,
}

/// A model as `config.json` and the sizes of its files describe it.
#[derive(Clone, Debug)]
pub struct Described {
    /// Its architecture.
    pub spec: ModelSpec,
    /// Bytes of its weight files.
    pub weight_bytes: u64,
    /// Bytes of a weight that is not quantised.
    dense_bytes: u64,
    stored_in_4bit: bool,
}

impl Described {
    /// PS-MODEL-002 for an architecture that is not supported.
    pub fn new(config: &Value, weight_bytes: u64) -> Result<Self> {
        let dense_bytes = match Precision::of_config(config) {
            Some(Precision::BF16 | Precision::F16) => 2,
            Some(Precision::F32) | None => 4,
        };
        let spec = spec_from_config(config)?;
        Ok(Self { spec, weight_bytes, dense_bytes, stored_in_4bit: config["quantization_config"].is_object() })
    }

    /// What the usual methods need for a step of usual length, within `memory_bytes` of this machine.
    pub fn fits(&self, memory_bytes: u64) -> Vec<Fit> {
        let tokens = TOKENS.min(self.spec.max_positions);
        [Method::Lora, Method::Qlora].map(|method| self.fit(method, tokens, memory_bytes)).to_vec()
    }

    /// Whether `method` can do even the smallest step.
    pub fn smallest(&self, method: Method, memory_bytes: u64) -> Fit {
        self.fit(method, FEWEST_TOKENS.min(self.spec.max_positions), memory_bytes)
    }

    fn fit(&self, method: Method, tokens: usize, memory_bytes: u64) -> Fit {
        let spec = &self.spec;
        let modules = (0..spec.layers.len()).flat_map(|layer| spec.layer_modules(layer));
        let linear: u64 = modules.map(|m| (m.in_features * m.out_features) as u64).sum();
        let sizes = ModelFacts {
            stored_bytes: self.weight_bytes,
            linear_bytes: linear * self.dense_bytes,
            embedding_bytes: 0,
            tokenizer_bytes: TOKENIZER_BYTES,
        };
        let (weight_bytes, quantising_bytes) = memory::weights(spec, &sizes, self.stored_in_4bit, method, true);
        let targets = Targets::all(spec);
        let trained = targets.trained(spec, method, RANK, Optimizer::AdamW);
        let adapters = match method {
            Method::Full => Adapters::none(),
            _ => Adapters { rank: RANK, dora: method.is_dora(), dropout: false, modules: targets.modules },
        };
        let facts = MemoryFacts {
            weight_bytes,
            unread_bytes: 0,
            quantising_bytes,
            trainable: trained.parameters,
            moment_bytes: trained.moment_bytes,
            keeps_reference: false,
            method,
            adapters,
            rows: Rows { train: tokens, score: 0 },
            sets: 1,
            away: 0,
            decoded: 0,
            ahead: false,
            arithmetic: Arithmetic::F32,
            card: false,
            beside: memory::card::Beside::default(),
            longest: tokens,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            tokenizer_bytes: sizes.tokenizer_bytes,
            example_tokens: 0,
            data_bytes: 0,
        };
        let need = memory::plan(spec, &facts).total_bytes;
        Fit { method, memory_bytes: need, fits: need <= budget(memory_bytes) }
    }
}

/// What a run may use of a memory of this size.
pub fn budget(memory_bytes: u64) -> u64 {
    (memory_bytes as f64 * SHARE) as u64
}

/// The first method that fits, in a word: `lora`, `qlora`, or `no`.
pub fn word(fits: &[Fit]) -> &'static str {
    match fits.iter().find(|fit| fit.fits).map(|fit| fit.method) {
        Some(Method::Lora) => "lora",
        Some(_) => "qlora",
        None => "no",
    }
}

/// About the same from counts alone, for a list in which nobody has looked at every model.
pub fn rough_word(parameters: u64, weight_bytes: u64, memory_bytes: u64) -> &'static str {
    const ROOM: u64 = 512 << 20;
    let budget = budget(memory_bytes);
    let lora = weight_bytes.saturating_add(weight_bytes / 8).saturating_add(ROOM);
    // Linear weights at half a byte and a scale, embeddings at two bytes.
    let qlora = (parameters / 4).saturating_mul(3).saturating_add(ROOM);
    match () {
        () if lora <= budget => "lora",
        () if qlora <= budget => "qlora",
        () => "no",
    }
}

/// The family of a class of models, where it is supported.
pub fn family_of(architecture: &str) -> Option<&'static str> {
    FAMILIES.iter().find(|family| family.architectures.contains(&architecture)).map(|family| family.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use peft_remote::recommended;

    const GIB: u64 = 1 << 30;

    #[test]
    fn four_bits_need_less_and_a_larger_memory_fits_more() {
        for model in recommended::all() {
            let described = Described::new(&model.config, model.weight_bytes).expect("supported");
            let [lora, qlora] = described.fits(16 * GIB).try_into().expect("two methods");
            assert!(qlora.memory_bytes < lora.memory_bytes, "{}", model.id);
            assert!(described.smallest(Method::Qlora, 16 * GIB).memory_bytes < qlora.memory_bytes, "{}", model.id);
            assert_eq!(word(&described.fits(1 << 20)), "no");
            assert_eq!(word(&described.fits(1 << 50)), "lora");
        }
    }

    #[test]
    fn the_rough_answer_agrees_with_the_plan_for_models_we_know() {
        let agree = |gib: u64| {
            let same = |model: &&recommended::Recommended| {
                let described = Described::new(&model.config, model.weight_bytes).expect("supported");
                let rough = rough_word(described.spec.parameters(), model.weight_bytes, gib * GIB);
                rough == word(&described.fits(gib * GIB))
            };
            recommended::all().iter().filter(same).count()
        };
        let all = recommended::all().len();
        for gib in [4, 8, 16, 32, 64] {
            assert!(agree(gib) + 3 >= all, "{gib} GiB: {} of {all}", agree(gib));
        }
    }
}
