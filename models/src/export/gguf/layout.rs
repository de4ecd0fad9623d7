//! A GGUF file that is about to be written: everything before the tensors, and where each of them goes.

use super::value::{Metadata, write_text};
use super::{ALIGNMENT, MAGIC, NAME_BYTES, VERSION};
use durable::Digest;
use peft_kernels::quant::ggml::GgmlType;
use peft_plan::{Fault, Result};
use std::collections::HashSet;
use std::io::{self, Write};
use std::path::Path;

/// A tensor of a file that is about to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Its name.
    pub name: String,
    /// How its numbers will be stored.
    pub kind: GgmlType,
    /// Dimensions, the slowest first.
    pub shape: Vec<usize>,
    bytes: usize,
}

impl Planned {
    /// A tensor of whole blocks.
    pub fn new(name: impl Into<String>, kind: GgmlType, shape: Vec<usize>) -> Result<Self> {
        let name = name.into();
        let cols = shape.last().copied().unwrap_or(1);
        let rows = shape.iter().rev().skip(1).try_fold(1usize, |n, dim| n.checked_mul(*dim));
        let bytes = kind.row_bytes(cols).zip(rows).and_then(|(row, rows)| row.checked_mul(rows));
        match bytes {
            Some(bytes) if name.len() <= NAME_BYTES => Ok(Self { name, kind, shape, bytes }),
            _ => Err(Fault::new("PS-GGUF-001", format!("The tensor `{name}` of shape {shape:?} cannot be {kind}"))),
        }
    }

    /// Bytes of its content.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn padded(&self) -> u64 {
        self.bytes.next_multiple_of(ALIGNMENT) as u64
    }
}

/// A file that is about to be written.
#[derive(Clone, Debug)]
pub struct Layout {
    header: Vec<u8>,
    tensors: Vec<Planned>,
}

impl Layout {
    /// A file of `tensors`, in this order.
    pub fn new(metadata: &Metadata, tensors: Vec<Planned>) -> Result<Self> {
        let mut names = HashSet::new();
        if let Some(twice) = tensors.iter().find(|tensor| !names.insert(&tensor.name)) {
            return Err(Fault::new("PS-EXP-002", format!("The tensor `{}` would be written twice.", twice.name)));
        }
        let mut header = MAGIC.to_vec();
        header.extend(VERSION.to_le_bytes());
        header.extend((tensors.len() as u64).to_le_bytes());
        header.extend((metadata.len() as u64).to_le_bytes());
        for (key, value) in metadata.iter() {
            write_text(&mut header, key);
            header.extend(value.kind().to_le_bytes());
            value.write(&mut header);
        }
        let mut offset = 0u64;
        for tensor in &tensors {
            write_text(&mut header, &tensor.name);
            header.extend((tensor.shape.len() as u32).to_le_bytes());
            for dimension in tensor.shape.iter().rev() {
                header.extend((*dimension as u64).to_le_bytes());
            }
            header.extend(tensor.kind.id().to_le_bytes());
            header.extend(offset.to_le_bytes());
            offset += tensor.padded();
        }
        header.resize(header.len().next_multiple_of(ALIGNMENT), 0);
        Ok(Self { header, tensors })
    }

    /// The tensors in order.
    pub fn tensors(&self) -> &[Planned] {
        &self.tensors
    }

    /// Bytes of the whole file.
    pub fn bytes(&self) -> u64 {
        self.header.len() as u64 + self.tensors.iter().map(Planned::padded).sum::<u64>()
    }

    /// Everything before the first tensor, as bytes.
    pub(super) fn header(&self) -> &[u8] {
        &self.header
    }

    /// Write the whole file to `path`: `contents` are the numbers of its tensors, all of them F32, in their order.
    pub(super) fn write_floats(&self, path: &Path, contents: &[Vec<f32>]) -> io::Result<Digest> {
        durable::write_file_with(path, |out| {
            self.begin(out)?;
            for (tensor, values) in self.tensors.iter().zip(contents) {
                let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
                out.write_all(&bytes)?;
                self.pad(out, tensor)?;
            }
            Ok(())
        })
    }

    /// Everything before the first tensor.
    pub fn begin(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.header)
    }

    /// What comes behind the content of `tensor`, so that the next one begins where it should.
    pub fn pad(&self, out: &mut dyn Write, tensor: &Planned) -> io::Result<()> {
        let padding = (tensor.padded() - tensor.bytes as u64) as usize;
        out.write_all(&[0; ALIGNMENT][..padding])
    }
}
