//! Where a run is, in a coloured word; and how far.

use crate::gui::theme::tokens::{Tone, faded};
use crate::gui::theme::{Tokens, of};
use crate::gui::widgets::card::chip;
use eframe::egui::{CornerRadius, Role, Sense, Ui, WidgetInfo, vec2};
use peft_storage::Status;

/// The word for a status.
pub fn word(status: Status) -> &'static str {
    match status {
        Status::Queued => "Waiting",
        Status::Running => "Training",
        Status::Paused => "Paused",
        Status::Stopped => "Stopped",
        Status::Finished => "Finished",
        Status::Failed => "Failed",
        Status::Interrupted => "Interrupted",
    }
}

fn tone(t: &Tokens, status: Status) -> Tone {
    match status {
        Status::Queued | Status::Stopped => Tone { fg: t.text2, bg: t.hover },
        Status::Running => t.info,
        Status::Paused | Status::Interrupted => t.warn,
        Status::Finished => t.ok,
        Status::Failed => t.bad,
    }
}

/// A status as a chip.
pub fn status(ui: &mut Ui, status: Status) {
    chip(ui, tone(of(ui), status), word(status));
}

/// A bar with ticks at the quarters. `share` is 0 to 1.
pub fn progress(ui: &mut Ui, name: &str, share: f32, height: f32) {
    let t = of(ui);
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), height), Sense::hover());
    response.widget_info(|| {
        let mut info = WidgetInfo::labeled(Role::ProgressIndicator, true, name);
        info.value = Some(f64::from(share));
        info
    });
    let radius = CornerRadius::same((height / 2.0) as u8);
    ui.painter().rect_filled(rect, radius, t.hover);
    let mut filled = rect;
    filled.set_width((rect.width() * share).max(if share > 0.0 { height } else { 0.0 }));
    ui.painter().rect_filled(filled, radius, t.accent);
    if height >= 6.0 {
        for quarter in 1..4 {
            let x = rect.left() + rect.width() * quarter as f32 / 4.0;
            ui.painter().vline(x, rect.y_range(), (1.0, faded(t.bg, 0.7)));
        }
    }
}
