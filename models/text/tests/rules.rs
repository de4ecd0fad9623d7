//! The rules of D2 and D3 on small conversations, one claim per test.

mod fixtures;

use fixtures::{Loaded, TOKENIZERS, fixture, fixture_json, load, options, template};
use peft_plan::{Example, Role, TrainOn, Turn};
use peft_text::{ChatTemplate, Mark, Parts, RenderOptions, Rendered, Tokenizer};

fn turns(contents: &[(Role, &str)]) -> Vec<Turn> {
    let turn = |(role, content): &(Role, &str)| Turn::new(*role, *content);
    contents.iter().map(turn).collect()
}

fn chat() -> Vec<Turn> {
    turns(&[
        (Role::User, "What is two plus two?"),
        (Role::Assistant, "Four."),
        (Role::User, "Are you sure?"),
        (Role::Assistant, "Yes, I am quite sure about it."),
    ])
}

fn render(model: &Loaded, turns: &[Turn], options: &RenderOptions) -> Rendered {
    let row = model.tokenizer.render(&Example::Messages(turns.to_vec()), options);
    row.unwrap_or_else(|fault| panic!("{} {}: {fault}", model.name, options.template.name()))
}

/// The trained text of a row.
fn learnt(row: &Rendered) -> String {
    let pieces = row.pieces().into_iter();
    let pieces = pieces.filter(|(_, mark)| matches!(mark, Mark::Trained | Mark::Stop));
    pieces.map(|(piece, _)| piece).collect()
}

/// A tokenizer and a layout that takes every role order, with its end-of-turn token.
fn all_models() -> Vec<(Loaded, ChatTemplate, &'static str)> {
    let end = |name: &str| match name {
        "llama3" => ("builtin:llama3", "<|eot_id|>"),
        "qwen" => ("builtin:chatml", "<|im_end|>"),
        "gpt2" => ("builtin:alpaca", "<|endoftext|>"),
        "phi3" => ("builtin:phi3", "<|end|>"),
        "gemma" => ("builtin:gemma", "<end_of_turn>"),
        _ => ("builtin:mistral", "</s>"),
    };
    TOKENIZERS
        .iter()
        .filter(|name| **name != "normalized")
        .map(|name| {
            let model = load(name);
            let (layout, end) = end(name);
            let layout = template(layout, &model);
            (model, layout, end)
        })
        .collect()
}

#[test]
fn d3_every_answer_ends_with_exactly_one_trained_stop_token() {
    for (model, layout, end) in all_models() {
        let row = render(&model, &chat(), &options(&layout));
        let id = model.tokenizer.token_to_id(end).expect("a token");
        assert!(layout.stop_ids().contains(&id), "{}", model.name);
        assert_eq!(layout.end_of_turn(), Some(end), "{}", model.name);
        let stops: Vec<String> = row
            .pieces()
            .into_iter()
            .filter(|(_, mark)| *mark == Mark::Stop)
            .map(|(piece, _)| piece.trim().to_owned())
            .collect();
        assert_eq!(stops, [end, end], "{}", model.name);
        let text = learnt(&row).replace('\n', "");
        let expected = format!("Four.{end}Yes, I am quite sure about it.{end}");
        assert_eq!(text.replace(&format!("{end} "), end).trim(), expected, "{}", model.name);
    }
}

#[test]
fn d2_there_is_exactly_one_bos_whatever_the_template_prints() {
    for (model, _, _) in all_models() {
        let Some(bos) = model.tokenizer.bos().cloned() else {
            continue;
        };
        for prefix in ["{{ bos_token }}", "{{ bos_token }}{{ bos_token }}"] {
            let source =
                format!("{prefix}{{% for m in messages %}}{{{{ m.content }}}}{{{{ eos_token }}}}{{% endfor %}}");
            let layout = ChatTemplate::from_source("test", &source, &model.tokenizer).expect("a layout");
            let mut options = options(&layout);
            options.train_on = TrainOn::All;
            let row = render(&model, &chat(), &options);
            assert_eq!(row.ids[0], bos.id, "{}", model.name);
            assert_ne!(row.ids[1], bos.id, "{}", model.name);
            assert!(!row.trained[0], "{}: BOS is not learnt", model.name);
        }
        // A template that prints none gets none: as transformers does it.
        let source = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}";
        let layout = ChatTemplate::from_source("test", source, &model.tokenizer).expect("a layout");
        assert_ne!(render(&model, &chat(), &options(&layout)).ids[0], bos.id, "{}", model.name);
    }
}

