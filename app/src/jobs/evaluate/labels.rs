//! Which label a model holds for the likeliest: every label is scored as the answer of every row.

use super::Judge;
use super::answers::Reference;
use super::report::{LabelReport, LabelRow, Report, RowReport};
use peft_models::train::{Tokens, Totals};
use peft_plan::judge::label_of;
use peft_plan::{Example, Result, Role, Turn};
use serde_json::json;

/// Weigh `labels` for each of `chosen` by the probability of the label and the end of the answer after it.
pub(super) fn weigh(
    judge: &mut Judge,
    chosen: &[&Reference],
    labels: Vec<String>,
    detected: bool,
    rows: &mut [RowReport],
    report: &mut Report,
) -> Result<()> {
    let mut each: Vec<LabelRow> =
        labels.iter().map(|label| LabelRow { label: label.clone(), ..LabelRow::default() }).collect();
    let (mut other, mut too_long) = (0, 0);
    let mut counts = (0, 0, 0);
    for reference in chosen {
        let Some(right) = label_of(&reference.expected, &labels) else {
            other += 1;
            continue;
        };
        let Some(candidates) = candidates(judge, reference, &labels)? else {
            too_long += 1;
            continue;
        };
        let (tuned, plain) = judge.losses(&candidates)?;
        let best = |totals: &[Totals]| {
            let least = totals.iter().enumerate().min_by(|a, b| a.1.loss.total_cmp(&b.1.loss));
            least.map_or(0, |(at, _)| at)
        };
        let (chosen_label, base_label) = (best(&tuned), best(&plain));
        each[right].rows += 1;
        each[right].right += usize::from(chosen_label == right);
        each[right].base_right += usize::from(base_label == right);
        counts.0 += 1;
        counts.1 += usize::from(chosen_label == right);
        counts.2 += usize::from(base_label == right);
        if let Some(row) = rows.iter_mut().find(|row| row.row as usize == reference.row) {
            row.expected = Some(reference.expected.clone());
            row.label = Some(labels[chosen_label].clone());
            row.label_scores = Some(json!(tuned.iter().map(|totals| -totals.loss).collect::<Vec<_>>()));
            if judge.tuned {
                row.base_label = Some(labels[base_label].clone());
            }
        }
    }
    if other > 0 {
        report
            .notes
            .push(format!("{other} rows have an answer that is none of the labels; label accuracy is without them"));
    }
    if too_long > 0 {
        report.notes.push(format!("{too_long} rows are too long for their labels to be weighed"));
    }
    let (count, right, base_right) = counts;
    if count == 0 {
        return Ok(());
    }
    report.tuned.label_accuracy = Some(f64::from(right as u32) / count as f64);
    report.base.label_accuracy = Some(f64::from(base_right as u32) / count as f64);
    let commonest = each.iter().map(|label| label.rows).max().unwrap_or(0);
    report.labels = Some(LabelReport {
        set: labels,
        detected,
        rows: count,
        other,
        majority: commonest as f64 / count as f64,
        each,
    });
    Ok(())
}

/// The row with each label as its answer, of which only that is scored; `None` where one is too long.
fn candidates(judge: &Judge, reference: &Reference, labels: &[String]) -> Result<Option<Vec<Tokens>>> {
    let mut turns = reference.turns.clone();
    for turn in &mut turns {
        turn.train = Some(false);
    }
    let mut candidates = Vec::with_capacity(labels.len());
    for label in labels {
        let mut turns = turns.clone();
        turns.push(Turn::new(Role::Assistant, label.as_str()));
        let rendered = judge.base.tokenizer().render(&Example::Messages(turns), &judge.render)?;
        if rendered.ids.len() > judge.limit {
            return Ok(None);
        }
        candidates.push(Tokens { ids: rendered.ids, trained: rendered.trained, row: reference.row as u32, pair: None });
    }
    Ok(Some(candidates))
}
