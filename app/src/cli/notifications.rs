//! `notifications`: what the desktop tells about runs, and whether it does.

use super::args::{NotificationsCommand, Switch};
use super::context::Context;
use super::{output, table};
use crate::jobs::desktop;
use crate::jobs::notices::{Kind, Notice, Preferences};
use peft_plan::{Fault, Result};
use serde_json::json;

pub(super) fn run(context: &Context, command: &NotificationsCommand) -> Result<u8> {
    match command {
        NotificationsCommand::List => list(context)?,
        NotificationsCommand::Set { kind, switch } => {
            Preferences::choose(&context.store()?, kind, *switch == Switch::On)?;
            list(context)?;
        }
        NotificationsCommand::Test => test(context)?,
    }
    Ok(0)
}

fn list(context: &Context) -> Result<()> {
    let preferences = json!(Preferences::chosen(&context.store()?)?);
    if context.json {
        output::print_json(&json!({ "notifications": preferences }));
        return Ok(());
    }
    let row = |name: &&str| {
        let switch = if preferences[name] == true { "on" } else { "off" };
        vec![(*name).to_owned(), switch.to_owned(), what(name).to_owned()]
    };
    output::text(&table::render(&["KIND", "", "WHAT"], &Preferences::NAMES.iter().map(row).collect::<Vec<_>>()));
    Ok(())
}

fn what(name: &str) -> &'static str {
    match name {
        "progress" => "when a quarter, half and three quarters of a run are done",
        "completion" => "when a run is finished, with what came out",
        "errors" => "when a run breaks, or is paused because something is wrong",
        "sound" => "a sound when a run is finished",
        "launcher" => "progress on the icon of the program",
        _ => "all of them",
    }
}

fn test(context: &Context) -> Result<()> {
    let sound = Preferences::chosen(&context.store()?)?.sound;
    let notice = Notice {
        kind: Kind::Completion,
        summary: "Notifications arrive".to_owned(),
        body: "This is how you hear that a run is finished".to_owned(),
        sound,
    };
    desktop::show(&notice).map_err(|why| {
        Fault::new("PS-NOTE-001", format!("No notification could be shown: {why}"))
            .action("Follow a run in the terminal instead", Some("peft-studio runs attach RUN".to_owned()))
    })?;
    if context.json {
        output::print_json(&json!({ "shown": true, "sound": sound }));
    } else {
        output::line("A notification was sent to the desktop.");
    }
    Ok(())
}
