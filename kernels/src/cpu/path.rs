//! Which kernels this processor runs: chosen by its features, never by a timing.

use super::Cpu;
use super::factors::Factors;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use super::simd_amx::Amx;
use super::simd_dispatch::Isa;

/// A set of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// 512-bit vectors, and a unit that multiplies tiles of bf16.
    Amx,
    /// 512-bit vectors, and products of pairs of bf16.
    Avx512Bf16,
    /// 512-bit vectors.
    Avx512,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// 128-bit vectors of 64-bit ARM processors, with fused multiply-add.
    Neon,
    /// What the compiler makes of plain loops on any processor.
    Portable,
    /// The same, and a model of that unit. It is chosen by no name: it tries what is around the unit everywhere.
    ModelledTiles,
}

/// The paths, best first, with what each needs.
pub(super) const PATHS: [(Path, &str, &[&str]); 6] = [
    (Path::Amx, "amx", &["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512bf16", "amx-tile", "amx-bf16"]),
    (Path::Avx512Bf16, "avx512bf16", &["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512bf16"]),
    (Path::Avx512, "avx512", &["avx512f", "avx512bw", "avx512dq", "avx512vl"]),
    (Path::Avx2, "avx2", &["avx2", "fma"]),
    (Path::Neon, "neon", &["neon"]),
    (Path::Portable, "portable", &[]),
];

/// Makers whose products of pairs of bf16 are faster than those of f32. On a Zen 5 a step of a 59 M model is 1.4 to 1.7
/// times as fast with them; on a core of a Sapphire Rapids 115 GFLOP/s were measured where f32 has 188.
const FAST_PAIRS: [&str; 1] = ["AuthenticAMD"];

impl Path {
    /// The best this processor can run.
    pub fn best() -> Self {
        Self::best_of(Self::available, &maker())
    }

    fn best_of(is_available: impl Fn(Self) -> bool, maker: &str) -> Self {
        // There pairs of bf16 take longer than the same numbers in f32.
        let is_slow = |path| path == Self::Avx512Bf16 && !FAST_PAIRS.contains(&maker);
        Self::all().find(|path| is_available(*path) && !is_slow(*path)).unwrap_or(Self::Portable)
    }

    /// The path of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        PATHS.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// All paths, best first.
    pub fn all() -> impl Iterator<Item = Self> {
        PATHS.iter().map(|row| row.0)
    }

    /// Its name in fingerprints and on the command line.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Whether this processor has what it needs.
    pub fn available(self) -> bool {
        let features = features();
        self.row().2.iter().all(|need| features.contains(need))
    }

    fn row(self) -> &'static (Self, &'static str, &'static [&'static str]) {
        const MODELLED: (Path, &str, &[&str]) = (Path::ModelledTiles, "modelled-tiles", &[]);
        let [amx, avx512_bf16, avx512, avx2, neon, portable] = &PATHS;
        match self {
            Self::Amx => amx,
            Self::Avx512Bf16 => avx512_bf16,
            Self::Avx512 => avx512,
            Self::Avx2 => avx2,
            Self::Neon => neon,
            Self::Portable => portable,
            Self::ModelledTiles => &MODELLED,
        }
    }

    /// The path that computes the same where no factor is rounded: bf16 adds nothing there.
    pub(super) fn for_factors(self, factors: Factors) -> Self {
        match (self, factors) {
            (Self::Amx | Self::Avx512Bf16, Factors::F32) => Self::Avx512,
            (Self::ModelledTiles, Factors::F32) => Self::Portable,
            (path, _) => path,
        }
    }

    /// The factors with which its large products are fastest.
    pub fn fastest_factors(self) -> Factors {
        // Elsewhere pairs are widened first, and f32 has less to do.
        if matches!(self, Self::Amx | Self::Avx512Bf16) { Factors::Bf16 } else { Factors::F32 }
    }

    /// The instructions with which rows in eight bits are multiplied with codes of weights, where that is faster than the
    /// exact product: `avx512vnni`, `avxvnni` or `avx2`. Plain loops over whole numbers are not.
    pub fn byte_products(self) -> Option<&'static str> {
        self.isa()?.byte_products()
    }

    /// The proof that it can run, if it can.
    pub(super) fn isa(self) -> Option<Isa> {
        match self {
            Self::Amx => Isa::amx(),
            Self::Avx512Bf16 => Isa::avx512_bf16(),
            Self::Avx512 => Isa::avx512(),
            Self::Avx2 => Isa::avx2(),
            Self::Neon => Isa::neon(),
            Self::Portable => Some(Isa::Portable),
            Self::ModelledTiles => Some(Isa::PortableTiles),
        }
    }
}

