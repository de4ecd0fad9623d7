//! Where a helper service is and who asks it: a key goes to the place it was made for, and nowhere else.
//!
//! `OPENROUTER_API_KEY` belongs to OpenRouter (or to `OPENROUTER_BASE_URL`), `OPENAI_API_KEY` to OpenAI (or to
//! `OPENAI_BASE_URL`). An address that is typed gets neither, only `PEFT_STUDIO_HELPER_KEY`, unless it is the same place.

use crate::ollama::Ollama;
use crate::settings::Token;
use peft_plan::helper::Service;
use peft_plan::{Fault, Result};
use reqwest::Url;
use std::ffi::OsString;
use std::net::IpAddr;
use std::time::Duration;

/// The key of an address that was typed.
const OWN_KEY: &str = "PEFT_STUDIO_HELPER_KEY";

/// How long is waited for a helper.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HelperPatience {
    /// For a connection.
    pub connect: Duration,
    /// For the first sign of an answer: a model may have to be loaded.
    pub first: Duration,
    /// For the next piece of an answer.
    pub idle: Duration,
    /// For a whole answer.
    pub whole: Duration,
}

impl Default for HelperPatience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first: Duration::from_mins(5),
            idle: Duration::from_mins(1),
            whole: Duration::from_mins(15),
        }
    }
}

/// Everything about a helper service that is decided before it is asked.
#[derive(Clone, Debug)]
pub struct HelperSettings {
    /// Who it is.
    pub service: Service,
    /// Where it is, without a slash at the end.
    pub base: Url,
    /// Who asks.
    pub key: Option<Token>,
    /// Where the key was found, for messages.
    pub key_source: Option<&'static str>,
    /// How long is waited.
    pub patience: HelperPatience,
}

impl HelperSettings {
    /// From this process's environment; `typed` is an address that was typed.
    pub fn from_environment(service: Service, typed: Option<&str>) -> Result<Self> {
        Self::read(service, typed, |name| std::env::var_os(name))
    }

    /// From variables as `variable` answers them.
    pub fn read(service: Service, typed: Option<&str>, variable: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let text = |name: &str| {
            let value = variable(name)?.to_string_lossy().trim().to_owned();
            (!value.is_empty()).then_some(value)
        };
        let (usual, key_name) = match service {
            Service::Ollama => (Ollama::address(text("OLLAMA_HOST").as_deref())?, "OLLAMA_API_KEY"),
            Service::OpenRouter => {
                (place(text("OPENROUTER_BASE_URL").as_deref(), "https://openrouter.ai/api/v1")?, "OPENROUTER_API_KEY")
            }
            Service::OpenAi => {
                (place(text("OPENAI_BASE_URL").as_deref(), "https://api.openai.com/v1")?, "OPENAI_API_KEY")
            }
            Service::Local => {
                return Err(Fault::new("PS-CFG-001", "A model of this program has no address.".to_owned()));
            }
        };
        let base = match typed {
            Some(typed) => address(typed)?,
            None => usual.clone(),
        };
        check(&base)?;
        let names =
            if base.origin() == usual.origin() { [Some(OWN_KEY), Some(key_name)] } else { [Some(OWN_KEY), None] };
        // The more special one wins at its own place.
        let found = names.into_iter().flatten().rev().find_map(|name| Some((Token::new(&text(name)?)?, name)));
        let (key, key_source) = found.map_or((None, None), |(key, name)| (Some(key), Some(name)));
        Ok(Self { service, base, key, key_source, patience: HelperPatience::default() })
    }

    /// Who is asked, for messages.
    pub fn who(&self) -> String {
        let name = match self.service {
            Service::Ollama => "Ollama",
            Service::OpenRouter => "OpenRouter",
            Service::OpenAi | Service::Local => "The service",
        };
        let host = self.base.host_str().unwrap_or_default();
        let port = self.base.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{name} at {host}{port}")
    }

    /// Nothing that is asked leaves this computer.
    pub fn is_here(&self) -> bool {
        is_loopback(&self.base)
    }
}

fn place(given: Option<&str>, usual: &str) -> Result<Url> {
    address(given.unwrap_or(usual))
}

