//! Products on the emulated tensor cores: as near to the reference as factors in bfloat16 allow, the same bits twice.

use crate::harness::{Case, nmse};
use crate::weights::{ALL, Held, Storage};
use crate::{attention, linear};
use half::bf16;
use peft_kernels::cuda::{Cuda, Precision};
use peft_kernels::reference::Reference;
use peft_kernels::{Backend, Write};
use peft_tests::emulated::{Emulated, Schedule};

/// Factors are rounded by at most 2⁻⁹ each: on average `2·(2⁻⁹)²/3`, and room for few numbers.
const TOLERANCE: f64 = 2e-5;

/// Of attention: its scores come from rounded factors, its chances are rounded, too, and a gradient has both.
const TOLERANCE_OF_ATTENTION: f64 = 1e-4;

fn near<C: Case>(be: &Cuda<Emulated>, tolerance: f64, cases: impl IntoIterator<Item = C>) {
    for case in cases {
        let expected = case.run(&Reference).expect("the reference runs");
        let (got, again) = (case.run(be).expect("shapes fit"), case.run(be).expect("shapes fit"));
        for (((name, want), (_, got)), (_, again)) in expected.iter().zip(&got).zip(&again) {
            let error = nmse(got, want);
            assert!(error <= tolerance, "{case:?}: {name} has an error of {error:e}");
            assert!(got.iter().map(|x| x.to_bits()).eq(again.iter().map(|x| x.to_bits())), "{case:?}: {name}");
        }
    }
}

fn on_tensor_cores(schedules: &[Schedule], test: impl Fn(&Cuda<Emulated>)) {
    for &schedule in schedules {
        let device = match Emulated::new(schedule) {
            Ok(device) => device,
            Err(peft_kernels::Error::Unavailable { .. }) => return,
            Err(e) => panic!("{e}"),
        };
        test(&Cuda::new(device).expect("memory for a test").with_precision(Precision::Bf16));
    }
}

const EVERY_ORDER: [Schedule; 4] = [Schedule::Forward, Schedule::Backward, Schedule::Warps, Schedule::Shuffled(1)];

#[test]
fn products_in_bf16_are_near_under_every_schedule() {
    on_tensor_cores(&EVERY_ORDER, |be| {
        near(be, TOLERANCE, linear::gemm().into_iter().skip(4).step_by(5).take(8));
        near(be, TOLERANCE, linear::linear().into_iter().step_by(7).take(11));
        near(be, TOLERANCE, linear::answers().into_iter().step_by(3));
    });
}

/// The kernels of compute capability 9.0 are used where they pass, and compute what the others compute.
#[test]
fn products_of_tiles_in_shared_memory_are_near_where_a_card_has_them() {
    for schedule in [Schedule::Forward, Schedule::Shuffled(1)] {
        let device = match Emulated::new(schedule) {
            Ok(device) => device.with_wgmma(),
            Err(peft_kernels::Error::Unavailable { .. }) => return,
            Err(e) => panic!("{e}"),
        };
        let be = Cuda::new(device).expect("memory for a test").with_precision(Precision::Bf16);
        assert!(be.fingerprint().ends_with("wgmma"), "{}", be.fingerprint());
        near(&be, TOLERANCE, linear::large());
    }
}

/// A sum long enough to be cut into pieces, which are added in their order.
#[test]
fn a_long_sum_of_few_outputs_is_near_and_the_same_twice() {
    on_tensor_cores(&[Schedule::Backward, Schedule::Shuffled(1)], |be| {
        near(be, TOLERANCE, linear::long_sums());
        near(be, TOLERANCE, linear::tiled());
    });
}

/// Rows of a matrix of ones and zeros take single numbers of a weight: they are the processor's, rounded once.
#[test]
fn four_bit_weights_are_decoded_to_the_bits_of_the_processor() {
    on_tensor_cores(&[Schedule::Forward, Schedule::Shuffled(1)], |be| {
        for storage in ALL.into_iter().filter(|storage| matches!(storage, Storage::FourBit(..))) {
            let (rows, cols) = (24, 200);
            let mut one_each = vec![0.0; rows * rows];
            (0..rows).for_each(|i| one_each[i * rows + i] = 1.0);
            let expected = numbers(&Reference, storage, &one_each, (rows, cols));
            let expected: Vec<f32> = expected.iter().map(|x| bf16::from_f32(*x).to_f32()).collect();
            assert_eq!(numbers(be, storage, &one_each, (rows, cols)), expected, "{storage:?}");
        }
    });
}

/// What the rows of `one_each` take from a weight.
fn numbers<B: Backend>(be: &B, storage: Storage, one_each: &[f32], (rows, cols): (usize, usize)) -> Vec<f32> {
    let w = Held::new(be, storage, 3, rows, cols);
    let dy = be.tensor(rows, rows, one_each).expect("memory for a test");
    let mut dx = be.zeros(rows, cols).expect("memory for a test");
    be.linear_bwd_input(dx.view_mut(), dy.view(), w.matrix(), Write::Set).expect("shapes fit");
    be.download(&dx).expect("download")
}

#[test]
#[ignore = "a campaign: a minute"]
fn all_products_in_bf16_are_near_under_every_schedule() {
    on_tensor_cores(&EVERY_ORDER, |be| {
        near(be, TOLERANCE, linear::gemm());
        near(be, TOLERANCE, linear::linear());
    });
}

#[test]
fn attention_in_bf16_is_near() {
    let cases = attention::on_tensor_cores();
    // Of each kind of heads, in turn, and of each shape.
    let cases = || cases.iter().enumerate().filter(|(i, _)| (i + i / 6) % 2 == 0).map(|(_, case)| case.clone());
    on_tensor_cores(&[Schedule::Backward], |be| near(be, TOLERANCE_OF_ATTENTION, cases()));
}

/// Heads of 256 columns: several warps share what one has of others.
#[test]
fn attention_of_the_widest_heads_in_bf16_is_near() {
    on_tensor_cores(&[Schedule::Shuffled(1)], |be| near(be, TOLERANCE_OF_ATTENTION, attention::widest()));
    on_tensor_cores(&EVERY_ORDER, |be| near(be, TOLERANCE_OF_ATTENTION, attention::widest_short()));
}

/// A prompt whose past is in a cache.
#[test]
fn attention_over_a_cache_in_bf16_is_near() {
    on_tensor_cores(&[Schedule::Shuffled(1)], |be| near(be, TOLERANCE_OF_ATTENTION, attention::cached()));
}

#[test]
#[ignore = "a campaign: minutes"]
fn all_attention_in_bf16_is_near_under_every_schedule() {
    on_tensor_cores(&EVERY_ORDER, |be| near(be, TOLERANCE_OF_ATTENTION, attention::on_tensor_cores()));
}
