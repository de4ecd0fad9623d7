//! The catalogue of errors and the program agree: what is raised is explained, and what is explained
//! is raised.

use peft_plan::fault::{CatalogueEntry, catalogue};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where the program's own sources are.
const SOURCES: [&str; 4] = ["app", "kernels", "models", "storage"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are inside the workspace")
}

/// Rust sources below `directory`.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(directory).expect("a readable directory");
    for entry in entries {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Literals of the form `"PS-AREA-NNN"`.
fn codes(text: &str) -> impl Iterator<Item = &str> {
    let is_code = |word: &&str| {
        let mut parts = word.split('-');
        let (head, area, number) = (parts.next(), parts.next(), parts.next());
        let is_area = |area: &str| !area.is_empty() && area.bytes().all(|byte| byte.is_ascii_uppercase());
        let is_number = |number: &str| number.len() == 3 && number.bytes().all(|byte| byte.is_ascii_digit());
        head == Some("PS") && area.is_some_and(is_area) && number.is_some_and(is_number) && parts.next().is_none()
    };
    text.split('"').filter(is_code)
}

/// Every code that is written in a source, with one place; `is_raised` leaves tests out.
fn written(is_raised: bool) -> BTreeMap<String, PathBuf> {
    let mut files = Vec::new();
    for crate_root in SOURCES {
        sources(&root().join(crate_root), &mut files);
    }
    assert!(files.len() > 50, "the sources are not where they should be");
    let mut found = BTreeMap::new();
    for path in files {
        let is_test = path.ends_with("tests.rs") || path.components().any(|part| part.as_os_str() == "tests");
        if is_raised && is_test {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("sources are text");
        let program = if is_raised { text.split("#[cfg(test)]").next().unwrap_or_default() } else { &text };
        for code in codes(program) {
            found.entry(code.to_owned()).or_insert_with(|| path.clone());
        }
    }
    found
}

#[test]
fn literals_are_found_only_where_they_are_codes() {
    let text = r#"Fault::new("PS-HW-001", "PS-HW-002 is") // "PS-HW-1" "PS-hw-001" "PS-HW-0012" "PS-HW-001-2""#;
    assert_eq!(codes(text).collect::<Vec<_>>(), ["PS-HW-001"]);
}

#[test]
fn every_code_in_the_sources_is_in_the_catalogue() {
    let unknown: Vec<_> = written(false).into_iter().filter(|(code, _)| !catalogue().contains_key(code)).collect();
    assert!(unknown.is_empty(), "not in errors.json: {unknown:?}");
}

#[test]
fn every_code_in_the_catalogue_is_raised_somewhere() {
    let raised = written(true);
    let unused: Vec<_> = catalogue().keys().filter(|code| !raised.contains_key(*code)).collect();
    assert!(unused.is_empty(), "nothing raises these codes of errors.json: {unused:?}");
}

#[test]
fn every_entry_has_a_plain_title_two_or_three_actions_and_an_exit_code_s4_10_1_s4_10_2() {
    for (code, entry) in catalogue() {
        let CatalogueEntry { title, exit, actions } = entry;
        let length = title.chars().count();
        assert!((1..=60).contains(&length), "{code}: a title of {length} characters");
        assert!(!title.ends_with(['.', '!']) && !title.contains("PS-"), "{code}: {title}");
        assert!(*exit <= 5, "{code}: exit {exit}");
        assert!((2..=3).contains(&actions.len()), "{code}: {} actions", actions.len());
        for action in actions {
            assert!(!action.label.is_empty(), "{code}: an action without a label");
            assert!(action.command.as_ref().is_none_or(|command| !command.is_empty()), "{code}: an empty command");
        }
    }
}
