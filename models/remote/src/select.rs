//! Which files of a repository are needed, and what to say about one that has nothing we can use.

use crate::api::{RemoteFile, Repository};
use crate::name::is_safe_path;
use peft_plan::{Action, Fault, Result};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// What names the shards.
pub const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";
/// Most shards; the largest published models have a few hundred.
const SHARDS: usize = 10_000;

/// Small files of a model, by name.
const BESIDE: &[&str] = &[
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    // A licence travels with what is made from the model; the card says which it is.
    "README.md",
];
const PICKLE: &[&str] = &["bin", "pt", "pth", "ckpt", "pkl"];
/// What a dataset's rows are read from.
const ROWS: &[&str] = &["csv", "json", "jsonl", "md", "ndjson", "parquet", "tsv", "txt"];

/// The files that a model needs. `index`: the content of [`INDEX`], where the repository has it.
pub fn of_model(repository: &Repository, index: Option<&[u8]>) -> Result<Vec<RemoteFile>> {
    let files = &repository.files;
    let has = |name: &str| files.iter().any(|file| file.path == name);
    let mut wanted: BTreeSet<String> = files.iter().map(|f| &f.path).filter(|p| is_beside(p)).cloned().collect();
    if let Some(index) = index {
        wanted.insert(INDEX.to_owned());
        wanted.extend(shards(repository, index)?);
    } else if has(SINGLE) {
        wanted.insert(SINGLE.to_owned());
    } else {
        return Err(without_weights(repository));
    }
    if !has("config.json") {
        return Err(missing(repository, "config.json"));
    }
    files_named(repository, &wanted)
}

/// Whether the repository has its weights in shards.
pub fn has_index(repository: &Repository) -> bool {
    repository.files.iter().any(|file| file.path == INDEX)
}

/// The files with rows, or those that `only` names.
pub fn of_dataset(repository: &Repository, only: &[String]) -> Result<Vec<RemoteFile>> {
    let is_rows = |path: &str| {
        extension(path).is_some_and(|e| ROWS.contains(&e)) && !matches!(path, "dataset_infos.json" | "package.json")
    };
    let wanted: BTreeSet<String> = if only.is_empty() {
        let paths = repository.files.iter().map(|file| &file.path);
        paths.filter(|path| is_rows(path) || is_licence(path)).cloned().collect()
    } else {
        only.iter().cloned().collect()
    };
    let has_rows = wanted.iter().any(|path| is_rows(path) && path != "README.md" && !is_licence(path));
    if only.is_empty() && !has_rows {
        let detail =
            format!("The dataset `{}` has no file with rows that we read: {}.", repository.id, ROWS.join(", "));
        return Err(Fault::new("PS-DATA-001", detail));
    }
    files_named(repository, &wanted)
}

fn files_named(repository: &Repository, wanted: &BTreeSet<String>) -> Result<Vec<RemoteFile>> {
    let find = |path: &String| {
        let found = repository.files.iter().find(|file| &file.path == path);
        found.cloned().ok_or_else(|| missing(repository, path))
    };
    wanted.iter().map(find).collect()
}

fn is_beside(path: &str) -> bool {
    let is_template = path
        .strip_prefix("additional_chat_templates/")
        .is_some_and(|name| !name.contains('/') && extension(name) == Some("jinja"));
    BESIDE.contains(&path) || is_template || is_licence(path)
}

fn is_licence(path: &str) -> bool {
    let name = path.to_ascii_uppercase();
    let is_text = matches!(extension(path), None | Some("txt" | "md"));
    is_text
        && !path.contains('/')
        && ["LICENSE", "LICENCE", "NOTICE", "USE_POLICY"].iter().any(|word| name.starts_with(word))
}

fn shards(repository: &Repository, index: &[u8]) -> Result<BTreeSet<String>> {
    let damaged = |how: String| Fault::new("PS-MODEL-005", format!("`{INDEX}` of `{}` {how}.", repository.id));
    let value: Value = serde_json::from_slice(index).map_err(|error| damaged(format!("is not JSON ({error})")))?;
    let Some(map) = value["weight_map"].as_object() else { return Err(damaged("has no `weight_map`".to_owned())) };
    let mut names = BTreeSet::new();
    for (tensor, file) in map {
        match file.as_str() {
            Some(file) if is_safe_path(file) && !file.contains('/') && extension(file) == Some("safetensors") => {
                names.insert(file.to_owned());
            }
            _ => return Err(damaged(format!("gives {file} as the file of `{tensor}`, which is no name of weights"))),
        }
    }
    if names.is_empty() || names.len() > SHARDS {
        return Err(damaged(format!("names {} files", names.len())));
    }
    Ok(names)
}

