//! `presets`: configurations under a name, to be kept, shared and taken in.

use super::args::{ImportPresetArgs, PresetsCommand, SavePresetArgs};
use super::context::Context;
use super::output::{self, note, printable};
use super::table;
use crate::jobs::presets::{self, Mismatch};
use peft_plan::preset::{Preset, ReadPreset, built_in, check_name};
use peft_plan::{Fault, Result, RunConfig};
use serde_json::{Value, json};
use std::path::Path;

/// Largest file that is taken for a preset.
const LARGEST_FILE: u64 = 4 << 20;

pub(super) fn run(context: &Context, command: &PresetsCommand) -> Result<u8> {
    match command {
        PresetsCommand::List { search, model, method, tag } => {
            list(context, search.as_deref(), model.as_deref(), method.as_deref(), tag.as_deref())?;
        }
        PresetsCommand::Save(args) => save(context, args)?,
        PresetsCommand::Show { name } => show(context, name)?,
        PresetsCommand::Export { name, out } => export(context, name, out)?,
        PresetsCommand::Import(args) => import(context, args)?,
        PresetsCommand::Delete { name } => delete(context, name)?,
    }
    Ok(0)
}

fn list(
    context: &Context,
    search: Option<&str>,
    model: Option<&str>,
    method: Option<&str>,
    tag: Option<&str>,
) -> Result<()> {
    let own = context.store()?.presets()?;
    let all = own
        .iter()
        .map(|p| (&p.preset, "yours"))
        .chain(built_in().iter().filter(|p| own.iter().all(|o| o.preset.name != p.name)).map(|p| (p, "built in")));
    let contains = |text: &str, part: &str| text.to_lowercase().contains(&part.to_lowercase());
    let model_of = |p: &Preset| p.config.model.id.clone().unwrap_or_default();
    let method_of = |p: &Preset| json!(p.config.adapter.method).as_str().unwrap_or("auto").to_owned();
    let shown: Vec<(&Preset, &str)> = all
        .filter(|(p, _)| {
            let words = format!("{} {} {} {}", p.name, p.description, p.tags.join(" "), model_of(p));
            search.is_none_or(|s| contains(&words, s))
                && model.is_none_or(|m| contains(&model_of(p), m))
                && method.is_none_or(|m| method_of(p).eq_ignore_ascii_case(m))
                && tag.is_none_or(|t| p.tags.iter().any(|known| known.eq_ignore_ascii_case(t)))
        })
        .collect();
    if context.json {
        let entry = |(p, origin): &(&Preset, &str)| {
            let mut value = p.to_value();
            value["built_in"] = json!(*origin == "built in");
            value
        };
        output::print_json(&json!({ "presets": shown.iter().map(entry).collect::<Vec<_>>() }));
    } else if shown.is_empty() {
        note("No preset fits. `peft-studio presets list` shows all of them.");
    } else {
        let row = |(p, origin): &(&Preset, &str)| {
            vec![
                printable(&p.name).into_owned(),
                method_of(p),
                printable(&model_of(p)).into_owned(),
                (*origin).to_owned(),
                printable(&p.description).replace('\n', " "),
            ]
        };
        let rows: Vec<_> = shown.iter().map(row).collect();
        output::text(&table::render(&["NAME", "METHOD", "MODEL", "WHOSE", "DESCRIPTION"], &rows));
    }
    Ok(())
}

fn save(context: &Context, args: &SavePresetArgs) -> Result<()> {
    let store = context.store()?;
    let mut config = presets::settings_of(&store, &args.source)?;
    config.name = None;
    let preset =
        Preset { name: check_name(&args.name)?, description: args.description.clone(), tags: args.tag.clone(), config };
    store.save_preset(&preset, args.replace)?;
    if context.json {
        output::print_json(&preset.to_value());
    } else {
        output::line(&printable(&format!("Kept as `{}`. Use it: peft-studio train --preset '{0}'", preset.name)));
    }
    Ok(())
}

fn show(context: &Context, name: &str) -> Result<()> {
    let preset = presets::find(&context.store()?, name)?;
    if context.json {
        output::print_json(&preset.to_value());
        return Ok(());
    }
    output::line(&printable(&preset.name));
    if !preset.description.is_empty() {
        output::line(&printable(&preset.description));
    }
    output::line("");
    let mut rows = Vec::new();
    settings("", &preset.to_value()["config"], &mut rows);
    output::text(&printable(&table::render(&["SETTING", "VALUE"], &rows)));
    for Mismatch { message, change, .. } in presets::check(&preset.config) {
        note(&printable(&match change {
            Some(change) => format!("{message} (would suit: {change})"),
            None => message,
        }));
    }
    Ok(())
}

