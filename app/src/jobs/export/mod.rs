//! Trained models as GGUF files, alone and for the programs that run them: written, checked, and described.

pub mod card;
pub mod hub;
mod license;
mod merged;
pub mod origin;
mod raspberry_pi;
pub mod sizes;
mod targets;
mod tensorrt;
pub mod weighing;

pub use merged::merged;
pub use origin::Origin;
pub use raspberry_pi::raspberry_pi;
pub use targets::{Registered, lm_studio_folder, lora, ollama, register, turn_layout};
pub use tensorrt::tensorrt;

use crate::cli::output::bytes;
use crate::cli::{interrupt, output};
use crate::jobs::hardware::free_space;
use durable::{create_directories, part_bytes};
use peft_models::engine::Engine;
use peft_models::export::certificate::{Certificate, Reference};
use peft_models::export::gguf::vocabulary::ChatLayout;
use peft_models::export::gguf::write::{Source, Unnamed, Written};
use peft_models::export::gguf::{FileType, Metadata};
use peft_plan::{Fault, Result, Role, Turn};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Bytes that must stay free beside the files.
const SPARE_BYTES: u64 = 16 << 20;

/// What a first Ctrl-C is answered with.
const STOPPING: &str = "\nStopping; the same command goes on from here. Press Ctrl-C again to stop at once";

/// A file that was exported.
#[derive(Clone, Debug)]
pub struct Exported {
    /// Where it is.
    pub path: PathBuf,
    /// Its type.
    pub file_type: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: String,
    /// Tensors that got another type because of the length of their rows.
    pub fallbacks: Vec<(String, String)>,
    /// What was found when it was read again.
    pub certificate: Certificate,
}

/// The types of these names.
pub fn types(names: &[String]) -> Result<Vec<FileType>> {
    let mut found = Vec::new();
    for name in names {
        let Some(file_type) = FileType::from_name(name.trim()) else {
            let known: Vec<String> = FileType::all().map(|t| t.name().to_lowercase()).collect();
            return Err(Fault::new(
                "PS-CFG-001",
                format!("`--quant {name}` is no type of GGUF files; types are {}", known.join(", ")),
            ));
        };
        if !found.contains(&file_type) {
            found.push(file_type);
        }
    }
    Ok(found)
}

/// The layout of conversations that was trained, as a GGUF file has it.
pub fn layout_of(origin: &Origin) -> Result<Option<ChatLayout>> {
    let Some(render) = &origin.render else { return Ok(None) };
    let tokenizer = origin.base.tokenizer();
    let begins = if origin.layout_prints_no_begin {
        // Whoever does not print the begin token leaves it to the tokenizer, which then must do as the layout did.
        let prompt = tokenizer.render_prompt(&[Turn::new(Role::User, "Hello")], render)?;
        Some(tokenizer.bos().is_some_and(|bos| prompt.first() == Some(&bos.id)))
    } else {
        None
    };
    let end_of_turn = render.template.end_of_turn().and_then(|text| tokenizer.token_to_id(text));
    Ok(Some(ChatLayout { template: render.template.source().to_owned(), begins, end_of_turn }))
}

/// What is said about the model in the file.
pub fn about(origin: &Origin) -> Metadata {
    let mut about = Metadata::default();
    about.set("general.name", origin.name.as_str());
    let base = origin.base.id();
    about.set("general.base_model.count", 1u32);
    about.set("general.base_model.0.name", base.rsplit(['/', '\\']).next().unwrap_or(base));
    if let Some(url) = &origin.base_url {
        about.set("general.base_model.0.repo_url", url.as_str());
    }
    if let Some(license) = &origin.license {
        about.set("general.license", license.as_str());
    }
    about
}

