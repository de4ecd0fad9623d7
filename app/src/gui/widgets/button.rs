//! Buttons: filled for the one thing to do, outlined for others, quiet for the rest.

use crate::gui::theme::icons::Icon;
use crate::gui::theme::{Tokens, of, space, text, tokens};
use eframe::egui::{
    Align2, Color32, CornerRadius, CursorIcon, FontId, Rect, Response, Role, Sense, Stroke, StrokeKind, Ui, Vec2,
    WidgetInfo, pos2, vec2,
};

/// How loud a button is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    Primary,
    Secondary,
    Quiet,
    Danger,
}

/// A button with a word, an icon, or both.
pub struct Button<'a> {
    label: &'a str,
    /// What it is called where it shows no word.
    name: &'a str,
    icon: Option<Icon>,
    weight: Weight,
    is_enabled: bool,
    is_small: bool,
}

/// The one thing to do.
pub fn primary(label: &str) -> Button<'_> {
    Button::new(label, Weight::Primary)
}

/// Another thing to do.
pub fn secondary(label: &str) -> Button<'_> {
    Button::new(label, Weight::Secondary)
}

/// A thing to do that does not ask for attention.
pub fn quiet(label: &str) -> Button<'_> {
    Button::new(label, Weight::Quiet)
}

/// What cannot be taken back.
pub fn danger(label: &str) -> Button<'_> {
    Button::new(label, Weight::Danger)
}

/// An icon alone; `name` is its tooltip and what screen readers say.
pub fn icon(icon: Icon, name: &str) -> Button<'_> {
    Button { label: "", name, ..Button::new("", Weight::Quiet) }.icon(icon)
}

impl<'a> Button<'a> {
    fn new(label: &'a str, weight: Weight) -> Self {
        Self { label, name: label, icon: None, weight, is_enabled: true, is_small: false }
    }

    /// With an icon before the word.
    pub fn icon(mut self, icon: Icon) -> Self {
        self.icon = Some(icon);
        self
    }

    /// Whether it can be pressed.
    pub fn enabled(mut self, is_enabled: bool) -> Self {
        self.is_enabled = is_enabled;
        self
    }

    /// What it is called, where several have the same word.
    pub fn named(mut self, name: &'a str) -> Self {
        self.name = name;
        self
    }

    /// For rows of tables.
    pub fn small(mut self) -> Self {
        self.is_small = true;
        self
    }

    /// Draw it; whether it was pressed is in the response.
    pub fn ui(self, ui: &mut Ui) -> Response {
        let t = of(ui);
        let height = match (self.is_small, self.weight) {
            (true, _) => 26.0,
            (false, Weight::Primary) => 34.0,
            (false, _) => space::CONTROL,
        };
        let font = match self.weight {
            Weight::Primary => FontId::new(13.5, text::strong_family()),
            _ if self.is_small => FontId::proportional(12.5),
            _ => FontId::proportional(13.5),
        };
        let galley = ui.painter().layout_no_wrap(self.label.to_owned(), font.clone(), t.text);
        let icon_size = if self.is_small { 14.0 } else { 16.0 };
        let has_both = self.icon.is_some() && !self.label.is_empty();
        let icon_width = if self.icon.is_some() { icon_size } else { 0.0 };
        let padding = if self.label.is_empty() { (height - icon_size) / 2.0 } else { 12.0 };
        let width = galley.size().x + icon_width + if has_both { 7.0 } else { 0.0 } + 2.0 * padding;
        let sense = if self.is_enabled { Sense::click() } else { Sense::hover() };
        let (rect, response) = ui.allocate_exact_size(vec2(width, height), sense);
        let (name, is_enabled) = (self.name.to_owned(), self.is_enabled);
        response.widget_info(|| WidgetInfo::labeled(Role::Button, is_enabled, &name));
        if ui.is_rect_visible(rect) {
            self.paint(ui, t, rect, &response, &font, icon_size, padding);
        }
        let response = if self.is_enabled { response.on_hover_cursor(CursorIcon::PointingHand) } else { response };
        if self.label.is_empty() { response.on_hover_text(self.name) } else { response }
    }

    fn paint(&self, ui: &Ui, t: &Tokens, rect: Rect, response: &Response, font: &FontId, icon_size: f32, padding: f32) {
        let is_hot = self.is_enabled && (response.hovered() || response.is_pointer_button_down_on());
        let (fill, border, fg) = match self.weight {
            Weight::Primary if is_hot => (tokens::faded(t.accent_fill, 0.88), t.accent_fill, t.on_accent),
            Weight::Primary => (t.accent_fill, t.accent_fill, t.on_accent),
            Weight::Secondary if is_hot => (t.hover, t.border_strong, t.text),
            Weight::Secondary => (t.surface, tokens::faded(t.border_strong, 0.7), t.text),
            Weight::Quiet if is_hot => (t.hover, tokens::NOTHING, t.text),
            Weight::Quiet => (tokens::NOTHING, tokens::NOTHING, t.text2),
            Weight::Danger if is_hot => (t.bad.bg, t.bad.fg, t.bad.fg),
            Weight::Danger => (t.surface, tokens::faded(t.bad.fg, 0.6), t.bad.fg),
        };
        let strength = |color: Color32| if self.is_enabled { color } else { tokens::faded(color, 0.45) };
        let (fill, border, fg) = (strength(fill), strength(border), strength(fg));
        let radius = CornerRadius::same(space::RADIUS);
        ui.painter().rect(rect, radius, fill, Stroke::new(t.stroke, border), StrokeKind::Inside);
        if response.has_focus() {
            focus_ring(ui, rect, radius);
        }
        let mut x = rect.left() + padding;
        if let Some(icon) = self.icon {
            let at = Rect::from_center_size(pos2(x + icon_size / 2.0, rect.center().y), Vec2::splat(icon_size));
            icon.paint(ui.painter(), at, icon_size, fg);
            x += icon_size + 7.0;
        }
        ui.painter().text(pos2(x, rect.center().y), Align2::LEFT_CENTER, self.label, font.clone(), fg);
    }
}

/// The ring around what has the keyboard.
pub fn focus_ring(ui: &Ui, rect: Rect, radius: CornerRadius) {
    ui.painter().rect_stroke(
        rect.expand(2.0),
        radius + CornerRadius::same(2),
        Stroke::new(2.0, of(ui).focus),
        StrokeKind::Outside,
    );
}
