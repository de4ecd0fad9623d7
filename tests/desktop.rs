//! The desktop app, driven through its accessible names with the real engine: no display, no graphics card.

#[path = "desktop/acceptance.rs"]
mod acceptance;
#[path = "src/helper.rs"]
#[expect(dead_code, unreachable_pub, reason = "other tests use the rest, from another crate")]
mod helper;
#[path = "desktop/hostile.rs"]
mod hostile;
#[path = "desktop/keyboard.rs"]
mod keyboard;
#[path = "desktop/layout.rs"]
mod layout;
#[path = "src/listener.rs"]
#[expect(unreachable_pub, reason = "other tests use the rest, from another crate")]
mod listener;
#[path = "desktop/numbers.rs"]
mod numbers;
#[path = "desktop/outside.rs"]
mod outside;
#[path = "desktop/paint.rs"]
mod paint;
#[path = "desktop/pictures.rs"]
mod pictures;
#[path = "desktop/screen.rs"]
#[cfg(target_os = "linux")]
mod screen;
#[path = "desktop/staged.rs"]
mod staged;
#[path = "desktop/studio.rs"]
mod studio;
#[path = "desktop/studio_pictures.rs"]
mod studio_pictures;
#[path = "desktop/teaching.rs"]
mod teaching;
#[path = "desktop/tools.rs"]
mod tools;
#[path = "desktop/tour.rs"]
mod tour;
#[path = "desktop/trial.rs"]
mod trial;

use eframe::egui::{self, Event, Key, Modifiers};
use egui_kittest::kittest::Queryable;
use peft_storage::Status;
use peft_studio::gui::command::Command;
use peft_studio::gui::route::{RAIL, Route};
use peft_studio::gui::theme::ThemeChoice;
use peft_studio::gui::wizard::Step;
use trial::Window;

/// Rows that the starter learns in a few steps.
fn rows(count: usize) -> String {
    let row = |i: usize| {
        format!(
            "{{\"messages\":[{{\"role\":\"user\",\"content\":\"What is {i} and one?\"}},{{\"role\":\"assistant\",\"content\":\"It is {}.\"}}]}}\n",
            i + 1
        )
    };
    (0..count).map(row).collect()
}

#[test]
fn every_page_opens_from_the_rail_in_every_theme_and_names_everything() {
    let mut window = Window::new([1280.0, 800.0]);
    for (theme, _) in ThemeChoice::ALL {
        window.send(Command::Theme(theme));
        for (route, name, _) in &RAIL {
            window.press(name);
            window.settle();
            assert_eq!(window.state().route, *route);
            assert!(window.state().broken.is_none(), "{name} broke");
            window.all_named();
        }
    }
}

#[test]
fn the_whole_rail_is_seen_in_a_small_window() {
    let window = Window::new([960.0, 600.0]);
    for (_, name, _) in &RAIL {
        let found = window.harness.query_all_by_label(name).find(|node| node.rect().left() < 60.0);
        let rect = found.unwrap_or_else(|| panic!("{name} is not in the rail")).rect();
        assert!(rect.bottom() <= 600.0 && rect.height() >= 28.0, "{name}: {rect:?}");
    }
}

#[test]
fn a_page_stands_in_the_middle_of_a_large_screen() {
    let mut window = Window::new([2560.0, 1440.0]);
    window.until("the store is read", |window| window.state().data.runs.is_some());
    window.settle();
    let [first, last] = ["Try it now", "Talk to a model"]
        .map(|name| window.harness.query_all_by_label(name).next().expect("shown").rect());
    let (left, right) = (first.left() - 188.0, 2560.0 - last.right());
    assert!((left - right).abs() < 40.0 && last.right() - first.left() > 1300.0, "{left} and {right}");
}

#[test]
fn signs_of_feelings_are_no_boxes() {
    let window = Window::new([960.0, 600.0]);
    for family in [egui::FontFamily::Proportional, egui::FontFamily::Monospace] {
        let font = egui::FontId::new(14.0, family);
        for sign in ['🎉', '✨', '👍', 'é', 'Ж', 'Ω'] {
            let has = window.harness.ctx.fonts_mut(|fonts| fonts.has_glyph(&font, sign));
            assert!(has, "{sign} in {font:?}");
        }
    }
}

