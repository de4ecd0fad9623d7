//! A loaded model that answers and scores.

use super::Quantization;
use crate::adapter::{self, AdapterSource, spec_of_file};
use crate::base::BaseModel;
use crate::decoder::{Activations, BuildOptions, Decoder, build};
use crate::fault::device;
use crate::generate::{GenerateOptions, Generated, Prompt, generate};
use crate::peft_format;
use crate::train::preference::{PreferenceScores, score_all, summarise};
use crate::train::{self, Tokens, Totals};
use peft_kernels::Backend;
use peft_plan::{PreferencePlan, Result};
use std::ops::ControlFlow;
use std::path::Path;

/// A model ready to answer and to be scored.
pub trait Session {
    /// Answer prompts together; see [`generate`].
    fn generate(
        &mut self,
        prompts: &[Prompt],
        options: &GenerateOptions,
        on_token: &mut dyn FnMut(usize, u32) -> ControlFlow<()>,
    ) -> Result<Generated>;
    /// Score examples with or without the adapter.
    fn score(&mut self, examples: &[Tokens], adapters: bool) -> Result<Totals>;
    /// Score examples that compare, against the base; `adapters`: the tuned model, or the base itself.
    fn score_preferences(
        &mut self,
        examples: &[Tokens],
        preference: &PreferencePlan,
        adapters: bool,
    ) -> Result<PreferenceScores>;
}

struct Loaded<B: Backend> {
    decoder: Decoder<B>,
    acts: Activations<B>,
}

impl<B: Backend> Session for Loaded<B> {
    fn generate(
        &mut self,
        prompts: &[Prompt],
        options: &GenerateOptions,
        on_token: &mut dyn FnMut(usize, u32) -> ControlFlow<()>,
    ) -> Result<Generated> {
        generate(&mut self.decoder, &mut self.acts, prompts, options, on_token)
    }

    fn score(&mut self, examples: &[Tokens], adapters: bool) -> Result<Totals> {
        train::score(&mut self.decoder, &mut self.acts, examples, adapters)
    }

    fn score_preferences(
        &mut self,
        examples: &[Tokens],
        preference: &PreferencePlan,
        adapters: bool,
    ) -> Result<PreferenceScores> {
        let base = score_all(&mut self.decoder, &mut self.acts, examples, preference, false)?;
        let references: Vec<[f64; 2]> = base.iter().map(|two| [two[0].logp, two[1].logp]).collect();
        let scored =
            if adapters { score_all(&mut self.decoder, &mut self.acts, examples, preference, true)? } else { base };
        Ok(summarise(preference, examples, &scored, &references))
    }
}

pub(super) fn open<B: Backend>(
    be: &B,
    base: &BaseModel,
    adapter: Option<&Path>,
    quantize: Option<Quantization>,
) -> Result<Box<dyn Session>> {
    let file = adapter.map(peft_format::read_adapter).transpose()?;
    let source = file.as_ref().map(|file| AdapterSource::File { spec: spec_of_file(file), file });
    let options = BuildOptions { full: false, quantize, adapter: source, trainable: false };
    let mut decoder = build(be, base.checkpoint(), &options)?;
    if let Some(file) = &file {
        adapter::check_all_used(&mut decoder, file)?;
    }
    let acts = decoder.activations(true).map_err(device)?;
    Ok(Box::new(Loaded { decoder, acts }))
}
