//! A conversation that goes on: the base and the tuned model each see their own earlier answers.

use super::answer::{Answers, AskOptions, OnText, Replies, Reply};
use peft_plan::{Result, Role, Turn};
use peft_storage::{NewMessage, Side};
use serde_json::json;

/// Whose answers are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    /// The model without an adapter.
    Base,
    /// The model with its adapter.
    Tuned,
    /// Both, side by side.
    Both,
}

impl Columns {
    /// The columns, in the order in which they are asked and shown.
    pub fn sides(self) -> &'static [Side] {
        match self {
            Self::Base => &[Side::Base],
            Self::Tuned => &[Side::Tuned],
            Self::Both => &[Side::Base, Side::Tuned],
        }
    }
}

/// What one side has said and heard.
#[derive(Clone, Debug, Default)]
struct History {
    turns: Vec<Turn>,
    /// Turns before this one no longer fit.
    first: usize,
}

/// A conversation.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// Whose answers are asked for.
    pub columns: Columns,
    system: Option<String>,
    histories: [History; 2],
}

/// One question and its answers.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// What was asked.
    pub question: String,
    /// Whose answer and what it is.
    pub answers: Vec<(Side, Reply)>,
    /// How long it took, and more.
    pub replies: Replies,
}

impl Exchange {
    /// The answer of `side`.
    pub fn answer_of(&self, side: Side) -> Option<&Reply> {
        self.answers.iter().find(|(of, _)| *of == side).map(|(_, reply)| reply)
    }

    /// As the store keeps it.
    pub fn messages(&self) -> Vec<NewMessage> {
        let question =
            NewMessage { role: Role::User, side: None, content: self.question.clone(), details: json!(null) };
        let answer = |(side, reply): &(Side, Reply)| NewMessage {
            role: Role::Assistant,
            side: Some(*side),
            content: reply.text.clone(),
            details: json!({
                "stop_reason": reply.stop_reason,
                "generated_tokens": reply.tokens,
                "prompt_tokens": reply.prompt_tokens,
                "step": self.replies.step,
            }),
        };
        std::iter::once(question).chain(self.answers.iter().map(answer)).collect()
    }
}

impl Conversation {
    /// Nothing was said yet.
    pub fn new(columns: Columns, system: Option<String>) -> Self {
        Self { columns, system, histories: [History::default(), History::default()] }
    }

    /// Ask `question`; `on_text` hears pieces with the number of the column. A question that fails was never asked.
    pub fn say(
        &mut self,
        answers: &mut dyn Answers,
        question: &str,
        options: &AskOptions,
        on_text: &mut OnText,
    ) -> Result<Exchange> {
        let sides = self.columns.sides();
        let seen: Vec<Vec<Turn>> = sides.iter().map(|&side| self.seen(side, question)).collect();
        let asked: Vec<(&[Turn], bool)> =
            seen.iter().zip(sides).map(|(turns, &side)| (&turns[..], side == Side::Tuned)).collect();
        let replies = answers.ask(&asked, options, on_text)?;
        // A side that was not asked hears the question and the answer of the other.
        for side in [Side::Base, Side::Tuned] {
            let at = sides.iter().position(|&s| s == side);
            let reply = &replies.replies[at.unwrap_or(0)];
            let history = &mut self.histories[side as usize];
            if at.is_some() {
                history.first += reply.dropped_turns;
            }
            history.turns.push(Turn::new(Role::User, question));
            history.turns.push(Turn::new(Role::Assistant, reply.text.as_str()));
        }
        let answers = sides.iter().copied().zip(replies.replies.iter().cloned()).collect();
        Ok(Exchange { question: question.to_owned(), answers, replies })
    }

    /// What `side` is shown for `question`.
    fn seen(&self, side: Side, question: &str) -> Vec<Turn> {
        let History { turns, first } = &self.histories[side as usize];
        let system = self.system.iter().map(|text| Turn::new(Role::System, text.as_str()));
        system.chain(turns[*first..].iter().cloned()).chain([Turn::new(Role::User, question)]).collect()
    }

