//! What is decoded beside an answer, what the cache holds and which adapter was there before change nothing.

use crate::starter;
use crate::tiny;
use peft_models::base::BaseModel;
use peft_models::decoder::{BuildOptions, build};
use peft_models::engine::{Engine, Session};
use peft_models::generate::{GenerateOptions, Halt, Prompt, Sampling, StopReason};
use peft_plan::order::SplitMix;
use std::ops::ControlFlow;

fn warm(seed: u64, max_new_tokens: usize) -> GenerateOptions {
    let sampling = Sampling { temperature: 1.1, top_p: 0.97, top_k: 60, seed, ..Sampling::default() };
    GenerateOptions { sampling, max_new_tokens, ..GenerateOptions::default() }
}

fn some_ids(length: usize, vocabulary: usize, seed: u64) -> Vec<u32> {
    let mut random = SplitMix::new(seed);
    (0..length).map(|_| random.below(vocabulary) as u32).collect()
}

fn open(base: &BaseModel) -> Box<dyn Session> {
    starter::session(base, None)
}

#[test]
fn same_seed_same_answer_whatever_is_decoded_beside_it() {
    for family in ["llama", "phi3", "gemma3", "qwen3"] {
        let base = tiny::base(family);
        let adapter = starter::adapter(base.spec(), 3, 5, family == "qwen3");
        let vocabulary = base.spec().vocab_size;
        // 1 to 4 rows take another path through the products than more; 3 rows beside 11 must not.
        let prompts: Vec<Prompt> = [3, 11, 1, 17, 4, 9, 12]
            .iter()
            .enumerate()
            .map(|(i, &n)| Prompt { ids: some_ids(n, vocabulary, i as u64), adapter: i % 3 == 1 })
            .collect();
        let options = warm(7, 14);
        let mut session = starter::session(&base, Some(&adapter));
        let together = starter::answers(session.as_mut(), &prompts, &options);
        for (prompt, answer) in prompts.iter().zip(&together) {
            let alone = starter::answers(
                starter::session(&base, Some(&adapter)).as_mut(),
                std::slice::from_ref(prompt),
                &options,
            );
            assert_eq!(&alone[0], answer, "{family}, {} tokens", prompt.ids.len());
        }
    }
}

#[test]
fn the_logits_beside_others_are_those_alone_to_the_bit() {
    // Tokens could agree where sums do not: here the sums themselves.
    let checkpoint = tiny::checkpoint("llama");
    let mut decoder = build(&tiny::cpu(), &checkpoint, &BuildOptions::default()).expect("built");
    let mut acts = decoder.activations(true).expect("activations");
    let mut row = |count: usize| -> Vec<u32> {
        let mut cache = decoder.kv_cache(64).expect("a cache");
        let mut logits = Vec::new();
        for past in 0..5 {
            let tokens: Vec<u32> = (0..count).map(|i| (10 + i * 3 + past) as u32).collect();
            let segments: Vec<_> =
                (0..count).map(|i| peft_kernels::CachedSegment { start: i, len: 1, slot: i * 16, past }).collect();
            let totals = vec![16; count];
            logits = decoder
                .continue_cached(&mut acts, &mut cache, &tokens, &segments, &totals, count..count)
                .expect("a pass");
        }
        logits[..320].iter().map(|z| z.to_bits()).collect()
    };
    let alone = row(1);
    for count in 2..=peft_models::generate::TOGETHER {
        assert!(row(count) == alone, "{count} rows");
    }
}

