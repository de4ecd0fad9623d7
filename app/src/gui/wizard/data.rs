//! A look at examples, in a thread: what they are, how good they are, how they will be read.

use crate::cli::data::seen;
use crate::gui::problem::Problem;
use crate::jobs::sources::files_of;
use peft_data::{BadLine, ConvertOptions, Inspection, ReadOptions, Target};
use peft_plan::{Example, Fault, Result};
use peft_text::Mark;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Files that were looked at.
#[derive(Debug)]
pub struct Inspected {
    /// Which.
    pub paths: Vec<PathBuf>,
    /// What they are.
    pub inspection: Inspection,
    /// The first rows as the model will see them.
    pub rows: Vec<Preview>,
}

/// One row.
#[derive(Debug, Default)]
pub struct Preview {
    /// Who says what, where no model was chosen yet.
    pub turns: Vec<(String, String)>,
    /// Text, and whether it is learned.
    pub pieces: Vec<(String, bool)>,
    /// All and learned tokens.
    pub tokens: Option<(usize, usize)>,
}

/// Characters of a row that are shown.
const SHOWN: usize = 1500;

/// Look at files and folders.
pub fn inspect(paths: &[PathBuf], model: Option<&str>, columns: &BTreeMap<String, String>) -> Result<Inspected> {
    let paths = files_of(paths)?;
    let options = ReadOptions { columns: columns.clone(), ..ReadOptions::default() };
    let inspection = peft_data::inspect(&paths, &options)?;
    // A model that cannot be opened is told on its own step; the examples can be looked at without it.
    let seen = model.and_then(|model| seen(model, &inspection.preview).ok());
    let mut seen = seen.unwrap_or_default().into_iter();
    let rows = inspection.preview.iter().map(|row| {
        let seen = seen.next().flatten();
        let is_learned = |mark: Mark| matches!(mark, Mark::Trained | Mark::Stop);
        Preview {
            turns: turns(&row.example),
            tokens: seen.as_ref().map(|seen| (seen.tokens, seen.trained)),
            pieces: seen.map_or_else(Vec::new, |seen| {
                seen.pieces.into_iter().map(|piece| (cut(piece.text), is_learned(piece.mark))).collect()
            }),
        }
    });
    let rows = rows.collect();
    Ok(Inspected { paths, inspection, rows })
}

fn cut(text: String) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn turns(example: &Example) -> Vec<(String, String)> {
    let list = |name: &str, turns: &[peft_plan::Turn]| -> Vec<(String, String)> {
        let who = |turn: &peft_plan::Turn| match name {
            "" => turn.role.as_str().to_owned(),
            name => name.to_owned(),
        };
        turns.iter().map(|turn| (who(turn), cut(turn.as_text().into_owned()))).collect()
    };
    match example {
        Example::Messages(turns) => list("", turns),
        Example::Text(text) => vec![("text".to_owned(), cut(text.clone()))],
        Example::Preference { prompt, chosen, rejected } => {
            [list("", prompt), list("chosen", chosen), list("rejected", rejected)].concat()
        }
        Example::Rated { prompt, answer, desirable } => {
            [list("", prompt), list(if *desirable { "wanted" } else { "unwanted" }, answer)].concat()
        }
    }
}

/// The columns that a failure names which could not tell them apart.
pub(super) fn columns_of(problem: &Problem) -> Vec<String> {
    if problem.code != "PS-DATA-003" {
        return Vec::new();
    }
    let listed = problem.detail.rsplit_once("` has ").map_or("", |(_, listed)| listed);
    listed.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Text that was pasted, as a file that is kept.
pub fn pasted(data_dir: &Path, text: &str) -> Result<PathBuf> {
    let text = text.trim();
    let first = text.chars().next();
    let is_json = |ending| serde_json::from_str::<serde_json::Value>(text).is_ok().then_some(ending);
    let ending = match first {
        Some('{') => is_json("json").unwrap_or("jsonl"),
        Some('[') => is_json("json").unwrap_or("txt"),
        _ if text.lines().next().is_some_and(|line| line.contains(',') || line.contains('\t')) => "csv",
        _ => "txt",
    };
    let folder = data_dir.join("samples");
    let sum = text.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let path = folder.join(format!("pasted-{sum:016x}.{ending}"));
    durable::create_directories(&folder).map_err(|e| Fault::io("create", &folder, e))?;
    durable::write_file(&path, text.as_bytes()).map_err(|e| Fault::io("write", &path, e))?;
    Ok(path)
}

/// What can be put right by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fix {
    /// Copies are left out.
    Duplicates,
    /// Near copies, too.
    NearDuplicates,
    /// Garbled letters are put right.
    Repair,
    /// Private data becomes placeholders.
    Redact,
}

