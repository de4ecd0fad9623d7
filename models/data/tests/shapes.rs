//! Every layout of rows, mixed layouts, explicit columns and per-turn flags (D1, S1.2).

use peft_data::{BadLine, Dataset, ReadOptions, json_instruction, read};
use peft_plan::{Example, Fault, Role, Turn};
use std::collections::BTreeMap;

fn try_read(lines: &[&str], options: &ReadOptions) -> Result<Dataset, Fault> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("x.jsonl");
    std::fs::write(&path, lines.join("\n")).expect("a writable folder");
    read(&[path], options)
}

fn skipping() -> ReadOptions {
    ReadOptions { on_bad_line: BadLine::Skip, ..ReadOptions::default() }
}

/// The shape of the file and the turns of its only row.
fn one(line: &str) -> (String, Vec<(Role, String)>) {
    let dataset = try_read(&[line], &ReadOptions::default()).expect("a known layout");
    let Example::Messages(turns) = &dataset.rows[0].example else { panic!("a conversation") };
    let turns = turns.iter().map(|turn| (turn.role, turn.content.clone())).collect();
    (dataset.files[0].shape.clone(), turns)
}

fn turns(wanted: &[(Role, &str)]) -> Vec<(Role, String)> {
    wanted.iter().map(|(role, text)| (*role, (*text).to_owned())).collect()
}

