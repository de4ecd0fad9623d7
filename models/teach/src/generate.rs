//! Rows from chunks, or from a wish alone: what is asked, what is taken, and what is asked again.
//!
//! A unit is a chunk, or a batch of a wish without documents. It is over when it has the rows that were wanted, or when
//! asking again brought nothing. Every answer is kept with its rows in one step, so that a process that dies loses no row
//! and makes none twice.

use crate::chunk::Chunk;
use crate::engine::{Ask, Progress, Tally, Work};
use crate::key;
use crate::prompt::{Wish, turns};
use crate::reply::{Draft, drafts};
use crate::task::Task;
use crate::verdict::{Reason, Row, judge};
use peft_plan::helper::{Said, Setback};
use peft_plan::{Fault, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Questions about one chunk: it may not hold more.
const ROUNDS: u32 = 4;
/// Questions about one batch of a wish: there is always something else to ask.
const WISH_ROUNDS: u32 = 12;
/// Tokens of a row, and of what is around all of them.
const ROW_TOKENS: usize = 300;
const FRAME_TOKENS: usize = 200;

/// An answer and what was made of it.
#[derive(Debug)]
pub struct Kept<'a> {
    /// The unit.
    pub unit: &'a str,
    /// Counts the questions about the unit, from 0.
    pub round: u32,
    /// As it came; the reason where no answer came.
    pub raw: &'a str,
    /// `answered`, or the kind of setback.
    pub outcome: &'a str,
    /// USD.
    pub cost: f64,
    /// What was taken.
    pub rows: &'a [Row],
    /// What was not, and why.
    pub rejected: &'a [(Reason, Draft)],
    /// Nothing more is asked about the unit.
    pub is_over: bool,
}

/// Where answers and rows are kept.
pub trait Ledger {
    /// Keep all of it or nothing of it; it survives the end of the process when this returns.
    fn keep(&mut self, kept: &Kept) -> Result<()>;
}

/// What an earlier process left behind.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// Units about which nothing more is asked.
    pub over: HashSet<String>,
    /// For each unit that is not over: how often it was asked about.
    pub rounds: HashMap<String, u32>,
    /// The rows that were taken, with their units, in their order.
    pub rows: Vec<(String, Row)>,
    /// Questions that judge the trained model: no row may ask them.
    pub held_out: Vec<String>,
    /// Questions of rows that are there already: no row may ask them again.
    pub there: Vec<String>,
}

/// How answers are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// 0 takes the likeliest token each time.
    pub temperature: f32,
    /// Another one gives other rows.
    pub seed: u64,
    /// Longest answer, tokens; by the number of rows where none is named.
    pub max_new_tokens: Option<usize>,
}

/// Where the rows come from.
#[derive(Clone, Copy, Debug)]
pub enum Origin<'a> {
    /// So many rows for each of these.
    Chunks(&'a [Chunk]),
    /// So many rows in all, from the wish alone (S2.9).
    Wish(usize),
}

/// Making rows.
pub struct Generation<'a> {
    task: &'static Task,
    wish: &'a Wish,
    style: Style,
    origin: Origin<'a>,
    ledger: &'a mut dyn Ledger,
    /// The next unit, by its number.
    next: usize,
    over: HashSet<String>,
    rounds: HashMap<String, u32>,
    /// First questions of the rows of each unit that is being asked about, or of all where there is no chunk.
    asked: HashMap<String, Vec<String>>,
    known: BTreeSet<String>,
    held_out: BTreeSet<String>,
    accepted: usize,
    rejected: BTreeMap<Reason, u64>,
}

