//! Cards and what is in them: rows of label and value, numbers, tooltips.

use crate::gui::glossary;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text, tokens};
use crate::gui::widgets::button::focus_ring;
use eframe::egui::{
    Align, CornerRadius, CursorIcon, Frame, InnerResponse, Label, Layout, Margin, Rect, Response, RichText, Role,
    Sense, Stroke, StrokeKind, TextStyle, TextWrapMode, Ui, UiBuilder, WidgetInfo, WidgetText, vec2,
};

/// A surface with a thin outline.
pub fn card<R>(ui: &mut Ui, add: impl FnOnce(&mut Ui) -> R) -> InnerResponse<R> {
    let t = of(ui);
    Frame::new()
        .fill(t.surface)
        .stroke(Stroke::new(t.stroke, t.border))
        .corner_radius(CornerRadius::same(space::CARD_RADIUS))
        .inner_margin(Margin::same(16))
        .show(ui, |ui| {
            ui.set_width(ui.available_width());
            // Columns justify; prose must not be stretched.
            ui.with_layout(Layout::top_down(Align::Min), add).inner
        })
}

/// A card that can be pressed as a whole. `name` is what it is called.
pub fn pressable(ui: &mut Ui, name: &str, is_chosen: bool, height: f32, add: impl FnOnce(&mut Ui)) -> Response {
    let t = of(ui);
    let width = ui.available_width();
    let (rect, response) = ui.allocate_exact_size(vec2(width, height), Sense::click());
    response.widget_info(|| WidgetInfo::selected(Role::Button, true, is_chosen, name));
    let is_hot = response.hovered();
    let radius = CornerRadius::same(space::CARD_RADIUS);
    let (width, border) = match (is_chosen, is_hot) {
        (true, _) => (2.0_f32.max(t.stroke), t.accent),
        (false, true) => (t.stroke, t.border_strong),
        (false, false) => (t.stroke, t.border),
    };
    let fill = if is_hot && !is_chosen { tokens::faded(t.hover, 0.6) } else { t.surface };
    ui.painter().rect(rect, radius, t.surface, Stroke::NONE, StrokeKind::Inside);
    ui.painter().rect(rect, radius, fill, Stroke::new(width, border), StrokeKind::Inside);
    if response.has_focus() {
        focus_ring(ui, rect, radius);
    }
    let inner = rect.shrink(14.0);
    let mut child = ui.new_child(UiBuilder::new().max_rect(inner).layout(Layout::top_down(Align::Min)));
    child.set_clip_rect(inner.expand(2.0).intersect(ui.clip_rect()));
    child.style_mut().interaction.selectable_labels = false;
    add(&mut child);
    response.on_hover_cursor(CursorIcon::PointingHand)
}

/// A small label over a large number.
pub fn stat(ui: &mut Ui, label: &str, value: &str) {
    let t = of(ui);
    let [label_text, number] = [text::hint(t, label), text::number(t, value)];
    let whole = |text: &RichText| {
        let text = WidgetText::from(text.clone());
        text.into_galley(ui, Some(TextWrapMode::Extend), f32::INFINITY, TextStyle::Body).size()
    };
    let (above, below) = (whole(&label_text), whole(&number));
    // As large as its words: where there is no room for them, it goes to the next line instead of breaking them.
    let size = vec2(above.x.max(below.x).ceil() + 1.0, above.y + 2.0 + below.y);
    ui.allocate_ui_with_layout(size, Layout::top_down(Align::Min), |ui| {
        ui.spacing_mut().item_spacing.y = 2.0;
        glossary::explained(ui.label(label_text), label);
        ui.label(number);
    });
}

/// A label and its value on one line.
pub fn row(ui: &mut Ui, label: &str, value: &str) {
    let t = of(ui);
    ui.horizontal(|ui| {
        ui.add_sized([130.0, 18.0], Label::new(text::hint(t, label)).halign(eframe::egui::Align::LEFT));
        ui.add(Label::new(text::value(t, value)).truncate());
    });
}

/// An icon in a line of text.
pub fn icon_label(ui: &mut Ui, icon: Icon, color: eframe::egui::Color32, size: f32) -> Rect {
    let (rect, _) = ui.allocate_exact_size(vec2(size, size.max(18.0)), Sense::hover());
    icon.paint(ui.painter(), rect, size, color);
    rect
}

/// A coloured word with a dot: says more than a colour alone.
pub fn chip(ui: &mut Ui, tone: tokens::Tone, word: &str) -> Response {
    let t = of(ui);
    let font = eframe::egui::FontId::proportional(12.0);
    let words = ui.painter().layout_no_wrap(word.to_owned(), font, tone.fg);
    let (rect, response) = ui.allocate_exact_size(vec2(words.size().x + 20.0, 22.0), Sense::hover());
    response.widget_info(|| WidgetInfo::labeled(Role::Label, true, word));
    let outline = Stroke::new(t.stroke, tokens::faded(tone.fg, 0.35));
    ui.painter().rect(rect, CornerRadius::same(11), tone.bg, outline, StrokeKind::Inside);
    ui.painter().galley(rect.center() - words.size() / 2.0, words, tone.fg);
    response
}

/// A word of a legend with its colour; both stay on one line.
pub fn legend(ui: &mut Ui, color: eframe::egui::Color32, word: &str) -> Response {
    let t = of(ui);
    let font = eframe::egui::FontId::proportional(12.0);
    let words = ui.painter().layout_no_wrap(word.to_owned(), font, t.text3);
    let (rect, response) =
        ui.allocate_exact_size(vec2(words.size().x + 16.0, words.size().y.max(16.0)), Sense::hover());
    response.widget_info(|| WidgetInfo::labeled(Role::Label, true, word));
    ui.painter().circle_filled(rect.left_center() + vec2(5.0, 0.0), 4.0, color);
    let at = eframe::egui::pos2(rect.left() + 14.0, rect.center().y - words.size().y / 2.0);
    ui.painter().galley(at, words, t.text3);
    response
}

/// A page's title with a sentence under it.
pub fn heading(ui: &mut Ui, title: &str, sentence: &str) {
    let t = of(ui);
    ui.spacing_mut().item_spacing.y = 4.0;
    ui.label(text::title(t, title));
    if !sentence.is_empty() {
        ui.label(text::body(t, sentence));
    }
    ui.spacing_mut().item_spacing.y = space::S;
    ui.add_space(space::L);
}
