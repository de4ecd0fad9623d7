//! Rows from chunks, or from a wish alone, by a helper model: what is wanted, how far it is, what it costs (S2.3, S2.9).

use super::helper::{For, Helper, helper_ui};
use super::{Ask, Job, Picks, Studio, ask, review};
use crate::cli::quantity::count;
use crate::gui::command::{Command, Out, Purpose};
use crate::gui::errand::{Ending, Said};
use crate::gui::problem::Problem;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::{card, icon_label};
use crate::gui::widgets::{button, empty, field};
use eframe::egui::{CollapsingHeader, ComboBox, Label, ProgressBar, Role, TextEdit, Ui, WidgetInfo};
use peft_teach::task::TASKS;
use serde_json::Value;

/// How hard questions can be, as it is shown and as it is typed.
const LEVELS: [(&str, &str); 4] = [("Any", ""), ("Easy", "easy"), ("Medium", "medium"), ("Hard", "hard")];
/// Questions that were given up and are named.
const NAMED: usize = 20;

/// What is wanted, and what came of it.
#[derive(Debug)]
pub struct Making {
    /// The task, by name.
    pub task: String,
    /// Rows of each chunk.
    pub pairs: String,
    /// Rows in all, without documents.
    pub rows: String,
    /// What is wanted, in a person's words.
    pub prompt: String,
    /// The language of the rows.
    pub language: String,
    /// How hard, as it is typed.
    pub level: &'static str,
    /// USD that may be spent.
    pub budget: String,
    /// Questions at the same time.
    pub at_once: String,
    /// Questions that a model answered badly.
    pub judged: String,
    /// The documents are left out.
    pub is_alone: bool,
    /// Rows that are there stay.
    pub adds: bool,
    /// All of this is shown.
    pub is_open: bool,
    /// The last event with numbers.
    pub progress: Option<Value>,
    /// Why it waits.
    pub waits: Option<String>,
    /// Questions that were given up: how many, and the latest reasons.
    pub given_up: (u64, Vec<String>),
    /// What came of it.
    pub report: Option<Value>,
}

impl Default for Making {
    fn default() -> Self {
        let empty = String::new;
        Self {
            task: TASKS[0].name.to_owned(),
            pairs: "3".to_owned(),
            rows: "100".to_owned(),
            prompt: empty(),
            language: empty(),
            level: "",
            budget: empty(),
            at_once: "2".to_owned(),
            judged: empty(),
            is_alone: false,
            adds: true,
            is_open: true,
            progress: None,
            waits: None,
            given_up: (0, Vec::new()),
            report: None,
        }
    }
}

impl Making {
    /// The command.
    pub(super) fn words(&self, project: &str, helper: &Helper, is_alone: bool, is_anew: bool) -> Vec<String> {
        let mut words = vec!["data".to_owned(), "generate".to_owned(), format!("--project={project}")];
        words.extend(helper.words());
        let mut set = |name: &str, value: &str| {
            if !value.trim().is_empty() {
                words.push(format!("--{name}={}", value.trim()));
            }
        };
        set("helper-model", &helper.model);
        set("task", &self.task);
        set("pairs", &self.pairs);
        set("prompt", &self.prompt);
        set("language", &self.language);
        set("difficulty", self.level);
        set("budget", &self.budget);
        set("concurrency", &self.at_once);
        if is_alone {
            set("rows", &self.rows);
        } else {
            set("ask-again", &self.judged);
        }
        let flags = [(is_alone, "--no-documents"), (self.adds, "--add"), (is_anew, "--restart")];
        words.extend(flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag.to_owned()));
        words
    }

    /// Forget what the last call said.
    pub(super) fn begin(&mut self) {
        (self.progress, self.waits, self.report) = (None, None, None);
        self.given_up = (0, Vec::new());
        self.is_open = false;
    }

    /// It said something. What went wrong comes back; a budget that is spent is no failure.
    pub(super) fn hear(&mut self, said: Said) -> Option<Problem> {
        match said {
            Said::Line(line) => match line["event"].as_str() {
                Some("answered") => (self.progress, self.waits) = (Some(line), None),
                Some("waiting") => self.waits = line["reason"].as_str().map(str::to_owned),
                Some("gave_up") => {
                    self.given_up.0 += 1;
                    self.given_up.1.extend(line["reason"].as_str().map(str::to_owned));
                    let extra = self.given_up.1.len().saturating_sub(NAMED);
                    self.given_up.1.drain(..extra);
                }
                _ => self.report = Some(line),
            },
            Said::Remark(_) => {}
            Said::Ended(ending) => {
                self.waits = None;
                let is_spent = self.report.as_ref().is_some_and(|report| report["end"] == "budget");
                if let Ending::Failed(problem) = ending
                    && !is_spent
                {
                    self.is_open = true;
                    return Some(problem);
                }
            }
        }
        None
    }

    /// As an earlier generation was begun, so that the same button goes on with it.
    pub(super) fn take(&mut self, settings: &Value, helper: &mut Helper) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let wish = &settings["wish"];
        self.task = text(&wish["task"]);
        self.pairs = wish["pairs"].as_u64().unwrap_or(3).to_string();
        (self.prompt, self.language) = (text(&wish["prompt"]), text(&wish["language"]));
        let level = wish["difficulty"].as_str().unwrap_or_default();
        self.level = LEVELS.iter().find(|(_, typed)| *typed == level).map_or("", |(_, typed)| typed);
        if let Some(rows) = settings["rows"].as_u64() {
            (self.is_alone, self.rows) = (true, rows.to_string());
        }
        self.is_open = false;
        if let Ok(service) = settings["provider"].as_str().unwrap_or_default().parse() {
            let key = std::mem::take(&mut helper.key);
            let (place, model) = (text(&settings["place"]), text(&settings["model"]));
            *helper = Helper { service, place, key, model, ..Helper::default() };
        }
    }
}

