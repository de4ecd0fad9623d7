//! `config import`: what other programs were told becomes a run file, with a word on every field.

use super::args::{ConfigCommand, ImportConfigArgs, ProgramName};
use super::context::Context;
use super::output::{self, note, printable};
use peft_plan::import::{self, Imported, ImportedField, Outcome, Program, keyword_arguments};
use peft_plan::preset::drop_unset;
use peft_plan::{Fault, Result};
use serde_json::{Value, json};
use std::path::Path;

/// Largest file that is taken for a configuration; notebooks carry their output.
const LARGEST_FILE: u64 = 64 << 20;

pub(super) fn run(context: &Context, command: &ConfigCommand) -> Result<u8> {
    match command {
        ConfigCommand::Import(args) => import_config(context, args)?,
    }
    Ok(0)
}

fn import_config(context: &Context, args: &ImportConfigArgs) -> Result<()> {
    let document = read(&args.file)?;
    let program = args.from.map(|name| match name {
        ProgramName::Axolotl => Program::Axolotl,
        ProgramName::LlamaFactory => Program::LlamaFactory,
        ProgramName::Trl => Program::Trl,
        ProgramName::Unsloth => Program::Unsloth,
        ProgramName::Torchtune => Program::Torchtune,
    });
    let info = dataset_info(&args.file, &document);
    let imported = import::import(&document, program, info.as_ref())?;
    let mut config = imported.config.to_value();
    drop_unset(&mut config);
    if let Some(out) = &args.out {
        let mut text = serde_json::to_vec_pretty(&config).expect("a configuration is plain data");
        text.push(b'\n');
        durable::write_file(out, &text).map_err(|e| Fault::io("write", out, e))?;
    }
    if context.json {
        output::print_json(&json!({
            "program": imported.program,
            "config": config,
            "mapped": imported.count(Outcome::Mapped),
            "approximated": imported.count(Outcome::Approximated),
            "ignored": imported.count(Outcome::Ignored),
            "fields": imported.report,
            "file": args.out.as_ref().map(|p| std::path::absolute(p).unwrap_or_else(|_| p.clone())),
        }));
        return Ok(());
    }
    tell(&imported);
    match &args.out {
        Some(out) => output::line(&format!("Wrote {}. Train with it: peft-studio train {0}", out.display())),
        None => output::line(&serde_json::to_string_pretty(&config).expect("a configuration is plain data")),
    }
    Ok(())
}

fn tell(imported: &Imported) {
    note(&format!(
        "A configuration of {}: {} settings mean the same here, {} nearly, {} have no effect.",
        imported.program.name(),
        imported.count(Outcome::Mapped),
        imported.count(Outcome::Approximated),
        imported.count(Outcome::Ignored)
    ));
    for ImportedField { field, outcome, setting, note: why, .. } in &imported.report {
        let why = why.as_deref().unwrap_or_default();
        match (outcome, setting) {
            (Outcome::Approximated, Some(setting)) => {
                note(&printable(&format!("  nearly   {field} -> {setting}: {why}")));
            }
            (Outcome::Ignored, _) => note(&printable(&format!("  ignored  {field}: {why}"))),
            _ => {}
        }
    }
}

pub(crate) fn read(path: &Path) -> Result<Value> {
    let size = std::fs::metadata(path).map_err(|e| Fault::io("read", path, e))?.len();
    if size > LARGEST_FILE {
        return Err(Fault::new("PS-PRE-001", format!("`{}` is too large to be a configuration", path.display())));
    }
    let bytes = std::fs::read(path).map_err(|e| Fault::io("read", path, e))?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_start_matches('\u{feff}');
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    let unreadable = |what: String| Fault::new("PS-PRE-001", format!("`{}` cannot be read: {what}", path.display()));
    match extension.as_str() {
        "py" => Ok(Value::Object(keyword_arguments(text))),
        "ipynb" => {
            let notebook: Value = serde_json::from_str(text).map_err(|e| unreadable(e.to_string()))?;
            Ok(Value::Object(keyword_arguments(&code_of(&notebook))))
        }
        "json" => serde_json::from_str(text).map_err(|e| unreadable(e.to_string())),
        _ => serde_saphyr::from_str(text).map_err(|e| {
            // The first line says what and where; what follows is a drawing of the place.
            unreadable(e.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned())
        }),
    }
}

/// The code cells of a notebook, one after the other, without what is not Python.
fn code_of(notebook: &Value) -> String {
    let mut code = String::new();
    for cell in notebook["cells"].as_array().into_iter().flatten().filter(|c| c["cell_type"] == "code") {
        let lines: Vec<&str> = match &cell["source"] {
            Value::String(text) => text.lines().collect(),
            Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        for line in lines.iter().filter(|line| !line.trim_start().starts_with(['%', '!'])) {
            code.push_str(line.trim_end_matches('\n'));
            code.push('\n');
        }
    }
    code
}

/// LLaMA-Factory's list of datasets, where it usually is.
pub(crate) fn dataset_info(file: &Path, document: &Value) -> Option<Value> {
    let named = document.get("dataset_dir").and_then(Value::as_str).unwrap_or("data");
    let beside = file.parent().unwrap_or(Path::new("."));
    let mut places = vec![Path::new(named).join("dataset_info.json"), beside.join("dataset_info.json")];
    places.extend(beside.ancestors().take(4).map(|dir| dir.join(named).join("dataset_info.json")));
    places.iter().find_map(|place| serde_json::from_slice(&std::fs::read(place).ok()?).ok())
}
