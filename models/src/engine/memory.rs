//! The memory plan of a run, from its model and its plan.

use super::Quantization;
use crate::base::BaseModel;
use crate::checkpoint::Checkpoint;
use crate::fault::device;
use crate::peft_format;
use crate::train::{Tokens, rows};
use peft_kernels::Backend;
use peft_plan::facts::Trained;
use peft_plan::memory::card::{self, Beside};
use peft_plan::{
    AnswerMemory, MemoryFacts, MemoryPlan, Method, ModelFacts, ModelSpec, Result, Rows, TargetModules, Targets,
    TrainingPlan, saved,
};

/// What `plan` trains in a model of this shape.
fn trained(spec: &ModelSpec, plan: &TrainingPlan) -> Result<Trained> {
    let targets = targets(spec, &plan.target_modules, &plan.modules_to_save)?;
    Ok(targets.trained(spec, plan.method, plan.rank, plan.optimizer))
}

/// Parameters that `plan` trains in a model of this shape.
pub fn trainable_parameters(spec: &ModelSpec, plan: &TrainingPlan) -> Result<u64> {
    Ok(trained(spec, plan)?.parameters)
}

/// The linear modules that `wanted` means in a model of this shape, and what `whole` trains beside them.
pub fn targets(spec: &ModelSpec, wanted: &TargetModules, whole: &[String]) -> Result<Targets> {
    let mut found = Targets { modules: vec![false; spec.modules.len()], ..Targets::default() };
    if Targets::is_all(Some(wanted)) {
        found = Targets::all(spec);
    } else {
        for i in 0..spec.layers.len() {
            for module in spec.target_modules(i) {
                if peft_format::matches(wanted, &format!("model.layers.{i}.{}", module.name))? {
                    found.add(spec, module);
                }
            }
        }
    }
    for path in saved::paths(spec, whole)? {
        let size = saved::size(spec, &path);
        *(if path == saved::HEAD { &mut found.saved_head } else { &mut found.saved }) += size;
    }
    Ok(found)
}

/// Sizes of the files of a model.
pub fn model_facts(checkpoint: &Checkpoint, tokenizer_bytes: u64) -> ModelFacts {
    let spec = checkpoint.spec();
    let names = (0..spec.layers.len())
        .flat_map(|i| spec.layer_modules(i).map(move |m| format!("model.layers.{i}.{}.weight", m.name)));
    let linear_bytes = names.filter_map(|name| checkpoint.tensor(&name)).map(|t| t.bytes.len() as u64).sum();
    let embedding = checkpoint.tensor("model.embed_tokens.weight").filter(|_| !spec.tied);
    let embedding_bytes = embedding.map_or(0, |t| t.bytes.len() as u64);
    ModelFacts { stored_bytes: checkpoint.total_bytes(), linear_bytes, embedding_bytes, tokenizer_bytes }
}

/// What a run reads and computes, as far as its memory depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Most tokens computed together.
    pub rows: Rows,
    /// Longest example, tokens.
    pub longest: usize,
    /// Tokens of all examples.
    pub example_tokens: u64,
    /// Bytes of the data's files.
    pub data_bytes: u64,
    /// A graphics card computes: the table is that of its memory.
    pub card: bool,
    /// What that card takes for every run.
    pub beside: Beside,
}

impl Workload {
    /// That of a prepared run.
    pub fn of(plan: &TrainingPlan, train: &[Tokens], validation: &[Tokens], data_bytes: u64) -> Self {
        let all = || train.iter().chain(validation).map(|t| t.ids.len());
        Self {
            rows: rows(plan, train, validation),
            longest: all().max().unwrap_or(0),
            example_tokens: all().map(|n| n as u64).sum(),
            data_bytes,
            card: false,
            beside: Beside::default(),
        }
    }

    /// The same on a graphics card, or on none.
    #[must_use]
    pub fn on_card(self, card: Option<Beside>) -> Self {
        Self { card: card.is_some(), beside: card.unwrap_or_default(), ..self }
    }
}

/// The memory plan of a run.
pub fn memory_plan(base: &BaseModel, plan: &TrainingPlan, work: &Workload) -> Result<MemoryPlan> {
    Ok(peft_plan::memory::plan(base.spec(), &facts(base, plan, work)?))
}

/// The memory that answers of this model take with so many tokens in reach, its weights quantised when they are loaded or
/// not; `eight_bits`: keys and values are kept in those.
pub fn answer_memory(
    base: &BaseModel,
    quantize: Option<Quantization>,
    tokens: usize,
    eight_bits: bool,
) -> AnswerMemory {
    let model = model_facts(base.checkpoint(), base.tokenizer_bytes());
    let (method, double) = quantize.map_or((Method::Lora, false), |quantize| (Method::Qlora, quantize.double));
    let (bytes, _) = peft_plan::memory::weights(base.spec(), &model, base.stored_in_4bit(), method, double);
    AnswerMemory::of(base.spec(), bytes, tokens, eight_bits)
}

/// Set aside what a run holds of a card from its beginning to its end, and what its graphs may take. Nothing is done where
/// none computes.
pub(super) fn set_aside<B: Backend>(be: &B, base: &BaseModel, plan: &TrainingPlan, work: &Workload) -> Result<()> {
    if !work.card {
        return Ok(());
    }
    let facts = facts(base, plan, work)?;
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    be.set_graph_room(Some(bytes(card::graphs(base.spec(), &facts))));
    // One block for what stays; another one will be what a step computes in.
    be.reserve(bytes(card::staying(base.spec(), &facts))).map_err(device)
}

fn facts(base: &BaseModel, plan: &TrainingPlan, work: &Workload) -> Result<MemoryFacts> {
    let spec = base.spec();
    let model = model_facts(base.checkpoint(), base.tokenizer_bytes());
    let (weight_bytes, quantising_bytes) =
        peft_plan::memory::weights(spec, &model, base.stored_in_4bit(), plan.method, plan.double_quantization);
    let targets = targets(spec, &plan.target_modules, &plan.modules_to_save)?;
    let trained = targets.trained(spec, plan.method, plan.rank, plan.optimizer);
    let unread_bytes = peft_plan::memory::unread(spec, &model, plan.method, &targets, work.example_tokens);
    Ok(MemoryFacts {
        weight_bytes,
        unread_bytes,
        quantising_bytes,
        trainable: trained.parameters,
        moment_bytes: trained.moment_bytes,
        keeps_reference: plan.keeps_reference(),
        method: plan.method,
        adapters: peft_plan::memory::adapters(plan, targets),
        rows: work.rows,
        sets: plan.kept_sets(spec.layers.len()),
        away: plan.offloaded_layers,
        decoded: plan.held_layers(),
        ahead: plan.decodes_ahead(),
        arithmetic: plan.arithmetic,
        card: work.card,
        beside: work.beside,
        longest: work.longest,
        threads: plan.threads,
        tokenizer_bytes: model.tokenizer_bytes,
        example_tokens: work.example_tokens,
        data_bytes: work.data_bytes,
    })
}
