//! The memory plan: one table of named tensors, from which both the estimate and the allocation are made (B3).
//!
//! [`layout`] says which buffers a pass over the model needs and how wide a row of each is. The trainer reserves
//! exactly these before its first step (`Activations::reserve`), and [`plan`] multiplies the same numbers out.
//! Bytes here are those of the processor backend. What a graphics card has to hold is in `memory/card.rs`.

pub mod answers;
pub mod card;
pub mod policy;

use crate::config::Method;
use crate::facts::{Facts, ModelFacts, Targets};
use crate::lengths::Lengths;
use crate::resolve::{Arithmetic, TrainingPlan};
use crate::spec::{ModelSpec, ModuleSpec, NormPlacement, Part, QkNorm};
use serde::{Deserialize, Serialize};

/// A named share of the memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryItem {
    /// What it is.
    pub name: String,
    /// How much of it.
    pub bytes: u64,
}

/// The whole table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPlan {
    /// The sum.
    pub total_bytes: u64,
    /// Its parts.
    pub items: Vec<MemoryItem>,
}

/// What of a run's adapters decides the width of its buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapters {
    /// Rank; 0 without adapters.
    pub rank: usize,
    /// Magnitude vectors (`DoRA`).
    pub dora: bool,
    /// Dropout on their input.
    pub dropout: bool,
    /// Which of [`ModelSpec::modules`] carry one, in any block.
    pub modules: Vec<bool>,
}

impl Adapters {
    /// None at all: `full`, or the base alone.
    pub fn none() -> Self {
        Self { rank: 0, dora: false, dropout: false, modules: Vec::new() }
    }

    fn on(&self, module: usize) -> bool {
        self.rank > 0 && self.modules.get(module).copied().unwrap_or(false)
    }
}

/// A buffer with one row a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name in the decoder; with a number behind a dot where every linear module has one.
    pub name: String,
    /// Numbers a row.
    pub width: usize,
    /// Scoring needs it too, not only training.
    pub scored: bool,
    /// A card whose products are in bfloat16 holds it in bfloat16; a processor those that a block keeps
    /// (`Backend::activation`, `Backend::lent`).
    pub is_activation: bool,
    /// How a processor holds it where it is lent.
    pub lent: Lent,
}

/// How a processor holds what is lent to its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lent {
    /// In f32, for all rows.
    Whole,
    /// Read as a factor of products alone: in bfloat16 where those round it.
    Factor,
    /// For a product that is joined with the gate before it: for few rows, with which it is not.
    Joined,
}

/// Names of the columns that are activations, among those that the blocks have.
const ACTIVATIONS: [&str; 20] = [
    "qkv",
    "attended",
    "normed",
    "raw",
    "projected",
    "down",
    "gate_up",
    "gated",
    "pre",
    "wide",
    "dnormed",
    "dqkv",
    "dattended",
    "dgated",
    "dgate_up",
    "scaled",
    "draw",
    "dropped",
    "difference",
    "gradient",
];

/// Rows up to which a processor joins nothing with a product.
const FEW_ROWS: usize = 16;

/// The buffers of a pass, one row a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Kept of each block for the backward pass.
    pub block: Vec<Column>,
    /// And of one with an MLP.
    pub mlp: Vec<Column>,
    /// And of one with experts.
    pub sparse: Vec<Column>,
    /// Lent to one block after the other.
    pub lent: Vec<Column>,
    /// Once for the whole model.
    pub pass: Vec<Column>,
    /// Of each block, whether it has experts.
    pub sparse_blocks: Vec<bool>,
    /// Width of the residual stream, kept before each block and after the last.
    pub stream: usize,
}

