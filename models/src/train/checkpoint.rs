//! The full state of a run on disk, whole or not at all (B2, S4.13.4).
//!
//! A checkpoint directory holds `parameters.safetensors`, `moments.safetensors`, `state.json` and a manifest with
//! hashes. There is no random state: order and dropout are pure functions of seed and step.

use super::guard::GuardState;
use super::moments::{self, Part, Stored};
use crate::adapter::NamedTensors;
use crate::decoder::{Decoder, Param};
use crate::fault::device;
use crate::peft_format::read_tensors;
use peft_kernels::Backend;
use peft_plan::{Fault, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Everything of a run that is not a tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Optimizer steps done.
    pub step: u64,
    /// Trained tokens so far.
    pub tokens: u64,
    /// Active time so far.
    pub seconds: f64,
    /// Loss of the last step.
    pub loss: f64,
    /// Held-out loss of the last evaluation.
    pub validation_loss: Option<f64>,
    /// Step and loss of the best evaluation.
    pub best: Option<(u64, f64)>,
    /// Evaluations since the best one.
    pub evaluations_without_gain: u32,
    /// What must be the same for the bits to be the same: plan, data, base, backend.
    pub fingerprint: BTreeMap<String, String>,
    /// What the guard saw and did.
    #[serde(default)]
    pub guard: GuardState,
}

/// Where the checkpoints of a run are.
pub fn directory(run: &Path) -> PathBuf {
    run.join("checkpoints")
}

/// Where the checkpoint of `step` is.
pub fn path(run: &Path, step: u64) -> PathBuf {
    directory(run).join(format!("step-{step}"))
}

/// Where the state before the first step is, while a run has no checkpoint to go back to. No run goes on from it by
/// itself: a run that is killed so early begins again.
pub fn start_path(run: &Path) -> PathBuf {
    directory(run).join("start")
}

/// Write the state of `decoder`; returns the directory and its size in bytes.
pub fn save<B: Backend>(run: &Path, decoder: &mut Decoder<B>, state: &RunState) -> Result<(PathBuf, u64)> {
    let target = if state.step == 0 { start_path(run) } else { path(run, state.step) };
    let io = |e| Fault::io("save the checkpoint", &target, e);
    durable::create_directories(&directory(run)).map_err(io)?;
    let be = decoder.be.clone();
    let mut params = decoder.params_mut();
    // Before the first step all moments are nothing.
    let has_moments = state.step > 0;
    for p in params.iter_mut().filter(|_| has_moments) {
        p.optimizer_state(&be).map_err(device)?;
    }
    // One tensor at a time: a run that fits in memory must also fit while it is saved.
    let params: Vec<&Param<B>> = params.into_iter().map(|p| &*p).collect();
    let values: Vec<Stored<B>> = (params.iter())
        .map(|p| Stored { name: p.name.clone(), shape: p.file_shape(), part: Part::Floats(&p.value) })
        .collect();
    let states: Vec<Stored<B>> = params.iter().filter(|_| has_moments).flat_map(|p| moments::parts(p)).collect();
    let json = serde_json::to_vec_pretty(state).expect("the state is plain data");
    let manifest = durable::replace_directory(&target, |writer| {
        writer.file("parameters.safetensors", |f| moments::write(&be, f, &values))?;
        writer.file("moments.safetensors", |f| moments::write(&be, f, &states))?;
        writer.file("state.json", |f| f.write_all(&json))
    })
    .map_err(io)?;
    Ok((target, manifest.bytes()))
}

/// Steps that have a checkpoint directory, newest first.
pub fn steps(run: &Path) -> Vec<u64> {
    let Ok(entries) = std::fs::read_dir(directory(run)) else { return Vec::new() };
    let mut steps: Vec<u64> =
        entries.filter_map(|e| e.ok()?.file_name().to_str()?.strip_prefix("step-")?.parse().ok()).collect();
    steps.sort_unstable_by(|a, b| b.cmp(a));
    steps
}

/// The newest checkpoint that is whole, and how many damaged ones were passed over.
pub fn newest_good(run: &Path) -> Result<(Option<RunState>, usize)> {
    durable::remove_leftovers(&directory(run)).or_else(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(Fault::io("tidy", &directory(run), e)),
    })?;
    let mut damaged = 0;
    for step in steps(run) {
        match read_state(&path(run, step)) {
            Ok(state) if state.step == step => return Ok((Some(state), damaged)),
            _ => damaged += 1,
        }
    }
    Ok((None, damaged))
}

