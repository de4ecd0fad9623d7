//! Talking to models: what is asked of the thread that answers, what it says, and what the page remembers.

pub mod answerer;
mod beside;
mod turns;

use super::problem::Problem;
use super::target::Target;
use crate::jobs::answer::AskOptions;
use peft_models::generate::Sampling;
use peft_storage::{Choice, Side};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;

/// What the thread is asked.
#[derive(Debug)]
pub enum ChatAsk {
    /// Talk to something else from here on, perhaps going on from an earlier conversation.
    Open(Target, Option<i64>),
    /// A question.
    Say {
        /// What is asked.
        question: String,
        /// How it is answered.
        options: Box<AskOptions>,
        /// Standing instructions.
        system: Option<String>,
        /// The base answers too.
        compare: bool,
    },
    /// Another checkpoint.
    Checkpoint(String),
    /// Forget what was said.
    Clear,
    /// Forget what was said; from here on this one answers, too, or the first alone.
    Beside(Option<Target>),
}

/// What the thread says.
#[derive(Debug)]
pub enum ChatReply {
    /// It is being loaded.
    Loading(Target),
    /// It can be talked to.
    Ready(Ready),
    /// A piece of an answer.
    Text(Side, String),
    /// The answer is whole, and kept as this question of this conversation.
    Whole(Whole),
    /// The question was not answered.
    Unanswered(Problem),
    /// It cannot be talked to.
    Unavailable(Problem),
    /// Who answers beside the first, in words.
    Beside(Option<String>),
}

/// Who can be talked to.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Who.
    pub target: Target,
    /// In words.
    pub name: String,
    /// There is something besides the base.
    pub is_tuned: bool,
    /// The base can be talked to as well.
    pub has_base: bool,
    /// A run that trains answers itself.
    pub is_live: bool,
    /// Steps with a kept adapter.
    pub checkpoints: Vec<u64>,
    /// Standing instructions of its training.
    pub system: Option<String>,
    /// Questions to begin with.
    pub examples: Vec<String>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Whole {
    /// Each side's text, tokens and why it ended.
    pub answers: Vec<(Side, String, usize, String)>,
    /// Tokens a second.
    pub speed: f64,
    /// Those of each, where two models answered.
    pub speeds: Vec<(Side, f64)>,
    /// Seconds to the first token.
    pub first: f64,
    /// The step of the live run that answered.
    pub step: Option<u64>,
    /// The conversation and the number of the question, where it is kept.
    pub kept: Option<(i64, u64)>,
}

/// One side's answer on the page.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// What was said so far.
    pub text: String,
    /// Its size and end, once it is whole.
    pub note: String,
}

/// A question and its answers on the page.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// What was asked.
    pub question: String,
    /// The base's answer.
    pub base: Option<Shown>,
    /// The tuned model's.
    pub tuned: Option<Shown>,
    /// Where two models answered: who gave the tuned model's, and who the base's.
    pub names: Option<[String; 2]>,
    /// How fast.
    pub note: String,
    /// The conversation and the number of the question, where it is kept.
    pub kept: Option<(i64, u64)>,
    /// Which answer was better.
    pub vote: Option<Choice>,
}

/// How answers are made.
#[derive(Clone, Debug)]
pub struct Drawer {
    /// It is open.
    pub is_open: bool,
    /// Token choice.
    pub sampling: Sampling,
    /// Longest answer.
    pub max_new_tokens: usize,
    /// Standing instructions.
    pub system: String,
    /// Strings that end an answer, one a line.
    pub stop: String,
}

impl Default for Drawer {
    fn default() -> Self {
        Self {
            is_open: false,
            sampling: Sampling::default(),
            max_new_tokens: 200,
            system: String::new(),
            stop: String::new(),
        }
    }
}

