//! Damaged, truncated, lying and hostile files: a clear fault, no panic, no memory that the file does not hold.

use crate::world::{engine, layout, model, written};
use peft_kernels::Bytes;
use peft_models::base::BaseModel;
use peft_models::export::gguf::write::Source;
use peft_models::export::gguf::{File, FileType, Metadata};
use std::ops::ControlFlow;
use std::path::Path;

fn sound() -> Vec<u8> {
    let home = tempfile::tempdir().expect("a folder");
    let base = model("llama", &home);
    let path = home.path().join("m.gguf");
    written(&engine(), &base, None, Some(&layout(&base)), FileType::Q8_0, &path);
    std::fs::read(path).expect("read")
}

fn refused(bytes: Vec<u8>, says: &str) {
    let Err(fault) = File::read("m.gguf", &Bytes::from_vec(bytes)) else { panic!("read, though: {says}") };
    assert_eq!(fault.code, "PS-MODEL-005");
    assert!(fault.detail.contains(says) && fault.detail.contains("m.gguf"), "{} lacks {says}", fault.detail);
}

#[test]
fn every_truncation_is_noticed_7_bad_input() {
    let bytes = sound();
    let whole = File::read("m.gguf", &Bytes::from_vec(bytes.clone())).expect("sound");
    let last = whole.tensors().last().expect("tensors").bytes.len();
    // Behind the last tensor is only padding.
    let needed = bytes.len() - last.next_multiple_of(32) + last;
    let step = needed / 400 + 1;
    for len in (0..needed).step_by(step).chain([needed - 1]) {
        let Err(fault) = File::read("m.gguf", &Bytes::from_vec(bytes[..len].to_vec())) else { panic!("{len} bytes") };
        assert_eq!(fault.code, "PS-MODEL-005", "{len}: {}", fault.detail);
    }
}

#[test]
fn lies_about_sizes_counts_offsets_and_types_are_refused_7_bad_input() {
    let bytes = sound();
    let with = |at: usize, new: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + new.len()].copy_from_slice(new);
        bytes
    };
    refused(Vec::new(), "ends after 0 bytes");
    refused(b"GGML1234".to_vec(), "does not begin");
    refused(b"version https://git-lfs.github.com/spec/v1".to_vec(), "Git LFS");
    refused(with(4, &1u32.to_le_bytes()), "version 1");
    refused(with(4, &3u32.to_be_bytes()), "big-endian");
    refused(with(8, &u64::MAX.to_le_bytes()), "tensors");
    refused(with(16, &(u64::MAX / 2).to_le_bytes()), "entries of metadata");
    refused(with(24, &u64::MAX.to_le_bytes()), "bytes of a text");
    let find = |text: &[u8]| bytes.windows(text.len()).position(|w| w == text).expect("it is there");
    // The tokens: type of the list, type of its elements, their number.
    let tokens = find(b"tokenizer.ggml.tokens") + "tokenizer.ggml.tokens".len();
    refused(with(tokens, &77u32.to_le_bytes()), "unknown type 77");
    refused(with(tokens + 4, &9u32.to_le_bytes()), "lists inside a list");
    refused(with(tokens + 8, &(1u64 << 40).to_le_bytes()), "claims");
    // A tensor: its name, the number of its dimensions, the dimensions, its type, where it begins.
    let tensor = find(b"blk.0.attn_q.weight") + "blk.0.attn_q.weight".len();
    refused(with(tensor, &9u32.to_le_bytes()), "9 dimensions");
    refused(with(tensor + 4, &33u64.to_le_bytes()), "no whole blocks");
    refused(with(tensor + 12, &(u64::MAX / 4).to_le_bytes()), "too large");
    refused(with(tensor + 20, &99u32.to_le_bytes()), "unknown type 99");
    refused(with(tensor + 20, &23u32.to_le_bytes()), "IQ4_XS");
    refused(with(tensor + 24, &1u64.to_le_bytes()), "no multiple of 32");
    refused(with(tensor + 24, &0u64.to_le_bytes()), "overlap");
    refused(with(tensor + 24, &(1u64 << 50).to_le_bytes()), "cut short");
    refused(with(find(b"blk.0.attn_k.weight"), b"blk.0.attn_q.weight"), "twice");
}

