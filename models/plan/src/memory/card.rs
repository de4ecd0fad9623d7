//! What a run takes of a graphics card's memory, known before it begins: what stays (weights, what is trained), and one
//! block for everything that a step computes.
//!
//! Every buffer counts with the size of the piece that it gets (`kernels/src/cuda/arena.rs`); what the products and the
//! loss need for a moment is counted where they ask for it (`kernels/src/cuda`). The context of the driver is not in it:
//! what a card says is free is asked with the context there.

use super::{Adapters, Column, Layout, MemoryFacts, MemoryPlan, Rows, floats, vectors_and_tables};
use crate::config::Method;
use crate::resolve::Arithmetic;
use crate::spec::{ModelSpec, ModuleSpec, NormPlacement, Part};
use serde::{Deserialize, Serialize};

/// Sizes of pieces are multiples of this.
const PIECE: u64 = 512;
/// Elements of a weight that are decoded at once, and logits that exist at once.
const PANEL: usize = 64 << 20;
const LOGITS: usize = 64 << 20;
/// Factors of products on tensor cores come in so many rows and steps.
const TILE: usize = 128;
const DEPTH: usize = 32;
/// Columns of a head that attention in bfloat16 has kernels for.
const HEADS: [usize; 6] = [16, 64, 80, 96, 128, 256];
/// Results that are short on one side come in smaller tiles.
const SIDE: usize = 64;
/// Blocks that keep a card busy, and the shortest piece of a sum that is worth a block.
const BUSY: usize = 256;
const SHORTEST: usize = 512;
/// Lists of positions, tiles and targets that are kept, in lists of one number a token.
const LISTS: usize = 12;
/// The block that the first small piece asks for, when the card is opened: maps of the optimizer, small lists.
const FIRST_BLOCK: u64 = 2 << 20;

fn piece(bytes: u64) -> u64 {
    bytes.next_multiple_of(PIECE)
}

/// A factor of a product in bfloat16: so many rows (columns) of so many steps.
fn packed(rows: usize, steps: usize) -> u64 {
    piece((rows.next_multiple_of(TILE) * steps.next_multiple_of(DEPTH)) as u64 * 2)
}

/// The same with the steps as its rows.
fn packed_by_step(steps: usize, cols: usize) -> u64 {
    piece((steps.next_multiple_of(DEPTH) * cols.next_multiple_of(TILE)) as u64 * 2)
}

/// What of a run decides the memory of its steps.
#[derive(Clone, Copy, Debug)]
pub struct Steps<'a> {
    /// Its adapters.
    pub adapters: &'a Adapters,
    /// Tokens computed together.
    pub rows: Rows,
    /// Sets of activations.
    pub sets: usize,
    /// Residual streams in the computer's memory.
    pub away: usize,
    /// Weights are decoded before they are needed.
    pub ahead: bool,
    /// What the factors of large products are rounded to.
    pub arithmetic: Arithmetic,
    /// Every weight is trained, and dense.
    pub full: bool,
}

impl<'a> Steps<'a> {
    fn of(facts: &'a MemoryFacts) -> Self {
        let &MemoryFacts { ref adapters, rows, sets, away, ahead, arithmetic, method, .. } = facts;
        Self { adapters, rows, sets, away, ahead, arithmetic, full: method == Method::Full }
    }
}

/// What a card takes for every run, whatever the run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beside {
    /// What a library of its maker has to work in; 0 where none multiplies.
    pub library_bytes: u64,
    /// What its driver is taken to keep for every kernel of a graph of launches that come again; 0 where there are none.
    #[serde(default)]
    pub graph_kernel_bytes: u64,
}

/// The table of a card.
pub(super) fn plan(spec: &ModelSpec, facts: &MemoryFacts, layout: &Layout) -> MemoryPlan {
    let mut parts = vec![("small tables", FIRST_BLOCK), ("working space of cuBLASLt", facts.beside.library_bytes)];
    parts.extend(staying_parts(spec, facts));
    parts.push(("decoded weights", decoded(spec, facts.decoded)));
    parts.push((GRAPHS, graphs(spec, facts)));
    parts.extend(step_parts(spec, &Steps::of(facts), layout));
    MemoryPlan::of(&parts)
}

