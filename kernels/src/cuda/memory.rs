//! Memory of a device that gives itself back, and what goes there and comes from there.

use super::device::Device;
use crate::error::{Error, Result};
use std::sync::Arc;

/// An allocation.
pub struct Memory<D: Device> {
    device: Arc<D>,
    /// 0: it was given back, and nothing came in its place.
    address: u64,
    bytes: usize,
    /// What it was made for, at least `bytes`.
    room: usize,
    /// Bytes of an element.
    size: usize,
}

impl<D: Device> Memory<D> {
    /// Room for `count` elements of `size` bytes; what it holds is undefined.
    pub(super) fn uninit(device: &Arc<D>, op: &'static str, count: usize, size: usize) -> Result<Self> {
        let bytes = count.saturating_mul(size);
        if isize::try_from(bytes).is_err() {
            return Err(Error::OutOfMemory { op, bytes });
        }
        // An empty matrix has an address, too.
        let address = device.alloc(bytes.max(1)).map_err(|e| match e {
            Error::OutOfMemory { bytes, .. } => Error::OutOfMemory { op, bytes },
            other => other,
        })?;
        Ok(Self { device: Arc::clone(device), address, bytes, room: bytes, size })
    }

    /// These bytes.
    pub(super) fn holding(device: &Arc<D>, op: &'static str, bytes: &[u8]) -> Result<Self> {
        let memory = Self::uninit(device, op, bytes.len(), 1)?;
        memory.write(bytes)?;
        Ok(memory)
    }

    /// These numbers.
    pub(super) fn of<T: Number>(device: &Arc<D>, op: &'static str, data: &[T]) -> Result<Self> {
        Self::holding(device, op, &to_bytes(data))
    }

    /// Where it begins.
    pub(super) fn address(&self) -> u64 {
        self.address
    }

    /// Whether its elements are bfloat16: whoever makes a matrix of two bytes an element means that.
    pub(super) fn is_narrow(&self) -> bool {
        self.size == 2
    }

    /// Use it for `count` of its elements from now on; what it holds is undefined. Where it is too small, it is
    /// given back first: never both at a time.
    pub(super) fn resize(&mut self, op: &'static str, count: usize) -> Result<()> {
        let bytes = count.saturating_mul(self.size);
        if bytes <= self.room {
            self.bytes = bytes;
            return Ok(());
        }
        self.give_back();
        *self = Self::uninit(&self.device, op, count, self.size)?;
        Ok(())
    }

    /// Give it back now; nothing comes in its place.
    pub(super) fn give_back(&mut self) {
        if self.address != 0 {
            self.device.free(self.address);
        }
        (self.address, self.bytes, self.room) = (0, 0, 0);
    }

    /// Its size.
    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    /// Overwrite it from its beginning.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<()> {
        assert!(bytes.len() <= self.bytes, "{} bytes into {}", bytes.len(), self.bytes);
        if bytes.is_empty() { Ok(()) } else { self.device.upload(self.address, bytes) }
    }

    /// All of it.
    pub(super) fn read(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.bytes];
        if !bytes.is_empty() {
            self.device.download(&mut bytes, self.address)?;
        }
        Ok(bytes)
    }
}

impl<D: Device> Drop for Memory<D> {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// A number as its bytes, little-endian as the devices are.
pub(super) trait Number: Copy {
    /// Append the bytes.
    fn put(self, to: &mut Vec<u8>);
}

macro_rules! numbers {
    ($($kind:ty),*) => {$(
        impl Number for $kind {
            fn put(self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}
numbers!(f32, i32, u32, i64);

/// Numbers as bytes.
pub(super) fn to_bytes<T: Number>(data: &[T]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size_of_val(data));
    for x in data {
        x.put(&mut bytes);
    }
    bytes
}

/// Numbers as those of bfloat16 that are next to them.
pub(super) fn to_bf16_bytes(data: &[f32]) -> Vec<u8> {
    data.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect()
}

/// The numbers of bfloat16.
pub(super) fn from_bf16_bytes(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect()
}

/// Bytes as f32.
pub(super) fn to_f32(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}
