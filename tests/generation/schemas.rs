//! Answers that obey a JSON schema, whatever the model would rather say; and schemas that no answer can meet.

use crate::starter;
use peft_models::base::BaseModel;
use peft_models::generate::{Constraints, GenerateOptions, Grammar, Sampling, StopReason};
use peft_plan::order::SplitMix;
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

fn constraints(base: &BaseModel) -> Constraints {
    Constraints::new(base.tokenizer(), base.spec().vocab_size, &starter::stop_ids(base)).expect("a vocabulary")
}

/// Whether `value` is what `schema` describes, for the keywords that are used here.
fn is_valid(value: &Value, schema: &Value, root: &Value) -> bool {
    let Some(schema) = schema.as_object() else { return schema == &json!(true) };
    schema.iter().all(|(key, want)| match (key.as_str(), value) {
        ("$ref", _) => is_valid(value, root.pointer(&want.as_str().expect("text")[1..]).expect("there"), root),
        ("const", _) => value == want,
        ("enum", _) => want.as_array().expect("a list").contains(value),
        ("anyOf" | "oneOf", _) => want.as_array().expect("a list").iter().any(|s| is_valid(value, s, root)),
        ("allOf", _) => want.as_array().expect("a list").iter().all(|s| is_valid(value, s, root)),
        ("type", _) => match want {
            Value::Array(types) => types.iter().any(|t| is_valid(value, &json!({"type": t}), root)),
            want => match want.as_str().expect("text") {
                "integer" => value.as_i64().is_some() || value.as_f64().is_some_and(|x| x.fract() == 0.0),
                "number" => value.is_number(),
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "null" => value.is_null(),
                "array" => value.is_array(),
                _ => value.is_object(),
            },
        },
        ("minimum", Value::Number(n)) => n.as_f64() >= want.as_f64(),
        ("maximum", Value::Number(n)) => n.as_f64() <= want.as_f64(),
        ("exclusiveMinimum", Value::Number(n)) => n.as_f64() > want.as_f64(),
        ("multipleOf", Value::Number(n)) => {
            (n.as_f64().expect("finite") / want.as_f64().expect("finite")).fract() == 0.0
        }
        ("minLength", Value::String(s)) => s.chars().count() as u64 >= want.as_u64().expect("a count"),
        ("maxLength", Value::String(s)) => s.chars().count() as u64 <= want.as_u64().expect("a count"),
        ("minItems", Value::Array(items)) => items.len() as u64 >= want.as_u64().expect("a count"),
        ("maxItems", Value::Array(items)) => items.len() as u64 <= want.as_u64().expect("a count"),
        ("items", Value::Array(items)) => items.iter().all(|item| is_valid(item, want, root)),
        ("required", Value::Object(o)) => {
            want.as_array().expect("a list").iter().all(|k| o.contains_key(k.as_str().expect("text")))
        }
        ("properties", Value::Object(o)) => o.iter().all(|(k, v)| want.get(k).is_none_or(|s| is_valid(v, s, root))),
        ("additionalProperties", Value::Object(o)) => {
            let known = schema.get("properties");
            o.iter().all(|(k, v)| known.is_some_and(|p| p.get(k).is_some()) || is_valid(v, want, root))
        }
        _ => true,
    })
}

fn ask(base: &BaseModel, grammar: &Grammar, seed: u64, temperature: f32, most: usize) -> (String, StopReason) {
    let options = GenerateOptions {
        sampling: Sampling { temperature, seed, ..Sampling::default() },
        max_new_tokens: most,
        stop_ids: starter::stop_ids(base),
        grammar: Some(grammar.clone()),
    };
    let prompt = starter::prompt(base, "Tell me about the lighthouse in JSON.", false);
    let mut quiet = |_: usize, _: u32| ControlFlow::Continue(());
    let mut session = starter::session(base, None);
    let answer = session.generate(&[prompt], &options, &mut quiet).expect("an answer").answers.remove(0);
    (starter::text(base, &answer.ids), answer.stop)
}

