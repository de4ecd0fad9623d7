//! From documents to rows as a person does it: mixed folders, projects, files that are no documents, rows and versions.

use peft_tests::helper::{MockHelper, Way};
use peft_tests::home::{Home, text};
use serde_json::Value;
use std::fmt::Write as _;

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
    let alone = home.json(&["data", "chunk", &only, "--out", &out]);
    assert_eq!((&alone["unreadable"][0]["code"], &alone["out"]), (&"PS-DATA-011".into(), &Value::Null));
    assert_eq!(lines(&out).len(), chunks.len(), "the file that was there is still there");
    let told = home.run(&["data", "chunk", &only, "--out", &out]);
    assert_eq!(told.status.code(), Some(0), "a file that cannot be read is a warning");
    assert!(text(&told.stderr).contains("Left out") && text(&told.stdout).contains("was not written"), "{told:?}");
    let nowhere = home.path("notes/none.md");
    assert_eq!(home.fault(3, &["data", "chunk", &nowhere, "--out", &out])["code"], "PS-FILE-001");
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

/// A PDF document whose pages show these words; none: the pages have their own parent as child.
fn pdf(pages: &[&str]) -> Vec<u8> {
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_owned(),
    ];
    let kids: Vec<String> = (0..pages.len()).map(|page| format!("{} 0 R", 4 + 2 * page)).collect();
    let kids = if kids.is_empty() { "2 0 R".to_owned() } else { kids.join(" ") };
    objects.insert(1, format!("<< /Type /Pages /Count {} /Kids [{kids}] >>", pages.len()));
    for (page, words) in pages.iter().enumerate() {
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {} 0 R \
             /Resources << /Font << /F 3 0 R >> /XObject << /X {} 0 R >> >> >>",
            5 + 2 * page,
            4 + 2 * pages.len()
        ));
        objects.push(format!("<< /Length {} >>\nstream\n{words}\nendstream", words.len()));
    }
    // Forms that draw the next one forty times each: forty to the power of eight.
    let drawn = "/X Do\n".repeat(40);
    for _ in 0..8 {
        objects.push(format!(
            "<< /Type /XObject /Subtype /Form /BBox [0 0 612 792] /Resources << /XObject << /X {} 0 R >> >> \
             /Length {} >>\nstream\n{drawn}\nendstream",
            objects.len() + 2,
            drawn.len()
        ));
    }
    let last = "BT /F 11 Tf 72 700 Td (End) Tj ET";
    objects.push(format!(
        "<< /Type /XObject /Subtype /Form /BBox [0 0 612 792] /Resources << /Font << /F 3 0 R >> >> /Length {} >>\n\
         stream\n{last}\nendstream",
        last.len()
    ));
    assembled(&objects.into_iter().map(String::into_bytes).collect::<Vec<_>>())
}

/// A PDF document of these objects.
fn assembled(objects: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = b"%PDF-1.7\n".to_vec();
    let mut table = format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1);
    for (index, object) in objects.iter().enumerate() {
        writeln!(table, "{:010} 00000 n ", bytes.len()).expect("a String takes everything");
        bytes.extend(format!("{} 0 obj\n", index + 1).bytes());
        bytes.extend(object);
        bytes.extend(b"\nendobj\n");
    }
    let place = bytes.len();
    let size = objects.len() + 1;
    bytes.extend(format!("{table}trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{place}\n%%EOF\n").bytes());
    bytes
}

#[test]
fn s2_1_pages_of_a_pdf_are_found_by_their_words_and_a_broken_one_is_left_out() {
    let home = Home::new();
    let first = "BT /F 20 Tf 72 700 Td (Prices) Tj ET BT /F 11 Tf 72 660 Td (Bread is two euros in the shop.) Tj ET";
    let good = home.write("good.pdf", pdf(&[first, "BT /F 11 Tf 72 700 Td (Sundays are free of work.) Tj ET"]));
    let broken = home.write("broken.pdf", &pdf(&["BT /F 11 Tf 72 700 Td (Words) Tj ET"])[..90]);
    let looping = home.write("looping.pdf", pdf(&[]));
    let report = home.json(&[
        "data",
        "chunk",
        &good,
        &broken,
        &looping,
        "--project",
        "shop",
        "--chunk-size",
        "40",
        "--overlap",
        "0",
    ]);
    assert_eq!(report["unreadable"].as_array().map(Vec::len), Some(2), "{report}");
    assert!(report["unreadable"].as_array().into_iter().flatten().all(|file| file["code"] == "PS-DATA-011"));
    let found = home.json(&["data", "search", "--project", "shop", "sundays", "--top-k", "1"]);
    assert_eq!(found["results"][0]["details"]["page"], 2, "{found}");
    let found = home.json(&["data", "search", "--project", "shop", "bread", "--top-k", "1"]);
    assert_eq!(found["results"][0]["details"]["headings"], serde_json::json!(["Prices"]));
}

