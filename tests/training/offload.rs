//! What becomes of the inputs of blocks between the way forward and the way back (kept, computed from again, or in the
//! computer's memory meanwhile), and of weights between their products (decoded, held decoded, decoded ahead). The same
//! bits, however late copies or kernels are (issue 8, 2).

use crate::graphs::{beside_driver, card, passes};
use crate::tiny::{checkpoint, decoder, examples, plan, values};
use peft_kernels::Backend;
use peft_kernels::cuda::Precision;
use peft_models::train::optimizer_step;

/// Blocks of the model, as many of them as a ring leaves, and tokens of its longest micro-batch.
const FAMILY: &str = "gemma3";
const MOST: usize = 4;
const TOKENS: usize = 40;

/// What is kept of a forward pass, and of weights.
#[derive(Clone, Copy, Debug, Default)]
struct Policy {
    /// Layers that are not computed again; `None`: none is.
    kept: Option<usize>,
    offloaded: usize,
    /// Layers whose weights are held decoded.
    held: usize,
    /// Weights of others are decoded ahead.
    ahead: bool,
    without_graphs: bool,
}

/// Losses and norms of two steps, and what was trained.
fn bits(policy: Policy) -> Vec<u64> {
    let Policy { kept, offloaded, held, ahead, without_graphs } = policy;
    let be = card(!without_graphs).with_precision(Precision::Bf16);
    be.decode_ahead(ahead.then_some(1)).expect("lanes");
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
    decoder.hold_decoded(held).expect("memory");
    let batches = vec![vec![0, 1], vec![2, 3]];
    let steps = (1..=2).map(|step| {
        let done = optimizer_step(&mut decoder, &mut acts, &rows, &batches, &plan, step, 1e-3).expect("a step");
        [done.loss.to_bits(), done.gradient_norm.to_bits()]
    });
    let mut bits: Vec<u64> = steps.collect::<Vec<_>>().concat();
    // Four passes through 6 layers of 7 weights, forward and back; the first finds nothing.
    assert!((be.decoded_ahead() > 100) == ahead, "{policy:?}: {}", be.decoded_ahead());
    bits.extend(values(&mut decoder).iter().map(|w| u64::from(w.to_bits())));
    bits
}

#[test]
fn every_policy_gives_the_same_bits_however_late_copies_and_kernels_are() {
    // What nothing delays lies between the two.
    for late in ["copies", "kernels"] {
        passes("offload::same_bits", &[("EMULATED_LATE", late), ("EMULATED_SCHEDULE", "3")]);
    }
}

#[test]
#[ignore = "the second half of the test above it"]
fn same_bits() {
    let plain = Policy::default();
    let kept = bits(plain);
    for policy in [
        Policy { kept: Some(0), offloaded: MOST, ..plain },
        Policy { offloaded: MOST, without_graphs: true, ..plain },
        // More than a ring leaves is as many as it leaves.
        Policy { kept: Some(2), offloaded: 100, held: 2, ahead: true, ..plain },
        Policy { held: 6, ..plain },
        Policy { kept: Some(0), ahead: true, without_graphs: true, ..plain },
    ] {
        assert!(bits(policy) == kept, "{policy:?}");
    }
}

/// The tests above see it where any lane does not wait for the others: computing for copies or for what is decoded ahead,
/// these for what is computed.
#[test]
fn a_lane_that_does_not_wait_changes_bits() {
    for (name, late, deaf) in [
        ("offload::offloaded", "copies", "0"),
        ("offload::offloaded", "kernels", "1"),
        ("offload::offloaded", "kernels", "2"),
        ("offload::ahead", "copies", "0"),
        ("offload::ahead", "kernels", "3"),
    ] {
        let card = [("EMULATED_LATE", late), ("EMULATED_DEAF", deaf)];
        if let Some((has_passed, all)) = beside_driver(name, &card) {
            assert!(!has_passed && all.contains("other bits"), "{name}, {card:?}\n{all}");
        }
    }
}

#[test]
#[ignore = "the second half of the test above it"]
fn offloaded() {
    let plain = Policy::default();
    assert!(bits(plain) == bits(Policy { kept: Some(0), offloaded: MOST, ..plain }), "other bits");
}

#[test]
#[ignore = "the second half of the test above it"]
fn ahead() {
    let plain = Policy::default();
    assert!(bits(plain) == bits(Policy { ahead: true, ..plain }), "other bits");
}

#[test]
fn memory_that_cannot_be_pinned_is_a_reason_and_gives_back_what_was() {
    passes("offload::is_refused", &[("EMULATED_PINNED", "25000")]);
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

/// Each wait of a slab by itself: passes over a model wait more than once for the same thing.
#[test]
fn a_slab_leaves_and_comes_back_in_its_turn() {
    for late in ["copies", "kernels"] {
        passes("offload::in_turn", &[("EMULATED_LATE", late)]);
    }
}

#[test]
#[ignore = "the second half of the test above it"]
fn in_turn() {
    let be = card(true);
    let [one, two] = [1.0, 2.0].map(|value| vec![value; 64]);
    let mut x = be.tensor(4, 16, &one).expect("memory");
    let mut y = be.zeros(4, 16).expect("memory");
    let slabs = be.aside(2, 256).expect("pinned memory");
    // It comes back once it has left.
    slabs.put(0, &x).expect("copied");
    slabs.fetch(0, &mut y).expect("copied");
    slabs.arrive(0).expect("an event");
    assert_eq!(be.download(&y).expect("numbers"), one, "fetched before it was there");
    // What is written from here on comes after all copies.
    slabs.put(1, &x).expect("copied");
    slabs.join().expect("events");
    be.fill(x.view_mut(), 2.0).expect("shapes fit");
    assert_eq!(slabs.read(1, 64).expect("numbers"), one, "written before it had left");
    slabs.put(0, &x).expect("copied");
    slabs.fetch(0, &mut y).expect("copied");
    slabs.join().expect("events");
    be.scale(y.view_mut(), 1.0).expect("shapes fit");
    assert_eq!(be.download(&y).expect("numbers"), two, "read before it was there");
    // Nothing is given back under a copy: the driver would still hold it.
    slabs.put(1, &x).expect("copied");
}
