//! What a page shows, as pieces of lines: the letters of a PDF document have places, and spaces may have none.

use hayro_interpret::font::{Glyph, GlyphRun};
use hayro_interpret::hayro_cmap::BfString;
use hayro_interpret::kurbo::{Affine, BezPath, Point};
use hayro_interpret::{BlendMode, ClipPath, Device, DrawMode, DrawProps, Image, ImageDrawProps, SoftMask};

/// Units of an em in which glyphs are measured.
const EM: f64 = 1_000.0;

/// A gap of this share of the size of the letters is a space.
const SPACE: f64 = 0.15;

/// A gap of this many sizes is one between cells.
const CELL: f64 = 2.2;

/// Letters this much of their size above or below the last one are on the same line.
const ON_THE_LINE: f64 = 0.5;

/// Letters this much of their size to the left of the last one's end go on with it: accents, kerning.
const BACK: f64 = 0.6;

/// Bytes of text of a page: a page that shows more is a trap.
const LONGEST_PAGE: usize = 16 << 20;

/// Letters that follow one another on a line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) text: String,
    /// Where it begins and ends in the direction of its writing.
    pub(super) start: f64,
    pub(super) end: f64,
    /// Where it is across that: grows downwards.
    pub(super) across: f64,
    /// The size of most of its letters.
    pub(super) size: f64,
    /// Its direction in degrees; 0 is to the right.
    pub(super) direction: i32,
    /// Whether there are gaps in it as wide as between the cells of a table.
    pub(super) has_cells: bool,
}

/// What a page shows.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) lines: Vec<Line>,
    /// Letters, and those of them that nothing says the meaning of.
    pub(super) letters: usize,
    pub(super) unknown: usize,
    pub(super) pictures: usize,
    bytes: usize,
    /// Where the last run began and what it said: a run that is drawn twice, for its outline or to look bold, is there
    /// once.
    last_run: Option<(Point, String)>,
}

/// A letter and its place.
struct Letter {
    text: String,
    start: f64,
    end: f64,
    across: f64,
    size: f64,
    direction: i32,
}

impl Shown {
    pub(super) fn is_full(&self) -> bool {
        self.bytes > LONGEST_PAGE
    }

    fn take(&mut self, letter: Letter) {
        self.bytes += letter.text.len();
        let is_blank = letter.text.trim().is_empty();
        let Some(line) = self.lines.last_mut().filter(|line| goes_on(line, &letter)) else {
            if !is_blank {
                let Letter { text, start, end, across, size, direction } = letter;
                self.lines.push(Line { text, start, end, across, size, direction, has_cells: false });
            }
            return;
        };
        let gap = letter.start - line.end;
        let size = line.size.max(letter.size);
        let ends_blank = line.text.ends_with([' ', '\t']);
        if is_blank {
            if !ends_blank {
                line.text.push(' ');
            }
        } else {
            if gap > CELL * size {
                line.text.truncate(line.text.trim_end().len());
                line.text.push('\t');
                line.has_cells = true;
            } else if gap > SPACE * size && !ends_blank {
                line.text.push(' ');
            }
            line.text.push_str(&letter.text);
        }
        // A blank moves the end only as far as it is: what follows decides whether there is a gap.
        line.end = line.end.max(letter.end);
        if !is_blank && letter.size > line.size {
            line.size = letter.size;
            line.across = letter.across;
        }
    }
}

fn goes_on(line: &Line, letter: &Letter) -> bool {
    let size = line.size.max(letter.size);
    line.direction == letter.direction
        && (line.across - letter.across).abs() < ON_THE_LINE * size
        && letter.start - line.end > -BACK * size
}

impl<'a> Device<'a> for Shown {
    fn draw_glyph_run(&mut self, run: &GlyphRun<'_, 'a>, props: DrawProps<'a>, _: &DrawMode) {
        if self.is_full() {
            return;
        }
        let mut said = String::new();
        let mut letters = Vec::with_capacity(run.glyphs().len());
        for glyph in run.glyphs() {
            self.letters += 1;
            let Some(text) = text_of(glyph) else {
                self.unknown += 1;
                continue;
            };
            said.push_str(&text);
            letters.extend(placed(text, glyph, props.transform * glyph.transform()));
        }
        let Some(first) = run.glyphs().first() else { return };
        let begins = props.transform * first.transform() * Point::ZERO;
        let near = letters.first().map_or(0.0, |letter: &Letter| letter.size * SPACE);
        let is_again = self.last_run.as_ref().is_some_and(|(at, text)| *text == said && at.distance(begins) <= near);
        if !is_again {
            for letter in letters {
                self.take(letter);
            }
        }
        self.last_run = Some((begins, said));
    }

    fn draw_image(&mut self, _: Image<'a, '_>, _: ImageDrawProps<'a>) {
        self.pictures += 1;
    }

    fn draw_path(&mut self, _: &BezPath, _: DrawProps<'a>, _: &DrawMode) {}
    fn push_clip_path(&mut self, _: &ClipPath) {}
    fn push_transparency_group(&mut self, _: f32, _: Option<SoftMask<'a>>, _: BlendMode) {}
    fn pop_clip(&mut self) {}
    fn pop_transparency_group(&mut self) {}
}

/// What a glyph means; ligatures as their letters.
fn text_of(glyph: &Glyph<'_>) -> Option<String> {
    let text = match glyph.as_unicode()? {
        BfString::Char(letter) => letter.to_string(),
        BfString::String(text) => text,
    };
    let mut spelled = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            'ﬀ' => spelled.push_str("ff"),
            'ﬁ' => spelled.push_str("fi"),
            'ﬂ' => spelled.push_str("fl"),
            'ﬃ' => spelled.push_str("ffi"),
            'ﬄ' => spelled.push_str("ffl"),
            'ﬅ' | 'ﬆ' => spelled.push_str("st"),
            '\u{A0}' => spelled.push(' '),
            '\u{FFFD}' => return None,
            _ if letter.is_control() => spelled.push(' '),
            _ => spelled.push(letter),
        }
    }
    (!spelled.is_empty()).then_some(spelled)
}

/// The letter of a glyph that `transform` puts on the page; `None` where that has no size.
fn placed(text: String, glyph: &Glyph<'_>, transform: Affine) -> Option<Letter> {
    let advance = match glyph {
        Glyph::Outline(outline) => outline.advance_width(),
        Glyph::Type3(type3) => type3.advance_width(),
    };
    let advance = f64::from(advance.unwrap_or(500.0));
    let origin = transform * Point::ZERO;
    let behind = transform * Point::new(advance.max(1.0), 0.0);
    let size = (transform * Point::new(0.0, EM)).distance(origin);
    let along = behind - origin;
    let length = along.hypot();
    // Fonts made of drawings may have any unit: then the width is all there is to go by.
    let size = if size * 4.0 < length { length * 1.6 } else { size };
    if !(size.is_finite() && length.is_finite() && size > 0.0 && length > 0.0) {
        return None;
    }
    let (x, y) = (along.x / length, along.y / length);
    let direction = y.atan2(x).to_degrees().round() as i32;
    let start = origin.x * x + origin.y * y;
    let across = origin.y * x - origin.x * y;
    Some(Letter { text, start, end: start + length, across, size, direction })
}
