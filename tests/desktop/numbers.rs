//! How long a frame takes with a live run and five curves of 100 000 points: `cargo test --test desktop -- --ignored
//! numbers --nocapture`. The first frame of the real window is measured by `app/pictures/start.sh`.

#![expect(clippy::print_stdout, reason = "numbers are for people")]

use crate::trial::Window;
use peft_plan::{Evaluation, Reading, RunEvent, StepMetrics};
use peft_storage::{NewRun, RunFilter, RunLock, Status, Store};
use peft_studio::gui::command::Command;
use peft_studio::gui::route::Route;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Steps of the run.
const STEPS: u64 = 100_000;
/// Frames that are measured.
const FRAMES: usize = 120;

fn events() -> String {
    let mut text = String::new();
    for step in 1..=STEPS {
        let noise = f64::from((step as u32).wrapping_mul(2_654_435_761) >> 16) / 65_536.0;
        let event = RunEvent::Step(StepMetrics {
            step,
            epoch: step as f64 / 50_000.0,
            tokens: 512,
            eta_seconds: peft_plan::Interval { low: 50.0, expected: 60.0, high: 70.0 },
            preference: None,
            loss: 2.0 * (-(step as f64) / 30_000.0).exp() + 0.3 * noise,
            gradient_norm: 1.0 + noise,
            learning_rate: 2e-4,
            tokens_per_second: 900.0 + 100.0 * noise,
            memory_bytes: 1 << 30,
        });
        writeln!(text, "{}", serde_json::to_string(&event).expect("plain data")).expect("memory");
        if step % 2000 == 0 {
            let (loss, perplexity, token_accuracy) = (1.0, std::f64::consts::E, 0.5);
            let check = Evaluation { step, loss, perplexity, token_accuracy, preference: None };
            let check = RunEvent::Evaluation(check);
            writeln!(text, "{}", serde_json::to_string(&check).expect("plain data")).expect("memory");
        }
    }
    let reading =
        Reading { cpu_utilization: 97.0, ram_used_bytes: 3 << 30, ram_available_bytes: 5 << 30, ..Reading::default() };
    writeln!(text, "{}", serde_json::to_string(&RunEvent::Hardware(reading)).expect("plain data")).expect("memory");
    text
}

/// Median and worst, in milliseconds.
fn spread(mut all: Vec<Duration>) -> (f64, f64) {
    all.sort_unstable();
    let ms = |time: Duration| 1000.0 * time.as_secs_f64();
    (ms(all[all.len() / 2]), ms(all[all.len() - 1]))
}

/// A window on a run that trains and has come far.
fn busy(size: [f32; 2]) -> (Window, String, RunLock) {
    let mut lock = None;
    let mut window = Window::with_home(size, |home| {
        let store = Store::open(home).expect("a store");
        let id = store.create_run(&NewRun { name: "a long run".to_owned(), ..NewRun::default() }).expect("a run");
        store.update_status(&id, Status::Running).expect("changed");
        let run = store.list_runs(&RunFilter::default()).expect("runs").remove(0);
        std::fs::create_dir_all(&run.directory).expect("created");
        // Whoever holds the lock is at work.
        lock = Some(RunLock::take(&run.directory).expect("free"));
        std::fs::write(run.directory.join("events.jsonl"), events()).expect("written");
    });
    window.until("the run is known", |window| window.state().data.runs.as_ref().is_some_and(|runs| !runs.is_empty()));
    let id = window.state().data.runs.as_ref().expect("known")[0].id.to_string();
    window.send(Command::Go(Route::Run(id.clone())));
    window.until("it is read", |window| window.state().data.stories.get(&id).is_some_and(|s| s.step() == STEPS));
    (window, id, lock.expect("taken above"))
}

/// CPU time of `count` frames: what is thought, laid out and cut into triangles.
fn frames(window: &mut Window, count: usize) -> Vec<Duration> {
    (0..count)
        .map(|i| {
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
    let (mut window, _, _lock) = busy([1280.0, 800.0]);
    frames(&mut window, 10);
    let (median, worst) = spread(frames(&mut window, FRAMES));
    println!("run page, 5 curves of {STEPS} points, 1280x800: {median:.2} ms a frame, at most {worst:.2} ms");
    window.state_mut().pages.run.look.log = true;
    frames(&mut window, 5);
    let (median, worst) = spread(frames(&mut window, FRAMES));
    println!("the same with a logarithmic axis: {median:.2} ms, at most {worst:.2} ms");
    window.send(Command::Go(Route::Home));
    frames(&mut window, 5);
    let (median, worst) = spread(frames(&mut window, FRAMES));
    println!("home with the run strip: {median:.2} ms, at most {worst:.2} ms");
}

#[test]
fn a_hundred_thousand_steps_are_shown_and_followed() {
    let (mut window, id, _lock) = busy([1280.0, 800.0]);
    window.settle();
    window.has("Loss");
    let begun = Instant::now();
    frames(&mut window, 5);
    // Far above what is aimed at: a frame that goes through all points several times is noticed even here.
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?} for 5 frames", begun.elapsed());
    assert_eq!(window.state().data.stories[&id].curve(peft_studio::gui::story::Metric::Loss).len() as u64, STEPS);
}
