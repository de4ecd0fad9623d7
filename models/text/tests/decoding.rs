//! Streaming: pieces together equal the whole, and no piece is half a character.

mod fixtures;

use fixtures::{Loaded, TOKENIZERS, load};
use peft_text::Decoder;
use proptest::prelude::*;
use std::sync::OnceLock;

fn models() -> &'static [Loaded] {
    static MODELS: OnceLock<Vec<Loaded>> = OnceLock::new();
    MODELS.get_or_init(|| TOKENIZERS.iter().map(|name| load(name)).collect())
}

fn stream(model: &Loaded, ids: &[u32]) -> Vec<String> {
    let mut decoder = Decoder::new(&model.tokenizer);
    let mut pieces: Vec<String> = ids.iter().map(|id| decoder.push(*id).expect("an id decodes")).collect();
    pieces.push(decoder.finish().expect("the rest decodes"));
    pieces
}

fn text() -> impl Strategy<Value = String> {
    let words = prop_oneof![
        4 => "[a-zA-Z0-9 .,'\n\t]{1,8}",
        2 => "[ ]{1,3}",
        2 => "\\PC{1,4}",
        1 => Just("👩‍💻".to_owned()),
        1 => Just("今天天气".to_owned()),
        1 => Just("e\u{301}\u{FFFD}".to_owned()),
    ];
    proptest::collection::vec(words, 0..12).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn streamed_text_equals_the_whole(text in text(), special in proptest::collection::vec((0_usize..40, 0_u32..6), 0..3)) {
        for model in models() {
            let mut ids = model.tokenizer.encode_text(&text, true).expect("text encodes");
            // Control tokens anywhere print nothing and disturb nothing.
            for (at, id) in &special {
                let at = (*at).min(ids.len());
                // Not inside a character: that breaks it in every decoder.
                let before = model.tokenizer.decode(&ids[..at]).expect("it decodes");
                if model.tokenizer.is_special(*id) && !before.ends_with('\u{FFFD}') {
                    ids.insert(at, *id);
                }
            }
            let whole = model.tokenizer.decode(&ids).expect("ids decode");
            let pieces = stream(model, &ids);
            prop_assert_eq!(pieces.concat(), whole.clone(), "{}", model.name);
            let marks = |text: &str| text.matches('\u{FFFD}').count();
            prop_assert_eq!(pieces.iter().map(|p| marks(p)).sum::<usize>(), marks(&whole));
        }
    }

    /// Whatever ids a model makes up: no panic, nothing lost at the end.
    #[test]
    fn any_ids_stream(ids in proptest::collection::vec(0_u32..800, 0..40)) {
        for model in models() {
            let whole = model.tokenizer.decode(&ids).expect("ids decode");
            let streamed = stream(model, &ids).concat();
            if !whole.contains('\u{FFFD}') {
                prop_assert_eq!(streamed, whole, "{}", model.name);
            }
        }
    }
}
