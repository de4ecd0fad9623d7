//! Doing what an action of a fault says: the one call of the command line and of the window (S4.10.3).

use crate::cli::context::Context;
use peft_plan::{Action, Fault, Remedy, Result, RunConfig};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What an action has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// These settings were changed: `key=value` each. What failed can be tried again.
    Settings(Vec<String>),
    /// A command was run to its end; its exit code.
    Command(i32),
    /// Nothing: only a person can do it, or it has blanks to be filled in.
    Nothing,
}

/// Do what `action` says: change `config`, or run a command of this program on the same data directory.
///
/// # Errors
/// What the settings are refused with; the configuration stays as it was.
pub fn apply(context: &Context, action: &Action, config: &mut RunConfig) -> Result<Applied> {
    match action.remedy() {
        _ if !action.blanks().is_empty() => Ok(Applied::Nothing),
        Some(Remedy::Settings(changes)) => {
            let mut changed = config.clone();
            changes.iter().try_for_each(|change| changed.set(change))?;
            *config = changed;
            Ok(Applied::Settings(changes))
        }
        Some(Remedy::Command(words)) => {
            let mut command = own_command(context)?;
            let status = command.args(words).status();
            let status = status.map_err(|error| Fault::io("start", Path::new(command.get_program()), error))?;
            Ok(Applied::Command(status.code().unwrap_or(1)))
        }
        Some(Remedy::Options(_)) | None => Ok(Applied::Nothing),
    }
}

/// The first action of `fault` that changes settings, has not been `tried`, and can be done as it is.
pub fn next_change(fault: &Fault, tried: &[Action]) -> Option<Action> {
    let is_change =
        |action: &Action| matches!(action.remedy(), Some(Remedy::Settings(_))) && action.blanks().is_empty();
    fault.shown_actions().into_iter().find(|action| is_change(action) && !tried.contains(action))
}

/// This program, on the same data directory and with the same leave to use the network.
pub(super) fn own_command(context: &Context) -> Result<Command> {
    let mut command = Command::new(own_program()?);
    command.arg("--data-dir").arg(&context.data_dir);
    if context.offline {
        command.arg("--offline");
    }
    Ok(command)
}

fn own_program() -> Result<PathBuf> {
    std::env::current_exe().map_err(|error| Fault::io("find", Path::new("this program"), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context {
        Context { json: false, data_dir: "/nowhere".into(), backend: "auto".to_owned(), threads: 1, offline: true }
    }

    fn action(command: &str) -> Action {
        Action { label: command.to_owned(), command: Some(command.to_owned()) }
    }

    #[test]
    fn settings_are_changed_all_or_none_s4_10_3() {
        let mut config = RunConfig::default();
        let applied = apply(&context(), &action("--set adapter.rank=4 --set adapter.alpha=8"), &mut config);
        assert_eq!(applied.expect("done"), Applied::Settings(vec!["adapter.rank=4".into(), "adapter.alpha=8".into()]));
        assert_eq!((config.adapter.rank, config.adapter.alpha), (Some(4), Some(8.0)));
        let before = config.clone();
        let refused = apply(&context(), &action("--set adapter.rank=2 --set adapter.none=1"), &mut config);
        assert_eq!(refused.expect_err("no such setting").code, "PS-CFG-002");
        assert_eq!(config, before);
        for blank in ["--set training.max_sequence_length=N", "peft-studio resume RUN", "--backend cpu"] {
            assert_eq!(apply(&context(), &action(blank), &mut config).expect("shown only"), Applied::Nothing);
        }
    }

    #[test]
    fn each_change_is_offered_once() {
        let fault = Fault::new("PS-TMPL-001", "No layout");
        let first = next_change(&fault, &[]).expect("an action");
        let second = next_change(&fault, std::slice::from_ref(&first)).expect("another");
        assert_ne!(first, second);
        assert_eq!(next_change(&fault, &[first, second]), None);
        assert_eq!(next_change(&Fault::new("PS-FILE-001", "None"), &[]), None);
    }
}
