//! Products on the emulated tensor cores: as near to the reference as factors in bfloat16 allow, the same bits twice.

use crate::harness::{Case, nmse};
use crate::{attention, linear};
use peft_kernels::cuda::{Cuda, Precision};
use peft_kernels::reference::Reference;
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

const ALL: [Schedule; 4] = [Schedule::Forward, Schedule::Backward, Schedule::Warps, Schedule::Shuffled(1)];

#[test]
fn products_in_bf16_are_near_under_every_schedule() {
    on_tensor_cores(&ALL, |be| {
        near(be, TOLERANCE, linear::gemm().into_iter().skip(4).step_by(5).take(8));
        near(be, TOLERANCE, linear::linear().into_iter().step_by(7).take(11));
    });
}

#[test]
#[ignore = "a campaign: a minute"]
fn all_products_in_bf16_are_near_under_every_schedule() {
    on_tensor_cores(&ALL, |be| {
        near(be, TOLERANCE, linear::gemm());
        near(be, TOLERANCE, linear::linear());
    });
}

#[test]
fn attention_in_bf16_is_near() {
    let cases = attention::on_tensor_cores();
    on_tensor_cores(&[Schedule::Backward], |be| near(be, TOLERANCE_OF_ATTENTION, cases.iter().step_by(2).cloned()));
}

#[test]
#[ignore = "a campaign: minutes"]
fn all_attention_in_bf16_is_near_under_every_schedule() {
    on_tensor_cores(&ALL, |be| near(be, TOLERANCE_OF_ATTENTION, attention::on_tensor_cores()));
}
