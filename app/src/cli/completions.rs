//! `completions`: scripts for shells.

use super::{args, output};
use clap_complete::Shell;

pub(super) fn run(shell: Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::command(), "peft-studio", &mut script);
    output::text(&String::from_utf8_lossy(&script));
}
