//! Answers: where they end, and that chance repeats.

use crate::tiny::{checkpoint, cpu, decoder, examples, plan};
use peft_models::decoder::{BuildOptions, build};
use peft_models::generate::{GenerateOptions, Generated, Halt, Prompt, Sampling, StopReason, generate};
use std::ops::ControlFlow;

fn options(max_new_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_new_tokens, ..GenerateOptions::default() }
}

fn answer(family: &str, prompts: &[Prompt], options: &GenerateOptions) -> Generated {
    let mut decoder = build(&cpu(), &checkpoint(family), &BuildOptions::default()).expect("built");
    let mut acts = decoder.activations(true).expect("activations");
    generate(&mut decoder, &mut acts, prompts, options, &mut |_, _| ControlFlow::Continue(())).expect("answers")
}

fn prompt(length: u32) -> Prompt {
    Prompt { ids: (0..length).map(|i| 3 + i * 7 % 300).collect(), adapter: false }
}

#[test]
fn an_answer_ends_before_its_stop_token() {
    let whole = answer("llama", &[prompt(9)], &options(12)).answers.remove(0);
    assert_eq!((whole.ids.len(), whole.stop), (12, StopReason::Length));
    let stop = whole.ids[5];
    let first = whole.ids.iter().position(|id| *id == stop).expect("there");
    let stopped =
        answer("llama", &[prompt(9)], &GenerateOptions { stop_ids: vec![stop], ..options(12) }).answers.remove(0);
    assert_eq!((&stopped.ids[..], stopped.stop), (&whole.ids[..first], StopReason::Stop));
    let none = answer("llama", &[prompt(9)], &options(0)).answers.remove(0);
    assert_eq!((none.ids.len(), none.stop), (0, StopReason::Length));
}

#[test]
fn an_answer_ends_where_the_context_does() {
    // phi3 knows 56 positions; what is said after the last of them is not read any more.
    let generated = answer("phi3", &[prompt(50), prompt(55)], &options(100));
    let lengths: Vec<usize> = generated.answers.iter().map(|a| a.ids.len()).collect();
    assert_eq!(lengths, [7, 2]);
    assert!(generated.answers.iter().all(|a| a.stop == StopReason::Length));
    let mut decoder = build(&cpu(), &checkpoint("phi3"), &BuildOptions::default()).expect("built");
    let mut acts = decoder.activations(true).expect("activations");
    for ids in [vec![], vec![3; 56], vec![3; 1000]] {
        let prompts = [Prompt { ids, adapter: false }];
        let refused = generate(&mut decoder, &mut acts, &prompts, &options(1), &mut |_, _| ControlFlow::Continue(()));
        assert_eq!(refused.err().map(|fault| fault.code), Some("PS-CFG-001"));
    }
}

#[test]
fn a_seed_repeats_its_answer_alone_and_beside_others() {
    let sampled = |seed: u64, prompts: &[Prompt]| {
        let sampling = Sampling { temperature: 1.3, top_p: 0.95, seed, ..Sampling::default() };
        answer("qwen3", prompts, &GenerateOptions { sampling, ..options(16) }).answers.remove(0).ids
    };
    let one = sampled(1, &[prompt(8)]);
    assert_eq!(one, sampled(1, &[prompt(8)]));
    assert_eq!(one, sampled(1, &[prompt(8), prompt(11), prompt(5)]));
    assert_ne!(one, sampled(2, &[prompt(8)]));
}

#[test]
fn whoever_has_heard_enough_ends_all_answers_at_once() {
    let be = cpu();
    let checkpoint = checkpoint("llama");
    let rows = examples(320, 1);
    let mut decoder = decoder(&be, &checkpoint, &plan(checkpoint.spec(), &rows, &[]));
    let mut acts = decoder.activations(true).expect("activations");
    let prompts = [prompt(6), Prompt { adapter: true, ..prompt(6) }];
    let mut heard = 0;
    let mut on_token = |_: usize, _: u32| {
        heard += 1;
        if heard == 6 { ControlFlow::Break(Halt::All) } else { ControlFlow::Continue(()) }
    };
    let generated = generate(&mut decoder, &mut acts, &prompts, &options(50), &mut on_token).expect("answers");
    assert_eq!(heard, 6);
    assert!(generated.answers.iter().all(|a| a.ids.len() == 3 && a.stop == StopReason::Cancelled));
}
