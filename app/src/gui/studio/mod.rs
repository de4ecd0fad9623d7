//! The data studio: documents to chunks, rows and how good they are, versions, and from there to a run.
//!
//! The store is read by the thread that keeps it; what takes time is a command of this program beside the window.

mod card;
mod chunks;
mod documents;
mod generate;
mod helper;
mod label;
mod meaning;
mod persona;
mod quality;
mod review;
mod teaching;
mod versions;
pub mod view;

use super::command::{Command, Purpose};
use super::errand::{Ending, Said};
use super::logic::Logic;
use super::outside::Whose;
use super::problem::Problem;
use super::state::State;
use super::worker::Reply;
use crate::jobs::teaching::review::Decision;
pub use helper::{For, Helper};
use peft_plan::Result;
use peft_storage::{DataDir, Store, StoredChunk, StoredDocument};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Chunks of a document that are shown at first, and more each time.
const PAGE: usize = 40;
/// Results of a search.
const RESULTS: usize = 20;

/// The parts of the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tab {
    /// What was put in.
    #[default]
    Documents,
    /// What became of it.
    Chunks,
    /// What is asked of it.
    Search,
    /// Rows that a helper writes.
    Generate,
    /// Rows that a teacher answers.
    Label,
    /// Conversations of one person.
    Persona,
    /// How good rows are.
    Quality,
    /// Versions of rows.
    Versions,
}

/// What the page can ask for.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Look at another project.
    Open(String),
    /// Make a project of this name.
    Create(String),
    /// Chunk these files into the project.
    Add(Vec<PathBuf>),
    /// Show the chunks of a document, at most so many.
    Chunks(i64, usize),
    /// Forget a document and its chunks.
    Remove(i64),
    /// Find chunks with these words.
    Search(String),
    /// Score the project's rows.
    Score,
    /// Compare the project's rows with those of an evaluation.
    Contamination(String),
    /// Make a file the project's rows.
    Import(PathBuf),
    /// Keep the rows as a version.
    Save(String),
    /// Make a version the rows again.
    Restore(u64),
    /// What changed since a version.
    Diff(u64),
    /// Files were dropped: what they are depends on the part that is shown.
    Dropped(Vec<PathBuf>),
    /// List what a helper offers.
    Helpers(For),
    /// Have rows written; with `true` what was made before is forgotten.
    Generate(bool),
    /// End a job.
    Stop(Job),
    /// Keep what a person says of rows of a job.
    Decide(i64, Vec<i64>, Decision),
    /// Show what the helper of a job wrote, word for word.
    Raw(i64),
    /// Let a teacher answer rows.
    Label,
    /// Write the example tasks, to be labelled.
    Reference,
    /// Make conversations of one person.
    Persona,
    /// Make them whenever another program asks.
    ServePersona,
    /// Make vectors.
    Embed,
    /// Find what is meant.
    Meaning(String),
    /// Write the card of the rows.
    Card,
}

/// What a file is chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picks {
    /// Questions that a model answered badly.
    Judged,
    /// Rows without answers.
    Questions,
    /// Chats and journals.
    Memories,
    /// A folder of them.
    MemoryFolder,
    /// A text about a person.
    Personality,
}

/// What was read from the store.
#[derive(Debug)]
pub enum Found {
    /// Names of all projects.
    Projects(Vec<String>),
    /// A project was made.
    Created(String),
    /// A project: its documents, and whether it has rows.
    Project(String, Vec<StoredDocument>, bool),
    /// Chunks of a document.
    Chunks(i64, Vec<StoredChunk>),
    /// Chunks with the words that were looked for.
    Results(Vec<StoredChunk>),
    /// Rows that were written for a project.
    Rows(String, review::Queue),
    /// What a helper wrote: unit, outcome, text.
    Raw(Vec<(String, String, String)>),
    /// Vectors of a project: their model, chunks with one, all chunks.
    Vectors(String, Vec<(String, usize, usize)>),
}

