//! Faults to plant.

use crate::world::{World, base};
use peft_models::base::BaseModel;
use peft_models::train::Tokens;
use peft_plan::TargetModules;
use peft_plan::order::SplitMix;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use std::path::Path;

/// Where the first learnt token is.
pub(crate) fn answer_at(t: &Tokens) -> usize {
    t.trained.iter().position(|&x| x).unwrap_or(t.ids.len())
}

/// Answers change places.
pub(crate) fn shuffle_labels(rows: &mut [Tokens], share: f64, seed: u64) {
    let mut random = SplitMix::new(seed);
    let chosen: Vec<usize> = (0..rows.len()).filter(|_| random.unit() < share).collect();
    let old: Vec<Tokens> = rows.to_vec();
    let mut targets = chosen.clone();
    for i in (1..targets.len()).rev() {
        // Sattolo: nobody keeps their own.
        targets.swap(i, random.below(i));
    }
    for (&to, &from) in chosen.iter().zip(&targets) {
        let (a, b) = (answer_at(&old[to]), answer_at(&old[from]));
        let row = &mut rows[to];
        row.ids = old[to].ids[..a].iter().chain(&old[from].ids[b..]).copied().collect();
        row.trained = old[to].trained[..a].iter().chain(&old[from].trained[b..]).copied().collect();
    }
}

/// Learnt tokens of some rows become noise; returns which.
pub(crate) fn garble(rows: &mut [Tokens], share: f64, vocabulary: usize, seed: u64) -> Vec<u32> {
    let mut random = SplitMix::new(seed);
    let mut garbled = Vec::new();
    for row in rows.iter_mut() {
        if random.unit() < share {
            garbled.push(row.row);
            let last = row.ids.len() - 1;
            for i in 0..last {
                if row.trained[i] {
                    row.ids[i] = random.below(vocabulary) as u32;
                }
            }
        }
    }
    garbled
}

/// Some held-out rows are training rows; with `near`, but for one token.
pub(crate) fn leak(world: &mut World, share: f64, near: bool, seed: u64) {
    let mut random = SplitMix::new(seed);
    for v in &mut world.validation {
        if random.unit() < share {
            let row = v.row;
            *v = world.train[random.below(world.train.len())].clone();
            v.row = row;
            if near {
                v.ids[1] = 9 + random.below(10) as u32;
            }
        }
    }
}

/// Learn the questions instead of the answers.
pub(crate) fn invert_masks(rows: &mut [Tokens], share: f64, seed: u64) {
    let mut random = SplitMix::new(seed);
    for row in rows {
        if random.unit() < share {
            row.trained.iter_mut().for_each(|t| *t = !*t);
        }
    }
}

/// Learn nothing of an answer but its end.
pub(crate) fn mask_answers(rows: &mut [Tokens], share: f64, seed: u64) {
    let mut random = SplitMix::new(seed);
    for row in rows {
        if random.unit() < share {
            let last = row.trained.iter().rposition(|&t| t).unwrap_or(0);
            row.trained.iter_mut().enumerate().for_each(|(i, t)| *t = i == last);
        }
    }
}

/// Every answer is the same.
pub(crate) fn same_answers(rows: &mut [Tokens]) {
    let answer = rows[0].ids[answer_at(&rows[0])..].to_vec();
    for row in rows {
        let at = answer_at(row);
        row.ids.truncate(at);
        row.ids.extend(&answer);
        row.trained.truncate(at);
        row.trained.resize(row.ids.len(), true);
    }
}

