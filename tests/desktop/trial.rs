//! A window without a screen, in a data directory of its own, that starts runs with the real program.

use eframe::egui::{self, Key, Modifiers};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use peft_studio::cli::context::Context;
use peft_studio::gui::app::App;
use peft_studio::gui::command::Command;
use peft_studio::gui::state::State;
use peft_studio::gui::theme::style;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A window.
pub(crate) struct Window {
    /// What drives it.
    pub(crate) harness: Harness<'static, Option<App>>,
    home: TempDir,
}

#[derive(Debug)]
struct Dropped(PathBuf);

impl egui::DroppedFile for Dropped {
    fn path(&self) -> &Path {
        &self.0
    }
    fn bytes(&self) -> Result<Vec<u8>, String> {
        std::fs::read(&self.0).map_err(|error| error.to_string())
    }
}

/// Longest that anything takes.
const PATIENCE: Duration = Duration::from_mins(2);

impl Window {
    /// A new one in an empty data directory.
    pub(crate) fn new(size: [f32; 2]) -> Self {
        Self::with_home(size, |_| {})
    }

    /// A new one, after `prepare` saw the data directory.
    pub(crate) fn with_home(size: [f32; 2], prepare: impl FnOnce(&Path)) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        prepare(home.path());
        let harness = open(home.path(), size, super::paint::Painter::default());
        Self { harness, home }
    }

    /// A new one whose pictures are kept.
    pub(crate) fn painted(size: [f32; 2], painter: super::paint::Painter) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let harness = open(home.path(), size, painter);
        Self { harness, home }
    }

    /// What it knows.
    pub(crate) fn state(&self) -> &State {
        &self.harness.state().as_ref().expect("it was drawn").state
    }

    /// What it knows, to be changed.
    pub(crate) fn state_mut(&mut self) -> &mut State {
        &mut self.harness.state_mut().as_mut().expect("it was drawn").state
    }

    /// Ask for something, as a view would.
    pub(crate) fn send(&mut self, command: Command) {
        self.harness.state_mut().as_mut().expect("it was drawn").send(command);
        self.settle();
    }

    /// Draw until nothing moves.
    pub(crate) fn settle(&mut self) {
        self.harness.run_steps(4);
    }

    /// Press what has this name.
    pub(crate) fn press(&mut self, name: &str) {
        let found: Vec<_> = self.harness.query_all_by_label(name).collect();
        assert!(!found.is_empty(), "nothing is called `{name}`");
        let is_button = |node: &&egui_kittest::Node| node.accesskit_node().role() != egui::accesskit::Role::Label;
        found.iter().find(is_button).unwrap_or(&found[0]).click_accesskit();
        drop(found);
        self.settle();
    }

    /// Press keys.
    pub(crate) fn keys(&mut self, modifiers: Modifiers, key: Key) {
        self.harness.key_press_modifiers(modifiers, key);
        self.settle();
    }

    /// Rest on the first thing with this name until its tip is shown.
    pub(crate) fn hover(&mut self, name: &str) {
        let found =
            self.harness.query_all_by_label(name).next().unwrap_or_else(|| panic!("nothing is called `{name}`"));
        let pos = found.rect().center();
        self.harness.event(egui::Event::PointerMoved(pos));
        self.harness.run_steps(4);
        // A tip waits until the pointer rests.
        std::thread::sleep(Duration::from_millis(600));
        self.harness.run_steps(60);
    }

    /// Type `text` into the field `name`, and leave it.
    pub(crate) fn fill(&mut self, name: &str, text: &str) {
        self.harness.get_by_role_and_label(egui::accesskit::Role::TextInput, name).focus();
        self.settle();
        self.keys(Modifiers::COMMAND, Key::A);
        self.harness.event(egui::Event::Text(text.to_owned()));
        self.settle();
        self.keys(Modifiers::NONE, Key::Enter);
    }

    /// Something with this text is shown.
    pub(crate) fn has(&self, text: &str) {
        assert!(self.harness.query_all_by_label_contains(text).next().is_some(), "`{text}` is not shown");
    }

    /// Draw until something is so.
    pub(crate) fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !is_so(self) {
            self.harness.step();
            std::thread::sleep(Duration::from_millis(10));
            let toasts: Vec<_> = self.state().toasts.iter().filter_map(|toast| toast.problem.as_ref()).collect();
            let studio = &self.state().pages.studio;
            let told = (&studio.problem, studio.review.job());
            assert!(begun.elapsed() < PATIENCE, "never: {what}; {toasts:?}; {told:?}");
        }
    }

    /// Everything that can be used has a name.
    pub(crate) fn all_named(&self) {
        use egui::accesskit::Role;
        let used = [Role::Button, Role::CheckBox, Role::TextInput, Role::Slider, Role::ComboBox, Role::RadioButton];
        for node in self.harness.root().children_recursive() {
            let node = node.accesskit_node();
            let has_name = node.label().is_some_and(|name| !name.trim().is_empty());
            assert!(has_name || !used.contains(&node.role()), "{:?} without a name", node.role());
        }
    }

    /// No dialog of the desktop is opened, and nothing is started.
    pub(crate) fn calm(&mut self) {
        let state = self.state_mut();
        state.data.is_launching = true;
    }

    /// A path in the data directory.
    pub(crate) fn path(&self, name: &str) -> String {
        self.home.path().join(name).display().to_string()
    }

    /// A file in it.
    pub(crate) fn bytes(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::write(&path, content).expect("written");
        path
    }

    /// An empty folder in it.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::create_dir(&path).expect("created");
        path
    }

    /// A text file in it.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        self.bytes(name, content.as_bytes())
    }

    /// A file is dropped on it.
    pub(crate) fn drop_file(&mut self, path: &Path) {
        self.harness.input_mut().dropped_files.push(std::sync::Arc::new(Dropped(path.to_owned())));
        self.settle();
    }
}

/// A window on `home`.
pub(crate) fn open(home: &Path, size: [f32; 2], painter: super::paint::Painter) -> Harness<'static, Option<App>> {
    let context =
        Context { json: false, data_dir: home.to_owned(), backend: "cpu".to_owned(), threads: 2, offline: true };
    let mut harness = Harness::builder()
        .allow_missing_glyphs()
        .with_size(size)
        .with_max_steps(8)
        .renderer(painter)
        .with_context_setup(style::install_fonts)
        .build_ui_state(
            move |ui, app: &mut Option<App>| {
                let app = app.get_or_insert_with(|| {
                    App::with_program(&context, ui.ctx(), PathBuf::from(env!("CARGO_BIN_EXE_peft-studio")))
                });
                app.think(ui.ctx());
                app.paint(ui);
            },
            None,
        );
    harness.run_steps(3);
    harness
}
