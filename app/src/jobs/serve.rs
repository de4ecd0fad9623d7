//! The model behind the local server: its questions in our words, our answers in its.

use super::answer::{Answerer, Answers, AskOptions, Form, Replies};
use peft_models::generate::Sampling;
use peft_plan::{Fault, Result};
use peft_remote::serve::{self, Model, Prompt, Question, Reply};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Longest answer where the question names none.
const USUAL_TOKENS: usize = 2048;

/// A loaded model under its names.
pub struct Served<'a> {
    answerer: Answerer<'a>,
    /// Its names, and whether each means the tuned model; the first is the default.
    names: Vec<(String, bool)>,
    /// Longest context, tokens.
    limit: usize,
}

impl<'a> Served<'a> {
    /// Serve `answerer`, whose model reads `limit` tokens, as `tuned` (where there is an adapter) and as `base`.
    pub fn new(answerer: Answerer<'a>, limit: usize, tuned: Option<&str>, base: Option<&str>) -> Self {
        let mut names: Vec<(String, bool)> = tuned.map(|name| (name.to_owned(), true)).into_iter().collect();
        if let Some(base) = base {
            let is_taken = names.iter().any(|(name, _)| name == base);
            names.push((if is_taken { format!("{base} (base)") } else { base.to_owned() }, false));
        }
        Self { answerer, names, limit }
    }

    fn is_tuned(&self, name: &str) -> bool {
        self.names.iter().any(|(known, is_tuned)| known == name && *is_tuned)
    }

    fn options(&self, question: &Question) -> AskOptions {
        AskOptions {
            sampling: Sampling {
                temperature: question.temperature as f32,
                top_k: question.top_k,
                top_p: question.top_p as f32,
                min_p: question.min_p as f32,
                repetition_penalty: question.repetition_penalty as f32,
                presence_penalty: question.presence_penalty as f32,
                frequency_penalty: question.frequency_penalty as f32,
                seed: question.seed.unwrap_or_else(fresh_seed),
            },
            max_new_tokens: question.max_tokens.unwrap_or(USUAL_TOKENS).min(self.limit),
            stop: question.stop.clone(),
            form: question.form.as_ref().map(|form| match form {
                serve::Form::Json => Form::Json,
                serve::Form::Schema(schema) => Form::Schema(schema.clone()),
            }),
        }
    }
}

impl Model for Served<'_> {
    fn names(&self) -> Vec<String> {
        self.names.iter().map(|(name, _)| name.clone()).collect()
    }

    fn answer(&mut self, question: &Question, on_text: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<Reply> {
        let options = self.options(question);
        let is_tuned = self.is_tuned(&question.model);
        let mut piece = |_: usize, text: &str| on_text(text);
        let replies = match &question.prompt {
            Prompt::Chat(turns) => {
                // Nothing that was sent is left out in silence.
                let tokens = self.answerer.wording().prompt(turns)?.len();
                if tokens >= self.limit {
                    let detail = format!("The conversation has {tokens} tokens; this model can read {}.", self.limit);
                    return Err(Fault::new("PS-CFG-001", detail));
                }
                let room = AskOptions { max_new_tokens: options.max_new_tokens.min(self.limit - tokens), ..options };
                self.answerer.ask(&[(turns, is_tuned)], &room, &mut piece)?
            }
            Prompt::Text(text) => self.answerer.continue_text(text, is_tuned, &options, &mut piece)?,
        };
        first(replies)
    }

    fn embed(&mut self, model: &str, texts: &[String]) -> Result<(Vec<Vec<f32>>, usize)> {
        let is_tuned = self.is_tuned(model);
        let mut vectors = Vec::with_capacity(texts.len());
        let mut tokens = 0;
        for text in texts {
            let (vector, count) = self.answerer.embed(text, is_tuned)?;
            vectors.push(vector);
            tokens += count;
        }
        Ok((vectors, tokens))
    }
}

fn first(replies: Replies) -> Result<Reply> {
    let reply = replies.replies.into_iter().next();
    let reply = reply.ok_or_else(|| Fault::new("PS-APP-004", "The model gave no answer to a question"))?;
    Ok(Reply {
        is_cut: reply.stop_reason == "length",
        text: reply.text,
        prompt_tokens: reply.prompt_tokens,
        tokens: reply.tokens,
    })
}

/// Another one each time: a question without a seed may be answered differently when it is asked again.
fn fresh_seed() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
    now ^ COUNT.fetch_add(1, Ordering::Relaxed).rotate_left(48)
}