#[test]
fn the_base_column_equals_a_base_only_answer_b9() {
    let base = starter::base();
    let adapter = starter::adapter(base.spec(), 8, 3, false);
    for question in ["Who are you?", "What is two plus three?"] {
        for seed in 0..3 {
            let options = GenerateOptions { stop_ids: starter::stop_ids(&base), ..warm(seed, 24) };
            let ask = |adapter: bool| starter::prompt(&base, question, adapter);
            let mut compared = starter::session(&base, Some(&adapter));
            let both = starter::answers(compared.as_mut(), &[ask(false), ask(true)], &options);
            let alone = starter::answers(open(&base).as_mut(), &[ask(false)], &options);
            let tuned = starter::answers(starter::session(&base, Some(&adapter)).as_mut(), &[ask(true)], &options);
            assert_eq!(both[0], alone[0], "{question} {seed}");
            assert_eq!(both[1], tuned[0], "{question} {seed}");
            assert_ne!(both[0], both[1], "the adapter changed nothing");
        }
    }
}

/// Asks with a growing conversation; returns what was reused each time.
fn talk(session: &mut dyn Session, turns: usize, options: &GenerateOptions, step: usize) -> Vec<(usize, Vec<u32>)> {
    let mut ids = some_ids(step, 300, 1);
    let mut told = Vec::new();
    for turn in 0..turns {
        let prompt = Prompt { ids: ids.clone(), adapter: false };
        let mut quiet = |_: usize, _: u32| ControlFlow::Continue(());
        let generated = session.generate(&[prompt], options, &mut quiet).expect("an answer");
        let answer = &generated.answers[0];
        told.push((answer.reused_tokens, answer.ids.clone()));
        ids.extend(&answer.ids);
        ids.extend(some_ids(step, 300, 100 + turn as u64));
    }
    told
}

#[test]
fn a_turn_reads_only_what_is_new_and_says_the_same() {
    for family in ["llama", "gemma3", "mistral"] {
        let base = tiny::base(family);
        let options = GenerateOptions { max_new_tokens: 4, ..GenerateOptions::default() };
        let mut session = open(&base);
        let told = talk(session.as_mut(), 4, &options, 6);
        let mut ids = some_ids(6, 300, 1);
        for (turn, (reused, answer)) in told.iter().enumerate() {
            // All but the last token of the last answer, which was chosen and never read.
            let expected = if turn == 0 { 0 } else { ids.len() - 6 - 1 };
            assert_eq!(*reused, expected, "{family}, turn {turn}");
            let fresh =
                starter::answers(open(&base).as_mut(), &[Prompt { ids: ids.clone(), adapter: false }], &options);
            assert_eq!(&fresh[0], answer, "{family}, turn {turn}");
            ids.extend(answer);
            ids.extend(some_ids(6, 300, 100 + turn as u64));
        }
    }
}

#[test]
fn a_conversation_that_was_changed_is_read_again_from_there() {
    let base = tiny::base("llama");
    let options = GenerateOptions { max_new_tokens: 5, ..GenerateOptions::default() };
    let mut session = open(&base);
    let first = Prompt { ids: some_ids(20, 300, 4), adapter: false };
    starter::answers(session.as_mut(), std::slice::from_ref(&first), &options);
    let mut other = first.clone();
    other.ids[12] = (other.ids[12] + 1) % 300;
    let mut quiet = |_: usize, _: u32| ControlFlow::Continue(());
    let again = session.generate(std::slice::from_ref(&other), &options, &mut quiet).expect("an answer");
    assert_eq!(again.answers[0].reused_tokens, 12);
    assert_eq!(again.answers[0].ids, starter::answers(open(&base).as_mut(), &[other], &options)[0]);
    // The same question again: everything but its last token is there.
    let same = session.generate(std::slice::from_ref(&first), &options, &mut quiet).expect("an answer");
    assert_eq!(same.answers[0].reused_tokens, 12);
    let same = session.generate(&[first], &options, &mut quiet).expect("an answer");
    assert_eq!(same.answers[0].reused_tokens, 19);
}

