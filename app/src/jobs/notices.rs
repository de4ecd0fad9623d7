//! What a run tells the desktop (S4.12): notifications at each quarter, at its end and when it breaks, and progress
//! on the launcher.
//!
//! What is said is decided here from events alone; how it gets to the person is the desktop's matter.

use super::desktop::{Courier, Message};
use crate::cli::progress::Receiver;
use peft_plan::{Fault, Finished, Result, RunEvent};
use peft_storage::Store;
use serde::Serialize;
use serde_json::Value;

/// What kind of news it is; each can be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A quarter is done.
    Progress,
    /// The run is complete.
    Completion,
    /// The run broke, or was halted because something is wrong.
    Error,
}

/// One notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What kind of news.
    pub kind: Kind,
    /// One line, plain text.
    pub summary: String,
    /// A few lines, plain text.
    pub body: String,
    /// Whether a sound goes with it.
    pub sound: bool,
}

/// What a person wants to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Preferences {
    /// Anything at all.
    pub enabled: bool,
    /// 25, 50 and 75 %.
    pub progress: bool,
    /// The end of a run.
    pub completion: bool,
    /// Errors.
    pub errors: bool,
    /// A sound with the end of a run.
    pub sound: bool,
    /// Progress on the launcher.
    pub launcher: bool,
}

impl Default for Preferences {
    fn default() -> Self {
        Self { enabled: true, progress: true, completion: true, errors: true, sound: true, launcher: true }
    }
}

impl Preferences {
    /// The names of the settings, without what comes before each of them in the store.
    pub const NAMES: [&'static str; 6] = ["enabled", "progress", "completion", "errors", "sound", "launcher"];

    /// What was chosen; what was not, or cannot be read, is on.
    pub fn chosen(store: &Store) -> Result<Self> {
        let mut preferences = Self::default();
        for name in Self::NAMES {
            if let Some(Value::Bool(on)) = store.setting(&key(name))? {
                *preferences.field(name) = on;
            }
        }
        Ok(preferences)
    }

    /// Chooses one of [`Self::NAMES`].
    pub fn choose(store: &Store, name: &str, on: bool) -> Result<()> {
        store.choose(&key(name), Some(&Value::Bool(on)))
    }

    fn field(&mut self, name: &str) -> &mut bool {
        match name {
            "progress" => &mut self.progress,
            "completion" => &mut self.completion,
            "errors" => &mut self.errors,
            "sound" => &mut self.sound,
            "launcher" => &mut self.launcher,
            _ => &mut self.enabled,
        }
    }

    fn wants(self, kind: Kind) -> bool {
        match kind {
            Kind::Progress => self.progress,
            Kind::Completion => self.completion,
            Kind::Error => self.errors,
        }
    }
}

fn key(name: &str) -> String {
    format!("notifications.{name}")
}

/// Tells the desktop about one run.
pub struct Notices {
    teller: Teller,
    preferences: Preferences,
    courier: Courier,
}

/// For a run called `name`; `None` where there is no desktop or nobody wants to be told. `wish` is what was said for
/// this run, over the settings.
pub fn follow(store: &Store, name: &str, wish: Option<bool>, total_steps: u64) -> Option<Notices> {
    // Preferences that cannot be read are no reason not to train.
    let preferences = Preferences::chosen(store).unwrap_or_default();
    if !wish.unwrap_or(preferences.enabled) {
        return None;
    }
    Some(Notices { teller: Teller::new(name, total_steps), preferences, courier: Courier::reach()? })
}

impl Receiver for Notices {
    fn receive(&mut self, event: &RunEvent) -> Result<(), Fault> {
        let Preferences { sound, launcher, .. } = self.preferences;
        for message in self.teller.tell(event) {
            match message {
                Message::Notice(notice) if self.preferences.wants(notice.kind) => {
                    self.courier.send(Message::Notice(Notice { sound: notice.sound && sound, ..notice }));
                }
                Message::Notice(_) => {}
                progress if launcher => self.courier.send(progress),
                _ => {}
            }
        }
        // What becomes of it is no matter of the run.
        Ok(())
    }
}

/// Decides what is worth telling.
struct Teller {
    name: String,
    total_steps: u64,
    /// Quarters that were told, or done before anybody listened.
    quarters: u64,
    percent: Option<u8>,
    /// The latest thing that went wrong, and when.
    anomaly: Option<(u64, String)>,
    step: u64,
}

impl Teller {
    fn new(name: &str, total_steps: u64) -> Self {
        // A name may hold anything, and a summary is one line.
        let name: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).take(80).collect();
        Self { name, total_steps: total_steps.max(1), quarters: 0, percent: None, anomaly: None, step: 0 }
    }

