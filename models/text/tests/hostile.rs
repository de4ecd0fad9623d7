//! Contents that spell control tokens, templates that misbehave, and damaged files.

mod fixtures;

use fixtures::{Loaded, TOKENIZERS, fixture, load, options, template};
use peft_plan::{Example, Role, TrainOn, Turn};
use peft_text::{ChatTemplate, Parts, Rendered, Tokenizer};

/// Every layout of the fixtures that a tokenizer is used with.
const LAYOUTS: [(&str, &str); 16] = [
    ("llama3", "builtin:llama3"),
    ("llama3", "llama31"),
    ("qwen", "builtin:chatml"),
    ("qwen", "qwen25"),
    ("qwen", "qwen3"),
    ("qwen", "smollm3"),
    ("qwen", "phi4"),
    ("gpt2", "builtin:alpaca"),
    ("mistral", "builtin:mistral"),
    ("mistral", "llama2"),
    ("metaspace", "nemo"),
    ("metaspace", "builtin:plain"),
    ("phi3", "phi35"),
    ("phi3", "builtin:phi3"),
    ("gemma", "gemma2"),
    ("gemma", "builtin:gemma"),
];

fn specials(model: &Loaded) -> Vec<String> {
    let ids = 0..u32::try_from(model.tokenizer.vocabulary_size()).expect("a small vocabulary");
    ids.filter(|id| model.tokenizer.is_special(*id)).filter_map(|id| model.tokenizer.id_to_token(id)).collect()
}

fn special_ids(model: &Loaded, row: &Rendered) -> Vec<u32> {
    let ids = row.ids.iter().copied();
    ids.filter(|id| model.tokenizer.is_special(*id)).collect()
}

fn conversation(user: &str, answer: &str) -> Example {
    Example::Messages(vec![
        Turn::new(Role::User, user),
        Turn::new(Role::Assistant, answer),
        Turn::new(Role::User, format!("{user} again")),
        Turn::new(Role::Assistant, format!("{answer} again")),
    ])
}

/// reliability.md 1.2(b): a row with every control token yields none of them in its contents, and
/// the mask covers the same answers.
#[test]
fn what_people_write_never_becomes_a_control_token() {
    for (name, layout) in LAYOUTS {
        let model = load(name);
        let layout = template(layout, &model);
        let options = options(&layout);
        let harmless = conversation("ask this", "say that");
        let harmless = model.tokenizer.render(&harmless, &options).expect("a row");
        for special in specials(&model) {
            let forms = [
                special.clone(),
                format!("a{special}b"),
                format!("see {special} there"),
                format!("{special}{special}"),
                format!("x\n{special}\ny"),
            ];
            for text in forms {
                let row = conversation(&format!("ask {text}"), &format!("say {text}"));
                let row = model.tokenizer.render(&row, &options);
                let row = row.unwrap_or_else(|fault| panic!("{name} {text:?}: {fault}"));
                let what = format!("{name} {} {text:?}", layout.name());
                assert_eq!(special_ids(&model, &row), special_ids(&model, &harmless), "{what}");
                assert!(row.text.contains(&format!("say {text}")), "{what}");
                // All of the answer is learnt, and the stop tokens are as many as without.
                let learnt: String = row
                    .pieces()
                    .into_iter()
                    .filter(|(_, mark)| matches!(mark, peft_text::Mark::Trained))
                    .map(|(piece, _)| piece)
                    .collect();
                assert!(learnt.contains(&format!("say {text} again")), "{what}: {learnt:?}");
                let stops = |row: &Rendered| {
                    let pieces = row.pieces().into_iter();
                    pieces.filter(|(_, mark)| *mark == peft_text::Mark::Stop).count()
                };
                assert_eq!(stops(&row), stops(&harmless), "{what}");
                // Spelled text reads back as it was written.
                let spelled = model.tokenizer.decode_all(&row.ids).expect("it decodes");
                assert!(spelled.contains(&text) || name == "phi3", "{what}: {spelled:?}");
            }
        }
    }
}

/// The twin tokenizer gives the ids of the ordinary one. A noncharacter in a content, which becomes
/// U+FFFD, sends a row through the twin.
#[test]
fn the_twin_tokenizer_agrees_with_the_ordinary_one() {
    for (name, layout) in LAYOUTS.into_iter().chain([("normalized", "builtin:plain")]) {
        let model = load(name);
        let mut options = options(&template(layout, &model));
        options.train_on = TrainOn::All;
        let text = |c: char| format!("  Grüße {c}, 1234 👩‍💻 <think> ok \n\n don't  {c}");
        let row = |c: char| {
            let row = conversation(&text(c), &text(c));
            model.tokenizer.render(&row, &options).expect("a row")
        };
        assert_eq!(row('\u{FDD3}'), row('\u{FFFD}'), "{name} {layout}");
    }
}

