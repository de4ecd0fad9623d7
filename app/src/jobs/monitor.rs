//! What the machine is doing, looked at every two seconds beside a run (S4.5.5).

use super::hardware_watch::Watcher;
use peft_plan::Reading;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two looks.
pub const PERIOD: Duration = Duration::from_secs(2);

/// A thread that looks, until it is dropped.
pub struct Monitor {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Monitor {
    /// Looks every [`PERIOD`] and hands over what it saw. Where no thread can be started nothing is seen.
    pub fn start(mut seen: impl FnMut(Reading) + Send + 'static) -> Self {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let told = Arc::clone(&stop);
        let look = move || {
            let mut watcher = Watcher::open();
            loop {
                let (flag, changed) = &*told;
                let stopped = flag.lock().unwrap_or_else(PoisonError::into_inner);
                let (stopped, _) = changed
                    .wait_timeout_while(stopped, PERIOD, |stopped| !*stopped)
                    .unwrap_or_else(PoisonError::into_inner);
                if *stopped {
                    return;
                }
                drop(stopped);
                seen(watcher.read());
            }
        };
        let thread = std::thread::Builder::new().name("monitor".to_owned()).spawn(look).ok();
        Self { stop, thread }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let (flag, changed) = &*self.stop;
        *flag.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It has nothing left to say.
            thread.join().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Instant;

    #[test]
    fn it_looks_every_two_seconds_and_ends_at_once() {
        let (sender, receiver) = channel();
        let begun = Instant::now();
        let monitor = Monitor::start(move |reading| sender.send(reading).expect("received"));
        let reading = receiver.recv_timeout(Duration::from_secs(20)).expect("a reading");
        assert!(begun.elapsed() >= PERIOD);
        assert!(reading.ram_used_bytes > 0 && reading.process_bytes > 0, "{reading:?}");
        let begun = Instant::now();
        drop(monitor);
        assert!(begun.elapsed() < Duration::from_secs(1));
    }
}