#[test]
fn longrope_does_not_go_on_from_keys_of_the_other_factors() {
    // Its original context ends after 14 tokens; keys before and after it count with other frequencies.
    let base = tiny::base("phi3");
    let options = GenerateOptions { max_new_tokens: 3, ..GenerateOptions::default() };
    let mut session = open(&base);
    let told = talk(session.as_mut(), 4, &options, 5);
    let mut ids = some_ids(5, 300, 1);
    for (turn, (_, answer)) in told.iter().enumerate() {
        let fresh = starter::answers(open(&base).as_mut(), &[Prompt { ids: ids.clone(), adapter: false }], &options);
        assert_eq!(&fresh[0], answer, "turn {turn}");
        ids.extend(answer);
        ids.extend(some_ids(5, 300, 100 + turn as u64));
    }
    // 5, 13, 21 … tokens: the second turn crosses 14 with its answer.
    assert_eq!(told[1].0, 0, "keys with the short factors were used again");
    assert!(told[2].0 > 0);
}

#[test]
fn an_adapter_switches_and_the_base_keeps_its_cache_b8() {
    let base = starter::base();
    let adapters = [
        starter::adapter(base.spec(), 8, 1, false),
        starter::adapter(base.spec(), 8, 2, false),
        starter::adapter(base.spec(), 4, 3, false),
        starter::adapter(base.spec(), 8, 4, true),
        starter::adapter(base.spec(), 8, 5, true),
    ];
    let options = GenerateOptions { stop_ids: starter::stop_ids(&base), ..warm(1, 10) };
    let ask = [starter::prompt(&base, "Who are you?", false), starter::prompt(&base, "Who are you?", true)];
    let mut session = starter::session(&base, Some(&adapters[0]));
    let before = starter::answers(session.as_mut(), &ask, &options);
    // The same shapes, another rank, DoRA, other tensors of it, none, and back.
    let order = [Some(1), Some(2), Some(3), Some(4), None, Some(0), Some(0)];
    for which in order {
        session.switch_adapter(which.map(|i: usize| &adapters[i])).expect("switched");
        let mut quiet = |_: usize, _: u32| ControlFlow::Continue(());
        let generated = session.generate(&ask, &options, &mut quiet).expect("answers");
        let (of_base, tuned) = (&generated.answers[0], &generated.answers[1]);
        assert_eq!(of_base.ids, before[0], "{which:?}");
        assert_eq!((of_base.reused_tokens, tuned.reused_tokens), (ask[0].ids.len() - 1, 0), "{which:?}");
        let fresh = starter::session(&base, which.map(|i| &adapters[i]));
        // A cache that was filled by other passes may differ in the last bits; the answer is read anew here.
        let expected = starter::answers({ fresh }.as_mut(), &ask, &options);
        assert_eq!(tuned.ids, expected[1], "{which:?}");
    }
    let lost = starter::adapter(tiny::base("llama").spec(), 4, 1, false);
    assert_eq!(session.switch_adapter(Some(&lost)).expect_err("another model's").code, "PS-MODEL-005");
    assert_eq!(starter::answers(session.as_mut(), &ask, &options)[1], before[1], "a fault changed something");
}

#[test]
fn a_long_talk_neither_grows_nor_slows_without_bound() {
    let base = starter::base();
    let limit = base.spec().max_positions;
    let mut session = open(&base);
    let options = GenerateOptions { max_new_tokens: 3, ..GenerateOptions::default() };
    let mut ids = some_ids(8, 300, 1);
    for turn in 0..200 {
        let answer = starter::answers(session.as_mut(), &[Prompt { ids: ids.clone(), adapter: false }], &options);
        ids.extend(&answer[0]);
        ids.extend(some_ids(4, 300, turn));
        if ids.len() + 3 > limit {
            ids.drain(..ids.len() - limit / 2);
        }
        assert!(session.cache_tokens() <= limit, "turn {turn}: {} of {limit}", session.cache_tokens());
    }
    session.forget();
    assert_eq!(session.cache_tokens(), 0);
}