pub(super) fn generate_ui(ui: &mut Ui, page: &mut Studio, out: &mut Out) {
    let is_busy = page.is_busy(Job::Generate);
    let has_chunks = page.has_chunks();
    let is_looking = page.is_busy(Job::Helpers);
    card(ui, |ui| {
        if page.making.is_open && !is_busy {
            helper_ui(ui, &mut page.writer, For::Rows, is_looking, out);
            ui.add_space(space::S);
            wish_ui(ui, &mut page.making, has_chunks, page.has_rows, out);
        } else {
            summary_ui(ui, page, is_busy);
        }
        ui.add_space(space::S);
        buttons_ui(ui, page, is_busy, has_chunks, out);
        progress_ui(ui, page, is_busy);
    });
    ui.add_space(space::M);
    review::review_ui(ui, page, is_busy, out);
}

fn wish_ui(ui: &mut Ui, making: &mut Making, has_chunks: bool, has_rows: bool, out: &mut Out) {
    let t = of(ui);
    let is_alone = making.is_alone || !has_chunks;
    ui.horizontal_wrapped(|ui| {
        ui.label(text::hint(t, "What is written"));
        let title = TASKS.iter().find(|task| task.name == making.task).map_or("", |task| task.title);
        let combo = ComboBox::from_id_salt("task").selected_text(title).width(190.0).show_ui(ui, |ui| {
            for task in TASKS {
                ui.selectable_value(&mut making.task, task.name.to_owned(), task.title);
            }
        });
        combo.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "What is written"));
        if is_alone {
            field::line(ui, "Rows in all", &mut making.rows, "100", 60.0);
        } else {
            field::line(ui, "Rows of each chunk", &mut making.pairs, "3", 50.0);
        }
        field::line(ui, "Language", &mut making.language, "as the text", 110.0);
        ui.label(text::hint(t, "Difficulty"));
        let word = LEVELS.iter().find(|(_, typed)| *typed == making.level).map_or("Any", |(word, _)| word);
        let combo = ComboBox::from_id_salt("difficulty").selected_text(word).width(84.0).show_ui(ui, |ui| {
            for (word, typed) in LEVELS {
                ui.selectable_value(&mut making.level, typed, word);
            }
        });
        combo.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Difficulty"));
    });
    let label = ui.label(text::hint(t, "In your own words"));
    let hint = if is_alone {
        "such as: simple sums for children of ten, with their answers"
    } else {
        "such as: ask as a customer would, and answer kindly (may stay empty)"
    };
    let edit = TextEdit::multiline(&mut making.prompt)
        .hint_text(text::body(t, hint).color(t.text3))
        .desired_rows(2)
        .desired_width(f32::INFINITY);
    field::named(ui, edit, label.id);
    ui.horizontal_wrapped(|ui| {
        field::line(ui, "Spend at most, USD", &mut making.budget, "no limit", 70.0);
        field::line(ui, "Questions at the same time", &mut making.at_once, "2", 44.0);
        if has_chunks {
            ui.checkbox(&mut making.is_alone, "Without the documents");
        }
        if has_rows {
            ui.checkbox(&mut making.adds, "Add to the rows that are there");
        }
    });
    if !is_alone {
        ui.horizontal_wrapped(|ui| {
            let hint = "what an evaluation wrote: only what a model does not know is written about";
            field::line(ui, "Ask again", &mut making.judged, hint, 330.0);
            if button::icon(Icon::Folder, "Choose the badly answered questions").ui(ui).clicked() {
                out.push(Command::Browse(Purpose::Studio(Picks::Judged)));
            }
        });
    }
}

