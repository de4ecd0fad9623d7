//! `chat`: one question with `--prompt`, or a conversation; with `--compare` base and tuned side by side.

mod commands;
pub(crate) mod partner;
mod settings;

use super::args::ChatArgs;
use super::context::Context;
use super::{interrupt, output};
use crate::jobs::answer::{Answers, AskOptions};
use crate::jobs::conversation::{Columns, Conversation, Exchange};
use crate::jobs::live::ENDED;
use commands::Next;
use partner::{Partner, Voice};
use peft_models::base::BaseModel;
use peft_plan::{Fault, Result};
use peft_storage::{NewConversation, Side, Store};
use serde_json::json;
use std::cell::OnceCell;
use std::io::{BufRead, IsTerminal};
use std::ops::ControlFlow;

/// Answer.
pub fn run(context: &Context, args: &ChatArgs) -> Result<u8> {
    let options = settings::of_args(args)?;
    options.check()?;
    let store = match context.store() {
        Ok(store) => Some(store),
        Err(fault) if args.run.is_some() => return Err(fault),
        Err(fault) => {
            if !args.no_save {
                output::note(&format!("The conversation is not kept: {}", fault.detail));
            }
            None
        }
    };
    let base = OnceCell::new();
    let partner = Partner::find(store.as_ref(), args)?;
    let mut talk = Talk::new(context, store.as_ref(), &base, partner, args, options)?;
    if let Some(prompt) = &args.prompt {
        if talk.voice.is_live() {
            interrupt::install();
        }
        let exchange = talk.ask(prompt)?;
        talk.show(&exchange);
        return Ok(0);
    }
    talk.until_the_end()
}

/// A conversation and everything it needs.
struct Talk<'a> {
    context: &'a Context,
    store: Option<&'a Store>,
    base: &'a OnceCell<BaseModel>,
    partner: Partner,
    voice: Voice<'a>,
    conversation: Conversation,
    options: AskOptions,
    /// Where it is kept, once something was said.
    saved: Option<i64>,
    saves: bool,
    /// The number of the last question, to vote on.
    last_question: Option<u64>,
}

impl<'a> Talk<'a> {
    fn new(
        context: &'a Context,
        store: Option<&'a Store>,
        base: &'a OnceCell<BaseModel>,
        partner: Partner,
        args: &ChatArgs,
        options: AskOptions,
    ) -> Result<Self> {
        let voice = partner.voice(context, store, base)?;
        let columns = match (partner.is_tuned(), args.compare && partner.has_base()) {
            (true, true) => Columns::Both,
            (true, false) => Columns::Tuned,
            (false, _) => Columns::Base,
        };
        if args.compare && columns != Columns::Both {
            output::note("There is no adapter, so there is nothing to compare the base with");
        }
        let system = args.system.clone().or_else(|| partner.system.clone());
        let conversation = Conversation::new(columns, system);
        let saves = !args.no_save && store.is_some();
        Ok(Self {
            context,
            store,
            base,
            partner,
            voice,
            conversation,
            options,
            saved: None,
            saves,
            last_question: None,
        })
    }

    /// One question. A run that ends while it is asked is talked to as what it left.
    fn ask(&mut self, question: &str) -> Result<Exchange> {
        let exchange = match self.say(question) {
            Err(fault) if fault.code == ENDED && self.voice.is_live() => {
                output::note("\nThe run came to its end; its model is loaded to answer");
                self.partner.refresh(self.store)?;
                self.voice = self.partner.voice(self.context, self.store, self.base)?;
                self.say(question)?
            }
            answered => answered?,
        };
        self.keep(&exchange);
        Ok(exchange)
    }

