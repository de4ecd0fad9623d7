//! The starter's tokenizer: byte-level BPE, learned from the corpus, with every digit a token of its own.

use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, PreTokenizerWrapper, Tokenizer, TokenizerBuilder};

use crate::corpus::corpus;

/// Entries of the vocabulary, the special tokens included.
pub const VOCABULARY: usize = 2048;
/// Documents the tokenizer is learned from.
const DOCUMENTS: usize = 20_000;
/// The special tokens, in the order of their ids.
const SPECIAL: [&str; 6] = ["<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>"];

/// Learns the tokenizer from the corpus of `seed` and returns the bytes of its `tokenizer.json`.
pub fn train_tokenizer(seed: u64) -> tokenizers::Result<Vec<u8>> {
    let special: Vec<AddedToken> = SPECIAL.iter().map(|&text| AddedToken::from(text, true).normalized(false)).collect();
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(VOCABULARY)
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(special)
        // All 256 bytes, so that no text is unknown.
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let mut tokenizer = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(None::<tokenizers::NormalizerWrapper>)
        .with_pre_tokenizer(Some(PreTokenizerWrapper::Sequence(Sequence::new(vec![
            PreTokenizerWrapper::Digits(Digits::new(true)),
            PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, false, true)),
        ]))))
        .with_post_processor(Some(ByteLevel::new(false, false, true)))
        .with_decoder(Some(ByteLevel::new(false, false, true)))
        .build()?;
    let texts = corpus(seed, DOCUMENTS).flat_map(|document| {
        let turns = document.turns.into_iter().flat_map(|(ask, answer)| [ask, answer]);
        document.system.into_iter().chain(turns).collect::<Vec<_>>()
    });
    tokenizer.train(&mut trainer, texts)?;
    let tokenizer: Tokenizer = tokenizer.into();
    Ok(tokenizer.to_string(false)?.into_bytes())
}

/// The chat template, in Jinja.
pub fn chat_template() -> &'static str {
    include_str!("../data/chat_template.jinja").trim_ascii_end()
}

/// The text of `tokenizer_config.json`.
pub fn tokenizer_config() -> String {
    let config = serde_json::json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": SPECIAL[0],
        "bos_token": SPECIAL[1],
        "eos_token": SPECIAL[2],
        "add_bos_token": false,
        "add_eos_token": false,
        "clean_up_tokenization_spaces": false,
        "model_max_length": 512,
        "chat_template": chat_template(),
    });
    format!("{config:#}\n")
}

/// The text of `config.json`: the shape of the model.
pub fn config_json() -> &'static str {
    include_str!("../data/config.json")
}
