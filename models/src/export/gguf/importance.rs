//! How much each column of a matrix matters: mean squares of what it is multiplied with, over rows that the model is
//! meant for. Quantising spends its errors where they count least.
//!
//! Files are those of llama.cpp's `llama-imatrix`, in its GGUF form.

use super::architecture::Architecture;
use super::{Array, File, Layout, Metadata, Planned};
use peft_kernels::quant::GgmlType;
use peft_plan::{Fault, ModelSpec, Result};
use std::collections::BTreeMap;
use std::path::Path;

/// Ends of the names of the two tensors that a file has for each matrix.
const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";
/// What the file says of itself.
const KIND: &str = "imatrix";

/// An importance matrix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Importance {
    /// Where it comes from, for people.
    pub source: String,
    /// Rows that were looked at.
    pub rows: u64,
    /// Tokens of them.
    pub tokens: u64,
    /// Mean squares by the name of the weight in a checkpoint, one number a column.
    columns: BTreeMap<String, Vec<f32>>,
}

/// Collects one.
#[derive(Debug, Default)]
pub struct Gathering {
    rows: u64,
    tokens: u64,
    sums: BTreeMap<String, (Vec<f64>, u64)>,
}

impl Gathering {
    /// A row of `tokens` tokens: names of weights, sums of squares by column, rows that were summed.
    pub fn add(&mut self, tokens: usize, seen: Vec<(String, Vec<f32>, u64)>) {
        self.rows += 1;
        self.tokens += tokens as u64;
        for (name, squares, rows) in seen {
            let (sums, count) = self.sums.entry(name).or_insert_with(|| (vec![0.0; squares.len()], 0));
            *count += rows;
            for (sum, square) in sums.iter_mut().zip(squares) {
                *sum += f64::from(square);
            }
        }
    }

    /// The matrix. PS-EXP-002 where the model's own numbers were no numbers.
    pub fn finish(self, source: &str) -> Result<Importance> {
        let mut columns = BTreeMap::new();
        for (name, (sums, count)) in self.sums {
            let mean: Vec<f32> = sums.iter().map(|sum| (sum / count.max(1) as f64) as f32).collect();
            if mean.iter().any(|x| !x.is_finite()) {
                let detail = format!("`{name}` was multiplied with what is no number; the model is broken");
                return Err(Fault::new("PS-EXP-002", detail));
            }
            if mean.iter().any(|x| *x > 0.0) {
                columns.insert(name, mean);
            }
        }
        Ok(Importance { source: source.to_owned(), rows: self.rows, tokens: self.tokens, columns })
    }
}

impl Importance {
    /// Of the columns of the weight `canonical`, if that is known.
    pub fn of(&self, canonical: &str) -> Option<&[f32]> {
        self.columns.get(canonical).map(Vec::as_slice)
    }

    /// The columns of every weight, by its name.
    pub(crate) fn columns(&self) -> impl Iterator<Item = (&str, &[f32])> {
        self.columns.iter().map(|(name, columns)| (name.as_str(), columns.as_slice()))
    }

    /// Matrices that it knows.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// It knows none.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// A sentence about it.
    pub fn described(&self) -> String {
        format!("{} matrices weighed by {} tokens of {}", self.len(), self.tokens, self.source)
    }

    /// What a file that was made with it says.
    pub fn describe(&self, metadata: &mut Metadata) {
        metadata.set("quantize.imatrix.file", self.source.as_str());
        metadata.set("quantize.imatrix.dataset", self.source.as_str());
        metadata.set("quantize.imatrix.entries_count", self.len().min(u32::MAX as usize) as u32);
        metadata.set("quantize.imatrix.chunks_count", self.rows.min(u64::from(u32::MAX)) as u32);
    }

    /// Read a file of `llama-imatrix`, made for a model of `spec`.
    pub fn read(path: &Path, spec: &ModelSpec) -> Result<Self> {
        let file = File::open(path)?;
        let wrong = |how: &str| {
            Fault::new("PS-MODEL-005", format!("`{}` is no importance matrix of this model: {how}.", path.display()))
        };
        if file.metadata().text("general.type") != Some(KIND) {
            return Err(wrong("it says that it is something else"));
        }
        let mut columns = BTreeMap::new();
        for named in Architecture::of(spec)?.tensors(spec, true) {
            let (Some(sums), Some(counts)) =
                (file.tensor(&format!("{}{SUMS}", named.name)), file.tensor(&format!("{}{COUNTS}", named.name)))
            else {
                continue;
            };
            let numbers = |tensor: &super::Tensor| -> Result<Vec<f32>> {
                if tensor.kind != GgmlType::F32 {
                    return Err(wrong("its numbers are not of type F32"));
                }
                let (quads, _) = tensor.bytes.as_slice().as_chunks::<4>();
                Ok(quads.iter().map(|b| f32::from_le_bytes(*b)).collect())
            };
            let (sums, counts) = (numbers(sums)?, numbers(counts)?);
            if named.shape.last() != Some(&sums.len()) || counts.len() != 1 {
                return Err(wrong(&format!("`{}` has other columns", named.name)));
            }
            let count = counts[0].max(1.0);
            if !count.is_finite() || sums.iter().any(|sum| !sum.is_finite() || *sum < 0.0) {
                return Err(wrong(&format!("`{}` has sums that no squares have", named.name)));
            }
            if sums.iter().any(|sum| *sum > 0.0) {
                columns.insert(named.canonical, sums.iter().map(|sum| sum / count).collect());
            }
        }
        if columns.is_empty() {
            return Err(wrong("it knows none of its matrices"));
        }
        let number = |key: &str| file.metadata().number(key).unwrap_or(0);
        let (rows, size) = (number("imatrix.chunk_count"), number("imatrix.chunk_size"));
        let source = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Ok(Self { source, rows, tokens: rows.saturating_mul(size), columns })
    }

    /// Write it as `llama-imatrix` would.
    pub fn write(&self, path: &Path, spec: &ModelSpec) -> Result<()> {
        let mut said = Metadata::default();
        said.set("general.type", KIND);
        said.set("imatrix.datasets", Array::Strings(vec![self.source.clone()]));
        said.set("imatrix.chunk_count", self.rows.min(u64::from(u32::MAX)) as u32);
        said.set("imatrix.chunk_size", (self.tokens / self.rows.max(1)) as u32);
        let (mut tensors, mut contents) = (Vec::new(), Vec::new());
        for named in Architecture::of(spec)?.tensors(spec, true) {
            let Some(mean) = self.of(&named.canonical) else { continue };
            let count = self.tokens.max(1) as f32;
            tensors.push(Planned::new(format!("{}{SUMS}", named.name), GgmlType::F32, vec![1, mean.len()])?);
            contents.push(mean.iter().map(|x| x * count).collect::<Vec<f32>>());
            tensors.push(Planned::new(format!("{}{COUNTS}", named.name), GgmlType::F32, vec![1, 1])?);
            contents.push(vec![count]);
        }
        let layout = Layout::new(&said, tensors)?;
        let written = layout.write_floats(path, &contents);
        written.map(drop).map_err(|error| Fault::io("write", path, error))
    }
}
