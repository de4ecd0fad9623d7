//! What was asked and answered.

use crate::gui::command::{Command, Out};
use crate::gui::playground::{Exchange, Playground, Shown};
use crate::gui::theme::icons::Icon;
use crate::gui::theme::{of, space, text, tokens};
use crate::gui::widgets::card::card;
use crate::gui::widgets::{button, empty, markdown};
use eframe::egui::{Align, CornerRadius, Frame, Layout, Margin, ScrollArea, Ui};
use peft_storage::Choice;

/// Draw it.
pub(super) fn talk_ui(ui: &mut Ui, page: &mut Playground, out: &mut Out) {
    if page.exchanges.is_empty() {
        examples_ui(ui, page, out);
        return;
    }
    let is_busy = page.is_busy;
    ScrollArea::vertical().id_salt("talk").auto_shrink(false).stick_to_bottom(true).show(ui, |ui| {
        ui.set_width((ui.available_width() - 8.0).clamp(60.0, 1200.0));
        let last = page.exchanges.len() - 1;
        for (index, exchange) in page.exchanges.iter_mut().enumerate() {
            ui.push_id(index, |ui| exchange_ui(ui, exchange, is_busy && index == last, out));
        }
        if !is_busy
            && let Some(question) = page.exchanges.last().map(|exchange| exchange.question.clone())
            && button::quiet("Ask again").icon(Icon::Refresh).small().ui(ui).clicked()
        {
            out.push(Command::Say(question));
        }
    });
}

/// S4.7.2: questions that fit what was learned.
fn examples_ui(ui: &mut Ui, page: &Playground, out: &mut Out) {
    let Some(ready) = &page.ready else { return };
    let t = of(ui);
    let title = format!("`{}` is listening", ready.name);
    let sentence = if page.beside.is_some() {
        "Each question goes to both models, which answer together."
    } else if ready.is_tuned && ready.has_base && page.compare {
        "Each question goes to the model before and after training."
    } else {
        "Ask anything. Small models know little: the starter speaks of its own small world only."
    };
    empty::empty(ui, Icon::Chat, &title, sentence, |ui| {
        if ready.examples.is_empty() {
            return;
        }
        ui.label(text::hint(t, "From what it learned"));
        for example in &ready.examples {
            if button::secondary(example).ui(ui).clicked() {
                out.push(Command::Say(example.clone()));
            }
        }
    });
}

fn exchange_ui(ui: &mut Ui, exchange: &mut Exchange, is_busy: bool, out: &mut Out) {
    let t = of(ui);
    ui.with_layout(Layout::right_to_left(Align::Min), |ui| {
        let frame = Frame::new()
            .fill(tokens::faded(t.accent, if t.is_dark { 0.22 } else { 0.14 }))
            .corner_radius(CornerRadius::same(12))
            .inner_margin(Margin::symmetric(14, 9));
        frame.show(ui, |ui| {
            ui.set_max_width(ui.available_width() * 0.7);
            ui.add(eframe::egui::Label::new(text::value(t, &exchange.question)).wrap());
        });
    });
    ui.add_space(space::XS);
    let (base, tuned) = (exchange.base.as_ref(), exchange.tuned.as_ref());
    // Of two models the one that is talked to comes first; of a model and its base, what was before.
    let sides = match &exchange.names {
        Some([first, second]) => [(first.as_str(), tuned), (second.as_str(), base)],
        None => [("Before training", base), ("After training", tuned)],
    };
    match sides {
        [(left, Some(one)), (right, Some(two))] if ui.available_width() > 520.0 => ui.columns(2, |uis| {
            answer_ui(&mut uis[0], left, one, is_busy, out);
            answer_ui(&mut uis[1], right, two, is_busy, out);
        }),
        sides => {
            let is_one = exchange.names.is_none() && (base.is_none() || tuned.is_none());
            for (name, shown) in sides {
                if let Some(shown) = shown {
                    answer_ui(ui, if is_one { "Answer" } else { name }, shown, is_busy, out);
                }
            }
            if base.is_none() && tuned.is_none() && is_busy {
                empty::loading(ui, "Reading the question");
            }
        }
    }
    ui.horizontal_wrapped(|ui| {
        if exchange.base.is_some() && exchange.tuned.is_some() && !is_busy {
            votes_ui(ui, exchange, out);
        }
        ui.label(text::hint(t, &exchange.note));
    });
    ui.add_space(space::M);
}

fn answer_ui(ui: &mut Ui, name: &str, shown: &Shown, is_busy: bool, out: &mut Out) {
    let t = of(ui);
    card(ui, |ui| {
        ui.horizontal(|ui| {
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let copy = format!("Copy the answer {}", name.to_lowercase());
                if !is_busy && button::icon(Icon::Copy, &copy).small().ui(ui).clicked() {
                    out.push(Command::Copy(shown.text.clone()));
                }
                ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                    ui.add(eframe::egui::Label::new(text::hint(t, name)).truncate());
                });
            });
        });
        if shown.text.is_empty() && !is_busy {
            ui.label(text::hint(t, "It said nothing"));
        }
        markdown::markdown(ui, &shown.text, out);
        if !shown.note.is_empty() {
            ui.label(text::hint(t, &shown.note));
        }
    });
}

fn votes_ui(ui: &mut Ui, exchange: &mut Exchange, out: &mut Out) {
    let t = of(ui);
    let Some(kept) = exchange.kept else { return };
    ui.label(text::hint(t, "Better:"));
    let sides = match exchange.names {
        Some(_) => [(Choice::Tuned, "Left"), (Choice::Base, "Right")],
        None => [(Choice::Base, "Before"), (Choice::Tuned, "After")],
    };
    let choices = sides.into_iter().chain([(Choice::Both, "Both good"), (Choice::Neither, "Neither")]);
    for (choice, word) in choices {
        let is_chosen = exchange.vote == Some(choice);
        if ui.selectable_label(is_chosen, text::hint(t, word)).clicked() {
            exchange.vote = (!is_chosen).then_some(choice);
            out.push(Command::Vote(kept, exchange.vote));
        }
    }
}
