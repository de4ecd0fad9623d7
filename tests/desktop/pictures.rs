//! Pictures of every page, to be looked at: `PEFT_PICTURES=DIR [PEFT_HOME=DIR] cargo test --test desktop -- --ignored pictures`.

use crate::paint::Painter;
use crate::trial::open;
use peft_studio::gui::command::Command;
use peft_studio::gui::route::{RAIL, Route};
use peft_studio::gui::target::Target;
use peft_studio::gui::theme::ThemeChoice;
use peft_studio::gui::wizard::Step;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) fn write(path: &Path, picture: &crate::paint::Picture) {
    let file = std::fs::File::create(path).expect("created");
    let mut encoder = png::Encoder::new(std::io::BufWriter::new(file), picture.width as u32, picture.height as u32);
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_depth(png::BitDepth::Eight);
    let bytes: Vec<u8> = picture.pixels.iter().flat_map(eframe::egui::Color32::to_array).collect();
    encoder.write_header().and_then(|mut writer| writer.write_image_data(&bytes)).expect("written");
}

#[test]
#[ignore = "for looking at"]
fn pictures() {
    let Some(folder) = std::env::var_os("PEFT_PICTURES").map(PathBuf::from) else { return };
    std::fs::create_dir_all(&folder).expect("created");
    let own = tempfile::tempdir().expect("a directory");
    let home = std::env::var_os("PEFT_HOME").map_or(own.path().to_owned(), PathBuf::from);
    for size in [[960.0, 600.0], [1280.0, 800.0], [1920.0, 1080.0]] {
        for (theme, word) in [(ThemeChoice::Dark, "dark"), (ThemeChoice::Light, "light")] {
            let painter = Painter::default();
            let mut harness = open(&home, size, painter.clone());
            let wait = |harness: &mut egui_kittest::Harness<'static, Option<peft_studio::gui::app::App>>, n: usize| {
                for _ in 0..n {
                    harness.step();
                    std::thread::sleep(Duration::from_millis(15));
                }
            };
            let take = |harness: &mut egui_kittest::Harness<'static, Option<peft_studio::gui::app::App>>,
                        name: &str| {
                wait(harness, 12);
                let picture = painter.paint(&harness.ctx, harness.output());
                write(&folder.join(format!("{name}-{}-{word}.png", size[0])), &picture);
            };
            let send = |harness: &mut egui_kittest::Harness<'static, Option<peft_studio::gui::app::App>>, command| {
                harness.state_mut().as_mut().expect("drawn").send(command);
                harness.run_steps(3);
            };
            send(&mut harness, Command::Theme(theme));
            for (route, name, _) in &RAIL {
                send(&mut harness, Command::Go(route.clone()));
                take(&mut harness, &name.to_lowercase().replace(' ', "-"));
            }
            let runs = harness.state().as_ref().expect("drawn").state.data.runs.clone().unwrap_or_default();
            if let Some(run) = runs.first() {
                send(&mut harness, Command::Go(Route::Run(run.id.to_string())));
                take(&mut harness, "run");
                send(&mut harness, Command::Talk(Target::Run(run.id.to_string())));
                wait(&mut harness, 60);
                let question = "What does the cafe serve in the morning?".to_owned();
                send(&mut harness, Command::Say(question));
                wait(&mut harness, 60);
                take(&mut harness, "talk");
                for run in runs.iter().take(3) {
                    send(&mut harness, Command::Compare(run.id.to_string(), true));
                }
                send(&mut harness, Command::Go(Route::Compare));
                take(&mut harness, "compared");
            }
            send(&mut harness, Command::Palette(true));
            take(&mut harness, "palette");
            send(&mut harness, Command::Palette(false));
            send(&mut harness, Command::UseModel("starter".to_owned()));
            take(&mut harness, "wizard-model");
            send(&mut harness, Command::SampleData);
            wait(&mut harness, 60);
            take(&mut harness, "wizard-examples");
            for (step, name) in [(Step::Settings, "wizard-settings"), (Step::Review, "wizard-review")] {
                harness.state_mut().as_mut().expect("drawn").state.pages.wizard.step = step;
                wait(&mut harness, 60);
                take(&mut harness, name);
            }
        }
    }
}
