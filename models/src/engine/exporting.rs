//! Conversions to GGUF, on the processor of an engine, and merging that can be stopped.

use super::Engine;
use super::merging::{MergeOptions, MergeProgress, merge, merged_bytes};
use crate::base::BaseModel;
use crate::export::certificate::{Certificate, Reference, certify};
use crate::export::gguf::FileType;
use crate::export::gguf::write::{Conversion, Source, Written};
use crate::peft_format::AdapterFile;
use durable::Manifest;
use peft_plan::Result;
use std::path::Path;

impl Engine {
    /// Plan GGUF files of `types`: nothing is written, every size is known.
    pub fn conversion<'a>(&'a self, source: Source<'a>, types: &[FileType]) -> Result<Conversion<'a>> {
        Conversion::new(self.processor(), source, types)
    }

    /// Bytes of the weights of base and adapter as one model.
    pub fn merged_bytes(&self, base: &BaseModel, adapter: Option<&AdapterFile>, options: &MergeOptions) -> Result<u64> {
        merged_bytes(self.processor(), base, adapter, options)
    }

    /// Write base and adapter as one model into `out`. `None`: `progress` had enough; what is done stays beside `out`,
    /// and the next attempt at the same model goes on with it, as it does after a crash.
    pub fn merge_unless(
        &self,
        base: &BaseModel,
        adapter: Option<&AdapterFile>,
        options: &MergeOptions,
        out: &Path,
        progress: &mut MergeProgress,
    ) -> Result<Option<Manifest>> {
        merge(self.processor(), base, adapter, options, out, progress)
    }

    /// Read an exported file again and hold it against what it was made from.
    pub fn certify(&self, reference: &Reference, written: &Written) -> Result<Certificate> {
        certify(self, self.processor(), reference, written)
    }
}
