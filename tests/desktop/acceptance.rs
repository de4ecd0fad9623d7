//! What the brief of the window asks for in so many words, line by line: each test bears the numbers of its lines.

use crate::outside::{completed, launched, short, sized, trained};
use crate::rows;
use crate::trial::Window;
use egui_kittest::kittest::NodeT;
use peft_plan::RunConfig;
use peft_plan::profile::profiles;
use peft_storage::Status;
use peft_studio::gui::command::{Command, Shelf};
use peft_studio::gui::errand::Ending;
use peft_studio::gui::route::Route;
use peft_studio::gui::wizard::Step;
use std::time::{Duration, Instant};

/// Everything that is written in the window.
fn words(window: &Window) -> Vec<String> {
    let texts = window.harness.root().children_recursive().filter_map(|node| {
        let node = node.accesskit_node();
        node.label().or_else(|| node.value()).map(|text| text.trim().to_owned())
    });
    texts.filter(|text| !text.is_empty()).collect()
}

/// The wizard at a step, with the built-in model and sums to learn.
fn wizard(window: &mut Window, step: Step) {
    window.send(Command::UseModel("starter".to_owned()));
    let data = window.file("sums.jsonl", &rows(40));
    window.send(Command::Inspect(vec![data]));
    window.until("the examples are looked at", |window| window.state().pages.wizard.found.is_some());
    window.send(Command::Go(Route::New));
    window.state_mut().pages.wizard.step = step;
    planned(window);
}

fn planned(window: &mut Window) {
    window.until("the run is planned", |window| window.state().pages.wizard.to_start().is_some());
    window.settle();
}

fn status(window: &Window, id: &str) -> Option<Status> {
    window.state().data.run(id).map(|run| run.status)
}

/// A run that goes on for a while.
fn begun(window: &mut Window, steps: u64, change: impl FnOnce(&mut RunConfig)) -> String {
    let mut config = short(window);
    config.dataset.path = Some(window.file("many.jsonl", &rows(120)).display().to_string());
    config.training.max_steps = Some(steps);
    change(&mut config);
    launched(window, config)
}

#[test]
fn the_welcome_speaks_plainly_s4_1_1() {
    let mut window = Window::new([1280.0, 800.0]);
    window.until("the store is read", |window| window.state().data.runs.is_some());
    window.settle();
    window.has("You give examples, and a model learns to answer like them.");
    let mut all = words(&window);
    window.press("New run");
    window.settle();
    all.extend(words(&window));
    let jargon = ["lora", "hyperparameter", "epoch", "gradient", "quanti", "tensor", "optimizer", "inference", "sft"];
    for text in &all {
        let text = text.to_lowercase();
        assert!(jargon.iter().all(|word| !text.contains(word)), "`{text}` is not for beginners");
    }
}

#[test]
fn nine_goals_say_what_they_are_for_and_what_they_take_s4_3_1_s4_3_3() {
    let mut window = Window::new([1280.0, 1200.0]);
    window.press("New run");
    window.until("each is measured", |window| window.state().pages.wizard.suited.is_some());
    window.settle();
    assert!(profiles().len() >= 6);
    for profile in profiles() {
        window.has(&profile.name);
        window.has(&profile.description);
        assert!(!profile.example_uses.is_empty(), "{}", profile.name);
    }
    let Some(Ok(suited)) = &window.state().pages.wizard.suited else { panic!("just waited for it") };
    for profile in &suited.profiles {
        let memory = peft_studio::cli::quantity::bytes(profile.planned.memory.total_bytes);
        let time = peft_studio::cli::quantity::interval(&profile.planned.estimate.seconds);
        window.has(&format!("{time}  ·  {memory}"));
    }
}

#[test]
fn a_goal_sets_everything_and_each_value_says_why_s4_1_2_s4_1_5_s4_2_1_s4_2_2_s4_2_5_s4_3_2() {
    let mut window = Window::new([1280.0, 2400.0]);
    window.press("New run");
    window.settle();
    let chatbot = profiles().iter().find(|profile| profile.id == "chatbot").expect("S4.3.4");
    window.press(&chatbot.name);
    window.settle();
    wizard(&mut window, Step::Settings);
    let Some(Ok(answer)) = &window.state().pages.wizard.answer else { panic!("just waited for it") };
    assert!(answer.planned.plan.threads > 0 && answer.budget_bytes > 0, "the machine was looked at");
    let values = answer.planned.values.clone();
    for key in
        ["training.micro_batch_size", "training.gradient_accumulation", "training.precision", "training.learning_rate"]
    {
        assert!(values.iter().any(|value| value.key == key), "{key} is not chosen");
    }
    assert!(values.iter().any(|value| value.source == peft_plan::defaults::Source::Profile), "{values:?}");
    for value in &values {
        window.has(&value.reason);
    }
}

