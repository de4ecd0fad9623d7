//! The thread that has a model loaded and answers, or passes questions on to a live run.

use super::{ChatAsk, ChatReply, Ready, Target, Whole};
use crate::cli::chat::partner::{Partner, Voice};
use crate::cli::context::Context;
use crate::gui::problem::Problem;
use crate::gui::worker::{Reply, Teller};
use crate::jobs::conversation::{Columns, Conversation, Exchange};
use crate::jobs::live::ENDED;
use crate::jobs::{kept, run::find};
use peft_models::base::BaseModel;
use peft_plan::{Example, Result, Role, RunConfig};
use peft_storage::{NewConversation, Store};
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
    let mut partner = match target {
        Target::Run(run) => Partner::of_run(find(&store, run)?, None)?,
        Target::Model(model, adapter) => Partner::of_model(model.clone(), adapter.clone()),
    };
    let mut voice = partner.voice(context, Some(&store), &cell)?;
    let mut talk = Conversation::new(Columns::Both, partner.system.clone());
    let mut saved = earlier;
    if let Some(id) = earlier {
        talk.restore(&store.conversation(id)?.1);
    }
    teller.tell(Reply::Chat(ChatReply::Ready(ready(target, &partner, &voice))));
    loop {
        let Ok(ask) = asks.recv() else { return Ok(None) };
        match ask {
            ChatAsk::Open(target, earlier) => return Ok(Some((target, earlier))),
            ChatAsk::Clear => {
                talk.clear();
                saved = None;
            }
            ChatAsk::Checkpoint(which) => match partner.switch(context, Some(&store), &cell, &mut voice, &which) {
                Ok(()) => teller.tell(Reply::Chat(ChatReply::Ready(ready(target, &partner, &voice)))),
                Err(fault) => teller.tell(Reply::Failed(Problem::from(&fault))),
            },
            ChatAsk::Say { question, options, system, compare } => {
                hush.store(false, Ordering::Relaxed);
                talk.columns = match (partner.is_tuned(), compare && partner.has_base()) {
                    (true, true) => Columns::Both,
                    (true, false) => Columns::Tuned,
                    (false, _) => Columns::Base,
                };
                if talk.system() != system.as_deref().filter(|text| !text.trim().is_empty()) {
                    talk.set_system(system);
                }
                let sides = talk.columns.sides();
                let say = |voice: &mut Voice, talk: &mut Conversation| {
                    let answers: &mut dyn crate::jobs::answer::Answers = match voice {
                        Voice::Loaded(answerer) => answerer.as_mut(),
                        Voice::Live(live) => live.as_mut(),
                    };
                    talk.say(answers, &question, &options, &mut |column, piece| {
                        teller.tell(Reply::Chat(ChatReply::Text(sides[column], piece.to_owned())));
                        if hush.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                    })
                };
                let mut said = say(&mut voice, &mut talk);
                if said.as_ref().is_err_and(|fault| fault.code == ENDED) && voice.is_live() {
                    // The run came to its end meanwhile: what it left answers.
                    partner.refresh(Some(&store))?;
                    voice = partner.voice(context, Some(&store), &cell)?;
                    teller.tell(Reply::Chat(ChatReply::Ready(ready(target, &partner, &voice))));
                    said = say(&mut voice, &mut talk);
                }
                match said {
                    Ok(exchange) => {
                        let kept = keep(&store, &mut saved, target, &partner, &talk, &exchange);
                        teller.tell(Reply::Chat(ChatReply::Whole(whole(&exchange, kept))));
                    }
                    Err(fault) => teller.tell(Reply::Chat(ChatReply::Unanswered(Problem::from(&fault)))),
                }
            }
        }
    }
}

fn ready(target: &Target, partner: &Partner, voice: &Voice) -> Ready {
    let run = partner.run();
    let name = match (run, target) {
        (Some(run), _) => run.name.clone(),
        (None, Target::Model(model, _)) => model.clone(),
        (None, Target::Run(run)) => run.clone(),
    };
    Ready {
        target: target.clone(),
        name,
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

fn whole(exchange: &Exchange, kept: Option<(i64, u64)>) -> Whole {
    let answer = |(side, reply): &(peft_storage::Side, crate::jobs::answer::Reply)| {
        (*side, reply.text.clone(), reply.tokens, reply.stop_reason.clone())
    };
    Whole {
        answers: exchange.answers.iter().map(answer).collect(),
        speed: exchange.replies.tokens_per_second,
        first: exchange.replies.first_token_seconds,
        step: exchange.replies.step,
        kept,
    }
}

/// Keep what was said. A conversation that cannot be kept goes on all the same.
fn keep(
    store: &Store,
    saved: &mut Option<i64>,
    target: &Target,
    partner: &Partner,
    talk: &Conversation,
    exchange: &Exchange,
) -> Option<(i64, u64)> {
    let begin = || {
        store.create_conversation(&NewConversation {
            title: String::new(),
            run: partner.run_id(),
            model: partner.model.clone(),
            adapter: match target {
                Target::Model(_, adapter) => adapter.as_ref().map(|path| path.display().to_string()),
                Target::Run(_) => partner.adapter_path(),
            },
            system: talk.system().map(str::to_owned),
        })
    };
    let id = match *saved {
        Some(id) => id,
        None => begin().ok()?,
    };
    *saved = Some(id);
    store.add_messages(id, &exchange.messages()).ok().map(|sequence| (id, sequence))
}
