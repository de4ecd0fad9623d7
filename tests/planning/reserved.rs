//! The buffers of a pass are exactly those of the memory plan's table (B3).

use peft_kernels::Backend;
use peft_kernels::cpu::{Cpu, Factors, Path as KernelPath};
use peft_models::adapter::{AdapterSource, AdapterSpec};
use peft_models::checkpoint::Checkpoint;
use peft_models::decoder::{Batch, BuildOptions, build};
use peft_plan::memory::{MemoryFacts, Rows, card, layout, of_run, plan, unread};
use peft_plan::{AnswerMemory, Arithmetic, Facts, Method, ModelFacts, RunConfig, TargetModules, Targets, resolve};
use serde_json::{Value, json};
use std::path::Path;

fn shape(family: &str, class: &str) -> Value {
    json!({
        "architectures": [class], "model_type": family, "vocab_size": 96, "hidden_size": 32,
        "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "rope_theta": 1e4, "head_dim": 8,
        "tie_word_embeddings": true, "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 8,
        "sliding_window": 16, "pad_token_id": 0
    })
}

/// Families, as classes of models without weights.
const FAMILIES: [(&str, &str); 6] = [
    ("llama", "LlamaForCausalLM"),
    ("qwen2", "Qwen2ForCausalLM"),
    ("qwen3", "Qwen3ForCausalLM"),
    ("phi3", "Phi3ForCausalLM"),
    ("gemma2", "Gemma2ForCausalLM"),
    ("gemma3_text", "Gemma3ForCausalLM"),
];

/// Adapters on everything.
fn adapters(rank: usize, dropout: f64, dora: bool) -> AdapterSource<'static> {
    let spec = AdapterSpec {
        rank,
        alpha: 8.0,
        use_rslora: false,
        dropout,
        dora,
        targets: TargetModules::Pattern("all-linear".to_owned()),
        lora_plus_ratio: None,
        modules_to_save: Vec::new(),
    };
    AdapterSource::Fresh { spec, seed: 1 }
}

fn batch(lengths: &[usize]) -> Batch {
    let mut batch = Batch::default();
    for &length in lengths {
        let ids: Vec<u32> = (0..length as u32).map(|i| i % 30).collect();
        batch.push(&ids, &vec![true; length]);
    }
    batch
}

#[test]
fn what_is_reserved_is_what_is_used_for_every_family_and_method_b3() {
    let blank =
        FAMILIES.map(|(family, class)| (family.to_owned(), Checkpoint::blank(shape(family, class)).expect("a model")));
    // Families with norms behind, scaled branches and experts, as fixtures.
    let stored = [
        "olmo2/model",
        "granite/model",
        "qwen3-moe/model",
        "mixtral/model",
        "olmoe/model",
        "gpt-oss/model",
        "gpt-oss/model-mxfp4",
    ]
    .map(|name| {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/parity").join(name);
        (name.to_owned(), Checkpoint::open(&dir).expect("a fixture"))
    });
    let exact = Cpu::new(2).expect("threads");
    let models: Vec<(String, Checkpoint)> = blank.into_iter().chain(stored).collect();
    let kinds = [(Arithmetic::F32, exact.clone()), (Arithmetic::Bf16, exact.with_factors(Factors::Bf16))];
    for ((family, checkpoint), (arithmetic, be)) in
        models.iter().flat_map(|model| kinds.iter().map(move |k| (model, k)))
    {
        let arithmetic = *arithmetic;
        for (dora, dropout, full, sets) in [
            (false, 0.0, false, usize::MAX),
            (false, 0.1, false, 1),
            (true, 0.0, false, usize::MAX),
            (true, 0.1, false, 2),
            (false, 0.0, true, usize::MAX),
        ] {
            if full && checkpoint.spec().experts.is_some() {
                continue;
            }
            let source = adapters(4, dropout, dora);
            let options = BuildOptions { full, quantize: None, adapter: (!full).then_some(source), trainable: true };
            let mut decoder = build(be, checkpoint, &options).expect("built");
            let layout = layout(&decoder.spec, &decoder.adapters());
            let rows = Rows { train: 40, score: 64 };
            let sets = sets.min(decoder.layers.len());
            let mut acts = decoder.activations_in(sets).expect("empty");
            acts.reserve(be, &layout, rows).expect("reserved");
            let planned = layout.activation_bytes(rows, sets, arithmetic)
                + layout.stream_bytes(rows)
                + layout.working_bytes(rows, arithmetic);
            let held = |acts: &mut peft_models::decoder::Activations<Cpu>| -> u64 {
                acts.tensors().iter().map(|t| t.buf.bytes() as u64).sum()
            };
            let what = format!("{family} {arithmetic:?} dora={dora} dropout={dropout} full={full} sets={sets}");
            assert_eq!(held(&mut acts), planned, "{what}: reserved");
            decoder.train_pass(&mut acts, &batch(&[25, 15]), 1.0, (1, 1)).expect("a pass");
            decoder.score(&mut acts, &batch(&[30, 34]), true).expect("scored");
            decoder.train_pass(&mut acts, &batch(&[9]), 1.0, (1, 2)).expect("a pass");
            // One row of numbers that is as wide as a module, and nothing else, is not planned for each token.
            let more = held(&mut acts) - planned;
            assert!(more <= 4 * 4 * 96, "{what}: {more} bytes that nobody planned");
        }
    }
}

