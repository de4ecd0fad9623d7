//! The layout of the data directory.

use std::path::{Path, PathBuf};

/// Where things are within one data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDir {
    root: PathBuf,
}

impl DataDir {
    /// The layout below `root`, which is made absolute: paths that are stored stay valid when
    /// another process starts elsewhere.
    pub fn new(root: &Path) -> Self {
        Self { root: std::path::absolute(root).unwrap_or_else(|_| root.to_owned()) }
    }

    /// The data directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.root.join("studio.sqlite")
    }

    /// The copy of the database that is made before its schema `version` is migrated.
    pub fn backup(&self, version: usize) -> PathBuf {
        self.root.join(format!("studio.sqlite.bak-{version}"))
    }

    /// Held while the database is created or migrated.
    pub(crate) fn migration_lock(&self) -> PathBuf {
        self.root.join("studio.lock")
    }

    /// One directory per run.
    pub fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// The directory of the run `id`, where no other was chosen.
    pub fn run(&self, id: &str) -> PathBuf {
        self.runs().join(id)
    }

    /// Exported models, where no other directory was chosen.
    pub fn exports(&self) -> PathBuf {
        self.root.join("exports")
    }

    /// What belongs to the project `name`, which [`crate::Store::open_project`] has found fit for a folder.
    pub fn project(&self, name: &str) -> PathBuf {
        self.root.join("projects").join(name)
    }

    /// The rows that a project trains on: made here, or put here by hand (S2.8).
    pub fn project_data(&self, name: &str) -> PathBuf {
        self.project(name).join("data").join("sft_data.jsonl")
    }

    /// Log files.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_absolute_and_inside_the_data_directory() {
        let layout = DataDir::new(Path::new("some/where"));
        let paths = [
            layout.database(),
            layout.backup(1),
            layout.migration_lock(),
            layout.run("0123"),
            layout.exports(),
            layout.logs(),
            layout.project_data("p"),
        ];
        for path in paths {
            assert!(path.is_absolute(), "{}", path.display());
            assert!(path.starts_with(layout.root()), "{}", path.display());
        }
    }
}
