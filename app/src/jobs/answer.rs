//! Questions in words, answers in words: the one way from turns to text for chat, quickstart, samples and live runs.

use super::setup::render_options;
use peft_models::base::BaseModel;
use peft_models::engine::Session;
use peft_models::generate::{
    AnswerText, Constraints, GenerateOptions, Generated, Grammar, Halt, Prompt, Sampling, StopReason, StopStrings,
};
use peft_models::peft_format::AdapterFile;
use peft_plan::{Fault, Result, Role, TrainOn, Turn};
use peft_text::RenderOptions;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::cell::OnceCell;
use std::ops::ControlFlow;

/// What an answer must look like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Any JSON object or list.
    Json,
    /// What this JSON schema describes.
    Schema(Value),
}

/// How to answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AskOptions {
    /// How a token is chosen.
    pub sampling: Sampling,
    /// Longest answer, tokens.
    pub max_new_tokens: usize,
    /// Strings that end an answer; not part of it.
    pub stop: Vec<String>,
    /// What an answer must look like.
    pub form: Option<Form>,
}

impl Default for AskOptions {
    fn default() -> Self {
        Self { sampling: Sampling::default(), max_new_tokens: 256, stop: Vec::new(), form: None }
    }
}

impl AskOptions {
    /// PS-CFG-001 for what means nothing. A schema is checked when a model's vocabulary is there.
    pub fn check(&self) -> Result<()> {
        self.sampling.check()?;
        StopStrings::new(&self.stop)?;
        if !(1..=1 << 20).contains(&self.max_new_tokens) {
            return Err(Fault::new(
                "PS-CFG-001",
                format!("`max_new_tokens` is {}; it can be 1 to {}", self.max_new_tokens, 1 << 20),
            ));
        }
        Ok(())
    }
}

/// An answer in words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The text.
    pub text: String,
    /// Tokens of it.
    pub tokens: usize,
    /// Why it ended, as in cli.md.
    pub stop_reason: String,
    /// Tokens of the conversation before it.
    pub prompt_tokens: usize,
    /// Those of them that did not have to be read again.
    pub reused_tokens: usize,
    /// Turns at the beginning of the conversation that the model could not be shown any more.
    pub dropped_turns: usize,
}

/// What came of one pass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replies {
    /// In the order of the prompts.
    pub replies: Vec<Reply>,
    /// Tokens of the first prompt.
    pub prompt_tokens: usize,
    /// Until the first token.
    pub first_token_seconds: f64,
    /// All answers' tokens a second, once the prompts were read.
    pub tokens_per_second: f64,
    /// The step of the adapter, where a live run answered.
    pub step: Option<u64>,
}

/// Hears pieces of text with the number of the conversation; `Break` ends all answers.
pub type OnText<'a> = dyn FnMut(usize, &str) -> ControlFlow<()> + 'a;

/// Whoever answers: a model in this process, or a run in another.
pub trait Answers {
    /// Answer conversations together, each with or without the adapter.
    fn ask(&mut self, conversations: &[(&[Turn], bool)], options: &AskOptions, on_text: &mut OnText)
    -> Result<Replies>;
}

/// How a model reads turns and writes answers.
pub struct Wording<'a> {
    base: &'a BaseModel,
    render: RenderOptions,
    stop_ids: Vec<u32>,
    constraints: OnceCell<Constraints>,
}

/// A conversation as far as the model can read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fitted {
    /// Its tokens and the beginning of the answer.
    pub ids: Vec<u32>,
    /// Turns left out, after the standing instructions.
    pub dropped_turns: usize,
}

impl<'a> Wording<'a> {
    /// The chat layout `template` (the model's own by default); `system` is for conversations without a system turn.
    pub fn new(base: &'a BaseModel, template: Option<&str>, system: Option<&str>) -> Result<Self> {
        let render = render_options(base, template, TrainOn::Assistant, system)?;
        let mut stop_ids = base.tokenizer().stop_ids().to_vec();
        stop_ids.extend_from_slice(render.template.stop_ids());
        stop_ids.sort_unstable();
        stop_ids.dedup();
        Ok(Self { base, render, stop_ids, constraints: OnceCell::new() })
    }

    /// Tokens that end an answer.
    pub fn stop_ids(&self) -> &[u32] {
        &self.stop_ids
    }

    /// The tokens of a conversation that asks for an answer.
    pub fn prompt(&self, turns: &[Turn]) -> Result<Vec<u32>> {
        self.base.tokenizer().render_prompt(turns, &self.render)
    }