/// What a process beside the window does for the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Documents are chunked.
    Chunk,
    /// Rows are scored.
    Score,
    /// Rows are compared with those of an evaluation.
    Contamination,
    /// Versions are listed, kept or restored.
    Versions,
    /// Two versions are compared.
    Diff,
    /// A helper's models are listed.
    Helpers,
    /// The models of whoever makes vectors are listed.
    Embedders,
    /// Rows are written.
    Generate,
    /// Rows are answered.
    Label,
    /// The example tasks are written.
    Reference,
    /// Conversations of one person are made.
    Persona,
    /// They are made whenever another program asks.
    PersonaServer,
    /// Vectors are made.
    Embed,
    /// Something is looked for by meaning.
    Meaning,
    /// The card of the rows is written.
    Card,
}

/// What the page remembers.
#[derive(Debug, Default)]
pub struct Studio {
    /// The part that is shown.
    pub tab: Tab,
    /// Names of all projects; none before the first look.
    pub projects: Option<Vec<String>>,
    /// The one that is looked at.
    pub project: Option<String>,
    /// Its documents.
    pub documents: Option<Vec<StoredDocument>>,
    /// It has rows to train on.
    pub has_rows: bool,
    /// The document whose chunks are shown, and the chunks.
    pub chunks: Option<(i64, Vec<StoredChunk>)>,
    /// What was found.
    pub results: Option<Vec<StoredChunk>>,
    /// What came of chunking.
    pub report: Option<Value>,
    /// What came of scoring.
    pub scores: Option<Value>,
    /// What came of the comparison with an evaluation.
    pub leaks: Option<Value>,
    /// All versions.
    pub versions: Option<Value>,
    /// What changed since a version.
    pub diff: Option<(u64, Value)>,
    /// Who writes rows and labels.
    pub writer: Helper,
    /// What rows are wanted.
    pub making: generate::Making,
    /// The rows that were written.
    pub review: review::Review,
    /// What a teacher answers.
    pub labelling: label::Labelling,
    /// Whose conversations are made.
    pub twin: persona::Twin,
    /// What is asked of the documents.
    pub meaning: meaning::Meaning,
    /// The card of the rows.
    pub card: card::DataCard,
    /// What went wrong.
    pub problem: Option<Problem>,
    is_asked: bool,
    jobs: Vec<(u64, Job)>,
    asked_diff: u64,
    typed: Typed,
}

/// What the length of a chunk is counted in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Counts {
    #[default]
    Characters,
    Tokens,
}

/// What is typed on the page.
#[derive(Debug)]
struct Typed {
    name: String,
    size: String,
    overlap: String,
    /// The model whose tokens are counted; characters are, where nothing is typed.
    counts: Counts,
    model: String,
    words: String,
    evaluation: String,
    note: String,
}

impl Default for Typed {
    fn default() -> Self {
        let empty = String::new;
        Self {
            name: empty(),
            size: "1500".to_owned(),
            overlap: "150".to_owned(),
            counts: Counts::default(),
            model: "starter".to_owned(),
            words: empty(),
            evaluation: empty(),
            note: empty(),
        }
    }
}

impl Job {
    /// It needs no helper model; the others say themselves what went wrong.
    fn is_plain(self) -> bool {
        matches!(self, Self::Chunk | Self::Score | Self::Contamination | Self::Versions | Self::Diff)
    }
}

impl Studio {
    /// Whether a job of this kind is under way.
    pub fn is_busy(&self, job: Job) -> bool {
        if job == Job::Meaning {
            // The process stays for the next question.
            return self.meaning.is_asking;
        }
        self.jobs.iter().any(|(_, known)| *known == job)
    }

    /// There are documents to write about.
    fn has_chunks(&self) -> bool {
        self.documents.iter().flatten().any(|document| document.chunks > 0)
    }

    /// Rows are written of a person's words alone.
    fn is_alone(&self) -> bool {
        self.making.is_alone || !self.has_chunks()
    }

