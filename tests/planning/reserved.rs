//! The buffers of a pass are exactly those of the memory plan's table (B3).

use peft_kernels::cpu::Cpu;
use peft_models::adapter::{AdapterSource, AdapterSpec};
use peft_models::checkpoint::Checkpoint;
use peft_models::decoder::{Batch, BuildOptions, build};
use peft_plan::TargetModules;
use peft_plan::memory::{Rows, layout};
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
    let families = [
        ("llama", "LlamaForCausalLM"),
        ("qwen2", "Qwen2ForCausalLM"),
        ("qwen3", "Qwen3ForCausalLM"),
        ("phi3", "Phi3ForCausalLM"),
        ("gemma2", "Gemma2ForCausalLM"),
        ("gemma3_text", "Gemma3ForCausalLM"),
    ];
    let blank =
        families.map(|(family, class)| (family.to_owned(), Checkpoint::blank(shape(family, class)).expect("a model")));
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
    let be = Cpu::new(2).expect("threads");
    for (family, checkpoint) in blank.into_iter().chain(stored) {
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
            let spec = AdapterSpec {
                rank: 4,
                alpha: 8.0,
                use_rslora: false,
                dropout,
                dora,
                targets: TargetModules::Pattern("all-linear".to_owned()),
                lora_plus_ratio: None,
                modules_to_save: Vec::new(),
            };
            let source = AdapterSource::Fresh { spec, seed: 1 };
            let options = BuildOptions { full, quantize: None, adapter: (!full).then_some(source), trainable: true };
            let mut decoder = build(&be, &checkpoint, &options).expect("built");
            let layout = layout(&decoder.spec, &decoder.adapters());
            let rows = Rows { train: 40, score: 64 };
            let sets = sets.min(decoder.layers.len());
            let mut acts = decoder.activations_in(sets).expect("empty");
            acts.reserve(&be, &layout, rows).expect("reserved");
            let planned = layout.activation_bytes(rows, sets) + layout.stream_bytes(rows) + layout.working_bytes(rows);
            let held = |acts: &mut peft_models::decoder::Activations<Cpu>| -> u64 {
                acts.tensors().iter().map(|t| t.buf.capacity() as u64 * 4).sum()
            };
            let what = format!("{family} dora={dora} dropout={dropout} full={full} sets={sets}");
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