#[test]
fn a_setting_and_a_term_explain_themselves_where_the_pointer_is_s4_1_3_s4_1_4() {
    let mut window = Window::new([1280.0, 4000.0]);
    wizard(&mut window, Step::Settings);
    window.press("Change values (advanced)");
    window.settle();
    for key in ["adapter.rank", "training.warmup_ratio", "training.max_steps", "checkpoint.keep"] {
        let name = key.rsplit('.').next().unwrap_or_default().replace('_', " ");
        window.hover(&name);
        let meaning = peft_plan::settings::meaning(key).expect("explained");
        window.has(&meaning.what);
        window.has(&format!("For example: {}", meaning.example));
    }
    trained(&mut window);
    window.settle();
    window.hover("Tokens a second");
    window.has("How fast the run works; a token is a piece of a word.");
}

#[test]
fn what_cannot_be_is_said_where_it_was_typed_and_can_be_taken_back() {
    let mut window = Window::new([1280.0, 4000.0]);
    wizard(&mut window, Step::Settings);
    window.press("Change values (advanced)");
    window.fill("training.micro_batch_size", "many");
    window.has("`many` does not go with `training.micro_batch_size`");
    assert_eq!(window.state().pages.wizard.config.training.micro_batch_size, None, "nothing is changed");
    window.press("Close this message");
    // A number that is one, but impossible: the plan says so, and the field is still there.
    window.fill("training.micro_batch_size", "0");
    window.until("it is refused", |window| matches!(window.state().pages.wizard.answer, Some(Err(_))));
    window.settle();
    window.has("`training.micro_batch_size` is 0");
    window.fill("training.micro_batch_size", "2");
    planned(&mut window);
    assert_eq!(window.state().pages.wizard.config.training.micro_batch_size, Some(2));
    window.fill("training.max_steps", "7");
    planned(&mut window);
    assert_eq!(window.state().pages.wizard.config.training.max_steps, Some(7));
    window.press("Back to what was recommended");
    planned(&mut window);
    assert_eq!(window.state().pages.wizard.config.training, peft_plan::config::TrainingConfig::default());
}

#[test]
fn every_simple_form_is_recognised_judged_and_shown_s4_4_1_s4_4_2_s4_4_3_s4_4_4_s4_4_5() {
    let mut window = Window::new([1280.0, 1600.0]);
    window.send(Command::UseModel("starter".to_owned()));
    let row = r#"{"instruction":"What is 3 and one?","output":"It is 4."}"#;
    let other = r#"{"instruction":"What is 5 and one?","output":"It is 6."}"#;
    let text = "One and one is two.\n\nTwo and one is three.\n".repeat(3);
    for (name, content, is_learned) in [
        ("a.jsonl", format!("{row}\n{other}\n"), "It is 4."),
        ("b.json", format!("[{row},{other}]"), "It is 4."),
        ("c.csv", "instruction,output\nWhat is 3 and one?,It is 4.\n".to_owned(), "It is 4."),
        ("d.txt", text, "One and one is two."),
    ] {
        let path = window.file(name, &content);
        window.state_mut().pages.wizard.found = None;
        window.send(Command::Inspect(vec![path]));
        window.until("it is looked at", |window| window.state().pages.wizard.found.is_some());
        window.state_mut().pages.wizard.step = Step::Data;
        window.send(Command::Go(Route::New));
        window.settle();
        let Some(Ok(found)) = &window.state().pages.wizard.found else { panic!("{name} is not read") };
        assert!(found.inspection.rows > 0, "{name}");
        window.has("How they are read");
        window.has(is_learned);
    }
    // Copies are found, and one press leaves them out; a broken line is named with what to do.
    let path = window.file("e.jsonl", &format!("{row}\n{row}\n{other}\n{{\"instruction\": broken\n"));
    window.state_mut().pages.wizard.found = None;
    window.send(Command::Inspect(vec![path]));
    window.until("it is looked at", |window| window.state().pages.wizard.found.is_some());
    window.settle();
    let Some(Ok(found)) = &window.state().pages.wizard.found else { panic!("it is read as far as it goes") };
    let issues: Vec<_> = found.inspection.issues.iter().map(|issue| issue.fix.clone()).collect();
    assert!(found.inspection.issues.len() >= 2 && issues.iter().all(|fix| !fix.is_empty()), "{issues:?}");
    for issue in &issues {
        window.has(issue);
    }
    window.press("Leave copies out");
    window.until(
        "they are left out",
        |window| matches!(&window.state().pages.wizard.found, Some(Ok(found)) if found.inspection.rows == 2),
    );
}

