//! The run that needs nothing: the built-in model on the sample data, an invented cafe.

use super::model::STARTER;
use peft_plan::{Fault, Result, RunConfig};
use std::path::Path;

/// The run's settings; the recipe and its reasons are in `models/starter/README.md`.
pub const RECIPE: &str = include_str!("../../../models/starter/data/quickstart.json");

/// Its configuration. The sample data is written into the data directory.
pub fn config(data_dir: &Path) -> Result<RunConfig> {
    let mut config = RunConfig::from_json(RECIPE)?;
    config.name = Some("quickstart".to_owned());
    config.model.id = Some(STARTER.to_owned());
    config.dataset.path = Some(sample_data(data_dir)?.display().to_string());
    Ok(config)
}

/// The sample data as a file.
pub fn sample_data(data_dir: &Path) -> Result<std::path::PathBuf> {
    let samples = data_dir.join("samples");
    let data = samples.join("cafe.jsonl");
    let io = |e| Fault::io("write the sample dataset to", &data, e);
    durable::create_directories(&samples).map_err(io)?;
    durable::write_file(&data, peft_starter::sample_rows_jsonl().as_bytes()).map_err(io)?;
    Ok(data)
}
