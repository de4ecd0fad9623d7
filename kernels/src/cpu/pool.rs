//! Threads and scratch memory of one processor backend.
//!
//! Work is cut into pieces by its size alone, never by the number of threads, and no sum is split
//! between pieces: which thread runs what cannot change a bit.
//!
//! The caller is one of the threads: it begins with the pieces at once, instead of sleeping until others have done
//! them, and the others join in when they are awake. A step of a small model is thousands of such calls.

use crate::error::{Error, Result};
use crate::pages;
use rayon::ThreadPool;
use std::ops::{Deref, DerefMut, Range};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Elements that one task of an element-wise operation takes: small enough to share, large enough to be worth it.
const ELEMENTS_PER_TASK: usize = 1 << 15;

/// Turns of waiting awake for the other threads at the end of a call, some hundred microseconds.
const TURNS: usize = 5000;
/// Calls that do not wait awake after one that did in vain: twice as many each time, from the first to the last.
const CALLS_ASLEEP: [usize; 2] = [2, 256];
/// Turns until a thread that has said that it is done is heard of by the pool.
const TURNS_AFTER: usize = 4;

/// How long a thread that has nothing to do waits awake for the next call. In a step of a model, or a token of an
/// answer, calls follow each other within this time, and waking a thread takes longer than many of them.
const AWAKE: Duration = Duration::from_micros(100);
/// Turns between two looks at the clock.
const TURNS_PER_LOOK: usize = 64;

/// Floats of a line of the cache: where borrowed memory begins, so that no vector of it lies in two lines.
const ALIGNED: usize = 16;

/// A buffer so many times as long as it has to be is not borrowed; one for fewer floats than this may be.
const WASTED: usize = 4;
const SMALL: usize = 1 << 14;
/// Unused buffers kept for the next call.
const KEPT_BUFFERS: usize = 64;

/// A thread pool of its own, and buffers that calls borrow.
pub(crate) struct Pool {
    /// All threads but the caller's; `None` where that is the only one.
    threads: Option<ThreadPool>,
    count: usize,
    free: Mutex<Vec<Vec<f32>>>,
    /// Calls that are not to wait awake.
    busy: AtomicUsize,
    /// How many those will be after the next one that waits in vain.
    patience: AtomicUsize,
    /// Calls so far, for the threads that wait for the next one.
    calls: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({})", self.count)
    }
}

impl Pool {
    pub(crate) fn new(count: usize) -> Result<Self> {
        let unavailable = |reason: String| Error::Unavailable { reason };
        let threads = match count {
            0 => return Err(unavailable("at least one thread is needed to compute".into())),
            1 => None,
            _ => {
                let builder = rayon::ThreadPoolBuilder::new().num_threads(count - 1);
                let pool = builder.thread_name(|i| format!("kernels-{i}")).build();
                Some(pool.map_err(|e| unavailable(format!("{count} threads could not be started: {e}")))?)
            }
        };
        let patience = AtomicUsize::new(CALLS_ASLEEP[0]);
        let (busy, calls) = (AtomicUsize::new(0), Arc::default());
        Ok(Self { threads, count, free: Mutex::new(Vec::new()), busy, patience, calls })
    }

    /// How many threads compute.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// `task` on every item, in any order.
    pub(crate) fn each<T: Send>(&self, items: Vec<T>, task: impl Fn(T) + Send + Sync) {
        let Some(threads) = self.threads.as_ref().filter(|_| items.len() > 1) else {
            return items.into_iter().for_each(task);
        };
        let helpers = (self.count - 1).min(items.len() - 1);
        let queues = Queues::of(items, helpers + 1);
        let comers = AtomicUsize::new(1);
        let work = |own: usize| {
            while let Some(item) = queues.next(own) {
                task(item);
            }
        };
        let done = AtomicUsize::new(0);
        // Who waits for this call looks for its work now.
        let call = self.calls.fetch_add(1, Ordering::Release).wrapping_add(1);
        threads.in_place_scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(|_| {
                    work(comers.fetch_add(1, Ordering::Relaxed));
                    if self.busy.load(Ordering::Relaxed) == 0 {
                        let calls = Arc::clone(&self.calls);
                        // A task of its own, which begins when this one is over.
                        threads.spawn(move || stay_awake(&calls, call));
                    }
                    done.fetch_add(1, Ordering::Release);
                });
            }
            work(0);
            self.wait_awake(|| done.load(Ordering::Acquire) == helpers);
        });
    }

    /// The others are at their last items, and waiting for those is shorter than falling asleep and waking up. Where
    /// another program has taken their core it is not, and keeps them from it: then it is not tried for a while, which
    /// is longer the more often that happens in a row.
    fn wait_awake(&self, is_done: impl Fn() -> bool) {
        if let Some(fewer) = self.busy.load(Ordering::Relaxed).checked_sub(1) {
            return self.busy.store(fewer, Ordering::Relaxed);
        }
        let mut turns = 0;
        while !is_done() {
            turns += 1;
            if turns > TURNS {
                let calls = self.patience.load(Ordering::Relaxed);
                self.patience.store((2 * calls).min(CALLS_ASLEEP[1]), Ordering::Relaxed);
                return self.busy.store(calls, Ordering::Relaxed);
            }
            std::hint::spin_loop();
        }
        self.patience.store(CALLS_ASLEEP[0], Ordering::Relaxed);
        // From the last word of a helper to the end of its task.
        (0..TURNS_AFTER).for_each(|_| std::hint::spin_loop());
    }

    /// Bytes that are kept for the next call.
    pub(crate) fn kept_bytes(&self) -> usize {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.iter().map(|buffer| buffer.capacity() * size_of::<f32>()).sum()
    }

    /// Borrow `len` floats. What they hold is anything.
    pub(crate) fn scratch(&self, len: usize) -> Scratch<'_> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let room = len + ALIGNED;
        // The smallest that is large enough, or else the largest, to grow. One that is far too large is kept for whoever
        // needs it: otherwise there would be as many of those as are borrowed at a time.
        let most = room.max(SMALL) * WASTED;
        let fit = |len: usize| if len >= room { (0, len) } else { (1, usize::MAX - len) };
        let best = (0..free.len()).filter(|&i| free[i].len() <= most).min_by_key(|&i| fit(free[i].len()));
        let mut buffer = best.map_or_else(Vec::new, |i| free.swap_remove(i));
        drop(free);
        if buffer.len() < room {
            // No longer than that, and nothing is copied.
            drop(buffer);
            buffer = vec![0.0; room];
            pages::ask_for_large(&buffer);
        }
        let start = buffer.as_ptr().align_offset(ALIGNED * size_of::<f32>()).min(ALIGNED);
        Scratch { pool: self, buffer, at: start..start + len }
    }
}