impl<'a> Generation<'a> {
    /// Goes on from `before`. PS-CFG-001 for a wish that means nothing.
    pub fn new(
        wish: &'a Wish,
        style: Style,
        origin: Origin<'a>,
        before: Before,
        ledger: &'a mut dyn Ledger,
    ) -> Result<Self> {
        let task = wish.check()?;
        if matches!(origin, Origin::Wish(_)) && wish.prompt.trim().is_empty() {
            return Err(Fault::new("PS-CFG-001", "Without documents say what is wanted, with `--prompt TEXT`."));
        }
        let Before { over, rounds, rows, held_out, there } = before;
        let mut asked: HashMap<String, Vec<String>> = HashMap::new();
        for (unit, row) in &rows {
            let question = row.exchanges.first().map(|(question, _)| question.clone()).unwrap_or_default();
            asked.entry(unit.clone()).or_default().push(question);
        }
        let mut known: BTreeSet<String> = rows.iter().map(|(_, row)| row.key()).collect();
        known.extend(there.iter().map(|question| Row::key_of(question)));
        let held_out = held_out.into_iter().map(|question| Row::key_of(&question)).collect();
        let accepted = rows.len();
        let rejected = BTreeMap::new();
        Ok(Self {
            task,
            wish,
            style,
            origin,
            ledger,
            next: 0,
            over,
            rounds,
            asked,
            known,
            held_out,
            accepted,
            rejected,
        })
    }

    /// Units in all.
    pub fn units(&self) -> usize {
        match self.origin {
            Origin::Chunks(chunks) => chunks.len(),
            Origin::Wish(total) => total.div_ceil(self.wish.pairs),
        }
    }

    /// Rows that were taken, those of earlier processes included.
    pub fn accepted(&self) -> usize {
        self.accepted
    }

    /// Rows that were not taken by this process, by reason.
    pub fn rejected(&self) -> &BTreeMap<Reason, u64> {
        &self.rejected
    }

    /// PS-OR-003 where it is over and there is not one row.
    pub fn check(&self, tally: &Tally, who: &str) -> Result<()> {
        if self.accepted > 0 || tally.end != crate::engine::End::Done {
            return Ok(());
        }
        if tally.calls == 0 {
            let detail =
                "All questions were asked before, and not one row of the answers could be used; `--restart` asks anew.";
            return Err(Fault::new("PS-OR-003", detail));
        }
        let counts = self.rejected.iter().map(|(reason, count)| {
            let name = serde_json::to_value(reason).ok();
            format!("{count} {}", name.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default())
        });
        let counts: Vec<String> = counts.collect();
        let why = if counts.is_empty() { "nothing in them was a row".to_owned() } else { counts.join(", ") };
        let detail = format!(
            "{who} answered {} of {} questions and not one row could be used: {why}.",
            tally.answers, tally.calls
        );
        Err(Fault::new("PS-OR-003", detail))
    }

    fn unit(&self, index: usize) -> String {
        match self.origin {
            Origin::Chunks(chunks) => key(&[self.task.name, &chunks[index].id, &chunks[index].text]),
            Origin::Wish(_) => format!("wish-{index:06}"),
        }
    }

    fn wanted(&self, index: usize) -> usize {
        match self.origin {
            Origin::Chunks(_) => self.wish.pairs,
            Origin::Wish(total) => self.wish.pairs.min(total - index * self.wish.pairs),
        }
    }

    /// The chunk of a unit, by its number.
    fn chunk(&self, index: usize) -> Option<&'a Chunk> {
        match self.origin {
            Origin::Chunks(chunks) => chunks.get(index),
            Origin::Wish(_) => None,
        }
    }

    fn ask(&self, index: usize, unit: &str, round: u32, is_again: bool) -> Ask {
        let own = self.asked.get(unit).map(Vec::as_slice).unwrap_or_default();
        let missing = self.wanted(index).saturating_sub(own.len()).max(1);
        let chunk = self.chunk(index);
        // Without a document the rows of all units are alike.
        let all: Vec<String>;
        let avoid = if chunk.is_some() {
            own
        } else {
            all = self.asked.values().flatten().cloned().collect();
            all.as_slice()
        };
        // Chunks make questions different; without them the seed does. A local model answers together what has one seed.
        let name = if chunk.is_some() { "" } else { unit };
        let seed = u64::from_str_radix(&key(&[name, &round.to_string()])[..8], 16).unwrap_or(0);
        Ask {
            turns: turns(self.task, self.wish, missing, chunk, avoid, is_again),
            schema: Some(Arc::new(self.task.schema(missing, chunk.is_some()))),
            max_new_tokens: self.style.max_new_tokens.unwrap_or(FRAME_TOKENS + ROW_TOKENS * missing),
            temperature: self.style.temperature,
            // OpenRouter and Ollama take seeds of 31 bits.
            seed: (self.style.seed ^ seed) & 0x7fff_ffff,
            unit: format!("{index}:{unit}"),
            round,
        }
    }

    /// The number of a unit, and its name.
    fn parts(unit: &str) -> (usize, &str) {
        let (index, name) = unit.split_once(':').unwrap_or(("0", unit));
        (index.parse().unwrap_or(0), name)
    }
}

