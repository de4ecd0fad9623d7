//! Where the hub is, where its files are kept, and who asks: the environment variables of Hugging Face.

use peft_plan::{Fault, Result};
use reqwest::Url;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the hub is when nobody says otherwise.
const ENDPOINT: &str = "https://huggingface.co";

/// A secret of the user. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token, white space around it removed; `None` where nothing is left.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    pub(crate) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// How long is waited, and how often something is tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patience {
    /// Tries of one file, or of one question, without any progress between them.
    pub attempts: u32,
    /// Wait before the second try; doubled each time.
    pub first_wait: Duration,
    /// Longest wait between two tries, where the server does not name one.
    pub longest_wait: Duration,
    /// A server that says nothing for so long is given up on.
    pub stall: Duration,
    /// Longest wait that a server may ask for, all its requests together.
    pub longest_retry_after: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(8),
            stall: Duration::from_secs(10),
            longest_retry_after: Duration::from_mins(5),
        }
    }
}

/// Everything about the hub that the environment decides.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the hub is, without a slash at the end.
    pub endpoint: Url,
    /// Where its files are kept (`HF_HUB_CACHE`).
    pub cache: PathBuf,
    /// Who asks.
    pub token: Option<Token>,
    /// Where the token was found, for messages.
    pub token_source: Option<String>,
    /// What forbids the network, if something does, for messages.
    pub offline: Option<String>,
    /// Links are not made even where the system could.
    pub without_links: bool,
    /// How long is waited.
    pub patience: Patience,
    /// Files fetched at the same time.
    pub at_once: usize,
}

impl Settings {
    /// From this process's environment.
    pub fn from_environment(home: Option<&Path>) -> Result<Self> {
        Self::read(|name| std::env::var_os(name), home)
    }

    /// From variables as `variable` answers them, with the home directory `home`.
    pub fn read(variable: impl Fn(&str) -> Option<OsString>, home: Option<&Path>) -> Result<Self> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).map(|value| value.to_string_lossy().trim().to_owned());
        let folder = |name: &str| set(name).map(|value| expand(PathBuf::from(value), home));
        let cache = Self::cache(&variable, home)?;
        let hugging_face = hugging_face(&folder, home);
        let is_on = |name: &str| text(name).is_some_and(|value| is_true(&value));
        let (token, token_source) = token(&set, &is_on, hugging_face.as_deref(), home);
        let offline = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
            .into_iter()
            .find(|name| is_on(name))
            .map(|name| format!("the environment variable {name}"));
        let mut patience = Patience::default();
        if let Some(seconds) = text("HF_HUB_DOWNLOAD_TIMEOUT").and_then(|value| value.parse::<f64>().ok())
            && (0.1..=3600.0).contains(&seconds)
        {
            patience.stall = Duration::from_secs_f64(seconds);
        }
        Ok(Self {
            endpoint: endpoint(text("HF_ENDPOINT").as_deref().unwrap_or(ENDPOINT))?,
            cache,
            token,
            token_source,
            offline,
            without_links: is_on("HF_HUB_DISABLE_SYMLINKS"),
            patience,
            at_once: 4,
        })
    }

    /// Where the files of the hub are kept; all that must be known to use what is here.
    pub fn cache(variable: impl Fn(&str) -> Option<OsString>, home: Option<&Path>) -> Result<PathBuf> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let folder = |name: &str| set(name).map(|value| expand(PathBuf::from(value), home));
        let cache = folder("HF_HUB_CACHE")
            .or_else(|| folder("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| hugging_face(&folder, home).map(|place| place.join("hub")));
        let Some(cache) = cache else {
            let detail = "This account has no home folder; name a folder for models with `HF_HOME`.";
            return Err(Fault::new("PS-FILE-001", detail));
        };
        Ok(std::path::absolute(&cache).unwrap_or(cache))
    }

    /// PS-NET-001 where the network is forbidden; asked before the first socket.
    pub(crate) fn check_online(&self) -> Result<()> {
        match &self.offline {
            None => Ok(()),
            Some(why) => Err(Fault::new(
                "PS-NET-001",
                format!("Working offline was asked for by {why}, so nothing was fetched from {}.", self.endpoint),
            )
            .action("Work with the models that are here", Some("peft-studio models list".to_owned()))),
        }
    }
}

fn hugging_face(folder: &impl Fn(&str) -> Option<PathBuf>, home: Option<&Path>) -> Option<PathBuf> {
    folder("HF_HOME")
        .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("huggingface")))
        .or_else(|| home.map(|home| home.join(".cache").join("huggingface")))
}