fn address(text: &str) -> Result<Url> {
    let bad =
        |why: &str| Fault::new("PS-CFG-001", format!("`{}` is no address of a helper service: {why}.", shown(text)));
    let url = Url::parse(text.trim().trim_end_matches('/')).map_err(|_| bad("write it as http://127.0.0.1:8080/v1"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(bad("it is not one of the web"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(bad("it says more than where the service is; a key belongs into PEFT_STUDIO_HELPER_KEY"));
    }
    Ok(url)
}

/// What was typed may hold a password.
fn shown(text: &str) -> String {
    let text = text.rsplit('@').next().unwrap_or_default();
    text.split('?').next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(100).collect()
}

/// Documents travel encrypted, unless they stay in the house; and never to the machine's own equipment.
fn check(url: &Url) -> Result<()> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let ip = host.parse::<IpAddr>().ok();
    let is_link_local = match ip {
        Some(IpAddr::V4(ip)) => ip.is_link_local(),
        Some(IpAddr::V6(ip)) => ip.is_unicast_link_local(),
        None => false,
    };
    let is_house = is_loopback(url)
        || match ip {
            Some(IpAddr::V4(ip)) => ip.is_private(),
            Some(IpAddr::V6(ip)) => ip.is_unique_local(),
            None => !host.contains('.') || matches!(host.rsplit('.').next(), Some("local" | "internal")),
        };
    if is_link_local || (url.scheme() == "http" && !is_house) {
        let detail =
            format!("What is sent to {host} could be read on the way; use an address that begins with https://.");
        return Err(Fault::new("PS-CFG-001", detail));
    }
    Ok(())
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn read(service: Service, typed: Option<&str>, variables: &[(&str, &str)]) -> Result<HelperSettings> {
        let map: HashMap<&str, &str> = variables.iter().copied().collect();
        HelperSettings::read(service, typed, |name| map.get(name).map(OsString::from))
    }

    #[test]
    fn a_key_goes_to_the_place_it_was_made_for_and_nowhere_else() {
        let keys = [("OPENAI_API_KEY", "sk-openai"), ("OPENROUTER_API_KEY", "sk-or")];
        let key = |service, typed, more: &[(&str, &str)]| {
            let settings = read(service, typed, &[&keys[..], more].concat()).expect("settings");
            settings.key.map(|key| key.secret().to_owned())
        };
        assert_eq!(key(Service::OpenAi, None, &[]).as_deref(), Some("sk-openai"));
        assert_eq!(key(Service::OpenRouter, None, &[]).as_deref(), Some("sk-or"));
        assert_eq!(key(Service::OpenAi, Some("https://other.example/v1"), &[]), None);
        assert_eq!(key(Service::OpenRouter, Some("http://127.0.0.1:9/v1"), &[]), None);
        assert_eq!(key(Service::OpenAi, Some("https://api.openai.com/v1"), &[]).as_deref(), Some("sk-openai"));
        let own = [(OWN_KEY, "own")];
        assert_eq!(key(Service::OpenAi, Some("https://other.example/v1"), &own).as_deref(), Some("own"));
        let moved = [("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1")];
        assert_eq!(key(Service::OpenAi, None, &moved).as_deref(), Some("sk-openai"));
        assert_eq!(key(Service::Ollama, None, &[]), None);
    }

    #[test]
    fn addresses_that_would_leak_are_refused_without_showing_what_they_hold() {
        for bad in [
            "http://api.example.com/v1",
            "http://169.254.169.254/v1",
            "ftp://a",
            "https://u:pw@h/v1",
            "https://h/?key=pw",
            "h",
        ] {
            let fault = read(Service::OpenAi, Some(bad), &[]).expect_err(bad);
            assert_eq!(fault.code, "PS-CFG-001", "{bad}");
            assert!(!fault.detail.contains("pw"), "{}", fault.detail);
        }
        for good in
            ["http://127.0.0.1:8080/v1/", "http://192.168.1.5:1234/v1", "http://nas:1/v1", "https://a.example/v1"]
        {
            assert!(read(Service::OpenAi, Some(good), &[]).is_ok(), "{good}");
        }
    }

    #[test]
    fn ollama_is_where_its_own_variable_says() {
        let settings = read(Service::Ollama, None, &[]).expect("settings");
        assert_eq!(settings.base.as_str(), "http://127.0.0.1:11434/");
        assert!(settings.is_here() && settings.who() == "Ollama at 127.0.0.1:11434");
        assert!(!read(Service::OpenRouter, None, &[]).expect("settings").is_here());
    }
}
