//! The export page: a card for each form, and below what is being written and what came of it.

use super::{Exports, FORMS, Form, HUB_FORMS, Job, USUAL_TYPES};
use crate::cli::quantity::bytes;
use crate::gui::command::{Command, Out, Purpose, Slot};
use crate::gui::errand::Ending;
use crate::gui::route::Route;
use crate::gui::state::Data;
use crate::gui::target::Target;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::{card, chip, heading, icon_label};
use crate::gui::widgets::chooser::{Chooser, Runs, chooser_ui};
use crate::gui::widgets::problem_card::problem_card;
use crate::gui::widgets::{button, empty, field, markdown, status};
use eframe::egui::{Align, Label, Layout, Ui, vec2};
use serde_json::Value;

/// Room for what a form is good for.
const SENTENCE: f32 = 40.0;

/// What the page is about: what was chosen, or the newest run that left something.
pub fn chosen(data: &Data, page: &Exports) -> Option<Target> {
    let is_there =
        |target: &Target| !matches!(target, Target::Run(id) if data.run(id).is_none_or(|run| !Runs::Over.has(run)));
    let newest = || data.runs.iter().flatten().find(|run| Runs::Over.has(run));
    page.target.clone().filter(is_there).or_else(|| newest().map(|run| Target::Run(run.id.to_string())))
}

/// Draw it.
pub fn export_ui(ui: &mut Ui, data: &Data, page: &mut Exports, out: &mut Out) {
    heading(ui, "Export", "Take what you trained to other programs. GGUF files are read again and tested.");
    let Some(target) = chosen(data, page) else {
        let sentence = "When a run is finished, what it learned can be taken to Ollama, LM Studio and others from here. Models that \
             are on this computer can be taken there, too.";
        empty::empty(ui, Icon::Upload, "Nothing to export yet", sentence, |ui| {
            if button::primary("New run").named("New run to export").icon(Icon::Plus).ui(ui).clicked() {
                out.push(Command::Go(Route::New));
            }
            what_ui(ui, data, None, page, out);
        });
        return;
    };
    card(ui, |ui| {
        ui.horizontal_wrapped(|ui| what_ui(ui, data, Some(&target), page, out));
        ui.add_space(space::S);
        types_ui(ui, &target, page);
        ui.add_space(space::S);
        folder_ui(ui, page, out);
        ui.add_space(space::S);
        hub_ui(ui, page);
    });
    if let Some(Some(Err(problem))) = page.sizes_of(&target) {
        ui.add_space(space::S);
        problem_card(ui, problem, false, out);
    }
    ui.add_space(space::M);
    for job in page.jobs.iter().rev() {
        job_ui(ui, job, out);
        ui.add_space(space::S);
    }
    let columns = ((ui.available_width() / 300.0) as usize).clamp(1, 3);
    for row in FORMS.chunks(columns) {
        ui.columns(columns, |uis| {
            for (ui, form) in uis.iter_mut().zip(row) {
                form_ui(ui, &target, form, page, out);
            }
        });
        ui.add_space(space::S);
    }
}

fn what_ui(ui: &mut Ui, data: &Data, target: Option<&Target>, page: &mut Exports, out: &mut Out) {
    if target.is_some() {
        field::name(ui, "What", None);
    }
    let what = Chooser {
        name: "What is exported",
        slot: Slot::Export,
        runs: Runs::Over,
        nothing: "Export a model",
        width: 260.0,
    };
    if let Some(other) = chooser_ui(ui, data, target, &what, out, |_| {}) {
        page.target = Some(other);
    }
}

/// What only the folder for Hugging Face asks.
fn hub_ui(ui: &mut Ui, page: &mut Exports) {
    ui.horizontal_wrapped(|ui| {
        let width = (ui.available_width() - 420.0).clamp(140.0, 260.0);
        let sentence = "Where the folder for Hugging Face is uploaded. Without one, nothing leaves this computer. A token \
            that may write is taken from HF_TOKEN or from what “hf auth login” left.";
        let label = field::name(ui, "Hugging Face repository", Some(sentence));
        field::named_line(ui, &label, &mut page.repository, "owner/name, to upload", width);
        let is_named = !page.repository.trim().is_empty();
        ui.add_enabled(is_named, eframe::egui::Checkbox::new(&mut page.is_public, "Everybody may read it"));
    });
    ui.horizontal_wrapped(|ui| {
        field::name(ui, "It gets", None);
        if ui.selectable_label(page.hub_form.is_none(), "What fits best").clicked() {
            page.hub_form = None;
        }
        for (key, word) in HUB_FORMS {
            if ui.selectable_label(page.hub_form == Some(key), word).clicked() {
                page.hub_form = Some(key);
            }
        }
    });
}

