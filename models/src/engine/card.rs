//! Which device a name stands for: a graphics card that passed its examination in this process, or the processor.
//!
//! A card computes for the first time in a process only after every kernel was compared with the reference there: a
//! driver, a compiler of a driver, or a card that its authors never saw is judged where it is.

use super::trial::{self, Unused};
use crate::fault::device;
use peft_kernels::cuda::driver::Driver;
use peft_kernels::cuda::{Cuda, Precision};
use peft_kernels::selftest::{self, Check};
use peft_kernels::{Backend, Error};
use peft_plan::memory::card::Beside;
use peft_plan::{Arithmetic, Fault, Result};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use peft_kernels::cuda::driver::{CardMemory, Listed as ListedCard};

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
    /// What of a card is not used, and why; nothing where it is none.
    pub unused: Unused,
    /// The library that the card multiplies with, and from which sizes on.
    pub library: Option<String>,
    /// What a run's memory plan counts beside what the run takes itself.
    pub beside: Beside,
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
    number(backend).map(|ordinal| driver(ordinal).and_then(|(driver, _)| Cuda::new(driver)).map_err(device))
}

/// Whether cards are opened without graphs.
static NO_GRAPHS: AtomicBool = AtomicBool::new(false);

pub(super) fn without_graphs() {
    NO_GRAPHS.store(true, Ordering::Relaxed);
}

/// Card number `ordinal` with what passed its trial and was not switched off.
fn driver(ordinal: usize) -> Result<(Driver, Unused), Error> {
    let mut driver = Driver::open_plain(ordinal)?;
    let unused = trial::use_what_passed(&mut driver, ordinal, NO_GRAPHS.load(Ordering::Relaxed))?;
    Ok((driver, unused))
}

/// What `be` takes of a card's memory for every run; `None`: it is no card.
pub(super) fn beside<B: Backend>(be: &B) -> Option<Beside> {
    be.memory()
        .map(|memory| Beside { library_bytes: memory.library as u64, graph_kernel_bytes: memory.graph_kernel as u64 })
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
    let processor = |reason: String| {
        Ok(Chosen {
            name: "cpu",
            reason,
            memory: None,
            unused: Unused::default(),
            library: None,
            beside: Beside::default(),
        })
    };
    let card = |card: &Cuda<Driver>, ordinal: usize, asked: &str| {
        let memory = card.device().memory().map_err(device)?;
        let reason = format!("{} {asked}", card.device().card_name());
        let mut unused = cards().known.get(&ordinal).map(|known| known.unused.clone()).unwrap_or_default();
        unused.graphs = card.device().graphs_off();
        unused.library = card.device().library_stopped().or(unused.library);
        Ok(Chosen {
            name: "cuda",
            reason,
            memory: Some(memory),
            unused,
            library: card.device().library_words(),
            beside: beside(card).unwrap_or_default(),
        })
    };
    match (number(backend), backend) {
        (Some(ordinal), _) => card(&examined(ordinal).map_err(device)?, ordinal, "was asked for"),
        (None, "auto") => match examined(0) {
            Ok(found) => card(&found, 0, "computes correctly and is faster"),
            Err(e) => processor(format!("{e}; the processor is used")),
        },
        (None, "cpu") => processor("the processor was asked for".to_owned()),
        (None, kernels) if kernels.starts_with("cpu:") => {
            processor("the processor was asked for, with these kernels".to_owned())
        }
        (None, other) => Err(Fault::new("PS-HW-001", format!("There is no backend `{other}`"))),
    }
}

/// What is known of a card in this process.
#[derive(Default)]
struct Known {
    /// It was compared with the reference: nothing to do again.
    examined: bool,
    /// It cannot be used, in words.
    failure: Option<Error>,
    /// Open, for whoever asks next: a context and the kernels take longer than a plan.
    open: Option<Cuda<Driver>>,
    used: Option<Instant>,
    /// What of it is not used.
    unused: Unused,
}

/// All cards that were asked for.
#[derive(Default)]
struct Cards {
    known: BTreeMap<usize, Known>,
    /// A thread sees to it that a card is closed again.
    is_watched: bool,
}

static CARDS: Mutex<Cards> = Mutex::new(Cards { known: BTreeMap::new(), is_watched: false });

fn cards() -> MutexGuard<'static, Cards> {
    // Whatever panicked left a map of whole entries.
    CARDS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// So long a card stays open for the next who asks, after the last one who used it. A run that pauses gives back all of
/// a card's memory within ten seconds (S4.13.2).
const KEPT_OPEN: Duration = Duration::from_secs(4);

/// Card number `ordinal`, which computes correctly: one context for the process, opened where none is.
fn examined(ordinal: usize) -> Result<Cuda<Driver>, Error> {
    let mut cards = cards();
    let known = cards.known.entry(ordinal).or_default();
    if let Some(error) = &known.failure {
        return Err(error.clone());
    }
    known.used = Some(Instant::now());
    // One that was lost in the meantime does not answer, and is opened again.
    if let Some(open) = known.open.take().filter(|open| open.device().memory().is_ok()) {
        known.open = Some(open.clone());
        return Ok(open);
    }
    let opened = driver(ordinal).and_then(|(driver, unused)| {
        known.unused = unused;
        let card = Cuda::new(driver)?;
        if !known.examined {
            examine(&card)?;
            card.trim();
        }
        Ok(card)
    });
    match &opened {
        Ok(card) => {
            known.examined = true;
            known.open = Some(card.clone());
            known.used = Some(Instant::now());
            watch(&mut cards);
        }
        // A card that has no room now may have some later.
        Err(Error::OutOfMemory { .. }) => {}
        Err(error) => known.failure = Some(error.clone()),
    }
    opened
}

/// Close every card that nobody uses and nobody asked for lately; whether one is still open.
fn close_unused(cards: &mut Cards, kept_open: Duration) -> bool {
    for known in cards.known.values_mut() {
        let is_fresh = known.used.is_some_and(|used| used.elapsed() < kept_open);
        match &known.open {
            Some(open) if open.is_shared() => known.used = Some(Instant::now()),
            Some(_) if !is_fresh => known.open = None,
            _ => {}
        }
    }
    cards.known.values().any(|known| known.open.is_some())
}

/// Close cards once nobody has used them for a while.
fn watch(found: &mut Cards) {
    if found.is_watched {
        return;
    }
    let begun = std::thread::Builder::new().name("cards".to_owned()).spawn(|| {
        loop {
            std::thread::sleep(KEPT_OPEN / 8);
            let mut cards = cards();
            if !close_unused(&mut cards, KEPT_OPEN) {
                cards.is_watched = false;
                return;
            }
        }
    });
    // Without a thread it stays open until the program ends.
    found.is_watched = begun.is_ok();
}

/// Close every card that nobody uses, at once: at the end of the program.
pub(super) fn close() {
    // While a card is being opened it is in use.
    if let Ok(mut cards) = CARDS.try_lock() {
        close_unused(&mut cards, Duration::ZERO);
    }
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

    /// Nothing is kept of a card that is not there but the reason.
    #[test]
    fn a_card_that_is_not_there_is_asked_for_once_and_nothing_stays_open() {
        let (first, again) = (examined(3999).err(), examined(3999).err());
        assert_eq!(first, again);
        close();
        assert!(first.is_some());
        assert!(cards().known[&3999].open.is_none());
    }

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
