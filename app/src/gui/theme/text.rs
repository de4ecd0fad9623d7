//! Text in its sizes.

use super::{Tokens, style};
use eframe::egui::{Color32, FontFamily, FontId, RichText};

/// The semi-bold cut.
pub fn strong_family() -> FontFamily {
    FontFamily::Name(style::STRONG.into())
}

fn sized(text: impl Into<String>, size: f32, color: Color32) -> RichText {
    RichText::new(text).size(size).color(color)
}

fn heavy(text: impl Into<String>, size: f32, color: Color32) -> RichText {
    RichText::new(text).font(FontId::new(size, strong_family())).color(color)
}

/// The title of a page.
pub fn title(t: &Tokens, text: impl Into<String>) -> RichText {
    heavy(text, 22.0, t.text)
}

/// The title of a section.
pub fn section(t: &Tokens, text: impl Into<String>) -> RichText {
    heavy(text, 16.0, t.text)
}

/// The title of a card.
pub fn card_title(t: &Tokens, text: impl Into<String>) -> RichText {
    heavy(text, 14.0, t.text)
}

/// What matters in a row.
pub fn value(t: &Tokens, text: impl Into<String>) -> RichText {
    sized(text, 14.0, t.text)
}

/// Prose.
pub fn body(t: &Tokens, text: impl Into<String>) -> RichText {
    sized(text, 14.0, t.text2)
}

/// Hints and labels.
pub fn hint(t: &Tokens, text: impl Into<String>) -> RichText {
    sized(text, 12.0, t.text3)
}

/// A large number.
pub fn number(t: &Tokens, text: impl Into<String>) -> RichText {
    heavy(text, 20.0, t.text)
}

/// Code, paths, ids.
pub fn code(t: &Tokens, text: impl Into<String>) -> RichText {
    RichText::new(text).font(FontId::monospace(12.5)).color(t.text2)
}

/// Coloured words.
pub fn toned(color: Color32, text: impl Into<String>) -> RichText {
    sized(text, 13.0, color)
}

/// Coloured and semi-bold.
pub fn toned_strong(color: Color32, text: impl Into<String>) -> RichText {
    heavy(text, 13.0, color)
}
