//! Who answers beside the first: on a thread of its own, with a model of its own, so that both answers come together.

use super::ChatReply;
use super::answerer::Speaker;
use super::turns::Turns;
use crate::cli::context::Context;
use crate::gui::target::Target;
use crate::gui::worker::{Reply, Teller, spawn};
use crate::jobs::answer::{Answers, AskOptions, OnText, Replies};
use peft_models::base::BaseModel;
use peft_plan::{Fault, Result, Turn};
use peft_storage::Side;
use std::cell::OnceCell;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// What the window is told of the second, and how it is stopped.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) context: Context,
    pub(super) hush: Arc<AtomicBool>,
    pub(super) teller: Teller,
}

impl Surroundings {
    /// Show a piece of an answer; whether to go on with it.
    pub(super) fn piece(&self, side: Side, piece: &str) -> ControlFlow<()> {
        self.teller.tell(Reply::Chat(ChatReply::Text(side, piece.to_owned())));
        if self.hush.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// A question to the second.
type Question = (Vec<Turn>, AskOptions);

/// Who answers beside the first.
pub(super) struct Aside {
    /// In words.
    pub(super) name: String,
    turns: Arc<Turns>,
    questions: Sender<Question>,
    replies: Receiver<Result<Replies>>,
}

/// The thread is gone, which it never is before its end.
fn gone() -> Fault {
    Fault::new("PS-APP-004", "The model beside the first stopped answering; choose it again")
}

impl Aside {
    /// Load it, and wait until that is done.
    pub(super) fn open(around: &Surroundings, target: &Target) -> Result<Self> {
        let turns = Arc::new(Turns::default());
        let (questions, asked) = channel();
        let (told, replies) = channel();
        let (begun, loaded) = channel();
        let (around, target, shared) = (around.clone(), target.clone(), turns.clone());
        spawn("beside", move || {
            let fault = match answer(&around, &target, &shared, &asked, &told, &begun) {
                Ok(()) => return,
                Err(fault) => fault,
            };
            // Where it was loaded nobody waits for this any more.
            let _heard = begun.send(Err(fault));
        });
        let name = loaded.recv().unwrap_or_else(|_| Err(gone()))?;
        Ok(Self { name, turns, questions, replies })
    }
}

/// Load a model, say its name, and answer until nobody asks any more.
fn answer(
    around: &Surroundings,
    target: &Target,
    turns: &Turns,
    asked: &Receiver<Question>,
    told: &Sender<Result<Replies>>,
    begun: &Sender<Result<String>>,
) -> Result<()> {
    let store = around.context.store()?;
    let cell: OnceCell<BaseModel> = OnceCell::new();
    let mut speaker = Speaker::load(&around.context, &store, &cell, target)?;
    let _heard = begun.send(Ok(speaker.name(target)));
    while let Ok((conversation, options)) = asked.recv() {
        let is_tuned = speaker.partner.is_tuned();
        let on_text = &mut |_: usize, piece: &str| around.piece(Side::Base, piece);
        let replies = in_turn(&mut speaker, turns, 1, &[(&conversation[..], is_tuned)], &options, on_text);
        if told.send(replies).is_err() {
            break;
        }
    }
    Ok(())
}

/// Answer, and let the other one compute after each token. A run that trains computes in its own process.
fn in_turn(
    speaker: &mut Speaker,
    turns: &Turns,
    me: usize,
    asked: &[(&[Turn], bool)],
    options: &AskOptions,
    on_text: &mut OnText,
) -> Result<Replies> {
    let turn = (!speaker.voice.is_live()).then(|| turns.begin(me));
    speaker.ask(asked, options, &mut |i, piece| {
        let flow = on_text(i, piece);
        if let Some(turn) = &turn {
            turn.pass();
        }
        flow
    })
}

/// Two that answer together: the first where else the tuned model does, the second where else the base does.
pub(super) struct Pair<'p, 'a> {
    pub(super) first: &'p mut Speaker<'a>,
    pub(super) second: &'p Aside,
    pub(super) hush: &'p AtomicBool,
    /// Tokens a second of each.
    pub(super) speeds: Vec<(Side, f64)>,
}

impl Answers for Pair<'_, '_> {
    fn ask(
        &mut self,
        conversations: &[(&[Turn], bool)],
        options: &AskOptions,
        on_text: &mut OnText,
    ) -> Result<Replies> {
        let [(beside, false), (own, true)] = conversations else { return Err(gone()) };
        self.second.questions.send((beside.to_vec(), options.clone())).map_err(|_| gone())?;
        let is_tuned = self.first.partner.is_tuned();
        let asked = [(*own, is_tuned)];
        let said = in_turn(self.first, &self.second.turns, 0, &asked, options, &mut |_, piece| on_text(1, piece));
        if said.is_err() {
            self.hush.store(true, Ordering::Relaxed);
        }
        let other = self.second.replies.recv().unwrap_or_else(|_| Err(gone()));
        let (own, beside) = (said?, other?);
        self.speeds = vec![(Side::Base, beside.tokens_per_second), (Side::Tuned, own.tokens_per_second)];
        Ok(Replies {
            prompt_tokens: own.prompt_tokens,
            step: own.step.or(beside.step),
            tokens_per_second: 0.0,
            first_token_seconds: own.first_token_seconds.min(beside.first_token_seconds),
            replies: beside.replies.into_iter().chain(own.replies).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gui::playground::{ChatAsk, answerer};
    use eframe::egui;

    /// S4.7.4: the second begins before the first is done, and the other way round.
    #[test]
    fn two_models_answer_together() {
        let home = tempfile::tempdir().expect("a directory");
        let (json, data_dir, backend) = (false, home.path().to_owned(), "cpu".to_owned());
        let context = Context { json, data_dir, backend, threads: 1, offline: true };
        let (asks, asked) = channel();
        let (sender, replies) = channel();
        let teller = Teller::new(sender, egui::Context::default());
        let options = Box::new(AskOptions { max_new_tokens: 40, ..AskOptions::default() });
        let question = "What does the cafe serve in the morning?".to_owned();
        asks.send(ChatAsk::Open(Target::starter(), None)).expect("heard");
        asks.send(ChatAsk::Beside(Some(Target::starter()))).expect("heard");
        asks.send(ChatAsk::Say { question, options, system: None, compare: false }).expect("heard");
        drop(asks);
        answerer::run(&context, &asked, &Arc::default(), &teller);
        drop(teller);
        let (mut order, mut whole) = (Vec::new(), None);
        for reply in replies {
            match reply {
                Reply::Chat(ChatReply::Text(side, _)) => order.push(side),
                Reply::Chat(ChatReply::Whole(said)) => whole = Some(said),
                Reply::Failed(problem)
                | Reply::Chat(ChatReply::Unanswered(problem) | ChatReply::Unavailable(problem)) => {
                    panic!("{problem:?}")
                }
                _ => {}
            }
        }
        let whole = whole.expect("answered");
        assert_eq!(whole.answers[0].1, whole.answers[1].1, "one model, one seed, one answer");
        assert!(whole.kept.is_some() && whole.speeds.len() == 2, "{whole:?}");
        for side in [Side::Base, Side::Tuned] {
            let first = order.iter().position(|said| *said == side).expect("spoke");
            let last_of_other = order.iter().rposition(|said| *said != side).expect("spoke");
            assert!(first < last_of_other, "one after the other: {order:?}");
        }
    }
}
