//! What everything looks like: tokens, fonts, sizes. Colours are made here and nowhere else.

pub mod icons;
pub mod style;
pub mod text;
pub mod tokens;

use eframe::egui::{Context, Id, Ui};
use serde::{Deserialize, Serialize};
pub use tokens::Tokens;

/// Which theme a person asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThemeChoice {
    /// As the desktop says.
    #[default]
    System,
    /// Dark.
    Dark,
    /// Light.
    Light,
    /// Strong contrast, as light or dark as the desktop says.
    HighContrast,
}

impl ThemeChoice {
    /// All, with their names.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::System, "Follow the system"),
        (Self::Dark, "Dark"),
        (Self::Light, "Light"),
        (Self::HighContrast, "High contrast"),
    ];

    /// The tokens, where `system_is_dark` says what the desktop wants.
    pub fn tokens(self, system_is_dark: bool) -> &'static Tokens {
        match (self, system_is_dark) {
            (Self::Dark, _) | (Self::System, true) => &tokens::DARK,
            (Self::Light, _) | (Self::System, false) => &tokens::LIGHT,
            (Self::HighContrast, true) => &tokens::CONTRAST_DARK,
            (Self::HighContrast, false) => &tokens::CONTRAST_LIGHT,
        }
    }
}

/// Distances, in points.
pub mod space {
    /// Between an icon and its word.
    pub const XS: f32 = 4.0;
    /// Between things that belong together.
    pub const S: f32 = 8.0;
    /// Between rows.
    pub const M: f32 = 12.0;
    /// Inside cards, between cards.
    pub const L: f32 = 16.0;
    /// Page margin.
    pub const XL: f32 = 24.0;
    /// Between sections.
    pub const XXL: f32 = 32.0;
    /// Height of a control.
    pub const CONTROL: f32 = 32.0;
    /// Corner of a control.
    pub const RADIUS: u8 = 6;
    /// Corner of a card.
    pub const CARD_RADIUS: u8 = 10;
}

fn key() -> Id {
    Id::unique("peft tokens")
}

/// Make `tokens` the look of everything from here on.
pub fn apply(ctx: &Context, tokens: &'static Tokens) {
    ctx.data_mut(|data| data.insert_temp(key(), tokens));
    style::apply(ctx, tokens);
}

/// The tokens in use.
pub fn of(ui: &Ui) -> &'static Tokens {
    ui.ctx().data(|data| data.get_temp(key())).unwrap_or(&tokens::DARK)
}
