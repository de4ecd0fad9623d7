//! A loaded model that answers and scores.

use super::Quantization;
use crate::adapter::{self, AdapterSource, spec_of_file};
use crate::base::BaseModel;
use crate::decoder::{Activations, Batch, BuildOptions, Decoder, attach, build, build_mapped};
use crate::export::gguf::importance::{Gathering, Importance};
use crate::fault::device;
use crate::generate::{Columns, GenerateOptions, Generated, OnToken, Prompt, generate_with};
use crate::peft_format::AdapterFile;
use crate::train::preference::{PreferenceScores, score_all, summarise};
use crate::train::{self, Tokens, Totals};
use peft_kernels::Backend;
use peft_plan::{PreferencePlan, Result};

/// A model ready to answer and to be scored.
pub trait Session {
    /// Answer prompts together; see [`crate::generate`]. What the last answers left in the cache is used again.
    fn generate(&mut self, prompts: &[Prompt], options: &GenerateOptions, on_token: &mut OnToken) -> Result<Generated>;
    /// Score examples with or without the adapter.
    fn score(&mut self, examples: &[Tokens], adapters: bool) -> Result<Totals>;
    /// Score examples that compare, against the base; `adapters`: the tuned model, or the base itself.
    fn score_preferences(
        &mut self,
        examples: &[Tokens],
        preference: &PreferencePlan,
        adapters: bool,
    ) -> Result<PreferenceScores>;
    /// Answer with another adapter from here on, or with none. Only its tensors move; the base's part of the cache
    /// stays. A fault leaves everything as it was.
    fn switch_adapter(&mut self, adapter: Option<&AdapterFile>) -> Result<()>;
    /// A text as one vector: the mean of its last hidden states, with or without the adapter. At least one token.
    fn pooled(&mut self, tokens: &[u32], adapters: bool) -> Result<Vec<f32>>;
    /// What the model expects after every token, with or without the adapter: `[tokens, vocabulary]`.
    fn logits(&mut self, tokens: &[u32], adapters: bool) -> Result<Vec<f32>>;
    /// How much each column of the weights matters for `rows`, with or without the adapter; `None`: `go_on` had enough.
    fn importance(
        &mut self,
        rows: &[Vec<u32>],
        adapters: bool,
        source: &str,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Importance>>;
    /// Let go of the cache.
    fn forget(&mut self);
    /// Tokens that the cache has room for.
    fn cache_tokens(&self) -> usize;
    /// The same, example by example.
    fn score_each(&mut self, examples: &[Tokens], adapters: bool) -> Result<Vec<Totals>>;
}

struct Loaded<B: Backend> {
    decoder: Decoder<B>,
    acts: Activations<B>,
    columns: Columns<B>,
    /// Scalings by module: an adapter with the same ones differs in its tensors only.
    adapter: Option<AdapterFile>,
}

impl<B: Backend> Session for Loaded<B> {
    fn generate(&mut self, prompts: &[Prompt], options: &GenerateOptions, on_token: &mut OnToken) -> Result<Generated> {
        generate_with(&mut self.decoder, &mut self.acts, &mut self.columns, prompts, options, on_token)
    }

    fn score(&mut self, examples: &[Tokens], adapters: bool) -> Result<Totals> {
        train::score(&mut self.decoder, &mut self.acts, examples, adapters)
    }

