//! An adapter as a GGUF file, for programs that put it onto a base they have.

use super::architecture::{Architecture, source_row};
use super::{Layout, Metadata, Planned};
use crate::adapter::{AdapterSource, spec_of_file};
use crate::peft_format::AdapterFile;
use durable::Digest;
use peft_kernels::quant::GgmlType;
use peft_plan::{Fault, ModelSpec, Result};
use std::path::Path;

/// Why `adapter` cannot be a file of its own, if it cannot: it has to be merged.
pub fn obstacle(adapter: &AdapterFile) -> Option<&'static str> {
    if adapter.config.use_dora {
        return Some("it is a DoRA adapter, and GGUF has no place for its magnitudes");
    }
    if !adapter.config.saved_names().is_empty() {
        return Some("it holds whole modules beside the adapters, and GGUF has no place for those");
    }
    None
}

/// Write `adapter`, made for a model of `spec`, to `path`.
///
/// The scale that readers compute is `alpha / rank`, so what the adapter's settings make of it (rsLoRA, another alpha
/// for some modules) goes into alpha and into the second matrices.
pub fn write_lora(path: &Path, spec: &ModelSpec, adapter: &AdapterFile, about: &Metadata) -> Result<Digest> {
    if let Some(why) = obstacle(adapter) {
        return Err(Fault::new("PS-GGUF-001", format!("The adapter cannot be a GGUF file of its own: {why}")).action(
            "Export base and adapter as one model",
            Some("peft-studio export RUN --to gguf --out DIR".to_owned()),
        ));
    }
    let architecture = Architecture::of(spec)?;
    let source = AdapterSource::File { spec: spec_of_file(adapter), file: adapter };
    let mut tensors = Vec::new();
    let mut contents: Vec<Vec<f32>> = Vec::new();
    let mut alpha = None;
    let names = architecture.tensors(spec, false);
    for i in 0..spec.layers.len() {
        for module in spec.target_modules(i) {
            let path = format!("model.layers.{i}.{}", module.name);
            let Some(values) = source.values(&path, module.out_features, module.in_features)? else { continue };
            let canonical = format!("{path}.weight");
            let Some(named) = names.iter().find(|named| named.canonical == canonical) else { continue };
            let rank = values.rank;
            let alpha = *alpha.get_or_insert(values.scaling * rank as f64);
            let factor = if alpha == 0.0 { 0.0 } else { values.scaling * rank as f64 / alpha };
            let mut b = Vec::with_capacity(values.b.len());
            for row in 0..module.out_features {
                let row = source_row(named.change, module.out_features, row);
                b.extend(values.b[row * rank..(row + 1) * rank].iter().map(|x| (f64::from(*x) * factor) as f32));
            }
            let shapes = [vec![rank, module.in_features], vec![module.out_features, rank]];
            for (end, shape) in ["lora_a", "lora_b"].into_iter().zip(shapes) {
                tensors.push(Planned::new(format!("{}.{end}", named.name), GgmlType::F32, shape)?);
            }
            contents.push(values.a);
            contents.push(b);
        }
    }
    let Some(alpha) = alpha else {
        return Err(Fault::new(
            "PS-CFG-003",
            "The adapter's modules match nothing in this model; is it an adapter of another one?",
        ));
    };
    let mut said = Metadata::default();
    said.set("general.architecture", architecture.name);
    said.set("general.type", "adapter");
    for (key, value) in about.iter() {
        said.set(key, value.clone());
    }
    said.set("adapter.type", "lora");
    said.set("adapter.lora.alpha", alpha as f32);
    let layout = Layout::new(&said, tensors)?;
    layout.write_floats(path, &contents).map_err(|error| Fault::io("write the adapter to", path, error))
}
