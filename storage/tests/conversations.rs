//! S4.7.5: conversations are kept, found again by their words, judged, and outlive their run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use peft_plan::Role;
use peft_storage::{Choice, CommandKind, NewConversation, NewMessage, NewRun, Side, Store};
use serde_json::{Value, json};

fn said(role: Role, side: Option<Side>, content: &str) -> NewMessage {
    NewMessage { role, side, content: content.to_owned(), details: Value::Null }
}

#[test]
fn a_conversation_comes_back_as_it_was() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path()).unwrap();
    let run = store.create_run(&NewRun { name: "r".to_owned(), ..NewRun::default() }).unwrap();
    let new = NewConversation { run: Some(run.to_string()), model: "starter".to_owned(), ..NewConversation::default() };
    let id = store.create_conversation(&new).unwrap();
    let question = format!("  What is\n100% of {}?", "it ".repeat(60));
    let first = store
        .add_messages(
            id,
            &[
                said(Role::User, None, &question),
                said(Role::Assistant, Some(Side::Base), "I do not know"),
                NewMessage { details: json!({"step": 7}), ..said(Role::Assistant, Some(Side::Tuned), "All of it") },
            ],
        )
        .unwrap();
    assert_eq!((first, store.add_messages(id, &[said(Role::User, None, "So?")]).unwrap()), (1, 4));
    store.vote(id, 1, Some(Choice::Base)).unwrap();
    store.vote(id, 1, Some(Choice::Tuned)).unwrap();
    let (conversation, messages) = store.conversation(id).unwrap();
    assert!(conversation.title.starts_with("What is 100% of it it") && conversation.title.ends_with('…'));
    assert_eq!((conversation.messages, conversation.title.chars().count()), (4, 80));
    assert_eq!(messages[0].content, question);
    assert_eq!(messages[0].vote, Some(Choice::Tuned));
    assert_eq!((messages[1].side, messages[2].side), (Some(Side::Base), Some(Side::Tuned)));
    assert_eq!(messages[2].details["step"], 7);
    store.vote(id, 1, None).unwrap();
    assert_eq!(store.conversation(id).unwrap().1[0].vote, None);
    // Only questions are voted on.
    assert_eq!(store.vote(id, 2, Some(Choice::Both)).unwrap_err().code, "PS-RUN-001");

    store.delete_run(run.as_str()).unwrap();
    assert_eq!(store.conversation(id).unwrap().0.run, None);
    store.check().unwrap();
    store.delete_conversation(id).unwrap();
    assert_eq!(store.conversation(id).unwrap_err().code, "PS-RUN-001");
    assert_eq!(store.add_messages(id, &[]).unwrap_err().code, "PS-RUN-001");
    store.check().unwrap();
}

#[test]
fn conversations_are_found_by_their_words_and_by_nothing_else() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path()).unwrap();
    let mut ids = Vec::new();
    for text in ["the red house", "a 50% discount", "under_score"] {
        let id = store
            .create_conversation(&NewConversation { model: "m".to_owned(), ..NewConversation::default() })
            .unwrap();
        store.add_messages(id, &[said(Role::User, None, "Hello"), said(Role::Assistant, None, text)]).unwrap();
        ids.push(id);
    }
    store.rename_conversation(ids[0], "About 'quotes'; DROP TABLE messages").unwrap();
    let found = |words: &str| -> Vec<i64> {
        store.conversations(Some(words), 10).unwrap().iter().map(|conversation| conversation.id).collect()
    };
    assert_eq!(found("RED"), [ids[0]]);
    assert_eq!(found("0%"), [ids[1]]);
    assert_eq!(found("_"), [ids[2]]);
    assert_eq!(found("'quotes';"), [ids[0]]);
    assert!(found("\\").is_empty());
    assert_eq!(store.conversations(None, 2).unwrap().len(), 2);
}

#[test]
fn live_runs_can_be_asked_everything_and_numbers_go_on() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path()).unwrap();
    let run = store.create_run(&NewRun::default()).unwrap();
    let kinds =
        [CommandKind::Pause, CommandKind::Stop, CommandKind::Evaluate, CommandKind::Snapshot, CommandKind::Answer];
    for kind in kinds {
        store.push_command(run.as_str(), kind, &json!({"kind": kind})).unwrap();
    }
    let taken = store.take_commands(run.as_str()).unwrap();
    assert_eq!(taken.iter().map(|command| command.kind).collect::<Vec<_>>(), kinds);
    assert_eq!(taken[4].payload, json!({"kind": "answer"}));
}
