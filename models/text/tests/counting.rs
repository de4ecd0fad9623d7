//! Counts of tokens: always those of the tokenizer itself, whichever way they are counted.

mod fixtures;

use fixtures::{TOKENIZERS, load};
use peft_text::{Parts, Tokenizer};
use proptest::prelude::*;
use std::path::Path;
use std::sync::OnceLock;

/// Every tokenizer of the fixtures, the one of the starter model, and variants that need the tokenizer itself.
fn tokenizers() -> &'static [(String, Tokenizer)] {
    static TOKENIZERS_WITH_NAMES: OnceLock<Vec<(String, Tokenizer)>> = OnceLock::new();
    TOKENIZERS_WITH_NAMES.get_or_init(|| {
        let mut all: Vec<(String, Tokenizer)> =
            TOKENIZERS.iter().map(|name| ((*name).to_owned(), load(name).tokenizer)).collect();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let starter = std::fs::read(root.join("../starter/weights/tokenizer.json")).expect("it comes with the program");
        all.push(("starter".to_owned(), tokenizer(&starter)));
        // The same with words of many spaces, and with a space to begin with.
        let spaces = fixtures::fixture_json("metaspace/tokenizer.json");
        for (scheme, split) in [("always", true), ("never", false), ("first", true)] {
            let mut json = spaces.clone();
            json["pre_tokenizer"]["prepend_scheme"] = scheme.into();
            json["pre_tokenizer"]["split"] = split.into();
            all.push((format!("metaspace {scheme} {split}"), tokenizer(json.to_string().as_bytes())));
        }
        all
    })
}

fn tokenizer(json: &[u8]) -> Tokenizer {
    let parts = Parts {
        tokenizer_json: json,
        tokenizer_config: b"",
        chat_template: None,
        generation_config: None,
        config: None,
    };
    Tokenizer::from_parts(parts).expect("a tokenizer")
}

fn check(text: &str) {
    for (name, tokenizer) in tokenizers() {
        let counter = tokenizer.counter();
        let own = tokenizer.count(text).expect("counted");
        assert_eq!(counter.count(text).expect("counted"), own, "{name}: {text:?}");
        assert_eq!(counter.count(text).expect("counted"), own, "{name}, from memory: {text:?}");
    }
}

/// What real documents hold: many languages, code, tables, faces, lines of every end, spaces of every width.
const TEXTS: [&str; 14] = [
    "",
    " ",
    "   \n\n \t x",
    "The shop's open — it'll close at six, won't it? WE'LL SEE: 'tis 12:30, 1234567.89 € (3½).",
    "fn main() {\n    let x = vec![1, 2, 3];\r\n\tprintln!(\"{x:?}\");\n}\n\n\n",
    "| a  | b |\n|----|---|\n| 10 | ☃ |\n",
    "Straße, Köln, naïve café; Ünïcödé ſtill, 'ſo it isn'ſ",
    "今天天气很好。これは文です。한국어 문장입니다.",
    "Съешь ещё этих мягких французских булок, да выпей чаю № 5",
    "नमस्ते दुनिया १२३ مرحبا بالعالم ١٢٣ שלום ไทย",
    "e\u{301} \u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467} 👍🏽🇩🇪 \u{fffd}\u{0}\u{7f}\u{feff}",
    "▁already ▁ spelled  so",
    "<s> [INST] <|user|> <|im_start|>x<|endoftext|> </s><unk>",
    "\u{a0}\u{2003} \u{85}\u{2028}x\u{b}\u{c} y",
];

#[test]
fn s0_4_counts_of_all_kinds_of_text_are_those_of_the_tokenizer() {
    for text in TEXTS {
        check(text);
    }
    check(&TEXTS.concat());
    check(&TEXTS.join(" "));
    check(&"a".repeat(3_000));
    check(&" ".repeat(3_000));
    check(&"word ".repeat(3_000));
}

#[test]
fn most_tokenizers_are_counted_piece_by_piece() {
    let slow: Vec<&str> =
        tokenizers().iter().filter(|(_, t)| !t.counter().is_quick()).map(|(n, _)| n.as_str()).collect();
    assert!(slow.is_empty(), "{slow:?}");
    // A step that nobody knows here, and chance in the merges, are left to the tokenizer.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let raw = std::fs::read(root.join("../starter/weights/tokenizer.json")).expect("it comes with the program");
    let starter: serde_json::Value = serde_json::from_slice(&raw).expect("JSON");
    let mut lower = starter.clone();
    lower["normalizer"] = serde_json::json!({"type": "Lowercase"});
    let mut split = starter.clone();
    split["pre_tokenizer"]["pretokenizers"][0] =
        serde_json::json!({"type": "Split", "pattern": {"Regex": "[a-z]"}, "behavior": "Isolated", "invert": false});
    let mut spelling = fixtures::fixture_json("mistral/tokenizer.json");
    spelling["model"]["byte_fallback"] = false.into();
    for json in [lower, split, spelling] {
        let tokenizer = tokenizer(json.to_string().as_bytes());
        let counter = tokenizer.counter();
        assert!(!counter.is_quick());
        for text in TEXTS {
            assert_eq!(counter.count(text).expect("counted"), tokenizer.count(text).expect("counted"), "{text:?}");
        }
    }
}

fn text() -> impl Strategy<Value = String> {
    let words = prop_oneof![
        6 => "[a-zA-Z0-9 .,'\n\t]{1,8}",
        2 => "[ \u{a0}\r\n]{1,4}",
        2 => "\\PC{1,4}",
        1 => any::<Vec<u8>>().prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        1 => proptest::sample::select(&TEXTS[..]).prop_map(str::to_owned),
    ];
    proptest::collection::vec(words, 0..10).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn counts_are_those_of_the_tokenizer(text in text()) {
        check(&text);
    }
}

/// How fast it is: `PEFT_TEXT=FILE cargo test -p peft_text --test counting -- --ignored --nocapture`; another tokenizer
/// than the starter's is the directory `PEFT_TOKENIZER`.
#[test]
#[ignore = "a measurement"]
#[expect(clippy::print_stdout, reason = "numbers are for people")]
fn megabytes_a_second() {
    let path = std::env::var("PEFT_TEXT").expect("PEFT_TEXT names a file");
    let text = String::from_utf8_lossy(&std::fs::read(path).expect("readable")).into_owned();
    let tokenizer = if let Ok(directory) = std::env::var("PEFT_TOKENIZER") {
        Tokenizer::open(Path::new(&directory)).expect("a tokenizer")
    } else {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        tokenizer(&std::fs::read(root.join("../starter/weights/tokenizer.json")).expect("readable"))
    };
    let counter = tokenizer.counter();
    let rate = |count: &dyn Fn(&str) -> usize| {
        let started = std::time::Instant::now();
        let tokens: usize = text.split_inclusive("\n\n").map(count).sum();
        (tokens, text.len() as f64 / 1e6 / started.elapsed().as_secs_f64())
    };
    let (quick, by_piece) = rate(&|part| counter.count(part).expect("counted"));
    let (own, by_library) = rate(&|part| tokenizer.count(part).expect("counted"));
    assert_eq!(quick, own);
    println!("quick: {}, {quick} tokens, {by_piece:.2} MB/s; the library {by_library:.2} MB/s", counter.is_quick());
}