#[test]
fn a_prompt_is_the_beginning_of_the_rendering_it_asks_for() {
    for (model, layout, _) in all_models() {
        let options = options(&layout);
        let whole = render(&model, &chat(), &options);
        let prompt = model.tokenizer.render_prompt(&chat()[..3], &options).expect("a prompt");
        assert_eq!(whole.ids[..prompt.len()], prompt, "{}", model.name);
        // What is learnt begins right after it.
        assert!(!whole.trained[prompt.len() - 1] && whole.trained[prompt.len()], "{}", model.name);
    }
}

#[test]
fn s1_2_the_plain_layout_joins_with_blank_lines_and_ends_with_the_end_token() {
    let model = load("mistral");
    let layout = template("builtin:plain", &model);
    let turns = turns(&[
        (Role::System, "Antworte knapp."),
        (Role::User, "Wer bist du?\n\nReply with JSON."),
        (Role::Assistant, "{\"name\": \"Ada\"}"),
    ]);
    let row = render(&model, &turns, &options(&layout));
    let expected = "<s>Antworte knapp.\n\nWer bist du?\n\nReply with JSON.\n\n{\"name\": \"Ada\"}</s>";
    assert_eq!(row.text, expected);
    assert_eq!(learnt(&row), "{\"name\": \"Ada\"}</s>");
    let prompt = model.tokenizer.render_prompt(&turns[..2], &options(&layout)).expect("a prompt");
    assert_eq!(row.ids[..prompt.len()], prompt);
}

#[test]
fn d1_turns_override_what_the_run_trains_on() {
    for (model, layout, end) in all_models() {
        let mut turns = chat();
        turns[1].train = Some(false);
        let row = render(&model, &turns, &options(&layout));
        assert!(!learnt(&row).contains("Four"), "{}", model.name);
        assert!(learnt(&row).contains("quite sure"), "{}", model.name);
        turns[0].train = Some(true);
        let row = render(&model, &turns, &options(&layout));
        assert!(learnt(&row).contains("two plus two"), "{}", model.name);
        assert!(!learnt(&row).contains("Four"), "{}", model.name);

        let mut whole = options(&layout);
        whole.train_on = TrainOn::All;
        turns[0].train = None;
        let row = render(&model, &turns, &whole);
        let ignored: String =
            row.pieces().into_iter().filter(|(_, mark)| *mark == Mark::Ignored).map(|(piece, _)| piece).collect();
        let bos = model.tokenizer.bos();
        let bos = bos.map_or("", |bos| bos.text.as_str());
        let ignored = ignored.strip_prefix(bos).unwrap_or(&ignored);
        assert_eq!(ignored.trim(), format!("Four.{end}"), "{}", model.name);
    }
}

#[test]
fn d3_a_layout_that_does_not_end_answers_is_refused() {
    let model = load("qwen");
    let source = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";
    let layout = ChatTemplate::from_source("no end", source, &model.tokenizer).expect("a layout");
    let example = Example::Messages(chat());
    let fault = model.tokenizer.render(&example, &options(&layout)).expect_err("no stop");
    assert_eq!(fault.code, "PS-TOK-002");
    // The way out that the message offers: whole texts get their end token.
    let mut whole = options(&layout);
    whole.train_on = TrainOn::All;
    let row = model.tokenizer.render(&example, &whole).expect("all tokens are learnt");
    assert_eq!(row.ids.last().copied(), model.tokenizer.eos().map(|eos| eos.id));
    assert_eq!(row.trained.last(), Some(&true));
    // The old tokenizer form does not see `</s>` right after a word: found out, not trained on.
    let model = load("normalized");
    let layout = template("builtin:mistral", &model);
    let fault = model.tokenizer.render(&Example::Messages(chat()), &options(&layout));
    assert_eq!(fault.expect_err("no stop").code, "PS-TOK-002");
}

/// A layout that looks at the contents writes otherwise when there are marks in them.
#[test]
fn d3_answers_are_found_in_layouts_that_look_at_the_contents() {
    let model = load("qwen");
    let source = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}\
                  {% if m.content | length < 8 %}{{ '(short) ' }}{% endif %}\
                  {{ m.content + '<|im_end|>\n' }}{% endfor %}\
                  {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    let layout = ChatTemplate::from_source("looks", source, &model.tokenizer).expect("a layout");
    let row = render(&model, &chat(), &options(&layout));
    assert!(row.text.contains("\n(short) Four.<|im_end|>"), "{}", row.text);
    assert_eq!(learnt(&row), "(short) Four.<|im_end|>Yes, I am quite sure about it.<|im_end|>");
}