    /// How long chunks are and how much they repeat, as it is typed.
    pub fn set_chunking(&mut self, size: &str, overlap: &str) {
        size.clone_into(&mut self.typed.size);
        overlap.clone_into(&mut self.typed.overlap);
    }

    /// Lengths of chunks are counted in tokens of this model.
    pub fn count_tokens_of(&mut self, model: &str) {
        self.typed.counts = Counts::Tokens;
        model.clone_into(&mut self.typed.model);
    }

    fn forget_project(&mut self) {
        let Self { tab, projects, typed, jobs, writer, meaning, .. } = std::mem::take(self);
        let meaning = meaning::Meaning { helper: meaning.helper, ..meaning::Meaning::default() };
        *self = Self { tab, projects, typed, jobs, writer, meaning, is_asked: true, ..Self::default() };
    }
}

/// A path as it was typed; one that looks like an option is a file of this folder.
fn typed_path(typed: &str) -> String {
    let typed = typed.trim();
    if typed.starts_with('-') { format!("./{typed}") } else { typed.to_owned() }
}

/// The file with the rows of a project.
fn rows_of(data_dir: &Path, project: &str) -> PathBuf {
    DataDir::new(data_dir).project_data(project)
}

impl Logic {
    /// What the page shows and nobody has read yet.
    pub(super) fn want_studio(&self, state: &mut State) {
        self.want_teaching(state);
        let page = &mut state.pages.studio;
        if !std::mem::replace(&mut page.is_asked, true) {
            self.read_projects();
        }
        if page.project.is_some()
            && page.tab == Tab::Versions
            && page.versions.is_none()
            && !page.is_busy(Job::Versions)
        {
            // An empty list, until the real one is there.
            page.versions = Some(Value::Null);
            self.list_versions(state);
        }
    }

    /// Something was read from the store.
    pub(super) fn hear_studio(&self, state: &mut State, found: Found) {
        let page = &mut state.pages.studio;
        match found {
            Found::Projects(names) => {
                let first = names.first().cloned();
                page.projects = Some(names);
                if page.project.is_none()
                    && let Some(first) = first
                {
                    self.open_project(state, first);
                }
            }
            Found::Project(name, documents, has_rows) if page.project.as_deref() == Some(&name) => {
                page.has_rows = has_rows;
                let shown = page.chunks.as_ref().map(|(document, _)| *document);
                let is_gone = shown.is_some_and(|shown| documents.iter().all(|document| document.id != shown));
                let first = documents.first().map(|document| document.id);
                page.documents = Some(documents);
                if is_gone {
                    page.chunks = None;
                }
                if let Some(document) = shown.filter(|_| !is_gone).or(first) {
                    self.read_chunks(document, PAGE);
                }
            }
            Found::Created(name) => self.open_project(state, name),
            Found::Chunks(document, chunks) => page.chunks = Some((document, chunks)),
            Found::Results(results) => page.results = Some(results),
            Found::Rows(project, queue) if page.project.as_deref() == Some(&project) => Self::hear_rows(state, queue),
            Found::Vectors(project, vectors) if page.project.as_deref() == Some(&project) => {
                page.meaning.vectors = Some(vectors);
            }
            Found::Raw(answers) => page.review.raw = Some(answers),
            Found::Project(..) | Found::Rows(..) | Found::Vectors(..) => {}
        }
    }

