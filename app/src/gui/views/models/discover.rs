//! Models of Hugging Face: worth a try without words and without a network, found by words with one.

use crate::cli::quantity::{bytes, count};
use crate::gui::command::{Command, Out};
use crate::gui::errand::{Ending, Said};
use crate::gui::problem::Problem;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text};
use crate::gui::widgets::card::{card, chip};
use crate::gui::widgets::problem_card::problem_card;
use crate::gui::widgets::{button, empty, field, status};
use crate::jobs::library::LocalModel;
use eframe::egui::{Align, Key, Label, Layout, Ui};
use serde_json::Value;

/// What the page remembers.
#[derive(Debug, Default)]
pub struct State {
    words: String,
    /// The search that is under way.
    pub search: Option<u64>,
    /// Something was searched for.
    pub is_asked: bool,
    found: Option<Result<Vec<Offer>, Problem>>,
    /// Downloads of this window.
    pub downloads: Vec<Download>,
}

/// A model that can be downloaded.
#[derive(Clone, Debug, PartialEq)]
struct Offer {
    id: String,
    facts: String,
    good_for: Option<String>,
    /// `lora`, `qlora` or `no`; none where that is not known.
    fits: Option<String>,
    /// Its terms must be accepted first.
    gated: bool,
}

/// A download.
#[derive(Debug)]
pub struct Download {
    /// Its errand.
    pub id: u64,
    /// Of what.
    pub model: String,
    done: u64,
    total: u64,
    rate: Option<f64>,
    remark: Option<String>,
    ending: Option<Ending>,
}

impl Download {
    /// One that begins.
    pub fn new(id: u64, model: String) -> Self {
        Self { id, model, done: 0, total: 0, rate: None, remark: None, ending: None }
    }

    /// It said something. `true`: the model is here.
    pub fn hear(&mut self, said: Said) -> bool {
        match said {
            Said::Line(event) => {
                self.remark = event["reason"].as_str().map(str::to_owned);
                self.done = event["done_bytes"].as_u64().or(event["present_bytes"].as_u64()).unwrap_or(self.done);
                self.total = event["total_bytes"].as_u64().unwrap_or(self.total);
                self.rate = event["bytes_per_second"].as_f64().or(self.rate);
                false
            }
            Said::Remark(_) => false,
            Said::Ended(ending) => {
                let is_here = matches!(ending, Ending::Done(_));
                self.ending = Some(ending);
                is_here
            }
        }
    }
}

impl State {
    /// The search said something.
    pub fn hear(&mut self, said: Said) {
        match said {
            Said::Line(value) => self.found = Some(Ok(offers(&value))),
            Said::Remark(_) => {}
            Said::Ended(ending) => {
                self.search = None;
                match ending {
                    Ending::Failed(problem) => self.found = Some(Err(problem)),
                    _ if self.found.is_none() => self.found = Some(Ok(Vec::new())),
                    _ => {}
                }
            }
        }
    }
}

fn offers(document: &Value) -> Vec<Offer> {
    let offer = |model: &Value| {
        let mut facts: Vec<String> = Vec::new();
        facts.extend(model["parameters"].as_u64().map(super::parameters));
        facts.extend(model["weight_bytes"].as_u64().map(bytes));
        facts.extend(model["licence"].as_str().map(str::to_owned));
        facts.extend(model["downloads"].as_u64().map(|n| format!("{} downloads a month", count(n))));
        Some(Offer {
            id: model["id"].as_str()?.to_owned(),
            facts: facts.join("  ·  "),
            good_for: model["good_for"].as_str().map(str::to_owned),
            fits: match model["supported"].as_bool() {
                Some(false) => Some("unknown".to_owned()),
                _ => model["fits"].as_str().map(str::to_owned),
            },
            gated: model["gated"] == true,
        })
    };
    document["models"].as_array().into_iter().flatten().filter_map(offer).collect()
}

/// Draw it.
pub(super) fn discover_ui(ui: &mut Ui, state: &mut State, out: &mut Out) {
    let t = of(ui);
    for download in state.downloads.iter().rev() {
        download_ui(ui, download, out);
    }
    ui.horizontal_wrapped(|ui| {
        let response = field::search(ui, "Search Hugging Face", &mut state.words, 260.0);
        let is_entered = response.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
        let pressed = button::secondary("Search").icon(Icon::Search).enabled(state.search.is_none()).ui(ui).clicked();
        if (pressed || is_entered) && state.search.is_none() {
            state.found = None;
            out.push(Command::SearchModels(state.words.trim().to_owned()));
        }
    });
    ui.label(text::hint(t, "Searching uses the network; the list of models worth a try does not."));
    match &state.found {
        None => empty::loading(ui, "Looking"),
        Some(Err(problem)) => drop(problem_card(ui, problem, false, out)),
        Some(Ok(found)) if found.is_empty() => {
            empty::empty(ui, Icon::Search, "Nothing was found", "Fewer words find more.", |_| {});
        }
        Some(Ok(found)) => {
            for offer in found {
                let is_coming = state.downloads.iter().any(|d| d.model == offer.id && d.ending.is_none());
                offer_ui(ui, offer, is_coming, out);
            }
        }
    }
}

