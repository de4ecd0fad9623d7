//! PDF documents made by hand: good ones, and what people and attackers bring.

use super::*;
use crate::block::{BlockKind, Document};

/// A document of these objects, numbered from 1; the first is the catalogue.
fn file(objects: &[String], trailer: &str) -> Vec<u8> {
    let mut bytes = b"%PDF-1.7\n".to_vec();
    let mut places = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        places.push(bytes.len());
        bytes.extend(format!("{} 0 obj\n{object}\nendobj\n", index + 1).bytes());
    }
    let table = bytes.len();
    bytes.extend(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).bytes());
    for place in places {
        bytes.extend(format!("{place:010} 00000 n \n").bytes());
    }
    let size = objects.len() + 1;
    bytes.extend(format!("trailer\n<< /Size {size} /Root 1 0 R {trailer} >>\nstartxref\n{table}\n%%EOF\n").bytes());
    bytes
}

fn stream(content: &str) -> String {
    format!("<< /Length {} >>\nstream\n{content}\nendstream", content.len())
}

/// Pages with these contents, in Helvetica as /F.
fn pages(contents: &[&str], trailer: &str) -> Vec<u8> {
    let kids: Vec<String> = (0..contents.len()).map(|page| format!("{} 0 R", 4 + 2 * page)).collect();
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        format!("<< /Type /Pages /Count {} /Kids [{}] >>", contents.len(), kids.join(" ")),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_owned(),
    ];
    for (page, content) in contents.iter().enumerate() {
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {} 0 R /Resources << /Font << /F 3 0 R >> >> >>",
            5 + 2 * page
        ));
        objects.push(stream(content));
    }
    file(&objects, trailer)
}

fn read_bytes(bytes: &[u8]) -> Result<Document> {
    let home = tempfile::tempdir().expect("a directory");
    let path = home.path().join("a.pdf");
    std::fs::write(&path, bytes).expect("written");
    let mut whole = Document::default();
    read(&path, &Limits::default(), &mut |piece| {
        // Only tests of one piece look at places.
        if whole.text.is_empty() {
            whole = piece;
        } else {
            whole.text.push_str(&piece.text);
            whole.warnings.extend(piece.warnings);
        }
        Ok(())
    })?;
    Ok(whole)
}

#[test]
fn s2_1_text_keeps_its_page_heading_and_order() {
    let first = "BT /F 24 Tf 72 700 Td (Opening hours) Tj ET \
                 BT /F 11 Tf 72 660 Td 13 TL (The shop opens at nine and it) Tj T* (closes at six, so be in ti-) Tj T* (me.) Tj ET";
    // Words that are put side by side without a blank, and letters that are drawn twice.
    let second = "BT /F 11 Tf 72 700 Td (Two) Tj 30 0 Td (words) Tj ET \
                  BT 1 Tr /F 11 Tf 72 650 Td (Outlined) Tj ET BT 0 Tr /F 11 Tf 72 650 Td (Outlined) Tj ET";
    let document = read_bytes(&pages(&[first, second], "/Info << /Title (A shop) >>")).expect("readable");
    let blocks: Vec<(BlockKind, Option<u32>, &str)> = document
        .blocks
        .iter()
        .map(|block| (block.kind, block.page, document.text[block.span.clone()].trim_end()))
        .collect();
    let expected = [
        (BlockKind::Heading, Some(1), "Opening hours"),
        (BlockKind::Paragraph, Some(1), "The shop opens at nine and it closes at six, so be in time."),
        (BlockKind::Paragraph, Some(2), "Two words"),
        (BlockKind::Paragraph, Some(2), "Outlined"),
    ];
    assert_eq!(blocks, expected);
    assert_eq!(document.sections[document.blocks[3].section], ["Opening hours"]);
    assert!(document.warnings.is_empty(), "{:?}", document.warnings);
}

