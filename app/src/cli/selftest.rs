//! `selftest`: does this machine compute correctly?

use super::context::Context;
use super::{output, table};
use peft_models::engine::Engine;
use peft_models::golden::SelftestReport;
use peft_plan::Fault;
use serde::Serialize;
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// Failures a person is shown; JSON has all of them.
const SHOWN: usize = 20;

/// The document of `--json`.
#[derive(Debug, Serialize)]
struct Document {
    backends: Vec<SelftestReport>,
}

/// Examine every backend that can be used here, or the one that was asked for; 1 when something is wrong.
pub(super) fn run(context: &Context) -> Result<u8, Fault> {
    // Whoever asks for an examination wants a new answer.
    crate::jobs::trials::forget(&context.data_dir)?;
    let seed = seed();
    output::note(&format!("Inputs are drawn from seed {seed}"));
    let backends = usable(context)?.iter().map(|engine| engine.selftest(seed)).collect::<Result<Vec<_>, _>>()?;
    let is_sound = backends.iter().all(|report| report.failed.is_empty());
    if context.json {
        output::print_json(&Document { backends });
    } else {
        let parts: Vec<String> = backends.iter().map(for_people).collect();
        output::text(&output::printable(&parts.join("\n")));
    }
    Ok(u8::from(!is_sound))
}

/// Without a choice, every backend; with one, that one or a fault.
fn usable(context: &Context) -> Result<Vec<Engine>, Fault> {
    let chosen = match context.backend.as_str() {
        "auto" => "cpu",
        chosen => chosen,
    };
    let mut engines = vec![Engine::open_unexamined(chosen, context.threads)?];
    if context.backend == "auto" {
        // No card is nothing wrong here; `hardware` says why there is none.
        engines.extend(Engine::open_unexamined("cuda", context.threads).ok());
    }
    Ok(engines)
}

/// New numbers every time: many machines together see more than one list of cases.
fn seed() -> u64 {
    // A clock before 1970 is a poor seed and no reason to stop.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_nanos() as u64)
}

fn for_people(report: &SelftestReport) -> String {
    let SelftestReport { name, device, checks, passed, failed } = report;
    let mut operations: Vec<Operation> = Vec::new();
    for check in checks {
        let found = Operation::of(&check.name, check.error, check.passed());
        match operations.iter_mut().find(|operation| operation.name == found.name) {
            Some(operation) => operation.join(&found),
            None => operations.push(found),
        }
    }
    let rows: Vec<Vec<String>> = operations.iter().map(Operation::row).collect();
    let mut text =
        format!("{name}: {device}\n\n{}", table::render(&["Operation", ">Checks", ">Failed", ">Largest error"], &rows));
    if !failed.is_empty() {
        let row = |f: &peft_models::golden::FailedCheck| vec![f.check.clone(), number(f.error), number(f.allowed)];
        let rows: Vec<Vec<String>> = failed.iter().take(SHOWN).map(row).collect();
        write!(text, "\n{}", table::render(&["Failed", ">Error", ">Allowed"], &rows))
            .expect("a string takes everything");
        if failed.len() > SHOWN {
            writeln!(text, "and {} more, all of them with --json", failed.len() - SHOWN)
                .expect("a string takes everything");
        }
    }
    match failed.len() {
        0 => writeln!(text, "\nAll {passed} checks passed: this machine computes correctly"),
        n => writeln!(text, "\n{n} of {} checks failed: do not trust what is trained here", checks.len()),
    }
    .expect("a string takes everything");
    text
}

/// The checks of one operation, together.
struct Operation {
    name: String,
    checks: usize,
    failed: usize,
    /// Not a number where one of them is not.
    largest: f64,
}

impl Operation {
    /// One check. Its name begins with that of the operation.
    fn of(check: &str, error: f64, is_passed: bool) -> Self {
        let name = check.split([' ', ':']).next().unwrap_or(check).to_owned();
        Self { name, checks: 1, failed: usize::from(!is_passed), largest: error }
    }

    fn join(&mut self, other: &Self) {
        self.checks += other.checks;
        self.failed += other.failed;
        self.largest =
            if self.largest.is_nan() || other.largest.is_nan() { f64::NAN } else { self.largest.max(other.largest) };
    }

    fn row(&self) -> Vec<String> {
        let Self { name, checks, failed, largest } = self;
        vec![name.clone(), checks.to_string(), failed.to_string(), number(*largest)]
    }
}

fn number(x: f64) -> String {
    if x == 0.0 {
        "0".to_owned()
    } else if x.is_finite() {
        format!("{x:.1e}")
    } else {
        "no number".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peft_models::golden::FailedCheck;

    #[test]
    fn backends_that_cannot_be_used_are_refused_and_the_processor_always_can() {
        let context = |backend: &str| Context {
            json: false,
            data_dir: "/nowhere".into(),
            backend: backend.into(),
            threads: 1,
            offline: false,
        };
        assert_eq!(usable(&context("auto")).expect("a processor")[0].backend(), "cpu");
        let fault = usable(&context("cuda:7")).err().expect("no such card");
        assert_eq!(fault.code, "PS-HW-001");
    }

    #[test]
    fn a_sound_machine_passes_and_the_table_has_every_operation() {
        let engine = Engine::open("cpu", 1).expect("a processor");
        let report = engine.selftest(seed()).expect("a report");
        assert_eq!(report.failed, []);
        let text = for_people(&report);
        for operation in ["philox", "nf4", "linear", "attention_bwd", "head_loss", "adamw", "golden"] {
            assert!(text.lines().any(|line| line.starts_with(operation)), "{operation} is missing in\n{text}");
        }
        assert!(
            text.ends_with(&format!("All {} checks passed: this machine computes correctly\n", report.passed)),
            "{text}"
        );
    }

    #[test]
    fn failures_are_shown_with_what_is_allowed_and_no_number_is_hidden_by_a_larger_one() {
        let failed = |check: &str, error| FailedCheck { check: check.to_owned(), error, allowed: 1e-9 };
        let many = (0..30).map(|i| failed(&format!("gemm {i}"), f64::INFINITY));
        let failed: Vec<FailedCheck> = std::iter::once(failed("rope [1, 2]: x", 0.25)).chain(many).collect();
        let report = SelftestReport { name: "cpu".into(), device: "d".into(), checks: Vec::new(), passed: 5, failed };
        let text = for_people(&report);
        assert!(text.contains("rope [1, 2]: x     2.5e-1   1.0e-9"), "{text}");
        assert!(text.contains("gemm 0          no number   1.0e-9"), "{text}");
        assert!(
            text.contains("and 11 more")
                && text.ends_with("31 of 0 checks failed: do not trust what is trained here\n")
        );
        let mut operation = Operation::of("gemm a: y", 1.0, true);
        operation.join(&Operation::of("gemm: no memory", f64::NAN, false));
        operation.join(&Operation::of("gemm b: y", 2.0, true));
        assert_eq!(operation.row(), ["gemm", "3", "1", "no number"]);
    }
}
