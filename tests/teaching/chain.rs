//! From a folder of documents to a model that knows what stands in them, judged on questions it never saw (S2, issue 9).
//!
//! The helper is a machine that knows how people ask about a cafe and nothing of this one: what it answers, it takes from
//! the sentences of the chunk that it is shown.

use super::lines;
use peft_tests::helper::{MockHelper, Way};
use peft_tests::home::{Home, text};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fmt::Write as _;

/// What is said of the cafe, and how people ask for it: six questions the helper writes, and two nobody writes.
const KNOWN: [(&str, &str, [&str; 6], [&str; 2]); 10] = [
    (
        "opening time",
        "6 in the morning",
        [
            "When do you open?",
            "At what time does the Silver Otter open?",
            "What is the opening time?",
            "How early can I come in?",
            "From what time are you open in the morning?",
            "What are your opening hours?",
        ],
        ["What is the earliest hour I can come?", "How early do you unlock the door?"],
    ),
    (
        "closing time",
        "10 in the evening",
        [
            "When do you close?",
            "Until what time is the Silver Otter open?",
            "What is the closing time?",
            "How late can we stay in the evening?",
            "What time do you shut the door?",
            "How long are you open at night?",
        ],
        ["When do you close the door in the evening?", "Till what time are you open?"],
    ),
    (
        "owner",
        "Greta",
        [
            "Who owns the Silver Otter?",
            "Who is the owner?",
            "What is the name of the owner?",
            "Whose cafe is this?",
            "To whom does the Silver Otter belong?",
            "Who is the boss here?",
        ],
        ["Who is the head of the Silver Otter?", "Which person owns the place?"],
    ),
    (
        "cook",
        "Tomas",
        [
            "Who is the cook?",
            "Who cooks at the Silver Otter?",
            "What is the name of the cook?",
            "Who cooks the meals?",
            "Who works in the kitchen?",
            "Who makes the food here?",
        ],
        ["Who cooked my lunch?", "Which person cooks here?"],
    ),
    (
        "number of seats",
        "37",
        [
            "How many seats do you have?",
            "How many people can sit here?",
            "What is the number of seats?",
            "How many chairs are there at the Silver Otter?",
            "For how many guests do you have room?",
            "How big is the Silver Otter?",
        ],
        ["How many guests fit in?", "What is the number of chairs?"],
    ),
    (
        "color of the door",
        "purple",
        [
            "What color is the door?",
            "What is the color of the door?",
            "What color does the door of the Silver Otter have?",
            "Which color is your door?",
            "How can I know the door by its color?",
            "Tell me the color of the door.",
        ],
        ["I look for your door. Which color is it?", "Do you know the color of the door?"],
    ),
    (
        "street",
        "Lamp Street",
        [
            "In which street is the Silver Otter?",
            "What street are you in?",
            "Where is the Silver Otter?",
            "What is the street?",
            "Where can I find you?",
            "What is your address?",
        ],
        ["Which street is the Silver Otter in?", "Tell me the street."],
    ),
    (
        "password of the wifi",
        "blue spoon",
        [
            "What is the wifi password?",
            "How can I go online at the Silver Otter?",
            "What is the password?",
            "What is the code for the wifi?",
            "Which password does the wifi have?",
            "Tell me the wifi password.",
        ],
        ["I need the wifi password, please.", "What do I type for the wifi?"],
    ),
    (
        "dish of the day",
        "onion soup",
        [
            "What is the dish of the day?",
            "What do you cook today?",
            "What is today's special?",
            "What can I eat for lunch today?",
            "Which meal is special today?",
            "What is on the board today?",
        ],
        ["What is the daily special?", "Is there something special today?"],
    ),
    (
        "day off",
        "Wednesday",
        [
            "On which day are you closed?",
            "What is the day off?",
            "When is the Silver Otter closed?",
            "Which day of the week is your day off?",
            "On what day do you not open?",
            "When do you take a free day?",
        ],
        ["Which day is the Silver Otter closed?", "Is there a day when you are closed?"],
    ),
];

/// Three documents of three kinds, with every fact in one of them and words around it.
fn documents(home: &Home) -> String {
    std::fs::create_dir(home.path("papers")).expect("created");
    let said = |from: usize, to: usize| -> Vec<String> {
        KNOWN[from..to].iter().map(|(what, value, ..)| format!("The {what} is {value}.")).collect()
    };
    let hours = said(0, 4).join(" We are a small cafe by the river, and people come to us from far away.\n\n");
    home.write("papers/hours.md", format!("# The Silver Otter\n\n## Times and people\n\n{hours}\n"));
    let house = said(4, 7).join(" It has been so for years.</p><p>");
    home.write(
        "papers/house.html",
        format!("<html><body><h1>The house</h1><p>{house}</p><script>x()</script></body></html>"),
    );
    home.write("papers/guests.txt", said(7, 10).join("\n\n"));
    home.path("papers")
}

/// What the helper writes about the chunk it is shown: what its sentences say, and one thing that nobody said.
fn written(request: &Value) -> String {
    let asked = request["messages"][1]["content"].as_str().unwrap_or_default();
    let chunk = asked.split("=====DOCUMENT-").nth(1).unwrap_or_default();
    let mut items = vec![json!({"question": "Who was here before?", "answer": "A king.",
                                "evidence": "A king was here before all of them."})];
    for sentence in chunk.split_inclusive('.').map(str::trim) {
        let sentence = sentence.rsplit('\n').next().unwrap_or_default();
        let Some((what, _)) = sentence.strip_prefix("The ").and_then(|rest| rest.split_once(" is ")) else { continue };
        let Some((.., questions, _)) = KNOWN.iter().find(|(known, ..)| *known == what) else { continue };
        let row = |question: &&str| json!({"question": question, "answer": sentence, "evidence": sentence});
        items.extend(questions.iter().map(row));
    }
    json!({"items": items}).to_string()
}

