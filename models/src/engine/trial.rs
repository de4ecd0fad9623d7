//! Trials: what of a graphics card could take a program down with it is tried in a process of its own, before any other
//! process uses it.
//!
//! A kernel that leaves its memory poisons the card for its whole process, and one that never ends stops it. So graphs,
//! the kernels of compute capability 9.0 and a library of the card's maker are used by a process only after another one
//! came back from trying them. Whoever can start processes says so once ([`super::Engine::have_tried`]); without that, none of
//! it is used, and a card computes with the kernels that need no trial.

use peft_kernels::cuda::driver::Driver;
use peft_kernels::cuda::library::{Choice, Measured};
use peft_kernels::cuda::{Cuda, lt, shipped};
use peft_kernels::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// Launches that come again, as one graph.
    Graphs,
    /// Products of compute capability 9.0.
    Wgmma,
    /// NVIDIA's library of products.
    Library,
}

impl Risk {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Graphs, Self::Wgmma, Self::Library];

    /// Its name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Graphs => "graphs",
            Self::Wgmma => "wgmma",
            Self::Library => "library",
        }
    }
}

/// What a trial found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// It can be used.
    pub passed: bool,
    /// Why not, as half a sentence.
    #[serde(default)]
    pub reason: Option<String>,
    /// The answer holds for other processes, too; one that lacked memory may find some later.
    pub holds: bool,
    /// Of a library: how fast it is.
    #[serde(default)]
    pub measured: Vec<Speed>,
}

/// How long a product takes, as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// Rows, columns and steps.
    pub size: usize,
    /// The way back through a weight.
    pub back: bool,
    /// Seconds of our kernels.
    pub ours: f64,
    /// Seconds of the library.
    pub theirs: f64,
}

impl Verdict {
    fn passed() -> Self {
        Self { passed: true, holds: true, ..Self::default() }
    }

    /// It does not work, and will not another time.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), holds: true, ..Self::default() }
    }

    /// It could not be found out.
    pub fn unclear(reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..Self::default() }
    }

    fn of(error: &Error) -> Self {
        match error {
            Error::OutOfMemory { .. } => Self::unclear(error.to_string()),
            error => Self::failed(error.to_string()),
        }
    }

    /// Why not; nothing where it passed.
    pub fn into_reason(self) -> Option<String> {
        if self.passed { None } else { Some(self.reason.unwrap_or_else(|| "its trial failed".to_owned())) }
    }
}

/// A trial that is asked for.
#[derive(Clone, Debug)]
pub struct Question {
    /// What is tried.
    pub risk: Risk,
    /// The card's number.
    pub ordinal: usize,
    /// Everything that the answer depends on: card, driver, library, program.
    pub about: String,
}

/// Who answers.
pub type Examiner = Box<dyn Fn(&Question) -> Verdict + Send + Sync>;

static EXAMINER: OnceLock<Examiner> = OnceLock::new();
/// Whether libraries are left alone.
static NO_LIBRARY: AtomicBool = AtomicBool::new(false);

/// Have trials made by `examiner`; the first one stays.
pub(super) fn have_tried(examiner: Examiner) {
    // A second context of this process asks the same way.
    let _first_stays = EXAMINER.set(examiner);
}

pub(super) fn without_library() {
    NO_LIBRARY.store(true, Ordering::Relaxed);
}

/// Where the library is that this driver can run.
fn library(driver: &Driver) -> Option<PathBuf> {
    lt::find(driver.version())
}

fn question(driver: &Driver, ordinal: usize, risk: Risk) -> Question {
    // The module of the system, which says its version to the last digit.
    let module = std::fs::read_to_string("/sys/module/nvidia/version").unwrap_or_default();
    let library = library(driver).filter(|_| risk == Risk::Library).map(|path| file(&path)).unwrap_or_default();
    Question { risk, ordinal, about: about(risk, driver.card_name(), driver.version(), [module.trim(), &library]) }
}

/// Everything that an answer depends on; what is not there is empty.
fn about(risk: Risk, card: &str, driver: i32, [module, library]: [&str; 2]) -> String {
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let program = format!("program {} {build} {:016x}", env!("CARGO_PKG_VERSION"), shipped::mark());
    format!("{} on {card}, driver {driver} {module}, library {library}, {program}", risk.name())
}

/// A library at `path`: another one at the same place has another length or time.
fn file(path: &Path) -> String {
    let meta = std::fs::metadata(path).ok();
    let length = meta.as_ref().map_or(0, std::fs::Metadata::len);
    let changed = meta.and_then(|meta| meta.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok());
    format!("{} of {length} bytes from {}", path.display(), changed.map_or(0, |time| time.as_secs()))
}

/// What is not used of a card, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unused {
    /// Why its launches are no graphs; `None`: those that come again are.
    pub graphs: Option<String>,
    /// Why products of compute capability 9.0 are not used, where the card could.
    pub wgmma: Option<String>,
    /// Why products are not given to a library; `None`: some are.
    pub library: Option<String>,
}

