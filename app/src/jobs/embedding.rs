//! Vectors for the chunks of a project, from a helper model: in batches, again where it failed, on from where it stopped
//! (S0.6, S0.7).

use super::teaching::Opened;
use peft_plan::helper::{Reach, Setback};
use peft_plan::{Fault, Result};
use peft_storage::{Store, Unembedded};
use serde::Serialize;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Times that a batch is asked about before it is given up.
const TRIES: u32 = 6;
/// The first pause before asking again; each is twice as long as the last one.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A pause is slept in pieces, so that Ctrl-C is heard.
const NAP: Duration = Duration::from_millis(100);

/// Under which name vectors of a model are kept: the same model of another service may be another model.
pub fn key(provider: &str, model: &str) -> String {
    format!("{provider}:{model}")
}

/// The provider and the model of vectors that are kept under `key`.
pub fn parts(key: &str) -> Option<(&str, &str)> {
    key.split_once(':')
}

/// What is to be embedded, by whom.
pub struct EmbedRequest<'a> {
    /// Of this project.
    pub project: &'a str,
    /// As it is typed.
    pub provider: &'a str,
    /// The model.
    pub model: &'a str,
    /// Texts at a time.
    pub batch: usize,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Embedding {
    /// Texts with a vector.
    pub done: usize,
    /// All texts.
    pub total: usize,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EmbedReport {
    /// Under which name the vectors are kept.
    pub model: String,
    /// Texts that got a vector.
    pub embedded: usize,
    /// Texts that had one.
    pub already: usize,
    /// Numbers of each vector.
    pub dimensions: usize,
    /// Texts that the model does not take, with its reason.
    pub left_out: Vec<String>,
    /// Batches that were asked about again.
    pub repeated: usize,
    /// It was stopped before the end.
    pub is_stopped: bool,
    /// How long it took.
    pub seconds: f64,
}

/// Give every chunk of a project a vector.
pub fn embed(
    store: &Store,
    opened: &Opened,
    request: &EmbedRequest<'_>,
    is_over: &dyn Fn() -> bool,
    tell: &mut dyn FnMut(Embedding),
) -> Result<EmbedReport> {
    let begun = Instant::now();
    let project = store.project(request.project)?.id;
    let model = key(request.provider, request.model);
    // Vectors of words that were changed are of no use any more.
    store.sweep_vectors(project)?;
    let (already, total) = store.embedded(project, &model)?;
    let mut report = EmbedReport {
        model: model.clone(),
        already,
        dimensions: store.dimensions(project, &model)?,
        ..EmbedReport::default()
    };
    if total == 0 {
        let detail = format!("The project `{}` has no chunks yet", request.project);
        return Err(Fault::new("PS-FILE-001", detail).action(
            "Put documents in",
            Some(format!("peft-studio data chunk FILE --project \"{}\"", request.project)),
        ));
    }
    let mut work = Work { opened, request, is_over, report: &mut report };
    let (mut waiting, mut last) = (VecDeque::new(), 0);
    loop {
        tell(Embedding { done: already + work.report.embedded, total });
        let batch = next_batch(store, (project, &model, request.batch), &mut waiting, &mut last)?;
        if batch.is_empty() {
            break;
        }
        if is_over() {
            work.report.is_stopped = true;
            break;
        }
        let vectors = match work.vectors(&batch) {
            Ok(vectors) => vectors,
            Err(Setback::Enough) => {
                work.report.is_stopped = true;
                break;
            }
            Err(why) => return Err(why.into_fault(&opened.who, opened.helper.service())),
        };
        work.check(&vectors)?;
        store.put_vectors(project, &model, &vectors)?;
        work.report.embedded += vectors.len();
    }
    report.seconds = begun.elapsed().as_secs_f64();
    Ok(report)
}

/// The next texts without a vector, each once. `waiting` are chunks behind the chunk `last` was before.
fn next_batch(
    store: &Store,
    (project, model, size): (i64, &str, usize),
    waiting: &mut VecDeque<Unembedded>,
    last: &mut i64,
) -> Result<Vec<Unembedded>> {
    let mut batch: Vec<Unembedded> = Vec::new();
    while batch.len() < size {
        let Some(one) = waiting.pop_front() else {
            waiting.extend(store.unembedded(project, model, *last, size)?);
            match waiting.back() {
                Some(behind) => *last = behind.chunk,
                None => break,
            }
            continue;
        };
        // The same words may stand in many chunks, and got a vector with an earlier one.
        if batch.iter().all(|other| other.hash != one.hash) && store.vector(one.chunk, model)?.is_none() {
            batch.push(one);
        }
    }
    Ok(batch)
}

/// Asking, and asking again where that can help.
pub struct Patience<'a> {
    /// Times at most.
    pub tries: u32,
    /// No pause is longer, whatever the service asks for.
    pub longest_pause: Duration,
    /// Somebody was there before: waiting is for who went away.
    pub waits_for_somebody: bool,
    /// Whether to stop.
    pub is_over: &'a dyn Fn() -> bool,
}

