//! JSONL: one JSON value on each line, read line by line.

use crate::bad_line::{self, BadLine};
use crate::collect::Collector;
use crate::encoding::decode_line;
use crate::lines::{LONGEST_LINE, Line, Lines};
use peft_plan::Result;
use std::io::BufRead;

/// Read every line of `reader`.
pub(crate) fn read(reader: impl BufRead, out: &mut Collector<'_>) -> Result<()> {
    let mut lines = Lines::new(reader);
    while let Some((number, line)) = lines.next_line().map_err(|error| out.io(error))? {
        if out.is_done() {
            break;
        }
        let bytes = match line {
            Line::Whole(bytes) => bytes,
            Line::TooLong { start, bytes } => {
                out.bad(too_long(number, start, bytes))?;
                continue;
            }
        };
        let text = decode_line(bytes, &mut out.strays);
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        match bad_line::parse(text, &mut out.repaired) {
            Ok(value) => out.value(number, value, text)?,
            Err(error) => out.bad(BadLine::json(number, text, &error))?,
        }
    }
    Ok(())
}

/// A line that is longer than what is held in memory.
pub(crate) fn too_long(line: usize, start: &[u8], bytes: u64) -> BadLine {
    let reason =
        format!("this line is {} MiB long, the longest line that is read is {} MiB", bytes >> 20, LONGEST_LINE >> 20);
    BadLine::whole(line, reason, &String::from_utf8_lossy(start))
}
