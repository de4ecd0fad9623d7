//! Where other programs keep their examples.

use super::{Program, Writer};
use serde_json::{Map, Value, json};

/// Fields that name data, read whole.
const DATA_FIELDS: [&str; 13] = [
    "datasets",
    "test_datasets",
    "dataset",
    "dataset_name",
    "dataset_dir",
    "eval_dataset",
    "dataset_mixture",
    "data_files",
    "train_file",
    "dataset_config",
    "dataset_train_split",
    "dataset_text_field",
    "local_datasets",
];

/// Whether `path` names data.
pub(super) fn is_dataset_field(path: &str) -> bool {
    DATA_FIELDS.contains(&path.rsplit('.').next().unwrap_or(path))
}

/// Read whatever names data.
pub(super) fn apply(writer: &mut Writer, program: Program, root: &Map<String, Value>, info: Option<&Value>) {
    let mut fields = Vec::new();
    gather("", root, &mut fields);
    let mut sources = Vec::new();
    for (path, value) in &fields {
        let name = path.rsplit('.').next().unwrap_or(path);
        match name {
            "datasets" | "dataset_mixture" | "dataset" | "dataset_name" | "data_files" | "train_file"
            | "local_datasets" => {
                let found = read(value, program, info);
                if found.is_empty() {
                    if !matches!(value, Value::Null) {
                        writer.ignore(path, value, "no file or dataset could be read from it");
                    }
                } else {
                    sources.extend(found.into_iter().map(|source| (path.clone(), value.clone(), source)));
                }
            }
            "eval_dataset" | "test_datasets" => {
                writer.ignore(path, value, "held-out rows are a share of the data here; see dataset.validation_split");
            }
            _ => writer.ignore(path, value, "columns and splits are recognised by themselves"),
        }
    }
    put(writer, sources);
}

fn gather(prefix: &str, object: &Map<String, Value>, into: &mut Vec<(String, Value)>) {
    for (key, value) in object {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            // torchtune and TRL nest settings of a dataset; Axolotl's list is one field.
            Value::Object(inner) if is_dataset_field(&path) => {
                let names_data =
                    inner.values().any(|v| v.is_object() || is_source_key(v)) || inner.contains_key("source");
                into.extend(names_data.then(|| (path, value.clone())));
            }
            Value::Object(inner) => gather(&path, inner, into),
            _ if is_dataset_field(&path) => into.push((path, value.clone())),
            _ => {}
        }
    }
}

fn is_source_key(value: &Value) -> bool {
    value.is_string() || value.is_array()
}

/// One place that rows come from.
struct Source {
    place: String,
    split: Option<String>,
    weight: Option<f64>,
    note: Option<String>,
}

fn read(value: &Value, program: Program, info: Option<&Value>) -> Vec<Source> {
    match value {
        Value::Array(items) => items.iter().flat_map(|item| read(item, program, info)).collect(),
        Value::String(text) => text
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(|name| named(name, program, info))
            .collect(),
        Value::Object(object) => {
            let text = |keys: &[&str]| keys.iter().find_map(|k| object.get(*k)?.as_str().map(str::to_owned));
            let files = object.get("data_files").cloned();
            let place = match files {
                Some(Value::String(file)) => Some(file),
                Some(Value::Array(list)) if list.len() == 1 => list[0].as_str().map(str::to_owned),
                Some(Value::Array(list)) => {
                    return list.iter().flat_map(|file| read(file, program, info)).collect();
                }
                _ => text(&["path", "hf_path", "source", "dataset", "name", "id"]),
            };
            let Some(place) = place.filter(|p| !["json", "csv", "parquet"].contains(&p.as_str())) else {
                return Vec::new();
            };
            let split = text(&["split", "train_split"]).filter(|s| s != "train");
            let weight = object.get("weight").and_then(Value::as_f64);
            let note = text(&["type"])
                .filter(|t| t != "chat_template")
                .map(|t| format!("the shape `{t}` is recognised from the rows themselves"));
            vec![Source { place, split, weight, note }]
        }
        _ => Vec::new(),
    }
}

/// LLaMA-Factory names datasets by their entry in `dataset_info.json`.
fn named(name: &str, program: Program, info: Option<&Value>) -> Source {
    let plain = |place: String, note: Option<String>| Source { place, split: None, weight: None, note };
    if program != Program::LlamaFactory {
        return plain(name.to_owned(), None);
    }
    let entry = info.and_then(|info| info.get(name));
    let text = |key: &str| entry.and_then(|e| e.get(key)).and_then(Value::as_str).map(str::to_owned);
    match (text("file_name"), text("hf_hub_url")) {
        (Some(file), _) => plain(file, None),
        (None, Some(hub)) => plain(hub, None),
        _ => plain(
            format!("{name}.json"),
            Some(format!(
                "`{name}` is an entry of dataset_info.json, which was not found; set dataset.path to its file"
            )),
        ),
    }
}

/// A hub id has one slash, no extension of a file, and is no path.
fn is_hub(place: &str) -> bool {
    let file = [".json", ".jsonl", ".csv", ".tsv", ".txt", ".md", ".parquet", ".gz", ".zst"];
    !place.starts_with(['.', '/', '~'])
        && place.split('/').count() == 2
        && !file.iter().any(|ending| place.to_ascii_lowercase().ends_with(ending))
}

fn put(writer: &mut Writer, sources: Vec<(String, Value, Source)>) {
    let single = sources.len() == 1;
    let mut list = Vec::new();
    let mut fields: Vec<(String, Value, Vec<String>)> = Vec::new();
    for (path, value, source) in sources {
        let Source { place, split, weight, note } = source;
        if single && !is_hub(&place) && split.is_none() && weight.is_none() {
            return writer.put(&path, &value, "dataset.path", &json!(place), note);
        }
        let mut entry = Map::new();
        entry.insert(if is_hub(&place) { "hub" } else { "path" }.to_owned(), json!(place));
        if let Some(split) = split {
            entry.insert("split".to_owned(), json!(split));
        }
        if let Some(weight) = weight {
            entry.insert("weight".to_owned(), json!(weight));
        }
        list.push(Value::Object(entry));
        match fields.last_mut() {
            Some((last, _, notes)) if *last == path => notes.extend(note),
            _ => fields.push((path, value, note.into_iter().collect())),
        }
    }
    for (path, value, mut notes) in fields {
        notes.dedup();
        let note = (!notes.is_empty()).then(|| notes.join("; "));
        writer.put(&path, &value, "dataset.sources", &json!(list), note);
    }
}
