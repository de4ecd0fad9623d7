//! How much memory this process has used and this machine has.

use peft_plan::findings::MemoryReading;
use std::sync::atomic::{AtomicU64, Ordering};
use sysinfo::{MemoryRefreshKind, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System};

/// Peak resident memory of this process so far, bytes; 0 where the system does not say.
pub fn peak_memory() -> u64 {
    static PEAK: AtomicU64 = AtomicU64::new(0);
    // The system counts on each processor alone and adds up late, so that its peak may fall a little.
    let told = recorded_peak().unwrap_or_else(resident);
    PEAK.fetch_max(told, Ordering::Relaxed).max(told)
}

/// Linux keeps the peak itself, as `VmHWM` in kibibytes.
fn recorded_peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Elsewhere: what is in memory whenever somebody asks.
fn resident() -> u64 {
    let Ok(process) = sysinfo::get_current_pid() else { return 0 };
    let Ok(mut system) = System::new() else { return 0 };
    let what = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[process]), false, what);
    system.process(process).map_or(0, sysinfo::Process::memory)
}

/// What this process holds and what it could still get, bytes; zeros where the system does not say.
pub fn memory_reading() -> MemoryReading {
    let what = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let Ok(system) = System::new_with_specifics(what) else { return MemoryReading::default() };
    let granted = system.cgroup_limits().filter(|limits| limits.total_memory > 0).map(|limits| limits.free_memory);
    let available = system.available_memory().min(granted.unwrap_or(u64::MAX));
    MemoryReading { resident: resident(), available }
}

/// Memory of this machine, or what the system grants this process's group of it, bytes; 0 where the
/// system does not say.
pub fn total_memory() -> u64 {
    let what = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let Ok(system) = System::new_with_specifics(what) else { return 0 };
    let granted = system.cgroup_limits().map(|limits| limits.total_memory).filter(|granted| *granted > 0);
    system.total_memory().min(granted.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_never_falls_and_grows_with_use() {
        let before = peak_memory();
        let block = vec![1_u8; 64 << 20];
        let during = peak_memory();
        assert!(std::hint::black_box(&block).iter().all(|byte| *byte == 1));
        drop(block);
        assert!(during >= before + (48 << 20), "{before} {during}");
        assert!(peak_memory() >= during);
        assert!(resident() > 1 << 20);
        assert!(total_memory() > during);
        let reading = memory_reading();
        assert!(reading.resident > 1 << 20 && reading.available > 1 << 20, "{reading:?}");
    }
}