#[test]
fn each_layout_becomes_turns_d1() {
    use Role::{Assistant, System, User};
    let simple: &[(Role, &str)] = &[(User, "q"), (Assistant, "a")];
    let with_system: &[(Role, &str)] = &[(System, "s"), (User, "q"), (Assistant, "a")];
    for (line, shape, wanted) in [
        (r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}"#, "messages", simple),
        (r#"[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]"#, "messages", simple),
        (
            r#"{"conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}],"system":"s"}"#,
            "sharegpt",
            with_system,
        ),
        (
            r#"{"dialog":[{"role":"user","content":[{"type":"text","text":"q"}]},{"role":"assistant","content":"a"}]}"#,
            "messages",
            simple,
        ),
        (r#"{"instruction":"q","input":"","output":"a"}"#, "alpaca", simple),
        (r#"{"instruction":"q","input":"x","output":"a"}"#, "alpaca", &[(User, "q\nx"), (Assistant, "a")]),
        (
            r#"{"instruction":"q","output":"a","system":"s","history":[["h","r"]]}"#,
            "alpaca",
            &[(System, "s"), (User, "h"), (Assistant, "r"), (User, "q"), (Assistant, "a")],
        ),
        (r#"{"user":"q","system_hint":"s","assistant":"a"}"#, "user-assistant", with_system),
        (r#"{"prompt":"q","completion":"a"}"#, "prompt-completion", simple),
        (
            r#"{"prompt":[{"role":"user","content":"q"}],"completion":[{"role":"assistant","content":"a"}]}"#,
            "prompt-completion",
            simple,
        ),
        (r#"{"question":"q","answer":"a"}"#, "question-answer", simple),
        (r#"{"query":"q","response":"a"}"#, "question-answer", simple),
        (r#"{"input":"q","output":"a"}"#, "question-answer", simple),
        (r#"{"problem":"q","solution":"a"}"#, "question-answer", simple),
        (r#"{"instruction":"q","response":"a","context":"c"}"#, "question-answer", &[(User, "q\nc"), (Assistant, "a")]),
        (r#"{"system_prompt":"s","question":"q","response":"a"}"#, "question-answer", with_system),
        (
            r#"{"context":"c","question":"q","answers":{"text":["a","b"],"answer_start":[1]}}"#,
            "context-qa",
            &[(User, "c\n\nq"), (Assistant, "a")],
        ),
        (r#"{"Question":"q","Answer":7}"#, "question-answer", &[(User, "q"), (Assistant, "7")]),
    ] {
        assert_eq!(one(line), (shape.to_owned(), turns(wanted)), "{line}");
    }
}

#[test]
fn text_rows_are_learnt_whole() {
    for line in [r#"{"text":"t"}"#, r#"{"content":"t","id":1}"#, r#"{"body":"t"}"#, r#""t""#] {
        let dataset = try_read(&[line], &ReadOptions::default()).expect("text");
        assert_eq!(dataset.rows[0].example, Example::Text("t".to_owned()));
        assert_eq!(dataset.files[0].shape, "text");
    }
}

#[test]
fn json_instructions_join_the_question_with_double_newlines_s1_2() {
    let schema = serde_json::json!({"type": "object"});
    let line =
        r#"{"user":"q","system_hint":"s","assistant":"{}","requires_json":true,"json_schema":{"type":"object"}}"#;
    let user = format!("q\n\n{}", json_instruction(Some(&schema)));
    assert_eq!(one(line).1, turns(&[(Role::System, "s"), (Role::User, &user), (Role::Assistant, "{}")]));
    let line = r#"{"user":"q","assistant":"{}","requires_json":true,"json_instructions":"As JSON."}"#;
    assert_eq!(one(line).1, turns(&[(Role::User, "q\n\nAs JSON."), (Role::Assistant, "{}")]));
    let line = r#"{"user":"q","assistant":"a","requires_json":false,"json_schema":{"type":"object"}}"#;
    assert_eq!(one(line).1, turns(&[(Role::User, "q"), (Role::Assistant, "a")]));
    assert!(json_instruction(Some(&schema)).contains(r#"{"type":"object"}"#));
}

#[test]
fn only_the_completion_of_a_prompt_with_answers_is_learnt() {
    let line = r#"{"prompt":[{"role":"user","content":"q"},{"role":"assistant","content":"x"},{"role":"user","content":"r"}],"completion":"a"}"#;
    let dataset = try_read(&[line], &ReadOptions::default()).expect("known");
    let Example::Messages(turns) = &dataset.rows[0].example else { panic!("a conversation") };
    assert_eq!(turns.iter().map(|turn| turn.train).collect::<Vec<_>>(), [None, Some(false), None, None]);
}

#[test]
fn flags_of_messages_reach_the_turns_d1() {
    let line = r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a","weight":0},
        {"role":"user","content":"r","train":false},{"role":"assistant","content":"b","train":true}]}"#;
    let line = line.replace('\n', " ");
    let dataset = try_read(&[&line], &ReadOptions::default()).expect("known");
    let Example::Messages(turns) = &dataset.rows[0].example else { panic!("a conversation") };
    assert_eq!(turns.iter().map(|turn| turn.train).collect::<Vec<_>>(), [None, Some(false), Some(false), Some(true)]);
}

#[test]
fn mixed_layouts_are_read_row_by_row_and_strangers_are_put_aside() {
    let lines = [
        r#"{"question":"q","answer":"a"}"#,
        r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}"#,
        r#"{"foo":"q","bar":"a"}"#,
        r#"{"text":"t"}"#,
        r#"{"messages":[{"role":"narrator","content":"q"}]}"#,
        r#"{"question":"q","remark":"none"}"#,
        r#"{"question":"r","answer":"b"}"#,
        r#"{"question":"s","answer":"c"}"#,
    ];
    let dataset = try_read(&lines, &skipping()).expect("some are known");
    assert_eq!(dataset.rows.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 2, 4, 7, 8]);
    let reasons: Vec<(usize, &str)> = dataset.rejected.iter().map(|r| (r.line, r.reason.as_str())).collect();
    assert_eq!(reasons.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3, 5, 6]);
    assert!(reasons[0].1.contains("foo, bar"));
    assert!(reasons[1].1.contains("narrator"));
    assert_eq!(reasons[2].1, "no answer");
    assert!(dataset.files[0].notes.iter().any(|note| note.contains("different layouts")));
    assert!(dataset.files[0].confidence < 1.0);
}

#[test]
fn the_layout_is_decided_by_many_rows_and_not_by_the_first() {
    let mut lines = vec![r#"{"text":"a header row"}"#];
    lines.extend([r#"{"question":"q","answer":"a"}"#; 30]);
    let dataset = try_read(&lines, &ReadOptions::default()).expect("known");
    assert_eq!((dataset.files[0].shape.as_str(), dataset.rows.len()), ("question-answer", 31));
}

#[test]
fn columns_named_by_the_user_override_detection() {
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(part, name)| ((*part).to_owned(), (*name).to_owned())).collect()
    };
    let line = r#"{"question":"q","answer":"a","Better Answer":"b","tone":"s"}"#;
    let options = ReadOptions {
        columns: map(&[("user", "question"), ("assistant", "Better Answer"), ("system", "tone")]),
        ..ReadOptions::default()
    };
    let dataset = try_read(&[line], &options).expect("mapped");
    let wanted = vec![Turn::new(Role::System, "s"), Turn::new(Role::User, "q"), Turn::new(Role::Assistant, "b")];
    assert_eq!(dataset.rows[0].example, Example::Messages(wanted));

    let options = ReadOptions { columns: map(&[("text", "tone")]), ..ReadOptions::default() };
    assert_eq!(try_read(&[line], &options).expect("mapped").rows[0].example, Example::Text("s".to_owned()));

    let options =
        ReadOptions { columns: map(&[("user", "question"), ("assistant", "reply")]), ..ReadOptions::default() };
    let fault = try_read(&[line], &options).expect_err("no such column");
    assert_eq!(fault.code, "PS-DATA-003");
    assert!(fault.detail.contains("`reply`") && fault.detail.contains("`answer`"), "{}", fault.detail);

    let line = r#"{"log":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}"#;
    let options = ReadOptions { columns: map(&[("messages", "log")]), ..ReadOptions::default() };
    assert_eq!(try_read(&[line], &options).expect("mapped").rows.len(), 1);
}

#[test]
fn chosen_answers_can_be_mapped_but_are_not_taken_silently() {
    let line = r#"{"prompt":"q","chosen":"a","rejected":"b"}"#;
    let dataset = try_read(&[line], &ReadOptions::default()).expect("preference pairs");
    assert!(matches!(dataset.rows[0].example, Example::Preference { .. }));
    let split = peft_data::Split { train: vec![0], validation: Vec::new() };
    let fault = peft_data::select(&dataset.rows, &split, peft_plan::Objective::Sft).expect_err("nothing to copy");
    assert_eq!(fault.code, "PS-CFG-001");
    assert!(fault.detail.contains("chosen"), "{}", fault.detail);
    let columns =
        BTreeMap::from([("user".to_owned(), "prompt".to_owned()), ("assistant".to_owned(), "chosen".to_owned())]);
    let dataset = try_read(&[line], &ReadOptions { columns, ..ReadOptions::default() }).expect("mapped");
    assert_eq!(dataset.rows.len(), 1);
}

#[test]
fn undesired_answers_are_not_learnt() {
    let lines = [r#"{"prompt":"q","completion":"a","label":true}"#, r#"{"prompt":"q","completion":"b","label":false}"#];
    let dataset = try_read(&lines, &ReadOptions::default()).expect("known");
    let split = peft_data::Split { train: vec![0, 1], validation: Vec::new() };
    let kept = peft_data::select(&dataset.rows, &split, peft_plan::Objective::Sft).expect("one is wanted");
    assert_eq!((kept.split.train, kept.notes.len()), (vec![0], 1));
    // Read by another name, as before.
    let options = ReadOptions { format: Some("prompt-completion".to_owned()), ..ReadOptions::default() };
    let dataset = try_read(&lines, &options).expect("known");
    assert_eq!((dataset.rows.len(), dataset.rejected.len()), (1, 1));
}

#[test]
fn a_format_by_name_restricts_to_it() {
    let lines = [r#"{"text":"t","question":"q","answer":"a"}"#, r#"{"question":"q","answer":"a"}"#];
    let options = ReadOptions { format: Some("text".to_owned()), ..skipping() };
    let dataset = try_read(&lines, &options).expect("text");
    assert_eq!(dataset.rows.len(), 1);
    assert_eq!(dataset.rows[0].example, Example::Text("t".to_owned()));
    let options = ReadOptions { format: Some("parquet".to_owned()), ..ReadOptions::default() };
    assert_eq!(try_read(&lines, &options).expect_err("unknown").code, "PS-CFG-001");
}

#[test]
fn a_system_prompt_is_added_where_there_is_none() {
    let lines =
        [r#"{"question":"q","answer":"a"}"#, r#"{"system":"own","question":"q","answer":"a"}"#, r#"{"text":"t"}"#];
    let options = ReadOptions { system_prompt: Some("Be brief.".to_owned()), ..ReadOptions::default() };
    let dataset = try_read(&lines, &options).expect("known");
    let first = |index: usize| match &dataset.rows[index].example {
        Example::Messages(turns) => turns[0].content.clone(),
        other => other.texts().collect(),
    };
    assert_eq!([first(0), first(1), first(2)], ["Be brief.", "own", "t"]);
}
