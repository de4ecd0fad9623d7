//! The certificate: twelve faults in exports are caught, sound ones are not accused (B4).

use crate::world::{FAMILIES, adapter, engine, layout, model, render, written};
use peft_kernels::quant::GgmlType;
use peft_models::base::BaseModel;
use peft_models::engine::Engine;
use peft_models::export::certificate::{Certificate, Reference};
use peft_models::export::gguf::architecture::{Change, file_row};
use peft_models::export::gguf::write::{Source, Written};
use peft_models::export::gguf::{Array, File, FileType, Layout, Metadata, Planned, Value};
use peft_models::peft_format::AdapterFile;
use std::path::Path;

const ROWS: usize = 2;
/// Within the window of the Mistral of the fixtures: llama.cpp has none.
const TOKENS: u32 = 8;

fn certify(engine: &Engine, base: &BaseModel, adapter: &AdapterFile, written: &Written) -> Certificate {
    let about = Metadata::default();
    let layout = layout(base);
    let source =
        Source { base, adapter: Some(adapter), quantize: None, layout: Some(&layout), about: &about, importance: None };
    let render = render(base);
    let row = |k: u32| (0..TOKENS).map(|i| (i * 31 + k * 7 + 3) % base.spec().vocab_size as u32).collect();
    let rows: Vec<Vec<u32>> = (0..ROWS as u32).map(row).collect();
    let reference = Reference { source, render: Some(&render), rows: &rows, sample: None };
    engine.certify(&reference, written).expect("a certificate")
}

#[test]
fn sound_exports_of_every_family_and_type_pass_b4() {
    let engine = engine();
    for family in FAMILIES {
        let home = tempfile::tempdir().expect("a folder");
        let base = model(family, &home);
        let adapter = adapter(&base, 4, 8.0, false, 11);
        for file_type in FileType::all() {
            let path = home.path().join(format!("{}.gguf", file_type.name()));
            let written = written(&engine, &base, Some(&adapter), Some(&layout(&base)), file_type, &path);
            let found = certify(&engine, &base, &adapter, &written);
            assert!(found.passed(), "{family} {}: {}", file_type.name(), found.failures());
            let divergence = found.divergence.expect("it was run");
            assert!(divergence.tokens == ROWS * TOKENS as usize && divergence.kl.is_finite());
        }
    }
}

/// A file in parts.
struct Parts {
    metadata: Metadata,
    tensors: Vec<(String, GgmlType, Vec<usize>, Vec<u8>)>,
}

impl Parts {
    fn of(path: &Path) -> Self {
        let file = File::open(path).expect("a file");
        let tensor = |t: &peft_models::export::gguf::Tensor| {
            (t.name.clone(), t.kind, t.shape.clone(), t.bytes.as_slice().to_vec())
        };
        Self { metadata: file.metadata().clone(), tensors: file.tensors().iter().map(tensor).collect() }
    }

    fn tensor(&mut self, name: &str) -> &mut (String, GgmlType, Vec<usize>, Vec<u8>) {
        self.tensors.iter_mut().find(|t| t.0 == name).expect("a tensor")
    }

    fn without(&mut self, keys: &[&str]) {
        let mut kept = Metadata::default();
        for (key, value) in self.metadata.iter().filter(|(key, _)| !keys.contains(key)) {
            kept.set(key, value.clone());
        }
        self.metadata = kept;
    }

    fn write(&self, path: &Path, file_type: FileType) -> Written {
        let plan = self.tensors.iter().map(|(name, kind, shape, _)| Planned::new(name, *kind, shape.clone()));
        let layout = Layout::new(&self.metadata, plan.collect::<Result<_, _>>().expect("tensors")).expect("a layout");
        let digest = durable::write_file_with(path, |out| {
            layout.begin(out)?;
            for (tensor, (.., bytes)) in layout.tensors().iter().zip(&self.tensors) {
                out.write_all(bytes)?;
                layout.pad(out, tensor)?;
            }
            Ok(())
        })
        .expect("written");
        Written { path: path.to_owned(), file_type, digest }
    }
}

type Edit = fn(&mut Parts);