fn summary_ui(ui: &mut Ui, page: &mut Studio, is_busy: bool) {
    let t = of(ui);
    let making = &page.making;
    let title = TASKS.iter().find(|task| task.name == making.task).map_or("", |task| task.title);
    let much = if page.is_alone() {
        format!("{} in all, of your words alone", making.rows.trim())
    } else {
        format!("{} of each chunk", making.pairs.trim())
    };
    ui.horizontal_wrapped(|ui| {
        icon_label(ui, Icon::Spark, t.accent, 16.0);
        ui.label(text::card_title(t, title));
        ui.label(text::body(t, format!("{much}, by {}", page.writer.name())));
        if !is_busy
            && button::quiet("Change").named("Change what is written").icon(Icon::Sliders).small().ui(ui).clicked()
        {
            page.making.is_open = true;
        }
    });
}

fn buttons_ui(ui: &mut Ui, page: &Studio, is_busy: bool, has_chunks: bool, out: &mut Out) {
    let t = of(ui);
    let making = &page.making;
    let missing = if !page.writer.is_named() {
        Some("Name the model that writes them")
    } else if page.is_alone() && making.prompt.trim().is_empty() {
        Some(if has_chunks {
            "Without documents, say in your own words what is wanted"
        } else {
            "Add documents, or say in your own words what is wanted"
        })
    } else {
        None
    };
    ui.horizontal_wrapped(|ui| {
        if is_busy {
            if button::secondary("Stop").named("Stop writing rows").icon(Icon::Stop).ui(ui).clicked() {
                out.push(ask(Ask::Stop(Job::Generate)));
            }
            ui.label(text::hint(t, "What was made is kept, and goes on from there. You can leave this page."));
            return;
        }
        let is_begun =
            page.review.job().is_some() && making.report.as_ref().is_none_or(|report| report["end"] != "done");
        let word = if is_begun { "Go on" } else { "Write rows" };
        let begin = button::primary(word).named("Write rows").icon(Icon::Play).enabled(missing.is_none());
        if begin.ui(ui).clicked() {
            out.push(ask(Ask::Generate(false)));
        }
        if page.review.job().is_some() {
            let anew = button::quiet("Begin anew").icon(Icon::Refresh).enabled(missing.is_none());
            if anew.ui(ui).on_hover_text("What was made with these settings is forgotten").clicked() {
                out.push(ask(Ask::Generate(true)));
            }
        }
        if let Some(missing) = missing {
            ui.label(text::hint(t, missing));
        }
    });
}

fn progress_ui(ui: &mut Ui, page: &Studio, is_busy: bool) {
    let t = of(ui);
    let making = &page.making;
    if is_busy {
        match &making.progress {
            None => empty::loading(ui, "Waiting for the first answer"),
            Some(at) => {
                let (over, units) = (at["over"].as_u64().unwrap_or(0), at["units"].as_u64().unwrap_or(0));
                let share = if units == 0 { 0.0 } else { over as f32 / units as f32 };
                ui.add(ProgressBar::new(share).desired_height(8.0).fill(t.accent_fill));
                let unit = if page.is_alone() { "batches" } else { "chunks" };
                let rows = count(at["rows"].as_u64().unwrap_or(0));
                let cost = cost(at["spent"].as_f64().unwrap_or(0.0), &making.budget);
                ui.label(text::value(t, format!("{} of {} {unit} · {rows} rows{cost}", count(over), count(units))));
            }
        }
        if let Some(reason) = &making.waits {
            ui.horizontal_wrapped(|ui| {
                icon_label(ui, Icon::Clock, t.warn.fg, 14.0);
                ui.add(Label::new(text::body(t, format!("It is asked again soon: {reason}"))).wrap());
            });
        }
    }
    let (given_up, reasons) = &making.given_up;
    if *given_up > 0 {
        CollapsingHeader::new(text::toned(t.warn.fg, format!("{} questions were given up", count(*given_up))))
            .id_salt("given up")
            .show(ui, |ui| {
                for reason in reasons.iter().rev() {
                    ui.add(Label::new(text::body(t, reason)).wrap());
                }
            });
    }
    if let (false, Some(report)) = (is_busy, &making.report) {
        report_ui(ui, report, &making.budget);
    }
}

