//! What the words of a step mean to the steps around it: which files it reads, which it writes, which runs it needs.

use clap::ArgMatches;
use std::path::{Path, PathBuf};

/// Options and arguments whose values are files or folders that must be there.
const INPUTS: [&str; 11] = [
    "data",
    "files",
    "file",
    "adapter",
    "resume_from",
    "schema",
    "reference",
    "receipt",
    "memories",
    "personality",
    "chunks",
];
/// Those whose values are written.
const OUTPUTS: [&str; 3] = ["out", "per_row", "write_spec"];
/// Flags with which a command does not end by itself, or ends before its work is done.
const ENDLESS: [&str; 3] = ["follow", "watch", "detach"];
/// Datasets of the hub are no files here.
const HUB: &str = "hub:";

/// A step as the others see it. Paths are absolute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Roles {
    pub(super) inputs: Vec<PathBuf>,
    pub(super) outputs: Vec<PathBuf>,
    /// Ids or names of runs.
    pub(super) runs: Vec<String>,
    /// What stands after `--model`.
    pub(super) model: Option<String>,
    /// A name that later steps can use, of a run that this step makes.
    pub(super) makes_run: Option<String>,
    /// The model that this step downloads.
    pub(super) brings: Option<String>,
    /// A flag that keeps this from being a step.
    pub(super) endless: Option<&'static str>,
    pub(super) is_training: bool,
    pub(super) has_prompt: bool,
    pub(super) merges: bool,
}

/// The roles of the command `path`, parsed as `leaf`, whose relative paths count from `folder`.
pub(super) fn roles(path: &[String], leaf: &ArgMatches, folder: &Path) -> Roles {
    let words: Vec<&str> = path.iter().map(String::as_str).collect();
    let has_run_file = matches!(words[..], ["train" | "plan"]);
    let values = |id: &str| -> Vec<String> {
        let raw = leaf.try_get_raw(id).ok().flatten();
        raw.into_iter().flatten().map(|value| value.to_string_lossy().into_owned()).collect()
    };
    let flag = |id: &str| leaf.try_get_one::<bool>(id).ok().flatten().copied().unwrap_or_default();
    let files = |ids: &[&str]| -> Vec<PathBuf> {
        let all = ids.iter().flat_map(|id| values(id)).filter(|value| !value.starts_with(HUB));
        all.map(|value| plain(&folder.join(value))).collect()
    };
    let is_download = matches!(words[..], ["data", "download"]);
    let mut inputs = if is_download { Vec::new() } else { files(&INPUTS) };
    let mut runs = values("runs");
    if has_run_file {
        inputs.extend(files(&["run"]));
    } else {
        runs.extend(values("run"));
    }
    let is_training = matches!(words[..], ["train"]);
    Roles {
        inputs,
        outputs: files(&OUTPUTS),
        runs,
        model: values("model").pop(),
        makes_run: if is_training { values("name").pop() } else { None },
        brings: if matches!(words[..], ["models", "download"]) { values("id").pop() } else { None },
        endless: ENDLESS.into_iter().find(|id| flag(id)),
        is_training,
        has_prompt: !values("prompt").is_empty(),
        merges: flag("merge"),
    }
}

/// Without `.` and `..`, as far as names alone can tell.
pub(super) fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

/// Whether a step that writes `output` makes `path`: itself, something in it, or a file that is written beside it, such
/// as the held-out rows.
pub(super) fn makes(output: &Path, path: &Path) -> bool {
    let is_beside = || {
        let (Some(stem), Some(name)) = (output.file_stem(), path.file_name()) else { return false };
        let prefix = format!("{}.", stem.to_string_lossy());
        output.extension().is_some() && output.parent() == path.parent() && name.to_string_lossy().starts_with(&prefix)
    };
    path.starts_with(output) || is_beside()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_step_makes_others_may_read() {
        let makes = |output: &str, path: &str| makes(Path::new(output), Path::new(path));
        assert!(makes("/a/out", "/a/out/adapter") && makes("/a/x.jsonl", "/a/x.jsonl"));
        assert!(makes("/a/x.jsonl", "/a/x.validation.jsonl"));
        assert!(
            !makes("/a/out", "/a/other") && !makes("/a/x.jsonl", "/a/xy.jsonl") && !makes("/a/x.jsonl", "/b/x.jsonl")
        );
        assert_eq!(plain(Path::new("/a/./b/../c")), Path::new("/a/c"));
    }
}
