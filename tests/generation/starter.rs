//! The starter model, and adapters on it that are not zero.

use peft_models::base::{BaseModel, EmbeddedModel};
use peft_models::engine::{Engine, Session};
use peft_models::generate::{AnswerText, GenerateOptions, Prompt};
use peft_models::peft_format::{AdapterConfig, AdapterFile, Tensors};
use peft_plan::order::SplitMix;
use peft_plan::{ModelSpec, Role, TargetModules, Turn};
use peft_text::{ChatTemplate, RenderOptions};
use std::ops::ControlFlow;

pub(crate) fn base() -> BaseModel {
    let files = EmbeddedModel {
        config: peft_starter::embedded::CONFIG,
        weights: peft_starter::embedded::WEIGHTS,
        tokenizer: peft_starter::embedded::TOKENIZER,
        tokenizer_config: peft_starter::embedded::TOKENIZER_CONFIG,
        generation_config: peft_starter::embedded::GENERATION_CONFIG,
    };
    BaseModel::embedded("starter", files).expect("the starter opens")
}

pub(crate) fn session(base: &BaseModel, adapter: Option<&AdapterFile>) -> Box<dyn Session> {
    Engine::open("cpu", 2).expect("an engine").session_with(base, adapter, None).expect("a session")
}

fn render(base: &BaseModel) -> RenderOptions {
    RenderOptions::new(ChatTemplate::resolve("auto", base.tokenizer()).expect("a template"), "2024-07-26")
}

/// Tokens that end an answer.
pub(crate) fn stop_ids(base: &BaseModel) -> Vec<u32> {
    [base.tokenizer().stop_ids(), render(base).template.stop_ids()].concat()
}

/// A question as the starter is asked.
pub(crate) fn prompt(base: &BaseModel, question: &str, adapter: bool) -> Prompt {
    let turns = [Turn::new(Role::User, question)];
    Prompt { ids: base.tokenizer().render_prompt(&turns, &render(base)).expect("rendered"), adapter }
}

/// The answers as token ids.
pub(crate) fn answers(session: &mut dyn Session, prompts: &[Prompt], options: &GenerateOptions) -> Vec<Vec<u32>> {
    let mut quiet = |_: usize, _: u32| ControlFlow::Continue(());
    let generated = session.generate(prompts, options, &mut quiet).expect("answers");
    generated.answers.into_iter().map(|answer| answer.ids).collect()
}

/// Ids as text.
pub(crate) fn text(base: &BaseModel, ids: &[u32]) -> String {
    let mut text = AnswerText::new(base.tokenizer(), &[]).expect("no stop strings");
    for &id in ids {
        text.push(id).expect("decoded");
    }
    text.finish().expect("decoded");
    text.text().to_owned()
}

/// An adapter that changes answers; another one for each seed.
pub(crate) fn adapter(spec: &ModelSpec, rank: usize, seed: u64, dora: bool) -> AdapterFile {
    let mut random = SplitMix::new(seed);
    let mut some =
        |n: usize, size: f64| -> Vec<f32> { (0..n).map(|_| ((random.unit() - 0.5) * size) as f32).collect() };
    let mut tensors = Tensors::new();
    for layer in 0..spec.layers.len() {
        for m in &spec.modules {
            let name = |suffix: &str| format!("base_model.model.model.layers.{layer}.{}.{suffix}", m.name);
            let a = some(rank * m.in_features, 0.2);
            let b = some(m.out_features * rank, 1.0);
            tensors.insert(name("lora_A.weight"), (vec![rank, m.in_features], a));
            tensors.insert(name("lora_B.weight"), (vec![m.out_features, rank], b));
            if dora {
                let m_values = some(m.out_features, 0.5).iter().map(|x| x + 1.0).collect();
                tensors.insert(name("lora_magnitude_vector"), (vec![m.out_features], m_values));
            }
        }
    }
    let names: Vec<String> =
        spec.modules.iter().map(|m| m.name.rsplit('.').next().unwrap_or(&m.name).to_owned()).collect();
    let mut config = AdapterConfig::new(rank, 2.0 * rank as f64, TargetModules::List(names));
    config.use_dora = dora;
    AdapterFile { config, tensors }
}
