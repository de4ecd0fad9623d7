//! `hardware`: what this machine has, what is used for training, and why.

use super::context::Context;
use super::memory::total_memory;
use super::output;
use super::quantity::bytes;
use peft_plan::Fault;
use serde::Serialize;
use std::path::Path;
use sysinfo::{CpuRefreshKind, RefreshKind, System};

/// The document of `--json`.
#[derive(Debug, Serialize)]
struct Hardware {
    gpus: Vec<GraphicsCard>,
    cpu: Processor,
    memory_bytes: u64,
    /// Where runs are kept.
    disk_free_bytes: u64,
    backend: Backend,
}

/// What the driver's files say about a card. What only its library knows is `null`.
#[derive(Debug, PartialEq, Serialize)]
struct GraphicsCard {
    name: String,
    memory_bytes: Option<u64>,
    free_bytes: Option<u64>,
    driver: Option<String>,
    compute_capability: Option<String>,
}

#[derive(Debug, Serialize)]
struct Processor {
    model: String,
    /// Physical cores.
    cores: usize,
    /// What they run at the same time.
    threads: usize,
    features: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct Backend {
    #[serde(rename = "chosen")]
    name: &'static str,
    reason: String,
    threads: usize,
}

pub(super) fn run(context: &Context) -> Result<u8, Fault> {
    let why = context.require_processor()?;
    let gpus = graphics_cards(Path::new("/proc/driver/nvidia"));
    let reason = if gpus.is_empty() { format!("no NVIDIA graphics card was found; {why}") } else { why.to_owned() };
    let hardware = Hardware {
        gpus,
        cpu: processor(),
        memory_bytes: total_memory(),
        disk_free_bytes: free_space(&context.data_dir)?,
        backend: Backend { name: "cpu", reason, threads: context.threads },
    };
    if context.json {
        output::print_json(&hardware);
    } else {
        output::line(&for_people(&hardware, &context.data_dir));
    }
    Ok(0)
}

fn for_people(hardware: &Hardware, data_dir: &Path) -> String {
    let Hardware { gpus, cpu, memory_bytes, disk_free_bytes, backend } = hardware;
    let features = if cpu.features.is_empty() { "none of those we use".to_owned() } else { cpu.features.join(" ") };
    let cards: Vec<String> = gpus
        .iter()
        .map(|card| match &card.driver {
            Some(driver) => format!("{} (driver {driver})", card.name),
            None => card.name.clone(),
        })
        .collect();
    let lines = [
        format!("Processor       {} ({} cores, {} threads)", cpu.model, cpu.cores, cpu.threads),
        format!("Instructions    {features}"),
        format!("Memory          {}", bytes(*memory_bytes)),
        format!("Free disk       {} in {}", bytes(*disk_free_bytes), data_dir.display()),
        format!("Graphics cards  {}", if cards.is_empty() { "none found".to_owned() } else { cards.join(", ") }),
        format!("Used            {} with {} threads: {}", backend.name, backend.threads, backend.reason),
    ];
    output::printable(&lines.join("\n")).into_owned()
}

fn processor() -> Processor {
    let system = System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing())).ok();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let first = system.as_ref().and_then(|system| system.cpus().first());
    let model = first.map(|cpu| cpu.brand().trim().to_owned()).filter(|brand| !brand.is_empty());
    Processor {
        model: model.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        cores: System::physical_core_count().unwrap_or(threads),
        threads,
        features: features(),
    }
}

/// Instructions that matter for the arithmetic of models, the oldest first.
fn features() -> Vec<&'static str> {
    let mut found = detected();
    // The standard library cannot ask for tile instructions yet; the kernel says whether it lets us use them.
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    found.extend(["amx_tile", "amx_int8", "amx_bf16", "amx_fp16"].into_iter().filter(|name| has_flag(&flags, name)));
    found
}

fn has_flag(cpuinfo: &str, name: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).and_then(|line| line.split_once(':'));
    flags.is_some_and(|(_, flags)| flags.split_whitespace().any(|flag| flag == name))
}