/// The buffers that a model of this shape needs.
pub fn layout(spec: &ModelSpec, adapters: &Adapters) -> Layout {
    let column = |name: &str, width: usize, scored: bool| {
        let name = name.to_owned();
        Column { name, width, scored, is_activation: false, lent: Lent::Whole }
    };
    let (hidden, q, kv, ff) = (spec.hidden_size, spec.q_dim(), spec.kv_dim(), spec.intermediate_size);
    let qkv = q + 2 * kv;
    let modules = || spec.modules.iter().enumerate().filter(|(i, _)| adapters.on(*i));
    let widest_in = modules().map(|(_, m)| m.in_features).max().unwrap_or(0);
    let widest_out = modules().map(|(_, m)| m.out_features).max().unwrap_or(0);

    let dense = (0..spec.layers.len()).any(|i| !spec.layers[i].sparse || spec.experts.is_none());
    let mut block = vec![
        column("qkv", qkv, true),
        column("attended", q, true),
        column("lse", spec.n_heads, true),
        column("middle", hidden, true),
    ];
    if spec.placement != NormPlacement::Post {
        block.extend(["rstd", "middle_rstd"].map(|name| column(name, 1, true)));
    }
    if let Some(norm) = spec.qk_norm {
        let (q_rows, k_rows) = match norm {
            QkNorm::Head => (spec.n_heads, spec.n_kv_heads),
            QkNorm::Whole => (1, 1),
        };
        block.extend([column("raw", qkv, true), column("q_rstd", q_rows, true), column("k_rstd", k_rows, true)]);
    }
    if spec.placement != NormPlacement::Pre {
        block.extend(["projected", "down"].map(|name| column(name, hidden, true)));
        block.extend(["projected_rstd", "down_rstd"].map(|name| column(name, 1, true)));
    }
    let mut mlp = Vec::new();
    let mut sparse = Vec::new();
    if dense {
        mlp.push(column("gate_up", 2 * ff, true));
    }
    if let Some(experts) = &spec.experts {
        // Every token has as many answers as experts are asked.
        let (k, inner) = (experts.top_k, experts.intermediate_size);
        sparse.extend([column("experts.gate_up", k * 2 * inner, true), column("experts.answers", k * hidden, true)]);
    }
    for (i, module) in modules() {
        let of_mlp = matches!(module.parts[0], Part::Gate | Part::Up | Part::Down);
        let into = if of_mlp { &mut mlp } else { &mut block };
        into.push(column(&format!("xa.{i}"), adapters.rank, true));
        if adapters.dora {
            into.push(column(&format!("pre.{i}"), module.out_features, true));
        }
    }

    let mut lent = vec![
        column("wide", hidden, true),
        column("dnormed", hidden, false),
        column("dqkv", qkv, true),
        column("dattended", q, false),
    ];
    if spec.placement != NormPlacement::Post {
        lent.extend([column("normed", hidden, true), column("again", 1, false)]);
    }
    if dense {
        lent.extend([column("gated", ff, true), column("dgated", ff, false), column("dgate_up", 2 * ff, false)]);
    }
    if let Some(experts) = &spec.experts {
        let (k, inner) = (experts.top_k, experts.intermediate_size);
        lent.extend([
            column("experts.logits", experts.count, true),
            column("experts.rows", k * hidden, true),
            column("experts.gated", k * inner, true),
            column("experts.weights", k, true),
            column("experts.scaled", k * hidden, false),
            column("experts.dgate_up", k * 2 * inner, false),
        ]);
    }
    if spec.residual_scale.is_some() {
        lent.push(column("scaled", hidden, false));
    }
    if spec.qk_norm.is_some() {
        lent.push(column("draw", qkv, false));
    }
    if widest_in > 0 {
        lent.push(column("dxa", adapters.rank, false));
    }
    if adapters.dropout {
        lent.extend([column("dropped", widest_in, false), column("difference", widest_in, false)]);
    }
    if adapters.dora {
        lent.push(column("gradient", widest_out, false));
        if modules().any(|(_, m)| m.bias) {
            lent.push(column("ones", 1, true));
        }
    }

    for column in block.iter_mut().chain(&mut mlp).chain(&mut lent) {
        let name = column.name.split('.').next().unwrap_or_default();
        column.is_activation = ACTIVATIONS.contains(&name);
        let is_joined = adapters.rank > 0 && !adapters.dora && !adapters.dropout;
        column.lent = match name {
            "gated" | "dgate_up" => Lent::Factor,
            "dgated" if is_joined => Lent::Joined,
            _ => Lent::Whole,
        };
    }
    let pass = vec![
        column("normed", hidden, true),
        column("rstd", 1, true),
        column("dnormed", hidden, true),
        column("loss", 1, true),
        column("correct", 1, true),
        column("dx", hidden, false),
    ];
    let sparse_blocks = spec.layers.iter().map(|layer| layer.sparse && spec.experts.is_some()).collect();
    Layout { block, mlp, sparse, lent, pass, sparse_blocks, stream: hidden }
}

