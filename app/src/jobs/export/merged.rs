//! Base and adapter as a complete model in safetensors.

use super::{STOPPING, room};
use crate::cli::{interrupt, output};
use durable::{Manifest, part_path};
use peft_models::base::BaseModel;
use peft_models::engine::{Engine, MergeOptions};
use peft_models::peft_format::AdapterFile;
use peft_plan::Result;
use std::ops::ControlFlow;
use std::path::Path;

/// Write base and adapter into the folder `out`. `None`: the person had enough, and the same command goes on.
pub fn merged(
    engine: &Engine,
    base: &BaseModel,
    adapter: Option<&AdapterFile>,
    options: &MergeOptions,
    out: &Path,
) -> Result<Option<Manifest>> {
    interrupt::install_saying(STOPPING);
    let growing = part_path(out);
    let kept = crate::jobs::disposal::size(&growing);
    room(out, engine.merged_bytes(base, adapter, options)?.saturating_sub(kept))?;
    if kept > 0 {
        output::note(&format!("Going on with {}, {} of it are there", growing.display(), output::bytes(kept)));
    }
    engine.merge_unless(base, adapter, options, out, &mut |_, _| {
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
}
