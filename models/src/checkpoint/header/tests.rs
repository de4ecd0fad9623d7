//! Files that lie: each is refused, and says where.

use super::*;
use proptest::prelude::*;
use serde_json::json;

/// A file with this header and as many zero bytes of data.
pub(crate) fn file(header: &Value, data: usize) -> Vec<u8> {
    raw(header.to_string().as_bytes(), data)
}

fn raw(header: &[u8], data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header);
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn good() -> Vec<u8> {
    let header = json!({
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
        "c": {"dtype": "U8", "shape": [], "data_offsets": [32, 33]},
    });
    file(&header, 33)
}

fn refused(bytes: &[u8]) -> String {
    let fault = read("m.safetensors", bytes).expect_err("a file that lies");
    assert_eq!(fault.code, "PS-MODEL-005", "{}", fault.detail);
    assert!(fault.detail.contains("`m.safetensors`"), "{}", fault.detail);
    fault.detail
}

#[test]
fn a_good_file_is_read_in_its_order() {
    let bytes = good();
    let header = read("m", &bytes).expect("valid");
    let names: Vec<&str> = header.entries.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(header.entries[1].range, bytes.len() - 9..bytes.len() - 1);
    assert_eq!(header.entries[2].shape, [0usize; 0]);
    assert_eq!(header.bytes, bytes.len() - 33);
}

#[test]
fn a_file_cut_at_any_length_is_refused() {
    let bytes = good();
    let data = bytes.len() - 33;
    for length in 0..bytes.len() {
        let detail = refused(&bytes[..length]);
        if length >= data {
            let tensor = match length - data {
                ..24 => "`a`",
                24..32 => "`b`",
                _ => "`c`",
            };
            assert!(detail.contains("cut short") && detail.contains(tensor), "{length}: {detail}");
        }
    }
}

#[test]
fn every_lie_is_named() {
    let a = |shape: Value, offsets: [u64; 2]| json!({"dtype": "F32", "shape": shape, "data_offsets": offsets});
    for (header, data, words) in [
        (json!({"a": a(json!([2]), [0, 8]), "b": a(json!([2]), [4, 12])}), 12, "`b` overlaps"),
        (json!({"a": a(json!([2]), [0, 8]), "b": a(json!([2]), [0, 8])}), 8, "overlaps"),
        (
            json!({"a": a(json!([2]), [0, 8]), "b": a(json!([2]), [12, 20])}),
            20,
            "hole of 4 bytes before the tensor `b`",
        ),
        (json!({"a": a(json!([2]), [4, 12])}), 12, "hole of 4 bytes"),
        (json!({"a": a(json!([3]), [0, 8])}), 8, "shape of the tensor `a`"),
        (json!({"a": a(json!([2]), [0, 8])}), 11, "3 bytes at its end"),
        (json!({"a": a(json!([2]), [8, 0])}), 8, "ends before it begins"),
        (json!({"a": a(json!([u64::MAX, 2]), [0, 8])}), 8, "shape of the tensor `a`"),
        (json!({"a": a(json!([1u64 << 62, 4]), [0, 8])}), 8, "shape of the tensor `a`"),
        (json!({"a": a(json!([2]), [u64::MAX - 8, u64::MAX])}), 8, "hole"),
        (json!({"a": {"dtype": "F99", "shape": [2], "data_offsets": [0, 8]}}), 8, "`a`"),
        (json!({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}), 8, "`a`"),
        (json!({"a": {"dtype": "F32", "shape": [2]}}), 8, "makes no sense"),
        (json!({"a": 7}), 8, "makes no sense"),
        (json!([1]), 8, "not valid JSON"),
        (json!({"a": a(json!([1, 1, 1, 1, 1, 1, 1, 1, 2]), [0, 8])}), 8, "9 dimensions"),
        (json!({"n".repeat(600): a(json!([2]), [0, 8])}), 8, "600 bytes"),
    ] {
        let detail = refused(&file(&header, data));
        assert!(detail.contains(words), "{header}: {detail}");
    }
}

#[test]
fn a_header_longer_than_any_is_not_allocated() {
    for length in [HEADER_BYTES + 1, u64::MAX, u64::MAX - 7, 1 << 63] {
        let mut bytes = good();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        refused(&bytes);
    }
    assert!(refused(&raw(b"{\"a\": ", 0)).contains("not valid JSON"));
    assert!(refused(&raw(&[0xff, 0xfe], 0)).contains("not valid JSON"));
    assert!(refused(&raw("[".repeat(100_000).as_bytes(), 0)).contains("not valid JSON"));
}

#[test]
fn what_a_failed_download_left_is_recognised() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    let fault = read("m", pointer).expect_err("a pointer");
    assert!(fault.code == "PS-MODEL-003" && fault.detail.contains("Git LFS"), "{}", fault.detail);
    let fault = read("m", b"\n<!DOCTYPE html><html></html>").expect_err("a page");
    assert!(fault.code == "PS-MODEL-003" && fault.detail.contains("web page"), "{}", fault.detail);
}

proptest! {
    #[test]
    fn changed_bytes_never_panic_and_never_point_outside(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        shorten in any::<bool>(),
    ) {
        let mut bytes = good();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if shorten {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(header) = read("m", &bytes) {
            for entry in header.entries {
                prop_assert!(bytes.get(entry.range).is_some());
            }
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), length in 0u64..200) {
        let mut bytes = bytes;
        if let Some(field) = bytes.first_chunk_mut::<8>() {
            *field = length.to_le_bytes();
        }
        drop(read("m", &bytes));
    }
}
