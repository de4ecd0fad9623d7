//! One conformance suite for every backend.
//!
//! Chain of trust: finite differences check the backward operations of `reference` (module `gradients`),
//! `reference` checks every other backend, operation by operation. Adding a backend is one line of `backends!`;
//! adding an operation is one struct in the file of its name.
//!
//! Every run is hostile: outputs that are set hold NaN before, outputs that are added to hold noise, everything
//! outside a window holds sentinels that must survive, every call is made twice and must give the same bits.

mod adapted;
mod adapted_gated;
mod attention;
mod columns;
mod dropout;
mod embed;
mod emulated_samples;
mod gated;
mod gated_clamped;
mod harness;
mod linear;
mod loss;
mod mutants;
mod narrow;
mod norm;
mod optim;
mod packed;
mod refusals;
mod rope;
mod rounded;
mod rows;
mod sample;
mod shipped;
mod tensor_cores;
mod weights;

use peft_kernels::Backend;
use peft_kernels::cpu::{Cpu, Factors, Path};
use peft_kernels::reference::Reference;
use peft_tests::emulated::{Schedule, gpu};

/// What the tests of a backend do when this machine lacks it.
#[expect(clippy::print_stderr, reason = "a skipped test must say so")]
fn with<B: Backend>(backend: peft_kernels::Result<B>, test: impl Fn(&B)) {
    match backend {
        Ok(backend) => test(&backend),
        Err(peft_kernels::Error::Unavailable { reason }) => eprintln!("skipped: {reason}"),
        Err(e) => panic!("{e}"),
    }
}

/// An item with attributes.
macro_rules! attributed {
    ([$($attributes:tt)*] $item:item) => {
        $($attributes)*
        $item
    };
}

/// One module of tests for each `name: [attributes] Result<backend>`.
macro_rules! backends {
    ($($name:ident: $attributes:tt $backend:expr;)*) => {$(
        mod $name {
            use super::*;

            backends! { tests $attributes $backend;
                linear => |be| harness::conforms(be, &linear::linear());
                gemm => |be| harness::conforms(be, &linear::gemm());
                weights_with_adapters => |be| harness::conforms(be, &adapted::modules(false));
                weights_behind_a_norm => |be| harness::conforms(be, &adapted::of_norms());
                a_norm_in_products_has_the_bits_of_a_norm_before_them => |be| adapted::norm_inside_is_norm_before(be);
                gate_and_up => |be| harness::conforms(be, &adapted_gated::cases());
                gate_and_up_together_have_the_bits_of_one_after_the_other => |be| {
                    adapted_gated::together_has_the_bits_of_one_after_the_other(be, &adapted_gated::cases());
                };
                the_way_back_through_gate_and_up => |be| harness::conforms(be, &adapted_gated::back());
                the_way_back_together_has_the_bits_of_one_after_the_other => |be| {
                    adapted_gated::back_together_has_the_bits_of_one_after_the_other(be, &adapted_gated::back());
                };
                rms_norm => |be| harness::conforms(be, &norm::norm());
                norm_of_sum => |be| harness::conforms(be, &norm::of_sums());
                rope => |be| harness::conforms(be, &rope::rope());
                attention => |be| harness::conforms(be, &attention::attention());
                attention_cached => |be| harness::conforms(be, &attention::cached());
                attention_in_pieces_equals_attention_at_once => |be| attention::cache_equals_whole(be);
                gated => |be| harness::conforms(be, &gated::gated());
                gated_clamped => |be| harness::conforms(be, &gated_clamped::gated());
                embed => |be| harness::conforms(be, &embed::embed());
                head_loss => |be| harness::conforms(be, &loss::head());
                columns => |be| harness::conforms(be, &columns::columns());
                rows => |be| harness::conforms(be, &rows::rows());
                row_squares => |be| harness::conforms(be, &columns::row_squares());
                dora_norm => |be| harness::conforms(be, &columns::dora());
                dropout => |be| harness::conforms(be, &dropout::dropout());
                dropout_mask_follows_the_counter => |be| dropout::mask_follows_the_counter(be);
                noise => |be| harness::conforms(be, &dropout::noise_cases());
                noise_is_uniform => |be| dropout::noise_is_uniform(be);
                adamw_8bit => |be| harness::conforms(be, &optim::steps_8bit());
                adamw => |be| harness::conforms(be, &optim::steps());
                adamw_agrees_with_hand_computation => |be| optim::agrees_with_hand_computation(be);
                sum_of_squares_shows_bad_numbers => |be| optim::bad_numbers_show(be);
                wrong_outputs_are_refused => |be| refusals::wrong_outputs(be);
                wrong_blocks_are_refused => |be| refusals::wrong_blocks(be);
                wrong_attention_is_refused => |be| refusals::wrong_attention(be);
                damaged_weights_are_refused => |be| refusals::damaged_weights(be);
                too_much_memory_is_an_error => |be| refusals::too_much_memory(be);
            }
        }
    )*};
    (tests $attributes:tt $backend:expr; $($test:ident => |$be:ident| $body:expr;)*) => {$(
        attributed! { $attributes
            #[test]
            fn $test() {
                with($backend, |$be| $body);
            }
        }
    )*};
}

