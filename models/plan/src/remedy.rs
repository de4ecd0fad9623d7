//! What an action of a fault does, so that a program can do it: change settings, change options, or run a command.
//!
//! The catalogue says it as a person would type it. A word in capitals, such as `RUN` or `key=N`, is a blank that
//! only a person can fill; an action with blanks is shown, never applied.

use crate::fault::Action;

/// The name that commands of this program begin with.
const PROGRAM: &str = "peft-studio";

/// What an action does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Changes settings of the run: `key=value` each.
    Settings(Vec<String>),
    /// Adds options to the command that failed.
    Options(Vec<String>),
    /// Runs another command of this program; its words, without the program's name.
    Command(Vec<String>),
}

impl Remedy {
    /// In one word, for scripts.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Settings(_) => "settings",
            Self::Options(_) => "options",
            Self::Command(_) => "command",
        }
    }
}

impl Action {
    /// What this action does; `None` where it only tells a person what to do.
    pub fn remedy(&self) -> Option<Remedy> {
        let mut words = words(self.command.as_deref()?);
        if words.first().is_some_and(|word| word == PROGRAM) {
            words.remove(0);
            return Some(Remedy::Command(words));
        }
        if !words.first()?.starts_with("--") {
            return None;
        }
        let pairs: Vec<&[String]> = words.chunks(2).collect();
        if pairs.iter().all(|pair| pair.len() == 2 && pair[0] == "--set") {
            return Some(Remedy::Settings(pairs.iter().map(|pair| pair[1].clone()).collect()));
        }
        Some(Remedy::Options(words))
    }

    /// The words of its command that a person has to fill in.
    pub fn blanks(&self) -> Vec<String> {
        let blank = |word: &String| {
            let value = word.rsplit_once('=').map_or(word.as_str(), |(_, value)| value);
            let stem = value.split('.').next().unwrap_or_default();
            let is_blank = !stem.is_empty() && stem.bytes().all(|byte| byte.is_ascii_uppercase());
            is_blank.then(|| value.to_owned())
        };
        words(self.command.as_deref().unwrap_or_default()).iter().filter_map(blank).collect()
    }
}

/// The words of a command line; what is between quotation marks belongs together.
fn words(line: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let (mut quote, mut is_inside) = (None, false);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(mark), _) if mark == letter => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                if !is_inside {
                    found.push(String::new());
                    is_inside = true;
                }
            }
            (None, ' ') => is_inside = false,
            _ => {
                if !is_inside {
                    found.push(String::new());
                    is_inside = true;
                }
                found.last_mut().expect("a word was begun above").push(letter);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::catalogue;

    fn action(command: &str) -> Action {
        Action { label: "Do it".to_owned(), command: Some(command.to_owned()) }
    }

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn an_action_is_what_it_does_s4_10_3() {
        let settings = action("--set adapter.method=qlora --set training.max_sequence_length=512");
        let expected = Remedy::Settings(owned(&["adapter.method=qlora", "training.max_sequence_length=512"]));
        assert_eq!(settings.remedy(), Some(expected));
        assert_eq!(action("--backend cpu").remedy(), Some(Remedy::Options(owned(&["--backend", "cpu"]))));
        let shown = action("peft-studio runs show 'a run' \"it's\"");
        assert_eq!(shown.remedy(), Some(Remedy::Command(owned(&["runs", "show", "a run", "it's"]))));
        assert_eq!(action("ls -l").remedy(), None);
        assert_eq!(Action { label: "Wait".to_owned(), command: None }.remedy(), None);
    }

    #[test]
    fn capitals_are_blanks_for_people() {
        assert_eq!(action("peft-studio resume RUN --rewind-to STEP").blanks(), ["RUN", "STEP"]);
        assert_eq!(action("peft-studio train RUN.json").blanks(), ["RUN.json"]);
        assert_eq!(action("--set training.max_sequence_length=N").blanks(), ["N"]);
        assert!(action("--set adapter.rank=8").blanks().is_empty());
        assert!(action("peft-studio resume 01hz8 --data-dir /x/Y").blanks().is_empty());
    }

    #[test]
    fn every_command_of_the_catalogue_is_understood() {
        for (code, entry) in catalogue() {
            for action in entry.actions.iter().filter(|action| action.command.is_some()) {
                assert!(action.remedy().is_some(), "{code}: {action:?}");
            }
        }
    }
}
