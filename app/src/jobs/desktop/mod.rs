//! The desktop, as far as it shows notifications and progress: reached from a thread of its own, so that no run ever
//! waits for it. Without a desktop there is nobody to tell, and that is no failure.

#[cfg(target_os = "linux")]
mod session_bus;
#[cfg(any(test, not(target_os = "linux")))]
mod system_program;

#[cfg(target_os = "linux")]
pub use session_bus::Session;
#[cfg(not(target_os = "linux"))]
pub use system_program::Session;

use super::notices::Notice;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Longest that the end of a run waits for its last message to be delivered.
const PATIENCE: Duration = Duration::from_secs(2);

/// Something for the desktop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A notification.
    Notice(Notice),
    /// So many per cent are done.
    Progress(u8),
    /// Nothing is going on any more; with `urgent`, somebody should look.
    Over {
        /// Something went wrong.
        urgent: bool,
    },
}

/// Takes messages to the desktop.
pub struct Courier {
    messages: Option<Sender<Message>>,
    /// Hears when everything was delivered.
    done: Receiver<()>,
}

impl Courier {
    /// `None` where there is no desktop. Whether it answers turns out later.
    pub fn reach() -> Option<Self> {
        let open = Session::opener()?;
        let (messages, inbox) = channel();
        let (finished, done) = channel();
        std::thread::spawn(move || {
            if let Ok(mut session) = open() {
                // A desktop that cannot do one thing may well do the next.
                for message in inbox {
                    let _undone = session.deliver(&message);
                }
            }
            let _nobody_waits = finished.send(());
        });
        Some(Self { messages: Some(messages), done })
    }

    /// Sends a message; what becomes of it is not told.
    pub fn send(&self, message: Message) {
        if let Some(messages) = &self.messages {
            let _nobody_listens = messages.send(message);
        }
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        self.messages = None;
        let _late = self.done.recv_timeout(PATIENCE);
    }
}

/// Shows one notification and waits for it.
///
/// # Errors
/// Why it could not be shown.
pub fn show(notice: &Notice) -> Result<(), String> {
    let open = Session::opener().ok_or_else(|| "there is no desktop session".to_owned())?;
    open()?.deliver(&Message::Notice(notice.clone()))
}