#[test]
fn a_model_whose_letters_merge_into_a_control_token_is_kept_from_it() {
    // `</s>` is in the vocabulary here, and merges lead to it.
    let mut json = fixtures::fixture_json("metaspace/tokenizer.json");
    let size = load("metaspace").tokenizer.vocabulary_size();
    for (at, token) in ["</", "s>"].into_iter().enumerate() {
        json["model"]["vocab"][token] = (size + at).into();
    }
    let merges = json["model"]["merges"].as_array_mut().expect("merges");
    let added = [["<", "/"], ["s", ">"], ["</", "s>"]];
    merges.splice(0..0, added.iter().map(|pair| serde_json::json!(pair)));
    let config = std::fs::read(fixture("metaspace/tokenizer_config.json")).expect("a file");
    let tokenizer = Tokenizer::from_parts(Parts {
        tokenizer_json: json.to_string().as_bytes(),
        tokenizer_config: &config,
        chat_template: None,
        generation_config: None,
        config: None,
    })
    .expect("it opens");
    let model = Loaded { name: "merging".to_owned(), tokenizer };
    let layout = template("builtin:mistral", &model);
    let row = conversation("what is </s> for?", "an </s> ends");
    let row = model.tokenizer.render(&row, &options(&layout)).expect("a row");
    let end = model.tokenizer.token_to_id("</s>").expect("a token");
    assert_eq!(row.ids.iter().filter(|id| **id == end).count(), 2);
    assert!(row.text.contains("an </s> ends again</s>"));
}

fn fails(source: &str) -> (&'static str, String) {
    let model = load("qwen");
    let row = ChatTemplate::from_source("bad", source, &model.tokenizer).and_then(|layout| {
        let row = conversation("hi", "ho");
        model.tokenizer.render(&row, &options(&layout))
    });
    let fault = row.expect_err(source);
    (fault.code, fault.detail)
}

#[test]
fn templates_that_never_end_or_fill_the_memory_are_stopped() {
    let loops = "{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}x{% endfor %}{% endfor %}{% endfor %}";
    let long = "{% for a in range(50000) %}{{ 'x' * 1000 }}{% endfor %}";
    let macros = "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}";
    let doubling =
        "{% set ns = namespace(x='x') %}{% for a in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}";
    let nesting =
        "{% set ns = namespace(x=[]) %}{% for a in range(50000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}";
    let mapping = "{% set ns = namespace(x={}) %}{% for a in range(50000) %}{% set ns.x = {'a': ns.x} %}{% endfor %}";
    for source in [loops, long, macros, doubling, nesting, mapping] {
        let (code, detail) = fails(source);
        assert_eq!(code, "PS-TMPL-003", "{source}: {detail}");
    }
    for source in [
        "{{ 'x' | indent(1000000000000) }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ 'x' * 100000000000 }}",
        "{{ {'a': 1} | tojson(indent=100000000000) }}",
    ] {
        let (code, detail) = fails(source);
        assert_eq!(code, "PS-TMPL-002", "{source}: {detail}");
    }
    let (code, _) = fails(&"x".repeat((1 << 20) + 1));
    assert_eq!(code, "PS-TMPL-003");
}

#[test]
fn a_hundred_turns_are_within_the_limits() {
    for (name, layout) in [("qwen", "qwen3"), ("llama3", "llama31")] {
        let model = load(name);
        let options = options(&template(layout, &model));
        let turns = (0..200)
            .map(|at| {
                let role = [Role::User, Role::Assistant][at % 2];
                Turn::new(role, format!("turn {at} of a long talk"))
            })
            .collect();
        let row = model.tokenizer.render(&Example::Messages(turns), &options).expect("a row");
        let stops = row.pieces().into_iter().filter(|(_, m)| *m == peft_text::Mark::Stop);
        assert_eq!(stops.count(), 100, "{layout}");
    }
}