    /// The standing instructions.
    pub fn system(&self) -> Option<&str> {
        self.system.as_deref()
    }

    /// Other standing instructions from here on.
    pub fn set_system(&mut self, system: Option<String>) {
        self.system = system.filter(|text| !text.trim().is_empty());
        // There may be more room, or less.
        self.histories.iter_mut().for_each(|history| history.first = 0);
    }

    /// Forget what was said.
    pub fn clear(&mut self) {
        self.histories = [History::default(), History::default()];
    }

    /// Everything that `side` said and heard, standing instructions first.
    pub fn turns(&self, side: Side) -> Vec<Turn> {
        let system = self.system.iter().map(|text| Turn::new(Role::System, text.as_str()));
        system.chain(self.histories[side as usize].turns.iter().cloned()).collect()
    }

    /// Go on from what was kept: questions, and each side's answers where it has its own.
    pub fn restore(&mut self, messages: &[peft_storage::Message]) {
        self.clear();
        for side in [Side::Base, Side::Tuned] {
            let history = &mut self.histories[side as usize];
            let mut at = 0;
            while let Some(question) = messages[at..].iter().position(|m| m.role == Role::User).map(|i| at + i) {
                let end = messages[question + 1..]
                    .iter()
                    .position(|m| m.role == Role::User)
                    .map_or(messages.len(), |i| question + 1 + i);
                let answers = &messages[question + 1..end];
                let own = answers.iter().find(|m| m.side == Some(side)).or(answers.first());
                if let Some(answer) = own {
                    history.turns.push(Turn::new(Role::User, messages[question].content.as_str()));
                    history.turns.push(Turn::new(Role::Assistant, answer.content.as_str()));
                }
                at = end;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::ControlFlow;

    /// Answers with what it was shown, and can show a model only so many turns.
    struct Echo {
        room: usize,
        shown: Vec<usize>,
    }

    impl Answers for Echo {
        fn ask(&mut self, asked: &[(&[Turn], bool)], _: &AskOptions, on_text: &mut OnText) -> Result<Replies> {
            let reply = |(i, (turns, adapter)): (usize, &(&[Turn], bool))| {
                let dropped = turns.len().saturating_sub(self.room).next_multiple_of(2);
                self.shown.push(turns.len() - dropped);
                let text = format!("{}{}", if *adapter { "t" } else { "b" }, turns.len());
                let _go = on_text(i, &text);
                Reply {
                    text,
                    tokens: 1,
                    stop_reason: "stop".to_owned(),
                    prompt_tokens: turns.len(),
                    reused_tokens: 0,
                    dropped_turns: dropped,
                }
            };
            let replies: Vec<Reply> = asked.iter().enumerate().map(reply).collect();
            Ok(Replies { replies, prompt_tokens: 0, first_token_seconds: 0.0, tokens_per_second: 0.0, step: None })
        }
    }

    #[test]
    fn each_side_sees_its_own_answers_and_a_long_talk_stays_short() {
        let mut echo = Echo { room: 9, shown: Vec::new() };
        let mut talk = Conversation::new(Columns::Both, Some("Be kind".to_owned()));
        let mut quiet = |_: usize, _: &str| ControlFlow::Continue(());
        for _ in 0..200 {
            talk.say(&mut echo, "And?", &AskOptions::default(), &mut quiet).expect("answered");
        }
        assert!(echo.shown.iter().all(|&shown| shown <= 9), "{:?}", echo.shown);
        let (base, tuned) = (talk.turns(Side::Base), talk.turns(Side::Tuned));
        assert_eq!((base.len(), base[0].role), (401, Role::System));
        assert_eq!((base[2].content.as_str(), tuned[2].content.as_str()), ("b2", "t2"));
    }
}