fn schemas() -> Vec<Value> {
    vec![
        json!({"type": "object", "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 8},
               "age": {"type": "integer", "minimum": 3, "maximum": 120}, "tall": {"type": "boolean"}},
               "required": ["name", "age"], "additionalProperties": false}),
        json!({"type": "array", "items": {"enum": ["red", "green", 3, null]}, "minItems": 2, "maxItems": 4}),
        json!({"enum": ["positive", "negative", "neutral"]}),
        json!({"const": {"a": [1, 2.5, "x\"y\\z"], "b": null}}),
        json!({"type": "number", "minimum": -1.5, "maximum": 2.25}),
        json!({"type": "integer", "multipleOf": 7, "exclusiveMinimum": 0, "maximum": 700}),
        json!({"anyOf": [{"type": "null"}, {"type": "object", "properties": {"n": {"type": "null"}}, "required": ["n"],
               "additionalProperties": false}]}),
        json!({"type": ["string", "null"], "maxLength": 5}),
        json!({"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "properties": {
               "value": {"type": "integer", "minimum": 0, "maximum": 9},
               "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 2}},
               "required": ["value", "children"], "additionalProperties": false}}}),
        json!({"allOf": [{"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]},
               {"properties": {"b": {"type": "integer", "minimum": 1, "maximum": 2}}, "required": ["b"]}],
               "additionalProperties": false, "properties": {"a": true, "b": true}}),
        json!({"type": "string", "maxLength": 12}),
        json!({"type": "boolean"}),
    ]
}

#[test]
fn every_answer_that_ended_by_itself_obeys_its_schema() {
    let base = starter::base();
    let constraints = constraints(&base);
    let mut ended = 0;
    for schema in schemas() {
        let grammar = constraints.schema(&schema).expect("a schema");
        for seed in 0..6 {
            // Hot enough that the model would say anything.
            let (text, stop) = ask(&base, &grammar, seed, [0.0, 1.0, 2.5][seed as usize % 3], 120);
            if stop == StopReason::Length {
                continue;
            }
            assert_eq!(stop, StopReason::Stop);
            let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{schema}: {text}: {e}"));
            assert!(is_valid(&value, &schema, &schema), "{schema}: {text}");
            ended += 1;
        }
    }
    assert!(ended > 60, "only {ended} answers came to an end");
}

#[test]
fn a_pattern_is_obeyed() {
    let base = starter::base();
    let schema = json!({"type": "string", "pattern": "^[A-Z]{3}-[0-9]{2}$"});
    let grammar = constraints(&base).schema(&schema).expect("a schema");
    for seed in 0..4 {
        let (text, stop) = ask(&base, &grammar, seed, 1.5, 60);
        let value: Value = serde_json::from_str(&text).expect("JSON");
        let bytes = value.as_str().expect("text").as_bytes();
        let fits = |range: std::ops::Range<usize>, test: fn(&u8) -> bool| bytes[range].iter().all(test);
        assert!(
            bytes.len() == 6
                && bytes[3] == b'-'
                && fits(0..3, u8::is_ascii_uppercase)
                && fits(4..6, u8::is_ascii_digit),
            "{text}"
        );
        assert_eq!(stop, StopReason::Stop);
    }
}

