//! Rows looked at one after the other, of which only numbers are kept.

use super::answers::Answers;
use super::issues::{self, Tallies, Tally};
use super::{Issue, LanguageShare, Lengths, PREVIEW, SHOWN};
use crate::dataset::{Rejected, RejectedKind};
use crate::duplicates::{COMPARED, Near, Words, repeated};
use crate::private_data::{self, Kind};
use crate::{bad_line, language, row_defects};
use peft_plan::{Example, Result, Role, Row};

/// Rows of which keys are kept; what comes later is not looked at for copies.
const KEYED: usize = 6_000_000;

/// Rejections that are kept for the case that nothing else is there.
const KEPT_REJECTIONS: usize = 1_000;

/// Characters of a row that is long.
const LONG: usize = 16_000;

/// Rows whose language is looked at; of later ones, one in [`THINNED`].
const LANGUAGES: usize = 5_000;
const THINNED: usize = 64;

/// Share of the rows that a second language needs to be worth a word.
const NOTICEABLE: f64 = 0.05;

/// Gets the rows with these numbers, in order.
pub(super) type Fetch<'a> = dyn Fn(&[u32]) -> Result<Vec<Row>> + 'a;

/// What is known of the rows that passed.
pub(super) struct Scan {
    rows: usize,
    lines: Vec<u32>,
    /// Number of the first row of each file.
    starts: Vec<u32>,
    keys: Vec<u64>,
    /// Keys of what is asked, where files are splits.
    prompts: Vec<u64>,
    splits: Vec<Option<String>>,
    near: Near,
    words: Words,
    answers: Answers,
    tallies: Tallies,
    rejected: usize,
    kept: Vec<Rejected>,
    preview: Vec<Row>,
    /// Rows by the size of their length: four steps for each doubling.
    lengths: [u64; 256],
    longest: u64,
    languages: Vec<(&'static str, usize)>,
}

/// What came of it.
pub(super) struct Found {
    pub(super) rows: usize,
    pub(super) rejected: usize,
    pub(super) issues: Vec<Issue>,
    pub(super) lengths: Lengths,
    pub(super) languages: Vec<LanguageShare>,
    pub(super) preview: Vec<Row>,
}

impl Scan {
    /// For files of these splits.
    pub(super) fn new(splits: Vec<Option<String>>) -> Self {
        let differ = splits.iter().flatten().any(|split| splits.iter().flatten().any(|other| other != split));
        Self {
            rows: 0,
            lines: Vec::new(),
            starts: Vec::new(),
            keys: Vec::new(),
            prompts: Vec::new(),
            splits: if differ { splits } else { Vec::new() },
            near: Near::default(),
            words: Words::default(),
            answers: Answers::default(),
            tallies: Tallies::default(),
            rejected: 0,
            kept: Vec::new(),
            preview: Vec::new(),
            lengths: [0; 256],
            longest: 0,
            languages: Vec::new(),
        }
    }

    pub(super) fn preview(&self) -> &[Row] {
        &self.preview
    }

    pub(super) fn kept_rejections(&self) -> &[Rejected] {
        &self.kept
    }

    /// A record that was left out passes.
    pub(super) fn rejected(&mut self, rejected: Rejected) {
        self.rejected += 1;
        let text = match rejected.kind {
            RejectedKind::NoAnswer | RejectedKind::Empty => rejected.excerpt.clone(),
            _ => format!("{}: {}", rejected.reason, rejected.excerpt),
        };
        self.tallies.rejected[issues::rejected_place(rejected.kind)].add_at(rejected.file, rejected.line, text);
        if self.kept.len() < KEPT_REJECTIONS {
            self.kept.push(rejected);
        }
    }

