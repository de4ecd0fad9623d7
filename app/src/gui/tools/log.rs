//! The log, live: filtered by words and by how much a line matters; nothing in it has to be kept from others.

use crate::gui::command::{Command, Out};
use crate::gui::log::{Level, Line, Log};
use crate::gui::state::Data;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::card;
use crate::gui::widgets::{button, field};
use eframe::egui::{ComboBox, Label, Role, ScrollArea, Ui, WidgetInfo};

/// Whose words are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// This window and the runs that it follows.
    #[default]
    Window,
    /// The process that works on the queue.
    Queue,
    /// What the process of a run wrote besides its events, by id.
    Run(String),
}

/// What the page remembers.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Words to look for.
    pub words: String,
    /// Lines that matter less are left out.
    pub least: Level,
    /// Whose words are shown.
    pub source: Source,
    /// The end of the file that is shown, and whose it is.
    pub file: Option<(Source, String)>,
    /// When it was read, in seconds since 1970.
    pub looked: i64,
}

/// Height of a line.
const HEIGHT: f32 = 18.0;

/// Draw it.
pub fn log_ui(ui: &mut Ui, data: &Data, log: &Log, state: &mut State, out: &mut Out) {
    let t = of(ui);
    ui.horizontal_wrapped(|ui| {
        field::search(ui, "Search the log", &mut state.words, 200.0);
        source_ui(ui, data, state);
        if state.source == Source::Window {
            for (level, word) in
                [(Level::Info, "Everything"), (Level::Warning, "What may matter"), (Level::Error, "What went wrong")]
            {
                if ui.selectable_label(state.least == level, word).clicked() {
                    state.least = level;
                }
            }
        }
    });
    ui.add_space(space::XS);
    let words = state.words.to_lowercase();
    let wanted = |line: &str| words.is_empty() || line.to_lowercase().contains(&words);
    let shown: Vec<(Level, String)> = match &state.source {
        Source::Window => {
            let lines = log.lines().filter(|line| line.level >= state.least);
            lines.map(|line| (line.level, Line::written(line))).filter(|(_, line)| wanted(line)).collect()
        }
        source => {
            let text = state.file.as_ref().filter(|(of, _)| of == source).map_or("", |(_, text)| text.as_str());
            text.lines().filter(|line| wanted(line)).map(|line| (Level::Info, line.to_owned())).collect()
        }
    };
    let height = (ui.ctx().content_rect().height() - 340.0).max(160.0);
    card(ui, |ui| {
        ui.set_min_height(height);
        if shown.is_empty() {
            ui.label(text::hint(t, "Nothing yet"));
        }
        let area = ScrollArea::both().id_salt("log").auto_shrink(false).max_height(height).stick_to_bottom(true);
        ui.spacing_mut().item_spacing.y = 0.0;
        area.show_rows(ui, HEIGHT, shown.len(), |ui, rows| {
            for (level, line) in shown.get(rows).unwrap_or_default() {
                let color = match level {
                    Level::Info => t.text2,
                    Level::Warning => t.warn.fg,
                    Level::Error => t.bad.fg,
                };
                ui.add(Label::new(text::code(t, line).color(color)).extend());
            }
        });
    });
    ui.horizontal_wrapped(|ui| {
        if button::secondary("Copy all")
            .named("Copy the log")
            .icon(Icon::Copy)
            .enabled(!shown.is_empty())
            .ui(ui)
            .clicked()
        {
            let lines: Vec<&str> = shown.iter().map(|(_, line)| line.as_str()).collect();
            out.push(Command::Copy(lines.join("\n")));
        }
        if button::quiet("Write diagnostics").icon(Icon::File).ui(ui).clicked() {
            out.push(Command::Diagnose);
        }
        if let Some(path) = &data.diagnostics
            && button::quiet("Show the file").icon(Icon::Folder).ui(ui).clicked()
        {
            out.push(Command::Reveal(path.clone()));
        }
        ui.label(text::hint(t, "Keys, names and your home folder are taken out. Times are UTC."));
    });
}

fn source_ui(ui: &mut Ui, data: &Data, state: &mut State) {
    let name = |source: &Source| match source {
        Source::Window => "This window and its runs".to_owned(),
        Source::Queue => "The queue".to_owned(),
        Source::Run(id) => format!("Process of {}", data.run(id).map_or("a run that is gone", |run| run.name.as_str())),
    };
    let shown: String = name(&state.source).chars().take(40).collect();
    let combo = ComboBox::from_id_salt("log source").selected_text(shown).width(220.0).truncate().show_ui(ui, |ui| {
        let runs = data.runs.iter().flatten().take(20).map(|run| Source::Run(run.id.to_string()));
        for source in [Source::Window, Source::Queue].into_iter().chain(runs) {
            if ui.selectable_label(state.source == source, name(&source)).clicked() {
                (state.source, state.looked) = (source, 0);
            }
        }
    });
    combo.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Whose log"));
}
