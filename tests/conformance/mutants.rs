//! The emulated GPU finds what is wrong with a kernel: damaged sources, and what catches them (issue 8, 4).
//!
//! A mutant is a line of a kernel changed in a copy of the sources. It is caught when, under some schedule, the machine
//! stops it or the conformance suite finds other numbers. Whoever adds a barrier to a kernel gets a mutant for it: all
//! of them are removed, one after the other.

use crate::harness::{Case, narrow, nmse};
use crate::{adapted, attention, columns, gated, linear, loss, norm, optim, rope, sample};
use peft_kernels::Backend;
use peft_kernels::cuda::{Cuda, Precision};
use peft_kernels::reference::Reference;
use peft_tests::emulated::{Emulated, Schedule, sources};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Largest error of what is not damaged; on tensor cores the factors are rounded to bfloat16.
const SINGLE: f64 = 1e-10;
const BF16: f64 = 5e-5;
const ATTENTION_BF16: f64 = 1e-4;

const SCHEDULES: [Schedule; 4] = [Schedule::Forward, Schedule::Backward, Schedule::Warps, Schedule::Shuffled(1)];

/// A damaged source: in `file`, the occurrence `index` of `from` became `to`.
struct Mutant {
    file: &'static str,
    from: &'static str,
    index: usize,
    to: &'static str,
}

/// The sources with the mutant in a folder of their own; `None` when there is no such occurrence.
fn damaged(mutant: &Mutant, folder: &Path) -> Option<()> {
    for entry in std::fs::read_dir(sources()).expect("the kernels are there") {
        let path = entry.expect("a readable entry").path();
        let to = folder.join(path.file_name().expect("a file"));
        std::fs::copy(&path, to).expect("room for a copy");
    }
    let path = folder.join(mutant.file);
    let text = std::fs::read_to_string(&path).expect("a kernel");
    let (at, found) = text.match_indices(mutant.from).nth(mutant.index)?;
    let changed = format!("{}{}{}", &text[..at], mutant.to, &text[at + found.len()..]);
    std::fs::write(&path, changed).expect("room for a copy");
    Some(())
}

/// What is wrong with one run of a case, if anything is.
fn wrong<C: Case>(case: &C, be: &Cuda<Emulated>, tolerance: f64) -> Option<String> {
    let expected = case.run(&Reference).expect("the reference runs");
    // What was written beside a window stops the case itself.
    match catch_unwind(AssertUnwindSafe(|| case.run(be))) {
        Err(_) => Some("numbers that are nobody's were written".to_owned()),
        Ok(Err(e)) => Some(e.to_string()),
        Ok(Ok(got)) => {
            let mut errors = expected.iter().zip(&got).map(|((_, want), (_, got))| nmse(got, want));
            // A number that is none is no small error.
            let tolerance = tolerance.max(case.tolerance());
            errors.find(|e| e.is_nan() || *e > tolerance).map(|e| format!("an error of {e:e}"))
        }
    }
}

/// The first schedule that catches the mutant, and how.
fn caught<C: Case>(folder: &Path, only: &[&str], cases: &[C]) -> Option<(Schedule, String)> {
    SCHEDULES.into_iter().find_map(|schedule| {
        let device = Emulated::of(folder, only, schedule).expect("a compiler");
        let (precision, tolerance) = match only {
            only if only.iter().any(|name| name.starts_with("attention_bf16")) => (Precision::Bf16, ATTENTION_BF16),
            only if only.contains(&"gemm_bf16") => (Precision::Bf16, BF16),
            _ => (Precision::Single, SINGLE),
        };
        let be = Cuda::new(device).expect("memory for a test").with_precision(precision);
        cases.iter().find_map(|case| wrong(case, &be, tolerance)).map(|found| (schedule, found))
    })
}

/// Every mutant is caught by some schedule, and what is not damaged by none.
fn all_caught<C: Case>(only: &[&str], cases: &[C], mutants: &[Mutant]) {
    if let Err(peft_kernels::Error::Unavailable { .. }) = Emulated::new(Schedule::Forward) {
        return;
    }
    let folder = tempfile::tempdir().expect("room for a copy");
    assert_eq!(caught(&sources(), only, cases), None, "undamaged kernels of {only:?}");
    for mutant in mutants {
        let name = format!("{}: {:?} number {} -> {:?}", mutant.file, mutant.from, mutant.index, mutant.to);
        damaged(mutant, folder.path()).unwrap_or_else(|| panic!("{name} is not there"));
        assert!(caught(folder.path(), only, cases).is_some(), "{name} was not caught");
    }
}

