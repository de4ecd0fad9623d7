//! The starter model: its small world, its tokenizer and the sample dataset.
//!
//! The starter is a model of a few million weights that PEFT Studio trains itself, from random
//! weights, on a corpus this crate generates. It knows a small world (things, animals, numbers, some
//! invented places) and says so when it does not know something. The sample dataset teaches it one
//! more place, the cafe of [`CAFE`], and the fixed questions measure how well that worked.

pub mod embedded;

mod corpus;
mod lexicon;
mod numbers;
mod place_talk;
mod places;
mod rng;
mod sample;
mod tokenizer;
mod wording;
mod world_talk;

pub use corpus::{Document, corpus};
pub use sample::{CAFE, Question, SampleFact, facts, held_out, is_correct, sample_rows_jsonl, small_world};
pub use tokenizer::{VOCABULARY, chat_template, config_json, tokenizer_config, train_tokenizer};
pub use wording::words;