#[cfg(unix)]
#[test]
fn a_document_that_never_ends_costs_its_time_and_keeps_what_was_read() {
    use peft_documents::{Limits, Reader};
    let home = Home::new();
    let words: Vec<String> = (0..20).map(|page| format!("BT /F 11 Tf 72 700 Td (Page {page}.) Tj ET")).collect();
    let mut pages: Vec<&str> = words.iter().map(String::as_str).collect();
    pages.push("/X Do");
    let path = home.write("endless.pdf", pdf(&pages));
    let mut pieces = Vec::new();
    let mut reader = Reader::apart(home.program(), &["data", "read-files"]);
    let limits = Limits { silence: std::time::Duration::from_secs(3), ..Limits::default() };
    let mut read = |path: &str| {
        pieces.clear();
        let outcome = reader.read(std::path::Path::new(path), &limits, &mut |piece| {
            pieces.push(piece);
            Ok(())
        });
        (outcome.is_ok(), pieces.clone())
    };
    let (is_read, found) = read(&path);
    assert!(is_read && found[0].text.contains("Page 15."), "{found:?}");
    let warning = &found.last().expect("pieces").warnings[0];
    assert!(warning.contains("behind page 16") && warning.contains("longer than 3 seconds"), "{warning}");
    // The next file gets a process of its own.
    let (is_read, found) = read(&home.write("good.pdf", pdf(&["BT /F 11 Tf 72 700 Td (Words) Tj ET"])));
    assert!(is_read && found[0].text.trim() == "Words");
}

/// Spaces, 1.5 GiB of them, packed three times.
const BOMB: &str = "\
    78daabb8f5f68ea2df9c4089b68b8a3c6c8cad2d215726589535281ab0e9245d6861bdf278465a93cb261617f1034caf7635\
    4f0bd461080dbc9aa6b199fbdf7399d2afeaf7efd85cef9efe3edefdffd96fefffcbd6fcd966c9c4c0c0c096f7cd243ebeba\
    fa8d7efdbc79f1400106e7f2ad7b4de37a99eaf5ed7de7308394bcfff6e2c3e157ed07decfd64f7e0e14683878fbf7e79a4d\
    b798ea74e4cb97bd63040a357ff73600690e6201e958e00ae64481390a6e489c519951995199519951995199519951995119\
    5ac8a419c6dfafbdcda476faf4e6c72f5fc4ceceada9bbb1a79af578b8a12b00c0113a1c";

#[cfg(unix)]
#[test]
fn a_pdf_that_wants_more_memory_than_it_may_have_costs_only_itself() {
    let home = Home::new();
    let stream: Vec<u8> = BOMB
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal"))
        .collect();
    let head = format!("<< /Filter [/FlateDecode /FlateDecode /FlateDecode] /Length {} >>\nstream\n", stream.len());
    let content = [head.as_bytes(), &stream, b"\nendstream"].concat();
    let bomb = assembled(&[
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>".to_vec(),
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R >>".to_vec(),
        content,
    ]);
    let (bomb, good) = (home.write("bomb.pdf", bomb), home.write("a.md", PAGE));
    let out = home.path("chunks.jsonl");
    let report = home.json(&["data", "chunk", &bomb, &good, "--out", &out]);
    let left_out = report["unreadable"].as_array().expect("a list");
    assert_eq!((left_out.len(), report["files"].as_array().map(Vec::len)), (1, Some(1)), "{report}");
    assert!(left_out[0]["reason"].as_str().is_some_and(|reason| reason.contains("of memory")), "{report}");
    let alone = home.json(&["data", "chunk", &bomb, "--out", &out]);
    assert_eq!((&alone["chunks"], alone["unreadable"].as_array().map(Vec::len)), (&0.into(), Some(1)));
}