#[test]
fn any_json_is_json_and_numbers_stay_readable() {
    let base = starter::base();
    let constraints = constraints(&base);
    let any = constraints.json().expect("any");
    let numbers = constraints
        .schema(&json!({"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 6}))
        .expect("numbers");
    let mut ended = 0;
    for seed in 0..12 {
        for grammar in [&any, &numbers] {
            let (text, stop) = ask(&base, grammar, seed, 3.0, 200);
            if stop == StopReason::Stop {
                let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
                assert!(value.is_object() || value.is_array(), "{text}");
                ended += 1;
            }
        }
    }
    assert!(ended >= 12, "only {ended} answers came to an end");
}

#[test]
fn an_answer_without_room_says_so() {
    let base = starter::base();
    let grammar = constraints(&base).schema(&json!({"type": "string", "minLength": 60})).expect("a schema");
    let (text, stop) = ask(&base, &grammar, 1, 1.0, 5);
    assert_eq!(stop, StopReason::Length, "{text}");
    let grammar = constraints(&base).schema(&json!({"const": 7})).expect("a schema");
    assert_eq!(ask(&base, &grammar, 1, 1.0, 40), ("7".to_owned(), StopReason::Stop));
}

#[test]
fn a_schema_that_no_answer_can_meet_is_refused_and_its_place_named() {
    let base = starter::base();
    let constraints = constraints(&base);
    let required = |schema: Value| json!({"type": "object", "properties": {"ok": {"type": "null"}, "bad": schema}, "required": ["bad"]});
    let bad = [
        (json!(false), ""),
        (json!(3), ""),
        (json!({"type": "integer", "minimum": 5, "maximum": 4}), "#"),
        (required(json!({"type": "integer", "minimum": 5, "maximum": 4})), "#/properties/bad"),
        (required(json!({"type": "integer", "minimum": 0.2, "maximum": 0.8})), "#/properties/bad"),
        (required(json!({"type": "integer", "minimum": 1, "maximum": 6, "multipleOf": 7})), "#/properties/bad"),
        (required(json!({"type": "string", "minLength": 5, "maxLength": 4})), "#/properties/bad"),
        (required(json!({"type": "string", "pattern": "^a{5}$", "maxLength": 4})), "#/properties/bad"),
        (
            required(json!({"type": "array", "items": {"type": "null"}, "minItems": 3, "maxItems": 2})),
            "#/properties/bad",
        ),
        (required(json!({"type": "array", "items": false, "minItems": 1})), "#/properties/bad"),
        (required(json!({"enum": []})), "#/properties/bad"),
        (required(json!(false)), "#"),
        (required(json!({"const": 3, "type": "string"})), "#/properties/bad"),
        (required(json!({"allOf": [{"type": "string"}, {"type": "integer"}]})), "#/properties/bad"),
        (required(json!({"anyOf": []})), "#/properties/bad"),
        (json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}), "#/properties/a"),
        (json!({"$ref": "#"}), "#"),
        (json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}), "#/$defs/b"),
        (json!({"type": "array", "items": {"$ref": "#"}, "minItems": 1}), "#/items"),
        (json!({"type": "object", "additionalProperties": false, "required": ["a"]}), "#"),
        (json!({"type": "strnig"}), "#"),
        (required(json!({"$ref": "#/$defs/none"})), "#/properties/bad"),
        (required(json!({"$ref": "http://example.org/schema"})), "#/properties/bad"),
        (required(json!({"type": "string", "minLength": -1})), "#/properties/bad"),
        (required(json!({"type": "integer", "minimum": "three"})), "#/properties/bad"),
        (required(json!([1, 2])), "#/properties/bad"),
    ];
    for (schema, place) in bad {
        let fault = constraints.schema(&schema).expect_err(&schema.to_string());
        assert_eq!(fault.code, "PS-CFG-001", "{schema}");
        assert!(place.is_empty() || fault.detail.contains(&format!("`{place}`")), "{schema}: {}", fault.detail);
    }
}

#[test]
fn keywords_that_cannot_be_obeyed_are_named_not_ignored() {
    let base = starter::base();
    let constraints = constraints(&base);
    for (schema, word) in [
        (json!({"type": "array", "items": {"type": "integer"}, "uniqueItems": true}), "uniqueItems"),
        (json!({"type": "object", "properties": {"a": {"not": {"type": "string"}}}}), "not"),
        (json!({"if": {"type": "string"}, "then": {"const": "a"}, "else": {"const": 1}}), "if"),
        (json!({"type": "string", "format": "no-such-format"}), "no-such-format"),
        (json!({"oneOf": [{"type": "integer"}, {"type": "number"}]}), "oneOf"),
    ] {
        let fault = constraints.schema(&schema).expect_err(&schema.to_string());
        assert_eq!(fault.code, "PS-CFG-001");
        assert!(fault.detail.contains(word), "{schema}: {}", fault.detail);
    }
    // Alternatives of `oneOf` that exclude each other can be told apart.
    constraints.schema(&json!({"oneOf": [{"type": "integer"}, {"type": "string"}]})).expect("disjoint");
}