    fn tell(&mut self, event: &RunEvent) -> Vec<Message> {
        match event {
            RunEvent::Started(_) => self.progress(0),
            RunEvent::Resumed { step } => {
                self.quarters = self.quarters.max(self.quarter(*step));
                self.progress(*step)
            }
            RunEvent::Step(metrics) => {
                let mut messages = self.progress(metrics.step);
                let quarter = self.quarter(metrics.step);
                // The last quarter is told with what came out.
                if quarter > self.quarters && quarter < 4 {
                    self.quarters = quarter;
                    let body = format!("Step {} of {}, loss {:.4}", metrics.step, self.total_steps, metrics.loss);
                    let summary = format!("{}: {} % done", self.name, 25 * quarter);
                    messages.push(Message::Notice(Notice { kind: Kind::Progress, summary, body, sound: false }));
                }
                messages
            }
            RunEvent::Anomaly { step, kind, message, taken, .. } => {
                self.anomaly = Some((*step, message.clone()));
                if kind == "memory_pressure" {
                    let summary = format!("{}: memory is nearly full", self.name);
                    let body = format!("{message}. In answer: {taken}.");
                    return vec![Message::Notice(Notice { kind: Kind::Progress, summary, body, sound: false })];
                }
                Vec::new()
            }
            RunEvent::Paused { step } => match self.anomaly.take() {
                // Nobody asked for this pause.
                Some((at, message)) if at >= *step => {
                    let body = format!("{message}. Everything up to step {step} is saved.");
                    self.over(true, Some(self.error("was paused", body)))
                }
                _ => self.over(false, None),
            },
            RunEvent::Stopped { .. } => self.over(false, None),
            RunEvent::Finished(end) => self.over(false, Some(self.completion(end))),
            RunEvent::Failed { error } => {
                let text = |field: &str| error[field].as_str().unwrap_or_default().to_owned();
                let (title, detail) = (text("title"), text("detail"));
                self.over(true, Some(self.error("stopped with an error", format!("{title}. {detail}"))))
            }
            #[allow(unreachable_patterns, reason = "what is for the window only is no news for the desktop")]
            _ => Vec::new(),
        }
    }

    fn quarter(&self, step: u64) -> u64 {
        (u128::from(step) * 4 / u128::from(self.total_steps)).min(4) as u64
    }

    /// The launcher has room for whole per cents.
    fn progress(&mut self, step: u64) -> Vec<Message> {
        self.step = step;
        let percent = (u128::from(step) * 100 / u128::from(self.total_steps)).min(100) as u8;
        if self.percent.replace(percent) == Some(percent) {
            return Vec::new();
        }
        vec![Message::Progress(percent)]
    }

    fn over(&mut self, urgent: bool, notice: Option<Notice>) -> Vec<Message> {
        self.percent = None;
        notice.map(Message::Notice).into_iter().chain([Message::Over { urgent }]).collect()
    }

    fn error(&self, what: &str, body: String) -> Notice {
        Notice { kind: Kind::Error, summary: format!("{} {what}", self.name), body, sound: false }
    }

