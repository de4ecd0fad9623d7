//! What becomes of the inputs of blocks between the way forward and the way back: kept, computed from again, or in the
//! computer's memory meanwhile. The same bits, however late copies or kernels are (issue 8, 2).

use crate::graphs::{beside_driver, card};
use crate::tiny::{checkpoint, decoder, examples, plan, values};
use peft_kernels::cuda::Precision;
use peft_models::train::optimizer_step;

/// Blocks of the model, as many of them as a ring leaves, and tokens of its longest micro-batch.
const FAMILY: &str = "gemma3";
const MOST: usize = 4;
const TOKENS: usize = 40;

/// Losses and norms of two steps, and what was trained.
fn bits(kept: Option<usize>, offloaded: usize, graphs: bool) -> Vec<u64> {
    let be = card(graphs).with_precision(Precision::Bf16);
    let checkpoint = checkpoint(FAMILY);
    let rows = examples(checkpoint.spec().vocab_size, 4);
    let settings = [
        "adapter.method=qlora".to_owned(),
        "adapter.dropout=0.1".to_owned(),
        format!("training.activation_checkpointing={}", kept.is_some()),
        format!("training.kept_layers={}", kept.unwrap_or(0)),
    ];
    let plan = plan(checkpoint.spec(), &rows, &settings.each_ref().map(String::as_str));
    let mut decoder = decoder(&be, &checkpoint, &plan);
    let mut acts = decoder.activations_in(plan.kept_sets(decoder.layers.len())).expect("activations");
    acts.put_away(&be, offloaded, TOKENS * checkpoint.spec().hidden_size * 4).expect("pinned memory");
    assert_eq!(acts.away(), offloaded.min(MOST));
    let batches = vec![vec![0, 1], vec![2, 3]];
    let steps = (1..=2).map(|step| {
        let done = optimizer_step(&mut decoder, &mut acts, &rows, &batches, &plan, step, 1e-3).expect("a step");
        [done.loss.to_bits(), done.gradient_norm.to_bits()]
    });
    let mut bits: Vec<u64> = steps.collect::<Vec<_>>().concat();
    bits.extend(values(&mut decoder).iter().map(|w| u64::from(w.to_bits())));
    bits
}

#[test]
fn kept_recomputed_and_offloaded_inputs_give_the_same_bits_however_late_copies_are() {
    for late in ["", "copies", "kernels"] {
        beside_driver("offload::same_bits", &[("EMULATED_LATE", late), ("EMULATED_SCHEDULE", "3")]);
    }
}

#[test]
#[ignore = "the second half of the test above it"]
fn same_bits() {
    let kept = bits(None, 0, true);
    for (layers, offloaded, graphs) in
        [(Some(0), 0, true), (Some(0), MOST, true), (None, MOST, false), (Some(2), 2, true)]
    {
        assert!(bits(layers, offloaded, graphs) == kept, "{layers:?} kept, {offloaded} offloaded, graphs {graphs}");
    }
    // More than a ring leaves is as many as it leaves.
    assert!(bits(Some(0), 100, false) == kept);
}

#[test]
fn memory_that_cannot_be_pinned_is_a_reason_and_gives_back_what_was() {
    beside_driver("offload::is_refused", &[("EMULATED_PINNED", "25000")]);
}

#[test]
#[ignore = "the second half of the test above it"]
fn is_refused() {
    let be = card(true);
    let checkpoint = checkpoint(FAMILY);
    let rows = examples(checkpoint.spec().vocab_size, 4);
    let decoder = decoder(&be, &checkpoint, &plan(checkpoint.spec(), &rows, &[]));
    let mut acts = decoder.activations_in(1).expect("activations");
    let refused = acts.put_away(&be, MOST, TOKENS * 64 * 4).expect_err("there is room for two");
    assert!(refused.to_string().contains("no memory for 10240 bytes"), "{refused}");
    assert_eq!(acts.away(), 0);
    acts.put_away(&be, 2, TOKENS * 64 * 4).expect("what was taken before is there again");
}
