//! Conversions to GGUF, on the processor of an engine.

use super::{Device, Engine};
use crate::export::certificate::{Certificate, Reference, certify};
use crate::export::gguf::FileType;
use crate::export::gguf::write::{Conversion, Source, Written};
use peft_plan::Result;

impl Engine {
    /// Plan GGUF files of `types`: nothing is written, every size is known.
    pub fn conversion<'a>(&'a self, source: Source<'a>, types: &[FileType]) -> Result<Conversion<'a>> {
        match &self.device {
            Device::Cpu(cpu) => Conversion::new(cpu, source, types),
        }
    }

    /// Read an exported file again and hold it against what it was made from.
    pub fn certify(&self, reference: &Reference, written: &Written) -> Result<Certificate> {
        match &self.device {
            Device::Cpu(cpu) => certify(self, cpu, reference, written),
        }
    }
}
