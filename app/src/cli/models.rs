//! `models`: search, list, download, show, remove.

use super::args::{DownloadArgs, ModelsCommand, SearchArgs};
use super::context::Context;
use super::interrupt;
use super::memory::total_memory;
use super::output::{self, bytes, note, printable};
use super::quantity::count;
use super::table;
use super::transfer::TransferView;
use crate::jobs::download::{self, describe, hub, revision, settings};
use crate::jobs::fit::{self, Described, Fit, family_of, word};
use crate::jobs::library::{self, LocalModel, fits_word};
use crate::jobs::model::{Place, STARTER, cache, hub_name, locate};
use peft_plan::{Fault, Result};
use peft_remote::recommended::{self, Recommended};
use peft_remote::{Found, Kind, Outcome, Removed, RepositoryId, Revision, Search, Wanted};
use serde_json::{Value, json};

pub(super) fn run(context: &Context, command: &ModelsCommand) -> Result<u8> {
    match command {
        ModelsCommand::Search(args) if args.query.is_empty() => recommend(context, args),
        ModelsCommand::Search(args) => search(context, args)?,
        ModelsCommand::List => list(context)?,
        ModelsCommand::Download(args) => return fetch(context, args),
        ModelsCommand::Show { model } => show(context, model)?,
        ModelsCommand::Remove { id } => remove(context, id)?,
    }
    Ok(0)
}

/// Models worth a try, those that fit first. No network.
fn recommend(context: &Context, args: &SearchArgs) {
    let memory = total_memory();
    let mut rows: Vec<(&Recommended, Vec<Fit>, Option<Described>)> = recommended::all()
        .iter()
        .map(|model| {
            let described = Described::new(&model.config, model.weight_bytes).ok();
            (model, described.as_ref().map(|d| d.fits(memory)).unwrap_or_default(), described)
        })
        .collect();
    // Within each group the list's own order: the smallest first.
    rows.sort_by_key(|(_, fits, _)| !fits.iter().any(|fit| fit.fits));
    rows.truncate(args.limit);
    if context.json {
        let models: Vec<Value> = rows
            .iter()
            .map(|(model, fits, described)| {
                let spec = described.as_ref().map(|d| &d.spec);
                json!({"id": model.id, "licence": model.licence, "terms": model.terms, "gated": model.gated,
                       "weight_bytes": model.weight_bytes, "parameters": spec.map(peft_plan::ModelSpec::parameters),
                       "family": spec.map(|spec| &spec.family), "good_for": model.good_for, "fits": fits_word(fits),
                       "memory": fits})
            })
            .collect();
        output::print_json(&json!({"models": models, "memory_bytes": memory}));
        return;
    }
    let row = |(model, fits, described): &(&Recommended, Vec<Fit>, Option<Described>)| {
        let parameters = described.as_ref().map_or(0, |d| d.spec.parameters());
        vec![
            model.id.clone(),
            parameters_word(parameters),
            bytes(model.weight_bytes),
            licence_word(Some(&model.licence), model.gated),
            fits_word(fits).to_owned(),
            model.good_for.clone(),
        ]
    };
    let header = ["MODEL", ">PARAMETERS", ">SIZE", "LICENCE", "FITS", "GOOD FOR"];
    output::text(&table::render(&header, &rows.iter().map(row).collect::<Vec<_>>()));
    note(&format!(
        "\nFITS is the method this computer's {} are enough for (lora, the lighter qlora, or no).\n\
         Search all of Hugging Face: peft-studio models search WORDS",
        bytes(memory)
    ));
}

