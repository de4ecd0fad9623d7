//! Every container, dialect and encoding that a dataset can come in (S4.4.1, S4.4.2).

use peft_data::{BadLine, Dataset, ReadOptions, read};
use peft_plan::{Example, Role};
use std::path::PathBuf;
use tempfile::TempDir;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).expect("a writable folder");
        path
    }
}

fn read_one(name: &str, bytes: impl AsRef<[u8]>) -> Dataset {
    let folder = Folder::new();
    let options = ReadOptions { on_bad_line: BadLine::Skip, ..ReadOptions::default() };
    read(&[folder.file(name, bytes)], &options).expect("a readable dataset")
}

/// Question and answer of each row.
fn pairs(dataset: &Dataset) -> Vec<(String, String)> {
    let content = |example: &Example, wanted| match example {
        Example::Messages(turns) => {
            turns.iter().find(|turn| turn.role == wanted).map(|turn| turn.content.clone()).unwrap_or_default()
        }
        other => other.texts().collect::<Vec<_>>().join("|"),
    };
    let pair = |example| (content(example, Role::User), content(example, Role::Assistant));
    dataset.rows.iter().map(|row| pair(&row.example)).collect()
}

fn expect(dataset: &Dataset, format: &str, wanted: &[(&str, &str)]) {
    assert_eq!(dataset.files[0].format, format);
    let wanted: Vec<(String, String)> = wanted.iter().map(|(q, a)| ((*q).to_owned(), (*a).to_owned())).collect();
    assert_eq!(pairs(dataset), wanted);
}

#[test]
fn jsonl_is_read_with_line_numbers() {
    let text = "{\"question\":\"a\",\"answer\":\"b\"}\r\n\n  {\"question\":\"c\",\"answer\":\"d\"}";
    let dataset = read_one("x.jsonl", text);
    expect(&dataset, "jsonl", &[("a", "b"), ("c", "d")]);
    assert_eq!(dataset.rows.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 3]);
    let report = &dataset.files[0];
    assert_eq!((report.shape.as_str(), report.rows, report.bytes), ("question-answer", 2, text.len() as u64));
    assert_eq!(report.columns, ["question", "answer"]);
    assert!((report.confidence - 1.0).abs() < 1e-9);
    assert!(report.path.is_absolute());
    assert_eq!(report.sha256.len(), 64);
}

#[test]
fn json_arrays_nested_lists_and_streams_are_read() {
    let rows = "{\"question\":\"a\",\"answer\":\"b\"},\n{\"question\":\"c\",\"answer\":\"d\"}";
    let wanted = [("a", "b"), ("c", "d")];
    expect(&read_one("x.json", format!("[{rows}]")), "json", &wanted);
    expect(&read_one("x.json", format!(" [\n{rows}\n]\n")), "json", &wanted);
    expect(&read_one("x.json", format!("{{\"version\": 1, \"data\": [{rows}]}}")), "json", &wanted);
    expect(&read_one("x.json", format!("{{\n\"faq\": [{rows}],\n\"n\": [1, 2]}}")), "json", &wanted);
    let viewer = "{\"features\": [{\"name\": \"question\"}], \"rows\": [\
        {\"row_idx\": 0, \"row\": {\"question\":\"a\",\"answer\":\"b\"}, \"truncated_cells\": []},\
        {\"row_idx\": 1, \"row\": {\"question\":\"c\",\"answer\":\"d\"}, \"truncated_cells\": []}]}";
    expect(&read_one("x.json", viewer), "json", &wanted);
    let stream = "{\n \"question\":\"a\",\n \"answer\":\"b\"\n}\n{\n \"question\":\"c\",\n \"answer\":\"d\"\n}\n";
    expect(&read_one("x.jsonl", stream), "json", &wanted);
    expect(&read_one("x.json", "{\"question\":\"a\",\"answer\":\"b\"}"), "json", &[("a", "b")]);
    expect(&read_one("x.jsonl", "{\"question\":\"a\",\"answer\":\"b\"}"), "jsonl", &[("a", "b")]);
}

#[test]
fn a_single_conversation_is_a_row_and_not_a_list_of_rows() {
    let text = "{\n\"messages\": [\n{\"role\": \"user\", \"content\": \"a\"},\n{\"role\": \"assistant\", \"content\": \"b\"}\n]\n}";
    let dataset = read_one("x.json", text);
    expect(&dataset, "json", &[("a", "b")]);
    assert_eq!(dataset.files[0].shape, "messages");
}

