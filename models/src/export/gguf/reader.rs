//! A GGUF file, believed only after all of it but the numbers themselves was checked.
//!
//! Nothing is allocated by a number of the file before the file was seen to hold as much; the numbers of the
//! tensors stay in the file, which is mapped.

use super::value::{Array, Metadata, Value};
use super::{ALIGNMENT, ALIGNMENT_KEY, MAGIC, NAME_BYTES, RANK, VERSION};
use crate::checkpoint::map;
use memmap2::Mmap;
use peft_kernels::Bytes;
use peft_kernels::quant::ggml::GgmlType;
use peft_plan::{Fault, Result};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Longest key of the metadata, bytes.
const KEY_BYTES: usize = 1 << 16;
/// Largest alignment; a page would be generous.
const MOST_ALIGNMENT: u64 = 1 << 16;
/// The fewest bytes of an entry of the metadata: an empty key, a type, one byte.
const LEAST_ENTRY: usize = 8 + 4 + 1;
/// The fewest bytes of a tensor's entry: an empty name, no dimensions, type, offset.
const LEAST_TENSOR: usize = 8 + 4 + 4 + 8;

/// A file that was read.
pub struct File {
    name: Arc<str>,
    metadata: Metadata,
    tensors: Vec<Tensor>,
    places: HashMap<String, usize>,
    header: Bytes,
    len: usize,
}

/// One tensor of a file.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// How its numbers are stored.
    pub kind: GgmlType,
    /// Dimensions, the slowest first: a matrix is `[rows, cols]`.
    pub shape: Vec<usize>,
    /// Its content, as long as type and shape say.
    pub bytes: Bytes,
}

impl File {
    /// Open the file at `path`.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_mapped(path).map(|(file, _)| file)
    }

    /// The same, with the map that its tensors point into.
    pub(crate) fn open_mapped(path: &Path) -> Result<(Self, Arc<Mmap>)> {
        let mapped = map::map(path).map_err(|error| Fault::io("open", path, error))?;
        let name = path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
        let shared = Arc::clone(&mapped);
        Ok((Self::read(&name, &Bytes::new(shared))?, mapped))
    }

    /// Read `bytes`, which messages call `name`.
    pub fn read(name: &str, bytes: &Bytes) -> Result<Self> {
        let read = parse(bytes.as_slice());
        let Parsed { metadata, infos, data } = read.map_err(|how| damaged(name, &how))?;
        let header = bytes.slice(0..data).ok_or_else(|| damaged(name, "it ends inside its header"))?;
        let mut tensors = Vec::with_capacity(infos.len());
        let mut places = HashMap::with_capacity(infos.len());
        for Info { name: tensor, kind, shape, start, end } in infos {
            let cut = || damaged(name, &format!("it is cut short: the tensor `{tensor}` is not all there"));
            let range = data.checked_add(start).zip(data.checked_add(end)).ok_or_else(cut)?;
            let content = bytes.slice(range.0..range.1).ok_or_else(cut)?;
            if places.insert(tensor.clone(), tensors.len()).is_some() {
                return Err(damaged(name, &format!("it holds the tensor `{tensor}` twice")));
            }
            tensors.push(Tensor { name: tensor, kind, shape, bytes: content });
        }
        Ok(Self { name: name.into(), metadata, tensors, places, header, len: bytes.len() })
    }

    /// What messages call it.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What it says about its model.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Its tensors in order.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        Some(&self.tensors[*self.places.get(name)?])
    }

    /// Everything before the first tensor.
    pub fn header(&self) -> &Bytes {
        &self.header
    }

    /// Bytes of the whole file.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: a file without a byte is refused.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// A damaged file, and how.
fn damaged(name: &str, how: &str) -> Fault {
    Fault::new("PS-MODEL-005", format!("`{name}` is damaged: {how}."))
}

struct Parsed {
    metadata: Metadata,
    infos: Vec<Info>,
    /// Where the tensors begin.
    data: usize,
}

struct Info {
    name: String,
    kind: GgmlType,
    shape: Vec<usize>,
    start: usize,
    end: usize,
}

type Read<T> = std::result::Result<T, String>;

