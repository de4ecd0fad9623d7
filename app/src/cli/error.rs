//! How a fault looks: on a terminal, and to a script.
//!
//! Title, actions and exit code come from the catalogue; the fault adds what happened this time.
//! Technical causes are shown only to those who ask with `RUST_BACKTRACE`.

use super::output::{note, printable};
use clap::builder::styling::{AnsiColor, Style};
use peft_plan::{Action, Fault};
use serde_json::{Value, json};
use std::error::Error;

/// Shows `fault` on stderr; returns the exit code that goes with it.
pub fn report(fault: &Fault, json: bool) -> u8 {
    let causes = if wants_causes() { causes(fault) } else { Vec::new() };
    if json {
        let mut value = to_json(fault);
        if !causes.is_empty() {
            value["error"]["causes"] = Value::from(causes);
        }
        note(&value.to_string());
    } else {
        note(&for_people(fault, &causes));
    }
    exit_code(fault)
}

/// The exit code of the command line. Codes that only inform have none of their own: where one of
/// them ends a command, the command failed.
pub fn exit_code(fault: &Fault) -> u8 {
    fault.entry().exit.max(1)
}

/// What `--json` shows: `{"error": {...}}`.
pub fn to_json(fault: &Fault) -> Value {
    json!({
        "error": {
            "code": fault.code,
            "title": fault.entry().title,
            "detail": fault.detail,
            "actions": fault.shown_actions().iter().map(action_json).collect::<Vec<_>>(),
            "help": fault.help(),
        }
    })
}

/// An action, with what it does and what it leaves to be filled in where a program could do it.
pub(super) fn action_json(action: &Action) -> Value {
    let mut value = json!(action);
    if let Some(remedy) = action.remedy() {
        value["kind"] = json!(remedy.kind());
        value["blanks"] = json!(action.blanks());
    }
    value
}

fn wants_causes() -> bool {
    std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0")
}

fn causes(fault: &Fault) -> Vec<String> {
    std::iter::successors(fault.source(), |error| (*error).source()).map(ToString::to_string).collect()
}

fn for_people(fault: &Fault, causes: &[String]) -> String {
    let (red, dim) = (AnsiColor::Red.on_default().bold(), Style::new().dimmed());
    let mut lines = vec![format!("{red}error:{red:#} {}", fault.entry().title), String::new()];
    lines.extend(indented(&printable(&fault.detail), "  "));
    lines.extend([String::new(), "  What you can do:".to_owned()]);
    for action in fault.shown_actions() {
        lines.push(format!("  - {}", printable(&action.label)));
        lines.extend(indented(&printable(action.command.as_deref().unwrap_or_default()), "      "));
    }
    for cause in causes {
        lines.extend([String::new(), format!("  caused by: {}", printable(cause))]);
    }
    lines.extend([String::new(), format!("{dim}{} · {}{dim:#}", fault.code, fault.help_command())]);
    lines.join("\n")
}

fn indented(text: &str, by: &str) -> Vec<String> {
    text.lines().map(|line| format!("{by}{line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault() -> Fault {
        Fault::new("PS-FILE-001", "Failed to read `a.jsonl`: there is no such file")
            .caused_by(std::io::Error::other("the technical reason"))
            .action("Look at what is there", Some("ls".to_owned()))
    }

    #[test]
    fn people_get_title_detail_actions_and_code_s4_10_1_s4_10_2() {
        let text = anstream::adapter::strip_str(&for_people(&fault(), &[])).to_string();
        let expected = "error: This file or folder does not exist\n\n  \
                        Failed to read `a.jsonl`: there is no such file\n\n  \
                        What you can do:\n  - Look at what is there\n      ls\n  \
                        - Check the spelling of the path\n  - Choose another file\n\n\
                        PS-FILE-001 · peft-studio errors show PS-FILE-001";
        assert_eq!(text, expected);
        assert!(for_people(&fault(), &causes(&fault())).contains("the technical reason"));
    }

    #[test]
    fn scripts_get_every_field_and_no_command_where_there_is_none() {
        let value = &to_json(&fault())["error"];
        assert_eq!(value["code"], "PS-FILE-001");
        assert_eq!(value["help"], "help/#ps-file-001");
        assert_eq!(value["actions"][0]["command"], "ls");
        assert!(value["actions"][1].get("command").is_none());
        assert!(!value.to_string().contains("technical"));
        assert_eq!(exit_code(&fault()), 3);
    }
}
