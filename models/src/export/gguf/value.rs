//! What a GGUF file says about its model: keys with values of thirteen types.

use std::collections::HashMap;

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the variants are the types of the format")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// A list of the metadata. Lists of types that no model needs are skipped over: [`Array::Other`].
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    /// Texts.
    Strings(Vec<String>),
    /// 32-bit floats.
    Floats(Vec<f32>),
    /// Whole numbers with a sign.
    Ints(Vec<i32>),
    /// Whole numbers without.
    Uints(Vec<u32>),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Truth values.
    Bools(Vec<bool>),
    /// So many elements of a type that is not kept.
    Other {
        /// Number of the type.
        kind: u32,
        /// How many.
        count: usize,
    },
}

/// Keys and values in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
    places: HashMap<String, usize>,
}

impl Metadata {
    /// Keys and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Say `key`, once: a second value takes the first one's place.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        if let Some(at) = self.places.get(&key) {
            self.entries[*at].1 = value;
        } else {
            self.places.insert(key.clone(), self.entries.len());
            self.entries.push((key, value));
        }
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        Some(&self.entries[*self.places.get(key)?].1)
    }

    /// The value of `key` as a text.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value of `key` as a whole number of at least zero, whatever its type.
    pub fn number(&self, key: &str) -> Option<u64> {
        match *self.get(key)? {
            Value::U8(x) => Some(x.into()),
            Value::U16(x) => Some(x.into()),
            Value::U32(x) => Some(x.into()),
            Value::U64(x) => Some(x),
            Value::I8(x) => u64::try_from(x).ok(),
            Value::I16(x) => u64::try_from(x).ok(),
            Value::I32(x) => u64::try_from(x).ok(),
            Value::I64(x) => u64::try_from(x).ok(),
            _ => None,
        }
    }

    /// The value of `key` as a float.
    pub fn float(&self, key: &str) -> Option<f64> {
        match *self.get(key)? {
            Value::F32(x) => Some(x.into()),
            Value::F64(x) => Some(x),
            _ => self.number(key).map(|x| x as f64),
        }
    }

    /// The value of `key` as a truth value.
    pub fn flag(&self, key: &str) -> Option<bool> {
        match self.get(key)? {
            Value::Bool(x) => Some(*x),
            _ => None,
        }
    }

    /// The texts of the list `key`.
    pub fn strings(&self, key: &str) -> Option<&[String]> {
        match self.get(key)? {
            Value::Array(Array::Strings(list)) => Some(list),
            _ => None,
        }
    }

    /// The floats of the list `key`.
    pub fn floats(&self, key: &str) -> Option<&[f32]> {
        match self.get(key)? {
            Value::Array(Array::Floats(list)) => Some(list),
            _ => None,
        }
    }

    /// The bytes of the list `key`.
    pub fn bytes(&self, key: &str) -> Option<&[u8]> {
        match self.get(key)? {
            Value::Array(Array::Bytes(list)) => Some(list),
            _ => None,
        }
    }

    /// The whole numbers of the list `key`.
    pub fn ints(&self, key: &str) -> Option<&[i32]> {
        match self.get(key)? {
            Value::Array(Array::Ints(list)) => Some(list),
            _ => None,
        }
    }
}

impl Value {
    /// Number of its type in a file.
    pub(super) fn kind(&self) -> u32 {
        match self {
            Self::U8(_) => 0,
            Self::I8(_) => 1,
            Self::U16(_) => 2,
            Self::I16(_) => 3,
            Self::U32(_) => 4,
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::String(_) => 8,
            Self::Array(_) => 9,
            Self::U64(_) => 10,
            Self::I64(_) => 11,
            Self::F64(_) => 12,
        }
    }

    /// Append it as a file holds it, its type apart.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::U8(x) => out.push(*x),
            Self::I8(x) => out.extend(x.to_le_bytes()),
            Self::U16(x) => out.extend(x.to_le_bytes()),
            Self::I16(x) => out.extend(x.to_le_bytes()),
            Self::U32(x) => out.extend(x.to_le_bytes()),
            Self::I32(x) => out.extend(x.to_le_bytes()),
            Self::F32(x) => out.extend(x.to_le_bytes()),
            Self::Bool(x) => out.push(u8::from(*x)),
            Self::String(text) => write_text(out, text),
            Self::U64(x) => out.extend(x.to_le_bytes()),
            Self::I64(x) => out.extend(x.to_le_bytes()),
            Self::F64(x) => out.extend(x.to_le_bytes()),
            Self::Array(array) => array.write(out),
        }
    }
}

impl Array {
    fn write(&self, out: &mut Vec<u8>) {
        let mut head = |kind: u32, count: usize| {
            out.extend(kind.to_le_bytes());
            out.extend((count as u64).to_le_bytes());
        };
        match self {
            Self::Strings(list) => {
                head(8, list.len());
                for text in list {
                    write_text(out, text);
                }
            }
            Self::Floats(list) => {
                head(6, list.len());
                out.extend(list.iter().flat_map(|x| x.to_le_bytes()));
            }
            Self::Ints(list) => {
                head(5, list.len());
                out.extend(list.iter().flat_map(|x| x.to_le_bytes()));
            }
            Self::Uints(list) => {
                head(4, list.len());
                out.extend(list.iter().flat_map(|x| x.to_le_bytes()));
            }
            Self::Bools(list) => {
                head(7, list.len());
                out.extend(list.iter().map(|x| u8::from(*x)));
            }
            Self::Bytes(list) => {
                head(0, list.len());
                out.extend(list);
            }
            // Only reading makes these, and nothing that was read is written.
            Self::Other { .. } => head(0, 0),
        }
    }
}

/// A text: its length, and its bytes.
pub(super) fn write_text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

impl From<&str> for Value {
    fn from(x: &str) -> Self {
        Self::String(x.to_owned())
    }
}

impl From<String> for Value {
    fn from(x: String) -> Self {
        Self::String(x)
    }
}

impl From<u32> for Value {
    fn from(x: u32) -> Self {
        Self::U32(x)
    }
}

impl From<f32> for Value {
    fn from(x: f32) -> Self {
        Self::F32(x)
    }
}

impl From<bool> for Value {
    fn from(x: bool) -> Self {
        Self::Bool(x)
    }
}

impl From<Array> for Value {
    fn from(x: Array) -> Self {
        Self::Array(x)
    }
}
