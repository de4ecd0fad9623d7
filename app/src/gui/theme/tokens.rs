//! Every colour of the window, by role. Contrast is tested, never judged by eye.

use eframe::egui::Color32;

/// `0xRRGGBB`.
const fn hex(rgb: u32) -> Color32 {
    Color32::from_rgb((rgb >> 16) as u8, (rgb >> 8) as u8, rgb as u8)
}

/// A foreground and the tint it stands on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tone {
    /// Text, icons, stripes.
    pub fg: Color32,
    /// Behind them.
    pub bg: Color32,
}

const fn tone(fg: u32, bg: u32) -> Tone {
    Tone { fg: hex(fg), bg: hex(bg) }
}

/// The colours of one theme.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokens {
    /// Whether text is lighter than what it stands on.
    pub is_dark: bool,
    /// Behind everything.
    pub bg: Color32,
    /// Cards.
    pub surface: Color32,
    /// Menus and dialogs.
    pub raised: Color32,
    /// Under the pointer.
    pub hover: Color32,
    /// Decorative lines.
    pub border: Color32,
    /// Outlines of what can be edited.
    pub border_strong: Color32,
    /// Headings and values.
    pub text: Color32,
    /// Prose.
    pub text2: Color32,
    /// Hints.
    pub text3: Color32,
    /// Coloured text and icons.
    pub accent: Color32,
    /// Filled buttons.
    pub accent_fill: Color32,
    /// Text on them.
    pub on_accent: Color32,
    /// Links.
    pub link: Color32,
    /// The ring around what has the keyboard.
    pub focus: Color32,
    /// Went well.
    pub ok: Tone,
    /// Needs a look.
    pub warn: Tone,
    /// Went wrong.
    pub bad: Tone,
    /// Worth knowing.
    pub info: Tone,
    /// Loss zones: good, acceptable, needs attention.
    pub zones: [Color32; 3],
    /// Lines of charts, in order.
    pub series: [Color32; 8],
    /// Width of outlines.
    pub stroke: f32,
}

/// Dark.
pub static DARK: Tokens = Tokens {
    is_dark: true,
    bg: hex(0x0F_1216),
    surface: hex(0x15_181E),
    raised: hex(0x1C_2129),
    hover: hex(0x24_2A34),
    border: hex(0x2A_313C),
    border_strong: hex(0x6B_778B),
    text: hex(0xE8_ECF2),
    text2: hex(0xB4_BDCA),
    text3: hex(0x8B_96A6),
    accent: hex(0x4C_9BE8),
    accent_fill: hex(0x2A_74C0),
    on_accent: hex(0xFF_FFFF),
    link: hex(0x7C_B8F5),
    focus: hex(0x9C_CBFF),
    ok: tone(0x4C_C38A, 0x12_281F),
    warn: tone(0xF0_B429, 0x2B_220C),
    bad: tone(0xFF_7A70, 0x33_1614),
    info: tone(0x6C_B6FF, 0x0F_2236),
    zones: [hex(0x14_302A), hex(0x2E_2A14), hex(0x36_1B1B)],
    series: [
        hex(0x58_A2D8),
        hex(0xE0_9B45),
        hex(0x4F_E8C4),
        hex(0xE5_468F),
        hex(0xF7_E463),
        hex(0x99_724A),
        hex(0x41_72EB),
        hex(0xC3_C9D2),
    ],
    stroke: 1.0,
};

/// Light.
pub static LIGHT: Tokens = Tokens {
    is_dark: false,
    bg: hex(0xF4_F6F8),
    surface: hex(0xFF_FFFF),
    raised: hex(0xFF_FFFF),
    hover: hex(0xEB_EFF3),
    border: hex(0xD9_DFE6),
    border_strong: hex(0x7C_8796),
    text: hex(0x17_1B21),
    text2: hex(0x46_4F5B),
    text3: hex(0x5F_6977),
    accent: hex(0x0B_63C4),
    accent_fill: hex(0x0B_63C4),
    on_accent: hex(0xFF_FFFF),
    link: hex(0x0A_58AE),
    focus: hex(0x0B_63C4),
    ok: tone(0x15_7347, 0xE3_F5EC),
    warn: tone(0x8A_5A00, 0xFF_F4D6),
    bad: tone(0xB3_261E, 0xFD_E7E5),
    info: tone(0x0A_58AE, 0xE3_F0FD),
    zones: [hex(0xE1_F4EC), hex(0xFF_F3D1), hex(0xFB_E3E0)],
    series: [
        hex(0x1F_5FA8),
        hex(0xD9_480F),
        hex(0x16_957A),
        hex(0x7B_284E),
        hex(0x17_1B21),
        hex(0x2F_94B0),
        hex(0xF4_4577),
        hex(0x94_0000),
    ],
    stroke: 1.0,
};

