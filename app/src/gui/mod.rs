//! The desktop app: a window on what the library already knows. It decides nothing itself.
//!
//! Views take plain data and send [`command::Command`]s; `logic` acts on them once a frame; threads do what takes
//! time. Runs are processes of their own.

pub mod app;
mod browsing;
pub mod command;
pub mod errand;
pub mod export;
pub mod feed;
pub mod glossary;
mod launch;
pub mod log;
pub mod logic;
mod measure;
mod outside;
pub mod palette;
mod picture;
pub mod playground;
pub mod problem;
pub mod remedies;
pub mod route;
pub mod serve;
pub mod settings;
pub mod shell;
pub mod state;
pub mod story;
pub mod studio;
mod talking;
pub mod target;
pub mod theme;
pub mod tools;
pub mod views;
pub mod widgets;
pub mod wizard;
pub mod worker;

use crate::cli::context::Context;
use eframe::egui;
use peft_plan::{Fault, Result};

/// Smallest and first size of the window.
const SMALLEST: [f32; 2] = [320.0, 240.0];
const FIRST: [f32; 2] = [1280.0, 800.0];

/// Whether there is anything to open a window on.
pub fn has_display() -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    cfg!(any(windows, target_os = "macos")) || is_set("DISPLAY") || is_set("WAYLAND_DISPLAY")
}

/// Open the window and stay until it is closed.
///
/// # Errors
/// PS-UI-001 where the system cannot show one, with what is missing.
pub fn open(context: &Context) -> Result<()> {
    let options = eframe::NativeOptions {
        viewport: egui::ViewportBuilder::default()
            .with_title("PEFT Studio")
            .with_app_id("peft-studio")
            .with_inner_size(FIRST)
            .with_min_inner_size(SMALLEST)
            .with_drag_and_drop(true)
            .with_icon(shell::window_icon::icon()),
        renderer: eframe::Renderer::Glow,
        ..eframe::NativeOptions::default()
    };
    let context = context.clone();
    // A library that is missing makes some platforms panic instead of returning.
    let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eframe::run_native(
            "peft-studio",
            options,
            Box::new(move |cc| Ok(Box::new(app::App::new(&context, &cc.egui_ctx)))),
        )
    }));
    match opened {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(no_window(&error.to_string())),
        Err(_) => Err(no_window("a library that windows need could not be loaded")),
    }
}

/// What is said where no window can be opened.
pub fn no_window(why: &str) -> Fault {
    // Where in a library of ours it was noticed is no help.
    let why = if why.contains(".rs:") { why.rsplit(": ").next().unwrap_or(why) } else { why };
    let detail = format!("No window can be opened here: {why}. The packages below are those of Debian and Ubuntu");
    Fault::new("PS-UI-001", detail).action("Use the command line", Some("peft-studio --help".to_owned())).action(
        "Install what windows need",
        Some("apt-get install libx11-6 libx11-xcb1 libxcursor1 libxi6 libxkbcommon-x11-0 libgl1 libegl1".to_owned()),
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_missing_library_is_told_with_the_command_line_and_the_packages() {
        let said = "os error at /home/somebody/winit/mod.rs:788: Failed to load one of xlib's shared libraries";
        let fault = super::no_window(said);
        assert!(fault.detail.contains("xlib") && !fault.detail.contains("somebody"), "{}", fault.detail);
        assert_eq!(fault.code, "PS-UI-001");
        let commands: Vec<String> = fault.shown_actions().into_iter().filter_map(|action| action.command).collect();
        assert!(commands.iter().any(|c| c == "peft-studio --help") && commands.iter().any(|c| c.contains("libgl1")));
    }
}