#[cfg(target_arch = "x86_64")]
fn detected() -> Vec<&'static str> {
    macro_rules! those_of {
        ($($name:tt)*) => {
            [$(($name, std::arch::is_x86_feature_detected!($name))),*]
        };
    }
    let all = those_of!(
        "sse4.2" "avx" "f16c" "fma" "avx2" "avxvnni" "avx512f" "avx512bw" "avx512vl" "avx512vnni" "avx512bf16" "avx512fp16"
    );
    all.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
}

#[cfg(target_arch = "aarch64")]
fn detected() -> Vec<&'static str> {
    macro_rules! those_of {
        ($($name:tt)*) => {
            [$(($name, std::arch::is_aarch64_feature_detected!($name))),*]
        };
    }
    let all = those_of!("neon" "fp16" "dotprod" "bf16" "i8mm" "sve" "sve2");
    all.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detected() -> Vec<&'static str> {
    Vec::new()
}

/// The cards that NVIDIA's driver lists in `driver`, in the order of their addresses.
fn graphics_cards(driver: &Path) -> Vec<GraphicsCard> {
    let version = std::fs::read_to_string(driver.join("version")).ok().and_then(|text| driver_version(&text));
    let Ok(entries) = std::fs::read_dir(driver.join("gpus")) else { return Vec::new() };
    let mut places: Vec<_> = entries.flatten().map(|entry| entry.path().join("information")).collect();
    places.sort();
    let name = |place: &std::path::PathBuf| {
        let text = std::fs::read_to_string(place).ok()?;
        let model = text.lines().find_map(|line| line.strip_prefix("Model:"))?;
        Some(model.trim().to_owned())
    };
    let card = |name| GraphicsCard {
        name,
        memory_bytes: None,
        free_bytes: None,
        driver: version.clone(),
        compute_capability: None,
    };
    places.iter().filter_map(name).map(card).collect()
}

/// The first word of the driver's own line that looks like `550.54.15`.
fn driver_version(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("NVRM version:"))?;
    let is_version = |word: &&str| {
        word.contains('.')
            && word.split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    line.split_whitespace().find(is_version).map(str::to_owned)
}

/// Free space where `directory` is or will be.
pub fn free_space(directory: &Path) -> Result<u64, Fault> {
    let there = directory.ancestors().find(|place| place.exists()).unwrap_or(Path::new("/"));
    fs4::available_space(there).map_err(|error| Fault::io("ask for the free space of", there, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_read_from_the_files_of_the_driver() {
        let driver = tempfile::tempdir().expect("a directory");
        assert_eq!(graphics_cards(driver.path()), []);
        for (address, model) in [("0000:02:00.0", "NVIDIA B"), ("0000:01:00.0", "NVIDIA GeForce RTX 3060 Ti")] {
            let place = driver.path().join("gpus").join(address);
            std::fs::create_dir_all(&place).expect("created");
            let text = format!("Model: \t\t {model}\nIRQ:   \t\t 18\nGPU UUID: \t GPU-1\n");
            std::fs::write(place.join("information"), text).expect("written");
        }
        let version =
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build\nGCC version: 12.2.0\n";
        std::fs::write(driver.path().join("version"), version).expect("written");
        let cards = graphics_cards(driver.path());
        let names: Vec<&str> = cards.iter().map(|card| card.name.as_str()).collect();
        assert_eq!(names, ["NVIDIA GeForce RTX 3060 Ti", "NVIDIA B"]);
        assert_eq!(cards[0].driver.as_deref(), Some("550.54.15"));
    }

    #[test]
    fn free_space_is_known_before_the_directory_exists() {
        let parent = tempfile::tempdir().expect("a directory");
        assert!(free_space(&parent.path().join("not/yet/there")).expect("known") > 0);
    }

    #[test]
    fn flags_are_whole_words() {
        let text = "processor : 0\nflags\t\t: fpu amx_tile avx\n";
        assert!(has_flag(text, "amx_tile") && !has_flag(text, "amx") && !has_flag("", "avx"));
    }

    #[test]
    fn this_processor_has_cores_and_a_name() {
        let Processor { model, cores, threads, .. } = processor();
        assert!(!model.is_empty() && cores > 0 && threads > 0);
    }
}
