//! Where the device's type disappears: the app asks an [`Engine`], never a backend.

mod exporting;
mod memory;
mod merging;
mod session;
mod training;

pub use memory::{Workload, memory_plan, model_facts, targets, trainable_parameters};
pub use merging::{MergeOptions, MergeProgress};
pub use session::Session;
pub use training::{TrainJob, kept_adapter};

use crate::base::BaseModel;
use crate::calibrate::{self, Sample};
use crate::checkpoint::Checkpoint;
use crate::fault::device;
use crate::golden::{self, SelftestReport};
use crate::peft_format::{AdapterFile, read_adapter};
use crate::train::RunOutcome;
use crate::verify::{Verification, verify};
use durable::Manifest;
use peft_kernels::cpu::Cpu;
use peft_kernels::{Backend, FourBitKind};
use peft_plan::estimate::Calibration;
use peft_plan::{EventSink, Fault, Result, TrainingPlan};
use std::ops::ControlFlow;
use std::path::Path;

/// The chosen device.
pub struct Engine {
    device: Device,
    threads: usize,
}

enum Device {
    Cpu(Cpu),
}

/// Calls `$body` with the backend of `$engine` in `$be`.
macro_rules! on {
    ($engine:expr, $be:ident => $body:expr) => {
        match &$engine.device {
            Device::Cpu($be) => $body,
        }
    };
}

/// How a dense base is quantised on loading: what a QLoRA run trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantization {
    /// Code table.
    pub kind: FourBitKind,
    /// The scales are quantised too.
    pub double: bool,
}

impl Quantization {
    /// What `plan` loads its base with.
    pub fn of_plan(plan: &TrainingPlan) -> Option<Self> {
        let kind = if plan.quantization_format == "fp4" { FourBitKind::Fp4 } else { FourBitKind::Nf4 };
        plan.method.is_quantized().then_some(Self { kind, double: plan.double_quantization })
    }
}

impl Engine {
    /// Open a device: `auto` or `cpu`, with so many threads.
    pub fn open(backend: &str, threads: usize) -> Result<Self> {
        match backend {
            "auto" | "cpu" => Ok(Self { device: Device::Cpu(Cpu::new(threads).map_err(device)?), threads }),
            other => Err(Fault::new(
                "PS-HW-001",
                format!("The backend `{other}` cannot be used: this version computes on the processor"),
            )),
        }
    }

    /// `cpu` or `cuda`.
    pub fn backend(&self) -> &'static str {
        on!(self, be => name_of(be))
    }

    /// The device, and whatever of it could change a bit of a result.
    pub fn fingerprint(&self) -> String {
        on!(self, be => be.fingerprint())
    }

    /// Threads it computes with.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Train (or go on training). The result is in `job.directory`.
    pub fn train(&self, job: TrainJob, sink: &mut dyn EventSink) -> Result<RunOutcome> {
        on!(self, be => training::run(be, job, sink, self.backend()))
    }

    /// Measure how fast this device trains a model of these shapes.
    pub fn calibrate(&self, checkpoint: &Checkpoint, sample: &Sample) -> Result<Calibration> {
        on!(self, be => calibrate::run(be, checkpoint, sample))
    }

    /// Load a model, with the adapter in `adapter` if given.
    pub fn session(
        &self,
        base: &BaseModel,
        adapter: Option<&Path>,
        quantize: Option<Quantization>,
    ) -> Result<Box<dyn Session>> {
        let file = adapter.map(read_adapter).transpose()?;
        self.session_with(base, file.as_ref(), quantize)
    }

    /// Load a model with an adapter that was read already.
    pub fn session_with(
        &self,
        base: &BaseModel,
        adapter: Option<&AdapterFile>,
        quantize: Option<Quantization>,
    ) -> Result<Box<dyn Session>> {
        on!(self, be => session::open(be, base, adapter, quantize, false))
    }

    /// The same for a few passes over a model that may be larger than the memory: of the blocks that lie in its files
    /// one at a time is in memory.
    pub fn sparing_session(
        &self,
        base: &BaseModel,
        adapter: Option<&AdapterFile>,
        quantize: Option<Quantization>,
    ) -> Result<Box<dyn Session>> {
        on!(self, be => session::open(be, base, adapter, quantize, true))
    }

    /// Replay a reference run of another framework.
    pub fn verify(&self, base: &BaseModel, reference: &Path) -> Result<Verification> {
        on!(self, be => verify(be, base.checkpoint(), reference))
    }

    /// Compare every operation with the reference, on inputs drawn from `seed`, and replay the golden steps.
    pub fn selftest(&self, seed: u64) -> Result<SelftestReport> {
        on!(self, be => golden::selftest(be, seed))
    }

    /// Write base and adapter as a checkpoint of TensorRT-LLM into `out`, with the plain files `extra` beside.
    pub fn tensorrt(
        &self,
        base: &BaseModel,
        adapter: Option<&AdapterFile>,
        options: &MergeOptions,
        extra: &[(String, Vec<u8>)],
        out: &Path,
    ) -> Result<Manifest> {
        on!(self, be => crate::export::tensorrt::write(be, base, adapter, options, extra, out))
    }

    /// Write base and adapter as one model into `out`.
    pub fn merge(
        &self,
        base: &BaseModel,
        adapter: Option<&AdapterFile>,
        options: &MergeOptions,
        out: &Path,
    ) -> Result<Manifest> {
        let written = self.merge_unless(base, adapter, options, out, &mut |_, _| ControlFlow::Continue(()))?;
        written.ok_or_else(|| Fault::new("PS-EXP-002", "The model was not written, though nobody stopped it."))
    }
}

fn name_of<B: Backend>(_: &B) -> &'static str {
    B::NAME
}
