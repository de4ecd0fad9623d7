//! `runs log`: what a run said, from its own file, and what it still says while it lives.

use super::context::Context;
use super::output::{self, printable};
use super::quantity::{bytes, interval, measured};
use crate::jobs::run::find;
use crate::jobs::tail::EventTail;
use peft_plan::{Evaluation, Result, RunEvent, StepMetrics};
use peft_storage::RunLock;
use std::time::Duration;

/// How often a live run is looked at.
const LOOK: Duration = Duration::from_millis(200);

pub(super) fn run(context: &Context, name: &str, follow: bool) -> Result<()> {
    let run = find(&context.store()?, name)?;
    let mut tail = EventTail::new(&run.directory);
    loop {
        // Whether it lives is asked before reading: what it wrote last is then read, too.
        let lives = RunLock::is_held(&run.directory);
        tail.read(|line| {
            tell(context, line);
            !output::is_unread()
        })?;
        if !follow || !lives || output::is_unread() {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
}

fn tell(context: &Context, line: &str) {
    if context.json {
        output::line(line);
    } else if let Ok(event) = serde_json::from_str::<RunEvent>(line)
        && let Some(text) = for_people(&event)
    {
        output::line(&printable(&text));
    }
}

/// An event as a line; none for what is no line of a log.
pub(crate) fn for_people(event: &RunEvent) -> Option<String> {
    Some(match event {
        RunEvent::Started(started) => format!(
            "Started {}: {} steps, {} examples, {} held out",
            started.name, started.total_steps, started.examples, started.validation_examples
        ),
        RunEvent::Step(StepMetrics { step, loss, tokens_per_second, eta_seconds, .. }) => {
            format!("Step {step}: loss {loss:.4}, {tokens_per_second:.0} tokens/s, {} left", interval(eta_seconds))
        }
        RunEvent::Evaluation(Evaluation { step, loss, token_accuracy, .. }) => {
            format!("Step {step}: held-out loss {loss:.4}, {:.1}% of tokens right", 100.0 * token_accuracy)
        }
        RunEvent::Checkpoint { step, bytes: size, .. } => {
            format!("Step {step}: saved a checkpoint of {}", bytes(*size))
        }
        RunEvent::Anomaly { step, message, taken, .. } => format!("Step {step}: {message}. {taken}"),
        RunEvent::Paused { step } => format!("Paused after step {step}"),
        RunEvent::Resumed { step } => format!("Going on after step {step}"),
        RunEvent::Stopped { step } => format!("Stopped after step {step}"),
        RunEvent::Finished(end) => format!("Finished after step {}, loss {}", end.step, measured(Some(end.loss))),
        RunEvent::Failed { error } => format!("Failed: {}", error["detail"].as_str().unwrap_or_default()),
        #[allow(unreachable_patterns, reason = "what is for the window only is no line of a log")]
        _ => return None,
    })
}
