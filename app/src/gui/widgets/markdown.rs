//! Answers of models: paragraphs, headings, lists and code blocks, as far as they help reading.

use crate::gui::command::{Command, Out};
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{Tokens, of, space, text};
use crate::gui::widgets::button;
use eframe::egui::text::LayoutJob;
use eframe::egui::{CornerRadius, FontId, Frame, Margin, TextFormat, Ui};

/// A block of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Block {
    Heading(String),
    Item(String, String),
    Paragraph(String),
    Code(String),
}

fn blocks(source: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut code: Option<String> = None;
    for line in source.lines() {
        if line.trim_start().starts_with("```") {
            match code.take() {
                Some(text) => blocks.push(Block::Code(text)),
                None => code = Some(String::new()),
            }
            continue;
        }
        if let Some(text) = &mut code {
            text.push_str(line);
            text.push('\n');
            continue;
        }
        let trimmed = line.trim();
        let number = trimmed.split_once(['.', ')']).filter(|(n, rest)| {
            (1..=3).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit()) && rest.starts_with(' ')
        });
        if trimmed.is_empty() {
            blocks.push(Block::Paragraph(String::new()));
        } else if let Some(title) = trimmed.strip_prefix('#') {
            blocks.push(Block::Heading(title.trim_start_matches('#').trim().to_owned()));
        } else if let Some(item) = trimmed.strip_prefix("- ").or(trimmed.strip_prefix("* ")) {
            blocks.push(Block::Item("•".to_owned(), item.to_owned()));
        } else if let Some((n, rest)) = number {
            blocks.push(Block::Item(format!("{n}."), rest.trim().to_owned()));
        } else if let Some(Block::Paragraph(before)) = blocks.last_mut()
            && !before.is_empty()
        {
            before.push('\n');
            before.push_str(trimmed);
        } else {
            blocks.push(Block::Paragraph(trimmed.to_owned()));
        }
    }
    // A block that is still being written is shown as what it will be.
    blocks.extend(code.map(Block::Code));
    blocks
}

/// Words, **strong** words and `code` of one line.
fn inline(t: &Tokens, source: &str, width: f32) -> LayoutJob {
    let mut job = LayoutJob::default();
    job.wrap.max_width = width;
    let plain = TextFormat { font_id: FontId::proportional(14.0), color: t.text, ..TextFormat::default() };
    let strong = TextFormat { font_id: FontId::new(14.0, text::strong_family()), ..plain.clone() };
    let code = TextFormat { font_id: FontId::monospace(12.5), background: t.hover, ..plain.clone() };
    let mut rest = source;
    while !rest.is_empty() {
        let next = [("**", &strong), ("`", &code)].into_iter().filter_map(|(mark, format)| {
            let begin = rest.find(mark)?;
            let length = rest[begin + mark.len()..].find(mark)?;
            (length > 0).then_some((begin, mark.len(), length, format))
        });
        let Some((begin, mark, length, format)) = next.min_by_key(|(begin, ..)| *begin) else {
            job.append(rest, 0.0, plain.clone());
            break;
        };
        job.append(&rest[..begin], 0.0, plain.clone());
        job.append(&rest[begin + mark..begin + mark + length], 0.0, format.clone());
        rest = &rest[begin + 2 * mark + length..];
    }
    job
}

/// Draw an answer.
pub fn markdown(ui: &mut Ui, source: &str, out: &mut Out) {
    let t = of(ui);
    ui.spacing_mut().item_spacing.y = 4.0;
    for block in blocks(source) {
        match block {
            Block::Heading(title) => drop(ui.label(text::card_title(t, title))),
            Block::Paragraph(words) if words.is_empty() => ui.add_space(space::XS),
            Block::Paragraph(words) => drop(ui.label(inline(t, &words, ui.available_width()))),
            Block::Item(mark, words) => {
                ui.horizontal_top(|ui| {
                    ui.label(text::body(t, mark));
                    ui.label(inline(t, &words, ui.available_width()));
                });
            }
            Block::Code(code) => {
                Frame::new()
                    .fill(t.hover)
                    .corner_radius(CornerRadius::same(space::RADIUS))
                    .inner_margin(Margin::same(10))
                    .show(ui, |ui| {
                        ui.set_width(ui.available_width());
                        ui.label(text::code(t, code.trim_end()));
                        if button::quiet("Copy code").icon(Icon::Copy).small().ui(ui).clicked() {
                            out.push(Command::Copy(code.clone()));
                        }
                    });
            }
        }
    }
    ui.spacing_mut().item_spacing.y = space::S;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_in_blocks_finished_or_not() {
        let read = blocks("# Title\none\ntwo\n\n- a\n2. b\n```rust\nfn x() {}\n");
        assert_eq!(read[0], Block::Heading("Title".to_owned()));
        assert_eq!(read[1], Block::Paragraph("one\ntwo".to_owned()));
        assert_eq!(read[3], Block::Item("•".to_owned(), "a".to_owned()));
        assert_eq!(read[4], Block::Item("2.".to_owned(), "b".to_owned()));
        assert_eq!(read[5], Block::Code("fn x() {}\n".to_owned()));
    }

    #[test]
    fn strange_marks_lose_no_letter() {
        for source in ["**", "a ** b", "`x", "**a**`b`", "ä**ö**ü", "****", "``"] {
            let job = inline(&crate::gui::theme::tokens::DARK, source, 100.0);
            let kept: String = source.replace("**a**", "a").replace("`b`", "b").replace("**ö**", "ö");
            assert_eq!(job.text, kept, "{source}");
        }
    }
}
