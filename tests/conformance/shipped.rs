//! The PTX that the program carries is the one that the kernels' sources give.

use peft_kernels::cuda::shipped::{PTX, PTX_9_0, entries};
use peft_tests::emulated::sources;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

fn files(end: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(sources()).expect("the kernels are there");
    let paths = entries.map(|entry| entry.expect("a readable entry").path());
    let mut found: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|e| e == end)).collect();
    found.sort();
    found
}

fn stem(path: &std::path::Path) -> String {
    path.file_stem().expect("a name").to_string_lossy().into_owned()
}

#[test]
fn every_source_is_shipped_and_nothing_else() {
    let names: BTreeSet<String> = files("cu").iter().map(|path| stem(path)).collect();
    let shipped: BTreeSet<String> = PTX.iter().chain(PTX_9_0).map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(shipped, names, "the list of `kernels/src/cuda/shipped.rs`");
}

#[test]
fn the_ptx_was_made_from_these_sources() {
    let headers: Vec<u8> = files("cuh").iter().flat_map(|path| std::fs::read(path).expect("a header")).collect();
    for path in files("cu") {
        let mut hash = Sha256::new();
        hash.update(std::fs::read(&path).expect("a source"));
        hash.update(&headers);
        let mark = peft_tests::hex(&hash.finalize());
        let (name, ptx) = PTX.iter().chain(PTX_9_0).find(|(name, _)| *name == stem(&path)).expect("it is shipped");
        assert_eq!(ptx.lines().next(), Some(&*format!("// sources {mark}")), "{name}: run `kernels/cu/ptx.sh`");
    }
}

/// Drivers from 525 on read version 8.0; compute capability 8.0 is the oldest card.
#[test]
fn the_ptx_is_for_old_drivers_and_all_cards_and_declares_every_kernel() {
    for (name, ptx) in PTX.iter().chain(PTX_9_0) {
        let target = if PTX_9_0.iter().any(|(own, _)| own == name) { "sm_90a" } else { "sm_80" };
        let line = |start: &str| ptx.lines().find_map(|line| line.strip_prefix(start).map(str::to_owned));
        assert_eq!(line(".version ").as_deref(), Some("8.0"), "{name}");
        assert_eq!(line(".target ").as_deref(), Some(target), "{name}");
        assert!(!ptx.contains(".extern"), "{name} calls what is not there");
        let source = std::fs::read_to_string(sources().join(format!("{name}.cu"))).expect("a source");
        for at in source.match_indices("\nKERNEL(").map(|(at, _)| at) {
            let kernel = source[at + "\nKERNEL(".len()..].split([',', ')']).next().unwrap_or_default();
            assert!(entries(ptx).any(|entry| entry == kernel), "{name}: {kernel}");
        }
    }
}

/// Registers and spills of every kernel, from the assembler of CUDA 12.4.
#[test]
fn no_kernel_spills() {
    let report = sources().with_file_name("ptx").join("REPORT.md");
    let report = std::fs::read_to_string(report).expect("the report beside the PTX");
    let rows: Vec<Vec<&str>> = report
        .lines()
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>())
        .filter(|row| row.len() == 7 && row[2].starts_with("sm_"))
        .collect();
    for (name, ptx, chips) in PTX.iter().map(|(n, p)| (n, p, 4)).chain(PTX_9_0.iter().map(|(n, p)| (n, p, 1))) {
        for kernel in entries(ptx) {
            let found: Vec<_> = rows.iter().filter(|row| row[1] == kernel).collect();
            assert_eq!(found.len(), chips, "{name}: {kernel} is reported for its chips");
            assert!(found.iter().all(|row| row[5] == "0"), "{kernel} spills");
        }
    }
}

/// Byte for byte, where the compiler is: `PEFT_PTX_TOOLS` names the folder that `ptx.sh` keeps it in.
#[test]
#[ignore = "needs 300 MB of packages"]
fn the_compiler_makes_this_ptx() {
    let status = Command::new("sh").arg(sources().join("ptx.sh")).arg("--check").status().expect("a shell");
    assert!(status.success());
}
