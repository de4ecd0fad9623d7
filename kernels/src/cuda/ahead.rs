//! Weights decoded ahead: while one product runs, the next one's panel is decoded beside it.
//!
//! What comes next is what came next before: passes over a model use its weights in the same order again and again, and two
//! panels in a row say which one follows. A guess that is wrong costs a decoding that nobody uses, and is decoded again in
//! its place; a panel is used only for the weight it was decoded from. Two halves take turns, with events between the lane
//! that computes and the one that decodes: a half is written once its product has read it, and read once it is written.
//! The same kernels decode with the same arguments, so that no bit depends on it.

use super::Cuda;
use super::device::{Device, Lane};
use super::memory::Memory;
use super::product_bf16::{PackedPanel, TILE};
use super::weight::{CudaWeight, WeakWeight};
use crate::error::Result;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Panels whose successors are remembered.
const REMEMBERED: usize = 1 << 14;

/// A panel: its weight, and its first row.
type Key = (u64, usize);

/// A panel that may come next.
struct Next<D: Device> {
    key: Key,
    weight: WeakWeight<D>,
    rows: usize,
    stride: usize,
}

impl<D: Device> Clone for Next<D> {
    fn clone(&self) -> Self {
        Self { weight: self.weight.clone(), ..*self }
    }
}

/// Memory for a panel, and the events of those who use it.
struct Half<D: Device> {
    memory: Option<Arc<Memory<D>>>,
    /// It is decoded.
    written: u64,
    /// Its product has read it.
    read: u64,
}

struct State<D: Device> {
    /// Made with the first panel.
    halves: Option<[Half<D>; 2]>,
    /// The half that was used last.
    turn: usize,
    /// The panel that is being decoded in the other half.
    coming: Option<Key>,
    /// The last two panels.
    past: [Option<Key>; 2],
    order: HashMap<[Option<Key>; 2], Next<D>>,
    /// Panels that were there when they were asked for.
    found: u64,
}

/// The two halves and what is known of the order of panels.
pub(super) struct Ahead<D: Device> {
    device: Arc<D>,
    fewest: usize,
    state: Mutex<State<D>>,
}

impl<D: Device> Ahead<D> {
    /// For products of at least so many rows; an error where this device does one thing at a time.
    pub(super) fn new(device: &Arc<D>, fewest: usize) -> Result<Self> {
        device.lanes()?;
        let state = State { halves: None, turn: 0, coming: None, past: [None; 2], order: HashMap::new(), found: 0 };
        Ok(Self { device: Arc::clone(device), fewest, state: Mutex::new(state) })
    }

    /// Whether a product of so many rows with `w` is one of those.
    pub(super) fn is_for(&self, w: &CudaWeight<D>, tokens: usize) -> bool {
        tokens >= self.fewest && w.is_coded() && w.held().is_none()
    }

    /// Panels that were decoded when they were asked for.
    pub(super) fn found(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).found
    }

    /// Give the halves back. What is known of the order stays.
    pub(super) fn clear(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.give_back(&mut state);
    }

    fn give_back(&self, state: &mut State<D>) {
        state.coming = None;
        let Some(halves) = state.halves.take() else { return };
        let Ok(lanes) = self.device.lanes() else { return };
        for half in &halves {
            // Whoever has the memory next comes after what still writes there. A card that stopped writes nothing.
            let _stopped = lanes.wait(Lane::Compute, half.written);
            for event in [half.written, half.read] {
                lanes.forget(event);
            }
        }
    }

    /// Do something with rows `first..first + rows` of `w` in bfloat16, and decode what comes next meanwhile.
    pub(super) fn panel(
        &self,
        w: &CudaWeight<D>,
        (first, rows, stride): (usize, usize, usize),
        each: &mut dyn FnMut(&PackedPanel<D>) -> Result<()>,
    ) -> Result<()> {
        // Two threads take turns: a half belongs to one product at a time.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        let lanes = self.device.lanes()?;
        let key = (w.id(), first);
        if state.halves.is_none() {
            let half =
                || -> Result<Half<D>> { Ok(Half { memory: None, written: lanes.event()?, read: lanes.event()? }) };
            state.halves = Some([half()?, half()?]);
        }
        let other = 1 - state.turn;
        let Some(halves) = &mut state.halves else { return Ok(()) };
        // Also where the guess was wrong: nobody else may write there meanwhile.
        if state.coming.is_some() {
            lanes.wait(Lane::Compute, halves[other].written)?;
        }
        let is_there = state.coming.take() == Some(key);
        let bytes = rows.next_multiple_of(TILE) * stride * 2;
        if is_there {
            state.found += 1;
        } else {
            let memory = room(&self.device, &mut halves[other], bytes)?;
            w.decode_bf16(&self.device, memory.address(), (first, rows), (rows.next_multiple_of(TILE), stride), None)?;
        }
        let memory = room(&self.device, &mut halves[other], bytes)?;
        state.turn = other;
        let here = Next { key, weight: w.downgrade(), rows, stride };
        if state.order.len() == REMEMBERED {
            state.order.clear();
        }
        state.order.insert(state.past, here);
        state.past = [state.past[1], Some(key)];
        let next = state.order.get(&state.past).cloned();
        if let Some((next, weight)) = next.and_then(|next| next.weight.upgrade().map(|weight| (next, weight)))
            && weight.held().is_none()
        {
            let half = &mut halves[1 - other];
            let padded = next.rows.next_multiple_of(TILE);
            let is_new = half.memory.as_ref().is_none_or(|memory| memory.len() < padded * next.stride * 2);
            let memory = room(&self.device, half, padded * next.stride * 2)?;
            if is_new {
                // Whoever had this memory before is among what was launched so far.
                lanes.record(half.read, Lane::Compute)?;
            }
            lanes.wait(Lane::Ahead, half.read)?;
            let (rows, padded) = ((next.key.1, next.rows), (padded, next.stride));
            weight.decode_bf16(&self.device, memory.address(), rows, padded, Some(lanes))?;
            lanes.record(half.written, Lane::Ahead)?;
            state.coming = Some(next.key);
        }
        let done = each(&PackedPanel::of((first, rows, stride), memory));
        // Also where it failed: some of it may have been launched.
        lanes.record(halves[other].read, Lane::Compute)?;
        done
    }
}

impl<D: Device> Cuda<D> {
    /// How many panels of weights were decoded when a product came to them, since decoding ahead began.
    pub fn decoded_ahead(&self) -> u64 {
        self.recent.ahead().map_or(0, |ahead| ahead.found())
    }
}

/// The memory of `half`, of at least so many bytes. The lane that computes has done with it, or comes to it in its order.
fn room<D: Device>(device: &Arc<D>, half: &mut Half<D>, bytes: usize) -> Result<Arc<Memory<D>>> {
    if let Some(memory) = half.memory.as_ref().filter(|memory| memory.len() >= bytes) {
        return Ok(Arc::clone(memory));
    }
    // Given back first: never both at a time.
    half.memory = None;
    let memory = Arc::new(Memory::uninit(device, "linear", bytes, 1)?);
    half.memory = Some(Arc::clone(&memory));
    Ok(memory)
}

impl<D: Device> Drop for Ahead<D> {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.coming = None;
        if let (Some(halves), Ok(lanes)) = (state.halves.take(), self.device.lanes()) {
            // What still writes there ends before the memory is another's.
            let _stopped = lanes.settle();
            for half in &halves {
                for event in [half.written, half.read] {
                    lanes.forget(event);
                }
            }
        }
    }
}