/// What the share of graphs is called. What a driver keeps for a kernel of one is an assumption, not measured on a card
/// (`kernels/src/cuda/graph_room.rs`): the share is a bound, beyond which a run makes no graphs and launches kernels one
/// by one.
pub const GRAPHS: &str = "graphs of launches (size assumed)";
/// The same in a sentence.
pub const ASSUMED: &str = "What a driver keeps for a kernel of a graph is assumed, not measured on a card; \
                           where it keeps more, a run makes fewer graphs";
/// The most that is set aside for them.
const MOST_GRAPHS: u64 = 256 << 20;
/// Drivers take memory in pieces of this size, of which one is begun.
const BEGUN: u64 = 2 << 20;
/// Kernels of a module and of a block: forward, and back with what is trained. Counted on a card that computes nothing
/// (`tests/planning/card.rs`), a little high: an adapter may be long enough to be packed, and a sum to be cut.
const FORWARD: (u64, u64) = (6, 10);
const BACK: (u64, u64) = (14, 16);
/// More of them for a module with a magnitude, or with dropout on its input.
const DORA: u64 = 24;
const DROPOUT: u64 = 12;
/// Kernels of a pass that belong to no block, and of each piece of the head.
const PASS: u64 = 32;
const HEAD: u64 = 12;

/// Bytes that are set aside for graphs of the launches of a step, which come again with the next; 0 where the driver has
/// no graphs.
pub fn graphs(spec: &ModelSpec, facts: &MemoryFacts) -> u64 {
    match facts.beside.graph_kernel_bytes {
        0 => 0,
        bytes => (launches(spec, facts).saturating_mul(bytes) + BEGUN).min(MOST_GRAPHS),
    }
}

/// Kernels that a micro-batch forward and back launches, the update behind it, and a pass over held-out rows.
pub fn launches(spec: &ModelSpec, facts: &MemoryFacts) -> u64 {
    let layers = spec.layers.len();
    let modules: u64 = (0..layers).map(|i| spec.layer_modules(i).count() as u64).sum();
    let each = |(module, block): (u64, u64)| module * modules + block * layers as u64;
    let more = if facts.adapters.dora { DORA * modules } else { 0 }
        + if facts.adapters.dropout { DROPOUT * modules } else { 0 };
    // Blocks without a set of their own are computed twice.
    let twice = super::sharing(layers, facts.sets).saturating_sub(1) as u64;
    let forward = each(FORWARD) + more / 2;
    let again = forward * twice / (layers as u64).max(1);
    let scored = if facts.rows.score > 0 { forward } else { 0 };
    let panels = (spec.vocab_size * spec.hidden_size).div_ceil(PANEL) as u64;
    let most = (LOGITS / spec.vocab_size.max(1)).max(1);
    let pieces = (facts.rows.train.div_ceil(most) + facts.rows.score.div_ceil(most)) as u64;
    forward + again + scored + each(BACK) + more / 2 + 2 * PASS + pieces * (HEAD + 6 * panels)
}

/// Bytes of what stays from the first step to the last, besides the first block.
pub fn staying(spec: &ModelSpec, facts: &MemoryFacts) -> u64 {
    staying_parts(spec, facts).iter().map(|(_, bytes)| bytes).sum()
}

/// Bytes of everything that a step computes.
pub fn of_step(spec: &ModelSpec, steps: &Steps) -> u64 {
    step_parts(spec, steps, &super::layout(spec, steps.adapters)).iter().map(|(_, bytes)| bytes).sum()
}

fn staying_parts(spec: &ModelSpec, facts: &MemoryFacts) -> Vec<(&'static str, u64)> {
    let (vectors, tables) = vectors_and_tables(spec, facts);
    let trained = facts.trainable * 4;
    let modules = (spec.layers.len() * spec.modules.len()) as u64;
    // A table of 16 values and a map of 256 for the codes of each matrix; ends of pieces.
    let of_codes = if facts.method.is_quantized() { modules * (PIECE + 1024) } else { 0 };
    vec![
        ("weights", facts.weight_bytes),
        ("norms, biases and rotary tables", vectors + tables),
        ("trained parameters", trained),
        ("gradients", trained),
        ("optimizer moments", facts.moment_bytes),
        ("reference", if facts.keeps_reference { trained } else { 0 }),
        ("code tables, ends of pieces", of_codes + modules * PIECE),
    ]
}

