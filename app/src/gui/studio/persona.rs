//! A digital twin: conversations of one person from chats, journals and memories (S3.1 to S3.4).

use super::{Ask, Job, Picks, Studio, ask};
use crate::cli::quantity::count;
use crate::gui::command::{Command, Out, Purpose};
use crate::gui::errand::Secret;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::{card, chip, icon_label};
use crate::gui::widgets::{button, empty, field};
use eframe::egui::{Label, TextEdit, Ui, vec2};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Files that are named.
const NAMED: usize = 12;

/// What is read, and how it becomes conversations.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a box of its own")]
pub struct Twin {
    /// Chats, journals, memories.
    pub memories: Vec<PathBuf>,
    /// A text about the person.
    pub personality: String,
    /// The person's name in the chats.
    pub me: String,
    /// The personality stands before every conversation.
    pub has_system: bool,
    /// Other people's names are replaced.
    pub hides_names: bool,
    /// What is not good for training is left out.
    pub filters: bool,
    /// Copies are left out.
    pub deduplicates: bool,
    /// Keys, numbers and addresses are replaced.
    pub redacts: bool,
    /// Share that is held out.
    pub split: String,
    /// Where other programs ask for it.
    pub port: String,
    /// What they must send.
    pub token: String,
    /// Where it listens, while it does.
    pub url: Option<String>,
    /// What came of it.
    pub report: Option<Value>,
}

impl Default for Twin {
    fn default() -> Self {
        let empty = String::new;
        Self {
            memories: Vec::new(),
            personality: empty(),
            me: empty(),
            has_system: true,
            hides_names: true,
            filters: true,
            deduplicates: true,
            redacts: true,
            split: empty(),
            port: "8000".to_owned(),
            token: empty(),
            url: None,
            report: None,
        }
    }
}

impl Twin {
    /// The command; the conversations go to `out`.
    pub(super) fn words(&self, out: &Path) -> Vec<String> {
        let mut words = ["data", "persona", "--memories"].map(str::to_owned).to_vec();
        words.extend(self.memories.iter().map(|path| path.display().to_string()));
        words.push(format!("--out={}", out.display()));
        words.push(format!("--include-system={}", self.has_system));
        let typed = [("personality", &self.personality), ("me", &self.me), ("validation-split", &self.split)];
        let typed = typed.into_iter().filter(|(_, value)| !value.trim().is_empty());
        words.extend(typed.map(|(name, value)| format!("--{name}={}", value.trim())));
        let flags = [
            (self.hides_names, "--hide-names"),
            (self.filters, "--quality-filter"),
            (self.deduplicates, "--deduplicate"),
            (self.redacts, "--redact"),
        ];
        words.extend(flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag.to_owned()));
        words
    }

    /// The same, whenever another program asks for it.
    pub(super) fn served(&self, out: &Path) -> (Vec<String>, Vec<Secret>) {
        let mut words = self.words(out);
        words.extend(["--serve".to_owned(), format!("--port={}", self.port.trim())]);
        (words, vec![("PEFT_STUDIO_API_KEY", self.token.trim().to_owned())])
    }

    /// More memories.
    pub(super) fn add(&mut self, paths: Vec<PathBuf>) {
        for path in paths {
            if !self.memories.contains(&path) {
                self.memories.push(path);
            }
        }
    }
}

pub(super) fn persona_ui(ui: &mut Ui, page: &mut Studio, out: &mut Out) {
    let t = of(ui);
    let is_busy = page.is_busy(Job::Persona);
    card(ui, |ui| {
        let about = "A model that speaks as one person does. Chats exported from WhatsApp, Telegram, Discord, ChatGPT and \
                     Claude are understood, and journals and notes as text. Nothing leaves this computer.";
        ui.add(Label::new(text::body(t, about)).wrap());
        ui.add_space(space::S);
        memories_ui(ui, &mut page.twin, out);
        wishes_ui(ui, &mut page.twin, out);
        ui.add_space(space::S);
        ui.horizontal_wrapped(|ui| {
            let can = !page.twin.memories.is_empty() && !is_busy;
            if button::primary("Make conversations").icon(Icon::Person).enabled(can).ui(ui).clicked() {
                out.push(ask(Ask::Persona));
            }
            if page.twin.memories.is_empty() {
                ui.label(text::hint(t, "Add chats, journals or memories first"));
            }
        });
        if is_busy {
            empty::loading(ui, "Reading chats");
        }
    });
    if let Some(report) = page.twin.report.clone().filter(|_| !is_busy) {
        ui.add_space(space::M);
        card(ui, |ui| report_ui(ui, page, &report, out));
    }
    ui.add_space(space::M);
    card(ui, |ui| served_ui(ui, page, out));
}

