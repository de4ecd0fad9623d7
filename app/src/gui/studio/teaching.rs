//! What the page has done by helper models: rows, labels, vectors, conversations, and what people decide about rows.

use super::helper::For;
use super::review::{PAGE, Queue, Shown};
use super::{Ask, Found, Job, Picks, Studio, Tab, rows_of};
use crate::gui::errand::{Ending, Said, Secret};
use crate::gui::logic::Logic;
use crate::gui::outside::Whose;
use crate::gui::state::State;
use crate::gui::worker::Reply;
use crate::jobs::dataset_versions::Versions;
use crate::jobs::teaching::review::{Decision, Review};
use peft_plan::Result;
use peft_storage::{DataDir, RowState, Store, TeachingJob, TeachingRow};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Results of a question.
const RESULTS: usize = 8;
/// Raw answers that are shown.
const RAW: u64 = 10;

/// Texts of chunks by their document and name.
type Texts = HashMap<(String, String), Arc<str>>;

impl Logic {
    /// What the tabs of this file show and nobody has read yet, and what changes while a helper writes.
    pub(super) fn want_teaching(&self, state: &mut State) {
        let (now, page) = (state.data.now, &mut state.pages.studio);
        let Some(project) = page.project.clone() else { return };
        let again = if page.is_busy(Job::Generate) { 1 } else { 2 };
        if page.tab == Tab::Generate && now - page.review.read_at >= again {
            page.review.read_at = now;
            self.read_rows(page, project.clone());
        }
        if page.tab == Tab::Search && page.meaning.vectors.is_none() {
            page.meaning.vectors = Some(Vec::new());
            self.read_vectors(project);
        }
    }

    fn read_rows(&self, page: &Studio, project: String) {
        let review = &page.review;
        let (look, chosen, shown, most) = (review.look, review.chosen, review.state, review.most.max(PAGE));
        let known: Texts = review
            .queue
            .iter()
            .flat_map(|queue| &queue.rows)
            .filter_map(|shown| Some((place(&shown.row)?, shown.chunk.clone()?)))
            .collect();
        self.workers.with_store(move |store, teller| {
            let jobs = generations(store, &project)?;
            let job = chosen.filter(|id| jobs.iter().any(|job| job.id == *id)).or(jobs.first().map(|job| job.id));
            let rows = match job {
                Some(job) => with_chunks(store, &project, store.teaching_page(job, shown, most)?, known)?,
                None => Vec::new(),
            };
            teller.tell(Reply::Studio(Found::Rows(project, Queue { look, jobs, job, rows })));
            Ok(())
        });
    }

    pub(super) fn read_vectors(&self, project: String) {
        self.workers.with_store(move |store, teller| {
            let id = store.project(&project)?.id;
            let count = |model: String| store.embedded(id, &model).map(|(done, total)| (model, done, total));
            let vectors = store.vector_models(id)?.into_iter().map(count).collect::<Result<Vec<_>>>()?;
            teller.tell(Reply::Studio(Found::Vectors(project, vectors)));
            Ok(())
        });
    }

    /// Rows were read.
    pub(super) fn hear_rows(state: &mut State, queue: Queue) {
        let page = &mut state.pages.studio;
        let is_first = page.review.queue.is_none();
        if is_first
            && !page.is_busy(Job::Generate)
            && !page.writer.is_named()
            && let Some(job) = queue.jobs.first()
        {
            page.making.take(&job.settings, &mut page.writer);
        }
        page.review.arrived(queue);
    }

    /// A helper at work said something; what went wrong is shown by the page.
    pub(super) fn hear_teaching(page: &mut Studio, job: Job, said: Said) {
        let is_over = matches!(said, Said::Ended(_));
        match job {
            Job::Helpers | Job::Embedders => {
                let helper = if job == Job::Helpers { &mut page.writer } else { &mut page.meaning.helper };
                if let Said::Line(line) = &said {
                    helper.hear(line);
                }
                failed(page, said);
            }
            Job::Generate => {
                page.review.read_at = 0;
                let problem = page.making.hear(said);
                page.problem = problem.or(page.problem.take());
                if is_over {
                    // Its own words: the page may not have read yet that there is a new one.
                    page.review.written = page.making.report.as_ref().and_then(|report| report["job"].as_i64());
                }
            }
            Job::Label => {
                page.labelling.hear(&said);
                failed(page, said);
            }
            Job::Persona => {
                if let Said::Line(line) = &said {
                    page.twin.report = Some(line.clone());
                }
                failed(page, said);
            }
            Job::PersonaServer => {
                if let Said::Line(line) = &said {
                    page.twin.url = line["url"].as_str().map(str::to_owned);
                }
                failed(page, said);
            }
            Job::Reference => {
                if let Said::Line(line) = &said {
                    line["out"].as_str().unwrap_or_default().clone_into(&mut page.labelling.file);
                }
                failed(page, said);
            }
            Job::Embed => {
                page.meaning.hear_embedding(&said);
                failed(page, said);
                if is_over {
                    page.meaning.vectors = None;
                }
            }
            Job::Meaning => {
                page.meaning.hear_search(&said);
                failed(page, said);
            }
            Job::Card => {
                if let Said::Line(line) = &said {
                    page.card.written = line["out"].as_str().map(PathBuf::from);
                }
                failed(page, said);
            }
            Job::Chunk | Job::Score | Job::Contamination | Job::Versions | Job::Diff => {}
        }
    }