#[test]
fn the_review_counts_time_money_and_carbon_at_the_persons_price_s4_9_1_s4_9_2_s4_9_4_s4_9_5() {
    let mut window = Window::new([1280.0, 1000.0]);
    wizard(&mut window, Step::Review);
    for name in ["Time", "Device hours", "Energy", "Electricity", "CO₂", "Price of a kilowatt-hour"] {
        window.has(name);
    }
    let estimate = |window: &Window| match &window.state().pages.wizard.answer {
        Some(Ok(answer)) => (answer.planned.estimate.clone(), answer.alternatives.len()),
        _ => panic!("just waited for it"),
    };
    let (before, alternatives) = estimate(&window);
    assert!(before.seconds.low < before.seconds.expected && before.seconds.expected < before.seconds.high);
    assert!(before.energy_kwh > 0.0 && before.carbon_grams > 0.0);
    assert!(alternatives >= 3, "faster, leaner and better");
    window.state_mut().pages.wizard.rates.electricity_rate *= 3.0;
    planned(&mut window);
    let (after, _) = estimate(&window);
    assert!((after.cost / before.cost - 3.0).abs() < 0.3, "{} became {}", before.cost, after.cost);
}

#[test]
fn settings_are_kept_under_a_name_and_found_again_s4_8_1_s4_8_3() {
    let mut window = Window::new([1280.0, 1000.0]);
    wizard(&mut window, Step::Review);
    "sums for beginners".clone_into(&mut window.state_mut().pages.wizard.preset);
    window.settle();
    window.press("Keep the preset");
    let is_kept = |window: &Window| {
        window.state().data.presets.iter().flatten().any(|(preset, _)| preset.name == "sums for beginners")
    };
    window.press("Presets");
    window.until("it is kept", is_kept);
    window.settle();
    window.has("sums for beginners");
    window.fill("Search presets", "no such words");
    assert!(!words(&window).iter().any(|text| text.contains("sums for beginners")));
    window.fill("Search presets", "beginners");
    window.has("sums for beginners");
}

#[test]
fn a_live_run_shows_where_it_is_and_pauses_and_goes_on_s4_5_1_s4_5_2_s4_5_3_s4_13_1_s4_13_2_s4_13_3_s4_13_5() {
    let mut window = Window::new([1280.0, 1000.0]);
    let id = begun(&mut window, 400, |config| config.training.micro_batch_size = Some(2));
    window.until("it trains", |window| window.state().data.run(&id).is_some_and(|run| run.last_step > 5));
    window.settle();
    window.has("Phase: Train");
    window.has("Time left");
    window.has("Loss chart");
    let curve = window.state().data.stories.get(&id).map_or(0, |story| story.revision);
    assert!(curve > 0, "the curve grows while it trains");
    let begun = Instant::now();
    window.press("Pause");
    window.until("it is paused", |window| status(window, &id) == Some(Status::Paused));
    assert!(begun.elapsed() < Duration::from_secs(10), "S4.13.1: within ten seconds");
    window.settle();
    for what in ["Training time", "Time left", "Memory"] {
        window.has(what);
    }
    let at = window.state().data.run(&id).expect("there").last_step;
    assert!(at > 0 && at < 400);
    window.press("Resume");
    window.until("it goes on", |window| {
        window.state().data.run(&id).is_some_and(|run| run.status == Status::Running && run.last_step > at)
    });
    window.settle();
    window.press("Stop and keep");
    window.until("it is stopped", |window| {
        matches!(status(window, &id), Some(Status::Stopped | Status::Finished | Status::Paused))
    });
}

#[test]
fn a_run_that_goes_wrong_says_so_and_what_to_do_s4_5_4_s4_6_1() {
    let mut window = Window::new([1280.0, 1000.0]);
    let id = begun(&mut window, 200, |config| config.training.learning_rate = Some(3.0));
    window.until("it pauses by itself", |window| status(window, &id) == Some(Status::Paused));
    window.until("it is told", |window| {
        window.state().data.stories.get(&id).is_some_and(|story| !story.findings.is_empty())
    });
    window.settle();
    let finding = window.state().data.stories[&id].findings.last().cloned().expect("just waited for it");
    assert!(!finding.message.is_empty() && finding.actions.len() >= 2, "{finding:?}");
    window.has(&finding.message);
    window.has(&finding.actions[0].label);
    window.has("New run with these settings");
}

