//! Rows from a helper that fails: all that can be made are made, none twice, and none that its chunk does not prove.

use peft_plan::helper::{Credit, Ended, Helper, HelperModel, OnPiece, Question, Said, Service, Setback};
use peft_plan::{Fault, Result};
use peft_teach::budget::{Budget, Price};
use peft_teach::chunk::Chunk;
use peft_teach::engine::{End, Event, Pace, Tally, run};
use peft_teach::generate::{Before, Generation, Kept, Ledger, Origin, Style};
use peft_teach::label::{self, Labelling, Sheet};
use peft_teach::prompt::Wish;
use peft_teach::verdict::{Reason, Row};
use serde_json::json;
use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

type Answer = dyn Fn(u64, &str) -> Result<String, Setback> + Sync;

/// Answers call number `n` with what a function makes of it.
struct Puppet<'a> {
    calls: AtomicU64,
    answer: &'a Answer,
}

impl<'a> Puppet<'a> {
    fn new(answer: &'a Answer) -> Self {
        Self { calls: AtomicU64::new(0), answer }
    }
}

impl Helper for Puppet<'_> {
    fn who(&self) -> String {
        "The puppet".to_owned()
    }
    fn service(&self) -> Service {
        Service::OpenAi
    }
    fn models(&self) -> Result<Vec<HelperModel>, Setback> {
        Ok(Vec::new())
    }
    fn credit(&self) -> Result<Option<Credit>, Setback> {
        Ok(None)
    }
    fn ask(&self, _model: &str, question: &Question, on_piece: &mut OnPiece) -> Result<Said, Setback> {
        let n = self.calls.fetch_add(1, Ordering::SeqCst);
        let asked = &question.turns.last().expect("a question").content;
        let text = (self.answer)(n, asked)?;
        if on_piece(&text).is_break() {
            return Err(Setback::Enough);
        }
        Ok(Said { text, ended: Ended::Stop, prompt_tokens: 100, generated_tokens: 50, cost: None })
    }
    fn embed(&self, _model: &str, _texts: &[&str]) -> Result<Vec<Vec<f32>>, Setback> {
        Err(Setback::NoModel("none".to_owned()))
    }
}

/// Keeps everything in memory; dies after so many calls, as a process does.
#[derive(Default)]
struct Memory {
    rows: Vec<(String, Row)>,
    over: HashSet<String>,
    rejected: Vec<Reason>,
    raw: usize,
    dies_after: Option<usize>,
}

impl Memory {
    fn before(&self) -> Before {
        Before { over: self.over.clone(), rows: self.rows.clone(), ..Before::default() }
    }
}

impl Ledger for Memory {
    fn keep(&mut self, kept: &Kept) -> Result<()> {
        if self.dies_after.is_some_and(|most| self.raw >= most) {
            return Err(Fault::new("PS-DISK-002", "There is no space left."));
        }
        self.raw += 1;
        self.rows.extend(kept.rows.iter().map(|row| (kept.unit.to_owned(), row.clone())));
        self.rejected.extend(kept.rejected.iter().map(|(reason, _)| *reason));
        if kept.is_over {
            self.over.insert(kept.unit.to_owned());
        }
        Ok(())
    }
}

fn chunks(count: usize) -> Vec<Chunk> {
    let chunk = |n: usize| Chunk {
        id: format!("c{n}"),
        text: format!("House number {n} was built in the year {}. Its owner keeps {n} geese.", 1000 + n),
        source: "houses.md".to_owned(),
        heading: Vec::new(),
    };
    (0..count).map(chunk).collect()
}

fn wish(pairs: usize) -> Wish {
    Wish { task: "facts".to_owned(), prompt: String::new(), pairs, language: None, difficulty: None }
}

const STYLE: Style = Style { temperature: 0.7, seed: 1, max_new_tokens: None };

fn pace(at_once: usize) -> Pace {
    Pace { at_once, tries: 8, first_wait: Duration::from_micros(200), per_minute: None }
}

