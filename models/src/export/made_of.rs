//! One word for everything that decides the bytes of an export: two exports of the same word are the same file, so one
//! that was interrupted may go on.

use super::gguf::importance::Importance;
use crate::base::BaseModel;
use crate::engine::Quantization;
use crate::peft_format::AdapterFile;
use sha2::{Digest, Sha256};

/// Collects what an export is made of.
pub(crate) struct MadeOf(Sha256);

impl MadeOf {
    /// Base and adapter as `device` merges them.
    pub(crate) fn new(
        device: &str,
        base: &BaseModel,
        adapter: Option<&AdapterFile>,
        quantize: Option<Quantization>,
    ) -> Self {
        let mut made = Self(Sha256::new());
        made.part(concat!("PEFT Studio ", env!("CARGO_PKG_VERSION")).as_bytes());
        made.part(device.as_bytes());
        let checkpoint = base.checkpoint();
        made.part(checkpoint.hash().as_bytes());
        // The hash looks at the ends of each tensor only; a file that was written since has another time.
        for (name, bytes, changed) in checkpoint.stamps() {
            made.part(format!("{name} {bytes} {changed:?}").as_bytes());
        }
        made.part(format!("{quantize:?}").as_bytes());
        if let Some(AdapterFile { config, tensors }) = adapter {
            made.part(format!("{config:?}").as_bytes());
            for (name, (shape, values)) in tensors {
                made.part(name.as_bytes());
                made.part(format!("{shape:?}").as_bytes());
                made.numbers(values);
            }
        }
        made
    }

    /// And this.
    pub(crate) fn part(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn numbers(&mut self, values: &[f32]) {
        self.0.update((values.len() as u64).to_le_bytes());
        for value in values {
            self.0.update(value.to_le_bytes());
        }
    }

    /// And how much its columns matter.
    pub(crate) fn weighed(&mut self, importance: &Importance) {
        for (name, columns) in importance.columns() {
            self.part(name.as_bytes());
            self.numbers(columns);
        }
    }

    /// The word, for what is to have this plan.
    pub(crate) fn word(&self, plan: &[u8]) -> String {
        let mut whole = Self(self.0.clone());
        whole.part(plan);
        durable::hex(&whole.0.finalize())
    }
}