#[test]
fn keys_open_pages_the_palette_and_change_the_size() {
    let mut window = Window::new([1280.0, 800.0]);
    window.keys(Modifiers::COMMAND, Key::Num3);
    assert_eq!(window.state().route, Route::Runs);
    window.keys(Modifiers::COMMAND, Key::K);
    assert!(window.state().palette.is_some());
    window.harness.event(Event::Text("sett".to_owned()));
    window.settle();
    window.keys(Modifiers::NONE, Key::Enter);
    assert_eq!(window.state().route, Route::Settings);
    window.keys(Modifiers::COMMAND, Key::Plus);
    assert!((window.state().settings.scale - 1.1).abs() < 1e-3);
    window.keys(Modifiers::COMMAND, Key::Num0);
    window.keys(Modifiers::ALT, Key::ArrowLeft);
    assert_eq!(window.state().route, Route::Runs);
    let was_wide = window.state().settings.wide_rail;
    window.keys(Modifiers::COMMAND, Key::B);
    assert_ne!(window.state().settings.wide_rail, was_wide);
    window.keys(Modifiers::COMMAND | Modifiers::SHIFT, Key::N);
    assert_eq!(window.state().route, Route::Playground);
}

#[test]
fn nothing_yet_says_what_will_be_there_s4_1() {
    let mut window = Window::new([1280.0, 800.0]);
    window.until("the store is read", |window| window.state().data.runs.is_some());
    window.has("Welcome");
    window.press("Runs");
    window.settle();
    window.has("No runs yet");
    window.press("Compare");
    window.settle();
    window.has("Nothing to compare yet");
}

#[test]
fn the_wizard_goes_from_welcome_to_a_trained_model_that_answers_s4_1_to_s4_7() {
    let mut window = Window::new([1280.0, 900.0]);
    let data = window.file("sums.jsonl", &rows(40));
    window.press("New run");
    window.settle();
    window.has("What do you want to make?");
    window.press("Question answering on my documents");
    window.settle();
    assert_eq!(window.state().pages.wizard.step, Step::Model);
    window.until("models are listed", |window| window.state().data.models.is_some());
    window.press("Starter (built in)");
    window.settle();
    window.press("Next step");
    window.settle();
    window.send(Command::Inspect(vec![data]));
    window.until("the examples are looked at", |window| window.state().pages.wizard.found.is_some());
    window.settle();
    window.has("How they are read");
    assert!(matches!(window.state().pages.wizard.found, Some(Ok(_))));
    window.state_mut().pages.wizard.config.training.max_steps = Some(4);
    window.press("Next step");
    window.until("settings have reasons", |window| window.state().pages.wizard.answer.is_some());
    let answer = &window.state().pages.wizard.answer;
    assert!(matches!(answer, Some(Ok(_))), "{answer:?}");
    window.settle();
    window.has("Why these values");
    window.press("Next step");
    window.until("the run can start", |window| window.state().pages.wizard.to_start().is_some());
    window.settle();
    window.has("Energy");
    window.press("Start training");
    window.until("the run has its page", |window| matches!(window.state().route, Route::Run(_)));
    let Route::Run(id) = window.state().route.clone() else { unreachable!("just waited for it") };
    window.until("the run is finished", |window| {
        window.state().data.run(&id).is_some_and(|run| run.status == Status::Finished)
    });
    window.until("its story is told", |window| {
        window.state().data.stories.get(&id).is_some_and(|s| s.finished.is_some())
    });
    window.settle();
    window.has("Loss");
    // S4.7.1: it loads by itself; both answer together.
    window.press("Try it");
    window.until("it can be talked to", |window| window.state().pages.playground.ready.is_some());
    window.settle();
    window.send(Command::Say("What is 3 and one?".to_owned()));
    window.until("both answered", |window| {
        let page = &window.state().pages.playground;
        !page.is_busy && page.exchanges.last().is_some_and(|e| e.base.is_some() && e.tuned.is_some())
    });
    window.settle();
    window.has("Before training");
    window.has("After training");
    assert!(window.state().pages.playground.exchanges[0].kept.is_some(), "S4.7.5: it is kept");
}

