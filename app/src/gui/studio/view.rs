//! The page: which project, which part, and the way to a run.

use super::{Ask, Studio, Tab, ask, card, chunks, documents, generate, label, meaning, persona, quality, versions};
use crate::gui::command::{Command, Out, Purpose};
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::heading;
use crate::gui::widgets::problem_card::problem_card;
use crate::gui::widgets::{button, empty, field};
use eframe::egui::{ComboBox, Label, Role, Ui, WidgetInfo};

/// Draw it.
pub fn studio_ui(ui: &mut Ui, page: &mut Studio, out: &mut Out) {
    heading(ui, "Data studio", "From documents, questions and memories to rows worth training on.");
    let Some(projects) = page.projects.clone() else {
        empty::loading(ui, "Looking for projects");
        return;
    };
    projects_ui(ui, page, &projects, out);
    if let Some(problem) = page.problem.clone()
        && problem_card(ui, &problem, true, out)
    {
        page.problem = None;
    }
    if page.project.is_none() {
        let sentence = "A project keeps documents, their chunks and the rows made of them. Name one above to begin.";
        empty::empty(ui, Icon::Database, "No project yet", sentence, |_| {});
        return;
    }
    let tabs = [
        (Tab::Documents, "Documents"),
        (Tab::Chunks, "Chunks"),
        (Tab::Search, "Search"),
        (Tab::Generate, "Generate"),
        (Tab::Label, "Label"),
        (Tab::Persona, "Persona"),
        (Tab::Quality, "Quality"),
        (Tab::Versions, "Versions"),
    ];
    field::tabs(ui, &mut page.tab, &tabs);
    ui.add_space(space::S);
    match page.tab {
        Tab::Documents => documents::documents_ui(ui, page, out),
        Tab::Chunks => chunks::chunks_ui(ui, page, out),
        Tab::Search => meaning::meaning_ui(ui, page, out),
        Tab::Generate => generate::generate_ui(ui, page, out),
        Tab::Label => label::label_ui(ui, page, out),
        Tab::Persona => persona::persona_ui(ui, page, out),
        Tab::Quality => {
            quality::quality_ui(ui, page, out);
            if page.has_rows {
                ui.add_space(space::M);
                card::card_ui(ui, page, out);
            }
        }
        Tab::Versions => versions::versions_ui(ui, page, out),
    }
}

fn projects_ui(ui: &mut Ui, page: &mut Studio, projects: &[String], out: &mut Out) {
    let t = of(ui);
    ui.horizontal_wrapped(|ui| {
        if let Some(project) = &page.project {
            ui.label(text::hint(t, "Project"));
            let mut chosen = project.clone();
            let combo = ComboBox::from_id_salt("project").selected_text(&chosen).show_ui(ui, |ui| {
                for name in projects {
                    ui.selectable_value(&mut chosen, name.clone(), name);
                }
            });
            combo.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Project"));
            if chosen != *project {
                out.push(ask(Ask::Open(chosen)));
            }
        }
        field::line(ui, "New project", &mut page.typed.name, "a name", 104.0);
        let can_create = !page.typed.name.trim().is_empty();
        if button::secondary("Create").named("Create the project").enabled(can_create).icon(Icon::Plus).ui(ui).clicked()
        {
            out.push(ask(Ask::Create(page.typed.name.clone())));
        }
        if page.project.is_some() {
            if button::secondary("Import rows…").icon(Icon::Upload).ui(ui).clicked() {
                out.push(Command::Browse(Purpose::Rows));
            }
            if button::primary("Train on this").enabled(page.has_rows).ui(ui).clicked() {
                out.push(Command::TrainOnProject);
            }
        }
    });
    if page.project.is_some() && !page.has_rows {
        let sentence =
            "No rows to train on yet: import a file, or have some written, answered or taken from chats below.";
        ui.label(text::hint(t, sentence));
    }
    ui.add_space(space::S);
}

/// A file of rows that was made: to be shown, or to become the project's rows.
pub(super) fn made_ui(ui: &mut Ui, file: &str, can: bool, out: &mut Out) {
    let t = of(ui);
    ui.add(Label::new(text::code(t, file)).wrap());
    ui.horizontal_wrapped(|ui| {
        let word = "Make them the project's rows";
        let hint = "The rows that the project has are kept as a version";
        if button::primary(word).icon(Icon::Check).enabled(can).ui(ui).on_hover_text(hint).clicked() {
            out.push(ask(Ask::Import(file.into())));
        }
        if button::quiet("Show the file").icon(Icon::Folder).ui(ui).clicked() {
            out.push(Command::Reveal(file.into()));
        }
    });
}