    /// Carry out what the tabs of this file asked for.
    pub(super) fn act_teaching(&self, state: &mut State, ask: Ask) {
        let project = state.pages.studio.project.clone().unwrap_or_default();
        let page = &mut state.pages.studio;
        match ask {
            Ask::Helpers(whom) => {
                let (job, helper) = match whom {
                    For::Rows => (Job::Helpers, &page.writer),
                    For::Vectors => (Job::Embedders, &page.meaning.helper),
                };
                let mut words = vec!["data".to_owned(), "helpers".to_owned()];
                words.extend(helper.words());
                let secrets = helper.secrets();
                self.run_secretly(state, job, &words, &secrets);
            }
            Ask::Generate(is_anew) => {
                let words = page.making.words(&project, &page.writer, page.is_alone(), is_anew);
                let secrets = page.writer.secrets();
                page.making.begin();
                page.review.chosen = None;
                page.review.decided(&[]);
                self.run_secretly(state, Job::Generate, &words, &secrets);
            }
            Ask::Stop(job) => {
                let id = page.jobs.iter().find(|(_, known)| *known == job).map(|(id, _)| *id);
                if let Some((errand, _)) = id.and_then(|id| state.errands.get(&id)) {
                    errand.stop();
                }
            }
            Ask::Decide(job, rows, decision) => {
                page.review.decided(&rows);
                page.review.read_at = 0;
                let keeps = page.review.written.replace(job) != Some(job) && !page.is_busy(Job::Generate);
                self.decide(project, job, rows, decision, keeps);
            }
            Ask::Raw(job) => self.workers.with_store(move |store, teller| {
                teller.tell(Reply::Studio(Found::Raw(store.raw_answers(job, RAW)?)));
                Ok(())
            }),
            Ask::Label => {
                let words = page.labelling.words(&page.writer, &self.in_project(&project, "labelled.jsonl"));
                let secrets = page.writer.secrets();
                page.labelling.begin();
                self.run_secretly(state, Job::Label, &words, &secrets);
            }
            Ask::Reference => {
                let out = format!("--out={}", self.in_project(&project, "examples.jsonl").display());
                let words = ["data".to_owned(), "reference".to_owned(), out];
                self.run_secretly(state, Job::Reference, &words, &[]);
            }
            Ask::Persona => {
                let words = page.twin.words(&self.in_project(&project, "persona.jsonl"));
                page.twin.report = None;
                self.run_secretly(state, Job::Persona, &words, &[]);
            }
            Ask::ServePersona => {
                let (words, secrets) = page.twin.served(&self.in_project(&project, "persona.jsonl"));
                page.twin.url = None;
                self.run_secretly(state, Job::PersonaServer, &words, &secrets);
            }
            Ask::Embed => {
                let (words, secrets) = (page.meaning.words(&project), page.meaning.helper.secrets());
                (page.meaning.progress, page.meaning.report) = (None, None);
                self.run_secretly(state, Job::Embed, &words, &secrets);
            }
            Ask::Meaning(question) => self.look_for(state, &project, question.trim()),
            Ask::Card => {
                let rows = rows_of(&self.workers.context.data_dir, &project).display().to_string();
                let words = page.card.words(&rows, &self.in_project(&project, "README.md"));
                page.card.written = None;
                self.run_secretly(state, Job::Card, &words, &[]);
            }
            _ => {}
        }
    }

    fn run_secretly(&self, state: &mut State, job: Job, words: &[String], secrets: &[Secret]) {
        if state.pages.studio.is_busy(job) {
            return;
        }
        if let Some(id) = self.secret_errand(state, Whose::Studio(job), words, secrets, false) {
            state.pages.studio.jobs.push((id, job));
        }
    }

