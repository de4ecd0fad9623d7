//! The playground: a question, and what the base and the tuned model say to it, side by side.

mod drawer;
mod history;
mod talk;

use crate::gui::command::{Command, Out, Purpose};
use crate::gui::playground::{Playground, Ready, Target};
use crate::gui::state::Data;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::chip;
use crate::gui::widgets::problem_card::problem_card;
use crate::gui::widgets::{button, empty};
use eframe::egui::{Align, ComboBox, Key, Layout, Panel, Role, Slider, TextEdit, Ui, WidgetInfo, vec2};

/// Below this width panels at the side would leave too little for answers.
const NARROW: f32 = 860.0;

/// Draw it.
pub fn playground_ui(ui: &mut Ui, data: &Data, page: &mut Playground, out: &mut Out) {
    let is_narrow = ui.available_width() < NARROW;
    who_ui(ui, data, page, out);
    if page.drawer.is_open {
        let width = if is_narrow { 220.0 } else { 260.0 };
        Panel::right("sampling").resizable(false).exact_size(width).frame(side_frame(ui)).show(ui, |ui| {
            drawer::drawer_ui(ui, &mut page.drawer);
        });
    }
    if page.shows_history {
        let width = if is_narrow { 190.0 } else { 240.0 };
        Panel::left("history").resizable(false).exact_size(width).frame(side_frame(ui)).show(ui, |ui| {
            history::history_ui(ui, data, page, out);
        });
    }
    if let Some(problem) = &page.problem
        && problem_card(ui, problem, true, out)
    {
        page.problem = None;
    }
    if page.ready.is_some() || page.loading.is_some() {
        let frame = eframe::egui::Frame::new();
        Panel::bottom("question").resizable(false).show_separator_line(false).frame(frame).show(ui, |ui| {
            question_ui(ui, page, out);
        });
    }
    if let Some(target) = &page.loading {
        let name = match target {
            Target::Run(id) => data.run(id).map_or("the run", |run| run.name.as_str()),
            Target::Model(model, _) => model,
        };
        empty::loading(ui, &format!("Loading {name}"));
    } else if page.ready.is_none() {
        nobody_ui(ui, data, out);
    } else {
        talk::talk_ui(ui, page, out);
    }
}

fn side_frame(ui: &Ui) -> eframe::egui::Frame {
    let t = of(ui);
    eframe::egui::Frame::new()
        .fill(t.surface)
        .stroke((t.stroke, t.border))
        .corner_radius(eframe::egui::CornerRadius::same(space::CARD_RADIUS))
        .inner_margin(eframe::egui::Margin::same(12))
}

/// Who is talked to, and what can be changed about it.
fn who_ui(ui: &mut Ui, data: &Data, page: &mut Playground, out: &mut Out) {
    let t = of(ui);
    ui.horizontal_wrapped(|ui| {
        let mut history = button::icon(Icon::List, "Earlier conversations");
        if page.shows_history {
            history = button::icon(Icon::Cross, "Close earlier conversations");
        }
        if history.ui(ui).clicked() {
            page.shows_history = !page.shows_history;
        }
        partner_ui(ui, data, page, out);
        if let Some(ready) = &page.ready {
            if ready.is_live {
                chip(ui, t.info, "Training now").on_hover_text("The run itself answers, between two steps");
            }
            if ready.is_tuned && ready.has_base {
                ui.checkbox(&mut page.compare, "Base beside it");
            }
            checkpoint_ui(ui, ready, &mut page.checkpoint, page.is_busy, out);
            if !page.exchanges.is_empty() && button::quiet("New conversation").icon(Icon::Plus).ui(ui).clicked() {
                out.push(Command::NewTalk);
            }
        }
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            let label = if page.drawer.is_open { "Close settings" } else { "Answer settings" };
            if button::quiet(label).icon(Icon::Sliders).ui(ui).clicked() {
                page.drawer.is_open = !page.drawer.is_open;
            }
        });
    });
    ui.add_space(space::S);
}