/// Tokens that are computed together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Most tokens of a micro-batch.
    pub train: usize,
    /// Most tokens scored together; 0 where nothing is held out.
    pub score: usize,
}

impl Rows {
    /// Rows of a buffer.
    pub fn of(&self, column: &Column) -> usize {
        if column.scored { self.train.max(self.score) } else { self.train }
    }

    /// The same on a device that joins products with what lies beside them.
    pub fn joined(&self, column: &Column) -> usize {
        if column.lent == Lent::Joined { self.of(column).min(FEW_ROWS) } else { self.of(column) }
    }
}

impl Layout {
    /// Blocks that share the first of `sets` sets of activations, counted from the lowest: all of them but the highest
    /// one are computed again on the way back. Every other block keeps what it computed in a set of its own.
    pub fn sharing(&self, sets: usize) -> usize {
        sharing(self.sparse_blocks.len(), sets)
    }

    /// What set `slot` of `sets` holds.
    pub fn kept(&self, slot: usize, sets: usize) -> impl Iterator<Item = &Column> {
        // Scoring goes through the first set, whatever the block.
        let (mlp, sparse) = if slot == 0 {
            (self.sparse_blocks.contains(&false), self.sparse_blocks.contains(&true))
        } else {
            let is_sparse = self.sparse_blocks.get(self.sharing(sets) + slot - 1).copied().unwrap_or(false);
            (!is_sparse, is_sparse)
        };
        self.block.iter().chain(self.mlp.iter().filter(move |_| mlp)).chain(self.sparse.iter().filter(move |_| sparse))
    }

    /// Rows of a column of set `slot`: the first also serves scoring.
    pub fn rows(&self, slot: usize, column: &Column, rows: Rows, sets: usize) -> usize {
        if slot > 0 {
            return rows.train;
        }
        let trained = &self.sparse_blocks[..self.sharing(sets)];
        // What none of its blocks has is used here by scoring alone.
        let is_foreign = [(&self.mlp, false), (&self.sparse, true)]
            .iter()
            .any(|(columns, kind)| columns.iter().any(|c| c.name == column.name) && !trained.contains(kind));
        if is_foreign { rows.score } else { rows.of(column) }
    }

    /// Bytes of all kept activations: every block for a micro-batch, the first set also for scoring.
    pub fn activation_bytes(&self, rows: Rows, sets: usize, arithmetic: Arithmetic) -> u64 {
        let is_narrow = arithmetic == Arithmetic::Bf16;
        let bytes = |c: &Column| if is_narrow && c.is_activation { 2 } else { 4 };
        let of = |slot: usize| self.kept(slot, sets).map(move |c| (c.width * self.rows(slot, c, rows, sets), c));
        (0..sets).flat_map(of).map(|(numbers, c)| numbers as u64 * bytes(c)).sum()
    }

    /// Bytes of the residual stream: before each block and after the last. Scoring uses two of them in turn.
    pub fn stream_bytes(&self, rows: Rows) -> u64 {
        floats(
            self.stream
                * (2 * rows.train.max(rows.score) + (self.sparse_blocks.len() + 1).saturating_sub(2) * rows.train),
        )
    }

    /// Bytes of what is lent to the blocks, and of what the model has once.
    pub fn working_bytes(&self, rows: Rows, arithmetic: Arithmetic) -> u64 {
        let is_narrow = arithmetic == Arithmetic::Bf16;
        let bytes = |c: &Column| if is_narrow && c.lent == Lent::Factor { 2 } else { 4 };
        self.lent.iter().chain(&self.pass).map(|c| (c.width * rows.joined(c)) as u64 * bytes(c)).sum()
    }
}

/// Buffers that residual streams in the computer's memory take turns in: one is computed with, two are on their way.
pub const RING: usize = 3;

/// Of a model of so many blocks, how many residual streams can be in the computer's memory.
pub fn most_away(blocks: usize) -> usize {
    (blocks + 1).saturating_sub(RING)
}

/// Of so many blocks, how many share the first of `sets` sets of activations.
pub fn sharing(blocks: usize, sets: usize) -> usize {
    (blocks + 1).saturating_sub(sets).clamp(1.min(blocks), blocks)
}

