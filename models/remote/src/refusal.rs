//! An answer that says no: to whom, why, and what the person can do.

use crate::http::Answer;
use crate::name::{Kind, RepositoryId, Revision};
use crate::settings::Settings;
use crate::trouble::Trouble;
use peft_plan::Fault;
use reqwest::StatusCode;

/// What was asked for.
pub(crate) struct Subject<'a> {
    pub(crate) kind: Kind,
    pub(crate) id: &'a RepositoryId,
    pub(crate) revision: &'a Revision,
    pub(crate) file: Option<&'a str>,
}

/// The hub's reason, in its header fields.
struct Reason {
    status: u16,
    code: String,
    message: String,
}

/// What an answer with a status of the 4xx means.
pub(crate) fn refused(
    status: StatusCode,
    answer: &Answer,
    subject: Option<&Subject<'_>>,
    settings: &Settings,
) -> Trouble {
    let text = |name: &str| {
        let value = answer.hub_headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        value.chars().filter(|c| !c.is_control()).take(300).collect::<String>()
    };
    let reason = Reason { status: status.as_u16(), code: text("x-error-code"), message: text("x-error-message") };
    // An address that was signed for this file has run out; the hub signs another.
    if answer.is_foreign {
        return Trouble::Busy(reason.status);
    }
    match subject {
        Some(subject) => explain(&reason, subject, settings),
        None if reason.status == 401 => Trouble::fault(no_longer_works(settings)),
        None => Trouble::Confused(format!("it answered {}", reason.status)),
    }
}

fn explain(reason: &Reason, subject: &Subject<'_>, settings: &Settings) -> Trouble {
    let Subject { kind, id, revision, file } = subject;
    let (noun, endpoint) = (kind.noun(), settings.endpoint.as_str().trim_end_matches('/'));
    let page = match kind {
        Kind::Model => format!("{endpoint}/{id}"),
        Kind::Dataset => format!("{endpoint}/datasets/{id}"),
    };
    let is_gated = reason.code == "GatedRepo";
    let has_token = settings.token.is_some();
    let missing = |detail: String| Fault::new("PS-MODEL-001", detail);
    Trouble::fault(match (reason.status, reason.code.as_str()) {
        (401, _) if is_gated && !has_token => Fault::new(
            "PS-AUTH-002",
            format!(
                "`{id}` is given only to people who accepted its terms. Sign in at {page}, accept them, and make a read \
                 token known as `HF_TOKEN`."
            ),
        )
        .action(format!("Accept the terms at {page}"), None),
        (401, "RepoNotFound") => missing(format!(
            "There is no public {noun} `{id}` at {endpoint}. If it is private, a token of one of its members is needed."
        )),
        (401, _) if has_token => no_longer_works(settings),
        (401, _) => Fault::new(
            "PS-AUTH-002",
            format!("{endpoint} gives `{id}` only to people it knows: the {noun} is private or gated, or there is none of that name."),
        ),
        (403, _) if is_gated => Fault::new(
            "PS-AUTH-001",
            format!("Your account may not fetch `{id}` yet. Accept its terms at {page}.{}", quoted(&reason.message)),
        )
        .action(format!("Accept the terms at {page}, then try again"), None),
        (403, _) if has_token && !reason.message.contains("disabled") => Fault::new(
            "PS-AUTH-003",
            format!(
                "The token from {} may not fetch `{id}`; a fine-grained token needs the right to read gated \
                 repositories.{}",
                settings.token_source.as_deref().unwrap_or("your settings"),
                quoted(&reason.message)
            ),
        ),
        (403, _) => Fault::new("PS-AUTH-001", format!("{endpoint} does not give out `{id}`.{}", quoted(&reason.message))),
        (404, "RevisionNotFound") => {
            missing(format!("The {noun} `{id}` has no revision `{}`.", revision.as_str()))
        }
        (404, _) if file.is_some() => Fault::new(
            "PS-MODEL-003",
            format!("The {noun} `{id}` has no file `{}` at {}.", file.unwrap_or_default(), revision.as_str()),
        ),
        (404, _) => missing(format!("There is no {noun} `{id}` at {endpoint}.")),
        (status, _) => return Trouble::Confused(format!("it answered {status}{}", quoted(&reason.message))),
    })
}

fn no_longer_works(settings: &Settings) -> Fault {
    let source = settings.token_source.as_deref().unwrap_or("your settings");
    Fault::new("PS-AUTH-003", format!("{} does not accept the token from {source}.", settings.endpoint))
}

fn quoted(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" The hub says: \"{message}\"") }
}
