//! Files that are dropped anywhere on the window.

use crate::gui::command::{Command, Out};
use crate::gui::route::Route;
use crate::gui::theme::{of, space, text, tokens};
use eframe::egui::{Align2, Area, CornerRadius, Id, Order, Stroke, StrokeKind, Ui, vec2};
use std::path::PathBuf;

/// More files than anybody means to drop.
const MOST: usize = 200;

/// Examples are looked at; a GGUF file or an adapter is talked to; a folder with a model becomes the wizard's model;
/// settings of another program and whatever is dropped on the page of presets are read there.
pub fn read(ui: &Ui, here: &Route, out: &mut Out) {
    let dropped: Vec<PathBuf> =
        ui.input(|input| input.raw.dropped_files.iter().map(|file| file.path().to_owned()).collect());
    let dropped: Vec<PathBuf> = dropped.into_iter().filter(|path| !path.as_os_str().is_empty()).take(MOST).collect();
    let Some(first) = dropped.first() else { return };
    let is_one = dropped.len() == 1;
    let ends = |endings: &[&str]| {
        first.extension().is_some_and(|ending| endings.iter().any(|known| ending.eq_ignore_ascii_case(known)))
    };
    // One look at one folder: a fraction of a millisecond.
    let holds = |name: &str| is_one && first.join(name).is_file();
    let is_settings = *here == Route::Presets || ends(&["yaml", "yml", "py", "ipynb"]);
    out.push(if holds("adapter_config.json") || (is_one && ends(&["gguf"])) {
        Command::TalkTo(first.clone())
    } else if holds("config.json") {
        Command::UseModel(first.display().to_string())
    } else if is_one && is_settings {
        Command::TakeIn(first.clone())
    } else {
        Command::Inspect(dropped)
    });
}

/// While files hang over the window, it says what will happen.
pub fn overlay(ui: &Ui) {
    let count = ui.input(|input| input.raw.hovered_files.len());
    if count == 0 {
        return;
    }
    let t = of(ui);
    let rect = ui.ctx().content_rect();
    Area::new(Id::unique("drop overlay")).order(Order::Foreground).fixed_pos(rect.min).show(ui.ctx(), |ui| {
        let painter = ui.painter();
        painter.rect_filled(rect, CornerRadius::ZERO, tokens::backdrop());
        let card = eframe::egui::Rect::from_center_size(rect.center(), vec2(420.0_f32.min(rect.width() - 32.0), 120.0));
        let radius = CornerRadius::same(space::CARD_RADIUS);
        painter.rect(card, radius, t.raised, Stroke::new(2.0, t.accent), StrokeKind::Inside);
        let font = eframe::egui::FontId::new(16.0, text::strong_family());
        let title =
            if count == 1 { "Drop to look at this file".to_owned() } else { format!("Drop to look at {count} files") };
        painter.text(card.center() - vec2(0.0, 12.0), Align2::CENTER_CENTER, title, font, t.text);
        let font = eframe::egui::FontId::proportional(13.0);
        let line = "Examples are checked before anything is trained on";
        painter.text(card.center() + vec2(0.0, 16.0), Align2::CENTER_CENTER, line, font, t.text2);
    });
}
