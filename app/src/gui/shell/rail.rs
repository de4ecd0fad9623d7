//! The rail at the left: every page, one press away.

use crate::gui::command::{Command, Out};
use crate::gui::route::{RAIL, Route};
use crate::gui::state::State;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text, tokens};
use crate::gui::widgets::button::focus_ring;
use eframe::egui::{
    Align2, CornerRadius, CursorIcon, FontId, Frame, Margin, Panel, Rect, Role, ScrollArea, Sense, Stroke, Ui, Vec2,
    WidgetInfo, pos2, vec2,
};

/// Below this width of the window words would cost more than they tell.
const NARROW: f32 = 900.0;

/// Draw it.
pub fn rail_ui(ui: &mut Ui, state: &State, out: &mut Out) {
    let t = of(ui);
    let is_wide = state.settings.wide_rail && ui.available_width() >= NARROW;
    let width = if is_wide { 188.0 } else { 60.0 };
    let frame = Frame::new().fill(t.surface).inner_margin(Margin::symmetric(10, 14));
    Panel::left("rail").frame(frame).exact_size(width).resizable(false).show(ui, |ui| {
        ui.spacing_mut().item_spacing.y = GAP;
        brand(ui, is_wide);
        ui.add_space(space::M);
        let height = item_height(ui.available_height());
        ScrollArea::vertical().id_salt("rail").show(ui, |ui| {
            for (index, (route, name, icon)) in RAIL.iter().enumerate() {
                if *route == Route::Settings {
                    ui.add_space(space::M);
                }
                let is_here = state.route.section() == *route;
                if item(ui, (*icon, name, index), is_here, is_wide, height) {
                    out.push(Command::Go(route.clone()));
                }
            }
        });
    });
}

/// The mark and the name.
fn brand(ui: &mut Ui, is_wide: bool) {
    let t = of(ui);
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), 32.0), Sense::hover());
    let mark = Rect::from_min_size(rect.min + vec2(5.0, 2.0), Vec2::splat(28.0));
    let painter = ui.painter();
    // As in the application icon: a frozen model, and two thin strips that are learned.
    painter.rect_filled(mark, CornerRadius::same(7), t.accent_fill);
    let part = |x: f32, y: f32, w: f32, h: f32| {
        Rect::from_min_size(mark.min + vec2(x, y) * (28.0 / 64.0), vec2(w, h) * (28.0 / 64.0))
    };
    painter.rect_filled(part(24.0, 24.0, 28.0, 28.0), CornerRadius::same(2), tokens::faded(t.on_accent, 0.45));
    painter.rect_filled(part(11.0, 24.0, 8.0, 28.0), CornerRadius::same(1), t.on_accent);
    painter.rect_filled(part(24.0, 11.0, 28.0, 8.0), CornerRadius::same(1), t.on_accent);
    if is_wide {
        let font = FontId::new(15.0, text::strong_family());
        painter.text(pos2(mark.right() + 10.0, mark.center().y), Align2::LEFT_CENTER, "PEFT Studio", font, t.text);
    }
}

/// Space between pages.
const GAP: f32 = 4.0;

/// As high as it looks best, or lower so that all pages are seen at once, or as low as fingers can still meet; then the
/// rail is scrolled.
fn item_height(room: f32) -> f32 {
    let count = RAIL.len() as f32;
    ((room - space::M - GAP) / count - GAP).floor().clamp(28.0, 36.0)
}

fn item(ui: &mut Ui, (icon, name, index): (Icon, &str, usize), is_here: bool, is_wide: bool, height: f32) -> bool {
    let t = of(ui);
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), height), Sense::click());
    response.widget_info(|| WidgetInfo::selected(Role::Button, true, is_here, name));
    let radius = CornerRadius::same(space::RADIUS);
    let fg = if is_here { t.text } else { t.text2 };
    if is_here {
        ui.painter().rect_filled(rect, radius, tokens::faded(t.accent, if t.is_dark { 0.18 } else { 0.12 }));
        let bar = Rect::from_center_size(pos2(rect.left() + 1.5, rect.center().y), vec2(3.0, height * 0.55));
        ui.painter().rect_filled(bar, CornerRadius::same(2), t.accent);
    } else if response.hovered() {
        ui.painter().rect(rect, radius, t.hover, Stroke::NONE, eframe::egui::StrokeKind::Inside);
    }
    if response.has_focus() {
        focus_ring(ui, rect.shrink(2.0), radius);
    }
    let center = if is_wide { rect.left() + 21.0 } else { rect.center().x };
    let at = Rect::from_center_size(pos2(center, rect.center().y), Vec2::splat(20.0));
    icon.paint(ui.painter(), at, 19.0, if is_here { t.accent } else { fg });
    if is_wide {
        let font = if is_here { FontId::new(13.5, text::strong_family()) } else { FontId::proportional(13.5) };
        ui.painter().text(pos2(rect.left() + 42.0, rect.center().y), Align2::LEFT_CENTER, name, font, fg);
    }
    let hint = if index < 9 { format!("{name}  ·  Ctrl+{}", index + 1) } else { name.to_owned() };
    response.on_hover_cursor(CursorIcon::PointingHand).on_hover_text(hint).clicked()
}