/// Everything that can be talked to in one list.
fn partner_ui(ui: &mut Ui, data: &Data, page: &Playground, out: &mut Out) {
    let shown = page.ready.as_ref().map_or("Choose a model", |ready| ready.name.as_str());
    let shown: String = shown.chars().take(32).collect();
    let combo = ComboBox::from_id_salt("partner").selected_text(shown).width(220.0).show_ui(ui, |ui| {
        let is_here = |target: &Target| page.ready.as_ref().is_some_and(|ready| ready.target == *target);
        let mut offer = |ui: &mut Ui, name: String, target: Target| {
            if ui.selectable_label(is_here(&target), name).clicked() {
                out.push(Command::Talk(target));
            }
        };
        for run in data.runs.iter().flatten().filter(|run| run.last_step > 0).take(30) {
            offer(ui, format!("Run: {}", run.name), Target::Run(run.id.to_string()));
        }
        offer(ui, "Built-in starter model".to_owned(), Target::Model("starter".to_owned(), None));
        for model in data.models.iter().flatten().filter(|model| model.supported && model.id != "starter") {
            offer(ui, model.id.clone(), Target::Model(model.id.clone(), None));
        }
    });
    combo.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Who answers"));
}

/// B8: any checkpoint on a slider.
fn checkpoint_ui(ui: &mut Ui, ready: &Ready, at: &mut Option<usize>, is_busy: bool, out: &mut Out) {
    let steps = &ready.checkpoints;
    if steps.len() < 2 {
        return;
    }
    let t = of(ui);
    let last = steps.len() - 1;
    let mut index = at.unwrap_or(last).min(last);
    let name = ui.label(text::hint(t, "Checkpoint"));
    ui.spacing_mut().slider_width = 120.0;
    let shown = steps.clone();
    let slider = Slider::new(&mut index, 0..=last).custom_formatter(move |value, _| {
        shown.get(value as usize).map_or(String::new(), |step| format!("step {step}"))
    });
    let response = ui.add_enabled(!is_busy, slider).labelled_by(name.id);
    if response.changed() {
        *at = Some(index);
    }
    // While it is dragged nothing is loaded.
    if (response.drag_stopped() || (response.changed() && !response.dragged()))
        && let Some(step) = steps.get(index)
    {
        out.push(Command::Checkpoint(step.to_string()));
    }
}

/// Nobody is there yet: the newest run, or the built-in model.
fn nobody_ui(ui: &mut Ui, data: &Data, out: &mut Out) {
    let sentence = "Choose a run to hear what it learned, with the untouched model beside it; or talk to the built-in \
                    model.";
    empty::empty(ui, Icon::Chat, "Who should answer?", sentence, |ui| {
        let newest = data.runs.iter().flatten().find(|run| run.last_step > 0);
        if let Some(run) = newest {
            let label = format!("Talk to {}", run.name.chars().take(30).collect::<String>());
            if button::primary(&label).icon(Icon::Chat).ui(ui).clicked() {
                out.push(Command::Talk(Target::Run(run.id.to_string())));
            }
        }
        let starter = button::secondary("Talk to the built-in model").icon(Icon::Spark);
        if starter.ui(ui).clicked() {
            out.push(Command::Talk(Target::Model("starter".to_owned(), None)));
        }
        if button::quiet("Open a GGUF file…").icon(Icon::File).ui(ui).clicked() {
            out.push(Command::Browse(Purpose::Talk));
        }
    });
}

fn question_ui(ui: &mut Ui, page: &mut Playground, out: &mut Out) {
    let t = of(ui);
    ui.add_space(space::S);
    ui.horizontal(|ui| {
        let width = (ui.available_width() - 110.0).max(80.0);
        // Enter asks, Shift+Enter begins a new line; while letters are composed Enter belongs to the input method.
        let edit = TextEdit::multiline(&mut page.draft)
            .hint_text(text::body(t, "Ask something").color(t.text3))
            .desired_rows(2)
            .desired_width(width)
            .margin(vec2(12.0, 9.0))
            .return_key(Some(eframe::egui::KeyboardShortcut::new(eframe::egui::Modifiers::SHIFT, Key::Enter)));
        let response = ui.add(edit);
        let (enabled, shown) = (ui.is_enabled(), page.draft.clone());
        response.widget_info(|| {
            let mut info = WidgetInfo::text_edit(enabled, "", &shown, "");
            info.label = Some("Your question".to_owned());
            info
        });
        let asks = response.has_focus() && ui.input(|input| input.key_pressed(Key::Enter) && !input.modifiers.shift);
        if page.is_busy {
            if button::secondary("Stop").icon(Icon::Stop).ui(ui).clicked() {
                out.push(Command::Hush);
            }
        } else {
            let can = page.ready.is_some() && !page.draft.trim().is_empty();
            let pressed = button::primary("Ask").icon(Icon::Send).enabled(can).ui(ui).clicked();
            if (pressed || asks) && can {
                out.push(Command::Say(std::mem::take(&mut page.draft).trim().to_owned()));
                response.request_focus();
            }
        }
    });
}