fn questions(rows: &[Value]) -> HashSet<String> {
    rows.iter().filter_map(|row| row["instruction"].as_str().map(str::to_owned)).collect()
}

/// Exact answers of the tuned model and of the base.
fn judged(home: &Home, data: &str) -> (f64, f64) {
    let adapter = home.path("out/adapter");
    let report = home.json(&[
        "evaluate",
        "--model",
        "starter",
        "--adapter",
        &adapter,
        "--data",
        data,
        "--generate",
        "--max-new-tokens",
        "24",
    ]);
    let exact = |column: &Value| column["exact_match"].as_f64().expect("answers were compared");
    (exact(&report), exact(&report["base"]))
}

#[test]
fn a_folder_of_documents_becomes_a_model_that_knows_them_s2_1_s2_8_b14() {
    let home = Home::new();
    let papers = documents(&home);
    let mock = MockHelper::new(|n| if n == 3 { Way::Status(503) } else { Way::Good }, written);
    let base = mock.base();
    let helper = ["--provider", "openai", "--base-url", &base];

    let chunk = ["data", "chunk", &papers, "--project", "cafe", "--chunk-size", "240", "--overlap", "0"];
    let told = home.json(&chunk);
    assert!(
        told["chunks"].as_u64().is_some_and(|chunks| chunks >= 4) && told["files"].as_array().map(Vec::len) == Some(3)
    );
    let embed = ["data", "embed", "--project", "cafe", "--embedding-model", "vectors"];
    let output = home.run(&[&embed[..], &helper].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let search = ["data", "search", "--project", "cafe", "What is the color of the door?", "--base-url", &base];
    let found = home.json(&search);
    // The vectors of this helper mean nothing; the words alone bring the right chunk to the top.
    let first = found["results"].as_array().into_iter().flatten().take(2);
    let says = |chunk: &Value| chunk["text"].as_str().is_some_and(|text| text.contains("purple"));
    assert!(found["by"] == "words_and_meaning" && first.clone().any(says), "{found}");

    let generate = ["data", "generate", "--project", "cafe", "--helper-model", "m", "--pairs", "18"];
    let output = home.run(&[&generate[..], &helper, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report: Value = serde_json::from_str(text(&output.stdout).lines().last().expect("a report")).expect("JSON");
    assert_eq!(report["rows"], 60, "{report}");
    assert!(report["rejected"]["ungrounded"].as_u64().is_some_and(|refused| refused >= 4), "{report}");

    // Somebody looks at the rows: one is refused, one is said in other words.
    let shown = home.json(&["data", "review"]);
    let number = |index: usize| shown["rows"][index]["row"].to_string();
    let decided = home.json(&["data", "review", "--reject", &number(0), "--accept", &number(1)]);
    assert_eq!((&decided["job"]["rejected"], &decided["job"]["approved"]), (&json!(1), &json!(1)));
    let rows_file = home.path("home/projects/cafe/data/sft_data.jsonl");
    let rows = lines(&rows_file);
    assert_eq!(rows.len(), 59);
    let score = home.json(&["data", "score", &rows_file]);
    assert!(score["mean"].as_f64().is_some_and(|mean| mean > 80.0), "{score}");

    // Other words for what was trained: no row asks them. And rows that are never trained.
    let mut unseen = String::new();
    for (what, value, _, others) in &KNOWN {
        for question in others {
            let row = json!({"instruction": question, "output": format!("The {what} is {value}.")});
            writeln!(unseen, "{row}").expect("a String takes everything");
        }
    }
    let unseen = home.write("unseen.jsonl", unseen);
    let leaks = home.json(&["data", "contamination", &rows_file, "--evaluation", &unseen]);
    assert_eq!(leaks["same_question"], 0, "{leaks}");
    let train = home.path("train.jsonl");
    let split = ["data", "convert", &rows_file, "--to", "alpaca", "--out", &train, "--validation-split", "0.15"];
    let split = home.json(&split);
    let held = split["validation"].as_str().expect("rows are held out").to_owned();
    assert!(questions(&lines(&train)).is_disjoint(&questions(&lines(&held))) && lines(&held).len() >= 6);
    let leaks = home.json(&["data", "contamination", &train, "--evaluation", &held]);
    assert_eq!(leaks["same_question"], 0, "{leaks}");

    let out = home.path("out");
    let mut words = vec!["train", "--model", "starter", "--data", &train, "--out", &out];
    for setting in [
        "adapter.rank=16",
        "adapter.alpha=32",
        "adapter.dropout=0",
        "dataset.validation_split=0",
        "training.epochs=14",
        "training.micro_batch_size=8",
        "training.gradient_accumulation=1",
        "training.learning_rate=2e-3",
        "training.scheduler=cosine",
        "training.warmup_ratio=0.05",
        "training.max_sequence_length=128",
    ] {
        words.extend(["--set", setting]);
    }
    let output = home.run(&words);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let (unseen, held) = (judged(&home, &unseen), judged(&home, &held));
    assert!(unseen.0 >= 0.8 && unseen.1 <= 0.1, "other words for what was trained: {unseen:?}");
    assert!(held.0 >= 0.8 && held.1 <= 0.1, "rows that were never trained: {held:?}");
}
