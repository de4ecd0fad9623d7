//! What the command line does besides making models, done in the window, with the real program and the real engine.

use crate::outside::{short, trained};
use crate::rows;
use crate::trial::Window;
use peft_storage::Status;
use peft_studio::gui::command::Command;
use peft_studio::gui::errand::Ending;
use peft_studio::gui::route::Route;
use peft_studio::gui::target::Target;
use peft_studio::gui::tools::{Tab, Tool};
use std::path::PathBuf;

fn done(window: &mut Window, tool: Tool) {
    window.until("it is over", |window| window.state().pages.tools.job(tool).is_some_and(|job| job.ending.is_some()));
    let job = window.state().pages.tools.job(tool).expect("just waited for it");
    assert!(matches!(job.ending, Some(Ending::Done(_))), "{:?}", job.ending);
    window.settle();
}

#[test]
fn a_model_is_evaluated_checked_and_its_receipt_computed_again_s1_27() {
    let mut window = Window::new([1280.0, 1400.0]);
    let run = trained(&mut window);
    let data = window.file("held.jsonl", &rows(6));
    window.press("Tools");
    window.state_mut().pages.tools.data = data.display().to_string();
    window.settle();
    window.press("Evaluate");
    window.send(Command::Tool(Tool::Evaluate));
    done(&mut window, Tool::Evaluate);
    window.has("6 examples");
    window.has("Perplexity");
    window.all_named();
    window.state_mut().pages.tools.tab = Tab::Checks;
    window.send(Command::Tool(Tool::Hardware));
    done(&mut window, Tool::Hardware);
    window.has("Trains with");
    let receipt = window.state().data.run(&run).expect("there").directory.join("receipt.json");
    window.state_mut().pages.tools.receipt = receipt.display().to_string();
    window.settle();
    window.press("Compute again");
    done(&mut window, Tool::Receipt);
    window.has("to the last bit");
    window.all_named();
    // What went wrong is a card, and in the log.
    window.state_mut().pages.tools.tab = Tab::Evaluate;
    window.state_mut().pages.tools.data = "/nowhere/at/all.jsonl".to_owned();
    window.send(Command::Tool(Tool::Evaluate));
    window.until("it is refused", |window| {
        matches!(
            window.state().pages.tools.job(Tool::Evaluate).and_then(|job| job.ending.as_ref()),
            Some(Ending::Failed(_))
        )
    });
    window.settle();
    window.has("/nowhere/at/all.jsonl");
    window.state_mut().pages.tools.tab = Tab::Log;
    window.settle();
    window.has("Times are UTC");
    assert!(window.state().log.lines().any(|line| line.source == "tools" && line.text.contains("/nowhere")), "logged");
    window.all_named();
}

#[test]
fn runs_wait_in_the_queue_and_are_trained_one_after_the_other_s1_27() {
    let mut window = Window::new([1280.0, 900.0]);
    for name in ["first", "second"] {
        let mut config = short(&window);
        config.name = Some(name.to_owned());
        window.send(Command::Enqueue(Box::new(config)));
        window.until("it waits", |window| !window.state().data.is_launching);
    }
    assert_eq!(window.state().route, Route::Tools);
    let waiting = |window: &Window| match &window.state().pages.tools.queue {
        Some(Ok(queue)) => queue.waiting.iter().map(|waiting| waiting.run.name.clone()).collect(),
        _ => Vec::new(),
    };
    window.until("both wait", |window| waiting(window) == ["first", "second"]);
    window.settle();
    window.all_named();
    window.press("Sooner second");
    window.until("they changed places", |window| waiting(window) == ["second", "first"]);
    window.settle();
    window.press("Take first out of the queue");
    window.until("one waits", |window| waiting(window) == ["second"]);
    window.settle();
    window.press("Start the queue");
    window.until("it is trained", |window| {
        let runs = window.state().data.runs.as_deref().unwrap_or_default();
        runs.iter().any(|run| run.name == "second" && run.status == Status::Finished)
    });
    let runs = window.state().data.runs.clone().unwrap_or_default();
    assert!(runs.iter().any(|run| run.name == "first" && run.status == Status::Stopped), "its settings are kept");
}

