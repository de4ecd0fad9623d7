//! The queue of rows that a helper wrote: each with its quote in its chunk, to be taken, changed or refused, also by keys.

use super::{Ask, Studio, ask};
use crate::cli::quantity::count;
use crate::gui::command::Out;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{Tokens, of, space, text, tokens};
use crate::gui::widgets::card::{card, chip, icon_label};
use crate::gui::widgets::{button, empty, field};
use crate::jobs::teaching::review::Decision;
use eframe::egui::text::{LayoutJob, TextFormat};
use eframe::egui::{
    CollapsingHeader, ComboBox, CornerRadius, FontId, Key, Label, Modifiers, Role, Stroke, StrokeKind, TextEdit, Ui,
    WidgetInfo,
};
use peft_storage::{RowState, TeachingJob, TeachingRow};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;

/// Rows that are shown at first, and more each time.
pub(super) const PAGE: usize = 20;
/// Bytes of a chunk around a quote that are shown.
const AROUND: usize = 320;

/// What states rows can be in, with the words for them.
const STATES: [(RowState, &str); 4] = [
    (RowState::Taken, "Waiting"),
    (RowState::Approved, "Accepted"),
    (RowState::Rejected, "Rejected"),
    (RowState::Refused, "Refused by the checks"),
];

/// A row, and the chunk that it is from.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The row.
    pub row: TeachingRow,
    /// The text of its chunk, where that is still there.
    pub chunk: Option<Arc<str>>,
}

/// What the store knows of a project's rows.
#[derive(Debug)]
pub struct Queue {
    /// Which look it was.
    pub look: u64,
    /// What was generated for the project, the newest first.
    pub jobs: Vec<TeachingJob>,
    /// Whose rows are shown.
    pub job: Option<i64>,
    /// The rows.
    pub rows: Vec<Shown>,
}

/// What the page remembers of the queue.
#[derive(Debug)]
pub struct Review {
    /// What was read.
    pub queue: Option<Queue>,
    /// The job that was chosen, if not the newest.
    pub chosen: Option<i64>,
    /// Which rows are shown.
    pub state: RowState,
    /// How many at most.
    pub most: usize,
    /// The row that keys are for.
    pub current: usize,
    /// The row that is being changed: its number, question and answer.
    pub edit: Option<(i64, String, String)>,
    /// What the helper wrote, word for word: unit, outcome, text.
    pub raw: Option<Vec<(String, String, String)>>,
    /// Counts up with each decision: what was read before one is old.
    pub look: u64,
    /// When it was read, in seconds since 1970.
    pub read_at: i64,
    /// The job whose rows are those of the project, as far as this window knows.
    pub written: Option<i64>,
}

impl Default for Review {
    fn default() -> Self {
        Self {
            queue: None,
            chosen: None,
            state: RowState::Taken,
            most: PAGE,
            current: 0,
            edit: None,
            raw: None,
            look: 0,
            read_at: 0,
            written: None,
        }
    }
}

impl Review {
    /// The job whose rows are shown.
    pub fn job(&self) -> Option<&TeachingJob> {
        let queue = self.queue.as_ref()?;
        queue.jobs.iter().find(|job| Some(job.id) == queue.job)
    }

    /// What was read is shown, unless something was decided since it was asked for.
    pub(super) fn arrived(&mut self, queue: Queue) {
        if queue.look == self.look {
            self.current = self.current.min(queue.rows.len().saturating_sub(1));
            self.queue = Some(queue);
        }
    }

    /// A decision takes effect at once; the store hears of it meanwhile.
    pub(super) fn decided(&mut self, rows: &[i64]) {
        self.look += 1;
        self.edit = None;
        if let Some(queue) = &mut self.queue {
            queue.rows.retain(|shown| !rows.contains(&shown.row.id));
            self.current = self.current.min(queue.rows.len().saturating_sub(1));
        }
    }
}

