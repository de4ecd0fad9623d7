//! A dataset that another program of this computer asks for (S3.2): what a request may say, and who writes it.

use super::answer::Refused;
use super::{Job, Told};
use peft_plan::Result;
use serde_json::{Map, Value};

/// Where it is asked for.
pub(super) const PATH: &str = "/api/finetune/export";

/// What is asked for. The format is `chatml`, the only one there is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExportRequest {
    /// Leave out what is not good for training.
    pub quality_filter: bool,
    /// Leave out copies.
    pub deduplicate: bool,
    /// Put the standing instructions before every conversation.
    pub include_system: bool,
    /// Share that is held out; `None` is what the server was started with.
    pub validation_split: Option<f64>,
}

/// Whoever writes it.
pub trait Exporter {
    /// Write it, and say what was written.
    fn export(&mut self, request: &ExportRequest) -> Result<Value>;
}

/// What the body of a request says; every field has a default, and one that is not known is refused by name.
pub(super) fn request(fields: &Map<String, Value>) -> Result<ExportRequest, Refused> {
    const KNOWN: [&str; 5] = ["format", "quality_filter", "deduplicate", "include_system", "validation_split"];
    if let Some(name) = fields.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        let name: String = name.chars().filter(|c| !c.is_control()).take(60).collect();
        return Err(Refused::field(&name, &format!("there are {}", KNOWN.join(", "))));
    }
    match fields.get("format") {
        None | Some(Value::Null) => {}
        Some(Value::String(name)) if name.eq_ignore_ascii_case("chatml") => {}
        Some(_) => return Err(Refused::field("format", "it can be `chatml`")),
    }
    let flag = |name: &str, usual: bool| match fields.get(name) {
        None | Some(Value::Null) => Ok(usual),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(Refused::field(name, "it can be true or false")),
    };
    let validation_split = match fields.get("validation_split") {
        None | Some(Value::Null) => None,
        Some(Value::Number(share)) => match share.as_f64().filter(|share| (0.0..1.0).contains(share)) {
            Some(share) => Some(share),
            None => return Err(Refused::field("validation_split", "it can be 0 to below 1")),
        },
        Some(_) => return Err(Refused::field("validation_split", "it is a number")),
    };
    let (quality_filter, deduplicate) = (flag("quality_filter", false)?, flag("deduplicate", false)?);
    Ok(ExportRequest { quality_filter, deduplicate, include_system: flag("include_system", true)?, validation_split })
}

/// The writer's side. Whoever hung up while they waited does not want it any more.
pub(super) fn answer(exporter: &mut dyn Exporter, job: Job) {
    if let Job::Export(request, to) = job
        && !to.is_closed()
    {
        drop(to.send(exporter.export(&request).map_or_else(Told::Failed, Told::Exported)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: &Value) -> Result<ExportRequest, u16> {
        request(body.as_object().expect("an object")).map_err(|refused| refused.status)
    }

    #[test]
    fn a_request_says_what_it_wants_or_is_refused_s3_2() {
        let asked = json!({"format": "chatml", "quality_filter": true, "deduplicate": true, "validation_split": 0.1});
        let expected = ExportRequest {
            quality_filter: true,
            deduplicate: true,
            include_system: true,
            validation_split: Some(0.1),
        };
        assert_eq!(read(&asked), Ok(expected));
        let plain = ExportRequest { quality_filter: false, deduplicate: false, validation_split: None, ..expected };
        assert_eq!(read(&json!({})), Ok(plain));
        for bad in [
            json!({"format": "alpaca"}),
            json!({"path": "/etc/passwd"}),
            json!({"deduplicate": "yes"}),
            json!({"validation_split": 1.0}),
            json!({"validation_split": -0.1}),
        ] {
            assert_eq!(read(&bad), Err(400), "{bad}");
        }
    }
}