#[test]
fn of_several_lists_the_training_one_is_read_and_the_other_is_mentioned() {
    let text =
        "{\"test\": [{\"question\":\"x\",\"answer\":\"y\"}], \"train\": [{\"question\":\"a\",\"answer\":\"b\"}]}";
    let dataset = read_one("x.json", text);
    expect(&dataset, "json", &[("a", "b")]);
    assert!(dataset.files[0].notes.iter().any(|note| note.contains("`test`")), "{:?}", dataset.files[0].notes);
}

#[test]
fn a_document_that_breaks_off_gives_its_complete_rows() {
    let text =
        "[{\"question\":\"a\",\"answer\":\"b\"},\n{\"question\":\"c\",\"answer\":\"d\"},\n{\"question\":\"e\",\"ans";
    for name in ["x.json", "x.txt"] {
        let dataset = read_one(name, text);
        expect(&dataset, "json", &[("a", "b"), ("c", "d")]);
        assert_eq!(dataset.rejected.len(), 1);
        assert_eq!(dataset.rejected[0].line, 3);
        assert!(dataset.rejected[0].reason.contains("2 complete rows"), "{}", dataset.rejected[0].reason);
    }
    let nested = "{\"data\": [{\"question\":\"a\",\"answer\":\"b\"},\n{\"question\":\"e\",\"ans";
    expect(&read_one("x.json", nested), "json", &[("a", "b")]);
}

#[test]
fn csv_with_semicolons_embedded_line_breaks_and_a_mark() {
    let text = "\u{feff}Frage;Antwort\n\"Was, bitte?\";\"Zeile 1\nZeile \"\"2\"\"\"\nWer;Ich\n";
    let dataset = read_one("x.csv", text);
    expect(&dataset, "csv", &[("Was, bitte?", "Zeile 1\nZeile \"2\""), ("Wer", "Ich")]);
    assert_eq!(dataset.rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 4]);
    assert_eq!(dataset.files[0].columns, ["Frage", "Antwort"]);
    assert!(dataset.files[0].confidence < 1.0);
}

#[test]
fn csv_with_known_columns_needs_no_guess() {
    let dataset = read_one("x.csv", "id,Question,Answer\n1,a,\"b, c\"\n2,d,e\n");
    expect(&dataset, "csv", &[("a", "b, c"), ("d", "e")]);
    assert!((dataset.files[0].confidence - 1.0).abs() < 1e-9);
}

#[test]
fn separators_tabs_and_bars() {
    expect(&read_one("x.csv", "sep=;\r\nquestion;answer\r\na,b;c,d\r\n"), "csv", &[("a,b", "c,d")]);
    expect(&read_one("x.tsv", "question\tanswer\na, b\t\"c\"\n"), "tsv", &[("a, b", "c")]);
    expect(&read_one("x.txt", "question|answer\na, b|c\nd|e\n"), "csv", &[("a, b", "c"), ("d", "e")]);
    let dataset = read_one("x.csv", "sep=;\nquestion;answer\na;b\n");
    assert_eq!(dataset.rows[0].line, 3);
}

#[test]
fn a_table_without_a_header_is_read_by_position() {
    let dataset = read_one("x.csv", "What is the capital of France?,Paris.\nAnd of Italy?,Rome.\n");
    expect(&dataset, "csv", &[("What is the capital of France?", "Paris."), ("And of Italy?", "Rome.")]);
    assert!(dataset.files[0].confidence <= 0.5);
    assert!(!dataset.files[0].notes.is_empty());
}

#[test]
fn conversations_in_a_cell_are_parsed() {
    let text = "id,messages\n1,\"[{\"\"role\"\": \"\"user\"\", \"\"content\"\": \"\"a\"\"}, \
        {\"\"role\"\": \"\"assistant\"\", \"\"content\"\": \"\"b\"\"}]\"\n";
    expect(&read_one("x.csv", text), "csv", &[("a", "b")]);
}

#[test]
fn rows_with_too_many_fields_are_put_aside_with_their_line() {
    let dataset = read_one("x.csv", "question,answer\na,b\nc,d,e\nf,g,\n");
    expect(&dataset, "csv", &[("a", "b"), ("f", "g")]);
    assert_eq!(dataset.rejected[0].line, 3);
}

#[test]
fn text_is_joined_by_paragraphs_without_cutting_them() {
    let paragraph = |n: usize| format!("Paragraph {n} {}", "word ".repeat(300).trim_end());
    let text = (0..10).map(paragraph).collect::<Vec<_>>().join("\n\n");
    let dataset = read_one("book.txt", &text);
    assert_eq!(dataset.files[0].format, "text");
    let rows: Vec<String> = pairs(&dataset).into_iter().map(|(text, _)| text).collect();
    assert!(rows.iter().all(|row| row.len() <= 4_000 && row.starts_with("Paragraph")));
    assert_eq!(rows.join("\n\n"), text);
    assert_eq!(rows.len(), 5);
    assert_eq!(dataset.rows[1].line, 5);
}

