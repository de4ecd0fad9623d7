//! Names from the network: ids, revisions and paths of files, refused where they could lead out of the cache.

use peft_plan::{Fault, Result};
use std::fmt;

/// What a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A model.
    Model,
    /// A dataset.
    Dataset,
}

impl Kind {
    /// What directories of the cache and addresses of the hub are called after it.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }

    /// For people.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Dataset => "dataset",
        }
    }
}

/// `owner/name`, or a bare `name` of the hub's early days, with nothing in it that could lead anywhere else.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryId(String);

impl RepositoryId {
    /// `None` where `text` is no id.
    pub fn new(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let is_id = parts.clone().count() <= 2 && parts.all(is_plain) && text.len() <= 200 && !text.contains("--");
        is_id.then(|| Self(text.to_owned()))
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without its owner.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Its directory in the cache.
    pub(crate) fn directory(&self, kind: Kind) -> String {
        format!("{}--{}", kind.plural(), self.0.replace('/', "--"))
    }
}

impl fmt::Display for RepositoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One part of an id, as the hub allows them.
fn is_plain(part: &str) -> bool {
    !part.is_empty()
        && !part.starts_with(['.', '-'])
        && !part.ends_with(['.', '-'])
        && !part.contains("..")
        && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// A branch, a tag or a commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Revision(String);

impl Default for Revision {
    fn default() -> Self {
        Self("main".to_owned())
    }
}

impl Revision {
    /// PS-CFG-001 where `text` is no revision.
    pub fn new(text: &str) -> Result<Self> {
        let is_word = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with('.');
        let is_revision = text.len() <= 200
            && text.split('/').all(is_word)
            && !text.contains("..")
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./+=".contains(c));
        if is_revision {
            return Ok(Self(text.to_owned()));
        }
        Err(Fault::new("PS-CFG-001", format!("`{text}` is no revision: a branch, a tag or a commit was expected.")))
    }

    /// The revision.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A whole commit, which cannot come to mean something else.
    pub fn is_commit(&self) -> bool {
        is_commit(&self.0)
    }
}

/// 40 hexadecimal digits.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase())
}

/// Whether `path` names a file below the repository on every system: relative, with no way up, no drive, no device.
pub(crate) fn is_safe_path(path: &str) -> bool {
    let is_part = |part: &str| {
        let stem = part.split('.').next().unwrap_or_default().to_ascii_lowercase();
        let is_device = ["con", "prn", "aux", "nul"].contains(&stem.as_str())
            || (stem.len() == 4 && (stem.starts_with("com") || stem.starts_with("lpt")) && stem.ends_with(is_digit));
        !part.is_empty()
            && part.len() <= 255
            && part != "."
            && part != ".."
            && !part.ends_with(['.', ' '])
            && !is_device
            && !part.contains(|c: char| c.is_control() || "\\:*?\"<>|".contains(c))
    };
    !path.is_empty() && path.len() <= 1024 && path.split('/').all(is_part)
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_leave_the_cache() {
        for id in ["Qwen/Qwen2.5-0.5B-Instruct", "gpt2", "a/b_c.d"] {
            assert!(RepositoryId::new(id).is_some(), "{id}");
        }
        for id in ["../x", "a/../b", "/etc/passwd", "a/b/c", "a/.git", "a/b c", "", "a/", "a\\b", "a--b/c", "a/b..c"] {
            assert!(RepositoryId::new(id).is_none(), "{id}");
        }
        let id = RepositoryId::new("a/b").expect("an id");
        assert_eq!((id.directory(Kind::Model).as_str(), id.name()), ("models--a--b", "b"));
    }

    #[test]
    fn a_revision_cannot_leave_its_directory() {
        for revision in ["main", "v1.0", "refs/pr/3", "refs/convert/safetensors", "a-b_c"] {
            assert!(Revision::new(revision).is_ok(), "{revision}");
        }
        for revision in ["", "../x", "a/../b", "/a", "a//b", ".git", "a b", "a\\b", "a/", "a\u{e9}", "%2e"] {
            assert_eq!(Revision::new(revision).expect_err(revision).code, "PS-CFG-001");
        }
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert!(Revision::new(commit).expect("a commit").is_commit());
    }

    #[test]
    fn names_of_files_stay_below_the_repository_on_every_system() {
        for path in
            ["config.json", "data/train-00000-of-00001.parquet", "a b.json", "ü.txt", "com.txt", ".gitattributes"]
        {
            assert!(is_safe_path(path), "{path}");
        }
        for path in [
            "",
            "..",
            "../a",
            "a/../../b",
            "/a",
            "a//b",
            "./a",
            "a/.",
            "C:/a",
            "a:b",
            "\\\\host\\share",
            "a\\..\\b",
            "nul",
            "a/CON.json",
            "lpt1.txt",
            "a\0b",
            "a\nb",
            "a. ",
            "a.",
        ] {
            assert!(!is_safe_path(path), "{path:?}");
        }
    }
}
