//! Where the device's type disappears: the app asks an [`Engine`], never a backend.

mod card;
mod exporting;
mod memory;
mod merging;
mod session;
mod timing;
mod training;
mod trial;

pub use card::{CardMemory, Chosen, ListedCard};
pub use memory::{Workload, answer_memory, memory_plan, model_facts, targets, trainable_parameters};
pub use merging::{MergeOptions, MergeProgress};
pub use session::Session;
pub use timing::StepTiming;
pub use training::{TrainJob, kept_adapter};
pub use trial::{Examiner, Question, Risk, Speed, Unused, Verdict};

use crate::base::BaseModel;
use crate::calibrate::{self, Sample};
use crate::checkpoint::Checkpoint;
use crate::fault::device;
use crate::golden::{self, SelftestReport};
use crate::peft_format::{AdapterFile, read_adapter};
use crate::train::RunOutcome;
use crate::verify::{Verification, verify};
use durable::Manifest;
use peft_kernels::cpu::{Cpu, Factors, Path as KernelPath};
use peft_kernels::cuda::Cuda;
use peft_kernels::cuda::driver::Driver;
use peft_kernels::{Backend, FourBitKind, selftest};
use peft_plan::estimate::Calibration;
use peft_plan::memory::card::Beside;
use peft_plan::{Arithmetic, EventSink, Fault, Result, TrainingPlan};
use session::Lying;
use std::ops::ControlFlow;
use std::path::Path;

/// The chosen device.
pub struct Engine {
    device: Device,
    threads: usize,
    /// Bytes that the weights of a session may take beside the files they are read from.
    room: u64,
}

enum Device {
    Cpu(Cpu),
    /// A graphics card, and the processor for what is done there in any case.
    Card(Cuda<Driver>, Cpu),
}