    fn completion(&self, end: &Finished) -> Notice {
        let Finished { step, loss, validation_loss, quality_score, .. } = end;
        let held_out = validation_loss.map(|loss| format!("held-out loss {loss:.4}"));
        let quality = quality_score.map(|score| format!("quality {score:.0} of 100"));
        let parts = [Some(format!("{step} steps")), Some(format!("loss {loss:.4}")), held_out, quality];
        let body = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
        Notice { kind: Kind::Completion, summary: format!("{} is finished", self.name), body, sound: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peft_plan::{Interval, StepMetrics};
    use serde_json::json;

    fn step(step: u64) -> RunEvent {
        RunEvent::Step(StepMetrics {
            step,
            epoch: 0.0,
            loss: 1.5,
            gradient_norm: 1.0,
            learning_rate: 1e-4,
            tokens: 1,
            tokens_per_second: 1.0,
            memory_bytes: 1,
            eta_seconds: Interval { low: 1.0, expected: 1.0, high: 1.0 },
            preference: None,
        })
    }

    fn finished() -> RunEvent {
        let end = json!({"event": "finished", "step": 40, "seconds": 2.0, "loss": 1.25, "validation_loss": 1.5,
            "quality_score": 81.6, "suggestions": [], "adapter": "a", "version": 1});
        serde_json::from_value(end).expect("an event")
    }

    fn summaries(teller: &mut Teller, events: impl IntoIterator<Item = RunEvent>) -> Vec<String> {
        let messages = events.into_iter().flat_map(|event| teller.tell(&event)).collect::<Vec<_>>();
        let summary = |message| if let Message::Notice(notice) = message { Some(notice.summary) } else { None };
        messages.into_iter().filter_map(summary).collect()
    }

    #[test]
    fn each_quarter_is_told_once_and_the_last_one_with_the_result_s4_12_1() {
        for total in [4, 40, 1000] {
            let mut teller = Teller::new("bot", total);
            let told = summaries(&mut teller, (1..=total).map(step).chain([finished()]));
            assert_eq!(told, ["bot: 25 % done", "bot: 50 % done", "bot: 75 % done", "bot is finished"], "{total}");
        }
        assert_eq!(summaries(&mut Teller::new("b", 1), [step(1), finished()]), ["b is finished"]);
        assert_eq!(summaries(&mut Teller::new("b", 2), [step(1), step(2)]), ["b: 50 % done"]);
        let mut resumed = Teller::new("b", 100);
        let told = summaries(&mut resumed, [RunEvent::Resumed { step: 60 }, step(61), step(75), step(76)]);
        assert_eq!(told, ["b: 75 % done"], "what was done before was told before");
        assert_eq!(summaries(&mut resumed, [RunEvent::Resumed { step: 10 }, step(50)]), [""; 0], "nor twice");
    }

    #[test]
    fn an_error_is_told_with_its_summary_and_a_pause_only_if_nobody_asked_for_it_s4_12_2() {
        let mut teller = Teller::new("bot\n\u{1b}", 10);
        let error = json!({"code": "PS-DISK-002", "title": "The disk is full", "detail": "No room for step 3"});
        let messages = teller.tell(&RunEvent::Failed { error });
        let [Message::Notice(notice), Message::Over { urgent: true }] = &messages[..] else { panic!("{messages:?}") };
        assert_eq!((notice.kind, notice.summary.as_str()), (Kind::Error, "bot   stopped with an error"));
        assert_eq!(notice.body, "The disk is full. No room for step 3");
        assert_eq!(teller.tell(&RunEvent::Paused { step: 3 }), [Message::Over { urgent: false }]);
        teller.tell(&RunEvent::anomaly(3, "divergence", "The loss is climbing".to_owned(), "paused".to_owned()));
        let messages = teller.tell(&RunEvent::Paused { step: 3 });
        let [Message::Notice(notice), Message::Over { urgent: true }] = &messages[..] else { panic!("{messages:?}") };
        assert!(notice.body.starts_with("The loss is climbing"), "{notice:?}");
    }

    #[test]
    fn the_end_has_a_summary_and_a_sound_and_the_launcher_whole_per_cents_s4_12_3_s4_12_4() {
        let mut teller = Teller::new("bot", 1000);
        let messages = teller.tell(&finished());
        let [Message::Notice(notice), Message::Over { urgent: false }] = &messages[..] else { panic!("{messages:?}") };
        assert!(notice.sound && notice.kind == Kind::Completion);
        assert_eq!(notice.body, "40 steps, loss 1.2500, held-out loss 1.5000, quality 82 of 100");
        let per_cents = (1..=1000).flat_map(|number| teller.tell(&step(number)));
        let per_cents: Vec<_> = per_cents.filter(|message| matches!(message, Message::Progress(_))).collect();
        assert_eq!(per_cents.len(), 101);
        assert_eq!(per_cents.last(), Some(&Message::Progress(100)));
    }

    #[test]
    fn each_kind_has_its_own_setting() {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        assert_eq!(Preferences::chosen(&store).expect("readable"), Preferences::default());
        for name in Preferences::NAMES {
            Preferences::choose(&store, name, false).expect("chosen");
            let shown = serde_json::to_value(Preferences::chosen(&store).expect("readable")).expect("plain");
            for other in Preferences::NAMES {
                assert_eq!(shown[other], other != name, "{name}: {shown}");
            }
            Preferences::choose(&store, name, true).expect("chosen");
        }
        let quiet = Preferences { progress: false, ..Preferences::default() };
        assert!(!quiet.wants(Kind::Progress) && quiet.wants(Kind::Error));
        Preferences::choose(&store, "enabled", false).expect("chosen");
        assert!(follow(&store, "r", None, 1).is_none());
    }
}
