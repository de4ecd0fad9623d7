//! Tests of the defaults: what follows from profile, data, model and machine, and why.

use super::*;
use crate::facts::{DataFacts, MachineFacts, ModelFacts};
use crate::memory::of_run;
use crate::resolve::resolve;
use crate::spec::ModelSpec;
use serde_json::json;

fn spec() -> ModelSpec {
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32000, "hidden_size": 2048,
        "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32, "num_key_value_heads": 4,
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": false
    });
    crate::family::spec_from_config(&config).expect("a known model")
}

fn asked(set: &[&str]) -> RunConfig {
    let mut config = RunConfig::default();
    for one in ["model.id=m", "dataset.path=d"].iter().chain(set) {
        config.set(one).expect("a known setting");
    }
    config
}

fn facts<'a>(spec: &'a ModelSpec, lengths: &'a [usize], gigabytes: f64) -> Facts<'a> {
    let linear: u64 = spec.modules.iter().map(|m| (m.in_features * m.out_features) as u64).sum();
    let linear_bytes = linear * spec.layers.len() as u64 * 2;
    let memory_bytes = (gigabytes * 1e9) as u64;
    Facts {
        model: ModelFacts { stored_bytes: spec.parameters() * 2, linear_bytes, tokenizer_bytes: 1_800_000 },
        data: DataFacts {
            rows: lengths.len() * 10 / 9,
            held_out: lengths[..lengths.len() / 9].to_vec(),
            ..DataFacts::default()
        },
        machine: Some(MachineFacts { memory_bytes, available_bytes: memory_bytes, ..MachineFacts::default() }),
        ..Facts::bare(spec, lengths, 2)
    }
}

fn value<'a>(defaults: &'a Defaults, key: &str) -> &'a Reasoned {
    defaults.values.iter().find(|v| v.key == key).unwrap_or_else(|| panic!("no {key}"))
}

#[test]
fn every_value_has_a_sentence_and_a_source_s4_2_5() {
    let (spec, lengths) = (spec(), vec![300; 900]);
    let filled = fill(&asked(&["training.epochs=2"]), &facts(&spec, &lengths, 64.0)).expect("complete");
    assert!(filled.values.len() > 20);
    for v in &filled.values {
        assert!(v.reason.ends_with('.') && v.reason.len() > 15, "{}: {}", v.key, v.reason);
        let stored = filled.config.to_value().pointer(&format!("/{}", v.key.replace('.', "/"))).cloned();
        assert_eq!(stored, Some(v.value.clone()), "{}", v.key);
    }
    assert_eq!(value(&filled, "training.epochs").source, Source::You);
    assert_eq!(value(&filled, "adapter.method").value, "lora");
    assert!(value(&filled, "training.max_sequence_length").reason.contains("300"));
}

#[test]
fn completing_twice_changes_nothing() {
    let (spec, lengths) = (spec(), vec![300; 900]);
    let facts = facts(&spec, &lengths, 6.0);
    let first = fill(&asked(&[]), &facts).expect("complete").config;
    assert_eq!(fill(&first, &facts).expect("complete").config, first);
    assert_eq!(resolve(&first, &facts).expect("a plan"), resolve(&asked(&[]), &facts).expect("a plan"));
}