/// Two good rows of the chunk that is asked about, and one whose quote is invented.
fn rows_of(asked: &str) -> String {
    let number: String =
        asked.split("House number ").nth(1).expect("the chunk").chars().take_while(char::is_ascii_digit).collect();
    let year = 1000 + number.parse::<usize>().expect("a number");
    json!({"items": [
        {"question": format!("What did house {number} cost?"), "answer": "A lot.", "evidence": format!("House number {number} cost a lot.")},
        {"question": format!("When was house {number} built?"), "answer": format!("In {year}."), "evidence": format!("was built in the year {year}.")},
        {"question": format!("How many geese has the owner of house {number}?"), "answer": number, "evidence": format!("Its owner  keeps {number} geese.")},
    ]})
    .to_string()
}

/// Every tenth call fails, in another way each time.
fn unreliable(n: u64, asked: &str) -> Result<String, Setback> {
    let text = rows_of(asked);
    // Not every tenth in a row: the calls of one unit would be the failing ones.
    match n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 {
        mixed if mixed % 10 != 0 => Ok(text),
        mixed => match mixed / 10 % 10 {
            0 => Err(Setback::Busy(503)),
            1 => Err(Setback::TooMany(Some(Duration::from_millis(1)))),
            2 => Err(Setback::Silent(Duration::from_mins(1))),
            3 => Err(Setback::Nonsense("a web page came".to_owned())),
            4 => Err(Setback::Failed("out of memory".to_owned())),
            5 => Err(Setback::Absent("refused".to_owned())),
            6 => Ok("I would rather tell you a joke.".to_owned()),
            7 => Ok(text[..text.len() / 2].to_owned()),
            8 => Ok(String::new()),
            _ => Err(Setback::Broken("the connection closed".to_owned())),
        },
    }
}

fn generate(
    helper: &Puppet,
    wish: &Wish,
    chunks: &[Chunk],
    memory: &mut Memory,
    budget: Option<f64>,
    halt: &dyn Fn() -> bool,
) -> Result<Tally> {
    let before = memory.before();
    let mut work = Generation::new(wish, STYLE, Origin::Chunks(chunks), before, memory).expect("a wish");
    let price = Price { prompt: 1e-6, answer: 1e-6 };
    let tally = run(helper, "m", &mut work, (pace(4), price, Budget::new(budget, 0.0)), halt, &mut |_| {})?;
    work.check(&tally, "The puppet").map(|()| tally)
}

fn check(memory: &Memory, chunks: &[Chunk]) {
    let questions: HashSet<&str> = memory.rows.iter().map(|(_, row)| row.exchanges[0].0.as_str()).collect();
    assert_eq!(questions.len(), memory.rows.len(), "no row twice");
    for (_, row) in &memory.rows {
        let chunk = chunks.iter().find(|chunk| Some(&chunk.id) == row.chunk.as_ref()).expect("its chunk");
        let evidence = row.evidence.as_ref().expect("a quote");
        assert_eq!(&chunk.text[evidence.start..evidence.end], evidence.quote);
    }
}

fn campaign(units: usize) {
    let (chunks, wish) = (chunks(units), wish(2));
    let helper = Puppet::new(&unreliable);
    let mut memory = Memory::default();
    let tally = generate(&helper, &wish, &chunks, &mut memory, None, &|| false).expect("rows");
    assert_eq!((tally.end, tally.given_up), (End::Done, 0), "{tally:?}");
    assert_eq!(memory.rows.len(), units * 2, "all rows that could be made");
    assert!(memory.rejected.iter().all(|reason| *reason == Reason::Ungrounded || *reason == Reason::Repeated));
    assert!(units < 50 || tally.setbacks.len() >= 5, "{tally:?}");
    check(&memory, &chunks);
}

#[test]
fn a_helper_that_fails_in_every_way_costs_no_row_s2_3() {
    campaign(250);
}

#[test]
#[ignore = "the whole campaign: 10 000 rows"]
fn ten_thousand_rows_with_a_helper_that_fails() {
    campaign(5000);
}

