//! The window: takes in what happened, then paints. A page that breaks costs that page only.

use super::command::{Command, Out};
use super::logic::Logic;
use super::measure::Measure;
use super::route::Route;
use super::settings::Settings;
use super::shell;
use super::state::State;
use super::theme::{of, space, style};
use super::worker::Workers;
use super::{palette, views};
use crate::cli::context::Context;
use eframe::egui::{self, CentralPanel, Frame, Margin, ScrollArea, Ui};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Instant;

/// The window.
pub struct App {
    /// What it knows.
    pub state: State,
    logic: Logic,
    /// Commands of the last frame.
    out: Out,
    /// What it costs, where somebody asks.
    measure: Option<Measure>,
}

impl App {
    /// Start its threads; runs are started with this program.
    pub fn new(context: &Context, window: &egui::Context) -> Self {
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("peft-studio"));
        Self::with_program(context, window, program)
    }

    /// As [`App::new`], with another program for runs: tests are not the program.
    pub fn with_program(context: &Context, window: &egui::Context, program: PathBuf) -> Self {
        style::install_fonts(window);
        let state = State { settings: Settings::load(&context.data_dir), ..State::default() };
        let logic = Logic { workers: Workers::new(context, window), program };
        logic.look(window, &state);
        Self { state, logic, out: Vec::new(), measure: Measure::wanted() }
    }

    /// Everything that is not painting.
    pub fn think(&mut self, ctx: &egui::Context) {
        for command in std::mem::take(&mut self.out) {
            self.logic.act(ctx, &mut self.state, command);
        }
        self.logic.hear(ctx, &mut self.state);
        self.logic.want(&mut self.state);
        shell::toasts::forget(&mut self.state, ctx);
        if ctx.input(|input| input.viewport().close_requested())
            && !self.state.may_close
            && (self.state.data.live().is_some() || !self.state.pending().is_empty())
        {
            ctx.send_viewport_cmd(egui::ViewportCommand::CancelClose);
            self.state.asks_to_close = true;
        }
    }

    /// Painting.
    pub fn paint(&mut self, ui: &mut Ui) {
        let Self { state, out, .. } = self;
        shell::shortcuts::read(ui, state, out);
        shell::drops::read(ui, &state.route, out);
        shell::rail::rail_ui(ui, state, out);
        shell::top_bar::top_bar_ui(ui, state, out);
        shell::run_strip::run_strip_ui(ui, state, out);
        let t = of(ui);
        let frame = Frame::new().fill(t.bg).inner_margin(Margin::symmetric(24, 20));
        CentralPanel::default().frame(frame).show(ui, |ui| page_ui(ui, state, out));
        shell::drops::overlay(ui);
        shell::closing::closing_ui(ui, state, out);
        shell::confirm::confirm_ui(ui, state, out);
        palette::palette_ui(ui, state, out);
        shell::toasts::toasts_ui(ui, state, out);
    }
}

/// Widest a page of text and cards gets.
const WIDEST: f32 = 1440.0;

fn page_ui(ui: &mut Ui, state: &mut State, out: &mut Out) {
    if state.broken.as_ref() == Some(&state.route) {
        shell::broken::broken_ui(ui, state, out);
        return;
    }
    let drawn = catch_unwind(AssertUnwindSafe(|| {
        if state.route == Route::Playground {
            views::playground::playground_ui(ui, &state.data, &mut state.pages.playground, out);
            return;
        }
        if state.route == Route::New {
            let frame = Frame::new().inner_margin(Margin { left: 0, right: 0, top: 10, bottom: 0 });
            egui::Panel::bottom("steps").frame(frame).resizable(false).show(ui, |ui| {
                super::wizard::view::on_ui(ui, &state.data, &mut state.pages.wizard, out);
            });
        }
        ScrollArea::vertical().id_salt(state.route.name()).auto_shrink(false).show(ui, |ui| {
            let side = ((ui.available_width() - WIDEST) / 2.0).max(0.0);
            ui.horizontal_top(|ui| {
                ui.add_space(side);
                ui.vertical(|ui| {
                    let frame = Frame::new().inner_margin(Margin { left: 0, right: 10, top: 0, bottom: 24 });
                    frame.show(ui, |ui| {
                        ui.set_width(ui.available_width().min(WIDEST));
                        ui.spacing_mut().item_spacing.y = space::S;
                        route_ui(ui, state, out);
                    });
                });
            });
        });
    }));
    if drawn.is_err() {
        state.broken = Some(state.route.clone());
        ui.ctx().request_repaint();
    }
}

fn route_ui(ui: &mut Ui, state: &mut State, out: &mut Out) {
    let State { data, pages, settings, route, log, .. } = state;
    match route {
        Route::Home => views::home::home_ui(ui, data, out),
        Route::New => super::wizard::view::wizard_ui(ui, data, &mut pages.wizard, &pages.models.discover, out),
        Route::Runs => views::runs::runs_ui(ui, data, &mut pages.runs, &pages.compare, out),
        Route::Run(id) => views::run::run_ui(ui, data, id, &mut pages.run, out),
        Route::Compare => views::compare::compare_ui(ui, data, &mut pages.compare, out),
        Route::Models => views::models::models_ui(ui, data, &mut pages.models, out),
        Route::Studio => super::studio::view::studio_ui(ui, &mut pages.studio, out),
        Route::Export => super::export::view::export_ui(ui, data, &mut pages.exports, out),
        Route::Serve => super::serve::serve_ui(ui, data, &mut pages.server, out),
        Route::Tools => super::tools::view::tools_ui(ui, data, log, &mut pages.tools, out),
        Route::Presets => views::presets::presets_ui(ui, data, &mut pages.presets, out),
        Route::Settings => views::settings::settings_ui(ui, data, settings, out),
        Route::Help => views::help::help_ui(ui, &mut pages.help, out),
        Route::Playground => {}
    }
}

impl eframe::App for App {
    fn logic(&mut self, ctx: &egui::Context, _: &mut eframe::Frame) {
        if let Some(measure) = &mut self.measure {
            measure.frame(ctx);
        }
        let begun = Instant::now();
        self.think(ctx);
        if let Some(measure) = &mut self.measure {
            measure.thought(begun.elapsed());
        }
    }

    fn ui(&mut self, ui: &mut Ui, _: &mut eframe::Frame) {
        let begun = Instant::now();
        self.paint(ui);
        if let Some(measure) = &mut self.measure {
            measure.painted(begun.elapsed());
        }
        if !self.out.is_empty() {
            // What was asked for happens at the beginning of the next frame.
            ui.ctx().request_repaint();
        }
    }
}

impl App {
    /// Ask for something, as a view would.
    pub fn send(&mut self, command: Command) {
        self.out.push(command);
    }
}