fn parse(bytes: &[u8]) -> Read<Parsed> {
    let mut from = Cursor { bytes, at: 0 };
    if bytes.starts_with(b"version https://git-lfs") {
        return Err("it is only a Git LFS pointer, not the file itself".to_owned());
    }
    if from.take(4, "its first bytes")? != MAGIC {
        return Err("it does not begin as a GGUF file does".to_owned());
    }
    let version = from.u32("its version")?;
    if version.swap_bytes() == VERSION {
        return Err("its numbers are in the order of a big-endian computer".to_owned());
    }
    if version != 2 && version != VERSION {
        return Err(format!("it is of version {version}; versions 2 and 3 are read"));
    }
    let tensor_count = from.count(LEAST_TENSOR, "tensors")?;
    let entry_count = from.count(LEAST_ENTRY, "entries of metadata")?;
    let mut metadata = Metadata::default();
    for _ in 0..entry_count {
        let key = from.text("a key")?;
        if key.is_empty() || key.len() > KEY_BYTES {
            return Err(format!("a key of its metadata has {} bytes", key.len()));
        }
        if metadata.get(&key).is_some() {
            return Err(format!("it says `{}` twice", shown(&key)));
        }
        let kind = from.u32("a type")?;
        let value = from.value(kind).map_err(|how| format!("{how} (the value of `{}`)", shown(&key)))?;
        metadata.set(key, value);
    }
    let alignment = alignment(&metadata)?;
    let mut infos = Vec::with_capacity(tensor_count.min(from.left() / LEAST_TENSOR));
    for _ in 0..tensor_count {
        infos.push(from.info(alignment)?);
    }
    let data = from.at.next_multiple_of(alignment);
    check_overlaps(&infos)?;
    // Without tensors the padding may be missing too.
    Ok(Parsed { metadata, data: if infos.is_empty() { data.min(bytes.len()) } else { data }, infos })
}

fn alignment(metadata: &Metadata) -> Read<usize> {
    let Some(value) = metadata.get(ALIGNMENT_KEY) else { return Ok(ALIGNMENT) };
    match metadata.number(ALIGNMENT_KEY) {
        Some(n) if n.is_power_of_two() && n <= MOST_ALIGNMENT => Ok(n as usize),
        _ => Err(format!("its alignment is {value:?}, not a power of two of at most {MOST_ALIGNMENT}")),
    }
}

fn check_overlaps(infos: &[Info]) -> Read<()> {
    let mut order: Vec<&Info> = infos.iter().collect();
    order.sort_by_key(|info| (info.start, info.end));
    for two in order.windows(2) {
        if two[1].start < two[0].end {
            return Err(format!("the tensors `{}` and `{}` overlap", shown(&two[0].name), shown(&two[1].name)));
        }
    }
    Ok(())
}

