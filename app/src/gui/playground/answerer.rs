//! The thread that has a model loaded and answers, or passes questions on to a live run.

use super::beside::{Aside, Pair, Surroundings};
use super::{ChatAsk, ChatReply, Ready, Whole};
use crate::cli::chat::partner::{Partner, Voice};
use crate::cli::context::Context;
use crate::gui::problem::Problem;
use crate::gui::state::Data;
use crate::gui::target::Target;
use crate::gui::worker::{Reply, Teller};
use crate::jobs::answer::{Answers, AskOptions, OnText, Replies};
use crate::jobs::conversation::{Columns, Conversation, Exchange};
use crate::jobs::live::ENDED;
use crate::jobs::{kept, run::find};
use peft_models::base::BaseModel;
use peft_plan::{Example, Result, Role, RunConfig, Turn};
use peft_storage::{NewConversation, Side, Store};
use std::cell::OnceCell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;

/// Example questions shown at most.
const EXAMPLES: usize = 4;
/// Longest example question, characters.
const EXAMPLE: usize = 140;

/// Answer until the window is gone.
pub fn run(context: &Context, asks: &Receiver<ChatAsk>, hush: &Arc<AtomicBool>, teller: &Teller) {
    let mut next = None;
    loop {
        let (target, earlier) = match next.take() {
            Some(open) => open,
            None => match asks.recv() {
                Ok(ChatAsk::Open(target, earlier)) => (target, earlier),
                // Nobody is there to be asked.
                Ok(_) => continue,
                Err(_) => return,
            },
        };
        teller.tell(Reply::Chat(ChatReply::Loading(target.clone())));
        match converse(context, asks, hush, teller, &target, earlier) {
            Ok(Some(open)) => next = Some(open),
            Ok(None) => return,
            Err(fault) => teller.tell(Reply::Chat(ChatReply::Unavailable(Problem::from(&fault)))),
        }
    }
}

/// One partner, until another is wanted (`Some`) or the window is gone.
fn converse(
    context: &Context,
    asks: &Receiver<ChatAsk>,
    hush: &Arc<AtomicBool>,
    teller: &Teller,
    target: &Target,
    earlier: Option<i64>,
) -> Result<Option<(Target, Option<i64>)>> {
    let store = context.store()?;
    let cell: OnceCell<BaseModel> = OnceCell::new();
    let first = Speaker::load(context, &store, &cell, target)?;
    let mut talk = Conversation::new(Columns::Both, first.partner.system.clone());
    if let Some(id) = earlier {
        talk.restore(&store.conversation(id)?.1);
    }
    let around = Surroundings { context: context.clone(), hush: hush.clone(), teller: teller.clone() };
    let mut here = Here { target, first, talk, saved: earlier, around };
    here.tell_ready();
    let mut beside = None;
    loop {
        match here.hold(asks, beside.take()) {
            Next::Beside(other) => beside = other,
            Next::Open(target, earlier) => return Ok(Some((target, earlier))),
            Next::Gone => return Ok(None),
        }
    }
}

/// Somebody who can be asked.
pub(super) struct Speaker<'a> {
    context: &'a Context,
    store: &'a Store,
    cell: &'a OnceCell<BaseModel>,
    pub(super) partner: Partner,
    pub(super) voice: Voice<'a>,
    /// The run came to its end meanwhile, and what it left answers.
    is_renewed: bool,
}

impl<'a> Speaker<'a> {
    /// Load what is wanted, or find the run that has it loaded.
    pub(super) fn load(
        context: &'a Context,
        store: &'a Store,
        cell: &'a OnceCell<BaseModel>,
        target: &Target,
    ) -> Result<Self> {
        let partner = match target {
            Target::Run(run) => Partner::of_run(find(store, run)?, None)?,
            Target::Model(model, adapter) => Partner::of_model(model.clone(), adapter.clone()),
        };
        let voice = partner.voice(context, Some(store), cell)?;
        Ok(Self { context, store, cell, partner, voice, is_renewed: false })
    }

    /// What people call it.
    pub(super) fn name(&self, target: &Target) -> String {
        match self.partner.run() {
            Some(run) => run.name.clone(),
            None => target.name(&Data::default()),
        }
    }

    fn switch(&mut self, which: &str) -> Result<()> {
        self.partner.switch(self.context, Some(self.store), self.cell, &mut self.voice, which)
    }
}

