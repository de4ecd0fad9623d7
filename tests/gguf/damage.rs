//! Damaged, truncated, lying and hostile files: a clear fault, no panic, no memory that the file does not hold.

use crate::world::{engine, layout, model, written};
use peft_kernels::Bytes;
use peft_models::base::BaseModel;
use peft_models::export::gguf::{File, FileType};

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

#[test]
fn flipped_bytes_never_end_the_program_7_bad_input() {
    let bytes = sound();
    let header = File::read("m.gguf", &Bytes::from_vec(bytes.clone())).expect("sound").header().len();
    let home = tempfile::tempdir().expect("a folder");
    let mut state = 7u64;
    let mut next = |most: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % most
    };
    let mut refused = 0;
    for round in 0..300 {
        let mut damaged = bytes.clone();
        for _ in 0..=next(3) {
            let at = next(header);
            damaged[at] = next(256) as u8;
        }
        let path = home.path().join(format!("{round}.gguf"));
        std::fs::write(&path, &damaged).expect("written");
        // The whole way: file, configuration, weights, tokenizer.
        if let Err(fault) = BaseModel::open("damaged", &path) {
            refused += 1;
            assert!(!fault.detail.is_empty() && fault.code.starts_with("PS-"), "{}", fault.detail);
        }
        std::fs::remove_file(&path).expect("removed");
    }
    assert!(refused > 30, "only {refused} of 300 were noticed");
}
