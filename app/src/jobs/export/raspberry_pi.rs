//! A folder for a Raspberry Pi: the model as GGUF, and scripts that prepare the board, run the model, embed, measure.

use super::{Exported, Origin};
use crate::cli::output::bytes;
use peft_models::merge_writer::copy_assets;
use peft_plan::{Fault, Result};
use std::path::Path;

/// Scripts and the like, as they are.
const FILES: [(&str, &str); 7] = [
    ("setup_pi.sh", include_str!("raspberry_pi/setup_pi.sh")),
    ("tools.sh", include_str!("raspberry_pi/tools.sh")),
    ("run_decoder.sh", include_str!("raspberry_pi/run_decoder.sh")),
    ("run_encoder.sh", include_str!("raspberry_pi/run_encoder.sh")),
    ("bench.sh", include_str!("raspberry_pi/bench.sh")),
    ("get_model.sh", include_str!("raspberry_pi/get_model.sh")),
    ("json.gbnf", include_str!("raspberry_pi/json.gbnf")),
];
/// The scripts' settings.
const SETTINGS: &str = "pi.env";
/// Most tokens of context that are reserved.
const CONTEXT: usize = 2048;
/// What llama.cpp takes beside weights and cache, bytes.
const PROGRAM: u64 = 150 << 20;
/// Bytes a second that the slowest board that is supported (a Pi 4) reads from its memory.
const BANDWIDTH: f64 = 4e9;
/// The part of that which is asked for where nobody says more.
const MINIMUM: f64 = 0.5;
/// Boards: name, memory, and what of it a model can have.
const BOARDS: [(&str, u64); 3] = [("2 GB", 1_200_000_000), ("4 GB", 2_900_000_000), ("8 GB", 6_700_000_000)];

/// Write the scripts and their settings beside `files`; what to do comes back.
pub fn raspberry_pi(origin: &Origin, files: &[Exported], folder: &Path) -> Result<Vec<String>> {
    let Some(file) = files.first() else { return Ok(Vec::new()) };
    // S1.18: programs that are not llama.cpp read these.
    copy_assets(origin.base.dir(), &origin.base.embedded_files_to_copy(), folder)?;
    for (name, text) in FILES {
        put(folder, name, text)?;
    }
    let spec = origin.base.spec();
    let context = spec.max_positions.min(CONTEXT);
    // Blocks of q8_0 have 32 numbers, and a row of the cache is a head.
    let quantized = spec.head_dim.is_multiple_of(32);
    let kind = if quantized { "q8_0" } else { "f16" };
    let numbers = 2 * spec.layers.len() * spec.n_kv_heads * spec.head_dim * context;
    let cache = if quantized { numbers as u64 * 34 / 32 } else { numbers as u64 * 2 };
    let memory = file.bytes + cache + PROGRAM;
    let board = BOARDS.iter().find(|(_, most)| memory <= *most).map(|(name, _)| *name);
    let fits = board.map_or("more memory than a board of 8 GB has".to_owned(), |name| format!("a board of {name}"));
    let name = file.path.file_name().unwrap_or_default().to_string_lossy();
    let settings = format!(
        "# Settings of the scripts in this folder.\n\
         # The model, its cache and llama.cpp take about {} together: {fits}.\n\
         MODEL='{name}'\n\
         # Cores of the board; more threads are slower.\nTHREADS=4\n\
         # Tokens of context, and tokens read at once.\nCONTEXT={context}\nBATCH={}\nUBATCH=128\n\
         # Type of the cache of keys and values.\nKV_TYPE={kind}\n\
         # A file that keeps what was read of a prompt; empty for none.\nPROMPT_CACHE=''\n\
         # A grammar that answers must keep, such as json.gbnf; empty for none.\nGRAMMAR=''\n\
         # bench.sh: tokens, repetitions, and the speeds below which it fails.\n\
         BENCH_PROMPT={}\nBENCH_GENERATE={}\nBENCH_REPEATS=5\n\
         MIN_TOKENS_PER_SECOND={:.2}\nREGRESSION=0.9\n",
        bytes(memory),
        context.min(256),
        context.min(512) / 2,
        context.min(256) / 2,
        (MINIMUM * BANDWIDTH / file.bytes.max(1) as f64).min(50.0),
    );
    put(folder, SETTINGS, &settings)?;
    let mut steps = ["copy this folder to the board", "sh setup_pi.sh", "sh run_decoder.sh", "sh bench.sh"]
        .map(str::to_owned)
        .to_vec();
    if board.is_none() {
        steps.insert(0, format!("the model needs {}, {fits}; choose a smaller type with `--quant`", bytes(memory)));
    }
    Ok(steps)
}

fn put(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    durable::write_file(&path, text.as_bytes()).map_err(|error| Fault::io("write", &path, error))
}
