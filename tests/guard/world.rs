//! Models and rows to plant faults into: the starter with its own small world, tiny random models with an invented
//! cipher.

use peft_data::Split;
use peft_models::base::{BaseModel, EmbeddedModel};
use peft_models::prepare::render;
use peft_models::train::Tokens;
use peft_plan::order::SplitMix;
use peft_plan::{Example, Facts, Role, Row, RunConfig, TrainOn, TrainingPlan, Turn, resolve};
use peft_text::{ChatTemplate, RenderOptions};
use serde_json::Value;
use std::collections::HashSet;
use std::path::Path;

/// What is trained on what, before anything is planted.
pub(crate) struct World {
    pub(crate) base: BaseModel,
    pub(crate) train: Vec<Tokens>,
    pub(crate) validation: Vec<Tokens>,
    pub(crate) settings: Vec<String>,
}

/// Where rows come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Data {
    /// The sample dataset of the starter: an invented cafe.
    Cafe,
    /// Conversations of the starter's small world that it has not seen.
    Corpus,
    /// A cipher over token ids: each answer is the question, shifted.
    Cipher,
    /// Numbers in words, as every tokenizer can spell them.
    Say,
}

pub(crate) fn starter() -> BaseModel {
    use peft_starter::embedded;
    let files = EmbeddedModel {
        config: embedded::CONFIG,
        weights: embedded::WEIGHTS,
        tokenizer: embedded::TOKENIZER,
        tokenizer_config: embedded::TOKENIZER_CONFIG,
        generation_config: embedded::GENERATION_CONFIG,
    };
    BaseModel::embedded("starter", files).expect("the starter opens")
}

/// The starter, or the tiny random model of a family.
pub(crate) fn base(model: &str) -> BaseModel {
    if model == "starter" {
        return starter();
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/parity").join(model).join("model");
    BaseModel::open(model, &folder).expect("a fixture opens")
}

fn row(line: usize, ask: &str, answer: &str) -> Row {
    let turns = vec![Turn::new(Role::User, ask), Turn::new(Role::Assistant, answer)];
    Row { file: 0, line, example: Example::Messages(turns) }
}

/// Training and held-out rows, `count` together as far as there are so many; those that ask the same are on one side.
fn rows(base: &BaseModel, data: Data, count: usize, seed: u64) -> (Vec<Tokens>, Vec<Tokens>) {
    let mut random = SplitMix::new(seed);
    let texts: Vec<Row> = match data {
        Data::Cafe => {
            let all: Vec<Value> = peft_starter::sample_rows_jsonl()
                .lines()
                .map(|line| serde_json::from_str(line).expect("the sample is JSON"))
                .collect();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let rows = all.iter().take(count).enumerate();
            rows.map(|(n, v)| row(n + 1, &text(&v["instruction"]), &text(&v["output"]))).collect()
        }
        Data::Corpus => peft_starter::corpus(9000 + seed, count)
            .enumerate()
            .map(|(n, d)| row(n + 1, &d.turns[0].0, &d.turns[0].1))
            .collect(),
        Data::Say => (0..count)
            .map(|n| {
                let (a, b) = (random.below(1000), random.below(1000));
                row(n + 1, &format!("Say {a} and {b}"), &format!("It is {b} and then {a}"))
            })
            .collect(),
        Data::Cipher => return cipher(base, count, &mut random),
    };
    let template = ["auto", "chatml"].iter().find_map(|name| ChatTemplate::resolve(name, base.tokenizer()).ok());
    let mut options = RenderOptions::new(template.expect("a layout"), "2024-07-26");
    options.train_on = TrainOn::Assistant;
    let Split { train, validation } = peft_data::split(&texts, 0.1, seed);
    let rendered = |indices: &[usize]| render(base, &texts, indices, &options).expect("rendered").cut(256).examples;
    (rendered(&train), rendered(&validation))
}

/// Questions of a few tokens, each answered by the same tokens in another alphabet.
fn cipher(base: &BaseModel, count: usize, random: &mut SplitMix) -> (Vec<Tokens>, Vec<Tokens>) {
    let mut asked = HashSet::new();
    let mut all = Vec::new();
    while all.len() < count {
        let length = 4 + random.below(6);
        let ask: Vec<u32> = (0..length).map(|_| 20 + random.below(60) as u32).collect();
        if !asked.insert(ask.clone()) {
            continue;
        }
        let answer: Vec<u32> = ask.iter().map(|t| t + 80).collect();
        let ids = [&[5], &ask[..], &[6], &answer, &[7]].concat();
        assert!(ids.iter().all(|&id| (id as usize) < base.spec().vocab_size));
        let trained = (0..ids.len()).map(|i| i > length + 1).collect();
        all.push(Tokens { ids, trained, row: all.len() as u32, pair: None });
    }
    let validation = all.split_off(count - count / 10);
    (all, validation)
}

/// The plan that these settings give.
pub(crate) fn plan(base: &BaseModel, train: &[Tokens], settings: &[String]) -> TrainingPlan {
    let mut config = RunConfig::default();
    for setting in ["model.id=m", "dataset.path=d"].iter().map(ToString::to_string).chain(settings.iter().cloned()) {
        config.set(&setting).expect("a good setting");
    }
    let lengths: Vec<usize> = train.iter().map(|e| e.ids.len()).collect();
    let facts = Facts::bare(base.spec(), &lengths, 1);
    resolve::resolve(&config, &facts).expect("a good plan")
}

/// A world without faults.
pub(crate) fn world(model: &str, data: Data, count: usize, seed: u64, settings: &[&str]) -> World {
    let base = base(model);
    let (train, validation) = rows(&base, data, count, seed);
    let usual = [
        "adapter.rank=8",
        "training.epochs=3",
        "training.micro_batch_size=8",
        "training.gradient_accumulation=1",
        "checkpoint.every_seconds=1e6",
    ];
    let mut settings: Vec<String> = usual.iter().chain(settings).map(ToString::to_string).collect();
    settings.push(format!("training.seed={seed}"));
    World { base, train, validation, settings }
}