backends! {
    reference: [] Ok(Reference);
    cpu: [] Cpu::new(2);
    avx512: [] Cpu::with_path(2, Path::Avx512);
    avx2: [] Cpu::with_path(1, Path::Avx2);
    portable: [] Cpu::with_path(3, Path::Portable);
    emulated: [#[ignore = "a minute for each schedule"]] gpu(Schedule::Forward);
    emulated_backward: [#[ignore = "a minute for each schedule"]] gpu(Schedule::Backward);
    emulated_warps: [#[ignore = "a minute for each schedule"]] gpu(Schedule::Warps);
    emulated_shuffled: [#[ignore = "a minute for each schedule"]] gpu(Schedule::Shuffled(1));
}

/// With factors rounded to bf16, on a processor with an instruction for it and on others.
#[test]
fn products_of_rounded_factors_conform_on_every_path() {
    let paths = [Path::Amx, Path::Avx512Bf16, Path::Avx512, Path::Avx2, Path::Portable, Path::ModelledTiles];
    for path in paths {
        with(Cpu::with_path(2, path), |be| {
            let be = be.with_factors(Factors::Bf16);
            let is_first = [Path::best(), Path::ModelledTiles].contains(&path);
            rounded::exact_factors(&be, is_first);
            rounded::adapters(&be, &adapted::modules(true));
            adapted::norm_inside_is_norm_before(&be);
            adapted_gated::together_has_the_bits_of_one_after_the_other(&be, &adapted_gated::cases());
            adapted_gated::back_together_has_the_bits_of_one_after_the_other(&be, &adapted_gated::back());
            if is_first {
                adapted_gated::together_has_the_bits_of_one_after_the_other(&be, &adapted_gated::large());
                adapted_gated::back_together_has_the_bits_of_one_after_the_other(&be, &adapted_gated::back_large());
                rounded::any_factors(&be);
                rounded::attention(&be);
                rounded::adapters(&be, &adapted::large());
                rounded::head(&be);
            }
        });
    }
}

/// On paths that pack weights; the model of a unit is one of them everywhere.
#[test]
fn packed_weights_give_the_bits_of_stored_ones() {
    for path in [Path::Amx, Path::Avx512Bf16, Path::ModelledTiles] {
        with(Cpu::with_path(2, path), |be| packed::same_bits(&be.with_factors(Factors::Bf16)));
    }
    // Elsewhere, and where factors are not rounded, nothing is packed.
    for (path, factors) in [(Path::ModelledTiles, Factors::F32), (Path::Portable, Factors::Bf16)] {
        let be = Cpu::with_path(1, path).expect("any processor").with_factors(factors);
        assert!(!be.packs(&weights::frozen(weights::Storage::Dense(peft_kernels::DType::BF16), 1, 64, 64)));
    }
}

#[test]
fn weights_in_strips_give_the_bits_of_stored_ones_but_for_rows_in_eight_bits_s4_5() {
    with(Cpu::with_path(2, Path::Avx2), packed::strips_are_near);
    // Elsewhere, and where rows are not rounded, blocks stay as they are.
    let be = Cpu::with_path(1, Path::Portable).expect("any processor").with_eight_bit_rows(true);
    let bytes = peft_kernels::Bytes::from_vec(vec![0; 144]);
    let kind = peft_kernels::quant::GgmlType::Q4K;
    assert!(!be.packs(&peft_kernels::FrozenWeight::Blocks { bytes, kind, rows: 1, cols: 256 }));
}

/// bf16 adds nothing where factors are not rounded: runs of before it was known go on.
#[test]
fn the_best_path_computes_the_bits_of_the_one_below_it_in_f32() {
    with(Cpu::with_path(2, Path::Avx512Bf16), |best| {
        let below = Cpu::with_path(2, Path::Avx512).expect("a part of the best path");
        assert_eq!(best.fingerprint(), below.fingerprint());
        harness::same_bits(best, &below, &linear::linear());
        harness::same_bits(best, &below, &linear::gemm());
        harness::same_bits(best, &below, &loss::head());
        let rounded = best.with_factors(Factors::Bf16);
        assert!(rounded.fingerprint() != best.fingerprint(), "{}", rounded.fingerprint());
    });
}

/// So does a unit that multiplies tiles, which is for bf16 alone; where the processor has none, a model of one.
#[test]
fn tiles_are_for_rounded_factors_alone() {
    for (path, below) in [(Path::Amx, Path::Avx512), (Path::ModelledTiles, Path::Portable)] {
        with(Cpu::with_path(2, path), |tiles| {
            let below = Cpu::with_path(2, below).expect("a part of the path with tiles");
            assert_eq!(tiles.fingerprint(), below.fingerprint());
            harness::same_bits(tiles, &below, &linear::linear());
            let one = Cpu::with_path(1, path).expect("the same").with_factors(Factors::Bf16);
            let rounded = tiles.with_factors(Factors::Bf16);
            assert!(rounded.fingerprint() != tiles.fingerprint(), "{}", rounded.fingerprint());
            harness::same_bits(&one, &rounded, &linear::linear());
            harness::same_bits(&one, &rounded, &linear::gemm());
        });
    }
}

/// A run that was begun with other kernels goes on with those.
#[test]
fn kernels_are_found_by_the_fingerprint_of_a_run() {
    with(Cpu::new(2), |best| {
        let best = best.with_factors(Factors::Bf16);
        for path in Path::all().filter(|path| path.available()) {
            let begun = Cpu::with_path(2, path).expect("it is available").with_factors(Factors::Bf16);
            let again = best.with_kernels_of(&begun.fingerprint()).expect("the same processor");
            assert_eq!((again.path(), again.fingerprint()), (path, begun.fingerprint()));
        }
        for other in ["", "cpu", "cpu sse9 threads=2", "cuda avx2", "avx2"] {
            assert!(best.with_kernels_of(other).is_none(), "{other}");
        }
    });
}

/// How many threads share the work is no part of a result (G2).
#[test]
fn results_of_the_processor_do_not_depend_on_its_threads() {
    let one = Cpu::new(1).expect("a processor");
    for threads in [2, 3] {
        let more = Cpu::new(threads).expect("a processor");
        harness::same_bits(&one, &more, &linear::linear());
        harness::same_bits(&one, &more, &linear::gemm());
        harness::same_bits(&one, &more, &adapted::modules(false));
        harness::same_bits(&one, &more, &adapted_gated::cases());
        harness::same_bits(&one, &more, &adapted_gated::back());
        harness::same_bits(&one, &more, &norm::norm());
        harness::same_bits(&one, &more, &attention::attention());
        harness::same_bits(&one, &more, &attention::cached());
        harness::same_bits(&one, &more, &loss::head());
        harness::same_bits(&one, &more, &columns::columns());
        harness::same_bits(&one, &more, &rows::rows());
        harness::same_bits(&one, &more, &optim::steps());
        harness::same_bits(&one, &more, &optim::steps_8bit());
        let [one, more] = [&one, &more].map(|be| be.with_factors(Factors::Bf16));
        harness::same_bits(&one, &more, &linear::linear());
        harness::same_bits(&one, &more, &linear::gemm());
        harness::same_bits(&one, &more, &loss::head());
        harness::same_bits(&one, &more, &adapted::modules(false));
        harness::same_bits(&one, &more, &attention::attention());
    }
}

mod gradients {
    #[test]
    fn linear() {
        crate::linear::gradient();
    }
    #[test]
    fn rms_norm() {
        crate::norm::gradient();
    }
    #[test]
    fn rope() {
        crate::rope::gradient();
    }
    #[test]
    fn attention() {
        crate::attention::gradient();
    }
    #[test]
    fn gated() {
        crate::gated::gradient();
    }
    #[test]
    fn gated_clamped() {
        crate::gated_clamped::gradient();
    }
    #[test]
    fn head_loss() {
        crate::loss::gradient();
    }
    #[test]
    fn dora_norm_is_the_norm_of_the_sum() {
        crate::columns::dora_norm_is_the_norm_of_the_sum();
    }
}