#[test]
fn what_does_not_fit_is_reduced_in_order_and_explained_s4_2_3() {
    let (spec, lengths) = (spec(), vec![1000; 900]);
    let at = |gigabytes: f64, set: &[&str]| {
        let facts = facts(&spec, &lengths, gigabytes);
        let filled = fill(&asked(set), &facts).expect("complete");
        let need = of_run(&facts, &build(&filled.config, &facts).expect("a plan")).total_bytes;
        (filled, need)
    };
    let (roomy, most) = at(64.0, &[]);
    assert_eq!(roomy.config.adapter.method, Some(Method::Lora));
    let mut before = most;
    let mut seen = Vec::new();
    for gigabytes in [5.0, 4.0, 2.5, 1.6, 1.5] {
        let (filled, need) = at(gigabytes, &[]);
        assert!(need <= before, "{gigabytes} GB: {need} after {before}");
        before = need;
        let t = &filled.config.training;
        seen.push((filled.config.adapter.method, t.activation_checkpointing, t.max_sequence_length));
        if filled.config.adapter.method == Some(Method::Qlora) {
            let why = value(&filled, "adapter.method");
            assert!(
                why.source == Source::Hardware && why.reason.contains("4 bit") && why.reason.contains("GB"),
                "{why:?}"
            );
        }
        // 4-bit comes before recomputing, recomputing before shorter examples.
        if t.activation_checkpointing == Some(true) {
            assert_eq!(filled.config.adapter.method, Some(Method::Qlora));
        }
        if t.max_sequence_length != Some(1024) {
            assert_eq!(t.activation_checkpointing, Some(true));
            assert!(value(&filled, "training.max_sequence_length").reason.contains("lose their end"));
        }
        if need as f64 > gigabytes * 0.9e9 {
            assert_eq!(t.max_sequence_length, Some(64), "everything was tried at {gigabytes} GB: {need}");
        }
    }
    assert!(seen.iter().any(|s| s.0 == Some(Method::Qlora) && s.1 == Some(false)), "{seen:?}");
    assert!(seen.iter().any(|s| s.1 == Some(true) && s.2 == Some(1024)), "{seen:?}");
    assert!(seen.iter().any(|s| s.2 < Some(1024)), "{seen:?}");
    // What was given stays.
    let (given, _) = at(2.0, &["adapter.method=lora", "training.max_sequence_length=512"]);
    assert_eq!(
        (given.config.adapter.method, given.config.training.max_sequence_length),
        (Some(Method::Lora), Some(512))
    );
}

/// Between keeping everything and computing every layer twice there is a border, and it is used (issue 8, 2).
#[test]
fn as_many_layers_as_fit_are_not_computed_twice() {
    let (spec, lengths) = (spec(), vec![1000; 900]);
    let layers = spec.layers.len();
    for card in [false, true] {
        let mut seen = std::collections::BTreeSet::new();
        for tenths in 10..60 {
            let gigabytes = f64::from(tenths) / 10.0;
            let mut facts = facts(&spec, &lengths, gigabytes);
            facts.machine.as_mut().expect("a machine").card = card;
            let mut config = fill(&asked(&["adapter.method=qlora"]), &facts).expect("complete").config;
            if config.training.activation_checkpointing != Some(true) {
                continue;
            }
            let need = |config: &RunConfig| of_run(&facts, &build(config, &facts).expect("a plan")).total_bytes;
            let kept = config.training.kept_layers.expect("filled");
            let budget = (gigabytes * 0.9e9) as u64;
            if need(&config) <= budget {
                seen.insert(kept);
                config.training.kept_layers = Some(kept + 1);
                assert!(kept + 1 == layers || need(&config) > budget, "{gigabytes} GB: another one fits");
            }
        }
        assert!(seen.len() > 4 && seen.iter().all(|&kept| kept < layers), "card {card}: {seen:?}");
    }
}

/// Inputs of layers go to the computer's memory where that makes steps faster or a run fit, never more of them than half of
/// what is free there holds, and what was given stays (issue 8, 2).
#[test]
fn inputs_of_layers_are_offloaded_where_a_run_fits_or_is_faster_by_it() {
    let (spec, lengths) = (spec(), vec![1000; 900]);
    let at = |gigabytes: f64, host_bytes: u64, set: &[&str]| {
        let mut facts = facts(&spec, &lengths, gigabytes);
        let machine = facts.machine.as_mut().expect("a machine");
        (machine.card, machine.host_bytes) = (true, host_bytes);
        let config = fill(&asked(&[&["adapter.method=qlora", "training.precision=bf16"], set].concat()), &facts);
        let config = config.expect("complete").config;
        let plan = build(&config, &facts).expect("a plan");
        (config.training, of_run(&facts, &plan).total_bytes, crate::memory::rows_of_run(&facts, &plan))
    };
    let most = crate::memory::most_away(spec.layers.len());
    let (mut faster, mut fitting) = (0, 0);
    for tenths in 8..60 {
        let gigabytes = f64::from(tenths) / 10.0;
        let (without, with) = (at(gigabytes, 0, &[]), at(gigabytes, 1 << 40, &[]));
        assert_eq!(without.0.offloaded_layers, Some(0));
        let offloaded = with.0.offloaded_layers.expect("filled");
        let tokens = |t: &crate::config::TrainingConfig| (t.micro_batch_size, t.max_sequence_length);
        if tokens(&with.0) == tokens(&without.0) {
            assert!(with.0.kept_layers >= without.0.kept_layers, "{gigabytes} GB");
            // Where nothing fits, everything was tried.
            let fits = without.1 as f64 <= gigabytes * 0.9e9;
            let is_worth_it = !fits || with.0.kept_layers > without.0.kept_layers;
            assert!(offloaded == 0 || is_worth_it, "{gigabytes} GB: for nothing");
            faster += usize::from(offloaded > 0);
        } else {
            assert!(offloaded > 0 && tokens(&with.0) > tokens(&without.0), "{gigabytes} GB");
            fitting += 1;
        }
        assert!(
            offloaded <= most && with.1 as f64 <= gigabytes * 0.9e9 || tokens(&with.0).1 == Some(64),
            "{gigabytes} GB"
        );
        let little = at(gigabytes, 100_000_000, &[]);
        let bytes = little.0.offloaded_layers.expect("filled") as u64 * crate::memory::card::slab(&spec, little.2);
        assert!(bytes <= 50_000_000, "{gigabytes} GB: {bytes} of a hundred million");
        let given = at(gigabytes, 1 << 40, &["training.offloaded_layers=2"]).0;
        assert_eq!(given.offloaded_layers, Some(2));
    }
    assert!(faster > 4 && fitting > 0, "{faster} and {fitting}");
}

