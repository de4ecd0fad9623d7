//! How much memory this process has used and this machine has.

use peft_plan::findings::MemoryReading;
use std::path::Path;
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
    MemoryReading { resident: resident(), available: available_memory() }
}

/// Memory of this machine, or what the system grants this process's group of it, bytes; 0 where the
/// system does not say.
pub fn total_memory() -> u64 {
    let granted = group().map_or(u64::MAX, |group| group.limit);
    system().map_or(0, |system| system.total_memory()).min(granted)
}

/// Memory that this process could still have without anything being pushed out, bytes: what programs do not hold,
/// the files kept in memory included, within what its group is granted.
pub fn available_memory() -> u64 {
    let granted = group().map_or(u64::MAX, |group| group.limit.saturating_sub(group.used));
    system().map_or(0, |system| system.available_memory()).min(granted)
}

fn system() -> Option<System> {
    let what = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    System::new_with_specifics(what).ok()
}

/// Memory of a control group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Group {
    limit: u64,
    /// Without the files that can be dropped.
    used: u64,
}

/// The tightest limit of the control groups that this process is in (Linux; containers and services).
fn group() -> Option<Group> {
    let membership = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    tightest(&membership, Path::new("/sys/fs/cgroup"))
}

fn tightest(membership: &str, root: &Path) -> Option<Group> {
    let places = membership.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let of_memory = controllers.split(',').any(|name| name == "memory");
        let (base, files) = match controllers {
            "" => (root.to_owned(), ("memory.max", "memory.current", "inactive_file")),
            _ if of_memory => {
                (root.join("memory"), ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"))
            }
            _ => return None,
        };
        Some((base, path.trim_start_matches('/').to_owned(), files))
    });
    let mut tightest: Option<Group> = None;
    for (base, path, (limit, used, inactive)) in places {
        // A limit of any group above counts too; in a container the path may lie outside what is mounted.
        for place in base.join(&path).ancestors().take_while(|place| place.starts_with(&base)) {
            let number = |name: &str| std::fs::read_to_string(place.join(name)).ok()?.trim().parse::<u64>().ok();
            let Some(limit) = number(limit) else { continue };
            let dropped = std::fs::read_to_string(place.join("memory.stat")).ok().and_then(|stat| {
                let line = stat.lines().find_map(|line| line.strip_prefix(inactive)?.strip_prefix(' '))?;
                line.trim().parse::<u64>().ok()
            });
            let used = number(used).unwrap_or(0).saturating_sub(dropped.unwrap_or(0));
            if tightest.is_none_or(|t| limit < t.limit) {
                tightest = Some(Group { limit, used });
            }
        }
    }
    tightest
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

    #[test]
    fn the_limit_of_a_group_counts_and_files_that_can_be_dropped_do_not() {
        let root = tempfile::tempdir().expect("a directory");
        let inner = root.path().join("system.slice/job");
        std::fs::create_dir_all(&inner).expect("created");
        let write = |place: &Path, name: &str, text: &str| std::fs::write(place.join(name), text).expect("written");
        assert_eq!(tightest("0::/system.slice/job\n", root.path()), None);
        write(&inner, "memory.max", "max\n");
        write(inner.parent().expect("a parent"), "memory.max", "2000\n");
        write(inner.parent().expect("a parent"), "memory.current", "900\n");
        write(inner.parent().expect("a parent"), "memory.stat", "anon 300\ninactive_file 400\n");
        let found = tightest("0::/system.slice/job\n", root.path());
        assert_eq!(found, Some(Group { limit: 2000, used: 500 }));
        write(&inner, "memory.max", "1000\n");
        assert_eq!(tightest("0::/system.slice/job\n", root.path()).map(|g| g.limit), Some(1000));
        // The older layout, seen from a container.
        let old = root.path().join("memory");
        std::fs::create_dir_all(&old).expect("created");
        write(&old, "memory.limit_in_bytes", "700");
        write(&old, "memory.usage_in_bytes", "100");
        let found = tightest("4:cpu,memory:/docker/abc\n", root.path());
        assert_eq!(found, Some(Group { limit: 700, used: 100 }));
    }

    #[test]
    fn what_is_available_is_within_what_there_is() {
        assert!(available_memory() > 0 && available_memory() <= total_memory());
    }
}