#[test]
fn a_paragraph_that_is_too_long_is_cut_between_sentences() {
    let text = "This is a sentence of some words. ".repeat(4_000);
    let rows: Vec<String> = pairs(&read_one("long.txt", &text)).into_iter().map(|(text, _)| text).collect();
    assert!(rows.len() > 30);
    assert!(rows.iter().all(|row| row.len() <= 4_000 && row.ends_with('.') && row.starts_with("This")));
    assert_eq!(rows.join(" "), text.trim_end());
    let unbroken = "ä".repeat(10_000);
    let rows: Vec<String> = pairs(&read_one("long.txt", &unbroken)).into_iter().map(|(text, _)| text).collect();
    assert_eq!(rows.concat(), unbroken);
}

#[test]
fn markdown_keeps_code_blocks_whole() {
    let dataset = read_one("x.md", "# Title\n\nText.\n\n```python\na = 1\n\nb = 2\n```\n");
    assert_eq!(dataset.files[0].format, "markdown");
    expect(
        &dataset,
        "markdown",
        &[("# Title\n\nText.\n\n```python\na = 1\n\nb = 2\n```", "# Title\n\nText.\n\n```python\na = 1\n\nb = 2\n```")],
    );
}

#[test]
fn every_encoding_gives_the_same_rows() {
    let text = "{\"question\":\"Grüße aus Köln\",\"answer\":\"Straße für Käse\"}\n";
    let units = |to_bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(to_bytes).collect::<Vec<u8>>();
    let (little, big) = (units(u16::to_le_bytes), units(u16::to_be_bytes));
    let latin: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).expect("Latin")).collect();
    for (bytes, encoding) in [
        (text.as_bytes().to_vec(), "utf-8"),
        ([b"\xEF\xBB\xBF", text.as_bytes()].concat(), "utf-8"),
        (little.clone(), "utf-16le"),
        ([&b"\xFF\xFE"[..], &little].concat(), "utf-16le"),
        (big.clone(), "utf-16be"),
        ([&b"\xFE\xFF"[..], &big].concat(), "utf-16be"),
        (latin, "windows-1252"),
    ] {
        let dataset = read_one("x.jsonl", &bytes);
        expect(&dataset, "jsonl", &[("Grüße aus Köln", "Straße für Käse")]);
        assert_eq!(dataset.files[0].encoding, encoding);
        let is_noted = dataset.files[0].notes.iter().any(|note| note.contains("not UTF-8"));
        assert!(is_noted || encoding != "windows-1252");
    }
}

#[test]
fn a_stray_byte_late_in_a_file_is_read_as_windows_1252_and_noted() {
    let mut bytes = "{\"question\":\"é\",\"answer\":\"ü\"}\n".repeat(20_000).into_bytes();
    bytes.extend(b"{\"question\":\"caf\xE9\",\"answer\":\"\x80 5\"}\n");
    let dataset = read_one("x.jsonl", &bytes);
    assert_eq!(dataset.rows.len(), 20_001);
    assert_eq!(pairs(&dataset)[20_000], ("café".to_owned(), "€ 5".to_owned()));
    assert_eq!(dataset.files[0].encoding, "utf-8");
    assert!(dataset.files[0].notes[0].contains("Windows-1252"), "{:?}", dataset.files[0].notes);
}

#[test]
fn several_files_keep_their_order_and_their_index() {
    let folder = Folder::new();
    let first = folder.file("b.jsonl", "{\"question\":\"a\",\"answer\":\"b\"}\n");
    let second = folder.file("a.csv", "question,answer\nc,d\n");
    let dataset = read(&[first, second], &ReadOptions::default()).expect("readable");
    assert_eq!(dataset.rows.iter().map(|row| row.file).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(dataset.files[1].format, "csv");
}

#[test]
fn half_characters_are_replaced_and_counted() {
    let dataset = read_one("x.jsonl", "{\"question\":\"a \\ud83d\",\"answer\":\"b\"}\n");
    expect(&dataset, "jsonl", &[("a \u{fffd}", "b")]);
    let dataset =
        read_one("x.json", "[{\"question\":\"a \\ud83d\",\"answer\":\"b\"},{\"question\":\"c\",\"answer\":\"d\"}]");
    expect(&dataset, "json", &[("a \u{fffd}", "b"), ("c", "d")]);
    assert!(dataset.files[0].notes[0].contains("half characters"));
}