fn search(context: &Context, args: &SearchArgs) -> Result<()> {
    let memory = total_memory();
    let text = args.query.join(" ");
    // An address of the site is a name as well.
    let text = text.trim().trim_start_matches("https://huggingface.co/").to_owned();
    let found = hub(context)?.search(&Search { text, limit: args.limit, sort: args.sort.word() })?;
    let family = |model: &Found| model.architecture.as_deref().and_then(family_of);
    let fits = |model: &Found| match (family(model), model.parameters, model.weight_bytes) {
        (Some(_), Some(parameters), Some(weights)) if model.weights == Some("safetensors") => {
            Some(rough_or_known(model, parameters, weights, memory))
        }
        _ => None,
    };
    if context.json {
        let models: Vec<Value> = found
            .iter()
            .map(|model| {
                let mut item = json!(model);
                item["family"] = json!(family(model));
                item["supported"] = json!(family(model).is_some() && model.weights == Some("safetensors"));
                item["fits"] = json!(fits(model));
                item
            })
            .collect();
        output::print_json(&json!({"models": models, "memory_bytes": memory}));
        return Ok(());
    }
    if found.is_empty() {
        note("Nothing was found. Fewer words find more; without words, models worth a try are shown.");
        return Ok(());
    }
    let row = |model: &Found| {
        vec![
            model.id.clone(),
            model.parameters.map_or_else(dash, parameters_word),
            model.weight_bytes.map_or_else(dash, bytes),
            model.downloads.map_or_else(dash, count),
            model.likes.map_or_else(dash, count),
            printable(&licence_word(model.licence.as_deref(), model.gated)).into_owned(),
            family(model).map_or_else(|| model.weights.map_or_else(dash, kind_word), str::to_owned),
            fits(model).unwrap_or("-").to_owned(),
        ]
    };
    let header = ["MODEL", ">PARAMETERS", ">SIZE", ">DOWNLOADS", ">LIKES", "LICENCE", "FAMILY", "FITS"];
    output::text(&table::render(&header, &found.iter().map(row).collect::<Vec<_>>()));
    Ok(())
}

/// What fits: from the plan where we know the model's shape, about otherwise.
fn rough_or_known(model: &Found, parameters: u64, weights: u64, memory: u64) -> &'static str {
    let known = recommended::all().iter().find(|known| known.id == model.id);
    match known.and_then(|known| Described::new(&known.config, weights).ok()) {
        Some(described) => word(&described.fits(memory)),
        None => fit::rough_word(parameters, weights, memory),
    }
}

/// What stands in the column of families for weights that cannot be trained.
fn kind_word(weights: &'static str) -> String {
    match weights {
        "gguf" => "(GGUF)".to_owned(),
        "pickle" => "(pickle)".to_owned(),
        _ => "(not yet)".to_owned(),
    }
}

fn dash() -> String {
    "-".to_owned()
}

/// 494 M, 1.2 B.
fn parameters_word(parameters: u64) -> String {
    match parameters {
        0..1_000_000 => count(parameters),
        1_000_000..999_500_000 => format!("{} M", (parameters + 500_000) / 1_000_000),
        _ => format!("{:.1} B", parameters as f64 / 1e9),
    }
}

fn licence_word(licence: Option<&str>, gated: bool) -> String {
    let licence = licence.unwrap_or("-");
    if gated { format!("{licence}, ask first") } else { licence.to_owned() }
}

fn list(context: &Context) -> Result<()> {
    let models = library::list()?;
    let place = cache()?;
    if context.json {
        output::print_json(&json!({"models": models, "cache": place.root()}));
        return Ok(());
    }
    let row = |model: &LocalModel| {
        let mut remark = model.note.clone().unwrap_or_default();
        if model.unfinished_bytes > 0 && remark.is_empty() {
            remark = format!("{} of a download that is not finished", bytes(model.unfinished_bytes));
        }
        let short: String = remark.chars().take(70).collect();
        vec![
            model.id.clone(),
            model.source.to_owned(),
            model.parameters.map_or_else(dash, parameters_word),
            bytes(model.bytes),
            model.licence.clone().unwrap_or_else(dash),
            model.family.clone().unwrap_or_else(dash),
            fits_word(&model.fits).to_owned(),
            short,
        ]
    };
    let header = ["MODEL", "WHERE", ">PARAMETERS", ">SIZE", "LICENCE", "FAMILY", "FITS", ""];
    let rows: Vec<Vec<String>> = models.iter().map(row).collect();
    output::text(&printable(&table::render(&header, &rows)));
    note(&format!("\nDownloaded models are in {}", place.root().display()));
    Ok(())
}

fn fetch(context: &Context, args: &DownloadArgs) -> Result<u8> {
    let (id, with_name) = name(&args.id)?;
    let revision = revision(with_name, args.revision.as_deref())?;
    let wanted = Wanted { verify_present: args.verify, ..Wanted::model(id, revision) };
    transfer(context, &wanted)
}

/// `data download`: the same for a dataset.
pub(super) fn fetch_data(context: &Context, id: &str, files: &[String]) -> Result<u8> {
    let (id, revision) = name(id.trim_start_matches("hub:"))?;
    let revision = revision.unwrap_or_default();
    let wanted = Wanted { kind: Kind::Dataset, only: files.to_vec(), ..Wanted::model(id, revision) };
    transfer(context, &wanted)
}

