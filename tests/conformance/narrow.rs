//! Activations in bfloat16 on the emulated GPU and on the processor: every operation that a pass gives them to computes
//! from them what the reference computes from the same numbers, and rounds it once; one that does not know them refuses
//! them (issue 8).

use crate::harness::{Case, Field, in_activations, nmse, noise, same_bits};
use crate::{adapted, adapted_gated, attention, columns, dropout, gated, gated_clamped, linear, norm, rope, rows};
use peft_kernels::cpu::{Cpu, Factors, Path};
use peft_kernels::cuda::{Cuda, Precision};
use peft_kernels::reference::Reference;
use peft_kernels::{Backend, Error, Matrix, Write};
use peft_tests::emulated::{Emulated, Schedule};

/// A result that is rounded to bfloat16 is off by at most 2⁻⁹ of itself, one that is added to twice as much: on average
/// far less, but some cases have one number.
const ROUNDED: f64 = 1.6e-5;
/// What products and attention in bfloat16 may be off by, and their results rounded.
const OF_PRODUCTS: f64 = 2.5e-5;
const OF_ATTENTION: f64 = 1.1e-4;
/// A gradient of an adapter comes from products of rounded factors, and is rounded again.
const OF_ADAPTERS: f64 = 5e-5;

fn near<B: Backend, C: Case>(be: &B, tolerance: f64, cases: impl IntoIterator<Item = C>) {
    for case in cases {
        let run = || (case.run(&Reference).expect("the reference runs"), case.run(be), case.run(be));
        let (expected, got, again) = in_activations(run);
        let (got, again) = (got.unwrap_or_else(|e| panic!("{case:?}: {e}")), again.expect("as before"));
        for (((name, want), (_, got)), (_, again)) in expected.iter().zip(&got).zip(&again) {
            let error = nmse(got, want);
            assert!(error <= tolerance, "{case:?} on {}: {name} has an error of {error:e}", be.fingerprint());
            assert!(got.iter().map(|x| x.to_bits()).eq(again.iter().map(|x| x.to_bits())), "{case:?}: {name}");
        }
    }
}

fn narrow(schedule: Schedule) -> Option<Cuda<Emulated>> {
    match Emulated::new(schedule) {
        Ok(device) => Some(Cuda::new(device).expect("memory for a test").with_precision(Precision::Bf16)),
        Err(Error::Unavailable { .. }) => None,
        Err(e) => panic!("{e}"),
    }
}

fn some<C>(cases: Vec<C>, first: usize, step: usize) -> impl Iterator<Item = C> {
    cases.into_iter().skip(first).step_by(step)
}

/// Of every operation some cases under one order of threads; `all` of them take minutes.
fn conform(schedule: Schedule, first: usize, step: usize) {
    let Some(be) = narrow(schedule) else { return };
    near(&be, ROUNDED, some(norm::norm(), first, step));
    near(&be, ROUNDED, some(norm::of_sums(), first % 2, 1 + step / 6));
    near(&be, ROUNDED, some(rope::rope(), first, step));
    near(&be, ROUNDED, some(gated::gated(), first % 4, 1 + step / 3));
    near(&be, ROUNDED, some(gated_clamped::gated(), first % 2, 1 + step / 3));
    near(&be, ROUNDED, some(columns::columns(), first, step));
    near(&be, ROUNDED, some(rows::rows(), first % 2, step));
    near(&be, ROUNDED, some(dropout::dropout(), first, step));
    near(&be, OF_PRODUCTS, some(linear::linear(), first, 3 * step));
    near(&be, OF_PRODUCTS, some(linear::gemm(), first, 2 * step));
    near(&be, OF_ADAPTERS, some(adapted::modules(true), first % 4, 1 + step / 3));
    near(&be, OF_PRODUCTS, some(linear::long_sums(), first % 4, 1 + step / 2));
    near(&be, OF_ATTENTION, some(attention::on_tensor_cores(), first, step));
    near(&be, OF_ATTENTION, some(attention::attention(), first, 3 * step));
    near(&be, OF_ATTENTION, some(attention::cached(), first, step));
}

#[test]
fn activations_in_bfloat16_conform_under_two_schedules() {
    conform(Schedule::Forward, 1, 7);
    conform(Schedule::Shuffled(1), 4, 7);
}

#[test]
#[ignore = "a campaign: minutes"]
fn all_activations_in_bfloat16_conform_under_every_schedule() {
    for schedule in [Schedule::Forward, Schedule::Backward, Schedule::Warps, Schedule::Shuffled(1)] {
        conform(schedule, 0, 1);
    }
}

/// Whole tiles, that products read where they lie.
#[test]
fn products_read_activations_where_they_lie() {
    let Some(be) = narrow(Schedule::Backward) else { return };
    near(&be, OF_ADAPTERS, adapted::modules(true).into_iter().skip(6));
    near(&be, OF_PRODUCTS, linear::large());
    let device = Emulated::new(Schedule::Forward).expect("as before").with_wgmma();
    let wgmma = Cuda::new(device).expect("memory for a test").with_precision(Precision::Bf16);
    assert!(wgmma.fingerprint().ends_with("wgmma"), "{}", wgmma.fingerprint());
    near(&wgmma, OF_ADAPTERS, adapted::modules(true).into_iter().skip(7));
}

