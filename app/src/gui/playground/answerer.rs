//! The thread that has a model loaded and answers, or passes questions on to a live run.

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
use std::ops::ControlFlow;
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
    let partner = partner_of(&store, target)?;
    let voice = partner.voice(context, Some(&store), &cell)?;
    let mut talk = Conversation::new(Columns::Both, partner.system.clone());
    if let Some(id) = earlier {
        talk.restore(&store.conversation(id)?.1);
    }
    let mut here =
        Here { context, store: &store, cell: &cell, target, partner, voice, talk, saved: earlier, hush, teller };
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

fn partner_of(store: &Store, target: &Target) -> Result<Partner> {
    match target {
        Target::Run(run) => Partner::of_run(find(store, run)?, None),
        Target::Model(model, adapter) => Ok(Partner::of_model(model.clone(), adapter.clone())),
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

/// Who answers beside the first.
struct Second<'a> {
    name: String,
    partner: Partner,
    voice: Voice<'a>,
}

/// The partner that is loaded, and what was said.
struct Here<'a> {
    context: &'a Context,
    store: &'a Store,
    cell: &'a OnceCell<BaseModel>,
    target: &'a Target,
    partner: Partner,
    voice: Voice<'a>,
    talk: Conversation,
    saved: Option<i64>,
    hush: &'a Arc<AtomicBool>,
    teller: &'a Teller,
}