/// Faults of the file: name, how it is made, which checks may say so.
const FAULTS: [(&str, Edit); 9] = [
    ("double begin token", |parts| {
        let template = parts.metadata.text("tokenizer.chat_template").expect("a template").to_owned();
        parts.metadata.set("tokenizer.chat_template", format!("{{{{ bos_token }}}}{template}"));
    }),
    ("wrong end token", |parts| {
        parts.metadata.set("tokenizer.ggml.eos_token_id", 7u32);
        parts.without(&["tokenizer.ggml.eot_token_id"]);
    }),
    ("padded vocabulary", |parts| {
        let mut tokens = parts.metadata.strings("tokenizer.ggml.tokens").expect("tokens").to_vec();
        tokens.extend((0..8).map(|i| format!("[MORE{i}]")));
        parts.metadata.set("tokenizer.ggml.tokens", Array::Strings(tokens));
    }),
    ("missing permutation", |parts| {
        let (_, _, shape, bytes) = parts.tensor("blk.1.attn_q.weight");
        let size = bytes.len() / shape[0];
        let change = Change::Interleave { heads: 4 };
        let order = (0..shape[0]).flat_map(|row| {
            let at = file_row(change, shape[0], row) * size;
            bytes[at..at + size].to_vec()
        });
        *bytes = order.collect();
    }),
    ("missing stop", |parts| parts.without(&["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"])),
    ("swapped norms", |parts| {
        let first = parts.tensor("blk.0.attn_norm.weight").3.clone();
        let second = std::mem::replace(&mut parts.tensor("blk.0.ffn_norm.weight").3, first);
        parts.tensor("blk.0.attn_norm.weight").3 = second;
    }),
    ("wrong rotary base", |parts| parts.metadata.set("llama.rope.freq_base", 10_500.0f32)),
    ("wrong template", |parts| {
        let template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '<|eot_id|>' }}{% endfor %}";
        parts.metadata.set("tokenizer.chat_template", template);
    }),
    ("wrong way to split", |parts| parts.metadata.set("tokenizer.ggml.pre", Value::from("gpt-2"))),
];

#[test]
fn twelve_faults_are_caught_b4() {
    let engine = engine();
    let home = tempfile::tempdir().expect("a folder");
    let base = model("llama", &home);
    let tuned = adapter(&base, 4, 8.0, true, 11);
    let layout = layout(&base);
    for file_type in [FileType::Q8_0, FileType::Q4_0] {
        let path = |name: &str| home.path().join(format!("{}-{}.gguf", name.replace(' ', "-"), file_type.name()));
        let sound = written(&engine, &base, Some(&tuned), Some(&layout), file_type, &path("sound"));
        let found = certify(&engine, &base, &tuned, &sound);
        assert!(found.passed(), "{}", found.failures());
        for (name, edit) in FAULTS {
            let mut parts = Parts::of(&sound.path);
            edit(&mut parts);
            let found = certify(&engine, &base, &tuned, &parts.write(&path(name), file_type));
            assert!(!found.passed(), "{name} in {} was not caught", file_type.name());
        }

        // A tensor that is not all there, under the name of the whole file.
        let mut cut = std::fs::read(&sound.path).expect("read");
        cut.truncate(cut.len() - 300);
        let place = path("truncated tensor");
        durable::write_file(&place, &cut).expect("written");
        let digest = durable::sha256_file(&place).expect("read");
        let found = certify(&engine, &base, &tuned, &Written { path: place, file_type, digest });
        assert!(!found.passed() && found.failures().contains("cut short"), "{}", found.failures());

        // Another adapter than the one that is meant: its scale without the root, and an older one.
        let mut plain = tuned.clone();
        plain.config.use_rslora = false;
        for (name, other) in [("scale of rsLoRA", plain), ("stale adapter", adapter(&base, 4, 8.0, true, 12))] {
            let wrong = written(&engine, &base, Some(&other), Some(&layout), file_type, &path(name));
            let found = certify(&engine, &base, &tuned, &wrong);
            assert!(!found.passed(), "{name} in {} was not caught", file_type.name());
        }
    }
}
