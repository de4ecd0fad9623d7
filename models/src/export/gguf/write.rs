//! A model on its way into GGUF files: base and adapter are merged and quantised one tensor after the other, into
//! all the types that were asked for at once.
//!
//! In memory are the matrix that is being merged, or a strip of rows of one that no adapter changes, and its
//! encodings. Every file appears whole under its name, or not at all; one that was interrupted goes on at the tensor
//! it had come to, and ends as the same bytes.

use super::architecture::{Architecture, Change, Named, source_row};
use super::importance::Importance;
use super::mix::{self, Choice, Facts, FileType};
use super::vocabulary::{self, ChatLayout, TokenizerFiles};
use super::{Layout, Metadata, Planned, called, metadata};
use crate::base::BaseModel;
use crate::engine::Quantization;
use crate::export::made_of::MadeOf;
use crate::fault::device;
use crate::merge::Merger;
use crate::peft_format::AdapterFile;
use durable::{Digest, Part, Sealed};
use peft_kernels::cpu::Cpu;
use peft_kernels::quant::{self, GgmlType};
use peft_kernels::{Backend, FrozenWeight};
use peft_plan::{Fault, ModelSpec, Result};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Elements of a strip of rows.
const STRIP: usize = 1 << 22;

/// Largest number that IEEE half holds.
const LARGEST_HALF: f32 = 65_504.0;

/// What becomes a file.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The base model.
    pub base: &'a BaseModel,
    /// What is merged into it.
    pub adapter: Option<&'a AdapterFile>,
    /// The base was quantised on loading while the adapter was trained.
    pub quantize: Option<Quantization>,
    /// The layout of conversations that was trained.
    pub layout: Option<&'a ChatLayout>,
    /// What is said about the model beside its architecture: name, licence, where it comes from.
    pub about: &'a Metadata,
    /// How much the columns of its matrices matter, where that is known.
    pub importance: Option<&'a Importance>,
}

/// A file that is about to be written.
pub struct Plan {
    /// Its type.
    pub file_type: FileType,
    /// What it will hold.
    pub layout: Layout,
    /// Tensors whose rows are no whole blocks of the type that was meant for them: name, what it gets.
    pub fallbacks: Vec<(String, GgmlType)>,
}

/// A file that was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// Where.
    pub path: PathBuf,
    /// Its type.
    pub file_type: FileType,
    /// Length and SHA-256.
    pub digest: Digest,
}

/// A file that is whole on the disk, without its name yet. Dropped, it waits for the next attempt.
pub struct Unnamed {
    /// Its type.
    pub file_type: FileType,
    sealed: Sealed,
}

impl Unnamed {
    /// The file where it is now.
    pub fn written(&self) -> Written {
        Written { path: self.sealed.path(), file_type: self.file_type, digest: self.sealed.digest().clone() }
    }

    /// The name it is meant for.
    pub fn target(&self) -> &Path {
        self.sealed.target()
    }

    /// Give the file its name.
    pub fn place(self) -> Result<Written> {
        let target = self.sealed.target().to_owned();
        self.place_as(&target)
    }

    /// Give the file another name in the same folder.
    pub fn place_as(self, path: &Path) -> Result<Written> {
        let file_type = self.file_type;
        let digest = self.sealed.place_as(path).map_err(|error| Fault::io("give its name to", path, error))?;
        Ok(Written { path: path.to_owned(), file_type, digest })
    }
}

/// Bytes done, bytes to do; first of all what an earlier attempt left.
pub type Progress<'a> = dyn FnMut(u64, u64) -> ControlFlow<()> + 'a;

/// A conversion whose every size is known.
pub struct Conversion<'a> {
    source: Source<'a>,
    named: Vec<Named>,
    fixed: Vec<(&'static str, Vec<f32>)>,
    merger: Merger<'a, Cpu>,
    cpu: &'a Cpu,
    /// The files, in the order asked for.
    pub plans: Vec<Plan>,
}

