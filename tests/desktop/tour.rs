//! Every page of the window in every state that has a look of its own, for tests that visit all of them.

use crate::outside::completed;
use crate::rows;
use crate::staged;
use crate::trial::Window;
use peft_plan::RunConfig;
use peft_studio::gui::command::{Command, Shelf};
use peft_studio::gui::playground::Exchange;
use peft_studio::gui::playground::Shown;
use peft_studio::gui::route::{RAIL, Route};
use peft_studio::gui::studio::{self, Ask};
use peft_studio::gui::tools;
use peft_studio::gui::views::run;
use peft_studio::gui::wizard::Step;

/// A place to look at.
pub(crate) struct Stop {
    /// What it is called.
    pub(crate) name: String,
    /// It shows lines that are longer than the window, to be scrolled.
    pub(crate) scrolls_sideways: bool,
    commands: Vec<Command>,
    then: Option<fn(&mut Window)>,
}

impl Stop {
    /// Go there, and wait until nothing moves.
    pub(crate) fn go(&self, window: &mut Window) {
        for command in &self.commands {
            window.send(command.clone());
        }
        if let Some(then) = self.then {
            then(window);
        }
        window.settle();
        window.settle();
        assert!(window.state().broken.is_none(), "{} broke", self.name);
    }
}

/// Two runs, one of them with a name that does not fit anywhere, one that broke, and a look at examples.
pub(crate) fn prepare(window: &mut Window) -> Vec<String> {
    let mut runs = Vec::new();
    for name in ["short", "A run whose name is a good deal longer than anybody would think when they type it in"] {
        let mut config = RunConfig { name: Some(name.to_owned()), ..RunConfig::default() };
        config.model.id = Some("starter".to_owned());
        config.dataset.path = Some(window.file("sums.jsonl", &rows(12)).display().to_string());
        config.training.max_steps = Some(2);
        window.send(Command::Go(Route::Home));
        let id = completed(window, config);
        window.until("it is told", |window| window.state().data.stories.get(&id).is_some_and(|s| s.finished.is_some()));
        runs.push(id);
    }
    runs.push(staged::broken(std::path::Path::new(&window.path(""))));
    window.send(Command::UseModel("starter".to_owned()));
    let data = window.file("sums.jsonl", &rows(12));
    window.send(Command::Inspect(vec![data]));
    window.until("the examples are looked at", |window| window.state().pages.wizard.found.is_some());
    window.state_mut().pages.wizard.step = Step::Review;
    window.until("the run is planned", |window| window.state().pages.wizard.to_start().is_some());
    for run in &runs[..2] {
        window.send(Command::Compare(run.clone(), true));
    }
    window.send(Command::Go(Route::Export));
    window
        .until("sizes are known", |window| window.state().pages.exports.sizes.iter().any(|(_, known)| known.is_some()));
    rows_of_a_helper(window);
    window.send(Command::Go(Route::Models));
    window.until("models are listed", |window| window.state().data.models.is_some());
    window.until("everything is loaded", |window| window.state().pages.playground.loading.is_none());
    window.until("what was said is over", |window| window.state().toasts.is_empty());
    runs
}

/// A project with a document and rows that a helper wrote, one of them with more words than fit anywhere.
fn rows_of_a_helper(window: &mut Window) {
    let text = "# Opening hours of the shop in the old town\n\nThe shop opens at nine. It closes at six.\n";
    let document = window.file("opening-hours-of-every-shop-in-the-old-town-and-around-it.md", text);
    window.send(Command::Go(Route::Studio));
    window.send(Command::Studio(Ask::Create("A project with a long name".to_owned())));
    window.until("there is a project", |window| window.state().pages.studio.documents.is_some());
    window.send(Command::Studio(Ask::Dropped(vec![document.clone()])));
    window.until("it is read", |window| window.state().pages.studio.chunks.is_some());
    let source = std::path::absolute(document).expect("a path").display().to_string();
    let row = |question: &str| {
        let quote = "The shop opens at nine.";
        let (chunk, text) = &window.state().pages.studio.chunks.as_ref().expect("just seen").1.first().map_or_else(
            || (serde_json::Value::Null, String::new()),
            |chunk| (chunk.details["id"].clone(), chunk.text.clone()),
        );
        let start = text.find(quote).unwrap_or(0);
        serde_json::json!({"exchanges": [[question, "At nine o'clock in the morning, every day."]], "chunk": chunk,
            "evidence": {"quote": quote, "start": start, "end": start + quote.len()}, "source": source,
            "heading": ["Opening hours of the shop in the old town"], "task": "facts"})
    };
    let store = peft_storage::Store::open(std::path::Path::new(&window.path(""))).expect("a store");
    let settings = serde_json::json!({"kind": "generate", "model": "a-model:70b-instruct",
        "provider": "openrouter", "out": window.path("rows.jsonl"),
        "wish": {"task": "facts", "prompt": "", "pairs": 3, "language": null, "difficulty": null}});
    for key in ["one", "two"] {
        let job = store.teaching_job(key, Some("A project with a long name"), &settings).expect("a job");
        let taken = vec![row("When does the shop open?"), row(&"How long is a question that nobody ends? ".repeat(12))];
        let refused =
            vec![("ungrounded".to_owned(), serde_json::json!({"exchanges": [["Who?", "A king."]], "evidence": "x"}))];
        let call = peft_storage::NewCall { unit: "u".to_owned(), taken, refused, ..peft_storage::NewCall::default() };
        store.keep_call(job, &call).expect("kept");
    }
}