#[test]
fn one_answer_can_end_while_the_other_goes_on() {
    let base = tiny::base("llama");
    let options = warm(3, 12);
    let prompts = [9, 9].map(|n| Prompt { ids: some_ids(n, 300, 2), adapter: false });
    let mut heard = [0; 2];
    let mut on_token = |i: usize, _: u32| {
        heard[i] += 1;
        if i == 0 && heard[0] == 4 {
            return ControlFlow::Break(Halt::This(StopReason::StopString));
        }
        ControlFlow::Continue(())
    };
    let generated = open(&base).generate(&prompts, &options, &mut on_token).expect("answers");
    let ends: Vec<_> = generated.answers.iter().map(|a| (a.ids.len(), a.stop)).collect();
    assert_eq!(ends, [(4, StopReason::StopString), (12, StopReason::Length)]);
    assert_eq!(generated.answers[0].ids, generated.answers[1].ids[..4]);
}

#[test]
fn impossible_prompts_and_settings_are_refused_and_the_session_lives_on() {
    let base = starter::base();
    let limit = base.spec().max_positions;
    let mut session = open(&base);
    let good = Prompt { ids: vec![1, 2, 3], adapter: false };
    let mut quiet = |_: usize, _: u32| ControlFlow::Continue(());
    for (ids, code) in [
        (vec![], "PS-CFG-001"),
        (vec![1; limit], "PS-CFG-001"),
        (vec![1; limit + 7], "PS-CFG-001"),
        (vec![2048], "PS-TOK-001"),
    ] {
        let bad = [good.clone(), Prompt { ids, adapter: false }];
        let fault = session.generate(&bad, &warm(1, 4), &mut quiet).expect_err("refused");
        assert_eq!(fault.code, code, "{}", fault.detail);
    }
    for sampling in [
        Sampling { temperature: f32::NAN, ..Sampling::default() },
        Sampling { top_p: 0.0, ..Sampling::default() },
        Sampling { repetition_penalty: 0.0, ..Sampling::default() },
    ] {
        let options = GenerateOptions { sampling, ..warm(1, 4) };
        assert_eq!(
            session.generate(std::slice::from_ref(&good), &options, &mut quiet).expect_err("refused").code,
            "PS-CFG-001"
        );
    }
    assert_eq!(starter::answers(session.as_mut(), std::slice::from_ref(&good), &warm(1, 4))[0].len(), 4);
    assert!(starter::answers(session.as_mut(), &[good], &warm(1, 0))[0].is_empty());
    // An answer may fill the context to its last place.
    let full = Prompt { ids: some_ids(limit - 2, 300, 3), adapter: false };
    assert_eq!(starter::answers(session.as_mut(), &[full], &warm(1, 50))[0].len(), 3);
}

/// Switching adapters on the shape of Qwen2.5-0.5B: 24 layers of width 896, rank 16 on every linear module.
#[test]
#[ignore = "a measurement: a model of 360 million weights without a file"]
fn an_adapter_switches_in_under_300_ms_on_half_a_billion_b8() {
    let folder = tempfile::tempdir().expect("a folder");
    crate::schemas::write_half_a_billion(folder.path());
    let base = BaseModel::open("half", folder.path()).expect("opened");
    let engine = Engine::open("cpu", 2).expect("an engine");
    for dora in [false, true] {
        let adapters = [1, 2].map(|seed| starter::adapter(base.spec(), 16, seed, dora));
        let mut session = engine.session_with(&base, Some(&adapters[0]), None).expect("a session");
        for which in [1, 0, 1] {
            let (begun, before) = (std::time::Instant::now(), crate::live::worked());
            session.switch_adapter(Some(&adapters[which])).expect("switched");
            let (passed, own) = (begun.elapsed().as_secs_f64(), crate::live::worked() - before);
            eprintln!("dora {dora}: switched in {:.1} ms, {:.0} ms of work", passed * 1e3, own * 1e3);
        }
    }
}