#[test]
fn files_that_are_dropped_are_looked_at_or_explained() {
    let mut window = Window::new([960.0, 600.0]);
    for (name, content, is_good) in [
        ("good.jsonl", rows(5).into_bytes(), true),
        ("empty.jsonl", Vec::new(), false),
        ("picture.png", vec![0x89, b'P', b'N', b'G', 0, 0, 1, 255], false),
    ] {
        let path = window.bytes(name, &content);
        window.drop_file(&path);
        window.until(name, |window| {
            window.state().pages.wizard.found.is_some() && !window.state().pages.wizard.is_inspecting
        });
        window.settle();
        let wizard = &mut window.state_mut().pages.wizard;
        wizard.paths.clear();
        let found = wizard.found.take();
        assert_eq!(found.as_ref().is_some_and(Result::is_ok), is_good, "{name}: {found:?}");
    }
    // S4.4.4: what cannot be told by itself is asked.
    let row = r#"{"xq":"What is one and one?","yq":"It is two."}"#;
    let odd = window.file("odd.jsonl", &format!("{row}\n").repeat(3));
    window.drop_file(&odd);
    window.until("its columns are not known", |window| matches!(window.state().pages.wizard.found, Some(Err(_))));
    window.settle();
    for (part, column) in [("Column for Question", "xq"), ("Column for Answer", "yq")] {
        window.press(part);
        window.press(column);
    }
    window.until(
        "they are",
        |window| matches!(&window.state().pages.wizard.found, Some(Ok(found)) if found.inspection.rows == 3),
    );
    window.settle();
    let gone = window.file("gone.jsonl", "x");
    std::fs::remove_file(&gone).expect("removed");
    window.drop_file(&gone);
    window.until("it is explained", |window| matches!(window.state().pages.wizard.found, Some(Err(_))));
}

#[test]
fn a_run_that_cannot_begin_says_why_in_the_window_s4_10() {
    let mut window = Window::new([1280.0, 800.0]);
    let mut config = peft_plan::RunConfig::default();
    config.model.id = Some("starter".to_owned());
    config.dataset.path = Some(window.path("missing.jsonl"));
    window.send(Command::Launch(Box::new(config)));
    window.until("it is told", |window| window.state().toasts.iter().any(|toast| toast.problem.is_some()));
    let problem = window.state().toasts[0].problem.clone().expect("just seen");
    assert!(problem.code.starts_with("PS-") && problem.actions.len() >= 2, "{problem:?}");
    window.settle();
    window.has(&problem.title);
    window.press("Close this message");
    window.settle();
    assert!(window.state().toasts.is_empty());
}

#[test]
fn a_damaged_store_is_told_and_the_window_stays() {
    let mut window = Window::with_home([1280.0, 800.0], |home| {
        std::fs::write(home.join("studio.sqlite"), b"this is no database, and long enough to be looked at".repeat(40))
            .expect("written");
    });
    window.until("it is told", |window| window.state().data.store_problem.is_some());
    window.settle();
    window.press("Settings");
    window.settle();
    assert_eq!(window.state().route, Route::Settings);
}

/// Keys, buttons, wheels, text and sizes without sense.
fn storm(count: usize) {
    let mut window = Window::new([1280.0, 800.0]);
    window.until("the store is read", |window| window.state().data.runs.is_some());
    let mut seed: u64 = 7;
    let mut draw = move |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    let keys =
        [Key::Tab, Key::Enter, Key::Escape, Key::Space, Key::ArrowDown, Key::ArrowUp, Key::K, Key::Num3, Key::Num5];
    for _ in 0..count {
        let size = window.harness.ctx.content_rect().size();
        let pos = egui::pos2(draw(size.x.max(1.0) as u64) as f32, draw(size.y.max(1.0) as u64) as f32);
        match draw(12) {
            0..=3 => {
                // Nothing outside of the window is opened: dialogs and folders are not for random fingers.
                window.harness.event(Event::PointerMoved(pos));
                for pressed in [true, false] {
                    let modifiers = Modifiers::NONE;
                    window.harness.event(Event::PointerButton {
                        pos,
                        button: egui::PointerButton::Primary,
                        pressed,
                        modifiers,
                    });
                }
            }
            4..=7 => {
                let modifiers = if draw(3) == 0 { Modifiers::COMMAND } else { Modifiers::NONE };
                window.harness.key_press_modifiers(modifiers, keys[draw(keys.len() as u64) as usize]);
            }
            8 => window.harness.event(Event::Text(["a", "9", "é", "—"][draw(4) as usize].to_owned())),
            9 => window.harness.event(Event::PointerMoved(pos)),
            10 => window.send(Command::Scale(0.75 + draw(225) as f32 / 100.0)),
            _ => {
                let size = egui::vec2(320.0 + draw(3520) as f32, 240.0 + draw(1920) as f32);
                window.harness.set_size(size);
            }
        }
        window.calm();
        window.harness.step();
        assert!(window.state().broken.is_none(), "a page broke");
    }
}

#[test]
fn random_events_break_nothing() {
    storm(3_000);
}

#[test]
#[ignore = "100 000 events take a while"]
fn a_hundred_thousand_random_events_break_nothing() {
    storm(100_000);
}
