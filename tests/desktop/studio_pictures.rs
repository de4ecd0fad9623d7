//! Pictures of every tab of the data studio with something in it, to be looked at: `PEFT_PICTURES=DIR [PEFT_WIDTHS=960,2560] cargo test --test
//! desktop -- --ignored studio_pictures`.

use crate::helper::{MockHelper, Way};
use crate::paint::Painter;
use crate::pictures::write;
use crate::teaching::{ask_it, prepared, studio};
use crate::trial::Window;
use peft_plan::helper::Service;
use peft_studio::gui::command::Command;
use peft_studio::gui::studio::{Ask, For, Job, Tab};
use peft_studio::gui::theme::ThemeChoice;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::PathBuf;

const SIZES: [[f32; 2]; 4] = [[960.0, 600.0], [1280.0, 800.0], [1920.0, 1080.0], [2560.0, 1440.0]];
const THEMES: [(ThemeChoice, &str); 3] =
    [(ThemeChoice::Dark, "dark"), (ThemeChoice::Light, "light"), (ThemeChoice::HighContrast, "contrast")];

/// A handbook of a library, as people write one.
const HANDBOOK: &str = "# Handbook of the town library\n\nThis handbook is for everybody who works at the desk.\n\n\
    ## Opening hours\n\nThe library opens at nine in the morning from Tuesday to Saturday. It closes at seven in the evening, \
    and at noon on Saturdays. On Mondays the house belongs to the cleaners.\n\n\
    ## Borrowing\n\nA card costs twelve pounds a year. Children and students pay nothing. Up to twenty books can be borrowed \
    for four weeks, and each can be kept twice as long unless somebody else waits for it.\n\n\
    ## Fines\n\nA book that is late costs ten pence a day. Nobody pays more than five pounds for one book.\n\n\
    ## Lost cards\n\nWhoever loses a card tells us at once. A new one costs three pounds, and the old one is blocked.\n";

/// A question about the first sentence of the chunk that says a number or a time.
fn about(request: &Value) -> String {
    let asked = request["messages"][1]["content"].as_str().unwrap_or_default();
    let chunk = asked.split("=====DOCUMENT-").nth(1).unwrap_or_default();
    let known = [
        ("opens at nine", "When does the library open?", "At nine in the morning, from Tuesday to Saturday."),
        ("costs twelve pounds", "What does a card cost?", "Twelve pounds a year; children and students pay nothing."),
        (
            "ten pence",
            "What does it cost if I bring a book back late?",
            "Ten pence a day, and five pounds at the most.",
        ),
        ("loses a card", "I have lost my card. What now?", "Tell the library at once. A new card costs three pounds."),
    ];
    let mut items =
        vec![json!({"question": "Who founded the library?", "answer": "A duke.", "evidence": "A duke founded it."})];
    for sentence in chunk.split_inclusive(". ").flat_map(|part| part.split('\n')).map(str::trim) {
        for (words, question, answer) in known.iter().filter(|(words, ..)| sentence.contains(words)) {
            let _ = words;
            items.push(json!({"question": question, "answer": answer, "evidence": sentence}));
        }
    }
    json!({"items": items}).to_string()
}

struct Camera {
    window: Window,
    painter: Painter,
    folder: PathBuf,
}

impl Camera {
    /// The state that is shown, in all themes and sizes.
    fn take(&mut self, name: &str) {
        let widths = std::env::var("PEFT_WIDTHS").unwrap_or_default();
        let is_wanted =
            |size: &[f32; 2]| widths.is_empty() || widths.split(',').any(|width| width == size[0].to_string());
        for size in SIZES.into_iter().filter(is_wanted) {
            self.window.harness.set_size(size.into());
            for (theme, word) in THEMES {
                self.window.send(Command::Theme(theme));
                self.window.harness.run_steps(10);
                let picture = self.painter.paint(&self.window.harness.ctx, self.window.harness.output());
                write(&self.folder.join(format!("{name}-{}-{word}.png", size[0])), &picture);
            }
        }
    }

    fn tab(&mut self, tab: Tab) {
        self.window.state_mut().pages.studio.tab = tab;
        self.window.settle();
    }
}