pub(super) fn review_ui(ui: &mut Ui, page: &mut Studio, is_busy: bool, out: &mut Out) {
    let t = of(ui);
    let Some(job) = page.review.job().cloned() else {
        if !is_busy && page.review.queue.is_some() {
            let sentence =
                "Each row comes with the words of the document that prove it. You take it, change it or refuse it.";
            empty::empty(ui, Icon::Spark, "No rows written yet", sentence, |_| {});
        }
        return;
    };
    // What was read is borrowed while it is drawn, and not copied.
    let Some(queue) = page.review.queue.take() else { return };
    let review = &mut page.review;
    ui.label(text::section(t, "Rows"));
    header_ui(ui, review, &job, &queue, out);
    let rows = &queue.rows;
    if rows.is_empty() {
        let sentence = match (review.state, is_busy) {
            (RowState::Taken, true) => "Rows appear here as they come",
            (RowState::Taken, false) => "No row waits for you",
            _ => "None",
        };
        ui.label(text::body(t, sentence));
    }
    if review.state != RowState::Refused && !rows.is_empty() {
        keys(ui, review, rows, job.id, out);
    }
    for (index, shown) in rows.iter().enumerate() {
        row_ui(ui, review, shown, index, job.id, out);
    }
    let has_more = number(&job, review.state) as usize > rows.len() && rows.len() >= review.most;
    if has_more && button::secondary("Show more rows").ui(ui).clicked() {
        review.most += PAGE;
        review.read_at = 0;
    }
    raw_ui(ui, review, job.id, out);
    review.queue = Some(queue);
}

fn number(job: &TeachingJob, state: RowState) -> u64 {
    match state {
        RowState::Taken => job.taken,
        RowState::Approved => job.approved,
        RowState::Refused => job.refused,
        RowState::Rejected => job.rejected,
    }
}

fn header_ui(ui: &mut Ui, review: &mut Review, job: &TeachingJob, queue: &Queue, out: &mut Out) {
    let t = of(ui);
    ui.horizontal_wrapped(|ui| {
        for (state, word) in STATES {
            let words = format!("{word} {}", count(number(job, state)));
            if ui.selectable_label(review.state == state, words).clicked() && review.state != state {
                (review.state, review.most, review.current) = (state, PAGE, 0);
                review.decided(&[]);
                review.read_at = 0;
            }
        }
        if queue.jobs.len() > 1 {
            let name = |job: &TeachingJob| {
                let task = job.settings["wish"]["task"].as_str().unwrap_or_default();
                format!("{}: {task}, {}", job.id, job.settings["model"].as_str().unwrap_or_default())
            };
            let combo = ComboBox::from_id_salt("generation").selected_text(name(job)).width(200.0).truncate();
            let combo = combo.show_ui(ui, |ui| {
                for other in &queue.jobs {
                    if ui.selectable_label(other.id == job.id, name(other)).clicked() {
                        review.chosen = Some(other.id);
                        review.decided(&[]);
                        review.read_at = 0;
                    }
                }
            });
            combo.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Generation"));
        }
    });
    if matches!(review.state, RowState::Taken) && job.taken > 0 {
        ui.horizontal_wrapped(|ui| {
            ui.label(text::hint(t, "Keys: A accept, R reject, E edit, J and K go down and up"));
            if button::quiet("Accept all of these").icon(Icon::Check).small().ui(ui).clicked() {
                let rows = queue.rows.iter().map(|shown| shown.row.id).collect();
                out.push(ask(Ask::Decide(job.id, rows, Decision::Accept)));
            }
        });
    }
}

/// What keys do, unless something else has the keyboard.
fn keys(ui: &Ui, review: &mut Review, rows: &[Shown], job: i64, out: &mut Out) {
    if review.edit.is_some() || ui.ctx().memory(|memory| memory.focused().is_some()) {
        return;
    }
    let pressed = |key: Key| ui.input_mut(|input| input.consume_key(Modifiers::NONE, key));
    let Some(current) = rows.get(review.current) else { return };
    if pressed(Key::A) {
        out.push(ask(Ask::Decide(job, vec![current.row.id], Decision::Accept)));
    } else if pressed(Key::R) {
        out.push(ask(Ask::Decide(job, vec![current.row.id], Decision::Reject)));
    } else if pressed(Key::E) {
        review.edit = Some(begun(&current.row));
    } else if pressed(Key::J) {
        review.current = (review.current + 1).min(rows.len() - 1);
    } else if pressed(Key::K) {
        review.current = review.current.saturating_sub(1);
    }
}

fn begun(row: &TeachingRow) -> (i64, String, String) {
    let text = |place: usize| row.content["exchanges"][0][place].as_str().unwrap_or_default().to_owned();
    (row.id, text(0), text(1))
}

