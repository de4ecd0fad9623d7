//! Pictures of every page, to be looked at: `PEFT_PICTURES=DIR [PEFT_HOME=DIR] [PEFT_WIDTHS=960,1280,2560] cargo test
//! --test desktop -- --ignored pictures`.

use crate::paint::Painter;
use crate::staged;
use crate::trial::open;
use egui_kittest::Harness;
use peft_storage::Status;
use peft_studio::gui::app::App;
use peft_studio::gui::command::{Command, Shelf};
use peft_studio::gui::route::{RAIL, Route};
use peft_studio::gui::state::State;
use peft_studio::gui::target::Target;
use peft_studio::gui::theme::ThemeChoice;
use peft_studio::gui::wizard::Step;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) fn write(path: &Path, picture: &crate::paint::Picture) {
    let file = std::fs::File::create(path).expect("created");
    let mut encoder = png::Encoder::new(std::io::BufWriter::new(file), picture.width as u32, picture.height as u32);
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_depth(png::BitDepth::Eight);
    let bytes: Vec<u8> = picture.pixels.iter().flat_map(eframe::egui::Color32::to_array).collect();
    encoder.write_header().and_then(|mut writer| writer.write_image_data(&bytes)).expect("written");
}

/// A window whose pictures are kept under names.
struct Studio {
    harness: Harness<'static, Option<App>>,
    painter: Painter,
    folder: PathBuf,
    /// Width and theme.
    word: String,
}

impl Studio {
    fn state(&mut self) -> &mut State {
        &mut self.harness.state_mut().as_mut().expect("drawn").state
    }

    fn send(&mut self, command: Command) {
        self.harness.state_mut().as_mut().expect("drawn").send(command);
        self.harness.run_steps(3);
    }

    fn wait(&mut self, frames: usize) {
        for _ in 0..frames {
            self.harness.step();
            std::thread::sleep(Duration::from_millis(15));
        }
    }

    /// Wait for something; it may also not come.
    fn until(&mut self, is_so: impl Fn(&mut State) -> bool) {
        let begun = Instant::now();
        while !is_so(self.state()) && begun.elapsed() < Duration::from_secs(20) {
            self.wait(2);
        }
    }

    fn take(&mut self, name: &str) {
        self.wait(12);
        let picture = self.painter.paint(&self.harness.ctx, self.harness.output());
        write(&self.folder.join(format!("{name}-{}.png", self.word)), &picture);
    }

    fn rail(&mut self) {
        for (route, name, _) in &RAIL {
            self.send(Command::Go(route.clone()));
            self.take(&name.to_lowercase().replace(' ', "-"));
        }
        for (shelf, name) in [(Shelf::Discover, "discover"), (Shelf::Versions, "versions"), (Shelf::Disk, "disk")] {
            self.send(Command::Open(shelf));
            self.wait(40);
            self.take(name);
        }
    }

    fn talk(&mut self, run: &str) {
        self.send(Command::Go(Route::Run(run.to_owned())));
        self.take("run");
        self.send(Command::Talk(Target::Run(run.to_owned())));
        self.until(|state| state.pages.playground.ready.is_some() && state.pages.playground.loading.is_none());
        self.send(Command::Say("How can I go online with my phone at the Golden Lantern?".to_owned()));
        self.until(|state| !state.pages.playground.is_busy);
        self.take("talk");
    }

    fn wizard(&mut self) {
        self.send(Command::UseModel("starter".to_owned()));
        self.take("wizard-model");
        self.send(Command::SampleData);
        self.until(|state| state.pages.wizard.found.is_some());
        self.take("wizard-examples");
        for (step, name) in [(Step::Settings, "wizard-settings"), (Step::Review, "wizard-review")] {
            self.state().pages.wizard.step = step;
            self.until(|state| state.pages.wizard.to_start().is_some());
            self.take(name);
        }
    }

    /// A run that trains, with gauges and a strip on every page, and one that broke.
    fn staged(&mut self, home: &Path) {
        let (live, _, _lock) = staged::live(home, "at work", &staged::events(4000));
        let broken = staged::broken(home);
        let id = live.clone();
        self.until(move |state| state.data.run(&id).is_some());
        for (run, name) in [(live, "live"), (broken, "broken")] {
            self.send(Command::Go(Route::Run(run.clone())));
            self.until(|state| state.data.stories.get(&run).is_some_and(peft_studio::gui::story::Story::has_steps));
            self.take(name);
        }
        self.send(Command::Go(Route::Home));
        self.take("home-live");
    }
}

#[test]
#[ignore = "for looking at"]
fn pictures() {
    let Some(folder) = std::env::var_os("PEFT_PICTURES").map(PathBuf::from) else { return };
    std::fs::create_dir_all(&folder).expect("created");
    let own = tempfile::tempdir().expect("a directory");
    let home = std::env::var_os("PEFT_HOME").map_or(own.path().to_owned(), PathBuf::from);
    let themes =
        [(ThemeChoice::Dark, "dark"), (ThemeChoice::Light, "light"), (ThemeChoice::HighContrast, "high-contrast")];
    let widths = std::env::var("PEFT_WIDTHS").unwrap_or_default();
    let is_wanted = |size: &[f32; 2]| widths.is_empty() || widths.split(',').any(|width| width == size[0].to_string());
    for size in [[960.0, 600.0], [1280.0, 800.0], [2560.0, 1440.0]].into_iter().filter(is_wanted) {
        for (theme, word) in themes {
            let painter = Painter::default();
            let harness = open(&home, size, painter.clone());
            let word = format!("{}-{word}", size[0]);
            let mut studio = Studio { harness, painter, folder: folder.clone(), word };
            studio.send(Command::Theme(theme));
            studio.until(|state| state.data.runs.is_some());
            studio.rail();
            let runs = studio.state().data.runs.clone().unwrap_or_default();
            let done: Vec<String> =
                runs.iter().filter(|run| run.status == Status::Finished).map(|run| run.id.to_string()).collect();
            if let Some(run) = done.first() {
                studio.talk(run);
                for run in done.iter().take(3) {
                    studio.send(Command::Compare(run.clone(), true));
                }
                studio.send(Command::Go(Route::Compare));
                studio.take("compared");
            }
            studio.send(Command::Palette(true));
            studio.take("palette");
            studio.send(Command::Palette(false));
            studio.wizard();
            // In a copy: what is staged is not to be in the other pictures.
            let staged = tempfile::tempdir().expect("a directory");
            studio.harness = open(staged.path(), size, studio.painter.clone());
            studio.send(Command::Theme(theme));
            studio.staged(staged.path());
        }
    }
}
