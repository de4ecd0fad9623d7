//! The local server's page: one press makes a model answer the programs of this computer.

use super::command::{Command, Out, Slot};
use super::errand::{Ending, Said};
use super::problem::Problem;
use super::state::Data;
use super::target::Target;
use super::theme::icons::Icon;
use super::theme::{of, space, text};
use super::widgets::card::{card, chip, heading, row};
use super::widgets::chooser::{Chooser, Runs, chooser_ui};
use super::widgets::problem_card::problem_card;
use super::widgets::{button, empty, field};
use eframe::egui::{DragValue, Ui};

/// The port that is offered first, as on the command line.
const PORT: u16 = 8080;

/// The page.
#[derive(Debug)]
pub struct Server {
    /// What is served; none: the newest run, or the built-in model.
    pub target: Option<Target>,
    /// On which port.
    pub port: u16,
    /// Its errand, while it is under way.
    pub id: Option<u64>,
    /// Where it listens.
    pub url: Option<String>,
    /// Under which names it answers.
    pub models: Vec<String>,
    /// Why it ended.
    pub problem: Option<Problem>,
}

impl Default for Server {
    fn default() -> Self {
        Self { target: None, port: PORT, id: None, url: None, models: Vec::new(), problem: None }
    }
}

impl Server {
    /// The words of the command.
    pub fn words(target: &Target, port: u16) -> Vec<String> {
        let mut words = vec!["serve".to_owned(), "--port".to_owned(), port.to_string()];
        words.extend(target.words());
        words
    }

    /// It said something.
    pub fn hear(&mut self, said: Said) {
        match said {
            Said::Remark(_) => {}
            Said::Line(value) => {
                self.url = value["url"].as_str().map(str::to_owned);
                let names = value["models"].as_array().into_iter().flatten();
                self.models = names.filter_map(|name| name.as_str().map(str::to_owned)).collect();
            }
            Said::Ended(ending) => {
                self.id = None;
                self.url = None;
                if let Ending::Failed(problem) = ending {
                    self.problem = Some(problem);
                }
            }
        }
    }
}

/// Draw it.
pub fn serve_ui(ui: &mut Ui, data: &Data, page: &mut Server, out: &mut Out) {
    heading(ui, "Serve", "Let other programs of this computer talk to your model, as they would to OpenAI's service.");
    if let Some(problem) = &page.problem {
        if problem_card(ui, problem, true, out) {
            page.problem = None;
        }
        ui.add_space(space::S);
    }
    card(ui, |ui| {
        if page.id.is_some() {
            running_ui(ui, page, out);
        } else {
            offer_ui(ui, data, page, out);
        }
    });
    ui.add_space(space::M);
    let t = of(ui);
    card(ui, |ui| {
        ui.label(text::card_title(t, "Who can reach it"));
        ui.label(text::body(
            t,
            "Only programs on this computer. The server ends with this window; for one that stays, with a key or for \
             other computers, type peft-studio serve --help in a terminal.",
        ));
    });
}

fn offer_ui(ui: &mut Ui, data: &Data, page: &mut Server, out: &mut Out) {
    let t = of(ui);
    let trained = || data.runs.iter().flatten().find(|run| Runs::Over.has(run));
    let target = page
        .target
        .clone()
        .or_else(|| trained().map(|run| Target::Run(run.id.to_string())))
        .unwrap_or_else(Target::starter);
    ui.horizontal_wrapped(|ui| {
        ui.label(text::hint(t, "What"));
        let what = Chooser { name: "What is served", slot: Slot::Serve, runs: Runs::Over, nothing: "", width: 240.0 };
        if let Some(other) = chooser_ui(ui, data, Some(&target), &what, out, |_| {}) {
            page.target = Some(other);
        }
        let name = ui.label(text::hint(t, "Port"));
        ui.add(DragValue::new(&mut page.port).range(1024..=65535)).labelled_by(name.id);
        field::explain(
            ui,
            "Port",
            "A number that programs use to find the server. Another one helps where it is taken.",
        );
        if button::primary("Start the server").icon(Icon::Play).ui(ui).clicked() {
            out.push(Command::Serve(target.clone(), page.port));
        }
    });
}

fn running_ui(ui: &mut Ui, page: &Server, out: &mut Out) {
    let t = of(ui);
    let Some(url) = &page.url else {
        empty::loading(ui, "Loading the model");
        stop_ui(ui, page, out);
        return;
    };
    ui.horizontal(|ui| {
        chip(ui, t.ok, "Listening");
        ui.label(text::code(t, url));
        if button::icon(Icon::Copy, "Copy the address").small().ui(ui).clicked() {
            out.push(Command::Copy(url.clone()));
        }
    });
    row(ui, "Models", &page.models.join(", "));
    ui.add_space(space::S);
    ui.label(text::hint(t, "Try it in a terminal"));
    let model = page.models.first().map_or("starter", String::as_str);
    let body = serde_json::json!({"model": model, "messages": [{"role": "user", "content": "Hello"}]});
    // A name with a quote in it must not end the shell's.
    let body = body.to_string().replace('\'', "'\\''");
    let line = format!("curl {url}/chat/completions -H 'Content-Type: application/json' -d '{body}'");
    ui.horizontal_wrapped(|ui| {
        ui.label(text::code(t, &line));
        if button::icon(Icon::Copy, "Copy the line").small().ui(ui).clicked() {
            out.push(Command::Copy(line.clone()));
        }
    });
    ui.add_space(space::S);
    stop_ui(ui, page, out);
}

fn stop_ui(ui: &mut Ui, page: &Server, out: &mut Out) {
    if button::secondary("Stop the server").icon(Icon::Stop).ui(ui).clicked()
        && let Some(id) = page.id
    {
        out.push(Command::StopErrand(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_server_says_is_shown() {
        let mut page = Server { id: Some(1), ..Server::default() };
        page.hear(Said::Line(json!({"event": "listening", "url": "http://127.0.0.1:1/v1", "models": ["a", "b"]})));
        assert_eq!((page.url.as_deref(), page.models.len()), (Some("http://127.0.0.1:1/v1"), 2));
        page.hear(Said::Ended(Ending::Stopped));
        assert!(page.id.is_none() && page.url.is_none() && page.problem.is_none());
    }

    #[test]
    fn the_command_names_what_is_served() {
        let run = Server::words(&Target::Run("r1".to_owned()), 9000);
        assert_eq!(run.join(" "), "serve --port 9000 --run r1");
        let model = Server::words(&Target::Model("m".to_owned(), Some("/a".into())), 9000);
        assert_eq!(model.join(" "), "serve --port 9000 --model m --adapter /a");
    }
}
