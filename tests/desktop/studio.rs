//! The data studio with the real program: a folder of documents to chunks, rows to scores and versions, and to a run.

use crate::rows;
use crate::trial::Window;
use peft_studio::gui::command::Command;
use peft_studio::gui::route::Route;
use peft_studio::gui::studio::{Ask, Job, Tab};

const PAGE: &str =
    "# Opening hours\n\nThe shop opens at nine. It closes at six.\n\n## Holidays\n\nNobody is there on Sundays.\n";

#[test]
fn documents_become_chunks_rows_are_scored_and_versions_kept_s2_1_s2_8() {
    let mut window = Window::new([1280.0, 800.0]);
    let page = window.file("hours.md", PAGE);
    let broken = window.file("broken.pdf", "%PDF-1.7");
    window.press("Data studio");
    window.until("projects are known", |window| window.state().pages.studio.projects.is_some());
    window.settle();
    window.has("No project yet");
    window.send(Command::Studio(Ask::Create("shop".to_owned())));
    window.until("there is a project", |window| window.state().pages.studio.documents.is_some());
    window.settle();
    window.has("No documents yet");
    window.all_named();
    window.send(Command::Studio(Ask::Add(vec![broken.clone()])));
    window.until("it is told", |window| {
        let studio = &window.state().pages.studio;
        !studio.is_busy(Job::Chunk) && studio.report.as_ref().is_some_and(|told| told["unreadable"][0].is_object())
    });
    window.drop_file(&page);
    window.until("documents are read", |window| !window.state().pages.studio.is_busy(Job::Chunk));
    window.send(Command::Studio(Ask::Add(vec![page, broken])));
    window.until("documents are read", |window| {
        let studio = &window.state().pages.studio;
        !studio.is_busy(Job::Chunk) && studio.documents.as_ref().is_some_and(|documents| documents.len() == 1)
    });
    window.settle();
    window.has("Left out");
    window.press("Show the chunks of hours.md");
    window.until("chunks are there", |window| window.state().pages.studio.chunks.is_some());
    window.settle();
    assert_eq!(window.state().pages.studio.tab, Tab::Chunks);
    window.has("Opening hours");
    window.send(Command::Studio(Ask::Search("sundays".to_owned())));
    window.until("something is found", |window| {
        window.state().pages.studio.results.as_ref().is_some_and(|r| !r.is_empty())
    });
    window.settle();
    window.has("hours.md");
    window.all_named();

    let data = window.file("sums.jsonl", &rows(12));
    window.send(Command::Studio(Ask::Import(data.clone())));
    window.until("there are rows", |window| window.state().pages.studio.has_rows);
    window.press("Quality");
    window.settle();
    window.press("Score the rows");
    window.until("rows are scored", |window| window.state().pages.studio.scores.is_some());
    window.settle();
    window.has("Points on average");
    window.send(Command::Studio(Ask::Contamination(data.display().to_string())));
    window.until("they are compared", |window| window.state().pages.studio.leaks.is_some());
    window.settle();
    window.has("12 of 12 evaluation rows are given away");
    window.press("Versions");
    window.until("versions are listed", |window| {
        window.state().pages.studio.versions.as_ref().is_some_and(|found| found["versions"][0]["version"] == 1)
    });
    window.settle();
    window.press("What changed since version 1");
    window.until("they are compared", |window| window.state().pages.studio.diff.is_some());
    window.settle();
    window.has("12 rows as they were, 0 new");
    window.all_named();
    assert!(window.state().pages.studio.problem.is_none());
    window.press("Train on this");
    window.until("the wizard has the rows", |window| window.state().pages.wizard.found.is_some());
    assert_eq!(window.state().route, Route::New);
    assert!(matches!(window.state().pages.wizard.found, Some(Ok(_))));
}

#[test]
fn what_goes_wrong_in_the_studio_is_a_card() {
    let mut window = Window::new([960.0, 600.0]);
    window.press("Data studio");
    window.send(Command::Studio(Ask::Create("p".to_owned())));
    window.until("there is a project", |window| window.state().pages.studio.documents.is_some());
    let broken = window.file("broken.pdf", "%PDF-1.7");
    window.send(Command::Studio(Ask::Add(vec![broken])));
    window.until("it is told", |window| {
        let studio = &window.state().pages.studio;
        !studio.is_busy(Job::Chunk) && studio.report.as_ref().is_some_and(|told| told["unreadable"][0].is_object())
    });
    window.settle();
    window.has("PS-DATA-011");
    window.send(Command::Studio(Ask::Create("a/b".to_owned())));
    window.until("it is told", |window| window.state().toasts.iter().any(|toast| toast.problem.is_some()));
}