fn memories_ui(ui: &mut Ui, twin: &mut Twin, out: &mut Out) {
    let t = of(ui);
    ui.horizontal_wrapped(|ui| {
        if button::secondary("Add chats and memories…").icon(Icon::Plus).ui(ui).clicked() {
            out.push(Command::Browse(Purpose::Studio(Picks::Memories)));
        }
        if button::secondary("Add a folder of them…").icon(Icon::Folder).ui(ui).clicked() {
            out.push(Command::Browse(Purpose::Studio(Picks::MemoryFolder)));
        }
        if !twin.memories.is_empty() && button::quiet("Clear").named("Clear the memories").ui(ui).clicked() {
            twin.memories.clear();
        }
    });
    ui.horizontal_wrapped(|ui| {
        for path in twin.memories.iter().take(NAMED) {
            let name =
                path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
            let short: String = name.chars().take(40).collect();
            chip(ui, t.info, &short).on_hover_text(path.display().to_string());
        }
        if twin.memories.len() > NAMED {
            ui.label(text::hint(t, format!("and {} more", twin.memories.len() - NAMED)));
        }
    });
}

fn wishes_ui(ui: &mut Ui, twin: &mut Twin, out: &mut Out) {
    ui.horizontal_wrapped(|ui| {
        field::line(ui, "The person's name in them", &mut twin.me, "whoever writes in most of them", 200.0);
        field::line(ui, "A text about the person", &mut twin.personality, "personality.txt", 170.0);
        if button::icon(Icon::Folder, "Choose the text about the person").ui(ui).clicked() {
            out.push(Command::Browse(Purpose::Studio(Picks::Personality)));
        }
    });
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = space::L;
        ui.checkbox(&mut twin.has_system, "Put that text before every conversation");
        ui.checkbox(&mut twin.hides_names, "Replace other people's names");
        ui.checkbox(&mut twin.redacts, "Replace keys, numbers and addresses");
        ui.checkbox(&mut twin.deduplicates, "Leave copies out");
        ui.checkbox(&mut twin.filters, "Leave out what is not good for training");
        ui.spacing_mut().item_spacing.x = space::S;
        field::line(ui, "Share held out", &mut twin.split, "0.1", 50.0);
    });
}

fn report_ui(ui: &mut Ui, page: &Studio, report: &Value, out: &mut Out) {
    let t = of(ui);
    let rows = report["rows"].as_u64().unwrap_or(0);
    ui.label(text::card_title(t, format!("{} conversations", count(rows))));
    if let Some(me) = report["me"].as_str() {
        let line = format!("{me} is the one who answers; type another name if that is wrong");
        ui.add(Label::new(text::body(t, line)).wrap());
    }
    let replaced = report["names_replaced"].as_u64().unwrap_or(0);
    if replaced > 0 {
        ui.label(text::body(t, format!("{} names of other people replaced", count(replaced))));
    }
    for passed in report["passed"].as_array().into_iter().flatten().take(NAMED) {
        ui.horizontal_wrapped(|ui| {
            icon_label(ui, Icon::Warning, t.warn.fg, 14.0);
            let word = |name: &str| passed[name].as_str().unwrap_or_default();
            let path = Path::new(word("path"));
            let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            ui.add(Label::new(text::body(t, format!("{name} was passed over: {}", word("reason")))).wrap());
        });
    }
    super::view::made_ui(ui, report["out"].as_str().unwrap_or_default(), rows > 0 && !page.is_busy(Job::Versions), out);
}

/// Another program of this computer may ask for it (S3.2, D6).
fn served_ui(ui: &mut Ui, page: &mut Studio, out: &mut Out) {
    let t = of(ui);
    let is_on = page.is_busy(Job::PersonaServer);
    ui.label(text::card_title(t, "For another program"));
    let about = "Programs of this computer that know the token can have it made anew: POST /api/finetune/export";
    ui.add(Label::new(text::body(t, about)).wrap());
    ui.horizontal_wrapped(|ui| {
        if is_on {
            if button::secondary("Stop listening").icon(Icon::Stop).ui(ui).clicked() {
                out.push(ask(Ask::Stop(Job::PersonaServer)));
            }
            match &page.twin.url {
                Some(url) => ui.add(Label::new(text::code(t, url)).wrap()),
                None => ui.spinner(),
            };
            return;
        }
        field::line(ui, "Port", &mut page.twin.port, "8000", 60.0);
        let label = ui.label(text::hint(t, "Token"));
        let token =
            TextEdit::singleline(&mut page.twin.token).password(true).desired_width(150.0).margin(vec2(10.0, 7.0));
        field::named(ui, token, label.id);
        let can = !page.twin.token.trim().is_empty() && !page.twin.memories.is_empty();
        if button::secondary("Listen").named("Listen to other programs").icon(Icon::Globe).enabled(can).ui(ui).clicked()
        {
            out.push(ask(Ask::ServePersona));
        }
    });
}
