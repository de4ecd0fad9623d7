//! Whether the weights suit the architecture, asked before a run starts and not in its middle.

use super::Checkpoint;
use peft_plan::{Fault, Result};

/// A tensor that the architecture needs.
struct Need {
    name: String,
    /// One dimension for a vector, two for a matrix that may also be in 4 bits.
    shape: Vec<usize>,
}

impl Checkpoint {
    /// Every tensor that the architecture needs is there, in its shape and in a type that is read.
    pub fn check(&self) -> Result<()> {
        let needs = self.needs();
        let absent: Vec<&Need> = needs.iter().filter(|need| !self.has(&need.name)).collect();
        if let Some(first) = absent.first() {
            return Err(self.absent(&first.name, absent.len()));
        }
        needs.iter().try_for_each(|need| self.check_one(need))?;
        let sparse = (0..self.spec().layers.len()).filter(|&i| self.spec().layers[i].sparse);
        sparse.into_iter().try_for_each(|i| self.experts(i).map(drop))
    }

    fn needs(&self) -> Vec<Need> {
        let spec = self.spec();
        let need = |name: String, shape: &[usize]| Need { name, shape: shape.to_vec() };
        let matrix = [spec.vocab_size, spec.hidden_size];
        let mut needs = vec![need("model.embed_tokens.weight".to_owned(), &matrix)];
        for i in 0..spec.layers.len() {
            let name = |rest: &str| format!("model.layers.{i}.{rest}");
            needs.extend(
                spec.block_norms().iter().map(|norm| need(name(&format!("{norm}.weight")), &[spec.hidden_size])),
            );
            if let Some((q, k)) = spec.qk_norm_widths() {
                needs.push(need(name("self_attn.q_norm.weight"), &[q]));
                needs.push(need(name("self_attn.k_norm.weight"), &[k]));
            }
            if spec.sinks {
                needs.push(need(name("self_attn.sinks"), &[spec.n_heads]));
            }
            if let Some(experts) = spec.experts.as_ref().filter(|_| spec.layers[i].sparse) {
                needs.push(need(name(&format!("{}.weight", experts.router)), &[experts.count, spec.hidden_size]));
                if experts.bias {
                    needs.push(need(name(&format!("{}.bias", experts.router)), &[experts.count]));
                }
            }
            for module in spec.layer_modules(i) {
                needs.push(need(name(&format!("{}.weight", module.name)), &[module.out_features, module.in_features]));
                if module.bias {
                    needs.push(need(name(&format!("{}.bias", module.name)), &[module.out_features]));
                }
            }
        }
        needs.push(need("model.norm.weight".to_owned(), &[spec.hidden_size]));
        // A tied model may carry a copy of the head; the configuration decides, and the copy is not read.
        if !spec.tied {
            needs.push(need("lm_head.weight".to_owned(), &matrix));
        }
        needs
    }

    fn check_one(&self, need: &Need) -> Result<()> {
        let Some(tensor) = self.tensor(&need.name) else { return Err(self.absent(&need.name, 1)) };
        let found = if need.shape.len() == 1 {
            tensor.float()?;
            tensor.shape.clone()
        } else {
            let (rows, cols) = self.frozen(&need.name)?.shape();
            vec![rows, cols]
        };
        if found == need.shape {
            return Ok(());
        }
        let how = format!("config.json describes it as {:?} and it is {found:?}", need.shape);
        Err(tensor.damaged(&how))
    }

    /// A fault for a tensor that is not there, by what is there instead.
    fn absent(&self, name: &str, count: usize) -> Fault {
        let stem = name.strip_suffix(".weight").unwrap_or(name);
        let packed = |kind: &str| {
            let detail = format!(
                "This is {kind} checkpoint. Its weights are packed for inference and cannot be fine-tuned here. \
                 Choose the original model it was made from, or a bitsandbytes 4-bit build."
            );
            Fault::new("PS-MODEL-002", detail)
        };
        if self.has(&format!("{stem}.qweight")) {
            return packed(if self.has(&format!("{stem}.g_idx")) { "a GPTQ" } else { "an AWQ" });
        }
        let others = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
        let why = if name == "lm_head.weight" {
            " config.json says that the output head is a matrix of its own (`tie_word_embeddings` is false or absent)."
        } else {
            ""
        };
        Fault::new("PS-MODEL-003", format!("The weight files lack the tensor `{name}`{others}.{why}"))
    }
}