/// Rows of questions and answers.
fn rows(pairs: &[(&str, &str)]) -> String {
    let row = |(i, o): &(&str, &str)| format!("{}\n", serde_json::json!({"instruction": i, "output": o}));
    pairs.iter().map(row).collect()
}

#[test]
fn rows_are_scored_filtered_and_kept_from_giving_an_evaluation_away() {
    let home = Home::new();
    let good = ("What does the shop sell to people?", "It sells bread, butter and what people need for the day.");
    let train = home.write(
        "train.jsonl",
        rows(&[
            good,
            ("May I come in?", "I'm sorry, but I can't help with that."),
            ("When does it open?", "It opens at nine in the morning on all days."),
            ("Wer kommt heute in den Laden?", "Heute kommen die Leute aus dem Dorf und die Kinder mit dem Bus."),
            good,
        ]),
    );
    let test = home.write("test.jsonl", rows(&[("When does it  open?", "At nine.")]));
    let scores = home.path("scores.jsonl");
    let report = home.json(&["data", "score", &train, "--below", "60", "--out", &scores]);
    assert_eq!((report["rows"].as_u64(), report["selected"].as_u64()), (Some(5), Some(2)), "{report}");
    assert_eq!((&report["reasons"]["refusal"], &report["reasons"]["copy"]), (&1.into(), &1.into()));
    assert_eq!(lines(&scores)[0]["reasons"][0]["code"], "refusal");
    let leaks = home.json(&["data", "contamination", &train, "--evaluation", &test]);
    assert_eq!(
        (&leaks["contaminated_evaluation_rows"], &leaks["leaks"][0]["training"]["line"]),
        (&1.into(), &3.into())
    );
    let clean = home.path("clean.jsonl");
    let convert = ["data", "convert", &train, "--to", "alpaca", "--out", &clean, "--deduplicate"];
    let filters = ["--drop", "refusal,echo", "--languages", "en", "--evaluation", &test, "--min-score", "50"];
    let report = home.json(&[&convert[..], &filters].concat());
    assert_eq!((&report["rows"], &report["filtered"], &report["duplicates"]), (&1.into(), &3.into(), &1.into()));
    let aside: Vec<String> = lines(&home.path("clean.rejected.jsonl"))
        .iter()
        .map(|row| row["reason"].as_str().unwrap_or("").to_owned())
        .collect();
    for words in ["declines", "its language is `de`", "asks what is asked in line 1 of the evaluation"] {
        assert!(aside.iter().any(|reason| reason.contains(words)), "{words}: {aside:?}");
    }
}

#[test]
fn s2_8_a_projects_rows_have_versions_and_are_trained_on_by_name() {
    let home = Home::new();
    let mut pairs = vec![("Say one", "One it is."), ("Say two", "Two it is."), ("Say three", "Three it is.")];
    let file = home.write("rows.jsonl", rows(&pairs));
    assert_eq!(home.fault(3, &["train", "--model", "starter", "--project", "notes"])["code"], "PS-FILE-001");
    let kept = home.json(&["data", "versions", "save", "--project", "notes", "--from", &file, "--note", "first"]);
    assert_eq!((&kept["version"]["version"], &kept["version"]["rows"]), (&1.into(), &3.into()));
    pairs[1].1 = "Two, as you wish.";
    pairs.push(("Say four", "Four it is."));
    std::fs::write(kept["rows"].as_str().expect("a path"), rows(&pairs)).expect("written");
    let changed = home.json(&["data", "versions", "diff", "1", "--project", "notes"]);
    assert_eq!((&changed["kept"], &changed["changed"], &changed["added"]), (&2.into(), &1.into(), &1.into()));
    home.json(&["data", "versions", "restore", "1", "--project", "notes"]);
    let list = home.json(&["data", "versions", "list", "--project", "notes"]);
    assert_eq!(list["versions"].as_array().map(Vec::len), Some(2), "what was there was kept: {list}");
    let plan = home.json(&["plan", "--model", "starter", "--project", "notes", "--threads", "1"]);
    assert_eq!(plan["config"]["dataset"]["path"], kept["rows"]);
    let card = home.path("README.md");
    home.json(&["data", "card", &file, "--out", &card, "--license", "mit"]);
    assert!(std::fs::read_to_string(&card).expect("written").starts_with("---\nlicense: mit\n"));
}

