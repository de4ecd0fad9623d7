//! A code is in the catalogue only if some test provokes it and names it.

use peft_plan::fault::catalogue;
use std::path::Path;

/// All that tests say, of the files below `directory`.
fn read(directory: &Path, is_test: bool, said: &mut String) {
    for entry in std::fs::read_dir(directory).expect("a readable directory").flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            read(&path, is_test || name == "tests", said);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = std::fs::read_to_string(&path).expect("sources are text");
            let tests = if is_test || name == "tests.rs" {
                &*text
            } else {
                text.split_once("#[cfg(test)]").map_or("", |t| t.1)
            };
            said.push_str(tests);
        }
    }
}

#[test]
fn every_code_is_named_by_a_test_that_provokes_it_s4_10() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("inside the workspace");
    let mut said = String::new();
    for part in ["app/src", "models", "storage", "kernels/src"] {
        read(&root.join(part), false, &mut said);
    }
    read(&root.join("tests"), true, &mut said);
    let unnamed: Vec<&String> = catalogue().keys().filter(|code| !said.contains(&format!("{code}\""))).collect();
    assert!(unnamed.is_empty(), "no test names these codes: {unnamed:?}");
}