impl<'a> Conversion<'a> {
    /// Plan files of `types`.
    pub fn new(cpu: &'a Cpu, source: Source<'a>, types: &[FileType]) -> Result<Self> {
        let Source { base, adapter, quantize, layout, about, importance } = source;
        let spec = base.spec();
        let architecture = Architecture::of(spec)?;
        let merger = Merger::new(cpu, base.checkpoint(), adapter, quantize)?;
        if adapter.is_some() && merger.merged_modules() == 0 && !merger.replaces_any() {
            return Err(Fault::new(
                "PS-CFG-003",
                "The adapter's modules match nothing in this model; is it an adapter of another one?",
            ));
        }
        let own_head = !spec.tied || merger.unties();
        let named = architecture.tensors(spec, own_head);
        let fixed = metadata::rope_tensors(spec, architecture);
        let mut said = Metadata::default();
        said.set("general.architecture", architecture.name);
        said.set("general.type", "model");
        for (key, value) in about.iter() {
            said.set(key, value.clone());
        }
        said.set("general.size_label", metadata::size_label(spec.parameters()));
        metadata::describe(&mut said, spec, architecture, base.checkpoint().config())?;
        describe_tokenizer(&mut said, base, spec, layout)?;
        if let Some(importance) = importance {
            importance.describe(&mut said);
        }
        let known = importance.is_some();
        let plan = |file_type| plan(&said, spec, architecture, (&named, &fixed), file_type, (own_head, known));
        let plans = types.iter().map(|file_type| plan(*file_type)).collect::<Result<Vec<_>>>()?;
        Ok(Self { source, named, fixed, merger, cpu, plans })
    }

    /// Bytes of all files together.
    pub fn bytes(&self) -> u64 {
        self.plans.iter().map(|plan| plan.layout.bytes()).sum()
    }

    /// Write the files to `paths`, one for each type; `None` where `progress` had enough, and there are none.
    pub fn write(&self, paths: &[PathBuf], progress: &mut Progress) -> Result<Option<Vec<Written>>> {
        let Some(files) = self.prepare(paths, progress)? else { return Ok(None) };
        files.into_iter().map(Unnamed::place).collect::<Result<Vec<_>>>().map(Some)
    }

    /// Write the files that are meant for `paths`, and give them no names yet.
    ///
    /// `None` where `progress` had enough: what is done stays beside the paths, and the next attempt at the same files
    /// goes on with it. A fault leaves nothing.
    pub fn prepare(&self, paths: &[PathBuf], progress: &mut Progress) -> Result<Option<Vec<Unnamed>>> {
        assert_eq!(paths.len(), self.plans.len(), "a path for every file");
        let mut made =
            MadeOf::new(&self.cpu.fingerprint(), self.source.base, self.source.adapter, self.source.quantize);
        if let Some(importance) = self.source.importance {
            made.weighed(importance);
        }
        let mut parts = Vec::with_capacity(paths.len());
        for (path, plan) in paths.iter().zip(&self.plans) {
            let part = Part::open(path, &made.word(plan.layout.header())).map_err(|error| begun(path, error))?;
            parts.push(part);
        }
        if let Err(stop) = self.fill(&mut parts, progress) {
            let fault = match stop {
                Stop::Cancelled => return Ok(None),
                Stop::Fault(fault) => fault,
                Stop::Io(error) => failed(paths, error),
            };
            parts.into_iter().for_each(Part::discard);
            return Err(fault);
        }
        let (mut sealed, mut trouble) = (Vec::with_capacity(parts.len()), None);
        for part in parts {
            match part.seal() {
                Ok(done) => sealed.push(done),
                Err(error) => trouble = Some(error),
            }
        }
        if let Some(error) = trouble {
            sealed.into_iter().for_each(Sealed::discard);
            return Err(failed(paths, error));
        }
        let types = self.plans.iter().map(|plan| plan.file_type);
        Ok(Some(types.zip(sealed).map(|(file_type, sealed)| Unnamed { file_type, sealed }).collect()))
    }