/// An adapter to start from that has exploded.
pub(crate) fn exploded_adapter(world: &World, size: f32, folder: &Path) {
    use peft_models::adapter::NamedTensors;
    use peft_models::peft_format::{AdapterConfig, write_adapter};
    let mut random = SplitMix::new(3);
    let mut normal = |scale: f32| scale * ((0..12).map(|_| random.unit()).sum::<f64>() - 6.0) as f32;
    let mut tensors = NamedTensors::new();
    let spec = world.base.spec();
    for layer in 0..spec.layers.len() {
        for module in &spec.modules {
            let name = format!("base_model.model.model.layers.{layer}.{}", module.name);
            let a = (0..8 * module.in_features).map(|_| normal(0.1)).collect();
            let b = (0..8 * module.out_features).map(|_| normal(size)).collect();
            tensors.insert(format!("{name}.lora_A.weight"), (vec![8, module.in_features], a));
            tensors.insert(format!("{name}.lora_B.weight"), (vec![module.out_features, 8], b));
        }
    }
    let targets = spec.modules.iter().map(|m| m.name.rsplit('.').next().unwrap_or("").to_owned()).collect();
    let config = AdapterConfig::new(8, 16.0, TargetModules::List(targets));
    write_adapter(folder, &config, &tensors).expect("written");
}

/// `model` in `folder`, changed so that what follows `token` in a row is beyond what numbers can carry, and nothing else
/// is: one coordinate of the residual stream belongs to this token alone, and the first MLP blows it up. Adapters may
/// only be on `down_proj`, so that nothing else learns to write there.
pub(crate) fn overflowing_token(model: &str, folder: &Path, token: u32) -> BaseModel {
    let hidden = base(model).spec().hidden_size;
    altered(model, folder, &|name, shape, values| {
        if name.contains("embed_tokens") {
            values.iter_mut().step_by(hidden).for_each(|v| *v = 0.0);
            let own = token as usize * hidden;
            values[own..own + hidden].fill(0.0);
            values[own] = 1.0;
        } else if name.contains("o_proj") || name.contains("down_proj") {
            values[..shape[1]].fill(0.0);
        } else if name.contains("layers.0.mlp.gate_proj") || name.contains("layers.0.mlp.up_proj") {
            values.iter_mut().step_by(hidden).for_each(|v| *v = 1e30);
        }
    })
}

/// Changes the values of a tensor, given its name and shape.
type Change<'c> = dyn Fn(&str, &[usize], &mut [f32]) + 'c;

/// The model in `folder`, with the values of some tensors changed.
pub(crate) fn altered(model: &str, folder: &Path, change: &Change) -> BaseModel {
    std::fs::create_dir_all(folder).expect("created");
    let bytes: Vec<u8> = if model == "starter" {
        use peft_starter::embedded;
        for (name, content) in [
            ("config.json", embedded::CONFIG),
            ("tokenizer.json", embedded::TOKENIZER),
            ("tokenizer_config.json", embedded::TOKENIZER_CONFIG),
            ("generation_config.json", embedded::GENERATION_CONFIG),
        ] {
            std::fs::write(folder.join(name), content).expect("written");
        }
        embedded::WEIGHTS.to_vec()
    } else {
        let from = base(model).dir().expect("a folder").to_owned();
        for entry in std::fs::read_dir(&from).expect("readable") {
            let path = entry.expect("readable").path();
            std::fs::copy(&path, folder.join(path.file_name().expect("a name"))).expect("copied");
        }
        std::fs::read(from.join("model.safetensors")).expect("readable")
    };
    let file = SafeTensors::deserialize(&bytes).expect("a good file");
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, view) in file.tensors() {
        let mut values: Vec<f32> = match view.dtype() {
            safetensors::Dtype::BF16 => {
                view.data().chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
            }
            safetensors::Dtype::F32 => {
                view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
            }
            safetensors::Dtype::F16 => {
                view.data().chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
            }
            other => panic!("{other:?}"),
        };
        change(&name, view.shape(), &mut values);
        tensors.push((name.clone(), view.shape().to_vec(), values.iter().flat_map(|v| v.to_le_bytes()).collect()));
    }
    let views = tensors.iter().map(|(name, shape, data)| {
        (name.clone(), TensorView::new(safetensors::Dtype::F32, shape.clone(), data).expect("the same shape"))
    });
    let written = safetensors::serialize(views, None).expect("serialised");
    std::fs::write(folder.join("model.safetensors"), written).expect("written");
    BaseModel::open(model, folder).expect("it opens")
}
