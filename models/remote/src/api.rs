//! What the hub answers about repositories: what one holds, and which there are.

use crate::cache::Cache;
use crate::http::{Answer, DOCUMENT_BYTES, Http, busy, is_web_page};
use crate::name::{Kind, RepositoryId, Revision, is_commit, is_safe_path};
use crate::partial::Expected;
use crate::recommended;
use crate::refusal::{Subject, refused};
use crate::settings::Settings;
use crate::trouble::{Budget, Trouble};
use peft_plan::{Fault, Result};
use reqwest::Url;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use tokio::runtime::Runtime;

/// One file of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RemoteFile {
    /// Its path in the repository; safe on every system.
    pub path: String,
    /// Its length, where the hub says it.
    pub bytes: Option<u64>,
    /// SHA-256 of a large file, git's SHA-1 of a small one.
    #[serde(skip)]
    pub(crate) expected: Option<Expected>,
}

/// What is known of a repository without fetching its files.
#[derive(Clone, Debug)]
pub struct Repository {
    /// What it is.
    pub kind: Kind,
    /// Its id, as it was asked for.
    pub id: RepositoryId,
    /// What the revision means today.
    pub commit: String,
    /// Its files.
    pub files: Vec<RemoteFile>,
    /// Title data, as in a search.
    pub about: Found,
}

/// A repository as a search describes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Found {
    /// Its id.
    pub id: String,
    /// Downloads of the last month.
    pub downloads: Option<u64>,
    /// People who like it.
    pub likes: Option<u64>,
    /// Its licence, in the words of the hub.
    pub licence: Option<String>,
    /// Its terms must be accepted first.
    pub gated: bool,
    /// Only its members see it.
    pub private: bool,
    /// Parameters, where it has safetensors.
    pub parameters: Option<u64>,
    /// Bytes of its weights, from the types of its parameters.
    pub weight_bytes: Option<u64>,
    /// Class name of the model.
    pub architecture: Option<String>,
    /// Weights that can be read: `safetensors`, `gguf` or `pickle`.
    pub weights: Option<&'static str>,
    /// When it was changed last.
    pub changed: Option<String>,
}

/// What to search for.
#[derive(Clone, Debug)]
pub struct Search {
    /// Words, or `owner/name`.
    pub text: String,
    /// At most so many.
    pub limit: usize,
    /// What comes first: `downloads`, `likes`, `trendingScore` or `lastModified`.
    pub sort: &'static str,
}

/// One hub. Making it opens no socket; asking it does.
pub struct Hub {
    pub(crate) settings: Settings,
    pub(crate) http: Http,
    pub(crate) runtime: Runtime,
}