/// What a card has left holds weights decoded, as many as fit; those of other layers are decoded ahead where steps are long.
#[test]
fn what_is_left_of_a_card_holds_weights_decoded() {
    let (spec, long, short) = (spec(), vec![1000; 900], vec![60; 900]);
    let at = |lengths: &[usize], gigabytes: f64, method: &str| {
        let mut facts = facts(&spec, lengths, gigabytes);
        facts.machine.as_mut().expect("a machine").card = true;
        let set = ["training.precision=bf16", "training.micro_batch_size=2", method];
        let config = fill(&asked(&set), &facts).expect("complete").config;
        let need = of_run(&facts, &build(&config, &facts).expect("a plan")).total_bytes;
        (config.training.decoded_layers, config.training.decode_ahead == Some(true), need)
    };
    let (layers, qlora) = (spec.layers.len(), "adapter.method=qlora");
    assert_eq!(at(&long, 64.0, qlora).0, Some(layers));
    assert_eq!(at(&long, 64.0, "adapter.method=lora").0, Some(0));
    let (mut some, mut ahead) = (0, 0);
    for tenths in 30..90 {
        let gigabytes = f64::from(tenths) / 10.0;
        for lengths in [&long, &short] {
            let (held, is_ahead, need) = at(lengths, gigabytes, qlora);
            let held = held.expect("filled");
            assert!(need as f64 <= gigabytes * 0.9e9, "{gigabytes} GB: {need}");
            let more = crate::memory::card::decoded(&spec, held + 1) - crate::memory::card::decoded(&spec, held);
            let spare = if is_ahead { 0 } else { crate::memory::card::decoding(&spec) };
            assert!(
                held == layers || (need + more + spare) as f64 > gigabytes * 0.9e9,
                "{gigabytes} GB: {held} is not all"
            );
            assert!(!is_ahead || (held < layers && lengths[0] == 1000), "{gigabytes} GB");
            some += usize::from(held > 0 && held < layers);
            ahead += usize::from(is_ahead);
        }
    }
    assert!(some > 3 && ahead > 3, "{some} and {ahead}");
}

#[test]
fn a_card_needs_no_room_for_the_program_and_its_files() {
    let (spec, lengths) = (spec(), vec![1000; 900]);
    let mut facts = facts(&spec, &lengths, 64.0);
    let set = ["adapter.method=qlora", "training.precision=bf16"];
    let plan = resolve(&asked(&set), &facts).expect("a plan");
    let on_computer = of_run(&facts, &plan);
    facts.machine.as_mut().expect("a machine").card = true;
    let on_card = of_run(&facts, &plan);
    let has = |plan: &crate::memory::MemoryPlan, name: &str| plan.items.iter().any(|item| item.name == name);
    assert!(has(&on_computer, "program") && !has(&on_card, "program") && has(&on_card, "factors of a product, logits"));
    let item = |name: &str| on_card.items.iter().find(|item| item.name == name).expect("in the table").bytes;
    // 1.1e9 parameters, of which 0.97e9 in four bits and as many scales as there are blocks.
    let linear = 970e6 * (0.5 + 1.0 / 64.0);
    assert!((item("weights") as f64 / (linear + 4.0 * 32000.0 * 2048.0) - 1.0).abs() < 0.02, "{}", item("weights"));
}