    /// A process beside the window said something.
    pub(super) fn hear_studio_job(&self, state: &mut State, id: u64, job: Job, said: Said) {
        let page = &mut state.pages.studio;
        let is_over = matches!(said, Said::Ended(_));
        if is_over {
            page.jobs.retain(|(known, _)| *known != id);
        }
        match said {
            Said::Line(value) if job == Job::Chunk => page.report = Some(value),
            Said::Line(value) if job == Job::Score => page.scores = Some(value),
            Said::Line(value) if job == Job::Contamination => page.leaks = Some(value),
            Said::Line(value) if job == Job::Versions && value["versions"].is_array() => page.versions = Some(value),
            Said::Line(value) if job == Job::Versions && value["is_new"] == false => {
                let version = &value["version"]["version"];
                state.toast(format!("The rows are those of version {version}: nothing had to be kept"), None);
            }
            Said::Line(value) if job == Job::Diff => page.diff = Some((page.asked_diff, value)),
            said => {
                if let (true, Said::Ended(Ending::Failed(problem))) = (job.is_plain(), &said) {
                    page.problem = Some(problem.clone());
                }
                Self::hear_teaching(page, job, said);
                if is_over && matches!(job, Job::Chunk | Job::Versions | Job::Generate) {
                    self.read_projects();
                    if let Some(project) = page.project.clone() {
                        self.read_project(project);
                    }
                }
            }
        }
    }

    /// Carry out what the page asked for.
    pub(super) fn act_studio(&self, state: &mut State, ask: Ask) {
        state.pages.studio.problem = None;
        let project = state.pages.studio.project.clone().unwrap_or_default();
        match ask {
            Ask::Open(name) => self.open_project(state, name),
            Ask::Create(name) => self.create(state, name),
            _ if project.is_empty() => state.toast("Name a project first: what you add is kept there", None),
            Ask::Add(files) => self.add(state, &project, &files),
            Ask::Chunks(document, most) => self.read_chunks(document, most),
            Ask::Remove(document) => self.remove(state, document, project),
            Ask::Search(words) => self.workers.with_store(move |store, teller| {
                let found = crate::jobs::document_search::by_words(store, &project, &words, RESULTS)?;
                teller.tell(Reply::Studio(Found::Results(found)));
                Ok(())
            }),
            Ask::Score => {
                state.pages.studio.scores = None;
                let rows = self.rows(&project);
                self.run(state, Job::Score, &["data", "score", &rows]);
            }
            Ask::Contamination(file) => {
                state.pages.studio.leaks = None;
                let rows = self.rows(&project);
                self.run(state, Job::Contamination, &["data", "contamination", &rows, "--evaluation", &file]);
            }
            Ask::Import(file) => {
                let file = file.display().to_string();
                let note = "--note=imported";
                self.run(
                    state,
                    Job::Versions,
                    &["data", "versions", "save", "--project", &project, "--from", &file, note],
                );
                state.pages.studio.versions = None;
            }
            Ask::Save(note) => {
                let note = format!("--note={note}");
                self.run(state, Job::Versions, &["data", "versions", "save", "--project", &project, &note]);
                state.pages.studio.versions = None;
            }
            Ask::Restore(version) => {
                let version = version.to_string();
                self.run(state, Job::Versions, &["data", "versions", "restore", &version, "--project", &project]);
                (state.pages.studio.versions, state.pages.studio.diff) = (None, None);
            }
            Ask::Dropped(files) => match state.pages.studio.tab {
                Tab::Label => Self::picked_teaching(state, Picks::Questions, files),
                Tab::Persona => Self::picked_teaching(state, Picks::Memories, files),
                _ => self.add(state, &project, &files),
            },
            Ask::Diff(version) => {
                state.pages.studio.asked_diff = version;
                let version = version.to_string();
                self.run(state, Job::Diff, &["data", "versions", "diff", &version, "--project", &project]);
            }
            other => self.act_teaching(state, other),
        }
    }

    /// Files or a folder were chosen for the page.
    pub(super) fn picked_studio(&self, state: &mut State, purpose: Purpose, paths: Vec<PathBuf>) {
        let command = match (purpose, paths.first()) {
            (Purpose::Rows, Some(first)) => Ask::Import(first.clone()),
            (Purpose::Evaluation, Some(first)) => {
                state.pages.studio.typed.evaluation = first.display().to_string();
                return;
            }
            (Purpose::Studio(picks), _) => return Self::picked_teaching(state, picks, paths),
            _ => Ask::Add(paths),
        };
        self.act_studio(state, command);
    }