    /// A row passes.
    pub(super) fn row(&mut self, row: Row) {
        while self.starts.len() <= row.file {
            self.starts.push(self.rows as u32);
        }
        let keeps = self.keys.len() < KEYED;
        self.words.of(&row.example);
        if keeps {
            self.lines.push(row.line as u32);
            self.keys.push(self.words.key);
            self.near.add(self.rows as u32, &self.words);
            if !self.splits.is_empty() {
                self.prompts.push(crate::fingerprint::of_prompt(&row.example) as u64);
            }
        }
        match &row.example {
            Example::Rated { desirable, .. } => {
                self.tallies.rated[usize::from(!desirable)].add_with(&row, || beginning(&row));
            }
            Example::Preference { .. } => self.tallies.pairs = true,
            Example::Messages(_) | Example::Text(_) => {}
        }
        let length: u64 = row_defects::texts(&row.example).map(|text| text.len() as u64).sum();
        self.lengths[step_of(length)] += 1;
        self.longest = self.longest.max(length);
        self.defects(&row, length);
        if let Some(answer) = row_defects::answer(&row) {
            self.answers.add(&row, &answer, self.words.answer.unwrap_or_default(), keeps);
            if row_defects::is_one_word(&answer) {
                self.tallies.short.add_with(&row, || bad_line::excerpt(&answer));
            }
            if row_defects::stops_mid_sentence(&answer) {
                self.tallies.cut.add_with(&row, || ending(&answer));
            }
        }
        if (self.rows < LANGUAGES || self.rows.is_multiple_of(THINNED))
            && let Some(language) = language_of(&row.example)
        {
            match self.languages.iter_mut().find(|(known, _)| *known == language) {
                Some((_, count)) => *count += 1,
                None => self.languages.push((language, 1)),
            }
        }
        self.rows += 1;
        if self.preview.len() < PREVIEW {
            self.preview.push(row);
        }
    }

    /// What a row has by itself.
    fn defects(&mut self, row: &Row, length: u64) {
        let tallies = &mut self.tallies;
        if let Some(place) = row_defects::garbled(&row.example) {
            tallies.garbled.add_with(row, || bad_line::excerpt(&place));
        }
        if let Some(marker) = row_defects::chat_marker(&row.example) {
            tallies.markers.add_with(row, || marker.to_owned());
        }
        if let Some(disorder) = row_defects::role_order(&row.example) {
            tallies.order.add_with(row, || format!("the conversation {disorder}"));
        }
        let found: Vec<(Kind, String)> =
            row_defects::texts(&row.example).flat_map(|text| private_data::find(&text)).collect();
        for (tally, secret) in [(&mut tallies.secrets, true), (&mut tallies.personal, false)] {
            if let Some((kind, masked)) = found.iter().find(|(kind, _)| kind.is_secret() == secret) {
                tally.add_with(row, || format!("{} {masked}", kind.name()));
            }
        }
        if length > LONG as u64 {
            tallies.long.add_with(row, || format!("{length} characters"));
        }
    }

    /// File and line of a row.
    fn place(&self, row: u32) -> (usize, usize) {
        let file = self.starts.partition_point(|start| *start <= row).saturating_sub(1);
        (file, self.lines.get(row as usize).map_or(0, |line| *line as usize))
    }

    /// Everything that passed, as a report.
    pub(super) fn finish(mut self, fetch: &Fetch) -> Result<Found> {
        let copies = repeated(&self.keys);
        let near = std::mem::take(&mut self.near);
        let is_copy = |row: u32| copies.binary_search_by_key(&row, |(copy, _)| *copy).is_ok();
        let groups = near.groups(&is_copy);
        let leaks = self.leaks();
        let pairs: Vec<(u32, u32)> = groups.iter().take(SHOWN).map(|group| (group[1], group[0])).collect();
        // Texts of what is shown, from another look at the files.
        let shown = |pairs: &[(u32, u32)]| -> Vec<u32> { pairs.iter().take(SHOWN).map(|(_, first)| *first).collect() };
        let mut wanted = [shown(&copies), shown(&pairs), shown(&leaks)].concat();
        wanted.sort_unstable();
        wanted.dedup();
        let rows = fetch(&wanted)?;
        let text = |row: u32| {
            let found = wanted.binary_search(&row).ok().and_then(|at| rows.get(at));
            found.map(beginning).unwrap_or_default()
        };
        let tally = |count: usize, pairs: &[(u32, u32)], how: &str| {
            let mut tally = Tally::default();
            for (row, first) in pairs.iter().take(SHOWN) {
                let ((file, line), (_, other)) = (self.place(*row), self.place(*first));
                tally.add_at(file, line, format!("{how} line {other}: {}", text(*first)));
            }
            tally.count = count;
            tally
        };
        let exact = tally(copies.len(), &copies, "the same as");
        let nearly = groups.iter().map(|group| group.len() - 1).sum();
        let largest = groups.first().map_or(0, Vec::len);
        let compared = near.is_full().then_some(COMPARED);
        let mut found =
            issues::copies(exact, tally(nearly, &pairs, "nearly the same as"), groups.len(), largest, compared);
        found.extend(issues::leakage(tally(leaks.len(), &leaks, "asks the same as")));
        found.extend(issues::too_few(self.rows));
        let (lengths, languages) = (self.length_report(), self.language_report());
        found.extend(mixed(&languages, self.rows));
        let Self { rows, rejected, answers, mut tallies, preview, .. } = self;
        let (short, cut) = (std::mem::take(&mut tallies.short), std::mem::take(&mut tallies.cut));
        found.extend(answers.issues(short, cut));
        found.extend(issues::single_rows(tallies));
        Ok(Found { rows, rejected, issues: found, lengths, languages, preview })
    }

