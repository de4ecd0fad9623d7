//! The words of the report: what each issue does to training, and what to do about it.

use super::{ENOUGH, Issue, IssueExample, SHOWN, Severity};
use crate::dataset::RejectedKind;
use peft_plan::Row;

/// Collects the rows of one issue.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) count: usize,
    pub(super) examples: Vec<IssueExample>,
}

impl Tally {
    pub(super) fn add(&mut self, row: &Row, text: impl Into<String>) {
        self.add_at(row.file, row.line, text);
    }

    /// Count a row whose text is only needed as an example.
    pub(super) fn add_with(&mut self, row: &Row, text: impl FnOnce() -> String) {
        if self.examples.len() < SHOWN {
            self.add(row, text());
        } else {
            self.count += 1;
        }
    }

    pub(super) fn add_at(&mut self, file: usize, line: usize, text: impl Into<String>) {
        self.count += 1;
        if self.examples.len() < SHOWN {
            self.examples.push(IssueExample { file, line, text: text.into() });
        }
    }

    /// The issue, if any row has it; `message` follows the count and "row has" or "rows have".
    pub(super) fn issue(
        self,
        code: &'static str,
        severity: Severity,
        weight: f64,
        message: &str,
        fix: &str,
    ) -> Option<Issue> {
        let Self { count, examples } = self;
        let subject = if count == 1 { "row" } else { "rows" };
        let message = format!("{count} {subject} {message}");
        (count > 0).then(|| Issue { code, severity, count, message, examples, fix: fix.to_owned(), weight })
    }
}

/// Everything that is counted while rows pass, to become issues.
#[derive(Default)]
pub(super) struct Tallies {
    /// By [`rejected_place`].
    pub(super) rejected: [Tally; 5],
    /// Rated answers that are wanted, and those that are not.
    pub(super) rated: [Tally; 2],
    /// There are rows of two answers.
    pub(super) pairs: bool,
    pub(super) garbled: Tally,
    pub(super) markers: Tally,
    pub(super) order: Tally,
    pub(super) secrets: Tally,
    pub(super) personal: Tally,
    pub(super) long: Tally,
    pub(super) short: Tally,
    pub(super) cut: Tally,
}

/// Which issue a rejection belongs to.
pub(super) fn rejected_place(kind: RejectedKind) -> usize {
    match kind {
        RejectedKind::BrokenLine => 0,
        RejectedKind::NoAnswer => 1,
        RejectedKind::Empty => 3,
        RejectedKind::NoPreference => 4,
        _ => 2,
    }
}