impl Answers for Speaker<'_> {
    fn ask(
        &mut self,
        conversations: &[(&[Turn], bool)],
        options: &AskOptions,
        on_text: &mut OnText,
    ) -> Result<Replies> {
        match &mut self.voice {
            Voice::Loaded(answerer) => return answerer.ask(conversations, options, on_text),
            Voice::Live(live) => match live.ask(conversations, options, on_text) {
                Err(fault) if fault.code == ENDED => {}
                said => return said,
            },
        }
        // The run came to its end meanwhile: what it left answers.
        self.partner.refresh(Some(self.store))?;
        self.voice = self.partner.voice(self.context, Some(self.store), self.cell)?;
        self.is_renewed = true;
        match &mut self.voice {
            Voice::Loaded(answerer) => answerer.ask(conversations, options, on_text),
            Voice::Live(live) => live.ask(conversations, options, on_text),
        }
    }
}

/// Why a constellation ends.
enum Next {
    /// Another one answers beside the first, or nobody does.
    Beside(Option<Target>),
    /// Another partner.
    Open(Target, Option<i64>),
    /// Nobody asks any more.
    Gone,
}

/// The partner that is loaded, and what was said.
struct Here<'a> {
    target: &'a Target,
    first: Speaker<'a>,
    talk: Conversation,
    saved: Option<i64>,
    around: Surroundings,
}

impl Here<'_> {
    fn tell(&self, reply: ChatReply) {
        self.around.teller.tell(Reply::Chat(reply));
    }

    fn tell_ready(&self) {
        self.tell(ChatReply::Ready(ready(self.target, &self.first)));
    }

    /// Answer with the same one beside it, or alone.
    fn hold(&mut self, asks: &Receiver<ChatAsk>, beside: Option<Target>) -> Next {
        let second = beside.and_then(|target| match Aside::open(&self.around, &target) {
            Ok(second) => Some(second),
            Err(fault) => {
                self.around.teller.tell(Reply::Failed(Problem::from(&fault)));
                None
            }
        });
        self.tell(ChatReply::Beside(second.as_ref().map(|second| second.name.clone())));
        loop {
            let Ok(ask) = asks.recv() else { return Next::Gone };
            match ask {
                ChatAsk::Open(target, earlier) => return Next::Open(target, earlier),
                ChatAsk::Beside(other) => {
                    self.forget();
                    return Next::Beside(other);
                }
                ChatAsk::Clear => self.forget(),
                ChatAsk::Checkpoint(which) => match self.first.switch(&which) {
                    Ok(()) => self.tell_ready(),
                    Err(fault) => self.around.teller.tell(Reply::Failed(Problem::from(&fault))),
                },
                ChatAsk::Say { question, options, system, compare } => {
                    if self.talk.system() != system.as_deref().filter(|text| !text.trim().is_empty()) {
                        self.talk.set_system(system);
                    }
                    match self.say(second.as_ref(), &question, &options, compare) {
                        Ok((exchange, speeds)) => {
                            let names =
                                second.as_ref().map(|second| [self.first.name(self.target), second.name.clone()]);
                            let kept = self.keep(&exchange, names.as_ref());
                            self.tell(ChatReply::Whole(whole(&exchange, &speeds, kept)));
                        }
                        Err(fault) => self.tell(ChatReply::Unanswered(Problem::from(&fault))),
                    }
                }
            }
        }
    }

    fn forget(&mut self) {
        self.talk.clear();
        self.saved = None;
    }

    /// One question. With a second one beside it, the first answers where else the tuned model does, and the second
    /// where else the base does.
    fn say(
        &mut self,
        second: Option<&Aside>,
        question: &str,
        options: &AskOptions,
        compare: bool,
    ) -> Result<(Exchange, Vec<(Side, f64)>)> {
        let Self { first, talk, around, .. } = self;
        around.hush.store(false, Ordering::Relaxed);
        let said = if let Some(second) = second {
            talk.columns = Columns::Both;
            let mut pair = Pair { first, second, hush: &around.hush, speeds: Vec::new() };
            heard(talk, &mut pair, question, options, around).map(|exchange| (exchange, pair.speeds))
        } else {
            talk.columns = match (first.partner.is_tuned(), compare && first.partner.has_base()) {
                (true, true) => Columns::Both,
                (true, false) => Columns::Tuned,
                (false, _) => Columns::Base,
            };
            heard(talk, first, question, options, around).map(|exchange| (exchange, Vec::new()))
        };
        if std::mem::take(&mut self.first.is_renewed) {
            self.tell_ready();
        }
        said
    }

    /// Keep what was said. A conversation that cannot be kept goes on all the same.
    fn keep(&mut self, exchange: &Exchange, names: Option<&[String; 2]>) -> Option<(i64, u64)> {
        let begin = || {
            self.first.store.create_conversation(&NewConversation {
                title: String::new(),
                run: self.first.partner.run_id(),
                model: self.first.partner.model.clone(),
                adapter: match self.target {
                    Target::Model(_, adapter) => adapter.as_ref().map(|path| path.display().to_string()),
                    Target::Run(_) => self.first.partner.adapter_path(),
                },
                system: self.talk.system().map(str::to_owned),
            })
        };
        let id = match self.saved {
            Some(id) => id,
            None => begin().ok()?,
        };
        self.saved = Some(id);
        let mut messages = exchange.messages();
        if let Some([first, second]) = names {
            for message in &mut messages {
                match message.side {
                    Some(Side::Tuned) => message.details["model"] = first.as_str().into(),
                    Some(Side::Base) => message.details["model"] = second.as_str().into(),
                    None => {}
                }
            }
        }
        self.first.store.add_messages(id, &messages).ok().map(|sequence| (id, sequence))
    }
}