#[test]
fn the_effective_batch_stays_when_the_micro_batch_is_reduced_b3() {
    let (spec, lengths) = (spec(), vec![60; 2000]);
    let roomy = fill(&asked(&[]), &facts(&spec, &lengths, 64.0)).expect("complete").config.training;
    let tight =
        fill(&asked(&["adapter.method=lora"]), &facts(&spec, &lengths, 3.05)).expect("complete").config.training;
    let effective = |t: &crate::config::TrainingConfig| {
        t.micro_batch_size.expect("filled") * t.gradient_accumulation.expect("filled")
    };
    assert!(tight.micro_batch_size < roomy.micro_batch_size, "{:?}", tight.micro_batch_size);
    assert_eq!(effective(&tight), effective(&roomy));
}

#[test]
fn free_memory_matters_only_where_the_run_would_not_fit() {
    let (spec, lengths) = (spec(), vec![300; 900]);
    let free = |gigabytes: f64| {
        let mut facts = facts(&spec, &lengths, 64.0);
        facts.machine.as_mut().expect("a machine").available_bytes = (gigabytes * 1e9) as u64;
        fill(&asked(&[]), &facts).expect("complete")
    };
    assert_eq!(free(60.0).config, free(8.0).config);
    let tight = free(2.5);
    assert_eq!(tight.config.adapter.method, Some(Method::Qlora));
    assert!(value(&tight, "adapter.method").reason.contains("free at the moment"));
}

#[test]
fn a_profile_gives_its_values_and_what_is_given_wins_s4_3_2() {
    let (spec, lengths) = (spec(), vec![300; 900]);
    let facts = facts(&spec, &lengths, 64.0);
    let filled = fill(&asked(&["use_case=classification", "adapter.alpha=20"]), &facts).expect("complete");
    assert_eq!(filled.config.adapter.rank, Some(8));
    assert_eq!(value(&filled, "adapter.rank").source, Source::Profile);
    assert_eq!(filled.config.adapter.alpha, Some(20.0));
    assert_eq!(filled.config.training.epochs, Some(4.0));
    assert!(fill(&asked(&["use_case=nonsense"]), &facts).is_err());
}

#[test]
fn data_decides_length_and_passes() {
    let spec = spec();
    let mut lengths = vec![100; 500];
    lengths[3] = 3000;
    let one = fill(&asked(&[]), &facts(&spec, &lengths, 64.0)).expect("complete");
    assert_eq!(one.config.training.max_sequence_length, Some(2048));
    assert!(value(&one, "training.max_sequence_length").reason.starts_with("1 of 500"));
    let long = vec![3000; 500];
    let many = fill(&asked(&[]), &facts(&spec, &long, 64.0)).expect("complete");
    assert_eq!(many.config.training.max_sequence_length, Some(3008));
    let mut copied = facts(&spec, &lengths, 64.0);
    copied.data.duplicates = copied.data.rows / 2;
    let copied = fill(&asked(&[]), &copied).expect("complete");
    assert_eq!(copied.config.training.epochs, Some(2.0));
    assert!(value(&copied, "training.epochs").reason.contains("repeat"));
}

#[test]
fn the_machine_decides_the_precision_and_what_is_given_wins() {
    let (spec, lengths) = (spec(), vec![300; 900]);
    let mut facts = facts(&spec, &lengths, 64.0);
    let plain = fill(&asked(&[]), &facts).expect("complete");
    assert_eq!(value(&plain, "training.precision").value, "f32");
    facts.machine.as_mut().expect("a machine").fastest = Arithmetic::Bf16;
    for (set, precision, source) in [
        (None, "bf16", Source::Hardware),
        (Some("training.precision=auto"), "bf16", Source::Hardware),
        (Some("training.precision=f32"), "f32", Source::You),
        (Some("training.precision=bf16"), "bf16", Source::You),
    ] {
        let config = asked(&set.into_iter().collect::<Vec<_>>());
        let filled = fill(&config, &facts).expect("complete");
        let found = value(&filled, "training.precision");
        assert_eq!((&found.value, found.source), (&json!(precision), source), "{set:?}");
        let arithmetic = resolve(&config, &facts).expect("a plan").arithmetic;
        assert_eq!(arithmetic == Arithmetic::Bf16, precision == "bf16", "{set:?}");
    }
}