impl Work for Generation<'_> {
    fn next(&mut self) -> Option<Ask> {
        while self.next < self.units() {
            let index = self.next;
            self.next += 1;
            let unit = self.unit(index);
            if self.over.contains(&unit) {
                continue;
            }
            let round = self.rounds.get(&unit).copied().unwrap_or(0);
            return Some(self.ask(index, &unit, round, round > 0));
        }
        None
    }

    fn answered(&mut self, ask: &Ask, said: &Said, cost: f64) -> Result<Option<Ask>> {
        let (index, unit) = Self::parts(&ask.unit);
        let (chunk, wanted) = (self.chunk(index), self.wanted(index));
        let mut have = self.asked.get(unit).map_or(0, Vec::len);
        let (mut rows, mut rejected) = (Vec::new(), Vec::new());
        let mut known_now = Vec::new();
        for draft in drafts(&said.text, self.task) {
            if have >= wanted {
                break;
            }
            match judge(draft.clone(), self.task.name, chunk, &self.known, &self.held_out) {
                Ok(row) => {
                    have += 1;
                    self.known.insert(row.key());
                    known_now.push(row.exchanges.first().map(|(question, _)| question.clone()).unwrap_or_default());
                    rows.push(row);
                }
                Err(reason) => rejected.push((reason, draft)),
            }
        }
        let most = if chunk.is_some() { ROUNDS } else { WISH_ROUNDS };
        let is_over = have >= wanted || ask.round + 1 >= most;
        let kept = Kept {
            unit,
            round: ask.round,
            raw: &said.text,
            outcome: "answered",
            cost,
            rows: &rows,
            rejected: &rejected,
            is_over,
        };
        self.ledger.keep(&kept)?;
        self.accepted += rows.len();
        for (reason, _) in &rejected {
            *self.rejected.entry(*reason).or_default() += 1;
        }
        let is_again = rows.is_empty();
        if is_over {
            self.over.insert(unit.to_owned());
        }
        self.asked.entry(unit.to_owned()).or_default().extend(known_now);
        if is_over {
            if chunk.is_some() {
                self.asked.remove(unit);
            }
            return Ok(None);
        }
        Ok(Some(self.ask(index, unit, ask.round + 1, is_again)))
    }

    fn gave_up(&mut self, ask: &Ask, why: &Setback) -> Result<()> {
        let (_, unit) = Self::parts(&ask.unit);
        // What a service declines it declines tomorrow; what failed for a while is asked again when this goes on.
        let is_over = why.reach() == peft_plan::helper::Reach::Question;
        let reason = why.reason();
        let kept = Kept {
            unit,
            round: ask.round,
            raw: &reason,
            outcome: why.kind(),
            cost: 0.0,
            rows: &[],
            rejected: &[],
            is_over,
        };
        self.ledger.keep(&kept)?;
        if is_over {
            self.over.insert(unit.to_owned());
        }
        Ok(())
    }

    fn progress(&self) -> Progress {
        Progress { units: self.units(), over: self.over.len().min(self.units()), rows: self.accepted }
    }
}