/// One mutant for each barrier of a file.
fn without_barriers(file: &'static str) -> Vec<Mutant> {
    let text = std::fs::read_to_string(sources().join(file)).expect("a kernel");
    let count = text.matches("__syncthreads();").count();
    assert!(count > 0, "{file} has barriers");
    (0..count).map(|index| Mutant { file, from: "__syncthreads();", index, to: ";" }).collect()
}

fn other(file: &'static str, from: &'static str, to: &'static str) -> Mutant {
    Mutant { file, from, index: 0, to }
}

#[test]
fn a_product_without_a_barrier_or_a_border_is_caught() {
    let mut mutants = without_barriers("gemm.cu");
    mutants.push(other("gemm.cu", "first + row < rows && ", ""));
    mutants.push(other("gemm.cu", "if (row >= m || col >= n) continue;", "if (row >= m) continue;"));
    mutants.push(other("gemm.cu", "y[row * ldy + col] = is_add", "if (col + 1 < n) y[row * ldy + col] = is_add"));
    let all = linear::gemm();
    all_caught(&["move", "gemm", "gemv"], &all[12..24], &mutants);
}

#[test]
fn a_sum_of_a_block_without_a_barrier_is_caught() {
    // The loss reduces more than once in a row: the barrier that guards the scratch of the sum before counts.
    let cases = loss::head();
    let few = &cases[..cases.len().min(4)];
    all_caught(&["move", "gemm", "gemv", "weights", "loss"], few, &without_barriers("device.cuh"));
}

/// A choice among wrong logits would be a wrong answer that nobody sees.
#[test]
fn largest_numbers_that_are_not_the_largest_are_caught() {
    let mut mutants = without_barriers("sample.cu");
    mutants.push(other("sample.cu", "at >= count ? 0 : ", ""));
    mutants.push(other("sample.cu", "== ((low & run) == 0)", "== ((low & distance) == 0)"));
    mutants.push(other("sample.cu", "add(x, 0.0f)", "x"));
    mutants.push(other("sample.cu", "~(u32)at", "(u32)at"));
    mutants.push(other("sample.cu", "if (!(x == x)) return 0;", ""));
    mutants.push(other("sample.cu", "z < 0.0f ? mul(z, repetition) : ", ""));
    mutants.push(other("sample.cu", "if (written[e] > 0) ", ""));
    let cases = sample::cases();
    all_caught(&["move", "sample"], &cases[..5], &mutants);
}

/// A missing wait shows where copies come as late as they may, a missing barrier where they come at once.
#[test]
#[ignore = "a campaign: four compilations"]
fn copies_without_a_wait_or_a_barrier_are_caught() {
    let mut mutants = without_barriers("gemm_bf16.cu");
    mutants.push(other("gemm_bf16.cu", "wait_copies<STAGES_BF16 - 2>();", ""));
    mutants.push(other("gemm_bf16.cu", "wait_copies<STAGES_BF16 - 2>();", "wait_copies<STAGES_BF16 - 1>();"));
    all_caught(&["move", "gemm", "gemm_bf16", "gemm_skinny", "gemv"], &linear::tiled(), &mutants);
}

