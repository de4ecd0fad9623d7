//! Which device a name stands for: a graphics card that passed its examination in this process, or the processor.
//!
//! A card computes for the first time in a process only after every kernel was compared with the reference there: a
//! driver, a compiler of a driver, or a card that its authors never saw is judged where it is.

use crate::fault::device;
use peft_kernels::Error;
use peft_kernels::cuda::driver::Driver;
use peft_kernels::cuda::{Cuda, Precision};
use peft_kernels::selftest::{self, Check};
use peft_plan::{Arithmetic, Fault, Result};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

pub use peft_kernels::cuda::driver::CardMemory;

/// Where the inputs of the first examination come from; `selftest` draws new ones every time.
const SEED: u64 = 0x5EED_CA2D;

/// What a backend is opened as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// `cpu` or `cuda`.
    pub name: &'static str,
    /// Why, as half a sentence.
    pub reason: String,
    /// Memory of the card, where it is one.
    pub memory: Option<CardMemory>,
}

/// What became of a name.
pub(super) enum Choice {
    Card(Cuda<Driver>),
    Processor,
    Refused(Box<Fault>),
}

/// The number of the card that `backend` names.
pub(super) fn number(backend: &str) -> Option<usize> {
    match backend {
        "cuda" => Some(0),
        other => other.strip_prefix("cuda:")?.parse().ok(),
    }
}

/// Products of a training in `arithmetic`.
pub(super) fn precision(arithmetic: Arithmetic) -> Precision {
    match arithmetic {
        Arithmetic::F32 => Precision::Single,
        Arithmetic::Bf16 => Precision::Bf16,
    }
}

/// The device that `backend` names.
pub(super) fn open(backend: &str) -> Choice {
    match (number(backend), backend) {
        (Some(ordinal), _) => match examined(ordinal) {
            Ok(card) => Choice::Card(card),
            Err(e) => Choice::Refused(Box::new(device(e))),
        },
        (None, "auto") => examined(0).map_or(Choice::Processor, Choice::Card),
        (None, _) => Choice::Processor,
    }
}

/// The card that `backend` names, however it computes: for the examination that a person asks for.
pub(super) fn unexamined(backend: &str) -> Option<Result<Cuda<Driver>>> {
    number(backend).map(|ordinal| Driver::open(ordinal).and_then(Cuda::new).map_err(device))
}

/// Comparisons of what `card` computes from rounded factors.
pub(super) fn rounded(card: &Cuda<Driver>, seed: u64) -> Vec<Check> {
    selftest::rounded(&card.clone().with_precision(Precision::Bf16), seed)
}

/// Whether `backend` is opened as a card.
pub(super) fn is_used(backend: &str) -> bool {
    matches!(open(backend), Choice::Card(_))
}

/// What `backend` is opened as, and why.
pub(super) fn choice(backend: &str) -> Result<Chosen> {
    let processor = |reason: String| Ok(Chosen { name: "cpu", reason, memory: None });
    let card = |card: &Cuda<Driver>, asked: &str| {
        let memory = card.device().memory().map_err(device)?;
        Ok(Chosen { name: "cuda", reason: format!("{} {asked}", card.device().card_name()), memory: Some(memory) })
    };
    match (number(backend), backend) {
        (Some(ordinal), _) => card(&examined(ordinal).map_err(device)?, "was asked for"),
        (None, "auto") => match examined(0) {
            Ok(found) => card(&found, "computes correctly and is faster"),
            Err(e) => processor(format!("{e}; the processor is used")),
        },
        (None, "cpu") => processor("the processor was asked for".to_owned()),
        (None, kernels) if kernels.starts_with("cpu:") => {
            processor("the processor was asked for, with these kernels".to_owned())
        }
        (None, other) => Err(Fault::new("PS-HW-001", format!("There is no backend `{other}`"))),
    }
}

/// Card number `ordinal`, which computes correctly. What was found is remembered: the failure as words, the success as
/// nothing to do again.
fn examined(ordinal: usize) -> Result<Cuda<Driver>, Error> {
    static FOUND: Mutex<BTreeMap<usize, Option<Error>>> = Mutex::new(BTreeMap::new());
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    let known = found.get(&ordinal).cloned();
    if let Some(Some(error)) = known {
        return Err(error);
    }
    let opened = Driver::open(ordinal).and_then(Cuda::new).and_then(|card| {
        if known.is_none() {
            examine(&card)?;
        }
        Ok(card)
    });
    // A card that has no room now may have some later.
    if !matches!(opened, Err(Error::OutOfMemory { .. })) {
        found.insert(ordinal, opened.as_ref().err().cloned());
    }
    opened
}

/// Every kernel against the reference, in both precisions.
fn examine(card: &Cuda<Driver>) -> Result<(), Error> {
    let mut checks = selftest::run(card, SEED);
    checks.extend(rounded(card, SEED));
    let wrong: Vec<&Check> = checks.iter().filter(|check| !check.passed()).collect();
    let Some(first) = wrong.first() else { return Ok(()) };
    let reason = format!(
        "{} does not compute correctly ({} of {} comparisons failed, the first is \"{}\") and is not used",
        card.device().card_name(),
        wrong.len(),
        checks.len(),
        first.name
    );
    Err(Error::Unavailable { reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_named_by_its_number() {
        let named = ["cuda", "cuda:0", "cuda:3", "cuda:", "cuda:x", "cpu", "auto"].map(number);
        assert_eq!(named, [Some(0), Some(0), Some(3), None, None, None, None]);
    }

    /// Whether this machine has a card or not (G5).
    #[test]
    fn auto_always_finds_a_device_and_a_card_that_is_not_there_is_refused_with_a_reason() {
        assert!(!matches!(open("auto"), Choice::Refused(_)));
        assert!(matches!(open("cpu"), Choice::Processor));
        let Choice::Refused(fault) = open("cuda:4000") else { panic!("there are no 4000 cards") };
        assert!(["PS-HW-001", "PS-HW-002"].contains(&fault.code), "{fault}");
        let chosen = choice("auto").expect("a device");
        assert!(!chosen.reason.is_empty() && (chosen.name == "cuda") == chosen.memory.is_some());
        assert_eq!(choice("cuda:4000").expect_err("refused").code, fault.code);
    }
}
