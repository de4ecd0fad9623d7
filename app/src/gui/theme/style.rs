//! egui's own widgets in our tokens, and the fonts.

use super::{Tokens, space, tokens::NOTHING, tokens::faded};
use eframe::egui::style::{ScrollStyle, Selection, WidgetVisuals};
use eframe::egui::{
    Context, CornerRadius, FontData, FontDefinitions, FontFamily, FontId, Margin, Shadow, Stroke, TextStyle, Theme,
    vec2,
};
use std::sync::Arc;

/// Name of the semi-bold family.
pub const STRONG: &str = "strong";

/// Our fonts first; what they lack comes from egui's own and from the system.
pub fn install_fonts(ctx: &Context) {
    let mut fonts = FontDefinitions::default();
    let ours: [(&str, &'static [u8]); 4] = [
        ("inter", include_bytes!("../../../fonts/Inter-Regular.otf")),
        ("inter-semibold", include_bytes!("../../../fonts/Inter-SemiBold.otf")),
        ("jetbrains-mono", include_bytes!("../../../fonts/JetBrainsMono-Regular.ttf")),
        ("noto-emoji", include_bytes!("../../../fonts/NotoEmoji-Regular.ttf")),
    ];
    for (name, bytes) in ours {
        fonts.font_data.insert(name.to_owned(), Arc::new(FontData::from_static(bytes)));
    }
    let fallback = fonts.families.get(&FontFamily::Proportional).cloned().unwrap_or_default();
    let mut strong = vec!["inter-semibold".to_owned()];
    strong.extend(fallback);
    fonts.families.insert(FontFamily::Name(STRONG.into()), strong);
    fonts.families.entry(FontFamily::Proportional).or_default().insert(0, "inter".to_owned());
    fonts.families.entry(FontFamily::Monospace).or_default().insert(0, "jetbrains-mono".to_owned());
    // Pictures come last: digits and signs that are letters, too, stay letters.
    for family in fonts.families.values_mut() {
        family.push("noto-emoji".to_owned());
    }
    ctx.set_fonts(fonts);
}

/// Set both of egui's styles: which of them is in use makes no difference.
pub fn apply(ctx: &Context, t: &'static Tokens) {
    ctx.set_theme(if t.is_dark { Theme::Dark } else { Theme::Light });
    ctx.all_styles_mut(|style| {
        style.text_styles = [
            (TextStyle::Small, FontId::proportional(12.0)),
            (TextStyle::Body, FontId::proportional(14.0)),
            (TextStyle::Button, FontId::proportional(14.0)),
            (TextStyle::Heading, FontId::new(18.0, FontFamily::Name(STRONG.into()))),
            (TextStyle::Monospace, FontId::monospace(13.0)),
        ]
        .into();
        style.spacing.item_spacing = vec2(space::S, space::S);
        style.spacing.button_padding = vec2(12.0, 6.0);
        style.spacing.interact_size = vec2(40.0, 28.0);
        style.spacing.window_margin = Margin::same(20);
        style.spacing.menu_margin = Margin::same(6);
        style.spacing.icon_spacing = 8.0;
        style.spacing.icon_width = 18.0;
        style.spacing.icon_width_inner = 10.0;
        style.spacing.scroll = ScrollStyle::thin();
        style.spacing.slider_width = 180.0;
        style.animation_time = 0.12;
        style.interaction.tooltip_delay = 0.35;
        visuals(&mut style.visuals, t);
    });
}

fn visuals(v: &mut eframe::egui::Visuals, t: &Tokens) {
    v.dark_mode = t.is_dark;
    v.panel_fill = t.bg;
    v.window_fill = t.raised;
    v.window_stroke = Stroke::new(t.stroke, t.border);
    v.window_corner_radius = CornerRadius::same(14);
    v.menu_corner_radius = CornerRadius::same(space::CARD_RADIUS);
    let shadow = Shadow {
        offset: [0, 8],
        blur: 24,
        spread: 0,
        color: faded(super::tokens::backdrop(), if t.is_dark { 0.55 } else { 0.22 }),
    };
    v.window_shadow = shadow;
    v.popup_shadow = shadow;
    v.extreme_bg_color = if t.is_dark { t.bg } else { t.surface };
    v.text_edit_bg_color = Some(if t.is_dark { t.bg } else { t.surface });
    v.faint_bg_color = faded(t.hover, 0.45);
    v.code_bg_color = t.hover;
    v.hyperlink_color = t.link;
    v.warn_fg_color = t.warn.fg;
    v.error_fg_color = t.bad.fg;
    v.weak_text_color = Some(t.text3);
    v.selection = Selection { bg_fill: faded(t.accent, 0.35), stroke: Stroke::new(1.0, t.text) };
    v.slider_trailing_fill = true;
    let widget = |fill, border, fg, width| WidgetVisuals {
        bg_fill: fill,
        weak_bg_fill: fill,
        bg_stroke: Stroke::new(width, border),
        corner_radius: CornerRadius::same(space::RADIUS),
        fg_stroke: Stroke::new(1.25, fg),
        expansion: 0.0,
    };
    v.widgets.noninteractive = widget(t.surface, t.border, t.text2, t.stroke);
    v.widgets.inactive = widget(if t.is_dark { t.raised } else { t.hover }, t.border_strong, t.text, 1.0);
    v.widgets.inactive.bg_stroke = Stroke::new(t.stroke, faded(t.border_strong, 0.7));
    v.widgets.hovered = widget(t.hover, t.border_strong, t.text, t.stroke.max(1.0));
    v.widgets.active = widget(t.hover, t.focus, t.text, 2.0);
    v.widgets.open = widget(t.hover, t.border_strong, t.text, t.stroke);
    v.widgets.noninteractive.weak_bg_fill = NOTHING;
}