impl Patience<'_> {
    /// Vectors of `texts`, and how often they were asked for again.
    pub fn ask(&self, opened: &Opened, model: &str, texts: &[&str]) -> (Result<Vec<Vec<f32>>, Setback>, usize) {
        let mut pause = PAUSE;
        for attempt in 1..self.tries {
            let asked = match opened.helper.embed(model, texts) {
                Err(Setback::Absent(why)) if !self.waits_for_somebody => {
                    return (Err(Setback::Absent(why)), attempt as usize - 1);
                }
                Err(Setback::TooMany(Some(wait))) => wait,
                Err(why) if why.reach() == Reach::Again => pause,
                other => return (other, attempt as usize - 1),
            };
            if let Err(enough) = self.sleep(asked.min(self.longest_pause)) {
                return (Err(enough), attempt as usize);
            }
            pause *= 2;
        }
        (opened.helper.embed(model, texts), self.tries as usize - 1)
    }

    fn sleep(&self, time: Duration) -> Result<(), Setback> {
        let begun = Instant::now();
        while begun.elapsed() < time {
            if (self.is_over)() {
                return Err(Setback::Enough);
            }
            std::thread::sleep(NAP.min(time));
        }
        Ok(())
    }
}

struct Work<'a> {
    opened: &'a Opened,
    request: &'a EmbedRequest<'a>,
    is_over: &'a dyn Fn() -> bool,
    report: &'a mut EmbedReport,
}