fn floats(n: usize) -> u64 {
    n as u64 * 4
}

/// What the plan depends on, besides the model.
#[derive(Clone, Debug)]
pub struct MemoryFacts {
    /// Bytes of the frozen weights as they are held.
    pub weight_bytes: u64,
    /// Bytes of them that stay on disk where the computer computes: see [`unread`].
    pub unread_bytes: u64,
    /// Bytes of the largest matrix while it is widened and quantised on loading.
    pub quantising_bytes: u64,
    /// Parameters that are trained.
    pub trainable: u64,
    /// Bytes of the optimizer's moments.
    pub moment_bytes: u64,
    /// What is trained is kept beside as it was, for preferences to be measured against.
    pub keeps_reference: bool,
    /// Method.
    pub method: Method,
    /// Adapters.
    pub adapters: Adapters,
    /// Tokens computed together.
    pub rows: Rows,
    /// Sets of activations: one a block, or fewer where some are recomputed in the backward pass.
    pub sets: usize,
    /// Residual streams that are in the computer's memory while a card computes.
    pub away: usize,
    /// Blocks whose weights a card holds decoded as well.
    pub decoded: usize,
    /// Weights are decoded before they are needed.
    pub ahead: bool,
    /// What the factors of large products are rounded to.
    pub arithmetic: Arithmetic,
    /// The table is that of a graphics card, not of the computer.
    pub card: bool,
    /// What that card takes for every run.
    pub beside: card::Beside,
    /// Longest example, tokens.
    pub longest: usize,
    /// Threads that compute.
    pub threads: usize,
    /// Bytes of `tokenizer.json`.
    pub tokenizer_bytes: u64,
    /// Tokens of all examples, held out ones too.
    pub example_tokens: u64,
    /// Bytes of the data's files.
    pub data_bytes: u64,
}

/// Bytes of the frozen weights as they are held, and of what quantising them on loading takes for a moment.
pub fn weights(spec: &ModelSpec, model: &ModelFacts, stored_in_4bit: bool, method: Method, double: bool) -> (u64, u64) {
    if method == Method::Full {
        // Experts stay as they are stored.
        let share = spec.expert_parameters() as f64 / spec.parameters().max(1) as f64;
        return ((model.stored_bytes as f64 * share) as u64, 0);
    }
    if !method.is_quantized() || stored_in_4bit {
        return (model.stored_bytes, 0);
    }
    let elements = |m: &ModuleSpec| (m.in_features * m.out_features) as u64;
    let linear: u64 = (0..spec.layers.len()).flat_map(|i| spec.layer_modules(i)).map(elements).sum();
    // Half a byte a weight and a scale for 64 of them, in f32 or in a byte with a scale of its own for 256.
    let scales = if double { linear / 64 + linear / (64 * 64) } else { linear / 16 };
    // The largest matrix widened to f32, its codes one a byte, and its scales.
    let largest = spec.modules.iter().map(elements).max().unwrap_or(0);
    (model.stored_bytes.saturating_sub(model.linear_bytes) + linear / 2 + scales, largest * 5 + largest / 16)
}

/// Bytes of a file that the system brings to memory around a byte that is read.
const AROUND: u64 = 64 << 10;

/// Bytes of the frozen weights that no step reads: rows of an embedding, which is not the head as well, of tokens that
/// `tokens` tokens cannot be.
pub fn unread(spec: &ModelSpec, model: &ModelFacts, method: Method, targets: &Targets, tokens: u64) -> u64 {
    if method == Method::Full || targets.saved > 0 {
        return 0;
    }
    let row = model.embedding_bytes / spec.vocab_size.max(1) as u64;
    model.embedding_bytes.saturating_sub(tokens.saturating_mul(row + AROUND))
}

/// Tokens that `plan` computes together, of the examples of `facts`.
pub fn rows_of_run(facts: &Facts, plan: &TrainingPlan) -> Rows {
    let [train, held_out] = lengths(facts, plan);
    train.rows(&held_out.whole, facts.weights, plan)
}

/// Lengths of the examples of `facts` as `plan` cuts them, and of those that are held out.
fn lengths(facts: &Facts, plan: &TrainingPlan) -> [Lengths; 2] {
    let cut = |whole: &[usize], firsts: &[usize]| Lengths::cut(whole, firsts, plan);
    [cut(facts.lengths, &facts.data.firsts), cut(&facts.data.held_out, &facts.data.held_out_firsts)]
}

