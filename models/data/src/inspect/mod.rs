//! The quality report of a dataset (S4.4.3, S4.4.4): what is wrong, how often, an example, what it
//! does to training, and what to do about it.
//!
//! Files are read once and never held: rows are looked at by a second thread as they come (`scan`), and of each only
//! a few numbers are kept. The texts of copies, which are known at the end, are fetched by reading again.
//!
//! The score starts at 100. Each issue has a weight, the points it costs when it touches a fifth of
//! all rows or more; below that it costs the proportional part, and an error costs at least one
//! point. A dataset of fewer than [`ENOUGH`] rows loses up to 40 points, in proportion to what is
//! missing. The score is rounded and never below 0.

mod answers;
mod issues;
mod scan;

use crate::collect::RowSink;
use crate::dataset::{Dataset, FileReport, Rejected};
use crate::hub::split_of;
use crate::read::{BadLine, ReadOptions, judge, read_into};
use peft_plan::{Result, Row};
use scan::Scan;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};

/// Rows from which on a dataset is not small.
const ENOUGH: usize = 50;

/// Share of the rows at which an issue costs its full weight, and at which repetition is an issue.
const SERIOUS: f64 = 0.2;

/// Examples shown for each issue.
const SHOWN: usize = 3;

/// Rows in the preview (S4.4.5).
const PREVIEW: usize = 5;

/// Rows handed over together, and bytes at which fewer are.
const BATCH: (usize, usize) = (256, 1 << 20);

/// How much an issue matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Rows are lost or must not be trained on.
    Error,
    /// Training works, but the result suffers.
    Warning,
    /// Worth knowing.
    Info,
}

/// A row that shows an issue.
#[derive(Clone, Debug, Serialize)]
pub struct IssueExample {
    /// Index of the file in the list that was read.
    pub file: usize,
    /// Line or element number, from 1.
    pub line: usize,
    /// What was found there; secrets are masked.
    pub text: String,
}

/// One thing that is wrong with a dataset.
#[derive(Clone, Debug, Serialize)]
pub struct Issue {
    /// Stable name, such as `exact_duplicates`.
    pub code: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// Rows concerned.
    pub count: usize,
    /// What is wrong and what it does to training.
    pub message: String,
    /// A few rows concerned.
    pub examples: Vec<IssueExample>,
    /// What to do about it.
    pub fix: String,
    #[serde(skip)]
    weight: f64,
}

/// Lengths of rows in characters (bytes of UTF-8), within a tenth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lengths {
    /// Half of the rows are shorter.
    pub median: u64,
    /// 19 of 20 rows are shorter.
    pub p95: u64,
    /// The longest row.
    pub longest: u64,
}

/// How much of a dataset is in one language.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LanguageShare {
    /// Two letters.
    pub language: &'static str,
    /// Share of the rows whose language could be told.
    pub share: f64,
}

/// The report.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// What each file is.
    pub files: Vec<FileReport>,
    /// Usable rows.
    pub rows: usize,
    /// Rows left out.
    pub rejected: usize,
    /// Quality from 0 to 100; the formula is in the module's documentation.
    pub score: u32,
    /// What is wrong, the most important first.
    pub issues: Vec<Issue>,
    /// How long rows are.
    pub lengths: Lengths,
    /// Languages of the rows that were looked at, the most frequent first.
    pub languages: Vec<LanguageShare>,
    /// The first rows, to be rendered and counted by whoever has a tokenizer.
    pub preview: Vec<Row>,
}

/// What reading hands over.
enum Item {
    Row(Row),
    Rejected(Rejected),
}

/// Hands rows to the thread that looks at them.
struct Feed {
    to: SyncSender<Vec<Item>>,
    batch: Vec<Item>,
    bytes: usize,
}

impl Feed {
    fn push(&mut self, item: Item, bytes: usize) {
        self.batch.push(item);
        self.bytes += bytes;
        if self.batch.len() >= BATCH.0 || self.bytes >= BATCH.1 {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.bytes = 0;
        // Nobody listens only after a panic over there, which is raised again at the end.
        let _sent = self.to.send(std::mem::take(&mut self.batch));
    }
}

impl RowSink for Feed {
    fn row(&mut self, row: Row) {
        let bytes = crate::row_defects::texts(&row.example).map(|text| text.len()).sum();
        self.push(Item::Row(row), bytes);
    }

