//! `versions`: finished runs as versions of a model (S4.14).

use super::args::VersionsCommand;
use super::context::Context;
use super::output::{self, note, printable};
use super::quantity::{ago, bytes, measured};
use super::table;
use crate::jobs::disposal::{self, disk_use};
use peft_plan::{Fault, Result};
use peft_storage::{Store, Version};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) fn run(context: &Context, command: &VersionsCommand) -> Result<u8> {
    let store = context.store()?;
    match command {
        VersionsCommand::List { project } => list(context, &store, project.as_deref())?,
        VersionsCommand::Show { version } => show(context, &store.version(*version)?),
        VersionsCommand::Activate { version } => {
            store.activate_version(*version)?;
            say(context, &store.version(*version)?, "is the active version now");
        }
        VersionsCommand::Archive { version } => {
            let known = store.version(*version)?;
            let freed = disposal::archive(&store, &known.run)?;
            say(context, &store.version(*version)?, &format!("is archived; {} are free again", bytes(freed)));
        }
        VersionsCommand::Delete { version, yes } => delete(context, &store, *version, *yes)?,
    }
    Ok(0)
}

fn as_json(version: &Version) -> Value {
    let mut value = json!(version.run);
    value["version"] = json!(version.number);
    value["active"] = json!(version.active);
    value["archived"] = json!(version.archived);
    value["disk"] = json!(disk_use(&version.run));
    value
}

fn list(context: &Context, store: &Store, project: Option<&str>) -> Result<()> {
    let versions = store.versions(project)?;
    if context.json {
        let freeable: u64 = versions.iter().map(|v| disk_use(&v.run).state_bytes).sum();
        let total: u64 = versions.iter().map(|v| disk_use(&v.run).total()).sum();
        output::print_json(&json!({
            "versions": versions.iter().map(as_json).collect::<Vec<_>>(),
            "disk_bytes": total,
            "freeable_bytes": freeable,
        }));
        return Ok(());
    }
    if versions.is_empty() {
        note("There are no versions yet: every finished run becomes one.");
        return Ok(());
    }
    let best = versions.iter().filter_map(|v| v.run.validation_loss).min_by(f64::total_cmp);
    let rows: Vec<Vec<String>> = versions
        .iter()
        .map(|v| {
            let state = match (v.active, v.archived) {
                (true, _) => "active",
                (false, Some(_)) => "archived",
                (false, None) => "",
            };
            let loss = measured(v.run.validation_loss);
            let mark = if best.is_some() && v.run.validation_loss == best { " (best)" } else { "" };
            vec![
                v.number.to_string(),
                v.run.name.replace(['\n', '\t'], " "),
                state.to_owned(),
                format!("{loss}{mark}"),
                v.run.quality_score.map_or("-".to_owned(), |q| format!("{q:.0}")),
                bytes(disk_use(&v.run).total()),
                ago(v.run.updated, now()),
            ]
        })
        .collect();
    let header = [">VERSION", "RUN", "STATE", "HELD-OUT LOSS", ">QUALITY", ">DISK", "MADE"];
    output::text(&printable(&table::render(&header, &rows)));
    let freeable: u64 = versions.iter().filter(|v| !v.active).map(|v| disk_use(&v.run).state_bytes).sum();
    if freeable > 0 {
        note(&format!("Archiving the versions that are not active would free {}.", bytes(freeable)));
    }
    Ok(())
}

fn show(context: &Context, version: &Version) {
    if context.json {
        output::print_json(&as_json(version));
        return;
    }
    let disk = disk_use(&version.run);
    let lines = [
        format!("Version        {}", version.number),
        format!("Run            {} ({})", version.run.name, version.run.id),
        format!("Made           {}", ago(version.run.updated, now())),
        format!("State          {}", if version.active { "active" } else { "not active" }),
        format!("Loss           {}", measured(version.run.loss)),
        format!("Held-out loss  {}", measured(version.run.validation_loss)),
        format!("Quality        {}", version.run.quality_score.map_or("-".to_owned(), |q| format!("{q:.0} of 100"))),
        format!("Folder         {}", version.run.directory.display()),
        format!("Disk           {}, of which {} are training state", bytes(disk.total()), bytes(disk.state_bytes)),
        format!("Try it         peft-studio chat --run {} --compare", version.run.id),
    ];
    output::line(&printable(&lines.join("\n")));
}

fn delete(context: &Context, store: &Store, number: u64, yes: bool) -> Result<()> {
    let version = store.version(number)?;
    if version.active && !yes {
        return Err(Fault::new("PS-CFG-001", format!("Version {number} is the active one; nothing was deleted"))
            .action("Delete it all the same", Some(format!("peft-studio versions delete {number} --yes")))
            .action("Make another one active first", Some("peft-studio versions list".to_owned())));
    }
    let freed = disposal::delete(store, &version.run, false)?;
    if context.json {
        output::print_json(&json!({ "deleted": number, "freed_bytes": freed.total() }));
    } else {
        output::line(&format!("Version {number} is gone; {} are free again.", bytes(freed.total())));
    }
    Ok(())
}

fn say(context: &Context, version: &Version, what: &str) {
    if context.json {
        output::print_json(&as_json(version));
    } else {
        output::line(&printable(&format!("Version {} (`{}`) {what}.", version.number, version.run.name)));
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs() as i64)
}
