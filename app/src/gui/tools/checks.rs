//! This computer: what it has, whether it computes rightly, how fast it answers, and whether a run can be repeated.

use super::view::{file_ui, go_ui, sentence, state_ui};
use super::{Tool, Tools};
use crate::cli::quantity::bytes;
use crate::gui::command::{Command, Out, Purpose, Slot};
use crate::gui::state::Data;
use crate::gui::target::Target;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::{card, icon_label, row};
use crate::gui::widgets::chart::plain;
use crate::gui::widgets::chooser::{Chooser, Runs, chooser_ui};
use crate::gui::widgets::field;
use eframe::egui::{ComboBox, Label, Role, Ui, WidgetInfo};
use serde_json::Value;

/// Draw it.
pub(super) fn checks_ui(ui: &mut Ui, data: &Data, page: &mut Tools, out: &mut Out) {
    part_ui(
        ui,
        page,
        out,
        Tool::Hardware,
        "What is here and what is used for training.",
        "Look",
        hardware_ui,
        |_, _, _| {},
    );
    let about = "Compares every operation with a slow and certain one, and replays two recorded trainings.";
    part_ui(ui, page, out, Tool::Selftest, about, "Check", selftest_ui, |_, _, _| {});
    let about = "How many tokens a second a model reads and writes here.";
    part_ui(ui, page, out, Tool::Speed, about, "Measure", speed_ui, |ui, page, out| {
        let starter = Target::starter();
        let chosen = page.measured.clone().unwrap_or(starter);
        let what = Chooser { name: "What is measured", slot: Slot::Speed, runs: Runs::Over, nothing: "", width: 240.0 };
        if let Some(target) = chooser_ui(ui, data, Some(&chosen), &what, out, |_| {}) {
            page.measured = Some(target);
        }
    });
    let about = "How many tokens a second this model learns from here, on made-up sentences.";
    part_ui(ui, page, out, Tool::TrainSpeed, about, "Measure training", train_speed_ui, |ui, page, _| {
        let training = &mut page.training;
        ui.label(text::hint(of(ui), "Method"));
        let combo = ComboBox::from_id_salt("method").selected_text(training.method).width(80.0).show_ui(ui, |ui| {
            for method in ["lora", "qlora", "dora", "qdora", "full"] {
                ui.selectable_value(&mut training.method, method, method);
            }
        });
        combo.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Method"));
        field::line(ui, "Tokens of a sequence", &mut training.length, "256", 60.0);
        field::line(ui, "Sequences of a step", &mut training.batch, "1", 44.0);
    });
    let about =
        "Every run leaves receipt.json in its folder. Its hashes are checked, and its first steps computed again.";
    part_ui(ui, page, out, Tool::Receipt, about, "Compute again", receipt_ui, |ui, page, out| {
        file_ui(ui, "Receipt file", &mut page.receipt, "receipt.json", Command::Browse(Purpose::Receipt), out);
    });
    let about = "Replays a training that another program recorded, and compares losses, gradients and weights number by number.";
    part_ui(ui, page, out, Tool::Reference, about, "Replay", reference_ui, |ui, page, out| {
        field::line(ui, "Folder of its model", &mut page.reference_model, "model", 170.0);
        let browse = Command::Browse(Purpose::Reference);
        file_ui(ui, "Recorded run", &mut page.reference, "reference.safetensors", browse, out);
    });
}

#[expect(clippy::too_many_arguments, reason = "a part is told by its words and its two painters")]
fn part_ui(
    ui: &mut Ui,
    page: &mut Tools,
    out: &mut Out,
    tool: Tool,
    about: &str,
    word: &str,
    result: fn(&mut Ui, &Value),
    more: impl FnOnce(&mut Ui, &mut Tools, &mut Out),
) {
    let t = of(ui);
    card(ui, |ui| {
        ui.label(text::card_title(t, tool.title()));
        sentence(ui, about);
        ui.horizontal_wrapped(|ui| {
            more(ui, page, out);
        });
        let is_typed = |typed: &str| !typed.trim().is_empty();
        let can = match tool {
            Tool::Receipt => is_typed(&page.receipt),
            Tool::Reference => is_typed(&page.reference) && is_typed(&page.reference_model),
            _ => true,
        };
        go_ui(ui, page, tool, word, can, out);
        if let Some(job) = page.job(tool)
            && state_ui(ui, job, out)
            && let Some(document) = job.result()
        {
            ui.add_space(space::S);
            result(ui, document);
        }
    });
    ui.add_space(space::S);
}