    /// As [`Wording::prompt`], without the oldest turns where the model could not read them and answer. Standing
    /// instructions stay. A little more than necessary is left out, so that the next turns can go on from there.
    pub fn fit(&self, turns: &[Turn], max_new_tokens: usize) -> Result<Fitted> {
        if turns.last().is_none_or(|turn| turn.content.trim().is_empty()) {
            return Err(Fault::new("PS-CFG-001", "The question is empty; write something to answer"));
        }
        let limit = self.base.spec().max_positions;
        let reserve = max_new_tokens.clamp(1, (limit / 4).max(1));
        let ids = self.prompt(turns)?;
        if ids.len() + reserve <= limit {
            return Ok(Fitted { ids, dropped_turns: 0 });
        }
        let instructions = turns.iter().take_while(|turn| turn.role == Role::System).count();
        let questions: Vec<usize> = (instructions + 1..turns.len()).filter(|&i| turns[i].role == Role::User).collect();
        let from =
            |first: usize| -> Result<Vec<u32>> { self.prompt(&[&turns[..instructions], &turns[first..]].concat()) };
        // The fewest questions to leave out, by halving: what is left gets shorter with each.
        let (mut low, mut high) = (0, questions.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            if from(questions[middle])?.len() + reserve <= limit - limit / 8 {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        let first = questions.get(low).or(questions.last()).copied().unwrap_or(instructions);
        let ids = from(first)?;
        if ids.len() >= limit {
            return Err(Fault::new(
                "PS-CFG-001",
                format!(
                    "This question alone has {} tokens with its instructions; this model can read {limit}, its answer included",
                    ids.len()
                ),
            )
            .action("Ask something shorter, or take a model with a longer context", None));
        }
        Ok(Fitted { ids, dropped_turns: first - instructions })
    }

    /// How tokens are chosen under `options`.
    pub fn options(&self, options: &AskOptions) -> Result<GenerateOptions> {
        options.check()?;
        Ok(GenerateOptions {
            sampling: options.sampling,
            max_new_tokens: options.max_new_tokens,
            stop_ids: self.stop_ids.clone(),
            grammar: options.form.as_ref().map(|form| self.grammar(form)).transpose()?,
        })
    }

    fn grammar(&self, form: &Form) -> Result<Grammar> {
        if self.constraints.get().is_none() {
            let (tokenizer, size) = (self.base.tokenizer(), self.base.spec().vocab_size);
            let made = Constraints::new(tokenizer, size, &self.stop_ids)?;
            self.constraints.get_or_init(|| made);
        }
        let constraints = self.constraints.get().expect("made just now");
        match form {
            Form::Json => constraints.json(),
            Form::Schema(schema) => constraints.schema(schema),
        }
    }

    /// Empty texts for the answers to `fitted`.
    pub fn texts(&self, fitted: Vec<Fitted>, stop: &[String]) -> Result<Texts<'a>> {
        let texts = fitted.iter().map(|_| AnswerText::new(self.base.tokenizer(), stop)).collect::<Result<Vec<_>>>()?;
        Ok(Texts { answers: texts, fitted, failed: None })
    }
}

/// Answers that become text while their tokens come.
pub struct Texts<'a> {
    answers: Vec<AnswerText<'a>>,
    fitted: Vec<Fitted>,
    failed: Option<Fault>,
}

impl Texts<'_> {
    /// Token by token; what can be shown goes to `on_text`.
    pub fn token(&mut self, i: usize, token: u32, on_text: &mut OnText) -> ControlFlow<Halt> {
        match self.answers[i].push(token) {
            Ok(shown) => {
                if !shown.text.is_empty() && on_text(i, &shown.text).is_break() {
                    return ControlFlow::Break(Halt::All);
                }
                if shown.ended {
                    return ControlFlow::Break(Halt::This(StopReason::StopString));
                }
                ControlFlow::Continue(())
            }
            Err(fault) => {
                self.failed = Some(fault);
                ControlFlow::Break(Halt::All)
            }
        }
    }

    /// All answers are over.
    pub fn finish(mut self, generated: Generated, on_text: &mut OnText) -> Result<Replies> {
        if let Some(fault) = self.failed.take() {
            return Err(fault);
        }
        let Generated { answers, first_token_seconds, decode_seconds } = generated;
        let written: usize = answers.iter().map(|a| a.ids.len()).sum();
        let later = written.saturating_sub(answers.len());
        let mut replies = Vec::with_capacity(answers.len());
        for (i, ((mut text, fitted), answer)) in self.answers.into_iter().zip(self.fitted).zip(answers).enumerate() {
            let rest = text.finish()?;
            if !rest.is_empty() {
                // Whoever had enough hears the end all the same: it was written already.
                let _enough = on_text(i, &rest);
            }
            replies.push(Reply {
                text: text.text().to_owned(),
                tokens: answer.ids.len(),
                stop_reason: text.reason(answer.stop).as_str().to_owned(),
                prompt_tokens: fitted.ids.len(),
                reused_tokens: answer.reused_tokens,
                dropped_turns: fitted.dropped_turns,
            });
        }
        Ok(Replies {
            prompt_tokens: replies.first().map_or(0, |reply| reply.prompt_tokens),
            replies,
            first_token_seconds,
            tokens_per_second: if decode_seconds > 0.0 { later as f64 / decode_seconds } else { 0.0 },
            step: None,
        })
    }
}

