//! What an export starts from: a run, or a model with or without an adapter.

use super::license::license_of;
use super::weighing;
use crate::cli::context::Context;
use crate::cli::export::{Source, source_of_run};
use crate::cli::output;
use crate::jobs::model::hub_name;
use crate::jobs::samples;
use crate::jobs::setup::{prepare, render_options};
use crate::jobs::{open_model, run::find};
use peft_models::base::BaseModel;
use peft_models::engine::Quantization;
use peft_models::export::gguf::importance::Importance;
use peft_models::peft_format::{AdapterFile, read_adapter};
use peft_models::train::SamplePrompt;
use peft_plan::{Result, RunConfig, TrainOn, TrainingPlan};
use peft_storage::Run;
use peft_text::RenderOptions;
use std::path::Path;

/// Held-out rows that a file is compared on.
const ROWS: usize = 8;

/// Everything that an export needs to know.
pub struct Origin {
    /// The base.
    pub base: BaseModel,
    /// What is merged into it.
    pub adapter: Option<AdapterFile>,
    /// How the base was loaded while the adapter was trained.
    pub quantize: Option<Quantization>,
    /// How conversations become tokens; `None` for a model without a layout.
    pub render: Option<RenderOptions>,
    /// Rows that were not trained on.
    pub rows: Vec<Vec<u32>>,
    /// A question from its data.
    pub sample: Option<SamplePrompt>,
    /// Rows that were trained on, some of them.
    pub training: Vec<Vec<u32>>,
    /// How much the columns of the weights matter, where that was asked for.
    pub importance: Option<Importance>,
    /// What the exported model is called.
    pub name: String,
    /// Where the base comes from, where that is known.
    pub base_url: Option<String>,
    /// The licence of the base, as its card names it.
    pub license: Option<String>,
    /// What was asked of the run.
    pub config: Option<RunConfig>,
    /// What became of that.
    pub plan: Option<TrainingPlan>,
    /// The run.
    pub run: Option<Run>,
    /// The program that is written for lays conversations out itself, and leaves the begin token out (Ollama).
    pub layout_prints_no_begin: bool,
}

impl Origin {
    /// A run by id or name.
    pub fn of_run(context: &Context, id: &str, name: Option<&str>) -> Result<Self> {
        let run = find(&context.store()?, id)?;
        let source = source_of_run(&run)?;
        let config = RunConfig::from_value(run.config.clone())?;
        let plan: Option<TrainingPlan> = serde_json::from_value(run.plan.clone()).ok();
        let mut origin =
            Self::open(&source, config.dataset.chat_template.as_deref(), config.dataset.system_prompt.as_deref())?;
        origin.name = name.map_or_else(|| file_name(&format!("{}-{}", origin.name, run.name)), file_name);
        match prepare(&config, context, plan.clone()) {
            Ok(setup) => {
                let first = || samples::trial(&config, &origin.base, setup.first_question.as_ref()?);
                origin.sample = setup.samples.into_iter().next().or_else(first);
                origin.rows = setup.validation.into_iter().take(ROWS).map(|tokens| tokens.ids).collect();
                origin.training = weighing::chosen(&origin, setup.train.into_iter().map(|tokens| tokens.ids).collect());
            }
            Err(fault) => output::note(&format!("The files are not compared on held-out rows: {}", fault.detail)),
        }
        (origin.config, origin.plan, origin.run) = (Some(config), plan, Some(run));
        Ok(origin)
    }

    /// A model, perhaps with an adapter.
    pub fn of_model(model: &str, adapter: Option<&Path>, name: Option<&str>) -> Result<Self> {
        let source = Source { model: model.to_owned(), adapter: adapter.map(Path::to_owned), quantize: None };
        let mut origin = Self::open(&source, None, None)?;
        if adapter.is_some() {
            origin.name.push_str("-tuned");
        }
        if let Some(name) = name {
            origin.name = file_name(name);
        }
        Ok(origin)
    }

    fn open(source: &Source, template: Option<&str>, system: Option<&str>) -> Result<Self> {
        let base = open_model(&source.model)?;
        let adapter = source.adapter.as_deref().map(read_adapter).transpose()?;
        let render = match render_options(&base, template, TrainOn::Assistant, system) {
            Ok(render) => Some(render),
            // A base model without a layout is exported without one.
            Err(fault) if fault.code == "PS-TMPL-001" && template.is_none() => None,
            Err(fault) => return Err(fault),
        };
        let base_url = match hub_name(&source.model) {
            Ok(Some((id, _))) if !Path::new(&source.model).exists() => Some(format!("https://huggingface.co/{id}")),
            _ => None,
        };
        let last = source.model.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or("model");
        let last = last.split('@').next().unwrap_or(last);
        Ok(Self {
            name: file_name(last.strip_suffix(".gguf").unwrap_or(last)),
            license: license_of(&base),
            base,
            adapter,
            quantize: source.quantize,
            render,
            rows: Vec::new(),
            sample: None,
            training: Vec::new(),
            importance: None,
            base_url,
            config: None,
            plan: None,
            run: None,
            layout_prints_no_begin: false,
        })
    }
}

/// A name that every system takes for a file.
fn file_name(text: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    let name: String = text.chars().take(80).map(kept).collect();
    let name = name.trim_matches(['-', '.']);
    if name.is_empty() { "model".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn names_of_files_are_plain() {
        assert_eq!(file_name("Llama 3.2 1B/my:run"), "Llama-3.2-1B-my-run");
        assert_eq!(file_name("../.."), "model");
    }
}
