//! The files that a person means by naming files and folders.

use crate::read::Format;
use peft_plan::{Fault, Result};
use std::path::{Path, PathBuf};

/// Folders inside one another that are looked into.
const DEEPEST: usize = 64;

/// Files and folders as the documents they are or hold, sorted by name. In folders only what has a known ending is
/// taken, and nothing hidden; a file that is named is taken whatever it is called.
pub fn files_of(named: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let (mut files, mut missing, mut first) = (Vec::new(), Vec::new(), None);
    for path in named {
        match std::fs::metadata(path) {
            Ok(kind) if kind.is_dir() => collect(path, 0, &mut files)?,
            Ok(_) => files.push(path.clone()),
            Err(error) => {
                missing.push(path.clone());
                first.get_or_insert_with(|| Fault::io("read", path, error));
            }
        }
    }
    if let (true, Some(fault)) = (files.is_empty(), first) {
        return Err(fault);
    }
    // Whoever reads them names them with what else cannot be read, and the rest goes on.
    files.append(&mut missing);
    // Named twice is meant once.
    let mut seen = std::collections::HashSet::new();
    files.retain(|file| seen.insert(file.clone()));
    if files.is_empty() {
        return Err(Fault::new("PS-FILE-001", "There is no document in these folders"));
    }
    Ok(files)
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    let io = |error| Fault::io("read", folder, error);
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !hidden {
            // Of the entry itself: links to folders are not followed, so there are no circles.
            entries.push((entry.path(), entry.file_type().map_err(io)?));
        }
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    for (path, kind) in entries {
        if kind.is_dir() {
            if depth < DEEPEST {
                collect(&path, depth + 1, files)?;
            }
        } else if is_document(&path) && path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

fn is_document(path: &Path) -> bool {
    Format::of_name(path).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_walked_in_order_and_hidden_or_foreign_files_passed_over() {
        let home = tempfile::tempdir().expect("a directory");
        let inside = home.path().join("b");
        std::fs::create_dir_all(inside.join(".git")).expect("made");
        for name in ["z.txt", "a.md", "picture.png", "b/x.PDF", "b/.hidden.txt", "b/.git/y.txt"] {
            std::fs::write(home.path().join(name), "x").expect("written");
        }
        let named = [home.path().to_owned(), home.path().join("picture.png"), home.path().join("a.md")];
        let found = files_of(&named).expect("some");
        let names: Vec<String> =
            found.iter().map(|file| file.file_name().unwrap_or_default().to_string_lossy().into_owned()).collect();
        assert_eq!(names, ["a.md", "x.PDF", "z.txt", "picture.png"]);
        let some = files_of(&[home.path().join("gone.md"), home.path().join("a.md")]).expect("one is there");
        assert_eq!(some, [home.path().join("a.md"), home.path().join("gone.md")]);
        assert_eq!(files_of(&[inside.join(".git/none")]).expect_err("missing").code, "PS-FILE-001");
    }
}