impl Work<'_> {
    /// Vectors of a batch; where the service takes it for wrong as a whole, of each text for itself.
    fn vectors(&mut self, batch: &[Unembedded]) -> Result<Vec<(String, Vec<f32>)>, Setback> {
        match self.patiently(batch) {
            Err(why) if why.reach() == Reach::Question && batch.len() > 1 => {
                let mut all = Vec::new();
                for one in batch {
                    all.extend(self.vectors(std::slice::from_ref(one))?);
                }
                Ok(all)
            }
            Err(why) if why.reach() == Reach::Question => {
                self.report.left_out.push(why.reason());
                Ok(Vec::new())
            }
            other => other,
        }
    }

    fn patiently(&mut self, batch: &[Unembedded]) -> Result<Vec<(String, Vec<f32>)>, Setback> {
        let texts: Vec<&str> = batch.iter().map(|one| one.text.as_str()).collect();
        let patience = Patience {
            tries: TRIES,
            longest_pause: LONGEST_PAUSE,
            waits_for_somebody: self.report.embedded > 0,
            is_over: self.is_over,
        };
        let (vectors, repeated) = patience.ask(self.opened, self.request.model, &texts);
        self.report.repeated += repeated;
        Ok(batch.iter().map(|one| one.hash.clone()).zip(vectors?).collect())
    }

    /// All vectors of a model have one length.
    fn check(&mut self, vectors: &[(String, Vec<f32>)]) -> Result<()> {
        let Some((_, first)) = vectors.first() else { return Ok(()) };
        if self.report.dimensions == 0 {
            self.report.dimensions = first.len();
        }
        let expected = self.report.dimensions;
        match vectors.iter().find(|(_, vector)| vector.len() != expected) {
            None => Ok(()),
            Some((_, other)) => {
                let detail = format!(
                    "`{}` gave vectors of {expected} numbers before and gives {} now; it is another model under the same name",
                    self.request.model,
                    other.len()
                );
                Err(Fault::new("PS-CFG-001", detail))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peft_plan::helper::{Credit, Helper, HelperModel, OnPiece, Question, Said, Service};
    use peft_storage::{NewChunk, NewDocument};
    use std::sync::Mutex;

    /// A helper that fails when it is told to, and does not take texts with `long` in them.
    struct Fake {
        calls: Mutex<usize>,
        fate: fn(usize) -> Option<Setback>,
    }

    impl Helper for Fake {
        fn who(&self) -> String {
            "A fake".into()
        }
        fn service(&self) -> Service {
            Service::Ollama
        }
        fn models(&self) -> Result<Vec<HelperModel>, Setback> {
            Ok(Vec::new())
        }
        fn credit(&self) -> Result<Option<Credit>, Setback> {
            Ok(None)
        }
        fn ask(&self, _: &str, _: &Question, _: &mut OnPiece) -> Result<Said, Setback> {
            Err(Setback::Enough)
        }
        fn embed(&self, _: &str, texts: &[&str]) -> Result<Vec<Vec<f32>>, Setback> {
            let mut calls = self.calls.lock().expect("no panic before");
            *calls += 1;
            if let Some(why) = (self.fate)(*calls) {
                return Err(why);
            }
            if texts.iter().any(|text| text.contains("long")) {
                return Err(Setback::TooLong("512 tokens".into()));
            }
            Ok(texts.iter().map(|text| vec![text.len() as f32, 1.0]).collect())
        }
    }

    fn opened(fate: fn(usize) -> Option<Setback>) -> Opened {
        Opened { helper: Box::new(Fake { calls: Mutex::new(0), fate }), who: "A fake".into(), is_here: true }
    }

    fn store(texts: &[&str]) -> (tempfile::TempDir, Store) {
        let home = tempfile::tempdir().expect("a directory");
        let store = Store::open(home.path()).expect("a store");
        let project = store.open_project("p").expect("made").id;
        let chunk =
            |text: &&str| NewChunk { hash: (*text).into(), text: (*text).into(), details: serde_json::Value::Null };
        let document = NewDocument { path: "/a".into(), ..NewDocument::default() };
        store.replace_document(project, &document, &texts.iter().map(chunk).collect::<Vec<_>>()).expect("put in");
        (home, store)
    }

    const REQUEST: EmbedRequest<'_> = EmbedRequest { project: "p", provider: "ollama", model: "m", batch: 2 };

    fn run(store: &Store, fate: fn(usize) -> Option<Setback>) -> Result<EmbedReport> {
        embed(store, &opened(fate), &REQUEST, &|| false, &mut |_| {})
    }

    #[test]
    fn s0_7_every_text_gets_a_vector_through_failures_and_only_once() {
        let (_home, store) = store(&["one", "two", "three", "too long", "four", "one"]);
        // Every other call asks to wait.
        let report =
            run(&store, |call| (call % 2 == 0).then_some(Setback::TooMany(Some(Duration::ZERO)))).expect("done");
        assert_eq!((report.embedded, report.already, report.dimensions), (4, 0, 2));
        assert_eq!(report.left_out.len(), 1, "{report:?}");
        assert!(report.repeated > 0 && report.left_out[0].contains("512 tokens"));
        let again = run(&store, |_| None).expect("done");
        assert_eq!((again.embedded, again.already), (0, 4));
        let project = store.project("p").expect("there").id;
        assert_eq!(store.vectors(project, "ollama:m", 0, 99).expect("read").len(), 5, "both chunks of one text");
        assert_eq!(parts("ollama:m:latest"), Some(("ollama", "m:latest")));
    }

    #[test]
    fn what_needs_a_person_ends_the_work_and_what_was_made_is_kept() {
        let (_home, store) = store(&["a", "b", "c", "d"]);
        let fault = run(&store, |call| (call > 1).then(|| Setback::Key("wrong".into()))).expect_err("stopped");
        assert_eq!(fault.code, "PS-OR-001");
        assert_eq!(run(&store, |_| None).expect("done").already, 2);
    }

    #[test]
    fn a_project_without_chunks_says_what_to_do() {
        let (_home, store) = store(&[]);
        assert_eq!(run(&store, |_| None).expect_err("nothing").code, "PS-FILE-001");
    }

    #[test]
    fn another_length_of_vectors_is_another_model() {
        let (_home, store) = store(&["a", "b"]);
        let project = store.project("p").expect("there").id;
        store.put_vectors(project, "ollama:m", &[("a".into(), vec![1.0; 3])]).expect("kept");
        let fault = run(&store, |_| None).expect_err("refused");
        assert!(
            fault.code == "PS-CFG-001" && fault.detail.contains("3 numbers before and gives 2 now"),
            "{}",
            fault.detail
        );
    }
}