/// A layout that moves the system text to the last question and puts a space before answers: no
/// beginning of the whole is what it makes of the first turns alone, and the space belongs to the
/// first token of the answer.
#[test]
fn d3_answers_are_found_where_earlier_output_depends_on_later_turns() {
    let model = load("metaspace");
    let source = "{{ bos_token }}{% set rest = messages[1:] %}{% for m in rest %}\
                  {% if m.role == 'user' %}{% set last = not (rest[loop.index:] | selectattr('role', 'equalto', 'user') | list) %}\
                  {{ '[INST] ' + ((messages[0].content + '\n\n') if last else '') + m.content + '[/INST]' }}\
                  {% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}";
    let layout = ChatTemplate::from_source("moves", source, &model.tokenizer).expect("a layout");
    let mut turns = chat();
    turns.insert(0, Turn::new(Role::System, "Be exact."));
    let row = render(&model, &turns, &options(&layout));
    assert!(row.text.contains("[/INST] Four.</s>[INST] Be exact."), "{}", row.text);
    assert_eq!(learnt(&row), " Four.</s> Yes, I am quite sure about it.</s>");
}

#[test]
fn a_tokenizer_and_its_layouts_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Tokenizer>();
    shared::<ChatTemplate>();
    shared::<RenderOptions>();
}

#[test]
fn a_built_in_layout_ends_answers_with_the_models_own_token_where_its_marker_is_none() {
    let model = load("mistral");
    for name in ChatTemplate::names() {
        let layout = ChatTemplate::resolve(name, &model.tokenizer).expect("a layout");
        let row = render(&model, &chat(), &options(&layout));
        assert_eq!(layout.end_of_turn(), Some("</s>"), "{name}");
        assert!(learnt(&row).trim_end().ends_with("sure about it.</s>"), "{name}");
    }
}

#[test]
fn raw_text_gets_bos_and_end_and_is_learnt_whole() {
    for (model, layout, _) in all_models() {
        let example = Example::Text("Once upon a time.".to_owned());
        let row = model.tokenizer.render(&example, &options(&layout)).expect("a text");
        let added = model.tokenizer.encode_text("Once upon a time.", true).expect("ids");
        assert_eq!(row.ids[..added.len()], added, "{}", model.name);
        assert_eq!(row.ids[added.len()..], [model.tokenizer.eos().expect("an end").id]);
        let bos = model.tokenizer.bos().map(|bos| bos.id);
        let expected = row.ids.len() - usize::from(Some(row.ids[0]) == bos);
        assert_eq!(row.trained_count(), expected, "{}", model.name);
    }
}

#[test]
fn a_system_prompt_goes_before_conversations_without_one() {
    let model = load("qwen");
    let mut options = options(&template("builtin:chatml", &model));
    options.system_prompt = Some("Be brief.".to_owned());
    let row = render(&model, &chat(), &options);
    assert!(row.text.starts_with("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user"));
    let own = turns(&[(Role::System, "Be long."), (Role::User, "Hi"), (Role::Assistant, "Hello")]);
    assert!(!render(&model, &own, &options).text.contains("Be brief."));
}

#[test]
fn truncation_keeps_the_stop_token_and_counts_what_went() {
    for (model, layout, _) in all_models() {
        let row = render(&model, &chat(), &options(&layout));
        let prompt = model.tokenizer.render_prompt(&chat()[..1], &options(&layout)).expect("a prompt");
        let stops = layout.stop_ids();
        for len in 0..=row.ids.len() + 1 {
            let Some(cut) = row.truncate(len) else {
                assert!(len < prompt.len() + 2, "{} {len}", model.name);
                continue;
            };
            assert!(cut.ids.len() <= len);
            assert_eq!(cut.cut, row.ids.len() - cut.ids.len());
            assert_eq!(cut.ids.len(), cut.trained.len());
            assert_eq!(cut.ids.len(), cut.offsets.len());
            let last = cut.trained.iter().rposition(|trained| *trained).expect("something is learnt");
            assert!(stops.contains(&cut.ids[last]), "{} {len}: ends without a stop", model.name);
            // An end token without an answer would teach silence.
            assert!(cut.trained[last - 1], "{} {len}", model.name);
            let shown: String = cut.pieces().into_iter().map(|(piece, _)| piece).collect();
            assert_eq!(shown, row.text, "{} {len}", model.name);
        }
    }
}

