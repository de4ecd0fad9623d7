//! Tests of the estimates, the alternatives and the numbers they are made with.

use super::*;
use crate::alternatives::{alternatives, planned};
use crate::config::RunConfig;
use crate::facts::{DataFacts, MachineFacts, ModelFacts};
use crate::spec::ModelSpec;
use serde_json::json;

fn spec() -> ModelSpec {
    let config = json!({
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": 151_936, "hidden_size": 896,
        "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": true
    });
    crate::family::spec_from_config(&config).expect("a known model")
}

fn calibration() -> Calibration {
    Calibration {
        method: Method::Lora,
        rank: 16,
        dropout: false,
        points: vec![
            Point { tokens: 128, squares: 128.0 * 128.0, seconds: 0.030, forward_seconds: 0.012 },
            Point { tokens: 512, squares: 4.0 * 128.0 * 128.0, seconds: 0.100, forward_seconds: 0.040 },
        ],
        head_row_seconds: 0.002,
        update_seconds: 2e-9,
        answer_seconds: 0.03,
        build_seconds: 0.01,
        sync_seconds: 0.003,
        write_seconds_per_byte: 3e-9,
        threads: 2,
        watts: None,
        correction: 1.0,
    }
}

fn facts<'a>(spec: &'a ModelSpec, lengths: &'a [usize]) -> Facts<'a> {
    Facts {
        model: ModelFacts {
            stored_bytes: 988_000_000,
            linear_bytes: 700_000_000,
            tokenizer_bytes: 7_000_000,
            ..ModelFacts::default()
        },
        data: DataFacts { rows: 1000, held_out: vec![200; 100], learnt_share: 0.5, ..DataFacts::default() },
        machine: Some(MachineFacts {
            memory_bytes: 24_000_000_000,
            available_bytes: 20_000_000_000,
            cores: 2,
            disk_free_bytes: 1 << 40,
            ..MachineFacts::default()
        }),
        ..Facts::bare(spec, lengths, 2)
    }
}

fn asked(set: &[&str]) -> RunConfig {
    let mut config = RunConfig::default();
    for one in ["model.id=m", "dataset.path=d"].iter().chain(set) {
        config.set(one).expect("a known setting");
    }
    config
}

fn of(set: &[&str]) -> Estimate {
    let (spec, lengths) = (spec(), vec![200; 900]);
    planned(&asked(set), &facts(&spec, &lengths), &calibration(), &Rates::default()).expect("planned").estimate
}

#[test]
fn the_numbers_of_others_have_sources_s4_9_2() {
    let data = energy_data();
    assert!(data.processor_watts_per_core.value > 0.0 && data.memory_watts_per_gigabyte.value > 0.0);
    assert!(data.carbon_grams_per_kwh.contains_key("world"));
    for (country, factor) in &data.carbon_grams_per_kwh {
        assert!(factor.value > 0.0 && factor.source.contains("20"), "{country}");
    }
    assert!(data.electricity.source.contains("Eurostat") && data.electricity.currency == "EUR");
}

#[test]
fn intervals_are_no_wider_than_promised() {
    for seconds in [0.1, 5.0, 20.0, 21.4, 21.5, 25.0, 29.0, 100.0, 1e5] {
        let Interval { low, expected, high } = interval(seconds);
        let most = if high < 30.0 { 2.0 } else { 1.5 };
        assert!(low < expected && expected < high && high / low <= most, "{seconds}: {low}..{high}");
    }
}

#[test]
fn time_grows_with_the_work() {
    let base = of(&["training.epochs=2"]);
    let expected = |set: &[&str]| of(&[&["training.epochs=2"], set].concat()).seconds.expected;
    // Ten looks at the held-out rows, however long it takes.
    let ratio = of(&["training.epochs=4"]).seconds.expected / base.seconds.expected;
    assert!((1.7..2.05).contains(&ratio), "{ratio}");
    let again = expected(&["training.activation_checkpointing=true"]) / base.seconds.expected;
    assert!((1.1..1.5).contains(&again), "{again}");
    assert!(expected(&["adapter.rank=128"]) > base.seconds.expected);
    assert!(expected(&["training.max_sequence_length=64"]) < 0.5 * base.seconds.expected);
    assert_eq!(base.steps, 90);
    assert!((base.energy_kwh - base.watts * base.device_hours / 1000.0).abs() < 1e-9);
    assert!((base.cost - base.energy_kwh * 0.2872).abs() < 1e-9 && base.currency == "EUR");
    assert!((base.carbon_grams - base.energy_kwh * 473.0).abs() < 1e-6);
    assert!((base.watts - (2.0 * 12.0 + 24.0 * 0.3725)).abs() < 1e-9);
}

