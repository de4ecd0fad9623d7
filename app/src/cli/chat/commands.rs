//! What can be typed in a talk besides questions: lines that begin with a slash.

use super::{Talk, impossible, settings};
use crate::cli::output;
use crate::jobs::conversation::Columns;
use crate::jobs::kept;
use peft_plan::{Fault, Result};
use peft_storage::{Choice, Side};
use serde_json::json;
use std::path::Path;
use std::time::Instant;

/// Whether the talk goes on.
pub(super) enum Next {
    Go,
    End,
}

/// Name, argument and what it does.
const COMMANDS: [(&str, &str, &str); 12] = [
    ("help", "", "show this"),
    ("system", "[TEXT]", "show or change the standing instructions; `none` takes them away"),
    ("clear", "", "forget what was said; a new conversation begins"),
    ("set", "[KEY=VALUE]", "show or change how answers are chosen"),
    ("checkpoint", "N|best|last", "talk to another checkpoint of the run"),
    ("list", "", "the checkpoints of the run"),
    ("compare", "", "show the base beside the tuned model, or stop doing so"),
    ("vote", "base|tuned|both|neither", "say which answer to the last question was better"),
    ("history", "[WORDS]", "earlier conversations, or those with these words"),
    ("load", "ID", "go on with an earlier conversation"),
    ("save", "FILE", "write the conversation to a file, as an example to train on"),
    ("quit", "", "end; a line that begins with two slashes is said with one"),
];

/// Conversations in a list.
const LISTED: usize = 20;

/// Do what `line` says, which began with a slash.
pub(super) fn run(talk: &mut Talk, line: &str) -> Result<Next> {
    let (name, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let argument = argument.trim();
    match name {
        "help" => {
            for (name, argument, what) in COMMANDS {
                output::note(&format!("  {:<32} {what}", format!("/{name} {argument}")));
            }
        }
        "system" if argument.is_empty() => {
            output::note(talk.conversation.system().unwrap_or("There are no standing instructions"));
        }
        "system" => talk.conversation.set_system((argument != "none").then(|| argument.to_owned())),
        "clear" => {
            talk.conversation.clear();
            talk.saved = None;
            talk.last_question = None;
        }
        "set" if argument.is_empty() => output::note(&settings::shown(&talk.options)),
        "set" => settings::set(&mut talk.options, argument)?,
        "checkpoint" if argument.is_empty() => {
            return Err(impossible("Name a checkpoint: /checkpoint N, best or last"));
        }
        "checkpoint" => {
            let begun = Instant::now();
            let Talk { context, store, base, partner, voice, .. } = talk;
            partner.switch(context, *store, base, voice, argument)?;
            output::note(&format!("Switched in {:.0} ms", begun.elapsed().as_secs_f64() * 1000.0));
            if talk.conversation.columns == Columns::Base {
                talk.conversation.columns = Columns::Tuned;
            }
        }
        "list" => list(talk)?,
        "compare" => {
            if !(talk.partner.is_tuned() && talk.partner.has_base()) {
                return Err(impossible("There is no adapter, so there is nothing to compare the base with"));
            }
            let both = talk.conversation.columns == Columns::Both;
            talk.conversation.columns = if both { Columns::Tuned } else { Columns::Both };
        }
        "vote" => vote(talk, argument)?,
        "history" => history(talk, argument)?,
        "load" => load(talk, argument)?,
        "save" => save(talk, argument)?,
        "quit" | "exit" => return Ok(Next::End),
        other => {
            return Err(Fault::new(
                "PS-CFG-002",
                format!("There is no command `/{other}`; /help shows those that there are"),
            ));
        }
    }
    Ok(Next::Go)
}

fn list(talk: &Talk) -> Result<()> {
    let run = talk.partner.run_or_fault()?;
    let best = talk.store.map(|store| kept::best_step(store, run)).transpose()?.flatten();
    let kept = kept::list(run);
    if kept.is_empty() {
        output::note("The run has kept no checkpoint yet");
    }
    for one in kept {
        let mark = if best == Some(one.step) { "  the lowest held-out loss" } else { "" };
        output::note(&format!("  step {:<8} {}{mark}", one.step, output::bytes(one.bytes)));
    }
    Ok(())
}

fn vote(talk: &Talk, word: &str) -> Result<()> {
    let choice: Choice = serde_json::from_value(json!(word))
        .map_err(|_| impossible(format!("`{word}` is no vote; votes are base, tuned, both and neither")))?;
    let (Some(store), Some(id), Some(question)) = (talk.store, talk.saved, talk.last_question) else {
        return Err(impossible("There is nothing to vote on: ask something first, in a conversation that is kept"));
    };
    store.vote(id, question, Some(choice))
}

fn history(talk: &Talk, words: &str) -> Result<()> {
    let Some(store) = talk.store else { return Err(impossible("Conversations are not kept here")) };
    let found = store.conversations((!words.is_empty()).then_some(words), LISTED)?;
    if found.is_empty() {
        output::note("No conversation was found");
    }
    for one in found {
        let line = format!("  {:<6} {}  ({} messages, {})", one.id, one.title, one.messages, one.model);
        output::note(&output::printable(&line));
    }
    Ok(())
}

fn load(talk: &mut Talk, id: &str) -> Result<()> {
    let id: i64 =
        id.parse().map_err(|_| impossible(format!("`{id}` is no number; /history shows those that there are")))?;
    let Some(store) = talk.store else { return Err(impossible("Conversations are not kept here")) };
    let (conversation, messages) = store.conversation(id)?;
    talk.conversation.set_system(conversation.system);
    talk.conversation.restore(&messages);
    talk.saved = Some(id);
    talk.last_question = None;
    output::note(&output::printable(&format!("Going on with `{}`, {} messages", conversation.title, messages.len())));
    Ok(())
}

/// One line of a dataset: what the tuned model said, or what the base did.
fn save(talk: &Talk, file: &str) -> Result<()> {
    if file.is_empty() {
        return Err(impossible("Name a file: /save FILE"));
    }
    let side = if talk.conversation.columns == Columns::Base { Side::Base } else { Side::Tuned };
    let turns = talk.conversation.turns(side);
    let messages: Vec<_> = turns.iter().map(|t| json!({"role": t.role.as_str(), "content": t.content})).collect();
    let path = Path::new(file);
    let text = format!("{}\n", json!({ "messages": messages }));
    durable::write_file(path, text.as_bytes()).map_err(|e| Fault::io("write", path, e))?;
    output::note(&format!("Written to {}", path.display()));
    Ok(())
}
