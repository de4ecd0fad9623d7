//! What the actions of a failure do in the window (S4.10.3): the same deeds as on the command line, a press away.

use super::command::{Command, Shelf};
use super::route::Route;
use peft_plan::{Action, Remedy};
use peft_storage::CommandKind;

/// What pressing `action` does; `None` where only a person can do it. `run`: what failed was this run.
pub fn deed(action: &Action, run: Option<&str>) -> Option<Command> {
    let filled = Action {
        label: action.label.clone(),
        command: action.command.as_deref().map(|command| match run {
            Some(run) => {
                command.split(' ').map(|word| if word == "RUN" { run } else { word }).collect::<Vec<_>>().join(" ")
            }
            None => command.to_owned(),
        }),
    };
    let has_blanks = !filled.blanks().is_empty();
    match filled.remedy()? {
        Remedy::Settings(changes) if !has_blanks => Some(Command::Apply(changes, run.map(str::to_owned))),
        Remedy::Settings(_) | Remedy::Options(_) => None,
        Remedy::Command(words) => command(&words.iter().map(String::as_str).collect::<Vec<_>>(), run, has_blanks),
    }
}

/// Where a command lives in the window. Pages fill blanks themselves.
fn command(words: &[&str], run: Option<&str>, has_blanks: bool) -> Option<Command> {
    match words {
        ["data", "inspect" | "convert" | "download", ..] | ["data"] | ["train" | "plan", ..] => {
            Some(Command::Go(Route::New))
        }
        ["data", ..] => Some(Command::Go(Route::Studio)),
        ["models", "search" | "download", ..] => Some(Command::Open(Shelf::Discover)),
        ["models", ..] => Some(Command::Go(Route::Models)),
        ["disk", ..] => Some(Command::Open(Shelf::Disk)),
        ["runs", "list"] => Some(Command::Go(Route::Runs)),
        ["export", ..] => Some(Command::Go(Route::Export)),
        ["serve", ..] => Some(Command::Go(Route::Serve)),
        ["presets", ..] => Some(Command::Go(Route::Presets)),
        ["chat", ..] => Some(Command::Go(Route::Playground)),
        ["errors", "show", code] => Some(Command::Explain((*code).to_owned())),
        ["runs", "attach" | "log" | "show", _] => run.map(|run| Command::Go(Route::Run(run.to_owned()))),
        ["pause", _] => run.map(|run| Command::Ask(run.to_owned(), CommandKind::Pause)),
        ["stop", _] => run.map(|run| Command::Stop(run.to_owned())),
        ["resume", _, rest @ ..] if !has_blanks => {
            run.map(|run| Command::ResumeWith(run.to_owned(), rest.iter().map(|word| (*word).to_owned()).collect()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peft_plan::fault::catalogue;

    fn action(command: &str) -> Action {
        Action { label: "Do it".to_owned(), command: Some(command.to_owned()) }
    }

    #[test]
    fn settings_are_changed_and_blanks_are_left_to_people_s4_10_3() {
        let done = deed(&action("--set adapter.rank=4"), None);
        assert!(matches!(done, Some(Command::Apply(changes, None)) if changes == ["adapter.rank=4"]));
        assert!(deed(&action("--set training.max_sequence_length=N"), None).is_none());
        assert!(deed(&Action { label: "Try again".to_owned(), command: None }, None).is_none());
    }

    #[test]
    fn a_run_is_named_where_it_is_known() {
        assert!(deed(&action("peft-studio resume RUN"), None).is_none());
        let resumed = deed(&action("peft-studio resume RUN --set a.b=1"), Some("r7"));
        assert!(matches!(resumed, Some(Command::ResumeWith(run, words)) if run == "r7" && words == ["--set", "a.b=1"]));
        assert!(deed(&action("peft-studio resume RUN --rewind-to STEP"), Some("r7")).is_none());
        assert!(matches!(deed(&action("peft-studio stop RUN"), Some("r7")), Some(Command::Stop(run)) if run == "r7"));
    }

    #[test]
    fn most_commands_of_the_catalogue_can_be_pressed() {
        let all = catalogue().values().flat_map(|entry| &entry.actions);
        let commands: Vec<&Action> = all.filter(|action| matches!(action.remedy(), Some(Remedy::Command(_)))).collect();
        let pressed = commands.iter().filter(|action| deed(action, Some("r")).is_some()).count();
        assert!(pressed * 10 >= commands.len() * 8, "{pressed} of {}", commands.len());
    }
}
