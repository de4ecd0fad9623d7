//! The data studio without a pointer: Tab reaches everything that can be used on every tab of it, where the focus is can
//! be seen, and a project goes from its documents to a run by keys alone.

use crate::helper::{MockHelper, Way};
use crate::teaching::{ask_it, prepared, row, studio, with_houses};
use crate::trial::Window;
use eframe::egui::accesskit::Role;
use eframe::egui::epaint::ClippedShape;
use eframe::egui::{Color32, Key, Modifiers, Rect, Shape};
use egui_kittest::kittest::NodeT;
use peft_plan::helper::Service;
use peft_studio::gui::command::Command;
use peft_studio::gui::route::Route;
use peft_studio::gui::studio::{Ask, Job, Tab};
use std::collections::BTreeSet;

/// What can be used.
const USED: [Role; 6] =
    [Role::Button, Role::CheckBox, Role::TextInput, Role::MultilineTextInput, Role::ComboBox, Role::RadioButton];
/// More than any page has.
const MOST: usize = 200;

/// What has the focus: its role, name and place.
fn focused(window: &Window) -> Option<(Role, String, Rect)> {
    let node = window.harness.root().children_recursive().find(|node| node.accesskit_node().is_focused())?;
    let (role, name) = (node.accesskit_node().role(), node.accesskit_node().label().unwrap_or_default());
    USED.contains(&role).then(|| (role, name, node.rect()))
}

/// Everything that can be used now, with its name.
fn usable(window: &Window) -> BTreeSet<String> {
    let nodes = window.harness.root().children_recursive();
    let name = |node: egui_kittest::Node| {
        let node = node.accesskit_node();
        let is_used = USED.contains(&node.role()) && !node.is_disabled();
        is_used.then(|| node.label().unwrap_or_default())
    };
    nodes.filter_map(name).collect()
}

/// Lines in the colour of the focus.
fn strokes(shape: &Shape, color: Color32, found: &mut Vec<Rect>) {
    match shape {
        Shape::Vec(all) => all.iter().for_each(|shape| strokes(shape, color, found)),
        Shape::Rect(rect) if rect.stroke.width >= 1.0 && rect.stroke.color == color => found.push(rect.rect),
        _ => {}
    }
}

fn is_marked(window: &Window, place: Rect) -> bool {
    let color = window.harness.ctx.style_of(window.harness.ctx.theme()).visuals.widgets.active.bg_stroke.color;
    let mut found = Vec::new();
    for ClippedShape { shape, .. } in &window.harness.output().shapes {
        strokes(shape, color, &mut found);
    }
    found.iter().any(|rect| rect.expand(6.0).contains_rect(place.shrink(4.0)) || place.expand(6.0).contains_rect(*rect))
}

/// Tab until `name` has the focus.
fn to(window: &mut Window, name: &str) {
    let mut seen = Vec::new();
    for _ in 0..MOST {
        window.keys(Modifiers::NONE, Key::Tab);
        let Some((_, found, _)) = focused(window) else { continue };
        if found == name {
            return;
        }
        seen.push(found);
    }
    panic!("Tab does not reach `{name}`: {seen:?}");
}

/// Tab to `name` and press it.
fn press(window: &mut Window, name: &str) {
    to(window, name);
    window.keys(Modifiers::NONE, Key::Enter);
}

/// Type into what has the focus.
fn type_in(window: &mut Window, name: &str, text: &str) {
    to(window, name);
    window.keys(Modifiers::COMMAND, Key::A);
    window.harness.event(eframe::egui::Event::Text(text.to_owned()));
    window.settle();
}

#[test]
fn tab_reaches_everything_on_every_tab_of_the_studio_and_is_seen_ux_keyboard() {
    let mut window = prepared(Window::new([1280.0, 2400.0]));
    with_houses(&mut window);
    let mock = MockHelper::new(|_| Way::Good, row);
    ask_it(&mut window, &mock);
    window.state_mut().pages.studio.making.pairs = "1".to_owned();
    window.send(Command::Studio(Ask::Generate(false)));
    window.until("rows are written", |window| !studio(window).is_busy(Job::Generate));
    window.until("there are rows", |window| studio(window).has_rows);
    let tabs = [
        Tab::Documents,
        Tab::Chunks,
        Tab::Search,
        Tab::Generate,
        Tab::Label,
        Tab::Persona,
        Tab::Quality,
        Tab::Versions,
    ];
    let mut faults = Vec::new();
    for tab in tabs {
        window.state_mut().pages.studio.tab = tab;
        window.until("it is there", |window| tab != Tab::Generate || studio(window).review.job().is_some());
        window.until("it is there", |window| tab != Tab::Versions || !studio(window).is_busy(Job::Versions));
        window.settle();
        let wanted = usable(&window);
        let mut reached = BTreeSet::new();
        for _ in 0..MOST {
            window.keys(Modifiers::NONE, Key::Tab);
            let Some((role, name, place)) = focused(&window) else { continue };
            if reached.insert(name.clone()) && !is_marked(&window, place) {
                faults.push(format!("{tab:?}: the focus is not seen at {role:?} `{name}`"));
            }
            if wanted.is_subset(&reached) {
                break;
            }
        }
        faults.extend(wanted.difference(&reached).map(|name| format!("{tab:?}: Tab does not reach `{name}`")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_project_goes_from_documents_to_a_run_by_keys_alone_s2_3() {
    let mut window = Window::new([1280.0, 1600.0]);
    press(&mut window, "Data studio");
    window.until("projects are known", |window| studio(window).projects.is_some());
    type_in(&mut window, "New project", "town");
    press(&mut window, "Create the project");
    window.until("there is a project", |window| studio(window).documents.is_some());
    // The dialog for files is the desktop's own.
    with_houses(&mut window);
    press(&mut window, "Show the chunks of houses.md");
    window.until("they are shown", |window| studio(window).tab == Tab::Chunks && studio(window).chunks.is_some());
    press(&mut window, "Generate");
    let mock = MockHelper::new(|_| Way::Good, row);
    // A list opens, and what is in it is reached and taken, too.
    press(&mut window, "Helper");
    press(&mut window, "OpenRouter");
    assert_eq!(studio(&window).writer.service, Service::OpenRouter);
    ask_it(&mut window, &mock);
    window.settle();
    type_in(&mut window, "Rows of each chunk", "1");
    press(&mut window, "Write rows");
    window.until("rows are written", |window| !studio(window).is_busy(Job::Generate) && studio(window).has_rows);
    window.until("they are shown", |window| studio(window).review.job().is_some_and(|job| job.taken == 6));
    window.settle();
    let first = studio(&window).review.queue.as_ref().expect("read").rows[0].row.id;
    press(&mut window, &format!("Accept row {first}"));
    window.until("it is taken", |window| studio(window).review.job().is_some_and(|job| job.approved == 1));
    press(&mut window, "Quality");
    press(&mut window, "Score the rows");
    window.until("rows are scored", |window| studio(window).scores.is_some());
    press(&mut window, "Versions");
    type_in(&mut window, "Note", "by keys");
    press(&mut window, "Keep as a version");
    window.until("it is kept", |window| {
        studio(window).versions.as_ref().is_some_and(|found| found["versions"].to_string().contains("by keys"))
    });
    press(&mut window, "Train on this");
    window.until("the wizard has the rows", |window| window.state().pages.wizard.found.is_some());
    assert_eq!(window.state().route, Route::New);
}
