//! Optimizer steps: however examples are spread over micro-batches and rows, and whatever is kept of a forward
//! pass, the steps are the same.

use crate::tiny::{checkpoint, cpu, decoder, examples, plan, relative, values};
use peft_models::train::{StepOutcome, optimizer_step};
use peft_plan::TrainingPlan;
use peft_plan::order::{StepBatches, epoch_steps};

const STEPS: u64 = 5;

/// Train `family` by `settings` for five steps over `batches`; losses and norms, and the weights.
fn train(
    family: &str,
    settings: &[&str],
    count: usize,
    batches: &dyn Fn(&TrainingPlan, &[usize]) -> StepBatches,
) -> (Vec<StepOutcome>, Vec<f32>) {
    let be = cpu();
    let checkpoint = checkpoint(family);
    let rows = examples(checkpoint.spec().vocab_size, count);
    let plan = plan(checkpoint.spec(), &rows, settings);
    let lengths: Vec<usize> = rows.iter().map(|r| r.ids.len()).collect();
    let batches = batches(&plan, &lengths);
    let mut decoder = decoder(&be, &checkpoint, &plan);
    let mut acts = decoder.activations_in(plan.kept_sets(decoder.layers.len())).expect("activations");
    let outcomes = (1..=STEPS)
        .map(|step| optimizer_step(&mut decoder, &mut acts, &rows, &batches, &plan, step, 1e-3).expect("a step"))
        .collect();
    (outcomes, values(&mut decoder))
}

#[test]
fn micro_batches_of_eight_four_two_and_one_take_the_same_steps() {
    let split = |size: usize| {
        train("llama", &[], 8, &move |_, _| (0..8).collect::<Vec<_>>().chunks(size).map(<[usize]>::to_vec).collect())
    };
    let (whole, weights) = split(8);
    for size in [4, 2, 1] {
        let (parts, split_weights) = split(size);
        for (step, (a, b)) in whole.iter().zip(&parts).enumerate() {
            let error = (a.loss - b.loss).abs() / a.loss;
            assert!(error < 1e-6, "{size}, step {}: {} {}", step + 1, a.loss, b.loss);
            assert!((a.gradient_norm - b.gradient_norm).abs() < 1e-5 * a.gradient_norm, "{size}: {a:?} {b:?}");
            assert_eq!((a.tokens, a.computed_tokens), (b.tokens, b.computed_tokens));
        }
        let error = relative(&split_weights, &weights);
        assert!(error < 1e-4, "{size}: the weights are {error} apart");
    }
    assert!(whole[4].loss < whole[0].loss, "nothing is learnt: {whole:?}");
}

#[test]
fn a_packed_epoch_takes_the_step_of_an_unpacked_one() {
    for family in ["mistral", "phi3", "gemma3"] {
        let all = |settings: &[&str]| {
            train(family, settings, 9, &|plan, lengths| {
                let mut steps = epoch_steps(lengths, &plan.order(), 0);
                assert_eq!(steps.len(), 1, "all examples in one step");
                steps.remove(0)
            })
        };
        let common = ["training.gradient_accumulation=100", "training.micro_batch_size=1"];
        let packed = all(&[&common[..], &["training.packing=true", "training.max_sequence_length=40"]].concat());
        let alone = all(&[&common[..], &["training.packing=false", "training.max_sequence_length=40"]].concat());
        for (a, b) in packed.0.iter().zip(&alone.0) {
            assert!((a.loss - b.loss).abs() < 1e-5 * a.loss, "{family}: {a:?} {b:?}");
            assert_eq!(a.tokens, b.tokens, "{family}");
        }
        assert!(relative(&packed.1, &alone.1) < 1e-4, "{family}");
    }
}

#[test]
fn recomputed_runs_have_the_same_bits_for_every_method() {
    for (family, method, dropout) in [
        ("llama", "lora", "0.3"),
        ("gemma3", "lora", "0.3"),
        ("gemma2", "dora", "0.2"),
        ("qwen3", "qdora", "0.2"),
        ("mistral", "qlora", "0.1"),
        ("llama-tied", "dora", "0.5"),
        ("qwen2", "full", "0"),
        ("gemma3", "full", "0"),
    ] {
        let run = |recompute: bool, kept: usize| {
            let settings = [
                format!("adapter.method={method}"),
                format!("adapter.dropout={dropout}"),
                format!("training.activation_checkpointing={recompute}"),
                format!("training.kept_layers={kept}"),
            ];
            train(family, &settings.each_ref().map(String::as_str), 5, &|_, _| vec![vec![0, 1, 2], vec![3, 4]])
        };
        let (kept, recomputed, some) = (run(false, 0), run(true, 0), run(true, 1));
        let bits = |run: &(Vec<StepOutcome>, Vec<f32>)| -> Vec<u64> {
            let losses = run.0.iter().flat_map(|o| [o.loss.to_bits(), o.gradient_norm.to_bits()]);
            losses.chain(run.1.iter().map(|w| u64::from(w.to_bits()))).collect()
        };
        assert!(bits(&kept) == bits(&recomputed), "{family}, {method}: {:?} {:?}", kept.0, recomputed.0);
        assert!(bits(&kept) == bits(&some), "{family}, {method}: {:?} {:?}", kept.0, some.0);
        assert!(kept.1.iter().all(|w| w.is_finite()), "{family}, {method}");
    }
}

#[test]
fn dropout_is_a_function_of_seed_and_step_alone() {
    let run = |settings: &[&str]| train("llama", settings, 4, &|_, _| vec![vec![0, 1], vec![2, 3]]);
    let losses = |settings: &[&str]| -> Vec<u64> { run(settings).0.iter().map(|o| o.loss.to_bits()).collect() };
    let plain = losses(&[]);
    let dropped = losses(&["adapter.dropout=0.5"]);
    assert_ne!(plain[0], dropped[0], "dropout did nothing");
    assert_eq!(dropped, losses(&["adapter.dropout=0.5"]));
    assert_ne!(dropped, losses(&["adapter.dropout=0.5", "training.seed=43"]), "every seed has masks of its own");
    // The rate is zero: what changes from step to step is the mask alone.
    let be = cpu();
    let checkpoint = checkpoint("llama");
    let rows = examples(320, 2);
    let plan = plan(checkpoint.spec(), &rows, &["adapter.dropout=0.5", "training.weight_decay=0"]);
    let mut decoder = decoder(&be, &checkpoint, &plan);
    let mut acts = decoder.activations(false).expect("activations");
    let mut step = |at: u64, batches: &[Vec<usize>]| {
        optimizer_step(&mut decoder, &mut acts, &rows, &batches.to_vec(), &plan, at, 0.0).expect("a step").loss
    };
    let (first, second) = (step(1, &[vec![0]]), step(2, &[vec![0]]));
    assert!((first - second).abs() > 1e-6, "every step has a mask of its own: {first} {second}");
    assert_eq!(first.to_bits(), step(1, &[vec![0]]).to_bits());
    let twice = step(1, &[vec![0], vec![0]]);
    assert!((twice - first).abs() > 1e-6, "every micro-batch has a mask of its own");
}
