//! Parquet tables that pyarrow wrote, and compressed files; whole and damaged.

use peft_data::{BadLine, Dataset, ReadOptions, RejectedKind, read};
use peft_plan::{Example, Fault, Role, tools_of};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/data").join(name)
}

fn open(path: PathBuf) -> Result<Dataset, Fault> {
    read(&[path], &ReadOptions { on_bad_line: BadLine::Skip, ..ReadOptions::default() })
}

fn table(name: &str) -> Dataset {
    open(fixture(&format!("{name}.parquet"))).unwrap_or_else(|fault| panic!("{name}: {fault}"))
}

fn expected(name: &str) -> Vec<Value> {
    let text = std::fs::read(fixture("expected.json")).expect("the fixture is there");
    let all: Value = serde_json::from_slice(&text).expect("JSON");
    all[name].as_array().expect("rows").clone()
}

#[test]
fn a_table_says_the_same_as_the_rows_it_was_made_from_in_every_compression() {
    let rows = expected("messages-none");
    for codec in ["none", "snappy", "gzip", "zstd"] {
        let dataset = table(&format!("messages-{codec}"));
        let file = &dataset.files[0];
        assert_eq!((file.format.as_str(), file.shape.as_str(), file.rows), ("parquet", "messages", 40), "{codec}");
        assert!(file.confidence > 0.99);
        for (row, expected) in dataset.rows.iter().zip(&rows) {
            let Example::Messages(turns) = &row.example else { panic!("{codec}: a conversation") };
            assert_eq!(json!(turns), expected["messages"], "{codec}");
        }
        assert_eq!(dataset.rows[39].line, 40);
    }
}

#[test]
fn columns_of_other_types_are_read_and_null_is_nothing() {
    let dataset = table("pairs");
    assert_eq!(dataset.files[0].columns, ["question", "answer", "score", "id"]);
    let rows = expected("pairs");
    for (row, expected) in dataset.rows.iter().zip(&rows) {
        let Example::Messages(turns) = &row.example else { panic!("a conversation") };
        assert_eq!(json!(turns[0].content), expected["question"]);
        assert_eq!(json!(turns[1].content), expected["answer"]);
    }
    assert_eq!(dataset.rows.len(), 30);
    let holes = table("holes");
    assert_eq!(holes.rows.len(), 2);
    assert_eq!((holes.rejected[0].line, holes.rejected[0].kind), (3, RejectedKind::NoAnswer));
}

/// A table gives every call all arguments that any call has; the ones it does not have are `null` there.
#[test]
fn calls_of_tools_come_without_the_padding_of_the_table() {
    let dataset = table("tools");
    let Example::Messages(turns) = &dataset.rows[0].example else { panic!("a conversation") };
    assert_eq!(tools_of(turns).len(), 1);
    assert_eq!(turns[1].tool_calls()[0]["function"], json!({"name": "weather", "arguments": {"city": "Köln"}}));
    assert_eq!(turns[2].role, Role::Tool);
    assert_eq!(turns[2].extra.as_ref().and_then(|extra| extra.name.as_deref()), Some("weather"));
    let Example::Messages(turns) = &dataset.rows[1].example else { panic!("a conversation") };
    assert_eq!(turns[1].tool_calls()[0]["function"]["arguments"], json!({"days": 2}));
}

#[test]
fn what_cannot_be_read_is_named() {
    for (name, code, word) in [
        ("nested", "PS-DATA-003", "picture"),
        ("brotli", "PS-DATA-001", "brotli"),
        ("empty", "PS-DATA-005", "no examples"),
    ] {
        let fault = open(fixture(&format!("{name}.parquet"))).expect_err(name);
        assert_eq!(fault.code, code, "{name}: {fault}");
        assert!(fault.detail.contains(word), "{name}: {fault}");
    }
}

/// Every prefix and every damaged byte of a table is rows or a fault, never a panic that gets out.
#[test]
fn damaged_tables_are_faults() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("damaged.parquet");
    let mut faults = 0;
    for name in ["messages-snappy", "tools", "pairs"] {
        let whole = std::fs::read(fixture(&format!("{name}.parquet"))).expect("the fixture");
        let step = if std::env::var_os("EVERY_BYTE").is_some() { 1 } else { 37 };
        for at in (0..whole.len()).step_by(step) {
            for flip in [0x01_u8, 0x80, 0xFF] {
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                std::fs::write(&path, &bytes).expect("written");
                faults += usize::from(open(path.clone()).is_err());
            }
            // Less than the signature is a very short text.
            std::fs::write(&path, &whole[..at.max(4)]).expect("written");
            assert!(open(path.clone()).is_err(), "{name} cut at {at}");
        }
    }
    assert!(faults > 50, "only {faults} damages were seen");
}

#[test]
fn compressed_files_are_read_as_what_is_in_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let rows: Vec<String> =
        (0..500).map(|n| format!("{{\"question\":\"is {n} odd?\",\"answer\":\"a{n}\"}}\n")).collect();
    let rows = rows.concat();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(rows.as_bytes()).expect("in memory");
    let gzip = gzip.finish().expect("in memory");
    let zstd = zstd::encode_all(rows.as_bytes(), 3).expect("in memory");
    for (name, bytes) in [("rows.jsonl.gz", &gzip), ("rows.jsonl.zst", &zstd)] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        let dataset = open(path.clone()).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        assert_eq!((dataset.rows.len(), dataset.files[0].format.as_str()), (500, "jsonl"), "{name}");
        assert_eq!(dataset.files[0].bytes, bytes.len() as u64);
        assert!(dataset.files[0].notes[0].starts_with("compressed with"), "{:?}", dataset.files[0].notes);
        for cut in [bytes.len() - 5, bytes.len() / 2, 9] {
            std::fs::write(&path, &bytes[..cut]).expect("written");
            let fault = open(path.clone()).expect_err(name);
            assert_eq!(fault.code, "PS-DATA-001", "{name} cut at {cut}: {fault}");
        }
    }
}

#[test]
fn a_small_file_that_unpacks_to_gigabytes_is_not_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bomb.jsonl.zst");
    let mut out = zstd::Encoder::new(std::fs::File::create(&path).expect("a file"), 1).expect("an encoder");
    // Whole lines, so that the reader holds none of them for long.
    let line = format!("{}\n", " ".repeat((1 << 20) - 1));
    for _ in 0..300 {
        out.write_all(line.as_bytes()).expect("written");
    }
    out.finish().expect("written");
    let fault = open(path).expect_err("a bomb");
    assert_eq!(fault.code, "PS-DATA-012", "{fault}");
}
