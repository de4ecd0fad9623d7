//! The top of a run's page: what can be done, the phases, progress and time left.

use crate::cli::quantity::{count, duration, interval};
use crate::gui::command::{Command, Out};
use crate::gui::shell::confirm::Question;
use crate::gui::story::{Metric, Story};
use crate::gui::target::Target;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text, tokens};
use crate::gui::widgets::card::{card, stat};
use crate::gui::widgets::chart::{plain, sized};
use crate::gui::widgets::{button, status};
use eframe::egui::{Align2, FontId, Label, Sense, Ui, pos2, vec2};
use peft_storage::{CommandKind, Run, Status};

/// Draw it.
pub(super) fn head_ui(ui: &mut Ui, run: &Run, story: &Story, out: &mut Out) {
    let t = of(ui);
    ui.horizontal(|ui| {
        ui.add(Label::new(text::title(t, &run.name)).truncate());
    });
    ui.scope(|ui| {
        // Words stand in the middle of a row that is as high as its buttons.
        ui.spacing_mut().interact_size.y = space::CONTROL;
        ui.horizontal_wrapped(|ui| {
            status::status(ui, run.status);
            if let Some(version) = run.version {
                ui.label(text::hint(t, format!("Version {version}")));
            }
            buttons_ui(ui, run, out);
        });
    });
    ui.add_space(space::S);
    card(ui, |ui| {
        phases_ui(ui, run, story);
        ui.add_space(space::S);
        let step = story.step().max(run.last_step);
        status::progress(ui, "Progress", step as f32 / run.total_steps.max(1) as f32, 10.0);
        ui.add_space(space::S);
        numbers_ui(ui, run, story, step);
        if let Some(reading) = story.reading.as_ref().filter(|_| run.status == Status::Running) {
            ui.add_space(space::S);
            super::gauges::gauges_ui(ui, reading);
        }
    });
}

fn buttons_ui(ui: &mut Ui, run: &Run, out: &mut Out) {
    let id = run.id.to_string();
    let mut ask = |kind| out.push(Command::Ask(id.clone(), kind));
    match run.status {
        Status::Running => {
            if button::secondary("Pause").icon(Icon::Pause).ui(ui).on_hover_text("Space").clicked() {
                ask(CommandKind::Pause);
            }
            if button::secondary("Stop and keep").icon(Icon::Stop).ui(ui).clicked() {
                ask(CommandKind::Stop);
            }
            if button::quiet("Snapshot")
                .icon(Icon::Camera)
                .ui(ui)
                .on_hover_text("Save a checkpoint and go on")
                .clicked()
            {
                ask(CommandKind::Snapshot);
            }
            let check = button::quiet("Check now").icon(Icon::Flag).ui(ui);
            if check.on_hover_text("Score the held-out examples after this step").clicked() {
                ask(CommandKind::Evaluate);
            }
        }
        Status::Paused | Status::Interrupted | Status::Failed => {
            if button::primary("Resume").icon(Icon::Play).ui(ui).clicked() {
                out.push(Command::Resume(id.clone()));
            }
            if run.status != Status::Failed && button::secondary("Stop and keep").icon(Icon::Stop).ui(ui).clicked() {
                out.push(Command::Stop(id.clone()));
            }
        }
        Status::Queued | Status::Finished | Status::Stopped => {}
    }
    if run.last_step > 0 {
        let is_done = matches!(run.status, Status::Finished | Status::Stopped);
        let talk = if is_done { button::primary("Try it") } else { button::quiet("Talk to it") };
        if talk.icon(Icon::Chat).ui(ui).clicked() {
            out.push(Command::Talk(Target::Run(id.clone())));
        }
    }
    if button::quiet("New run with these settings").icon(Icon::Plus).ui(ui).clicked() {
        out.push(Command::NewFrom(id.clone()));
    }
    if button::icon(Icon::Folder, "Show its folder").ui(ui).clicked() {
        out.push(Command::Reveal(run.directory.clone()));
    }
    if run.status != Status::Running && button::icon(Icon::Trash, "Delete this run").ui(ui).clicked() {
        let sentence =
            format!("`{}`, its checkpoints and what it learned are removed from the disk for good.", run.name);
        out.push(Command::Question(Question {
            title: "Delete this run?".to_owned(),
            sentence,
            word: "Delete for good",
            then: Box::new(Command::Delete(run.id.to_string())),
        }));
    }
}