#[test]
fn a_finished_run_is_judged_opens_the_playground_and_answers_s4_6_5_s4_7_1_s4_7_2_s4_7_3_s4_7_4() {
    let mut window = Window::new([1280.0, 1000.0]);
    let id = trained(&mut window);
    window.until("its story is told", |window| {
        window.state().data.stories.get(&id).is_some_and(|s| s.finished.is_some())
    });
    window.settle();
    assert!(window.state().data.run(&id).is_some_and(|run| run.quality_score.is_some()), "S4.6.5");
    window.has("of 100");
    window.has("What to try next");
    // Nobody asked for it: it is there.
    window.until("it is loaded", |window| window.state().pages.playground.ready.is_some());
    window.press("Playground");
    window.settle();
    let examples = window.state().pages.playground.ready.as_ref().expect("loaded").examples.clone();
    assert!(!examples.is_empty(), "questions from its own examples");
    window.has(&examples[0]);
    let asked = Instant::now();
    window.press(&examples[0]);
    window.until("both answered", |window| {
        let page = &window.state().pages.playground;
        !page.is_busy && page.exchanges.last().is_some_and(|e| e.base.is_some() && e.tuned.is_some())
    });
    assert!(asked.elapsed() < Duration::from_secs(5), "S4.7.3");
    window.settle();
    window.has("Before training");
    window.has("After training");
}

#[test]
fn runs_are_sorted_compared_and_begun_again_s4_11_1_s4_11_2_s4_11_3_s4_11_4_s4_11_5() {
    let mut window = Window::new([1280.0, 1400.0]);
    for (name, rank) in [("narrow", 2), ("wide", 16)] {
        let mut config = short(&window);
        config.name = Some(name.to_owned());
        config.adapter.rank = Some(rank);
        window.send(Command::Go(Route::Home));
        completed(&mut window, config);
    }
    window.press("Runs");
    window.settle();
    let order = |window: &Window| -> Vec<String> {
        words(window).into_iter().filter_map(|text| text.strip_prefix("Open run ").map(str::to_owned)).collect()
    };
    window.press("Sort by Name");
    window.settle();
    let first = order(&window);
    window.press("Sort by Name");
    window.settle();
    let second = order(&window);
    assert_eq!(first.iter().rev().collect::<Vec<_>>(), second.iter().collect::<Vec<_>>());
    window.press("Compare narrow");
    window.press("Compare wide");
    window.press("Compare the chosen runs");
    window.until("they are compared", |window| words(window).iter().any(|text| text.contains("Comparison chart")));
    window.settle();
    window.has("What was set differently");
    assert!(words(&window).iter().any(|text| text.contains("rank")), "the setting that differs is named");
    window.has("Best: ");
    window.press("New run with the settings of wide");
    window.settle();
    assert_eq!(window.state().route, Route::New);
    assert_eq!(window.state().pages.wizard.config.adapter.rank, Some(16));
}

#[test]
fn a_version_has_a_number_a_place_in_time_and_its_choices_s4_14_1_s4_14_2_s4_14_3_s4_14_4() {
    let mut window = Window::new([1280.0, 1000.0]);
    let id = trained(&mut window);
    let run = window.state().data.run(&id).expect("there").clone();
    assert!(run.directory.join("adapter").is_dir() || run.directory.join("result").is_dir(), "{:?}", run.directory);
    window.send(Command::Open(Shelf::Versions));
    window.until("it is there", |window| words(window).iter().any(|text| text.contains("Version 1")));
    window.settle();
    for choice in ["Compare", "Talk", "Archive"] {
        window.has(choice);
    }
    window.press("Open version 1");
    window.settle();
    assert_eq!(window.state().route, Route::Run(id));
}

#[test]
fn exports_have_a_card_each_and_ollama_gets_its_file_and_words_s4_15_1_s4_15_3_s4_15_4() {
    let mut window = Window::new([1280.0, 1800.0]);
    trained(&mut window);
    window.press("Export");
    sized(&mut window);
    for title in ["Hugging Face", "Ollama", "LM Studio", "GGUF"] {
        window.has(&format!("Export: {title}"));
    }
    window.press("Export: Ollama");
    window.until("it is exported", |window| window.state().pages.exports.jobs.iter().all(|job| job.ending.is_some()));
    window.settle();
    let job = &window.state().pages.exports.jobs[0];
    assert!(matches!(job.ending, Some(Ending::Done(_))), "{:?}", job.ending);
    let folder = job.files()[0].0.parent().expect("a folder").to_owned();
    let modelfile = std::fs::read_to_string(folder.join("Modelfile")).expect("written");
    assert!(modelfile.contains("FROM ") && modelfile.contains("TEMPLATE "), "{modelfile}");
    window.has("ollama create");
    window.has("Test export");
}
