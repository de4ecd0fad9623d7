//! What happens in the playground: who answers, what is asked, and what was said before.

use super::command::Command;
use super::logic::Logic;
use super::playground::{ChatAsk, Exchange, Shown, answerer};
use super::problem::Problem;
use super::route::Route;
use super::state::State;
use super::target::Target;
use super::worker::{Reply, spawn};
use peft_plan::Role;
use peft_storage::{Conversation, Message, Side};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

impl Logic {
    /// Carry out a command of the playground.
    pub(super) fn act_talking(&self, state: &mut State, command: Command) {
        match command {
            Command::Talk(target) => {
                self.go(state, Route::Playground);
                self.open_talk(state, target, None);
            }
            Command::Beside(target) => self.beside(state, target),
            Command::Say(question) => self.say(state, question),
            Command::Hush => state.pages.playground.hush.store(true, Ordering::Relaxed),
            Command::Checkpoint(which) => self.ask_chat(state, ChatAsk::Checkpoint(which)),
            Command::NewTalk => {
                state.pages.playground.exchanges.clear();
                state.data.talks = None;
                self.ask_chat(state, ChatAsk::Clear);
            }
            Command::OpenTalk(id) => self.workers.with_store(move |store, teller| {
                teller.tell(Reply::Talk(Box::new(store.conversation(id)?)));
                Ok(())
            }),
            Command::DeleteTalk(id) => {
                state.data.talks = None;
                self.workers.with_store(move |store, _| store.delete_conversation(id).map(drop));
            }
            Command::Vote((talk, sequence), choice) => {
                self.workers.with_store(move |store, _| store.vote(talk, sequence, choice));
            }
            Command::SearchTalks(words) => self.talks(&words),
            other => self.act_outside(state, other),
        }
    }

    pub(super) fn talks(&self, search: &str) {
        let search = (!search.trim().is_empty()).then(|| search.to_owned());
        self.workers.with_store(move |store, teller| {
            teller.tell(Reply::Talks(store.conversations(search.as_deref(), 100)?));
            Ok(())
        });
    }

    fn ask_chat(&self, state: &mut State, ask: ChatAsk) {
        let page = &mut state.pages.playground;
        let asks = page.asks.get_or_insert_with(|| {
            let (sender, receiver) = std::sync::mpsc::channel();
            let (context, hush, teller) = (self.workers.context.clone(), page.hush.clone(), self.workers.teller());
            spawn("answers", move || answerer::run(&context, &receiver, &hush, &teller));
            sender
        });
        // The thread lives as long as the window.
        let _sent = asks.send(ask);
    }

    pub(super) fn open_talk(&self, state: &mut State, target: Target, earlier: Option<i64>) {
        let page = &mut state.pages.playground;
        page.hush.store(true, Ordering::Relaxed);
        if earlier.is_none() {
            page.exchanges.clear();
        }
        page.is_busy = false;
        page.beside = None;
        page.loading_beside = None;
        page.loading = Some(target.clone());
        self.ask_chat(state, ChatAsk::Open(target, earlier));
    }

    /// Another one answers beside who is talked to; what was said is for the two that said it.
    pub(super) fn beside(&self, state: &mut State, target: Option<Target>) {
        let page = &mut state.pages.playground;
        if page.ready.is_none() || page.is_busy {
            return;
        }
        page.exchanges.clear();
        page.loading_beside.clone_from(&target);
        page.beside = None;
        state.data.talks = None;
        self.ask_chat(state, ChatAsk::Beside(target));
    }

    pub(super) fn restore(&self, state: &mut State, (talk, messages): (Conversation, Vec<Message>)) {
        let mut exchanges: Vec<Exchange> = Vec::new();
        for message in messages {
            match (message.role, exchanges.last_mut()) {
                (Role::User, _) => exchanges.push(Exchange {
                    question: message.content,
                    kept: Some((talk.id, message.sequence)),
                    vote: message.vote,
                    ..Exchange::default()
                }),
                (Role::Assistant, Some(last)) => answered(last, message),
                _ => {}
            }
        }
        state.pages.playground.exchanges = exchanges;
        let target = match talk.run {
            Some(run) => Target::Run(run),
            None => Target::Model(talk.model, talk.adapter.map(PathBuf::from)),
        };
        self.open_talk(state, target, Some(talk.id));
    }

    fn say(&self, state: &mut State, question: String) {
        let page = &mut state.pages.playground;
        let Some(ready) = &page.ready else { return };
        if page.is_busy || page.loading_beside.is_some() || question.trim().is_empty() {
            return;
        }
        let options = page.drawer.options();
        if let Err(fault) = options.check() {
            page.problem = Some(Problem::from(&fault));
            return;
        }
        let system = (!page.drawer.system.trim().is_empty()).then(|| page.drawer.system.clone());
        let names = page.beside.as_ref().map(|beside| [ready.name.clone(), beside.clone()]);
        page.is_busy = true;
        page.problem = None;
        page.exchanges.push(Exchange { question: question.clone(), names, ..Exchange::default() });
        let compare = page.compare;
        self.ask_chat(state, ChatAsk::Say { question, options: Box::new(options), system, compare });
    }
}

/// An answer of an earlier conversation goes to its question.
fn answered(exchange: &mut Exchange, message: Message) {
    // Where two models answered, each answer says whose it is.
    if let Some(name) = message.details["model"].as_str() {
        let names = exchange.names.get_or_insert_default();
        name.clone_into(&mut names[usize::from(message.side == Some(Side::Base))]);
    }
    let shown = Some(Shown { text: message.content, note: String::new() });
    match message.side {
        Some(Side::Base) => exchange.base = shown,
        _ => exchange.tuned = shown,
    }
}