impl Hub {
    /// The hub of `settings`; PS-NET-001 where the network is forbidden.
    pub fn new(settings: Settings) -> Result<Self> {
        settings.check_online()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Fault::new("PS-NET-001", "The system has no room for a connection.").caused_by(error))?;
        let http =
            Http::new(&settings).map_err(|trouble| trouble.into_fault("The hub", settings.endpoint.as_str(), 0))?;
        Ok(Self { settings, http, runtime })
    }

    /// Where the cache is.
    pub fn cache(&self) -> Cache {
        Cache::new(&self.settings.cache)
    }

    /// Repositories that match, the first the best.
    pub fn search(&self, search: &Search) -> Result<Vec<Found>> {
        self.runtime.block_on(self.find(search))
    }

    /// What a repository holds.
    pub fn repository(&self, kind: Kind, id: &RepositoryId, revision: &Revision) -> Result<Repository> {
        self.runtime.block_on(self.look_up(kind, id, revision))
    }

    /// A small file of a repository, unverified: to look at before anything is decided.
    pub fn peek(&self, repository: &Repository, path: &str) -> Result<Vec<u8>> {
        self.runtime.block_on(self.small_file(repository, path))
    }

    pub(crate) async fn find(&self, search: &Search) -> Result<Vec<Found>> {
        let mut url = self.http.address(["api", "models"]);
        url.query_pairs_mut()
            .append_pair("search", &search.text)
            .append_pair("sort", search.sort)
            .append_pair("limit", &search.limit.to_string());
        for field in ["downloads", "likes", "tags", "gated", "private", "config", "safetensors", "lastModified"] {
            url.query_pairs_mut().append_pair("expand[]", field);
        }
        let what = format!("The search for `{}`", search.text);
        let document = self.document(url, &what, None).await?;
        let Value::Array(items) = document else {
            return Err(Trouble::Confused("it is no list".to_owned()).into_fault(&what, &self.http.host(), 0));
        };
        Ok(items.iter().filter_map(found).take(search.limit).collect())
    }

    pub(crate) async fn look_up(&self, kind: Kind, id: &RepositoryId, revision: &Revision) -> Result<Repository> {
        match self.ask(kind, id, revision).await {
            Err(fault) if fault.code == "PS-MODEL-001" && kind == Kind::Model => {
                Err(self.with_suggestion(fault, id).await)
            }
            result => result,
        }
    }

    async fn ask(&self, kind: Kind, id: &RepositoryId, revision: &Revision) -> Result<Repository> {
        let segments = ["api", kind.plural()].into_iter().chain(id.as_str().split('/'));
        let mut url = self.http.address(segments.chain(["revision", revision.as_str()]));
        url.query_pairs_mut().append_pair("blobs", "true");
        let what = format!("The list of files of `{id}`");
        let subject = Subject { kind, id, revision, file: None };
        let document = self.document(url, &what, Some(&subject)).await?;
        let commit = document["sha"].as_str().filter(|commit| is_commit(commit));
        let (Some(commit), Some(siblings)) = (commit, document["siblings"].as_array()) else {
            let trouble = Trouble::Confused("it names no commit or no files".to_owned());
            return Err(trouble.into_fault(&what, &self.http.host(), 0));
        };
        let files = siblings.iter().map(|sibling| file(sibling, id)).collect::<Result<Vec<_>>>()?;
        let about = found(&document).unwrap_or_else(|| Found { id: id.to_string(), ..Found::default() });
        Ok(Repository { kind, id: id.clone(), commit: commit.to_owned(), files, about })
    }

    /// The nearest name that exists, so that a typing error costs one more look and not a search.
    async fn with_suggestion(&self, mut fault: Fault, id: &RepositoryId) -> Fault {
        let search = Search { text: id.name().to_owned(), limit: 10, sort: "downloads" };
        let mut names: Vec<String> = self.find(&search).await.unwrap_or_default().into_iter().map(|f| f.id).collect();
        names.extend(recommended::all().iter().map(|model| model.id.clone()));
        names.extend(self.cache().list(Kind::Model).into_iter().map(|cached| cached.id.to_string()));
        if let Some(near) = nearest(id.as_str(), &names) {
            fault.detail = format!("{} Did you mean `{near}`?", fault.detail);
            fault = fault.action(format!("Use `{near}`"), Some(format!("peft-studio models show {near}")));
        }
        fault.action("Search for it", Some(format!("peft-studio models search {}", id.name())))
    }

    pub(crate) fn file_address(&self, repository: &Repository, path: &str) -> Url {
        let prefix = (repository.kind == Kind::Dataset).then_some("datasets");
        let id = repository.id.as_str().split('/');
        // The commit and not the branch: what it names cannot change while it is fetched.
        let place = ["resolve", repository.commit.as_str()].into_iter().chain(path.split('/'));
        self.http.address(prefix.into_iter().chain(id).chain(place))
    }

    pub(crate) async fn small_file(&self, repository: &Repository, path: &str) -> Result<Vec<u8>> {
        let what = format!("`{path}` of `{}`", repository.id);
        let revision = Revision::new(&repository.commit)?;
        let subject = Subject { kind: repository.kind, id: &repository.id, revision: &revision, file: Some(path) };
        let url = self.file_address(repository, path);
        let mut budget = Budget::new(&self.settings.patience);
        loop {
            let answer = match self.http.get(url.clone(), None).await {
                Ok(answer) => self.body_of(answer, Some(&subject)).await,
                Err(trouble) => Err(trouble),
            };
            match answer {
                Ok(bytes) => return Ok(bytes),
                Err(trouble) => self.pause(&mut budget, trouble, &what).await?,
            }
        }
    }

    /// A JSON document of the hub.
    async fn document(&self, url: Url, what: &str, subject: Option<&Subject<'_>>) -> Result<Value> {
        let mut budget = Budget::new(&self.settings.patience);
        loop {
            let parsed = match self.http.get(url.clone(), None).await {
                Ok(answer) => self.body_of(answer, subject).await.and_then(|bytes| parse(&bytes)),
                Err(trouble) => Err(trouble),
            };
            match parsed {
                Ok(value) => return Ok(value),
                Err(trouble) => self.pause(&mut budget, trouble, what).await?,
            }
        }
    }

    async fn body_of(&self, answer: Answer, subject: Option<&Subject<'_>>) -> Result<Vec<u8>, Trouble> {
        if let Some(trouble) = busy(&answer.response) {
            return Err(trouble);
        }
        let status = answer.response.status();
        if !status.is_success() {
            return Err(refused(status, &answer, subject, &self.settings));
        }
        if is_web_page(answer.response.headers()) {
            return Err(Trouble::WebPage);
        }
        self.http.body(answer.response, DOCUMENT_BYTES).await
    }

    async fn pause(&self, budget: &mut Budget<'_>, trouble: Trouble, what: &str) -> Result<()> {
        let (wait, _) = budget.next(trouble).map_err(|trouble| trouble.into_fault(what, &self.http.host(), 0))?;
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

fn parse(bytes: &[u8]) -> Result<Value, Trouble> {
    serde_json::from_slice(bytes).map_err(|error| {
        let is_page = bytes.trim_ascii_start().starts_with(b"<");
        if is_page { Trouble::WebPage } else { Trouble::Confused(format!("it is not JSON ({error})")) }
    })
}

fn file(sibling: &Value, id: &RepositoryId) -> Result<RemoteFile> {
    let path = sibling["rfilename"].as_str().unwrap_or_default();
    if !is_safe_path(path) {
        let shown: String = path.chars().take(80).collect();
        let detail = format!(
            "`{id}` lists a file called {shown:?}, a name that could lead out of its folder. Nothing of it was fetched."
        );
        return Err(Fault::new("PS-MODEL-005", detail));
    }
    let lfs = &sibling["lfs"];
    let etag = lfs["sha256"].as_str().or_else(|| lfs["oid"].as_str()).or_else(|| sibling["blobId"].as_str());
    Ok(RemoteFile {
        path: path.to_owned(),
        bytes: lfs["size"].as_u64().or_else(|| sibling["size"].as_u64()),
        expected: etag.and_then(|etag| Expected::new(etag.trim_start_matches("sha256:"))),
    })
}

fn found(item: &Value) -> Option<Found> {
    let id = RepositoryId::new(item["id"].as_str().or_else(|| item["modelId"].as_str())?)?;
    let tags: Vec<&str> = item["tags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let types: BTreeMap<&str, u64> = item["safetensors"]["parameters"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, count)| Some((name.as_str(), count.as_u64()?)))
        .collect();
    let sum = |each: &dyn Fn(&str, u64) -> u64| types.iter().fold(0_u64, |sum, (t, n)| sum.saturating_add(each(t, *n)));
    let total = item["safetensors"]["total"].as_u64();
    let has = |tag: &str| tags.contains(&tag);
    let names: Vec<&str> =
        item["siblings"].as_array().into_iter().flatten().filter_map(|s| s["rfilename"].as_str()).collect();
    let ends = |ending: &str| names.iter().any(|name| name.ends_with(ending));
    Some(Found {
        id: id.to_string(),
        downloads: item["downloads"].as_u64(),
        likes: item["likes"].as_u64(),
        licence: tags.iter().find_map(|tag| tag.strip_prefix("license:")).map(str::to_owned),
        gated: item["gated"].as_bool().unwrap_or_else(|| item["gated"].is_string()),
        private: item["private"].as_bool().unwrap_or(false),
        parameters: (!types.is_empty()).then(|| sum(&|_, count| count)).or(total),
        weight_bytes: (!types.is_empty()).then(|| sum(&|name, count| count.saturating_mul(bits(name)) / 8)),
        architecture: item["config"]["architectures"][0].as_str().map(str::to_owned),
        weights: match () {
            () if has("safetensors") || !types.is_empty() || ends(".safetensors") => Some("safetensors"),
            () if has("gguf") || ends(".gguf") => Some("gguf"),
            () if has("pytorch") || ends(".bin") || ends(".pt") => Some("pickle"),
            () => None,
        },
        changed: item["lastModified"].as_str().map(str::to_owned),
    })
}

/// Bits of a number in safetensors.
fn bits(dtype: &str) -> u64 {
    match dtype {
        "F64" | "I64" | "U64" => 64,
        "F16" | "BF16" | "I16" | "U16" => 16,
        "I8" | "U8" | "BOOL" => 8,
        name if name.starts_with("F8") => 8,
        name if name.starts_with("F4") => 4,
        _ => 32,
    }
}

/// The name most like `name`, if one is like it at all.
fn nearest<'a>(name: &str, names: &'a [String]) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let like = |other: &str| {
        let other = other.to_lowercase();
        let tail = |text: &str| text.rsplit('/').next().unwrap_or(text).to_owned();
        strsim::normalized_damerau_levenshtein(&lower, &other)
            .max(0.95 * strsim::normalized_damerau_levenshtein(&tail(&lower), &tail(&other)))
    };
    let scored = names.iter().filter(|other| *other != name).map(|other| (like(other), other));
    scored.filter(|(score, _)| *score >= 0.6).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, other)| other.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_search_says_is_read_and_what_it_lacks_is_not_invented() {
        let full = json!({
            "id": "a/b", "downloads": 5, "likes": 2, "gated": "auto", "tags": ["safetensors", "license:apache-2.0"],
            "safetensors": {"parameters": {"BF16": 1000, "F32": 10}, "total": 1010},
            "config": {"architectures": ["LlamaForCausalLM"]}
        });
        let about = found(&full).expect("a model");
        assert_eq!((about.parameters, about.weight_bytes), (Some(1010), Some(2040)));
        assert_eq!(
            (about.licence.as_deref(), about.gated, about.weights),
            (Some("apache-2.0"), true, Some("safetensors"))
        );
        let bare = found(&json!({"id": "x", "gated": false})).expect("a model");
        assert_eq!(bare, Found { id: "x".into(), ..Found::default() });
        assert_eq!(found(&json!({"id": "../x"})), None);
        let huge = found(&json!({"id": "x", "safetensors": {"parameters": {"F32": u64::MAX, "F64": u64::MAX}}}));
        assert_eq!(huge.expect("a model").parameters, Some(u64::MAX));
    }

    #[test]
    fn names_that_lead_out_are_refused() {
        let id = RepositoryId::new("a/b").expect("an id");
        for name in ["../x", "/etc/passwd", "a/../../b", "C:\\x", ""] {
            assert_eq!(file(&json!({"rfilename": name}), &id).expect_err(name).code, "PS-MODEL-005");
        }
        let sibling = json!({"rfilename": "m.safetensors", "size": 9, "blobId": "0".repeat(40),
                             "lfs": {"sha256": "a".repeat(64), "size": 9}});
        let good = file(&sibling, &id).expect("safe");
        assert_eq!(good.expected, Some(Expected::Sha256("a".repeat(64))));
    }

    #[test]
    fn a_typing_error_finds_its_name() {
        let names: Vec<String> = ["Qwen/Qwen2.5-0.5B-Instruct", "Qwen/Qwen3-0.6B", "x/y"].map(str::to_owned).to_vec();
        assert_eq!(nearest("Qwen/Qwen2.5-0.5B-Instrukt", &names), Some("Qwen/Qwen2.5-0.5B-Instruct"));
        assert_eq!(nearest("qwen3-0.6b", &names), Some("Qwen/Qwen3-0.6B"));
        assert_eq!(nearest("something/else-entirely", &names), None);
    }
}
