//! Many questions at once: waits, limits, a budget, and an end to everything.
//!
//! Threads ask; the caller's thread judges what comes and keeps it, one answer after the other, so that a store needs no
//! locks and what was kept is never behind what was told. A question that fails for a while is asked again; after too
//! many failures in a row without one answer the service is taken for broken.

use crate::budget::{Budget, Price};
use peft_plan::helper::{Helper, Question, Reach, Said, Setback};
use peft_plan::{Fault, Result, Turn};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks at whether the person had enough.
const TICK: Duration = Duration::from_millis(100);
/// Longest wait that a service may ask for.
const LONGEST_WAIT: Duration = Duration::from_mins(10);
/// How often in a row a service may ask to wait.
const MOST_WAITS: u32 = 60;

/// How questions are asked.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Questions at the same time.
    pub at_once: usize,
    /// Tries of one question that fail for a while.
    pub tries: u32,
    /// Wait before the second try; doubled each time, up to 64 times.
    pub first_wait: Duration,
    /// Questions a minute, if there is a limit.
    pub per_minute: Option<u32>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { at_once: 2, tries: 6, first_wait: Duration::from_millis(500), per_minute: None }
    }
}

/// One question, ready to be asked by any thread.
#[derive(Clone, Debug)]
pub struct Ask {
    /// What it belongs to, by a name that is the same tomorrow.
    pub unit: String,
    /// Counts the questions about this unit, from 0.
    pub round: u32,
    /// The conversation.
    pub turns: Vec<Turn>,
    /// What the answer must fit.
    pub schema: Option<Arc<Value>>,
    /// Longest answer, tokens.
    pub max_new_tokens: usize,
    /// 0 takes the likeliest token each time.
    pub temperature: f32,
    /// Another one gives another answer.
    pub seed: u64,
}

/// What there is to ask, and what becomes of the answers.
pub trait Work {
    /// The next question; `None` where all were asked.
    fn next(&mut self) -> Option<Ask>;

    /// An answer and what it cost; another question about the same unit, if that can help. It is kept when this returns.
    fn answered(&mut self, ask: &Ask, said: &Said, cost: f64) -> Result<Option<Ask>>;

    /// No answer came.
    fn gave_up(&mut self, ask: &Ask, why: &Setback) -> Result<()>;

    /// How far it is.
    fn progress(&self) -> Progress;
}

/// How far the work is, what earlier processes did included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Units in all.
    pub units: usize,
    /// Units about which nothing more is asked.
    pub over: usize,
    /// Rows that were made.
    pub rows: usize,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Nothing is left to ask.
    Done,
    /// The person had enough.
    Stopped,
    /// The next question could cost more than is left.
    Budget,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tally {
    /// How it ended.
    pub end: End,
    /// Questions that were asked.
    pub calls: u64,
    /// Questions that were answered.
    pub answers: u64,
    /// Questions that were never answered.
    pub given_up: u64,
    /// Setbacks by their kind.
    pub setbacks: BTreeMap<&'static str, u64>,
    /// USD spent, earlier calls included.
    pub spent: f64,
    /// Tokens of questions and of answers.
    pub tokens: (u64, u64),
}

/// What is told while it goes on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// An answer was kept.
    Answered {
        /// The unit.
        unit: String,
        /// USD spent so far.
        spent: f64,
        /// How far it is.
        #[serde(flatten)]
        progress: Progress,
    },
    /// A question failed and is asked again.
    Waiting {
        /// How long.
        seconds: f64,
        /// Why.
        reason: String,
    },
    /// A question is not asked again.
    GaveUp {
        /// The unit.
        unit: String,
        /// Why.
        reason: String,
    },
}

/// A question that waits for its time.
struct Due {
    ask: Ask,
    tries: u32,
    from: Instant,
}

/// What the threads share.
struct Desk {
    due: Vec<Due>,
    next_start: Instant,
    budget: Budget,
    /// Questions that are asked at this moment, and how many may be.
    under_way: usize,
    at_once: usize,
    /// Nothing more is asked.
    is_over: bool,
    /// The budget refused a question.
    is_spent: bool,
}

struct Answer {
    due: Due,
    most: f64,
    result: Result<Said, Setback>,
}

