//! All runs in a table: sorted by any column, filtered by words and status, chosen for comparison.

use super::compare;
use crate::cli::quantity::{ago, duration};
use crate::gui::command::{Command, Out};
use crate::gui::route::Route;
use crate::gui::state::Data;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text, tokens};
use crate::gui::widgets::card::heading;
use crate::gui::widgets::problem_card::problem_card;
use crate::gui::widgets::{button, empty, field, status};
use eframe::egui::{
    Align, ComboBox, CornerRadius, CursorIcon, Label, Layout, Rect, Role, Sense, Ui, UiBuilder, WidgetInfo, pos2, vec2,
};
use peft_storage::{Run, Status};
use std::cmp::Ordering;

/// A column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Column {
    /// Name.
    Name,
    /// Status.
    Status,
    /// Steps.
    Steps,
    /// Training loss.
    Loss,
    /// Held-out loss.
    HeldOut,
    /// Score.
    Quality,
    /// Active time.
    Time,
    /// When it was made.
    #[default]
    Created,
}

/// Columns with their titles, and their share of the width; those at the end are left out first.
const COLUMNS: [(Column, &str, f32); 8] = [
    (Column::Name, "Name", 3.2),
    (Column::Status, "Status", 1.5),
    (Column::Steps, "Steps", 1.3),
    (Column::Loss, "Loss", 1.0),
    (Column::HeldOut, "Held-out", 1.1),
    (Column::Quality, "Quality", 1.0),
    (Column::Time, "Time", 1.3),
    (Column::Created, "Created", 1.6),
];

/// What the page remembers.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Words of names.
    pub words: String,
    /// Only these.
    pub status: Option<Status>,
    sort: Column,
    is_reversed: bool,
}

fn compared(column: Column, a: &Run, b: &Run) -> Ordering {
    // What has no value comes last.
    let number = |a: Option<f64>, b: Option<f64>| a.unwrap_or(f64::INFINITY).total_cmp(&b.unwrap_or(f64::INFINITY));
    match column {
        Column::Name => a.name.to_lowercase().cmp(&b.name.to_lowercase()),
        Column::Status => status::word(a.status).cmp(status::word(b.status)),
        Column::Steps => b.last_step.cmp(&a.last_step),
        Column::Loss => number(a.loss, b.loss),
        Column::HeldOut => number(a.validation_loss, b.validation_loss),
        Column::Quality => number(a.quality_score.map(|q| -q), b.quality_score.map(|q| -q)),
        Column::Time => b.seconds.total_cmp(&a.seconds),
        Column::Created => b.created.cmp(&a.created).then(b.id.as_str().cmp(a.id.as_str())),
    }
}

/// Draw it.
pub fn runs_ui(ui: &mut Ui, data: &Data, state: &mut State, chosen: &compare::State, out: &mut Out) {
    heading(ui, "Runs", "");
    if let Some(problem) = &data.store_problem {
        problem_card(ui, problem, false, out);
    }
    let Some(runs) = &data.runs else {
        if data.store_problem.is_none() {
            empty::loading(ui, "Reading your runs");
        }
        return;
    };
    if runs.is_empty() {
        let sentence = "Every training you start appears here, with its curves, its settings and what came out of it.";
        empty::empty(ui, Icon::List, "No runs yet", sentence, |ui| {
            if button::primary("Try it now").icon(Icon::Spark).enabled(!data.is_launching).ui(ui).clicked() {
                out.push(Command::TryItNow);
            }
            if button::quiet("New run").icon(Icon::Plus).ui(ui).clicked() {
                out.push(Command::Go(Route::New));
            }
        });
        return;
    }
    filters_ui(ui, state, chosen, out);
    ui.add_space(space::S);
    let words = state.words.to_lowercase();
    let mut shown: Vec<&Run> = runs
        .iter()
        .filter(|run| words.is_empty() || run.name.to_lowercase().contains(&words) || run.id.as_str().contains(&words))
        .filter(|run| state.status.is_none_or(|status| status == run.status))
        .collect();
    shown.sort_by(|a, b| compared(state.sort, a, b));
    if state.is_reversed {
        shown.reverse();
    }
    header_ui(ui, state);
    if shown.is_empty() {
        ui.label(text::body(of(ui), "No run fits these words. Clear the search to see all."));
    }
    for run in shown {
        row_ui(ui, run, data.now, chosen.holds(run.id.as_str()), out);
    }
}

fn filters_ui(ui: &mut Ui, state: &mut State, chosen: &compare::State, out: &mut Out) {
    ui.horizontal_wrapped(|ui| {
        field::search(ui, "Search runs", &mut state.words, 220.0);
        let shown = state.status.map_or("Any status", status::word);
        let combo = ComboBox::from_id_salt("status").selected_text(shown).show_ui(ui, |ui| {
            ui.selectable_value(&mut state.status, None, "Any status");
            let all = [
                Status::Running,
                Status::Paused,
                Status::Finished,
                Status::Stopped,
                Status::Failed,
                Status::Interrupted,
            ];
            for one in all {
                ui.selectable_value(&mut state.status, Some(one), status::word(one));
            }
        });
        combo.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Status filter"));
        let count = chosen.count();
        let label = if count == 0 { "Compare".to_owned() } else { format!("Compare {count}") };
        let compare =
            button::secondary(&label).named("Compare the chosen runs").icon(Icon::Compare).enabled(count >= 2);
        let response = compare.ui(ui);
        if response.clicked() {
            out.push(Command::Go(Route::Compare));
        }
        if count < 2 {
            response.on_hover_text("Tick two to five runs to put them side by side");
        }
    });
}

