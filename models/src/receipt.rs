//! The receipt of a run (B12): what went in, what every step lost, what came out, and a hash over all of it.
//!
//! The last line is the SHA-256 of the file with the digits of that hash as zeros, so a byte that was changed anywhere
//! is noticed. It proves that nothing was damaged, not who wrote it: that a run happened is proved by repeating it.

use peft_plan::{Fault, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::path::Path;

/// Name of the file in a run's directory.
pub const NAME: &str = "receipt.json";
/// What `schema` says.
const SCHEMA: &str = "peft-studio/receipt";
/// The only version so far.
const VERSION: u32 = 1;
/// Largest receipt that is read: more steps than any run has.
const LARGEST: u64 = 1 << 30;
/// What is before the hash, on a line of its own, and what is behind it.
const BEFORE: &[u8] = b",\n\"sha256\": \"";
const BEHIND: &[u8] = b"\"\n}\n";
/// Hexadecimal digits of a SHA-256.
const DIGITS: usize = 64;

/// What a run was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// Always `peft-studio/receipt`.
    pub schema: String,
    /// Of the schema.
    pub version: u32,
    /// Id, name and end of the run.
    pub run: RunSummary,
    /// The program that ended it.
    pub program: Program,
    /// The base model.
    pub base: Input,
    /// The examples, as they were read.
    pub data: Input,
    /// The adapter that it continued from.
    pub init_from: Option<Input>,
    /// What was asked.
    pub configuration: Value,
    /// Hash of that.
    pub configuration_sha256: String,
    /// What was done, from which step on.
    pub segments: Vec<Segment>,
    /// Loss of every step.
    pub steps: Vec<Loss>,
    /// Held-out loss of every evaluation.
    pub evaluations: Vec<Loss>,
    /// What came out.
    pub result: Vec<HashedFile>,
}

/// Which run, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// `finished` or `stopped`.
    pub outcome: String,
    /// Last step.
    pub steps: u64,
}

/// The binary of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its version.
    pub version: String,
    /// Its length.
    pub bytes: u64,
    /// Its hash.
    pub sha256: String,
}

/// Files that went in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Name or path, as the run knows it.
    pub id: String,
    /// By which a run knows it again.
    pub hash: String,
    /// Every file, whole.
    pub files: Vec<HashedFile>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashedFile {
    /// Its name, without a folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its hash.
    pub sha256: String,
}

/// A part of a run in which nothing but the step changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// Steps before it.
    pub from_step: u64,
    /// `started`, `resumed`, `changed` or `rewound`.
    pub reason: String,
    /// Version of the program.
    pub program_version: String,
    /// The backend, and whatever of it decides the bits.
    pub backend: String,
    /// Threads.
    pub threads: usize,
    /// Every setting.
    pub plan: Value,
    /// Hash of that.
    pub plan_sha256: String,
}

/// A loss, exactly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    /// Of which step, or after which.
    pub step: u64,
    /// For people; null where it is not a number.
    pub loss: Option<f64>,
    /// The bits of the f64, 16 hexadecimal digits.
    pub bits: String,
}

impl Loss {
    /// From a number.
    pub fn new(step: u64, loss: f64) -> Self {
        Self { step, loss: loss.is_finite().then_some(loss), bits: format!("{:016x}", loss.to_bits()) }
    }

    /// The number of its bits.
    pub fn value(&self) -> Option<f64> {
        u64::from_str_radix(&self.bits, 16).ok().map(f64::from_bits)
    }
}

impl Receipt {
    /// The schema's name and version, for a new receipt.
    pub fn schema() -> (String, u32) {
        (SCHEMA.to_owned(), VERSION)
    }