/// A name short enough for a message.
fn shown(name: &str) -> String {
    if name.chars().count() <= 80 { name.to_owned() } else { name.chars().take(80).chain(['…']).collect() }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn take(&mut self, len: usize, what: &str) -> Read<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let Some(taken) = rest.get(..len) else {
            return Err(format!("it ends after {} bytes, inside {what}", self.bytes.len()));
        };
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Read<[u8; N]> {
        let taken = self.take(N, what)?;
        Ok(*taken.first_chunk().expect("as long as it was asked for"))
    }

    fn u32(&mut self, what: &str) -> Read<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &str) -> Read<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A count of things that take at least `least` bytes each, so that no more can follow than the file holds.
    fn count(&mut self, least: usize, what: &str) -> Read<usize> {
        let count = self.u64(what)?;
        let most = (self.left() / least) as u64;
        if count > most {
            return Err(format!("it claims {count} {what}, and has room for {most}"));
        }
        Ok(count as usize)
    }

    fn text(&mut self, what: &str) -> Read<String> {
        let len = self.count(1, "bytes of a text")?;
        let bytes = self.take(len, what)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| format!("{what} is not UTF-8 text"))
    }

    fn value(&mut self, kind: u32) -> Read<Value> {
        let what = "its metadata";
        Ok(match kind {
            0 => Value::U8(self.array::<1>(what)?[0]),
            1 => Value::I8(i8::from_le_bytes(self.array(what)?)),
            2 => Value::U16(u16::from_le_bytes(self.array(what)?)),
            3 => Value::I16(i16::from_le_bytes(self.array(what)?)),
            4 => Value::U32(self.u32(what)?),
            5 => Value::I32(i32::from_le_bytes(self.array(what)?)),
            6 => Value::F32(f32::from_le_bytes(self.array(what)?)),
            7 => Value::Bool(truth(self.array::<1>(what)?[0])?),
            8 => Value::String(self.text("a text")?),
            9 => Value::Array(self.list()?),
            10 => Value::U64(self.u64(what)?),
            11 => Value::I64(i64::from_le_bytes(self.array(what)?)),
            12 => Value::F64(f64::from_le_bytes(self.array(what)?)),
            other => return Err(format!("its metadata has a value of the unknown type {other}")),
        })
    }

    fn list(&mut self) -> Read<Array> {
        let what = "a list of its metadata";
        let kind = self.u32(what)?;
        Ok(match kind {
            // A byte has no sign here, whatever its type says.
            0 | 1 => {
                let count = self.count(1, "bytes")?;
                Array::Bytes(self.take(count, "bytes")?.to_vec())
            }
            4 => Array::Uints(self.fixed(u32::from_le_bytes)?),
            5 => Array::Ints(self.fixed(i32::from_le_bytes)?),
            6 => Array::Floats(self.fixed(f32::from_le_bytes)?),
            7 => {
                let count = self.count(1, "truth values")?;
                Array::Bools(self.take(count, what)?.iter().map(|x| truth(*x)).collect::<Read<_>>()?)
            }
            8 => {
                let count = self.count(8, "texts")?;
                let mut list = Vec::with_capacity(count);
                for _ in 0..count {
                    list.push(self.text("a text of a list")?);
                }
                Array::Strings(list)
            }
            2 | 3 | 10..=12 => {
                let size = if kind <= 3 { 2 } else { 8 };
                let count = self.count(size, "elements")?;
                self.take(count * size, what)?;
                Array::Other { kind, count }
            }
            9 => return Err("its metadata has lists inside a list".to_owned()),
            other => return Err(format!("its metadata has a list of the unknown type {other}")),
        })
    }

    fn fixed<T>(&mut self, read: impl Fn([u8; 4]) -> T) -> Read<Vec<T>> {
        let count = self.count(4, "elements")?;
        let (four, _) = self.take(count * 4, "a list of its metadata")?.as_chunks::<4>();
        Ok(four.iter().map(|bytes| read(*bytes)).collect())
    }

    fn info(&mut self, alignment: usize) -> Read<Info> {
        let what = "the description of its tensors";
        let name = self.text("the name of a tensor")?;
        if name.is_empty() || name.len() > NAME_BYTES {
            return Err(format!("the name of a tensor has {} bytes", name.len()));
        }
        let rank = self.u32(what)? as usize;
        if rank > RANK {
            return Err(format!("the tensor `{name}` has {rank} dimensions"));
        }
        let mut shape = Vec::with_capacity(rank);
        for _ in 0..rank {
            let dimension = self.u64(what)?;
            shape.push(usize::try_from(dimension).map_err(|_| format!("the tensor `{name}` is too large"))?);
        }
        let id = self.u32(what)?;
        let offset = self.u64(what)?;
        let Some(kind) = GgmlType::from_id(id) else {
            return Err(match GgmlType::name_of(id) {
                Some(known) => format!("the tensor `{name}` is of the type {known}, which is not read here"),
                None => format!("the tensor `{name}` is of the unknown type {id}"),
            });
        };
        let cols = shape.first().copied().unwrap_or(1);
        let row = kind.row_bytes(cols);
        let Some(row) = row else {
            return Err(format!("the rows of the tensor `{name}` have {cols} elements, no whole blocks of {kind}"));
        };
        let bytes = shape.iter().skip(1).try_fold(row, |bytes, n| bytes.checked_mul(*n));
        let start = usize::try_from(offset).ok();
        let end = start.zip(bytes).and_then(|(start, bytes)| start.checked_add(bytes));
        let (Some(start), Some(end)) = (start, end) else { return Err(format!("the tensor `{name}` is too large")) };
        if !start.is_multiple_of(alignment) {
            return Err(format!("the tensor `{name}` begins at {start}, no multiple of {alignment}"));
        }
        shape.reverse();
        Ok(Info { name, kind, shape, start, end })
    }
}

fn truth(byte: u8) -> Read<bool> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(format!("its metadata has the truth value {other}")),
    }
}
