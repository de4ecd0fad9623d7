//! `pipeline`: a chain of commands from a file.

use super::args::PipelineArgs;
use super::context::Context;
use super::interrupt;
use super::output::{self, duration, printable};
use crate::jobs::pipeline::{Pipeline, PipelineEnd, PipelineEvent};
use indicatif::{ProgressBar, ProgressStyle};
use peft_plan::Result;
use serde_json::{Value, json};
use std::io::IsTerminal;

/// Parts of a step on the bar.
const PARTS: u64 = 1000;

pub(super) fn run(context: &Context, args: &PipelineArgs) -> Result<u8> {
    let pipeline = Pipeline::open(context, &args.file, args.env.as_deref(), args.restart)?;
    if args.check {
        tell_checked(context, &pipeline);
        return Ok(0);
    }
    let mut view = View::new(context.json);
    let end = pipeline.run(context, &mut |event| view.receive(event));
    view.end();
    match end? {
        PipelineEnd::Finished => Ok(0),
        PipelineEnd::Interrupted => {
            output::note("Stopped; what is done is kept, and the same command goes on from there");
            Ok(interrupt::EXIT_CODE)
        }
    }
}

fn tell_checked(context: &Context, pipeline: &Pipeline) {
    let (checked, done) = (pipeline.checked(), pipeline.done());
    if context.json {
        let steps: Vec<Value> = checked
            .steps
            .iter()
            .enumerate()
            .map(|(index, step)| json!({"name": step.name, "command": step.shown, "done": index < done}))
            .collect();
        output::print_json(&json!({"name": checked.name, "checked": true, "steps": steps}));
        return;
    }
    for (index, step) in checked.steps.iter().enumerate() {
        let mark = if index < done { "done" } else { "to do" };
        output::line(&printable(&format!("{:<6}{:<14}{}", mark, step.name, step.shown)));
    }
    output::line("Nothing is wrong with it. Nothing was started.");
}

/// One bar over all steps on a terminal, a line for each step elsewhere, events with `--json`.
struct View {
    json: bool,
    bar: Option<ProgressBar>,
    total_steps: f64,
}

impl View {
    fn new(json: bool) -> Self {
        let bar = (!json && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{bar:24} {percent:>3} % {elapsed} {wide_msg}");
            ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { json, bar, total_steps: 0.0 }
    }

    fn receive(&mut self, event: &PipelineEvent) {
        if self.json {
            output::print_json(event);
            return;
        }
        match event {
            PipelineEvent::PipelineStarted { steps, .. } => {
                if let Some(bar) = &self.bar {
                    bar.set_length(steps.len() as u64 * PARTS);
                }
            }
            PipelineEvent::StepSkipped { step, index, of } => {
                self.advance(*index);
                self.say(&format!("[{index}/{of}] {step}: done before, nothing has changed"));
            }
            PipelineEvent::StepStarted { step, index, of, command, resumed_run } => {
                self.advance(*index - 1);
                let what =
                    resumed_run.as_ref().map_or_else(|| command.clone(), |run| format!("goes on with run {run}"));
                self.say(&format!("[{index}/{of}] {step}: {what}"));
            }
            PipelineEvent::StepOutput { step, output } => self.follow(step, output),
            PipelineEvent::StepFinished { step, seconds, .. } => {
                self.total_steps = 0.0;
                self.say(&format!("      {step}: done in {}", duration(*seconds)));
            }
            PipelineEvent::StepFailed { step, exit_code } => {
                self.say(&format!("      {step}: failed with exit code {exit_code}"));
            }
            PipelineEvent::PipelineFinished { seconds, done, skipped } => {
                self.end();
                output::line(&format!("Finished in {}: {done} steps done, {skipped} done before", duration(*seconds)));
            }
        }
    }

    /// The bar stands after so many whole steps.
    fn advance(&self, whole: usize) {
        if let Some(bar) = &self.bar {
            bar.set_position(whole as u64 * PARTS);
        }
    }

    /// What a training step says moves the bar within its part.
    fn follow(&mut self, step: &str, output: &Value) {
        let Some(bar) = &self.bar else { return };
        if let Some(total) = output["total_steps"].as_f64() {
            self.total_steps = total;
        }
        if let (Some(number), true) = (output["step"].as_f64(), self.total_steps > 0.0) {
            let part = (number / self.total_steps).clamp(0.0, 1.0) * PARTS as f64;
            bar.set_position(bar.position() / PARTS * PARTS + (part as u64).min(PARTS - 1));
            let loss = output["loss"].as_f64().map_or_else(String::new, |loss| format!(", loss {loss:.4}"));
            bar.set_message(format!("{step}: step {number} of {}{loss}", self.total_steps));
        }
    }

    fn say(&self, words: &str) {
        let words = printable(words);
        match &self.bar {
            Some(bar) => bar.suspend(|| output::note(&words)),
            None => output::note(&words),
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