impl Fix {
    /// The fix of an issue, by its code.
    pub fn of(code: &str) -> Option<(Self, &'static str)> {
        Some(match code {
            "exact_duplicates" => (Self::Duplicates, "Leave copies out"),
            "near_duplicates" => (Self::NearDuplicates, "Leave near copies out"),
            "garbled_text" => (Self::Repair, "Put letters right"),
            "personal_data" | "secrets" => (Self::Redact, "Replace with placeholders"),
            _ => return None,
        })
    }
}

/// The examples with a fix, in a file of their own; the file of the person stays as it is.
pub fn fixed(data_dir: &Path, paths: &[PathBuf], columns: &BTreeMap<String, String>, fix: Fix) -> Result<PathBuf> {
    let options = ReadOptions { columns: columns.clone(), on_bad_line: BadLine::Skip, ..ReadOptions::default() };
    let dataset = peft_data::read(&files_of(paths)?, &options)?;
    let options = ConvertOptions {
        deduplicate: fix == Fix::Duplicates || fix == Fix::NearDuplicates,
        deduplicate_near: fix == Fix::NearDuplicates,
        repair: fix == Fix::Repair,
        redact: fix == Fix::Redact,
        seed: 42,
        ..ConvertOptions::default()
    };
    let folder = data_dir.join("samples");
    durable::create_directories(&folder).map_err(|e| Fault::io("create", &folder, e))?;
    let stem = paths.first().and_then(|path| path.file_stem()).map_or("examples".into(), |stem| stem.to_string_lossy());
    let stem = stem.trim_end_matches("-fixed").to_owned();
    // A name that is free: an earlier run may still read the other.
    let named = |number: u32| folder.join(format!("{stem}-{number}-fixed.jsonl"));
    let out = (1..10_000).map(named).find(|path| !path.exists()).unwrap_or_else(|| named(0));
    let target: Target = "messages".parse()?;
    Ok(peft_data::convert(&dataset, target, &out, &options)?.out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pasted_text_becomes_a_file_of_its_kind() {
        let home = tempfile::tempdir().expect("a folder");
        let ending = |text: &str| {
            let path = pasted(home.path(), text).expect("written");
            path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_owned()
        };
        assert_eq!(ending("{\"a\":1}\n{\"a\":2}"), "jsonl");
        assert_eq!(ending("[{\"a\":1}]"), "json");
        assert_eq!(ending("question,answer\na,b"), "csv");
        assert_eq!(ending("Once upon a time"), "txt");
    }

    #[test]
    fn columns_that_nobody_knows_are_named_s4_4_4() {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join("odd.jsonl");
        std::fs::write(&path, "{\"xq\":\"Hi there\",\"yq\":\"Hello\"}\n".repeat(3)).expect("written");
        let fault = inspect(std::slice::from_ref(&path), None, &BTreeMap::new()).expect_err("not known");
        assert_eq!(columns_of(&Problem::from(&fault)), ["xq", "yq"], "{}", fault.detail);
        let columns = [("user", "xq"), ("assistant", "yq")].map(|(part, name)| (part.to_owned(), name.to_owned()));
        assert_eq!(inspect(&[path], None, &columns.into()).expect("read").inspection.rows, 3);
    }

    #[test]
    fn rows_show_what_is_learned_and_a_bad_file_says_why() {
        let home = tempfile::tempdir().expect("a folder");
        let path = home.path().join("a.jsonl");
        let row = r#"{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello there"}]}"#;
        std::fs::write(&path, format!("{row}\n{row}\n")).expect("written");
        let found = inspect(std::slice::from_ref(&path), Some("starter"), &BTreeMap::new()).expect("read");
        assert_eq!(found.inspection.rows, 2);
        let learned: String = found.rows[0].pieces.iter().filter(|p| p.1).map(|p| p.0.as_str()).collect();
        assert!(learned.contains("Hello there") && !learned.contains("Hi"), "{learned}");
        let out = fixed(home.path(), &[path], &BTreeMap::new(), Fix::Duplicates).expect("fixed");
        assert_eq!(inspect(&[out], None, &BTreeMap::new()).expect("read").inspection.rows, 1);
        let bad = home.path().join("b.png");
        std::fs::write(&bad, [0x89, b'P', b'N', b'G', 0, 1, 2, 3, 255]).expect("written");
        assert!(inspect(&[bad], None, &BTreeMap::new()).is_err());
    }
}
