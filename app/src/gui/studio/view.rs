//! The page: which project, which part, and the way to a run.

use super::{Ask, Studio, Tab, ask, chunks, documents, quality, versions};
use crate::gui::command::{Command, Out, Purpose};
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::heading;
use crate::gui::widgets::problem_card::problem_card;
use crate::gui::widgets::{button, empty, field};
use eframe::egui::{ComboBox, Role, Ui, WidgetInfo};

/// Draw it.
pub fn studio_ui(ui: &mut Ui, page: &mut Studio, out: &mut Out) {
    heading(ui, "Data studio", "From documents to rows worth training on. Nothing leaves this computer here.");
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
        (Tab::Quality, "Quality"),
        (Tab::Versions, "Versions"),
    ];
    field::tabs(ui, &mut page.tab, &tabs);
    ui.add_space(space::S);
    match page.tab {
        Tab::Documents => documents::documents_ui(ui, page, out),
        Tab::Chunks => chunks::chunks_ui(ui, page, out),
        Tab::Quality => quality::quality_ui(ui, page, out),
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
        field::line(ui, "New project", &mut page.typed.name, "such as handbook", 160.0);
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
        let sentence = "No rows to train on yet: import a file, or write some from the chunks with a helper model (`peft-studio data generate --project`).";
        ui.label(text::hint(t, sentence));
    }
    ui.add_space(space::S);
}
