//! The playground: a question, and what the base and the tuned model say to it, side by side.

mod drawer;
mod history;
mod talk;

use crate::gui::command::{Command, Out, Purpose, Slot};
use crate::gui::playground::{Playground, Ready};
use crate::gui::state::Data;
use crate::gui::target::Target;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::chip;
use crate::gui::widgets::chooser::{Chooser, Runs, chooser_ui};
use crate::gui::widgets::problem_card::problem_card;
use crate::gui::widgets::{button, empty};
use eframe::egui::{Align, Key, Layout, Panel, Slider, TextEdit, Ui, WidgetInfo, vec2};

/// Below this width panels at the side would leave too little for answers.
const NARROW: f32 = 860.0;

/// Room for the slider of checkpoints with its words.
const CHECKPOINT: f32 = 300.0;

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
        empty::loading(ui, &format!("Loading {}", target.name(data)));
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
    let room = ui.available_width();
    let is_wide = room > 900.0;
    // The button at the right has its place before anything else is laid out.
    let taken = if is_wide { 170.0 } else { 44.0 };
    ui.horizontal_top(|ui| {
        ui.allocate_ui_with_layout(
            vec2((room - taken).max(120.0), space::CONTROL),
            Layout::left_to_right(Align::Center).with_main_wrap(true),
            |ui| whom_ui(ui, data, page, out),
        );
        ui.with_layout(Layout::right_to_left(Align::Min), |ui| {
            let label = if page.drawer.is_open { "Close settings" } else { "Answer settings" };
            let button =
                if is_wide { button::quiet(label).icon(Icon::Sliders) } else { button::icon(Icon::Sliders, label) };
            if button.ui(ui).clicked() {
                page.drawer.is_open = !page.drawer.is_open;
            }
        });
    });
    ui.add_space(space::S);
}

fn whom_ui(ui: &mut Ui, data: &Data, page: &mut Playground, out: &mut Out) {
    let t = of(ui);
    let mut history = button::icon(Icon::List, "Earlier conversations");
    if page.shows_history {
        history = button::icon(Icon::Cross, "Close earlier conversations");
    }
    if history.ui(ui).clicked() {
        page.shows_history = !page.shows_history;
    }
    partner_ui(ui, data, page, out);
    beside_ui(ui, data, page, out);
    if let Some(ready) = &page.ready {
        if ready.is_live {
            chip(ui, t.info, "Training now").on_hover_text("The run itself answers, between two steps");
        }
        checkpoint_ui(ui, ready, &mut page.checkpoint, page.is_busy, out);
        if !page.exchanges.is_empty() && button::quiet("New conversation").icon(Icon::Plus).ui(ui).clicked() {
            out.push(Command::NewTalk);
        }
    }
}

/// Everything that can be talked to in one list.
fn partner_ui(ui: &mut Ui, data: &Data, page: &Playground, out: &mut Out) {
    let here = page.loading.as_ref().or(page.ready.as_ref().map(|ready| &ready.target));
    let what =
        Chooser { name: "Who answers", slot: Slot::Talk, runs: Runs::Any, nothing: "Choose a model", width: 200.0 };
    if let Some(target) = chooser_ui(ui, data, here, &what, out, |_| {}) {
        out.push(Command::Talk(target));
    }
}

/// S4.7.4: its own base beside it, or any other model, or nobody.
fn beside_ui(ui: &mut Ui, data: &Data, page: &mut Playground, out: &mut Out) {
    let Some(ready) = &page.ready else { return };
    let (is_alone, has_base) =
        (page.beside.is_none() && page.loading_beside.is_none(), ready.is_tuned && ready.has_base);
    let shows_base = is_alone && has_base && page.compare;
    let shown = match (&page.loading_beside, &page.beside) {
        (Some(target), _) => format!("Loading {}", target.name(data)),
        (None, Some(name)) => format!("Beside {name}"),
        (None, None) if shows_base => "Beside its base".to_owned(),
        (None, None) => "Nobody beside it".to_owned(),
    };
    let what =
        Chooser { name: "Who answers beside it", slot: Slot::Beside, runs: Runs::Any, nothing: &shown, width: 190.0 };
    let mut base = None;
    let picked = ui.add_enabled_ui(!page.is_busy, |ui| {
        chooser_ui(ui, data, None, &what, out, |ui| {
            if ui.selectable_label(is_alone && !shows_base, "Nobody").clicked() {
                base = Some(false);
            }
            if has_base && ui.selectable_label(shows_base, "Its base, before training").clicked() {
                base = Some(true);
            }
            ui.separator();
        })
    });
    if let Some(compare) = base {
        page.compare = compare;
        if !is_alone {
            out.push(Command::Beside(None));
        }
    }
    if let Some(target) = picked.inner {
        out.push(Command::Beside(Some(target)));
    }
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
    // A slider is not broken over two lines; where it does not fit any more, it begins one.
    if ui.available_size_before_wrap().x < CHECKPOINT {
        ui.end_row();
    }
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
            out.push(Command::Talk(Target::starter()));
        }
        if button::quiet("Open a GGUF file…").icon(Icon::File).ui(ui).clicked() {
            out.push(Command::Browse(Purpose::File(Slot::Talk)));
        }
        if button::quiet("Open a folder…").named("Open a folder to talk to").icon(Icon::Folder).ui(ui).clicked() {
            out.push(Command::Browse(Purpose::Folder(Slot::Talk)));
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
            let can = page.ready.is_some() && page.loading_beside.is_none() && !page.draft.trim().is_empty();
            let pressed = button::primary("Ask").icon(Icon::Send).enabled(can).ui(ui).clicked();
            if (pressed || asks) && can {
                out.push(Command::Say(std::mem::take(&mut page.draft).trim().to_owned()));
                response.request_focus();
            }
        }
    });
}