/// Every setting on a line of its own.
pub(super) fn settings(path: &str, value: &Value, rows: &mut Vec<Vec<String>>) {
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields {
                let here = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                settings(&here, inner, rows);
            }
        }
        Value::String(text) => rows.push(vec![path.to_owned(), text.clone()]),
        other => rows.push(vec![path.to_owned(), other.to_string()]),
    }
}

fn export(context: &Context, name: &str, out: &Path) -> Result<()> {
    let preset = presets::find(&context.store()?, name)?;
    let mut text = serde_json::to_vec_pretty(&preset.to_value()).expect("a preset is plain data");
    text.push(b'\n');
    durable::write_file(out, &text).map_err(|e| Fault::io("write", out, e))?;
    if context.json {
        output::print_json(&json!({ "file": std::path::absolute(out).unwrap_or_else(|_| out.to_owned()) }));
    } else {
        output::line(&format!("Wrote {}", out.display()));
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<Value> {
    let size = std::fs::metadata(path).map_err(|e| Fault::io("read", path, e))?.len();
    if size > LARGEST_FILE {
        return Err(Fault::new("PS-PRE-001", format!("`{}` is too large to be a preset", path.display())));
    }
    let text = std::fs::read(path).map_err(|e| Fault::io("read", path, e))?;
    serde_json::from_slice(&text).map_err(|e| {
        Fault::new("PS-PRE-001", format!("`{}` is not valid JSON: {e}", path.display())).action(
            "If it is a configuration of another program, import it as one",
            Some(format!("peft-studio config import {}", path.display())),
        )
    })
}

fn import(context: &Context, args: &ImportPresetArgs) -> Result<()> {
    let value = read_file(&args.file)?;
    let stem = args.file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let ReadPreset { mut preset, left_out } = Preset::from_value(&value, &stem)?;
    if let Some(name) = &args.name {
        preset.name = check_name(name)?;
    }
    let before = preset.config.clone();
    let mismatches = if args.adapt { presets::adapt(&mut preset.config) } else { presets::check(&preset.config) };
    let changes = changed(&before, &preset.config);
    if !args.check {
        context.store()?.save_preset(&preset, args.replace)?;
    }
    if context.json {
        output::print_json(&json!({
            "preset": preset.to_value(),
            "kept": !args.check,
            "left_out": left_out.iter().map(|(f, why)| json!({"field": f, "reason": why})).collect::<Vec<_>>(),
            "problems": mismatches,
            "changes": changes,
        }));
        return Ok(());
    }
    for (field, why) in &left_out {
        note(&printable(&format!("Left out: {field}. {why}")));
    }
    for change in &changes {
        note(&printable(&format!("Changed to suit this computer: {change}")));
    }
    for Mismatch { message, change, .. } in &mismatches {
        let hint = change.as_ref().map(|c| format!(" (--adapt sets {c})")).unwrap_or_default();
        note(&printable(&format!("Does not suit: {message}{hint}")));
    }
    if args.check {
        output::line(if mismatches.is_empty() { "It suits this computer." } else { "It does not suit as it is." });
    } else {
        output::line(&printable(&format!("Kept as `{}`. Use it: peft-studio train --preset '{0}'", preset.name)));
    }
    Ok(())
}

/// `key=value` of every setting that is not what it was.
fn changed(before: &RunConfig, after: &RunConfig) -> Vec<String> {
    let (mut old, mut new) = (Vec::new(), Vec::new());
    settings("", &before.to_value(), &mut old);
    settings("", &after.to_value(), &mut new);
    new.into_iter().filter(|row| !old.contains(row)).map(|row| row.join("=")).collect()
}

fn delete(context: &Context, name: &str) -> Result<()> {
    let store = context.store()?;
    if !store.delete_preset(name)? {
        let preset = presets::find(&store, name)?;
        return Err(Fault::new(
            "PS-CFG-001",
            format!("`{}` comes with the program and cannot be deleted", preset.name),
        ));
    }
    if context.json {
        output::print_json(&json!({ "deleted": name }));
    } else {
        output::line(&printable(&format!("The preset `{name}` is gone.")));
    }
    Ok(())
}
