//! How far a download is, for people and for scripts.

use super::output::{self, bytes, duration, note, printable};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use peft_remote::{Event, Transfer};
use serde_json::json;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Scripts, and people without a terminal, are told of progress so often.
const TELL_SCRIPTS: Duration = Duration::from_secs(1);
const TELL_PEOPLE: Duration = Duration::from_secs(10);

/// Shows a download.
pub(crate) struct TransferView {
    /// What is downloaded.
    name: String,
    to_stdout: bool,
    bar: Option<ProgressBar>,
    told: Instant,
}

impl TransferView {
    /// `to_stdout`: events as JSON are the command's result; otherwise people are told on stderr.
    pub(crate) fn new(name: &str, to_stdout: bool) -> Self {
        let is_watched = !to_stdout && std::io::stderr().is_terminal();
        let bar = is_watched.then(|| {
            let style = ProgressStyle::with_template("{bar:24} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_style(style)
        });
        Self { name: name.to_owned(), to_stdout, bar, told: Instant::now() }
    }

    /// Show an event.
    pub(crate) fn receive(&mut self, event: &Event) {
        if let Event::Progress(transfer) = event {
            if let Some(bar) = &self.bar {
                bar.set_length(transfer.total_bytes);
                bar.set_position(transfer.done_bytes);
                bar.set_message(figures(transfer));
            }
            let pause = if self.to_stdout { TELL_SCRIPTS } else { TELL_PEOPLE };
            let is_time = self.bar.is_none() && self.told.elapsed() >= pause && transfer.total_bytes > 0;
            if !is_time {
                return;
            }
            self.told = Instant::now();
        }
        if self.to_stdout {
            output::print_json(&json!(event));
        } else if let Some(line) = line(&self.name, event) {
            self.say(&printable(&line));
        }
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => note(line),
        }
    }
}

impl Drop for TransferView {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(name: &str, event: &Event) -> Option<String> {
    match event {
        Event::Planned { total_bytes, present_bytes, .. } if present_bytes == total_bytes => None,
        Event::Planned { files, total_bytes, present_bytes, .. } => {
            let here =
                if *present_bytes > 0 { format!(", {} of it are here", bytes(*present_bytes)) } else { String::new() };
            Some(format!("Downloading {name}: {files} files, {}{here}", bytes(*total_bytes)))
        }
        Event::Progress(transfer) => Some(figures(transfer)),
        Event::Waiting { seconds, reason } => Some(format!("Waiting up to {}: {reason}", duration(*seconds))),
        Event::Verified { file, bytes: size, was_here: false } if *size >= 1 << 20 => {
            Some(format!("Verified {file}, {}", bytes(*size)))
        }
        Event::Verified { .. } => None,
    }
}

fn figures(transfer: &Transfer) -> String {
    let Transfer { done_bytes, total_bytes, bytes_per_second, eta_seconds } = transfer;
    let rate = bytes_per_second.map_or_else(String::new, |rate| format!(", {}/s", bytes(rate as u64)));
    let left = eta_seconds.map_or_else(String::new, |seconds| format!(", {} left", duration(seconds)));
    format!("{} of {}{rate}{left}", bytes(*done_bytes), bytes(*total_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_units_and_no_rate_before_there_is_one() {
        let mut transfer =
            Transfer { done_bytes: 1_500_000, total_bytes: 3_000_000, bytes_per_second: None, eta_seconds: None };
        assert_eq!(figures(&transfer), "1.5 MB of 3.0 MB");
        transfer.bytes_per_second = Some(500_000.0);
        transfer.eta_seconds = Some(3.0);
        assert_eq!(figures(&transfer), "1.5 MB of 3.0 MB, 500.0 kB/s, 3.0 s left");
        let planned =
            Event::Planned { files: 4, total_bytes: 2_000_000, present_bytes: 1000, directory: String::new() };
        assert_eq!(line("a/b", &planned).expect("told"), "Downloading a/b: 4 files, 2.0 MB, 1.0 kB of it are here");
    }
}