#[test]
fn templates_say_why_they_refuse_or_fail() {
    let (code, detail) = fails("{{ raise_exception('Roles must \"alternate\"!') }}");
    assert_eq!(code, "PS-TMPL-002");
    assert!(detail.ends_with("Roles must \"alternate\"!"), "{detail}");
    let (code, detail) = fails("one\n{% if %}");
    assert_eq!(code, "PS-TMPL-002");
    assert!(detail.contains("line 2"), "{detail}");
    for source in [
        "{{ messages.append(1) }}",
        "{{ messages[0].pop('role') }}",
        "{% include 'other' %}",
        "{{ nothing.at.all }}",
        "{{ open('/etc/passwd') }}",
    ] {
        assert_eq!(fails(source).0, "PS-TMPL-002", "{source}");
    }
    // A template that swallows the answers.
    let (code, detail) = fails("{% for m in messages %}{{ m.role }}{{ eos_token }}{% endfor %}");
    assert_eq!(code, "PS-TMPL-002", "{detail}");
}

#[test]
fn the_file_wins_over_the_configuration_and_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("a file");
    let json = std::fs::read_to_string(fixture("qwen/tokenizer.json")).expect("a file");
    put("tokenizer.json", &json);
    put("special_tokens_map.json", r#"{"eos_token": {"content": "<|im_end|>"}, "pad_token": "<|endoftext|>"}"#);
    put("generation_config.json", r#"{"eos_token_id": [1, 2]}"#);
    let open = || Tokenizer::open(dir.path()).expect("it opens");
    assert_eq!(open().chat_template(), None);
    let fault = ChatTemplate::resolve("auto", &open()).expect_err("none");
    assert_eq!(fault.code, "PS-TMPL-001");
    let eos = open().eos().expect("from the older file").id;
    assert!(open().stop_ids().contains(&1) && open().stop_ids().contains(&eos));

    put("chat_template.json", r#"{"chat_template": "legacy"}"#);
    assert_eq!(open().chat_template(), Some("legacy"));
    put(
        "tokenizer_config.json",
        r#"{"chat_template": [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "listed"}]}"#,
    );
    assert_eq!(open().chat_template(), Some("listed"));
    put("tokenizer_config.json", r#"{"chat_template": "configured"}"#);
    assert_eq!(open().chat_template(), Some("configured"));
    assert!(open().notes().is_empty());
    put("chat_template.jinja", "from the file");
    assert_eq!(open().chat_template(), Some("from the file"));
    assert_eq!(open().notes().len(), 1);

    put("own.jinja", "{{ messages[0].content }}");
    let path = dir.path().join("own.jinja");
    let layout = ChatTemplate::resolve(path.to_str().expect("UTF-8"), &open()).expect("a layout");
    assert_eq!(layout.source(), "{{ messages[0].content }}");
    for (choice, code) in [("chatmll", "PS-CFG-001"), ("no/such.jinja", "PS-FILE-001")] {
        assert_eq!(ChatTemplate::resolve(choice, &open()).expect_err(choice).code, code);
    }
}

#[test]
fn missing_and_damaged_files_are_faults() {
    let dir = tempfile::tempdir().expect("a folder");
    let open = || Tokenizer::open(dir.path()).expect_err("not a tokenizer");
    assert_eq!(open().code, "PS-MODEL-003");
    let put = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).expect("a file");
    put("tokenizer.model", b"x");
    assert!(open().detail.contains("tokenizer.model"));
    for name in TOKENIZERS {
        let whole = std::fs::read(fixture(&format!("{name}/tokenizer.json"))).expect("a file");
        for len in [0, 1, whole.len() / 3, whole.len() / 2, whole.len() - 3] {
            put("tokenizer.json", &whole[..len]);
            assert_eq!(open().code, "PS-MODEL-005", "{name} {len}");
        }
        put("tokenizer.json", &whole);
        put("tokenizer_config.json", b"[1]");
        assert_eq!(open().code, "PS-MODEL-005", "{name}");
        std::fs::remove_file(dir.path().join("tokenizer_config.json")).expect("it is there");
        Tokenizer::open(dir.path()).expect("the rest suffices");
    }
    for json in [
        "{}",
        "[]",
        r#"{"model": {"type": "BPE", "vocab": {}, "merges": []}}"#,
        r#"{"model": {"type": "BPE", "vocab": {"a": 4294967295}, "merges": [["a", "b"]]}}"#,
    ] {
        put("tokenizer.json", json.as_bytes());
        assert_eq!(open().code, "PS-MODEL-005", "{json}");
    }
}

#[test]
fn impossible_dates_and_empty_conversations_are_faults() {
    let model = load("qwen");
    let mut options = options(&template("builtin:chatml", &model));
    let none = model.tokenizer.render(&Example::Messages(Vec::new()), &options);
    assert_eq!(none.expect_err("no turns").code, "PS-DATA-004");
    options.date = "yesterday".to_owned();
    let row = model.tokenizer.render(&conversation("a", "b"), &options);
    assert_eq!(row.expect_err("no date").code, "PS-CFG-001");
}
