//! Follows `events.jsonl` of a run as it grows, whoever writes it.

use super::worker::{Reply, Teller, spawn};
use peft_plan::RunEvent;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often a growing file is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// Events that are handed over at once: folding them takes a fraction of a frame.
const BATCH: usize = 1000;
/// Bytes read at once.
const CHUNK: u64 = 4 << 20;
/// So many bytes before the position tell whether the file was cut and written anew.
const TRAIL: usize = 64;

/// A run that is followed, until it is dropped.
#[derive(Debug)]
pub struct Feed {
    is_over: Arc<AtomicBool>,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

impl Feed {
    /// Follow the run in `directory`.
    pub fn follow(run: String, directory: &Path, teller: Teller) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let mut tail = Tail::new(directory.join("events.jsonl"));
        spawn("feed", move || {
            let mut is_first = true;
            while !over.load(Ordering::Relaxed) {
                // A file that cannot be read now may be there the next time.
                let more = tail.more().unwrap_or_default();
                let is_behind = more.is_behind;
                if more.is_anew || is_first || !more.events.is_empty() {
                    let mut is_anew = more.is_anew || is_first;
                    let mut events = more.events.into_iter().peekable();
                    loop {
                        let batch: Vec<RunEvent> = events.by_ref().take(BATCH).collect();
                        teller.tell(Reply::Events(run.clone(), is_anew, batch));
                        is_anew = false;
                        if events.peek().is_none() {
                            break;
                        }
                    }
                    is_first = false;
                }
                if !is_behind {
                    std::thread::sleep(LOOK);
                }
            }
        });
        Self { is_over }
    }
}

/// What came since the last look.
#[derive(Debug, Default)]
struct More {
    /// The file was cut: these are its events from the beginning.
    is_anew: bool,
    events: Vec<RunEvent>,
    /// There is more to read at once.
    is_behind: bool,
}

struct Tail {
    path: PathBuf,
    position: u64,
    /// The last bytes before the position.
    trail: Vec<u8>,
    /// A line whose end is not there yet.
    rest: Vec<u8>,
}

impl Tail {
    fn new(path: PathBuf) -> Self {
        Self { path, position: 0, trail: Vec::new(), rest: Vec::new() }
    }

    fn more(&mut self) -> io::Result<More> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(More::default()),
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len();
        let is_anew = self.position > 0 && !self.still_there(&mut file, length)?;
        if is_anew {
            *self = Self::new(std::mem::take(&mut self.path));
        }
        file.seek(SeekFrom::Start(self.position))?;
        let mut bytes = Vec::new();
        file.take(CHUNK).read_to_end(&mut bytes)?;
        self.position += bytes.len() as u64;
        self.trail.extend_from_slice(&bytes);
        let extra = self.trail.len().saturating_sub(TRAIL);
        self.trail.drain(..extra);
        self.rest.extend_from_slice(&bytes);
        let Some(end) = self.rest.iter().rposition(|&byte| byte == b'\n') else {
            return Ok(More { is_anew, events: Vec::new(), is_behind: self.position < length });
        };
        let whole: Vec<u8> = self.rest.drain(..=end).collect();
        let lines = whole.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let events = lines.filter_map(|line| serde_json::from_slice(line).ok()).collect();
        Ok(More { is_anew, events, is_behind: self.position < length })
    }

    fn still_there(&self, file: &mut File, length: u64) -> io::Result<bool> {
        if length < self.position {
            return Ok(false);
        }
        file.seek(SeekFrom::Start(self.position - self.trail.len() as u64))?;
        let mut found = vec![0; self.trail.len()];
        file.read_exact(&mut found)?;
        Ok(found == self.trail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn line(step: u64) -> String {
        format!("{{\"event\":\"paused\",\"step\":{step}}}\n")
    }

    fn steps(more: &More) -> Vec<u64> {
        let step = |event: &RunEvent| match event {
            RunEvent::Paused { step } => *step,
            _ => 0,
        };
        more.events.iter().map(step).collect()
    }

    #[test]
    fn a_growing_file_is_told_once_and_a_cut_one_from_its_beginning() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("events.jsonl");
        let mut tail = Tail::new(path.clone());
        assert!(tail.more().expect("none yet").events.is_empty());
        let mut file = File::create(&path).expect("created");
        file.write_all(format!("{}{}no event\n{{\"event\"", line(1), line(2)).as_bytes()).expect("written");
        assert_eq!(steps(&tail.more().expect("read")), [1, 2]);
        file.write_all(b":\"paused\",\"step\":3}\n").expect("written");
        let more = tail.more().expect("read");
        assert_eq!((steps(&more), more.is_anew), (vec![3], false));
        // Cut and grown past where we were before anybody looked.
        let text: String = (10..20).map(line).collect();
        std::fs::write(&path, text).expect("written");
        let more = tail.more().expect("read");
        assert!(more.is_anew);
        assert_eq!(steps(&more), (10..20).collect::<Vec<_>>());
        std::fs::write(&path, line(7)).expect("written");
        let more = tail.more().expect("read");
        assert_eq!((steps(&more), more.is_anew), (vec![7], true));
    }
}
