//! Training rows from documents, questions and memories (S1.1 to S1.6, S2.3 to S2.10, S3.1 to S3.4, B14).
//!
//! No sockets, no store: a [`peft_plan::helper::Helper`] answers, and whoever calls keeps what comes.
//!
//! | file | holds |
//! | --- | --- |
//! | `chunk` | a piece of a document, and where it is from |
//! | `task` | what rows can be about, as data: facts, how-to, summary, dialogue, classification, code, exam |
//! | `prompt` | what a helper is told; a document stays data, whatever it says |
//! | `reply` | rows out of what a helper wrote, also out of half of it |
//! | `evidence` | whether a quote stands in its chunk, word for word |
//! | `verdict` | which rows are taken, and why the others are not |
//! | `engine` | many questions at once: waits, limits, a budget, an end |
//! | `budget` | what may be spent, and what was |
//! | `generate` | rows from chunks or from a wish alone |
//! | `label` | answers of a teacher for rows that have none |
//! | `persona` | conversations from chats, journals and memories |
//! | `ask_again` | questions that were answered badly lead back to their chunks |
//! | `reference` | the four named tasks of S0.15 as rows |

pub mod ask_again;
pub mod budget;
pub mod chunk;
pub mod engine;
pub mod evidence;
pub mod generate;
pub mod label;
pub mod persona;
pub mod prompt;
pub mod reference;
pub mod reply;
pub mod task;
pub mod verdict;

use sha2::{Digest, Sha256};

/// A short name for a text that is the same tomorrow.
pub fn key(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    peft_data::hex(&hasher.finalize()[..10])
}