/// Where it is between beginning and end.
fn phase(run: &Run, story: &Story) -> usize {
    match run.status {
        Status::Finished | Status::Stopped => 4,
        _ if !story.has_steps() && story.evaluations.is_empty() && story.started.is_none() => 0,
        _ if !story.has_steps() => 1,
        _ if story.step() >= run.total_steps && run.total_steps > 0 => 3,
        _ => 2,
    }
}

fn phases_ui(ui: &mut Ui, run: &Run, story: &Story) {
    let t = of(ui);
    let now = phase(run, story);
    let is_over = matches!(run.status, Status::Finished | Status::Stopped);
    let words = ["Prepare", "Load", "Train", "Evaluate", "Done"];
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 24.0), Sense::hover());
    let name = format!("Phase: {}", words[now]);
    response.widget_info(|| eframe::egui::WidgetInfo::labeled(eframe::egui::Role::Label, true, &name));
    let part = rect.width() / words.len() as f32;
    for (i, word) in words.iter().enumerate() {
        let left = rect.left() + part * i as f32;
        let center = pos2(left + 10.0, rect.center().y);
        let (is_done, is_now) = (i < now || is_over, i == now && !is_over);
        let color = if is_done {
            t.ok.fg
        } else if is_now {
            t.accent
        } else {
            t.text3
        };
        if is_done {
            ui.painter().circle_filled(center, 8.0, tokens::faded(t.ok.fg, 0.2));
            let at = eframe::egui::Rect::from_center_size(center, vec2(12.0, 12.0));
            Icon::Check.paint(ui.painter(), at, 11.0, color);
        } else {
            ui.painter().circle_stroke(center, 7.0, (if is_now { 2.0 } else { 1.2 }, color));
            if is_now {
                ui.painter().circle_filled(center, 3.0, color);
            }
        }
        let font = if is_now { FontId::new(13.0, text::strong_family()) } else { FontId::proportional(13.0) };
        let fg = if is_now { t.text } else { t.text2 };
        let painter =
            ui.painter().with_clip_rect(eframe::egui::Rect::from_min_size(pos2(left, rect.top()), vec2(part, 24.0)));
        let width = painter.text(pos2(left + 24.0, rect.center().y), Align2::LEFT_CENTER, word, font, fg).width();
        let (from, to) = (left + 32.0 + width, left + part - 6.0);
        if i + 1 < words.len() && to > from {
            ui.painter().hline(from..=to, rect.center().y, (1.0, if is_done { t.ok.fg } else { t.border }));
        }
    }
}

fn numbers_ui(ui: &mut Ui, run: &Run, story: &Story, step: u64) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 36.0;
        stat(ui, "Step", &format!("{} of {}", count(step), count(run.total_steps)));
        let eta = story.eta.filter(|_| step >= 5);
        match (run.status, eta) {
            // S4.13.5: a run that waits says what is left, too.
            (Status::Running | Status::Paused, Some(eta)) => stat(ui, "Time left", &interval(&eta)),
            (Status::Running, None) => stat(ui, "Time left", "estimating…"),
            _ => {}
        }
        stat(ui, "Training time", &duration(run.seconds));
        if let Some(loss) = story.latest(Metric::Loss).or(run.loss) {
            stat(ui, "Loss", &plain(loss));
        }
        if let Some(best) = story.best() {
            stat(ui, "Best held-out loss", &plain(best.loss));
        }
        if let Some(speed) = story.latest(Metric::Speed) {
            stat(ui, "Tokens a second", &plain(speed));
        }
        if let Some(memory) = story.latest(Metric::Memory) {
            stat(ui, "Memory", &sized(memory));
        }
    });
}