/// A model in this process that answers in words.
pub struct Answerer<'a> {
    wording: Wording<'a>,
    session: Box<dyn Session>,
}

impl<'a> Answerer<'a> {
    /// Answer with `session` in the chat layout `template` (the model's own by default).
    pub fn new(
        base: &'a BaseModel,
        session: Box<dyn Session>,
        template: Option<&str>,
        system: Option<&str>,
    ) -> Result<Self> {
        Ok(Self { wording: Wording::new(base, template, system)?, session })
    }

    /// How the model reads and writes.
    pub fn wording(&self) -> &Wording<'a> {
        &self.wording
    }

    /// Answer with another adapter from here on.
    pub fn switch_adapter(&mut self, adapter: Option<&AdapterFile>) -> Result<()> {
        self.session.switch_adapter(adapter)
    }

    /// Answer conversations together, each with or without the adapter. `on_text(conversation, piece)` streams.
    pub fn answer(
        &mut self,
        conversations: &[(&[Turn], bool)],
        sampling: Sampling,
        max_new_tokens: usize,
        on_text: &mut OnText,
    ) -> Result<Replies> {
        self.ask(conversations, &AskOptions { sampling, max_new_tokens, ..AskOptions::default() }, on_text)
    }
}

impl Answerer<'_> {
    fn generate(
        &mut self,
        prompts: &[Prompt],
        fitted: Vec<Fitted>,
        generate: &GenerateOptions,
        stop: &[String],
        on_text: &mut OnText,
    ) -> Result<Replies> {
        let mut texts = self.wording.texts(fitted, stop)?;
        let generated = self.session.generate(prompts, generate, &mut |i, token| texts.token(i, token, on_text))?;
        texts.finish(generated, on_text)
    }

    /// Go on with `text` as it is, outside of any chat layout.
    pub fn continue_text(
        &mut self,
        text: &str,
        adapter: bool,
        options: &AskOptions,
        on_text: &mut OnText,
    ) -> Result<Replies> {
        let generate = self.wording.options(options)?;
        let ids = self.ids_of(text)?;
        let fitted = vec![Fitted { ids: ids.clone(), dropped_turns: 0 }];
        self.generate(&[Prompt { ids, adapter }], fitted, &generate, &options.stop, on_text)
    }

    /// A text as one vector, and its tokens.
    pub fn embed(&mut self, text: &str, adapter: bool) -> Result<(Vec<f32>, usize)> {
        let ids = self.ids_of(text)?;
        Ok((self.session.pooled(&ids, adapter)?, ids.len()))
    }

    /// PS-CFG-001 for more than the model can read.
    fn ids_of(&self, text: &str) -> Result<Vec<u32>> {
        let ids = self.wording.base.tokenizer().encode_text(text, true)?;
        let limit = self.wording.base.spec().max_positions;
        if ids.is_empty() || ids.len() >= limit {
            let detail = format!("The text has {} tokens; this model can read 1 to {}", ids.len(), limit - 1);
            return Err(Fault::new("PS-CFG-001", detail));
        }
        Ok(ids)
    }
}

impl Answers for Answerer<'_> {
    fn ask(
        &mut self,
        conversations: &[(&[Turn], bool)],
        options: &AskOptions,
        on_text: &mut OnText,
    ) -> Result<Replies> {
        let generate = self.wording.options(options)?;
        let mut prompts = Vec::with_capacity(conversations.len());
        let mut fitted = Vec::with_capacity(conversations.len());
        for (turns, adapter) in conversations {
            let one = self.wording.fit(turns, options.max_new_tokens)?;
            prompts.push(Prompt { ids: one.ids.clone(), adapter: *adapter });
            fitted.push(one);
        }
        self.generate(&prompts, fitted, &generate, &options.stop, on_text)
    }
}

/// Tokens that end an answer.
pub fn stop_ids(base: &BaseModel, render: &RenderOptions) -> Vec<u32> {
    let mut stop_ids = base.tokenizer().stop_ids().to_vec();
    stop_ids.extend_from_slice(render.template.stop_ids());
    stop_ids.sort_unstable();
    stop_ids.dedup();
    stop_ids
}