/// For who chooses a model: up to `most` that train here and are not here yet, and what is being downloaded.
pub fn suggestions_ui(ui: &mut Ui, state: &State, here: &[LocalModel], most: usize, out: &mut Out) {
    for download in state.downloads.iter().filter(|download| !matches!(download.ending, Some(Ending::Done(_)))) {
        download_ui(ui, download, out);
    }
    // What somebody searched for is shown where they searched.
    let Some(Ok(found)) = state.found.as_ref().filter(|_| state.words.trim().is_empty()) else { return };
    let is_wanted = |offer: &&Offer| {
        matches!(offer.fits.as_deref(), Some("lora" | "qlora"))
            && !offer.gated
            && here.iter().all(|model| model.id != offer.id)
            && state.downloads.iter().all(|download| download.model != offer.id)
    };
    let mut offers = found.iter().filter(is_wanted).take(most).peekable();
    if offers.peek().is_some() {
        ui.label(text::hint(of(ui), "Worth a try on this computer"));
    }
    for offer in offers {
        offer_ui(ui, offer, false, out);
    }
}

fn offer_ui(ui: &mut Ui, offer: &Offer, is_coming: bool, out: &mut Out) {
    let t = of(ui);
    card(ui, |ui| {
        ui.horizontal(|ui| {
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let name = format!("Download {}", offer.id);
                let get = button::secondary("Download").named(&name).icon(Icon::Download).small();
                if get.enabled(!is_coming).ui(ui).clicked() {
                    out.push(Command::Download(offer.id.clone()));
                }
                ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                    ui.add(Label::new(text::card_title(t, &offer.id)).truncate());
                });
            });
        });
        ui.horizontal_wrapped(|ui| {
            match offer.fits.as_deref() {
                Some("lora") => drop(chip(ui, t.ok, "Trains here")),
                Some("qlora") => drop(chip(ui, t.ok, "Trains here, in 4 bits")),
                Some("no") => drop(chip(ui, t.warn, "Too large to train here")),
                Some(_) => drop(chip(ui, t.info, "Cannot be trained")),
                None => {}
            }
            if offer.gated {
                chip(ui, t.info, "Ask its owner first");
            }
            ui.label(text::hint(t, &offer.facts));
        });
        if let Some(words) = &offer.good_for {
            ui.label(text::body(t, format!("Good for {words}")));
        }
    });
}

fn download_ui(ui: &mut Ui, download: &Download, out: &mut Out) {
    let t = of(ui);
    card(ui, |ui| {
        ui.horizontal(|ui| {
            ui.label(text::card_title(t, &download.model));
            match &download.ending {
                Some(Ending::Done(_)) => drop(chip(ui, t.ok, "Downloaded")),
                Some(Ending::Stopped) => drop(chip(ui, t.info, "Stopped; what arrived is kept")),
                Some(Ending::Failed(_)) => drop(chip(ui, t.bad, "Failed")),
                None => drop(chip(ui, t.info, "Downloading")),
            }
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| match download.ending {
                None => {
                    let name = format!("Stop downloading {}", download.model);
                    if button::secondary("Stop").named(&name).small().ui(ui).clicked() {
                        out.push(Command::StopErrand(download.id));
                    }
                }
                Some(Ending::Done(_)) => {
                    let name = format!("Train {}", download.model);
                    if button::primary("Train").named(&name).small().ui(ui).clicked() {
                        out.push(Command::UseModel(download.model.clone()));
                    }
                }
                Some(_) => {
                    if button::secondary("Go on").icon(Icon::Refresh).small().ui(ui).clicked() {
                        out.push(Command::Download(download.model.clone()));
                    }
                }
            });
        });
        if let Some(Ending::Failed(problem)) = &download.ending {
            problem_card(ui, problem, false, out);
        } else if download.ending.is_none() {
            let share = download.done as f32 / download.total.max(1) as f32;
            status::progress(ui, &format!("Progress of {}", download.model), share, 8.0);
            let rate = download.rate.map(|rate| format!("  ·  {}/s", bytes(rate as u64))).unwrap_or_default();
            let figures = match (&download.remark, download.total) {
                (Some(remark), _) => remark.clone(),
                (None, 0) => "Asking what there is".to_owned(),
                (None, total) => format!("{} of {}{rate}", bytes(download.done), bytes(total)),
            };
            ui.label(text::hint(t, figures));
        }
    });
    ui.add_space(space::XS);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_search_says_becomes_offers() {
        let document = json!({"models": [
            {"id": "a/b", "parameters": 500_000_000_u64, "licence": "mit", "fits": "qlora", "gated": true},
            {"no": "id"},
            {"id": "c/d", "supported": false, "fits": null},
        ]});
        let found = offers(&document);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].fits.as_deref(), found[0].gated), (Some("qlora"), true));
        assert!(found[0].facts.contains("mit"), "{}", found[0].facts);
        assert_eq!(found[1].fits.as_deref(), Some("unknown"));
        assert!(offers(&json!("damaged")).is_empty());
    }

    #[test]
    fn a_download_counts_and_ends() {
        let mut download = Download::new(1, "a/b".to_owned());
        download.hear(Said::Line(json!({"event": "planned", "total_bytes": 100, "present_bytes": 20})));
        assert_eq!((download.done, download.total), (20, 100));
        download.hear(Said::Line(json!({"event": "progress", "done_bytes": 60, "total_bytes": 100})));
        assert_eq!(download.done, 60);
        download.hear(Said::Line(json!({"event": "waiting", "seconds": 5, "reason": "the network is away"})));
        assert_eq!(download.remark.as_deref(), Some("the network is away"));
        assert!(!download.hear(Said::Ended(Ending::Stopped)));
        assert!(download.hear(Said::Ended(Ending::Done(Vec::new()))));
    }
}
