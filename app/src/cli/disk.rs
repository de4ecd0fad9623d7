//! `disk`: what everything of ours takes, and how to free some of it.

use super::args::{DiskArgs, DiskCommand, FreeArgs};
use super::context::Context;
use super::output::{self, bytes, note, printable};
use super::table;
use crate::jobs::disk::{Freed, Item, Kind, Survey, free, survey};
use clap::ValueEnum;
use peft_plan::Result;

/// Rows that a person is shown.
const SHOWN: usize = 40;

pub(super) fn run(context: &Context, args: &DiskArgs) -> Result<u8> {
    match &args.command {
        None => show(context, &survey(context)?),
        Some(DiskCommand::Free(args)) => tell(context, args, &free(context, &kinds(args), args.yes)?),
    }
    Ok(0)
}

fn kinds(args: &FreeArgs) -> Vec<Kind> {
    if args.what.is_empty() { Kind::value_variants().to_vec() } else { args.what.clone() }
}

fn word(kind: Option<Kind>) -> String {
    kind.and_then(|kind| kind.to_possible_value()).map_or_else(String::new, |value| value.get_name().to_owned())
}

fn rows(items: &[Item]) -> Vec<Vec<String>> {
    let row = |item: &Item| {
        let freeable = if item.freeable_bytes == 0 { "-".to_owned() } else { bytes(item.freeable_bytes) };
        let name = item.name.replace(['\n', '\t'], " ");
        vec![item.area.to_owned(), name, bytes(item.bytes), freeable, word(item.kind)]
    };
    items.iter().take(SHOWN).map(row).collect()
}

const HEADER: [&str; 5] = ["AREA", "WHAT", ">SIZE", ">CAN BE FREED", "AS"];

fn show(context: &Context, survey: &Survey) {
    if context.json {
        output::print_json(survey);
        return;
    }
    output::text(&printable(&table::render(&HEADER, &rows(&survey.items))));
    if survey.items.len() > SHOWN {
        note(&format!("and {} smaller ones; --json has all of them", survey.items.len() - SHOWN));
    }
    output::line(&format!(
        "{} in all; {} are free on the disk of {}",
        bytes(survey.total_bytes),
        bytes(survey.free_bytes),
        survey.data_dir.display()
    ));
    if survey.freeable_bytes > 0 {
        note(&format!(
            "`peft-studio disk free` shows what could go: {}. Models go with `peft-studio models remove`.",
            bytes(survey.freeable_bytes)
        ));
    }
}

fn tell(context: &Context, args: &FreeArgs, freed: &Freed) {
    if context.json {
        output::print_json(freed);
        return;
    }
    for refused in &freed.refused {
        note(&printable(&format!("Kept: {refused}")));
    }
    if freed.items.is_empty() {
        output::line("There is nothing to free.");
        return;
    }
    output::text(&printable(&table::render(&HEADER, &rows(&freed.items))));
    if args.yes {
        output::line(&format!("{} are free again.", bytes(freed.freed_bytes)));
    } else {
        output::line(&format!(
            "{} could be free again; nothing was deleted. Add --yes to do it.",
            bytes(freed.freed_bytes)
        ));
    }
}
