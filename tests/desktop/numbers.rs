//! How long a frame takes with a live run and five curves of 100 000 points: `cargo test --test desktop -- --ignored
//! numbers --nocapture`. The first frame of the real window is measured by `app/pictures/start.sh`.

#![expect(clippy::print_stdout, reason = "numbers are for people")]

use crate::staged;
use crate::trial::Window;
use peft_storage::RunLock;
use peft_studio::gui::command::Command;
use peft_studio::gui::route::Route;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Steps of the run.
const STEPS: u64 = 100_000;
/// Frames that are measured.
const FRAMES: usize = 200;

/// Median and worst, in milliseconds.
fn spread(mut all: Vec<Duration>) -> (f64, f64) {
    all.sort_unstable();
    let ms = |time: Duration| 1000.0 * time.as_secs_f64();
    (ms(all[all.len() / 2]), ms(all[all.len() - 1]))
}

/// A window on a run that trains and has come far: its id, and where it writes what it says.
fn busy(size: [f32; 2]) -> (Window, String, PathBuf, RunLock) {
    let mut made = None;
    let mut window = Window::with_home(size, |home| {
        made = Some(staged::live(home, "a long run", &staged::events(STEPS)));
    });
    let (id, folder, lock) = made.expect("made above");
    window.until("the run is known", |window| window.state().data.runs.as_ref().is_some_and(|runs| !runs.is_empty()));
    window.send(Command::Go(Route::Run(id.clone())));
    window.until("it is read", |window| window.state().data.stories.get(&id).is_some_and(|s| s.step() == STEPS));
    window.until("its curve is judged", |window| window.state().pages.run.judged.is_some());
    (window, id, folder, lock)
}

/// CPU time of `count` frames: what is thought, laid out and cut into triangles.
fn frames(window: &mut Window, count: usize, mut before: impl FnMut(usize)) -> Vec<Duration> {
    (0..count)
        .map(|i| {
            before(i);
            // The pointer moves, so that values are looked up and nothing can be left out.
            let x = 400.0 + (i % 300) as f32;
            window.harness.event(eframe::egui::Event::PointerMoved(eframe::egui::pos2(x, 420.0)));
            let begun = Instant::now();
            window.harness.step();
            let output = window.harness.output();
            let triangles = window.harness.ctx.tessellate(output.shapes.clone(), output.pixels_per_point);
            assert!(!triangles.is_empty());
            begun.elapsed()
        })
        .collect()
}

#[test]
#[ignore = "prints times, which need a quiet machine"]
fn numbers() {
    let (mut window, _, folder, _lock) = busy([1280.0, 800.0]);
    let mut at = STEPS;
    // A step now and then, as while it trains: what is worked out anew with each is in the worst frame.
    let mut steps = move |i: usize| {
        if i.is_multiple_of(5) {
            at += 1;
            staged::say(&folder, staged::step(at));
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    frames(&mut window, 10, &mut steps);
    let (median, worst) = spread(frames(&mut window, FRAMES, &mut steps));
    println!("run page, 5 curves of {STEPS} points that grow, 1280x800: {median:.2} ms a frame, at most {worst:.2} ms");
    window.state_mut().pages.run.look.log = true;
    frames(&mut window, 5, &mut steps);
    let (median, worst) = spread(frames(&mut window, FRAMES, &mut steps));
    println!("the same with a logarithmic axis: {median:.2} ms, at most {worst:.2} ms");
    window.send(Command::Go(Route::Home));
    frames(&mut window, 5, &mut steps);
    let (median, worst) = spread(frames(&mut window, FRAMES, &mut steps));
    println!("home with the run strip: {median:.2} ms, at most {worst:.2} ms");
}

#[test]
fn a_hundred_thousand_steps_are_shown_and_followed() {
    let (mut window, id, folder, _lock) = busy([1280.0, 800.0]);
    window.settle();
    window.has("Loss");
    window.has("Processor");
    let begun = Instant::now();
    frames(&mut window, 5, |_| {});
    // Far above what is aimed at: a frame that goes through all points several times is noticed even here.
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?} for 5 frames", begun.elapsed());
    staged::say(&folder, staged::step(STEPS + 1));
    window.until("it grows", |window| window.state().data.stories[&id].step() == STEPS + 1);
    let revision = window.state().data.stories[&id].revision;
    window.until("and is judged again", |window| {
        window.state().pages.run.judged.as_ref().is_some_and(|judged| judged.is_of(revision))
    });
}