/// Download and say how it ended.
fn transfer(context: &Context, wanted: &Wanted) -> Result<u8> {
    let hub = hub(context)?;
    let mut view = TransferView::new(wanted.id.as_str(), context.json);
    let outcome = download::download(&hub, wanted, &mut |event| view.receive(event))?;
    drop(view);
    let Outcome::Done(done) = outcome else {
        note("Stopped; what arrived is kept, and the same command goes on from there");
        return Ok(interrupt::EXIT_CODE);
    };
    if context.json {
        let mut event = json!(done);
        event["event"] = json!("finished");
        event["revision"] = json!(wanted.revision.as_str());
        output::print_json(&event);
        return Ok(0);
    }
    // What was here already was believed by its length, unless more was asked for.
    let (verb, checked) = match (done.downloaded_bytes, wanted.verify_present) {
        (0, false) => ("Already here", "complete; --verify checks the content as well"),
        (0, true) => ("Already here", "verified"),
        _ => ("Downloaded", "verified"),
    };
    output::line(&format!("{verb}: {}, {} in {} files, {checked}", done.id, bytes(done.bytes), done.files));
    output::line(&format!("Folder   {}", done.path.display()));
    if wanted.kind == Kind::Model {
        output::line(&format!("Use it   peft-studio train --model {} --data FILE", done.id));
    }
    Ok(0)
}

/// A name of the hub, also a bare one of its early days.
fn name(text: &str) -> Result<(RepositoryId, Option<Revision>)> {
    let text = text.trim_start_matches("https://huggingface.co/").trim_start_matches("datasets/").trim_end_matches('/');
    if let Some(named) = hub_name(text)? {
        return Ok(named);
    }
    match RepositoryId::new(text) {
        Some(id) => Ok((id, None)),
        None => Err(Fault::new("PS-MODEL-001", format!("`{text}` is no name of Hugging Face, such as owner/name."))),
    }
}

fn show(context: &Context, model: &str) -> Result<()> {
    let local = match locate(model)? {
        Place::Embedded => library::starter(),
        Place::Folder(path) if path.is_dir() => library::folder(model, &path),
        // It says what kind of file it is and what to do.
        Place::Folder(path) => return peft_models::base::BaseModel::open(model, &path).map(drop),
        Place::Cached(path) => LocalModel { source: "huggingface", ..library::folder(model, &path) },
        Place::Elsewhere(id, revision) => return show_remote(context, &id, &revision),
    };
    if context.json {
        let mut document = json!(local);
        document["memory_bytes"] = json!(total_memory());
        output::print_json(&document);
        return Ok(());
    }
    let mut lines = vec![format!("Model         {}", local.id)];
    match &local.path {
        Some(path) => lines.push(format!("Folder        {}", path.display())),
        None => lines.push(format!("Folder        none; `{STARTER}` is part of the program")),
    }
    lines.push(format!("Size          {}", bytes(local.bytes)));
    lines.push(format!("Licence       {}", local.licence.as_deref().unwrap_or("no model card says")));
    lines.extend(local.parameters.map(|p| format!("Parameters    {}", count(p))));
    lines.push(match (&local.family, &local.note) {
        (_, Some(note)) => format!("Supported     no: {note}"),
        (family, None) => format!("Supported     yes, family {}", family.as_deref().unwrap_or("-")),
    });
    lines.extend(fit_lines(&local.fits));
    output::line(&printable(&lines.join("\n")));
    Ok(())
}

fn fit_lines(fits: &[Fit]) -> Vec<String> {
    let memory = total_memory();
    let line = |fit: &Fit| {
        let method = if fit.method.is_quantized() { "qlora" } else { "lora" };
        let verdict = if fit.fits { "fits" } else { "does not fit" };
        format!("Train, {method:<7}about {}, {verdict} this computer's {}", bytes(fit.memory_bytes), bytes(memory))
    };
    fits.iter().map(line).collect()
}