/// White on black, without tints.
pub static CONTRAST_DARK: Tokens = Tokens {
    is_dark: true,
    bg: hex(0),
    surface: hex(0),
    raised: hex(0),
    hover: hex(0x2A_2A2A),
    border: hex(0xFF_FFFF),
    border_strong: hex(0xFF_FFFF),
    text: hex(0xFF_FFFF),
    text2: hex(0xFF_FFFF),
    text3: hex(0xE6_E6E6),
    accent: hex(0xFF_D400),
    accent_fill: hex(0xFF_D400),
    on_accent: hex(0),
    link: hex(0xFF_D400),
    focus: hex(0xFF_D400),
    ok: tone(0x7C_FFB2, 0),
    warn: tone(0xFF_D400, 0),
    bad: tone(0xFF_9B93, 0),
    info: tone(0x9C_CBFF, 0),
    zones: [hex(0), hex(0x1A_1A00), hex(0x2A_0000)],
    series: DARK.series,
    stroke: 2.0,
};

/// Black on white, without tints.
pub static CONTRAST_LIGHT: Tokens = Tokens {
    is_dark: false,
    bg: hex(0xFF_FFFF),
    surface: hex(0xFF_FFFF),
    raised: hex(0xFF_FFFF),
    hover: hex(0xE0_E0E0),
    border: hex(0),
    border_strong: hex(0),
    text: hex(0),
    text2: hex(0),
    text3: hex(0x26_2626),
    accent: hex(0x00_00C8),
    accent_fill: hex(0x00_00C8),
    on_accent: hex(0xFF_FFFF),
    link: hex(0x00_00C8),
    focus: hex(0x00_00C8),
    ok: tone(0x00_5A2B, 0xFF_FFFF),
    warn: tone(0x6B_4300, 0xFF_FFFF),
    bad: tone(0x99_0000, 0xFF_FFFF),
    info: tone(0x00_00C8, 0xFF_FFFF),
    zones: [hex(0xFF_FFFF), hex(0xFF_FBE5), hex(0xFF_ECEA)],
    series: LIGHT.series,
    stroke: 2.0,
};

/// Fully transparent.
pub const NOTHING: Color32 = Color32::TRANSPARENT;

/// `color` at a share of its strength.
pub fn faded(color: Color32, share: f32) -> Color32 {
    color.gamma_multiply(share)
}

/// The shade behind a dialog.
pub fn backdrop() -> Color32 {
    Color32::from_black_alpha(140)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance of WCAG 2.
    fn luminance(color: Color32) -> f64 {
        let part = |byte: u8| {
            let c = f64::from(byte) / 255.0;
            if c <= 0.039_28 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(color.r()) + 0.7152 * part(color.g()) + 0.0722 * part(color.b())
    }

    fn contrast(a: Color32, b: Color32) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn text_has_a_contrast_of_at_least_4_5_in_every_theme() {
        for (name, t) in
            [("dark", &DARK), ("light", &LIGHT), ("contrast dark", &CONTRAST_DARK), ("contrast light", &CONTRAST_LIGHT)]
        {
            let mut pairs = vec![(t.on_accent, t.accent_fill, "button")];
            for (at, where_) in [(t.bg, "bg"), (t.surface, "surface"), (t.raised, "raised"), (t.hover, "hover")] {
                pairs.extend([(t.text, at, where_), (t.text2, at, where_), (t.text3, at, where_)]);
            }
            for at in [t.bg, t.surface, t.raised] {
                pairs.extend([(t.accent, at, "accent"), (t.link, at, "link")]);
            }
            for tone in [t.ok, t.warn, t.bad, t.info] {
                pairs.extend([(tone.fg, tone.bg, "tone"), (tone.fg, t.surface, "tone on a card")]);
                pairs.extend([(t.text, tone.bg, "text on a tone"), (t.text2, tone.bg, "prose on a tone")]);
            }
            pairs.extend(t.zones.map(|zone| (t.text2, zone, "zone")));
            for (fg, bg, what) in pairs {
                let ratio = contrast(fg, bg);
                assert!(ratio >= 4.5, "{name}, {what}: {fg:?} on {bg:?} is {ratio:.2}");
            }
        }
    }

    #[test]
    fn outlines_of_inputs_and_lines_of_charts_can_be_seen() {
        for t in [&DARK, &LIGHT, &CONTRAST_DARK, &CONTRAST_LIGHT] {
            for at in [t.bg, t.surface, t.raised, t.hover] {
                assert!(contrast(t.border_strong, at) >= 3.0, "{at:?}");
                assert!(contrast(t.focus, at) >= 3.0, "{at:?}");
            }
            for (i, line) in t.series.iter().take(5).enumerate() {
                for at in t.zones.iter().chain([&t.surface]) {
                    assert!(contrast(*line, *at) >= 3.0, "series {i}: {line:?} on {at:?}");
                }
            }
        }
    }
}