/// A kernel that is damaged is not used: what counts is that it does not pass.
#[test]
#[ignore = "a campaign: a dozen compilations"]
fn products_of_compute_capability_9_0_that_are_wrong_do_not_pass() {
    let mut mutants = without_barriers("gemm_wgmma.cu");
    mutants.push(other("gemm_wgmma.cu", "wait_copies<0>();", ""));
    mutants.push(other("gemm_wgmma.cu", "wait_products<1>();", ""));
    mutants.push(other("gemm_wgmma.cu", "wait_products<0>();", ""));
    mutants.push(other("gemm_wgmma.cu", "(piece % 8) ^ (row & 7)", "piece % 8"));
    mutants.push(other("gemm_wgmma.cu", "COLUMN_GROUP, EIGHT_COLUMN_ROWS, 1", "EIGHT_COLUMN_ROWS, COLUMN_GROUP, 1"));
    mutants.push(other("gemm_bf16.cuh", "if (i >= m || j >= n) continue;", "if (i >= m) continue;"));
    // What is short on one side goes to the tiles of `gemm_skinny.cu` in both.
    let only = ["move", "gemm_bf16", "gemm_skinny", "gemm_wgmma"];
    let passes = |folder: &Path, schedule| {
        let device = Emulated::of(folder, &only, schedule).expect("a compiler").with_wgmma();
        Cuda::new(device).is_ok_and(|card| card.fingerprint().ends_with("wgmma"))
    };
    if let Err(peft_kernels::Error::Unavailable { .. }) = Emulated::new(Schedule::Forward) {
        return;
    }
    assert!(SCHEDULES.into_iter().all(|schedule| passes(&sources(), schedule)), "undamaged");
    let folder = tempfile::tempdir().expect("room for a copy");
    for mutant in &mutants {
        damaged(mutant, folder.path()).unwrap_or_else(|| panic!("{} is not there", mutant.from));
        let passed = SCHEDULES.into_iter().all(|schedule| passes(folder.path(), schedule));
        assert!(!passed, "{}: {:?} number {} -> {:?}", mutant.file, mutant.from, mutant.index, mutant.to);
    }
}

/// The same of attention on tensor cores. Barriers after the last use of a tile show where copies come at once.
#[test]
#[ignore = "a campaign: two dozen compilations"]
fn attention_on_tensor_cores_without_a_wait_or_a_barrier_is_caught() {
    let mut mutants = without_barriers("attention_bf16.cu");
    mutants.extend(without_barriers("attention_bf16_bwd.cu"));
    mutants.extend(without_barriers("attention_bf16.cuh"));
    mutants.push(other("attention_bf16.cu", "wait_copies<1>();", ""));
    mutants.push(other("attention_bf16.cu", "if (row >= tile.count) continue;", ""));
    mutants.push(other("attention_bf16_bwd.cu", "query < rest && ", ""));
    let cases = attention::on_tensor_cores();
    all_caught(
        &["move", "gemm_bf16", "attention_bwd", "attention_bf16", "attention_bf16_bwd"],
        &cases[6..10],
        &mutants,
    );
}

/// Where several warps share a tile, each reads what another wrote.
#[test]
#[ignore = "a campaign: two dozen compilations"]
fn attention_of_the_widest_heads_without_a_wait_or_a_barrier_is_caught() {
    let file = "attention_bf16_256.cu";
    let mut mutants = without_barriers(file);
    mutants.extend((0..3).map(|index| Mutant { file, from: "wait_copies<0>();", index, to: "" }));
    mutants.extend((0..2).map(|index| Mutant { file, from: "wait_copies<1>();", index, to: "" }));
    mutants.push(other(file, "if (row >= tile.count) continue;", ""));
    mutants.push(other(file, "query < rest && ", ""));
    mutants.push(other(file, "has_sinks && half == 0", "has_sinks"));
    mutants.push(other(file, "fmaxf(part[r], theirs)", "part[r]"));
    mutants.push(other(file, "(int)threadIdx.x ^ 128", "(int)threadIdx.x"));
    mutants.push(other(file, "parts[place + 64] + parts[place + 96]", "parts[place + 64]"));
    all_caught(&["move", "gemm_bf16", "attention_bwd", "attention_bf16_256"], &attention::widest_short(), &mutants);
}

/// Kernels of answers: products of few rows, and single queries over a cache.
#[test]
fn answers_without_a_barrier_or_a_border_are_caught() {
    let mut mutants = without_barriers("attention_few.cu");
    mutants.push(other("attention_few.cu", "if (begin < first) begin = first;", ""));
    let cases = attention::cached();
    all_caught(&["move", "attention_few"], &cases[8..11], &mutants);
}

