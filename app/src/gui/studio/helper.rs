//! Who is asked: the service, where it is, its key, and the model. The same for rows, labels and vectors.

use super::{Ask, ask};
use crate::cli::teaching::{EXPLAINED, TERMS, described};
use crate::gui::command::Out;
use crate::gui::errand::Secret;
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, text};
use crate::gui::widgets::card::icon_label;
use crate::gui::widgets::{button, field};
use eframe::egui::{ComboBox, Label, Role, TextEdit, Ui, WidgetInfo, vec2};
use peft_plan::helper::{Credit, HelperModel, Service};
use serde_json::Value;

/// The variable that a key travels in: it is in no list of running programs, in no log, and in no file.
const KEY: &str = "PEFT_STUDIO_HELPER_KEY";

/// What helpers there are: the service, what it is called, what it is, and where it is unless something else is typed.
const SERVICES: [(Service, &str, &str, &str); 4] = [
    (
        Service::Ollama,
        "Ollama",
        "A program on this computer that runs models. Nothing leaves this computer.",
        "http://127.0.0.1:11434",
    ),
    (
        Service::OpenRouter,
        "OpenRouter",
        "A paid service with hundreds of models. What is asked is sent there, and each answer costs money.",
        "https://openrouter.ai/api/v1",
    ),
    (
        Service::OpenAi,
        "OpenAI-compatible",
        "Whatever speaks OpenAI's protocol: llama.cpp, LM Studio or vLLM here, or a service elsewhere.",
        "https://api.openai.com/v1",
    ),
    (
        Service::Local,
        "This program",
        "A model on this computer, asked by PEFT Studio itself. Nothing leaves this computer. Without a graphics card it is slow.",
        "",
    ),
];

/// Whom a helper is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// Writing rows and labels.
    Rows,
    /// Making vectors.
    Vectors,
}

/// Who is asked.
#[derive(Debug)]
pub struct Helper {
    /// Who runs it.
    pub service: Service,
    /// Where, if not at its own place.
    pub place: String,
    /// Its key, which is kept until the window closes.
    pub key: String,
    /// The model.
    pub model: String,
    /// What it offers, when it was asked.
    pub models: Option<Vec<HelperModel>>,
    /// What is left to spend.
    pub credit: Option<Credit>,
}

impl Default for Helper {
    fn default() -> Self {
        let empty = String::new;
        Self { service: Service::Ollama, place: empty(), key: empty(), model: empty(), models: None, credit: None }
    }
}

impl Helper {
    /// A model that makes vectors (S0.6).
    pub(super) fn embedder() -> Self {
        Self { model: "embeddinggemma:latest".to_owned(), ..Self::default() }
    }

    /// As the command line takes service and place.
    pub(super) fn words(&self) -> Vec<String> {
        let mut words = vec!["--provider".to_owned(), self.service.as_str().to_owned()];
        words.extend(self.address());
        words
    }

    /// Where it is, as the command line takes it.
    pub(super) fn address(&self) -> Option<String> {
        let place = self.place.trim();
        (!place.is_empty() && self.service != Service::Local).then(|| format!("--base-url={place}"))
    }

    /// As `--teacher` takes it.
    pub(super) fn teacher(&self) -> String {
        match self.service {
            Service::Local => self.model.trim().to_owned(),
            service => format!("{}:{}", service.as_str(), self.model.trim()),
        }
    }

    /// Its key, where there is one.
    pub(super) fn secrets(&self) -> Vec<Secret> {
        let key = self.key.trim();
        if key.is_empty() || self.service == Service::Local { Vec::new() } else { vec![(KEY, key.to_owned())] }
    }

    /// A model is named.
    pub(super) fn is_named(&self) -> bool {
        !self.model.trim().is_empty()
    }

    /// What is asked leaves this computer.
    pub(super) fn is_elsewhere(&self) -> bool {
        let place = self.place.trim();
        let rest = place.split_once("://").map_or(place, |(_, rest)| rest);
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        let host = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(host, _)| host);
        let numbers: Option<std::net::Ipv4Addr> = host.parse().ok();
        let is_here = host == "localhost" || host == "[::1]" || numbers.is_some_and(|number| number.is_loopback());
        match self.service {
            Service::Local => false,
            Service::Ollama => !place.is_empty() && !is_here,
            Service::OpenRouter | Service::OpenAi => !is_here,
        }
    }

    /// What `data helpers` said.
    pub(super) fn hear(&mut self, said: &Value) {
        self.models = serde_json::from_value(said["models"].clone()).ok();
        self.credit = serde_json::from_value(said["credit"].clone()).ok();
        if let [only] = self.models.as_deref().unwrap_or_default()
            && !self.is_named()
        {
            self.model.clone_from(&only.name);
        }
    }

    /// In words.
    pub(super) fn name(&self) -> String {
        let service = SERVICES.iter().find(|(service, ..)| *service == self.service).map_or("", |(_, name, ..)| name);
        format!("{} · {service}", self.model.trim())
    }
}

