//! Ctrl-C, and the polite end that a system asks for: the first time finish in order, the second
//! time stop at once.

use super::output::note;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// Exit code of an interrupted command.
pub const EXIT_CODE: u8 = 130;

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// From now on a first Ctrl-C only raises the flag behind [`requested`]. Commands that do not call
/// this end at once.
pub fn install() {
    install_saying("\nSaving, then stopping; press Ctrl-C again to stop at once");
}

/// The same, with what a first Ctrl-C is answered with.
pub fn install_saying(answer: &'static str) {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let handler = move || {
            if REQUESTED.swap(true, Ordering::SeqCst) {
                std::process::exit(i32::from(EXIT_CODE));
            }
            note(answer);
        };
        // Without a handler Ctrl-C ends the process, and a run goes on from its last checkpoint.
        if let Err(error) = ctrlc::set_handler(handler) {
            note(&format!("Ctrl-C will stop this at once: {error}"));
        }
    });
}

/// Whether the person asked for the end.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}