/// Calls `$body` with the backend of `$engine` in `$be`.
macro_rules! on {
    ($engine:expr, $be:ident => $body:expr) => {
        match &$engine.device {
            Device::Cpu($be) => $body,
            Device::Card($be, _) => $body,
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
    /// Open a device, with so many threads of the processor: `cpu`, or `cpu:KERNELS` for kernels that are not the best;
    /// `cuda` or `cuda:N` for a graphics card; `auto` for a card that can be used and the processor otherwise.
    pub fn open(backend: &str, threads: usize) -> Result<Self> {
        let cpu = Cpu::with_path(threads, Self::kernels(backend)?).map_err(device)?;
        let device = match card::open(backend) {
            card::Choice::Card(card) => Device::Card(card, cpu),
            card::Choice::Processor => Device::Cpu(cpu),
            card::Choice::Refused(fault) => return Err(*fault),
        };
        Ok(Self { device, threads, room: u64::MAX })
    }

    /// As [`Engine::open`], but a card is taken however it computes: to say what is wrong with it.
    pub fn open_unexamined(backend: &str, threads: usize) -> Result<Self> {
        let Some(opened) = card::unexamined(backend) else { return Self::open(backend, threads) };
        let cpu = Cpu::with_path(threads, KernelPath::best()).map_err(device)?;
        Ok(Self { device: Device::Card(opened?, cpu), threads, room: u64::MAX })
    }

    /// The kernels of the processor that `backend` uses; beside a card, the best.
    pub fn kernels(backend: &str) -> Result<KernelPath> {
        let kernels = match backend {
            "auto" | "cpu" => Some(KernelPath::best()),
            card if card::number(card).is_some() => Some(KernelPath::best()),
            other => other.strip_prefix("cpu:").and_then(KernelPath::from_name),
        };
        kernels.ok_or_else(|| Fault::new("PS-HW-001", format!("There is no backend `{backend}`")))
    }

    /// What the factors of large products are rounded to where this backend trains fastest.
    pub fn fastest(backend: &str) -> Arithmetic {
        if card::is_used(backend) { Arithmetic::Bf16 } else { Self::kernels(backend).map_or(Arithmetic::F32, fastest) }
    }

    /// Every graphics card that can be asked for as `cuda:N`, in the order of N; none where there is no driver.
    pub fn cards() -> Vec<ListedCard> {
        Driver::list().unwrap_or_default()
    }

    /// Give back every graphics card that no engine uses, instead of a few seconds later.
    pub fn close_cards() {
        card::close();
    }

    /// Cards that this process opens from now on launch every kernel by itself.
    pub fn without_graphs() {
        card::without_graphs();
    }

    /// Cards that this process opens from now on multiply with our kernels alone.
    pub fn without_library() {
        trial::without_library();
    }

    /// What could take a process down is used only after `examiner` said that it can be: it has it tried elsewhere.
    pub fn have_tried(examiner: Examiner) {
        trial::have_tried(examiner);
    }

    /// Make a trial in this process, from which it may not come back.
    pub fn try_here(ordinal: usize, risk: Risk) -> Verdict {
        trial::here(ordinal, risk)
    }

    /// What `backend` would be opened as, and why.
    pub fn choice(backend: &str) -> Result<Chosen> {
        card::choice(backend)
    }

    /// The processor, which makes files of other programs whatever trains.
    fn processor(&self) -> &Cpu {
        match &self.device {
            Device::Cpu(cpu) | Device::Card(_, cpu) => cpu,
        }
    }

    /// The same of this device.
    pub fn fastest_arithmetic(&self) -> Arithmetic {
        match &self.device {
            Device::Cpu(cpu) => fastest(cpu.path()),
            Device::Card(..) => Arithmetic::Bf16,
        }
    }

    /// The same device with the factors of large products rounded to this. At first they are not rounded.
    #[must_use]
    pub fn with_arithmetic(&self, arithmetic: Arithmetic) -> Self {
        let factors = match arithmetic {
            Arithmetic::F32 => Factors::F32,
            Arithmetic::Bf16 => Factors::Bf16,
        };
        let device = match &self.device {
            Device::Cpu(cpu) => Device::Cpu(cpu.with_factors(factors)),
            Device::Card(card, cpu) => {
                Device::Card(card.clone().with_precision(card::precision(arithmetic)), cpu.with_factors(factors))
            }
        };
        Self { device, ..*self }
    }

    /// The same device for answers: products of few rows with quantised weights round the rows to eight bits; on a card
    /// products round their factors to bfloat16.
    #[must_use]
    pub fn with_eight_bit_rows(&self, eight_bit_rows: bool) -> Self {
        let device = match &self.device {
            Device::Cpu(cpu) => Device::Cpu(cpu.with_eight_bit_rows(eight_bit_rows)),
            // A card's tensor cores round less than that.
            Device::Card(card, cpu) if eight_bit_rows => {
                let card = card.clone().with_precision(card::precision(Arithmetic::Bf16));
                Device::Card(card, cpu.with_eight_bit_rows(true))
            }
            Device::Card(card, cpu) => Device::Card(card.clone(), cpu.with_eight_bit_rows(false)),
        };
        Self { device, ..*self }
    }

    /// The same device with whatever of that is faster: what answers are written with where nobody asked for more. On a
    /// processor without vectors of bytes the exact product is.
    #[must_use]
    pub fn for_answers(&self) -> Self {
        match &self.device {
            Device::Cpu(cpu) => self.with_eight_bit_rows(cpu.path().byte_products().is_some()),
            Device::Card(..) => self.with_eight_bit_rows(true),
        }
    }

    /// The same device with keys and values of answers kept in eight bits, with a scale for each head and position.
    pub fn with_eight_bit_cache(&self, eight_bit_cache: bool) -> Result<Self> {
        let device = match &self.device {
            Device::Cpu(cpu) => Device::Cpu(cpu.with_eight_bit_cache(eight_bit_cache)),
            Device::Card(..) if eight_bit_cache => {
                let detail = "`--kv-cache int8` is for processors; on a card keys and values are kept in f32";
                return Err(Fault::new("PS-CFG-001", detail));
            }
            Device::Card(card, cpu) => Device::Card(card.clone(), cpu.clone()),
        };
        Ok(Self { device, ..*self })
    }

    /// The same device for sessions whose weights may take so many bytes beside their files. Weights that are read in
    /// another form than the files have are rearranged only where all of them fit; otherwise they stay in files that
    /// the system may drop from memory and read again. At first there is no bound.
    #[must_use]
    pub fn with_room(self, bytes: u64) -> Self {
        Self { room: bytes, ..self }
    }

    /// Whether keys and values of answers are kept in eight bits.
    pub fn has_eight_bit_cache(&self) -> bool {
        matches!(&self.device, Device::Cpu(cpu) if cpu.has_eight_bit_cache())
    }

    /// `cpu` or `cuda`.
    pub fn backend(&self) -> &'static str {
        on!(self, be => name_of(be))
    }

    /// The device, and whatever of it could change a bit of a result.
    pub fn fingerprint(&self) -> String {
        on!(self, be => be.fingerprint())
    }

    /// Bytes taken from the card, used or kept for the next use; `None` where no card computes.
    pub fn card_bytes(&self) -> Option<u64> {
        match &self.device {
            Device::Cpu(_) => None,
            Device::Card(card, _) => Some(card.device().held() as u64),
        }
    }

    /// What the card takes for every run; `None` where no card computes.
    pub fn beside(&self) -> Option<Beside> {
        on!(self, be => card::beside(be))
    }

    /// Threads it computes with.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Train (or go on training). The result is in `job.directory`.
    pub fn train(&self, job: TrainJob, sink: &mut dyn EventSink) -> Result<RunOutcome> {
        let engine = self.with_arithmetic(job.plan.arithmetic);
        let engine = if job.resume { engine.continued(job.directory) } else { engine };
        on!(engine, be => training::run(be, job, sink, self.backend()))
    }

    /// With the kernels that the run in `directory` was begun with, where nobody asked for other ones than the best: it
    /// goes on to the same bits on a processor for which better ones have come since, and on a card beside which a
    /// library was installed since.
    fn continued(self, directory: &Path) -> Self {
        let cpu = match &self.device {
            Device::Cpu(cpu) => cpu,
            Device::Card(card, cpu) => {
                let Some(backend) = training::begun_on(directory) else { return self };
                let device = Device::Card(card.clone().as_begun(&backend), cpu.clone());
                return Self { device, ..self };
            }
        };
        let begun = || training::begun_on(directory).and_then(|backend| cpu.with_kernels_of(&backend));
        match begun().filter(|_| cpu.path() == KernelPath::best()) {
            Some(cpu) => Self { device: Device::Cpu(cpu), ..self },
            None => self,
        }
    }

    /// Measure how fast this device trains a model of these shapes.
    pub fn calibrate(&self, checkpoint: &Checkpoint, sample: &Sample) -> Result<Calibration> {
        let engine = self.with_arithmetic(sample.plan.arithmetic);
        on!(engine, be => calibrate::run(be, checkpoint, sample))
    }

    /// Seconds of whole training steps on made-up tokens.
    pub fn time_steps(&self, timing: &StepTiming) -> Result<Vec<f64>> {
        on!(self, be => timing::run(be, timing))
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
        let lying = if session::has_room(base, self.room) { Lying::Rearranged } else { Lying::InFiles };
        on!(self, be => session::open(be, base, adapter, quantize, lying))
    }

    /// The same for a few passes over a model that may be larger than the memory: of the blocks that lie in its files
    /// one at a time is in memory.
    pub fn sparing_session(
        &self,
        base: &BaseModel,
        adapter: Option<&AdapterFile>,
        quantize: Option<Quantization>,
    ) -> Result<Box<dyn Session>> {
        on!(self, be => session::open(be, base, adapter, quantize, Lying::BlockByBlock))
    }

    /// Replay a reference run of another framework.
    pub fn verify(&self, base: &BaseModel, reference: &Path) -> Result<Verification> {
        on!(self, be => verify(be, base.checkpoint(), reference))
    }

    /// Compare every operation with the reference, on inputs drawn from `seed`, and replay the golden steps.
    pub fn selftest(&self, seed: u64) -> Result<SelftestReport> {
        let beside = match &self.device {
            Device::Cpu(cpu) => selftest::rounded(&cpu.with_factors(Factors::Bf16), seed),
            Device::Card(card, _) => card::rounded(card, seed),
        };
        on!(self, be => golden::selftest(be, seed, beside))
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

fn fastest(kernels: KernelPath) -> Arithmetic {
    match kernels.fastest_factors() {
        Factors::F32 => Arithmetic::F32,
        Factors::Bf16 => Arithmetic::Bf16,
    }
}

fn name_of<B: Backend>(_: &B) -> &'static str {
    B::NAME
}
