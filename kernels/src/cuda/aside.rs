//! Slabs of the computer's memory, with the events that tell a device when each of them was written and read.

use super::Cuda;
use super::device::{Device, Lane, Lanes};
use super::memory;
use crate::aside::Aside;
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use std::sync::Arc;

/// A slab, and when it was last written and read.
struct Slab {
    address: u64,
    /// The copy to it has ended.
    left: u64,
    /// The copy from it has ended.
    arrived: u64,
}

/// Slabs of one size.
pub(super) struct HostSlabs<D: Device> {
    device: Arc<D>,
    slabs: Vec<Slab>,
    bytes: usize,
    /// What was launched before a copy has ended.
    launched: u64,
    /// So has every copy to the computer, and every one from there.
    all: [u64; 2],
}

impl<D: Device> HostSlabs<D> {
    /// `count` slabs of `bytes`; what was made before one fails is given back.
    pub(super) fn new(device: &Arc<D>, count: usize, bytes: usize) -> Result<Self> {
        let lanes = device.lanes()?;
        let [launched, out, into] = [lanes.event()?, lanes.event()?, lanes.event()?];
        let mut made =
            Self { device: Arc::clone(device), slabs: Vec::with_capacity(count), bytes, launched, all: [out, into] };
        for _ in 0..count {
            let (left, arrived) = (lanes.event()?, lanes.event()?);
            let slab = lanes.pin(bytes).map(|address| Slab { address, left, arrived });
            if slab.is_err() {
                for event in [left, arrived] {
                    lanes.forget(event);
                }
            }
            made.slabs.push(slab?);
        }
        Ok(made)
    }

    fn lanes(&self) -> Result<&dyn Lanes> {
        self.device.lanes()
    }

    /// The slab, for so many bytes.
    fn slab(&self, slab: usize, bytes: usize) -> Result<&Slab> {
        let found = self.slabs.get(slab).filter(|_| bytes <= self.bytes);
        found.ok_or_else(|| Error::shape("aside", format!("{bytes} bytes into slab {slab} of {}", self.slabs.len())))
    }
}

impl<D: Device> Aside<Cuda<D>> for HostSlabs<D> {
    fn put(&self, slab: usize, x: &Tensor<Cuda<D>>) -> Result<()> {
        let (lanes, slab) = (self.lanes()?, self.slab(slab, x.buf.len())?);
        lanes.record(self.launched, Lane::Compute)?;
        lanes.wait(Lane::Out, self.launched)?;
        lanes.copy_out(slab.address, x.buf.address(), x.buf.len())?;
        lanes.record(slab.left, Lane::Out)
    }

    fn reuse(&self, slab: usize) -> Result<()> {
        self.lanes()?.wait(Lane::Compute, self.slab(slab, 0)?.left)
    }

    fn fetch(&self, slab: usize, y: &mut Tensor<Cuda<D>>) -> Result<()> {
        let (lanes, slab) = (self.lanes()?, self.slab(slab, y.buf.len())?);
        lanes.record(self.launched, Lane::Compute)?;
        lanes.wait(Lane::In, self.launched)?;
        lanes.wait(Lane::In, slab.left)?;
        lanes.copy_in(y.buf.address(), slab.address, y.buf.len())?;
        lanes.record(slab.arrived, Lane::In)
    }

    fn arrive(&self, slab: usize) -> Result<()> {
        self.lanes()?.wait(Lane::Compute, self.slab(slab, 0)?.arrived)
    }

    fn join(&self) -> Result<()> {
        let lanes = self.lanes()?;
        [Lane::Out, Lane::In].into_iter().zip(self.all).try_for_each(|(lane, event)| {
            lanes.record(event, lane)?;
            lanes.wait(Lane::Compute, event)
        })
    }

    fn read(&self, slab: usize, count: usize) -> Result<Vec<f32>> {
        let mut bytes = vec![0; count * size_of::<f32>()];
        let (lanes, slab) = (self.lanes()?, self.slab(slab, bytes.len())?);
        lanes.settle()?;
        lanes.read_pinned(&mut bytes, slab.address)?;
        Ok(memory::to_f32(&bytes))
    }
}

impl<D: Device> Drop for HostSlabs<D> {
    fn drop(&mut self) {
        let Ok(lanes) = self.device.lanes() else { return };
        // A card that stopped copies nothing any more.
        let _stopped = lanes.settle();
        for Slab { address, left, arrived } in self.slabs.drain(..) {
            lanes.unpin(address);
            for event in [left, arrived] {
                lanes.forget(event);
            }
        }
        [self.launched].into_iter().chain(self.all).for_each(|event| lanes.forget(event));
    }
}