    fn rejected(&mut self, rejected: Rejected) {
        let bytes = rejected.excerpt.len() + rejected.reason.len();
        self.push(Item::Rejected(rejected), bytes);
    }
}

/// Read `paths` and report on them. Bad lines become an issue, whatever `options` says.
pub fn inspect(paths: &[PathBuf], options: &ReadOptions) -> Result<Inspection> {
    let options = ReadOptions { on_bad_line: BadLine::Skip, ..options.clone() };
    let splits: Vec<Option<String>> = paths.iter().map(|path| split_of(&path.to_string_lossy())).collect();
    let (to, from) = sync_channel::<Vec<Item>>(2);
    let (files, scan) = std::thread::scope(|threads| {
        let worker = threads.spawn(|| {
            let mut scan = Scan::new(splits);
            for item in from.into_iter().flatten() {
                match item {
                    Item::Row(row) => scan.row(row),
                    Item::Rejected(rejected) => scan.rejected(rejected),
                }
            }
            scan
        });
        let mut feed = Feed { to, batch: Vec::new(), bytes: 0 };
        let files = read_into(paths, &options, &mut feed);
        feed.flush();
        drop(feed);
        (files, worker.join())
    });
    let scan = scan.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let files = files?;
    // Whether there is anything at all is decided as for every other reader.
    let some = Dataset { rows: scan.preview().to_vec(), files: Vec::new(), rejected: scan.kept_rejections().to_vec() };
    judge(&some, paths, BadLine::Skip)?;
    let found = scan.finish(&|wanted| texts_at(paths, &options, wanted))?;
    let total = found.rows + found.rejected;
    let score = score(&found.issues, total, found.rows);
    let mut issues = found.issues;
    issues.sort_by_key(|issue| (issue.severity as u8, std::cmp::Reverse(issue.count)));
    Ok(Inspection {
        files,
        rows: found.rows,
        rejected: found.rejected,
        score,
        issues,
        lengths: found.lengths,
        languages: found.languages,
        preview: found.preview,
    })
}

/// The usable rows with these numbers (from 0, in order), read again.
fn texts_at(paths: &[PathBuf], options: &ReadOptions, wanted: &[u32]) -> Result<Vec<Row>> {
    struct Pick<'a> {
        wanted: &'a [u32],
        at: u32,
        found: Vec<Row>,
    }
    impl RowSink for Pick<'_> {
        fn row(&mut self, row: Row) {
            if self.wanted.contains(&self.at) {
                self.found.push(row);
            }
            self.at += 1;
        }

        fn rejected(&mut self, _: Rejected) {}

        fn is_done(&self) -> bool {
            self.found.len() == self.wanted.len()
        }
    }
    let mut pick = Pick { wanted, at: 0, found: Vec::new() };
    if !wanted.is_empty() {
        read_into(paths, options, &mut pick)?;
    }
    Ok(pick.found)
}

fn score(issues: &[Issue], total: usize, usable: usize) -> u32 {
    let cost = |issue: &Issue| {
        let share = issue.count as f64 / total.max(1) as f64;
        let least = if issue.severity == Severity::Error { 1.0 } else { 0.0 };
        (issue.weight * (share / SERIOUS).min(1.0)).max(least)
    };
    let missing = 1.0 - usable.min(ENOUGH) as f64 / ENOUGH as f64;
    let points = 100.0 - 40.0 * missing - issues.iter().map(cost).sum::<f64>();
    points.round().clamp(0.0, 100.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issue(count: usize, weight: f64, severity: Severity) -> Issue {
        let tally = issues::Tally { count, examples: Vec::new() };
        tally.issue("x", severity, weight, "", "").expect("a count")
    }

    #[test]
    fn the_score_follows_the_formula() {
        assert_eq!(score(&[], 1_000, 1_000), 100);
        assert_eq!(score(&[issue(200, 20.0, Severity::Warning)], 1_000, 1_000), 80);
        assert_eq!(score(&[issue(100, 20.0, Severity::Warning)], 1_000, 1_000), 90);
        assert_eq!(score(&[issue(1, 20.0, Severity::Error)], 10_000, 10_000), 99);
        assert_eq!(score(&[], 25, 25), 80);
        assert_eq!(score(&[issue(5, 90.0, Severity::Error), issue(5, 90.0, Severity::Error)], 5, 0), 0);
    }
}