/// The state in the checkpoint of `step`, if that is whole.
pub fn read(run: &Path, step: u64) -> Result<RunState> {
    read_state(&path(run, step))
}

fn read_state(path: &Path) -> Result<RunState> {
    let damaged =
        |what: String| Fault::new("PS-CKPT-001", format!("The checkpoint `{}` is damaged: {what}", path.display()));
    durable::verify_directory(path).map_err(|d| damaged(d.to_string()))?;
    let text = std::fs::read(path.join("state.json")).map_err(|e| Fault::io("read", &path.join("state.json"), e))?;
    serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))
}

/// Put the tensors of checkpoint `step` into `decoder`.
pub fn restore<B: Backend>(run: &Path, decoder: &mut Decoder<B>, step: u64) -> Result<RunState> {
    let from = if step == 0 { start_path(run) } else { path(run, step) };
    let state = read_state(&from)?;
    let parameters = read_tensors(&from.join("parameters.safetensors"))?;
    let states = moments::Moments::read(&from.join("moments.safetensors"))?;
    let be = decoder.be.clone();
    let mut used = 0;
    for p in decoder.params_mut() {
        let shape = p.file_shape();
        let find = |tensors: &NamedTensors, name: &str| match tensors.get(name) {
            Some((s, data)) if *s == shape => Ok(data.clone()),
            _ => Err(Fault::new(
                "PS-CKPT-002",
                format!("The checkpoint does not hold `{name}` in the shape that the run needs"),
            )),
        };
        be.upload(&mut p.value, &find(&parameters, &p.name)?).map_err(device)?;
        if step == 0 {
            p.forget_moments(&be).map_err(device)?;
        } else {
            states.put(&be, p)?;
        }
        used += 1;
    }
    if used != parameters.len() {
        return Err(Fault::new("PS-CKPT-002", "The checkpoint holds tensors that the run does not train"));
    }
    decoder.prepare().map_err(device)?;
    Ok(state)
}

/// Delete full states beyond the newest `keep`, never fewer than one, and beyond the two newest that a guard can go
/// back to: those after a multiple of `anchor` steps. `newest` was just saved: whatever claims to be newer was damaged
/// and passed over, and must not count. Nothing is deleted before `newest` has been read back.
pub fn prune(run: &Path, newest: u64, keep: usize, anchor: u64) -> Result<Vec<u64>> {
    let (damaged, good): (Vec<u64>, Vec<u64>) = steps(run).into_iter().partition(|&step| step > newest);
    let anchors: Vec<u64> = good.iter().copied().filter(|step| step.is_multiple_of(anchor.max(1))).take(2).collect();
    let beyond = good.into_iter().skip(keep.max(1)).filter(|step| !anchors.contains(step));
    let old: Vec<u64> = damaged.into_iter().chain(beyond).collect();
    if !old.is_empty() {
        let path = path(run, newest);
        durable::verify_directory(&path).map_err(|d| {
            Fault::new(
                "PS-DISK-003",
                format!("The checkpoint `{}` was written and cannot be read back: {d}", path.display()),
            )
        })?;
    }
    old.iter().try_for_each(|&step| remove(&path(run, step)))?;
    Ok(old)
}

/// Delete the states after `step`: the run goes on from there in another way. The newest goes first, so that what a
/// crash leaves is a story without a gap.
pub fn forget_after(run: &Path, step: u64) -> Result<()> {
    steps(run).into_iter().filter(|&later| later > step).try_for_each(|later| {
        remove(&path(run, later))?;
        let small = run.join("adapters").join(format!("step-{later}.safetensors"));
        match std::fs::remove_file(&small) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Fault::io("delete", &small, e)),
            _ => Ok(()),
        }
    })
}

/// Delete the state before the first step, if it is there.
pub fn forget_start(run: &Path) -> Result<()> {
    let path = start_path(run);
    if path.exists() { remove(&path) } else { Ok(()) }
}

fn remove(path: &Path) -> Result<()> {
    std::fs::remove_dir_all(path).map_err(|e| Fault::io("delete", path, e))
}
