//! Writes a corpus (one JSON document a line) and the tokenizer of the starter model into a folder.
//!
//! `cargo run --release -p peft_starter --example dump -- SEED DOCUMENTS FOLDER`

use std::io::{BufWriter, Write};
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().ok_or(format!("missing argument: {what}"));
    let seed: u64 = next("SEED")?.parse()?;
    let documents: usize = next("DOCUMENTS")?.parse()?;
    let folder = PathBuf::from(next("FOLDER")?);
    std::fs::create_dir_all(&folder)?;

    let mut corpus = BufWriter::new(std::fs::File::create(folder.join("corpus.jsonl"))?);
    for document in peft_starter::corpus(seed, documents) {
        let line = serde_json::json!({ "system": document.system, "turns": document.turns });
        writeln!(corpus, "{line}")?;
    }
    corpus.flush()?;

    std::fs::write(folder.join("tokenizer.json"), peft_starter::train_tokenizer(seed)?)?;
    std::fs::write(folder.join("tokenizer_config.json"), peft_starter::tokenizer_config())?;
    std::fs::write(folder.join("config.json"), peft_starter::config_json())?;
    Ok(())
}
