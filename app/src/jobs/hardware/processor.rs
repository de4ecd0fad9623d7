//! The processor: its name, its cores, and the instructions that matter for the arithmetic of models.

use serde::Serialize;
use sysinfo::{CpuRefreshKind, RefreshKind, System};

/// The processor.
#[derive(Clone, Debug, Serialize)]
pub struct Processor {
    /// Its name.
    pub model: String,
    /// Physical cores.
    pub cores: usize,
    /// What they run at the same time.
    pub threads: usize,
    /// Vector and matrix extensions.
    pub features: Vec<&'static str>,
}

pub(super) fn look() -> Processor {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_whole_words() {
        let text = "processor : 0\nflags\t\t: fpu amx_tile avx\n";
        assert!(has_flag(text, "amx_tile") && !has_flag(text, "amx") && !has_flag("", "avx"));
    }

    #[test]
    fn this_processor_has_cores_and_a_name() {
        let Processor { model, cores, threads, .. } = look();
        assert!(!model.is_empty() && cores > 0 && threads > 0);
    }
}
