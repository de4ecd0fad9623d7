//! The starter's tokenizer and the size of its model.

use std::sync::LazyLock;

use peft_starter::{VOCABULARY, chat_template, config_json, corpus, tokenizer_config, train_tokenizer};
use tokenizers::Tokenizer;

/// Learned once for all tests.
static TOKENIZER: LazyLock<(Vec<u8>, Tokenizer)> = LazyLock::new(|| {
    let bytes = train_tokenizer(1).expect("the corpus trains a tokenizer");
    let tokenizer = Tokenizer::from_bytes(&bytes).expect("the file is a tokenizer");
    (bytes, tokenizer)
});

#[test]
fn tokenizer_is_the_same_every_time_and_loses_nothing() {
    let (bytes, tokenizer) = &*TOKENIZER;
    assert_eq!(*bytes, train_tokenizer(1).expect("the corpus trains a tokenizer"));
    assert_eq!(tokenizer.get_vocab_size(true), VOCABULARY);
    let strange = ["", "  two  spaces ", "Zürich 東京 🦉", "a\n\tb\r\n", "Preis: 12,50 €"].map(str::to_owned);
    let texts = corpus(9, 500).flat_map(|document| document.turns).map(|(ask, _)| ask);
    for text in texts.chain(strange) {
        let ids = tokenizer.encode(text.as_str(), false).expect("any text has tokens");
        let back = tokenizer.decode(ids.get_ids(), false).expect("ids have a text");
        assert_eq!(back, text);
    }
}

#[test]
fn every_digit_is_a_token_and_special_tokens_come_first() {
    let (_, tokenizer) = &*TOKENIZER;
    let special = ["<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>"];
    for (id, text) in special.into_iter().enumerate() {
        assert_eq!(tokenizer.token_to_id(text), Some(id as u32), "{text}");
    }
    let tokens = tokenizer.encode("It costs 2048 dollars in 1999.", false).expect("tokens");
    let digits = tokens.get_tokens().iter().filter(|token| token.contains(|c: char| c.is_ascii_digit()));
    let digits: Vec<&String> = digits.collect();
    assert_eq!(digits, ["2", "0", "4", "8", "1", "9", "9", "9"]);
}

#[test]
fn model_and_tokenizer_fit_the_binary() {
    let config: serde_json::Value = serde_json::from_str(config_json()).expect("JSON");
    let number = |key: &str| config[key].as_u64().expect("a number");
    let (hidden, mlp) = (number("hidden_size"), number("intermediate_size"));
    let kv = number("num_key_value_heads") * number("head_dim");
    let layer = 2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * mlp + 2 * hidden;
    let weights = number("vocab_size") * hidden + number("num_hidden_layers") * layer + hidden;
    assert_eq!(number("vocab_size"), VOCABULARY as u64);
    assert!(hidden % 256 == 0 && mlp % 256 == 0, "every GGUF block type fits");
    let (bytes, _) = &*TOKENIZER;
    assert!(2 * weights + (bytes.len() as u64) < 7_900_000, "{weights} weights");
    let written: serde_json::Value = serde_json::from_str(&tokenizer_config()).expect("JSON");
    assert_eq!(written["chat_template"], chat_template());
}