/// A model that is not here: what a download would bring, and whether it could be trained.
fn show_remote(context: &Context, id: &RepositoryId, revision: &Revision) -> Result<()> {
    let hub = hub(context)?;
    let repository = hub.repository(Kind::Model, id, revision)?;
    let files = hub.needed(&repository);
    let described = match &files {
        Ok(_) => describe(&hub, &repository).map(|(described, total)| (Some(described), total)),
        Err(_) => Ok((None, 0)),
    };
    // What is wrong with the model is part of the answer; what is wrong with the network is not.
    let (described, download_bytes, problem) = match (described, files.as_ref().err()) {
        (Ok((described, total)), None) => (described, Some(total), None),
        (Ok(_), Some(fault)) if fault.code.starts_with("PS-MODEL") => (None, None, Some(fault.detail.clone())),
        (Err(fault), _) if fault.code.starts_with("PS-MODEL") => (None, None, Some(fault.detail)),
        (Err(fault), _) => return Err(fault),
        (Ok(_), Some(_)) => return files.map(drop),
    };
    let about = &repository.about;
    let fits = described.as_ref().map(|d| d.fits(total_memory())).unwrap_or_default();
    let spec = described.as_ref().map(|d| &d.spec);
    if context.json {
        let mut document = json!(about);
        document["source"] = json!("hub");
        document["revision"] = json!(revision.as_str());
        document["commit"] = json!(repository.commit);
        document["supported"] = json!(spec.is_some());
        document["family"] = json!(spec.map(|spec| &spec.family));
        document["parameters"] = json!(spec.map(peft_plan::ModelSpec::parameters).or(about.parameters));
        document["weight_bytes"] = json!(described.as_ref().map(|d| d.weight_bytes).or(about.weight_bytes));
        document["download_bytes"] = json!(download_bytes);
        document["files"] = json!(files.unwrap_or_default());
        document["fits"] = json!(fits);
        document["note"] = json!(problem);
        document["memory_bytes"] = json!(total_memory());
        document["cache"] = json!(settings(context)?.cache);
        output::print_json(&document);
        return Ok(());
    }
    let mut lines = vec![
        format!("Model         {id} at {} ({})", revision.as_str(), &repository.commit[..12]),
        "Folder        none; it is not on this computer".to_owned(),
        format!("Licence       {}", licence_word(about.licence.as_deref(), about.gated)),
    ];
    if about.gated {
        lines.push(format!("Terms         to be accepted first: {}/{id}", settings(context)?.endpoint));
    }
    let parameters = spec.map(peft_plan::ModelSpec::parameters).or(about.parameters);
    lines.extend(parameters.map(|p| format!("Parameters    {}", count(p))));
    lines.extend(download_bytes.map(|b| format!("Download      {}", bytes(b))));
    lines.push(match (&problem, spec) {
        (Some(problem), _) => format!("Supported     no: {problem}"),
        (None, Some(spec)) => format!("Supported     yes, family {}", spec.family),
        (None, None) => "Supported     unknown".to_owned(),
    });
    lines.extend(fit_lines(&fits));
    if spec.is_some() {
        lines.push(format!("Get it        {}", crate::jobs::model::download_command(id.as_str())));
    }
    output::line(&printable(&lines.join("\n")));
    Ok(())
}

fn remove(context: &Context, text: &str) -> Result<()> {
    let (id, revision) = name(text)?;
    if revision.is_some() {
        let detail = format!("All versions of a model are removed together: give `{id}` without a revision.");
        return Err(Fault::new("PS-CFG-001", detail));
    }
    let place = cache()?;
    let Some(Removed { bytes: freed, snapshots }) = place.remove(Kind::Model, &id)? else {
        let detail = format!("There is no model `{id}` in {}.", place.root().display());
        return Err(
            Fault::new("PS-MODEL-001", detail).action("See what there is", Some("peft-studio models list".to_owned()))
        );
    };
    if context.json {
        output::print_json(&json!({"id": id.as_str(), "freed_bytes": freed, "versions": snapshots}));
    } else {
        output::line(&format!("Removed {id}, which frees {}", bytes(freed)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_parameters_are_short() {
        let words = [999, 494_032_768, 999_885_952, 1_235_814_400].map(parameters_word);
        assert_eq!(words, ["999", "494 M", "1.0 B", "1.2 B"]);
    }

    #[test]
    fn addresses_of_the_site_are_names() {
        let parsed = |text: &str| name(text).map(|(id, revision)| (id.to_string(), revision.is_some()));
        assert_eq!(parsed("https://huggingface.co/a/b/").expect("a name"), ("a/b".to_owned(), false));
        assert_eq!(parsed("a/b@v1").expect("a name"), ("a/b".to_owned(), true));
        assert_eq!(parsed("gpt2").expect("a name"), ("gpt2".to_owned(), false));
        assert_eq!(parsed("../x").expect_err("no name").code, "PS-MODEL-001");
    }
}
