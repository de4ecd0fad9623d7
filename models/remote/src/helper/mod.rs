//! Helper models: Ollama, OpenRouter, and whatever else speaks OpenAI's protocol (S2.3, S2.10, D8).
//!
//! | file | holds |
//! | --- | --- |
//! | `address` | where the service is and who asks; which key goes where |
//! | `link` | one request: streamed, with an end to every wait and to every answer |
//! | `no` | an answer that says no, as a [`Setback`] |
//! | `line` | lines of a stream of bytes |
//! | `ollama` | Ollama's own protocol |
//! | `openai` | OpenAI's protocol, with what OpenRouter adds |

mod address;
mod line;
mod link;
mod no;
mod ollama;
mod openai;

pub use address::{HelperPatience, HelperSettings};

use link::Link;
use peft_plan::Result;
use peft_plan::helper::{Helper, Service, Setback};

/// Opens no socket.
pub fn open(settings: &HelperSettings) -> Result<Box<dyn Helper + Send>> {
    let service = settings.service;
    let link = Link::new(settings).map_err(|why: Setback| why.into_fault(&settings.who(), service))?;
    Ok(match service {
        Service::Ollama => Box::new(ollama::OllamaHelper::new(link)),
        _ => Box::new(openai::OpenAiHelper::new(link, service)),
    })
}
