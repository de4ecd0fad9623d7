//! The reference of preference tuning: the model as it was before the first step, without a second copy of it.
//!
//! With a fresh adapter that is the base: the adapter is switched off. With one that is continued (`init_from`) it is the
//! adapter as it came, as in TRL: its values are kept beside and put back in for the time of scoring.
//!
//! Each example is scored once a process, when it is needed first, together with the examples of its micro-batch in the
//! first epoch. So what it scores does not depend on when it is asked for, and a resumed run finds the same bits.

use super::Tokens;
use super::preference::{PreferenceScores, score_all, score_pairs, summarise};
use crate::checkpoint::names::ADAPTER_PREFIX;
use crate::decoder::{Activations, Decoder};
use crate::fault::device;
use peft_kernels::Backend;
use peft_plan::order::epoch_steps;
use peft_plan::preference::PreferencePlan;
use peft_plan::{OrderParams, Result};

/// Scores of the examples under the model as it was.
#[derive(Debug, Default)]
pub struct Reference {
    /// What was trained, as it was; `None`: without adapters the model is what it was.
    initial: Option<Vec<Vec<f32>>>,
    /// The micro-batches of the first epoch.
    micro: Vec<Vec<usize>>,
    /// Which of them an example is in.
    home: Vec<usize>,
    /// Log-probabilities of both answers.
    known: Vec<Option<[f64; 2]>>,
    validation: Option<Vec<[f64; 2]>>,
}

impl Reference {
    /// Of `decoder` as it is now, before anything was trained or restored. `continued`: its adapter is not a fresh one.
    pub fn new<B: Backend>(decoder: &mut Decoder<B>, continued: bool) -> Result<Self> {
        let be = decoder.be.clone();
        // Adapters, and modules trained whole beside them: both can be switched off.
        let adapters_only = decoder.params_mut().iter().all(|p| p.name.starts_with(ADAPTER_PREFIX));
        if adapters_only && !continued {
            return Ok(Self::default());
        }
        let initial =
            decoder.params_mut().iter().map(|p| be.download(&p.value).map_err(device)).collect::<Result<_>>()?;
        Ok(Self { initial: Some(initial), ..Self::default() })
    }

    /// The scores of the training examples `wanted`.
    pub fn of<B: Backend>(
        &mut self,
        decoder: &mut Decoder<B>,
        acts: &mut Activations<B>,
        examples: &[Tokens],
        order: &OrderParams,
        wanted: &[usize],
    ) -> Result<Vec<[f64; 2]>> {
        if self.known.len() != examples.len() {
            let lengths: Vec<usize> = examples.iter().map(|e| e.ids.len()).collect();
            self.micro = epoch_steps(&lengths, order, 0).into_iter().flatten().collect();
            self.home = vec![0; examples.len()];
            for (at, micro) in self.micro.iter().enumerate() {
                for &i in micro {
                    self.home[i] = at;
                }
            }
            self.known = vec![None; examples.len()];
        }
        let mut missing: Vec<usize> =
            wanted.iter().filter(|&&i| self.known[i].is_none()).map(|&i| self.home[i]).collect();
        missing.sort_unstable();
        missing.dedup();
        if !missing.is_empty() {
            let before = self.put_back(decoder)?;
            for at in missing {
                let micro = &self.micro[at];
                let scored = score_pairs(decoder, acts, examples, micro, false, before.is_some())?;
                for (&i, two) in micro.iter().zip(scored) {
                    self.known[i] = Some([two[0].logp, two[1].logp]);
                }
            }
            bring(decoder, before)?;
        }
        Ok(wanted.iter().map(|&i| self.known[i].unwrap_or_default()).collect())
    }

    /// What held-out examples cost the model as it is now.
    pub fn evaluate<B: Backend>(
        &mut self,
        decoder: &mut Decoder<B>,
        acts: &mut Activations<B>,
        examples: &[Tokens],
        preference: &PreferencePlan,
    ) -> Result<PreferenceScores> {
        let none = vec![[0.0; 2]; if preference.has_reference() { 0 } else { examples.len() }];
        let scored = score_all(decoder, acts, examples, preference, true)?;
        let references = if none.is_empty() { self.of_validation(decoder, acts, examples, preference)? } else { &none };
        Ok(summarise(preference, examples, &scored, references))
    }

    /// The scores of the held-out examples.
    fn of_validation<B: Backend>(
        &mut self,
        decoder: &mut Decoder<B>,
        acts: &mut Activations<B>,
        examples: &[Tokens],
        preference: &PreferencePlan,
    ) -> Result<&[[f64; 2]]> {
        if self.validation.is_none() {
            let before = self.put_back(decoder)?;
            let scored = score_all(decoder, acts, examples, preference, before.is_some())?;
            bring(decoder, before)?;
            self.validation = Some(scored.iter().map(|two| [two[0].logp, two[1].logp]).collect());
        }
        Ok(self.validation.as_deref().unwrap_or_default())
    }

    /// Put the initial values in, if there are any; returns those that were there.
    fn put_back<B: Backend>(&self, decoder: &mut Decoder<B>) -> Result<Option<Vec<Vec<f32>>>> {
        let Some(initial) = &self.initial else { return Ok(None) };
        let be = decoder.be.clone();
        let now = decoder.params_mut().iter().map(|p| be.download(&p.value).map_err(device)).collect::<Result<_>>()?;
        put(decoder, initial)?;
        Ok(Some(now))
    }
}

fn bring<B: Backend>(decoder: &mut Decoder<B>, values: Option<Vec<Vec<f32>>>) -> Result<()> {
    values.map_or(Ok(()), |values| put(decoder, &values))
}

fn put<B: Backend>(decoder: &mut Decoder<B>, values: &[Vec<f32>]) -> Result<()> {
    let be = decoder.be.clone();
    for (p, values) in decoder.params_mut().into_iter().zip(values) {
        be.upload(&mut p.value, values).map_err(device)?;
    }
    decoder.prepare().map_err(device)
}
