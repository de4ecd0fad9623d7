//! What keys mean. One table: keys, words, help page and tests read the same.

use crate::gui::command::{Command, Out};
use crate::gui::route::{RAIL, Route};
use crate::gui::state::State;
use eframe::egui::{Key, KeyboardShortcut, Modifiers, Ui};
use peft_storage::{CommandKind, Status};

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Open or close the palette.
    Palette,
    /// Go to a page of the rail.
    Page(usize),
    /// Go back.
    Back,
    /// Larger, smaller, as usual.
    Larger,
    /// Smaller.
    Smaller,
    /// As usual.
    Usual,
    /// Pause or go on with the run on the page.
    Pause,
    /// Names beside the icons at the left, or icons alone.
    Rail,
    /// The whole screen, or a window.
    FullScreen,
    /// A new conversation.
    NewTalk,
}

const fn ctrl(key: Key) -> KeyboardShortcut {
    KeyboardShortcut::new(Modifiers::COMMAND, key)
}

/// All shortcuts.
pub const SHORTCUTS: [(KeyboardShortcut, Act, &str); 23] = [
    (ctrl(Key::K), Act::Palette, "Search or do anything"),
    (ctrl(Key::P), Act::Palette, "Search or do anything"),
    // Before the same key without Shift, which it would be taken for.
    (KeyboardShortcut::new(Modifiers::COMMAND.plus(Modifiers::SHIFT), Key::N), Act::NewTalk, "New conversation"),
    (ctrl(Key::N), Act::Page(1), "New run"),
    (ctrl(Key::B), Act::Rail, "Names beside the icons at the left"),
    (KeyboardShortcut::new(Modifiers::NONE, Key::F11), Act::FullScreen, "The whole screen"),
    (ctrl(Key::Comma), Act::Page(11), "Settings"),
    (KeyboardShortcut::new(Modifiers::NONE, Key::F1), Act::Page(12), "Help"),
    (ctrl(Key::Num1), Act::Page(0), "Home"),
    (ctrl(Key::Num2), Act::Page(1), "New run"),
    (ctrl(Key::Num3), Act::Page(2), "Runs"),
    (ctrl(Key::Num4), Act::Page(3), "Compare"),
    (ctrl(Key::Num5), Act::Page(4), "Playground"),
    (ctrl(Key::Num6), Act::Page(5), "Models"),
    (ctrl(Key::Num7), Act::Page(6), "Presets"),
    (ctrl(Key::Num8), Act::Page(7), "Export"),
    (ctrl(Key::Num9), Act::Page(8), "Serve"),
    (KeyboardShortcut::new(Modifiers::ALT, Key::ArrowLeft), Act::Back, "Back"),
    (ctrl(Key::Plus), Act::Larger, "Larger"),
    (ctrl(Key::Equals), Act::Larger, "Larger"),
    (ctrl(Key::Minus), Act::Smaller, "Smaller"),
    (ctrl(Key::Num0), Act::Usual, "Usual size"),
    (KeyboardShortcut::new(Modifiers::NONE, Key::Space), Act::Pause, "Pause or go on, on the page of a run"),
];

/// Carry out what was pressed.
pub fn read(ui: &Ui, state: &State, out: &mut Out) {
    let types = ui.ctx().memory(|memory| memory.focused().is_some());
    for (keys, act, _) in &SHORTCUTS {
        // Space belongs to whatever has the keyboard.
        if *act == Act::Pause && (types || state.palette.is_some() || state.asks_to_close) {
            continue;
        }
        if !ui.input_mut(|input| input.consume_shortcut(keys)) {
            continue;
        }
        match act {
            Act::Palette => out.push(Command::Palette(state.palette.is_none())),
            Act::Page(index) => out.push(Command::Go(RAIL[*index].0.clone())),
            Act::Back => out.push(Command::Back),
            Act::Larger => out.push(Command::Scale(state.settings.scale + 0.1)),
            Act::Smaller => out.push(Command::Scale(state.settings.scale - 0.1)),
            Act::Usual => out.push(Command::Scale(1.0)),
            Act::Rail => out.push(Command::WideRail(!state.settings.wide_rail)),
            Act::FullScreen => out.push(Command::FullScreen),
            Act::NewTalk => {
                out.push(Command::Go(Route::Playground));
                if !state.pages.playground.exchanges.is_empty() && !state.pages.playground.is_busy {
                    out.push(Command::NewTalk);
                }
            }
            Act::Pause => {
                if let Route::Run(id) = &state.route
                    && let Some(run) = state.data.run(id)
                {
                    match run.status {
                        Status::Running => out.push(Command::Ask(id.clone(), CommandKind::Pause)),
                        Status::Paused | Status::Interrupted => out.push(Command::Resume(id.clone())),
                        _ => {}
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_shortcuts_have_the_same_keys_and_pages_are_where_the_rail_has_them() {
        for (i, (keys, act, word)) in SHORTCUTS.iter().enumerate() {
            assert!(SHORTCUTS[..i].iter().all(|(other, ..)| other != keys), "{word}");
            if let Act::Page(index) = act {
                assert_eq!(RAIL[*index].1, *word);
            }
        }
    }
}