fn row_ui(ui: &mut Ui, review: &mut Review, shown: &Shown, index: usize, job: i64, out: &mut Out) {
    let t = of(ui);
    let Shown { row, chunk } = shown;
    let is_current = index == review.current && review.state != RowState::Refused;
    let response = card(ui, |ui| {
        head_ui(ui, t, row);
        if review.edit.as_ref().is_some_and(|(id, ..)| *id == row.id) {
            edit_ui(ui, review, job, out);
            return;
        }
        for exchange in row.content["exchanges"].as_array().into_iter().flatten() {
            ui.add(Label::new(text::card_title(t, exchange[0].as_str().unwrap_or_default())).wrap());
            ui.add(Label::new(text::value(t, exchange[1].as_str().unwrap_or_default())).wrap());
        }
        evidence_ui(ui, t, &row.content["evidence"], chunk.as_deref());
        if row.state != RowState::Refused {
            row_buttons_ui(ui, review, row, job, out);
        }
    });
    let rect = response.response.rect;
    if is_current {
        let radius = CornerRadius::same(space::CARD_RADIUS);
        ui.painter().rect_stroke(rect, radius, Stroke::new(2.0, t.accent), StrokeKind::Inside);
    }
}

fn head_ui(ui: &mut Ui, t: &Tokens, row: &TeachingRow) {
    ui.horizontal_wrapped(|ui| {
        ui.label(text::hint(t, format!("Row {}", row.id)));
        let source = row.content["source"].as_str().unwrap_or_default();
        let name = Path::new(source).file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let headings = row.content["heading"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let place: Vec<&str> = std::iter::once(name.as_str()).filter(|name| !name.is_empty()).chain(headings).collect();
        ui.add(Label::new(text::hint(t, place.join(" › "))).wrap());
        if row.is_edited {
            chip(ui, t.info, "changed by you");
        }
        if let Some(why) = &row.reason {
            chip(ui, t.bad, reason(why));
        }
    });
}

fn row_buttons_ui(ui: &mut Ui, review: &mut Review, row: &TeachingRow, job: i64, out: &mut Out) {
    ui.horizontal_wrapped(|ui| {
        let mut decide = |ui: &mut Ui, word: &str, icon: Icon, decision: Decision| {
            let name = format!("{word} row {}", row.id);
            if button::secondary(word).named(&name).icon(icon).small().ui(ui).clicked() {
                out.push(ask(Ask::Decide(job, vec![row.id], decision)));
            }
        };
        if row.state != RowState::Approved {
            decide(ui, "Accept", Icon::Check, Decision::Accept);
        }
        if row.state != RowState::Rejected {
            decide(ui, "Reject", Icon::Cross, Decision::Reject);
        }
        let name = format!("Edit row {}", row.id);
        if button::quiet("Edit").named(&name).icon(Icon::Feather).small().ui(ui).clicked() {
            review.edit = Some(begun(row));
        }
    });
}

fn edit_ui(ui: &mut Ui, review: &mut Review, job: i64, out: &mut Out) {
    let t = of(ui);
    let Some((row, question, answer)) = &mut review.edit else { return };
    for (name, value, rows) in [("Question", &mut *question, 2), ("Answer", &mut *answer, 4)] {
        let label = ui.label(text::hint(t, name));
        let edit = TextEdit::multiline(value).desired_rows(rows).desired_width(f32::INFINITY);
        field::named(ui, edit, label.id);
    }
    let (mut is_saved, mut is_left) = (false, ui.input(|input| input.key_pressed(Key::Escape)));
    ui.horizontal_wrapped(|ui| {
        let can = !question.trim().is_empty() && !answer.trim().is_empty();
        let save = button::primary("Save").named("Save the row").enabled(can).ui(ui).clicked();
        is_saved = can && (save || ui.input_mut(|input| input.consume_key(Modifiers::COMMAND, Key::Enter)));
        is_left |= button::quiet("Leave it as it was").ui(ui).clicked();
        ui.label(text::hint(t, "Ctrl+Enter saves, Escape leaves it as it was"));
    });
    if is_saved {
        let decision = Decision::Edit { question: Some(question.clone()), answer: Some(answer.clone()) };
        out.push(ask(Ask::Decide(job, vec![*row], decision)));
    } else if is_left {
        review.edit = None;
    }
}

/// The words that prove an answer, in what stands around them.
fn evidence_ui(ui: &mut Ui, t: &Tokens, evidence: &Value, chunk: Option<&str>) {
    let quote = evidence["quote"].as_str().or_else(|| evidence.as_str()).filter(|quote| !quote.trim().is_empty());
    let Some(quote) = quote else { return };
    let place = |name: &str| evidence[name].as_u64().map(|at| at as usize);
    let found = chunk.zip(place("start").zip(place("end"))).and_then(|(chunk, (start, end))| around(chunk, start, end));
    ui.horizontal_top(|ui| {
        let (icon, color) = if found.is_some() { (Icon::Check, t.ok.fg) } else { (Icon::Help, t.text3) };
        icon_label(ui, icon, color, 14.0);
        let plain = TextFormat { font_id: FontId::proportional(12.5), color: t.text2, ..TextFormat::default() };
        let marked = TextFormat { color: t.text, background: tokens::faded(t.ok.fg, 0.25), ..plain.clone() };
        let mut job = LayoutJob::default();
        match found {
            Some([before, quote, after]) => {
                job.append(before.trim_start(), 0.0, plain.clone());
                job.append(quote, 0.0, marked);
                job.append(after.trim_end(), 0.0, plain);
            }
            None => job.append(&format!("“{quote}”"), 0.0, plain),
        }
        ui.add(Label::new(job).wrap());
    });
}

/// The quote with what stands before and behind it. None where the chunk is not what it was.
fn around(chunk: &str, start: usize, end: usize) -> Option<[&str; 3]> {
    let quote = chunk.get(start..end).filter(|quote| !quote.is_empty())?;
    let whole = |at: usize| (0..=at).rev().find(|at| chunk.is_char_boundary(*at)).unwrap_or(0);
    let (from, to) = (whole(start.saturating_sub(AROUND)), whole((end + AROUND).min(chunk.len())));
    Some([&chunk[from..start], quote, &chunk[end..to]])
}

fn raw_ui(ui: &mut Ui, review: &mut Review, job: i64, out: &mut Out) {
    let t = of(ui);
    let header =
        CollapsingHeader::new(text::hint(t, "What the helper wrote, word for word")).id_salt("raw").show(ui, |ui| {
            for (unit, outcome, raw) in review.raw.iter().flatten() {
                ui.label(text::hint(t, format!("{unit}: {outcome}")));
                ui.add(Label::new(text::code(t, raw.chars().take(2000).collect::<String>())).wrap());
            }
        });
    if header.header_response.clicked() {
        out.push(ask(Ask::Raw(job)));
    }
}

/// Why the checks refused a row, for people.
pub(super) fn reason(code: &str) -> &str {
    match code {
        "empty" => "empty",
        "too_long" => "too long",
        "ungrounded" => "whose quote is not in the text",
        "copies_question" => "whose answer repeats the question",
        "refusal" => "that do not answer",
        "speaks_of_document" => "that speak of a document nobody sees",
        "repeated" => "that ask what another row asks",
        "held_out" => "that ask what the evaluation asks",
        "marks" => "with the program's own marks",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peft_teach::verdict::Reason;

    #[test]
    fn a_quote_is_shown_in_its_place_or_not_at_all_s2_3() {
        let chunk = format!("{}Brücke 1894{}", "ä".repeat(500), "ö".repeat(500));
        let [before, quote, after] = around(&chunk, 1000, 1012).expect("it stands there");
        assert_eq!((quote, before.len(), after.len()), ("Brücke 1894", AROUND, AROUND));
        assert!(around("short", 2, 99).is_none() && around("äö", 1, 2).is_none() && around("x", 1, 1).is_none());
    }

    #[test]
    fn every_reason_has_words() {
        use Reason::{CopiesQuestion, Empty, HeldOut, Marks, Refusal, Repeated, SpeaksOfDocument, TooLong, Ungrounded};
        for known in [Empty, TooLong, Ungrounded, CopiesQuestion, Refusal, SpeaksOfDocument, Repeated, HeldOut, Marks] {
            let code = serde_json::to_value(known).expect("a word");
            let code = code.as_str().expect("a word").to_owned();
            assert!(reason(&code) != code || code == "empty", "{code}");
        }
    }

    #[test]
    fn what_was_read_before_a_decision_is_old() {
        let mut review = Review::default();
        let shown = |id: i64| Shown {
            row: TeachingRow {
                id,
                unit: String::new(),
                state: RowState::Taken,
                reason: None,
                content: Value::Null,
                is_edited: false,
            },
            chunk: None,
        };
        let queue = |look| Queue { look, jobs: Vec::new(), job: None, rows: vec![shown(1), shown(2)] };
        review.arrived(queue(0));
        review.current = 1;
        review.decided(&[2]);
        assert_eq!((review.current, review.queue.as_ref().map(|queue| queue.rows.len())), (0, Some(1)));
        review.arrived(queue(0));
        assert_eq!(review.queue.as_ref().map(|queue| queue.rows.len()), Some(1), "it was read before");
        review.arrived(queue(1));
        assert_eq!(review.queue.map(|queue| queue.rows.len()), Some(2));
    }
}
