//! What the hub refuses, in plain words with the right code; and names that would lead out of the cache.

use super::trial::{KEY, Trial, noise};
use peft_plan::Fault;
use peft_remote::{Kind, RepositoryId, Revision, Search, Token};
use peft_tests::hub::Step;
use serde_json::json;

fn refused(trial: &Trial) -> Fault {
    let fault = trial.download().expect_err("refused");
    assert!((2..=3).contains(&fault.shown_actions().len()));
    assert!(!trial.is_linked());
    fault
}

fn answer(status: u16, code: &str, message: &str) -> Step {
    Step::Status(status, vec![("x-error-code", code.to_owned()), ("x-error-message", message.to_owned())])
}

#[test]
fn who_may_not_is_told_why_and_what_to_do() {
    let cases = [
        (401, "", true, "PS-AUTH-003", "does not accept the token"),
        (401, "", false, "PS-AUTH-002", "private or gated"),
        (401, "RepoNotFound", false, "PS-MODEL-001", "no public model"),
        (401, "GatedRepo", false, "PS-AUTH-002", "accepted its terms"),
        (403, "GatedRepo", true, "PS-AUTH-001", "awaiting a review"),
        (403, "", true, "PS-AUTH-003", "awaiting a review"),
        (403, "", false, "PS-AUTH-001", "awaiting a review"),
        (404, "RepoNotFound", true, "PS-MODEL-001", "There is no model"),
        (404, "RevisionNotFound", true, "PS-MODEL-001", "no revision `main`"),
        (404, "", true, "PS-MODEL-001", "There is no model"),
    ];
    for (status, code, has_token, expected, words) in cases {
        let mut trial = Trial::with_weights(&noise(10));
        if !has_token {
            trial.settings.token = None;
        }
        trial.hub.script_api([answer(status, code, "awaiting a review")]);
        let fault = refused(&trial);
        assert_eq!(fault.code, expected, "{status} {code}: {}", fault.detail);
        assert!(fault.detail.contains(words), "{status} {code}: {}", fault.detail);
        // A refusal is an answer: it is not asked for again, but for a name like it.
        let asked = trial.hub.take_log().iter().filter(|request| request.line.contains("/revision/")).count();
        assert_eq!(asked, 1, "{status} {code}");
    }
}

#[test]
fn a_gated_file_of_a_repository_that_may_be_listed_is_refused_as_such() {
    let trial = Trial::with_weights(&noise(10));
    trial.hub.script(vec![answer(403, "GatedRepo", "ask first"); 9]);
    let fault = refused(&trial);
    assert_eq!(fault.code, "PS-AUTH-001", "{}", fault.detail);
    let page = format!("{}/owner/model", trial.hub.endpoint());
    assert!(fault.detail.contains(&page), "{}", fault.detail);
}

#[test]
fn a_token_opens_and_a_wrong_one_does_not() {
    let mut trial = Trial::with_weights(&noise(20_000));
    trial.hub.need_token("hf_other");
    assert_eq!(refused(&trial).code, "PS-AUTH-003");
    trial.settings.token = None;
    assert_eq!(refused(&trial).code, "PS-AUTH-002");
    trial.settings.token = Token::new("hf_other");
    assert!(trial.download().is_ok());
    trial.settings.token = Token::new("hf_\u{e9}\n x");
    let fault = peft_remote::Hub::new(trial.settings.clone()).err().map(|fault| fault.code);
    assert_eq!(fault, Some("PS-AUTH-003"));
}

#[test]
fn an_unknown_name_is_answered_with_the_nearest() {
    let trial = Trial::empty();
    trial.hub.found(json!([{"id": "Qwen/Qwen2.5-0.5B-Instruct"}, {"id": "x/y"}]));
    let id = RepositoryId::new("Qwen/Qwen2.5-0.5B-Instrukt").expect("an id");
    let fault = trial.connect().repository(Kind::Model, &id, &Revision::default()).expect_err("unknown");
    assert_eq!(fault.code, "PS-MODEL-001");
    assert!(fault.detail.contains("Did you mean `Qwen/Qwen2.5-0.5B-Instruct`?"), "{}", fault.detail);
}

#[test]
fn the_api_is_asked_again_where_that_helps_and_a_login_page_is_called_one() {
    let trial = Trial::with_weights(&noise(10));
    trial.hub.script_api([Step::Status(502, vec![]), Step::Reset(0), Step::Status(500, vec![])]);
    assert!(trial.download().is_ok());
    trial.hub.script_api(vec![Step::LoginPage; 5]);
    assert_eq!(refused_again(&trial).code, "PS-NET-004");
    trial.hub.script_api(vec![Step::Redirect(format!("{}/api/models", trial.hub.endpoint())); 50]);
    assert_eq!(refused_again(&trial).code, "PS-NET-003");
    trial.hub.script_api(vec![Step::Status(503, vec![]); 9]);
    assert_eq!(refused_again(&trial).code, "PS-NET-001");
    // A renamed repository redirects to its new name on the same host.
    trial.hub.script_api([Step::Redirect("/api/models/owner/model/revision/main?blobs=true".to_owned())]);
    assert!(trial.download().is_ok());
}

fn refused_again(trial: &Trial) -> Fault {
    trial.download().expect_err("refused")
}

#[test]
fn nobody_at_the_address_is_said_to_be_nobody() {
    let mut trial = Trial::empty();
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let endpoint = format!("http://127.0.0.1:{port}");
    trial.settings.endpoint = peft_remote::Settings::read(
        |name| Some(if name == "HF_ENDPOINT" { endpoint.clone() } else { "/x".into() }.into()),
        None,
    )
    .expect("settings")
    .endpoint;
    let search = Search { text: "x".into(), limit: 5, sort: "downloads" };
    let fault = trial.connect().search(&search).expect_err("nobody");
    assert_eq!(fault.code, "PS-NET-001", "{}", fault.detail);
    assert!(fault.detail.contains(&format!("127.0.0.1:{port}")), "{}", fault.detail);
}

#[test]
fn names_that_lead_out_of_the_cache_are_refused_before_anything_is_fetched() {
    for name in ["../../../.bashrc", "/etc/passwd", "a/../../x.json", "C:\\x.json", "..\\x.json", "a\u{0}b"] {
        let trial = Trial::with_weights(&noise(10));
        trial.hub.list_also(&[name]);
        let fault = refused(&trial);
        assert_eq!(fault.code, "PS-MODEL-005", "{name}: {}", fault.detail);
        assert!(!trial.cache.path().join("models--owner--model").exists(), "{name}");
    }
    let trial = Trial::empty();
    trial.hub.publish(
        KEY,
        &[
            ("config.json", b"{}"),
            ("model.safetensors.index.json", br#"{"weight_map":{"a":"../../../../x.safetensors"}}"#),
            ("model.safetensors", b"x"),
        ],
    );
    assert_eq!(refused(&trial).code, "PS-MODEL-005");
}

#[test]
fn what_cannot_be_trained_is_refused_by_its_kind() {
    let refuse = |files: &[(&str, &[u8])], code: &str| {
        let trial = Trial::empty();
        trial.hub.publish(KEY, files);
        assert_eq!(refused(&trial).code, code);
    };
    refuse(&[("config.json", b"{}"), ("pytorch_model.bin", b"x")], "PS-MODEL-004");
    refuse(&[("m.gguf", b"x")], "PS-MODEL-002");
    refuse(&[("adapter_config.json", b"{}"), ("adapter_model.safetensors", b"x")], "PS-MODEL-003");
    refuse(&[("config.json", b"{}"), ("model.safetensors.index.json", b"{}")], "PS-MODEL-005");
}
