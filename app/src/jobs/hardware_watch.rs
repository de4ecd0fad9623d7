//! One look at the machine: processor, memory, graphics cards; a few milliseconds.

use super::hardware::Watched;
use super::memory::{available_memory, total_memory};
use peft_plan::Reading;
use std::path::Path;
use std::time::Instant;
use sysinfo::{CpuRefreshKind, ProcessRefreshKind, ProcessesToUpdate, System};

/// Looks at the machine again and again.
pub struct Watcher {
    system: Option<System>,
    cards: Watched,
    /// The processor's own count of the energy it used, and when it was read.
    energy: Option<(f64, Instant)>,
}

impl Watcher {
    /// The first look has nothing to compare with: per cents begin with the second.
    pub fn open() -> Self {
        let mut system = System::new().ok();
        if let Some(system) = &mut system {
            system.refresh_cpu_specifics(CpuRefreshKind::nothing().with_usage());
        }
        Self { system, cards: Watched::open(), energy: joules().map(|j| (j, Instant::now())) }
    }

    /// What the machine is doing.
    pub fn read(&mut self) -> Reading {
        let gpus = self.cards.read();
        let available = available_memory();
        let used = total_memory().saturating_sub(available);
        let mut reading = Reading {
            memory_used_bytes: used,
            ram_used_bytes: used,
            ram_available_bytes: available,
            power_watts: self.watts(),
            temperature_celsius: temperature(Path::new("/sys/class/hwmon")),
            ..Reading::default()
        };
        if let Some(system) = &mut self.system {
            system.refresh_cpu_specifics(CpuRefreshKind::nothing().with_usage());
            reading.cpu_utilization = f64::from(system.global_cpu_usage());
            if let Ok(own) = sysinfo::get_current_pid() {
                let what = ProcessRefreshKind::nothing().with_memory();
                system.refresh_processes_specifics(ProcessesToUpdate::Some(&[own]), false, what);
                reading.process_bytes = system.process(own).map_or(0, sysinfo::Process::memory);
            }
        }
        if let Some(first) = gpus.first() {
            reading.gpu_utilization = first.utilization;
            reading.memory_used_bytes = first.memory_used_bytes.unwrap_or(used);
            reading.temperature_celsius = first.temperature_celsius;
            reading.power_watts = first.power_watts;
        }
        reading.gpus = gpus;
        reading
    }

    fn watts(&mut self) -> Option<f64> {
        let now = joules()?;
        let at = Instant::now();
        let (before, then) = self.energy.replace((now, at))?;
        let seconds = at.duration_since(then).as_secs_f64();
        // The counter begins again at 0 every now and then.
        (now >= before && seconds > 0.05).then(|| (now - before) / seconds)
    }
}

/// Energy that the processor's packages have used so far, joules, where this user may read it (RAPL).
pub fn joules() -> Option<f64> {
    let packages = std::fs::read_dir("/sys/class/powercap").ok()?;
    let mut total = None;
    for package in packages.flatten() {
        let name = package.file_name();
        // `intel-rapl:0` is a package, `intel-rapl:0:1` a part of it.
        let is_package = name.to_str().is_some_and(|n| n.starts_with("intel-rapl:") && n.matches(':').count() == 1);
        if !is_package {
            continue;
        }
        let count = std::fs::read_to_string(package.path().join("energy_uj")).ok()?;
        let microjoules: f64 = count.trim().parse().ok()?;
        total = Some(total.unwrap_or(0.0) + microjoules / 1e6);
    }
    total
}

/// The processor's temperature, where the system shows it.
fn temperature(sensors: &Path) -> Option<f64> {
    for sensor in std::fs::read_dir(sensors).ok()?.flatten() {
        let name = std::fs::read_to_string(sensor.path().join("name")).unwrap_or_default();
        if !matches!(name.trim(), "coretemp" | "k10temp" | "zenpower" | "cpu_thermal") {
            continue;
        }
        let text = std::fs::read_to_string(sensor.path().join("temp1_input")).ok()?;
        let thousandths: f64 = text.trim().parse().ok()?;
        return Some(thousandths / 1000.0);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_has_numbers_that_can_be() {
        let mut watcher = Watcher::open();
        let reading = watcher.read();
        assert!(reading.ram_used_bytes > 0 && reading.ram_available_bytes > 0);
        assert!((0.0..=100.5).contains(&reading.cpu_utilization), "{}", reading.cpu_utilization);
        assert!(reading.process_bytes > 1 << 20);
    }

    #[test]
    fn the_temperature_is_that_of_the_processor() {
        let sensors = tempfile::tempdir().expect("a directory");
        for (place, name, value) in [("hwmon0", "nvme", "30000"), ("hwmon1", "coretemp", "61000")] {
            let place = sensors.path().join(place);
            std::fs::create_dir_all(&place).expect("created");
            std::fs::write(place.join("name"), name).expect("written");
            std::fs::write(place.join("temp1_input"), value).expect("written");
        }
        assert_eq!(temperature(sensors.path()), Some(61.0));
    }
}
