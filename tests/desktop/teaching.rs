//! Rows by a helper model in the window: from documents to rows, decided on by buttons and keys, to a run; labels, a
//! person's conversations, vectors, and helpers that are not there, slow, or do not take the key.

use crate::helper::{MockHelper, Way};
use crate::trial::Window;
use eframe::egui::{Key, Modifiers};
use peft_plan::helper::Service;
use peft_storage::RowState;
use peft_studio::gui::command::Command;
use peft_studio::gui::route::Route;
use peft_studio::gui::studio::{Ask, For, Job, Studio, Tab};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Houses, each in a section of its own.
const HOUSES: usize = 6;

pub(crate) fn page() -> String {
    let mut page = "# Houses\n".to_owned();
    for n in 0..HOUSES {
        let year = 1000 + n;
        write!(page, "\n## House {n}\n\nHouse number {n} was built in {year}. It stands at the river.\n")
            .expect("text");
    }
    page
}

/// A row about the first house of the chunk that is asked about.
pub(crate) fn row(request: &Value) -> String {
    let asked = request["messages"][1]["content"].as_str().unwrap_or_default();
    let number = asked.split("House number ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or("?");
    let year = 1000 + number.parse::<usize>().unwrap_or(0);
    let good = json!({"question": format!("When was house {number} built?"), "answer": format!("In {year}."),
                      "evidence": format!("House number {number} was built in {year}.")});
    let bad = json!({"question": format!("Who lives in house {number}?"), "answer": "A king.",
                     "evidence": "A king lives in this house since long ago."});
    json!({"items": [bad, good]}).to_string()
}

pub(crate) fn studio(window: &Window) -> &Studio {
    &window.state().pages.studio
}

fn waiting(window: &Window) -> u64 {
    studio(window).review.job().map_or(0, |job| job.taken)
}

/// A window with a project.
fn project(size: [f32; 2]) -> Window {
    prepared(Window::new(size))
}

/// The window, with a project that is looked at.
pub(crate) fn prepared(mut window: Window) -> Window {
    window.press("Data studio");
    window.send(Command::Studio(Ask::Create("town".to_owned())));
    window.until("there is a project", |window| studio(window).documents.is_some());
    window
}

/// A project with a document in small chunks.
fn houses(size: [f32; 2]) -> Window {
    let mut window = project(size);
    with_houses(&mut window);
    window
}

pub(crate) fn with_houses(window: &mut Window) {
    let document = window.file("houses.md", &page());
    // Small enough that each house has a chunk.
    window.state_mut().pages.studio.set_chunking("100", "0");
    window.drop_file(&document);
    window.until("it is read", |window| {
        !studio(window).is_busy(Job::Chunk) && studio(window).documents.as_ref().is_some_and(|all| all.len() == 1)
    });
}

/// Ask this one.
pub(crate) fn ask_it(window: &mut Window, mock: &MockHelper) {
    let writer = &mut window.state_mut().pages.studio.writer;
    (writer.service, writer.place, writer.model) = (Service::OpenAi, mock.base(), "maker/teacher".to_owned());
}

fn rows_of(window: &Window) -> Vec<Value> {
    let text = std::fs::read_to_string(window.path("projects/town/data/sft_data.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn documents_become_rows_that_people_decide_on_and_train_on_s2_3_s2_7() {
    let mut window = houses([1280.0, 900.0]);
    let mock = MockHelper::new(|n| if n == 1 { Way::Status(503) } else { Way::Good }, row);
    window.press("Generate");
    window.settle();
    window.has("Name the model that writes them");
    window.all_named();
    ask_it(&mut window, &mock);
    // As OpenRouter answers, with prices and what is left to spend.
    window.state_mut().pages.studio.writer.service = Service::OpenRouter;
    window.press("Look for models");
    window.until("models are listed", |window| studio(window).writer.models.is_some());
    window.settle();
    window.has("1.00 and 2.00 USD a million tokens");
    window.has("8.50 USD left");
    window.state_mut().pages.studio.making.pairs = "1".to_owned();
    window.settle();
    window.press("Write rows");
    assert!(studio(&window).is_busy(Job::Generate));
    window.until("rows are written", |window| !studio(window).is_busy(Job::Generate));
    window.until("they are shown", |window| waiting(window) == HOUSES as u64 && studio(window).has_rows);
    assert!(studio(&window).problem.is_none(), "{:?}", studio(&window).problem);
    window.settle();
    window.has("When was house 0 built?");
    window.has("6 rows in the project");
    let shown = &studio(&window).review.queue.as_ref().expect("read").rows;
    assert!(shown.iter().all(|shown| shown.chunk.as_ref().is_some_and(|text| text.contains("was built in"))));
    window.all_named();

    // Keys: take the first, refuse the next, change the third.
    window.keys(Modifiers::NONE, Key::A);
    window.until("it is taken", |window| studio(window).review.job().is_some_and(|job| job.approved == 1));
    window.keys(Modifiers::NONE, Key::J);
    assert_eq!(studio(&window).review.current, 1);
    window.keys(Modifiers::NONE, Key::K);
    window.keys(Modifiers::NONE, Key::R);
    window.until("it is refused", |window| studio(window).review.job().is_some_and(|job| job.rejected == 1));
    window.keys(Modifiers::NONE, Key::E);
    let Some((row, _, answer)) = &mut window.state_mut().pages.studio.review.edit else { panic!("nothing is changed") };
    let number = *row;
    *answer = "In the year 1002, at the river.".to_owned();
    window.settle();
    window.press("Save the row");
    window.until("it is changed", |window| studio(window).review.job().is_some_and(|job| job.approved == 2));
    // A button does the same, and what was refused can be taken back.
    let next = studio(&window).review.queue.as_ref().expect("read").rows[0].row.id;
    assert!(next > number);
    window.press(&format!("Reject row {next}"));
    window.until("it is refused", |window| studio(window).review.job().is_some_and(|job| job.rejected == 2));
    window.press("Rejected 2");
    window.until("they are shown", |window| {
        let queue = studio(window).review.queue.as_ref();
        queue.is_some_and(|queue| {
            queue.rows.len() == 2 && queue.rows.iter().all(|shown| shown.row.state == RowState::Rejected)
        })
    });
    window.settle();
    window.press(&format!("Accept row {next}"));
    window.until("it is taken", |window| studio(window).review.job().is_some_and(|job| job.rejected == 1));
    window.until("the file follows", |window| rows_of(window).len() == HOUSES - 1);
    assert_eq!(rows_of(&window)[1]["output"], "In the year 1002, at the river.");
    assert!(rows_of(&window).iter().all(|row| row["evidence"].as_str().is_some_and(|quote| page().contains(quote))));
    window.press("Refused by the checks 6");
    window.until("they are shown", |window| studio(window).review.state == RowState::Refused);
    window.until("they are read", |window| {
        studio(window).review.queue.as_ref().is_some_and(|queue| queue.rows.len() == HOUSES)
    });
    window.settle();
    window.has("whose quote is not in the text");
    window.all_named();

    // Whoever begins again adds to what is there, and no question is asked twice.
    let calls = mock.calls();
    window.press("Write rows");
    window.until("it goes on", |window| !studio(window).is_busy(Job::Generate));
    assert_eq!(mock.calls(), calls, "everything was asked before");
    assert_eq!(rows_of(&window).len(), HOUSES - 1);
    window.press("Train on this");
    window.until("the wizard has the rows", |window| window.state().pages.wizard.found.is_some());
    assert_eq!(window.state().route, Route::New);
    assert!(matches!(window.state().pages.wizard.found, Some(Ok(_))));
}

#[test]
fn weak_questions_are_asked_again_and_rows_are_added_b14() {
    let mut window = houses([960.0, 600.0]);
    let before = "{\"instruction\":\"When was house 4 built?\",\"output\":\"Long ago.\"}\n";
    let rows = window.file("before.jsonl", before);
    window.send(Command::Studio(Ask::Import(rows)));
    window.until("there are rows", |window| studio(window).has_rows && !studio(window).is_busy(Job::Versions));
    let judged = window.file(
        "judged.jsonl",
        "{\"question\":\"In which year was house number 2 built?\",\"expected\":\"In 1002.\",\"answer\":\"No idea.\",\"exact\":false}\n",
    );
    let mock = MockHelper::new(|_| Way::Good, row);
    window.press("Generate");
    ask_it(&mut window, &mock);
    let making = &mut window.state_mut().pages.studio.making;
    (making.pairs, making.judged) = ("1".to_owned(), judged.display().to_string());
    window.settle();
    window.press("Write rows");
    window.until("rows are written", |window| !studio(window).is_busy(Job::Generate));
    assert!(studio(&window).problem.is_none(), "{:?}", studio(&window).problem);
    window.settle();
    window.has("They are about 1 badly answered questions");
    let rows = rows_of(&window);
    assert_eq!(rows[0]["output"], "Long ago.", "what was there stays");
    assert!(rows.iter().any(|row| row["output"] == "In 1002.") && rows.len() < HOUSES, "{rows:?}");
    assert_eq!(rows.iter().filter(|row| row["instruction"] == "When was house 4 built?").count(), 1);
}

#[test]
fn helpers_that_are_absent_slow_or_refuse_the_key_are_cards_s2_10() {
    let mut window = houses([960.0, 600.0]);
    window.press("Generate");
    let refuses = MockHelper::new(|_| Way::RepeatsKey, row);
    ask_it(&mut window, &refuses);
    window.state_mut().pages.studio.writer.key = "sk-very-secret-key-of-a-person".to_owned();
    window.settle();
    window.press("Write rows");
    window.until("it is told", |window| studio(window).problem.is_some());
    window.settle();
    window.has("PS-OR-001");
    window.has("Key");
    let log: String = window.state().log.lines().map(peft_studio::gui::log::Line::written).collect();
    let shown = format!("{:?} {log}", studio(&window).problem);
    assert!(!shown.contains("very-secret"), "{shown}");
    // Nobody is there.
    window.state_mut().pages.studio.writer.place = "http://127.0.0.1:1/v1".to_owned();
    window.send(Command::Studio(Ask::Helpers(For::Rows)));
    window.until("it is told", |window| {
        studio(window).problem.as_ref().is_some_and(|problem| problem.code == "PS-HELP-001")
    });
    // One that says nothing is stopped, and the same button goes on.
    let slow = MockHelper::new(|n| if n == 0 { Way::Stalls(60_000) } else { Way::Good }, row);
    ask_it(&mut window, &slow);
    let making = &mut window.state_mut().pages.studio.making;
    (making.pairs, making.at_once) = ("1".to_owned(), "1".to_owned());
    window.settle();
    window.press("Write rows");
    window.until("it is asked", |_| slow.calls() > 0);
    window.settle();
    window.press("Stop writing rows");
    window.until("it stops", |window| !studio(window).is_busy(Job::Generate));
    assert!(studio(&window).problem.is_none(), "{:?}", studio(&window).problem);
    window.settle();
    assert!(!studio(&window).has_rows, "an empty file is no rows to train on");
    window.send(Command::Studio(Ask::Generate(false)));
    window.until("it goes on", |window| !studio(window).is_busy(Job::Generate) && waiting(window) == HOUSES as u64);
    window.settle();
    window.all_named();
}

#[test]
fn rows_are_labelled_a_twin_is_made_and_both_become_the_projects_rows_s1_4_s3_1() {
    let mut window = project([1280.0, 800.0]);
    let mock = MockHelper::new(|_| Way::Good, |_| "Answered.".to_owned());
    window.press("Label");
    window.settle();
    window.has("Choose a file with questions");
    let questions = "{\"id\":\"a\",\"user\":\"One?\"}\n{\"id\":\"b\",\"user\":\"Two?\",\"assistant\":\"Kept.\"}\n";
    let file = window.file("q.jsonl", questions);
    window.drop_file(&file);
    assert_eq!(studio(&window).labelling.file, file.display().to_string(), "what is dropped here is labelled");
    ask_it(&mut window, &mock);
    window.settle();
    window.press("Let the teacher answer");
    window.until("rows are answered", |window| !studio(window).is_busy(Job::Label));
    assert!(studio(&window).problem.is_none(), "{:?}", studio(&window).problem);
    window.settle();
    window.has("2 rows have an answer");
    window.has("1 kept the answer they had: b");
    window.all_named();
    window.press("Make them the project's rows");
    window.until("there are rows", |window| studio(window).has_rows);

    window.press("Persona");
    window.settle();
    window.has("Add chats, journals or memories first");
    let mut chat = String::new();
    for n in 0..12 {
        writeln!(chat, "12/03/2024, 10:{:02} - Ann: Shall we walk to house number {n} today?", 2 * n).expect("text");
        writeln!(chat, "12/03/2024, 10:{:02} - Ben: Yes, I like that walk of {n} miles very much.", 2 * n + 1)
            .expect("text");
    }
    let chat = window.file("WhatsApp Chat with Ann.txt", &chat);
    window.drop_file(&chat);
    window.state_mut().pages.studio.twin.me = "Ben".to_owned();
    window.settle();
    window.press("Make conversations");
    window.until("they are made", |window| !studio(window).is_busy(Job::Persona));
    assert!(studio(&window).problem.is_none(), "{:?}", studio(&window).problem);
    window.settle();
    window.has("Ben is the one who answers");
    window.all_named();
    window.press("Make them the project's rows");
    window.until("they are taken", |window| {
        !studio(window).is_busy(Job::Versions) && rows_of(window).iter().any(|row| row["messages"].is_array())
    });
    let all = rows_of(&window).iter().map(Value::to_string).collect::<String>();
    assert!(!all.contains("Ann"), "other people's names are replaced: {all}");

    window.press("Quality");
    window.settle();
    window.press("Write the card");
    window.until("the card is there", |window| studio(window).card.written.is_some());
    let card = std::fs::read_to_string(window.path("projects/town/README.md")).expect("written");
    assert!(card.contains("# "), "{card}");
}

#[test]
fn a_question_finds_what_is_meant_with_its_source_s0_6_s0_7() {
    let mut window = houses([1280.0, 800.0]);
    window.press("Search");
    window.until("vectors are known", |window| studio(window).meaning.vectors.is_some());
    window.send(Command::Studio(Ask::Meaning("river".to_owned())));
    window
        .until("it is found", |window| !studio(window).is_busy(Job::Meaning) && studio(window).meaning.found.is_some());
    window.settle();
    window.has("Found by words alone");
    let mock = MockHelper::new(|_| Way::Good, row);
    let helper = &mut window.state_mut().pages.studio.meaning.helper;
    (helper.service, helper.place, helper.model) = (Service::OpenAi, mock.base(), "vectors".to_owned());
    window.settle();
    window.press("Make vectors");
    window.until("vectors are made", |window| !studio(window).is_busy(Job::Embed));
    window.until("they are counted", |window| {
        studio(window).meaning.vectors.as_ref().is_some_and(|all| all.iter().any(|(_, done, total)| done == total))
    });
    assert!(studio(&window).problem.is_none(), "{:?}", studio(&window).problem);
    window.send(Command::Studio(Ask::Meaning("--what stands at the river".to_owned())));
    window.until("it is found", |window| {
        !studio(window).is_busy(Job::Meaning) && studio(window).meaning.found.as_ref().is_some_and(|(by, _)| *by)
    });
    window.settle();
    window.has("Found by words and by meaning");
    window.has("houses.md");
    window.all_named();
    // The same process answers the next one, also about what has come since: its index is open.
    let looks = |window: &Window| window.state().errands.keys().copied().collect::<Vec<u64>>();
    let before = looks(&window);
    assert_eq!(before.len(), 1, "it waits for the next question");
    let more = window.file("harbour.md", "# Harbour\n\nThe lighthouse keeper sells fresh fish on the quay.\n");
    window.send(Command::Studio(Ask::Add(vec![more])));
    window.until("it is read", |window| {
        !studio(window).is_busy(Job::Chunk) && studio(window).documents.as_ref().is_some_and(|all| all.len() == 2)
    });
    window.send(Command::Studio(Ask::Meaning("fresh fish at the lighthouse".to_owned())));
    window.until("it is found", |window| {
        !studio(window).is_busy(Job::Meaning) && studio(window).meaning.found.as_ref().is_some_and(|(by, _)| *by)
    });
    window.settle();
    window.has("harbour.md");
    assert_eq!(looks(&window), before, "nothing was started anew");
    // What is removed is not found any more, and the file stays.
    window.state_mut().pages.studio.tab = Tab::Documents;
    window.settle();
    window.press("Remove harbour.md");
    assert_eq!(studio(&window).documents.as_ref().map(Vec::len), Some(1), "at once");
    let store = peft_storage::Store::open(std::path::Path::new(&window.path(""))).expect("a store");
    let id = store.project("town").expect("there").id;
    window.until("it is gone", |_| store.documents(id).expect("read").len() == 1);
    assert!(std::path::Path::new(&window.path("harbour.md")).exists());
    window.send(Command::Studio(Ask::Meaning("fresh fish at the lighthouse".to_owned())));
    window.until("it is looked for", |window| studio(window).meaning.found.is_some());
    let found = &studio(&window).meaning.found.as_ref().expect("just seen").1;
    assert!(!found.is_empty() && found.iter().all(|chunk| !chunk.path.contains("harbour")), "{found:?}");
    // Another project: whoever looked through this one goes.
    window.send(Command::Studio(Ask::Create("village".to_owned())));
    window.until("it is open", |window| studio(window).project.as_deref() == Some("village"));
    assert!(looks(&window).is_empty());
}

#[test]
fn chunks_are_as_long_as_was_chosen_in_tokens_or_characters_s0_4() {
    let mut window = project([1280.0, 800.0]);
    let document = window.file("houses.md", &page());
    window.settle();
    window.press("Counted in");
    window.press("tokens");
    window.has("of the model");
    let page = &mut window.state_mut().pages.studio;
    page.count_tokens_of("starter");
    page.set_chunking("30", "5");
    window.send(Command::Studio(Ask::Add(vec![document.clone()])));
    window.until("it is read", |window| !studio(window).is_busy(Job::Chunk) && studio(window).chunks.is_some());
    assert!(studio(&window).problem.is_none(), "{:?}", studio(&window).problem);
    let lengths: Vec<u64> = studio(&window)
        .chunks
        .as_ref()
        .expect("just seen")
        .1
        .iter()
        .filter_map(|chunk| chunk.details["length"].as_u64())
        .collect();
    assert!(lengths.len() > HOUSES && lengths.iter().all(|length| (1..=30).contains(length)), "{lengths:?}");
    window.state_mut().pages.studio.set_chunking("many", "5");
    window.send(Command::Studio(Ask::Add(vec![document])));
    window.until("it is told", |window| {
        studio(window).problem.as_ref().is_some_and(|problem| problem.code == "PS-CFG-001")
    });
    window.settle();
    window.all_named();
}

#[test]
fn whatever_is_dropped_is_read_or_explained_and_the_rest_goes_on() {
    let mut window = project([960.0, 600.0]);
    let folder = window.folder("papers");
    for n in 0..200 {
        std::fs::write(folder.join(format!("{n}.txt")), format!("Paper {n} says something of its own."))
            .expect("written");
    }
    std::fs::write(folder.join("picture.png"), [0x89, b'P', b'N', b'G', 0, 1, 2, 255]).expect("written");
    std::fs::write(folder.join("empty.txt"), "").expect("written");
    // As large as a film, without taking the room of one.
    let film = window.bytes("film.mkv", b"\x1a\x45\xdf\xa3\x00\x01");
    std::fs::File::options().write(true).open(&film).and_then(|file| file.set_len(3 << 30)).expect("a sparse file");
    let gone = window.file("gone.md", "x");
    std::fs::remove_file(&gone).expect("removed");
    window.send(Command::Studio(Ask::Dropped(vec![film, gone, folder])));
    window.until("it is over", |window| {
        !studio(window).is_busy(Job::Chunk) && (studio(window).report.is_some() || studio(window).problem.is_some())
    });
    let told = studio(&window).report.clone().unwrap_or_default();
    assert!(told["files"].as_array().is_some_and(|files| files.len() >= 200), "{:?} {told}", studio(&window).problem);
    let left = told["unreadable"].as_array().map_or(0, Vec::len);
    assert!(left >= 2, "{}", told["unreadable"]);
    window.until("they are listed", |window| studio(window).documents.as_ref().is_some_and(|all| all.len() >= 200));
    window.settle();
    window.has("Left out");
    assert_eq!(studio(&window).tab, Tab::Documents);
}

#[test]
fn without_a_project_files_are_not_lost_without_a_word() {
    let mut window = Window::new([960.0, 600.0]);
    window.press("Data studio");
    window.until("projects are known", |window| studio(window).projects.is_some());
    let file = window.file("a.md", "Some words.");
    window.drop_file(&file);
    assert!(window.state().toasts.iter().any(|toast| toast.text.contains("Name a project first")));
}