    /// Ask whoever looked before, if it is the same project and the same helper.
    fn look_for(&self, state: &mut State, project: &str, question: &str) {
        let meaning = &mut state.pages.studio.meaning;
        let (words, secrets) = (meaning.searcher(project, RESULTS), meaning.helper.secrets());
        (meaning.found, meaning.remark) = (None, None);
        let before = meaning.searcher.take().map(|(id, known, keys)| (id, known == words && keys == secrets));
        let id = match before {
            Some((id, true)) if state.errands.contains_key(&id) => Some(id),
            before => {
                // It goes with its process, and what it says in going is not heard any more.
                before.map(|(id, _)| state.errands.remove(&id));
                self.secret_errand(state, Whose::Studio(Job::Meaning), &words, &secrets, true)
            }
        };
        let Some(id) = id else { return };
        let is_heard = state.errands.get_mut(&id).is_some_and(|(errand, _)| errand.say(question));
        let meaning = &mut state.pages.studio.meaning;
        // One that hears nothing has ended, and says why.
        (meaning.is_asking, meaning.searcher) = (is_heard, Some((id, words, secrets)));
    }

    /// A file in the project's folder, which is made for it: a fraction of a millisecond.
    fn in_project(&self, project: &str, name: &str) -> PathBuf {
        let folder = DataDir::new(&self.workers.context.data_dir).project(project);
        // Where it cannot be made, whatever writes there says so.
        std::fs::create_dir_all(&folder).ok();
        folder.join(name)
    }

    /// Keep what a person said, and write the file anew. `keeps`: other rows may be there, and are kept first.
    fn decide(&self, project: String, job: i64, rows: Vec<i64>, decision: Decision, keeps: bool) {
        let data_dir = self.workers.context.data_dir.clone();
        self.workers.with_store(move |store, _| {
            let review = Review::find(store, Some(&job.to_string()))?;
            if keeps {
                Versions::of(store, &data_dir, &project)?.make_room()?;
            }
            rows.iter().try_for_each(|row| review.decide(store, *row, &decision))?;
            review.write(store).map(drop)
        });
    }

    /// Files were chosen for the tabs of this file.
    pub(super) fn picked_teaching(state: &mut State, picks: Picks, paths: Vec<PathBuf>) {
        let page = &mut state.pages.studio;
        let Some(first) = paths.first().map(|path| path.display().to_string()) else { return };
        match picks {
            Picks::Judged => page.making.judged = first,
            Picks::Questions => page.labelling.file = first,
            Picks::Personality => page.twin.personality = first,
            Picks::Memories | Picks::MemoryFolder => page.twin.add(paths),
        }
    }
}

/// What went wrong becomes the card of the page.
fn failed(page: &mut Studio, said: Said) {
    if let Said::Ended(Ending::Failed(problem)) = said {
        page.problem = Some(problem);
    }
}

/// What was generated for a project, the newest first.
fn generations(store: &Store, project: &str) -> Result<Vec<TeachingJob>> {
    let jobs = store.teaching_jobs()?.into_iter();
    Ok(jobs.filter(|job| job.settings["kind"] == "generate" && job.project.as_deref() == Some(project)).collect())
}

/// The document and the name of the chunk that a row is from.
fn place(row: &TeachingRow) -> Option<(String, String)> {
    let text = |name: &str| row.content[name].as_str().map(str::to_owned);
    text("source").zip(text("chunk"))
}

/// The rows with the texts of their chunks. `known`: those that were read before.
fn with_chunks(store: &Store, project: &str, rows: Vec<TeachingRow>, mut known: Texts) -> Result<Vec<Shown>> {
    let project = store.project(project)?.id;
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        let mut chunk = None;
        if let Some(place) = place(&row).filter(|_| row.state != RowState::Refused) {
            if !known.contains_key(&place)
                && let Some(text) = store.chunk_text(project, &place.0, &place.1)?
            {
                known.insert(place.clone(), text.into());
            }
            chunk = known.get(&place).cloned();
        }
        all.push(Shown { row, chunk });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn whose_the_rows_are_is_known_before_they_are_read() {
        let mut page = Studio::default();
        Logic::hear_teaching(&mut page, Job::Generate, Said::Line(json!({"job": 7, "rows": 2})));
        Logic::hear_teaching(&mut page, Job::Generate, Said::Ended(Ending::Done(Vec::new())));
        assert!(page.review.queue.is_none() && page.review.written == Some(7));

        // One that left no word may have written rows or not: whatever is there is kept before it is replaced.
        page.making.begin();
        Logic::hear_teaching(&mut page, Job::Generate, Said::Ended(Ending::Stopped));
        assert_eq!(page.review.written, None);
    }
}
