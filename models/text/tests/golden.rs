//! Ids, prompts, masks and decoded text against what transformers made of the same conversations.
//!
//! `tests/fixtures/text/make_text.py` writes the expectations and says how.

mod fixtures;

use fixtures::{Loaded, conversation, fixture_json, load, options};
use peft_plan::{Example, TrainOn, Turn};
use peft_text::{ChatTemplate, Decoder};
use serde_json::Value;
use std::collections::BTreeMap;

fn ids(value: &Value) -> Vec<u32> {
    let list = value.as_array().expect("a list of ids");
    let id = |v: &Value| u32::try_from(v.as_u64().expect("an id")).expect("an id of 32 bits");
    list.iter().map(id).collect()
}

fn bits(mask: &[bool]) -> String {
    let bit = |trained: &bool| if *trained { '1' } else { '0' };
    mask.iter().map(bit).collect()
}

/// Every case with its tokenizer and resolved template.
fn each_case(mut check: impl FnMut(&Value, &Loaded, &ChatTemplate)) {
    let mut loaded = BTreeMap::new();
    let mut templates = BTreeMap::new();
    for case in fixture_json("cases.json").as_array().expect("cases") {
        let tokenizer = case["tokenizer"].as_str().expect("a tokenizer");
        let template = case["template"].as_str().expect("a template");
        let model = loaded.entry(tokenizer.to_owned()).or_insert_with(|| load(tokenizer));
        let resolved = templates
            .entry((tokenizer.to_owned(), template.to_owned()))
            .or_insert_with(|| fixtures::template(template, model));
        check(case, model, resolved);
    }
}

#[test]
fn ids_equal_those_of_transformers() {
    let mut checked = 0;
    each_case(|case, model, template| {
        let name = format!("{} {} {}", model.name, template.name(), case["conversation"]);
        let turns = conversation(&case["conversation"]);
        let mut options = options(template);
        // Whole texts may lack answers: the mask is not what this test is about.
        options.train_on = TrainOn::All;
        let row = model.tokenizer.render(&Example::Messages(turns.clone()), &options);
        if let Some(error) = case["error"].as_str() {
            let fault = row.expect_err(&name);
            assert_eq!(fault.code, "PS-TMPL-002", "{name}");
            assert!(fault.detail.contains(error), "{name}: {}", fault.detail);
            return;
        }
        let row = row.unwrap_or_else(|fault| panic!("{name}: {fault}"));
        let mut expected = ids(&case["ids"]);
        // `train_on: all` adds an end token to conversations that hold none.
        if row.ids.len() > expected.len() {
            expected.extend(model.tokenizer.eos().map(|eos| eos.id));
        }
        assert_eq!(row.ids, expected, "{name}\n{}", row.text);
        let prompt = model.tokenizer.render_prompt(&turns, &options);
        let prompt = prompt.unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert_eq!(prompt, ids(&case["prompt"]), "{name}");
        checked += 1;
    });
    assert!(checked > 250, "only {checked} cases");
}

#[test]
fn d3_masks_equal_those_found_by_searching_for_markers() {
    let mut checked = 0;
    each_case(|case, model, template| {
        let Some(expected) = case["trained"].as_str() else {
            return;
        };
        let name = format!("{} {} {}", model.name, template.name(), case["conversation"]);
        let example = Example::Messages(conversation(&case["conversation"]));
        let row = model.tokenizer.render(&example, &options(template));
        let row = row.unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert_eq!(bits(&row.trained), expected, "{name}\n{:?}", row.pieces());
        checked += 1;
    });
    assert!(checked > 200, "only {checked} masks");
}