#[test]
fn nothing_is_lost_and_nothing_is_there_twice_over_fifty_deaths() {
    let (chunks, wish) = (chunks(120), wish(2));
    let helper = Puppet::new(&unreliable);
    let mut memory = Memory::default();
    for _ in 0..50 {
        memory.dies_after = Some(memory.raw + 2);
        if let Err(fault) = generate(&helper, &wish, &chunks, &mut memory, None, &|| false) {
            assert_eq!(fault.code, "PS-DISK-002");
        }
        check(&memory, &chunks);
    }
    memory.dies_after = None;
    generate(&helper, &wish, &chunks, &mut memory, None, &|| false).expect("the rest");
    assert_eq!(memory.rows.len(), 240);
    check(&memory, &chunks);
    let calls = helper.calls.load(Ordering::SeqCst);
    generate(&helper, &wish, &chunks, &mut memory, None, &|| false).expect("nothing to do");
    assert_eq!(helper.calls.load(Ordering::SeqCst), calls, "what is done is not asked again");
}

#[test]
fn not_one_row_is_a_fault_and_the_same_reply_for_ever_ends() {
    let (chunks, wish) = (chunks(5), wish(2));
    let joke = Puppet::new(&|_, _| Ok("Why did the chicken cross the road?".to_owned()));
    let mut memory = Memory::default();
    let fault = generate(&joke, &wish, &chunks, &mut memory, None, &|| false).expect_err("no rows");
    assert_eq!(fault.code, "PS-OR-003");
    assert_eq!(memory.raw, 20, "every raw answer is kept, and no unit is asked about for ever");
    let invented = Puppet::new(&|_, _| {
        Ok(json!({"items": [{"question": "Q?", "answer": "A.", "evidence": "this is not there at all"}]}).to_string())
    });
    let mut memory = Memory::default();
    let fault = generate(&invented, &wish, &chunks, &mut memory, None, &|| false).expect_err("no rows");
    assert!(fault.detail.contains("ungrounded"), "{}", fault.detail);
}

/// llama.cpp's Python server ends an answer as soon as the next question comes.
#[test]
fn a_service_that_answers_one_at_a_time_is_asked_one_at_a_time() {
    let arrived = AtomicU64::new(0);
    let one_at_a_time = move |_: u64, asked: &str| {
        let own = arrived.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        if arrived.load(Ordering::SeqCst) == own + 1 {
            Ok(rows_of(asked))
        } else {
            Err(Setback::Broken("it ended in the middle of the answer".to_owned()))
        }
    };
    let (chunks, wish) = (chunks(12), wish(2));
    let mut memory = Memory::default();
    let tally = generate(&Puppet::new(&one_at_a_time), &wish, &chunks, &mut memory, None, &|| false).expect("rows");
    assert_eq!((memory.rows.len(), tally.given_up), (24, 0), "{tally:?}");
    check(&memory, &chunks);
}

#[test]
fn what_somebody_must_do_ends_it_and_what_was_made_stays() {
    let (chunks, wish) = (chunks(40), wish(2));
    let poor =
        Puppet::new(&|n, asked| if n < 10 { Ok(rows_of(asked)) } else { Err(Setback::Credit("none left".to_owned())) });
    let mut memory = Memory::default();
    let fault = generate(&poor, &wish, &chunks, &mut memory, None, &|| false).expect_err("no credit");
    assert_eq!((fault.code, memory.rows.len()), ("PS-OR-002", 20));
    let absent = Puppet::new(&|_, _| Err(Setback::Absent("refused".to_owned())));
    let fault = generate(&absent, &wish, &chunks, &mut Memory::default(), None, &|| false).expect_err("nobody");
    assert_eq!(fault.code, "PS-HELP-001");
    assert!(absent.calls.load(Ordering::SeqCst) < 40, "it is not tried for ever");
    let busy = Puppet::new(&|_, _| Err(Setback::TooMany(None)));
    let fault =
        generate(&busy, &wish, &chunks, &mut Memory::default(), None, &|| false).expect_err("too many for ever");
    assert_eq!(fault.code, "PS-HELP-001");
}

#[test]
fn a_budget_is_never_passed() {
    let (chunks, wish) = (chunks(200), wish(2));
    let helper = Puppet::new(&|_, asked| Ok(rows_of(asked)));
    let mut memory = Memory::default();
    let tally = generate(&helper, &wish, &chunks, &mut memory, Some(0.01), &|| false).expect("some rows");
    assert_eq!(tally.end, End::Budget);
    assert!(tally.spent <= 0.01 && tally.spent > 0.002, "{}", tally.spent);
    assert!(!memory.rows.is_empty() && memory.rows.len() < 400);
}

