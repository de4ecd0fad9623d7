//! What this machine has, what is used of it and why, and what stands in the way (S4.2.1, S0.10, S2.11).

mod cards;
mod judge;
mod processor;
mod surroundings;

pub use cards::{Card, CardProcess, Cards, Watched};
pub use judge::Requirement;
pub use processor::Processor;
pub use surroundings::Surroundings;

use super::memory::{available_memory, total_memory};
use peft_models::engine::{self, Engine};
use peft_plan::{Fault, MachineFacts};
use serde::Serialize;
use serde_json::Value;
use std::path::Path;

/// The document of `hardware --json`.
#[derive(Clone, Debug, Serialize)]
pub struct Hardware {
    /// Graphics cards, in the order of the driver.
    pub gpus: Vec<Card>,
    /// Why none could be asked, where that is so.
    pub gpu_reason: Option<String>,
    /// Which of them can be computed on, and how each is asked for.
    pub selectable: Vec<Selectable>,
    /// The processor.
    pub cpu: Processor,
    /// Memory installed, or what this process's group is granted.
    pub memory_bytes: u64,
    /// What a program could still have of it.
    pub memory_available_bytes: u64,
    /// Where runs are kept.
    pub disk_free_bytes: u64,
    /// System, WSL, container.
    pub system: Surroundings,
    /// What is computed with.
    pub backend: Chosen,
    /// What the kernels for graphics cards need, against what is there (D7).
    pub requirement: Requirement,
    /// What stands in the way, with what to do about it.
    pub problems: Vec<Value>,
}

/// A graphics card that can be computed on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Selectable {
    /// What `--backend` takes for it.
    pub backend: String,
    /// Its name.
    pub name: String,
    /// All of its memory.
    pub memory_bytes: u64,
    /// As in `8.6`.
    pub compute_capability: String,
}

/// The cards as the driver counts them for those who compute: not always the order in which it lists them.
fn selectable() -> Vec<Selectable> {
    let cards = Engine::cards().into_iter().enumerate();
    cards
        .map(|(number, card)| Selectable {
            backend: format!("cuda:{number}"),
            name: card.name,
            memory_bytes: card.memory as u64,
            compute_capability: format!("{}.{}", card.chip.0, card.chip.1),
        })
        .collect()
}

/// The backend in use.
#[derive(Clone, Debug, Serialize)]
pub struct Chosen {
    /// `cpu` or `cuda`.
    #[serde(rename = "chosen")]
    pub name: String,
    /// Why.
    pub reason: String,
    /// Threads of the processor.
    pub threads: usize,
    /// The kernels in use: the best this processor can run, or those that were asked for.
    pub kernels: &'static str,
    /// The precision in which they train fastest.
    pub fastest_precision: &'static str,
    /// The instructions with which quantised models answer in whole numbers; nothing where exact products are faster.
    pub byte_products: Option<&'static str>,
    /// Why the processor's unit for tiles of bf16 (AMX) is not used, where it has one.
    pub unused_tiles: Option<&'static str>,
    /// Why a card is given its kernels one by one and not as graphs; nothing where it is not, or no card computes.
    pub graphs_off: Option<String>,
    /// Why a card's products of compute capability 9.0 are not used, where it could have them.
    pub wgmma_off: Option<String>,
    /// The library that a card multiplies with, and from which sizes on.
    pub library: Option<String>,
    /// Why a card multiplies with none.
    pub library_off: Option<String>,
}

/// Look at the machine. `chosen`: what is computed with; `backend`: what was asked for; `threads`: how many compute.
pub fn probe(
    data_dir: &Path,
    chosen: &engine::Chosen,
    backend: &str,
    threads: usize,
) -> Result<(Hardware, Vec<Fault>), Fault> {
    let kernels = Engine::kernels(backend)?;
    let is_card = chosen.memory.is_some();
    let system = surroundings::look();
    let cards = cards::look();
    let faults = judge::problems(&cards, &system);
    let (gpus, gpu_reason) = match &cards {
        Cards::Found { cards, .. } if cards.is_empty() => (Vec::new(), Some("the driver knows no card".to_owned())),
        Cards::Found { cards, .. } => (cards.clone(), None),
        Cards::Unasked { cards, reason, .. } => (cards.clone(), Some(reason.clone())),
    };
    let hardware = Hardware {
        gpus,
        gpu_reason,
        selectable: selectable(),
        cpu: processor::look(),
        memory_bytes: total_memory(),
        memory_available_bytes: available_memory(),
        disk_free_bytes: free_space(data_dir)?,
        system,
        backend: Chosen {
            name: chosen.name.to_owned(),
            reason: chosen.reason.clone(),
            threads,
            kernels: if is_card { chosen.name } else { kernels.name() },
            fastest_precision: if is_card { "bf16" } else { kernels.fastest_factors().name() },
            byte_products: kernels.byte_products().filter(|_| !is_card),
            unused_tiles: peft_kernels::cpu::Cpu::unused_tiles(),
            graphs_off: chosen.unused.graphs.clone(),
            wgmma_off: chosen.unused.wgmma.clone(),
            library: chosen.library.clone(),
            library_off: chosen.unused.library.clone(),
        },
        requirement: judge::requirement(&cards),
        problems: faults.iter().map(|fault| crate::cli::error::to_json(fault)["error"].clone()).collect(),
    };
    Ok((hardware, faults))
}

/// The part that plans are made from.
pub fn machine_facts(data_dir: &Path, backend: &str) -> MachineFacts {
    // A plan is made for the card's memory where a card computes.
    let chosen = Engine::choice(backend).ok();
    let card = chosen.as_ref().and_then(|chosen| chosen.memory);
    MachineFacts {
        memory_bytes: card.map_or_else(total_memory, |card| card.total as u64),
        available_bytes: card.map_or_else(available_memory, |card| card.available as u64),
        cores: sysinfo::System::physical_core_count().unwrap_or(1),
        disk_free_bytes: free_space(data_dir).unwrap_or(0),
        fastest: Engine::fastest(backend),
        card: card.is_some(),
        beside: chosen.map(|chosen| chosen.beside).unwrap_or_default(),
        host_bytes: card.map_or(0, |_| available_memory()),
    }
}

/// Free space where `directory` is or will be.
pub fn free_space(directory: &Path) -> Result<u64, Fault> {
    // A relative folder that is still to be made is on the disk of the folder we are in.
    let whole = std::path::absolute(directory).map_err(|error| Fault::io("find", directory, error))?;
    let there = whole.ancestors().find(|place| place.exists()).unwrap_or(Path::new("/"));
    fs4::available_space(there).map_err(|error| Fault::io("ask for the free space of", there, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_space_is_known_before_the_directory_exists() {
        let parent = tempfile::tempdir().expect("a directory");
        assert!(free_space(&parent.path().join("not/yet/there")).expect("known") > 0);
    }

    #[test]
    fn this_machine_can_be_described_without_a_card_or_a_driver() {
        let (hardware, _) =
            probe(Path::new("."), &Engine::choice("auto").expect("a device"), "auto", 1).expect("described");
        assert!(hardware.memory_bytes > 0 && hardware.cpu.cores > 0);
        assert!(!hardware.gpus.is_empty() || hardware.gpu_reason.is_some());
    }
}