    /// Rows of other splits that ask what a training row asks, each with that row.
    fn leaks(&self) -> Vec<(u32, u32)> {
        let split = |row: u32| self.splits.get(self.place(row).0).and_then(Option::as_deref);
        let mut leaks = Vec::new();
        let mut order: Vec<u32> = (0..self.prompts.len() as u32).collect();
        order.sort_unstable_by_key(|row| (self.prompts[*row as usize], *row));
        for same in order.chunk_by(|a, b| self.prompts[*a as usize] == self.prompts[*b as usize]) {
            let Some(taught) = same.iter().find(|row| split(**row) == Some("train")) else { continue };
            let tested = same.iter().filter(|row| split(**row).is_some_and(|split| split != "train"));
            leaks.extend(tested.map(|row| (*row, *taught)));
        }
        leaks.sort_unstable();
        leaks
    }

    fn length_report(&self) -> Lengths {
        let at = |share: f64| {
            let wanted = (self.rows as f64 * share).ceil().max(1.0) as u64;
            let mut count = 0;
            let step = self.lengths.iter().position(|rows| {
                count += rows;
                count >= wanted
            });
            step.map_or(0, length_of).min(self.longest)
        };
        if self.rows == 0 {
            Lengths::default()
        } else {
            Lengths { median: at(0.5), p95: at(0.95), longest: self.longest }
        }
    }

    fn language_report(&self) -> Vec<LanguageShare> {
        let total: usize = self.languages.iter().map(|(_, count)| count).sum();
        let mut languages: Vec<LanguageShare> = self
            .languages
            .iter()
            .map(|(language, count)| LanguageShare { language, share: *count as f64 / total as f64 })
            .collect();
        languages.sort_by(|a, b| b.share.total_cmp(&a.share));
        languages
    }
}

/// Four steps for each doubling.
fn step_of(length: u64) -> usize {
    let length = length.max(1);
    let doublings = length.ilog2();
    let rest = if doublings >= 2 { (length >> (doublings - 2)) & 3 } else { 0 };
    (4 * doublings as u64 + rest) as usize
}

/// The middle of a step.
fn length_of(step: usize) -> u64 {
    let (doublings, rest) = (step / 4, (step % 4) as u64);
    if doublings < 3 { 1 << doublings } else { ((4 + rest) << (doublings - 2)) + (1 << (doublings - 3)) }
}

/// More than one language.
fn mixed(languages: &[LanguageShare], rows: usize) -> Option<Issue> {
    let second = languages.get(1).filter(|second| second.share >= NOTICEABLE)?;
    let list: Vec<String> = languages
        .iter()
        .take(5)
        .filter(|language| language.share >= 0.01)
        .map(|LanguageShare { language, share }| format!("{language} {:.0}%", 100.0 * share))
        .collect();
    Some(Issue {
        code: "mixed_languages",
        severity: super::Severity::Info,
        count: (second.share * rows as f64).round() as usize,
        message: format!(
            "The rows are in several languages: {}. A model answers in the language it is asked in if it has seen enough of each",
            list.join(", ")
        ),
        examples: Vec::new(),
        fix: "Keep them if that is wanted; otherwise separate them by language".to_owned(),
        weight: 0.0,
    })
}

/// The language of what is answered, or of the text.
fn language_of(example: &Example) -> Option<&'static str> {
    match example {
        Example::Text(text) => language::of(text),
        Example::Messages(_) | Example::Preference { .. } | Example::Rated { .. } => {
            let conversation = example.conversation()?;
            let turns = &*conversation;
            let answer = turns.iter().rfind(|turn| turn.role == Role::Assistant)?;
            let asked = turns.iter().find(|turn| turn.role == Role::User);
            language::of(&answer.content).or_else(|| language::of(&asked?.content))
        }
    }
}

fn beginning(row: &Row) -> String {
    let text: String = row_defects::texts(&row.example).next().unwrap_or_default().chars().take(80).collect();
    bad_line::excerpt(&text)
}

fn ending(answer: &str) -> String {
    let skipped = answer.chars().count().saturating_sub(60);
    bad_line::excerpt(&answer.chars().skip(skipped).collect::<String>())
}
