//! Two that compute take turns, a token each: both go on together, and neither disturbs the other's threads.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Whose turn it is.
#[derive(Debug, Default)]
struct Who {
    holder: Option<usize>,
    waiting: [bool; 2],
}

/// The turns of number 0 and number 1.
#[derive(Debug, Default)]
pub(super) struct Turns {
    who: Mutex<Who>,
    changed: Condvar,
}

impl Turns {
    /// Wait for the turn of `me`, which lasts until the answer is dropped.
    pub(super) fn begin(&self, me: usize) -> Turn<'_> {
        self.wait(self.who(), me);
        Turn { turns: self, me }
    }

    fn wait<'a>(&'a self, mut who: MutexGuard<'a, Who>, me: usize) {
        who.waiting[me] = true;
        while who.holder.is_some_and(|holder| holder != me) {
            who = self.changed.wait(who).unwrap_or_else(PoisonError::into_inner);
        }
        who.waiting[me] = false;
        who.holder = Some(me);
    }

    fn who(&self) -> MutexGuard<'_, Who> {
        self.who.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A turn.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    me: usize,
}

impl Turn<'_> {
    /// A token is done: if the other one waits, it is its turn, and this one waits.
    pub(super) fn pass(&self) {
        let (turns, other) = (self.turns, 1 - self.me);
        let mut who = turns.who();
        if who.waiting[other] {
            who.holder = Some(other);
            turns.changed.notify_all();
            turns.wait(who, self.me);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut who = self.turns.who();
        let other = 1 - self.me;
        who.holder = who.waiting[other].then_some(other);
        self.turns.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn two_take_turns_and_the_last_one_goes_on_alone() {
        let turns = Turns::default();
        let (sender, said) = channel();
        let (began, has_begun) = channel();
        std::thread::scope(|scope| {
            let (turns, told) = (&turns, sender.clone());
            scope.spawn(move || {
                let turn = turns.begin(1);
                began.send(()).expect("heard");
                // The other one wants its turn before this one gives any away.
                while !turns.who.lock().expect("whole").waiting[0] {
                    std::thread::yield_now();
                }
                for _ in 0..8 {
                    told.send(1).expect("heard");
                    turn.pass();
                }
            });
            has_begun.recv().expect("begun");
            let turn = turns.begin(0);
            for _ in 0..4 {
                sender.send(0).expect("heard");
                turn.pass();
            }
        });
        drop(sender);
        assert_eq!(said.iter().collect::<Vec<usize>>(), [1, 0, 1, 0, 1, 0, 1, 0, 1, 1, 1, 1]);
    }
}
