//! Which rows and which tensor are to blame for a step that is not finite. Slow: each row alone, once more.

use super::{Tokens, batch_of};
use crate::decoder::{Activations, Decoder};
use crate::fault::device;
use peft_kernels::Backend;
use peft_plan::Result;
use peft_plan::findings::Broken;
use peft_plan::order::StepBatches;

/// Look for what is broken in the step `batches`. Gradients hold nothing of use afterwards.
pub(super) fn blame<B: Backend>(
    decoder: &mut Decoder<B>,
    acts: &mut Activations<B>,
    examples: &[Tokens],
    batches: &StepBatches,
    dropout: (u64, u64),
) -> Result<Broken> {
    let rows: Vec<usize> = batches.iter().flatten().copied().collect();
    let mut broken = Broken { of: rows.len(), ..Broken::default() };
    if let Some(name) = broken_parameter(decoder)? {
        // Nothing that a broken model says of a row can be held against the row.
        broken.tensor = Some(format!("the parameter `{name}`"));
        broken.rows = rows.iter().map(|&i| examples[i].row).collect();
        broken.loss = true;
        return Ok(broken);
    }
    if rows.iter().any(|&i| examples[i].pair.is_some()) {
        // Two answers that are compared are not to blame one by one.
        broken.loss = true;
        return Ok(broken);
    }
    let be = decoder.be.clone();
    for &index in &rows {
        for p in decoder.params_mut() {
            p.zero_grad(&be).map_err(device)?;
        }
        let batch = batch_of(examples, &[index]);
        let scale = 1.0 / batch.trained_tokens().max(1) as f32;
        let scores = decoder.train_pass(acts, &batch, scale, dropout).map_err(device)?;
        let tensor = if scores.total_loss().is_finite() {
            broken_gradient(decoder)?.map(|name| format!("the gradient of `{name}`"))
        } else {
            broken.loss = true;
            let output = decoder.first_broken_output(acts).map_err(device)?;
            Some(output.unwrap_or_else(|| "the logits".to_owned()))
        };
        if let Some(tensor) = tensor {
            broken.rows.push(examples[index].row);
            broken.tensor.get_or_insert(tensor);
        }
    }
    Ok(broken)
}

fn broken_parameter<B: Backend>(decoder: &mut Decoder<B>) -> Result<Option<String>> {
    let be = decoder.be.clone();
    for p in decoder.params_mut() {
        if be.download(&p.value).map_err(device)?.iter().any(|v| !v.is_finite()) {
            return Ok(Some(p.name.clone()));
        }
    }
    Ok(None)
}

/// The highest gradient that is broken: what is wrong comes down from there.
fn broken_gradient<B: Backend>(decoder: &mut Decoder<B>) -> Result<Option<String>> {
    let be = decoder.be.clone();
    let mut highest = None;
    for p in decoder.params_mut() {
        let name = p.name.clone();
        if let Some(grad) = p.grad()
            && be.download(grad).map_err(device)?.iter().any(|v| !v.is_finite())
        {
            highest = Some(name);
        }
    }
    Ok(highest)
}