/// Of an embedding that is not the head as well, the rows of the tokens that there are, and what the system reads around.
#[test]
fn an_embedding_is_planned_for_as_far_as_tokens_reach_b3() {
    let mut config = shape("llama", "LlamaForCausalLM");
    config["tie_word_embeddings"] = json!(false);
    let spec = Checkpoint::blank(config).expect("a model").spec().clone();
    let row = 4096;
    let model = ModelFacts { embedding_bytes: 96 * row, ..ModelFacts::default() };
    let none = Targets::all(&spec);
    let of = |method, targets: &Targets, tokens| unread(&spec, &model, method, targets, tokens);
    assert_eq!(of(Method::Lora, &none, 0), 96 * row);
    for tokens in 1..10 {
        let read = 96 * row - of(Method::Qlora, &none, tokens);
        assert!(read >= (tokens * row).min(96 * row), "{tokens} tokens read {read} bytes");
    }
    assert_eq!(of(Method::Lora, &none, u64::MAX), 0);
    assert_eq!(of(Method::Full, &none, 0), 0, "it is converted whole");
    assert_eq!(of(Method::Lora, &Targets { saved: 1, ..none.clone() }, 0), 0, "it may be trained");
}

/// The memory that operations borrow: on every path, a model of a unit that multiplies tiles among them, which takes
/// deeper panels than any other.
#[test]
fn panels_are_planned_for_as_deep_as_any_kernel_packs_them_b3() {
    let mut config = shape("llama", "LlamaForCausalLM");
    for (name, size) in
        [("hidden_size", 1152), ("intermediate_size", 2304), ("num_hidden_layers", 1), ("head_dim", 128)]
    {
        config[name] = json!(size);
    }
    (config["num_attention_heads"], config["num_key_value_heads"]) = (json!(9), json!(3));
    let checkpoint = Checkpoint::blank(config).expect("a model");
    for path in [KernelPath::Avx512, KernelPath::Avx2, KernelPath::Portable, KernelPath::ModelledTiles] {
        let kinds = [(Arithmetic::F32, Factors::F32), (Arithmetic::Bf16, Factors::Bf16)];
        for (arithmetic, factors) in kinds {
            let Ok(be) = Cpu::with_path(2, path) else { continue };
            let be = be.with_factors(factors);
            let source = adapters(16, 0.0, false);
            let options = BuildOptions { full: false, quantize: None, adapter: Some(source), trainable: true };
            let mut decoder = build(&be, &checkpoint, &options).expect("built");
            let mut acts = decoder.activations_in(1).expect("empty");
            decoder.train_pass(&mut acts, &batch(&[25, 15]), 1.0, (1, 1)).expect("a pass");
            decoder.score(&mut acts, &batch(&[30, 34]), true).expect("scored");
            let facts = MemoryFacts {
                weight_bytes: 0,
                unread_bytes: 0,
                quantising_bytes: 0,
                trainable: 0,
                moment_bytes: 0,
                keeps_reference: false,
                method: Method::Lora,
                adapters: decoder.adapters(),
                rows: Rows { train: 40, score: 64 },
                sets: 1,
                away: 0,
                decoded: 0,
                ahead: false,
                arithmetic,
                card: false,
                beside: card::Beside::default(),
                longest: 34,
                threads: 2,
                tokenizer_bytes: 0,
                example_tokens: 0,
                data_bytes: 0,
            };
            let planned: u64 = (plan(&decoder.spec, &facts).items.iter())
                .filter(|item| ["panels of the products", "logits, a block of rows"].contains(&item.name.as_str()))
                .map(|item| item.bytes)
                .sum();
            let borrowed = be.scratch_bytes() as u64;
            assert!(borrowed <= planned, "{borrowed} bytes are borrowed, {planned} planned, {arithmetic:?}, {path:?}");
        }
    }
}