#[test]
fn s0_6_chunks_get_vectors_through_failures_and_are_found_by_meaning_with_their_source() {
    let home = Home::new();
    let page = home.write("a.md", PAGE);
    home.json(&["data", "chunk", &page, "--project", "shop", "--chunk-size", "60", "--overlap", "0"]);
    // Every other call fails, each time in another way.
    let ways = [Way::Status(503), Way::HangUp, Way::Half, Way::TooMany(0)];
    let mock =
        MockHelper::new(move |n| if n % 2 == 0 { ways[n / 2 % ways.len()] } else { Way::Good }, |_| String::new());
    let base = mock.base();
    let service = ["--provider", "openai", "--base-url", &base, "--embedding-model", "m"];
    let embed = [&["data", "embed", "--project", "shop", "--batch-size", "1", "--json"], &service[..]].concat();
    let last = |output: std::process::Output| -> Value {
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        serde_json::from_str(text(&output.stdout).lines().last().expect("a report")).expect("JSON")
    };
    let report = last(home.run(&embed));
    let (made, calls) = (report["embedded"].as_u64().expect("a count"), mock.calls());
    assert!(made > 1 && report["repeated"].as_u64() >= Some(made - 1) && report["dimensions"] == 3, "{report}");
    let again = last(home.run(&embed));
    assert_eq!((&again["embedded"], again["already"].as_u64()), (&0.into(), Some(made)));
    assert_eq!(mock.calls(), calls, "what has a vector is not asked about again");
    let good = MockHelper::new(|n| if n == 0 { Way::Status(503) } else { Way::Good }, |_| String::new());
    let base = good.base();
    let found = home.json(&["data", "search", "--project", "shop", "zzz", "--base-url", &base, "--top-k", "1"]);
    assert_eq!((&found["by"], found["results"].as_array().map(Vec::len)), (&"words_and_meaning".into(), Some(1)));
    assert!(found["results"][0]["path"].as_str().is_some_and(|path| path.ends_with("a.md")));
    drop(good);
    let words = home.json(&["data", "search", "--project", "shop", "sundays", "--base-url", "http://127.0.0.1:1/v1"]);
    assert_eq!(
        (&words["by"], words["results"].as_array().map(Vec::len)),
        (&"words".into(), Some(1)),
        "words are enough"
    );
    // How far it is is told before the service is found to be away.
    let absent = home.run(&["data", "embed", "--project", "shop", "--json"]);
    assert_eq!(absent.status.code(), Some(5));
    let error: Value = serde_json::from_str(&text(&absent.stderr)).expect("one JSON document on stderr");
    assert_eq!(error["error"]["code"], "PS-OLL-001");
}

