//! `export --to hub`: a folder that Hugging Face takes as it is, and its upload.

use super::args::ExportArgs;
use super::context::Context;
use super::export::{describe, described, list, merge, merge_options, origin_of, out_of, stopped, weigh};
use super::output;
use super::transfer::TransferView;
use crate::jobs::export::card::Form;
use crate::jobs::export::hub::{Record, complete, record, recorded, repository, send};
use crate::jobs::export::{self, Exported};
use peft_models::engine::Engine;
use peft_models::peft_format::write_adapter;
use peft_plan::{Fault, Result};
use peft_remote::upload::Uploaded;
use serde_json::json;
use std::ffi::OsStr;
use std::path::Path;

/// Write the folder, unless it is there already as it would be, and upload it where a repository was named.
pub(super) fn run(context: &Context, args: &ExportArgs) -> Result<u8> {
    let folder = out_of(args)?;
    let repository = args.repo.as_deref().map(repository).transpose()?;
    let asked = format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        args.run, args.model, args.adapter, args.form, args.quant, args.dtype, args.imatrix, args.name
    );
    let (record, files) = if let Some(record) = recorded(&asked, folder) {
        output::note(&format!("{} holds all of it already", folder.display()));
        (record, Vec::new())
    } else if let Some(files) = make(context, args, folder)? {
        (record(&asked, folder)?, files)
    } else {
        return Ok(stopped());
    };
    let Some(id) = repository else {
        output::note("Not uploaded: name a repository with `--repo OWNER/NAME`");
        return show(context, &record, folder, &files, None);
    };
    let mut view = TransferView::new(id.as_str(), false);
    let sent = send(context, &record, folder, (id.clone(), !args.public), &mut |event| view.receive(event))?;
    drop(view);
    if sent.is_none() {
        output::note("Stopped; the folder stays, and the same command goes on");
        return Ok(super::interrupt::EXIT_CODE);
    }
    show(context, &record, folder, &files, sent.as_ref())
}

fn show(
    context: &Context,
    record: &Record,
    folder: &Path,
    exported: &[Exported],
    sent: Option<&Uploaded>,
) -> Result<u8> {
    let path = |name: &str| folder.join(name);
    let files = if exported.is_empty() {
        let is_weights = |end: &OsStr| end == "safetensors" || end == "gguf";
        let all = record.files.iter().filter(|file| Path::new(&file.path).extension().is_some_and(is_weights));
        all.map(|file| describe(&path(&file.path), "hub")).collect::<Result<Vec<_>>>()?
    } else {
        exported.iter().map(described).collect::<Result<Vec<_>>>()?
    };
    if context.json {
        let certificates: Vec<_> = exported.iter().map(|file| &file.certificate).collect();
        output::print_json(&json!({
            "files": files,
            "certificate": certificates.first(),
            "certificates": certificates,
            "folder": folder.display().to_string(),
            "uploaded": sent,
        }));
        return Ok(0);
    }
    list(&files, exported);
    if let Some(sent) = sent {
        output::line(&format!("{} is at {}", sent.url, output::printable(&sent.commit)));
    }
    Ok(0)
}

/// `None`: the person had enough.
fn make(context: &Context, args: &ExportArgs, folder: &Path) -> Result<Option<Vec<Exported>>> {
    let mut origin = origin_of(context, args)?;
    let form = match (args.form.as_deref(), &origin.adapter) {
        (Some("gguf"), _) => Form::Gguf,
        (Some("peft") | None, Some(_)) => Form::Peft,
        (Some("peft"), None) => {
            return Err(Fault::new("PS-CFG-001", "There is no adapter to export: give a run, or `--adapter DIR`"));
        }
        _ => Form::Merged,
    };
    let mut files = Vec::new();
    match (form, &origin.adapter) {
        (Form::Peft, Some(adapter)) => write_adapter(folder, &adapter.config, &adapter.tensors)?,
        (Form::Gguf, _) => {
            let engine = Engine::open(&context.backend, context.threads)?;
            if !weigh(&engine, &mut origin, args)? {
                return Ok(None);
            }
            match export::gguf(&engine, &origin, &export::types(&args.quant)?, folder)? {
                Some(written) => files = written,
                None => return Ok(None),
            }
        }
        (Form::Peft | Form::Merged, adapter) => {
            let options = merge_options(&origin.base, args.dtype.as_deref(), args.max_shard_size, origin.quantize)?;
            if merge(context, &origin.base, adapter.as_ref(), &options, folder)?.is_none() {
                return Ok(None);
            }
        }
    }
    complete(&origin, &files, form, folder)?;
    Ok(Some(files))
}
