//! Everything that opens a socket, and nothing else does (B13): the Hugging Face hub, and the local server.
//!
//! | file | holds |
//! | --- | --- |
//! | `settings` | endpoint, cache, token and patience, from the environment variables of Hugging Face |
//! | `name` | ids, revisions and file names, refused where they could lead out of the cache |
//! | `cache` | Hugging Face's cache layout: what is there, links, removal |
//! | `others` | models that LM Studio and Ollama keep, read only |
//! | `http` | one request: redirects by hand, the token to the hub alone |
//! | `refusal` | an answer that says no, in plain words |
//! | `trouble` | what can go wrong with a request, whether it is tried again, and what people are told |
//! | `api` | what the hub answers about repositories |
//! | `select` | which files of a repository are needed |
//! | `partial` | the unfinished file of a download and its hash |
//! | `blob` | one file: resumed, verified, in place whole or not at all |
//! | `download` | a repository: space, locks, several files at once, progress, cancelling |
//! | `recommended` | models worth a try, as data |
//! | `upload` | a folder onto the hub: repository, large files, commit |
//! | `sending` | a part of a file as the body of a request |
//! | `helper` | models that label, write rows and embed: Ollama, OpenRouter, OpenAI's protocol |
//! | `ollama` | models of ours registered with a running Ollama |
//! | `serve` | a local server that speaks OpenAI's protocol |
//!
//! `hf-hub` is not used. Its stream of a byte range hides the status and the headers of the answer, so that a server
//! which ignores the range, sends another range, another version of the file or a login page cannot be told from one
//! that does its work; it does not wait for as long as `Retry-After` says; and it takes large files from a second
//! service with a cache of its own. It also brings 170 more libraries.

pub mod api;
pub mod cache;
pub mod download;
pub mod helper;
pub mod name;
pub mod ollama;
pub mod others;
pub mod recommended;
pub mod select;
pub mod serve;
pub mod settings;
pub mod upload;

mod blob;
mod http;
mod lock;
mod partial;
mod progress;
mod refusal;
mod sending;
mod trouble;

pub use api::{Found, Hub, RemoteFile, Repository, Search};
pub use cache::{Cache, CachedRepository, Removed, Snapshot};
pub use download::{Downloaded, Outcome, Wanted};
pub use name::{Kind, RepositoryId, Revision};
pub use progress::{Event, Transfer};
pub use settings::{Patience, Settings, Token};