#[test]
fn b6_pieces_show_what_is_cut() {
    let model = load("qwen");
    let layout = template("builtin:chatml", &model);
    let row = render(&model, &chat(), &options(&layout));
    let cut = row.truncate(row.ids.len() - 4).expect("something is left");
    let gone: String =
        cut.pieces().into_iter().filter(|(_, mark)| *mark == Mark::Truncated).map(|(piece, _)| piece).collect();
    assert!(row.text.contains(gone.trim_end()) && gone.contains("it."), "{gone:?}");
    assert_eq!(cut.pieces().iter().filter(|(_, mark)| *mark == Mark::Stop).count(), 2);
}

/// S1.10, formats.md 4.2: where the pad token is the end token, the end token is learnt all the
/// same; padding is told by length.
#[test]
fn pad_may_equal_the_end_token_without_unlearning_it() {
    let model = load("gpt2");
    let eos = model.tokenizer.eos().expect("an end").id;
    assert_eq!(model.tokenizer.pad_id(), eos);
    let layout = template("builtin:alpaca", &model);
    for train_on in [TrainOn::Assistant, TrainOn::All] {
        let mut options = options(&layout);
        options.train_on = train_on;
        let row = render(&model, &chat(), &options);
        let ends = row.ids.iter().zip(&row.trained).skip(1);
        let ends: Vec<bool> = ends.filter(|(id, _)| **id == eos).map(|(_, t)| *t).collect();
        assert_eq!(ends, [true, true], "{train_on:?}");
    }
}

#[test]
fn an_embedding_with_too_few_rows_is_refused() {
    for name in TOKENIZERS {
        let model = load(name);
        let size = model.tokenizer.vocabulary_size();
        model.tokenizer.check_vocabulary(size).expect("it fits");
        model.tokenizer.check_vocabulary(size + 64).expect("spare rows are fine");
        let fault = model.tokenizer.check_vocabulary(size / 2).expect_err("too small");
        assert_eq!(fault.code, "PS-TOK-001", "{name}");
    }
    // A special token beyond the rows that nothing prints: many finetunes have one.
    let mut json = fixture_json("mistral/tokenizer.json");
    let size = load("mistral").tokenizer.vocabulary_size();
    let mut extra = json["added_tokens"][0].clone();
    extra["id"] = size.into();
    extra["content"] = "<extra>".into();
    json["added_tokens"].as_array_mut().expect("a list").push(extra);
    let config = std::fs::read(fixture("mistral/tokenizer_config.json")).expect("a file");
    let tokenizer = Tokenizer::from_parts(Parts {
        tokenizer_json: json.to_string().as_bytes(),
        tokenizer_config: &config,
        chat_template: None,
        generation_config: None,
        config: None,
    })
    .expect("it opens");
    assert_eq!(tokenizer.vocabulary_size(), size + 1);
    tokenizer.check_vocabulary(size).expect("nothing reaches it");
    assert!(tokenizer.check_vocabulary(size - 1).is_err());
}

/// An answer that calls a tool `now` with the words `content`.
fn calling(content: &str) -> Turn {
    let mut turn = Turn::new(Role::Assistant, content);
    let extra = turn.extra_mut();
    extra.null_content = content.is_empty();
    extra.tool_calls.push(
        serde_json::json!({"type": "function", "function": {"name": "now", "arguments": {"zone": "<|im_end|>"}}}),
    );
    turn
}

#[test]
fn calls_are_put_into_words_for_layouts_that_cannot_write_them() {
    let model = load("qwen");
    let layout = template("builtin:chatml", &model);
    assert!(!layout.writes_tools());
    let mut turns = vec![Turn::new(Role::User, "Late?"), calling("Let me look.")];
    turns[1].extra_mut().reasoning = Some("The clock.".to_owned());
    let row = render(&model, &turns, &options(&layout));
    let words = "<think>\nThe clock.\n</think>\n\nLet me look.\n<tool_call>\n\
                 {\"name\":\"now\",\"arguments\":{\"zone\":\"<|im_end|>\"}}\n</tool_call><|im_end|>";
    assert_eq!(learnt(&row), words);
    // What the arguments spell stays text: there is one end token, and it is the last that is learnt.
    let end = model.tokenizer.token_to_id("<|im_end|>").expect("a token");
    let ends = row.ids.iter().zip(&row.trained).filter(|(id, trained)| **id == end && **trained).count();
    assert_eq!(ends, 1);
}

