//! Everything that a person can drop, paste or type, and what can happen to a run and to the store meanwhile.

use crate::outside::short;
use crate::rows;
use crate::trial::Window;
use peft_storage::{RunLock, Status};
use peft_studio::gui::command::Command;
use peft_studio::gui::route::Route;
use peft_studio::gui::wizard::Step;
use std::path::PathBuf;
use std::process::Command as Process;

/// What is said of something that was dropped: rows that were found, or the code and the words of the refusal.
fn said_of(window: &mut Window, what: &str) -> Result<usize, (String, String)> {
    window.until(what, |window| {
        window.state().pages.wizard.found.is_some() && !window.state().pages.wizard.is_inspecting
    });
    window.settle();
    let wizard = &mut window.state_mut().pages.wizard;
    wizard.paths.clear();
    match wizard.found.take().expect("just waited for it") {
        Ok(found) => Ok(found.inspection.files.iter().map(|file| file.rows).sum()),
        Err(problem) => {
            assert!(problem.actions.len() >= 2 && !problem.detail.contains("os error"), "{what}: {problem:?}");
            Err((problem.code, problem.detail))
        }
    }
}

#[test]
fn folders_huge_files_and_many_files_are_looked_at_or_explained() {
    let mut window = Window::new([1280.0, 800.0]);
    let folder = PathBuf::from(window.path("empty folder"));
    std::fs::create_dir_all(&folder).expect("created");
    window.drop_file(&folder);
    said_of(&mut window, "an empty folder").expect_err("there is nothing in it");
    std::fs::write(folder.join("a.jsonl"), rows(3)).expect("written");
    window.drop_file(&folder);
    assert_eq!(said_of(&mut window, "a folder with examples"), Ok(3));
    // Three gigabytes that are no examples: a file with a hole takes no room.
    let huge = PathBuf::from(window.path("huge.jsonl"));
    std::fs::File::create(&huge).and_then(|file| file.set_len(3 << 30)).expect("created");
    window.drop_file(&huge);
    said_of(&mut window, "three gigabytes of nothing").expect_err("they are no examples");
    let many: Vec<PathBuf> = (0..200).map(|i| window.file(&format!("part-{i}.jsonl"), &rows(1))).collect();
    window.send(Command::Inspect(many));
    assert_eq!(said_of(&mut window, "200 files"), Ok(200));
    window.has("part-0.jsonl");
}

#[test]
fn pasted_garbage_and_numbers_out_of_range_are_explained() {
    let mut window = Window::new([1280.0, 800.0]);
    window.send(Command::UseModel("starter".to_owned()));
    for garbage in ["{{{{", "\u{0}\u{1}\u{2}\u{7f}", "a,b\n1", "[[[[[[[[[[", "🦀".repeat(5000).as_str()] {
        window.send(Command::Paste(garbage.to_owned()));
        // Whatever it is taken for, it is said; nothing breaks.
        let _said = said_of(&mut window, "pasted text");
        assert!(window.state().broken.is_none());
    }
    window.send(Command::Paste(rows(12)));
    assert_eq!(said_of(&mut window, "pasted examples"), Ok(12));
    for (setting, word) in [("adapter.rank=100000", "rank"), ("training.learning_rate=-1", "learning_rate")] {
        let wizard = &mut window.state_mut().pages.wizard;
        wizard.config.set(setting).ok();
        wizard.step = Step::Review;
        wizard.answer = None;
        window.until("it is planned", |window| window.state().pages.wizard.answer.is_some());
        window.until("it settled", |window| !window.state().pages.wizard.is_planning);
        window.settle();
        let wizard = &mut window.state_mut().pages.wizard;
        let is_refused = match &wizard.answer {
            Some(Err(problem)) => problem.detail.contains(word),
            Some(Ok(answer)) => answer.problems.iter().any(|fault| fault.detail.contains(word)),
            None => false,
        };
        assert!(is_refused && wizard.to_start().is_none(), "{setting}: {:?}", wizard.answer);
        wizard.config.adapter.rank = None;
        wizard.config.training.learning_rate = None;
    }
}

#[test]
#[cfg(unix)]
fn a_run_whose_process_is_killed_costs_nothing_else_and_goes_on_s4_13() {
    let mut window = Window::new([1280.0, 800.0]);
    let mut config = short(&window);
    config.training.max_steps = Some(400);
    config.set("checkpoint.every_steps=2").expect("a setting");
    window.send(Command::Launch(Box::new(config)));
    window.until("the run has its page", |window| matches!(window.state().route, Route::Run(_)));
    let Route::Run(id) = window.state().route.clone() else { unreachable!("just waited for it") };
    window.until("it made steps", |window| window.state().data.stories.get(&id).is_some_and(|story| story.step() > 4));
    window.state_mut().asks_to_close = true;
    window.settle();
    window.has("A run is training");
    window.press("Stay");
    let directory = window.state().data.run(&id).expect("there").directory.clone();
    let process = RunLock::holder(&directory).expect("somebody works on it");
    Process::new("kill").args(["-9", &process.to_string()]).status().expect("killed");
    window.until("it is seen", |window| {
        window.state().data.run(&id).is_some_and(|run| run.status == Status::Interrupted)
    });
    window.settle();
    window.has("Interrupted");
    let before = window.state().data.run(&id).expect("there").last_step;
    window.press("Resume");
    window.until("it goes on", |window| {
        window.state().data.run(&id).is_some_and(|run| run.status == Status::Running && run.last_step > before)
    });
    // Paused within seconds, with what it took.
    window.press("Pause");
    window.until("it is paused", |window| window.state().data.run(&id).is_some_and(|run| run.status == Status::Paused));
}

#[test]
fn a_store_that_another_program_holds_is_told_and_works_again_later() {
    let mut window = Window::new([1280.0, 800.0]);
    window.until("the store is read", |window| window.state().data.runs.is_some());
    // What is no database any more is told; when it is back, so is everything else.
    let store = PathBuf::from(window.path("studio.sqlite"));
    let aside = PathBuf::from(window.path("aside.sqlite"));
    std::fs::rename(&store, &aside).expect("moved");
    std::fs::create_dir(&store).expect("something in its place");
    window.settle();
    for (_, name, _) in &peft_studio::gui::route::RAIL {
        window.press(name);
        window.settle();
        assert!(window.state().broken.is_none(), "{name} broke");
    }
    std::fs::remove_dir(&store).expect("removed");
    std::fs::rename(&aside, &store).expect("moved back");
    let config = short(&window);
    window.send(Command::Launch(Box::new(config)));
    window.until("a run begins", |window| matches!(window.state().route, Route::Run(_)));
}
