//! NVIDIA's graphics cards, through the management library of their driver, which is opened while the program runs:
//! without it there is a reason, never an error.

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use peft_plan::GpuReading;
use serde::Serialize;
use std::path::Path;

/// A graphics card. What only the driver's library knows is `null` without it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Card {
    /// Its name.
    pub name: String,
    /// All of its memory.
    pub memory_bytes: Option<u64>,
    /// Free memory.
    pub free_bytes: Option<u64>,
    /// Version of the driver.
    pub driver: Option<String>,
    /// CUDA version of the driver, as in `12.4`.
    pub cuda: Option<String>,
    /// As in `8.6`.
    pub compute_capability: Option<String>,
    /// Per cent of the time that it computes.
    pub utilization: Option<f64>,
    /// Temperature.
    pub temperature_celsius: Option<f64>,
    /// Power.
    pub power_watts: Option<f64>,
    /// Limit of the power.
    pub power_limit_watts: Option<f64>,
    /// Programs that hold memory on it.
    pub processes: Vec<CardProcess>,
}

/// A program on a card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CardProcess {
    /// Its number.
    pub pid: u32,
    /// Its name, where it can be seen.
    pub name: Option<String>,
    /// Memory that it holds, where the driver says.
    pub memory_bytes: Option<u64>,
}

/// What could be found out about graphics cards.
#[derive(Clone, Debug, PartialEq)]
pub enum Cards {
    /// The library answered.
    Found {
        /// Every card.
        cards: Vec<Card>,
        /// CUDA version of the driver: major and minor.
        cuda: Option<(i32, i32)>,
    },
    /// It did not.
    Unasked {
        /// What the driver's files list.
        cards: Vec<Card>,
        /// Why it did not, for people.
        reason: String,
        /// The library and the loaded module are of different versions.
        mismatch: bool,
    },
}

pub(super) fn look() -> Cards {
    match Nvml::init() {
        Ok(nvml) => ask(&nvml),
        Err(error) => unasked(&error, Path::new("/proc/driver/nvidia")),
    }
}

fn unasked(error: &NvmlError, driver: &Path) -> Cards {
    let (reason, mismatch) = match error {
        NvmlError::LibloadingError(_) => ("NVIDIA's driver library is not installed".to_owned(), false),
        NvmlError::LibRmVersionMismatch => {
            ("NVIDIA's library and the loaded driver differ in version".to_owned(), true)
        }
        NvmlError::DriverNotLoaded => ("NVIDIA's driver is not loaded".to_owned(), false),
        other => (format!("NVIDIA's driver library does not answer: {other}"), false),
    };
    Cards::Unasked { cards: listed(driver), reason, mismatch }
}

fn ask(nvml: &Nvml) -> Cards {
    let version = nvml.sys_cuda_driver_version().ok();
    let cuda = version.map(|v| (v / 1000, v % 1000 / 10));
    let driver = nvml.sys_driver_version().ok();
    let cards = (0..nvml.device_count().unwrap_or(0)).filter_map(|index| {
        let device = nvml.device_by_index(index).ok()?;
        let memory = device.memory_info().ok();
        let processes = device.running_compute_processes().unwrap_or_default();
        Some(Card {
            name: device.name().unwrap_or_else(|_| "NVIDIA graphics card".to_owned()),
            memory_bytes: memory.as_ref().map(|m| m.total),
            free_bytes: memory.as_ref().map(|m| m.free),
            driver: driver.clone(),
            cuda: cuda.map(|(major, minor)| format!("{major}.{minor}")),
            compute_capability: device.cuda_compute_capability().ok().map(|c| format!("{}.{}", c.major, c.minor)),
            utilization: device.utilization_rates().ok().map(|u| f64::from(u.gpu)),
            temperature_celsius: device.temperature(TemperatureSensor::Gpu).ok().map(f64::from),
            power_watts: device.power_usage().ok().map(|milliwatts| f64::from(milliwatts) / 1000.0),
            power_limit_watts: device.enforced_power_limit().ok().map(|milliwatts| f64::from(milliwatts) / 1000.0),
            processes: processes
                .into_iter()
                .map(|p| CardProcess {
                    pid: p.pid,
                    name: name_of(p.pid),
                    memory_bytes: match p.used_gpu_memory {
                        UsedGpuMemory::Used(bytes) => Some(bytes),
                        UsedGpuMemory::Unavailable => None,
                    },
                })
                .collect(),
        })
    });
    Cards::Found { cards: cards.collect(), cuda }
}