    fn say(&mut self, question: &str) -> Result<Exchange> {
        // Two streams cannot share one line; a comparison is shown when it is complete.
        let streams = !self.context.json && self.conversation.columns != Columns::Both;
        let mut show = |_: usize, piece: &str| {
            if streams {
                output::text(&output::printable(piece));
            }
            if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let answers: &mut dyn Answers = match &mut self.voice {
            Voice::Loaded(answerer) => answerer.as_mut(),
            Voice::Live(run) => run.as_mut(),
        };
        self.conversation.say(answers, question, &self.options, &mut show)
    }

    /// What is shown when the answers are complete.
    fn show(&self, exchange: &Exchange) {
        if self.context.json {
            output::print_json(&self.document(exchange));
            return;
        }
        if self.conversation.columns == Columns::Both {
            for (side, reply) in &exchange.answers {
                let name = if *side == Side::Base { "base " } else { "tuned" };
                output::line(&format!("{name}  {}", output::printable(&reply.text)));
            }
        } else {
            output::line("");
        }
        for (_, reply) in &exchange.answers {
            if reply.dropped_turns > 0 {
                output::note(&format!(
                    "The conversation is longer than the model can read; its oldest {} turns are left out from here on",
                    reply.dropped_turns
                ));
                break;
            }
        }
        let is_cut = exchange.answers.iter().any(|(_, reply)| reply.stop_reason == "length");
        if is_cut && self.options.form.is_some() {
            output::note("The answer is longer than it may be and is not complete; allow more with max_new_tokens");
        }
    }

    fn document(&self, exchange: &Exchange) -> serde_json::Value {
        let side = if self.conversation.columns == Columns::Base { Side::Base } else { Side::Tuned };
        let answer = exchange.answer_of(side).expect("this side was asked");
        let mut document = json!({
            "answer": answer.text,
            "prompt_tokens": answer.prompt_tokens,
            "reused_tokens": answer.reused_tokens,
            "generated_tokens": answer.tokens,
            "tokens_per_second": exchange.replies.tokens_per_second,
            "first_token_seconds": exchange.replies.first_token_seconds,
            "stop_reason": answer.stop_reason,
            "dropped_turns": answer.dropped_turns,
        });
        if let (Columns::Both, Some(base)) = (self.conversation.columns, exchange.answer_of(Side::Base)) {
            document["base"] = json!(base.text);
            document["base_stop_reason"] = json!(base.stop_reason);
        }
        if let Some(step) = exchange.replies.step {
            document["step"] = json!(step);
        }
        if let Some(id) = self.saved {
            document["conversation"] = json!(id);
        }
        document
    }

    /// Into the store. A conversation that cannot be kept is still a conversation.
    fn keep(&mut self, exchange: &Exchange) {
        let Some(store) = self.store.filter(|_| self.saves) else { return };
        let kept = (|| {
            let id = match self.saved {
                Some(id) => id,
                None => store.create_conversation(&NewConversation {
                    title: String::new(),
                    run: self.partner.run_id(),
                    model: self.partner.model.clone(),
                    adapter: self.partner.adapter_path(),
                    system: self.conversation.system().map(str::to_owned),
                })?,
            };
            self.saved = Some(id);
            store.add_messages(id, &exchange.messages())
        })();
        match kept {
            Ok(first) => self.last_question = Some(first),
            Err(fault) => {
                self.saves = false;
                output::note(&format!("The conversation is not kept: {}", fault.detail));
            }
        }
    }

    /// A conversation, one line a turn, until the end of input.
    fn until_the_end(&mut self) -> Result<u8> {
        interrupt::install();
        if let Some(memory) = self.partner.memory(self.base).filter(|_| !self.context.json) {
            output::note(&format!("Memory: {}", output::answer_memory(&memory)));
        }
        let is_watched = std::io::stdin().is_terminal();
        if is_watched {
            output::note("Ask something and press Enter; /help shows what else there is, an empty line or Ctrl-D ends");
        }
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if line.trim().is_empty() || interrupt::requested() {
                break;
            }
            let done = match line.strip_prefix('/') {
                Some(command) if !command.starts_with('/') => commands::run(self, command),
                // Two slashes are one that is said.
                said => self.ask(said.unwrap_or(&line)).map(|exchange| {
                    self.show(&exchange);
                    Next::Go
                }),
            };
            match done {
                Ok(Next::Go) => {}
                Ok(Next::End) => break,
                // A person can say something else; a script cannot.
                Err(fault) if is_watched => {
                    super::error::report(&fault, self.context.json);
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(0)
    }
}

/// Where a schema or a setting is impossible.
fn impossible(detail: impl Into<String>) -> Fault {
    Fault::new("PS-CFG-001", detail)
}