#[test]
fn hostile_schemas_neither_hang_nor_panic() {
    let base = starter::base();
    let constraints = constraints(&base);
    let mut deep = json!({"type": "null"});
    for _ in 0..500 {
        deep = json!({"type": "array", "items": deep});
    }
    let begun = Instant::now();
    for schema in [
        deep,
        json!({"type": "string", "pattern": "(a|a)*b((((((c{1,50}){1,50}){1,50}){1,50}){1,50}){1,50})"}),
        json!({"type": "string", "pattern": "["}),
        json!({"type": "string", "maxLength": u64::MAX}),
        json!({"type": "array", "minItems": 1_000_000, "items": {"type": "null"}}),
        json!({"properties": 3}),
        json!({"required": "a", "type": "object"}),
        json!({"type": "object", "patternProperties": {"(": {}}}),
        json!({"x-guidance": {"lenient": true, "whitespace_flexible": 3}}),
    ] {
        // Refused or usable; both are answers.
        if let Err(fault) = constraints.schema(&schema) {
            assert_eq!(fault.code, "PS-CFG-001");
        }
    }
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}

#[test]
fn tokenizers_with_pieces_and_byte_tokens_obey_too() {
    for family in ["mistral", "gemma3", "phi3"] {
        let base = crate::tiny::base(family);
        let stop: Vec<u32> = base.tokenizer().stop_ids().to_vec();
        let constraints = Constraints::new(base.tokenizer(), base.spec().vocab_size, &stop).expect("a vocabulary");
        let schema = json!({"type": "object", "properties": {"k": {"type": "string", "maxLength": 4}, "é": {"enum": ["ü", "日本"]}},
                            "required": ["k", "é"], "additionalProperties": false});
        let grammar = constraints.schema(&schema).expect("a schema");
        for seed in 0..3 {
            let options = GenerateOptions {
                sampling: Sampling { temperature: 1.0, seed, ..Sampling::default() },
                max_new_tokens: 150,
                stop_ids: stop.clone(),
                grammar: Some(grammar.clone()),
            };
            let prompt = peft_models::generate::Prompt { ids: vec![5, 6, 7], adapter: false };
            let ids = starter::answers(starter::session(&base, None).as_mut(), &[prompt], &options).remove(0);
            let text = starter::text(&base, &ids);
            if base.spec().max_positions > 100 {
                let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{family}: {text:?}: {e}"));
                assert!(is_valid(&value, &schema, &schema), "{family}: {text}");
            }
        }
    }
}

/// A vocabulary of 150,000 tokens that looks like one: all bytes, and random words with and without a space.
fn large_vocabulary() -> Vec<Vec<u8>> {
    let mut random = SplitMix::new(11);
    let mut words: Vec<Vec<u8>> = (0..=255_u8).map(|byte| vec![byte]).collect();
    while words.len() < 150_000 {
        let letters = match random.below(10) {
            0 => &b"0123456789"[..],
            1 => &b" {}[]\",:\\\n\t-_."[..],
            _ => &b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[..],
        };
        let mut word: Vec<u8> = if random.below(3) == 0 { vec![b' '] } else { Vec::new() };
        word.extend((0..2 + random.below(7)).map(|_| letters[random.below(letters.len())]));
        words.push(word);
    }
    words.push(Vec::new());
    words
}

