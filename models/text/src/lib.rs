//! Conversations to token ids and loss mask (D2, D3).
//!
//! One function, [`Tokenizer::render`], is used for training, chat, evaluation and every export, so
//! that BOS, end-of-turn tokens and what is learnt cannot disagree between them. Chat templates are
//! untrusted programs: they run with a bounded number of instructions, bounded recursion and bounded
//! output, and what people write inside a conversation can never become a control token.

mod answers;
mod counter;
mod decoder;
mod markers;
mod model_files;
mod render;
mod rendered;
mod scan;
mod special;
mod spelling;
mod template;
mod token_bytes;
mod tokenizer;

pub use counter::TokenCounter;
pub use decoder::Decoder;
pub use render::RenderOptions;
pub use rendered::{Mark, Rendered};
pub use special::SpecialToken;
pub use template::ChatTemplate;
pub use token_bytes::TokenBytes;
pub use tokenizer::{Parts, Tokenizer};