/// Use of a card what went well in its trial, and say what not.
pub(super) fn use_what_passed(driver: &mut Driver, ordinal: usize, no_graphs: bool) -> Result<Unused> {
    let mut unused = Unused::default();
    let ask = |driver: &Driver, risk| {
        let nobody = || Verdict::unclear("this process has nobody to try it");
        EXAMINER.get().map_or_else(nobody, |examiner| examiner(&question(driver, ordinal, risk)))
    };
    if driver.could_use_wgmma() {
        unused.wgmma = ask(driver, Risk::Wgmma).into_reason();
        if unused.wgmma.is_none() {
            driver.use_wgmma();
        }
    }
    let graphs = if no_graphs { Some("they were switched off".to_owned()) } else { None };
    match graphs.or_else(|| ask(driver, Risk::Graphs).into_reason()) {
        Some(reason) => driver.without_graphs(&reason)?,
        None => driver.use_graphs(),
    }
    unused.library = use_library(driver, || ask(driver, Risk::Library)).err();
    Ok(unused)
}

/// An error is the reason why it is not used.
fn use_library(driver: &Driver, ask: impl FnOnce() -> Verdict) -> Result<(), String> {
    if NO_LIBRARY.load(Ordering::Relaxed) {
        return Err("it was switched off".to_owned());
    }
    let path = library(driver).ok_or_else(|| "it is not installed".to_owned())?;
    let verdict = ask();
    let of = |s: &Speed| Measured { size: s.size, by_step: s.back, ours: s.ours, theirs: s.theirs };
    let choice = Choice::of(&verdict.measured.iter().map(of).collect::<Vec<_>>());
    if let Some(reason) = verdict.into_reason() {
        return Err(reason);
    }
    // Also where it is not faster now: a run may have been begun with it.
    driver.use_library(&path, choice).map_err(|e| e.to_string())?;
    if choice.is_any() { Ok(()) } else { Err("it is not faster on this card".to_owned()) }
}

/// Make the trial in this process: it may not come back.
pub(super) fn here(ordinal: usize, risk: Risk) -> Verdict {
    Driver::open_plain(ordinal).and_then(|driver| tried(driver, risk)).unwrap_or_else(|e| Verdict::of(&e))
}

fn tried(mut driver: Driver, risk: Risk) -> Result<Verdict> {
    match risk {
        Risk::Graphs => {
            driver.use_graphs();
            Ok(driver.graphs_off().map_or_else(Verdict::passed, Verdict::failed))
        }
        Risk::Wgmma => {
            driver.use_wgmma();
            let passes = Cuda::new(driver)?.uses_wgmma();
            let wrong = || Verdict::failed("they do not compute what the other kernels compute");
            Ok(if passes { Verdict::passed() } else { wrong() })
        }
        Risk::Library => {
            let Some(path) = library(&driver) else { return Ok(Verdict::unclear("it is not installed")) };
            let measured = Cuda::new(driver)?.try_library(&path)?;
            let speed = |m: Measured| Speed { size: m.size, back: m.by_step, ours: m.ours, theirs: m.theirs };
            Ok(Verdict { measured: measured.into_iter().map(speed).collect(), ..Verdict::passed() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer about one of them is none about another.
    #[test]
    fn a_kept_answer_is_that_of_its_card_driver_and_library() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("libcublasLt.so.12");
        std::fs::write(&path, "one").expect("written");
        let (one, own) = (file(&path), ["570.1", "library"]);
        std::fs::write(&path, "another").expect("written");
        let mut all = vec![
            about(Risk::Library, "A card, 9.0", 12_040, own),
            about(Risk::Wgmma, "A card, 9.0", 12_040, own),
            about(Risk::Library, "A card, 8.9", 12_040, own),
            about(Risk::Library, "A card, 9.0", 12_080, own),
            about(Risk::Library, "A card, 9.0", 12_040, ["570.2", "library"]),
            about(Risk::Library, "A card, 9.0", 12_040, ["570.1", &one]),
            about(Risk::Library, "A card, 9.0", 12_040, ["570.1", &file(&path)]),
        ];
        assert!(all.iter().all(|about| about.contains(&format!("{:016x}", shipped::mark()))), "{all:?}");
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 7, "{all:?}");
    }

    #[test]
    fn a_trial_without_memory_says_nothing_for_later_and_any_other_failure_does() {
        let none = Verdict::of(&Error::OutOfMemory { op: "alloc", bytes: 8 });
        let wrong = Verdict::of(&Error::Unavailable { reason: "it has no cublasLtMatmul".to_owned() });
        assert_eq!((none.passed, none.holds, wrong.passed, wrong.holds), (false, false, false, true));
        assert_eq!(wrong.into_reason().as_deref(), Some("it has no cublasLtMatmul"));
        assert_eq!(Verdict::passed().into_reason(), None);
    }
}
