//! Loss or gradient are no longer numbers.
//!
//! There is no threshold: nothing that is not finite may reach a parameter. The step that found it kept nothing, so
//! the state is still the one before it; the question is only whose fault it was. Rows that are broken one by one
//! can be left out. Where every row is broken, the parameters or the model are.

use super::{Finding, FindingKind};

/// What is broken in a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Broken {
    /// Rows whose own loss or gradient is not finite.
    pub rows: Vec<u32>,
    /// Rows of the step.
    pub of: usize,
    /// Where it is seen first: the output of a layer, a gradient, a parameter.
    pub tensor: Option<String>,
    /// The loss itself, not only the gradient.
    pub loss: bool,
}

/// The finding about a broken step. `places`: the rows as people find them, the first few.
pub fn non_finite(step: u64, broken: &Broken, places: &[String], rate: f64) -> Finding {
    let what = if broken.loss { "loss" } else { "gradient" };
    let whose = match broken.rows.len() {
        0 => String::new(),
        n if n == broken.of => format!(" for every one of the {n} rows of the step"),
        1 => format!(" because of {}", places.first().map_or("one row", String::as_str)),
        n => format!(" because of {n} rows: {}", places.join(", ")),
    };
    let tensor = broken.tensor.as_ref().map(|t| format!("; it is seen first in {t}")).unwrap_or_default();
    let message =
        format!("At step {step} the {what} is no longer a number{whose}{tensor}. Nothing of this step was kept");
    let lower = super::two_digits(rate / 2.0);
    let mut finding = Finding::new(FindingKind::Nan, "PS-TRAIN-002", step, message)
        .with("broken_rows", broken.rows.len() as f64)
        .with("rows_of_step", broken.of as f64)
        .with("learning_rate", rate);
    if !broken.rows.is_empty() && broken.rows.len() < broken.of {
        let list: Vec<String> = broken.rows.iter().take(20).map(|row| (row + 1).to_string()).collect();
        finding = finding
            .action("Leave these rows out", Some(format!("peft-studio resume RUN --exclude-rows {}", list.join(","))));
    }
    finding = finding.action(
        format!("Use a lower learning rate, such as {lower:.1e}"),
        Some(format!("peft-studio resume RUN --set training.learning_rate={lower:e}")),
    );
    finding.rows.clone_from(&broken.rows);
    finding.tensor.clone_from(&broken.tensor);
    finding
}
