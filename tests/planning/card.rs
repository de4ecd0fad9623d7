//! What a run is said to take of a graphics card is what its steps ask for, within 2 % (issue 8): every operation of a
//! step, on a card that counts and computes nothing.

use peft_kernels::Backend;
use peft_kernels::cuda::Precision;
use peft_models::adapter::{AdapterSource, AdapterSpec};
use peft_models::checkpoint::Checkpoint;
use peft_models::decoder::{BuildOptions, build};
use peft_models::engine::{Quantization, model_facts};
use peft_models::train::{Tokens, optimizer_step, rows};
use peft_plan::memory::card::Beside;
use peft_plan::memory::{layout, of_run};
use peft_plan::{Arithmetic, Facts, MachineFacts, Method, Optimizer, RunConfig, resolve};
use peft_tests::counting::Counting;
use serde_json::{Value, json};

fn shape(class: &str, family: &str, [hidden, inner, vocabulary]: [usize; 3]) -> Value {
    json!({
        "architectures": [class], "model_type": family, "vocab_size": vocabulary, "hidden_size": hidden,
        "intermediate_size": inner, "num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 2,
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "rope_theta": 1e4, "head_dim": hidden / 8,
        "tie_word_embeddings": true, "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 64,
        "sliding_window": 256, "pad_token_id": 0
    })
}

/// Bytes that were said, and the most that were in use in two steps of sequences of `length` tokens; launches that were
/// said of a micro-batch and its update, and that the second step made.
fn said_and_used(checkpoint: &Checkpoint, length: usize, settings: &[&str]) -> [(u64, u64); 2] {
    let spec = checkpoint.spec();
    let lengths = vec![length; 8];
    let machine = MachineFacts { memory_bytes: u64::MAX, card: true, ..MachineFacts::default() };
    let model = model_facts(checkpoint, 0);
    let facts = Facts { model, machine: Some(machine), ..Facts::bare(spec, &lengths, 1) };
    let mut config = RunConfig::default();
    let longest = format!("training.max_sequence_length={length}");
    let needed = ["model.id=m", "dataset.path=d", "training.micro_batch_size=2", &longest];
    for setting in needed.iter().chain(settings) {
        config.set(setting).expect("a setting");
    }
    let plan = resolve::resolve(&config, &facts).expect("a plan");
    let said = of_run(&facts, &plan).total_bytes;
    // What one byte more for every kernel comes to.
    let [one, two] = [1, 2].map(|graph_kernel_bytes| {
        let beside = Beside { graph_kernel_bytes, ..Beside::default() };
        of_run(&Facts { machine: Some(MachineFacts { beside, ..machine }), ..facts.clone() }, &plan).total_bytes
    });

    let (be, counting) = Counting::backend();
    let narrow = plan.arithmetic == Arithmetic::Bf16;
    let be = be.with_precision(if narrow { Precision::Bf16 } else { Precision::Single });
    let full = plan.method == Method::Full;
    let source = AdapterSource::Fresh { spec: AdapterSpec::of_plan(&plan), seed: 1 };
    let quantize = Quantization::of_plan(&plan);
    let options = BuildOptions { full, quantize, adapter: (!full).then_some(source), trainable: true };
    let mut decoder = build(&be, checkpoint, &options).expect("built");
    for p in decoder.params_mut() {
        if plan.optimizer == Optimizer::AdamW8bit {
            p.use_8bit_moments(&be).expect("moments");
        }
        p.optimizer_state(&be).expect("moments");
    }
    let example = |row: u32| Tokens {
        ids: (0..length as u32).map(|i| (i * 7 + row) % 90).collect(),
        trained: vec![true; length],
        row,
        pair: None,
    };
    let examples: Vec<Tokens> = (0..8).map(example).collect();
    be.decode_ahead(plan.decodes_ahead().then_some(1)).expect("lanes");
    decoder.hold_decoded(plan.held_layers()).expect("held");
    let mut acts = decoder.activations_in(plan.kept_sets(decoder.layers.len())).expect("activations");
    acts.put_away(&be, plan.offloaded_layers, usize::MAX).expect("it is copied nowhere");
    let layout = layout(&decoder.spec, &decoder.adapters());
    acts.reserve(&be, &layout, rows(&plan, &examples, &[])).expect("reserved");
    let mut launches = 0;
    for step in 1..=3 {
        let batches = if step == 3 { vec![vec![0, 1]] } else { vec![vec![0, 1], vec![2, 3]] };
        launches = counting.counted().launches;
        optimizer_step(&mut decoder, &mut acts, &examples, &batches, &plan, step, 1e-3).expect("a step");
    }
    let counted = counting.counted();
    [(said, counted.peak as u64), (two - one, counted.launches - launches)]
}

#[test]
fn what_a_card_is_said_to_need_is_what_steps_ask_for() {
    let small = [512, 1408, 16_000];
    let wide = [256, 688, 50_000];
    let llama = Checkpoint::blank(shape("LlamaForCausalLM", "llama", small)).expect("a model");
    let gemma = Checkpoint::blank(shape("Gemma2ForCausalLM", "gemma2", wide)).expect("a model");
    let recompute = "training.activation_checkpointing=true";
    for (name, checkpoint, length, settings) in [
        ("llama", &llama, 700, &["adapter.method=qlora", "training.precision=bf16"][..]),
        ("llama", &llama, 1024, &["adapter.method=qlora", "training.precision=bf16", recompute]),
        (
            "llama",
            &llama,
            600,
            &["adapter.method=qlora", "training.precision=bf16", recompute, "training.kept_layers=3"],
        ),
        (
            "llama",
            &llama,
            1024,
            &["adapter.method=qlora", "training.precision=bf16", recompute, "training.offloaded_layers=3"],
        ),
        (
            "llama",
            &llama,
            1024,
            &[
                "adapter.method=qlora",
                "training.precision=bf16",
                "training.decoded_layers=2",
                "training.decode_ahead=true",
            ],
        ),
        ("llama", &llama, 500, &["adapter.method=lora", "training.precision=f32", "adapter.rank=32"]),
        ("llama", &llama, 256, &["adapter.method=qlora", "training.precision=bf16", "training.optimizer=adamw_8bit"]),
        ("llama", &llama, 300, &["adapter.method=full", "training.precision=bf16"]),
        ("gemma2", &gemma, 400, &["adapter.method=lora", "training.precision=bf16"]),
        ("gemma2", &gemma, 900, &["adapter.method=dora", "training.precision=bf16", "adapter.dropout=0.1"]),
        ("gemma2", &gemma, 333, &["adapter.method=qdora", "training.precision=f32"]),
    ] {
        let [(said, used), launches] = said_and_used(checkpoint, length, settings);
        let ratio = said as f64 / used as f64;
        assert!((0.98..=1.02).contains(&ratio), "{name}, {length}, {settings:?}: {said} said, {used} used: {ratio}");
        let ratio = launches.0 as f64 / launches.1 as f64;
        assert!((1.0..=2.0).contains(&ratio), "{name}, {length}, {settings:?}: {launches:?} launches: {ratio}");
    }
}
