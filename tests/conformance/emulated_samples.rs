//! A part of every operation's cases on the emulated GPU, another part under each schedule. All of them take a minute for
//! each schedule: `cargo test -p peft_tests --test conformance emulated -- --ignored`.

use crate::harness::conforms;
use crate::{
    adapted, attention, columns, dropout, embed, gated, gated_clamped, linear, loss, norm, optim, refusals, rope, rows,
    sample,
};
use peft_kernels::cuda::Cuda;
use peft_tests::emulated::{Emulated, Schedule, gpu};

/// Every 12th case, from another one on for each schedule.
const EVERY: usize = 12;

fn some<C>(cases: Vec<C>, schedule: usize) -> Vec<C> {
    let first = schedule * EVERY / 4 % cases.len().max(1);
    cases.into_iter().skip(first).step_by(EVERY).collect()
}

fn under(schedule: Schedule, number: usize, also: impl Fn(&Cuda<Emulated>)) {
    crate::with(gpu(schedule), |be| {
        conforms(be, &some(linear::linear(), number));
        conforms(be, &some(linear::answers(), number));
        conforms(be, &some(linear::gemm(), number));
        conforms(be, &some(norm::norm(), number));
        conforms(be, &norm::of_sums()[number..=number + 2]);
        conforms(be, &adapted::modules(false)[2 * number..=2 * number + 1]);
        conforms(be, &some(rope::rope(), number));
        conforms(be, &some(attention::attention(), number));
        conforms(be, &some(attention::cached(), number));
        conforms(be, &some(gated::gated(), number));
        conforms(be, &some(gated_clamped::gated(), number));
        conforms(be, &some(embed::embed(), number));
        conforms(be, &some(loss::head(), number));
        conforms(be, &some(columns::columns(), number));
        conforms(be, &some(rows::rows(), number));
        conforms(be, &some(columns::row_squares(), number));
        conforms(be, &some(columns::dora(), number));
        conforms(be, &some(dropout::dropout(), number));
        conforms(be, &some(dropout::noise_cases(), number));
        conforms(be, &some(optim::steps(), number));
        conforms(be, &some(optim::steps_8bit(), number));
        conforms(be, &some(sample::cases(), number));
        also(be);
    });
}

#[test]
fn forward() {
    under(Schedule::Forward, 0, |be| {
        refusals::wrong_outputs(be);
        refusals::wrong_blocks(be);
        refusals::wrong_attention(be);
        refusals::damaged_weights(be);
        refusals::too_much_memory(be);
        optim::agrees_with_hand_computation(be);
        optim::bad_numbers_show(be);
        dropout::mask_follows_the_counter(be);
        dropout::noise_is_uniform(be);
        attention::cache_equals_whole(be);
    });
}

#[test]
fn backward() {
    under(Schedule::Backward, 1, |_| ());
}

#[test]
fn warps() {
    under(Schedule::Warps, 2, |_| ());
}

#[test]
fn shuffled() {
    under(Schedule::Shuffled(1), 3, |_| ());
}