#[test]
fn a_step_costs_little_with_150_000_tokens() {
    let words = large_vocabulary();
    let eos = words.len() as u32 - 1;
    let constraints = Constraints::of_words(words.clone(), eos).expect("a vocabulary");
    let schema = json!({"type": "object", "properties": {"name": {"type": "string"}, "tags": {"type": "array",
        "items": {"type": "string", "maxLength": 12}}, "score": {"type": "number", "minimum": 0, "maximum": 1}},
        "required": ["name", "tags", "score"], "additionalProperties": false});
    let grammar = constraints.schema(&schema).expect("a schema");
    let mut random = SplitMix::new(3);
    let mut seconds = Vec::new();
    for _ in 0..4 {
        let mut constraint = grammar.start();
        for _ in 0..40 {
            let mut logits: Vec<f32> = (0..words.len()).map(|_| random.unit() as f32).collect();
            let begun = Instant::now();
            constraint.mask(&mut logits, &[eos]).expect("a mask");
            seconds.push(begun.elapsed().as_secs_f64());
            let token = peft_models::generate::choose(&logits, &Sampling::default(), 0);
            if token == eos || constraint.accept(token).expect("allowed") {
                break;
            }
        }
    }
    let first = seconds.len() / 4;
    let mut later = seconds.split_off(first);
    later.sort_by(f64::total_cmp);
    let median = later[later.len() / 2];
    eprintln!(
        "a mask over 150,000 tokens: median {:.3} ms, longest {:.3} ms",
        median * 1e3,
        later[later.len() - 1] * 1e3
    );
    assert!(median < 2e-3, "{median}");
}

/// A model folder in the shape of Qwen2.5-0.5B without meaning: zeros where anything is possible.
pub(crate) fn write_half_a_billion(folder: &Path) {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/parity/qwen2/model");
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        std::fs::copy(model.join(name), folder.join(name)).expect("copied");
    }
    let mut config: Value =
        serde_json::from_slice(&std::fs::read(model.join("config.json")).expect("read")).expect("JSON");
    for (key, value) in [
        ("hidden_size", 896),
        ("intermediate_size", 4864),
        ("num_hidden_layers", 24),
        ("num_attention_heads", 14),
        ("num_key_value_heads", 2),
        ("vocab_size", 151_936),
    ] {
        config[key] = json!(value);
    }
    config["tie_word_embeddings"] = json!(true);
    std::fs::write(folder.join("config.json"), config.to_string()).expect("written");
    let (hidden, ffn, kv) = (896, 4864, 128);
    let mut tensors: Vec<(String, Vec<usize>)> =
        vec![("model.embed_tokens.weight".into(), vec![151_936, hidden]), ("model.norm.weight".into(), vec![hidden])];
    for i in 0..24 {
        for (name, shape) in [
            ("self_attn.q_proj.weight", vec![hidden, hidden]),
            ("self_attn.k_proj.weight", vec![kv, hidden]),
            ("self_attn.v_proj.weight", vec![kv, hidden]),
            ("self_attn.o_proj.weight", vec![hidden, hidden]),
            ("self_attn.q_proj.bias", vec![hidden]),
            ("self_attn.k_proj.bias", vec![kv]),
            ("self_attn.v_proj.bias", vec![kv]),
            ("mlp.gate_proj.weight", vec![ffn, hidden]),
            ("mlp.up_proj.weight", vec![ffn, hidden]),
            ("mlp.down_proj.weight", vec![hidden, ffn]),
            ("input_layernorm.weight", vec![hidden]),
            ("post_attention_layernorm.weight", vec![hidden]),
        ] {
            tensors.push((format!("model.layers.{i}.{name}"), shape));
        }
    }
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in &tensors {
        let start = end;
        end += 2 * shape.iter().product::<usize>();
        header.insert(name.clone(), json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}));
    }
    let header = Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    // 0x3C00 as bf16 is a small number; norms of zero rows would divide by zero with DoRA.
    bytes.extend(std::iter::repeat_n([0x00, 0x3C], end / 2).flatten());
    std::fs::write(folder.join("model.safetensors"), bytes).expect("written");
}