/// Both layouts with generation blocks: transformers also counts the white space after the
/// end-of-turn token, and where the block holds it the header, which D3 leaves out.
#[test]
fn d3_generation_blocks_give_transformers_mask_without_header_and_what_follows_the_stop() {
    let mut checked = 0;
    each_case(|case, model, template| {
        let Some(assistant) = case["assistant"].as_str() else {
            return;
        };
        let name = format!("{} {}", template.name(), case["conversation"]);
        let example = Example::Messages(conversation(&case["conversation"]));
        let row = model.tokenizer.render(&example, &options(template));
        let row = row.unwrap_or_else(|fault| panic!("{name}: {fault}"));
        let ours = bits(&row.trained);
        let header = template.name().ends_with("smollm3.jinja");
        for (at, (ours, theirs)) in ours.bytes().zip(assistant.bytes()).enumerate() {
            assert!(ours <= theirs, "{name}: token {at} is not of an answer");
            // With the header outside and nothing after the stop, both say the same.
            assert!(header || ours == theirs, "{name}: token {at}");
        }
        checked += 1;
    });
    assert!(checked >= 20, "only {checked} masks");
}

#[test]
fn raw_text_encodes_and_decodes_as_in_transformers() {
    let mut loaded = BTreeMap::new();
    for case in fixture_json("texts.json").as_array().expect("texts") {
        let name = case["tokenizer"].as_str().expect("a tokenizer");
        let model = loaded.entry(name.to_owned()).or_insert_with(|| load(name));
        let text = case["text"].as_str().expect("a text");
        let decoded = case["decoded"].as_str().expect("a text");
        let expected = ids(&case["ids"]);
        let got = model.tokenizer.encode_text(text, true).expect("text encodes");
        assert_eq!(got, expected, "{name}: {text:?}");
        let whole = model.tokenizer.decode(&expected).expect("ids decode");
        assert_eq!(whole, decoded, "{name}: {text:?}");
        let mut decoder = Decoder::new(&model.tokenizer);
        let mut streamed = String::new();
        for id in &expected {
            streamed.push_str(&decoder.push(*id).expect("an id decodes"));
        }
        streamed.push_str(&decoder.finish().expect("the rest decodes"));
        assert_eq!(streamed, decoded, "{name}: {text:?}");
    }
}

/// Turns of `tools.json`, with the tools at the first.
fn tool_turns(conversation: &Value) -> Vec<Turn> {
    let messages = conversation["messages"].as_array().expect("turns");
    let mut turns: Vec<Turn> = messages
        .iter()
        .map(|message| {
            let mut message = message.clone();
            let null_content = message["content"].is_null();
            if null_content {
                message["content"] = "".into();
            }
            let mut turn: Turn = serde_json::from_value(message).expect("a turn");
            if null_content {
                turn.extra_mut().null_content = true;
            }
            turn
        })
        .collect();
    if let Some(tools) = conversation["tools"].as_array() {
        turns[0].extra_mut().tools.clone_from(tools);
    }
    turns
}

#[test]
fn tools_calls_and_reasoning_equal_those_of_transformers_s3_8() {
    let fixture = fixture_json("tools.json");
    let mut checked = 0;
    for case in fixture["cases"].as_array().expect("cases") {
        let model = load(case["tokenizer"].as_str().expect("a tokenizer"));
        let template = fixtures::template(case["template"].as_str().expect("a template"), &model);
        let name = format!("{} {}", template.name(), case["conversation"]);
        let number = usize::try_from(case["conversation"].as_u64().expect("a number")).expect("small");
        let turns = tool_turns(&fixture["conversations"][number]);
        let row = model.tokenizer.render(&Example::Messages(turns.clone()), &options(&template));
        if let Some(error) = case["error"].as_str() {
            let fault = row.expect_err(&name);
            assert!(fault.detail.contains(error), "{name}: {}", fault.detail);
            continue;
        }
        let row = row.unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert_eq!(row.text, case["text"].as_str().expect("a text"), "{name}");
        if case["ids"].is_null() {
            continue;
        }
        assert_eq!(row.ids, ids(&case["ids"]), "{name}");
        assert_eq!(bits(&row.trained), case["trained"].as_str().expect("a mask"), "{name}\n{:?}", row.pieces());
        checked += 1;
    }
    assert!(checked > 10, "only {checked} cases");
}
