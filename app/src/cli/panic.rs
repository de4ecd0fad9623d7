//! A bug of ours, as a person meets it: one sentence, unless `RUST_BACKTRACE` asks for more.

use super::output::{note, printable};
use std::panic;

/// Replaces the standard message of a panic.
pub(super) fn install() {
    let standard = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        // Caught where it happens, and told as a fault of the file.
        if peft_data::is_guarded() {
            return;
        }
        if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
            standard(info);
            return;
        }
        let place = info.location().map_or_else(String::new, |at| format!(" ({}:{})", at.file(), at.line()));
        note(&printable(&format!(
            "PEFT Studio stopped because of a mistake in the program itself{place}; what was already saved is not damaged."
        )));
    }));
}
