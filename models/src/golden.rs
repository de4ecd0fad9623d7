//! Golden steps: training runs of other frameworks that are part of the program, and the self-test they end.
//!
//! `selftest` asks two things of a device: does every operation compute what the reference computes, and does
//! the whole of them train as PEFT and bitsandbytes train? `models/golden/README.md` says where the runs come from.

use crate::checkpoint::Checkpoint;
use crate::verify::{Verification, verify_bytes};
use peft_kernels::Backend;
use peft_kernels::selftest::{self, Check};
use peft_plan::Result;
use serde::{Serialize, Serializer};

const CONFIG: &[u8] = include_bytes!("../golden/config.json");
const WEIGHTS: &[u8] = include_bytes!("../golden/model.safetensors");

/// Name, tensors and options of every run.
const RUNS: [(&str, &[u8], &[u8]); 2] = [
    ("lora", include_bytes!("../golden/lora.safetensors"), include_bytes!("../golden/lora.json")),
    ("nf4-dq", include_bytes!("../golden/nf4-dq.safetensors"), include_bytes!("../golden/nf4-dq.json")),
];

/// What the self-test of one device found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SelftestReport {
    /// `cpu` or `cuda`.
    pub name: String,
    /// The device, and whatever of it could change a bit of a result.
    pub device: String,
    /// How many comparisons there were, in JSON; here, all of them.
    #[serde(serialize_with = "count")]
    pub checks: Vec<Check>,
    /// How many of them passed.
    pub passed: usize,
    /// Those that did not.
    pub failed: Vec<FailedCheck>,
}

/// A comparison whose error is larger than allowed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FailedCheck {
    /// The operation or the golden run, the shapes, the output.
    pub check: String,
    /// How far off; null in JSON where that is infinite or not a number.
    pub error: f64,
    /// The largest error that passes.
    #[serde(skip)]
    pub allowed: f64,
}

fn count<S: Serializer>(checks: &[Check], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(checks.len() as u64)
}

/// Every operation of `be` against the reference, on inputs drawn from `seed`, what was compared `beside`, then the
/// golden steps.
pub fn selftest<B: Backend>(be: &B, seed: u64, beside: Vec<Check>) -> Result<SelftestReport> {
    let mut checks = selftest::run(be, seed);
    checks.extend(beside);
    for (name, outcome) in run(be)? {
        checks.extend(judge(name, outcome));
    }
    Ok(report(B::NAME, be.fingerprint(), checks))
}

/// Replay every golden run on `be`.
pub fn run<B: Backend>(be: &B) -> Result<Vec<(&'static str, Result<Verification>)>> {
    let checkpoint = Checkpoint::from_bytes(CONFIG, WEIGHTS)?;
    let replay = |(name, tensors, options): (&'static str, &[u8], &[u8])| {
        (name, verify_bytes(be, &checkpoint, name, tensors, options))
    };
    Ok(RUNS.map(replay).into())
}

/// What a replay found, as checks. A replay that could not be finished is a check that failed.
fn judge(name: &str, outcome: Result<Verification>) -> Vec<Check> {
    let check = |what: &str, error, allowed| Check { name: format!("golden {name}: {what}"), error, allowed };
    match outcome {
        Ok(v) => vec![
            check("loss", v.loss_relative_error, v.tolerance.loss),
            check("logits", v.logits_relative_error, v.tolerance.logits),
            check(
                &format!("gradients, worst {}", v.gradient_relative_error.tensor),
                v.gradient_relative_error.worst,
                v.tolerance.gradient,
            ),
            check(
                &format!("trained weights, worst {}", v.updated_weight_relative_error.tensor),
                v.updated_weight_relative_error.worst,
                v.tolerance.updated_weight,
            ),
        ],
        Err(fault) => vec![check(&fault.to_string(), f64::INFINITY, 0.0)],
    }
}

fn report(name: &str, device: String, checks: Vec<Check>) -> SelftestReport {
    let failed: Vec<FailedCheck> = checks
        .iter()
        .filter(|c| !c.passed())
        .map(|Check { name, error, allowed }| FailedCheck { check: name.clone(), error: *error, allowed: *allowed })
        .collect();
    SelftestReport { name: name.to_owned(), device, passed: checks.len() - failed.len(), failed, checks }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peft_kernels::cpu::Cpu;
    use peft_kernels::reference::Reference;
    use peft_plan::Fault;

    #[test]
    fn golden_steps_are_small_and_agree_with_peft_on_every_backend() {
        let size: usize = RUNS.iter().map(|run| run.1.len() + run.2.len()).sum();
        assert!(size + CONFIG.len() + WEIGHTS.len() <= 250_000);
        let cpu = Cpu::new(2).expect("two threads");
        for (name, found) in
            run(&Reference).expect("a sound model").into_iter().chain(run(&cpu).expect("a sound model"))
        {
            let found = found.unwrap_or_else(|fault| panic!("{name}: {fault}"));
            assert!(found.within_tolerance && found.steps == 5, "{name}: {found:?}");
            assert!(!found.gradient_relative_error.tensor.is_empty(), "{name} has gradients");
        }
    }

    /// The same run on weights that are not those it was made with is out of tolerance.
    #[test]
    fn a_model_with_one_wrong_row_is_found() {
        let mut weights = WEIGHTS.to_vec();
        let at = weights.len() - 64;
        weights[at..].fill(0x3f);
        let checkpoint = Checkpoint::from_bytes(CONFIG, weights.leak()).expect("still numbers");
        let (name, tensors, options) = RUNS[0];
        let found = verify_bytes(&Reference, &checkpoint, name, tensors, options).expect("it can be replayed");
        assert!(!found.within_tolerance, "{found:?}");
        let checks = judge(name, Ok(found));
        assert!(checks.iter().any(|c| !c.passed()), "{checks:?}");
    }

    #[test]
    fn a_damaged_run_is_a_failed_check_that_says_why() {
        let checkpoint = Checkpoint::from_bytes(CONFIG, WEIGHTS).expect("a sound model");
        let (name, tensors, options) = RUNS[0];
        for (tensors, options) in [(&tensors[..100], options), (tensors, &options[..10])] {
            let fault = verify_bytes(&Reference, &checkpoint, name, tensors, options).expect_err("damaged");
            assert_eq!(fault.code, "PS-MODEL-005");
            let checks = judge(name, Err(fault));
            assert!(
                checks.len() == 1 && !checks[0].passed() && checks[0].name.contains("not a reference run"),
                "{checks:?}"
            );
        }
    }

    #[test]
    fn the_report_is_the_documented_document() {
        let check = |name: &str, error| Check { name: name.to_owned(), error, allowed: 1e-9 };
        let report =
            report("cpu", "plain".to_owned(), vec![check("rope", 0.0), check("gemm", 0.5), check("fill", f64::NAN)]);
        let document = serde_json::to_value(&report).expect("plain data");
        let expected = serde_json::json!({
            "name": "cpu", "device": "plain", "checks": 3, "passed": 1,
            "failed": [{"check": "gemm", "error": 0.5}, {"check": "fill", "error": null}],
        });
        assert_eq!(document, expected);
    }

    #[test]
    fn a_fault_of_the_device_does_not_hide_the_other_runs() {
        let checks = judge("lora", Err(Fault::new("PS-MEM-001", "There is no room")));
        assert_eq!(checks[0].name, "golden lora: There is no room");
        assert!(!checks[0].passed());
    }
}