impl Here<'_> {
    fn tell_ready(&self) {
        self.teller.tell(Reply::Chat(ChatReply::Ready(ready(self.target, &self.partner, &self.voice))));
    }

    /// Answer with the same one beside it, or alone.
    fn hold(&mut self, asks: &Receiver<ChatAsk>, beside: Option<Target>) -> Next {
        let cell: OnceCell<BaseModel> = OnceCell::new();
        let store = self.store;
        let mut second = beside.and_then(|target| match self.second(store, &cell, &target) {
            Ok(second) => Some(second),
            Err(fault) => {
                self.teller.tell(Reply::Failed(Problem::from(&fault)));
                None
            }
        });
        self.teller.tell(Reply::Chat(ChatReply::Beside(second.as_ref().map(|second| second.name.clone()))));
        loop {
            let Ok(ask) = asks.recv() else { return Next::Gone };
            match ask {
                ChatAsk::Open(target, earlier) => return Next::Open(target, earlier),
                ChatAsk::Beside(other) => {
                    self.forget();
                    return Next::Beside(other);
                }
                ChatAsk::Clear => self.forget(),
                ChatAsk::Checkpoint(which) => {
                    let cell = self.cell;
                    match self.partner.switch(self.context, Some(store), cell, &mut self.voice, &which) {
                        Ok(()) => self.tell_ready(),
                        Err(fault) => self.teller.tell(Reply::Failed(Problem::from(&fault))),
                    }
                }
                ChatAsk::Say { question, options, system, compare } => {
                    if self.talk.system() != system.as_deref().filter(|text| !text.trim().is_empty()) {
                        self.talk.set_system(system);
                    }
                    match self.say(second.as_mut(), &question, &options, compare) {
                        Ok((exchange, speeds)) => {
                            let names = second.as_ref().map(|second| [&*self.name(), &*second.name].map(str::to_owned));
                            let kept = self.keep(&exchange, names.as_ref());
                            self.teller.tell(Reply::Chat(ChatReply::Whole(whole(&exchange, &speeds, kept))));
                        }
                        Err(fault) => self.teller.tell(Reply::Chat(ChatReply::Unanswered(Problem::from(&fault)))),
                    }
                }
            }
        }
    }

    fn second<'b>(&self, store: &'b Store, cell: &'b OnceCell<BaseModel>, target: &Target) -> Result<Second<'b>> {
        let partner = partner_of(store, target)?;
        let voice = partner.voice(self.context, Some(store), cell)?;
        Ok(Second { name: name_of(target, &partner), partner, voice })
    }

    fn name(&self) -> String {
        name_of(self.target, &self.partner)
    }

    fn forget(&mut self) {
        self.talk.clear();
        self.saved = None;
    }

    /// One question. With a second one beside it, the first answers where else the tuned model does, and the second
    /// where else the base does.
    fn say(
        &mut self,
        second: Option<&mut Second>,
        question: &str,
        options: &AskOptions,
        compare: bool,
    ) -> Result<(Exchange, Vec<(Side, f64)>)> {
        self.hush.store(false, Ordering::Relaxed);
        if let Some(second) = second {
            self.talk.columns = Columns::Both;
            let mut pair = Pair {
                first: (answers(&mut self.voice), self.partner.is_tuned()),
                second: (answers(&mut second.voice), second.partner.is_tuned()),
                speeds: Vec::new(),
            };
            let exchange = heard(&mut self.talk, &mut pair, question, options, self.hush, self.teller)?;
            return Ok((exchange, pair.speeds));
        }
        self.talk.columns = match (self.partner.is_tuned(), compare && self.partner.has_base()) {
            (true, true) => Columns::Both,
            (true, false) => Columns::Tuned,
            (false, _) => Columns::Base,
        };
        let said = heard(&mut self.talk, answers(&mut self.voice), question, options, self.hush, self.teller);
        if said.as_ref().is_err_and(|fault| fault.code == ENDED) && self.voice.is_live() {
            // The run came to its end meanwhile: what it left answers.
            self.partner.refresh(Some(self.store))?;
            self.voice = self.partner.voice(self.context, Some(self.store), self.cell)?;
            self.tell_ready();
            let again = heard(&mut self.talk, answers(&mut self.voice), question, options, self.hush, self.teller);
            return again.map(|exchange| (exchange, Vec::new()));
        }
        said.map(|exchange| (exchange, Vec::new()))
    }

    /// Keep what was said. A conversation that cannot be kept goes on all the same.
    fn keep(&mut self, exchange: &Exchange, names: Option<&[String; 2]>) -> Option<(i64, u64)> {
        let begin = || {
            self.store.create_conversation(&NewConversation {
                title: String::new(),
                run: self.partner.run_id(),
                model: self.partner.model.clone(),
                adapter: match self.target {
                    Target::Model(_, adapter) => adapter.as_ref().map(|path| path.display().to_string()),
                    Target::Run(_) => self.partner.adapter_path(),
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
        self.store.add_messages(id, &messages).ok().map(|sequence| (id, sequence))
    }
}

fn answers<'v>(voice: &'v mut Voice) -> &'v mut dyn Answers {
    match voice {
        Voice::Loaded(answerer) => answerer.as_mut(),
        Voice::Live(live) => live.as_mut(),
    }
}

/// Ask, and tell the window each piece of an answer.
fn heard(
    talk: &mut Conversation,
    answers: &mut dyn Answers,
    question: &str,
    options: &AskOptions,
    hush: &AtomicBool,
    teller: &Teller,
) -> Result<Exchange> {
    let sides = talk.columns.sides();
    talk.say(answers, question, options, &mut |column, piece| {
        teller.tell(Reply::Chat(ChatReply::Text(sides[column], piece.to_owned())));
        if hush.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
}

/// Two that answer one after the other: each has the whole computer while it does.
struct Pair<'v> {
    first: (&'v mut dyn Answers, bool),
    second: (&'v mut dyn Answers, bool),
    speeds: Vec<(Side, f64)>,
}

impl Answers for Pair<'_> {
    fn ask(
        &mut self,
        conversations: &[(&[Turn], bool)],
        options: &AskOptions,
        on_text: &mut OnText,
    ) -> Result<Replies> {
        self.speeds.clear();
        let mut all: Vec<Option<Replies>> = conversations.iter().map(|_| None).collect();
        for is_first in [true, false] {
            for (i, (turns, _)) in conversations.iter().enumerate().filter(|(_, (_, first))| *first == is_first) {
                let (who, is_tuned) = if is_first { &mut self.first } else { &mut self.second };
                let replies = who.ask(&[(*turns, *is_tuned)], options, &mut |_, piece| on_text(i, piece))?;
                self.speeds.push((if is_first { Side::Tuned } else { Side::Base }, replies.tokens_per_second));
                all[i] = Some(replies);
            }
        }
        let all: Vec<Replies> = all.into_iter().flatten().collect();
        let first_token_seconds = all.iter().map(|r| r.first_token_seconds).fold(f64::INFINITY, f64::min);
        Ok(Replies {
            prompt_tokens: all.first().map_or(0, |replies| replies.prompt_tokens),
            step: all.iter().find_map(|replies| replies.step),
            tokens_per_second: 0.0,
            first_token_seconds,
            replies: all.into_iter().flat_map(|replies| replies.replies).collect(),
        })
    }
}

fn name_of(target: &Target, partner: &Partner) -> String {
    match (partner.run(), target) {
        (Some(run), _) => run.name.clone(),
        (None, target) => target.name(&Data::default()),
    }
}

fn ready(target: &Target, partner: &Partner, voice: &Voice) -> Ready {
    let run = partner.run();
    Ready {
        target: target.clone(),
        name: name_of(target, partner),
        is_tuned: partner.is_tuned(),
        has_base: partner.has_base(),
        is_live: voice.is_live(),
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