#[test]
fn a_pipeline_is_checked_carried_out_and_not_done_twice_s1_27() {
    let mut window = Window::new([1280.0, 900.0]);
    window.file("raw.jsonl", &rows(8));
    let file = window.file(
        "chain.json",
        r#"{"schema": "peft-studio/pipeline", "version": 1, "steps": [
            {"name": "clean", "command": "data convert", "arguments": ["raw.jsonl"],
             "options": {"to": "messages", "out": "clean.jsonl"}},
            {"name": "train", "command": "train",
             "options": {"model": "starter", "data": "clean.jsonl", "set": ["training.max_steps=2"]}}]}"#,
    );
    window.press("Tools");
    window.state_mut().pages.tools.tab = Tab::Pipeline;
    window.state_mut().pages.tools.pipeline = file.display().to_string();
    window.settle();
    window.press("Check it");
    done(&mut window, Tool::CheckPipeline);
    window.has("Nothing was started");
    window.press("Run the pipeline");
    done(&mut window, Tool::Pipeline);
    window.has("Every step is done");
    window.all_named();
    window.press("Run the pipeline");
    done(&mut window, Tool::Pipeline);
    window.has("done before");
}

#[test]
fn settings_of_others_come_in_with_a_report_and_go_out_as_a_file_s4_8() {
    let mut window = Window::new([1280.0, 1000.0]);
    let axolotl = "base_model: starter\nadapter: lora\nlora_r: 6\nlora_alpha: 12\nflash_attention: true\ndatasets:\n  - path: a.jsonl\n    type: alpaca\n";
    let path = window.file("theirs.yml", axolotl);
    window.drop_file(&path);
    window.until("it is read", |window| window.state().pages.presets.incoming.is_some());
    window.settle();
    assert_eq!(window.state().route, Route::Presets);
    window.has("A configuration of Axolotl");
    window.has("flash_attention");
    window.all_named();
    window.press("Keep it as a preset");
    window.until("it is kept", |window| {
        window.state().data.presets.iter().flatten().any(|(preset, is_own)| *is_own && preset.name == "theirs")
    });
    // S4.8.4: what goes out comes in again as it was.
    let (preset, _) =
        window.state().data.presets.iter().flatten().find(|(p, _)| p.name == "theirs").expect("kept").clone();
    let out = PathBuf::from(window.path("out.json"));
    window.send(Command::Write(out.clone(), serde_json::to_vec_pretty(&preset.to_value()).expect("plain")));
    window.until("it is written", |_| out.is_file());
    window.send(Command::TakeIn(out));
    window.until(
        "it is read",
        |window| matches!(&window.state().pages.presets.incoming, Some(Ok(read)) if read.preset.to_value() == preset.to_value()),
    );
    window.settle();
    window.press("Use it in a new run");
    window.settle();
    assert_eq!(window.state().route, Route::New);
    assert_eq!(window.state().pages.wizard.config.adapter.rank, Some(6));
    // A preset from the future is refused in words.
    let future = window.file("future.json", r#"{"schema":"peft-studio/preset","version":99,"name":"x","config":{}}"#);
    window.send(Command::Go(Route::Presets));
    window.drop_file(&future);
    window.until("it is refused", |window| matches!(window.state().pages.presets.incoming, Some(Err(_))));
    window.settle();
    window.has("newer");
}

#[test]
fn two_models_answer_side_by_side_and_the_conversation_remembers_whose_is_whose_s4_7_4() {
    let mut window = Window::new([1280.0, 900.0]);
    let run = trained(&mut window);
    window.send(Command::Talk(Target::starter()));
    window.until("it can be talked to", |window| window.state().pages.playground.ready.is_some());
    window.send(Command::Beside(Some(Target::Run(run.clone()))));
    window.until("both are there", |window| window.state().pages.playground.beside.is_some());
    window.settle();
    window.all_named();
    window.send(Command::Say("What is 3 and one?".to_owned()));
    window.until("both answered", |window| !window.state().pages.playground.is_busy);
    window.settle();
    let exchange = window.state().pages.playground.exchanges[0].clone();
    let names = exchange.names.clone().expect("two models");
    assert_eq!(names[0], "Built-in starter model");
    assert!(exchange.base.is_some() && exchange.tuned.is_some() && exchange.kept.is_some(), "{exchange:?}");
    window.has(&names[1]);
    window.has("Left");
    // What was said is found again under the names of those who said it.
    let (talk, _) = exchange.kept.expect("kept");
    window.send(Command::OpenTalk(talk));
    window.until("it is open again", |window| {
        window.state().pages.playground.exchanges.first().is_some_and(|e| e.names.as_ref() == Some(&names))
    });
    window.until("nobody is beside any more", |window| window.state().pages.playground.beside.is_none());
    window.until("it can be talked to", |window| window.state().pages.playground.loading.is_none());
    // What cannot be loaded is told, and who was there stays.
    window.send(Command::Beside(Some(Target::Model("/no/such/model".to_owned(), None))));
    window.until("it is told", |window| window.state().toasts.iter().any(|toast| toast.problem.is_some()));
    assert!(window.state().pages.playground.ready.is_some() && window.state().pages.playground.beside.is_none());
}

#[test]
fn a_plain_model_is_exported_and_an_adapter_folder_is_talked_to_s4_15() {
    let mut window = Window::new([1280.0, 1000.0]);
    let run = trained(&mut window);
    window.state_mut().pages.exports.target = Some(Target::starter());
    window.press("Export");
    window.until("sizes are known", |window| {
        window.state().pages.exports.sizes_of(&Target::starter()).is_some_and(Option::is_some)
    });
    window.settle();
    window.press("Export: Raspberry Pi");
    let over = |window: &Window| window.state().pages.exports.jobs.iter().all(|job| job.ending.is_some());
    window.until("it is exported", over);
    let job = &window.state().pages.exports.jobs[0];
    assert!(matches!(job.ending, Some(Ending::Done(_))), "{:?}", job.ending);
    assert!(job.files()[0].0.to_string_lossy().contains("Q4_0"), "{:?}", job.files());
    window.state_mut().pages.exports.target = Some(Target::Run(run));
    window.settle();
    window
        .until("sizes are known", |window| window.state().pages.exports.sizes.iter().all(|(_, known)| known.is_some()));
    window.settle();
    window.press("Export: Hugging Face");
    window.until("it is exported", over);
    let job = &window.state().pages.exports.jobs[1];
    assert!(matches!(job.ending, Some(Ending::Done(_))), "{:?}", job.ending);
    let folder = job.model().expect("it can be talked to");
    assert!(folder.join("README.md").is_file() && folder.join("adapter_config.json").is_file(), "S4.15.2");
    window.drop_file(&folder);
    window.until("it is opened", |window| {
        matches!(window.state().pages.playground.ready.as_ref().map(|ready| &ready.target), Some(Target::Model(_, Some(path))) if *path == folder)
    });
    assert_eq!(window.state().route, Route::Playground);
}

#[test]
fn the_window_asks_before_it_ends_an_export_or_the_server() {
    let mut window = Window::new([1280.0, 800.0]);
    assert!(window.state().pending().is_empty());
    let port = 20_000 + (std::process::id() % 20_000) as u16 + 7;
    window.send(Command::Serve(Target::starter(), port));
    assert_eq!(window.state().pending(), ["The local server answers other programs"]);
    window.state_mut().asks_to_close = true;
    window.settle();
    window.has("Something is not done yet");
    window.has("The local server answers other programs");
    window.all_named();
    window.press("Stay");
    window.settle();
    assert!(!window.state().asks_to_close && !window.state().may_close);
    window.until("it listens", |window| window.state().pages.server.url.is_some());
    let id = window.state().pages.server.id.expect("it listens");
    window.send(Command::StopErrand(id));
    window.until("it is over", |window| window.state().pending().is_empty());
}

#[test]
fn what_is_deleted_for_good_is_asked_about_first() {
    let mut window = Window::new([1280.0, 800.0]);
    let run = trained(&mut window);
    window.press("Delete this run");
    window.settle();
    window.has("Delete this run?");
    window.press("Keep it");
    window.settle();
    assert!(window.state().question.is_none() && window.state().data.run(&run).is_some());
    window.press("Delete this run");
    window.press("Delete for good");
    window.until("it is gone", |window| window.state().data.run(&run).is_none());
}