#[test]
#[ignore = "for looking at"]
fn studio_pictures() {
    let Some(folder) = std::env::var_os("PEFT_PICTURES").map(PathBuf::from) else { return };
    std::fs::create_dir_all(&folder).expect("created");
    let painter = Painter::default();
    let window = prepared(Window::painted([1280.0, 800.0], painter.clone()));
    let mut camera = Camera { window, painter, folder };
    camera.take("01-empty");
    let window = &mut camera.window;
    let files = vec![
        window.file("Handbook of the town library, revised in spring.md", HANDBOOK),
        window.file("opening-hours.html", "<html><title>Hours</title><h1>Hours</h1><p>Nine to seven.</p></html>"),
        window.file("prices.csv", "what,price\nnew card,3\nyear,12\n"),
        window.file("broken.pdf", "%PDF-1.7"),
    ];
    window.state_mut().pages.studio.set_chunking("260", "60");
    window.send(Command::Studio(Ask::Add(files)));
    window.until("they are read", |window| !studio(window).is_busy(Job::Chunk) && studio(window).report.is_some());
    window.until("they are listed", |window| studio(window).documents.as_ref().is_some_and(|all| all.len() == 3));
    camera.take("02-documents");
    camera.tab(Tab::Chunks);
    let window = &mut camera.window;
    let handbook =
        studio(window).documents.iter().flatten().find(|known| known.path.contains("Handbook")).map(|known| known.id);
    window.send(Command::Studio(Ask::Chunks(handbook.expect("listed"), 40)));
    window.until("chunks are there", |window| studio(window).chunks.as_ref().is_some_and(|(_, all)| all.len() > 2));
    camera.take("03-chunks");

    let mock = MockHelper::new(|_| Way::Good, about);
    camera.tab(Tab::Search);
    let window = &mut camera.window;
    let helper = &mut window.state_mut().pages.studio.meaning.helper;
    (helper.service, helper.place, helper.model) = (Service::OpenAi, mock.base(), "embeddinggemma".to_owned());
    window.send(Command::Studio(Ask::Embed));
    window.until("vectors are made", |window| !studio(window).is_busy(Job::Embed));
    window.state_mut().pages.studio.meaning.question = "what happens when a card is lost".to_owned();
    window.send(Command::Studio(Ask::Meaning("what happens when a card is lost".to_owned())));
    window.until("it is found", |window| studio(window).meaning.found.is_some());
    window
        .until("they are counted", |window| studio(window).meaning.vectors.as_ref().is_some_and(|all| !all.is_empty()));
    camera.take("04-search");

    camera.tab(Tab::Generate);
    let window = &mut camera.window;
    ask_it(window, &mock);
    window.state_mut().pages.studio.writer.service = Service::OpenRouter;
    window.send(Command::Studio(Ask::Helpers(For::Rows)));
    window.until("models are listed", |window| studio(window).writer.models.is_some());
    camera.take("05-generate");
    let window = &mut camera.window;
    window.send(Command::Studio(Ask::Generate(false)));
    window.until("rows are written", |window| !studio(window).is_busy(Job::Generate) && studio(window).has_rows);
    window.until("they are shown", |window| studio(window).review.job().is_some_and(|job| job.taken > 2));
    window.settle();
    camera.take("06-rows");
    let row = studio(&camera.window).review.queue.as_ref().expect("read").rows[0].row.id;
    camera.window.press(&format!("Edit row {row}"));
    camera.take("07-edit");

    camera.tab(Tab::Label);
    let window = &mut camera.window;
    let questions = "{\"id\":\"a\",\"user\":\"One?\"}\n{\"id\":\"b\",\"user\":\"Two?\",\"assistant\":\"Kept.\"}\n";
    let answers = MockHelper::new(|_| Way::Good, |_| "Answered.".to_owned());
    window.state_mut().pages.studio.labelling.file = window.file("questions.jsonl", questions).display().to_string();
    ask_it(window, &answers);
    window.send(Command::Studio(Ask::Label));
    window.until("rows are answered", |window| !studio(window).is_busy(Job::Label));
    camera.take("08-label");

    camera.tab(Tab::Persona);
    let window = &mut camera.window;
    let mut chat = String::new();
    for n in 0..30 {
        writeln!(chat, "12/03/2024, 10:{:02} - Ann: Shall we walk to house number {n} today?", 2 * (n % 30))
            .expect("text");
        writeln!(chat, "12/03/2024, 10:{:02} - Ben: Yes, I like that walk of {n} miles.", 2 * (n % 30) + 1)
            .expect("text");
    }
    let chat = window.file("WhatsApp Chat with Ann.txt", &chat);
    window.state_mut().pages.studio.twin.memories = vec![chat];
    window.state_mut().pages.studio.twin.me = "Ben".to_owned();
    window.send(Command::Studio(Ask::Persona));
    window
        .until("they are made", |window| !studio(window).is_busy(Job::Persona) && studio(window).twin.report.is_some());
    camera.take("09-persona");

    camera.tab(Tab::Quality);
    let window = &mut camera.window;
    window.send(Command::Studio(Ask::Score));
    window.until("rows are scored", |window| studio(window).scores.is_some());
    let rows = window.path("projects/town/data/sft_data.jsonl");
    window.send(Command::Studio(Ask::Contamination(rows)));
    window.until("they are compared", |window| studio(window).leaks.is_some());
    window.send(Command::Studio(Ask::Card));
    window.until("the card is there", |window| studio(window).card.written.is_some());
    camera.take("10-quality");

    camera.tab(Tab::Versions);
    let window = &mut camera.window;
    for note in ["before the review", "what the librarians agreed on after a long evening"] {
        window.send(Command::Studio(Ask::Save(note.to_owned())));
        window.until("it is kept", |window| !studio(window).is_busy(Job::Versions));
    }
    let labelled = window.path("projects/town/labelled.jsonl").into();
    window.send(Command::Studio(Ask::Import(labelled)));
    window.until("they are taken", |window| !studio(window).is_busy(Job::Versions));
    window.settle();
    window.until("versions are listed", |window| {
        studio(window).versions.as_ref().is_some_and(|found| found["versions"].is_array())
    });
    window.send(Command::Studio(Ask::Diff(1)));
    window.until("they are compared", |window| studio(window).diff.is_some());
    camera.take("11-versions");
    camera.window.state_mut().pages.studio.writer.place = "http://127.0.0.1:1/v1".to_owned();
    camera.window.send(Command::Studio(Ask::Helpers(For::Rows)));
    camera.window.until("it is told", |window| studio(window).problem.is_some());
    camera.tab(Tab::Generate);
    camera.take("12-problem");
}