/// Numbers without end.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most.max(1)
    }

    /// `bytes` with a few of them flipped, cut off, doubled, or with a number that lies; mostly among the first `header`.
    fn mutated(&mut self, bytes: &[u8], header: usize) -> Vec<u8> {
        let mut damaged = bytes.to_vec();
        for _ in 0..=self.below(3) {
            if damaged.is_empty() {
                break;
            }
            let at = if self.below(8) == 0 { self.below(damaged.len()) } else { self.below(header.min(damaged.len())) };
            match self.below(8) {
                0 => damaged.truncate(at),
                1 => {
                    let lie = [0, 1, u64::MAX, u64::MAX / 2, 1 << 31, 1 << 32, 1 << 40, 255][self.below(8)];
                    for (to, from) in damaged[at..].iter_mut().zip(lie.to_le_bytes()) {
                        *to = from;
                    }
                }
                2 => {
                    let other = self.below(bytes.len());
                    let count = self.below(64).min(bytes.len() - other);
                    damaged.splice(at..at, bytes[other..other + count].iter().copied());
                }
                3 => {
                    let end = (at + self.below(64)).min(damaged.len());
                    damaged.drain(at..end);
                }
                _ => damaged[at] = self.below(256) as u8,
            }
        }
        damaged
    }
}

/// Most memory that this process ever had, where the system tells.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

/// Open what is at `path` and, where that works, make a file of it. `true`: something was noticed.
fn opened(path: &Path, home: &Path) -> bool {
    let made = BaseModel::open("damaged", path).and_then(|base| {
        let about = Metadata::default();
        let source =
            Source { base: &base, adapter: None, quantize: None, layout: None, about: &about, importance: None };
        let out = home.join("out.gguf");
        let engine = engine();
        let conversion = engine.conversion(source, &[FileType::Q8_0])?;
        assert!(conversion.bytes() < 64 << 20, "it would write {} bytes", conversion.bytes());
        conversion.write(std::slice::from_ref(&out), &mut |_, _| ControlFlow::Continue(()))
    });
    if let Err(fault) = &made {
        assert!(!fault.detail.is_empty() && fault.code.starts_with("PS-"), "{}", fault.detail);
    }
    made.is_err()
}

fn mutations(rounds: usize, seed: u64) {
    let mut numbers = Numbers(seed);
    let bytes = sound();
    let header = File::read("m.gguf", &Bytes::from_vec(bytes.clone())).expect("sound").header().len();
    let home = tempfile::tempdir().expect("a folder");
    let before = peak();
    let mut noticed = 0;
    for round in 0..rounds {
        let path = home.path().join(format!("{round}.gguf"));
        std::fs::write(&path, numbers.mutated(&bytes, header)).expect("written");
        noticed += usize::from(opened(&path, home.path()));
        std::fs::remove_file(&path).expect("removed");
    }
    assert!(noticed * 4 > rounds, "only {noticed} of {rounds} were noticed");

    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/parity/llama/model");
    let folder = home.path().join("model");
    std::fs::create_dir(&folder).expect("created");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&from).expect("a folder").flatten() {
        let content = std::fs::read(entry.path()).expect("read");
        std::fs::write(folder.join(entry.file_name()), &content).expect("written");
        files.push((folder.join(entry.file_name()), content));
    }
    files.sort();
    let mut noticed = 0;
    for _ in 0..rounds / 2 {
        let (path, content) = &files[numbers.below(files.len())];
        let weights = path.extension().is_some_and(|end| end == "safetensors");
        std::fs::write(path, numbers.mutated(content, if weights { 4096 } else { content.len() })).expect("written");
        noticed += usize::from(opened(&folder, home.path()));
        std::fs::write(path, content).expect("written");
    }
    assert!(noticed * 8 > rounds / 2, "only {noticed} of {} were noticed", rounds / 2);
    if let (Some(before), Some(after)) = (before, peak()) {
        assert!(after < before + (128 << 20), "{} MiB more than before", (after - before) >> 20);
    }
}

#[test]
fn mutated_files_never_end_the_program_nor_take_its_memory_7_bad_input() {
    mutations(300, 7);
}

#[test]
#[ignore = "a campaign of minutes: run it by hand"]
fn thirty_thousand_mutations_7_bad_input() {
    mutations(20_000, 20_261_121);
}
