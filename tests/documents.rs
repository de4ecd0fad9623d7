//! Documents to chunks as a person does it: folders of mixed files, projects, and files that are no documents.

use peft_tests::home::{Home, text};
use serde_json::Value;

const PAGE: &str =
    "# Opening hours\n\nThe shop opens at nine. It closes at six.\n\n## Holidays\n\nNobody is there on Sundays.\n";

fn lines(path: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("written");
    text.lines().map(|line| serde_json::from_str(line).expect("a record on each line")).collect()
}

#[test]
fn s0_2_a_folder_of_mixed_files_becomes_chunks_and_what_is_unreadable_is_named() {
    let home = Home::new();
    std::fs::create_dir_all(home.path("notes")).expect("made");
    home.write("notes/a.md", PAGE);
    home.write("notes/b.html", "<h1>Prices</h1><p>Bread &amp; butter is two euros.");
    home.write("notes/c.csv", "name,town\nAda,London\nEmil,Köln\n");
    home.write("notes/d.docx", "no archive");
    home.write("notes/e.pdf", "%PDF-1.7");
    let (notes, out) = (home.path("notes"), home.path("chunks.jsonl"));
    let report = home.json(&["data", "chunk", &notes, "--out", &out, "--chunk-size", "60c", "--overlap", "0"]);
    assert_eq!(report["unreadable"].as_array().map(Vec::len), Some(2), "{report}");
    assert_eq!(report["unreadable"][0]["code"], "PS-DATA-011");
    let chunks = lines(&out);
    assert_eq!(report["chunks"], chunks.len());
    let of_page: String = chunks
        .iter()
        .filter(|c| c["source"].as_str().is_some_and(|s| s.ends_with("a.md")))
        .filter_map(|c| c["text"].as_str())
        .collect();
    assert_eq!(of_page, PAGE, "every character is in a chunk");
    assert!(chunks.iter().any(|chunk| chunk["text"].as_str().is_some_and(|t| t.contains("name: Emil\ntown: Köln"))));
    let only = home.path("notes/d.docx");
    assert_eq!(home.fault(3, &["data", "chunk", &only, "--out", &out])["code"], "PS-DATA-011");
    assert_eq!(lines(&out).len(), chunks.len(), "the file that was there is still there");
    let wrong = home.fault(3, &["data", "chunk", &notes, "--out", &out, "--chunk-size", "10", "--overlap", "9"]);
    assert_eq!(wrong["code"], "PS-CFG-001");
}

#[test]
fn s2_1_words_of_a_project_are_found_with_their_source() {
    let home = Home::new();
    let page = home.write("a.md", PAGE);
    let arguments =
        ["data", "chunk", &page, "--project", "shop", "--chunk-size", "12t", "--overlap", "2", "--model", "starter"];
    assert_eq!(home.json(&arguments)["unchanged"], 0);
    assert_eq!(home.json(&arguments)["unchanged"], 1);
    let found = home.json(&["data", "search", "--project", "shop", "sundays", "--top-k", "1"]);
    let found = &found["results"][0];
    assert!(found["text"].as_str().is_some_and(|text| text.contains("Sundays")), "{found}");
    assert_eq!(found["details"]["headings"], serde_json::json!(["Opening hours", "Holidays"]));
    let shown = text(&home.run(&["data", "search", "--project", "shop", "sundays"]).stdout);
    assert!(shown.contains("a.md > Opening hours > Holidays"), "{shown}");
    assert_eq!(home.fault(3, &["data", "search", "--project", "none", "x"])["code"], "PS-RUN-001");
}
