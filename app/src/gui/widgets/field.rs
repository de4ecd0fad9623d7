//! Inputs with their label, and terms that explain themselves.

use super::button::focus_ring;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use eframe::egui::{
    Align, CornerRadius, Id, Layout, Response, Sense, TextEdit, TextStyle, TextWrapMode, Ui, WidgetText, vec2,
};

/// Beside the text of an input.
const MARGIN: f32 = 10.0;
/// Room for the names of inputs that stand below each other.
const NAMES: f32 = 168.0;

/// A line of text with a name.
pub fn line(ui: &mut Ui, name: &str, value: &mut String, placeholder: &str, width: f32) -> Response {
    together(ui, name, width);
    let label = ui.label(text::hint(of(ui), name));
    named_line(ui, &label, value, placeholder, width)
}

/// Begin a new row where the rest of this one has no room for an input together with its name.
fn together(ui: &mut Ui, name: &str, width: f32) {
    let is_begun = ui.cursor().left() > ui.max_rect().left() + 1.0;
    if !ui.layout().main_wrap() || !is_begun {
        return;
    }
    let name = WidgetText::from(text::hint(of(ui), name));
    let name = name.into_galley(ui, Some(TextWrapMode::Extend), f32::INFINITY, TextStyle::Body);
    let needed = name.size().x + ui.spacing().item_spacing.x + width + 2.0 * MARGIN;
    if ui.available_size_before_wrap().x < needed {
        ui.end_row();
    }
}

/// The name of an input in a column of them, with what it means if that is not plain.
pub fn name(ui: &mut Ui, name: &str, sentence: Option<&str>) -> Response {
    let size = vec2(NAMES, ui.spacing().interact_size.y);
    let drawn = ui.allocate_ui_with_layout(size, Layout::left_to_right(Align::Center), |ui| {
        ui.set_min_size(size);
        let label = ui.label(text::hint(of(ui), name));
        if let Some(sentence) = sentence {
            explain(ui, name, sentence);
        }
        label
    });
    drawn.inner
}

/// A line of text behind its name.
pub fn named_line(ui: &mut Ui, label: &Response, value: &mut String, placeholder: &str, width: f32) -> Response {
    let t = of(ui);
    let edit = TextEdit::singleline(value)
        .hint_text(text::body(t, placeholder).color(t.text3))
        .desired_width(width)
        .margin(vec2(MARGIN, 7.0));
    named(ui, edit, label.id)
}

/// An input that is named by a label; where the keyboard is, can be seen.
pub fn named(ui: &mut Ui, edit: TextEdit<'_>, label: Id) -> Response {
    let response = ui.add(edit).labelled_by(label);
    ring(ui, &response);
    response
}

fn ring(ui: &Ui, response: &Response) {
    if response.has_focus() {
        focus_ring(ui, response.rect, CornerRadius::same(space::RADIUS));
    }
}

/// A search field; its name is not shown.
pub fn search(ui: &mut Ui, name: &str, value: &mut String, width: f32) -> Response {
    let t = of(ui);
    let edit = TextEdit::singleline(value)
        .hint_text(text::body(t, name).color(t.text3))
        .desired_width(width)
        .margin(eframe::egui::Margin { left: 30, right: 10, top: 7, bottom: 7 });
    let response = ui.add(edit);
    let at = eframe::egui::Rect::from_center_size(response.rect.left_center() + vec2(16.0, 0.0), vec2(16.0, 16.0));
    ring(ui, &response);
    Icon::Search.paint(ui.painter(), at, 15.0, t.text3);
    let (enabled, shown) = (ui.is_enabled(), value.clone());
    response.widget_info(|| {
        let mut info = eframe::egui::WidgetInfo::text_edit(enabled, "", &shown, "");
        info.label = Some(name.to_owned());
        info
    });
    response
}

/// A question mark that explains something.
pub fn explain(ui: &mut Ui, what: &str, sentence: &str) {
    let t = of(ui);
    let (rect, response) = ui.allocate_exact_size(vec2(16.0, 18.0), Sense::hover());
    Icon::Help.paint(ui.painter(), rect, 14.0, t.text3);
    let name = format!("What is {what}?");
    response.widget_info(|| eframe::egui::WidgetInfo::labeled(eframe::egui::Role::Image, true, &name));
    response.on_hover_ui(|ui| {
        ui.set_max_width(300.0);
        ui.label(text::card_title(t, what));
        ui.label(text::body(t, sentence));
    });
}

/// Tabs: a row of words, one of them chosen.
pub fn tabs<T: Copy + PartialEq>(ui: &mut Ui, chosen: &mut T, all: &[(T, &str)]) {
    let t = of(ui);
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = space::XS;
        for (value, word) in all {
            let is_chosen = *chosen == *value;
            let color = if is_chosen { t.text } else { t.text3 };
            let word_shown = if is_chosen { text::toned_strong(color, *word) } else { text::toned(color, *word) };
            let response = ui.selectable_label(is_chosen, word_shown);
            if is_chosen {
                let r = response.rect;
                ui.painter().hline(r.left() + 6.0..=r.right() - 6.0, r.bottom() + 1.0, (2.0, t.accent));
            }
            if response.clicked() {
                *chosen = *value;
            }
        }
    });
}