    /// The content of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Value::Object(fields) = serde_json::to_value(self).expect("a receipt is plain data") else {
            unreachable!("a structure is an object")
        };
        let mut text = String::from("{\n");
        let line = |value: &Value| serde_json::to_string(value).expect("a value is plain data");
        for (i, (key, value)) in fields.iter().enumerate() {
            let comma = if i == 0 { "" } else { ",\n" };
            let list = value.as_array().filter(|items| !items.is_empty());
            let value = list.map_or_else(
                || line(value),
                |items| format!("[\n{}\n]", items.iter().map(line).collect::<Vec<_>>().join(",\n")),
            );
            write!(text, "{comma}\"{key}\": {value}").expect("a String takes everything");
        }
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(BEFORE);
        let at = bytes.len();
        bytes.extend_from_slice(&[b'0'; DIGITS]);
        bytes.extend_from_slice(BEHIND);
        let hash = sha256(&bytes);
        bytes[at..at + DIGITS].copy_from_slice(hash.as_bytes());
        bytes
    }

    /// Read a file; a fault where a byte of it is not what was written.
    pub fn read(path: &Path) -> Result<Self> {
        let io = |error| Fault::io("read the receipt", path, error);
        if std::fs::metadata(path).map_err(io)?.len() > LARGEST {
            return Err(altered(path, "it is far too large for a receipt"));
        }
        let bytes = std::fs::read(path).map_err(io)?;
        Self::from_bytes(&bytes).map_err(|why| altered(path, &why))
    }

    fn from_bytes(bytes: &[u8]) -> std::result::Result<Self, String> {
        let at = bytes.len().checked_sub(BEHIND.len() + DIGITS).ok_or("it is too short")?;
        if !bytes.ends_with(BEHIND) || !bytes[..at].ends_with(BEFORE) {
            return Err("it does not end with its hash".to_owned());
        }
        let mut zeroed = bytes.to_vec();
        zeroed[at..at + DIGITS].fill(b'0');
        if sha256(&zeroed).as_bytes() != &bytes[at..at + DIGITS] {
            return Err("its content is not the one that its hash was made of".to_owned());
        }
        let mut fields: Map<String, Value> = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        fields.remove("sha256");
        let (schema, version) = (fields.get("schema").cloned(), fields.get("version").cloned());
        if schema != Some(Value::from(SCHEMA)) || version != Some(Value::from(VERSION)) {
            let text = |value: Option<Value>| value.map_or_else(|| "nothing".to_owned(), |v| v.to_string());
            return Err(format!("it is of the kind {}, version {}", text(schema), text(version)));
        }
        serde_json::from_value(Value::Object(fields)).map_err(|e| e.to_string())
    }

    /// Hashes in it that its own content contradicts: somebody changed it and made the last line anew.
    pub fn contradictions(&self) -> Vec<String> {
        let mut found = Vec::new();
        if sha256_of(&self.configuration) != self.configuration_sha256 {
            found.push("configuration".to_owned());
        }
        if self.segments.iter().any(|segment| sha256_of(&segment.plan) != segment.plan_sha256) {
            found.push("plan".to_owned());
        }
        let exact = |loss: &Loss| loss.value().is_some_and(|value| *loss == Loss::new(loss.step, value));
        if !self.steps.iter().chain(&self.evaluations).all(exact) {
            found.push("losses".to_owned());
        }
        found
    }

    /// How many of the recorded steps can be computed again from the beginning: up to where something was changed.
    pub fn replayable_steps(&self) -> u64 {
        match &self.segments[..] {
            [first, ..] if first.from_step > 0 => 0,
            [_, second, ..] => second.from_step,
            [_] => self.steps.len() as u64,
            [] => 0,
        }
    }
}

fn altered(path: &Path, why: &str) -> Fault {
    Fault::new("PS-RUN-005", format!("`{}` cannot be relied on: {why}", path.display()))
}

/// Hash of a document.
pub fn sha256_of(value: &Value) -> String {
    sha256(value.to_string().as_bytes())
}

/// Hash of some bytes, 64 hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    durable::hex(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn receipt() -> Receipt {
        let (schema, version) = Receipt::schema();
        let (configuration, plan) = (json!({"a": [1, 0.1]}), json!({"total_steps": 3}));
        let input = |id: &str| Input { id: id.to_owned(), hash: "h".to_owned(), files: Vec::new() };
        Receipt {
            schema,
            version,
            run: RunSummary { id: "r".to_owned(), name: "n".to_owned(), outcome: "finished".to_owned(), steps: 3 },
            program: Program { version: "0".to_owned(), bytes: 1, sha256: "p".to_owned() },
            base: input("b"),
            data: input("d"),
            init_from: None,
            configuration_sha256: sha256_of(&configuration),
            configuration,
            segments: vec![Segment {
                from_step: 0,
                reason: "started".to_owned(),
                program_version: "0".to_owned(),
                backend: "cpu".to_owned(),
                threads: 2,
                plan_sha256: sha256_of(&plan),
                plan,
            }],
            steps: vec![Loss::new(1, 2.5), Loss::new(2, 0.1 + 0.2), Loss::new(3, f64::NAN)],
            evaluations: Vec::new(),
            result: Vec::new(),
        }
    }

    #[test]
    fn a_receipt_survives_its_file() {
        let receipt = receipt();
        let bytes = receipt.to_bytes();
        assert_eq!(Receipt::from_bytes(&bytes).expect("whole"), receipt);
        assert_eq!(receipt.contradictions(), [""; 0]);
        assert_eq!(receipt.replayable_steps(), 3);
        assert_eq!(receipt.steps[1].value().map(f64::to_bits), Some((0.1_f64 + 0.2).to_bits()));
    }

    #[test]
    fn every_altered_byte_is_noticed_b12() {
        let bytes = receipt().to_bytes();
        for at in 0..bytes.len() {
            for change in [1, 0x20] {
                let mut other = bytes.clone();
                other[at] ^= change;
                assert!(Receipt::from_bytes(&other).is_err(), "byte {at}");
            }
        }
        for length in 0..bytes.len() {
            assert!(Receipt::from_bytes(&bytes[..length]).is_err(), "{length} bytes");
        }
        assert!(Receipt::from_bytes(&[&bytes[..], b"\n"].concat()).is_err());
    }

    #[test]
    fn a_change_with_a_new_last_line_contradicts_itself() {
        let mut other = receipt();
        other.configuration["a"] = json!([2]);
        other.segments[0].plan["total_steps"] = json!(4);
        other.steps[0].loss = Some(2.4);
        let read = Receipt::from_bytes(&other.to_bytes()).expect("the last line was made anew");
        assert_eq!(read.contradictions(), ["configuration", "plan", "losses"]);
    }

    #[test]
    fn only_what_was_not_changed_can_be_replayed() {
        let mut receipt = receipt();
        let second = Segment { from_step: 2, ..receipt.segments[0].clone() };
        receipt.segments.push(second);
        assert_eq!(receipt.replayable_steps(), 2);
        receipt.segments.remove(0);
        assert_eq!(receipt.replayable_steps(), 0);
    }
}
