//! The palette: pages, runs and actions by a few letters.

use super::command::{Command, Out};
use super::route::{RAIL, Route};
use super::state::State as Window;
use super::target::Target;
use super::theme::icons::Icon;
use super::theme::{ThemeChoice, of, space, text};
use super::widgets::field;
use eframe::egui::{
    Align2, Area, CornerRadius, CursorIcon, FontId, Frame, Id, Key, Margin, Order, Rect, Role, ScrollArea, Sense,
    Stroke, Ui, Vec2, WidgetInfo, pos2, vec2,
};
use peft_storage::{CommandKind, Status};

/// While it is open.
#[derive(Clone, Debug, Default)]
pub struct State {
    words: String,
    chosen: usize,
}

/// One thing to do.
struct Entry {
    icon: Icon,
    label: String,
    command: Command,
}

/// Entries that are shown.
const SHOWN: usize = 12;

fn entries(window: &Window) -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    let mut add = |icon, label: String, command| all.push(Entry { icon, label, command });
    for (route, name, icon) in &RAIL {
        add(*icon, format!("Go to {name}"), Command::Go(route.clone()));
    }
    add(Icon::Spark, "Try it now: train the built-in model".to_owned(), Command::TryItNow);
    for run in window.data.runs.iter().flatten().take(50) {
        let id = run.id.to_string();
        add(Icon::Chart, format!("Open run {}", run.name), Command::Go(Route::Run(id.clone())));
        match run.status {
            Status::Running => {
                add(Icon::Pause, format!("Pause {}", run.name), Command::Ask(id.clone(), CommandKind::Pause));
            }
            Status::Paused | Status::Interrupted => {
                add(Icon::Play, format!("Resume {}", run.name), Command::Resume(id.clone()));
            }
            _ => {}
        }
        if run.last_step > 0 {
            add(Icon::Chat, format!("Talk to {}", run.name), Command::Talk(Target::Run(id)));
        }
    }
    for (choice, name) in ThemeChoice::ALL {
        add(Icon::Gear, format!("Theme: {name}"), Command::Theme(choice));
    }
    all
}

/// How well letters fit: all of them in this order, the closer together the better. None: not at all.
fn fits(words: &str, label: &str) -> Option<usize> {
    let label: Vec<char> = label.to_lowercase().chars().collect();
    let (mut at, mut cost) = (0, 0);
    for letter in words.to_lowercase().chars().filter(|c| !c.is_whitespace()) {
        let next = label[at..].iter().position(|c| *c == letter)?;
        cost += if at == 0 { next / 4 } else { next };
        at += next + 1;
    }
    Some(cost)
}

/// Draw it, while it is open.
pub fn palette_ui(ui: &mut Ui, window: &mut Window, out: &mut Out) {
    let Some(mut state) = window.palette.take() else { return };
    let t = of(ui);
    let mut found: Vec<(usize, Entry)> =
        entries(window).into_iter().filter_map(|e| Some((fits(&state.words, &e.label)?, e))).collect();
    found.sort_by_key(|(cost, _)| *cost);
    found.truncate(SHOWN);
    let (down, up, enter, escape) = ui.input_mut(|input| {
        let none = eframe::egui::Modifiers::NONE;
        (
            input.consume_key(none, Key::ArrowDown),
            input.consume_key(none, Key::ArrowUp),
            input.consume_key(none, Key::Enter),
            input.consume_key(none, Key::Escape),
        )
    });
    let last = found.len().saturating_sub(1);
    state.chosen = if down { state.chosen + 1 } else { state.chosen.saturating_sub(usize::from(up)) }.min(last);
    let mut picked = enter.then_some(state.chosen);
    let screen = ui.ctx().content_rect();
    let width = (screen.width() - 32.0).clamp(120.0, 560.0);
    let area = Area::new(Id::unique("palette")).order(Order::Foreground).anchor(Align2::CENTER_TOP, [0.0, 72.0]);
    let shown = area.show(ui.ctx(), |ui| {
        let frame = Frame::new()
            .fill(t.raised)
            .stroke(Stroke::new(t.stroke, t.border_strong))
            .corner_radius(CornerRadius::same(12))
            .inner_margin(Margin::same(10))
            .shadow(ui.visuals().window_shadow);
        frame.show(ui, |ui| {
            ui.set_width(width);
            let response = field::search(ui, "Type a page, a run or an action", &mut state.words, width - 24.0);
            response.request_focus();
            if response.changed() {
                state.chosen = 0;
            }
            ui.add_space(space::XS);
            ScrollArea::vertical().max_height((screen.height() - 180.0).max(80.0)).show(ui, |ui| {
                ui.spacing_mut().item_spacing.y = 2.0;
                if found.is_empty() {
                    ui.label(text::hint(t, "Nothing fits these letters"));
                }
                for (index, (_, entry)) in found.iter().enumerate() {
                    if entry_ui(ui, entry, index == state.chosen) {
                        picked = Some(index);
                    }
                }
            });
        });
    });
    let is_outside = ui.input(|i| {
        i.pointer.any_pressed() && i.pointer.interact_pos().is_some_and(|p| !shown.response.rect.contains(p))
    });
    match picked.and_then(|index| found.into_iter().nth(index)) {
        Some((_, entry)) => out.push(entry.command),
        None if escape || is_outside => {}
        None => window.palette = Some(state),
    }
}

fn entry_ui(ui: &mut Ui, entry: &Entry, is_chosen: bool) -> bool {
    let t = of(ui);
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 32.0), Sense::click());
    response.widget_info(|| WidgetInfo::selected(Role::Button, true, is_chosen, &entry.label));
    if is_chosen || response.hovered() {
        ui.painter().rect_filled(rect, CornerRadius::same(space::RADIUS), t.hover);
    }
    let at = Rect::from_center_size(pos2(rect.left() + 18.0, rect.center().y), Vec2::splat(16.0));
    entry.icon.paint(ui.painter(), at, 16.0, if is_chosen { t.accent } else { t.text3 });
    let clip = ui.painter().with_clip_rect(rect);
    let font = FontId::proportional(13.5);
    clip.text(pos2(rect.left() + 38.0, rect.center().y), Align2::LEFT_CENTER, &entry.label, font, t.text);
    response.on_hover_cursor(CursorIcon::PointingHand).clicked()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_find_what_they_begin() {
        assert!(fits("grn", "Go to Runs").is_some());
        assert!(fits("xyz", "Go to Runs").is_none());
        assert!(fits("runs", "Go to Runs") < fits("runs", "Resume an unusual story"));
        assert!(fits("", "anything").is_some());
    }
}
