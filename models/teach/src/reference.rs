//! The four named tasks of S0.15 as rows: how this program does them, fit for training and for search.

use serde_json::{Value, json};

/// Name, question and answer of each.
const TASKS: [(&str, &str, &str); 4] = [
    (
        "dataset_chunking",
        "How do I turn a folder of documents into chunks for training and search?",
        "Run `peft-studio data chunk FOLDER --out chunks.jsonl --chunk-size 400t --overlap 40`. Text, Markdown, HTML, JSON and \
         JSONL files are read; each line of the result is a chunk with its text, source, heading path and hash. A file that \
         cannot be read is named, and the others go on.",
    ),
    (
        "ollama_embedding",
        "How do I make embeddings of my chunks with Ollama?",
        "Start Ollama, fetch the model with `ollama pull embeddinggemma`, then run `peft-studio data embed --project NAME \
         --provider ollama`. The usual model is `embeddinggemma:latest` and the usual address http://127.0.0.1:11434. The rows \
         are sent in batches, and the vectors are kept in the project's database.",
    ),
    (
        "qlora_training",
        "How do I fine-tune a model with QLoRA on my rows?",
        "Run `peft-studio plan --model MODEL --data rows.jsonl --set adapter.method=qlora` to see what it will take, then \
         `peft-studio train` with the same arguments. The base is kept in 4 bits and only the adapter learns; what the machine \
         lacks is said before the first step.",
    ),
    (
        "model_conversion",
        "How do I convert a trained adapter into a model that other programs run?",
        "Run `peft-studio export RUN --to merged --out DIR` for safetensors, `--to gguf --quant q4_k_m` for llama.cpp, Ollama and \
         LM Studio, or `--to tensorrt-llm` for the checkpoint that TensorRT-LLM builds an engine from.",
    ),
];

/// One row for each task: `instruction`, `output`, `task`, and the same as `text` for chunks and search.
pub fn rows() -> Vec<Value> {
    TASKS
        .iter()
        .map(|(task, question, answer)| {
            json!({"id": task, "task": task, "instruction": question, "output": answer, "text": format!("{question}\n\n{answer}")})
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_tasks_are_there_as_rows_and_as_chunks_s0_15() {
        let rows = rows();
        let names: Vec<&str> = rows.iter().filter_map(|row| row["task"].as_str()).collect();
        assert_eq!(names, ["dataset_chunking", "ollama_embedding", "qlora_training", "model_conversion"]);
        let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
        assert_eq!(crate::chunk::read(&lines.join("\n")).expect("chunks").0.len(), 4);
    }
}