#[test]
#[ignore = "a campaign: a dozen compilations"]
fn products_of_few_rows_without_a_barrier_or_a_border_are_caught() {
    let mut mutants = without_barriers("gemv.cu");
    // The first one is for blocks that go round again, of which there are some from 2¹⁹ outputs on (`call.rs`): a machine
    // that takes a moment for a thousand does not come to them, and no other output needs it.
    mutants.remove(0);
    mutants.push(other("weights.cuh", "__syncthreads();", ""));
    mutants.push(other("gemv.cu", "|| j >= outputs", ""));
    mutants.push(other("gemv.cu", "lane >= rows || ", ""));
    mutants.push(other("gemv.cu", "part == 0 && k < inputs", "k < inputs"));
    mutants.push(other("gemv.cu", "part == 0 && k < inputs", "part == 0"));
    mutants.push(other("gemv.cu", "i < rows ? i : rows - 1", "i"));
    mutants.push(other("gemv.cu", "part < share; part++", "part < 1; part++"));
    let cases: Vec<_> = linear::answers().into_iter().filter(linear::Answer::is_small).collect();
    all_caught(&["move", "gemm", "gemv", "weights"], &cases, &mutants);
}

/// Rows that no loss counts, sums in pieces, and what the weight is decoded to.
#[test]
#[ignore = "a campaign: a dozen compilations"]
fn gathered_rows_pieces_and_decoded_weights_that_are_wrong_are_caught() {
    let of_loss = [
        other("loss.cu", "targets[place]", "targets[i]"),
        other("loss.cu", "loss[place] = log_sum", "loss[i] = log_sum"),
        other("move.cu", "(is_back ? other : i) * ldy", "i * ldy"),
        other("move.cu", "(is_back ? i : other) * ldx", "i * ldx"),
    ];
    all_caught(&["move", "gemm", "gemv", "weights", "loss"], &loss::head(), &of_loss);
    let of_pieces = [
        other("gemm_bf16.cuh", "begin = part * piece;", "begin = 0;"),
        other("gemm_bf16.cu", "part < parts; part++) value", "part + 1 < parts; part++) value"),
        other("gemm_skinny.cu", "y = y.from(cell.part * m * ldy);", ""),
        other("gemm_bf16.cu", "y = y.from(cell.part * m * ldy);", ""),
        other("gemm_bf16.cuh", "k - begin < piece ? k - begin : piece};", "k};"),
        other("gemm_skinny.cu", "__syncthreads();", ""),
        other("gemm_skinny.cu", "i < from.lines ? from.along - j : 0", "from.along - j"),
        other("gemm_skinny.cu", "stage = 1 - stage;", ""),
    ];
    let products = ["move", "gemm", "gemm_bf16", "gemm_skinny", "gemv"];
    all_caught(&products, &linear::long_sums(), &of_pieces);
    // Rows whose last piece is of seven lie at multiples of 16 bytes where they are activations.
    let seven = other("device.cuh", "if (there < 8 || !is_wide)", "if (there < 7 || !is_wide)");
    all_caught(&products, &narrow(linear::long_sums()), &[seven]);
    // That numbers are rounded to float16 before they are to bfloat16 changes one of them in some dozens by its last bit,
    // which is less than products on tensor cores may be off: no mutant of it is caught here.
    let of_weights = [
        other("weights.cu", "&& i < n_rows && j < inside;", "&& j < inside;"),
        other("weights.cuh", "to[2 * pair] = low_first ? low : high;", "to[2 * pair] = high;"),
    ];
    let four_bit = linear::linear();
    all_caught(&["move", "gemm", "gemm_bf16", "gemm_skinny", "gemv", "weights"], &four_bit[32..80], &of_weights);
}

/// Activations in bfloat16: a sum that is kept, and borders of pieces of eight.
#[test]
fn a_norm_of_activations_that_is_wrong_is_caught() {
    let store = Mutant { file: "device.cuh", from: "there < 8 || !is_wide", index: 1, to: "there < 7 || !is_wide" };
    all_caught(&["move", "gated", "gemm_bf16"], &narrow(gated::gated()), &[store]);
    let mutants = [other("norm.cu", "sum.store(row * ldsum + col + j, in, there, sum_wide);", "")];
    all_caught(&["move", "norm", "gemm_bf16"], &narrow(norm::of_sums()), &mutants);
}

