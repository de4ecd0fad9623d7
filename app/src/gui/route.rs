//! Where one can be.

use super::theme::icons::Icon;

/// A page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Route {
    /// Where one begins.
    #[default]
    Home,
    /// The wizard.
    New,
    /// All runs.
    Runs,
    /// One run, by id.
    Run(String),
    /// Runs side by side.
    Compare,
    /// Talk to models.
    Playground,
    /// What is on this computer, and versions of one's own.
    Models,
    /// Settings kept under a name.
    Presets,
    /// From documents to rows to train on.
    Studio,
    /// Take models to other programs.
    Export,
    /// The local server.
    Serve,
    /// Measuring, waiting runs, chains, checks, the log.
    Tools,
    /// How the window looks and where things are.
    Settings,
    /// Words, codes, shortcuts and where commands live.
    Help,
}

/// What the rail shows: the page, its name, its icon.
pub const RAIL: [(Route, &str, Icon); 13] = [
    (Route::Home, "Home", Icon::Home),
    (Route::New, "New run", Icon::Plus),
    (Route::Runs, "Runs", Icon::List),
    (Route::Compare, "Compare", Icon::Compare),
    (Route::Playground, "Playground", Icon::Chat),
    (Route::Models, "Models", Icon::Box),
    (Route::Presets, "Presets", Icon::Sliders),
    (Route::Export, "Export", Icon::Upload),
    (Route::Serve, "Serve", Icon::Globe),
    (Route::Studio, "Data studio", Icon::Database),
    (Route::Tools, "Tools", Icon::Pulse),
    (Route::Settings, "Settings", Icon::Gear),
    (Route::Help, "Help", Icon::Help),
];

impl Route {
    /// The page of the rail that this one belongs to.
    pub fn section(&self) -> Self {
        match self {
            Self::Run(_) => Self::Runs,
            other => other.clone(),
        }
    }

    /// What stands above the page.
    pub fn name(&self) -> &'static str {
        let section = self.section();
        RAIL.iter().find(|(route, ..)| *route == section).map_or("", |(_, name, _)| name)
    }
}