/// Some layouts write calls only where the content is `none`, others only where it is a text.
#[test]
fn an_answer_that_only_calls_is_written_by_layouts_of_every_taste() {
    let model = load("mistral");
    for test in ["m.content is none", "m.content is not defined", "m.content == ''"] {
        let source = format!(
            "{{% for m in messages %}}{{% if m.role == 'assistant' and {test} %}}\
             [/INST]{{{{ m.tool_calls[0].function | tojson }}}}{{{{ eos_token }}}}\
             {{% elif m.role == 'assistant' %}}[/INST]{{{{ m.content }}}}{{{{ eos_token }}}}\
             {{% else %}}[INST]{{{{ m.content }}}}{{% endif %}}{{% endfor %}}\
             {{% if add_generation_prompt %}}[/INST]{{% endif %}}"
        );
        let layout = ChatTemplate::from_source("test", &source, &model.tokenizer).expect("a layout");
        let row = render(&model, &[Turn::new(Role::User, "Late?"), calling("")], &options(&layout));
        let call = "{\"name\": \"now\", \"arguments\": {\"zone\": \"<|im_end|>\"}}</s>";
        assert_eq!(learnt(&row).trim(), call, "{test}");
    }
}

#[test]
fn an_overriding_layout_that_drops_answers_or_calls_is_refused() {
    let model = load("qwen");
    let fault = |source: &str, turns: &[Turn]| {
        let layout = ChatTemplate::from_source("mine", source, &model.tokenizer).expect("a layout");
        let row = model.tokenizer.render(&Example::Messages(turns.to_vec()), &options(&layout));
        row.expect_err("nothing to learn")
    };
    let questions = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}";
    let dropped = fault(questions, &chat());
    assert_eq!(dropped.code, "PS-TMPL-002");
    assert!(dropped.detail.contains("leaves out turn 2"), "{}", dropped.detail);
    // Writes the first call of a conversation only.
    let once = "{% set ns = namespace(seen=false) %}{% for m in messages %}<|im_start|>{{ m.role }}\n\
                {% if m.tool_calls and not ns.seen %}{% set ns.seen = true %}{{ m.tool_calls[0].function.name }}\
                {% else %}{{ m.content }}{% endif %}<|im_end|>{% endfor %}";
    let turns = [Turn::new(Role::User, "1"), calling(""), Turn::new(Role::User, "2"), calling("")];
    let dropped = fault(once, &turns);
    assert_eq!(dropped.code, "PS-TMPL-002");
    assert!(dropped.detail.contains("turn 4"), "{}", dropped.detail);
    assert_eq!(fault("{{ raise_exception('never') }}", &chat()).code, "PS-TMPL-002");
    assert_eq!(fault("always the same", &chat()).code, "PS-TMPL-002");
}

#[test]
fn a_model_that_brings_a_layout_for_tools_has_it_used_for_tools() {
    let config = serde_json::json!({"eos_token": "</s>", "bos_token": "<s>", "chat_template": [
        {"name": "default", "template": "{% for m in messages %}[INST]{{ m.content }}{{ eos_token }}{% endfor %}"},
        {"name": "tool_use", "template": "{{ tools | tojson }}{% for m in messages %}[INST]{{ m.content }}{{ eos_token }}{% endfor %}"},
    ]});
    let json = std::fs::read(fixture("mistral/tokenizer.json")).expect("a file");
    let tokenizer = Tokenizer::from_parts(Parts {
        tokenizer_json: &json,
        tokenizer_config: config.to_string().as_bytes(),
        chat_template: None,
        generation_config: None,
        config: None,
    })
    .expect("it opens");
    let layout = ChatTemplate::resolve("auto", &tokenizer).expect("a layout");
    assert!(layout.writes_tools());
    let mut turns = vec![Turn::new(Role::User, "Hi"), Turn::new(Role::Assistant, "Hello")];
    let text = |turns: &[Turn]| {
        let row =
            tokenizer.render(&Example::Messages(turns.to_vec()), &RenderOptions::new(layout.clone(), "2024-07-26"));
        row.expect("it renders").text
    };
    assert!(!text(&turns).contains("\"now\""));
    turns[0].extra_mut().tools.push(serde_json::json!({"name": "now"}));
    assert!(text(&turns).starts_with("[{\"name\": \"now\"}]"), "{}", text(&turns));
}