    fn score_each(&mut self, examples: &[Tokens], adapters: bool) -> Result<Vec<Totals>> {
        train::score_each(&mut self.decoder, &mut self.acts, examples, adapters)
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

    fn switch_adapter(&mut self, adapter: Option<&AdapterFile>) -> Result<()> {
        match adapter {
            Some(file) if self.is_like(file) => {
                let be = self.decoder.be.clone();
                for p in self.decoder.params_mut() {
                    if let Some((_, values)) = file.tensors.get(&p.name) {
                        be.upload(&mut p.value, values).map_err(device)?;
                    }
                }
                self.decoder.prepare().map_err(device)?;
            }
            Some(file) => {
                check_places(&self.decoder, file)?;
                attach(&mut self.decoder, Some(&AdapterSource::File { spec: spec_of_file(file), file }))?;
                self.adapter = Some(AdapterFile { config: file.config.clone(), tensors: shapes(file) });
            }
            None => {
                attach(&mut self.decoder, None)?;
                self.adapter = None;
            }
        }
        self.columns.forget_adapter();
        Ok(())
    }

    fn pooled(&mut self, tokens: &[u32], adapters: bool) -> Result<Vec<f32>> {
        self.decoder.pooled(&mut self.acts, tokens, adapters).map_err(device)
    }

    fn logits(&mut self, tokens: &[u32], adapters: bool) -> Result<Vec<f32>> {
        let mut batch = Batch::default();
        batch.push(tokens, &vec![false; tokens.len()]);
        self.decoder.logits(&mut self.acts, &batch, adapters).map_err(device)
    }

    fn importance(
        &mut self,
        rows: &[Vec<u32>],
        adapters: bool,
        source: &str,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Importance>> {
        let Self { decoder, acts, .. } = self;
        decoder.watch(true).map_err(device)?;
        let mut gathering = Gathering::default();
        let mut is_whole = true;
        for row in rows {
            is_whole = go_on();
            if !is_whole {
                break;
            }
            let mut batch = Batch::default();
            batch.push(row, &vec![false; row.len()]);
            decoder.score(acts, &batch, adapters).map_err(device)?;
            gathering.add(row.len(), decoder.take_seen().map_err(device)?);
        }
        decoder.watch(false).map_err(device)?;
        is_whole.then(|| gathering.finish(source)).transpose()
    }

    fn forget(&mut self) {
        self.columns.clear();
    }

    fn cache_tokens(&self) -> usize {
        self.columns.slots()
    }
}

impl<B: Backend> Loaded<B> {
    /// The same settings and the same tensors in the same shapes as the adapter that is there.
    fn is_like(&self, file: &AdapterFile) -> bool {
        let Some(own) = &self.adapter else { return false };
        own.config.to_json() == file.config.to_json()
            && own.tensors.len() == file.tensors.len()
            && own.tensors.iter().zip(&file.tensors).all(|(a, b)| a.0 == b.0 && a.1.0 == b.1.0)
    }
}

/// Names and shapes without the numbers.
fn shapes(file: &AdapterFile) -> crate::peft_format::Tensors {
    file.tensors.iter().map(|(name, (shape, _))| (name.clone(), (shape.clone(), Vec::new()))).collect()
}

/// A fault if the file holds tensors of modules that the model does not have.
fn check_places<B: Backend>(decoder: &Decoder<B>, file: &AdapterFile) -> Result<()> {
    let whole = peft_plan::saved::paths(&decoder.spec, &spec_of_file(file).modules_to_save)?;
    let mut paths: std::collections::BTreeSet<&str> =
        decoder.layers.iter().flat_map(|layer| &layer.linears).map(|linear| linear.path.as_str()).collect();
    paths.extend(whole.iter().map(String::as_str));
    let is_lost = |name: &&String| {
        let path = name.strip_prefix("base_model.model.").unwrap_or(name);
        let module = path.rsplit_once(".lora_").map_or(path.trim_end_matches(".weight"), |(module, _)| module);
        !paths.contains(module)
    };
    match file.tensors.keys().find(is_lost) {
        None => Ok(()),
        Some(name) => Err(peft_plan::Fault::new(
            "PS-MODEL-005",
            format!("The adapter's tensor `{name}` has no place in this model; is it an adapter of another model?"),
        )),
    }
}

/// Memory for what a session needs beside its weights, and for the largest of them while it is read.
const ASIDE: u64 = 1 << 30;

/// Where the frozen weights of a session are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lying {
    /// In whatever form the device reads them fastest.
    Rearranged,
    /// In the files they are read from.
    InFiles,
    /// The same, and the memory under a block is given back after each use, and read again at the next.
    BlockByBlock,
}

/// Whether all weights of `base` fit into so many bytes in another form, which takes a little more than their files.
pub(super) fn has_room(base: &BaseModel, room: u64) -> bool {
    let weights = base.checkpoint().total_bytes();
    weights.saturating_add(weights / 16).saturating_add(ASIDE) <= room
}

pub(super) fn open<B: Backend>(
    be: &B,
    base: &BaseModel,
    file: Option<&AdapterFile>,
    quantize: Option<Quantization>,
    lying: Lying,
) -> Result<Box<dyn Session>> {
    let source = file.map(|file| AdapterSource::File { spec: spec_of_file(file), file });
    let options = BuildOptions { full: false, quantize, adapter: source, trainable: false };
    let sparing = lying == Lying::BlockByBlock;
    let build = if lying == Lying::Rearranged { build } else { build_mapped };
    let mut decoder = build(be, base.checkpoint(), &options)?;
    // Beside weights of four bits a dense head is most of what is read for a token.
    if !sparing && decoder.saved.head.is_none() && (quantize.is_some() || base.stored_in_4bit()) {
        let name = if decoder.spec.tied { "model.embed_tokens.weight" } else { "lm_head.weight" };
        decoder.answering_head = be.eight_bit_weight(&base.checkpoint().frozen(name)?).map_err(device)?;
        if decoder.answering_head.is_some() {
            base.checkpoint().release(name);
        }
    }
    if sparing {
        decoder.used = Some(Box::new(base.checkpoint().sparing()));
    }
    if let Some(file) = file {
        adapter::check_all_used(&mut decoder, file)?;
    }
    let acts = decoder.answering_activations().map_err(device)?;
    let adapter = file.map(|file| AdapterFile { config: file.config.clone(), tensors: shapes(file) });
    Ok(Box::new(Loaded { decoder, acts, columns: Columns::default(), adapter }))
}
