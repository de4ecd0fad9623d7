//! Helper models over real sockets: what they say well, and every way in which they fail.

#[path = "../../../tests/src/helper.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
pub mod helper;
#[path = "../../../tests/src/listener.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
pub mod listener;

use helper::{MockHelper, Way};
use peft_plan::helper::{Ended, Helper, Question, Reach, Said, Service, Setback};
use peft_plan::{Role, Turn};
use peft_remote::helper::{HelperPatience, HelperSettings, open};
use serde_json::{Value, json};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

const KEY: &str = "sk-canary-1234567890";

fn settings(mock: &MockHelper, service: Service) -> HelperSettings {
    let base = if service == Service::Ollama { mock.host() } else { mock.base() };
    let variable = |name: &str| (name == "PEFT_STUDIO_HELPER_KEY").then(|| KEY.into());
    let mut settings = HelperSettings::read(service, Some(&base), variable).expect("an address");
    settings.patience = HelperPatience {
        connect: Duration::from_secs(2),
        first: Duration::from_millis(700),
        idle: Duration::from_millis(400),
        whole: Duration::from_secs(5),
    };
    settings
}

fn asked(mock: &MockHelper, service: Service) -> Result<(Said, String), Setback> {
    let turns = [Turn::new(Role::System, "Be brief."), Turn::new(Role::User, "Größe?")];
    let schema = json!({"type": "object"});
    let question = Question { turns: &turns, schema: Some(&schema), max_new_tokens: 64, temperature: 0.5, seed: 7 };
    let mut heard = String::new();
    let helper = open(&settings(mock, service)).expect("opens no socket");
    let said = helper.ask("m", &question, &mut |piece| {
        heard.push_str(piece);
        ControlFlow::Continue(())
    })?;
    Ok((said, heard))
}

fn mock(way: Way) -> MockHelper {
    MockHelper::new(move |_| way, |_| "Sehr groß: 42 Meter".to_owned())
}

const BOTH: [Service; 3] = [Service::Ollama, Service::OpenAi, Service::OpenRouter];

#[test]
fn an_answer_comes_in_pieces_with_its_counts_s2_3() {
    for service in BOTH {
        for way in [Way::Good, Way::Whole, Way::Cut] {
            let mock = mock(way);
            let (said, heard) = asked(&mock, service).expect("an answer");
            assert_eq!(said.text, "Sehr groß: 42 Meter", "{service:?} {way:?}");
            assert_eq!(heard, said.text, "{service:?} {way:?}");
            assert_eq!((said.prompt_tokens, said.generated_tokens), (100, 20), "{service:?} {way:?}");
            assert_eq!(said.ended == Ended::Length, way == Way::Cut);
            let log = mock.take_log();
            let request: Value = log[0].json();
            assert_eq!(request["messages"][1], json!({"role": "user", "content": "Größe?"}));
            assert_eq!(log[0].headers["authorization"], format!("Bearer {KEY}"));
            match service {
                Service::Ollama => assert_eq!(request["format"], json!({"type": "object"})),
                _ => assert_eq!(request["response_format"]["json_schema"]["schema"], json!({"type": "object"})),
            }
        }
    }
}

#[test]
fn every_failure_is_named_and_says_whether_asking_again_helps() {
    let cases = [
        (Way::Half, "broken"),
        (Way::ErrorInside, "failed"),
        (Way::WebPage, "nonsense"),
        (Way::Babble, "nonsense"),
        (Way::Status(401), "key"),
        (Way::Status(402), "credit"),
        (Way::Status(404), "no_model"),
        (Way::Status(500), "failed"),
        (Way::TooMany(30), "too_many"),
        (Way::Redirect, "nonsense"),
        (Way::HangUp, "broken"),
        (Way::Silent(1500), "silent"),
        (Way::Stalls(1500), "silent"),
        (Way::Endless, "nonsense"),
    ];
    for service in [Service::Ollama, Service::OpenAi] {
        for (way, kind) in cases {
            let begun = Instant::now();
            let setback = asked(&mock(way), service).expect_err("it fails");
            let is_babble = way == Way::Babble && service == Service::OpenAi;
            // To a stream of events a line that is none says nothing.
            assert_eq!(setback.kind(), if is_babble { "broken" } else { kind }, "{service:?} {way:?}: {setback:?}");
            assert!(begun.elapsed() < Duration::from_secs(4), "{service:?} {way:?}");
            assert!(!setback.into_fault("it", service).detail.contains(KEY));
        }
    }
    let wait = asked(&mock(Way::TooMany(30)), Service::OpenAi).expect_err("it fails");
    assert_eq!(wait, Setback::TooMany(Some(Duration::from_secs(30))));
}

#[test]
fn nobody_there_is_told_apart() {
    let mock = mock(Way::Good);
    let mut settings = settings(&mock, Service::Ollama);
    settings.base = "http://127.0.0.1:1".parse().expect("an address");
    let setback = open(&settings).expect("opens no socket").models().expect_err("nobody");
    assert_eq!(setback.kind(), "absent");
    assert_eq!(setback.reach(), Reach::Again);
    assert_eq!(setback.into_fault(&settings.who(), Service::Ollama).code, "PS-OLL-001");
}