/// Where each column is; on a narrow page the last ones are missing.
fn cells(rect: Rect) -> Vec<(Column, Rect)> {
    let left = rect.left() + 40.0;
    let count = match rect.width() {
        w if w < 480.0 => 2,
        w if w < 640.0 => 4,
        w if w < 780.0 => 6,
        _ => COLUMNS.len(),
    };
    let sum: f32 = COLUMNS[..count].iter().map(|(.., share)| share).sum();
    let unit = (rect.right() - left) / sum;
    let mut x = left;
    let mut cell = |(column, _, share): &(Column, &str, f32)| {
        let cell = Rect::from_min_max(pos2(x, rect.top()), pos2(x + unit * share - 8.0, rect.bottom()));
        x += unit * share;
        (*column, cell)
    };
    COLUMNS[..count].iter().map(&mut cell).collect()
}

fn header_ui(ui: &mut Ui, state: &mut State) {
    let t = of(ui);
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), 26.0), Sense::hover());
    for (column, cell) in cells(rect) {
        let title = COLUMNS.iter().find(|(c, ..)| *c == column).map_or("", |(_, title, _)| title);
        let response = ui.interact(cell, ui.scope_id().with(title), Sense::click());
        response.widget_info(|| WidgetInfo::labeled(Role::Button, true, format!("Sort by {title}")));
        let is_sorted = state.sort == column;
        let color = if is_sorted || response.hovered() { t.text } else { t.text3 };
        let mut child = ui.new_child(UiBuilder::new().max_rect(cell).layout(Layout::left_to_right(Align::Center)));
        child.style_mut().interaction.selectable_labels = false;
        child.add(Label::new(text::hint(t, title).color(color)).truncate());
        if is_sorted {
            let (at, _) = child.allocate_exact_size(vec2(12.0, 12.0), Sense::hover());
            let icon = if state.is_reversed { Icon::ChevronRight } else { Icon::ChevronDown };
            icon.paint(child.painter(), at, 11.0, t.text3);
        }
        if response.on_hover_cursor(CursorIcon::PointingHand).clicked() {
            state.is_reversed = is_sorted && !state.is_reversed;
            state.sort = column;
        }
    }
    ui.painter().hline(rect.x_range(), rect.bottom() + 2.0, (t.stroke, t.border));
}

fn row_ui(ui: &mut Ui, run: &Run, now: i64, is_chosen: bool, out: &mut Out) {
    let t = of(ui);
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 38.0), Sense::click());
    let name = format!("Open run {}", run.name);
    response.widget_info(|| WidgetInfo::labeled(Role::Button, true, &name));
    if response.hovered() || response.has_focus() {
        ui.painter().rect_filled(rect, CornerRadius::same(space::RADIUS), tokens::faded(t.hover, 0.7));
    }
    if response.has_focus() {
        button::focus_ring(ui, rect.shrink(2.0), CornerRadius::same(space::RADIUS));
    }
    let tick = Rect::from_min_size(rect.min + vec2(8.0, 8.0), vec2(24.0, 22.0));
    let mut ticked = is_chosen;
    let mut child = ui.new_child(UiBuilder::new().max_rect(tick));
    let checkbox = child.checkbox(&mut ticked, "");
    let compare = format!("Compare {}", run.name);
    checkbox.widget_info(|| WidgetInfo::selected(Role::CheckBox, true, ticked, &compare));
    if checkbox.changed() {
        out.push(Command::Compare(run.id.to_string(), ticked));
    }
    for (column, cell) in cells(rect) {
        let mut child = ui.new_child(UiBuilder::new().max_rect(cell).layout(Layout::left_to_right(Align::Center)));
        child.style_mut().interaction.selectable_labels = false;
        let number = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.3}"));
        let shown = match column {
            Column::Name => text::value(t, &run.name),
            Column::Status => {
                status::status(&mut child, run.status);
                continue;
            }
            Column::Steps => text::body(t, format!("{} / {}", run.last_step, run.total_steps)),
            Column::Loss => text::body(t, number(run.loss)),
            Column::HeldOut => text::body(t, number(run.validation_loss)),
            Column::Quality => text::body(t, run.quality_score.map_or("–".to_owned(), |score| format!("{score:.0}"))),
            Column::Time => text::body(t, duration(run.seconds)),
            Column::Created => text::body(t, ago(run.created, now)),
        };
        child.add(Label::new(shown).truncate());
    }
    if response.on_hover_cursor(CursorIcon::PointingHand).clicked() {
        out.push(Command::Go(Route::Run(run.id.to_string())));
    }
}