/// Draw it. `is_busy`: its models are being looked for.
pub(super) fn helper_ui(ui: &mut Ui, helper: &mut Helper, whom: For, is_busy: bool, out: &mut Out) {
    let t = of(ui);
    let before = (helper.service, helper.place.clone(), helper.key.clone());
    let (_, name, about, place) =
        SERVICES.iter().find(|(service, ..)| *service == helper.service).copied().unwrap_or(SERVICES[0]);
    ui.horizontal_wrapped(|ui| {
        ui.label(text::hint(t, "Helper"));
        let combo = ComboBox::from_id_salt("helper").selected_text(name).width(150.0).show_ui(ui, |ui| {
            for (service, name, ..) in SERVICES {
                ui.selectable_value(&mut helper.service, service, name);
            }
        });
        combo.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Helper"));
        if helper.service != Service::Local {
            field::line(ui, "Address", &mut helper.place, place, 210.0);
            let label = ui.label(text::hint(t, "Key"));
            let key = TextEdit::singleline(&mut helper.key).password(true).desired_width(110.0).margin(vec2(10.0, 7.0));
            let hint =
                "Sent to the helper and to nobody else. It is kept until this window closes, and written nowhere.";
            field::named(ui, key, label.id).on_hover_text(hint);
        }
    });
    ui.add(Label::new(text::hint(t, about)).wrap());
    if before != (helper.service, helper.place.clone(), helper.key.clone()) {
        (helper.models, helper.credit) = (None, None);
    }
    models_ui(ui, helper, whom, is_busy, out);
    if helper.is_elsewhere() {
        ui.horizontal_wrapped(|ui| {
            icon_label(ui, Icon::Warning, t.warn.fg, 14.0);
            ui.add(Label::new(text::body(t, format!("What is asked is sent there. {TERMS}."))).wrap());
        });
    }
}

fn models_ui(ui: &mut Ui, helper: &mut Helper, whom: For, is_busy: bool, out: &mut Out) {
    let t = of(ui);
    ui.horizontal_wrapped(|ui| {
        let hint = if helper.service == Service::Local { "a folder, or starter" } else { "such as qwen2:7b" };
        field::line(ui, "Model", &mut helper.model, hint, 210.0);
        if let Some(models) = &helper.models {
            let word = format!("{} models", models.len());
            let combo = ComboBox::from_id_salt("helper models").selected_text(word).width(130.0).height(320.0);
            let combo = combo.show_ui(ui, |ui| {
                for model in models {
                    let line = described(model);
                    ui.selectable_value(&mut helper.model, model.name.clone(), line.trim());
                }
            });
            combo.response.widget_info(|| WidgetInfo::labeled(Role::ComboBox, true, "Models that it has"));
        }
        if button::secondary("Look for models").icon(Icon::Search).enabled(!is_busy).ui(ui).clicked() {
            out.push(ask(Ask::Helpers(whom)));
        }
        if is_busy {
            ui.spinner();
        }
        if whom == For::Rows {
            field::explain(ui, "a helper model", &EXPLAINED.join(". "));
        }
    });
    let chosen = helper.models.iter().flatten().find(|known| known.name == helper.model.trim());
    if let Some(model) = chosen {
        ui.add(Label::new(text::hint(t, described(model).trim())).wrap());
    }
    if let Some(Credit { used, left }) = helper.credit {
        let left = left.map_or_else(|| "no limit".to_owned(), |left| format!("{left:.2} USD left"));
        ui.label(text::hint(t, format!("{used:.2} USD used, {left}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_in_no_word_and_only_what_is_here_stays_here_s2_10() {
        let mut helper = Helper { key: " secret ".to_owned(), model: "m".to_owned(), ..Helper::default() };
        assert!(!helper.words().concat().contains("secret") && !helper.is_elsewhere());
        assert_eq!(helper.secrets(), [(KEY, "secret".to_owned())]);
        assert_eq!(helper.teacher(), "ollama:m");
        helper.service = Service::OpenRouter;
        assert!(helper.is_elsewhere());
        for (place, is_elsewhere) in [
            ("http://127.0.0.1:8080/v1", false),
            ("localhost:1234", false),
            ("http://[::1]:1/v1", false),
            ("https://localhost.example.org", true),
            ("http://127.0.0.1.example.org/v1", true),
            ("https://models.example.org/v1", true),
        ] {
            place.clone_into(&mut helper.place);
            helper.service = Service::OpenAi;
            assert_eq!(helper.is_elsewhere(), is_elsewhere, "{place}");
        }
        helper.service = Service::Local;
        assert!(helper.secrets().is_empty() && helper.address().is_none() && helper.teacher() == "m");
    }

    #[test]
    fn the_only_model_of_a_helper_is_taken_and_a_strange_answer_is_none() {
        let mut helper = Helper::default();
        helper.hear(&serde_json::json!({"models": [{"name": "teacher:8b"}], "credit": {"used": 1.5, "left": null}}));
        assert_eq!((helper.model.as_str(), helper.credit.map(|credit| credit.used)), ("teacher:8b", Some(1.5)));
        helper.hear(&serde_json::json!({"models": "many"}));
        assert!(helper.models.is_none() && helper.name() == "teacher:8b · Ollama");
    }
}
