//! Gradients that no other program wrote references for, against differences of the loss itself: whole models,
//! and DoRA with dropout.

use crate::tiny::{FAMILIES, checkpoint, cpu, decoder, examples, plan};
use peft_kernels::Backend;
use peft_kernels::cpu::Cpu;
use peft_models::decoder::{Activations, Batch, Decoder};
use peft_models::train::batch_of;
use peft_plan::order::SplitMix;

/// How far a tensor is moved, relative to its own size.
const STEP: f64 = 4e-3;
/// The loss is a sum in f32, so differences of it are only good to a few parts in a thousand.
const TOLERANCE: f64 = 1e-2;

fn loss(decoder: &mut Decoder<Cpu>, acts: &mut Activations<Cpu>, batch: &Batch) -> f64 {
    decoder.train_pass(acts, batch, 1.0, (5, 9)).expect("a pass").total_loss()
}

/// Move every tensor along a direction of its own, and compare the slope of the loss with the gradient's.
/// `holds_norm`: the norm of DoRA takes no gradient, so it must not move with A and B.
fn check(name: &str, decoder: &mut Decoder<Cpu>, batch: &Batch, holds_norm: bool) {
    let be = decoder.be.clone();
    let mut acts = decoder.activations(false).expect("activations");
    for p in decoder.params_mut() {
        p.zero_grad(&be).expect("zeroed");
    }
    loss(decoder, &mut acts, batch);
    let gradients: Vec<Vec<f32>> = decoder
        .params_mut()
        .into_iter()
        .map(|p| be.download(p.grad().expect("trained")).expect("downloaded"))
        .collect();
    let mut random = SplitMix::new(11);
    let (mut seen, mut wrong) = (0, Vec::new());
    for (at, gradient) in gradients.iter().enumerate() {
        let tensor = decoder.params_mut()[at].name.clone();
        let values = be.download(&decoder.params_mut()[at].value).expect("downloaded");
        let size = (values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / values.len() as f64).sqrt();
        // Half along the gradient, half at random: steep enough to measure, and not blind to single elements.
        let slope = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        let unit = |g: f32| f64::from(g) / slope * (values.len() as f64).sqrt();
        let direction: Vec<f64> = gradient.iter().map(|g| unit(*g) + random.unit() * 2.0 - 1.0).collect();
        let h = STEP * size.max(1e-3);
        let mut at_distance = |h: f64| {
            let moved: Vec<f32> = values.iter().zip(&direction).map(|(v, d)| (f64::from(*v) + h * d) as f32).collect();
            be.upload(&mut decoder.params_mut()[at].value, &moved).expect("the same shape");
            if !holds_norm || tensor.contains("magnitude") {
                decoder.prepare().expect("prepared");
            }
            loss(decoder, &mut acts, batch)
        };
        let mut slope_over = |h: f64| (at_distance(h) - at_distance(-h)) / (2.0 * h);
        // Two distances, so that the curvature's curvature falls out (Richardson).
        let measured = (4.0 * slope_over(h / 2.0) - slope_over(h)) / 3.0;
        at_distance(0.0);
        let computed: f64 = gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * d).sum();
        assert!(slope > 0.0, "{name}: {tensor} has no gradient");
        if (measured - computed).abs() > TOLERANCE * computed.abs() {
            wrong.push(format!("{tensor}: the loss says {measured}, the gradient {computed}"));
        }
        seen += 1;
    }
    assert!(wrong.is_empty(), "{name}: {} of {seen}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn whole_models_have_the_gradients_of_their_loss() {
    let be = cpu();
    for family in FAMILIES {
        let checkpoint = checkpoint(family);
        let rows = examples(checkpoint.spec().vocab_size, 4);
        let plan = plan(checkpoint.spec(), &rows, &["adapter.method=full"]);
        let mut decoder = decoder(&be, &checkpoint, &plan);
        let trained: u64 = decoder.params_mut().iter().map(|p| p.value.len() as u64).sum();
        assert_eq!(trained, checkpoint.spec().parameters(), "{family}: everything is trained");
        check(family, &mut decoder, &batch_of(&rows, &[0, 1, 2, 3]), false);
    }
}

#[test]
fn adapters_with_dropout_have_the_gradients_of_the_masked_loss() {
    let be = cpu();
    for family in ["llama-tied", "qwen2", "phi3", "gemma2"] {
        for method in ["lora", "dora", "qdora"] {
            let checkpoint = checkpoint(family);
            let rows = examples(checkpoint.spec().vocab_size, 3);
            let settings = [format!("adapter.method={method}"), "adapter.dropout=0.4".to_owned()];
            let plan = plan(checkpoint.spec(), &rows, &settings.each_ref().map(String::as_str));
            let mut decoder = decoder(&be, &checkpoint, &plan);
            check(&format!("{family}, {method}"), &mut decoder, &batch_of(&rows, &[0, 1, 2]), true);
        }
    }
}
