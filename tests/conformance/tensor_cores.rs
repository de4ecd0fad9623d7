//! Products on the emulated tensor cores: as near to the reference as factors in bfloat16 allow, the same bits twice.

use crate::harness::{Case, nmse};
use crate::linear;
use peft_kernels::cuda::{Cuda, Precision};
use peft_kernels::reference::Reference;
use peft_tests::emulated::{Emulated, Schedule};

/// Factors are rounded by at most 2⁻⁹ each: on average `2·(2⁻⁹)²/3`, and room for few numbers.
const TOLERANCE: f64 = 2e-5;

fn near<C: Case>(be: &Cuda<Emulated>, cases: impl IntoIterator<Item = C>) {
    for case in cases {
        let expected = case.run(&Reference).expect("the reference runs");
        let (got, again) = (case.run(be).expect("shapes fit"), case.run(be).expect("shapes fit"));
        for (((name, want), (_, got)), (_, again)) in expected.iter().zip(&got).zip(&again) {
            let error = nmse(got, want);
            assert!(error <= TOLERANCE, "{case:?}: {name} has an error of {error:e}");
            assert!(got.iter().map(|x| x.to_bits()).eq(again.iter().map(|x| x.to_bits())), "{case:?}: {name}");
        }
    }
}

#[test]
fn products_in_bf16_are_near_under_every_schedule() {
    for schedule in [Schedule::Forward, Schedule::Backward, Schedule::Warps, Schedule::Shuffled(1)] {
        let device = match Emulated::new(schedule) {
            Ok(device) => device,
            Err(peft_kernels::Error::Unavailable { .. }) => return,
            Err(e) => panic!("{e}"),
        };
        let be = Cuda::new(device).expect("memory for a test").with_precision(Precision::Bf16);
        near(&be, linear::gemm().into_iter().skip(4).take(36));
        near(&be, linear::linear().into_iter().step_by(7).take(11));
    }
}