/// Types of GGUF files, each with its size.
fn types_ui(ui: &mut Ui, target: &Target, page: &mut Exports) {
    let t = of(ui);
    let sizes = match page.sizes_of(target) {
        Some(Some(Ok(sizes))) => sizes.clone(),
        Some(Some(Err(_))) => return,
        _ => {
            empty::loading(ui, "Working out how large the files will be");
            return;
        }
    };
    if let Some(why) = &sizes.obstacle {
        ui.label(text::body(t, format!("GGUF files are not possible here: {why}")));
        return;
    }
    ui.horizontal_wrapped(|ui| {
        let sentence = "How many bits each number gets. Fewer bits make a smaller and faster file that answers a little \
            less exactly. Unless one is chosen: Q4_0 for a Raspberry Pi, Q8_0 for everything else.";
        field::name(ui, "GGUF type", Some(sentence));
        let chosen = page.types.clone();
        for (name, size) in &sizes.gguf {
            let usual = USUAL_TYPES.iter().find(|(usual, _)| usual == name);
            let is_in = chosen.contains(name);
            if usual.is_none() && !is_in && !page.shows_types {
                continue;
            }
            let label = format!("{}  {}", name.to_uppercase(), bytes(*size));
            let is_default = chosen.is_empty() && name == "q8_0";
            let response = ui.selectable_label(is_in || is_default, label);
            let response = match usual {
                Some((_, word)) => response.on_hover_text(*word),
                None => response,
            };
            if response.clicked() {
                page.types = if is_in {
                    chosen.iter().filter(|other| *other != name).cloned().collect()
                } else {
                    chosen.iter().cloned().chain([name.clone()]).collect()
                };
            }
        }
        let label = if page.shows_types { "Fewer" } else { "All types" };
        if button::quiet(label).small().ui(ui).clicked() {
            page.shows_types = !page.shows_types;
        }
    });
}

fn folder_ui(ui: &mut Ui, page: &mut Exports, out: &mut Out) {
    ui.horizontal_wrapped(|ui| {
        let width = (ui.available_width() - 320.0).clamp(120.0, 420.0);
        let label = field::name(ui, "Folder", None);
        field::named_line(ui, &label, &mut page.folder, "a new one in the data folder", width);
        if button::quiet("Browse…").named("Browse for a folder").icon(Icon::Folder).ui(ui).clicked() {
            out.push(Command::Browse(Purpose::Export));
        }
    });
}

fn form_ui(ui: &mut Ui, target: &Target, form: &'static Form, page: &Exports, out: &mut Out) {
    let t = of(ui);
    card(ui, |ui| {
        ui.horizontal(|ui| {
            icon_label(ui, form.icon, t.accent, 18.0);
            ui.label(text::card_title(t, form.title));
        });
        // Cards of a row are of one height, whatever is said in them.
        ui.allocate_ui(vec2(ui.available_width(), SENTENCE), |ui| {
            ui.set_min_height(SENTENCE);
            ui.add(Label::new(text::body(t, form.sentence)).wrap());
        });
        ui.horizontal(|ui| {
            let is_possible = page.can_make(target, form);
            let is_busy = page.jobs.iter().any(|job| job.ending.is_none());
            let name = format!("Export: {}", form.title);
            let pressed = button::secondary("Export").named(&name).icon(Icon::Upload);
            if pressed.small().enabled(is_possible && !is_busy).ui(ui).clicked() {
                out.push(Command::Export(target.clone(), form.key));
            }
            if let Some(size) = page.expected(target, form) {
                ui.label(text::hint(t, format!("about {}", bytes(size))));
            }
        });
    });
}

fn job_ui(ui: &mut Ui, job: &Job, out: &mut Out) {
    let t = of(ui);
    card(ui, |ui| {
        ui.horizontal(|ui| {
            ui.label(text::card_title(t, format!("{}: {}", job.form.title, job.name)));
            match &job.ending {
                Some(Ending::Done(_)) => drop(chip(ui, t.ok, "Exported")),
                Some(Ending::Stopped) => drop(chip(ui, t.info, "Stopped, nothing was kept")),
                Some(Ending::Failed(_)) => drop(chip(ui, t.bad, "Failed")),
                None => drop(chip(ui, t.info, "Working")),
            }
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| match job.ending {
                None => {
                    if button::secondary("Stop").named("Stop the export").icon(Icon::Stop).small().ui(ui).clicked() {
                        out.push(Command::StopErrand(job.id));
                    }
                }
                Some(_) => {
                    if button::icon(Icon::Cross, "Close this export").small().ui(ui).clicked() {
                        out.push(Command::ForgetExport(job.id));
                    }
                }
            });
        });
        match &job.ending {
            None => working_ui(ui, job),
            Some(Ending::Failed(problem)) => drop(problem_card(ui, problem, false, out)),
            Some(Ending::Stopped) => {}
            Some(Ending::Done(remarks)) => done_ui(ui, job, remarks, out),
        }
    });
}

