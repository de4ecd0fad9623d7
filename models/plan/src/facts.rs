//! What was measured outside: the model, the data and the machine, as far as the planner asks for them.

use crate::config::{Method, TargetModules};
use crate::memory::card::Beside;
use crate::order::SCORE_TOKENS;
use crate::resolve::{Arithmetic, Optimizer};
use crate::spec::{ModelSpec, ModuleSpec};
use serde::{Deserialize, Serialize};

/// What a plan is made from.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The model.
    pub spec: &'a ModelSpec,
    /// Its checkpoint stores 4-bit weights.
    pub stored_in_4bit: bool,
    /// Tokens of every training example, uncut.
    pub lengths: &'a [usize],
    /// How often each of them is drawn in an epoch; empty where that is once.
    pub weights: &'a [f64],
    /// Threads to compute with.
    pub threads: usize,
    /// Sizes of the model's files.
    pub model: ModelFacts,
    /// What else is known of the data.
    pub data: DataFacts,
    /// The machine; without it nothing is refused or reduced for want of memory.
    pub machine: Option<MachineFacts>,
    /// What the adapters sit on; `None`: every linear module.
    pub targets: Option<Targets>,
}

impl<'a> Facts<'a> {
    /// Nothing known but the model and the lengths of the examples.
    pub fn bare(spec: &'a ModelSpec, lengths: &'a [usize], threads: usize) -> Self {
        let data = DataFacts { rows: lengths.len(), ..DataFacts::default() };
        Self {
            spec,
            stored_in_4bit: false,
            lengths,
            weights: &[],
            threads,
            model: ModelFacts::default(),
            data,
            machine: None,
            targets: None,
        }
    }
}

/// Sizes of a model's files, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// Of all tensors as they are stored.
    pub stored_bytes: u64,
    /// Of the linear matrices among them.
    pub linear_bytes: u64,
    /// Of the embedding among them, where it is not the head as well; 0 otherwise.
    #[serde(default)]
    pub embedding_bytes: u64,
    /// Of `tokenizer.json`.
    pub tokenizer_bytes: u64,
}

/// What is known of the data, besides the lengths of the training examples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DataFacts {
    /// Usable rows, before any are held out.
    pub rows: usize,
    /// Rows that repeat an earlier one.
    pub duplicates: usize,
    /// Mean number of answers in a row.
    pub answers: f64,
    /// Share of the tokens that are learnt.
    pub learnt_share: f64,
    /// Where examples compare two sequences, tokens of the first of every training example; empty otherwise.
    pub firsts: Vec<usize>,
    /// Tokens of every held-out example, uncut.
    pub held_out: Vec<usize>,
    /// And of the first sequence of each, where they compare.
    pub held_out_firsts: Vec<usize>,
    /// Bytes of the files.
    pub bytes: u64,
}

/// What is known of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MachineFacts {
    /// Memory installed, or granted to this process's group.
    pub memory_bytes: u64,
    /// Memory that a new program could have now.
    pub available_bytes: u64,
    /// Cores of the processor.
    pub cores: usize,
    /// Free space where runs are kept.
    pub disk_free_bytes: u64,
    /// What the factors of large products are rounded to where they are computed fastest.
    #[serde(default)]
    pub fastest: Arithmetic,
    /// A graphics card computes, and the memory is its own.
    #[serde(default)]
    pub card: bool,
    /// What that card takes for every run.
    #[serde(default)]
    pub beside: Beside,
    /// Memory of the computer that is free beside a card; 0 where none computes.
    #[serde(default)]
    pub host_bytes: u64,
}

/// What is trained beside or instead of the model's own weights.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// Which of [`ModelSpec::modules`] carry adapters, in any block.
    pub modules: Vec<bool>,
    /// Their input features, output features, and how many have both, over all blocks.
    pub shapes: Vec<[u64; 3]>,
    /// Input and output features of all of them, over all blocks.
    pub features: u64,
    /// Output features of all of them, over all blocks.
    pub outputs: u64,
    /// Numbers of the matrices trained whole whose moments may be kept in 8 bits: a head of its own.
    pub saved_head: u64,
    /// Numbers of everything else that is trained whole.
    pub saved: u64,
}

