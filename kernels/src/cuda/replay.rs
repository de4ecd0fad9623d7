//! Graphs of launches on a card: examined when it is opened, kept within the memory that is set aside for them, and given
//! up where they do not do what single launches do.

use super::device::{Arg, Device};
use super::driver::{Driver, lost, missing};
use super::graph_room::{Room, kernel_bytes};
use super::graphs::{self, Failure, Graphs};
use crate::error::{Error, Result};
use std::sync::{MutexGuard, PoisonError};

pub(super) fn unstarted((kernel, e): Failure) -> Error {
    lost(&format!("the graphics card did not start {kernel}"), e)
}

impl Driver {
    /// Use graphs where the driver has them and they do here what single launches do.
    pub fn use_graphs(&self) {
        let reason = if let Some(name) = missing(&graphs::NEEDED) {
            Some(format!("the driver has no {name}"))
        } else {
            self.graphs().begin(Room::new(kernel_bytes(self.version()), None));
            match self.replays_correctly() {
                Ok(true) => None,
                Ok(false) => Some("they do not compute what single launches do".to_owned()),
                Err(e) => Some(e.to_string()),
            }
        };
        let has_stopped = self.graphs().off().is_some();
        if let Some(reason) = reason.filter(|_| !has_stopped) {
            // A card that stopped says so at the next call.
            let _unstarted = self.graphs().stop(reason);
        }
    }

    /// The same list of kernels four times, of which one has another argument each time: launched, made a graph, and
    /// replayed.
    fn replays_correctly(&self) -> Result<bool> {
        const QUARTER: usize = 256;
        let at = self.alloc(4 * QUARTER)?;
        let round = |last: f32| -> Result<bool> {
            let wanted = [0.25, 0.5, 0.75, last];
            for (i, value) in wanted.into_iter().enumerate() {
                let numbers = (QUARTER / 4) as u64;
                let to = Arg::Address(at + (i * QUARTER) as u64);
                let (stride, is_narrow) = (Arg::Long(numbers), Arg::Word(0));
                let args = [to, stride, is_narrow, Arg::Long(1), Arg::Long(numbers), Arg::Single(value)];
                self.launch("fill_window", 1, 256, &args)?;
            }
            let mut bytes = [0; 4 * QUARTER];
            self.download(&mut bytes, at)?;
            let holds =
                |(quarter, value): (&[u8], f32)| quarter.as_chunks().0.iter().all(|b| f32::from_le_bytes(*b) == value);
            Ok(bytes.chunks(QUARTER).zip(wanted).all(holds))
        };
        let all = [1.0, 2.0, 3.0, 4.0].into_iter().map(round).collect::<Result<Vec<bool>>>();
        self.free(at);
        Ok(all?.into_iter().all(|is_right| is_right) && self.graphs().replayed() == 3)
    }

    /// Launch every kernel by itself from here on, for this reason.
    pub fn without_graphs(&self, reason: &str) -> Result<()> {
        self.bind()?;
        self.graphs().stop(reason.to_owned()).map_err(unstarted)
    }

    /// Why kernels are launched one by one; `None`: lists of them that come again are launched as graphs.
    pub fn graphs_off(&self) -> Option<String> {
        self.graphs().off().map(str::to_owned)
    }

    /// Why not all lists that come again are graphs.
    pub fn graphs_short(&self) -> Option<String> {
        self.graphs().room().shortage()
    }

    /// How many lists of kernels were launched as graphs.
    pub fn replayed(&self) -> u64 {
        self.graphs().replayed()
    }

    /// Bytes of the card that a kernel of a graph is taken to need; 0 where there are no graphs.
    pub(super) fn graph_kernel_bytes(&self) -> usize {
        if self.graphs_off().is_some() { 0 } else { kernel_bytes(self.version()) }
    }

    /// Bytes of the card that graphs have, of those that are set aside for them.
    pub fn graph_bytes(&self) -> usize {
        self.graphs().room().taken()
    }

    /// Graphs of what comes from here on may take so many bytes of the card; `None`: as many as without a plan.
    pub(super) fn set_graph_room(&self, bytes: Option<usize>) {
        if self.bind().is_ok() {
            let mut graphs = self.graphs();
            // A card that stopped says so at the next call.
            let _unstarted = graphs.run();
            graphs.forget();
            graphs.give(bytes);
        }
    }

    pub(super) fn graphs(&self) -> MutexGuard<'_, Graphs> {
        // Its content is whole between any two calls.
        self.graphs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begin what was launched. The card's context is that of this thread.
    pub(super) fn run_launched(&self) -> Result<()> {
        self.graphs().run().map_err(unstarted)
    }
}