/// Ask, and tell the window each piece of an answer.
fn heard(
    talk: &mut Conversation,
    answers: &mut dyn Answers,
    question: &str,
    options: &AskOptions,
    around: &Surroundings,
) -> Result<Exchange> {
    let sides = talk.columns.sides();
    talk.say(answers, question, options, &mut |column, piece| around.piece(sides[column], piece))
}

fn ready(target: &Target, speaker: &Speaker) -> Ready {
    let partner = &speaker.partner;
    let run = partner.run();
    Ready {
        target: target.clone(),
        name: speaker.name(target),
        is_tuned: partner.is_tuned(),
        has_base: partner.has_base(),
        is_live: speaker.voice.is_live(),
        checkpoints: run.map(|run| kept::list(run).iter().map(|kept| kept.step).collect()).unwrap_or_default(),
        system: partner.system.clone(),
        examples: run.map(|run| examples(&run.config)).unwrap_or_default(),
    }
}

/// A few questions that fit what the run learned: from its own data, spread over it.
fn examples(config: &serde_json::Value) -> Vec<String> {
    let Ok(config) = RunConfig::from_value(config.clone()) else { return Vec::new() };
    let Some(path) = config.dataset.path.as_deref().map(Path::new) else { return Vec::new() };
    // A huge file is not read for four questions.
    if std::fs::metadata(path).map_or(true, |data| !data.is_file() || data.len() > 8 << 20) {
        return Vec::new();
    }
    let Ok(dataset) = peft_data::read(&[path.to_owned()], &peft_data::ReadOptions::default()) else {
        return Vec::new();
    };
    let question = |example: &Example| match example {
        Example::Messages(turns) => {
            let asked = turns.iter().find(|turn| turn.role == Role::User)?;
            let is_short = asked.content.chars().count() <= EXAMPLE && !asked.content.trim().is_empty();
            is_short.then(|| asked.content.trim().to_owned())
        }
        _ => None,
    };
    let mut found: Vec<String> = Vec::new();
    let step = (dataset.rows.len() / (4 * EXAMPLES)).max(1);
    for row in dataset.rows.iter().step_by(step) {
        if let Some(question) = question(&row.example)
            && !found.contains(&question)
        {
            found.push(question);
        }
        if found.len() == EXAMPLES {
            break;
        }
    }
    found
}

fn whole(exchange: &Exchange, speeds: &[(Side, f64)], kept: Option<(i64, u64)>) -> Whole {
    let answer = |(side, reply): &(peft_storage::Side, crate::jobs::answer::Reply)| {
        (*side, reply.text.clone(), reply.tokens, reply.stop_reason.clone())
    };
    Whole {
        answers: exchange.answers.iter().map(answer).collect(),
        speed: exchange.replies.tokens_per_second,
        speeds: speeds.to_vec(),
        first: exchange.replies.first_token_seconds,
        step: exchange.replies.step,
        kept,
    }
}