#[test]
fn s2_3_rows_of_a_projects_chunks_become_its_rows_and_those_it_had_are_kept() {
    let home = Home::new();
    let page = home.write("a.md", PAGE);
    home.json(&["data", "chunk", &page, "--project", "shop"]);
    let old = home.write("old.jsonl", rows(&[("Say one", "One it is.")]));
    let kept = home.json(&["data", "versions", "save", "--project", "shop", "--from", &old]);
    let mock = MockHelper::new(
        |_| Way::Good,
        |_| {
            let row = serde_json::json!({
                "question": "When does the shop open?", "answer": "At nine.", "evidence": "The shop opens at nine.",
            });
            serde_json::json!({ "items": [row] }).to_string()
        },
    );
    let base = mock.base();
    let service = ["--provider", "openai", "--base-url", &base, "--helper-model", "m", "--pairs", "1"];
    let output = home.run(&[&["data", "generate", "--project", "shop", "--json"], &service[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let made = lines(kept["rows"].as_str().expect("a path"));
    assert!(made.len() == 1 && made[0].to_string().contains("At nine."), "{made:?}");
    let changed = home.json(&["data", "versions", "diff", "1", "--project", "shop"]);
    assert_eq!((&changed["removed"], &changed["added"]), (&1.into(), &1.into()));
}

/// The words of rows, in order.
fn answers(path: &str) -> Vec<String> {
    lines(path).iter().filter_map(|row| row["output"].as_str().map(str::to_owned)).collect()
}

#[test]
fn s2_9_rows_are_added_to_those_of_a_project_and_may_come_from_a_wish_alone() {
    let home = Home::new();
    let page = home.write("a.md", PAGE);
    home.json(&["data", "chunk", &page, "--project", "shop"]);
    let old = home.write("old.jsonl", rows(&[("Say one", "One it is.")]));
    let kept = home.json(&["data", "versions", "save", "--project", "shop", "--from", &old]);
    let current = kept["rows"].as_str().expect("a path").to_owned();
    let mock = MockHelper::new(
        |_| Way::Good,
        |request| {
            // Only who sees the document can quote it.
            let is_shown = request.to_string().contains("The shop opens at nine.");
            let row = if is_shown {
                serde_json::json!({"question": "When?", "answer": "At nine.", "evidence": "The shop opens at nine."})
            } else {
                serde_json::json!({"question": "What is two and two?", "answer": "Four of them."})
            };
            serde_json::json!({ "items": [row] }).to_string()
        },
    );
    let base = mock.base();
    let fixed = ["data", "generate", "--project", "shop", "--provider", "openai", "--base-url", &base];
    let generate = |more: &[&str]| {
        let output = home.run(&[&fixed[..], &["--helper-model", "m", "--pairs", "1"], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    };
    generate(&["--add"]);
    assert_eq!(answers(&current), ["One it is.", "At nine."]);
    generate(&["--add", "--no-documents", "--prompt", "sums", "--rows", "1"]);
    assert_eq!(answers(&current), ["One it is.", "At nine.", "Four of them."]);
    assert!(lines(&current)[2].get("source").is_none(), "no document stands behind it");
    let list = home.json(&["data", "versions", "list", "--project", "shop"]);
    assert_eq!(list["versions"].as_array().map(Vec::len), Some(2), "what was there before each is kept: {list}");
    generate(&["--add"]);
    assert_eq!(answers(&current), ["One it is.", "Four of them.", "At nine."], "rows of other work stay");
    generate(&["--add", "--restart"]);
    assert_eq!(answers(&current), ["One it is.", "Four of them.", "At nine."], "also where its own are made anew");
    assert_eq!(home.run(&[&fixed[..2], &["--add", "--helper-model", "m"]].concat()).status.code(), Some(2));

    // A document goes; its rows stay until they are asked to go too.
    let listed = home.json(&["data", "documents", "--project", "shop"]);
    assert_eq!(listed["documents"].as_array().map(Vec::len), Some(1), "{listed}");
    let second = home.write("b.md", "# Prices\n\nBread is two euros.\n");
    home.json(&["data", "chunk", &second, "--project", "shop"]);
    let removed = home.json(&["data", "documents", "--project", "shop", "--remove", &page]);
    assert_eq!(removed["removed"][0]["rows"], 1, "{removed}");
    assert_eq!((removed["documents"].as_array().map(Vec::len), answers(&current).len()), (Some(1), 3));
    let search = |words: &str| {
        let found = home.json(&["data", "search", "--project", "shop", words]);
        found["results"].as_array().map(Vec::len)
    };
    assert_eq!((search("sundays"), search("bread")), (Some(0), Some(1)), "what is gone is not found");
    assert_eq!(home.json(&["data", "chunk", &second, "--project", "shop"])["unchanged"], 1);
    assert_eq!(home.json(&["data", "chunk", &page, "--project", "shop"])["unchanged"], 0, "it comes back as a new one");
    let removed = home.json(&["data", "documents", "--project", "shop", "--remove", &page, "--with-rows"]);
    assert_eq!(removed["rows_left_out"], 1, "{removed}");
    assert_eq!(answers(&current), ["One it is.", "Four of them."], "{removed}");
    let unknown = home.fault(3, &["data", "documents", "--project", "shop", "--remove", &page]);
    assert_eq!(unknown["code"], "PS-FILE-001");
}
