//! What the window does beside itself, with the real program: exports, the server, the disk, remedies.

use crate::rows;
use crate::trial::Window;
use peft_plan::RunConfig;
use peft_storage::Status;
use peft_studio::gui::command::{Command, Shelf};
use peft_studio::gui::errand::Ending;
use peft_studio::gui::route::Route;
use peft_studio::gui::target::Target;
use peft_studio::gui::theme::ThemeChoice;

pub(crate) fn short(window: &Window) -> RunConfig {
    let mut config = RunConfig::default();
    config.model.id = Some("starter".to_owned());
    config.dataset.path = Some(window.file("sums.jsonl", &rows(12)).display().to_string());
    config.training.max_steps = Some(2);
    config
}

/// Start a run, and wait for its page.
pub(crate) fn launched(window: &mut Window, config: RunConfig) -> String {
    window.send(Command::Launch(Box::new(config)));
    window.until("the run has its page", |window| matches!(window.state().route, Route::Run(_)));
    let Route::Run(id) = window.state().route.clone() else { unreachable!("just waited for it") };
    id
}

/// Start a run, and wait for its end.
pub(crate) fn completed(window: &mut Window, config: RunConfig) -> String {
    let id = launched(window, config);
    window.until("the run is finished", |window| {
        window.state().data.run(&id).is_some_and(|run| run.status == Status::Finished)
    });
    id
}

/// A run of two steps.
pub(crate) fn trained(window: &mut Window) -> String {
    let config = short(window);
    completed(window, config)
}

/// Wait until the files of an export are measured, and draw the page.
pub(crate) fn sized(window: &mut Window) {
    window
        .until("sizes are known", |window| window.state().pages.exports.sizes.iter().any(|(_, known)| known.is_some()));
    window.settle();
}

#[test]
fn a_run_is_exported_tested_and_talked_to_s4_15() {
    let mut window = Window::new([1280.0, 800.0]);
    trained(&mut window);
    window.press("Export");
    sized(&mut window);
    window.has("about ");
    window.press("Export: GGUF");
    window.until("it is exported", |window| {
        window.state().pages.exports.jobs.first().is_some_and(|job| job.ending.is_some())
    });
    window.settle();
    let job = &window.state().pages.exports.jobs[0];
    assert!(matches!(job.ending, Some(Ending::Done(_))), "{:?}", job.ending);
    let (expected, written) = (job.expected.expect("known"), job.files()[0].1);
    assert!(expected.abs_diff(written) * 20 <= written, "{expected} was expected, {written} came");
    window.has("checks hold");
    window.all_named();
    // S4.15: what was exported answers here, as a file of another program would.
    window.press("Test export");
    // The run may have been there before: it is loaded by itself when it is finished.
    window.until("the file can be talked to", |window| {
        let target = window.state().pages.playground.ready.as_ref().map(|ready| &ready.target);
        matches!(target, Some(Target::Model(path, None)) if path.contains("-Q8_0.gguf"))
    });
    // A failure is a card: the same name is taken now.
    window.press("Export");
    let folder = window.state().pages.exports.jobs[0].folder.clone().expect("named");
    window.state_mut().pages.exports.folder = folder.display().to_string();
    window.press("Export: GGUF");
    window.until("it is refused", |window| {
        window.state().pages.exports.jobs.get(1).is_some_and(|job| matches!(job.ending, Some(Ending::Failed(_))))
    });
    window.settle();
    window.has("already exists");
}

#[test]
fn the_server_starts_and_stops_s1_27() {
    let mut window = Window::new([1280.0, 800.0]);
    window.press("Serve");
    window.until("the store is read", |window| window.state().data.runs.is_some());
    window.state_mut().pages.server.port = 20_000 + (std::process::id() % 20_000) as u16;
    window.settle();
    window.press("Start the server");
    window.until("it listens", |window| window.state().pages.server.url.is_some());
    window.settle();
    window.has("127.0.0.1");
    window.press("Stop the server");
    window.until("it is over", |window| window.state().pages.server.id.is_none());
    assert!(window.state().pages.server.problem.is_none());
}

#[test]
fn models_are_offered_without_a_network_and_the_disk_is_looked_at_s4_14() {
    let mut window = Window::new([1280.0, 800.0]);
    window.send(Command::Open(Shelf::Discover));
    window.until("models are offered", |window| window.state().pages.models.discover.search.is_none());
    window.settle();
    window.has("Good for");
    window.all_named();
    window.send(Command::Open(Shelf::Disk));
    window.until("the disk is looked at", |window| window.state().pages.models.disk.found.is_some());
    window.settle();
    window.has("What takes the room");
    window.all_named();
}

#[test]
fn notifications_are_switched_and_diagnostics_written_s4_12() {
    let mut window = Window::new([1280.0, 1100.0]);
    window.press("Settings");
    window.until("what was chosen is read", |window| window.state().data.notices.is_some());
    window.send(Command::Theme(ThemeChoice::Light));
    window.press("A sound when a run is finished");
    window.until("it is off", |window| window.state().data.notices.is_some_and(|notices| !notices.sound));
    window.press("Write diagnostics");
    window.until("it is written", |window| window.state().data.diagnostics.is_some());
    let path = window.state().data.diagnostics.clone().expect("just waited for it");
    assert!(std::fs::read_to_string(path).expect("read").contains("== Computer =="));
}

#[test]
fn an_action_of_a_failure_does_what_it_says_s4_10_3() {
    let mut window = Window::new([1280.0, 800.0]);
    let mut config = short(&window);
    config.set("adapter.target_modules=[\"nothing\"]").expect("a setting");
    window.send(Command::Launch(Box::new(config)));
    window.until("it is refused", |window| window.state().data.refused.is_some());
    window.settle();
    let problem = window.state().toasts[0].problem.clone().expect("refused");
    let action = problem.actions.iter().find(|a| a.command.as_deref().is_some_and(|c| c.starts_with("--set")));
    let label = action.expect("settings that help").label.clone();
    window.press(&label);
    window.until("the run has begun", |window| matches!(window.state().route, Route::Run(_)));
    assert!(window.state().data.refused.is_none());
}