#[test]
fn there_are_three_alternatives_and_each_does_what_it_says_s4_9_5() {
    let (spec, lengths) = (spec(), vec![200; 900]);
    let facts = facts(&spec, &lengths);
    for set in [
        &[][..],
        &["adapter.method=full"],
        &["training.max_steps=10"],
        &["training.epochs=1"],
        &["adapter.method=qlora"],
    ] {
        let current = planned(&asked(set), &facts, &calibration(), &Rates::default()).expect("planned");
        let found = alternatives(&current, &facts, &calibration(), &Rates::default());
        assert_eq!(found.iter().map(|a| a.name).collect::<Vec<_>>(), ["faster", "leaner", "better"], "{set:?}");
        assert!(found[0].deltas.seconds < 0.0, "{set:?}: {:?}", found[0].deltas);
        assert!(found[1].deltas.memory_bytes < 0, "{set:?}: {:?}", found[1].deltas);
        assert!(found[2].deltas.seconds > 0.0 || found[2].deltas.memory_bytes > 0, "{set:?}");
        for a in &found {
            assert!(!a.changes.is_empty() && a.description.ends_with('.'));
        }
    }
}

#[test]
fn preferences_take_a_reference_and_two_sequences_a_row() {
    let (spec, lengths) = (spec(), vec![200; 900]);
    let firsts = vec![100; 900];
    let seconds = |set: &[&str]| {
        let mut facts = facts(&spec, &lengths);
        facts.data.firsts.clone_from(&firsts);
        let set = [&["training.epochs=4", "training.micro_batch_size=1"], set].concat();
        planned(&asked(&set), &facts, &calibration(), &Rates::default()).expect("planned").estimate.seconds.expected
    };
    // ORPO has no reference; DPO's is asked once an example, which is a third of one epoch of four.
    let (orpo, dpo) = (seconds(&["training.objective=orpo"]), seconds(&["training.objective=dpo"]));
    assert!((1.03..1.15).contains(&(dpo / orpo)), "{orpo} and {dpo}");
    // KTO learns from the first sequence alone and scores the second.
    let kto = seconds(&["training.objective=kto"]);
    assert!((0.55..0.85).contains(&(kto / dpo)), "{kto} and {dpo}");
}

#[test]
fn answers_at_evaluations_take_their_time_b11() {
    let seconds = |set: &[&str]| of(&[&["training.epochs=2"], set].concat()).seconds.expected;
    let (none, usual) = (seconds(&["evaluation.samples=0"]), seconds(&[]));
    // 90 steps are looked at every nine, and once before; three prompts of 200 tokens, half of them the answer, are
    // read (0.04 s of a block for 512) and 64 tokens each go on for 0.03 s.
    let reading = 11.0 * 3.0 * 24.0 * (0.012 / 128.0) * 100.0;
    let writing = 11.0 * 64.0 * 0.03;
    assert!(((usual - none) / (reading + writing) - 1.0).abs() < 0.1, "{usual} - {none}, {reading} + {writing}");
    let longer = seconds(&["evaluation.sample_tokens=128"]);
    // Only the untouched base goes on to the end; who has been taught stops.
    let taught = 150.0_f64.min(128.0);
    let more = (128.0 - 64.0) * 0.03 + 10.0 * (taught - 64.0) * 0.03;
    assert!(((longer - usual) / more - 1.0).abs() < 0.1, "{longer} - {usual}, {more}");
    assert!(seconds(&["evaluation.samples=8"]) > usual);
}

#[test]
fn looks_and_saved_states_are_counted_b11() {
    let base = ["training.max_steps=40", "evaluation.samples=0", "checkpoint.every_seconds=86400"];
    let seconds = |set: &[&str]| of(&[&base, set].concat()).seconds.expected;
    // A look at the held-out rows before the first step and one after the last are always there.
    let (rarely, often) = (seconds(&["evaluation.every_steps=40"]), seconds(&["evaluation.every_steps=10"]));
    let (one_more, three_more) = (seconds(&["evaluation.every_steps=20"]) - rarely, often - rarely);
    assert!((three_more / one_more - 3.0).abs() < 0.01, "{one_more} and {three_more}");
    // A twentieth of the run at most is between two states that it can go back to.
    let (every, each_tenth) = (seconds(&["checkpoint.every_steps=1"]), seconds(&["checkpoint.every_steps=20"]));
    assert!(every > each_tenth, "{every} and {each_tenth}");
    assert!(seconds(&[]) > each_tenth);
}