/// Rows of experts: looked up in an activation, and added into one.
#[test]
fn rows_of_experts_come_from_activations_and_go_there() {
    let Some(be) = narrow(Schedule::Warps) else { return };
    let tokens = [2, 0, 2, 1];
    let numbers = noise(1, 3 * 24);
    let mut table = be.activation().expect("memory");
    be.reshape(&mut table, 3, 24).expect("memory");
    be.upload(&mut table, &numbers).expect("uploaded");
    let held = be.download(&table).expect("downloaded");
    assert!(nmse(&held, &numbers) < 3e-6 && held != numbers, "rounded once");
    let mut rows = be.zeros(4, 24).expect("memory");
    be.embed(rows.view_mut(), &tokens, Matrix::Dense(&table), 1.0).expect("shapes fit");
    let rows_held = be.download(&rows).expect("downloaded");
    assert_eq!((&rows_held[..24], &rows_held[72..]), (&held[48..], &held[24..48]));
    be.fill(table.view_mut(), 0.0).expect("shapes fit");
    be.embed_bwd(&mut table, rows.view(), &tokens, 0.5).expect("shapes fit");
    let back = be.download(&table).expect("downloaded");
    assert_eq!(&back[48..], &held[48..], "half of both rows");
}

/// Numbers of the other kind are refused, not read as what they are not.
#[test]
fn an_operation_that_reads_f32_refuses_activations() {
    let Some(be) = narrow(Schedule::Forward) else { return };
    in_activations(|| {
        let mut y = Field::output(&be, 3, 8, Write::Set);
        let refused = be.noise(y.view_mut(), &[1.0; 3], 1, 1);
        assert!(matches!(refused, Err(Error::Shape { .. })), "{refused:?}");
    });
}

/// The same of every path of the processor; attention rounds its weights as well.
#[test]
fn activations_in_bfloat16_conform_on_every_path_of_the_processor() {
    const OF_SCORES: f64 = 4e-4;
    for path in [Path::Amx, Path::Avx512Bf16, Path::Avx512, Path::Avx2, Path::Portable, Path::ModelledTiles] {
        let be = match Cpu::with_path(2, path) {
            Ok(be) => be.with_factors(Factors::Bf16),
            Err(Error::Unavailable { .. }) => continue,
            Err(e) => panic!("{e}"),
        };
        let step = if [Path::best(), Path::ModelledTiles].contains(&path) { 1 } else { 3 };
        near(&be, ROUNDED, some(norm::norm(), 0, step));
        near(&be, ROUNDED, some(norm::of_sums(), 0, step));
        near(&be, ROUNDED, some(rope::rope(), 0, step));
        near(&be, ROUNDED, some(gated::gated(), 0, step));
        near(&be, ROUNDED, some(gated_clamped::gated(), 0, step));
        near(&be, ROUNDED, some(columns::columns(), 0, step));
        near(&be, ROUNDED, some(rows::rows(), 0, step));
        near(&be, ROUNDED, some(dropout::dropout(), 0, step));
        near(&be, OF_PRODUCTS, some(linear::linear(), 0, step));
        near(&be, OF_PRODUCTS, some(linear::gemm(), 0, step));
        near(&be, OF_PRODUCTS, some(linear::long_sums(), 0, step));
        near(&be, OF_ADAPTERS, some(adapted::modules(true), 0, step));
        near(&be, OF_ADAPTERS, some(adapted_gated::cases(), 0, step));
        near(&be, OF_ADAPTERS, some(adapted_gated::back(), 0, step));
        in_activations(|| {
            adapted_gated::together_has_the_bits_of_one_after_the_other(&be, &adapted_gated::cases());
            adapted_gated::back_together_has_the_bits_of_one_after_the_other(&be, &adapted_gated::back());
        });
        near(&be, OF_SCORES, some(attention::attention(), 0, step));
        near(&be, OF_SCORES, some(attention::cached(), 0, step));
        if step == 1 {
            near(&be, OF_PRODUCTS, linear::large());
            near(&be, OF_ADAPTERS, adapted::large());
            in_activations(|| {
                adapted_gated::together_has_the_bits_of_one_after_the_other(&be, &adapted_gated::large());
                adapted_gated::back_together_has_the_bits_of_one_after_the_other(&be, &adapted_gated::back_large());
            });
        }
    }
}

/// What is kept in half the memory is read as what it is: threads change nothing, and what reads f32 alone says so.
#[test]
fn activations_of_the_processor_do_not_depend_on_its_threads_and_are_refused_where_f32_is_read() {
    let [one, more] = [1, 3].map(|n| Cpu::new(n).expect("a processor").with_factors(Factors::Bf16));
    in_activations(|| {
        same_bits(&one, &more, &linear::linear());
        same_bits(&one, &more, &adapted::modules(true));
        same_bits(&one, &more, &norm::norm());
        same_bits(&one, &more, &attention::attention());
        let mut y = Field::output(&one, 3, 8, Write::Set);
        let refused = one.noise(y.view_mut(), &[1.0; 3], 1, 1);
        assert!(matches!(refused, Err(Error::Shape { .. })), "{refused:?}");
    });
    let mut kept = one.activation().expect("nothing yet");
    one.reshape(&mut kept, 40, 30).expect("memory");
    assert_eq!(kept.buf.bytes(), 2400);
    let numbers = noise(7, 1200);
    one.upload(&mut kept, &numbers).expect("as many");
    let rounded: Vec<f32> = numbers.iter().map(|x| half::bf16::from_f32(*x).to_f32()).collect();
    assert_eq!(one.download(&kept).expect("as many"), rounded);
    let exact = Cpu::new(1).expect("a processor").activation().expect("nothing yet");
    assert_eq!(exact.buf.bytes(), 0);
}