/// The other operations on activations, and adapters inside the products of their weights.
#[test]
#[ignore = "a campaign: a dozen compilations"]
fn operations_on_activations_that_are_wrong_are_caught() {
    let of_gates = [
        other("gated.cu", "Numbers up = gate.from(d_ff)", "Numbers up = gate.from(0)"),
        other("device.cuh", "words + (is_narrow ? i : 2 * i), is_narrow", "words + 2 * i, is_narrow"),
    ];
    all_caught(&["move", "gated", "gemm_bf16"], &narrow(gated::gated()), &of_gates);
    let of_rope =
        [other("rope.cu", "if (is_back) s = -s;", ""), other("rope.cu", "other.store(begin,", "x.store(begin,")];
    all_caught(&["move", "rope", "gemm_bf16"], &narrow(rope::rope()), &of_rope);
    let of_products = [
        other("gemm_bf16.cuh", "(row < last ? row : last) * ld", "row * ld"),
        other("gemm_bf16.cu", "if (!is_own) step -= own.steps;", ""),
        other("gemm_bf16.cu", "is_own ? own.lda : more.lda", "own.lda"),
        other("gemm_bf16.cu", "numbers[e] * scale", "numbers[e]"),
        other("device.cuh", "if (is_narrow && (address_of(words + i) & 3u) == 0)", "if (is_narrow)"),
    ];
    let only = ["move", "gemm", "gemm_bf16", "gemm_skinny", "gemv", "weights"];
    all_caught(&only, &narrow(adapted::modules(true)), &of_products);
}

#[test]
#[ignore = "a campaign: two dozen compilations"]
fn everything_without_a_barrier_is_caught() {
    let cases = attention::attention();
    let few: Vec<_> = cases.into_iter().filter(attention::Attention::is_small).collect();
    all_caught(&["move", "attention", "attention_bwd"], &few, &without_barriers("attention.cu"));
    all_caught(&["move", "attention", "attention_bwd"], &few, &without_barriers("attention_bwd.cu"));
    all_caught(&["move", "gemm", "gemv", "weights", "loss"], &loss::head(), &without_barriers("loss.cu"));
}

#[test]
#[ignore = "a campaign: a dozen compilations"]
fn wrong_arithmetic_and_borders_are_caught() {
    all_caught(
        &["move", "norm"],
        &norm::norm(),
        &[
            other("norm.cu", "squares += in[e] * in[e];", "squares += in[e] * in[0];"),
            other("norm.cu", "if (group.member == 0) rstd[at] = r;", ""),
            other("norm.cu", "in[e] * r * (offset + w[j + e])", "in[e] * r * (offset + w[j])"),
            other("norm.cu", "members = BY_WARP ? 32 : THREADS;", "members = 32;"),
        ],
    );
    all_caught(&["move", "gated"], &gated::gated(), &[other("gated.cu", "1.0f - s", "1.0f + s")]);
    all_caught(
        &["move", "columns"],
        &columns::columns(),
        &[other("columns.cu", "i64 i = 0; i < rows", "i64 i = 1; i < rows")],
    );
    all_caught(
        &["move", "optim"],
        &optim::steps(),
        &[other("optim.cu", "e < n; e += thread_count()) {", "e <= n; e += thread_count()) {")],
    );
}

/// Every kernel that the sources declare can be run by the tests.
#[test]
fn every_kernel_is_emulated() {
    let device = match Emulated::new(Schedule::Forward) {
        Ok(device) => device,
        Err(peft_kernels::Error::Unavailable { .. }) => return,
        Err(e) => panic!("{e}"),
    };
    let mut seen = 0;
    for entry in std::fs::read_dir(sources()).expect("the kernels are there") {
        let text = std::fs::read_to_string(entry.expect("a readable entry").path()).expect("a kernel");
        for start in ["\nKERNEL(", "\nATTENTION("] {
            for (at, _) in text.match_indices(start) {
                let name = text[at + start.len()..].split([',', ')']).next().unwrap_or_default();
                assert!(device.knows(name), "{name} is not in `tests/emulated/kernels.cpp`");
                seen += 1;
            }
        }
    }
    assert!(seen > 25, "{seen} kernels were found");
}
