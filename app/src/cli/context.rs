//! What every command knows: how to answer, where things are kept, what to compute with.

use super::args::GlobalArgs;
use peft_models::engine::Engine;
use peft_plan::Fault;
use peft_storage::Store;
use std::path::{Path, PathBuf};

/// The environment variable that names the data directory.
const HOME: &str = "PEFT_STUDIO_HOME";

/// What every command knows.
#[derive(Clone, Debug)]
pub struct Context {
    /// Answer in JSON.
    pub json: bool,
    /// Where runs and their history are kept, absolute.
    pub data_dir: PathBuf,
    /// What was asked for with `--backend`: `auto`, `cpu`, `cuda` or `cuda:N`.
    pub backend: String,
    /// Threads of the processor.
    pub threads: usize,
    /// The network was forbidden with `--offline`.
    pub offline: bool,
}

impl Context {
    /// From the options of the command line and the environment.
    pub fn new(global: &GlobalArgs) -> Result<Self, Fault> {
        let GlobalArgs { json, data_dir, backend, threads, offline, no_graphs, no_cublaslt } = global;
        if *no_graphs {
            Engine::without_graphs();
        }
        if *no_cublaslt {
            Engine::without_library();
        }
        let data_dir = data_directory(data_dir.as_deref())?;
        crate::jobs::trials::install(&data_dir);
        Ok(Self {
            json: *json,
            data_dir,
            backend: backend.clone(),
            threads: threads.unwrap_or_else(default_threads),
            offline: *offline,
        })
    }

    /// Opens the database of the data directory.
    pub fn store(&self) -> Result<Store, Fault> {
        Store::open(&self.data_dir)
    }
}

fn data_directory(given: Option<&Path>) -> Result<PathBuf, Fault> {
    let from_environment = || std::env::var_os(HOME).filter(|home| !home.is_empty()).map(PathBuf::from);
    let usual =
        || directories::ProjectDirs::from("", "", "peft-studio").map(|directories| directories.data_dir().to_owned());
    let chosen = given.map(Path::to_owned).or_else(from_environment).or_else(usual).ok_or_else(|| {
        let detail = format!("This account has no home folder; name a folder for runs with `--data-dir` or `{HOME}`.");
        Fault::new("PS-FILE-001", detail)
    })?;
    Ok(std::path::absolute(&chosen).unwrap_or(chosen))
}

/// One for each physical core: two threads on one core share its arithmetic units. Fewer where the
/// system gives this process fewer.
fn default_threads() -> usize {
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    sysinfo::System::physical_core_count().map_or(available, |cores| cores.clamp(1, available))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_directory_that_was_named_wins_and_is_absolute() {
        let directory = data_directory(Some(Path::new("some/where"))).expect("named");
        assert!(directory.is_absolute() && directory.ends_with("some/where"));
    }
}