/// What reading left out.
pub(super) fn rejections(tallies: [Tally; 5]) -> Vec<Issue> {
    let [broken, unanswered, unknown, empty, alike] = tallies;
    let clean = "Repair them, or leave them out with `data convert`, which keeps them aside";
    [
        broken.issue(
            "broken_lines",
            Severity::Error,
            40.0,
            "cannot be read. Training refuses a file with broken lines",
            clean,
        ),
        unanswered.issue(
            "no_answer",
            Severity::Error,
            30.0,
            "without an answer, so there is nothing to learn from them",
            "Write the missing answers, label them with a teacher model, or leave them out with `data convert`",
        ),
        alike.issue(
            "no_preference",
            Severity::Warning,
            20.0,
            "without a preference are left out: both answers are the same, or they answer different questions",
            "Write a worse answer beside the better one, or leave these rows out",
        ),
        unknown.issue(
            "unknown_layout",
            Severity::Warning,
            30.0,
            "with another layout are left out",
            "Give all rows the same columns, or name the columns in the run file",
        ),
        empty.issue("empty_rows", Severity::Info, 10.0, "without any text are left out", clean),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Rated answers that all have the same label.
fn one_label([wanted, unwanted]: [Tally; 2], pairs: bool) -> Option<Issue> {
    if pairs || (wanted.count > 0 && unwanted.count > 0) {
        return None;
    }
    let only = if wanted.count > 0 { wanted } else { unwanted };
    only.issue(
        "one_label",
        Severity::Warning,
        30.0,
        "with the same label. There is no difference to learn from; training by `kto` refuses them",
        "Add answers with the other label, or learn to give the wanted ones with `training.objective` sft",
    )
}

/// A dataset that is learnt by heart.
pub(super) fn too_few(rows: usize) -> Option<Issue> {
    (rows < ENOUGH).then(|| Issue {
        code: "too_few",
        severity: Severity::Warning,
        count: rows,
        message: format!("Only {rows} usable rows. The model will learn them by heart instead of learning from them"),
        examples: Vec::new(),
        fix: format!("Add more examples; {ENOUGH} is a start, a few hundred are better"),
        // The score counts missing rows by itself.
        weight: 0.0,
    })
}

/// Copies of earlier rows, `groups` of near ones.
pub(super) fn copies(exact: Tally, near: Tally, groups: usize, largest: usize, compared: Option<usize>) -> Vec<Issue> {
    let limit = compared.map_or_else(String::new, |rows| format!(" among the first {rows} rows"));
    let near_message = format!(
        "nearly repeat an earlier one ({groups} groups{limit}, the largest of {largest}). They count more than the others"
    );
    [
        exact.issue(
            "exact_duplicates",
            Severity::Warning,
            20.0,
            "copy an earlier one word for word. Training repeats them in every epoch",
            "Remove the copies: `data convert --deduplicate`",
        ),
        near.issue(
            "near_duplicates",
            Severity::Warning,
            15.0,
            &near_message,
            "Keep one of each group: `data convert --deduplicate-near`, or vary them",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Rows of a split that ask what rows of another ask.
pub(super) fn leakage(leaked: Tally) -> Option<Issue> {
    leaked.issue(
        "split_leakage",
        Severity::Error,
        25.0,
        "ask what a training row asks. The model is tested on what it was taught, and looks better than it is",
        "Split again by question: `data convert ALL FILES --validation-split 0.1`, which keeps equal questions together",
    )
}

/// Issues that one row has by itself.
pub(super) fn single_rows(tallies: Tallies) -> Vec<Issue> {
    let Tallies { rejected, rated, pairs, garbled, markers, order, secrets, personal, long, short: _, cut: _ } =
        tallies;
    let mut issues = rejections(rejected);
    issues.extend(one_label(rated, pairs));
    let own = [
        garbled.issue(
            "garbled_text",
            Severity::Warning,
            25.0,
            "with garbled characters, probably UTF-8 that was read as Windows-1252. The model learns to write them",
            "Put them right: `data convert --repair`, or leave them out: `data convert --quality-filter`",
        ),
        markers.issue(
            "chat_markers",
            Severity::Warning,
            20.0,
            "with markers of a chat template in the text. They confuse the model and may end answers early",
            "Remove the markers, or leave these rows out: `data convert --quality-filter`",
        ),
        order.issue(
            "role_order",
            Severity::Warning,
            15.0,
            "with an unusual order of speakers. Some models refuse such conversations",
            "Merge neighbouring messages of one speaker and end with an answer, or use `data convert --quality-filter`",
        ),
        secrets.issue(
            "secrets",
            Severity::Error,
            25.0,
            "with something like a key or a card number. Models can repeat these to anybody",
            "Replace them with placeholders: `data convert --redact`, and revoke keys that are real",
        ),
        personal.issue(
            "personal_data",
            Severity::Warning,
            10.0,
            "with personal data such as e-mail addresses. Models can repeat these",
            "Replace them with placeholders: `data convert --redact`, or make sure you may use them",
        ),
        long.issue(
            "over_length",
            Severity::Info,
            10.0,
            "longer than 16,000 characters (about 4,000 tokens). At usual sequence lengths the end of their answers is cut",
            "Raise training.max_sequence_length, split them, or leave them out: `data convert --max-characters 16000`",
        ),
    ]
    ;
    issues.extend(own.into_iter().flatten());
    issues
}