/// What is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trained {
    /// How many numbers.
    pub parameters: u64,
    /// Bytes of their moments.
    pub moment_bytes: u64,
}

impl Trained {
    /// So many tensors of `len` numbers, with moments in 8 bits or in f32.
    fn add(&mut self, len: u64, tensors: u64, is_narrow: bool) {
        self.parameters += len * tensors;
        self.moment_bytes += tensors * if is_narrow { 2 * len + 8 * len.div_ceil(MOMENT_BLOCK) } else { 8 * len };
    }
}

/// Numbers that share a scale where moments are kept in 8 bits.
pub const MOMENT_BLOCK: u64 = 256;

impl Targets {
    /// Every linear module of every block.
    pub fn all(spec: &ModelSpec) -> Self {
        let mut found = Self { modules: vec![false; spec.modules.len()], ..Self::default() };
        for i in 0..spec.layers.len() {
            for module in spec.target_modules(i) {
                found.add(spec, module);
            }
        }
        found
    }

    /// One module of one block.
    pub fn add(&mut self, spec: &ModelSpec, module: &ModuleSpec) {
        for (other, on) in spec.modules.iter().zip(&mut self.modules) {
            *on |= other.name == module.name;
        }
        let (inputs, outputs) = (module.in_features as u64, module.out_features as u64);
        match self.shapes.iter_mut().find(|shape| shape[..2] == [inputs, outputs]) {
            Some(shape) => shape[2] += 1,
            None => self.shapes.push([inputs, outputs, 1]),
        }
        self.features += (module.in_features + module.out_features) as u64;
        self.outputs += module.out_features as u64;
    }

    /// What `method` trains with this rank, and what the optimizer keeps of it.
    pub fn trained(&self, spec: &ModelSpec, method: Method, rank: usize, optimizer: Optimizer) -> Trained {
        let mut found = Trained::default();
        let is_narrow = optimizer == Optimizer::AdamW8bit;
        if method == Method::Full {
            for module in (0..spec.layers.len()).flat_map(|i| spec.layer_modules(i)) {
                found.add((module.in_features * module.out_features) as u64, 1, is_narrow);
            }
            if !spec.tied {
                found.add((spec.vocab_size * spec.hidden_size) as u64, 1, is_narrow);
            }
            let rest = spec.parameters().saturating_sub(spec.expert_parameters() + found.parameters);
            found.add(rest, 1, false);
            return found;
        }
        for &[inputs, outputs, count] in &self.shapes {
            found.add(inputs * rank as u64, count, is_narrow);
            found.add(outputs * rank as u64, count, is_narrow);
            found.add(if method.is_dora() { outputs } else { 0 }, count, is_narrow);
        }
        found.add(self.saved_head, 1, is_narrow);
        found.add(self.saved, 1, false);
        found
    }

    /// Parameters that `method` trains with this rank.
    pub fn trainable(&self, spec: &ModelSpec, method: Method, rank: usize) -> u64 {
        self.trained(spec, method, rank, Optimizer::AdamW).parameters
    }

    /// Whether `targets` asks for every linear module, which needs no look at the names.
    pub fn is_all(targets: Option<&TargetModules>) -> bool {
        match targets {
            None => true,
            Some(TargetModules::Pattern(pattern)) => pattern == "all-linear",
            Some(TargetModules::List(_)) => false,
        }
    }
}

/// Most tokens of these held-out examples that are scored together.
pub fn score_rows(lengths: &[usize]) -> usize {
    let mut most = 0;
    let mut together = 0;
    for &length in lengths {
        together = if together > 0 && together + length <= SCORE_TOKENS { together + length } else { length };
        most = most.max(together);
    }
    most
}