/// The page.
#[derive(Default)]
pub struct Playground {
    /// Who is talked to.
    pub ready: Option<Ready>,
    /// Who is being loaded.
    pub loading: Option<Target>,
    /// Who answers beside it, in words.
    pub beside: Option<String>,
    /// Who is being loaded to answer beside it.
    pub loading_beside: Option<Target>,
    /// Why nobody is there.
    pub problem: Option<Problem>,
    /// What was said.
    pub exchanges: Vec<Exchange>,
    /// What is being typed.
    pub draft: String,
    /// An answer is on its way.
    pub is_busy: bool,
    /// Base and tuned side by side.
    pub compare: bool,
    /// How answers are made.
    pub drawer: Drawer,
    /// The checkpoint that answers, as an index; none: the last.
    pub checkpoint: Option<usize>,
    /// Words to find earlier conversations with.
    pub search: String,
    /// Earlier conversations are shown.
    pub shows_history: bool,
    /// Set while an answer is not wanted any more.
    pub hush: Arc<AtomicBool>,
    /// The thread that answers, once it was needed.
    pub asks: Option<Sender<ChatAsk>>,
}

impl Playground {
    /// What the thread said.
    pub fn hear(&mut self, reply: ChatReply) {
        match reply {
            ChatReply::Loading(target) => {
                self.loading = Some(target);
                self.problem = None;
            }
            ChatReply::Ready(ready) => {
                self.loading = None;
                self.problem = None;
                self.compare = ready.is_tuned && ready.has_base;
                let is_new = self.ready.as_ref().is_none_or(|old| old.target != ready.target);
                if is_new {
                    self.beside = None;
                    self.drawer.system = ready.system.clone().unwrap_or_default();
                    self.checkpoint = None;
                }
                self.ready = Some(ready);
            }
            ChatReply::Text(side, piece) => {
                if let Some(exchange) = self.exchanges.last_mut() {
                    exchange.side(side).get_or_insert_default().text.push_str(&piece);
                }
            }
            ChatReply::Whole(whole) => self.whole(whole),
            ChatReply::Unanswered(problem) => {
                self.is_busy = false;
                // The question comes back to where it was typed.
                if let Some(exchange) = self.exchanges.pop()
                    && self.draft.is_empty()
                {
                    self.draft = exchange.question;
                }
                self.problem = Some(problem);
            }
            ChatReply::Beside(name) => {
                self.loading_beside = None;
                self.beside = name;
            }
            ChatReply::Unavailable(problem) => {
                self.loading = None;
                self.loading_beside = None;
                self.is_busy = false;
                self.problem = Some(problem);
            }
        }
    }

    fn whole(&mut self, whole: Whole) {
        self.is_busy = false;
        let Some(exchange) = self.exchanges.last_mut() else { return };
        let Whole { answers, speed, speeds, first, step, kept } = whole;
        for (side, text, tokens, reason) in answers {
            let reason = match reason.as_str() {
                "length" => ", cut at the longest answer",
                "stop_string" => ", ended by a stop text",
                _ => "",
            };
            let own = speeds.iter().find(|(of, _)| *of == side);
            let own = own.map(|(_, speed)| format!(" · {speed:.0} tokens/s")).unwrap_or_default();
            *exchange.side(side) = Some(Shown { text, note: format!("{tokens} tokens{reason}{own}") });
        }
        exchange.kept = kept;
        let at = step.map(|step| format!(" · at step {step} of the live run")).unwrap_or_default();
        let speed = if speeds.is_empty() { format!(" · {speed:.0} tokens/s") } else { String::new() };
        exchange.note = format!("First word after {first:.1} s{speed}{at}");
    }
}

impl Exchange {
    fn side(&mut self, side: Side) -> &mut Option<Shown> {
        match side {
            Side::Base => &mut self.base,
            Side::Tuned => &mut self.tuned,
        }
    }
}

impl Drawer {
    /// As the answerer takes it.
    pub fn options(&self) -> AskOptions {
        let stop = self.stop.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        AskOptions { sampling: self.sampling, max_new_tokens: self.max_new_tokens, stop, form: None }
    }
}
