//! What happened in this window and in the runs it follows, line by line, without names and keys.

use crate::jobs::diagnostics::Redactor;
use std::collections::VecDeque;

/// Lines that are kept, the latest.
const LINES: usize = 5000;
/// Longest name of who said it, characters.
const SOURCE: usize = 20;
/// Longest line, characters.
const LONGEST: usize = 2000;

/// How much a line matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd)]
pub enum Level {
    /// What goes as it should.
    #[default]
    Info,
    /// What may matter.
    Warning,
    /// What went wrong.
    Error,
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Seconds since 1970.
    pub at: i64,
    /// How much it matters.
    pub level: Level,
    /// Who said it: a command, or a run.
    pub source: String,
    /// What was said.
    pub text: String,
}

/// All lines.
pub struct Log {
    lines: VecDeque<Line>,
    redactor: Redactor,
}

impl Default for Log {
    fn default() -> Self {
        Self { lines: VecDeque::new(), redactor: Redactor::new() }
    }
}

impl Log {
    /// One more, cleaned of what must not be given away.
    pub fn push(&mut self, at: i64, level: Level, source: &str, text: &str) {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let short: String = line.chars().take(LONGEST).collect();
            let text = self.redactor.clean(&short);
            let source = source.chars().take(SOURCE).collect();
            self.lines.push_back(Line { at, level, source, text });
        }
        let extra = self.lines.len().saturating_sub(LINES);
        self.lines.drain(..extra);
    }

    /// The lines, the oldest first.
    pub fn lines(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter()
    }
}

impl Line {
    /// As text that can be given away.
    pub fn written(&self) -> String {
        let word = match self.level {
            Level::Info => "",
            Level::Warning => "WARNING ",
            Level::Error => "ERROR ",
        };
        format!("{} {:<12} {word}{}", clock(self.at), self.source, self.text)
    }
}

/// The time of the day, in the world's time.
pub fn clock(at: i64) -> String {
    let seconds = at.rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_lines_are_kept_without_keys_s1_27() {
        let mut log = Log::default();
        for i in 0..LINES + 10 {
            log.push(i as i64, Level::Info, "run", &format!("line {i}"));
        }
        assert_eq!((log.lines().count(), log.lines().next().map(|line| line.at)), (LINES, Some(10)));
        log.push(3661, Level::Error, "export", "token hf_abcdefghijklmnopqrst was refused\n\nsecond");
        let last: Vec<String> = log.lines().skip(LINES - 2).map(Line::written).collect();
        assert_eq!(
            last,
            ["01:01:01 export       ERROR token [token] was refused", "01:01:01 export       ERROR second"]
        );
    }
}