#[test]
fn pages_come_in_pieces_and_in_order() {
    let contents: Vec<String> = (1..=50).map(|page| format!("BT /F 11 Tf 72 700 Td (Page {page}.) Tj ET")).collect();
    let contents: Vec<&str> = contents.iter().map(String::as_str).collect();
    let document = read_bytes(&pages(&contents, "")).expect("readable");
    let words: Vec<&str> = document.text.split_whitespace().collect();
    assert_eq!((words.len(), words[3], words[99]), (100, "2.", "50."));
}

#[test]
fn pages_that_are_pictures_are_named() {
    let picture = "q 100 0 0 100 72 600 cm BI /W 1 /H 1 /CS /G /BPC 8 ID \u{1} EI Q";
    let document =
        read_bytes(&pages(&["BT /F 11 Tf 72 700 Td (Words) Tj ET", picture, picture], "")).expect("readable");
    assert_eq!(document.warnings.len(), 1, "{:?}", document.warnings);
    assert!(document.warnings[0].starts_with("pages 2-3 of 3 are pictures"), "{:?}", document.warnings);
}

#[test]
fn documents_with_a_password_are_refused_by_that_name() {
    let zeros = "0".repeat(64);
    let locked = format!("/Encrypt << /Filter /Standard /V 1 /R 2 /P -44 /O <{zeros}> /U <{zeros}> >> /ID [<00> <00>]");
    let fault = read_bytes(&pages(&["BT /F 11 Tf 72 700 Td (Secret) Tj ET"], &locked)).expect_err("locked");
    assert_eq!(fault.code, "PS-DATA-011");
    assert!(fault.detail.contains("protected by a password"), "{}", fault.detail);
}

#[test]
fn damaged_and_looping_documents_end() {
    for broken in ["", "%PDF-1.7", "%PDF-1.7\nxref\n0 1\ntrailer << /Root 1 0 R >>\nstartxref\n9\n%%EOF"] {
        let fault = read_bytes(broken.as_bytes()).expect_err("nothing in it");
        assert_eq!(fault.code, "PS-DATA-011", "{broken}");
    }
    // Pages whose child is their parent, a page whose content draws itself, a table of places that leads to itself.
    let tree = file(
        &["<< /Type /Catalog /Pages 2 0 R >>".into(), "<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 2 >>".into()],
        "",
    );
    let own = file(
        &[
            "<< /Type /Catalog /Pages 2 0 R >>".into(),
            "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".into(),
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 5 0 R /Resources << /XObject << /X 4 0 R >> >> >>".into(),
            "<< /Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /X 4 0 R >> >> /Length 5 >>\nstream\n/X Do\nendstream".into(),
            stream("/X Do"),
        ],
        "",
    );
    let table = pages(&["BT /F 11 Tf 72 700 Td (Words) Tj ET"], "/Prev 9");
    for looping in [tree, own, table] {
        match read_bytes(&looping) {
            Ok(document) => assert!(document.text.len() < 1_000),
            Err(fault) => assert_eq!(fault.code, "PS-DATA-011"),
        }
    }
}

#[test]
fn cut_and_overwritten_documents_never_end_the_program() {
    let whole = pages(&["BT /F 11 Tf 72 700 Td (Some words) Tj ET", "BT /F 24 Tf 72 700 Td (More) Tj ET"], "");
    for cut in (0..whole.len()).step_by(37) {
        if let Err(fault) = read_bytes(&whole[..cut]) {
            assert!(fault.code.starts_with("PS-DATA-"), "{}", fault.code);
        }
        let mut damaged = whole.clone();
        damaged[cut] ^= 0x55;
        read_bytes(&damaged).ok();
    }
}

#[test]
fn numbers_of_pages_are_told_as_ranges() {
    assert_eq!(ranges(&[1, 2, 3, 7, 9, 10]), "1-3, 7, 9-10");
    let odd: Vec<u32> = (0..50).map(|n| 2 * n).collect();
    assert!(ranges(&odd).ends_with("22, …"));
}

#[test]
fn titles_are_read_in_either_way_of_writing() {
    assert_eq!(words(b"Plain"), "Plain");
    assert_eq!(words(&[0xFE, 0xFF, 0, b'H', 0, 0xE4]), "Hä");
    assert_eq!(words(&[b'H', 0xE4]), "Hä");
}