fn endpoint(text: &str) -> Result<Url> {
    let bad = |why: &str| {
        let detail = format!("`HF_ENDPOINT` is `{text}`, {why}. Write it as {ENDPOINT}.");
        Fault::new("PS-CFG-001", detail)
    };
    let url = Url::parse(text.trim_end_matches('/')).map_err(|_| bad("which is not an address"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(bad("which is not an address of the web"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(bad("which says more than where the hub is"));
    }
    Ok(url)
}

fn token(
    set: &impl Fn(&str) -> Option<OsString>,
    is_on: &impl Fn(&str) -> bool,
    hugging_face: Option<&Path>,
    home: Option<&Path>,
) -> (Option<Token>, Option<String>) {
    for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
        if let Some(token) = set(name).and_then(|value| Token::new(&value.to_string_lossy())) {
            return (Some(token), Some(format!("the environment variable {name}")));
        }
    }
    if is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return (None, None);
    }
    let path = set("HF_TOKEN_PATH")
        .map(|path| expand(PathBuf::from(path), home))
        .or_else(|| hugging_face.map(|place| place.join("token")));
    let found = path.and_then(|path| {
        // A token is a line; whatever is larger is another file.
        let is_small = std::fs::metadata(&path).is_ok_and(|data| data.is_file() && data.len() <= 4096);
        let text = if is_small { std::fs::read_to_string(&path).ok()? } else { return None };
        Some((Token::new(&text)?, format!("the file {}", path.display())))
    });
    match found {
        Some((token, source)) => (Some(token), Some(source)),
        None => (None, None),
    }
}

/// Python expands `~` in these variables, and so do we.
fn expand(path: PathBuf, home: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

fn is_true(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].iter().any(|word| value.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn read(variables: &[(&str, &str)], home: Option<&Path>) -> Result<Settings> {
        let map: HashMap<&str, &str> = variables.iter().copied().collect();
        Settings::read(|name| map.get(name).map(OsString::from), home)
    }

    #[test]
    fn the_most_specific_variable_decides_the_cache() {
        let home = Some(Path::new("/h"));
        let cache = |variables: &[(&str, &str)]| read(variables, home).expect("settings").cache;
        assert_eq!(cache(&[]), Path::new("/h/.cache/huggingface/hub"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(cache(&[("HF_HOME", "~/hf"), ("XDG_CACHE_HOME", "/x")]), Path::new("/h/hf/hub"));
        assert_eq!(cache(&[("HF_HOME", "/hf"), ("HUGGINGFACE_HUB_CACHE", "/old")]), Path::new("/old"));
        assert_eq!(cache(&[("HF_HUB_CACHE", "/new"), ("HUGGINGFACE_HUB_CACHE", "/old")]), Path::new("/new"));
        assert_eq!(read(&[], None).expect_err("nowhere").code, "PS-FILE-001");
    }

    #[test]
    fn the_token_of_the_environment_wins_over_the_file_and_is_never_printed() {
        let home = tempfile::tempdir().expect("a directory");
        let place = home.path().join(".cache/huggingface");
        std::fs::create_dir_all(&place).expect("created");
        std::fs::write(place.join("token"), "hf_file\n").expect("written");
        let settings = |variables: &[(&str, &str)]| read(variables, Some(home.path())).expect("settings");
        assert_eq!(settings(&[]).token.expect("of the file").secret(), "hf_file");
        assert_eq!(settings(&[("HF_TOKEN", " hf_env ")]).token.expect("of the environment").secret(), "hf_env");
        assert_eq!(settings(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).token, None);
        assert!(!format!("{:?}", settings(&[])).contains("hf_file"));
    }

    #[test]
    fn offline_is_said_in_the_words_of_python_and_names_its_variable() {
        for word in ["1", "on", "Yes", "TRUE"] {
            let offline = read(&[("HF_HUB_OFFLINE", word)], Some(Path::new("/h"))).expect("settings").offline;
            assert!(offline.is_some_and(|why| why.contains("HF_HUB_OFFLINE")));
        }
        let settings = read(&[("HF_HUB_OFFLINE", "0")], Some(Path::new("/h"))).expect("settings");
        assert!(settings.check_online().is_ok());
    }

    #[test]
    fn an_endpoint_is_an_address_and_nothing_more() {
        for bad in ["mirror", "ftp://a", "http://", "https://u:p@h", "https://h/?a=1", "file:///x"] {
            assert_eq!(read(&[("HF_ENDPOINT", bad)], Some(Path::new("/h"))).expect_err(bad).code, "PS-CFG-001");
        }
        let settings = read(&[("HF_ENDPOINT", "https://mirror.example/hf/")], Some(Path::new("/h"))).expect("settings");
        assert_eq!(settings.endpoint.as_str(), "https://mirror.example/hf");
    }
}