fn name_of(pid: u32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// Asks the cards again and again for what changes.
pub struct Watched(Option<Nvml>);

impl Watched {
    /// Opens the library once.
    pub fn open() -> Self {
        Self(Nvml::init().ok())
    }

    /// What every card is doing.
    pub fn read(&self) -> Vec<GpuReading> {
        let Some(nvml) = &self.0 else { return Vec::new() };
        let read = |index| {
            let device = nvml.device_by_index(index).ok()?;
            let memory = device.memory_info().ok();
            Some(GpuReading {
                utilization: device.utilization_rates().ok().map(|u| f64::from(u.gpu)),
                memory_used_bytes: memory.as_ref().map(|m| m.used),
                memory_bytes: memory.as_ref().map(|m| m.total),
                temperature_celsius: device.temperature(TemperatureSensor::Gpu).ok().map(f64::from),
                power_watts: device.power_usage().ok().map(|milliwatts| f64::from(milliwatts) / 1000.0),
            })
        };
        (0..nvml.device_count().unwrap_or(0)).filter_map(read).collect()
    }
}

/// The cards that NVIDIA's driver lists in `driver`, in the order of their addresses.
fn listed(driver: &Path) -> Vec<Card> {
    let version = std::fs::read_to_string(driver.join("version")).ok().and_then(|text| driver_version(&text));
    let Ok(entries) = std::fs::read_dir(driver.join("gpus")) else { return Vec::new() };
    let mut places: Vec<_> = entries.flatten().map(|entry| entry.path().join("information")).collect();
    places.sort();
    let name = |place: &std::path::PathBuf| {
        let text = std::fs::read_to_string(place).ok()?;
        let model = text.lines().find_map(|line| line.strip_prefix("Model:"))?;
        Some(model.trim().to_owned())
    };
    places.iter().filter_map(name).map(|name| Card { name, driver: version.clone(), ..Card::default() }).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_read_from_the_files_of_the_driver_where_the_library_does_not_answer() {
        let driver = tempfile::tempdir().expect("a directory");
        assert_eq!(listed(driver.path()), []);
        for (address, model) in [("0000:02:00.0", "NVIDIA B"), ("0000:01:00.0", "NVIDIA GeForce RTX 3060 Ti")] {
            let place = driver.path().join("gpus").join(address);
            std::fs::create_dir_all(&place).expect("created");
            let text = format!("Model: \t\t {model}\nIRQ:   \t\t 18\nGPU UUID: \t GPU-1\n");
            std::fs::write(place.join("information"), text).expect("written");
        }
        let version =
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build\nGCC version: 12.2.0\n";
        std::fs::write(driver.path().join("version"), version).expect("written");
        let Cards::Unasked { cards, reason, mismatch } = unasked(&NvmlError::LibRmVersionMismatch, driver.path())
        else {
            panic!("nobody answered")
        };
        let names: Vec<&str> = cards.iter().map(|card| card.name.as_str()).collect();
        assert_eq!(names, ["NVIDIA GeForce RTX 3060 Ti", "NVIDIA B"]);
        assert_eq!(cards[0].driver.as_deref(), Some("550.54.15"));
        assert!(mismatch && reason.contains("differ"));
    }

    #[test]
    fn a_machine_without_the_library_has_a_reason_and_no_error() {
        match look() {
            Cards::Found { .. } => {}
            Cards::Unasked { reason, .. } => assert!(!reason.is_empty()),
        }
        assert!(Watched(None).read().is_empty());
    }
}