fn step_parts(spec: &ModelSpec, steps: &Steps, layout: &Layout) -> Vec<(&'static str, u64)> {
    let &Steps { rows, sets, away, arithmetic, .. } = steps;
    let is_narrow = arithmetic == Arithmetic::Bf16;
    let buffer = |width: usize, rows: usize| piece(floats(width * rows));
    let column = move |c: &Column, rows: usize| {
        let bytes = if is_narrow && c.is_activation { 2 } else { 4 };
        piece((c.width * rows) as u64 * bytes)
    };
    let kept = |slot: usize| layout.kept(slot, sets).map(move |c| column(c, layout.rows(slot, c, rows, sets)));
    let most = rows.train.max(rows.score);
    let others = (layout.sparse_blocks.len() - away.min(super::most_away(layout.sparse_blocks.len())) + 1)
        .saturating_sub(2) as u64;
    let shared = layout.lent.iter().chain(&layout.pass);
    vec![
        ("activations", (0..sets).flat_map(kept).sum()),
        ("residual stream", 2 * buffer(layout.stream, most) + others * buffer(layout.stream, rows.train)),
        ("working space of a block", shared.map(|c| column(c, rows.of(c))).sum()),
        ("weights decoded ahead", if steps.ahead { decoding(spec) } else { 0 }),
        ("factors of a product, logits", momentary(spec, steps, most)),
    ]
}

/// Bytes of the weights of the lowest `layers` blocks, decoded for products on tensor cores. Nothing where those are not
/// used, or where no weight is stored in 4 bits.
pub fn decoded(spec: &ModelSpec, layers: usize) -> u64 {
    let of = |m: &ModuleSpec| {
        piece((m.out_features.next_multiple_of(TILE) * m.in_features.next_multiple_of(TILE)) as u64 * 2)
    };
    (0..layers.min(spec.layers.len())).flat_map(|i| spec.layer_modules(i)).map(of).sum()
}

/// Rows of the steps for which weights are decoded ahead: with fewer, a decoding takes longer than the product beside it,
/// and every launch counts.
pub const AHEAD_ROWS: usize = 1024;

/// Bytes of the places that weights are decoded into ahead: one for the product that runs, one for the next.
pub fn decoding(spec: &ModelSpec) -> u64 {
    2 * spec.modules.iter().map(panel_bf16).max().unwrap_or(0)
}

/// Rows of a weight that are decoded for a product on tensor cores at once.
fn panel_bf16(m: &ModuleSpec) -> u64 {
    let stride = m.in_features.next_multiple_of(TILE);
    let rows = m.out_features.min((PANEL / stride.max(1) / TILE * TILE).max(TILE));
    piece((rows.next_multiple_of(TILE) * stride) as u64 * 2)
}

/// Bytes of a residual stream in the computer's memory.
pub fn slab(spec: &ModelSpec, rows: Rows) -> u64 {
    piece(floats(spec.hidden_size * rows.train))
}

/// The most that one operation needs for itself, and the lists that several need.
fn momentary(spec: &ModelSpec, steps: &Steps, rows: usize) -> u64 {
    let (is_narrow, full) = (steps.arithmetic == Arithmetic::Bf16, steps.full);
    let mut most = 0;
    for m in &spec.modules {
        let packed = if is_narrow { packs(spec, steps, m) } else { [false; 2] };
        let added = if is_narrow && !full { added(steps.adapters, rows, m) } else { 0 };
        // What is decoded ahead has its own place.
        let elsewhere = if steps.ahead { panel_bf16(m) } else { 0 };
        let factors = frozen(rows, [m.out_features, m.in_features], packed, is_narrow, full);
        most = most.max(factors.saturating_sub(elsewhere) + added);
        most = most.max(of_adapter(steps.adapters, rows, m.out_features, m.in_features, is_narrow));
        if steps.adapters.dora {
            most = most.max(panel(m.out_features, m.in_features));
        }
    }
    let logits = (LOGITS / spec.vocab_size.max(1)).clamp(1, rows.max(1));
    // The rows that the loss counts, and their gradients, lie together.
    let gathered = 2 * piece(floats(logits * spec.hidden_size));
    let head = piece(floats(logits * spec.vocab_size))
        + gathered
        + frozen(logits, [spec.vocab_size, spec.hidden_size], [true; 2], is_narrow, full);
    // A number a head, and where there is no kernel for bfloat16 everything in f32: queries, keys and values and their
    // gradient, and the gradient of what attention gave.
    let copies = if is_narrow && !HEADS.contains(&spec.head_dim) {
        2 * piece(floats(rows * (spec.q_dim() + 2 * spec.kv_dim()))) + piece(floats(rows * spec.q_dim()))
    } else {
        0
    };
    let attention = copies + piece(floats(rows * spec.n_heads));
    most.max(head).max(attention) + LISTS as u64 * piece(floats(rows))
}