    /// The project's rows, for the wizard.
    pub(super) fn train_on_project(&self, state: &mut State) {
        if let Some(project) = state.pages.studio.project.clone() {
            self.inspect(state, vec![rows_of(&self.workers.context.data_dir, &project)]);
        }
    }

    fn rows(&self, project: &str) -> String {
        rows_of(&self.workers.context.data_dir, project).display().to_string()
    }

    fn run(&self, state: &mut State, job: Job, words: &[&str]) {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        if let Some(id) = self.errand(state, Whose::Studio(job), &words) {
            state.pages.studio.jobs.push((id, job));
        }
    }

    fn list_versions(&self, state: &mut State) {
        let project = state.pages.studio.project.clone().unwrap_or_default();
        self.run(state, Job::Versions, &["data", "versions", "list", "--project", &project]);
    }

    fn add(&self, state: &mut State, project: &str, files: &[PathBuf]) {
        let Typed { size, overlap, counts, model, .. } = &state.pages.studio.typed;
        let unit = if *counts == Counts::Tokens { "t" } else { "c" };
        // What looks like an option is a number that is wrong, or a file of this folder.
        let project = format!("--project={project}");
        let (size, overlap) = (format!("--chunk-size={}{unit}", size.trim()), format!("--overlap={}", overlap.trim()));
        let model = (*counts == Counts::Tokens).then(|| format!("--model={}", model.trim()));
        let files: Vec<String> = files.iter().map(|file| typed_path(&file.display().to_string())).collect();
        let mut words = vec!["data", "chunk", &project, &size, &overlap];
        words.extend(model.as_deref());
        words.extend(files.iter().map(String::as_str));
        state.pages.studio.report = None;
        self.run(state, Job::Chunk, &words);
    }

    /// The list is shorter at once; the store hears of it meanwhile.
    fn remove(&self, state: &mut State, document: i64, project: String) {
        let page = &mut state.pages.studio;
        if let Some(documents) = &mut page.documents {
            documents.retain(|known| known.id != document);
        }
        (page.results, page.meaning.found, page.meaning.vectors) = (None, None, None);
        self.workers.with_store(move |store, _| store.delete_document(document));
        self.read_project(project);
    }

    fn create(&self, state: &mut State, name: String) {
        state.pages.studio.typed.name.clear();
        self.workers.with_store(move |store, teller| {
            let name = store.open_project(&name)?.name;
            teller.tell(Reply::Studio(Found::Projects(names(store)?)));
            teller.tell(Reply::Studio(Found::Created(name)));
            Ok(())
        });
    }

    fn open_project(&self, state: &mut State, name: String) {
        if let Some((id, ..)) = &state.pages.studio.meaning.searcher {
            // Whoever looked through the project before goes with it.
            state.errands.remove(id);
        }
        state.pages.studio.forget_project();
        state.pages.studio.project = Some(name.clone());
        self.read_project(name);
    }

    fn read_projects(&self) {
        self.workers.with_store(|store, teller| {
            teller.tell(Reply::Studio(Found::Projects(names(store)?)));
            Ok(())
        });
    }

    fn read_project(&self, name: String) {
        let rows = rows_of(&self.workers.context.data_dir, &name);
        self.workers.with_store(move |store, teller| {
            let documents = store.documents(store.project(&name)?.id)?;
            let has_rows = crate::jobs::dataset_versions::has_rows(&rows);
            teller.tell(Reply::Studio(Found::Project(name, documents, has_rows)));
            Ok(())
        });
    }

    fn read_chunks(&self, document: i64, most: usize) {
        self.workers.with_store(move |store, teller| {
            teller.tell(Reply::Studio(Found::Chunks(document, store.chunks_of(document, most)?)));
            Ok(())
        });
    }
}

fn names(store: &Store) -> Result<Vec<String>> {
    Ok(store.projects()?.into_iter().map(|project| project.name).collect())
}

/// A command of the page.
fn ask(ask: Ask) -> Command {
    Command::Studio(ask)
}
