//! PDF documents: the text of each page, in blocks; pages that cannot be read are named.

mod glyphs;
mod layout;

use crate::block::{Builder, Outline};
use crate::limits::Limits;
use crate::read::Sink;
use glyphs::{Line, Shown};
use hayro_interpret::hayro_syntax::page::Page;
use hayro_interpret::hayro_syntax::{DecryptionError, LoadPdfError, Pdf};
use hayro_interpret::kurbo::Rect;
use hayro_interpret::{Context, InterpreterCache, InterpreterSettings, TransformExt, interpret_page};
use peft_plan::{Fault, Result};
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

/// Pages of a piece; a piece is told earlier where pages take long.
const PIECE: usize = 16;
const LONGEST_PIECE: Duration = Duration::from_secs(2);

/// A page of which a larger share of letters has no meaning is named.
const UNKNOWN: usize = 4;

/// Read a PDF document.
pub(crate) fn read(path: &Path, limits: &Limits, sink: &mut Sink<'_>) -> Result<()> {
    let mut bytes = Vec::new();
    let io = |error| Fault::io("read", path, error);
    std::fs::File::open(path).map_err(io)?.take(limits.whole_file + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > limits.whole_file {
        let detail = format!("`{}` is a PDF document of more than {} MiB", path.display(), limits.whole_file >> 20);
        return Err(Fault::new("PS-DATA-012", detail));
    }
    let pdf = catch_unwind(|| Pdf::new(bytes)).unwrap_or(Err(LoadPdfError::Invalid));
    let pdf = pdf.map_err(|error| Fault::new("PS-DATA-011", format!("`{}` {}", path.display(), reason(error))))?;
    let mut reader = Reader { pdf: &pdf, cache: InterpreterCache::new(), trouble: Trouble::default(), usual: None };
    let pages = pdf.pages().len();
    let mut outline = Outline::default();
    let mut page = 0;
    while page < pages {
        let begun = Instant::now();
        let mut piece = Vec::new();
        while page < pages && piece.len() < PIECE && begun.elapsed() < LONGEST_PIECE {
            piece.push(reader.lines(page));
            page += 1;
        }
        let mut builder = Builder::new(outline);
        if page == piece.len()
            && let Some(title) = &pdf.metadata().title
        {
            builder.title(&words(title));
        }
        reader.add(&mut builder, page - piece.len(), &piece);
        if page == pages {
            reader.trouble.tell(&mut builder, pages);
        }
        let (document, open) = builder.finish();
        outline = open;
        sink(document)?;
    }
    if pages == 0 {
        return Err(Fault::new("PS-DATA-011", format!("`{}` has no pages", path.display())));
    }
    Ok(())
}

fn reason(error: LoadPdfError) -> &'static str {
    match error {
        LoadPdfError::Decryption(DecryptionError::PasswordProtected) => "is protected by a password",
        LoadPdfError::Decryption(_) => "is encrypted in a way that is not read",
        LoadPdfError::Invalid => "is no PDF document that can be read: it is damaged or incomplete",
    }
}

struct Reader<'a> {
    pdf: &'a Pdf,
    cache: InterpreterCache<'a>,
    trouble: Trouble,
    /// The size of running text, as the first pages with text have it.
    usual: Option<f64>,
}

impl Reader<'_> {
    /// The lines of a page, which counts from 0.
    fn lines(&mut self, index: usize) -> Vec<Line> {
        let Some(page) = self.pdf.pages().get(index) else { return Vec::new() };
        let number = index as u32 + 1;
        let mut shown = Shown::default();
        let cache = &self.cache;
        // Where a page breaks the library, the others are still read.
        if catch_unwind(AssertUnwindSafe(|| show(page, self.pdf, cache, &mut shown))).is_err() {
            self.trouble.broken.push(number);
            // What it left behind may be half done.
            self.cache = InterpreterCache::new();
        }
        if shown.unknown * UNKNOWN > shown.letters {
            self.trouble.without_meaning.push(number);
        } else if shown.letters == 0 && shown.pictures > 0 {
            self.trouble.pictures.push(number);
        }
        if shown.is_full() {
            self.trouble.too_long.push(number);
        }
        shown.lines
    }

    fn add(&mut self, builder: &mut Builder, first: usize, pages: &[Vec<Line>]) {
        if self.usual.is_none() {
            self.usual = layout::usual_size(pages.iter().flatten());
        }
        for (index, lines) in pages.iter().enumerate() {
            builder.turn_to((first + index) as u32 + 1);
            layout::add_page(builder, lines, self.usual.unwrap_or(1.0));
        }
    }
}

fn show<'a>(page: &Page<'a>, pdf: &'a Pdf, cache: &InterpreterCache<'a>, shown: &mut Shown) {
    let transform = page.initial_transform(true).to_kurbo();
    let (width, height) = page.render_dimensions();
    let bounds = Rect::new(0.0, 0.0, f64::from(width), f64::from(height));
    let mut context = Context::new(transform, bounds, cache, pdf.xref(), InterpreterSettings::default());
    interpret_page(page, &mut context, shown);
}

/// Pages with something wrong, by what it is.
#[derive(Default)]
struct Trouble {
    broken: Vec<u32>,
    without_meaning: Vec<u32>,
    pictures: Vec<u32>,
    too_long: Vec<u32>,
}

impl Trouble {
    fn tell(&self, builder: &mut Builder, pages: usize) {
        let Self { broken, without_meaning, pictures, too_long } = self;
        let sorts = [
            (broken, "could not be read"),
            (without_meaning, "have letters whose meaning the file does not say, which are left out"),
            (pictures, "are pictures without text, as scanners make them: a program for text recognition helps"),
            (too_long, "show more text than a page can, and were cut"),
        ];
        for (numbers, what) in sorts {
            if !numbers.is_empty() {
                builder.warn(format!("pages {} of {pages} {what}", ranges(numbers)));
            }
        }
    }
}

/// `1-3, 7`, no longer than people read.
fn ranges(numbers: &[u32]) -> String {
    const SHOWN: usize = 12;
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => runs.push((*number, *number)),
        }
    }
    let run = |(first, last): &(u32, u32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    let mut text = runs.iter().take(SHOWN).map(run).collect::<Vec<_>>().join(", ");
    if runs.len() > SHOWN {
        text.push_str(", …");
    }
    text
}

/// A text of the document's description: UTF-16 with its mark, or one byte a letter.
fn words(bytes: &[u8]) -> String {
    if let Some(units) = bytes.strip_prefix(&[0xFE, 0xFF]) {
        let (units, _) = units.as_chunks::<2>();
        return char::decode_utf16(units.iter().map(|unit| u16::from_be_bytes(*unit)))
            .map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect();
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => text.trim_start_matches('\u{FEFF}').to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    }
}

#[cfg(test)]
mod tests;