/// Until there is another call than `call`, or for some time.
fn stay_awake(calls: &AtomicUsize, call: usize) {
    let begun = Instant::now();
    while begun.elapsed() < AWAKE {
        for _ in 0..TURNS_PER_LOOK {
            if calls.load(Ordering::Acquire) != call {
                return;
            }
            std::hint::spin_loop();
        }
    }
}

/// The items of a call, a run of neighbours for each thread: memory is read in long streams. Who has none left
/// takes the last of another's.
struct Queues<T>(Vec<Mutex<std::vec::IntoIter<T>>>);

impl<T> Queues<T> {
    fn of(mut items: Vec<T>, threads: usize) -> Self {
        let mut runs = Vec::with_capacity(threads);
        for left in (1..threads).rev() {
            let rest = items.split_off(items.len().div_ceil(left + 1));
            runs.push(std::mem::replace(&mut items, rest));
        }
        runs.push(items);
        Self(runs.into_iter().map(|run| Mutex::new(run.into_iter())).collect())
    }

    fn next(&self, own: usize) -> Option<T> {
        let locked = |i: usize| self.0[i].lock().unwrap_or_else(PoisonError::into_inner);
        let mine = locked(own).next();
        mine.or_else(|| (1..self.0.len()).find_map(|i| locked((own + i) % self.0.len()).next_back()))
    }
}

/// Rows of `cols` columns that one task of an element-wise operation takes.
pub(crate) fn rows_per_task(cols: usize) -> usize {
    (ELEMENTS_PER_TASK / cols.max(1)).max(1)
}

/// Floats borrowed from a [`Pool`].
pub(crate) struct Scratch<'a> {
    pool: &'a Pool,
    buffer: Vec<f32>,
    at: Range<usize>,
}

impl Deref for Scratch<'_> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.buffer[self.at.clone()]
    }
}

impl DerefMut for Scratch<'_> {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.buffer[self.at.clone()]
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        let mut free = self.pool.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT_BUFFERS {
            free.push(std::mem::take(&mut self.buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pool;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_item_runs_once() {
        for threads in [1, 3] {
            let pool = Pool::new(threads).expect("threads");
            let sum = AtomicUsize::new(0);
            pool.each((1..=100).collect(), |i| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 5050);
        }
    }

    #[test]
    fn every_thread_takes_part_and_a_call_within_a_call_ends() {
        let pool = Pool::new(3).expect("threads");
        let here = std::sync::Mutex::new(std::collections::BTreeSet::new());
        // Nobody goes on before all three have come.
        let all = std::sync::Barrier::new(3);
        pool.each(vec![(); 3], |()| {
            here.lock().expect("no panic").insert(format!("{:?}", std::thread::current().id()));
            all.wait();
        });
        assert_eq!(here.into_inner().expect("no panic").len(), 3);
        let sum = AtomicUsize::new(0);
        pool.each((0..8).collect(), |i| {
            pool.each((0..8).collect(), |j| {
                sum.fetch_add(i * j, Ordering::Relaxed);
            });
        });
        assert_eq!(sum.into_inner(), 28 * 28);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(2).expect("threads");
        let call = || pool.each((0..100).collect(), |i| assert_ne!(i, 50, "the fiftieth"));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err());
        let sum = AtomicUsize::new(0);
        pool.each((1..=100).collect(), |i| {
            sum.fetch_add(i, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 5050);
    }

    #[test]
    fn scratch_is_used_again_and_has_the_length_asked_for() {
        let pool = Pool::new(1).expect("threads");
        let first = pool.scratch(100).as_ptr();
        assert_eq!(pool.scratch(50).len(), 50);
        assert_eq!(pool.scratch(100).as_ptr(), first);
        let (a, b) = (pool.scratch(10), pool.scratch(10));
        assert_ne!(a.as_ptr(), b.as_ptr());
    }

    #[test]
    fn no_threads_is_refused() {
        assert!(Pool::new(0).is_err());
    }
}