    fn fill(&self, files: &mut [Part], progress: &mut Progress) -> std::result::Result<(), Stop> {
        let common = files.iter().map(Part::steps).min().unwrap_or(0);
        for (file, plan) in files.iter_mut().zip(&self.plans) {
            file.back_to(common)?;
            if common == 0 {
                plan.layout.begin(file)?;
                file.step()?;
            }
        }
        let total = self.bytes();
        let mut done = files.iter().map(Part::bytes).sum();
        if progress(if common == 0 { 0 } else { done }, total).is_break() {
            return Err(Stop::Cancelled);
        }
        // The first step is everything before the tensors.
        let first = common.max(1) - 1;
        let mut strips = Strips { conversion: self, files, progress, done: &mut done, total };
        for (i, (_, values)) in self.fixed.iter().enumerate().skip(first) {
            strips.write(i, values.len(), None, &mut |_, out| {
                out.copy_from_slice(values);
                Ok(())
            })?;
        }
        for (i, named) in self.named.iter().enumerate().skip(first.saturating_sub(self.fixed.len())) {
            let rows = self.rows_of(named)?;
            let cols = named.shape.last().copied().unwrap_or(1);
            let count = if named.shape.len() == 2 { named.shape[0] } else { 1 };
            let importance = self.source.importance.and_then(|known| known.of(&named.canonical));
            let importance = importance.filter(|columns| columns.len() == cols);
            let fill = &mut |range, out: &mut [f32]| rows.fill(named, count, range, cols, out);
            strips.write(self.fixed.len() + i, cols, importance, fill)?;
            // Its pages count as this program's memory until they are given back.
            self.source.base.checkpoint().release(&named.canonical);
        }
        Ok(())
    }

    /// Where the numbers of a tensor come from.
    fn rows_of(&self, named: &Named) -> Result<Rows> {
        let checkpoint = self.source.base.checkpoint();
        if let Some(merged) = self.merger.tensor(&named.canonical)? {
            return Ok(Rows::Values(merged));
        }
        if named.shape.len() == 1 {
            return Ok(Rows::Values(checkpoint.vector(&named.canonical)?));
        }
        Ok(Rows::Stored(checkpoint.frozen(&named.canonical)?))
    }
}

enum Stop {
    Fault(Fault),
    Io(io::Error),
    Cancelled,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The numbers of a tensor.
enum Rows {
    Values(Vec<f32>),
    Stored(FrozenWeight),
}

impl Rows {
    /// Rows `range` of the file, of `count` in all.
    fn fill(
        &self,
        named: &Named,
        count: usize,
        range: std::ops::Range<usize>,
        cols: usize,
        out: &mut [f32],
    ) -> Result<()> {
        // A vector's elements go where the rows of its matrix go.
        let is_vector = named.shape.len() == 1;
        if is_vector {
            let Self::Values(values) = self else { return Ok(()) };
            for (at, y) in out.iter_mut().enumerate() {
                *y = values[source_row(named.change, cols, at)];
            }
        } else {
            for (row, out) in range.zip(out.chunks_exact_mut(cols)) {
                let row = source_row(named.change, count, row);
                match self {
                    Self::Values(values) => out.copy_from_slice(&values[row * cols..(row + 1) * cols]),
                    Self::Stored(weight) => quant::decode(weight, row * cols, out),
                }
            }
        }
        if named.change == Change::AddOne {
            for y in out.iter_mut() {
                *y += 1.0;
            }
        }
        match out.iter().position(|x| !x.is_finite()) {
            None => Ok(()),
            Some(at) => {
                let detail = format!("`{}` holds {} at element {at}, which is no number", named.canonical, out[at]);
                Err(Fault::new("PS-MODEL-005", detail))
            }
        }
    }
}

/// Writes the values of some rows.
type Fill<'a> = dyn FnMut(std::ops::Range<usize>, &mut [f32]) -> Result<()> + 'a;

/// Strips of rows on their way into all files.
struct Strips<'a, 'f, 'p> {
    conversion: &'a Conversion<'a>,
    files: &'f mut [Part],
    progress: &'f mut Progress<'p>,
    done: &'f mut u64,
    total: u64,
}

impl Strips<'_, '_, '_> {
    /// Tensor number `index` of every file, with rows of `cols`.
    fn write(
        &mut self,
        index: usize,
        cols: usize,
        importance: Option<&[f32]>,
        fill: &mut Fill,
    ) -> std::result::Result<(), Stop> {
        let planned = |plan: &Plan| plan.layout.tensors()[index].clone();
        let all: Vec<Planned> = self.conversion.plans.iter().map(planned).collect();
        let Some(first) = all.first() else { return Ok(()) };
        let rows = first.shape.iter().product::<usize>() / cols.max(1);
        let step = (STRIP / cols.max(1)).max(1);
        let mut values = Vec::new();
        for from in (0..rows).step_by(step) {
            let range = from..(from + step).min(rows);
            values.resize(range.len() * cols, 0.0);
            fill(range.clone(), &mut values)?;
            let mut encoded: BTreeMap<GgmlType, Vec<u8>> = BTreeMap::new();
            for (file, tensor) in self.files.iter_mut().zip(&all) {
                let bytes = match encoded.entry(tensor.kind) {
                    std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                    std::collections::btree_map::Entry::Vacant(entry) => {
                        entry.insert(encode(self.conversion.cpu, tensor, &values, cols, importance)?)
                    }
                };
                file.write_all(bytes)?;
                *self.done += bytes.len() as u64;
            }
            if (self.progress)(*self.done, self.total).is_break() {
                return Err(Stop::Cancelled);
            }
        }
        for ((file, tensor), plan) in self.files.iter_mut().zip(&all).zip(&self.conversion.plans) {
            plan.layout.pad(file, tensor)?;
            file.step()?;
        }
        Ok(())
    }
}