/// A name, and what brings the window there.
type Place = (&'static str, fn(&mut Window));

fn at(name: &str, commands: Vec<Command>) -> Stop {
    Stop { name: name.to_owned(), scrolls_sideways: false, commands, then: None }
}

/// All places.
pub(crate) fn stops(runs: &[String]) -> Vec<Stop> {
    let mut all: Vec<Stop> = RAIL.iter().map(|(route, name, _)| at(name, vec![Command::Go(route.clone())])).collect();
    let then = |name: &str, route: Route, then: fn(&mut Window)| Stop {
        then: Some(then),
        ..at(name, vec![Command::Go(route)])
    };
    let evaluates: fn(&mut Window) = |window| window.state_mut().pages.tools.tab = tools::Tab::Evaluate;
    for stop in all.iter_mut().filter(|stop| stop.name == "Tools") {
        stop.then = Some(evaluates);
    }
    let last = Route::Run(runs[1].clone());
    all.push(at("run: broken", vec![Command::Go(Route::Run(runs[2].clone()))]));
    let tabs: [Place; 5] = [
        ("run: charts", |window| window.state_mut().pages.run.tab = run::Tab::Charts),
        ("run: answers", |window| window.state_mut().pages.run.tab = run::Tab::Samples),
        ("run: events", |window| window.state_mut().pages.run.tab = run::Tab::Events),
        ("run: rows", |window| {
            window.state_mut().pages.run.tab = run::Tab::Rows;
            window.until("rows are found", |window| matches!(window.state().pages.run.rows, Some((_, Some(_)))));
        }),
        ("run: settings", |window| window.state_mut().pages.run.tab = run::Tab::Config),
    ];
    all.extend(tabs.map(|(name, set)| then(name, last.clone(), set)));
    let steps: [Place; 5] = [
        ("wizard: goal", |window| window.state_mut().pages.wizard.step = Step::Goal),
        ("wizard: model", |window| window.state_mut().pages.wizard.step = Step::Model),
        ("wizard: examples", |window| window.state_mut().pages.wizard.step = Step::Data),
        ("wizard: settings", |window| window.state_mut().pages.wizard.step = Step::Settings),
        ("wizard: review", |window| window.state_mut().pages.wizard.step = Step::Review),
    ];
    all.extend(steps.map(|(name, set)| then(name, Route::New, set)));
    let tools: [Place; 4] = [
        ("tools: queue", |window| {
            window.state_mut().pages.tools.tab = tools::Tab::Queue;
            window.until("the queue is read", |window| window.state().pages.tools.queue.is_some());
        }),
        ("tools: pipeline", |window| window.state_mut().pages.tools.tab = tools::Tab::Pipeline),
        ("tools: computer", |window| window.state_mut().pages.tools.tab = tools::Tab::Checks),
        ("tools: log", |window| window.state_mut().pages.tools.tab = tools::Tab::Log),
    ];
    all.extend(
        tools.map(|(name, set)| Stop { scrolls_sideways: name == "tools: log", ..then(name, Route::Tools, set) }),
    );
    let parts: [Place; 8] = [
        ("studio: documents", |window| window.state_mut().pages.studio.tab = studio::Tab::Documents),
        ("studio: chunks", |window| window.state_mut().pages.studio.tab = studio::Tab::Chunks),
        ("studio: search", |window| {
            window.state_mut().pages.studio.tab = studio::Tab::Search;
            window.until("vectors are known", |window| window.state().pages.studio.meaning.vectors.is_some());
        }),
        ("studio: generate", |window| {
            let page = &mut window.state_mut().pages.studio;
            (page.tab, page.making.is_open) = (studio::Tab::Generate, true);
            window.until("rows are read", |window| window.state().pages.studio.review.job().is_some());
        }),
        ("studio: rows", |window| {
            let page = &mut window.state_mut().pages.studio;
            (page.tab, page.making.is_open) = (studio::Tab::Generate, false);
            window.until("rows are read", |window| window.state().pages.studio.review.job().is_some());
        }),
        ("studio: label", |window| window.state_mut().pages.studio.tab = studio::Tab::Label),
        ("studio: persona", |window| window.state_mut().pages.studio.tab = studio::Tab::Persona),
        ("studio: quality", |window| {
            let page = &mut window.state_mut().pages.studio;
            (page.tab, page.has_rows) = (studio::Tab::Quality, true);
        }),
    ];
    all.extend(parts.map(|(name, set)| then(name, Route::Studio, set)));
    for (name, shelf) in
        [("models: discover", Shelf::Discover), ("models: versions", Shelf::Versions), ("models: disk", Shelf::Disk)]
    {
        all.push(at(name, vec![Command::Open(shelf)]));
    }
    all.push(at("help: a message", vec![Command::Explain("PS-DATA-002".to_owned())]));
    all.push(then("playground: two models", Route::Playground, |window| {
        let page = &mut window.state_mut().pages.playground;
        let shown = |text: &str| Some(Shown { text: text.to_owned(), note: "12 tokens · 30 tokens/s".to_owned() });
        page.exchanges = vec![Exchange {
            question: "What does the cafe serve in the morning, and who brings it to the tables outside?".to_owned(),
            base: shown(
                "# A title\n\nSome **bold** words, `code` and a list:\n\n- one\n- two\n\n```rust\nfn main() {}\n```",
            ),
            tuned: shown("Bread and tea, of course."),
            names: Some(["the first model, whose name is long".to_owned(), "second".to_owned()]),
            note: "First word after 0.1 s".to_owned(),
            ..Exchange::default()
        }];
    }));
    all
}
