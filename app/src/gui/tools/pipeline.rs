//! A chain of commands from a file: checked as a whole, carried out step by step, and gone on with where it stopped.

use super::view::{file_ui, go_ui, sentence, state_ui};
use super::{Job, Tool, Tools};
use crate::cli::quantity::duration;
use crate::gui::command::{Command, Out, Purpose};
use crate::gui::errand::Ending;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{Tokens, of, space, text};
use crate::gui::widgets::button;
use crate::gui::widgets::card::{card, icon_label};
use eframe::egui::{Label, Spinner, Ui};
use serde_json::Value;

/// Draw it.
pub(super) fn pipeline_ui(ui: &mut Ui, page: &mut Tools, out: &mut Out) {
    card(ui, |ui| {
        sentence(
            ui,
            "A file names steps, such as preparing examples, training and exporting. Each is a command of this program; \
             what was done is not done again.",
        );
        ui.add_space(space::S);
        ui.horizontal_wrapped(|ui| {
            file_ui(ui, "File", &mut page.pipeline, "chain.json", Command::Browse(Purpose::Pipeline), out);
        });
        ui.checkbox(&mut page.restarts, "Do every step again");
        ui.add_space(space::S);
        ui.horizontal_wrapped(|ui| {
            let can = !page.pipeline.trim().is_empty() && !page.is_busy(Tool::CheckPipeline);
            go_ui(ui, page, Tool::Pipeline, "Run the pipeline", can, out);
            let can = can && !page.is_busy(Tool::Pipeline);
            if button::secondary("Check it").icon(Icon::Search).enabled(can).ui(ui).clicked() {
                out.push(Command::Tool(Tool::CheckPipeline));
            }
        });
    });
    let latest = [Tool::Pipeline, Tool::CheckPipeline].into_iter().filter_map(|tool| page.job(tool));
    let Some(job) = latest.max_by_key(|job| job.id) else { return };
    ui.add_space(space::M);
    card(ui, |ui| {
        state_ui(ui, job, out);
        match job.tool {
            Tool::CheckPipeline => checked_ui(ui, job),
            _ => steps_ui(ui, job),
        }
    });
}

fn checked_ui(ui: &mut Ui, job: &Job) {
    let t = of(ui);
    let Some(document) = job.result() else { return };
    for step in document["steps"].as_array().into_iter().flatten() {
        let state = if step["done"] == true { State::Before } else { State::Open };
        step_ui(ui, t, state, step["name"].as_str().unwrap_or(""), step["command"].as_str().unwrap_or(""), "");
    }
    ui.label(text::value(t, "Nothing is wrong with it. Nothing was started."));
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Now,
    Done,
    Before,
    Failed,
}

/// A step as it is shown: its state, its command, and a word about it.
#[derive(Debug, PartialEq)]
struct Shown {
    name: String,
    state: State,
    command: String,
    word: String,
}

/// The steps, folded from what the process said.
fn steps(lines: &[Value], is_over: bool) -> Vec<Shown> {
    let mut shown: Vec<Shown> = Vec::new();
    for line in lines {
        let text = |key: &str| line[key].as_str().unwrap_or("").to_owned();
        if line["event"] == "pipeline_started" {
            let names = line["steps"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let open = |name: &str| Shown {
                name: name.to_owned(),
                state: State::Open,
                command: String::new(),
                word: String::new(),
            };
            shown = names.map(open).collect();
            continue;
        }
        let Some(step) = shown.iter_mut().find(|step| step.name == text("step")) else { continue };
        match line["event"].as_str().unwrap_or("") {
            "step_skipped" => (step.state, step.word) = (State::Before, "done before".to_owned()),
            "step_started" => (step.state, step.command) = (State::Now, text("command")),
            "step_output" => {
                if let (Some(at), Some(loss)) = (line["output"]["step"].as_u64(), line["output"]["loss"].as_f64()) {
                    step.word = format!("step {at}, loss {loss:.3}");
                }
            }
            "step_finished" => {
                (step.state, step.word) = (State::Done, duration(line["seconds"].as_f64().unwrap_or(0.0)));
            }
            "step_failed" => (step.state, step.word) = (State::Failed, "failed".to_owned()),
            _ => {}
        }
    }
    if is_over {
        shown.iter_mut().filter(|step| step.state == State::Now).for_each(|step| step.state = State::Open);
    }
    shown
}

fn steps_ui(ui: &mut Ui, job: &Job) {
    let t = of(ui);
    for step in steps(&job.lines, job.ending.is_some()) {
        step_ui(ui, t, step.state, &step.name, &step.command, &step.word);
    }
    if matches!(job.ending, Some(Ending::Done(_))) {
        ui.label(text::value(t, "Every step is done"));
    } else if matches!(job.ending, Some(Ending::Stopped)) {
        ui.label(text::hint(t, "What is done is kept; the same button goes on from there."));
    }
}

fn step_ui(ui: &mut Ui, t: &Tokens, state: State, name: &str, command: &str, word: &str) {
    ui.horizontal(|ui| {
        let (icon, color) = match state {
            State::Open => (Icon::Clock, t.text3),
            State::Now => (Icon::Play, t.accent),
            State::Done | State::Before => (Icon::Check, t.ok.fg),
            State::Failed => (Icon::Warning, t.bad.fg),
        };
        if state == State::Now {
            ui.add(Spinner::new().size(15.0).color(color));
        } else {
            icon_label(ui, icon, color, 15.0);
        }
        ui.label(text::card_title(t, name));
        ui.label(text::hint(t, word));
        ui.add(Label::new(text::code(t, command)).truncate());
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_chain_says_becomes_its_steps() {
        let lines = [
            json!({"event": "pipeline_started", "name": "x", "steps": ["a", "b", "c"]}),
            json!({"event": "step_skipped", "step": "a", "index": 1, "of": 3}),
            json!({"event": "step_started", "step": "b", "index": 2, "of": 3, "command": "train"}),
            json!({"event": "step_output", "step": "b", "output": {"step": 4, "loss": 1.5}}),
        ];
        let shown = steps(&lines, false);
        assert_eq!(shown.iter().map(|s| s.state).collect::<Vec<_>>(), [State::Before, State::Now, State::Open]);
        assert_eq!((shown[1].command.as_str(), shown[1].word.as_str()), ("train", "step 4, loss 1.500"));
        assert_eq!(steps(&lines, true)[1].state, State::Open, "what was stopped is open again");
        assert!(steps(&lines[1..], true).is_empty());
    }
}
