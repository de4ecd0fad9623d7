//! Models and datasets from the hub: asked for by name, or by a run that needs one.

use super::fit::Described;
use super::model::{Place, download_command, home, locate, spelled};
use super::setup::read_data;
use crate::cli::context::Context;
use crate::cli::interrupt;
use crate::cli::memory::total_memory;
use crate::cli::output::bytes;
use peft_plan::{Fault, Method, Result, RunConfig, resolve};
use peft_remote::select::INDEX;
use peft_remote::{Event, Hub, Kind, Outcome, Repository, Revision, Settings, Wanted};
use serde_json::Value;
use std::ops::ControlFlow;

/// What the environment and the command line say about the hub.
pub fn settings(context: &Context) -> Result<Settings> {
    let mut settings = Settings::from_environment(home().as_deref())?;
    if context.offline {
        settings.offline = Some("the option --offline".to_owned());
    }
    Ok(settings)
}

/// The hub; PS-NET-001 where the network is forbidden.
pub fn hub(context: &Context) -> Result<Hub> {
    Hub::new(settings(context)?)
}

/// Download, telling `receive` how far it is; Ctrl-C ends it and what arrived is kept.
pub fn download(hub: &Hub, wanted: &Wanted, receive: &mut dyn FnMut(&Event)) -> Result<Outcome> {
    interrupt::install();
    hub.download(wanted, &mut |event| {
        receive(event);
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
}

/// A model of the hub as far as its small files and the sizes of the others tell.
pub fn describe(hub: &Hub, repository: &Repository) -> Result<(Described, u64)> {
    let files = hub.needed(repository)?;
    let sum = |is_counted: &dyn Fn(&str) -> bool| {
        let counted = files.iter().filter(|file| is_counted(&file.path));
        counted.filter_map(|file| file.bytes).fold(0_u64, u64::saturating_add)
    };
    let weights = sum(&|path| path.ends_with(".safetensors") && path != INDEX);
    let config = hub.peek(repository, "config.json")?;
    let config: Value = serde_json::from_slice(&config).map_err(|error| {
        let detail = format!("`config.json` of `{}` is not valid JSON: {error}.", repository.id);
        Fault::new("PS-MODEL-005", detail)
    })?;
    Ok((Described::new(&config, weights)?, sum(&|_| true)))
}

/// See to it that the model of `config` is on this computer: a name of the hub that is not here is downloaded, unless
/// it cannot be trained here anyway. `false`: the person had enough of waiting.
pub fn ensure(context: &Context, config: &RunConfig, receive: &mut dyn FnMut(&Event)) -> Result<bool> {
    // A run that names no model is refused with the rest of its settings.
    if config.model.id.is_none() {
        return Ok(true);
    }
    let name = spelled(&config.model);
    let Place::Elsewhere(id, revision) = locate(&name)? else { return Ok(true) };
    let settings = settings(context)?;
    if let Some(why) = &settings.offline {
        let detail = format!("`{name}` is not on this computer, and {why} says not to use the network.");
        return Err(Fault::new("PS-NET-001", detail)
            .action("Download it while there is a network", Some(download_command(&name))));
    }
    // What is wrong with the settings or the data is better heard before gigabytes have arrived.
    resolve::check(config)?;
    read_data(config)?;
    let hub = Hub::new(settings)?;
    let repository = hub.repository(Kind::Model, &id, &revision)?;
    let (described, _) = describe(&hub, &repository)?;
    check_fit(&name, &described, config)?;
    let wanted = Wanted::model(id, revision);
    Ok(matches!(download(&hub, &wanted, receive)?, Outcome::Done(_)))
}

/// PS-MEM-001 for a model that this memory cannot hold with any step: only what is certain is refused here.
fn check_fit(name: &str, described: &Described, config: &RunConfig) -> Result<()> {
    let memory = total_memory();
    let method = config.adapter.method.unwrap_or(Method::Qlora);
    let fit = described.smallest(method, memory);
    if fit.fits || memory == 0 {
        return Ok(());
    }
    let detail = format!(
        "`{name}` needs about {} for the smallest step, and this computer has {}. Nothing was downloaded.",
        bytes(fit.memory_bytes),
        bytes(memory)
    );
    Err(Fault::new("PS-MEM-001", detail)
        .action("Choose a model that fits this computer", Some("peft-studio models search".to_owned())))
}

/// A revision given apart from the name, or with it. PS-CFG-001 where both are given.
pub fn revision(with_name: Option<Revision>, apart: Option<&str>) -> Result<Revision> {
    match (with_name, apart) {
        (Some(_), Some(apart)) => {
            Err(Fault::new("PS-CFG-001", format!("The name has a revision, and `--revision {apart}` gives another.")))
        }
        (Some(revision), None) => Ok(revision),
        (None, Some(apart)) => Revision::new(apart),
        (None, None) => Ok(Revision::default()),
    }
}