/// The memory that `plan` takes, by what is known before anything is loaded.
pub fn of_run(facts: &Facts, plan: &TrainingPlan) -> MemoryPlan {
    let [train, held_out] = lengths(facts, plan);
    let rows = train.rows(&held_out.whole, facts.weights, plan);
    let all = || train.whole.iter().chain(&held_out.whole).copied();
    let (weight_bytes, quantising_bytes) =
        weights(facts.spec, &facts.model, facts.stored_in_4bit, plan.method, plan.double_quantization);
    let targets = facts.targets.clone().unwrap_or_else(|| Targets::all(facts.spec));
    let trained = targets.trained(facts.spec, plan.method, plan.rank, plan.optimizer);
    let example_tokens = all().map(|n| n as u64).sum();
    let facts_of_run = MemoryFacts {
        weight_bytes,
        unread_bytes: unread(facts.spec, &facts.model, plan.method, &targets, example_tokens),
        quantising_bytes,
        trainable: trained.parameters,
        moment_bytes: trained.moment_bytes,
        keeps_reference: plan.keeps_reference(),
        method: plan.method,
        adapters: adapters(plan, targets),
        rows,
        sets: plan.kept_sets(facts.spec.layers.len()),
        away: plan.offloaded_layers,
        decoded: plan.held_layers(),
        ahead: plan.decodes_ahead(),
        arithmetic: plan.arithmetic,
        card: facts.machine.is_some_and(|machine| machine.card),
        beside: facts.machine.map(|machine| machine.beside).unwrap_or_default(),
        longest: all().max().unwrap_or(0),
        threads: plan.threads,
        tokenizer_bytes: facts.model.tokenizer_bytes,
        example_tokens,
        data_bytes: facts.data.bytes,
    };
    self::plan(facts.spec, &facts_of_run)
}

/// The adapters of a plan on these modules.
pub fn adapters(plan: &TrainingPlan, targets: Targets) -> Adapters {
    match plan.method {
        Method::Full => Adapters::none(),
        method => {
            Adapters { rank: plan.rank, dora: method.is_dora(), dropout: plan.dropout > 0.0, modules: targets.modules }
        }
    }
}

/// What the program itself takes: its code, its libraries, the store, the allocator.
const PROGRAM_BYTES: u64 = 28 << 20;
/// A tokenizer in memory over its file: vocabulary and merges in hash tables, both ways.
const TOKENIZER_FACTOR: f64 = 12.0;
/// Rows, and columns, whose panels are there at a time (`kernels/src/cpu/gemm.rs`).
const PACKED: usize = 2048;
/// Words of the inner dimension that are packed at a time, of numbers and of pairs of bfloat16: as many as a unit takes
/// that multiplies tiles, the deepest there is (`kernels/src/cpu/panels.rs`).
const DEPTH: usize = 512;
const DEPTH_OF_PAIRS: usize = 1024;
/// Columns that one task multiplies, and lanes of the widest panel.
const TASK: usize = 256;
const LANES: usize = 32;
/// Most logits at a time, and most rows of the head at a time (`kernels/src/cpu/loss.rs`).
const LOGITS: usize = 1 << 20;
const LOSS_ROWS: usize = 1024;

const SAVING: &str = "copies while saving";

