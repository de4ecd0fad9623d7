//! Looks for texts that say the same while more of them come: on a thread beside the one that reads.

use peft_data::{Copies, TextCopies};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Bytes of text that are handed over together, and how many such parcels may wait.
const PARCEL: usize = 1 << 20;
const WAITING: usize = 4;

/// Takes texts in order.
pub struct CopyWatch {
    to: SyncSender<Vec<String>>,
    parcel: Vec<String>,
    bytes: usize,
    worker: JoinHandle<Copies>,
}

impl CopyWatch {
    /// Start its thread.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start() -> std::io::Result<Self> {
        let (to, from) = sync_channel::<Vec<String>>(WAITING);
        let worker = std::thread::Builder::new().name("copies".into()).spawn(move || {
            let mut copies = TextCopies::default();
            for text in from.into_iter().flatten() {
                copies.add(&text);
            }
            copies.finish()
        })?;
        Ok(Self { to, parcel: Vec::new(), bytes: 0, worker })
    }

    /// Take the next text.
    pub fn add(&mut self, text: &str) {
        self.bytes += text.len();
        self.parcel.push(text.to_owned());
        if self.bytes >= PARCEL {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        self.bytes = 0;
        // Nobody listens only after a panic over there, which is raised again at the end.
        self.to.send(std::mem::take(&mut self.parcel)).ok();
    }

    /// What was found among all of them.
    pub fn finish(mut self) -> Copies {
        self.hand_over();
        drop(self.to);
        self.worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_numbered_in_the_order_they_came_whatever_the_parcels() {
        let mut watch = CopyWatch::start().expect("a thread");
        let long = |number: usize| format!("{number} {}", "word ".repeat(PARCEL / 12));
        for number in [1, 2, 1, 3, 2] {
            watch.add(&long(number));
        }
        assert_eq!(watch.finish().exact, [(2, 0), (4, 1)]);
    }
}