fn hardware_ui(ui: &mut Ui, found: &Value) {
    let size = |value: &Value| value.as_u64().map(bytes).unwrap_or_default();
    let word = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
    for card in found["gpus"].as_array().into_iter().flatten() {
        let line =
            format!("{}, {} of {} free", word(&card["name"]), size(&card["free_bytes"]), size(&card["memory_bytes"]));
        row(ui, "Graphics card", &line);
    }
    if let Some(why) = found["gpu_reason"].as_str() {
        row(ui, "Graphics card", why);
    }
    for card in found["selectable"].as_array().into_iter().flatten() {
        let line = format!(
            "{} ({}), with --backend {}",
            word(&card["name"]),
            size(&card["memory_bytes"]),
            word(&card["backend"])
        );
        row(ui, "Can be chosen", &line);
    }
    let cores = found["cpu"]["cores"].as_u64().unwrap_or(0);
    row(ui, "Processor", &format!("{}, {cores} cores", word(&found["cpu"]["model"])));
    row(ui, "Memory", &size(&found["memory_bytes"]));
    row(ui, "Free on the disk", &size(&found["disk_free_bytes"]));
    row(ui, "Trains with", &format!("{}: {}", word(&found["backend"]["chosen"]), word(&found["backend"]["reason"])));
}

fn verdict_ui(ui: &mut Ui, is_right: bool, words: &str) {
    let t = of(ui);
    ui.horizontal(|ui| {
        let (icon, color) = if is_right { (Icon::Check, t.ok.fg) } else { (Icon::Warning, t.bad.fg) };
        icon_label(ui, icon, color, 16.0);
        ui.add(Label::new(text::value(t, words)).wrap());
    });
}

fn selftest_ui(ui: &mut Ui, found: &Value) {
    for backend in found["backends"].as_array().into_iter().flatten() {
        let failed = backend["failed"].as_array().map_or(&[][..], Vec::as_slice);
        let (passed, checks) = (backend["passed"].as_u64().unwrap_or(0), backend["checks"].as_u64().unwrap_or(0));
        let name = backend["name"].as_str().unwrap_or("");
        verdict_ui(ui, failed.is_empty(), &format!("{name}: {passed} of {checks} checks passed"));
        for check in failed.iter().take(20) {
            row(ui, check["check"].as_str().unwrap_or(""), check["error"].as_str().unwrap_or(""));
        }
    }
}

fn speed_ui(ui: &mut Ui, found: &Value) {
    let number = |value: &Value| value.as_f64().map_or("–".to_owned(), plain);
    let written = &found["decode_tokens_per_second"];
    row(ui, "Reads", &format!("{} tokens a second", number(&found["prompt_tokens_per_second"])));
    let spread = format!("{} to {}", number(&written["min"]), number(&written["max"]));
    row(ui, "Writes", &format!("{} tokens a second ({spread})", number(&written["median"])));
    row(ui, "Memory", &found["peak_memory_bytes"].as_u64().map(bytes).unwrap_or_default());
}

fn train_speed_ui(ui: &mut Ui, found: &Value) {
    let number = |value: &Value| value.as_f64().map_or("–".to_owned(), plain);
    let speed = &found["tokens_per_second"];
    let spread = format!("{} to {}", number(&speed["min"]), number(&speed["max"]));
    row(ui, "Learns", &format!("{} tokens a second ({spread})", number(&speed["median"])));
    row(ui, "Memory", &found["peak_memory_bytes"].as_u64().map(bytes).unwrap_or_default());
    row(ui, "Computed by", found["device"].as_str().unwrap_or("unknown"));
}

fn reference_ui(ui: &mut Ui, found: &Value) {
    let steps = found["steps"].as_u64().unwrap_or(0);
    let is_right = found["within_tolerance"] == true;
    let words = if is_right { "every number is as close as it should be" } else { "some numbers are too far off" };
    verdict_ui(ui, is_right, &format!("{steps} steps replayed: {words}"));
    let error = |value: &Value| value.as_f64().map_or("–".to_owned(), |error| format!("{error:.1e} relative error"));
    row(ui, "Loss", &error(&found["loss_relative_error"]));
    row(ui, "Logits", &error(&found["logits_relative_error"]));
    row(ui, "Gradients", &error(&found["gradient_relative_error"]["worst"]));
    row(ui, "Weights", &error(&found["updated_weight_relative_error"]["worst"]));
}

fn receipt_ui(ui: &mut Ui, found: &Value) {
    let is_right = found["verified"] == true;
    let steps = found["replayed"].as_u64().unwrap_or(0);
    let words = match (is_right, found["bit_for_bit"] == true) {
        (true, true) => format!("It is whole, and {steps} steps came out the same to the last bit"),
        (true, false) => format!("It is whole, and {steps} steps came out the same within rounding"),
        (false, _) => "It does not come out as the receipt says".to_owned(),
    };
    verdict_ui(ui, is_right, &words);
    let differs: Vec<&str> = found["differs"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !differs.is_empty() {
        row(ui, "Different", &differs.join(", "));
    }
}