fn encode(cpu: &Cpu, tensor: &Planned, values: &[f32], cols: usize, importance: Option<&[f32]>) -> Result<Vec<u8>> {
    if tensor.kind == GgmlType::F16
        && let Some(x) = values.iter().find(|x| x.abs() > LARGEST_HALF)
    {
        let detail = format!("`{}` holds {x}, more than F16 can; BF16 and the quantised types can", tensor.name);
        return Err(Fault::new("PS-EXP-002", detail));
    }
    let rows = values.len() / cols.max(1);
    let mut out = vec![0; tensor.kind.row_bytes(cols).unwrap_or(0) * rows];
    cpu.encode_blocks(tensor.kind, &mut out, values, cols, importance).map_err(device)?;
    Ok(out)
}

/// Why the file at `path` could not be begun.
fn begun(path: &Path, error: io::Error) -> Fault {
    let why = match error.kind() {
        io::ErrorKind::WouldBlock => "another export is writing it at this moment".to_owned(),
        io::ErrorKind::AlreadyExists => error.to_string(),
        _ => return Fault::io("write the model to", path.parent().unwrap_or(path), error),
    };
    Fault::new(
        "PS-CFG-001",
        format!("`{}` cannot be written: {why}; choose another folder or `--name`", path.display()),
    )
}

fn failed(paths: &[PathBuf], error: io::Error) -> Fault {
    let folder = paths.first().and_then(|path| path.parent()).unwrap_or(Path::new("."));
    Fault::io("write the model to", folder, error)
}

/// The tokenizer, from the files of the base or from the GGUF file that it is.
fn describe_tokenizer(
    said: &mut Metadata,
    base: &BaseModel,
    spec: &ModelSpec,
    layout: Option<&ChatLayout>,
) -> Result<()> {
    let Some(file) = base.checkpoint().gguf() else {
        let files: TokenizerFiles = base.tokenizer_files()?;
        return vocabulary::describe(said, &files, spec.vocab_size, layout);
    };
    for (key, value) in file.metadata().iter().filter(|(key, _)| key.starts_with("tokenizer.")) {
        said.set(key, value.clone());
    }
    called::follow(said, file.metadata());
    if let Some(layout) = layout {
        vocabulary::describe_layout(said, layout);
    }
    Ok(())
}

fn plan(
    said: &Metadata,
    spec: &ModelSpec,
    architecture: &Architecture,
    (named, fixed): (&[Named], &[(&'static str, Vec<f32>)]),
    file_type: FileType,
    (own_head, importance): (bool, bool),
) -> Result<Plan> {
    let mut said = said.clone();
    metadata::describe_file(&mut said, file_type);
    let facts = Facts {
        architecture: architecture.name,
        layers: spec.layers.len(),
        heads: spec.n_heads,
        kv_heads: spec.n_kv_heads,
        tied: !own_head,
        importance,
    };
    let mut fallbacks = Vec::new();
    let mut tensors = Vec::with_capacity(fixed.len() + named.len());
    for (name, values) in fixed {
        tensors.push(Planned::new(*name, GgmlType::F32, vec![values.len()])?);
    }
    for tensor in named {
        let cols = tensor.shape.last().copied().unwrap_or(1);
        let Choice { kind, meant } = mix::choose(file_type, &facts, &tensor.name, cols, tensor.shape.len());
        if kind != meant {
            fallbacks.push((tensor.name.clone(), kind));
        }
        tensors.push(Planned::new(&tensor.name, kind, tensor.shape.clone())?);
    }
    Ok(Plan { file_type, layout: Layout::new(&said, tensors)?, fallbacks })
}