/// The table for `spec` under `facts`.
pub fn plan(spec: &ModelSpec, facts: &MemoryFacts) -> MemoryPlan {
    let layout = layout(spec, &facts.adapters);
    if facts.card {
        return card::plan(spec, facts, &layout);
    }
    let rows = facts.rows;
    let most = rows.train.max(rows.score);
    let (vectors, tables) = vectors_and_tables(spec, facts);
    // One thread of attention holds a block of queries and keys in panels and their products. All have keys and values in
    // panels in common, and on the way back the gradients of those of some heads (`kernels/src/cpu/attention_bwd.rs`).
    let attention = 64 * (6 * spec.head_dim + 5 * 128);
    let held = 3 * most * spec.n_kv_heads * spec.head_dim;
    let heads = 4 * facts.threads + spec.n_heads / spec.n_kv_heads.max(1);
    let shared = held + heads * 2 * spec.head_dim * most.min(facts.longest);
    // Exponentials of a block; inputs and gradients where they are gathered, and the inputs in panels, all deep.
    let head = LOGITS.min(most.min(LOSS_ROWS) * spec.vocab_size) + 3 * most.min(LOSS_ROWS) * spec.hidden_size;
    let panels = panels(spec, facts.arithmetic, most) + attention * facts.threads + shared + most * spec.n_heads;
    // The small adapter that is written beside every checkpoint, as numbers and as the bytes of its file; with
    // `full` all numbers at the end, and the largest matrix in the type of the checkpoint.
    let copies = match facts.method {
        Method::Full => facts.trainable * 4 + (spec.vocab_size * spec.hidden_size) as u64 * 2,
        _ => facts.trainable * 8,
    };
    let trained = facts.trainable * 4;
    let items = [
        ("program", PROGRAM_BYTES),
        ("tokenizer", (facts.tokenizer_bytes as f64 * TOKENIZER_FACTOR) as u64),
        ("examples", facts.example_tokens * 5 + facts.data_bytes * 3),
        ("weights", facts.weight_bytes.saturating_sub(facts.unread_bytes)),
        ("norms, biases and rotary tables", vectors + tables),
        ("quantising on loading", facts.quantising_bytes),
        ("trained parameters", trained),
        ("gradients", trained),
        ("optimizer moments", facts.moment_bytes),
        ("reference", if facts.keeps_reference { trained } else { 0 }),
        ("activations", layout.activation_bytes(rows, facts.sets, facts.arithmetic)),
        ("residual stream", layout.stream_bytes(rows)),
        ("working space of a block", layout.working_bytes(rows, facts.arithmetic)),
        ("panels of the products", floats(panels)),
        ("logits, a block of rows", floats(head)),
        (SAVING, copies),
    ];
    MemoryPlan::of(&items)
}

/// Words of the panels of the largest product of so many rows. What is rounded, and what is a factor of something else,
/// is packed in its whole depth (`kernels/src/cpu/whole.rs`): fewer columns at a time then, but no fewer rows.
fn panels(spec: &ModelSpec, arithmetic: Arithmetic, rows: usize) -> usize {
    let behind = if spec.placement == NormPlacement::Pre { 0 } else { spec.intermediate_size.max(spec.q_dim()) };
    let (depth, whole) = match arithmetic {
        Arithmetic::F32 => (DEPTH, spec.hidden_size),
        // Where there is no instruction for pairs, panels hold numbers.
        Arithmetic::Bf16 => (DEPTH_OF_PAIRS, spec.hidden_size.max(behind)),
    };
    rows.min(PACKED).next_multiple_of(LANES) * whole.max(depth) + (PACKED * depth).max(TASK * whole)
}

/// Bytes of norms and biases that stay as they are, and of the rotary tables.
fn vectors_and_tables(spec: &ModelSpec, facts: &MemoryFacts) -> (u64, u64) {
    let (q, k) = spec.qk_norm_widths().unwrap_or_default();
    let norms = spec.block_norms().len() * spec.hidden_size + q + k;
    let biases: usize = spec.modules.iter().filter(|m| m.bias).map(|m| m.out_features).sum();
    let vectors = floats((norms + biases) * spec.layers.len() + spec.hidden_size);
    let positions = facts.longest.next_multiple_of(64);
    let tables: usize = spec.ropes.iter().map(|rope| rope.tables() * positions * spec.rotary_dim).sum();
    (if facts.method == Method::Full { 0 } else { vectors }, floats(tables))
}

impl MemoryPlan {
    /// What it is while nothing is saved.
    pub fn without_saving(&self) -> u64 {
        self.items.iter().filter(|item| item.name != SAVING).map(|item| item.bytes).sum()
    }

    /// A table of these parts, without those that are nothing.
    fn of(parts: &[(&str, u64)]) -> Self {
        let items: Vec<MemoryItem> = parts
            .iter()
            .filter(|(_, bytes)| *bytes > 0)
            .map(|&(name, bytes)| MemoryItem { name: name.to_owned(), bytes })
            .collect();
        Self { total_bytes: items.iter().map(|i| i.bytes).sum(), items }
    }
}
