//! `errors`: the catalogue of errors, for people, for scripts, and as a help page (S4.10.4).

use super::args::ErrorsCommand;
use super::context::Context;
use super::error::action_json;
use super::{output, table};
use peft_plan::fault::{CatalogueEntry, catalogue, help_anchor};
use peft_plan::{Action, Fault, Result};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// How alike a code must be to be offered instead.
const ALIKE: f64 = 0.7;

pub(super) fn run(context: &Context, command: &ErrorsCommand) -> Result<u8> {
    match command {
        ErrorsCommand::List => list(context),
        ErrorsCommand::Show { code } => show(context, code)?,
        ErrorsCommand::Page { out } => {
            durable::write_file(out, page().as_bytes())
                .map_err(|error| Fault::io("write the help page", out, error))?;
            if context.json {
                output::print_json(&json!({"path": out, "errors": catalogue().len()}));
            } else {
                output::line(&format!("{} errors are explained in {}", catalogue().len(), out.display()));
            }
        }
    }
    Ok(0)
}

fn as_json(code: &str, entry: &CatalogueEntry) -> Value {
    let CatalogueEntry { title, exit, actions } = entry;
    let actions: Vec<Value> = actions.iter().map(action_json).collect();
    json!({"code": code, "title": title, "exit_code": exit, "actions": actions, "help": help_anchor(code)})
}

fn list(context: &Context) {
    if context.json {
        let errors: Vec<Value> = catalogue().iter().map(|(code, entry)| as_json(code, entry)).collect();
        output::print_json(&json!({ "errors": errors }));
        return;
    }
    let rows: Vec<Vec<String>> =
        catalogue().iter().map(|(code, entry)| vec![code.clone(), entry.title.clone()]).collect();
    output::text(&table::render(&["CODE", "WHAT IT MEANS"], &rows));
}

fn show(context: &Context, wanted: &str) -> Result<()> {
    let wanted = wanted.trim().to_uppercase();
    let Some((code, entry)) = catalogue().get_key_value(&wanted) else {
        return Err(unknown(&wanted));
    };
    if context.json {
        output::print_json(&as_json(code, entry));
        return Ok(());
    }
    let mut text = format!("{code}: {}\n\n{}\n\nWhat you can do:\n", entry.title, ending(entry.exit));
    for Action { label, command } in &entry.actions {
        writeln!(text, "  - {label}").expect("writing to memory");
        if let Some(command) = command {
            writeln!(text, "      {command}").expect("writing to memory");
        }
    }
    output::text(&text);
    Ok(())
}

fn unknown(wanted: &str) -> Fault {
    let nearest = catalogue()
        .keys()
        .map(|code| (strsim::jaro_winkler(code, wanted), code))
        .filter(|(likeness, _)| *likeness > ALIKE)
        .max_by(|left, right| left.0.total_cmp(&right.0));
    let fault = Fault::new("PS-CFG-002", format!("There is no error with the code `{wanted}`"));
    let fault = match nearest {
        Some((_, code)) => fault.action(format!("Look at {code}"), Some(format!("peft-studio errors show {code}"))),
        None => fault,
    };
    fault.action("List all of them", Some("peft-studio errors list".to_owned()))
}

fn ending(exit: u8) -> String {
    match exit {
        0 => "A remark: where it is not the reason for an end, the command goes on.".to_owned(),
        1 => "The command ends with exit code 1: it failed while running.".to_owned(),
        2 => "The command ends with exit code 2: it was used wrongly.".to_owned(),
        3 => "The command ends with exit code 3: its input cannot be used.".to_owned(),
        4 => "The command ends with exit code 4: the computer lacks something it needs.".to_owned(),
        _ => format!("The command ends with exit code {exit}: network, access, or a helping service."),
    }
}

/// The help page, in Markdown; the heading of each code is its anchor.
fn page() -> String {
    let mut text = "# Errors of PEFT Studio\n\nMade by `peft-studio errors page`; do not edit.\n".to_owned();
    for (code, entry) in catalogue() {
        let head = format!("\n## {code}\n\n**{}**\n\n{}\n\n", entry.title, ending(entry.exit));
        text += &head;
        for Action { label, command } in &entry.actions {
            let command = command.as_ref().map_or_else(String::new, |command| format!(": `{command}`"));
            writeln!(text, "- {label}{command}").expect("writing to memory");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_page_has_every_code_with_its_anchor_and_actions_s4_10_4() {
        let page = page();
        for (code, entry) in catalogue() {
            assert!(page.contains(&format!("\n## {code}\n")) && page.contains(&entry.title), "{code}");
            assert!(entry.actions.iter().all(|action| page.contains(&action.label)), "{code}");
            // The anchor that Markdown makes of a heading.
            assert_eq!(help_anchor(code), format!("help/#{}", code.to_lowercase()));
        }
    }
}
