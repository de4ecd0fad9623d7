//! A pass whose positions have weights: with equal weights it is the ordinary pass, whatever is trained.

use crate::tiny::{checkpoint, cpu, decoder, examples, plan, relative};
use peft_kernels::Backend;
use peft_kernels::cpu::Cpu;
use peft_models::decoder::{Activations, Batch, Decoder};
use peft_models::train::batch_of;

fn gradients(
    be: &Cpu,
    decoder: &mut Decoder<Cpu>,
    run: impl FnOnce(&mut Decoder<Cpu>, &mut Activations<Cpu>),
) -> Vec<f32> {
    let mut acts = decoder.activations(false).expect("activations");
    for p in decoder.params_mut() {
        p.zero_grad(be).expect("zeroed");
    }
    run(decoder, &mut acts);
    let grads = decoder.params_mut().into_iter().filter_map(|p| p.grad().map(|g| be.download(g).expect("downloaded")));
    grads.flatten().collect()
}

#[test]
fn weights_scale_what_each_sequence_adds_for_every_method() {
    let be = cpu();
    for (family, settings) in [
        ("llama", &["adapter.method=lora"][..]),
        ("gemma2", &["adapter.method=lora", "adapter.use_rslora=true", "adapter.dropout=0.3"]),
        ("qwen3", &["adapter.method=dora"]),
        ("mistral", &["adapter.method=qlora"]),
        ("gemma3", &["adapter.method=qdora"]),
        // The head is trained: its own gradient has the weights too.
        ("llama-tied", &["adapter.method=full"]),
        ("qwen2", &["adapter.method=full"]),
    ] {
        let checkpoint = checkpoint(family);
        let rows = examples(checkpoint.spec().vocab_size, 3);
        let plan = plan(checkpoint.spec(), &rows, settings);
        let mut decoder = decoder(&be, &checkpoint, &plan);
        let batch = batch_of(&rows, &[0, 1, 2]);
        let weights = [0.7_f32, -1.3, 0.0];
        let mut of_rows = Vec::new();
        for (segment, weight) in batch.segments.iter().zip(weights) {
            of_rows.resize(of_rows.len() + segment.len, weight);
        }
        let weighted = gradients(&be, &mut decoder, |decoder, acts| {
            decoder.weighted_pass(acts, &batch, (1, 2), |_| of_rows).expect("a pass");
        });
        // The same, one sequence at a time: every other one has no targets, so that dropout is the same.
        let mut sum = vec![0.0; weighted.len()];
        for (at, weight) in weights.into_iter().enumerate() {
            let mut only = Batch { ..batch.clone() };
            for (other, segment) in batch.segments.iter().enumerate().filter(|(other, _)| *other != at) {
                only.targets[segment.start..segment.start + segment.len].fill(-100);
                assert_ne!(other, at);
            }
            let part = gradients(&be, &mut decoder, |decoder, acts| {
                decoder.train_pass(acts, &only, weight, (1, 2)).expect("a pass");
            });
            sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
        let error = relative(&weighted, &sum);
        assert!(error < 2e-6, "{family}, {settings:?}: {error}");
        assert!(sum.iter().any(|g| *g != 0.0), "{family}");
    }
}