fn working_ui(ui: &mut Ui, job: &Job) {
    let t = of(ui);
    let line = match job.expected.filter(|expected| *expected > 0) {
        Some(expected) => {
            let share = job.written as f32 / expected as f32;
            status::progress(ui, "Progress of the export", share, 8.0);
            if share < 0.99 {
                format!("{} of about {}", bytes(job.written), bytes(expected))
            } else {
                "Written; it is read again and tested".to_owned()
            }
        }
        None => "Working".to_owned(),
    };
    let line = job.remark.clone().filter(|_| job.form.key == "hub" && job.written > 0).unwrap_or(line);
    ui.label(text::hint(t, line));
}

fn done_ui(ui: &mut Ui, job: &Job, remarks: &[String], out: &mut Out) {
    let t = of(ui);
    let files = job.files();
    for (path, size) in &files {
        ui.horizontal(|ui| {
            ui.label(text::hint(t, bytes(*size)));
            let shown = path.display().to_string();
            ui.add(Label::new(text::code(t, &shown)).truncate());
        });
    }
    for certificate in job.certificates() {
        certificate_ui(ui, certificate, out);
    }
    for command in remarks.iter().filter_map(|remark| remark.strip_prefix("In ")) {
        let Some((_, command)) = command.split_once(": ") else { continue };
        ui.horizontal_wrapped(|ui| {
            ui.label(text::hint(t, "In its folder, type"));
            ui.label(text::code(t, command));
            if button::icon(Icon::Copy, &format!("Copy {command}")).small().ui(ui).clicked() {
                out.push(Command::Copy(command.to_owned()));
            }
        });
    }
    ui.horizontal_wrapped(|ui| {
        if let Some(folder) = files.first().and_then(|(path, _)| path.parent())
            && button::secondary("Show the folder").icon(Icon::Folder).small().ui(ui).clicked()
        {
            out.push(Command::Reveal(folder.to_owned()));
        }
        if let Some(url) = job.uploaded() {
            ui.hyperlink_to("See it at Hugging Face", url);
        }
        if let Some(model) = job.model()
            && button::secondary("Test export")
                .icon(Icon::Chat)
                .small()
                .ui(ui)
                .on_hover_text("Talk to it in the Playground")
                .clicked()
        {
            out.push(Command::TalkTo(model));
        }
    });
}

/// What was found when a file was read again.
fn certificate_ui(ui: &mut Ui, certificate: &Value, out: &mut Out) {
    let t = of(ui);
    let checks = certificate["checks"].as_array().map_or(&[][..], Vec::as_slice);
    let held = checks.iter().filter(|check| check["passed"] == true).count();
    let is_whole = held == checks.len();
    let (icon, color) = if is_whole { (Icon::Check, t.ok.fg) } else { (Icon::Warning, t.bad.fg) };
    ui.horizontal_wrapped(|ui| {
        icon_label(ui, icon, color, 15.0);
        let far = match (certificate["divergence"]["kl"].as_f64(), certificate["divergence"]["top1_agreement"].as_f64())
        {
            (Some(kl), Some(same)) => {
                format!(
                    "; it chooses the same word as the trained model {:.1} % of the time ({kl:.4} nats apart)",
                    100.0 * same
                )
            }
            _ => String::new(),
        };
        let kind = certificate["type"].as_str().unwrap_or("File");
        let line = format!("{kind}: {held} of {} checks hold{far}", checks.len());
        let response = ui.label(text::value(t, line));
        response.on_hover_ui(|ui| {
            for check in checks {
                let mark = if check["passed"] == true { "✓" } else { "✗" };
                let name = check["name"].as_str().unwrap_or("").replace('_', " ");
                ui.label(text::body(t, format!("{mark} {name}: {}", check["detail"].as_str().unwrap_or(""))));
            }
        });
    });
    if let Some([question, answer]) = certificate["sample"].as_array().map(Vec::as_slice) {
        ui.label(text::hint(t, format!("Asked: {}", question.as_str().unwrap_or(""))));
        markdown::markdown(ui, answer.as_str().unwrap_or(""), out);
    }
}