struct Shared {
    desk: Mutex<Desk>,
    bell: Condvar,
    halts: AtomicBool,
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        // A thread that panicked left whole values behind: each change is one statement.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ask all of `work` with `model`. `halt` says that the person had enough; what was kept stays. The fault of a setback
/// that ends everything comes back after the answers that were under way.
pub fn run(
    helper: &dyn Helper,
    model: &str,
    work: &mut dyn Work,
    (pace, price, budget): (Pace, Price, Budget),
    halt: &dyn Fn() -> bool,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Tally> {
    let now = Instant::now();
    let at_once = pace.at_once.max(1);
    let desk =
        Desk { due: Vec::new(), next_start: now, budget, under_way: 0, at_once, is_over: false, is_spent: false };
    let shared = Shared { desk: Mutex::new(desk), bell: Condvar::new(), halts: AtomicBool::new(false) };
    let (sender, receiver) = channel();
    thread::scope(|scope| {
        for _ in 0..pace.at_once.max(1) {
            let (sender, shared) = (sender.clone(), &shared);
            scope.spawn(move || worker(helper, model, (pace, price), shared, &sender));
        }
        drop(sender);
        let mut lead = Lead::new(helper, pace, price, &shared, budget.spent());
        let result = lead.run(work, &receiver, halt, on_event);
        // However it ended, no thread may wait for more.
        shared.desk().is_over = true;
        if result.is_err() {
            shared.halts.store(true, Ordering::SeqCst);
        }
        shared.bell.notify_all();
        result
    })
}

/// Takes what is due and asks it, until nothing more will come.
fn worker(helper: &dyn Helper, model: &str, (pace, price): (Pace, Price), shared: &Shared, answers: &Sender<Answer>) {
    while let Some((due, most)) = take(shared, pace, price) {
        let Ask { turns, schema, max_new_tokens, temperature, seed, .. } = &due.ask;
        let (max_new_tokens, temperature, seed) = (*max_new_tokens, *temperature, *seed);
        let question = Question { turns, schema: schema.as_deref(), max_new_tokens, temperature, seed };
        let has_enough = || shared.halts.load(Ordering::SeqCst);
        let mut listen = |_: &str| if has_enough() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let result = helper.ask(model, &question, &mut listen);
        if answers.send(Answer { due, most, result }).is_err() {
            return;
        }
    }
}

fn take(shared: &Shared, pace: Pace, price: Price) -> Option<(Due, f64)> {
    let mut desk = shared.desk();
    loop {
        if desk.is_over || desk.is_spent {
            return None;
        }
        if desk.under_way >= desk.at_once {
            let waited = shared.bell.wait_timeout(desk, TICK);
            desk = waited.unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        let now = Instant::now();
        let first = (0..desk.due.len()).min_by_key(|index| desk.due[*index].from);
        let ready = first.filter(|index| desk.due[*index].from.max(desk.next_start) <= now);
        if let Some(index) = ready {
            let most = most(&desk.due[index].ask, price);
            if desk.budget.reserve(most) {
                if let Some(minute) = pace.per_minute {
                    desk.next_start = now + Duration::from_mins(1) / minute.max(1);
                }
                desk.under_way += 1;
                return Some((desk.due.swap_remove(index), most));
            }
            if desk.budget.is_settled() {
                desk.is_spent = true;
                return None;
            }
            // What is under way may turn out to be cheap.
            let waited = shared.bell.wait_timeout(desk, Duration::from_millis(5));
            desk = waited.unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        let until =
            first.map_or(TICK, |index| desk.due[index].from.max(desk.next_start).saturating_duration_since(now));
        let waited = shared.bell.wait_timeout(desk, until.clamp(Duration::from_millis(1), TICK));
        desk = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// The most that a question can cost.
fn most(ask: &Ask, price: Price) -> f64 {
    let characters = ask.turns.iter().map(|turn| turn.content.len()).sum();
    price.most(characters, ask.max_new_tokens)
}

/// The caller's thread.
struct Lead<'a> {
    helper: &'a dyn Helper,
    pace: Pace,
    price: Price,
    shared: &'a Shared,
    tally: Tally,
    /// Questions that were handed out or wait, and are not over.
    open: usize,
    is_drained: bool,
    /// Setbacks since the last answer.
    in_a_row: usize,
    /// Requests to wait since the last answer.
    waits: u32,
    /// What ends everything, told when the answers that are under way have come: they are paid for.
    fault: Option<Fault>,
}

impl<'a> Lead<'a> {
    fn new(helper: &'a dyn Helper, pace: Pace, price: Price, shared: &'a Shared, spent: f64) -> Self {
        let tally = Tally {
            end: End::Done,
            calls: 0,
            answers: 0,
            given_up: 0,
            setbacks: BTreeMap::new(),
            spent,
            tokens: (0, 0),
        };
        Self { helper, pace, price, shared, tally, open: 0, is_drained: false, in_a_row: 0, waits: 0, fault: None }
    }

    fn run(
        &mut self,
        work: &mut dyn Work,
        answers: &Receiver<Answer>,
        halt: &dyn Fn() -> bool,
        on_event: &mut dyn FnMut(&Event),
    ) -> Result<Tally> {
        loop {
            self.fill(work);
            if self.open == 0 {
                return self.end();
            }
            if halt() && self.tally.end == End::Done {
                self.tally.end = End::Stopped;
                self.shared.halts.store(true, Ordering::SeqCst);
                self.close();
            }
            match answers.recv_timeout(TICK) {
                Ok(answer) => self.receive(work, answer, on_event)?,
                Err(RecvTimeoutError::Timeout) => self.look_at_budget(),
                Err(RecvTimeoutError::Disconnected) => {
                    self.look_at_budget();
                    return self.end();
                }
            }
        }
    }

    fn end(&mut self) -> Result<Tally> {
        self.fault.take().map_or_else(|| Ok(self.tally.clone()), Err)
    }

    /// Questions are still handed out.
    fn is_going(&self) -> bool {
        self.tally.end == End::Done && self.fault.is_none()
    }

    /// Nothing will be answered any more.
    fn fail(&mut self, setback: Setback) {
        // A service that is broken would keep us waiting for what is under way.
        if setback.reach() == Reach::Again {
            self.shared.halts.store(true, Ordering::SeqCst);
        }
        let fault = setback.into_fault(&self.helper.who(), self.helper.service());
        self.fault.get_or_insert(fault);
        self.close();
    }

    /// As many questions as the threads can take soon: the others need not be in memory.
    fn fill(&mut self, work: &mut dyn Work) {
        while !self.is_drained && self.open < self.pace.at_once.max(1) * 2 {
            match work.next() {
                Some(ask) => self.put(ask, 0, Instant::now()),
                None => self.is_drained = true,
            }
        }
    }

    fn put(&mut self, ask: Ask, tries: u32, from: Instant) {
        self.shared.desk().due.push(Due { ask, tries, from });
        self.open += 1;
        self.shared.bell.notify_one();
    }

    /// Nothing that waits is asked any more.
    fn close(&mut self) {
        self.is_drained = true;
        let mut desk = self.shared.desk();
        self.open -= desk.due.len();
        desk.due.clear();
    }

    fn look_at_budget(&mut self) {
        if self.shared.desk().is_spent && self.tally.end == End::Done {
            self.tally.end = End::Budget;
            self.close();
        }
    }

    fn receive(&mut self, work: &mut dyn Work, answer: Answer, on_event: &mut dyn FnMut(&Event)) -> Result<()> {
        let Answer { due, most, result } = answer;
        self.open -= 1;
        self.tally.calls += 1;
        let cost = result.as_ref().map_or(0.0, |said| self.price.cost(said));
        let spent = {
            let mut desk = self.shared.desk();
            desk.budget.settle(most, cost);
            desk.under_way -= 1;
            self.shared.bell.notify_one();
            desk.budget.spent()
        };
        self.tally.spent = spent;
        match result {
            Ok(said) => {
                (self.in_a_row, self.waits) = (0, 0);
                self.tally.answers += 1;
                self.tally.tokens.0 += said.prompt_tokens;
                self.tally.tokens.1 += said.generated_tokens;
                let again = work.answered(&due.ask, &said, cost)?;
                on_event(&Event::Answered { unit: due.ask.unit, spent, progress: work.progress() });
                if let Some(ask) = again.filter(|_| self.is_going()) {
                    self.put(ask, 0, Instant::now());
                }
                Ok(())
            }
            Err(setback) => self.set_back(work, due, setback, on_event),
        }
    }

    fn set_back(
        &mut self,
        work: &mut dyn Work,
        due: Due,
        setback: Setback,
        on_event: &mut dyn FnMut(&Event),
    ) -> Result<()> {
        if setback == Setback::Enough {
            return Ok(());
        }
        *self.tally.setbacks.entry(setback.kind()).or_default() += 1;
        let asked_wait = match &setback {
            Setback::TooMany(wait) => Some(*wait),
            _ => None,
        };
        self.waits += u32::from(asked_wait.is_some());
        let is_too_long = matches!(asked_wait, Some(Some(wait)) if wait > LONGEST_WAIT) || self.waits > MOST_WAITS;
        if setback.reach() == Reach::Everything || is_too_long {
            self.fail(setback);
            return Ok(());
        }
        if setback.reach() == Reach::Again {
            // A service that asks to wait works.
            self.in_a_row += usize::from(asked_wait.is_none());
            if self.in_a_row >= self.pace.at_once * 3 + 9 {
                self.fail(setback);
                return Ok(());
            }
            if matches!(setback, Setback::Broken(_)) && self.in_a_row > self.pace.at_once {
                // Some services drop an answer when the next question comes.
                self.shared.desk().at_once = 1;
            }
            // A wait that was asked for is no failure of this question.
            let tries = due.tries + u32::from(asked_wait.is_none());
            if tries < self.pace.tries && self.is_going() {
                let doubled = self.pace.first_wait * 2_u32.saturating_pow(due.tries.max(self.waits).min(6));
                let wait = asked_wait.flatten().unwrap_or(doubled);
                on_event(&Event::Waiting { seconds: wait.as_secs_f64(), reason: setback.reason() });
                let from = Instant::now() + wait;
                if asked_wait.is_some() {
                    // The others would only hear the same.
                    let mut desk = self.shared.desk();
                    desk.next_start = desk.next_start.max(from);
                }
                self.put(due.ask, tries, from);
                return Ok(());
            }
        }
        self.tally.given_up += 1;
        work.gave_up(&due.ask, &setback)?;
        on_event(&Event::GaveUp { unit: due.ask.unit, reason: setback.reason() });
        Ok(())
    }
}