/// What an adapter adds to a product, packed: its rows, and the longer of its matrices.
fn added(adapters: &Adapters, rows: usize, m: &ModuleSpec) -> u64 {
    match adapters.rank {
        0 => 0,
        rank => packed(rows, rank) + packed(m.out_features, rank).max(packed_by_step(rank, m.in_features)),
    }
}

/// Whether a product with this weight has to pack its left factor, forward and back: what is in f32, and what is no whole
/// number of steps.
fn packs(spec: &ModelSpec, steps: &Steps, m: &ModuleSpec) -> [bool; 2] {
    let is_first = m.parts.iter().any(|part| part.is_qkv() || matches!(part, Part::Gate | Part::Up));
    let reads_stream = is_first && spec.placement == NormPlacement::Post;
    // Behind these two is the residual stream, whose gradient is in f32.
    let is_copied = spec.placement != NormPlacement::Pre || spec.residual_scale.is_some() || steps.adapters.dora;
    let sends_stream = !is_first && !is_copied;
    let is_even = |steps: usize| steps.is_multiple_of(DEPTH);
    [reads_stream || !is_even(m.in_features), sends_stream || !is_even(m.out_features)]
}

/// A weight decoded for a product, in f32.
fn panel(out: usize, inp: usize) -> u64 {
    piece(floats(out.min((PANEL / inp.max(1)).max(1)) * inp))
}

/// The pieces of a long sum whose result has few tiles; 0 where it is one piece.
fn pieces([m, n, k]: [usize; 3], tile: usize) -> u64 {
    let parts = (BUSY / (m.div_ceil(tile) * n.div_ceil(tile)).max(1)).min(k / SHORTEST);
    if parts > 1 { piece(floats(parts * m * n)) } else { 0 }
}

/// A product of that many rows, columns and steps on tensor cores.
fn pieces_of(shape: [usize; 3]) -> u64 {
    pieces(shape, if shape[0].min(shape[1]) > SIDE { TILE } else { SIDE })
}

/// A product with a weight of `out` rows and `inp` columns, in either direction.
fn frozen(rows: usize, [out, inp]: [usize; 2], packs: [bool; 2], is_narrow: bool, full: bool) -> u64 {
    if !is_narrow {
        return if full { 0 } else { panel(out, inp) };
    }
    let stride = inp.next_multiple_of(TILE);
    let together = if full { out } else { out.min((PANEL / stride / TILE * TILE).max(TILE)) };
    let left = |is_packed: bool, steps: usize| if is_packed { packed(rows, steps) } else { 0 };
    let forward = left(packs[0], inp) + pieces_of([rows, together, inp]);
    let back = left(packs[1], together) + pieces_of([rows, inp, together]);
    if full {
        // The gradient of the weight is a product, too.
        let of_weight = packed(out, rows) + packed_by_step(rows, inp) + pieces_of([out, inp, rows]);
        return (forward + packed(out, inp)).max(back + packed_by_step(out, inp)).max(of_weight);
    }
    forward.max(back) + piece((together.next_multiple_of(TILE) * stride) as u64 * 2)
}

/// The products of an adapter on such a weight.
fn of_adapter(adapters: &Adapters, rows: usize, out: usize, inp: usize, is_narrow: bool) -> u64 {
    let rank = adapters.rank;
    if !is_narrow || rank == 0 {
        return 0;
    }
    let shapes = [
        [rows, rank, inp],
        [rows, out, rank],
        [rows, rank, out],
        [rows, inp, rank],
        [rank, inp, rows],
        [out, rank, rows],
    ];
    let most = |each: &dyn Fn([usize; 3]) -> u64| shapes.iter().map(|&shape| each(shape)).max().unwrap_or(0);
    if rows.min(rank) <= SIDE {
        // Factors are read as they lie.
        return most(&|shape| pieces(shape, SIDE));
    }
    most(&|[m, n, k]| packed(m, k) + packed(n, k).max(packed_by_step(k, n)) + pieces_of([m, n, k]))
}

/// The rows of a step whose micro-batches are cut into so many parts; none is shorter than the longest example.
pub fn cut(rows: Rows, parts: usize, longest: usize) -> Rows {
    Rows { train: rows.train.div_ceil(parts.max(1)).max(longest.min(rows.train)), score: rows.score }
}