#[test]
fn who_has_had_enough_keeps_what_there_is() {
    let (chunks, wish) = (chunks(200), wish(2));
    let helper = Puppet::new(&|_, asked| {
        std::thread::sleep(Duration::from_millis(2));
        Ok(rows_of(asked))
    });
    let mut memory = Memory::default();
    let calls = &helper.calls;
    let tally =
        generate(&helper, &wish, &chunks, &mut memory, None, &|| calls.load(Ordering::SeqCst) > 30).expect("some");
    assert_eq!(tally.end, End::Stopped);
    assert!(memory.rows.len() >= 40 && memory.rows.len() < 400, "{}", memory.rows.len());
}

#[test]
fn rows_come_from_a_wish_alone_and_none_asks_what_another_asks_s2_9() {
    let wish = Wish { prompt: "Generate 5th-grade math questions and answers".to_owned(), ..wish(5) };
    let helper = Puppet::new(&|n, asked| {
        assert!(asked.contains("5th-grade"));
        let row = |k: u64| json!({"question": format!("What is {} + {k}?", n / 2), "answer": (n / 2 + k).to_string()});
        Ok(json!({"items": (0..5).map(row).collect::<Vec<_>>()}).to_string())
    });
    let mut memory = Memory::default();
    let mut work = Generation::new(&wish, STYLE, Origin::Wish(23), Before::default(), &mut memory).expect("a wish");
    let plan = (pace(1), Price::default(), Budget::default());
    let tally = run(&helper, "m", &mut work, plan, &|| false, &mut |_| {}).expect("rows");
    assert_eq!((tally.end, work.accepted()), (End::Done, 23));
    let silent = Wish { prompt: String::new(), ..wish };
    let mut memory = Memory::default();
    let refused = Generation::new(&silent, STYLE, Origin::Wish(3), Before::default(), &mut memory);
    assert_eq!(refused.err().expect("nothing is wanted").code, "PS-CFG-001");
}

#[test]
fn a_teacher_labels_rows_and_is_asked_again_for_bad_json_s1_1() {
    let schema = r#"{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}"#;
    let text: Vec<String> = (0..40)
        .map(|n| format!(r#"{{"id":"r{n}","system_hint":"Be brief.","user":"Number {n}?","requires_json":true,"json_schema":{schema}}}"#))
        .collect();
    let rows = Sheet::read(&text.join("\n")).expect("rows");
    let helper = Puppet::new(&|n, asked| {
        assert!(asked.contains("?\n\nAnswer with valid JSON only"), "{asked}");
        Ok(if n % 3 == 0 { "Let me think".to_owned() } else { format!(r#"{{"n":{n}}}"#) })
    });
    let done = Mutex::new(Vec::new());
    let mut raw = 0;
    let mut on_answer = |heard: label::Heard| {
        raw += usize::from(!heard.raw.is_empty());
        if heard.outcome != label::Outcome::Again {
            let is_good = matches!(heard.outcome, label::Outcome::Labelled(_));
            done.lock().expect("one thread").push((heard.sheet.id.clone(), is_good));
        }
        Ok(())
    };
    let style = label::Style { temperature: 0.0, max_new_tokens: 64, seed: 0 };
    let mut events = 0;
    let mut work = Labelling::new(rows.iter().collect(), style, &mut on_answer);
    let plan = (pace(4), Price::default(), Budget::default());
    let tally = run(&helper, "m", &mut work, plan, &|| false, &mut |event| {
        events += usize::from(matches!(event, Event::Answered { .. }));
    });
    let tally = tally.expect("labelled");
    let done = done.into_inner().expect("no thread panicked");
    let ids: HashSet<&str> = done.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!((ids.len(), done.len(), events as u64), (40, 40, tally.answers));
    assert_eq!(raw as u64, tally.answers, "every raw answer is heard");
    assert!(done.iter().filter(|(_, is_good)| *is_good).count() >= 36, "three answers in a row are seldom all bad");
}