#[test]
fn the_key_is_never_repeated_and_never_follows_a_redirect() {
    let setback = asked(&mock(Way::RepeatsKey), Service::OpenRouter).expect_err("it refuses");
    let fault = setback.into_fault("OpenRouter", Service::OpenRouter);
    assert_eq!(fault.code, "PS-OR-001");
    assert!(!fault.detail.contains("canary") && !format!("{fault:?}").contains("canary"), "{fault:?}");
    let mock = mock(Way::Redirect);
    assert_eq!(asked(&mock, Service::OpenAi).expect_err("not followed").kind(), "nonsense");
    assert_eq!(mock.take_log().len(), 1);
    assert!(!format!("{:?}", settings(&mock, Service::OpenAi)).contains("canary"));
}

#[test]
fn a_service_without_schemas_is_asked_in_another_way_and_remembered() {
    let mock = mock(Way::NoSchema);
    let helper = open(&settings(&mock, Service::OpenAi)).expect("opens no socket");
    let turns = [Turn::new(Role::User, "q")];
    let schema = json!({"type": "object"});
    let question = Question { turns: &turns, schema: Some(&schema), max_new_tokens: 8, temperature: 0.0, seed: 0 };
    for _ in 0..2 {
        helper.ask("m", &question, &mut |_| ControlFlow::Continue(())).expect("an answer");
    }
    let log = mock.take_log();
    // As the server of llama-cpp-python takes it.
    assert_eq!(log[1].json()["response_format"]["schema"], schema);
    let forms: Vec<Value> = log.iter().map(|heard| heard.json()["response_format"]["type"].clone()).collect();
    assert_eq!(forms, ["json_schema", "json_object", "json_object"]);
}

#[test]
fn who_has_had_enough_is_not_kept_waiting() {
    let mock = mock(Way::Silent(3000));
    let helper = open(&settings(&mock, Service::Ollama)).expect("opens no socket");
    let turns = [Turn::new(Role::User, "q")];
    let question = Question { turns: &turns, schema: None, max_new_tokens: 8, temperature: 0.0, seed: 0 };
    let begun = Instant::now();
    let setback = helper.ask("m", &question, &mut |_| ControlFlow::Break(())).expect_err("stopped");
    assert_eq!(setback, Setback::Enough);
    assert!(begun.elapsed() < Duration::from_millis(600));
}

#[test]
fn models_prices_and_credit_are_listed_s2_3() {
    let mock = mock(Way::Good);
    let ollama = open(&settings(&mock, Service::Ollama)).expect("opens no socket");
    let models = ollama.models().expect("a list");
    assert_eq!((models[0].name.as_str(), models[0].parameters.as_deref()), ("teacher:8b", Some("8B")));
    let router = open(&settings(&mock, Service::OpenRouter)).expect("opens no socket");
    let models = router.models().expect("a list");
    assert_eq!((models[0].prompt_price, models[0].answer_price), (Some(1e-6), Some(2e-6)));
    assert_eq!((models[0].takes_schema, models[1].prompt_price), (Some(true), None));
    let credit = router.credit().expect("known").expect("OpenRouter says");
    assert!((credit.used - 1.5).abs() < 1e-9 && credit.left == Some(8.5));
}

#[test]
fn vectors_come_in_the_order_of_their_texts_s0_6() {
    for service in BOTH {
        let mock = mock(Way::Good);
        let helper = open(&settings(&mock, service)).expect("opens no socket");
        let vectors = helper.embed("e", &["a", "bcd", "ef"]).expect("vectors");
        assert_eq!(vectors.iter().map(|vector| vector[0]).collect::<Vec<_>>(), [1.0, 3.0, 2.0], "{service:?}");
    }
    for service in BOTH {
        let mock = mock(Way::Half);
        let helper = open(&settings(&mock, service)).expect("opens no socket");
        assert_eq!(helper.embed("e", &["a", "b"]).expect_err("one is missing").kind(), "nonsense");
    }
}

#[test]
fn several_threads_ask_at_the_same_time() {
    let mock =
        MockHelper::new(|_| Way::Good, |request| request["messages"][0]["content"].as_str().unwrap_or("").to_owned());
    let helper = open(&settings(&mock, Service::OpenAi)).expect("opens no socket");
    let helper: &(dyn Helper + Send) = &*helper;
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for number in 0..10 {
                    let turns = [Turn::new(Role::User, format!("{thread}-{number}"))];
                    let question =
                        Question { turns: &turns, schema: None, max_new_tokens: 8, temperature: 0.0, seed: 0 };
                    let said = helper.ask("m", &question, &mut |_| ControlFlow::Continue(())).expect("an answer");
                    assert_eq!(said.text, format!("{thread}-{number}"));
                }
            });
        }
    });
    assert_eq!(mock.calls(), 40);
}
