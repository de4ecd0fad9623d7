//! The bar above the page: where we are, the way back, the palette.

use crate::gui::command::{Command, Out};
use crate::gui::route::Route;
use crate::gui::state::State;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text, tokens};
use crate::gui::widgets::button;
use eframe::egui::{
    Align, Align2, CornerRadius, CursorIcon, FontId, Frame, Label, Layout, Margin, Panel, Rect, Role, Sense, Stroke,
    StrokeKind, Ui, Vec2, WidgetInfo, pos2, vec2,
};

/// Draw it.
pub fn top_bar_ui(ui: &mut Ui, state: &State, out: &mut Out) {
    let t = of(ui);
    let frame = Frame::new().fill(t.bg).inner_margin(Margin { left: 24, right: 24, top: 10, bottom: 8 });
    Panel::top("top bar").frame(frame).exact_size(50.0).resizable(false).show(ui, |ui| {
        ui.horizontal_centered(|ui| {
            if !state.before.is_empty() && button::icon(Icon::ArrowLeft, "Back").ui(ui).clicked() {
                out.push(Command::Back);
            }
            let room = ui.available_width();
            let here = match &state.route {
                Route::Run(id) => state.data.run(id).map(|run| run.name.clone()),
                _ => None,
            };
            let name = state.route.name();
            if here.is_some() && room > 420.0 {
                ui.label(text::body(t, name));
                let (rect, _) = ui.allocate_exact_size(vec2(12.0, 18.0), Sense::hover());
                Icon::ChevronRight.paint(ui.painter(), rect, 13.0, t.text3);
            }
            let shown = here.unwrap_or_else(|| name.to_owned());
            let wide = (room - 300.0).clamp(60.0, 520.0);
            ui.allocate_ui_with_layout(vec2(wide, 24.0), Layout::left_to_right(Align::Center), |ui| {
                ui.add(Label::new(text::value(t, shown)).truncate());
            });
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                if search_box(ui, room) {
                    out.push(Command::Palette(true));
                }
            });
        });
    });
}

/// Looks like a field, opens the palette.
fn search_box(ui: &mut Ui, room: f32) -> bool {
    let t = of(ui);
    let width = if room > 560.0 { 260.0 } else { 40.0 };
    let (rect, response) = ui.allocate_exact_size(vec2(width, space::CONTROL), Sense::click());
    response.widget_info(|| WidgetInfo::labeled(Role::Button, true, "Search or do anything"));
    let radius = CornerRadius::same(space::RADIUS);
    let border = if response.hovered() { t.border_strong } else { t.border };
    ui.painter().rect(rect, radius, t.surface, Stroke::new(t.stroke, border), StrokeKind::Inside);
    if response.has_focus() {
        button::focus_ring(ui, rect, radius);
    }
    let icon = Rect::from_center_size(pos2(rect.left() + 20.0, rect.center().y), Vec2::splat(16.0));
    Icon::Search.paint(ui.painter(), icon, 15.0, t.text3);
    if width > 100.0 {
        let font = FontId::proportional(13.0);
        let at = pos2(rect.left() + 38.0, rect.center().y);
        ui.painter().text(at, Align2::LEFT_CENTER, "Search or do anything", font, t.text3);
        let key = Rect::from_min_max(pos2(rect.right() - 56.0, rect.top() + 6.0), rect.max - vec2(6.0, 6.0));
        ui.painter().rect_filled(key, CornerRadius::same(4), tokens::faded(t.hover, 1.0));
        ui.painter().text(key.center(), Align2::CENTER_CENTER, "Ctrl+K", FontId::proportional(11.0), t.text3);
    }
    response.on_hover_cursor(CursorIcon::PointingHand).clicked()
}