fn cost(spent: f64, budget: &str) -> String {
    match (spent > 0.0, budget.trim().is_empty()) {
        (_, false) => format!(" · {spent:.4} of {} USD", budget.trim()),
        (true, true) => format!(" · {spent:.4} USD"),
        (false, true) => String::new(),
    }
}

fn report_ui(ui: &mut Ui, report: &Value, budget: &str) {
    let t = of(ui);
    let number = |name: &str| count(report[name].as_u64().unwrap_or(0));
    let cost = cost(report["spent"].as_f64().unwrap_or(0.0), budget);
    let how = match report["end"].as_str() {
        Some("budget") => "The budget is spent; with more the same button goes on. ",
        Some("stopped") => "Stopped; the same button goes on. ",
        _ => "",
    };
    let line = format!("{how}{} rows in the project · {} questions{cost}", number("rows"), number("calls"));
    ui.add(Label::new(text::value(t, line)).wrap());
    if let Some(failed) = report["failed_questions"].as_u64() {
        let line = format!("They are about {} badly answered questions; none of them asks one", count(failed));
        ui.add(Label::new(text::body(t, line)).wrap());
    }
    let refused = report["rejected"].as_object().into_iter().flatten();
    let refused: Vec<String> =
        refused.map(|(why, rows)| format!("{} {}", rows.as_u64().unwrap_or(0), review::reason(why))).collect();
    if !refused.is_empty() {
        ui.add(Label::new(text::body(t, format!("Not taken: {}", refused.join(", ")))).wrap());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args;
    use serde_json::json;

    fn parses(words: Vec<String>) {
        let line = std::iter::once("peft-studio".to_owned()).chain(words).chain(["--json".to_owned()]);
        let parsed = args::command().try_get_matches_from(line);
        assert!(parsed.is_ok(), "{}", parsed.err().map(|e| e.to_string()).unwrap_or_default());
    }

    #[test]
    fn whatever_is_chosen_is_a_command_that_can_be_typed_s1_27() {
        let helper = Helper { model: "m".to_owned(), place: "http://127.0.0.1:1".to_owned(), ..Helper::default() };
        let mut making = Making::default();
        parses(making.words("p", &helper, false, false));
        (making.prompt, making.budget) = ("-x 'y'".to_owned(), "1.5".to_owned());
        (making.language, making.level, making.judged) = ("German".to_owned(), "hard", "a.jsonl".to_owned());
        let words = making.words("p q", &helper, false, true);
        assert!(
            ["--project=p q", "--prompt=-x 'y'", "--ask-again=a.jsonl"]
                .iter()
                .all(|w| words.contains(&(*w).to_owned()))
        );
        parses(words);
        let words = making.words("p", &helper, true, false);
        assert!(
            words.contains(&"--no-documents".to_owned()) && !words.iter().any(|word| word.starts_with("--ask-again"))
        );
        parses(words);
    }

    #[test]
    fn a_budget_that_is_spent_is_no_failure_and_failures_are_counted() {
        let mut making = Making::default();
        making.begin();
        for _ in 0..NAMED + 5 {
            making.hear(Said::Line(json!({"event": "gave_up", "unit": "u", "reason": "half an answer"})));
        }
        assert_eq!((making.given_up.0, making.given_up.1.len()), (25, NAMED));
        let problem = || Problem::of_json(&json!({"code": "PS-APP-004", "detail": "x"})).expect("a problem");
        making.hear(Said::Line(json!({"end": "budget", "rows": 3})));
        assert!(making.hear(Said::Ended(Ending::Failed(problem()))).is_none());
        making.begin();
        assert!(making.hear(Said::Ended(Ending::Failed(problem()))).is_some() && making.is_open);
    }

    #[test]
    fn what_was_begun_is_filled_in_again() {
        let (mut making, mut helper) = (Making::default(), Helper { key: "k".to_owned(), ..Helper::default() });
        let settings = json!({"wish": {"task": "exam", "prompt": "p", "pairs": 5, "language": null, "difficulty": "easy"},
            "model": "m", "provider": "openai", "place": "http://127.0.0.1:9/v1", "rows": null});
        making.take(&settings, &mut helper);
        assert_eq!(
            (making.task.as_str(), making.pairs.as_str(), making.level, making.is_alone),
            ("exam", "5", "easy", false)
        );
        assert_eq!((helper.model.as_str(), helper.key.as_str(), helper.place.len()), ("m", "k", 21));
    }
}