/// Keys and values of a token, of every family, in f32 and in eight bits.
#[test]
fn keys_and_values_are_said_to_take_what_a_cache_has_room_for() {
    for (family, class) in FAMILIES {
        let checkpoint = Checkpoint::blank(shape(family, class)).expect("a model");
        for eight_bits in [false, true] {
            let be = Cpu::new(1).expect("a thread").with_eight_bit_cache(eight_bits);
            let options = BuildOptions { full: false, quantize: None, adapter: None, trainable: false };
            let decoder = build(&be, &checkpoint, &options).expect("built");
            let columns = decoder.layers.iter().map(|layer| be.cache_columns(&layer.attention.heads));
            let held = columns.sum::<usize>() * 100 * size_of::<f32>();
            let said = AnswerMemory::of(&decoder.spec, 0, 100, eight_bits);
            assert_eq!((said.cache_bytes, said.context_tokens), (held as u64, 100), "{family}");
            assert_eq!(said.cache_bytes < said.exact_cache_bytes, eight_bits, "{family}");
        }
    }
}

/// Runs of a model of 1.1 billion parameters at 512 tokens, in bf16: with the weights in memory, and with them in 4 bits.
/// Beside what a step holds, a checkpoint copies the adapter.
#[test]
fn a_model_of_a_billion_parameters_is_planned_for_in_bf16_b3() {
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32_000, "hidden_size": 2048,
        "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32, "num_key_value_heads": 4,
        "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 1e4, "tie_word_embeddings": false
    });
    let spec = Checkpoint::spec_of(&config).expect("a model");
    let lengths = [512];
    let bytes = 2 * spec.parameters();
    let table = (spec.vocab_size * spec.hidden_size) as u64 * 2;
    let linear_bytes = bytes - 2 * table - (2 * spec.layers.len() as u64 + 1) * spec.hidden_size as u64 * 2;
    let model = ModelFacts { stored_bytes: bytes, linear_bytes, embedding_bytes: table, tokenizer_bytes: 0 };
    let planned = |settings: &[&str]| {
        let mut config = RunConfig::default();
        let needed = ["model.id=m", "dataset.path=d", "adapter.rank=16", "training.micro_batch_size=1"];
        for setting in needed.iter().chain(settings) {
            config.set(setting).expect("a setting");
        }
        let facts = Facts { model, ..Facts::bare(&spec, &lengths, 2) };
        let plan = resolve::resolve(&config, &facts).expect("a plan");
        of_run(&facts, &plan).without_saving() >> 20
    };
    let [narrow, exact] = ["bf16", "f32"].map(|precision| {
        let precision = format!("training.precision={precision}");
        ["lora", "qlora"].map(|method| planned(&[&precision, &format!("adapter.method={method}")]))
    });
    assert!((2750..2900).contains(&narrow[0]), "{narrow:?} MiB");
    assert!((1400..1550).contains(&narrow[1]), "{narrow:?} MiB");
    assert!(narrow.iter().zip(exact).all(|(narrow, exact)| narrow + 300 < exact), "{narrow:?} {exact:?} MiB");
}