/// Who made this processor, as it says; empty where it does not.
fn maker() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        let said = std::arch::x86_64::__cpuid(0);
        let letters: Vec<u8> = [said.ebx, said.edx, said.ecx].into_iter().flat_map(u32::to_le_bytes).collect();
        String::from_utf8_lossy(&letters).into_owned()
    }
    #[cfg(not(target_arch = "x86_64"))]
    String::new()
}

impl Cpu {
    /// The same threads with the kernels that a fingerprint of this backend names; `None` where it names none, or the
    /// processor lacks what they need.
    pub fn with_kernels_of(&self, fingerprint: &str) -> Option<Self> {
        let path = Path::from_name(fingerprint.strip_prefix("cpu ")?.split(' ').next()?)?;
        Some(Self { path, isa: path.isa()?, ..self.clone() })
    }
}

/// Why the unit of this processor that multiplies tiles is not used; `None` where it is, or there is none.
pub(super) fn unused_tiles() -> Option<&'static str> {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    return Amx::state().and_then(|state| state.as_ref().err()).map(String::as_str);
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    return None;
}

/// The vector features of this processor that matter to kernels.
pub(super) fn features() -> Vec<&'static str> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! detect {
            ($($name:tt),*) => {$(
                if std::arch::is_x86_feature_detected!($name) {
                    found.push($name);
                }
            )*};
        }
        detect!(
            "sse4.2",
            "avx",
            "f16c",
            "fma",
            "avx2",
            "avxvnni",
            "avx512f",
            "avx512bw",
            "avx512dq",
            "avx512vl",
            "avx512vnni",
            "avx512bf16"
        );
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        found.push("neon");
    }
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if let Some(Ok(_)) = Amx::state() {
        found.extend(["amx-tile", "amx-bf16"]);
    }
    found.shrink_to_fit();
    found
}

#[cfg(test)]
mod tests {
    use super::{PATHS, Path};

    #[test]
    fn every_path_is_found_by_its_name_and_some_path_always_runs() {
        for (path, name, _) in PATHS {
            assert_eq!((Path::from_name(name), path.name()), (Some(path), name));
            assert_eq!(path.isa().is_some(), path.available(), "{name}");
        }
        assert_eq!(Path::from_name("sse9"), None);
        assert!(Path::best().available() && Path::Portable.available());
    }

    #[test]
    fn rows_are_rounded_where_bytes_are_multiplied_in_vectors_s4_5() {
        let features = super::features();
        let has = |names: &[&str]| names.iter().all(|name| features.contains(name));
        for path in Path::all().filter(|path| path.available()) {
            let expected = match path {
                Path::Portable | Path::Neon | Path::ModelledTiles => None,
                Path::Avx2 if !has(&["f16c"]) => None,
                Path::Amx | Path::Avx512Bf16 | Path::Avx512 if has(&["avx512vnni"]) => Some("avx512vnni"),
                _ if has(&["avxvnni"]) => Some("avxvnni"),
                _ => Some("avx2"),
            };
            assert_eq!(path.byte_products(), expected, "{path:?}");
        }
    }

    #[test]
    fn pairs_are_multiplied_where_their_maker_made_them_fast() {
        let with_pairs = |path| !matches!(path, Path::Amx | Path::Neon);
        let cases = [("AuthenticAMD", Path::Avx512Bf16), ("GenuineIntel", Path::Avx512), ("", Path::Avx512)];
        for (maker, expected) in cases {
            assert_eq!(Path::best_of(with_pairs, maker), expected, "{maker}");
        }
        assert_eq!(Path::best_of(|_| true, "GenuineIntel"), Path::Amx, "tiles are fast everywhere");
    }
}