/// Write base and adapter as GGUF files of `types` into `folder`, read each again and certify it; `None`: the person
/// had enough; what is done stays beside its name, and the same export goes on with it, as it does after a crash. A file
/// has its name when it has passed its check; one that fails gets another, and the fault says why.
pub fn gguf(engine: &Engine, origin: &Origin, types: &[FileType], folder: &Path) -> Result<Option<Vec<Exported>>> {
    interrupt::install_saying(STOPPING);
    let (layout, about) = (layout_of(origin)?, about(origin));
    let source = Source {
        base: &origin.base,
        adapter: origin.adapter.as_ref(),
        quantize: origin.quantize,
        layout: layout.as_ref(),
        about: &about,
        importance: origin.importance.as_ref(),
    };
    let conversion = engine.conversion(source, types)?;
    let name = |file_type: &FileType| folder.join(format!("{}-{}.gguf", origin.name, file_type.name()));
    let paths: Vec<PathBuf> = types.iter().map(name).collect();
    make_room(folder, &paths, conversion.bytes())?;
    let mut is_first = true;
    let mut progress = |done: u64, total: u64| {
        if std::mem::take(&mut is_first) && done > 0 {
            output::note(&format!("Going on where it was stopped: {} of {} are there", bytes(done), bytes(total)));
        }
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let Some(unnamed) = conversion.prepare(&paths, &mut progress)? else { return Ok(None) };
    let reference =
        Reference { source, render: origin.render.as_ref(), rows: &origin.rows, sample: origin.sample.as_ref() };
    let mut exported = Vec::new();
    let mut failed = None;
    for (unnamed, plan) in unnamed.into_iter().zip(&conversion.plans) {
        if interrupt::requested() {
            return Ok(None);
        }
        let mut certificate = engine.certify(&reference, &unnamed.written())?;
        certificate.file = unnamed.target().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Written { path, file_type, digest } = match placed(unnamed, &certificate)? {
            Ok(written) => written,
            Err(fault) => {
                failed.get_or_insert(fault);
                continue;
            }
        };
        let fallbacks = plan.fallbacks.iter().map(|(name, kind)| (name.clone(), kind.name().to_owned())).collect();
        exported.push(Exported {
            path,
            file_type: file_type.name().to_owned(),
            bytes: digest.bytes,
            sha256: digest.sha256,
            fallbacks,
            certificate,
        });
    }
    if let Some(fault) = failed {
        return Err(fault);
    }
    if let Some(importance) = &origin.importance {
        importance.write(&folder.join(format!("{}.imatrix", origin.name)), origin.base.spec())?;
    }
    license::copy(origin, folder)?;
    card::write(origin, &exported, card::Form::Gguf, folder)?;
    Ok(Some(exported))
}

/// PS-CFG-001 where a file is already there, PS-DISK-001 where there is no room; else the folder exists.
fn make_room(folder: &Path, paths: &[PathBuf], needed: u64) -> Result<()> {
    if let Some(there) = paths.iter().find(|path| path.exists()) {
        let detail = format!("`{}` already exists; choose another folder or `--name`, or remove it", there.display());
        return Err(Fault::new("PS-CFG-001", detail));
    }
    let kept: u64 = paths.iter().map(|path| part_bytes(path)).sum();
    room(folder, needed.saturating_sub(kept))?;
    create_directories(folder).map_err(|error| Fault::io("create the folder", folder, error))
}

/// PS-DISK-001 where `folder` has no room for so many bytes.
fn room(folder: &Path, needed: u64) -> Result<()> {
    let free = free_space(folder)?;
    if free < needed.saturating_add(SPARE_BYTES) {
        let detail =
            format!("The export needs {}, and {} are free at `{}`", bytes(needed), bytes(free), folder.display());
        return Err(Fault::new("PS-DISK-001", detail));
    }
    Ok(())
}

/// Put the certificate beside the place of the file, then give the file its name. One that failed gets another name:
/// nobody loads it by accident, and the fault within says why.
fn placed(file: Unnamed, certificate: &Certificate) -> Result<Result<Written>> {
    let target = file.target().to_owned();
    let path = target.with_extension("certificate.json");
    let text = serde_json::to_vec_pretty(certificate).expect("a certificate is plain data");
    durable::write_file(&path, &text).map_err(|error| Fault::io("write", &path, error))?;
    if certificate.passed() {
        return file.place().map(Ok);
    }
    let aside = target.with_extension("gguf.failed");
    file.place_as(&aside)?;
    output::note(&format!("Set aside as {}", aside.display()));
    let detail = format!("{} of `{}`", certificate.failures(), target.display());
    Ok(Err(Fault::new("PS-EXP-002", detail)))
}