fn without_weights(repository: &Repository) -> Fault {
    let id = &repository.id;
    let paths: Vec<&str> = repository.files.iter().map(|file| file.path.as_str()).collect();
    let has = |name: &str| paths.contains(&name);
    let ends = |endings: &[&str]| paths.iter().any(|path| extension(path).is_some_and(|e| endings.contains(&e)));
    if has("adapter_config.json") {
        let detail =
            format!("`{id}` holds an adapter, not a whole model. Download the model that it was trained on instead.");
        return Fault::new("PS-MODEL-003", detail);
    }
    if ends(&["gguf"]) {
        let detail = format!(
            "`{id}` holds only GGUF files, made for inference. Fine-tuning needs the safetensors weights of the \
             original model."
        );
        return Fault::new("PS-MODEL-002", detail);
    }
    if ends(PICKLE) {
        let command = format!("peft-studio models download {id} --revision refs/convert/safetensors");
        let mut fault = Fault::new(
            "PS-MODEL-004",
            format!("`{id}` holds only PyTorch pickle weights, which can run code when they are opened."),
        );
        let label = "Try the safetensors version that the hub may have made of it".to_owned();
        fault.actions.push(Action { label, command: Some(command) });
        return fault;
    }
    missing(repository, SINGLE)
}

fn missing(repository: &Repository, name: &str) -> Fault {
    Fault::new("PS-MODEL-003", format!("`{name}` is missing from `{}` at {}.", repository.id, repository.commit))
}

fn extension(path: &str) -> Option<&str> {
    Path::new(path).extension()?.to_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Found;
    use crate::name::{Kind, RepositoryId};

    fn repository(paths: &[&str]) -> Repository {
        let file = |path: &&str| RemoteFile { path: (*path).to_owned(), bytes: Some(1), expected: None };
        Repository {
            kind: Kind::Model,
            id: RepositoryId::new("a/b").expect("an id"),
            commit: "0".repeat(40),
            files: paths.iter().map(file).collect(),
            about: Found::default(),
        }
    }

    fn names(files: Vec<RemoteFile>) -> Vec<String> {
        files.into_iter().map(|file| file.path).collect()
    }

    #[test]
    fn only_what_is_needed_is_taken_and_safetensors_win() {
        let paths = [
            ".gitattributes",
            "LICENSE",
            "README.md",
            "config.json",
            "consolidated.safetensors",
            "flax_model.msgpack",
            "model.safetensors",
            "onnx/model.onnx",
            "original/params.json",
            "pytorch_model.bin",
            "tokenizer.json",
        ];
        let taken = names(of_model(&repository(&paths), None).expect("a model"));
        assert_eq!(taken, ["LICENSE", "README.md", "config.json", "model.safetensors", "tokenizer.json"]);
    }

    #[test]
    fn shards_are_those_of_the_index_and_must_be_there() {
        let paths =
            ["config.json", INDEX, "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", SINGLE];
        let index = |second: &str| {
            format!(r#"{{"weight_map":{{"a":"model-00001-of-00002.safetensors","b":"{second}"}}}}"#).into_bytes()
        };
        let good = index("model-00002-of-00002.safetensors");
        assert_eq!(names(of_model(&repository(&paths), Some(&good)).expect("a model")).len(), 4);
        let code = |index: &[u8]| of_model(&repository(&paths), Some(index)).expect_err("refused").code;
        assert_eq!(code(&index("model-00003-of-00002.safetensors")), "PS-MODEL-003");
        for bad in ["../x.safetensors", "/x.safetensors", "a/b.safetensors", "x.bin"] {
            assert_eq!(code(&index(bad)), "PS-MODEL-005", "{bad}");
        }
        assert_eq!(code(b"<html>"), "PS-MODEL-005");
        assert_eq!(code(br#"{"weight_map":{}}"#), "PS-MODEL-005");
    }

    #[test]
    fn what_cannot_be_used_is_called_by_its_name() {
        let code = |paths: &[&str]| of_model(&repository(paths), None).expect_err("refused").code;
        assert_eq!(code(&["config.json", "pytorch_model.bin"]), "PS-MODEL-004");
        assert_eq!(code(&["a.Q4_K_M.gguf", "README.md"]), "PS-MODEL-002");
        assert_eq!(code(&["adapter_config.json", "adapter_model.safetensors"]), "PS-MODEL-003");
        assert_eq!(code(&["model.safetensors"]), "PS-MODEL-003");
        assert_eq!(code(&["config.json"]), "PS-MODEL-003");
    }

    #[test]
    fn a_dataset_is_its_rows_or_what_was_named() {
        let paths = [".gitattributes", "README.md", "data/train.jsonl", "dataset_infos.json", "image.png", "t.parquet"];
        let all = names(of_dataset(&repository(&paths), &[]).expect("rows"));
        assert_eq!(all, ["README.md", "data/train.jsonl", "t.parquet"]);
        let one = names(of_dataset(&repository(&paths), &["t.parquet".to_owned()]).expect("named"));
        assert_eq!(one, ["t.parquet"]);
        assert_eq!(of_dataset(&repository(&paths), &["x".to_owned()]).expect_err("missing").code, "PS-MODEL-003");
        assert_eq!(of_dataset(&repository(&["README.md", "a.png"]), &[]).expect_err("none").code, "PS-DATA-001");
    }
}
